/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Between net.c and the back ends (tap.c; tests/unit/net_fake.c in tests). A back end reads frames
 * and calls net_deliver() for each; net.c owns everything about the card.
 */
#include "net/net.h"

struct net_backend {
    /* One frame; off is never NULL and fits the frame. Only with `offloads` does it ask for
     * anything. 0 taken or dropped (then the back end has counted it with net_dropped()), -EAGAIN
     * (then net_writable() follows). */
    int (*send)(void *opaque, const struct iovec *iov, int iovcnt, const struct net_offload *off);
    /* As send(), of count frames (at most NET_BATCH); how many were taken. NULL: send() does. */
    unsigned (*send_many)(void *opaque, const struct net_frame *frames, unsigned count);
    /* Start or stop reading. Stopped at first. */
    void (*receive)(void *opaque, bool on);
    void (*close)(void *opaque);
    bool offloads; /* send() can do checksums and TCP segmentation */
};

/* Everything borrowed but opaque, which be->close() ends. dump_path as in struct net_config. NULL
 * and a reason in err. */
struct net *net_create(struct loop *loop, const struct net_backend *be, void *opaque,
                       const char *id, const char *dump_path, char *err, size_t errlen);

/* A frame of len bytes (at most NET_FRAME_MAX), with what the host left undone or vouches for
 * (csum_needed and gso are allowed here). Only while reading is on. False: reading has been
 * switched off, and the frame has to stay where it is until it is switched on again. */
bool net_deliver(struct net *n, const uint8_t *frame, size_t len, const struct net_offload *off);
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
