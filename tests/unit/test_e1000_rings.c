/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 82540EM: transmission, reception, loopback, counters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "tests/unit/e1000_rig.h"

/* ---- transmit ---- */

static void transmit(void **state)
{
    struct e1k *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    e1k_start_tx(g);
    e1k_wr(g, E1000_IMS, ICR_TXDW);
    e1k_fill(p, 1500, e1k_mac);
    e1k_put_legacy(g, TX_BUF, 14, 0);
    e1k_put_legacy(g, 0, 100, RS); /* null descriptors carry nothing and come back */
    e1k_put_legacy(g, TX_BUF + 14, 986, EOP | IFCS | RS);
    e1k_put_data(g, TX_BUF, 500, 0, 0);
    e1k_put_data(g, TX_BUF + 1000, 200, EOP | IFCS, 0);
    e1k_put_legacy(g, TX_BUF, 20, EOP | IFCS | RS);
    e1k_wr(g, E1000_TDT, g->tx_tail);
    assert_int_equal(g->n->sent_count, 0); /* the doorbell only rings */
    e1k_run(g);
    assert_int_equal(g->n->sent_count, 3);
    assert_int_equal(e1k_sent(g, 0)->len, 1000);
    assert_memory_equal(e1k_sent(g, 0)->data, p, 1000);
    assert_int_equal(e1k_sent(g, 1)->len, 700);
    assert_memory_equal(e1k_sent(g, 1)->data, p, 500);
    assert_memory_equal(e1k_sent(g, 1)->data + 500, p + 1000, 200);
    assert_int_equal(e1k_sent(g, 2)->len, 60); /* padded with zeros */
    assert_memory_equal(e1k_sent(g, 2)->data, p, 20);
    for (unsigned i = 20; i < 60; i++) {
        assert_int_equal(e1k_sent(g, 2)->data[i], 0);
    }
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(e1k_tx_status(g, i), (0x26u >> i & 1) != 0); /* 1, 2, 5 */
    }
    assert_int_equal(e1k_rd(g, E1000_TDH), 6);
    assert_true(e1k_irq(g));
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_TXDW | ICR_TXQE);
    e1k_wr(g, E1000_TCTL, TCTL_EN); /* without padding */
    e1k_put_legacy(g, TX_BUF, 20, EOP | IFCS);
    e1k_put_legacy(g, TX_BUF, 13, EOP | IFCS | RS); /* not a frame */
    e1k_go(g);
    assert_int_equal(e1k_sent(g, 3)->len, 20);
    assert_int_equal(g->n->sent_count, 4);
    assert_int_equal(e1k_tx_status(g, 7), 1);
    e1k_wr(g, E1000_TCTL, 0);
    e1k_put_legacy(g, TX_BUF, 60, EOP | IFCS);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 4);
    e1k_wr(g, E1000_TCTL, TCTL_EN);
    e1k_run(g);
    assert_int_equal(g->n->sent_count, 5);
    harness_pci_write(g->h, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    e1k_put_legacy(g, TX_BUF, 60, EOP | IFCS);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 5);
    harness_pci_write(g->h, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    e1k_run(g);
    assert_int_equal(g->n->sent_count, 6);
}

/* The queue of what waits may be in pieces: more than an iovec holds, memory that is not there,
 * packets whose end is missing. */
static void transmit_oddities(void **state)
{
    struct e1k *g = *state;
    uint8_t *ram = g->h->plat.ram;

    e1k_start_tx(g);
    e1k_wr(g, E1000_TDLEN, 128 * 16);
    e1k_fill(ram + TX_BUF, 2000, e1k_mac);
    for (unsigned i = 0; i < 100; i++) {
        e1k_set64(g, TX_RING + 16 * i, TX_BUF + 20 * (i % 50));
        e1k_set64(g, TX_RING + 16 * i + 8, 13 | (uint64_t)(i == 99 ? EOP | RS : 0) << 24);
    }
    e1k_wr(g, E1000_TDT, 40);
    e1k_run(g);
    assert_int_equal(g->n->sent_count, 0); /* its end is not there yet */
    assert_int_equal(e1k_rd(g, E1000_TDH), 0);
    e1k_wr(g, E1000_TDT, 100);
    e1k_run(g);
    assert_int_equal(g->n->sent_count, 1);
    assert_int_equal(e1k_sent(g, 0)->len, 1300);
    for (unsigned i = 0; i < 100; i++) {
        assert_memory_equal(e1k_sent(g, 0)->data + 13 * i, ram + TX_BUF + 20 * (i % 50), 13);
    }
    e1k_start_tx(g);
    e1k_put_legacy(g, TX_BUF, 40, 0);
    e1k_put_legacy(g, 0xb0000, 20, 0); /* the VGA hole */
    e1k_put_legacy(g, UINT64_C(0xfffffffffffffff8), 20, EOP);
    e1k_go(g);
    assert_int_equal(e1k_sent(g, 1)->len, 80);
    assert_memory_equal(e1k_sent(g, 1)->data, ram + TX_BUF, 40);
    assert_int_equal(e1k_sent(g, 1)->data[40], 0xff);
    e1k_start_tx(g);
    for (unsigned i = 0; i < RING - 1; i++) { /* a full ring without an end of packet */
        e1k_put_legacy(g, TX_BUF, 10, RS);
    }
    e1k_go(g);
    assert_int_equal(e1k_rd(g, E1000_TDH), RING - 1);
    e1k_put_legacy(g, TX_BUF, 100, EOP | RS); /* still that packet */
    e1k_put_legacy(g, TX_BUF, 101, EOP | RS);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 3);
    assert_int_equal(e1k_sent(g, 2)->len, 101);
    e1k_put_data(g, TX_BUF, 0xfffff, EOP | RS, 0); /* a megabyte */
    e1k_put_data(g, TX_BUF, 16285, EOP | RS, 0);
    e1k_put_data(g, TX_BUF, 16284, EOP | RS, 0);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 4);
    assert_int_equal(e1k_sent(g, 3)->len, 16284);
    assert_int_equal(e1k_rd(g, E1000_TDH), g->tx_tail);
    e1k_wr(g, E1000_TDT, 0xffff); /* outside the ring */
    e1k_wr(g, E1000_TDLEN, 0);
    e1k_wr(g, E1000_TDT, 3);
    e1k_run(g);
    assert_int_equal(g->n->sent_count, 4);
}

