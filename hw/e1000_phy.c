/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 82540EM: PHY behind MDIC (SDM 13.4.5, 13.8; IEEE 802.3 clauses 22, 28, 40) and EEPROM (SDM 5,
 * 13.4.3, 13.4.4). */
#include <string.h>

#include "core/log.h"
#include "hw/e1000_int.h"

enum {
    PHY_ADDRESS = 1,
    /* A real one takes seconds; nobody here has to be asked. Not at once: drivers start it first
     * and then arm LSC. */
    NEGOTIATION_NS = 10 * 1000 * 1000,
    ANAR_10 = 0x0060, /* half and full duplex */
    ANAR_100 = 0x0180,
    ANAR_10_FULL = 0x0040,
    ANAR_100_FULL = 0x0100,
    GTCR_HALF = 0x0100,
    GTCR_FULL = 0x0200,
    BMSR_FIXED = 0x7949, /* everything but 100BASE-T4; extended status, extended registers */
    BMSR_LINK = 0x0004,
    BMSR_AN_DONE = 0x0020,
    PARTNER = 0x41e1, /* the other end: acknowledge, 10 and 100 in both duplexes, no pause */
    PARTNER_1000 = 0x3c00,
    PSSR_LINK = 0x0400,
    PSSR_RESOLVED = 0x0800,
    PSSR_FULL = 0x2000,
    PSSR_SPEED_SHIFT = 14,
};

/* Registers that hold something: after reset, and what can be written (without bits that clear
 * themselves). */
static const struct {
    uint8_t reg;
    uint16_t reset, mask;
} phy_regs[] = {
    {PHY_BMCR, 0x1140, 0x7dc0},
    {PHY_ID1, 0x0141, 0},
    {PHY_ID2, 0x0c20, 0}, /* M88E1000, as 82540EM drivers know it */
    {PHY_ANAR, 0x0de1, 0xffff},
    {PHY_NPT, 0x2001, 0xffff},
    {PHY_GTCR, 0x0e00, 0xff00},
    {PHY_ESR, 0x3000, 0}, /* 1000BASE-T */
    {PHY_PSCR, 0x0360, 0xffff},
    {18, 0, 0xffff}, /* interrupt enable; the pin leads nowhere */
    {PHY_EPSCR, 0x0d60, 0xffff},
    {22, 0, 0xffff},
    {PHY_LEDCR, 0x4100, 0xffff},
    {25, 0, 0xffff},
    {26, 0, 0xffff}, /* extended control */
    {29, 0, 0xffff}, /* page of 30; drivers write undocumented tuning values here */
    {30, 0, 0xffff},
};
enum { PHY_ROWS = sizeof(phy_regs) / sizeof(phy_regs[0]) };

/* ---- link ---- */

static bool cable(const struct e1000 *e)
{
    return e->h.net != NULL && net_link_up(e->h.net);
}

int e1000_phy_speed(const struct e1000 *e, bool *full_duplex)
{
    uint16_t bmcr = e->r.phy[PHY_BMCR], anar = e->r.an_anar, gtcr = e->r.an_gtcr;

    if ((bmcr & BMCR_ANENABLE) == 0) {
        *full_duplex = (bmcr & BMCR_FULLDPLX) != 0;
        return (bmcr & BMCR_SPEED1000) != 0 ? 2 : (bmcr & BMCR_SPEED100) != 0 ? 1 : 0;
    }
    if ((gtcr & (GTCR_FULL | GTCR_HALF)) != 0) {
        *full_duplex = (gtcr & GTCR_FULL) != 0;
        return 2;
    }
    if ((anar & ANAR_100) != 0) {
        *full_duplex = (anar & ANAR_100_FULL) != 0;
        return 1;
    }
    *full_duplex = (anar & ANAR_10_FULL) != 0;
    return (anar & ANAR_10) != 0 ? 0 : -1;
}

bool e1000_phy_link(const struct e1000 *e)
{
    uint16_t bmcr = e->r.phy[PHY_BMCR];
    bool full;

    return cable(e) && (bmcr & (BMCR_PDOWN | BMCR_ISOLATE)) == 0 && !e->r.an_busy &&
           e1000_phy_speed(e, &full) >= 0;
}

void e1000_phy_negotiate(struct e1000 *e)
{
    e->r.an_anar = e->r.phy[PHY_ANAR];
    e->r.an_gtcr = e->r.phy[PHY_GTCR];
    e->r.an_busy = (e->r.phy[PHY_BMCR] & BMCR_ANENABLE) != 0;
    if (e->r.an_busy) {
        timer_set(&e->h.an_timer, loop_now(e->pd.board->loop, LOOP_VIRTUAL) + NEGOTIATION_NS);
    } else {
        timer_cancel(&e->h.an_timer);
    }
}

