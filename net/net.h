/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A network link between one network card and one host back end (a tap interface). Ethernet frames without FCS; offloads travel as
 * struct net_offload (virtio's vnet header in other words), so that checksums and segmentation pass between guest and host without work.
 * Loop thread only; nothing here blocks.
 *
 * To the guest: the back end calls the card's receive() with one frame after the other as long as it takes them. A card without room
 * returns false; the frame is kept by the back end (one frame at most, the rest stays in the host's queue: back-pressure), which stops
 * reading until the card calls net_receive_ready(). No frame is dropped because a ring is full, and nobody spins.
 *
 * From the guest: net_send() either takes a frame or says -EAGAIN; then sent_ready() is called when the link has room again and the card goes on
 * with its ring. While the host interface is gone or down frames are dropped as on a cable without a peer.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct loop;
struct net;

enum { NET_IOV_MAX = 64, NET_FRAME_MAX = 65550 /* largest TSO frame: 64 KiB and an Ethernet header with a VLAN tag */ };

enum net_gso { NET_GSO_NONE, NET_GSO_TCPV4, NET_GSO_TCPV6, NET_GSO_UDP };

/* What is still to be done to a frame, or has been vouched for. All zero: an ordinary frame. */
struct net_offload {
    bool csum_needed;     /* the checksum from csum_start to the end goes to csum_start + csum_offset, which holds the pseudo header's */
    bool csum_valid;      /* receive only: the host has verified the checksum */
    uint16_t csum_start;  /* bytes from the frame's start */
    uint16_t csum_offset; /* bytes from csum_start */
    enum net_gso gso;     /* the frame is to be cut into segments */
    uint16_t gso_size;    /* payload bytes per segment */
    uint16_t header_len;  /* Ethernet + IP + TCP header bytes */
};

/* What a card can do with frames for the guest and wants done with its own. */
struct net_caps {
    bool csum; /* send: csum_needed is accepted; receive: frames with csum_needed/csum_valid may be given */
    bool tso4, tso6;
};

struct net_client {
    /* A frame of len bytes (14..NET_FRAME_MAX; with the caps agreed on) from the host. False: no room now, offer it again after
     * net_receive_ready(). The data is valid during the call. */
    bool (*receive)(void *nic, const uint8_t *frame, size_t len, const struct net_offload *off);
    /* net_send() takes frames again. */
    void (*sent_ready)(void *nic);
    /* The host interface went (down, deleted) or came. May be NULL. */
    void (*link_changed)(void *nic, bool up);
};

struct net_config {
    const char *id;     /* "net0" */
    const char *ifname; /* tap interface to create or attach to, at most 15 characters; or NULL with tap_fd */
    int tap_fd;         /* an open tap, taken over on success; or -1 */
    const char *dump_path; /* pcap file for both directions, or NULL */
};

/* Opens the back end: after this the interface exists under its name. NULL and a one-line reason in err that names the interface. */
struct net *net_open(struct loop *loop, const struct net_config *cfg, char *err, size_t errlen);
/* Closes it (the interface goes away if it was made here). NULL is fine. */
void net_close(struct net *n);

/* Connects a card (borrowed). want: what it would like; *got: what the host offers of that. Frames flow from now on, once net_receive_ready() was called. */
void net_attach(struct net *n, const struct net_client *client, void *nic, const struct net_caps *want,
                struct net_caps *got);
/* Unplug: no callbacks any more; the interface stays until net_close(). */
void net_detach(struct net *n);

/* Sends one frame gathered from iov (1..NET_IOV_MAX entries, total 14..NET_FRAME_MAX). off may be NULL. 0 taken (or dropped, the link being down);
 * -EAGAIN: no room, wait for sent_ready(); -EMSGSIZE: not a frame, ignored. */
int net_send(struct net *n, const struct iovec *iov, int iovcnt, const struct net_offload *off);
/* The card has room for frames (again). Cheap when already known. */
void net_receive_ready(struct net *n);
bool net_link_up(const struct net *n);

struct net_stats {
    uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes, tx_dropped;
};
const struct net_stats *net_get_stats(const struct net *n);
