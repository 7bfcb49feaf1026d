/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An AHCI port: command list, FISes (SATA 2.6, 10.3), descriptors, plain commands. AHCI 1.3.1,
 * chapters 4 and 5. */
#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "hw/ahci_int.h"

enum fis_type {
    FIS_H2D = 0x27,
    FIS_D2H = 0x34,
    FIS_DMA_SETUP = 0x41,
    FIS_PIO_SETUP = 0x5f,
    FIS_SDB = 0xa1
};
enum fis_bits {
    FIS_C = 0x80, /* H2D: a command, not device control */
    FIS_I = 0x40, /* D2H: interrupt */
    FIS_D = 0x20, /* setup: towards the host */
    FIS_PMP = 0x0f,
};
enum { H2D_BYTES = 20, H2D_COMMAND = 2, H2D_CONTROL = 15, CONTROL_SRST = 0x04 };
/* Received FISes, 4.2.1. */
enum { RFIS_DMA_SETUP = 0x00, RFIS_PIO_SETUP = 0x20, RFIS_D2H = 0x40, RFIS_SDB = 0x58 };
/* Command header and table, 4.2.2 and 4.2.3. */
enum {
    HEADER_BYTES = 32,
    HEADER_CFL = 0x1f,
    HEADER_PRDBC = 4,
    TABLE_ACMD = 0x40,
    TABLE_PRDT = 0x80,
    PRD_BYTES = 16,
    PRD_WINDOW = 16, /* descriptors read at once */
    PRD_WALK = 256,  /* descriptors per step */
    SCRATCH_BYTES = 4096,
};
#define PRD_DBC 0x3fffffu
#define PRD_I   0x80000000u
enum { CMD_READ_LOG_EXT = 0x2f, CMD_READ_FPDMA = 0x60, CMD_WRITE_FPDMA = 0x61, CMD_PACKET = 0xa0 };

/* Memory behind descriptors that point at no RAM: writes go nowhere, reads give ones. */
static uint8_t nowhere[SCRATCH_BYTES], ones[SCRATCH_BYTES];

/* ---- descriptors ---- */

struct window {
    uint8_t raw[PRD_WINDOW * PRD_BYTES];
    uint32_t first, n;
};

/* Moves the cursor to the next descriptor. False at the end of the list. */
static bool next_prd(const struct ahci_port *p, struct ahci_cursor *cur, struct window *w)
{
    if (cur->next >= cur->count) {
        return false;
    }
    if (cur->next - w->first >= w->n) {
        uint32_t rest = cur->count - cur->next;
        w->first = cur->next;
        w->n = rest < PRD_WINDOW ? rest : PRD_WINDOW;
        guestmem_read(p->parent->mem, cur->table + (uint64_t)cur->next * PRD_BYTES, w->raw,
                      (size_t)w->n * PRD_BYTES);
    }
    const uint8_t *raw = w->raw + (size_t)(cur->next - w->first) * PRD_BYTES;
    uint32_t dbc = pci_get32(raw, 12);
    cur->addr = (uint64_t)pci_get32(raw, 4) << 32 | pci_get32(raw, 0);
    cur->left = (dbc & PRD_DBC) + 1; /* odd counts and addresses are allowed, as on the peer */
    cur->interrupt |= (dbc & PRD_I) != 0;
    cur->next++;
    return true;
}

/* Appends a piece to sg, merged with its predecessor where both are adjacent. False when sg is
 * full. */
static bool append(struct ata_sg *sg, void *at, uint64_t gpa, size_t len)
{
    if (sg->n > 0 && gpa != UINT64_MAX) {
        struct iovec *last = &sg->iov[sg->n - 1];
        if (sg->gpa[sg->n - 1] + last->iov_len == gpa &&
            (uint8_t *)last->iov_base + last->iov_len == (uint8_t *)at) {
            last->iov_len += len;
            return true;
        }
    }
    if (sg->n == BLOCK_IOV_MAX) {
        return false;
    }
    sg->iov[sg->n].iov_base = at;
    sg->iov[sg->n].iov_len = len;
    sg->gpa[sg->n++] = gpa;
    return true;
}

