/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CD drives: packet protocol, every packet command, media and tray. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/backend.h"
#include "core/pci.h"
#include "tests/unit/ide_rig.h"

enum { ANY = 0xfffe }; /* byte count limit */

#define CDB(...) ((const uint8_t[12]){ __VA_ARGS__ })

static int setup(void **state)
{
    *state = rig_create();
    return 0;
}

static int teardown(void **state)
{
    rig_destroy(*state);
    return 0;
}

static void expect_pattern(const uint8_t *p, uint64_t offset, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(p[i], block_fake_byte(offset + i));
    }
}

/* Sends a packet that has no data. Returns the sense, 0 when it went well. */
static unsigned run(struct rig *r, const uint8_t cdb[12])
{
    uint8_t buf[4096];
    return packet_in(r, cdb, ANY, buf, sizeof(buf)) < 0 ? sense(r) : 0;
}

static void protocol(void **state)
{
    struct rig *r = *state;
    out8(r, SECONDARY + 1, 0);
    out8(r, SECONDARY + 4, 0x00);
    out8(r, SECONDARY + 5, 0x08);
    out8(r, SECONDARY + 7, 0xa0);
    assert_int_equal(in8(r, SECONDARY_CONTROL), ATA_DRDY | ATA_DSC | ATA_DRQ);
    assert_false(r->h->plat.isa[15]); /* the packet is asked for without an interrupt */
    assert_int_equal(in8(r, SECONDARY + 2), ATA_REASON_CD);
    pio_out(r, SECONDARY, CDB(0x12, 0, 0, 0, 36), 12);
    assert_true(r->h->plat.isa[15]);
    assert_int_equal(in8(r, SECONDARY + 7), ATA_DRDY | ATA_DSC | ATA_DRQ);
    assert_int_equal(in8(r, SECONDARY + 2), ATA_REASON_IO);
    assert_int_equal(in8(r, SECONDARY + 4), 36);
    assert_int_equal(in8(r, SECONDARY + 5), 0);
    uint8_t b[36];
    pio_in(r, SECONDARY, b, 36);
    assert_true(r->h->plat.isa[15]); /* and the end */
    assert_int_equal(in8(r, SECONDARY + 7), ATA_DRDY | ATA_DSC);
    assert_int_equal(in8(r, SECONDARY + 2), ATA_REASON_CD | ATA_REASON_IO);
    assert_memory_equal(b, "\x05\x80\x00\x21\x1f\0\0\0QEMU    QEMU DVD-ROM    2.5+", 36);
    /* Overlap is not offered. */
    out8(r, SECONDARY + 1, 2);
    out8(r, SECONDARY + 7, 0xa0);
    assert_int_equal(in8(r, SECONDARY + 7), ATA_DRDY | ATA_ERR);
}

static void read_blocks(void **state)
{
    struct rig *r = *state;
    static const struct {
        unsigned limit, sectors, first, blocks;
    } rows[] = {
        { 2048, 1, 2048, 1 },   { 2048, 3, 2048, 3 },    { 3000, 3, 3000, 3 },
        { 1001, 2, 1000, 5 },   { 65535, 64, 65534, 3 }, { 65534, 33, 65534, 2 },
        { 4096, 40, 4096, 20 }, { 1, 1, 2, 1024 },
    };
    static uint8_t buf[64 * 2048];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t lba = 7 + (uint32_t)i;
        unsigned got = 0, blocks = 0, want = rows[i].sectors * 2048;
        packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, (uint8_t)lba, 0, 0, (uint8_t)rows[i].sectors),
               rows[i].limit, 0);
        while ((rig_wait(r, SECONDARY) & ATA_DRQ) != 0) {
            unsigned n = (unsigned)(in8(r, SECONDARY + 4) | in8(r, SECONDARY + 5) << 8);
            if (blocks == 0) {
                assert_int_equal(n, rows[i].first);
            }
            assert_true(got + n <= want);
            pio_in(r, SECONDARY, buf + got, n);
            got += n;
            blocks++;
        }
        assert_int_equal(in8(r, SECONDARY + 7), ATA_DRDY | ATA_DSC);
        assert_int_equal(got, want);
        assert_int_equal(blocks, rows[i].blocks);
        expect_pattern(buf, lba * 2048u, want);
    }
    assert_int_equal(packet_in(r, CDB(0xa8, 0, 0, 0, 1, 0, 0, 0, 0, 2), 2048, buf, sizeof(buf)),
                     4096); /* READ(12) */
    expect_pattern(buf, 256 * 2048u, 4096);
    assert_int_equal(packet_in(r, CDB(0x28, 0, 0, 0, 0, 1, 0, 0, 0), 2048, buf, sizeof(buf)), 0);
    /* Limit 0 is a broken PIO request. */
    packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, 1, 0, 0, 1), 0, 0);
    assert_int_equal(in8(r, SECONDARY + 7), ATA_DRDY | ATA_ERR);
    assert_int_equal(in8(r, SECONDARY + 1), ATA_ABRT);
}

