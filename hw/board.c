/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only list of the machine's devices. Ports and memory of each are registered by the device
 * itself; where to look:
 *
 *     slot    device                       file
 *     00.0    82441FX host bridge          hw/i440fx.c     0xcf8-0xcfb (0xcf9 reset)
 *     01.0    82371SB ISA bridge           hw/piix3.c      PIRQ routing; 0x92
 *     01.1    PIIX3 IDE                    hw/piix_ide.c   bus master BAR
 *                                          hw/ide.c        0x1f0-0x1f7, 0x3f6, 0x170-0x177, 0x376
 *     01.2    PIIX3 USB (usb=, usbdevice=) hw/uhci.c    I/O BAR; hw/board_usb.c lists what can be plugged in
 *     01.3    82371AB power management     hw/piix4_pm.c   0xb000-0xb03f, 0xb2-0xb3
 *     02.0    Xen platform (machine xenfv) hw/xen_platform.c  0x10-0x1f
 *     next    VGA                          hw/vga.c        0x3b4-0x3df, 0xa0000-0xbffff
 *                                          hw/stdvga.c     0x1ce-0x1cf; or hw/cirrus.c
 *     next    USB (usbversion=1, 3)        hw/uhci.c, hw/xhci*.c; at run time (usbctrl=) in a free slot
 *     1d.7    USB 2 (usbversion=2)         hw/ehci.c, hw/ehci_sched.c   memory BAR
 *     1d.0-2  its companions               hw/uhci.c
 *     next    network cards                hw/rtl8139.c, hw/e1000.c
 *     next    SATA (hdtype="ahci")         hw/ahci.c
 *     ISA     CMOS 14-127                  hw/cmos.c       0x70-0x71
 *             8042, keyboard, mouse        hw/i8042.c, hw/ps2.c   0x60, 0x64
 *             16550A                       hw/serial.c     0x3f8, 0x2f8, 0x3e8, 0x2e8
 *             8237 DMA                     hw/dma8237.c    0x00-0x0f, 0xc0-0xdf, page registers
 *             floppy controller, no drives hw/fdc.c        0x3f1-0x3f5, 0x3f7
 *             ACPI GPE0, hot-plug          hw/acpi_gpe.c   0xafe0, 0xae00, 0xaf00
 *
 * Slots are fixed by core/options.c in QEMU's order, so that an installed guest does not notice the
 * change. Not here because Xen has them: PIC, PIT, port 0x61, RTC bytes 0-13, HPET, APICs, PM
 * timer. Not here because nobody needs them: 0x80 and 0xf0 (Xen drops unclaimed writes without a
 * trip to us).
 */
#include "hw/board.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/block.h"
#include "core/log.h"
#include "core/options.h"
#include "core/pci.h"
#include "hw/acpi_gpe.h"
#include "hw/ahci.h"
#include "hw/board_usb.h"
#include "hw/cmos.h"
#include "hw/dma8237.h"
#include "hw/e1000.h"
#include "hw/fdc.h"
#include "hw/i440fx.h"
#include "hw/i8042.h"
#include "hw/piix3.h"
#include "hw/piix4_pm.h"
#include "hw/piix_ide.h"
#include "hw/rtl8139.h"
#include "hw/serial.h"
#include "hw/vga.h"
#include "hw/xen_platform.h"
#include "net/net.h"

enum {
    DEVFN_IDE = PCI_DEVFN(1, 1),
    MIB = 1 << 20,
    VGAMEM_CIRRUS_MIB = 8, /* libxl's defaults for videoram= */
    VGAMEM_STD_MIB = 16,
};
#define RAM_BELOW_4G_MAX UINT64_C(0xf0000000)

static void unplug_nics(struct board_handles *handles)
{
    for (unsigned i = 0; i < handles->nic_count; i++) {
        struct pci_device *pd = pci_find(handles->pci, handles->nic_devfn[i]);

        if (pd != NULL) {
            pci_unplug(pd);
        }
        if (handles->parts->net[i] != NULL) {
            net_shut(handles->parts->net[i]); /* the PV back end takes the bridge's port over */
        }
    }
    handles->nic_count = 0;
}

