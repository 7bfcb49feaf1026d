/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/dma8237.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/board.h"

enum dma_reg { /* 8237A, figure 6 "register codes"; the second controller has them two ports apart */
               DMA_CHANNELS_END = 0x08, /* 0..7: address and count of channels 0..3 */
               DMA_STATUS = 0x08,       /* read */
               DMA_COMMAND = 0x08,      /* write */
               DMA_REQUEST = 0x09,
               DMA_MASK_READ =
                   0x09, /* DEVIATION: undefined in the datasheet; guests know this board to answer the mask here too */
               DMA_SINGLE_MASK = 0x0a,
               DMA_MODE = 0x0b,
               DMA_CLEAR_FF = 0x0c,
               DMA_MASTER_CLEAR = 0x0d,
               DMA_CLEAR_MASK = 0x0e,
               DMA_ALL_MASK = 0x0f, /* the PIIX3 lets it be read */
};

struct dma_channel {
    uint16_t base_addr, base_count;
    uint16_t addr, count; /* "current" */
    uint8_t mode;
};

struct dma_controller {
    struct dma_channel ch[4];
    uint8_t command, request, mask;
    bool flip_flop; /* false: next is the low byte */
};

struct dma8237_regs {
    struct dma_controller ctl[2];
    uint8_t page[16]; /* by port - 0x80; only those of the table below exist */
};

static const struct {
    uint8_t first, len;
} dma_pages[] = {{0x1, 3}, {0x7, 1}, {0x9, 3}, {0xf, 1}};
enum { DMA_PAGE_RANGES = 4, DMA_PAGE_BASE = 0x80 };

struct dma8237 {
    struct dma8237_regs r;
    struct {
        struct board *b;
        int region[2 + DMA_PAGE_RANGES];
    } h;
};

static uint8_t controller_read(struct dma_controller *c, unsigned reg)
{
    if (reg < DMA_CHANNELS_END) {
        const struct dma_channel *ch = &c->ch[reg / 2];
        unsigned v = reg & 1 ? ch->count : ch->addr;

        v = c->flip_flop ? v >> 8 : v;
        c->flip_flop = !c->flip_flop;
        return (uint8_t)v;
    }
    switch (reg) {
    case DMA_STATUS: /* requests; nothing ever reaches terminal count */
        return (uint8_t)(c->request << 4);
    case DMA_MASK_READ:
    case DMA_ALL_MASK:
        return c->mask;
    default: /* temporary register, and what can only be written */
        return 0;
    }
}

static void set_bit(uint8_t *v, unsigned n, bool on)
{
    *v = (uint8_t)(on ? *v | 1 << n : *v & ~(1 << n));
}

static void channel_write(struct dma_controller *c, unsigned reg, uint8_t value)
{
    struct dma_channel *ch = &c->ch[reg / 2];
    uint16_t *base = reg & 1 ? &ch->base_count : &ch->base_addr;
    unsigned shift = c->flip_flop ? 8 : 0;

    *base = (uint16_t)((*base & ~(0xffu << shift)) | (unsigned)value << shift);
    c->flip_flop = !c->flip_flop;
    ch->addr = ch->base_addr;
    ch->count = ch->base_count;
}

static void controller_write(struct dma_controller *c, unsigned reg, uint8_t value)
{
    switch (reg) {
    case DMA_COMMAND:
        c->command = value;
        break;
    case DMA_REQUEST:
        set_bit(&c->request, value & 3, value & 4);
        break;
    case DMA_SINGLE_MASK:
        set_bit(&c->mask, value & 3, value & 4);
        break;
    case DMA_MODE:
        c->ch[value & 3].mode = value & 0xfc;
        break;
    case DMA_CLEAR_FF:
        c->flip_flop = false;
        break;
    case DMA_MASTER_CLEAR:
        c->flip_flop = false;
        c->command = c->request = 0;
        c->mask = 0x0f;
        break;
    case DMA_CLEAR_MASK:
        c->mask = 0;
        break;
    case DMA_ALL_MASK:
        c->mask = value & 0x0f;
        break;
    default:
        channel_write(c, reg, value);
        break;
    }
}

static uint64_t dma1_read(void *dev, uint64_t offset, unsigned size)
{
    struct dma8237 *d = dev;

    (void)size;
    return controller_read(&d->r.ctl[0], offset & 15);
}

