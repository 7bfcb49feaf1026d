/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tap back end (Linux Documentation/networking/tuntap, struct virtio_net_hdr of virtio 1.1
 * 5.1.6). The interface is known by its descriptor only: scripts rename it, move it between
 * namespaces, set it down and delete it while we run.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "core/loop.h"
#include "net/net_int.h"

enum {
    TAP_BURST = 64, /* frames read per wake-up */
    TAP_AHEAD = 16, /* frames read by one system call */
    TAP_BIG = 4096, /* after a frame of this size reading one by one costs nothing */
    TAP_PROBE_NS = 500000000,
    TAP_COPY_MAX =
        2048 - sizeof(struct virtio_net_hdr), /* copying these costs less than an iovec */
    TAP_RING = NET_BATCH > TAP_AHEAD ? NET_BATCH : TAP_AHEAD,
};

/* A frame on its way out: its header, and itself or where it is. */
struct tap_out {
    struct virtio_net_hdr header;
    uint8_t copy[TAP_COPY_MAX];
    struct iovec iov[NET_IOV_MAX + 1];
};

/* A frame from the host, with its header if there is one. */
struct tap_in {
    uint8_t bytes[sizeof(struct virtio_net_hdr) + NET_FRAME_MAX];
};

struct tap {
    struct net *net;
    struct loop *loop;
    struct watch watch;
    struct timer probe; /* looks whether an interface that was set down is up again */
    int fd;
    int socket; /* for SIOCGIFFLAGS */
    bool vnet;  /* each frame has a struct virtio_net_hdr before it */
    bool receiving, tx_waits;
    bool gone; /* deleted: nothing can be done with fd any more */
    char id[32];
    /* Many reads or writes for one system call, each of which costs a third of what a frame costs.
     * They are done when it returns: RWF_NOWAIT. */
    struct io_uring ring;
    bool ring_tried, ring_works; /* not made yet at first; does not work: one by one */
    struct tap_out *out;         /* TAP_RING; memory is touched only as far as it is used */
    struct tap_in *in;           /* TAP_AHEAD */
    ssize_t in_len[TAP_AHEAD];   /* as read; or -errno */
    unsigned in_next, in_count;  /* frames that were read and not delivered yet */
    struct bottom_half in_bh;    /* goes on with them */
};

static void update_watch(struct tap *t)
{
    uint32_t events = (t->receiving ? EPOLLIN : 0u) | (t->tx_waits ? EPOLLOUT : 0u);

    if (!t->gone) {
        watch_events(&t->watch, events);
    }
}

static void tap_gone(struct tap *t, const char *how)
{
    if (t->gone) {
        return;
    }
    t->gone = true;
    log_msg("netdev %s: the tap interface was deleted (%s); the guest's link is down from now on",
            t->id, how);
    loop_unwatch(&t->watch);
    timer_cancel(&t->probe);
    net_set_link(t->net, false);
    if (t->tx_waits) {
        t->tx_waits = false;
        net_writable(t->net); /* takes frames, to drop them */
    }
}

/* ---- an interface that is down ---- */

static void tap_down(struct tap *t)
{
    if (net_link_up(t->net)) {
        trace("tap", "down", "%s", t->id);
        net_set_link(t->net, false);
    }
    if (!t->probe.armed) {
        timer_set(&t->probe, loop_now(t->loop, LOOP_HOST) + TAP_PROBE_NS);
    }
}

static void tap_up(struct tap *t)
{
    timer_cancel(&t->probe);
    update_watch(t);
    net_set_link(t->net, true);
}

static void probe(void *arg)
{
    struct tap *t = arg;
    struct ifreq ifr = {0};

    if (ioctl(t->fd, TUNGETIFF, &ifr) != 0) {
        tap_gone(t, strerror(errno));
        return;
    }
    /* The name as of now. An interface that cannot be asked (another namespace) counts as up:
     * frames will tell. */
    if (ioctl(t->socket, SIOCGIFFLAGS, &ifr) == 0 && (ifr.ifr_flags & IFF_UP) == 0) {
        tap_down(t);
    } else {
        tap_up(t);
    }
}

