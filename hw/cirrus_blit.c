/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CL-GD5446 BitBLT engine, TRM chapter 9. A BLT runs to its end when it is started (at most 8192
 * bytes x 2048 rows, 16 MiB of plain loops), so the guest never sees it busy unless it has to send
 * the source itself.
 */
#include <string.h>

#include "core/log.h"
#include "hw/cirrus.h"

/* Raster operations as minterms: bit 0 s&d, 1 s&~d, 2 ~s&d, 3 ~s&~d. Codes from the TRM's table for
 * GR32; any other code leaves the destination alone. */
enum { ROP_KEEP = 0x5, ROP_COPY = 0x3, ROP_KNOWN = 0x80 };
static const uint8_t rops[256] = {
    [0x00] = ROP_KNOWN | 0x0, [0x90] = ROP_KNOWN | 0x8, [0x50] = ROP_KNOWN | 0x4,
    [0xd0] = ROP_KNOWN | 0xc, [0x09] = ROP_KNOWN | 0x2, [0x0b] = ROP_KNOWN | 0xa,
    [0x59] = ROP_KNOWN | 0x6, [0xda] = ROP_KNOWN | 0xe, [0x05] = ROP_KNOWN | 0x1,
    [0x95] = ROP_KNOWN | 0x9, [0x06] = ROP_KNOWN | 0x5, [0xd6] = ROP_KNOWN | 0xd,
    [0x0d] = ROP_KNOWN | 0x3, [0xad] = ROP_KNOWN | 0xb, [0x6d] = ROP_KNOWN | 0x7,
    [0x0e] = ROP_KNOWN | 0xf,
};

struct rop {
    uint64_t sd, s, d, none; /* all ones or zero per minterm */
    uint8_t minterms;
};

static struct rop rop_of(uint8_t code)
{
    uint8_t m = rops[code] & ROP_KNOWN ? rops[code] & 0x0f : ROP_KEEP;

    return (struct rop){0 - (uint64_t)(m & 1), 0 - (uint64_t)(m >> 1 & 1),
                        0 - (uint64_t)(m >> 2 & 1), 0 - (uint64_t)(m >> 3 & 1), m};
}

static inline uint64_t rop_apply(const struct rop *r, uint64_t s, uint64_t d)
{
    return (s & ((d & r->sd) | (~d & r->s))) | (~s & ((d & r->d) | (~d & r->none)));
}

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t w;

    memcpy(&w, p, sizeof(w));
    return w;
}

/* dst[0..n) = rop(src, dst) from low to high addresses. Overlaps give what a byte at a time gives.
 * */
static void row_forward(const struct rop *r, uint8_t *dst, const uint8_t *src, uint32_t n)
{
    size_t ahead = (size_t)(dst - src); /* "huge" when dst is below src */
    uint32_t i = 0;

    if (r->minterms == ROP_COPY && ahead >= n) {
        memmove(dst, src, n);
        return;
    }
    if (ahead == 0 || ahead >= sizeof(uint64_t)) {
        for (; i + sizeof(uint64_t) <= n; i += (uint32_t)sizeof(uint64_t)) {
            uint64_t w = rop_apply(r, load64(src + i), load64(dst + i));

            memcpy(dst + i, &w, sizeof(w));
        }
    }
    for (; i < n; i++) {
        dst[i] = (uint8_t)rop_apply(r, src[i], dst[i]);
    }
}

/* The same from high to low; dst and src are the lowest addresses. */
static void row_backward(const struct rop *r, uint8_t *dst, const uint8_t *src, uint32_t n)
{
    size_t ahead = (size_t)(src - dst);

    if (r->minterms == ROP_COPY && ahead >= n) {
        memmove(dst, src, n);
        return;
    }
    if (ahead == 0 || ahead >= sizeof(uint64_t)) {
        for (; n >= sizeof(uint64_t); n -= (uint32_t)sizeof(uint64_t)) {
            uint64_t w = rop_apply(r, load64(src + n - 8), load64(dst + n - 8));

            memcpy(dst + n - 8, &w, sizeof(w));
        }
    }
    while (n-- > 0) {
        dst[n] = (uint8_t)rop_apply(r, src[n], dst[n]);
    }
}

