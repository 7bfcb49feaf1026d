/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "core/chardev.h"
#include "core/loop.h"

#define MS 1000000u

static char dir[] = "/tmp/test_chardev.XXXXXX";

struct peer {
    struct loop *loop;
    uint8_t got[1 << 16];
    size_t len;
    size_t limit; /* takes input up to here */
    unsigned writable;
};

static size_t on_receive(void *opaque, const uint8_t *data, size_t len)
{
    struct peer *p = opaque;
    size_t n = p->limit - p->len;

    n = n < len ? n : len;
    memcpy(p->got + p->len, data, n);
    p->len += n;
    return n;
}

static void on_writable(void *opaque)
{
    ((struct peer *)opaque)->writable++;
}

static const struct chardev_client client = { .receive = on_receive, .writable = on_writable };

static int setup(void **state)
{
    static struct peer p;

    memset(&p, 0, sizeof(p));
    p.loop = loop_create(true);
    p.limit = sizeof(p.got);
    *state = &p;
    return 0;
}

static int teardown(void **state)
{
    loop_destroy(((struct peer *)*state)->loop);
    return 0;
}

static void turn(struct peer *p)
{
    for (unsigned i = 0; i < 4; i++) {
        loop_advance(p->loop, 2 * MS);
        loop_poll(p->loop, 0);
    }
}

/* The kernel carries bytes across a pty in a work item of its own, when it gets to it: wait for them, but not for ever. */
static void turn_until_received(struct peer *p, size_t len)
{
    for (unsigned i = 0; i < 1000 && p->len < len; i++) {
        turn(p);
        usleep(2000);
    }
}

static size_t read_slave(int fd, char *buf, size_t len)
{
    size_t got = 0;

    for (unsigned i = 0; i < 1000 && got < len; i++) {
        ssize_t n = read(fd, buf + got, len - got);

        if (n > 0) {
            got += (size_t)n;
        } else {
            usleep(2000);
        }
    }
    return got;
}

static struct chardev *try_open(struct peer *p, char *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static struct chardev *try_open(struct peer *p, char *err, const char *fmt, ...)
{
    char spec[300];
    va_list ap;
    struct chardev *c;

    va_start(ap, fmt);
    vsnprintf(spec, sizeof(spec), fmt, ap);
    va_end(ap);
    c = chardev_open(p->loop, "serial0", spec, err, 400);
    if (c) {
        chardev_set_client(c, &client, p);
        assert_string_equal(chardev_label(c), "serial0");
    }
    return c;
}

#define OPEN(...)                                                                                  \
    ({                                                                                             \
        char err_[400] = "";                                                                       \
        struct chardev *c_ = try_open(p, err_, __VA_ARGS__);                                       \
        if (!c_) {                                                                                 \
            print_error("%s\n", err_);                                                             \
        }                                                                                          \
        assert_non_null(c_);                                                                       \
        c_;                                                                                        \
    })

static size_t put(struct chardev *c, const char *text)
{
    return chardev_write(c, (const uint8_t *)text, strlen(text));
}

static void expect_file(const char *path, const char *text)
{
    char buf[256] = "";
    int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    assert_int_equal(read(fd, buf, sizeof(buf) - 1), (int)strlen(text));
    assert_string_equal(buf, text);
    close(fd);
}

static void file_is_flushed_late_and_at_close(void **state)
{
    struct peer *p = *state;
    char path[100], spec[150];
    struct chardev *c;

    snprintf(path, sizeof(path), "%s/a,b", dir);
    c = OPEN("file:%s", path);
    snprintf(spec, sizeof(spec), "file:%s", path);
    assert_string_equal(chardev_filename(c), spec);
    for (const char *t = "one\n"; *t; t++) {
        assert_int_equal(chardev_write(c, (const uint8_t *)t, 1), 1);
    }
    expect_file(path, "");
    loop_advance(p->loop, 1 * MS);
    expect_file(path, "one\n");
    put(c, "two\n");
    chardev_close(c); /* without another turn of the loop */
    expect_file(path, "one\ntwo\n");
    c = OPEN("file,path=%s/a,,b,append=on", dir);
    put(c, "three\n");
    chardev_close(c);
    expect_file(path, "one\ntwo\nthree\n");
    c = OPEN("file:%s", path); /* truncates */
    chardev_close(c);
    expect_file(path, "");
}

static void big_output_keeps_its_order(void **state)
{
    struct peer *p = *state;
    static uint8_t data[100000], back[100001];
    char path[100];
    struct chardev *c;
    int fd;

    snprintf(path, sizeof(path), "%s/big", dir);
    c = OPEN("file:%s", path);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    for (size_t i = 0; i < sizeof(data);) {
        size_t n = 1 + i % 5000;

        n = n < sizeof(data) - i ? n : sizeof(data) - i;
        assert_int_equal(chardev_write(c, data + i, n), n);
        i += n;
    }
    chardev_close(c);
    fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, back, sizeof(back)), sizeof(data));
    assert_memory_equal(data, back, sizeof(data));
    close(fd);
}

