/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RTL8139C+: the receiver. Data sheet 6.1, 6.5 (C mode ring), 9.2 (C+ mode descriptors). */
#include <string.h>

#include "core/log.h"
#include "hw/rtl8139_int.h"

enum {
    /* Longest frame of C mode: more would run over what drivers leave behind a ring with WRAP. */
    RX_C_MAX = 1792,
    RX_CPLUS_MAX = 8187, /* 13 bits of length, with the FCS */
    WAIT_MIN_NS = 1000000,
    WAIT_MAX_NS = 64000000,
};
/* Packet header of C mode; the same bits, shifted, in C+ descriptors. */
enum { RX_ROK = 0x0001, RX_BAR = 0x2000, RX_PAM = 0x4000, RX_MAR = 0x8000 };
enum {
    DESC_MAR = 1 << 26,
    DESC_PAM = 1 << 25,
    DESC_BAR = 1 << 24,
    DESC_PID_TCP = 1 << 16,
    DESC_PID_UDP = 2 << 16,
    DESC_PID_IP = 3 << 16,
    DESC_IPF = 1 << 15,
    DESC_UDPF = 1 << 14,
    DESC_TCPF = 1 << 13,
    DESC_TAVA = 1 << 16, /* second word */
    DESC_SIZE = 0x1fff,
};

static uint32_t ring_bytes(const struct rtl8139 *d)
{
    return 8192u << (d->r.rcr >> RTL8139_RCR_RBLEN_SHIFT & 3);
}

/* CAPR runs 16 bytes behind the place where the driver reads. */
static uint32_t read_pos(const struct rtl8139 *d)
{
    return (d->r.capr + 16u) % ring_bytes(d);
}

bool rtl8139_rx_empty(const struct rtl8139 *d)
{
    return read_pos(d) == d->r.cbr % ring_bytes(d);
}

static uint64_t rdsar(const struct rtl8139 *d)
{
    return (uint64_t)d->r.rdsar[1] << 32 | (d->r.rdsar[0] & ~255u);
}

static bool cplus(const struct rtl8139 *d)
{
    return (d->r.cpcr & RTL8139_CPCR_RX) != 0;
}

bool rtl8139_rx_unread(const struct rtl8139 *d)
{
    return (d->r.cr & RTL8139_CR_RE) != 0 && !cplus(d) && !rtl8139_rx_empty(d);
}

/* ---- waiting for room ---- */

static void wait_more(struct rtl8139 *d, uint64_t ns)
{
    d->h.rx_wait_ns = ns < WAIT_MAX_NS ? ns : WAIT_MAX_NS;
    timer_set(&d->h.rx_timer, loop_now(d->h.loop, LOOP_VIRTUAL) + d->h.rx_wait_ns);
}

static bool stall(struct rtl8139 *d)
{
    if (!cplus(d)) {
        /* DEVIATION: ROK again, where the chip would lose the frame and set RXOVW, because a driver
         * that has acknowledged ROK with frames still in the ring (Linux's 8139too at the end of
         * its NAPI budget) waits for the next interrupt, while the host waits for room. */
        rtl8139_raise(d, RTL8139_ISR_ROK);
    } else if (!d->h.rx_stalled) {
        rtl8139_raise(d, RTL8139_ISR_RDU);
        wait_more(d, WAIT_MIN_NS);
    }
    d->h.rx_stalled = true;
    return false;
}

/* A frame that waits is offered again; in C+ mode only when a descriptor is there, so that each
 * offer that fails (and raises RDU) needed one. */
void rtl8139_rx_kick(struct rtl8139 *d)
{
    if (!d->h.rx_stalled || d->h.net == NULL || !d->pd.present) {
        return;
    }
    if ((d->r.cr & RTL8139_CR_RE) != 0 && pci_master(&d->pd) && cplus(d) &&
        (rtl8139_get_desc(d, rdsar(d), d->r.rx_index).dw0 & RTL8139_DESC_OWN) == 0) {
        if (!d->h.rx_timer.armed) {
            wait_more(d, WAIT_MIN_NS);
        }
        return;
    }
    d->h.rx_stalled = false;
    timer_cancel(&d->h.rx_timer);
    net_receive_ready(d->h.net);
}

void rtl8139_rx_timer(void *dev)
{
    struct rtl8139 *d = dev;

    wait_more(d, d->h.rx_wait_ns * 2); /* unless the kick says otherwise */
    if (!d->h.rx_stalled || !d->pd.present) {
        timer_cancel(&d->h.rx_timer);
    }
    rtl8139_rx_kick(d);
}

/* ---- filter ---- */

