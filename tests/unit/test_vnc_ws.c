/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VNC through WebSocket, served by hand: how it ends, and what does not pile up. */
#include "tests/unit/vnc_help.h"

#define REQUEST                                                                                    \
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"           \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static void serve_turns(struct fixture *f, int n)
{
    while (n-- > 0) {
        assert_true(vnc_ui_turn(f->v->ui, 0));
        turn(f);
    }
}

/* A connection that has sent this much. */
static int call(struct fixture *f, const void *bytes, size_t len)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    vnc_ui_accept(f->v->ui, pair[0]);
    assert_int_equal(send(pair[1], bytes, len, MSG_NOSIGNAL), (ssize_t)len);
    serve_turns(f, 4);
    return pair[1];
}

static void send_frame(int fd, unsigned head, const void *bytes, size_t len)
{
    uint8_t frame[8 + 2048] = {(uint8_t)head, 0x80 | 126, (uint8_t)(len >> 8), (uint8_t)len};
    size_t at = 4;

    if (len < 126) {
        frame[1] = (uint8_t)(0x80u | (unsigned)len);
        frame[2] = frame[3] = 0;
        at = 2;
    }
    at += 4; /* a mask of zeros */
    memcpy(frame + at, bytes, len);
    assert_int_equal(send(fd, frame, at + len, MSG_NOSIGNAL), (ssize_t)(at + len));
}

/* What there is to read now. */
static size_t read_all(int fd, uint8_t *buf, size_t room)
{
    ssize_t n = recv(fd, buf, room, MSG_DONTWAIT);

    return n > 0 ? (size_t)n : 0;
}

static void read_answer(int fd)
{
    uint8_t buf[1000];
    size_t n = read_all(fd, buf, sizeof(buf) - 1);

    buf[n] = 0;
    assert_int_equal(strncmp((char *)buf, "HTTP/1.1 101 ", 13), 0);
    assert_memory_equal(strstr((char *)buf, "\r\n\r\n") + 4, "\x82\x0cRFB 003.008\n", 14);
    assert_int_equal(buf + n - (uint8_t *)strstr((char *)buf, "\r\n\r\n"), 4 + 14);
}

static void test_ends(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *answer; /* frames: the newest pong, then the close */
        size_t answer_len;
    } cases[] = {
#define C(bytes, answer) {bytes, sizeof(bytes) - 1, answer, sizeof(answer) - 1}
        C("\x88\x82\0\0\0\0\x03\xe8", "\x88\x02\x03\xe8"),
        C("\x88\x80\0\0\0\0", "\x88\x02\x03\xe8"),
        C("\x82\x01x", "\x88\x02\x03\xea"),
        C("\x81\x81\0\0\0\0x", "\x88\x02\x03\xeb"),
        C("\x89\x81\0\0\0\0p\x89\x81\0\0\0\0q\x88\x80\0\0\0\0", "\x8a\x01q\x88\x02\x03\xe8"),
        C("\x82\x83\0\0\0\0WHO", "\x88\x02\x03\xe8"), /* no RFB in it */
    };
    struct fixture *f = *state;
    struct vnc_config cfg = config();

    f->v = vnc_new(f->loop, f->d, f->in, &cfg);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = call(f, REQUEST, strlen(REQUEST));
        uint8_t buf[100];

        read_answer(fd);
        assert_int_equal(send(fd, cases[i].bytes, cases[i].len, MSG_NOSIGNAL),
                         (ssize_t)cases[i].len);
        serve_turns(f, 3);
        assert_int_equal(read_all(fd, buf, sizeof(buf)), cases[i].answer_len);
        assert_memory_equal(buf, cases[i].answer, cases[i].answer_len);
        assert_int_equal(recv(fd, buf, 1, MSG_DONTWAIT), 0);
        assert_null(f->v->ui->clients[0]);
        close(fd);
    }
}

