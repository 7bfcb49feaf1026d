/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 82540EM between a guest that writes anything anywhere and a host that sends, takes, refuses and
 * unplugs as the input says. Rings lie in the pages that the input overwrites; events add
 * descriptors that make sense, frames of all kinds, loopback and resets.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/pci.h"
#include "hw/e1000_int.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/net_fake.h"

enum {
    DEVFN = PCI_DEVFN(4, 0),
    IO = 0xc000,
    TX_RING = 0x1000,
    RX_RING = 0x2000,
    RING = 32,
    BUFFERS = 0x10000,
};
#define BAR UINT64_C(0xf0000000)

static struct net_fake *fake;
static unsigned tail;

/* The link goes after the card and before the loop: as a device that was created first. */
static void net_reset(void *dev)
{
    (void)dev;
}

static int net_state(void *dev, struct save_stream *s)
{
    (void)dev;
    return s->error;
}

static void net_gone(void *dev)
{
    net_fake_destroy(dev);
}

static const struct device_ops net_ops = {
    .name = "net-fake", .version = 1, .reset = net_reset, .state = net_state, .destroy = net_gone};

static void wr(struct harness *h, uint32_t reg, uint32_t v)
{
    harness_write(h, BAR + reg, 4, v);
}

static void start(struct harness *h)
{
    harness_pci_write(h, DEVFN, PCI_BAR0, 4, (uint32_t)BAR);
    harness_pci_write(h, DEVFN, PCI_BAR0 + 4, 4, IO);
    harness_pci_write(h, DEVFN, PCI_COMMAND, 2, 7);
    for (unsigned i = 0; i < RING; i++) {
        uint64_t addr = BUFFERS + 0x1000 * i;

        memcpy(h->plat.ram + RX_RING + 16 * i, &addr, 8);
    }
    wr(h, E1000_TDBAL, TX_RING);
    wr(h, E1000_TDLEN, RING * 16);
    wr(h, E1000_RDBAL, RX_RING);
    wr(h, E1000_RDLEN, RING * 16);
    wr(h, E1000_RDT, RING - 1);
    wr(h, E1000_IMS, 0xffffffff);
    wr(h, E1000_CTRL, CTRL_SLU | CTRL_VME);
    wr(h, E1000_VET, 0x8100);
    wr(h, E1000_TCTL, TCTL_EN | TCTL_PSP);
    wr(h, E1000_RXCSUM, 0x300);
    wr(h, E1000_RCTL, RCTL_EN | RCTL_UPE | RCTL_MPE | RCTL_BAM | RCTL_LPE);
    tail = 0;
}

static void setup(struct harness *h)
{
    const struct e1000_config cfg = {.devfn = DEVFN, .mac = {0, 0x16, 0x3e, 0, 0, 1}};

    fake = net_fake_create(h->loop, true);
    if (board_add_device(&h->board, &net_ops, fake) != 0 ||
        e1000_create(&h->board, &cfg, fake->net) != 0) {
        abort();
    }
    start(h);
}

/* Headers of kind `kind` at p. */
static void headers(uint8_t *p, uint8_t kind, uint8_t dst)
{
    static const uint8_t ip4[] = {8,  0, 0x45, 0, 1, 0, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0,   1,
                                  10, 0, 0,    2, 0, 1, 0, 2, 0, 0, 0,  1, 0, 0, 0,  2, 0x50};
    static const uint8_t ip6[] = {0x86, 0xdd, 0x60, 0, 0, 0, 0, 200, 6, 64};
    unsigned at = 12;

    p[0] = dst;
    if ((kind & 4) != 0) {
        p[12] = 0x81;
        p[13] = 0x00;
        p[15] = kind;
        at = 16;
    }
    if ((kind & 3) == 1) {
        memcpy(p + at, ip4, sizeof(ip4));
    } else if ((kind & 3) == 2) {
        memcpy(p + at, ip6, sizeof(ip6));
        p[at + 54] = 0x50;
    } else if ((kind & 3) == 3) {
        memcpy(p + at, ip4, sizeof(ip4));
        p[at + 11] = 17;
    }
}

