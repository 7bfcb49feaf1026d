/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RTL8139C+: C+ mode, counters, hostile rings. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/rtl8139_rig.h"

/* ---- C+ mode ---- */

static void test_cplus_send(void **state)
{
    struct rtl_rig *r = rtl_begin();
    unsigned total = 0;

    (void)state;
    rtl_cplus_on(r, 0);
    for (unsigned round = 0; round < 40; round++) { /* runs around a ring of 10 */
        for (unsigned k = 0; k < 3; k++, total++) {
            unsigned i = total % 10;

            rtl_fill(r->h->plat.ram + BUF + i * 2048, 200, BCAST, total);
            rtl_desc(r, TX_RING, i, OWN | FS | LS | (i == 9 ? EOR : 0) | 200, 0, BUF + i * 2048);
        }
        rtl_wr(r, ISR, 2, 0xffff);
        rtl_wr(r, TPPOLL, 1, 0x40);
        harness_step(r->h, 0);
        assert_int_equal(r->net->sent_count, total);
        assert_int_equal(rtl_rd(r, ISR, 2), TOK | TDU);
    }
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(rtl_mem32(r, TX_RING + 16 * i), FS | LS | (i == 9 ? EOR : 0) | 200);
    }
    assert_memory_equal(net_fake_sent(r->net, total - 1)->data,
                        r->h->plat.ram + BUF + (total - 1) % 10 * 2048, 200);
    /* the high priority ring goes first; a short frame is padded with zeros; pieces are put
     * together */
    memset(r->h->plat.ram + BUF, 0xaa, 100);
    rtl_desc(r, TX_RING, 0, OWN | FS | 30, 0, BUF);
    rtl_desc(r, TX_RING, 1, OWN | 20, 0, BUF + 30);
    rtl_desc(r, TX_RING, 2, OWN | LS | 50, 0, BUF + 50);
    rtl_desc(r, TXH_RING, 0, OWN | FS | LS | 20, 0, BUF);
    rtl_wr(r, TPPOLL, 1, 0xc0);
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
    rtl_desc(r, TX_RING, 3, OWN | FS | 30, 0, BUF);
    rtl_desc(r, TX_RING, 4, LS | 30, 0, BUF);
    rtl_wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, total + 2);
    assert_int_equal(rtl_mem32(r, TX_RING + 48), OWN | FS | 30);
    rtl_end(r);
}

/* What the guest leaves to the card arrives done, whoever does it. */
static void cplus_offload(bool host)
{
    struct rtl_rig *r = rtl_begin_with(host);
    uint8_t want[1514];
    const struct net_fake_frame *f;

    rtl_cplus_on(r, 0);
    rtl_fill_tcp(want, sizeof(want), true);
    rtl_fill_tcp(r->h->plat.ram + BUF, sizeof(want), false);
    rtl_desc(r, TX_RING, 0, OWN | FS | LS | 7u << 16 | sizeof(want), 0,
             BUF); /* IPCS, UDPCS, TCPCS */
    rtl_wr(r, TPPOLL, 1, 0x40);
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
    rtl_fill_tcp(r->h->plat.ram + BUF, 4054, false);
    rtl_desc(r, TX_RING, 1, OWN | FS | 1u << 27 | 1000u << 16 | 54, 1u << 17 | 0x3412, BUF);
    rtl_desc(r, TX_RING, 2, OWN | LS | 1u << 27 | 1000u << 16 | 4000, 0, BUF + 54);
    rtl_wr(r, TPPOLL, 1, 0x40);
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
            assert_true(rtl_sums_right(f->data, f->len));
            assert_memory_equal(f->data + 58, r->h->plat.ram + BUF + 54 + 1000 * i, 1000);
        }
    }
    assert_int_equal(rtl_mem32(r, TX_RING + 16), FS | 54);
    assert_int_equal(rtl_mem32(r, TX_RING + 32), LS | 4000);
    rtl_end(r);
}

static void test_cplus_offload(void **state)
{
    (void)state;
    cplus_offload(true);
    cplus_offload(false);
}

