/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What disks and CD drives have in common: registers, resets, DRQ blocks, DMA, image requests.
 * ATA/ATAPI-6 chapters 7 to 9. */
#include "hw/ata.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- registers ---- */

uint8_t ata_reg_read(const struct ata *d, unsigned reg)
{
    const struct ata_regs *r = &d->r;
    unsigned old = r->hob ? 1 : 0;
    switch (reg) {
    case ATA_ERROR:
        return r->hob ? r->feature[1] : r->error;
    case ATA_COUNT:
        return r->count[old];
    case ATA_LBA_LOW:
        return r->lba_low[old];
    case ATA_LBA_MID:
        return r->lba_mid[old];
    case ATA_LBA_HIGH:
        return r->lba_high[old];
    case ATA_DEVICE:
        return r->device;
    case ATA_STATUS:
        return d->cfg.present ? r->status : 0;
    default:
        return 0xff;
    }
}

static void push(uint8_t pair[2], uint8_t value)
{
    pair[1] = pair[0];
    pair[0] = value;
}

void ata_reg_write(struct ata *d, unsigned reg, uint8_t value)
{
    struct ata_regs *r = &d->r;
    if ((r->status & (ATA_BSY | ATA_DRQ)) != 0) {
        return; /* ATA-6 7.x: the registers belong to the device now */
    }
    r->hob = false;
    switch (reg) {
    case ATA_ERROR:
        push(r->feature, value);
        break;
    case ATA_COUNT:
        push(r->count, value);
        break;
    case ATA_LBA_LOW:
        push(r->lba_low, value);
        break;
    case ATA_LBA_MID:
        push(r->lba_mid, value);
        break;
    case ATA_LBA_HIGH:
        push(r->lba_high, value);
        break;
    case ATA_DEVICE:
        r->device = value | ATA_DEVICE_OBSOLETE;
        break;
    default:
        break;
    }
}

static void set_irq(struct ata *d, bool irq)
{
    d->r.irq = irq;
    d->h.ops->irq(d->h.host, d);
}

void ata_irq_raise(struct ata *d)
{
    set_irq(d, true);
}

void ata_irq_clear(struct ata *d)
{
    if (d->r.irq) {
        set_irq(d, false);
    }
}

void ata_ok(struct ata *d)
{
    d->r.phase = ATA_IDLE;
    d->r.status = ATA_DRDY | ATA_DSC;
    ata_irq_raise(d);
}

void ata_fail(struct ata *d, uint8_t error)
{
    d->r.phase = ATA_IDLE;
    d->r.error = error;
    d->r.status = ATA_DRDY | ATA_ERR;
    ata_irq_raise(d);
}

/* ---- resets ---- */

enum { MULTIPLE_DEFAULT = 16 };

/* ATA-6 9.12: what reset and some commands leave in the registers. */
void ata_signature(struct ata *d)
{
    struct ata_regs *r = &d->r;
    uint8_t mid = !d->cfg.present ? 0xff : d->cfg.cdrom ? 0x14 : 0;
    uint8_t high = !d->cfg.present ? 0xff : d->cfg.cdrom ? 0xeb : 0;
    r->hob = false;
    r->count[0] = 1;
    r->lba_low[0] = 1;
    r->lba_mid[0] = mid;
    r->lba_high[0] = high;
    r->count[1] = r->lba_low[1] = r->lba_mid[1] = r->lba_high[1] = r->feature[1] = 0;
    r->device = ATA_DEVICE_OBSOLETE;
}

void ata_diagnose(struct ata *d)
{
    ata_signature(d);
    d->r.error = 1; /* passed */
    d->r.phase = ATA_IDLE;
    d->r.status =
        d->cfg.cdrom ? 0 : ATA_DRDY | ATA_DSC; /* packet devices are not DRDY after a reset */
}

static void stop_transfer(struct ata *d)
{
    d->r.phase = ATA_IDLE;
    d->r.next = ATA_NEXT_END;
    d->r.left = 0;
    d->r.buf_pos = d->r.buf_end = d->r.buf_fill = 0;
    d->h.careful = false;
    bottom_half_cancel(&d->h.bh);
}

