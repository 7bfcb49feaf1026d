/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Raw images on a real host: every test runs twice, with io_uring and where the kernel forbids it
 * (a seccomp filter). Host conditions are real: a full file system, a loop device, truncated files. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/loop.h>

#include <cmocka.h>

#include "block/block.h"
#include "block/uring.h"
#include "core/loop.h"

enum { SIZE = 4 << 20, PAGE = 4096 };

static bool threads_only; /* the second run */

struct fixture {
    struct loop *loop;
    char path[64];
    struct block *b;
};

struct op {
    struct block_request req;
    struct iovec iov[BLOCK_IOV_MAX];
    int error;
    unsigned calls;
    struct block *drain, *close; /* in the callback */
};

static uint8_t pattern(uint64_t i)
{
    return (uint8_t)(i * 11 ^ i >> 9);
}

static void fill(const char *path, size_t len)
{
    static uint8_t buf[SIZE];
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (size_t i = 0; i < len; i++) {
        buf[i] = pattern(i);
    }
    assert_int_equal(fwrite(buf, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
}

static struct block *open_path(struct fixture *f, const char *path, bool direct)
{
    char err[256] = "";
    const struct block_config cfg = {.path = path, .fd = -1, .direct = direct};
    struct block *b = block_open(f->loop, &cfg, err, sizeof(err));
    if (b == NULL) {
        fail_msg("%s", err);
    }
    return b;
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
    f->b = open_path(f, f->path, false);
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

static void on_done(struct block_request *req, int error)
{
    struct op *op = req->opaque;
    op->error = error;
    op->calls++;
    if (op->drain != NULL) {
        assert_int_equal(block_drain(op->drain), 0);
    }
    block_close(op->close);
}

/* One request on one buffer, not waited for. */
static void submit(struct block *b, struct op *op, enum block_op what, uint64_t offset, void *buf,
                   size_t len)
{
    op->calls = 0;
    op->iov[0] = (struct iovec){buf, len};
    op->req = (struct block_request){.op = what,
                                     .offset_bytes = offset,
                                     .length_bytes = len,
                                     .iov = op->iov,
                                     .iovcnt = 1,
                                     .done = on_done,
                                     .opaque = op};
    block_submit(b, &op->req);
}

static int finish(struct fixture *f, struct op *op)
{
    for (int i = 0; i < 3000 && op->calls == 0; i++) {
        loop_poll(f->loop, 10000000);
    }
    assert_int_equal(op->calls, 1);
    return op->error;
}

static int do_op(struct fixture *f, struct block *b, enum block_op what, uint64_t offset, void *buf,
                 size_t len)
{
    struct op op = {0};
    submit(b, &op, what, offset, buf, len);
    return finish(f, &op);
}

/* Drops the image from the page cache. */
static void evict(const char *path)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static bool has_ring(void)
{
    for (int fd = 0; fd < 64; fd++) {
        char path[32], to[64];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, to, sizeof(to) - 1);
        if (n > 0) {
            to[n] = 0;
            if (strstr(to, "io_uring") != NULL) {
                return true;
            }
        }
    }
    return false;
}

static bool kernel_has_uring(void)
{
    struct io_uring ring;
    if (io_uring_queue_init(4, &ring, 0) != 0) {
        return false;
    }
    io_uring_queue_exit(&ring);
    return true;
}

/* Where stderr goes meanwhile. */
struct capture {
    int saved, fd;
};

static struct capture capture_start(void)
{
    struct capture c = {.saved = dup(2), .fd = memfd_create("stderr", MFD_CLOEXEC)};
    assert_true(c.saved >= 0 && c.fd >= 0);
    assert_int_equal(dup2(c.fd, 2), 2);
    return c;
}

/* How often `what` was written since. */
static unsigned capture_end(struct capture *c, const char *what)
{
    static char text[65536];
    unsigned n = 0;
    assert_int_equal(dup2(c->saved, 2), 2);
    ssize_t len = pread(c->fd, text, sizeof(text) - 1, 0);
    assert_true(len >= 0);
    text[len] = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++) {
        n++;
    }
    close(c->fd);
    close(c->saved);
    return n;
}

/* ---- tests ---- */

/* Nothing is made before it is needed; then a ring where there is one, else threads, said once. */
static void way_is_chosen(void **state)
{
    struct fixture *f = *state;
    static unsigned said;
    uint8_t buf[PAGE];
    struct capture c = capture_start();
    bool before = has_ring();
    int rc = do_op(f, f->b, BLOCK_FLUSH, 0, NULL, 0);
    bool after = has_ring();
    said += capture_end(&c, "io_uring is not available");
    assert_int_equal(rc, 0);
    assert_false(before);
    assert_int_equal(after, !threads_only && kernel_has_uring());
    assert_int_equal(said, kernel_has_uring() ? 0 : 1);
    assert_int_equal(do_op(f, f->b, BLOCK_WRITE, 0, buf, sizeof(buf)), 0);
    struct block *second = open_path(f, f->path, false);
    c = capture_start();
    rc = do_op(f, second, BLOCK_FLUSH, 0, NULL, 0);
    said += capture_end(&c, "io_uring is not available");
    assert_int_equal(rc, 0);
    assert_true(said <= 1);
    block_close(second);
}

/* More requests at once than the ring has room for, from a cold cache, flushes among them. */
static void many_at_once(void **state)
{
    struct fixture *f = *state;
    enum { N = 5 * URING_DEPTH };
    static struct op ops[N], flush[8];
    static uint8_t bufs[N][PAGE];
    evict(f->path);
    for (unsigned i = 0; i < N; i++) {
        submit(f->b, &ops[i], BLOCK_READ, (uint64_t)(i * 37 % N) * PAGE, bufs[i], PAGE);
        if (i % (N / 8) == 0) {
            submit(f->b, &flush[i / (N / 8)], BLOCK_FLUSH, 0, NULL, 0);
        }
    }
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(finish(f, &ops[i]), 0);
        for (unsigned k = 0; k < PAGE; k += 7) {
            assert_int_equal(bufs[i][k], pattern((uint64_t)(i * 37 % N) * PAGE + k));
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(finish(f, &flush[i]), 0);
    }
}

/* A scattered request whose first bytes are cached and whose rest is not: it goes on in the middle
 * of a piece. */
static void partly_cached(void **state)
{
    struct fixture *f = *state;
    static uint8_t buf[64 * 5000];
    for (unsigned cached = 0; cached < 64 * 5000; cached += 3 * PAGE) {
        struct op op = {0};
        evict(f->path);
        int fd = open(f->path, O_RDONLY);
        assert_true(fd >= 0);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
        assert_int_equal(pread(fd, buf, cached, 512), cached);
        close(fd);
        memset(buf, 0xee, sizeof(buf));
        for (int i = 0; i < 64; i++) {
            op.iov[i] = (struct iovec){buf + (63 - i) * 5000, 5000};
        }
        op.req = (struct block_request){.op = BLOCK_READ,
                                        .offset_bytes = 512,
                                        .length_bytes = sizeof(buf),
                                        .iov = op.iov,
                                        .iovcnt = 64,
                                        .done = on_done,
                                        .opaque = &op};
        block_submit(f->b, &op.req);
        assert_int_equal(finish(f, &op), 0);
        for (unsigned i = 0; i < 64 * 5000; i += 3) {
            assert_int_equal(buf[(63 - i / 5000) * 5000 + i % 5000], pattern(512 + i));
        }
        for (int i = 0; i < 64; i++) {
            assert_int_equal(op.iov[i].iov_len, 5000); /* the caller's list is as it was */
        }
    }
}

static void fua_scattered_write(void **state)
{
    struct fixture *f = *state;
    static uint8_t in[16 * 3000], out[16 * 3000];
    struct op op = {0};
    for (unsigned i = 0; i < sizeof(in); i++) {
        in[i] = (uint8_t)(i * 31 >> 3);
    }
    for (int i = 0; i < 16; i++) {
        op.iov[i] = (struct iovec){in + i * 3000, 3000};
    }
    op.req = (struct block_request){.op = BLOCK_WRITE,
                                    .fua = true,
                                    .offset_bytes = 1234,
                                    .length_bytes = sizeof(in),
                                    .iov = op.iov,
                                    .iovcnt = 16,
                                    .done = on_done,
                                    .opaque = &op};
    block_submit(f->b, &op.req);
    assert_int_equal(finish(f, &op), 0);
    int fd = open(f->path, O_RDONLY);
    assert_int_equal(pread(fd, out, sizeof(out), 1234), sizeof(out));
    close(fd);
    assert_memory_equal(in, out, sizeof(in));
}

static void discard_makes_holes(void **state)
{
    struct fixture *f = *state;
    struct stat before, after;
    uint8_t buf[PAGE];
    assert_int_equal(do_op(f, f->b, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(stat(f->path, &before), 0);
    assert_int_equal(do_op(f, f->b, BLOCK_DISCARD, SIZE / 2, NULL, SIZE / 4), 0);
    assert_int_equal(stat(f->path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    if (after.st_blocks < before.st_blocks) { /* a file system that has holes */
        assert_int_equal(do_op(f, f->b, BLOCK_READ, SIZE / 2, buf, PAGE), 0);
        assert_int_equal(buf[0] | buf[PAGE - 1], 0);
    }
    assert_int_equal(do_op(f, f->b, BLOCK_READ, SIZE * 3 / 4, buf, PAGE), 0);
    assert_int_equal(buf[1], pattern(SIZE * 3 / 4 + 1));
}

/* An image that was cut short under us answers -EIO, said once; when it is whole again, it works. */
static void truncated_and_whole_again(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[2 * PAGE];
    int errors[3];
    struct capture c = capture_start();
    assert_int_equal(truncate(f->path, SIZE / 2), 0);
    errors[0] = do_op(f, f->b, BLOCK_READ, SIZE / 2 - PAGE, buf, 2 * PAGE);
    errors[1] = do_op(f, f->b, BLOCK_READ, SIZE - PAGE, buf, PAGE);
    errors[2] = do_op(f, f->b, BLOCK_READ, SIZE / 2, buf, PAGE);
    unsigned said = capture_end(&c, "Input/output error");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(errors[i], -EIO);
    }
    assert_int_equal(said, 1);
    assert_int_equal(do_op(f, f->b, BLOCK_READ, SIZE / 2 - PAGE, buf, PAGE), 0);
    assert_int_equal(buf[0], pattern(SIZE / 2 - PAGE));
    assert_int_equal(truncate(f->path, SIZE), 0);
    assert_int_equal(do_op(f, f->b, BLOCK_READ, SIZE / 2 - PAGE, buf, 2 * PAGE), 0);
    assert_int_equal(buf[PAGE], 0);
}

/* Requests end while somebody else's callback waits for all of them. */
static void drain_in_a_callback(void **state)
{
    struct fixture *f = *state;
    static struct op ops[16];
    memset(ops, 0, sizeof(ops));
    for (unsigned i = 0; i < 16; i++) {
        ops[i].drain = i % 4 == 0 ? f->b : NULL;
        submit(f->b, &ops[i], BLOCK_FLUSH, 0, NULL, 0);
    }
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(finish(f, &ops[i]), 0);
    }
}

/* The last request's callback closes the image, another one's before it, with some in flight. */
static void close_in_a_callback(void **state)
{
    struct fixture *f = *state;
    for (unsigned closer = 0; closer < 4; closer += 3) {
        struct op ops[4] = {0};
        struct block *b = open_path(f, f->path, false);
        ops[closer].close = b;
        for (unsigned i = 0; i < 4; i++) {
            submit(b, &ops[i], BLOCK_FLUSH, 0, NULL, 0);
        }
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(finish(f, &ops[i]), 0);
        }
        loop_poll(f->loop, 0);
    }
}

static void close_under_load(void **state)
{
    struct fixture *f = *state;
    static struct op ops[100];
    static uint8_t bufs[100][PAGE];
    evict(f->path);
    for (unsigned i = 0; i < 100; i++) {
        submit(f->b, &ops[i], i % 2 ? BLOCK_READ : BLOCK_WRITE, (uint64_t)i * PAGE, bufs[i], PAGE);
    }
    block_close(f->b);
    f->b = NULL;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(ops[i].calls, 1);
        assert_int_equal(ops[i].error, 0);
    }
    loop_poll(f->loop, 0);
}

/* O_DIRECT: whatever the alignment of memory, offset and length, and together with cached access. */
static void direct(void **state)
{
    struct fixture *f = *state;
    struct block *b = open_path(f, f->path, true);
    uint8_t *mem = NULL;
    assert_int_equal(posix_memalign((void **)&mem, PAGE, 64 << 10), 0);
    static const struct {
        unsigned shift, offset, len;
    } rows[] = {{0, 0, 64 << 10},  {0, PAGE, PAGE},  {0, 512, 512},       {2, PAGE, PAGE},
                {512, 8192, 8192}, {0, 100, PAGE},   {0, PAGE, 1000},     {0, SIZE - PAGE, PAGE},
                {1, 1, 1},         {16, 512, 20480}, {0, SIZE - 512, 512}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t *p = mem + rows[i].shift;
        evict(f->path);
        assert_int_equal(do_op(f, b, BLOCK_READ, rows[i].offset, p, rows[i].len), 0);
        for (unsigned k = 0; k < rows[i].len; k++) {
            assert_int_equal(p[k], pattern(rows[i].offset + k));
        }
        memset(p, (int)(0x30 + i), rows[i].len);
        assert_int_equal(do_op(f, b, BLOCK_WRITE, rows[i].offset, p, rows[i].len), 0);
        memset(p, 0, rows[i].len);
        assert_int_equal(do_op(f, f->b, BLOCK_READ, rows[i].offset, p, rows[i].len), 0);
        for (unsigned k = 0; k < rows[i].len; k++) {
            assert_int_equal(p[k], 0x30 + i);
            p[k] = pattern(rows[i].offset + k);
        }
        assert_int_equal(do_op(f, f->b, BLOCK_WRITE, rows[i].offset, p, rows[i].len), 0);
    }
    /* A file that ends in the middle of a sector. */
    assert_int_equal(truncate(f->path, SIZE - 300), 0);
    struct block *odd = open_path(f, f->path, true);
    assert_int_equal(do_op(f, odd, BLOCK_READ, SIZE - PAGE, mem, PAGE), 0);
    for (unsigned k = 0; k < PAGE; k++) {
        assert_int_equal(mem[k], k < PAGE - 300 ? pattern(SIZE - PAGE + k) : 0);
    }
    block_close(odd);
    block_close(b);
    free(mem);
}

/* A file system of our own of 1 MiB, with a sparse image larger than it. False: not allowed. */
static bool small_fs(char *dir)
{
    char image[96];
    strcpy(dir, "/tmp/hvm-dm-fs.XXXXXX");
    assert_non_null(mkdtemp(dir));
    if (mount("hvm-dm-test", dir, "tmpfs", 0, "size=1m") != 0) {
        rmdir(dir);
        return false;
    }
    snprintf(image, sizeof(image), "%s/disk.img", dir);
    int fd = open(image, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    close(fd);
    return true;
}

static void small_fs_end(const char *dir)
{
    assert_int_equal(umount2(dir, MNT_DETACH), 0);
    rmdir(dir);
}

/* Takes all free space but `spare` bytes. */
static void take_space(const char *dir, size_t spare)
{
    static uint8_t zeros[PAGE];
    char path[96];
    off_t size = 0;
    snprintf(path, sizeof(path), "%s/filler", dir);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    while (pwrite(fd, zeros, sizeof(zeros), size) == (ssize_t)sizeof(zeros)) {
        size += (off_t)sizeof(zeros);
    }
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(ftruncate(fd, size - (off_t)spare), 0);
    close(fd);
}

static void give_space(const char *dir)
{
    char path[96];
    snprintf(path, sizeof(path), "%s/filler", dir);
    assert_int_equal(unlink(path), 0);
}

/* A full file system: -ENOSPC, said once; other images work; with space, the same write works. */
static void no_space(void **state)
{
    struct fixture *f = *state;
    char dir[32], image[96];
    static uint8_t buf[16 * PAGE], back[16 * PAGE];
    int errors[5], other = 0;
    memset(buf, 0x77, sizeof(buf));
    if (!small_fs(dir)) {
        skip();
    }
    snprintf(image, sizeof(image), "%s/disk.img", dir);
    struct block *b = open_path(f, image, false);
    take_space(dir, 4 * PAGE);
    struct capture c = capture_start();
    for (int i = 0; i < 5; i++) {
        errors[i] = do_op(f, b, BLOCK_WRITE, (uint64_t)i * PAGE, buf, sizeof(buf));
        other |= do_op(f, f->b, BLOCK_WRITE, 0, buf, sizeof(buf));
    }
    unsigned said = capture_end(&c, "No space left on device");
    for (int i = 0; i < 5; i++) {
        assert_int_equal(errors[i], -ENOSPC);
    }
    assert_int_equal(other, 0);
    assert_int_equal(said, 1);
    give_space(dir);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, PAGE, buf, sizeof(buf)), 0);
    assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(do_op(f, b, BLOCK_READ, PAGE, back, sizeof(back)), 0);
    assert_memory_equal(buf, back, sizeof(buf));
    block_close(b);
    small_fs_end(dir);
}

