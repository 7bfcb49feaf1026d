/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hw/rtl8139.h"
#include "tests/unit/harness.h"
#include "tests/unit/net_fake.h"

enum {
    SLOT = 4,
    DEVFN = SLOT << 3,
    IO = 0xc000,
    RING = 0x10000,
    TX_RING = 0x20000,
    TXH_RING = 0x21000,
    RX_RING = 0x22000,
    BUF = 0x100000
};
enum {
    IDR0 = 0x00,
    MAR0 = 0x08,
    TSD0 = 0x10,
    TSAD0 = 0x20,
    RBSTART = 0x30,
    CR = 0x37,
    CAPR = 0x38,
    CBR = 0x3a,
    IMR = 0x3c,
    ISR = 0x3e,
    TCR = 0x40,
    RCR = 0x44,
    TCTR = 0x48,
    MPC = 0x4c,
    EECR = 0x50,
    CONFIG1 = 0x52,
    TIMERINT = 0x54,
    MSR = 0x58,
    TSAD = 0x60,
    BMCR = 0x62,
    BMSR = 0x64,
    TPPOLL = 0xd9,
    CPCR = 0xe0,
    RDSAR = 0xe4
};
enum { TE = 4, RE = 8, RST = 0x10 };
enum { ROK = 1, TOK = 4, RDU = 0x10, PUN = 0x20, TDU = 0x80, SWINT = 0x100, TIMEOUT = 0x4000 };
#define OWN 0x80000000u
#define EOR 0x40000000u
#define FS  0x20000000u
#define LS  0x10000000u

struct rig {
    struct harness *h;
    struct net_fake *net;
};

static void wr(struct rig *r, unsigned reg, unsigned size, uint32_t v)
{
    harness_out(r->h, (uint16_t)(IO + reg), size, v);
}

static uint32_t rd(struct rig *r, unsigned reg, unsigned size)
{
    return harness_in(r->h, (uint16_t)(IO + reg), size);
}

static uint32_t mem32(struct rig *r, uint32_t at)
{
    uint32_t v;

    memcpy(&v, r->h->plat.ram + at, 4);
    return v;
}

static void set32(struct rig *r, uint32_t at, uint32_t v)
{
    memcpy(r->h->plat.ram + at, &v, 4);
}

static bool irq(struct rig *r)
{
    return r->h->plat.intx[SLOT][0];
}

static struct rig *begin_with(bool offloads)
{
    const struct rtl8139_config cfg = {.devfn = DEVFN, .mac = {0x00, 0x16, 0x3e, 0x12, 0x34, 0x56}};
    struct rig *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    r->h = harness_create();
    r->net = net_fake_add(&r->h->board, offloads);
    assert_int_equal(rtl8139_create(&r->h->board, &cfg, r->net->net), 0);
    harness_pci_write(r->h, DEVFN, PCI_BAR0, 4, IO);
    harness_pci_write(r->h, DEVFN, PCI_BAR0 + 4, 4, 0xf0000000);
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 7);
    return r;
}

static struct rig *begin(void)
{
    return begin_with(true);
}

static void end(struct rig *r)
{
    assert_int_equal(r->h->plat.holds, 0);
    harness_destroy(r->h);
    free(r);
}

static void fill(uint8_t *frame, size_t len, const char *dst, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        frame[i] = (uint8_t)(i * 13 + seed);
    }
    memcpy(frame, dst, 6);
    frame[12] = 0x88, frame[13] = 0xb5;
}

#define OURS  "\x00\x16\x3e\x12\x34\x56"
#define BCAST "\xff\xff\xff\xff\xff\xff"

/* TCP over IPv4, 54 bytes of headers; sums: both right. */
static void fill_tcp(uint8_t *frame, size_t len, bool sums)
{
    struct net_headers h;
    uint16_t sum;

    fill(frame, len, OURS, 3);
    frame[12] = 8, frame[13] = 0;
    memset(frame + 14, 0, 40);
    frame[14] = 0x45;
    frame[16] = (uint8_t)((len - 14) >> 8), frame[17] = (uint8_t)(len - 14);
    frame[22] = 64, frame[23] = 6;
    memcpy(frame + 26, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8);
    memcpy(frame + 34, "\x10\x00\x20\x00\x00\x00\x00\x01", 8);
    frame[46] = 0x50, frame[47] = 0x18;
    if (sums) {
        struct net_offload off = {.csum_needed = true, .csum_start = 34, .csum_offset = 16};

        sum = net_csum_fold(net_csum_add(0, frame + 14, 20));
        frame[24] = (uint8_t)(sum >> 8), frame[25] = (uint8_t)sum;
        assert_true(net_parse(frame, len, &h));
        assert_true(net_pseudo_header(frame, &h, len));
        net_csum_complete(frame, len, &off);
    }
}

static bool sums_right(const uint8_t *frame, size_t len)
{
    struct net_headers h;

    return net_parse(frame, len, &h) &&
           net_csum_fold(net_csum_add(0, frame + h.l3, (size_t)(h.l4 - h.l3))) == 0 &&
           (h.tcp || h.udp) &&
           net_csum_ok(frame, &h, (size_t)(h.l3 + (frame[h.l3 + 2] << 8 | frame[h.l3 + 3])));
}

