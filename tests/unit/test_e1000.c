/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 82540EM: registers, interrupts, EEPROM, PHY, reset, saved state. The rings are in
 * test_e1000_rings.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "tests/unit/e1000_rig.h"

/* ---- registers ---- */

static void config_space(void **state)
{
    struct e1k *g = *state;

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
    struct e1k *g = *state;
    static const struct {
        uint32_t reg, value;
    } rows[] = {
        {E1000_CTRL, 0x00140240}, {4, 0x00140240},          {E1000_STATUS, 0x783},
        {E1000_EECD, 0x118},      {E1000_MDIC, 0x10000000}, {E1000_LEDCTL, 0x602},
        {E1000_PBA, 0x00100030},  {E1000_RAL, 0x003e1600},  {E1000_RAH, 0x80000100},
    };

    for (uint32_t reg = 0; reg < E1000_BAR_SIZE; reg += 4) {
        uint32_t expect = 0;

        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            expect = rows[i].reg == reg ? rows[i].value : expect;
        }
        if (e1k_rd(g, reg) != expect) {
            fail_msg("register %#x is %#x, not %#x", reg, e1k_rd(g, reg), expect);
        }
    }
}

static void masks(void **state)
{
    struct e1k *g = *state;
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
                e1k_wr(g, reg, 1u << bit);
                if (e1k_rd(g, reg) != (fixed | (1u << bit & rows[i].bits))) {
                    fail_msg("register %#x bit %u: %#x", reg, bit, e1k_rd(g, reg));
                }
            }
            e1k_wr(g, reg, 0);
            assert_int_equal(e1k_rd(g, reg), fixed);
        }
    }
    e1k_wr(g, E1000_PBA, 0x28);
    assert_int_equal(e1k_rd(g, E1000_PBA), 0x180028); /* the transmitter gets the rest of 64 KiB */
}

static void narrow_accesses(void **state)
{
    struct e1k *g = *state;

    e1k_wr(g, E1000_FCAL, 0x11223344);
    assert_int_equal(harness_read(g->h, BAR + E1000_FCAL + 1, 1), 0x33);
    assert_int_equal(harness_read(g->h, BAR + E1000_FCAL + 2, 2), 0x1122);
    assert_int_equal(harness_read(g->h, BAR + E1000_FCAL, 8), UINT64_C(0x11223344));
    harness_write(g->h, BAR + E1000_FCAL, 2, 0);
    harness_write(g->h, BAR + E1000_FCAL + 1, 1, 0);
    assert_int_equal(e1k_rd(g, E1000_FCAL), 0x11223344);
    e1k_wr(g, 4, 0x40000241); /* CTRL's shadow */
    assert_int_equal(e1k_rd(g, E1000_CTRL), 0x40000241);
}

static void io_window(void **state)
{
    struct e1k *g = *state;

    harness_out(g->h, IO, 4, E1000_FCAL);
    assert_int_equal(harness_in(g->h, IO, 4), E1000_FCAL);
    harness_out(g->h, IO + 4, 4, 0xcafe1234);
    assert_int_equal(harness_in(g->h, IO + 4, 4), 0xcafe1234);
    assert_int_equal(e1k_rd(g, E1000_FCAL), 0xcafe1234);
    assert_int_equal(harness_in(g->h, IO + 6, 2), 0xcafe);
    harness_out(g->h, IO + 4, 2, 0); /* only whole registers */
    assert_int_equal(e1k_rd(g, E1000_FCAL), 0xcafe1234);
    harness_out(g->h, IO, 4, 0xfffffffc);
    harness_out(g->h, IO + 4, 4, 1);
    assert_int_equal(harness_in(g->h, IO + 4, 4), 0);
    assert_int_equal(harness_in(g->h, IO + 8, 4), 0);
    harness_out(g->h, IO, 4, E1000_CTRL); /* how Linux resets this chip */
    harness_out(g->h, IO + 4, 4, CTRL_RST);
    assert_int_equal(e1k_rd(g, E1000_FCAL), 0);
}

/* ---- interrupts ---- */