static void transmit_waits(void **state)
{
    struct e1k *g = *state;

    e1k_start_tx(g);
    e1k_fill(g->h->plat.ram + TX_BUF, 100, e1k_mac);
    g->n->room = 2;
    for (unsigned i = 0; i < 5; i++) {
        e1k_put_legacy(g, TX_BUF, 100 + i, EOP | RS);
    }
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 2);
    assert_int_equal(e1k_rd(g, E1000_TDH), 2);
    assert_int_equal(e1k_tx_status(g, 1), 1);
    assert_int_equal(e1k_tx_status(g, 2), 0);
    e1k_put_legacy(g, TX_BUF, 105, EOP | RS);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 2);
    net_fake_room(g->n, UINT_MAX);
    e1k_run(g);
    e1k_run(g);
    assert_int_equal(g->n->sent_count, 6);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(e1k_sent(g, i)->len, 100 + i);
    }
}

static void transmit_burst(void **state)
{
    struct e1k *g = *state;
    unsigned rises = 0;

    e1k_start_tx(g);
    e1k_wr(g, E1000_TDLEN, 512 * 16);
    e1k_wr(g, E1000_IMS, ICR_TXDW);
    e1k_fill(g->h->plat.ram + TX_BUF, 100, e1k_mac);
    for (unsigned i = 0; i < 511; i++) {
        e1k_set64(g, TX_RING + 16 * i, TX_BUF);
        e1k_set64(g, TX_RING + 16 * i + 8, 60 | (uint64_t)(EOP | RS) << 24);
    }
    e1k_wr(g, E1000_TDT, 511);
    for (unsigned i = 0; i < 6; i++) {
        harness_step(g->h, 0);
        rises += e1k_irq(g);
        e1k_rd(g, E1000_ICR);
    }
    assert_int_equal(g->n->sent_count, 511);
    assert_in_range(rises, 1, 2); /* one per pass of 256, if the guest is as quick */
    /* TXD_LOW: fewer than LWTHRESH * 8 left. */
    e1k_wr(g, E1000_TDH, 0);
    e1k_wr(g, E1000_TXDCTL, 1u << 25);
    e1k_wr(g, E1000_TDT, 7);
    e1k_run(g);
    assert_int_equal(e1k_rd(g, E1000_ICR) & ICR_TXD_LOW, 0);
    e1k_wr(g, E1000_TDT, 20);
    e1k_run(g);
    assert_int_equal(e1k_rd(g, E1000_ICR) & ICR_TXD_LOW, ICR_TXD_LOW);
}

static void transmit_delay(void **state)
{
    struct e1k *g = *state;

    e1k_start_tx(g);
    e1k_wr(g, E1000_TIDV, 10);
    e1k_wr(g, E1000_TADV, 15);
    e1k_wr(g, E1000_IMS, ICR_TXDW);
    e1k_fill(g->h->plat.ram + TX_BUF, 100, e1k_mac);
    e1k_put_legacy(g, TX_BUF, 60, EOP | RS | IDE);
    e1k_go(g);
    assert_int_equal(e1k_tx_status(g, 0), 1);
    harness_step(g->h, 9 * 1024);
    assert_false(e1k_irq(g));
    e1k_put_legacy(g, TX_BUF, 60, EOP | RS | IDE); /* starts TIDV again, but not TADV */
    e1k_go(g);
    harness_step(g->h, 6 * 1024 - 1);
    assert_false(e1k_irq(g));
    harness_step(g->h, 1);
    assert_true(e1k_irq(g));
    e1k_rd(g, E1000_ICR);
    e1k_put_legacy(g, TX_BUF, 60, EOP | RS | IDE);
    e1k_put_legacy(g, TX_BUF, 60, EOP | RS); /* not to be delayed: both at once */
    e1k_go(g);
    assert_true(e1k_irq(g));
    e1k_rd(g, E1000_ICR);
    harness_step(g->h, MS);
    assert_false(e1k_irq(g));
}

static void checksum_passed_on(void **state)
{
    struct e1k *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    e1k_start_tx(g);
    e1k_tcp4(p, 1000, false, false);
    e1k_put_legacy(g, TX_BUF, 1054, EOP | IC);
    e1k_set64(g, TX_RING + 8, 1054 | 50 << 16 | (uint64_t)(EOP | IC) << 24 | (uint64_t)34 << 40);
    e1k_put_context(g, 14, 33, 34, 50, 3, 0, 0);
    e1k_put_data(g, TX_BUF, 54, 0, 3);
    e1k_put_data(g, TX_BUF + 54, 1000, EOP, 0);
    e1k_put_data(g, TX_BUF, 1054, EOP, 2); /* the context stays; no IP checksum */
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(e1k_sent(g, i)->len, 1054);
        assert_true(e1k_sent(g, i)->off.csum_needed);
        assert_int_equal(e1k_sent(g, i)->off.csum_start, 34);
        assert_int_equal(e1k_sent(g, i)->off.csum_offset, 16);
        assert_memory_equal(e1k_sent(g, i)->data + 26, p + 26, 1028); /* TCP as it was */
    }
    assert_int_equal(e1k_be16(e1k_sent(g, 0)->data + 24), 0);
    assert_int_equal(e1k_sum16(e1k_sent(g, 1)->data + 14, 20, 0), 0xffff); /* IP's is done here */
    assert_int_equal(e1k_be16(e1k_sent(g, 2)->data + 24), 0);
}

