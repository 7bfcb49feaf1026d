/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Transfers, hostile rings, ports whose devices come and go, saved state. */
#include <errno.h>

#include "tests/unit/xhci_help.h"

/* ---- transfers ---- */

static void test_control(void **state)
{
    uint8_t d[256];
    unsigned got;

    (void)state;
    ready();
    assert_int_equal(xhci_rig_control(&rig, 1, 0x80, USB_GET_DESCRIPTOR, 0x200, 0, 255, d, &got),
                     SUCCESS);
    assert_int_equal(got, USB_CONFIG_BYTES);
    assert_int_equal(d[USB_CONFIG_BYTES - 1], 7); /* 8 ms at high speed */
    assert_int_equal(xhci_rig_control(&rig, 1, 0x81, USB_GET_DESCRIPTOR, 0x2200, 0, 74, d, &got),
                     SUCCESS);
    assert_in_range(got, 65, 74); /* more than a packet */
    d[0] = 2;
    assert_int_equal(xhci_rig_control(&rig, 2, 0x21, 9, 0x200, 0, 1, d, NULL),
                     SUCCESS); /* a lamp */
    assert_int_equal(xhci_rig_control(&rig, 2, 0xa1, 1, 0x200, 0, 1, d + 1, NULL), SUCCESS);
    assert_int_equal(d[1], 2);

    assert_int_equal(xhci_rig_control(&rig, 1, 0x80, USB_GET_DESCRIPTOR, 0x900, 0, 18, d, &got),
                     STALL);
    assert_int_equal(endpoint(1, 1), EP_HALTED);
    assert_int_equal(rig.last.param, dequeue(1, 1) & ~15u);
    xhci_rig_doorbell(&rig, 1, 1); /* not before it is reset */
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 0);
    assert_int_equal(command(STOP_EP, 0, 1, 1), CONTEXT);
    assert_int_equal(command(SET_DEQUEUE, 0x40001, 1, 1), CONTEXT);
    assert_int_equal(command(RESET_EP, 0, 1, 1), SUCCESS);
    assert_int_equal(endpoint(1, 1), EP_STOPPED);
    assert_int_equal(command(RESET_EP, 0, 1, 1), CONTEXT);
    xhci_rig_ring_init(&rig, 1, 1);
    assert_int_equal(command(SET_DEQUEUE, ring(1, 1)->base | 1, 1, 1), SUCCESS);
    assert_int_equal(dequeue(1, 1), ring(1, 1)->base | 1);
    assert_int_equal(xhci_rig_control(&rig, 1, 0x80, USB_GET_DESCRIPTOR, 0x100, 0, 18, d, &got),
                     SUCCESS);
    assert_int_equal(got, 18);
    for (unsigned i = 0; i < 100; i++) { /* round the ring */
        assert_int_equal(xhci_rig_control(&rig, 1, 0x80, USB_GET_STATUS, 0, 0, 2, d, &got),
                         SUCCESS);
        assert_int_equal(got, 2);
    }
}

