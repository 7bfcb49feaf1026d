/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checksums and segmentation in software: RFC 1071 (sums), 791, 8200, 793, 768 (headers). */
#include <string.h>

#include "net/net.h"

enum {
    ETH_HEADER = 14,
    ETH_TYPE = 12,
    VLAN_TAG = 4,
    IPV4_MIN = 20,
    IPV6_HEADER = 40,
    TCP_MIN = 20,
    UDP_HEADER = 8
};
enum { PROTO_TCP = 6, PROTO_UDP = 17 };
enum { TCP_SEQ = 4, TCP_OFFSET = 12, TCP_FLAGS = 13, TCP_CSUM = 16, UDP_LEN = 4, UDP_CSUM = 6 };
enum { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_CWR = 0x80 };
enum { IPV6_EXT_MAX = 8 };

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* Four 64-bit sums of 32-bit words at once; the compiler makes vector instructions of it. */
typedef uint64_t wide4 __attribute__((vector_size(32)));

uint32_t net_csum_add(uint32_t sum, const uint8_t *p, size_t len)
{
    uint64_t wide = 0;
    uint16_t host;

    /* Any word size gives the same sum (RFC 1071 2(C)), in the machine's byte order until the swap
     * at the end (2(B)). */
    if (len >= 2 * sizeof(wide4)) {
        wide4 low = {0}, high = {0};

        for (; len >= sizeof(wide4); p += sizeof(wide4), len -= sizeof(wide4)) {
            wide4 words;

            memcpy(&words, p, sizeof(words));
            low += words & 0xffffffff;
            high += words >> 32;
        }
        low += high;
        wide = low[0] + low[1] + low[2] + low[3];
    }
    for (; len >= 4; p += 4, len -= 4) {
        uint32_t word;

        memcpy(&word, p, 4);
        wide += word;
    }
    if (len > 0) {
        uint32_t word = 0;

        memcpy(&word, p, len);
        wide += word;
    }
    wide = (wide & 0xffffffff) + (wide >> 32);
    wide = (wide & 0xffff) + (wide >> 16);
    wide = (wide & 0xffff) + (wide >> 16);
    wide = (wide & 0xffff) + (wide >> 16);
    host = (uint16_t)wide;
    sum += get16((const uint8_t *)&host);
    return (sum & 0xffff) + (sum >> 16);
}

uint16_t net_csum_fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static bool parse_l4(const uint8_t *frame, size_t len, unsigned proto, struct net_headers *h)
{
    size_t payload;

    if (h->fragment) {
        return true;
    }
    if (proto == PROTO_TCP && h->l4 + (size_t)TCP_MIN <= len) {
        payload = h->l4 + (size_t)(frame[h->l4 + TCP_OFFSET] >> 4) * 4;
        h->tcp = payload >= h->l4 + (size_t)TCP_MIN && payload <= len;
        h->payload = h->tcp ? (uint16_t)payload : 0;
    } else if (proto == PROTO_UDP && h->l4 + (size_t)UDP_HEADER <= len) {
        h->udp = true;
        h->payload = (uint16_t)(h->l4 + UDP_HEADER);
    }
    return true;
}

static bool parse_ipv4(const uint8_t *frame, size_t len, struct net_headers *h)
{
    const uint8_t *ip = frame + h->l3;
    size_t header = (size_t)(ip[0] & 15) * 4;

    if (ip[0] >> 4 != 4 || header < IPV4_MIN || h->l3 + header > len) {
        return false;
    }
    h->ipv4 = true;
    h->l4 = (uint16_t)(h->l3 + header);
    h->fragment = (get16(ip + 6) & 0x3fff) != 0;
    return parse_l4(frame, len, ip[9], h);
}

static bool parse_ipv6(const uint8_t *frame, size_t len, struct net_headers *h)
{
    const uint8_t *ip = frame + h->l3;
    size_t at = h->l3 + (size_t)IPV6_HEADER;
    unsigned next;

    if (at > len || ip[0] >> 4 != 6) {
        return false;
    }
    next = ip[6];
    for (unsigned i = 0; i < IPV6_EXT_MAX && at + 8 <= len; i++) {
        if (next == 0 || next == 43 || next == 60) { /* hop-by-hop, routing, destination options */
            next = frame[at];
            at += ((size_t)frame[at + 1] + 1) * 8;
        } else if (next == 44) {
            h->fragment = true;
            break;
        } else {
            break;
        }
    }
    if (at > len) {
        return false;
    }
    h->ipv6 = true;
    h->l4 = (uint16_t)at;
    return parse_l4(frame, len, next, h);
}

bool net_parse(const uint8_t *frame, size_t len, struct net_headers *h)
{
    size_t type = ETH_TYPE;

    *h = (struct net_headers){0};
    len = len > NET_FRAME_MAX - 64 ? NET_FRAME_MAX - 64
                                   : len; /* headers this long do not exist; offsets stay 16 bits */
    for (unsigned tags = 0; tags < 2 && type + 2 <= len; tags++) {
        if (get16(frame + type) != 0x8100 && get16(frame + type) != 0x88a8) {
            break;
        }
        type += VLAN_TAG;
    }
    h->l3 = (uint16_t)(type + 2);
    if (h->l3 + (size_t)IPV4_MIN > len) {
        return false;
    }
    switch (get16(frame + type)) {
    case 0x0800:
        return parse_ipv4(frame, len, h);
    case 0x86dd:
        return parse_ipv6(frame, len, h);
    default:
        return false;
    }
}