static void checksum_done_here(void **state)
{
    struct e1k *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    e1k_start_tx(g);
    e1k_tcp4(p, 1000, false, false);
    e1k_put_context(g, 14, 33, 34, 50, 3, 0, 0);
    e1k_put_data(g, TX_BUF, 54, 0, 3);
    e1k_put_data(g, TX_BUF + 54, 1000, EOP, 0);
    e1k_go(g);
    assert_true(e1k_tcp4_good(e1k_sent(g, 0)->data, 1054));
    /* A sum over part of the packet, which no host would do: bytes 34 to 99. */
    e1k_put(g,
            14 | 24 << 8 | 33 << 16 | (uint64_t)34 << 32 | (uint64_t)50 << 40 | (uint64_t)99 << 48,
            (uint64_t)(3 | DEXT) << 24);
    e1k_put_data(g, TX_BUF, 1054, EOP, 2);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 2);
    assert_int_equal(e1k_be16(e1k_sent(g, 1)->data + 50), ~e1k_sum16(p + 34, 66, 0) & 0xffff);
    assert_memory_equal(e1k_sent(g, 1)->data + 52, p + 52, 1002);
    /* Fields that point outside are ignored. */
    e1k_put(g, 200 | 255 << 8 | 0 << 16 | (uint64_t)250 << 32 | (uint64_t)251 << 40,
            (uint64_t)(3 | DEXT) << 24);
    e1k_put_data(g, TX_BUF, 100, EOP, 3);
    e1k_go(g);
    assert_memory_equal(e1k_sent(g, 2)->data, p, 100);
}

/* 8000 bytes in segments of 1448. */
static void put_tso(struct e1k *g, unsigned vlan)
{
    e1k_tcp4(g->h->plat.ram + TX_BUF, 8000, false, true);
    e1k_put_context(g, 14, 33, 34, 50, 3 | TSE, 54, 1448);
    e1k_put_data(g, TX_BUF, 54, TSE | vlan, 3);
    e1k_put_data(g, TX_BUF + 54, 8000, TSE | vlan | EOP | RS, 3);
}

static void segmentation_passed_on(void **state)
{
    struct e1k *g = *state;
    const struct net_fake_frame *f;

    e1k_start_tx(g);
    put_tso(g, 0);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 1);
    f = e1k_sent(g, 0);
    assert_int_equal(f->len, 8054);
    assert_int_equal(f->off.gso, NET_GSO_TCPV4);
    assert_int_equal(f->off.gso_size, 1448);
    assert_int_equal(f->off.header_len, 54);
    assert_int_equal(f->off.csum_start, 34);
    assert_int_equal(f->off.csum_offset, 16);
    assert_int_equal(e1k_be16(f->data + 16), 8040);
    assert_int_equal(e1k_be16(f->data + 50), e1k_sum16(f->data + 26, 8, 6 + 8020));
    assert_memory_equal(f->data + 54, g->h->plat.ram + TX_BUF + 54, 8000);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_GPTC), 6); /* counted as on the wire */
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_GOTC), 8000 + 6 * 58);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_PTC64 + 20), 5);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_PTC64 + 16), 1);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_TSCTC), 1);
    assert_int_equal(g->h->plat.ram[TX_BUF + 16], 0); /* the guest's memory stays as it was */
}

/* Headers and data in scattered pieces, some of which end up in the header that is made here. */
static void pieces(void **state)
{
    struct e1k *g = *state;
    static const unsigned cuts[] = {0, 14, 34, 54, 154, 256, 300, 8054};
    uint8_t *p = g->h->plat.ram + TX_BUF;

    e1k_start_tx(g);
    for (unsigned from = 1; from < 7; from++) {
        e1k_tcp4(p, 8000, false, true);
        e1k_put_context(g, 14, 33, 34, 50, 3 | TSE, 54, 1448);
        for (unsigned i = 0; i < 7; i++) { /* from piece `from` on each lies elsewhere */
            unsigned len = cuts[i + 1] - cuts[i];
            uint32_t at = TX_BUF + cuts[i];

            if (i >= from) {
                at += 0x10000 * i;
                memcpy(g->h->plat.ram + at, p + cuts[i], len);
                memset(p + cuts[i], 0xee, len);
            }
            e1k_put_data(g, at, len, TSE | (i == 6 ? EOP | RS : 0u), 3);
        }
        e1k_tcp4(p, 8000, false, true);
        e1k_go(g);
        assert_int_equal(e1k_sent(g, from - 1)->len, 8054);
        assert_memory_equal(e1k_sent(g, from - 1)->data + 54, p + 54, 8000);
        assert_int_equal(e1k_be16(e1k_sent(g, from - 1)->data + 16), 8040);
        assert_memory_equal(e1k_sent(g, from - 1)->data + 26, p + 26, 24);
    }
}

