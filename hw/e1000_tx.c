/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 82540EM transmitter: SDM 3.3 (descriptors), 3.4 (ring), 3.5 (TCP segmentation), 3.6 (VLAN in 9).
 *
 * A packet is sent when all its descriptors are there; until then nothing is remembered of it but
 * the ring's indices. So a link without room costs nothing: the packet is looked at again later.
 * Data goes out from where it lies in guest memory; only headers that change are copied. Packets go
 * to the link in batches, and their descriptors go back after that.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "hw/e1000_int.h"

/* Descriptor commands. */
enum {
    CMD_EOP = 0x01,
    CMD_IC = 0x04,  /* legacy: insert checksum */
    CMD_TSE = 0x04, /* extended: TCP segmentation */
    CMD_RS = 0x08,
    CMD_DEXT = 0x20,
    CMD_VLE = 0x40,
    CMD_IDE = 0x80,
    TUCMD_TCP = 0x01,
    TUCMD_IP = 0x02, /* IPv4 */
    POPTS_IXSM = 0x01,
    POPTS_TXSM = 0x02,
    DTYP_CONTEXT = 0,
    DTYP_DATA = 1,
    STA_DD = 1,
};
enum {
    TX_BATCH = 8,         /* descriptors per read */
    TX_FRAME_DESCS = 512, /* more in one packet: it is dropped */
    TX_PASS_DESCS = 256,  /* then others have their turn */
    TX_IOV = NET_IOV_MAX, /* [0] is for the header */
    TX_HEADER = 256,      /* every field that an 8-bit context field can point to */
    TX_PLAIN_MAX = 16288, /* bytes with FCS, SDM 13.4.33: the longest packet but for segmentation */
    TX_SEGMENTS_MAX = 2048, /* of one packet; only an absurd MSS needs more */
};

#define TXDW_DELAYED (1u << 31) /* beside the bits of ICR */

struct tx_desc {
    uint64_t addr;
    uint32_t lower, upper;
};

struct tx_frame {
    uint32_t head; /* where its descriptors start in the ring */
    int iovcnt;    /* in use from iov[1] */
    size_t total;
    unsigned ndesc;
    bool in_frame; /* all in h.frame, iov[1] is that */
    bool started, context, too_long, extended, tse;
    bool ours;                    /* nothing of it goes to the link */
    bool counts;                  /* in the statistics */
    bool report_now, report_late; /* descriptors ask for TXDW; ... when the delay is over */
    uint8_t popts, cso, css, cmd; /* cmd: of the last descriptor */
    uint16_t special;
    int first, pieces; /* what goes out: iov[first..first + pieces) */
    struct net_offload off;
    uint64_t report[TX_FRAME_DESCS / 64]; /* bit: the descriptor wants its status written */
    /* Not zeroed to begin with: */
    struct e1000_tx_context before[2]; /* the contexts and the state as they were before it */
    bool skip_before;
    struct iovec iov[TX_IOV];
    uint8_t header[TX_HEADER + E1000_TAG_BYTES];
};

struct e1000_tx_work {
    struct tx_frame frame[NET_BATCH];
};

/* ---- gathering ---- */

static void linearize(struct e1000 *e, struct tx_frame *f)
{
    size_t at = 0;

    for (int i = 1; i <= f->iovcnt && !f->in_frame; i++) {
        memcpy(e->h.frame + at, f->iov[i].iov_base, f->iov[i].iov_len);
        at += f->iov[i].iov_len;
    }
    f->in_frame = true;
    f->iovcnt = 1;
    f->iov[1] = (struct iovec){e->h.frame, f->total};
}

