/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2 against qemu-img and qemu-io: what they make we read, what we write they find sound and equal. */
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/qcow2.h"
#include "tests/unit/qcow2_rig.h"

struct fixture {
    struct loop *loop;
    char dir[64];
    struct block *b;
    uint8_t *model; /* what the guest must read */
    uint64_t size;
    uint32_t random;
};

static uint32_t rnd(struct fixture *f)
{
    f->random = f->random * 1664525 + 1013904223;
    return f->random >> 8;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->loop = loop_create(false);
    f->random = 7;
    snprintf(f->dir, sizeof(f->dir), "/tmp/hvm-dm-qcow2.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char cmd[128];

    block_close(f->b);
    loop_destroy(f->loop);
    free(f->model);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
    assert_int_equal(system(cmd), 0);
    free(f);
    return 0;
}

/* Runs a command in the test's folder; its output on failure only. The exit status. */
__attribute__((format(printf, 2, 3))) static int sh(struct fixture *f, const char *fmt, ...)
{
    char line[1024], cmd[1400];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    snprintf(cmd, sizeof(cmd), "cd %s && { %s; } >out 2>&1 || { rc=$?; exit $rc; }", f->dir, line);
    int rc = system(cmd);
    return WIFEXITED(rc) ? WEXITSTATUS(rc) : -1;
}

#define OK(f, ...)                                                                                 \
    do {                                                                                           \
        int rc_ = sh(f, __VA_ARGS__);                                                              \
        if (rc_ != 0) {                                                                            \
            char cat_[128];                                                                        \
            snprintf(cat_, sizeof(cat_), "cat %s/out >&2", (f)->dir);                              \
            (void)!system(cat_);                                                                   \
            fail_msg("exit status %d of: %s", rc_, #__VA_ARGS__);                                  \
        }                                                                                          \
    } while (0)

static void path_of(struct fixture *f, const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", f->dir, name);
}

static struct block *try_open(struct fixture *f, const char *name, bool readonly, char err[1024])
{
    char path[128];
    const struct block_config cfg = {
        .path = path, .format = "qcow2", .fd = -1, .readonly = readonly};

    path_of(f, name, path);
    err[0] = 0;
    return block_open(f->loop, &cfg, err, 1024);
}

static void open_image(struct fixture *f, const char *name, bool readonly)
{
    char err[1024];

    f->b = try_open(f, name, readonly, err);
    if (f->b == NULL) {
        fail_msg("%s", err);
    }
    if (f->model == NULL) {
        f->size = block_size_bytes(f->b);
        f->model = calloc(1, f->size);
    }
    assert_int_equal(block_size_bytes(f->b), f->size);
}

static void close_image(struct fixture *f)
{
    block_close(f->b);
    f->b = NULL;
}

struct op {
    struct block_request req;
    struct iovec iov;
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
                   uint64_t len)
{
    memset(op, 0, sizeof(*op));
    op->iov = (struct iovec){buf, len};
    op->req = (struct block_request){.op = what,
                                     .offset_bytes = offset,
                                     .length_bytes = len,
                                     .iov = &op->iov,
                                     .iovcnt = buf != NULL ? 1 : 0,
                                     .done = on_done,
                                     .opaque = op};
    block_submit(b, &op->req);
}

static int do_op(struct fixture *f, enum block_op what, uint64_t offset, void *buf, uint64_t len)
{
    struct op op;

    submit(f->b, &op, what, offset, buf, len);
    for (int i = 0; i < 20000 && op.calls == 0; i++) {
        loop_poll(f->loop, 1000000);
    }
    assert_int_equal(op.calls, 1);
    return op.error;
}

/* Writes bytes that are the same nowhere else, and notes them. */
static void write_at(struct fixture *f, uint64_t at, uint64_t len)
{
    for (uint64_t i = at; i < at + len; i++) {
        f->model[i] = (uint8_t)(rnd(f) | 1);
    }
    assert_int_equal(do_op(f, BLOCK_WRITE, at, f->model + at, len), 0);
}

static void discard_at(struct fixture *f, uint64_t at, uint64_t len, uint64_t cluster)
{
    uint64_t lo = (at + cluster - 1) / cluster * cluster, end = at + len;
    uint64_t hi = end == f->size ? end : end / cluster * cluster;

    if (lo < hi) {
        memset(f->model + lo, 0, hi - lo);
    }
    assert_int_equal(do_op(f, BLOCK_DISCARD, at, NULL, len), 0);
}

/* The whole disk reads as the model says, in pieces of odd sizes. */
static void verify(struct fixture *f)
{
    uint8_t *buf = malloc(f->size);

    for (uint64_t at = 0; at < f->size;) {
        uint64_t len = 1 + rnd(f) % (1 << 20);
        len = len < f->size - at ? len : f->size - at;
        assert_int_equal(do_op(f, BLOCK_READ, at, buf + at, len), 0);
        at += len;
    }
    if (memcmp(buf, f->model, f->size) != 0) {
        uint64_t i = 0;
        while (buf[i] == f->model[i]) {
            i++;
        }
        fail_msg("byte %#llx is %#x, not %#x", (unsigned long long)i, buf[i], f->model[i]);
    }
    free(buf);
}

/* The model becomes what a raw file says. */
static void model_from(struct fixture *f, const char *name)
{
    char path[128];
    struct stat st;

    path_of(f, name, path);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    if (f->model == NULL) {
        f->size = (uint64_t)st.st_size;
        f->model = malloc(f->size);
    }
    assert_int_equal(st.st_size, f->size);
    assert_int_equal(read(fd, f->model, f->size), f->size);
    close(fd);
}

/* They find it sound, and read the same. */
static void peer_agrees(struct fixture *f, const char *name)
{
    uint8_t *mine = malloc(f->size);

    OK(f, "qemu-img check -f qcow2 %s", name);
    OK(f, "rm -f raw; qemu-img convert -f qcow2 -O raw %s raw", name);
    memcpy(mine, f->model, f->size);
    model_from(f, "raw");
    if (memcmp(mine, f->model, f->size) != 0) {
        fail_msg("%s: the peer reads something else", name);
    }
    free(mine);
}

static bool no_peer(void)
{
    return system("command -v qemu-img qemu-io >/dev/null 2>&1") != 0;
}

/* Writes of all kinds, discards, flushes; then the peer looks at it. */
static void exercise(struct fixture *f, const char *name, unsigned cluster_bits, unsigned rounds)
{
    uint64_t cluster = UINT64_C(1) << cluster_bits;

    for (unsigned i = 0; i < rounds; i++) {
        uint64_t at = rnd(f) % f->size, len = 1 + rnd(f) % (i % 5 == 0 ? 3 << 20 : 20000);
        len = len < f->size - at ? len : f->size - at;
        if (i % 3 == 0) {
            at &= ~UINT64_C(511);
        }
        if (rnd(f) % 6 == 0) {
            discard_at(f, at, len, cluster);
        } else {
            write_at(f, at, len);
        }
        if (i % 7 == 6) {
            assert_int_equal(do_op(f, BLOCK_FLUSH, 0, NULL, 0), 0);
        }
    }
    verify(f);
    close_image(f);
    peer_agrees(f, name);
    open_image(f, name, true);
    verify(f);
    close_image(f);
}

static void renew(struct fixture *f)
{
    free(f->model);
    f->model = NULL;
}

static void all_cluster_sizes(void **state)
{
    struct fixture *f = *state;

    if (no_peer()) {
        skip();
    }
    for (unsigned bits = 9; bits <= 21; bits++) {
        OK(f, "qemu-img create -f qcow2 -o compat=%s,cluster_size=%u a.qcow2 9000448",
           bits % 2 != 0 ? "0.10" : "1.1", 1u << bits);
        renew(f);
        open_image(f, "a.qcow2", false);
        exercise(f, "a.qcow2", bits, 24);
    }
}

/* The small clusters with wide refcounts make the refcount table move, too. */
static void all_refcount_widths(void **state)
{
    struct fixture *f = *state;

    if (no_peer()) {
        skip();
    }
    for (unsigned bits = 1; bits <= 64; bits *= 2) {
        OK(f, "qemu-img create -f qcow2 -o cluster_size=512,refcount_bits=%u a.qcow2 6M", bits);
        renew(f);
        open_image(f, "a.qcow2", false);
        write_at(f, 0, f->size);
        exercise(f, "a.qcow2", 9, 10);
    }
}

static void what_the_peer_wrote(void **state)
{
    static const char *const versions[] = {"0.10", "1.1"};
    struct fixture *f = *state;

    if (no_peer()) {
        skip();
    }
    for (unsigned v = 0; v < 2; v++) {
        renew(f);
        OK(f, "qemu-img create -f qcow2 -o compat=%s,preallocation=metadata a.qcow2 5M",
           versions[v]);
        OK(f,
           "qemu-io -f qcow2 -c 'write -P 17 3k 70k' -c 'write -P 18 1M 1M' -c 'write -z 1M 200k' "
           "-c 'discard 1900k 100k' -c 'write -P 3 4095k 1025k' a.qcow2");
        OK(f, "qemu-img convert -O raw a.qcow2 raw");
        model_from(f, "raw");
        open_image(f, "a.qcow2", true);
        verify(f);
        close_image(f);
        open_image(f, "a.qcow2", false);
        verify(f);
        exercise(f, "a.qcow2", 16, 12);
        OK(f, "qemu-io -f qcow2 -c 'write -P 99 100k 300k' a.qcow2"); /* and they go on */
        memset(f->model + 100 * 1024, 99, 300 * 1024);
        peer_agrees(f, "a.qcow2");
    }
}

static void backing_chain(void **state)
{
    struct fixture *f = *state;

    if (no_peer()) {
        skip();
    }
    OK(f, "mkdir sub; head -c 1300000 /dev/zero | tr '\\0' 'b' >sub/base.raw;"
          "qemu-img create -f qcow2 -o backing_file=base.raw,backing_fmt=raw sub/mid.qcow2 3M;"
          "qemu-io -f qcow2 -c 'write -P 5 600k 100k' -c 'write -P 6 2500k 300k' sub/mid.qcow2;"
          "qemu-img create -f qcow2 -o backing_file=sub/mid.qcow2,backing_fmt=qcow2 top.qcow2 5M;"
          "qemu-img convert -O raw top.qcow2 raw");
    model_from(f, "raw");
    open_image(f, "top.qcow2", false);
    verify(f);
    write_at(f, 640 * 1024 + 100, 70000); /* copies from both, and from behind the end of base */
    write_at(f, 1299000, 5000);
    write_at(f, 3145000, 2000);
    discard_at(f, 0, 128 << 10, 65536); /* zeros, where base shone through */
    discard_at(f, 640 * 1024, 64 << 10, 65536);
    exercise(f, "top.qcow2", 16, 20);
    /* Version 2 cannot say zeros: a discard leaves what is there. */
    OK(f, "qemu-img create -f qcow2 -o compat=0.10,backing_file=sub/mid.qcow2,backing_fmt=qcow2 "
          "v2.qcow2 5M; qemu-img convert -O raw v2.qcow2 raw");
    model_from(f, "raw");
    open_image(f, "v2.qcow2", false);
    assert_int_equal(do_op(f, BLOCK_DISCARD, 0, NULL, f->size), 0);
    verify(f);
    write_at(f, 100, 100);
    close_image(f);
    peer_agrees(f, "v2.qcow2");
}

static void backing_refusals(void **state)
{
    static const struct {
        const char *options, *want;
    } rows[] = {
        {"-F raw -b nothing.raw", "nothing.raw"},
        {"-F qcow2 -b self.qcow2", "too long"},
        {"-F qed -b base.raw", "'qed' is not supported"},
        {"-F raw -b 'json:{\"driver\":\"raw\"}'", "not supported"},
        {"-F raw -b http://host/x", "not supported"},
        {"-b base.raw", "qemu-img rebase -u -F raw -b 'base.raw'"},
    };
    struct fixture *f = *state;

    if (no_peer()) {
        skip();
    }
    OK(f, "head -c 65536 /dev/zero >base.raw");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char err[1024];
        OK(f, "rm -f self.qcow2; qemu-img create -f qcow2 self.qcow2 1M");
        if (strstr(rows[i].options, "-F") != NULL) {
            OK(f, "qemu-img rebase -u -f qcow2 %s self.qcow2", rows[i].options);
        } else { /* it insists on a format: what older ones wrote */
            char path[128];
            static const uint8_t at[] = {0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 8};
            path_of(f, "self.qcow2", path);
            int fd = open(path, O_RDWR);
            assert_int_equal(pwrite(fd, "base.raw", 8, 512), 8);
            assert_int_equal(pwrite(fd, at, sizeof(at), 8), sizeof(at));
            close(fd);
        }
        assert_null(try_open(f, "self.qcow2", false, err));
        if (strstr(err, rows[i].want) == NULL || strchr(err, '\n') != NULL) {
            fail_msg("'%s' does not say '%s'", err, rows[i].want);
        }
    }
}

static void internal_snapshots(void **state)
{
    struct fixture *f = *state;
    uint8_t *first;

    if (no_peer()) {
        skip();
    }
    for (unsigned bits = 9; bits <= 16; bits += 7) {
        renew(f);
        OK(f, "qemu-img create -f qcow2 -o cluster_size=%u a.qcow2 4M", 1u << bits);
        open_image(f, "a.qcow2", false);
        write_at(f, 100000, 2000000);
        close_image(f);
        OK(f, "qemu-img snapshot -c one a.qcow2");
        first = malloc(f->size);
        memcpy(first, f->model, f->size);
        open_image(f, "a.qcow2", false);
        write_at(f, 150001, 3);
        write_at(f, 1000000, 200000);
        discard_at(f, 1400000, 300000, UINT64_C(1) << bits);
        write_at(f, 3000000, 100000);
        exercise(f, "a.qcow2", bits, 12);
        OK(f, "qemu-img snapshot -c two a.qcow2");
        open_image(f, "a.qcow2", false);
        exercise(f, "a.qcow2", bits, 12);
        OK(f, "qemu-img snapshot -d two a.qcow2; qemu-img check a.qcow2");
        open_image(f, "a.qcow2", false);
        exercise(f, "a.qcow2", bits, 12);
        OK(f, "qemu-img snapshot -a one a.qcow2");
        memcpy(f->model, first, f->size);
        free(first);
        peer_agrees(f, "a.qcow2");
        OK(f, "qemu-img snapshot -d one a.qcow2");
        peer_agrees(f, "a.qcow2");
        open_image(f, "a.qcow2", false);
        verify(f);
        exercise(f, "a.qcow2", bits, 5);
    }
}

static void compressed_clusters(void **state)
{
    struct fixture *f = *state;

    if (no_peer()) {
        skip();
    }
    for (unsigned bits = 9; bits <= 21; bits += 3) {
        renew(f);
        OK(f,
           "{ seq 1 300000; head -c 500000 /dev/urandom; head -c 500000 /dev/zero; } | head -c "
           "2900480 >raw; qemu-img convert -c -f raw -O qcow2 -o cluster_size=%u raw a.qcow2",
           1u << bits);
        model_from(f, "raw");
        open_image(f, "a.qcow2", true);
        verify(f);
        close_image(f);
        open_image(f, "a.qcow2", false);
        struct op ops[8]; /* side by side, of different clusters */
        static uint8_t bufs[8][3000];
        for (unsigned i = 0; i < 8; i++) {
            submit(f->b, &ops[i], BLOCK_READ, i * 262144, bufs[i], sizeof(bufs[i]));
        }
        assert_int_equal(block_drain(f->b), 0);
        for (unsigned i = 0; i < 8; i++) {
            assert_int_equal(ops[i].calls, 1);
            assert_int_equal(ops[i].error, 0);
            assert_memory_equal(bufs[i], f->model + i * 262144, sizeof(bufs[i]));
        }
        write_at(f, 500, 100);
        exercise(f, "a.qcow2", bits, 15);
    }
}

/* More tables than the cache holds: they are written back to make room. */
static void more_than_the_cache(void **state)
{
    enum { N = 700 };
    struct fixture *f = *state;
    char err[1024];
    uint8_t buf[700], seen[700];

    if (no_peer()) {
        skip();
    }
    OK(f, "qemu-img create -f qcow2 a.qcow2 40G");
    for (unsigned pass = 0; pass < 2; pass++) {
        f->b = try_open(f, "a.qcow2", false, err);
        assert_non_null(f->b);
        for (uint64_t i = 0; pass == 0 && i < N; i++) {
            memset(buf, (int)(i % 255) + 1, sizeof(buf));
            assert_int_equal(do_op(f, BLOCK_WRITE, (i << 25) + i * 7, buf, sizeof(buf)), 0);
        }
        for (uint64_t i = 0; i < N; i++) {
            uint64_t k = i * 331 % N;
            memset(buf, (int)(k % 255) + 1, sizeof(buf));
            assert_int_equal(do_op(f, BLOCK_READ, (k << 25) + k * 7, seen, sizeof(seen)), 0);
            assert_memory_equal(buf, seen, sizeof(seen));
        }
        struct qcow2 *q = f->b->state;
        assert_true(q->nslices <= QCOW2_CACHE_BYTES / QCOW2_SLICE_BYTES);
        close_image(f);
        OK(f, "qemu-img check a.qcow2");
    }
}

/* Images made from nothing, in a file that is watched. */

static struct block *open_rig(struct fixture *f, struct rig_file **file,
                              const struct qcow2_geometry *g)
{
    char err[1024] = "";
    size_t len;
    uint8_t *data = qcow2_make(g, &len);

    *file = rig_file_create(data, len, 16 << 20);
    struct block *b = rig_open(f->loop, *file, false, err, sizeof(err));
    if (b == NULL) {
        fail_msg("%s", err);
    }
    f->b = b;
    return b;
}

static void close_rig(struct fixture *f, struct rig_file *file, bool clean)
{
    unsigned leaks;

    block_close(f->b);
    f->b = NULL;
    if (clean) {
        assert_int_equal(qcow2_check(file->now, file->length, &leaks), 0);
        assert_int_equal(leaks, 0);
    }
    rig_file_destroy(file);
}

/* How much reaches the file: large requests in one piece, no flush that is not needed. */
static void few_requests(void **state)
{
    const struct qcow2_geometry g = {
        .version = 3, .cluster_bits = 16, .refcount_order = 4, .size_bytes = 8 << 20};
    struct fixture *f = *state;
    struct rig_file *file;
    static uint8_t buf[1 << 20];

    open_rig(f, &file, &g);
    assert_int_equal(do_op(f, BLOCK_WRITE, 0, buf, sizeof(buf)), 0);
    unsigned before = file->writes;
    assert_int_equal(do_op(f, BLOCK_WRITE, 1 << 20, buf, sizeof(buf)), 0);
    assert_int_equal(file->writes - before, 1); /* sixteen new clusters */
    assert_int_equal(file->flushes, 0);
    assert_int_equal(do_op(f, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(file->flushes, 2);         /* data before maps */
    assert_int_equal(file->writes - before, 4); /* refcounts, L2, L1 */
    before = file->writes;
    assert_int_equal(do_op(f, BLOCK_WRITE, 512 << 10, buf, sizeof(buf)), 0);
    assert_int_equal(do_op(f, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(file->writes - before, 1);
    assert_int_equal(file->flushes, 3); /* nothing but data: one */
    unsigned reads = file->reads;
    assert_int_equal(do_op(f, BLOCK_READ, 300, buf, sizeof(buf)), 0);
    assert_int_equal(file->reads - reads, 1);
    close_rig(f, file, true);
}

/* Two writes and a discard to one new cluster, at the same time. */
static void same_cluster(void **state)
{
    const struct qcow2_geometry g = {
        .version = 3, .cluster_bits = 16, .refcount_order = 4, .size_bytes = 1 << 20};
    struct fixture *f = *state;
    struct rig_file *file;
    struct op ops[3];
    static uint8_t a[4096], b[4096], seen[65536];

    open_rig(f, &file, &g);
    memset(a, 1, sizeof(a));
    memset(b, 2, sizeof(b));
    file->hold = true;
    submit(f->b, &ops[0], BLOCK_WRITE, 0, a, sizeof(a));
    submit(f->b, &ops[1], BLOCK_WRITE, 8192, b, sizeof(b));
    submit(f->b, &ops[2], BLOCK_DISCARD, 65536, NULL, 65536);
    while (rig_file_run(file)) {
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ops[i].calls, 1);
        assert_int_equal(ops[i].error, 0);
    }
    file->hold = false;
    assert_int_equal(do_op(f, BLOCK_READ, 0, seen, sizeof(seen)), 0);
    for (unsigned i = 0; i < sizeof(seen); i++) {
        assert_int_equal(seen[i], i < 4096 ? 1 : i >= 8192 && i < 12288 ? 2 : 0);
    }
    close_rig(f, file, true);
}

struct closer {
    struct op op;
    struct fixture *f;
    struct op *other;
    bool wait;
};

static void close_on_done(struct block_request *req, int error)
{
    struct closer *c = (struct closer *)((char *)req - offsetof(struct closer, op.req));

    c->op.error = error;
    c->op.calls++;
    if (c->wait) {
        assert_int_equal(block_drain(c->f->b), 0);
        assert_int_equal(c->other->calls, 1);
    } else {
        block_close(c->f->b);
        c->f->b = NULL;
    }
}

/* The owner of a request waits for the others, or closes the image, when he is told. */
static void close_in_callback(void **state)
{
    const struct qcow2_geometry g = {
        .version = 3, .cluster_bits = 12, .refcount_order = 4, .size_bytes = 1 << 20};
    struct fixture *f = *state;
    static uint8_t buf[20000];
    unsigned leaks;

    for (unsigned kind = 0; kind < 6; kind++) {
        struct rig_file *file;
        struct closer c[2];
        struct op other = {.calls = 1};
        open_rig(f, &file, &g);
        file->hold = kind % 2 != 0;
        for (unsigned i = 0; i < 2;
             i++) { /* the first waits for the other one, the second closes */
            c[i].f = f;
            c[i].other = &other;
            c[i].wait = i == 0;
            enum block_op what = kind / 2 == 0   ? BLOCK_WRITE
                                 : kind / 2 == 1 ? BLOCK_FLUSH
                                                 : BLOCK_READ;
            void *data = what == BLOCK_FLUSH ? NULL : buf;
            submit(f->b, &c[i].op, what, 0, data, data != NULL ? sizeof(buf) : 0);
            if (c[i].op.calls > 0) { /* at once: no chance to set done */
                close_on_done(&c[i].op.req, 0);
                c[i].op.calls = 1;
            }
            c[i].op.req.done = close_on_done;
            if (i == 0) {
                submit(f->b, &other, what, 50000, data, data != NULL ? sizeof(buf) : 0);
            }
            while (rig_file_run(file)) {
            }
            assert_int_equal(c[i].op.calls, 1);
        }
        assert_null(f->b);
        assert_int_equal(qcow2_check(file->now, file->length, &leaks), 0);
        assert_int_equal(leaks, 0);
        rig_file_destroy(file);
    }
}

/* The file is full, then it is not any more: nothing but the request has been lost. */
static void no_space(void **state)
{
    const struct qcow2_geometry g = {
        .version = 3, .cluster_bits = 12, .refcount_order = 4, .size_bytes = 1 << 20};
    struct fixture *f = *state;
    struct rig_file *file;
    static uint8_t buf[100000], seen[100000];

    memset(buf, 9, sizeof(buf));
    open_rig(f, &file, &g);
    for (int i = 1; i < 6; i++) {
        file->fail_in = i;
        file->fail_with = -ENOSPC;
        int rc = 0;
        for (int k = 0; k < 4 && rc == 0; k++) {
            rc = do_op(f, BLOCK_WRITE, (uint64_t)k * 120000 + (uint64_t)i * 7777, buf, sizeof(buf));
            if (rc == 0) {
                rc = do_op(f, BLOCK_FLUSH, 0, NULL, 0);
            }
        }
        assert_int_equal(rc, -ENOSPC);
        file->fail_in = 0;
        for (uint64_t k = 0; k < 4; k++) {
            assert_int_equal(do_op(f, BLOCK_WRITE, k * 120000, buf, sizeof(buf)), 0);
            assert_int_equal(do_op(f, BLOCK_READ, k * 120000, seen, sizeof(seen)), 0);
            assert_memory_equal(seen, buf, sizeof(seen));
        }
        assert_int_equal(do_op(f, BLOCK_FLUSH, 0, NULL, 0), 0);
        assert_int_equal(do_op(f, BLOCK_DISCARD, 0, NULL, 1 << 20), 0);
    }
    close_rig(f, file, true);
}

/* Header fields that make no sense, or ask for what is not there. */
static void header_refusals(void **state)
{
    static const struct {
        unsigned at;
        uint8_t bytes[8];
        unsigned n;
        const char *want;
    } rows[] = {
        {0, {'X'}, 1, "not a qcow2"},
        {4, {0, 0, 0, 4}, 4, "version 4"},
        {20, {0, 0, 0, 8}, 4, "2^8 bytes"},
        {20, {0, 0, 0, 30}, 4, "2^30 bytes"},
        {24, {0, 0, 0, 0, 0, 0, 0, 0}, 8, "size of 0"},
        {24, {0xff, 0, 0, 0, 0, 0, 0, 0}, 8, "makes no sense"},
        {24, {0, 0, 0xff, 0, 0, 0, 0, 0}, 8, "L1 table"},
        {32, {0, 0, 0, 1}, 4, "encrypted"},
        {32, {0, 0, 0, 2}, 4, "encrypted"},
        {36, {0xff, 0xff, 0xff, 0xff}, 4, "L1 table"},
        {36, {0, 0, 0, 0}, 4, "L1 table"},
        {40, {0, 0, 0, 0, 0, 0, 0, 0}, 8, "over the header"},
        {46, {0x12, 0x34}, 2, "not aligned"},
        {43, {1}, 1, "not inside the file"},
        {48, {0, 0, 0, 0, 0, 0, 0, 0}, 8, "over the header"},
        {51, {1}, 1, "not inside the file"},
        {56, {0, 0, 0, 0}, 4, "refcount table of 0"},
        {56, {1, 0, 0, 0}, 4, "refcount table of"},
        {60, {0, 0, 0, 1}, 4, "snapshot table"},
        {79, {1}, 1, "refcounts are not up to date"},
        {79, {2}, 1, "marked as corrupt"},
        {79, {4}, 1, "external data"},
        {79, {8}, 1, "compression type"},
        {79, {16}, 1, "subclusters"},
        {79, {32}, 1, "'bit 5'"},
        {72, {0x80}, 1, "'bit 63'"},
        {96, {0, 0, 0, 7}, 4, "2^7 bits"},
        {100, {0, 0, 0, 103}, 4, "header length"},
        {100, {0, 0, 0, 72}, 4, "header length"},
        {100, {0, 1, 0, 8}, 4, "header length"},
        {104, {0, 0, 0, 7, 0xff, 0xff, 0xff, 0}, 8, "extension"},
    };
    const struct qcow2_geometry g = {
        .version = 3, .cluster_bits = 12, .refcount_order = 4, .size_bytes = 1 << 20};
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char err[1024] = "";
        size_t len;
        uint8_t *data = qcow2_make(&g, &len);
        memcpy(data + rows[i].at, rows[i].bytes, rows[i].n);
        struct rig_file *file = rig_file_create(data, len, 1 << 20);
        struct block *b = rig_open(f->loop, file, false, err, sizeof(err));
        if (b != NULL || strstr(err, rows[i].want) == NULL || strchr(err, '\n') != NULL) {
            fail_msg("row %zu: '%s' does not say '%s'", i, err, rows[i].want);
        }
        rig_file_destroy(file);
    }
    /* Damage and open refcounts do no harm to a reader. */
    for (uint8_t bit = 1; bit <= 2; bit++) {
        char err[1024] = "";
        size_t len;
        uint8_t *data = qcow2_make(&g, &len);
        data[79] = bit;
        struct rig_file *file = rig_file_create(data, len, 1 << 20);
        struct block *b = rig_open(f->loop, file, true, err, sizeof(err));
        assert_non_null(b);
        block_close(b);
        rig_file_destroy(file);
    }
}

/* L2 entries that point where they must not: the request fails, reads go on, writes do not, and the
 * image says so. */
static void damage_at_run_time(void **state)
{
    const struct qcow2_geometry g = {.version = 3,
                                     .cluster_bits = 12,
                                     .refcount_order = 4,
                                     .size_bytes = 1 << 20,
                                     .snapshot = true,
                                     .snapshot_fill = 0x77};
    static const uint64_t entries[] = {
        UINT64_C(1) << 63 | 0x1000,        /* refcount table */
        UINT64_C(1) << 63 | 0x2000,        /* L1 */
        UINT64_C(1) << 63 | 0x3200,        /* not aligned */
        UINT64_C(1) << 63 | 0x70000000,    /* behind the end */
        UINT64_C(1) << 56 | 0x5000,        /* reserved bits */
        UINT64_C(1) << 63,                 /* the header */
        UINT64_C(1) << 62 | 0x7fff0000000, /* compressed, behind the end */
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        struct rig_file *file;
        uint8_t buf[512];
        open_rig(f, &file, &g);
        uint64_t l2 = qcow2_get64(file->now + 0x2000) & QCOW2_OFFSET;
        qcow2_put64(file->now + l2 + 8, entries[i]);
        assert_int_equal(do_op(f, BLOCK_READ, 4096, buf, 512), -EIO);
        assert_int_equal(do_op(f, BLOCK_READ, 0, buf, 512), 0);
        assert_int_equal(buf[0], 0x77);
        assert_int_equal(do_op(f, BLOCK_WRITE, 0, buf, 512), -EIO);
        assert_int_equal(do_op(f, BLOCK_DISCARD, 0, NULL, 65536), -EIO);
        assert_int_equal(do_op(f, BLOCK_FLUSH, 0, NULL, 0), 0);
        assert_int_equal(file->now[79], 2);
        close_rig(f, file, false);
    }
}

/* Memory goes back when nothing happens. */
static void idle(void **state)
{
    const struct qcow2_geometry g = {
        .version = 3, .cluster_bits = 12, .refcount_order = 4, .size_bytes = 1 << 20};
    struct fixture *f = *state;
    struct loop *real = f->loop;
    struct rig_file *file;
    uint8_t buf[512] = {0};

    f->loop = loop_create(true);
    open_rig(f, &file, &g);
    assert_int_equal(do_op(f, BLOCK_WRITE, 0, buf, 512), 0);
    assert_int_equal(do_op(f, BLOCK_FLUSH, 0, NULL, 0), 0);
    struct qcow2 *q = f->b->state;
    assert_true(q->nslices > 0);
    loop_advance(f->loop, 3 * (uint64_t)QCOW2_IDLE_NS);
    assert_int_equal(q->nslices, 0);
    assert_int_equal(q->nio_pool, 0);
    close_rig(f, file, true);
    loop_destroy(f->loop);
    f->loop = real;
}

/* A process that writes and flushes, and says on a pipe what it knows to be flushed. */

enum { KILL_ROUNDS = 30, KILL_SIZE = 24 << 20 };

struct step {
    uint64_t at, len;
    uint8_t fill;
    bool discard;
};

static struct step kill_step(struct fixture *f, unsigned cluster)
{
    struct step s;

    s.at = rnd(f) % (KILL_SIZE - 400000);
    s.len = 1 + rnd(f) % (rnd(f) % 8 == 0 ? 400000 : 9000);
    s.fill = (uint8_t)rnd(f);
    s.discard = rnd(f) % 12 == 0;
    if (s.discard) {
        s.at -= s.at % cluster;
        s.len -= s.len % cluster;
    }
    return s;
}

static unsigned steps_until_flush(struct fixture *f)
{
    return 1 + rnd(f) % 8;
}

static void kill_child(struct fixture *f, unsigned cluster, int out)
{
    static uint8_t buf[400000];
    char err[1024];

    loop_destroy(f->loop); /* threads and epoll descriptors are the parent's */
    f->loop = loop_create(false);
    f->b = try_open(f, "k.qcow2", false, err);
    if (f->b == NULL) {
        _exit(1);
    }
    for (uint32_t n = 1;; n++) {
        for (unsigned k = steps_until_flush(f); k > 0; k--) {
            struct step s = kill_step(f, cluster);
            struct op op;
            memset(buf, s.fill, s.len);
            submit(f->b, &op, s.discard ? BLOCK_DISCARD : BLOCK_WRITE, s.at, s.discard ? NULL : buf,
                   s.len);
            while (op.calls == 0) {
                loop_poll(f->loop, 1000000);
            }
        }
        struct op op;
        submit(f->b, &op, BLOCK_FLUSH, 0, NULL, 0);
        while (op.calls == 0) {
            loop_poll(f->loop, 1000000);
        }
        if (op.error != 0 || write(out, &n, sizeof(n)) != sizeof(n)) {
            _exit(1);
        }
    }
}

/* Replays what the child did: n flushes and what followed the last one, which may be there. */
static void kill_replay(struct fixture *f, unsigned cluster, uint32_t flushed, uint8_t *maybe)
{
    memset(maybe, 0, KILL_SIZE);
    for (uint32_t n = 0; n <= flushed + 1; n++) { /* one more may be flushed but not told */
        for (unsigned k = steps_until_flush(f); k > 0; k--) {
            struct step s = kill_step(f, cluster);
            memset(n < flushed ? f->model + s.at : maybe + s.at,
                   n < flushed ? (s.discard ? 0 : s.fill) : 1, s.len);
        }
    }
}

static void killed(void **state)
{
    struct fixture *f = *state;
    uint8_t *maybe = malloc(KILL_SIZE), *buf = malloc(KILL_SIZE);
    uint64_t total = 0;

    if (no_peer()) {
        skip();
    }
    f->model = calloc(1, KILL_SIZE);
    f->size = KILL_SIZE;
    for (unsigned round = 0; round < KILL_ROUNDS; round++) {
        unsigned cluster = round % 3 == 0 ? 512 : round % 3 == 1 ? 4096 : 65536;
        if (round % 3 != 2 || round < 3) { /* the last kind lives on */
            OK(f, "rm -f k.qcow2; qemu-img create -f qcow2 -o cluster_size=%u k.qcow2 %u", cluster,
               KILL_SIZE);
            memset(f->model, 0, KILL_SIZE);
        }
        if (round % 3 == 2 && round > 2) {
            OK(f, "mv keep.qcow2 k.qcow2");
            model_from(f, "keep.raw");
        }
        int ends[2];
        uint32_t seed = 1000 + round, flushed = 0, n;
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            close(ends[0]);
            f->random = seed;
            kill_child(f, cluster, ends[1]);
            _exit(1);
        }
        close(ends[1]);
        f->random = seed * 3;
        uint32_t until = rnd(f) % 60;
        while (flushed < until && read(ends[0], &n, sizeof(n)) == sizeof(n)) {
            flushed = n;
        }
        usleep(rnd(f) % 4000);
        assert_int_equal(kill(pid, SIGKILL), 0);
        while (read(ends[0], &n, sizeof(n)) == sizeof(n)) {
            flushed = n;
        }
        close(ends[0]);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        total += flushed;
        f->random = seed;
        kill_replay(f, cluster, flushed, maybe);
        int rc = sh(f, "qemu-img check -f qcow2 k.qcow2");
        if (rc != 0 && rc != 3) { /* 3: leaked clusters only */
            OK(f, "qemu-img check -f qcow2 k.qcow2");
        }
        open_image(f, "k.qcow2", false);
        assert_int_equal(do_op(f, BLOCK_READ, 0, buf, KILL_SIZE), 0);
        for (uint64_t i = 0; i < KILL_SIZE; i++) {
            if (buf[i] != f->model[i] && !maybe[i]) {
                fail_msg("round %u, %u flushes: byte %#llx is %#x, not %#x", round, flushed,
                         (unsigned long long)i, buf[i], f->model[i]);
            }
        }
        close_image(f);
        if (round % 3 == 2) {
            OK(f, "mv k.qcow2 keep.qcow2; qemu-img convert -O raw keep.qcow2 keep.raw");
        }
    }
    assert_true(total > KILL_ROUNDS); /* it did get somewhere */
    free(maybe);
    free(buf);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(all_cluster_sizes),
        T(all_refcount_widths),
        T(what_the_peer_wrote),
        T(backing_chain),
        T(backing_refusals),
        T(internal_snapshots),
        T(compressed_clusters),
        T(more_than_the_cache),
        T(few_requests),
        T(same_cluster),
        T(close_in_callback),
        T(no_space),
        T(header_refusals),
        T(damage_at_run_time),
        T(idle),
        T(killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