/* Data stages in pieces, both ways, with Event Data. */
static void test_chains(void **state)
{
    struct xhci_rig_trb t;
    uint64_t get = 0x0012000001000680; /* the device descriptor, 18 bytes */
    uint8_t d[18];
    uint32_t at;

    (void)state;
    ready();
    assert_int_equal(xhci_rig_control(&rig, 1, 0x80, USB_GET_DESCRIPTOR, 0x100, 0, 18, d, NULL),
                     SUCCESS);
    memset(h->plat.ram + XHCI_BUFFER, 0, 0x400);
    xhci_rig_put(&rig, ring(1, 1), SETUP, get, 8, X_IDT);
    xhci_rig_put(&rig, ring(1, 1), DATA, XHCI_BUFFER, 5, X_DIR_IN | X_CHAIN);
    xhci_rig_put(&rig, ring(1, 1), NORMAL, XHCI_BUFFER + 0x100, 0, X_CHAIN);
    xhci_rig_doorbell(&rig, 1, 1); /* the rest of the TD comes later */
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 0);
    assert_true(harness_save_load_save(h));
    at = xhci_rig_put(&rig, ring(1, 1), NORMAL, XHCI_BUFFER + 0x200, 10, X_CHAIN | X_IOC);
    xhci_rig_put(&rig, ring(1, 1), NORMAL, XHCI_BUFFER + 0x300, 20, X_CHAIN | X_ISP);
    xhci_rig_put(&rig, ring(1, 1), NORMAL, XHCI_BUFFER + 0x380, 20, X_CHAIN | X_IOC);
    xhci_rig_put(&rig, ring(1, 1), EVENT_DATA, 0x123456789abc, 0, X_IOC);
    xhci_rig_put(&rig, ring(1, 1), STATUS, 0, 0, X_IOC);
    xhci_rig_doorbell(&rig, 1, 1);
    assert_memory_equal(h->plat.ram + XHCI_BUFFER, d, 5);
    assert_memory_equal(h->plat.ram + XHCI_BUFFER + 0x200, d + 5, 10);
    assert_memory_equal(h->plat.ram + XHCI_BUFFER + 0x300, d + 15, 3);
    assert_true(xhci_rig_event(&rig, &t));
    assert_int_equal(t.param, at);
    assert_int_equal(t.status, SUCCESS << 24);
    assert_int_equal(t.control >> 16, 0x101);
    assert_true(xhci_rig_event(&rig, &t));
    assert_int_equal(t.param, at + 16);
    assert_int_equal(t.status, SHORT << 24 | 17);
    assert_true(xhci_rig_event(&rig, &t));
    assert_int_equal(t.param, 0x123456789abc);
    assert_int_equal(t.status, SHORT << 24 | 18);
    assert_int_equal(t.control & 4, 4);
    assert_true(xhci_rig_event(&rig, &t));
    assert_int_equal(t.status, SUCCESS << 24);
    assert_false(xhci_rig_event(&rig, &t));

    /* SET_REPORT of one byte, immediate; then in a chain with an empty piece. */
    xhci_rig_put(&rig, ring(2, 1), SETUP, 0x0001000002000921, 8, X_IDT);
    xhci_rig_put(&rig, ring(2, 1), DATA, 0x05, 1, X_IDT);
    xhci_rig_put(&rig, ring(2, 1), STATUS, 0, 0, X_IOC | X_DIR_IN);
    xhci_rig_doorbell(&rig, 2, 1);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(code(), SUCCESS);
    assert_int_equal(xhci_rig_control(&rig, 2, 0xa1, 1, 0x200, 0, 1, d, NULL), SUCCESS);
    assert_int_equal(d[0], 5);
    h->plat.ram[XHCI_BUFFER + 0x40] = 3;
    xhci_rig_put(&rig, ring(2, 1), SETUP, 0x0001000002000921, 8, X_IDT);
    xhci_rig_put(&rig, ring(2, 1), DATA, XHCI_BUFFER + 0x40, 1, X_CHAIN);
    xhci_rig_put(&rig, ring(2, 1), NORMAL, XHCI_BUFFER, 0, 0);
    xhci_rig_put(&rig, ring(2, 1), STATUS, 0, 0, X_IOC | X_DIR_IN);
    xhci_rig_doorbell(&rig, 2, 1);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(code(), SUCCESS);
    assert_int_equal(xhci_rig_control(&rig, 2, 0xa1, 1, 0x200, 0, 1, d, NULL), SUCCESS);
    assert_int_equal(d[0], 3);
}