static uint32_t slow_crc(const uint8_t *p, size_t len)
{
    uint32_t c = 0xffffffff;

    while (len-- > 0) {
        c ^= *p++;
        for (int i = 0; i < 8; i++) {
            c = c >> 1 ^ ((c & 1) != 0 ? 0xedb88320 : 0);
        }
    }
    return ~c;
}

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
        {0x68, 2, 0x05e1},     {0x6a, 2, 1},      {0x74, 2, 0x0340},
        {0xd8, 1, 0},          {TPPOLL, 1, 0},    {CPCR, 2, 0},
        {RDSAR, 4, 0},         {RDSAR + 4, 4, 0}, {0xec, 1, 0},
        {0x90, 4, 0},
    };
    struct rig *r = begin();

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (rd(r, table[i].reg, table[i].size) != table[i].value) {
            fail_msg("register %02x is %#x, not %#x", table[i].reg,
                     rd(r, table[i].reg, table[i].size), table[i].value);
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
    end(r);
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
        {0x74, 2, 0x0340, 0x0340, false},
        {0xd8, 1, 0x7f, 0, false},
        {CPCR, 2, 0x007b, 0, false},
        {RDSAR, 4, 0xffffffff, 0, false},
        {0xec, 1, 0xff, 0, false},
    };
    struct rig *r = begin();

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        unsigned reg = table[i].reg, size = table[i].size;
        uint32_t before = rd(r, reg, size);

        wr(r, reg, size, 0xffffffff);
        if (table[i].unlocked) {
            assert_int_equal(rd(r, reg, size), before);
            wr(r, EECR, 1, 0xc0);
            wr(r, reg, size, 0xffffffff);
        }
        if (rd(r, reg, size) != table[i].ones) {
            fail_msg("register %02x after ones: %#x, not %#x", reg, rd(r, reg, size),
                     table[i].ones);
        }
        wr(r, reg, size, 0);
        assert_int_equal(rd(r, reg, size), table[i].zeros);
        wr(r, EECR, 1, 0);
    }
    /* bytes and words of a register, and accesses across registers */
    wr(r, RBSTART + 1, 1, 0xab);
    wr(r, RBSTART + 2, 2, 0x1234);
    assert_int_equal(rd(r, RBSTART, 4), 0x1234ab00);
    assert_int_equal(rd(r, RBSTART + 2, 1), 0x34);
    wr(r, IMR, 4, 0x0000e1ff);
    assert_int_equal(rd(r, IMR, 4), 0x0000e1ff);
    wr(r, CAPR, 2, 0xfff0);
    assert_int_equal(rd(r, 0x34, 4), 0x01000000); /* ERBCR, ERSR, CR with its ring empty */
    /* TCR only while transmitting is on */
    wr(r, TCR, 4, 0xffffffff);
    assert_int_equal(rd(r, TCR, 4), 0x74800000);
    wr(r, CR, 1, TE);
    wr(r, TCR, 4, 0xffffffff);
    assert_int_equal(rd(r, TCR, 4), 0x778f07f0);
    end(r);
}

static void test_software_reset(void **state)
{
    struct rig *r = begin();

    (void)state;
    wr(r, IDR0, 4, 0x44332211);
    wr(r, MAR0, 4, 5);
    wr(r, IMR, 2, 0xffff);
    wr(r, TPPOLL, 1, 1);
    assert_true(irq(r));
    wr(r, CR, 1, TE | RE);
    wr(r, RCR, 4, 0xf);
    wr(r, TSD0, 4, 100);
    wr(r, CR, 1, RST);
    harness_step(r->h, 0);
    assert_false(irq(r));
    assert_int_equal(rd(r, CR, 1), 1);
    assert_int_equal(rd(r, IMR, 4), 0);
    assert_int_equal(rd(r, RCR, 4), 0);
    assert_int_equal(rd(r, TSD0, 4), 0x2000);
    assert_int_equal(r->net->sent_count, 0);
    assert_int_equal(rd(r, IDR0, 4), 0x44332211);
    assert_int_equal(rd(r, MAR0, 4), 5);
    board_reset(&r->h->board);
    harness_pci_write(r->h, DEVFN, PCI_BAR0, 4, IO);
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 7);
    assert_int_equal(rd(r, IDR0, 4), 0x123e1600);
    assert_int_equal(rd(r, MAR0, 4), 0);
    end(r);
}

static void test_interrupts(void **state)
{
    struct rig *r = begin();

    (void)state;
    wr(r, TPPOLL, 1, 1); /* FSWInt */
    assert_int_equal(rd(r, ISR, 2), SWINT);
    assert_false(irq(r));
    wr(r, IMR, 2, SWINT);
    assert_true(irq(r));
    wr(r, ISR, 2, (uint16_t)~SWINT);
    assert_true(irq(r));
    assert_int_equal(rd(r, ISR, 2), SWINT);
    wr(r, ISR + 1, 1, 1); /* its upper byte alone */
    assert_false(irq(r));
    wr(r, TPPOLL, 1, 1);
    assert_true(irq(r));
    wr(r, IMR, 2, 0);
    assert_false(irq(r));
    end(r);
}

