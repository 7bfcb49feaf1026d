/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Network images against nbdkit on a Unix socket: data, block sizes, errors, flush and FUA, a server that
 * dies and comes back, formats on top. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/backend.h"
#include "block/block.h"
#include "block/nbd_connect.h"
#include "core/loop.h"

enum { MIB = 1 << 20 };

struct fixture {
    struct loop *loop;
    char dir[64], socket[80];
    pid_t server;
    uint32_t seed;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->loop = loop_create(false);
    f->seed = 99;
    snprintf(f->dir, sizeof(f->dir), "/tmp/hvm-dm-nbd.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->socket, sizeof(f->socket), "%s/s", f->dir);
    *state = f;
    return 0;
}

static void stop_server(struct fixture *f)
{
    if (f->server > 0) {
        kill(f->server, SIGKILL);
        waitpid(f->server, NULL, 0);
        f->server = 0;
    }
    unlink(f->socket);
}

__attribute__((format(printf, 2, 3))) static void shell(struct fixture *f, const char *fmt, ...)
{
    char text[1024], line[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    snprintf(line, sizeof(line), "cd %s && { %s ; }", f->dir, text);
    if (system(line) != 0) {
        fail_msg("%s", text);
    }
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    stop_server(f);
    shell(f, "rm -rf %s", f->dir);
    loop_destroy(f->loop);
    free(f);
    return 0;
}

/* nbdkit in the test's folder; returns when it accepts connections. */
static void start_server(struct fixture *f, const char *arguments)
{
    char line[512];
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(line, sizeof(line), "cd %s && exec nbdkit -f -U s %s 2>server.log", f->dir, arguments);
    snprintf(to.sun_path, sizeof(to.sun_path), "%s", f->socket);
    f->server = fork();
    assert_true(f->server >= 0);
    if (f->server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    for (;;) {
        int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int rc = connect(s, (struct sockaddr *)&to, sizeof(to));
        close(s);
        if (rc == 0) {
            return;
        }
        assert_int_equal(waitpid(f->server, NULL, WNOHANG), 0);
        usleep(2000);
    }
}

static struct block *try_open(struct fixture *f, const char *path, const char *format,
                              bool readonly, char *err, size_t errlen)
{
    const struct block_config cfg = {
        .path = path, .format = format, .fd = -1, .readonly = readonly};
    return block_open(f->loop, &cfg, err, errlen);
}

static struct block *open_as(struct fixture *f, const char *format, const char *export_name,
                             bool readonly)
{
    char path[160], err[512] = "";
    snprintf(path, sizeof(path), "nbd:unix:%s%s%s", f->socket,
             export_name != NULL ? ":exportname=" : "", export_name != NULL ? export_name : "");
    struct block *b = try_open(f, path, format, readonly, err, sizeof(err));
    if (b == NULL) {
        fail_msg("%s", err);
    }
    return b;
}

struct op {
    struct block_request req;
    struct iovec iov[BLOCK_IOV_MAX];
    int error;
    unsigned calls;
};

static void on_done(struct block_request *req, int error)
{
    struct op *op = req->opaque;
    op->error = error;
    op->calls++;
}

static void submit(struct block *b, struct op *op, enum block_op what, uint64_t offset, void *buf,
                   size_t len, bool fua)
{
    op->calls = 0;
    op->iov[0] = (struct iovec){buf, len};
    op->req = (struct block_request){.op = what,
                                     .fua = fua,
                                     .offset_bytes = offset,
                                     .length_bytes = len,
                                     .iov = op->iov,
                                     .iovcnt = buf != NULL ? 1 : 0,
                                     .done = on_done,
                                     .opaque = op};
    block_submit(b, &op->req);
}

static void await(struct fixture *f, struct op *op)
{
    for (int i = 0; i < 3000 && op->calls == 0; i++) {
        loop_poll(f->loop, 10000000);
    }
    assert_int_equal(op->calls, 1);
}

static int do_op(struct fixture *f, struct block *b, enum block_op what, uint64_t offset, void *buf,
                 size_t len)
{
    struct op op;
    submit(b, &op, what, offset, buf, len, false);
    await(f, &op);
    return op.error;
}

static uint32_t rnd(struct fixture *f)
{
    f->seed = f->seed * 1664525 + 1013904223;
    return f->seed >> 8;
}

static void fill(struct fixture *f, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)rnd(f);
    }
}

/* Many requests in flight that do not overlap, in up to 9 pieces each, against a shadow. */
static void random_ops(struct fixture *f, struct block *b, uint8_t *shadow, size_t size,
                       size_t longest, unsigned rounds, size_t unit)
{
    enum { N = 40 };
    static struct op ops[N];
    uint8_t *bufs = malloc(N * longest);
    assert_non_null(bufs);
    for (unsigned round = 0; round < rounds; round++) {
        size_t part = size / N / unit * unit, start[N], len[N];
        bool write[N];
        for (unsigned i = 0; i < N; i++) {
            size_t most = longest < part ? longest : part;
            uint8_t *buf = bufs + i * longest;
            len[i] = (1 + rnd(f) % (most / unit)) * unit;
            start[i] = part * i + rnd(f) % ((part - len[i]) / unit + 1) * unit;
            if (rnd(f) % 4 == 0) {
                start[i] = part * i; /* neighbours meet within a block */
            }
            write[i] = rnd(f) % 2 != 0;
            memset(buf, 0xee, len[i]);
            if (write[i]) {
                fill(f, buf, len[i]);
            }
            unsigned pieces = rnd(f) % 3 == 0 ? 1 : 1 + rnd(f) % 9;
            size_t pos = 0;
            for (unsigned k = 0; k < pieces; k++) {
                size_t n = k + 1 < pieces ? rnd(f) % (len[i] - pos + 1) : len[i] - pos;
                ops[i].iov[k] = (struct iovec){buf + pos, n};
                pos += n;
            }
            ops[i].calls = 0;
            ops[i].req = (struct block_request){.op = write[i] ? BLOCK_WRITE : BLOCK_READ,
                                                .fua = rnd(f) % 8 == 0,
                                                .offset_bytes = start[i],
                                                .length_bytes = len[i],
                                                .iov = ops[i].iov,
                                                .iovcnt = (int)pieces,
                                                .done = on_done,
                                                .opaque = &ops[i]};
        }
        for (unsigned i = 0; i < N; i++) {
            block_submit(b, &ops[i].req);
        }
        if (round % 3 == 0) {
            assert_int_equal(block_drain(b), 0); /* without the loop */
        }
        for (unsigned i = 0; i < N; i++) {
            await(f, &ops[i]);
            assert_int_equal(ops[i].error, 0);
        }
        for (unsigned i = 0; i < N; i++) {
            if (write[i]) {
                memcpy(shadow + start[i], bufs + i * longest, len[i]);
            } else {
                assert_memory_equal(bufs + i * longest, shadow + start[i], len[i]);
            }
        }
        assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    }
    free(bufs);
    uint8_t *all = malloc(size);
    assert_non_null(all);
    assert_int_equal(do_op(f, b, BLOCK_READ, 0, all, size), 0);
    assert_memory_equal(all, shadow, size);
    free(all);
}

/* ---- */

static void targets(void **state)
{
    (void)state;
    static const struct {
        const char *path, *socket, *host, *port, *export_name, *uri;
    } good[] = {
        {"nbd:localhost:10809", NULL, "localhost", "10809", "", NULL},
        {"nbd:10.0.0.1:nbd:exportname=a:b", NULL, "10.0.0.1", "nbd", "a:b", NULL},
        {"nbd:[::1]:10809:exportname=x", NULL, "::1", "10809", "x", NULL},
        {"nbd:unix:/run/s", "/run/s", NULL, NULL, "", NULL},
        {"nbd:unix:/run/s,1:exportname=disk 1", "/run/s,1", NULL, NULL, "disk 1", NULL},
        {"nbd://host/name", NULL, NULL, NULL, NULL, "nbd://host/name"},
        {"nbd+unix:///n?socket=/s", NULL, NULL, NULL, NULL, "nbd+unix:///n?socket=/s"},
    };
    static const char *const bad[] = {
        "nbd:", "nbd:host", "nbd::10809", "nbd:host:", "nbd:unix:", "nbd:unix::exportname=x",
    };
    struct nbd_target t;
    char err[256];
#define SAME(a, b) ((a) == NULL ? (b) == NULL : (b) != NULL && strcmp((a), (b)) == 0)
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(nbd_target_parse(&t, good[i].path, err, sizeof(err)), 0);
        assert_true(SAME(good[i].socket, t.socket) && SAME(good[i].host, t.host) &&
                    SAME(good[i].port, t.port) && SAME(good[i].uri, t.uri) &&
                    SAME(good[i].export_name, t.export_name));
        nbd_target_free(&t);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(nbd_target_parse(&t, bad[i], err, sizeof(err)), -EINVAL);
        assert_non_null(strstr(err, "nbd:HOST:PORT"));
    }
}

