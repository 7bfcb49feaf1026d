/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/stdvga.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    EXT_SIZE = 8,
    EXT_BYTE_ORDER = 4,
};
#define EXT_LITTLE_ENDIAN 0x1e1e1e1eu
#define EXT_BIG_ENDIAN    0xbebebebeu

struct stdvga_regs {
    uint16_t index;
    uint16_t dispi[DISPI_COUNT];
    uint32_t pitch; /* bytes; derived from the registers when they change, valid while enabled */
};

struct stdvga {
    struct vga v; /* first: the core's callbacks get it */
    struct vga_config cfg;
    struct pci_device pci;
    struct stdvga_regs r;
    uint8_t edid[STDVGA_EDID_SIZE];
    int dispi_region;
};

static struct stdvga *of_vga(struct vga *v)
{
    return (struct stdvga *)(void *)v;
}

/* ---- EDID ---- */

void stdvga_edid(uint8_t edid[STDVGA_EDID_SIZE])
{
    static const uint8_t block[STDVGA_EDID_SIZE] = {
        0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, /* header */
        0x22, 0xcd, 0x11, 0x11, 0x01, 0x00, 0x00, 0x00, /* "HVM", product 0x1111, serial 1 */
        0x01, 0x22,                                     /* week 1 of 2024 */
        0x01, 0x04,                                     /* version 1.4 */
        0xa5, 0x20, 0x18, 0x78,
        0x05, /* digital, 8 bits; 32x24 cm; gamma 2.2; sRGB, any frequency, no native resolution */
        0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54, /* sRGB chromaticity */
        0x21, 0x08, 0x00,                               /* 640x480, 800x600, 1024x768 at 60 Hz */
        /* Left out: 1440x900 and 1400x1050, which drivers infer from the range. Of what stands here X's vesa takes only the
         * modes that X itself does not know: the preferred one, but with these a desktop of 1440x1050 that no mode shows whole. */
        0x81, 0x80, 0x81, 0x00, 0x71, 0x4f, 0xa9, 0x40, /* 1280x1024 1280x800 1152x864@75 1600x1200 */
        0xb3, 0x00, 0xd1, 0xc0, 0xd1, 0x00, 0x81, 0xc0, /* 1680x1050 1920x1080 1920x1200 1280x720 */
        /* preferred: 1024x768, 65.00 MHz, blanking 320x38, sync +24 136, +3 6, negative */
        0x64, 0x19, 0x00, 0x40, 0x41, 0x00, 0x26, 0x30, 0x18, 0x88, 0x36, 0x00, 0x40, 0xf0, 0x10,
        0x00, 0x00, 0x18,
        /* limits: 50-125 Hz, 30-160 kHz, 650 MHz */
        0x00, 0x00, 0x00, 0xfd, 0x00, 0x32, 0x7d, 0x1e, 0xa0, 0x41, 0x01, 0x0a, 0x20, 0x20, 0x20,
        0x20, 0x20, 0x20, 0x00, 0x00, 0x00, 0xfc, 0x00, 'h', 'v', 'm', '-', 'd', 'm', 0x0a, 0x20,
        0x20, 0x20, 0x20, 0x20, 0x20,
        /* established timings III: 1280x960, 1360x768 at 60 Hz */
        0x00, 0x00, 0x00, 0xf7, 0x00, 0x0a, 0x00, 0x08, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, /* no extension; checksum */
    };
    unsigned sum = 0;

    memcpy(edid, block, sizeof(block));
    for (unsigned i = 0; i < STDVGA_EDID_SIZE - 1; i++) {
        sum += edid[i];
    }
    edid[STDVGA_EDID_SIZE - 1] = (uint8_t)(0x100 - (sum & 0xff));
}

/* ---- DISPI ---- */

