/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RTL8139C+: registers, interrupts, counters, life. */
#include "hw/rtl8139.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "hw/rtl8139_int.h"

enum {
    TCTR_TICK_NS = 30, /* TCTR counts PCI clocks, 33 MHz */
    TALLY_BYTES = 64,
    EEM_AUTOLOAD = 0x40,
    EEM_PROGRAM = 0x80,
    EEM_CONFIG = 0xc0,
    EECS = 8,
    EESK = 4,
    EEDI = 2,
};
/* PHY register bits, IEEE 802.3 22.2.4. */
enum {
    BMCR_RESET = 0x8000,
    BMCR_SPEED = 0x2000,
    BMCR_ANE = 0x1000,
    BMCR_DUPLEX = 0x0100,
    BMSR_DONE = 0x0020,
    BMSR_LINK = 0x0004,
    CSCR_FIXED = 0x0340, /* LD (no loss of link pulses), heart beat, 100 Mbit/s */
    CSCR_CON_STATUS = 0x0008,
    CSCR_LINK_OK = 0x0400,
    CSCR_LINK_CHANGE = 0x0800
};

void rtl8139_raise(struct rtl8139 *d, uint16_t bits)
{
    d->r.isr |= bits;
    pci_set_intx(&d->pd, (d->r.isr & d->r.imr) != 0);
}

static bool link_up(const struct rtl8139 *d)
{
    return d->h.net != NULL && d->pd.present && net_link_up(d->h.net);
}

/* ---- timer ---- */

static uint64_t tctr_elapsed_ns(const struct rtl8139 *d)
{
    return loop_now(d->h.loop, LOOP_VIRTUAL) - d->r.tctr_zero_ns;
}

static void arm_tctr(struct rtl8139 *d)
{
    uint64_t ticks = tctr_elapsed_ns(d) / TCTR_TICK_NS;
    uint64_t at = (ticks & ~UINT64_C(0xffffffff)) + d->r.timer_int;

    timer_cancel(&d->h.tctr_timer);
    if (d->r.timer_int != 0) {
        at += at <= ticks ? UINT64_C(1) << 32 : 0;
        timer_set(&d->h.tctr_timer, d->r.tctr_zero_ns + at * TCTR_TICK_NS);
    }
}

static void tctr_matches(void *dev)
{
    struct rtl8139 *d = dev;

    rtl8139_raise(d, RTL8139_ISR_TIMEOUT);
    arm_tctr(d);
}

/* ---- tally counters ---- */

static uint8_t *put(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        *p++ = (uint8_t)(v >> 8 * i);
    }
    return p;
}

static void dump_tally(struct rtl8139 *d)
{
    const struct rtl8139_tally *t = &d->r.tally;
    uint64_t gpa = (uint64_t)d->r.tsd[1] << 32 | (d->r.tsd[0] & ~(TALLY_BYTES - 1u));
    uint8_t raw[TALLY_BYTES];
    uint8_t *p = raw;

    p = put(p, t->tx_ok, 8);
    p = put(p, t->rx_ok, 8);
    p = put(p, t->tx_err, 8);
    p = put(p, t->rx_err, 4);
    p = put(p, t->miss_pkt, 2);
    p = put(p, t->fae, 2);
    p = put(p, t->tx_1col, 4);
    p = put(p, t->tx_mcol, 4);
    p = put(p, t->rx_ok_phy, 8);
    p = put(p, t->rx_ok_brd, 8);
    p = put(p, t->rx_ok_mul, 4);
    p = put(p, t->tx_abt, 2);
    put(p, t->tx_undrn, 2);
    if (pci_master(&d->pd)) {
        guestmem_write(d->h.mem, gpa, raw, sizeof(raw));
    }
    d->r.tsd[0] &= ~8u; /* done */
}

/* ---- reset ---- */

static void load_eeprom_id(struct rtl8139 *d)
{
    const uint16_t *w = d->r.eeprom.words + 7;

    d->r.idr[0] = (uint32_t)w[0] | (uint32_t)w[1] << 16;
    d->r.idr[1] = w[2];
}

