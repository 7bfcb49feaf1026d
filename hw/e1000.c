/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 82540EM: registers (SDM 13), interrupts (3.2.7, 3.4.3, 13.4.17-21), reset (14.5), PCI function,
 * saved state. */
#include "hw/e1000_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

enum {
    DELAY_UNIT_NS = 1024, /* RDTR, RADV, TIDV, TADV */
    ITR_UNIT_NS = 256,
    PBA_KIB = 64,
    STATS_WORDS = 64,
    IO_IOADDR = 0, /* SDM 13.2.2 */
    IO_IODATA = 4,
    IO_SIZE = 0x40,
};

/*
 * A register, or `count` of them every `stride` bytes. wmask: bits that software stores; hw: more
 * bits that may be found set (checked when state is loaded). rd gives what is read, wr runs after
 * the masks with the value as it was written and the old one.
 */
struct reg_desc {
    uint32_t first;
    uint16_t count, stride;
    uint32_t wmask, hw, reset;
    uint32_t (*rd)(struct e1000 *e, uint32_t offset);
    void (*wr)(struct e1000 *e, uint32_t value, uint32_t old);
};

/* ---- interrupts ---- */

static uint64_t now_ns(const struct e1000 *e)
{
    return loop_now(e->pd.board->loop, LOOP_VIRTUAL);
}

/* The pin follows ICR & IMS; it does not rise more often than every ITR * 256 ns. */
void e1000_update_irq(struct e1000 *e)
{
    uint64_t interval = (uint64_t)e1000_get(e, E1000_ITR) * ITR_UNIT_NS;

    if ((e1000_get(e, E1000_ICR) & e1000_get(e, E1000_IMS)) == 0) {
        timer_cancel(&e->h.itr_timer);
        pci_set_intx(&e->pd, false);
    } else if (!e->pd.intx_level) {
        uint64_t now = interval != 0 ? now_ns(e) : 0;

        if (now < e->h.itr_next_ns && interval != 0) {
            if (!e->h.itr_timer.armed) {
                timer_set(&e->h.itr_timer, e->h.itr_next_ns);
            }
            return;
        }
        timer_cancel(&e->h.itr_timer);
        e->h.itr_next_ns = now + interval;
        pci_set_intx(&e->pd, true);
    }
}

static void itr_expired(void *arg)
{
    e1000_update_irq(arg);
}

void e1000_cause(struct e1000 *e, uint32_t bits)
{
    if ((bits & ICR_TXDW) != 0 && e->r.tx_delayed) { /* comes with it */
        e->r.tx_delayed = false;
        timer_cancel(&e->h.tx_timer);
    }
    if ((bits & ICR_RXT0) != 0 && e->r.rx_delayed) {
        e->r.rx_delayed = false;
        timer_cancel(&e->h.rx_timer);
    }
    *e1000_mac(e, E1000_ICR) |= bits & ICR_BITS;
    e1000_update_irq(e);
}

void e1000_cause_delayed(struct e1000 *e, bool tx, uint32_t delay, uint32_t limit)
{
    bool *waiting = tx ? &e->r.tx_delayed : &e->r.rx_delayed;
    uint64_t *limit_ns = tx ? &e->h.tx_limit_ns : &e->h.rx_limit_ns;
    uint64_t now = now_ns(e);
    uint64_t at = now + (uint64_t)delay * DELAY_UNIT_NS;

    if (!*waiting) {
        *waiting = true;
        *limit_ns = limit != 0 ? now + (uint64_t)limit * DELAY_UNIT_NS : UINT64_MAX;
    }
    timer_set(tx ? &e->h.tx_timer : &e->h.rx_timer, at < *limit_ns ? at : *limit_ns);
}

static void tx_expired(void *arg)
{
    e1000_cause(arg, ICR_TXDW);
}

static void rx_expired(void *arg)
{
    e1000_cause(arg, ICR_RXT0);
}

/* ---- counters: they stick at their ends and clear when read ---- */

