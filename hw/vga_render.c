/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The picture: from the registers and the video memory to rows of the display. Runs only while
 * somebody looks. */
#include <string.h>
#include <time.h>

#include "hw/vga.h"

enum {
    CELL_CURSOR = 1 << 16,
    CELL_HIDDEN = 1 << 17, /* in the dark half of its blinking */
    PAGE = 4096,
};
#define CURSOR_HALF_NS 266666667ull /* 16 frames; characters blink half as fast */
/* Stores that the hypervisor emulates do not show in its dirty map: look at everything now and then
 * (contract 3.4). */
#define FULL_LOOK_NS 2000000000ull
#define LOOK_MAX_NS  100000000ull
enum { LOOK_SHARE = 10 };

static uint32_t min32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* ---- registers to mode ---- */

static void text_mode(const struct vga *v, struct vga_mode *m)
{
    const struct vga_regs *r = &v->r;
    uint8_t sel = r->seq[SEQ_CHAR_MAP];
    uint32_t map_b = (sel & 3u) | (sel >> 2 & 4u);
    uint32_t map_a = (sel >> 2 & 3u) | (sel >> 3 & 4u);

    /* Character maps are at 0, 16K, 32K, 48K and then 8K above each of these, in plane 2. */
    m->font[0] = ((map_b & 3) * 0x4000 + (map_b & 4 ? 0x2000 : 0)) * 4;
    m->font[1] = ((map_a & 3) * 0x4000 + (map_a & 4 ? 0x2000 : 0)) * 4;
    m->format = VGA_TEXT;
    m->cell_width = r->seq[SEQ_CLOCK] & 1 ? 8 : 9;
    m->cursor_on = !(r->crtc[CRTC_CURSOR_START] & 0x20);
    m->cursor_first = r->crtc[CRTC_CURSOR_START] & 0x1f;
    m->cursor_last = r->crtc[CRTC_CURSOR_END] & 0x1f;
    m->blink = r->attr[ATTR_MODE] >> 3 & 1;
    m->line_graphics = r->attr[ATTR_MODE] >> 2 & 1;
    m->underline = r->attr[ATTR_MODE] & 2 ? r->crtc[CRTC_UNDERLINE] & 0x1f : 32;
    m->pan = r->attr[ATTR_PAN] & 0x0f;
    if (m->cell_width == 9) {
        m->pan =
            m->pan >= 8 ? 0 : m->pan + 1; /* 8 is "not panned" when characters are 9 dots wide */
    } else {
        m->pan &= 7;
    }
}

static void graphics_mode(const struct vga *v, struct vga_mode *m)
{
    const struct vga_regs *r = &v->r;
    uint8_t crtc_mode = r->crtc[CRTC_MODE];
    uint32_t bit = crtc_mode & 0x40 ? 1 << 15 : 1 << 14; /* A13 in byte and in word mode */

    m->cell_width = 8;
    m->cga_bit[0] = crtc_mode & 1 ? 0 : bit;
    m->cga_bit[1] = crtc_mode & 2 ? 0 : bit << 1;
    m->pan = r->attr[ATTR_PAN] & 7;
    if (r->gfx[GFX_MODE] & 0x40) {
        m->format = VGA_PAL8;
        m->pan >>= 1;
    } else {
        m->format = r->gfx[GFX_MODE] & 0x20 ? VGA_CGA : VGA_PLANAR;
    }
}

