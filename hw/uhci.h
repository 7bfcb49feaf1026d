/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* USB host controller of the PIIX3 (82371SB), function 2, and those of the ICH9: two ports, 1.5 and 12 Mb/s. UHCI
 * Design Guide 1.1; PIIX3 datasheet 2.4 and 2.7. */
#include <stdint.h>

#include "core/board.h"

enum { UHCI_PORTS = 2 };
/* ICH9's are companions of its EHCI (ehci_add_companion()), or stand alone. */
enum uhci_kind { UHCI_PIIX3, UHCI_ICH9_1, UHCI_ICH9_2, UHCI_ICH9_3, UHCI_KINDS };

struct usb_bus;

/* Adds a controller at devfn. *out, its ports, is the board's; devices must outlive the controller, or be unplugged before.
 * 0, or -errno and the board unchanged. */
int uhci_create(struct board *b, uint8_t devfn, unsigned kind, struct usb_bus **out);
