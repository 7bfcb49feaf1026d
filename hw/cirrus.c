/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/cirrus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    SR6_UNLOCKED = 0x12,
    SR6_LOCKED = 0x0f,
    SR17_MMIO = 0x04,        /* BLT registers in memory: at 0xb8000, */
    SR17_MMIO_LINEAR = 0x40, /* with this at the end of the linear frame buffer instead */
    WINDOW_BANKED = 0x10000, /* bytes of the window that the banks serve */
    WINDOW_MMIO = 0x18000,   /* BLT registers when enabled there */
    MMIO_BLT_BYTES = 0x100,
    CR22_LATCH = 0x22,
    CR24_ATTR_STATE = 0x24,
    CR26_ATTR_INDEX = 0x26,
    CR27_ID = 0x27,
    CR1A_CONTROL = 0x1a,
    CR1B_EXT_DISPLAY = 0x1b,
    CR1D_OVERLAY = 0x1d,
    ID_GD5446 = 0xb8,
    NO_REG = 0xff,
};
/* How long the video memory stays out of BAR0 after a mode that traps: a run of CPU-to-screen BLTs
 * moves it once. */
#define UNTRAP_DELAY_NS 50000000ull

static struct cirrus *of_vga(struct vga *v)
{
    return (struct cirrus *)(void *)v;
}

/* Writable bits of the sequencer registers from 5 on, and of the graphics registers from 9 on. */
static const uint8_t seq_ext_mask[0x20] = {
    [0x07] = 0xff, [0x08] = 0xff, [0x09] = 0xff, [0x0a] = 0xff, [0x0b] = 0xff, [0x0c] = 0xff,
    [0x0d] = 0xff, [0x0e] = 0xff, [0x0f] = 0xff, [0x12] = 0xff, [0x13] = 0xff, [0x14] = 0xff,
    [0x15] = 0xff, [0x16] = 0xff, [0x17] = 0xc7, [0x18] = 0xff, [0x19] = 0xff, [0x1a] = 0xff,
    [0x1b] = 0xff, [0x1c] = 0xff, [0x1d] = 0xff, [0x1e] = 0xff, [0x1f] = 0xff,
};
static const uint8_t gfx_ext_mask[0x40] = {
    [0x00] = 0xff, [0x01] = 0xff, [0x05] = 0x7f, [0x09] = 0xff, [0x0a] = 0xff, [0x0b] = 0xff,
    [0x10] = 0xff, [0x11] = 0xff, [0x12] = 0xff, [0x13] = 0xff, [0x14] = 0xff, [0x15] = 0xff,
    [0x20] = 0xff, [0x21] = 0x1f, [0x22] = 0xff, [0x23] = 0x1f, [0x24] = 0xff, [0x25] = 0x1f,
    [0x26] = 0xff, [0x27] = 0x1f, [0x28] = 0xff, [0x29] = 0xff, [0x2a] = 0x3f, [0x2c] = 0xff,
    [0x2d] = 0xff, [0x2e] = 0x3f, [0x2f] = 0xff, [0x30] = 0xff, [0x31] = 0xff, [0x32] = 0xff,
    [0x33] = 0xff, [0x34] = 0xff, [0x35] = 0xff, [0x38] = 0xff, [0x39] = 0xff,
};

/* ---- registers ---- */

void cirrus_update_access(struct cirrus *c)
{
    const uint8_t *g = c->v.r.gfx;
    unsigned mode = g[GFX_MODE] & 7;
    bool trap = c->r.blt_need != 0 || (g[CIRRUS_GRB_EXT] & CIRRUS_GRB_BY8) ||
                (c->v.r.seq[CIRRUS_SR17_CONFIG] & (SR17_MMIO | SR17_MMIO_LINEAR)) ==
                    (SR17_MMIO | SR17_MMIO_LINEAR) ||
                ((g[CIRRUS_GRB_EXT] & CIRRUS_GRB_EXT_WRITE) &&
                 ((g[CIRRUS_GRB_EXT] & CIRRUS_GRB_16BIT) || mode == 4 || mode == 5));

    if (trap) {
        timer_cancel(&c->h.untrap);
        pci_vram_trap(&c->h.pci, 0, true);
    } else if (c->h.pci.bars[0].trap && !c->h.untrap.armed) {
        timer_set(&c->h.untrap, loop_now(c->v.h.loop, LOOP_VIRTUAL) + UNTRAP_DELAY_NS);
    }
}

