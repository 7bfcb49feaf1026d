/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packet commands of a DVD-ROM drive: SFF-8020i, MMC-5, SPC-3 for INQUIRY and sense. PACKET
 * protocol: ATA-6 9.8 and 9.9. Every data image is one data track in one session.
 */
#include <errno.h>
#include <string.h>

#include "hw/ata.h"

enum sense_key {
    NOT_READY = 2,
    MEDIUM_ERROR = 3,
    HARDWARE_ERROR = 4,
    ILLEGAL_REQUEST = 5,
    UNIT_ATTENTION = 6
};
enum sense_asc {
    ASC_UNRECOVERED_READ = 0x11,
    ASC_INVALID_OPCODE = 0x20,
    ASC_LBA_OUT_OF_RANGE = 0x21,
    ASC_INVALID_FIELD = 0x24,
    ASC_MEDIUM_CHANGED = 0x28,
    ASC_INCOMPATIBLE_MEDIUM = 0x30,
    ASC_SAVING_UNSUPPORTED = 0x39,
    ASC_NO_MEDIUM = 0x3a,
    ASC_REMOVAL_PREVENTED = 0x53,
};
enum media_event { EVENT_NONE, EVENT_EJECT_REQUEST, EVENT_NEW_MEDIUM, EVENT_REMOVAL };
enum { CD_MAX_SECTORS = 80 * 60 * 75, MSF_OFFSET = 150, FEATURE_DMA = 1, FEATURE_OVL = 2 };
enum cdb_flags {
    NEEDS_MEDIUM = 1,
    IN_ATTENTION = 2, /* does not report a unit attention */
};

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