static void odd_lengths(void **state)
{
    struct rig *r = *state;
    uint8_t b[64];
    memset(b, 0xee, sizeof(b));
    packet(r, SECONDARY, CDB(0x12, 0, 0, 0, 35), 9, 0); /* blocks of 8, 8, 8, 8, 3 */
    unsigned got = 0;
    while ((in8(r, SECONDARY + 7) & ATA_DRQ) != 0) {
        unsigned n = in8(r, SECONDARY + 4);
        assert_int_equal(n, got < 32 ? 8 : 3);
        pio_in(r, SECONDARY, b + got, (n + 1) & ~1u);
        got += n;
    }
    assert_int_equal(got, 35);
    assert_memory_equal(b + 8, "QEMU    QEMU DVD-ROM    2.5", 27);
    assert_int_equal(b[35], 0); /* the pad of the last word */
    assert_int_equal(b[36], 0xee);
}

static void range_and_errors(void **state)
{
    struct rig *r = *state;
    static uint8_t buf[8 * 2048];
    assert_int_equal(run(r, CDB(0x28, 0, 0, 0, 0x01, 0xf4, 0, 0, 1)),
                     0x052100); /* 500: one past the end */
    assert_int_equal(run(r, CDB(0x28, 0, 0, 0, 0x01, 0xf3, 0, 0, 2)), 0x052100);
    assert_int_equal(run(r, CDB(0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)),
                     0x052100);
    assert_int_equal(packet_in(r, CDB(0x28, 0, 0, 0, 0x01, 0xf3, 0, 0, 1), ANY, buf, sizeof(buf)),
                     2048);
    assert_int_equal(run(r, CDB(0x2b, 0, 0, 0, 0x01, 0xf3)), 0);
    assert_int_equal(run(r, CDB(0x2b, 0, 0, 0, 0x01, 0xf4)), 0x052100);
    assert_int_equal(run(r, CDB(0xff)), 0x052000);
    assert_int_equal(run(r, CDB(0x03, 0, 0, 0, 18)), 0); /* sense is given once */
    assert_int_equal(sense(r), 0);
    /* A bad sector: what is before it arrives. */
    block_fake_fail(r->cd, BLOCK_READ, 103 * 2048, -EIO);
    packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, 100, 0, 0, 8), 2048, 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(rig_wait(r, SECONDARY), ATA_DRDY | ATA_DSC | ATA_DRQ);
        pio_in(r, SECONDARY, buf, 2048);
        expect_pattern(buf, (100 + i) * 2048u, 2048);
    }
    assert_int_equal(rig_wait(r, SECONDARY), ATA_DRDY | ATA_ERR);
    assert_int_equal(in8(r, SECONDARY + 1), 0x30);
    assert_int_equal(sense(r), 0x031100);
    block_fake_fail(r->cd, BLOCK_READ, 0, 0);
    assert_int_equal(packet_in(r, CDB(0x28, 0, 0, 0, 0, 100, 0, 0, 8), ANY, buf, sizeof(buf)),
                     8 * 2048);
}

/* Every packet opcode: which exist. */
static void every_packet_opcode(void **state)
{
    struct rig *r = *state;
    static const uint8_t known[] = { 0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28,
                                     0x2b, 0x42, 0x43, 0x46, 0x4a, 0x51, 0x52, 0x5a,
                                     0xa8, 0xad, 0xb9, 0xbb, 0xbd, 0xbe };
    for (unsigned op = 0; op < 256; op++) {
        unsigned s = run(r, CDB((uint8_t)op));
        if (memchr(known, (int)op, sizeof(known)) != NULL) {
            assert_int_not_equal(s, 0x052000);
        } else {
            assert_int_equal(s, 0x052000);
        }
    }
}

