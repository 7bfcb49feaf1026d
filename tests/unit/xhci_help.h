/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the tests of xHCI share: a rig with tablet and keyboard, and short names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hw/xhci_int.h"
#include "tests/unit/xhci_rig.h"

enum { MS = 1000000, PORT1 = 0x480, PORT2 = 0x490, REPORT = XHCI_BUFFER + 0x800 };
enum { /* TRB types and completion codes */
       NORMAL = 1,
       SETUP = 2,
       DATA = 3,
       STATUS = 4,
       ISOCH = 5,
       LINK = 6,
       EVENT_DATA = 7,
       NOOP = 8,
       ENABLE_SLOT = 9,
       DISABLE_SLOT = 10,
       ADDRESS = 11,
       CONFIGURE = 12,
       EVALUATE = 13,
       RESET_EP = 14,
       STOP_EP = 15,
       SET_DEQUEUE = 16,
       RESET_DEVICE = 17,
       BANDWIDTH = 21,
       FORCE_HEADER = 22,
       NOOP_COMMAND = 23,
       TRANSFER = 32,
       COMPLETION = 33,
       PORT_CHANGE = 34,
       HOST = 37,
       WRAP = 39,
       SUCCESS = 1,
       BABBLE = 3,
       TRANSACTION = 4,
       TRB_ERROR = 5,
       STALL = 6,
       RESOURCE = 7,
       NO_SLOTS = 9,
       NO_SLOT = 11,
       NO_ENDPOINT = 12,
       SHORT = 13,
       PARAMETER = 17,
       CONTEXT = 19,
       FULL = 21,
       RING_STOPPED = 24,
       STOPPED = 26,
};

static struct xhci_rig rig;
static struct harness *h;

static inline int setup(void **state)
{
    (void)state;
    xhci_rig_create(&rig, USB_HID_TABLET, USB_HID_KEYBOARD);
    h = rig.h;
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    xhci_rig_destroy(&rig);
    return 0;
}

static inline uint32_t in(unsigned reg)
{
    return xhci_rig_in(&rig, reg);
}

static inline void out(unsigned reg, uint32_t v)
{
    xhci_rig_out(&rig, reg, v);
}

static inline bool line(void)
{
    return h->plat.intx[4][0];
}

static inline void move(int x)
{
    input_send(rig.input, &(struct input_event){.type = INPUT_EVENT_ABSOLUTE, .x = x, .y = 5});
}

static inline void key(uint8_t code, bool down)
{
    input_send(rig.input,
               &(struct input_event){.type = INPUT_EVENT_KEY, .key = code, .down = down});
}

static inline unsigned command(unsigned type, uint64_t param, unsigned slot, unsigned dci)
{
    return xhci_rig_command(&rig, type, param, slot << 24 | dci << 16);
}

/* State of an endpoint, of a slot, in the output context. */
static inline unsigned endpoint(unsigned slot, unsigned dci)
{
    return xhci_rig_peek(&rig, XHCI_CONTEXTS + 0x400 * slot + 32 * dci) & 7;
}

static inline unsigned slot_state(unsigned slot)
{
    return xhci_rig_peek(&rig, XHCI_CONTEXTS + 0x400 * slot + 12) >> 27;
}

static inline uint32_t dequeue(unsigned slot, unsigned dci)
{
    return xhci_rig_peek(&rig, XHCI_CONTEXTS + 0x400 * slot + 32 * dci + 8);
}

static struct xhci_rig_ring *ring(unsigned slot, unsigned dci)
{
    return &rig.ring[slot][dci];
}

/* Tablet in slot 1, keyboard in slot 2; no event left. */
static inline void ready(void)
{
    xhci_rig_start(&rig);
    xhci_rig_enumerate(&rig, 0);
    xhci_rig_enumerate(&rig, 1);
    assert_int_equal(xhci_rig_events(&rig, 0), 0);
}

static inline unsigned code(void)
{
    return rig.last.status >> 24;
}

/* Will the controller wake up by itself? */
static inline bool timer_armed(void)
{
    const struct xhci *x = rig.bus->host;

    return x->h.timer.armed;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
