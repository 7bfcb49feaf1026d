/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VGA core, through the standard adapter with its extension unused. */
#include <stdlib.h>

#include "tests/unit/vga_help.h"

static int setup(void **state)
{
    *state = screen_create(stdvga_create, 16 << 20);
    return 0;
}

static int teardown(void **state)
{
    screen_destroy(*state);
    return 0;
}

/* ---- registers ---- */

static void test_reset(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    set_mode(h, &mode_13);
    board_reset(&h->board);
    assert_int_equal(harness_in(h, 0x3cc, 1), 0);
    assert_int_equal(harness_in(h, 0x3c6, 1), 0xff);
    assert_int_equal(harness_in(h, 0x3c2, 1), 0);
    assert_int_equal(harness_in(h, 0x3c0, 1), 0);
    for (uint8_t i = 0; i < 5; i++) {
        assert_int_equal(reg_r(h, 0x3c4, i), 0);
    }
    for (uint8_t i = 0; i < 9; i++) {
        assert_int_equal(reg_r(h, 0x3ce, i), 0);
    }
    harness_out(h, 0x3c2, 1, 1);
    for (uint8_t i = 0; i < 25; i++) {
        assert_int_equal(reg_r(h, 0x3d4, i), 0);
    }
}

static void test_write_masks(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    static const uint8_t seq[] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0};
    static const uint8_t gfx[] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};

    harness_out(h, 0x3c2, 1, 0xff);
    assert_int_equal(harness_in(h, 0x3cc, 1), 0xef);
    for (uint8_t i = 0; i < sizeof(seq); i++) {
        seq_w(h, i, 0xff);
        assert_int_equal(reg_r(h, 0x3c4, i), seq[i]);
    }
    for (uint8_t i = 0; i < sizeof(gfx); i++) {
        gfx_w(h, i, 0xff);
        assert_int_equal(reg_r(h, 0x3ce, i), gfx[i]);
    }
    for (uint8_t i = 0; i < 21; i++) {
        attr_w(h, i, 0xff);
        harness_in(h, 0x3da, 1);
        harness_out(h, 0x3c0, 1, i);
        assert_int_equal(harness_in(h, 0x3c1, 1), i < 16 || i == 0x12 ? 0x3f
                                                  : i == 0x10         ? 0xef
                                                  : i == 0x11         ? 0xff
                                                                      : 0x0f);
    }
    harness_out(h, 0x3da, 1, 0xff);
    assert_int_equal(harness_in(h, 0x3ca, 1), 0x10);
}

static void test_crtc_protection(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    harness_out(h, 0x3c2, 1, 1);
    for (uint8_t i = 0; i < 8; i++) {
        crtc_w(h, i, 0x40);
    }
    crtc_w(h, 0x11, 0x80);
    for (uint8_t i = 0; i < 8; i++) {
        crtc_w(h, i, 0xbf);
    }
    for (uint8_t i = 0; i < 7; i++) {
        assert_int_equal(reg_r(h, 0x3d4, i), 0x40);
    }
    assert_int_equal(reg_r(h, 0x3d4, 7), 0x50); /* line compare bit 8 alone */
    crtc_w(h, 8, 0x12);
    assert_int_equal(reg_r(h, 0x3d4, 8), 0x12);
}

static void test_mono_and_colour_ports(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    harness_out(h, 0x3c2, 1, 0);
    crtc_w(h, 0x0e, 0x77); /* nobody there */
    assert_int_equal(harness_in(h, 0x3d4, 1), 0xff);
    assert_int_equal(harness_in(h, 0x3da, 1), 0xff);
    reg_w(h, 0x3b4, 0x0e, 0x12);
    assert_int_equal(reg_r(h, 0x3b4, 0x0e), 0x12);
    harness_out(h, 0x3c2, 1, 1);
    assert_int_equal(harness_in(h, 0x3b4, 1), 0xff);
    assert_int_equal(reg_r(h, 0x3d4, 0x0e), 0x12);
}

