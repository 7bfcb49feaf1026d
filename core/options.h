/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The command line: QEMU's syntax as libxl emits it, and QEMU's other common spellings of what we
 * emulate.
 *
 * options_parse() reads the whole line, resolves every reference (-device drive=, netdev=, -mon
 * chardev=, ...; they may point forward) and gives every PCI device its slot, so that the board is
 * built from the struct alone. Like QEMU with
 * -nodefaults, nothing exists that the line did not ask for. What is well formed but cannot be done
 * yet is in the
 * struct all the same; options_check_supported() is the one place that refuses it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    OPTIONS_MAX_QMP = 4,
    OPTIONS_MAX_CHARDEVS = 32,
    OPTIONS_MAX_SERIALS = 4,
    OPTIONS_MAX_NICS = 8,
    OPTIONS_MAX_DRIVES = 32,
    OPTIONS_MAX_USB = 16,
    OPTIONS_MAX_SOUND = 8,
    OPTIONS_MAX_OTHER = 32,
    OPTIONS_MAX_VCPUS = 128, /* HVM_MAX_VCPUS */
    OPTIONS_XHCI_PORTS_MAX = 15,
    OPTIONS_XHCI_PORTS = 4,  /* USB 2 and USB 3 ports each, unless p2=, p3= say otherwise */
};

/* Answers of options_parse() besides 0 and -errno. */
enum { OPTIONS_HELP = 1, OPTIONS_VERSION = 2 };

enum option_chardev_kind {
    OPTION_CHARDEV_SOCKET, /* path (unix), host and port (tcp), or fd */
    OPTION_CHARDEV_PTY,
    OPTION_CHARDEV_FILE,
    OPTION_CHARDEV_NULL,
    OPTION_CHARDEV_STDIO,
    OPTION_CHARDEV_SPICEVMC,
};

struct option_chardev {
    const char *id;
    enum option_chardev_kind kind;
    const char *path; /* unix socket or file, else NULL */
    const char *host; /* tcp, else NULL */
    uint16_t port;    /* tcp */
    int fd;           /* a bound and listening socket, or -1 */
    bool server;
    bool wait;
    bool append;
    bool
        used; /* by a monitor or a serial port; the others are channels (PV consoles, "libxl-channel<N>") */
};

/* A QMP socket: path, or an already listening fd when path is NULL. */
struct option_qmp {
    const char *id; /* of the chardev */
    const char *path;
    int fd;
};

struct option_vnc {
    bool enabled;
    const char *text;      /* as written, for messages */
    const char *host;      /* "" is every address; IPv6 without brackets. NULL with unix_path */
    const char *unix_path; /* or NULL */
    int display;           /* TCP port 5900 + display, display 0..59635 */
    int to;                /* last display to try (absolute), or -1: only `display` */
    bool password;         /* authentication needed; it fails until QMP sets the password */
    bool ipv4, ipv6;       /* restrict host to one family; neither set: both allowed */
    bool
        exclusive_ok; /* share=allow-exclusive (default): a client that asks for it drops the others */
    bool force_shared; /* share=force-shared: clients that ask for exclusive access are refused */
};

/* -display sdl. */
struct option_sdl {
    bool enabled;
    const char *grab_mod; /* "lctrl-lalt", "lshift-lctrl-lalt", "rctrl", or NULL */
    bool full_screen;
    bool window_close; /* closing the window ends the guest */
    bool show_cursor;
};

enum option_vga {
    OPTION_VGA_NONE,
    OPTION_VGA_STD,
    OPTION_VGA_CIRRUS,
    OPTION_VGA_QXL,
    OPTION_VGA_OTHER
};

enum option_machine { OPTION_MACHINE_XENFV, OPTION_MACHINE_PC };

/* A NIC with its back end already looked up. */
struct option_nic {
    const char *model;     /* "rtl8139", "e1000", ... as written */
    const char *id;        /* of -device, or NULL */
    const char *netdev;    /* id of the back end, or NULL: not connected */
    const char *ifname;    /* tap interface to create, or NULL */
    int tap_fd;            /* an open tap given as fd=, or -1 */
    const char *dump_path; /* pcap file of -object filter-dump, or NULL */
    const char *romfile;   /* boot ROM image; "": none; NULL: the model's own */
    uint8_t mac[6];
    uint8_t devfn;
};

enum option_bus {
    OPTION_BUS_IDE, /* index 0..3: primary master, primary slave, secondary master, secondary slave */
    OPTION_BUS_AHCI,  /* index 0..5: port */
    OPTION_BUS_SCSI,  /* index 0..7: target */
    OPTION_BUS_OTHER, /* if=floppy, virtio, ... */
};

struct option_drive {
    const char *
        id; /* QMP name of the device: "ide-5632"; or QEMU's default "ide0-hd0", "ide1-cd0" when none was given */
    const char *drive_id; /* id of -drive (block name in query-block); same default */
    const char *path;     /* NULL: empty CD drive */
    const char *format;   /* "raw", "qcow2", ... as written; "raw" when not given, never probed */
    const char *serial;   /* serial= of the device (at most 20 characters), or NULL */
    enum option_bus bus;
    unsigned index;
    bool cdrom;
    bool readonly;
    bool
        writethrough; /* cache=writethrough or directsync: each write is stable before it is reported done */
    bool no_flush; /* cache=unsafe: flushes are ignored */
    bool direct;   /* cache=none or directsync: O_DIRECT */
};

