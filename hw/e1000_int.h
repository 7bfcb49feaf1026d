/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Inside the 82540EM: registers, bits and the state that e1000.c (registers, interrupts, link),
 * e1000_phy.c (PHY, EEPROM), e1000_tx.c and e1000_rx.c share. SDM section numbers refer to the
 * 8254x family manual.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/pci.h"
#include "hw/e1000.h"
#include "net/net.h"

/* SDM 13.2, table of registers. */
enum e1000_reg {
    E1000_CTRL = 0x0000,
    E1000_STATUS = 0x0008,
    E1000_EECD = 0x0010,
    E1000_EERD = 0x0014,
    E1000_CTRL_EXT = 0x0018,
    E1000_MDIC = 0x0020,
    E1000_FCAL = 0x0028,
    E1000_FCAH = 0x002c,
    E1000_FCT = 0x0030,
    E1000_VET = 0x0038,
    E1000_ICR = 0x00c0,
    E1000_ITR = 0x00c4,
    E1000_ICS = 0x00c8,
    E1000_IMS = 0x00d0,
    E1000_IMC = 0x00d8,
    E1000_RCTL = 0x0100,
    E1000_FCTTV = 0x0170,
    E1000_TXCW = 0x0178,
    E1000_TCTL = 0x0400,
    E1000_TIPG = 0x0410,
    E1000_AIT = 0x0458,
    E1000_LEDCTL = 0x0e00,
    E1000_PBA = 0x1000,
    E1000_FCRTL = 0x2160,
    E1000_FCRTH = 0x2168,
    E1000_RDFH = 0x2410, /* RDFT, RDFHS, RDFTS, RDFPC follow every 8 bytes */
    E1000_RDBAL = 0x2800,
    E1000_RDBAH = 0x2804,
    E1000_RDLEN = 0x2808,
    E1000_RDH = 0x2810,
    E1000_RDT = 0x2818,
    E1000_RDTR = 0x2820,
    E1000_RXDCTL = 0x2828,
    E1000_RADV = 0x282c,
    E1000_RSRPD = 0x2c00,
    E1000_TXDMAC = 0x3000,
    E1000_TDFH = 0x3410,
    E1000_TDBAL = 0x3800,
    E1000_TDBAH = 0x3804,
    E1000_TDLEN = 0x3808,
    E1000_TDH = 0x3810,
    E1000_TDT = 0x3818,
    E1000_TIDV = 0x3820,
    E1000_TXDCTL = 0x3828,
    E1000_TADV = 0x382c,
    E1000_TSPMT = 0x3830,
    E1000_STATS = 0x4000, /* 64 counters, SDM 13.7 */
    E1000_RXCSUM = 0x5000,
    E1000_MTA = 0x5200, /* 128 */
    E1000_RAL = 0x5400, /* 16 pairs RAL, RAH */
    E1000_RAH = 0x5404,
    E1000_VFTA = 0x5600, /* 128 */
    E1000_WUC = 0x5800,
    E1000_WUFC = 0x5808,
    E1000_WUS = 0x5810,
    E1000_MANC = 0x5820,
    E1000_IPAV = 0x5838,
    E1000_IP4AT = 0x5840, /* 4, every 8 bytes */
    E1000_IP6AT = 0x5880, /* 4 */
    E1000_WUPM = 0x5a00,  /* 32 */
    E1000_FFLT = 0x5f00,  /* 4, every 8 bytes */
    E1000_REGS_END = 0x6000,
    E1000_FFMT = 0x9000, /* 128, every 8 bytes */
    E1000_FFVT = 0x9800, /* 128, every 8 bytes */
    E1000_FLEX_END = 0x9c00,
    E1000_BAR_SIZE = 0x20000,
};

