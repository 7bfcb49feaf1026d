/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/cirrus.h"
#include "tests/unit/vga_help.h"

enum { LFB = 0xe0000000, MMIO = 0xe8000000, VRAM = CIRRUS_VRAM_BYTES };

static int setup(void **state)
{
    *state = screen_create(cirrus_create, 8 << 20);
    return 0;
}

static int teardown(void **state)
{
    screen_destroy(*state);
    return 0;
}

/* A packed mode as the Linux driver sets it: sr7 and hidden DAC by depth, pitch in bytes. */
static void set_packed(struct harness *h, uint8_t sr7, uint8_t hidden_dac, unsigned pitch)
{
    set_mode(h, &mode_12);
    seq_w(h, 4, 0x0e);
    seq_w(h, 7, sr7);
    for (unsigned i = 0; i < 4; i++) {
        harness_in(h, 0x3c6, 1);
    }
    harness_out(h, 0x3c6, 1, hidden_dac);
    crtc_w(h, 0x13, (uint8_t)(pitch >> 3));
    crtc_w(h, 0x1b, (uint8_t)(0x22 | (pitch >> 7 & 0x10)));
    gfx_w(h, 5, 0x40);
    gfx_w(h, 6, 0x01);
}

static bool trapped(struct harness *h)
{
    return pci_find(h->board.pci, PCI_DEVFN(3, 0))->bars[0].trap;
}

/* ---- registers ---- */

static void test_identity_and_reset(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t dev = PCI_DEVFN(3, 0);

    assert_int_equal(harness_pci_read(h, dev, 0, 4), 0x00b81013);
    assert_int_equal(harness_pci_read(h, dev, 8, 4), 0x03000000);
    assert_int_equal(harness_pci_read(h, dev, 0x2c, 4), 0x11001af4);
    harness_pci_write(h, dev, 0x10, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(h, dev, 0x10, 4), 0xfe000008);
    harness_pci_write(h, dev, 0x14, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(h, dev, 0x14, 4), 0xfffff000);
    set_packed(h, 0x19, 0xc5, 2560);
    board_reset(&h->board);
    harness_out(h, 0x3c2, 1, 1);
    assert_int_equal(reg_r(h, 0x3c4, 6), 0x0f);
    assert_int_equal(reg_r(h, 0x3c4, 7), 0);
    assert_int_equal(reg_r(h, 0x3c4, 0x0f), 0x98);
    assert_int_equal(reg_r(h, 0x3c4, 0x15), 0x04);
    assert_int_equal(reg_r(h, 0x3c4, 0x17), 0x20);
    assert_int_equal(reg_r(h, 0x3c4, 0x1f), 0x2d);
    assert_int_equal(reg_r(h, 0x3ce, 0x18), 0x0f);
    assert_int_equal(reg_r(h, 0x3d4, 0x27), 0xb8);
}

static void test_extension_masks(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    static const struct {
        uint16_t port;
        uint8_t index, ones;
    } regs[] = {
        {0x3c4, 0x05, 0x00}, {0x3c4, 0x07, 0xff}, {0x3c4, 0x12, 0xff}, {0x3c4, 0x13, 0xff}, {0x3c4, 0x17, 0xe7},
        {0x3ce, 0x00, 0xff}, {0x3ce, 0x01, 0xff}, {0x3ce, 0x05, 0x7f}, {0x3ce, 0x09, 0xff}, {0x3ce, 0x0b, 0xff},
        {0x3ce, 0x0c, 0x00}, {0x3ce, 0x15, 0xff}, {0x3ce, 0x18, 0x0f}, {0x3ce, 0x21, 0x1f}, {0x3ce, 0x23, 0x1f},
        {0x3ce, 0x25, 0x1f}, {0x3ce, 0x27, 0x1f}, {0x3ce, 0x2a, 0x3f}, {0x3ce, 0x2e, 0x3f}, {0x3ce, 0x33, 0xff},
        {0x3ce, 0x3a, 0xff}, {0x3ce, 0xff, 0xff}, {0x3d4, 0x1b, 0xff}, {0x3d4, 0x1d, 0xff}, {0x3d4, 0x27, 0xb8},
        {0x3d4, 0x40, 0xff},
    };

    harness_out(h, 0x3c2, 1, 1);
    for (unsigned i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
        reg_w(h, regs[i].port, regs[i].index, 0xff);
        assert_int_equal(reg_r(h, regs[i].port, regs[i].index), regs[i].ones);
    }
}