/* Bits of the packet header that say how the frame was matched, with ROK; 0: not for us. */
static unsigned match(const struct rtl8139 *d, const uint8_t *dst)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    bool all = (d->r.rcr & RTL8139_RCR_AAP) != 0;

    if (memcmp(dst, broadcast, 6) == 0) {
        return all || (d->r.rcr & RTL8139_RCR_AB) != 0 ? RX_ROK | RX_BAR : 0;
    }
    if ((dst[0] & 1) != 0) {
        unsigned bit = net_crc_msb(dst, 6) >> 26;

        all =
            all || ((d->r.rcr & RTL8139_RCR_AM) != 0 && (d->r.mar[bit / 32] >> bit % 32 & 1) != 0);
        return all ? RX_ROK | RX_MAR : 0;
    }
    if (memcmp(dst, d->r.idr, 6) == 0 && (all || (d->r.rcr & RTL8139_RCR_APM) != 0)) {
        return RX_ROK | RX_PAM;
    }
    return all ? RX_ROK : 0;
}

static void missed(struct rtl8139 *d)
{
    d->r.mpc = (d->r.mpc + 1) & 0xffffff;
    d->r.tally.miss_pkt++;
}

/* ---- C mode ---- */

/* Into the ring at pos (wraps unless WRAP says that the driver has room behind the ring). */
static void ring_write(struct rtl8139 *d, uint32_t pos, const void *data, uint32_t len)
{
    uint32_t size = ring_bytes(d);
    bool wraps = (d->r.rcr & RTL8139_RCR_WRAP) == 0 || size == 65536;
    uint32_t first = wraps && pos < size && len > size - pos ? size - pos : len;

    if (wraps && pos >= size) {
        pos -= size;
    }
    guestmem_write(d->h.mem, (uint64_t)d->r.rbstart + pos, data, first);
    if (first < len) {
        guestmem_write(d->h.mem, d->r.rbstart, (const uint8_t *)data + first, len - first);
    }
}

static bool receive_c(struct rtl8139 *d, const uint8_t *frame, uint32_t len, uint32_t fcs,
                      unsigned status)
{
    uint32_t size = ring_bytes(d);
    uint32_t pos = d->r.cbr % size;
    uint32_t used = (4 + len + RTL8139_FCS + 3) & ~3u;
    uint32_t room = (read_pos(d) - pos - 1) % size + 1; /* an empty ring has all of it */
    const uint8_t header[4] = {(uint8_t)status, (uint8_t)(status >> 8),
                               (uint8_t)(len + RTL8139_FCS), (uint8_t)((len + RTL8139_FCS) >> 8)};

    if (used >= room) { /* full to the last byte would look empty */
        return stall(d);
    }
    ring_write(d, pos + 4, frame, len);
    ring_write(d, pos + 4 + len, &fcs, RTL8139_FCS);
    ring_write(d, pos, header, sizeof(header));
    d->r.cbr = (uint16_t)((pos + used) % size);
    return true;
}

/* ---- C+ mode ---- */

/* What the chip says about protocols and checksums. */
static uint32_t check_sums(const uint8_t *frame, size_t len, bool valid)
{
    struct net_headers h;
    uint32_t bits = 0;
    size_t end;

    if (!net_parse(frame, len, &h) || !h.ipv4) {
        return 0;
    }
    if (net_csum_fold(net_csum_add(0, frame + h.l3, (size_t)(h.l4 - h.l3))) != 0) {
        bits |= DESC_IPF;
    }
    if (!h.tcp && !h.udp) {
        return bits | DESC_PID_IP;
    }
    bits |= h.tcp ? DESC_PID_TCP : DESC_PID_UDP;
    end = h.l3 + ((size_t)frame[h.l3 + 2] << 8 | frame[h.l3 + 3]);
    if (valid || (h.udp && frame[h.l4 + 6] == 0 && frame[h.l4 + 7] == 0)) {
        return bits;
    }
    if (end < h.payload || end > len || !net_csum_ok(frame, &h, end)) {
        bits |= h.tcp ? DESC_TCPF : DESC_UDPF;
    }
    return bits;
}

/* Spreads n bytes over the buffers, from *at of buffer *i on. */
static void scatter(struct rtl8139 *d, const struct rtl8139_desc *descs, unsigned *i, uint32_t *at,
                    const uint8_t *data, uint32_t n)
{
    while (n > 0) {
        uint32_t left = (descs[*i].dw0 & DESC_SIZE) - *at;
        uint32_t part = n < left ? n : left;

        guestmem_write(d->h.mem, descs[*i].buf + *at, data, part);
        data += part;
        n -= part;
        *at += part;
        if (part == left) {
            (*i)++;
            *at = 0;
        }
    }
}

