/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the command line that is hardware: -device, -drive, -net*, -usbdevice; places on buses and PCI slots. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/options_parse.h"

enum device_class {
    CLASS_VGA,
    CLASS_NIC,
    CLASS_IDE, /* ide-hd, ide-cd: on the PIIX or an AHCI bus */
    CLASS_SCSI_DISK,
    CLASS_AHCI,
    CLASS_SCSI,
    CLASS_USB_CONTROLLER,
    CLASS_USB_DEVICE,
    CLASS_SOUND,
    CLASS_PVDEVICE,
    CLASS_PLATFORM,
    CLASS_SERIAL,
    CLASS_OTHER,
};

/* What -device NAME is. Aliases of QEMU's are rows of their own. */
struct device_kind {
    const char *name;
    enum device_class class;
    bool pci;
    int detail; /* CLASS_VGA: enum option_vga; CLASS_IDE, CLASS_SCSI_DISK: is a CD drive */
};

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

static const struct device_kind *find_kind(const char *name)
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
#define PCI_KEYS                                                                                   \
    {"addr", OPTKEY_STRING, KEY(addr), 0, 0, NULL}, {"bus", OPTKEY_ONLY, 0, 0, 0, "pci.0|pci"},    \
    {                                                                                              \
        "multifunction", OPTKEY_BOOL, KEY(multifunction), 0, 0, NULL                               \
    }