static void test_timer(void **state)
{
    struct rig *r = begin();

    (void)state;
    harness_step(r->h, 30000);
    wr(r, TCTR, 4, 1);
    assert_int_equal(rd(r, TCTR, 4), 0);
    harness_step(r->h, 3000);
    assert_int_equal(rd(r, TCTR, 4), 100);
    wr(r, TIMERINT, 4, 200);
    harness_step(r->h, 2970);
    assert_int_equal(rd(r, ISR, 2), 0);
    harness_step(r->h, 60);
    assert_int_equal(rd(r, ISR, 2), TIMEOUT);
    wr(r, ISR, 2, TIMEOUT);
    harness_step(r->h, 100ull * 1000000000);
    assert_int_equal(rd(r, ISR, 2), 0);
    harness_step(r->h, 29ull * 1000000000); /* 2^32 ticks are 128.8 s */
    assert_int_equal(rd(r, ISR, 2), TIMEOUT);
    wr(r, ISR, 2, TIMEOUT);
    wr(r, TIMERINT, 4, 0);
    harness_step(r->h, 200ull * 1000000000);
    assert_int_equal(rd(r, ISR, 2), 0);
    wr(r, TIMERINT, 4, 50);
    wr(r, TCTR, 4, 0);
    assert_true(harness_save_load_save(r->h));
    harness_step(r->h, 50 * 30);
    assert_int_equal(rd(r, ISR, 2), TIMEOUT);
    end(r);
}

/* ---- EEPROM ---- */

static void ee_clock(struct rig *r, unsigned di)
{
    wr(r, EECR, 1, 0x88 | di << 1);
    wr(r, EECR, 1, 0x8c | di << 1);
}

static void ee_command(struct rig *r, unsigned bits, unsigned n)
{
    wr(r, EECR, 1, 0x80);
    wr(r, EECR, 1, 0x88);
    while (n-- > 0) {
        ee_clock(r, bits >> n & 1);
    }
}

static uint16_t ee_data(struct rig *r)
{
    unsigned v = 0;

    for (int i = 0; i < 16; i++) {
        ee_clock(r, 0);
        v = v << 1 | (rd(r, EECR, 1) & 1);
    }
    return (uint16_t)v;
}

static uint16_t ee_read(struct rig *r, unsigned at)
{
    ee_command(r, 6u << 6 | at, 11); /* two leading zeros, as drivers send them */
    assert_int_equal(rd(r, EECR, 1) & 1, 0);
    return ee_data(r);
}

static void test_eeprom(void **state)
{
    struct rig *r = begin();

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
    wr(r, EECR, 1, 0x80);
    wr(r, EECR, 1, 0x88);
    assert_int_equal(rd(r, EECR, 1) & 1, 1); /* ready */
    assert_int_equal(ee_read(r, 7), 0xbeef);
    ee_command(r, 7u << 6 | 8, 9); /* ERASE */
    assert_int_equal(ee_read(r, 8), 0xffff);
    assert_true(harness_save_load_save(r->h));
    ee_command(r, 4u << 6 | 0x00, 9); /* EWDS */
    ee_command(r, 5u << 22 | 9u << 16 | 0x1234, 25);
    assert_int_equal(ee_read(r, 9), 0x5634);
    wr(r, EECR, 1, 0x40); /* autoload */
    assert_int_equal(rd(r, EECR, 1) & 0xc0, 0);
    assert_int_equal(rd(r, IDR0, 4), 0xffffbeef);
    board_reset(&r->h->board); /* not volatile */
    harness_pci_write(r->h, DEVFN, PCI_BAR0, 4, IO);
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 7);
    assert_int_equal(rd(r, IDR0, 4), 0xffffbeef);
    end(r);
}

static void test_link(void **state)
{
    struct rig *r = begin();

    (void)state;
    net_fake_link(r->net, false);
    assert_int_equal(rd(r, ISR, 2), PUN);
    assert_int_equal(rd(r, MSR, 1) & 4, 4);
    assert_int_equal(rd(r, BMSR, 2), 0x7809);
    assert_int_equal(rd(r, 0x68, 2), 0);
    wr(r, ISR, 2, PUN);
    net_fake_link(r->net, true);
    assert_int_equal(rd(r, ISR, 2), PUN);
    assert_int_equal(rd(r, BMSR, 2), 0x782d);
    wr(r, BMCR, 2, 0x2100);
    assert_int_equal(rd(r, BMCR, 2), 0x2100);
    wr(r, BMCR, 2, 0x8000);
    assert_int_equal(rd(r, BMCR, 2), 0x1000);
    end(r);
}

/* ---- C mode ---- */

static void rx_on(struct rig *r, uint32_t rcr)
{
    wr(r, CR, 1, TE | RE);
    wr(r, RBSTART, 4, RING);
    wr(r, RCR, 4, rcr);
    wr(r, IMR, 2, 0xffff);
}

static void test_c_send(void **state)
{
    struct rig *r = begin();

    (void)state;
    rx_on(r, 0);
    for (unsigned i = 0; i < 6; i++) {
        unsigned n = i % 4;

        fill(r->h->plat.ram + BUF + n * 2048, 1514, BCAST, i);
        wr(r, TSAD0 + 4 * n, 4, BUF + n * 2048);
        wr(r, TSD0 + 4 * n, 4, (60 + i) | 8 << 16);
        assert_int_equal(r->net->sent_count, i); /* the doorbell only rings */
        harness_step(r->h, 0);
        assert_int_equal(r->net->sent_count, i + 1);
        assert_int_equal(net_fake_sent(r->net, i)->len, 60 + i);
        assert_memory_equal(net_fake_sent(r->net, i)->data, r->h->plat.ram + BUF + n * 2048,
                            60 + i);
        assert_int_equal(rd(r, TSD0 + 4 * n, 4), (60 + i) | 8 << 16 | 0xa000); /* OWN, TOK */
        assert_int_equal(rd(r, ISR, 2), TOK);
        assert_true(irq(r));
        wr(r, ISR, 2, TOK);
        assert_false(irq(r));
    }
    assert_int_equal(rd(r, TSAD, 2), 0xf00f);
    /* out of turn: waits for the ones before it */
    wr(r, TSD0 + 12, 4, 60);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 6);
    assert_int_equal(rd(r, TSAD, 2), 0x7007);
    wr(r, TSD0 + 8, 4, 60);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 8);
    /* all four at once: one interrupt */
    wr(r, ISR, 2, 0xffff);
    for (unsigned i = 0; i < 4; i++) {
        wr(r, TSD0 + 4 * i, 4, 64);
    }
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 12);
    end(r);
}

