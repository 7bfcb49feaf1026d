/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tap back end against the kernel, in a network namespace of our own (needs root and
 * /dev/net/tun). The far end is a packet socket on the interface. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/loop.h"
#include "net/net.h"

enum { TEST_TYPE = 0x88b5, /* IEEE 802 local experimental */ MS = 1000000, FRAMES = 300 };

struct rig {
    struct loop *loop;
    struct net *net;
    int packet; /* the far end */
    unsigned room;
    unsigned received, csum_valid;
    uint16_t last_seq; /* bytes 14, 15 of the last frame */
    bool out_of_order;
    uint8_t last[NET_FRAME_MAX];
    size_t last_len;
    unsigned sent_ready, downs, ups;
};

static bool receive(void *nic, const uint8_t *frame, size_t len, const struct net_offload *off)
{
    struct rig *r = nic;
    uint16_t seq = (uint16_t)(frame[14] << 8 | frame[15]);

    if (frame[12] << 8 != (TEST_TYPE & 0xff00) &&
        !(frame[12] == 8 && frame[13] == 0 && frame[23] == 6)) {
        return true; /* the kernel's own chatter */
    }
    if (r->room == 0) {
        return false;
    }
    r->room--;
    r->out_of_order |= r->received > 0 && frame[12] == 0x88 && seq != r->last_seq + 1;
    r->last_seq = seq;
    r->received++;
    r->csum_valid += off->csum_valid;
    assert_false(off->csum_needed);
    assert_int_equal(off->gso, NET_GSO_NONE);
    memcpy(r->last, frame, len);
    r->last_len = len;
    return true;
}

static void sent_ready(void *nic)
{
    ((struct rig *)nic)->sent_ready++;
}

static void link_changed(void *nic, bool up)
{
    struct rig *r = nic;

    *(up ? &r->ups : &r->downs) += 1;
}

static const struct net_client client = {receive, sent_ready, link_changed};

static int control(void)
{
    static int fd = -1;

    if (fd < 0) {
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    }
    assert_true(fd >= 0);
    return fd;
}

static void set_up(const char *name, bool up)
{
    struct ifreq ifr = {0};

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    assert_int_equal(ioctl(control(), SIOCGIFFLAGS, &ifr), 0);
    ifr.ifr_flags = (short)((ifr.ifr_flags & ~IFF_UP) | (up ? IFF_UP : 0));
    assert_int_equal(ioctl(control(), SIOCSIFFLAGS, &ifr), 0);
}

static void rename_tap(const char *from, const char *to)
{
    struct ifreq ifr = {0};

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", from);
    snprintf(ifr.ifr_newname, sizeof(ifr.ifr_newname), "%s", to);
    assert_int_equal(ioctl(control(), SIOCSIFNAME, &ifr), 0);
}

static void delete_link(const char *name)
{
    struct {
        struct nlmsghdr h;
        struct ifinfomsg i;
    } msg = {0};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    assert_true(fd >= 0);
    msg.h.nlmsg_len = sizeof(msg);
    msg.h.nlmsg_type = RTM_DELLINK;
    msg.h.nlmsg_flags = NLM_F_REQUEST;
    msg.i.ifi_index = (int)if_nametoindex(name);
    assert_true(msg.i.ifi_index > 0);
    assert_int_equal(send(fd, &msg, sizeof(msg), 0), sizeof(msg));
    close(fd);
    assert_int_equal(if_nametoindex(name), 0);
}

static int packet_socket(const char *name)
{
    struct sockaddr_ll addr = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
    int on = 1;

    assert_true(fd >= 0);
    addr.sll_ifindex = (int)if_nametoindex(name);
    assert_true(addr.sll_ifindex > 0);
    assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static struct rig *start(const struct net_config *cfg)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct net_caps caps = {0};
    char err[200] = "";

    assert_non_null(r);
    r->room = UINT32_MAX;
    r->loop = loop_create(false);
    assert_non_null(r->loop);
    r->net = net_open(r->loop, cfg, err, sizeof(err));
    if (r->net == NULL) {
        fail_msg("%s", err);
    }
    set_up("tap7-emu", true);
    r->packet = packet_socket("tap7-emu");
    net_attach(r->net, &client, r, &caps, &caps);
    return r;
}

