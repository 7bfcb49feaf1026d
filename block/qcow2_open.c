/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2: opening an image. "Header", "Header extensions"; nothing in them is believed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "block/qcow2.h"

enum { /* "Header": offsets in the file */
       H_MAGIC = 0,
       H_VERSION = 4,
       H_BACKING_OFFSET = 8,
       H_BACKING_SIZE = 16,
       H_CLUSTER_BITS = 20,
       H_SIZE = 24,
       H_CRYPT_METHOD = 32,
       H_L1_SIZE = 36,
       H_L1_OFFSET = 40,
       H_REFTABLE_OFFSET = 48,
       H_REFTABLE_CLUSTERS = 56,
       H_NB_SNAPSHOTS = 60,
       H_SNAPSHOTS_OFFSET = 64,
       H_V2_LENGTH = 72,
       H_REFCOUNT_ORDER = 96,
       H_LENGTH = 100,
       H_COMPRESSION_TYPE = 104,
       H_V3_LENGTH_MIN = 104,
};

enum {
    MAGIC = 0x514649fb,
    EXT_BACKING_FORMAT = (int)0xe2792aca,
    EXT_FEATURE_NAMES = 0x6803f857,
    FEATURE_NAME_BYTES = 48,
    BACKING_NAME_MAX = 1023,
    PATH_BYTES = 4096,
};

enum { /* incompatible features */
       F_DIRTY = 1 << 0,
       F_CORRUPT = 1 << 1,
       F_DATA_FILE = 1 << 2,
       F_COMPRESSION = 1 << 3,
       F_EXTENDED_L2 = 1 << 4,
};

/* What is collected on the way. */
struct opening {
    struct qcow2 *q;
    const struct block_config *cfg;
    char *err;
    size_t errlen;
    uint8_t *head; /* the first cluster */
    uint32_t header_bytes;
    char backing_format[16], backing_name[BACKING_NAME_MAX + 1];
    uint64_t autoclear;
};

#define FAIL(o, ...) fail_with(o, -EINVAL, __VA_ARGS__)

__attribute__((format(printf, 3, 4))) static int fail_with(const struct opening *o, int rc,
                                                           const char *fmt, ...)
{
    int n = snprintf(o->err, o->errlen, "image %s: ", o->q->b->name);
    va_list args;

    va_start(args, fmt);
    if (n >= 0 && (size_t)n < o->errlen) {
        vsnprintf(o->err + n, o->errlen - (size_t)n, fmt, args);
    }
    va_end(args);
    return rc;
}

struct blocking {
    struct block_request req;
    struct iovec iov;
    bool over;
    int error;
};

static void blocking_done(struct block_request *req, int error)
{
    struct blocking *w = req->opaque;

    w->over = true;
    w->error = error;
}

/* Reads or writes, blocking; reads behind the end give zeros. 0 or -errno. */
static int transfer(struct qcow2 *q, enum block_op op, uint64_t offset, void *buf, uint64_t len)
{
    struct blocking w = {.over = false};
    uint64_t end = q->file->size_bytes, have = offset < end ? end - offset : 0;

    if (op == BLOCK_READ && have < len) {
        memset((uint8_t *)buf + have, 0, (size_t)(len - have));
        len = have;
    }
    if (len == 0 && op != BLOCK_FLUSH) {
        return 0;
    }
    w.iov = (struct iovec){buf, (size_t)len};
    w.req = (struct block_request){.op = op,
                                   .offset_bytes = offset,
                                   .length_bytes = len,
                                   .iov = &w.iov,
                                   .iovcnt = op == BLOCK_FLUSH ? 0 : 1,
                                   .done = blocking_done,
                                   .opaque = &w};
    block_submit(q->file, &w.req);
    while (!w.over) {
        block_wait(q->file);
    }
    return w.error;
}

