/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RTL8139C+: registers, EEPROM, link, C mode, unplug, saved state. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/rtl8139_rig.h"

/* ---- registers ---- */

static void test_reset_values(void **state)
{
    static const struct {
        unsigned reg, size;
        uint32_t value;
    } table[] = {
        {IDR0, 4, 0x123e1600}, {4, 2, 0x5634},    {MAR0, 4, 0},
        {MAR0 + 4, 4, 0},      {TSD0, 4, 0x2000}, {TSD0 + 12, 4, 0x2000},
        {TSAD0, 4, 0},         {RBSTART, 4, 0},   {0x34, 2, 0},
        {0x36, 1, 0},          {CR, 1, 1},        {CAPR, 2, 0xfff0},
        {CBR, 2, 0},           {IMR, 2, 0},       {ISR, 2, 0},
        {TCR, 4, 0x74800000},  {RCR, 4, 0},       {MPC, 4, 0},
        {EECR, 1, 0},          {0x51, 1, 0},      {CONFIG1, 1, 0x0c},
        {MSR, 1, 0xd0},        {0x59, 1, 1},      {0x5a, 1, 0},
        {0x5c, 2, 0},          {0x5e, 1, 0x20},   {TSAD, 2, 0x000f},
        {BMCR, 2, 0x1000},     {BMSR, 2, 0x782d}, {0x66, 2, 0x05e1},
        {0x68, 2, 0x05e1},     {0x6a, 2, 1},      {0x74, 2, 0x0748},
        {0xd8, 1, 0},          {TPPOLL, 1, 0},    {CPCR, 2, 0},
        {RDSAR, 4, 0},         {RDSAR + 4, 4, 0}, {0xec, 1, 0},
        {0x90, 4, 0},
    };
    struct rtl_rig *r = rtl_begin();

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (rtl_rd(r, table[i].reg, table[i].size) != table[i].value) {
            fail_msg("register %02x is %#x, not %#x", table[i].reg,
                     rtl_rd(r, table[i].reg, table[i].size), table[i].value);
        }
        assert_int_equal(harness_read(r->h, 0xf0000000 + table[i].reg, table[i].size),
                         table[i].value);
    }
    assert_int_equal(harness_pci_read(r->h, DEVFN, 0, 4), 0x813910ec);
    assert_int_equal(harness_pci_read(r->h, DEVFN, 8, 4), 0x02000020);
    assert_int_equal(harness_pci_read(r->h, DEVFN, 0x2c, 4), 0x11001af4);
    assert_int_equal(harness_pci_read(r->h, DEVFN, 0x3d, 1), 1);
    harness_pci_write(r->h, DEVFN, PCI_BAR0, 4, 0xffffffff);
    harness_pci_write(r->h, DEVFN, PCI_BAR0 + 4, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(r->h, DEVFN, PCI_BAR0, 4), 0xffffff01);
    assert_int_equal(harness_pci_read(r->h, DEVFN, PCI_BAR0 + 4, 4), 0xffffff00);
    rtl_end(r);
}

/* Bits that writing ones (then zeros) leaves set or clear; measured against the peer with the same
 * sequence. */