/* A short ring whose descriptors are all the card's: each goes out once. */
static void test_cplus_short_ring(void **state)
{
    struct rtl_rig *r = rtl_begin();

    (void)state;
    rtl_cplus_on(r, 0);
    for (unsigned i = 0; i < 3; i++) {
        rtl_fill(r->h->plat.ram + BUF + i * 2048, 100, BCAST, i);
        rtl_desc(r, TX_RING, i, OWN | FS | LS | (i == 2 ? EOR : 0) | 100, 0, BUF + i * 2048);
    }
    rtl_wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 3);
    assert_int_equal(rtl_rd(r, ISR, 2), TOK | TDU);
    rtl_end(r);
}

/* A link that takes one frame of several: the others keep their descriptors and follow in order. */
static void test_cplus_send_waits(void **state)
{
    struct rtl_rig *r = rtl_begin();

    (void)state;
    rtl_cplus_on(r, 0);
    for (unsigned i = 0; i < 5; i++) {
        rtl_fill(r->h->plat.ram + BUF + i * 2048, 100, BCAST, i);
        /* the third one says that it is longer than any frame: it is dropped, in its turn */
        rtl_desc(r, TX_RING, i, OWN | FS | LS | (i == 2 ? 0xffffu : 100u), 0, BUF + i * 2048);
        rtl_desc(r, TX_RING, 5, 0, 0, 0);
    }
    rtl_desc(r, TX_RING, 2, OWN | FS | 0xffff, 0, BUF);
    rtl_desc(r, TX_RING, 3, OWN | LS | 0xffff, 0, BUF);
    net_fake_room(r->net, 1);
    rtl_wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 1);
    assert_int_equal(rtl_mem32(r, TX_RING) & OWN, 0);
    for (unsigned i = 1; i < 5; i++) {
        assert_int_equal(rtl_mem32(r, TX_RING + 16 * i) & OWN, OWN);
    }
    assert_int_equal(rtl_rd(r, ISR, 2), TOK);
    net_fake_room(r->net, UINT_MAX);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_memory_equal(net_fake_sent(r->net, i)->data,
                            r->h->plat.ram + BUF + (i == 2 ? 4 : i) * 2048, 100);
    }
    assert_int_equal(rtl_rd(r, ISR, 2), TOK | TDU);
    rtl_end(r);
}

static void test_cplus_receive(void **state)
{
    struct rtl_rig *r = rtl_begin();
    uint8_t frame[1514];
    uint32_t fcs;

    (void)state;
    rtl_cplus_on(r, 0x60); /* RxChkSum, RxVLAN */
    for (unsigned i = 0; i < 4; i++) {
        rtl_desc(r, RX_RING, i, OWN | (i == 3 ? EOR : 0) | 1536, 0xffffffff, BUF + i * 2048);
    }
    rtl_fill(frame, 700, OURS, 1);
    assert_true(net_fake_receive(r->net, frame, 700, NULL));
    assert_int_equal(rtl_mem32(r, RX_RING), FS | LS | 1u << 25 | 704);
    assert_int_equal(rtl_mem32(r, RX_RING + 4), 0);
    assert_memory_equal(r->h->plat.ram + BUF, frame, 700);
    memcpy(&fcs, r->h->plat.ram + BUF + 700, 4);
    assert_int_equal(fcs, rtl_slow_crc(frame, 700));
    assert_int_equal(rtl_rd(r, ISR, 2), ROK);
    /* sums: right, wrong, vouched for by the host */
    rtl_fill_tcp(frame, 600, true);
    net_fake_receive(r->net, frame, 600, NULL);
    assert_int_equal(rtl_mem32(r, RX_RING + 16), FS | LS | 1u << 25 | 1u << 16 | 604);
    frame[100] ^= 1;
    net_fake_receive(r->net, frame, 600, NULL);
    assert_int_equal(rtl_mem32(r, RX_RING + 32), FS | LS | 1u << 25 | 1u << 16 | 1u << 13 | 604);
    frame[25] ^= 1;
    net_fake_receive(r->net, frame, 600, &(struct net_offload){.csum_valid = true});
    assert_int_equal(rtl_mem32(r, RX_RING + 48),
                     EOR | FS | LS | 1u << 25 | 1u << 16 | 1u << 15 | 604);
    /* around the end; a tag is taken out */
    rtl_desc(r, RX_RING, 0, OWN | 1536, 0, BUF);
    rtl_fill(frame, 104, OURS, 5);
    memcpy(frame + 12, "\x81\x00\x12\x34\x88\xb5", 6);
    net_fake_receive(r->net, frame, 104, NULL);
    assert_int_equal(rtl_mem32(r, RX_RING), FS | LS | 1u << 25 | 104);
    assert_int_equal(rtl_mem32(r, RX_RING + 4), 1u << 16 | 0x3412);
    assert_memory_equal(r->h->plat.ram + BUF, frame, 12);
    assert_memory_equal(r->h->plat.ram + BUF + 12, frame + 16, 88);
    /* what is larger than a buffer goes on in the next */
    for (unsigned i = 1; i < 4; i++) {
        rtl_desc(r, RX_RING, i, OWN | (i == 3 ? EOR : 0) | 512, 0, BUF + i * 2048);
    }
    rtl_fill(frame, 1200, OURS, 6);
    net_fake_receive(r->net, frame, 1200, NULL);
    assert_int_equal(rtl_mem32(r, RX_RING + 16), FS | 512);
    assert_int_equal(rtl_mem32(r, RX_RING + 32), 512);
    assert_int_equal(rtl_mem32(r, RX_RING + 48), EOR | LS | 1u << 25 | 1204);
    assert_memory_equal(r->h->plat.ram + BUF + 3 * 2048, frame + 1024, 176);
    rtl_end(r);
}