/* ---- from the guest ---- */

static struct virtio_net_hdr header_for(const struct net_offload *off)
{
    struct virtio_net_hdr h = {0};

    if (off->csum_needed) {
        h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        h.csum_start = off->csum_start;
        h.csum_offset = off->csum_offset;
    }
    if (off->gso == NET_GSO_TCPV4 || off->gso == NET_GSO_TCPV6) {
        h.gso_type =
            off->gso == NET_GSO_TCPV4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
        h.gso_size = off->gso_size;
        h.hdr_len = off->header_len;
    }
    return h;
}

/* What is to be written for a frame: iov[0..n), n the result. */
static int fill_out(const struct tap *t, struct tap_out *o, const struct iovec *iov, int iovcnt,
                    const struct net_offload *off)
{
    size_t len = 0;
    int n = 0;

    o->header = header_for(off);
    for (int i = 0; i < iovcnt; i++) {
        len += iov[i].iov_len;
    }
    if (len > TAP_COPY_MAX) {
        if (t->vnet) {
            o->iov[n++] = (struct iovec){&o->header, sizeof(o->header)};
        }
        memcpy(o->iov + n, iov, (size_t)iovcnt * sizeof(*iov));
        return n + iovcnt;
    }
    len = 0;
    for (int i = 0; i < iovcnt; i++) {
        memcpy(o->copy + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    o->iov[0] = t->vnet ? (struct iovec){&o->header, sizeof(o->header) + len}
                        : (struct iovec){o->copy, len};
    return 1;
}

/* What became of a write: 0 taken or dropped, -EAGAIN no room. */
static int written(struct tap *t, ssize_t ret)
{
    if (ret >= 0) {
        if (t->probe.armed) {
            tap_up(t);
        }
        return 0;
    }
    if (ret == -EAGAIN) {
        t->tx_waits = true;
        update_watch(t);
        return -EAGAIN;
    }
    if (ret == -EBADFD || ret == -ENODEV) {
        tap_gone(t, strerror((int)-ret));
    } else if (ret == -EIO) {
        tap_down(t);
    }
    /* Anything else is about this frame: out of memory, headers that the host does not like. */
    net_dropped(t->net);
    return 0;
}

static int tap_send(void *opaque, const struct iovec *iov, int iovcnt,
                    const struct net_offload *off)
{
    struct tap *t = opaque;
    struct tap_out *o = &t->out[0];
    ssize_t ret;
    int n;

    if (t->gone) {
        net_dropped(t->net);
        return 0;
    }
    n = fill_out(t, o, iov, iovcnt, off);
    do {
        ret =
            n == 1 ? write(t->fd, o->iov[0].iov_base, o->iov[0].iov_len) : writev(t->fd, o->iov, n);
    } while (ret < 0 && errno == EINTR);
    return written(t, ret < 0 ? -errno : ret);
}

/* Whether a request that finds nothing ends at once, whatever the kernel thinks of O_NONBLOCK:
 * asked with a frame that is too short to be one. */
static bool no_wait_works(const struct tap *t)
{
    uint8_t byte = 0;
    const struct iovec iov = {&byte, sizeof(byte)};

    return pwritev2(t->fd, &iov, 1, -1, RWF_NOWAIT) >= 0 || errno != EOPNOTSUPP;
}

/* The ring is made when there is use for it. False: one by one. */
static bool ring_ready(struct tap *t)
{
    if (!t->ring_tried) {
        t->ring_tried = true;
        t->ring_works = no_wait_works(t) && io_uring_queue_init(TAP_RING, &t->ring, 0) == 0;
        trace("tap", "ring", "%s: %s", t->id, t->ring_works ? "used" : "not to be had");
    }
    return t->ring_works;
}

/* Carries out what was put into the ring, count requests numbered from 0; result[number]. */
static void ring_run(struct tap *t, unsigned count, ssize_t *result)
{
    unsigned done = 0;

    for (unsigned i = 0; i < count; i++) {
        result[i] = -EAGAIN;
    }
    while (done < count) {
        struct io_uring_cqe *cqe;
        int ret = io_uring_submit_and_wait(&t->ring, 1);

        if (ret < 0 && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY) {
            io_uring_queue_exit(&t->ring); /* waits for what it has */
            t->ring_works = false;
            return;
        }
        while (done < count && io_uring_peek_cqe(&t->ring, &cqe) == 0) {
            if (cqe->user_data < count) {
                result[cqe->user_data] = cqe->res;
            }
            io_uring_cqe_seen(&t->ring, cqe);
            done++;
        }
    }
}

static unsigned tap_send_many(void *opaque, const struct net_frame *frames, unsigned count)
{
    struct tap *t = opaque;
    ssize_t result[TAP_RING];
    unsigned sent;

    if (count > TAP_RING || t->gone || !ring_ready(t)) {
        for (sent = 0; sent < count; sent++) {
            if (tap_send(t, frames[sent].iov, frames[sent].iovcnt, &frames[sent].off) != 0) {
                break;
            }
        }
        return sent;
    }
    for (unsigned i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&t->ring); /* as many as the ring has */
        struct tap_out *o = &t->out[i];
        int n = fill_out(t, o, frames[i].iov, frames[i].iovcnt, &frames[i].off);

        if (n == 1) {
            io_uring_prep_write(sqe, t->fd, o->iov[0].iov_base, (unsigned)o->iov[0].iov_len, 0);
        } else {
            io_uring_prep_writev(sqe, t->fd, o->iov, (unsigned)n, 0);
        }
        sqe->rw_flags = RWF_NOWAIT;
        io_uring_sqe_set_data64(sqe, i);
    }
    ring_run(t, count, result);
    /* Those at the end that found no room stay; one before others that did is lost, as the order
     * matters more. */
    for (sent = count; sent > 0 && result[sent - 1] == -EAGAIN; sent--) {
    }
    for (unsigned i = 0; i < sent; i++) {
        if (result[i] == -EAGAIN) {
            net_dropped(t->net);
        } else {
            written(t, result[i]);
        }
    }
    if (sent < count) {
        written(t, -EAGAIN);
    }
    return sent;
}

/* ---- to the guest ---- */

static struct net_offload offload_from(const struct virtio_net_hdr *h, size_t len)
{
    struct net_offload off = {.csum_valid = (h->flags & VIRTIO_NET_HDR_F_DATA_VALID) != 0};

    if ((h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0 &&
        (size_t)h->csum_start + h->csum_offset + 2 <= len) {
        off.csum_needed = true;
        off.csum_start = h->csum_start;
        off.csum_offset = h->csum_offset;
    }
    switch (h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
        off.gso = NET_GSO_TCPV4;
        break;
    case VIRTIO_NET_HDR_GSO_TCPV6:
        off.gso = NET_GSO_TCPV6;
        break;
    default:
        return off;
    }
    off.gso_size = h->gso_size;
    off.header_len = h->hdr_len;
    return off;
}

/* Reads up to `want` frames into t->in. How many requests found one. */
static unsigned fill_in(struct tap *t, unsigned want)
{
    size_t room = (t->vnet ? sizeof(struct virtio_net_hdr) : 0) + NET_FRAME_MAX;
    unsigned found = 0;

    if (want == 1 || !ring_ready(t)) {
        ssize_t ret = read(t->fd, t->in[0].bytes, room);

        want = 1;
        t->in_len[0] = ret < 0 ? -errno : ret;
    } else {
        for (unsigned i = 0; i < want; i++) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(&t->ring);

            io_uring_prep_read(sqe, t->fd, t->in[i].bytes, (unsigned)room, 0);
            sqe->rw_flags = RWF_NOWAIT;
            io_uring_sqe_set_data64(sqe, i);
        }
        ring_run(t, want, t->in_len);
    }
    for (unsigned i = 0; i < want; i++) {
        found += t->in_len[i] >= 0;
        if (t->in_len[i] == -EBADFD || t->in_len[i] == -EIO || t->in_len[i] == -ENODEV) {
            tap_gone(t, strerror((int)-t->in_len[i]));
        }
    }
    t->in_next = 0;
    t->in_count = want;
    return found;
}

static void deliver_next(struct tap *t)
{
    const uint8_t *p = t->in[t->in_next].bytes;
    ssize_t ret = t->in_len[t->in_next++];
    size_t len = ret < 0 ? 0 : (size_t)ret;
    struct virtio_net_hdr h = {0};
    struct net_offload off;

    if (t->vnet && len >= sizeof(h)) {
        memcpy(&h, p, sizeof(h));
        p += sizeof(h);
        len -= sizeof(h);
    } else if (t->vnet) {
        len = 0;
    }
    if (len != 0) {
        off = offload_from(&h, len);
        net_deliver(t->net, p, len, &off);
    }
}

/* Delivers what was read, and reads as much as there is: one frame, then two, four ... */
static void read_frames(struct tap *t)
{
    unsigned want = 1;

    for (unsigned budget = TAP_BURST; t->receiving && !t->gone;) {
        unsigned found;

        if (t->in_next < t->in_count) {
            deliver_next(t);
            continue;
        }
        if (budget < want) {
            return; /* the descriptor is still ready */
        }
        found = fill_in(t, want);
        if (found < want) {
            budget = 0; /* that was all: deliver it, and no more */
        } else {
            budget -= want;
            want = t->in_len[found - 1] > TAP_BIG ? 1 : want * 2;
            want = want > TAP_AHEAD ? TAP_AHEAD : want;
        }
    }
}

static void read_on(void *arg)
{
    struct tap *t = arg;

    while (t->in_next < t->in_count && t->receiving) {
        deliver_next(t);
    }
}

static void on_events(void *arg, uint32_t events)
{
    struct tap *t = arg;

    if ((events & EPOLLOUT) != 0 && t->tx_waits) {
        t->tx_waits = false;
        update_watch(t);
        net_writable(t->net);
    }
    if ((events & EPOLLIN) != 0) {
        read_frames(t);
    }
    /* A deleted interface is in error for good. One that was only set down is not; asking the
     * driver tells them apart. */
    if ((events & EPOLLERR) != 0 && !t->gone) {
        struct ifreq ifr = {0};

        if (ioctl(t->fd, TUNGETIFF, &ifr) != 0) {
            tap_gone(t, strerror(errno));
        } else {
            watch_events(&t->watch, 0);
            tap_down(t);
        }
    }
}

static void tap_receive(void *opaque, bool on)
{
    struct tap *t = opaque;

    t->receiving = on;
    update_watch(t);
    if (on && t->in_next < t->in_count) {
        bottom_half_schedule(&t->in_bh);
    }
}

static void tap_close(void *opaque)
{
    struct tap *t = opaque;

    loop_unwatch(&t->watch);
    timer_cancel(&t->probe);
    bottom_half_cancel(&t->in_bh);
    if (t->ring_works) {
        io_uring_queue_exit(&t->ring);
    }
    free(t->out);
    free(t->in);
    if (t->fd >= 0) {
        close(t->fd);
    }
    if (t->socket >= 0) {
        close(t->socket);
    }
    free(t);
}

/* ---- opening ---- */

/* Creates or attaches to the interface. 0, or -1 and a reason. */
static int make_tap(struct tap *t, const struct net_config *cfg, char *err, size_t errlen)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

    if (strlen(cfg->ifname) >= sizeof(ifr.ifr_name)) {
        snprintf(err, errlen, "netdev %s: interface name %s is too long", cfg->id, cfg->ifname);
        return -1;
    }
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", cfg->ifname);
    t->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (t->fd < 0) {
        snprintf(err, errlen,
                 "netdev %s: cannot open /dev/net/tun for %s: %s; is the tun module loaded?",
                 cfg->id, cfg->ifname, strerror(errno));
        return -1;
    }
    if (ioctl(t->fd, TUNSETIFF, &ifr) != 0) {
        snprintf(err, errlen, "netdev %s: cannot create the tap interface %s: %s%s", cfg->id,
                 cfg->ifname, strerror(errno),
                 errno == EBUSY    ? "; another process has it open"
                 : errno == EINVAL ? "; the name is taken by something that is not a tap"
                                   : "");
        return -1;
    }
    return 0;
}