static void test_c_send_waits(void **state)
{
    struct rig *r = begin();

    (void)state;
    rx_on(r, 0);
    r->net->room = 1;
    for (unsigned i = 0; i < 4; i++) {
        wr(r, TSAD0 + 4 * i, 4, BUF);
        wr(r, TSD0 + 4 * i, 4, 64);
    }
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 1);
    assert_int_equal(rd(r, TSAD, 2), 0x1001);
    assert_true(harness_save_load_save(r->h));
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 1);
    net_fake_room(r->net, UINT_MAX);
    harness_step(r->h, 0);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 4);
    assert_int_equal(rd(r, TSAD, 2), 0xf00f);
    /* without bus mastering nothing moves until it is on again */
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 3);
    wr(r, TSD0, 4, 64);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 4);
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 7);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 5);
    end(r);
}

static void test_c_receive(void **state)
{
    struct rig *r = begin();
    uint8_t frame[1514];
    uint32_t fcs, pos = 0;

    (void)state;
    fill(frame, sizeof(frame), OURS, 1);
    assert_true(net_fake_receive(r->net, frame, 60, NULL)); /* receiver off: gone */
    rx_on(r, 0x0a);                                         /* APM, AB; 8 KiB */
    assert_int_equal(rd(r, CR, 1), TE | RE | 1);
    for (size_t len = 20; len < sizeof(frame); len += 409) {
        size_t on_wire = len < 60 ? 60 : len;
        uint8_t padded[1514] = {0};

        fill(frame, len, len == 20 ? BCAST : OURS, 1);
        memcpy(padded, frame, len);
        assert_true(net_fake_receive(r->net, frame, len, NULL));
        assert_int_equal(mem32(r, RING + pos), (len == 20 ? 0x2001 : 0x4001) | (on_wire + 4) << 16);
        assert_memory_equal(r->h->plat.ram + RING + pos + 4, padded, on_wire);
        memcpy(&fcs, r->h->plat.ram + RING + pos + 4 + on_wire, 4);
        assert_int_equal(fcs, slow_crc(padded, on_wire));
        pos = (uint32_t)((pos + 4 + on_wire + 4 + 3) & ~3u);
        assert_int_equal(rd(r, CBR, 2), pos);
        assert_int_equal(rd(r, CR, 1), TE | RE);
        assert_int_equal(rd(r, ISR, 2), ROK);
        assert_true(irq(r));
        wr(r, ISR, 2, ROK);
        wr(r, CAPR, 2, pos - 16);
        assert_int_equal(rd(r, CR, 1), TE | RE | 1);
    }
    end(r);
}

/* A full ring makes the host wait; no frame is lost, and none is seen twice. */
static void c_ring(uint32_t rcr)
{
    struct rig *r = begin();
    uint32_t size = 8192u << (rcr >> 11 & 3), pos = 0;
    unsigned got = 0, sent = 0;
    uint8_t frame[1000];

    rx_on(r, rcr | 0x0a);
    while (got < 300) {
        while (sent < got + 40 && r->net->queue_count < NET_FAKE_QUEUE) {
            fill(frame, sizeof(frame), OURS, sent);
            frame[14] = (uint8_t)sent, frame[15] = (uint8_t)(sent >> 8);
            net_fake_receive(r->net, frame, 700 + sent % 300, NULL);
            sent++;
        }
        assert_int_equal(rd(r, ISR, 2) & RDU, 0);
        assert_int_equal(rd(r, CR, 1) & 1, 0);
        for (unsigned burst = 0; burst < 3 && (rd(r, CR, 1) & 1) == 0; burst++) {
            uint32_t len = 700 + got % 300;
            uint8_t flat[1100];

            assert_int_equal(mem32(r, RING + pos), 0x4001 | (len + 4) << 16);
            for (uint32_t i = 0; i < len; i++) {
                uint32_t at = pos + 4 + i;

                flat[i] = r->h->plat.ram[RING + ((rcr & 0x80) != 0 ? at : at % size)];
            }
            fill(frame, len, OURS, got);
            frame[14] = (uint8_t)got, frame[15] = (uint8_t)(got >> 8);
            assert_memory_equal(flat, frame, len);
            pos = ((pos + len + 8 + 3) & ~3u) % size;
            wr(r, CAPR, 2, pos - 16);
            got++;
        }
        wr(r, ISR, 2, 0xffff);
        harness_step(r->h, 0);
    }
    assert_true(harness_save_load_save(r->h));
    end(r);
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
    struct rig *r = begin();
    uint8_t frame[1000];

    (void)state;
    rx_on(r, 0x0a);
    fill(frame, sizeof(frame), OURS, 1);
    for (unsigned i = 0; i < 9; i++) {
        net_fake_receive(r->net, frame, sizeof(frame), NULL);
    }
    assert_false(r->net->reading);
    wr(r, ISR, 2, 0xffff);
    assert_false(irq(r));
    harness_step(r->h, 0);
    assert_int_equal(rd(r, ISR, 2), ROK);
    assert_true(irq(r));
    harness_step(r->h, 0);
    wr(r, CAPR, 2, 1008 - 16);
    wr(r, ISR, 2, 0xffff);
    harness_step(r->h, 0);
    assert_int_equal(rd(r, ISR, 2), ROK);
    assert_int_equal(rd(r, CBR, 2), (9 * 1008) % 8192);
    assert_true(r->net->reading);
    end(r);
}