static void unplug(void *opaque, unsigned mask)
{
    struct board_handles *handles = opaque;

    if (mask & XEN_UNPLUG_NICS) {
        unplug_nics(handles);
    }
    if (mask & (XEN_UNPLUG_DISKS | XEN_UNPLUG_AUX_DISKS)) {
        bool keep_first = !(mask & XEN_UNPLUG_DISKS);

        piix_ide_unplug(handles->ide, keep_first);
        if (handles->ahci != NULL) {
            ahci_unplug(handles->ahci, keep_first);
        }
        handles->disks_unplugged(handles->opaque, keep_first);
    }
}

/* Only USB controllers are given up. */
static void eject(void *opaque, unsigned slot)
{
    const struct board_handles *handles = opaque;

    board_usb_eject(handles->usb, slot);
}

static void sleep_state(void *opaque, unsigned state)
{
    if (state == 3) {
        cmos_set(opaque, CMOS_SHUTDOWN, CMOS_SHUTDOWN_S3_RESUME);
    }
}

static void describe_drives(struct ide_drive_config *drives, const struct option_drive *const *d,
                            struct block *const *media, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        drives[i].index = i;
        if (d[i] == NULL) {
            continue;
        }
        drives[i].present = true;
        drives[i].cdrom = d[i]->cdrom;
        drives[i].readonly = d[i]->readonly || d[i]->cdrom;
        drives[i].medium = media[i];
        drives[i].serial = d[i]->serial;
        snprintf(drives[i].id, sizeof(drives[i].id), "%s", d[i]->id);
    }
}

static int create_ide(struct board *b, const struct board_parts *parts, struct board_handles *out)
{
    struct ide_drive_config drives[BOARD_IDE_DRIVES] = {0};

    describe_drives(drives, parts->ide, parts->ide_medium, BOARD_IDE_DRIVES);
    return piix_ide_create(b, DEVFN_IDE, drives, &out->ide);
}

static int create_ahci(struct board *b, const struct options *o, const struct board_parts *parts,
                       struct board_handles *out)
{
    struct ide_drive_config drives[BOARD_AHCI_DRIVES] = {0};

    if (!o->ahci.present) {
        return 0;
    }
    describe_drives(drives, parts->ahci, parts->ahci_medium, BOARD_AHCI_DRIVES);
    return ahci_create(b, o->ahci.devfn, drives, &out->ahci);
}

static int create_cmos(struct board *b, const struct options *o, const struct piix_ide *ide,
                       struct cmos **cmos)
{
    uint64_t limit = o->max_ram_below_4g != 0 ? o->max_ram_below_4g : RAM_BELOW_4G_MAX;
    uint64_t ram = (uint64_t)o->mem_mib * MIB;
    struct cmos_config cfg = {
        .ram_below_4g_bytes = ram < limit ? ram : limit,
        .ram_above_4g_bytes = ram < limit ? 0 : ram - limit,
        .boot = o->boot_order,
    };

    for (unsigned i = 0; i < BOARD_IDE_DRIVES; i++) {
        struct ide_drive_info info;

        if (piix_ide_info(ide, i, &info) && !info.cdrom) {
            cfg.disks[i] = (struct cmos_disk){info.cylinders, info.heads, info.sectors};
        }
    }
    return cmos_create(b, &cfg, cmos);
}

static int create_vga(struct board *b, const struct options *o, const struct board_parts *parts)
{
    struct vga_config cfg = {
        .devfn = o->vga.devfn, .rom = parts->vga_rom.data, .rom_len = parts->vga_rom.len};
    uint32_t mib = o->vga.vgamem_mb;

    switch (o->vga.kind) {
    case OPTION_VGA_CIRRUS:
        cfg.vram_bytes = (mib != 0 ? mib : VGAMEM_CIRRUS_MIB) * MIB;
        return cirrus_create(b, &cfg, parts->display);
    case OPTION_VGA_STD:
        cfg.vram_bytes = (mib != 0 ? mib : VGAMEM_STD_MIB) * MIB;
        return stdvga_create(b, &cfg, parts->display);
    default:
        return 0;
    }
}

static int create_rtl8139(struct board *b, const struct option_nic *nic, const struct rom *rom,
                          struct net *net)
{
    struct rtl8139_config cfg = {.devfn = nic->devfn, .rom = rom->data, .rom_len = rom->len};

    memcpy(cfg.mac, nic->mac, sizeof(cfg.mac));
    return rtl8139_create(b, &cfg, net);
}

