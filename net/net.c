/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all back ends have in common: the frame that waits for the card, cutting, statistics,
 * capture. */
#include "net/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/loop.h"
#include "net/net_int.h"

/* Frames given to the card before other events get their turn: one read can bring thousands of tiny
 * segments. */
enum { RX_BURST = 256 };

struct net {
    struct loop *loop;
    const struct net_backend *be;
    void *opaque;
    const struct net_client *client; /* NULL: no card */
    void *nic;
    struct bottom_half rx_bh; /* goes on with the frame that waits */
    struct bottom_half tx_bh; /* tells the card that it may send */
    struct net_cutter cutter;
    bool rx_pending; /* there is a frame that the card has not had all of */
    bool rx_plain;   /* ... as it is */
    bool rx_ready;   /* the card takes frames, as far as known */
    bool rx_on;      /* the back end reads */
    bool running;
    bool link_up;
    bool tx_waits; /* the card was told -EAGAIN */
    struct net_stats stats;
    struct pcap *pcap;
    uint8_t cut_frame[NET_FRAME_MAX]; /* a segment on its way to the card */
    uint8_t
        tx_frame[NET_FRAME_MAX]; /* a frame that is cut or summed here since the back end cannot */
    uint8_t tx_cut[NET_FRAME_MAX];
};

static void update_reading(struct net *n)
{
    bool on = n->running && n->client != NULL && n->rx_ready && !n->rx_pending;

    if (on != n->rx_on) {
        n->rx_on = on;
        n->be->receive(n->opaque, on);
    }
}

static bool offer(struct net *n, const uint8_t *frame, size_t len)
{
    const struct iovec iov = {.iov_base = (void *)(uintptr_t)frame, .iov_len = len};
    struct net_offload off = {.csum_valid = n->cutter.off.csum_valid || n->cutter.off.csum_needed};

    if (!n->client->receive(n->nic, frame, len, &off)) {
        n->rx_ready = false;
        return false;
    }
    n->stats.rx_frames++;
    n->stats.rx_bytes += len;
    if (n->pcap != NULL) {
        pcap_write(n->pcap, &iov, 1);
    }
    return true;
}

/* Gives the card the frame that waits, as far as it takes it. */
static void push(struct net *n)
{
    for (unsigned i = 0; n->rx_pending && n->rx_ready && n->running && n->client != NULL; i++) {
        if (i == RX_BURST) {
            bottom_half_schedule(&n->rx_bh);
            break;
        }
        if (n->rx_plain) {
            n->rx_pending = !offer(n, n->cutter.frame, n->cutter.len);
        } else {
            size_t len = net_cut_next(&n->cutter, n->cut_frame);

            if (len == 0) {
                n->rx_pending = false;
            } else if (!offer(n, n->cut_frame, len)) {
                net_cut_back(&n->cutter);
            }
        }
    }
    update_reading(n);
}

static void push_later(void *arg)
{
    push(arg);
}

bool net_deliver(struct net *n, const uint8_t *frame, size_t len, const struct net_offload *off)
{
    if (len < 14 || len > NET_FRAME_MAX || n->client == NULL) {
        return n->rx_on;
    }
    net_cut_init(&n->cutter, frame, len, off);
    n->rx_plain = !off->csum_needed && off->gso == NET_GSO_NONE;
    n->rx_pending = true;
    push(n);
    return n->rx_on;
}

void net_receive_ready(struct net *n)
{
    if (n->rx_ready) {
        return;
    }
    n->rx_ready = true;
    if (n->rx_pending) {
        bottom_half_schedule(&n->rx_bh); /* not from within the card's own code */
    } else {
        update_reading(n);
    }
}

/* ---- sending ---- */

static void tell_sent_ready(void *arg)
{
    struct net *n = arg;

    if (n->tx_waits && n->running && n->client != NULL) {
        n->tx_waits = false;
        n->client->sent_ready(n->nic);
    }
}

void net_writable(struct net *n)
{
    if (n->tx_waits) {
        bottom_half_schedule(&n->tx_bh);
    }
}