static void test_bad_trbs(void **state)
{
    static const struct {
        unsigned dci, type;
        uint32_t status, control;
    } bad[] = {
        {1, SETUP, 8, 0},
        {1, SETUP, 7, X_IDT},
        {1, NORMAL, 8, 0},
        {1, ISOCH, 8, 0},
        {1, 0, 8, 0},
        {1, 63, 8, 0},
        {1, DATA, 8, X_IDT | X_DIR_IN},
        {1, DATA, 9, X_IDT},
        {3, SETUP, 8, X_IDT},
        {3, DATA, 8, X_DIR_IN},
        {3, STATUS, 0, 0},
        {3, ISOCH, 8, 0},
        {3, NORMAL, 8, X_IDT},
        {3, ENABLE_SLOT, 0, 0},
    };

    (void)state;
    ready();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        unsigned dci = bad[i].dci;

        xhci_rig_put(&rig, ring(1, dci), bad[i].type, 0, bad[i].status, bad[i].control);
        xhci_rig_doorbell(&rig, 1, dci);
        assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
        assert_int_equal(code(), TRB_ERROR);
        assert_int_equal(endpoint(1, dci), EP_ERROR);
        assert_int_equal(command(RESET_EP, 0, 1, dci), CONTEXT);
        xhci_rig_ring_init(&rig, 1, dci);
        assert_int_equal(command(SET_DEQUEUE, ring(1, dci)->base | 1, 1, dci), SUCCESS);
        assert_int_equal(endpoint(1, dci), EP_STOPPED);
    }
    xhci_rig_put(&rig, ring(1, 3), NOOP, 0, 0, X_IOC);
    xhci_rig_doorbell(&rig, 1, 3);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(code(), SUCCESS);
}

static void test_interrupt_in(void **state)
{
    uint32_t at;

    (void)state;
    ready();
    at = xhci_rig_poll(&rig, 1, 8);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 0);
    assert_true(input_has_absolute(rig.input));
    assert_false(line());
    assert_false(timer_armed());
    move(1000); /* at once */
    assert_true(line());
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(rig.last.param, at);
    assert_int_equal(rig.last.status, SHORT << 24 | 2);
    assert_int_equal(rig.last.control >> 16, 0x103);
    assert_int_equal(h->plat.ram[REPORT + 1] | h->plat.ram[REPORT + 2] << 8, 1000);

    /* No more than one report in the 8 ms of the endpoint. */
    xhci_rig_poll(&rig, 1, 8);
    xhci_rig_poll(&rig, 1, 8);
    move(1);
    input_send(rig.input,
               &(struct input_event){.type = INPUT_EVENT_ABSOLUTE, .x = 2, .y = 5, .buttons = 1});
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 0);
    harness_step(h, 8 * MS - 1);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 0);
    harness_step(h, 1);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    harness_step(h, 8 * MS);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(h->plat.ram[REPORT], 1);
    xhci_rig_poll(&rig, 1, 8);
    harness_step(h, 8 * MS);
    assert_false(timer_armed());
    /* A packet that does not fit; one that comes in pieces; BEI. */
    move(2);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    harness_step(h, 100 * MS);
    xhci_rig_poll(&rig, 1, 4);
    move(3);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(code(), BABBLE);
    assert_int_equal(endpoint(1, 3), EP_HALTED);
    assert_int_equal(command(RESET_EP, 0, 1, 3), SUCCESS);
    xhci_rig_ring_init(&rig, 1, 3);
    assert_int_equal(command(SET_DEQUEUE, ring(1, 3)->base | 1, 1, 3), SUCCESS);
    xhci_rig_put(&rig, ring(1, 3), NORMAL, REPORT, 2, X_CHAIN);
    xhci_rig_put(&rig, ring(1, 3), NORMAL, REPORT + 0x40, 4, X_IOC | X_BEI);
    xhci_rig_doorbell(&rig, 1, 3);
    move(0x1234);
    harness_step(h, 8 * MS);
    assert_false(line());
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(rig.last.status, SUCCESS << 24);
    assert_int_equal(h->plat.ram[REPORT + 1], 0x34);
    assert_int_equal(h->plat.ram[REPORT + 0x40], 0x12);
}