/* The name that the image's table of feature names gives to an incompatible feature. */
static void feature_name(const struct opening *o, unsigned bit, char name[FEATURE_NAME_BYTES])
{
    uint64_t at = o->header_bytes, end = o->q->cluster_bytes;

    snprintf(name, FEATURE_NAME_BYTES, "bit %u", bit);
    while (at + 8 <= end) {
        uint32_t type = qcow2_get32(o->head + at), len = qcow2_get32(o->head + at + 4);
        at += 8;
        if (type == 0 || len > end - at) {
            return;
        }
        for (uint32_t i = 0; type == EXT_FEATURE_NAMES && i + FEATURE_NAME_BYTES <= len;
             i += FEATURE_NAME_BYTES) {
            const uint8_t *p = o->head + at + i;
            if (p[0] != 0 || p[1] != bit) {
                continue;
            }
            size_t n = 0;
            for (; n < FEATURE_NAME_BYTES - 2 && p[2 + n] != 0; n++) {
                name[n] = p[2 + n] >= 0x20 && p[2 + n] < 0x7f ? (char)p[2 + n] : '?';
            }
            name[n] = 0;
        }
        at += ((uint64_t)len + 7) & ~UINT64_C(7);
    }
}

static int check_features(struct opening *o)
{
    struct qcow2 *q = o->q;
    uint64_t bits = q->incompatible;
    bool writable = !q->b->readonly;

    if ((bits & F_DATA_FILE) != 0) {
        return FAIL(o, "external data files are not supported");
    }
    if ((bits & F_EXTENDED_L2) != 0) {
        return FAIL(o, "extended L2 entries (subclusters) are not supported");
    }
    uint32_t compression = o->header_bytes > H_COMPRESSION_TYPE ? o->head[H_COMPRESSION_TYPE] : 0;
    if ((bits & F_COMPRESSION) != 0 || compression != 0) {
        return FAIL(o, "compression type %s is not supported, only zlib",
                    compression == 1 ? "zstd" : "(unknown)");
    }
    for (unsigned bit = 5; bit < 64; bit++) {
        if ((bits >> bit & 1) != 0) {
            char name[FEATURE_NAME_BYTES];
            feature_name(o, bit, name);
            return FAIL(o, "feature '%s' is not supported", name);
        }
    }
    if ((bits & F_CORRUPT) != 0 && writable) {
        return FAIL(o, "is marked as corrupt; repair it with qemu-img check -r all");
    }
    if ((bits & F_DIRTY) != 0 && writable) {
        return FAIL(o, "its refcounts are not up to date (it was not closed cleanly); repair it "
                       "with qemu-img check -r all");
    }
    return 0;
}

/* Version, sizes and features. */
static int read_header(struct opening *o)
{
    struct qcow2 *q = o->q;
    uint8_t h[112];
    int rc = transfer(q, BLOCK_READ, 0, h, sizeof(h));

    if (rc < 0) {
        return fail_with(o, rc, "cannot read the header: %s", strerror(-rc));
    }
    if (qcow2_get32(h + H_MAGIC) != MAGIC) {
        return FAIL(o, "is not a qcow2 image");
    }
    q->version = qcow2_get32(h + H_VERSION);
    if (q->version != 2 && q->version != 3) {
        return FAIL(o, "qcow2 version %u is not supported", q->version);
    }
    q->cluster_bits = qcow2_get32(h + H_CLUSTER_BITS);
    if (q->cluster_bits < 9 || q->cluster_bits > 21) {
        return FAIL(o, "clusters of 2^%u bytes are not supported", q->cluster_bits);
    }
    q->cluster_bytes = UINT64_C(1) << q->cluster_bits;
    if (qcow2_get32(h + H_CRYPT_METHOD) != 0) {
        return FAIL(o, "is encrypted, which is not supported");
    }
    o->header_bytes = q->version == 2 ? H_V2_LENGTH : qcow2_get32(h + H_LENGTH);
    if (q->version == 3 && (o->header_bytes < H_V3_LENGTH_MIN || o->header_bytes % 8 != 0 ||
                            o->header_bytes > q->cluster_bytes)) {
        return FAIL(o, "header length %u makes no sense", o->header_bytes);
    }
    o->head = malloc((size_t)q->cluster_bytes);
    if (o->head == NULL) {
        return fail_with(o, -ENOMEM, "out of memory");
    }
    rc = transfer(q, BLOCK_READ, 0, o->head, q->cluster_bytes);
    if (rc < 0) {
        return fail_with(o, rc, "cannot read the header: %s", strerror(-rc));
    }
    memcpy(o->head, h, sizeof(h)); /* what has been checked is what is used */
    q->refcount_order = 4;
    if (q->version == 3) {
        q->refcount_order = qcow2_get32(h + H_REFCOUNT_ORDER);
        q->incompatible = qcow2_get64(h + QCOW2_H_INCOMPATIBLE);
        o->autoclear = qcow2_get64(h + QCOW2_H_AUTOCLEAR);
    }
    if (q->refcount_order > 6) {
        return FAIL(o, "refcounts of 2^%u bits are not supported", q->refcount_order);
    }
    return check_features(o);
}

