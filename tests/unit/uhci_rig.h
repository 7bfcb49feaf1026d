/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A small UHCI driver in the harness's RAM: one queue that all frames lead to, for control
 * transfers, and one with interrupt descriptors.
 */
#include "hw/uhci.h"
#include "hw/usb.h"
#include "hw/usb_hid.h"
#include "tests/unit/harness.h"
#include "ui/input.h"

enum {
    UHCI_DEVFN = PCI_DEVFN(1, 2),
    UHCI_IO = 0xc000,
    UHCI_FRAME_LIST = 0x10000,
    UHCI_CONTROL_QH = 0x11000,
    UHCI_INT_QH = 0x11020,
    UHCI_TDS = 0x12000, /* 16-byte descriptors */
    UHCI_BUFFER = 0x14000,
    UHCI_INT_TD = 0x13000,
    UHCI_INT_BUFFER = 0x15000,
};
enum {
    RIG_ACTIVE = 0x800000,
    RIG_IOC = 0x1000000,
    RIG_SPD = 0x20000000,
    RIG_3_ERRORS = 0x18000000
};

struct uhci_rig {
    struct harness *h;
    struct usb_bus *bus;
    struct input *input;
    struct usb_device *dev[UHCI_PORTS];
};

/* A board with a controller (placed, bus master) and up to two devices; kind USB_HID_KINDS: none. */
void uhci_rig_create(struct uhci_rig *r, enum usb_hid_kind first, enum usb_hid_kind second);
void uhci_rig_destroy(struct uhci_rig *r);

uint32_t uhci_rig_peek(struct uhci_rig *r, uint32_t addr);
void uhci_rig_poke(struct uhci_rig *r, uint32_t addr, uint32_t value);
/* An empty schedule of the two queues in every frame; the controller runs. */
void uhci_rig_start(struct uhci_rig *r);
/* Resets and enables a port as drivers do. */
void uhci_rig_enable_port(struct uhci_rig *r, unsigned port);
/* Writes a descriptor. */
void uhci_rig_td(struct uhci_rig *r, uint32_t addr, uint32_t link, uint32_t status, unsigned pid,
                 unsigned device, unsigned endpoint, unsigned len, uint32_t buffer);
/* A control transfer of 8-byte packets, depth first; data: in or out. Returns the bytes of the data stage, or the status of
 * the descriptor that failed, negated. */
int uhci_rig_control(struct uhci_rig *r, unsigned device, uint8_t type, uint8_t request,
                     uint16_t value, uint16_t index, uint16_t length, uint8_t *data);
/* Address 1 + port, configuration 1. */
void uhci_rig_configure(struct uhci_rig *r, unsigned port);
/* Queues one interrupt IN of 8 bytes (IOC). */
void uhci_rig_poll(struct uhci_rig *r, unsigned device);
/* Status of that descriptor. */
uint32_t uhci_rig_polled(struct uhci_rig *r);
