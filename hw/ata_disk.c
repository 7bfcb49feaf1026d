/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command table of both drive kinds, and what hard disks do. ATA/ATAPI-6 (T13/1410D) chapter 8;
 * DATA SET MANAGEMENT: ACS-2. */
#include <errno.h>
#include <string.h>

#include "hw/ata.h"

enum command_flags {
    DISK = 0x01, /* command exists on disks */
    CD = 0x02,   /* on CD drives */
    EXT = 0x04,  /* 48-bit address */
    WRITE = 0x08,
    DMA = 0x10,
    MULTI = 0x20, /* DRQ blocks of r.multiple sectors */
    SIGN = 0x40,  /* CD drives abort it with their signature in the registers */
};

struct ata_cmd {
    void (*fn)(struct ata *d, unsigned flags);
    uint8_t flags;
};

static const struct ata_cmd commands[256];

/* ---- addresses ---- */

/* The address and count in the registers. False when they name no sector. ATA-6 6.2. */
static bool get_range(const struct ata *d, unsigned flags, uint64_t *lba, uint32_t *count)
{
    const struct ata_regs *r = &d->r;
    uint64_t low =
        (uint64_t)r->lba_low[0] | (uint64_t)r->lba_mid[0] << 8 | (uint64_t)r->lba_high[0] << 16;
    if ((flags & EXT) != 0) {
        *count = (uint32_t)(r->count[0] | r->count[1] << 8);
        *count = *count == 0 ? 65536 : *count;
        *lba = low | (uint64_t)r->lba_low[1] << 24 | (uint64_t)r->lba_mid[1] << 32 |
               (uint64_t)r->lba_high[1] << 40;
        return (r->device & ATA_LBA) != 0;
    }
    *count = r->count[0] == 0 ? 256 : r->count[0];
    unsigned head = r->device & 0x0f;
    if ((r->device & ATA_LBA) != 0) {
        *lba = low | (uint64_t)head << 24;
        return true;
    }
    unsigned cylinder = (unsigned)(r->lba_mid[0] | r->lba_high[0] << 8), sector = r->lba_low[0];
    if (sector == 0 || sector > r->spt || head >= r->heads) {
        return false;
    }
    *lba = ((uint64_t)cylinder * r->heads + head) * r->spt + sector - 1;
    return true;
}

/* Puts an address into the registers in the form that the current command uses. */
static void put_lba(struct ata *d, uint64_t lba)
{
    struct ata_regs *r = &d->r;
    if ((r->device & ATA_LBA) != 0) {
        if ((commands[r->command].flags & EXT) != 0) {
            r->lba_low[1] = (uint8_t)(lba >> 24);
            r->lba_mid[1] = (uint8_t)(lba >> 32);
            r->lba_high[1] = (uint8_t)(lba >> 40);
        } else {
            r->device = (uint8_t)((r->device & 0xf0) | (lba >> 24 & 0x0f));
        }
        r->lba_low[0] = (uint8_t)lba;
        r->lba_mid[0] = (uint8_t)(lba >> 8);
        r->lba_high[0] = (uint8_t)(lba >> 16);
    } else if (r->heads > 0 && r->spt > 0) {
        uint64_t track = lba / r->spt, cylinder = track / r->heads;
        r->lba_low[0] = (uint8_t)(lba % r->spt + 1);
        r->device = (uint8_t)((r->device & 0xf0) | (track % r->heads));
        r->lba_mid[0] = (uint8_t)cylinder;
        r->lba_high[0] = (uint8_t)(cylinder >> 8);
    }
}

static void put_progress(struct ata *d, uint64_t lba, uint32_t left)
{
    put_lba(d, lba);
    d->r.count[0] = (uint8_t)left;
    if ((commands[d->r.command].flags & EXT) != 0) {
        d->r.count[1] = (uint8_t)(left >> 8);
    }
}

/* ---- reads and writes ---- */

