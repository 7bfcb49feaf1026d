/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hw/ehci_int.h"
#include "tests/unit/ehci_rig.h"

enum {
    MS = 1000000,
    CMD = 0x20,
    STS = 0x24,
    INTR = 0x28,
    FRINDEX = 0x2c,
    PERIODIC = 0x34,
    ASYNC = 0x38,
    CONFIG = 0x60,
    PORT = 0x64,
    QH = 2,
    T = 1,
};
enum { INT_TOKEN = EHCI_INT_QH + 24, CONTROL_TOKEN = EHCI_CONTROL_QH + 24 };
static struct ehci_rig rig;
static struct harness *h;

static int setup(void **state)
{
    (void)state;
    ehci_rig_create(&rig, true, USB_HID_TABLET, USB_HID_KINDS);
    h = rig.h;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ehci_rig_destroy(&rig);
    return 0;
}

static uint32_t rd(unsigned reg)
{
    return ehci_rig_read(&rig, reg);
}

static void wr(unsigned reg, uint32_t value)
{
    ehci_rig_write(&rig, reg, value);
}

static bool line(void)
{
    return h->plat.intx[0x1d][3];
}

static void move(int x)
{
    input_send(rig.input, &(struct input_event){.type = INPUT_EVENT_ABSOLUTE, .x = x, .y = 5});
}

static unsigned companion_port(unsigned port)
{
    return harness_in(h, (uint16_t)(EHCI_COMPANION_IO + 0x20 * (port / 2) + 0x10 + 2 * (port % 2)),
                      2);
}

static void ready(void)
{
    ehci_rig_start(&rig);
    ehci_rig_enable_port(&rig, 0);
    ehci_rig_configure(&rig, 0);
    wr(STS, 0x3f);
}

static bool timer_armed(void)
{
    return ((struct ehci *)pci_find(h->board.pci, EHCI_DEVFN)->dev)->h.walk.armed;
}

/* ---- registers ---- */

static const struct {
    unsigned reg;
    uint32_t reset,
        ones; /* as it reads after all ones were written to it while the controller is halted */
} registers[] = {
    {0x00, 0x01000020, 0x01000020}, /* HCIVERSION, CAPLENGTH */
    {0x04, 0x00003206, 0x00003206}, /* three companions of two ports */
    {0x08, 0x00006880, 0x00006880},
    {0x0c, 0, 0},
    {STS, 0x1000, 0x1000},
    {INTR, 0, 0x3f},
    {FRINDEX, 0, 0x3fff},
    {0x30, 0, 0}, /* no 64-bit addresses: no CTRLDSSEGMENT */
    {PERIODIC, 0, 0xfffff000},
    {ASYNC, 0, 0xffffffe0},
    {0x3c, 0, 0},
    {PORT + 20, 0x3000, 0x7f3000}, /* CONFIGFLAG is 0: the companion's */
    {CONFIG, 0, 1},
    {PORT + 24, 0, 0},
    {0xffc, 0, 0},
};

static void test_registers(void **state)
{
    (void)state;
    for (int again = 0; again < 2; again++) {
        for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
            assert_int_equal(rd(registers[i].reg), registers[i].reset);
        }
        assert_int_equal(rd(CMD), 0x80000);
        for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
            wr(registers[i].reg, 0xffffffff);
            assert_int_equal(rd(registers[i].reg), registers[i].ones);
        }
        wr(CMD, 0xfffffffd); /* light reset, park mode, sizes of the frame list: none of them */
        assert_int_equal(rd(CMD), 0xff0071);
        wr(CMD, 2);
    }
}

static void test_config_space(void **state)
{
    static const struct {
        unsigned devfn, reg;
        uint32_t value;
    } want[] = {
        {EHCI_DEVFN, 0x00, 0x293a8086}, {EHCI_DEVFN, 0x08, 0x0c032003},
        {EHCI_DEVFN, 0x0c, 0x00800000}, {EHCI_DEVFN, 0x2c, 0x11001af4},
        {EHCI_DEVFN, 0x3c, 0x00000400}, {EHCI_DEVFN, 0x60, 0x00002020},
        {EHCI_DEVFN, 0x68, 1},          {0xe8, 0x00, 0x29348086},
        {0xe9, 0x00, 0x29358086},       {0xea, 0x00, 0x29368086},
        {0xe8, 0x08, 0x0c030003},       {0xe8, 0x3c, 0x00000100},
        {0xe9, 0x3c, 0x00000200},       {0xea, 0x3c, 0x00000300},
        {0xea, 0x0c, 0x00800000},       {0xea, 0x60, 0x10},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        assert_int_equal(harness_pci_read(h, (uint8_t)want[i].devfn, want[i].reg, 4),
                         want[i].value);
    }
    harness_pci_write(h, EHCI_DEVFN, PCI_BAR0, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(h, EHCI_DEVFN, PCI_BAR0, 4), 0xfffff000);
    harness_pci_write(h, EHCI_DEVFN, PCI_BAR0, 4, (uint32_t)EHCI_MMIO);
    for (unsigned reg = 0x40; reg < 0x100; reg += 4) {
        harness_pci_write(h, EHCI_DEVFN, reg, 4, 0xffffffff);
        assert_int_equal(harness_pci_read(h, EHCI_DEVFN, reg, 4), reg == 0x60   ? 0x3f20
                                                                  : reg == 0x68 ? 0x01010001
                                                                  : reg == 0x6c ? 0xe03f
                                                                                : 0);
    }
    wr(CONFIG, 1); /* a port change: shown in the legacy support register, too */
    assert_int_equal(harness_pci_read(h, EHCI_DEVFN, 0x6c, 4), 0x4e03f);
}