static void test_masks(void **state)
{
    static const struct {
        unsigned reg, size;
        uint32_t ones, zeros;
        bool unlocked; /* ones needs 9346CR in config mode */
    } table[] = {
        {IDR0, 4, 0xffffffff, 0, false},
        {MAR0 + 4, 4, 0xffffffff, 0, false},
        {RBSTART, 4, 0xffffffff, 0, false},
        {CAPR, 2, 0xffff, 0, false},
        {CBR, 2, 0, 0, false},
        {IMR, 2, 0xe1ff, 0, false},
        {ISR, 2, 0, 0, false},
        {RCR, 4, 0x0f03ffbf, 0, false},
        {MPC, 4, 0, 0, false},
        {0x51, 1, 0x07, 0, true},
        {CONFIG1, 1, 0xff, 0x0c, true},
        {TIMERINT, 4, 0xffffffff, 0, false},
        {MSR, 1, 0xd0, 0xd0, false},
        {0x59, 1, 0x71, 0x01, true},
        {0x5a, 1, 0xf5, 0, true},
        {0x5c, 2, 0x0fff, 0, false},
        {0x5e, 1, 0x20, 0x20, false},
        {BMCR, 2, 0x1000, 0, false},
        {BMSR, 2, 0x782d, 0x782d, false},
        {0x66, 2, 0xffff, 0, false},
        {0x68, 2, 0x05e1, 0x05e1, false},
        {0x74, 2, 0x0748, 0x0748, false},
        {0xd8, 1, 0x7f, 0, false},
        {CPCR, 2, 0x007b, 0, false},
        {RDSAR, 4, 0xffffffff, 0, false},
        {0xec, 1, 0xff, 0, false},
    };
    struct rtl_rig *r = rtl_begin();

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        unsigned reg = table[i].reg, size = table[i].size;
        uint32_t before = rtl_rd(r, reg, size);

        rtl_wr(r, reg, size, 0xffffffff);
        if (table[i].unlocked) {
            assert_int_equal(rtl_rd(r, reg, size), before);
            rtl_wr(r, EECR, 1, 0xc0);
            rtl_wr(r, reg, size, 0xffffffff);
        }
        if (rtl_rd(r, reg, size) != table[i].ones) {
            fail_msg("register %02x after ones: %#x, not %#x", reg, rtl_rd(r, reg, size),
                     table[i].ones);
        }
        rtl_wr(r, reg, size, 0);
        assert_int_equal(rtl_rd(r, reg, size), table[i].zeros);
        rtl_wr(r, EECR, 1, 0);
    }
    /* bytes and words of a register, and accesses across registers */
    rtl_wr(r, RBSTART + 1, 1, 0xab);
    rtl_wr(r, RBSTART + 2, 2, 0x1234);
    assert_int_equal(rtl_rd(r, RBSTART, 4), 0x1234ab00);
    assert_int_equal(rtl_rd(r, RBSTART + 2, 1), 0x34);
    rtl_wr(r, IMR, 4, 0x0000e1ff);
    assert_int_equal(rtl_rd(r, IMR, 4), 0x0000e1ff);
    rtl_wr(r, CAPR, 2, 0xfff0);
    assert_int_equal(rtl_rd(r, 0x34, 4), 0x01000000); /* ERBCR, ERSR, CR with its ring empty */
    /* TCR only while transmitting is on */
    rtl_wr(r, TCR, 4, 0xffffffff);
    assert_int_equal(rtl_rd(r, TCR, 4), 0x74800000);
    rtl_wr(r, CR, 1, TE);
    rtl_wr(r, TCR, 4, 0xffffffff);
    assert_int_equal(rtl_rd(r, TCR, 4), 0x778f07f0);
    rtl_end(r);
}

static void test_software_reset(void **state)
{
    struct rtl_rig *r = rtl_begin();

    (void)state;
    rtl_wr(r, IDR0, 4, 0x44332211);
    rtl_wr(r, MAR0, 4, 5);
    rtl_wr(r, IMR, 2, 0xffff);
    rtl_wr(r, TPPOLL, 1, 1);
    assert_true(rtl_irq(r));
    rtl_wr(r, CR, 1, TE | RE);
    rtl_wr(r, RCR, 4, 0xf);
    rtl_wr(r, TSD0, 4, 100);
    rtl_wr(r, CR, 1, RST);
    harness_step(r->h, 0);
    assert_false(rtl_irq(r));
    assert_int_equal(rtl_rd(r, CR, 1), 1);
    assert_int_equal(rtl_rd(r, IMR, 4), 0);
    assert_int_equal(rtl_rd(r, RCR, 4), 0);
    assert_int_equal(rtl_rd(r, TSD0, 4), 0x2000);
    assert_int_equal(r->net->sent_count, 0);
    assert_int_equal(rtl_rd(r, IDR0, 4), 0x44332211);
    assert_int_equal(rtl_rd(r, MAR0, 4), 5);
    board_reset(&r->h->board);
    harness_pci_write(r->h, DEVFN, PCI_BAR0, 4, IO);
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 7);
    assert_int_equal(rtl_rd(r, IDR0, 4), 0x123e1600);
    assert_int_equal(rtl_rd(r, MAR0, 4), 0);
    rtl_end(r);
}

