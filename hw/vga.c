/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/vga.h"

#include <errno.h>
#include <string.h>

#include "core/log.h"

enum window_map { WIN_CHAIN4, WIN_ODD_EVEN, WIN_PLANAR };

enum {
    MISC_COLOR = 0x01, /* CRTC at 0x3dX */
    SEQ_CLOCK_8DOT = 0x01,
    SEQ_CLOCK_HALF = 0x08,
    SEQ_MEM_CHAIN4 = 0x08,
    GFX_MODE_ODD_EVEN = 0x10,
    GFX_MODE_READ1 = 0x08,
    STATUS1_BLANK = 0x01,
    STATUS1_VSYNC = 0x08,
};

/* Bits a guest can set. */
static const uint8_t seq_mask[5] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
static const uint8_t gfx_mask[9] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
static const uint8_t attr_mask[ATTR_COUNT] = {
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f,
};

/* Four plane bits to four bytes. */
static const uint32_t plane_bytes[16] = {
    0x00000000, 0x000000ff, 0x0000ff00, 0x0000ffff, 0x00ff0000, 0x00ff00ff, 0x00ffff00, 0x00ffffff,
    0xff000000, 0xff0000ff, 0xff00ff00, 0xff00ffff, 0xffff0000, 0xffff00ff, 0xffffff00, 0xffffffff,
};

static inline uint32_t load32(const uint8_t *p)
{
    uint32_t w;

    memcpy(&w, p, sizeof(w));
    return w;
}

static inline void store32(uint8_t *p, uint32_t w)
{
    memcpy(p, &w, sizeof(w));
}

void vga_update_window(struct vga *v)
{
    static const uint32_t first[4] = {0, 0, 0x10000, 0x18000};
    static const uint32_t len[4] = {0x20000, 0x10000, 0x8000, 0x8000};
    const uint8_t *g = v->r.gfx;
    unsigned map = g[GFX_MISC] >> 2 & 3;

    /* DEVIATION: bit 1 of the miscellaneous output register does not close the window, because drivers of linear
     * frame buffers leave it clear (Linux's bochs writes 1 there) and others start from that; nor does the peer. */
    v->h.win_first = first[map];
    v->h.win_len = len[map];
    v->h.win_map = v->h.win_linear || (v->r.seq[SEQ_MEM_MODE] & SEQ_MEM_CHAIN4) ? WIN_CHAIN4
                   : (v->r.gfx[GFX_MODE] & GFX_MODE_ODD_EVEN) != 0              ? WIN_ODD_EVEN
                                                                                : WIN_PLANAR;
    v->h.win_plain = (g[GFX_MODE] & 3) == 0 && (g[GFX_ROTATE] & 0x1f) == 0 &&
                     (g[GFX_ENABLE_SR] & 0x0f) == 0 && g[GFX_BIT_MASK] == 0xff;
    v->h.io_3d = (v->r.misc & MISC_COLOR) != 0;
}

/* ---- status and timing ---- */

/* Frame times from the CRTC. A programmed frame that no monitor would take (other clocks, nonsense)
 * becomes 60 Hz. */
static void update_timing(struct vga *v)
{
    static const uint32_t khz[4] = {25175, 28322, 25175, 25175};
    const uint8_t *c = v->r.crtc;
    uint32_t ovf = c[CRTC_OVERFLOW];
    uint64_t htotal = c[CRTC_HTOTAL] + 5u;
    uint64_t dots = htotal * (v->r.seq[SEQ_CLOCK] & SEQ_CLOCK_8DOT ? 8 : 9) *
                    (v->r.seq[SEQ_CLOCK] & SEQ_CLOCK_HALF ? 2 : 1);
    uint64_t vtotal = (c[CRTC_VTOTAL] | (ovf & 1) << 8 | (ovf & 0x20) << 4) + 2u;
    uint64_t vdisp = (c[CRTC_VDISP_END] | (ovf & 2) << 7 | (ovf & 0x40) << 3) + 1u;
    uint64_t vsync = c[CRTC_VSYNC_START] | (ovf & 4) << 6 | (ovf & 0x80) << 2;
    uint64_t vsync_len = (c[CRTC_VSYNC_END] - vsync) & 0x0f;
    uint64_t hdisp = c[CRTC_HDISP] + 1u;
    uint64_t line = dots * 1000000 / khz[v->r.misc >> 2 & 3];

    if (line * vtotal < 8000000 || line * vtotal > 25000000) {
        line = 16666667 / vtotal;
    }
    vdisp = vdisp < vtotal ? vdisp : vtotal - 1;
    vsync = vsync >= vdisp && vsync < vtotal ? vsync : vdisp;
    v->h.line_ns = line;
    v->h.frame_ns = line * vtotal;
    v->h.blank_ns = line * vdisp;
    v->h.vsync_ns = line * vsync;
    v->h.vsync_end_ns = v->h.vsync_ns + line * (vsync_len != 0 ? vsync_len : 1);
    v->h.hblank_ns = hdisp < htotal ? line * hdisp / htotal : line * 4 / 5;
    v->h.timing_valid = true;
}