void ata_disk_io_error(struct ata *d, int error)
{
    (void)error; /* the backend has logged it; ATA knows only that the medium failed */
    put_lba(d, d->r.lba);
    d->r.left = 0;
    ata_fail(d, d->r.write ? ATA_ABRT : ATA_UNC);
}

static void read_more(struct ata *d);

static void offer(struct ata *d)
{
    uint32_t n = (uint32_t)d->r.block_sectors * ATA_SECTOR, have = d->r.buf_fill - d->r.buf_end;
    n = n < have ? n : have;
    /* The registers name the sector after this block, as the drives did whose firmware looked
     * there. */
    uint32_t behind = (have - n) / ATA_SECTOR;
    put_progress(d, d->r.lba - behind, d->r.left + behind);
    ata_pio(d, ATA_PIO_IN, ATA_NEXT_READ, d->r.buf_end, d->r.buf_end + n, true);
}

static void read_done(struct ata *d, int error)
{
    struct ata_regs *r = &d->r;
    uint32_t n = (uint32_t)(d->h.req.length_bytes / ATA_SECTOR);
    if (error < 0) {
        if (n == 1) {
            ata_disk_io_error(d, error);
            return;
        }
        d->h.careful = true; /* deliver what comes before the bad sector */
        read_more(d);
        return;
    }
    r->lba += n;
    r->left -= n;
    r->buf_fill += n * ATA_SECTOR;
    if (d->h.careful && r->left > 0 && r->buf_fill < (uint32_t)r->block_sectors * ATA_SECTOR) {
        read_more(d);
        return;
    }
    offer(d);
}

static void read_more(struct ata *d)
{
    uint32_t n = d->h.careful ? 1 : d->r.left < ATA_PIO_AHEAD ? d->r.left : ATA_PIO_AHEAD;
    ata_buf_io(d, BLOCK_READ, d->r.lba * ATA_SECTOR, d->r.buf_fill, n * ATA_SECTOR, read_done);
}

/* The host has taken a DRQ block of a PIO read. */
void ata_disk_read_next(struct ata *d)
{
    if (d->r.buf_end < d->r.buf_fill) {
        offer(d);
    } else if (d->r.left > 0) {
        d->r.buf_pos = d->r.buf_end = d->r.buf_fill = 0;
        read_more(d);
    } else {
        d->r.phase = ATA_IDLE;
        d->r.status = ATA_DRDY | ATA_DSC;
    }
}

static void want_block(struct ata *d, bool interrupt)
{
    uint32_t n = d->r.left < d->r.block_sectors ? d->r.left : d->r.block_sectors;
    d->r.buf_fill = 0;
    ata_pio(d, ATA_PIO_OUT, ATA_NEXT_WRITE, 0, n * ATA_SECTOR, interrupt);
}

static void write_done(struct ata *d, int error)
{
    if (error < 0) {
        ata_disk_io_error(d, error);
        return;
    }
    d->r.lba += d->r.buf_end / ATA_SECTOR;
    d->r.left -= d->r.buf_end / ATA_SECTOR;
    put_progress(d, d->r.lba, d->r.left);
    if (d->r.left > 0) {
        want_block(d, true);
    } else {
        ata_ok(d);
    }
}

/* The host has filled a DRQ block of a PIO write. */
void ata_disk_write_block(struct ata *d)
{
    ata_buf_io(d, BLOCK_WRITE, d->r.lba * ATA_SECTOR, 0, d->r.buf_end, write_done);
}

/* The whole range is looked at before the first sector moves. When it leaves the disk, the
 * registers get the first address that does (ATA-6 8.34.6). */
static bool on_disk(struct ata *d, uint64_t lba, uint32_t count)
{
    if (lba >= d->cfg.sectors) {
        return false;
    }
    if (count > d->cfg.sectors - lba) {
        put_lba(d, d->cfg.sectors);
        return false;
    }
    return true;
}

