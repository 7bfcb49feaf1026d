/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "core/pci.h"
#include "hw/e1000_int.h"
#include "tests/unit/harness.h"
#include "tests/unit/net_fake.h"

enum {
    SLOT = 4,
    DEVFN = PCI_DEVFN(SLOT, 0),
    IO = 0xc000,
    TX_RING = 0x100000,
    RX_RING = 0x110000,
    RX_BUF = 0x200000, /* 16 KiB each */
    TX_BUF = 0x400000,
    RING = 16, /* descriptors */
    MS = 1000000,
};
#define BAR UINT64_C(0xf0000000)

static const uint8_t mac[6] = {0x00, 0x16, 0x3e, 0x00, 0x00, 0x01};

struct rig {
    struct harness *h;
    struct net_fake *n;
    unsigned tx_tail;
};

/* ---- rig ---- */

static uint32_t rd(struct rig *g, uint32_t reg)
{
    return (uint32_t)harness_read(g->h, BAR + reg, 4);
}

static void wr(struct rig *g, uint32_t reg, uint32_t v)
{
    harness_write(g->h, BAR + reg, 4, v);
}

static bool irq(struct rig *g)
{
    return g->h->plat.intx[SLOT][0];
}

static void run(struct rig *g)
{
    harness_step(g->h, 0);
    harness_step(g->h, 0);
}