static void causes(void **state)
{
    struct e1k *g = *state;

    for (unsigned bit = 0; bit < 10; bit++) { /* as the drivers' self test: reserved bits too */
        e1k_wr(g, E1000_IMC, 0xffffffff);
        e1k_wr(g, E1000_ICS, 1u << bit);
        assert_false(e1k_irq(g));
        assert_int_equal(e1k_rd(g, E1000_ICR), 1u << bit);
        e1k_wr(g, E1000_IMS, 1u << bit);
        assert_int_equal(e1k_rd(g, E1000_IMS), 1u << bit);
        e1k_wr(g, E1000_ICS, ~(1u << bit) & 0x7fff);
        assert_false(e1k_irq(g));
        e1k_wr(g, E1000_ICS, 1u << bit);
        assert_true(e1k_irq(g));
        assert_int_equal(e1k_rd(g, E1000_ICR), 0x7fff);
        assert_false(e1k_irq(g));
        assert_int_equal(e1k_rd(g, E1000_ICR), 0);
    }
    e1k_wr(g, E1000_ICS, ICR_RXT0 | ICR_LSC);
    e1k_wr(g, E1000_IMS, ICR_RXT0);
    assert_true(e1k_irq(g)); /* unmasking shows what waits */
    e1k_wr(g, E1000_ICR, ICR_RXT0);
    assert_false(e1k_irq(g)); /* writing 1 clears */
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_LSC);
    e1k_wr(g, E1000_ICS, ICR_RXT0);
    e1k_wr(g, E1000_IMC, ICR_RXT0);
    assert_false(e1k_irq(g));
    e1k_wr(g, E1000_ICS, 0xffffffff);
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_BITS);
}

static void throttling(void **state)
{
    struct e1k *g = *state;

    e1k_wr(g, E1000_ITR, 1000); /* 256 us */
    e1k_wr(g, E1000_IMS, ICR_RXT0);
    e1k_wr(g, E1000_ICS, ICR_RXT0);
    assert_true(e1k_irq(g)); /* the first one at once */
    e1k_rd(g, E1000_ICR);
    e1k_wr(g, E1000_ICS, ICR_RXT0);
    assert_false(e1k_irq(g));
    harness_step(g->h, 255999);
    assert_false(e1k_irq(g));
    harness_step(g->h, 1);
    assert_true(e1k_irq(g));
    e1k_rd(g, E1000_ICR);
    e1k_wr(g, E1000_ICS, ICR_RXT0);
    assert_false(e1k_irq(g));
    e1k_wr(g, E1000_ITR, 0); /* off: at once */
    assert_true(e1k_irq(g));
    e1k_rd(g, E1000_ICR);
    e1k_wr(g, E1000_ITR, 1000);
    e1k_wr(g, E1000_ICS, ICR_RXT0);
    assert_true(e1k_irq(g));
    e1k_rd(g, E1000_ICR);
    e1k_wr(g, E1000_ICS, ICR_RXT0);
    e1k_rd(g, E1000_ICR); /* taken back before its time */
    harness_step(g->h, MS);
    assert_false(e1k_irq(g));
}

/* ---- EEPROM and PHY ---- */

static uint16_t eerd(struct e1k *g, unsigned word)
{
    e1k_wr(g, E1000_EERD, EERD_START | word << 8);
    assert_int_equal(e1k_rd(g, E1000_EERD) & 0xffff, EERD_DONE | word << 8);
    return (uint16_t)(e1k_rd(g, E1000_EERD) >> 16);
}

static void eeprom_content(void **state)
{
    struct e1k *g = *state;
    uint16_t sum = 0;

    for (unsigned i = 0; i < 64; i++) {
        sum = (uint16_t)(sum + eerd(g, i));
    }
    assert_int_equal(sum, 0xbaba);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(eerd(g, i), e1k_mac[2 * i] | e1k_mac[2 * i + 1] << 8);
    }
    assert_int_equal(eerd(g, 64), eerd(g, 0)); /* six address bits */
    e1k_wr(g, E1000_EERD, 5u << 8);            /* without START nothing happens */
    assert_int_equal(e1k_rd(g, E1000_EERD), 5u << 8);
}

static void ee_bits(struct e1k *g, unsigned bits, unsigned value)
{
    while (bits-- > 0) {
        uint32_t di = (value >> bits & 1) != 0 ? EECD_DI : 0;

        e1k_wr(g, E1000_EECD, EECD_REQ | EECD_CS | di);
        e1k_wr(g, E1000_EECD, EECD_REQ | EECD_CS | di | EECD_SK);
        e1k_wr(g, E1000_EECD, EECD_REQ | EECD_CS | di);
    }
}

