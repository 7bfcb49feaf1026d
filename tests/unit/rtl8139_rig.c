/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/rtl8139_rig.h"

/* Fuzz targets link this file too, so there is no cmocka here. */
static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

void rtl_wr(struct rtl_rig *r, unsigned reg, unsigned size, uint32_t v)
{
    harness_out(r->h, (uint16_t)(IO + reg), size, v);
}

uint32_t rtl_rd(struct rtl_rig *r, unsigned reg, unsigned size)
{
    return harness_in(r->h, (uint16_t)(IO + reg), size);
}

uint32_t rtl_mem32(struct rtl_rig *r, uint32_t at)
{
    uint32_t v;

    memcpy(&v, r->h->plat.ram + at, 4);
    return v;
}

void rtl_set32(struct rtl_rig *r, uint32_t at, uint32_t v)
{
    memcpy(r->h->plat.ram + at, &v, 4);
}

bool rtl_irq(struct rtl_rig *r)
{
    return r->h->plat.intx[SLOT][0];
}

struct rtl_rig *rtl_begin_with(bool offloads)
{
    const struct rtl8139_config cfg = {.devfn = DEVFN, .mac = {0x00, 0x16, 0x3e, 0x12, 0x34, 0x56}};
    struct rtl_rig *r = calloc(1, sizeof(*r));

    must(r != NULL);
    r->h = harness_create();
    r->net = net_fake_add(&r->h->board, offloads);
    must(rtl8139_create(&r->h->board, &cfg, r->net->net) == 0);
    harness_pci_write(r->h, DEVFN, PCI_BAR0, 4, IO);
    harness_pci_write(r->h, DEVFN, PCI_BAR0 + 4, 4, 0xf0000000);
    harness_pci_write(r->h, DEVFN, PCI_COMMAND, 2, 7);
    return r;
}

struct rtl_rig *rtl_begin(void)
{
    return rtl_begin_with(true);
}

void rtl_end(struct rtl_rig *r)
{
    must(r->h->plat.holds == 0);
    harness_destroy(r->h);
    free(r);
}

void rtl_fill(uint8_t *frame, size_t len, const char *dst, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        frame[i] = (uint8_t)(i * 13 + seed);
    }
    memcpy(frame, dst, 6);
    frame[12] = 0x88, frame[13] = 0xb5;
}

/* TCP over IPv4, 54 bytes of headers; sums: both right. */
void rtl_fill_tcp(uint8_t *frame, size_t len, bool sums)
{
    struct net_headers h;
    uint16_t sum;

    rtl_fill(frame, len, OURS, 3);
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
        must(net_parse(frame, len, &h));
        must(net_pseudo_header(frame, &h, len));
        net_csum_complete(frame, len, &off);
    }
}

bool rtl_sums_right(const uint8_t *frame, size_t len)
{
    struct net_headers h;

    return net_parse(frame, len, &h) &&
           net_csum_fold(net_csum_add(0, frame + h.l3, (size_t)(h.l4 - h.l3))) == 0 &&
           (h.tcp || h.udp) &&
           net_csum_ok(frame, &h, (size_t)(h.l3 + (frame[h.l3 + 2] << 8 | frame[h.l3 + 3])));
}

uint32_t rtl_slow_crc(const uint8_t *p, size_t len)
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

void rtl_rx_on(struct rtl_rig *r, uint32_t rcr)
{
    rtl_wr(r, CR, 1, TE | RE);
    rtl_wr(r, RBSTART, 4, RING);
    rtl_wr(r, RCR, 4, rcr);
    rtl_wr(r, IMR, 2, 0xffff);
}

void rtl_desc(struct rtl_rig *r, uint32_t ring, unsigned i, uint32_t dw0, uint32_t dw1,
              uint32_t buf)
{
    rtl_set32(r, ring + 16 * i + 4, dw1);
    rtl_set32(r, ring + 16 * i + 8, buf);
    rtl_set32(r, ring + 16 * i + 12, 0);
    rtl_set32(r, ring + 16 * i, dw0);
}

void rtl_cplus_on(struct rtl_rig *r, uint16_t cpcr)
{
    rtl_wr(r, CPCR, 2, cpcr | 3u);
    rtl_wr(r, TSAD0, 4, TX_RING);
    rtl_wr(r, TSAD0 + 8, 4, TXH_RING);
    rtl_wr(r, RDSAR, 4, RX_RING);
    rtl_wr(r, RDSAR + 4, 4, 0);
    rtl_wr(r, CR, 1, TE | RE);
    rtl_wr(r, RCR, 4, 0x0a);
    rtl_wr(r, IMR, 2, 0xffff);
}
