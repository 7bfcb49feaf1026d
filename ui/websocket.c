/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ui/websocket.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- SHA-1 (FIPS 180-4), of what the handshake needs: 60 bytes ---- */

enum { SHA1_LEN = 20, SHA1_BLOCK = 64, KEY_LEN = 24 };

static uint32_t rotate(uint32_t v, unsigned n)
{
    return v << n | v >> (32 - n);
}

static void sha1_block(uint32_t h[5], const uint8_t *p)
{
    static const uint32_t k[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];

    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    }
    for (int i = 16; i < 80; i++) {
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    }
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20              ? (b & c) | (~b & d)
                     : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d)
                                         : b ^ c ^ d;
        uint32_t t = rotate(a, 5) + f + e + k[i / 20] + w[i];

        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = t;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

/* len < 2 * SHA1_BLOCK - 8 */
static void sha1(const char *data, size_t len, uint8_t out[SHA1_LEN])
{
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t buf[2 * SHA1_BLOCK] = {0};
    size_t blocks = len + 9 <= SHA1_BLOCK ? 1 : 2;

    memcpy(buf, data, len);
    buf[len] = 0x80;
    buf[blocks * SHA1_BLOCK - 2] = (uint8_t)(len * 8 >> 8);
    buf[blocks * SHA1_BLOCK - 1] = (uint8_t)(len * 8);
    for (size_t i = 0; i < blocks; i++) {
        sha1_block(h, buf + i * SHA1_BLOCK);
    }
    for (int i = 0; i < SHA1_LEN; i++) {
        out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
    }
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* A hash in base64: 27 digits and one '='. */
static void base64(const uint8_t in[SHA1_LEN], char out[29])
{
    for (size_t i = 0; i < 28; i++) {
        size_t bit = i * 6, byte = bit / 8;
        unsigned pair = (unsigned)in[byte < SHA1_LEN ? byte : SHA1_LEN - 1] << 8 |
                        (byte + 1 < SHA1_LEN ? in[byte + 1] : 0u);

        out[i] = base64_digits[pair >> (10 - bit % 8) & 0x3f];
    }
    out[27] = '=';
    out[28] = '\0';
}

/* ---- opening handshake ---- */

/* A comma-separated list has this word. */
static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);

    while (*list != '\0') {
        size_t n;

        list += strspn(list, " \t,");
        n = strcspn(list, " \t,");
        if (n == len && strncasecmp(list, word, len) == 0) {
            return true;
        }
        list += n;
    }
    return false;
}

static bool key_ok(const char *key)
{
    return strlen(key) == KEY_LEN && strspn(key, base64_digits) == KEY_LEN - 2 &&
           strcmp(key + KEY_LEN - 2, "==") == 0;
}

/* Copies a header that may be there once. */
static void keep(struct ws_handshake *h, char *to, size_t room, const char *value)
{
    if (to[0] != '\0' || value[0] == '\0' || strlen(value) >= room) {
        h->bad = true;
        return;
    }
    memcpy(to, value, strlen(value) + 1);
}

static void on_header(struct ws_handshake *h, char *line)
{
    char *colon = strchr(line, ':'), *value, *end;

    if (colon == NULL) {
        h->bad = true;
        return;
    }
    *colon = '\0';
    value = colon + 1 + strspn(colon + 1, " \t");
    end = value + strlen(value);
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        *--end = '\0';
    }
    if (strcasecmp(line, "Upgrade") == 0) {
        h->upgrade |= has_word(value, "websocket");
    } else if (strcasecmp(line, "Connection") == 0) {
        h->connection |= has_word(value, "Upgrade");
    } else if (strcasecmp(line, "Sec-WebSocket-Version") == 0) {
        h->version |= strcmp(value, "13") == 0;
        h->other_version |= strcmp(value, "13") != 0;
    } else if (strcasecmp(line, "Sec-WebSocket-Protocol") == 0) {
        h->binary |= has_word(value, "binary");
    } else if (strcasecmp(line, "Sec-WebSocket-Key") == 0) {
        keep(h, h->key, sizeof(h->key), value);
    } else if (strcasecmp(line, "Host") == 0) {
        keep(h, h->host, sizeof(h->host), value);
    } else if (strcasecmp(line, "Origin") == 0) {
        keep(h, h->origin, sizeof(h->origin), value);
    }
}