/* As row_forward() or row_backward(), but a result equal to the key colour is not stored. 1 or 2
 * bytes a pixel. */
static void row_keyed(const struct rop *r, uint8_t *dst, const uint8_t *src, uint32_t n,
                      uint32_t depth, uint16_t key, bool backwards)
{
    uint32_t pixels = n / depth;
    uint32_t mask = depth == 1 ? 0xff : 0xffff;

    for (uint32_t k = 0; k < pixels; k++) {
        uint32_t i = (backwards ? pixels - 1 - k : k) * depth;
        uint16_t s = src[i];
        uint16_t d = dst[i];
        uint32_t px;

        if (depth == 2) {
            s = (uint16_t)(s | src[i + 1] << 8);
            d = (uint16_t)(d | dst[i + 1] << 8);
        }
        px = (uint32_t)rop_apply(r, s, d) & mask;
        if (px != (key & mask)) {
            dst[i] = (uint8_t)px;
            if (depth == 2) {
                dst[i + 1] = (uint8_t)(px >> 8);
            }
        }
    }
}

/* A row of source pixels made from monochrome bits or an 8x8 pattern. */
struct made_row {
    uint8_t px[CIRRUS_BLT_ROW_MAX + 4];
    uint8_t on[CIRRUS_BLT_ROW_MAX + 4]; /* 0xff: store this byte (transparent expansion) */
};

static inline void put_pixel(uint8_t *p, uint32_t color, uint32_t depth)
{
    p[0] = (uint8_t)color;
    if (depth > 1) {
        p[1] = (uint8_t)(color >> 8);
    }
    if (depth > 2) {
        p[2] = (uint8_t)(color >> 16);
    }
    if (depth > 3) {
        p[3] = (uint8_t)(color >> 24);
    }
}

/* bits: one per pixel, most significant first; from pixel x0. With repeat the first byte is used
 * again and again. */
static void expand_row(const struct cirrus_blit *b, struct made_row *row, const uint8_t *bits,
                       bool repeat, uint32_t x0)
{
    uint32_t depth = cirrus_blit_depth(b);
    uint32_t pixels = (b->width + depth - 1) / depth;
    bool transparent = (b->mode & CIRRUS_BLT_TRANSPARENT) != 0;
    uint8_t invert =
        transparent && (b->ext & CIRRUS_EXT_INVERT) ? 0xff : 0; /* draws where the bits are 0 */
    uint32_t fg = invert ? b->bg : b->fg;

    for (uint32_t x = x0; x < pixels; x++) {
        bool set = ((bits[repeat ? 0 : x >> 3] ^ invert) >> (7 - (x & 7)) & 1) != 0;

        put_pixel(row->px + x * depth, set ? fg : b->bg, depth);
        if (transparent) {
            put_pixel(row->on + x * depth, set ? UINT32_MAX : 0, depth);
        }
    }
}

static void row_masked(const struct rop *r, uint8_t *dst, const struct made_row *row, uint32_t x0,
                       uint32_t n)
{
    uint32_t i = x0;

    for (; i + sizeof(uint64_t) <= n; i += (uint32_t)sizeof(uint64_t)) {
        uint64_t d = load64(dst + i);
        uint64_t on = load64(row->on + i);

        d = (d & ~on) | (rop_apply(r, load64(row->px + i), d) & on);
        memcpy(dst + i, &d, sizeof(d));
    }
    for (; i < n; i++) {
        uint8_t px = (uint8_t)rop_apply(r, row->px[i], dst[i]);

        dst[i] = (uint8_t)((dst[i] & ~row->on[i]) | (px & row->on[i]));
    }
}