static unsigned get16(const uint8_t *p)
{
    return (unsigned)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

/* A disc without a single sector is none. */
static bool ready(const struct ata *d)
{
    return d->h.medium != NULL && !d->r.tray_open && block_size_bytes(d->h.medium) >= ATA_CD_SECTOR;
}

/* 2048-byte sectors of the medium. READ CAPACITY's 32 bits hold 8 TiB. */
static uint32_t sectors(const struct ata *d)
{
    uint64_t n = block_size_bytes(d->h.medium) / ATA_CD_SECTOR;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

/* An address as a TOC shows it: reserved, minute, second, frame; or the number itself. */
static void put_address(uint8_t *p, uint32_t lba, bool msf)
{
    if (!msf) {
        put32(p, lba);
        return;
    }
    uint32_t frames = lba + MSF_OFFSET;
    p[0] = 0;
    p[1] = (uint8_t)(frames / 75 / 60);
    p[2] = (uint8_t)(frames / 75 % 60);
    p[3] = (uint8_t)(frames % 75);
}

/* ---- ends of a command ---- */

static void done(struct ata *d)
{
    d->r.count[0] = ATA_REASON_CD | ATA_REASON_IO;
    d->r.left = 0;
    ata_ok(d);
}

static void check_condition(struct ata *d, enum sense_key key, enum sense_asc asc, unsigned ascq)
{
    d->r.sense_key = (uint8_t)key;
    d->r.asc = (uint8_t)asc;
    d->r.ascq = (uint8_t)ascq;
    d->r.count[0] = ATA_REASON_CD | ATA_REASON_IO;
    d->r.left = 0;
    ata_fail(d, (uint8_t)(key << 4));
}

static void invalid_field(struct ata *d)
{
    check_condition(d, ILLEGAL_REQUEST, ASC_INVALID_FIELD, 0);
}

void atapi_io_error(struct ata *d, int error)
{
    if (error == -ENOMEDIUM) {
        atapi_medium_lost(d);
    } else {
        check_condition(d, MEDIUM_ERROR, ASC_UNRECOVERED_READ, 0);
    }
}

void atapi_medium_lost(struct ata *d)
{
    uint8_t asc = d->r.ua_asc;
    if (asc != 0) { /* another one is there: never a mixture of both */
        d->r.ua_asc = 0;
        check_condition(d, UNIT_ATTENTION, asc, 0);
    } else {
        check_condition(d, NOT_READY, ASC_NO_MEDIUM, d->r.tray_open ? 2 : 1);
    }
}

void atapi_dma_done(struct ata *d)
{
    done(d);
}

/* ---- data to the host ---- */

static void offer(struct ata *d)
{
    struct ata_regs *r = &d->r;
    uint32_t have = r->buf_fill - r->buf_end;
    uint32_t n = have <= r->byte_limit ? have : r->byte_limit & ~1u;
    r->count[0] = ATA_REASON_IO;
    r->lba_mid[0] = (uint8_t)n;
    r->lba_high[0] = (uint8_t)(n >> 8);
    ata_pio(d, ATA_PIO_IN, ATA_NEXT_PACKET_IN, r->buf_end, r->buf_end + n, true);
}

static void refill(struct ata *d);

static void refill_done(struct ata *d, int error)
{
    struct ata_regs *r = &d->r;
    uint32_t n = (uint32_t)(d->h.req.length_bytes / ATA_CD_SECTOR);
    if (error < 0) {
        if (n <= 1 || error == -ENOMEDIUM) {
            atapi_io_error(d, error);
            return;
        }
        d->h.careful = true; /* deliver what comes before the bad sector */
        refill(d);
        return;
    }
    if (r->stream == ATA_STREAM_RAW) {
        atapi_fill_raw(d, r->buf_fill, r->lba);
        r->buf_fill += ATA_CD_RAW;
    } else {
        r->buf_fill += n * ATA_CD_SECTOR;
    }
    r->lba += n;
    r->left -= n;
    offer(d);
}

/* Reads on behind what the host has not taken yet. */
static void refill(struct ata *d)
{
    struct ata_regs *r = &d->r;
    uint32_t have = r->buf_fill - r->buf_end;
    if (r->stream == ATA_STREAM_LOST) {
        atapi_medium_lost(d);
        return;
    }
    memmove(d->h.buf, d->h.buf + r->buf_end, have);
    r->buf_pos = r->buf_end = 0;
    r->buf_fill = have;
    uint32_t room = (ATA_BUF_BYTES - have) / ATA_CD_SECTOR, at = have;
    if (r->stream == ATA_STREAM_RAW) {
        room = 1;
        at += 16; /* sync pattern and header */
    }
    uint32_t n = d->h.careful ? 1 : r->left < room ? r->left : room;
    ata_buf_io(d, BLOCK_READ, r->lba * ATA_CD_SECTOR, at, n * ATA_CD_SECTOR, refill_done);
}

/* The host has taken a DRQ block, or the first is due. */
void atapi_packet_in(struct ata *d)
{
    uint32_t have = d->r.buf_fill - d->r.buf_end;
    bool raw = d->r.stream == ATA_STREAM_RAW;
    if (d->r.left > 0 && (raw ? have == 0 : have < d->r.byte_limit)) {
        refill(d);
    } else if (have > 0) {
        offer(d);
    } else {
        done(d);
    }
}

/* True when the byte count limit admits data; ATA-6 8.x wants an abort of PIO data commands with
 * limit 0. */
static bool limit_ok(struct ata *d)
{
    if (d->r.packet_dma || d->r.byte_limit > 0) {
        return true;
    }
    ata_fail(d, ATA_ABRT);
    return false;
}

/* Sends `len` bytes of buf, at most the allocation length `alloc`. */
static void reply(struct ata *d, uint32_t len, uint32_t alloc)
{
    uint32_t n = len < alloc ? len : alloc;
    if (n == 0) {
        done(d);
        return;
    }
    if (!limit_ok(d)) {
        return;
    }
    d->r.buf_pos = d->r.buf_end = 0;
    d->r.buf_fill = n;
    d->r.stream = ATA_STREAM_BUFFER;
    if (d->r.packet_dma) {
        d->r.buf_end = n;
        ata_dma(d);
    } else {
        atapi_packet_in(d);
    }
}

/* Sends sectors of the medium. */
static void read_sectors(struct ata *d, uint32_t lba, uint32_t count, enum ata_stream stream)
{
    if (count == 0) { /* MMC-5 6.19.2.5: not an error, wherever it is */
        done(d);
        return;
    }
    if (lba >= sectors(d) || count > sectors(d) - lba) {
        check_condition(d, ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE, 0);
        return;
    }
    if (!limit_ok(d)) {
        return;
    }
    d->r.lba = lba;
    d->r.left = count;
    d->r.stream = (uint8_t)stream;
    d->r.buf_pos = d->r.buf_end = d->r.buf_fill = 0;
    if (d->r.packet_dma) {
        ata_dma(d);
    } else {
        atapi_packet_in(d);
    }
}

static uint8_t bcd(uint32_t v)
{
    return (uint8_t)(v / 10 << 4 | v % 10);
}

/* Makes a mode 1 sector (ECMA-130 14) around the 2048 bytes at buf + at + 16.
 * DEVIATION: EDC and ECC bytes are zero, because readers of data sectors do not check what the
 * drive has corrected. */
void atapi_fill_raw(struct ata *d, uint32_t at, uint64_t lba)
{
    uint8_t *p = d->h.buf + at;
    uint32_t frames = (uint32_t)lba + MSF_OFFSET;
    memset(p, 0xff, 12);
    p[0] = p[11] = 0;
    p[12] = bcd(frames / 75 / 60 % 100);
    p[13] = bcd(frames / 75 % 60);
    p[14] = bcd(frames % 75);
    p[15] = 1;
    memset(p + 16 + ATA_CD_SECTOR, 0, ATA_CD_RAW - 16 - ATA_CD_SECTOR);
}

/* ---- commands ---- */

static void cdb_test_unit_ready(struct ata *d)
{
    done(d);
}

static void cdb_request_sense(struct ata *d)
{
    uint8_t *b = d->h.buf;
    if (d->r.sense_key == 0 && d->r.ua_asc != 0) {
        d->r.sense_key = UNIT_ATTENTION;
        d->r.asc = d->r.ua_asc;
        d->r.ua_asc = 0;
    }
    memset(b, 0, 18);
    b[0] = 0xf0;
    b[2] = d->r.sense_key;
    b[7] = 10;
    b[12] = d->r.asc;
    b[13] = d->r.ascq;
    d->r.sense_key = d->r.asc = d->r.ascq = 0;
    reply(d, 18, d->r.cdb[4]);
}

/* An ASCII field of n bytes, padded with spaces. */
static void put_text(uint8_t *p, size_t n, const char *s)
{
    size_t len = strlen(s);
    memset(p, ' ', n);
    memcpy(p, s, len < n ? len : n);
}

static void cdb_inquiry(struct ata *d)
{
    uint8_t *b = d->h.buf;
    const uint8_t *cdb = d->r.cdb;
    uint32_t alloc = get16(cdb + 3), len;
    memset(b, 0, 128);
    b[0] = 0x05; /* CD/DVD */
    if ((cdb[1] & 1) == 0) {
        if (cdb[2] != 0) {
            invalid_field(d);
            return;
        }
        b[1] = 0x80; /* removable */
        b[3] = 0x21; /* ATAPI-2, format as MMC wants it */
        b[4] = 36 - 5;
        put_text(b + 8, 8, "QEMU");
        put_text(b + 16, 16, d->cfg.model);
        put_text(b + 32, 4, d->cfg.firmware);
        len = 36;
    } else if (cdb[2] == 0x00) { /* supported pages */
        b[3] = 2;
        b[4] = 0x00;
        b[5] = 0x83;
        len = 6;
    } else if (cdb[2] == 0x83) { /* device identification: serial, T10 vendor id */
        b[1] = 0x83;
        b[3] = 96;
        b[4] = 2;
        b[7] = 20;
        put_text(b + 8, 20, d->cfg.serial);
        b[28] = 2;
        b[29] = 1;
        b[31] = 68;
        put_text(b + 32, 8, "ATA");
        put_text(b + 40, 40, d->cfg.model);
        put_text(b + 80, 20, d->cfg.serial);
        len = 100;
    } else {
        invalid_field(d);
        return;
    }
    reply(d, len, alloc);
}

static void cdb_read_capacity(struct ata *d)
{
    put32(d->h.buf, sectors(d) - 1);
    put32(d->h.buf + 4, ATA_CD_SECTOR);
    reply(d, 8, 8);
}

static void cdb_read(struct ata *d)
{
    const uint8_t *cdb = d->r.cdb;
    read_sectors(d, get32(cdb + 2), cdb[0] == 0x28 ? get16(cdb + 7) : get32(cdb + 6),
                 ATA_STREAM_IMAGE);
}

/* READ CD (BEh) and READ CD MSF (B9h): user data, or the whole raw sector. */
static void cdb_read_cd(struct ata *d)
{
    const uint8_t *cdb = d->r.cdb;
    uint32_t lba = get32(cdb + 2), count = (uint32_t)cdb[6] << 16 | get16(cdb + 7);
    unsigned type = cdb[1] >> 2 & 7;
    if (cdb[0] == 0xb9) {
        uint32_t from = (cdb[3] * 60u + cdb[4]) * 75 + cdb[5],
                 to = (cdb[6] * 60u + cdb[7]) * 75 + cdb[8];
        if (from < MSF_OFFSET || to < from) {
            invalid_field(d);
            return;
        }
        lba = from - MSF_OFFSET;
        count = to - from;
    }
    /* No sub-channels; the expected type may be any, or mode 1. */
    if ((cdb[10] & 7) != 0 || (type != 0 && type != 2)) {
        invalid_field(d);
        return;
    }
    switch (cdb[9] & 0xf8) {
    case 0x00:
        done(d);
        break;
    case 0x10:
        read_sectors(d, lba, count, ATA_STREAM_IMAGE);
        break;
    case 0xf8:
        read_sectors(d, lba, count, ATA_STREAM_RAW);
        break;
    default:
        invalid_field(d);
    }
}

static void cdb_seek(struct ata *d)
{
    if (get32(d->r.cdb + 2) >= sectors(d)) {
        check_condition(d, ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE, 0);
    } else {
        done(d);
    }
}

/* MMC-5 6.26. Format in byte 2, or where SFF-8020i had it. */
static void cdb_read_toc(struct ata *d)
{
    const uint8_t *cdb = d->r.cdb;
    uint8_t *b = d->h.buf;
    bool msf = (cdb[1] & 2) != 0;
    unsigned format = cdb[2] & 0x0f, start = cdb[6];
    uint32_t len = 4;
    if (format == 0) {
        format = cdb[9] >> 6;
    }
    memset(b, 0, 64);
    b[2] = b[3] = 1; /* first, last track or session */
    if (format == 0) {
        if (start > 1 && start != 0xaa) {
            invalid_field(d);
            return;
        }
        if (start <= 1) {
            b[len + 1] = 0x14; /* data track, ADR 1 */
            b[len + 2] = 1;
            put_address(b + len + 4, 0, msf);
            len += 8;
        }
        b[len + 1] = 0x16;
        b[len + 2] = 0xaa;
        put_address(b + len + 4, sectors(d), msf);
        len += 8;
    } else if (format == 1) {
        b[5] = 0x14;
        b[6] = 1;
        put_address(b + 8, 0, msf);
        len = 12;
    } else if (format == 2) {
        static const uint8_t points[] = {0xa0, 0xa1, 0xa2, 0x01};
        for (unsigned i = 0; i < sizeof(points); i++, len += 11) {
            uint8_t *e = b + len;
            e[0] = 1; /* session */
            e[1] = 0x14;
            e[3] = points[i];
            if (points[i] == 0xa2 || points[i] == 0x01) {
                put_address(e + 7, points[i] == 0xa2 ? sectors(d) : 0, true);
            } else {
                e[8] = 1; /* first, last track */
            }
        }
    } else {
        invalid_field(d);
        return;
    }
    put16(b, len - 2);
    reply(d, len, get16(cdb + 7));
}

/* MMC-5 6.22 READ DISC INFORMATION: one complete session with one track. */
static void cdb_read_disc_information(struct ata *d)
{
    uint8_t *b = d->h.buf;
    if ((d->r.cdb[1] & 7) != 0) {
        invalid_field(d);
        return;
    }
    memset(b, 0, 34);
    put16(b, 32);
    b[2] = 0x0e;
    b[3] = b[4] = b[5] = b[6] = 1;
    b[7] = 0x20; /* unrestricted use */
    reply(d, 34, get16(d->r.cdb + 7));
}

/* MMC-5 6.27 READ TRACK INFORMATION. */
static void cdb_read_track_information(struct ata *d)
{
    uint8_t *b = d->h.buf;
    const uint8_t *cdb = d->r.cdb;
    uint32_t n = get32(cdb + 2);
    unsigned type = cdb[1] & 3;
    if (type == 3 || (type == 0 ? n >= sectors(d) : n != 1)) {
        invalid_field(d);
        return;
    }
    memset(b, 0, 36);
    put16(b, 34);
    b[2] = b[3] = 1; /* track, session */
    b[5] = 4;        /* data track */
    b[6] = 1;        /* mode 1 */
    put32(b + 24, sectors(d));
    reply(d, 36, get16(cdb + 7));
}

static void cdb_read_subchannel(struct ata *d)
{
    uint8_t *b = d->h.buf;
    const uint8_t *cdb = d->r.cdb;
    uint32_t len = 4;
    memset(b, 0, 24);
    b[1] = 0x15; /* no audio status */
    if ((cdb[2] & 0x40) != 0) {
        b[4] = cdb[3];
        switch (cdb[3]) {
        case 1: /* position */
            b[5] = 0x14;
            b[6] = b[7] = 1;
            put_address(b + 8, 0, (cdb[1] & 2) != 0);
            len = 16;
            break;
        case 2: /* catalogue number, ISRC: none recorded */
        case 3:
            len = 24;
            break;
        default:
            invalid_field(d);
            return;
        }
    }
    put16(b + 2, len - 4);
    reply(d, len, get16(cdb + 7));
}

/* ---- mode pages, SFF-8020i 10.8 ---- */

static const struct mode_page {
    uint8_t code, len; /* bytes with the two of the header */
    uint8_t data[22];
} mode_pages[] = {
    /* Error recovery: 5 retries. Audio control. Capabilities: 4x DVD-ROM, tray, 512 KiB buffer. */
    {0x01, 8, {0x01, 6, 0, 5}},
    {0x0e, 16, {0x0e, 14, [8] = 0x20, [10] = 0x20, [12] = 0x20, [14] = 0x20}},
    {0x2a, 22, {0x2a, 20, 0x3b, 0, 0x71, 0x60, 0x29, 0, 2, 0xc0, 0, 2, 2, 0, 2, 0xc0}},
};

static void cdb_mode_sense(struct ata *d)
{
    const uint8_t *cdb = d->r.cdb;
    uint8_t *b = d->h.buf;
    bool six = cdb[0] == 0x1a;
    unsigned page = cdb[2] & 0x3f, control = cdb[2] >> 6;
    uint32_t head = six ? 4 : 8, len = head;
    if (control == 3) {
        check_condition(d, ILLEGAL_REQUEST, ASC_SAVING_UNSUPPORTED, 0);
        return;
    }
    memset(b, 0, 64);
    for (size_t i = 0; i < sizeof(mode_pages) / sizeof(mode_pages[0]); i++) {
        const struct mode_page *p = &mode_pages[i];
        if (page != p->code && page != 0x3f) {
            continue;
        }
        /* Control 1 asks what MODE SELECT could change: nothing. */
        memcpy(b + len, p->data, control == 1 ? 2 : p->len);
        if (p->code == 0x2a && control == 0 && d->r.locked) {
            b[len + 6] |= 2;
        }
        len += p->len;
    }
    if (len == head) {
        invalid_field(d);
        return;
    }
    uint8_t medium = 0x01; /* medium type, SFF-8020i table 36: 120 mm data CD, or none */
    if (!ready(d)) {
        medium = d->r.tray_open ? 0x71 : 0x70;
    }
    if (six) {
        b[0] = (uint8_t)(len - 1);
        b[1] = medium;
        reply(d, len, cdb[4]);
    } else {
        put16(b, len - 2);
        b[2] = medium;
        reply(d, len, get16(cdb + 7));
    }
}

/* ---- GET CONFIGURATION, MMC-5 chapter 5 ---- */

enum { PROFILE_CD_ROM = 0x08, PROFILE_DVD_ROM = 0x10 };

static const struct feature {
    uint16_t code;
    uint8_t flags; /* version << 2 | persistent << 1 | current */
    uint8_t len;
    uint8_t data[8];
    uint16_t profile; /* current only with this one, 0: always */
} features[] = {
    {0x0000, 0x03, 8, {0, PROFILE_DVD_ROM, 0, 0, 0, PROFILE_CD_ROM, 0, 0}, 0}, /* profiles */
    {0x0001, 0x0b, 8, {0, 0, 0, 2, 1}, 0},                  /* core: ATAPI, DBE */
    {0x0002, 0x07, 4, {0x02}, 0},                           /* morphing: polled events */
    {0x0003, 0x0b, 4, {0x29}, 0},                           /* removable: tray, eject, lock */
    {0x0010, 0x00, 8, {0, 0, 8, 0, 0, 0x10, 0, 0}, 0xffff}, /* random readable: 2048 bytes */
    {0x001d, 0x00, 0, {0}, PROFILE_CD_ROM},                 /* multi-read */
    {0x001e, 0x08, 4, {0}, PROFILE_CD_ROM},                 /* CD read */
    {0x001f, 0x00, 0, {0}, PROFILE_DVD_ROM},                /* DVD read */
};

static unsigned profile(const struct ata *d)
{
    return !ready(d) ? 0 : sectors(d) > CD_MAX_SECTORS ? PROFILE_DVD_ROM : PROFILE_CD_ROM;
}

static void cdb_get_configuration(struct ata *d)
{
    const uint8_t *cdb = d->r.cdb;
    uint8_t *b = d->h.buf;
    unsigned rt = cdb[1] & 3, from = get16(cdb + 2), now = profile(d);
    uint32_t len = 8;
    if (rt == 3) {
        invalid_field(d);
        return;
    }
    memset(b, 0, 128);
    put16(b + 6, now);
    for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
        const struct feature *f = &features[i];
        bool current = f->profile == 0 || (now != 0 && (f->profile == now || f->profile == 0xffff));
        if ((rt == 2 && f->code != from) || f->code < from || (rt == 1 && !current)) {
            continue;
        }
        uint8_t *p = b + len;
        put16(p, f->code);
        p[2] = (uint8_t)(f->flags | (current ? 1 : 0));
        p[3] = f->len;
        memcpy(p + 4, f->data, f->len);
        if (f->code == 0) { /* which profile is current */
            p[6] = now == PROFILE_DVD_ROM;
            p[10] = now == PROFILE_CD_ROM;
        }
        len += 4u + f->len;
    }
    put32(b, len - 4);
    reply(d, len, get16(cdb + 7));
}

/* The next event to report: what has happened to the medium before what the host asks for. */
static uint8_t next_event(struct ata *d)
{
    static const uint8_t order[] = {EVENT_REMOVAL, EVENT_NEW_MEDIUM, EVENT_EJECT_REQUEST};
    for (size_t i = 0; i < sizeof(order); i++) {
        if ((d->r.media_events & 1u << order[i]) != 0) {
            d->r.media_events = (uint8_t)(d->r.media_events & ~(1u << order[i]));
            return order[i];
        }
    }
    return EVENT_NONE;
}

/* MMC-5 6.6: media events, polled. */
static void cdb_get_event_status(struct ata *d)
{
    const uint8_t *cdb = d->r.cdb;
    uint8_t *b = d->h.buf;
    enum { MEDIA_CLASS = 4 };
    if ((cdb[1] & 1) == 0) { /* asynchronous notification is not implemented */
        invalid_field(d);
        return;
    }
    memset(b, 0, 8);
    b[3] = 1 << MEDIA_CLASS;
    if ((cdb[4] & (1 << MEDIA_CLASS)) == 0) {
        put16(b, 2);
        b[2] = 0x80; /* no event available */
        reply(d, 4, get16(cdb + 7));
        return;
    }
    put16(b, 6);
    b[2] = MEDIA_CLASS;
    b[4] = next_event(d);
    b[5] = (uint8_t)((d->r.tray_open ? 1 : 0) | (ready(d) ? 2 : 0));
    reply(d, 8, get16(cdb + 7));
}

static void cdb_mechanism_status(struct ata *d)
{
    memset(d->h.buf, 0, 8);
    d->h.buf[1] = d->r.tray_open ? 0x10 : 0;
    d->h.buf[5] = 1; /* slots in the table, none present */
    reply(d, 8, get16(d->r.cdb + 8));
}

static void cdb_prevent_allow(struct ata *d)
{
    d->r.locked = (d->r.cdb[4] & 1) != 0;
    done(d);
}

/* A read under way must not go on with another medium. */
static void lose_medium(struct ata *d)
{
    ata_settle(d);
    if (d->r.left > 0 && (d->r.stream == ATA_STREAM_IMAGE || d->r.stream == ATA_STREAM_RAW)) {
        d->r.stream = ATA_STREAM_LOST;
        ata_dma_kick(d);
    }
}

void atapi_move_tray(struct ata *d, bool open)
{
    if (d->r.tray_open == open) {
        return;
    }
    lose_medium(d);
    d->r.tray_open = open;
    if (open) {
        d->r.media_events = 1 << EVENT_REMOVAL;
        d->r.ua_asc = 0;
    } else if (d->h.medium != NULL) {
        d->r.media_events = 1 << EVENT_NEW_MEDIUM;
        d->r.ua_asc = ASC_MEDIUM_CHANGED;
    }
    if (d->h.tray_moved != NULL) {
        d->h.tray_moved(d->h.tray_opaque, d);
    }
}

static void cdb_start_stop(struct ata *d)
{
    uint8_t what = d->r.cdb[4];
    if ((what & 0xf0) == 0 && (what & 2) != 0) { /* no power condition; load or eject */
        bool open = (what & 1) == 0;
        if (open && d->r.locked) {
            check_condition(d, d->h.medium != NULL ? ILLEGAL_REQUEST : NOT_READY,
                            ASC_REMOVAL_PREVENTED, 2);
            return;
        }
        atapi_move_tray(d, open);
    }
    done(d);
}

/* MMC-5 6.23, DVD formats. */
static void cdb_read_dvd_structure(struct ata *d)
{
    static const struct {
        uint8_t format, flags;
        uint16_t len;
    } formats[] = {{0x00, 0x40, 2052}, {0x01, 0x40, 8}, {0x03, 0x40, 192}, {0x04, 0x40, 2052}};
    const uint8_t *cdb = d->r.cdb;
    uint8_t *b = d->h.buf;
    uint32_t len = 4, alloc = get16(cdb + 8), last;
    memset(b, 0, 2052);
    if (cdb[7] == 0xff) { /* list of formats */
        for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++, len += 4) {
            b[len] = formats[i].format;
            b[len + 1] = formats[i].flags;
            put16(b + len + 2, formats[i].len);
        }
        put16(b, len - 2);
        reply(d, len, alloc);
        return;
    }
    if (!ready(d)) {
        check_condition(d, NOT_READY, ASC_NO_MEDIUM, d->r.tray_open ? 2 : 1);
        return;
    }
    if (profile(d) != PROFILE_DVD_ROM) {
        check_condition(d, ILLEGAL_REQUEST, ASC_INCOMPATIBLE_MEDIUM, 2);
        return;
    }
    switch (cdb[7]) {
    case 0x00: /* physical format: one layer, 12 cm, 10.08 Mbit/s */
        if (cdb[6] != 0) {
            invalid_field(d);
            return;
        }
        last = sectors(d) - 1;
        b[4] = 1;    /* DVD-ROM, part version 1 */
        b[5] = 0x0f; /* 120 mm, rate not specified */
        b[6] = 1;    /* embossed */
        put32(b + 8, 0x30000);
        put32(b + 12, 0x30000 + last);
        put32(b + 16, 0x30000 + last);
        len = 2052;
        break;
    case 0x01: /* no copy protection */
        len = 8;
        break;
    case 0x04: /* manufacturing information: empty */
        len = 2052;
        break;
    default: /* 03h, burst cutting area: none on this disc */
        invalid_field(d);
        return;
    }
    put16(b, len - 2);
    reply(d, len, alloc);
}

