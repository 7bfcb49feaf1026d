/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PIIX3 IDE: PCI function and bus master. 82371FB/SB (PIIX/PIIX3) datasheet, "PCI IDE bus master
 * interface registers". */
#include "hw/piix_ide.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/pci.h"
#include "hw/ide.h"

enum piix_ide_config_reg {
    PIIX_IDETIM = 0x40, /* timings, 2 bytes per channel; bit 15: decode the ports */
    PIIX_SIDETIM = 0x44,
};
enum bm_reg { BM_COMMAND = 0, BM_STATUS = 2, BM_PRD = 4, BM_SIZE = 8 };
enum bm_command { BM_START = 0x01, BM_TO_MEMORY = 0x08 };
enum bm_status { BM_ACTIVE = 0x01, BM_ERROR = 0x02, BM_INTERRUPT = 0x04, BM_CAPABLE = 0x60 };
enum { PRD_BYTES = 8, PRD_END = 0x80000000u, NOWHERE_BYTES = 4096 };

/* Where a transfer is in its list of memory pieces ("physical region descriptors"). */
struct bm_cursor {
    uint32_t prd;  /* address of the next descriptor */
    uint32_t addr; /* rest of the current one */
    uint32_t left;
    bool end; /* the current one is the last */
};

struct bm_regs {
    uint8_t command, status;
    uint32_t prd;
    struct bm_cursor cursor;
};

struct channel {
    struct ide_channel ide;
    struct bm_regs r;
    struct bm_cursor mark; /* where the piece under way began; nothing in flight is saved */
    struct piix_ide *parent;
};

struct piix_ide {
    struct pci_device pd;
    struct guestmem *mem;
    struct channel channel[2];
    char id[IDE_DRIVES][32];
    void (*tray_moved)(void *opaque, unsigned drive, bool open);
    void *tray_opaque;
};

/* Memory behind descriptors that point at no RAM: writes go nowhere, reads give ones. */
static uint8_t nowhere[NOWHERE_BYTES], ones[NOWHERE_BYTES];

/* ---- memory for the drives ---- */

/* Moves the cursor to the next descriptor. False at the end of the list. */
static bool next_prd(struct channel *c, struct bm_cursor *cur)
{
    uint8_t raw[PRD_BYTES];
    if (cur->end) {
        return false;
    }
    guestmem_read(c->parent->mem, cur->prd, raw, sizeof(raw));
    cur->addr = pci_get32(raw, 0) & ~1u;
    cur->left = pci_get16(raw, 4) & 0xfffeu;
    if (cur->left == 0) {
        cur->left = 65536;
    }
    cur->end = (pci_get32(raw, 4) & PRD_END) != 0;
    cur->prd += PRD_BYTES;
    return true;
}

/* Appends a piece to sg, merged with its predecessor where both are adjacent. False when sg is
 * full. */
static bool append(struct ata_sg *sg, void *p, uint64_t gpa, size_t len)
{
    if (sg->n > 0 && gpa != UINT64_MAX) {
        struct iovec *last = &sg->iov[sg->n - 1];
        if (sg->gpa[sg->n - 1] + last->iov_len == gpa &&
            (uint8_t *)last->iov_base + last->iov_len == (uint8_t *)p) {
            last->iov_len += len;
            return true;
        }
    }
    if (sg->n == BLOCK_IOV_MAX) {
        return false;
    }
    sg->iov[sg->n].iov_base = p;
    sg->iov[sg->n].iov_len = len;
    sg->gpa[sg->n++] = gpa;
    return true;
}

/* Collects at most max bytes of memory from *cur on; *ended: because the list has no more. */
static uint32_t walk(struct channel *c, struct bm_cursor *cur, struct ata_sg *sg, uint32_t max,
                     bool to_guest, bool *ended)
{
    uint32_t total = 0;
    sg->n = 0;
    *ended = false;
    while (total < max) {
        if (cur->left == 0 && !next_prd(c, cur)) {
            *ended = true;
            break;
        }
        size_t want = cur->left < max - total ? cur->left : max - total, got = 0;
        uint64_t gpa = cur->addr;
        uint8_t *p = guestmem_span(c->parent->mem, gpa, want, &got);
        if (p == NULL) {
            p = to_guest ? nowhere : ones;
            gpa = UINT64_MAX;
            got = got > NOWHERE_BYTES ? NOWHERE_BYTES : got;
        }
        if (!append(sg, p, gpa, got)) {
            break;
        }
        cur->addr += (uint32_t)got;
        cur->left -= (uint32_t)got;
        total += (uint32_t)got;
    }
    return total;
}