static unsigned ee_in(struct e1k *g, unsigned bits)
{
    unsigned v = 0;

    while (bits-- > 0) {
        e1k_wr(g, E1000_EECD, EECD_REQ | EECD_CS | EECD_SK);
        v = v << 1 | ((e1k_rd(g, E1000_EECD) & EECD_DO) != 0);
        e1k_wr(g, E1000_EECD, EECD_REQ | EECD_CS);
    }
    return v;
}

static void ee_select(struct e1k *g)
{
    e1k_wr(g, E1000_EECD, EECD_REQ);
    e1k_wr(g, E1000_EECD, EECD_REQ | EECD_CS);
}

static void eeprom_serial(void **state)
{
    struct e1k *g = *state;

    e1k_wr(g, E1000_EECD, EECD_REQ);
    assert_int_equal(e1k_rd(g, E1000_EECD) & (EECD_GNT | EECD_PRES), EECD_GNT | EECD_PRES);
    ee_select(g);
    ee_bits(g, 3, 0); /* before the start bit */
    ee_bits(g, 9, 6u << 6 | 0);
    assert_int_equal(e1k_rd(g, E1000_EECD) & EECD_DO, 0); /* the leading zero */
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
    assert_int_equal(e1k_rd(g, E1000_EECD) & EECD_DO, EECD_DO); /* ready */
    assert_int_equal(eerd(g, 0x30), 0xbeef);
    ee_select(g);
    ee_bits(g, 9, 7u << 6 | 0x30); /* erase */
    assert_int_equal(eerd(g, 0x30), 0xffff);
    ee_select(g);
    ee_bits(g, 9, 5u << 6 | 0); /* another address */
    ee_bits(g, 16, 0x2202);
    e1k_wr(g, E1000_CTRL_EXT, CTRL_EXT_EE_RST);
    assert_int_equal(e1k_rd(g, E1000_RAL), 0x003e2202);
    ee_select(g);
    ee_bits(g, 9, 4u << 6); /* write disable */
    ee_select(g);
    ee_bits(g, 9, 7u << 6);
    board_reset(&g->h->board); /* which it survives */
    e1k_map(g->h);
    assert_int_equal(eerd(g, 0), 0x2202);
    assert_int_equal(e1k_rd(g, E1000_RAL), 0x003e2202);
}

static uint16_t phy(struct e1k *g, unsigned reg)
{
    e1k_wr(g, E1000_MDIC, 2u << 26 | 1u << 21 | reg << 16);
    assert_int_equal(e1k_rd(g, E1000_MDIC) >> 16, 0x1820 | reg);
    return (uint16_t)e1k_rd(g, E1000_MDIC);
}

static void phy_registers(void **state)
{
    struct e1k *g = *state;
    static const uint16_t expect[32] = {
        [0] = 0x1140,  [1] = 0x796d,  [2] = 0x0141,  [3] = 0x0c20,  [4] = 0x0de1,
        [5] = 0x41e1,  [6] = 0x0001,  [7] = 0x2001,  [9] = 0x0e00,  [10] = 0x3c00,
        [15] = 0x3000, [16] = 0x0360, [17] = 0xac00, [20] = 0x0d60, [24] = 0x4100,
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
            e1k_phy_wr(g, reg, 0xffff);
            assert_int_equal(phy(g, reg), expect[reg]);
            continue;
        }
        e1k_phy_wr(g, reg, 0xffff);
        assert_int_equal(phy(g, reg), (expect[reg] & ~writable[reg]) | writable[reg]);
        e1k_phy_wr(g, reg, 0);
        assert_int_equal(phy(g, reg), expect[reg] & ~writable[reg]);
        e1k_phy_wr(g, reg, expect[reg]);
    }
    e1k_wr(g, E1000_MDIC, 2u << 26 | 2u << 21); /* nobody at address 2 */
    assert_int_equal(e1k_rd(g, E1000_MDIC) & (MDIC_R | MDIC_E), MDIC_R | MDIC_E);
    e1k_wr(g, E1000_IMS, ICR_MDAC);
    e1k_wr(g, E1000_MDIC, 2u << 26 | 1u << 21 | MDIC_I);
    assert_true(e1k_irq(g));
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_MDAC);
}