static void map(struct harness *h)
{
    harness_pci_write(h, DEVFN, PCI_BAR0, 4, (uint32_t)BAR);
    harness_pci_write(h, DEVFN, PCI_BAR0 + 4, 4, IO);
    harness_pci_write(h, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void make(struct rig *g, bool offloads)
{
    struct e1000_config cfg = {.devfn = DEVFN};

    memcpy(cfg.mac, mac, 6);
    g->h = harness_create();
    g->n = net_fake_create(g->h->loop, offloads);
    g->tx_tail = 0;
    assert_int_equal(e1000_create(&g->h->board, &cfg, g->n->net), 0);
    map(g->h);
}

static void unmake(struct rig *g)
{
    struct harness *h = g->h;

    board_fini(&h->board);
    net_fake_destroy(g->n);
    assert_int_equal(board_init(&h->board, h->loop, &h->plat, (struct guestmem *)(void *)&h->plat), 0);
    harness_destroy(h);
}

static struct rig the_rig;

static int setup(void **state)
{
    make(&the_rig, true);
    *state = &the_rig;
    return 0;
}

static int setup_plain(void **state)
{
    make(&the_rig, false);
    *state = &the_rig;
    return 0;
}

static int teardown(void **state)
{
    unmake(*state);
    return 0;
}

static void set64(struct rig *g, uint32_t gpa, uint64_t v)
{
    memcpy(g->h->plat.ram + gpa, &v, 8);
}

static uint64_t get64(struct rig *g, uint32_t gpa)
{
    uint64_t v;

    memcpy(&v, g->h->plat.ram + gpa, 8);
    return v;
}

static void start_tx(struct rig *g)
{
    wr(g, E1000_TDBAL, TX_RING);
    wr(g, E1000_TDLEN, RING * 16);
    wr(g, E1000_TDH, 0);
    wr(g, E1000_TDT, 0);
    wr(g, E1000_TCTL, TCTL_EN | TCTL_PSP);
    g->tx_tail = 0;
}

/* RING - 1 buffers for the card. */
static void start_rx(struct rig *g, uint32_t rctl)
{
    for (uint32_t i = 0; i < RING; i++) {
        set64(g, RX_RING + 16 * i, RX_BUF + 0x4000 * i);
        set64(g, RX_RING + 16 * i + 8, 0);
    }
    wr(g, E1000_RDBAL, RX_RING);
    wr(g, E1000_RDLEN, RING * 16);
    wr(g, E1000_RDH, 0);
    wr(g, E1000_RDT, RING - 1);
    wr(g, E1000_RCTL, RCTL_EN | rctl);
}

enum { EOP = 1, IFCS = 2, IC = 4, TSE = 4, RS = 8, DEXT = 0x20, VLE = 0x40, IDE = 0x80 };

/* Puts one descriptor into the ring; the caller writes TDT. */
static void put(struct rig *g, uint64_t addr, uint64_t second)
{
    set64(g, TX_RING + 16 * g->tx_tail, addr);
    set64(g, TX_RING + 16 * g->tx_tail + 8, second);
    g->tx_tail = (g->tx_tail + 1) % RING;
}

static void put_legacy(struct rig *g, uint64_t addr, unsigned len, unsigned cmd)
{
    put(g, addr, (uint64_t)len | (uint64_t)cmd << 24);
}

static void put_data(struct rig *g, uint64_t addr, unsigned len, unsigned cmd, unsigned popts)
{
    put(g, addr, (uint64_t)len | 1u << 20 | (uint64_t)(cmd | DEXT) << 24 | (uint64_t)popts << 40);
}

static void put_context(struct rig *g, unsigned ipcss, unsigned ipcse, unsigned tucss, unsigned tucso, unsigned tucmd,
                        unsigned hdrlen, unsigned mss)
{
    put(g, ipcss | (uint64_t)(ipcss + 10) << 8 | (uint64_t)ipcse << 16 | (uint64_t)tucss << 32 | (uint64_t)tucso << 40,
        (uint64_t)(tucmd | DEXT) << 24 | (uint64_t)hdrlen << 40 | (uint64_t)mss << 48);
}

static void go(struct rig *g)
{
    wr(g, E1000_TDT, g->tx_tail);
    run(g);
}

static uint8_t tx_status(struct rig *g, unsigned i)
{
    return g->h->plat.ram[TX_RING + 16 * i + 12];
}

/* A frame to dst with a pattern; len >= 14. */
static void fill(uint8_t *p, size_t len, const uint8_t *dst)
{
    for (size_t i = 0; i < len; i++) {
        p[i] = (uint8_t)(i * 7 + 1);
    }
    memcpy(p, dst, 6);
    p[12] = 0x12;
    p[13] = 0x34;
}

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static uint32_t sum16(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i < len; i++) {
        sum += (i & 1) != 0 ? p[i] : (uint32_t)p[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/* Ethernet, IPv4, TCP and payload. Checksums right when `complete`, otherwise as drivers leave them: IP 0, TCP the pseudo header's without
 * (tso) or with the length. */
static void tcp4(uint8_t *p, size_t payload, bool complete, bool tso)
{
    static const uint8_t head[54] = {0,    0x16, 0x3e, 0, 0, 1, 2,  0,  0, 0, 0, 1, 8, 0, 0x45, 0, 0, 0, 0x12,
                                     0xff, 0x40, 0,    64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,   0x10, 0, 0, 80,
                                     0,    0,    0x10, 0, 0, 0, 0, 9,   0x50, 0x19, 1, 0, 0, 0, 0,    0};
    uint32_t sum;

    memcpy(p, head, sizeof(head));
    for (size_t i = 0; i < payload; i++) {
        p[54 + i] = (uint8_t)(i ^ i >> 8);
    }
    p[16] = (uint8_t)((payload + 40) >> 8);
    p[17] = (uint8_t)(payload + 40);
    sum = sum16(p + 26, 8, 6 + (tso ? 0 : (uint32_t)payload + 20));
    if (tso) {
        p[16] = p[17] = 0;
    }
    if (complete) {
        uint32_t ip = ~sum16(p + 14, 20, 0);

        p[24] = (uint8_t)(ip >> 8);
        p[25] = (uint8_t)ip;
        sum = ~sum16(p + 34, payload + 20, sum);
    }
    p[50] = (uint8_t)(sum >> 8);
    p[51] = (uint8_t)sum;
}

static bool tcp4_good(const uint8_t *p, size_t len)
{
    return sum16(p + 14, 20, 0) == 0xffff && be16(p + 16) == len - 14 &&
           sum16(p + 34, len - 34, sum16(p + 26, 8, 6 + (uint32_t)len - 34)) == 0xffff;
}

static const struct net_fake_frame *sent(struct rig *g, unsigned i)
{
    const struct net_fake_frame *f = net_fake_sent(g->n, i);

    assert_non_null(f);
    return f;
}

static void feed(struct rig *g, const uint8_t *frame, size_t len)
{
    net_fake_receive(g->n, frame, len, NULL);
    run(g);
}

/* Second half of RX descriptor i: length, checksum, status, errors, special. */
static uint64_t rx_desc(struct rig *g, unsigned i)
{
    return get64(g, RX_RING + 16 * i + 8);
}

static unsigned rx_status(struct rig *g, unsigned i)
{
    return (unsigned)(rx_desc(g, i) >> 32 & 0xff);
}

static unsigned rx_errors(struct rig *g, unsigned i)
{
    return (unsigned)(rx_desc(g, i) >> 40 & 0xff);
}

static unsigned rx_len(struct rig *g, unsigned i)
{
    return (unsigned)(rx_desc(g, i) & 0xffff);
}

/* ---- registers ---- */

static void config_space(void **state)
{
    struct rig *g = *state;

    assert_int_equal(harness_pci_read(g->h, DEVFN, 0, 4), 0x100e8086);
    assert_int_equal(harness_pci_read(g->h, DEVFN, PCI_REVISION_ID, 4), 0x02000003);
    assert_int_equal(harness_pci_read(g->h, DEVFN, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
    assert_int_equal(harness_pci_read(g->h, DEVFN, PCI_INTERRUPT_PIN, 1), 1);
    assert_int_equal(harness_pci_read(g->h, DEVFN, PCI_CAPABILITY_LIST, 1), 0);
    harness_pci_write(g->h, DEVFN, PCI_BAR0, 4, 0xffffffff);
    harness_pci_write(g->h, DEVFN, PCI_BAR0 + 4, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(g->h, DEVFN, PCI_BAR0, 4), 0xfffe0000);
    assert_int_equal(harness_pci_read(g->h, DEVFN, PCI_BAR0 + 4, 4), 0xffffffc1);
}

static void reset_values(void **state)
{
    struct rig *g = *state;
    static const struct {
        uint32_t reg, value;
    } rows[] = {
        {E1000_CTRL, 0x00140240}, {4, 0x00140240},          {E1000_STATUS, 0x783},    {E1000_EECD, 0x118},
        {E1000_MDIC, 0x10000000}, {E1000_LEDCTL, 0x602},    {E1000_PBA, 0x00100030},  {E1000_RAL, 0x003e1600},
        {E1000_RAH, 0x80000100},
    };

    for (uint32_t reg = 0; reg < E1000_BAR_SIZE; reg += 4) {
        uint32_t expect = 0;

        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            expect = rows[i].reg == reg ? rows[i].value : expect;
        }
        if (rd(g, reg) != expect) {
            fail_msg("register %#x is %#x, not %#x", reg, rd(g, reg), expect);
        }
    }
}

static void masks(void **state)
{
    struct rig *g = *state;
    static const struct {
        uint32_t reg, bits;
        unsigned count, stride;
    } rows[] = {
        {E1000_STATUS, 0, 1, 0},
        {E1000_EERD, 0xffffff10, 1, 0},
        {E1000_CTRL_EXT, 0x28fff, 1, 0},
        {E1000_FCAL, 0xffffffff, 1, 0},
        {E1000_FCAH, 0xffff, 1, 0},
        {E1000_FCT, 0xffff, 1, 0},
        {E1000_VET, 0xffff, 1, 0},
        {E1000_ITR, 0xffff, 1, 0},
        {E1000_ICS, 0, 1, 0},
        {E1000_IMC, 0, 1, 0},
        {E1000_FCTTV, 0xffff, 1, 0},
        {E1000_TXCW, 0xc000ffff, 1, 0},
        {E1000_TIPG, 0x3fffffff, 1, 0},
        {E1000_FCRTH, 0x8000fff8, 1, 0},
        {E1000_RDFH, 0x1fff, 5, 8},
        {E1000_RDBAL, 0xfffffff0, 1, 0},
        {E1000_RDBAH, 0xffffffff, 1, 0},
        {E1000_RDLEN, 0x000fff80, 1, 0},
        {E1000_RDH, 0xffff, 1, 0},
        {E1000_RDT, 0xffff, 1, 0},
        {E1000_RDTR, 0xffff, 1, 0},
        {E1000_RADV, 0xffff, 1, 0},
        {E1000_TDBAL, 0xfffffff0, 1, 0},
        {E1000_TDBAH, 0xffffffff, 1, 0},
        {E1000_TDLEN, 0x000fff80, 1, 0},
        {E1000_TDH, 0xffff, 1, 0},
        {E1000_TDT, 0xffff, 1, 0},
        {E1000_TIDV, 0xffff, 1, 0},
        {E1000_TXDCTL, 0xff3f3f3f, 1, 0},
        {E1000_TADV, 0xffff, 1, 0},
        {E1000_STATS, 0, 64, 4},
        {E1000_RXCSUM, 0x7ff, 1, 0},
        {E1000_MTA, 0xffffffff, 128, 4},
        {E1000_RAL, 0xffffffff, 16, 8},
        {E1000_RAH, 0x8003ffff, 16, 8},
        {E1000_VFTA, 0xffffffff, 128, 4},
        {E1000_WUC, 0xf, 1, 0},
        {E1000_IP4AT, 0xffffffff, 4, 8},
        {E1000_WUPM, 0xffffffff, 32, 4},
        {E1000_FFLT, 0x7ff, 4, 8},
        {E1000_FFMT, 0xf, 128, 8},
        {E1000_FFVT, 0xffffffff, 128, 8},
        {E1000_RCTL, 0x06dfb3fe, 1, 0},
        {E1000_TCTL, 0x013ffffa, 1, 0},
        {0x5ff8, 0, 1, 0}, /* no such register */
        {0x8000, 0, 1, 0},
        {0x1fffc, 0, 1, 0},
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned k = 0; k < rows[i].count; k++) {
            uint32_t reg = rows[i].reg + k * rows[i].stride;
            uint32_t fixed = reg == E1000_STATUS ? 0x783 : 0;

            for (unsigned bit = 0; bit < 32 && reg != E1000_EERD; bit++) {
                wr(g, reg, 1u << bit);
                if (rd(g, reg) != (fixed | (1u << bit & rows[i].bits))) {
                    fail_msg("register %#x bit %u: %#x", reg, bit, rd(g, reg));
                }
            }
            wr(g, reg, 0);
            assert_int_equal(rd(g, reg), fixed);
        }
    }
    wr(g, E1000_PBA, 0x28);
    assert_int_equal(rd(g, E1000_PBA), 0x180028); /* the transmitter gets the rest of 64 KiB */
}

static void narrow_accesses(void **state)
{
    struct rig *g = *state;

    wr(g, E1000_FCAL, 0x11223344);
    assert_int_equal(harness_read(g->h, BAR + E1000_FCAL + 1, 1), 0x33);
    assert_int_equal(harness_read(g->h, BAR + E1000_FCAL + 2, 2), 0x1122);
    assert_int_equal(harness_read(g->h, BAR + E1000_FCAL, 8), UINT64_C(0x11223344));
    harness_write(g->h, BAR + E1000_FCAL, 2, 0);
    harness_write(g->h, BAR + E1000_FCAL + 1, 1, 0);
    assert_int_equal(rd(g, E1000_FCAL), 0x11223344);
    wr(g, 4, 0x40000241); /* CTRL's shadow */
    assert_int_equal(rd(g, E1000_CTRL), 0x40000241);
}

static void io_window(void **state)
{
    struct rig *g = *state;

    harness_out(g->h, IO, 4, E1000_FCAL);
    assert_int_equal(harness_in(g->h, IO, 4), E1000_FCAL);
    harness_out(g->h, IO + 4, 4, 0xcafe1234);
    assert_int_equal(harness_in(g->h, IO + 4, 4), 0xcafe1234);
    assert_int_equal(rd(g, E1000_FCAL), 0xcafe1234);
    assert_int_equal(harness_in(g->h, IO + 6, 2), 0xcafe);
    harness_out(g->h, IO + 4, 2, 0); /* only whole registers */
    assert_int_equal(rd(g, E1000_FCAL), 0xcafe1234);
    harness_out(g->h, IO, 4, 0xfffffffc);
    harness_out(g->h, IO + 4, 4, 1);
    assert_int_equal(harness_in(g->h, IO + 4, 4), 0);
    assert_int_equal(harness_in(g->h, IO + 8, 4), 0);
    harness_out(g->h, IO, 4, E1000_CTRL); /* how Linux resets this chip */
    harness_out(g->h, IO + 4, 4, CTRL_RST);
    assert_int_equal(rd(g, E1000_FCAL), 0);
}

/* ---- interrupts ---- */

static void causes(void **state)
{
    struct rig *g = *state;

    for (unsigned bit = 0; bit < 10; bit++) { /* as the drivers' self test: reserved bits too */
        wr(g, E1000_IMC, 0xffffffff);
        wr(g, E1000_ICS, 1u << bit);
        assert_false(irq(g));
        assert_int_equal(rd(g, E1000_ICR), 1u << bit);
        wr(g, E1000_IMS, 1u << bit);
        assert_int_equal(rd(g, E1000_IMS), 1u << bit);
        wr(g, E1000_ICS, ~(1u << bit) & 0x7fff);
        assert_false(irq(g));
        wr(g, E1000_ICS, 1u << bit);
        assert_true(irq(g));
        assert_int_equal(rd(g, E1000_ICR), 0x7fff);
        assert_false(irq(g));
        assert_int_equal(rd(g, E1000_ICR), 0);
    }
    wr(g, E1000_ICS, ICR_RXT0 | ICR_LSC);
    wr(g, E1000_IMS, ICR_RXT0);
    assert_true(irq(g)); /* unmasking shows what waits */
    wr(g, E1000_ICR, ICR_RXT0);
    assert_false(irq(g)); /* writing 1 clears */
    assert_int_equal(rd(g, E1000_ICR), ICR_LSC);
    wr(g, E1000_ICS, ICR_RXT0);
    wr(g, E1000_IMC, ICR_RXT0);
    assert_false(irq(g));
    wr(g, E1000_ICS, 0xffffffff);
    assert_int_equal(rd(g, E1000_ICR), ICR_BITS);
}

static void throttling(void **state)
{
    struct rig *g = *state;

    wr(g, E1000_ITR, 1000); /* 256 us */
    wr(g, E1000_IMS, ICR_RXT0);
    wr(g, E1000_ICS, ICR_RXT0);
    assert_true(irq(g)); /* the first one at once */
    rd(g, E1000_ICR);
    wr(g, E1000_ICS, ICR_RXT0);
    assert_false(irq(g));
    harness_step(g->h, 255999);
    assert_false(irq(g));
    harness_step(g->h, 1);
    assert_true(irq(g));
    rd(g, E1000_ICR);
    wr(g, E1000_ICS, ICR_RXT0);
    assert_false(irq(g));
    wr(g, E1000_ITR, 0); /* off: at once */
    assert_true(irq(g));
    rd(g, E1000_ICR);
    wr(g, E1000_ITR, 1000);
    wr(g, E1000_ICS, ICR_RXT0);
    assert_true(irq(g));
    rd(g, E1000_ICR);
    wr(g, E1000_ICS, ICR_RXT0);
    rd(g, E1000_ICR); /* taken back before its time */
    harness_step(g->h, MS);
    assert_false(irq(g));
}

/* ---- EEPROM and PHY ---- */

static uint16_t eerd(struct rig *g, unsigned word)
{
    wr(g, E1000_EERD, EERD_START | word << 8);
    assert_int_equal(rd(g, E1000_EERD) & 0xffff, EERD_DONE | word << 8);
    return (uint16_t)(rd(g, E1000_EERD) >> 16);
}

static void eeprom_content(void **state)
{
    struct rig *g = *state;
    uint16_t sum = 0;

    for (unsigned i = 0; i < 64; i++) {
        sum = (uint16_t)(sum + eerd(g, i));
    }
    assert_int_equal(sum, 0xbaba);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(eerd(g, i), mac[2 * i] | mac[2 * i + 1] << 8);
    }
    assert_int_equal(eerd(g, 64), eerd(g, 0)); /* six address bits */
    wr(g, E1000_EERD, 5u << 8);                /* without START nothing happens */
    assert_int_equal(rd(g, E1000_EERD), 5u << 8);
}

static void ee_bits(struct rig *g, unsigned bits, unsigned value)
{
    while (bits-- > 0) {
        uint32_t di = (value >> bits & 1) != 0 ? EECD_DI : 0;

        wr(g, E1000_EECD, EECD_REQ | EECD_CS | di);
        wr(g, E1000_EECD, EECD_REQ | EECD_CS | di | EECD_SK);
        wr(g, E1000_EECD, EECD_REQ | EECD_CS | di);
    }
}

static unsigned ee_in(struct rig *g, unsigned bits)
{
    unsigned v = 0;

    while (bits-- > 0) {
        wr(g, E1000_EECD, EECD_REQ | EECD_CS | EECD_SK);
        v = v << 1 | ((rd(g, E1000_EECD) & EECD_DO) != 0);
        wr(g, E1000_EECD, EECD_REQ | EECD_CS);
    }
    return v;
}

static void ee_select(struct rig *g)
{
    wr(g, E1000_EECD, EECD_REQ);
    wr(g, E1000_EECD, EECD_REQ | EECD_CS);
}

static void eeprom_serial(void **state)
{
    struct rig *g = *state;

    wr(g, E1000_EECD, EECD_REQ);
    assert_int_equal(rd(g, E1000_EECD) & (EECD_GNT | EECD_PRES), EECD_GNT | EECD_PRES);
    ee_select(g);
    ee_bits(g, 3, 0); /* before the start bit */
    ee_bits(g, 9, 6u << 6 | 0);
    assert_int_equal(rd(g, E1000_EECD) & EECD_DO, 0); /* the leading zero */
    assert_int_equal(ee_in(g, 16), 0x1600);
    assert_int_equal(ee_in(g, 16), 0x003e); /* goes on with the next word */
    ee_select(g);
    ee_bits(g, 9, 5u << 6 | 0x30);
    ee_bits(g, 16, 0xbeef); /* not enabled: nothing is written */
    assert_int_equal(eerd(g, 0x30), 0xffff);
    ee_select(g);
    ee_bits(g, 9, 4u << 6 | 0x30); /* write enable */
    ee_select(g);
    ee_bits(g, 9, 5u << 6 | 0x30);
    ee_bits(g, 16, 0xbeef);
    ee_select(g);
    assert_int_equal(rd(g, E1000_EECD) & EECD_DO, EECD_DO); /* ready */
    assert_int_equal(eerd(g, 0x30), 0xbeef);
    ee_select(g);
    ee_bits(g, 9, 7u << 6 | 0x30); /* erase */
    assert_int_equal(eerd(g, 0x30), 0xffff);
    ee_select(g);
    ee_bits(g, 9, 5u << 6 | 0); /* another address */
    ee_bits(g, 16, 0x2202);
    wr(g, E1000_CTRL_EXT, CTRL_EXT_EE_RST);
    assert_int_equal(rd(g, E1000_RAL), 0x003e2202);
    ee_select(g);
    ee_bits(g, 9, 4u << 6); /* write disable */
    ee_select(g);
    ee_bits(g, 9, 7u << 6);
    board_reset(&g->h->board); /* which it survives */
    map(g->h);
    assert_int_equal(eerd(g, 0), 0x2202);
    assert_int_equal(rd(g, E1000_RAL), 0x003e2202);
}

static uint16_t phy(struct rig *g, unsigned reg)
{
    wr(g, E1000_MDIC, 2u << 26 | 1u << 21 | reg << 16);
    assert_int_equal(rd(g, E1000_MDIC) >> 16, 0x1820 | reg);
    return (uint16_t)rd(g, E1000_MDIC);
}

static void phy_wr(struct rig *g, unsigned reg, unsigned v)
{
    wr(g, E1000_MDIC, 1u << 26 | 1u << 21 | reg << 16 | v);
    assert_int_equal(rd(g, E1000_MDIC), 0x14200000 | reg << 16 | v);
}

static void phy_registers(void **state)
{
    struct rig *g = *state;
    static const uint16_t expect[32] = {
        [0] = 0x1140, [1] = 0x796d, [2] = 0x0141,  [3] = 0x0c20,  [4] = 0x0de1,  [5] = 0x41e1,
        [6] = 0x0001, [7] = 0x2001, [9] = 0x0e00,  [10] = 0x3c00, [15] = 0x3000, [16] = 0x0360,
        [17] = 0xac00, [20] = 0x0d60, [24] = 0x4100,
    };
    static const uint16_t writable[32] = {
        [4] = 0xffff,  [7] = 0xffff,  [9] = 0xff00,  [16] = 0xffff, [18] = 0xffff, [20] = 0xffff,
        [22] = 0xffff, [24] = 0xffff, [25] = 0xffff, [26] = 0xffff, [29] = 0xffff, [30] = 0xffff,
    };

    for (unsigned reg = 0; reg < 32; reg++) {
        assert_int_equal(phy(g, reg), expect[reg]);
    }
    for (unsigned reg = 1; reg < 32; reg++) {
        if (reg == 5 || reg == 6 || reg == 10 || reg == 17 || reg == 1) {
            phy_wr(g, reg, 0xffff);
            assert_int_equal(phy(g, reg), expect[reg]);
            continue;
        }
        phy_wr(g, reg, 0xffff);
        assert_int_equal(phy(g, reg), (expect[reg] & ~writable[reg]) | writable[reg]);
        phy_wr(g, reg, 0);
        assert_int_equal(phy(g, reg), expect[reg] & ~writable[reg]);
        phy_wr(g, reg, expect[reg]);
    }
    wr(g, E1000_MDIC, 2u << 26 | 2u << 21); /* nobody at address 2 */
    assert_int_equal(rd(g, E1000_MDIC) & (MDIC_R | MDIC_E), MDIC_R | MDIC_E);
    wr(g, E1000_IMS, ICR_MDAC);
    wr(g, E1000_MDIC, 2u << 26 | 1u << 21 | MDIC_I);
    assert_true(irq(g));
    assert_int_equal(rd(g, E1000_ICR), ICR_MDAC);
}

static void negotiation(void **state)
{
    struct rig *g = *state;

    wr(g, E1000_IMS, ICR_LSC);
    phy_wr(g, PHY_BMCR, BMCR_ANENABLE | BMCR_ANRESTART | BMCR_FULLDPLX | BMCR_SPEED1000);
    assert_int_equal(phy(g, PHY_BMCR), 0x1140); /* the restart bit clears itself */
    assert_int_equal(rd(g, E1000_STATUS) & STATUS_LU, 0);
    assert_int_equal(rd(g, E1000_ICR), ICR_LSC);
    assert_int_equal(phy(g, PHY_BMSR), 0x7949);
    assert_int_equal(phy(g, PHY_PSSR), 0);
    harness_step(g->h, 11 * MS);
    assert_true(irq(g));
    assert_int_equal(rd(g, E1000_ICR), ICR_LSC);
    assert_int_equal(rd(g, E1000_STATUS), 0x783);
    assert_int_equal(phy(g, PHY_BMSR), 0x7969); /* latched low once */
    assert_int_equal(phy(g, PHY_BMSR), 0x796d);

    phy_wr(g, PHY_GTCR, 0); /* no 1000BASE-T: 100 Mbit/s half duplex */
    phy_wr(g, PHY_ANAR, 0x00e1);
    phy_wr(g, PHY_BMCR, BMCR_ANENABLE | BMCR_ANRESTART);
    harness_step(g->h, 11 * MS);
    assert_int_equal(rd(g, E1000_STATUS) & 0xff, STATUS_LU | 1 << STATUS_SPEED_SHIFT);
    assert_int_equal(phy(g, PHY_PSSR), 0x4c00);
    phy_wr(g, PHY_ANAR, 0x0001); /* nothing in common */
    phy_wr(g, PHY_BMCR, BMCR_ANENABLE | BMCR_ANRESTART);
    harness_step(g->h, 11 * MS);
    assert_int_equal(rd(g, E1000_STATUS) & STATUS_LU, 0);
    phy_wr(g, PHY_BMCR, BMCR_FULLDPLX); /* 10 Mbit/s, forced: at once */
    assert_int_equal(rd(g, E1000_STATUS) & 0xff, STATUS_LU | STATUS_FD);
    assert_int_equal(phy(g, PHY_BMSR) & 0x20, 0);
    rd(g, E1000_ICR);
    phy_wr(g, PHY_BMCR, BMCR_RESET);
    assert_int_equal(phy(g, PHY_ANAR), 0x0de1);
    harness_step(g->h, 11 * MS);
    assert_int_equal(rd(g, E1000_STATUS), 0x783);
    assert_int_equal(rd(g, E1000_ICR), ICR_LSC);
    phy_wr(g, PHY_BMCR, 0x1140 | BMCR_PDOWN);
    assert_int_equal(rd(g, E1000_STATUS) & STATUS_LU, 0);
    phy_wr(g, PHY_BMCR, 0x1140);
    harness_step(g->h, 11 * MS);
    assert_int_equal(rd(g, E1000_STATUS) & STATUS_LU, STATUS_LU);
    wr(g, E1000_CTRL, CTRL_SLU | CTRL_FRCSPD | CTRL_FRCDPLX | 1u << CTRL_SPEED_SHIFT);
    assert_int_equal(rd(g, E1000_STATUS) & 0xff, STATUS_LU | 1 << STATUS_SPEED_SHIFT);
    rd(g, E1000_ICR);
    wr(g, E1000_CTRL, 0);
    assert_int_equal(rd(g, E1000_STATUS) & STATUS_LU, 0);
    assert_int_equal(rd(g, E1000_ICR), ICR_LSC);
    wr(g, E1000_CTRL, CTRL_SLU | CTRL_PHY_RST);
    wr(g, E1000_CTRL, CTRL_SLU);
    assert_int_equal(rd(g, E1000_STATUS) & STATUS_LU, 0);
    harness_step(g->h, 11 * MS);
    assert_int_equal(rd(g, E1000_STATUS) & STATUS_LU, STATUS_LU);
}

static void cable_pulled(void **state)
{
    struct rig *g = *state;
    uint8_t frame[60];

    fill(frame, sizeof(frame), mac);
    start_rx(g, 0);
    start_tx(g);
    wr(g, E1000_IMS, ICR_LSC);
    net_fake_link(g->n, false);
    assert_true(irq(g));
    assert_int_equal(rd(g, E1000_ICR), ICR_LSC);
    assert_int_equal(rd(g, E1000_STATUS) & STATUS_LU, 0);
    assert_int_equal(phy(g, PHY_BMSR) & 0x24, 0);
    put_legacy(g, TX_BUF, 100, EOP | RS); /* goes nowhere but comes back */
    go(g);
    assert_int_equal(tx_status(g, 0), 1);
    assert_int_equal(g->n->sent_count, 0);
    feed(g, frame, sizeof(frame));
    assert_int_equal(rd(g, E1000_RDH), 0);
    rd(g, E1000_ICR);
    net_fake_link(g->n, true);
    assert_int_equal(rd(g, E1000_STATUS) & STATUS_LU, 0); /* negotiates first */
    harness_step(g->h, 11 * MS);
    assert_true(irq(g));
    assert_int_equal(rd(g, E1000_ICR), ICR_LSC);
    feed(g, frame, sizeof(frame));
    assert_int_equal(rd(g, E1000_RDH), 1);
}

/* ---- transmit ---- */

static void transmit(void **state)
{
    struct rig *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    start_tx(g);
    wr(g, E1000_IMS, ICR_TXDW);
    fill(p, 1500, mac);
    put_legacy(g, TX_BUF, 14, 0);
    put_legacy(g, 0, 100, RS); /* null descriptors carry nothing and come back */
    put_legacy(g, TX_BUF + 14, 986, EOP | IFCS | RS);
    put_data(g, TX_BUF, 500, 0, 0);
    put_data(g, TX_BUF + 1000, 200, EOP | IFCS, 0);
    put_legacy(g, TX_BUF, 20, EOP | IFCS | RS);
    wr(g, E1000_TDT, g->tx_tail);
    assert_int_equal(g->n->sent_count, 0); /* the doorbell only rings */
    run(g);
    assert_int_equal(g->n->sent_count, 3);
    assert_int_equal(sent(g, 0)->len, 1000);
    assert_memory_equal(sent(g, 0)->data, p, 1000);
    assert_int_equal(sent(g, 1)->len, 700);
    assert_memory_equal(sent(g, 1)->data, p, 500);
    assert_memory_equal(sent(g, 1)->data + 500, p + 1000, 200);
    assert_int_equal(sent(g, 2)->len, 60); /* padded with zeros */
    assert_memory_equal(sent(g, 2)->data, p, 20);
    for (unsigned i = 20; i < 60; i++) {
        assert_int_equal(sent(g, 2)->data[i], 0);
    }
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(tx_status(g, i), (0x26u >> i & 1) != 0); /* 1, 2, 5 */
    }
    assert_int_equal(rd(g, E1000_TDH), 6);
    assert_true(irq(g));
    assert_int_equal(rd(g, E1000_ICR), ICR_TXDW | ICR_TXQE);
    wr(g, E1000_TCTL, TCTL_EN); /* without padding */
    put_legacy(g, TX_BUF, 20, EOP | IFCS);
    put_legacy(g, TX_BUF, 13, EOP | IFCS | RS); /* not a frame */
    go(g);
    assert_int_equal(sent(g, 3)->len, 20);
    assert_int_equal(g->n->sent_count, 4);
    assert_int_equal(tx_status(g, 7), 1);
    wr(g, E1000_TCTL, 0);
    put_legacy(g, TX_BUF, 60, EOP | IFCS);
    go(g);
    assert_int_equal(g->n->sent_count, 4);
    wr(g, E1000_TCTL, TCTL_EN);
    run(g);
    assert_int_equal(g->n->sent_count, 5);
    harness_pci_write(g->h, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    put_legacy(g, TX_BUF, 60, EOP | IFCS);
    go(g);
    assert_int_equal(g->n->sent_count, 5);
    harness_pci_write(g->h, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    run(g);
    assert_int_equal(g->n->sent_count, 6);
}

/* The queue of what waits may be in pieces: more than an iovec holds, memory that is not there, packets whose end is missing. */
static void transmit_oddities(void **state)
{
    struct rig *g = *state;
    uint8_t *ram = g->h->plat.ram;

    start_tx(g);
    wr(g, E1000_TDLEN, 128 * 16);
    fill(ram + TX_BUF, 2000, mac);
    for (unsigned i = 0; i < 100; i++) {
        set64(g, TX_RING + 16 * i, TX_BUF + 20 * (i % 50));
        set64(g, TX_RING + 16 * i + 8, 13 | (uint64_t)(i == 99 ? EOP | RS : 0) << 24);
    }
    wr(g, E1000_TDT, 40);
    run(g);
    assert_int_equal(g->n->sent_count, 0); /* its end is not there yet */
    assert_int_equal(rd(g, E1000_TDH), 0);
    wr(g, E1000_TDT, 100);
    run(g);
    assert_int_equal(g->n->sent_count, 1);
    assert_int_equal(sent(g, 0)->len, 1300);
    for (unsigned i = 0; i < 100; i++) {
        assert_memory_equal(sent(g, 0)->data + 13 * i, ram + TX_BUF + 20 * (i % 50), 13);
    }
    start_tx(g);
    put_legacy(g, TX_BUF, 40, 0);
    put_legacy(g, 0xb0000, 20, 0); /* the VGA hole */
    put_legacy(g, UINT64_C(0xfffffffffffffff8), 20, EOP);
    go(g);
    assert_int_equal(sent(g, 1)->len, 80);
    assert_memory_equal(sent(g, 1)->data, ram + TX_BUF, 40);
    assert_int_equal(sent(g, 1)->data[40], 0xff);
    start_tx(g);
    for (unsigned i = 0; i < RING - 1; i++) { /* a full ring without an end of packet */
        put_legacy(g, TX_BUF, 10, RS);
    }
    go(g);
    assert_int_equal(rd(g, E1000_TDH), RING - 1);
    put_legacy(g, TX_BUF, 100, EOP | RS); /* still that packet */
    put_legacy(g, TX_BUF, 101, EOP | RS);
    go(g);
    assert_int_equal(g->n->sent_count, 3);
    assert_int_equal(sent(g, 2)->len, 101);
    put_data(g, TX_BUF, 0xfffff, EOP | RS, 0); /* a megabyte */
    put_data(g, TX_BUF, 16285, EOP | RS, 0);
    put_data(g, TX_BUF, 16284, EOP | RS, 0);
    go(g);
    assert_int_equal(g->n->sent_count, 4);
    assert_int_equal(sent(g, 3)->len, 16284);
    assert_int_equal(rd(g, E1000_TDH), g->tx_tail);
    wr(g, E1000_TDT, 0xffff); /* outside the ring */
    wr(g, E1000_TDLEN, 0);
    wr(g, E1000_TDT, 3);
    run(g);
    assert_int_equal(g->n->sent_count, 4);
}

static void transmit_waits(void **state)
{
    struct rig *g = *state;

    start_tx(g);
    fill(g->h->plat.ram + TX_BUF, 100, mac);
    g->n->room = 2;
    for (unsigned i = 0; i < 5; i++) {
        put_legacy(g, TX_BUF, 100 + i, EOP | RS);
    }
    go(g);
    assert_int_equal(g->n->sent_count, 2);
    assert_int_equal(rd(g, E1000_TDH), 2);
    assert_int_equal(tx_status(g, 1), 1);
    assert_int_equal(tx_status(g, 2), 0);
    put_legacy(g, TX_BUF, 105, EOP | RS);
    go(g);
    assert_int_equal(g->n->sent_count, 2);
    net_fake_room(g->n, UINT_MAX);
    run(g);
    run(g);
    assert_int_equal(g->n->sent_count, 6);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(sent(g, i)->len, 100 + i);
    }
}

static void transmit_burst(void **state)
{
    struct rig *g = *state;
    unsigned rises = 0;

    start_tx(g);
    wr(g, E1000_TDLEN, 512 * 16);
    wr(g, E1000_IMS, ICR_TXDW);
    fill(g->h->plat.ram + TX_BUF, 100, mac);
    for (unsigned i = 0; i < 511; i++) {
        set64(g, TX_RING + 16 * i, TX_BUF);
        set64(g, TX_RING + 16 * i + 8, 60 | (uint64_t)(EOP | RS) << 24);
    }
    wr(g, E1000_TDT, 511);
    for (unsigned i = 0; i < 6; i++) {
        harness_step(g->h, 0);
        rises += irq(g);
        rd(g, E1000_ICR);
    }
    assert_int_equal(g->n->sent_count, 511);
    assert_in_range(rises, 1, 2); /* one per pass of 256, if the guest is as quick */
    /* TXD_LOW: fewer than LWTHRESH * 8 left. */
    wr(g, E1000_TDH, 0);
    wr(g, E1000_TXDCTL, 1u << 25);
    wr(g, E1000_TDT, 7);
    run(g);
    assert_int_equal(rd(g, E1000_ICR) & ICR_TXD_LOW, 0);
    wr(g, E1000_TDT, 20);
    run(g);
    assert_int_equal(rd(g, E1000_ICR) & ICR_TXD_LOW, ICR_TXD_LOW);
}

static void transmit_delay(void **state)
{
    struct rig *g = *state;

    start_tx(g);
    wr(g, E1000_TIDV, 10);
    wr(g, E1000_TADV, 15);
    wr(g, E1000_IMS, ICR_TXDW);
    fill(g->h->plat.ram + TX_BUF, 100, mac);
    put_legacy(g, TX_BUF, 60, EOP | RS | IDE);
    go(g);
    assert_int_equal(tx_status(g, 0), 1);
    harness_step(g->h, 9 * 1024);
    assert_false(irq(g));
    put_legacy(g, TX_BUF, 60, EOP | RS | IDE); /* starts TIDV again, but not TADV */
    go(g);
    harness_step(g->h, 6 * 1024 - 1);
    assert_false(irq(g));
    harness_step(g->h, 1);
    assert_true(irq(g));
    rd(g, E1000_ICR);
    put_legacy(g, TX_BUF, 60, EOP | RS | IDE);
    put_legacy(g, TX_BUF, 60, EOP | RS); /* not to be delayed: both at once */
    go(g);
    assert_true(irq(g));
    rd(g, E1000_ICR);
    harness_step(g->h, MS);
    assert_false(irq(g));
}

static void checksum_passed_on(void **state)
{
    struct rig *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    start_tx(g);
    tcp4(p, 1000, false, false);
    put_legacy(g, TX_BUF, 1054, EOP | IC);
    set64(g, TX_RING + 8, 1054 | 50 << 16 | (uint64_t)(EOP | IC) << 24 | (uint64_t)34 << 40);
    put_context(g, 14, 33, 34, 50, 3, 0, 0);
    put_data(g, TX_BUF, 54, 0, 3);
    put_data(g, TX_BUF + 54, 1000, EOP, 0);
    put_data(g, TX_BUF, 1054, EOP, 2); /* the context stays; no IP checksum */
    go(g);
    assert_int_equal(g->n->sent_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(sent(g, i)->len, 1054);
        assert_true(sent(g, i)->off.csum_needed);
        assert_int_equal(sent(g, i)->off.csum_start, 34);
        assert_int_equal(sent(g, i)->off.csum_offset, 16);
        assert_memory_equal(sent(g, i)->data + 26, p + 26, 1028); /* TCP as it was */
    }
    assert_int_equal(be16(sent(g, 0)->data + 24), 0);
    assert_int_equal(sum16(sent(g, 1)->data + 14, 20, 0), 0xffff); /* IP's is done here */
    assert_int_equal(be16(sent(g, 2)->data + 24), 0);
}

static void checksum_done_here(void **state)
{
    struct rig *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    start_tx(g);
    tcp4(p, 1000, false, false);
    put_context(g, 14, 33, 34, 50, 3, 0, 0);
    put_data(g, TX_BUF, 54, 0, 3);
    put_data(g, TX_BUF + 54, 1000, EOP, 0);
    go(g);
    assert_true(tcp4_good(sent(g, 0)->data, 1054));
    /* A sum over part of the packet, which no host would do: bytes 34 to 99. */
    put(g, 14 | 24 << 8 | 33 << 16 | (uint64_t)34 << 32 | (uint64_t)50 << 40 | (uint64_t)99 << 48,
        (uint64_t)(3 | DEXT) << 24);
    put_data(g, TX_BUF, 1054, EOP, 2);
    go(g);
    assert_int_equal(g->n->sent_count, 2);
    assert_int_equal(be16(sent(g, 1)->data + 50), ~sum16(p + 34, 66, 0) & 0xffff);
    assert_memory_equal(sent(g, 1)->data + 52, p + 52, 1002);
    /* Fields that point outside are ignored. */
    put(g, 200 | 255 << 8 | 0 << 16 | (uint64_t)250 << 32 | (uint64_t)251 << 40, (uint64_t)(3 | DEXT) << 24);
    put_data(g, TX_BUF, 100, EOP, 3);
    go(g);
    assert_memory_equal(sent(g, 2)->data, p, 100);
}

/* 8000 bytes in segments of 1448. */
static void put_tso(struct rig *g, unsigned vlan)
{
    tcp4(g->h->plat.ram + TX_BUF, 8000, false, true);
    put_context(g, 14, 33, 34, 50, 3 | TSE, 54, 1448);
    put_data(g, TX_BUF, 54, TSE | vlan, 3);
    put_data(g, TX_BUF + 54, 8000, TSE | vlan | EOP | RS, 3);
}

static void segmentation_passed_on(void **state)
{
    struct rig *g = *state;
    const struct net_fake_frame *f;

    start_tx(g);
    put_tso(g, 0);
    go(g);
    assert_int_equal(g->n->sent_count, 1);
    f = sent(g, 0);
    assert_int_equal(f->len, 8054);
    assert_int_equal(f->off.gso, NET_GSO_TCPV4);
    assert_int_equal(f->off.gso_size, 1448);
    assert_int_equal(f->off.header_len, 54);
    assert_int_equal(f->off.csum_start, 34);
    assert_int_equal(f->off.csum_offset, 16);
    assert_int_equal(be16(f->data + 16), 8040);
    assert_int_equal(be16(f->data + 50), sum16(f->data + 26, 8, 6 + 8020));
    assert_memory_equal(f->data + 54, g->h->plat.ram + TX_BUF + 54, 8000);
    assert_int_equal(rd(g, E1000_STATS + STAT_GPTC), 6); /* counted as on the wire */
    assert_int_equal(rd(g, E1000_STATS + STAT_GOTC), 8000 + 6 * 58);
    assert_int_equal(rd(g, E1000_STATS + STAT_PTC64 + 20), 5);
    assert_int_equal(rd(g, E1000_STATS + STAT_PTC64 + 16), 1);
    assert_int_equal(rd(g, E1000_STATS + STAT_TSCTC), 1);
    assert_int_equal(g->h->plat.ram[TX_BUF + 16], 0); /* the guest's memory stays as it was */
}

static void segmentation_done_here(void **state)
{
    struct rig *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    start_tx(g);
    wr(g, E1000_CTRL, CTRL_SLU | CTRL_VME);
    wr(g, E1000_VET, 0x8100);
    put_tso(g, 0);
    put_tso(g, VLE);
    set64(g, TX_RING + 16 * 5 + 8, get64(g, TX_RING + 16 * 5 + 8) | UINT64_C(0x2005) << 48);
    go(g);
    assert_int_equal(g->n->sent_count, 12);
    for (unsigned i = 0; i < 12; i++) {
        const struct net_fake_frame *f = sent(g, i);
        unsigned k = i % 6;
        uint8_t plain[1600];
        size_t len = f->len;

        memcpy(plain, f->data, f->len);
        if (i >= 6) {
            assert_int_equal(be32(f->data + 12), 0x81002005);
            len -= 4;
            memmove(plain + 12, plain + 16, len - 12);
        }
        assert_int_equal(len, k < 5 ? 1502 : 8000 - 5 * 1448 + 54);
        assert_true(tcp4_good(plain, len));
        assert_int_equal(be16(plain + 18), 0x12ff + k);           /* IP identification */
        assert_int_equal(be32(plain + 38), 0x1000 + 1448 * k);    /* sequence number */
        assert_int_equal(plain[47], k == 5 ? 0x19 : 0x10);        /* PSH and FIN only at the end */
        assert_memory_equal(plain + 54, p + 54 + 1448 * k, len - 54);
    }
    put_context(g, 14, 33, 34, 50, 3 | TSE, 54, 0); /* no MSS */
    put_data(g, TX_BUF, 8054, TSE | EOP | RS, 3);
    put_context(g, 14, 33, 34, 50, 3 | TSE, 10, 100); /* no header */
    put_data(g, TX_BUF, 8054, TSE | EOP | RS, 3);
    put_context(g, 14, 33, 34, 50, 3 | TSE, 54, 1); /* 8000 segments */
    put_data(g, TX_BUF, 8054, TSE | EOP | RS, 3);
    go(g);
    assert_int_equal(g->n->sent_count, 12);
    assert_int_equal(rd(g, E1000_TDH), g->tx_tail);
    put_context(g, 14, 33, 34, 50, 3 | TSE, 54, 9000); /* one segment is enough */
    put_data(g, TX_BUF, 8054, TSE | EOP | RS, 3);
    go(g);
    assert_int_equal(g->n->sent_count, 13);
    assert_true(tcp4_good(sent(g, 12)->data, 8054));
}

/* TCP over IPv6 and UDP over IPv4, at the lengths' other places. */
static void segmentation_kinds(void **state)
{
    struct rig *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    start_tx(g);
    memset(p, 0, 3000);
    p[12] = 0x86;
    p[13] = 0xdd;
    p[14] = 0x60;
    p[20] = 6;
    p[66] = 0x50;
    put_context(g, 14, 0, 54, 70, 1 | TSE, 74, 1000);
    put_data(g, TX_BUF, 2574, TSE | EOP, 2);
    go(g);
    assert_int_equal(sent(g, 0)->off.gso, NET_GSO_TCPV6);
    assert_int_equal(be16(sent(g, 0)->data + 18), 2520);
    assert_int_equal(be16(sent(g, 0)->data + 70), 2520);
    memset(p, 0, 100);
    p[12] = 8;
    p[14] = 0x45;
    p[23] = 17;
    put_context(g, 14, 33, 34, 40, 2 | TSE, 42, 1000);
    put_data(g, TX_BUF, 2542, TSE | EOP, 3);
    go(g);
    assert_int_equal(g->n->sent_count, 4); /* cut by net/: hosts do not */
    for (unsigned i = 1; i < 4; i++) {
        assert_int_equal(be16(sent(g, i)->data + 38), (i < 3 ? 1000 : 500) + 8);
    }
}

static void vlan_inserted(void **state)
{
    struct rig *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    start_tx(g);
    fill(p, 1500, mac);
    wr(g, E1000_VET, 0x8100);
    put(g, TX_BUF, 100 | (uint64_t)(EOP | VLE) << 24 | UINT64_C(0x3064) << 48);
    go(g);
    assert_int_equal(sent(g, 0)->len, 100); /* CTRL.VME is off */
    wr(g, E1000_CTRL, CTRL_SLU | CTRL_VME);
    put(g, TX_BUF, 1500 | (uint64_t)(EOP | VLE) << 24 | UINT64_C(0x3064) << 48);
    put(g, TX_BUF, 20 | (uint64_t)(EOP | VLE) << 24 | UINT64_C(0x3064) << 48);
    put(g, TX_BUF, 20 | (uint64_t)EOP << 24 | UINT64_C(0x3064) << 48);
    go(g);
    assert_int_equal(sent(g, 1)->len, 1504);
    assert_memory_equal(sent(g, 1)->data, p, 12);
    assert_int_equal(be32(sent(g, 1)->data + 12), 0x81003064);
    assert_memory_equal(sent(g, 1)->data + 16, p + 12, 1488);
    assert_int_equal(sent(g, 2)->len, 60);
    assert_int_equal(be32(sent(g, 2)->data + 12), 0x81003064);
    assert_int_equal(be16(sent(g, 3)->data + 12), 0x1234);
}

/* ---- receive ---- */

static void receive(void **state)
{
    struct rig *g = *state;
    uint8_t frame[1514];
    const uint8_t *ram = g->h->plat.ram;

    fill(frame, sizeof(frame), mac);
    memset(g->h->plat.ram + RX_BUF, 0xcc, 0x40000);
    start_rx(g, 0);
    wr(g, E1000_IMS, ICR_RXT0);
    feed(g, frame, 1514);
    assert_true(irq(g));
    assert_int_equal(rd(g, E1000_ICR), ICR_RXT0);
    assert_int_equal(rx_len(g, 0), 1518); /* with FCS */
    assert_int_equal(rx_status(g, 0), 0x07); /* DD, EOP, IXSM */
    assert_int_equal(rx_errors(g, 0), 0);
    assert_int_equal(rx_desc(g, 0) >> 16 & 0xffff, ~sum16(frame, 1514, 0) & 0xffff);
    assert_memory_equal(ram + RX_BUF, frame, 1514);
    assert_int_equal(get64(g, RX_BUF + 1514) & 0xffffffff, 0);
    assert_int_equal(ram[RX_BUF + 1518], 0xcc);
    assert_int_equal(rd(g, E1000_RDH), 1);
    assert_int_equal(get64(g, RX_RING), RX_BUF); /* the address stays */

    memset(frame + 20, 0x55, 40);
    feed(g, frame, 20); /* padded with zeros, as on a wire */
    assert_int_equal(rx_len(g, 1), 64);
    assert_int_equal(ram[RX_BUF + 0x4000 + 19], frame[19]);
    assert_int_equal(ram[RX_BUF + 0x4000 + 20], 0);
    wr(g, E1000_RCTL, RCTL_EN | RCTL_SECRC);
    feed(g, frame, 60);
    assert_int_equal(rx_len(g, 2), 60);
    wr(g, E1000_RXCSUM, 14);
    feed(g, frame, 100);
    assert_int_equal(rx_desc(g, 3) >> 16 & 0xffff, ~sum16(frame + 14, 86, 0) & 0xffff);
}

static void receive_sizes(void **state)
{
    struct rig *g = *state;
    static uint8_t frame[16384];
    static const struct {
        uint32_t bits;
        unsigned size;
    } rows[] = {{0, 2048},
                {1u << 16, 1024},
                {2u << 16, 512},
                {3u << 16, 256},
                {RCTL_BSEX | 1u << 16, 16384},
                {RCTL_BSEX | 2u << 16, 8192},
                {RCTL_BSEX | 3u << 16, 4096}};

    fill(frame, sizeof(frame), mac);
    for (unsigned k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        unsigned want = 3000 + 4;

        wr(g, E1000_RCTL, 0);
        start_rx(g, rows[k].bits | RCTL_LPE);
        feed(g, frame, 3000);
        for (unsigned i = 0; want > 0; i++) {
            unsigned len = want < rows[k].size ? want : rows[k].size;

            want -= len;
            assert_int_equal(rx_len(g, i), len);
            assert_int_equal(rx_status(g, i) & 3, want == 0 ? 3 : 1);
            if (want >= 4) {
                assert_memory_equal(g->h->plat.ram + RX_BUF + 0x4000 * i, frame + rows[k].size * i, len);
            }
        }
    }
    wr(g, E1000_RCTL, 0);
    rd(g, E1000_STATS + STAT_ROC);
    start_rx(g, 0); /* LPE off */
    feed(g, frame, 1518);
    feed(g, frame, 1519);
    assert_int_equal(rd(g, E1000_RDH), 1);
    assert_int_equal(rd(g, E1000_STATS + STAT_ROC), 1);
    wr(g, E1000_RCTL, RCTL_EN | RCTL_SBP);
    feed(g, frame, 1519);
    assert_int_equal(rd(g, E1000_RDH), 2);
    wr(g, E1000_RCTL, RCTL_EN | RCTL_LPE);
    feed(g, frame, 16380);
    assert_int_equal(rd(g, E1000_RDH), 10);
    feed(g, frame, 16381);
    assert_int_equal(rd(g, E1000_RDH), 10);
}

static void filters(void **state)
{
    struct rig *g = *state;
    uint8_t frame[64];
    static const struct {
        uint8_t dst[6];
        uint32_t rctl, mta_word, mta_bits;
        bool taken, inexact;
    } rows[] = {
        {{0, 0x16, 0x3e, 0, 0, 1}, 0, 0, 0, true, false},
        {{0, 0x16, 0x3e, 0, 0, 2}, 0, 0, 0, false, false},
        {{0, 0x16, 0x3e, 0, 0, 2}, RCTL_MPE | RCTL_BAM, 0, 0, false, false},
        {{0, 0x16, 0x3e, 0, 0, 2}, RCTL_UPE, 0, 0, true, true},
        {{2, 0, 0, 0, 0, 0x77}, 0, 0, 0, true, false}, /* RAL[5] */
        {{2, 0, 0, 0, 0, 0x78}, 0, 0, 0, false, false}, /* RAL[6], not valid */
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 0, 0, 0, false, false},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, RCTL_UPE, 0, 0, false, false},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, RCTL_BAM, 0, 0, true, false},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, RCTL_MPE, 0, 0, true, false},
        {{1, 0, 0x5e, 0, 0x34, 0x12}, RCTL_UPE | RCTL_BAM, 0, 0, false, false},
        {{1, 0, 0x5e, 0, 0x34, 0x12}, RCTL_MPE, 0, 0, true, true},
        /* 0x1234 >> 4 = 0x123, >> 3 = 0x246, >> 2 = 0x48d, low 12 bits 0x234 */
        {{1, 0, 0x5e, 0, 0x34, 0x12}, 0, 0x123 / 32, 1u << (0x123 % 32), true, true},
        {{1, 0, 0x5e, 0, 0x34, 0x12}, 0, 0x123 / 32, ~(1u << (0x123 % 32)), false, false},
        {{1, 0, 0x5e, 0, 0x34, 0x12}, 1u << RCTL_MO_SHIFT, 0x246 / 32, 1u << (0x246 % 32), true, true},
        {{1, 0, 0x5e, 0, 0x34, 0x12}, 2u << RCTL_MO_SHIFT, 0x48d / 32, 1u << (0x48d % 32), true, true},
        {{1, 0, 0x5e, 0, 0x34, 0x12}, 3u << RCTL_MO_SHIFT, 0x234 / 32, 1u << (0x234 % 32), true, true},
    };

    wr(g, E1000_RAL + 8 * 5, 0x00000002);
    wr(g, E1000_RAH + 8 * 5, 0x80007700);
    wr(g, E1000_RAL + 8 * 6, 0x00000002);
    wr(g, E1000_RAH + 8 * 6, 0x00007800);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        fill(frame, sizeof(frame), rows[i].dst);
        wr(g, E1000_RCTL, 0);
        start_rx(g, rows[i].rctl);
        wr(g, E1000_MTA + 4 * rows[i].mta_word, rows[i].mta_bits);
        feed(g, frame, sizeof(frame));
        if ((rd(g, E1000_RDH) == 1) != rows[i].taken) {
            fail_msg("row %u", i);
        }
        assert_int_equal(rx_status(g, 0) >> 7, rows[i].inexact);
        wr(g, E1000_MTA + 4 * rows[i].mta_word, 0);
    }
    wr(g, E1000_RCTL, 0); /* switched off: lost, as on the wire */
    start_rx(g, RCTL_BAM);
    wr(g, E1000_RCTL, 0);
    feed(g, frame, sizeof(frame));
    assert_int_equal(g->n->queue_count, 0);
    assert_int_equal(rd(g, E1000_RDH), 0);
    fill(frame, sizeof(frame), mac); /* pause frames */
    frame[12] = 0x88;
    frame[13] = 0x08;
    wr(g, E1000_RCTL, RCTL_EN | RCTL_DPF);
    feed(g, frame, sizeof(frame));
    assert_int_equal(rd(g, E1000_RDH), 0);
    wr(g, E1000_RCTL, RCTL_EN);
    feed(g, frame, sizeof(frame));
    assert_int_equal(rd(g, E1000_RDH), 1);
}

