/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/chardev.h"
#include "hw/serial.h"
#include "tests/fuzz/fuzz.h"

static struct chardev *chardev;
static int peer;

/* The back end must go after the ports but before the loop: it stands on the board as its first device. */
static void reset(void *dev)
{
    (void)dev;
}

static int state(void *dev, struct save_stream *s)
{
    (void)dev;
    return s->error;
}

static void destroy(void *dev)
{
    chardev_close(dev);
    close(peer);
}

static const struct device_ops holder = { .name = "holder", .version = 1, .reset = reset, .state = state, .destroy = destroy };

static void setup(struct harness *h)
{
    int pair[2];
    char spec[32], err[200];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0) {
        abort();
    }
    peer = pair[1];
    snprintf(spec, sizeof(spec), "socket,fd=%d", pair[0]);
    chardev = chardev_open(h->loop, "serial0", spec, err, sizeof(err));
    if (!chardev || board_add_device(&h->board, &holder, chardev) != 0 || serial_create(&h->board, 0, chardev) != 0 || serial_create(&h->board, 2, NULL) != 0) {
        abort();
    }
}

/* The far end types, reads, or goes. */
static void event(struct harness *h, const uint8_t bytes[8])
{
    static uint8_t sink[1 << 16];
    ssize_t n;

    if (bytes[0] >= 0xf0) { /* what was saved loads, and saves the same */
        if (!harness_save_load_save(h)) {
            abort();
        }
        return;
    }
    if (bytes[0] < 4) {
        shutdown(peer, bytes[0] & 1 ? SHUT_RDWR : SHUT_WR);
    } else if (bytes[0] & 1) {
        n = send(peer, bytes + 1, 7, MSG_NOSIGNAL);
        (void)n;
    } else {
        n = read(peer, sink, sizeof(sink));
        (void)n;
    }
    loop_poll(h->loop, 0);
}

/* Registers keep to their masks, and a raised line has a reason that can be read. (Reads without side effects only.) */
static void check(struct harness *h)
{
    uint32_t lcr = harness_in(h, 0x3fb, 1);

    if ((harness_in(h, 0x3fc, 1) & 0xe0) || (!(lcr & 0x80) && (harness_in(h, 0x3f9, 1) & 0xf0))) {
        abort();
    }
    if (h->plat.isa[4] && !(harness_in(h, 0x3fc, 1) & 0x08) && !(harness_in(h, 0x3ec, 1) & 0x08)) {
        abort();
    }
}

static const struct fuzz_range ports[] = { { 0x3f8, 8 }, { 0x3e8, 8 }, { 0x3f8, 2 }, { 0, 0 } };

FUZZ_DEVICE(.setup = setup, .ports = ports, .event = event, .check = check)