/* There is no doorbell for receive descriptors: the next sign of life of the driver counts, or in
 * the end a timer. */
static void test_cplus_stall(void **state)
{
    struct rtl_rig *r = rtl_begin();
    uint8_t frame[100];

    (void)state;
    rtl_cplus_on(r, 0);
    rtl_fill(frame, sizeof(frame), OURS, 1);
    rtl_desc(r, RX_RING, 0, OWN | 1536, 0, BUF);
    rtl_desc(r, RX_RING, 1, 1536, 0, BUF);
    assert_true(net_fake_receive(r->net, frame, sizeof(frame), NULL));
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    assert_false(r->net->reading);
    assert_int_equal(rtl_rd(r, ISR, 2), ROK | RDU);
    rtl_wr(r, ISR, 2, ROK | RDU);
    harness_step(r->h, 0);
    assert_int_equal(rtl_rd(r, ISR, 2), 0); /* no storm: said once */
    harness_step(r->h, 1000000000);
    assert_int_equal(rtl_rd(r, ISR, 2), 0);
    rtl_desc(r, RX_RING, 1, OWN | 1536, 0, BUF);
    rtl_wr(r, IMR, 2, 0xffff);
    harness_step(r->h, 0);
    assert_int_equal(rtl_rd(r, ISR, 2), ROK);
    assert_true(r->net->reading);
    rtl_wr(r, ISR, 2, ROK);
    assert_int_equal(rtl_mem32(r, RX_RING + 16), FS | LS | 1u << 25 | 104);
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    assert_int_equal(rtl_rd(r, ISR, 2), RDU);
    assert_true(harness_save_load_save(r->h));
    rtl_desc(r, RX_RING, 2, OWN | 1536, 0, BUF);
    harness_step(r->h, 200000000);
    assert_int_equal(rtl_rd(r, ISR, 2), ROK | RDU);
    assert_int_equal(rtl_mem32(r, RX_RING + 32), FS | LS | 1u << 25 | 104);
    /* the driver goes away while a frame waits: it is dropped, and the host is not blocked */
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    assert_false(r->net->reading);
    rtl_wr(r, CR, 1, 0);
    harness_step(r->h, 0);
    assert_true(r->net->reading);
    rtl_end(r);
}