/*
 * Input status 1 by the clock. The vertical retrace is a pulse of 60 us, which a guest that polls
 * slowly (each poll is a trip to us) would miss for seconds, so each retrace is shown to at least
 * one read.
 */
static uint8_t read_status1(struct vga *v)
{
    uint64_t now = loop_now(v->h.loop, LOOP_VIRTUAL);
    uint64_t pos;
    uint64_t vsync_no;
    uint8_t st = 0;

    if (!v->h.timing_valid) {
        update_timing(v);
    }
    pos = now % v->h.frame_ns;
    vsync_no = (now + v->h.frame_ns - v->h.vsync_ns) / v->h.frame_ns;
    if (pos >= v->h.blank_ns || pos % v->h.line_ns >= v->h.hblank_ns) {
        st |= STATUS1_BLANK;
    }
    if ((pos >= v->h.vsync_ns && pos < v->h.vsync_end_ns) || vsync_no != v->h.vsync_seen) {
        st |= STATUS1_BLANK | STATUS1_VSYNC;
        v->h.vsync_seen = vsync_no;
    }
    v->r.attr_data = 0;
    return st;
}

/* ---- ports ---- */

bool vga_port_decoded(const struct vga *v, uint32_t port)
{
    return (port >= 0x3c0 && port < 0x3d0) || (port >= 0x3d0) == v->h.io_3d;
}

static uint8_t read_pel_data(struct vga *v)
{
    uint8_t val = v->r.pal[v->r.dac_read * 3 + v->r.dac_sub];

    if (++v->r.dac_sub == 3) {
        v->r.dac_sub = 0;
        v->r.dac_read++;
    }
    return val;
}

static void write_pel_data(struct vga *v, uint8_t val)
{
    v->r.dac_pending[v->r.dac_sub] = val;
    if (++v->r.dac_sub == 3) {
        v->r.dac_sub = 0;
        memcpy(v->r.pal + v->r.dac_write * 3, v->r.dac_pending, 3);
        v->r.dac_write++;
        v->h.pal_dirty = true;
    }
}

uint8_t vga_port_read(struct vga *v, uint32_t port)
{
    struct vga_regs *r = &v->r;

    if (!vga_port_decoded(v, port)) {
        return 0xff;
    }
    switch (port) {
    case VGA_ATTR_W:
        return r->attr_data ? 0 : r->attr_index;
    case VGA_ATTR_R:
        return (r->attr_index & 0x1f) < ATTR_COUNT ? r->attr[r->attr_index & 0x1f] : 0;
    case VGA_SEQ_INDEX:
        return r->seq_index;
    case VGA_SEQ_DATA:
        return r->seq_index < sizeof(seq_mask) ? r->seq[r->seq_index] : 0;
    case VGA_PEL_MASK:
        return r->pel_mask;
    case VGA_PEL_READ_INDEX:
        return r->dac_state;
    case VGA_PEL_WRITE_INDEX:
        return r->dac_write;
    case VGA_PEL_DATA:
        return read_pel_data(v);
    case VGA_FEATURE_R:
        return r->feature;
    case VGA_MISC_R:
        return r->misc;
    case VGA_GFX_INDEX:
        return r->gfx_index;
    case VGA_GFX_DATA:
        return r->gfx_index < sizeof(gfx_mask) ? r->gfx[r->gfx_index] : 0;
    case 0x3b4:
    case VGA_CRTC_INDEX:
        return r->crtc_index;
    case 0x3b5:
    case VGA_CRTC_DATA:
        return r->crtc[r->crtc_index];
    case 0x3ba:
    case VGA_STATUS1:
        return read_status1(v);
    default:
        return 0; /* input status 0 among them: no interrupt, sense line low */
    }
}