static void untrap(void *arg)
{
    struct cirrus *c = arg;

    pci_vram_trap(&c->h.pci, 0, false);
}

static void seq_write(struct cirrus *c, uint8_t val)
{
    struct vga_regs *r = &c->v.r;
    unsigned i = r->seq_index & 0x1f;

    if (i <= SEQ_MEM_MODE) {
        vga_port_write(&c->v, VGA_SEQ_DATA, val);
        return;
    }
    switch (i) {
    case CIRRUS_SR6_KEY:
        /* DEVIATION: the key only changes what SR6 reads as; registers stay open without it, as on
         * the peer, whose drivers forget it. */
        r->seq[i] = (val & 0x17) == SR6_UNLOCKED ? SR6_UNLOCKED : SR6_LOCKED;
        return;
    case CIRRUS_SR10_CURSOR_X: /* the low three bits come in the index */
        r->seq[i] = val;
        c->r.cursor_x = (uint16_t)(val << 3 | r->seq_index >> 5);
        return;
    case CIRRUS_SR11_CURSOR_Y:
        r->seq[i] = val;
        c->r.cursor_y = (uint16_t)(val << 3 | r->seq_index >> 5);
        return;
    default:
        r->seq[i] = (uint8_t)((r->seq[i] & ~seq_ext_mask[i]) | (val & seq_ext_mask[i]));
        cirrus_update_access(c);
        return;
    }
}

static uint8_t gfx_read(struct cirrus *c, unsigned i)
{
    return i < 0x3a ? c->v.r.gfx[i] : 0xff;
}

static void gfx_write(struct cirrus *c, unsigned i, uint8_t val)
{
    uint8_t *g = c->v.r.gfx;
    uint8_t old;

    if (i < 0x40 && gfx_ext_mask[i] == 0 && i <= GFX_BIT_MASK) {
        c->v.r.gfx_index = (uint8_t)i;
        vga_port_write(&c->v, VGA_GFX_DATA, val);
        return;
    }
    if (i >= 0x40 || gfx_ext_mask[i] == 0) {
        return;
    }
    old = g[i];
    g[i] = val & gfx_ext_mask[i];
    switch (i) {
    case GFX_SET_RESET:
    case GFX_ENABLE_SR:
        vga_update_window(&c->v);
        break;
    case GFX_MODE:
        vga_update_window(&c->v);
        cirrus_update_access(c);
        break;
    case CIRRUS_GRB_EXT:
        cirrus_update_access(c);
        break;
    case CIRRUS_GR2A_DST_HI:
        if (g[CIRRUS_GR31_STATUS] & CIRRUS_BLT_AUTOSTART) {
            cirrus_blit_start(c);
        }
        break;
    case CIRRUS_GR31_STATUS:
        if ((old & CIRRUS_BLT_RESET) && !(val & CIRRUS_BLT_RESET)) {
            cirrus_blit_stop(c);
        } else if (!(old & CIRRUS_BLT_START) && (val & CIRRUS_BLT_START)) {
            cirrus_blit_start(c);
        }
        break;
    default:
        break;
    }
}

static uint8_t crtc_read(struct cirrus *c, unsigned i)
{
    switch (i) {
    case CR22_LATCH:
        return (uint8_t)(c->v.r.latch >> (c->v.r.gfx[GFX_READ_MAP] & 3) * 8);
    case CR24_ATTR_STATE:
        return (uint8_t)(c->v.r.attr_data << 7);
    case CR26_ATTR_INDEX:
        return c->v.r.attr_index & 0x3f;
    case CR27_ID:
        return ID_GD5446;
    default:
        return i <= CR1D_OVERLAY || i == 0x25 ? c->v.r.crtc[i] : 0xff;
    }
}