static void test_access_sizes(void **state)
{
    (void)state;
    assert_int_equal(harness_read(h, EHCI_MMIO, 1), 0x20);
    assert_int_equal(harness_read(h, EHCI_MMIO + 2, 2), 0x100);
    assert_int_equal(harness_read(h, EHCI_MMIO + 3, 1), 1);
    assert_int_equal(harness_read(h, EHCI_MMIO, 8), 0x320601000020);
    assert_int_equal(harness_read(h, EHCI_MMIO + 2, 4), 0x32060100);
    harness_write(h, EHCI_MMIO + CMD + 2, 1, 0x40);
    assert_int_equal(rd(CMD), 0x400000);
    harness_write(h, EHCI_MMIO + PERIODIC + 2, 4, 0x12345678);
    assert_int_equal(rd(PERIODIC), 0x56780000);
    assert_int_equal(rd(ASYNC), 0x1220);
    wr(CONFIG, 1);
    harness_write(h, EHCI_MMIO + STS + 1, 1, 0xff); /* the other byte stays */
    assert_int_equal(rd(STS), 0x1004);
    harness_write(h, EHCI_MMIO + PORT + 2, 1, 0x70);
    assert_int_equal(rd(PORT), 0x701803);
    harness_write(h, EHCI_MMIO + PORT, 1, 0x02);
    assert_int_equal(rd(PORT), 0x701801);
    harness_write(h, EHCI_MMIO + STS, 1, 0x04);
    assert_int_equal(rd(STS), 0x1000);
}

static void test_port(void **state)
{
    (void)state;
    wr(CONFIG, 1);
    assert_int_equal(rd(PORT), 0x1803);
    wr(PORT, 0x1002);
    assert_int_equal(rd(PORT), 0x1801);
    wr(PORT, 0x1004); /* software cannot enable */
    assert_int_equal(rd(PORT), 0x1801);
    wr(PORT, 0x10c0); /* nor suspend what is not enabled */
    assert_int_equal(rd(PORT), 0x1801);
    wr(PORT, 0x1100);
    assert_int_equal(rd(PORT), 0x1101);
    wr(PORT, 0x1000);
    assert_int_equal(rd(PORT), 0x1005);
    wr(PORT, 0x1044); /* nothing to resume */
    assert_int_equal(rd(PORT), 0x1005);
    wr(PORT, 0x1084);
    assert_int_equal(rd(PORT), 0x1085);
    wr(PORT, 0x1004); /* 0 does not wake up */
    assert_int_equal(rd(PORT), 0x1085);
    wr(PORT, 0x1044);
    assert_int_equal(rd(PORT), 0x10c5);
    wr(PORT, 0x1004);
    assert_int_equal(rd(PORT), 0x1005);
    wr(PORT, 0x1084);
    wr(PORT, 0x1104);
    assert_int_equal(rd(PORT), 0x1101);
    wr(PORT, 0x1000);
    wr(PORT, 0x1000); /* disabled */
    assert_int_equal(rd(PORT), 0x1801);
    wr(PORT + 4, 0x1100); /* nobody there */
    assert_int_equal(rd(PORT + 4), 0x1000);
    wr(PORT + 4, 0x1000);
    assert_int_equal(rd(PORT + 4), 0x1000);
}

/* Who has the port, and at which speed the device works there. */
static void test_port_owners(void **state)
{
    (void)state;
    assert_int_equal(rd(PORT), 0x3000);
    assert_int_equal(companion_port(0), 0x93);
    assert_int_equal(rig.dev[0]->h.speed, USB_SPEED_FULL);
    assert_int_equal(rd(STS), 0x1000);
    harness_out(h, EHCI_COMPANION_IO + 0x10, 2, 0x06);
    wr(INTR, 4);
    wr(CONFIG, 1);
    assert_int_equal(rd(PORT), 0x1803);
    assert_int_equal(companion_port(0), 0x82); /* gone, and disabled */
    assert_int_equal(rig.dev[0]->h.speed, USB_SPEED_HIGH);
    assert_int_equal(rd(STS), 0x1004);
    assert_true(line());
    wr(STS, 4);
    assert_false(line());
    harness_out(h, EHCI_COMPANION_IO + 0x10, 2, 0x02);
    wr(CONFIG, 1); /* nothing new */
    assert_int_equal(rd(STS), 0x1000);
    wr(PORT, 0x1002);
    wr(PORT, 0x1100);
    wr(PORT, 0x1000);
    assert_int_equal(rd(PORT), 0x1005);
    wr(PORT, 0x3000); /* given away */
    assert_int_equal(rd(PORT), 0x3002);
    assert_int_equal(rd(STS), 0x1004);
    assert_int_equal(companion_port(0), 0x93);
    assert_int_equal(rig.dev[0]->h.speed, USB_SPEED_FULL);
    wr(PORT, 0x3002);
    assert_int_equal(rd(PORT), 0x3000);
    wr(PORT, 0x1000); /* taken back */
    assert_int_equal(rd(PORT), 0x1803);
    wr(PORT, 0x3002);
    usb_bus_unplug(rig.bus, 0); /* an empty port comes back by itself */
    assert_int_equal(companion_port(0), 0x82);
    assert_int_equal(rd(PORT), 0x1002);
    assert_int_equal(usb_bus_plug(rig.bus, 5, rig.dev[0]), 0);
    assert_int_equal(rd(PORT + 20), 0x1803);
    assert_int_equal(companion_port(5), 0x80);
    wr(CMD, 2); /* a reset gives all away */
    assert_int_equal(rd(PORT + 20), 0x3000);
    assert_int_equal(rd(CONFIG), 0);
    assert_int_equal(companion_port(5), 0x93);
    assert_int_equal(rd(STS), 0x1000);
    wr(PORT + 20, 0x1000); /* not without CONFIGFLAG */
    assert_int_equal(rd(PORT + 20), 0x3000);
    usb_bus_unplug(rig.bus, 5);
    assert_int_equal(companion_port(5), 0x82);
    assert_int_equal(rd(PORT + 20), 0x3000);
}

