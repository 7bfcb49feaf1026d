/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The VGA core that both adapters (hw/stdvga.c, hw/cirrus.c) are built on: register file, 0xa0000
 * window, and the picture. IBM VGA (PS/2 Model 50/60 TRM; register names and bits also in the
 * CL-GD5446 TRM, chapter 4).
 *
 * Video memory is one linear array: byte c * 4 + p holds plane p of display address c, so that a
 * chain-4 byte address, a linear frame buffer and mode X see the same bytes. DEVIATION: odd/even
 * and chain-4 addresses are packed (A >> 1, A >> 2) where the IBM part leaves gaps and lets the
 * CRTC's word and doubleword modes skip them, because then a linear frame buffer is plain memory;
 * what a guest can see differs only after it mixes addressing modes on the same bytes.
 *
 * Loop thread only.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/board.h"
#include "core/pci.h"
#include "ui/display.h"

/* What board.c asks for. rom (a VGA BIOS image for the ROM BAR) is borrowed; rom_len 0: none. */
struct vga_config {
    uint8_t devfn;
    uint32_t vram_bytes;
    const uint8_t *rom;
    size_t rom_len;
};

/* Both adapters create the ISA ports 0x3b4..0x3da, the 0xa0000 window and the PCI function. d may
 * be NULL (no picture is ever wanted) and must outlive the board. 0, or -errno with the board
 * unchanged: -EEXIST (slot or ports taken),
 * -ENOMEM. */
int stdvga_create(struct board *b, const struct vga_config *cfg, struct display *d);
int cirrus_create(struct board *b, const struct vga_config *cfg, struct display *d);

/* ---- below: for the adapters, vga_render.c and tests ---- */

enum vga_port { /* colour addresses; the monochrome CRTC and status are at 0x3b4, 0x3b5, 0x3ba */
                VGA_ATTR_W = 0x3c0,
                VGA_ATTR_R = 0x3c1,
                VGA_MISC_W = 0x3c2, /* reads: input status 0 */
                VGA_SEQ_INDEX = 0x3c4,
                VGA_SEQ_DATA = 0x3c5,
                VGA_PEL_MASK = 0x3c6,
                VGA_PEL_READ_INDEX = 0x3c7, /* reads: DAC state */
                VGA_PEL_WRITE_INDEX = 0x3c8,
                VGA_PEL_DATA = 0x3c9,
                VGA_FEATURE_R = 0x3ca,
                VGA_MISC_R = 0x3cc,
                VGA_GFX_INDEX = 0x3ce,
                VGA_GFX_DATA = 0x3cf,
                VGA_CRTC_INDEX = 0x3d4,
                VGA_CRTC_DATA = 0x3d5,
                VGA_STATUS1 = 0x3da, /* writes: feature control */
};
enum vga_seq { SEQ_RESET, SEQ_CLOCK, SEQ_MAP_MASK, SEQ_CHAR_MAP, SEQ_MEM_MODE };
enum vga_gfx {
    GFX_SET_RESET,
    GFX_ENABLE_SR,
    GFX_COMPARE,
    GFX_ROTATE,
    GFX_READ_MAP,
    GFX_MODE,
    GFX_MISC,
    GFX_DONT_CARE,
    GFX_BIT_MASK
};
enum vga_crtc {
    CRTC_HTOTAL = 0x00,
    CRTC_HDISP = 0x01,
    CRTC_VTOTAL = 0x06,
    CRTC_OVERFLOW = 0x07,
    CRTC_PRESET_ROW = 0x08,
    CRTC_MAX_SCAN = 0x09,
    CRTC_CURSOR_START = 0x0a,
    CRTC_CURSOR_END = 0x0b,
    CRTC_START_HI = 0x0c,
    CRTC_START_LO = 0x0d,
    CRTC_CURSOR_HI = 0x0e,
    CRTC_CURSOR_LO = 0x0f,
    CRTC_VSYNC_START = 0x10,
    CRTC_VSYNC_END = 0x11,
    CRTC_VDISP_END = 0x12,
    CRTC_OFFSET = 0x13,
    CRTC_UNDERLINE = 0x14,
    CRTC_MODE = 0x17,
    CRTC_LINE_COMPARE = 0x18,
};
enum vga_attr {
    ATTR_MODE = 0x10,
    ATTR_OVERSCAN,
    ATTR_PLANES,
    ATTR_PAN,
    ATTR_COLOR_SELECT,
    ATTR_COUNT
};