static uint8_t cirrus_port_read(struct vga *v, uint32_t port)
{
    struct cirrus *c = of_vga(v);
    uint8_t val;

    if (!vga_port_decoded(v, port)) {
        return 0xff;
    }
    switch (port) {
    case VGA_SEQ_DATA:
        return v->r.seq[v->r.seq_index & 0x1f];
    case VGA_GFX_DATA:
        return gfx_read(c, v->r.gfx_index);
    case 0x3b5:
    case VGA_CRTC_DATA:
        return crtc_read(c, v->r.crtc_index);
    case VGA_PEL_MASK: /* the access after four reads is to the hidden DAC register */
        if (c->r.hidden_dac_reads < 4) {
            c->r.hidden_dac_reads++;
            return v->r.pel_mask;
        }
        c->r.hidden_dac_reads = 0;
        return c->r.hidden_dac;
    case VGA_PEL_READ_INDEX:
    case VGA_PEL_WRITE_INDEX:
        c->r.hidden_dac_reads = 0;
        break;
    case VGA_PEL_DATA:
        c->r.hidden_dac_reads = 0;
        if (!(v->r.seq[CIRRUS_SR12_CURSOR_ATTR] & CIRRUS_SR12_DAC)) {
            break;
        }
        val = c->r.hidden_pal[(v->r.dac_read & 15) * 3 + v->r.dac_sub];
        if (++v->r.dac_sub == 3) {
            v->r.dac_sub = 0;
            v->r.dac_read++;
        }
        return val;
    default:
        break;
    }
    return vga_port_read(v, port);
}

static void cirrus_port_write(struct vga *v, uint32_t port, uint8_t val)
{
    struct cirrus *c = of_vga(v);

    if (!vga_port_decoded(v, port)) {
        return;
    }
    switch (port) {
    case VGA_SEQ_INDEX:
        v->r.seq_index = val;
        return;
    case VGA_SEQ_DATA:
        seq_write(c, val);
        return;
    case VGA_GFX_INDEX:
        v->r.gfx_index = val;
        return;
    case VGA_GFX_DATA:
        gfx_write(c, v->r.gfx_index, val);
        return;
    case 0x3b5:
    case VGA_CRTC_DATA:
        if (v->r.crtc_index > CR1D_OVERLAY) {
            return;
        }
        break;
    case VGA_PEL_MASK:
        if (c->r.hidden_dac_reads == 4) {
            c->r.hidden_dac = val;
            c->r.hidden_dac_reads = 0;
            return;
        }
        c->r.hidden_dac_reads = 0;
        break;
    case VGA_PEL_READ_INDEX:
    case VGA_PEL_WRITE_INDEX:
        c->r.hidden_dac_reads = 0;
        break;
    case VGA_PEL_DATA:
        c->r.hidden_dac_reads = 0;
        if (!(v->r.seq[CIRRUS_SR12_CURSOR_ATTR] & CIRRUS_SR12_DAC)) {
            break;
        }
        v->r.dac_pending[v->r.dac_sub] = val;
        if (++v->r.dac_sub == 3) {
            v->r.dac_sub = 0;
            memcpy(c->r.hidden_pal + (v->r.dac_write & 15) * 3, v->r.dac_pending, 3);
            v->r.dac_write++;
        }
        return;
    default:
        break;
    }
    vga_port_write(v, port, val);
}

/* BLT registers in memory, TRM 9.14: offset to graphics register. */
static uint8_t blt_mmio_reg(uint32_t off)
{
    static const uint8_t map[] = {
        0x00, 0x10, 0x12, 0x14, 0x01, 0x11, 0x13, 0x15, /* background, foreground */
        0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, /* width, height, pitches */
        0x28, 0x29, 0x2a, 0xff, 0x2c, 0x2d, 0x2e, 0x2f, /* destination, source, write mask */
        0x30, 0xff, 0x32, 0x33, 0x34, 0x35, 0xff, 0xff, /* mode, rop, extensions, key */
        0x38, 0x39,                                     /* key mask */
    };

    return off < sizeof(map) ? map[off] : off == 0x40 ? CIRRUS_GR31_STATUS : NO_REG;
}

static uint8_t blt_mmio_read(struct cirrus *c, uint32_t off)
{
    uint8_t reg = blt_mmio_reg(off);

    return reg == NO_REG ? 0xff : gfx_read(c, reg);
}

static void blt_mmio_write(struct cirrus *c, uint32_t off, uint8_t val)
{
    uint8_t reg = blt_mmio_reg(off);

    if (reg != NO_REG) {
        gfx_write(c, reg, val);
    }
}

/* ---- memory ---- */