/* Keys come one after the other, each in its report. */
static void test_keyboard(void **state)
{
    unsigned n = 0;

    (void)state;
    ready();
    xhci_rig_poll(&rig, 2, 8);
    xhci_rig_poll(&rig, 2, 8);
    xhci_rig_poll(&rig, 2, 8);
    key(0x1e, true);
    key(0x1e, false);
    key(0x30, true);
    for (unsigned i = 0; i < 3; i++) {
        n += xhci_rig_events(&rig, TRANSFER);
        harness_step(h, 8 * MS);
    }
    assert_int_equal(n, 3);
    assert_int_equal(h->plat.ram[REPORT + 2], 0x05);
    /* The idle rate (500 ms unless the driver says otherwise) repeats a report; nobody polls, no timer. */
    harness_step(h, 8 * MS);
    assert_false(timer_armed());
    xhci_rig_poll(&rig, 2, 8);
    assert_true(timer_armed());
    h->plat.ram[REPORT + 2] = 0;
    harness_step(h, 400 * MS);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 0);
    harness_step(h, 100 * MS);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(h->plat.ram[REPORT + 2], 0x05);
    xhci_rig_poll(&rig, 2, 8);
    assert_int_equal(xhci_rig_control(&rig, 2, 0x21, 10, 0, 0, 0, NULL, NULL), SUCCESS);
    harness_step(h, UINT64_C(1000) * MS);
    assert_false(timer_armed());
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 0);
}

static void test_stop(void **state)
{
    uint32_t at;

    (void)state;
    ready();
    at = xhci_rig_poll(&rig, 1, 8);
    xhci_rig_put(&rig, &rig.commands, STOP_EP, 0, 0, 1u << 24 | 3u << 16);
    xhci_rig_doorbell(&rig, 0, 0);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(rig.last.status, (uint32_t)STOPPED << 24 | 8);
    assert_int_equal(rig.last.param, at);
    assert_int_equal(endpoint(1, 3), EP_STOPPED);
    assert_int_equal(dequeue(1, 3), at | 1);
    move(5); /* nobody fetches */
    assert_false(timer_armed());
    harness_step(h, 100 * MS);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 0);
    assert_int_equal(command(STOP_EP, 0, 1, 3), CONTEXT);
    xhci_rig_doorbell(&rig, 1, 3); /* goes on where it was */
    assert_int_equal(endpoint(1, 3), EP_RUNNING);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(code(), SHORT);
    assert_int_equal(command(STOP_EP, 0, 1, 3), SUCCESS); /* nothing was under way: no event */
    assert_int_equal(command(SET_DEQUEUE, (at + 16) | 1, 1, 3), SUCCESS);
    xhci_rig_put(&rig, &rig.commands, SET_DEQUEUE, at | 1, 1u << 16,
                 1u << 24 | 3u << 16); /* a stream */
    xhci_rig_doorbell(&rig, 0, 0);
    assert_int_equal(xhci_rig_events(&rig, COMPLETION), 1);
    assert_int_equal(code(), TRB_ERROR);
}

/* ---- hostile rings ---- */

static void test_hostile_rings(void **state)
{
    (void)state;
    ready();
    /* A link to itself, a link to another link, no-ops for ever: time goes on, all else works. */
    ring(1, 3)->next = 0;
    for (unsigned toggle = 0; toggle <= X_TOGGLE; toggle += X_TOGGLE) {
        uint32_t at = ring(1, 3)->base;

        xhci_rig_put(&rig, ring(1, 3), LINK, at, 0, toggle);
        ring(1, 3)->next = 0;
        assert_int_equal(command(STOP_EP, 0, 1, 3), SUCCESS);
        assert_int_equal(command(SET_DEQUEUE, at | 1, 1, 3), SUCCESS);
        xhci_rig_doorbell(&rig, 1, 3);
        harness_step(h, 50 * MS);
        assert_int_equal(command(NOOP_COMMAND, 0, 0, 0), SUCCESS);
        assert_int_equal(xhci_rig_control(&rig, 2, 0x80, USB_GET_STATUS, 0, 0, 2, NULL, NULL),
                         SUCCESS);
    }
    assert_int_equal(command(STOP_EP, 0, 1, 3), SUCCESS);
    for (unsigned i = 0; i < 8; i++) {
        xhci_rig_put(&rig, ring(1, 3), NOOP, 0, 0, X_CHAIN);
    }
    xhci_rig_put(&rig, ring(1, 3), LINK, ring(1, 3)->base, 0, X_CHAIN);
    assert_int_equal(command(SET_DEQUEUE, ring(1, 3)->base | 1, 1, 3), SUCCESS);
    xhci_rig_doorbell(&rig, 1, 3);
    harness_step(h, 50 * MS);
    assert_int_equal(command(NOOP_COMMAND, 0, 0, 0), SUCCESS);
    assert_true(harness_save_load_save(h));
    /* The same on the command ring. */
    xhci_rig_put(&rig, &rig.commands, LINK, rig.commands.base + 16 * rig.commands.next, 0, 0);
    xhci_rig_doorbell(&rig, 0, 0);
    harness_step(h, 50 * MS);
    assert_int_equal(in(X_USBSTS)&5, 0);
    out(X_USBCMD, 2);
    assert_int_equal(in(X_USBSTS), 1);
}

