/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 82540EM receiver: SDM 3.2 (filters, descriptors, ring, checksums), 9 (VLAN), 13.5. */
#include <stdatomic.h>
#include <string.h>

#include "core/log.h"
#include "hw/e1000_int.h"

/* Descriptor status and errors, SDM 3.2.3. */
enum {
    RXD_DD = 0x01,
    RXD_EOP = 0x02,
    RXD_IXSM = 0x04,
    RXD_VP = 0x08,
    RXD_TCPCS = 0x20,
    RXD_IPCS = 0x40,
    RXD_PIF = 0x80,
    RXD_TCPE = 0x20, /* errors */
    RXD_IPE = 0x40,
};
enum {
    RX_LONG_BYTES = 1522, /* with FCS; more is a long packet (RCTL.LPE) */
    RX_LIMIT_BYTES = 16384,
    TYPE_FLOW_CONTROL = 0x8808,
};

/* A frame on its way to memory: its bytes in up to two pieces, then the FCS. */
struct rx_frame {
    const uint8_t *piece[3];
    size_t left[3];
    unsigned at;
    uint8_t status, errors; /* of the last descriptor */
    uint16_t csum, special;
};

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

bool e1000_rx_enabled(const struct e1000 *e)
{
    return (e1000_get(e, E1000_RCTL) & RCTL_EN) != 0 && pci_master(&e->pd) && e->pd.present &&
           (e->r.link_up || e1000_loopback(e));
}

/* ---- filters, SDM 3.2.1 ---- */

static bool exact_match(const struct e1000 *e, const uint8_t *dst)
{
    uint32_t low =
        (uint32_t)dst[0] | (uint32_t)dst[1] << 8 | (uint32_t)dst[2] << 16 | (uint32_t)dst[3] << 24;
    uint32_t high = (uint32_t)dst[4] | (uint32_t)dst[5] << 8 |
                    RAH_AV; /* AS = 0: compare with the destination */

    for (uint32_t i = 0; i < 16; i++) {
        if (e1000_get(e, E1000_RAL + 8 * i) == low && e1000_get(e, E1000_RAH + 8 * i) == high) {
            return true;
        }
    }
    return false;
}

static bool hash_match(const struct e1000 *e, const uint8_t *dst)
{
    static const uint8_t shift[4] = {
        4, 3, 2, 0}; /* RCTL.MO: bits 47:36, 46:35, 45:34 or 43:32 of the address */
    unsigned s = shift[e1000_get(e, E1000_RCTL) >> RCTL_MO_SHIFT & 3];
    unsigned bit = ((unsigned)dst[4] | (unsigned)dst[5] << 8) >> s & 0xfff;

    return (e1000_get(e, E1000_MTA + bit / 32 * 4) >> bit % 32 & 1) != 0;
}

/* True if the frame is for us; *inexact: by a filter that software has to look behind (RXD_PIF). */
static bool wanted(const struct e1000 *e, const uint8_t *frame, size_t len, bool *inexact)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint32_t rctl = e1000_get(e, E1000_RCTL);

    *inexact = false;
    if (get16(frame + 12) == e1000_get(e, E1000_VET) && (rctl & RCTL_VFE) != 0) {
        unsigned tci = len >= 16 ? get16(frame + 14) : 0;
        unsigned vid = tci & 0xfff;

        if ((e1000_get(e, E1000_VFTA + vid / 32 * 4) >> vid % 32 & 1) == 0 ||
            ((rctl & RCTL_CFIEN) != 0 && (tci >> 12 & 1) != ((rctl & RCTL_CFI) != 0))) {
            return false;
        }
    }
    if ((rctl & RCTL_DPF) != 0 && get16(frame + 12) == TYPE_FLOW_CONTROL) {
        return false;
    }
    if (exact_match(e, frame)) {
        return true;
    }
    if (memcmp(frame, broadcast, 6) == 0) {
        return (rctl & (RCTL_BAM | RCTL_MPE)) != 0;
    }
    *inexact = true;
    if ((frame[0] & 1) != 0) {
        return (rctl & RCTL_MPE) != 0 || hash_match(e, frame);
    }
    return (rctl & RCTL_UPE) != 0;
}

