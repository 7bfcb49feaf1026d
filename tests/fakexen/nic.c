/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Measuring network cards:
 *   bench nic DRIVER SLOT BAR IFACE tx SIZE plain|csum|tso BURST MS   guest to host
 *   bench nic DRIVER SLOT BAR IFACE rx SIZE plain|csum|tso BURST MS   host to guest
 *   bench nic DRIVER SLOT BAR IFACE ping SIZE plain 1 MS              host to guest and back
 *   bench tap IFACE tx|rx SIZE plain|csum|tso MS    no card: what writing or reading a tap costs
 *
 * One thread is guest and host by turns: it fills the card's ring (BURST frames for each doorbell)
 * or sends into the tap from outside (BURST frames for each look at the interrupt line, at most
 * `window` frames that the guest has not got yet), and serves the card's interrupts. So the device
 * model has another CPU to itself and no frame is lost for lack of room. The interface must be up
 * and have nobody else who sends. tso: frames of 64 KiB that the host's own stack would give (rx;
 * SIZE counts one of them), or that the card is to segment (tx).
 * Answer: OK frames= bytes= ns= cpu= (of the device model; of the thread for tap) irqs= lost=
 *         outside= (frames that the interface counted), for ping: med= p99= (ns)
 */
#include "nic.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_MAX = 65535, STUCK_MS = 300, PINGS_MAX = 100000 };

static const uint8_t guest_mac[6] = { 0x00, 0x16, 0x3e, 0, 0, 1 }, host_mac[6] = { 2, 0, 0, 0, 0, 9 };

/* ---- frames ---- */

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint16_t sum16(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* Headers of a frame of len bytes; plain: of a protocol that nobody knows, else TCP with the pseudo
 * header's sum (without the length for the card's tso, which wants it so). */
static void headers(uint8_t *p, const uint8_t *to, const uint8_t *from, size_t len,
                    enum nic_offload how, bool card)
{
    uint32_t pseudo = 6 + (card && how == NIC_TSO ? 0 : (uint32_t)(len - 34));

    memset(p, 0, NIC_HEADERS < len ? NIC_HEADERS : len);
    memcpy(p, to, 6);
    memcpy(p + 6, from, 6);
    put16(p + 12, how == NIC_PLAIN ? 0x88b5 : 0x0800);
    if (how == NIC_PLAIN)
        return;
    p[14] = 0x45;
    put16(p + 16, len - 14);
    p[22] = 64;
    p[23] = 6;
    memcpy(p + 26, "\x0a\0\0\1\x0a\0\0\2", 8);
    put16(p + 24, (uint16_t)~sum16(p + 14, 20, 0));
    put16(p + 34, 1024);
    put16(p + 36, 80);
    p[46] = 0x80;
    p[47] = 0x10;
    put16(p + 50, sum16(p + 26, 8, pseudo));
    p[54] = p[55] = 1;
    p[56] = 8;
    p[57] = 10;
}

void nic_fill(uint64_t gpa, size_t len, enum nic_offload how)
{
    headers(fx_ram(gpa), host_mac, guest_mac, len, how, true);
}

static struct virtio_net_hdr vnet_header(enum nic_offload how)
{
    struct virtio_net_hdr h = { 0 };

    if (how != NIC_PLAIN) {
        h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        h.csum_start = 34;
        h.csum_offset = 16;
    }
    if (how == NIC_TSO) {
        h.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        h.gso_size = NIC_MSS;
        h.hdr_len = NIC_HEADERS;
    }
    return h;
}

/* ---- the host's side ---- */

struct outside {
    int fd;
    size_t size;
    enum nic_offload how;
    unsigned frames; /* that the guest sees, of one that is sent */
    uint8_t frame[FRAME_MAX];
};

