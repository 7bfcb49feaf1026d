/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ioreq/ from the hypervisor's side, on tests/unit/xen/xen_fake.c: requests and ring entries of any content, pages that come and go
 * with and without INVALIDATE, I/O in flight, a video memory BAR that moves, stop and cont. After each input nothing may be left open
 * and no port masked.
 */
#include <stdlib.h>
#include <string.h>

#include "core/pci.h"
#include "ioreq/internal.h"
#include "tests/unit/xen/xen_fake.h"

enum { MAX_OPS = 300, WINDOW = 0xa0000, PORTS = 0x300, VRAM_BYTES = 1 << 20, DEVFN = PCI_DEVFN(2, 0) };

struct rig {
    struct loop *loop;
    struct platform *plat;
    struct board board;
    struct pci_device pd;
    struct vram *vram;
    uint8_t *held; /* a span under a hold */
    size_t held_len;
    uint8_t window[65536];
};

struct input {
    const uint8_t *p;
    size_t left;
};

static uint64_t take(struct input *in, size_t n)
{
    uint64_t v = 0;

    n = n < in->left ? n : in->left;
    memcpy(&v, in->p, n);
    in->p += n;
    in->left -= n;
    return v;
}

static uint64_t window_read(void *dev, uint64_t offset, unsigned size)
{
    struct rig *r = dev;
    uint64_t v = 0;

    memcpy(&v, r->window + (offset & 0xfff8), size);
    return v;
}

static void window_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct rig *r = dev;

    memcpy(r->window + (offset & 0xfff8), &value, size);
}

static unsigned window_read_rep(void *dev, uint64_t offset, unsigned size, void *buf, unsigned count)
{
    struct rig *r = dev;
    unsigned n = count < 64 ? count : 64;

    memset(buf, r->window[offset & 0xffff], (size_t)n * size);
    return n;
}

static unsigned window_write_rep(void *dev, uint64_t offset, unsigned size, const void *buf, unsigned count)
{
    struct rig *r = dev;

    memcpy(r->window, buf, (size_t)count * size < sizeof(r->window) ? (size_t)count * size : sizeof(r->window));
    return count - (unsigned)(offset & 1) * (count / 2);
}

static const struct io_ops window_ops = {.read = window_read,
                                         .write = window_write,
                                         .read_rep = window_read_rep,
                                         .write_rep = window_write_rep,
                                         .max_size = 8};
static const struct io_ops port_ops = {
    .read = window_read, .write = window_write, .read_rep = window_read_rep, .max_size = 2};

static void no_reset(void *dev)
{
    (void)dev;
}

static int no_state(void *dev, struct save_stream *s)
{
    (void)dev;
    return s->error;
}

static const struct pci_device_ops pci_ops = {
    .base = {.name = "rig", .version = 1, .reset = no_reset, .state = no_state, .destroy = no_reset}};

static void setup(struct rig *r)
{
    static const struct pci_config_id id = {.vendor = 0x1234, .device = 0x1111, .class_device = 0x0300};
    const struct platform_config cfg = {.domid = XF_DOMID, .ram_bytes = (uint64_t)XF_RAM_MIB << 20};
    char err[256];

    xf_create();
    r->loop = loop_create(true);
    r->plat = platform_open(r->loop, &cfg, err, sizeof(err));
    if (r->plat == NULL || board_init(&r->board, r->loop, r->plat, platform_guestmem(r->plat)) != 0 ||
        bus_add(r->board.bus, BUS_PORT, PORTS, 16, &port_ops, r, "ports") < 0 ||
        bus_add(r->board.bus, BUS_MMIO, WINDOW, 65536, &window_ops, r, "window") < 0 ||
        (r->vram = platform_vram_create(r->plat, VRAM_BYTES)) == NULL) {
        abort();
    }
    pci_init(&r->pd, &r->board, &pci_ops, r, DEVFN, &id);
    pci_add_vram_bar(&r->pd, 0, 2 * VRAM_BYTES, r->vram, &window_ops);
    if (pci_finish(&r->pd) != 0 || platform_start(r->plat, &r->board, err, sizeof(err)) != 0) {
        abort();
    }
    r->plat->spin_turns_per_us = 1; /* waiting for real time finds nothing here */
}

static void release(struct rig *r)
{
    if (r->held != NULL) {
        memset(r->held, 0x5a, r->held_len); /* the worker's write, at the last moment */
        guestmem_release(r->board.mem);
        r->held = NULL;
    }
}

static void teardown(struct rig *r)
{
    xf.fail[XF_MAP] = xf.fail[XF_RELOCATE] = 0;
    release(r);
    platform_set_running(r->plat, true);
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned n = 0; n < 100; n++) {
            loop_poll(r->loop, 0);
            for (unsigned v = 0; v < XF_VCPUS; v++) {
                xf_answered(v, NULL);
            }
        }
        loop_advance(r->loop, 1000000000);
    }
    for (unsigned i = 0; i < XF_PORTS; i++) {
        if (xf.port[i].masked) {
            abort(); /* this vCPU's next event would be lost */
        }
    }
    board_fini(&r->board);
    vram_destroy(r->vram);
    platform_close(r->plat);
    loop_destroy(r->loop);
    if (xf.bad_unmasks + xf.blocked != 0 || xf.handles != 0 || xf.maps != 0 || xf.resources != 0 || xf.servers != 0 ||
        xf.ports_bound != 0) {
        abort();
    }
    xf_destroy();
}

