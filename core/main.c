/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hvm-dm: the process. Opens what the command line names, builds the board, serves ioreqs until the
 * toolstack ends it. Every failure before "running" is one line on stderr and exit code 1, with
 * nothing left behind; libxl keeps no other diagnosis.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "block/block.h"
#include "core/chardev.h"
#include "core/log.h"
#include "core/options.h"
#include "hw/ahci.h"
#include "hw/board.h"
#include "hw/piix_ide.h"
#include "ioreq/ioreq.h"
#include "monitor/qmp.h"
#include "monitor/qmp_block.h"
#include "monitor/qmp_screen.h"
#include "monitor/qmp_usb.h"
#include "net/net.h"
#include "pv/pv.h"
#include "ui/display.h"
#include "ui/input.h"
#include "ui/keymap.h"
#include "ui/sdl.h"
#include "ui/vnc.h"

enum { ERR_LEN = 512, MIB = 1 << 20 };

struct app {
    struct options o;
    struct loop *loop;
    struct platform *platform;
    struct pv *pv;
    struct board board;
    bool board_made;
    struct board_parts parts;
    struct board_handles handles;
    struct vnc *vnc;
    struct vnc_info vnc_now; /* strings that query-vnc borrows */
    struct sdl *sdl;
    struct qmp *qmp;
    struct qmp_media media;
    const struct option_drive
        *drives[BOARD_IDE_DRIVES + BOARD_AHCI_DRIVES]; /* in command-line order, for query-block */
    unsigned drive_count;
    struct watch signals;
    int signal_fd;
    bool running;
    bool started; /* has been running once: "paused" rather than "prelaunch" */
    char err[ERR_LEN];
};

/* ---- run state ---- */

static int set_running(struct app *a, bool running, char *err, size_t errlen)
{
    if (running && !a->started) {
        int ret = platform_start(a->platform, &a->board, err, errlen);

        if (ret != 0) {
            return ret;
        }
        a->started = true;
    }
    if (running != a->running) {
        a->running = running;
        loop_set_running(a->loop, running);
        for (unsigned i = 0; i < BOARD_NICS; i++) {
            if (a->parts.net[i] != NULL) {
                net_set_running(a->parts.net[i], running);
            }
        }
        platform_set_running(a->platform, running);
        if (a->pv != NULL) {
            pv_set_running(a->pv, running);
        }
    }
    return 0;
}

static void on_signal(void *arg, uint32_t events)
{
    struct app *a = arg;
    struct signalfd_siginfo info;

    (void)events;
    if (read(a->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        log_msg("ending on signal %u from pid %u", info.ssi_signo, info.ssi_pid);
        loop_quit(a->loop);
    }
}

/* Blocked before any thread exists, so that only the signalfd sees them. */
static int catch_signals(struct app *a)
{
    static const int ignored[] = {SIGPIPE, SIGXFSZ}; /* both come back as errors of the call */
    sigset_t set;

    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        signal(ignored[i], SIG_IGN);
    }
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    a->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (a->signal_fd < 0 ||
        loop_watch(a->loop, &a->signals, a->signal_fd, EPOLLIN, on_signal, a) != 0) {
        snprintf(a->err, sizeof(a->err), "cannot catch signals: %s", strerror(errno));
        return -1;
    }
    return 0;
}

/* ---- what QMP asks ---- */

static const char *env_status(void *opaque)
{
    const struct app *a = opaque;

    return a->running ? "running" : a->started ? "paused" : "prelaunch";
}

static int env_cont(void *opaque, char *err, size_t errlen)
{
    return set_running(opaque, true, err, errlen);
}

static int env_stop(void *opaque, char *err, size_t errlen)
{
    struct app *a = opaque;
    int ret = a->started ? set_running(a, false, err, errlen) : 0;

    for (unsigned i = 0; ret == 0 && i < BOARD_IDE_DRIVES; i++) {
        if (a->parts.ide_medium[i] != NULL) {
            block_drain(a->parts.ide_medium[i]);
        }
    }
    for (unsigned i = 0; ret == 0 && i < BOARD_AHCI_DRIVES; i++) {
        if (a->parts.ahci_medium[i] != NULL) {
            block_drain(a->parts.ahci_medium[i]);
        }
    }
    return ret;
}

static void env_quit(void *opaque)
{
    struct app *a = opaque;

    log_msg("ending on QMP quit");
    loop_quit(a->loop);
}

