/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images: opening, raw files, completions from workers, errors, draining. */
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/block.h"
#include "core/loop.h"
#include "tests/unit/block_fake.h"

enum { SIZE = 1 << 20 };

struct fixture {
    struct loop *loop;
    char path[64];
    struct block *b;
};

static uint8_t pattern(uint64_t i)
{
    return (uint8_t)(i * 7 ^ i >> 8);
}

static struct block *open_image(struct fixture *f, bool readonly, bool cdrom)
{
    char err[256] = "";
    const struct block_config cfg = {
        .path = f->path, .format = "raw", .fd = -1, .readonly = readonly, .cdrom = cdrom
    };
    struct block *b = block_open(f->loop, &cfg, err, sizeof(err));
    if (b == NULL) {
        fail_msg("%s", err);
    }
    return b;
}

static void fill(const char *path, size_t len)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (size_t i = 0; i < len; i++) {
        fputc(pattern(i), out);
    }
    assert_int_equal(fclose(out), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->loop = loop_create(false);
    snprintf(f->path, sizeof(f->path), "/tmp/hvm-dm-test.XXXXXX");
    int fd = mkstemp(f->path);
    assert_true(fd >= 0);
    close(fd);
    fill(f->path, SIZE);
    f->b = open_image(f, false, false);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    block_close(f->b);
    loop_destroy(f->loop);
    unlink(f->path);
    free(f);
    return 0;
}

struct op {
    struct block_request req;
    int error;
    unsigned calls;
};

static void on_done(struct block_request *req, int error)
{
    struct op *op = req->opaque;
    op->error = error;
    op->calls++;
}

static void submit(struct block *b, struct op *op, enum block_op what, uint64_t offset,
                   struct iovec *iov, int n, uint64_t len)
{
    memset(op, 0, sizeof(*op));
    op->req.op = what;
    op->req.offset_bytes = offset;
    op->req.length_bytes = len;
    for (int i = 0; i < n; i++) {
        op->req.length_bytes += iov[i].iov_len;
    }
    op->req.iov = iov;
    op->req.iovcnt = n;
    op->req.done = on_done;
    op->req.opaque = op;
    block_submit(b, &op->req);
}

/* Submits and runs the loop until it is done. */
static int do_op(struct fixture *f, enum block_op what, uint64_t offset, void *buf, size_t len)
{
    struct op op;
    struct iovec iov = { buf, len };
    bool data = what == BLOCK_READ || what == BLOCK_WRITE;
    submit(f->b, &op, what, offset, &iov, data ? 1 : 0, data ? 0 : len);
    for (int i = 0; i < 1000 && op.calls == 0; i++) {
        loop_poll(f->loop, 10000000);
    }
    assert_int_equal(op.calls, 1);
    return op.error;
}