static void negotiation(void **state)
{
    struct e1k *g = *state;

    e1k_wr(g, E1000_IMS, ICR_LSC);
    e1k_phy_wr(g, PHY_BMCR, BMCR_ANENABLE | BMCR_ANRESTART | BMCR_FULLDPLX | BMCR_SPEED1000);
    assert_int_equal(phy(g, PHY_BMCR), 0x1140); /* the restart bit clears itself */
    assert_int_equal(e1k_rd(g, E1000_STATUS) & STATUS_LU, 0);
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_LSC);
    assert_int_equal(phy(g, PHY_BMSR), 0x7949);
    assert_int_equal(phy(g, PHY_PSSR), 0);
    harness_step(g->h, 11 * MS);
    assert_true(e1k_irq(g));
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_LSC);
    assert_int_equal(e1k_rd(g, E1000_STATUS), 0x783);
    assert_int_equal(phy(g, PHY_BMSR), 0x7969); /* latched low once */
    assert_int_equal(phy(g, PHY_BMSR), 0x796d);

    e1k_phy_wr(g, PHY_GTCR, 0); /* no 1000BASE-T: 100 Mbit/s half duplex */
    e1k_phy_wr(g, PHY_ANAR, 0x00e1);
    e1k_phy_wr(g, PHY_BMCR, BMCR_ANENABLE | BMCR_ANRESTART);
    harness_step(g->h, 11 * MS);
    assert_int_equal(e1k_rd(g, E1000_STATUS) & 0xff, STATUS_LU | 1 << STATUS_SPEED_SHIFT);
    assert_int_equal(phy(g, PHY_PSSR), 0x4c00);
    e1k_phy_wr(g, PHY_ANAR, 0x0001); /* nothing in common */
    e1k_phy_wr(g, PHY_BMCR, BMCR_ANENABLE | BMCR_ANRESTART);
    harness_step(g->h, 11 * MS);
    assert_int_equal(e1k_rd(g, E1000_STATUS) & STATUS_LU, 0);
    e1k_phy_wr(g, PHY_BMCR, BMCR_FULLDPLX); /* 10 Mbit/s, forced: at once */
    assert_int_equal(e1k_rd(g, E1000_STATUS) & 0xff, STATUS_LU | STATUS_FD);
    assert_int_equal(phy(g, PHY_BMSR) & 0x20, 0);
    e1k_rd(g, E1000_ICR);
    e1k_phy_wr(g, PHY_BMCR, BMCR_RESET);
    assert_int_equal(phy(g, PHY_ANAR), 0x0de1);
    harness_step(g->h, 11 * MS);
    assert_int_equal(e1k_rd(g, E1000_STATUS), 0x783);
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_LSC);
    e1k_phy_wr(g, PHY_BMCR, 0x1140 | BMCR_PDOWN);
    assert_int_equal(e1k_rd(g, E1000_STATUS) & STATUS_LU, 0);
    e1k_phy_wr(g, PHY_BMCR, 0x1140);
    harness_step(g->h, 11 * MS);
    assert_int_equal(e1k_rd(g, E1000_STATUS) & STATUS_LU, STATUS_LU);
    e1k_wr(g, E1000_CTRL, CTRL_SLU | CTRL_FRCSPD | CTRL_FRCDPLX | 1u << CTRL_SPEED_SHIFT);
    assert_int_equal(e1k_rd(g, E1000_STATUS) & 0xff, STATUS_LU | 1 << STATUS_SPEED_SHIFT);
    e1k_rd(g, E1000_ICR);
    e1k_wr(g, E1000_CTRL, 0);
    assert_int_equal(e1k_rd(g, E1000_STATUS) & STATUS_LU, 0);
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_LSC);
    e1k_wr(g, E1000_CTRL, CTRL_SLU | CTRL_PHY_RST);
    e1k_wr(g, E1000_CTRL, CTRL_SLU);
    assert_int_equal(e1k_rd(g, E1000_STATUS) & STATUS_LU, 0);
    harness_step(g->h, 11 * MS);
    assert_int_equal(e1k_rd(g, E1000_STATUS) & STATUS_LU, STATUS_LU);
    e1k_wr(g, E1000_CTRL, CTRL_RST | CTRL_PHY_RST); /* both */
    assert_int_equal(e1k_rd(g, E1000_CTRL), 0x00140240);
    assert_int_equal(e1k_rd(g, E1000_STATUS) & STATUS_LU, 0);
    harness_step(g->h, 11 * MS);
    assert_int_equal(e1k_rd(g, E1000_STATUS), 0x783);
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_LSC);
}

