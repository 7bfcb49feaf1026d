/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RTL8139C+: the transmitter. Data sheet 6.4 (C mode), 9.1 (C+ mode descriptors). Doorbells only
 * schedule; a bottom half moves the frames. */
#include <errno.h>
#include <string.h>

#include "hw/rtl8139_int.h"

enum { TX_BURST = 64 /* frames per turn of the loop */, VLAN_TAG = 4 };
enum {
    DESC_LGSEN = 1 << 27,
    DESC_MSS_SHIFT = 16,
    DESC_MSS = 0x7ff,
    DESC_IPCS = 1 << 18,
    DESC_UDPCS = 1 << 17,
    DESC_TCPCS = 1 << 16,
    DESC_LEN = 0xffff,
    DESC_TAGC = 1 << 17, /* second word */
};

/* 0, or -EAGAIN: to be tried again after sent_ready(). */
static int transmit(struct rtl8139 *d, size_t len, const struct net_offload *off)
{
    const struct iovec iov = {.iov_base = d->h.tx, .iov_len = len};

    if (rtl8139_loopback(d)) {
        struct net_cutter cutter;
        size_t n;

        if (len < 14) {
            return 0;
        }
        net_cut_init(&cutter, d->h.tx, len, off);
        while ((n = net_cut_next(&cutter, d->h.cut)) != 0) {
            rtl8139_receive_looped(d, d->h.cut, n);
        }
        return 0;
    }
    if (d->h.net != NULL && net_send(d->h.net, &iov, 1, off) == -EAGAIN) {
        return -EAGAIN;
    }
    return 0;
}

/* ---- C mode ---- */

static void run_c(struct rtl8139 *d)
{
    static const struct net_offload plain;

    for (unsigned i = 0; i < 4; i++) {
        uint32_t *tsd = &d->r.tsd[d->r.tx_cur];
        size_t len = *tsd & RTL8139_TSD_SIZE;

        if ((*tsd & RTL8139_TSD_OWN) != 0) {
            break;
        }
        guestmem_read(d->h.mem, d->r.tsad[d->r.tx_cur], d->h.tx, len);
        if ((d->r.tcr & RTL8139_TCR_CRC) != 0 && len > RTL8139_FCS) {
            len -= RTL8139_FCS; /* the driver made its own FCS; hosts do not want one */
        }
        if (transmit(d, len, &plain) != 0) {
            break;
        }
        *tsd |= RTL8139_TSD_OWN | RTL8139_TSD_TOK;
        d->r.tx_cur = (d->r.tx_cur + 1) & 3;
        d->r.tally.tx_ok++;
        d->r.isr |= RTL8139_ISR_TOK;
    }
}

/* ---- C+ mode ---- */

/* The tag's bytes are in the descriptor in the order of the wire. */
static size_t insert_tag(uint8_t *frame, size_t len, uint32_t dw1)
{
    if ((dw1 & DESC_TAGC) == 0 || len < 14) {
        return len;
    }
    memmove(frame + 16, frame + 12, len - 12);
    frame[12] = 0x81;
    frame[13] = 0x00;
    frame[14] = (uint8_t)dw1;
    frame[15] = (uint8_t)(dw1 >> 8);
    return len + VLAN_TAG;
}

static void sum_ip_header(uint8_t *frame, const struct net_headers *h)
{
    uint8_t *ip = frame + h->l3;
    uint16_t sum;

    ip[10] = ip[11] = 0;
    sum = net_csum_fold(net_csum_add(0, ip, (size_t)(h->l4 - h->l3)));
    ip[10] = (uint8_t)(sum >> 8);
    ip[11] = (uint8_t)sum;
}

/* What the first descriptor asks for: in *off where the host can do it, else done here. */
static void offload(uint8_t *frame, size_t len, uint32_t dw0, struct net_offload *off)
{
    bool large = (dw0 & DESC_LGSEN) != 0;
    struct net_headers h;
    size_t end;

    if ((dw0 & (DESC_LGSEN | DESC_IPCS | DESC_UDPCS | DESC_TCPCS)) == 0 ||
        !net_parse(frame, len, &h) || !h.ipv4) {
        return;
    }
    end = h.l3 + ((size_t)frame[h.l3 + 2] << 8 | frame[h.l3 + 3]);
    if (large && h.tcp) {
        end = len;
        frame[h.l3 + 2] = (uint8_t)((len - h.l3) >> 8);
        frame[h.l3 + 3] = (uint8_t)(len - h.l3);
        off->gso = NET_GSO_TCPV4;
        off->gso_size = dw0 >> DESC_MSS_SHIFT & DESC_MSS;
        off->header_len = h.payload;
    }
    if (large || (dw0 & DESC_IPCS) != 0) {
        sum_ip_header(frame, &h);
    }
    if ((h.tcp && (large || (dw0 & DESC_TCPCS) != 0)) ||
        (h.udp && !large && (dw0 & DESC_UDPCS) != 0)) {
        if (end < h.payload || end > len) {
            return;
        }
        net_pseudo_header(frame, &h, end);
        off->csum_needed = true;
        off->csum_start = h.l4;
        off->csum_offset = h.tcp ? 16 : 6;
        if (end != len) { /* padding is not part of what is summed */
            net_csum_complete(frame, end, off);
            off->csum_needed = false;
        }
    }
}

