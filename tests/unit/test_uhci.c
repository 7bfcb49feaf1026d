/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/uhci_rig.h"

enum {
    MS = 1000000,
    CMD = UHCI_IO,
    STS = UHCI_IO + 2,
    INTR = UHCI_IO + 4,
    FRNUM = UHCI_IO + 6,
    PORT1 = UHCI_IO + 0x10,
    PORT2 = UHCI_IO + 0x12
};
enum {
    STALLED = 0x400000,
    BABBLE = 0x100000,
    NAK = 0x80000,
    TIMEOUT = 0x40000,
    TERMINATE = 1,
    QUEUE = 2,
    DEPTH = 4
};
static struct uhci_rig rig;
static struct harness *h;

static int setup(void **state)
{
    (void)state;
    uhci_rig_create(&rig, USB_HID_TABLET, USB_HID_KINDS);
    h = rig.h;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    uhci_rig_destroy(&rig);
    return 0;
}

static bool line(void)
{
    return h->plat.intx[1][3];
}

static void move(int x)
{
    input_send(rig.input, &(struct input_event){.type = INPUT_EVENT_ABSOLUTE, .x = x, .y = 5});
}

static void ready(void)
{
    uhci_rig_start(&rig);
    uhci_rig_enable_port(&rig, 0);
    uhci_rig_configure(&rig, 0);
    harness_out(h, STS, 2, 0x3f);
}

/* UHCI 1.1 chapter 2 and PIIX3 2.4; the same values as the peer's but for the line status. */
static void test_reset_values(void **state)
{
    static const struct {
        unsigned reg, size;
        uint32_t value;
    } regs[] = {{0, 2, 0},       {2, 2, 0x20},      {4, 2, 0},        {6, 2, 0},
                {8, 4, 0},       {0xc, 1, 0x40},    {0xd, 1, 0},      {0x10, 2, 0x93},
                {0x12, 2, 0x80}, {0x14, 2, 0xff7f}, {0x1e, 2, 0xff7f}};

    (void)state;
    assert_int_equal(harness_pci_read(h, UHCI_DEVFN, 0, 4), 0x70208086);
    assert_int_equal(harness_pci_read(h, UHCI_DEVFN, 8, 4), 0x0c030001);
    assert_int_equal(harness_pci_read(h, UHCI_DEVFN, PCI_INTERRUPT_PIN, 1), 4);
    assert_int_equal(harness_pci_read(h, UHCI_DEVFN, 0x60, 4), 0x10);
    assert_int_equal(harness_pci_read(h, UHCI_DEVFN, 0xc0, 4), 0x2000);
    for (int again = 0; again < 2; again++) {
        harness_out(h, CMD, 2, 2); /* HCRESET */
        for (size_t i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
            assert_int_equal(harness_in(h, (uint16_t)(UHCI_IO + regs[i].reg), regs[i].size),
                             regs[i].value);
        }
        for (unsigned reg = 0; reg < 0x10; reg += 2) {
            harness_out(h, (uint16_t)(UHCI_IO + reg), 2, reg == 0 ? 0xf9 : 0xffff);
        }
        assert_int_equal(harness_in(h, CMD, 2), 0xf9);
    }
}

static void test_masks(void **state)
{
    (void)state;
    harness_out(h, INTR, 2, 0xffff);
    assert_int_equal(harness_in(h, INTR, 2), 0x0f);
    harness_out(h, FRNUM, 2, 0xffff);
    assert_int_equal(harness_in(h, FRNUM, 2), 0x7ff);
    harness_out(h, UHCI_IO + 8, 4, 0xffffffff);
    assert_int_equal(harness_in(h, UHCI_IO + 8, 4), 0xfffff000);
    harness_out(h, UHCI_IO + 0xc, 1, 0xff);
    assert_int_equal(harness_in(h, UHCI_IO + 0xc, 1), 0x7f);
    harness_out(h, STS, 2, 0x3f); /* halted is a state */
    assert_int_equal(harness_in(h, STS, 2), 0x20);
    harness_out(h, CMD, 2, 1);
    assert_int_equal(harness_in(h, STS, 2), 0);
    harness_out(h, FRNUM, 2, 0x123); /* not while it runs */
    assert_int_not_equal(harness_in(h, FRNUM, 2), 0x123);
    harness_out(h, CMD, 2, 0);
    assert_int_equal(harness_in(h, STS, 2), 0x20);
    harness_out(h, UHCI_IO + 9, 1, 0x55); /* bytes */
    assert_int_equal(harness_in(h, UHCI_IO + 8, 4), 0xffff5000);
    assert_int_equal(harness_in(h, UHCI_IO + 9, 1), 0x50);
    harness_pci_write(h, UHCI_DEVFN, 0xc0, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(h, UHCI_DEVFN, 0xc0, 4), 0x20bf);
    harness_pci_write(h, UHCI_DEVFN, 0x60, 4, 0);
    assert_int_equal(harness_pci_read(h, UHCI_DEVFN, 0x60, 4), 0x10);
}