static void test_attribute_flip_flop(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    harness_out(h, 0x3c2, 1, 1);
    harness_in(h, 0x3da, 1);
    harness_out(h, 0x3c0, 1, 0x33);
    assert_int_equal(harness_in(h, 0x3c0, 1), 0); /* waits for data */
    harness_out(h, 0x3c0, 1, 0x05);
    assert_int_equal(harness_in(h, 0x3c0, 1), 0x33);
    assert_int_equal(harness_in(h, 0x3c1, 1), 0x05);
    harness_out(h, 0x3c0, 1, 0x10);
    harness_in(h, 0x3da, 1); /* takes the half-done pair back */
    harness_out(h, 0x3c0, 1, 0x02);
    harness_in(h, 0x3da, 1);
    assert_int_equal(harness_in(h, 0x3c0, 1), 0x02);
    harness_out(h, 0x3c0, 1, 0x1f); /* no such register */
    harness_out(h, 0x3c0, 1, 0xff);
    assert_int_equal(harness_in(h, 0x3c1, 1), 0);
}

static void test_dac(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    dac_w(h, 255, 1, 2, 3);
    assert_int_equal(harness_in(h, 0x3c8, 1), 0); /* advanced and wrapped */
    harness_out(h, 0x3c9, 1, 4);
    harness_out(h, 0x3c9, 1, 5);
    assert_int_equal(harness_in(h, 0x3c7, 1), 0); /* write state */
    harness_out(h, 0x3c7, 1, 255);
    assert_int_equal(harness_in(h, 0x3c7, 1), 3);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(harness_in(h, 0x3c9, 1), i);
    }
    assert_int_equal(harness_in(h, 0x3c9, 1), 0); /* entry 0: its triple was not finished */
}

static void test_retrace(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    unsigned in_frame = 0;
    unsigned blank = 0;
    enum { STEP_NS = 10000, SECOND_STEPS = 100000 };

    set_mode(h, &mode_03);
    for (unsigned i = 0, was = 8; i < SECOND_STEPS; i++) {
        uint32_t st = harness_in(h, 0x3da, 1);

        in_frame += (st & 8) > was;
        blank += st & 1;
        was = st & 8;
        loop_advance(h->loop, STEP_NS);
    }
    assert_in_range(in_frame, 69, 71);    /* 28.322 MHz / (900 * 449) */
    assert_in_range(blank, 23000, 33000); /* 1 - (80 / 100) * (400 / 449) */
    harness_in(h, 0x3da, 1);
    loop_advance(h->loop, 50000000); /* a poller that is slow still sees that there was one */
    assert_int_equal(harness_in(h, 0x3da, 1) & 8, 8);
}

/* ---- memory ---- */

static void planar(struct harness *h, uint8_t write_mode, uint8_t read_mode)
{
    gfx_w(h, 5, write_mode | (uint8_t)(read_mode << 3));
}

static uint32_t dword(struct harness *h, uint32_t c)
{
    uint32_t w;

    memcpy(&w, vga_memory(h) + c * 4, 4);
    return w;
}

static void set_dword(struct harness *h, uint32_t c, uint32_t w)
{
    memcpy(vga_memory(h) + c * 4, &w, 4);
}

static void test_write_mode_0(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    set_mode(h, &mode_12);
    harness_write(h, 0xa0010, 1, 0x5a);
    assert_int_equal(dword(h, 0x10), 0x5a5a5a5a);
    seq_w(h, 2, 0x5); /* planes 0 and 2 */
    harness_write(h, 0xa0010, 1, 0xff);
    assert_int_equal(dword(h, 0x10), 0x5aff5aff);
    seq_w(h, 2, 0xf);
    gfx_w(h, 3, 4); /* rotate right by 4 */
    harness_write(h, 0xa0011, 1, 0x1f);
    assert_int_equal(dword(h, 0x11), 0xf1f1f1f1);
    gfx_w(h, 3, 0);
    gfx_w(h, 0, 0x2); /* set/reset for planes 0 and 1: 0 and 1 */
    gfx_w(h, 1, 0x3);
    harness_write(h, 0xa0012, 1, 0x3c);
    assert_int_equal(dword(h, 0x12), 0x3c3cff00);
    gfx_w(h, 1, 0);
    set_dword(h, 0x13, 0x0f55aaf0);
    assert_int_equal(harness_read(h, 0xa0013, 1), 0xf0); /* loads the latches */
    static const struct {
        uint8_t op;
        uint32_t want;
    } ops[] = {{0x08, 0x0c142830}, {0x10, 0x3f7dbefc}, {0x18, 0x336996cc}};
    for (unsigned i = 0; i < 3; i++) {
        gfx_w(h, 3, ops[i].op); /* and, or, xor */
        harness_write(h, 0xa0014 + i, 1, 0x3c);
        assert_int_equal(dword(h, 0x14 + i), ops[i].want);
    }
    gfx_w(h, 3, 0);
    gfx_w(h, 8, 0x0f); /* high half from the latches */
    harness_write(h, 0xa0018, 1, 0x33);
    assert_int_equal(dword(h, 0x18), 0x0353a3f3);
}