/* An event finds its way to the controller that has the device; so do the events of a board that was reset. */
static void test_companion_works(void **state)
{
    (void)state;
    harness_out(h, EHCI_COMPANION_IO + 0x10, 2, 0x06);
    harness_out(h, EHCI_COMPANION_IO + 0x10, 2, 0x1004);
    rig.dev[0]->r.wakeup = true;
    rig.dev[0]->cfg.ops->configured(rig.dev[0]->cfg.dev, true);
    assert_int_equal(companion_port(0), 0x1095);
    usb_device_wake(rig.dev[0]);
    assert_int_equal(companion_port(0), 0x10d5);
    ready();
    board_reset(&h->board);
    harness_pci_write(h, 0xe8, PCI_BAR0 + 16, 4, EHCI_COMPANION_IO);
    harness_pci_write(h, 0xe8, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    assert_int_equal(companion_port(0), 0x93);
    assert_int_equal(rig.dev[0]->h.speed, USB_SPEED_FULL);
    assert_int_equal(rig.dev[0]->r.configuration, 0);
}

static void test_without_companions(void **state)
{
    struct ehci_rig lone;
    struct usb_bus other = {.ports = 2};

    (void)state;
    ehci_rig_create(&lone, false, USB_HID_KEYBOARD, USB_HID_KINDS);
    assert_int_equal(harness_pci_read(lone.h, EHCI_DEVFN, 0, 4), 0x24cd8086);
    assert_int_equal(harness_pci_read(lone.h, EHCI_DEVFN, 8, 4), 0x0c032010);
    assert_int_equal(ehci_rig_read(&lone, 4), 6);
    assert_int_equal(ehci_rig_read(&lone, PORT), 0x1803);
    ehci_rig_start(&lone);
    ehci_rig_write(&lone, PORT, 0x3002); /* to nobody */
    assert_int_equal(ehci_rig_read(&lone, PORT), 0x1801);
    ehci_rig_enable_port(&lone, 0);
    ehci_rig_configure(&lone, 0);
    ehci_rig_write(&lone, CONFIG, 0);
    assert_int_equal(ehci_rig_read(&lone, PORT), 0x1005);
    assert_true(harness_save_load_save(lone.h));
    ehci_rig_write(&lone, CMD, 2);
    assert_int_equal(ehci_rig_read(&lone, PORT), 0x1803);
    assert_int_equal(lone.dev[0]->r.configuration, 0);
    assert_int_equal(ehci_add_companion(lone.bus, 5, &other), -EINVAL);
    assert_int_equal(ehci_add_companion(lone.bus, 6, &other), -EINVAL);
    assert_int_equal(ehci_add_companion(rig.bus, 1, &other), -EEXIST);
    ehci_rig_destroy(&lone);
}

static void test_frame_index(void **state)
{
    (void)state;
    wr(FRINDEX, 0x3ff8);
    wr(CMD, 1);
    wr(FRINDEX, 0); /* not while it runs */
    harness_step(h, MS - 1);
    assert_int_equal(rd(FRINDEX), 0x3fff);
    assert_int_equal(rd(STS), 0);
    harness_step(h, 1);
    assert_int_equal(rd(FRINDEX), 0);
    assert_int_equal(rd(STS), 8); /* rollover, of 1024 frames */
    wr(STS, 8);
    assert_false(timer_armed()); /* nothing to do, and nobody wants to know */
    wr(INTR, 8);
    harness_step(h, UINT64_C(1024) * MS - 1);
    assert_false(line());
    harness_step(h, 1);
    assert_true(line());
    assert_int_equal(rd(FRINDEX), 0x2000);
    wr(STS, 8);
    harness_step(h, UINT64_C(5000) * MS + MS / 2);
    wr(CMD, 0);
    assert_int_equal(rd(FRINDEX), (0x2000 + 5000 * 8 + 4) & 0x3fff);
    assert_int_equal(rd(STS), 0x1008);
    harness_step(h, 10 * MS);
    assert_int_equal(rd(FRINDEX), (0x2000 + 5000 * 8 + 4) & 0x3fff);
    wr(STS, 8);
    wr(FRINDEX, 5); /* runs on from there, frames as well */
    wr(CMD, 0x11);
    wr(INTR, 8);
    harness_step(h, UINT64_C(1024) * MS);
    assert_true(line());
}

/* ---- transfers ---- */

static void test_control_transfer(void **state)
{
    uint8_t d[64];

    (void)state;
    ehci_rig_start(&rig);
    wr(STS, 0x3f);
    assert_int_equal(rd(STS), 0xc000); /* both schedules */
    assert_int_equal(ehci_rig_control(&rig, 0, 0x80, USB_GET_DESCRIPTOR, 0x100, 0, 18, d),
                     -(RIG_HALTED | RIG_XACT_ERROR));
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 8) & RIG_3_ERRORS, 0);
    assert_int_equal(rd(STS), 0xc002); /* no device: three tries, then the error interrupt */
    assert_true(line());
    wr(STS, 2);
    assert_false(line());
    ehci_rig_enable_port(&rig, 0);
    wr(STS, 4);
    assert_int_equal(ehci_rig_control(&rig, 0, 0x80, USB_GET_DESCRIPTOR, 0x100, 0, 18, d), 18);
    assert_int_equal(d[0], 18);
    assert_int_equal(d[3], 2);
    assert_int_equal(d[7], 64);
    assert_int_equal(rd(STS), 0xc001);
    assert_true(line());
    /* The queue is laid over by the last descriptor, whose toggle went on. */
    assert_int_equal(ehci_rig_peek(&rig, EHCI_CONTROL_QH + 12), EHCI_QTDS + 64);
    assert_int_equal(ehci_rig_peek(&rig, CONTROL_TOKEN), RIG_3_ERRORS | RIG_IOC);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 8), RIG_3_ERRORS | RIG_SETUP | 1u << 31);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 40), RIG_3_ERRORS | RIG_IN);
    wr(STS, 1);
    assert_int_equal(ehci_rig_control(&rig, 0, 0x80, USB_GET_DESCRIPTOR, 0x900, 0, 18, d),
                     -RIG_HALTED);
    assert_int_equal(rd(STS), 0xc002); /* a stall */
    wr(STS, 2);
    ehci_rig_configure(&rig, 0);
    assert_int_equal(ehci_rig_control(&rig, 1, 0x80, USB_GET_CONFIGURATION, 0, 0, 1, d), 1);
    assert_int_equal(d[0], 1);
    assert_int_equal(ehci_rig_control(&rig, 1, 0x80, USB_GET_DESCRIPTOR, 0x600, 0, 64, d), 10);
    assert_int_equal(ehci_rig_control(&rig, 0, 0x80, USB_GET_CONFIGURATION, 0, 0, 1, d),
                     -(RIG_HALTED | RIG_XACT_ERROR));
}