/* Collects at most max bytes of memory from *cur on; *ended: because the list has no more. */
static uint32_t walk(struct ahci_port *p, struct ahci_cursor *cur, struct ata_sg *sg, uint32_t max,
                     bool to_guest, bool *ended)
{
    struct window w = {.n = 0};
    uint32_t total = 0, first = cur->next;
    sg->n = 0;
    *ended = false;
    while (total < max && cur->next - first < PRD_WALK) {
        if (cur->left == 0 && !next_prd(p, cur, &w)) {
            *ended = true;
            break;
        }
        size_t want = cur->left < max - total ? cur->left : max - total, got = 0;
        uint64_t gpa = cur->addr;
        uint8_t *at = guestmem_span(p->parent->mem, gpa, want, &got);
        if (at == NULL) {
            at = to_guest ? nowhere : ones;
            gpa = UINT64_MAX;
            got = got > SCRATCH_BYTES ? SCRATCH_BYTES : got;
        }
        if (!append(sg, at, gpa, got)) {
            break;
        }
        cur->addr += got;
        cur->left -= (uint32_t)got;
        total += (uint32_t)got;
    }
    cur->moved += total;
    return total;
}

int ahci_map(struct ahci_port *p, struct ahci_cursor *cur, struct ata_sg *sg, uint32_t unit,
             uint32_t max, bool to_guest)
{
    struct ahci_cursor at = *cur;
    bool ended;
    guestmem_hold(p->parent->mem);
    uint32_t total = walk(p, &at, sg, max, to_guest, &ended), whole = total - total % unit;
    if (whole > 0 && whole < total) {
        /* Stop at a sector instead. The few descriptors of the rest are read again next time, and
         * may differ by then: only what this walk says counts. */
        at = *cur;
        total = walk(p, &at, sg, whole, to_guest, &ended);
    }
    if (total == 0 || total != whole) {
        guestmem_release(p->parent->mem);
        return whole == 0 && !ended ? 0 : -ENOSPC;
    }
    *cur = at;
    return (int)total;
}

void ahci_unmap(struct ahci_port *p, struct ata_sg *sg, bool to_guest)
{
    for (int i = 0; to_guest && i < sg->n; i++) {
        if (sg->gpa[i] != UINT64_MAX) {
            guestmem_dirtied(p->parent->mem, sg->gpa[i], sg->iov[i].iov_len);
        }
    }
    guestmem_release(p->parent->mem);
}

bool ahci_copy(struct ahci_port *p, struct ahci_cursor *cur, uint8_t *buf, uint32_t len,
               bool to_guest)
{
    struct window w = {.n = 0};
    while (len > 0) {
        if (cur->left == 0 && !next_prd(p, cur, &w)) {
            return false;
        }
        uint32_t n = cur->left < len ? cur->left : len;
        if (to_guest) {
            guestmem_write(p->parent->mem, cur->addr, buf, n);
        } else {
            guestmem_read(p->parent->mem, cur->addr, buf, n);
        }
        cur->addr += n;
        cur->left -= n;
        cur->moved += n;
        buf += n;
        len -= n;
    }
    return true;
}

/* ---- FISes from the drive ---- */

static void post(const struct ahci_port *p, unsigned at, const uint8_t *fis, unsigned len)
{
    if ((p->r.cmd & CMD_FR) != 0 && pci_master(&p->parent->pd)) {
        guestmem_write(p->parent->mem, p->r.fb + at, fis, len);
    }
}

/* The registers of the drive as D2H and PIO setup FISes carry them. */
static void fill(const struct ahci_port *p, uint8_t fis[20], enum fis_type type, uint8_t flags)
{
    const struct ata_regs *r = &p->drive.r;
    memset(fis, 0, 20);
    fis[0] = (uint8_t)type;
    fis[1] = flags;
    fis[4] = r->lba_low[0];
    fis[5] = r->lba_mid[0];
    fis[6] = r->lba_high[0];
    fis[7] = r->device & 0x5f; /* without the bits that were always set */
    fis[8] = r->lba_low[1];
    fis[9] = r->lba_mid[1];
    fis[10] = r->lba_high[1];
    fis[12] = r->count[0];
    fis[13] = r->count[1];
}

static void set_tfd(struct ahci_port *p, uint8_t status, uint8_t error)
{
    p->r.tfd = (uint16_t)(status | error << 8);
    if ((status & ATA_ERR) != 0) {
        p->r.is |= IS_TFES;
        p->r.halted = true;
    }
}