void e1000_stat(struct e1000 *e, enum e1000_stat stat, uint32_t n)
{
    uint32_t *v = e1000_mac(e, E1000_STATS + (uint32_t)stat);

    *v = *v + n < n ? UINT32_MAX : *v + n;
}

void e1000_stat64(struct e1000 *e, enum e1000_stat stat, uint64_t n)
{
    uint32_t *v = e1000_mac(e, E1000_STATS + (uint32_t)stat);
    uint64_t sum = ((uint64_t)v[1] << 32 | v[0]) + n;

    if (sum < n) {
        sum = UINT64_MAX;
    }
    v[0] = (uint32_t)sum;
    v[1] = (uint32_t)(sum >> 32);
}

void e1000_stat_size(struct e1000 *e, enum e1000_stat first, size_t bytes, uint32_t frames)
{
    static const uint16_t upto[] = {64, 127, 255, 511, 1023, 1522};

    for (unsigned i = 0; i < sizeof(upto) / sizeof(upto[0]); i++) {
        if (bytes <= upto[i]) {
            e1000_stat(e, (enum e1000_stat)(first + 4 * i), frames);
            break;
        }
    }
}

static uint32_t stat_read(struct e1000 *e, uint32_t offset)
{
    uint32_t *v = e1000_mac(e, offset);
    uint32_t value = *v;

    switch (offset - E1000_STATS) {
    case STAT_GORC:
    case STAT_GOTC:
    case STAT_TOR:
    case STAT_TOT: /* cleared with their upper half, which is to be read second */
        break;
    case STAT_GORC + 4:
    case STAT_GOTC + 4:
    case STAT_TOR + 4:
    case STAT_TOT + 4:
        v[-1] = v[0] = 0;
        break;
    default:
        *v = 0;
    }
    return value;
}

/* ---- link and reset ---- */

void e1000_update_link(struct e1000 *e)
{
    bool up = e1000_phy_link(e) && (e1000_get(e, E1000_CTRL) & CTRL_SLU) != 0;

    if (!e1000_phy_link(e)) {
        e->r.link_dropped = true;
    }
    if (up != e->r.link_up) {
        trace("e1000", "link", "%s", up ? "up" : "down");
        e->r.link_up = up;
        e1000_cause(e, ICR_LSC);
        if (up && e->h.net != NULL) {
            net_receive_ready(e->h.net);
        }
    }
}

static void load_address(struct e1000 *e)
{
    const uint16_t *w = e->r.eeprom;

    *e1000_mac(e, E1000_RAL) = (uint32_t)w[0] | (uint32_t)w[1] << 16;
    *e1000_mac(e, E1000_RAH) = w[2] | RAH_AV;
}

static void mac_reset(struct e1000 *e);

/* ---- register side effects ---- */

static void rings_changed(struct e1000 *e)
{
    e1000_tx_kick(e);
    if (e->h.net != NULL && e1000_rx_enabled(e)) {
        net_receive_ready(e->h.net);
    }
}

static void ring_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    (void)value, (void)old;
    rings_changed(e);
}

static void tdt_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    (void)value, (void)old;
    e1000_tx_kick(e);
}

static void ctrl_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    (void)old;
    if ((value & CTRL_PHY_RST) != 0) { /* perhaps together with the MAC, as iPXE does it */
        e1000_phy_reset(e, false);
    }
    if ((value & CTRL_RST) != 0) {
        trace("e1000", "reset", "by software");
        mac_reset(e);
    } else {
        e1000_update_link(e);
    }
}

static uint32_t status_read(struct e1000 *e, uint32_t offset)
{
    uint32_t ctrl = e1000_get(e, E1000_CTRL);
    bool full = false;
    int phy = e1000_phy_speed(e, &full);
    unsigned speed = phy > 0 ? (unsigned)phy : 0;
    unsigned asdv = speed == 2 ? 3 : speed;

    (void)offset;
    if ((ctrl & CTRL_FRCSPD) != 0) {
        speed = ctrl >> CTRL_SPEED_SHIFT & 3;
    }
    if ((ctrl & CTRL_FRCDPLX) != 0) {
        full = (ctrl & CTRL_FD) != 0;
    }
    return (full ? STATUS_FD : 0) | (e->r.link_up ? STATUS_LU : 0) | speed << STATUS_SPEED_SHIFT |
           asdv << STATUS_ASDV_SHIFT | STATUS_MTXCKOK;
}