enum {
    VGA_WINDOW_BASE = 0xa0000,
    VGA_WINDOW_SIZE = 0x20000,
    VGA_VRAM_MAX = 64 << 20,
    VGA_PAGES_MAX = VGA_VRAM_MAX / 4096,
    VGA_LINE_MAX = DISPLAY_MAX_WIDTH +
                   64, /* pixels of the line buffer: the widest picture and the panned-out part */
    VGA_CELLS_MAX = 16384,
};

/* Guest-visible: reset and saved. Arrays are as large as the Cirrus register files; plain VGA uses
 * the first 5, 9 and 0x19. */
struct vga_regs {
    uint8_t misc;
    uint8_t feature;
    uint8_t seq_index, seq[0x20];
    uint8_t gfx_index, gfx[0x40];
    uint8_t crtc_index, crtc[0x100];
    uint8_t attr_index, attr[ATTR_COUNT];
    uint8_t attr_data; /* flip-flop: the next write to 0x3c0 is data */
    uint8_t dac_read, dac_write, dac_sub, dac_state, dac_pending[3];
    uint8_t pel_mask;
    uint8_t dac_8bit;
    uint8_t pal[768];
    uint32_t latch;
    uint32_t
        bank; /* byte offset added to window addresses (plane addresses count in units of 4 bytes) */
};

/* How the bytes of a mode become pixels. */
enum vga_format {
    VGA_BLANK,
    VGA_TEXT,
    VGA_PLANAR, /* 4 planes, 8 pixels per 4 bytes */
    VGA_CGA,    /* interleaved 2-bit */
    VGA_PAL8,
    VGA_RGB555,
    VGA_RGB565,
    VGA_RGB888,
    VGA_RGB8888,
};

/* What is on the screen, worked out from the registers at each refresh. Zeroed before it is filled:
 * compared as memory.
 */
struct vga_mode {
    uint32_t format; /* enum vga_format */
    uint32_t width;  /* picture, pixels; 1..DISPLAY_MAX_* */
    uint32_t height;
    uint32_t start;        /* byte address of the first row */
    uint32_t pitch;        /* bytes from row to row */
    uint32_t wrap;         /* mask on byte addresses */
    uint32_t line_compare; /* after this line the address restarts at 0 */
    uint32_t pan;          /* pixels shifted out on the left */
    uint32_t pan_split;    /* the same below line_compare */
    uint32_t row_lines;    /* scan lines per row (1..32) */
    uint32_t row_first;    /* scan line the first row starts with */
    uint32_t repeat;       /* each scan line is shown so many times (1, 2, 4) */
    uint32_t dot_double;   /* each pixel is two wide */
    uint32_t cga_bit[2];   /* byte-address bits that scan line bits 0 and 1 replace, or 0 */
    uint32_t trapless;     /* the guest writes this picture without trapping: ask vram_dirty() */
    /* text */
    uint32_t cell_width; /* 8 or 9 */
    uint32_t font[2];    /* byte address of the glyphs for attribute bit 3 clear, set */
    uint32_t cursor_first, cursor_last, cursor_on;
    uint32_t blink, line_graphics, underline;
};

struct vga;

/* What an adapter changes; each may be NULL: then the core's own is used (or nothing is drawn
 * over). */
struct vga_adapter {
    uint8_t (*port_read)(struct vga *v, uint32_t port);
    void (*port_write)(struct vga *v, uint32_t port, uint8_t val);
    void (*window_read)(struct vga *v, uint32_t off, uint8_t *buf, uint32_t len);
    void (*window_write)(struct vga *v, uint32_t off, const uint8_t *buf, uint32_t len);
    /* Replaces the mode that the VGA registers give. */
    void (*mode)(struct vga *v, struct vga_mode *m);
    /* Is anything drawn over line y? / draw it over the pixels of line y (mode->width of them). */
    bool (*overlaps)(struct vga *v, uint32_t y);
    void (*overlay)(struct vga *v, uint32_t y, uint32_t *pixels);
};