/* Runs one descriptor in the control queue and returns what its token has become. */
static uint32_t run(uint32_t token, uint32_t buffer)
{
    ehci_rig_qtd(&rig, EHCI_QTDS, T, T, token | RIG_ACTIVE, buffer);
    ehci_rig_queue(&rig, 1, EHCI_QTDS);
    wr(STS, 0x3f); /* hurry */
    harness_step(h, MS);
    return ehci_rig_peek(&rig, EHCI_QTDS + 8);
}

static void test_token_results(void **state)
{
    enum { DESCRIPTOR = 18, PAGE_5 = 4 << 12 };
    static const uint8_t packet[8] = {0x80, 6, 0, 1, 0, 0, 255, 0};

    (void)state;
    ready();
    for (unsigned i = 0; i < 8; i++) {
        h->plat.ram[0x16ffc + i] = packet[i];
    }
    /* A packet across two pages; the page and the offset go on. */
    assert_int_equal(run(RIG_SETUP | 8 << 16, 0x16ffc), RIG_SETUP | 1u << 31 | 1 << 12);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_CONTROL_QH + 28), 0x16004);
    assert_int_equal(run(RIG_IN | RIG_IOC | 100 << 16, 0x17ff0),
                     RIG_IN | RIG_IOC | (100 - DESCRIPTOR) << 16 | 1u << 31 | 1 << 12);
    assert_int_equal(h->plat.ram[0x17ff0], 18);
    assert_int_equal(rd(STS), 0xc001);
    /* Babble: more bytes than the descriptor has. */
    (void)run(RIG_SETUP | 8 << 16, 0x16ffc);
    h->plat.ram[0x17ff0] = 0;
    assert_int_equal(run(RIG_IN | RIG_3_ERRORS | 4 << 16, 0x17ff0),
                     RIG_IN | RIG_3_ERRORS | RIG_HALTED | RIG_BABBLE | 4 << 16);
    assert_int_equal(h->plat.ram[0x17ff0], 0);
    assert_int_equal(rd(STS), 0xc002);
    /* The pages end, or were never there. */
    (void)run(RIG_SETUP | 8 << 16, 0x16ffc);
    assert_int_equal(run(RIG_IN | PAGE_5 | 100 << 16, 0x17ff0) & 0xff,
                     RIG_HALTED | RIG_BUFFER_ERROR);
    assert_int_equal(run(RIG_SETUP | 7 << 12 | 8 << 16, 0x16ff0) & 0xff,
                     RIG_HALTED | RIG_BUFFER_ERROR);
    /* A packet that ends with the last page. */
    (void)run(RIG_SETUP | 8 << 16, 0x16ffc);
    assert_int_equal(run(RIG_IN | PAGE_5 | DESCRIPTOR << 16, 0x17000 + 4096 - DESCRIPTOR) & 0xff,
                     0);
    /* No such PID, a packet that nobody takes, no packet size. */
    assert_int_equal(run(0x300 | RIG_3_ERRORS | 8 << 16, EHCI_BUFFER),
                     0x300 | RIG_HALTED | RIG_XACT_ERROR | 8 << 16);
    assert_int_equal(run(RIG_3_ERRORS | 0x7fff << 16, EHCI_BUFFER) & 0xff, RIG_HALTED);
    ehci_rig_qtd(&rig, EHCI_QTDS, T, T, RIG_3_ERRORS | RIG_ACTIVE | 8 << 16, EHCI_BUFFER);
    ehci_rig_qh(&rig, EHCI_CONTROL_QH, EHCI_HEAD_QH | QH, 0x00006001, 0x40000000, EHCI_QTDS);
    harness_step(h, 64 * MS);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 8), RIG_HALTED | RIG_XACT_ERROR | 8 << 16);
    /* Full speed would be behind a hub, and there is none. */
    ehci_rig_qtd(&rig, EHCI_QTDS, T, T, RIG_3_ERRORS | RIG_ACTIVE | RIG_SETUP | 8 << 16, 0x16ffc);
    ehci_rig_qh(&rig, EHCI_CONTROL_QH, EHCI_HEAD_QH | QH, 0x00404001, 0x40010000, EHCI_QTDS);
    harness_step(h, 64 * MS);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 8) & 0xff, RIG_HALTED | RIG_XACT_ERROR);
    /* No error counter: for ever. */
    wr(STS, 0x3f);
    ehci_rig_queue(&rig, 9, EHCI_QTDS);
    ehci_rig_qtd(&rig, EHCI_QTDS, T, T, RIG_ACTIVE | RIG_SETUP | 8 << 16, 0x16ffc);
    harness_step(h, 1000 * MS);
    assert_int_equal(ehci_rig_peek(&rig, CONTROL_TOKEN),
                     RIG_ACTIVE | RIG_XACT_ERROR | RIG_SETUP | 8 << 16);
    assert_int_equal(rd(STS) & 0x37, 0);
}