static void ctrl_ext_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    (void)old;
    if ((value & CTRL_EXT_EE_RST) != 0) {
        load_address(e);
    }
}

static void eecd_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    e1000_eecd_write(e, old, value);
}

static uint32_t eecd_read(struct e1000 *e, uint32_t offset)
{
    (void)offset;
    return e1000_eecd_read(e);
}

static void eerd_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    (void)old;
    e1000_eerd_write(e, value);
}

static void mdic_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    (void)old;
    e1000_mdic_write(e, value);
}

static uint32_t icr_read(struct e1000 *e, uint32_t offset)
{
    uint32_t value = e1000_get(e, offset);

    *e1000_mac(e, E1000_ICR) = 0;
    e1000_update_irq(e);
    return value;
}

static void icr_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    (void)old;
    *e1000_mac(e, E1000_ICR) &= ~value;
    e1000_update_irq(e);
}

static void ics_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    (void)old;
    e1000_cause(e, value);
}

static void ims_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    (void)value;
    *e1000_mac(e, E1000_IMS) |= old;
    e1000_update_irq(e);
}

static void imc_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    (void)old;
    *e1000_mac(e, E1000_IMS) &= ~value;
    e1000_update_irq(e);
}

static void itr_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    uint64_t next = now_ns(e) + (uint64_t)(value & 0xffff) * ITR_UNIT_NS;

    (void)old;
    if (next < e->h.itr_next_ns) { /* a shorter interval counts at once */
        e->h.itr_next_ns = next;
    }
    timer_cancel(&e->h.itr_timer);
    e1000_update_irq(e);
}

static void rdtr_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    (void)old;
    if ((value & RDTR_FPD) != 0 && e->r.rx_delayed) {
        e1000_cause(e, ICR_RXT0);
    }
}

static void pba_write(struct e1000 *e, uint32_t value, uint32_t old)
{
    uint32_t rx = value & 0xffff;

    (void)old;
    *e1000_mac(e, E1000_PBA) = rx | (rx < PBA_KIB ? PBA_KIB - rx : 0) << 16;
}

#define ONES 0xffffffffu