/* Aperture address to memory address: BY8 addressing gives each CPU byte 8 pixels. */
static uint32_t memory_address(const struct cirrus *c, uint32_t addr)
{
    uint8_t ext = c->v.r.gfx[CIRRUS_GRB_EXT];
    unsigned shift = (ext & (CIRRUS_GRB_16BIT | CIRRUS_GRB_EXT_WRITE)) ==
                             (CIRRUS_GRB_16BIT | CIRRUS_GRB_EXT_WRITE)
                         ? 4
                     : ext & CIRRUS_GRB_BY8 ? 3
                                            : 0;

    return (uint32_t)((uint64_t)addr << shift) & (c->v.h.size - 1);
}

static bool memory_plain(const struct cirrus *c)
{
    uint8_t ext = c->v.r.gfx[CIRRUS_GRB_EXT];
    unsigned mode = c->v.r.gfx[GFX_MODE] & 7;

    return !(ext & CIRRUS_GRB_BY8) &&
           !((ext & CIRRUS_GRB_EXT_WRITE) && ((ext & CIRRUS_GRB_16BIT) || mode == 4 || mode == 5));
}

/* Extended write modes 4 and 5, TRM 5.5: one CPU byte colours eight pixels; mode 4 leaves those
 * with a 0 bit alone. */
static void write_expanded(struct cirrus *c, uint32_t addr, uint8_t bits)
{
    const uint8_t *g = c->v.r.gfx;
    bool wide = (g[CIRRUS_GRB_EXT] & CIRRUS_GRB_16BIT) != 0;
    uint32_t depth = wide ? 2 : 1;
    bool opaque = (g[GFX_MODE] & 7) == 5;

    for (uint32_t x = 0; x < 8; x++, bits = (uint8_t)(bits << 1)) {
        bool set = (bits & 0x80) != 0;
        uint32_t at = (addr + x * depth) & (c->v.h.size - 1);

        if (set || opaque) {
            c->v.h.mem[at] = g[set ? GFX_ENABLE_SR : GFX_SET_RESET];
            if (wide) {
                c->v.h.mem[(at + 1) & (c->v.h.size - 1)] =
                    g[set ? CIRRUS_GR11_FG1 : CIRRUS_GR10_BG1];
            }
            vga_touch(&c->v, at, 1);
        }
    }
}

static void memory_write(struct cirrus *c, uint32_t addr, const uint8_t *buf, uint32_t len)
{
    unsigned mode = c->v.r.gfx[GFX_MODE] & 7;
    bool expand = (c->v.r.gfx[CIRRUS_GRB_EXT] & CIRRUS_GRB_EXT_WRITE) && (mode == 4 || mode == 5);

    if (memory_plain(c) && (uint64_t)addr + len <= c->v.h.size) {
        vga_linear_write(&c->v, addr, buf, len);
        return;
    }
    for (uint32_t i = 0; i < len; i++) {
        uint32_t at = memory_address(c, addr + i);

        if (expand) {
            write_expanded(c, at, buf[i]);
        } else {
            vga_linear_write(&c->v, at, buf + i, 1);
        }
    }
}

static void memory_read(struct cirrus *c, uint32_t addr, uint8_t *buf, uint32_t len)
{
    if (memory_plain(c) && (uint64_t)addr + len <= c->v.h.size) {
        vga_linear_read(&c->v, addr, buf, len);
        return;
    }
    for (uint32_t i = 0; i < len; i++) {
        buf[i] = c->v.h.mem[memory_address(c, addr + i)];
    }
}

/* One piece of the window that one bank (or the BLT registers, or nothing) serves, from off; at
 * most len bytes. */
enum piece { PIECE_MEMORY, PIECE_MMIO, PIECE_NONE };
static enum piece window_piece(const struct cirrus *c, uint32_t off, uint32_t *len, uint32_t *addr)
{
    const uint8_t *g = c->v.r.gfx;
    bool mmio = (c->v.r.seq[CIRRUS_SR17_CONFIG] & (SR17_MMIO | SR17_MMIO_LINEAR)) == SR17_MMIO;
    uint32_t end = off < WINDOW_BANKED ? (off | 0x7fff) + 1
                   : off < WINDOW_MMIO ? WINDOW_MMIO
                                       : VGA_WINDOW_SIZE;
    enum piece kind = PIECE_NONE;