static void test_tally(void **state)
{
    struct rtl_rig *r = rtl_begin();
    uint8_t frame[100];
    uint64_t v[8];

    (void)state;
    rtl_cplus_on(r, 0);
    for (unsigned i = 0; i < 4; i++) {
        rtl_desc(r, RX_RING, i, OWN | 1536, 0, BUF);
    }
    rtl_fill(frame, sizeof(frame), OURS, 1);
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    rtl_fill(frame, sizeof(frame), BCAST, 1);
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    rtl_desc(r, TX_RING, 0, OWN | FS | LS | 60, 0, BUF);
    rtl_wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 3);
    net_fake_receive(r->net, frame, sizeof(frame), NULL); /* missed */
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 7);
    assert_int_equal(rtl_rd(r, MPC, 4), 1);
    for (int i = 0; i < 2; i++) { /* dumping does not clear them */
        memset(r->h->plat.ram + 0x5000, 0xff, 64);
        rtl_wr(r, TSD0 + 4, 4, 0);
        rtl_wr(r, TSD0, 4, 0x5000 | 8);
        assert_int_equal(rtl_rd(r, TSD0, 4), 0x5000);
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
    rtl_end(r);
}

/* ---- hostile rings ---- */

static void test_hostile(void **state)
{
    struct rtl_rig *r = rtl_begin();
    uint8_t frame[1514];
    unsigned before;

    (void)state;
    rtl_cplus_on(r, 0);
    /* a whole ring of pieces without an end; rings within rings; buffers nowhere */
    for (unsigned i = 0; i < 64; i++) {
        rtl_desc(r, TX_RING, i, OWN | 0xffff, 0, 0xfffff000);
        rtl_desc(r, RX_RING, i, OWN | (i == 3 ? EOR : 0), 0, 0xfffff000); /* no room in any */
    }
    rtl_wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, 0);
    assert_int_equal(rtl_mem32(r, TX_RING + 63 * 16), 0xffff);
    rtl_fill(frame, sizeof(frame), OURS, 1);
    assert_true(net_fake_receive(r->net, frame, sizeof(frame), NULL));
    assert_int_equal(rtl_rd(r, MPC, 4), 1);
    /* a ring of one that is its own successor, smaller than the frame */
    rtl_wr(r, RDSAR, 4, RX_RING);
    rtl_desc(r, RX_RING, 0, OWN | EOR | 100, 0, BUF);
    assert_true(net_fake_receive(r->net, frame, sizeof(frame), NULL));
    assert_int_equal(rtl_rd(r, MPC, 4), 2);
    /* rings where there is no memory: all ones is an endless ring of huge pieces */
    rtl_wr(r, TSAD0, 4, 0xffffff00);
    rtl_wr(r, TSAD0 + 4, 4, 0xffffffff);
    rtl_wr(r, RDSAR, 4, 0xffffff00);
    rtl_wr(r, RDSAR + 4, 4, 0xffffffff);
    rtl_wr(r, TPPOLL, 1, 0x40);
    for (int i = 0; i < 100; i++) {
        harness_step(r->h, 0);
    }
    net_fake_receive(r->net, frame, sizeof(frame), NULL);
    harness_step(r->h, 0);
    before = r->net->sent_count;
    /* large send with a tiny segment size stays whole: no flood */
    rtl_wr(r, CR, 1, RST);
    rtl_cplus_on(r, 0);
    rtl_fill_tcp(r->h->plat.ram + BUF, 60000, false);
    rtl_desc(r, TX_RING, 0, OWN | FS | LS | 1u << 27 | 1u << 16 | 60000, 0, BUF);
    rtl_wr(r, TPPOLL, 1, 0x40);
    harness_step(r->h, 0);
    assert_int_equal(r->net->sent_count, before + 1);
    assert_int_equal(net_fake_sent(r->net, before)->off.gso, NET_GSO_NONE);
    rtl_end(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cplus_send),
        cmocka_unit_test(test_cplus_offload),
        cmocka_unit_test(test_cplus_short_ring),
        cmocka_unit_test(test_cplus_send_waits),
        cmocka_unit_test(test_cplus_receive),
        cmocka_unit_test(test_cplus_stall),
        cmocka_unit_test(test_tally),
        cmocka_unit_test(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