static void test_ports(void **state)
{
    (void)state;
    assert_int_equal(harness_in(h, PORT1, 2), 0x93);
    harness_out(h, PORT1, 2, 0x02);
    assert_int_equal(harness_in(h, PORT1, 2), 0x91);
    harness_out(h, PORT2, 2, 0x04); /* nothing there to enable */
    assert_int_equal(harness_in(h, PORT2, 2), 0x80);
    harness_out(h, PORT1, 2, 0x04);
    assert_int_equal(harness_in(h, PORT1, 2), 0x95);
    harness_out(h, PORT1, 2, 0x204); /* reset disables */
    assert_int_equal(harness_in(h, PORT1, 2), 0x281);
    harness_out(h, PORT1, 2, 0x04);
    harness_out(h, PORT1, 2, 0x1004);
    assert_int_equal(harness_in(h, PORT1, 2), 0x1095);
    harness_out(h, PORT1, 2, 0x1044); /* resume, and its end */
    assert_int_equal(harness_in(h, PORT1, 2), 0x10d5);
    harness_out(h, PORT1, 2, 0x04);
    assert_int_equal(harness_in(h, PORT1, 2), 0x95);
    harness_out(h, CMD, 2, 2); /* HCRESET: gone and back, and disabled */
    assert_int_equal(harness_in(h, PORT1, 2), 0x9b);
    harness_out(h, PORT1, 1, 0x00); /* bytes do not clear */
    harness_out(h, PORT1 + 1, 1, 0x10);
    assert_int_equal(harness_in(h, PORT1, 2), 0x109b);
    harness_out(h, PORT1, 1, 0x0a);
    assert_int_equal(harness_in(h, PORT1, 2), 0x1091);
    harness_out(h, CMD, 2, 4); /* GRESET stays until it is written 0 */
    assert_int_equal(harness_in(h, CMD, 2), 4);
    assert_int_equal(harness_in(h, PORT1, 2), 0x93);
}

static void test_frame_number(void **state)
{
    (void)state;
    harness_out(h, FRNUM, 2, 0x7fe);
    harness_out(h, CMD, 2, 1);
    harness_step(h, MS - 1);
    assert_int_equal(harness_in(h, FRNUM, 2), 0x7fe);
    harness_step(h, 1);
    assert_int_equal(harness_in(h, FRNUM, 2), 0x7ff);
    harness_step(h, MS);
    assert_int_equal(harness_in(h, FRNUM, 2), 0);
    harness_step(h, UINT64_C(5000) * MS);
    assert_int_equal(harness_in(h, FRNUM, 2), 5000 % 2048);
    harness_out(h, CMD, 2, 0);
    harness_step(h, 10 * MS);
    assert_int_equal(harness_in(h, FRNUM, 2), 5000 % 2048);
}