/* ---- checksums, SDM 3.2.9 ---- */

static bool sums_to_zero(uint32_t sum)
{
    return net_csum_fold(sum) == 0;
}

/* The sum of a packet from `start` on, given that of [from, end) of it: a second look at the data
 * costs as much as copying it. */
static uint16_t packet_sum(const uint8_t *frame, size_t len, size_t start, size_t from, size_t end,
                           uint32_t sum)
{
    if (start >= len) {
        return 0;
    }
    if (start > from || (from - start) % 2 != 0 || (end != len && (end - start) % 2 != 0)) {
        return net_csum_fold(net_csum_add(0, frame + start, len - start));
    }
    sum = net_csum_add(sum, frame + start, from - start);
    return net_csum_fold(net_csum_add(sum, frame + end, len - end));
}

/* TCP or UDP over the part of the packet that IP says there is, and the packet checksum. */
static void verify_l4(const uint8_t *frame, size_t len, const struct net_headers *h,
                      bool csum_valid, unsigned start, struct rx_frame *f)
{
    const uint8_t *ip = frame + h->l3;
    size_t end = h->l3 + (h->ipv4 ? get16(ip + 2) : 40u + get16(ip + 4));
    uint8_t last[4] = {0, h->tcp ? 6 : 17};
    uint32_t pseudo, sum;

    f->status |= RXD_TCPCS;
    if (end > len || end < h->l4) {
        f->errors |= RXD_TCPE;
        f->csum = packet_sum(frame, len, start, len, len, 0);
        return;
    }
    last[2] = (uint8_t)((end - h->l4) >> 8);
    last[3] = (uint8_t)(end - h->l4);
    pseudo = h->ipv4 ? net_csum_add(0, ip + 12, 8) : net_csum_add(0, ip + 8, 32);
    pseudo = net_csum_add(pseudo, last, sizeof(last));
    /* A checksum that is right makes the sum known. */
    sum = csum_valid ? net_csum_fold(pseudo) : net_csum_add(0, frame + h->l4, end - h->l4);
    if (!csum_valid && !sums_to_zero(pseudo + sum)) {
        f->errors |= RXD_TCPE;
    }
    f->csum = packet_sum(frame, len, start, h->l4, end, sum);
}

static void verify(const struct e1000 *e, const uint8_t *frame, size_t len, bool csum_valid,
                   struct rx_frame *f)
{
    uint32_t rxcsum = e1000_get(e, E1000_RXCSUM);
    unsigned start = rxcsum & RXCSUM_PCSS;
    struct net_headers h = {0};

    if ((rxcsum & (RXCSUM_IPOFLD | RXCSUM_TUOFLD)) == 0 || !net_parse(frame, len, &h)) {
        f->status |= RXD_IXSM;
    } else if ((rxcsum & RXCSUM_IPOFLD) != 0 && h.ipv4) {
        size_t ihl = (frame[h.l3] & 15u) * 4;

        f->status |= RXD_IPCS;
        if (ihl < 20 || h.l3 + ihl > len || !sums_to_zero(net_csum_add(0, frame + h.l3, ihl))) {
            f->errors |= RXD_IPE;
        }
    }
    if ((rxcsum & RXCSUM_TUOFLD) != 0 && (h.tcp || h.udp) && !h.fragment &&
        !(h.udp && get16(frame + h.l4 + 6) == 0)) {
        verify_l4(frame, len, &h, csum_valid, start, f);
    } else {
        f->csum = packet_sum(frame, len, start, len, len, 0);
    }
}

/* ---- descriptors ---- */

static uint32_t buffer_bytes(uint32_t rctl)
{
    uint32_t size = 2048u >> (rctl >> RCTL_BSIZE_SHIFT & 3);

    /* BSEX with 2048 is reserved. */
    return (rctl & RCTL_BSEX) != 0 && size != 2048 ? size * 16 : size;
}