/* 8139too acknowledges each frame and stops after 64: it hears of the rest when it listens again. */
static void test_c_frames_left_behind(void **state)
{
    struct rig *r = begin();
    uint8_t frame[100];

    (void)state;
    rx_on(r, 0x0a);
    fill(frame, sizeof(frame), OURS, 1);
    for (unsigned i = 0; i < 3; i++) {
        net_fake_receive(r->net, frame, sizeof(frame), NULL);
    }
    wr(r, IMR, 2, 0);
    wr(r, CAPR, 2, 108 - 16);
    wr(r, ISR, 2, ROK);
    assert_int_equal(rd(r, ISR, 2), 0);
    wr(r, IMR, 2, TOK);
    assert_int_equal(rd(r, ISR, 2), 0);
    wr(r, IMR, 2, ROK);
    assert_int_equal(rd(r, ISR, 2), ROK);
    assert_true(irq(r));
    wr(r, ISR, 2, ROK);
    wr(r, IMR, 2, ROK); /* it did listen */
    assert_int_equal(rd(r, ISR, 2), 0);
    wr(r, CAPR, 2, 3 * 108 - 16);
    wr(r, IMR, 2, 0);
    wr(r, IMR, 2, ROK); /* nothing is left */
    assert_int_equal(rd(r, ISR, 2), 0);
    end(r);
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
            struct rig *r = begin();
            uint8_t frame[60];

            wr(r, MAR0 + 4 * (bit / 32), 4, table[i].hash ? 1u << bit % 32 : ~(1u << bit % 32));
            rx_on(r, table[i].rcr);
            fill(frame, sizeof(frame), dst[k], 1);
            assert_true(net_fake_receive(r->net, frame, sizeof(frame), NULL));
            assert_int_equal(mem32(r, RING) & 0xffff, want[k]);
            assert_int_equal(rd(r, ISR, 2), want[k] != 0 ? ROK : 0);
            end(r);
        }
    }
}

static void test_c_loopback(void **state)
{
    struct rig *r = begin();

    (void)state;
    rx_on(r, 0x0a);
    wr(r, TCR, 4, 3u << 17);
    fill(r->h->plat.ram + BUF, 1000, OURS, 9);
    wr(r, TSAD0, 4, BUF);
    wr(r, TSD0, 4, 1000);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 0);
    assert_int_equal(rd(r, ISR, 2), ROK | TOK);
    assert_int_equal(mem32(r, RING), 0x4001 | 1004 << 16);
    assert_memory_equal(r->h->plat.ram + RING + 4, r->h->plat.ram + BUF, 1000);
    /* the network does not come through */
    assert_true(net_fake_receive(r->net, r->h->plat.ram + BUF, 1000, NULL));
    assert_int_equal(rd(r, CBR, 2), 1008);
    /* a full ring loses looped frames, and counts them */
    for (unsigned i = 1; i < 9; i++) {
        wr(r, TSAD0 + 4 * (i % 4), 4, BUF);
        wr(r, TSD0 + 4 * (i % 4), 4, 1000);
        harness_step(r->h, 0);
    }
    assert_int_equal(rd(r, MPC, 4), 1);
    assert_int_equal(rd(r, ISR, 2), ROK | TOK | RDU);
    wr(r, MPC, 4, 7);
    assert_int_equal(rd(r, MPC, 4), 0);
    end(r);
}

/* ---- C+ mode ---- */

static void desc(struct rig *r, uint32_t ring, unsigned i, uint32_t dw0, uint32_t dw1, uint32_t buf)
{
    set32(r, ring + 16 * i + 4, dw1);
    set32(r, ring + 16 * i + 8, buf);
    set32(r, ring + 16 * i + 12, 0);
    set32(r, ring + 16 * i, dw0);
}

static void cplus_on(struct rig *r, uint16_t cpcr)
{
    wr(r, CPCR, 2, cpcr | 3u);
    wr(r, TSAD0, 4, TX_RING);
    wr(r, TSAD0 + 8, 4, TXH_RING);
    wr(r, RDSAR, 4, RX_RING);
    wr(r, RDSAR + 4, 4, 0);
    wr(r, CR, 1, TE | RE);
    wr(r, RCR, 4, 0x0a);
    wr(r, IMR, 2, 0xffff);
}