/* A halted queue waits for the driver; an inactive descriptor ends a queue until it is active. */
static void test_queue_advance(void **state)
{
    static const uint8_t packet[8] = {0x80, 6, 0, 1, 0, 0, 255, 0};

    (void)state;
    ready();
    memcpy(h->plat.ram + EHCI_BUFFER, packet, 8);
    /* SETUP, IN that is short: on with the alternate one, not the next. */
    ehci_rig_qtd(&rig, EHCI_QTDS, EHCI_QTDS + 32, T, RIG_ACTIVE | RIG_SETUP | 8 << 16, EHCI_BUFFER);
    ehci_rig_qtd(&rig, EHCI_QTDS + 32, EHCI_QTDS + 64, EHCI_QTDS + 96,
                 RIG_ACTIVE | RIG_IN | 64 << 16, EHCI_BUFFER + 64);
    ehci_rig_qtd(&rig, EHCI_QTDS + 64, T, T, RIG_ACTIVE | RIG_IN | 64 << 16, EHCI_BUFFER + 128);
    ehci_rig_qtd(&rig, EHCI_QTDS + 96, EHCI_QTDS + 128, T, RIG_ACTIVE, 0);
    ehci_rig_qtd(&rig, EHCI_QTDS + 128, T, T, 0, 0);
    ehci_rig_queue(&rig, 1, EHCI_QTDS);
    wr(STS, 0x3f);
    harness_step(h, MS);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 32 + 8) & RIG_ACTIVE, 0);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 64 + 8) & RIG_ACTIVE, RIG_ACTIVE);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 96 + 8) & RIG_ACTIVE, 0);
    assert_int_equal(rd(STS) & 0x3f, 1); /* the short packet; nobody had IOC */
    assert_int_equal(ehci_rig_peek(&rig, EHCI_CONTROL_QH + 12), EHCI_QTDS + 96);
    /* The driver fills the inactive descriptor: activity goes on there. */
    harness_step(h, 100 * MS);
    ehci_rig_qtd(&rig, EHCI_QTDS + 128, T, T, RIG_ACTIVE | RIG_SETUP | 8 << 16, EHCI_BUFFER);
    harness_step(h, 64 * MS);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 128 + 8) & 0xff, 0);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_CONTROL_QH + 12), EHCI_QTDS + 128);
    /* DTC 0: the toggle is the queue's. */
    ehci_rig_qtd(&rig, EHCI_QTDS, T, T, RIG_ACTIVE | RIG_SETUP | 8 << 16, EHCI_BUFFER);
    ehci_rig_qh(&rig, EHCI_CONTROL_QH, EHCI_HEAD_QH | QH, 0x40402001, 0x40000000, EHCI_QTDS);
    ehci_rig_poke(&rig, CONTROL_TOKEN, 1u << 31);
    wr(STS, 0x3f);
    harness_step(h, MS);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 8), RIG_SETUP); /* from 1 to 0 */
    /* Halted: nothing happens, whatever follows. */
    ehci_rig_qtd(&rig, EHCI_QTDS, T, T, RIG_ACTIVE | RIG_SETUP | 8 << 16, EHCI_BUFFER);
    ehci_rig_poke(&rig, EHCI_CONTROL_QH + 16, EHCI_QTDS);
    ehci_rig_poke(&rig, CONTROL_TOKEN, RIG_HALTED);
    wr(STS, 0x3f);
    harness_step(h, 64 * MS);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 8) & RIG_ACTIVE, RIG_ACTIVE);
    ehci_rig_poke(&rig, CONTROL_TOKEN, 0);
    harness_step(h, 64 * MS);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 8) & RIG_ACTIVE, 0);
}

static void test_interrupt_transfer(void **state)
{
    (void)state;
    ready();
    ehci_rig_poll(&rig, 1);
    harness_step(h, 20 * MS);
    assert_int_equal(ehci_rig_polled(&rig) & 0xff, RIG_ACTIVE);
    assert_int_equal(ehci_rig_peek(&rig, INT_TOKEN) & 0xff, RIG_ACTIVE); /* laid over */
    move(1000);
    harness_step(h, MS);
    assert_int_equal(ehci_rig_polled(&rig), RIG_IOC | RIG_3_ERRORS | RIG_IN | 2 << 16 | 1u << 31);
    assert_int_equal(h->plat.ram[EHCI_INT_BUFFER + 1] | h->plat.ram[EHCI_INT_BUFFER + 2] << 8,
                     1000);
    assert_true(line());
    wr(STS, 1);
    ehci_rig_poll(&rig, 1);
    move(7);
    harness_step(h, MS);
    assert_int_equal(ehci_rig_polled(&rig) >> 31, 0); /* the toggle goes on */
    /* Not without an S-mask, but in any microframe. */
    ehci_rig_poll(&rig, 1);
    ehci_rig_poke(&rig, EHCI_INT_QH + 8, 0x40000000);
    move(8);
    harness_step(h, 64 * MS);
    assert_int_equal(ehci_rig_polled(&rig) & 0xff, RIG_ACTIVE);
    ehci_rig_poke(&rig, EHCI_INT_QH + 8, 0x40000080);
    harness_step(h, 64 * MS);
    assert_int_equal(ehci_rig_polled(&rig) & 0xff, 0);
    /* Unplugged: three errors, over as many frames, each with one microframe. */
    ehci_rig_poll(&rig, 1);
    harness_step(h, 20 * MS);
    wr(STS, 0x3f);
    usb_bus_unplug(rig.bus, 0);
    harness_step(h, 2 * MS);
    assert_int_equal(rd(STS) & 0x3f, 4);
    harness_step(h, MS);
    assert_int_equal(ehci_rig_polled(&rig) & 0xcff, RIG_HALTED | RIG_XACT_ERROR);
    assert_int_equal(rd(STS) & 0x3f, 7); /* IOC as well */
}

static void test_nak_counter(void **state)
{
    (void)state;
    ready();
    ehci_rig_qtd(&rig, EHCI_QTDS, T, T, RIG_ACTIVE | RIG_IN | 8 << 16, EHCI_BUFFER);
    ehci_rig_qh(&rig, EHCI_CONTROL_QH, EHCI_HEAD_QH | QH, 0x40086101, 0x40000000, EHCI_QTDS);
    harness_step(h, 64 * MS);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_CONTROL_QH + 20), T); /* four NAKs came */
    assert_int_equal(rd(STS) & 0x2000, 0);                          /* an empty schedule */
    move(3);
    harness_step(h, MS);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 8) & 0xff, 0);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_CONTROL_QH + 20), T | 4 << 1); /* as it was loaded */
}

