/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/piix3.h"

#include <errno.h>
#include <stdlib.h>

#include "core/board.h"
#include "core/pci.h"

enum piix3_reg { /* PIIX3 datasheet 2.2, function 0; from 0x40 on all bytes are kept as written */
                 PIIX3_IORT = 0x4c,
                 PIIX3_XBCS = 0x4e,
                 PIIX3_PIRQRCA = 0x60, /* .. 0x63, PIRQRC[A:D] */
                 PIIX3_TOM = 0x69,
                 PIIX3_MBIRQ0 = 0x70,
                 PIIX3_MBDMA0 = 0x76, /* .. 0x77 */
                 PIIX3_PCSC = 0x78,
                 PIIX3_SMICNTL = 0xa0,
                 PIIX3_FTMR = 0xa8,
};
enum {
    PIIX3_PIRQS = 4,
    PIRQRC_OFF = 0x80, /* routing disabled; else the IRQ in bits 3:0 */
};
enum port92_bit { P92_FAST_INIT = 0x01, P92_FAST_A20 = 0x02 };

static const struct {
    uint8_t reg, value;
} piix3_reset_values[] = {
    {PIIX3_IORT, 0x4d},
    {PIIX3_XBCS, 0x03},
    {PIIX3_PIRQRCA, PIRQRC_OFF},
    {PIIX3_PIRQRCA + 1, PIRQRC_OFF},
    {PIIX3_PIRQRCA + 2, PIRQRC_OFF},
    {PIIX3_PIRQRCA + 3, PIRQRC_OFF},
    {PIIX3_TOM, 0x02},
    {PIIX3_MBIRQ0, 0x80},
    {PIIX3_MBDMA0, 0x0c},
    {PIIX3_MBDMA0 + 1, 0x0c},
    {PIIX3_PCSC, 0x02},
    {PIIX3_SMICNTL, 0x08},
    {PIIX3_FTMR, 0x0f},
};

struct piix3_regs {
    uint8_t port92;
};

struct piix3 {
    struct pci_device pd;
    struct piix3_regs r;
    struct {
        int region;
    } h;
};

/* Xen's interrupt router does the work; it learns every write, also unchanged ones. */
static void piix3_route(struct piix3 *p, unsigned link)
{
    uint8_t v = p->pd.config[PIIX3_PIRQRCA + link];

    platform_pci_link(p->pd.board->plat, link, v & PIRQRC_OFF ? 0 : v & 0x0f);
}

static void piix3_config_written(void *dev, unsigned reg, unsigned size)
{
    for (unsigned link = 0; link < PIIX3_PIRQS; link++) {
        if (PIIX3_PIRQRCA + link >= reg && PIIX3_PIRQRCA + link < reg + size) {
            piix3_route(dev, link);
        }
    }
}

static uint64_t port92_read(void *dev, uint64_t offset, unsigned size)
{
    const struct piix3 *p = dev;

    (void)offset;
    (void)size;
    return p->r.port92;
}

static void port92_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct piix3 *p = dev;
    uint8_t old = p->r.port92;

    (void)offset;
    (void)size;
    /* DEVIATION: FAST_A20 is only kept, because Xen cannot mask address line 20 of a guest. */
    p->r.port92 = (uint8_t)value;
    if (~old & value & P92_FAST_INIT) {
        platform_shutdown(p->pd.board->plat, PLATFORM_REBOOT);
    }
}

static const struct io_ops port92_ops = {.read = port92_read, .write = port92_write, .max_size = 1};

static void piix3_reset(void *dev)
{
    struct piix3 *p = dev;

    p->r.port92 = 0; /* the routes follow with config_written */
}

static int piix3_state(void *dev, struct save_stream *s)
{
    struct piix3 *p = dev;
    struct piix3_regs r = p->r;

    save_u8(s, &r.port92);
    if (s->loading) {
        if (s->error) {
            return -EINVAL;
        }
        p->r = r;
    }
    return s->error;
}

static void piix3_destroy(void *dev)
{
    struct piix3 *p = dev;

    bus_remove(p->pd.board->bus, p->h.region);
    free(p);
}

static const struct pci_device_ops piix3_ops = {
    .base = {.name = "piix3",
             .version = 1,
             .reset = piix3_reset,
             .state = piix3_state,
             .destroy = piix3_destroy},
    .config_written = piix3_config_written,
};

static const struct pci_config_id piix3_id = {
    .vendor = 0x8086,
    .device = 0x7000,
    .class_device = 0x0601,
    .subsystem_vendor = 0x1af4,
    .subsystem = 0x1100,
    .multifunction = true,
};

int piix3_create(struct board *b)
{
    struct piix3 *p = calloc(1, sizeof(*p));
    int rc;

    if (!p) {
        return -ENOMEM;
    }
    pci_init(&p->pd, b, &piix3_ops, p, PCI_DEVFN(1, 0), &piix3_id);
    pci_set16(p->pd.config, PCI_STATUS, 0x0200); /* DEVSEL# timing medium */
    for (size_t i = 0; i < sizeof(piix3_reset_values) / sizeof(piix3_reset_values[0]); i++) {
        p->pd.config[piix3_reset_values[i].reg] = piix3_reset_values[i].value;
    }
    rc = bus_add(b->bus, BUS_PORT, 0x92, 1, &port92_ops, p, "port92");
    if (rc < 0) {
        free(p);
        return rc;
    }
    p->h.region = rc;
    rc = pci_finish(&p->pd);
    if (rc < 0) {
        bus_remove(b->bus, p->h.region);
        free(p);
    }
    return rc;
}