/* What the descriptor that we were given is. */
static int take_fd(struct tap *t, const struct net_config *cfg, char *err, size_t errlen)
{
    struct ifreq ifr = {0};
    int flags = fcntl(cfg->tap_fd, F_GETFL);

    if (flags < 0 || ioctl(cfg->tap_fd, TUNGETIFF, &ifr) != 0 || (ifr.ifr_flags & IFF_TAP) == 0 ||
        (ifr.ifr_flags & IFF_NO_PI) == 0) {
        snprintf(err, errlen,
                 "netdev %s: descriptor %d is not a tap interface (opened with IFF_NO_PI)", cfg->id,
                 cfg->tap_fd);
        return -1;
    }
    if (fcntl(cfg->tap_fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(cfg->tap_fd, F_SETFD, FD_CLOEXEC) != 0) {
        snprintf(err, errlen, "netdev %s: descriptor %d: %s", cfg->id, cfg->tap_fd,
                 strerror(errno));
        return -1;
    }
    t->vnet = (ifr.ifr_flags & IFF_VNET_HDR) != 0;
    t->fd = cfg->tap_fd;
    return 0;
}

struct net *net_open(struct loop *loop, const struct net_config *cfg, char *err, size_t errlen)
{
    static const struct net_backend with_offloads = {.send = tap_send,
                                                     .send_many = tap_send_many,
                                                     .receive = tap_receive,
                                                     .close = tap_close,
                                                     .offloads = true};
    static const struct net_backend plain = {
        .send = tap_send, .send_many = tap_send_many, .receive = tap_receive, .close = tap_close};
    struct tap *t = calloc(1, sizeof(*t));
    int size = sizeof(struct virtio_net_hdr);
    int ret;

    if (t == NULL) {
        snprintf(err, errlen, "netdev %s: out of memory", cfg->id);
        return NULL;
    }
    *t = (struct tap){.loop = loop, .fd = -1, .socket = -1, .vnet = true};
    snprintf(t->id, sizeof(t->id), "%s", cfg->id);
    timer_init(&t->probe, loop, LOOP_HOST, probe, t);
    bottom_half_init(&t->in_bh, loop, read_on, t);
    t->out = calloc(TAP_RING, sizeof(*t->out));
    t->in = calloc(TAP_AHEAD, sizeof(*t->in));
    if (t->out == NULL || t->in == NULL) {
        snprintf(err, errlen, "netdev %s: out of memory", cfg->id);
        goto fail;
    }
    if ((cfg->ifname != NULL ? make_tap(t, cfg, err, errlen) : take_fd(t, cfg, err, errlen)) != 0) {
        goto fail;
    }
    /* Frames to us may have their checksum missing and be of 64 KiB: one read instead of 45, net.c
     * cuts them. */
    if (t->vnet &&
        (ioctl(t->fd, TUNSETVNETHDRSZ, &size) != 0 ||
         ioctl(t->fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN) != 0)) {
        snprintf(err, errlen, "netdev %s: cannot set up the tap interface: %s", cfg->id,
                 strerror(errno));
        goto fail;
    }
    t->socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC,
                       0); /* -1: an interface that is down is noticed later */
    ret = loop_watch(loop, &t->watch, t->fd, EPOLLIN, on_events, t);
    if (ret != 0) {
        snprintf(err, errlen, "netdev %s: cannot watch the tap interface: %s", cfg->id,
                 strerror(-ret));
        goto fail;
    }
    watch_events(&t->watch, 0);
    t->net = net_create(loop, t->vnet ? &with_offloads : &plain, t, cfg->id, cfg->dump_path, err,
                        errlen);
    if (t->net == NULL) {
        goto fail;
    }
    return t->net;

fail:
    if (cfg->ifname == NULL) {
        t->fd = -1; /* still the caller's */
    }
    tap_close(t);
    return NULL;
}
