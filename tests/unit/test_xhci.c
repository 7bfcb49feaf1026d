/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers, interrupt, event ring, commands. */
#include "tests/unit/xhci_help.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reset_values),   TEST(test_masks),          TEST(test_ports),
        TEST(test_mfindex),        TEST(test_interrupt),      TEST(test_msi),
        TEST(test_event_ring),     TEST(test_bad_event_ring), TEST(test_command_ring),
        TEST(test_slots),          TEST(test_address),        TEST(test_configure),
        TEST(test_other_commands),
    };

    return cmocka_run_group_tests_name("xhci", tests, NULL, NULL);
}
