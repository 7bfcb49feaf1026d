/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* For the tests of the graphics adapters: a board with a display that is looked at, mode tables, register access. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hw/vga.h"
#include "tests/unit/harness.h"

struct screen {
    struct harness *h;
    struct display *d;
    int updates;      /* rectangles since screen_look() */
    int x, y, x1, y1; /* their bounds */
};

/* A BIOS mode: miscellaneous output, then the register files. */
struct vga_mode_regs {
    uint8_t misc, seq[5], crtc[25], gfx[9], attr[21];
};
#define EGA_COLORS 0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f
static const struct vga_mode_regs mode_03 = {0x67,
                                             {3, 0, 3, 0, 2},
                                             {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0,    0x4f, 0x0d, 0x0e, 0,
                                              0,    0,    0,    0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff},
                                             {0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff},
                                             {EGA_COLORS, 0x0c, 0, 0x0f, 8, 0}};
static const struct vga_mode_regs mode_04 = {
    0x63,
    {3, 9, 3, 0, 2},
    {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0,    0xc1, 0,    0,   0,
     0,    0,    0,    0x9c, 0x8e, 0x8f, 0x14, 0,    0x96, 0xb9, 0xa2, 0xff},
    {0, 0, 0, 0, 0, 0x30, 0x0f, 0, 0xff},
    {0, 0x13, 0x15, 0x17, 2, 4, 6, 7, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 1, 0, 3, 0, 0}};
static const struct vga_mode_regs mode_12 = {0xe3,
                                             {3, 1, 0x0f, 0, 6},
                                             {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0,    0x40, 0,    0,   0,
                                              0,    0,    0,    0xea, 0x8c, 0xdf, 0x28, 0,    0xe7, 4,    0xe3, 0xff},
                                             {0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff},
                                             {EGA_COLORS, 1, 0, 0x0f, 0, 0}};
static const struct vga_mode_regs mode_13 = {
    0x63,
    {3, 1, 0x0f, 0, 0x0e},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0,    0x41, 0,    0,   0,
     0,    0,    0,    0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff},
    {0, 0, 0, 0, 0, 0x40, 5, 0x0f, 0xff},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x41, 0, 0x0f, 0, 0}};

static inline void reg_w(struct harness *h, uint16_t index_port, uint8_t index, uint8_t val)
{
    harness_out(h, index_port, 2, (uint32_t)(index | val << 8));
}

static inline uint8_t reg_r(struct harness *h, uint16_t index_port, uint8_t index)
{
    harness_out(h, index_port, 1, index);
    return (uint8_t)harness_in(h, (uint16_t)(index_port + 1), 1);
}

static inline void seq_w(struct harness *h, uint8_t index, uint8_t val)
{
    reg_w(h, 0x3c4, index, val);
}

static inline void gfx_w(struct harness *h, uint8_t index, uint8_t val)
{
    reg_w(h, 0x3ce, index, val);
}

static inline void crtc_w(struct harness *h, uint8_t index, uint8_t val)
{
    reg_w(h, 0x3d4, index, val);
}

static inline void attr_w(struct harness *h, uint8_t index, uint8_t val)
{
    harness_in(h, 0x3da, 1);
    harness_out(h, 0x3c0, 1, index);
    harness_out(h, 0x3c0, 1, val);
    harness_in(h, 0x3da, 1);
    harness_out(h, 0x3c0, 1, 0x20);
}

static inline void dac_w(struct harness *h, uint8_t index, uint8_t r, uint8_t g, uint8_t b)
{
    harness_out(h, 0x3c8, 1, index);
    harness_out(h, 0x3c9, 1, r);
    harness_out(h, 0x3c9, 1, g);
    harness_out(h, 0x3c9, 1, b);
}

/* Sets a mode and a palette in which entry i is the colour (i, 63 - i, i & 7), six bits each. */
static inline void set_mode(struct harness *h, const struct vga_mode_regs *m)
{
    harness_out(h, 0x3c2, 1, m->misc);
    for (uint8_t i = 0; i < 5; i++) {
        seq_w(h, i, m->seq[i]);
    }
    crtc_w(h, 0x11, 0);
    for (uint8_t i = 0; i < 25; i++) {
        crtc_w(h, i, m->crtc[i]);
    }
    for (uint8_t i = 0; i < 9; i++) {
        gfx_w(h, i, m->gfx[i]);
    }
    for (uint8_t i = 0; i < 21; i++) {
        attr_w(h, i, m->attr[i]);
    }
    for (unsigned i = 0; i < 256; i++) {
        dac_w(h, (uint8_t)i, i & 63, 63 - (i & 63), i & 7);
    }
}

static inline uint32_t six_to_eight(uint32_t c)
{
    return c << 2 | c >> 4;
}

/* What DAC entry i of set_mode() looks like. */
static inline uint32_t dac_color(unsigned i)
{
    return six_to_eight(i & 63) << 16 | six_to_eight(63 - (i & 63)) << 8 | six_to_eight(i & 7);
}

static void screen_updated(void *ui, int x, int y, int w, int h)
{
    struct screen *s = ui;

    s->x = s->updates == 0 || x < s->x ? x : s->x;
    s->y = s->updates == 0 || y < s->y ? y : s->y;
    s->x1 = s->updates == 0 || x + w > s->x1 ? x + w : s->x1;
    s->y1 = s->updates == 0 || y + h > s->y1 ? y + h : s->y1;
    s->updates++;
}

typedef int create_fn(struct board *b, const struct vga_config *cfg, struct display *d);

static inline struct screen *screen_create(create_fn *create, uint32_t vram_bytes)
{
    static const struct display_viewer viewer = {.updated = screen_updated};
    struct screen *s = calloc(1, sizeof(*s));
    struct vga_config cfg = {.devfn = PCI_DEVFN(3, 0), .vram_bytes = vram_bytes};

    s->h = harness_create();
    s->d = display_create(s->h->loop);
    assert_int_equal(create(&s->h->board, &cfg, s->d), 0);
    assert_int_equal(display_add_viewer(s->d, &viewer, s), 0);
    display_viewer_active(s->d, s, true);
    return s;
}

static inline void screen_destroy(struct screen *s)
{
    display_remove_viewer(s->d, s);
    harness_destroy(s->h);
    display_destroy(s->d);
    free(s);
}

/* Lets one refresh happen; s->updates.. tell what it touched. */
static inline void screen_look(struct screen *s)
{
    s->updates = 0;
    harness_step(s->h, DISPLAY_IDLE_NS);
}

static inline uint32_t pixel(struct screen *s, int x, int y)
{
    int w;
    int h;
    int stride;
    const uint32_t *px = display_pixels(s->d, &w, &h, &stride);

    assert_in_range(x, 0, w - 1);
    assert_in_range(y, 0, h - 1);
    return px[(size_t)y * (size_t)stride / 4 + (size_t)x];
}

/* COMMAND: memory decode on, BAR n at addr. */
static inline void map_bar(struct harness *h, unsigned n, uint32_t addr)
{
    harness_pci_write(h, PCI_DEVFN(3, 0), 0x10 + 4 * n, 4, addr);
    harness_pci_write(h, PCI_DEVFN(3, 0), PCI_COMMAND, 2, 3);
}

static inline uint8_t *vga_memory(struct harness *h)
{
    return vram_data(pci_find(h->board.pci, PCI_DEVFN(3, 0))->bars[0].vram);
}