static void open_errors(void **state)
{
    struct fixture *f = *state;
    char path[256], err[512] = "";
    static const char *const paths[] = {
        "nbd:unix:%s",
        "nbd+unix:///?socket=%s",
        "nbd:127.0.0.1:1:exportname=%s",
        "nbd://127.0.0.1:1",
        "nbd:nothing",
        "nbd:unix:%s:exportname=none",
    };
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (i == 5) { /* there is a server, but not this image */
            shell(f, "mkdir d && truncate -s 1M d/there");
            start_server(f, "file dir=d");
        }
        snprintf(path, sizeof(path), paths[i], f->socket);
        err[0] = '\0';
        assert_null(try_open(f, path, "raw", true, err, sizeof(err)));
        assert_non_null(strstr(err, path));
        assert_null(strchr(err, '\n'));
        assert_true(strlen(err) > strlen(path) + 15);
    }
    /* What only looks like one is a file. */
    assert_null(try_open(f, "./nbd:unix:x", "raw", true, err, sizeof(err)));
    assert_non_null(strstr(err, "No such file"));
    stop_server(f);
    start_server(f, "memory 0");
    snprintf(path, sizeof(path), "nbd:unix:%s", f->socket);
    assert_null(try_open(f, path, "raw", true, err, sizeof(err)));
    assert_non_null(strstr(err, "it is empty"));
}