void ahci_fis_d2h(struct ahci_port *p, uint8_t status, uint8_t error, bool interrupt)
{
    uint8_t fis[20];
    fill(p, fis, FIS_D2H, interrupt ? FIS_I : 0);
    fis[2] = status;
    fis[3] = error;
    post(p, RFIS_D2H, fis, sizeof(fis));
    set_tfd(p, status, error);
    if (interrupt) {
        p->r.is |= IS_DHRS;
    }
}

void ahci_fis_sdb(struct ahci_port *p, uint32_t tags, uint8_t status, uint8_t error)
{
    enum { LEFT_ALONE = ATA_BSY | ATA_DRQ };
    uint8_t fis[8] = {FIS_SDB, FIS_I, status & 0x77, error};
    pci_set32(fis, 4, tags);
    post(p, RFIS_SDB, fis, sizeof(fis));
    p->r.sact &= ~tags;
    set_tfd(p, (uint8_t)((p->r.tfd & LEFT_ALONE) | (status & 0x77)), error);
    p->r.is |= IS_SDBS;
}

void ahci_fis_dma_setup(struct ahci_port *p, unsigned tag, bool write)
{
    uint8_t fis[28] = {FIS_DMA_SETUP, write ? 0 : FIS_D};
    fis[4] = (uint8_t)tag; /* buffer identifier */
    pci_set32(fis, 20, p->r.queued[tag].left * ATA_SECTOR);
    post(p, RFIS_DMA_SETUP, fis, sizeof(fis));
}

/* ---- plain commands ---- */

static void plain_finish(struct ahci_port *p, bool d2h)
{
    struct ahci_port_regs *r = &p->r;
    uint8_t status = p->drive.r.status, error = p->drive.r.error, moved[4];
    unsigned slot = r->plain;
    r->plain = AHCI_NO_SLOT;
    if (r->overflow) {
        /* DEVIATION: AHCI 6.1.4 leaves the port to a COMRESET, and the peer reports success; an
         * error at once tells the driver that its data is not there. */
        status = ATA_DRDY | ATA_ERR;
        error = ATA_ABRT;
        d2h = true;
    }
    pci_set32(moved, 0, r->cur.moved);
    guestmem_write(p->parent->mem, r->clb + slot * HEADER_BYTES + HEADER_PRDBC, moved, 4);
    r->is |= r->cur.interrupt ? IS_DPS : 0;
    if (d2h) {
        ahci_fis_d2h(p, status, error, true);
    } else {
        set_tfd(p, status, error);
    }
    if ((status & ATA_ERR) == 0) {
        r->ci &= ~(1u << slot);
    }
    p->drive.r.irq = false;
}

/* Moves the rest of a DRQ block between drive and descriptors. False when they end before it. */
static bool move_block(struct ahci_port *p, bool to_guest)
{
    struct ata *d = &p->drive;
    struct ahci_cursor *cur = &p->r.cur;
    struct window w = {.n = 0};
    uint32_t len = d->r.buf_end - d->r.buf_pos;
    bool enough = true;
    while (len > 0) {
        if (enough && cur->left == 0 && !next_prd(p, cur, &w)) {
            if (!to_guest) {
                return false;
            }
            enough = false; /* the drive sends the rest nevertheless */
        }
        size_t want = enough && cur->left < len ? cur->left : len, got = 0;
        uint8_t *at = enough ? guestmem_span(p->parent->mem, cur->addr, want, &got) : NULL;
        if (at == NULL) {
            got = enough ? got : want;
            got = got > SCRATCH_BYTES ? SCRATCH_BYTES : got;
        }
        uint32_t n = (uint32_t)got;
        if (to_guest) {
            (void)ata_data_in(d, at != NULL ? at : nowhere, n);
            if (at != NULL) {
                guestmem_dirtied(p->parent->mem, cur->addr, n);
            }
        } else {
            (void)ata_data_out(d, at != NULL ? at : ones, n);
        }
        if (enough) {
            cur->addr += n;
            cur->left -= n;
            cur->moved += n;
        }
        len -= n;
    }
    return enough;
}