/* CTRL, SDM 13.4.1. */
enum {
    CTRL_FD = 1u << 0,
    CTRL_SLU = 1u << 6,
    CTRL_SPEED_SHIFT = 8,
    CTRL_FRCSPD = 1u << 11,
    CTRL_FRCDPLX = 1u << 12,
    CTRL_RST = 1u << 26,
    CTRL_VME = 1u << 30,
};
#define CTRL_PHY_RST (1u << 31)
enum {
    STATUS_FD = 1,
    STATUS_LU = 2,
    STATUS_SPEED_SHIFT = 6,
    STATUS_ASDV_SHIFT = 8,
    STATUS_MTXCKOK = 0x400
};
enum { CTRL_EXT_EE_RST = 1u << 13 };
/* EECD, SDM 13.4.3. */
enum {
    EECD_SK = 1,
    EECD_CS = 2,
    EECD_DI = 4,
    EECD_DO = 8,
    EECD_FWE_DIS = 0x10,
    EECD_REQ = 0x40,
    EECD_GNT = 0x80,
    EECD_PRES = 0x100,
};
enum { EERD_START = 1, EERD_DONE = 0x10 };
enum { MDIC_OP_WRITE = 1, MDIC_OP_READ = 2, MDIC_R = 1 << 28, MDIC_I = 1 << 29, MDIC_E = 1 << 30 };
/* ICR, ICS, IMS, IMC, SDM 13.4.17. */
enum {
    ICR_TXDW = 0x0001,
    ICR_TXQE = 0x0002,
    ICR_LSC = 0x0004,
    ICR_RXDMT0 = 0x0010,
    ICR_RXO = 0x0040,
    ICR_RXT0 = 0x0080,
    ICR_MDAC = 0x0200,
    ICR_TXD_LOW = 0x8000,
    ICR_SRPD = 0x10000,
    ICR_BITS = 0x1ffff, /* self tests set reserved ones through ICS and want to see them */
};
/* RCTL, SDM 13.4.22. */
enum {
    RCTL_EN = 1u << 1,
    RCTL_SBP = 1u << 2,
    RCTL_UPE = 1u << 3,
    RCTL_MPE = 1u << 4,
    RCTL_LPE = 1u << 5,
    RCTL_LBM = 3u << 6,
    RCTL_RDMTS_SHIFT = 8,
    RCTL_MO_SHIFT = 12,
    RCTL_BAM = 1u << 15,
    RCTL_BSIZE_SHIFT = 16,
    RCTL_VFE = 1u << 18,
    RCTL_CFIEN = 1u << 19,
    RCTL_CFI = 1u << 20,
    RCTL_DPF = 1u << 22,
    RCTL_BSEX = 1u << 25,
    RCTL_SECRC = 1u << 26,
};
enum { TCTL_EN = 1u << 1, TCTL_PSP = 1u << 3 };
enum { RXCSUM_PCSS = 0xff, RXCSUM_IPOFLD = 0x100, RXCSUM_TUOFLD = 0x200 };
#define RDTR_FPD (1u << 31)
#define RAH_AV   (1u << 31)

/* Counters, SDM 13.7: offsets from E1000_STATS. The 64-bit ones are pairs, low half first. */
enum e1000_stat {
    STAT_MPC = 0x10,
    STAT_RLEC = 0x40,
    STAT_PRC64 = 0x5c, /* PRC127, 255, 511, 1023, 1522 follow */
    STAT_GPRC = 0x74,
    STAT_BPRC = 0x78,
    STAT_MPRC = 0x7c,
    STAT_GPTC = 0x80,
    STAT_GORC = 0x88,
    STAT_GOTC = 0x90,
    STAT_RNBC = 0xa0,
    STAT_ROC = 0xac,
    STAT_TOR = 0xc0,
    STAT_TOT = 0xc8,
    STAT_TPR = 0xd0,
    STAT_TPT = 0xd4,
    STAT_PTC64 = 0xd8, /* likewise */
    STAT_MPTC = 0xf0,
    STAT_BPTC = 0xf4,
    STAT_TSCTC = 0xf8,
};

/* PHY registers, SDM 13.8 and IEEE 802.3 clause 22. */
enum {
    PHY_BMCR = 0,
    PHY_BMSR = 1,
    PHY_ID1 = 2,
    PHY_ID2 = 3,
    PHY_ANAR = 4,
    PHY_ANLPAR = 5,
    PHY_ANER = 6,
    PHY_NPT = 7,
    PHY_GTCR = 9,
    PHY_GTSR = 10,
    PHY_ESR = 15,
    PHY_PSCR = 16,
    PHY_PSSR = 17,
    PHY_EPSCR = 20,
    PHY_LEDCR = 24,
    PHY_REGS = 32,
};
enum {
    BMCR_RESET = 0x8000,
    BMCR_LOOPBACK = 0x4000,
    BMCR_SPEED100 = 0x2000,
    BMCR_ANENABLE = 0x1000,
    BMCR_PDOWN = 0x0800,
    BMCR_ISOLATE = 0x0400,
    BMCR_ANRESTART = 0x0200,
    BMCR_FULLDPLX = 0x0100,
    BMCR_SPEED1000 = 0x0040,
};

enum {
    E1000_DESC_BYTES = 16,
    E1000_EEPROM_WORDS = 64,
    E1000_FCS_BYTES = 4,
    E1000_MIN_FRAME = 60, /* without FCS */
    E1000_TAG_BYTES = 4,
    E1000_FRAME_MAX = NET_FRAME_MAX + E1000_TAG_BYTES,
    E1000_WORDS = (E1000_REGS_END + E1000_FLEX_END - E1000_FFMT) / 4,
};

/* A transmit context (SDM 3.3.6): where checksums start, end (inclusive, 0: the packet's end) and
 * go. */
struct e1000_tx_context {
    uint8_t ipcss, ipcso, tucss, tucso, tucmd, hdrlen;
    uint16_t ipcse, tucse, mss;
};