/* A loop device on image; its number, or -1. */
static int loop_attach(const char *image, char *path, size_t len)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), n = -1;
    int file = open(image, O_RDWR | O_CLOEXEC);
    assert_true(file >= 0);
    for (int tries = 0; control >= 0 && n < 0 && tries < 10; tries++) {
        n = ioctl(control, LOOP_CTL_GET_FREE);
        if (n < 0) {
            break;
        }
        snprintf(path, len, "/dev/loop%d", n);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || ioctl(fd, LOOP_SET_FD, file) != 0) {
            n = -1; /* somebody else was faster */
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    close(file);
    if (control >= 0) {
        close(control);
    }
    return n;
}

static void loop_detach(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ioctl(fd, LOOP_CLR_FD), 0);
    close(fd);
}

static void loop_resize(const char *image, const char *dev, off_t size)
{
    int fd = open(dev, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(truncate(image, size), 0);
    assert_int_equal(ioctl(fd, LOOP_SET_CAPACITY, 0), 0);
    close(fd);
}

/* Block devices: the same behaviour; an error that the host meets when it writes back its cache is
 * the flush's. */
static void block_device(void **state)
{
    struct fixture *f = *state;
    char dir[32], image[96], dev[32];
    static uint8_t buf[64 * PAGE], back[64 * PAGE];
    memset(buf, 0x66, sizeof(buf));
    if (!small_fs(dir)) {
        skip();
    }
    snprintf(image, sizeof(image), "%s/disk.img", dir);
    if (loop_attach(image, dev, sizeof(dev)) < 0) {
        small_fs_end(dir);
        skip();
    }
    struct block *b = open_path(f, dev, false);
    assert_int_equal(block_size_bytes(b), SIZE);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, PAGE, buf, sizeof(buf)), 0);
    assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    evict(dev);
    assert_int_equal(do_op(f, b, BLOCK_READ, PAGE, back, sizeof(back)), 0);
    assert_memory_equal(buf, back, sizeof(buf));
    struct stat before, after;
    assert_int_equal(stat(image, &before), 0);
    assert_int_equal(do_op(f, b, BLOCK_DISCARD, PAGE, NULL, sizeof(buf)), 0);
    assert_int_equal(stat(image, &after), 0);
    assert_true(after.st_blocks < before.st_blocks);
    assert_int_equal(do_op(f, b, BLOCK_READ, PAGE, back, sizeof(back)), 0);
    assert_int_equal(back[0] | back[sizeof(back) - 1], 0);
    /* The disk under it fills up. */
    take_space(dir, 0);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, SIZE / 2, buf, sizeof(buf)), 0);
    int rc = do_op(f, b, BLOCK_FLUSH, 0, NULL, 0);
    assert_true(rc == -EIO || rc == -ENOSPC);
    give_space(dir);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, SIZE / 2, buf, sizeof(buf)), 0);
    assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    evict(dev);
    assert_int_equal(do_op(f, b, BLOCK_READ, SIZE / 2, back, sizeof(back)), 0);
    assert_memory_equal(buf, back, sizeof(buf));
    /* The device loses its second half, and gets it back. */
    loop_resize(image, dev, SIZE / 2);
    evict(dev);
    assert_int_equal(do_op(f, b, BLOCK_READ, SIZE / 2, back, PAGE), -EIO);
    assert_int_equal(do_op(f, b, BLOCK_READ, SIZE / 2 - PAGE, back, 2 * PAGE), -EIO);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, SIZE / 2, buf, PAGE), -ENOSPC);
    assert_int_equal(do_op(f, b, BLOCK_READ, SIZE / 2 - PAGE, back, PAGE), 0);
    loop_resize(image, dev, SIZE);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, SIZE / 2, buf, PAGE), 0);
    assert_int_equal(do_op(f, b, BLOCK_READ, SIZE / 2, back, PAGE), 0);
    assert_memory_equal(buf, back, PAGE);
    block_close(b);
    loop_detach(dev);
    small_fs_end(dir);
}

