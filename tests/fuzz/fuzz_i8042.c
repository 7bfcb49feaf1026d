/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>

#include "hw/i8042.h"
#include "tests/fuzz/fuzz.h"
#include "ui/input.h"

static struct input *input;

/* The router must go after the devices but before the loop: it stands on the board as its first device. */
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
    input_destroy(dev);
}

static const struct device_ops holder = { .name = "holder", .version = 1, .reset = reset, .state = state, .destroy = destroy };

static void setup(struct harness *h)
{
    input = input_create(h->loop);
    if (!input || board_add_device(&h->board, &holder, input) != 0 || i8042_create(&h->board, input) != 0) {
        abort();
    }
}

/* A viewer does something, at once or through the queue. */
static void event(struct harness *h, const uint8_t bytes[8])
{
    struct input_event ev = {
        .type = INPUT_EVENT_KEY,
        .key = bytes[1],
        .down = bytes[2] & 1,
        .x = (int8_t)bytes[3] * (1 << bytes[0] % 24),
        .y = (int8_t)bytes[4] * (1 << bytes[0] % 24),
        .dz = (int8_t)bytes[5],
        .buttons = bytes[6],
    };

    if (bytes[0] >= 0xf0) { /* what was saved loads, and saves the same */
        if (!harness_save_load_save(h)) {
            abort();
        }
        return;
    }
    if (bytes[7] % 3 == 1) {
        ev.type = INPUT_EVENT_RELATIVE;
    } else if (bytes[7] % 3 == 2) {
        ev.type = INPUT_EVENT_ABSOLUTE;
    }
    for (unsigned i = 0; i <= (bytes[7] >> 5); i++) {
        if (bytes[7] & 4) {
            input_post(input, &ev);
        } else {
            input_send(input, &ev);
        }
        ev.key++;
        ev.buttons ^= bytes[2];
    }
}

/* The lines say what the status port says. */
static void check(struct harness *h)
{
    uint32_t status = harness_in(h, 0x64, 1);

    if ((status & 0x42) || !(status & 0x10) || (h->plat.isa[1] && (status & 0x21) != 0x01) ||
        (h->plat.isa[12] && (status & 0x21) != 0x21)) {
        abort();
    }
}

static const struct fuzz_range ports[] = { { 0x60, 5 }, { 0x60, 1 }, { 0x64, 1 }, { 0, 0 } };

FUZZ_DEVICE(.setup = setup, .ports = ports, .event = event, .check = check)