static void write_attr(struct vga *v, uint8_t val)
{
    struct vga_regs *r = &v->r;
    unsigned i = r->attr_index & 0x1f;

    if (!r->attr_data) {
        r->attr_index = val & 0x3f;
    } else if (i < ATTR_COUNT) {
        r->attr[i] = val & attr_mask[i];
    }
    r->attr_data = !r->attr_data;
}

static void write_crtc(struct vga *v, uint8_t val)
{
    unsigned i = v->r.crtc_index;

    if ((v->r.crtc[CRTC_VSYNC_END] & 0x80) &&
        i <= CRTC_OVERFLOW) { /* protected: only line compare bit 8 */
        if (i == CRTC_OVERFLOW) {
            v->r.crtc[i] = (uint8_t)((v->r.crtc[i] & ~0x10) | (val & 0x10));
        }
        return;
    }
    v->r.crtc[i] = val;
    v->h.timing_valid = false;
}

void vga_port_write(struct vga *v, uint32_t port, uint8_t val)
{
    struct vga_regs *r = &v->r;

    if (!vga_port_decoded(v, port)) {
        return;
    }
    switch (port) {
    case VGA_ATTR_W:
        write_attr(v, val);
        break;
    case VGA_MISC_W:
        r->misc = val & 0xef;
        v->h.timing_valid = false;
        vga_update_window(v);
        break;
    case VGA_SEQ_INDEX:
        r->seq_index = val & 7;
        break;
    case VGA_SEQ_DATA:
        if (r->seq_index < sizeof(seq_mask)) {
            r->seq[r->seq_index] = val & seq_mask[r->seq_index];
            v->h.timing_valid = false;
            vga_update_window(v);
        }
        break;
    case VGA_PEL_MASK:
        v->h.pal_dirty |= r->pel_mask != val;
        r->pel_mask = val;
        break;
    case VGA_PEL_READ_INDEX:
        r->dac_read = val;
        r->dac_sub = 0;
        r->dac_state = 3;
        break;
    case VGA_PEL_WRITE_INDEX:
        r->dac_write = val;
        r->dac_sub = 0;
        r->dac_state = 0;
        break;
    case VGA_PEL_DATA:
        write_pel_data(v, val);
        break;
    case VGA_GFX_INDEX:
        r->gfx_index = val & 0x0f;
        break;
    case VGA_GFX_DATA:
        if (r->gfx_index < sizeof(gfx_mask)) {
            r->gfx[r->gfx_index] = val & gfx_mask[r->gfx_index];
            vga_update_window(v);
        }
        break;
    case 0x3b4:
    case VGA_CRTC_INDEX:
        r->crtc_index = val;
        break;
    case 0x3b5:
    case VGA_CRTC_DATA:
        write_crtc(v, val);
        break;
    case 0x3ba:
    case VGA_STATUS1:
        r->feature = val & 0x10;
        break;
    default:
        break;
    }
}

uint8_t vga_io_read(struct vga *v, uint32_t port)
{
    return v->h.adapter->port_read != NULL ? v->h.adapter->port_read(v, port)
                                           : vga_port_read(v, port);
}

void vga_io_write(struct vga *v, uint32_t port, uint8_t val)
{
    if (v->h.adapter->port_write != NULL) {
        v->h.adapter->port_write(v, port, val);
    } else {
        vga_port_write(v, port, val);
    }
}

/* ---- memory ---- */

void vga_linear_read(struct vga *v, uint64_t addr, uint8_t *buf, uint32_t len)
{
    uint32_t have = addr < v->h.size ? v->h.size - (uint32_t)addr : 0;

    have = have < len ? have : len;
    if (have > 0) {
        memcpy(buf, v->h.mem + addr, have);
    }
    memset(buf + have, 0xff, len - have);
}

