/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Between the parts of the RTL8139C+: rtl8139.c (registers, life), rtl8139_rx.c, rtl8139_tx.c.
 * Register and bit names are the data sheet's. */
#include "core/pci.h"
#include "hw/eeprom93c46.h"
#include "hw/rtl8139.h"

/* Data sheet 5, register table. */
enum rtl8139_reg {
    RTL8139_IDR0 = 0x00,
    RTL8139_IDR4 = 0x04,
    RTL8139_MAR0 = 0x08,
    RTL8139_MAR4 = 0x0c,
    RTL8139_TSD0 = 0x10,  /* C+ mode: DTCCR, 8 bytes */
    RTL8139_TSAD0 = 0x20, /* C+ mode: TNPDS, THPDS, 8 bytes each */
    RTL8139_RBSTART = 0x30,
    RTL8139_CR = 0x37,
    RTL8139_CAPR = 0x38,
    RTL8139_CBR = 0x3a,
    RTL8139_IMR = 0x3c,
    RTL8139_ISR = 0x3e,
    RTL8139_TCR = 0x40,
    RTL8139_RCR = 0x44,
    RTL8139_TCTR = 0x48,
    RTL8139_MPC = 0x4c,
    RTL8139_9346CR = 0x50,
    RTL8139_CONFIG0 = 0x51,
    RTL8139_CONFIG1 = 0x52,
    RTL8139_TIMERINT = 0x54,
    RTL8139_MSR = 0x58,
    RTL8139_CONFIG3 = 0x59,
    RTL8139_CONFIG4 = 0x5a,
    RTL8139_MULINT = 0x5c,
    RTL8139_RERID = 0x5e,
    RTL8139_TSAD = 0x60,
    RTL8139_BMCR = 0x62,
    RTL8139_BMSR = 0x64,
    RTL8139_ANAR = 0x66,
    RTL8139_ANLPAR = 0x68,
    RTL8139_ANER = 0x6a,
    RTL8139_CSCR = 0x74,
    RTL8139_CONFIG5 = 0xd8,
    RTL8139_TPPOLL = 0xd9,
    RTL8139_CPCR = 0xe0,
    RTL8139_RDSAR = 0xe4,
    RTL8139_MTPS = 0xec,
};

enum {
    RTL8139_TSD_SIZE = 0x1fff,
    RTL8139_TSD_OWN = 0x2000,
    RTL8139_TSD_TUN = 0x4000,
    RTL8139_TSD_TOK = 0x8000,
    RTL8139_TSD_ERTXTH = 0x3f0000
};
enum { RTL8139_CR_BUFE = 0x01, RTL8139_CR_TE = 0x04, RTL8139_CR_RE = 0x08, RTL8139_CR_RST = 0x10 };
enum rtl8139_isr {
    RTL8139_ISR_ROK = 0x0001,
    RTL8139_ISR_TOK = 0x0004,
    RTL8139_ISR_RDU = 0x0010, /* C mode: RXOVW */
    RTL8139_ISR_PUN = 0x0020, /* packet underrun or link change */
    RTL8139_ISR_TDU = 0x0080,
    RTL8139_ISR_SWINT = 0x0100,
    RTL8139_ISR_TIMEOUT = 0x4000,
    RTL8139_ISR_ALL = 0xe1ff,
};
enum { RTL8139_TCR_CRC = 1 << 16, RTL8139_TCR_LBK = 3 << 17 };
enum {
    RTL8139_RCR_AAP = 0x01,
    RTL8139_RCR_APM = 0x02,
    RTL8139_RCR_AM = 0x04,
    RTL8139_RCR_AB = 0x08,
    RTL8139_RCR_WRAP = 0x80,
    RTL8139_RCR_RBLEN_SHIFT = 11
};
enum { RTL8139_TPPOLL_HPQ = 0x80, RTL8139_TPPOLL_NPQ = 0x40, RTL8139_TPPOLL_FSWINT = 0x01 };
enum {
    RTL8139_CPCR_TX = 0x01,
    RTL8139_CPCR_RX = 0x02,
    RTL8139_CPCR_RXCHKSUM = 0x20,
    RTL8139_CPCR_RXVLAN = 0x40
};
/* First word of a C+ descriptor, both directions. */
enum { RTL8139_DESC_EOR = 1 << 30, RTL8139_DESC_FS = 1 << 29, RTL8139_DESC_LS = 1 << 28 };
#define RTL8139_DESC_OWN 0x80000000u