/* CR RST: transmitter, receiver and interrupts; addresses, configuration and PHY stay. */
static void soft_reset(struct rtl8139 *d)
{
    struct rtl8139_regs *r = &d->r;

    for (unsigned i = 0; i < 4; i++) {
        r->tsd[i] = RTL8139_TSD_OWN;
        r->tsad[i] = 0;
    }
    r->rbstart = r->rcr = r->mpc = r->timer_int = r->rdsar[0] = r->rdsar[1] = 0;
    r->tcr = 0x74800000; /* HWVERID of the C+ */
    r->cbr = r->imr = r->isr = r->mulint = r->cpcr = 0;
    r->capr = 0xfff0;
    r->cr = r->tppoll = r->tx_cur = r->rx_index = r->mtps = 0;
    r->tx_index[0] = r->tx_index[1] = 0;
    r->tctr_zero_ns = loop_now(d->h.loop, LOOP_VIRTUAL);
    timer_cancel(&d->h.tctr_timer);
    bottom_half_cancel(&d->h.tx_bh);
    rtl8139_raise(d, 0);
    rtl8139_rx_kick(d);
}

static void rtl8139_reset(void *dev)
{
    struct rtl8139 *d = dev;
    struct eeprom93c46 eeprom = d->r.eeprom;

    memset(&d->r, 0, sizeof(d->r));
    d->r.eeprom = eeprom;
    eeprom93c46_reset(&d->r.eeprom);
    load_eeprom_id(d);
    d->r.config1 = 0x0c; /* registers are in both spaces */
    d->r.config3 = 0x01;
    d->r.bmcr = BMCR_ANE;
    d->r.anar = 0x05e1;
    soft_reset(d);
}

/* ---- registers ---- */

struct reg_desc;
typedef uint32_t reg_read_fn(const struct rtl8139 *d, const struct reg_desc *reg);
/* Runs after the masks: was: the value before; raw: what was written, in its place; mask: bits that
 * the access covers. */
typedef void reg_write_fn(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                          uint32_t mask);

struct reg_desc {
    uint8_t offset, width;
    uint16_t field; /* in struct rtl8139_regs; width bytes (x86 byte order) */
    uint32_t wmask, w1c;
    bool locked;     /* written only while 9346CR is in config mode */
    reg_read_fn *rd; /* instead of the field */
    reg_write_fn *wr;
};

static uint32_t rd_zero(const struct rtl8139 *d, const struct reg_desc *reg)
{
    (void)d, (void)reg;
    return 0;
}

static uint32_t rd_cr(const struct rtl8139 *d, const struct reg_desc *reg)
{
    (void)reg;
    return (uint32_t)d->r.cr | (rtl8139_rx_empty(d) ? RTL8139_CR_BUFE : 0u);
}

static uint32_t rd_tctr(const struct rtl8139 *d, const struct reg_desc *reg)
{
    (void)reg;
    return (uint32_t)(tctr_elapsed_ns(d) / TCTR_TICK_NS);
}

static uint32_t rd_9346cr(const struct rtl8139 *d, const struct reg_desc *reg)
{
    (void)reg;
    return (uint32_t)d->r.cr9346 |
           (eeprom93c46_out(&d->r.eeprom) && (d->r.cr9346 & EEM_CONFIG) == EEM_PROGRAM ? 1u : 0u);
}

static uint32_t rd_msr(const struct rtl8139 *d, const struct reg_desc *reg)
{
    (void)reg;
    return 0xd0u | (link_up(d) ? 0u : 4u); /* both flow controls, auxiliary power; 100 Mbit/s */
}

static uint32_t rd_rerid(const struct rtl8139 *d, const struct reg_desc *reg)
{
    (void)d, (void)reg;
    return 0x20;
}

static uint32_t rd_bmsr(const struct rtl8139 *d, const struct reg_desc *reg)
{
    (void)reg;
    return 0x7809u | (link_up(d) ? BMSR_LINK | BMSR_DONE : 0u);
}

static uint32_t rd_anlpar(const struct rtl8139 *d, const struct reg_desc *reg)
{
    (void)reg;
    return link_up(d) ? 0x05e1 : 0;
}

static uint32_t rd_aner(const struct rtl8139 *d, const struct reg_desc *reg)
{
    (void)reg;
    return link_up(d) ? 1 : 0;
}

/*
 * Con_status (data sheet 6.27), and two bits that it calls reserved and the drivers of the C mode know: link OK, and
 * link change, until the interrupt of the change is acknowledged. Linux's 8139too looks at its PHY only where the latter
 * is set. The peer always reads 0340h, so its guests keep their carrier with that driver.
 */