/* Moves the next `room` bytes of the frame to gpa, nowhere if that is 0. Returns how many there
 * were. */
static size_t fill(struct e1000 *e, struct rx_frame *f, uint64_t gpa, size_t room)
{
    size_t done = 0;

    while (f->at < 3 && done < room) {
        size_t n = f->left[f->at] < room - done ? f->left[f->at] : room - done;

        if (n != 0 && gpa != 0) {
            guestmem_write(e1000_mem(e), gpa + done, f->piece[f->at], n);
        }
        f->piece[f->at] += n;
        f->left[f->at] -= n;
        done += n;
        if (f->left[f->at] == 0) {
            f->at++;
        }
    }
    return done;
}

/* Writes a descriptor back. In one store where there is memory: drivers look at DD while the rest
 * arrives. */
static void write_back(struct e1000 *e, uint64_t gpa, uint64_t value)
{
    size_t got;
    void *p = guestmem_span(e1000_mem(e), gpa, sizeof(value), &got);

    if (p != NULL && got == sizeof(value) && ((uintptr_t)p & 7) == 0) {
        atomic_store_explicit((_Atomic uint64_t *)p, value, memory_order_release);
        guestmem_dirtied(e1000_mem(e), gpa, sizeof(value));
    } else {
        guestmem_write(e1000_mem(e), gpa, &value, sizeof(value));
    }
}

static void store(struct e1000 *e, struct rx_frame *f, size_t total, uint32_t n)
{
    uint64_t base = (uint64_t)e1000_get(e, E1000_RDBAH) << 32 | e1000_get(e, E1000_RDBAL);
    uint32_t size = buffer_bytes(e1000_get(e, E1000_RCTL));
    uint32_t head = e1000_get(e, E1000_RDH);

    while (total > 0) {
        uint64_t gpa = base + (uint64_t)head * E1000_DESC_BYTES;
        uint8_t status = (uint8_t)(f->status | RXD_DD);
        uint64_t addr;
        size_t len;

        guestmem_read(e1000_mem(e), gpa, &addr, sizeof(addr));
        len = fill(e, f, addr, size);
        total -= len;
        status |= total == 0 ? RXD_EOP : 0;
        write_back(e, gpa + 8,
                   (uint64_t)len | (uint64_t)f->csum << 16 | (uint64_t)status << 32 |
                       (uint64_t)(total == 0 ? f->errors : 0) << 40 | (uint64_t)f->special << 48);
        head = (head + 1) % n;
    }
    *e1000_mac(e, E1000_RDH) = head;
}

static void count(struct e1000 *e, const uint8_t *frame, size_t bytes, bool long_frame)
{
    e1000_stat(e, STAT_GPRC, 1);
    e1000_stat64(e, STAT_GORC, bytes);
    e1000_stat_size(e, STAT_PRC64, bytes, 1);
    if ((frame[0] & frame[1] & frame[2] & frame[3] & frame[4] & frame[5]) == 0xff) {
        e1000_stat(e, STAT_BPRC, 1);
    } else if ((frame[0] & 1) != 0) {
        e1000_stat(e, STAT_MPRC, 1);
    }
    if (long_frame) {
        e1000_stat(e, STAT_ROC, 1);
    }
}

/* Interrupt causes of a frame that leaves `free` of n descriptors; reported by e1000_rx_report()
 * after the batch. */
static void note(struct e1000 *e, size_t bytes, uint32_t avail, uint32_t free, uint32_t n)
{
    uint32_t low = n >> (1 + (e1000_get(e, E1000_RCTL) >> RCTL_RDMTS_SHIFT & 3));

    e->h.rx_causes |= ICR_RXT0;
    if (avail > low && free <= low) {
        e->h.rx_causes |= ICR_RXDMT0;
    }
    if (bytes <= e1000_get(e, E1000_RSRPD)) {
        e->h.rx_causes |= ICR_SRPD;
    }
    bottom_half_schedule(&e->h.rx_bh);
}