static void env_vnc_info(void *opaque, struct qmp_vnc *out)
{
    struct app *a = opaque;

    vnc_info(a->vnc, &a->vnc_now);
    *out = (struct qmp_vnc){
        .enabled = a->vnc_now.enabled,
        .host = a->vnc_now.host,
        .service = a->vnc_now.service,
        .family = a->vnc_now.family,
        .auth = a->vnc_now.auth,
        .clients = (unsigned)a->vnc_now.client_count,
    };
}

static int env_vnc_set_password(void *opaque, const char *password, char *err, size_t errlen)
{
    struct app *a = opaque;

    if (a->vnc == NULL || vnc_set_password(a->vnc, password) != 0) {
        snprintf(err, errlen, "VNC was not started with password=on");
        return -EINVAL;
    }
    return 0;
}

static bool env_chardev(void *opaque, unsigned i, struct qmp_chardev *out)
{
    const struct app *a = opaque;

    for (unsigned n = 0; n < BOARD_SERIALS; n++) {
        if (a->parts.serial[n] != NULL && i-- == 0) {
            *out = (struct qmp_chardev){chardev_label(a->parts.serial[n]),
                                        chardev_filename(a->parts.serial[n]), true};
            return true;
        }
    }
    return false;
}

static void close_unplugged(void *opaque, bool keep_first)
{
    struct app *a = opaque;

    for (unsigned i = keep_first ? 1 : 0; i < BOARD_IDE_DRIVES; i++) {
        if (a->parts.ide[i] != NULL && !a->parts.ide[i]->cdrom) {
            block_close(a->parts.ide_medium[i]);
            a->parts.ide_medium[i] = NULL;
        }
    }
    for (unsigned i = keep_first ? 1 : 0; i < BOARD_AHCI_DRIVES; i++) {
        if (a->parts.ahci[i] != NULL && !a->parts.ahci[i]->cdrom) {
            block_close(a->parts.ahci_medium[i]);
            a->parts.ahci_medium[i] = NULL;
        }
    }
}

/* Disks and CD drives at the AHCI controller; their media do not change at run time. */
static void describe_ahci(const struct app *a, const struct option_drive *d, struct qmp_block *out)
{
    struct ide_drive_info info = {0};

    ahci_info(a->handles.ahci, d->index, &info);
    out->removable = d->cdrom;
    out->locked = info.locked;
    out->tray_open = info.tray_open;
    out->inserted = info.medium != NULL;
    out->path = d->path;
    out->format = d->format;
    if (info.medium != NULL) {
        out->size_bytes = block_size_bytes(info.medium);
        out->stats = block_get_stats(info.medium);
    }
}

/* A disk of the PV drivers, behind the emulated drives in the list: xentop finds its counters by the
 * path. */
static bool pv_block(struct app *a, unsigned i, struct qmp_block *out)
{
    struct pv_disk d;

    if (a->pv == NULL || !pv_disk(a->pv, i, &d)) {
        return false;
    }
    *out = (struct qmp_block){.device = d.name,
                              .qdev = d.name,
                              .removable = d.cdrom,
                              .inserted = d.block != NULL,
                              .path = d.path,
                              .format = d.format,
                              .readonly = d.readonly};
    if (d.block != NULL) {
        out->size_bytes = block_size_bytes(d.block);
        out->stats = block_get_stats(d.block);
    }
    return true;
}

static bool env_block(void *opaque, unsigned i, struct qmp_block *out)
{
    struct app *a = opaque;
    const struct option_drive *d;

    if (i >= a->drive_count) {
        return pv_block(a, i - a->drive_count, out);
    }
    d = a->drives[i];
    *out = (struct qmp_block){
        .device = d->drive_id,
        .qdev = d->id,
        .readonly = d->readonly || d->cdrom,
    };
    if (d->bus == OPTION_BUS_AHCI) {
        describe_ahci(a, d, out);
    } else {
        qmp_media_describe(&a->media, d->index, out);
    }
    return true;
}

/* ---- opening ---- */