static void reset_finish(struct ata *d)
{
    stop_transfer(d);
    ata_diagnose(d);
    d->r.standby = d->r.locked = false;
    if (!d->r.keep) { /* ATA-6 8.46.20; the transfer mode stays in any case, 8.46.11 */
        d->r.multiple = d->cfg.cdrom ? 0 : MULTIPLE_DEFAULT;
    }
    d->r.sense_key = d->r.asc = d->r.ascq = 0;
}

void ata_soft_reset(struct ata *d)
{
    ata_irq_clear(d);
    if (d->h.in_flight) {
        stop_transfer(d);
        d->h.orphan = true;
        d->r.phase = ATA_BUSY;
        d->r.status = ATA_BSY;
        return;
    }
    reset_finish(d);
}

void ata_settle(struct ata *d)
{
    if (d->h.in_flight) {
        bool running = d->h.running;
        d->h.running = true;            /* or a long transfer would go on in here to its end */
        (void)block_drain(d->h.medium); /* its error has reached io_done() */
        d->h.running = running;
        ata_dma_kick(d);
    }
}

void ata_power_on(struct ata *d)
{
    ata_soft_reset(d);
    ata_settle(d);
    bool tray_open = d->r.tray_open; /* mechanical: the board's reset does not move it */
    ata_irq_clear(d);
    memset(&d->r, 0, sizeof(d->r));
    d->r.tray_open = tray_open;
    d->r.heads = d->cfg.heads;
    d->r.spt = d->cfg.spt;
    d->r.udma = 5 + 1;
    d->r.write_cache = d->r.look_ahead = true;
    d->r.smart = d->r.smart_autosave = true;
    reset_finish(d);
}

int ata_detach(struct ata *d)
{
    ata_soft_reset(d);
    ata_settle(d);
    int rc = d->h.medium != NULL ? block_drain(d->h.medium) : 0;
    d->h.medium = NULL;
    d->cfg.present = false;
    ata_power_on(d);
    return rc;
}

/* ---- image requests ---- */

static void io_done(struct block_request *req, int error)
{
    struct ata *d = req->opaque;
    d->h.error = error;
    if (d->h.submitting) {
        d->h.early = true;
        return;
    }
    d->h.in_flight = false;
    if (!d->h.orphan) {
        d->h.done(d, error);
        return;
    }
    d->h.orphan = false;
    if (d->h.sg_mapped) {
        d->h.sg_mapped = false;
        d->h.ops->dma_unmap(d->h.host, &d->h.sg, req->op == BLOCK_READ);
    }
    reset_finish(d);
    if (d->h.ops->reset_done != NULL) {
        d->h.ops->reset_done(d->h.host, d);
    }
}

/* Submits d->h.req; done() runs on the spot when the backend answers at once. */
static void submit(struct ata *d, enum block_op op, uint64_t offset, uint64_t len,
                   struct iovec *iov, int iovcnt, void (*done)(struct ata *d, int error))
{
    struct block_request *req = &d->h.req;
    req->op = op;
    req->fua = op == BLOCK_WRITE && (d->r.fua || !d->r.write_cache);
    req->offset_bytes = offset;
    req->length_bytes = len;
    req->iov = iov;
    req->iovcnt = iovcnt;
    req->done = io_done;
    req->opaque = d;
    d->h.done = done;
    if (d->h.medium == NULL) {
        done(d, -ENOMEDIUM); /* taken out between two requests of a transfer */
        return;
    }
    d->h.in_flight = true;
    d->h.early = false;
    d->h.submitting = true;
    block_submit(d->h.medium, req);
    d->h.submitting = false;
    if (d->h.early) {
        d->h.in_flight = false;
        done(d, d->h.error);
    }
}

void ata_buf_io(struct ata *d, enum block_op op, uint64_t offset, uint32_t pos, uint32_t len,
                void (*done)(struct ata *d, int error))
{
    d->h.iov.iov_base = d->h.buf + pos;
    d->h.iov.iov_len = len;
    submit(d, op, offset, len, &d->h.iov, 1, done);
}

