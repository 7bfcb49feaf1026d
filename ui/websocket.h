/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The server's side of WebSocket (RFC 6455): opening handshake, frames to bytes, heads of frames.
 * Parsers alone, no input or output, and no memory but the structs: whatever lengths a client
 * announces, nothing is allocated or waited for. Zeroed structs are new connections.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WS_LINE_MAX = 512, /* of the request; longer header lines (cookies) are ignored */
    WS_REQUEST_MAX = 16 << 10,
    WS_ANSWER_MAX = 256,
    WS_NAME_MAX = 256, /* of Host and Origin */
    WS_CONTROL_MAX = 125,
    WS_HEAD_MAX = 10, /* of a frame that we send */
};

/* ---- opening handshake ---- */

struct ws_handshake {
    char line[WS_LINE_MAX];
    size_t line_len;
    size_t total; /* bytes of the request so far */
    bool line_too_long, bad;
    bool request, upgrade, connection, version, other_version, binary;
    char key[25];
    char host[WS_NAME_MAX], origin[WS_NAME_MAX];
};

/* Takes bytes of the request up to its end and returns how many. *status is 0 while there is more
 * to come, then the HTTP status to answer: 101, 400 or 426. */
size_t ws_handshake_feed(struct ws_handshake *h, const uint8_t *in, size_t len, int *status);
/* The request comes from a page of another site (or of an unknown one) than it goes to: the user of
 * the browser did not ask for it. The two must be the same address or localhost; equal names prove
 * nothing, as any site may let its name stand for our address (DNS rebinding). */
bool ws_is_cross_site(const struct ws_handshake *h);
/* The answer for a status (those above, or 403) and its length. */
size_t ws_handshake_answer(const struct ws_handshake *h, int status, char out[WS_ANSWER_MAX]);

/* ---- frames ---- */

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10
};
enum { WS_CLOSE_NORMAL = 1000, WS_CLOSE_PROTOCOL = 1002, WS_CLOSE_UNSUPPORTED = 1003 };

struct ws_decoder {
    uint8_t head[14];
    uint8_t head_len; /* bytes of head there are; 0 between frames */
    bool payload;     /* head is whole */
    bool message;     /* a message has begun, and its last frame has not */
    bool failed;
    uint64_t left; /* bytes of this frame's payload still to come */
    unsigned mask_at;
    uint8_t control[WS_CONTROL_MAX]; /* payload of the control frame */
    uint8_t control_len;
};

enum ws_event {
    WS_EVENT_NONE,
    WS_EVENT_PING,  /* control, control_len */
    WS_EVENT_CLOSE, /* the client's, in control, too */
    WS_EVENT_ERROR, /* protocol violated: *code says how; nothing more is taken */
};

/* Takes bytes up to the end of a control frame, or all, and returns how many; payload of binary
 * messages goes to out (room for len bytes), *out_len of it. */
size_t ws_decode(struct ws_decoder *d, const uint8_t *in, size_t len, uint8_t *out, size_t *out_len,
                 enum ws_event *event, int *code);
/* Head of an unmasked frame that is a whole message; returns its length. */
size_t ws_head(uint8_t out[WS_HEAD_MAX], enum ws_opcode opcode, uint64_t payload_len);
