/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* USB 3 host controller, NEC uPD720200. All devices are USB 2.0 ones, at 480 Mb/s: the USB 3 ports
 * stay empty. eXtensible Host Controller Interface 1.0. */
#include <stdint.h>

#include "core/board.h"

enum { XHCI_PORTS_MAX = 15 };

struct xhci_config {
    uint8_t devfn;
    uint8_t usb2_ports, usb3_ports; /* 1 .. XHCI_PORTS_MAX */
};

struct usb_bus;

/* Adds a controller. *out, its USB 2 ports, is the board's; devices must outlive the controller, or
 * be unplugged before. 0, or -errno and the board unchanged. */
int xhci_create(struct board *b, const struct xhci_config *cfg, struct usb_bus **out);