static void segmentation_done_here(void **state)
{
    struct e1k *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    e1k_start_tx(g);
    e1k_wr(g, E1000_CTRL, CTRL_SLU | CTRL_VME);
    e1k_wr(g, E1000_VET, 0x8100);
    put_tso(g, 0);
    put_tso(g, VLE);
    e1k_set64(g, TX_RING + 16 * 5 + 8, e1k_get64(g, TX_RING + 16 * 5 + 8) | UINT64_C(0x2005) << 48);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 12);
    for (unsigned i = 0; i < 12; i++) {
        const struct net_fake_frame *f = e1k_sent(g, i);
        unsigned k = i % 6;
        uint8_t plain[1600];
        size_t len = f->len;

        memcpy(plain, f->data, f->len);
        if (i >= 6) {
            assert_int_equal(e1k_be32(f->data + 12), 0x81002005);
            len -= 4;
            memmove(plain + 12, plain + 16, len - 12);
        }
        assert_int_equal(len, k < 5 ? 1502 : 8000 - 5 * 1448 + 54);
        assert_true(e1k_tcp4_good(plain, len));
        assert_int_equal(e1k_be16(plain + 18), 0x12ff + k);        /* IP identification */
        assert_int_equal(e1k_be32(plain + 38), 0x1000 + 1448 * k); /* sequence number */
        assert_int_equal(plain[47], k == 5 ? 0x19 : 0x10);         /* PSH and FIN only at the end */
        assert_memory_equal(plain + 54, p + 54 + 1448 * k, len - 54);
    }
    e1k_put_context(g, 14, 33, 34, 50, 3 | TSE, 54, 0); /* no MSS */
    e1k_put_data(g, TX_BUF, 8054, TSE | EOP | RS, 3);
    e1k_put_context(g, 14, 33, 34, 50, 3 | TSE, 10, 100); /* no header */
    e1k_put_data(g, TX_BUF, 8054, TSE | EOP | RS, 3);
    e1k_put_context(g, 14, 33, 34, 50, 3 | TSE, 54, 1); /* 8000 segments */
    e1k_put_data(g, TX_BUF, 8054, TSE | EOP | RS, 3);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 12);
    assert_int_equal(e1k_rd(g, E1000_TDH), g->tx_tail);
    e1k_put_context(g, 14, 33, 34, 50, 3 | TSE, 54, 9000); /* one segment is enough */
    e1k_put_data(g, TX_BUF, 8054, TSE | EOP | RS, 3);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 13);
    assert_true(e1k_tcp4_good(e1k_sent(g, 12)->data, 8054));
}

/* TCP over IPv6 and UDP over IPv4, at the lengths' other places. */
static void segmentation_kinds(void **state)
{
    struct e1k *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    e1k_start_tx(g);
    memset(p, 0, 3000);
    p[12] = 0x86;
    p[13] = 0xdd;
    p[14] = 0x60;
    p[20] = 6;
    p[66] = 0x50;
    e1k_put_context(g, 14, 0, 54, 70, 1 | TSE, 74, 1000);
    e1k_put_data(g, TX_BUF, 2574, TSE | EOP, 2);
    e1k_go(g);
    assert_int_equal(e1k_sent(g, 0)->off.gso, NET_GSO_TCPV6);
    assert_int_equal(e1k_be16(e1k_sent(g, 0)->data + 18), 2520);
    assert_int_equal(e1k_be16(e1k_sent(g, 0)->data + 70), 2520);
    memset(p, 0, 100);
    p[12] = 8;
    p[14] = 0x45;
    p[23] = 17;
    e1k_put_context(g, 14, 33, 34, 40, 2 | TSE, 42, 1000);
    e1k_put_data(g, TX_BUF, 2542, TSE | EOP, 3);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 4); /* cut by net/: hosts do not */
    for (unsigned i = 1; i < 4; i++) {
        assert_int_equal(e1k_be16(e1k_sent(g, i)->data + 38), (i < 3 ? 1000 : 500) + 8);
    }
}

static void vlan_inserted(void **state)
{
    struct e1k *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;

    e1k_start_tx(g);
    e1k_fill(p, 1500, e1k_mac);
    e1k_wr(g, E1000_VET, 0x8100);
    e1k_put(g, TX_BUF, 100 | (uint64_t)(EOP | VLE) << 24 | UINT64_C(0x3064) << 48);
    e1k_go(g);
    assert_int_equal(e1k_sent(g, 0)->len, 100); /* CTRL.VME is off */
    e1k_wr(g, E1000_CTRL, CTRL_SLU | CTRL_VME);
    e1k_put(g, TX_BUF, 1500 | (uint64_t)(EOP | VLE) << 24 | UINT64_C(0x3064) << 48);
    e1k_put(g, TX_BUF, 20 | (uint64_t)(EOP | VLE) << 24 | UINT64_C(0x3064) << 48);
    e1k_put(g, TX_BUF, 20 | (uint64_t)EOP << 24 | UINT64_C(0x3064) << 48);
    e1k_go(g);
    assert_int_equal(e1k_sent(g, 1)->len, 1504);
    assert_memory_equal(e1k_sent(g, 1)->data, p, 12);
    assert_int_equal(e1k_be32(e1k_sent(g, 1)->data + 12), 0x81003064);
    assert_memory_equal(e1k_sent(g, 1)->data + 16, p + 12, 1488);
    assert_int_equal(e1k_sent(g, 2)->len, 60);
    assert_int_equal(e1k_be32(e1k_sent(g, 2)->data + 12), 0x81003064);
    assert_int_equal(e1k_be16(e1k_sent(g, 3)->data + 12), 0x1234);
}

/* ---- receive ---- */

static void receive(void **state)
{
    struct e1k *g = *state;
    uint8_t frame[1514];
    const uint8_t *ram = g->h->plat.ram;

    e1k_fill(frame, sizeof(frame), e1k_mac);
    memset(g->h->plat.ram + RX_BUF, 0xcc, 0x40000);
    e1k_start_rx(g, 0);
    e1k_wr(g, E1000_IMS, ICR_RXT0);
    e1k_feed(g, frame, 1514);
    assert_true(e1k_irq(g));
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_RXT0);
    assert_int_equal(e1k_rx_len(g, 0), 1518);    /* with FCS */
    assert_int_equal(e1k_rx_status(g, 0), 0x07); /* DD, EOP, IXSM */
    assert_int_equal(e1k_rx_errors(g, 0), 0);
    assert_int_equal(e1k_rx_desc(g, 0) >> 16 & 0xffff, ~e1k_sum16(frame, 1514, 0) & 0xffff);
    assert_memory_equal(ram + RX_BUF, frame, 1514);
    assert_int_equal(e1k_get64(g, RX_BUF + 1514) & 0xffffffff, 0);
    assert_int_equal(ram[RX_BUF + 1518], 0xcc);
    assert_int_equal(e1k_rd(g, E1000_RDH), 1);
    assert_int_equal(e1k_get64(g, RX_RING), RX_BUF); /* the address stays */

    memset(frame + 20, 0x55, 40);
    e1k_feed(g, frame, 20); /* padded with zeros, as on a wire */
    assert_int_equal(e1k_rx_len(g, 1), 64);
    assert_int_equal(ram[RX_BUF + 0x4000 + 19], frame[19]);
    assert_int_equal(ram[RX_BUF + 0x4000 + 20], 0);
    e1k_wr(g, E1000_RCTL, RCTL_EN | RCTL_SECRC);
    e1k_feed(g, frame, 60);
    assert_int_equal(e1k_rx_len(g, 2), 60);
    e1k_wr(g, E1000_RXCSUM, 14);
    e1k_feed(g, frame, 100);
    assert_int_equal(e1k_rx_desc(g, 3) >> 16 & 0xffff, ~e1k_sum16(frame + 14, 86, 0) & 0xffff);
}

