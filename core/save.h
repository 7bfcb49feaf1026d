/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Saved state. One function per device, struct device_ops.state, moves every guest-visible field in
 * a fixed order in both directions, so the order cannot differ:
 *
 *     static int uart_state(void *dev, struct save_stream *s)
 *     {
 *         struct uart *u = dev;
 *         struct uart_regs r = u->r;      // work on a copy
 *         save_u8(s, &r.ier);
 *         ...
 *         if (s->loading) {
 *             if (s->error || r.fifo_len > sizeof(r.fifo)) {
 *                 return -EINVAL;         // refuse, device unchanged
 *             }
 *             u->r = r;
 *             uart_update_irq(u);         // derived state
 *         }
 *         return s->error;
 *     }
 *
 * Little endian, no padding. Loaded values are hostile: check every index, length, enum.
 * Save-load-save gives equal bytes.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct save_stream {
    uint8_t *data;    /* saving: grown as needed, the stream's; loading: borrowed */
    size_t len;       /* bytes used (saving) or present (loading) */
    size_t cap;       /* saving only */
    size_t pos;       /* loading only */
    uint32_t version; /* of the record being loaded; devices read older versions by looking at it */
    bool loading;
    int error; /* first error: -EINVAL (short record), -ENOMEM; later transfers do nothing (loads give 0) */
};

void save_init(struct save_stream *s); /* for saving */
void save_init_load(struct save_stream *s, const uint8_t *data,
                    size_t len); /* for loading; data is borrowed */
void save_free(struct save_stream *s);

void save_bool(struct save_stream *s, bool *v);
void save_u8(struct save_stream *s, uint8_t *v);
void save_u16(struct save_stream *s, uint16_t *v);
void save_u32(struct save_stream *s, uint32_t *v);
void save_u64(struct save_stream *s, uint64_t *v);
void save_bytes(struct save_stream *s, void *buf, size_t len);
