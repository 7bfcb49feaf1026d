/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/acpi_gpe.h"

#include <errno.h>
#include <stdlib.h>

#include "core/board.h"
#include "core/log.h"

/* Xen's DSDT (libacpi mk_dsdt.c) names all of this; nothing of it is in a chip's datasheet. ACPI
 * 2.0 4.7.4.1 for GPE0. */
enum { GPE_BASE = 0xafe0, GPE_LEN = 4, GPE_STS = 0, GPE_EN = 2 };
enum { GPE_PCI_HOTPLUG = 1 << 1, GPE_CPU_HOTPLUG = 1 << 2 };
enum pcihp_reg {
    PCIHP_BASE = 0xae00,
    PCIHP_UP = 0x00,    /* slots that were added */
    PCIHP_DOWN = 0x04,  /* slots to be given up */
    PCIHP_EJECT = 0x08, /* write 1 << slot; reads 0 */
    PCIHP_RMV = 0x0c,   /* removable slots, read only */
    PCIHP_LEN = 0x10,
};
enum { CPUMAP_BASE = 0xaf00, CPUMAP_LEN = 0x20, VCPUS_MAX = 128 };
enum { SCI_IRQ = 9, SLOTS = 32 };

struct acpi_gpe_regs {
    uint16_t sts, en;
    uint32_t up, down, removable;
    uint8_t cpumap[VCPUS_MAX / 8];
};

struct acpi_gpe {
    struct acpi_gpe_config cfg;
    struct acpi_gpe_regs r;
    struct {
        struct board *b;
        int gpe_region, pcihp_region, cpu_region;
    } h;
};

/* Re-issued on each evaluation while it is up, see `always` in irq.h. */
static void gpe_update_sci(struct acpi_gpe *g)
{
    irq_set(&g->h.b->isa_irq[SCI_IRQ], (g->r.sts & g->r.en) != 0);
}

static void gpe_raise(struct acpi_gpe *g, unsigned bit)
{
    g->r.sts |= (uint16_t)bit;
    gpe_update_sci(g);
}

static uint64_t gpe_read(void *dev, uint64_t offset, unsigned size)
{
    const struct acpi_gpe *g = dev;

    (void)size;
    return (offset < GPE_EN ? g->r.sts : g->r.en) >> 8 * (offset & 1) & 0xff;
}

static void gpe_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_gpe *g = dev;
    unsigned shift = 8 * (offset & 1);

    (void)size;
    if (offset < GPE_EN) {
        g->r.sts &= (uint16_t) ~(value << shift);
    } else {
        g->r.en = (uint16_t)((g->r.en & ~(0xffu << shift)) | value << shift);
    }
    gpe_update_sci(g);
}

static const struct io_ops gpe_ops = {.read = gpe_read, .write = gpe_write, .max_size = 1};

static uint64_t pcihp_read(void *dev, uint64_t offset, unsigned size)
{
    const struct acpi_gpe *g = dev;
    const uint32_t reg[4] = {g->r.up, g->r.down, 0, g->r.removable};
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;

        value |= (at < PCIHP_LEN ? reg[at / 4] >> 8 * (at % 4) & 0xff : 0xffull) << 8 * i;
    }
    return value;
}

static void pcihp_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_gpe *g = dev;
    uint32_t slots = 0;

    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;

        if (at / 4 == PCIHP_EJECT / 4) {
            slots |= (uint32_t)(value >> 8 * i & 0xff) << 8 * (at % 4);
        }
    }
    /* _EJ0 writes one bit; of several the lowest is taken, so that an access does a bounded amount
     * of work. */
    if (slots != 0) {
        unsigned slot = (unsigned)__builtin_ctz(slots);
        uint32_t bit = UINT32_C(1) << slot;

        g->r.up &= ~bit;
        g->r.down &= ~bit;
        if ((g->r.removable & bit) && g->cfg.eject) {
            g->cfg.eject(g->cfg.opaque, slot);
        }
    }
}

static const struct io_ops pcihp_ops = {.read = pcihp_read, .write = pcihp_write, .max_size = 4};

static uint64_t cpumap_read(void *dev, uint64_t offset, unsigned size)
{
    const struct acpi_gpe *g = dev;

    (void)size;
    return offset < sizeof(g->r.cpumap) ? g->r.cpumap[offset] : 0;
}