static void test_write_modes_1_2_3(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    set_mode(h, &mode_12);
    set_dword(h, 0x20, 0x12345678);
    harness_read(h, 0xa0020, 1);
    planar(h, 1, 0);
    harness_write(h, 0xa0021, 1, 0xee);
    assert_int_equal(dword(h, 0x21), 0x12345678);
    planar(h, 2, 0);
    gfx_w(h, 8, 0xf0);
    harness_write(h, 0xa0022, 1, 0x09); /* planes 0 and 3 on */
    assert_int_equal(dword(h, 0x22), 0xf20406f8);
    planar(h, 3, 0);
    gfx_w(h, 0, 0x6);
    gfx_w(h, 3, 1);
    gfx_w(h, 8, 0x3f);
    harness_write(h, 0xa0023, 1, 0xe1); /* rotated f0, masked 30 */
    assert_int_equal(dword(h, 0x23), 0x02347648);
}

static void test_read_modes(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    set_mode(h, &mode_12);
    set_dword(h, 0x30, 0xf0cc55aa);
    for (uint8_t p = 0; p < 4; p++) {
        gfx_w(h, 4, p);
        assert_int_equal(harness_read(h, 0xa0030, 1), 0xf0cc55aa >> (8 * p) & 0xff);
    }
    planar(h, 0, 1);
    gfx_w(h, 2, 0x9); /* planes 3 and 0 set, 2 and 1 clear */
    gfx_w(h, 7, 0xf);
    assert_int_equal(harness_read(h, 0xa0030, 1), (0xf0 & ~0xcc & ~0x55 & 0xaa) & 0xff);
    gfx_w(h, 7, 0x1);
    assert_int_equal(harness_read(h, 0xa0030, 1), 0xaa);
    gfx_w(h, 7, 0);
    assert_int_equal(harness_read(h, 0xa0030, 1), 0xff);
}

static void test_wide_accesses_are_bytes(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t block[64];

    set_mode(h, &mode_12);
    harness_write(h, 0xa0040, 4, 0x04030201);
    assert_int_equal(dword(h, 0x41), 0x02020202);
    assert_int_equal(dword(h, 0x43), 0x04040404);
    assert_int_equal(harness_read(h, 0xa0040, 4), 0x04030201);
    for (unsigned i = 0; i < 64; i++) {
        block[i] = (uint8_t)(i * 3);
    }
    bus_write_rep(h->board.bus, BUS_MMIO, 0xa0100, 2, block, 32);
    assert_int_equal(dword(h, 0x13f), 0xbdbdbdbd);
    memset(block, 0, sizeof(block));
    bus_read_rep(h->board.bus, BUS_MMIO, 0xa0100, 4, block, 16);
    assert_int_equal(block[63], 0xbd);
}

static void test_chain4_and_unchained(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    set_mode(h, &mode_13);
    harness_write(h, 0xa1003, 4, 0x44332211);
    assert_memory_equal(vga_memory(h) + 0x1003, "\x11\x22\x33\x44", 4);
    assert_int_equal(harness_read(h, 0xa1005, 2), 0x4433);
    seq_w(h, 2, 0x2); /* only bytes of plane 1 */
    harness_write(h, 0xa1000, 4, 0x99999999);
    assert_memory_equal(vga_memory(h) + 0x1000, "\0\x99\0\x11", 4);
    seq_w(h, 4, 6); /* mode X */
    seq_w(h, 2, 0x9);
    harness_write(h, 0xa0800, 1, 0x77);
    assert_memory_equal(vga_memory(h) + 0x2000, "\x77\0\0\x77", 4);
}

static void test_odd_even(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    set_mode(h, &mode_03);
    harness_write(h, 0xb8002, 4, 0x07420741);
    assert_memory_equal(vga_memory(h) + 4, "\x41\x07\0\0\x42\x07\0\0", 8);
    assert_int_equal(harness_read(h, 0xb8002, 8), 0x07420741);
}