void vga_legacy_mode(const struct vga *v, struct vga_mode *m)
{
    const struct vga_regs *r = &v->r;
    const uint8_t *c = r->crtc;
    uint32_t ovf = c[CRTC_OVERFLOW];
    uint32_t slow = c[CRTC_MODE] & 4 ? 2 : 1; /* vertical counters run at half speed */
    bool half = (r->seq[SEQ_CLOCK] & 8) != 0;

    if (r->gfx[GFX_MISC] & 1) {
        graphics_mode(v, m);
    } else {
        text_mode(v, m);
    }
    m->dot_double = half || m->format == VGA_PAL8;
    m->width = (c[CRTC_HDISP] + 1u) * m->cell_width * (half ? 2 : 1);
    m->height = ((c[CRTC_VDISP_END] | (ovf & 2) << 7 | (ovf & 0x40) << 3) + 1) * slow;
    m->repeat = (c[CRTC_MAX_SCAN] & 0x80 ? 2 : 1) * slow;
    m->row_lines = (c[CRTC_MAX_SCAN] & 0x1f) + 1u;
    m->row_first = (c[CRTC_PRESET_ROW] & 0x1fu) % m->row_lines;
    m->line_compare =
        (c[CRTC_LINE_COMPARE] | (ovf & 0x10) << 4 | (c[CRTC_MAX_SCAN] & 0x40u) << 3) * slow;
    m->start =
        (((uint32_t)c[CRTC_START_HI] << 8 | c[CRTC_START_LO]) + (c[CRTC_PRESET_ROW] >> 5 & 3u)) * 4;
    m->pitch = c[CRTC_OFFSET] * 8u;
    m->wrap = 0x3ffff;
    m->pan_split = r->attr[ATTR_MODE] & 0x20 ? 0 : m->pan;
    if (!(r->attr_index & 0x20) || (r->seq[SEQ_CLOCK] & 0x20) || !(c[CRTC_MODE] & 0x80)) {
        m->format = VGA_BLANK;
    }
    if (c[CRTC_HTOTAL] == 0) { /* before the BIOS has set a mode */
        m->width = 720;
        m->height = 400;
    }
}

void vga_current_mode(struct vga *v, struct vga_mode *m)
{
    memset(m, 0, sizeof(*m));
    vga_legacy_mode(v, m);
    if (v->h.adapter->mode != NULL) {
        v->h.adapter->mode(v, m);
    }
    m->width = m->width > DISPLAY_MAX_WIDTH ? DISPLAY_MAX_WIDTH : m->width;
    m->height = m->height > DISPLAY_MAX_HEIGHT ? DISPLAY_MAX_HEIGHT : m->height;
}

/* ---- rows to the display ---- */

static void band_flush(struct vga *v, struct display *d)
{
    if (v->h.band_y1 > v->h.band_y) {
        display_dirty(d, v->h.band_x0, v->h.band_y, v->h.band_x1 - v->h.band_x0,
                      v->h.band_y1 - v->h.band_y);
    }
    v->h.band_y = v->h.band_y1 = 0;
}

/* Several pixels at a time: the compilers do not find it by themselves at -O2. */
typedef uint16_t px16 __attribute__((vector_size(8)));
typedef uint32_t px32 __attribute__((vector_size(16)));
typedef uint64_t px32_halves __attribute__((vector_size(16)));

/* Pixels of a row of the display, and as a mode gives them: maybe in the guest's memory, not
 * aligned, with anything in the high byte, and changing under our eyes. */
static inline bool eight_differ(const uint32_t *row, const uint8_t *px)
{
    px32 p[2], q[2];
    px32_halves d;

    memcpy(p, row, sizeof(p));
    memcpy(q, px, sizeof(q));
    d = (px32_halves)(((p[0] ^ q[0]) | (p[1] ^ q[1])) & 0xffffff);
    return (d[0] | d[1]) != 0;
}

static inline uint32_t one_pixel(const uint8_t *px)
{
    uint32_t p;

    memcpy(&p, px, sizeof(p));
    return p & 0xffffff;
}

/* The first x of [x0, x1) where they differ; x1: nowhere. */
static uint32_t first_difference(const uint32_t *row, const uint8_t *px, uint32_t x0, uint32_t x1)
{
    while (x0 + 8 <= x1 && !eight_differ(row + x0, px + 4 * (size_t)x0)) {
        x0 += 8;
    }
    while (x0 < x1 && row[x0] == one_pixel(px + 4 * (size_t)x0)) {
        x0++;
    }
    return x0;
}