static void test_key_and_readbacks(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    set_mode(h, &mode_12);
    seq_w(h, 6, 0x12);
    assert_int_equal(reg_r(h, 0x3c4, 6), 0x12);
    seq_w(h, 6, 0x34);
    assert_int_equal(reg_r(h, 0x3c4, 6), 0x0f);
    vga_memory(h)[1] = 0x5c;
    gfx_w(h, 4, 1);
    harness_read(h, 0xa0000, 1);
    assert_int_equal(reg_r(h, 0x3d4, 0x22), 0x5c); /* the latch */
    harness_in(h, 0x3da, 1);
    assert_int_equal(reg_r(h, 0x3d4, 0x24), 0x00);
    harness_out(h, 0x3c0, 1, 0x31);
    assert_int_equal(reg_r(h, 0x3d4, 0x24), 0x80);
    assert_int_equal(reg_r(h, 0x3d4, 0x26), 0x31);
}

static void test_hidden_dac(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    harness_out(h, 0x3c6, 1, 0x7f);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(harness_in(h, 0x3c6, 1), 0x7f);
    }
    harness_out(h, 0x3c6, 1, 0xc1);
    assert_int_equal(harness_in(h, 0x3c6, 1), 0x7f);
    harness_in(h, 0x3c8, 1); /* starts the count again */
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(harness_in(h, 0x3c6, 1), 0x7f);
    }
    assert_int_equal(harness_in(h, 0x3c6, 1), 0xc1);
    assert_int_equal(harness_in(h, 0x3c6, 1), 0x7f);
}

static void test_bar1(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    map_bar(h, 1, MMIO);
    harness_write(h, MMIO + 4, 1, 7);
    harness_write(h, MMIO + 5, 1, 0x17);
    assert_int_equal(reg_r(h, 0x3c4, 7), 0x17);
    harness_out(h, 0x3c2, 1, 1);
    harness_write(h, MMIO + 0x14, 2, 0x3319);
    assert_int_equal(reg_r(h, 0x3d4, 0x19), 0x33);
    harness_write(h, MMIO + 0x100, 4, 0x44332211); /* background colour */
    assert_int_equal(reg_r(h, 0x3ce, 0x00), 0x11);
    assert_int_equal(reg_r(h, 0x3ce, 0x10), 0x22);
    assert_int_equal(reg_r(h, 0x3ce, 0x14), 0x44);
    assert_int_equal(harness_read(h, MMIO + 0x100, 4), 0x44332211);
    assert_int_equal(harness_read(h, MMIO + 0x119, 1), 0xff);
    assert_int_equal(harness_read(h, MMIO + 0xfff, 1), 0xff);
}

/* ---- memory ---- */

static void test_banks(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t *mem = vga_memory(h);

    set_packed(h, 0x01, 0, 640);
    gfx_w(h, 0x09, 0x10); /* 4 KiB units */
    harness_write(h, 0xa8123, 1, 0x11);
    assert_int_equal(mem[0x18123], 0x11);
    gfx_w(h, 0x0b, 0x20); /* 16 KiB units */
    harness_write(h, 0xa0123, 1, 0x22);
    assert_int_equal(mem[0x40123], 0x22);
    gfx_w(h, 0x0b, 0x21); /* two banks */
    gfx_w(h, 0x0a, 0x02);
    harness_write(h, 0xa7ffe, 4, 0x66554433);
    assert_int_equal(mem[0x47fff], 0x44);
    assert_int_equal(mem[0x8000], 0x55);
    assert_int_equal(harness_read(h, 0xa7ffe, 4), 0x66554433);
    assert_int_equal(harness_read(h, 0xb0000, 2), 0xffff);
    assert_false(trapped(h));
}