static uint32_t min32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static bool bpp_known(uint16_t bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

/* Bytes of n pixels, n a multiple of 8 for 4 bits a pixel. */
static uint32_t pixel_bytes(unsigned bpp, uint32_t n)
{
    return n * (bpp == 15 ? 16u : bpp) / 8;
}

/* Byte address of the first pixel; with 4 bits a pixel, of the eight pixels it is in. */
static uint32_t dispi_start(const struct stdvga *s)
{
    const uint16_t *d = s->r.dispi;
    uint32_t x = d[DISPI_BPP] == 4 ? d[DISPI_X_OFFSET] & ~7u : d[DISPI_X_OFFSET];

    return d[DISPI_Y_OFFSET] * s->r.pitch + pixel_bytes(d[DISPI_BPP], x);
}

/*
 * Makes the registers consistent: the picture fits in the memory from where it starts. Whoever asks
 * for more gets what fits. The horizontal offset may be anything: a driver turns a byte offset into
 * whole lines and a rest.
 */
static void dispi_fix(struct stdvga *s)
{
    uint16_t *d = s->r.dispi;
    uint32_t vram = s->v.h.size;
    unsigned bpp = bpp_known(d[DISPI_BPP]) ? d[DISPI_BPP] : 8;
    uint32_t align = bpp == 4 ? 8 : 1;
    uint32_t x = min32(d[DISPI_XRES], DISPI_MAX_XRES);
    uint32_t virt = min32(d[DISPI_VIRT_WIDTH], DISPI_MAX_XRES);
    uint32_t lines;

    x = x < align ? align : x & ~(align - 1);
    virt = virt < x ? x : virt & ~(align - 1);
    s->r.pitch =
        pixel_bytes(bpp, virt); /* at most 64000 bytes, so at least 16 lines fit in 1 MiB */
    lines = vram / s->r.pitch;
    d[DISPI_BPP] = (uint16_t)bpp;
    d[DISPI_XRES] = (uint16_t)x;
    d[DISPI_YRES] =
        (uint16_t)min32(min32(d[DISPI_YRES] != 0 ? d[DISPI_YRES] : 1, DISPI_MAX_YRES), lines);
    d[DISPI_VIRT_WIDTH] = (uint16_t)virt;
    d[DISPI_VIRT_HEIGHT] = (uint16_t)lines; /* wraps in small modes, as on the peer */
    d[DISPI_X_OFFSET] = (uint16_t)min32(d[DISPI_X_OFFSET], DISPI_MAX_XRES);
    d[DISPI_Y_OFFSET] = (uint16_t)min32(d[DISPI_Y_OFFSET], DISPI_MAX_YRES);
    if ((uint64_t)dispi_start(s) + s->r.pitch * d[DISPI_YRES] > vram) {
        d[DISPI_Y_OFFSET] = 0;
    }
    if ((uint64_t)dispi_start(s) + s->r.pitch * d[DISPI_YRES] > vram) {
        d[DISPI_X_OFFSET] = 0;
    }
}

/* While enabled the VGA registers show a matching mode: guests and BIOSes read them, and the window
 * decodes by them. */
static void dispi_set_vga(struct stdvga *s)
{
    const uint16_t *d = s->r.dispi;
    struct vga_regs *r = &s->v.r;
    unsigned bpp = d[DISPI_BPP];
    uint32_t last_line = d[DISPI_YRES] - 1u;

    r->gfx[GFX_MISC] = (uint8_t)((r->gfx[GFX_MISC] & ~0x0c) | 0x05);
    r->crtc[CRTC_MODE] |= 3;
    r->crtc[CRTC_OFFSET] = (uint8_t)(s->r.pitch >> 3);
    r->crtc[CRTC_HDISP] = (uint8_t)((d[DISPI_XRES] >> 3) - 1);
    r->crtc[CRTC_VDISP_END] = (uint8_t)last_line;
    r->crtc[CRTC_OVERFLOW] = (uint8_t)((r->crtc[CRTC_OVERFLOW] & 0xbdu) | (last_line >> 7 & 0x02) |
                                       (last_line >> 3 & 0x40) | 0x10);
    r->crtc[CRTC_LINE_COMPARE] = 0xff;
    r->crtc[CRTC_MAX_SCAN] = (uint8_t)((r->crtc[CRTC_MAX_SCAN] & ~0x9f) | 0x40);
    if (bpp == 4) {
        r->seq[SEQ_CLOCK] &= 0xf7;
        r->gfx[GFX_MODE] &= 0x9f;
    } else {
        r->gfx[GFX_MODE] = (uint8_t)((r->gfx[GFX_MODE] & ~0x60) | 0x40);
    }
    s->v.h.timing_valid = false;
}

/* With VBE on the window is a plain piece of memory, or planes by the VGA registers with 4 bits a
 * pixel. */
static void update_window(struct stdvga *s)
{
    s->v.h.win_linear = (s->r.dispi[DISPI_ENABLE] & DISPI_ENABLED) && s->r.dispi[DISPI_BPP] != 4;
    vga_update_window(&s->v);
}

static void write_enable(struct stdvga *s, uint16_t val)
{
    uint16_t *d = s->r.dispi;
    bool was = (d[DISPI_ENABLE] & DISPI_ENABLED) != 0;

    if ((val & DISPI_ENABLED) && !was) {
        d[DISPI_VIRT_WIDTH] = 0;
        d[DISPI_X_OFFSET] = 0;
        d[DISPI_Y_OFFSET] = 0;
        dispi_fix(s);
        dispi_set_vga(s);
        if (!(val & DISPI_NOCLEARMEM)) {
            uint32_t len = s->r.pitch * d[DISPI_YRES];

            memset(s->v.h.mem, 0, len);
            vga_touch(&s->v, 0, len);
        }
    } else if (!(val & DISPI_ENABLED)) {
        s->v.r.bank = 0;
    }
    d[DISPI_ENABLE] = val;
    update_window(s);
    if (s->v.r.dac_8bit != (val >> 5 & 1)) {
        s->v.r.dac_8bit = val >> 5 & 1;
        s->v.h.pal_dirty = true;
    }
}

static void write_bank(struct stdvga *s, uint16_t val)
{
    /* Banks of 64 KiB of window addresses, which are plane addresses (4 bytes each) with 4 bits a
     * pixel. */
    uint32_t banks = s->v.h.size >> (s->r.dispi[DISPI_BPP] == 4 ? 18 : 16);

    while ((banks & (banks - 1)) !=
           0) { /* the highest power of two: the bank number wraps as a bit field */
        banks &= banks - 1;
    }
    s->r.dispi[DISPI_BANK] = (uint16_t)(val & (banks - 1));
    s->v.r.bank = (uint32_t)s->r.dispi[DISPI_BANK] << 16;
}

static void dispi_write(struct stdvga *s, unsigned index, uint16_t val)
{
    uint16_t *d = s->r.dispi;

    switch (index) {
    case DISPI_ID:
        if (val >= DISPI_ID0 && val <= DISPI_ID5) {
            d[DISPI_ID] = val;
        }
        return;
    case DISPI_ENABLE:
        write_enable(s, val);
        return;
    case DISPI_BANK:
        write_bank(s, val);
        return;
    case DISPI_XRES:
    case DISPI_YRES:
    case DISPI_BPP: /* an unknown depth becomes 8 when it is used: the first BIOSes write 0 */
    case DISPI_VIRT_WIDTH:
    case DISPI_X_OFFSET:
    case DISPI_Y_OFFSET:
        break;
    default: /* virtual height and memory size are results */
        return;
    }
    d[index] = val;
    if (d[DISPI_ENABLE] & DISPI_ENABLED) {
        dispi_fix(s);
        dispi_set_vga(s);
        update_window(s);
    }
}

static uint16_t dispi_read(struct stdvga *s, unsigned index)
{
    static const uint16_t caps[] = {
        [DISPI_XRES] = DISPI_MAX_XRES, [DISPI_YRES] = DISPI_MAX_YRES, [DISPI_BPP] = 32};

    if (index >= DISPI_COUNT) {
        return 0;
    }
    if (index == DISPI_VIDEO_MEMORY_64K) {
        return (uint16_t)(s->v.h.size >> 16);
    }
    if ((s->r.dispi[DISPI_ENABLE] & DISPI_GETCAPS) && index >= DISPI_XRES && index <= DISPI_BPP) {
        return caps[index];
    }
    return s->r.dispi[index];
}

/* Ports 0x1ce..0x1d1: index, data at 0x1cf and, for those who like alignment, at 0x1d0. Words only.
 * */
static uint64_t dispi_port_read(void *dev, uint64_t offset, unsigned size)
{
    struct stdvga *s = dev;

    if (size != 2) {
        return UINT64_MAX;
    }
    return offset == 0 ? s->r.index : dispi_read(s, s->r.index);
}

static void dispi_port_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct stdvga *s = dev;

    if (size != 2) {
        return;
    }
    if (offset == 0) {
        s->r.index = (uint16_t)value;
    } else {
        dispi_write(s, s->r.index, (uint16_t)value);
    }
}