enum {
    RTL8139_RING = 64,
    RTL8139_DESC_BYTES = 16,
    RTL8139_FCS = 4,
    RTL8139_MIN_FRAME = 60, /* without FCS */
    RTL8139_TX_BYTES = NET_FRAME_MAX + 64,
};

/* A C+ descriptor, copied out of guest memory once. */
struct rtl8139_desc {
    uint32_t dw0, dw1;
    uint64_t buf;
    uint64_t gpa;  /* where the descriptor is */
    unsigned next; /* index of the one after it */
};

/* Dump tally counters in the order in which they are written (data sheet 6.3). */
struct rtl8139_tally {
    uint64_t tx_ok, rx_ok, tx_err;
    uint32_t rx_err;
    uint16_t miss_pkt, fae;
    uint32_t tx_1col, tx_mcol;
    uint64_t rx_ok_phy, rx_ok_brd;
    uint32_t rx_ok_mul;
    uint16_t tx_abt, tx_undrn;
};

struct rtl8139_regs {
    uint32_t idr[2], mar[2], tsd[4], tsad[4], rbstart;
    uint32_t tcr, rcr, mpc, timer_int;
    uint32_t rdsar[2];
    uint16_t capr, cbr, imr, isr, mulint, bmcr, anar, cpcr;
    uint8_t cr, cr9346, config0, config1, config3, config4, config5, mtps;
    uint8_t tppoll;        /* queues that were polled for and are not empty yet */
    uint8_t tx_cur;        /* C mode: the descriptor whose turn it is, 0..3 */
    uint8_t rx_index;      /* C+ mode, 0..63 */
    uint8_t tx_index[2];   /* C+ mode: normal, high priority */
    uint64_t tctr_zero_ns; /* LOOP_VIRTUAL time when TCTR was 0; saved as the distance from now */
    struct rtl8139_tally tally;
    struct eeprom93c46 eeprom; /* the words survive a reset */
};

struct rtl8139_host {
    struct net *net;
    struct guestmem *mem;
    struct loop *loop;
    struct bottom_half tx_bh;
    struct timer tctr_timer;
    /* C+ mode has no doorbell for receive descriptors: looks for one while a frame waits. */
    struct timer rx_timer;
    uint64_t rx_wait_ns;
    bool rx_stalled; /* net was told to wait */
    uint8_t pad[RTL8139_MIN_FRAME];
    uint8_t tx[RTL8139_TX_BYTES]; /* frames that are being sent */
    uint8_t cut[NET_FRAME_MAX];   /* looped back */
};

struct rtl8139 {
    struct pci_device pd; /* holds cfg: devfn, rom */
    struct rtl8139_config cfg;
    struct rtl8139_regs r;
    struct rtl8139_host h;
};

static inline bool rtl8139_loopback(const struct rtl8139 *d)
{
    return (d->r.tcr & RTL8139_TCR_LBK) == RTL8139_TCR_LBK;
}

/* Sets bits in ISR and the line with them. 0: only the line. */
void rtl8139_raise(struct rtl8139 *d, uint16_t bits);
/* Copies the descriptor `index` of the ring at base. */
struct rtl8139_desc rtl8139_get_desc(const struct rtl8139 *d, uint64_t base, unsigned index);

/* ---- rtl8139_rx.c ---- */

/* struct net_client's receive(); also given looped frames, with off NULL. */
bool rtl8139_receive(void *nic, const uint8_t *frame, size_t len, const struct net_offload *off);
/* A looped frame: there is nobody who could keep it. */
void rtl8139_receive_looped(struct rtl8139 *d, const uint8_t *frame, size_t len);
/* The guest may have made room. */
void rtl8139_rx_kick(struct rtl8139 *d);
void rtl8139_rx_timer(void *dev);
/* C mode: nothing in the ring (CR bit 0). */
bool rtl8139_rx_empty(const struct rtl8139 *d);
/* C mode, receiver on: frames in the ring that the driver has not read. */
bool rtl8139_rx_unread(const struct rtl8139 *d);

/* ---- rtl8139_tx.c ---- */

/* Something may be there to send: soon. */
void rtl8139_tx_kick(struct rtl8139 *d);
void rtl8139_tx_run(void *dev);
