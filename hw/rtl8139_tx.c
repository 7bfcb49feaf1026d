/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RTL8139C+: the transmitter. Data sheet 6.4 (C mode), 9.1 (C+ mode descriptors). Doorbells only
 * schedule; a bottom half moves the frames. */
#include <errno.h>
#include <string.h>

#include "hw/rtl8139_int.h"

enum {
    TX_BURST = 64, /* frames per turn of the loop */
    VLAN_TAG = 4,
    TX_SPARE = VLAN_TAG + RTL8139_MIN_FRAME, /* more than the guest's bytes: tag, padding */
};
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

/* ---- frames on their way: in h.tx one behind the other, until flush() ---- */

struct batch {
    struct net_frame frame[NET_BATCH];
    struct iovec iov[NET_BATCH];
    unsigned count;
    size_t used; /* bytes of h.tx */
};

/* Whether another frame of len bytes (as the guest says: less than NET_FRAME_MAX) fits. */
static bool batch_room(const struct batch *b, size_t len)
{
    return b->count < NET_BATCH && b->used + len + TX_SPARE <= RTL8139_TX_BYTES;
}

/* The frame that was put at h.tx + b->used. */
static void batch_add(struct rtl8139 *d, struct batch *b, size_t len, const struct net_offload *off)
{
    struct net_frame *f = &b->frame[b->count];
    struct iovec *iov = &b->iov[b->count++];

    *iov = (struct iovec){d->h.tx + b->used, len};
    *f = (struct net_frame){iov, 1, *off};
    b->used += len;
}

static void loop_back(struct rtl8139 *d, const uint8_t *frame, size_t len,
                      const struct net_offload *off)
{
    struct net_cutter cutter;
    size_t n;

    if (len < 14) {
        return;
    }
    net_cut_init(&cutter, frame, len, off);
    while ((n = net_cut_next(&cutter, d->h.cut)) != 0) {
        rtl8139_receive_looped(d, d->h.cut, n);
    }
}

/* Sends the batch and empties it. How many of its frames were taken; fewer than all: to be tried
 * again after sent_ready(). */
static unsigned flush(struct rtl8139 *d, struct batch *b)
{
    unsigned count = b->count;

    b->count = 0;
    b->used = 0;
    if (rtl8139_loopback(d)) {
        for (unsigned i = 0; i < count; i++) {
            loop_back(d, b->iov[i].iov_base, b->iov[i].iov_len, &b->frame[i].off);
        }
        return count;
    }
    return d->h.net != NULL ? net_send_many(d->h.net, b->frame, count) : count;
}

/* ---- C mode ---- */