static const struct io_ops dispi_ops = {
    .read = dispi_port_read, .write = dispi_port_write, .max_size = 4};

/* ---- BAR2 ---- */

static uint8_t mmio_read8(struct stdvga *s, uint32_t off)
{
    if (off < STDVGA_EDID_SIZE) {
        return s->edid[off];
    }
    if (off >= STDVGA_MMIO_VGA && off < STDVGA_MMIO_VGA + 0x20) {
        return vga_io_read(&s->v, 0x3c0 + off - STDVGA_MMIO_VGA);
    }
    if (off >= STDVGA_MMIO_DISPI && off < STDVGA_MMIO_DISPI + 2 * DISPI_COUNT) {
        return (uint8_t)(dispi_read(s, (off - STDVGA_MMIO_DISPI) / 2) >> (off & 1) * 8);
    }
    if (off >= STDVGA_MMIO_EXT && off < STDVGA_MMIO_EXT + EXT_SIZE) {
        uint32_t word = off < STDVGA_MMIO_EXT + EXT_BYTE_ORDER ? EXT_SIZE : EXT_LITTLE_ENDIAN;

        return (uint8_t)(word >> (off & 3) * 8);
    }
    return 0xff;
}

static uint64_t mmio_read(void *dev, uint64_t offset, unsigned size)
{
    uint64_t val = 0;

    for (unsigned i = 0; i < size; i++) {
        val |= (uint64_t)mmio_read8(dev, (uint32_t)offset + i) << (8 * i);
    }
    return val;
}