/* The end of the last difference in [x0, x1); x0: nowhere. */
static uint32_t last_difference(const uint32_t *row, const uint8_t *px, uint32_t x0, uint32_t x1)
{
    while (x0 + 8 <= x1 && !eight_differ(row + x1 - 8, px + 4 * (size_t)(x1 - 8))) {
        x1 -= 8;
    }
    while (x0 < x1 && row[x1 - 1] == one_pixel(px + 4 * (size_t)(x1 - 1))) {
        x1--;
    }
    return x1;
}

static void copy_pixels(const uint8_t *px, uint32_t *out, uint32_t n)
{
    uint32_t i = 0;

    for (; i + 4 <= n; i += 4) {
        px32 p;

        memcpy(&p, px + 4 * i, sizeof(p));
        p &= 0xffffff;
        memcpy(out + i, &p, sizeof(p));
    }
    for (; i < n; i++) {
        out[i] = one_pixel(px + 4 * i);
    }
}

/* Puts px[x0..x1) on row y if it differs (or always, with force) and remembers the changed part.
 * Returns true if it did. */
static bool emit(struct vga *v, struct display *d, uint32_t y, uint32_t x0, uint32_t x1,
                 const void *px, bool force)
{
    uint32_t *row = display_row(d, (int)y);

    if (!force) {
        x0 = first_difference(row, px, x0, x1);
        x1 = last_difference(row, px, x0, x1);
        if (x0 == x1) {
            return false;
        }
    }
    copy_pixels((const uint8_t *)px + 4 * (size_t)x0, row + x0, x1 - x0);
    if (v->h.band_y1 != (int)y || v->h.band_y == v->h.band_y1) {
        band_flush(v, d);
        v->h.band_y = (int)y;
        v->h.band_x0 = (int)x0;
        v->h.band_x1 = (int)x1;
    }
    v->h.band_y1 = (int)y + 1;
    v->h.band_x0 = v->h.band_x0 < (int)x0 ? v->h.band_x0 : (int)x0;
    v->h.band_x1 = v->h.band_x1 > (int)x1 ? v->h.band_x1 : (int)x1;
    return true;
}

/* What one refresh works with. */
struct draw {
    struct vga *v;
    struct display *d;
    const struct vga_mode *m;
    uint32_t width, height; /* the part of the picture that the surface has room for */
    bool redraw;            /* look at everything */
    bool force;             /* and mark everything as changed */
    bool changed;
    uint32_t scan_mask,
        scan_bits; /* address bits that this line's scan line replaces, and what by */
};

/* ---- colours ---- */

/* Rebuilds the colour tables; true if what the mode shows changed. */
static bool update_palette(struct vga *v, const struct vga_mode *m)
{
    const struct vga_regs *r = &v->r;
    bool dac = v->h.pal_dirty;
    bool changed = false;

    if (dac) {
        for (unsigned i = 0; i < 256; i++) {
            const uint8_t *p = r->pal + (i & r->pel_mask) * 3u;
            uint32_t rgb = 0;

            for (unsigned k = 0; k < 3; k++) {
                uint32_t c = p[k];

                c = r->dac_8bit ? c : (c & 0x3f) << 2 | (c & 0x3f) >> 4;
                rgb = rgb << 8 | c;
            }
            v->h.rgb[i] = rgb;
        }
        v->h.pal_dirty = false;
    }
    for (unsigned i = 0; i < 16; i++) {
        uint32_t a = r->attr[i & r->attr[ATTR_PLANES] & 0x0f] & 0x3fu;
        uint32_t sel = r->attr[ATTR_COLOR_SELECT];

        a = r->attr[ATTR_MODE] & 0x80 ? (a & 0x0f) | (sel & 0x0f) << 4 : a | (sel & 0x0c) << 4;
        changed |= v->h.pal16[i] != v->h.rgb[a];
        v->h.pal16[i] = v->h.rgb[a];
    }
    return m->format == VGA_PAL8 ? dac : m->format < VGA_PAL8 && changed;
}

/* ---- text ---- */