/* clang-format off */
static const struct answer {
    const char *name;
    uint8_t cdb[12];
    int len; /* -1: sense */
    unsigned sense;
    uint8_t bytes[52];
    unsigned checked; /* bytes compared */
} answers[] = {
    { "capacity", { 0x25 }, 8, 0, { 0, 0, 0x01, 0xf3, 0, 0, 8, 0 }, 8 },
    { "inquiry, short", { 0x12, 0, 0, 0, 5 }, 5, 0, { 5, 0x80, 0, 0x21, 31 }, 5 },
    { "inquiry pages", { 0x12, 1, 0, 0, 255 }, 6, 0, { 5, 0, 0, 2, 0, 0x83 }, 6 },
    { "inquiry id", { 0x12, 1, 0x83, 0, 255 }, 100, 0,
      { 5, 0x83, 0, 96, 2, 0, 0, 20, 'Q', 'M', '0', '0', '0', '0', '3', ' ' }, 16 },
    { "inquiry page without EVPD", { 0x12, 0, 0x83, 0, 255 }, -1, 0x052400, { 0 }, 0 },
    { "inquiry unknown page", { 0x12, 1, 0x80, 0, 255 }, -1, 0x052400, { 0 }, 0 },
    { "toc lba", { 0x43, 0, 0, 0, 0, 0, 0, 3, 0 }, 20, 0,
      { 0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x16, 0xaa, 0, 0, 0, 1, 0xf4 }, 20 },
    { "toc msf", { 0x43, 2, 0, 0, 0, 0, 0, 3, 0 }, 20, 0,
      { 0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 2, 0, 0, 0x16, 0xaa, 0, 0, 0, 8, 50 }, 20 },
    { "toc lead-out", { 0x43, 0, 0, 0, 0, 0, 0xaa, 3, 0 }, 12, 0,
      { 0, 10, 1, 1, 0, 0x16, 0xaa, 0, 0, 0, 1, 0xf4 }, 12 },
    { "toc track 5", { 0x43, 0, 0, 0, 0, 0, 5, 3, 0 }, -1, 0x052400, { 0 }, 0 },
    { "toc cut", { 0x43, 0, 0, 0, 0, 0, 0, 0, 4 }, 4, 0, { 0, 18, 1, 1 }, 4 },
    { "toc sessions", { 0x43, 0, 1, 0, 0, 0, 0, 3, 0 }, 12, 0, { 0, 10, 1, 1, 0, 0x14, 1, 0 }, 12 },
    { "toc sessions, SFF", { 0x43, 0, 0, 0, 0, 0, 0, 3, 0, 0x40 }, 12, 0,
      { 0, 10, 1, 1, 0, 0x14, 1, 0 }, 12 },
    { "toc raw", { 0x43, 2, 2, 0, 0, 0, 0, 3, 0 }, 48, 0,
      { 0, 46, 1, 1, 1, 0x14, 0, 0xa0, 0, 0, 0, 0, 1, 0, 0, 1, 0x14, 0, 0xa1, 0, 0, 0, 0, 1, 0, 0,
        1, 0x14, 0, 0xa2, 0, 0, 0, 0, 0, 8, 50, 1, 0x14, 0, 1, 0, 0, 0, 0, 0, 2, 0 }, 48 },
    { "toc format 4", { 0x43, 0, 4, 0, 0, 0, 0, 3, 0 }, -1, 0x052400, { 0 }, 0 },
    { "mode errors", { 0x5a, 0, 0x01, 0, 0, 0, 0, 1, 0 }, 16, 0,
      { 0, 14, 1, 0, 0, 0, 0, 0, 1, 6, 0, 5 }, 16 },
    { "mode audio", { 0x5a, 0, 0x0e, 0, 0, 0, 0, 1, 0 }, 24, 0,
      { 0, 22, 1, 0, 0, 0, 0, 0, 0x0e, 14 }, 10 },
    { "mode capabilities", { 0x5a, 0, 0x2a, 0, 0, 0, 0, 1, 0 }, 30, 0,

      { 0, 28, 1, 0, 0, 0, 0, 0, 0x2a, 20, 0x3b, 0, 0x71, 0x60, 0x29, 0, 2, 0xc0, 0, 2, 2, 0, 2,
        0xc0 }, 30 },
    { "mode all", { 0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0 }, 54, 0,
      { 0, 52, 1, 0, 0, 0, 0, 0, 1, 6 }, 10 },
    { "mode changeable", { 0x5a, 0, 0x6a, 0, 0, 0, 0, 1, 0 }, 30, 0,
      { 0, 28, 1, 0, 0, 0, 0, 0, 0x2a, 20, 0, 0 }, 30 },
    { "mode saved", { 0x5a, 0, 0xea, 0, 0, 0, 0, 1, 0 }, -1, 0x053900, { 0 }, 0 },
    { "mode unknown", { 0x5a, 0, 0x05, 0, 0, 0, 0, 1, 0 }, -1, 0x052400, { 0 }, 0 },
    { "mode(6)", { 0x1a, 0, 0x2a, 0, 255 }, 26, 0, { 25, 1, 0, 0, 0x2a, 20 }, 6 },
    { "configuration head", { 0x46, 0, 0, 0, 0, 0, 0, 0, 8 }, 8, 0,
      { 0, 0, 0, 72, 0, 0, 0, 8 }, 8 },
    { "configuration profiles", { 0x46, 2, 0, 0, 0, 0, 0, 1, 0 }, 20, 0,
      { 0, 0, 0, 16, 0, 0, 0, 8, 0, 0, 3, 8, 0, 0x10, 0, 0, 0, 8, 1, 0 }, 20 },
    { "configuration one", { 0x46, 2, 0, 0x1e, 0, 0, 0, 1, 0 }, 16, 0,
      { 0, 0, 0, 12, 0, 0, 0, 8, 0, 0x1e, 9, 4 }, 16 },
    { "configuration absent", { 0x46, 2, 0, 0x20, 0, 0, 0, 1, 0 }, 8, 0,
      { 0, 0, 0, 4, 0, 0, 0, 8 }, 8 },
    { "configuration bad", { 0x46, 3, 0, 0, 0, 0, 0, 1, 0 }, -1, 0x052400, { 0 }, 0 },
    { "events", { 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8 }, 8, 0, { 0, 6, 4, 0x10, 0, 2, 0, 0 }, 8 },
    { "events, none of ours", { 0x4a, 1, 0, 0, 0x40, 0, 0, 0, 8 }, 4, 0, { 0, 2, 0x80, 0x10 }, 4 },
    { "events, asynchronous", { 0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8 }, -1, 0x052400, { 0 }, 0 },
    { "disc information", { 0x51, 0, 0, 0, 0, 0, 0, 1, 0 }, 34, 0,
      { 0, 32, 0x0e, 1, 1, 1, 1, 0x20 }, 34 },
    { "disc information, other", { 0x51, 1, 0, 0, 0, 0, 0, 1, 0 }, -1, 0x052400, { 0 }, 0 },
    { "track information", { 0x52, 1, 0, 0, 0, 1, 0, 1, 0 }, 36, 0, { 0, 34, 1, 1, 0, 4, 1 }, 7 },
    { "track information, track 2", { 0x52, 1, 0, 0, 0, 2, 0, 1, 0 }, -1, 0x052400, { 0 }, 0 },
    { "mechanism", { 0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 255 }, 8, 0, { 0, 0, 0, 0, 0, 1 }, 8 },
    { "sub-channel", { 0x42, 0, 0x40, 1, 0, 0, 0, 0, 64 }, 16, 0,
      { 0, 0x15, 0, 12, 1, 0x14, 1, 1 }, 16 },
    { "sub-channel head", { 0x42, 0, 0, 1, 0, 0, 0, 0, 64 }, 4, 0, { 0, 0x15, 0, 0 }, 4 },
    { "sub-channel MCN", { 0x42, 0, 0x40, 2, 0, 0, 0, 0, 64 }, 24, 0, { 0, 0x15, 0, 20, 2 }, 24 },
    { "sub-channel bad", { 0x42, 0, 0x40, 9, 0, 0, 0, 0, 64 }, -1, 0x052400, { 0 }, 0 },
    { "dvd formats", { 0xad, 0, 0, 0, 0, 0, 0, 0xff, 1, 0 }, 20, 0,
      { 0, 18, 0, 0, 0, 0x40, 8, 4, 1, 0x40, 0, 8 }, 12 },
    { "dvd structure of a CD", { 0xad, 0, 0, 0, 0, 0, 0, 0, 1, 0 }, -1, 0x053002, { 0 }, 0 },
    { "read cd, nothing", { 0xbe, 0, 0, 0, 0, 16, 0, 0, 1, 0 }, 0, 0, { 0 }, 0 },
    { "read cd, subchannel", { 0xbe, 0, 0, 0, 0, 16, 0, 0, 1, 0x10, 1 }, -1, 0x052400, { 0 }, 0 },
    { "read cd, audio", { 0xbe, 4, 0, 0, 0, 16, 0, 0, 1, 0x10 }, -1, 0x052400, { 0 }, 0 },
    { "read cd, header only", { 0xbe, 0, 0, 0, 0, 16, 0, 0, 1, 0x20 }, -1, 0x052400, { 0 }, 0 },
    { "speed", { 0xbb, 0, 0xff, 0xff }, 0, 0, { 0 }, 0 },
    { "start", { 0x1b, 0, 0, 0, 1 }, 0, 0, { 0 }, 0 },
};
/* clang-format on */