static void mmio_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct stdvga *s = dev;
    uint32_t off = (uint32_t)offset;

    /* DEVIATION: the byte order register stays little endian, because no x86 guest wants the other.
     * */
    for (unsigned i = 0; i < size; i++, off++) {
        if (off >= STDVGA_MMIO_VGA && off < STDVGA_MMIO_VGA + 0x20) {
            vga_io_write(&s->v, 0x3c0 + off - STDVGA_MMIO_VGA, (uint8_t)(value >> (8 * i)));
        } else if (off >= STDVGA_MMIO_DISPI && off < STDVGA_MMIO_DISPI + 2 * DISPI_COUNT &&
                   !(off & 1) && i + 1 < size) {
            dispi_write(s, (off - STDVGA_MMIO_DISPI) / 2, (uint16_t)(value >> (8 * i)));
        }
    }
}

static const struct io_ops mmio_ops = {.read = mmio_read, .write = mmio_write, .max_size = 4};

/* ---- BAR0 while the video memory is not in it (the hypervisor refused to place it) ---- */

static unsigned lfb_read_rep(void *dev, uint64_t offset, unsigned size, void *buf, unsigned count)
{
    vga_linear_read(dev, offset, buf, size * count);
    return count;
}

static unsigned lfb_write_rep(void *dev, uint64_t offset, unsigned size, const void *buf,
                              unsigned count)
{
    vga_linear_write(dev, offset, buf, size * count);
    return count;
}

static uint64_t lfb_read(void *dev, uint64_t offset, unsigned size)
{
    uint64_t val = 0;

    vga_linear_read(dev, offset, (uint8_t *)&val, size);
    return val;
}

static void lfb_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    vga_linear_write(dev, offset, (const uint8_t *)&value, size);
}

static const struct io_ops lfb_ops = {.read = lfb_read,
                                      .write = lfb_write,
                                      .read_rep = lfb_read_rep,
                                      .write_rep = lfb_write_rep,
                                      .max_size = 8};

/* ---- picture ---- */