/* Bytes of one pattern row in memory: 8 pixels, 24-bit ones padded to 32. */
static uint32_t pattern_pitch(const struct cirrus_blit *b)
{
    uint32_t depth = cirrus_blit_depth(b);

    return b->mode & CIRRUS_BLT_EXPAND ? 1 : depth == 3 ? 32 : depth * 8;
}

static bool is_solid(const struct cirrus_blit *b)
{
    return (b->ext & CIRRUS_EXT_SOLID) &&
           (b->mode & (CIRRUS_BLT_PATTERN | CIRRUS_BLT_EXPAND | CIRRUS_BLT_TRANSPARENT |
                       CIRRUS_BLT_TO_CPU)) == (CIRRUS_BLT_PATTERN | CIRRUS_BLT_EXPAND);
}

/* Left pixels that are not drawn (GR2F); 24-bit modes count in bytes. */
static uint32_t skip_pixels(const struct cirrus_blit *b)
{
    return cirrus_blit_depth(b) == 3 ? (b->skip & 0x1fu) / 3 : b->skip & 7u;
}

/* Monochrome bytes per row of a colour expansion. */
static uint32_t mono_bytes(const struct cirrus_blit *b)
{
    uint32_t depth = cirrus_blit_depth(b);
    uint32_t pixels = (b->width + depth - 1) / depth;

    if ((b->mode & CIRRUS_BLT_FROM_CPU) && (b->ext & CIRRUS_EXT_DWORD)) {
        return (pixels + 31) / 32 * 4;
    }
    return (pixels + 7) / 8;
}

uint32_t cirrus_blit_cpu_bytes(const struct cirrus_blit *b)
{
    if (b->mode & CIRRUS_BLT_PATTERN) {
        return pattern_pitch(b) * 8;
    }
    return b->mode & CIRRUS_BLT_EXPAND ? mono_bytes(b) : (b->width + 3) & ~3u;
}

/* Rows of `width` bytes at addr, addr + step, ...: lowest and highest byte inside [0, size)? */
static bool rows_fit(uint32_t addr, int32_t step, uint32_t width, uint32_t height, bool backwards,
                     uint32_t size)
{
    int64_t first = addr;
    int64_t last = first + (int64_t)step * ((int64_t)height - 1);
    int64_t low = first < last ? first : last;
    int64_t high = first < last ? last : first;

    if (backwards) {
        low -= (int64_t)width - 1;
    } else {
        high += (int64_t)width - 1;
    }
    return low >= 0 && high < (int64_t)size;
}

bool cirrus_blit_fits(const struct cirrus_blit *b, uint32_t size)
{
    bool made = (b->mode & (CIRRUS_BLT_PATTERN | CIRRUS_BLT_EXPAND)) != 0;
    bool backwards = (b->mode & CIRRUS_BLT_BACKWARDS) && !made;

    if (b->width == 0 || b->width > CIRRUS_BLT_ROW_MAX || b->height == 0 ||
        b->height > CIRRUS_BLT_ROWS_MAX ||
        !rows_fit(b->dst, b->dst_step, b->width, b->height, backwards, size)) {
        return false;
    }
    if ((b->mode & CIRRUS_BLT_FROM_CPU) || is_solid(b)) {
        return true;
    }
    if (b->mode & CIRRUS_BLT_PATTERN) {
        return rows_fit(b->src & ~7u, 0, pattern_pitch(b) * 8, 1, false, size);
    }
    if (b->mode & CIRRUS_BLT_EXPAND) {
        return rows_fit(b->src, (int32_t)mono_bytes(b), mono_bytes(b), b->height, false, size);
    }
    return rows_fit(b->src, b->src_step, b->width, b->height, backwards, size);
}