void ata_range_io(struct ata *d, enum block_op op, uint64_t offset, uint64_t len,
                  void (*done)(struct ata *d, int error))
{
    submit(d, op, offset, len, NULL, 0, done);
}

/* ---- PIO: DRQ blocks ---- */

void ata_pio(struct ata *d, enum ata_phase phase, enum ata_next next, uint32_t pos, uint32_t end,
             bool interrupt)
{
    d->r.phase = (uint8_t)phase;
    d->r.next = (uint8_t)next;
    d->r.buf_pos = pos;
    d->r.buf_end = end;
    if (d->r.buf_fill < end) {
        d->r.buf_fill = end;
    }
    d->r.status = ATA_DRDY | ATA_DSC | ATA_DRQ;
    if (interrupt) {
        ata_irq_raise(d);
    }
}

static void block_moved(struct ata *d)
{
    d->r.phase = ATA_BUSY;
    d->r.status = ATA_BSY | ATA_DRDY;
    ata_next[d->r.next](d);
}

uint32_t ata_data_in(struct ata *d, void *buf, uint32_t len)
{
    struct ata_regs *r = &d->r;
    if (r->phase != ATA_PIO_IN) {
        return 0;
    }
    uint32_t n = r->buf_end - r->buf_pos;
    if (n > len) {
        n = len;
    }
    memcpy(buf, d->h.buf + r->buf_pos, n);
    r->buf_pos += n;
    if (r->buf_pos == r->buf_end) {
        block_moved(d);
    }
    return n;
}

uint32_t ata_data_out(struct ata *d, const void *buf, uint32_t len)
{
    struct ata_regs *r = &d->r;
    if (r->phase != ATA_PIO_OUT) {
        return 0;
    }
    uint32_t n = r->buf_end - r->buf_pos;
    if (n > len) {
        n = len;
    }
    memcpy(d->h.buf + r->buf_pos, buf, n);
    r->buf_pos += n;
    if (r->buf_pos == r->buf_end) {
        block_moved(d);
    }
    return n;
}

static void next_end(struct ata *d)
{
    d->r.phase = ATA_IDLE;
    d->r.status = ATA_DRDY | ATA_DSC;
}

void (*const ata_next[ATA_NEXTS])(struct ata *d) = {
    [ATA_NEXT_END] = next_end,
    [ATA_NEXT_READ] = ata_disk_read_next,
    [ATA_NEXT_WRITE] = ata_disk_write_block,
    [ATA_NEXT_CDB] = atapi_cdb,
    [ATA_NEXT_PACKET_IN] = atapi_packet_in,
};

/* ---- DMA ---- */

static void dma_run(struct ata *d);

static uint32_t unit_bytes(const struct ata *d)
{
    return d->cfg.cdrom ? ATA_CD_SECTOR : ATA_SECTOR;
}

static void dma_finish(struct ata *d, bool ran_out)
{
    d->h.ops->dma_end(d->h.host, d, ran_out);
    if (ran_out) {
        /* PIIX datasheet, bus master status: a list that is too short ends the transfer without an
         * interrupt. */
        stop_transfer(d);
        d->r.status = ATA_DRDY | ATA_DSC;
    } else if (d->cfg.cdrom) {
        atapi_dma_done(d);
    } else {
        ata_disk_dma_done(d);
    }
}

static void dma_moved(struct ata *d, uint32_t sectors)
{
    d->r.lba += sectors;
    d->r.left -= sectors;
    if (d->r.left == 0) {
        dma_finish(d, false);
    }
}

static void dma_error(struct ata *d, int error)
{
    d->h.ops->dma_end(d->h.host, d, false);
    if (d->cfg.cdrom) {
        atapi_io_error(d, error);
    } else {
        ata_disk_io_error(d, error);
    }
}