static void cmd_rw(struct ata *d, unsigned flags)
{
    struct ata_regs *r = &d->r;
    uint64_t lba;
    uint32_t count;
    if ((flags & MULTI) != 0 && r->multiple == 0) {
        ata_fail(d, ATA_ABRT);
        return;
    }
    if (!get_range(d, flags, &lba, &count) || !on_disk(d, lba, count)) {
        ata_fail(d, ATA_IDNF);
        return;
    }
    r->standby = false;
    r->lba = lba;
    r->left = count;
    r->write = (flags & WRITE) != 0;
    r->block_sectors = (flags & MULTI) != 0 ? r->multiple : 1;
    if ((flags & DMA) != 0) {
        r->stream = ATA_STREAM_IMAGE;
        ata_dma(d);
    } else if (r->write) {
        want_block(d, false);
    } else {
        read_more(d);
    }
}

/* READ VERIFY. DEVIATION: the range is checked, the sectors are not read, because a host that reads
 * images has checked them. */
static void cmd_verify(struct ata *d, unsigned flags)
{
    uint64_t lba;
    uint32_t count;
    if (!get_range(d, flags, &lba, &count) || !on_disk(d, lba, count)) {
        ata_fail(d, ATA_IDNF);
    } else {
        ata_ok(d);
    }
}

static void cmd_seek(struct ata *d, unsigned flags)
{
    uint64_t lba;
    uint32_t count;
    if (!get_range(d, flags, &lba, &count) || lba >= d->cfg.sectors) {
        ata_fail(d, ATA_IDNF);
    } else {
        ata_ok(d);
    }
}

static void cmd_ok(struct ata *d, unsigned flags)
{
    (void)flags;
    ata_ok(d);
}

static void cmd_native_max(struct ata *d, unsigned flags)
{
    uint64_t max = d->cfg.sectors - 1;
    if ((d->r.device & ATA_LBA) == 0 && (flags & EXT) != 0) {
        ata_fail(d, ATA_ABRT);
        return;
    }
    put_lba(d, (flags & EXT) == 0 && max > 0x0fffffff ? 0x0fffffff : max);
    ata_ok(d);
}

/* ---- DATA SET MANAGEMENT / TRIM: a list of { 48-bit address, 16-bit count } ---- */

enum { TRIM_FEATURE = 1, TRIM_BLOCKS_MAX = 64 };

static void cmd_dsm(struct ata *d, unsigned flags)
{
    unsigned blocks = (unsigned)(d->r.count[0] | d->r.count[1] << 8);
    (void)flags;
    if (d->r.feature[0] != TRIM_FEATURE || blocks == 0 || blocks > TRIM_BLOCKS_MAX) {
        ata_fail(d, ATA_ABRT);
        return;
    }
    d->r.write = true;
    d->r.stream = ATA_STREAM_BUFFER;
    d->r.buf_pos = 0;
    d->r.buf_end = d->r.buf_fill = blocks * ATA_SECTOR;
    memset(d->h.buf, 0, d->r.buf_fill); /* saved before the host has filled it, perhaps */
    ata_dma(d);
}

static void trim_done(struct ata *d, int error)
{
    if (error < 0) {
        ata_fail(d, ATA_ABRT);
    } else {
        bottom_half_schedule(&d->h.bh);
    }
}

/* One range per turn of the loop. buf_pos walks the list up to buf_end. */
void ata_trim_step(struct ata *d)
{
    while (d->r.buf_end - d->r.buf_pos >= 8) {
        const uint8_t *e = d->h.buf + d->r.buf_pos;
        uint64_t lba = 0;
        for (unsigned i = 0; i < 6; i++) {
            lba |= (uint64_t)e[i] << (8 * i);
        }
        uint64_t count = (uint64_t)(e[6] | e[7] << 8);
        d->r.buf_pos += 8;
        if (count == 0) {
            continue;
        }
        if (lba >= d->cfg.sectors || count > d->cfg.sectors - lba) {
            ata_fail(d, ATA_IDNF);
            return;
        }
        ata_range_io(d, BLOCK_DISCARD, lba * ATA_SECTOR, count * ATA_SECTOR, trim_done);
        return;
    }
    ata_ok(d);
}