static const struct reg_desc regs[] = {
    /* CTRL as EEPROM and strapping pins leave it; 0x04 is its shadow */
    {E1000_CTRL, 1, .wmask = 0xfbffffff, .reset = 0x00140240, .wr = ctrl_write},
    {E1000_STATUS, 1, .rd = status_read},
    {E1000_EECD, 1, .wmask = 0x77, .reset = EECD_FWE_DIS, .rd = eecd_read, .wr = eecd_write},
    {E1000_EERD, 1, .hw = 0xffffff10, .wr = eerd_write},
    {E1000_CTRL_EXT, 1, .wmask = 0x00028fff, .wr = ctrl_ext_write},
    {E1000_MDIC, 1, .hw = 0x7fffffff, .reset = MDIC_R, .wr = mdic_write},
    {E1000_FCAL, 1, .wmask = ONES},
    {E1000_FCAH, 1, .wmask = 0xffff},
    {E1000_FCT, 1, .wmask = 0xffff},
    {E1000_VET, 1, .wmask = 0xffff},
    {E1000_ICR, 1, .hw = ICR_BITS, .rd = icr_read, .wr = icr_write},
    {E1000_ITR, 1, .wmask = 0xffff, .wr = itr_write},
    {E1000_ICS, 1, .wr = ics_write},
    {E1000_IMS, 1, .wmask = ICR_BITS, .wr = ims_write},
    {E1000_IMC, 1, .wr = imc_write},
    {E1000_RCTL, 1, .wmask = 0x06dfb3fe, .wr = ring_write},
    {E1000_FCTTV, 1, .wmask = 0xffff},
    {E1000_TXCW, 1, .wmask = 0xc000ffff},
    {E1000_TCTL, 1, .wmask = 0x013ffffa, .wr = ring_write},
    {E1000_TIPG, 1, .wmask = 0x3fffffff},
    {E1000_AIT, 1, .wmask = 0xffff},
    {E1000_LEDCTL, 1, .wmask = 0xcfcfcfcf, .reset = 0x00000602},
    {E1000_PBA, 1, .wmask = 0xffff, .hw = 0xffff0000, .reset = 0x00100030, .wr = pba_write},
    {E1000_FCRTL, 1, .wmask = 0x8000fff8},
    {E1000_FCRTH, 1, .wmask = 0x8000fff8},
    {E1000_RDFH, 5, .stride = 8, .wmask = 0x1fff},
    {E1000_RDBAL, 1, .wmask = 0xfffffff0},
    {E1000_RDBAH, 1, .wmask = ONES},
    {E1000_RDLEN, 1, .wmask = 0x000fff80, .wr = ring_write},
    {E1000_RDH, 1, .wmask = 0xffff, .wr = ring_write},
    {E1000_RDT, 1, .wmask = 0xffff, .wr = ring_write},
    {E1000_RDTR, 1, .wmask = 0xffff, .wr = rdtr_write},
    {E1000_RXDCTL, 1, .wmask = 0x013f3f3f},
    {E1000_RADV, 1, .wmask = 0xffff},
    {E1000_RSRPD, 1, .wmask = 0xfff},
    {E1000_TXDMAC, 1, .wmask = 1},
    {E1000_TDFH, 5, .stride = 8, .wmask = 0x1fff},
    {E1000_TDBAL, 1, .wmask = 0xfffffff0},
    {E1000_TDBAH, 1, .wmask = ONES},
    {E1000_TDLEN, 1, .wmask = 0x000fff80, .wr = ring_write},
    {E1000_TDH, 1, .wmask = 0xffff, .wr = ring_write},
    {E1000_TDT, 1, .wmask = 0xffff, .wr = tdt_write},
    {E1000_TIDV, 1, .wmask = 0xffff},
    {E1000_TXDCTL, 1, .wmask = 0xff3f3f3f},
    {E1000_TADV, 1, .wmask = 0xffff},
    {E1000_TSPMT, 1, .wmask = ONES},
    {E1000_STATS, STATS_WORDS, .stride = 4, .hw = ONES, .rd = stat_read},
    {E1000_RXCSUM, 1, .wmask = 0x7ff},
    {E1000_MTA, 128, .stride = 4, .wmask = ONES},
    {E1000_RAL, 16, .stride = 8, .wmask = ONES},
    {E1000_RAH, 16, .stride = 8, .wmask = 0x8003ffff},
    {E1000_VFTA, 128, .stride = 4, .wmask = ONES},
    {E1000_WUC, 1, .wmask = 0xf},
    {E1000_WUFC, 1, .wmask = 0x000f80ff},
    {E1000_WUS, 1, .wmask = 0x000f00ff},
    {E1000_MANC, 1, .wmask = ONES}, /* 0: no management controller shares the link */
    {E1000_IPAV, 1, .wmask = 0x0001000f},
    {E1000_IP4AT, 4, .stride = 8, .wmask = ONES},
    {E1000_IP6AT, 4, .stride = 4, .wmask = ONES},
    {E1000_WUPM, 32, .stride = 4, .wmask = ONES},
    {E1000_FFLT, 4, .stride = 8, .wmask = 0x7ff},
    {E1000_FFMT, 128, .stride = 8, .wmask = 0xf},
    {E1000_FFVT, 128, .stride = 8, .wmask = ONES},
};
enum { REG_ROWS = sizeof(regs) / sizeof(regs[0]) };

/* ---- reset ---- */