static void add_buffer(struct e1000 *e, struct tx_frame *f, uint64_t gpa, size_t len)
{
    if (gpa == 0 || f->too_long) { /* null descriptors carry no data (SDM 3.3.3) */
        return;
    }
    if (len > NET_FRAME_MAX - f->total) {
        f->too_long = true;
        return;
    }
    while (len > 0) {
        struct iovec *last = &f->iov[f->iovcnt];
        uint8_t *p;
        size_t n = 0;

        if (!f->in_frame && f->iovcnt == TX_IOV - 1) {
            linearize(e, f);
        }
        p = f->in_frame ? NULL : guestmem_span(e1000_mem(e), gpa, len, &n);
        if (p == NULL) {
            linearize(e, f);
            guestmem_read(e1000_mem(e), gpa, e->h.frame + f->total, len);
            f->total += len;
            f->iov[1].iov_len = f->total;
            return;
        }
        if (f->iovcnt > 0 && (uint8_t *)last->iov_base + last->iov_len == p) {
            last->iov_len += n;
        } else {
            f->iov[++f->iovcnt] = (struct iovec){p, n};
        }
        f->total += n;
        gpa += n;
        len -= n;
    }
}

static void load_context(struct e1000 *e, const struct tx_desc *d)
{
    uint8_t tucmd = (uint8_t)(d->lower >> 24);

    e->r.context[(tucmd & CMD_TSE) != 0] = (struct e1000_tx_context){
        .ipcss = (uint8_t)d->addr,
        .ipcso = (uint8_t)(d->addr >> 8),
        .ipcse = (uint16_t)(d->addr >> 16),
        .tucss = (uint8_t)(d->addr >> 32),
        .tucso = (uint8_t)(d->addr >> 40),
        .tucse = (uint16_t)(d->addr >> 48),
        .tucmd = tucmd,
        .hdrlen = (uint8_t)(d->upper >> 8),
        .mss = (uint16_t)(d->upper >> 16),
    };
}

/* One descriptor. True: the packet is complete (or was a context). */
static bool take(struct e1000 *e, struct tx_frame *f, const struct tx_desc *d)
{
    uint8_t cmd = (uint8_t)(d->lower >> 24);
    unsigned dtyp = d->lower >> 20 & 15;

    if ((cmd & CMD_RS) != 0) {
        f->report[f->ndesc / 64] |= UINT64_C(1) << f->ndesc % 64;
        f->report_late |= (cmd & CMD_IDE) != 0;
        f->report_now |= (cmd & CMD_IDE) == 0;
    }
    f->ndesc++;
    if ((cmd & CMD_DEXT) != 0 && dtyp == DTYP_CONTEXT) {
        load_context(e, d);
        f->context = !f->started;
        return f->context;
    }
    if ((cmd & CMD_DEXT) != 0) {
        if (!f->started) { /* only the first one's count (SDM 3.3.7) */
            f->popts = (uint8_t)(d->upper >> 8);
            f->tse = (cmd & CMD_TSE) != 0;
        }
        add_buffer(e, f, d->addr, dtyp == DTYP_DATA ? d->lower & 0xfffff : 0);
    } else {
        f->cso = (uint8_t)(d->lower >> 16);
        f->css = (uint8_t)(d->upper >> 8);
        add_buffer(e, f, d->addr, d->lower & 0xffff);
    }
    f->started = true;
    f->cmd = cmd;
    f->special = (uint16_t)(d->upper >> 16);
    return (cmd & CMD_EOP) != 0;
}

/* Reads the packet at f->head, of avail descriptors in a ring of n. False: its end is not among
 * them. */
static bool gather(struct e1000 *e, struct tx_frame *f, uint32_t avail, uint32_t n)
{
    uint64_t base = (uint64_t)e1000_get(e, E1000_TDBAH) << 32 | e1000_get(e, E1000_TDBAL);
    struct tx_desc d[TX_BATCH];
    unsigned have = 0;
    unsigned at = 0;

    while (f->ndesc < avail && f->ndesc < TX_FRAME_DESCS) {
        if (at == have) {
            uint32_t i = (f->head + f->ndesc) % n;

            have = avail - f->ndesc < TX_BATCH ? avail - f->ndesc : TX_BATCH;
            have = n - i < have ? n - i : have;
            guestmem_read(e1000_mem(e), base + (uint64_t)i * E1000_DESC_BYTES, d,
                          have * sizeof(d[0]));
            at = 0;
        }
        if (take(e, f, &d[at++])) {
            return true;
        }
    }
    return false;
}

/* ---- checksums and headers ---- */

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* Sums bytes first..last of a packet of len bytes that is at p, and puts the checksum at `to`. What
 * reaches beyond the packet is ignored. */