static void dma1_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct dma8237 *d = dev;

    (void)size;
    controller_write(&d->r.ctl[0], offset & 15, (uint8_t)value);
}

/* Address line 0 is not decoded. */
static uint64_t dma2_read(void *dev, uint64_t offset, unsigned size)
{
    struct dma8237 *d = dev;

    (void)size;
    return controller_read(&d->r.ctl[1], offset >> 1 & 15);
}

static void dma2_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct dma8237 *d = dev;

    (void)size;
    controller_write(&d->r.ctl[1], offset >> 1 & 15, (uint8_t)value);
}

/* One region per range, so the port's own number is found from the range's first byte, which is
 * what dev points to. */
static uint64_t page_read(void *dev, uint64_t offset, unsigned size)
{
    const uint8_t *page = dev;

    (void)size;
    return page[offset];
}

static void page_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    uint8_t *page = dev;

    (void)size;
    page[offset] = (uint8_t)value;
}

static const struct io_ops dma1_ops = {.read = dma1_read, .write = dma1_write, .max_size = 1};
static const struct io_ops dma2_ops = {.read = dma2_read, .write = dma2_write, .max_size = 1};
static const struct io_ops page_ops = {.read = page_read, .write = page_write, .max_size = 1};

static void dma8237_reset(void *dev)
{
    struct dma8237 *d = dev;

    d->r = (struct dma8237_regs){0};
    d->r.ctl[0].mask = d->r.ctl[1].mask = 0x0f;
}

static int dma8237_state(void *dev, struct save_stream *s)
{
    struct dma8237 *d = dev;
    struct dma8237_regs r = d->r;

    for (unsigned i = 0; i < 2; i++) {
        struct dma_controller *c = &r.ctl[i];

        for (unsigned n = 0; n < 4; n++) {
            save_u16(s, &c->ch[n].base_addr);
            save_u16(s, &c->ch[n].base_count);
            save_u16(s, &c->ch[n].addr);
            save_u16(s, &c->ch[n].count);
            save_u8(s, &c->ch[n].mode);
        }
        save_u8(s, &c->command);
        save_u8(s, &c->request);
        save_u8(s, &c->mask);
        save_bool(s, &c->flip_flop);
    }
    save_bytes(s, r.page, sizeof(r.page));
    if (s->loading) {
        if (s->error) {
            return -EINVAL;
        }
        for (unsigned i = 0; i < 2; i++) {
            if (r.ctl[i].request > 0x0f || r.ctl[i].mask > 0x0f) {
                return -EINVAL;
            }
        }
        d->r = r;
    }
    return s->error;
}

static void dma8237_destroy(void *dev)
{
    struct dma8237 *d = dev;

    for (unsigned i = 0; i < 2 + DMA_PAGE_RANGES; i++) {
        bus_remove(d->h.b->bus, d->h.region[i]);
    }
    free(d);
}

static const struct device_ops dma8237_ops = {.name = "dma8237",
                                              .version = 1,
                                              .reset = dma8237_reset,
                                              .state = dma8237_state,
                                              .destroy = dma8237_destroy};

int dma8237_create(struct board *b)
{
    struct dma8237 *d = calloc(1, sizeof(*d));
    int rc;

    if (!d) {
        return -ENOMEM;
    }
    d->h.b = b;
    rc = d->h.region[0] = bus_add(b->bus, BUS_PORT, 0x00, 0x10, &dma1_ops, d, "dma8237-1");
    if (rc > 0) {
        rc = d->h.region[1] = bus_add(b->bus, BUS_PORT, 0xc0, 0x20, &dma2_ops, d, "dma8237-2");
    }
    for (unsigned i = 0; i < DMA_PAGE_RANGES && rc > 0; i++) {
        unsigned first = dma_pages[i].first;

        rc = d->h.region[2 + i] = bus_add(b->bus, BUS_PORT, DMA_PAGE_BASE + first, dma_pages[i].len,
                                          &page_ops, &d->r.page[first], "dma8237-page");
    }
    if (rc > 0) {
        rc = board_add_device(b, &dma8237_ops, d);
    }
    if (rc < 0) {
        dma8237_destroy(d);
        return rc;
    }
    return 0;
}