void ata_disk_dma_done(struct ata *d)
{
    if (d->r.stream == ATA_STREAM_IMAGE) {
        put_progress(d, d->r.lba, d->r.left);
        ata_ok(d);
        return;
    }
    d->r.phase = ATA_BUSY;
    d->r.stream = ATA_STREAM_TRIM;
    d->r.buf_pos = 0;
    bottom_half_schedule(&d->h.bh);
}

/* ---- settings ---- */

static void flushed(struct ata *d, int error)
{
    if (error < 0) {
        ata_fail(d, ATA_ABRT);
        return;
    }
    ata_ok(d);
}

static void cmd_flush(struct ata *d, unsigned flags)
{
    (void)flags;
    if (d->cfg.cdrom) {
        ata_ok(d);
        return;
    }
    ata_range_io(d, BLOCK_FLUSH, 0, 0, flushed);
}

static void cmd_init_params(struct ata *d, unsigned flags)
{
    (void)flags;
    if (d->r.count[0] == 0) {
        ata_fail(d, ATA_ABRT);
        return;
    }
    d->r.spt = d->r.count[0];
    d->r.heads = (uint8_t)((d->r.device & 0x0f) + 1);
    ata_ok(d);
}

static void cmd_set_multiple(struct ata *d, unsigned flags)
{
    unsigned n = d->r.count[0];
    (void)flags;
    if (n > 16 || (n & (n - 1)) != 0) {
        ata_fail(d, ATA_ABRT);
        return;
    }
    d->r.multiple = (uint8_t)n;
    ata_ok(d);
}

static void standby_flushed(struct ata *d, int error)
{
    d->r.standby = error == 0;
    flushed(d, error);
}

static void cmd_standby(struct ata *d, unsigned flags)
{
    (void)flags;
    if (d->cfg.cdrom) {
        ata_ok(d);
        return;
    }
    ata_range_io(d, BLOCK_FLUSH, 0, 0, standby_flushed);
}

static void cmd_idle(struct ata *d, unsigned flags)
{
    (void)flags;
    d->r.standby = false;
    ata_ok(d);
}

static void cmd_check_power(struct ata *d, unsigned flags)
{
    (void)flags;
    d->r.count[0] = d->r.standby ? 0x00 : 0xff;
    ata_ok(d);
}

/* SET FEATURES 03h: ATA-6 8.46.11. */
static bool set_transfer_mode(struct ata *d, uint8_t mode)
{
    struct ata_regs *r = &d->r;
    uint8_t n = mode & 7;
    switch (mode >> 3) {
    case 0: /* PIO default */
        return mode <= 1;
    case 1: /* PIO flow control */
        return n <= 4;
    case 2: /* single word */
        if (n > 2) {
            return false;
        }
        break;
    case 4: /* multiword */
        if (n > 2) {
            return false;
        }
        break;
    case 8: /* Ultra */
        if (n > 5) {
            return false;
        }
        break;
    default:
        return false;
    }
    r->swdma = mode >> 3 == 2 ? (uint8_t)(n + 1) : 0;
    r->mwdma = mode >> 3 == 4 ? (uint8_t)(n + 1) : 0;
    r->udma = mode >> 3 == 8 ? (uint8_t)(n + 1) : 0;
    return true;
}

static void cache_flushed(struct ata *d, int error)
{
    d->r.write_cache = error != 0;
    flushed(d, error);
}