/* Addresses where there is no memory: a host system error, and all stands still. */
static void test_bad_addresses(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 7; i++) {
        ready();
        switch (i) {
        case 0: /* command ring */
            xhci_rig_put(&rig, &rig.commands, LINK, UINT64_C(0xfffffffffffffff0), 0, 0);
            xhci_rig_doorbell(&rig, 0, 0);
            break;
        case 1: /* transfer ring */
            xhci_rig_put(&rig, ring(1, 3), LINK, 0xa0000, 0, 0);
            xhci_rig_doorbell(&rig, 1, 3);
            break;
        case 2: /* buffer */
            xhci_rig_put(&rig, ring(1, 3), NORMAL, HARNESS_RAM_SIZE - 2, 8, 0);
            xhci_rig_doorbell(&rig, 1, 3);
            move(8);
            break;
        case 3: /* input context */
            command(CONFIGURE, UINT64_C(0xffffffffffffffe0), 1, 0);
            break;
        case 4: /* output context */
            assert_int_equal(command(ENABLE_SLOT, 0, 0, 0), SUCCESS);
            xhci_rig_poke(&rig, XHCI_DCBAA + 8 * 3 + 4, 0x80000000);
            xhci_rig_input(&rig, 2, 3, 0, 3);
            xhci_rig_command(&rig, ADDRESS, XHCI_INPUT, 3u << 24 | 0x200);
            break;
        case 5: /* the controller itself */
            xhci_rig_put(&rig, ring(1, 3), NORMAL, XHCI_MMIO, 8, 0);
            xhci_rig_doorbell(&rig, 1, 3);
            move(8);
            break;
        default: /* data out */
            xhci_rig_put(&rig, ring(2, 1), SETUP, 0x0001000002000921, 8, X_IDT);
            xhci_rig_put(&rig, ring(2, 1), DATA, UINT64_C(0x100000000000), 1, 0);
            xhci_rig_doorbell(&rig, 2, 1);
            break;
        }
        if ((in(X_USBSTS)&5) != 5) {
            fail_msg("case %u: USBSTS %#x", i, in(X_USBSTS));
        }
        assert_int_equal(in(X_USBCMD)&1, 0);
        assert_int_equal(command(NOOP_COMMAND, 0, 0, 0), 0);
        assert_true(harness_save_load_save(h));
        memset(rig.ring, 0, sizeof(rig.ring));
    }
}