static void test_cplus_send(void **state)
{
    struct rig *r = begin();
    unsigned total = 0;

    (void)state;
    cplus_on(r, 0);
    for (unsigned round = 0; round < 40; round++) { /* runs around a ring of 10 */
        for (unsigned k = 0; k < 3; k++, total++) {
            unsigned i = total % 10;

            fill(r->h->plat.ram + BUF + i * 2048, 200, BCAST, total);
            desc(r, TX_RING, i, OWN | FS | LS | (i == 9 ? EOR : 0) | 200, 0, BUF + i * 2048);
        }
        wr(r, ISR, 2, 0xffff);
        wr(r, TPPOLL, 1, 0x40);
        harness_step(r->h, 0);
        assert_int_equal(r->net->sent_count, total);
        assert_int_equal(rd(r, ISR, 2), TOK | TDU);
    }
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(mem32(r, TX_RING + 16 * i), FS | LS | (i == 9 ? EOR : 0) | 200);
    }
    assert_memory_equal(net_fake_sent(r->net, total - 1)->data,
                        r->h->plat.ram + BUF + (total - 1) % 10 * 2048, 200);
    /* the high priority ring goes first; a short frame is padded with zeros; pieces are put
     * together */
    memset(r->h->plat.ram + BUF, 0xaa, 100);
    desc(r, TX_RING, 0, OWN | FS | 30, 0, BUF);
    desc(r, TX_RING, 1, OWN | 20, 0, BUF + 30);
    desc(r, TX_RING, 2, OWN | LS | 50, 0, BUF + 50);
    desc(r, TXH_RING, 0, OWN | FS | LS | 20, 0, BUF);
    wr(r, TPPOLL, 1, 0xc0);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, total + 2);
    assert_int_equal(net_fake_sent(r->net, total)->len, 60);
    assert_int_equal(net_fake_sent(r->net, total)->data[19], 0xaa);
    for (unsigned i = 20; i < 60; i++) {
        assert_int_equal(net_fake_sent(r->net, total)->data[i], 0);
    }
    assert_int_equal(net_fake_sent(r->net, total + 1)->len, 100);
    assert_memory_equal(net_fake_sent(r->net, total + 1)->data, r->h->plat.ram + BUF, 100);
    /* an unfinished frame stays */
    desc(r, TX_RING, 3, OWN | FS | 30, 0, BUF);
    desc(r, TX_RING, 4, LS | 30, 0, BUF);
    wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, total + 2);
    assert_int_equal(mem32(r, TX_RING + 48), OWN | FS | 30);
    end(r);
}

/* What the guest leaves to the card arrives done, whoever does it. */
static void cplus_offload(bool host)
{
    struct rig *r = begin_with(host);
    uint8_t want[1514];
    const struct net_fake_frame *f;

    cplus_on(r, 0);
    fill_tcp(want, sizeof(want), true);
    fill_tcp(r->h->plat.ram + BUF, sizeof(want), false);
    desc(r, TX_RING, 0, OWN | FS | LS | 7u << 16 | sizeof(want), 0, BUF); /* IPCS, UDPCS, TCPCS */
    wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 1);
    f = net_fake_sent(r->net, 0);
    if (host) {
        assert_true(f->off.csum_needed);
        net_csum_complete(f->data, f->len, &f->off);
    }
    assert_int_equal(f->len, sizeof(want));
    assert_memory_equal(f->data, want, sizeof(want));
    /* large send, 4000 bytes of payload in pieces of 1000, with a tag */
    fill_tcp(r->h->plat.ram + BUF, 4054, false);
    desc(r, TX_RING, 1, OWN | FS | 1u << 27 | 1000u << 16 | 54, 1u << 17 | 0x3412, BUF);
    desc(r, TX_RING, 2, OWN | LS | 1u << 27 | 1000u << 16 | 4000, 0, BUF + 54);
    wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    if (host) {
        assert_int_equal(r->net->sent_count, 2);
        f = net_fake_sent(r->net, 1);
        assert_int_equal(f->off.gso, NET_GSO_TCPV4);
        assert_int_equal(f->off.gso_size, 1000);
        assert_int_equal(f->off.header_len, 58);
        assert_int_equal(f->off.csum_start, 38);
        assert_int_equal(f->len, 4058);
    } else {
        assert_int_equal(r->net->sent_count, 5);
        for (unsigned i = 0; i < 4; i++) {
            f = net_fake_sent(r->net, 1 + i);
            assert_int_equal(f->len, 1058);
            assert_memory_equal(f->data + 12, "\x81\x00\x12\x34\x08\x00", 6);
            assert_true(sums_right(f->data, f->len));
            assert_memory_equal(f->data + 58, r->h->plat.ram + BUF + 54 + 1000 * i, 1000);
        }
    }
    assert_int_equal(mem32(r, TX_RING + 16), FS | 54);
    assert_int_equal(mem32(r, TX_RING + 32), LS | 4000);
    end(r);
}

static void test_cplus_offload(void **state)
{
    (void)state;
    cplus_offload(true);
    cplus_offload(false);
}