static void cmd_set_features(struct ata *d, unsigned flags)
{
    struct ata_regs *r = &d->r;
    (void)flags;
    switch (r->feature[0]) {
    case 0x03:
        if (!set_transfer_mode(d, r->count[0])) {
            ata_fail(d, ATA_ABRT);
            return;
        }
        break;
    case 0x02: /* write cache on, off: what is in it must reach the disk before writes go past it */
        r->write_cache = true;
        break;
    case 0x82:
        if (!d->cfg.cdrom) {
            ata_range_io(d, BLOCK_FLUSH, 0, 0, cache_flushed);
            return;
        }
        break;
    case 0x66:
    case 0xcc:
        r->keep = r->feature[0] == 0x66;
        break;
    case 0x55:
    case 0xaa:
        r->look_ahead = r->feature[0] == 0xaa;
        break;
    case 0x05: /* advanced power management, acoustic management, defaults after reset: nothing to
                  change */
    case 0x85:
    case 0x42:
    case 0xc2:
    case 0x67:
    case 0x96:
    case 0x9a:
        break;
    default:
        ata_fail(d, ATA_ABRT);
        return;
    }
    ata_ok(d);
}

/* ---- IDENTIFY DEVICE, ATA-6 8.15: the words of the drive that saved guests know ---- */

static void put32(uint16_t *w, unsigned n, uint32_t v)
{
    w[n] = (uint16_t)v;
    w[n + 1] = (uint16_t)(v >> 16);
}

/* Words that IDENTIFY DEVICE and IDENTIFY PACKET DEVICE share: transfer modes. */
static void identify_modes(const struct ata *d, uint16_t *w)
{
    const struct ata_regs *r = &d->r;
    w[62] = (uint16_t)(w[62] | 0x07 | (r->swdma > 0 ? 1u << (7 + r->swdma) : 0));
    w[63] = (uint16_t)(0x07 | (r->mwdma > 0 ? 1u << (7 + r->mwdma) : 0));
    w[88] = (uint16_t)(0x3f | (r->udma > 0 ? 1u << (7 + r->udma) : 0));
}

static void identify_disk(const struct ata *d, uint16_t *w)
{
    const struct ata_regs *r = &d->r;
    uint64_t sectors = d->cfg.sectors;
    uint32_t track = (uint32_t)r->heads * r->spt;
    uint64_t cylinders = track > 0 ? sectors / track : 0;
    cylinders = cylinders > 16383 ? 16383 : cylinders;
    w[0] = 0x0040; /* fixed */
    w[1] = d->cfg.cylinders;
    w[3] = d->cfg.heads;
    w[4] = (uint16_t)(ATA_SECTOR * d->cfg.spt);
    w[5] = ATA_SECTOR;
    w[6] = d->cfg.spt;
    ata_string(w, 10, 10, d->cfg.serial);
    w[20] = 3;
    w[21] = 512;
    w[22] = 4;
    ata_string(w, 23, 4, d->cfg.firmware);
    ata_string(w, 27, 20, d->cfg.model);
    w[47] = 0x8010;
    w[48] = 1;
    w[49] = 0x0b00; /* IORDY, LBA, DMA */
    w[51] = 0x0200;
    w[52] = 0x0200;
    w[53] = 7; /* words 54-58, 64-70, 88 are valid */
    w[54] = (uint16_t)cylinders;
    w[55] = r->heads;
    w[56] = r->spt;
    put32(w, 57, (uint32_t)cylinders * track);
    w[59] = r->multiple > 0 ? (uint16_t)(0x100 | r->multiple) : 0;
    put32(w, 60, sectors > 0x0fffffff ? 0x0fffffff : (uint32_t)sectors);
    identify_modes(d, w);
    w[64] = 3; /* PIO 3, 4 */
    w[65] = w[66] = w[67] = w[68] = 120;
    w[69] = 0x4000; /* reads after TRIM are stable */
    if (d->cfg.queued) {
        w[75] = 31; /* depth - 1 */
        w[76] = 0x0100;
    }
    w[80] = 0x00f0;
    w[81] = 0x0016;
    w[82] = 0x4021;                          /* NOP, write cache, SMART */
    w[83] = 0x7400;                          /* FLUSH CACHE (EXT), 48-bit address */
    w[84] = d->cfg.queued ? 0x4020 : 0x4000; /* READ LOG EXT, which tells of errors in the queue */
    w[85] = (uint16_t)(0x4000 | (r->write_cache ? 0x20 : 0) | (r->smart ? 1 : 0));
    w[86] = 0x3400;
    w[87] = w[84];
    /* 80-conductor cable seen, device 0. DEVIATION: the peer says so at SATA ports as well; Linux then
     * takes the drive for a bridged one and never asks for more than 128 KiB. */
    w[93] = d->cfg.queued ? 0 : 0x6001;
    put32(w, 100, (uint32_t)sectors);
    put32(w, 102, (uint32_t)(sectors >> 32));
    w[106] = 0x6000; /* one logical sector per physical one */
    w[169] = 1;      /* TRIM */
}