static void dma_direct_done(struct ata *d, int error)
{
    d->h.sg_mapped = false;
    d->h.ops->dma_unmap(d->h.host, &d->h.sg, !d->r.write);
    uint32_t sectors = (uint32_t)(d->h.req.length_bytes / unit_bytes(d));
    if (error < 0 && sectors > 1 && error != -ENOMEDIUM) {
        /* The guest is to get what comes before the bad sector, and its number. */
        d->h.careful = true;
        d->h.ops->dma_rewind(d->h.host);
    } else if (error < 0) {
        dma_error(d, error);
    } else {
        dma_moved(d, sectors);
    }
    dma_run(d);
}

/* One sector through buf, when the guest's list has more pieces per sector than an image request
 * can carry, or room for a part of a sector only. */
static void dma_bounce_done(struct ata *d, int error)
{
    if (error < 0) {
        dma_error(d, error);
    } else if (!d->r.write && !d->h.ops->dma_copy(d->h.host, d->h.buf, unit_bytes(d), true)) {
        dma_finish(d, true);
    } else {
        dma_moved(d, 1);
    }
    dma_run(d);
}

static uint32_t dma_step_image(struct ata *d)
{
    uint32_t unit = unit_bytes(d);
    uint32_t max = d->r.left < ATA_DMA_CHUNK / unit ? d->r.left * unit : ATA_DMA_CHUNK;
    uint64_t offset = d->r.lba * unit;
    enum block_op op = d->r.write ? BLOCK_WRITE : BLOCK_READ;
    if (d->h.careful) {
        max = unit;
    }
    int n = d->h.ops->dma_map(d->h.host, &d->h.sg, unit, max, !d->r.write);
    if (n < 0 && d->r.write) {
        dma_finish(d, true);
        return 0;
    }
    if (n > 0) {
        d->h.sg_mapped = true;
        submit(d, op, offset, (uint32_t)n, d->h.sg.iov, d->h.sg.n, dma_direct_done);
        return d->h.careful ? ATA_DMA_BUDGET / 64 : (uint32_t)n;
    }
    if (d->r.write && !d->h.ops->dma_copy(d->h.host, d->h.buf, unit, false)) {
        dma_finish(d, true);
        return 0;
    }
    ata_buf_io(d, op, offset, 0, unit, dma_bounce_done);
    return ATA_DMA_BUDGET / 64; /* scattered lists cost more than their bytes */
}

static uint32_t dma_step_buffer(struct ata *d)
{
    uint32_t len = d->r.buf_end - d->r.buf_pos;
    if (!d->h.ops->dma_copy(d->h.host, d->h.buf + d->r.buf_pos, len, !d->r.write)) {
        dma_finish(d, true);
        return 0;
    }
    d->r.buf_pos = d->r.buf_end;
    dma_finish(d, false);
    return len;
}

static void dma_raw_done(struct ata *d, int error)
{
    if (error < 0) {
        dma_error(d, error);
    } else {
        atapi_fill_raw(d, 0, d->r.lba);
        if (d->h.ops->dma_copy(d->h.host, d->h.buf, ATA_CD_RAW, true)) {
            dma_moved(d, 1);
        } else {
            dma_finish(d, true);
        }
    }
    dma_run(d);
}

static uint32_t dma_step_raw(struct ata *d)
{
    ata_buf_io(d, BLOCK_READ, d->r.lba * ATA_CD_SECTOR, 16, ATA_CD_SECTOR, dma_raw_done);
    return ATA_DMA_BUDGET / 64;
}

static uint32_t dma_step_lost(struct ata *d)
{
    d->h.ops->dma_end(d->h.host, d, false);
    atapi_medium_lost(d);
    return 0;
}

static uint32_t (*const dma_steps[ATA_STREAMS])(struct ata *d) = {
    [ATA_STREAM_LOST] = dma_step_lost,
    [ATA_STREAM_IMAGE] = dma_step_image,
    [ATA_STREAM_BUFFER] = dma_step_buffer,
    [ATA_STREAM_RAW] = dma_step_raw,
};

/* Moves on with a DMA transfer until it ends, waits for the image or the host, or has had its share
 * of the loop. */