static void test_window_maps(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    static const struct {
        uint32_t first, last;
    } maps[] = {{0xa0000, 0xbffff}, {0xa0000, 0xaffff}, {0xb0000, 0xb7fff}, {0xb8000, 0xbffff}};

    set_mode(h, &mode_12);
    for (uint8_t m = 0; m < 4; m++) {
        gfx_w(h, 6, (uint8_t)(1 | m << 2));
        memset(vga_memory(h), 0, 1 << 20);
        if (maps[m].first > 0xa0000) {
            harness_write(h, maps[m].first - 1, 2, 0x2211); /* its second byte hits the first address */
            assert_int_equal(dword(h, 0), 0x22222222);
            assert_int_equal(harness_read(h, maps[m].first - 1, 2), 0x22ff);
        }
        if (maps[m].last < 0xbffff) {
            harness_write(h, maps[m].last, 2, 0x4433);
            assert_int_equal(harness_read(h, maps[m].last, 2), 0xff33);
            assert_int_equal(dword(h, maps[m].last + 1 - maps[m].first), 0);
        }
    }
}

/* ---- picture ---- */

static void put_text(struct harness *h, unsigned col, unsigned row, char ch, uint8_t attr)
{
    harness_write(h, 0xb8000 + (row * 80 + col) * 2, 2, (uint64_t)(uint8_t)ch | (uint64_t)attr << 8);
}

/* Glyph rows for one character in map 0, as a guest loads them. */
static void load_glyph(struct harness *h, uint8_t ch, uint8_t bits)
{
    seq_w(h, 2, 4);
    seq_w(h, 4, 7);
    gfx_w(h, 5, 0);
    gfx_w(h, 6, 4);
    for (unsigned i = 0; i < 16; i++) {
        harness_write(h, 0xa0000 + ch * 32u + i, 1, bits);
    }
    seq_w(h, 2, 3);
    seq_w(h, 4, 2);
    gfx_w(h, 5, 0x10);
    gfx_w(h, 6, 0x0e);
}

static void test_text_picture(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;

    set_mode(h, &mode_03);
    crtc_w(h, 0x0a, 0x20); /* cursor off */
    load_glyph(h, 'A', 0x81);
    load_glyph(h, 0xc4, 0x03);
    screen_look(s);
    assert_int_equal(display_width(s->d), 720);
    assert_int_equal(display_height(s->d), 400);
    put_text(h, 2, 1, 'A', 0x1e);
    screen_look(s);
    assert_int_equal(pixel(s, 18, 16), dac_color(0x3e));
    assert_int_equal(pixel(s, 19, 16), dac_color(1));
    assert_int_equal(pixel(s, 25, 31), dac_color(0x3e));
    assert_int_equal(pixel(s, 26, 31), dac_color(1)); /* ninth dot is background */
    assert_int_equal(pixel(s, 27, 16), dac_color(0));
    assert_int_equal(s->x, 18);
    assert_int_equal(s->x1, 27);
    assert_int_equal(s->y, 16);
    assert_int_equal(s->y1, 32);
    put_text(h, 3, 1, (char)0xc4, 0x07); /* line graphics: the ninth dot repeats the eighth */
    screen_look(s);
    assert_int_equal(pixel(s, 27 + 8, 16), dac_color(7));
    attr_w(h, 0x10, 0x08);
    screen_look(s);
    assert_int_equal(pixel(s, 27 + 8, 16), dac_color(0));
    screen_look(s);
    assert_int_equal(s->updates, 0);
    load_glyph(h, 'A', 0x42); /* a new font shows without a cell changing */
    screen_look(s);
    assert_int_equal(pixel(s, 18, 16), dac_color(1));
    assert_int_equal(pixel(s, 19, 16), dac_color(0x3e));
}

static void test_text_blink(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;
    unsigned shown = 0;

    set_mode(h, &mode_03);
    crtc_w(h, 0x0a, 0x20);
    load_glyph(h, 'A', 0xff);
    put_text(h, 0, 0, 'A', 0x9e); /* blinking yellow on blue, */
    for (unsigned i = 0; i < 16; i++) {
        harness_step(h, 133333333);
        shown += pixel(s, 0, 0) == dac_color(0x3e);
        assert_true(pixel(s, 0, 0) == dac_color(0x3e) || pixel(s, 0, 0) == dac_color(1));
    }
    assert_in_range(shown, 6, 10);
    attr_w(h, 0x10, 0x04); /* or on bright blue without blinking */
    load_glyph(h, 'A', 0x7f);
    for (unsigned i = 0; i < 8; i++) {
        harness_step(h, 250000000);
        assert_int_equal(pixel(s, 0, 0), dac_color(0x39));
        assert_int_equal(pixel(s, 1, 0), dac_color(0x3e));
    }
}