static void cmd_identify(struct ata *d, unsigned flags)
{
    uint16_t w[256] = {0};
    (void)flags;
    if (d->cfg.cdrom) {
        identify_modes(d, w);
        atapi_identify(d, w);
    } else {
        identify_disk(d, w);
    }
    for (unsigned i = 0; i < 256; i++) {
        d->h.buf[2 * i] = (uint8_t)w[i];
        d->h.buf[2 * i + 1] = (uint8_t)(w[i] >> 8);
    }
    ata_pio(d, ATA_PIO_IN, ATA_NEXT_END, 0, ATA_SECTOR, true);
}

/* ---- SMART, ATA-6 8.54 ---- */

enum { POWER_ON_HOURS = 1 };

static const struct smart_attribute {
    uint8_t id, flags, value, worst, raw[4], threshold;
} smart_attributes[] = {
    {1, 0x03, 100, 100, {0, 0, 0}, 6},              /* raw read error rate */
    {3, 0x03, 100, 100, {16, 0, 0}, 0},             /* spin-up time */
    {4, 0x02, 100, 100, {100, 0, 0}, 20},           /* start/stop count */
    {5, 0x03, 100, 100, {0, 0, 0}, 36},             /* reallocated sectors */
    {9, 0x03, 100, 100, {POWER_ON_HOURS, 0, 0}, 0}, /* power-on hours */
    {12, 0x03, 100, 100, {0, 0, 0}, 0},             /* power cycles */
    {190, 0x03, 69, 69, {31, 0, 31, 31}, 50},       /* temperature */
};

static void smart_checksum(uint8_t *buf)
{
    uint8_t sum = 0;
    for (unsigned i = 0; i < 511; i++) {
        sum = (uint8_t)(sum + buf[i]);
    }
    buf[511] = (uint8_t)(0x100 - sum);
}

static void smart_tables(struct ata *d, bool thresholds)
{
    uint8_t *buf = d->h.buf;
    memset(buf, 0, ATA_SECTOR);
    buf[0] = 1; /* structure revision */
    for (size_t i = 0; i < sizeof(smart_attributes) / sizeof(smart_attributes[0]); i++) {
        const struct smart_attribute *a = &smart_attributes[i];
        uint8_t *p = buf + 2 + 12 * i;
        p[0] = a->id;
        if (thresholds) {
            p[1] = a->threshold;
            continue;
        }
        p[1] = a->flags;
        p[3] = a->value;
        p[4] = a->worst;
        memcpy(p + 5, a->raw, sizeof(a->raw));
    }
    if (!thresholds) {
        buf[362] = d->r.smart_autosave ? 0x82 : 0x02; /* off-line collection completed */
        buf[364] = 0x20;                              /* seconds it takes: 288 */
        buf[365] = 0x01;
        buf[367] = 1 << 4 | 1 << 3 | 1; /* self-tests, EXECUTE OFF-LINE IMMEDIATE */
        buf[368] = 3;                   /* saves attributes */
        buf[370] = 1;                   /* error log */
        buf[372] = 2; /* minutes of a short, an extended, a conveyance self-test */
        buf[373] = 54;
        buf[374] = 1;
    }
    smart_checksum(buf);
    ata_pio(d, ATA_PIO_IN, ATA_NEXT_END, 0, ATA_SECTOR, true);
}