/* A request that came in time is one, whenever this process gets to run. */
static void test_late_server(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    int pair[2];

    f->v = vnc_new(f->loop, f->d, f->in, &cfg);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        vnc_ui_accept(f->v->ui, pair[0]);
        assert_int_equal(send(pair[1], REQUEST, strlen(REQUEST), MSG_NOSIGNAL),
                         (ssize_t)strlen(REQUEST));
        f->v->ui->clients[0]->deadline_ns = 1; /* long ago */
        serve_turns(f, 4);
        read_answer(pair[1]);
        close(pair[1]);
        serve_turns(f, 2);
        assert_null(f->v->ui->clients[0]);
    }
}

/* Requests that stop somewhere have as long as a viewer that says no version, and no longer. */
static void test_half_requests(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    uint8_t b;

    f->v = vnc_new(f->loop, f->d, f->in, &cfg);
    for (size_t len = 1; len < strlen(REQUEST); len += 13) {
        int fd = call(f, REQUEST, len);
        struct vnc_client *c = f->v->ui->clients[0];

        assert_non_null(c);
        assert_int_equal(c->stage, len < 4 ? VNC_WAIT_FIRST : VNC_WAIT_UPGRADE);
        assert_in_range(c->deadline_ns, vnc_now_ns() + 5000000000ull,
                        vnc_now_ns() + 10000000000ull);
        assert_int_equal(recv(fd, &b, 1, MSG_DONTWAIT), -1); /* no banner */
        c->since_ns = c->deadline_ns = 1;
        serve_turns(f, 2);
        assert_null(f->v->ui->clients[0]);
        close(fd);
    }
    /* Data behind the request, before our answer. */
    close(call(f, REQUEST "\x82\x80\0\0\0\0", strlen(REQUEST) + 6));
    serve_turns(f, 1);
    assert_null(f->v->ui->clients[0]);
}

/* One that does not read: neither pongs nor pictures pile up; reads it then, the frames are whole. */
static void test_stalled(void **state)
{
    static const uint8_t join_up[] = "RFB 003.008\n\1\1\2\0\0\2\0\0\0\0\xff\xff\xfe\xfb";
    static const uint8_t ask[] = {3, 0, 0, 0, 0, 0, 0x02, 0x80, 0x01, 0x90};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct vnc_client *c;
    static uint8_t buf[8 << 20];
    size_t n = 0, got, at = 0, pongs = 0, data = 0;
    int fd;

    f->v = vnc_new(f->loop, f->d, f->in, &cfg);
    fd = call(f, REQUEST, strlen(REQUEST));
    read_answer(fd);
    c = f->v->ui->clients[0];
    send_frame(fd, 0x82, join_up, sizeof(join_up) - 1);
    serve_turns(f, 6);
    assert_int_equal(c->stage, VNC_NORMAL);
    for (unsigned i = 0; i < 300; i++) {
        send_frame(fd, 0x89, "ping", 4);
        send_frame(fd, 0x82, ask, sizeof(ask));
        input_set_leds(f->in, i & 7);
        paint(f, i);
        serve_turns(f, 2);
        assert_true(c->out_len <= VNC_UPDATE_MAX_BYTES + 4096);
    }
    assert_true(vnc_client_unsent(c));
    send_frame(fd, 0x88, "\x03\xe8", 2);
    for (int idle = 0; idle<5; idle = got> 0 ? 0 : idle + 1) {
        serve_turns(f, 1);
        got = read_all(fd, buf + n, sizeof(buf) - n);
        n += got;
    }
    assert_null(f->v->ui->clients[0]);
    while (at < n) {
        uint64_t len = buf[at + 1];
        unsigned extra = len == 126 ? 2 : len == 127 ? 8 : 0, opcode = buf[at] & 0x0fu;

        assert_int_equal(buf[at] & 0xf0, 0x80);
        for (unsigned i = 0; i < extra; i++) {
            len = (i == 0 ? 0 : len << 8) | buf[at + 2 + i];
        }
        at += 2 + extra + len;
        pongs += opcode == 10;
        data += opcode == 2 ? len : 0;
        assert_true(opcode == 2 || opcode == 10 || (opcode == 8 && at == n));
    }
    assert_int_equal(at, n);
    assert_in_range(pongs, 1, 300);
    assert_true(data > 640 * 400 * 4);
    close(fd);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_ends),
        T(test_late_server),
        T(test_half_requests),
        T(test_stalled),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