void e1000_phy_negotiated(void *arg)
{
    struct e1000 *e = arg;

    e->r.an_busy = false;
    e1000_update_link(e);
}

void e1000_phy_cable(struct e1000 *e)
{
    e1000_phy_negotiate(e);
    e1000_update_link(e);
}

void e1000_phy_reset(struct e1000 *e, bool power_on)
{
    memset(e->r.phy, 0, sizeof(e->r.phy));
    for (unsigned i = 0; i < PHY_ROWS; i++) {
        e->r.phy[phy_regs[i].reg] = phy_regs[i].reset;
    }
    e1000_phy_negotiate(e);
    if (power_on) { /* long done when firmware looks */
        timer_cancel(&e->h.an_timer);
        e->r.an_busy = false;
    }
}

/* ---- MDIC ---- */

static uint16_t phy_read(struct e1000 *e, unsigned reg)
{
    bool link = e1000_phy_link(e);
    bool negotiated = link && (e->r.phy[PHY_BMCR] & BMCR_ANENABLE) != 0;
    bool full = false;
    int speed = e1000_phy_speed(e, &full);
    bool dropped = e->r.link_dropped;

    switch (reg) {
    case PHY_BMSR:
        e->r.link_dropped = !link;
        return (uint16_t)(BMSR_FIXED | (link && !dropped ? BMSR_LINK : 0) |
                          (negotiated ? BMSR_AN_DONE : 0));
    case PHY_ANLPAR:
        return negotiated ? PARTNER : 0;
    case PHY_ANER:
        return negotiated ? 1 : 0; /* the partner negotiates */
    case PHY_GTSR:
        return negotiated ? PARTNER_1000 : 0;
    case PHY_PSSR:
        return link ? (uint16_t)((unsigned)speed << PSSR_SPEED_SHIFT | (full ? PSSR_FULL : 0) |
                                 PSSR_RESOLVED | PSSR_LINK)
                    : 0;
    default:
        return e->r.phy[reg];
    }
}

static void bmcr_write(struct e1000 *e, uint16_t old, uint16_t value)
{
    uint16_t changed = old ^ value;

    if ((value & BMCR_RESET) != 0) {
        e1000_phy_reset(e, false);
    } else if ((value & BMCR_ANRESTART) != 0 ||
               (changed & (BMCR_ANENABLE | BMCR_PDOWN | BMCR_ISOLATE | BMCR_SPEED1000 |
                           BMCR_SPEED100 | BMCR_FULLDPLX)) != 0) {
        e1000_phy_negotiate(e);
    }
    e1000_update_link(e);
}

static void phy_write(struct e1000 *e, unsigned reg, uint16_t value)
{
    for (unsigned i = 0; i < PHY_ROWS; i++) {
        if (phy_regs[i].reg == reg) {
            uint16_t old = e->r.phy[reg];

            e->r.phy[reg] = (uint16_t)((old & ~phy_regs[i].mask) | (value & phy_regs[i].mask));
            if (reg == PHY_BMCR) {
                bmcr_write(e, old, value);
            }
        }
    }
}

void e1000_mdic_write(struct e1000 *e, uint32_t value)
{
    unsigned op = value >> 26 & 3;
    unsigned reg = value >> 16 & 31;
    uint32_t result = (value & ~(uint32_t)MDIC_E) | MDIC_R;

    if ((value >> 21 & 31) != PHY_ADDRESS || (op != MDIC_OP_READ && op != MDIC_OP_WRITE)) {
        result |= MDIC_E;
    } else if (op == MDIC_OP_READ) {
        result = (result & 0xffff0000) | phy_read(e, reg);
    } else {
        phy_write(e, reg, (uint16_t)value);
    }
    *e1000_mac(e, E1000_MDIC) = result & 0x7fffffff;
    if ((value & MDIC_I) != 0) {
        e1000_cause(e, ICR_MDAC);
    }
}

/* ---- EEPROM ---- */

enum {
    EE_COMMAND_BITS = 9, /* start, two of opcode, six of address */
    EE_OP_EXTENDED = 0,
    EE_OP_WRITE = 1,
    EE_OP_READ = 2,
    EE_OP_ERASE = 3,
    EE_CHECKSUM_WORD = 63,
    EE_CHECKSUM = 0xbaba, /* SDM 5.6.35: sum of all words */
};
enum ee_state { EE_COMMAND, EE_READ, EE_WRITE, EE_DONE };