static void smart_log(struct ata *d)
{
    uint8_t *buf = d->h.buf;
    memset(buf, 0, ATA_SECTOR);
    switch (d->r.lba_low[0]) {
    case 0x01: /* summary error log: no errors */
        buf[0] = 1;
        break;
    case 0x06: /* self-test log, 8.54.6.8.4: no test has failed */
        buf[0] = 1;
        for (unsigned i = 0; i < (d->r.tests_full ? ATA_SELF_TESTS : d->r.test_last); i++) {
            buf[2 + 24 * i] = d->r.tests[i];
            buf[2 + 24 * i + 2] = POWER_ON_HOURS;
        }
        buf[508] = d->r.test_last;
        break;
    default:
        ata_fail(d, ATA_ABRT);
        return;
    }
    smart_checksum(buf);
    ata_pio(d, ATA_PIO_IN, ATA_NEXT_END, 0, ATA_SECTOR, true);
}

/* EXECUTE OFF-LINE IMMEDIATE: the off-line routine, the short and the extended self-test, which end
 * at once. */
static bool smart_test(struct ata *d)
{
    if (d->r.lba_low[0] > 2) {
        return false;
    }
    if (d->r.test_last == ATA_SELF_TESTS) {
        d->r.test_last = 0;
        d->r.tests_full = true;
    }
    d->r.tests[d->r.test_last++] = d->r.lba_low[0];
    return true;
}

static void cmd_smart(struct ata *d, unsigned flags)
{
    struct ata_regs *r = &d->r;
    uint8_t sub = r->feature[0];
    (void)flags;
    if (r->lba_mid[0] != 0x4f || r->lba_high[0] != 0xc2 || (!r->smart && sub != 0xd8)) {
        ata_fail(d, ATA_ABRT);
        return;
    }
    switch (sub) {
    case 0xd0:
        smart_tables(d, false);
        return;
    case 0xd1:
        smart_tables(d, true);
        return;
    case 0xd2: /* attribute autosave */
        r->smart_autosave = r->count[0] != 0;
        break;
    case 0xd4:
        if (!smart_test(d)) {
            ata_fail(d, ATA_ABRT);
            return;
        }
        break;
    case 0xd5:
        smart_log(d);
        return;
    case 0xd8:
        r->smart = true;
        break;
    case 0xd9:
        r->smart = false;
        break;
    case 0xda: /* status: no threshold exceeded */
        break;
    default:
        ata_fail(d, ATA_ABRT);
        return;
    }
    ata_ok(d);
}

/* READ LOG EXT, ATA-6 8.43: only what the host keeps, one page at a time. */
static void cmd_read_log(struct ata *d, unsigned flags)
{
    const struct ata_regs *r = &d->r;
    (void)flags;
    if (d->h.ops->read_log == NULL || r->count[0] != 1 || r->count[1] != 0 || r->lba_mid[0] != 0 ||
        r->lba_mid[1] != 0 || !d->h.ops->read_log(d->h.host, d, r->lba_low[0], d->h.buf)) {
        ata_fail(d, ATA_ABRT);
        return;
    }
    ata_pio(d, ATA_PIO_IN, ATA_NEXT_END, 0, ATA_SECTOR, true);
}

/* ---- dispatch ---- */

static void cmd_packet(struct ata *d, unsigned flags)
{
    (void)flags;
    atapi_packet(d);
}

