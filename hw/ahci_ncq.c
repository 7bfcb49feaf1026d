/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Queued commands (NCQ): READ and WRITE FPDMA QUEUED, SATA 2.6 13.6; each has an image request of
 * its own, and ends when that ends. */
#include <errno.h>
#include <string.h>

#include "hw/ahci_int.h"

enum { FPDMA_MAX_SECTORS = 65536, CMD_WRITE_FPDMA = 0x61, LOG_NQ = 0x80, DEVICE_FUA = 0x80 };

static uint64_t lba48(const uint8_t *fis)
{
    return (uint64_t)fis[4] | (uint64_t)fis[5] << 8 | (uint64_t)fis[6] << 16 |
           (uint64_t)fis[8] << 24 | (uint64_t)fis[9] << 32 | (uint64_t)fis[10] << 40;
}

void ahci_ncq_command(struct ahci_port *p, unsigned slot, const uint8_t *fis,
                      const struct ahci_cursor *cur)
{
    struct ahci_queued *q = &p->r.queued[slot];
    uint64_t sectors = p->drive.cfg.sectors;
    uint32_t count = fis[3] | (uint32_t)fis[11] << 8;

    if (q->active || (p->r.done >> slot & 1) != 0) {
        ahci_ncq_fail(p, AHCI_NO_SLOT, ATA_ABRT); /* its tag is in use */
        return;
    }
    *q = (struct ahci_queued){
        .active = true,
        .write = fis[2] == CMD_WRITE_FPDMA,
        .fua = (fis[7] & DEVICE_FUA) != 0,
        .device = fis[7],
        .lba = lba48(fis),
        .left = count == 0 ? FPDMA_MAX_SECTORS : count,
        .cur = *cur,
    };
    p->requests[slot].careful = false;
    p->drive.r.standby = false;
    /* Taken: the drive releases the bus with a D2H FIS, without interrupt. */
    p->r.ci &= ~(1u << slot);
    p->drive.r.count[0] = fis[12];
    ahci_fis_d2h(p, ATA_DRDY | ATA_DSC, 0, false);
    if ((fis[7] & ATA_LBA) == 0 || fis[12] >> 3 != slot) {
        ahci_ncq_fail(p, slot, ATA_ABRT); /* AHCI 1.3.1, 5.6.4: the tag is the slot */
    } else if (q->lba >= sectors || q->left > sectors - q->lba) {
        ahci_ncq_fail(p, slot, ATA_IDNF);
    }
}

void ahci_ncq_report(struct ahci_port *p)
{
    if (p->r.done != 0) {
        uint32_t tags = p->r.done;
        p->r.done = 0;
        ahci_fis_sdb(p, tags, ATA_DRDY | ATA_DSC, 0);
    }
}

void ahci_ncq_fail(struct ahci_port *p, unsigned tag, uint8_t error)
{
    uint8_t *log = p->r.log, status = ATA_DRDY | ATA_ERR;

    ahci_ncq_report(p);
    memset(log, 0, sizeof(p->r.log));
    log[2] = status;
    log[3] = error;
    if (tag < AHCI_SLOTS) {
        const struct ahci_queued *q = &p->r.queued[tag];
        log[0] = (uint8_t)tag;
        for (unsigned i = 0; i < 3; i++) {
            log[4 + i] = (uint8_t)(q->lba >> 8 * i);
            log[8 + i] = (uint8_t)(q->lba >> (24 + 8 * i));
        }
        log[7] = q->device;
        log[12] = (uint8_t)(tag << 3);
        ahci_fis_sdb(p, 0, status, error);
    } else {
        log[0] = LOG_NQ;
        ahci_fis_d2h(p, status, error, true);
    }
    ahci_ncq_abandon(p);
    p->r.queue_error = true;
}

void ahci_ncq_log(struct ahci_port *p, uint8_t *buf)
{
    uint8_t sum = 0;

    memcpy(buf, p->r.log, sizeof(p->r.log));
    for (unsigned i = 0; i < ATA_SECTOR - 1; i++) {
        sum = (uint8_t)(sum + buf[i]);
    }
    buf[ATA_SECTOR - 1] = (uint8_t)(0x100 - sum);
    p->r.queue_error = false;
}

void ahci_ncq_abandon(struct ahci_port *p)
{
    p->r.done = 0;
    for (unsigned i = 0; i < AHCI_SLOTS; i++) {
        p->r.queued[i].active = false;
        if (p->requests != NULL && p->requests[i].in_flight && !p->requests[i].stale) {
            p->requests[i].stale = true;
            p->stale++;
        }
    }
}

bool ahci_ncq_busy(const struct ahci_port *p)
{
    for (unsigned i = 0; i < AHCI_SLOTS; i++) {
        if (p->r.queued[i].active) {
            return true;
        }
    }
    return p->r.done != 0;
}

/* ---- image requests ---- */

static void io_done(struct block_request *req, int error)
{
    struct ahci_request *rq = req->opaque;
    struct ahci_port *p = rq->port;
    unsigned slot = (unsigned)(rq - p->requests);
    struct ahci_queued *q = &p->r.queued[slot];
    uint32_t sectors = (uint32_t)(req->length_bytes / ATA_SECTOR);

    rq->in_flight = false;
    p->in_flight--;
    ahci_port_wake(p);
    if (!rq->bounced) {
        ahci_unmap(p, &rq->sg, req->op == BLOCK_READ);
    }
    if (rq->stale) {
        rq->stale = false;
        p->stale--;
        return;
    }
    if (error < 0 && sectors > 1) {
        /* The guest is to get what comes before the bad sector, and its number. */
        rq->careful = true;
        q->cur = rq->mark;
        return;
    }
    if (error < 0) {
        ahci_ncq_fail(p, slot, q->write ? ATA_ABRT : ATA_UNC);
        return;
    }
    if (rq->bounced && !q->write && !ahci_copy(p, &q->cur, rq->bounce, ATA_SECTOR, true)) {
        p->r.is |= IS_OFS;
        ahci_ncq_fail(p, slot, ATA_ABRT);
        return;
    }
    q->lba += sectors;
    q->left -= sectors;
    if (q->left == 0) {
        p->r.is |= q->cur.interrupt ? IS_DPS : 0;
        q->active = false;
        p->r.done |= 1u << slot;
    }
}