void vga_linear_write(struct vga *v, uint64_t addr, const uint8_t *buf, uint32_t len)
{
    uint32_t have = addr < v->h.size ? v->h.size - (uint32_t)addr : 0;

    have = have < len ? have : len;
    if (have > 0) {
        memcpy(v->h.mem + addr, buf, have);
        vga_touch(v, (uint32_t)addr, have);
        v->h.font_dirty = true; /* every fourth byte is of plane 2 */
    }
}

static inline uint8_t rotate_right(uint8_t val, unsigned n)
{
    return (uint8_t)(val >> n | val << (8 - n));
}

/* The graphics controller's write data path: what `val` becomes, given the latches. VGA TRM,
 * graphics controller. */
static uint32_t write_path(const struct vga *v, uint8_t val)
{
    const uint8_t *g = v->r.gfx;
    uint32_t latch = v->r.latch;
    uint32_t bits = g[GFX_BIT_MASK];
    uint32_t data;
    uint32_t enable;

    switch (g[GFX_MODE] & 3) {
    case 0:
        enable = plane_bytes[g[GFX_ENABLE_SR] & 0x0f];
        data = rotate_right(val, g[GFX_ROTATE] & 7) * 0x01010101u;
        data = (data & ~enable) | (plane_bytes[g[GFX_SET_RESET] & 0x0f] & enable);
        break;
    case 1:
        return latch;
    case 2:
        data = plane_bytes[val & 0x0f];
        break;
    default:
        bits &= rotate_right(val, g[GFX_ROTATE] & 7);
        data = plane_bytes[g[GFX_SET_RESET] & 0x0f];
        break;
    }
    switch (g[GFX_ROTATE] >> 3 & 3) {
    case 1:
        data &= latch;
        break;
    case 2:
        data |= latch;
        break;
    case 3:
        data ^= latch;
        break;
    default:
        break;
    }
    bits *= 0x01010101u;
    return (data & bits) | (latch & ~bits);
}

/*
 * Plane that a byte at window address addr goes to or comes from in the maps where the address
 * chooses one. DEVIATION: in these maps a write stores the byte as it is, without rotate, functions
 * and bit mask, and odd/even writes go to one plane, chosen with the read map register, as on the
 * peer, whose guests know nothing else; programs use plain writes there.
 */
static inline uint32_t plane_of(const struct vga *v, uint64_t addr)
{
    return v->h.win_map == WIN_CHAIN4 ? addr & 3 : (v->r.gfx[GFX_READ_MAP] & 2u) | (addr & 1);
}

/* Window address bits below the display address. */
static const uint8_t window_shift[] = {[WIN_CHAIN4] = 2, [WIN_ODD_EVEN] = 1, [WIN_PLANAR] = 0};

/* Clips [*off, *off + *len) to the decoded part of the window; returns how many bytes were cut in
 * front. */
static uint32_t clip_window(const struct vga *v, uint32_t *off, uint32_t *len)
{
    uint32_t cut = *off < v->h.win_first ? v->h.win_first - *off : 0;
    uint32_t end = v->h.win_first + v->h.win_len;

    if (cut >= *len || *off + cut >= end) {
        *len = 0;
        return 0;
    }
    *len -= cut;
    *off += cut;
    *len = *len < end - *off ? *len : end - *off;
    *off -= v->h.win_first;
    return cut;
}