static const struct ata_cmd commands[256] = {
    [0x06] = {cmd_dsm, DISK | EXT},
    [0x10] = {cmd_ok, DISK}, /* RECALIBRATE */
    [0x20] = {cmd_rw, DISK | SIGN},
    [0x21] = {cmd_rw, DISK},
    [0x24] = {cmd_rw, DISK | EXT},
    [0x25] = {cmd_rw, DISK | EXT | DMA},
    [0x27] = {cmd_native_max, DISK | EXT},
    [0x29] = {cmd_rw, DISK | EXT | MULTI},
    [0x2f] = {cmd_read_log, DISK | EXT},
    [0x30] = {cmd_rw, DISK | WRITE},
    [0x31] = {cmd_rw, DISK | WRITE},
    [0x34] = {cmd_rw, DISK | WRITE | EXT},
    [0x35] = {cmd_rw, DISK | WRITE | EXT | DMA},
    [0x39] = {cmd_rw, DISK | WRITE | EXT | MULTI},
    [0x3c] = {cmd_rw, DISK | WRITE}, /* WRITE VERIFY */
    [0x40] = {cmd_verify, DISK},
    [0x41] = {cmd_verify, DISK},
    [0x42] = {cmd_verify, DISK | EXT},
    [0x70] = {cmd_seek, DISK},
    [0x91] = {cmd_init_params, DISK},
    [0x94] = {cmd_standby, DISK}, /* the 9x power commands are the ATA-1 names of Ex */
    [0x95] = {cmd_idle, DISK},
    [0x96] = {cmd_standby, DISK},
    [0x97] = {cmd_idle, DISK},
    [0x98] = {cmd_check_power, DISK},
    [0x99] = {cmd_standby, DISK},
    [0xa0] = {cmd_packet, CD},
    [0xa1] = {cmd_identify, CD},
    [0xb0] = {cmd_smart, DISK},
    [0xc4] = {cmd_rw, DISK | MULTI},
    [0xc5] = {cmd_rw, DISK | WRITE | MULTI},
    [0xc6] = {cmd_set_multiple, DISK},
    [0xc8] = {cmd_rw, DISK | DMA},
    [0xc9] = {cmd_rw, DISK | DMA},
    [0xca] = {cmd_rw, DISK | WRITE | DMA},
    [0xcb] = {cmd_rw, DISK | WRITE | DMA},
    [0xe0] = {cmd_standby, DISK | CD},
    [0xe1] = {cmd_idle, DISK | CD},
    [0xe2] = {cmd_standby, DISK},
    [0xe3] = {cmd_idle, DISK},
    [0xe5] = {cmd_check_power, DISK | CD},
    [0xe6] = {cmd_standby, DISK | CD},
    [0xe7] = {cmd_flush, DISK | CD},
    [0xea] = {cmd_flush, DISK | EXT},
    [0xec] = {cmd_identify, DISK | SIGN},
    [0xef] = {cmd_set_features, DISK | CD},
    [0xf5] = {cmd_ok, DISK}, /* SECURITY FREEZE LOCK: firmware sends it unasked */
    [0xf8] = {cmd_native_max, DISK},
};

enum { CMD_DEVICE_RESET = 0x08, CMD_DIAGNOSTIC = 0x90 };

void ata_command(struct ata *d, uint8_t command)
{
    struct ata_regs *r = &d->r;
    if (!d->cfg.present) {
        return;
    }
    if (command == CMD_DEVICE_RESET && d->cfg.cdrom) {
        ata_soft_reset(d); /* ATA-6 9.13: at any time, no interrupt */
        return;
    }
    ata_irq_clear(d); /* ATA-6 9.3: ends "interrupt pending", accepted or not */
    if ((r->status & (ATA_BSY | ATA_DRQ)) != 0) {
        return;
    }
    r->command = command;
    r->hob = false;
    r->error = 0;
    r->write = r->fua = false;
    r->left = 0;
    r->stream = ATA_STREAM_IMAGE;
    r->buf_pos = r->buf_end = r->buf_fill = 0;
    d->h.careful = false;
    r->phase = ATA_BUSY;
    r->status = ATA_BSY | ATA_DRDY;
    if (command == CMD_DIAGNOSTIC) {
        ata_diagnose(d);
        ata_irq_raise(d);
        return;
    }
    const struct ata_cmd *c = &commands[command];
    if ((c->flags & (d->cfg.cdrom ? CD : DISK)) != 0) {
        c->fn(d, c->flags);
        return;
    }
    if (d->cfg.cdrom && (c->flags & SIGN) != 0) {
        ata_signature(d);
    }
    ata_fail(d, ATA_ABRT);
}