static void vlan_received(void **state)
{
    struct rig *g = *state;
    uint8_t frame[100];

    fill(frame, sizeof(frame), mac);
    frame[12] = 0x81;
    frame[13] = 0x00;
    frame[14] = 0x60; /* priority 3, VLAN 5 */
    frame[15] = 0x05;
    wr(g, E1000_VET, 0x8100);
    start_rx(g, 0);
    feed(g, frame, sizeof(frame)); /* as it is */
    assert_int_equal(rx_len(g, 0), 104);
    assert_int_equal(rx_status(g, 0) & 8, 0);
    wr(g, E1000_CTRL, CTRL_SLU | CTRL_VME);
    feed(g, frame, sizeof(frame));
    assert_int_equal(rx_len(g, 1), 100);
    assert_int_equal(rx_status(g, 1) & 8, 8);
    assert_int_equal(rx_desc(g, 1) >> 48, 0x6005);
    assert_memory_equal(g->h->plat.ram + RX_BUF + 0x4000, frame, 12);
    assert_memory_equal(g->h->plat.ram + RX_BUF + 0x4000 + 12, frame + 16, 84);
    wr(g, E1000_RCTL, RCTL_EN | RCTL_VFE);
    feed(g, frame, sizeof(frame));
    assert_int_equal(rd(g, E1000_RDH), 2);
    wr(g, E1000_VFTA, 1u << 5);
    feed(g, frame, sizeof(frame));
    assert_int_equal(rd(g, E1000_RDH), 3);
    wr(g, E1000_RCTL, RCTL_EN | RCTL_VFE | RCTL_CFIEN | RCTL_CFI); /* CFI has to be 1 */
    feed(g, frame, sizeof(frame));
    assert_int_equal(rd(g, E1000_RDH), 3);
    frame[14] = 0x70;
    feed(g, frame, sizeof(frame));
    assert_int_equal(rd(g, E1000_RDH), 4);
    frame[12] = 0x08; /* no tag: not filtered */
    feed(g, frame, sizeof(frame));
    assert_int_equal(rd(g, E1000_RDH), 5);
    assert_int_equal(rx_status(g, 4) & 8, 0);
}