static void receive_sizes(void **state)
{
    struct e1k *g = *state;
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

    e1k_fill(frame, sizeof(frame), e1k_mac);
    for (unsigned k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        unsigned want = 3000 + 4;

        e1k_wr(g, E1000_RCTL, 0);
        e1k_start_rx(g, rows[k].bits | RCTL_LPE);
        e1k_feed(g, frame, 3000);
        for (unsigned i = 0; want > 0; i++) {
            unsigned len = want < rows[k].size ? want : rows[k].size;

            want -= len;
            assert_int_equal(e1k_rx_len(g, i), len);
            assert_int_equal(e1k_rx_status(g, i) & 3, want == 0 ? 3 : 1);
            if (want >= 4) {
                assert_memory_equal(g->h->plat.ram + RX_BUF + 0x4000 * i, frame + rows[k].size * i,
                                    len);
            }
        }
    }
    e1k_wr(g, E1000_RCTL, 0);
    e1k_rd(g, E1000_STATS + STAT_ROC);
    e1k_start_rx(g, 0); /* LPE off */
    e1k_feed(g, frame, 1518);
    e1k_feed(g, frame, 1519);
    assert_int_equal(e1k_rd(g, E1000_RDH), 1);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_ROC), 1);
    e1k_wr(g, E1000_RCTL, RCTL_EN | RCTL_SBP);
    e1k_feed(g, frame, 1519);
    assert_int_equal(e1k_rd(g, E1000_RDH), 2);
    e1k_wr(g, E1000_RCTL, RCTL_EN | RCTL_LPE);
    e1k_feed(g, frame, 16380);
    assert_int_equal(e1k_rd(g, E1000_RDH), 10);
    e1k_feed(g, frame, 16381);
    assert_int_equal(e1k_rd(g, E1000_RDH), 10);
}

static void filters(void **state)
{
    struct e1k *g = *state;
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
        {{2, 0, 0, 0, 0, 0x77}, 0, 0, 0, true, false},  /* RAL[5] */
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
        {{1, 0, 0x5e, 0, 0x34, 0x12},
         1u << RCTL_MO_SHIFT,
         0x246 / 32,
         1u << (0x246 % 32),
         true,
         true},
        {{1, 0, 0x5e, 0, 0x34, 0x12},
         2u << RCTL_MO_SHIFT,
         0x48d / 32,
         1u << (0x48d % 32),
         true,
         true},
        {{1, 0, 0x5e, 0, 0x34, 0x12},
         3u << RCTL_MO_SHIFT,
         0x234 / 32,
         1u << (0x234 % 32),
         true,
         true},
    };

    e1k_wr(g, E1000_RAL + 8 * 5, 0x00000002);
    e1k_wr(g, E1000_RAH + 8 * 5, 0x80007700);
    e1k_wr(g, E1000_RAL + 8 * 6, 0x00000002);
    e1k_wr(g, E1000_RAH + 8 * 6, 0x00007800);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        e1k_fill(frame, sizeof(frame), rows[i].dst);
        e1k_wr(g, E1000_RCTL, 0);
        e1k_start_rx(g, rows[i].rctl);
        e1k_wr(g, E1000_MTA + 4 * rows[i].mta_word, rows[i].mta_bits);
        e1k_feed(g, frame, sizeof(frame));
        if ((e1k_rd(g, E1000_RDH) == 1) != rows[i].taken) {
            fail_msg("row %u", i);
        }
        assert_int_equal(e1k_rx_status(g, 0) >> 7, rows[i].inexact);
        e1k_wr(g, E1000_MTA + 4 * rows[i].mta_word, 0);
    }
    e1k_wr(g, E1000_RCTL, 0); /* switched off: lost, as on the wire */
    e1k_start_rx(g, RCTL_BAM);
    e1k_wr(g, E1000_RCTL, 0);
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(g->n->queue_count, 0);
    assert_int_equal(e1k_rd(g, E1000_RDH), 0);
    e1k_fill(frame, sizeof(frame), e1k_mac); /* pause frames */
    frame[12] = 0x88;
    frame[13] = 0x08;
    e1k_wr(g, E1000_RCTL, RCTL_EN | RCTL_DPF);
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(e1k_rd(g, E1000_RDH), 0);
    e1k_wr(g, E1000_RCTL, RCTL_EN);
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(e1k_rd(g, E1000_RDH), 1);
}