/* One DRQ block: PIO setup FIS and data, SATA 2.6 10.3.9 to 10.3.11. */
static void pio_block(struct ahci_port *p)
{
    struct ata *d = &p->drive;
    struct ahci_port_regs *r = &p->r;
    bool in = d->r.phase == ATA_PIO_IN, cdb = !in && d->r.next == ATA_NEXT_CDB;
    bool packet = d->r.command == CMD_PACKET;
    bool interrupt = !cdb && (in || !r->first_block);
    uint32_t len = d->r.buf_end - d->r.buf_pos;
    uint8_t fis[20], status = d->r.status, error = d->r.error;

    fill(p, fis, FIS_PIO_SETUP, (uint8_t)((in ? FIS_D : 0) | (interrupt ? FIS_I : 0)));
    pci_set16(fis, 16, (uint16_t)len);
    if (cdb) {
        (void)ata_data_out(d, r->acmd, ATA_CDB);
    } else {
        r->first_block = false;
        if (!move_block(p, in)) {
            r->overflow = true;
            r->is |= in ? IS_OFS : 0;
            ata_soft_reset(d); /* the command ends here */
        }
    }
    bool last = d->r.phase == ATA_IDLE;
    fis[2] = status;
    fis[3] = error;
    fis[15] = last ? ATA_DRDY | ATA_DSC : ATA_BSY | ATA_DRDY | ATA_DSC;
    post(p, RFIS_PIO_SETUP, fis, sizeof(fis));
    r->tfd = (uint16_t)(fis[15] | error << 8);
    r->is |= interrupt ? IS_PSS : 0;
    if (last && in && !packet) {
        plain_finish(p, false); /* the setup FIS carried the end status */
    }
}

/* Moves on with the plain command until it ends, waits for the image, or has had its share. */
static void plain_advance(struct ahci_port *p, uint32_t *budget)
{
    struct ata *d = &p->drive;
    while (p->r.plain != AHCI_NO_SLOT) {
        if (d->r.phase == ATA_IDLE) {
            plain_finish(p, true);
        } else if (d->r.phase != ATA_PIO_IN && d->r.phase != ATA_PIO_OUT) {
            return;
        } else if (*budget == 0) {
            bottom_half_schedule(&p->bh);
            return;
        } else {
            uint32_t cost = d->r.buf_end - d->r.buf_pos + ATA_DMA_BUDGET / 256;
            pio_block(p);
            *budget = cost < *budget ? *budget - cost : 0;
        }
    }
    if ((p->r.tfd & ATA_BSY) != 0 && d->cfg.present && d->r.phase == ATA_IDLE &&
        (d->r.status & ATA_BSY) == 0 && !p->r.sig_pending && !p->r.offline) {
        ahci_fis_d2h(p, d->r.status, d->r.error, true); /* PxCMD.ST was cleared under it */
    }
}

static void plain_command(struct ahci_port *p, unsigned slot, const uint8_t *fis, uint64_t table)
{
    /* Extended byte first: the register keeps both. SATA 2.6, 10.3.4. */
    static const struct {
        uint8_t reg, at;
    } order[] = {
        {ATA_ERROR, 11},    {ATA_ERROR, 3},    {ATA_COUNT, 13},  {ATA_COUNT, 12},
        {ATA_LBA_LOW, 8},   {ATA_LBA_LOW, 4},  {ATA_LBA_MID, 9}, {ATA_LBA_MID, 5},
        {ATA_LBA_HIGH, 10}, {ATA_LBA_HIGH, 6}, {ATA_DEVICE, 7},
    };
    struct ahci_port_regs *r = &p->r;
    r->plain = (uint8_t)slot;
    r->overflow = false;
    r->first_block = true;
    memset(r->acmd, 0, sizeof(r->acmd));
    if (fis[H2D_COMMAND] == CMD_PACKET) {
        guestmem_read(p->parent->mem, table + TABLE_ACMD, r->acmd, sizeof(r->acmd));
    }
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        ata_reg_write(&p->drive, order[i].reg, fis[order[i].at]);
    }
    r->tfd |= ATA_BSY;
    ata_command(&p->drive, fis[H2D_COMMAND]);
}

/* ---- struct ata's host ---- */