static void data(void **state)
{
    struct fixture *f = *state;
    static uint8_t shadow[24 * MIB];
    memset(shadow, 0, sizeof(shadow));
    start_server(f, "memory 24M");
    struct block *b = open_as(f, "raw", NULL, false);
    assert_int_equal(block_size_bytes(b), sizeof(shadow));
    random_ops(f, b, shadow, sizeof(shadow), 3000, 8, 1);
    random_ops(f, b, shadow, sizeof(shadow), 600000, 4, 1);
    random_ops(f, b, shadow, sizeof(shadow), 65536, 4, 4096);
    /* One request for everything, twice the number of bounce buffers, in 64 pieces. */
    static uint8_t all[24 * MIB];
    struct op op;
    fill(f, all, sizeof(all));
    for (unsigned write = 0; write < 2; write++) {
        size_t pos = 0;
        submit(b, &op, BLOCK_FLUSH, 0, NULL, 0, false);
        await(f, &op);
        for (unsigned k = 0; k < 64; k++) {
            size_t n = k < 60 ? 1000 + k : (sizeof(all) - pos) / (64 - k);
            op.iov[k] = (struct iovec){all + pos, n};
            pos += n;
        }
        op.calls = 0;
        op.req.op = write == 0 ? BLOCK_WRITE : BLOCK_READ;
        op.req.length_bytes = sizeof(all);
        op.req.iovcnt = 64;
        if (write == 0) {
            memcpy(shadow, all, sizeof(all));
        } else {
            memset(all, 0, sizeof(all));
        }
        block_submit(b, &op.req);
        await(f, &op);
        assert_int_equal(op.error, 0);
    }
    assert_memory_equal(all, shadow, sizeof(all));
    assert_int_equal(do_op(f, b, BLOCK_DISCARD, 4 * MIB, NULL, 8 * MIB), 0);
    assert_int_equal(do_op(f, b, BLOCK_READ, 4 * MIB, all, 4096), 0);
    assert_int_equal(all[0] | all[4095], 0); /* nbdkit's memory takes the advice */
    assert_int_equal(do_op(f, b, BLOCK_READ, 12 * MIB, all, 4096), 0);
    assert_memory_equal(all, shadow + 12 * MIB, 4096);
    assert_int_equal(do_op(f, b, BLOCK_READ, sizeof(shadow) - 512, all, 1024), -EIO);
    block_close(b);
}

