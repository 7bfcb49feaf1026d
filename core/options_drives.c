/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks on the command line: -drive, -cdrom, -hda, and the places that -device ide-hd and its like
 * give them. */
#include <errno.h>
#include <string.h>

#include "core/options_parse.h"

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
    p->drives[p->drive_count] =
        (struct parsed_drive){.option = p->option, .index = -1, .bus = -1, .unit = -1};
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
        return options_bad(p, "index= together with bus= or unit= in '%.60s'; use one of them",
                           text);
    }
    for (struct parsed_drive *other = p->drives; d->id && other < d; other++) {
        if (other->id && strcmp(other->id, d->id) == 0) {
            return options_bad(p, "id '%.60s' is used twice", d->id);
        }
    }
    return 0;
}

int options_add_plain_drive(struct parser *p, const char *path, const char *interface, int index,
                            bool cdrom)
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
    static const char *const places[4] = {"primary master", "primary slave", "secondary master",
                                          "secondary slave"};
    const struct option_drive *other = find_place(p->o, d->bus, d->index);

    if (other) {
        return d->bus == OPTION_BUS_IDE
                   ? options_bad(p, "'%.60s' and '%.60s' are both the IDE %s (index %u)",
                                 other->drive_id, d->drive_id, places[d->index], d->index)
                   : options_bad(p, "'%.60s' and '%.60s' have the same place %u", other->drive_id,
                                 d->drive_id, d->index);
    }
    if (!d->cdrom && !d->path) {
        return options_bad(p, "disk '%.60s' has no file=; only a CD drive can be empty",
                           d->drive_id);
    }
    if (!d->cdrom && d->readonly && (d->bus == OPTION_BUS_IDE || d->bus == OPTION_BUS_AHCI)) {
        return options_bad(p,
                           "disk '%.60s' is read-only, which an ATA disk cannot be; make it a CD "
                           "drive or drop readonly=on",
                           d->drive_id);
    }
    if (d->serial && strlen(d->serial) > 20) {
        return options_bad(p, "serial '%.40s' of '%.60s' is longer than 20 characters", d->serial,
                           d->drive_id);
    }
    return 0;
}

/* Gives drive d its place. device is NULL for if=ide and the like. */
static int place_drive(struct parser *p, struct parsed_drive *d, const struct parsed_device *device,
                       enum option_bus bus, unsigned index, bool cdrom)
{
    static const char *const id_prefixes[] = {"ide", "ahci", "scsi", "drive"};
    struct options *o = p->o;
    struct option_drive *out;
    const char *cache = d && d->cache ? d->cache : "writeback";
    const char *auto_id =
        bus == OPTION_BUS_IDE
            ? arena_printf(&o->arena, "ide%u-%s%u", index / 2, cdrom ? "cd" : "hd", index % 2)
            : arena_printf(&o->arena, "%s0-%s%u", id_prefixes[bus], cdrom ? "cd" : "hd", index);

    if (!auto_id || o->drive_count == OPTIONS_MAX_DRIVES) {
        return options_bad(p, "more than %d drives", OPTIONS_MAX_DRIVES);
    }
    out = &o->drives[o->drive_count];
    *out = (struct option_drive){
        .id = device && device->id ? device->id
              : d && d->id         ? d->id
                                   : auto_id,
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
        options_bad(p, "'%.60s' is on ide.%d unit %d; there are ide.0 and ide.1 with units 0 and 1",
                    what, (int)bus, (int)(unit < 0 ? 0 : unit));
    } else {
        options_bad(p, "no free IDE place for '%.60s'; there are four", what);
    }
    return -1;
}

/* -drive with an interface of its own. Those with a given place come first so that the others fill
 * the gaps. */
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

        if (strcmp(d->interface, "none") == 0 ||
            with_place != (index >= 0 || d->bus >= 0 || d->unit >= 0)) {
            continue;
        }
        p->option = d->option;
        if (bus == OPTION_BUS_IDE && index > 3) {
            return options_bad(p, "index %d of '%.60s' is not an IDE place; use 0 to 3", index,
                               what);
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
            options_bad(p, "drive '%.60s' has if=%s; a drive for -device %s needs if=none", d->id,
                        d->interface, device->driver);
            return NULL;
        }
        if (d->placed) {
            options_bad(p, "drive '%.60s' is used by two devices", d->id);
            return NULL;
        }
        return d;
    }
    options_bad(p, "%s: drive '%.60s' does not exist; add -drive if=none,id=%.60s,...",
                device->driver, device->drive, device->drive);
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

static int place_ide_device(struct parser *p, const struct parsed_device *device,
                            struct parsed_drive *d)
{
    const struct options *o = p->o;
    const char *what = device->id ? device->id : device->driver;
    bool cdrom = device->kind->detail;
    int64_t bus = -1;
    int index;

    if (device->bus && o->ahci.present && o->ahci.id) {
        int64_t port = bus_number(device->bus, o->ahci.id, 5);

        if (port >= 0) {
            return device->unit > 0
                       ? options_bad(p, "'%.60s': a SATA port has unit 0 only", what)
                       : place_drive(p, d, device, OPTION_BUS_AHCI, (unsigned)port, cdrom);
        }
    }
    if (device->bus) {
        bus = bus_number(device->bus, "ide", 99);
        if (bus < 0) {
            return options_bad(p, "%s: bus '%.60s' does not exist; use ide.0 or ide.1",
                               device->driver, device->bus);
        }
    }
    index = ide_index(p, bus, device->unit, what);
    return index < 0 ? -EINVAL : place_drive(p, d, device, OPTION_BUS_IDE, (unsigned)index, cdrom);
}

static int place_scsi_device(struct parser *p, const struct parsed_device *device,
                             struct parsed_drive *d)
{
    unsigned target = device->scsi_id >= 0 ? (unsigned)device->scsi_id : 0;

    if (!p->o->scsi.present) {
        return options_bad(p, "%s needs a SCSI controller; add -device lsi53c895a before it",
                           device->driver);
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
        rc = device->kind->class == CLASS_IDE ? place_ide_device(p, device, d)
                                              : place_scsi_device(p, device, d);
        if (rc < 0) {
            return rc;
        }
    }
    for (unsigned i = 0; i < p->drive_count; i++) {
        p->option = p->drives[i].option;
        /* A device of CLASS_OTHER (refused later) may be its user; its keys were not read. */
        if (!p->drives[i].placed && p->o->other_count == 0) {
            return options_bad(
                p,
                "drive '%.60s' has if=none and no -device uses it; add -device ide-hd,drive=%.60s",
                p->drives[i].id ? p->drives[i].id : "", p->drives[i].id ? p->drives[i].id : "ID");
        }
    }
    return 0;
}

int options_resolve_drives(struct parser *p)
{
    return place_own_drives(p, true) < 0 || place_own_drives(p, false) < 0 ||
                   place_disk_devices(p) < 0
               ? -EINVAL
               : 0;
}
