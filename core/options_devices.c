/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the command line that is hardware: -device, -usbdevice, PCI slots; and the resolving
 * of it all. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/options_parse.h"

static const struct device_kind device_kinds[] = {
    {"VGA", CLASS_VGA, true, OPTION_VGA_STD},
    {"cirrus-vga", CLASS_VGA, true, OPTION_VGA_CIRRUS},
    {"qxl-vga", CLASS_VGA, true, OPTION_VGA_QXL},
    {"qxl", CLASS_VGA, true, OPTION_VGA_QXL},
    {"vmware-svga", CLASS_VGA, true, OPTION_VGA_OTHER},
    {"virtio-vga", CLASS_VGA, true, OPTION_VGA_OTHER},
    {"bochs-display", CLASS_VGA, true, OPTION_VGA_OTHER},
    {"rtl8139", CLASS_NIC, true, 0},
    {"e1000", CLASS_NIC, true, 0},
    {"e1000-82540em", CLASS_NIC, true, 0},
    {"e1000-82544gc", CLASS_NIC, true, 0},
    {"e1000-82545em", CLASS_NIC, true, 0},
    {"e1000e", CLASS_NIC, true, 0},
    {"virtio-net", CLASS_NIC, true, 0},
    {"virtio-net-pci", CLASS_NIC, true, 0},
    {"ne2k_pci", CLASS_NIC, true, 0},
    {"pcnet", CLASS_NIC, true, 0},
    {"vmxnet3", CLASS_NIC, true, 0},
    {"i82551", CLASS_NIC, true, 0},
    {"i82557b", CLASS_NIC, true, 0},
    {"i82559er", CLASS_NIC, true, 0},
    {"tulip", CLASS_NIC, true, 0},
    {"ide-hd", CLASS_IDE, false, false},
    {"ide-cd", CLASS_IDE, false, true},
    {"scsi-hd", CLASS_SCSI_DISK, false, false},
    {"scsi-cd", CLASS_SCSI_DISK, false, true},
    {"ahci", CLASS_AHCI, true, 0},
    {"ich9-ahci", CLASS_AHCI, true, 0},
    {"lsi53c895a", CLASS_SCSI, true, 0},
    {"lsi", CLASS_SCSI, true, 0},
    {"piix3-usb-uhci", CLASS_USB_CONTROLLER, true, 0},
    {"piix4-usb-uhci", CLASS_USB_CONTROLLER, true, 0},
    {"ich9-usb-ehci1", CLASS_USB_CONTROLLER, true, 0},
    {"ich9-usb-uhci1", CLASS_USB_CONTROLLER, true, 0},
    {"ich9-usb-uhci2", CLASS_USB_CONTROLLER, true, 0},
    {"ich9-usb-uhci3", CLASS_USB_CONTROLLER, true, 0},
    {"usb-ehci", CLASS_USB_CONTROLLER, true, 0},
    {"nec-usb-xhci", CLASS_USB_CONTROLLER, true, 0},
    {"qemu-xhci", CLASS_USB_CONTROLLER, true, 0},
    {"usb-tablet", CLASS_USB_DEVICE, false, 0},
    {"usb-mouse", CLASS_USB_DEVICE, false, 0},
    {"usb-kbd", CLASS_USB_DEVICE, false, 0},
    {"usb-hub", CLASS_USB_DEVICE, false, 0},
    {"usb-host", CLASS_USB_DEVICE, false, 0},
    {"usb-storage", CLASS_USB_DEVICE, false, 0},
    {"ac97", CLASS_SOUND, true, 0},
    {"AC97", CLASS_SOUND, true, 0},
    {"es1370", CLASS_SOUND, true, 0},
    {"ES1370", CLASS_SOUND, true, 0},
    {"intel-hda", CLASS_SOUND, true, 0},
    {"hda-duplex", CLASS_SOUND, false, 0},
    {"sb16", CLASS_SOUND, false, 0},
    {"adlib", CLASS_SOUND, false, 0},
    {"gus", CLASS_SOUND, false, 0},
    {"cs4231a", CLASS_SOUND, false, 0},
    {"xen-pvdevice", CLASS_PVDEVICE, true, 0},
    {"xen-platform", CLASS_PLATFORM, true, 0},
    {"isa-serial", CLASS_SERIAL, false, 0},
    {"virtio-serial", CLASS_OTHER, true, 0},
    {"virtio-serial-pci", CLASS_OTHER, true, 0},
    {"virtserialport", CLASS_OTHER, false, 0},
    {"virtio-blk-pci", CLASS_OTHER, true, 0},
    {"virtio-scsi-pci", CLASS_OTHER, true, 0},
    {"virtio-balloon-pci", CLASS_OTHER, true, 0},
    {"virtio-rng-pci", CLASS_OTHER, true, 0},
    {"usb-redir", CLASS_OTHER, false, 0},
    {"nvme", CLASS_OTHER, true, 0},
    {"secondary-vga", CLASS_OTHER, true, 0},
    {"xen-pci-passthrough", CLASS_OTHER, true, 0},
    {"vfio-pci", CLASS_OTHER, true, 0},
};