static void open_errors(void **state)
{
    struct fixture *f = *state;
    char fifo[80], err[256];
    snprintf(fifo, sizeof(fifo), "%s.fifo", f->path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const struct {
        struct block_config cfg;
        const char *want; /* part of the message */
    } rows[] = {
        { { .path = "/nonexistent/disk.img", .format = "raw", .fd = -1 }, "/nonexistent/disk.img" },
        { { .path = "/tmp", .format = "raw", .fd = -1, .readonly = true },
          "neither a file nor a block device" },
        { { .path = "/dev/null", .format = "raw", .fd = -1 }, "/dev/null" },
        { { .path = fifo, .format = "raw", .fd = -1 }, "neither a file nor a block device" },
        { { .path = f->path, .format = "qcow9", .fd = -1 }, "'qcow9' is not supported" },
        { { .fd = -1, .format = "raw" }, "no image" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        err[0] = 0;
        assert_null(block_open(f->loop, &rows[i].cfg, err, sizeof(err)));
        if (strstr(err, rows[i].want) == NULL) {
            fail_msg("'%s' does not say '%s'", err, rows[i].want);
        }
        assert_null(strchr(err, '\n'));
    }
    unlink(fifo);
    assert_int_equal(truncate(f->path, 0), 0);
    const struct block_config empty = { .path = f->path, .fd = -1 };
    assert_null(block_open(f->loop, &empty, err, sizeof(err)));
    assert_non_null(strstr(err, "is empty"));
}

static void by_descriptor(void **state)
{
    struct fixture *f = *state;
    char err[256];
    int fd = open(f->path, O_RDONLY);
    struct block_config cfg = { .fd = fd, .format = "raw" };
    assert_null(block_open(f->loop, &cfg, err,
                           sizeof(err))); /* not writable, and the descriptor stays ours */
    assert_int_equal(fcntl(fd, F_GETFD) >= 0, 1);
    cfg.readonly = true;
    struct block *b = block_open(f->loop, &cfg, err, sizeof(err));
    assert_non_null(b);
    assert_int_equal(block_size_bytes(b), SIZE);
    block_close(b);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken over */
}

static void sizes(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(truncate(f->path, 5 * 2048 + 700), 0);
    struct block *disk = open_image(f, false, false), *cd = open_image(f, true, true);
    assert_int_equal(block_size_bytes(disk), 5 * 2048 + 1024); /* a partial sector counts, padded */
    assert_int_equal(block_size_bytes(cd), 5 * 2048);
    uint8_t buf[1024];
    memset(buf, 0xee, sizeof(buf));
    struct block *mine = f->b;
    f->b = disk;
    assert_int_equal(do_op(f, BLOCK_READ, 5 * 2048, buf, 1024), 0);
    for (unsigned i = 0; i < 1024; i++) {
        assert_int_equal(buf[i], i < 700 ? pattern(5 * 2048 + i) : 0);
    }
    assert_int_equal(do_op(f, BLOCK_READ, 5 * 2048 + 512, buf, 1024), -EIO); /* past the end */
    f->b = mine;
    block_close(disk);
    block_close(cd);
}

static void read_and_write(void **state)
{
    struct fixture *f = *state;
    static uint8_t buf[SIZE];
    assert_int_equal(do_op(f, BLOCK_READ, 0, buf, SIZE), 0);
    for (size_t i = 0; i < SIZE; i++) {
        assert_int_equal(buf[i], pattern(i));
    }
    uint8_t a[1000], b[24], c[512];
    memset(a, 1, sizeof(a));
    memset(b, 2, sizeof(b));
    memset(c, 3, sizeof(c));
    struct iovec iov[] = { { a, sizeof(a) }, { b, sizeof(b) }, { c, sizeof(c) } };
    struct op op;
    submit(f->b, &op, BLOCK_WRITE, 12345, iov, 3, 0);
    while (op.calls == 0) {
        loop_poll(f->loop, 10000000);
    }
    assert_int_equal(op.error, 0);
    assert_int_equal(do_op(f, BLOCK_READ, 12340, buf, 1600), 0);
    assert_int_equal(buf[4], pattern(12344));
    assert_int_equal(buf[5], 1);
    assert_int_equal(buf[5 + 1000], 2);
    assert_int_equal(buf[5 + 1024 + 511], 3);
    assert_int_equal(buf[5 + 1024 + 512], pattern(12345 + 1536));
    assert_int_equal(do_op(f, BLOCK_FLUSH, 0, NULL, 0), 0);
    const struct block_stats *s = block_get_stats(f->b);
    assert_int_equal(s->rd_operations, 2);
    assert_int_equal(s->rd_bytes, SIZE + 1600);
    assert_int_equal(s->wr_operations, 1);
    assert_int_equal(s->wr_bytes, 1536);
    assert_int_equal(s->flush_operations, 1);
}

static void fua_and_discard(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[4096];
    struct op op;
    struct iovec iov = { buf, sizeof(buf) };
    memset(buf, 0x42, sizeof(buf));
    memset(&op, 0, sizeof(op));
    op.req = (struct block_request){ .op = BLOCK_WRITE,
                                     .fua = true,
                                     .offset_bytes = 8192,
                                     .length_bytes = 4096,
                                     .iov = &iov,
                                     .iovcnt = 1,
                                     .done = on_done,
                                     .opaque = &op };
    block_submit(f->b, &op.req);
    assert_int_equal(block_drain(f->b), 0);
    assert_int_equal(op.calls, 1);
    assert_int_equal(op.error, 0);
    assert_int_equal(do_op(f, BLOCK_DISCARD, 8192, NULL, 65536), 0);
    assert_int_equal(do_op(f, BLOCK_READ, 8192, buf, 4096), 0);
    assert_true(buf[0] == 0 || buf[0] == 0x42); /* advice */
    assert_int_equal(do_op(f, BLOCK_READ, 8192 + 65536, buf, 1), 0);
    assert_int_equal(buf[0], pattern(8192 + 65536));
}

static void refusals(void **state)
{
    struct fixture *f = *state;
    struct block *mine = f->b, *ro = open_image(f, true, false);
    uint8_t buf[512] = { 0 };
    assert_true(block_readonly(ro));
    f->b = ro;
    assert_int_equal(do_op(f, BLOCK_WRITE, 0, buf, 512), -EROFS);
    assert_int_equal(do_op(f, BLOCK_DISCARD, 0, NULL, 512), -EROFS);
    assert_int_equal(do_op(f, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(do_op(f, BLOCK_READ, SIZE, buf, 512), -EIO);
    assert_int_equal(do_op(f, BLOCK_READ, UINT64_MAX - 100, buf, 512), -EIO);
    assert_int_equal(do_op(f, BLOCK_READ, SIZE - 512, buf, 512), 0);
    f->b = mine;
    block_close(ro);
    struct op op;
    struct iovec iov = { buf, 512 };
    submit(f->b, &op, BLOCK_READ, 0, &iov, 1, 100); /* length is not the sum */
    assert_int_equal(op.error, -EINVAL);
}

static void truncated_under_us(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[4096];
    assert_int_equal(truncate(f->path, 65536), 0);
    assert_int_equal(do_op(f, BLOCK_READ, 65536, buf, 4096), -EIO);
    assert_int_equal(do_op(f, BLOCK_READ, 65536 - 512, buf, 4096), -EIO);
    assert_int_equal(do_op(f, BLOCK_READ, 61440, buf, 4096), 0);
}

/* Cold cache: requests go to the workers, complete in any order, each once. */
static void many_cold_requests(void **state)
{
    struct fixture *f = *state;
    enum { N = 64, LEN = 4096 };
    static uint8_t bufs[N][LEN];
    static struct op ops[N];
    static struct iovec iov[N];
    int fd = open(f->path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    for (unsigned i = 0; i < N; i++) {
        iov[i] = (struct iovec){ bufs[i], LEN };
        submit(f->b, &ops[i], BLOCK_READ, (uint64_t)((i * 37) % N) * LEN * 3, &iov[i], 1, 0);
    }
    struct op flush;
    submit(f->b, &flush, BLOCK_FLUSH, 0, NULL, 0, 0);
    assert_int_equal(block_drain(f->b), 0); /* without the loop */
    assert_int_equal(flush.calls, 1);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(ops[i].calls, 1);
        assert_int_equal(ops[i].error, 0);
        for (unsigned k = 0; k < LEN; k++) {
            assert_int_equal(bufs[i][k], pattern((uint64_t)((i * 37) % N) * LEN * 3 + k));
        }
    }
    loop_poll(f->loop, 0); /* the notification that drain overtook */
}

static void close_with_requests(void **state)
{
    struct fixture *f = *state;
    struct op ops[8];
    for (unsigned i = 0; i < 8; i++) {
        submit(f->b, &ops[i], BLOCK_FLUSH, 0, NULL, 0, 0);
    }
    block_close(f->b);
    f->b = NULL;
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(ops[i].calls, 1);
    }
    loop_poll(f->loop, 0);
}

/* A file size limit stands for the full file system: the error arrives, and when the condition
 * clears, writes work. */
static void host_write_error(void **state)
{
    struct fixture *f = *state;
    struct rlimit old, low;
    uint8_t buf[4096];
    memset(buf, 9, sizeof(buf));
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = SIZE / 2;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    assert_int_equal(do_op(f, BLOCK_WRITE, SIZE / 2 + 4096, buf, 4096), -EFBIG);
    assert_int_equal(do_op(f, BLOCK_WRITE, SIZE / 2 - 2048, buf, 4096),
                     -EFBIG); /* part of it went out */
    assert_int_equal(do_op(f, BLOCK_WRITE, 0, buf, 4096), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(do_op(f, BLOCK_WRITE, SIZE / 2 - 2048, buf, 4096), 0);
    memset(buf, 0, sizeof(buf));
    assert_int_equal(do_op(f, BLOCK_READ, SIZE / 2 - 2048, buf, 4096), 0);
    assert_int_equal(buf[0], 9);
    assert_int_equal(buf[4095], 9);
}

/* The fake image of the drive tests answers as a block does. */
static void fake_backend(void **state)
{
    struct fixture *f = *state;
    struct block *b = block_fake_create(f->loop, 4096, false), *mine = f->b;
    uint8_t buf[512] = { 0 };
    f->b = b;
    assert_int_equal(do_op(f, BLOCK_READ, 512, buf, 512), 0);
    assert_int_equal(buf[7], block_fake_byte(519));
    block_fake_fail(b, BLOCK_READ, 600, -EIO);
    assert_int_equal(do_op(f, BLOCK_READ, 512, buf, 512), -EIO);
    assert_int_equal(do_op(f, BLOCK_READ, 0, buf, 512), 0);
    f->b = mine;
    block_close(b);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(open_errors),        T(by_descriptor),      T(sizes),
        T(read_and_write),     T(fua_and_discard),    T(refusals),
        T(truncated_under_us), T(many_cold_requests), T(close_with_requests),
        T(host_write_error),   T(fake_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