static void run_c(struct rtl8139 *d)
{
    static const struct net_offload plain;
    struct batch b = {.count = 0};
    unsigned sent;

    for (unsigned i = 0; i < 4; i++) {
        unsigned at = (d->r.tx_cur + i) & 3;
        size_t len = d->r.tsd[at] & RTL8139_TSD_SIZE;

        if ((d->r.tsd[at] & RTL8139_TSD_OWN) != 0) {
            break;
        }
        guestmem_read(d->h.mem, d->r.tsad[at], d->h.tx + b.used, len);
        if ((d->r.tcr & RTL8139_TCR_CRC) != 0 && len > RTL8139_FCS) {
            len -= RTL8139_FCS; /* the driver made its own FCS; hosts do not want one */
        }
        batch_add(d, &b, len, &plain);
    }
    sent = flush(d, &b);
    for (unsigned i = 0; i < sent; i++) {
        d->r.tsd[d->r.tx_cur] |= RTL8139_TSD_OWN | RTL8139_TSD_TOK;
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

/* Frames of a ring that are being sent: their descriptors, of which there are no more than the ring
 * has, in order. */
struct cplus_batch {
    struct batch b;
    struct rtl8139_desc desc[RTL8139_RING];
    unsigned ndesc, first;      /* first: index of desc[0] */
    unsigned end[RTL8139_RING]; /* frame i's descriptors end before desc[end[i]] */
    bool good[RTL8139_RING];    /* it is in b */
    unsigned nframes;
};

/* Copies the descriptors of one frame, from index on, behind those that are there. Their number; 0:
 * the frame is not complete. A ring full of pieces without an end counts as one frame that is
 * dropped. */
static unsigned collect(const struct rtl8139 *d, struct cplus_batch *c, uint64_t base,
                        unsigned index)
{
    struct rtl8139_desc *desc = c->desc + c->ndesc;
    unsigned room = RTL8139_RING - c->ndesc;
    unsigned first = index;
    unsigned n = 0;

    do {
        if (n == room || (c->ndesc != 0 && index == c->first)) {
            return 0; /* all round the ring: those have not been given back yet */
        }
        desc[n] = rtl8139_get_desc(d, base, index);
        if ((desc[n].dw0 & RTL8139_DESC_OWN) == 0) {
            return 0;
        }
        index = desc[n].next;
    } while ((desc[n++].dw0 & RTL8139_DESC_LS) == 0 && index != first && n < RTL8139_RING);
    return n;
}

/* Puts the frame of desc[0..n) into the batch, with what it asks for done. False: it is dropped. */
static bool build(struct rtl8139 *d, struct batch *b, const struct rtl8139_desc *desc, unsigned n)
{
    uint8_t *frame = d->h.tx + b->used;
    struct net_offload off = {0};
    size_t len = 0;

    if ((desc[n - 1].dw0 & RTL8139_DESC_LS) == 0) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        size_t part = desc[i].dw0 & DESC_LEN;

        guestmem_read(d->h.mem, desc[i].buf, frame + len, part);
        len += part;
    }
    if (len < RTL8139_MIN_FRAME) {
        memset(frame + len, 0, RTL8139_MIN_FRAME - len);
        len = RTL8139_MIN_FRAME;
    }
    len = insert_tag(frame, len, desc[0].dw1);
    offload(frame, len, desc[0].dw0, &off);
    batch_add(d, b, len, &off);
    return true;
}

/* Reads frames of a ring into c, at most `most`, as many as can be sent together. */
static void read_ring(struct rtl8139 *d, struct cplus_batch *c, unsigned ring, unsigned most)
{
    uint64_t base = (uint64_t)d->r.tsad[2 * ring + 1] << 32 | (d->r.tsad[2 * ring] & ~255u);
    unsigned index = d->r.tx_index[ring];

    c->first = index;
    c->b.count = c->ndesc = c->nframes = 0;
    c->b.used = 0;
    while (c->nframes < most) {
        const struct rtl8139_desc *desc = c->desc + c->ndesc;
        unsigned n = collect(d, c, base, index);
        size_t len = 0;
        bool fits;

        for (unsigned i = 0; i < n; i++) {
            len += desc[i].dw0 & DESC_LEN;
        }
        fits = len <= NET_FRAME_MAX - VLAN_TAG;
        if (n == 0 || (fits && !batch_room(&c->b, len))) {
            return;
        }
        c->good[c->nframes] = fits && build(d, &c->b, desc, n);
        c->ndesc += n;
        c->end[c->nframes++] = c->ndesc;
        index = desc[n - 1].next;
    }
}

/* Gives frame i's descriptors back. */
static void complete(struct rtl8139 *d, const struct cplus_batch *c, unsigned ring, unsigned i)
{
    unsigned k = i != 0 ? c->end[i - 1] : 0;

    for (; k < c->end[i]; k++) {
        uint32_t out =
            c->desc[k].dw0 & (RTL8139_DESC_EOR | RTL8139_DESC_FS | RTL8139_DESC_LS | DESC_LEN);

        guestmem_write(d->h.mem, c->desc[k].gpa, &out, 4);
    }
    d->r.tx_index[ring] = (uint8_t)c->desc[k - 1].next;
    d->r.tally.tx_ok += c->good[i];
    d->r.tally.tx_err += !c->good[i];
    d->r.isr |= RTL8139_ISR_TOK;
}

/* Sends up to `most` frames of a ring. How many there were; *again: the link has no room for
 * more. */
static unsigned send_some(struct rtl8139 *d, unsigned ring, unsigned most, bool *again)
{
    struct cplus_batch c;
    unsigned taken;

    read_ring(d, &c, ring, most);
    if (c.nframes == 0) {
        return 0;
    }
    taken = c.b.count != 0 ? flush(d, &c.b) : 0;
    for (unsigned i = 0; i < c.nframes; i++) {
        if (c.good[i] && taken == 0) {
            *again = true;
            return i;
        }
        taken -= c.good[i];
        complete(d, &c, ring, i);
    }
    return c.nframes;
}

static void run_cplus(struct rtl8139 *d)
{
    static const uint8_t polls[2] = {RTL8139_TPPOLL_NPQ, RTL8139_TPPOLL_HPQ};
    unsigned budget = TX_BURST;
    bool again = false;

    for (int ring = 1; ring >= 0 && !again; ring--) {
        while ((d->r.tppoll & polls[ring]) != 0 && !again) {
            unsigned sent;

            if (budget == 0) {
                bottom_half_schedule(&d->h.tx_bh);
                return;
            }
            sent = send_some(d, (unsigned)ring, budget, &again);
            budget -= sent;
            if (sent == 0 && !again) {
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