static void cdb_set_speed(struct ata *d)
{
    done(d);
}

static const struct {
    void (*fn)(struct ata *d);
    uint8_t flags;
} cdbs[256] = {
    [0x00] = {cdb_test_unit_ready, NEEDS_MEDIUM},
    [0x03] = {cdb_request_sense, IN_ATTENTION},
    [0x12] = {cdb_inquiry, IN_ATTENTION},
    [0x1a] = {cdb_mode_sense, 0},
    [0x1b] = {cdb_start_stop, 0},
    [0x1e] = {cdb_prevent_allow, 0},
    [0x25] = {cdb_read_capacity, NEEDS_MEDIUM},
    [0x28] = {cdb_read, NEEDS_MEDIUM},
    [0x2b] = {cdb_seek, NEEDS_MEDIUM},
    [0x42] = {cdb_read_subchannel, NEEDS_MEDIUM},
    [0x43] = {cdb_read_toc, NEEDS_MEDIUM},
    [0x46] = {cdb_get_configuration, IN_ATTENTION},
    [0x4a] = {cdb_get_event_status, IN_ATTENTION},
    [0x51] = {cdb_read_disc_information, NEEDS_MEDIUM},
    [0x52] = {cdb_read_track_information, NEEDS_MEDIUM},
    [0x5a] = {cdb_mode_sense, 0},
    [0xa8] = {cdb_read, NEEDS_MEDIUM},
    [0xad] = {cdb_read_dvd_structure, 0},
    [0xb9] = {cdb_read_cd, NEEDS_MEDIUM},
    [0xbb] = {cdb_set_speed, 0},
    [0xbd] = {cdb_mechanism_status, 0},
    [0xbe] = {cdb_read_cd, NEEDS_MEDIUM},
};