static void cpumap_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    (void)dev, (void)offset, (void)size, (void)value; /* read only */
}

static const struct io_ops cpumap_ops = {.read = cpumap_read, .write = cpumap_write, .max_size = 1};

void acpi_gpe_cpu_online(struct acpi_gpe *g, unsigned n)
{
    if (n < VCPUS_MAX) {
        g->r.cpumap[n / 8] |= (uint8_t)(1 << n % 8);
        gpe_raise(g, GPE_CPU_HOTPLUG);
    }
}

void acpi_gpe_pci_added(struct acpi_gpe *g, unsigned slot)
{
    if (slot < SLOTS) {
        g->r.up |= UINT32_C(1) << slot;
        gpe_raise(g, GPE_PCI_HOTPLUG);
    }
}

void acpi_gpe_pci_remove(struct acpi_gpe *g, unsigned slot)
{
    if (slot < SLOTS) {
        g->r.down |= UINT32_C(1) << slot;
        gpe_raise(g, GPE_PCI_HOTPLUG);
    }
}

void acpi_gpe_set_removable(struct acpi_gpe *g, unsigned slot, int removable)
{
    if (slot < SLOTS) {
        uint32_t bit = UINT32_C(1) << slot;

        g->r.removable = removable ? g->r.removable | bit : g->r.removable & ~bit;
    }
}

/* What is plugged in survives a reset: only the guest's view of events is cleared. */
static void acpi_gpe_reset(void *dev)
{
    struct acpi_gpe *g = dev;

    g->r.sts = g->r.en = 0;
    g->r.up = g->r.down = 0;
    gpe_update_sci(g);
}

static int acpi_gpe_state(void *dev, struct save_stream *s)
{
    struct acpi_gpe *g = dev;
    struct acpi_gpe_regs r = g->r;

    save_u16(s, &r.sts);
    save_u16(s, &r.en);
    save_u32(s, &r.up);
    save_u32(s, &r.down);
    save_u32(s, &r.removable);
    save_bytes(s, r.cpumap, sizeof(r.cpumap));
    if (s->loading) {
        if (s->error) {
            return -EINVAL;
        }
        g->r = r;
        gpe_update_sci(g);
    }
    return s->error;
}

static void acpi_gpe_destroy(void *dev)
{
    struct acpi_gpe *g = dev;

    bus_remove(g->h.b->bus, g->h.gpe_region);
    bus_remove(g->h.b->bus, g->h.pcihp_region);
    bus_remove(g->h.b->bus, g->h.cpu_region);
    free(g);
}

static const struct device_ops acpi_gpe_ops = {.name = "acpi-gpe",
                                               .version = 1,
                                               .reset = acpi_gpe_reset,
                                               .state = acpi_gpe_state,
                                               .destroy = acpi_gpe_destroy};

int acpi_gpe_create(struct board *b, const struct acpi_gpe_config *cfg, struct acpi_gpe **out)
{
    struct acpi_gpe *g = calloc(1, sizeof(*g));
    int rc;

    if (!g) {
        return -ENOMEM;
    }
    g->cfg = *cfg;
    g->h.b = b;
    g->r.removable = cfg->removable_slots;
    for (unsigned n = 0; n < cfg->vcpus_online && n < VCPUS_MAX; n++) {
        g->r.cpumap[n / 8] |= (uint8_t)(1 << n % 8);
    }
    rc = g->h.gpe_region = bus_add(b->bus, BUS_PORT, GPE_BASE, GPE_LEN, &gpe_ops, g, "acpi-gpe0");
    if (rc > 0) {
        rc = g->h.pcihp_region =
            bus_add(b->bus, BUS_PORT, PCIHP_BASE, PCIHP_LEN, &pcihp_ops, g, "acpi-pcihp");
    }
    if (rc > 0) {
        rc = g->h.cpu_region =
            bus_add(b->bus, BUS_PORT, CPUMAP_BASE, CPUMAP_LEN, &cpumap_ops, g, "acpi-cpumap");
    }
    if (rc > 0) {
        rc = board_add_device(b, &acpi_gpe_ops, g);
    }
    if (rc < 0) {
        acpi_gpe_destroy(g);
        return rc;
    }
    if (out) {
        *out = g;
    }
    return 0;
}