static void golden_answers(void **state)
{
    struct rig *r = *state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        const struct answer *a = &answers[i];
        uint8_t b[4096];
        int n = packet_in(r, a->cdb, ANY, b, sizeof(b));
        if (n != a->len) {
            fail_msg("%s: %d bytes, want %d", a->name, n, a->len);
        }
        if (n < 0) {
            unsigned s = sense(r);
            if (s != a->sense) {
                fail_msg("%s: sense %06x, want %06x", a->name, s, a->sense);
            }
            continue;
        }
        for (unsigned k = 0; k < a->checked; k++) {
            if (b[k] != a->bytes[k]) {
                fail_msg("%s: byte %u is %02x, want %02x", a->name, k, b[k], a->bytes[k]);
            }
        }
    }
}

static void raw_sectors(void **state)
{
    struct rig *r = *state;
    static uint8_t b[3 * 2352];
    static const uint8_t head[] = { 0,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                    0xff, 0xff, 0xff, 0,    0x00, 0x02, 0x16, 1 };
    assert_int_equal(packet_in(r, CDB(0xbe, 0, 0, 0, 0, 16, 0, 0, 3, 0xf8), ANY, b, sizeof(b)),
                     3 * 2352);
    assert_memory_equal(b, head, 16);
    for (unsigned i = 0; i < 3; i++) {
        expect_pattern(b + i * 2352 + 16, (16 + i) * 2048u, 2048);
    }
    assert_int_equal(b[2352 * 2 + 14], 0x18);
    assert_int_equal(packet_in(r, CDB(0xbe, 8, 0, 0, 0, 16, 0, 0, 2, 0x10), ANY, b, sizeof(b)),
                     4096);
    expect_pattern(b, 16 * 2048u, 4096);
    /* The same by MSF: 00:02:16 to 00:02:18. */
    assert_int_equal(packet_in(r, CDB(0xb9, 0, 0, 0, 2, 16, 0, 2, 18, 0xf8), ANY, b, sizeof(b)),
                     2 * 2352);
    expect_pattern(b + 16, 16 * 2048u, 2048);
    assert_int_equal(run(r, CDB(0xb9, 0, 0, 0, 1, 16, 0, 2, 18, 0xf8)), 0x052400);
    /* And by DMA. */
    prd(r, 0x1000, 0x20000, 2 * 2352, true);
    packet(r, SECONDARY, CDB(0xbe, 0, 0, 0, 0, 20, 0, 0, 2, 0xf8), 0, 1);
    bm_start(r, 1, 0x1000, true);
    assert_int_equal(rig_wait(r, SECONDARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(bm_status(r, 1) & 7, 4);
    expect_pattern(r->h->plat.ram + 0x20000 + 2352 + 16, 21 * 2048u, 2048);
}

static void dma(void **state)
{
    struct rig *r = *state;
    prd(r, 0x1000, 0x20000, 0x1000, false);
    prd(r, 0x1008, 0x30000, 0x3000, true);
    packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, 50, 0, 0, 8), 0, 1);
    assert_int_equal(in8(r, SECONDARY_CONTROL) & ATA_BSY, ATA_BSY);
    bm_start(r, 1, 0x1000, true);
    assert_int_equal(bm_status(r, 1) & 1, 1);
    assert_int_equal(rig_wait(r, SECONDARY), ATA_DRDY | ATA_DSC);
    assert_true(r->h->plat.isa[15]);
    assert_int_equal(in8(r, SECONDARY + 2), ATA_REASON_CD | ATA_REASON_IO);
    assert_int_equal(bm_status(r, 1) & 7, 4);
    expect_pattern(r->h->plat.ram + 0x20000, 50 * 2048u, 0x1000);
    expect_pattern(r->h->plat.ram + 0x30000, 52 * 2048u, 0x3000);
    assert_int_equal(r->h->plat.holds, 0);
    bm_stop(r, 1);
    /* A short reply into a longer list: the bus master stays active. */
    prd(r, 0x1000, 0x20000, 4096, true);
    packet(r, SECONDARY, CDB(0x12, 0, 0, 0, 36), 0, 1);
    bm_start(r, 1, 0x1000, true);
    assert_int_equal(rig_wait(r, SECONDARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(bm_status(r, 1) & 7, 5);
    assert_memory_equal(r->h->plat.ram + 0x20000 + 8, "QEMU    ", 8);
    bm_stop(r, 1);
    /* A check condition moves nothing. */
    packet(r, SECONDARY, CDB(0x28, 0, 0xff, 0, 0, 50, 0, 0, 8), 0, 1);
    assert_int_equal(rig_wait(r, SECONDARY), ATA_DRDY | ATA_ERR);
}

static void media_change(void **state)
{
    struct rig *r = *state;
    uint8_t b[64];
    struct block *other = block_fake_create(r->h->loop, 10 * 2048, true);
    memset(block_fake_data(other), 0x77, 10 * 2048);
    assert_int_equal(run(r, CDB(0)), 0); /* no attention at power-on */
    assert_int_equal(piix_ide_find(r->ide, "ide-5632"), 2);
    assert_int_equal(piix_ide_find(r->ide, "ide-768"), -ENODEV);
    /* xl cd-eject, cd-insert: eject first. */
    assert_int_equal(piix_ide_eject(r->ide, 2, false), 0);
    assert_int_equal(run(r, CDB(0)), 0x023a02);
    assert_int_equal(packet_in(r, CDB(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), ANY, b, 8), 8);
    assert_int_equal(b[4], 3);
    assert_int_equal(b[5], 1); /* tray open */
    assert_int_equal(run(r, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1)), 0x023a02);
    assert_int_equal(run(r, CDB(0xad, 0, 0, 0, 0, 0, 0, 0, 1, 0)), 0x023a02);
    assert_int_equal(piix_ide_eject(r->ide, 2, false), 0); /* again: fine */
    assert_int_equal(piix_ide_set_medium(r->ide, 2, other), 0);
    assert_int_equal(packet_in(r, CDB(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), ANY, b, 8), 8);
    assert_int_equal(b[4], 2);
    assert_int_equal(b[5], 2); /* closed, medium present */
    assert_int_equal(packet_in(r, CDB(0x12, 0, 0, 0, 36), ANY, b, 36),
                     36); /* INQUIRY does not take the attention */
    assert_int_equal(run(r, CDB(0)), 0x062800);
    assert_int_equal(run(r, CDB(0)), 0);
    assert_int_equal(packet_in(r, CDB(0x25), ANY, b, 8), 8);
    assert_int_equal(b[3], 9);
    assert_int_equal(packet_in(r, CDB(0x28, 0, 0, 0, 0, 9, 0, 0, 1), ANY, b, sizeof(b)), 2048);
    assert_int_equal(b[0], 0x77);
    assert_int_equal(run(r, CDB(0x28, 0, 0, 0, 0, 10, 0, 0, 1)),
                     0x052100); /* smaller than the last */
    /* REQUEST SENSE may be what takes the attention. */
    assert_int_equal(piix_ide_set_medium(r->ide, 2, r->cd), 0);
    assert_int_equal(sense(r), 0x062800);
    assert_int_equal(run(r, CDB(0)), 0);
    assert_int_equal(piix_ide_set_medium(r->ide, 0, r->cd), -ENODEV);
    assert_int_equal(piix_ide_eject(r->ide, 1, true), -ENODEV);
    block_close(other);
}

static unsigned tray_calls;
static bool tray_last;

static void on_tray(void *opaque, unsigned drive, bool open)
{
    (void)opaque;
    assert_int_equal(drive, 2);
    tray_calls++;
    tray_last = open;
}

static void tray_and_lock(void **state)
{
    struct rig *r = *state;
    uint8_t b[64];
    struct ide_drive_info info;
    tray_calls = 0;
    piix_ide_on_tray(r->ide, on_tray, NULL);
    assert_int_equal(run(r, CDB(0x1e, 0, 0, 0, 1)), 0);
    assert_int_equal(run(r, CDB(0x1b, 0, 0, 0, 2)), 0x055302);
    assert_int_equal(packet_in(r, CDB(0x5a, 0, 0x2a, 0, 0, 0, 0, 1, 0), ANY, b, sizeof(b)), 30);
    assert_int_equal(b[8 + 6], 0x2b); /* lock state */
    assert_int_equal(piix_ide_eject(r->ide, 2, false), -EBUSY);
    assert_int_equal(packet_in(r, CDB(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), ANY, b, 8), 8);
    assert_int_equal(b[4], 1); /* eject request */
    assert_int_equal(packet_in(r, CDB(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), ANY, b, 8), 8);
    assert_int_equal(b[4], 0); /* once */
    assert_true(piix_ide_info(r->ide, 2, &info));
    assert_true(info.locked && !info.tray_open && info.medium == r->cd && info.cdrom);
    assert_int_equal(tray_calls, 0);
    /* The guest lets go and ejects. */
    assert_int_equal(run(r, CDB(0x1e, 0, 0, 0, 0)), 0);
    assert_int_equal(run(r, CDB(0x1b, 0, 0, 0, 2)), 0);
    assert_int_equal(tray_calls, 1);
    assert_true(tray_last);
    assert_int_equal(run(r, CDB(0)), 0x023a02);
    assert_int_equal(packet_in(r, CDB(0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8), ANY, b, 8), 8);
    assert_int_equal(b[1], 0x10);
    assert_int_equal(packet_in(r, CDB(0x46, 0, 0, 0, 0, 0, 0, 0, 8), ANY, b, 8), 8);
    assert_int_equal(b[7], 0);                          /* no current profile */
    assert_int_equal(run(r, CDB(0x1b, 0, 0, 0, 3)), 0); /* load */
    assert_int_equal(tray_calls, 2);
    assert_false(tray_last);
    assert_int_equal(run(r, CDB(0)), 0x062800);
    assert_int_equal(run(r, CDB(0)), 0);
    /* Forced. */
    assert_int_equal(run(r, CDB(0x1e, 0, 0, 0, 1)), 0);
    assert_int_equal(piix_ide_eject(r->ide, 2, true), 0);
    assert_int_equal(run(r, CDB(0)), 0x023a02);
    assert_int_equal(tray_calls, 3);
}

/* Another disc in the middle of a read by PIO, by DMA, by DMA that has not started: the read ends,
 * not a byte comes from the new disc, and the unit attention is not reported twice. */
static void replaced_during_transfer(struct rig *r, struct block *other)
{
    uint8_t b[2048];
    enum { SECTORS = ATA_DMA_CHUNK / 2048 + 100 }; /* two image requests */
    struct block *cd = block_fake_create(r->h->loop, SECTORS * 2048, true);
    memset(block_fake_data(other), 0xcc, 10 * 2048);
    for (unsigned how = 0; how < 3; how++) {
        assert_int_equal(piix_ide_set_medium(r->ide, 2, cd), 0);
        assert_int_equal(run(r, CDB(0)), 0x062800);
        memset(r->h->plat.ram + 0x100000, 0, 0x200000);
        if (how > 0) {
            for (unsigned i = 0; i < 32; i++) {
                prd(r, 0x1000 + 8 * i, 0x100000 + 0x10000 * i, 65536, i == 31);
            }
            packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, 0, 0, SECTORS >> 8, SECTORS & 0xff), 0, 1);
            if (how == 1) {
                block_fake_hold(cd, true);
                bm_start(r, 1, 0x1000, true);
                harness_step(r->h, 1000);
            }
        } else {
            packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 100), 2048, 0);
            pio_in(r, SECONDARY, b, 2048);
        }
        assert_int_equal(piix_ide_set_medium(r->ide, 2, other), 0);
        block_fake_hold(cd, false);
        if (how == 2) {
            bm_start(r, 1, 0x1000, true);
        }
        uint8_t status;
        while (((status = rig_wait(r, SECONDARY)) & ATA_DRQ) != 0) {
            pio_in(r, SECONDARY, b, 2048);
            assert_int_not_equal(b[7], 0xcc);
        }
        assert_int_equal(status, ATA_DRDY | ATA_ERR);
        assert_int_equal(sense(r), 0x062800);
        assert_int_equal(run(r, CDB(0)), 0);
        bm_stop(r, 1);
        for (unsigned i = 0; i < 0x200000; i += 2048) {
            assert_false(memcmp(r->h->plat.ram + 0x100000 + i, block_fake_data(other), 2048) == 0);
        }
    }
    assert_int_equal(piix_ide_set_medium(r->ide, 2, r->cd), 0);
    assert_int_equal(run(r, CDB(0)), 0x062800);
    block_close(cd);
}