/* Starts the next image request of a command. Returns what it costs of the budget. */
static uint32_t start(struct ahci_port *p, unsigned slot)
{
    struct ahci_queued *q = &p->r.queued[slot];
    struct ahci_request *rq = &p->requests[slot];
    struct block_request *req = &rq->req;
    uint32_t max = q->left < ATA_DMA_CHUNK / ATA_SECTOR ? q->left * ATA_SECTOR : ATA_DMA_CHUNK;
    bool small = rq->careful;

    rq->mark = q->cur;
    int n = ahci_map(p, &q->cur, &rq->sg, ATA_SECTOR, small ? ATA_SECTOR : max, !q->write);
    rq->bounced = n == 0;
    if (n == 0) { /* more pieces per sector than a request can carry */
        small = true;
        if (q->write && !ahci_copy(p, &q->cur, rq->bounce, ATA_SECTOR, false)) {
            n = -ENOSPC;
        }
    }
    if (n < 0) {
        p->r.is |= q->write ? 0 : IS_OFS;
        ahci_ncq_fail(p, slot, ATA_ABRT);
        return ATA_DMA_BUDGET / 64;
    }
    ahci_fis_dma_setup(p, slot, q->write);
    rq->bounce_iov = (struct iovec){rq->bounce, ATA_SECTOR};
    *req = (struct block_request){
        .op = q->write ? BLOCK_WRITE : BLOCK_READ,
        .fua = q->write && (q->fua || !p->drive.r.write_cache),
        .offset_bytes = q->lba * ATA_SECTOR,
        .length_bytes = n > 0 ? (uint32_t)n : ATA_SECTOR,
        .iov = n > 0 ? rq->sg.iov : &rq->bounce_iov,
        .iovcnt = n > 0 ? rq->sg.n : 1,
        .done = io_done,
        .opaque = rq,
    };
    rq->in_flight = true;
    p->in_flight++;
    block_submit(p->drive.h.medium, req); /* may be done on return */
    return small ? ATA_DMA_BUDGET / 64 : (uint32_t)n;
}

static bool waits(const struct ahci_port *p, unsigned slot)
{
    return p->r.queued[slot].active && !p->requests[slot].in_flight;
}

uint32_t ahci_ncq_step(struct ahci_port *p, uint32_t budget)
{
    if (p->requests == NULL || p->drive.h.medium == NULL || !pci_master(&p->parent->pd)) {
        return budget;
    }
    for (unsigned idle = 0; idle < AHCI_SLOTS && budget > 0; idle++) {
        unsigned slot = p->r.step;
        p->r.step = (uint8_t)((slot + 1) % AHCI_SLOTS);
        if (waits(p, slot)) {
            uint32_t cost = start(p, slot);
            budget = cost < budget ? budget - cost : 0;
            idle = 0;
        }
    }
    return budget;
}

bool ahci_ncq_waits(const struct ahci_port *p)
{
    for (unsigned i = 0; p->requests != NULL && i < AHCI_SLOTS; i++) {
        if (waits(p, i)) {
            return pci_master(&p->parent->pd);
        }
    }
    return false;
}

void ahci_ncq_drain(struct ahci_port *p)
{
    while (p->in_flight > 0) {
        (void)block_drain(p->drive.h.medium); /* errors have reached io_done() */
    }
}

/* ---- saved state ---- */

void ahci_cursor_state(struct ahci_cursor *c, struct save_stream *s)
{
    save_u64(s, &c->table);
    save_u32(s, &c->count);
    save_u32(s, &c->next);
    save_u64(s, &c->addr);
    save_u32(s, &c->left);
    save_u32(s, &c->moved);
    save_bool(s, &c->interrupt);
}

bool ahci_cursor_valid(const struct ahci_cursor *c)
{
    return c->count <= UINT16_MAX && c->next <= c->count && c->left <= AHCI_PRD_MAX;
}

int ahci_ncq_state(struct ahci_port_regs *r, struct ahci_port *p, struct save_stream *s)
{
    uint64_t sectors = p->requests != NULL ? p->drive.cfg.sectors : 0;

    save_u32(s, &r->done);
    save_u8(s, &r->step);
    save_bool(s, &r->queue_error);
    save_bytes(s, r->log, sizeof(r->log));
    if (r->step >= AHCI_SLOTS) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < AHCI_SLOTS; i++) {
        struct ahci_queued *q = &r->queued[i];
        save_bool(s, &q->active);
        if (!q->active) {
            *q = (struct ahci_queued){.active = false};
            continue;
        }
        save_bool(s, &q->write);
        save_bool(s, &q->fua);
        save_u8(s, &q->device);
        save_u64(s, &q->lba);
        save_u32(s, &q->left);
        ahci_cursor_state(&q->cur, s);
        if (s->loading && (q->left == 0 || q->lba > sectors || q->left > sectors - q->lba ||
                           !ahci_cursor_valid(&q->cur))) {
            return -EINVAL;
        }
    }
    return s->error;
}