static void from_host(const uint8_t b[8])
{
    static uint8_t frame[NET_FRAME_MAX];
    size_t len = 14 + (size_t)(b[2] | b[3] << 8) % ((b[4] & 7) == 0 ? NET_FRAME_MAX - 13 : 1600);
    struct net_offload off = {.csum_valid = b[4] >> 7};

    memset(frame, b[5], 128);
    headers(frame, b[1], b[6]);
    if ((b[4] & 0x40) != 0) {
        off.csum_needed = true;
        off.csum_start = 34;
        off.csum_offset = b[7] & 31;
        off.gso = (b[4] & 0x30) >> 4;
        off.gso_size = (uint16_t)(b[7] * 16);
        off.header_len = 54;
        if (off.csum_start + off.csum_offset + 2u > len || off.header_len > len ||
            off.gso_size == 0) {
            off = (struct net_offload){0};
        }
    }
    net_fake_receive(fake, frame, len, &off);
}

static void append(struct harness *h, uint64_t addr, uint64_t second)
{
    memcpy(h->plat.ram + TX_RING + 16 * tail, &addr, 8);
    memcpy(h->plat.ram + TX_RING + 16 * tail + 8, &second, 8);
    tail = (tail + 1) % RING;
}

/* Appends a descriptor: context, data or legacy. */
static void descriptor(struct harness *h, const uint8_t b[8])
{
    static const uint64_t places[] = {0, 0xb0000, HARNESS_RAM_SIZE - 30, 0x9ffe0, UINT64_MAX - 15};
    static const uint32_t lengths[] = {0,    1,     13,    54,    59,      90,      200,    1514,
                                       9000, 16284, 30000, 65000, 0x10005, 0x10040, 0xfffff};
    uint64_t addr = BUFFERS + (uint64_t)b[2] * 0x400;
    uint64_t second = (uint64_t)(b[3] & 0xcd) << 24 | (uint64_t)b[7] << 48;
    uint32_t len = lengths[b[4] % (sizeof(lengths) / sizeof(lengths[0]))];

    headers(h->plat.ram + addr, b[7], b[6]);
    if (b[5] >= 0xf0) {
        addr = places[b[5] % (sizeof(places) / sizeof(places[0]))];
    }
    switch (b[1] & 3) {
    case 0: /* IP and TCP as they mostly are, spoilt by the input now and then */
        addr = (b[1] & 4) != 0
                   ? (14 | UINT64_C(54) << 32 | UINT64_C(70) << 40)
                   : (14 | 24 << 8 | 33 << 16 | UINT64_C(34) << 32 | UINT64_C(50) << 40);
        addr ^= (b[4] & 0xc0) == 0xc0 ? (uint64_t)b[5] << (b[4] & 63) : 0;
        second = (uint64_t)(0x20u | (b[3] & 7u)) << 24 |
                 (uint64_t)(b[6] < 100   ? 54
                            : b[6] < 200 ? 74
                                         : b[6])
                     << 40 |
                 (uint64_t)(b[7] * 8u) << 48;
        break;
    case 1:
        second |= len | 0x100000 | 0x20000000 | (uint64_t)(b[6] & 3) << 40;
        break;
    default:
        second |= (len & 0xffff) | (uint64_t)(b[5] & 0x3f) << 16 | (uint64_t)(b[6] & 0x3f) << 40;
        break;
    }
    append(h, addr, second);
}

/* The EEPROM's serial interface: a start bit, 8 bits of command, some clocks. */
static void eeprom(struct harness *h, const uint8_t b[8])
{
    unsigned bits = 0x100u | b[1];

    wr(h, E1000_EECD, 0);
    for (unsigned i = 0; i < 9u + (b[2] & 31u); i++) {
        uint32_t di = i < 9 ? bits >> (8 - i) & 1 : i >> 1 & 1;

        wr(h, E1000_EECD, EECD_CS | di * EECD_DI);
        wr(h, E1000_EECD, EECD_CS | di * EECD_DI | EECD_SK);
    }
    harness_read(h, BAR + E1000_EECD, 4);
    wr(h, E1000_EERD, EERD_START | (uint32_t)b[3] << 8);
}