static void receive_checksums(void **state)
{
    struct rig *g = *state;
    uint8_t p[600];
    const struct net_offload vouched = {.csum_valid = true};

    start_rx(g, 0);
    wr(g, E1000_RXCSUM, RXCSUM_IPOFLD | RXCSUM_TUOFLD);
    tcp4(p, 501, true, false);
    feed(g, p, 555);
    assert_int_equal(rx_status(g, 0), 0x63); /* TCPCS, IPCS */
    assert_int_equal(rx_errors(g, 0), 0);
    p[100] ^= 1;
    feed(g, p, 555);
    assert_int_equal(rx_status(g, 1), 0x63);
    assert_int_equal(rx_errors(g, 1), 0x20); /* TCPE */
    p[24] ^= 1;
    feed(g, p, 555);
    assert_int_equal(rx_errors(g, 2), 0x60); /* and IPE */
    p[24] ^= 1;
    net_fake_receive(g->n, p, 555, &vouched); /* the host says so */
    run(g);
    assert_int_equal(rx_status(g, 3), 0x63);
    assert_int_equal(rx_errors(g, 3), 0);
    wr(g, E1000_RXCSUM, RXCSUM_IPOFLD);
    feed(g, p, 555);
    assert_int_equal(rx_status(g, 4), 0x43);
    assert_int_equal(rx_errors(g, 4), 0);
    wr(g, E1000_RXCSUM, RXCSUM_TUOFLD);
    p[20] |= 0x20; /* more fragments */
    feed(g, p, 555);
    assert_int_equal(rx_status(g, 5) & 0x60, 0);
    p[12] = 0x88; /* not IP */
    feed(g, p, 555);
    assert_int_equal(rx_status(g, 6), 0x07);
    tcp4(p, 10, true, false); /* padded behind the packet */
    p[64] = p[65] = 0xaa;
    feed(g, p, 66);
    assert_int_equal(rx_status(g, 7), 0x23);
    assert_int_equal(rx_errors(g, 7), 0);
    p[17] = 200; /* longer than the frame */
    feed(g, p, 66);
    assert_int_equal(rx_errors(g, 8), 0x20);
}