/* The format of the backing image. */
static int read_extensions(struct opening *o)
{
    uint64_t backing = qcow2_get64(o->head + H_BACKING_OFFSET);
    uint64_t at = o->header_bytes, end = o->q->cluster_bytes;

    if (backing != 0 && backing < end) {
        end = backing; /* in old images the name follows the header at once */
    }
    while (at + 8 <= end) {
        uint32_t type = qcow2_get32(o->head + at), len = qcow2_get32(o->head + at + 4);
        at += 8;
        if (type == 0) {
            break;
        }
        if (len > end - at) {
            return FAIL(o, "header extension %#x is too long", type);
        }
        if (type == (uint32_t)EXT_BACKING_FORMAT) {
            if (len >= sizeof(o->backing_format)) {
                return FAIL(o, "the name of the backing format is too long");
            }
            memcpy(o->backing_format, o->head + at, len);
            o->backing_format[len] = 0;
        }
        at += ((uint64_t)len + 7) & ~UINT64_C(7);
    }
    return 0;
}

static bool printable(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static int read_backing_name(struct opening *o)
{
    uint64_t at = qcow2_get64(o->head + H_BACKING_OFFSET);
    uint32_t len = qcow2_get32(o->head + H_BACKING_SIZE);

    if (at == 0 || len == 0) {
        return 0;
    }
    if (len > BACKING_NAME_MAX || at > o->q->cluster_bytes || len > o->q->cluster_bytes - at) {
        return FAIL(o, "the name of the backing file is not inside the header");
    }
    memcpy(o->backing_name, o->head + at, len);
    o->backing_name[len] = 0;
    if (!printable(o->backing_name, len)) {
        return FAIL(o, "the name of the backing file has control characters");
    }
    if (!printable(o->backing_format, strlen(o->backing_format))) {
        return FAIL(o, "the name of the backing format has control characters");
    }
    return 0;
}

/* A table named by the header: aligned, in the file, not over the header. */
static int check_table(struct opening *o, const char *what, uint64_t host, uint64_t bytes)
{
    const struct qcow2 *q = o->q;
    uint64_t end = qcow2_file_end(q);

    if ((host & (q->cluster_bytes - 1)) != 0) {
        return FAIL(o, "is corrupt: the %s is not aligned", what);
    }
    if (host < q->cluster_bytes) {
        return FAIL(o, "is corrupt: the %s lies over the header", what);
    }
    if (host >= end || bytes > end - host) {
        return FAIL(o, "is corrupt: the %s is not inside the file", what);
    }
    return 0;
}

/* Takes a table into memory; whole sectors. */
static int load_root(struct opening *o, struct qcow2_root *root, const char *what)
{
    uint64_t bytes = (root->entries * 8 + BLOCK_SECTOR - 1) & ~(uint64_t)(BLOCK_SECTOR - 1);

    root->data = malloc((size_t)bytes);
    if (root->data == NULL) {
        return fail_with(o, -ENOMEM, "out of memory");
    }
    int rc = transfer(o->q, BLOCK_READ, root->host, root->data, bytes);
    if (rc < 0) {
        return fail_with(o, rc, "cannot read the %s: %s", what, strerror(-rc));
    }
    return 0;
}

static int read_tables(struct opening *o)
{
    struct qcow2 *q = o->q;
    const uint8_t *h = o->head;
    uint64_t size = qcow2_get64(h + H_SIZE), l1_size = qcow2_get32(h + H_L1_SIZE);
    uint64_t reftable_bytes = (uint64_t)qcow2_get32(h + H_REFTABLE_CLUSTERS) << q->cluster_bits;
    uint32_t snapshots = qcow2_get32(h + H_NB_SNAPSHOTS);
    uint64_t per_table = q->cluster_bytes << q->l2_bits;

    if (size < BLOCK_SECTOR || size > INT64_MAX) {
        return FAIL(o, "a size of %llu bytes makes no sense", (unsigned long long)size);
    }
    q->size_bytes = size & ~(uint64_t)(BLOCK_SECTOR - 1);
    q->l1.host = qcow2_get64(h + H_L1_OFFSET);
    q->l1.entries = (q->size_bytes + per_table - 1) / per_table;
    if (l1_size * 8 > QCOW2_L1_BYTES_MAX || l1_size < q->l1.entries) {
        return FAIL(o, "is corrupt: an L1 table of %llu entries for %llu bytes",
                    (unsigned long long)l1_size, (unsigned long long)size);
    }
    if (reftable_bytes == 0 || reftable_bytes > QCOW2_REFTABLE_BYTES_MAX) {
        return FAIL(o, "is corrupt: a refcount table of %llu bytes",
                    (unsigned long long)reftable_bytes);
    }
    q->reftable.host = qcow2_get64(h + H_REFTABLE_OFFSET);
    q->reftable.entries = reftable_bytes / 8;
    int rc = check_table(o, "L1 table", q->l1.host, l1_size * 8);
    if (rc == 0) {
        rc = check_table(o, "refcount table", q->reftable.host, reftable_bytes);
    }
    if (rc == 0 && snapshots > 0) {
        rc = check_table(o, "snapshot table", qcow2_get64(h + H_SNAPSHOTS_OFFSET), 40);
    }
    if (rc == 0 && q->l1.host < q->reftable.host + reftable_bytes &&
        q->reftable.host < q->l1.host + l1_size * 8) {
        rc = FAIL(o, "is corrupt: L1 table and refcount table overlap");
    }
    if (rc == 0) {
        rc = load_root(o, &q->l1, "L1 table");
    }
    if (rc == 0 && !q->b->readonly) {
        rc = load_root(o, &q->reftable, "refcount table");
    }
    return rc;
}

/* True for "name:...", which is not a file. */
static bool names_protocol(const char *name)
{
    size_t n = strcspn(name, ":/");

    return name[n] == ':';
}

/* The backing image's path: relative ones are meant from the folder of this image. */
static int backing_path(struct opening *o, char path[PATH_BYTES])
{
    const char *name = o->backing_name, *own = o->cfg->path;

    if (strncmp(name, "nbd:", 4) == 0 || strncmp(name, "nbd+unix:", 9) == 0) {
        snprintf(path, PATH_BYTES, "%s", name);
        return 0;
    }
    if (strncmp(name, "file:", 5) == 0) {
        name += 5;
    } else if (names_protocol(name)) {
        return FAIL(o, "backing file '%.200s': names of this kind are not supported", name);
    }
    if (name[0] == '/') {
        snprintf(path, PATH_BYTES, "%s", name);
        return 0;
    }
    if (own == NULL || strncmp(own, "/dev/fdset/", 11) == 0) {
        return FAIL(o, "backing file '%.200s': which folder it is in is not known", name);
    }
    const char *slash = strrchr(own, '/');
    int dir = slash != NULL ? (int)(slash - own) + 1 : 0;
    if (snprintf(path, PATH_BYTES, "%.*s%s", dir, own, name) >= PATH_BYTES) {
        return FAIL(o, "the path of backing file '%.200s' is too long", name);
    }
    return 0;
}

static int open_backing(struct opening *o)
{
    char path[PATH_BYTES];

    if (o->backing_name[0] == 0) {
        return 0;
    }
    int rc = backing_path(o, path);
    if (rc < 0) {
        return rc;
    }
    if (o->backing_format[0] == 0) {
        return FAIL(o,
                    "the format of backing file '%.200s' is not given; name it with: qemu-img "
                    "rebase -u -F raw -b '%.200s' %s",
                    o->backing_name, o->backing_name, o->q->b->name);
    }
    const struct block_config cfg = {.path = path,
                                     .format = o->backing_format,
                                     .fd = -1,
                                     .readonly = true,
                                     .depth = o->cfg->depth + 1};
    char reason[512];
    o->q->backing = block_open(o->q->b->loop, &cfg, reason, sizeof(reason));
    if (o->q->backing == NULL && o->cfg->depth > 0) { /* the image at the top names itself */
        snprintf(o->err, o->errlen, "%s", reason);
        return -EINVAL;
    }
    if (o->q->backing == NULL) {
        return FAIL(o, "backing file: %s", reason);
    }
    return 0;
}

/* Features that others keep up to date and we do not (dirty bitmaps) are switched off first. */
static int clear_autoclear(struct opening *o)
{
    uint8_t zeros[8] = {0};

    if (o->autoclear == 0 || o->q->b->readonly) {
        return 0;
    }
    int rc = transfer(o->q, BLOCK_WRITE, QCOW2_H_AUTOCLEAR, zeros, sizeof(zeros));
    if (rc == 0) {
        rc = transfer(o->q, BLOCK_FLUSH, 0, NULL, 0);
    }
    return rc < 0 ? fail_with(o, rc, "cannot write the header: %s", strerror(-rc)) : 0;
}

static void resume(void *arg)
{
    struct qcow2 *q = arg;

    qcow2_enter(q);
    qcow2_wake(&q->resume_queue, 0);
    qcow2_leave(q);
}

/* Nothing happened for a while: memory goes back. */
static void idle(void *arg)
{
    struct qcow2 *q = arg;

    if (q->b->in_flight > 0 || q->activity != q->idle_activity) {
        q->idle_activity = q->activity;
        timer_set(&q->idle_timer, loop_now(q->b->loop, LOOP_HOST) + QCOW2_IDLE_NS);
        return;
    }
    qcow2_slices_drop(q, false);
    qcow2_inflate_drop(q);
    while (q->io_pool != NULL) {
        struct qcow2_io *io = q->io_pool;
        q->io_pool = io->next;
        free(io);
    }
    q->nio_pool = 0;
}

void qcow2_free(struct qcow2 *q)
{
    timer_cancel(&q->idle_timer);
    bottom_half_cancel(&q->resume_bh);
    qcow2_slices_drop(q, true);
    qcow2_inflate_drop(q);
    while (q->io_pool != NULL) {
        struct qcow2_io *io = q->io_pool;
        q->io_pool = io->next;
        free(io);
    }
    while (q->req_pool != NULL) {
        struct qcow2_req *r = q->req_pool;
        q->req_pool = r->next;
        free(r);
    }
    qcow2_extents_free(&q->pending);
    qcow2_extents_free(&q->held);
    qcow2_extents_free(&q->ready);
    block_close(q->backing);
    free(q->l1.data);
    free(q->reftable.data);
    if (q->zeros != NULL) {
        munmap(q->zeros, (size_t)q->cluster_bytes);
    }
}

/* Sizes that follow from the header. */
static int derive(struct opening *o)
{
    struct qcow2 *q = o->q;

    q->l2_bits = q->cluster_bits - 3;
    q->block_bits = q->cluster_bits + 3 - q->refcount_order;
    q->slice_bytes =
        q->cluster_bytes < QCOW2_SLICE_BYTES ? (unsigned)q->cluster_bytes : QCOW2_SLICE_BYTES;
    unsigned slice_bits = (unsigned)__builtin_ctz(q->slice_bytes);
    q->slice_entry_bits = slice_bits - 3;
    q->slice_refs_bits = slice_bits + 3 - q->refcount_order;
    q->slices_max = QCOW2_CACHE_BYTES / q->slice_bytes;
    uint64_t allocs = QCOW2_COW_BYTES / (2 * q->cluster_bytes);
    q->allocs_max = allocs < 2                  ? 2
                    : allocs > QCOW2_ALLOCS_MAX ? QCOW2_ALLOCS_MAX
                                                : (unsigned)allocs;
    void *zeros =
        mmap(NULL, (size_t)q->cluster_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (zeros == MAP_FAILED) {
        return fail_with(o, -ENOMEM, "out of memory");
    }
    q->zeros = zeros;
    return 0;
}

int qcow2_open(struct block *b, const struct block_config *cfg, int fd, char *err, size_t errlen)
{
    static int (*const steps[])(struct opening *) = {
        read_header,       derive,       read_tables,     read_extensions,
        read_backing_name, open_backing, clear_autoclear,
    };
    struct qcow2 *q = calloc(1, sizeof(*q));
    struct opening o = {.q = q, .cfg = cfg, .err = err, .errlen = errlen};
    int rc = 0;

    (void)fd; /* formats stand on b->file */
    if (q == NULL) {
        snprintf(err, errlen, "image %s: out of memory", b->name);
        return -ENOMEM;
    }
    q->b = b;
    q->file = b->file;
    qcow2_refs_init(q);
    bottom_half_init(&q->resume_bh, b->loop, resume, q);
    timer_init(&q->idle_timer, b->loop, LOOP_HOST, idle, q);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && rc == 0; i++) {
        rc = steps[i](&o);
    }
    free(o.head);
    if (rc < 0) {
        qcow2_free(q);
        free(q);
        return rc;
    }
    q->high_water = b->file->size_bytes;
    b->state = q;
    b->size_bytes = q->size_bytes;
    return 0;
}
