/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this build cannot honour. Each row goes away with the change that makes it work. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/options_parse.h"

/* Each function: does the line ask for it? *what is put into the row's text. */
static bool wants_nic(const struct options *o, const char **what)
{
    static const char *const models[] = {"rtl8139", "e1000",
                                         "e1000-82540em"}; /* as in hw/board.c */

    for (unsigned i = 0; i < o->nic_count; i++) {
        bool have = false;

        for (size_t m = 0; m < sizeof(models) / sizeof(models[0]); m++) {
            have |= strcmp(o->nics[i].model, models[m]) == 0;
        }
        if (!have) {
            *what = o->nics[i].model;
            return true;
        }
    }
    return false;
}

static bool wants_usb(const struct options *o, const char **what)
{
    for (unsigned i = 0; i < o->usb_device_count; i++) {
        const char *driver = o->usb_devices[i].driver; /* as in hw/board_usb.c */

        if (!optword_in("piix3-usb-uhci|ich9-usb-uhci1|ich9-usb-uhci2|ich9-usb-uhci3|ich9-usb-ehci1|usb-ehci|"
                        "nec-usb-xhci|usb-tablet|usb-mouse|usb-kbd|usb-hub",
                        driver, strlen(driver))) {
            *what = driver;
            return true;
        }
    }
    return false;
}

static bool wants_scsi(const struct options *o, const char **what)
{
    (void)what;
    return o->scsi.present;
}

static bool wants_drive_bus(const struct options *o, const char **what)
{
    for (unsigned i = 0; i < o->drive_count; i++) {
        if (o->drives[i].bus != OPTION_BUS_IDE && o->drives[i].bus != OPTION_BUS_AHCI) {
            *what = o->drives[i].drive_id;
            return true;
        }
    }
    return false;
}

static bool wants_format(const struct options *o, const char **what)
{
    for (unsigned i = 0; i < o->drive_count; i++) {
        if (o->drives[i].path &&
            !optword_in("raw|vpc|qcow2", o->drives[i].format, strlen(o->drives[i].format))) {
            *what = o->drives[i].format;
            return true;
        }
    }
    return false;
}

static bool wants_writethrough(const struct options *o, const char **what)
{
    for (unsigned i = 0; i < o->drive_count; i++) {
        if (o->drives[i].writethrough) {
            *what = o->drives[i].drive_id;
            return true;
        }
    }
    return false;
}

static bool wants_vga(const struct options *o, const char **what)
{
    *what = o->vga.model;
    return o->vga.kind == OPTION_VGA_QXL || o->vga.kind == OPTION_VGA_OTHER;
}

static bool wants_spice(const struct options *o, const char **what)
{
    (void)what;
    return o->spice;
}

static bool wants_sound(const struct options *o, const char **what)
{
    *what = o->sound_count ? o->sounds[0].model : NULL;
    return o->sound_count;
}

static bool wants_pvdevice(const struct options *o, const char **what)
{
    (void)what;
    return o->pvdevice.present;
}

static bool wants_direct_boot(const struct options *o, const char **what)
{
    *what = o->kernel;
    return o->kernel;
}

static bool wants_incoming(const struct options *o, const char **what)
{
    (void)what;
    return o->incoming_fd >= 0;
}

static bool wants_restrict(const struct options *o, const char **what)
{
    *what = o->xen_domid_restrict ? "-xen-domid-restrict"
            : o->chroot_dir       ? "-chroot"
            : o->runas            ? "-runas"
                                  : "-sandbox";
    return o->xen_domid_restrict || o->chroot_dir || o->runas || o->sandbox;
}

static bool wants_igd(const struct options *o, const char **what)
{
    (void)what;
    return o->igd_passthru;
}

static bool wants_channel(const struct options *o, const char **what)
{
    for (unsigned i = 0; i < o->chardev_count; i++) {
        if (!o->chardevs[i].used) {
            *what = o->chardevs[i].id;
            return true;
        }
    }
    return false;
}

static bool wants_other(const struct options *o, const char **what)
{
    *what = o->other_count ? o->others[0] : NULL;
    return o->other_count;
}

/* The message is before + what + after. */
static const struct {
    bool (*wants)(const struct options *o, const char **what);
    const char *before, *after;
} unsupported[] = {
    {wants_other, "-device: ", " is not supported; take it out of the guest's config"},
    {wants_nic, "-device: NIC model ",
     " is not supported; use model=e1000 or model=rtl8139 in vif="},
    {wants_usb, "-device: USB device ",
     " is not supported; use usbdevice=\"tablet\" or usbversion=1, 2 or 3 in the guest's config"},
    {wants_scsi,
     "-device: ", "lsi53c895a is not supported yet; use hda or xvda instead of sda in disk="},
    {wants_drive_bus, "-drive: the bus of '", "' is not supported yet; use if=ide"},
    {wants_format,
     "-drive: format=", " is not supported yet; convert the image with qemu-img convert -O raw"},
    {wants_writethrough, "-drive: the cache mode of '",
     "' is not supported yet; use cache=writeback"},
    {wants_vga, "-device: graphics adapter ",
     " is not supported; use vga=\"stdvga\" or vga=\"cirrus\""},
    {wants_spice, "-spice: ", "not supported; use vnc=1 instead of spice=1 in the guest's config"},
    {wants_sound, "-device: sound card ",
     " is not supported yet; take soundhw= out of the guest's config"},
    {wants_pvdevice, "-device: ",
     "xen-pvdevice is not supported yet; take vendor_device= out of the guest's config"},
    {wants_direct_boot, "-kernel: direct boot of ",
     " is not supported yet; boot from a disk or CD"},
    {wants_incoming, "-incoming: ", "restoring a guest is not supported yet; start it afresh"},
    {wants_restrict, "",
     ": not supported yet; take dm_restrict= and device_model_user= out of the guest's config"},
    {wants_igd,
     "-machine: ", "igd-passthru is not supported; take gfx_passthru= out of the guest's config"},
    {wants_channel, "-chardev: nothing uses '",
     "'; channel= in the guest's config is not supported yet"},
};

int options_check_supported(const struct options *o, char *err, size_t errlen)
{
    for (size_t i = 0; i < sizeof(unsupported) / sizeof(unsupported[0]); i++) {
        const char *what = "";

        if (unsupported[i].wants(o, &what)) {
            snprintf(err, errlen, "%s%.60s%s", unsupported[i].before, what, unsupported[i].after);
            options_one_line(err);
            return -ENOTSUP;
        }
    }
    return 0;
}