static void ring_full(void **state)
{
    struct rig *g = *state;
    uint8_t frame[1000];

    fill(frame, sizeof(frame), mac);
    start_rx(g, 0); /* RDMTS: half */
    for (unsigned i = 0; i < 20; i++) {
        net_fake_receive(g->n, frame, 60 + i, NULL);
        run(g);
        if (i < 6) {
            assert_int_equal(rd(g, E1000_ICR), ICR_RXT0);
        } else if (i == 6) {
            assert_int_equal(rd(g, E1000_ICR), ICR_RXT0 | ICR_RXDMT0); /* eight left of sixteen */
        }
    }
    assert_int_equal(rd(g, E1000_RDH), RING - 1);
    assert_false(g->n->reading);
    assert_int_equal(g->n->queue_count, 4); /* and one in net.c */
    assert_int_equal(rd(g, E1000_STATS + STAT_MPC), 0);
    assert_int_equal(rd(g, E1000_STATS + STAT_RNBC), 1);
    wr(g, E1000_RDT, 2); /* three more */
    run(g);
    net_fake_receive(g->n, frame, 80, NULL);
    run(g);
    assert_int_equal(rd(g, E1000_RDH), 2);
    assert_int_equal(rx_len(g, RING - 1), 60 + 15 + 4);
    assert_int_equal(rx_len(g, 1), 60 + 17 + 4);
    wr(g, E1000_RDT, 10);
    run(g);
    net_fake_receive(g->n, frame, 81, NULL);
    run(g);
    assert_int_equal(rd(g, E1000_RDH), 6);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(rx_len(g, 2 + i), 60 + 18 + i + 4); /* 18, 19, 80, 81: nothing lost, in order */
    }
    /* A frame that never fits is lost and says so. */
    wr(g, E1000_RDLEN, 128 / 16 * 16);
    wr(g, E1000_RDH, 0);
    wr(g, E1000_RDT, 2);
    wr(g, E1000_RCTL, RCTL_EN | RCTL_LPE | 3u << RCTL_BSIZE_SHIFT);
    rd(g, E1000_ICR);
    static uint8_t big[4000];
    fill(big, sizeof(big), mac);
    feed(g, big, sizeof(big));
    assert_int_equal(rd(g, E1000_STATS + STAT_MPC), 1);
    assert_int_equal(rd(g, E1000_ICR), ICR_RXO);
    wr(g, E1000_RDT, 0xfff0); /* outside the ring: as if there were no buffers */
    feed(g, frame, 100);
    assert_int_equal(rd(g, E1000_RDH), 0);
}