/* A line is whole. false: it was the empty one that ends the request. */
static bool on_line(struct ws_handshake *h)
{
    bool too_long = h->line_too_long;
    size_t len = h->line_len;

    h->line_len = 0;
    h->line_too_long = false;
    if (len > 0 && h->line[len - 1] == '\r') {
        len--;
    }
    h->line[len] = '\0';
    if (strlen(h->line) != len) {
        h->bad = true; /* a NUL in it */
    } else if (!h->request) {
        static const char end[] = " HTTP/1.1";

        h->request = true;
        h->bad |= too_long || len < 5 + sizeof(end) - 1 || strncmp(h->line, "GET /", 5) != 0 ||
                  strcmp(h->line + len - (sizeof(end) - 1), end) != 0;
    } else if (too_long) {
        /* Of the headers that count here only Host and Origin could be that long. */
        h->bad |= strncasecmp(h->line, "Host:", 5) == 0 || strncasecmp(h->line, "Origin:", 7) == 0;
    } else if (len > 0) {
        on_header(h, h->line);
    } else {
        return false;
    }
    return true;
}

static int request_status(const struct ws_handshake *h)
{
    if (h->bad || !h->upgrade || !h->connection || h->host[0] == '\0') {
        return 400;
    }
    if (!h->version || h->other_version) {
        return 426;
    }
    return key_ok(h->key) ? 101 : 400;
}

size_t ws_handshake_feed(struct ws_handshake *h, const uint8_t *in, size_t len, int *status)
{
    size_t at = 0;

    *status = 0;
    while (at < len && *status == 0) {
        uint8_t byte = in[at++];

        if (++h->total > WS_REQUEST_MAX) {
            *status = 400;
        } else if (byte == '\n') {
            *status = !on_line(h) ? request_status(h) : 0;
        } else if (h->line_len < sizeof(h->line) - 1) {
            h->line[h->line_len++] = (char)byte;
        } else {
            h->line_too_long = true;
        }
    }
    return at;
}

/* The host in "host:port" or "[address]:port". */
static size_t host_len(const char *s)
{
    return s[0] == '[' ? strcspn(s, "]") + (strchr(s, ']') != NULL) : strcspn(s, ":/");
}

/* An address or localhost. */
static bool is_address(const char *host, size_t len)
{
    char text[64];
    uint8_t address[16];

    if (len == 9 && strncasecmp(host, "localhost", 9) == 0) {
        return true;
    }
    if (len == 0 || len >= sizeof(text)) {
        return false;
    }
    if (host[0] == '[') {
        if (host[len - 1] != ']') {
            return false;
        }
        snprintf(text, sizeof(text), "%.*s", (int)len - 2, host + 1);
        return inet_pton(AF_INET6, text, address) == 1;
    }
    snprintf(text, sizeof(text), "%.*s", (int)len, host);
    return inet_pton(AF_INET, text, address) == 1;
}

bool ws_is_cross_site(const struct ws_handshake *h)
{
    const char *origin = strstr(h->origin, "://");
    size_t n, m;

    if (h->origin[0] == '\0') {
        return false; /* no browser */
    }
    if (origin == NULL) {
        return true; /* "null" */
    }
    origin += 3;
    n = host_len(origin);
    m = host_len(h->host);
    return n != m || strncasecmp(origin, h->host, n) != 0 || !is_address(h->host, m);
}

size_t ws_handshake_answer(const struct ws_handshake *h, int status, char out[WS_ANSWER_MAX])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, 1.3 */
    char text[KEY_LEN + sizeof(guid)], accept[29];
    uint8_t hash[SHA1_LEN];
    int n;

    if (status == 101) {
        snprintf(text, sizeof(text), "%s%s", h->key, guid);
        sha1(text, strlen(text), hash);
        base64(hash, accept);
        n = snprintf(out, WS_ANSWER_MAX,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
                     accept, h->binary ? "Sec-WebSocket-Protocol: binary\r\n" : "");
    } else {
        n = snprintf(out, WS_ANSWER_MAX,
                     "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: 0\r\n%s\r\n", status,
                     status == 403   ? "Forbidden"
                     : status == 426 ? "Upgrade Required"
                                     : "Bad Request",
                     status == 426 ? "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" : "");
    }
    return (size_t)n;
}

