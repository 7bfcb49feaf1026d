/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include <stdint.h>

struct board;

enum xen_unplug {                       /* Xen's docs/misc/hvm-emulated-unplug */
                  XEN_UNPLUG_DISKS = 1, /* all IDE and SCSI disks, not CD drives */
                  XEN_UNPLUG_NICS = 2,
                  XEN_UNPLUG_AUX_DISKS =
                      4, /* IDE disks other than the primary master; not set together with XEN_UNPLUG_DISKS */
                  XEN_UNPLUG_NVME = 8,
};

struct xen_platform_config {
    uint8_t devfn;
    /* The guest's PV drivers take over: detach what mask (enum xen_unplug bits, at least one)
     * names. Called inside an I/O handler, more than once if the guest asks more than once. May be
     * NULL. */
    void (*unplug)(void *opaque, unsigned mask);
    void *opaque;
};

/* Creates the Xen platform device 5853:0001 and its fixed ports 0x10-0x1f (magic, unplug, log, ROM
 * write protection). 0, or -errno with the board unchanged. Source: public/hvm/pvdrivers.h and
 * docs/misc/hvm-emulated-unplug of Xen. */
int xen_platform_create(struct board *b, const struct xen_platform_config *cfg);

/* Creates the Xen PV device `device_id` (0xc000: XenServer's), which is only an identity for driver
 * update services and a 4 MiB BAR. 0, or -errno with the board unchanged. */
int xen_pvdevice_create(struct board *b, uint8_t devfn, uint16_t device_id, uint8_t revision);