/* What CTRL.RST resets (SDM 14.5): the MAC. The PHY and the EEPROM go on. */
static void mac_reset(struct e1000 *e)
{
    timer_cancel(&e->h.tx_timer);
    timer_cancel(&e->h.rx_timer);
    timer_cancel(&e->h.itr_timer);
    bottom_half_cancel(&e->h.tx_bh);
    bottom_half_cancel(&e->h.rx_bh);
    e->h.rx_causes = 0;
    e->h.itr_next_ns = 0;
    e->r.tx_delayed = e->r.rx_delayed = e->r.tx_skip = false;
    memset(e->r.context, 0, sizeof(e->r.context));
    for (unsigned row = 0; row < REG_ROWS; row++) {
        for (uint32_t i = 0; i < regs[row].count; i++) {
            *e1000_mac(e, regs[row].first + i * regs[row].stride) = regs[row].reset;
        }
    }
    load_address(e);
    e->r.link_up = e1000_phy_link(e);
    e->r.link_dropped |= !e->r.link_up;
    e1000_update_irq(e);
}

static void e1000_reset(void *dev)
{
    struct e1000 *e = dev;

    e1000_phy_reset(e, true);
    e->r.link_dropped = false;
    e->r.ioaddr = 0;
    e->r.ee_state = e->r.ee_bits = e->r.ee_addr = 0;
    e->r.ee_shift = 0;
    e->r.ee_write_enabled = false;
    e->r.ee_do = true;
    mac_reset(e);
}

/* ---- access ---- */

static const struct reg_desc *find(const struct e1000 *e, uint32_t offset)
{
    uint8_t row = 0;

    if (offset < E1000_REGS_END || (offset >= E1000_FFMT && offset < E1000_FLEX_END)) {
        row = e->h.row_of[e1000_word(offset)];
    }
    return row != 0 ? &regs[row - 1] : NULL;
}

static uint32_t reg_read(struct e1000 *e, uint32_t offset)
{
    const struct reg_desc *d = find(e, offset);

    if (d == NULL) { /* reserved; the packet buffer's diagnostic window is not there */
        trace("e1000", "read", "%#x: no register", offset);
        return 0;
    }
    return d->rd != NULL ? d->rd(e, offset) : e1000_get(e, offset);
}

static void reg_write(struct e1000 *e, uint32_t offset, uint32_t value)
{
    const struct reg_desc *d = find(e, offset);
    uint32_t old;

    if (d == NULL) {
        trace("e1000", "write", "%#x = %#x: no register", offset, value);
        return;
    }
    old = e1000_get(e, offset);
    *e1000_mac(e, offset) = (old & ~d->wmask) | (value & d->wmask);
    if (d->wr != NULL) {
        d->wr(e, value, old);
    }
}

/* 0x4 shows CTRL once more: some cards lost a write to 0x0 (SDM 13.4.1). */
static uint32_t unshadow(uint64_t offset)
{
    uint32_t reg = (uint32_t)offset & ~3u;

    return reg == E1000_CTRL + 4 ? E1000_CTRL : reg;
}

static uint64_t mmio_read(void *dev, uint64_t offset, unsigned size)
{
    (void)size;
    return reg_read(dev, unshadow(offset)) >> (offset & 3) * 8;
}

static void mmio_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    if (size == 4 && (offset & 3) == 0) { /* registers are written whole (SDM 13.2) */
        reg_write(dev, unshadow(offset), (uint32_t)value);
    }
}

static uint64_t io_read(void *dev, uint64_t offset, unsigned size)
{
    struct e1000 *e = dev;
    uint32_t value = 0;

    (void)size;
    if ((offset & ~UINT64_C(3)) == IO_IOADDR) {
        value = e->r.ioaddr;
    } else if ((offset & ~UINT64_C(3)) == IO_IODATA && e->r.ioaddr < E1000_BAR_SIZE) {
        value = reg_read(e, unshadow(e->r.ioaddr));
    }
    return value >> (offset & 3) * 8;
}

static void io_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct e1000 *e = dev;

    if (size != 4) {
        return;
    }
    if (offset == IO_IOADDR) {
        e->r.ioaddr = (uint32_t)value;
    } else if (offset == IO_IODATA && e->r.ioaddr < E1000_BAR_SIZE) {
        reg_write(e, unshadow(e->r.ioaddr), (uint32_t)value);
    }
}

