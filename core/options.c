/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/options_parse.h"

#ifndef HVM_DM_VERSION
#define HVM_DM_VERSION "0.1.0"
#endif

enum {
    DOMID_MAX = 0x7fef, /* DOMID_FIRST_RESERVED - 1 */
    MEM_MIB_DEFAULT = 128,
    MEM_MIB_MAX = 16 << 20,
};

int options_bad(struct parser *p, const char *fmt, ...)
{
    va_list ap;
    int n = snprintf(p->err, p->errlen, "%s: ", p->option);

    if (n >= 0 && (size_t)n < p->errlen) {
        va_start(ap, fmt);
        vsnprintf(p->err + n, p->errlen - (size_t)n, fmt, ap);
        va_end(ap);
    }
    return -EINVAL;
}

void options_one_line(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = '?';
        }
    }
}

/* ---- one function per option that is more than a stored value ---- */

static int opt_domid(struct parser *p, const char *text)
{
    uint64_t domid;

    if (!optnum_uint(text, 1, DOMID_MAX, &domid)) {
        return options_bad(p, "bad domain id '%.40s'; it must be a number from 1 to %d", text,
                           DOMID_MAX);
    }
    p->o->domid = (int)domid;
    return 0;
}

/* libxl passes the guest's name as it is, commas included; QEMU's own form has guest= or its two
 * other keys. */