static int dma_map(void *host, struct ata_sg *sg, uint32_t unit, uint32_t max, bool to_guest)
{
    struct channel *c = host;
    struct bm_cursor cur = c->r.cursor;
    bool ended;
    guestmem_hold(c->parent->mem);
    uint32_t total = walk(c, &cur, sg, max, to_guest, &ended), whole = total - total % unit;
    if (whole > 0 && whole < total) {
        /* Stop at a sector instead: the few descriptors of the rest are read again next time. */
        cur = c->r.cursor;
        total = walk(c, &cur, sg, whole, to_guest, &ended);
    }
    if (total == 0 || total != whole) {
        guestmem_release(c->parent->mem);
        return whole == 0 && !ended ? 0 : -ENOSPC;
    }
    c->mark = c->r.cursor;
    c->r.cursor = cur;
    return (int)total;
}

static void dma_rewind(void *host)
{
    struct channel *c = host;
    c->r.cursor = c->mark;
}

static void dma_unmap(void *host, struct ata_sg *sg, bool to_guest)
{
    struct channel *c = host;
    for (int i = 0; to_guest && i < sg->n; i++) {
        if (sg->gpa[i] != UINT64_MAX) {
            guestmem_dirtied(c->parent->mem, sg->gpa[i], sg->iov[i].iov_len);
        }
    }
    guestmem_release(c->parent->mem);
}

static bool dma_copy(void *host, uint8_t *buf, uint32_t len, bool to_guest)
{
    struct channel *c = host;
    struct bm_cursor *cur = &c->r.cursor;
    while (len > 0) {
        if (cur->left == 0 && !next_prd(c, cur)) {
            return false;
        }
        uint32_t n = cur->left < len ? cur->left : len;
        if (to_guest) {
            guestmem_write(c->parent->mem, cur->addr, buf, n);
        } else {
            guestmem_read(c->parent->mem, cur->addr, buf, n);
        }
        cur->addr += n;
        cur->left -= n;
        buf += n;
        len -= n;
    }
    return true;
}

/* The direction bit is not compared with the command's: the drive's direction counts, as a mismatch
 * moves no sane data on the chip either. */
static bool dma_ready(void *host, struct ata *d)
{
    struct channel *c = host;
    (void)d;
    return (c->r.command & BM_START) != 0 && (c->r.status & BM_ACTIVE) != 0 &&
           pci_master(&c->parent->pd);
}

static void dma_end(void *host, struct ata *d, bool ran_out)
{
    struct channel *c = host;
    (void)d;
    if (ran_out || (c->r.cursor.left == 0 && c->r.cursor.end)) {
        c->r.status &=
            (uint8_t)~BM_ACTIVE; /* a list that is longer than the transfer keeps it active */
    }
}

static void drive_irq(void *host, struct ata *d)
{
    struct channel *c = host;
    (void)d;
    ide_intrq(&c->ide);
}

static const struct ata_host_ops host_ops = {
    .irq = drive_irq,
    .dma_ready = dma_ready,
    .dma_map = dma_map,
    .dma_unmap = dma_unmap,
    .dma_rewind = dma_rewind,
    .dma_copy = dma_copy,
    .dma_end = dma_end,
};

static void intrq_rises(void *opaque)
{
    struct channel *c = opaque;
    c->r.status |= BM_INTERRUPT;
}

/* ---- BAR 4 ---- */

static uint8_t bm_read_byte(const struct channel *c, unsigned reg)
{
    switch (reg) {
    case BM_COMMAND:
        return c->r.command;
    case BM_STATUS:
        return c->r.status;
    case BM_PRD:
    case BM_PRD + 1:
    case BM_PRD + 2:
    case BM_PRD + 3:
        return (uint8_t)(c->r.prd >> 8 * (reg - BM_PRD));
    default:
        return 0;
    }
}

