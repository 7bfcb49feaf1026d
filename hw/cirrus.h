/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Cirrus Logic CL-GD5446 (PCI 1013:00b8): registers beyond VGA and the BitBLT engine
 * (hw/cirrus_blit.c). CL-GD5446 Technical Reference Manual, chapters 5 (extension registers) and 9
 * (BitBLT). cirrus_create() is declared in hw/vga.h.
 */
#include "hw/vga.h"

enum {
    CIRRUS_VRAM_BYTES = 4 << 20, /* the most the chip addresses */
    CIRRUS_BAR0_BYTES = 32 << 20,
    CIRRUS_BLT_APERTURE = 16 << 20, /* upper half of BAR0: data for system-to-screen BLTs */
    CIRRUS_MMIO_BYTES = 0x1000,
    CIRRUS_MMIO_BLT = 0x100, /* BLT registers in BAR1; VGA ports from 0x3c0 below */
};

enum cirrus_seq {
    CIRRUS_SR6_KEY = 0x06,
    CIRRUS_SR7_MODE = 0x07,
    CIRRUS_SRF_DRAM = 0x0f,
    CIRRUS_SR10_CURSOR_X = 0x10,
    CIRRUS_SR11_CURSOR_Y = 0x11,
    CIRRUS_SR12_CURSOR_ATTR = 0x12,
    CIRRUS_SR13_CURSOR_PATTERN = 0x13,
    CIRRUS_SR15_MEM_SIZE = 0x15,
    CIRRUS_SR17_CONFIG = 0x17,
};
enum {
    CIRRUS_SR7_PACKED = 0x01,
    CIRRUS_SR12_ON = 0x01,
    CIRRUS_SR12_DAC = 0x02,
    CIRRUS_SR12_64 = 0x04
};

enum cirrus_gfx {
    CIRRUS_GR9_OFFSET0 = 0x09,
    CIRRUS_GRA_OFFSET1 = 0x0a,
    CIRRUS_GRB_EXT = 0x0b,
    CIRRUS_GR10_BG1 = 0x10,
    CIRRUS_GR11_FG1 = 0x11,
    CIRRUS_GR12_BG2 = 0x12,
    CIRRUS_GR13_FG2 = 0x13,
    CIRRUS_GR14_BG3 = 0x14,
    CIRRUS_GR15_FG3 = 0x15,
    CIRRUS_GR18_DRAM = 0x18,
    CIRRUS_GR20_WIDTH = 0x20,
    CIRRUS_GR22_HEIGHT = 0x22,
    CIRRUS_GR24_DST_PITCH = 0x24,
    CIRRUS_GR26_SRC_PITCH = 0x26,
    CIRRUS_GR28_DST = 0x28,
    CIRRUS_GR2A_DST_HI = 0x2a,
    CIRRUS_GR2C_SRC = 0x2c,
    CIRRUS_GR2F_SKIP = 0x2f,
    CIRRUS_GR30_MODE = 0x30,
    CIRRUS_GR31_STATUS = 0x31,
    CIRRUS_GR32_ROP = 0x32,
    CIRRUS_GR33_EXT = 0x33,
    CIRRUS_GR34_KEY = 0x34,
};
enum {
    CIRRUS_GRB_DUAL = 0x01,
    CIRRUS_GRB_BY8 = 0x02,
    CIRRUS_GRB_EXT_WRITE = 0x04,
    CIRRUS_GRB_16BIT = 0x10,
    CIRRUS_GRB_16K = 0x20,

    CIRRUS_BLT_BACKWARDS = 0x01, /* GR30 */
    CIRRUS_BLT_TO_CPU = 0x02,
    CIRRUS_BLT_FROM_CPU = 0x04,
    CIRRUS_BLT_TRANSPARENT = 0x08,
    CIRRUS_BLT_DEPTH_SHIFT = 4,
    CIRRUS_BLT_PATTERN = 0x40,
    CIRRUS_BLT_EXPAND = 0x80,

    CIRRUS_BLT_BUSY = 0x01, /* GR31 */
    CIRRUS_BLT_START = 0x02,
    CIRRUS_BLT_RESET = 0x04,
    CIRRUS_BLT_BUFFERED = 0x10,
    CIRRUS_BLT_AUTOSTART = 0x80,

    CIRRUS_EXT_DWORD = 0x01, /* GR33 */
    CIRRUS_EXT_INVERT = 0x02,
    CIRRUS_EXT_SOLID = 0x04,

    CIRRUS_BLT_ROW_MAX = 8192, /* 13 bits of width */
    CIRRUS_BLT_ROWS_MAX = 2048,
};

/* One BLT: the parameters as the registers were when it started, and how far it is. */
struct cirrus_blit {
    uint32_t dst,
        src; /* byte addresses of the next row: its first byte in the direction of the BLT */
    int32_t dst_step; /* to the next row */
    int32_t src_step;
    uint32_t width;  /* bytes, 1..CIRRUS_BLT_ROW_MAX */
    uint32_t height; /* rows, 1..CIRRUS_BLT_ROWS_MAX */
    uint32_t row;    /* rows done */
    uint32_t fg, bg;
    uint16_t key;
    uint8_t mode, ext, rop, skip;
};

struct cirrus_regs {
    uint8_t hidden_dac;
    uint8_t hidden_dac_reads; /* of 0x3c6 in a row */
    uint8_t hidden_pal[48];   /* DAC entries of the cursor colours: 0 and 15 are used */
    uint16_t cursor_x, cursor_y;
    struct cirrus_blit blt; /* valid while blt_need != 0 */
    uint32_t
        blt_need; /* bytes the CPU has to send for the next row (or pattern); 0: no BLT waits for the CPU */
    uint32_t blt_have;
    uint8_t blt_data[CIRRUS_BLT_ROW_MAX];
};

struct cirrus_host {
    struct pci_device pci;
    struct timer untrap; /* delays putting the video memory back into BAR0 */
};

struct cirrus {
    struct vga v; /* first: the core's callbacks get it */
    struct vga_config cfg;
    struct cirrus_regs r;
    struct cirrus_host h;
};

/* Bytes per pixel that the BLT mode says: 1..4. */
static inline uint32_t cirrus_blit_depth(const struct cirrus_blit *b)
{
    return (b->mode >> CIRRUS_BLT_DEPTH_SHIFT & 3u) + 1;
}

/* The one rectangle check: every byte that the BLT reads or writes in video memory of `size` bytes
 * is inside it. */
bool cirrus_blit_fits(const struct cirrus_blit *b, uint32_t size);
/* Bytes that the CPU sends per row (or once, for a pattern). 1..CIRRUS_BLT_ROW_MAX. */
uint32_t cirrus_blit_cpu_bytes(const struct cirrus_blit *b);
/* Does up to `rows` rows of a BLT that fits. cpu: the CPU's bytes, or NULL if the source is video
 * memory. */
void cirrus_blit_rows(struct vga *v, struct cirrus_blit *b, uint32_t rows, const uint8_t *cpu);

/* GR31 was told to start: takes the parameters from the registers; does the BLT or waits for the
 * CPU's bytes. */
void cirrus_blit_start(struct cirrus *c);
void cirrus_blit_stop(struct cirrus *c);
/* Bytes from the CPU for a waiting BLT. */
void cirrus_blit_feed(struct cirrus *c, const uint8_t *buf, uint32_t len);
/* Puts the video memory into BAR0 or takes it out, as the mode asks. */
void cirrus_update_access(struct cirrus *c);
