/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operation programs on a qcow2 image: batches of requests (no two to the same bytes, but often to
 * the same cluster) that complete in any order, flushes, failures of the file, clean closes, kills and power
 * failures; beside it a model of what the guest must read. The first bytes choose the geometry.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/qcow2.h"
#include "core/loop.h"
#include "tests/unit/block_fake.h"
#include "tests/unit/qcow2_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DISK_MAX = 3 << 20, ROOM = 8 << 20, BATCH = 12, IOVS = 5, BACKING = 586 * 512 };

struct op {
    struct block_request req;
    struct iovec iov[IOVS];
    uint8_t *buf;
    int error;
    bool over;
};

struct world {
    const uint8_t *p, *end;
    struct loop *loop;
    struct rig_file *file;
    struct block *b, *backing;
    struct qcow2_geometry g;
    uint64_t size;
    uint8_t *now, *durable; /* what the guest has written; what was flushed */
    uint8_t *touched;       /* bytes that may be either, or torn */
    bool failed;            /* a request failed: leaks are allowed */
    bool unknown;           /* requests to the same bytes were under way at the same time */
    struct op ops[BATCH];
    unsigned nops;
};

static uint8_t next(struct world *w)
{
    return w->p < w->end ? *w->p++ : 0;
}

static void check_sound(struct world *w, bool leaks_allowed)
{
    unsigned leaks;

    if (qcow2_check(w->file->now, w->file->length, &leaks) > 0 || (leaks > 0 && !leaks_allowed)) {
        fprintf(stderr, "image is not sound: %u leaks\n", leaks);
        abort();
    }
}

static void open_image(struct world *w)
{
    char err[512];

    w->b = rig_open(w->loop, w->file, false, err, sizeof(err));
    if (w->b == NULL) {
        fprintf(stderr, "%s\n", err);
        abort();
    }
    if (w->g.backing != NULL) { /* in place of the file: one that completes when it is told to */
        struct qcow2 *q = w->b->state;
        block_close(q->backing);
        q->backing = w->backing = block_fake_create(w->loop, BACKING, true);
        block_fake_hold(w->backing, w->file->hold);
    }
}

/* Lets something complete. */
static void progress(struct world *w)
{
    if (!rig_file_run(w->file) && (w->backing == NULL || block_fake_run(w->backing, 1) == 0)) {
        loop_poll(w->loop, 0);
    }
}

static void done(struct block_request *req, int error)
{
    struct op *op = req->opaque;

    if (op->over) {
        abort();
    }
    op->over = true;
    op->error = error;
}

/* Runs the file and the loop until every request of the batch is done; then the model follows. True
 * when some have failed. */
static bool collect(struct world *w)
{
    for (unsigned i = 0; i < w->nops; i++) {
        for (unsigned spin = 0; !w->ops[i].over; spin++) {
            progress(w);
            if (spin > 2000000) {
                fprintf(stderr, "a request never ends\n");
                abort();
            }
        }
    }
    bool failed = false;
    for (unsigned i = 0; i < w->nops; i++) {
        struct op *op = &w->ops[i];
        uint64_t at = op->req.offset_bytes, len = op->req.length_bytes;
        if (op->error < 0) {
            failed = true;
        }
        if (op->req.op == BLOCK_READ && op->error == 0 && !w->unknown &&
            memcmp(op->buf, w->now + at, len) != 0) {
            uint64_t k = 0;
            while (op->buf[k] == w->now[at + k]) {
                k++;
            }
            fprintf(stderr, "read %#llx + %#llx: byte %#llx is %#x, not %#x\n",
                    (unsigned long long)at, (unsigned long long)len, (unsigned long long)(at + k),
                    op->buf[k], w->now[at + k]);
            abort();
        }
        if (op->req.op == BLOCK_WRITE && op->error < 0) {
            memset(w->touched + at, 1, len);
        } else if (op->req.op == BLOCK_WRITE && op->req.fua && !w->unknown) {
            memcpy(w->durable + at, w->now + at, len);
            memset(w->touched + at, 0, len);
        }
        free(op->buf);
        op->buf = NULL;
    }
    w->nops = 0;
    w->failed |= failed;
    return failed;
}

static void compare(const struct world *w, const uint8_t *have, const uint8_t *expected,
                    uint64_t at, uint64_t len)
{
    for (uint64_t i = at; i < at + len; i++) {
        if (have[i] != expected[i] && !w->touched[i]) {
            fprintf(stderr, "byte %#llx is %#x, not %#x\n", (unsigned long long)i, have[i],
                    expected[i]);
            abort();
        }
    }
}

