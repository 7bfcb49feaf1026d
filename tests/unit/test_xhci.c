/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
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

static int setup(void **state)
{
    (void)state;
    xhci_rig_create(&rig, USB_HID_TABLET, USB_HID_KEYBOARD);
    h = rig.h;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    xhci_rig_destroy(&rig);
    return 0;
}

static uint32_t in(unsigned reg)
{
    return xhci_rig_in(&rig, reg);
}

static void out(unsigned reg, uint32_t v)
{
    xhci_rig_out(&rig, reg, v);
}

static bool line(void)
{
    return h->plat.intx[4][0];
}

static void move(int x)
{
    input_send(rig.input, &(struct input_event){.type = INPUT_EVENT_ABSOLUTE, .x = x, .y = 5});
}

static void key(uint8_t code, bool down)
{
    input_send(rig.input,
               &(struct input_event){.type = INPUT_EVENT_KEY, .key = code, .down = down});
}

static unsigned command(unsigned type, uint64_t param, unsigned slot, unsigned dci)
{
    return xhci_rig_command(&rig, type, param, slot << 24 | dci << 16);
}

/* State of an endpoint, of a slot, in the output context. */
static unsigned endpoint(unsigned slot, unsigned dci)
{
    return xhci_rig_peek(&rig, XHCI_CONTEXTS + 0x400 * slot + 32 * dci) & 7;
}

static unsigned slot_state(unsigned slot)
{
    return xhci_rig_peek(&rig, XHCI_CONTEXTS + 0x400 * slot + 12) >> 27;
}

static uint32_t dequeue(unsigned slot, unsigned dci)
{
    return xhci_rig_peek(&rig, XHCI_CONTEXTS + 0x400 * slot + 32 * dci + 8);
}

static struct xhci_rig_ring *ring(unsigned slot, unsigned dci)
{
    return &rig.ring[slot][dci];
}

/* Tablet in slot 1, keyboard in slot 2; no event left. */
static void ready(void)
{
    xhci_rig_start(&rig);
    xhci_rig_enumerate(&rig, 0);
    xhci_rig_enumerate(&rig, 1);
    assert_int_equal(xhci_rig_events(&rig, 0), 0);
}

static unsigned code(void)
{
    return rig.last.status >> 24;
}

/* Will the controller wake up by itself? */
static bool timer_armed(void)
{
    const struct xhci *x = rig.bus->host;

    return x->h.timer.armed;
}

/* ---- registers ---- */

/* xHCI 1.0 chapter 5; the same values as the peer's but for interrupters, segments, IMOD and change bits of empty ports. */
static void test_reset_values(void **state)
{
    static const struct {
        unsigned reg;
        uint32_t value;
    } regs[] = {{0, 0x01000040},    {4, 0x08000140},    {8, 0x4f},      {0xc, 0},
                {0x10, 0x80001},    {0x14, 0x2000},     {0x18, 0x1000}, {0x1c, 0},
                {0x20, 0x02000402}, {0x24, 0x20425355}, {0x28, 0x405},  {0x2c, 0},
                {0x30, 0x03000002}, {0x34, 0x20425355}, {0x38, 0x401},  {0x3c, 0},
                {0x40, 0},          {0x44, 1},          {0x48, 1},      {0x54, 0},
                {0x58, 0},          {0x5c, 0},          {0x70, 0},      {0x74, 0},
                {0x78, 0},          {0x440, 0x2a0},     {0x470, 0x2a0}, {PORT1, 0x20ee1},
                {PORT2, 0x20ee1},   {0x4a0, 0x2a0},     {0x4c0, 0},     {0x484, 0},
                {0x1000, 0},        {0x1020, 0},        {0x1024, 4000}, {0x1028, 0},
                {0x1030, 0},        {0x1038, 0},        {0x2000, 0},    {0x3000, 0},
                {0x3ffc, 0}};

    (void)state;
    assert_int_equal(harness_pci_read(h, XHCI_DEVFN, 0, 4), 0x01941033);
    assert_int_equal(harness_pci_read(h, XHCI_DEVFN, 8, 4), 0x0c033003);
    assert_int_equal(harness_pci_read(h, XHCI_DEVFN, 0x10, 4), XHCI_MMIO | 4);
    assert_int_equal(harness_pci_read(h, XHCI_DEVFN, PCI_INTERRUPT_PIN, 1), 1);
    assert_int_equal(harness_pci_read(h, XHCI_DEVFN, 0x60, 4), 0x30);
    for (int again = 0; again < 2; again++) {
        out(X_USBCMD, 2); /* HCRST */
        for (size_t i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
            if (in(regs[i].reg) != regs[i].value) {
                fail_msg("%#x: %#x, not %#x", regs[i].reg, in(regs[i].reg), regs[i].value);
            }
        }
        for (unsigned reg = 0x48; reg < 0x1040; reg += 4) {
            out(reg, 0xffffffff);
        }
        for (unsigned reg = 0x480; reg < 0x4c0; reg += 16) {
            out(reg, 0);
        }
    }
}