static void test_control_transfer(void **state)
{
    uint8_t d[64];

    (void)state;
    uhci_rig_start(&rig);
    assert_int_equal(uhci_rig_control(&rig, 0, 0x80, USB_GET_DESCRIPTOR, 0x100, 0, 18, d),
                     -(STALLED | TIMEOUT));
    assert_true(line());
    assert_int_equal(harness_in(h, STS, 2),
                     2); /* no device: three tries, then the error interrupt */
    harness_out(h, STS, 2, 2);
    assert_false(line());
    uhci_rig_enable_port(&rig, 0);
    assert_int_equal(uhci_rig_control(&rig, 0, 0x80, USB_GET_DESCRIPTOR, 0x100, 0, 18, d), 18);
    assert_int_equal(d[0], 18);
    assert_int_equal(d[7], 8);
    assert_true(line());
    assert_int_equal(harness_in(h, STS, 2), 1);
    harness_pci_write(h, UHCI_DEVFN, 0xc0, 2, 0); /* PIRQ off in LEGSUP */
    assert_false(line());
    assert_int_equal(harness_pci_read(h, UHCI_DEVFN, 0xc0, 2), 0x1000);
    harness_pci_write(h, UHCI_DEVFN, 0xc0, 2, 0x2000);
    assert_true(line());
    harness_out(h, STS, 2, 1);
    assert_false(line());
    assert_int_equal(uhci_rig_control(&rig, 0, 0x80, USB_GET_DESCRIPTOR, 0x900, 0, 18, d),
                     -STALLED);
    assert_int_equal(harness_in(h, STS, 2), 2);
    harness_out(h, STS, 2, 2);
    uhci_rig_configure(&rig, 0);
    assert_int_equal(uhci_rig_control(&rig, 1, 0x80, USB_GET_CONFIGURATION, 0, 0, 1, d), 1);
    assert_int_equal(d[0], 1);
    assert_int_equal(uhci_rig_control(&rig, 0, 0x80, USB_GET_CONFIGURATION, 0, 0, 1, d),
                     -(STALLED | TIMEOUT));
}

/* Without "depth first" one descriptor per queue and frame; with it all. */
static void test_depth_and_breadth(void **state)
{
    static const uint8_t setup_packet[8] = {0x80, 6, 0, 1, 0, 0, 18, 0};

    (void)state;
    ready();
    for (unsigned depth = 0; depth < 2; depth++) {
        uint32_t flag = depth != 0 ? DEPTH : 0;

        memcpy(h->plat.ram + UHCI_BUFFER, setup_packet, 8);
        uhci_rig_td(&rig, UHCI_TDS, (UHCI_TDS + 16) | flag, RIG_ACTIVE, USB_PID_SETUP, 1, 0, 8,
                    UHCI_BUFFER);
        uhci_rig_td(&rig, UHCI_TDS + 16, (UHCI_TDS + 32) | flag, RIG_ACTIVE, USB_PID_IN, 1, 0, 8,
                    UHCI_BUFFER + 8);
        uhci_rig_td(&rig, UHCI_TDS + 32, TERMINATE, RIG_ACTIVE, USB_PID_IN, 1, 0, 8,
                    UHCI_BUFFER + 16);
        uhci_rig_poke(&rig, UHCI_CONTROL_QH + 4, UHCI_TDS);
        harness_out(h, CMD, 2, 0xc1); /* hurry */
        harness_step(h, MS);
        assert_int_equal(uhci_rig_peek(&rig, UHCI_CONTROL_QH + 4),
                         depth != 0 ? TERMINATE : UHCI_TDS + 16);
        assert_int_equal(uhci_rig_peek(&rig, UHCI_TDS + 4), 7);
        harness_step(h, 2 * MS);
        assert_int_equal(uhci_rig_peek(&rig, UHCI_CONTROL_QH + 4), TERMINATE);
        assert_int_equal(uhci_rig_peek(&rig, UHCI_TDS + 36), 7);
    }
}

static void test_short_packet(void **state)
{
    static const uint8_t setup_packet[8] = {0x80, 6, 0, 1, 0, 0, 3, 0};

    (void)state;
    ready();
    memcpy(h->plat.ram + UHCI_BUFFER, setup_packet, 8);
    uhci_rig_td(&rig, UHCI_TDS, (UHCI_TDS + 16) | DEPTH, RIG_ACTIVE, USB_PID_SETUP, 1, 0, 8,
                UHCI_BUFFER);
    uhci_rig_td(&rig, UHCI_TDS + 16, TERMINATE, RIG_ACTIVE | RIG_SPD, USB_PID_IN, 1, 0, 8,
                UHCI_BUFFER + 8);
    uhci_rig_poke(&rig, UHCI_CONTROL_QH + 4, UHCI_TDS);
    harness_step(h, 40 * MS);
    assert_int_equal(uhci_rig_peek(&rig, UHCI_CONTROL_QH + 4), (UHCI_TDS + 16) | DEPTH); /* stays */
    assert_int_equal(uhci_rig_peek(&rig, UHCI_TDS + 20), RIG_SPD | 2);
    assert_int_equal(harness_in(h, STS, 2), 1);
    assert_true(line());
    harness_out(h, INTR, 2, 0x07); /* short packet interrupts have a bit of their own */
    assert_false(line());
    harness_out(h, INTR, 2, 0x08);
    assert_true(line());
    harness_out(h, STS, 2, 1);
    assert_false(line());

    /* A packet that is longer than its descriptor. */
    uhci_rig_td(&rig, UHCI_TDS + 16, TERMINATE, RIG_ACTIVE, USB_PID_IN, 1, 0, 2, UHCI_BUFFER + 8);
    uhci_rig_poke(&rig, UHCI_TDS + 4, RIG_ACTIVE);
    uhci_rig_poke(&rig, UHCI_CONTROL_QH + 4, UHCI_TDS);
    harness_step(h, 40 * MS);
    assert_int_equal(uhci_rig_peek(&rig, UHCI_TDS + 20) & 0xff0000, BABBLE | STALLED);
    assert_int_equal(harness_in(h, STS, 2), 2);
}