/* Reads everything; `expected` bytes must be so unless touched. The model becomes what is there. */
static void read_all(struct world *w, const uint8_t *expected)
{
    struct op op = {.over = false};
    uint8_t *buf = malloc(w->size);
    struct iovec iov = {buf, w->size};

    op.req = (struct block_request){.op = BLOCK_READ,
                                    .length_bytes = w->size,
                                    .iov = &iov,
                                    .iovcnt = 1,
                                    .done = done,
                                    .opaque = &op};
    block_submit(w->b, &op.req);
    while (!op.over) {
        progress(w);
    }
    if (op.error < 0) {
        fprintf(stderr, "reading everything: %d\n", op.error);
        abort();
    }
    for (uint64_t i = 0; i < w->size; i += 512) {
        if (memcmp(buf + i, expected + i, 512) != 0) {
            compare(w, buf, expected, i, 512);
        }
    }
    memcpy(w->now, buf, w->size);
    free(buf);
}

/* Ends a batch. What failed requests left is not known: it is read. */
static void settle(struct world *w)
{
    if (collect(w) || w->unknown) {
        w->unknown = false;
        w->file->fail_in = 0;
        read_all(w, w->now);
    }
}

static bool free_range(const struct world *w, uint64_t at, uint64_t len)
{
    for (unsigned i = 0; i < w->nops; i++) {
        const struct block_request *r = &w->ops[i].req;
        if (at < r->offset_bytes + r->length_bytes && r->offset_bytes < at + len) {
            return false;
        }
    }
    return true;
}

/* What a discard leaves. */
static void model_discard(struct world *w, uint64_t at, uint64_t len)
{
    uint64_t cluster = UINT64_C(1) << w->g.cluster_bits, end = at + len;

    if (w->g.version == 2 && w->g.backing != NULL) {
        return;
    }
    end = end == w->size ? end : end / cluster * cluster;
    at = (at + cluster - 1) / cluster * cluster;
    if (at < end) {
        memset(w->now + at, 0, end - at);
        memset(w->touched + at, 1, end - at);
    }
}

static void submit(struct world *w, enum block_op what)
{
    uint8_t where = next(w), fine = next(w), much = next(w), fill = next(w);
    uint64_t at = w->size / 256 * where + (fine & 0x7f) * ((fine & 0x80) != 0 ? 512 : 37);
    uint64_t len = (much & 0x3f) * ((much & 0x80) != 0 ? 4096u : (much & 0x40) != 0 ? 512u : 61u);

    if (at >= w->size) {
        at = w->size - 1;
    }
    len = len == 0 ? 1 : len;
    len = len > w->size - at ? w->size - at : len;
    bool alone = free_range(w, at, len);
    if (w->nops == BATCH || (!alone && what != BLOCK_DISCARD)) {
        settle(w);
    } else if (!alone) {
        w->unknown = true;
    }
    struct op *op = &w->ops[w->nops++];
    memset(op, 0, sizeof(*op));
    op->req = (struct block_request){
        .op = what, .offset_bytes = at, .length_bytes = len, .done = done, .opaque = op};
    if (what != BLOCK_DISCARD) {
        op->buf = malloc(len);
        memset(op->buf, fill, len);
        unsigned parts = fill % IOVS + 1;
        for (unsigned i = 0; i < parts; i++) {
            uint64_t from = len * i / parts, to = len * (i + 1) / parts;
            op->iov[i] = (struct iovec){op->buf + from, to - from};
        }
        op->req.iov = op->iov;
        op->req.iovcnt = (int)parts;
    }
    if (what == BLOCK_WRITE) {
        op->req.fua = fill % 16 == 3;
        memset(w->now + at, fill, len);
        memset(w->touched + at, 1, len);
    } else if (what == BLOCK_DISCARD) {
        model_discard(w, at, len);
    }
    block_submit(w->b, &op->req);
}

/* A flush that nobody waits for. */
static void begin_flush(struct world *w)
{
    if (w->nops == BATCH) {
        settle(w);
    }
    struct op *op = &w->ops[w->nops++];
    memset(op, 0, sizeof(*op));
    op->req = (struct block_request){.op = BLOCK_FLUSH, .done = done, .opaque = op};
    block_submit(w->b, &op->req);
}

/* Everything before it is durable. */
static void flush(struct world *w)
{
    settle(w);
    struct op *op = &w->ops[w->nops++];
    memset(op, 0, sizeof(*op));
    op->req = (struct block_request){.op = BLOCK_FLUSH, .done = done, .opaque = op};
    block_submit(w->b, &op->req);
    for (unsigned spin = 0; !op->over; spin++) {
        progress(w);
        if (spin > 2000000) {
            abort();
        }
    }
    bool good = op->error == 0;
    settle(w);
    if (good) {
        memcpy(w->durable, w->now, w->size);
        memset(w->touched, 0, w->size);
    }
}

/* After a failure, what the failed writes left is not known. */
static void resync(struct world *w)
{
    w->file->fail_in = 0;
    w->file->hold = false;
    settle(w);
    read_all(w, w->now);
}

static void close_clean(struct world *w)
{
    resync(w);
    block_close(w->b);
    check_sound(w, w->failed);
    open_image(w);
    memcpy(w->durable, w->now, w->size);
    uint8_t *touched = w->touched;
    static uint8_t none[DISK_MAX];
    w->touched = none;
    read_all(w, w->durable);
    w->touched = touched;
    memset(w->touched, 0, w->size);
}