    if (off < WINDOW_BANKED) {
        bool dual = (g[CIRRUS_GRB_EXT] & CIRRUS_GRB_DUAL) != 0;
        uint32_t bank = g[dual && off >= 0x8000 ? CIRRUS_GRA_OFFSET1 : CIRRUS_GR9_OFFSET0];

        uint32_t base =
            (bank << (g[CIRRUS_GRB_EXT] & CIRRUS_GRB_16K ? 14 : 12)) + (dual ? 0 : off & 0x8000);

        /* A bank that starts beyond the memory shows its beginning. */
        *addr = (base < c->v.h.size ? base : 0) + (off & 0x7fff);
        kind = PIECE_MEMORY;
    } else if (off >= WINDOW_MMIO && off < WINDOW_MMIO + MMIO_BLT_BYTES && mmio) {
        end = WINDOW_MMIO + MMIO_BLT_BYTES;
        kind = PIECE_MMIO;
    }
    *len = end - off < *len ? end - off : *len;
    return kind;
}

static void cirrus_window_read(struct vga *v, uint32_t off, uint8_t *buf, uint32_t len)
{
    struct cirrus *c = of_vga(v);

    if (!(v->r.seq[CIRRUS_SR7_MODE] & CIRRUS_SR7_PACKED)) {
        vga_window_read(v, off, buf, len);
        return;
    }
    memset(buf, 0xff, len);
    while (len > 0 && off < VGA_WINDOW_SIZE) {
        uint32_t n = len;
        uint32_t addr;
        enum piece kind = window_piece(c, off, &n, &addr);

        if (kind == PIECE_MEMORY) {
            memory_read(c, addr, buf, n);
        }
        for (uint32_t i = 0; kind == PIECE_MMIO && i < n; i++) {
            buf[i] = blt_mmio_read(c, off + i - WINDOW_MMIO);
        }
        off += n;
        buf += n;
        len -= n;
    }
}

static void cirrus_window_write(struct vga *v, uint32_t off, const uint8_t *buf, uint32_t len)
{
    struct cirrus *c = of_vga(v);

    if (!(v->r.seq[CIRRUS_SR7_MODE] & CIRRUS_SR7_PACKED)) {
        vga_window_write(v, off, buf, len);
        return;
    }
    while (len > 0 && off < VGA_WINDOW_SIZE) {
        uint32_t n = len;
        uint32_t addr;
        enum piece kind = window_piece(c, off, &n, &addr);

        if (kind == PIECE_MEMORY && c->r.blt_need != 0) {
            cirrus_blit_feed(c, buf, n);
        } else if (kind == PIECE_MEMORY) {
            memory_write(c, addr, buf, n);
        }
        for (uint32_t i = 0; kind == PIECE_MMIO && i < n; i++) {
            blt_mmio_write(c, off + i - WINDOW_MMIO, buf[i]);
        }
        off += n;
        buf += n;
        len -= n;
    }
}

/* ---- BAR0: what is not (or not now) plain memory ---- */

/* True if the linear address is one of the BLT registers that SR17 puts at the end of the video
 * memory. */
static bool linear_mmio(const struct cirrus *c, uint64_t off)
{
    return (c->v.r.seq[CIRRUS_SR17_CONFIG] & (SR17_MMIO | SR17_MMIO_LINEAR)) ==
               (SR17_MMIO | SR17_MMIO_LINEAR) &&
           (off & (c->v.h.size - 1)) >= c->v.h.size - MMIO_BLT_BYTES;
}

static unsigned bar0_read_rep(void *dev, uint64_t offset, unsigned size, void *buf, unsigned count)
{
    struct cirrus *c = dev;
    uint32_t len = size * count;
    uint8_t *p = buf;

    if (offset >= CIRRUS_BLT_APERTURE) {
        memset(buf, 0xff, len);
    } else if (linear_mmio(c, offset) || linear_mmio(c, offset + len - 1)) {
        for (uint32_t i = 0; i < len; i++) {
            p[i] = linear_mmio(c, offset + i)
                       ? blt_mmio_read(c, (uint32_t)(offset + i) & (MMIO_BLT_BYTES - 1))
                       : c->v.h.mem[memory_address(c, (uint32_t)(offset + i))];
        }
    } else {
        memory_read(c, (uint32_t)offset & (c->v.h.size - 1), buf, len);
    }
    return count;
}