static size_t iov_total(const struct iovec *iov, int iovcnt)
{
    size_t total = 0;

    for (int i = 0; i < iovcnt; i++) {
        if (iov[i].iov_len > NET_FRAME_MAX - total) {
            return SIZE_MAX;
        }
        total += iov[i].iov_len;
    }
    return total;
}

/* What of off fits a frame of len bytes. */
static struct net_offload fitting(const struct net_offload *off, size_t len)
{
    struct net_offload fit = {0};

    if (off != NULL && off->csum_needed && (size_t)off->csum_start + off->csum_offset + 2 <= len) {
        fit.csum_needed = true;
        fit.csum_start = off->csum_start;
        fit.csum_offset = off->csum_offset;
        if (off->gso != NET_GSO_NONE && off->gso_size >= NET_GSO_MIN && off->header_len <= len &&
            off->header_len > off->csum_start && off->gso_size < len - off->header_len) {
            fit.gso = off->gso;
            fit.gso_size = off->gso_size;
            fit.header_len = off->header_len;
        }
    }
    return fit;
}

/* Does itself what the back end cannot. Once a segment went out the others follow or are lost: TCP
 * sends them again. */
static int send_cut(struct net *n, const struct iovec *iov, int iovcnt,
                    const struct net_offload *off)
{
    static const struct net_offload plain;
    struct net_cutter cutter;
    size_t total = 0;
    size_t len;

    for (int i = 0; i < iovcnt; i++) {
        memcpy(n->tx_frame + total, iov[i].iov_base, iov[i].iov_len);
        total += iov[i].iov_len;
    }
    net_cut_init(&cutter, n->tx_frame, total, off);
    for (bool first = true; (len = net_cut_next(&cutter, n->tx_cut)) != 0; first = false) {
        const struct iovec one = {.iov_base = n->tx_cut, .iov_len = len};
        int ret = n->be->send(n->opaque, &one, 1, &plain);

        if (ret != 0 && first) {
            return ret;
        }
        if (ret != 0) {
            n->stats.tx_dropped++;
            return 0;
        }
    }
    return 0;
}

int net_send(struct net *n, const struct iovec *iov, int iovcnt, const struct net_offload *off)
{
    size_t len = iovcnt >= 1 && iovcnt <= NET_IOV_MAX ? iov_total(iov, iovcnt) : 0;
    struct net_offload fit;
    int ret;

    if (len < 14 || len > NET_FRAME_MAX) {
        return -EMSGSIZE;
    }
    if (!n->running || n->tx_waits) {
        n->tx_waits = true;
        return -EAGAIN;
    }
    fit = fitting(off, len);
    if (fit.gso == NET_GSO_UDP || (!n->be->offloads && fit.csum_needed)) {
        ret = send_cut(n, iov, iovcnt, &fit);
    } else {
        ret = n->be->send(n->opaque, iov, iovcnt, &fit);
    }
    if (ret != 0) {
        n->tx_waits = true;
        return -EAGAIN;
    }
    n->stats.tx_frames++;
    n->stats.tx_bytes += len;
    if (n->pcap != NULL) {
        pcap_write(n->pcap, iov, iovcnt);
    }
    return 0;
}

static unsigned send_each(struct net *n, const struct net_frame *frames, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (net_send(n, frames[i].iov, frames[i].iovcnt, &frames[i].off) == -EAGAIN) {
            return i;
        }
    }
    return count;
}