static void kick(struct channel *c)
{
    ata_dma_kick(&c->ide.drive[0]);
    ata_dma_kick(&c->ide.drive[1]);
}

static void bm_write_byte(struct channel *c, unsigned reg, uint8_t v)
{
    switch (reg) {
    case BM_COMMAND: {
        uint8_t old = c->r.command;
        c->r.command = v & (BM_START | BM_TO_MEMORY);
        if ((v & BM_START) == 0) {
            c->r.status &= (uint8_t)~BM_ACTIVE; /* what is under way moves no further piece */
        } else if ((old & BM_START) == 0) {
            c->r.status |= BM_ACTIVE;
            c->r.cursor = c->mark = (struct bm_cursor){.prd = c->r.prd};
            kick(c);
        }
        break;
    }
    case BM_STATUS:
        c->r.status = (uint8_t)((c->r.status & ~BM_CAPABLE & ~(v & (BM_ERROR | BM_INTERRUPT))) |
                                (v & BM_CAPABLE));
        break;
    case BM_PRD:
    case BM_PRD + 1:
    case BM_PRD + 2:
    case BM_PRD + 3: {
        unsigned shift = 8 * (reg - BM_PRD);
        c->r.prd = ((c->r.prd & ~(0xffu << shift)) | (uint32_t)v << shift) & ~3u;
        break;
    }
    default:
        break;
    }
}

static uint64_t bm_read(void *dev, uint64_t offset, unsigned size)
{
    const struct piix_ide *ide = dev;
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;
        uint8_t b =
            at < 2 * BM_SIZE ? bm_read_byte(&ide->channel[at / BM_SIZE], at % BM_SIZE) : 0xff;
        v |= (uint64_t)b << 8 * i;
    }
    return v;
}

static void bm_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct piix_ide *ide = dev;
    for (unsigned i = 0; i < size && offset + i < 2 * BM_SIZE; i++) {
        bm_write_byte(&ide->channel[(offset + i) / BM_SIZE], (offset + i) % BM_SIZE,
                      (uint8_t)(value >> 8 * i));
    }
}

static const struct io_ops bm_ops = {.read = bm_read, .write = bm_write, .max_size = 4};

/* ---- PCI function ---- */

static struct ata *drive(struct piix_ide *ide, unsigned i)
{
    return &ide->channel[i / 2].ide.drive[i % 2];
}

static void piix_ide_reset(void *dev)
{
    struct piix_ide *ide = dev;
    for (unsigned i = 0; i < 2; i++) {
        ide_channel_reset(&ide->channel[i].ide);
        memset(&ide->channel[i].r, 0, sizeof(ide->channel[i].r));
    }
}

static void piix_ide_config_written(void *dev, unsigned reg, unsigned size)
{
    struct piix_ide *ide = dev;
    if (reg <= PCI_COMMAND &&
        reg + size > PCI_COMMAND) { /* bus mastering on: transfers that waited for it go on */
        kick(&ide->channel[0]);
        kick(&ide->channel[1]);
    }
}

static void bm_state(struct bm_regs *r, struct save_stream *s)
{
    save_u8(s, &r->command);
    save_u8(s, &r->status);
    save_u32(s, &r->prd);
    save_u32(s, &r->cursor.prd);
    save_u32(s, &r->cursor.addr);
    save_u32(s, &r->cursor.left);
    save_bool(s, &r->cursor.end);
}

static int piix_ide_state(void *dev, struct save_stream *s)
{
    struct piix_ide *ide = dev;
    uint8_t present = 0;
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        present |= (uint8_t)(drive(ide, i)->cfg.present ? 1u << i : 0);
    }
    uint8_t saved = present;
    save_u8(s, &saved);
    if (s->loading) {
        if (s->error != 0 || (saved & ~present) != 0) {
            return -EINVAL; /* made with drives that we do not have */
        }
        for (unsigned i = 0; i < IDE_DRIVES; i++) {
            if ((present & ~saved & 1u << i) != 0) {
                if (drive(ide, i)->cfg.cdrom) {
                    return -EINVAL;
                }
                (void)ata_detach(drive(ide, i)); /* the guest had unplugged it */
            }
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        int rc = ide_channel_state(&ide->channel[i].ide,
                                   s); /* first: it may have to wait for a transfer */
        struct bm_regs r = ide->channel[i].r;
        if (rc != 0) {
            return rc;
        }
        bm_state(&r, s);
        if (s->loading) {
            if (s->error != 0 || r.cursor.left > 65536 || ((r.prd | r.cursor.prd) & 3) != 0 ||
                ((r.cursor.addr | r.cursor.left) & 1) != 0) {
                return -EINVAL;
            }
            r.command &= BM_START | BM_TO_MEMORY;
            r.status &= BM_ACTIVE | BM_ERROR | BM_INTERRUPT | BM_CAPABLE;
            ide->channel[i].r = r;
        }
    }
    return s->error;
}

