/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/net_fake.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "net/net_int.h"

static int fake_send(void *opaque, const struct iovec *iov, int iovcnt,
                     const struct net_offload *off)
{
    struct net_fake *f = opaque;
    struct net_fake_frame *s = &f->sent[f->sent_count % NET_FAKE_SENT];
    size_t len = 0;

    if (f->room == 0) {
        return -EAGAIN;
    }
    f->room -= f->room != UINT_MAX;
    for (int i = 0; i < iovcnt; i++) {
        len += iov[i].iov_len;
    }
    if (len < 14 || len > NET_FRAME_MAX) {
        abort(); /* net.c promises this */
    }
    free(s->data);
    s->data = malloc(len);
    s->len = len;
    s->off = *off;
    len = 0;
    for (int i = 0; i < iovcnt; i++) {
        memcpy(s->data + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    f->sent_count++;
    return 0;
}

static unsigned fake_send_many(void *opaque, const struct net_frame *frames, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (fake_send(opaque, frames[i].iov, frames[i].iovcnt, &frames[i].off) != 0) {
            return i;
        }
    }
    return count;
}

/* Hands on what waits while net.c reads. */
static void drain(struct net_fake *f)
{
    while (f->reading && f->queue_count > 0) {
        struct net_fake_frame *q = &f->queue[f->queue_head];

        f->queue_head = (f->queue_head + 1) % NET_FAKE_QUEUE;
        f->queue_count--;
        memcpy(f->rx, q->data, q->len);
        free(q->data);
        q->data = NULL;
        net_deliver(f->net, f->rx, q->len, &q->off);
    }
}

/* Frames are not handed on from here: a real back end waits for the loop as well. */
static void fake_receive(void *opaque, bool on)
{
    struct net_fake *f = opaque;

    if (f->reading == on) {
        abort();
    }
    f->reading = on;
    f->switches++;
}

static void fake_close(void *opaque)
{
    (void)opaque;
}

struct net_fake *net_fake_create(struct loop *loop, bool offloads)
{
    static const struct net_backend with = {.send = fake_send,
                                            .send_many = fake_send_many,
                                            .receive = fake_receive,
                                            .close = fake_close,
                                            .offloads = true};
    static const struct net_backend without = {
        .send = fake_send, .receive = fake_receive, .close = fake_close};
    struct net_fake *f = calloc(1, sizeof(*f));
    char err[100];

    if (f == NULL || (f->net = net_create(loop, offloads ? &with : &without, f, "net0", NULL, err,
                                          sizeof(err))) == NULL) {
        abort();
    }
    f->room = UINT_MAX;
    return f;
}

void net_fake_destroy(struct net_fake *f)
{
    net_close(f->net);
    for (unsigned i = 0; i < NET_FAKE_SENT; i++) {
        free(f->sent[i].data);
    }
    for (unsigned i = 0; i < NET_FAKE_QUEUE; i++) {
        free(f->queue[i].data);
    }
    free(f);
}

static void holder_reset(void *dev)
{
    (void)dev;
}

static int holder_state(void *dev, struct save_stream *s)
{
    (void)dev;
    return s->error;
}

static void holder_destroy(void *dev)
{
    net_fake_destroy(dev);
}

struct net_fake *net_fake_add(struct board *b, bool offloads)
{
    static const struct device_ops holder = {.name = "net-fake",
                                             .version = 1,
                                             .reset = holder_reset,
                                             .state = holder_state,
                                             .destroy = holder_destroy};
    struct net_fake *f = net_fake_create(b->loop, offloads);

    if (board_add_device(b, &holder, f) != 0) {
        abort();
    }
    return f;
}

bool net_fake_receive(struct net_fake *f, const void *frame, size_t len,
                      const struct net_offload *off)
{
    struct net_fake_frame *q;

    drain(f);
    if (f->queue_count == NET_FAKE_QUEUE) {
        return false;
    }
    q = &f->queue[(f->queue_head + f->queue_count) % NET_FAKE_QUEUE];
    free(q->data);
    q->data = malloc(len);
    memcpy(q->data, frame, len);
    q->len = len;
    q->off = off != NULL ? *off : (struct net_offload){0};
    f->queue_count++;
    drain(f);
    return f->queue_count == 0;
}

void net_fake_room(struct net_fake *f, unsigned n)
{
    f->room = n;
    if (n > 0) {
        net_writable(f->net);
    }
}

void net_fake_link(struct net_fake *f, bool up)
{
    net_set_link(f->net, up);
}

const struct net_fake_frame *net_fake_sent(const struct net_fake *f, unsigned i)
{
    return i < f->sent_count && f->sent_count - i <= NET_FAKE_SENT ? &f->sent[i % NET_FAKE_SENT]
                                                                   : NULL;
}