static unsigned bar0_write_rep(void *dev, uint64_t offset, unsigned size, const void *buf,
                               unsigned count)
{
    struct cirrus *c = dev;
    uint32_t len = size * count;
    const uint8_t *p = buf;

    if (linear_mmio(c, offset) || linear_mmio(c, offset + len - 1)) {
        for (uint32_t i = 0; i < len; i++) {
            if (linear_mmio(c, offset + i)) {
                blt_mmio_write(c, (uint32_t)(offset + i) & (MMIO_BLT_BYTES - 1), p[i]);
            } else {
                memory_write(c, (uint32_t)(offset + i) & (c->v.h.size - 1), p + i, 1);
            }
        }
    } else if (c->r.blt_need != 0) {
        cirrus_blit_feed(c, buf, len);
    } else if (offset < CIRRUS_BLT_APERTURE) {
        memory_write(c, (uint32_t)offset & (c->v.h.size - 1), buf, len);
    }
    return count;
}

static uint64_t bar0_read(void *dev, uint64_t offset, unsigned size)
{
    uint64_t val = 0;

    bar0_read_rep(dev, offset, size, &val, 1);
    return val;
}

static void bar0_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    bar0_write_rep(dev, offset, size, &value, 1);
}

static const struct io_ops bar0_ops = {.read = bar0_read,
                                       .write = bar0_write,
                                       .read_rep = bar0_read_rep,
                                       .write_rep = bar0_write_rep,
                                       .max_size = 8};

/* ---- BAR1: VGA ports from 0x3c0 at 0, BLT registers at 0x100 ---- */

static uint64_t bar1_read(void *dev, uint64_t offset, unsigned size)
{
    struct cirrus *c = dev;
    uint64_t val = 0;

    for (uint32_t i = 0; i < size; i++) {
        uint32_t off = (uint32_t)offset + i;
        uint8_t byte = off < 0x20              ? vga_io_read(&c->v, 0x3c0 + off)
                       : off < CIRRUS_MMIO_BLT ? 0xff
                                               : blt_mmio_read(c, off - CIRRUS_MMIO_BLT);

        val |= (uint64_t)byte << (8 * i);
    }
    return val;
}

static void bar1_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct cirrus *c = dev;

    for (uint32_t i = 0; i < size; i++) {
        uint32_t off = (uint32_t)offset + i;

        if (off < 0x20) {
            vga_io_write(&c->v, 0x3c0 + off, (uint8_t)(value >> (8 * i)));
        } else if (off >= CIRRUS_MMIO_BLT) {
            blt_mmio_write(c, off - CIRRUS_MMIO_BLT, (uint8_t)(value >> (8 * i)));
        }
    }
}

static const struct io_ops bar1_ops = {.read = bar1_read, .write = bar1_write, .max_size = 4};

/* ---- picture ---- */

static void cirrus_mode(struct vga *v, struct vga_mode *m)
{
    const struct cirrus *c = of_vga(v);
    const uint8_t *cr = v->r.crtc;
    static const uint8_t format[8] = {VGA_PAL8,    VGA_RGB565, VGA_RGB888, VGA_RGB565,
                                      VGA_RGB8888, VGA_PAL8,   VGA_PAL8,   VGA_PAL8};

    if (!(v->r.seq[CIRRUS_SR7_MODE] & CIRRUS_SR7_PACKED)) {
        return;
    }
    /* DEVIATION: in packed modes neither the screen-off bit of SR1 nor a CRTC in reset (CR17 bit 7
     * clear) blanks, because SeaBIOS's mode tables leave the one so (2101) and Linux's driver the
     * other (CR17 = 3), and the peer does not look. */
    if (v->r.attr_index & 0x20) {
        m->format = format[v->r.seq[CIRRUS_SR7_MODE] >> 1 & 7];
        if (m->format == VGA_RGB565 && (c->r.hidden_dac & 0x0f) != 1) {
            m->format = VGA_RGB555;
        }
    }
    m->width = (cr[CRTC_HDISP] + 1u) * 8;
    m->height *= cr[CR1A_CONTROL] & 1 ? 2 : 1; /* interlaced: the counts are of one field */
    m->start = ((uint32_t)cr[CRTC_START_HI] << 8 | cr[CRTC_START_LO] |
                (cr[CR1B_EXT_DISPLAY] & 0x01u) << 16 | (cr[CR1B_EXT_DISPLAY] & 0x0cu) << 15 |
                (cr[CR1D_OVERLAY] & 0x80u) << 12) *
               4;
    m->pitch = (cr[CRTC_OFFSET] | (cr[CR1B_EXT_DISPLAY] & 0x10u) << 4) * 8;
    m->wrap = v->h.size - 1;
    m->start &= m->wrap;
    m->line_compare = m->line_compare >= 0x3ff ? UINT32_MAX : m->line_compare;
    m->pan = m->pan_split = 0;
    m->dot_double = 0;
    m->cga_bit[0] = m->cga_bit[1] = 0;
    m->trapless = 1;
}