/* Descriptors that are linked to the frame list itself, and what interrupts without a transaction. */
static void test_outside_queues(void **state)
{
    enum { ISO = 0x2000000 };

    (void)state;
    ready();
    for (uint32_t i = 0; i < 1024; i++) {
        uhci_rig_poke(&rig, UHCI_FRAME_LIST + 4 * i, UHCI_TDS);
    }
    /* Isochronous, to nobody: once. To an endpoint that has nothing: NAK, and for ever on the bus. */
    uhci_rig_td(&rig, UHCI_TDS, UHCI_TDS + 16, RIG_ACTIVE | ISO, USB_PID_IN, 5, 3, 64, UHCI_BUFFER);
    uhci_rig_td(&rig, UHCI_TDS + 16, UHCI_TDS + 32, RIG_ACTIVE, USB_PID_OUT, 9, 0, 8, UHCI_BUFFER);
    uhci_rig_td(&rig, UHCI_TDS + 32, TERMINATE, RIG_ACTIVE | RIG_SPD, USB_PID_IN, 1, 1, 8,
                UHCI_BUFFER);
    harness_out(h, CMD, 2, 0xc1);
    harness_step(h, 5 * MS);
    assert_int_equal(uhci_rig_peek(&rig, UHCI_TDS + 4), ISO | TIMEOUT);
    assert_int_equal(uhci_rig_peek(&rig, UHCI_TDS + 20),
                     RIG_ACTIVE | TIMEOUT); /* no error count: no end */
    assert_int_equal(uhci_rig_peek(&rig, UHCI_TDS + 36), RIG_ACTIVE | RIG_SPD | NAK);
    assert_int_equal(harness_in(h, STS, 2), 2);
    harness_out(h, STS, 2, 2);
    move(1); /* six bytes of eight: short, but a short packet is told of in queues only */
    harness_step(h, 2 * MS);
    assert_int_equal(uhci_rig_peek(&rig, UHCI_TDS + 36), RIG_SPD | 5);
    assert_int_equal(harness_in(h, STS, 2), 0);
    uhci_rig_td(&rig, UHCI_TDS, TERMINATE, RIG_IOC, USB_PID_IN, 0x7f, 0, 0,
                0); /* not active, but IOC */
    harness_step(h, 32 * MS);
    assert_int_equal(harness_in(h, STS, 2), 1);
    assert_true(line());
    uhci_rig_poke(&rig, UHCI_TDS + 4, 0);
    harness_out(h, STS, 2, 1);
    harness_step(h, 32 * MS);
    assert_false(line());
}

static void test_bad_descriptors(void **state)
{
    static const struct {
        unsigned pid, len;
    } bad[] = {{0, 8}, {0xff, 8}, {0x96, 8}, {USB_PID_IN, 1281}, {USB_PID_OUT, 2047}};

    (void)state;
    ready();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uhci_rig_td(&rig, UHCI_TDS, TERMINATE, RIG_ACTIVE, bad[i].pid, 1, 0, bad[i].len,
                    UHCI_BUFFER);
        uhci_rig_poke(&rig, UHCI_CONTROL_QH + 4, UHCI_TDS);
        harness_step(h, 40 * MS);
        assert_int_equal(harness_in(h, STS, 2), 0x30); /* process error, halted */
        assert_int_equal(harness_in(h, CMD, 2), 0xc0);
        assert_int_equal(uhci_rig_peek(&rig, UHCI_TDS + 4), RIG_ACTIVE);
        harness_out(h, INTR, 2, 0); /* cannot be masked */
        assert_true(line());
        harness_out(h, STS, 2, 0x10);
        assert_false(line());
        uhci_rig_poke(&rig, UHCI_CONTROL_QH + 4, TERMINATE);
        harness_out(h, CMD, 2, 0xc1);
        assert_int_equal(harness_in(h, STS, 2), 0);
    }
}