static void test_text_cursor(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;
    unsigned shown = 0;

    set_mode(h, &mode_03);
    crtc_w(h, 0x0e, 0);
    crtc_w(h, 0x0f, 81); /* row 1, column 1 */
    put_text(h, 1, 1, ' ', 0x07);
    for (unsigned i = 0; i < 16; i++) {
        harness_step(h, 133333333);
        shown += pixel(s, 9, 16 + 13) == dac_color(7);
        assert_int_equal(pixel(s, 9, 16 + 12), dac_color(0));
        assert_int_equal(pixel(s, 9, 16 + 15), dac_color(0));
    }
    assert_in_range(shown, 6, 10);
}

static void test_text_scroll_and_split(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;

    set_mode(h, &mode_03);
    crtc_w(h, 0x0a, 0x20);
    load_glyph(h, 'A', 0xff);
    put_text(h, 0, 30, 'A', 0x02);
    put_text(h, 0, 0, 'A', 0x04);
    crtc_w(h, 0x0c, 2000 >> 8); /* the picture starts at row 25 */
    crtc_w(h, 0x0d, 2000 & 0xff);
    screen_look(s);
    assert_int_equal(pixel(s, 0, 5 * 16), dac_color(2));
    crtc_w(h, 8, 3); /* three scan lines up */
    screen_look(s);
    assert_int_equal(pixel(s, 0, 5 * 16 - 3), dac_color(2));
    assert_int_equal(pixel(s, 0, 5 * 16 - 4), dac_color(0));
    crtc_w(h, 8, 0);
    attr_w(h, 0x13, 2); /* three dots to the left with nine-dot cells */
    put_text(h, 1, 30, 'A', 0x03);
    screen_look(s);
    assert_int_equal(pixel(s, 5, 5 * 16), dac_color(0)); /* ninth dot of the first cell */
    assert_int_equal(pixel(s, 6, 5 * 16), dac_color(3));
    attr_w(h, 0x13, 8);
    crtc_w(h, 0x18, 199); /* below line 199 the memory starts anew */
    crtc_w(h, 0x07, 0x1f & ~0x10);
    crtc_w(h, 0x09, 0x4f & ~0x40);
    screen_look(s);
    assert_int_equal(pixel(s, 0, 200), dac_color(4));
    assert_int_equal(pixel(s, 0, 199), dac_color(0));
}

static void test_planar_picture(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;

    set_mode(h, &mode_12);
    screen_look(s);
    assert_int_equal(display_width(s->d), 640);
    assert_int_equal(display_height(s->d), 480);
    seq_w(h, 2, 0xa);
    harness_write(h, 0xa0000 + 100 * 80 + 3, 1, 0x41);
    screen_look(s);
    assert_int_equal(pixel(s, 25, 100), dac_color(0x3a));
    assert_int_equal(pixel(s, 24, 100), dac_color(0));
    assert_int_equal(pixel(s, 31, 100), dac_color(0x3a));
    assert_int_equal(s->y, 100);
    assert_int_equal(s->y1, 101);
    attr_w(h, 0x12, 0x7); /* plane 3 is not shown */
    screen_look(s);
    assert_int_equal(pixel(s, 25, 100), dac_color(2));
    attr_w(h, 0x13, 3);
    screen_look(s);
    assert_int_equal(pixel(s, 22, 100), dac_color(2));
    attr_w(h, 0x14, 0x0d); /* colour select: bits 7-6 always, 5-4 with P54S */
    screen_look(s);
    assert_int_equal(pixel(s, 22, 100), dac_color(0xc2));
    attr_w(h, 0x10, 0x81);
    screen_look(s);
    assert_int_equal(pixel(s, 22, 100), dac_color(0xd2));
    seq_w(h, 1, 0x21); /* screen off */
    screen_look(s);
    assert_int_equal(pixel(s, 22, 100), 0);
}