static void null_swallows(void **state)
{
    struct peer *p = *state;
    struct chardev *c = OPEN("null");

    assert_string_equal(chardev_filename(c), "null");
    for (unsigned i = 0; i < 10000; i++) {
        assert_int_equal(put(c, "0123456789"), 10);
    }
    chardev_close(c);
}

static int open_slave(struct chardev *c)
{
    int fd = open(chardev_filename(c) + 4, O_RDWR | O_NOCTTY | O_NONBLOCK);

    assert_true(fd >= 0);
    return fd;
}

static void pty_survives_its_readers(void **state)
{
    struct peer *p = *state;
    struct chardev *c = OPEN("pty");
    struct termios t;
    char buf[64];
    int fd;

    assert_memory_equal(chardev_filename(c), "pty:/dev/pts/", 13);
    for (unsigned i = 0; i < 10000; i++) { /* nobody reads: nothing stalls */
        assert_int_equal(put(c, "0123456789"), 10);
    }
    turn(p);
    for (unsigned round = 0; round < 3; round++) {
        fd = open_slave(c);
        assert_int_equal(tcgetattr(fd, &t), 0);
        assert_int_equal(t.c_lflag & (ICANON | ECHO), 0);
        turn(p);
        assert_int_equal(put(c, "hi\r\n"), 4);
        turn(p);
        assert_int_equal(read_slave(fd, buf, 4), 4);
        assert_memory_equal(buf, "hi\r\n", 4); /* and nothing of before */
        assert_int_equal(read(fd, buf, sizeof(buf)), -1); /* or after */
        p->len = 0;
        assert_int_equal(write(fd, "ls\r", 3), 3);
        turn_until_received(p, 3);
        assert_int_equal(p->len, 3);
        assert_memory_equal(p->got, "ls\r", 3);
        close(fd);
        turn(p);
        assert_int_equal(put(c, "lost"), 4);
        turn(p);
    }
    chardev_close(c);
}

static unsigned count_wakeups(struct peer *p, unsigned ms)
{
    unsigned n = 0;
    uint64_t end;

    (void)p;
    struct loop *real = loop_create(false);
    char err[400];
    struct chardev *c = chardev_open(real, "serial0", "pty", err, sizeof(err));
    int fd;

    assert_non_null(c);
    chardev_set_client(c, &client, p);
    fd = open_slave(c);
    loop_poll(real, 0);
    close(fd); /* hang-up is level triggered: must not spin */
    loop_poll(real, 0);
    for (end = loop_now(real, LOOP_HOST) + (uint64_t)ms * MS; loop_now(real, LOOP_HOST) < end; n++) {
        loop_poll(real, 50 * MS);
    }
    chardev_close(c);
    loop_destroy(real);
    return n;
}

static void pty_hangup_does_not_spin(void **state)
{
    assert_true(count_wakeups(*state, 200) < 20);
}

static void pty_stalled_reader_pushes_back(void **state)
{
    struct peer *p = *state;
    struct chardev *c = OPEN("pty");
    int fd = open_slave(c);
    static char buf[1 << 16];
    size_t sent = 0, got = 0;
    ssize_t n;

    turn(p);
    while (chardev_write(c, (const uint8_t *)"x", 1) == 1) {
        assert_true(++sent < 1000000);
    }
    turn(p);
    assert_int_equal(p->writable, 0);
    for (unsigned i = 0; i < 10000 && got < sent; i++) {
        if ((n = read(fd, buf, sizeof(buf))) > 0) {
            got += (size_t)n;
        }
        turn(p);
    }
    assert_int_equal(got, sent);
    assert_true(p->writable > 0);
    while (chardev_write(c, (const uint8_t *)"x", 1) == 1) { /* stalls again; then the reader goes */
    }
    p->writable = 0;
    close(fd);
    turn(p);
    assert_int_equal(p->writable, 1);
    assert_int_equal(put(c, "dropped"), 7);
    chardev_close(c);
}