unsigned net_send_many(struct net *n, const struct net_frame *frames, unsigned count)
{
    struct net_frame fit[NET_BATCH];
    unsigned taken;

    count = count < NET_BATCH ? count : NET_BATCH;
    if (!n->running || n->tx_waits || n->be->send_many == NULL || count < 2) {
        return send_each(n, frames, count);
    }
    for (unsigned i = 0; i < count; i++) {
        const struct net_frame *f = &frames[i];
        size_t len = f->iovcnt >= 1 && f->iovcnt <= NET_IOV_MAX ? iov_total(f->iov, f->iovcnt) : 0;

        if (len < 14 || len > NET_FRAME_MAX) {
            return send_each(n, frames, count);
        }
        fit[i] = (struct net_frame){f->iov, f->iovcnt, fitting(&f->off, len)};
        if (fit[i].off.gso == NET_GSO_UDP || (!n->be->offloads && fit[i].off.csum_needed)) {
            return send_each(n, frames, count);
        }
    }
    taken = n->be->send_many(n->opaque, fit, count);
    n->tx_waits = taken < count;
    for (unsigned i = 0; i < taken; i++) {
        n->stats.tx_frames++;
        n->stats.tx_bytes += iov_total(fit[i].iov, fit[i].iovcnt);
        if (n->pcap != NULL) {
            pcap_write(n->pcap, fit[i].iov, fit[i].iovcnt);
        }
    }
    return taken;
}

void net_dropped(struct net *n)
{
    n->stats.tx_dropped++;
}

/* ---- life ---- */

struct net *net_create(struct loop *loop, const struct net_backend *be, void *opaque,
                       const char *id, const char *dump_path, char *err, size_t errlen)
{
    struct net *n = calloc(1, sizeof(*n));

    if (n == NULL) {
        snprintf(err, errlen, "netdev %s: out of memory", id);
        return NULL;
    }
    *n = (struct net){.loop = loop, .be = be, .opaque = opaque, .running = true, .link_up = true};
    bottom_half_init(&n->rx_bh, loop, push_later, n);
    bottom_half_init(&n->tx_bh, loop, tell_sent_ready, n);
    if (dump_path != NULL && (n->pcap = pcap_open(dump_path)) == NULL) {
        snprintf(err, errlen, "netdev %s: cannot write the capture file %s: %s", id, dump_path,
                 strerror(errno));
        free(n);
        return NULL;
    }
    return n;
}

void net_close(struct net *n)
{
    if (n == NULL) {
        return;
    }
    bottom_half_cancel(&n->rx_bh);
    bottom_half_cancel(&n->tx_bh);
    n->be->close(n->opaque);
    pcap_close(n->pcap);
    free(n);
}

void net_attach(struct net *n, const struct net_client *client, void *nic,
                const struct net_caps *want, struct net_caps *got)
{
    (void)want; /* csum_valid costs nothing to say */
    n->client = client;
    n->nic = nic;
    *got = (struct net_caps){.csum = true, .tso4 = true, .tso6 = true};
    update_reading(n);
}

void net_detach(struct net *n)
{
    n->client = NULL;
    n->rx_ready = false;
    n->rx_pending = false;
    n->tx_waits = false;
    update_reading(n);
}

static int dead_send(void *opaque, const struct iovec *iov, int iovcnt,
                     const struct net_offload *off)
{
    (void)iov, (void)iovcnt, (void)off;
    net_dropped(opaque);
    return 0;
}

static void dead_receive(void *opaque, bool on)
{
    (void)opaque, (void)on;
}

static void dead_close(void *opaque)
{
    (void)opaque;
}

void net_shut(struct net *n)
{
    static const struct net_backend dead = {
        .send = dead_send, .receive = dead_receive, .close = dead_close, .offloads = true};

    net_detach(n);
    n->be->close(n->opaque);
    n->be = &dead;
    n->opaque = n;
    n->link_up = false;
}

void net_set_running(struct net *n, bool running)
{
    n->running = running;
    if (running && n->rx_pending) {
        bottom_half_schedule(&n->rx_bh);
    }
    if (running && n->tx_waits) {
        bottom_half_schedule(&n->tx_bh);
    }
    update_reading(n);
}

void net_set_link(struct net *n, bool up)
{
    if (up == n->link_up) {
        return;
    }
    n->link_up = up;
    if (n->client != NULL && n->client->link_changed != NULL) {
        n->client->link_changed(n->nic, up);
    }
}

bool net_link_up(const struct net *n)
{
    return n->link_up;
}

const struct net_stats *net_get_stats(const struct net *n)
{
    return &n->stats;
}