struct option_usb {
    const char *driver; /* controller ("piix3-usb-uhci", ...) or device ("usb-tablet", ...) */
    const char *id;
    const char
        *bus; /* of a device: "ID.0", "usb-bus.0" is that of -usb; NULL: one with a port free */
    const char *port;      /* of a device: "1", "1.2" behind a hub; NULL: any */
    const char *masterbus; /* companion controllers, else NULL */
    unsigned firstport;
    uint8_t usb2_ports, usb3_ports; /* of an xHCI controller */
    uint8_t devfn; /* controllers */
};

struct option_sound {
    const char *model; /* "ac97", "es1370", "sb16", "intel-hda", ... */
    bool pci;
    uint8_t devfn;
};

/* Everything the line said. Strings live until options_free(). */
struct options {
    int domid;        /* 1..0x7fef */
    const char *name; /* or NULL */
    const char *uuid; /* checked only: the guest's SMBIOS is hvmloader's; or NULL */
    bool no_shutdown;
    bool start_paused; /* -S */
    int incoming_fd;   /* -1: fresh start */
    bool xen_domid_restrict;
    const char *chroot_dir; /* or NULL */
    const char *runas;      /* as written, or NULL */
    bool runas_numeric;     /* "uid:gid" form: the two numbers below */
    uint32_t runas_uid, runas_gid;
    const char *firmware_dir; /* -L, or NULL */

    enum option_machine machine;
    bool xen_platform; /* the xen-platform PCI device exists */
    uint8_t xen_platform_devfn;
    bool igd_passthru;
    uint64_t max_ram_below_4g; /* bytes, 0: not given */
    uint32_t mem_mib;          /* -m: maxmem without video memory */
    unsigned vcpus_online, vcpus_max;
    bool acpi;
    char boot_order[17]; /* letters a..p, each at most once; "" when not given */

    struct option_qmp qmp[OPTIONS_MAX_QMP];
    unsigned qmp_count;
    struct option_chardev chardevs[OPTIONS_MAX_CHARDEVS];
    unsigned chardev_count;
    /* Specs for chardev_open(), NULL: no port at this place. */
    const char *serials[OPTIONS_MAX_SERIALS];

    struct option_vnc vnc;
    struct option_sdl sdl;
    bool full_screen;   /* -full-screen */
    const char *keymap; /* "en-us", ... or NULL */
    const char *spice;  /* raw value, or NULL */

    struct {
        enum option_vga kind;
        const char *model;  /* as written */
        uint32_t vgamem_mb; /* 0: not given */
        uint8_t devfn;
    } vga;

    struct option_drive drives[OPTIONS_MAX_DRIVES]; /* in command-line order */
    unsigned drive_count;
    struct {
        bool present;
        const char *id;
        uint8_t devfn;
    } ahci, scsi;

    bool net_none;
    struct option_nic nics[OPTIONS_MAX_NICS];
    unsigned nic_count;

    bool usb;                                       /* -usb: UHCI as function 2 of the PIIX3 slot */
    struct option_usb usb_devices[OPTIONS_MAX_USB]; /* controllers and devices, in order */
    unsigned usb_device_count;

    struct option_sound sounds[OPTIONS_MAX_SOUND];
    unsigned sound_count;

    struct {
        bool present;
        uint16_t device_id;
        uint16_t vendor_id;
        uint8_t revision;
        uint8_t devfn;
    } pvdevice;

    const char *kernel, *initrd, *append; /* direct boot, or NULL */
    bool sandbox;                         /* -sandbox on */

    /* -device names that QEMU knows and no field above describes (virtio-serial, usb-redir, nvme,
     * ...). */
    const char *others[OPTIONS_MAX_OTHER];
    unsigned other_count;

    struct options_arena *arena; /* owner of the strings */
};

/*
 * Reads argv[1..argc-1] into o (overwritten). 0; OPTIONS_HELP or OPTIONS_VERSION when the line asks
 * for that (nothing after it is read); -EINVAL with one line in err that names the option, what is
 * wrong and what to do (no "hvm-dm: " before it, no newline). On every result o can be given to
 * options_free().
 */
int options_parse(struct options *o, int argc, char *const argv[], char *err, size_t errlen);
void options_free(struct options *o);

/* 0, or -ENOTSUP and one line in err naming the option that this build cannot honour and what to do
 * instead. */
int options_check_supported(const struct options *o, char *err, size_t errlen);

/** The PCI address in a property addr=: "SLOT" or "SLOT.FUNCTION", each in hexadecimal with or without 0x, 0 to 1f and 0 to 7.
 * False, and *devfn is as before, for anything else. */
bool options_pci_addr(const char *text, uint8_t *devfn);

/* Texts for -help and -version, each ending in a newline. */
const char *options_help_text(void);
const char *options_version_text(void);