/* An eject request does not hide what has happened to the medium before, and goes with it. */
static void event_order(void **state)
{
    struct rig *r = *state;
    uint8_t b[8];
    static const uint8_t expected[] = {2, 1, 0};
    assert_int_equal(piix_ide_set_medium(r->ide, 2, r->cd), 0);
    assert_int_equal(run(r, CDB(0)), 0x062800);
    assert_int_equal(run(r, CDB(0x1e, 0, 0, 0, 1)), 0);
    assert_int_equal(piix_ide_move_tray(r->ide, 2, true, false), -EBUSY);
    for (unsigned i = 0; i < sizeof(expected); i++) {
        assert_int_equal(packet_in(r, CDB(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), ANY, b, 8), 8);
        assert_int_equal(b[4], expected[i]);
    }
    assert_int_equal(piix_ide_move_tray(r->ide, 2, true, false), -EBUSY);
    assert_int_equal(piix_ide_move_tray(r->ide, 2, true, true), 0);
    assert_int_equal(packet_in(r, CDB(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), ANY, b, 8), 8);
    assert_int_equal(b[4], 3);
    assert_int_equal(b[5], 1);
    assert_int_equal(packet_in(r, CDB(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), ANY, b, 8), 8);
    assert_int_equal(b[4], 0);
    /* Locked, but open already: the medium may be taken. */
    assert_int_equal(piix_ide_eject(r->ide, 2, false), 0);
    assert_int_equal(piix_ide_move_tray(r->ide, 0, true, true), -ENODEV);
}