/* One row of a BLT whose source pixels have to be made first. */
static void made_blit_row(struct vga *v, struct cirrus_blit *b, const struct rop *r,
                          const uint8_t *cpu, struct made_row *row)
{
    uint32_t depth = cirrus_blit_depth(b);
    uint32_t x0 = skip_pixels(b);
    uint32_t skip = x0 * depth;
    uint8_t *dst = v->h.mem + b->dst;
    uint32_t pattern_row = (b->row + (b->src & 7)) & 7;
    const uint8_t *pattern =
        (cpu != NULL ? cpu : v->h.mem + (b->src & ~7u)) + pattern_row * pattern_pitch(b);

    if (skip >= b->width) {
        return;
    }
    if (!(b->mode & CIRRUS_BLT_EXPAND)) {
        for (uint32_t x = 0; x * depth < b->width; x++) {
            memcpy(row->px + x * depth, pattern + (x & 7) * depth, depth);
        }
    } else if (b->mode & CIRRUS_BLT_PATTERN) {
        expand_row(b, row, pattern, true, x0);
    } else {
        expand_row(b, row, cpu != NULL ? cpu : v->h.mem + b->src, false, x0);
    }
    if (!(b->mode & CIRRUS_BLT_TRANSPARENT)) {
        row_forward(r, dst + skip, row->px + skip, b->width - skip);
    } else if (b->mode & CIRRUS_BLT_EXPAND) {
        row_masked(r, dst, row, skip, b->width);
    } else if (depth <= 2) {
        row_keyed(r, dst + skip, row->px + skip, b->width - skip, depth, b->key, false);
    }
}

void cirrus_blit_rows(struct vga *v, struct cirrus_blit *b, uint32_t rows, const uint8_t *cpu)
{
    struct rop r = rop_of(b->rop);
    bool solid = is_solid(b);
    bool made = (b->mode & (CIRRUS_BLT_PATTERN | CIRRUS_BLT_EXPAND)) != 0;
    bool backwards = (b->mode & CIRRUS_BLT_BACKWARDS) && !made;
    uint32_t low = backwards ? b->width - 1 : 0;
    uint32_t depth = cirrus_blit_depth(b);
    struct made_row row;

    if (solid) {
        for (uint32_t x = 0; x < b->width; x += depth) {
            put_pixel(row.px + x, b->fg, depth);
        }
    }
    for (; rows > 0 && b->row < b->height; rows--, b->row++) {
        uint8_t *dst = v->h.mem + b->dst - low;
        const uint8_t *src = cpu != NULL ? cpu : v->h.mem + b->src - low;

        if (solid) {
            row_forward(&r, dst, row.px, b->width);
        } else if (made) {
            made_blit_row(v, b, &r, cpu, &row);
        } else if (b->mode & CIRRUS_BLT_TRANSPARENT) {
            if (depth <= 2) { /* the chip compares 8 and 16 bits only */
                row_keyed(&r, dst, src, b->width, depth, b->key, backwards);
            }
        } else if (backwards) {
            row_backward(&r, dst, src, b->width);
        } else {
            row_forward(&r, dst, src, b->width);
        }
        vga_touch(v, b->dst - low, b->width);
        b->dst += (uint32_t)b->dst_step;
        b->src += made && !(b->mode & CIRRUS_BLT_PATTERN) ? mono_bytes(b)
                  : made                                  ? 0
                                                          : (uint32_t)b->src_step;
    }
}

/* ---- registers to BLT ---- */

static uint32_t gr(const struct cirrus *c, unsigned reg, unsigned bytes)
{
    uint32_t val = 0;

    for (unsigned i = 0; i < bytes; i++) {
        val |= (uint32_t)c->v.r.gfx[reg + i] << (8 * i);
    }
    return val;
}

void cirrus_blit_stop(struct cirrus *c)
{
    c->v.r.gfx[CIRRUS_GR31_STATUS] &=
        (uint8_t) ~(CIRRUS_BLT_START | CIRRUS_BLT_BUSY | CIRRUS_BLT_BUFFERED);
    c->r.blt_need = 0;
    c->r.blt_have = 0;
    cirrus_update_access(c);
}