static void test_no_master(void **state)
{
    (void)state;
    ready();
    harness_pci_write(h, XHCI_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    xhci_rig_poll(&rig, 1, 8);
    xhci_rig_put(&rig, &rig.commands, NOOP_COMMAND, 0, 0, 0);
    xhci_rig_doorbell(&rig, 0, 0);
    move(4);
    harness_step(h, 10 * MS);
    assert_int_equal(xhci_rig_events(&rig, COMPLETION), 0);
    harness_pci_write(h, XHCI_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_int_equal(xhci_rig_events(&rig, COMPLETION), 1);
    move(5);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
}

/* ---- ports and devices ---- */

static void test_suspend_and_wake(void **state)
{
    (void)state;
    ready();
    xhci_rig_poll(&rig, 1, 8);
    out(PORT1, 0x10000 | 0x200 | 0x60);
    move(1); /* no remote wake-up asked for */
    assert_int_equal(in(PORT1), 0xe63);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 0);
    out(PORT1, 0x10000 | 0x200);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1); /* what has waited */
    out(PORT1, 0x200 | 0x400000);
    assert_int_equal(xhci_rig_control(&rig, 1, 0, USB_SET_FEATURE, 1, 0, 0, NULL, NULL), SUCCESS);
    out(PORT1, 0x10000 | 0x200 | 0x60);
    out(X_USBSTS, 0x18);
    move(2);
    assert_int_equal(in(PORT1), 0x400fe3);
    assert_int_equal(in(X_USBSTS)&0x18, 0x18);
    assert_true(line());
    assert_int_equal(xhci_rig_events(&rig, PORT_CHANGE), 1);
    assert_int_equal(rig.last.param, 5u << 24);
    out(PORT1, 0x200 | 0x400000);
    xhci_rig_poll(&rig, 1, 8);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 0);
    out(PORT1, 0x10000 | 0x200);
    harness_step(h, 8 * MS);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    /* The same with a controller that stands still: told when it runs again. */
    out(PORT1, 0x200 | 0x400000);
    out(PORT1, 0x10000 | 0x200 | 0x60);
    out(X_USBCMD, 4);
    out(X_USBSTS, 0x18);
    input_send(rig.input,
               &(struct input_event){.type = INPUT_EVENT_ABSOLUTE, .x = 3, .buttons = 1});
    assert_int_equal(in(PORT1), 0x400fe3);
    assert_int_equal(in(X_USBSTS), 0x11);
    assert_int_equal(xhci_rig_events(&rig, PORT_CHANGE), 0);
    out(X_USBCMD, 5);
    assert_int_equal(xhci_rig_events(&rig, PORT_CHANGE), 1);
}

static void test_replug(void **state)
{
    (void)state;
    ready();
    xhci_rig_poll(&rig, 1, 8);
    usb_bus_unplug(rig.bus, 0);
    assert_int_equal(in(PORT1), 0x202a0);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1); /* what waited has failed */
    assert_int_equal(code(), TRANSACTION);
    assert_int_equal(endpoint(1, 3), EP_HALTED);
    move(1); /* goes elsewhere */
    usb_bus_unplug(rig.bus, 0);
    usb_bus_unplug(rig.bus, 99);
    assert_int_equal(usb_bus_plug(rig.bus, 0, rig.dev[0]), 0);
    assert_int_equal(in(PORT1), 0x20ee1);
    assert_int_equal(xhci_rig_control(&rig, 1, 0x80, USB_GET_STATUS, 0, 0, 2, NULL, NULL),
                     TRANSACTION);
    out(PORT1, 0x200 | 0xfe0000);
    assert_int_equal(command(DISABLE_SLOT, 0, 1, 0), SUCCESS);
    xhci_rig_events(&rig, 0);
    usb_bus_unplug(rig.bus, 0);
    assert_int_equal(xhci_rig_events(&rig, PORT_CHANGE), 1);
    assert_int_equal(usb_bus_plug(rig.bus, 4, rig.dev[0]), -ENODEV);
    assert_int_equal(usb_bus_plug(rig.bus, 1, rig.dev[0]), -EBUSY);
    assert_int_equal(usb_bus_plug(rig.bus, 0, rig.dev[0]), 0);
    xhci_rig_enumerate(&rig, 0);
    xhci_rig_poll(&rig, 1, 8);
    move(9);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(code(), SHORT);
}

static void test_hcreset_while_busy(void **state)
{
    (void)state;
    ready();
    xhci_rig_poll(&rig, 1, 8);
    xhci_rig_poll(&rig, 1, 8);
    move(9);
    assert_true(line());
    out(X_USBCMD, 2);
    assert_false(line());
    assert_false(input_has_absolute(rig.input)); /* back to PS/2 */
    assert_int_equal(in(PORT1), 0x20ee1);
    move(10);
    harness_step(h, 100 * MS);
    memset(rig.ring, 0, sizeof(rig.ring));
    ready();
    xhci_rig_poll(&rig, 1, 8);
    move(9);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
}