static uint32_t rd_cscr(const struct rtl8139 *d, const struct reg_desc *reg)
{
    (void)reg;
    return CSCR_FIXED | (link_up(d) ? CSCR_CON_STATUS | CSCR_LINK_OK : 0u) |
           ((d->r.isr & RTL8139_ISR_PUN) != 0 ? CSCR_LINK_CHANGE : 0u);
}

/* TSAD gathers TOK, TUN, TABT and OWN of the four descriptors. */
static uint32_t rd_tsad(const struct rtl8139 *d, const struct reg_desc *reg)
{
    uint32_t v = 0;

    (void)reg;
    for (unsigned i = 0; i < 4; i++) {
        v |= (d->r.tsd[i] & RTL8139_TSD_TOK ? 0x1000u : 0) << i;
        v |= (d->r.tsd[i] & RTL8139_TSD_TUN ? 0x0100u : 0) << i;
        v |= (d->r.tsd[i] & RTL8139_TSD_OWN ? 0x0001u : 0) << i;
    }
    return v;
}

static void wr_tsd(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                   uint32_t mask)
{
    unsigned i = (reg->offset - RTL8139_TSD0) / 4u;

    (void)was, (void)raw, (void)mask;
    if ((d->r.cpcr & (RTL8139_CPCR_TX | RTL8139_CPCR_RX)) != 0) { /* DTCCR */
        if (i == 0 && (d->r.tsd[0] & 8) != 0) {
            dump_tally(d);
        }
        return;
    }
    d->r.tsd[i] &= RTL8139_TSD_SIZE | RTL8139_TSD_OWN | RTL8139_TSD_ERTXTH;
    if ((d->r.tsd[i] & RTL8139_TSD_OWN) == 0) {
        rtl8139_tx_kick(d);
    }
}

static void wr_tsad(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                    uint32_t mask)
{
    unsigned i = (reg->offset - RTL8139_TSAD0) / 4u;

    (void)was, (void)raw, (void)mask;
    if ((d->r.cpcr & RTL8139_CPCR_TX) != 0) {
        d->r.tx_index[i / 2] = 0; /* a new ring starts at its start */
    }
}

static void wr_cr(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                  uint32_t mask)
{
    uint8_t on;

    (void)reg, (void)mask;
    if ((raw & RTL8139_CR_RST) != 0) {
        soft_reset(d);
        was = 0;
        d->r.cr = raw & (RTL8139_CR_TE | RTL8139_CR_RE);
    }
    on = (uint8_t)(d->r.cr & ~was);
    if ((on & RTL8139_CR_RE) != 0) {
        d->r.rx_index = 0;
    }
    if ((on & RTL8139_CR_TE) != 0) {
        d->r.tx_index[0] = d->r.tx_index[1] = 0;
        rtl8139_tx_kick(d);
    }
    rtl8139_rx_kick(d);
}

static void wr_rx(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                  uint32_t mask)
{
    (void)reg, (void)was, (void)raw, (void)mask;
    rtl8139_rx_kick(d);
}

/* IMR, ISR. A driver writes them when it has handled the ring: the only sign that a C+ ring has
 * room again. */
static void wr_irq(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                   uint32_t mask)
{
    bool listens = reg->offset == RTL8139_IMR && (d->r.imr & ~was & RTL8139_ISR_ROK) != 0;

    (void)raw, (void)mask;
    /* DEVIATION: a driver that listens again while frames are in the ring hears of them, because
     * Linux's 8139too acknowledges each frame, stops at the end of its budget and would leave the
     * rest there until the next frame arrives. */
    rtl8139_raise(d, listens && rtl8139_rx_unread(d) ? RTL8139_ISR_ROK : 0);
    rtl8139_rx_kick(d);
}

/* TCR can be written only while the transmitter is on. */
static void wr_tcr(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                   uint32_t mask)
{
    (void)reg, (void)raw, (void)mask;
    if ((d->r.cr & RTL8139_CR_TE) == 0) {
        d->r.tcr = was;
    }
}

static void wr_tctr(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                    uint32_t mask)
{
    (void)reg, (void)was, (void)raw, (void)mask;
    d->r.tctr_zero_ns = loop_now(d->h.loop, LOOP_VIRTUAL);
    arm_tctr(d);
}

static void wr_mpc(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                   uint32_t mask)
{
    (void)reg, (void)was, (void)raw, (void)mask;
    d->r.mpc = 0;
}