static void test_interrupts(void **state)
{
    struct rtl_rig *r = rtl_begin();

    (void)state;
    rtl_wr(r, TPPOLL, 1, 1); /* FSWInt */
    assert_int_equal(rtl_rd(r, ISR, 2), SWINT);
    assert_false(rtl_irq(r));
    rtl_wr(r, IMR, 2, SWINT);
    assert_true(rtl_irq(r));
    rtl_wr(r, ISR, 2, (uint16_t)~SWINT);
    assert_true(rtl_irq(r));
    assert_int_equal(rtl_rd(r, ISR, 2), SWINT);
    rtl_wr(r, ISR + 1, 1, 1); /* its upper byte alone */
    assert_false(rtl_irq(r));
    rtl_wr(r, TPPOLL, 1, 1);
    assert_true(rtl_irq(r));
    rtl_wr(r, IMR, 2, 0);
    assert_false(rtl_irq(r));
    rtl_end(r);
}

static void test_timer(void **state)
{
    struct rtl_rig *r = rtl_begin();

    (void)state;
    harness_step(r->h, 30000);
    rtl_wr(r, TCTR, 4, 1);
    assert_int_equal(rtl_rd(r, TCTR, 4), 0);
    harness_step(r->h, 3000);
    assert_int_equal(rtl_rd(r, TCTR, 4), 100);
    rtl_wr(r, TIMERINT, 4, 200);
    harness_step(r->h, 2970);
    assert_int_equal(rtl_rd(r, ISR, 2), 0);
    harness_step(r->h, 60);
    assert_int_equal(rtl_rd(r, ISR, 2), TIMEOUT);
    rtl_wr(r, ISR, 2, TIMEOUT);
    harness_step(r->h, 100ull * 1000000000);
    assert_int_equal(rtl_rd(r, ISR, 2), 0);
    harness_step(r->h, 29ull * 1000000000); /* 2^32 ticks are 128.8 s */
    assert_int_equal(rtl_rd(r, ISR, 2), TIMEOUT);
    rtl_wr(r, ISR, 2, TIMEOUT);
    rtl_wr(r, TIMERINT, 4, 0);
    harness_step(r->h, 200ull * 1000000000);
    assert_int_equal(rtl_rd(r, ISR, 2), 0);
    rtl_wr(r, TIMERINT, 4, 50);
    rtl_wr(r, TCTR, 4, 0);
    assert_true(harness_save_load_save(r->h));
    harness_step(r->h, 50 * 30);
    assert_int_equal(rtl_rd(r, ISR, 2), TIMEOUT);
    rtl_end(r);
}

/* ---- EEPROM ---- */

static void ee_clock(struct rtl_rig *r, unsigned di)
{
    rtl_wr(r, EECR, 1, 0x88 | di << 1);
    rtl_wr(r, EECR, 1, 0x8c | di << 1);
}

static void ee_command(struct rtl_rig *r, unsigned bits, unsigned n)
{
    rtl_wr(r, EECR, 1, 0x80);
    rtl_wr(r, EECR, 1, 0x88);
    while (n-- > 0) {
        ee_clock(r, bits >> n & 1);
    }
}

static uint16_t ee_data(struct rtl_rig *r)
{
    unsigned v = 0;

    for (int i = 0; i < 16; i++) {
        ee_clock(r, 0);
        v = v << 1 | (rtl_rd(r, EECR, 1) & 1);
    }
    return (uint16_t)v;
}

static uint16_t ee_read(struct rtl_rig *r, unsigned at)
{
    ee_command(r, 6u << 6 | at, 11); /* two leading zeros, as drivers send them */
    assert_int_equal(rtl_rd(r, EECR, 1) & 1, 0);
    return ee_data(r);
}

