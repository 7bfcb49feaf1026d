/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A network link between one network card and one host back end (a tap interface). Ethernet frames
 * without FCS; offloads travel as
 * struct net_offload (virtio's vnet header in other words), so that checksums and segmentation pass
 * between guest and host without work. Loop thread only; nothing here blocks.
 *
 * To the guest: the back end calls the card's receive() with one frame after the other as long as
 * it takes them. A card without room returns false; the frame is kept by the back end (that one and
 * the few that were read with it, the rest stays in the host's queue: back-pressure), which stops
 * reading until the card calls net_receive_ready(). No frame is dropped because a ring is full, and
 * nobody spins. A card whose receiver is switched off takes frames and forgets them, as the chip
 * does: otherwise a driver would start with minutes of stale traffic. receive() is never called
 * from within net_send() or net_receive_ready(). Segments that the host left together are cut here,
 * and checksums that it left out are filled in here: one read brings many frames, and cards see
 * plain frames only.
 *
 * From the guest: net_send() either takes a frame or says -EAGAIN; then sent_ready() is called when
 * the link has room again and the card goes on with its ring. While the host interface is gone or
 * down frames are dropped as on a cable without a peer. Checksums and segmentation may always be
 * left to net_send(): the host does them, or net/ does where the host cannot.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct loop;
struct net;

enum {
    NET_IOV_MAX = 64,
    NET_BATCH = 32,       /* frames that one call sends */
    NET_FRAME_MAX = 65550 /* largest TSO frame: 64 KiB and an Ethernet header with a VLAN tag */
};

/* Smaller segments are not made: they would let 64 KiB become a flood. */
enum { NET_GSO_MIN = 32 };

enum net_gso { NET_GSO_NONE, NET_GSO_TCPV4, NET_GSO_TCPV6, NET_GSO_UDP };

/* What is still to be done to a frame, or has been vouched for. All zero: an ordinary frame.
 * Sending: values may come from the guest as they are; what does not fit is left undone. */
struct net_offload {
    /* Send only: the checksum from csum_start to the end goes to csum_start + csum_offset, which
     * holds the pseudo header's, with the length of the whole frame (net_pseudo_header() puts it
     * there). */
    bool csum_needed;
    bool csum_valid;      /* receive only: TCP or UDP checksum known to be right */
    uint16_t csum_start;  /* bytes from the frame's start */
    uint16_t csum_offset; /* bytes from csum_start */
    /* Send only, with csum_needed: the frame is to be cut into segments; UDP: into datagrams. */
    enum net_gso gso;
    uint16_t gso_size;   /* payload bytes per segment */
    uint16_t header_len; /* Ethernet + IP + TCP header bytes */
};

/* want of net_attach(): csum: off->csum_valid is of use to the card. *got: what net_send() takes:
 * everything. */
struct net_caps {
    bool csum;
    bool tso4, tso6;
};

struct net_client {
    /* A frame of len bytes (14..NET_FRAME_MAX, mostly 1514; shorter than 60 is not padded) from the
     * host. False: no room now, offer it again after net_receive_ready(). The data is valid during
     * the call. off is never NULL. */
    bool (*receive)(void *nic, const uint8_t *frame, size_t len, const struct net_offload *off);
    /* net_send() takes frames again. */
    void (*sent_ready)(void *nic);
    /* The host interface went (down, deleted) or came. May be NULL. */
    void (*link_changed)(void *nic, bool up);
};

struct net_config {
    const char *id; /* "net0" */
    /* Tap interface to create or attach to, at most 15 characters; or NULL with tap_fd. */
    const char *ifname;
    int tap_fd;            /* an open tap, taken over on success; or -1 */
    const char *dump_path; /* pcap file for both directions, or NULL */
};

/* Opens the back end: after this the interface exists under its name. NULL and a one-line reason in
 * err that names the interface. */
struct net *net_open(struct loop *loop, const struct net_config *cfg, char *err, size_t errlen);
/* Closes it (the interface goes away if it was made here). NULL is fine. */
void net_close(struct net *n);

/* Connects a card (borrowed). want: what it would like; *got: what the host offers of that. Frames
 * flow from now on, once net_receive_ready() was called. */
void net_attach(struct net *n, const struct net_client *client, void *nic,
                const struct net_caps *want, struct net_caps *got);
/* Unplug: no callbacks any more; the interface stays until net_close(). */
void net_detach(struct net *n);
/* Unplug for good: detaches the card and closes the interface. n stays valid until net_close(), as
 * a cable that leads nowhere. */
void net_shut(struct net *n);
/* The guest was stopped (nothing is received, net_send() says -EAGAIN) or goes on (sent_ready() is
 * called). Running at first. */
void net_set_running(struct net *n, bool running);

/* Sends one frame gathered from iov (1..NET_IOV_MAX entries, total 14..NET_FRAME_MAX). off may be
 * NULL. 0 taken (or dropped, the link being down); -EAGAIN: no room, wait for sent_ready();
 * -EMSGSIZE: not a frame, ignored. */
int net_send(struct net *n, const struct iovec *iov, int iovcnt, const struct net_offload *off);
/* One frame of net_send_many(). */
struct net_frame {
    const struct iovec *iov;
    int iovcnt;
    struct net_offload off;
};
/* Sends up to NET_BATCH frames, in their order, for less than net_send() one by one would cost. How
 * many were taken (or dropped, or were no frames); fewer than n: wait for sent_ready(). */
unsigned net_send_many(struct net *n, const struct net_frame *frames, unsigned count);
/* The card has room for frames (again). Cheap when already known. */
void net_receive_ready(struct net *n);
bool net_link_up(const struct net *n);

struct net_stats {
    uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes, tx_dropped;
};
const struct net_stats *net_get_stats(const struct net *n);

/* ---- for cards that work on a frame themselves ---- */

/* The Internet checksum's running sum (RFC 1071) over len bytes at p, starting at an even offset of
 * what is summed; fold with net_csum_fold(). */
uint32_t net_csum_add(uint32_t sum, const uint8_t *p, size_t len);
/* The value for a checksum field (big endian when stored). */
uint16_t net_csum_fold(uint32_t sum);
/* Where the parts of a frame are. */
struct net_headers {
    uint16_t l3, l4,
        /* bytes from the frame's start; 0: there is no such part (payload: unless TCP or UDP) */
        payload;
    bool ipv4, ipv6, tcp, udp, fragment;
};
/* Looks at the first len bytes of a frame (VLAN tags and IPv6 extension headers are passed over).
 * False: not an IP packet. */
bool net_parse(const uint8_t *frame, size_t len, struct net_headers *h);
/* Puts the sum of the pseudo header into the TCP or UDP checksum field of a frame whose whole
 * length is frame_len, of which the headers are at frame (with padding behind the IP packet: the
 * length without it). False: not TCP or UDP. */
bool net_pseudo_header(uint8_t *frame, const struct net_headers *h, size_t frame_len);

/* True if the TCP or UDP checksum of a frame is right; end: where its IP packet ends (>= h->l4). */
bool net_csum_ok(const uint8_t *frame, const struct net_headers *h, size_t end);
/* Does what off->csum_needed asks for over frame up to end; something may follow. */
void net_csum_complete(uint8_t *frame, size_t end, const struct net_offload *off);
/* The frame check sequence of Ethernet, as it follows the frame (little endian). */
uint32_t net_fcs(const uint8_t *frame, size_t len);
/* The same CRC without inversion, most significant bit first: the upper bits choose a bit of many
 * multicast filters. */
uint32_t net_crc_msb(const uint8_t *p, size_t len);

/* Cuts a frame with gso into complete frames, or completes the checksum of one without. */
struct net_cutter {
    const uint8_t *frame;
    size_t len;
    struct net_offload off;
    struct net_headers h;
    size_t done, last; /* payload bytes given so far; by the last call */
    unsigned index;
};
/* frame (borrowed, with its headers as net_send() wants them) must stay until the end. */
void net_cut_init(struct net_cutter *c, const uint8_t *frame, size_t len,
                  const struct net_offload *off);
/* Puts the next frame into out (NET_FRAME_MAX bytes). Its length, 0 at the end. */
size_t net_cut_next(struct net_cutter *c, uint8_t *out);
/* The frame that net_cut_next() made last is to be made again by the next call. */
void net_cut_back(struct net_cutter *c);