/* Isochronous descriptors and nodes for split transactions: nobody answers, the walk goes on. */
static void test_isochronous(void **state)
{
    enum { ITD = 0x20000, SITD = 0x20100, FSTN = 0x20200, ACTIVE = 1 << 31 };

    (void)state;
    ready();
    memset(h->plat.ram + ITD, 0, 0x300);
    for (uint32_t i = 0; i < 1024; i++) {
        ehci_rig_poke(&rig, EHCI_FRAME_LIST + 4 * i, ITD);
    }
    ehci_rig_poke(&rig, ITD, SITD | 4);
    ehci_rig_poke(&rig, ITD + 4, (uint32_t)ACTIVE | 100 << 16 | 5);
    ehci_rig_poke(&rig, ITD + 32, (uint32_t)ACTIVE | 100 << 16 | 1 << 15);
    ehci_rig_poke(&rig, ITD + 40, 0x800); /* IN */
    ehci_rig_poke(&rig, SITD, FSTN | 6);
    ehci_rig_poke(&rig, SITD + 4, 1u << 31);
    ehci_rig_poke(&rig, SITD + 12, RIG_ACTIVE | 100 << 16); /* no S-mask: never due */
    ehci_rig_poke(&rig, FSTN, EHCI_INT_QH | QH);
    ehci_rig_poke(&rig, FSTN + 4, EHCI_INT_QH | QH);
    ehci_rig_poll(&rig, 1);
    wr(STS, 0x3f);
    harness_step(h, MS);
    assert_int_equal(ehci_rig_peek(&rig, ITD + 4), 1 << 28 | 5);
    assert_int_equal(ehci_rig_peek(&rig, ITD + 8), 0);
    assert_int_equal(ehci_rig_peek(&rig, ITD + 32), 1 << 28 | 1 << 15);
    assert_int_equal(ehci_rig_peek(&rig, SITD + 12), RIG_ACTIVE | 100 << 16);
    assert_int_equal(ehci_rig_peek(&rig, INT_TOKEN) & 0xff, RIG_ACTIVE); /* came that far */
    assert_int_equal(rd(STS) & 0x3f, 3);
    ehci_rig_poke(&rig, ITD + 40, 0); /* OUT: no handshake */
    ehci_rig_poke(&rig, ITD + 4, (uint32_t)ACTIVE | 100 << 16);
    ehci_rig_poke(&rig, SITD + 8, 0x1c01);
    wr(STS, 0x3f);
    harness_step(h, MS);
    assert_int_equal(ehci_rig_peek(&rig, ITD + 4), 100 << 16);
    assert_int_equal(ehci_rig_peek(&rig, SITD + 12), RIG_XACT_ERROR | 100 << 16);
    assert_int_equal(rd(STS) & 0x3f, 2);
    ehci_rig_poke(&rig, SITD + 4, 0);
    ehci_rig_poke(&rig, SITD + 12, RIG_ACTIVE | 100 << 16 | 1u << 31);
    wr(STS, 0x3f);
    harness_step(h, MS);
    assert_int_equal(ehci_rig_peek(&rig, SITD + 12), 100 << 16 | 1u << 31);
    assert_int_equal(rd(STS) & 0x3f, 1);
}

/* ---- the asynchronous ring ---- */

static void test_doorbell(void **state)
{
    (void)state;
    ready();
    ehci_rig_control(&rig, 1, 0x80, USB_GET_CONFIGURATION, 0, 0, 1, NULL);
    wr(STS, 0x3f);
    wr(ASYNC, EHCI_CONTROL_QH); /* the one that will go */
    ehci_rig_poke(&rig, EHCI_HEAD_QH, EHCI_HEAD_QH | QH);
    wr(CMD, 0x80071);
    assert_int_equal(rd(CMD), 0x80071);
    assert_false(line());
    harness_step(h, MS);
    assert_int_equal(rd(CMD), 0x80031);
    assert_int_equal(rd(STS), 0xc020);
    assert_true(line());
    wr(STS, 0x20);
    assert_false(line());
    assert_int_equal(rd(ASYNC), EHCI_HEAD_QH);
    /* What was unlinked is not looked at again. */
    ehci_rig_qtd(&rig, EHCI_QTDS, T, T, RIG_ACTIVE | RIG_SETUP | 8 << 16, EHCI_BUFFER);
    ehci_rig_queue(&rig, 1, EHCI_QTDS);
    wr(CMD, 0x80031);
    harness_step(h, 64 * MS);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_QTDS + 8) & RIG_ACTIVE, RIG_ACTIVE);
    assert_int_equal(rd(STS), 0xc000);
}

/* ---- hostile schedules ---- */

static void test_host_system_error(void **state)
{
    static const struct {
        unsigned reg;
        uint32_t value;
    } bad[] = {{ASYNC, 0xfffff000}, {ASYNC, 0xa0000}, {PERIODIC, 0xfffff000}, {PERIODIC, 0xb0000}};

    (void)state;
    ready();
    wr(INTR, 0x10);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        wr(bad[i].reg, bad[i].value);
        harness_step(h, 64 * MS);
        assert_int_equal(rd(STS) & 0xd010, 0x1010); /* halted */
        assert_int_equal(rd(CMD), 0x80030);
        assert_true(line());
        wr(STS, 0x10);
        assert_false(line());
        assert_false(timer_armed());
        wr(bad[i].reg, bad[i].reg == ASYNC ? EHCI_HEAD_QH : EHCI_FRAME_LIST);
        wr(CMD, 0x80031);
        assert_int_equal(rd(STS) & 0xd010, 0xc000);
    }
    harness_pci_write(h, EHCI_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY); /* no bus master */
    wr(ASYNC, 0xfffff000);
    harness_step(h, 100 * MS);
    assert_int_equal(rd(STS) & 0x1010, 0);
}