static void test_eeprom(void **state)
{
    struct rtl_rig *r = rtl_begin();

    (void)state;
    assert_int_equal(ee_read(r, 0), 0x8129);
    assert_int_equal(ee_data(r), 0x10ec); /* goes on by itself */
    assert_int_equal(ee_read(r, 7), 0x1600);
    assert_int_equal(ee_read(r, 8), 0x123e);
    assert_int_equal(ee_read(r, 9), 0x5634);
    /* an 8-bit address, as for a 93C56: must not look like one */
    ee_command(r, 6u << 8 | 0, 13);
    assert_int_not_equal(ee_data(r), 0x8129);
    ee_command(r, 5u << 22 | 7u << 16 | 0xbeef, 25); /* WRITE while protected */
    assert_int_equal(ee_read(r, 7), 0x1600);
    ee_command(r, 4u << 6 | 0x30, 9); /* EWEN */
    ee_command(r, 5u << 22 | 7u << 16 | 0xbeef, 25);
    rtl_wr(r, EECR, 1, 0x80);
    rtl_wr(r, EECR, 1, 0x88);
    assert_int_equal(rtl_rd(r, EECR, 1) & 1, 1); /* ready */
    assert_int_equal(ee_read(r, 7), 0xbeef);
    ee_command(r, 7u << 6 | 8, 9); /* ERASE */
    assert_int_equal(ee_read(r, 8), 0xffff);
    assert_true(harness_save_load_save(r->h));
    ee_command(r, 4u << 6 | 0x00, 9); /* EWDS */
    ee_command(r, 5u << 22 | 9u << 16 | 0x1234, 25);
    assert_int_equal(ee_read(r, 9), 0x5634);
    rtl_wr(r, EECR, 1, 0x40); /* autoload */
    assert_int_equal(rtl_rd(r, EECR, 1) & 0xc0, 0);
    assert_int_equal(rtl_rd(r, IDR0, 4), 0xffffbeef);
    board_reset(&r->h->board); /* not volatile */
    harness_pci_write(r->h, DEVFN, PCI_BAR0, 4, IO);
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 7);
    assert_int_equal(rtl_rd(r, IDR0, 4), 0xffffbeef);
    rtl_end(r);
}

static void test_link(void **state)
{
    struct rtl_rig *r = rtl_begin();

    (void)state;
    net_fake_link(r->net, false);
    assert_int_equal(rtl_rd(r, ISR, 2), PUN);
    assert_int_equal(rtl_rd(r, MSR, 1) & 4, 4);
    assert_int_equal(rtl_rd(r, BMSR, 2), 0x7809);
    assert_int_equal(rtl_rd(r, 0x68, 2), 0);
    assert_int_equal(rtl_rd(r, 0x74, 2), 0x0b40); /* changed, until that is acknowledged */
    rtl_wr(r, ISR, 2, PUN);
    assert_int_equal(rtl_rd(r, 0x74, 2), 0x0340);
    net_fake_link(r->net, true);
    assert_int_equal(rtl_rd(r, 0x74, 2), 0x0f48);
    assert_int_equal(rtl_rd(r, ISR, 2), PUN);
    assert_int_equal(rtl_rd(r, BMSR, 2), 0x782d);
    rtl_wr(r, BMCR, 2, 0x2100);
    assert_int_equal(rtl_rd(r, BMCR, 2), 0x2100);
    rtl_wr(r, BMCR, 2, 0x8000);
    assert_int_equal(rtl_rd(r, BMCR, 2), 0x1000);
    rtl_end(r);
}

/* ---- C mode ---- */

