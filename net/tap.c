/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tap back end (Linux Documentation/networking/tuntap, struct virtio_net_hdr of virtio 1.1
 * 5.1.6). The interface is known by its descriptor only: scripts rename it, move it between
 * namespaces, set it down and delete it while we run.
 */
#include <errno.h>
#include <fcntl.h>
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
    TAP_PROBE_NS = 500000000,
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

static int tap_send(void *opaque, const struct iovec *iov, int iovcnt,
                    const struct net_offload *off)
{
    struct tap *t = opaque;
    struct virtio_net_hdr h = header_for(off);
    struct iovec out[NET_IOV_MAX + 1];
    int n = 0;
    ssize_t ret;

    if (t->gone) {
        net_dropped(t->net);
        return 0;
    }
    if (t->vnet) {
        out[n++] = (struct iovec){.iov_base = &h, .iov_len = sizeof(h)};
    }
    memcpy(out + n, iov, (size_t)iovcnt * sizeof(*iov));
    do {
        ret = writev(t->fd, out, n + iovcnt);
    } while (ret < 0 && errno == EINTR);
    if (ret >= 0) {
        if (t->probe.armed) {
            tap_up(t);
        }
        return 0;
    }
    if (errno == EAGAIN) {
        t->tx_waits = true;
        update_watch(t);
        return -EAGAIN;
    }
    if (errno == EBADFD || errno == ENODEV) {
        tap_gone(t, strerror(errno));
    } else if (errno == EIO) {
        tap_down(t);
    }
    /* Anything else is about this frame: out of memory, headers that the host does not like. */
    net_dropped(t->net);
    return 0;
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

static void read_frames(struct tap *t)
{
    for (int i = 0; i < TAP_BURST && t->receiving && !t->gone; i++) {
        struct virtio_net_hdr h = {0};
        struct iovec in[2] = {{.iov_base = &h, .iov_len = sizeof(h)},
                              {.iov_base = net_rx_buffer(t->net), .iov_len = NET_FRAME_MAX}};
        ssize_t ret = readv(t->fd, t->vnet ? in : in + 1, t->vnet ? 2 : 1);
        size_t len = ret < 0 ? 0 : (size_t)ret;
        struct net_offload off;

        if (ret < 0) {
            if (errno == EBADFD || errno == EIO || errno == ENODEV) {
                tap_gone(t, strerror(errno));
            }
            return;
        }
        len = t->vnet ? (len < sizeof(h) ? 0 : len - sizeof(h)) : len;
        off = offload_from(&h, len);
        net_deliver(t->net, len, &off);
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
}

static void tap_close(void *opaque)
{
    struct tap *t = opaque;

    loop_unwatch(&t->watch);
    timer_cancel(&t->probe);
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
    static const struct net_backend with_offloads = {tap_send, tap_receive, tap_close, true};
    static const struct net_backend plain = {tap_send, tap_receive, tap_close, false};
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