/* Power fails (or the process is killed), perhaps with requests under way. */
static void crash(struct world *w, bool kill)
{
    rig_abandon(w->file, w->b);
    for (unsigned i = 0; i < w->nops; i++) {
        if (!w->ops[i].over) {
            abort();
        }
        free(w->ops[i].buf);
    }
    w->nops = 0;
    if (kill) {
        rig_file_kill(w->file);
    } else {
        rig_file_crash(w->file);
    }
    w->failed = true; /* leaks */
    w->file->hold = false;
    check_sound(w, true);
    open_image(w);
    read_all(w, w->durable);
    memcpy(w->durable, w->now, w->size);
    memset(w->touched, 0, w->size);
    /* What was read after the crash may still be in the disk's cache only: it is not, here. */
}

static void run(struct world *w)
{
    unsigned closes = 0, crashes = 0; /* these take time */

    for (unsigned n = 0; n < 300 && w->p < w->end; n++) {
        uint8_t what = next(w);
        switch (what % 16) {
        case 0 ... 5:
            submit(w, BLOCK_WRITE);
            break;
        case 6 ... 8:
            submit(w, BLOCK_READ);
            break;
        case 9:
            submit(w, BLOCK_DISCARD);
            break;
        case 10:
            if ((what & 0x30) == 0x30) {
                begin_flush(w);
            } else {
                flush(w);
            }
            break;
        case 11:
            w->file->hold = (what & 0x10) != 0;
            if (w->backing != NULL) {
                block_fake_hold(w->backing, (what & 0x20) != 0);
            }
            break;
        case 12:
            if ((what & 0x70) == 0x70 && closes++ < 6) {
                close_clean(w);
            } else {
                settle(w);
            }
            break;
        case 13:
            if ((what & 0x80) == 0) { /* in the middle of a write-back */
                w->file->hold = true;
                begin_flush(w);
                for (unsigned i = next(w) % 24; i > 0; i--) {
                    progress(w);
                }
            }
            if (crashes++ < 12) {
                crash(w, (what & 0xc0) == 0xc0);
            }
            break;
        case 14:
            if ((what & 0xc0) == 0xc0) {
                static const int errors[] = {-EIO, -ENOSPC};
                w->file->fail_op = (what & 0x20) != 0 ? BLOCK_FLUSH : BLOCK_WRITE;
                w->file->fail_with = errors[what >> 4 & 1];
                w->file->fail_in = 1 + next(w) % 24;
            }
            break;
        default:
            for (unsigned i = what >> 4; i > 0; i--) {
                progress(w);
            }
            break;
        }
    }
}

static void choose(struct world *w, char path[32], int *fd)
{
    uint8_t a = next(w), b = next(w), c = next(w);

    w->g.cluster_bits = 9 + a % 8;
    w->g.version = (b & 1) != 0 ? 3 : 2;
    w->g.refcount_order = w->g.version == 2 ? 4 : (b >> 1) % 7;
    w->g.snapshot = (b & 0x10) != 0 && w->g.refcount_order > 0;
    w->g.snapshot_fill = 0x5a;
    uint64_t size = (64 + (uint64_t)c * (c < 224 ? 2 : 23)) * 512;
    uint64_t limit = (UINT64_C(1) << w->g.cluster_bits) * 4096;
    size = size < limit ? size : limit;
    w->g.size_bytes = w->size = size < DISK_MAX ? size : DISK_MAX;
    *fd = -1;
    if ((b & 0x60) == 0x60) {
        *fd = memfd_create("backing", 0);
        if (*fd < 0 || ftruncate(*fd, BACKING) != 0) {
            abort();
        }
        snprintf(path, 32, "/proc/self/fd/%d", *fd);
        w->g.backing = path;
        w->g.backing_format = "raw";
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.p = data, .end = data + size};
    char path[32];
    size_t len;
    int fd;

    if (size < 4) {
        return 0;
    }
    choose(&w, path, &fd);
    w.loop = loop_create(true);
    uint8_t *image = qcow2_make(&w.g, &len);
    w.file = rig_file_create(image, len, ROOM);
    w.file->random = next(&w);
    w.now = calloc(1, w.size);
    w.durable = calloc(1, w.size);
    w.touched = calloc(1, w.size);
    uint64_t cluster = UINT64_C(1) << w.g.cluster_bits;
    for (uint64_t i = 0; i < w.size; i++) {
        bool shared = w.g.snapshot && i / cluster < 12 && i / cluster % 3 == 0;
        w.now[i] = shared                               ? w.g.snapshot_fill
                   : w.g.backing != NULL && i < BACKING ? block_fake_byte(i)
                                                        : 0;
    }
    memcpy(w.durable, w.now, w.size);
    check_sound(&w, false);
    open_image(&w);
    run(&w);
    close_clean(&w);
    block_close(w.b);
    check_sound(&w, w.failed);
    loop_destroy(w.loop);
    rig_file_destroy(w.file);
    free(w.now);
    free(w.durable);
    free(w.touched);
    if (fd >= 0) {
        close(fd);
    }
    return 0;
}