static void test_cplus_receive(void **state)
{
    struct rig *r = begin();
    uint8_t frame[1514];
    uint32_t fcs;

    (void)state;
    cplus_on(r, 0x60); /* RxChkSum, RxVLAN */
    for (unsigned i = 0; i < 4; i++) {
        desc(r, RX_RING, i, OWN | (i == 3 ? EOR : 0) | 1536, 0xffffffff, BUF + i * 2048);
    }
    fill(frame, 700, OURS, 1);
    assert_true(net_fake_receive(r->net, frame, 700, NULL));
    assert_int_equal(mem32(r, RX_RING), FS | LS | 1u << 25 | 704);
    assert_int_equal(mem32(r, RX_RING + 4), 0);
    assert_memory_equal(r->h->plat.ram + BUF, frame, 700);
    memcpy(&fcs, r->h->plat.ram + BUF + 700, 4);
    assert_int_equal(fcs, slow_crc(frame, 700));
    assert_int_equal(rd(r, ISR, 2), ROK);
    /* sums: right, wrong, vouched for by the host */
    fill_tcp(frame, 600, true);
    net_fake_receive(r->net, frame, 600, NULL);
    assert_int_equal(mem32(r, RX_RING + 16), FS | LS | 1u << 25 | 1u << 16 | 604);
    frame[100] ^= 1;
    net_fake_receive(r->net, frame, 600, NULL);
    assert_int_equal(mem32(r, RX_RING + 32), FS | LS | 1u << 25 | 1u << 16 | 1u << 13 | 604);
    frame[25] ^= 1;
    net_fake_receive(r->net, frame, 600, &(struct net_offload){.csum_valid = true});
    assert_int_equal(mem32(r, RX_RING + 48), EOR | FS | LS | 1u << 25 | 1u << 16 | 1u << 15 | 604);
    /* around the end; a tag is taken out */
    desc(r, RX_RING, 0, OWN | 1536, 0, BUF);
    fill(frame, 104, OURS, 5);
    memcpy(frame + 12, "\x81\x00\x12\x34\x88\xb5", 6);
    net_fake_receive(r->net, frame, 104, NULL);
    assert_int_equal(mem32(r, RX_RING), FS | LS | 1u << 25 | 104);
    assert_int_equal(mem32(r, RX_RING + 4), 1u << 16 | 0x3412);
    assert_memory_equal(r->h->plat.ram + BUF, frame, 12);
    assert_memory_equal(r->h->plat.ram + BUF + 12, frame + 16, 88);
    /* what is larger than a buffer goes on in the next */
    for (unsigned i = 1; i < 4; i++) {
        desc(r, RX_RING, i, OWN | (i == 3 ? EOR : 0) | 512, 0, BUF + i * 2048);
    }
    fill(frame, 1200, OURS, 6);
    net_fake_receive(r->net, frame, 1200, NULL);
    assert_int_equal(mem32(r, RX_RING + 16), FS | 512);
    assert_int_equal(mem32(r, RX_RING + 32), 512);
    assert_int_equal(mem32(r, RX_RING + 48), EOR | LS | 1u << 25 | 1204);
    assert_memory_equal(r->h->plat.ram + BUF + 3 * 2048, frame + 1024, 176);
    end(r);
}

/* There is no doorbell for receive descriptors: the next sign of life of the driver counts, or in
 * the end a timer. */
static void test_cplus_stall(void **state)
{
    struct rig *r = begin();
    uint8_t frame[100];

    (void)state;
    cplus_on(r, 0);
    fill(frame, sizeof(frame), OURS, 1);
    desc(r, RX_RING, 0, OWN | 1536, 0, BUF);
    desc(r, RX_RING, 1, 1536, 0, BUF);
    assert_true(net_fake_receive(r->net, frame, sizeof(frame), NULL));
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    assert_false(r->net->reading);
    assert_int_equal(rd(r, ISR, 2), ROK | RDU);
    wr(r, ISR, 2, ROK | RDU);
    harness_step(r->h, 0);
    assert_int_equal(rd(r, ISR, 2), 0); /* no storm: said once */
    harness_step(r->h, 1000000000);
    assert_int_equal(rd(r, ISR, 2), 0);
    desc(r, RX_RING, 1, OWN | 1536, 0, BUF);
    wr(r, IMR, 2, 0xffff);
    harness_step(r->h, 0);
    assert_int_equal(rd(r, ISR, 2), ROK);
    assert_true(r->net->reading);
    wr(r, ISR, 2, ROK);
    assert_int_equal(mem32(r, RX_RING + 16), FS | LS | 1u << 25 | 104);
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    assert_int_equal(rd(r, ISR, 2), RDU);
    assert_true(harness_save_load_save(r->h));
    desc(r, RX_RING, 2, OWN | 1536, 0, BUF);
    harness_step(r->h, 200000000);
    assert_int_equal(rd(r, ISR, 2), ROK | RDU);
    assert_int_equal(mem32(r, RX_RING + 32), FS | LS | 1u << 25 | 104);
    /* the driver goes away while a frame waits: it is dropped, and the host is not blocked */
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    assert_false(r->net->reading);
    wr(r, CR, 1, 0);
    harness_step(r->h, 0);
    assert_true(r->net->reading);
    end(r);
}

static void test_tally(void **state)
{
    struct rig *r = begin();
    uint8_t frame[100];
    uint64_t v[8];

    (void)state;
    cplus_on(r, 0);
    for (unsigned i = 0; i < 4; i++) {
        desc(r, RX_RING, i, OWN | 1536, 0, BUF);
    }
    fill(frame, sizeof(frame), OURS, 1);
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    fill(frame, sizeof(frame), BCAST, 1);
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    desc(r, TX_RING, 0, OWN | FS | LS | 60, 0, BUF);
    wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 3);
    net_fake_receive(r->net, frame, sizeof(frame), NULL); /* missed */
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 7);
    assert_int_equal(rd(r, MPC, 4), 1);
    for (int i = 0; i < 2; i++) { /* dumping does not clear them */
        memset(r->h->plat.ram + 0x5000, 0xff, 64);
        wr(r, TSD0 + 4, 4, 0);
        wr(r, TSD0, 4, 0x5000 | 8);
        assert_int_equal(rd(r, TSD0, 4), 0x5000);
        memcpy(v, r->h->plat.ram + 0x5000, 64);
        assert_int_equal(v[0], 1);
        assert_int_equal(v[1], 3);
        assert_int_equal(v[2], 0);
        assert_int_equal(v[3], (uint64_t)1 << 32);
        assert_int_equal(v[4], 0);
        assert_int_equal(v[5], 1);
        assert_int_equal(v[6], 2);
        assert_int_equal(v[7], 0);
    }
    end(r);
}

