/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Between the files of the AHCI controller:
 *
 * ahci.c       PCI function, registers, interrupts, resets, saved state, media
 * ahci_port.c  a port's command list: fetching, FISes, descriptors, plain commands on struct ata
 * ahci_ncq.c   queued commands, each with an image request of its own
 *
 * A write to PxCI only notes the bits; the port's bottom half does the work, in bounded turns, and
 * raises at most one interrupt per turn. Image requests cannot be called back: whatever ends
 * commands early (PxCMD.ST, COMRESET, GHC.HR, an error in the queue) leaves them `stale`, and the
 * port reports CR, BSY or HR and fetches nothing until they have ended. So late data never reaches
 * memory that a driver may use again, and a slot's request is never reused.
 */
#include "core/pci.h"
#include "hw/ahci.h"
#include "hw/ata.h"

enum {
    AHCI_SLOTS = 32,
    AHCI_NO_SLOT = 0xff,
    AHCI_PORT_BASE = 0x100,
    AHCI_PORT_BYTES = 0x80,
    AHCI_ABAR_BYTES = 0x1000,
    AHCI_PRD_MAX = 4 << 20, /* bytes of one descriptor */
};
enum ahci_reg { /* AHCI 1.3.1, 3.1; ICH9 datasheet 15.4.1 */
                AHCI_CAP = 0x00,
                AHCI_GHC = 0x04,
                AHCI_IS = 0x08,
                AHCI_PI = 0x0c,
                AHCI_VS = 0x10,
};
enum ahci_ghc { GHC_HR = 1, GHC_IE = 2 };
#define GHC_AE 0x80000000u
enum ahci_port_reg { /* 3.3 */
                     PX_CLB = 0x00,
                     PX_CLBU = 0x04,
                     PX_FB = 0x08,
                     PX_FBU = 0x0c,
                     PX_IS = 0x10,
                     PX_IE = 0x14,
                     PX_CMD = 0x18,
                     PX_TFD = 0x20,
                     PX_SIG = 0x24,
                     PX_SSTS = 0x28,
                     PX_SCTL = 0x2c,
                     PX_SERR = 0x30,
                     PX_SACT = 0x34,
                     PX_CI = 0x38,
};
enum ahci_px_is { /* 3.3.5 */
                  IS_DHRS = 1u << 0,
                  IS_PSS = 1u << 1,
                  IS_DSS = 1u << 2,
                  IS_SDBS = 1u << 3,
                  IS_UFS = 1u << 4, /* from PxSERR.DIAG.F */
                  IS_DPS = 1u << 5,
                  IS_PCS = 1u << 6,   /* from PxSERR.DIAG.X */
                  IS_PRCS = 1u << 22, /* from PxSERR.DIAG.N */
                  IS_OFS = 1u << 24,
                  IS_IFS = 1u << 27,
                  IS_TFES = 1u << 30,
};
enum ahci_px_cmd { /* 3.3.7 */
                   CMD_ST = 1u << 0,
                   CMD_SUD = 1u << 1,
                   CMD_POD = 1u << 2,
                   CMD_FRE = 1u << 4,
                   CMD_CCS_SHIFT = 8,
                   CMD_FR = 1u << 14,
                   CMD_CR = 1u << 15,
};
enum ahci_px_serr { SERR_N = 1u << 16, SERR_F = 1u << 25, SERR_X = 1u << 26 }; /* DIAG */
enum ahci_det { DET_NONE = 0, DET_RESET = 1, DET_UP = 3, DET_OFF = 4 };

/* Where a transfer is in its descriptors (physical region descriptor table, 4.2.3.3). */
struct ahci_cursor {
    uint64_t table; /* the first descriptor */
    uint32_t count; /* how many there are, <= 65535 */
    uint32_t next;  /* index of the next one */
    uint64_t addr;  /* rest of the current one */
    uint32_t left;
    uint32_t moved;
    bool interrupt; /* a descriptor with the I bit has been begun */
};

/* A queued command that the drive has taken. */
struct ahci_queued {
    bool active, write, fua;
    uint8_t device;
    uint64_t lba;
    uint32_t left; /* sectors */
    struct ahci_cursor cur;
};

struct ahci_port_regs {
    uint64_t clb, fb;
    uint32_t is, ie, cmd, sig, sctl, serr, sact, ci;
    uint16_t tfd;
    bool offline;     /* no link: COMRESET is held or the interface is off */
    bool sig_pending; /* the D2H FIS after a reset waits for the drive or for PxCMD.FRE */
    bool halted;      /* after an error, until PxCMD.ST is cleared */
    bool srst;
    /* The plain command under way. */
    uint8_t plain;    /* its slot */
    bool overflow;    /* its descriptors were too few */
    bool first_block; /* of PIO out */
    uint8_t acmd[16];
    struct ahci_cursor cur;
    /* Queued commands. */
    uint32_t done;    /* finished, not yet in a Set Device Bits FIS */
    uint8_t step;     /* slot to look at first */
    bool queue_error; /* until READ LOG EXT or a reset */
    uint8_t log[14];  /* page 10h as of then */
    struct ahci_queued queued[AHCI_SLOTS];
};