static void test_masks(void **state)
{
    static const struct {
        unsigned reg;
        uint32_t value;
    } ones[] = {{0x54, 0xffff},
                {0x70, 0xffffffc0},
                {0x74, 0xffffffff},
                {0x78, 0xff},
                {0x1020, 2},
                {0x1024, 0xffff},
                {0x1028, 16},
                {0x1030, 0xffffffc0},
                {0x1034, 0xffffffff},
                {0x1038, 0xfffffff7},
                {0x103c, 0xffffffff},
                {0x58, 0},
                {0x5c, 0},
                {0, 0x01000040},
                {0x20, 0x02000402},
                {0x484, 0},
                {0x48, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof(ones) / sizeof(ones[0]); i++) {
        out(ones[i].reg, 0xffffffff);
        assert_int_equal(in(ones[i].reg), ones[i].value);
    }
    out(X_USBCMD, 0xfffffcfc);
    assert_int_equal(in(X_USBCMD), 0xc0c);
    assert_int_equal(harness_read(h, XHCI_MMIO + 2, 2),
                     0x0100); /* reads of any width, writes of dwords only */
    assert_int_equal(harness_read(h, XHCI_MMIO, 1), 0x40);
    assert_int_equal(harness_read(h, XHCI_MMIO + 0x26, 4), 0x04052042);
    assert_int_equal(harness_read(h, XHCI_MMIO + 0x20, 8), 0x2042535502000402);
    harness_write(h, XHCI_MMIO + X_CONFIG, 1, 5);
    harness_write(h, XHCI_MMIO + X_CONFIG, 2, 5);
    assert_int_equal(in(X_CONFIG), 0xff);
    harness_write(h, XHCI_MMIO + X_DCBAAP, 8, 0x123456789ac0);
    assert_int_equal(in(X_DCBAAP), 0x56789ac0);
    assert_int_equal(in(X_DCBAAP + 4), 0x1234);
    /* the BAR above 4 GiB */
    harness_pci_write(h, XHCI_DEVFN, PCI_BAR0, 4, 0xffffffff);
    harness_pci_write(h, XHCI_DEVFN, PCI_BAR0 + 4, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(h, XHCI_DEVFN, PCI_BAR0, 4), 0xffffc004);
    assert_int_equal(harness_pci_read(h, XHCI_DEVFN, PCI_BAR0 + 4, 4), 0xffffffff);
    harness_pci_write(h, XHCI_DEVFN, PCI_BAR0, 4, 0x8000);
    harness_pci_write(h, XHCI_DEVFN, PCI_BAR0 + 4, 4, 0x12);
    assert_int_equal(harness_read(h, 0x1200008000, 4), 0x01000040);
    assert_int_equal(harness_read(h, XHCI_MMIO, 4), 0xffffffff);
    harness_pci_write(h, XHCI_DEVFN, PCI_BAR0 + 4, 4, 0);
    assert_int_equal(harness_read(h, 0x8000, 4), 0x01000040);
}

static void test_ports(void **state)
{
    struct xhci_rig_trb t;

    (void)state;
    xhci_rig_start(&rig);
    assert_int_equal(in(X_USBSTS)&0x19,
                     0x08); /* runs; two ports have changed, which is two events */
    assert_true(line());
    for (unsigned port = 5; port <= 6; port++) {
        assert_true(xhci_rig_event(&rig, &t));
        assert_int_equal(t.control >> 10 & 63, PORT_CHANGE);
        assert_int_equal(t.param, port << 24);
        assert_int_equal(t.status, SUCCESS << 24);
    }
    assert_false(xhci_rig_event(&rig, &t));
    assert_false(line());
    out(X_USBSTS, 0x10);
    out(PORT1, 0x200 | 0x10); /* reset: no event while another change is there */
    assert_int_equal(in(PORT1), 0x220e03);
    assert_int_equal(in(X_USBSTS)&0x10, 0x10);
    assert_false(xhci_rig_event(&rig, &t));
    out(PORT1, 0x200 | 0x20000);
    assert_int_equal(in(PORT1), 0x200e03);
    out(PORT1, 0x200 | 0x200000);
    assert_int_equal(in(PORT1), 0xe03);
    out(PORT1, 0x200 | 0x10);
    assert_int_equal(xhci_rig_events(&rig, PORT_CHANGE), 1);
    out(PORT1, 0x200 | 0x200002); /* PED written 1: off */
    assert_int_equal(in(PORT1), 0xee1);
    out(PORT1, 0x200 | 0x10);
    out(PORT1, 0x0e000200 | 0x200000); /* wake bits are kept */
    assert_int_equal(in(PORT1), 0x0e000e03);
    out(PORT1, 0x10000 | 0x200 | 0x60); /* U3, and back as a driver does */
    assert_int_equal(in(PORT1), 0xe63);
    out(PORT1, 0x200 | 0x60); /* no strobe */
    assert_int_equal(in(PORT1), 0xe63);
    out(PORT1, 0x10000 | 0x200 | 0xa0); /* not a state that can be asked for */
    assert_int_equal(in(PORT1), 0xe63);
    out(PORT1, 0x10000 | 0x200 | 0x1e0);
    assert_int_equal(in(PORT1), 0xfe3);
    out(PORT1, 0x10000 | 0x200);
    assert_int_equal(in(PORT1), 0x400e03);
    out(PORT1, 0); /* power off, on */
    assert_int_equal(in(PORT1), 0x400080);
    out(PORT1, 0x200 | 0x400000);
    assert_int_equal(in(PORT1), 0x20ee1);
    /* empty ones */
    out(0x4b0, 0x200 | 0x10);
    out(0x4b0, 0x10000 | 0x200 | 0x60);
    assert_int_equal(in(0x4b0), 0x2a0);
    out(0x440, 0x80000210);
    assert_int_equal(in(0x440), 0x2a0);
}

static void test_mfindex(void **state)
{
    (void)state;
    assert_int_equal(in(X_MFINDEX), 0);
    harness_step(h, MS);
    assert_int_equal(in(X_MFINDEX), 0);
    xhci_rig_start(&rig);
    xhci_rig_events(&rig, 0);
    harness_step(h, MS);
    assert_int_equal(in(X_MFINDEX), 8);
    out(X_USBCMD, 0x405); /* tell of wraps: one in 2048 ms */
    harness_step(h, UINT64_C(2046) * MS);
    assert_int_equal(xhci_rig_events(&rig, WRAP), 0);
    harness_step(h, UINT64_C(2) * MS);
    assert_int_equal(in(X_MFINDEX), 8);
    assert_int_equal(xhci_rig_events(&rig, WRAP), 1);
    harness_step(h, UINT64_C(4096) * MS);
    assert_int_equal(xhci_rig_events(&rig, WRAP), 2);
    out(X_USBCMD, 4);
    assert_int_equal(in(X_USBSTS)&1, 1);
    harness_step(h, UINT64_C(4096) * MS);
    assert_int_equal(in(X_MFINDEX), 8);
    assert_int_equal(xhci_rig_events(&rig, WRAP), 0);
}

/* ---- interrupt ---- */

static void test_interrupt(void **state)
{
    struct xhci_rig_trb t;

    (void)state;
    xhci_rig_start(&rig);
    xhci_rig_events(&rig, 0);
    out(X_USBSTS, 8);
    xhci_rig_put(&rig, &rig.commands, NOOP_COMMAND, 0, 0, 0);
    xhci_rig_doorbell(&rig, 0, 0);
    assert_int_equal(in(X_IMAN), 3);
    assert_int_equal(in(X_USBSTS)&8, 8);
    assert_int_equal(in(X_ERDP)&8, 8); /* EHB */
    assert_true(line());
    out(X_IMAN, 3); /* IP cleared: not again while the handler is busy */
    assert_false(line());
    xhci_rig_put(&rig, &rig.commands, NOOP_COMMAND, 0, 0, 0);
    xhci_rig_doorbell(&rig, 0, 0);
    assert_int_equal(in(X_IMAN), 2);
    out(X_ERDP, (in(X_ERDP) & ~15u) | 8); /* done, but not all was taken */
    assert_true(line());
    out(X_USBCMD, 1); /* INTE off */
    assert_false(line());
    out(X_USBCMD, 5);
    assert_true(line());
    out(X_IMAN, 0);
    assert_false(line());
    out(X_IMAN, 2);
    assert_true(line());
    assert_int_equal(xhci_rig_events(&rig, COMPLETION), 2);
    assert_false(line());
    assert_int_equal(in(X_IMAN), 2);
    assert_int_equal(in(X_ERDP)&8, 0);

    /* Moderation: at most one interrupt in a millisecond. */
    out(X_IMOD, 4000);
    assert_int_equal(command(NOOP_COMMAND, 0, 0, 0), SUCCESS);
    assert_false(line());
    xhci_rig_put(&rig, &rig.commands, NOOP_COMMAND, 0, 0, 0);
    xhci_rig_doorbell(&rig, 0, 0);
    assert_false(line());
    harness_step(h, MS - 1);
    assert_false(line());
    harness_step(h, 1);
    assert_true(line());
    assert_true(xhci_rig_event(&rig, &t));
    harness_step(h, 5 * MS);
    assert_false(line());
}

static void test_msi(void **state)
{
    (void)state;
    xhci_rig_start(&rig);
    xhci_rig_events(&rig, 0);
    harness_pci_write(h, XHCI_DEVFN, 0x74, 4, 0xfee01000);
    harness_pci_write(h, XHCI_DEVFN, 0x7c, 2, 0x4055);
    harness_pci_write(h, XHCI_DEVFN, 0x72, 2, 1);
    assert_int_equal(command(NOOP_COMMAND, 0, 0, 0), SUCCESS);
    assert_int_equal(h->plat.msi_count, 1);
    assert_int_equal(h->plat.msi[0].addr, 0xfee01000);
    assert_int_equal(h->plat.msi[0].data, 0x4055);
    assert_int_equal(in(X_IMAN), 2); /* IP goes by itself */
    assert_false(line());
    assert_int_equal(command(NOOP_COMMAND, 0, 0, 0), SUCCESS);
    assert_int_equal(h->plat.msi_count, 2);
    harness_pci_write(h, XHCI_DEVFN, 0x72, 2, 0);
    xhci_rig_put(&rig, &rig.commands, NOOP_COMMAND, 0, 0, 0);
    xhci_rig_doorbell(&rig, 0, 0);
    assert_true(line());
    harness_pci_write(h, XHCI_DEVFN, 0x72, 2, 1); /* switched on while one waits */
    assert_int_equal(h->plat.msi_count, 3);
    assert_false(line());
    xhci_rig_events(&rig, 0);
    out(X_IMAN, 0);
    xhci_rig_put(&rig, &rig.commands, NOOP_COMMAND, 0, 0, 0);
    xhci_rig_doorbell(&rig, 0, 0);
    harness_pci_write(h, XHCI_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    out(X_IMAN, 2); /* a message is DMA, too */
    assert_int_equal(h->plat.msi_count, 3);
    assert_int_equal(in(X_IMAN), 3);
    harness_pci_write(h, XHCI_DEVFN, PCI_COMMAND, 2, 6);
    assert_int_equal(h->plat.msi_count, 4);
    assert_int_equal(in(X_IMAN), 2);
}

static void test_event_ring(void **state)
{
    struct xhci_rig_trb t;
    unsigned n = 0;

    (void)state;
    xhci_rig_start(&rig);
    xhci_rig_events(&rig, 0);
    for (unsigned i = 0; i < 100; i++) { /* round and round, both segments */
        assert_int_equal(command(NOOP_COMMAND, 0, 0, 0), SUCCESS);
    }
    /* Full: 31 of 32 can be used; the last that goes in says so, and what does not fit waits. */
    for (unsigned i = 0; i < 60; i++) {
        xhci_rig_put(&rig, &rig.commands, NOOP_COMMAND, 0, 0, 0);
        if (i == 19) {
            xhci_rig_doorbell(&rig, 0, 0);
        } else if (i > 19) {
            xhci_rig_doorbell(&rig, 0, 0);
            if (i == 35) {
                break;
            }
        }
    }
    while (n < 29 && xhci_rig_event(&rig, &t)) {
        assert_int_equal(t.control >> 10 & 63, COMPLETION);
        n++;
    }
    assert_int_equal(n, 29);
    assert_true(xhci_rig_event(&rig, &t));
    assert_int_equal(t.control >> 10 & 63, HOST);
    assert_int_equal(t.status >> 24, FULL);
    while (xhci_rig_event(&rig, &t)) {
        assert_int_equal(t.control >> 10 & 63, COMPLETION);
        n++;
    }
    assert_int_equal(n, 36); /* none is lost */
}

static void test_bad_event_ring(void **state)
{
    (void)state;
    xhci_rig_start(&rig);
    xhci_rig_events(&rig, 0);
    out(X_ERDP, 0x700000); /* nowhere: as if it were full */
    xhci_rig_put(&rig, &rig.commands, NOOP_COMMAND, 0, 0, 0);
    xhci_rig_doorbell(&rig, 0, 0);
    assert_int_equal(in(X_USBSTS)&5, 0);
    xhci_rig_poke(&rig, XHCI_ERST + 8, 3); /* too small a segment; seen when the table is used */
    out(X_ERSTBA, XHCI_ERST);
    assert_int_equal(in(X_USBSTS)&5, 5);
    xhci_rig_start(&rig);
    out(X_ERSTSZ, 0); /* none: nothing is executed */
    xhci_rig_put(&rig, &rig.commands, NOOP_COMMAND, 0, 0, 0);
    xhci_rig_doorbell(&rig, 0, 0);
    assert_int_equal(in(X_USBSTS)&5, 0);
    out(X_ERSTBA + 4, 0x7777);
    out(X_ERSTSZ, 2);
    assert_int_equal(in(X_USBSTS)&5, 5);
}

/* ---- commands ---- */

static void test_command_ring(void **state)
{
    uint32_t at;

    (void)state;
    xhci_rig_start(&rig);
    xhci_rig_events(&rig, 0);
    assert_int_equal(in(X_CRCR), 0);
    assert_int_equal(command(NOOP_COMMAND, 0, 0, 0), SUCCESS);
    assert_int_equal(in(X_CRCR), 8);
    out(X_CRCR, 0x20000 | 1); /* not while it runs */
    assert_int_equal(command(NOOP_COMMAND, 0, 0, 0), SUCCESS);
    at = rig.commands.base + 16 * rig.commands.next;
    for (unsigned bit = 2; bit <= 4; bit += 2) { /* stop, abort: an event that says where */
        out(X_CRCR, bit);
        assert_int_equal(xhci_rig_events(&rig, COMPLETION), 1);
        assert_int_equal(code(), RING_STOPPED);
        assert_int_equal(rig.last.param, at);
        assert_int_equal(in(X_CRCR), 0);
        out(X_CRCR, at | rig.commands.cycle);
        assert_int_equal(command(NOOP_COMMAND, 0, 0, 0), SUCCESS);
        at = rig.commands.base + 16 * rig.commands.next;
        if ((at & 63) != 0) { /* what cannot be said to CRCR */
            while ((rig.commands.base + 16 * rig.commands.next) & 63) {
                assert_int_equal(command(NOOP_COMMAND, 0, 0, 0), SUCCESS);
            }
            at = rig.commands.base + 16 * rig.commands.next;
        }
    }
    for (unsigned type = 0; type < 64; type++) { /* none of these is a command */
        static const unsigned known[] = {LINK, 9, 10, 11, 12, 13, 14, 15, 16, 17, 21, 22, 23, 49};
        bool is = false;

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            is = is || known[i] == type;
        }
        if (!is) {
            assert_int_equal(command(type, 0, 1, 1), TRB_ERROR);
        }
    }
    assert_int_equal(command(49, 0, 0, 0), SUCCESS); /* NEC: which firmware */
    assert_int_equal(rig.last.control >> 10 & 63, 48);
    assert_int_equal(rig.last.status & 0xffff, 0x3034);
    xhci_rig_doorbell(&rig, 0, 5); /* only target 0 */
    out(X_USBCMD, 4);
    assert_int_equal(in(X_CRCR), 0);
}

static void test_slots(void **state)
{
    (void)state;
    xhci_rig_start(&rig);
    xhci_rig_events(&rig, 0);
    out(X_CONFIG, 3);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(command(ENABLE_SLOT, 0, 0, 0), SUCCESS);
        assert_int_equal(rig.last.control >> 24, i);
    }
    assert_int_equal(command(ENABLE_SLOT, 0, 0, 0), NO_SLOTS);
    assert_int_equal(command(DISABLE_SLOT, 0, 2, 0), SUCCESS);
    assert_int_equal(command(DISABLE_SLOT, 0, 2, 0), NO_SLOT);
    for (unsigned type = DISABLE_SLOT; type <= RESET_DEVICE; type++) {
        assert_int_equal(command(type, XHCI_INPUT, 2, 1), NO_SLOT);
        assert_int_equal(command(type, XHCI_INPUT, 0, 1), TRB_ERROR);
        assert_int_equal(command(type, XHCI_INPUT, 65, 1), TRB_ERROR);
        assert_int_equal(command(type, XHCI_INPUT, 255, 1), TRB_ERROR);
    }
    assert_int_equal(command(ENABLE_SLOT, 0, 0, 0), SUCCESS);
    assert_int_equal(rig.last.control >> 24, 2);
    assert_int_equal(command(CONFIGURE, XHCI_INPUT, 2, 0), CONTEXT);
    assert_int_equal(command(EVALUATE, XHCI_INPUT, 2, 0), CONTEXT);
    assert_int_equal(command(RESET_DEVICE, 0, 2, 0), CONTEXT);
    assert_int_equal(command(STOP_EP, 0, 2, 1), NO_ENDPOINT);
    assert_int_equal(command(STOP_EP, 0, 2, 0), TRB_ERROR);
}