static void test_mmio_window(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    set_packed(h, 0x01, 0, 640);
    assert_int_equal(harness_read(h, 0xb8008, 2), 0xffff);
    seq_w(h, 0x17, 0x04);
    harness_write(h, 0xb8008, 4, 0x00050123);
    assert_int_equal(reg_r(h, 0x3ce, 0x20), 0x23);
    assert_int_equal(reg_r(h, 0x3ce, 0x21), 0x01);
    assert_int_equal(reg_r(h, 0x3ce, 0x22), 0x05);
    assert_int_equal(harness_read(h, 0xb8008, 4), 0x00050123);
    map_bar(h, 0, LFB);
    seq_w(h, 0x17, 0x44); /* at the end of the frame buffer */
    assert_true(trapped(h));
    harness_write(h, LFB + VRAM - 256 + 8, 2, 0x0077);
    assert_int_equal(reg_r(h, 0x3ce, 0x20), 0x77);
    harness_write(h, LFB + VRAM - 258, 4, 0xaabbccdd); /* half memory, half background colour */
    assert_int_equal(vga_memory(h)[VRAM - 257], 0xcc);
    assert_int_equal(reg_r(h, 0x3ce, 0x10), 0xaa);
}

static void test_expanding_writes(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t *mem = vga_memory(h);

    set_packed(h, 0x01, 0, 640);
    map_bar(h, 0, LFB);
    memset(mem, 0x33, 4096);
    gfx_w(h, 0, 0x12);
    gfx_w(h, 1, 0x34);
    gfx_w(h, 0x10, 0x56);
    gfx_w(h, 0x11, 0x78);
    gfx_w(h, 0x0b, 0x06);
    gfx_w(h, 5, 0x44); /* mode 4: only where a bit is set */
    assert_true(trapped(h));
    harness_write(h, 0xa0002, 1, 0xa0);
    assert_memory_equal(mem + 16, "\x34\x33\x34\x33\x33", 5);
    gfx_w(h, 5, 0x45);
    harness_write(h, LFB + 3, 1, 0xa0);
    assert_memory_equal(mem + 24, "\x34\x12\x34\x12\x12\x12\x12\x12\x33", 9);
    gfx_w(h, 0x0b, 0x14); /* 16 bits a pixel */
    harness_write(h, LFB + 4, 1, 0x80);
    assert_memory_equal(mem + 64, "\x34\x78\x12\x56\x12\x56", 6);
    gfx_w(h, 0x0b, 0);
    gfx_w(h, 5, 0x40);
    assert_true(trapped(h)); /* for a while: the next one may follow at once */
    harness_write(h, LFB, 4, 0x01020304);
    assert_memory_equal(mem, "\x04\x03\x02\x01", 4);
    harness_step(h, 100000000);
    assert_false(trapped(h));
}

/* ---- blitter ---- */

struct op {
    unsigned width, height, dst_pitch, src_pitch, dst, src, mode, rop, ext, skip, key;
    uint32_t fg, bg;
};

static void blit(struct harness *h, const struct op *o)
{
    const uint32_t regs[][3] = {
        {0x20, 2, o->width - 1}, {0x22, 2, o->height - 1}, {0x24, 2, o->dst_pitch}, {0x26, 2, o->src_pitch},
        {0x28, 3, o->dst},       {0x2c, 3, o->src},        {0x2f, 1, o->skip},      {0x30, 1, o->mode},
        {0x32, 1, o->rop},       {0x33, 1, o->ext},        {0x34, 2, o->key},       {0x31, 1, 2},
    };
    static const uint8_t colors[2][4] = {{0x01, 0x11, 0x13, 0x15}, {0x00, 0x10, 0x12, 0x14}};

    for (unsigned i = 0; i < 4; i++) {
        gfx_w(h, colors[0][i], (uint8_t)(o->fg >> (8 * i)));
        gfx_w(h, colors[1][i], (uint8_t)(o->bg >> (8 * i)));
    }
    for (unsigned i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
        for (unsigned k = 0; k < regs[i][1]; k++) {
            gfx_w(h, (uint8_t)(regs[i][0] + k), (uint8_t)(regs[i][2] >> (8 * k)));
        }
    }
}

static void fill(uint8_t *mem, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1103515245 + 12345;
        mem[i] = (uint8_t)(seed >> 16);
    }
}