static void wr_timer_int(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                         uint32_t mask)
{
    (void)reg, (void)was, (void)raw, (void)mask;
    arm_tctr(d);
}

static void wr_9346cr(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                      uint32_t mask)
{
    uint8_t v = d->r.cr9346;

    (void)reg, (void)was, (void)raw, (void)mask;
    if ((v & EEM_CONFIG) == EEM_PROGRAM) {
        eeprom93c46_drive(&d->r.eeprom, (v & EECS) != 0, (v & EESK) != 0, (v & EEDI) != 0);
    } else {
        eeprom93c46_drive(&d->r.eeprom, false, false, false);
    }
    if ((v & EEM_CONFIG) == EEM_AUTOLOAD) {
        load_eeprom_id(d);
        d->r.cr9346 &= (uint8_t)~EEM_CONFIG; /* back to normal by itself */
    }
}

static void wr_bmcr(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                    uint32_t mask)
{
    (void)reg, (void)was, (void)mask;
    if ((raw & BMCR_RESET) != 0) {
        d->r.bmcr = BMCR_ANE;
        d->r.anar = 0x05e1;
    }
}

static void wr_tppoll(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                      uint32_t mask)
{
    (void)reg, (void)was, (void)mask;
    if ((raw & RTL8139_TPPOLL_FSWINT) != 0) {
        rtl8139_raise(d, RTL8139_ISR_SWINT);
    }
    if ((raw & (RTL8139_TPPOLL_HPQ | RTL8139_TPPOLL_NPQ)) != 0 &&
        (d->r.cpcr & RTL8139_CPCR_TX) != 0) {
        d->r.tppoll |= raw & (RTL8139_TPPOLL_HPQ | RTL8139_TPPOLL_NPQ);
        rtl8139_tx_kick(d);
    }
}

static void wr_rdsar(struct rtl8139 *d, const struct reg_desc *reg, uint32_t was, uint32_t raw,
                     uint32_t mask)
{
    (void)reg, (void)was, (void)raw, (void)mask;
    d->r.rx_index = 0;
    rtl8139_rx_kick(d);
}

#define F(name) offsetof(struct rtl8139_regs, name)
#define ALL     0xffffffffu
/* DEVIATION: IDR0-5 take accesses of any size and without config mode, because drivers for the peer
 * were seen to write bytes. What is not here reads as 0 and ignores writes: cable tuning, wake-up
 * frames, flash, CardBus. */