static const struct io_ops mmio_ops = {.read = mmio_read, .write = mmio_write, .max_size = 4};
static const struct io_ops io_ops = {.read = io_read, .write = io_write, .max_size = 4};

/* ---- network ---- */

static bool receive(void *nic, const uint8_t *frame, size_t len, const struct net_offload *off)
{
    struct e1000 *e = nic;

    return e1000_loopback(e) || e1000_rx_frame(e, frame, len, off->csum_valid);
}

static void sent_ready(void *nic)
{
    struct e1000 *e = nic;

    e->h.tx_blocked = false;
    e1000_tx_kick(e);
}

static void link_changed(void *nic, bool up)
{
    (void)up;
    e1000_phy_cable(nic);
}

static const struct net_client client = {
    .receive = receive, .sent_ready = sent_ready, .link_changed = link_changed};

/* ---- saved state ---- */

static bool registers_valid(const struct e1000_regs *r)
{
    for (unsigned row = 0; row < REG_ROWS; row++) {
        for (uint32_t i = 0; i < regs[row].count; i++) {
            uint32_t v = r->mac[e1000_word(regs[row].first + i * regs[row].stride)];

            if ((v & ~(regs[row].wmask | regs[row].hw | regs[row].reset)) != 0) {
                return false;
            }
        }
    }
    return r->ee_state <= 3 && r->ee_bits <= 16 && r->ee_addr < E1000_EEPROM_WORDS;
}