static uint8_t rop_by_truth(unsigned rop, uint8_t s, uint8_t d)
{
    switch (rop) {
    case 0x00:
        return 0;
    case 0x90:
        return (uint8_t) ~(s | d);
    case 0x50:
        return (uint8_t)(~s & d);
    case 0xd0:
        return (uint8_t)~s;
    case 0x09:
        return (uint8_t)(s & ~d);
    case 0x0b:
        return (uint8_t)~d;
    case 0x59:
        return s ^ d;
    case 0xda:
        return (uint8_t) ~(s & d);
    case 0x05:
        return s & d;
    case 0x95:
        return (uint8_t) ~(s ^ d);
    case 0xd6:
        return (uint8_t)(~s | d);
    case 0x0d:
        return s;
    case 0xad:
        return (uint8_t)(s | ~d);
    case 0x6d:
        return s | d;
    case 0x0e:
        return 0xff;
    default:
        return d; /* 0x06 and codes that do not exist */
    }
}

static void test_rops_against_byte_model(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t *mem = vga_memory(h);
    static uint8_t want[8192];
    /* Distances that overlap in every way, both directions. */
    static const int distance[] = {1, 3, 7, 8, 9, 20, 64, 128, 3000, -1, -5, -8, -13, -64, -3000};

    for (unsigned rop = 0; rop < 256; rop++) {
        for (unsigned n = 0; n < sizeof(distance) / sizeof(distance[0]); n++) {
            struct op o = {.width = 37, .height = 4, .dst_pitch = 64, .src_pitch = 64, .src = 3600, .rop = rop};
            bool back = (rop + n) & 1;

            o.dst = (unsigned)((int)o.src + distance[n]);
            o.mode = back ? CIRRUS_BLT_BACKWARDS : 0;
            fill(mem, sizeof(want), rop + n);
            memcpy(want, mem, sizeof(want));
            for (int y = 0; y < 4; y++) {
                for (int x = 0; x < 37; x++) {
                    int at = (back ? -1 : 1) * (y * 64 + x);
                    uint8_t *d = want + (int)o.dst + at;

                    *d = rop_by_truth(rop, want[(int)o.src + at], *d);
                }
            }
            blit(h, &o);
            assert_memory_equal(mem, want, sizeof(want));
        }
    }
    assert_int_equal(reg_r(h, 0x3ce, 0x31), 0);
}

static void test_transparent_copy(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t *mem = vga_memory(h);

    memcpy(mem, "\x01\x34\x02\x34\x34\x03", 6);
    memset(mem + 100, 0xee, 20);
    blit(h, &(struct op){6, 1, 8, 8, 100, 0, CIRRUS_BLT_TRANSPARENT, 0x0d, .key = 0x3434});
    assert_memory_equal(mem + 100, "\x01\xee\x02\xee\xee\x03\xee", 7);
    memset(mem + 100, 0xee, 20);
    blit(h, &(struct op){6, 1, 8, 8, 100, 0, CIRRUS_BLT_TRANSPARENT | 0x10, 0x0d, .key = 0x3402});
    assert_memory_equal(mem + 100, "\x01\x34\xee\xee\x34\x03", 6);
    memset(mem + 100, 0xee, 20);
    blit(h, &(struct op){6, 1, 8, 8, 105, 5, CIRRUS_BLT_TRANSPARENT | CIRRUS_BLT_BACKWARDS, 0x0d, .key = 0x0034});
    assert_memory_equal(mem + 100, "\x01\xee\x02\xee\xee\x03\xee", 7);
}

