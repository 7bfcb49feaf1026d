/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A small EHCI driver in the harness's RAM: an asynchronous ring of a head and a queue for control transfers, and a
 * frame list whose entries all lead to one interrupt queue.
 */
#include "hw/ehci.h"
#include "hw/uhci.h"
#include "hw/usb.h"
#include "hw/usb_hid.h"
#include "tests/unit/harness.h"
#include "ui/input.h"

enum {
    EHCI_DEVFN = PCI_DEVFN(0x1d, 7),
    EHCI_COMPANIONS = 3,        /* 1d.0 and up */
    EHCI_COMPANION_IO = 0xc000, /* 0x20 each */
    EHCI_FRAME_LIST = 0x10000,
    EHCI_HEAD_QH = 0x11000,
    EHCI_CONTROL_QH = 0x11080,
    EHCI_INT_QH = 0x11100,
    EHCI_QTDS = 0x12000, /* 32 bytes each */
    EHCI_INT_QTD = 0x13000,
    EHCI_BUFFER = 0x14000,
    EHCI_INT_BUFFER = 0x15000,
};
#define EHCI_MMIO UINT64_C(0xf0000000)
enum { /* tokens */
       RIG_PING = 1,
       RIG_XACT_ERROR = 8,
       RIG_BABBLE = 0x10,
       RIG_BUFFER_ERROR = 0x20,
       RIG_HALTED = 0x40,
       RIG_ACTIVE = 0x80,
       RIG_OUT = 0,
       RIG_IN = 0x100,
       RIG_SETUP = 0x200,
       RIG_3_ERRORS = 0xc00,
       RIG_IOC = 0x8000
};

struct ehci_rig {
    struct harness *h;
    struct usb_bus *bus;
    struct usb_bus *companion[EHCI_COMPANIONS];
    struct input *input;
    struct usb_device *dev[2];
};

/* A board with a controller (placed, bus master), with three companions (placed) or without, and up to two devices in
 * ports 0 and 1; kind USB_HID_KINDS: none. */
void ehci_rig_create(struct ehci_rig *r, bool companions, enum usb_hid_kind first,
                     enum usb_hid_kind second);
void ehci_rig_destroy(struct ehci_rig *r);

uint32_t ehci_rig_peek(struct ehci_rig *r, uint32_t addr);
void ehci_rig_poke(struct ehci_rig *r, uint32_t addr, uint32_t value);
uint32_t ehci_rig_read(struct ehci_rig *r, unsigned reg);
void ehci_rig_write(struct ehci_rig *r, unsigned reg, uint32_t value);
/* An empty schedule; the controller runs and has all ports. */
void ehci_rig_start(struct ehci_rig *r);
/* Resets a port as drivers do, which enables it. */
void ehci_rig_enable_port(struct ehci_rig *r, unsigned port);
/* Writes a queue head (with an empty overlay) and a descriptor. */
void ehci_rig_qh(struct ehci_rig *r, uint32_t addr, uint32_t link, uint32_t endpoint,
                 uint32_t masks, uint32_t qtd);
void ehci_rig_qtd(struct ehci_rig *r, uint32_t addr, uint32_t next, uint32_t alternate,
                  uint32_t token, uint32_t buffer);
/* The control queue, for a device, with a chain of descriptors at EHCI_QTDS (or 1: none). */
void ehci_rig_queue(struct ehci_rig *r, unsigned device, uint32_t qtd);
/* A control transfer of 64-byte packets; data: in or out. Returns the bytes of the data stage, or the status byte of
 * the descriptor that failed, negated. */
int ehci_rig_control(struct ehci_rig *r, unsigned device, uint8_t type, uint8_t request,
                     uint16_t value, uint16_t index, uint16_t length, uint8_t *data);
/* Address 1 + port, configuration 1. */
void ehci_rig_configure(struct ehci_rig *r, unsigned port);
/* Queues one interrupt IN of 8 bytes (IOC), in microframe 0 of each frame. */
void ehci_rig_poll(struct ehci_rig *r, unsigned device);
/* Token of that descriptor. */
uint32_t ehci_rig_polled(struct ehci_rig *r);