/* From now on, io_uring_setup (or another call of it) fails with EPERM in this process. */
static void forbid(unsigned call)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

/* The kernel stops taking requests in the middle (a filter that was installed late): all requests
 * end well, through threads. In a process of its own, as a filter cannot be taken back. */
static void ring_breaks(void **state)
{
    struct fixture *f = *state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static struct op ops[200];
        static uint8_t bufs[200][PAGE];
        struct loop *loop = loop_create(false);
        struct fixture mine = {.loop = loop};
        struct block *b = open_path(&mine, f->path, false);
        unsigned bad = 0;
        evict(f->path);
        submit(b, &ops[0], BLOCK_FLUSH, 0, NULL, 0);
        loop_poll(loop, 0); /* the ring exists */
        for (unsigned i = 1; i < 100; i++) {
            submit(b, &ops[i], BLOCK_READ, (uint64_t)i * PAGE, bufs[i], PAGE);
        }
        forbid(__NR_io_uring_enter);
        for (unsigned i = 100; i < 200; i++) {
            submit(b, &ops[i], BLOCK_READ, (uint64_t)i * PAGE, bufs[i], PAGE);
        }
        bad += block_drain(b) != 0;
        for (unsigned i = 0; i < 200; i++) {
            bad += ops[i].calls != 1 || ops[i].error != 0;
            for (unsigned k = 0; i > 0 && k < PAGE; k += 5) {
                bad += bufs[i][k] != pattern((uint64_t)i * PAGE + k);
            }
        }
        block_close(b);
        loop_destroy(loop);
        _exit(bad == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(way_is_chosen),
        T(many_at_once),
        T(partly_cached),
        T(fua_scattered_write),
        T(discard_makes_holes),
        T(truncated_and_whole_again),
        T(drain_in_a_callback),
        T(close_in_a_callback),
        T(close_under_load),
        T(direct),
        T(no_space),
        T(block_device),
        T(ring_breaks),
    };
    /* Mounts are ours alone. Where that is not allowed, the tests with a file system of their own
     * are skipped. */
    if (unshare(CLONE_NEWNS) == 0) {
        (void)mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    }
    int failed = cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
    threads_only = true;
    forbid(__NR_io_uring_setup);
    return failed + cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