/* Dots 0 to 7 of a glyph's line, of which bit 7 is the first. */
static inline void eight_dots(uint32_t *px, uint32_t bits, uint32_t fg, uint32_t bg)
{
    const px32 dot[2] = {{0x80, 0x40, 0x20, 0x10}, {0x08, 0x04, 0x02, 0x01}};

    for (unsigned i = 0; i < 2; i++) {
        px32 lit = (px32)((dot[i] & bits) != 0);
        px32 out = (lit & fg) | (~lit & bg);

        memcpy(px + 4 * i, &out, sizeof(out));
    }
}

static void text_line(const struct vga *v, const struct vga_mode *m, const uint32_t *cells,
                      uint32_t c0, uint32_t c1, uint32_t scan, uint32_t *out)
{
    uint32_t dots = m->cell_width;

    for (uint32_t c = c0; c <= c1; c++) {
        uint32_t cell = cells[c];
        uint32_t ch = cell & 0xff;
        uint32_t attr = cell >> 8 & 0xff;
        uint32_t fg = v->h.pal16[attr & 0x0f];
        uint32_t bg = v->h.pal16[attr >> 4 & (m->blink ? 7u : 15u)];
        uint32_t bits = v->h.mem[m->font[attr >> 3 & 1] + (ch * 32 + scan) * 4 + 2];
        uint32_t *px = out + c * dots * (m->dot_double ? 2 : 1);

        bits = bits << 1 | (m->line_graphics && (ch & 0xe0) == 0xc0 ? bits & 1 : 0);
        if (cell & CELL_HIDDEN) {
            bits = 0;
        } else if (scan == m->underline && (attr & 0x77) == 1) {
            bits = 0x1ff;
        }
        if ((cell & CELL_CURSOR) && scan >= m->cursor_first && scan <= m->cursor_last) {
            bits = 0x1ff;
        }
        if (m->dot_double) {
            for (uint32_t i = 0; i < dots; i++) {
                px[2 * i] = px[2 * i + 1] = bits & (0x100u >> i) ? fg : bg;
            }
        } else {
            eight_dots(px, bits >> 1, fg, bg);
            if (dots == 9) {
                px[8] = bits & 1 ? fg : bg;
            }
        }
    }
}

/* Draws text lines [y, end), all of the character row at addr, the first at scan line `scan`, where
 * cells changed. */
static void text_band(struct draw *w, uint32_t *shadow, uint32_t cols, uint32_t y, uint32_t end,
                      uint32_t scan, uint32_t addr, uint32_t pan)
{
    struct vga *v = w->v;
    const struct vga_mode *m = w->m;
    uint64_t phase = loop_now(v->h.loop, LOOP_VIRTUAL) / CURSOR_HALF_NS;
    uint32_t cursor = ((uint32_t)v->r.crtc[CRTC_CURSOR_HI] << 8 | v->r.crtc[CRTC_CURSOR_LO]) * 4;
    uint32_t cell_px = m->cell_width * (m->dot_double ? 2 : 1);
    uint32_t skip = pan * (m->dot_double ? 2 : 1);
    uint32_t c0 = cols;
    uint32_t c1 = 0;

    for (uint32_t c = 0; c < cols; c++) {
        uint32_t a = (addr + c * 4) & m->wrap & ~3u;
        uint32_t cell = v->h.mem[a] | (uint32_t)v->h.mem[a + 1] << 8;

        cell |= a == cursor && m->cursor_on && !(phase & 1) ? CELL_CURSOR : 0;
        cell |= m->blink && (cell & 0x8000) && (phase & 2) ? CELL_HIDDEN : 0;
        if (cell != shadow[c]) {
            shadow[c] = cell;
            c0 = min32(c0, c);
            c1 = c;
        }
    }
    if (w->redraw || (c0 < cols && skip != 0)) {
        c0 = 0;
        c1 = cols - 1;
    }
    if (c0 == cols) {
        return;
    }
    for (uint32_t i = y; i < end; i++) {
        uint32_t x1 = min32((c1 + 1) * cell_px, w->width);

        if (i == y || (i - y) % m->repeat == 0) {
            text_line(v, m, shadow, c0, c1, scan + (i - y) / m->repeat, v->h.line);
        }
        if (c0 * cell_px < x1) {
            w->changed |= emit(v, w->d, i, c0 * cell_px, x1, v->h.line + skip, w->force);
        }
    }
}