static void change_during_transfer(void **state)
{
    struct rig *r = *state;
    uint8_t b[2048];
    struct block *other = block_fake_create(r->h->loop, 10 * 2048, true);
    /* PIO, half taken, more to be read from an image that is gone. */
    packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 100), 2048, 0);
    pio_in(r, SECONDARY, b, 2048);
    assert_int_equal(piix_ide_eject(r->ide, 2, true), 0);
    uint8_t status;
    unsigned blocks = 0;
    while (((status = rig_wait(r, SECONDARY)) & ATA_DRQ) != 0) {
        pio_in(r, SECONDARY, b, 2048);
        blocks++;
    }
    assert_int_equal(status, ATA_DRDY | ATA_ERR);
    assert_true(blocks < 40);
    assert_int_equal(sense(r), 0x023a02);
    replaced_during_transfer(r, other);
    /* A request in flight while the medium changes. */
    assert_int_equal(piix_ide_set_medium(r->ide, 2, r->cd), 0);
    assert_int_equal(run(r, CDB(0)), 0x062800);
    block_fake_hold(r->cd, true);
    packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, 3, 0, 0, 1), 2048, 0);
    assert_int_equal(in8(r, SECONDARY_CONTROL) & ATA_BSY, ATA_BSY);
    assert_int_equal(piix_ide_set_medium(r->ide, 2, other), 0);
    assert_int_equal(block_fake_waiting(r->cd), 0);
    assert_int_equal(rig_wait(r, SECONDARY), ATA_DRDY | ATA_DSC | ATA_DRQ); /* it had been read */
    pio_in(r, SECONDARY, b, 2048);
    expect_pattern(b, 3 * 2048, 2048);
    assert_int_equal(run(r, CDB(0)), 0x062800);
    /* DMA that waits for the bus master when the medium goes. */
    prd(r, 0x1000, 0x20000, 0x8000, true);
    packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 10), 0, 1);
    assert_int_equal(piix_ide_set_medium(r->ide, 2, NULL), 0);
    bm_start(r, 1, 0x1000, true);
    assert_int_equal(rig_wait(r, SECONDARY), ATA_DRDY | ATA_ERR);
    assert_int_equal(sense(r), 0x023a01);
    assert_int_equal(r->h->plat.holds, 0);
    block_close(other);
}

