/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A network back end in memory for tests of network cards and for fuzzing: keeps what the card
 * sends, and gives it what the test wants. The real net.c is between it and the card.
 */
#include "core/board.h"
#include "net/net.h"

enum { NET_FAKE_SENT = 64, NET_FAKE_QUEUE = 64 };

struct net_fake_frame {
    uint8_t *data; /* malloc()ed */
    size_t len;
    struct net_offload off;
};

struct net_fake {
    struct net *net;
    /* The last ones, as they reached the back end; number i is at i % NET_FAKE_SENT. */
    struct net_fake_frame sent[NET_FAKE_SENT];
    unsigned sent_count;                         /* all since the start */
    struct net_fake_frame queue[NET_FAKE_QUEUE]; /* from the host, not yet taken */
    unsigned queue_head, queue_count;
    uint8_t rx[NET_FRAME_MAX]; /* what net.c is at */
    bool reading;              /* net.c wants frames */
    unsigned room;     /* frames that send() takes before it says -EAGAIN; UINT_MAX: any number */
    unsigned switches; /* times that reading was switched on or off */
};

/* offloads: the back end does checksums and segmentation, so sent[] shows them undone in off;
 * without, frames come out complete. Aborts when out of memory. net_fake_destroy() calls
 * net_close(): after the card has gone. */
struct net_fake *net_fake_create(struct loop *loop, bool offloads);
void net_fake_destroy(struct net_fake *f);
/* As net_fake_create(), but owned by the board: made before a card, it goes after it. */
struct net_fake *net_fake_add(struct board *b, bool offloads);
/* A frame from the host; off may be NULL. True: it has gone to net.c at once; false: queued until
 * net.c reads (or lost when the queue is full). */
bool net_fake_receive(struct net_fake *f, const void *frame, size_t len,
                      const struct net_offload *off);
/* The link takes n more frames; tells net.c. */
void net_fake_room(struct net_fake *f, unsigned n);
void net_fake_link(struct net_fake *f, bool up);
/* Frame number i (0 is the first ever sent); NULL when it is not (any more) there. */
const struct net_fake_frame *net_fake_sent(const struct net_fake *f, unsigned i);