static void draw_text(struct draw *w)
{
    const struct vga_mode *m = w->m;
    uint32_t cell_px = m->cell_width * (m->dot_double ? 2 : 1);
    uint32_t cols = (w->width + cell_px - 1) / cell_px + (m->pan != 0);
    uint32_t addr = m->start;
    uint32_t scan = m->row_first;
    uint32_t pan = m->pan;
    bool split = false;
    uint32_t used = 0;

    /* A mode with more characters than that is no text mode of any program; it is shown as far as
     * it goes. */
    for (uint32_t y = 0; y < w->height && used + cols <= VGA_CELLS_MAX; used += cols) {
        uint32_t end = y + (m->row_lines - scan) * m->repeat;
        bool splits = !split && m->line_compare >= y && m->line_compare < end;

        end = splits ? m->line_compare + 1 : end;
        text_band(w, w->v->h.cells + used, cols, y, min32(end, w->height), scan, addr, pan);
        addr = splits ? 0 : addr + m->pitch;
        scan = 0;
        if (splits) {
            split = true;
            pan = m->pan_split;
        }
        y = end;
    }
}

/* ---- graphics ---- */

/* Bits of a byte to bytes 0/1, the most significant in the lowest byte. */
static inline uint64_t spread(uint8_t b)
{
    uint64_t x = b * UINT64_C(0x0101010101010101) & UINT64_C(0x0102040810204080);

    return (x + UINT64_C(0x7f7f7f7f7f7f7f7f)) >> 7 & UINT64_C(0x0101010101010101);
}

static void line_planar(const struct vga *v, const uint8_t *src, uint32_t *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 8, src += 4) {
        uint64_t px =
            spread(src[0]) | spread(src[1]) << 1 | spread(src[2]) << 2 | spread(src[3]) << 3;

        for (unsigned k = 0; k < 8; k++) {
            out[i + k] = v->h.pal16[px >> (8 * k) & 0x0f];
        }
    }
}

static void line_cga(const struct vga *v, const uint8_t *src, uint32_t *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 8, src += 4) {
        for (unsigned k = 0; k < 8; k++) {
            unsigned shift = 6 - 2 * (k & 3);

            out[i + k] =
                v->h.pal16[(src[k >> 2] >> shift & 3) | (src[2 + (k >> 2)] >> shift & 3) << 2];
        }
    }
}

static void line_pal8(const struct vga *v, const uint8_t *src, uint32_t *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        out[i] = v->h.rgb[src[i]];
    }
}

static inline void four_px16(const uint8_t *src, uint32_t *out, size_t k, bool green6)
{
    px16 half = {0};
    px32 p;
    px32 rgb;

    memcpy(&half, src, k * 2);
    p = __builtin_convertvector(half, px32);
    if (green6) {
        rgb = (p & 0xf800) << 8 | (p & 0x001f) << 3;
        rgb |= (rgb >> 5 & 0x070007) | (p & 0x07e0) << 5 | (p & 0x0600) >> 1;
    } else {
        rgb = (p & 0x7c00) << 9 | (p & 0x03e0) << 6 | (p & 0x001f) << 3;
        rgb |= rgb >> 5 & 0x070707;
    }
    memcpy(out, &rgb, k * 4);
}

static void line_16(const uint8_t *src, uint32_t *out, uint32_t n, bool green6)
{
    uint32_t i = 0;

    for (; i + 4 <= n; i += 4) {
        four_px16(src + 2 * i, out + i, 4, green6);
    }
    four_px16(src + 2 * i, out + i, n - i, green6);
}

static void line_555(const struct vga *v, const uint8_t *src, uint32_t *out, uint32_t n)
{
    (void)v;
    line_16(src, out, n, false);
}