static const struct optkey pci_keys[] = {PCI_KEYS, {0}};
static const struct optkey vga_keys[] = {PCI_KEYS, {"vgamem_mb", OPTKEY_UINT, KEY(vgamem_mb), 1, 256, NULL}, {0}};
static const struct optkey qxl_keys[] = {
    PCI_KEYS,
    {"vgamem_mb", OPTKEY_UINT, KEY(vgamem_mb), 1, 256, NULL},
    {"vram_size_mb", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"ram_size_mb", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {0},
};
static const struct optkey nic_keys[] = {
    PCI_KEYS,
    {"netdev", OPTKEY_STRING, KEY(netdev), 0, 0, NULL},
    {"mac", OPTKEY_STRING, KEY(mac), 0, 0, NULL},
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
    {"drive", OPTKEY_STRING, KEY(drive), 0, 0, NULL},
    {"bus", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"scsi-id", OPTKEY_INT, KEY(scsi_id), 0, 7, NULL},
    {"lun", OPTKEY_ONLY, 0, 0, 0, "0"},
    {"serial", OPTKEY_TEXT, KEY(serial), 0, 0, NULL},
    {0},
};
static const struct optkey usb_controller_keys[] = {
    PCI_KEYS,
    {"masterbus", OPTKEY_STRING, KEY(masterbus), 0, 0, NULL},
    {"firstport", OPTKEY_UINT, KEY(firstport), 0, 5, NULL},
    {"p2", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"p3", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {0},
};
static const struct optkey usb_device_keys[] = {
    {"bus", OPTKEY_STRING, KEY(bus), 0, 0, NULL},
    {"port", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {0},
};
static const struct optkey pvdevice_keys[] = {
    PCI_KEYS,
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

/* NULL: keys are not looked at beyond id and addr, because options_check_supported() refuses the device anyway. */
static const struct optkey *const class_keys[] = {
    [CLASS_VGA] = vga_keys,
    [CLASS_NIC] = nic_keys,
    [CLASS_IDE] = disk_keys,
    [CLASS_SCSI_DISK] = scsi_disk_keys,
    [CLASS_AHCI] = pci_keys,
    [CLASS_SCSI] = pci_keys,
    [CLASS_USB_CONTROLLER] = usb_controller_keys,
    [CLASS_USB_DEVICE] = usb_device_keys,
    [CLASS_SOUND] = pci_keys,
    [CLASS_PVDEVICE] = pvdevice_keys,
    [CLASS_PLATFORM] = pci_keys,
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

/* Adds a device that an option other than -device asked for. */
static struct parsed_device *implied_device(struct parser *p, const char *driver)
{
    struct parsed_device *d = new_device(p);

    if (d) {
        d->kind = find_kind(driver);
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
    d->kind = driver ? find_kind(driver) : NULL;
    if (!d->kind) {
        return options_bad(p, "unknown device '%.60s'", driver ? driver : text);
    }
    if (optlist_get(&l, "bootindex")) {
        return options_bad(p, "%s: bootindex= is not possible under Xen; use -boot order=LETTERS", driver);
    }
    if (d->kind->class == CLASS_OTHER) {
        d->driver = driver;
        d->id = optlist_get(&l, "id");
        d->addr = optlist_get(&l, "addr");
    } else {
        const struct optkey *keys = d->kind->detail == OPTION_VGA_QXL && d->kind->class == CLASS_VGA
                                        ? qxl_keys
                                        : class_keys[d->kind->class];

        if (optlist_read(&l, device_common, keys, d, p->err, p->errlen) < 0) {
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
            return implied_device(p, names[i].driver) ? 0 : -EINVAL;
        }
    }
    return options_bad(p, "unknown device '%.60s'; use tablet, mouse or keyboard", text);
}

int options_add_sound(struct parser *p, const char *text)
{
    const struct device_kind *kind = find_kind(strcmp(text, "hda") == 0 ? "intel-hda" : text);

    if (!kind || kind->class != CLASS_SOUND) {
        return options_bad(p, "unknown sound card '%.60s'; use hda, ac97, es1370, sb16, adlib, gus or cs4231a", text);
    }
    return implied_device(p, kind->name) ? 0 : -EINVAL;
}

/* ---- drives ---- */

#undef KEY
#define KEY(name) offsetof(struct parsed_drive, name)

static const struct optkey drive_keys[] = {
    {"file", OPTKEY_TEXT, KEY(file), 0, 0, NULL},
    {"if", OPTKEY_STRING, KEY(interface), 0, 0, "none|ide|scsi|floppy|virtio|sd|pflash|mtd|xen"},
    {"id", OPTKEY_STRING, KEY(id), 0, 0, NULL},
    {"index", OPTKEY_INT, KEY(index), 0, 15, NULL},
    {"bus", OPTKEY_INT, KEY(bus), 0, 7, NULL},
    {"unit", OPTKEY_INT, KEY(unit), 0, 15, NULL},
    {"media", OPTKEY_STRING, KEY(media), 0, 0, "disk|cdrom"},
    {"format", OPTKEY_STRING, KEY(format), 0, 0, NULL},
    {"readonly", OPTKEY_BOOL, KEY(readonly), 0, 0, NULL},
    {"read-only", OPTKEY_BOOL, KEY(readonly), 0, 0, NULL},
    {"cache", OPTKEY_STRING, KEY(cache), 0, 0, "writeback|writethrough|none|directsync|unsafe"},
    {"auto-read-only", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"aio", OPTKEY_ONLY, 0, 0, 0, "threads|native|io_uring"},
    {"discard", OPTKEY_ONLY, 0, 0, 0, "ignore|off|unmap|on"},
    {"detect-zeroes", OPTKEY_ONLY, 0, 0, 0, "off"},
    {"snapshot", OPTKEY_ONLY, 0, 0, 0, "off"},
    {"copy-on-read", OPTKEY_ONLY, 0, 0, 0, "off"},
    {"werror", OPTKEY_ONLY, 0, 0, 0, "report|enospc"},
    {"rerror", OPTKEY_ONLY, 0, 0, 0, "report"},
    {"file.locking", OPTKEY_ONLY, 0, 0, 0, "off|auto"},
    {0},
};

static struct parsed_drive *new_drive(struct parser *p)
{
    if (p->drive_count == OPTIONS_MAX_DRIVES) {
        options_bad(p, "more than %d drives", OPTIONS_MAX_DRIVES);
        return NULL;
    }
    p->drives[p->drive_count] = (struct parsed_drive){.option = p->option, .index = -1, .bus = -1, .unit = -1};
    return &p->drives[p->drive_count++];
}

int options_add_drive(struct parser *p, const char *text)
{
    struct parsed_drive *d = new_drive(p);
    struct optlist l;

    if (!d || optlist_split(&l, &p->o->arena, "-drive", NULL, text, p->err, p->errlen) < 0 ||
        optlist_read(&l, drive_keys, NULL, d, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (d->file && d->file[0] == '\0') {
        d->file = NULL;
    }
    if (!d->interface) {
        d->interface = "ide";
    }
    if (d->index >= 0 && (d->bus >= 0 || d->unit >= 0)) {
        return options_bad(p, "index= together with bus= or unit= in '%.60s'; use one of them", text);
    }
    for (struct parsed_drive *other = p->drives; d->id && other < d; other++) {
        if (other->id && strcmp(other->id, d->id) == 0) {
            return options_bad(p, "id '%.60s' is used twice", d->id);
        }
    }
    return 0;
}

int options_add_plain_drive(struct parser *p, const char *path, const char *interface, int index, bool cdrom)
{
    struct parsed_drive *d;

    if (path[0] == '\0') {
        return options_bad(p, "the file name is empty");
    }
    d = new_drive(p);
    if (!d) {
        return -EINVAL;
    }
    d->file = path;
    d->interface = interface;
    d->index = index;
    d->media = cdrom ? "cdrom" : "disk";
    return 0;
}

static struct option_drive *find_place(struct options *o, enum option_bus bus, unsigned index)
{
    for (unsigned i = 0; i < o->drive_count; i++) {
        if (o->drives[i].bus == bus && o->drives[i].index == index && bus != OPTION_BUS_OTHER) {
            return &o->drives[i];
        }
    }
    return NULL;
}

static int check_drive(struct parser *p, const struct option_drive *d)
{
    static const char *const places[4] = {"primary master", "primary slave", "secondary master", "secondary slave"};
    const struct option_drive *other = find_place(p->o, d->bus, d->index);

    if (other) {
        return d->bus == OPTION_BUS_IDE
                   ? options_bad(p, "'%.60s' and '%.60s' are both the IDE %s (index %u)", other->drive_id, d->drive_id,
                                 places[d->index], d->index)
                   : options_bad(p, "'%.60s' and '%.60s' have the same place %u", other->drive_id, d->drive_id, d->index);
    }
    if (!d->cdrom && !d->path) {
        return options_bad(p, "disk '%.60s' has no file=; only a CD drive can be empty", d->drive_id);
    }
    if (!d->cdrom && d->readonly && (d->bus == OPTION_BUS_IDE || d->bus == OPTION_BUS_AHCI)) {
        return options_bad(p, "disk '%.60s' is read-only, which an ATA disk cannot be; make it a CD drive or drop readonly=on",
                           d->drive_id);
    }
    if (d->serial && strlen(d->serial) > 20) {
        return options_bad(p, "serial '%.40s' of '%.60s' is longer than 20 characters", d->serial, d->drive_id);
    }
    return 0;
}

/* Gives drive d its place. device is NULL for if=ide and the like. */
static int place_drive(struct parser *p, struct parsed_drive *d, const struct parsed_device *device, enum option_bus bus,
                       unsigned index, bool cdrom)
{
    static const char *const id_prefixes[] = {"ide", "ahci", "scsi", "drive"};
    struct options *o = p->o;
    struct option_drive *out;
    const char *cache = d && d->cache ? d->cache : "writeback";
    const char *auto_id = bus == OPTION_BUS_IDE
                              ? arena_printf(&o->arena, "ide%u-%s%u", index / 2, cdrom ? "cd" : "hd", index % 2)
                              : arena_printf(&o->arena, "%s0-%s%u", id_prefixes[bus], cdrom ? "cd" : "hd", index);

    if (!auto_id || o->drive_count == OPTIONS_MAX_DRIVES) {
        return options_bad(p, "more than %d drives", OPTIONS_MAX_DRIVES);
    }
    out = &o->drives[o->drive_count];
    *out = (struct option_drive){
        .id = device && device->id ? device->id : d && d->id ? d->id : auto_id,
        .drive_id = d && d->id ? d->id : auto_id,
        .path = d ? d->file : NULL,
        .format = d && d->format ? d->format : "raw",
        .serial = device ? device->serial : NULL,
        .bus = bus,
        .index = index,
        .cdrom = cdrom,
        .readonly = cdrom || (d && d->readonly),
        .writethrough = optword_in("writethrough|directsync", cache, strlen(cache)),
        .no_flush = strcmp(cache, "unsafe") == 0,
        .direct = optword_in("none|directsync", cache, strlen(cache)),
    };
    if (check_drive(p, out) < 0) {
        return -EINVAL;
    }
    o->drive_count++;
    if (d) {
        d->placed = true;
    }
    return 0;
}

/* The IDE index of bus and unit as given (-1: not), or the first free one. -1: error. */
static int ide_index(struct parser *p, int64_t bus, int64_t unit, const char *what)
{
    for (int i = 0; i < 4; i++) {
        if ((bus < 0 || bus == i / 2) && (unit < 0 || unit == i % 2) &&
            (!find_place(p->o, OPTION_BUS_IDE, (unsigned)i) || (bus >= 0 && unit >= 0))) {
            return i;
        }
    }
    if (bus > 1 || unit > 1) {
        options_bad(p, "'%.60s' is on ide.%d unit %d; there are ide.0 and ide.1 with units 0 and 1", what, (int)bus,
                    (int)(unit < 0 ? 0 : unit));
    } else {
        options_bad(p, "no free IDE place for '%.60s'; there are four", what);
    }
    return -1;
}

/* -drive with an interface of its own. Those with a given place come first so that the others fill the gaps. */
static int place_own_drives(struct parser *p, bool with_place)
{
    for (unsigned i = 0; i < p->drive_count; i++) {
        struct parsed_drive *d = &p->drives[i];
        bool cdrom = d->media && strcmp(d->media, "cdrom") == 0;
        const char *what = d->id ? d->id : d->file ? d->file : d->interface;
        int index = (int)d->index;
        enum option_bus bus = strcmp(d->interface, "ide") == 0    ? OPTION_BUS_IDE
                              : strcmp(d->interface, "scsi") == 0 ? OPTION_BUS_SCSI
                                                                  : OPTION_BUS_OTHER;

        if (strcmp(d->interface, "none") == 0 || with_place != (index >= 0 || d->bus >= 0 || d->unit >= 0)) {
            continue;
        }
        p->option = d->option;
        if (bus == OPTION_BUS_IDE && index > 3) {
            return options_bad(p, "index %d of '%.60s' is not an IDE place; use 0 to 3", index, what);
        }
        if (bus == OPTION_BUS_IDE && index < 0) {
            index = ide_index(p, d->bus, d->unit, what);
            if (index < 0) {
                return -EINVAL;
            }
        }
        if (place_drive(p, d, NULL, bus, index < 0 ? i : (unsigned)index, cdrom) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}

static struct parsed_drive *find_drive(struct parser *p, const struct parsed_device *device)
{
    for (unsigned i = 0; i < p->drive_count; i++) {
        struct parsed_drive *d = &p->drives[i];

        if (!d->id || strcmp(d->id, device->drive) != 0) {
            continue;
        }
        if (strcmp(d->interface, "none") != 0) {
            options_bad(p, "drive '%.60s' has if=%s; a drive for -device %s needs if=none", d->id, d->interface, device->driver);
            return NULL;
        }
        if (d->placed) {
            options_bad(p, "drive '%.60s' is used by two devices", d->id);
            return NULL;
        }
        return d;
    }
    options_bad(p, "%s: drive '%.60s' does not exist; add -drive if=none,id=%.60s,...", device->driver, device->drive,
                device->drive);
    return NULL;
}

/* "NAME.NUMBER" with the given name: the number, else -1. */
static int64_t bus_number(const char *bus, const char *name, uint64_t max)
{
    size_t n = strlen(name);
    uint64_t number;

    if (strncmp(bus, name, n) != 0 || bus[n] != '.' || !optnum_uint(bus + n + 1, 0, max, &number)) {
        return -1;
    }
    return (int64_t)number;
}

static int place_ide_device(struct parser *p, const struct parsed_device *device, struct parsed_drive *d)
{
    const struct options *o = p->o;
    const char *what = device->id ? device->id : device->driver;
    bool cdrom = device->kind->detail;
    int64_t bus = -1;
    int index;

    if (device->bus && o->ahci.present && o->ahci.id) {
        int64_t port = bus_number(device->bus, o->ahci.id, 5);

        if (port >= 0) {
            return device->unit > 0 ? options_bad(p, "'%.60s': a SATA port has unit 0 only", what)
                                    : place_drive(p, d, device, OPTION_BUS_AHCI, (unsigned)port, cdrom);
        }
    }
    if (device->bus) {
        bus = bus_number(device->bus, "ide", 99);
        if (bus < 0) {
            return options_bad(p, "%s: bus '%.60s' does not exist; use ide.0 or ide.1", device->driver, device->bus);
        }
    }
    index = ide_index(p, bus, device->unit, what);
    return index < 0 ? -EINVAL : place_drive(p, d, device, OPTION_BUS_IDE, (unsigned)index, cdrom);
}

static int place_scsi_device(struct parser *p, const struct parsed_device *device, struct parsed_drive *d)
{
    unsigned target = device->scsi_id >= 0 ? (unsigned)device->scsi_id : 0;

    if (!p->o->scsi.present) {
        return options_bad(p, "%s needs a SCSI controller; add -device lsi53c895a before it", device->driver);
    }
    while (device->scsi_id < 0 && target < 7 && find_place(p->o, OPTION_BUS_SCSI, target)) {
        target++;
    }
    return place_drive(p, d, device, OPTION_BUS_SCSI, target, device->kind->detail);
}

static int place_disk_devices(struct parser *p)
{
    for (unsigned i = 0; i < p->device_count; i++) {
        const struct parsed_device *device = &p->devices[i];
        struct parsed_drive *d = NULL;
        int rc;

        if (device->kind->class != CLASS_IDE && device->kind->class != CLASS_SCSI_DISK) {
            continue;
        }
        p->option = "-device";
        if (device->drive) {
            d = find_drive(p, device);
            if (!d) {
                return -EINVAL;
            }
        }
        rc = device->kind->class == CLASS_IDE ? place_ide_device(p, device, d) : place_scsi_device(p, device, d);
        if (rc < 0) {
            return rc;
        }
    }
    for (unsigned i = 0; i < p->drive_count; i++) {
        p->option = p->drives[i].option;
        /* A device of CLASS_OTHER (refused later) may be its user; its keys were not read. */
        if (!p->drives[i].placed && p->o->other_count == 0) {
            return options_bad(p, "drive '%.60s' has if=none and no -device uses it; add -device ide-hd,drive=%.60s",
                               p->drives[i].id ? p->drives[i].id : "", p->drives[i].id ? p->drives[i].id : "ID");
        }
    }
    return 0;
}

/* ---- network ---- */

static struct parsed_netdev *new_netdev(struct parser *p)
{
    if (p->netdev_count == OPTIONS_MAX_NICS) {
        options_bad(p, "more than %d network back ends", OPTIONS_MAX_NICS);
        return NULL;
    }
    p->netdevs[p->netdev_count] = (struct parsed_netdev){.fd = -1};
    return &p->netdevs[p->netdev_count++];
}

#undef KEY
#define KEY(name) offsetof(struct parsed_netdev, name)
#define TAP_KEYS                                                                                   \
    {"ifname", OPTKEY_STRING, KEY(ifname), 0, 0, NULL}, {"fd", OPTKEY_INT, KEY(fd), 0, INT32_MAX, NULL}, \
        {"br", OPTKEY_IGNORE, 0, 0, 0, NULL}, {"script", OPTKEY_ONLY, 0, 0, 0, "no"},              \
        {"downscript", OPTKEY_ONLY, 0, 0, 0, "no"}, {"vhost", OPTKEY_ONLY, 0, 0, 0, "off"},        \
    {                                                                                              \
        "queues", OPTKEY_ONLY, 0, 0, 0, "1"                                                        \
    }

/* IFNAMSIZ is 16 with the NUL; the kernel refuses blanks, '/' and ':' ('%' would make it choose a number). */
static int check_tap(struct parser *p, const struct parsed_netdev *n)
{
    if (n->ifname && n->fd >= 0) {
        return options_bad(p, "ifname= together with fd=; use one of them");
    }
    if (!n->ifname && n->fd < 0) {
        return options_bad(p, "a tap needs ifname=NAME (or fd=)");
    }
    for (const char *c = n->ifname; c && *c; c++) {
        if (*c == '/' || *c == ':' || *c == '%' || !isgraph((unsigned char)*c)) {
            return options_bad(p, "'%.40s' is not an interface name", n->ifname);
        }
    }
    if (n->ifname && strlen(n->ifname) > 15) {
        return options_bad(p, "interface name '%.40s' is longer than 15 characters", n->ifname);
    }
    return 0;
}

int options_add_netdev(struct parser *p, const char *text)
{
    static const struct optkey keys[] = {
        {"type", OPTKEY_STRING, KEY(type), 0, 0, "tap"},
        {"id", OPTKEY_STRING, KEY(id), 0, 0, NULL},
        TAP_KEYS,
        {0},
    };
    struct parsed_netdev *n = new_netdev(p);
    struct optlist l;
    const char *type;

    if (!n || optlist_split(&l, &p->o->arena, "-netdev", "type", text, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    type = optlist_get(&l, "type");
    if (!type || strcmp(type, "tap") != 0) {
        return options_bad(p, "type '%.40s' is not supported; use tap", type ? type : "");
    }
    if (optlist_read(&l, keys, NULL, n, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (!n->id) {
        return options_bad(p, "id= is missing in '%.60s'", text);
    }
    for (struct parsed_netdev *other = p->netdevs; other < n; other++) {
        if (strcmp(other->id, n->id) == 0) {
            return options_bad(p, "id '%.60s' is used twice", n->id);
        }
    }
    return check_tap(p, n);
}

/* What -net and -nic say beyond the tap's keys. */
struct net_keys {
    struct parsed_netdev tap;
    const char *model, *mac;
};

static int add_legacy_nic(struct parser *p, const struct net_keys *k, const char *netdev)
{
    const char *model = !k->model || strcmp(k->model, "virtio") == 0 ? (k->model ? "virtio-net-pci" : "rtl8139") : k->model;
    const struct device_kind *kind = find_kind(model);
    struct parsed_device *d;

    if (!kind || kind->class != CLASS_NIC) {
        return options_bad(p, "unknown NIC model '%.40s'", model);
    }
    d = implied_device(p, model);
    if (!d) {
        return -EINVAL;
    }
    d->mac = k->mac;
    d->netdev = netdev;
    d->legacy_nic = true;
    return 0;
}

#undef KEY
#define KEY(name) offsetof(struct net_keys, tap.name)
#define NIC_KEY(name) offsetof(struct net_keys, name)

/* "-net none", "-net nic,model=,macaddr=", "-net tap,ifname=": the n-th tap belongs to the n-th nic. */
int options_add_net(struct parser *p, const char *text)
{
    static const struct optkey nic[] = {
        {"type", OPTKEY_STRING, KEY(type), 0, 0, NULL},
        {"model", OPTKEY_STRING, NIC_KEY(model), 0, 0, NULL},
        {"macaddr", OPTKEY_STRING, NIC_KEY(mac), 0, 0, NULL},
        {"netdev", OPTKEY_STRING, KEY(id), 0, 0, NULL},
        {0},
    };
    static const struct optkey tap[] = {{"type", OPTKEY_STRING, KEY(type), 0, 0, NULL}, TAP_KEYS, {0}};
    struct net_keys k = {.tap = {.fd = -1}};
    struct parsed_netdev *n;
    struct optlist l;
    const char *type;

    if (optlist_split(&l, &p->o->arena, "-net", "type", text, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    type = optlist_get(&l, "type");
    if (type && strcmp(type, "none") == 0 && l.count == 1) {
        p->o->net_none = true;
        return 0;
    }
    if (type && strcmp(type, "nic") == 0) {
        const char *hub = arena_printf(&p->o->arena, "hub0.%u", p->legacy_nics++);

        return optlist_read(&l, nic, NULL, &k, p->err, p->errlen) < 0 ? -EINVAL
                                                                       : add_legacy_nic(p, &k, k.tap.id ? k.tap.id : hub);
    }
    if (!type || strcmp(type, "tap") != 0) {
        return options_bad(p, "'%.60s' is not supported; use none, nic or tap", text);
    }
    if (optlist_read(&l, tap, NULL, &k, p->err, p->errlen) < 0 || check_tap(p, &k.tap) < 0) {
        return -EINVAL;
    }
    n = new_netdev(p);
    if (!n) {
        return -EINVAL;
    }
    *n = k.tap;
    n->id = arena_printf(&p->o->arena, "hub0.%u", p->legacy_taps++);
    return n->id ? 0 : options_bad(p, "out of memory");
}

int options_add_nic(struct parser *p, const char *text)
{
    static const struct optkey keys[] = {
        {"type", OPTKEY_STRING, KEY(type), 0, 0, "tap"},
        {"id", OPTKEY_STRING, KEY(id), 0, 0, NULL},
        {"model", OPTKEY_STRING, NIC_KEY(model), 0, 0, NULL},
        {"mac", OPTKEY_STRING, NIC_KEY(mac), 0, 0, NULL},
        TAP_KEYS,
        {0},
    };
    struct net_keys k = {.tap = {.fd = -1}};
    struct parsed_netdev *n;
    struct optlist l;

    if (strcmp(text, "none") == 0) {
        p->o->net_none = true;
        return 0;
    }
    if (optlist_split(&l, &p->o->arena, "-nic", "type", text, p->err, p->errlen) < 0 ||
        optlist_read(&l, keys, NULL, &k, p->err, p->errlen) < 0 || check_tap(p, &k.tap) < 0) {
        return -EINVAL;
    }
    n = new_netdev(p);
    if (!n) {
        return -EINVAL;
    }
    *n = k.tap;
    if (!n->id) {
        n->id = arena_printf(&p->o->arena, "nic%u", p->netdev_count - 1);
    }
    return n->id ? add_legacy_nic(p, &k, n->id) : options_bad(p, "out of memory");
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
    if (strlen(text) != 17) {
        return false;
    }
    for (unsigned i = 0; i < 17; i++) {
        bool separator = i % 3 == 2;

        if (separator ? text[i] != ':' && text[i] != '-' : !isxdigit((unsigned char)text[i])) {
            return false;
        }
    }
    for (unsigned i = 0; i < 6; i++) {
        unsigned byte;

        if (sscanf(text + (size_t)3 * i, "%2x", &byte) != 1) {
            return false;
        }
        mac[i] = (uint8_t)byte;
    }
    return true;
}

static int resolve_nic(struct parser *p, const struct parsed_device *d)
{
    struct options *o = p->o;
    struct option_nic *nic;

    if (o->nic_count == OPTIONS_MAX_NICS) {
        return options_bad(p, "more than %d NICs", OPTIONS_MAX_NICS);
    }
    nic = &o->nics[o->nic_count];
    *nic = (struct option_nic){.model = d->driver, .id = d->id, .tap_fd = -1, .devfn = d->devfn};
    memcpy(nic->mac, "\x52\x54\x00\x12\x34", 5);
    nic->mac[5] = (uint8_t)(0x56 + o->nic_count);
    if (d->mac && !parse_mac(d->mac, nic->mac)) {
        return options_bad(p, "bad MAC address '%.40s'; it must be like 00:16:3e:12:34:56", d->mac);
    }
    for (unsigned i = 0; d->netdev && i < p->netdev_count; i++) {
        struct parsed_netdev *n = &p->netdevs[i];

        if (strcmp(n->id, d->netdev) != 0) {
            continue;
        }
        if (n->used) {
            return options_bad(p, "netdev '%.60s' is used by two NICs", n->id);
        }
        n->used = true;
        nic->netdev = n->id;
        nic->ifname = n->ifname;
        nic->tap_fd = (int)n->fd;
    }
    if (d->netdev && !nic->netdev && strncmp(d->netdev, "hub0.", 5) != 0) {
        return options_bad(p, "%s: netdev '%.60s' does not exist; add -netdev tap,id=%.60s,ifname=...", d->driver, d->netdev,
                           d->netdev);
    }
    o->nic_count++;
    return 0;
}

/* ---- PCI slots ---- */

enum { PCI_SLOTS = 32 };

struct slot_map {
    uint8_t functions[PCI_SLOTS]; /* bit per used function */
};

/* "SLOT" or "SLOT.FUNCTION", each in hexadecimal with or without 0x. */
static bool parse_pci_addr(const char *text, uint8_t *devfn)
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
    if (!parse_pci_addr(d->addr, &d->devfn)) {
        return options_bad(p, "%s: bad addr '%.40s'; it must be SLOT or SLOT.FUNCTION in hexadecimal, 0 to 1f and 0 to 7",
                           d->driver, d->addr);
    }
    if (map->functions[d->devfn >> 3] & 1u << (d->devfn & 7)) {
        return options_bad(p, "%s: PCI address %02x.%x is taken", d->driver, d->devfn >> 3, d->devfn & 7);
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
 * The order that QEMU creates things in, because installed guests depend on the places: host bridge and PIIX3 at 0 and 1, -vga, the NICs of
 * -net nic, xen-platform of the xenfv machine, then -device as written. Given addresses are set aside first; where that differs from
 * QEMU, QEMU fails.
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
    if (o->vga.kind != OPTION_VGA_NONE && take_free_slot(p, &map, "the graphics adapter", &o->vga.devfn) < 0) {
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

        if (d->kind->pci && !d->addr && !d->legacy_nic && take_free_slot(p, &map, d->driver, &d->devfn) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- all of it ---- */

static int set_vga(struct parser *p, enum option_vga kind, const char *model, uint64_t vgamem_mb, uint8_t devfn)
{
    struct options *o = p->o;

    if (kind == OPTION_VGA_CIRRUS && vgamem_mb && vgamem_mb != 4 && vgamem_mb != 8 && vgamem_mb != 16) {
        return options_bad(p, "%s: bad value vgamem_mb=%u; a Cirrus adapter has 4, 8 or 16 MiB (videoram= in the guest's config)",
                           model, (unsigned)vgamem_mb);
    }
    if (vgamem_mb & (vgamem_mb - 1)) {
        return options_bad(p, "%s: bad value vgamem_mb=%u; it must be a power of two (videoram= in the guest's config)", model,
                           (unsigned)vgamem_mb);
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
        .masterbus = d->masterbus,
        .firstport = (unsigned)d->firstport,
        .controller = d->kind->class == CLASS_USB_CONTROLLER,
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
    o->sounds[o->sound_count++] = (struct option_sound){.model = d->driver, .pci = d->kind->pci, .devfn = d->devfn};
    return 0;
}

static int resolve_device(struct parser *p, const struct parsed_device *d)
{
    struct options *o = p->o;

    switch (d->kind->class) {
    case CLASS_VGA:
        if (o->vga.kind != OPTION_VGA_NONE) {
            return options_bad(p, "%s: there already is a graphics adapter (%s)", d->driver, o->vga.model);
        }
        return set_vga(p, (enum option_vga)d->kind->detail, d->driver, d->vgamem_mb ? d->vgamem_mb : p->global_vgamem, d->devfn);
    case CLASS_NIC:
        return resolve_nic(p, d);
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
            return options_bad(p, "xen-pvdevice: %s", d->device_id ? "given twice" : "device-id= is missing");
        }
        o->pvdevice.present = true;
        o->pvdevice.device_id = (uint16_t)d->device_id;
        o->pvdevice.vendor_id = (uint16_t)(d->vendor_id ? d->vendor_id : 0x5853);
        o->pvdevice.revision = (uint8_t)(d->revision ? d->revision : 1);
        o->pvdevice.devfn = d->devfn;
        return 0;
    case CLASS_PLATFORM:
        if (o->xen_platform) {
            return options_bad(p, "xen-platform: the machine already has one; use -machine pc to place it yourself");
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
    for (unsigned i = 0; i < p->netdev_count; i++) {
        p->option = "-netdev";
        if (!p->netdevs[i].used && p->o->other_count == 0) {
            return options_bad(p, "'%.60s' is not used by a NIC; add -device MODEL,netdev=%.60s", p->netdevs[i].id,
                               p->netdevs[i].id);
        }
    }
    return place_own_drives(p, true) < 0 || place_own_drives(p, false) < 0 || place_disk_devices(p) < 0 ? -EINVAL : 0;
}
