/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A small xHCI driver in the harness's RAM: a command ring, an event ring of two segments, a transfer ring for each endpoint.
 */
#include "hw/usb.h"
#include "hw/usb_hid.h"
#include "hw/xhci.h"
#include "tests/unit/harness.h"
#include "ui/input.h"

enum {
    XHCI_DEVFN = PCI_DEVFN(4, 0),
    XHCI_MMIO = 0xf0000000,
    XHCI_DCBAA = 0x10000,
    XHCI_COMMANDS = 0x11000,
    XHCI_ERST = 0x12000,
    XHCI_EVENTS = 0x13000,  /* the first segment */
    XHCI_EVENTS2 = 0x13800, /* the second one */
    XHCI_INPUT = 0x14000,
    XHCI_CONTEXTS = 0x15000, /* 0x400 for each slot */
    XHCI_BUFFER = 0x30000,
    XHCI_RINGS = 0x40000, /* 0x400 for each endpoint, 32 for each slot */
    XHCI_RING_TRBS = 24,  /* the last is the link */
    XHCI_SEGMENT_TRBS = 16,
};
enum { /* registers */
       X_USBCMD = 0x40,
       X_USBSTS = 0x44,
       X_CRCR = 0x58,
       X_DCBAAP = 0x70,
       X_CONFIG = 0x78,
       X_MFINDEX = 0x1000,
       X_IMAN = 0x1020,
       X_IMOD = 0x1024,
       X_ERSTSZ = 0x1028,
       X_ERSTBA = 0x1030,
       X_ERDP = 0x1038,
       X_DOORBELL = 0x2000,
};
enum { /* TRB control bits */
       X_TOGGLE = 2,
       X_ISP = 4,
       X_CHAIN = 0x10,
       X_IOC = 0x20,
       X_IDT = 0x40,
       X_BEI = 0x200,
       X_DIR_IN = 0x10000,
};

struct xhci_rig_trb {
    uint64_t param;
    uint32_t status, control;
};

struct xhci_rig_ring {
    uint32_t base;
    unsigned next;
    bool cycle;
};

struct xhci_rig {
    struct harness *h;
    struct usb_bus *bus;
    struct input *input;
    struct usb_device *dev[2];
    struct xhci_rig_ring commands;
    struct xhci_rig_ring ring[4][32]; /* of slots 1 to 3 */
    unsigned event;                   /* the next one, counted through both segments */
    bool event_cycle;
    struct xhci_rig_trb last; /* event of the last command or transfer */
};

/* A board with a controller of 4 and 4 ports (placed, bus master) and up to two devices; kind USB_HID_KINDS: none. */
void xhci_rig_create(struct xhci_rig *r, enum usb_hid_kind first, enum usb_hid_kind second);
void xhci_rig_destroy(struct xhci_rig *r);

uint32_t xhci_rig_in(struct xhci_rig *r, unsigned reg);
void xhci_rig_out(struct xhci_rig *r, unsigned reg, uint32_t v);
uint32_t xhci_rig_peek(struct xhci_rig *r, uint32_t addr);
void xhci_rig_poke(struct xhci_rig *r, uint32_t addr, uint32_t value);
/* PORTSC of USB 2 port n, from 0. */
unsigned xhci_rig_portsc(unsigned n);

/* Sets the rings up; the controller runs, interrupts on, IMOD 0. */
void xhci_rig_start(struct xhci_rig *r);
/* Puts a TRB on a ring (links are taken care of); its address. */
uint32_t xhci_rig_put(struct xhci_rig *r, struct xhci_rig_ring *ring, unsigned type, uint64_t param,
                      uint32_t status, uint32_t control);
/* An empty ring for an endpoint. */
void xhci_rig_ring_init(struct xhci_rig *r, unsigned slot, unsigned dci);
void xhci_rig_doorbell(struct xhci_rig *r, unsigned slot, unsigned dci);
/* Takes the next event; false: there is none. */
bool xhci_rig_event(struct xhci_rig *r, struct xhci_rig_trb *t);
/* Takes all events; those that are not of `type` are thrown away. The last one of the type is in r->last. Their number. */
unsigned xhci_rig_events(struct xhci_rig *r, unsigned type);
/* Executes a command: its completion code, 0: no event. */
unsigned xhci_rig_command(struct xhci_rig *r, unsigned type, uint64_t param, uint32_t control);
/* Resets the port, enables slot n + 1 for it (which has to be the next), addresses and configures the device. */
void xhci_rig_enumerate(struct xhci_rig *r, unsigned port);
/* The input context: slot context for port, endpoint 0; flags as given. */
void xhci_rig_input(struct xhci_rig *r, unsigned port, unsigned slot, uint32_t drop, uint32_t add);
/* ... and an endpoint. */
void xhci_rig_input_endpoint(struct xhci_rig *r, unsigned slot, unsigned dci, unsigned type,
                             unsigned max_packet, unsigned interval);
/* A control transfer. Its completion code; *got: bytes of the data stage. data may be NULL. */
unsigned xhci_rig_control(struct xhci_rig *r, unsigned slot, uint8_t type, uint8_t request,
                          uint16_t value, uint16_t index, uint16_t length, uint8_t *data,
                          unsigned *got);
/* Queues an interrupt IN of len bytes (IOC, ISP) to XHCI_BUFFER + 0x800; its address. */
uint32_t xhci_rig_poll(struct xhci_rig *r, unsigned slot, unsigned len);