/* The guest's own suspend: controller state saved and restored, or lost. */
static void test_save_and_restore_state(void **state)
{
    (void)state;
    ready();
    out(X_USBCMD, 4);
    out(X_USBCMD, 0x104);
    assert_int_equal(in(X_USBSTS)&0x500, 0);
    out(X_USBCMD, 0x204);
    assert_int_equal(in(X_USBSTS)&0x600, 0);
    assert_int_equal(in(X_USBCMD), 4);
    board_reset(&h->board);
    harness_pci_write(h, XHCI_DEVFN, PCI_BAR0, 4, XHCI_MMIO);
    harness_pci_write(h, XHCI_DEVFN, PCI_COMMAND, 2, 6);
    out(X_USBCMD, 0x200);
    assert_int_equal(in(X_USBSTS)&0x400, 0x400);
    out(X_USBSTS, 0x400);
    assert_int_equal(in(X_USBSTS)&0x400, 0);
}

static void test_save_load(void **state)
{
    struct xhci_rig other;
    uint8_t d[8];

    (void)state;
    ready();
    xhci_rig_poll(&rig, 1, 8);
    xhci_rig_poll(&rig, 2, 8);
    xhci_rig_poll(&rig, 2, 8);
    key(0x1e, true);
    key(0x1e, false); /* waits for its 8 ms */
    xhci_rig_events(&rig, 0);
    assert_true(harness_save_load_save(h));
    assert_true(input_has_absolute(rig.input));
    xhci_rig_create(&other, USB_HID_TABLET, USB_HID_KEYBOARD);
    memcpy(other.h->plat.ram, h->plat.ram, 0x100000);
    assert_true(harness_transfer(h, other.h));
    memcpy(other.ring, rig.ring, sizeof(rig.ring));
    other.commands = rig.commands;
    other.event = rig.event;
    other.event_cycle = rig.event_cycle;
    harness_step(other.h, 1);
    assert_int_equal(xhci_rig_events(&other, TRANSFER), 1); /* the other key event */
    assert_true(input_has_absolute(other.input));
    input_send(other.input, &(struct input_event){.type = INPUT_EVENT_ABSOLUTE, .x = 1234, .y = 5});
    assert_true(other.h->plat.intx[4][0]);
    assert_int_equal(xhci_rig_events(&other, TRANSFER), 1);
    assert_int_equal(other.h->plat.ram[REPORT + 1] | other.h->plat.ram[REPORT + 2] << 8, 1234);
    assert_int_equal(xhci_rig_control(&other, 1, 0x80, USB_GET_CONFIGURATION, 0, 0, 1, d, NULL),
                     SUCCESS);
    assert_int_equal(d[0], 1);
    assert_true(harness_save_load_save(other.h));
    xhci_rig_destroy(&other);
}

static void live(int n)
{
    move(n);
    harness_step(h, 3 * MS);
}

/* Each byte of each record made wrong: refused or taken, never harmful. */
static void test_bad_state(void **state)
{
    (void)state;
    ready();
    xhci_rig_poll(&rig, 1, 8);
    xhci_rig_put(&rig, ring(1, 1), SETUP, 0x0012000001000680, 8, X_IDT);
    xhci_rig_put(&rig, ring(1, 1), DATA, XHCI_BUFFER, 5, X_DIR_IN | X_CHAIN);
    xhci_rig_doorbell(&rig, 1, 1);
    assert_true(harness_spoil_state(h, 7, live));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_control),
        TEST(test_chains),
        TEST(test_bad_trbs),
        TEST(test_interrupt_in),
        TEST(test_keyboard),
        TEST(test_stop),
        TEST(test_hostile_rings),
        TEST(test_bad_addresses),
        TEST(test_no_master),
        TEST(test_suspend_and_wake),
        TEST(test_replug),
        TEST(test_hcreset_while_busy),
        TEST(test_save_and_restore_state),
        TEST(test_save_load),
        TEST(test_bad_state),
    };

    return cmocka_run_group_tests_name("xhci_transfers", tests, NULL, NULL);
}