/* Rings of all kinds, and links to where nothing is: the time goes on, nothing hangs. */
static void test_hostile_schedules(void **state)
{
    (void)state;
    ready();
    uhci_rig_poke(&rig, UHCI_CONTROL_QH, UHCI_CONTROL_QH | QUEUE); /* as Linux closes it */
    harness_step(h, 100 * MS);
    uhci_rig_poke(&rig, UHCI_CONTROL_QH, UHCI_INT_QH | QUEUE);
    harness_step(h, 100 * MS);
    uhci_rig_poke(&rig, UHCI_CONTROL_QH + 4, UHCI_CONTROL_QH | QUEUE);
    harness_step(h, 100 * MS);
    /* a descriptor that is its own successor: inactive, then always NAK, then always done */
    uhci_rig_td(&rig, UHCI_TDS, UHCI_TDS | DEPTH, 0, USB_PID_IN, 1, 0, 8, UHCI_BUFFER);
    uhci_rig_poke(&rig, UHCI_CONTROL_QH + 4, UHCI_TDS);
    harness_step(h, 100 * MS);
    uhci_rig_td(&rig, UHCI_TDS, UHCI_TDS | DEPTH, RIG_ACTIVE, USB_PID_IN, 1, 1, 8, UHCI_BUFFER);
    harness_step(h, 100 * MS);
    assert_int_equal(uhci_rig_peek(&rig, UHCI_TDS + 4), RIG_ACTIVE | NAK);
    uhci_rig_td(&rig, UHCI_TDS, UHCI_TDS, 0, USB_PID_IN, 1, 1, 8, UHCI_BUFFER);
    for (uint32_t i = 0; i < 1024; i++) {
        uhci_rig_poke(&rig, UHCI_FRAME_LIST + 4 * i, UHCI_TDS);
    }
    harness_step(h, 100 * MS);
    /* a thousand queues in each frame, ending nowhere */
    for (uint32_t i = 0; i < 1024; i++) {
        uhci_rig_poke(&rig, UHCI_FRAME_LIST + 4 * i, (0x100000 + 64 * i) | QUEUE);
        uhci_rig_poke(&rig, 0x100000 + 64 * i,
                      i == 1023 ? 0xfffffff2 : (0x100000 + 64 * (i + 1)) | QUEUE);
        uhci_rig_poke(&rig, 0x100004 + 64 * i, 0xb0002);
    }
    harness_step(h, 100 * MS);
    harness_out(h, UHCI_IO + 8, 4,
                0xfffff000); /* no frame list: reads as ones, links that terminate */
    harness_step(h, 100 * MS);
    assert_int_equal(harness_in(h, STS, 2) & 0x38, 0);
    harness_pci_write(h, UHCI_DEVFN, PCI_COMMAND, 2,
                      PCI_COMMAND_IO); /* no bus master: the frames go on */
    unsigned before = harness_in(h, FRNUM, 2);
    harness_step(h, 10 * MS);
    assert_int_equal(harness_in(h, FRNUM, 2), (before + 10) & 0x7ff);
}

static unsigned walks_in(unsigned ms)
{
    unsigned walks = 0;

    /* Each walk writes NAK into a descriptor that does not have it. */
    for (unsigned i = 0; i < ms; i++) {
        uint32_t status = uhci_rig_polled(&rig);

        uhci_rig_poke(&rig, UHCI_INT_TD + 4, status & ~(uint32_t)NAK);
        harness_step(h, MS);
        walks += (uhci_rig_polled(&rig) & NAK) != 0;
    }
    return walks;
}