static void test_patterns_and_fills(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t *mem = vga_memory(h);

    for (unsigned i = 0; i < 256; i++) {
        mem[0x1000 + i] = (uint8_t)i;
    }
    /* 8 bits: rows of 8 bytes, from row 3; the first two pixels are left alone */
    blit(h, &(struct op){11, 7, 32, 0, 0x2000, 0x1003, CIRRUS_BLT_PATTERN, 0x0d, .skip = 2});
    assert_memory_equal(mem + 0x2000, "\x00\x00\x1a\x1b\x1c\x1d\x1e\x1f\x18\x19\x1a\x00", 12);
    assert_memory_equal(mem + 0x2000 + 5 * 32 + 2, "\x02\x03", 2); /* wrapped to row 0 */
    /* 24 bits: rows of 32 bytes of which 24 count */
    blit(h, &(struct op){27, 2, 64, 0, 0x3000, 0x1000, CIRRUS_BLT_PATTERN | 0x20, 0x0d, .ext = 0});
    assert_memory_equal(mem + 0x3000 + 64 + 21, "\x35\x36\x37\x20\x21\x22\x00", 7);
    /* monochrome pattern, 16 bits, opaque */
    mem[0x1008] = 0xa5;
    blit(h, &(struct op){20, 1, 64, 0, 0x4000, 0x1008, CIRRUS_BLT_PATTERN | CIRRUS_BLT_EXPAND | 0x10, 0x0d,
                         .fg = 0x1122, .bg = 0x3344});
    assert_memory_equal(mem + 0x4000,
                        "\x22\x11\x44\x33\x22\x11\x44\x33\x44\x33\x22\x11\x44\x33\x22\x11\x22\x11\x44\x33", 20);
    /* solid, 32 bits, xor */
    memset(mem + 0x5000, 0xff, 16);
    blit(h, &(struct op){8, 2, 8, 0, 0x5000, 0x3fffff, CIRRUS_BLT_PATTERN | CIRRUS_BLT_EXPAND | 0x30, 0x59,
                         .ext = CIRRUS_EXT_SOLID, .fg = 0x01020304});
    assert_memory_equal(mem + 0x5000, "\xfb\xfc\xfd\xfe\xfb\xfc\xfd\xfe\xfb\xfc\xfd\xfe\xfb\xfc\xfd\xfe\0", 17);
}

static void test_colour_expansion(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t *mem = vga_memory(h);

    memcpy(mem + 0x100, "\xc1\x80\x3f\x00", 4); /* two bytes per 12-pixel row */
    blit(h, &(struct op){12, 2, 16, 5, 0x200, 0x100, CIRRUS_BLT_EXPAND, 0x0d, .fg = 7, .bg = 9});
    assert_memory_equal(mem + 0x200, "\x07\x07\x09\x09\x09\x09\x09\x07\x07\x09\x09\x09\0\0\0\0", 16);
    assert_memory_equal(mem + 0x210, "\x09\x09\x07\x07\x07\x07\x07\x07\x09\x09\x09\x09", 12);
    memset(mem + 0x200, 0xee, 64);
    blit(h,
         &(struct op){8, 1, 16, 0, 0x200, 0x100, CIRRUS_BLT_EXPAND | CIRRUS_BLT_TRANSPARENT, 0x0d, .fg = 7, .skip = 1});
    assert_memory_equal(mem + 0x200, "\xee\x07\xee\xee\xee\xee\xee\x07\xee", 9);
    memset(mem + 0x200, 0xee, 64);
    blit(h, &(struct op){8, 1, 16, 0, 0x200, 0x100, CIRRUS_BLT_EXPAND | CIRRUS_BLT_TRANSPARENT, 0x0d, .fg = 7, .bg = 5,
                         .ext = CIRRUS_EXT_INVERT});
    assert_memory_equal(mem + 0x200, "\xee\xee\x05\x05\x05\x05\x05\xee\xee", 9);
    memset(mem + 0x200, 0xee, 64);
    blit(h, &(struct op){9, 1, 16, 0, 0x200, 0x100, CIRRUS_BLT_EXPAND | 0x20, 0x0d, .fg = 0x332211, .bg = 0x665544});
    assert_memory_equal(mem + 0x200, "\x11\x22\x33\x11\x22\x33\x44\x55\x66\xee", 10);
}