const struct device_kind *options_find_kind(const char *name)
{
    for (size_t i = 0; i < sizeof(device_kinds) / sizeof(device_kinds[0]); i++) {
        if (strcmp(device_kinds[i].name, name) == 0) {
            return &device_kinds[i];
        }
    }
    return NULL;
}

#define KEY(name) offsetof(struct parsed_device, name)

static const struct optkey device_common[] = {
    {"driver", OPTKEY_STRING, KEY(driver), 0, 0, NULL},
    {"id", OPTKEY_STRING, KEY(id), 0, 0, NULL},
    {0},
};
static const struct optkey pci_common[] = {
    {"driver", OPTKEY_STRING, KEY(driver), 0, 0, NULL},
    {"id", OPTKEY_STRING, KEY(id), 0, 0, NULL},
    {"addr", OPTKEY_STRING, KEY(addr), 0, 0, NULL},
    {"bus", OPTKEY_ONLY, 0, 0, 0, "pci.0|pci"},
    {"multifunction", OPTKEY_BOOL, KEY(multifunction), 0, 0, NULL},
    {0},
};
static const struct optkey vga_keys[] = {
    {"vgamem_mb", OPTKEY_UINT, KEY(vgamem_mb), 1, 256, NULL},
    {0},
};
static const struct optkey qxl_keys[] = {
    {"vgamem_mb", OPTKEY_UINT, KEY(vgamem_mb), 1, 256, NULL},
    {"vram_size_mb", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"ram_size_mb", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {0},
};
static const struct optkey nic_keys[] = {
    {"netdev", OPTKEY_STRING, KEY(netdev), 0, 0, NULL},
    {"mac", OPTKEY_STRING, KEY(mac), 0, 0, NULL},
    {"romfile", OPTKEY_TEXT, KEY(romfile), 0, 0, NULL},
    {0},
};
static const struct optkey disk_keys[] = {
    {"drive", OPTKEY_STRING, KEY(drive), 0, 0, NULL},
    {"bus", OPTKEY_STRING, KEY(bus), 0, 0, NULL},
    {"unit", OPTKEY_INT, KEY(unit), 0, 1, NULL},
    {"serial", OPTKEY_TEXT, KEY(serial), 0, 0, NULL},
    {0},
};
static const struct optkey scsi_disk_keys[] = {
    {"drive", OPTKEY_STRING, KEY(drive), 0, 0, NULL},  {"bus", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"scsi-id", OPTKEY_INT, KEY(scsi_id), 0, 7, NULL}, {"lun", OPTKEY_ONLY, 0, 0, 0, "0"},
    {"serial", OPTKEY_TEXT, KEY(serial), 0, 0, NULL},  {0},
};
static const struct optkey usb_controller_keys[] = {
    {"masterbus", OPTKEY_STRING, KEY(masterbus), 0, 0, NULL},
    {"firstport", OPTKEY_UINT, KEY(firstport), 0, 5, NULL},
    {"p2", OPTKEY_UINT, KEY(p2), 1, OPTIONS_XHCI_PORTS_MAX, NULL},
    {"p3", OPTKEY_UINT, KEY(p3), 1, OPTIONS_XHCI_PORTS_MAX, NULL},
    {0},
};
static const struct optkey usb_device_keys[] = {
    {"bus", OPTKEY_STRING, KEY(bus), 0, 0, NULL},
    {"port", OPTKEY_STRING, KEY(port), 0, 0, NULL},
    {0},
};
static const struct optkey pvdevice_keys[] = {
    {"device-id", OPTKEY_UINT, KEY(device_id), 1, 0xffff, NULL},
    {"vendor-id", OPTKEY_UINT, KEY(vendor_id), 1, 0xffff, NULL},
    {"revision", OPTKEY_UINT, KEY(revision), 0, 0xff, NULL},
    {0},
};
static const struct optkey serial_keys[] = {
    {"chardev", OPTKEY_STRING, KEY(chardev), 0, 0, NULL},
    {"index", OPTKEY_INT, KEY(index), 0, OPTIONS_MAX_SERIALS - 1, NULL},
    {0},
};

/* Those of the class, besides device_common or pci_common. */
static const struct optkey *const class_keys[] = {
    [CLASS_VGA] = vga_keys,
    [CLASS_NIC] = nic_keys,
    [CLASS_IDE] = disk_keys,
    [CLASS_SCSI_DISK] = scsi_disk_keys,
    [CLASS_USB_CONTROLLER] = usb_controller_keys,
    [CLASS_USB_DEVICE] = usb_device_keys,
    [CLASS_PVDEVICE] = pvdevice_keys,
    [CLASS_SERIAL] = serial_keys,
    [CLASS_OTHER] = NULL,
};

static struct parsed_device *new_device(struct parser *p)
{
    if (p->device_count == OPTIONS_MAX_DEVICES) {
        options_bad(p, "more than %d devices", OPTIONS_MAX_DEVICES);
        return NULL;
    }
    p->devices[p->device_count] = (struct parsed_device){.unit = -1, .scsi_id = -1, .index = -1};
    return &p->devices[p->device_count++];
}

struct parsed_device *options_implied_device(struct parser *p, const char *driver)
{
    struct parsed_device *d = new_device(p);

    if (d) {
        d->kind = options_find_kind(driver);
        d->driver = driver;
    }
    return d;
}

int options_add_device(struct parser *p, const char *text)
{
    struct parsed_device *d = new_device(p);
    struct optlist l;
    const char *driver;

    if (!d || optlist_split(&l, &p->o->arena, "-device", "driver", text, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    driver = optlist_get(&l, "driver");
    d->kind = driver ? options_find_kind(driver) : NULL;
    if (!d->kind) {
        return options_bad(p, "unknown device '%.60s'", driver ? driver : text);
    }
    if (optlist_get(&l, "bootindex")) {
        return options_bad(p, "%s: bootindex= is not possible under Xen; use -boot order=LETTERS",
                           driver);
    }
    if (d->kind->class == CLASS_OTHER) {
        /* Its other keys do not matter, options_check_supported() refuses the device. */
        d->driver = driver;
        d->id = optlist_get(&l, "id");
        d->addr = optlist_get(&l, "addr");
    } else {
        const struct optkey *keys = d->kind->detail == OPTION_VGA_QXL && d->kind->class == CLASS_VGA
                                        ? qxl_keys
                                        : class_keys[d->kind->class];

        if (optlist_read(&l, d->kind->pci ? pci_common : device_common, keys, d, p->err,
                         p->errlen) < 0) {
            return -EINVAL;
        }
    }
    for (struct parsed_device *other = p->devices; d->id && other < d; other++) {
        if (other->id && strcmp(other->id, d->id) == 0) {
            return options_bad(p, "id '%.60s' is used twice", d->id);
        }
    }
    return 0;
}

int options_add_usbdevice(struct parser *p, const char *text)
{
    static const struct {
        const char *name, *driver;
    } names[] = {{"tablet", "usb-tablet"}, {"mouse", "usb-mouse"}, {"keyboard", "usb-kbd"}};

    p->o->usb = true;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i].name) == 0) {
            return options_implied_device(p, names[i].driver) ? 0 : -EINVAL;
        }
    }
    return options_bad(p, "unknown device '%.60s'; use tablet, mouse or keyboard", text);
}