/* Rings of all kinds: the time goes on, nothing hangs. */
static void test_hostile_schedules(void **state)
{
    enum { QHS = 0x100000, N = 8000 };

    (void)state;
    ready();
    /* Without an H bit; a queue that is not in the ring, and leads into it; one that links nothing. */
    ehci_rig_poke(&rig, EHCI_HEAD_QH + 4, 0);
    harness_step(h, 100 * MS);
    ehci_rig_qh(&rig, EHCI_QTDS, EHCI_HEAD_QH | QH, 0x2000, 0, T);
    wr(ASYNC, EHCI_QTDS);
    harness_step(h, 100 * MS);
    ehci_rig_poke(&rig, EHCI_HEAD_QH, EHCI_CONTROL_QH); /* an iTD */
    harness_step(h, 100 * MS);
    /* Descriptors that follow themselves: active, with no bytes; the queue itself as its descriptor. */
    ehci_rig_qtd(&rig, EHCI_QTDS, EHCI_QTDS, EHCI_QTDS, RIG_ACTIVE | RIG_IN, 0);
    ehci_rig_queue(&rig, 1, EHCI_QTDS);
    ehci_rig_poke(&rig, EHCI_HEAD_QH, EHCI_CONTROL_QH | QH);
    harness_step(h, 100 * MS);
    ehci_rig_queue(&rig, 1, EHCI_CONTROL_QH);
    ehci_rig_poke(&rig, EHCI_CONTROL_QH + 8, RIG_ACTIVE);
    harness_step(h, 100 * MS);
    ehci_rig_queue(&rig, 1, EHCI_CONTROL_QH + 32);
    harness_step(h, 100 * MS);
    /* An endpoint that takes for ever: the frame ends. */
    ehci_rig_qtd(&rig, EHCI_QTDS, EHCI_QTDS, T, RIG_ACTIVE | 0x5000 << 16, EHCI_BUFFER);
    ehci_rig_queue(&rig, 1, EHCI_QTDS);
    ehci_rig_poke(&rig, EHCI_CONTROL_QH + 4, 0x40016001);
    harness_step(h, 100 * MS);
    /* In the frame list: loops, and more queues than a walk looks at; each of them active. */
    for (uint32_t i = 0; i < N; i++) {
        uint32_t at = QHS + 64 * i;

        ehci_rig_qh(&rig, at, (i == N - 1 ? QHS : at + 64) | QH, 0x00082101, 0x400000ff, T);
        ehci_rig_poke(&rig, at + 24, RIG_ACTIVE | RIG_IN | 8 << 16);
    }
    for (uint32_t i = 0; i < 1024; i++) {
        ehci_rig_poke(&rig, EHCI_FRAME_LIST + 4 * i, (QHS + 64 * i) | QH);
    }
    harness_step(h, 200 * MS);
    ehci_rig_poke(&rig, QHS, QHS | QH);
    for (uint32_t i = 0; i < 1024; i++) {
        ehci_rig_poke(&rig, EHCI_FRAME_LIST + 4 * i, QHS | 2 * (i & 3));
    }
    harness_step(h, 200 * MS);
    wr(ASYNC, QHS);
    ehci_rig_poke(&rig, QHS, (QHS + 64) | QH);
    wr(CMD, 0x80061);
    harness_step(h, 200 * MS);
    assert_int_equal(rd(STS) & 0x1030, 0x20); /* the doorbell is heard */
    uint32_t before = rd(FRINDEX);
    harness_step(h, 10 * MS);
    assert_int_equal(rd(FRINDEX), (before + 80) & 0x3fff);
}

/* ---- idle ---- */

static unsigned walks_in(unsigned ms)
{
    unsigned walks = 0;

    /* Each walk clears the NAK counter. */
    for (unsigned i = 0; i < ms; i++) {
        ehci_rig_poke(&rig, EHCI_INT_QH + 20, T | 15 << 1);
        harness_step(h, MS);
        walks += ehci_rig_peek(&rig, EHCI_INT_QH + 20) == T;
    }
    return walks;
}

static void test_idle_backs_off(void **state)
{
    (void)state;
    ready();
    ehci_rig_poll(&rig, 1);
    wr(CMD, 0x80031);
    assert_int_equal(walks_in(16), 16);
    harness_step(h, 1000 * MS);
    assert_in_range(walks_in(1000), 15, 17);
    move(1000); /* delivered at once, not at the next slow walk */
    harness_step(h, MS);
    assert_int_equal(ehci_rig_polled(&rig) & 0xff, 0);
    assert_true(line());
    harness_step(h, 1000 * MS);
    wr(STS, 1); /* a register write: the driver may have queued something */
    ehci_rig_poll(&rig, 1);
    assert_int_equal(walks_in(1), 1);
    harness_step(h, 1000 * MS);
    ehci_rig_poke(&rig, EHCI_INT_QH + 20, T | 15 << 1); /* only in memory: seen within 64 ms */
    harness_step(h, 64 * MS);
    assert_int_equal(ehci_rig_peek(&rig, EHCI_INT_QH + 20), T);
    assert_true(timer_armed());
    wr(CMD, 0x80001); /* both schedules off: nothing wakes up */
    assert_false(timer_armed());
    assert_int_equal(rd(STS) & ~8u, 0);
    move(5);
    assert_false(timer_armed());
    wr(CMD, 0x80011);
    harness_step(h, MS);
    assert_int_equal(ehci_rig_polled(&rig) & 0xff, 0);
}

/* An endpoint that is polled in every eighth frame only is not missed by slow walks. */
static void test_sparse_frames(void **state)
{
    (void)state;
    ready();
    for (uint32_t i = 0; i < 1024; i++) {
        ehci_rig_poke(&rig, EHCI_FRAME_LIST + 4 * i, i % 8 == 3 ? EHCI_INT_QH | QH : (uint32_t)T);
    }
    ehci_rig_poll(&rig, 1);
    harness_step(h, 2000 * MS);
    assert_int_equal(ehci_rig_polled(&rig) & 0xff, RIG_ACTIVE);
    harness_step(h, 16 * MS);
    move(77);
    harness_step(h, 8 * MS);
    assert_int_equal(ehci_rig_polled(&rig) & 0xff, 0);
    assert_int_equal(h->plat.ram[EHCI_INT_BUFFER + 1], 77);
}