static int opt_name(struct parser *p, const char *text)
{
    struct name_keys {
        const char *guest;
    } k = {0};
    static const struct optkey keys[] = {
        {"guest", OPTKEY_TEXT, offsetof(struct name_keys, guest), 0, 0, NULL},
        {"process", OPTKEY_IGNORE, 0, 0, 0, NULL},
        {"debug-threads", OPTKEY_ONLY, 0, 0, 0, "on|off"},
        {0},
    };
    struct optlist l;

    if (strncmp(text, "guest=", 6) != 0 && !strstr(text, ",process=") &&
        !strstr(text, ",debug-threads=")) {
        p->o->name = text;
        return 0;
    }
    if (optlist_split(&l, &p->o->arena, "-name", "guest", text, p->err, p->errlen) < 0 ||
        optlist_read(&l, keys, NULL, &k, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    p->o->name = k.guest;
    return 0;
}

static int opt_machine(struct parser *p, const char *text)
{
    struct machine_keys {
        const char *type;
        uint64_t max_ram;
        bool igd, usb, acpi, graphics;
    } k = {.usb = p->o->usb,
           .acpi = p->o->acpi,
           .graphics = !p->graphics_off,
           .igd = p->o->igd_passthru,
           .max_ram = p->o->max_ram_below_4g};
    static const struct optkey keys[] = {
        {"type", OPTKEY_STRING, offsetof(struct machine_keys, type), 0, 0, NULL},
        {"accel", OPTKEY_ONLY, 0, 0, 0, "xen"},
        {"max-ram-below-4g", OPTKEY_SIZE, offsetof(struct machine_keys, max_ram), 1 << 20,
         0xffffffff, NULL},
        {"igd-passthru", OPTKEY_BOOL, offsetof(struct machine_keys, igd), 0, 0, NULL},
        {"usb", OPTKEY_BOOL, offsetof(struct machine_keys, usb), 0, 0, NULL},
        {"acpi", OPTKEY_BOOL, offsetof(struct machine_keys, acpi), 0, 0, NULL},
        {"graphics", OPTKEY_BOOL, offsetof(struct machine_keys, graphics), 0, 0, NULL},
        {"suppress-vmdesc", OPTKEY_ONLY, 0, 0, 0, "on|off"},
        {"dump-guest-core", OPTKEY_ONLY, 0, 0, 0, "on|off"},
        {"mem-merge", OPTKEY_ONLY, 0, 0, 0, "on|off"},
        {"vmport", OPTKEY_ONLY, 0, 0, 0, "off|auto"},
        {0},
    };
    struct optlist l;

    if (optlist_split(&l, &p->o->arena, p->option, "type", text, p->err, p->errlen) < 0 ||
        optlist_read(&l, keys, NULL, &k, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (k.type && optword_in("xenfv|xenfv-4.2|xenfv-3.1", k.type, strlen(k.type))) {
        p->o->machine = OPTION_MACHINE_XENFV;
    } else if (k.type && (strcmp(k.type, "pc") == 0 || strncmp(k.type, "pc-i440fx-", 10) == 0)) {
        p->o->machine = OPTION_MACHINE_PC;
    } else if (k.type) {
        return options_bad(
            p, "machine '%.40s' is not supported; use xenfv, or pc for one without xen-platform",
            k.type);
    }
    p->o->max_ram_below_4g = k.max_ram;
    p->o->igd_passthru = k.igd;
    p->o->usb = k.usb;
    p->o->acpi = k.acpi;
    p->graphics_off = !k.graphics;
    return 0;
}

static int opt_accel(struct parser *p, const char *text)
{
    return strcmp(text, "xen") == 0
               ? 0
               : options_bad(p, "'%.40s' is not possible; hvm-dm serves Xen guests", text);
}

static int opt_memory(struct parser *p, const char *text)
{
    struct memory_keys {
        const char *size;
    } k = {0};
    static const struct optkey keys[] = {
        {"size", OPTKEY_STRING, offsetof(struct memory_keys, size), 0, 0, NULL},
        {"slots", OPTKEY_ONLY, 0, 0, 0, "0"},
        {0},
    };
    struct optlist l;
    uint64_t bytes;

    if (optlist_split(&l, &p->o->arena, "-m", "size", text, p->err, p->errlen) < 0 ||
        optlist_read(&l, keys, NULL, &k, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (!k.size || !optnum_size(k.size, 1 << 20, 1, (uint64_t)MEM_MIB_MAX << 20, &bytes)) {
        return options_bad(
            p, "bad size '%.40s'; it must be MiB, or a number with K, M, G or T, up to 16T",
            k.size ? k.size : text);
    }
    p->o->mem_mib = (uint32_t)((bytes + (1 << 20) - 1) >> 20);
    return 0;
}

static int opt_smp(struct parser *p, const char *text)
{
    struct smp_keys {
        uint64_t cpus, maxcpus;
    } k = {0};
    static const struct optkey keys[] = {
        {"cpus", OPTKEY_UINT, offsetof(struct smp_keys, cpus), 1, OPTIONS_MAX_VCPUS, NULL},
        {"maxcpus", OPTKEY_UINT, offsetof(struct smp_keys, maxcpus), 1, OPTIONS_MAX_VCPUS, NULL},
        /* Topology is Xen's: guests see what libxl's CPUID policy says. */
        {"sockets", OPTKEY_IGNORE, 0, 0, 0, NULL},
        {"dies", OPTKEY_IGNORE, 0, 0, 0, NULL},
        {"cores", OPTKEY_IGNORE, 0, 0, 0, NULL},
        {"threads", OPTKEY_IGNORE, 0, 0, 0, NULL},
        {0},
    };
    struct optlist l;

    if (optlist_split(&l, &p->o->arena, "-smp", "cpus", text, p->err, p->errlen) < 0 ||
        optlist_read(&l, keys, NULL, &k, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (!k.cpus && !k.maxcpus) {
        return options_bad(p, "cpus= is missing in '%.60s'", text);
    }
    p->o->vcpus_online = (unsigned)(k.cpus ? k.cpus : k.maxcpus);
    p->o->vcpus_max = (unsigned)(k.maxcpus ? k.maxcpus : k.cpus);
    if (p->o->vcpus_online > p->o->vcpus_max) {
        return options_bad(p, "%u CPUs are more than maxcpus=%u", p->o->vcpus_online,
                           p->o->vcpus_max);
    }
    return 0;
}

static int opt_boot(struct parser *p, const char *text)
{
    struct boot_keys {
        const char *order;
    } k = {0};
    static const struct optkey keys[] = {
        {"order", OPTKEY_TEXT, offsetof(struct boot_keys, order), 0, 0, NULL},
        /* Of SeaBIOS on other machines; under Xen it reads none of these from the device model. */
        {"menu", OPTKEY_ONLY, 0, 0, 0, "on|off"},
        {"strict", OPTKEY_ONLY, 0, 0, 0, "on|off"},
        {"splash", OPTKEY_IGNORE, 0, 0, 0, NULL},
        {"splash-time", OPTKEY_IGNORE, 0, 0, 0, NULL},
        {"reboot-timeout", OPTKEY_IGNORE, 0, 0, 0, NULL},
        {0},
    };
    struct optlist l;
    unsigned seen = 0;

    if (optlist_split(&l, &p->o->arena, "-boot", "order", text, p->err, p->errlen) < 0 ||
        optlist_read(&l, keys, NULL, &k, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    for (const char *c = k.order; c && *c; c++) {
        if (*c < 'a' || *c > 'p') {
            return options_bad(p,
                               "bad letter '%c' in order '%.40s'; use a (floppy), c (disk), d (CD) "
                               "and n (network)",
                               isprint((unsigned char)*c) ? *c : '?', k.order);
        }
        if (seen & 1u << (*c - 'a')) {
            return options_bad(p, "letter '%c' is twice in order '%.40s'", *c, k.order);
        }
        seen |= 1u << (*c - 'a');
    }
    if (k.order) {
        snprintf(p->o->boot_order, sizeof(p->o->boot_order), "%s", k.order);
    }
    return 0;
}

/* QEMU's keys. The last -display wins, and so none after sdl takes the window back. */
static const struct optkey sdl_keys[] = {
    {"type", OPTKEY_ONLY, 0, 0, 0, "sdl"},
    {"gl", OPTKEY_ONLY, 0, 0, 0, "off"}, /* the guest's adapters draw no OpenGL */
    {"grab-mod", OPTKEY_STRING, offsetof(struct option_sdl, grab_mod), 0, 0,
     "lctrl-lalt|lshift-lctrl-lalt|rctrl"},
    {"full-screen", OPTKEY_BOOL, offsetof(struct option_sdl, full_screen), 0, 0, NULL},
    {"window-close", OPTKEY_BOOL, offsetof(struct option_sdl, window_close), 0, 0, NULL},
    {"show-cursor", OPTKEY_BOOL, offsetof(struct option_sdl, show_cursor), 0, 0, NULL},
    {0},
};

static int opt_display(struct parser *p, const char *text)
{
    if (strncmp(text, "type=", 5) == 0) {
        text += 5;
    }
    if (strcmp(text, "none") == 0) {
        p->o->sdl.enabled = false;
        return 0;
    }
    if (strcmp(text, "sdl") == 0 || strncmp(text, "sdl,", 4) == 0) {
        struct option_sdl sdl = {.enabled = true, .window_close = true};
        struct optlist l;

        if (optlist_split(&l, &p->o->arena, "-display", "type", text, p->err, p->errlen) < 0 ||
            optlist_read(&l, sdl_keys, NULL, &sdl, p->err, p->errlen) < 0) {
            return -EINVAL;
        }
        p->o->sdl = sdl;
        return 0;
    }
    if (strncmp(text, "vnc=", 4) == 0) {
        return options_add_vnc(p, text + 4);
    }
    return options_bad(p, "'%.60s' is not supported; use none, sdl or vnc=HOST:DISPLAY", text);
}

static int opt_sdl(struct parser *p, const char *text)
{
    (void)text;
    return opt_display(p, "sdl");
}

static int opt_keymap(struct parser *p, const char *text)
{
    if (text[0] == '\0' || strspn(text, "abcdefghijklmnopqrstuvwxyz-") != strlen(text)) {
        return options_bad(p, "bad keyboard layout '%.40s'; it must be a name like en-us", text);
    }
    p->o->keymap = text;
    return 0;
}

static int opt_monitor(struct parser *p, const char *text)
{
    if (optword_in("none|null|/dev/null", text, strlen(text))) {
        return 0;
    }
    return options_bad(
        p, "there is no human monitor; use -monitor none, and -qmp unix:PATH,server=on,wait=off");
}

static int opt_parallel(struct parser *p, const char *text)
{
    if (optword_in("none|null|/dev/null", text, strlen(text))) {
        return 0;
    }
    return options_bad(p, "there is no parallel port; use none");
}

static int opt_rtc(struct parser *p, const char *text)
{
    static const struct optkey keys[] = {
        {"base", OPTKEY_ONLY, 0, 0, 0,
         "utc"}, /* the clock is Xen's; localtime=1 in the guest's config moves it */
        {"clock", OPTKEY_ONLY, 0, 0, 0, "host"},
        {"driftfix", OPTKEY_ONLY, 0, 0, 0, "none|slew"},
        {0},
    };
    struct optlist l;

    if (optlist_split(&l, &p->o->arena, "-rtc", NULL, text, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (optlist_get(&l, "base") && strcmp(optlist_get(&l, "base"), "localtime") == 0) {
        return options_bad(p, "the clock belongs to Xen; put localtime=1 into the guest's config "
                              "instead of base=localtime");
    }
    return optlist_read(&l, keys, NULL, NULL, p->err, p->errlen);
}

/* Only the two properties that have an option of their own. */
static int opt_global(struct parser *p, const char *text)
{
    const char *value = NULL;

    if (strncmp(text, "VGA.vgamem_mb=", 14) == 0) {
        value = text + 14;
    } else if (strncmp(text, "cirrus-vga.vgamem_mb=", 21) == 0) {
        value = text + 21;
    }
    if (!value) {
        return options_bad(
            p, "property '%.60s' is not known; known: VGA.vgamem_mb cirrus-vga.vgamem_mb", text);
    }
    if (!optnum_uint(value, 1, 256, &p->global_vgamem)) {
        return options_bad(p, "bad value '%.60s'; it must be a number from 1 to 256", text);
    }
    return 0;
}

static int opt_incoming(struct parser *p, const char *text)
{
    uint64_t fd;

    if (strncmp(text, "fd:", 3) != 0 || !optnum_uint(text + 3, 0, INT32_MAX, &fd)) {
        return options_bad(p, "bad source '%.60s'; it must be fd:NUMBER", text);
    }
    p->o->incoming_fd = (int)fd;
    return 0;
}

static int opt_runas(struct parser *p, const char *text)
{
    const char *colon = strchr(text, ':');
    char uid_text[16];
    uint64_t uid, gid;

    p->o->runas = text;
    p->o->runas_numeric = colon;
    if (!colon) {
        return text[0] ? 0 : options_bad(p, "the user name is empty");
    }
    snprintf(uid_text, sizeof(uid_text), "%.*s", (int)(colon - text), text);
    if (colon - text > 10 || !optnum_uint(uid_text, 1, UINT32_MAX - 1, &uid) ||
        !optnum_uint(colon + 1, 0, UINT32_MAX - 1, &gid)) {
        return options_bad(p, "bad user '%.40s'; it must be a name or UID:GID, and not root", text);
    }
    p->o->runas_uid = (uint32_t)uid;
    p->o->runas_gid = (uint32_t)gid;
    return 0;
}

static int opt_sandbox(struct parser *p, const char *text)
{
    static const struct optkey keys[] = {
        {"enable", OPTKEY_BOOL, offsetof(struct options, sandbox), 0, 0, NULL},
        {"obsolete", OPTKEY_ONLY, 0, 0, 0, "allow|deny"},
        {"elevateprivileges", OPTKEY_ONLY, 0, 0, 0, "allow|deny|children"},
        {"spawn", OPTKEY_ONLY, 0, 0, 0, "allow|deny"},
        {"resourcecontrol", OPTKEY_ONLY, 0, 0, 0, "allow|deny"},
        {0},
    };
    struct optlist l;

    if (optlist_split(&l, &p->o->arena, "-sandbox", "enable", text, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    return optlist_read(&l, keys, NULL, p->o, p->err, p->errlen);
}

static int opt_uuid(struct parser *p, const char *text)
{
    size_t n = strlen(text);
    bool good = n == 36;

    for (size_t i = 0; good && i < n; i++) {
        good = i == 8 || i == 13 || i == 18 || i == 23 ? text[i] == '-'
                                                       : isxdigit((unsigned char)text[i]) != 0;
    }
    p->o->uuid = text;
    return good ? 0 : options_bad(p, "bad UUID '%.40s'", text);
}

static int opt_nographic(struct parser *p, const char *text)
{
    (void)text;
    p->o->sdl.enabled = false;
    p->graphics_off = true;
    return 0;
}

static int opt_vga(struct parser *p, const char *text)
{
    p->vga = text;
    return 0;
}

static int opt_cdrom(struct parser *p, const char *text)
{
    return options_add_plain_drive(p, text, "ide", 2, true);
}

/* -hda .. -hdd, -fda, -fdb: the last letter is the place. */
static int opt_hard_disk(struct parser *p, const char *text)
{
    return options_add_plain_drive(p, text, "ide", p->option[3] - 'a', false);
}

static int opt_floppy(struct parser *p, const char *text)
{
    return options_add_plain_drive(p, text, "floppy", p->option[3] - 'a', false);
}

static int opt_no_acpi(struct parser *p, const char *text)
{
    (void)text;
    p->o->acpi = false;
    return 0;
}

/* ---- the table ---- */

enum option_kind {
    KIND_CALL,   /* fn with the argument (NULL when there is none) */
    KIND_FLAG,   /* sets a bool of struct options */
    KIND_TEXT,   /* stores the argument in a const char * of struct options; not empty */
    KIND_IGNORE, /* nothing to do */
    KIND_REFUSE, /* QEMU has it and we never will: `help` says what to do */
    KIND_HELP,
    KIND_VERSION,
};

struct option_desc {
    const char *name;
    const char *argument; /* NULL: takes none. Shown in -help */
    enum option_kind kind;
    int (*fn)(struct parser *p, const char *text);
    size_t offset;
    const char *help; /* NULL: an alias or of no interest, not shown */
};

#define CALL(name, argument, fn, help)                                                             \
    {                                                                                              \
        name, argument, KIND_CALL, fn, 0, help                                                     \
    }
#define FLAG(name, field, help)                                                                    \
    {                                                                                              \
        name, NULL, KIND_FLAG, NULL, offsetof(struct options, field), help                         \
    }
#define TEXT(name, argument, field, help)                                                          \
    {                                                                                              \
        name, argument, KIND_TEXT, NULL, offsetof(struct options, field), help                     \
    }
#define IGNORE(name, argument, help)                                                               \
    {                                                                                              \
        name, argument, KIND_IGNORE, NULL, 0, help                                                 \
    }
#define REFUSE(name, argument, what)                                                               \
    {                                                                                              \
        name, argument, KIND_REFUSE, NULL, 0, what                                                 \
    }

static const struct option_desc option_table[] = {
    CALL("xen-domid", "ID", opt_domid, "the guest to serve (required)"),
    FLAG("no-shutdown", no_shutdown, "keep running when the guest powers off"),
    FLAG("S", start_paused, "start stopped; QMP cont starts"),
    CALL("chardev", "KIND,id=ID,...", options_add_chardev, "socket, pty, file, null or stdio"),
    CALL("mon", "chardev=ID,mode=control", options_add_mon, "QMP on a socket chardev"),
    CALL("qmp", "unix:PATH,server=on,wait=off", options_add_qmp, "QMP on a socket"),
    CALL("monitor", "none", opt_monitor, NULL),
    IGNORE("nodefaults", NULL, "accepted; nothing exists that is not asked for"),
    IGNORE("no-user-config", NULL, "accepted; there is no configuration file"),
    IGNORE("nodefconfig", NULL, NULL),
    IGNORE("no-fd-bootchk", NULL, NULL),
    CALL("name", "NAME", opt_name, "name of the guest"),
    CALL("uuid", "UUID", opt_uuid, NULL),
    CALL("vnc", "HOST:DISPLAY[,to=N][,password=on]", options_add_vnc,
         "VNC server; also unix:PATH, none"),
    CALL("display", "none|sdl[,full-screen=on]|vnc=...", opt_display,
         "window on this host; also grab-mod=, window-close=, show-cursor="),
    CALL("sdl", NULL, opt_sdl, "-display sdl"),
    FLAG("full-screen", full_screen, "with -display sdl: full screen from the start"),
    CALL("nographic", NULL, opt_nographic, NULL),
    CALL("k", "LAYOUT", opt_keymap, "keyboard layout of the VNC viewer's user"),
    TEXT("kernel", "FILE", kernel, NULL),
    TEXT("initrd", "FILE", initrd, NULL),
    TEXT("append", "TEXT", append, NULL),
    CALL("serial", "SPEC", options_add_serial,
         "pty, file:PATH, tcp:HOST:PORT, unix:PATH, stdio, null, chardev:ID"),
    CALL("parallel", "none", opt_parallel, NULL),
    TEXT("spice", "OPTIONS", spice, NULL),
    CALL("device", "NAME[,id=ID][,addr=SLOT]...", options_add_device,
         "VGA, cirrus-vga, ide-hd, ide-cd, xen-platform, ..."),
    CALL("vga", "std|cirrus|none", opt_vga, "graphics adapter"),
    CALL("boot", "[order=]LETTERS", opt_boot, "a floppy, c disk, d CD, n network"),
    FLAG("usb", usb, NULL),
    CALL("usbdevice", "tablet|mouse|keyboard", options_add_usbdevice, NULL),
    CALL("soundhw", "CARD", options_add_sound, NULL),
    CALL("no-acpi", NULL, opt_no_acpi, "no ACPI"),
    CALL("smp", "N[,maxcpus=M]", opt_smp, "virtual CPUs"),
    CALL("netdev", "tap,id=ID,ifname=NAME", options_add_netdev, "network back end"),
    CALL("net", "none", options_add_net, "also nic and tap"),
    CALL("nic", "none", options_add_nic, "also tap"),
    CALL("object", "filter-dump,id=ID,netdev=ID,file=PATH", options_add_object,
         "frames of a NIC into a pcap file"),
    CALL("machine", "xenfv|pc[,...]", opt_machine, "with or without xen-platform"),
    CALL("M", "xenfv|pc[,...]", opt_machine, NULL),
    CALL("accel", "xen", opt_accel, NULL),
    CALL("m", "MIB", opt_memory, "guest memory, without video memory"),
    CALL("drive", "file=PATH,format=raw,...", options_add_drive,
         "with if=ide,index=N,media=disk|cdrom, or if=none,id=ID"),
    CALL("cdrom", "FILE", opt_cdrom, "-drive if=ide,index=2,media=cdrom"),
    CALL("hda", "FILE", opt_hard_disk, "-drive if=ide,index=0; also hdb, hdc, hdd"),
    CALL("hdb", "FILE", opt_hard_disk, NULL),
    CALL("hdc", "FILE", opt_hard_disk, NULL),
    CALL("hdd", "FILE", opt_hard_disk, NULL),
    CALL("fda", "FILE", opt_floppy, NULL),
    CALL("fdb", "FILE", opt_floppy, NULL),
    CALL("global", "DRIVER.PROPERTY=VALUE", opt_global, NULL),
    CALL("rtc", "base=utc", opt_rtc, NULL),
    CALL("incoming", "fd:N", opt_incoming, NULL),
    FLAG("xen-domid-restrict", xen_domid_restrict, NULL),
    TEXT("chroot", "DIR", chroot_dir, NULL),
    CALL("runas", "USER", opt_runas, NULL),
    CALL("sandbox", "on", opt_sandbox, NULL),
    TEXT("L", "DIR", firmware_dir, "where the VGA BIOS images are"),
    {"help", NULL, KIND_HELP, NULL, 0, "this text"},
    {"h", NULL, KIND_HELP, NULL, 0, NULL},
    {"version", NULL, KIND_VERSION, NULL, 0, "the version"},
    REFUSE("daemonize", NULL, "not possible, libxl has to know the process; leave it out"),
    REFUSE("pidfile", "FILE",
           "not supported; libxl records the process id in xenstore, leave it out"),
    REFUSE("D", "FILE", "not supported; the log is stderr, redirect that"),
    REFUSE("enable-kvm", NULL, "not possible, hvm-dm serves Xen guests; leave it out"),
    REFUSE("xen-attach", NULL,
           "PV guests are not served; use this device model for HVM guests only"),
    REFUSE("cpu", "MODEL", "CPUs belong to Xen; use cpuid= in the guest's config"),
    REFUSE("bios", "FILE",
           "Xen loads the BIOS; use bios= or bios_path_override= in the guest's config"),
    REFUSE("pflash", "FILE", "Xen loads the BIOS; use bios= in the guest's config"),
    REFUSE("loadvm", "TAG", "saved guests come from xl restore; leave it out"),
    REFUSE("curses", NULL, "not supported; use -vnc"),
    REFUSE("trace", "PATTERN", "not supported; set HVM_DM_TRACE=device,... in the environment"),
    REFUSE("d", "ITEM", "not supported; set HVM_DM_TRACE=device,... in the environment"),
    REFUSE("gdb", "DEVICE", "not supported; use gdbsx"),
    REFUSE("readconfig", "FILE", "not supported; put everything on the command line"),
    REFUSE("qmp-pretty", "SOCKET", "not supported; use -qmp"),
};

static const struct option_desc *find_option(const char *name)
{
    for (size_t i = 0; i < sizeof(option_table) / sizeof(option_table[0]); i++) {
        if (strcmp(option_table[i].name, name) == 0) {
            return &option_table[i];
        }
    }
    return NULL;
}

/* Does what one option says. 0, OPTIONS_HELP, OPTIONS_VERSION or -EINVAL. */
static int apply(struct parser *p, const struct option_desc *d, const char *text)
{
    switch (d->kind) {
    case KIND_CALL:
        return d->fn(p, text);
    case KIND_FLAG:
        *(bool *)((char *)p->o + d->offset) = true;
        return 0;
    case KIND_TEXT:
        if (text[0] == '\0' && strcmp(d->name, "append") != 0) {
            return options_bad(p, "the argument is empty");
        }
        *(const char **)((char *)p->o + d->offset) = text;
        return 0;
    case KIND_IGNORE:
        return 0;
    case KIND_REFUSE:
        return options_bad(p, "%s", d->help);
    case KIND_HELP:
        return OPTIONS_HELP;
    case KIND_VERSION:
        return OPTIONS_VERSION;
    }
    return -EINVAL;
}

static int read_line(struct parser *p, int argc, char *const argv[])
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        const struct option_desc *d;
        const char *text = NULL;
        int rc;

        if (name[0] != '-' || name[1] == '\0') {
            snprintf(p->err, p->errlen,
                     "%.60s: not an option; disks are given with -drive or -cdrom, see -help",
                     name[0] ? name : "''");
            return -EINVAL;
        }
        name += name[1] == '-' ? 2 : 1;
        d = find_option(name);
        if (!d) {
            snprintf(p->err, p->errlen, "-%.60s: unknown option; see -help for what is known",
                     name);
            return -EINVAL;
        }
        p->option = arena_printf(&p->o->arena, "-%s", d->name);
        if (!p->option) {
            snprintf(p->err, p->errlen, "out of memory");
            return -EINVAL;
        }
        if (d->argument) {
            if (i + 1 == argc) {
                return options_bad(p, "the argument is missing (%s)", d->argument);
            }
            text = argv[++i];
        }
        rc = apply(p, d, text);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* What depends on the whole line. */
static int resolve(struct parser *p)
{
    struct options *o = p->o;

    if (!o->domid) {
        snprintf(
            p->err, p->errlen,
            "-xen-domid: missing; hvm-dm is started by xl (device_model_override=), see -help");
        return -EINVAL;
    }
    if ((o->initrd || o->append) && !o->kernel) {
        snprintf(p->err, p->errlen, "%s: needs -kernel", o->initrd ? "-initrd" : "-append");
        return -EINVAL;
    }
    o->xen_platform = o->machine == OPTION_MACHINE_XENFV;
    if (options_resolve_devices(p) < 0 || options_resolve_sockets(p) < 0) {
        return -EINVAL;
    }
    if (o->net_none && o->nic_count) {
        snprintf(p->err, p->errlen, "-net: none together with a NIC (%s); drop one of them",
                 o->nics[0].model);
        return -EINVAL;
    }
    return 0;
}

int options_parse(struct options *o, int argc, char *const argv[], char *err, size_t errlen)
{
    struct parser *p = calloc(1, sizeof(*p));
    int rc;

    *o = (struct options){
        .incoming_fd = -1,
        .acpi = true,
        .mem_mib = MEM_MIB_DEFAULT,
        .vcpus_online = 1,
        .vcpus_max = 1,
        .vnc.to = -1,
    };
    err[0] = '\0';
    if (!p) {
        snprintf(err, errlen, "out of memory");
        return -EINVAL;
    }
    p->o = o;
    p->err = err;
    p->errlen = errlen;
    p->option = "";
    rc = read_line(p, argc, argv);
    if (rc == 0) {
        rc = resolve(p);
    }
    options_one_line(err);
    free(p);
    return rc;
}

void options_free(struct options *o)
{
    arena_free(&o->arena);
}

const char *options_version_text(void)
{
    return "hvm-dm version " HVM_DM_VERSION "\n";
}

const char *options_help_text(void)
{
    static char text[8192];
    size_t n = 0;

    if (text[0]) {
        return text;
    }
    n += (size_t)snprintf(
        text, sizeof(text),
        "hvm-dm version " HVM_DM_VERSION ", device model of one Xen HVM guest\n"
        "usage: hvm-dm -xen-domid ID [options]\n"
        "xl starts it: device_model_override = '/path/to/hvm-dm' in the guest's config.\n"
        "The syntax is QEMU's; -option and --option are the same.\n\n");
    for (size_t i = 0; i < sizeof(option_table) / sizeof(option_table[0]); i++) {
        const struct option_desc *d = &option_table[i];

        if (d->help && d->kind != KIND_REFUSE && n < sizeof(text)) {
            n += (size_t)snprintf(text + n, sizeof(text) - n, "  -%s %s\n        %s\n", d->name,
                                  d->argument ? d->argument : "", d->help);
        }
    }
    return text;
}
