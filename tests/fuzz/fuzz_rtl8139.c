/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RTL8139C+ between a guest that writes anything anywhere and a host that sends, takes, refuses and
 * goes away as the input says. Rings lie in the pages that the input overwrites; events make
 * descriptors that are nearly right, frames of all kinds, loopback, stops and unplug.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "hw/rtl8139_int.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/net_fake.h"

enum {
    DEVFN = PCI_DEVFN(4, 0),
    IO = 0xc000,
    TX_RING = 0x1000,
    TXH_RING = 0x1400,
    RX_RING = 0x1800,
    C_RING = 0x20000,
    BUFFERS = 0x10000
};

static struct net_fake *fake;
static bool shut;

static void wr(struct harness *h, unsigned reg, unsigned size, uint32_t v)
{
    harness_out(h, (uint16_t)(IO + reg), size, v);
}

static void start(struct harness *h, bool cplus)
{
    harness_pci_write(h, DEVFN, PCI_BAR0, 4, IO);
    harness_pci_write(h, DEVFN, PCI_BAR0 + 4, 4, 0xf0000000);
    harness_pci_write(h, DEVFN, PCI_COMMAND, 2, 7);
    wr(h, RTL8139_CPCR, 2, cplus ? 0x63 : 0);
    wr(h, RTL8139_CR, 1, RTL8139_CR_TE | RTL8139_CR_RE);
    wr(h, RTL8139_IMR, 2, 0xffff);
    wr(h, RTL8139_RCR, 4, 0x8f);
    wr(h, RTL8139_RBSTART, 4, C_RING);
    if (cplus) {
        wr(h, RTL8139_TSAD0, 4, TX_RING);
        wr(h, RTL8139_TSAD0 + 8, 4, TXH_RING);
        wr(h, RTL8139_RDSAR, 4, RX_RING);
    }
}

static void setup(struct harness *h)
{
    const struct rtl8139_config cfg = {.devfn = DEVFN, .mac = {0, 0x16, 0x3e, 0, 0, 1}};

    fake = net_fake_add(&h->board, true);
    shut = false;
    if (rtl8139_create(&h->board, &cfg, fake->net) != 0) {
        abort();
    }
    start(h, true);
}

static void put_desc(struct harness *h, uint32_t at, uint32_t dw0, uint32_t dw1, uint32_t buf)
{
    const uint32_t raw[4] = {dw0, dw1, buf, 0};

    memcpy(h->plat.ram + at, raw, sizeof(raw));
}

/* A frame of the host: IPv4 or IPv6, TCP or UDP, with and without tags, sometimes to be cut. */
static void host_frame(const uint8_t bytes[8])
{
    static uint8_t frame[NET_FRAME_MAX];
    size_t len = 14 + (size_t)(bytes[2] | bytes[3] << 8) % 9000;
    size_t at = 12;
    struct net_offload off = {0};

    memset(frame, bytes[4], len < 200 ? 200 : len);
    memcpy(frame, bytes[1] & 1 ? "\xff\xff\xff\xff\xff\xff" : "\x00\x16\x3e\x00\x00\x01", 6);
    if (bytes[1] & 2) {
        memcpy(frame + at, "\x81\x00", 2);
        at += 4;
    }
    memcpy(frame + at, bytes[1] & 4 ? "\x86\xdd" : "\x08\x00", 2);
    at += 2;
    frame[at] = bytes[1] & 4 ? 0x60 : 0x45;
    frame[at + (bytes[1] & 4 ? 6 : 9)] = bytes[1] & 8 ? 6 : 17;
    memset(frame + at + 6, 0, 2);
    frame[at + 6] = bytes[1] & 4 ? (bytes[1] & 8 ? 6 : 0) : 0;
    at += bytes[1] & 4 ? 40 : 20;
    frame[at + 12] = bytes[5];
    if (bytes[1] & 0x10) {
        off.csum_needed = true;
        off.csum_start = (uint16_t)at;
        off.csum_offset = bytes[6];
        off.gso = (enum net_gso)(bytes[1] >> 5 & 3);
        off.gso_size = bytes[7];
        off.csum_needed = off.csum_start + off.csum_offset + 2u <= len;
    }
    off.csum_valid = bytes[1] >> 7;
    net_fake_receive(fake, frame, len, &off);
}

/* The EEPROM's wires: a start bit, 8 bits of command, some clocks with data, CS falls. */
static void eeprom(struct harness *h, const uint8_t bytes[8])
{
    enum { PROGRAM = 0x80, CS = 8, SK = 4, DI = 2 };
    unsigned bits = 0x100u | bytes[1];

    for (unsigned i = 0; i < 9u + bytes[2] % 40u; i++) {
        unsigned di = i < 9 ? bits >> (8 - i) & 1 : bytes[3] >> (i & 7) & 1;

        wr(h, RTL8139_9346CR, 1, PROGRAM | CS | di * DI);
        wr(h, RTL8139_9346CR, 1, PROGRAM | CS | SK | di * DI);
        harness_in(h, IO + RTL8139_9346CR, 1);
    }
    wr(h, RTL8139_9346CR, 1, bytes[4]);
}