/* listens: gets what the guest sends; else the kernel has nobody to give it to. */
static bool outside_open(struct outside *o, const char *iface, size_t size, enum nic_offload how,
                         bool listens)
{
    struct sockaddr_ll sa = { .sll_family = AF_PACKET, .sll_protocol = listens ? htons(0x88b5) : 0 };
    int one = 1;

    *o = (struct outside){ .size = size, .how = how, .frames = 1 };
    if (how == NIC_TSO)
        o->frames = (unsigned)((size - NIC_HEADERS + NIC_MSS - 1) / NIC_MSS);
    headers(o->frame, guest_mac, host_mac, size, how, false);
    o->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    sa.sll_ifindex = (int)if_nametoindex(iface);
    return o->fd >= 0 && sa.sll_ifindex != 0 &&
           setsockopt(o->fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) == 0 &&
           bind(o->fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
}

/* Sends n frames; returns how many the guest has to see. */
static unsigned outside_send(struct outside *o, unsigned n)
{
    struct virtio_net_hdr h = vnet_header(o->how);
    struct iovec iov[2] = { { &h, sizeof(h) }, { o->frame, o->size } };
    struct mmsghdr m[64];

    n = n < 64 ? n : 64;
    memset(m, 0, sizeof(m[0]) * n);
    for (unsigned i = 0; i < n; i++)
        m[i].msg_hdr = (struct msghdr){ .msg_iov = iov, .msg_iovlen = 2 };
    int sent = sendmmsg(o->fd, m, n, 0);
    return sent < 0 ? 0 : (unsigned)sent * o->frames;
}

/* Frames that came out of the interface, by its own count. */
static uint64_t interface_frames(const char *iface)
{
    FILE *f = fopen("/proc/thread-self/net/dev", "r");
    char line[512], name[32];
    uint64_t bytes, frames = 0;

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, " %31[^:]: %lu %lu", name, &bytes, &frames) == 3 && !strcmp(name, iface))
            break;
    if (f)
        fclose(f);
    return frames;
}

/* ---- the guest's side ---- */

static bool line_up(const struct nic *n)
{
    return (atomic_load(&fx_sh->intx_level[n->slot]) & 1) != 0;
}

/* Waits for the interrupt, at most ms. */
static bool wait_line(const struct nic *n, unsigned ms)
{
    const struct timespec slice = { 0, 10000000 };
    uint64_t end = fx_now_ns() + ms * 1000000ull;
    bool up;

    atomic_fetch_add(&fx_sh->irq_waiters, 1);
    for (;;) {
        uint32_t seq = atomic_load(&fx_sh->irq_seq);

        up = line_up(n);
        if (up || fx_now_ns() > end)
            break;
        if (n->vcpu->spin)
            continue;
        syscall(SYS_futex, &fx_sh->irq_seq, FUTEX_WAIT, seq, &slice, NULL, 0);
    }
    atomic_fetch_sub(&fx_sh->irq_waiters, 1);
    return up;
}

static void serve(struct nic *n)
{
    n->interrupts++;
    n->driver->interrupt(n);
}

struct job {
    size_t size;
    enum nic_offload how;
    unsigned burst;
    uint64_t ms;
    uint64_t lost;
    uint64_t *ns; /* ping: what each took */
    uint64_t nns;
};

static void send_frames(struct nic *n, struct job *j)
{
    uint64_t end = fx_now_ns() + j->ms * 1000000;

    while (fx_now_ns() < end && n->error[0] == '\0') {
        for (unsigned i = 0; i < j->burst; i++) {
            while (!n->driver->room(n, j->how) && n->error[0] == '\0') {
                if (i != 0) {
                    n->driver->bell(n);
                    j->burst = i;
                    break;
                }
                if (!wait_line(n, STUCK_MS * 10))
                    snprintf(n->error, sizeof(n->error), "the transmitter does not go on");
                serve(n);
            }
            if (i == j->burst)
                break;
            n->driver->put(n, j->size, j->how);
        }
        n->driver->bell(n);
        if (line_up(n))
            serve(n);
    }
    while (n->tx_done < n->tx_put && n->error[0] == '\0') {
        if (!wait_line(n, STUCK_MS * 10))
            snprintf(n->error, sizeof(n->error), "%lu of %lu frames sent", n->tx_done, n->tx_put);
        serve(n);
    }
}

