/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The machine: which devices there are and where. hw/board.c is the only list of devices, slots and
 * ports.
 */
#include <stddef.h>

#include "core/board.h"
#include "firmware/rom.h"

struct ahci;
struct block;
struct board_usb;
struct chardev;
struct display;
struct input;
struct net;
struct options;
struct piix_ide;

enum { BOARD_IDE_DRIVES = 4, BOARD_AHCI_DRIVES = 6, BOARD_SERIALS = 4, BOARD_NICS = 8 };

/* What the devices stand on, opened by main.c, borrowed here; must outlive the board. */
struct board_parts {
    struct display *display;
    struct input *input;
    struct rom vga_rom;                               /* len 0: no adapter, or one without BIOS */
    struct block *ide_medium[BOARD_IDE_DRIVES];       /* NULL: empty CD drive or no drive */
    const struct option_drive *ide[BOARD_IDE_DRIVES]; /* NULL: no drive at this place */
    struct block *ahci_medium[BOARD_AHCI_DRIVES];     /* the same for the AHCI controller's ports */
    const struct option_drive *ahci[BOARD_AHCI_DRIVES];
    struct chardev *serial[BOARD_SERIALS]; /* NULL: no port at this place */
    struct rom nic_rom[BOARD_NICS];        /* len 0: no boot ROM */
    struct net
        *net[BOARD_NICS]; /* of the NIC with this number; NULL: no NIC, or one without a cable */
};

/* Between the machine and main.c; must outlive the board. */
struct board_handles {
    struct piix_ide *ide; /* set by board_populate(), like all up to nic_count */
    struct ahci *ahci;    /* NULL: none */
    struct board_usb *usb;
    struct pci_bus *pci;
    const struct board_parts *parts;
    uint8_t nic_devfn[BOARD_NICS];
    unsigned nic_count; /* 0 once they were unplugged */
    /* The guest's PV drivers took over and the disks (not CD drives, not drive 0 when keep_first)
     * were flushed and detached: their images can be closed, since a PV backend has them open now.
     * */
    void (*disks_unplugged)(void *opaque, bool keep_first);
    void *opaque;
};

/* Creates every device of the machine that o describes. 0, or -errno and a line in err that names
 * the device. On failure the caller destroys the board. */
int board_populate(struct board *b, const struct options *o, const struct board_parts *parts,
                   struct board_handles *handles, char *err, size_t errlen);