static void receive_moderation(void **state)
{
    struct rig *g = *state;
    uint8_t frame[200];

    fill(frame, sizeof(frame), mac);
    start_rx(g, 3u << RCTL_RDMTS_SHIFT & 0);
    wr(g, E1000_IMS, ICR_RXT0 | ICR_SRPD);
    wr(g, E1000_RDTR, 20);
    wr(g, E1000_RADV, 30);
    feed(g, frame, 200);
    assert_int_equal(rx_status(g, 0) & 1, 1);
    harness_step(g->h, 15 * 1024);
    feed(g, frame, 200); /* starts RDTR again, but not RADV */
    harness_step(g->h, 15 * 1024 - 1);
    assert_false(irq(g));
    harness_step(g->h, 1);
    assert_true(irq(g));
    assert_int_equal(rd(g, E1000_ICR), ICR_RXT0);
    feed(g, frame, 200);
    wr(g, E1000_RDTR, RDTR_FPD | 20); /* flush */
    assert_true(irq(g));
    rd(g, E1000_ICR);
    wr(g, E1000_RSRPD, 100);
    feed(g, frame, 97); /* with FCS too long to be small */
    assert_false(irq(g));
    feed(g, frame, 96);
    assert_true(irq(g));
    assert_int_equal(rd(g, E1000_ICR), ICR_RXT0 | ICR_SRPD);
    harness_step(g->h, MS);
    assert_false(irq(g));
    wr(g, E1000_RDTR, 0);
    net_fake_receive(g->n, frame, 200, NULL); /* one interrupt for a batch */
    net_fake_receive(g->n, frame, 200, NULL);
    assert_false(irq(g));
    run(g);
    assert_true(irq(g));
    assert_int_equal(rd(g, E1000_RDH), 7);
}