static uint8_t *csum_field(uint8_t *frame, const struct net_headers *h)
{
    return frame + h->l4 + (h->tcp ? TCP_CSUM : UDP_CSUM);
}

/* The pseudo header's sum for l4_len bytes of TCP or UDP. */
static uint32_t pseudo_sum(const uint8_t *frame, const struct net_headers *h, size_t l4_len)
{
    const uint8_t *ip = frame + h->l3;
    uint32_t sum = h->ipv4 ? net_csum_add(0, ip + 12, 8) : net_csum_add(0, ip + 8, 32);

    return sum + (h->tcp ? PROTO_TCP : PROTO_UDP) + (uint32_t)(l4_len >> 16) +
           (uint32_t)(l4_len & 0xffff);
}

bool net_pseudo_header(uint8_t *frame, const struct net_headers *h, size_t frame_len)
{
    if ((!h->tcp && !h->udp) || frame_len < h->l4) {
        return false;
    }
    put16(csum_field(frame, h), (uint16_t)~net_csum_fold(pseudo_sum(frame, h, frame_len - h->l4)));
    return true;
}

bool net_csum_ok(const uint8_t *frame, const struct net_headers *h, size_t end)
{
    return net_csum_fold(
               net_csum_add(pseudo_sum(frame, h, end - h->l4), frame + h->l4, end - h->l4)) == 0;
}

void net_csum_complete(uint8_t *frame, size_t end, const struct net_offload *off)
{
    size_t field = (size_t)off->csum_start + off->csum_offset;
    uint16_t sum;

    if (field + 2 <= end) {
        sum = net_csum_fold(net_csum_add(0, frame + off->csum_start, end - off->csum_start));
        put16(frame + field,
              sum != 0 ? sum
                       : 0xffff); /* 0 would say "none" for UDP; for TCP both are the same number */
    }
}

/* ---- cutting ---- */

void net_cut_init(struct net_cutter *c, const uint8_t *frame, size_t len,
                  const struct net_offload *off)
{
    *c = (struct net_cutter){.frame = frame, .len = len, .off = *off};
    if (off->gso != NET_GSO_NONE) {
        bool ok = net_parse(frame, len, &c->h) && off->gso_size >= NET_GSO_MIN &&
                  c->h.payload != 0 && c->h.payload < len;

        ok = ok && (off->gso == NET_GSO_TCPV4   ? c->h.ipv4 && c->h.tcp
                    : off->gso == NET_GSO_TCPV6 ? c->h.ipv6 && c->h.tcp
                                                : c->h.udp);
        c->off.gso = ok ? off->gso : NET_GSO_NONE;
    }
}

/* A frame that stays whole, with its checksum. */
static size_t cut_whole(struct net_cutter *c, uint8_t *out)
{
    memcpy(out, c->frame, c->len);
    if (c->off.csum_needed) {
        net_csum_complete(out, c->len, &c->off);
    }
    c->last = c->len;
    return c->len;
}

static void fix_segment(const struct net_cutter *c, uint8_t *out, size_t n, bool final)
{
    const struct net_headers *h = &c->h;
    uint8_t *ip = out + h->l3;
    uint8_t *l4 = out + h->l4;
    size_t end = h->payload + n;
    uint16_t sum;

    if (h->ipv4) {
        put16(ip + 2, end - h->l3);
        put16(ip + 4, get16(ip + 4) + c->index);
        put16(ip + 10, 0);
        put16(ip + 10, net_csum_fold(net_csum_add(0, ip, (size_t)(h->l4 - h->l3))));
    } else {
        put16(ip + 4, end - h->l3 - IPV6_HEADER);
    }
    if (h->tcp) {
        uint32_t seq =
            ((uint32_t)get16(l4 + TCP_SEQ) << 16 | get16(l4 + TCP_SEQ + 2)) + (uint32_t)c->done;

        put16(l4 + TCP_SEQ, seq >> 16);
        put16(l4 + TCP_SEQ + 2, seq);
        l4[TCP_FLAGS] &=
            (uint8_t) ~((final ? 0 : TCP_FIN | TCP_PSH) | (c->index != 0 ? TCP_CWR : 0));
    } else {
        put16(l4 + UDP_LEN, end - h->l4);
    }
    put16(csum_field(out, h), 0);
    sum = net_csum_fold(net_csum_add(pseudo_sum(out, h, end - h->l4), l4, end - h->l4));
    put16(csum_field(out, h), sum != 0 ? sum : 0xffff);
}

size_t net_cut_next(struct net_cutter *c, uint8_t *out)
{
    size_t left;
    size_t n;

    if (c->off.gso == NET_GSO_NONE) {
        if (c->done != 0) {
            return 0;
        }
        c->done = cut_whole(c, out);
        return c->len;
    }
    left = c->len - c->h.payload - c->done;
    if (left == 0) {
        return 0;
    }
    n = left < c->off.gso_size ? left : c->off.gso_size;
    memcpy(out, c->frame, c->h.payload);
    memcpy(out + c->h.payload, c->frame + c->h.payload + c->done, n);
    fix_segment(c, out, n, n == left);
    c->done += n;
    c->last = n;
    c->index++;
    return c->h.payload + n;
}

void net_cut_back(struct net_cutter *c)
{
    c->done -= c->last;
    c->last = 0;
    c->index -= c->index != 0;
}