static void cable_pulled(void **state)
{
    struct e1k *g = *state;
    uint8_t frame[60];

    e1k_fill(frame, sizeof(frame), e1k_mac);
    e1k_start_rx(g, 0);
    e1k_start_tx(g);
    e1k_wr(g, E1000_IMS, ICR_LSC);
    net_fake_link(g->n, false);
    assert_true(e1k_irq(g));
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_LSC);
    assert_int_equal(e1k_rd(g, E1000_STATUS) & STATUS_LU, 0);
    assert_int_equal(phy(g, PHY_BMSR) & 0x24, 0);
    e1k_put_legacy(g, TX_BUF, 100, EOP | RS); /* goes nowhere but comes back */
    e1k_go(g);
    assert_int_equal(e1k_tx_status(g, 0), 1);
    assert_int_equal(g->n->sent_count, 0);
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(e1k_rd(g, E1000_RDH), 0);
    e1k_rd(g, E1000_ICR);
    net_fake_link(g->n, true);
    assert_int_equal(e1k_rd(g, E1000_STATUS) & STATUS_LU, 0); /* negotiates first */
    harness_step(g->h, 11 * MS);
    assert_true(e1k_irq(g));
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_LSC);
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(e1k_rd(g, E1000_RDH), 1);
}

/* ---- reset and state ---- */

static void reset_in_flight(void **state)
{
    struct e1k *g = *state;
    uint8_t frame[100];

    e1k_fill(frame, sizeof(frame), e1k_mac);
    e1k_start_tx(g);
    e1k_start_rx(g, 0);
    e1k_wr(g, E1000_IMS, 0xffffffff);
    e1k_wr(g, E1000_RAL, 0x11223344);
    e1k_wr(g, E1000_MTA, 5);
    e1k_wr(g, E1000_TIDV, 10);
    g->n->room = 0;
    e1k_put_legacy(g, TX_BUF, 100, EOP | RS | IDE);
    e1k_go(g);
    net_fake_receive(g->n, frame, sizeof(frame), NULL); /* its interrupt is not yet out */
    e1k_wr(g, E1000_TDT, 3);
    e1k_wr(g, E1000_CTRL, CTRL_RST);
    net_fake_room(g->n, UINT_MAX);
    harness_step(g->h, 20 * MS);
    assert_false(e1k_irq(g));
    assert_int_equal(g->n->sent_count, 0);
    reset_values(state);
    e1k_feed(g, frame, sizeof(frame)); /* lost */
    e1k_start_tx(g);
    e1k_start_rx(g, 0);
    e1k_put_legacy(g, TX_BUF, 100, EOP | RS);
    e1k_go(g);
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(g->n->sent_count, 1);
    assert_int_equal(e1k_rd(g, E1000_RDH), 1);
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_TXDW | ICR_TXQE | ICR_RXT0);
}