static bool cursor_overlaps(struct vga *v, uint32_t y)
{
    const struct cirrus *c = of_vga(v);
    uint8_t attr = v->r.seq[CIRRUS_SR12_CURSOR_ATTR];

    return (attr & CIRRUS_SR12_ON) && y >= c->r.cursor_y &&
           y < c->r.cursor_y + (attr & CIRRUS_SR12_64 ? 64u : 32u);
}

static uint32_t cursor_color(const struct cirrus *c, unsigned entry)
{
    uint32_t rgb = 0;

    for (unsigned k = 0; k < 3; k++) {
        uint32_t v = c->r.hidden_pal[entry * 3 + k] & 0x3fu;

        rgb = rgb << 8 | v << 2 | v >> 4;
    }
    return rgb;
}

/* Hardware cursor, TRM 5.2 (SR12, SR13): two planes at the end of the memory; 00 clear, 01 invert,
 * 10 and 11 DAC entries 0 and 15. */
static void cursor_overlay(struct vga *v, uint32_t y, uint32_t *pixels)
{
    const struct cirrus *c = of_vga(v);
    uint32_t size = v->r.seq[CIRRUS_SR12_CURSOR_ATTR] & CIRRUS_SR12_64 ? 64 : 32;
    uint32_t row = y - c->r.cursor_y;
    uint32_t pattern = v->r.seq[CIRRUS_SR13_CURSOR_PATTERN] & (size == 64 ? 0x3cu : 0x3fu);
    const uint8_t *base = v->h.mem + v->h.size - 16384 + pattern * 256;
    const uint8_t *plane0 = size == 64 ? base + row * 16 : base + row * 4;
    const uint8_t *plane1 = plane0 + (size == 64 ? 8 : 128);
    uint32_t colors[2] = {cursor_color(c, 0), cursor_color(c, 15)};
    uint32_t width = (v->r.crtc[CRTC_HDISP] + 1u) * 8;

    for (uint32_t x = 0; x < size && c->r.cursor_x + x < width; x++) {
        unsigned bit = 7 - (x & 7);
        unsigned code =
            ((unsigned)plane1[x >> 3] >> bit & 1) << 1 | ((unsigned)plane0[x >> 3] >> bit & 1);
        uint32_t *px = &pixels[c->r.cursor_x + x];

        if (code == 1) {
            *px ^= 0xffffff;
        } else if (code >= 2) {
            *px = colors[code - 2];
        }
    }
}

static const struct vga_adapter cirrus_adapter = {
    .port_read = cirrus_port_read,
    .port_write = cirrus_port_write,
    .window_read = cirrus_window_read,
    .window_write = cirrus_window_write,
    .mode = cirrus_mode,
    .overlaps = cursor_overlaps,
    .overlay = cursor_overlay,
};

/* ---- life ---- */

static void cirrus_reset(void *dev)
{
    struct cirrus *c = dev;

    vga_reset(&c->v);
    memset(&c->r, 0, sizeof(c->r));
    c->v.r.seq[CIRRUS_SR6_KEY] = SR6_LOCKED;
    c->v.r.seq[CIRRUS_SRF_DRAM] = 0x98; /* 4 MiB in two banks of 64-bit DRAM */
    c->v.r.seq[CIRRUS_SR15_MEM_SIZE] = 0x04;
    c->v.r.seq[CIRRUS_SR17_CONFIG] = 0x20; /* PCI */
    c->v.r.seq[0x1f] = 0x2d;               /* memory clock */
    c->v.r.gfx[CIRRUS_GR18_DRAM] = 0x0f;
    cirrus_update_access(c);
}