/* ---- hostile rings ---- */

static void test_hostile(void **state)
{
    struct rig *r = begin();
    uint8_t frame[1514];
    unsigned before;

    (void)state;
    cplus_on(r, 0);
    /* a whole ring of pieces without an end; rings within rings; buffers nowhere */
    for (unsigned i = 0; i < 64; i++) {
        desc(r, TX_RING, i, OWN | 0xffff, 0, 0xfffff000);
        desc(r, RX_RING, i, OWN | (i == 3 ? EOR : 0), 0, 0xfffff000); /* no room in any */
    }
    wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 0);
    assert_int_equal(mem32(r, TX_RING + 63 * 16), 0xffff);
    fill(frame, sizeof(frame), OURS, 1);
    assert_true(net_fake_receive(r->net, frame, sizeof(frame), NULL));
    assert_int_equal(rd(r, MPC, 4), 1);
    /* a ring of one that is its own successor, smaller than the frame */
    wr(r, RDSAR, 4, RX_RING);
    desc(r, RX_RING, 0, OWN | EOR | 100, 0, BUF);
    assert_true(net_fake_receive(r->net, frame, sizeof(frame), NULL));
    assert_int_equal(rd(r, MPC, 4), 2);
    /* rings where there is no memory: all ones is an endless ring of huge pieces */
    wr(r, TSAD0, 4, 0xffffff00);
    wr(r, TSAD0 + 4, 4, 0xffffffff);
    wr(r, RDSAR, 4, 0xffffff00);
    wr(r, RDSAR + 4, 4, 0xffffffff);
    wr(r, TPPOLL, 1, 0x40);
    for (int i = 0; i < 100; i++) {
        harness_step(r->h, 0);
    }
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    harness_step(r->h, 0);
    before = r->net->sent_count;
    /* large send with a tiny segment size stays whole: no flood */
    wr(r, CR, 1, RST);
    cplus_on(r, 0);
    fill_tcp(r->h->plat.ram + BUF, 60000, false);
    desc(r, TX_RING, 0, OWN | FS | LS | 1u << 27 | 1u << 16 | 60000, 0, BUF);
    wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, before + 1);
    assert_int_equal(net_fake_sent(r->net, before)->off.gso, NET_GSO_NONE);
    end(r);
}

static void test_unplugged(void **state)
{
    struct rig *r = begin();
    uint8_t frame[100];

    (void)state;
    cplus_on(r, 0);
    fill(frame, sizeof(frame), OURS, 1);
    net_fake_receive(r->net, frame, sizeof(frame), NULL); /* waits for a descriptor */
    desc(r, TX_RING, 0, OWN | FS | LS | 60, 0, BUF);
    wr(r, TPPOLL, 1, 0x40); /* under way */
    pci_unplug(pci_find(r->h->board.pci, DEVFN));
    net_shut(r->net->net);
    harness_step(r->h, 1000000000);
    assert_int_equal(r->net->sent_count, 0);
    assert_false(irq(r));
    assert_int_equal(harness_pci_read(r->h, DEVFN, 0, 4), 0xffffffff);
    board_reset(&r->h->board);
    harness_step(r->h, 1000000000);
    assert_true(harness_save_load_save(r->h));
    end(r);
}

static void test_state(void **state)
{
    struct rig *a = begin(), *b = begin();
    uint8_t frame[300];

    (void)state;
    cplus_on(a, 0x60);
    for (unsigned i = 0; i < 4; i++) {
        desc(a, RX_RING, i, OWN | (i == 3 ? EOR : 0) | 1536, 0, BUF + i * 2048);
    }
    fill(frame, sizeof(frame), OURS, 1);
    for (unsigned i = 0; i < 3; i++) {
        net_fake_receive(a->net, frame, sizeof(frame), NULL);
    }
    wr(a, EECR, 1, 0xc0);
    wr(a, CONFIG1, 1, 0x40);
    a->net->room = 0;
    desc(a, TX_RING, 0, OWN | FS | LS | 60, 0, BUF);
    wr(a, TPPOLL, 1, 0x40);
    harness_step(a->h, 0);
    harness_step(b->h, 123456);
    memcpy(b->h->plat.ram, a->h->plat.ram, HARNESS_RAM_SIZE);
    assert_true(harness_transfer(a->h, b->h));
    assert_true(irq(b));
    for (unsigned reg = 0; reg < 256; reg++) {
        assert_int_equal(rd(a, reg, 1), rd(b, reg, 1));
    }
    harness_step(b->h, 0);
    assert_int_equal(b->net->sent_count, 1); /* what waited goes on */
    net_fake_receive(b->net, frame, sizeof(frame), NULL);
    assert_int_equal(mem32(b, RX_RING + 48), EOR | FS | LS | 1u << 25 | 304);
    end(a);
    end(b);
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
        cmocka_unit_test(test_cplus_send),
        cmocka_unit_test(test_cplus_offload),
        cmocka_unit_test(test_cplus_receive),
        cmocka_unit_test(test_cplus_stall),
        cmocka_unit_test(test_tally),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_unplugged),
        cmocka_unit_test(test_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
