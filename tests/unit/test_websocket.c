/* SPDX-License-Identifier: GPL-2.0-or-later */
/* WebSocket's handshake and frames (RFC 6455), as parsers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ui/websocket.h"

#define KEY  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define UP   "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define V13  "Sec-WebSocket-Version: 13\r\n"
#define GET  "GET /websockify HTTP/1.1\r\n"
#define HOST "Host: 127.0.0.1:5900\r\n"

/* Feeds the request in pieces of one size; the status, and how much was taken in *used. */
static int ask(struct ws_handshake *h, const char *text, size_t len, size_t piece, size_t *used)
{
    int status = 0;

    memset(h, 0, sizeof(*h));
    for (*used = 0; *used < len && status == 0;) {
        size_t n = len - *used < piece ? len - *used : piece;

        *used += ws_handshake_feed(h, (const uint8_t *)text + *used, n, &status);
    }
    return status;
}

static void test_requests(void **state)
{
    static char cookies[9000], endless[20000];
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {GET HOST UP KEY V13 "\r\n", 101},
        {"GET / HTTP/1.1\nhost:x\nUPGRADE:  WebSocket \nconnection: keep-alive , upgrade\n"
         "sec-websocket-key:dGhlIHNhbXBsZSBub25jZQ==\nsec-websocket-version:\t13\n\n",
         101},
        {GET HOST UP KEY "Sec-WebSocket-Version: 8\r\n\r\n", 426},
        {GET HOST UP KEY "\r\n", 426},
        {GET HOST UP V13 "\r\n", 400},
        {GET HOST UP V13 KEY KEY "\r\n", 400},
        {GET HOST UP V13 "Sec-WebSocket-Key: short==\r\n\r\n", 400},
        {GET HOST UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ$==\r\n\r\n", 400},
        {GET UP V13 KEY "\r\n", 400},
        {GET HOST KEY V13 "\r\n", 400},
        {GET HOST "Upgrade: h2c\r\nConnection: Upgrade\r\n" KEY V13 "\r\n", 400},
        {GET HOST "Upgrade: websocket\r\nConnection: keep-alive\r\n" KEY V13 "\r\n", 400},
        {"GET / HTTP/1.0\r\n" HOST UP KEY V13 "\r\n", 400},
        {"GET /HTTP/1.1\r\n" HOST UP KEY V13 "\r\n", 400},
        {"GET http://x/ HTTP/1.1\r\n" HOST UP KEY V13 "\r\n", 400},
        {GET HOST UP KEY V13 "no colon here\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {cookies, 101},
        {endless, 400},
    };
    struct ws_handshake h;
    size_t used;

    (void)state;
    memset(cookies, 'c', sizeof(cookies) - 1);
    snprintf(cookies, sizeof(cookies), "%s", GET HOST UP "Cookie: ");
    cookies[strlen(cookies)] = 'c';
    memcpy(cookies + 8000, "\r\n" KEY V13 "\r\n", sizeof("\r\n" KEY V13 "\r\n"));
    memset(endless, 'e', sizeof(endless) - 1);
    memcpy(endless, GET, strlen(GET));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t piece = 1; piece < 20000; piece = piece * 3 + 1) {
            int got = ask(&h, cases[i].text, strlen(cases[i].text), piece, &used);

            if (got != cases[i].status) {
                fail_msg("status %d of: %.300s", got, cases[i].text);
            }
        }
    }
    /* A NUL hides nothing; what follows the request is not taken. */
    assert_int_equal(ask(&h, GET HOST "X: \0\r\n" UP KEY V13 "\r\n",
                         sizeof(GET HOST "X: \0\r\n" UP KEY V13 "\r\n") - 1, 100, &used),
                     400);
    assert_int_equal(ask(&h, GET HOST UP KEY V13 "\r\nmore", strlen(GET HOST UP KEY V13 "\r\nmore"),
                         1000, &used),
                     101);
    assert_int_equal(used, strlen(GET HOST UP KEY V13 "\r\n"));
}