/* A whole command packet has arrived in buf. */
void atapi_cdb(struct ata *d)
{
    struct ata_regs *r = &d->r;
    memcpy(r->cdb, d->h.buf, ATA_CDB);
    uint8_t op = r->cdb[0], flags = cdbs[op].flags;
    r->buf_pos = r->buf_end = r->buf_fill = 0;
    if (op != 0x03) {
        r->sense_key = r->asc = r->ascq = 0;
    }
    if (cdbs[op].fn == NULL) {
        check_condition(d, ILLEGAL_REQUEST, ASC_INVALID_OPCODE, 0);
    } else if (r->ua_asc != 0 && (flags & IN_ATTENTION) == 0) {
        uint8_t asc = r->ua_asc;
        r->ua_asc = 0;
        check_condition(d, UNIT_ATTENTION, asc, 0);
    } else if ((flags & NEEDS_MEDIUM) != 0 && !ready(d)) {
        check_condition(d, NOT_READY, ASC_NO_MEDIUM, r->tray_open ? 2 : 1);
    } else {
        cdbs[op].fn(d);
    }
}

/* The PACKET command: asks for the 12 bytes. */
void atapi_packet(struct ata *d)
{
    struct ata_regs *r = &d->r;
    unsigned limit = (unsigned)(r->lba_mid[0] | r->lba_high[0] << 8);
    if ((r->feature[0] & FEATURE_OVL) != 0) {
        ata_fail(d, ATA_ABRT);
        return;
    }
    r->packet_dma = (r->feature[0] & FEATURE_DMA) != 0;
    r->byte_limit = (uint16_t)(limit == 0xffff ? 0xfffe : limit == 1 ? 2 : limit);
    r->count[0] = ATA_REASON_CD;
    ata_pio(d, ATA_PIO_OUT, ATA_NEXT_CDB, 0, ATA_CDB, false);
}

