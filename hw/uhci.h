/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* USB host controller of the PIIX3 (82371SB), function 2: two ports, 1.5 and 12 Mb/s. UHCI Design
 * Guide 1.1; PIIX3 datasheet 2.4 and 2.7. */
#include <stdint.h>

#include "core/board.h"

enum { UHCI_PORTS = 2 };

struct usb_bus;

/* Adds a controller at devfn. *out, its ports, is the board's; devices must outlive the controller, or be unplugged before.
 * 0, or -errno and the board unchanged. */
int uhci_create(struct board *b, uint8_t devfn, struct usb_bus **out);