static void insert_checksum(uint8_t *p, size_t len, size_t first, size_t last, size_t to)
{
    if (last >= len) {
        last = len - 1;
    }
    if (first <= last && to + 2 <= len) {
        put16(p + to, net_csum_fold(net_csum_add(0, p + first, last + 1 - first)));
    }
}

/* Moves the first n bytes of the packet to f->header, iov[0]. */
static void pull_header(struct tx_frame *f, size_t n)
{
    size_t at = 0;

    while (at < n) {
        struct iovec *v = &f->iov[1];

        for (; v->iov_len == 0; v++) {
        }
        size_t piece = v->iov_len < n - at ? v->iov_len : n - at;

        memcpy(f->header + at, v->iov_base, piece);
        v->iov_base = (uint8_t *)v->iov_base + piece;
        v->iov_len -= piece;
        at += piece;
    }
    f->iov[0] = (struct iovec){f->header, n};
}

static bool tso_fits(const struct e1000_tx_context *c, size_t total)
{
    unsigned l4 = (c->tucmd & TUCMD_TCP) != 0 ? 20 : 8;
    unsigned l3 = (c->tucmd & TUCMD_IP) != 0 ? 20 : 40;

    return c->mss != 0 && c->ipcss >= 14 && c->tucss >= c->ipcss + l3 &&
           c->hdrlen >= c->tucss + l4 && c->tucso >= c->tucss && c->tucso + 2 <= c->hdrlen &&
           c->hdrlen < total && (total - c->hdrlen) / c->mss < TX_SEGMENTS_MAX;
}

/* The header prototype of a packet to be segmented (SDM 3.5): lengths, which drivers leave 0, and
 * their part of the checksums. */
static void tso_header(const struct tx_frame *f, const struct e1000_tx_context *c, uint8_t *p,
                       struct net_offload *off)
{
    bool tcp = (c->tucmd & TUCMD_TCP) != 0;
    size_t l4_len = f->total - c->tucss;
    uint8_t seed[4] = {p[c->tucso], p[c->tucso + 1], (uint8_t)(l4_len >> 8), (uint8_t)l4_len};

    if ((c->tucmd & TUCMD_IP) != 0) {
        put16(p + c->ipcss + 2, f->total - c->ipcss);
    } else {
        put16(p + c->ipcss + 4, f->total - c->ipcss - 40);
    }
    if (!tcp) {
        put16(p + c->tucss + 4, l4_len);
    }
    put16(p + c->tucso, (uint16_t)~net_csum_fold(net_csum_add(0, seed, sizeof(seed))));
    /* DEVIATION: TXSM clear would send segments with wrong checksums; they get right ones, because
     * hosts segment no other way. */
    off->csum_needed = true;
    off->csum_start = c->tucss;
    off->csum_offset = (uint16_t)(c->tucso - c->tucss);
    if (f->total - c->hdrlen > c->mss) {
        off->gso = !tcp ? NET_GSO_UDP : (c->tucmd & TUCMD_IP) != 0 ? NET_GSO_TCPV4 : NET_GSO_TCPV6;
        off->gso_size = c->mss;
        off->header_len = c->hdrlen;
    }
}

/* Does to the packet what its descriptors ask for. The number of iov entries from f->iov[f->first];
 * 0: it cannot be sent. */