static void test_answers(void **state)
{
    static const char request[] =
        GET HOST UP KEY V13 "Sec-WebSocket-Protocol: chat, binary\r\n\r\n";
    static const char plain[] = GET HOST UP KEY V13 "\r\n";
    char out[WS_ANSWER_MAX];
    struct ws_handshake h;
    size_t used, len;

    (void)state;
    assert_int_equal(ask(&h, request, strlen(request), 1000, &used), 101);
    len = ws_handshake_answer(&h, 101, out);
    assert_int_equal(len, strlen(out));
    assert_string_equal(
        out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: "
             "binary\r\n\r\n");
    assert_int_equal(ask(&h, plain, strlen(plain), 1000, &used), 101);
    ws_handshake_answer(&h, 101, out);
    assert_null(strstr(out, "Protocol:"));
    len = ws_handshake_answer(&h, 426, out);
    assert_int_equal(len, strlen(out));
    assert_non_null(strstr(out, "HTTP/1.1 426 "));
    assert_non_null(strstr(out, "Sec-WebSocket-Version: 13\r\n"));
    len = ws_handshake_answer(&h, 400, out);
    assert_int_equal(len, strlen(out));
    assert_non_null(strstr(out, "\r\n\r\n"));
}

static void test_sites(void **state)
{
    static const struct {
        const char *host, *origin;
        bool cross;
    } cases[] = {
        {"127.0.0.1:5900", "", false},
        {"127.0.0.1:5900", "http://127.0.0.1:6080", false},
        {"127.0.0.1:5900", "http://127.0.0.1", false},
        {"192.0.2.7:5900", "https://192.0.2.7", false},
        {"localhost:5900", "http://LOCALHOST:8000", false},
        {"[::1]:5900", "http://[::1]:6080", false},
        {"127.0.0.1:5900", "http://evil.example", true},
        {"127.0.0.1:5900", "http://127.0.0.1.evil.example", true},
        {"127.0.0.1:5900", "http://127.0.0.10", true},
        {"127.0.0.1:5900", "null", true},
        {"127.0.0.1:5900", "http://", true},
        {":5900", "http://:6080", true},
        {"evil.example:5900", "http://evil.example", true}, /* its name may stand for our address */
        {"[::1", "http://[::1", true},
        {"[", "http://[", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ws_handshake h = {.bad = false};

        snprintf(h.host, sizeof(h.host), "%s", cases[i].host);
        snprintf(h.origin, sizeof(h.origin), "%s", cases[i].origin);
        if (ws_is_cross_site(&h) != cases[i].cross) {
            fail_msg("%s from %s", cases[i].host, cases[i].origin);
        }
    }
}

struct result {
    uint8_t out[4000];
    size_t len;
    unsigned pings, closes;
    int error;
    uint8_t control[WS_CONTROL_MAX];
    uint8_t control_len;
};

static void decode(const uint8_t *in, size_t len, size_t piece, struct result *r)
{
    struct ws_decoder d = {.failed = false};

    memset(r, 0, sizeof(*r));
    for (size_t at = 0; at < len && r->error == 0;) {
        size_t n = len - at < piece ? len - at : piece, got;
        enum ws_event event;
        int code;

        at += ws_decode(&d, in + at, n, r->out + r->len, &got, &event, &code);
        assert_true(got <= n);
        r->len += got;
        r->pings += event == WS_EVENT_PING;
        r->closes += event == WS_EVENT_CLOSE;
        if (event == WS_EVENT_PING || event == WS_EVENT_CLOSE) {
            r->control_len = d.control_len;
            memcpy(r->control, d.control, d.control_len);
        }
        r->error = event == WS_EVENT_ERROR ? code : 0;
    }
}

#define M     "\x37\xfa\x21\x3d" /* the mask of RFC 6455, 5.7 */
#define HELLO M "\x7f\x9f\x4d\x51\x58"

static void test_frames(void **state)
{
    static const struct {
        const char *in;
        size_t len;
        const char *want;
        unsigned pings, closes;
        int error;
    } cases[] = {
#define F(bytes, ...) {bytes, sizeof(bytes) - 1, __VA_ARGS__}
        F("\x82\x85" HELLO, "Hello", 0, 0, 0),
        F("\x02\x83" M "\x7f\x9f\x4d"
          "\x89\x85" HELLO "\x80\x82" M "\x5b\x95",
          "Hello", 1, 0, 0), /* a ping in the middle */
        F("\x82\xfe\x00\x05" HELLO "\x82\xff\0\0\0\0\0\0\0\x05" HELLO, "HelloHello", 0, 0, 0),
        F("\x82\x80" M "\x02\x80" M "\x80\x80" M "\x82\x85" HELLO, "Hello", 0, 0, 0),
        F("\x8a\x85" HELLO "\x82\x85" HELLO, "Hello", 0, 0, 0), /* unasked pong */
        F("\x89\x80" M "\x89\x80" M, "", 2, 0, 0),
        F("\x88\x82" M "\x34\x12", "", 0, 1, 0),
        F("\x82\x05Hello", "", 0, 0, 1002),  /* not masked */
        F("\xc2\x85" HELLO, "", 0, 0, 1002), /* an extension */
        F("\x81\x85" HELLO, "", 0, 0, 1003), /* text */
        F("\x83\x85" HELLO, "", 0, 0, 1002),
        F("\x80\x85" HELLO, "", 0, 0, 1002),                       /* continues nothing */
        F("\x02\x85" HELLO "\x82\x85" HELLO, "Hello", 0, 0, 1002), /* begins another one */
        F("\x09\x85" HELLO, "", 0, 0, 1002),                       /* control in pieces */
        F("\x89\xfe\x00\x7e" M, "", 0, 0, 1002),                   /* long control */
        F("\x82\xff\x80\0\0\0\0\0\0\0" M, "", 0, 0, 1002),
        F("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" HELLO, "Hello", 0, 0,
          0), /* goes on for ever */
    };
    struct result r;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t piece = 1; piece <= 40; piece++) {
            decode((const uint8_t *)cases[i].in, cases[i].len, piece, &r);
            if (r.len != strlen(cases[i].want) || memcmp(r.out, cases[i].want, r.len) != 0 ||
                r.pings != cases[i].pings || r.closes != cases[i].closes ||
                r.error != cases[i].error) {
                fail_msg("case %zu in pieces of %zu: '%.*s', error %d, %u pings, %u closes", i,
                         piece, (int)r.len, r.out, r.error, r.pings, r.closes);
            }
        }
    }
    decode((const uint8_t *)"\x89\x85" HELLO, 11, 3, &r);
    assert_int_equal(r.control_len, 5);
    assert_memory_equal(r.control, "Hello", 5);
    decode((const uint8_t *)"\x88\x82" M "\x34\x12", 8, 8, &r);
    assert_memory_equal(r.control, "\x03\xe8", 2); /* 1000 */
}