static void drive_irq(void *host, struct ata *d)
{
    struct ahci_port *p = host;
    if (d->r.irq) {
        ahci_port_wake(p);
    }
}

static void drive_reset_done(void *host, struct ata *d)
{
    struct ahci_port *p = host;
    (void)d;
    ahci_port_wake(p);
}

static bool drive_dma_ready(void *host, struct ata *d)
{
    const struct ahci_port *p = host;
    (void)d;
    return p->r.plain != AHCI_NO_SLOT && pci_master(&p->parent->pd);
}

static int drive_dma_map(void *host, struct ata_sg *sg, uint32_t unit, uint32_t max, bool to_guest)
{
    struct ahci_port *p = host;
    p->mark = p->r.cur;
    return ahci_map(p, &p->r.cur, sg, unit, max, to_guest);
}

static void drive_dma_unmap(void *host, struct ata_sg *sg, bool to_guest)
{
    ahci_unmap(host, sg, to_guest);
}

static void drive_dma_rewind(void *host)
{
    struct ahci_port *p = host;
    p->r.cur = p->mark;
}

static bool drive_dma_copy(void *host, uint8_t *buf, uint32_t len, bool to_guest)
{
    struct ahci_port *p = host;
    return ahci_copy(p, &p->r.cur, buf, len, to_guest);
}

static void drive_dma_end(void *host, struct ata *d, bool ran_out)
{
    struct ahci_port *p = host;
    if (ran_out) {
        p->r.overflow = true;
        p->r.is |= d->r.write ? 0 : IS_OFS;
        ahci_port_wake(p);
    }
}

static bool drive_read_log(void *host, struct ata *d, uint8_t page, uint8_t *buf)
{
    struct ahci_port *p = host;
    (void)d;
    if (page != 0x00 && page != 0x10) {
        return false;
    }
    memset(buf, 0, ATA_SECTOR);
    if (page == 0x10) {
        ahci_ncq_log(p, buf);
    } else {
        buf[0] = 1;        /* directory, version 1 */
        buf[2 * 0x10] = 1; /* page 10h has one sector */
    }
    return true;
}

const struct ata_host_ops ahci_drive_ops = {
    .irq = drive_irq,
    .dma_ready = drive_dma_ready,
    .dma_map = drive_dma_map,
    .dma_unmap = drive_dma_unmap,
    .dma_rewind = drive_dma_rewind,
    .dma_copy = drive_dma_copy,
    .dma_end = drive_dma_end,
    .reset_done = drive_reset_done,
    .read_log = drive_read_log,
};

/* ---- the command list ---- */

bool ahci_port_stale(const struct ahci_port *p)
{
    return p->stale > 0 || (p->drive.h.in_flight && p->r.plain == AHCI_NO_SLOT);
}

void ahci_port_abandon(struct ahci_port *p)
{
    ahci_ncq_abandon(p);
    p->r.plain = AHCI_NO_SLOT;
    p->r.overflow = false;
    p->r.queue_error = false;
    ata_soft_reset(&p->drive);
}

void ahci_port_settle(struct ahci_port *p)
{
    struct ahci_port_regs *r = &p->r;
    const struct ata *d = &p->drive;
    if (ahci_port_stale(p)) {
        return;
    }
    if ((r->cmd & CMD_ST) == 0) {
        r->cmd &= ~(uint32_t)CMD_CR;
    }
    if (r->sig_pending && d->cfg.present && !r->offline && !r->srst && (r->cmd & CMD_FR) != 0 &&
        (d->r.status & ATA_BSY) == 0) {
        r->sig_pending = false;
        r->sig = (uint32_t)d->r.lba_high[0] << 24 | (uint32_t)d->r.lba_mid[0] << 16 |
                 (uint32_t)d->r.lba_low[0] << 8 | d->r.count[0];
        ahci_fis_d2h(p, d->r.status, d->r.error, false);
    }
}

/* Software reset: a FIS with SRST set, one with it clear. SATA 2.6, 11.3. */
static void device_control(struct ahci_port *p, unsigned slot, uint8_t control)
{
    struct ahci_port_regs *r = &p->r;
    bool srst = (control & CONTROL_SRST) != 0;
    r->ci &= ~(1u << slot);
    if (srst && !r->srst) {
        ahci_port_abandon(p);
    } else if (!srst && r->srst) {
        r->sig_pending = true;
        r->tfd |= ATA_BSY;
    }
    r->srst = srst;
    ahci_port_settle(p);
}

