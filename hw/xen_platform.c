/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/xen_platform.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/board.h"
#include "core/log.h"
#include "core/pci.h"

enum { FIXED_BASE = 0x10, FIXED_LEN = 0x10 };
enum fixed_reg { /* offsets from port 0x10; what is there depends on the size of the access */
                 FIXED_MAGIC =
                     0, /* 2 bytes: read 0x49d2, write the unplug mask; 1 byte: flags; write 4: driver build number */
                 FIXED_VERSION =
                     2, /* 1 byte: read the protocol version, write a log character; write 2: product number */
};
enum {
    MAGIC = 0x49d2,
    PROTOCOL_VERSION = 1,
    UNPLUG_BITS = XEN_UNPLUG_DISKS | XEN_UNPLUG_NICS | XEN_UNPLUG_AUX_DISKS | XEN_UNPLUG_NVME,
    FLAG_ROM_LOCKED = 1,
    ROM_GFN = 0xc0, /* 0xc0000-0xfffff */
    ROM_PAGES = 0x40,
};
enum bar0_reg {
    BAR0_FLAGS = 0,
    BAR0_UNPLUG_ALL = 4,
    BAR0_UNPLUG = 8
}; /* drivers older than the fixed ports */
enum { BAR0_LEN = 0x100, BAR1_LEN = 16 << 20, PVDEVICE_BAR1_LEN = 4 << 20 };
enum { LOG_LINE = 4095 };

struct xen_platform_regs {
    uint8_t flags;
    uint16_t product;
    uint32_t build;
};

struct xen_platform {
    struct pci_device pd;
    struct xen_platform_config cfg;
    struct xen_platform_regs r;
    struct {
        int region;
        struct log_limit limit;
        unsigned line_len;
        char line[LOG_LINE];
    } h;
};

/* The lock lives in the guest's page types and is not part of what Xen saves. */
static void set_flags(struct xen_platform *x, uint8_t flags)
{
    static struct log_limit limit;
    uint8_t old = x->r.flags;
    int rc;

    flags &= FLAG_ROM_LOCKED;
    if (flags == old) {
        return;
    }
    rc = platform_set_readonly(x->pd.board->plat, ROM_GFN, ROM_PAGES, flags & FLAG_ROM_LOCKED);
    if (rc < 0) {
        log_limited(&limit, "xen-platform: cannot change the protection of the ROM area (%d)", rc);
        return;
    }
    x->r.flags = flags;
}

static void log_char(struct xen_platform *x, char c)
{
    if (c != '\n') {
        x->h.line[x->h.line_len++] = c;
    }
    if (c == '\n' || x->h.line_len == LOG_LINE) {
        log_guest(&x->h.limit, "xen-platform", x->h.line, x->h.line_len);
        x->h.line_len = 0;
    }
}

static void unplug(struct xen_platform *x, unsigned mask)
{
    mask &= UNPLUG_BITS;
    if (mask & XEN_UNPLUG_DISKS) {
        mask &= ~(unsigned)XEN_UNPLUG_AUX_DISKS;
    }
    if (mask != 0 && x->cfg.unplug) {
        trace("xen_platform", "unplug", "mask %#x", mask);
        x->cfg.unplug(x->cfg.opaque, mask);
    }
}

static uint64_t fixed_read(void *dev, uint64_t offset, unsigned size)
{
    const struct xen_platform *x = dev;

    if (offset == FIXED_MAGIC && size == 2) {
        return MAGIC;
    }
    if (offset == FIXED_MAGIC && size == 1) {
        return x->r.flags;
    }
    if (offset == FIXED_VERSION && size == 1) {
        return PROTOCOL_VERSION;
    }
    return UINT64_MAX;
}

static void fixed_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct xen_platform *x = dev;

    switch (offset << 4 | size) {
    case FIXED_MAGIC << 4 | 1:
        set_flags(x, (uint8_t)value);
        break;
    case FIXED_MAGIC << 4 | 2:
        unplug(x, (unsigned)value);
        break;
    case FIXED_MAGIC << 4 | 4:
        x->r.build = (uint32_t)value;
        break;
    case FIXED_VERSION << 4 | 1:
        log_char(x, (char)value);
        break;
    case FIXED_VERSION << 4 | 2:
        x->r.product = (uint16_t)value;
        trace("xen_platform", "driver", "product %u build %u", x->r.product, x->r.build);
        break;
    default:
        break;
    }
}

static const struct io_ops fixed_ops = {.read = fixed_read, .write = fixed_write, .max_size = 4};

static uint64_t bar0_read(void *dev, uint64_t offset, unsigned size)
{
    const struct xen_platform *x = dev;

    (void)size;
    return offset == BAR0_FLAGS ? x->r.flags : 0xff;
}