void vga_window_write(struct vga *v, uint32_t off, const uint8_t *buf, uint32_t len)
{
    uint32_t map_mask = v->h.win_linear ? 0x0f : v->r.seq[SEQ_MAP_MASK] & 0x0fu;
    unsigned shift = window_shift[v->h.win_map];
    uint64_t limit = (uint64_t)(v->h.size / 4) << shift;
    uint64_t addr;

    buf += clip_window(v, &off, &len);
    addr = (uint64_t)off + v->r.bank;
    if (len == 0 || addr >= limit) {
        return;
    }
    if (v->h.win_map == WIN_CHAIN4 && map_mask == 0x0f) {
        vga_linear_write(v, addr, buf, len);
        return;
    }
    len = len < limit - addr ? len : (uint32_t)(limit - addr);
    for (uint32_t i = 0; i < len; i++) {
        uint8_t *p = v->h.mem + ((addr + i) >> shift) * 4;

        if (v->h.win_map == WIN_PLANAR) {
            uint32_t bytes = plane_bytes[map_mask];
            uint32_t data = v->h.win_plain ? buf[i] * 0x01010101u : write_path(v, buf[i]);

            store32(p, (load32(p) & ~bytes) | (data & bytes));
        } else {
            uint32_t plane = plane_of(v, addr + i);

            if (map_mask >> plane & 1) {
                p[plane] = buf[i];
            }
        }
    }
    v->h.font_dirty |= (map_mask & 4) != 0;
    vga_touch(v, (uint32_t)(addr >> shift) * 4,
              (uint32_t)((addr + len - 1) >> shift) * 4 + 4 - (uint32_t)(addr >> shift) * 4);
}

/* Read mode 1: a bit is set where all planes that matter have the compared colour. */
static uint32_t color_compare(const struct vga *v)
{
    uint32_t diff = (v->r.latch ^ plane_bytes[v->r.gfx[GFX_COMPARE] & 0x0f]) &
                    plane_bytes[v->r.gfx[GFX_DONT_CARE] & 0x0f];

    diff |= diff >> 16;
    return (uint8_t) ~(diff | diff >> 8);
}

void vga_window_read(struct vga *v, uint32_t off, uint8_t *buf, uint32_t len)
{
    bool compare = (v->r.gfx[GFX_MODE] & GFX_MODE_READ1) != 0;
    unsigned shift = window_shift[v->h.win_map];
    uint64_t addr;

    memset(buf, 0xff, len);
    buf += clip_window(v, &off, &len);
    addr = (uint64_t)off + v->r.bank;
    for (uint32_t i = 0; i < len; i++, addr++) {
        uint64_t at = (addr >> shift) * 4;

        if (at >= v->h.size) {
            return;
        }
        if (v->h.win_map != WIN_PLANAR) {
            buf[i] = v->h.mem[at + plane_of(v, addr)];
            continue;
        }
        v->r.latch = load32(v->h.mem + at);
        buf[i] =
            (uint8_t)(compare ? color_compare(v) : v->r.latch >> (v->r.gfx[GFX_READ_MAP] & 3) * 8);
    }
}

/* ---- bus glue ---- */

static uint64_t port_read(void *dev, uint64_t offset, unsigned size)
{
    const struct vga_port_range *p = dev;

    (void)size;
    return vga_io_read(p->vga, p->base + (uint32_t)offset);
}

static void port_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    const struct vga_port_range *p = dev;

    (void)size;
    vga_io_write(p->vga, p->base + (uint32_t)offset, (uint8_t)value);
}

static const struct io_ops port_ops = {.read = port_read, .write = port_write, .max_size = 1};

static unsigned window_read_rep(void *dev, uint64_t offset, unsigned size, void *buf,
                                unsigned count)
{
    struct vga *v = dev;
    void (*fn)(struct vga *, uint32_t, uint8_t *, uint32_t) = v->h.adapter->window_read;

    (fn != NULL ? fn : vga_window_read)(v, (uint32_t)offset, buf, size * count);
    return count;
}

static unsigned window_write_rep(void *dev, uint64_t offset, unsigned size, const void *buf,
                                 unsigned count)
{
    struct vga *v = dev;
    void (*fn)(struct vga *, uint32_t, const uint8_t *, uint32_t) = v->h.adapter->window_write;

    (fn != NULL ? fn : vga_window_write)(v, (uint32_t)offset, buf, size * count);
    return count;
}

static uint64_t window_read(void *dev, uint64_t offset, unsigned size)
{
    uint64_t value = 0;

    window_read_rep(dev, offset, size, &value, 1);
    return value;
}

static void window_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    window_write_rep(dev, offset, size, &value, 1);
}

static const struct io_ops window_ops = {
    .read = window_read,
    .write = window_write,
    .read_rep = window_read_rep,
    .write_rep = window_write_rep,
    .max_size = 8,
};