static void dma_run(struct ata *d)
{
    uint32_t budget = ATA_DMA_BUDGET;
    if (d->h.running) {
        return; /* an inline completion below us */
    }
    d->h.running = true;
    while (d->r.phase == ATA_DMA && !d->h.in_flight && d->h.ops->dma_ready(d->h.host, d)) {
        if (budget == 0) {
            bottom_half_schedule(&d->h.bh);
            break;
        }
        uint32_t n = dma_steps[d->r.stream](d);
        budget = n < budget ? budget - n : 0;
    }
    d->h.running = false;
}

static void on_bh(void *arg)
{
    struct ata *d = arg;
    if (d->r.phase == ATA_BUSY && d->r.stream == ATA_STREAM_TRIM && !d->h.in_flight) {
        ata_trim_step(d);
    } else {
        dma_run(d);
    }
}

void ata_dma(struct ata *d)
{
    d->r.phase = ATA_DMA;
    d->r.status = ATA_BSY | ATA_DRDY | ATA_DSC;
    ata_dma_kick(d);
}

void ata_dma_kick(struct ata *d)
{
    /* Not now: the guest gets its answer first, and the transfer overlaps with what it does next.
     */
    if (d->r.phase == ATA_DMA && !d->h.in_flight && d->h.ops->dma_ready(d->h.host, d)) {
        bottom_half_schedule(&d->h.bh);
    }
}

/* ---- life and saved state ---- */

void ata_string(uint16_t *w, unsigned first, unsigned n, const char *s)
{
    size_t len = strlen(s);
    for (unsigned i = 0; i < 2 * n; i++) {
        unsigned c = i < len ? (uint8_t)s[i] : ' ';
        if (i % 2 == 0) {
            w[first + i / 2] = (uint16_t)(c << 8);
        } else {
            w[first + i / 2] |= (uint16_t)c;
        }
    }
}

int ata_init(struct ata *d, const struct ata_config *cfg, struct block *medium,
             const struct ata_host_ops *ops, void *host, struct loop *loop)
{
    memset(d, 0, sizeof(*d));
    d->cfg = *cfg;
    d->h.ops = ops;
    d->h.host = host;
    d->h.loop = loop;
    d->h.medium = medium;
    if (cfg->present) {
        d->h.buf = calloc(1, ATA_BUF_BYTES);
        if (d->h.buf == NULL) {
            return -ENOMEM;
        }
    }
    bottom_half_init(&d->h.bh, loop, on_bh, d);
    return 0;
}

void ata_fini(struct ata *d)
{
    if (d->h.ops == NULL) {
        return; /* never made */
    }
    ata_soft_reset(d);
    ata_settle(d);
    bottom_half_cancel(&d->h.bh);
    free(d->h.buf);
    d->h.buf = NULL;
}

static void save_pair(struct save_stream *s, uint8_t pair[2])
{
    save_u8(s, &pair[0]);
    save_u8(s, &pair[1]);
}

static void save_regs(struct save_stream *s, struct ata_regs *r)
{
    uint8_t *const bytes[] = {
        &r->device, &r->status,       &r->error,     &r->command, &r->multiple,     &r->heads,
        &r->spt,    &r->swdma,        &r->mwdma,     &r->udma,    &r->smart_errors, &r->phase,
        &r->next,   &r->stream,       &r->sense_key, &r->asc,     &r->ascq,         &r->test_last,
        &r->ua_asc, &r->media_events, &r->raw_flags};
    bool *const flags[] = {&r->keep,        &r->tests_full, &r->hob,   &r->irq,
                           &r->write_cache, &r->look_ahead, &r->smart, &r->smart_autosave,
                           &r->standby,     &r->write,      &r->fua,   &r->packet_dma,
                           &r->tray_open,   &r->locked};
    uint32_t *const longs[] = {&r->buf_pos, &r->buf_end, &r->buf_fill, &r->left};

    save_pair(s, r->feature);
    save_pair(s, r->count);
    save_pair(s, r->lba_low);
    save_pair(s, r->lba_mid);
    save_pair(s, r->lba_high);
    for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        save_u8(s, bytes[i]);
    }
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        save_bool(s, flags[i]);
    }
    for (size_t i = 0; i < sizeof(longs) / sizeof(longs[0]); i++) {
        save_u32(s, longs[i]);
    }
    save_u16(s, &r->block_sectors);
    save_u16(s, &r->byte_limit);
    save_u64(s, &r->lba);
    save_bytes(s, r->cdb, sizeof(r->cdb));
    save_bytes(s, r->tests, sizeof(r->tests));
}