/* ---- frames ---- */

/* Bytes of the head once its first two are known: length, extended length, mask. */
static size_t head_size(const uint8_t *head)
{
    unsigned len = head[1] & 0x7f;

    return 2u + (len == 126 ? 2u : len == 127 ? 8u : 0u) + 4u;
}

/* The head is whole. 0, or why the connection ends. */
static int begin_frame(struct ws_decoder *d)
{
    unsigned opcode = d->head[0] & 0x0f, len = d->head[1] & 0x7f;
    bool final = (d->head[0] & 0x80) != 0;

    d->payload = true;
    d->mask_at = 0;
    d->left = len < 126 ? len : 0;
    for (unsigned i = 2; len >= 126 && i < d->head_len - 4u; i++) {
        d->left = d->left << 8 | d->head[i];
    }
    if (d->left >> 63 != 0) {
        return WS_CLOSE_PROTOCOL;
    }
    switch (opcode) {
    case WS_CLOSE:
    case WS_PING:
    case WS_PONG:
        d->control_len = 0;
        return final && len <= WS_CONTROL_MAX ? 0 : WS_CLOSE_PROTOCOL;
    case WS_BINARY:
    case WS_CONTINUATION:
        if (d->message != (opcode == WS_CONTINUATION)) {
            return WS_CLOSE_PROTOCOL;
        }
        d->message = !final;
        return 0;
    case WS_TEXT:
        return WS_CLOSE_UNSUPPORTED;
    default:
        return WS_CLOSE_PROTOCOL;
    }
}

/* What the first two bytes of a head may be: no extension is agreed, and clients mask. */
static bool head_ok(const struct ws_decoder *d)
{
    return (d->head[0] & 0x70) == 0 && (d->head_len < 2 || (d->head[1] & 0x80) != 0);
}

static uint8_t unmask(struct ws_decoder *d, uint8_t byte)
{
    return byte ^ d->head[d->head_len - 4u + (d->mask_at++ & 3u)];
}

static enum ws_event end_frame(struct ws_decoder *d)
{
    unsigned opcode = d->head[0] & 0x0f;

    d->head_len = 0;
    d->payload = false;
    return opcode == WS_PING ? WS_EVENT_PING : opcode == WS_CLOSE ? WS_EVENT_CLOSE : WS_EVENT_NONE;
}

size_t ws_decode(struct ws_decoder *d, const uint8_t *in, size_t len, uint8_t *out, size_t *out_len,
                 enum ws_event *event, int *code)
{
    size_t at = 0;

    *out_len = 0;
    *event = d->failed ? WS_EVENT_ERROR : WS_EVENT_NONE;
    *code = d->failed ? WS_CLOSE_PROTOCOL : 0;
    while (at < len && *event == WS_EVENT_NONE) {
        if (!d->payload) {
            d->head[d->head_len++] = in[at++];
            if (!head_ok(d)) {
                *code = WS_CLOSE_PROTOCOL;
            } else if (d->head_len >= 2 && d->head_len == head_size(d->head)) {
                *code = begin_frame(d);
            }
            if (*code != 0) {
                d->failed = true;
                *event = WS_EVENT_ERROR;
                break;
            }
        } else if ((d->head[0] & 8) != 0) {
            d->control[d->control_len++] = unmask(d, in[at++]);
            d->left--;
        } else {
            size_t n = len - at < d->left ? len - at : (size_t)d->left;

            for (size_t i = 0; i < n; i++) {
                out[(*out_len)++] = unmask(d, in[at++]);
            }
            d->left -= n;
        }
        if (d->payload && d->left == 0) {
            *event = end_frame(d);
        }
    }
    return at;
}

size_t ws_head(uint8_t out[WS_HEAD_MAX], enum ws_opcode opcode, uint64_t payload_len)
{
    size_t extra = payload_len < 126 ? 0 : payload_len <= 0xffff ? 2 : 8;

    out[0] = (uint8_t)(0x80u | (unsigned)opcode);
    out[1] = extra == 0 ? (uint8_t)payload_len : extra == 2 ? 126 : 127;
    for (size_t i = 0; i < extra; i++) {
        out[2 + i] = (uint8_t)(payload_len >> (8 * (extra - 1 - i)));
    }
    return 2 + extra;
}