static int open_drives(struct app *a)
{
    for (unsigned i = 0; i < a->o.drive_count; i++) {
        const struct option_drive *d = &a->o.drives[i];
        struct block_config cfg = {.path = d->path,
                                   .format = d->format,
                                   .fd = -1,
                                   .readonly = d->readonly || d->cdrom,
                                   .cdrom = d->cdrom,
                                   .direct = d->direct};

        struct block **medium = NULL;

        if (d->bus == OPTION_BUS_IDE && d->index < BOARD_IDE_DRIVES) {
            a->parts.ide[d->index] = d;
            medium = &a->parts.ide_medium[d->index];
        } else if (d->bus == OPTION_BUS_AHCI && d->index < BOARD_AHCI_DRIVES) {
            a->parts.ahci[d->index] = d;
            medium = &a->parts.ahci_medium[d->index];
        } else {
            snprintf(a->err, sizeof(a->err), "drive %s: this bus is not emulated", d->id);
            return -1;
        }
        a->drives[a->drive_count++] = d;
        if (d->path == NULL) {
            continue;
        }
        *medium = block_open(a->loop, &cfg, a->err, sizeof(a->err));
        if (*medium == NULL) {
            return -1;
        }
    }
    return 0;
}

static int open_serials(struct app *a)
{
    for (unsigned i = 0; i < BOARD_SERIALS; i++) {
        char label[16];

        if (a->o.serials[i] == NULL) {
            continue;
        }
        snprintf(label, sizeof(label), "serial%u", i);
        a->parts.serial[i] = chardev_open(a->loop, label, a->o.serials[i], a->err, sizeof(a->err));
        if (a->parts.serial[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

/* Booting from the network is optional: only a ROM that was asked for by name has to be there. */
static int load_nic_rom(struct app *a, const struct option_nic *nic, struct rom *rom)
{
    static const struct {
        const char *model, *file;
        uint16_t vendor, device;
    } roms[] = {
        {"rtl8139", "efi-rtl8139.rom", 0x10ec, 0x8139},
        {"e1000", "efi-e1000.rom", 0x8086, 0x100e},
        {"e1000-82540em", "efi-e1000.rom", 0x8086, 0x100e},
    };

    for (size_t i = 0; i < sizeof(roms) / sizeof(roms[0]); i++) {
        const char *file = nic->romfile != NULL ? nic->romfile : roms[i].file;
        int ret;

        if (strcmp(roms[i].model, nic->model) != 0 || file[0] == '\0') {
            continue;
        }
        ret = rom_load(file[0] == '/' ? "" : a->o.firmware_dir, file, roms[i].vendor,
                       roms[i].device, rom, a->err, sizeof(a->err));
        if (ret == -ENOENT && nic->romfile == NULL) {
            trace("net", "norom", "%s is not installed: no boot from %s", file, nic->model);
            ret = 0;
        }
        return ret;
    }
    return 0;
}

/* The hotplug scripts look for the interfaces as soon as we say "running". */
static int open_nets(struct app *a)
{
    for (unsigned i = 0; i < a->o.nic_count; i++) {
        const struct option_nic *nic = &a->o.nics[i];
        struct net_config cfg = {.id = nic->netdev,
                                 .ifname = nic->ifname,
                                 .tap_fd = nic->tap_fd,
                                 .dump_path = nic->dump_path};

        if (load_nic_rom(a, nic, &a->parts.nic_rom[i]) != 0) {
            return -1;
        }
        if (nic->netdev == NULL) {
            continue;
        }
        a->parts.net[i] = net_open(a->loop, &cfg, a->err, sizeof(a->err));
        if (a->parts.net[i] == NULL) {
            return -1;
        }
        net_set_running(a->parts.net[i], false);
    }
    return 0;
}

/* To the user the window is the machine: closing it switches it off, as with QEMU. xl sees the domain
 * end and destroys it (on_poweroff=). Ending this process instead would leave a guest that hangs at
 * its next access to a device. window-close=off is for guests that matter. */
static void window_closed(void *opaque)
{
    struct app *a = opaque;

    log_msg("the window was closed: switching the guest off");
    platform_shutdown(a->platform, PLATFORM_POWEROFF);
}

static int open_window(struct app *a)
{
    const struct option_sdl *o = &a->o.sdl;
    struct sdl_config cfg = {
        .name = a->o.name,
        .full_screen = o->full_screen || a->o.full_screen,
        .show_cursor = o->show_cursor,
        .closed = o->window_close ? window_closed : NULL,
        .opaque = a,
    };

    if (o->grab_mod != NULL && strcmp(o->grab_mod, "rctrl") == 0) {
        cfg.grab_mod = SDL_GRAB_RCTRL;
    } else if (o->grab_mod != NULL && strcmp(o->grab_mod, "lshift-lctrl-lalt") == 0) {
        cfg.grab_mod = SDL_GRAB_LSHIFT_LCTRL_LALT;
    }
    a->sdl = sdl_create(a->loop, a->parts.display, a->parts.input, &cfg, a->err, sizeof(a->err));
    return a->sdl != NULL ? 0 : -1;
}

static int open_screen(struct app *a)
{
    static const struct {
        const char *file;
        uint16_t vendor, device;
    } roms[] = {
        [OPTION_VGA_STD] = {"vgabios-stdvga.bin", 0x1234, 0x1111},
        [OPTION_VGA_CIRRUS] = {"vgabios-cirrus.bin", 0x1013, 0x00b8},
    };
    const struct option_vnc *v = &a->o.vnc;

    if (keymap_find(a->o.keymap) == NULL) {
        snprintf(a->err, sizeof(a->err), "-k: keyboard layout '%.40s' is not known; known: %s",
                 a->o.keymap, keymap_names());
        return -1;
    }
    a->parts.display = display_create(a->loop);
    a->parts.input = input_create(a->loop);
    if (a->parts.display == NULL || a->parts.input == NULL) {
        snprintf(a->err, sizeof(a->err), "out of memory");
        return -1;
    }
    if (a->o.vga.kind == OPTION_VGA_STD || a->o.vga.kind == OPTION_VGA_CIRRUS) {
        if (rom_load(a->o.firmware_dir, roms[a->o.vga.kind].file, roms[a->o.vga.kind].vendor,
                     roms[a->o.vga.kind].device, &a->parts.vga_rom, a->err, sizeof(a->err)) != 0) {
            return -1;
        }
    }
    if (a->o.sdl.enabled && open_window(a) != 0) {
        return -1;
    }
    if (v->enabled) {
        struct vnc_config cfg = {
            .host = v->host,
            .unix_path = v->unix_path,
            .display = v->display,
            .to = v->to,
            .ipv4 = v->ipv4,
            .ipv6 = v->ipv6,
            .password = v->password,
            .share = v->force_shared   ? VNC_SHARE_FORCE_SHARED
                     : v->exclusive_ok ? VNC_SHARE_ALLOW_EXCLUSIVE
                                       : VNC_SHARE_IGNORE,
            .keymap = a->o.keymap,
            .name = a->o.name,
        };

        a->vnc =
            vnc_create(a->loop, a->parts.display, a->parts.input, &cfg, a->err, sizeof(a->err));
        if (a->vnc == NULL) {
            return -1;
        }
    }
    return 0;
}

/* The request that did it is still answered: the loop ends after its present turn. A reset never
 * ends the process: the toolstack does. */
static void guest_ended(void *opaque, enum platform_shutdown reason)
{
    struct app *a = opaque;

    if (reason == PLATFORM_POWEROFF && !a->o.no_shutdown) {
        loop_quit(a->loop);
    }
}

static int open_board(struct app *a)
{
    struct platform_config cfg = {
        .domid = a->o.domid,
        .ram_bytes = (uint64_t)a->o.mem_mib * MIB,
        .max_ram_below_4g = a->o.max_ram_below_4g,
        .ended = guest_ended,
        .opaque = a,
    };

    a->platform = platform_open(a->loop, &cfg, a->err, sizeof(a->err));
    if (a->platform == NULL) {
        return -1;
    }
    if (board_init(&a->board, a->loop, a->platform, platform_guestmem(a->platform)) != 0) {
        snprintf(a->err, sizeof(a->err), "out of memory");
        return -1;
    }
    a->board_made = true;
    a->handles.disks_unplugged = close_unplugged;
    a->handles.opaque = a;
    return board_populate(&a->board, &a->o, &a->parts, &a->handles, a->err, sizeof(a->err));
}

static int open_monitors(struct app *a)
{
    const struct qmp_env env = {
        .opaque = a,
        .name = a->o.name,
        .vcpus_online = a->o.vcpus_online,
        .vcpus_max = a->o.vcpus_max,
        .status = env_status,
        .cont = env_cont,
        .stop = env_stop,
        .quit = env_quit,
        .vnc_info = env_vnc_info,
        .vnc_set_password = env_vnc_set_password,
        .chardev = env_chardev,
        .block = env_block,
    };

    a->qmp = qmp_create(a->loop, &env);
    if (a->qmp == NULL) {
        snprintf(a->err, sizeof(a->err), "out of memory");
        return -1;
    }
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        const struct option_drive *d = a->parts.ide[i];

        if (d != NULL) {
            a->media.drives[i] = (struct qmp_media_drive){.present = true,
                                                          .cdrom = d->cdrom,
                                                          .device = d->drive_id,
                                                          .qdev = d->id,
                                                          .path = d->path,
                                                          .format = d->format,
                                                          .medium = &a->parts.ide_medium[i]};
        }
    }
    (void)qmp_media_init(&a->media, a->qmp, a->loop, a->handles.ide); /* one of few tables */
    (void)qmp_screen_init(a->qmp, a->parts.display);
    (void)qmp_usb_init(a->qmp, a->handles.usb);
    for (unsigned i = 0; i < a->o.qmp_count; i++) {
        const struct option_qmp *q = &a->o.qmp[i];
        int ret = q->path != NULL ? qmp_listen_path(a->qmp, q->id, q->path, a->err, sizeof(a->err))
                                  : qmp_listen_fd(a->qmp, q->id, q->fd, a->err, sizeof(a->err));

        if (ret != 0) {
            return -1;
        }
    }
    return 0;
}

/* The order of contract toolstack.md 2.1: everything is ready before "running" is written. */
static int start(struct app *a)
{
    a->loop = loop_create(false);
    if (a->loop == NULL) {
        snprintf(a->err, sizeof(a->err), "cannot create the event loop: %s", strerror(errno));
        return -1;
    }
    loop_set_running(a->loop, false);
    if (catch_signals(a) != 0 || open_drives(a) != 0 || open_serials(a) != 0 || open_nets(a) != 0 ||
        open_screen(a) != 0 || open_board(a) != 0 || open_monitors(a) != 0) {
        return -1;
    }
    platform_decline_backends(a->platform);
    if (a->o.start_paused) {
        return 0; /* dm_restrict: readiness is the answer to query-status */
    }
    a->pv = pv_create(a->loop, a->o.domid, a->err, sizeof(a->err));
    if (a->pv == NULL) {
        return -1;
    }
    if (set_running(a, true, a->err, sizeof(a->err)) != 0) {
        return -1;
    }
    return platform_set_state(a->platform, "running", a->err, sizeof(a->err));
}

/* Ends everything in reverse; each part may be missing. Images are flushed by block_close(). */
static void stop(struct app *a)
{
    if (a->started) {
        platform_set_running(a->platform, false);
    }
    pv_destroy(a->pv);
    qmp_destroy(a->qmp);
    qmp_media_fini(&a->media);
    if (a->board_made) {
        board_fini(&a->board);
    }
    platform_close(a->platform);
    vnc_destroy(a->vnc);
    sdl_destroy(a->sdl);
    display_destroy(a->parts.display);
    input_destroy(a->parts.input);
    rom_free(&a->parts.vga_rom);
    for (unsigned i = 0; i < BOARD_NICS; i++) {
        net_close(a->parts.net[i]);
        rom_free(&a->parts.nic_rom[i]);
    }
    for (unsigned i = 0; i < BOARD_SERIALS; i++) {
        chardev_close(a->parts.serial[i]);
    }
    for (unsigned i = 0; i < BOARD_IDE_DRIVES; i++) {
        block_close(a->parts.ide_medium[i]);
    }
    for (unsigned i = 0; i < BOARD_AHCI_DRIVES; i++) {
        block_close(a->parts.ahci_medium[i]);
    }
    loop_unwatch(&a->signals);
    if (a->signal_fd > 0) {
        close(a->signal_fd);
    }
    loop_destroy(a->loop);
    options_free(&a->o);
}

int main(int argc, char *argv[])
{
    static struct app a;
    int ret;

    log_init();
    ret = options_parse(&a.o, argc, argv, a.err, sizeof(a.err));
    if (ret == OPTIONS_HELP || ret == OPTIONS_VERSION) {
        fputs(ret == OPTIONS_HELP ? options_help_text() : options_version_text(), stdout);
        options_free(&a.o);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    if (ret == 0) {
        ret = options_check_supported(&a.o, a.err, sizeof(a.err));
    }
    if (ret != 0) {
        log_msg("%s", a.err);
        options_free(&a.o);
        return 1;
    }
    ret = start(&a);
    if (ret != 0) {
        log_msg("%s", a.err);
    } else {
        loop_run(a.loop);
    }
    stop(&a);
    return ret == 0 ? 0 : 1;
}