static void vlan_received(void **state)
{
    struct e1k *g = *state;
    uint8_t frame[100];

    e1k_fill(frame, sizeof(frame), e1k_mac);
    frame[12] = 0x81;
    frame[13] = 0x00;
    frame[14] = 0x60; /* priority 3, VLAN 5 */
    frame[15] = 0x05;
    e1k_wr(g, E1000_VET, 0x8100);
    e1k_start_rx(g, 0);
    e1k_feed(g, frame, sizeof(frame)); /* as it is */
    assert_int_equal(e1k_rx_len(g, 0), 104);
    assert_int_equal(e1k_rx_status(g, 0) & 8, 0);
    e1k_wr(g, E1000_CTRL, CTRL_SLU | CTRL_VME);
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(e1k_rx_len(g, 1), 100);
    assert_int_equal(e1k_rx_status(g, 1) & 8, 8);
    assert_int_equal(e1k_rx_desc(g, 1) >> 48, 0x6005);
    assert_memory_equal(g->h->plat.ram + RX_BUF + 0x4000, frame, 12);
    assert_memory_equal(g->h->plat.ram + RX_BUF + 0x4000 + 12, frame + 16, 84);
    e1k_wr(g, E1000_RCTL, RCTL_EN | RCTL_VFE);
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(e1k_rd(g, E1000_RDH), 2);
    e1k_wr(g, E1000_VFTA, 1u << 5);
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(e1k_rd(g, E1000_RDH), 3);
    e1k_wr(g, E1000_RCTL, RCTL_EN | RCTL_VFE | RCTL_CFIEN | RCTL_CFI); /* CFI has to be 1 */
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(e1k_rd(g, E1000_RDH), 3);
    frame[14] = 0x70;
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(e1k_rd(g, E1000_RDH), 4);
    frame[12] = 0x08; /* no tag: not filtered */
    e1k_feed(g, frame, sizeof(frame));
    assert_int_equal(e1k_rd(g, E1000_RDH), 5);
    assert_int_equal(e1k_rx_status(g, 4) & 8, 0);
}

static void receive_checksums(void **state)
{
    struct e1k *g = *state;
    uint8_t p[600];
    const struct net_offload vouched = {.csum_valid = true};

    e1k_start_rx(g, 0);
    e1k_wr(g, E1000_RXCSUM, RXCSUM_IPOFLD | RXCSUM_TUOFLD);
    e1k_tcp4(p, 501, true, false);
    e1k_feed(g, p, 555);
    assert_int_equal(e1k_rx_status(g, 0), 0x63); /* TCPCS, IPCS */
    assert_int_equal(e1k_rx_errors(g, 0), 0);
    p[100] ^= 1;
    e1k_feed(g, p, 555);
    assert_int_equal(e1k_rx_status(g, 1), 0x63);
    assert_int_equal(e1k_rx_errors(g, 1), 0x20); /* TCPE */
    p[24] ^= 1;
    e1k_feed(g, p, 555);
    assert_int_equal(e1k_rx_errors(g, 2), 0x60); /* and IPE */
    p[24] ^= 1;
    net_fake_receive(g->n, p, 555, &vouched); /* the host says so */
    e1k_run(g);
    assert_int_equal(e1k_rx_status(g, 3), 0x63);
    assert_int_equal(e1k_rx_errors(g, 3), 0);
    e1k_wr(g, E1000_RXCSUM, RXCSUM_IPOFLD);
    e1k_feed(g, p, 555);
    assert_int_equal(e1k_rx_status(g, 4), 0x43);
    assert_int_equal(e1k_rx_errors(g, 4), 0);
    e1k_wr(g, E1000_RXCSUM, RXCSUM_TUOFLD);
    p[20] |= 0x20; /* more fragments */
    e1k_feed(g, p, 555);
    assert_int_equal(e1k_rx_status(g, 5) & 0x60, 0);
    p[12] = 0x88; /* not IP */
    e1k_feed(g, p, 555);
    assert_int_equal(e1k_rx_status(g, 6), 0x07);
    e1k_tcp4(p, 10, true, false); /* padded behind the packet */
    p[64] = p[65] = 0xaa;
    e1k_feed(g, p, 66);
    assert_int_equal(e1k_rx_status(g, 7), 0x23);
    assert_int_equal(e1k_rx_errors(g, 7), 0);
    p[17] = 200; /* longer than the frame */
    e1k_feed(g, p, 66);
    assert_int_equal(e1k_rx_errors(g, 8), 0x20);
}

static void ring_full(void **state)
{
    struct e1k *g = *state;
    uint8_t frame[1000];

    e1k_fill(frame, sizeof(frame), e1k_mac);
    e1k_start_rx(g, 0); /* RDMTS: half */
    for (unsigned i = 0; i < 20; i++) {
        net_fake_receive(g->n, frame, 60 + i, NULL);
        e1k_run(g);
        if (i < 6) {
            assert_int_equal(e1k_rd(g, E1000_ICR), ICR_RXT0);
        } else if (i == 6) {
            assert_int_equal(e1k_rd(g, E1000_ICR),
                             ICR_RXT0 | ICR_RXDMT0); /* eight left of sixteen */
        }
    }
    assert_int_equal(e1k_rd(g, E1000_RDH), RING - 1);
    assert_false(g->n->reading);
    assert_int_equal(g->n->queue_count, 4); /* and one in net.c */
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_MPC), 0);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_RNBC), 1);
    e1k_wr(g, E1000_RDT, 2); /* three more */
    e1k_run(g);
    net_fake_receive(g->n, frame, 80, NULL);
    e1k_run(g);
    assert_int_equal(e1k_rd(g, E1000_RDH), 2);
    assert_int_equal(e1k_rx_len(g, RING - 1), 60 + 15 + 4);
    assert_int_equal(e1k_rx_len(g, 1), 60 + 17 + 4);
    e1k_wr(g, E1000_RDT, 10);
    e1k_run(g);
    net_fake_receive(g->n, frame, 81, NULL);
    e1k_run(g);
    assert_int_equal(e1k_rd(g, E1000_RDH), 6);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(e1k_rx_len(g, 2 + i),
                         60 + 18 + i + 4); /* 18, 19, 80, 81: nothing lost, in order */
    }
    /* A frame that never fits is lost and says so. */
    e1k_wr(g, E1000_RDLEN, 128 / 16 * 16);
    e1k_wr(g, E1000_RDH, 0);
    e1k_wr(g, E1000_RDT, 2);
    e1k_wr(g, E1000_RCTL, RCTL_EN | RCTL_LPE | 3u << RCTL_BSIZE_SHIFT);
    e1k_rd(g, E1000_ICR);
    static uint8_t big[4000];
    e1k_fill(big, sizeof(big), e1k_mac);
    e1k_feed(g, big, sizeof(big));
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_MPC), 1);
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_RXO);
    e1k_wr(g, E1000_RDT, 0xfff0); /* outside the ring: as if there were no buffers */
    e1k_feed(g, frame, 100);
    assert_int_equal(e1k_rd(g, E1000_RDH), 0);
}