struct vga_host {
    struct bus *bus;
    struct loop *loop;
    struct display *display;
    const struct vga_adapter *adapter;
    struct vram *vram;
    uint8_t *mem;  /* vram_data() */
    uint32_t size; /* bytes; a multiple of 64 KiB */
    /* window decoding, from the registers by vga_update_window() */
    uint32_t win_first, win_len; /* offset in the 128 KiB */
    uint8_t win_map;             /* enum window_map in vga.c */
    bool
        win_linear; /* set by the adapter: the window is plain memory whatever the VGA registers say */
    bool win_plain; /* writes store the byte: no rotate, set/reset, function, bit mask */
    bool io_3d;     /* CRTC at 0x3d4 rather than 0x3b4 */
    /* retrace */
    bool timing_valid;
    uint64_t frame_ns, line_ns, blank_ns, vsync_ns, hblank_ns, vsync_end_ns;
    uint64_t vsync_seen; /* number of the last vertical retrace that a status read showed */
    /* picture */
    uint8_t dirty[VGA_PAGES_MAX / 8 + 8]; /* pages that trapped writes or the blitter changed */
    uint8_t guest[VGA_PAGES_MAX / 8 + 8]; /* scratch for vram_dirty() */
    bool any_dirty, font_dirty, pal_dirty, all_dirty, tracking;
    uint64_t next_full_ns, next_look_ns;
    struct vga_mode mode;
    uint32_t rgb[256];
    uint32_t pal16[16];
    uint32_t cells[VGA_CELLS_MAX];
    uint32_t line[VGA_LINE_MAX];
    uint8_t gather[DISPLAY_MAX_WIDTH * 4 + 64];
    int band_y, band_y1, band_x0, band_x1; /* rows not yet handed to display_dirty() */
    uint32_t overlay_first, overlay_last;  /* lines that held the overlay at the last refresh */
    struct vga_port_range {
        struct vga *vga;
        uint32_t base;
    } ports[5];
    int region[6];
};

struct vga {
    struct vga_regs r;
    struct vga_host h;
};

/* Power-on values of the core. */
void vga_reset(struct vga *v);
/* Moves the core's registers; on load they are checked and derived state is made. 0 or -EINVAL (v
 * unchanged). */
int vga_state(struct vga *v, struct save_stream *s);

/* Allocates VRAM (vram_bytes: rounded up to 64 KiB, clamped to 1..64 MiB), registers the legacy
 * ports and the window and hooks the display. 0 or -errno with nothing kept. */
int vga_init(struct vga *v, struct board *b, uint32_t vram_bytes, struct display *d,
             const struct vga_adapter *adapter, const char *name);
/* Removes what vga_init() made. */
void vga_fini(struct vga *v);

/* One byte port by its absolute number (0x3b0..0x3df): as the guest sees it (adapter first) / the
 * core's own answer. */
uint8_t vga_io_read(struct vga *v, uint32_t port);
void vga_io_write(struct vga *v, uint32_t port, uint8_t val);
uint8_t vga_port_read(struct vga *v, uint32_t port);
void vga_port_write(struct vga *v, uint32_t port, uint8_t val);
/* True if `port` is decoded with the present colour/monochrome choice. */
bool vga_port_decoded(const struct vga *v, uint32_t port);

/* Bytes [off, off + len) of the 128 KiB window. */
void vga_window_read(struct vga *v, uint32_t off, uint8_t *buf, uint32_t len);
void vga_window_write(struct vga *v, uint32_t off, const uint8_t *buf, uint32_t len);
/* Call after changing registers behind the core's back. */
void vga_update_window(struct vga *v);

/* Linear access to video memory, clipped to its size (reads give ones beyond). */
void vga_linear_read(struct vga *v, uint64_t addr, uint8_t *buf, uint32_t len);
void vga_linear_write(struct vga *v, uint64_t addr, const uint8_t *buf, uint32_t len);

/* [addr, addr + len) was changed by us; len >= 1, inside the VRAM. */
static inline void vga_touch(struct vga *v, uint32_t addr, uint32_t len)
{
    for (uint32_t page = addr >> 12; page <= (addr + len - 1) >> 12; page++) {
        v->h.dirty[page >> 3] |= (uint8_t)(1u << (page & 7));
    }
    v->h.any_dirty = true;
}

/* vga_render.c */
extern const struct display_source vga_display_source; /* dev: struct vga */
/* The mode by the VGA registers alone. */
void vga_legacy_mode(const struct vga *v, struct vga_mode *m);
/* The complete mode, adapter included. */
void vga_current_mode(struct vga *v, struct vga_mode *m);