/* 512-byte sectors on a server that takes whole blocks of 4 KiB, up to 64 KiB at once. */
static void block_sizes(void **state)
{
    struct fixture *f = *state;
    static uint8_t shadow[4 * MIB];
    memset(shadow, 0, sizeof(shadow));
    start_server(f, "--filter=blocksize-policy memory 4M blocksize-minimum=4096 "
                    "blocksize-preferred=64K blocksize-maximum=64K blocksize-error-policy=error");
    struct block *b = open_as(f, "raw", NULL, false);
    random_ops(f, b, shadow, sizeof(shadow), 3000, 8, 1);
    random_ops(f, b, shadow, sizeof(shadow), 90000, 8, 512);
    assert_int_equal(do_op(f, b, BLOCK_DISCARD, MIB + 512, NULL, 8192), 0);
    static uint8_t got[16384];
    assert_int_equal(do_op(f, b, BLOCK_READ, MIB, got, sizeof(got)), 0);
    assert_memory_equal(got, shadow + MIB, 4096);
    assert_memory_equal(got + 8192, shadow + MIB + 8192, 8192);
    block_close(b);
}

static void odd_size(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[1024];
    start_server(f, "pattern 1000100");
    struct block *b = open_as(f, "raw", NULL, true);
    assert_int_equal(block_size_bytes(b), 1000448);
    memset(buf, 0xee, sizeof(buf));
    assert_int_equal(do_op(f, b, BLOCK_READ, 1000448 - 1024, buf, 1024), 0);
    for (unsigned i = 0; i < 1024; i++) {
        uint64_t at = 1000448 - 1024 + i, word = at / 8 * 8;
        assert_int_equal(buf[i], at < 1000100 ? (uint8_t)(word >> (7 - at % 8) * 8) : 0);
    }
    block_close(b);
    const struct block_config cfg = {.path = NULL, .fd = -1};
    struct block_config cd = cfg;
    char path[128], err[256];
    snprintf(path, sizeof(path), "nbd+unix:///?socket=%s", f->socket);
    cd.path = path;
    cd.readonly = cd.cdrom = true;
    b = block_open(f->loop, &cd, err, sizeof(err));
    assert_non_null(b);
    assert_int_equal(block_size_bytes(b), 1000100 / 2048 * 2048);
    block_close(b);
}

static void export_names(void **state)
{
    struct fixture *f = *state;
    char path[256], err[512];
    uint8_t buf[512];
    shell(f, "mkdir d; for i in 1 2; do head -c 65536 /dev/zero | tr '\\0' $i >d/disk$i; done");
    start_server(f, "file dir=d");
    for (int i = 1; i <= 2; i++) {
        for (int form = 0; form < 2; form++) {
            snprintf(path, sizeof(path),
                     form == 0 ? "nbd:unix:%s:exportname=disk%d"
                               : "nbd+unix:///disk%2$d?socket=%1$s",
                     f->socket, i);
            struct block *b = try_open(f, path, "raw", false, err, sizeof(err));
            if (b == NULL) {
                fail_msg("%s", err);
            }
            assert_int_equal(do_op(f, b, BLOCK_READ, 512, buf, 512), 0);
            assert_int_equal(buf[0], '0' + i);
            block_close(b);
        }
    }
}

static void readonly(void **state)
{
    struct fixture *f = *state;
    char path[128], err[512];
    uint8_t buf[512];
    start_server(f, "-r memory 1M");
    snprintf(path, sizeof(path), "nbd:unix:%s", f->socket);
    assert_null(try_open(f, path, "raw", false, err, sizeof(err)));
    assert_non_null(strstr(err, "the server offers it read-only"));
    struct block *b = open_as(f, "raw", NULL, true);
    assert_int_equal(do_op(f, b, BLOCK_READ, 0, buf, 512), 0);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 0, buf, 512), -EROFS);
    block_close(b);
}

/* Errors of the server reach the request, and end with their reason. */
static void server_errors(void **state)
{
    struct fixture *f = *state;
    static uint8_t buf[3 * MIB];
    start_server(f, "--filter=error memory 4M error-pwrite=ENOSPC error-pwrite-rate=100% "
                    "error-pwrite-file=full error-pread=EIO error-pread-rate=100% "
                    "error-pread-file=bad");
    struct block *b = open_as(f, "raw", NULL, false);
    shell(f, "touch full bad");
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 0, buf, 4096), -ENOSPC);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 512, buf, sizeof(buf)), -ENOSPC);
    assert_int_equal(do_op(f, b, BLOCK_READ, 0, buf, 4096), -EIO);
    assert_int_equal(do_op(f, b, BLOCK_READ, 0, buf, sizeof(buf)), -EIO);
    shell(f, "rm full bad");
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 0, buf, sizeof(buf)), 0);
    assert_int_equal(do_op(f, b, BLOCK_READ, 0, buf, sizeof(buf)), 0);
    block_close(b);
}