static void saved(void **state)
{
    struct e1k *g = *state;
    struct e1k to;
    uint8_t frame[100];
    uint8_t *ram;

    e1k_fill(frame, sizeof(frame), e1k_mac);
    assert_true(harness_save_load_save(g->h));
    e1k_start_tx(g);
    e1k_start_rx(g, 0);
    e1k_wr(g, E1000_IMS, ICR_TXDW | ICR_RXT0 | ICR_LSC);
    e1k_wr(g, E1000_ITR, 4000);
    e1k_wr(g, E1000_TIDV, 100);
    e1k_wr(g, E1000_RDTR, 100);
    e1k_wr(g, E1000_MTA + 4 * 17, 0xabcdef01);
    e1k_wr(g, E1000_FFVT + 8 * 9, 0x12345678);
    e1k_phy_wr(g, PHY_ANAR, 0x05e1);
    ee_select(g);
    ee_bits(g, 9, 6u << 6 | 1);
    ee_in(g, 7);
    g->n->room = 1;
    e1k_put_context(g, 14, 33, 34, 50, 3, 0, 0);
    e1k_put_data(g, TX_BUF, 1054, EOP | RS | IDE, 3);
    e1k_put_data(g, TX_BUF, 1054, EOP | RS | IDE, 3); /* waits for room */
    e1k_tcp4(g->h->plat.ram + TX_BUF, 1000, false, false);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 1);
    net_fake_receive(g->n, frame, sizeof(frame), NULL);
    e1k_phy_wr(g, PHY_BMCR, 0x1140 | BMCR_ANRESTART); /* LSC now, another one later */
    assert_true(harness_save_load_save(g->h));

    e1k_make(&to, true);
    assert_true(harness_transfer(g->h, to.h));
    ram = to.h->plat.ram;
    memcpy(ram, g->h->plat.ram, HARNESS_RAM_SIZE);
    assert_true(e1k_irq(&to));
    assert_int_equal(e1k_rd(&to, E1000_MTA + 4 * 17), 0xabcdef01);
    assert_int_equal(e1k_rd(&to, E1000_FFVT + 8 * 9), 0x12345678);
    assert_int_equal(ee_in(&to, 9), 0x003e & 0x1ff);
    assert_int_equal(e1k_rd(&to, E1000_ICR) & ICR_LSC, ICR_LSC);
    e1k_run(&to);
    harness_step(to.h, 20 * MS);
    assert_int_equal(e1k_rd(&to, E1000_ICR), ICR_LSC | ICR_TXDW | ICR_RXT0 | ICR_TXQE);
    assert_int_equal(e1k_rd(&to, E1000_STATUS) & STATUS_LU, STATUS_LU);
    assert_int_equal(to.n->sent_count, 0); /* sent while the link was down */
    assert_int_equal(e1k_tx_status(&to, 2), 1);
    e1k_feed(&to, frame, sizeof(frame));
    assert_int_equal(e1k_rd(&to, E1000_RDH), 2);
    e1k_unmake(&to);
}

static void hostile_state(void **state)
{
    struct e1k *g = *state;
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
        e1k_wr(g, E1000_TDT, 1);
        e1k_run(g);
    }
    assert_in_range(accepted, 1000, s.len - 100);
    save_free(&s);
}

static void no_cable(void **state)
{
    struct harness *h = harness_create();
    struct e1000_config cfg = {.devfn = DEVFN, .rom = e1k_mac, .rom_len = sizeof(e1k_mac)};
    struct e1k g = {.h = h};

    (void)state;
    assert_int_equal(e1000_create(&h->board, &cfg, NULL), 0);
    assert_int_equal(e1000_create(&h->board, &cfg, NULL), -EEXIST);
    e1k_map(h);
    assert_int_equal(e1k_rd(&g, E1000_STATUS) & STATUS_LU, 0);
    e1k_start_tx(&g);
    e1k_start_rx(&g, 0);
    e1k_put_legacy(&g, TX_BUF, 100, EOP | RS);
    e1k_go(&g);
    assert_int_equal(e1k_tx_status(&g, 0), 1);
    harness_pci_write(h, DEVFN, PCI_ROM_ADDRESS, 4, 0xf1000001);
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0x003e1600);
    harness_destroy(h);
}

static void unplugged(void **state)
{
    struct e1k *g = *state;

    e1k_start_tx(g);
    e1k_put_legacy(g, TX_BUF, 100, EOP | RS);
    e1k_wr(g, E1000_TDT, g->tx_tail);
    pci_unplug(pci_find(g->h->board.pci, DEVFN));
    e1k_run(g);
    assert_int_equal(g->n->sent_count, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, e1k_setup, e1k_teardown)
    const struct CMUnitTest tests[] = {
        T(config_space),    T(reset_values),  T(masks),         T(narrow_accesses),
        T(io_window),       T(causes),        T(throttling),    T(eeprom_content),
        T(eeprom_serial),   T(phy_registers), T(negotiation),   T(cable_pulled),
        T(reset_in_flight), T(saved),         T(hostile_state), cmocka_unit_test(no_cable),
        T(unplugged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