static void piix_ide_destroy(void *dev)
{
    struct piix_ide *ide = dev;
    for (unsigned i = 0; i < 2; i++) {
        ide_channel_fini(&ide->channel[i].ide);
    }
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        ata_fini(drive(ide, i));
    }
    free(ide);
}

static const struct pci_device_ops ops = {
    .base =
        {
            .name = "piix3-ide",
            .version = 1,
            .reset = piix_ide_reset,
            .state = piix_ide_state,
            .destroy = piix_ide_destroy,
        },
    .config_written = piix_ide_config_written,
};

int ide_drive_identity(const struct ide_drive_config *dc, unsigned number, struct ata_config *cfg)
{
    *cfg = (struct ata_config){.present = dc->present, .cdrom = dc->cdrom};
    if (dc->present && !dc->cdrom) {
        if (dc->medium == NULL) {
            return -EINVAL;
        }
        cfg->sectors = block_size_bytes(dc->medium) / ATA_SECTOR;
        cfg->heads = 16;
        cfg->spt = 63;
        uint64_t cylinders = cfg->sectors / (16 * 63);
        cfg->cylinders = (uint16_t)(cylinders > 16383 ? 16383 : cylinders < 2 ? 2 : cylinders);
    }
    if (dc->serial != NULL) {
        snprintf(cfg->serial, sizeof(cfg->serial), "%s", dc->serial);
    } else {
        snprintf(cfg->serial, sizeof(cfg->serial), "QM%05u", number);
    }
    snprintf(cfg->model, sizeof(cfg->model), "%s", dc->cdrom ? "QEMU DVD-ROM" : "QEMU HARDDISK");
    snprintf(cfg->firmware, sizeof(cfg->firmware), "2.5+");
    return 0;
}

static int init_drive(struct piix_ide *ide, struct board *b, unsigned i,
                      const struct ide_drive_config *dc)
{
    struct ata_config cfg;
    int rc = ide_drive_identity(dc, i + 1, &cfg);
    if (rc != 0) {
        return rc;
    }
    snprintf(ide->id[i], sizeof(ide->id[i]), "%s", dc->id);
    struct block *medium = dc->present ? dc->medium : NULL;
    return ata_init(drive(ide, i), &cfg, medium, &host_ops, &ide->channel[i / 2], b->loop);
}

int piix_ide_create(struct board *b, uint8_t devfn,
                    const struct ide_drive_config drives[IDE_DRIVES], struct piix_ide **out)
{
    static const struct pci_config_id id = {
        .vendor = 0x8086,
        .device = 0x7010,
        .class_device = 0x0101,
        .prog_if = 0x80, /* legacy ports, bus master */
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
    };
    static const struct ide_channel_config ports[2] = {{0x1f0, 0x3f6}, {0x170, 0x376}};
    struct piix_ide *ide = calloc(1, sizeof(*ide));
    if (ide == NULL) {
        return -ENOMEM;
    }
    int rc = 0;
    memset(ones, 0xff, sizeof(ones));
    ide->mem = b->mem;
    for (unsigned i = 0; rc == 0 && i < 2; i++) {
        ide->channel[i].parent = ide;
    }
    for (unsigned i = 0; rc == 0 && i < IDE_DRIVES; i++) {
        rc = init_drive(ide, b, i, &drives[i]);
    }
    for (unsigned i = 0; rc == 0 && i < 2; i++) {
        struct channel *c = &ide->channel[i];
        rc = ide_channel_init(&c->ide, b, &ports[i], &b->isa_irq[14 + i], intrq_rises, c);
    }
    if (rc == 0) {
        pci_init(&ide->pd, b, &ops, ide, devfn, &id);
        /* DEVIATION: IDETIM keeps what is written but bit 15 does not switch the ports: the peer
         * decodes them always, and guests that were installed there have been seen with either
         * value. */
        memset(ide->pd.wmask + PIIX_IDETIM, 0xff, 5);
        pci_set16(ide->pd.config, PCI_STATUS, 0x0280); /* medium DEVSEL, fast back-to-back */
        pci_add_bar(&ide->pd, 4, PCI_BAR_IO, 2 * BM_SIZE, &bm_ops);
        rc = pci_finish(&ide->pd);
    }
    if (rc < 0) {
        piix_ide_destroy(ide);
        return rc;
    }
    *out = ide;
    return 0;
}