static void test_c_send(void **state)
{
    struct rtl_rig *r = rtl_begin();

    (void)state;
    rtl_rx_on(r, 0);
    for (unsigned i = 0; i < 6; i++) {
        unsigned n = i % 4;

        rtl_fill(r->h->plat.ram + BUF + n * 2048, 1514, BCAST, i);
        rtl_wr(r, TSAD0 + 4 * n, 4, BUF + n * 2048);
        rtl_wr(r, TSD0 + 4 * n, 4, (60 + i) | 8 << 16);
        assert_int_equal(r->net->sent_count, i); /* the doorbell only rings */
        harness_step(r->h, 0);
        assert_int_equal(r->net->sent_count, i + 1);
        assert_int_equal(net_fake_sent(r->net, i)->len, 60 + i);
        assert_memory_equal(net_fake_sent(r->net, i)->data, r->h->plat.ram + BUF + n * 2048,
                            60 + i);
        assert_int_equal(rtl_rd(r, TSD0 + 4 * n, 4), (60 + i) | 8 << 16 | 0xa000); /* OWN, TOK */
        assert_int_equal(rtl_rd(r, ISR, 2), TOK);
        assert_true(rtl_irq(r));
        rtl_wr(r, ISR, 2, TOK);
        assert_false(rtl_irq(r));
    }
    assert_int_equal(rtl_rd(r, TSAD, 2), 0xf00f);
    /* out of turn: waits for the ones before it */
    rtl_wr(r, TSD0 + 12, 4, 60);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 6);
    assert_int_equal(rtl_rd(r, TSAD, 2), 0x7007);
    rtl_wr(r, TSD0 + 8, 4, 60);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 8);
    /* all four at once: one interrupt */
    rtl_wr(r, ISR, 2, 0xffff);
    for (unsigned i = 0; i < 4; i++) {
        rtl_wr(r, TSD0 + 4 * i, 4, 64);
    }
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 12);
    rtl_end(r);
}

static void test_c_send_waits(void **state)
{
    struct rtl_rig *r = rtl_begin();

    (void)state;
    rtl_rx_on(r, 0);
    r->net->room = 1;
    for (unsigned i = 0; i < 4; i++) {
        rtl_wr(r, TSAD0 + 4 * i, 4, BUF);
        rtl_wr(r, TSD0 + 4 * i, 4, 64);
    }
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 1);
    assert_int_equal(rtl_rd(r, TSAD, 2), 0x1001);
    assert_true(harness_save_load_save(r->h));
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 1);
    net_fake_room(r->net, UINT_MAX);
    harness_step(r->h, 0);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 4);
    assert_int_equal(rtl_rd(r, TSAD, 2), 0xf00f);
    /* without bus mastering nothing moves until it is on again */
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 3);
    rtl_wr(r, TSD0, 4, 64);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 4);
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 7);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 5);
    rtl_end(r);
}

static void test_c_receive(void **state)
{
    struct rtl_rig *r = rtl_begin();
    uint8_t frame[1514];
    uint32_t fcs, pos = 0;

    (void)state;
    rtl_fill(frame, sizeof(frame), OURS, 1);
    assert_true(net_fake_receive(r->net, frame, 60, NULL)); /* receiver off: gone */
    rtl_rx_on(r, 0x0a);                                     /* APM, AB; 8 KiB */
    assert_int_equal(rtl_rd(r, CR, 1), TE | RE | 1);
    for (size_t len = 20; len < sizeof(frame); len += 409) {
        size_t on_wire = len < 60 ? 60 : len;
        uint8_t padded[1514] = {0};

        rtl_fill(frame, len, len == 20 ? BCAST : OURS, 1);
        memcpy(padded, frame, len);
        assert_true(net_fake_receive(r->net, frame, len, NULL));
        assert_int_equal(rtl_mem32(r, RING + pos), (len == 20 ? 0x2001 : 0x4001) | (on_wire + 4)
                                                                                       << 16);
        assert_memory_equal(r->h->plat.ram + RING + pos + 4, padded, on_wire);
        memcpy(&fcs, r->h->plat.ram + RING + pos + 4 + on_wire, 4);
        assert_int_equal(fcs, rtl_slow_crc(padded, on_wire));
        pos = (uint32_t)((pos + 4 + on_wire + 4 + 3) & ~3u);
        assert_int_equal(rtl_rd(r, CBR, 2), pos);
        assert_int_equal(rtl_rd(r, CR, 1), TE | RE);
        assert_int_equal(rtl_rd(r, ISR, 2), ROK);
        assert_true(rtl_irq(r));
        rtl_wr(r, ISR, 2, ROK);
        rtl_wr(r, CAPR, 2, pos - 16);
        assert_int_equal(rtl_rd(r, CR, 1), TE | RE | 1);
    }
    rtl_end(r);
}