static void test_idle_backs_off(void **state)
{
    (void)state;
    ready();
    uhci_rig_poll(&rig, 1);
    harness_out(h, CMD, 2, 0xc1);
    assert_int_equal(walks_in(16), 16);
    harness_step(h, 1000 * MS);
    assert_in_range(walks_in(1000), 30, 33);
    move(1000); /* delivered at once, not at the next slow walk */
    harness_step(h, MS);
    assert_int_equal(uhci_rig_polled(&rig), (RIG_IOC | RIG_3_ERRORS | 5));
    assert_true(line());
    assert_int_equal(h->plat.ram[UHCI_INT_BUFFER + 1] | h->plat.ram[UHCI_INT_BUFFER + 2] << 8,
                     1000);
    harness_step(h, 1000 * MS);
    harness_out(h, STS, 2, 1); /* a register write: the driver may have queued something */
    uhci_rig_poll(&rig, 1);
    harness_step(h, MS);
    assert_int_equal(uhci_rig_polled(&rig) & NAK, NAK);
    harness_step(h, 1000 * MS);
    uhci_rig_poll(&rig, 1); /* only in memory: seen within 32 ms */
    harness_step(h, 32 * MS);
    assert_int_equal(uhci_rig_polled(&rig) & NAK, NAK);
}

/* An endpoint that is polled in every eighth frame only is not missed by slow walks. */
static void test_sparse_frames(void **state)
{
    (void)state;
    ready();
    for (uint32_t i = 0; i < 1024; i++) {
        uhci_rig_poke(&rig, UHCI_FRAME_LIST + 4 * i,
                      (i % 8 == 3 ? UHCI_INT_QH : UHCI_CONTROL_QH) | QUEUE);
    }
    uhci_rig_poll(&rig, 1);
    harness_step(h, 2000 * MS);
    assert_int_equal(uhci_rig_polled(&rig) & NAK, NAK);
    harness_step(h, 16 * MS);
    move(77);
    harness_step(h, 8 * MS);
    assert_int_equal(uhci_rig_polled(&rig) & RIG_ACTIVE, 0);
    assert_int_equal(h->plat.ram[UHCI_INT_BUFFER + 1], 77);
}

static void test_suspend_and_wake(void **state)
{
    (void)state;
    ready();
    uhci_rig_poll(&rig, 1);
    harness_step(h, 20 * MS);
    harness_out(h, PORT1, 2, 0x1004);
    move(1); /* no remote wake-up asked for */
    assert_int_equal(harness_in(h, PORT1, 2), 0x1095);
    harness_step(h, 50 * MS); /* a sleeping port hears nothing */
    assert_int_equal(uhci_rig_polled(&rig) & 0xff0000, STALLED | TIMEOUT);
    uhci_rig_poll(&rig, 1);
    harness_out(h, PORT1, 2, 0x1044);
    harness_out(h, PORT1, 2, 0x0004);
    harness_step(h, 2 * MS);
    assert_int_equal(uhci_rig_polled(&rig) & 0xff0000, 0);

    assert_int_equal(uhci_rig_control(&rig, 1, 0, USB_SET_FEATURE, 1, 0, 0, NULL), 0);
    harness_out(h, PORT1, 2, 0x1004);
    move(2);
    assert_int_equal(harness_in(h, PORT1, 2), 0x10d5);
    harness_out(h, PORT1, 2, 0x0004);

    harness_out(h, STS, 2, 0x3f); /* the same from global suspend */
    harness_out(h, CMD, 2, 0xc8);
    harness_out(h, INTR, 2, 0x02);
    assert_false(line());
    input_send(rig.input,
               &(struct input_event){.type = INPUT_EVENT_ABSOLUTE, .x = 3, .buttons = 1});
    assert_int_equal(harness_in(h, CMD, 2), 0xd8);
    assert_int_equal(harness_in(h, STS, 2), 0x24);
    assert_true(line());
    harness_out(h, STS, 2, 0x04);
    assert_false(line());
}