/* ---- for the monitor and xen-platform ---- */

bool piix_ide_info(const struct piix_ide *ide, unsigned i, struct ide_drive_info *info)
{
    if (i >= IDE_DRIVES || !ide->channel[i / 2].ide.drive[i % 2].cfg.present) {
        return false;
    }
    const struct ata *d = &ide->channel[i / 2].ide.drive[i % 2];
    *info = (struct ide_drive_info){
        .present = true,
        .cdrom = d->cfg.cdrom,
        .tray_open = d->r.tray_open,
        .locked = d->r.locked,
        .medium = d->h.medium,
        .id = ide->id[i],
        .cylinders = d->cfg.cylinders,
        .heads = d->cfg.heads,
        .sectors = d->cfg.spt,
    };
    return true;
}

int piix_ide_find(const struct piix_ide *ide, const char *id)
{
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        if (ide->channel[i / 2].ide.drive[i % 2].cfg.present && strcmp(ide->id[i], id) == 0) {
            return (int)i;
        }
    }
    return -ENODEV;
}

static struct ata *cd_drive(struct piix_ide *ide, unsigned i)
{
    struct ata *d = i < IDE_DRIVES ? drive(ide, i) : NULL;
    return d != NULL && d->cfg.present && d->cfg.cdrom ? d : NULL;
}

int piix_ide_set_medium(struct piix_ide *ide, unsigned i, struct block *medium)
{
    struct ata *d = cd_drive(ide, i);
    if (d == NULL) {
        return -ENODEV;
    }
    atapi_set_medium(d, medium);
    return 0;
}

int piix_ide_eject(struct piix_ide *ide, unsigned i, bool force)
{
    struct ata *d = cd_drive(ide, i);
    if (d == NULL) {
        return -ENODEV;
    }
    if (!atapi_may_open(d, force)) {
        return -EBUSY;
    }
    atapi_set_medium(d, NULL);
    atapi_move_tray(d, true);
    return 0;
}

int piix_ide_move_tray(struct piix_ide *ide, unsigned i, bool open, bool force)
{
    struct ata *d = cd_drive(ide, i);
    if (d == NULL) {
        return -ENODEV;
    }
    if (open && !atapi_may_open(d, force)) {
        return -EBUSY;
    }
    atapi_move_tray(d, open);
    return 0;
}

static void tray_moved(void *opaque, struct ata *d)
{
    struct piix_ide *ide = opaque;
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        if (drive(ide, i) == d && ide->tray_moved != NULL) {
            ide->tray_moved(ide->tray_opaque, i, d->r.tray_open);
        }
    }
}

void piix_ide_on_tray(struct piix_ide *ide, void (*fn)(void *opaque, unsigned drive, bool open),
                      void *opaque)
{
    ide->tray_moved = fn;
    ide->tray_opaque = opaque;
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        drive(ide, i)->h.tray_moved = tray_moved;
        drive(ide, i)->h.tray_opaque = ide;
    }
}

void piix_ide_unplug(struct piix_ide *ide, bool keep_primary_master)
{
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        struct ata *d = drive(ide, i);
        if (d->cfg.present && !d->cfg.cdrom && !(i == 0 && keep_primary_master)) {
            int rc = ata_detach(d);
            if (rc < 0) {
                static struct log_limit limit;
                log_limited(&limit, "ide drive %u: flush at unplug failed: %s", i, strerror(-rc));
            }
        }
    }
    piix_ide_reset(ide);
}