int options_add_sound(struct parser *p, const char *text)
{
    const struct device_kind *kind =
        options_find_kind(strcmp(text, "hda") == 0 ? "intel-hda" : text);

    if (!kind || kind->class != CLASS_SOUND) {
        return options_bad(
            p, "unknown sound card '%.60s'; use hda, ac97, es1370, sb16, adlib, gus or cs4231a",
            text);
    }
    return options_implied_device(p, kind->name) ? 0 : -EINVAL;
}

/* ---- PCI slots ---- */

enum { PCI_SLOTS = 32 };

struct slot_map {
    uint8_t functions[PCI_SLOTS]; /* bit per used function */
};

bool options_pci_addr(const char *text, uint8_t *devfn)
{
    char *end;
    unsigned long slot, function = 0;

    if (!isxdigit((unsigned char)text[0])) {
        return false;
    }
    slot = strtoul(text, &end, 16);
    if (*end == '.') {
        if (!isxdigit((unsigned char)end[1])) {
            return false;
        }
        function = strtoul(end + 1, &end, 16);
    }
    if (*end || slot >= PCI_SLOTS || function > 7) {
        return false;
    }
    *devfn = (uint8_t)(slot << 3 | function);
    return true;
}

static int take_given_slot(struct parser *p, struct slot_map *map, struct parsed_device *d)
{
    p->option = "-device";
    if (!options_pci_addr(d->addr, &d->devfn)) {
        return options_bad(p,
                           "%s: bad addr '%.40s'; it must be SLOT or SLOT.FUNCTION in hexadecimal, "
                           "0 to 1f and 0 to 7",
                           d->driver, d->addr);
    }
    if (map->functions[d->devfn >> 3] & 1u << (d->devfn & 7)) {
        return options_bad(p, "%s: PCI address %02x.%x is taken", d->driver, d->devfn >> 3,
                           d->devfn & 7);
    }
    map->functions[d->devfn >> 3] = (uint8_t)(map->functions[d->devfn >> 3] | 1u << (d->devfn & 7));
    return 0;
}