static void test_address(void **state)
{
    uint8_t d[18];
    unsigned got;

    (void)state;
    xhci_rig_start(&rig);
    assert_int_equal(command(ENABLE_SLOT, 0, 0, 0), SUCCESS);
    xhci_rig_input(&rig, 0, 1, 0, 1); /* without the endpoint */
    assert_int_equal(command(ADDRESS, XHCI_INPUT, 1, 0), PARAMETER);
    xhci_rig_input(&rig, 9, 1, 0, 3); /* no such port */
    assert_int_equal(command(ADDRESS, XHCI_INPUT, 1, 0), PARAMETER);
    xhci_rig_input(&rig, 0, 1, 0, 3);
    xhci_rig_input_endpoint(&rig, 1, 1, 7, 64, 0); /* not a control endpoint */
    assert_int_equal(command(ADDRESS, XHCI_INPUT, 1, 0), PARAMETER);
    xhci_rig_input(&rig, 0, 1, 0, 3);
    assert_int_equal(command(ADDRESS, XHCI_INPUT, 1, 0), TRANSACTION); /* the port is not enabled */
    out(PORT1, 0x210);
    xhci_rig_input(&rig, 3, 1, 0, 3); /* nobody there */
    assert_int_equal(command(ADDRESS, XHCI_INPUT, 1, 0), TRANSACTION);
    assert_int_equal(slot_state(1), 0);

    xhci_rig_input(&rig, 0, 1, 0, 3); /* without SET_ADDRESS first, as some drivers do */
    assert_int_equal(xhci_rig_command(&rig, ADDRESS, XHCI_INPUT, 1u << 24 | 0x200), SUCCESS);
    assert_int_equal(slot_state(1), 1);
    assert_int_equal(endpoint(1, 1), EP_RUNNING);
    assert_int_equal(rig.dev[0]->r.address, 0);
    assert_int_equal(xhci_rig_command(&rig, ADDRESS, XHCI_INPUT, 1u << 24 | 0x200), CONTEXT);
    assert_int_equal(xhci_rig_control(&rig, 1, 0x80, USB_GET_DESCRIPTOR, 0x100, 0, 8, d, &got),
                     SUCCESS);
    assert_int_equal(got, 8);
    assert_int_equal(d[7], 64); /* high speed */
    assert_int_equal(command(CONFIGURE, XHCI_INPUT, 1, 0), CONTEXT);
    xhci_rig_input(&rig, 0, 1, 0, 3);
    assert_int_equal(command(ADDRESS, XHCI_INPUT, 1, 0), SUCCESS);
    assert_int_equal(slot_state(1), 2);
    assert_int_equal(rig.dev[0]->r.address, 1);
    assert_int_equal(xhci_rig_peek(&rig, XHCI_CONTEXTS + 0x400 + 12) & 0xff, 1);
    assert_int_equal(command(ADDRESS, XHCI_INPUT, 1, 0), CONTEXT);
    assert_int_equal(xhci_rig_control(&rig, 1, 0x80, USB_GET_DESCRIPTOR, 0x100, 0, 18, d, &got),
                     SUCCESS);
    assert_int_equal(got, 18);
    out(PORT1,
        0x210); /* a bus reset: the address is gone, and who it belonged to does not answer */
    assert_int_equal(xhci_rig_control(&rig, 1, 0x80, USB_GET_DESCRIPTOR, 0x100, 0, 18, d, &got),
                     TRANSACTION);
    assert_int_equal(endpoint(1, 1), EP_HALTED);
    assert_int_equal(command(RESET_DEVICE, 0, 1, 0), SUCCESS);
    assert_int_equal(slot_state(1), 1);
    xhci_rig_ring_init(&rig, 1, 1);
    xhci_rig_input(&rig, 0, 1, 0, 3);
    assert_int_equal(command(ADDRESS, XHCI_INPUT, 1, 0), SUCCESS);
    assert_int_equal(xhci_rig_control(&rig, 1, 0x80, USB_GET_DESCRIPTOR, 0x100, 0, 18, d, &got),
                     SUCCESS);
    assert_int_equal(command(DISABLE_SLOT, 0, 1, 0), SUCCESS);
    assert_int_equal(slot_state(1), 0);
    xhci_rig_poll(&rig, 1, 8); /* nobody's doorbell */
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 0);
}