/* A full ring makes the host wait; no frame is lost, and none is seen twice. */
static void c_ring(uint32_t rcr)
{
    struct rtl_rig *r = rtl_begin();
    uint32_t size = 8192u << (rcr >> 11 & 3), pos = 0;
    unsigned got = 0, sent = 0;
    uint8_t frame[1000];

    rtl_rx_on(r, rcr | 0x0a);
    while (got < 300) {
        while (sent < got + 40 && r->net->queue_count < NET_FAKE_QUEUE) {
            rtl_fill(frame, sizeof(frame), OURS, sent);
            frame[14] = (uint8_t)sent, frame[15] = (uint8_t)(sent >> 8);
            net_fake_receive(r->net, frame, 700 + sent % 300, NULL);
            sent++;
        }
        assert_int_equal(rtl_rd(r, ISR, 2) & RDU, 0);
        assert_int_equal(rtl_rd(r, CR, 1) & 1, 0);
        for (unsigned burst = 0; burst < 3 && (rtl_rd(r, CR, 1) & 1) == 0; burst++) {
            uint32_t len = 700 + got % 300;
            uint8_t flat[1100];

            assert_int_equal(rtl_mem32(r, RING + pos), 0x4001 | (len + 4) << 16);
            for (uint32_t i = 0; i < len; i++) {
                uint32_t at = pos + 4 + i;

                flat[i] = r->h->plat.ram[RING + ((rcr & 0x80) != 0 ? at : at % size)];
            }
            rtl_fill(frame, len, OURS, got);
            frame[14] = (uint8_t)got, frame[15] = (uint8_t)(got >> 8);
            assert_memory_equal(flat, frame, len);
            pos = ((pos + len + 8 + 3) & ~3u) % size;
            rtl_wr(r, CAPR, 2, pos - 16);
            got++;
        }
        rtl_wr(r, ISR, 2, 0xffff);
        harness_step(r->h, 0);
    }
    assert_true(harness_save_load_save(r->h));
    rtl_end(r);
}

static void test_c_ring(void **state)
{
    (void)state;
    c_ring(0);
    c_ring(0x80);            /* WRAP: frames run over the end */
    c_ring(1u << 11 | 0x80); /* 16 KiB */
}

/* 8139too goes to sleep with frames in the ring and everything acknowledged; the host waits for
 * room. */
static void test_c_full_ring_says_so(void **state)
{
    struct rtl_rig *r = rtl_begin();
    uint8_t frame[1000];

    (void)state;
    rtl_rx_on(r, 0x0a);
    rtl_fill(frame, sizeof(frame), OURS, 1);
    for (unsigned i = 0; i < 9; i++) {
        net_fake_receive(r->net, frame, sizeof(frame), NULL);
    }
    assert_false(r->net->reading);
    rtl_wr(r, ISR, 2, 0xffff);
    assert_false(rtl_irq(r));
    harness_step(r->h, 0);
    assert_int_equal(rtl_rd(r, ISR, 2), ROK);
    assert_true(rtl_irq(r));
    harness_step(r->h, 0);
    rtl_wr(r, CAPR, 2, 1008 - 16);
    rtl_wr(r, ISR, 2, 0xffff);
    harness_step(r->h, 0);
    assert_int_equal(rtl_rd(r, ISR, 2), ROK);
    assert_int_equal(rtl_rd(r, CBR, 2), (9 * 1008) % 8192);
    assert_true(r->net->reading);
    rtl_end(r);
}