static void empty_drive(void **state)
{
    (void)state;
    const struct ide_drive_config drives[IDE_DRIVES] = {
        [2] = { .present = true, .cdrom = true, .index = 2, .id = "cd" }
    };
    struct rig *r = rig_create_with(drives);
    assert_int_equal(run(r, CDB(0)), 0x023a01);
    static const uint8_t need_medium[] = { 0x25, 0x28, 0x2b, 0x42, 0x43,
                                           0x51, 0x52, 0xa8, 0xb9, 0xbe };
    for (size_t i = 0; i < sizeof(need_medium); i++) {
        assert_int_equal(run(r, CDB(need_medium[i])), 0x023a01);
    }
    uint8_t b[64];
    assert_int_equal(packet_in(r, CDB(0x12, 0, 0, 0, 36), ANY, b, 36), 36);
    assert_int_equal(packet_in(r, CDB(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), ANY, b, 8), 8);
    assert_int_equal(b[5], 0);
    assert_int_equal(piix_ide_eject(r->ide, 2, false), 0);
    rig_destroy(r);
}

static void dvd(void **state)
{
    (void)state;
    struct harness *h = harness_create();
    struct block *b = block_fake_create(h->loop, 2048, true);
    b->size_bytes = (uint64_t)2 << 40; /* never read */
    const struct ide_drive_config drives[IDE_DRIVES] = {
        [2] = { .present = true, .cdrom = true, .medium = b, .index = 2 }
    };
    struct rig r = { .h = h };
    assert_int_equal(piix_ide_create(&h->board, RIG_DEVFN, drives, &r.ide), 0);
    uint8_t buf[2052];
    assert_int_equal(packet_in(&r, CDB(0x25), ANY, buf, 8), 8);
    assert_int_equal(pci_get32((const uint8_t[]){ buf[3], buf[2], buf[1], buf[0] }, 0),
                     (1u << 30) - 1);
    assert_int_equal(packet_in(&r, CDB(0x46, 0, 0, 0, 0, 0, 0, 0, 8), ANY, buf, 8), 8);
    assert_int_equal(buf[7], 0x10);
    assert_int_equal(
        packet_in(&r, CDB(0xad, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff), ANY, buf, sizeof(buf)), 2052);
    assert_int_equal(buf[0], 8);
    assert_int_equal(buf[1], 2);
    assert_int_equal(buf[9], 3); /* data starts at 30000h */
    assert_int_equal(packet_in(&r, CDB(0xad, 0, 0, 0, 0, 0, 0, 1, 0, 8), ANY, buf, 8), 8);
    assert_int_equal(packet_in(&r, CDB(0xad, 0, 0, 0, 0, 0, 0, 3, 0, 8), ANY, buf, 8), -1);
    harness_destroy(h);
    block_close(b);
}

