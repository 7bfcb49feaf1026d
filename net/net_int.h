/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Between net.c and the back ends (tap.c; tests/unit/net_fake.c in tests). A back end reads a frame
 * into net_rx_buffer() and calls net_deliver(); net.c owns everything about the card.
 */
#include "net/net.h"

struct net_backend {
    /* One frame; off is never NULL and fits the frame. Only with `offloads` does it ask for
     * anything. 0 taken or dropped (then the back end has counted it with net_dropped()), -EAGAIN
     * (then net_writable() follows). */
    int (*send)(void *opaque, const struct iovec *iov, int iovcnt, const struct net_offload *off);
    /* Start or stop reading. Stopped at first. */
    void (*receive)(void *opaque, bool on);
    void (*close)(void *opaque);
    bool offloads; /* send() can do checksums and TCP segmentation */
};

/* Everything borrowed but opaque, which be->close() ends. dump_path as in struct net_config. NULL
 * and a reason in err. */
struct net *net_create(struct loop *loop, const struct net_backend *be, void *opaque,
                       const char *id, const char *dump_path, char *err, size_t errlen);

/* Where the back end puts the next frame: NET_FRAME_MAX bytes, valid until net_close(), free while
 * reading is on. */
uint8_t *net_rx_buffer(struct net *n);
/* A frame of len bytes is in the buffer, with what the host left undone or vouches for (csum_needed
 * and gso are allowed here). False: reading has been switched off, the buffer is in use. */
bool net_deliver(struct net *n, size_t len, const struct net_offload *off);
/* send() would take a frame again. */
void net_writable(struct net *n);
void net_dropped(struct net *n);
void net_set_link(struct net *n, bool up);

/* ---- pcap.c ---- */
struct pcap;
/* Creates the file (truncated). NULL with errno. */
struct pcap *pcap_open(const char *path);
/* One frame. Errors end the capture with one line in the log. */
void pcap_write(struct pcap *p, const struct iovec *iov, int iovcnt);
void pcap_close(struct pcap *p);