static void test_from_cpu(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t *mem = vga_memory(h);
    uint8_t block[64];

    set_packed(h, 0x01, 0, 640);
    map_bar(h, 0, LFB);
    /* rows of 5 bytes come in dwords */
    blit(h, &(struct op){5, 2, 16, 0, 0x1000, 0, CIRRUS_BLT_FROM_CPU, 0x0d, .ext = 0});
    assert_true(trapped(h));
    assert_int_equal(reg_r(h, 0x3ce, 0x31) & 3, 3);
    harness_write(h, LFB, 4, 0x04030201);
    assert_int_equal(mem[0x1000], 0);
    harness_write(h, LFB + CIRRUS_BLT_APERTURE, 4, 0xffffff05);
    assert_memory_equal(mem + 0x1000, "\1\2\3\4\5\0", 6);
    assert_true(harness_save_load_save(h));
    harness_write(h, 0xa0000, 8, 0xffffff1514131211);
    assert_memory_equal(mem + 0x1010, "\x11\x12\x13\x14\x15\0", 6);
    assert_int_equal(reg_r(h, 0x3ce, 0x31) & 3, 0);
    harness_write(h, LFB, 4, 0x99); /* memory again */
    assert_int_equal(mem[0], 0x99);
    /* monochrome, 40 pixels a row, dword granularity: 8 bytes a row */
    for (unsigned i = 0; i < sizeof(block); i++) {
        block[i] = i % 8 == 4 ? 0x80 : 0;
    }
    blit(h, &(struct op){40, 3, 64, 0, 0x2000, 0, CIRRUS_BLT_FROM_CPU | CIRRUS_BLT_EXPAND, 0x0d,
                         .ext = CIRRUS_EXT_DWORD, .fg = 1, .bg = 2});
    bus_write_rep(h->board.bus, BUS_MMIO, LFB + 64, 4, block, 16);
    assert_int_equal(reg_r(h, 0x3ce, 0x31) & 3, 0);
    assert_memory_equal(mem + 0x2000 + 2 * 64 + 31, "\2\1\2\2\2\2\2\2\2\0", 10);
    /* a pattern from the CPU, then the reset bit in the middle of another */
    blit(h, &(struct op){8, 2, 16, 0, 0x3000, 0, CIRRUS_BLT_FROM_CPU | CIRRUS_BLT_PATTERN | CIRRUS_BLT_EXPAND, 0x0d,
                         .fg = 1});
    harness_write(h, LFB, 8, 0x8001);
    assert_memory_equal(mem + 0x3000, "\0\0\0\0\0\0\0\1", 8);
    assert_memory_equal(mem + 0x3010, "\1\0\0\0\0\0\0\0", 8);
    blit(h, &(struct op){5, 2, 16, 0, 0x4000, 0, CIRRUS_BLT_FROM_CPU, 0x0d, .ext = 0});
    harness_write(h, LFB, 4, 0x04030201);
    gfx_w(h, 0x31, 4);
    gfx_w(h, 0x31, 0);
    harness_write(h, LFB + 0x5000, 4, 0x04030201);
    assert_int_equal(mem[0x5000], 1);
    assert_int_equal(mem[0x4000], 0);
}

static void test_autostart(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t *mem = vga_memory(h);

    set_packed(h, 0x01, 0, 640);
    seq_w(h, 0x17, 0x04);
    mem[0x100] = 0x42;
    blit(h, &(struct op){1, 1, 1, 1, 0x200, 0x100, 0, 0x0d, .ext = 0});
    gfx_w(h, 0x31, 0x80);
    harness_write(h, 0xb8014, 4, 0x000100);
    harness_write(h, 0xb8010, 4, 0x000300); /* the third byte starts it */
    assert_int_equal(mem[0x300], 0x42);
}

/* One rectangle check before the first pixel: what does not fit changes nothing. */
static void test_rectangles_out_of_memory(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t *mem = vga_memory(h);
    static uint8_t before[VRAM];
    static const struct op bad[] = {
        {16, 2, 16, 16, VRAM - 31, 0, 0, 0x0e, 0, 0, 0, 0, 0}, /* one byte past the end */
        {16, 2, 16, 16, 0, VRAM - 31, 0, 0x0d, 0, 0, 0, 0, 0}, /* source */
        {16, 2, 16, 16, 30, 4096, 1, 0x0e, 0, 0, 0, 0, 0},     /* backwards below zero */
        {16, 2, 16, 16, 4096, 30, 1, 0x0d, 0, 0, 0, 0, 0},
        {8192, 2048, 8191, 0, 0, 0, 0, 0x0e, 0, 0, 0, 0, 0},
        {16, 1, 0, 0, VRAM - 15, 0, 0x40, 0x0e, 0, 0, 0, 0, 0},
        {16, 1, 0, 0, 0, VRAM - 8, 0x40, 0x0d, 0, 0, 0, 0, 0},      /* pattern */
        {64, 100, 64, 0, 0, VRAM - 799, 0x80, 0x0d, 0, 0, 0, 1, 2}, /* monochrome source: 8 bytes a row */
        {16, 2, 16, 16, VRAM - 31, 0, CIRRUS_BLT_FROM_CPU, 0x0d, 0, 0, 0, 0, 0},
        {16, 1, 16, 16, 0, 64, CIRRUS_BLT_TO_CPU, 0x0e, 0, 0, 0, 0, 0},
    };

    fill(mem, VRAM, 7);
    memcpy(before, mem, VRAM);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        blit(h, &bad[i]);
        assert_memory_equal(mem, before, VRAM);
        assert_int_equal(reg_r(h, 0x3ce, 0x31), 0);
        assert_false(trapped(h));
    }
    blit(h, &(struct op){16, 2, 16, 16, VRAM - 32, 0, 0, 0x0e, 0, 0, 0, 0, 0}); /* the last that fits */
    assert_int_equal(mem[VRAM - 1], 0xff);
    assert_int_equal(mem[VRAM - 32], 0xff);
    blit(h, &(struct op){16, 2, 16, 16, 31, 4096, 1, 0x00, 0, 0, 0, 0, 0});
    assert_int_equal(mem[0], 0);
}