static void receive_frames(struct nic *n, struct job *j, struct outside *o)
{
    uint64_t end = fx_now_ns() + j->ms * 1000000;
    uint64_t sent = 0;

    while (fx_now_ns() < end && n->error[0] == '\0') {
        bool full = sent - n->rx_frames + o->frames * j->burst > n->driver->window &&
                    sent != n->rx_frames;

        if (!full)
            sent += outside_send(o, j->burst);
        if (full && !wait_line(n, STUCK_MS)) {
            j->lost += sent - n->rx_frames;
            sent = n->rx_frames;
        }
        if (line_up(n))
            serve(n);
    }
    while (n->rx_frames < sent && n->error[0] == '\0') {
        if (!wait_line(n, STUCK_MS)) {
            j->lost += sent - n->rx_frames;
            break;
        }
        serve(n);
    }
}

static void ping(struct nic *n, struct job *j, struct outside *o)
{
    uint64_t end = fx_now_ns() + j->ms * 1000000;
    uint8_t answer[2048];

    while (j->nns < PINGS_MAX && fx_now_ns() < end && n->error[0] == '\0') {
        struct pollfd pfd = { o->fd, POLLIN, 0 };
        uint64_t before = n->rx_frames, start = fx_now_ns();

        outside_send(o, 1);
        while (n->rx_frames == before && n->error[0] == '\0') {
            if (!wait_line(n, STUCK_MS))
                break;
            serve(n);
        }
        if (n->rx_frames != before) {
            n->driver->put(n, j->size, NIC_PLAIN);
            n->driver->bell(n);
        }
        if (n->rx_frames == before || poll(&pfd, 1, STUCK_MS) != 1 ||
            recv(o->fd, answer, sizeof(answer), 0) < 0)
            j->lost++;
        else
            j->ns[j->nns++] = fx_now_ns() - start;
        while (n->tx_done < n->tx_put && n->error[0] == '\0') /* not part of it */
            if (!wait_line(n, STUCK_MS))
                break;
            else
                serve(n);
    }
}