/* What the server is asked for, from nbdkit's log: FUA where it has it, else a flush after the write. */
static void flush_and_fua(void **state)
{
    struct fixture *f = *state;
    static const char *const modes[] = {"fuamode=native",
                                        "" /* none: nbdkit 1.32 does not take it by name */};
    for (unsigned i = 0; i < 2; i++) {
        char line[256];
        uint8_t buf[512] = {0};
        struct op op;
        snprintf(line, sizeof(line), "--filter=log --filter=fua file disk logfile=log %s",
                 modes[i]);
        shell(f, "truncate -s 1M disk; rm -f log");
        start_server(f, line);
        struct block *b = open_as(f, "raw", NULL, false);
        submit(b, &op, BLOCK_WRITE, 4096, buf, 512, true);
        await(f, &op);
        assert_int_equal(op.error, 0);
        shell(f, i == 0 ? "grep -q 'Write .*offset=0x1000.* fua=1' log && ! grep -q Flush log"
                        : "grep -q 'Write .*offset=0x1000.* fua=0' log && grep -q Flush log");
        assert_int_equal(do_op(f, b, BLOCK_WRITE, 8192, buf, 512), 0);
        assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), 0);
        shell(f, "sed -n '/offset=0x2000/,$p' log | grep -q Flush");
        assert_int_equal(do_op(f, b, BLOCK_WRITE, 12288, buf, 512), 0);
        block_close(b); /* flushes */
        shell(f, "sed -n '/offset=0x3000/,$p' log | grep -q Flush");
        stop_server(f);
    }
}

/* Requests that the server has when it dies fail; later ones wait for the next server, as long as it
 * comes soon. SIGPIPE has its default action here: writing to the dead server does not raise it. */
static void server_dies(void **state)
{
    struct fixture *f = *state;
    enum { N = 24 };
    static uint8_t bufs[N][4096];
    static struct op ops[N];
    uint8_t buf[512];
    signal(SIGPIPE, SIG_DFL);
    shell(f, "truncate -s 4M disk");
    start_server(f, "--filter=delay file disk rdelay=30");
    struct block *b = open_as(f, "raw", NULL, false);
    memset(buf, 7, sizeof(buf));
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 0, buf, 512), 0);
    for (unsigned i = 0; i < N; i++) {
        submit(b, &ops[i], BLOCK_READ, i * 4096, bufs[i], 4096, false);
    }
    loop_poll(f->loop, 0);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(ops[i].calls, 0);
    }
    stop_server(f);
    for (unsigned i = 0; i < N; i++) {
        await(f, &ops[i]);
        assert_int_equal(ops[i].error, -EIO);
    }
    struct op later;
    submit(b, &later, BLOCK_READ, 0, buf, 512, false);
    loop_poll(f->loop, 0);
    assert_int_equal(later.calls, 0);
    start_server(f, "file disk");
    await(f, &later);
    assert_int_equal(later.error, 0);
    assert_int_equal(buf[0], 7);
    /* The write was not flushed when the server died: the next flush cannot promise it. */
    assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), -EIO);
    assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    /* Flushed before: nothing is lost. */
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 512, buf, 512), 0);
    assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    stop_server(f);
    start_server(f, "file disk");
    (void)do_op(f, b, BLOCK_READ, 0, buf, 512); /* this one may learn of it */
    assert_int_equal(do_op(f, b, BLOCK_READ, 0, buf, 512), 0);
    assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    /* Another image in its place is not taken. */
    stop_server(f);
    start_server(f, "memory 8M");
    (void)do_op(f, b, BLOCK_READ, 0, buf, 512);
    assert_int_equal(do_op(f, b, BLOCK_READ, 0, buf, 512), -EIO); /* after HOLD_NS */
    /* Now requests fail at once, and close does not wait either. */
    submit(b, &later, BLOCK_WRITE, 0, buf, 512, false);
    assert_int_equal(later.calls, 1);
    assert_int_equal(later.error, -EIO);
    /* The right one is found again: each request is worth an attempt, one a second. */
    stop_server(f);
    start_server(f, "file disk");
    for (int i = 0; i < 100 && do_op(f, b, BLOCK_READ, 0, buf, 512) != 0; i++) {
        loop_poll(f->loop, 50000000);
    }
    assert_int_equal(do_op(f, b, BLOCK_READ, 0, buf, 512), 0);
    block_close(b);
}