/* ---- picture ---- */

static void test_depths(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;
    uint8_t *mem = vga_memory(h);
    static const struct {
        uint8_t sr7, hidden_dac, bytes;
        const char *pixel;
        uint32_t want;
    } depths[] = {
        {0x01, 0x00, 1, "\x21", 0},
        {0x07, 0xc0, 2, "\x00\x7c", 0xff0000},
        {0x17, 0xc1, 2, "\x00\xf8", 0xff0000},
        {0x15, 0xc5, 3, "\x03\x02\x01", 0x010203},
        {0x19, 0xc5, 4, "\x03\x02\x01\xff", 0x010203},
    };

    map_bar(h, 0, LFB);
    for (unsigned i = 0; i < 5; i++) {
        memset(mem, 0, 1 << 21);
        set_packed(h, depths[i].sr7, depths[i].hidden_dac, 640u * depths[i].bytes);
        memcpy(mem + (479 * 640 + 639) * depths[i].bytes, depths[i].pixel, depths[i].bytes);
        screen_look(s);
        assert_int_equal(display_width(s->d), 640);
        assert_int_equal(display_height(s->d), 480);
        assert_int_equal(pixel(s, 639, 479), i == 0 ? dac_color(0x21) : depths[i].want);
    }
    seq_w(h, 1, 0x21); /* as SeaBIOS leaves it, */
    crtc_w(h, 0x17, 3); /* and as Linux's driver */
    screen_look(s);
    assert_int_equal(pixel(s, 639, 479), 0x010203);
    harness_in(h, 0x3da, 1);
    harness_out(h, 0x3c0, 1, 0);
    screen_look(s);
    assert_int_equal(pixel(s, 639, 479), 0);
    /* the start address in units of 4 bytes, with its extension bits */
    set_packed(h, 0x19, 0xc5, 2560);
    crtc_w(h, 0x1b, 0x22 | 0x10 | 0x05);
    crtc_w(h, 0x1d, 0x80);
    crtc_w(h, 0x0d, 1);
    mem[((1u << 16 | 1u << 17 | 1u << 19) + 1) * 4 % VRAM] = 0x5a;
    screen_look(s);
    assert_int_equal(pixel(s, 0, 0), 0x00005a);
}