static void test_configure(void **state)
{
    static const struct {
        unsigned dci, type, max_packet, code;
    } bad[] = {{3, 3, 8, PARAMETER}, {4, 7, 8, PARAMETER}, {3, 0, 8, PARAMETER},
               {2, 4, 8, PARAMETER}, {3, 4, 8, PARAMETER}, {3, 7, 0, PARAMETER},
               {3, 5, 8, RESOURCE},  {2, 1, 8, RESOURCE}};

    (void)state;
    ready();
    assert_int_equal(slot_state(1), 3);
    assert_int_equal(endpoint(1, 3), EP_RUNNING);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        xhci_rig_input(&rig, 0, 1, 8, 1 | 1u << bad[i].dci);
        xhci_rig_input_endpoint(&rig, 1, bad[i].dci, bad[i].type, bad[i].max_packet, 6);
        assert_int_equal(command(CONFIGURE, XHCI_INPUT, 1, 0), bad[i].code);
        assert_int_equal(endpoint(1, 3), EP_RUNNING); /* all or nothing */
    }
    xhci_rig_input(&rig, 0, 1, 1, 1);
    assert_int_equal(command(CONFIGURE, XHCI_INPUT, 1, 0), PARAMETER);
    xhci_rig_input(&rig, 0, 1, 0, 3);
    assert_int_equal(command(CONFIGURE, XHCI_INPUT, 1, 0), PARAMETER);
    xhci_rig_input(&rig, 0, 1, 8, 1); /* dropped */
    assert_int_equal(command(CONFIGURE, XHCI_INPUT, 1, 0), SUCCESS);
    assert_int_equal(endpoint(1, 3), 0);
    assert_int_equal(slot_state(1), 2);
    assert_int_equal(command(STOP_EP, 0, 1, 3), NO_ENDPOINT);
    xhci_rig_input(&rig, 0, 1, 0, 1 | 8 | 16 | 32); /* others, which the device does not have */
    xhci_rig_input_endpoint(&rig, 1, 3, 7, 8, 200);
    xhci_rig_input_endpoint(&rig, 1, 4, 2, 512, 0);
    xhci_rig_input_endpoint(&rig, 1, 5, 6, 512, 0);
    assert_int_equal(command(CONFIGURE, XHCI_INPUT, 1, 0), SUCCESS);
    xhci_rig_put(&rig, ring(1, 5), NORMAL, XHCI_BUFFER, 64, X_IOC);
    xhci_rig_doorbell(&rig, 1, 5);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(code(), TRANSACTION);
    assert_int_equal(endpoint(1, 5), EP_HALTED);
    xhci_rig_put(&rig, ring(1, 4), NORMAL, XHCI_BUFFER, 100, X_IOC);
    xhci_rig_doorbell(&rig, 1, 4);
    assert_int_equal(xhci_rig_events(&rig, TRANSFER), 1);
    assert_int_equal(code(), TRANSACTION);
    assert_int_equal(xhci_rig_command(&rig, CONFIGURE, 0, 1u << 24 | 0x200),
                     SUCCESS); /* deconfigure */
    assert_int_equal(slot_state(1), 2);
    assert_int_equal(endpoint(1, 3) | endpoint(1, 4) | endpoint(1, 5), 0);

    xhci_rig_input(&rig, 0, 1, 0, 3); /* Evaluate Context: a packet size, an exit latency */
    xhci_rig_input_endpoint(&rig, 1, 1, 4, 8, 0);
    xhci_rig_poke(&rig, XHCI_INPUT + 36, 0x1234);
    xhci_rig_poke(&rig, XHCI_INPUT + 40, 0x00400000);
    assert_int_equal(command(EVALUATE, XHCI_INPUT, 1, 0), SUCCESS);
    assert_int_equal(xhci_rig_peek(&rig, XHCI_CONTEXTS + 0x400 + 36) >> 16, 8);
    assert_int_equal(xhci_rig_peek(&rig, XHCI_CONTEXTS + 0x400 + 4), 0x00051234);
    assert_int_equal(xhci_rig_peek(&rig, XHCI_CONTEXTS + 0x400 + 8), 0x00400000);
    assert_int_equal(xhci_rig_control(&rig, 1, 0x80, USB_GET_DESCRIPTOR, 0x100, 0, 18, NULL, NULL),
                     BABBLE);
    xhci_rig_input(&rig, 0, 1, 8, 3);
    assert_int_equal(command(EVALUATE, XHCI_INPUT, 1, 0), PARAMETER);
}

