/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * WebSocket's parsers. What they make of a stream must not depend on how it is cut: each input is
 * parsed whole and in pieces, and the results compared. Odd first byte: a request; even: frames.
 */
#include <stdlib.h>
#include <string.h>

#include "ui/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 4096 };

struct result {
    size_t taken, len;
    unsigned events[4];
    int code;
    uint8_t out[INPUT_MAX];
};

static void frames(const uint8_t *in, size_t len, size_t piece, struct result *r)
{
    struct ws_decoder d = {.failed = false};

    memset(r, 0, sizeof(*r));
    while (r->taken < len && r->code == 0) {
        size_t n = len - r->taken < piece ? len - r->taken : piece, got;
        uint8_t *copy = malloc(n); /* of the exact size, for ASan */
        enum ws_event event;
        size_t used;

        memcpy(copy, in + r->taken, n);
        used = ws_decode(&d, copy, n, r->out + r->len, &got, &event, &r->code);
        free(copy);
        if (used > n || got > used || used == 0 || (event == WS_EVENT_ERROR) != (r->code != 0)) {
            abort();
        }
        r->taken += used;
        r->len += got;
        r->events[event]++;
        r->events[WS_EVENT_NONE] = 0;
        if (event == WS_EVENT_PING && d.control_len > WS_CONTROL_MAX) {
            abort();
        }
    }
}

static int request(const uint8_t *in, size_t len, size_t piece, struct ws_handshake *h,
                   size_t *taken)
{
    int status = 0;

    memset(h, 0, sizeof(*h));
    for (*taken = 0; *taken < len && status == 0;) {
        size_t n = len - *taken < piece ? len - *taken : piece;
        size_t used = ws_handshake_feed(h, in + *taken, n, &status);

        if (used > n || (used < n && status == 0)) {
            abort();
        }
        *taken += used;
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct result a, b;
    static struct ws_handshake h, k;
    size_t piece, used_h, used_k;

    if (size < 2 || size > INPUT_MAX) {
        return 0;
    }
    piece = 1u + data[0] / 2;
    if ((data[0] & 1) == 0) {
        frames(data + 1, size - 1, size, &a);
        frames(data + 1, size - 1, piece, &b);
        if (memcmp(&a, &b, sizeof(a)) != 0) {
            abort();
        }
    } else {
        int status = request(data + 1, size - 1, size, &h, &used_h);
        char answer[WS_ANSWER_MAX];

        if (status != request(data + 1, size - 1, piece, &k, &used_k) || used_h != used_k ||
            memcmp(&h, &k, sizeof(h)) != 0) {
            abort();
        }
        (void)ws_is_cross_site(&h);
        if (status != 0) {
            size_t n = ws_handshake_answer(&h, status, answer);

            if (n >= sizeof(answer) || strlen(answer) != n) {
                abort();
            }
        }
    }
    return 0;
}
