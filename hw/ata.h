/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One ATA or ATAPI drive: registers, data buffer, commands. It knows no controller: a host
 * (hw/ide.c with hw/piix_ide.c, later AHCI) writes its registers, moves the data of DRQ blocks and
 * offers memory for DMA through struct ata_host_ops. ATA/ATAPI-6 (T13/1410D); packet commands in
 * hw/atapi.c. Loop thread only.
 *
 * ata.c       registers, resets, DRQ blocks, DMA, image requests
 * ata_disk.c  commands of hard disks and the command table of both kinds
 * atapi.c     packet commands of CD drives
 *
 * A reset in the middle of an image request cannot call the request back. The drive then stays BSY
 * until the request has ended and takes its reset state only then, so a guest that honours BSY
 * never sees late data, and nothing is freed under the request.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "block/block.h"
#include "core/loop.h"
#include "core/save.h"

enum ata_reg { /* command block, ATA-6 7.2; read / write */
               ATA_DATA = 0,
               ATA_ERROR = 1, /* write: FEATURE */
               ATA_COUNT = 2, /* PACKET: interrupt reason */
               ATA_LBA_LOW = 3,
               ATA_LBA_MID = 4, /* PACKET: byte count */
               ATA_LBA_HIGH = 5,
               ATA_DEVICE = 6,
               ATA_STATUS = 7, /* write: COMMAND */
};
enum ata_status {
    ATA_ERR = 0x01, /* PACKET: CHK */
    ATA_DRQ = 0x08,
    ATA_DSC = 0x10,
    ATA_DF = 0x20,
    ATA_DRDY = 0x40,
    ATA_BSY = 0x80,
};
enum ata_error {
    ATA_ABRT = 0x04,
    ATA_IDNF = 0x10,
    ATA_UNC = 0x40,
};
enum ata_device_bits { ATA_DEV = 0x10, ATA_LBA = 0x40, ATA_DEVICE_OBSOLETE = 0xa0 };
enum ata_reason {
    ATA_REASON_CD = 1,
    ATA_REASON_IO = 2
}; /* ATA_COUNT of PACKET: command/data, to host */

enum {
    ATA_SECTOR = 512,
    ATA_CD_SECTOR = 2048,
    ATA_CD_RAW = 2352,
    ATA_BUF_BYTES = 68 << 10, /* a 64 KiB DRQ block that starts anywhere in a CD sector */
    ATA_PIO_AHEAD = 128,      /* sectors read at once for a PIO command */
    ATA_CDB = 12,
    ATA_SELF_TESTS = 21,       /* entries of the SMART self-test log */
    ATA_DMA_BUDGET = 1 << 20,  /* bytes moved before the loop gets a turn */
    ATA_DMA_CHUNK = 1 << 20, /* bytes per image request */
};

/* Memory for one image request. */
struct ata_sg {
    struct iovec iov[BLOCK_IOV_MAX];
    uint64_t gpa[BLOCK_IOV_MAX]; /* of each entry; UINT64_MAX: not guest RAM */
    int n;
};

struct ata;

struct ata_host_ops {
    /* d->r.irq has changed. */
    void (*irq)(void *host, struct ata *d);
    /* True when a DMA transfer for d may move data now; otherwise the host calls ata_dma_kick()
     * when it may. */
    bool (*dma_ready)(void *host, struct ata *d);
    /* Takes the next piece of memory: a multiple of `unit` bytes, at most max (a multiple of unit).
     * Returns its length and fills sg; 0 when the memory is too scattered for one unit (use
     * dma_copy); -ENOSPC when the list ends before a unit. */
    int (*dma_map)(void *host, struct ata_sg *sg, uint32_t unit, uint32_t max, bool to_guest);
    /* Gives sg back; to_guest: it was written to. */
    void (*dma_unmap)(void *host, struct ata_sg *sg, bool to_guest);
    /* Goes back to where the last dma_map() began: its transfer failed, smaller steps follow. */
    void (*dma_rewind)(void *host);
    /* Moves len bytes between buf and the next piece of memory. False when the list ends first. */
    bool (*dma_copy)(void *host, uint8_t *buf, uint32_t len, bool to_guest);
    /* The transfer has ended; `ran_out`: the memory list was too short. Called before the
     * interrupt. */
    void (*dma_end)(void *host, struct ata *d, bool ran_out);
    /* Optional. A reset that had to wait for an image request is over: the drive is not BSY. */
    void (*reset_done)(void *host, struct ata *d);
    /* Optional. READ LOG EXT: fills 512 bytes with this page; false: there is no such page. */
    bool (*read_log)(void *host, struct ata *d, uint8_t page, uint8_t *buf);
};