/* Copies the descriptors of one frame, from *index on. Their number; 0: the frame is not complete.
 * A ring full of pieces without an end counts as one frame that is dropped. */
static unsigned collect(const struct rtl8139 *d, uint64_t base, unsigned index,
                        struct rtl8139_desc descs[RTL8139_RING])
{
    unsigned first = index;
    unsigned n = 0;

    do {
        descs[n] = rtl8139_get_desc(d, base, index);
        if ((descs[n].dw0 & RTL8139_DESC_OWN) == 0) {
            return 0;
        }
        index = descs[n].next;
    } while ((descs[n++].dw0 & RTL8139_DESC_LS) == 0 && index != first && n < RTL8139_RING);
    return n;
}

/* One frame of a ring. False when there is none, or the link has no room (*again is set then). */
static bool send_frame(struct rtl8139 *d, unsigned ring, bool *again)
{
    uint64_t base = (uint64_t)d->r.tsad[2 * ring + 1] << 32 | (d->r.tsad[2 * ring] & ~255u);
    struct rtl8139_desc descs[RTL8139_RING];
    struct net_offload off = {0};
    unsigned n = collect(d, base, d->r.tx_index[ring], descs);
    size_t len = 0;
    bool ok;

    if (n == 0) {
        return false;
    }
    ok = (descs[n - 1].dw0 & RTL8139_DESC_LS) != 0;
    for (unsigned i = 0; i < n && ok; i++) {
        size_t part = descs[i].dw0 & DESC_LEN;

        ok = part <= NET_FRAME_MAX - VLAN_TAG - len;
        if (ok) {
            guestmem_read(d->h.mem, descs[i].buf, d->h.tx + len, part);
            len += part;
        }
    }
    if (ok) {
        if (len < RTL8139_MIN_FRAME) {
            memset(d->h.tx + len, 0, RTL8139_MIN_FRAME - len);
            len = RTL8139_MIN_FRAME;
        }
        len = insert_tag(d->h.tx, len, descs[0].dw1);
        offload(d->h.tx, len, descs[0].dw0, &off);
        if (transmit(d, len, &off) != 0) {
            *again = true;
            return false;
        }
        d->r.tally.tx_ok++;
    } else {
        d->r.tally.tx_err++;
    }
    for (unsigned i = 0; i < n; i++) {
        uint32_t out =
            descs[i].dw0 & (RTL8139_DESC_EOR | RTL8139_DESC_FS | RTL8139_DESC_LS | DESC_LEN);

        guestmem_write(d->h.mem, descs[i].gpa, &out, 4);
    }
    d->r.tx_index[ring] = (uint8_t)descs[n - 1].next;
    d->r.isr |= RTL8139_ISR_TOK;
    return true;
}

static void run_cplus(struct rtl8139 *d)
{
    static const uint8_t polls[2] = {RTL8139_TPPOLL_NPQ, RTL8139_TPPOLL_HPQ};
    unsigned budget = TX_BURST;
    bool again = false;

    for (int ring = 1; ring >= 0 && !again; ring--) {
        while ((d->r.tppoll & polls[ring]) != 0) {
            if (budget-- == 0) {
                bottom_half_schedule(&d->h.tx_bh);
                return;
            }
            if (!send_frame(d, (unsigned)ring, &again)) {
                if (again) {
                    break;
                }
                d->r.tppoll &= (uint8_t)~polls[ring];
                d->r.isr |= RTL8139_ISR_TDU;
            }
        }
    }
}

void rtl8139_tx_kick(struct rtl8139 *d)
{
    if (d->pd.present) {
        bottom_half_schedule(&d->h.tx_bh);
    }
}

void rtl8139_tx_run(void *dev)
{
    struct rtl8139 *d = dev;

    if (!d->pd.present || (d->r.cr & RTL8139_CR_TE) == 0 || !pci_master(&d->pd)) {
        return;
    }
    if ((d->r.cpcr & RTL8139_CPCR_TX) != 0) {
        run_cplus(d);
    } else {
        run_c(d);
    }
    rtl8139_raise(d, 0);
}