static void test_256_colour_picture(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;

    set_mode(h, &mode_13);
    harness_write(h, 0xa0000 + 10 * 320 + 7, 1, 0x9c);
    screen_look(s);
    assert_int_equal(display_width(s->d), 640);
    assert_int_equal(display_height(s->d), 400);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pixel(s, 14 + (i & 1), 20 + (i >> 1)), dac_color(0x9c));
    }
    assert_int_equal(pixel(s, 16, 20), dac_color(0));
    dac_w(h, 0x9c, 63, 0, 63);
    screen_look(s);
    assert_int_equal(pixel(s, 14, 20), 0xff00ff);
    harness_out(h, 0x3c6, 1, 0x0f);
    screen_look(s);
    assert_int_equal(pixel(s, 14, 20), dac_color(0x0c));
    crtc_w(h, 0x0d, 160); /* two rows of 80 addresses down */
    screen_look(s);
    assert_int_equal(pixel(s, 14, 16), dac_color(0x0c));
}

static void test_cga_picture(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;

    set_mode(h, &mode_04);
    harness_write(h, 0xb8000 + 80, 1, 0x1b);              /* row 2: pixels 0 1 2 3 */
    harness_write(h, 0xb8000 + 0x2000 + 80 + 1, 1, 0xe4); /* row 3: 3 2 1 0 from x = 4 */
    screen_look(s);
    assert_int_equal(display_width(s->d), 640);
    assert_int_equal(display_height(s->d), 400);
    static const uint8_t colors[4] = {0, 0x13, 0x15, 0x17};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pixel(s, 2 * i + 1, 2 * 2 + 1), dac_color(colors[i]));
        assert_int_equal(pixel(s, 8 + 2 * i, 2 * 3), dac_color(colors[3 - i]));
    }
    /* A row that runs over the end of its bank goes on at the bank's beginning, and what changes there is seen. */
    crtc_w(h, 0x0c, 0x0f);
    crtc_w(h, 0x0d, 0xec); /* 20 characters before the end */
    screen_look(s);
    harness_write(h, 0xb8000, 1, 0x1b);
    harness_write(h, 0xba000, 1, 0xe4);
    screen_look(s);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pixel(s, 320 + 2 * i, 0), dac_color(colors[i]));
        assert_int_equal(pixel(s, 320 + 2 * i, 2), dac_color(colors[3 - i]));
    }
}

static void test_nobody_looks(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;

    display_viewer_active(s->d, s, false);
    set_mode(h, &mode_13);
    s->updates = 0;
    harness_write(h, 0xa0000, 1, 5);
    harness_step(h, 1000000000);
    assert_int_equal(s->updates, 0);
    display_viewer_active(s->d, s, true);
    screen_look(s);
    assert_int_equal(pixel(s, 0, 0), dac_color(5));
}

/* ---- saved state ---- */

static void test_save(void **state)
{
    struct screen *s = *state;
    struct screen *to = screen_create(stdvga_create, 16 << 20);
    struct save_stream st;
    struct save_stream in;

    set_mode(s->h, &mode_12);
    harness_out(s->h, 0x3c9, 1, 9);
    harness_in(s->h, 0x3da, 1);
    harness_out(s->h, 0x3c0, 1, 0x11);
    set_dword(s->h, 5, 0x11223344);
    harness_read(s->h, 0xa0005, 1);
    assert_true(harness_transfer(s->h, to->h));
    planar(to->h, 1, 0);
    harness_write(to->h, 0xa0006, 1, 0);
    assert_int_equal(dword(to->h, 6), 0x11223344); /* the latches moved along */
    harness_out(to->h, 0x3c0, 1, 0x55);            /* and the flip-flop */
    harness_in(to->h, 0x3da, 1);
    harness_out(to->h, 0x3c0, 1, 0x11);
    assert_int_equal(harness_in(to->h, 0x3c1, 1), 0x55);
    /* A record that is cut short is refused. */
    save_init(&st);
    assert_int_equal(board_save(&s->h->board, &st), 0);
    save_init_load(&in, st.data, st.len - 1);
    assert_int_not_equal(board_load(&to->h->board, &in), 0);
    save_free(&st);
    screen_destroy(to);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_reset),
        T(test_write_masks),
        T(test_crtc_protection),
        T(test_mono_and_colour_ports),
        T(test_attribute_flip_flop),
        T(test_dac),
        T(test_retrace),
        T(test_write_mode_0),
        T(test_write_modes_1_2_3),
        T(test_read_modes),
        T(test_wide_accesses_are_bytes),
        T(test_chain4_and_unchained),
        T(test_odd_even),
        T(test_window_maps),
        T(test_text_picture),
        T(test_text_blink),
        T(test_text_cursor),
        T(test_text_scroll_and_split),
        T(test_planar_picture),
        T(test_256_colour_picture),
        T(test_cga_picture),
        T(test_nobody_looks),
        T(test_save),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