/* 8139too acknowledges each frame and stops after 64: it hears of the rest when it listens. */
static void test_c_frames_left_behind(void **state)
{
    struct rtl_rig *r = rtl_begin();
    uint8_t frame[100];

    (void)state;
    rtl_rx_on(r, 0x0a);
    rtl_fill(frame, sizeof(frame), OURS, 1);
    for (unsigned i = 0; i < 3; i++) {
        net_fake_receive(r->net, frame, sizeof(frame), NULL);
    }
    rtl_wr(r, IMR, 2, 0);
    rtl_wr(r, CAPR, 2, 108 - 16);
    rtl_wr(r, ISR, 2, ROK);
    assert_int_equal(rtl_rd(r, ISR, 2), 0);
    rtl_wr(r, IMR, 2, TOK);
    assert_int_equal(rtl_rd(r, ISR, 2), 0);
    rtl_wr(r, IMR, 2, ROK);
    assert_int_equal(rtl_rd(r, ISR, 2), ROK);
    assert_true(rtl_irq(r));
    rtl_wr(r, ISR, 2, ROK);
    rtl_wr(r, IMR, 2, ROK); /* it did listen */
    assert_int_equal(rtl_rd(r, ISR, 2), 0);
    rtl_wr(r, CAPR, 2, 3 * 108 - 16);
    rtl_wr(r, IMR, 2, 0);
    rtl_wr(r, IMR, 2, ROK); /* nothing is left */
    assert_int_equal(rtl_rd(r, ISR, 2), 0);
    rtl_end(r);
}

static void test_filter(void **state)
{
    static const char mcast[] = "\x01\x00\x5e\x00\x00\x01";
    const unsigned bit = 31; /* of 01:00:5e:00:00:01, upper six bits of its CRC; checked below */
    static const char other[] = "\x00\x16\x3e\x12\x34\x57";
    struct {
        uint32_t rcr;
        bool hash;
        unsigned ours, bcast, mcast, other; /* status expected, 0: dropped */
    } table[] = {
        {0x00, true, 0, 0, 0, 0},
        {0x02, true, 0x4001, 0, 0, 0},
        {0x08, true, 0, 0x2001, 0, 0},
        {0x04, true, 0, 0, 0x8001, 0},
        {0x04, false, 0, 0, 0, 0},
        {0x01, false, 0x4001, 0x2001, 0x8001, 0x0001},
        {0x0e, true, 0x4001, 0x2001, 0x8001, 0},
    };

    (void)state;
    assert_int_equal(net_crc_msb((const uint8_t *)mcast, 6) >> 26, bit);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const char *dst[] = {OURS, BCAST, mcast, other};
        const unsigned want[] = {table[i].ours, table[i].bcast, table[i].mcast, table[i].other};

        for (unsigned k = 0; k < 4; k++) {
            struct rtl_rig *r = rtl_begin();
            uint8_t frame[60];

            rtl_wr(r, MAR0 + 4 * (bit / 32), 4, table[i].hash ? 1u << bit % 32 : ~(1u << bit % 32));
            rtl_rx_on(r, table[i].rcr);
            rtl_fill(frame, sizeof(frame), dst[k], 1);
            assert_true(net_fake_receive(r->net, frame, sizeof(frame), NULL));
            assert_int_equal(rtl_mem32(r, RING) & 0xffff, want[k]);
            assert_int_equal(rtl_rd(r, ISR, 2), want[k] != 0 ? ROK : 0);
            rtl_end(r);
        }
    }
}

static void test_c_loopback(void **state)
{
    struct rtl_rig *r = rtl_begin();

    (void)state;
    rtl_rx_on(r, 0x0a);
    rtl_wr(r, TCR, 4, 3u << 17);
    rtl_fill(r->h->plat.ram + BUF, 1000, OURS, 9);
    rtl_wr(r, TSAD0, 4, BUF);
    rtl_wr(r, TSD0, 4, 1000);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 0);
    assert_int_equal(rtl_rd(r, ISR, 2), ROK | TOK);
    assert_int_equal(rtl_mem32(r, RING), 0x4001 | 1004 << 16);
    assert_memory_equal(r->h->plat.ram + RING + 4, r->h->plat.ram + BUF, 1000);
    /* the network does not come through */
    assert_true(net_fake_receive(r->net, r->h->plat.ram + BUF, 1000, NULL));
    assert_int_equal(rtl_rd(r, CBR, 2), 1008);
    /* a full ring loses looped frames, and counts them */
    for (unsigned i = 1; i < 9; i++) {
        rtl_wr(r, TSAD0 + 4 * (i % 4), 4, BUF);
        rtl_wr(r, TSD0 + 4 * (i % 4), 4, 1000);
        harness_step(r->h, 0);
    }
    assert_int_equal(rtl_rd(r, MPC, 4), 1);
    assert_int_equal(rtl_rd(r, ISR, 2), ROK | TOK | RDU);
    rtl_wr(r, MPC, 4, 7);
    assert_int_equal(rtl_rd(r, MPC, 4), 0);
    rtl_end(r);
}