/* Words of IDENTIFY PACKET DEVICE (ATA-6 8.16) beside the transfer modes: those of the drive that
 * saved guests know. */
void atapi_identify(struct ata *d, uint16_t *w)
{
    w[0] = 0x85c0; /* ATAPI, CD, removable, DRQ within 50 us, 12-byte packets */
    ata_string(w, 10, 10, d->cfg.serial);
    w[20] = 3;
    w[21] = 512;
    w[22] = 4;
    ata_string(w, 23, 4, d->cfg.firmware);
    ata_string(w, 27, 20, d->cfg.model);
    w[48] = 1;
    w[49] = 0x0300; /* DMA, LBA */
    w[53] = 7;
    w[64] = 3;
    w[65] = w[66] = w[68] = 0x00b4;
    w[67] = 0x012c;
    w[71] = w[72] = 30; /* us to release the bus */
    w[80] = 0x001e;
}

void atapi_set_medium(struct ata *d, struct block *medium)
{
    lose_medium(d);
    bool had = ready(d);
    d->h.medium = medium;
    if (medium != NULL) {
        d->r.tray_open = true; /* a new disc comes through the door */
        atapi_move_tray(d, false);
    } else if (had) {
        d->r.media_events = 1 << EVENT_REMOVAL;
    }
}

bool atapi_may_open(struct ata *d, bool force)
{
    if (!d->r.locked || force || d->r.tray_open || d->h.medium == NULL) {
        return true;
    }
    d->r.media_events |= 1 << EVENT_EJECT_REQUEST;
    return false;
}