static bool receive_cplus(struct rtl8139 *d, const uint8_t *frame, uint32_t len, uint32_t fcs,
                          unsigned status, bool valid)
{
    struct rtl8139_desc descs[RTL8139_RING];
    bool detag = (d->r.cpcr & RTL8139_CPCR_RXVLAN) != 0 && frame[12] == 0x81 && frame[13] == 0x00 &&
                 len >= 18;
    uint32_t total = len - (detag ? 4 : 0) + RTL8139_FCS;
    uint32_t dw0 = 0, dw1 = 0;
    unsigned index = d->r.rx_index, n = 0, i = 0;
    uint32_t room = 0, at = 0;

    while (room < total) {
        if (n == RTL8139_RING || (n > 0 && index == d->r.rx_index)) {
            missed(d); /* longer than all buffers together */
            return true;
        }
        descs[n] = rtl8139_get_desc(d, rdsar(d), index);
        if ((descs[n].dw0 & RTL8139_DESC_OWN) == 0) {
            return stall(d);
        }
        room += descs[n].dw0 & DESC_SIZE;
        index = descs[n++].next;
    }
    if ((d->r.cpcr & RTL8139_CPCR_RXCHKSUM) != 0) {
        dw0 |= check_sums(frame, len, valid);
    }
    dw0 |= (status & RX_MAR ? DESC_MAR : 0u) | (status & RX_PAM ? DESC_PAM : 0u) |
           (status & RX_BAR ? DESC_BAR : 0u) | total;
    if (detag) {
        dw1 = DESC_TAVA | frame[14] | (uint32_t)frame[15] << 8;
        scatter(d, descs, &i, &at, frame, 12);
        scatter(d, descs, &i, &at, frame + 16, len - 16);
    } else {
        scatter(d, descs, &i, &at, frame, len);
    }
    scatter(d, descs, &i, &at, (const uint8_t *)&fcs, RTL8139_FCS);
    for (i = n; i-- > 0;) { /* the first one last: it is what the driver looks at */
        uint32_t out = (descs[i].dw0 & RTL8139_DESC_EOR) |
                       (i == 0 ? (uint32_t)RTL8139_DESC_FS : 0) |
                       (i == n - 1 ? RTL8139_DESC_LS | dw0 : descs[i].dw0 & DESC_SIZE);

        guestmem_write(d->h.mem, descs[i].gpa + 4, &dw1, 4);
        guestmem_write(d->h.mem, descs[i].gpa, &out, 4);
    }
    d->r.rx_index = (uint8_t)index;
    return true;
}

/* ---- both ---- */

static bool receive(struct rtl8139 *d, const uint8_t *frame, size_t len, bool valid)
{
    struct rtl8139_tally *t = &d->r.tally;
    unsigned status;
    uint32_t fcs;
    bool taken;

    if ((d->r.cr & RTL8139_CR_RE) == 0) {
        return true;
    }
    status = match(d, frame);
    if (status == 0) {
        return true;
    }
    if (!pci_master(&d->pd)) {
        missed(d);
        return true;
    }
    if (len > (cplus(d) ? RX_CPLUS_MAX : RX_C_MAX)) {
        t->rx_err++;
        return true;
    }
    if (len < RTL8139_MIN_FRAME) { /* hosts do not pad */
        memset(d->h.pad, 0, sizeof(d->h.pad));
        memcpy(d->h.pad, frame, len);
        frame = d->h.pad;
        len = RTL8139_MIN_FRAME;
    }
    fcs = net_fcs(frame, len);
    taken = cplus(d) ? receive_cplus(d, frame, (uint32_t)len, fcs, status, valid)
                     : receive_c(d, frame, (uint32_t)len, fcs, status);
    if (!taken) {
        return false;
    }
    t->rx_ok++;
    t->rx_ok_brd += (status & RX_BAR) != 0;
    t->rx_ok_mul += (status & RX_MAR) != 0;
    t->rx_ok_phy += (status & RX_PAM) != 0;
    rtl8139_raise(d, RTL8139_ISR_ROK);
    return true;
}

bool rtl8139_receive(void *nic, const uint8_t *frame, size_t len, const struct net_offload *off)
{
    struct rtl8139 *d = nic;

    return rtl8139_loopback(d) || receive(d, frame, len, off->csum_valid);
}

void rtl8139_receive_looped(struct rtl8139 *d, const uint8_t *frame, size_t len)
{
    bool stalled = d->h.rx_stalled;

    if (!receive(d, frame, len, false)) {
        d->h.rx_stalled = stalled;
        if (!stalled) {
            timer_cancel(&d->h.rx_timer);
        }
        missed(d);
        rtl8139_raise(d, RTL8139_ISR_RDU);
    }
}