static void nowhere(void **state)
{
    struct rig *g = *state;
    uint8_t frame[200];

    fill(frame, sizeof(frame), mac);
    start_rx(g, 0);
    set64(g, RX_RING, 0);                                       /* null */
    set64(g, RX_RING + 16, 0xb0000);                            /* not RAM */
    set64(g, RX_RING + 32, UINT64_C(0xffffffffffffffc0));       /* the end of all addresses */
    set64(g, RX_RING + 48, HARNESS_RAM_SIZE - 50);              /* half of it RAM */
    for (unsigned i = 0; i < 4; i++) {
        feed(g, frame, sizeof(frame));
        assert_int_equal(rx_status(g, i) & 3, 3);
    }
    assert_memory_equal(g->h->plat.ram + HARNESS_RAM_SIZE - 50, frame, 50);
    wr(g, E1000_RDBAL, 0xa0000); /* the rings themselves */
    wr(g, E1000_TDBAL, 0xfffffff0);
    wr(g, E1000_TDBAH, 0xffffffff);
    wr(g, E1000_TDLEN, RING * 16);
    wr(g, E1000_TCTL, TCTL_EN);
    wr(g, E1000_TDT, 5);
    feed(g, frame, sizeof(frame));
    run(g);
    assert_int_equal(rd(g, E1000_RDH), 5);
}

/* ---- loopback, reset, counters, state ---- */

static void loopback(void **state)
{
    struct rig *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

    for (unsigned how = 0; how < 3; how++) {
        wr(g, E1000_RCTL, 0);
        start_tx(g);
        start_rx(g, RCTL_BAM | (how < 2 ? (how == 0 ? 1u : 3u) << 6 : 0));
        if (how == 2) {
            phy_wr(g, PHY_BMCR, BMCR_LOOPBACK | BMCR_FULLDPLX | BMCR_SPEED1000);
        }
        fill(p, 1024, broadcast);
        put_legacy(g, TX_BUF, 1024, EOP | IFCS | RS);
        go(g);
        assert_int_equal(g->n->sent_count, 0);
        assert_int_equal(rx_len(g, 0), 1028);
        assert_memory_equal(g->h->plat.ram + RX_BUF, p, 1024);
        feed(g, p, 100); /* the host is not there */
        assert_int_equal(rd(g, E1000_RDH), 1);
        memset(g->h->plat.ram + RX_BUF + 0x4000, 0, 0x20000);
        wr(g, E1000_RXCSUM, RXCSUM_IPOFLD | RXCSUM_TUOFLD);
        put_tso(g, 0);
        go(g);
        assert_int_equal(rd(g, E1000_RDH), 7);
        for (unsigned i = 0; i < 6; i++) {
            assert_int_equal(rx_status(g, 1 + i), 0x63);
            assert_int_equal(rx_errors(g, 1 + i), 0);
            assert_memory_equal(g->h->plat.ram + RX_BUF + 0x4000 * (1 + i) + 54, p + 54 + 1448 * i, i < 5 ? 1448 : 760);
        }
        wr(g, E1000_RDT, 7); /* without descriptors packets are lost, not stuck */
        rd(g, E1000_ICR);
        put_legacy(g, TX_BUF, 100, EOP | RS);
        go(g);
        assert_int_equal(tx_status(g, (g->tx_tail - 1) % RING), 1);
        assert_int_equal(rd(g, E1000_ICR) & ICR_RXO, ICR_RXO);
    }
}