static void test_other_commands(void **state)
{
    static const uint8_t high[9] = {0, 0, 0, 0, 0, 80, 80, 80, 80};
    static const uint8_t super[9] = {0, 90, 90, 90, 90, 0, 0, 0, 0};

    (void)state;
    xhci_rig_start(&rig);
    memset(h->plat.ram + XHCI_BUFFER, 0xee, 16);
    assert_int_equal(xhci_rig_command(&rig, BANDWIDTH, XHCI_BUFFER, 3u << 16), SUCCESS);
    assert_memory_equal(h->plat.ram + XHCI_BUFFER, high, 9);
    assert_int_equal(h->plat.ram[XHCI_BUFFER + 9], 0xee);
    assert_int_equal(xhci_rig_command(&rig, BANDWIDTH, XHCI_BUFFER, 4u << 16), SUCCESS);
    assert_memory_equal(h->plat.ram + XHCI_BUFFER, super, 9);
    assert_int_equal(command(FORCE_HEADER, 0, 0, 0), TRB_ERROR);
    assert_int_equal(command(FORCE_HEADER, 0, 1, 0), TRANSACTION);
    assert_int_equal(command(FORCE_HEADER, 0, 5, 0), TRB_ERROR); /* a USB 2 port */
}

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

/* Each byte of each record made wrong: refused or taken, never harmful. */
static void test_bad_state(void **state)
{
    struct save_stream s;

    (void)state;
    ready();
    xhci_rig_poll(&rig, 1, 8);
    xhci_rig_put(&rig, ring(1, 1), SETUP, 0x0012000001000680, 8, X_IDT);
    xhci_rig_put(&rig, ring(1, 1), DATA, XHCI_BUFFER, 5, X_DIR_IN | X_CHAIN);
    xhci_rig_doorbell(&rig, 1, 1);
    save_init(&s);
    assert_int_equal(board_save(&h->board, &s), 0);
    for (size_t i = 44; i < s.len; i++) {
        for (unsigned bit = 0; bit < 8; bit += 7) {
            struct save_stream load;

            s.data[i] ^= (uint8_t)(1u << bit);
            save_init_load(&load, s.data, s.len);
            if (board_load(&h->board, &load) == 0) {
                move((int)i);
                harness_step(h, 3 * MS);
                assert_true(harness_save_load_save(h));
            }
            s.data[i] ^= (uint8_t)(1u << bit);
        }
    }
    save_free(&s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reset_values),
        TEST(test_masks),
        TEST(test_ports),
        TEST(test_mfindex),
        TEST(test_interrupt),
        TEST(test_msi),
        TEST(test_event_ring),
        TEST(test_bad_event_ring),
        TEST(test_command_ring),
        TEST(test_slots),
        TEST(test_address),
        TEST(test_configure),
        TEST(test_other_commands),
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

    return cmocka_run_group_tests_name("xhci", tests, NULL, NULL);
}