struct e1000_regs {
    uint32_t mac[E1000_WORDS]; /* by e1000_word() */
    uint16_t phy[PHY_REGS];
    uint16_t an_anar, an_gtcr;           /* abilities as of the start of the last negotiation */
    uint16_t eeprom[E1000_EEPROM_WORDS]; /* survives resets */
    struct e1000_tx_context context[2];  /* [1]: of TCP segmentation */
    uint32_t ioaddr;
    uint32_t ee_shift; /* the EEPROM's serial interface */
    uint8_t ee_state, ee_bits, ee_addr;
    bool ee_write_enabled, ee_do;
    bool tx_skip; /* descriptors belong to a packet that was too long, up to its end */
    bool tx_delayed, rx_delayed; /* TXDW or RXT0 waits for a timer */
    bool an_busy;                /* auto-negotiation is going on */
    bool link_up;                /* STATUS.LU as last reported */
    bool link_dropped;           /* BMSR's link bit latches low */
};

struct reg_desc;
struct e1000_tx_work;

struct e1000_host {
    struct net *net; /* NULL: no cable */
    struct timer tx_timer, rx_timer, itr_timer, an_timer;
    uint64_t tx_limit_ns, rx_limit_ns; /* latest time for the delayed interrupt */
    uint64_t itr_next_ns;              /* no interrupt before */
    struct bottom_half tx_bh, rx_bh;
    uint32_t rx_causes;             /* what rx_bh is to report */
    bool tx_blocked;                /* until the link has room again */
    struct e1000_tx_work *tx_work;  /* e1000_tx.c: packets that are being sent */
    uint8_t row_of[E1000_WORDS];    /* register table row + 1 of each word */
    uint8_t frame[E1000_FRAME_MAX]; /* a packet that cannot be sent in place */
    uint8_t loop[E1000_FRAME_MAX];  /* a packet on its way round */
    uint8_t cut[NET_FRAME_MAX];     /* a segment of it */
};

struct e1000 {
    struct pci_device pd;
    struct e1000_config cfg;
    struct e1000_regs r;
    struct e1000_host h;
};

/* Index of the register at offset (one that exists). */
static inline unsigned e1000_word(uint32_t offset)
{
    return (offset < E1000_REGS_END ? offset : offset - E1000_FFMT + E1000_REGS_END) / 4;
}

static inline uint32_t *e1000_mac(struct e1000 *e, uint32_t offset)
{
    return &e->r.mac[e1000_word(offset)];
}

static inline uint32_t e1000_get(const struct e1000 *e, uint32_t offset)
{
    return e->r.mac[e1000_word(offset)];
}

static inline struct guestmem *e1000_mem(const struct e1000 *e)
{
    return e->pd.board->mem;
}

/* ---- e1000.c ---- */

/* Adds to the interrupt causes and asserts the pin when that is due. */
void e1000_cause(struct e1000 *e, uint32_t bits);
void e1000_update_irq(struct e1000 *e);
/* As above, after delay (units of 1.024 us, not 0) since the last call and at most limit (0: no
 * limit) since the first one. */
void e1000_cause_delayed(struct e1000 *e, bool tx, uint32_t delay, uint32_t limit);
void e1000_stat(struct e1000 *e, enum e1000_stat stat, uint32_t n);
/* Adds n to the pair of registers at stat. */
void e1000_stat64(struct e1000 *e, enum e1000_stat stat, uint64_t n);
/* Counts a frame of `bytes` bytes with FCS in the size classes that start at first (STAT_PRC64 or
 * STAT_PTC64). */
void e1000_stat_size(struct e1000 *e, enum e1000_stat first, size_t bytes, uint32_t frames);
/* Brings STATUS.LU up to date, with LSC when it changed. */
void e1000_update_link(struct e1000 *e);

/* ---- e1000_phy.c ---- */

void e1000_phy_reset(struct e1000 *e, bool power_on);
void e1000_mdic_write(struct e1000 *e, uint32_t value);
bool e1000_phy_link(const struct e1000 *e);
/* 0: 10, 1: 100, 2: 1000 Mbit/s; -1: none in common. */
int e1000_phy_speed(const struct e1000 *e, bool *full_duplex);
void e1000_phy_negotiate(struct e1000 *e);
void e1000_phy_negotiated(void *arg);
/* The cable was pulled or plugged in. */
void e1000_phy_cable(struct e1000 *e);
void e1000_eeprom_init(struct e1000 *e);
void e1000_eecd_write(struct e1000 *e, uint32_t old, uint32_t value);
uint32_t e1000_eecd_read(const struct e1000 *e);
void e1000_eerd_write(struct e1000 *e, uint32_t value);

/* ---- e1000_tx.c, e1000_rx.c ---- */

/* False: no memory. free(e->h.tx_work) undoes it. */
bool e1000_tx_create(struct e1000 *e);
/* Sends what the ring holds; a bottom half. */
void e1000_tx_run(void *arg);
/* The transmitter may have work. */
void e1000_tx_kick(struct e1000 *e);
/* Between the card and itself? */
bool e1000_loopback(const struct e1000 *e);
/* Takes a frame (without FCS). csum_valid: TCP or UDP checksum known to be right. False: no
 * descriptors for it now. */
bool e1000_rx_frame(struct e1000 *e, const uint8_t *frame, size_t len, bool csum_valid);
/* True if the receiver can take frames at all. */
bool e1000_rx_enabled(const struct e1000 *e);
/* Reports what was received since the last time; a bottom half. */
void e1000_rx_report(void *arg);