static int take_free_slot(struct parser *p, struct slot_map *map, const char *what, uint8_t *devfn)
{
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        if (map->functions[slot] == 0) {
            map->functions[slot] = 1;
            *devfn = (uint8_t)(slot << 3);
            return 0;
        }
    }
    p->option = "-device";
    return options_bad(p, "no free PCI slot for %s", what);
}

/*
 * The order that QEMU creates things in, because installed guests depend on the places: host bridge
 * and PIIX3 at 0 and 1, -vga, the NICs of -net nic, xen-platform of the xenfv machine, then -device
 * as written. Given addresses are set aside first; where that differs from QEMU, QEMU fails.
 */
static int assign_slots(struct parser *p)
{
    struct options *o = p->o;
    struct slot_map map = {.functions = {0x01, o->usb ? 0x0f : 0x0b}};

    for (unsigned i = 0; i < p->device_count; i++) {
        struct parsed_device *d = &p->devices[i];

        if (d->kind->pci && d->addr && take_given_slot(p, &map, d) < 0) {
            return -EINVAL;
        }
    }
    if (o->vga.kind != OPTION_VGA_NONE &&
        take_free_slot(p, &map, "the graphics adapter", &o->vga.devfn) < 0) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < p->device_count; i++) {
        struct parsed_device *d = &p->devices[i];

        if (d->legacy_nic && take_free_slot(p, &map, d->driver, &d->devfn) < 0) {
            return -EINVAL;
        }
    }
    if (o->xen_platform && take_free_slot(p, &map, "xen-platform", &o->xen_platform_devfn) < 0) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < p->device_count; i++) {
        struct parsed_device *d = &p->devices[i];

        if (d->kind->pci && !d->addr && !d->legacy_nic &&
            take_free_slot(p, &map, d->driver, &d->devfn) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- all of it ---- */

static int set_vga(struct parser *p, enum option_vga kind, const char *model, uint64_t vgamem_mb,
                   uint8_t devfn)
{
    struct options *o = p->o;

    if (kind == OPTION_VGA_CIRRUS && vgamem_mb && vgamem_mb != 4 && vgamem_mb != 8 &&
        vgamem_mb != 16) {
        return options_bad(p,
                           "%s: bad value vgamem_mb=%u; a Cirrus adapter has 4, 8 or 16 MiB "
                           "(videoram= in the guest's config)",
                           model, (unsigned)vgamem_mb);
    }
    if (vgamem_mb & (vgamem_mb - 1)) {
        return options_bad(p,
                           "%s: bad value vgamem_mb=%u; it must be a power of two (videoram= in "
                           "the guest's config)",
                           model, (unsigned)vgamem_mb);
    }
    o->vga.kind = kind;
    o->vga.model = model;
    o->vga.vgamem_mb = (uint32_t)vgamem_mb;
    o->vga.devfn = devfn;
    return 0;
}

/* -vga NAME; before the slots are given out. */
static int resolve_vga(struct parser *p)
{
    static const struct {
        const char *name;
        enum option_vga kind;
    } names[] = {
        {"none", OPTION_VGA_NONE}, {"std", OPTION_VGA_STD},      {"cirrus", OPTION_VGA_CIRRUS},
        {"qxl", OPTION_VGA_QXL},   {"vmware", OPTION_VGA_OTHER}, {"virtio", OPTION_VGA_OTHER},
    };

    p->option = "-vga";
    for (size_t i = 0; p->vga && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(p->vga, names[i].name) == 0) {
            return set_vga(p, names[i].kind, p->vga, p->global_vgamem, 0);
        }
    }
    return p->vga ? options_bad(p, "unknown adapter '%.40s'; use std, cirrus or none", p->vga) : 0;
}

static int resolve_serial_device(struct parser *p, const struct parsed_device *d)
{
    unsigned port = 0;
    char *spec;

    if (!d->chardev) {
        return options_bad(p, "isa-serial: chardev= is missing");
    }
    while (d->index < 0 && port < OPTIONS_MAX_SERIALS && p->serial_specs[port]) {
        port++;
    }
    if (d->index >= 0) {
        port = (unsigned)d->index;
    }
    if (port >= OPTIONS_MAX_SERIALS || p->serial_specs[port]) {
        return options_bad(p, "isa-serial: serial port %u is taken", port);
    }
    spec = arena_printf(&p->o->arena, "chardev:%s", d->chardev);
    if (!spec) {
        return options_bad(p, "out of memory");
    }
    p->serial_specs[port] = spec;
    return 0;
}

static int resolve_usb(struct parser *p, const struct parsed_device *d)
{
    struct options *o = p->o;

    if (o->usb_device_count == OPTIONS_MAX_USB) {
        return options_bad(p, "more than %d USB devices", OPTIONS_MAX_USB);
    }
    o->usb_devices[o->usb_device_count++] = (struct option_usb){
        .driver = d->driver,
        .id = d->id,
        .bus = d->bus,
        .port = d->port,
        .masterbus = d->masterbus,
        .firstport = (unsigned)d->firstport,
        .usb2_ports = (uint8_t)(d->p2 != 0 ? d->p2 : OPTIONS_XHCI_PORTS),
        .usb3_ports = (uint8_t)(d->p3 != 0 ? d->p3 : OPTIONS_XHCI_PORTS),
        .devfn = d->devfn,
    };
    return 0;
}

static int resolve_sound(struct parser *p, const struct parsed_device *d)
{
    struct options *o = p->o;

    if (o->sound_count == OPTIONS_MAX_SOUND) {
        return options_bad(p, "more than %d sound devices", OPTIONS_MAX_SOUND);
    }
    o->sounds[o->sound_count++] =
        (struct option_sound){.model = d->driver, .pci = d->kind->pci, .devfn = d->devfn};
    return 0;
}

static int resolve_device(struct parser *p, const struct parsed_device *d)
{
    struct options *o = p->o;

    switch (d->kind->class) {
    case CLASS_VGA:
        if (o->vga.kind != OPTION_VGA_NONE) {
            return options_bad(p, "%s: there already is a graphics adapter (%s)", d->driver,
                               o->vga.model);
        }
        return set_vga(p, (enum option_vga)d->kind->detail, d->driver,
                       d->vgamem_mb ? d->vgamem_mb : p->global_vgamem, d->devfn);
    case CLASS_NIC:
        return options_resolve_nic(p, d);
    case CLASS_AHCI:
    case CLASS_SCSI: {
        bool ahci = d->kind->class == CLASS_AHCI;

        if (ahci ? o->ahci.present : o->scsi.present) {
            return options_bad(p, "%s: one such controller is supported", d->driver);
        }
        *(ahci ? &o->ahci.present : &o->scsi.present) = true;
        *(ahci ? &o->ahci.id : &o->scsi.id) = d->id;
        *(ahci ? &o->ahci.devfn : &o->scsi.devfn) = d->devfn;
        return 0;
    }
    case CLASS_USB_CONTROLLER:
    case CLASS_USB_DEVICE:
        return resolve_usb(p, d);
    case CLASS_SOUND:
        return resolve_sound(p, d);
    case CLASS_PVDEVICE:
        if (o->pvdevice.present || !d->device_id) {
            return options_bad(p, "xen-pvdevice: %s",
                               d->device_id ? "given twice" : "device-id= is missing");
        }
        o->pvdevice.present = true;
        o->pvdevice.device_id = (uint16_t)d->device_id;
        o->pvdevice.vendor_id = (uint16_t)(d->vendor_id ? d->vendor_id : 0x5853);
        o->pvdevice.revision = (uint8_t)(d->revision ? d->revision : 1);
        o->pvdevice.devfn = d->devfn;
        return 0;
    case CLASS_PLATFORM:
        if (o->xen_platform) {
            return options_bad(
                p,
                "xen-platform: the machine already has one; use -machine pc to place it yourself");
        }
        o->xen_platform = true;
        o->xen_platform_devfn = d->devfn;
        return 0;
    case CLASS_SERIAL:
        return resolve_serial_device(p, d);
    case CLASS_OTHER:
        if (o->other_count < OPTIONS_MAX_OTHER) {
            o->others[o->other_count++] = d->driver;
        }
        return 0;
    case CLASS_IDE:
    case CLASS_SCSI_DISK:
        return 0; /* place_disk_devices(), when the controllers are known */
    }
    return 0;
}

int options_resolve_devices(struct parser *p)
{
    if (resolve_vga(p) < 0 || assign_slots(p) < 0) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < p->device_count; i++) {
        p->option = p->devices[i].legacy_nic ? "-net" : "-device";
        if (resolve_device(p, &p->devices[i]) < 0) {
            return -EINVAL;
        }
    }
    return options_resolve_netdevs(p) < 0 || options_resolve_drives(p) < 0 ? -EINVAL : 0;
}