/* What a drive is. Strings are padded with spaces when shown. */
struct ata_config {
    bool present, cdrom;
    bool queued; /* disks: IDENTIFY offers queued commands, 32 deep; the host does them */
    char serial[21], model[41], firmware[9];
    uint64_t sectors;   /* disks: 512-byte sectors, >= 1 */
    uint16_t cylinders; /* disks: default geometry */
    uint8_t heads, spt;
};

enum ata_phase {
    ATA_IDLE,
    ATA_BUSY,    /* an image request runs, or a reset waits for one */
    ATA_PIO_IN,  /* DRQ, to the host */
    ATA_PIO_OUT, /* DRQ, from the host */
    ATA_DMA,
    ATA_PHASES,
};
enum ata_next { /* what follows a complete DRQ block */
                ATA_NEXT_END,
                ATA_NEXT_READ,
                ATA_NEXT_WRITE,
                ATA_NEXT_CDB,
                ATA_NEXT_PACKET_IN,
                ATA_NEXTS,
};
enum ata_stream {                    /* where the data of a transfer is */
                  ATA_STREAM_IMAGE,  /* straight between image and memory */
                  ATA_STREAM_BUFFER, /* a reply or a parameter list in buf */
                  ATA_STREAM_RAW,    /* CD sectors with headers, made in buf */
                  ATA_STREAM_TRIM,   /* buf is a list of ranges to discard, moved already */
                  ATA_STREAM_LOST,   /* a CD that is no longer there */
                  ATA_STREAMS,
};

struct ata_regs {
    /* Command block; [1] is the previous value (LBA48, read with HOB). */
    uint8_t feature[2], count[2], lba_low[2], lba_mid[2], lba_high[2];
    uint8_t device, status, error, command;
    bool hob, irq; /* irq: INTRQ, before nIEN and selection */

    /* Settings. */
    uint8_t multiple;           /* sectors per DRQ block of READ/WRITE MULTIPLE, 0: not set */
    uint8_t heads, spt;         /* current translation */
    uint8_t swdma, mwdma, udma; /* selected modes + 1; 0: not selected */
    bool write_cache, look_ahead, smart, smart_autosave, standby;
    bool keep; /* SET FEATURES 66h: a soft reset leaves the settings alone */
    uint8_t smart_errors;
    uint8_t tests[ATA_SELF_TESTS]; /* self-test log: subcommands */
    uint8_t test_last;             /* most recent entry, 1.., 0: none */
    bool tests_full;

    /* The transfer. */
    uint8_t phase, next, stream; /* enum ata_phase, ata_next, ata_stream */
    bool write, fua;
    uint16_t block_sectors;    /* per DRQ block */
    uint32_t buf_pos, buf_end; /* the DRQ block, or the next bytes for DMA */
    uint32_t buf_fill;         /* bytes of the transfer in buf; >= buf_end */
    uint64_t lba;              /* next sector to move between buf or memory and image */
    uint32_t left;             /* sectors from lba on; read-ahead in buf is not among them */

    /* CD drives. */
    uint8_t cdb[ATA_CDB];
    uint8_t sense_key, asc, ascq;
    uint8_t ua_asc; /* unit attention to report, 0: none */
    bool packet_dma, tray_open, locked;
    uint8_t media_events; /* GET EVENT STATUS NOTIFICATION: 1 << code of what is to be reported */
    uint8_t raw_flags;    /* READ CD: byte 9 */
    uint16_t byte_limit;  /* PACKET: bytes per DRQ block */
};

struct ata_host {
    const struct ata_host_ops *ops;
    void *host;
    struct loop *loop;
    struct block *medium; /* borrowed; NULL: empty CD drive */
    uint8_t *buf;         /* ATA_BUF_BYTES */
    struct block_request req;
    struct iovec iov; /* of requests into buf */
    struct ata_sg sg;
    void (*done)(struct ata *d, int error);
    struct bottom_half bh; /* DMA goes on here */
    int error;
    bool in_flight, submitting, early; /* early: done inside block_submit() */
    bool orphan;                       /* a reset awaits the end of the request */
    bool sg_mapped, running;
    bool careful; /* a request failed: sector by sector, to find the bad one */
    void (*tray_moved)(void *opaque, struct ata *d);
    void *tray_opaque;
};

struct ata {
    struct ata_config cfg;
    struct ata_regs r;
    struct ata_host h;
};

