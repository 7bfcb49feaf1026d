/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The machine's USB: controllers, hubs and functions, by name; those of the command line, and those that come and go
 * while the guest runs. hw/board_usb.c has the table of all drivers.
 *
 * A function is plugged into the port that it asks for, or the first free one; when that is the last one of a bus with
 * hubs (full speed), a hub is plugged in there first and the function behind it, as with QEMU. Ports are named "1", and
 * behind a hub "1.1"; buses "ID.0" after their controller, or "usb-bus.N" if that has no id.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/board.h"

struct acpi_gpe;
struct board_usb;
struct input;
struct option_usb;
struct options;

enum { BOARD_USB_ANY_SLOT = 0xff, BOARD_USB_ID_LEN = 64, BOARD_USB_PATH_LEN = 32 };

/*
 * Creates what o says, with events of `in` (may be NULL) and hot-plug through gpe; all is borrowed. *out is the
 * board's. 0, or -errno and a line in err; the caller then destroys the board.
 */
int board_usb_create(struct board *b, const struct options *o, struct input *in,
                     struct acpi_gpe *gpe, struct board_usb **out, char *err, size_t errlen);

/* At run time. Controllers come in a free PCI slot (devfn BOARD_USB_ANY_SLOT) or function 0 of that of devfn; the guest
 * is told. 0, or -errno and a line in err: no such driver, bus or port, id in use, no room. */
int board_usb_add(struct board_usb *u, const struct option_usb *o, char *err, size_t errlen);
/*
 * Functions go at once, with what is behind a hub. The guest is asked to give a controller up, which goes with all of
 * its functions when it answers (board_usb_eject()). 0; -ENOENT: no such id; -ENOTSUP: not at run time.
 */
int board_usb_remove(struct board_usb *u, const char *id);
/* The guest has ejected the PCI slot. */
void board_usb_eject(struct board_usb *u, unsigned slot);
/* What driver names: a controller, a function (or hub), or nothing that board_usb_add() takes. */
bool board_usb_is_controller(const char *driver);
bool board_usb_is_function(const char *driver);

/* Has fn called when something has gone; id is "" for what has none. */
void board_usb_on_removed(struct board_usb *u,
                          void (*fn)(void *opaque, const char *id, unsigned serial), void *opaque);

struct board_usb_info {
    unsigned bus, address;
    char path[BOARD_USB_PATH_LEN];
    const char *speed; /* in Mb/s */
    const char *product;
    const char *id; /* "": none */
};
/* Fills in function or hub i (0 up), false: there is none. Strings live until something is removed. */
bool board_usb_info(const struct board_usb *u, unsigned i, struct board_usb_info *out);
/* Whether there is a controller. */
bool board_usb_present(const struct board_usb *u);
