/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The small parts of the board together, as they sit next to each other's ports: host bridge, ISA bridge, power
 * management, GPE, CMOS, DMA, floppy controller and the Xen platform device. */
#include <stdlib.h>

#include "hw/acpi_gpe.h"
#include "hw/cmos.h"
#include "hw/dma8237.h"
#include "hw/fdc.h"
#include "hw/i440fx.h"
#include "hw/piix3.h"
#include "hw/piix4_pm.h"
#include "hw/xen_platform.h"
#include "tests/fuzz/fuzz.h"

static struct acpi_gpe *gpe;
static struct cmos *cmos;
static struct harness *board;

static void must(int rc)
{
    if (rc != 0) {
        abort();
    }
}

static void on_eject(void *opaque, unsigned slot)
{
    struct pci_device *pd = slot < 32 ? pci_find(board->board.pci, PCI_DEVFN(slot, 0)) : NULL;

    (void)opaque;
    if (slot <= 2) {
        abort(); /* never removable here */
    }
    if (pd) {
        pci_unplug(pd);
    }
}

static void on_unplug(void *opaque, unsigned mask)
{
    (void)opaque;
    if (mask == 0 || mask > 0x0f || (mask & 5) == 5) {
        abort();
    }
    acpi_gpe_pci_remove(gpe, mask);
}

static void on_sleep(void *opaque, unsigned state)
{
    (void)opaque;
    if (state != 3 && state != 5) {
        abort();
    }
    cmos_set(cmos, CMOS_SHUTDOWN, CMOS_SHUTDOWN_S3_RESUME);
}

static void setup(struct harness *h)
{
    struct board *b = &h->board;

    board = h;
    must(i440fx_create(b, UINT64_C(256) << 20));
    must(piix3_create(b));
    must(piix4_pm_create(b, &(struct piix4_pm_config){.com1 = true, .sleep = on_sleep}));
    must(acpi_gpe_create(b, &(struct acpi_gpe_config){.vcpus_online = 2, .removable_slots = 0xfffffff8, .eject = on_eject},
                         &gpe));
    must(cmos_create(b, &(struct cmos_config){.ram_below_4g_bytes = 256 << 20, .boot = "dc", .disks = {{1024, 16, 63}}},
                     &cmos));
    must(dma8237_create(b));
    must(fdc_create(b));
    must(xen_platform_create(b, &(struct xen_platform_config){.devfn = PCI_DEVFN(2, 0), .unplug = on_unplug}));
    must(xen_pvdevice_create(b, PCI_DEVFN(3, 0), 0xc000, 1));
}

static void event(struct harness *h, const uint8_t bytes[8])
{
    (void)h;
    switch (bytes[0] & 3) {
    case 0:
        acpi_gpe_cpu_online(gpe, bytes[1]);
        break;
    case 1:
        acpi_gpe_pci_added(gpe, bytes[1]);
        break;
    case 2:
        acpi_gpe_pci_remove(gpe, bytes[1]);
        break;
    default:
        acpi_gpe_set_removable(gpe, 3 + bytes[1] % 40, bytes[2] & 1);
        break;
    }
}

static const struct fuzz_range ports[] = {
    {0x00, 0x20}, {0x70, 2},      {0x80, 0x13},   {0xb0, 6},     {0xc0, 0x20}, {0xcf8, 8},
    {0xae00, 20}, {0xaf00, 0x24}, {0xafe0, 6},    {0xb000, 16},  {0x3f0, 8}, {0, 0},
};
static const struct fuzz_range mmio[] = {{0xf2000000, 0x10000}, {0, 0}};
static const uint8_t devfns[] = {PCI_DEVFN(0, 0), PCI_DEVFN(1, 0), PCI_DEVFN(1, 3), PCI_DEVFN(2, 0), PCI_DEVFN(3, 0), 0xff};

FUZZ_DEVICE(.setup = setup, .ports = ports, .mmio = mmio, .devfns = devfns, .event = event)