/* What the transfer code relies on. Only drives that wait for the guest or the loop are saved, none
 * with a request in flight. */
static bool transfer_valid(const struct ata *d, const struct ata_regs *r)
{
    bool cd = d->cfg.cdrom;
    switch (r->phase) {
    case ATA_IDLE:
        return true;
    case ATA_BUSY:
        return !cd && r->stream == ATA_STREAM_TRIM;
    case ATA_PIO_IN:
        return r->buf_pos < r->buf_end && r->next != ATA_NEXT_CDB && r->next != ATA_NEXT_WRITE &&
               (r->next != ATA_NEXT_READ || (!cd && r->block_sectors > 0)) &&
               (r->next != ATA_NEXT_PACKET_IN || (cd && r->byte_limit >= 2));
    case ATA_PIO_OUT:
        return r->buf_pos < r->buf_end &&
               ((r->next == ATA_NEXT_CDB && cd && r->buf_end == ATA_CDB) ||
                (r->next == ATA_NEXT_WRITE && !cd && r->block_sectors > 0 &&
                 r->buf_end % ATA_SECTOR == 0 && r->buf_end / ATA_SECTOR <= r->left));
    case ATA_DMA:
        return r->stream == ATA_STREAM_BUFFER ||
               (r->left > 0 &&
                (r->stream == ATA_STREAM_IMAGE ||
                 (cd && (r->stream == ATA_STREAM_RAW || r->stream == ATA_STREAM_LOST))) &&
                !(cd && r->write));
    default:
        return false;
    }
}

static bool regs_valid(const struct ata *d, const struct ata_regs *r)
{
    uint64_t bytes = d->h.medium != NULL ? block_size_bytes(d->h.medium) : 0;
    uint64_t sectors = bytes / unit_bytes(d);
    return r->next < ATA_NEXTS && r->stream < ATA_STREAMS && r->swdma <= 3 && r->mwdma <= 3 &&
           r->udma <= 6 && r->multiple <= 16 && (r->multiple & (r->multiple - 1)) == 0 &&
           r->heads <= 16 && r->test_last <= ATA_SELF_TESTS && r->buf_pos <= r->buf_end &&
           r->buf_end <= r->buf_fill && r->buf_fill <= ATA_BUF_BYTES && r->block_sectors <= 16 &&
           (d->cfg.present || r->phase == ATA_IDLE) &&
           (r->left == 0 || (r->lba <= sectors && r->left <= sectors - r->lba)) &&
           transfer_valid(d, r);
}

int ata_state(struct ata *d, struct save_stream *s)
{
    if (!s->loading) {
        if (d->h.in_flight) {
            ata_settle(d); /* requests are not saved */
        }
        save_regs(s, &d->r);
        save_bytes(s, d->h.buf, d->r.buf_fill);
        return s->error;
    }
    struct ata_regs r = d->r;
    save_regs(s, &r);
    if (s->error != 0) {
        return s->error;
    }
    if (!regs_valid(d, &r) || (r.buf_fill > 0 && d->h.buf == NULL)) {
        return -EINVAL;
    }
    ata_soft_reset(d);
    ata_settle(d);
    save_bytes(s, d->h.buf, r.buf_fill);
    if (s->error != 0) {
        return s->error;
    }
    d->r = r;
    d->h.ops->irq(d->h.host, d);
    if (r.phase == ATA_DMA || r.phase == ATA_BUSY) {
        bottom_half_schedule(&d->h.bh);
    }
    return 0;
}