/* ---- life ---- */

static int add_regions(struct vga *v, const char *name)
{
    static const struct {
        uint16_t base;
        uint8_t len;
    } ranges[5] = {{0x3b4, 2}, {0x3ba, 1}, {0x3c0, 16}, {0x3d4, 2}, {0x3da, 1}};
    int id;

    for (unsigned i = 0; i < 5; i++) {
        v->h.ports[i] = (struct vga_port_range){v, ranges[i].base};
        id = bus_add(v->h.bus, BUS_PORT, ranges[i].base, ranges[i].len, &port_ops, &v->h.ports[i],
                     name);
        if (id < 0) {
            return id;
        }
        v->h.region[i] = id;
    }
    id = bus_add(v->h.bus, BUS_MMIO, VGA_WINDOW_BASE, VGA_WINDOW_SIZE, &window_ops, v, name);
    if (id < 0) {
        return id;
    }
    v->h.region[5] = id;
    return 0;
}

int vga_init(struct vga *v, struct board *b, uint32_t vram_bytes, struct display *d,
             const struct vga_adapter *adapter, const char *name)
{
    uint32_t size =
        vram_bytes < VGA_VRAM_MAX ? (vram_bytes + 0xffff) & ~UINT32_C(0xffff) : VGA_VRAM_MAX;
    int ret;

    v->h.size = size < (1 << 20) ? 1 << 20 : size;
    v->h.bus = b->bus;
    v->h.loop = b->loop;
    v->h.adapter = adapter;
    v->h.vram = platform_vram_create(b->plat, v->h.size);
    if (v->h.vram == NULL) {
        return errno != 0 ? -errno : -ENOMEM;
    }
    v->h.mem = vram_data(v->h.vram);
    ret = add_regions(v, name);
    if (ret != 0) {
        vga_fini(v);
        return ret;
    }
    v->h.display = d;
    if (d != NULL) {
        display_set_source(d, &vga_display_source, v);
    }
    return 0;
}

void vga_fini(struct vga *v)
{
    if (v->h.display != NULL) {
        display_set_source(v->h.display, NULL, NULL);
    }
    for (unsigned i = 0; i < 6; i++) {
        if (v->h.region[i] != 0) {
            bus_remove(v->h.bus, v->h.region[i]);
        }
    }
    vram_destroy(v->h.vram);
}

static void loaded(struct vga *v)
{
    v->h.timing_valid = false;
    v->h.pal_dirty = v->h.font_dirty = v->h.all_dirty = true;
    vga_update_window(v);
}

void vga_reset(struct vga *v)
{
    memset(&v->r, 0, sizeof(v->r));
    v->r.pel_mask = 0xff;
    loaded(v);
}

int vga_state(struct vga *v, struct save_stream *s)
{
    struct vga_regs r = v->r;

    save_u8(s, &r.misc);
    save_u8(s, &r.feature);
    save_u8(s, &r.seq_index);
    save_bytes(s, r.seq, sizeof(r.seq));
    save_u8(s, &r.gfx_index);
    save_bytes(s, r.gfx, sizeof(r.gfx));
    save_u8(s, &r.crtc_index);
    save_bytes(s, r.crtc, sizeof(r.crtc));
    save_u8(s, &r.attr_index);
    save_bytes(s, r.attr, sizeof(r.attr));
    save_u8(s, &r.attr_data);
    save_u8(s, &r.dac_read);
    save_u8(s, &r.dac_write);
    save_u8(s, &r.dac_sub);
    save_u8(s, &r.dac_state);
    save_bytes(s, r.dac_pending, sizeof(r.dac_pending));
    save_u8(s, &r.pel_mask);
    save_u8(s, &r.dac_8bit);
    save_bytes(s, r.pal, sizeof(r.pal));
    save_u32(s, &r.latch);
    save_u32(s, &r.bank);
    if (s->loading) {
        if (s->error != 0 || r.attr_index > 0x3f || r.attr_data > 1 || r.dac_sub > 2 ||
            r.dac_8bit > 1) {
            return -EINVAL;
        }
        v->r = r;
        loaded(v);
    }
    return s->error;
}