static void receive_moderation(void **state)
{
    struct e1k *g = *state;
    uint8_t frame[200];

    e1k_fill(frame, sizeof(frame), e1k_mac);
    e1k_start_rx(g, 3u << RCTL_RDMTS_SHIFT & 0);
    e1k_wr(g, E1000_IMS, ICR_RXT0 | ICR_SRPD);
    e1k_wr(g, E1000_RDTR, 20);
    e1k_wr(g, E1000_RADV, 30);
    e1k_feed(g, frame, 200);
    assert_int_equal(e1k_rx_status(g, 0) & 1, 1);
    harness_step(g->h, 15 * 1024);
    e1k_feed(g, frame, 200); /* starts RDTR again, but not RADV */
    harness_step(g->h, 15 * 1024 - 1);
    assert_false(e1k_irq(g));
    harness_step(g->h, 1);
    assert_true(e1k_irq(g));
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_RXT0);
    e1k_feed(g, frame, 200);
    e1k_wr(g, E1000_RDTR, RDTR_FPD | 20); /* flush */
    assert_true(e1k_irq(g));
    e1k_rd(g, E1000_ICR);
    e1k_wr(g, E1000_RSRPD, 100);
    e1k_feed(g, frame, 97); /* with FCS too long to be small */
    assert_false(e1k_irq(g));
    e1k_feed(g, frame, 96);
    assert_true(e1k_irq(g));
    assert_int_equal(e1k_rd(g, E1000_ICR), ICR_RXT0 | ICR_SRPD);
    harness_step(g->h, MS);
    assert_false(e1k_irq(g));
    e1k_wr(g, E1000_RDTR, 0);
    net_fake_receive(g->n, frame, 200, NULL); /* one interrupt for a batch */
    net_fake_receive(g->n, frame, 200, NULL);
    assert_false(e1k_irq(g));
    e1k_run(g);
    assert_true(e1k_irq(g));
    assert_int_equal(e1k_rd(g, E1000_RDH), 7);
}

static void nowhere(void **state)
{
    struct e1k *g = *state;
    uint8_t frame[200];

    e1k_fill(frame, sizeof(frame), e1k_mac);
    e1k_start_rx(g, 0);
    e1k_set64(g, RX_RING, 0);                                 /* null */
    e1k_set64(g, RX_RING + 16, 0xb0000);                      /* not RAM */
    e1k_set64(g, RX_RING + 32, UINT64_C(0xffffffffffffffc0)); /* the end of all addresses */
    e1k_set64(g, RX_RING + 48, HARNESS_RAM_SIZE - 50);        /* half of it RAM */
    for (unsigned i = 0; i < 4; i++) {
        e1k_feed(g, frame, sizeof(frame));
        assert_int_equal(e1k_rx_status(g, i) & 3, 3);
    }
    assert_memory_equal(g->h->plat.ram + HARNESS_RAM_SIZE - 50, frame, 50);
    e1k_wr(g, E1000_RDBAL, 0xa0000); /* the rings themselves */
    e1k_wr(g, E1000_TDBAL, 0xfffffff0);
    e1k_wr(g, E1000_TDBAH, 0xffffffff);
    e1k_wr(g, E1000_TDLEN, RING * 16);
    e1k_wr(g, E1000_TCTL, TCTL_EN);
    e1k_wr(g, E1000_TDT, 5);
    e1k_feed(g, frame, sizeof(frame));
    e1k_run(g);
    assert_int_equal(e1k_rd(g, E1000_RDH), 5);
}

/* ---- loopback and counters ---- */

static void loopback(void **state)
{
    struct e1k *g = *state;
    uint8_t *p = g->h->plat.ram + TX_BUF;
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

    for (unsigned how = 0; how < 3; how++) {
        e1k_wr(g, E1000_RCTL, 0);
        e1k_start_tx(g);
        e1k_start_rx(g, RCTL_BAM | (how < 2 ? (how == 0 ? 1u : 3u) << 6 : 0));
        if (how == 2) {
            e1k_phy_wr(g, PHY_BMCR, BMCR_LOOPBACK | BMCR_FULLDPLX | BMCR_SPEED1000);
        }
        e1k_fill(p, 1024, broadcast);
        e1k_put_legacy(g, TX_BUF, 1024, EOP | IFCS | RS);
        e1k_go(g);
        assert_int_equal(g->n->sent_count, 0);
        assert_int_equal(e1k_rx_len(g, 0), 1028);
        assert_memory_equal(g->h->plat.ram + RX_BUF, p, 1024);
        e1k_feed(g, p, 100); /* the host is not there */
        assert_int_equal(e1k_rd(g, E1000_RDH), 1);
        memset(g->h->plat.ram + RX_BUF + 0x4000, 0, 0x20000);
        e1k_wr(g, E1000_RXCSUM, RXCSUM_IPOFLD | RXCSUM_TUOFLD);
        put_tso(g, 0);
        e1k_go(g);
        assert_int_equal(e1k_rd(g, E1000_RDH), 7);
        for (unsigned i = 0; i < 6; i++) {
            assert_int_equal(e1k_rx_status(g, 1 + i), 0x63);
            assert_int_equal(e1k_rx_errors(g, 1 + i), 0);
            assert_memory_equal(g->h->plat.ram + RX_BUF + 0x4000 * (1 + i) + 54, p + 54 + 1448 * i,
                                i < 5 ? 1448 : 760);
        }
        e1k_wr(g, E1000_RDT, 7); /* without descriptors packets are lost, not stuck */
        e1k_rd(g, E1000_ICR);
        e1k_put_legacy(g, TX_BUF, 100, EOP | RS);
        e1k_go(g);
        assert_int_equal(e1k_tx_status(g, (g->tx_tail - 1) % RING), 1);
        assert_int_equal(e1k_rd(g, E1000_ICR) & ICR_RXO, ICR_RXO);
    }
}