static int prepare(struct e1000 *e, struct tx_frame *f)
{
    bool vlan = (f->cmd & CMD_VLE) != 0 && (e1000_get(e, E1000_CTRL) & CTRL_VME) != 0;
    bool pad = f->total < E1000_MIN_FRAME && (e1000_get(e, E1000_TCTL) & TCTL_PSP) != 0;
    const struct e1000_tx_context *c = &e->r.context[f->tse];
    bool ixsm = (f->popts & POPTS_IXSM) != 0;
    bool txsm = (f->popts & POPTS_TXSM) != 0 && !f->tse;
    size_t css = c->tucss, cse = c->tucse, cso = c->tucso;
    size_t n = f->total < TX_HEADER ? f->total : TX_HEADER;
    struct net_offload *off = &f->off;
    uint8_t *p = f->header;

    if ((f->cmd & (CMD_DEXT | CMD_IC)) == CMD_IC) {
        css = f->css, cse = 0, cso = f->cso;
        txsm = true;
    }
    /* A checksum up to the packet's end, as all drivers have it, is left to the link. */
    if (txsm && cso >= css && cso + 2 <= f->total && (cse == 0 || cse + 1 >= f->total)) {
        *off = (struct net_offload){
            .csum_needed = true, .csum_start = (uint16_t)css, .csum_offset = (uint16_t)(cso - css)};
        txsm = false;
    }
    if (f->tse && !tso_fits(c, f->total)) {
        trace("e1000", "tso", "header %u mss %u total %zu: dropped", c->hdrlen, c->mss, f->total);
        return 0;
    }
    if (!vlan && !pad && !ixsm && !txsm && !f->tse) {
        f->first = 1;
        return f->iovcnt;
    }
    if (txsm ||
        (ixsm && (c->ipcse == 0 || c->ipcse >= TX_HEADER))) { /* sums over more than a header */
        linearize(e, f);
        p = e->h.frame;
        n = f->total;
        f->iov[0] = (struct iovec){p, n};
        f->iov[1].iov_len = 0;
    } else {
        pull_header(f, n);
    }
    if (f->tse) {
        tso_header(f, c, p, off);
    }
    if (ixsm) {
        insert_checksum(p, n, c->ipcss, c->ipcse != 0 ? c->ipcse : SIZE_MAX, c->ipcso);
    }
    if (txsm) {
        insert_checksum(p, n, css, cse != 0 ? cse : SIZE_MAX, cso);
    }
    if (vlan) {
        memmove(p + 12 + E1000_TAG_BYTES, p + 12, n - 12);
        put16(p + 12, e1000_get(e, E1000_VET));
        put16(p + 14, f->special);
        n += E1000_TAG_BYTES;
        f->total += E1000_TAG_BYTES;
        off->csum_start = (uint16_t)(off->csum_start + E1000_TAG_BYTES);
        off->header_len = (uint16_t)(off->header_len + E1000_TAG_BYTES);
    }
    if (pad && n < E1000_MIN_FRAME) {
        memset(p + n, 0, E1000_MIN_FRAME - n);
        f->total = n = E1000_MIN_FRAME;
    }
    f->iov[0].iov_len = n;
    f->first = 0;
    for (int i = 1; i <= f->iovcnt; i++) { /* what pull_header() emptied */
        if (f->iov[i].iov_len != 0) {
            if (i > 1) {
                f->iov[i - 1] = f->iov[0];
            }
            f->first = i - 1;
            return f->iovcnt - i + 2;
        }
    }
    return 1;
}

/* ---- sending ---- */

bool e1000_loopback(const struct e1000 *e)
{
    return (e1000_get(e, E1000_RCTL) & RCTL_LBM) != 0 || (e->r.phy[PHY_BMCR] & BMCR_LOOPBACK) != 0;
}

/* The packet comes back. Without descriptors for it the receiver loses it, as the chip's FIFO
 * would. */
static void send_round(struct e1000 *e, const struct iovec *iov, int iovcnt,
                       const struct net_offload *off)
{
    size_t total = 0;

    for (int i = 0; i < iovcnt; i++) {
        memcpy(e->h.loop + total, iov[i].iov_base, iov[i].iov_len);
        total += iov[i].iov_len;
    }
    if (!off->csum_needed) {
        if (!e1000_rx_frame(e, e->h.loop, total, false)) {
            e1000_stat(e, STAT_MPC, 1);
            e->h.rx_causes |= ICR_RXO;
            bottom_half_schedule(&e->h.rx_bh);
        }
        return;
    }
    struct net_cutter cutter;
    size_t len;

    net_cut_init(&cutter, e->h.loop, total, off);
    while ((len = net_cut_next(&cutter, e->h.cut)) != 0) {
        if (!e1000_rx_frame(e, e->h.cut, len, false)) {
            e1000_stat(e, STAT_MPC, 1);
            break;
        }
    }
}