static void test_cursor(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;
    uint8_t *mem = vga_memory(h);
    uint8_t *pattern = mem + VRAM - 16384 + 4 * 256;

    set_packed(h, 0x19, 0xc5, 2560);
    memset(mem, 0x44, 640 * 480 * 4);
    memset(pattern, 0, 1024);
    pattern[0] = 0x60; /* row 0: clear, invert, color 15, color 0 */
    pattern[8] = 0x30;
    seq_w(h, 0x12, 0x02);
    dac_w(h, 0, 63, 0, 0);
    dac_w(h, 15, 0, 0, 63);
    seq_w(h, 0x13, 4);
    seq_w(h, 0x12, 0x05);
    harness_out(h, 0x3c4, 2, 0x10 | 2 << 5 | 12 << 8); /* x = 98 */
    harness_out(h, 0x3c4, 2, 0x11 | 3 << 5 | 20 << 8); /* y = 163 */
    screen_look(s);
    assert_int_equal(pixel(s, 98, 163), 0x444444);
    assert_int_equal(pixel(s, 99, 163), 0xbbbbbb);
    assert_int_equal(pixel(s, 100, 163), 0x0000ff);
    assert_int_equal(pixel(s, 101, 163), 0xff0000);
    assert_int_equal(pixel(s, 99, 164), 0x444444);
    harness_out(h, 0x3c4, 2, 0x11 | 4 << 5 | 20 << 8);
    screen_look(s);
    assert_int_equal(pixel(s, 99, 163), 0x444444); /* it moved and left nothing behind */
    assert_int_equal(pixel(s, 99, 164), 0xbbbbbb);
    assert_int_equal(s->y, 163);
    assert_int_equal(s->y1, 165);
    seq_w(h, 0x12, 0x04);
    screen_look(s);
    assert_int_equal(pixel(s, 99, 164), 0x444444);
    /* 32x32 at the corner: the planes are 128 bytes apart */
    memset(pattern, 0, 256);
    pattern[3] = 0x01;
    pattern[131] = 0x01;
    seq_w(h, 0x12, 0x01);
    harness_out(h, 0x3c4, 2, 0x10 | 76 << 8);
    harness_out(h, 0x3c4, 2, 0x11 | 59 << 8);
    screen_look(s);
    assert_int_equal(pixel(s, 639, 472), 0x0000ff);
}

static void test_blit_shows(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;

    set_packed(h, 0x19, 0xc5, 2560);
    screen_look(s);
    blit(h, &(struct op){40, 3, 2560, 0, 100 * 2560 + 80, 0, 0xf0, 0x0d, .ext = CIRRUS_EXT_SOLID, .fg = 0x445566});
    screen_look(s);
    assert_int_equal(pixel(s, 20, 100), 0x445566);
    assert_int_equal(s->x, 20);
    assert_int_equal(s->x1, 30);
    assert_int_equal(s->y, 100);
    assert_int_equal(s->y1, 103);
}

static void test_text_mode(void **state)
{
    struct screen *s = *state;

    set_mode(s->h, &mode_03);
    harness_write(s->h, 0xb8000, 2, 0x1f20);
    screen_look(s);
    assert_int_equal(display_width(s->d), 720);
    assert_int_equal(pixel(s, 0, 0), dac_color(1));
}

static void test_save(void **state)
{
    struct screen *s = *state;
    struct screen *to = screen_create(cirrus_create, 8 << 20);
    struct save_stream st;

    set_packed(s->h, 0x17, 0xc1, 1280);
    blit(s->h, &(struct op){9, 4, 16, 0, 0x1000, 0, CIRRUS_BLT_FROM_CPU, 0x0d, .ext = 0});
    map_bar(s->h, 0, LFB);
    harness_write(s->h, LFB, 8, 0x8877665544332211);
    assert_true(harness_transfer(s->h, to->h));
    assert_true(trapped(to->h));
    harness_write(to->h, LFB, 4, 0x99); /* the rest of the row */
    assert_int_equal(vga_memory(to->h)[0x1000], 0x11);
    assert_int_equal(vga_memory(to->h)[0x1008], 0x99);
    save_init(&st);
    assert_int_equal(board_save(&s->h->board, &st), 0);
    for (size_t i = 0; i < st.len; i += i < 600 ? 1 : 61) {
        struct save_stream in;

        st.data[i] ^= 0xff;
        save_init_load(&in, st.data, st.len);
        if (board_load(&to->h->board, &in) == 0) {
            for (unsigned k = 0; k < 20; k++) {
                harness_write(to->h, LFB, 8, 0);
            }
            screen_look(to);
        }
        st.data[i] ^= 0xff;
    }
    save_free(&st);
    screen_destroy(to);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_identity_and_reset),
        T(test_extension_masks),
        T(test_key_and_readbacks),
        T(test_hidden_dac),
        T(test_bar1),
        T(test_banks),
        T(test_mmio_window),
        T(test_expanding_writes),
        T(test_rops_against_byte_model),
        T(test_transparent_copy),
        T(test_patterns_and_fills),
        T(test_colour_expansion),
        T(test_from_cpu),
        T(test_autostart),
        T(test_rectangles_out_of_memory),
        T(test_depths),
        T(test_cursor),
        T(test_blit_shows),
        T(test_text_mode),
        T(test_save),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
