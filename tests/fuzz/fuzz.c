/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "ui/input.h"

struct input {
    const uint8_t *p;
    size_t left;
};

static void take(struct input *in, void *buf, size_t n)
{
    size_t have = n < in->left ? n : in->left;

    memset(buf, 0, n);
    memcpy(buf, in->p, have);
    in->p += have;
    in->left -= have;
}

static uint8_t take8(struct input *in)
{
    uint8_t v;

    take(in, &v, sizeof(v));
    return v;
}

static uint16_t take16(struct input *in)
{
    uint16_t v;

    take(in, &v, sizeof(v));
    return v;
}

static uint32_t take32(struct input *in)
{
    uint32_t v;

    take(in, &v, sizeof(v));
    return v;
}

/* An address inside one of the ranges; false if there are none. */
static bool pick(struct input *in, const struct fuzz_range *ranges, uint64_t *addr)
{
    unsigned n = 0;
    unsigned i;
    uint32_t off;

    while (ranges != NULL && ranges[n].len != 0) {
        n++;
    }
    if (n == 0) {
        return false;
    }
    i = n > 1 ? take8(in) % n : 0;
    off = ranges[i].len <= 256 ? take8(in) : take32(in);
    *addr = ranges[i].base + off % ranges[i].len;
    return true;
}

/* An address inside a BAR of one of the fuzzed functions. */
static bool pick_bar(struct harness *h, struct input *in, const struct fuzz_device *dev,
                     enum bus_space *space, uint64_t *addr)
{
    const struct pci_device *pd;
    const struct pci_bar *bar;
    unsigned n = 0;
    uint32_t off;

    while (dev->devfns != NULL && dev->devfns[n] != 0xff) {
        n++;
    }
    if (n == 0) {
        return false;
    }
    pd = pci_find(h->board.pci, dev->devfns[take8(in) % n]);
    if (pd == NULL) {
        return false;
    }
    bar = &pd->bars[take8(in) % PCI_REGIONS];
    if (bar->addr == UINT64_MAX) {
        return false;
    }
    off = bar->size <= 256 ? take8(in) : take32(in);
    *addr = bar->addr + off % bar->size;
    *space = bar->kind == PCI_BAR_IO ? BUS_PORT : BUS_MMIO;
    return true;
}

static void access_bus(struct harness *h, struct input *in, enum bus_space space, uint64_t addr,
                       uint8_t op)
{
    static uint8_t block[4096 + 8];
    struct bus *bus = h->board.bus;
    unsigned size = 1u << ((op >> 4) % (space == BUS_PORT ? 3u : 4u));
    uint64_t value;
    unsigned count;

    switch (op & 3) {
    case 0:
        bus_read(bus, space, addr, size);
        break;
    case 1:
        take(in, &value, size == 8 ? 8 : size);
        bus_write(bus, space, addr, size, value);
        break;
    case 2:
        count = 1 + take16(in) % (4096 / size);
        bus_read_rep(bus, space, addr, size, block + (op >> 6), count);
        break;
    default:
        count = 1 + take16(in) % (4096 / size);
        memset(block, take8(in), sizeof(block));
        take(in, block, 16);
        bus_write_rep(bus, space, addr, size, block + (op >> 6), count);
        break;
    }
}

static void one_op(struct harness *h, struct input *in, const struct fuzz_device *dev)
{
    uint8_t op = take8(in);
    enum bus_space space;
    uint64_t addr;
    uint8_t bytes[64];

    switch (op % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        if (pick(in, dev->ports, &addr)) {
            access_bus(h, in, BUS_PORT, addr, take8(in));
        }
        break;
    case 5:
    case 6:
    case 7:
        if (pick(in, dev->mmio, &addr)) {
            access_bus(h, in, BUS_MMIO, addr, take8(in));
        }
        break;
    case 8:
    case 9:
        if (pick_bar(h, in, dev, &space, &addr)) {
            access_bus(h, in, space, addr, take8(in));
        }
        break;
    case 10:
        if (dev->devfns != NULL) {
            unsigned n = 0;
            uint8_t devfn;
            uint8_t reg;

            while (dev->devfns[n] != 0xff) {
                n++;
            }
            devfn = dev->devfns[take8(in) % (n != 0 ? n : 1)];
            reg = take8(in);
            pci_config_write(h->board.pci, devfn, reg, 1u << (op >> 6) % 3, take32(in));
            pci_config_read(h->board.pci, devfn, reg, 4);
        }
        break;
    case 11: /* RAM: mostly the first pages, so that descriptors and buffers meet */
        addr = take16(in) & 0x3fff;
        take(in, bytes, sizeof(bytes));
        memcpy(h->plat.ram + addr, bytes, sizeof(bytes));
        break;
    case 12:
        harness_step(h, take32(in) % 50000000);
        break;
    case 13:
    case 14:
        if (dev->event != NULL) {
            take(in, bytes, 8);
            dev->event(h, bytes);
        }
        break;
    default:
        if ((op >> 4) == 0) {
            board_reset(&h->board);
        } else if ((op >> 4) == 1) {
            if (!harness_save_load_save(h)) {
                abort(); /* no state that a guest can reach may be refused, or change, by being saved and loaded */
            }
        } else {
            harness_step(h, 0);
        }
        break;
    }
}

int fuzz_run(const struct fuzz_device *dev, const uint8_t *data, size_t size)
{
    struct harness *h = harness_create();
    struct input in = {data, size};

    dev->setup(h);
    for (int i = 0; i < FUZZ_MAX_OPS && in.left > 0; i++) {
        one_op(h, &in, dev);
        if (dev->check != NULL) {
            dev->check(h);
        }
    }
    harness_destroy(h);
    if (dev->teardown != NULL) {
        dev->teardown();
    }
    return 0;
}

/* ---- the input router, as a device ---- */

static void router_reset(void *dev)
{
    (void)dev;
}

static int router_state(void *dev, struct save_stream *s)
{
    (void)dev;
    return s->error;
}

static void router_gone(void *dev)
{
    input_destroy(dev);
}

struct input *fuzz_input(struct harness *h)
{
    static const struct device_ops ops = {.name = "input",
                                          .version = 1,
                                          .reset = router_reset,
                                          .state = router_state,
                                          .destroy = router_gone};
    struct input *in = input_create(h->loop);

    if (in == NULL || board_add_device(&h->board, &ops, in) != 0) {
        abort();
    }
    return in;
}