static int connect_unix(const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void unix_server_takes_one_client_after_the_other(void **state)
{
    struct peer *p = *state;
    char path[100], spec[150], buf[64];
    struct chardev *c;
    int a, b;

    snprintf(path, sizeof(path), "%s/sock", dir);
    c = OPEN("unix:%s,server,nowait", path);
    snprintf(spec, sizeof(spec), "unix:%s,server=on", path);
    assert_string_equal(chardev_filename(c), spec);
    assert_int_equal(put(c, "nobody"), 6);
    a = connect_unix(path);
    b = connect_unix(path); /* waits in the backlog */
    turn(p);
    put(c, "to a");
    turn(p);
    assert_int_equal(read(a, buf, sizeof(buf)), 4);
    assert_int_equal(read(b, buf, sizeof(buf)), -1);
    assert_int_equal(write(a, "from a", 6), 6);
    assert_int_equal(write(b, "from b", 6), 6);
    turn(p);
    assert_int_equal(p->len, 6);
    assert_memory_equal(p->got, "from a", 6);
    close(a);
    turn(p);
    turn(p);
    assert_int_equal(p->len, 12);
    assert_memory_equal(p->got + 6, "from b", 6);
    put(c, "to b");
    turn(p);
    assert_int_equal(read(b, buf, sizeof(buf)), 4);
    assert_memory_equal(buf, "to b", 4);
    close(b);
    put(c, "gone");
    turn(p);
    chardev_close(c);
    assert_int_equal(access(path, F_OK), -1); /* the socket goes with it */
    c = OPEN("socket,id=x,path=%s,server=on,wait=off", path);
    c = (chardev_close(c), OPEN("unix:%s,server=on,wait=off", path));
    chardev_close(c);
}

/* Without a free descriptor the listening socket stays readable: the loop must not turn for it all the time. */
static void accept_waits_for_descriptors(void **state)
{
    struct peer *p = *state;
    char path[100], buf[64];
    struct pollfd ready = {.fd = loop_fd(p->loop), .events = POLLIN};
    struct rlimit old, none;
    struct chardev *c;
    int a, lowest;

    snprintf(path, sizeof(path), "%s/sock3", dir);
    c = OPEN("unix:%s,server=on,wait=off", path);
    a = connect_unix(path);
    lowest = dup(a);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){.rlim_cur = (rlim_t)lowest, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    turn(p);
    assert_int_equal(poll(&ready, 1, 0), 0);
    loop_advance(p->loop, 2000 * MS);
    turn(p); /* tried again, in vain */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(poll(&ready, 1, 0), 0);
    loop_advance(p->loop, 2000 * MS);
    turn(p);
    put(c, "hello");
    turn(p);
    assert_int_equal(read(a, buf, sizeof(buf)), 5);
    close(a);
    chardev_close(c);
}

static void input_waits_for_the_client(void **state)
{
    struct peer *p = *state;
    char path[100];
    struct chardev *c;
    int a, b;

    snprintf(path, sizeof(path), "%s/sock2", dir);
    c = OPEN("unix:%s,server=on,wait=off", path);
    p->limit = 3;
    a = connect_unix(path);
    assert_int_equal(write(a, "abcdef", 6), 6);
    turn(p);
    assert_int_equal(p->len, 3);
    chardev_accept_input(c);
    assert_int_equal(p->len, 3);
    p->limit = 100;
    chardev_accept_input(c);
    assert_int_equal(p->len, 6);
    assert_memory_equal(p->got, "abcdef", 6);
    p->limit = 6; /* full again; a client that goes must not block the next one */
    assert_int_equal(write(a, "x", 1), 1);
    turn(p);
    assert_int_equal(write(a, "y", 1), 1);
    close(a);
    turn(p);
    b = connect_unix(path);
    turn(p);
    p->limit = 100;
    chardev_accept_input(c);
    assert_int_equal(write(b, "z", 1), 1);
    turn(p);
    assert_int_equal(p->got[p->len - 1], 'z');
    close(b);
    chardev_close(c);
}

static void stalled_socket_pushes_back(void **state)
{
    struct peer *p = *state;
    int pair[2];
    struct chardev *c;
    static char buf[1 << 16];
    size_t sent = 0, got = 0;
    ssize_t n;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    c = OPEN("socket,fd=%d", pair[0]);
    for (;;) {
        uint8_t v = (uint8_t)sent;

        if (chardev_write(c, &v, 1) == 0) {
            break;
        }
        assert_true(++sent < 100000000);
    }
    for (unsigned i = 0; i < 100000 && got < sent; i++) {
        n = read(pair[1], buf, sizeof(buf));
        for (ssize_t k = 0; k < n; k++) {
            assert_int_equal((uint8_t)buf[k], (uint8_t)got++);
        }
        turn(p);
    }
    assert_int_equal(got, sent);
    assert_true(p->writable >= 1);
    close(pair[1]);
    put(c, "into the void");
    turn(p); /* no SIGPIPE */
    assert_int_equal(put(c, "dropped"), 7);
    chardev_close(c);
}

static void tcp_both_ways(void **state)
{
    struct peer *p = *state;
    struct chardev *server = OPEN("tcp:127.0.0.1:0,server=on,wait=off");
    struct chardev *c;
    const char *name = chardev_filename(server);
    unsigned port = 0;

    assert_int_equal(sscanf(name, "tcp:127.0.0.1:%u,server=on", &port), 1);
    assert_true(port > 0);
    c = OPEN("tcp:127.0.0.1:%u", port);
    turn(p);
    put(c, "ping");
    turn(p);
    assert_int_equal(p->len, 4);
    assert_memory_equal(p->got, "ping", 4);
    put(server, "pong");
    turn(p);
    assert_memory_equal(p->got + 4, "pong", 4);
    chardev_close(server);
    turn(p);
    assert_int_equal(put(c, "dropped"), 7);
    chardev_close(c);
}

static void *late_client(void *arg)
{
    usleep(50000);
    return (void *)(intptr_t)connect_unix(arg);
}

static void server_waits_at_start(void **state)
{
    struct peer *p = *state;
    char path[100], buf[8];
    pthread_t t;
    struct chardev *c;
    void *fd;

    snprintf(path, sizeof(path), "%s/wait", dir);
    assert_int_equal(pthread_create(&t, NULL, late_client, path), 0);
    c = OPEN("unix:%s,server=on", path);
    assert_int_equal(pthread_join(t, &fd), 0);
    put(c, "hello");
    turn(p);
    assert_int_equal(read((int)(intptr_t)fd, buf, sizeof(buf)), 5);
    close((int)(intptr_t)fd);
    chardev_close(c);
}

static void errors_name_the_spec(void **state)
{
    struct peer *p = *state;
    static const char *const specs[] = {
        "", "ptyx", "vc", "/dev/ttyS0", "file:", "file:/nonexistent/x", "tcp:", "tcp:localhost", "tcp:localhost:",
        "tcp:127.0.0.1:1", "tcp:127.0.0.1:x y", "unix:", "unix:/nonexistent/sock", "unix:/nonexistent/sock,server=on,wait=off",
        "unix:/tmp/x,server=maybe", "unix:/tmp/x,bogus=1", "socket,id=x", "socket,fd=999", "socket,fd=0,server=on,frob",
        "file,append=on", "tcp:[::1:5",
    };

    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        char err[400] = "";

        assert_null(try_open(p, err, "%s", specs[i]));
        assert_memory_equal(err, "serial0", 7);
        assert_null(strchr(err, '\n'));
        assert_true(strlen(err) > 10);
    }
}