void cirrus_blit_start(struct cirrus *c)
{
    const uint8_t *g = c->v.r.gfx;
    struct cirrus_blit b = {
        .dst = gr(c, CIRRUS_GR28_DST, 3) & 0x3fffff,
        .src = gr(c, CIRRUS_GR2C_SRC, 3) & 0x3fffff,
        .dst_step = (int32_t)(gr(c, CIRRUS_GR24_DST_PITCH, 2) & 0x1fff),
        .src_step = (int32_t)(gr(c, CIRRUS_GR26_SRC_PITCH, 2) & 0x1fff),
        .width = (gr(c, CIRRUS_GR20_WIDTH, 2) & 0x1fff) + 1,
        .height = (gr(c, CIRRUS_GR22_HEIGHT, 2) & 0x7ff) + 1,
        .fg = g[GFX_ENABLE_SR] | (uint32_t)g[CIRRUS_GR11_FG1] << 8 |
              (uint32_t)g[CIRRUS_GR13_FG2] << 16 | (uint32_t)g[CIRRUS_GR15_FG3] << 24,
        .bg = g[GFX_SET_RESET] | (uint32_t)g[CIRRUS_GR10_BG1] << 8 |
              (uint32_t)g[CIRRUS_GR12_BG2] << 16 | (uint32_t)g[CIRRUS_GR14_BG3] << 24,
        .key = (uint16_t)gr(c, CIRRUS_GR34_KEY, 2),
        .mode = g[CIRRUS_GR30_MODE],
        .ext = g[CIRRUS_GR33_EXT],
        .rop = g[CIRRUS_GR32_ROP],
        .skip = g[CIRRUS_GR2F_SKIP],
    };

    if (b.mode & CIRRUS_BLT_BACKWARDS) {
        b.dst_step = -b.dst_step;
        b.src_step = -b.src_step;
    }
    if (is_solid(&b)) {
        b.mode &= (uint8_t)~CIRRUS_BLT_FROM_CPU;
    }
    /* DEVIATION: screen-to-system BLTs end at once without data, because no driver for a machine
     * with a linear frame buffer uses them. */
    if ((b.mode & CIRRUS_BLT_TO_CPU) || !cirrus_blit_fits(&b, c->v.h.size)) {
        trace("cirrus", "blit-refused", "mode %#x dst %#x src %#x %ux%u", b.mode, b.dst, b.src,
              b.width, b.height);
        cirrus_blit_stop(c);
        return;
    }
    if (b.mode & CIRRUS_BLT_FROM_CPU) {
        c->r.blt = b;
        c->r.blt_need = cirrus_blit_cpu_bytes(&b);
        c->r.blt_have = 0;
        c->v.r.gfx[CIRRUS_GR31_STATUS] |= CIRRUS_BLT_BUSY | CIRRUS_BLT_START;
        cirrus_update_access(c);
        return;
    }
    cirrus_blit_rows(&c->v, &b, b.height, NULL);
    cirrus_blit_stop(c);
}

void cirrus_blit_feed(struct cirrus *c, const uint8_t *buf, uint32_t len)
{
    struct cirrus_blit *b = &c->r.blt;

    while (len > 0 && c->r.blt_need != 0) {
        uint32_t n = c->r.blt_need - c->r.blt_have;

        n = n < len ? n : len;
        memcpy(c->r.blt_data + c->r.blt_have, buf, n);
        c->r.blt_have += n;
        buf += n;
        len -= n;
        if (c->r.blt_have == c->r.blt_need) {
            cirrus_blit_rows(&c->v, b, b->mode & CIRRUS_BLT_PATTERN ? b->height : 1, c->r.blt_data);
            c->r.blt_have = 0;
            if (b->row >= b->height) {
                cirrus_blit_stop(c);
            }
        }
    }
}