struct ahci_port;

struct ahci_request { /* of a queued command */
    struct ahci_port *port;
    struct block_request req;
    struct ata_sg sg;
    struct ahci_cursor mark; /* where sg began */
    struct iovec bounce_iov;
    uint8_t bounce[ATA_SECTOR];
    bool in_flight, bounced;
    bool stale;   /* the command is gone */
    bool careful; /* a request failed: sector by sector, to find the bad one */
};

struct ahci_port {
    struct ahci_port_regs r;
    struct ata drive;
    struct ahci *parent;
    struct ahci_cursor mark;       /* of the plain command's last dma_map() */
    struct ahci_request *requests; /* AHCI_SLOTS of them; NULL: not a disk */
    unsigned in_flight, stale;     /* among them */
    bool running;                  /* inside ahci_port_run() */
    struct bottom_half bh;
    char id[32];
    uint8_t number;
};

struct ahci_global_regs {
    uint32_t ghc, is, index;
};

struct ahci {
    struct pci_device pd;
    struct guestmem *mem;
    struct ahci_global_regs r;
    struct ahci_port port[AHCI_PORTS];
};

/* ---- ahci.c ---- */

/* After a change of PxIS or PxSERR: IS, INTA, MSI. */
void ahci_update_irq(struct ahci *a);
/* Lets GHC.HR fall once no port has stale requests. */
void ahci_reset_settle(struct ahci *a);

/* ---- ahci_port.c ---- */

extern const struct ata_host_ops ahci_drive_ops;

/* The bottom half: fetches, moves on, reports. */
void ahci_port_run(void *arg);
/* Has ahci_port_run() called soon, unless it runs now. */
void ahci_port_wake(struct ahci_port *p);
/* True while image requests of commands that are gone have not ended. */
bool ahci_port_stale(const struct ahci_port *p);
/* Ends all commands of the port without an answer, for resets. */
void ahci_port_abandon(struct ahci_port *p);
/* Shows the drive's signature (D2H FIS) when it is due and can be shown; lets CR fall. */
void ahci_port_settle(struct ahci_port *p);

/* FISes from the drive. error: the error register. */
void ahci_fis_d2h(struct ahci_port *p, uint8_t status, uint8_t error, bool interrupt);
void ahci_fis_sdb(struct ahci_port *p, uint32_t tags, uint8_t status, uint8_t error);
void ahci_fis_dma_setup(struct ahci_port *p, unsigned tag, bool write);

/* Collects memory from *cur on, as struct ata_host_ops.dma_map does; *cur moves on when it returns
 * more than 0. */
int ahci_map(struct ahci_port *p, struct ahci_cursor *cur, struct ata_sg *sg, uint32_t unit,
             uint32_t max, bool to_guest);
void ahci_unmap(struct ahci_port *p, struct ata_sg *sg, bool to_guest);
bool ahci_copy(struct ahci_port *p, struct ahci_cursor *cur, uint8_t *buf, uint32_t len,
               bool to_guest);

/* ---- ahci_ncq.c ---- */

/* Takes command FIS `fis` of a slot into the queue. cur: its descriptors. */
void ahci_ncq_command(struct ahci_port *p, unsigned slot, const uint8_t *fis,
                      const struct ahci_cursor *cur);
/* Starts image requests, round robin, for at most budget bytes. Returns what is left of it. */
uint32_t ahci_ncq_step(struct ahci_port *p, uint32_t budget);
/* True if a command waits for ahci_ncq_step(). */
bool ahci_ncq_waits(const struct ahci_port *p);
/* Reports finished commands. */
void ahci_ncq_report(struct ahci_port *p);
/* A command that is not queued came while the queue was not empty (tag AHCI_NO_SLOT), or one of the
 * queue failed: ends the queue. */
void ahci_ncq_fail(struct ahci_port *p, unsigned tag, uint8_t error);
/* Drops the queue; requests in flight become stale. */
void ahci_ncq_abandon(struct ahci_port *p);
/* Waits for requests in flight; commands stay in the queue. */
void ahci_ncq_drain(struct ahci_port *p);
/* True if the drive has commands in its queue. */
bool ahci_ncq_busy(const struct ahci_port *p);
/* Page 10h of READ LOG EXT. */
void ahci_ncq_log(struct ahci_port *p, uint8_t *buf);
int ahci_ncq_state(struct ahci_port_regs *r, struct ahci_port *p, struct save_stream *s);
void ahci_cursor_state(struct ahci_cursor *c, struct save_stream *s);
bool ahci_cursor_valid(const struct ahci_cursor *c);