static void move_regs(struct e1000_regs *r, struct save_stream *s)
{
    for (unsigned row = 0; row < REG_ROWS; row++) {
        for (uint32_t i = 0; i < regs[row].count; i++) {
            save_u32(s, &r->mac[e1000_word(regs[row].first + i * regs[row].stride)]);
        }
    }
    for (unsigned i = 0; i < PHY_REGS; i++) {
        save_u16(s, &r->phy[i]);
    }
    save_u16(s, &r->an_anar);
    save_u16(s, &r->an_gtcr);
    for (unsigned i = 0; i < E1000_EEPROM_WORDS; i++) {
        save_u16(s, &r->eeprom[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        struct e1000_tx_context *c = &r->context[i];

        save_u8(s, &c->ipcss);
        save_u8(s, &c->ipcso);
        save_u16(s, &c->ipcse);
        save_u8(s, &c->tucss);
        save_u8(s, &c->tucso);
        save_u16(s, &c->tucse);
        save_u8(s, &c->tucmd);
        save_u8(s, &c->hdrlen);
        save_u16(s, &c->mss);
    }
    save_u32(s, &r->ioaddr);
    save_u32(s, &r->ee_shift);
    save_u8(s, &r->ee_state);
    save_u8(s, &r->ee_bits);
    save_u8(s, &r->ee_addr);
    save_bool(s, &r->ee_write_enabled);
    save_bool(s, &r->ee_do);
    save_bool(s, &r->tx_skip);
    save_bool(s, &r->tx_delayed);
    save_bool(s, &r->rx_delayed);
    save_bool(s, &r->an_busy);
    save_bool(s, &r->link_up);
    save_bool(s, &r->link_dropped);
}

static int e1000_state(void *dev, struct save_stream *s)
{
    struct e1000 *e = dev;
    struct e1000_regs r;
    uint64_t now = now_ns(e);

    /* A batch whose interrupt is due any moment: it must not be lost. */
    if (!s->loading && e->h.rx_causes != 0) {
        bottom_half_cancel(&e->h.rx_bh);
        e1000_rx_report(e);
    }
    r = e->r;
    move_regs(&r, s);
    if (!s->loading || s->error != 0) {
        return s->error;
    }
    if (!registers_valid(&r)) {
        return -EINVAL;
    }
    e->r = r;
    e->h.rx_causes = 0;
    e->h.tx_blocked = false;
    /* Times do not travel: what was to happen in some microseconds happens then. */
    e->h.itr_next_ns = now + (uint64_t)e1000_get(e, E1000_ITR) * ITR_UNIT_NS;
    timer_cancel(&e->h.itr_timer);
    timer_cancel(&e->h.tx_timer);
    timer_cancel(&e->h.rx_timer);
    timer_cancel(&e->h.an_timer);
    e->h.tx_limit_ns = e->h.rx_limit_ns = now;
    if (r.tx_delayed) {
        timer_set(&e->h.tx_timer, now);
    }
    if (r.rx_delayed) {
        timer_set(&e->h.rx_timer, now);
    }
    if (r.an_busy) {
        timer_set(&e->h.an_timer, now);
    }
    return 0;
}

/* Bus mastering may have been switched on; after a load everything starts again from here. */
static void config_written(void *dev, unsigned reg, unsigned size)
{
    struct e1000 *e = dev;

    if (reg == 0 && size == sizeof(e->pd.config)) {
        e1000_update_irq(e);
        e1000_update_link(e);
    }
    rings_changed(e);
}

/* ---- life ---- */

static void e1000_destroy(void *dev)
{
    struct e1000 *e = dev;

    if (e->h.net != NULL) {
        net_detach(e->h.net);
    }
    timer_cancel(&e->h.tx_timer);
    timer_cancel(&e->h.rx_timer);
    timer_cancel(&e->h.itr_timer);
    timer_cancel(&e->h.an_timer);
    bottom_half_cancel(&e->h.tx_bh);
    bottom_half_cancel(&e->h.rx_bh);
    free(e->h.tx_work);
    free(e);
}

static const struct pci_device_ops ops = {
    .base = {.name = "e1000",
             .version = 1,
             .reset = e1000_reset,
             .state = e1000_state,
             .destroy = e1000_destroy},
    .config_written = config_written,
};

int e1000_create(struct board *b, const struct e1000_config *cfg, struct net *net)
{
    static const struct pci_config_id id = {
        .vendor = 0x8086,
        .device = 0x100e,
        .class_device = 0x0200,
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
        .revision = 3,
        .interrupt_pin = 1,
    };
    struct e1000 *e = calloc(1, sizeof(*e));
    int ret;

    if (e == NULL || !e1000_tx_create(e)) {
        free(e);
        return -ENOMEM;
    }
    e->cfg = *cfg;
    e->h.net = net;
    for (unsigned row = 0; row < REG_ROWS; row++) {
        for (uint32_t i = 0; i < regs[row].count; i++) {
            e->h.row_of[e1000_word(regs[row].first + i * regs[row].stride)] = (uint8_t)(row + 1);
        }
    }
    timer_init(&e->h.tx_timer, b->loop, LOOP_VIRTUAL, tx_expired, e);
    timer_init(&e->h.rx_timer, b->loop, LOOP_VIRTUAL, rx_expired, e);
    timer_init(&e->h.itr_timer, b->loop, LOOP_VIRTUAL, itr_expired, e);
    timer_init(&e->h.an_timer, b->loop, LOOP_VIRTUAL, e1000_phy_negotiated, e);
    bottom_half_init(&e->h.tx_bh, b->loop, e1000_tx_run, e);
    bottom_half_init(&e->h.rx_bh, b->loop, e1000_rx_report, e);
    e1000_eeprom_init(e);
    pci_init(&e->pd, b, &ops, e, cfg->devfn, &id);
    pci_add_bar(&e->pd, 0, PCI_BAR_MEM, E1000_BAR_SIZE, &mmio_ops);
    pci_add_bar(&e->pd, 1, PCI_BAR_IO, IO_SIZE, &io_ops);
    if (cfg->rom != NULL) {
        pci_set_rom(&e->pd, cfg->rom, cfg->rom_len);
    }
    ret = pci_finish(&e->pd);
    if (ret != 0) {
        free(e->h.tx_work);
        free(e);
        return ret;
    }
    if (net != NULL) {
        static const struct net_caps want = {.csum = true, .tso4 = true, .tso6 = true};
        struct net_caps got;

        net_attach(net, &client, e, &want, &got);
    }
    return 0;
}