static void test_suspend_and_wake(void **state)
{
    (void)state;
    ready();
    ehci_rig_poll(&rig, 1);
    harness_step(h, 20 * MS);
    wr(PORT, 0x1084);
    move(1); /* no remote wake-up asked for */
    assert_int_equal(rd(PORT), 0x1085);
    harness_step(h, 64 * MS); /* a sleeping port hears nothing */
    assert_int_equal(ehci_rig_polled(&rig) & 0xff, RIG_HALTED | RIG_XACT_ERROR);
    ehci_rig_poll(&rig, 1);
    wr(PORT, 0x1044);
    wr(PORT, 0x1004);
    harness_step(h, 2 * MS);
    assert_int_equal(ehci_rig_polled(&rig) & (RIG_ACTIVE | RIG_HALTED), 0);

    assert_int_equal(ehci_rig_control(&rig, 1, 0, USB_SET_FEATURE, 1, 0, 0, NULL), 0);
    wr(PORT, 0x1084);
    wr(CMD, 0);
    wr(STS, 0x3f);
    assert_false(line());
    move(2); /* also while the controller stands still */
    assert_int_equal(rd(PORT), 0x10c5);
    assert_int_equal(rd(STS), 0x1004);
    assert_true(line());
    wr(STS, 4);
    input_send(rig.input,
               &(struct input_event){.type = INPUT_EVENT_ABSOLUTE, .x = 3, .buttons = 1});
    assert_false(line()); /* has said so already */
    wr(PORT, 0x1004);
    assert_int_equal(rd(PORT), 0x1005);
}

/* A port whose device goes and comes back, while the guest uses it. */
static void test_replug(void **state)
{
    (void)state;
    ready();
    usb_bus_unplug(rig.bus, 0);
    assert_int_equal(rd(PORT), 0x1002); /* gone: change, disabled */
    assert_int_equal(rd(STS) & 0x3f, 4);
    assert_true(line());
    wr(PORT, 0x1002);
    assert_int_equal(rd(PORT), 0x1000);
    usb_bus_unplug(rig.bus, 0);
    assert_int_equal(rd(PORT), 0x1000);
    assert_int_equal(usb_bus_plug(rig.bus, 6, rig.dev[0]), -ENODEV);
    assert_int_equal(usb_bus_plug(rig.bus, 3, rig.dev[0]), 0);
    assert_int_equal(usb_bus_plug(rig.bus, 3, rig.dev[0]), -EBUSY);
    assert_int_equal(rd(PORT + 12), 0x1803);
    ehci_rig_enable_port(&rig, 3);
    ehci_rig_configure(&rig, 3);
    ehci_rig_poll(&rig, 4);
    harness_step(h, 5 * MS);
    move(9);
    harness_step(h, 5 * MS);
    assert_int_equal(ehci_rig_polled(&rig) & 0xff, 0);
}

/* ---- saved state ---- */

static void test_save_load(void **state)
{
    uint8_t d[8];
    struct ehci_rig other;

    (void)state;
    ready();
    ehci_rig_poll(&rig, 1);
    harness_step(h, 20 * MS);
    assert_true(harness_save_load_save(h));
    assert_true(input_has_absolute(rig.input));
    ehci_rig_create(&other, true, USB_HID_TABLET, USB_HID_KINDS);
    move(1234); /* waits in the device */
    assert_true(harness_transfer(h, other.h));
    memcpy(other.h->plat.ram, h->plat.ram, 0x20000);
    assert_true(input_has_absolute(other.input));
    assert_int_equal(other.dev[0]->h.speed, USB_SPEED_HIGH);
    assert_int_equal(harness_in(other.h, EHCI_COMPANION_IO + 0x10, 2) & 1, 0);
    harness_step(other.h, 2 * MS);
    assert_int_equal(ehci_rig_polled(&other) & 0xff, 0);
    assert_int_equal(
        other.h->plat.ram[EHCI_INT_BUFFER + 1] | other.h->plat.ram[EHCI_INT_BUFFER + 2] << 8, 1234);
    assert_true(other.h->plat.intx[0x1d][3]);
    assert_int_equal(ehci_rig_control(&other, 1, 0x80, USB_GET_CONFIGURATION, 0, 0, 1, d), 1);
    assert_true(harness_save_load_save(other.h));

    wr(PORT, 0x3000); /* and with the companion */
    assert_true(harness_transfer(h, other.h));
    assert_int_equal(ehci_rig_read(&other, PORT), 0x3002);
    assert_int_equal(harness_in(other.h, EHCI_COMPANION_IO + 0x10, 2), 0x93);
    assert_int_equal(other.dev[0]->h.speed, USB_SPEED_FULL);
    ehci_rig_destroy(&other);
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
    ehci_rig_poll(&rig, 1);
    harness_step(h, 20 * MS);
    move(1);
    assert_true(harness_spoil_state(h, 7, live));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_registers),
        TEST(test_config_space),
        TEST(test_access_sizes),
        TEST(test_port),
        TEST(test_port_owners),
        TEST(test_companion_works),
        TEST(test_without_companions),
        TEST(test_frame_index),
        TEST(test_control_transfer),
        TEST(test_token_results),
        TEST(test_queue_advance),
        TEST(test_interrupt_transfer),
        TEST(test_nak_counter),
        TEST(test_isochronous),
        TEST(test_doorbell),
        TEST(test_host_system_error),
        TEST(test_hostile_schedules),
        TEST(test_idle_backs_off),
        TEST(test_sparse_frames),
        TEST(test_suspend_and_wake),
        TEST(test_replug),
        TEST(test_save_load),
        TEST(test_bad_state),
    };

    return cmocka_run_group_tests_name("ehci", tests, NULL, NULL);
}