static void test_unplugged(void **state)
{
    struct rtl_rig *r = rtl_begin();
    uint8_t frame[100];

    (void)state;
    rtl_cplus_on(r, 0);
    rtl_fill(frame, sizeof(frame), OURS, 1);
    net_fake_receive(r->net, frame, sizeof(frame), NULL); /* waits for a descriptor */
    rtl_desc(r, TX_RING, 0, OWN | FS | LS | 60, 0, BUF);
    rtl_wr(r, TPPOLL, 1, 0x40); /* under way */
    pci_unplug(pci_find(r->h->board.pci, DEVFN));
    net_shut(r->net->net);
    harness_step(r->h, 1000000000);
    assert_int_equal(r->net->sent_count, 0);
    assert_false(rtl_irq(r));
    assert_int_equal(harness_pci_read(r->h, DEVFN, 0, 4), 0xffffffff);
    board_reset(&r->h->board);
    harness_step(r->h, 1000000000);
    assert_true(harness_save_load_save(r->h));
    rtl_end(r);
}

static void test_state(void **state)
{
    struct rtl_rig *a = rtl_begin(), *b = rtl_begin();
    uint8_t frame[300];

    (void)state;
    rtl_cplus_on(a, 0x60);
    for (unsigned i = 0; i < 4; i++) {
        rtl_desc(a, RX_RING, i, OWN | (i == 3 ? EOR : 0) | 1536, 0, BUF + i * 2048);
    }
    rtl_fill(frame, sizeof(frame), OURS, 1);
    for (unsigned i = 0; i < 3; i++) {
        net_fake_receive(a->net, frame, sizeof(frame), NULL);
    }
    rtl_wr(a, EECR, 1, 0xc0);
    rtl_wr(a, CONFIG1, 1, 0x40);
    a->net->room = 0;
    rtl_desc(a, TX_RING, 0, OWN | FS | LS | 60, 0, BUF);
    rtl_wr(a, TPPOLL, 1, 0x40);
    harness_step(a->h, 0);
    harness_step(b->h, 123456);
    memcpy(b->h->plat.ram, a->h->plat.ram, HARNESS_RAM_SIZE);
    assert_true(harness_transfer(a->h, b->h));
    assert_true(rtl_irq(b));
    for (unsigned reg = 0; reg < 256; reg++) {
        assert_int_equal(rtl_rd(a, reg, 1), rtl_rd(b, reg, 1));
    }
    harness_step(b->h, 0);
    assert_int_equal(b->net->sent_count, 1); /* what waited goes on */
    net_fake_receive(b->net, frame, sizeof(frame), NULL);
    assert_int_equal(rtl_mem32(b, RX_RING + 48), EOR | FS | LS | 1u << 25 | 304);
    rtl_end(a);
    rtl_end(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reset_values),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_software_reset),
        cmocka_unit_test(test_interrupts),
        cmocka_unit_test(test_timer),
        cmocka_unit_test(test_eeprom),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_c_send),
        cmocka_unit_test(test_c_send_waits),
        cmocka_unit_test(test_c_receive),
        cmocka_unit_test(test_c_ring),
        cmocka_unit_test(test_c_full_ring_says_so),
        cmocka_unit_test(test_c_frames_left_behind),
        cmocka_unit_test(test_filter),
        cmocka_unit_test(test_c_loopback),
        cmocka_unit_test(test_unplugged),
        cmocka_unit_test(test_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