static void event(struct harness *h, const uint8_t bytes[8])
{
    uint32_t word = (uint32_t)bytes[4] | (uint32_t)bytes[5] << 8 | (uint32_t)bytes[6] << 16 |
                    (uint32_t)bytes[7] << 24;

    switch (bytes[0] % 14) {
    case 0:
    case 1:
        host_frame(bytes);
        break;
    case 2: /* a transmit descriptor, and a poll */
        put_desc(h, (bytes[1] & 1 ? TX_RING : TXH_RING) + 16u * (bytes[2] % 64), word,
                 bytes[3] & 1 ? 0x20001 : 0, BUFFERS);
        wr(h, RTL8139_TPPOLL, 1, 0xc0);
        break;
    case 3: /* a run of them that is one packet of headers and data */
        for (unsigned i = 0; i < 64; i++) {
            put_desc(h, TX_RING + 16 * i,
                     0x80000000 | (i == 0 ? 0x20000000 : 0) |
                         (i % (bytes[1] % 63u + 1) == 0 ? 0x10000000 : 0) | (word & 0x0fffffff),
                     0, BUFFERS + 16 * bytes[2]);
        }
        wr(h, RTL8139_TPPOLL, 1, 0x40);
        break;
    case 4: /* room to receive */
        for (unsigned i = 0; i < 64; i++) {
            put_desc(h, RX_RING + 16 * i,
                     0x80000000 | (i == bytes[1] ? 0x40000000 : 0) | (word & 0x1fff), 0,
                     0x30000 + 2048 * i);
        }
        break;
    case 5: /* C mode transmission */
        wr(h, RTL8139_TSAD0 + 4u * (bytes[1] % 4), 4, BUFFERS + bytes[2]);
        wr(h, RTL8139_TSD0 + 4u * (bytes[1] % 4), 4, word & 0x3f1fff);
        break;
    case 6:
        wr(h, RTL8139_TCR, 4, bytes[1] & 1 ? 3u << 17 : 0);
        break;
    case 7:
        net_fake_room(fake, bytes[1] & 1 ? UINT_MAX : bytes[2] % 4);
        break;
    case 8:
        net_fake_link(fake, bytes[1] & 1);
        break;
    case 9:
        start(h, bytes[1] & 1);
        break;
    case 10:
        net_set_running(fake->net, bytes[1] & 1);
        break;
    case 11:
        eeprom(h, bytes);
        break;
    case 12: /* timer, counters in memory */
        wr(h, RTL8139_TCTR, 4, 0);
        wr(h, RTL8139_TIMERINT, 4, word >> (bytes[1] & 31));
        wr(h, RTL8139_TSD0 + 4, 4, bytes[2] == 0 ? UINT32_MAX : 0);
        wr(h, RTL8139_TSD0, 4, (word & ~63u) | 8);
        break;
    default: /* the end of a frame that makes sense in the buffer, or the PV drivers take over */
        if (bytes[1] == 0xff && !shut && pci_find(h->board.pci, DEVFN) != NULL) {
            pci_unplug(pci_find(h->board.pci, DEVFN));
            net_shut(fake->net);
            shut = true;
        } else {
            static const uint8_t tcp[] = {0x08, 0x00, 0x45, 0, 0, 0, 0,  0, 0, 0, 64,  6,
                                          0,    0,    10,   0, 0, 1, 10, 0, 0, 2, 1,   2,
                                          3,    4,    0,    0, 0, 0, 0,  0, 0, 0, 0x50};

            memcpy(h->plat.ram + BUFFERS + 12, tcp, sizeof(tcp));
            h->plat.ram[BUFFERS + 16] = bytes[2];
            h->plat.ram[BUFFERS + 17] = bytes[3];
        }
        break;
    }
    harness_step(h, 0);
}

/* The line is up exactly when a cause is enabled, and indices stay in their rings. */
static void check(struct harness *h)
{
    const struct pci_device *pd = pci_find(h->board.pci, DEVFN);
    const struct rtl8139 *d;
    bool level;

    if (pd == NULL) {
        return;
    }
    d = pd->dev;
    level = (d->r.isr & d->r.imr) != 0 && (pd->config[PCI_COMMAND + 1] & 4) == 0;
    if (h->plat.intx[DEVFN >> 3][0] != level || d->r.tx_cur > 3 || d->r.rx_index > 63 ||
        d->r.tx_index[0] > 63 || d->r.tx_index[1] > 63 || (d->r.cbr & 3) != 0 ||
        h->plat.holds != 0) {
        abort();
    }
}

static const struct fuzz_range ports[] = {{IO, 256}, {IO + 0x30, 0x40}, {0, 0}};
static const struct fuzz_range mmio[] = {{0xf0000000, 256}, {0, 0}};
static const uint8_t devfns[] = {DEVFN, 0xff};

FUZZ_DEVICE(.setup = setup, .ports = ports, .mmio = mmio, .devfns = devfns, .event = event,
            .check = check)