static struct rig *begin(void)
{
    return start(&(struct net_config){.id = "net0", .ifname = "tap7-emu", .tap_fd = -1});
}

static void end(struct rig *r)
{
    net_close(r->net);
    loop_destroy(r->loop);
    close(r->packet);
    free(r);
    assert_int_equal(if_nametoindex("tap7-emu"), 0); /* gone with the descriptor */
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Runs the loop until *count reaches n; fails after two seconds. */
static void wait_count(struct rig *r, const unsigned *count, unsigned n)
{
    uint64_t deadline = now_ns() + 2000ull * MS;

    while (*count < n && now_ns() < deadline) {
        loop_poll(r->loop, 10 * MS);
    }
    assert_int_equal(*count, n);
}

/* A frame of the far end; vnet may be NULL. */
static ssize_t far_send(struct rig *r, const uint8_t *frame, size_t len,
                        const struct virtio_net_hdr *vnet)
{
    static const struct virtio_net_hdr none;
    struct iovec iov[2] = {{(void *)(uintptr_t)(vnet ? vnet : &none), sizeof(none)},
                           {(void *)(uintptr_t)frame, len}};

    return writev(r->packet, iov, 2);
}

/* The next frame of our type that the far end sees, into buf; -1: none within a second. */
static ssize_t far_receive(struct rig *r, struct virtio_net_hdr *vnet, uint8_t *buf)
{
    struct iovec iov[2] = {{vnet, sizeof(*vnet)}, {buf, NET_FRAME_MAX}};

    for (int i = 0; i < 1000; i++) {
        struct sockaddr_ll from;
        struct msghdr msg = {
            .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = iov, .msg_iovlen = 2};
        ssize_t n = recvmsg(r->packet, &msg, 0);

        if (n > 14 + (ssize_t)sizeof(*vnet) && from.sll_pkttype != PACKET_OUTGOING &&
            (buf[12] == (TEST_TYPE >> 8) || buf[12] == 8)) {
            return n - (ssize_t)sizeof(*vnet);
        }
        if (n < 0) {
            usleep(1000);
        }
    }
    return -1;
}

static void fill(uint8_t *frame, size_t len, unsigned seq)
{
    memset(frame, 0xff, 6);
    memcpy(frame + 6, "\x02\x00\x00\x00\x00\x01", 6);
    frame[12] = TEST_TYPE >> 8;
    frame[13] = TEST_TYPE & 0xff;
    for (size_t i = 14; i < len; i++) {
        frame[i] = (uint8_t)(i * 7 + seq);
    }
    frame[14] = (uint8_t)(seq >> 8);
    frame[15] = (uint8_t)seq;
}

static int net_send_one(struct rig *r, uint8_t *frame, size_t len, const struct net_offload *off)
{
    struct iovec iov[2] = {{frame, 14}, {frame + 14, len - 14}};

    return net_send(r->net, iov, 2, off);
}

/* TCP over IPv4 without options: 54 bytes of headers, the pseudo header's sum in place. */
static void fill_tcp(uint8_t *frame, size_t len)
{
    struct net_headers h;

    fill(frame, len, 1);
    frame[12] = 8, frame[13] = 0;
    memset(frame + 14, 0, 40);
    frame[14] = 0x45;
    frame[16] = (uint8_t)((len - 14) >> 8), frame[17] = (uint8_t)(len - 14);
    frame[19] = 9; /* identification */
    frame[22] = 64, frame[23] = 6;
    memcpy(frame + 26, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8);
    memcpy(frame + 34, "\x10\x00\x20\x00\xff\xff\xff\x00",
           8);                          /* ports, sequence number about to wrap */
    frame[46] = 0x50, frame[47] = 0x19; /* FIN, PSH, ACK */
    uint16_t sum = net_csum_fold(net_csum_add(0, frame + 14, 20));
    frame[24] = (uint8_t)(sum >> 8), frame[25] = (uint8_t)sum;
    assert_true(net_parse(frame, len, &h) && h.tcp && h.payload == 54);
    assert_true(net_pseudo_header(frame, &h, len));
}

/* The whole of it sums to zero: RFC 1071's check at the receiver. */
static void check_tcp(const uint8_t *frame, size_t len)
{
    uint32_t sum = net_csum_add(0, frame + 26, 8) + 6 + (uint32_t)(len - 34);

    assert_int_equal(net_csum_fold(net_csum_add(sum, frame + 34, len - 34)), 0);
    assert_int_equal(net_csum_fold(net_csum_add(0, frame + 14, 20)), 0);
    assert_int_equal(frame[16] << 8 | frame[17], len - 14);
}

static void test_name(void **state)
{
    struct net_config cfg = {.id = "net0", .ifname = "tap7-emu", .tap_fd = -1};
    struct rig *r = begin();
    char err[200];

    (void)state;
    assert_int_not_equal(if_nametoindex("tap7-emu"), 0);
    assert_null(net_open(r->loop, &cfg, err, sizeof(err))); /* ours already */
    assert_non_null(strstr(err, "tap7-emu"));
    cfg.ifname = "lo";
    assert_null(net_open(r->loop, &cfg, err, sizeof(err)));
    assert_non_null(strstr(err, "lo"));
    cfg.ifname = NULL;
    cfg.tap_fd = control();
    assert_null(net_open(r->loop, &cfg, err, sizeof(err)));
    assert_true(fcntl(cfg.tap_fd, F_GETFD) >= 0); /* still ours */
    end(r);
}

static void test_send(void **state)
{
    struct rig *r = begin();
    uint8_t frame[1514], got[NET_FRAME_MAX];
    struct virtio_net_hdr vnet;

    (void)state;
    for (size_t len = 14 + 2; len <= sizeof(frame); len += 499) {
        fill(frame, len, 3);
        assert_int_equal(net_send_one(r, frame, len, NULL), 0);
        assert_int_equal(far_receive(r, &vnet, got), len);
        assert_memory_equal(got, frame, len);
    }
    assert_int_equal(net_send_one(r, frame, 14 + NET_FRAME_MAX, NULL), -EMSGSIZE);
    assert_int_equal(net_get_stats(r->net)->tx_frames, 4);
    end(r);
}

/* What the guest leaves undone reaches the host undone. */
static void test_send_offloads(void **state)
{
    static uint8_t frame[60054], got[NET_FRAME_MAX];
    const struct net_offload off = {.csum_needed = true,
                                    .csum_start = 34,
                                    .csum_offset = 16,
                                    .gso = NET_GSO_TCPV4,
                                    .gso_size = 1460,
                                    .header_len = 54};
    struct rig *r = begin();
    struct virtio_net_hdr vnet;

    (void)state;
    fill_tcp(frame, sizeof(frame));
    assert_int_equal(net_send_one(r, frame, sizeof(frame), &off), 0);
    assert_int_equal(far_receive(r, &vnet, got), sizeof(frame));
    assert_int_equal(vnet.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
    assert_int_equal(vnet.gso_size, 1460);
    assert_int_equal(vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    assert_memory_equal(got, frame, sizeof(frame));
    end(r);
}

/* What the host leaves undone is done before the card sees it. */
/* Frames of many sizes in one call: all come out, in order, with their offloads. */
static void send_many(struct rig *r, unsigned count)
{
    static uint8_t frames[NET_BATCH][9000];
    static uint8_t buf[NET_FRAME_MAX];
    struct net_frame out[NET_BATCH] = {0};
    struct iovec iov[NET_BATCH][2];
    size_t lens[NET_BATCH];
    struct virtio_net_hdr vnet;

    for (unsigned i = 0; i < count; i++) {
        lens[i] = i % 5 == 4 ? 9000 : 60 + 97 * i % 1455;
        fill(frames[i], lens[i], i);
        iov[i][0] = (struct iovec){frames[i], 20};
        iov[i][1] = (struct iovec){frames[i] + 20, lens[i] - 20};
        out[i] = (struct net_frame){.iov = iov[i], .iovcnt = 2};
        if (i % 7 == 3) {
            out[i].off =
                (struct net_offload){.csum_needed = true, .csum_start = 20, .csum_offset = 6};
        }
    }
    assert_int_equal(net_send_many(r->net, out, count), count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(far_receive(r, &vnet, buf), lens[i]);
        assert_int_equal(vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, i % 7 == 3);
        assert_memory_equal(buf, frames[i], lens[i]);
    }
}

static void test_send_many(void **state)
{
    struct rig *r = begin();
    uint8_t frame[60];
    const struct iovec iov = {frame, sizeof(frame)}, part = {frame, 13};
    struct net_frame out[3] = {{&iov, 1, {0}}, {&part, 1, {0}}, {&iov, 1, {0}}};
    uint8_t buf[2000];
    struct virtio_net_hdr vnet;

    (void)state;
    send_many(r, NET_BATCH);
    send_many(r, 2);
    send_many(r, 1);
    assert_int_equal(net_get_stats(r->net)->tx_frames, NET_BATCH + 3);
    fill(frame, sizeof(frame), 1);
    assert_int_equal(net_send_many(r->net, out, 3), 3); /* what is no frame counts as taken */
    assert_int_equal(far_receive(r, &vnet, buf), 60);
    assert_int_equal(far_receive(r, &vnet, buf), 60);
    net_set_running(r->net, false);
    assert_int_equal(net_send_many(r->net, out, 3), 0);
    net_set_running(r->net, true);
    wait_count(r, &r->sent_ready, 1);
    set_up("tap7-emu", false);
    assert_int_equal(net_send_many(r->net, (struct net_frame[]){out[0], out[2]}, 2), 2);
    assert_int_equal(net_get_stats(r->net)->tx_dropped, 2);
    assert_int_equal(r->downs, 1);
    delete_link("tap7-emu");
    assert_int_equal(net_send_many(r->net, (struct net_frame[]){out[0], out[2]}, 2), 2);
    assert_int_equal(net_get_stats(r->net)->tx_dropped, 4);
    end(r);
}

static void test_receive_offloads(void **state)
{
    static uint8_t frame[60054];
    const struct virtio_net_hdr vnet = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                        .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                        .gso_size = 1000,
                                        .hdr_len = 54,
                                        .csum_start = 34,
                                        .csum_offset = 16};
    struct rig *r = begin();
    unsigned total;

    (void)state;
    r->room = 7;
    net_receive_ready(r->net);
    fill_tcp(frame, sizeof(frame));
    assert_int_equal(far_send(r, frame, sizeof(frame), &vnet),
                     (ssize_t)(sizeof(frame) + sizeof(vnet)));
    wait_count(r, &r->received, 7); /* stops in the middle of the frame ... */
    check_tcp(r->last, r->last_len);
    assert_int_equal(r->last[47], 0x10); /* no FIN, no PSH */
    for (total = 8; total <= 60; total++) {
        r->room = 1;
        net_receive_ready(r->net);
        assert_int_equal(r->received, total - 1); /* not from within our own call */
        wait_count(r, &r->received, total);       /* ... and goes on there */
        assert_int_equal(r->last_len, 1054);
        check_tcp(r->last, r->last_len);
        assert_int_equal(r->last[19], 9 + total - 1);
        uint32_t seq = (uint32_t)r->last[38] << 24 | (uint32_t)r->last[39] << 16 |
                       (uint32_t)r->last[40] << 8 | r->last[41];
        assert_int_equal(seq, (uint32_t)(0xffffff00u + (total - 1) * 1000));
        assert_memory_equal(r->last + 54, frame + 54 + (total - 1) * 1000, 1000);
    }
    assert_int_equal(r->last[47], 0x19);
    assert_int_equal(r->csum_valid, 60);
    loop_poll(r->loop, 20 * MS);
    assert_int_equal(r->received, 60);
    end(r);
}

static void test_back_pressure(void **state)
{
    struct rig *r = begin();
    uint8_t frame[200];

    (void)state;
    for (unsigned i = 0; i < FRAMES;
         i++) { /* before the card is ready: they wait in the host's queue */
        fill(frame, sizeof(frame), i);
        assert_int_equal(far_send(r, frame, sizeof(frame), NULL),
                         (ssize_t)(sizeof(frame) + sizeof(struct virtio_net_hdr)));
    }
    loop_poll(r->loop, 10 * MS);
    assert_int_equal(r->received, 0);
    for (unsigned i = 10; i <= FRAMES; i += 10) {
        r->room = 10;
        net_receive_ready(r->net);
        wait_count(r, &r->received, i);
    }
    assert_false(r->out_of_order);
    /* A refused frame costs nothing while it waits. */
    r->room = 0;
    net_receive_ready(r->net);
    assert_int_equal(far_send(r, frame, sizeof(frame), NULL),
                     (ssize_t)(sizeof(frame) + sizeof(struct virtio_net_hdr)));
    uint64_t t = now_ns();
    for (int i = 0; i < 4; i++) {
        loop_poll(r->loop, 30 * MS);
    }
    assert_true(now_ns() - t >= 55u * MS); /* at most two of the four woke early */
    end(r);
}

static void test_stopped(void **state)
{
    struct rig *r = begin();
    uint8_t frame[100];

    (void)state;
    net_receive_ready(r->net);
    net_set_running(r->net, false);
    fill(frame, sizeof(frame), 1);
    far_send(r, frame, sizeof(frame), NULL);
    loop_poll(r->loop, 20 * MS);
    assert_int_equal(r->received, 0);
    assert_int_equal(net_send_one(r, frame, sizeof(frame), NULL), -EAGAIN);
    loop_poll(r->loop, 0);
    assert_int_equal(r->sent_ready, 0);
    net_set_running(r->net, true);
    wait_count(r, &r->sent_ready, 1);
    wait_count(r, &r->received, 1);
    assert_int_equal(net_send_one(r, frame, sizeof(frame), NULL), 0);
    end(r);
}

static void test_renamed(void **state)
{
    struct rig *r = begin();
    uint8_t frame[100], got[NET_FRAME_MAX];
    struct virtio_net_hdr vnet;

    (void)state;
    net_receive_ready(r->net);
    set_up("tap7-emu", false);
    rename_tap("tap7-emu", "other");
    fill(frame, sizeof(frame), 1);
    assert_int_equal(net_send_one(r, frame, sizeof(frame), NULL), 0);
    assert_int_equal(r->downs, 1); /* it is down */
    assert_int_equal(net_get_stats(r->net)->tx_dropped, 1);
    assert_false(net_link_up(r->net));
    set_up("other", true);
    wait_count(r, &r->ups, 1); /* nobody sends: found out by itself */
    far_receive(r, &vnet, got);
    assert_int_equal(net_send_one(r, frame, sizeof(frame), NULL), 0);
    assert_int_equal(far_receive(r, &vnet, got), sizeof(frame));
    set_up("other", false);
    assert_int_equal(net_send_one(r, frame, sizeof(frame), NULL), 0);
    set_up("other", true);
    assert_int_equal(net_send_one(r, frame, sizeof(frame), NULL), 0);
    assert_int_equal(r->ups, 2); /* found out by sending */
    far_receive(r, &vnet, got);  /* takes "interface was down" off the packet socket */
    assert_true(far_send(r, frame, sizeof(frame), NULL) > 0);
    wait_count(r, &r->received, 1);
    end(r);
}

static void test_deleted(void **state)
{
    struct rig *r = begin();
    uint8_t frame[100];

    (void)state;
    net_receive_ready(r->net);
    fill(frame, sizeof(frame), 1);
    delete_link("tap7-emu");
    wait_count(r, &r->downs, 1);
    assert_false(net_link_up(r->net));
    uint64_t t = now_ns();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(net_send_one(r, frame, sizeof(frame), NULL), 0);
        loop_poll(r->loop, 30 * MS);
    }
    assert_true(now_ns() - t >= 80u * MS); /* asleep, not spinning */
    assert_int_equal(net_get_stats(r->net)->tx_dropped, 3);
    assert_int_equal(r->downs, 1);
    end(r);
}

/* Deleted while nobody reads: the first frame finds it out. */
static void test_deleted_unread(void **state)
{
    struct rig *r = begin();
    uint8_t frame[100];

    (void)state;
    fill(frame, sizeof(frame), 1);
    delete_link("tap7-emu");
    assert_int_equal(net_send_one(r, frame, sizeof(frame), NULL), 0);
    assert_int_equal(r->downs, 1);
    net_receive_ready(r->net);
    loop_poll(r->loop, 0);
    end(r);
}

/* An open tap from the toolstack, without vnet headers: nothing can be left to the host. */
static void test_plain_fd(void **state)
{
    static uint8_t frame[3054], got[NET_FRAME_MAX];
    const struct net_offload off = {.csum_needed = true,
                                    .csum_start = 34,
                                    .csum_offset = 16,
                                    .gso = NET_GSO_TCPV4,
                                    .gso_size = 1460,
                                    .header_len = 54};
    struct ifreq ifr = {.ifr_name = "tap7-emu", .ifr_flags = IFF_TAP | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR);
    struct virtio_net_hdr vnet;
    struct rig *r;

    (void)state;
    assert_true(fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0);
    r = start(&(struct net_config){.id = "net0", .tap_fd = fd});
    fill_tcp(frame, sizeof(frame));
    assert_int_equal(net_send_one(r, frame, sizeof(frame), &off), 0);
    for (unsigned i = 0, done = 0; i < 3; i++) {
        size_t len = 54u + (i < 2 ? 1460u : 80u);

        assert_int_equal(far_receive(r, &vnet, got), len);
        check_tcp(got, len);
        assert_memory_equal(got + 54, frame + 54 + done, len - 54);
        done += (unsigned)len - 54;
    }
    net_receive_ready(r->net);
    fill(frame, 64, 5);
    far_send(r, frame, 64, NULL);
    wait_count(r, &r->received, 1);
    assert_int_equal(r->last_len, 64);
    end(r);
}

static void test_capture(void **state)
{
    char path[] = "/tmp/test_tap.XXXXXX";
    int fd = mkstemp(path);
    uint8_t frame[100], got[24 + 2 * 116 + 1];
    uint32_t word[6];
    struct rig *r;

    (void)state;
    assert_true(fd >= 0);
    r = start(
        &(struct net_config){.id = "net0", .ifname = "tap7-emu", .tap_fd = -1, .dump_path = path});
    net_receive_ready(r->net);
    fill(frame, sizeof(frame), 1);
    assert_int_equal(net_send_one(r, frame, sizeof(frame), NULL), 0);
    unsigned before = r->received;
    far_send(r, frame, sizeof(frame), NULL);
    wait_count(r, &r->received, before + 1);
    assert_true(read(fd, got, sizeof(got)) >= (ssize_t)(24 + 2 * 116));
    memcpy(word, got, 24);
    assert_int_equal(word[0], 0xa1b2c3d4);
    assert_int_equal(word[5], 1);
    memcpy(word, got + 24, 16);
    assert_int_equal(word[2], sizeof(frame));
    assert_int_equal(word[3], sizeof(frame));
    assert_memory_equal(got + 40, frame, sizeof(frame));
    end(r);
    close(fd);
    unlink(path);
}

/* The kernel's own chatter (router solicitations) would get between the frames. */
static int own_namespace(void **state)
{
    int fd;

    (void)state;
    if (unshare(CLONE_NEWNET) != 0) {
        print_error("cannot make a network namespace: %s; run as root\n", strerror(errno));
        return -1;
    }
    fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);
    if (fd >= 0) {
        (void)!write(fd, "1", 1);
        close(fd);
    }
    fd = open("/dev/net/tun", O_RDWR);
    if (fd < 0) {
        print_error("cannot open /dev/net/tun: %s; run as root and load the tun module\n",
                    strerror(errno));
        return -1;
    }
    close(fd);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name),           cmocka_unit_test(test_send),
        cmocka_unit_test(test_send_offloads),  cmocka_unit_test(test_receive_offloads),
        cmocka_unit_test(test_back_pressure),  cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_renamed),        cmocka_unit_test(test_deleted),
        cmocka_unit_test(test_deleted_unread), cmocka_unit_test(test_plain_fd),
        cmocka_unit_test(test_send_many),      cmocka_unit_test(test_capture),
    };

    return cmocka_run_group_tests(tests, own_namespace, NULL);
}