static int cirrus_state(void *dev, struct save_stream *s)
{
    struct cirrus *c = dev;
    struct cirrus_regs r = c->r;
    struct cirrus_blit left;
    uint32_t dst_step = (uint32_t)r.blt.dst_step;
    uint32_t src_step = (uint32_t)r.blt.src_step;
    int ret = vga_state(&c->v, s);

    save_u8(s, &r.hidden_dac);
    save_u8(s, &r.hidden_dac_reads);
    save_bytes(s, r.hidden_pal, sizeof(r.hidden_pal));
    save_u16(s, &r.cursor_x);
    save_u16(s, &r.cursor_y);
    save_u32(s, &r.blt.dst);
    save_u32(s, &r.blt.src);
    save_u32(s, &dst_step);
    save_u32(s, &src_step);
    save_u32(s, &r.blt.width);
    save_u32(s, &r.blt.height);
    save_u32(s, &r.blt.row);
    save_u32(s, &r.blt.fg);
    save_u32(s, &r.blt.bg);
    save_u16(s, &r.blt.key);
    save_u8(s, &r.blt.mode);
    save_u8(s, &r.blt.ext);
    save_u8(s, &r.blt.rop);
    save_u8(s, &r.blt.skip);
    save_u32(s, &r.blt_need);
    save_u32(s, &r.blt_have);
    save_bytes(s, r.blt_data, sizeof(r.blt_data));
    if (!s->loading) {
        return ret != 0 ? ret : s->error;
    }
    if (ret != 0 || s->error != 0 || r.hidden_dac_reads > 4 || r.cursor_x > 0x7ff ||
        r.cursor_y > 0x7ff) {
        return -EINVAL;
    }
    r.blt.dst_step = (int32_t)dst_step;
    r.blt.src_step = (int32_t)src_step;
    if (r.blt_need != 0) {
        left = r.blt;
        left.height -= left.row;
        if (r.blt.row >= r.blt.height || !(r.blt.mode & CIRRUS_BLT_FROM_CPU) ||
            !cirrus_blit_fits(&left, c->v.h.size) || r.blt_need != cirrus_blit_cpu_bytes(&r.blt) ||
            r.blt_have >= r.blt_need) {
            return -EINVAL;
        }
    }
    c->r = r;
    cirrus_update_access(c);
    return 0;
}

static void cirrus_destroy(void *dev)
{
    struct cirrus *c = dev;

    timer_cancel(&c->h.untrap);
    vga_fini(&c->v);
    free(c);
}

static const struct pci_device_ops cirrus_ops = {
    .base = {.name = "cirrus",
             .version = 1,
             .reset = cirrus_reset,
             .state = cirrus_state,
             .destroy = cirrus_destroy},
};

int cirrus_create(struct board *b, const struct vga_config *cfg, struct display *d)
{
    static const struct pci_config_id id = {
        .vendor = 0x1013,
        .device = 0x00b8,
        .class_device = 0x0300,
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
    };
    struct cirrus *c = calloc(1, sizeof(*c));
    int ret;

    if (c == NULL) {
        return -ENOMEM;
    }
    c->cfg = *cfg;
    timer_init(&c->h.untrap, b->loop, LOOP_VIRTUAL, untrap, c);
    /* The chip has 4 MiB whatever videoram= says: more would only be taken from the domain. */
    ret = vga_init(&c->v, b, CIRRUS_VRAM_BYTES, d, &cirrus_adapter, "cirrus");
    if (ret != 0) {
        free(c);
        return ret;
    }
    pci_init(&c->h.pci, b, &cirrus_ops, c, cfg->devfn, &id);
    pci_add_vram_bar(&c->h.pci, 0, CIRRUS_BAR0_BYTES, c->v.h.vram, &bar0_ops);
    pci_add_bar(&c->h.pci, 1, PCI_BAR_MEM, CIRRUS_MMIO_BYTES, &bar1_ops);
    if (cfg->rom_len != 0) {
        pci_set_rom(&c->h.pci, cfg->rom, cfg->rom_len);
    }
    ret = pci_finish(&c->h.pci);
    if (ret != 0) {
        cirrus_destroy(c);
    }
    return ret;
}