static void reset_in_flight(void **state)
{
    struct rig *g = *state;
    uint8_t frame[100];

    fill(frame, sizeof(frame), mac);
    start_tx(g);
    start_rx(g, 0);
    wr(g, E1000_IMS, 0xffffffff);
    wr(g, E1000_RAL, 0x11223344);
    wr(g, E1000_MTA, 5);
    wr(g, E1000_TIDV, 10);
    g->n->room = 0;
    put_legacy(g, TX_BUF, 100, EOP | RS | IDE);
    go(g);
    net_fake_receive(g->n, frame, sizeof(frame), NULL); /* its interrupt is not yet out */
    wr(g, E1000_TDT, 3);
    wr(g, E1000_CTRL, CTRL_RST);
    net_fake_room(g->n, UINT_MAX);
    harness_step(g->h, 20 * MS);
    assert_false(irq(g));
    assert_int_equal(g->n->sent_count, 0);
    reset_values(state);
    feed(g, frame, sizeof(frame)); /* lost */
    start_tx(g);
    start_rx(g, 0);
    put_legacy(g, TX_BUF, 100, EOP | RS);
    go(g);
    feed(g, frame, sizeof(frame));
    assert_int_equal(g->n->sent_count, 1);
    assert_int_equal(rd(g, E1000_RDH), 1);
    assert_int_equal(rd(g, E1000_ICR), ICR_TXDW | ICR_TXQE | ICR_RXT0);
}

static void counters(void **state)
{
    struct rig *g = *state;
    static const uint16_t sizes[] = {60, 61, 123, 124, 251, 252, 507, 508, 1019, 1020, 1518};
    static const uint8_t expect[] = {1, 2, 2, 2, 2, 2};
    uint8_t frame[1518];
    uint32_t bytes = 0;

    start_tx(g);
    start_rx(g, RCTL_BAM | RCTL_MPE);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fill(frame, sizeof(frame), mac);
        memset(frame, i < 2 ? 0xff : i < 5 ? 0x01 : 0x00, 1);
        memset(frame + 1, i < 2 ? 0xff : frame[1], 1);
        memset(frame + 2, i < 2 ? 0xff : frame[2], 4);
        if (i >= 5) {
            memcpy(frame, mac, 6);
        }
        memcpy(g->h->plat.ram + TX_BUF, frame, sizes[i]);
        put_legacy(g, TX_BUF, sizes[i], EOP);
        go(g);
        feed(g, frame, sizes[i]);
        bytes += sizes[i] + 4u;
    }
    frame[5] = 9; /* not for us */
    feed(g, frame, 100);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(rd(g, E1000_STATS + STAT_PRC64 + 4 * i), expect[i]);
        assert_int_equal(rd(g, E1000_STATS + STAT_PTC64 + 4 * i), expect[i]);
    }
    assert_int_equal(rd(g, E1000_STATS + STAT_GPRC), 11);
    assert_int_equal(rd(g, E1000_STATS + STAT_GPTC), 11);
    assert_int_equal(rd(g, E1000_STATS + STAT_BPRC), 2);
    assert_int_equal(rd(g, E1000_STATS + STAT_BPTC), 2);
    assert_int_equal(rd(g, E1000_STATS + STAT_MPRC), 3);
    assert_int_equal(rd(g, E1000_STATS + STAT_MPTC), 3);
    assert_int_equal(rd(g, E1000_STATS + STAT_TPR), 12);
    assert_int_equal(rd(g, E1000_STATS + STAT_TPT), 11);
    assert_int_equal(rd(g, E1000_STATS + STAT_GORC), bytes);
    assert_int_equal(rd(g, E1000_STATS + STAT_GORC), bytes); /* stays until its upper half is read */
    assert_int_equal(rd(g, E1000_STATS + STAT_GORC + 4), 0);
    assert_int_equal(rd(g, E1000_STATS + STAT_GORC), 0);
    assert_int_equal(rd(g, E1000_STATS + STAT_GOTC), bytes);
    assert_int_equal(rd(g, E1000_STATS + STAT_TOT), bytes);
    assert_int_equal(rd(g, E1000_STATS + STAT_TOR), bytes + 104);
    assert_int_equal(rd(g, E1000_STATS + STAT_GPRC), 0); /* the others at once */
}

static void saved(void **state)
{
    struct rig *g = *state;
    struct rig to;
    uint8_t frame[100];
    uint8_t *ram;

    fill(frame, sizeof(frame), mac);
    assert_true(harness_save_load_save(g->h));
    start_tx(g);
    start_rx(g, 0);
    wr(g, E1000_IMS, ICR_TXDW | ICR_RXT0 | ICR_LSC);
    wr(g, E1000_ITR, 4000);
    wr(g, E1000_TIDV, 100);
    wr(g, E1000_RDTR, 100);
    wr(g, E1000_MTA + 4 * 17, 0xabcdef01);
    wr(g, E1000_FFVT + 8 * 9, 0x12345678);
    phy_wr(g, PHY_ANAR, 0x05e1);
    ee_select(g);
    ee_bits(g, 9, 6u << 6 | 1);
    ee_in(g, 7);
    g->n->room = 1;
    put_context(g, 14, 33, 34, 50, 3, 0, 0);
    put_data(g, TX_BUF, 1054, EOP | RS | IDE, 3);
    put_data(g, TX_BUF, 1054, EOP | RS | IDE, 3); /* waits for room */
    tcp4(g->h->plat.ram + TX_BUF, 1000, false, false);
    go(g);
    assert_int_equal(g->n->sent_count, 1);
    net_fake_receive(g->n, frame, sizeof(frame), NULL);
    phy_wr(g, PHY_BMCR, 0x1140 | BMCR_ANRESTART); /* LSC now, another one later */
    assert_true(harness_save_load_save(g->h));

    make(&to, true);
    assert_true(harness_transfer(g->h, to.h));
    ram = to.h->plat.ram;
    memcpy(ram, g->h->plat.ram, HARNESS_RAM_SIZE);
    assert_true(irq(&to));
    assert_int_equal(rd(&to, E1000_MTA + 4 * 17), 0xabcdef01);
    assert_int_equal(rd(&to, E1000_FFVT + 8 * 9), 0x12345678);
    assert_int_equal(ee_in(&to, 9), 0x003e & 0x1ff);
    assert_int_equal(rd(&to, E1000_ICR) & ICR_LSC, ICR_LSC);
    run(&to);
    harness_step(to.h, 20 * MS);
    assert_int_equal(rd(&to, E1000_ICR), ICR_LSC | ICR_TXDW | ICR_RXT0 | ICR_TXQE);
    assert_int_equal(rd(&to, E1000_STATUS) & STATUS_LU, STATUS_LU);
    assert_int_equal(to.n->sent_count, 0); /* sent while the link was down */
    assert_int_equal(tx_status(&to, 2), 1);
    feed(&to, frame, sizeof(frame));
    assert_int_equal(rd(&to, E1000_RDH), 2);
    unmake(&to);
}

static void hostile_state(void **state)
{
    struct rig *g = *state;
    const struct device_entry *dev = g->h->board.devices;
    struct save_stream s, l;
    unsigned accepted = 0;

    assert_string_equal(dev->ops->name, "e1000");
    save_init(&s);
    assert_int_equal(dev->ops->state(dev->dev, &s), 0);
    for (size_t cut = 0; cut < s.len; cut += 17) {
        save_init_load(&l, s.data, cut);
        assert_int_not_equal(dev->ops->state(dev->dev, &l), 0);
    }
    for (size_t at = 0; at < s.len; at++) { /* each byte spoilt: refused, or a state to live with */
        uint8_t old = s.data[at];

        s.data[at] = (uint8_t)~old;
        save_init_load(&l, s.data, s.len);
        accepted += dev->ops->state(dev->dev, &l) == 0;
        s.data[at] = old;
        wr(g, E1000_TDT, 1);
        run(g);
    }
    assert_in_range(accepted, 1000, s.len - 100);
    save_free(&s);
}

static void no_cable(void **state)
{
    struct harness *h = harness_create();
    struct e1000_config cfg = {.devfn = DEVFN, .rom = mac, .rom_len = sizeof(mac)};
    struct rig g = {.h = h};

    (void)state;
    assert_int_equal(e1000_create(&h->board, &cfg, NULL), 0);
    assert_int_equal(e1000_create(&h->board, &cfg, NULL), -EEXIST);
    map(h);
    assert_int_equal(rd(&g, E1000_STATUS) & STATUS_LU, 0);
    start_tx(&g);
    start_rx(&g, 0);
    put_legacy(&g, TX_BUF, 100, EOP | RS);
    go(&g);
    assert_int_equal(tx_status(&g, 0), 1);
    harness_pci_write(h, DEVFN, PCI_ROM_ADDRESS, 4, 0xf1000001);
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0x003e1600);
    harness_destroy(h);
}

static void unplugged(void **state)
{
    struct rig *g = *state;

    start_tx(g);
    put_legacy(g, TX_BUF, 100, EOP | RS);
    wr(g, E1000_TDT, g->tx_tail);
    pci_unplug(pci_find(g->h->board.pci, DEVFN));
    run(g);
    assert_int_equal(g->n->sent_count, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define P(f) cmocka_unit_test_setup_teardown(f, setup_plain, teardown)
    const struct CMUnitTest tests[] = {
        T(config_space),
        T(reset_values),
        T(masks),
        T(narrow_accesses),
        T(io_window),
        T(causes),
        T(throttling),
        T(eeprom_content),
        T(eeprom_serial),
        T(phy_registers),
        T(negotiation),
        T(cable_pulled),
        T(transmit),
        T(transmit_oddities),
        T(transmit_waits),
        T(transmit_burst),
        T(transmit_delay),
        T(checksum_passed_on),
        P(checksum_done_here),
        T(segmentation_passed_on),
        P(segmentation_done_here),
        T(segmentation_kinds),
        T(vlan_inserted),
        T(receive),
        T(receive_sizes),
        T(filters),
        T(vlan_received),
        T(receive_checksums),
        T(ring_full),
        T(receive_moderation),
        T(nowhere),
        T(loopback),
        T(reset_in_flight),
        T(counters),
        T(saved),
        T(hostile_state),
        cmocka_unit_test(no_cable),
        T(unplugged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