static const struct reg_desc regs[] = {
    {RTL8139_IDR0, 4, F(idr[0]), ALL, 0, false, NULL, NULL},
    {RTL8139_IDR4, 2, F(idr[1]), ALL, 0, false, NULL, NULL},
    {RTL8139_MAR0, 4, F(mar[0]), ALL, 0, false, NULL, NULL},
    {RTL8139_MAR4, 4, F(mar[1]), ALL, 0, false, NULL, NULL},
    {RTL8139_TSD0, 4, F(tsd[0]), ALL, 0, false, NULL, wr_tsd},
    {RTL8139_TSD0 + 4, 4, F(tsd[1]), ALL, 0, false, NULL, wr_tsd},
    {RTL8139_TSD0 + 8, 4, F(tsd[2]), ALL, 0, false, NULL, wr_tsd},
    {RTL8139_TSD0 + 12, 4, F(tsd[3]), ALL, 0, false, NULL, wr_tsd},
    {RTL8139_TSAD0, 4, F(tsad[0]), ALL, 0, false, NULL, wr_tsad},
    {RTL8139_TSAD0 + 4, 4, F(tsad[1]), ALL, 0, false, NULL, wr_tsad},
    {RTL8139_TSAD0 + 8, 4, F(tsad[2]), ALL, 0, false, NULL, wr_tsad},
    {RTL8139_TSAD0 + 12, 4, F(tsad[3]), ALL, 0, false, NULL, wr_tsad},
    {RTL8139_RBSTART, 4, F(rbstart), ALL, 0, false, NULL, NULL},
    {RTL8139_CR, 1, F(cr), RTL8139_CR_TE | RTL8139_CR_RE, 0, false, rd_cr, wr_cr},
    {RTL8139_CAPR, 2, F(capr), ALL, 0, false, NULL, wr_rx},
    {RTL8139_CBR, 2, F(cbr), 0, 0, false, NULL, NULL},
    {RTL8139_IMR, 2, F(imr), RTL8139_ISR_ALL, 0, false, NULL, wr_irq},
    {RTL8139_ISR, 2, F(isr), 0, RTL8139_ISR_ALL, false, NULL, wr_irq},
    {RTL8139_TCR, 4, F(tcr), 0x030f07f0, 0, false, NULL, wr_tcr},
    {RTL8139_RCR, 4, F(rcr), 0x0f03ffbf, 0, false, NULL, wr_rx},
    {RTL8139_TCTR, 4, 0, 0, 0, false, rd_tctr, wr_tctr},
    {RTL8139_MPC, 4, F(mpc), 0, 0, false, NULL, wr_mpc},
    {RTL8139_9346CR, 1, F(cr9346), EEM_CONFIG | EECS | EESK | EEDI, 0, false, rd_9346cr, wr_9346cr},
    {RTL8139_CONFIG0, 1, F(config0), 0x07, 0, true, NULL, NULL},
    {RTL8139_CONFIG1, 1, F(config1), 0xf3, 0, true, NULL, NULL},
    {RTL8139_TIMERINT, 4, F(timer_int), ALL, 0, false, NULL, wr_timer_int},
    {RTL8139_MSR, 1, 0, 0, 0, false, rd_msr, NULL},
    {RTL8139_CONFIG3, 1, F(config3), 0x70, 0, true, NULL, NULL},
    {RTL8139_CONFIG4, 1, F(config4), 0xf5, 0, true, NULL, NULL},
    {RTL8139_MULINT, 2, F(mulint), 0x0fff, 0, false, NULL, NULL},
    {RTL8139_RERID, 1, 0, 0, 0, false, rd_rerid, NULL},
    {RTL8139_TSAD, 2, 0, 0, 0, false, rd_tsad, NULL},
    {RTL8139_BMCR, 2, F(bmcr), BMCR_SPEED | BMCR_ANE | BMCR_DUPLEX, 0, false, NULL, wr_bmcr},
    {RTL8139_BMSR, 2, 0, 0, 0, false, rd_bmsr, NULL},
    {RTL8139_ANAR, 2, F(anar), ALL, 0, false, NULL, NULL},
    {RTL8139_ANLPAR, 2, 0, 0, 0, false, rd_anlpar, NULL},
    {RTL8139_ANER, 2, 0, 0, 0, false, rd_aner, NULL},
    {RTL8139_CSCR, 2, 0, 0, 0, false, rd_cscr, NULL},
    {RTL8139_CONFIG5, 1, F(config5), 0x7f, 0, false, NULL, NULL},
    {RTL8139_TPPOLL, 1, 0, 0, 0, false, rd_zero, wr_tppoll},
    {RTL8139_CPCR, 2, F(cpcr), 0x007b, 0, false, NULL, wr_rx},
    {RTL8139_RDSAR, 4, F(rdsar[0]), ALL, 0, false, NULL, wr_rdsar},
    {RTL8139_RDSAR + 4, 4, F(rdsar[1]), ALL, 0, false, NULL, wr_rdsar},
    {RTL8139_MTPS, 1, F(mtps), ALL, 0, false, NULL, NULL},
};

static uint8_t reg_at[256]; /* index + 1 of the register at an offset; the same for all cards */

static void index_regs(void)
{
    for (size_t i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
        memset(reg_at + regs[i].offset, (int)i + 1, regs[i].width);
    }
}

static uint32_t get_reg(const struct rtl8139 *d, const struct reg_desc *reg)
{
    uint32_t v = 0;

    if (reg->rd != NULL) {
        return reg->rd(d, reg);
    }
    memcpy(&v, (const uint8_t *)&d->r + reg->field, reg->width);
    return v;
}

static void set_reg(struct rtl8139 *d, const struct reg_desc *reg, uint32_t raw, uint32_t mask)
{
    uint32_t was = 0;
    uint32_t v;

    if (reg->locked && (d->r.cr9346 & EEM_CONFIG) != EEM_CONFIG) {
        return;
    }
    if ((reg->wmask | reg->w1c) != 0) {
        memcpy(&was, (const uint8_t *)&d->r + reg->field, reg->width);
        v = (was & ~(reg->wmask & mask)) | (raw & reg->wmask & mask);
        v &= ~(raw & reg->w1c & mask);
        memcpy((uint8_t *)&d->r + reg->field, &v, reg->width);
    }
    if (reg->wr != NULL) {
        reg->wr(d, reg, was, raw & mask, mask);
    }
}

