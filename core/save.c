/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void save_init(struct save_stream *s)
{
    memset(s, 0, sizeof(*s));
}

void save_init_load(struct save_stream *s, const uint8_t *data, size_t len)
{
    memset(s, 0, sizeof(*s));
    s->data = (uint8_t *)(uintptr_t)data; /* only read while loading is set */
    s->len = len;
    s->loading = true;
}

void save_free(struct save_stream *s)
{
    if (!s->loading) {
        free(s->data);
    }
    memset(s, 0, sizeof(*s));
}

void save_bytes(struct save_stream *s, void *buf, size_t len)
{
    if (len == 0) {
        return; /* data and buf may be NULL then */
    }
    if (s->loading) {
        if (s->error == 0 && s->len - s->pos < len) {
            s->error = -EINVAL;
        }
        if (s->error != 0) {
            memset(buf, 0, len);
            return;
        }
        memcpy(buf, s->data + s->pos, len);
        s->pos += len;
        return;
    }
    if (s->error != 0) {
        return;
    }
    if (s->cap - s->len < len) {
        size_t cap = s->cap * 2 + len + 256;
        uint8_t *p = realloc(s->data, cap);

        if (p == NULL) {
            s->error = -ENOMEM;
            return;
        }
        s->data = p;
        s->cap = cap;
    }
    memcpy(s->data + s->len, buf, len);
    s->len += len;
}

/* Moves the low n bytes of v, lowest first. */
static uint64_t save_int(struct save_stream *s, uint64_t v, size_t n)
{
    uint8_t b[8];

    for (size_t i = 0; i < n; i++) {
        b[i] = (uint8_t)(v >> (8 * i));
    }
    save_bytes(s, b, n);
    if (!s->loading) {
        return v;
    }
    v = 0;
    for (size_t i = 0; i < n; i++) {
        v |= (uint64_t)b[i] << (8 * i);
    }
    return v;
}

void save_bool(struct save_stream *s, bool *v)
{
    uint64_t n = save_int(s, !s->loading && *v, 1);

    if (s->loading && n > 1 && s->error == 0) {
        s->error = -EINVAL;
    }
    *v = n == 1;
}

void save_u8(struct save_stream *s, uint8_t *v)
{
    *v = (uint8_t)save_int(s, *v, 1);
}

void save_u16(struct save_stream *s, uint16_t *v)
{
    *v = (uint16_t)save_int(s, *v, 2);
}

void save_u32(struct save_stream *s, uint32_t *v)
{
    *v = (uint32_t)save_int(s, *v, 4);
}

void save_u64(struct save_stream *s, uint64_t *v)
{
    *v = save_int(s, *v, 8);
}