static void counters(void **state)
{
    struct e1k *g = *state;
    static const uint16_t sizes[] = {60, 61, 123, 124, 251, 252, 507, 508, 1019, 1020, 1518};
    static const uint8_t expect[] = {1, 2, 2, 2, 2, 2};
    uint8_t frame[1518];
    uint32_t bytes = 0;

    e1k_start_tx(g);
    e1k_start_rx(g, RCTL_BAM | RCTL_MPE);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        e1k_fill(frame, sizeof(frame), e1k_mac);
        memset(frame, i < 2 ? 0xff : i < 5 ? 0x01 : 0x00, 1);
        memset(frame + 1, i < 2 ? 0xff : frame[1], 1);
        memset(frame + 2, i < 2 ? 0xff : frame[2], 4);
        if (i >= 5) {
            memcpy(frame, e1k_mac, 6);
        }
        memcpy(g->h->plat.ram + TX_BUF, frame, sizes[i]);
        e1k_put_legacy(g, TX_BUF, sizes[i], EOP);
        e1k_go(g);
        e1k_feed(g, frame, sizes[i]);
        bytes += sizes[i] + 4u;
    }
    frame[5] = 9; /* not for us */
    e1k_feed(g, frame, 100);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(e1k_rd(g, E1000_STATS + STAT_PRC64 + 4 * i), expect[i]);
        assert_int_equal(e1k_rd(g, E1000_STATS + STAT_PTC64 + 4 * i), expect[i]);
    }
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_GPRC), 11);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_GPTC), 11);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_BPRC), 2);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_BPTC), 2);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_MPRC), 3);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_MPTC), 3);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_TPR), 12);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_TPT), 11);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_GORC), bytes);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_GORC),
                     bytes); /* stays until its upper half is read */
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_GORC + 4), 0);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_GORC), 0);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_GOTC), bytes);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_TOT), bytes);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_TOR), bytes + 104);
    assert_int_equal(e1k_rd(g, E1000_STATS + STAT_GPRC), 0); /* the others at once */
}

/* Packets that the link did not take are sent later with the contexts that were theirs, whatever
 * was read behind them. */
static void contexts_wait(void **state)
{
    struct e1k *g = *state;

    e1k_start_tx(g);
    for (unsigned i = 0; i < 4; i++) {
        e1k_tcp4(g->h->plat.ram + TX_BUF + i * 2048, 100, false, false);
        e1k_put_context(g, 14, 33, 34, 50 + i, 3, 0, 0); /* the checksum's place tells them apart */
        e1k_put_data(g, TX_BUF + i * 2048, 154, EOP | IFCS | RS, 2);
    }
    net_fake_room(g->n, 1);
    e1k_go(g);
    assert_int_equal(g->n->sent_count, 1);
    assert_int_equal(e1k_rd(g, E1000_TDH), 3); /* the second context has been taken */
    net_fake_room(g->n, UINT_MAX);
    e1k_run(g);
    assert_int_equal(g->n->sent_count, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(e1k_sent(g, i)->off.csum_offset, 16 + i);
        assert_int_equal(e1k_tx_status(g, 2 * i + 1), 1);
    }
    assert_int_equal(e1k_rd(g, E1000_TDH), 8);
}

/* The packet checksum is that of the whole packet from PCSS on, however it was come by. */
static void rx_packet_checksum(void **state)
{
    struct e1k *g = *state;
    const struct net_offload vouched = {.csum_valid = true};
    uint8_t p[200];
    unsigned n = 0;

    e1k_start_rx(g, RCTL_BAM | RCTL_SECRC);
    for (unsigned pcss = 0; pcss < 64; pcss += 7) {
        for (unsigned payload = 40; payload < 44; payload++) {
            for (unsigned padding = 0; padding < 3; padding++) {
                for (unsigned valid = 0; valid < 2; valid++) {
                    size_t len = 54 + payload + padding;
                    uint16_t want;

                    e1k_tcp4(p, payload, true, false);
                    memset(p + len - padding, 0x5a, padding);
                    want = (uint16_t)~e1k_sum16(p + pcss, len - pcss, 0);
                    e1k_wr(g, E1000_RXCSUM, RXCSUM_IPOFLD | RXCSUM_TUOFLD | pcss);
                    net_fake_receive(g->n, p, len, valid ? &vouched : NULL);
                    e1k_run(g);
                    assert_int_equal(e1k_rx_errors(g, n), 0);
                    assert_int_equal(e1k_rx_desc(g, n) >> 16 & 0xffff, want);
                    e1k_wr(g, E1000_RDT, n);
                    n = (n + 1) % RING;
                }
            }
        }
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, e1k_setup, e1k_teardown)
#define P(f) cmocka_unit_test_setup_teardown(f, e1k_setup_plain, e1k_teardown)
    const struct CMUnitTest tests[] = {
        T(transmit),
        T(transmit_oddities),
        T(transmit_waits),
        T(transmit_burst),
        T(transmit_delay),
        T(checksum_passed_on),
        P(checksum_done_here),
        T(segmentation_passed_on),
        T(pieces),
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
        T(counters),
        T(rx_packet_checksum),
        T(contexts_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