/* The register at an offset and the bytes of it that an access of left bytes there covers; 1 byte
 * where there is none. */
static const struct reg_desc *find_reg(uint64_t offset, unsigned left, unsigned *sub, unsigned *n)
{
    uint8_t i = offset < sizeof(reg_at) ? reg_at[offset] : 0;
    const struct reg_desc *reg = i != 0 ? &regs[i - 1] : NULL;

    *sub = reg != NULL ? (unsigned)(offset - reg->offset) : 0;
    *n = reg == NULL ? 1 : left < reg->width - *sub ? left : reg->width - *sub;
    return reg;
}

static uint64_t rtl8139_read(void *dev, uint64_t offset, unsigned size)
{
    const struct rtl8139 *d = dev;
    uint64_t v = 0;

    for (unsigned i = 0, sub, n; i < size; i += n) {
        const struct reg_desc *reg = find_reg(offset + i, size - i, &sub, &n);

        if (reg != NULL) {
            uint64_t part = (uint64_t)get_reg(d, reg) >> 8 * sub & (UINT64_MAX >> (64 - 8 * n));

            v |= part << 8 * i;
        }
    }
    return v;
}

static void rtl8139_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct rtl8139 *d = dev;

    trace("rtl8139", "write", "%02x/%u = %08x", (unsigned)offset, size, (unsigned)value);
    for (unsigned i = 0, sub, n; i < size; i += n) {
        const struct reg_desc *reg = find_reg(offset + i, size - i, &sub, &n);

        if (reg != NULL) {
            uint32_t mask = (uint32_t)(UINT64_MAX >> (64 - 8 * n)) << 8 * sub;

            set_reg(d, reg, (uint32_t)(value >> 8 * i) << 8 * sub, mask);
        }
    }
}

static const struct io_ops io_ops = {.read = rtl8139_read, .write = rtl8139_write, .max_size = 4};

/* ---- descriptors ---- */

struct rtl8139_desc rtl8139_get_desc(const struct rtl8139 *d, uint64_t base, unsigned index)
{
    struct rtl8139_desc desc = {.gpa = base + (uint64_t)index * RTL8139_DESC_BYTES};
    uint8_t raw[RTL8139_DESC_BYTES];

    guestmem_read(d->h.mem, desc.gpa, raw, sizeof(raw));
    desc.dw0 = pci_get32(raw, 0);
    desc.dw1 = pci_get32(raw, 4);
    desc.buf = (uint64_t)pci_get32(raw, 12) << 32 | pci_get32(raw, 8);
    desc.next = (desc.dw0 & RTL8139_DESC_EOR) != 0 ? 0 : (index + 1) % RTL8139_RING;
    return desc;
}

/* ---- life ---- */

static void sent_ready(void *nic)
{
    rtl8139_tx_kick(nic);
}

static void link_changed(void *nic, bool up)
{
    (void)up;
    rtl8139_raise(nic, RTL8139_ISR_PUN);
}

static const struct net_client client = {rtl8139_receive, sent_ready, link_changed};

static void config_written(void *dev, unsigned reg, unsigned size)
{
    if (reg <= PCI_COMMAND && reg + size > PCI_COMMAND) { /* bus mastering may be on now */
        rtl8139_tx_kick(dev);
        rtl8139_rx_kick(dev);
    }
}

static void tally_state(struct rtl8139_tally *t, struct save_stream *s)
{
    save_u64(s, &t->tx_ok);
    save_u64(s, &t->rx_ok);
    save_u64(s, &t->tx_err);
    save_u32(s, &t->rx_err);
    save_u16(s, &t->miss_pkt);
    save_u16(s, &t->fae);
    save_u32(s, &t->tx_1col);
    save_u32(s, &t->tx_mcol);
    save_u64(s, &t->rx_ok_phy);
    save_u64(s, &t->rx_ok_brd);
    save_u32(s, &t->rx_ok_mul);
    save_u16(s, &t->tx_abt);
    save_u16(s, &t->tx_undrn);
}