/* As if every segment had been a packet of its own. */
static void count(struct e1000 *e, const struct iovec *iov, size_t total,
                  const struct net_offload *off)
{
    uint32_t frames = 1;
    size_t bytes = total + E1000_FCS_BYTES;
    const uint8_t *p = iov->iov_base;

    if (off->gso != NET_GSO_NONE) {
        size_t payload = total - off->header_len;
        size_t overhead = (size_t)off->header_len + E1000_FCS_BYTES;
        size_t last = (payload - 1) % off->gso_size + 1;

        frames = (uint32_t)((payload - last) / off->gso_size + 1);
        bytes = payload + frames * overhead;
        e1000_stat_size(e, STAT_PTC64, off->gso_size + overhead, frames - 1);
        e1000_stat_size(e, STAT_PTC64, last + overhead, 1);
        e1000_stat(e, STAT_TSCTC, 1);
    } else {
        e1000_stat_size(e, STAT_PTC64, bytes, 1);
    }
    e1000_stat(e, STAT_GPTC, frames);
    e1000_stat(e, STAT_TPT, frames);
    e1000_stat64(e, STAT_GOTC, bytes);
    e1000_stat64(e, STAT_TOT, bytes);
    if (iov->iov_len >= 6 && (p[0] & 1) != 0) {
        static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

        e1000_stat(e, memcmp(p, broadcast, 6) == 0 ? STAT_BPTC : STAT_MPTC, frames);
    }
}

/* Makes a packet ready. f->ours: it does not go to the link, but back to us, or nowhere. */
static void make_ready(struct e1000 *e, struct tx_frame *f)
{
    f->ours = true;
    if (f->too_long || f->total < 14 || (!f->tse && f->total + E1000_FCS_BYTES > TX_PLAIN_MAX)) {
        trace("e1000", "transmit", "%zu bytes in %u descriptors: dropped", f->total, f->ndesc);
        return;
    }
    f->pieces = prepare(e, f);
    if (f->pieces == 0 || f->total > NET_FRAME_MAX) {
        return;
    }
    f->counts = true;
    if (e1000_loopback(e)) {
        send_round(e, f->iov + f->first, f->pieces, &f->off);
    } else {
        /* DEVIATION: without a link the chip's DMA stops and drivers reset it; here packets go
         * nowhere, because that needs no recovery. */
        f->ours = e->h.net == NULL || !e1000_phy_link(e);
    }
}

/* ---- the ring ---- */

/* Hands f's descriptors back. Returns the causes that follow, TXDW_DELAYED among them. */
static uint32_t complete(struct e1000 *e, const struct tx_frame *f, uint32_t n)
{
    static const uint8_t done = STA_DD;
    uint64_t base = (uint64_t)e1000_get(e, E1000_TDBAH) << 32 | e1000_get(e, E1000_TDBAL);
    bool delay = e1000_get(e, E1000_TIDV) != 0;
    uint32_t causes = 0;

    if (f->counts) {
        count(e, f->iov + f->first, f->total, &f->off);
    }
    for (unsigned i = 0; i < f->ndesc; i++) {
        if ((f->report[i / 64] >> i % 64 & 1) != 0) {
            guestmem_write(e1000_mem(e),
                           base + (uint64_t)((f->head + i) % n) * E1000_DESC_BYTES + 12, &done, 1);
        }
    }
    if (f->report_now || (f->report_late && !delay)) {
        causes |= ICR_TXDW;
    }
    if (f->report_late && delay) {
        causes |= TXDW_DELAYED;
    }
    *e1000_mac(e, E1000_TDH) = (f->head + f->ndesc) % n;
    return causes;
}

static bool can_run(const struct e1000 *e)
{
    return (e1000_get(e, E1000_TCTL) & TCTL_EN) != 0 && pci_master(&e->pd) && e->pd.present &&
           !e->h.tx_blocked;
}

void e1000_tx_kick(struct e1000 *e)
{
    if (can_run(e) && e1000_get(e, E1000_TDH) != e1000_get(e, E1000_TDT)) {
        bottom_half_schedule(&e->h.tx_bh);
    }
}

/* Reads packets from the ring, as many as may be sent together and are all there, of at most `most`
 * descriptors. Their number. */
