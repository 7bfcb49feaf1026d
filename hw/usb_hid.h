/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* USB tablet, mouse and keyboard: HID class 1.11, Usage Tables 1.12. */

struct board;
struct input;
struct usb_device;

enum usb_hid_kind { USB_HID_TABLET, USB_HID_MOUSE, USB_HID_KEYBOARD, USB_HID_KINDS };

/*
 * Creates the device, not plugged in yet: *out, the board's, goes to usb_bus_plug(). It gets the
 * events of `in` (borrowed; NULL: nobody types) once the guest polls it: until then they go where they went
 * before, to the PS/2 devices. 0, or -errno and the board unchanged.
 */
int usb_hid_create(struct board *b, enum usb_hid_kind kind, struct input *in,
                   struct usb_device **out);