/* Makes a drive; host and medium are borrowed. An absent drive has registers but answers no
 * command. 0 or -ENOMEM. */
int ata_init(struct ata *d, const struct ata_config *cfg, struct block *medium,
             const struct ata_host_ops *ops, void *host, struct loop *loop);
/* Waits for a request in flight and frees the buffer. */
void ata_fini(struct ata *d);
/* Power-on state, at once (waits for a request in flight). */
void ata_power_on(struct ata *d);
/* SRST and, for CD drives, DEVICE RESET: keeps settings. */
void ata_soft_reset(struct ata *d);
/* Detaches the medium of a disk, which becomes an absent drive. Waits for a request in flight and
 * flushes. 0 or -errno of the flush. */
int ata_detach(struct ata *d);

/* reg: ATA_ERROR..ATA_STATUS. Reading has no side effects; hosts clear d->r.irq on a status read
 * with ata_irq_clear(). */
uint8_t ata_reg_read(const struct ata *d, unsigned reg);
/* reg: ATA_ERROR..ATA_DEVICE. */
void ata_reg_write(struct ata *d, unsigned reg, uint8_t value);
void ata_command(struct ata *d, uint8_t command);
void ata_irq_clear(struct ata *d);

/* Moves up to len bytes of the current DRQ block; returns how many (0: no DRQ in that direction).
 */
uint32_t ata_data_in(struct ata *d, void *buf, uint32_t len);
uint32_t ata_data_out(struct ata *d, const void *buf, uint32_t len);

/* The host became ready for DMA. */
void ata_dma_kick(struct ata *d);

/* Saved state; for use inside the host's own. */
int ata_state(struct ata *d, struct save_stream *s);

/* ---- between ata.c, ata_disk.c and atapi.c ---- */

/* End of a command: status and interrupt. */
void ata_ok(struct ata *d);
void ata_fail(struct ata *d, uint8_t error);
void ata_irq_raise(struct ata *d);
void ata_signature(struct ata *d);
void ata_diagnose(struct ata *d);
/* Offers buf[pos, end) as a DRQ block; interrupt: raise INTRQ with it. */
void ata_pio(struct ata *d, enum ata_phase phase, enum ata_next next, uint32_t pos, uint32_t end,
             bool interrupt);
/* Starts an image request on buf + pos; done() is called on the loop thread unless a reset comes
 * first. */
void ata_buf_io(struct ata *d, enum block_op op, uint64_t offset, uint32_t pos, uint32_t len,
                void (*done)(struct ata *d, int error));
/* The same without data: BLOCK_FLUSH, BLOCK_DISCARD. */
void ata_range_io(struct ata *d, enum block_op op, uint64_t offset, uint64_t len,
                  void (*done)(struct ata *d, int error));
/* Starts the DMA transfer that r.stream, r.write, r.lba, r.left (IMAGE, RAW) or r.buf_pos and
 * r.buf_end (BUFFER) describe. */
void ata_dma(struct ata *d);
/* Waits for the image request in flight, and no longer: a transfer goes on in the loop. */
void ata_settle(struct ata *d);

extern void (*const ata_next[ATA_NEXTS])(struct ata *d); /* by enum ata_next */
void ata_disk_read_next(struct ata *d);
void ata_disk_write_block(struct ata *d);
void ata_disk_io_error(struct ata *d, int error);
void ata_disk_dma_done(
    struct ata *d); /* BUFFER and TRIM transfers of disks, end of IMAGE transfers */
void ata_trim_step(struct ata *d);

void atapi_packet(struct ata *d);
void atapi_packet_in(struct ata *d);
void atapi_cdb(struct ata *d);
void atapi_identify(struct ata *d, uint16_t *w);
void atapi_dma_done(struct ata *d);
void atapi_io_error(struct ata *d, int error);
void atapi_fill_raw(struct ata *d, uint32_t at, uint64_t lba);

/* Puts an ATA string (bytes swapped in words, padded with spaces) into words [first, first + n). */
void ata_string(uint16_t *w, unsigned first, unsigned n, const char *s);

/* Medium of a CD drive: see hw/atapi.c. */
void atapi_set_medium(struct ata *d, struct block *medium);
void atapi_move_tray(struct ata *d, bool open);
/* True when the host may open the tray. When the guest has locked a medium in it (and not force),
 * the guest gets an eject request instead. */
bool atapi_may_open(struct ata *d, bool force);
/* The medium has gone from under a transfer: ends it with the error that tells. */
void atapi_medium_lost(struct ata *d);