/* A port whose device goes and comes back, while the guest uses it. */
static void test_replug(void **state)
{
    (void)state;
    ready();
    uhci_rig_poll(&rig, 1);
    usb_bus_unplug(rig.bus, 0);
    assert_int_equal(harness_in(h, PORT1, 2), 0x0082); /* gone: change, disabled */
    harness_step(h, 200 * MS);
    assert_int_equal(uhci_rig_polled(&rig) & 0xff0000, STALLED | TIMEOUT);
    move(1); /* goes elsewhere */
    usb_bus_unplug(rig.bus, 0);
    usb_bus_unplug(rig.bus, 7);
    harness_out(h, PORT1, 2, 0x0002);
    assert_int_equal(harness_in(h, PORT1, 2), 0x0080);

    assert_int_equal(usb_bus_plug(rig.bus, 2, rig.dev[0]), -ENODEV);
    assert_int_equal(usb_bus_plug(rig.bus, 1, rig.dev[0]), 0);
    assert_int_equal(usb_bus_plug(rig.bus, 1, rig.dev[0]), -EBUSY);
    assert_int_equal(harness_in(h, PORT2, 2), 0x0093);
    uhci_rig_enable_port(&rig, 1);
    uhci_rig_configure(&rig, 1);
    uhci_rig_poll(&rig, 2);
    harness_step(h, 5 * MS);
    move(9);
    harness_step(h, 5 * MS);
    assert_int_equal(uhci_rig_polled(&rig) & 0xff0000, 0);

    harness_out(h, CMD, 2, 0xc8); /* global suspend: coming or going is a reason to resume */
    harness_out(h, STS, 2, 0x3f);
    usb_bus_unplug(rig.bus, 1);
    assert_int_equal(harness_in(h, CMD, 2), 0xd8);
    assert_int_equal(harness_in(h, STS, 2), 0x24);
}

static void test_hcreset_while_busy(void **state)
{
    (void)state;
    ready();
    uhci_rig_poll(&rig, 1);
    harness_step(h, 20 * MS);
    assert_true(input_has_absolute(rig.input));
    move(9);
    harness_step(h, 20 * MS);
    assert_true(line());
    harness_out(h, CMD, 2, 2);
    assert_false(line());
    assert_false(input_has_absolute(rig.input)); /* back to PS/2 */
    harness_step(h, 100 * MS);
    assert_int_equal(harness_in(h, FRNUM, 2), 0);
}

static void test_save_load(void **state)
{
    uint8_t d[8];
    struct uhci_rig other;

    (void)state;
    ready();
    uhci_rig_poll(&rig, 1);
    harness_step(h, 20 * MS);
    assert_true(harness_save_load_save(h));
    assert_true(input_has_absolute(rig.input));
    uhci_rig_create(&other, USB_HID_TABLET, USB_HID_KINDS);
    move(1234); /* waits in the device */
    assert_true(harness_transfer(h, other.h));
    memcpy(other.h->plat.ram, h->plat.ram, 0x20000);
    assert_true(input_has_absolute(other.input));
    harness_step(other.h, 2 * MS);
    assert_int_equal(uhci_rig_polled(&other) & RIG_ACTIVE, 0);
    assert_int_equal(
        other.h->plat.ram[UHCI_INT_BUFFER + 1] | other.h->plat.ram[UHCI_INT_BUFFER + 2] << 8, 1234);
    assert_true(other.h->plat.intx[1][3]);
    assert_int_equal(uhci_rig_control(&other, 1, 0x80, USB_GET_CONFIGURATION, 0, 0, 1, d), 1);
    assert_true(harness_save_load_save(other.h));
    uhci_rig_destroy(&other);
}

static void live(int n)
{
    move(n);
    harness_step(h, 3 * MS);
}

/* Each byte of each record made wrong: refused or taken, never harmful; and no port enabled without a device. */
static void test_bad_state(void **state)
{
    (void)state;
    ready();
    uhci_rig_poll(&rig, 1);
    harness_step(h, 20 * MS);
    move(1);
    assert_true(harness_spoil_state(h, 7, live));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reset_values),
        TEST(test_masks),
        TEST(test_ports),
        TEST(test_frame_number),
        TEST(test_control_transfer),
        TEST(test_depth_and_breadth),
        TEST(test_short_packet),
        TEST(test_outside_queues),
        TEST(test_bad_descriptors),
        TEST(test_hostile_schedules),
        TEST(test_idle_backs_off),
        TEST(test_sparse_frames),
        TEST(test_suspend_and_wake),
        TEST(test_replug),
        TEST(test_hcreset_while_busy),
        TEST(test_save_load),
        TEST(test_bad_state),
    };

    return cmocka_run_group_tests_name("uhci", tests, NULL, NULL);
}