/* An address near something: the ends of RAM, the hole, the video memory, anywhere. */
static uint64_t address(struct input *in)
{
    static const uint64_t near[] = {0, 0x10000, WINDOW, 0xc0000, XF_RAM_MIB << 20, 0xf0000000, UINT64_C(1) << 32, UINT64_MAX - 0xfff};
    uint64_t kind = take(in, 1);

    return kind < 0x80 ? near[kind % 8] + take(in, 2) - (kind >> 3 & 1) * 0x1000 : take(in, 8);
}

static void request(struct rig *r, struct input *in)
{
    static const uint8_t types[] = {IOREQ_TYPE_PIO, IOREQ_TYPE_COPY, IOREQ_TYPE_PCI_CONFIG, IOREQ_TYPE_INVALIDATE};
    unsigned n = (unsigned)take(in, 1) % XF_VCPUS;
    uint8_t op = (uint8_t)take(in, 1);
    uint8_t type = op & 0x80 ? (uint8_t)take(in, 1) : types[op % 4];
    uint8_t flags = (uint8_t)(op << 1 & 0x70);
    uint32_t size = op & 4 ? (uint32_t)take(in, 4) : 1u << (take(in, 1) & 3);
    uint32_t count = op & 0x80 ? (uint32_t)take(in, 4) : 1 + (uint32_t)take(in, 2) % 4096;
    uint64_t addr = type == IOREQ_TYPE_PIO          ? PORTS + take(in, 1) % 32
                    : type == IOREQ_TYPE_PCI_CONFIG ? (uint64_t)DEVFN << 32 | take(in, 1)
                                                    : address(in);

    (void)r;
    if ((((uint8_t *)&xf.shared->vcpu_ioreq[n])[30] & 0x0f) == STATE_IOREQ_NONE) {
        xf_request(n, type, flags, addr, address(in), size, flags & XF_PTR ? count : count % 64);
    }
}

static void one_op(struct rig *r, struct input *in)
{
    uint8_t op = (uint8_t)take(in, 1);
    uint8_t bits[VRAM_BYTES / XF_PAGE / 8];
    uint64_t gfn;

    switch (op % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
        request(r, in);
        break;
    case 4: /* the BAR: the address, decoding */
        pci_config_write(r->board.pci, DEVFN, PCI_BAR0, 4, (uint32_t)take(in, 1) << 20 | (op & 0x80 ? 0xf0000000 : 0));
        pci_config_write(r->board.pci, DEVFN, PCI_COMMAND, 1, op >> 4);
        break;
    case 5:
        for (unsigned i = 0; i < 1 + op / 16u * 40; i++) {
            xf_buffered((uint8_t)take(in, 1), (uint32_t)(WINDOW + take(in, 2)), 1u << (op >> 4 & 3), take(in, 4));
        }
        break;
    case 6:
        xf_raise(op / 16 % (XF_VCPUS + 1));
        break;
    case 7:
    case 8:
        gfn = address(in) >> 12;
        if (op & 0x10) {
            xf_populate(gfn % XF_GFNS);
        } else {
            xf_balloon(gfn % XF_GFNS);
        }
        if (op & 0x20) {
            guestmem_invalidate(r->board.mem);
        }
        break;
    case 9:
        if (r->held == NULL) {
            guestmem_hold(r->board.mem);
            r->held = guestmem_span(r->board.mem, address(in), take(in, 2), &r->held_len);
            if (r->held == NULL) {
                guestmem_release(r->board.mem);
            }
        } else {
            release(r);
        }
        break;
    case 10:
        platform_set_running(r->plat, op & 0x10);
        break;
    case 11:
        loop_advance(r->loop, take(in, 4) % 100000000);
        break;
    case 12:
        if (op & 0x10) {
            unsigned first = (unsigned)take(in, 1);

            vram_dirty(r->vram, first, VRAM_BYTES / XF_PAGE - first, bits);
        } else {
            vram_dirty_stop(r->vram);
        }
        break;
    case 13:
        xf.fail[op & 0x10 ? XF_MAP : XF_RELOCATE] = op & 0x20 ? (op & 0x40 ? 3 /* ESRCH */ : 12 /* ENOMEM */) : 0;
        break;
    default:
        loop_poll(r->loop, 0);
        for (unsigned n = 0; n < XF_VCPUS; n++) {
            xf_answered(n, NULL);
        }
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct input in = {data, size};

    if (r == NULL) {
        abort();
    }
    setup(r);
    for (unsigned i = 0; i < MAX_OPS && in.left > 0; i++) {
        one_op(r, &in);
    }
    teardown(r);
    free(r);
    return 0;
}