static unsigned read_ring(struct e1000 *e, struct e1000_tx_work *w, uint32_t tail, uint32_t n,
                          unsigned most)
{
    uint32_t head = e1000_get(e, E1000_TDH);
    unsigned count = 0;

    for (unsigned descs = 0; count < NET_BATCH && descs < most && head != tail; count++) {
        struct tx_frame *f = &w->frame[count];
        uint32_t avail = (tail + n - head) % n;
        bool end;

        memset(f, 0, offsetof(struct tx_frame, before));
        memcpy(f->before, e->r.context, sizeof(f->before));
        f->skip_before = e->r.tx_skip;
        f->head = head;
        end = gather(e, f, avail, n);
        if (!end && !e->r.tx_skip && f->ndesc < TX_FRAME_DESCS && avail < n - 1) {
            memcpy(e->r.context, f->before, sizeof(f->before));
            break; /* the rest of the packet is still to come */
        }
        f->ours = true;
        if (end && !f->context && !e->r.tx_skip) {
            make_ready(e, f);
        }
        if (!f->context) {
            e->r.tx_skip = !end;
        }
        head = (head + f->ndesc) % n;
        descs += f->ndesc;
        if (f->in_frame) { /* h.frame is needed until it is sent */
            count++;
            break;
        }
    }
    return count;
}

/* Sends what read_ring() read. How many were sent or dropped; the others are to be read again. */
static unsigned send_batch(struct e1000 *e, const struct e1000_tx_work *w, unsigned count)
{
    struct net_frame out[NET_BATCH];
    unsigned nout = 0;
    unsigned taken;

    for (unsigned i = 0; i < count; i++) {
        const struct tx_frame *f = &w->frame[i];

        if (!f->ours) {
            out[nout++] = (struct net_frame){f->iov + f->first, f->pieces, f->off};
        }
    }
    taken = nout != 0 ? net_send_many(e->h.net, out, nout) : 0;
    for (unsigned i = 0; i < count; i++) {
        const struct tx_frame *f = &w->frame[i];

        if (f->ours) {
            continue;
        }
        if (taken == 0) {
            memcpy(e->r.context, f->before, sizeof(f->before));
            e->r.tx_skip = f->skip_before;
            e->h.tx_blocked = true;
            return i;
        }
        taken--;
    }
    return count;
}

void e1000_tx_run(void *arg)
{
    struct e1000 *e = arg;
    struct e1000_tx_work *w = e->h.tx_work;
    uint32_t n = e1000_get(e, E1000_TDLEN) / E1000_DESC_BYTES;
    uint32_t tail = e1000_get(e, E1000_TDT);
    uint32_t low = (e1000_get(e, E1000_TXDCTL) >> 25) * 8;
    uint32_t causes = 0;

    for (unsigned done = 0; can_run(e) && done < TX_PASS_DESCS;) {
        unsigned count, sent;

        if (e1000_get(e, E1000_TDH) >= n || tail >= n) { /* nonsense */
            break;
        }
        count = read_ring(e, w, tail, n, TX_PASS_DESCS - done);
        if (count == 0) {
            break;
        }
        sent = send_batch(e, w, count);
        atomic_thread_fence(memory_order_release);
        for (unsigned i = 0; i < sent; i++) {
            const struct tx_frame *f = &w->frame[i];
            uint32_t avail = (tail + n - f->head) % n;

            causes |= complete(e, f, n);
            if (avail >= low && avail - f->ndesc < low) {
                causes |= ICR_TXD_LOW;
            }
            if (f->ndesc == avail) {
                causes |= ICR_TXQE;
            }
            done += f->ndesc;
        }
        if (done >= TX_PASS_DESCS) {
            bottom_half_schedule(&e->h.tx_bh);
        }
    }
    if ((causes & (TXDW_DELAYED | ICR_TXDW)) == TXDW_DELAYED) {
        e1000_cause_delayed(e, true, e1000_get(e, E1000_TIDV), e1000_get(e, E1000_TADV));
    }
    if ((causes & ~TXDW_DELAYED) != 0) {
        e1000_cause(e, causes & ~TXDW_DELAYED);
    }
}

bool e1000_tx_create(struct e1000 *e)
{
    e->h.tx_work = calloc(1, sizeof(*e->h.tx_work));
    return e->h.tx_work != NULL;
}