static void line_565(const struct vga *v, const uint8_t *src, uint32_t *out, uint32_t n)
{
    (void)v;
    line_16(src, out, n, true);
}

static void line_888(const struct vga *v, const uint8_t *src, uint32_t *out, uint32_t n)
{
    (void)v;
    for (uint32_t i = 0; i < n; i++, src += 3) {
        out[i] = src[0] | (uint32_t)src[1] << 8 | (uint32_t)src[2] << 16;
    }
}

static void line_8888(const struct vga *v, const uint8_t *src, uint32_t *out, uint32_t n)
{
    (void)v;
    copy_pixels(src, out, n);
}

static const struct {
    void (*line)(const struct vga *v, const uint8_t *src, uint32_t *out, uint32_t n);
    uint8_t unit_pixels, unit_bytes;
} formats[] = {
    [VGA_PLANAR] = {line_planar, 8, 4}, [VGA_CGA] = {line_cga, 8, 4},
    [VGA_PAL8] = {line_pal8, 1, 1},     [VGA_RGB555] = {line_555, 1, 2},
    [VGA_RGB565] = {line_565, 1, 2},    [VGA_RGB888] = {line_888, 1, 3},
    [VGA_RGB8888] = {line_8888, 1, 4},
};

/* What the CRTC makes of a byte address: scan line bits in place of some (CGA's banks, so a row that
 * runs over the end of a bank goes on at its beginning), then the wrap. */
static uint32_t crtc_address(const struct draw *w, uint32_t addr)
{
    return ((addr & ~w->scan_mask) | w->scan_bits) & w->m->wrap;
}

/* Bytes of the len at addr that follow each other in memory, too. */
static uint32_t contiguous(const struct draw *w, uint32_t addr, uint32_t len)
{
    uint32_t bank = w->scan_mask & (0 - w->scan_mask); /* the lowest replaced bit; 0: none */

    return bank == 0 ? len : min32(len, bank - addr % bank);
}

/* len bytes of video memory at addr, as the CRTC sees them; zeros where there is no memory. */
static const uint8_t *row_bytes(struct draw *w, uint32_t addr, uint32_t len)
{
    struct vga *v = w->v;
    uint32_t at = crtc_address(w, addr);

    if (contiguous(w, addr, len) == len && (uint64_t)at + len <= (uint64_t)w->m->wrap + 1 &&
        (uint64_t)at + len <= v->h.size) {
        return v->h.mem + at;
    }
    for (uint32_t i = 0; i < len; i++) {
        uint32_t a = crtc_address(w, addr + i);

        v->h.gather[i] = a < v->h.size ? v->h.mem[a] : 0;
    }
    return v->h.gather;
}

/* Any changed page in [addr, addr + len), wrapped? */
static bool pages_dirty(const struct vga *v, const struct vga_mode *m, uint32_t addr, uint32_t len)
{
    for (uint64_t a = addr; a < (uint64_t)addr + len + PAGE - 1; a += PAGE) {
        uint64_t last = (uint64_t)addr + len - 1;
        uint32_t page = (uint32_t)((a < last ? a : last) & m->wrap) / PAGE;

        if (page < VGA_PAGES_MAX && (v->h.dirty[page >> 3] >> (page & 7) & 1)) {
            return true;
        }
    }
    return false;
}

/* The same for the bytes of a row. */
static bool row_dirty(const struct draw *w, uint32_t addr, uint32_t len)
{
    for (uint32_t n; len > 0; addr += n, len -= n) {
        n = contiguous(w, addr, len);
        if (pages_dirty(w->v, w->m, crtc_address(w, addr), n)) {
            return true;
        }
    }
    return false;
}