static void device_reset(void **state)
{
    struct rig *r = *state;
    uint8_t b[2048];
    packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 4), 2048, 0);
    pio_in(r, SECONDARY, b, 100);
    out8(r, SECONDARY + 7, 0x08); /* allowed in the middle */
    assert_int_equal(in8(r, SECONDARY + 7), 0);
    assert_int_equal(in8(r, SECONDARY + 4), 0x14);
    assert_int_equal(in8(r, SECONDARY + 5), 0xeb);
    block_fake_hold(r->cd, true);
    packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 4), 2048, 0);
    out8(r, SECONDARY + 7, 0x08);
    assert_int_equal(in8(r, SECONDARY + 7), ATA_BSY);
    block_fake_run(r->cd, 1);
    assert_int_equal(in8(r, SECONDARY + 7), 0);
    assert_false(r->h->plat.isa[15]);
    block_fake_hold(r->cd, false);
    assert_int_equal(run(r, CDB(0)), 0);
}

static void save_in_the_middle(void **state)
{
    struct rig *r = *state;
    static uint8_t b[40 * 2048];
    packet(r, SECONDARY, CDB(0x28, 0, 0, 0, 0, 5, 0, 0, 40), 2048, 0);
    pio_in(r, SECONDARY, b, 3000);
    assert_true(harness_save_load_save(r->h));
    pio_in(r, SECONDARY, b + 3000, 4096 - 3000);
    unsigned got = 4096;
    while ((rig_wait(r, SECONDARY) & ATA_DRQ) != 0 && got < sizeof(b)) {
        pio_in(r, SECONDARY, b + got, 2048);
        got += 2048;
    }
    assert_int_equal(got, sizeof(b));
    expect_pattern(b, 5 * 2048, sizeof(b));
    packet(r, SECONDARY, CDB(0xff), 2048, 0);
    assert_true(harness_save_load_save(r->h));
    assert_int_equal(sense(r), 0x052000);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(protocol),
        T(read_blocks),
        T(odd_lengths),
        T(range_and_errors),
        T(every_packet_opcode),
        T(golden_answers),
        T(raw_sectors),
        T(dma),
        T(media_change),
        T(tray_and_lock),
        T(change_during_transfer),
        T(event_order),
        cmocka_unit_test(empty_drive),
        cmocka_unit_test(dvd),
        T(device_reset),
        T(save_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