/* After an error nothing is taken for data any more. */
static void test_failed(void **state)
{
    struct ws_decoder d = {.failed = false};
    uint8_t out[32];
    size_t got;
    enum ws_event event;
    int code;

    (void)state;
    ws_decode(&d, (const uint8_t *)"\x82\x05Hello", 7, out, &got, &event, &code);
    assert_int_equal(event, WS_EVENT_ERROR);
    assert_int_equal(ws_decode(&d, (const uint8_t *)"\x82\x85" HELLO, 11, out, &got, &event, &code),
                     0);
    assert_int_equal(event, WS_EVENT_ERROR);
    assert_int_equal(got, 0);
}

static void test_heads(void **state)
{
    static const struct {
        uint64_t len;
        const char *want;
        size_t n;
    } cases[] = {
        {0, "\x82\x00", 2},
        {125, "\x82\x7d", 2},
        {126, "\x82\x7e\x00\x7e", 4},
        {65535, "\x82\x7e\xff\xff", 4},
        {65536, "\x82\x7f\0\0\0\0\0\1\0\0", 10},
    };
    uint8_t out[WS_HEAD_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(ws_head(out, WS_BINARY, cases[i].len), cases[i].n);
        assert_memory_equal(out, cases[i].want, cases[i].n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests), cmocka_unit_test(test_answers),
        cmocka_unit_test(test_sites),    cmocka_unit_test(test_frames),
        cmocka_unit_test(test_failed),   cmocka_unit_test(test_heads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