static void moderation(struct harness *h, const uint8_t b[8])
{
    static const uint32_t regs[] = {E1000_ITR,  E1000_TIDV, E1000_TADV,
                                    E1000_RDTR, E1000_RADV, E1000_RSRPD};

    for (unsigned i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
        if ((b[1] >> i & 1) != 0) {
            wr(h, regs[i], (uint32_t)b[2 + i] | ((b[1] & 0x80) != 0 ? RDTR_FPD : 0));
        }
    }
    wr(h, E1000_TXDCTL, (uint32_t)b[7] << 24);
}

static void filters(struct harness *h, const uint8_t b[8])
{
    wr(h, E1000_RCTL, RCTL_EN | (uint32_t)b[1] << 2 | (uint32_t)b[2] << 10 | (uint32_t)b[3] << 18);
    wr(h, E1000_RAL, (uint32_t)b[4]);
    wr(h, E1000_MTA, b[5] * 0x01010101u);
    wr(h, E1000_VFTA, b[6] * 0x01010101u);
    wr(h, E1000_RDLEN, (uint32_t)(b[7] & 7) << 7);
}

static void event(struct harness *h, const uint8_t b[8])
{
    switch (b[0] % 16) {
    case 0:
    case 1:
        from_host(b);
        break;
    case 2:
    case 3:
    case 4:
        descriptor(h, b);
        break;
    case 5:
        wr(h, E1000_TDT, tail);
        break;
    case 6:
        wr(h, E1000_RDT, (uint32_t)harness_read(h, BAR + E1000_RDH, 4) + (b[1] % RING));
        break;
    case 7:
        net_fake_room(fake, b[1] < 128 ? UINT_MAX : b[1] & 3);
        break;
    case 8:
        net_fake_link(fake, b[1] & 1);
        break;
    case 9: /* loopback: MAC, PHY, off */
        wr(h, E1000_RCTL,
           RCTL_EN | RCTL_UPE | RCTL_MPE | RCTL_LPE | (b[1] & 3u) << 6 | (b[2] & 3u) << 16);
        wr(h, E1000_MDIC, 1u << 26 | 1u << 21 | 0x1140 | (b[1] & 4u) << 12);
        break;
    case 10:
        moderation(h, b);
        break;
    case 11:
        filters(h, b);
        break;
    case 12:
        eeprom(h, b);
        break;
    case 13: /* a whole ring, with or without an end */
        for (unsigned i = 1; i < RING; i++) {
            append(h, BUFFERS + b[2] * 0x10u,
                   (uint64_t)(b[3] % 80) | (uint64_t)(b[4] & 0xc9) << 24);
        }
        wr(h, E1000_TDT, tail);
        break;
    case 14:
        wr(h, E1000_MDIC,
           (uint32_t)b[1] << 26 | 1u << 21 | (b[2] & 31u) << 16 | b[3] | (uint32_t)b[4] << 8);
        break;
    default:
        if ((b[1] & 7) == 0) {
            wr(h, E1000_CTRL, CTRL_RST);
        }
        start(h);
        break;
    }
}

/* The pin never lies, and without throttling never waits. */
static void check(struct harness *h)
{
    struct pci_device *pd = pci_find(h->board.pci, DEVFN);
    struct e1000 *e = pd->dev;
    bool cause = (e1000_get(e, E1000_ICR) & e1000_get(e, E1000_IMS)) != 0;

    if ((pd->intx_level && !cause) || (cause && !pd->intx_level && !e->h.itr_timer.armed)) {
        abort();
    }
    if (h->plat.holds != 0) {
        abort();
    }
}

static const struct fuzz_range mmio[] = {
    {BAR, 0x400}, {BAR + 0x2800, 0x40}, {BAR + 0x3800, 0x40}, {BAR, E1000_BAR_SIZE}, {0, 0}};
static const struct fuzz_range ports[] = {{IO, 8}, {0, 0}};
static const uint8_t devfns[] = {DEVFN, 0xff};

FUZZ_DEVICE(.setup = setup, .ports = ports, .mmio = mmio, .devfns = devfns, .event = event,
            .check = check)