static int create_e1000(struct board *b, const struct option_nic *nic, const struct rom *rom,
                        struct net *net)
{
    struct e1000_config cfg = {.devfn = nic->devfn, .rom = rom->data, .rom_len = rom->len};

    memcpy(cfg.mac, nic->mac, sizeof(cfg.mac));
    return e1000_create(b, &cfg, net);
}

/* The models that core/options_check.c lets through. */
static int create_nic(struct board *b, const struct option_nic *nic, const struct rom *rom,
                      struct net *net)
{
    static const struct {
        const char *model;
        int (*create)(struct board *b, const struct option_nic *nic, const struct rom *rom,
                      struct net *net);
    } models[] = {
        {"rtl8139", create_rtl8139},
        {"e1000", create_e1000},
        {"e1000-82540em", create_e1000},
    };

    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        if (strcmp(models[i].model, nic->model) == 0) {
            return models[i].create(b, nic, rom, net);
        }
    }
    return -ENOTSUP;
}

int board_populate(struct board *b, const struct options *o, const struct board_parts *parts,
                   struct board_handles *handles, char *err, size_t errlen)
{
    struct cmos *cmos = NULL;
    struct piix4_pm_config pm = {
        .com1 = parts->serial[0] != NULL,
        .com2 = parts->serial[1] != NULL,
        .sci_fixed = o->machine == OPTION_MACHINE_PC,
        .sleep = sleep_state,
    };
    const struct acpi_gpe_config gpe = {
        .vcpus_online = o->vcpus_online,
        /* The chipset and the screen stay (contract hypervisor.md 2.2, PCI hotplug). */
        .removable_slots =
            ~(1u << 0 | 1u << 1 | (o->vga.kind != OPTION_VGA_NONE ? 1u << (o->vga.devfn >> 3) : 0)),
        .eject = eject,
        .opaque = handles,
    };
    struct acpi_gpe *gpe_block;
    char why[256];
    struct xen_platform_config platform = {.devfn = o->xen_platform_devfn, .unplug = unplug};
    const char *what;
    int ret;

#define CREATE(name, call)                                                                         \
    do {                                                                                           \
        what = (name);                                                                             \
        ret = (call);                                                                              \
        if (ret != 0) {                                                                            \
            goto fail;                                                                             \
        }                                                                                          \
    } while (0)

    CREATE("host bridge", i440fx_create(b, (uint64_t)o->mem_mib * MIB));
    CREATE("ISA bridge", piix3_create(b));
    CREATE("IDE controller", create_ide(b, parts, handles));
    CREATE("CMOS", create_cmos(b, o, handles->ide, &cmos));
    pm.opaque = cmos;
    CREATE("power management", piix4_pm_create(b, &pm));
    CREATE("ACPI GPE block", acpi_gpe_create(b, &gpe, &gpe_block));
    CREATE("DMA controller", dma8237_create(b));
    CREATE("floppy controller", fdc_create(b));
    CREATE("keyboard controller", i8042_create(b, parts->input));
    for (unsigned i = 0; i < BOARD_SERIALS; i++) {
        if (parts->serial[i] != NULL) {
            CREATE("serial port", serial_create(b, i, parts->serial[i]));
        }
    }
    if (o->xen_platform) {
        platform.opaque = handles;
        CREATE("xen-platform", xen_platform_create(b, &platform));
    }
    CREATE("VGA adapter and its video memory (videoram=, vgamem_mb=)", create_vga(b, o, parts));
    ret = board_usb_create(b, o, parts->input, gpe_block, &handles->usb, why, sizeof(why));
    if (ret != 0) {
        snprintf(err, errlen, "cannot create the USB devices: %s", why);
        return ret;
    }
    handles->pci = b->pci;
    handles->parts = parts;
    for (unsigned i = 0; i < o->nic_count; i++) {
        CREATE("network card", create_nic(b, &o->nics[i], &parts->nic_rom[i], parts->net[i]));
        handles->nic_devfn[handles->nic_count++] = o->nics[i].devfn;
    }
    CREATE("SATA controller", create_ahci(b, o, parts, handles));
    if (o->pvdevice.present) {
        CREATE("xen-pvdevice", xen_pvdevice_create(b, o->pvdevice.devfn, o->pvdevice.device_id,
                                                   o->pvdevice.revision));
    }
#undef CREATE
    return 0;

fail:
    snprintf(err, errlen, "cannot create the %s: %s", what, strerror(-ret));
    return ret;
}