static void dispi_mode(struct vga *v, struct vga_mode *m)
{
    const struct stdvga *s = of_vga(v);
    const uint16_t *d = s->r.dispi;
    static const uint8_t format[33] = {
        [4] = VGA_PLANAR,  [8] = VGA_PAL8,    [15] = VGA_RGB555,
        [16] = VGA_RGB565, [24] = VGA_RGB888, [32] = VGA_RGB8888,
    };

    if (!(d[DISPI_ENABLE] & DISPI_ENABLED)) {
        return;
    }
    memset(m, 0, sizeof(*m));
    m->format = v->r.attr_index & 0x20 ? format[d[DISPI_BPP]] : VGA_BLANK;
    m->width = d[DISPI_XRES];
    m->height = d[DISPI_YRES];
    m->pitch = s->r.pitch;
    m->start = dispi_start(s);
    m->pan = d[DISPI_BPP] == 4 ? d[DISPI_X_OFFSET] & 7 : 0;
    m->wrap = UINT32_MAX;
    m->line_compare = UINT32_MAX;
    m->row_lines = 1;
    m->repeat = 1;
    m->trapless = 1;
}

static const struct vga_adapter stdvga_adapter = {.mode = dispi_mode};

/* ---- life ---- */

static void stdvga_reset(void *dev)
{
    struct stdvga *s = dev;

    vga_reset(&s->v);
    memset(&s->r, 0, sizeof(s->r));
    s->r.dispi[DISPI_ID] = DISPI_ID5;
    update_window(s);
}

static int stdvga_state(void *dev, struct save_stream *st)
{
    struct stdvga *s = dev;
    struct stdvga_regs r = s->r;
    uint16_t fixed[DISPI_COUNT];
    int ret = vga_state(&s->v, st);

    save_u16(st, &r.index);
    for (unsigned i = 0; i < DISPI_COUNT; i++) {
        save_u16(st, &r.dispi[i]);
    }
    if (!st->loading) {
        return ret != 0 ? ret : st->error;
    }
    if (ret != 0 || st->error != 0 || r.dispi[DISPI_ID] < DISPI_ID0 ||
        r.dispi[DISPI_ID] > DISPI_ID5) {
        return -EINVAL;
    }
    s->r = r;
    if (r.dispi[DISPI_ENABLE] & DISPI_ENABLED) {
        memcpy(fixed, r.dispi, sizeof(fixed));
        dispi_fix(s);
        if (memcmp(fixed, s->r.dispi, sizeof(fixed)) != 0) {
            return -EINVAL;
        }
    }
    update_window(s);
    return 0;
}

static void stdvga_destroy(void *dev)
{
    struct stdvga *s = dev;

    if (s->dispi_region > 0) {
        bus_remove(s->v.h.bus, s->dispi_region);
    }
    vga_fini(&s->v);
    free(s);
}

static const struct pci_device_ops stdvga_ops = {
    .base = {.name = "stdvga",
             .version = 1,
             .reset = stdvga_reset,
             .state = stdvga_state,
             .destroy = stdvga_destroy},
};

int stdvga_create(struct board *b, const struct vga_config *cfg, struct display *d)
{
    static const struct pci_config_id id = {
        .vendor = 0x1234,
        .device = 0x1111,
        .class_device = 0x0300,
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
        .revision = 2,
    };
    struct stdvga *s = calloc(1, sizeof(*s));
    uint64_t bar_size = 1 << 20;
    int ret;

    if (s == NULL) {
        return -ENOMEM;
    }
    s->cfg = *cfg;
    stdvga_edid(s->edid);
    ret = vga_init(&s->v, b, cfg->vram_bytes, d, &stdvga_adapter, "stdvga");
    if (ret != 0) {
        free(s);
        return ret;
    }
    while (bar_size < s->v.h.size) {
        bar_size *= 2;
    }
    pci_init(&s->pci, b, &stdvga_ops, s, cfg->devfn, &id);
    pci_add_vram_bar(&s->pci, 0, bar_size, s->v.h.vram, &lfb_ops);
    pci_add_bar(&s->pci, 2, PCI_BAR_MEM, STDVGA_MMIO_SIZE, &mmio_ops);
    if (cfg->rom_len != 0) {
        pci_set_rom(&s->pci, cfg->rom, cfg->rom_len);
    }
    ret = bus_add(b->bus, BUS_PORT, 0x1ce, 4, &dispi_ops, s, "stdvga");
    if (ret > 0) {
        s->dispi_region = ret;
        ret = pci_finish(&s->pci);
    }
    if (ret != 0) {
        stdvga_destroy(s);
    }
    return ret;
}
