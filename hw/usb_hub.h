/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* USB hub of eight full-speed ports: USB 1.1, chapter 11. */

struct board;
struct usb_device;

enum { USB_HUB_PORTS = 8 };

/*
 * Creates a hub, not plugged in yet: *out, the board's, goes to usb_bus_plug(); (*out)->cfg.hub are its ports. What is
 * plugged into them is to be unplugged before the hub is destroyed, or never used again. 0, or -errno and the board
 * unchanged.
 */
int usb_hub_create(struct board *b, struct usb_device **out);