static bool lost(struct e1000 *e)
{
    e1000_stat(e, STAT_MPC, 1);
    e->h.rx_causes |= ICR_RXO;
    bottom_half_schedule(&e->h.rx_bh);
    return true;
}

bool e1000_rx_frame(struct e1000 *e, const uint8_t *frame, size_t len, bool csum_valid)
{
    uint32_t rctl = e1000_get(e, E1000_RCTL);
    uint32_t n = e1000_get(e, E1000_RDLEN) / E1000_DESC_BYTES;
    uint32_t head = e1000_get(e, E1000_RDH);
    uint32_t tail = e1000_get(e, E1000_RDT);
    size_t fcs = (rctl & RCTL_SECRC) != 0 ? 0 : E1000_FCS_BYTES;
    uint8_t padded[E1000_MIN_FRAME];
    /* DEVIATION: the FCS that goes to memory is 0, because the host has checked the real one and
     * drivers cut it off. */
    static const uint8_t no_fcs[E1000_FCS_BYTES];
    struct rx_frame f = {0};
    uint32_t avail, need;
    size_t total, bytes;
    bool inexact;

    if (!e1000_rx_enabled(e) || len < 14) {
        return true;
    }
    if (len < E1000_MIN_FRAME) { /* as on a wire */
        memcpy(padded, frame, len);
        memset(padded + len, 0, sizeof(padded) - len);
        frame = padded;
        len = sizeof(padded);
    }
    bytes = len + E1000_FCS_BYTES;
    if (!wanted(e, frame, len, &inexact)) {
        e1000_stat(e, STAT_TPR, 1);
        e1000_stat64(e, STAT_TOR, bytes);
        return true;
    }
    if (bytes > RX_LIMIT_BYTES || (bytes > RX_LONG_BYTES && (rctl & (RCTL_LPE | RCTL_SBP)) == 0)) {
        e1000_stat(e, STAT_ROC, 1);
        return true;
    }
    f.piece[0] = f.piece[1] = frame;
    f.left[0] = len;
    f.piece[2] = no_fcs;
    f.left[2] = fcs;
    total = len + fcs;
    if ((e1000_get(e, E1000_CTRL) & CTRL_VME) != 0 &&
        get16(frame + 12) == e1000_get(e, E1000_VET)) {
        f.status = RXD_VP;
        f.special = get16(frame + 14);
        f.left[0] = 12;
        f.piece[1] = frame + 12 + E1000_TAG_BYTES;
        f.left[1] = len - 12 - E1000_TAG_BYTES;
        total -= E1000_TAG_BYTES;
    }
    need = (uint32_t)((total - 1) / buffer_bytes(rctl) + 1);
    avail = head < n && tail < n ? (tail + n - head) % n : 0;
    if (need > avail) {
        e1000_stat(e, STAT_RNBC, 1);
        return n != 0 && head < n && tail < n && need >= n ? lost(e) : false;
    }
    f.status |= inexact ? RXD_PIF : 0;
    verify(e, frame, len, csum_valid, &f);
    store(e, &f, total, n);
    e1000_stat(e, STAT_TPR, 1);
    e1000_stat64(e, STAT_TOR, bytes);
    count(e, frame, bytes, bytes > RX_LONG_BYTES && (rctl & RCTL_LPE) == 0);
    note(e, bytes, avail, avail - need, n);
    return true;
}

void e1000_rx_report(void *arg)
{
    struct e1000 *e = arg;
    uint32_t causes = e->h.rx_causes;
    uint32_t rdtr = e1000_get(e, E1000_RDTR);

    e->h.rx_causes = 0;
    if ((causes & (ICR_RXT0 | ICR_SRPD)) == ICR_RXT0 && rdtr != 0) {
        e1000_cause_delayed(e, false, rdtr, e1000_get(e, E1000_RADV));
        causes &= ~(uint32_t)ICR_RXT0;
    }
    if (causes != 0) {
        e1000_cause(e, causes);
    }
}