static void stdio_is_used_once(void **state)
{
    struct peer *p = *state;
    char err[400] = "";
    int in[2], out[2], old_in = dup(0), old_out = dup(1);
    char buf[16];
    ssize_t n;
    struct chardev *c;

    assert_int_equal(pipe(in) | pipe(out), 0);
    fflush(stdout);
    dup2(in[0], 0);
    dup2(out[1], 1);
    c = try_open(p, err, "stdio");
    struct chardev *second = try_open(p, err, "stdio");
    assert_int_equal(write(in[1], "typed", 5), 5);
    if (c) {
        put(c, "shown");
    }
    turn(p);
    close(in[1]); /* end of input: output goes on, and the loop rests */
    turn(p);
    if (c) {
        put(c, "more");
    }
    chardev_close(c);
    n = read(out[0], buf, sizeof(buf));
    dup2(old_in, 0);
    dup2(old_out, 1);
    assert_non_null(c);
    assert_null(second);
    assert_int_equal(p->len, 5);
    assert_int_equal(n, 9);
    assert_memory_equal(buf, "shownmore", 9);
    c = OPEN("stdio"); /* free again */
    chardev_close(c);
    close(in[0]);
    close(out[0]);
    close(out[1]);
    close(old_in);
    close(old_out);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(file_is_flushed_late_and_at_close),
        TEST(big_output_keeps_its_order),
        TEST(null_swallows),
        TEST(pty_survives_its_readers),
        TEST(pty_hangup_does_not_spin),
        TEST(pty_stalled_reader_pushes_back),
        TEST(unix_server_takes_one_client_after_the_other),
        TEST(accept_waits_for_descriptors),
        TEST(input_waits_for_the_client),
        TEST(stalled_socket_pushes_back),
        TEST(tcp_both_ways),
        TEST(server_waits_at_start),
        TEST(errors_name_the_spec),
        TEST(stdio_is_used_once),
    };
    char cmd[64];
    int failed;

    if (!mkdtemp(dir)) {
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    return system(cmd) != 0 ? 1 : failed;
}