/* One line of pixels, the first visible one first; the high bytes may hold anything. */
static const void *render_line(struct draw *w, uint32_t y, uint32_t addr, uint32_t len,
                               uint32_t pan)
{
    struct vga *v = w->v;
    uint32_t *line = v->h.line;
    uint32_t unit = formats[w->m->format].unit_pixels;
    uint32_t n = len / formats[w->m->format].unit_bytes * unit;
    const uint8_t *bytes = row_bytes(w, addr, len);
    bool overlay = v->h.adapter->overlay != NULL && v->h.adapter->overlaps(v, y);

    if (w->m->format == VGA_RGB8888 && !w->m->dot_double && !overlay) {
        return bytes + 4 * (size_t)pan;
    }
    formats[w->m->format].line(v, bytes, line, n);
    line += pan;
    if (w->m->dot_double) {
        line = v->h.line;
        memmove(line, line + pan, (n - pan) * sizeof(*line));
        for (uint32_t i = (w->width + 1) / 2; i-- > 0;) {
            line[2 * i] = line[2 * i + 1] = line[i];
        }
    }
    if (overlay) {
        v->h.adapter->overlay(v, y, line);
    }
    return line;
}

/* Adds the guest's own writes to the dirty pages. Returns false if nothing at all needs a look. */
static bool collect_dirty(struct draw *w)
{
    struct vga *v = w->v;
    const struct vga_mode *m = w->m;
    bool any = v->h.any_dirty || w->redraw;

    if (m->trapless) {
        uint64_t end = (uint64_t)m->start + (uint64_t)m->pitch * (w->height - 1) +
                       (uint64_t)w->width * formats[m->format].unit_bytes;
        uint32_t low =
            m->line_compare < w->height ? 0 : m->start; /* a split screen shows address 0 too */
        uint32_t first = low / PAGE;
        uint32_t n;

        end = end < v->h.size ? end : v->h.size;
        n = end > low ? (uint32_t)((end + PAGE - 1) / PAGE) - first : 1;
        if (first >= v->h.size / PAGE) {
            return any;
        }
        n = min32(n, v->h.size / PAGE - first);
        memset(v->h.guest, 0, (n + 7) / 8);
        vram_dirty(v->h.vram, first, n, v->h.guest);
        v->h.tracking = true;
        for (uint32_t i = 0; i < n; i++) {
            if (v->h.guest[i >> 3] == 0) {
                i |= 7;
            } else if (v->h.guest[i >> 3] >> (i & 7) & 1) {
                v->h.dirty[(first + i) >> 3] |= (uint8_t)(1u << ((first + i) & 7));
                any = true;
            }
        }
    }
    return any;
}

static void draw_graphics(struct draw *w)
{
    struct vga *v = w->v;
    const struct vga_mode *m = w->m;
    uint32_t source_px = m->dot_double ? (w->width + 1) / 2 : w->width;
    uint32_t unit = formats[m->format].unit_pixels;
    bool has_overlay = v->h.adapter->overlaps != NULL;
    uint32_t overlay_first = UINT32_MAX;
    uint32_t overlay_last = 0;
    uint32_t addr = m->start;
    uint32_t scan = m->row_first;
    uint32_t rep = 0;
    uint32_t pan = m->pan;
    uint32_t shown = UINT32_MAX; /* address whose pixels `line` holds, */
    uint32_t shown_bits = 0;     /* with these scan line bits */
    const void *line = NULL;
    bool any = collect_dirty(w);

    w->scan_mask = m->cga_bit[0] | m->cga_bit[1];
    for (uint32_t y = 0; y < w->height && (any || has_overlay); y++) {
        uint32_t len = (source_px + pan + unit - 1) / unit * formats[m->format].unit_bytes;
        bool over = has_overlay && v->h.adapter->overlaps(v, y);
        bool was_over = y >= v->h.overlay_first && y <= v->h.overlay_last;

        w->scan_bits = (scan & 1 ? m->cga_bit[0] : 0) | (scan & 2 ? m->cga_bit[1] : 0);
        if (over) {
            overlay_first = min32(overlay_first, y);
            overlay_last = y;
        }
        if (w->redraw || over || was_over || row_dirty(w, addr, len)) {
            if (shown != addr || shown_bits != w->scan_bits || over) {
                line = render_line(w, y, addr, len, pan);
                shown = over ? UINT32_MAX : addr;
                shown_bits = w->scan_bits;
            }
            w->changed |= emit(v, w->d, y, 0, w->width, line, w->force);
        }
        if (++rep >= m->repeat) {
            rep = 0;
            if (++scan >= m->row_lines) {
                scan = 0;
                addr += m->pitch;
            }
        }
        if (y == m->line_compare) {
            addr = scan = rep = 0;
            pan = m->pan_split;
            shown = UINT32_MAX;
        }
    }
    v->h.overlay_first = overlay_first;
    v->h.overlay_last = overlay_last;
}