void e1000_eeprom_init(struct e1000 *e)
{
    uint16_t *w = e->r.eeprom;
    uint16_t sum = 0;

    memset(w, 0xff, sizeof(e->r.eeprom));
    for (unsigned i = 0; i < 3; i++) {
        w[i] = (uint16_t)(e->cfg.mac[2 * i] | e->cfg.mac[2 * i + 1] << 8);
    }
    w[0x03] = 0;      /* compatibility */
    w[0x08] = 0x3000; /* board number */
    w[0x09] = 0x1000;
    w[0x0a] = 0x6403; /* initialization control 1: valid, IDs are to be loaded */
    w[0x0b] = 0x1100; /* subsystem, its vendor, device, vendor */
    w[0x0c] = 0x1af4;
    w[0x0d] = 0x100e;
    w[0x0e] = 0x8086;
    w[0x0f] = 0x3040; /* initialization control 2 */
    w[0x21] = 0;      /* D3 power */
    w[0x23] = 0;      /* management control */
    w[0x24] =
        0; /* initialization control 3: no wake-up, there is no power management to wake from */
    w[0x2f] = 0x0602; /* LEDs */
    for (unsigned i = 0; i < EE_CHECKSUM_WORD; i++) {
        sum = (uint16_t)(sum + w[i]);
    }
    w[EE_CHECKSUM_WORD] = (uint16_t)(EE_CHECKSUM - sum);
}

static void ee_command(struct e1000 *e)
{
    struct e1000_regs *r = &e->r;

    r->ee_addr = (uint8_t)(r->ee_shift & (E1000_EEPROM_WORDS - 1));
    r->ee_bits = 0;
    r->ee_state = EE_DONE;
    switch (r->ee_shift >> 6 & 3) {
    case EE_OP_READ:
        r->ee_state = EE_READ;
        r->ee_do = false; /* a zero goes before the data */
        break;
    case EE_OP_WRITE:
        r->ee_state = EE_WRITE;
        break;
    case EE_OP_ERASE:
        if (r->ee_write_enabled) {
            r->eeprom[r->ee_addr] = 0xffff;
        }
        break;
    default: /* 11xxxx: writes on, 00xxxx: off; those for all words are not used by anyone */
        if (r->ee_addr >> 4 == 3 || r->ee_addr >> 4 == 0) {
            r->ee_write_enabled = r->ee_addr >> 4 == 3;
        }
        break;
    }
}

/* A rising edge of the clock with DI = in (93C46, Microwire). */
static void ee_clock(struct e1000 *e, bool in)
{
    struct e1000_regs *r = &e->r;

    switch (r->ee_state) {
    case EE_COMMAND:
        if (r->ee_bits != 0 || in) { /* zeros before the start bit do not count */
            r->ee_shift = r->ee_shift << 1 | in;
            if (++r->ee_bits == EE_COMMAND_BITS) {
                ee_command(e);
            }
        }
        break;
    case EE_READ:
        if (r->ee_bits == 0) { /* the next word follows by itself */
            r->ee_shift = r->eeprom[r->ee_addr];
            r->ee_addr = (uint8_t)((r->ee_addr + 1) % E1000_EEPROM_WORDS);
            r->ee_bits = 16;
        }
        r->ee_do = (r->ee_shift >> --r->ee_bits & 1) != 0;
        break;
    case EE_WRITE:
        r->ee_shift = r->ee_shift << 1 | in;
        if (++r->ee_bits == 16) {
            if (r->ee_write_enabled) {
                r->eeprom[r->ee_addr] = (uint16_t)r->ee_shift;
            }
            r->ee_bits = 0;
            r->ee_state = EE_DONE;
        }
        break;
    default:
        break;
    }
}

void e1000_eecd_write(struct e1000 *e, uint32_t old, uint32_t value)
{
    struct e1000_regs *r = &e->r;

    if ((value & EECD_CS) == 0 || (old & EECD_CS) == 0) {
        r->ee_state = EE_COMMAND;
        r->ee_shift = 0;
        r->ee_bits = 0;
        r->ee_do = true; /* ready */
    }
    if ((value & EECD_CS) != 0 && (value & ~old & EECD_SK) != 0) {
        ee_clock(e, (value & EECD_DI) != 0);
    }
}

uint32_t e1000_eecd_read(const struct e1000 *e)
{
    uint32_t v = e1000_get(e, E1000_EECD);

    return v | EECD_PRES | ((v & EECD_REQ) != 0 ? EECD_GNT : 0) | (e->r.ee_do ? EECD_DO : 0);
}

void e1000_eerd_write(struct e1000 *e, uint32_t value)
{
    uint32_t addr = value >> 8 & 0xff;

    *e1000_mac(e, E1000_EERD) = addr << 8;
    if ((value & EERD_START) != 0) {
        *e1000_mac(e, E1000_EERD) |= EERD_DONE | (uint32_t)e->r.eeprom[addr % E1000_EEPROM_WORDS]
                                                     << 16;
    }
}