static void bar0_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct xen_platform *x = dev;

    (void)size;
    switch (offset) {
    case BAR0_FLAGS:
        set_flags(x, (uint8_t)value);
        break;
    case BAR0_UNPLUG_ALL:
        if (value == 1) {
            unplug(x, XEN_UNPLUG_DISKS | XEN_UNPLUG_NICS);
        }
        break;
    case BAR0_UNPLUG:
        if (value == 1) {
            unplug(x, XEN_UNPLUG_DISKS);
        } else if (value == 2) {
            unplug(x, XEN_UNPLUG_NICS);
        } else {
            log_char(x, (char)value);
        }
        break;
    default:
        break;
    }
}

static const struct io_ops bar0_ops = {.read = bar0_read, .write = bar0_write, .max_size = 1};

/* Address space that guests map their own pages over. */
static uint64_t space_read(void *dev, uint64_t offset, unsigned size)
{
    (void)dev, (void)offset, (void)size;
    return 0;
}

static void space_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    (void)dev, (void)offset, (void)size, (void)value;
}

static const struct io_ops space_ops = {.read = space_read, .write = space_write, .max_size = 8};

static void xen_platform_reset(void *dev)
{
    struct xen_platform *x = dev;

    set_flags(x, 0);
    x->r = (struct xen_platform_regs){0};
    x->h.line_len = 0;
}

static int xen_platform_state(void *dev, struct save_stream *s)
{
    struct xen_platform *x = dev;
    struct xen_platform_regs r = x->r;

    save_u8(s, &r.flags);
    save_u16(s, &r.product);
    save_u32(s, &r.build);
    if (s->loading) {
        if (s->error || (r.flags & ~FLAG_ROM_LOCKED)) {
            return -EINVAL;
        }
        x->r.product = r.product;
        x->r.build = r.build;
        set_flags(x, r.flags);
    }
    return s->error;
}

static void xen_platform_destroy(void *dev)
{
    struct xen_platform *x = dev;

    bus_remove(x->pd.board->bus, x->h.region);
    free(x);
}

static const struct pci_device_ops xen_platform_ops = {
    .base = {.name = "xen-platform",
             .version = 1,
             .reset = xen_platform_reset,
             .state = xen_platform_state,
             .destroy = xen_platform_destroy},
};

static const struct pci_config_id xen_platform_id = {
    .vendor = 0x5853,
    .device = 0x0001,
    .class_device = 0xff80,
    .revision = 1,
    .subsystem_vendor = 0x5853,
    .subsystem = 0x0001,
    .interrupt_pin =
        1, /* never driven by us: guests take Xen's event channel interrupt through it */
};

int xen_platform_create(struct board *b, const struct xen_platform_config *cfg)
{
    struct xen_platform *x = calloc(1, sizeof(*x));
    int rc;

    if (!x) {
        return -ENOMEM;
    }
    x->cfg = *cfg;
    pci_init(&x->pd, b, &xen_platform_ops, x, cfg->devfn, &xen_platform_id);
    pci_add_bar(&x->pd, 0, PCI_BAR_IO, BAR0_LEN, &bar0_ops);
    pci_add_bar(&x->pd, 1, PCI_BAR_MEM_PREFETCH, BAR1_LEN, &space_ops);
    rc = bus_add(b->bus, BUS_PORT, FIXED_BASE, FIXED_LEN, &fixed_ops, x, "xen-platform");
    if (rc < 0) {
        free(x);
        return rc;
    }
    x->h.region = rc;
    rc = pci_finish(&x->pd);
    if (rc < 0) {
        bus_remove(b->bus, x->h.region);
        free(x);
    }
    return rc;
}

static void pvdevice_reset(void *dev)
{
    (void)dev; /* configuration space is all there is */
}

static int pvdevice_state(void *dev, struct save_stream *s)
{
    (void)dev;
    return s->error;
}

static const struct pci_device_ops pvdevice_ops = {
    .base = {.name = "xen-pvdevice",
             .version = 1,
             .reset = pvdevice_reset,
             .state = pvdevice_state,
             .destroy = free},
};

int xen_pvdevice_create(struct board *b, uint8_t devfn, uint16_t device_id, uint8_t revision)
{
    const struct pci_config_id id = {
        .vendor = 0x5853,
        .device = device_id,
        .class_device = 0xff80,
        .revision = revision,
        .subsystem_vendor = 0x5853,
        .subsystem = device_id,
    };
    struct pci_device *pd = calloc(1, sizeof(*pd));
    int rc;

    if (!pd) {
        return -ENOMEM;
    }
    pci_init(pd, b, &pvdevice_ops, pd, devfn, &id);
    pci_add_bar(pd, 1, PCI_BAR_MEM_PREFETCH, PVDEVICE_BAR1_LEN, &space_ops);
    rc = pci_finish(pd);
    if (rc < 0) {
        free(pd);
    }
    return rc;
}