static void draw_blank(struct draw *w)
{
    memset(w->v->h.line, 0, w->width * sizeof(uint32_t));
    for (uint32_t y = 0; y < w->height && w->redraw; y++) {
        w->changed |= emit(w->v, w->d, y, 0, w->width, w->v->h.line, w->force);
    }
}

static void stop_tracking(struct vga *v)
{
    if (v->h.tracking) {
        vram_dirty_stop(v->h.vram);
        v->h.tracking = false;
    }
}

static uint64_t wall_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool refresh(struct vga *v, struct display *d, bool full);

/*
 * Asking the hypervisor what the guest wrote stops the guest's CPUs and has every page fault again,
 * and where that is slow (nested virtualisation) 30 times a second would be most of what the
 * machine does. So a picture that took long has the next one wait: at most a tenth of the time goes
 * into looking, but there are at least ten pictures a second.
 */
static uint64_t vga_ready_ns(void *dev)
{
    const struct vga *v = dev;

    return v->h.tracking ? v->h.next_look_ns : 0;
}

static bool vga_refresh(void *dev, struct display *d, bool full)
{
    struct vga *v = dev;
    uint64_t now = loop_now(v->h.loop, LOOP_HOST);
    uint64_t start = wall_ns();
    bool changed = refresh(v, d, full);

    start = (wall_ns() - start) * LOOK_SHARE;
    v->h.next_look_ns = now + (start < LOOK_MAX_NS ? start : LOOK_MAX_NS);
    return changed;
}

static bool refresh(struct vga *v, struct display *d, bool full)
{
    struct vga_mode m;
    struct draw w = {.v = v, .d = d, .m = &m};
    uint64_t now = loop_now(v->h.loop, LOOP_HOST);
    bool palette;

    vga_current_mode(v, &m);
    if (m.width != (uint32_t)display_width(d) || m.height != (uint32_t)display_height(d)) {
        full |= display_resize(d, (int)m.width, (int)m.height);
    }
    w.width = min32(m.width, (uint32_t)display_width(d));
    w.height = min32(m.height, (uint32_t)display_height(d));
    palette = update_palette(v, &m);
    w.force = full;
    w.redraw = full || palette || v->h.all_dirty || memcmp(&m, &v->h.mode, sizeof(m)) != 0 ||
               (m.format == VGA_TEXT ? v->h.font_dirty : now >= v->h.next_full_ns);
    if (w.redraw) {
        v->h.next_full_ns = now + FULL_LOOK_NS;
    }
    if (!m.trapless) {
        stop_tracking(v);
    }
    if (w.width != 0 && w.height != 0) {
        if (m.format == VGA_TEXT) {
            draw_text(&w);
        } else if (m.format == VGA_BLANK) {
            draw_blank(&w);
        } else {
            draw_graphics(&w);
        }
    }
    band_flush(v, d);
    if (v->h.any_dirty || m.trapless) {
        memset(v->h.dirty, 0, sizeof(v->h.dirty));
    }
    v->h.any_dirty = v->h.font_dirty = v->h.all_dirty = false;
    v->h.mode = m;
    return w.changed;
}

static void vga_idle(void *dev)
{
    struct vga *v = dev;

    stop_tracking(v);
    v->h.all_dirty = true;
}

const struct display_source vga_display_source = {
    .refresh = vga_refresh,
    .idle = vga_idle,
    .ready_ns = vga_ready_ns,
};