/* A card may take its time until it receives. */
static void first_frame(struct nic *n, struct outside *o)
{
    unsigned sent = 0;

    for (unsigned i = 0; i < 60 && n->rx_frames == 0 && n->error[0] == '\0'; i++) {
        sent += outside_send(o, 1);
        if (wait_line(n, 50))
            serve(n);
    }
    if (n->rx_frames == 0 && n->error[0] == '\0')
        snprintf(n->error, sizeof(n->error), "nothing is received");
    while (n->rx_frames < sent && n->error[0] == '\0' && wait_line(n, STUCK_MS))
        serve(n);
    n->rx_frames = n->rx_bytes = n->interrupts = 0;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static bool parse_how(const char *text, enum nic_offload *how)
{
    *how = !strcmp(text, "tso") ? NIC_TSO : !strcmp(text, "csum") ? NIC_CSUM : NIC_PLAIN;
    return *how != NIC_PLAIN || !strcmp(text, "plain");
}

void fx_bench_nic(struct fx_client *c, char **w, int words, FILE *out)
{
    struct nic n = { .vcpu = &c->vcpu };
    struct job j = { 0 };
    static struct outside o; /* one client measures at a time */

    n.driver = words == 10 ? nic_find_driver(w[1]) : NULL;
    if (!n.driver || !parse_how(w[7], &j.how)) {
        fprintf(out, "ERR bench nic: wrong arguments");
        return;
    }
    n.slot = (uint32_t)strtoul(w[2], NULL, 0) & 31;
    n.bar = strtoull(w[3], NULL, 0);
    j.size = strtoul(w[6], NULL, 0);
    j.burst = (unsigned)strtoul(w[8], NULL, 0);
    j.ms = strtoull(w[9], NULL, 0);
    if (j.size < (j.how == NIC_PLAIN ? 60 : NIC_HEADERS + 1) || j.size > FRAME_MAX || !j.burst ||
        !outside_open(&o, w[4], j.size, j.how, w[5][0] == 'p')) {
        fprintf(out, "FAIL size, burst or interface %s: %s", w[4], strerror(errno));
        return;
    }
    j.ns = calloc(PINGS_MAX, sizeof(*j.ns));
    if (!j.ns)
        abort();
    for (unsigned i = 0; i < NIC_TX_BUFS; i++)
        nic_fill(NIC_TX_BUF + i * NIC_TX_STEP, j.size, j.how);
    n.driver->start(&n);
    if (w[5][0] != 't')
        first_frame(&n, &o);
    uint64_t outside = interface_frames(w[4]), cpu = fx_dm_cpu_ns(), start = fx_now_ns();
    if (!strcmp(w[5], "tx"))
        send_frames(&n, &j);
    else if (!strcmp(w[5], "rx"))
        receive_frames(&n, &j, &o);
    else
        ping(&n, &j, &o);
    uint64_t ns = fx_now_ns() - start;
    cpu = fx_dm_cpu_ns() - cpu;
    close(o.fd);
    qsort(j.ns, j.nns, sizeof(j.ns[0]), compare);
    if (n.error[0] != '\0')
        fprintf(out, "FAIL %s", n.error);
    else
        fprintf(out, "OK frames=%lu bytes=%lu ns=%lu cpu=%lu irqs=%lu lost=%lu outside=%lu med=%lu p99=%lu",
                w[5][0] == 't' ? n.tx_done : n.rx_frames,
                w[5][0] == 't' ? n.tx_done * j.size : n.rx_bytes, ns, cpu, n.interrupts, j.lost,
                interface_frames(w[4]) - outside, j.nns ? j.ns[j.nns / 2] : 0,
                j.nns ? j.ns[j.nns * 99 / 100] : 0);
    free(j.ns);
}

/* ---- without a card ---- */

static uint64_t thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int open_tap(const char *iface)
{
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), s = socket(AF_INET, SOCK_DGRAM, 0);

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", iface);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) != 0 ||
        ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) != 0 || ioctl(s, SIOCGIFFLAGS, &ifr) != 0) {
        close(s);
        close(fd);
        return -1;
    }
    ifr.ifr_flags |= IFF_UP;
    if (ioctl(s, SIOCSIFFLAGS, &ifr) != 0) {
        close(fd);
        fd = -1;
    }
    close(s);
    return fd;
}

void fx_bench_tap(char **w, int words, FILE *out)
{
    static struct outside o;
    static uint8_t in[FRAME_MAX + 64];
    enum nic_offload how;
    uint64_t frames = 0, bytes = 0, ns = 0, cpu = 0;

    if (words != 6 || !parse_how(w[4], &how)) {
        fprintf(out, "ERR bench tap: wrong arguments");
        return;
    }
    int fd = open_tap(w[1]);
    size_t size = strtoul(w[3], NULL, 0);
    uint64_t end = fx_now_ns() + strtoull(w[5], NULL, 0) * 1000000;
    struct virtio_net_hdr h = vnet_header(how);
    if (fd < 0 || size > FRAME_MAX || !outside_open(&o, w[1], size, how, false)) {
        fprintf(out, "FAIL %s: %s", w[1], strerror(errno));
        return;
    }
    headers(in, host_mac, guest_mac, size, how, false);
    while (fx_now_ns() < end) {
        struct iovec iov[2] = { { &h, sizeof(h) }, { in, sizeof(in) } };

        if (w[2][0] == 'r')
            outside_send(&o, 32);
        else
            iov[1].iov_len = size;
        uint64_t t0 = fx_now_ns(), c0 = thread_ns();
        for (int i = 0; i < 32; i++) {
            ssize_t got = w[2][0] == 'r' ? readv(fd, iov, 2) : writev(fd, iov, 2);

            if (got <= 0)
                break;
            frames += w[2][0] == 'r' ? o.frames : 1;
            bytes += (uint64_t)got - sizeof(h);
        }
        ns += fx_now_ns() - t0;
        cpu += thread_ns() - c0;
    }
    close(o.fd);
    close(fd);
    fprintf(out, "OK frames=%lu bytes=%lu ns=%lu cpu=%lu irqs=0 lost=0 outside=0 med=0 p99=0", frames,
            bytes, ns, cpu);
}