static int rtl8139_state(void *dev, struct save_stream *s)
{
    struct rtl8139 *d = dev;
    struct rtl8139_regs r = d->r;
    uint64_t elapsed = tctr_elapsed_ns(d) % ((UINT64_C(1) << 32) * TCTR_TICK_NS);

    /* The plain registers, in the table's order. */
    for (size_t i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
        uint32_t v = 0;

        if ((regs[i].wmask | regs[i].w1c) == 0) {
            continue;
        }
        memcpy(&v, (const uint8_t *)&r + regs[i].field, regs[i].width);
        save_u32(s, &v);
        memcpy((uint8_t *)&r + regs[i].field, &v, regs[i].width);
    }
    save_u32(s, &r.mpc);
    save_u16(s, &r.cbr);
    save_u8(s, &r.tppoll);
    save_u8(s, &r.tx_cur);
    save_u8(s, &r.rx_index);
    save_u8(s, &r.tx_index[0]);
    save_u8(s, &r.tx_index[1]);
    save_u64(s, &elapsed);
    tally_state(&r.tally, s);
    eeprom93c46_state(&r.eeprom, s);
    if (!s->loading) {
        return s->error;
    }
    if (s->error != 0 || r.tx_cur > 3 || r.rx_index >= RTL8139_RING ||
        r.tx_index[0] >= RTL8139_RING || r.tx_index[1] >= RTL8139_RING || (r.cbr & 3) != 0 ||
        r.mpc > 0xffffff || elapsed >= (UINT64_C(1) << 32) * TCTR_TICK_NS) {
        return -EINVAL;
    }
    r.cr &= RTL8139_CR_TE | RTL8139_CR_RE;
    r.tppoll &= RTL8139_TPPOLL_HPQ | RTL8139_TPPOLL_NPQ;
    r.tctr_zero_ns = loop_now(d->h.loop, LOOP_VIRTUAL) - elapsed;
    d->r = r;
    arm_tctr(d);
    rtl8139_raise(d, 0);
    rtl8139_tx_kick(d);
    rtl8139_rx_kick(d);
    return 0;
}

static void rtl8139_destroy(void *dev)
{
    struct rtl8139 *d = dev;

    bottom_half_cancel(&d->h.tx_bh);
    timer_cancel(&d->h.tctr_timer);
    timer_cancel(&d->h.rx_timer);
    free(d);
}

static const struct pci_device_ops ops = {
    .base = {.name = "rtl8139",
             .version = 1,
             .reset = rtl8139_reset,
             .state = rtl8139_state,
             .destroy = rtl8139_destroy},
    .config_written = config_written,
};

/* Data sheet 7, EEPROM contents. */
static void fill_eeprom(struct eeprom93c46 *e, const uint8_t mac[6])
{
    static const uint16_t head[] = {0x8129, 0x10ec, 0x8139, 0x1af4, 0x1100};

    memcpy(e->words, head, sizeof(head));
    for (unsigned i = 0; i < 3; i++) {
        e->words[7 + i] = pci_get16(mac, 2 * i);
    }
}

int rtl8139_create(struct board *b, const struct rtl8139_config *cfg, struct net *net)
{
    static const struct pci_config_id id = {
        .vendor = 0x10ec,
        .device = 0x8139,
        .class_device = 0x0200,
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
        .revision = 0x20,
        .interrupt_pin = 1,
    };
    const struct net_caps want = {.csum = true};
    struct rtl8139 *d = calloc(1, sizeof(*d));
    struct net_caps got;
    int ret;

    if (d == NULL) {
        return -ENOMEM;
    }
    index_regs();
    d->cfg = *cfg;
    d->h.mem = b->mem;
    d->h.loop = b->loop;
    d->h.net = net;
    bottom_half_init(&d->h.tx_bh, b->loop, rtl8139_tx_run, d);
    timer_init(&d->h.tctr_timer, b->loop, LOOP_VIRTUAL, tctr_matches, d);
    timer_init(&d->h.rx_timer, b->loop, LOOP_VIRTUAL, rtl8139_rx_timer, d);
    fill_eeprom(&d->r.eeprom, cfg->mac);
    pci_init(&d->pd, b, &ops, d, cfg->devfn, &id);
    pci_add_bar(&d->pd, 0, PCI_BAR_IO, 256, &io_ops);
    pci_add_bar(&d->pd, 1, PCI_BAR_MEM, 256, &io_ops);
    if (cfg->rom != NULL) {
        pci_set_rom(&d->pd, cfg->rom, cfg->rom_len);
    }
    ret = pci_finish(&d->pd);
    if (ret != 0) {
        rtl8139_destroy(d);
        return ret;
    }
    if (net != NULL) {
        net_attach(net, &client, d, &want, &got);
        net_receive_ready(net);
    }
    return 0;
}
