/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Shared by core/options*.c only: what is collected while the line is read, to be resolved when all
 * of it is known.
 */
#include "core/options.h"
#include "core/optlist.h"

enum { OPTIONS_MAX_DEVICES = 64 };

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

/* A -drive (or -cdrom, -hda, ...). Unset numbers are -1. */
struct parsed_drive {
    const char *option; /* how it was written, for messages */
    const char *id, *file, *interface, *media, *format, *cache;
    int64_t index, bus, unit;
    bool readonly;
    bool placed; /* has its place in o->drives */
};

/* A -device. */
struct parsed_device {
    const struct device_kind *kind;
    const char *driver, *id, *drive, *netdev, *mac, *bus, *masterbus, *serial, *chardev, *addr, *romfile;
    int64_t unit, scsi_id, index;
    uint64_t vgamem_mb, firstport, port, device_id, vendor_id, revision;
    bool multifunction;
    bool legacy_nic; /* from -net nic or -nic: created before all -device */
    uint8_t devfn;
};

/* A -netdev, -net tap or -nic tap. */
struct parsed_netdev {
    const char *type, *id, *ifname;
    int64_t fd;
    bool used;
};

/* -object filter-dump. */
struct parsed_dump {
    const char *id, *netdev, *file;
};

struct parser {
    struct options *o;
    char *err;
    size_t errlen;
    const char *option; /* the one being read, "-drive" */
    struct parsed_drive drives[OPTIONS_MAX_DRIVES];
    unsigned drive_count;
    struct parsed_device devices[OPTIONS_MAX_DEVICES];
    unsigned device_count;
    struct parsed_netdev netdevs[OPTIONS_MAX_NICS];
    unsigned netdev_count;
    struct parsed_dump dumps[OPTIONS_MAX_NICS];
    unsigned dump_count;
    unsigned legacy_taps; /* -net tap so far; the n-th belongs to the n-th -net nic */
    unsigned legacy_nics;
    struct {
        const char *chardev;
    } monitors[OPTIONS_MAX_QMP];
    unsigned monitor_count;
    unsigned serial_count;
    const char *serial_specs[OPTIONS_MAX_SERIALS]; /* may be "chardev:ID" */
    const char *vga;                               /* of -vga, or NULL */
    uint64_t global_vgamem;                        /* MiB, 0: none */
    bool graphics_off;                             /* -nographic or -machine graphics=off */
};

/* Puts "OPTION: text" into p->err and returns -EINVAL. */
int options_bad(struct parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Messages quote the command line; this keeps them one line. */
void options_one_line(char *text);

/* One call per option. options_drives.c: */
int options_add_drive(struct parser *p, const char *text);
int options_add_plain_drive(struct parser *p, const char *path, const char *interface, int index,
                            bool cdrom);
/* options_devices.c: */
int options_add_device(struct parser *p, const char *text);
int options_add_usbdevice(struct parser *p, const char *text);
int options_add_sound(struct parser *p, const char *text);
/* options_net.c: */
int options_add_netdev(struct parser *p, const char *text);
int options_add_net(struct parser *p, const char *text);
int options_add_object(struct parser *p, const char *text);
int options_add_nic(struct parser *p, const char *text);

/* What -device NAME is; NULL: unknown. */
const struct device_kind *options_find_kind(const char *name);
/* Adds a device that an option other than -device asked for; NULL with p->err. */
struct parsed_device *options_implied_device(struct parser *p, const char *driver);

/* When the whole line is known: PCI slots and every device; the first calls the others. */
int options_resolve_devices(struct parser *p);
int options_resolve_nic(struct parser *p, const struct parsed_device *d);
int options_resolve_netdevs(struct parser *p);
int options_resolve_drives(struct parser *p);

/* options_sockets.c: chardevs, monitors, serial ports, VNC. */
int options_add_chardev(struct parser *p, const char *text);
int options_add_mon(struct parser *p, const char *text);
int options_add_qmp(struct parser *p, const char *text);
int options_add_serial(struct parser *p, const char *text);
int options_add_vnc(struct parser *p, const char *text);
int options_resolve_sockets(struct parser *p);
struct option_chardev *options_find_chardev(struct parser *p, const char *id);