/* Closing while a thread tries to connect. */
static void close_while_dead(void **state)
{
    struct fixture *f = *state;
    struct op op;
    uint8_t buf[512];
    start_server(f, "memory 1M");
    struct block *b = open_as(f, "raw", NULL, false);
    stop_server(f);
    (void)do_op(f, b, BLOCK_READ, 0, buf, 512);
    submit(b, &op, BLOCK_READ, 0, buf, 512, false);
    start_server(f, "memory 1M");
    block_close(b); /* waits for op */
    assert_int_equal(op.calls, 1);
    assert_int_equal(op.error, 0);
}

/* Two opens of one target share the connection and see each other's writes. */
static void shared(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[512], got[512];
    start_server(f, "memory 1M");
    struct block *a = open_as(f, "raw", NULL, false), *b = open_as(f, "raw", NULL, false);
    assert_ptr_equal(a, b);
    memset(buf, 3, sizeof(buf));
    assert_int_equal(do_op(f, a, BLOCK_WRITE, 512, buf, 512), 0);
    block_close(a);
    assert_int_equal(do_op(f, b, BLOCK_READ, 512, got, 512), 0);
    assert_memory_equal(buf, got, 512);
    block_close(b);
}

/* Formats on a network image: it does not grow. */
static void formats(void **state)
{
    struct fixture *f = *state;
    static uint8_t buf[2 * MIB];
    shell(f, "mkdir d; for s in fixed dynamic; do qemu-img create -q -f vpc "
             "-o subformat=$s,force_size=on d/$s 8M; qemu-io -f vpc -c 'write -P 0x42 1M 64k' "
             "d/$s >/dev/null; done; cp d/dynamic d/roomy; truncate -s 16M d/roomy; "
             "tr '\\0' U </dev/zero | dd of=d/roomy bs=64k seek=48 count=160 iflag=fullblock "
             "conv=notrunc status=none");
    start_server(f, "file dir=d");
    for (unsigned i = 0; i < 3; i++) {
        static const char *const names[] = {"fixed", "dynamic", "roomy"};
        struct block *b = open_as(f, "vpc", names[i], false);
        assert_int_equal(block_size_bytes(b), 8 * MIB);
        assert_int_equal(do_op(f, b, BLOCK_READ, MIB, buf, 65536), 0);
        assert_int_equal(buf[0], 0x42);
        assert_int_equal(buf[65535], 0x42);
        memset(buf, 0x17, sizeof(buf));
        assert_int_equal(do_op(f, b, BLOCK_WRITE, MIB + 512, buf, 4096), 0);
        assert_int_equal(do_op(f, b, BLOCK_WRITE, 5 * MIB, buf, 512), i == 1 ? -ENOSPC : 0);
        /* What was in the room before is not seen. */
        assert_int_equal(do_op(f, b, BLOCK_READ, 4 * MIB, buf, 2 * MIB), 0);
        for (size_t k = 0; k < sizeof(buf); k++) {
            assert_int_equal(buf[k], i != 1 && k >= MIB && k < MIB + 512 ? 0x17 : 0);
        }
        block_close(b);
        b = open_as(f, "vpc", names[i], true);
        assert_int_equal(do_op(f, b, BLOCK_READ, 5 * MIB, buf, 512), 0);
        assert_int_equal(buf[0], i == 1 ? 0 : 0x17);
        block_close(b);
    }
    shell(f, "qemu-img convert -f vpc -O raw d/roomy r && qemu-img convert -f vpc -O raw d/fixed q "
             "&& cmp r q");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets),
        T(open_errors),
        T(data),
        T(block_sizes),
        T(odd_size),
        T(export_names),
        T(readonly),
        T(server_errors),
        T(flush_and_fua),
        T(server_dies),
        T(close_while_dead),
        T(shared),
        T(formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