/* The port waits until PxCMD.ST is cleared. */
static void refuse(struct ahci_port *p, uint32_t why)
{
    p->r.is |= why;
    p->r.halted = true;
}

/* Reads a slot's header and FIS, once, and hands it on. */
static void fetch(struct ahci_port *p, unsigned slot)
{
    struct guestmem *mem = p->parent->mem;
    struct ahci_port_regs *r = &p->r;
    uint8_t h[HEADER_BYTES], fis[H2D_BYTES];
    guestmem_read(mem, r->clb + slot * HEADER_BYTES, h, sizeof(h));
    uint64_t table = (uint64_t)pci_get32(h, 12) << 32 | (pci_get32(h, 8) & ~0x7fu);
    const struct ahci_cursor cur = {.table = table + TABLE_PRDT, .count = pci_get16(h, 2)};
    guestmem_read(mem, table, fis, sizeof(fis));
    trace("ahci", "command", "port %u slot %u: %02x %02x %02x, %u descriptors", p->number, slot,
          fis[0], fis[1], fis[2], cur.count);
    r->cmd = (r->cmd & ~(0x1fu << CMD_CCS_SHIFT)) | slot << CMD_CCS_SHIFT;
    if ((h[0] & HEADER_CFL) < 2 || fis[0] != FIS_H2D) {
        refuse(p, IS_IFS); /* R_ERR */
    } else if ((fis[1] & FIS_PMP) != 0) {
        refuse(p, 0); /* nobody there: no answer */
    } else if ((fis[1] & FIS_C) == 0) {
        device_control(p, slot, fis[H2D_CONTROL]);
    } else if (r->srst) {
        refuse(p, 0);
    } else if (r->queue_error && !(fis[H2D_COMMAND] == CMD_READ_LOG_EXT && fis[4] == 0x10)) {
        ahci_fis_d2h(p, ATA_DRDY | ATA_ERR, ATA_ABRT, true); /* ATA8-ACS 4.16: the log first */
    } else if ((fis[H2D_COMMAND] == CMD_READ_FPDMA || fis[H2D_COMMAND] == CMD_WRITE_FPDMA) &&
               p->requests != NULL) {
        ahci_ncq_command(p, slot, fis, &cur);
    } else if (ahci_ncq_busy(p)) {
        ahci_ncq_fail(p, AHCI_NO_SLOT, ATA_ABRT);
    } else {
        r->cur = cur;
        plain_command(p, slot, fis, table);
    }
}

static bool may_fetch(const struct ahci_port *p)
{
    const struct ahci_port_regs *r = &p->r;
    return (r->cmd & CMD_ST) != 0 && (r->cmd & CMD_CR) != 0 && r->ci != 0 && !r->halted &&
           !r->offline && p->drive.cfg.present && r->plain == AHCI_NO_SLOT &&
           (r->tfd & (ATA_BSY | ATA_DRQ)) == 0 && pci_master(&p->parent->pd) && !ahci_port_stale(p);
}

void ahci_port_wake(struct ahci_port *p)
{
    if (!p->running) {
        bottom_half_schedule(&p->bh);
    }
}

void ahci_port_run(void *arg)
{
    struct ahci_port *p = arg;
    uint32_t budget = ATA_DMA_BUDGET;
    unsigned slot = p->r.cmd >> CMD_CCS_SHIFT & 0x1f;

    p->running = true;
    plain_advance(p, &budget);
    for (unsigned i = 0; i < AHCI_SLOTS && may_fetch(p); i++) {
        slot = (slot + 1) % AHCI_SLOTS;
        if ((p->r.ci >> slot & 1) != 0) {
            fetch(p, slot);
            plain_advance(p, &budget);
        }
    }
    budget = ahci_ncq_step(p, budget);
    ahci_ncq_report(p);
    ahci_port_settle(p);
    ahci_reset_settle(p->parent);
    p->running = false;
    if (may_fetch(p) || ahci_ncq_waits(p)) {
        bottom_half_schedule(&p->bh);
    }
    ahci_update_irq(p->parent);
}
