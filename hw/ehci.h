/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * USB 2 host controller with six ports, each of which it can give away to a companion (hw/uhci.c): that of the ICH9
 * (82801I, function 7) or a lone one. EHCI 1.0; ICH9 datasheet chapter 17.
 */
#include <stdint.h>

#include "core/board.h"

enum { EHCI_PORTS = 6 };
enum ehci_kind { EHCI_ICH9, EHCI_ICH4, EHCI_KINDS }; /* ICH4's is usb-ehci: no companions */

struct usb_bus;

/* Adds a controller at devfn. *out, its ports, is the board's; devices must outlive the controller, or be unplugged
 * before. 0, or -errno and the board unchanged. */
int ehci_create(struct board *b, uint8_t devfn, unsigned kind, struct usb_bus **out);

/* Wires the ports from `first` on to those of companion (borrowed, created after the EHCI), whose devices all come
 * from here. ehci: what ehci_create() gave. 0, -EINVAL (no such ports) or -EEXIST (they have a companion). */
int ehci_add_companion(struct usb_bus *ehci, unsigned first, struct usb_bus *companion);
