/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2: who waits for what, slices of tables, children of requests. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2.h"

void qcow2_park(struct qcow2_queue *queue, struct qcow2_wait *w)
{
    w->next = NULL;
    if (queue->last != NULL) {
        queue->last->next = w;
    } else {
        queue->first = w;
    }
    queue->last = w;
}

void qcow2_wake(struct qcow2_queue *queue, int error)
{
    struct qcow2_wait *w = queue->first;

    queue->first = NULL;
    queue->last = NULL;
    while (w != NULL) {
        struct qcow2_wait *next = w->next;
        w->wake(w, error);
        w = next;
    }
}

/* Slices. */

static struct qcow2_slice **hash_slot(struct qcow2 *q, enum qcow2_table table, uint64_t host)
{
    uint64_t n = host / q->slice_bytes;
    return &q->hash[(n ^ n >> 8 ^ n >> 16 ^ (uint64_t)table << 7) % QCOW2_HASH];
}

static struct qcow2_slice *find(struct qcow2 *q, enum qcow2_table table, uint64_t host)
{
    struct qcow2_slice *s = *hash_slot(q, table, host);

    while (s != NULL && (s->host != host || s->table != table)) {
        s = s->hash_next;
    }
    return s;
}

static void age_remove(struct qcow2 *q, struct qcow2_slice *s)
{
    *(s->older != NULL ? &s->older->newer : &q->oldest) = s->newer;
    *(s->newer != NULL ? &s->newer->older : &q->newest) = s->older;
}

static void age_newest(struct qcow2 *q, struct qcow2_slice *s)
{
    s->newer = NULL;
    s->older = q->newest;
    *(q->newest != NULL ? &q->newest->newer : &q->oldest) = s;
    q->newest = s;
}

static void remove_slice(struct qcow2 *q, struct qcow2_slice *s)
{
    struct qcow2_slice **p = hash_slot(q, s->table, s->host);

    while (*p != s) {
        p = &(*p)->hash_next;
    }
    *p = s->hash_next;
    age_remove(q, s);
    q->nslices--;
    free(s->data);
    free(s);
}

static bool is_dirty(const struct qcow2_slice *s)
{
    return s->dirty_lo != s->dirty_hi;
}

static bool in_use(const struct qcow2_slice *s)
{
    return s->pins > 0 || s->loading || s->writing || is_dirty(s);
}

/* True when there is room for one more slice. */
static bool make_room(struct qcow2 *q)
{
    if (q->nslices < q->slices_max) {
        return true;
    }
    for (struct qcow2_slice *s = q->oldest; s != NULL; s = s->newer) {
        if (!in_use(s)) {
            remove_slice(q, s);
            return true;
        }
    }
    return false;
}

void qcow2_slices_drop(struct qcow2 *q, bool dirty)
{
    for (struct qcow2_slice *s = q->oldest, *newer; s != NULL; s = newer) {
        newer = s->newer;
        if (dirty || !in_use(s)) {
            remove_slice(q, s);
        }
    }
}

bool qcow2_slices_forget(struct qcow2 *q, enum qcow2_table table, uint64_t host)
{
    for (uint64_t at = 0; at < q->cluster_bytes; at += q->slice_bytes) {
        struct qcow2_slice *s = find(q, table, host + at);
        if (s != NULL && in_use(s)) {
            return false;
        }
        if (s != NULL) {
            remove_slice(q, s);
        }
    }
    return true;
}

static void loaded(struct qcow2_io *io, int error)
{
    struct qcow2 *q = io->q;
    struct qcow2_slice *s = io->owner;
    struct qcow2_queue waiters = s->waiters;

    s->loading = false;
    s->waiters.first = NULL;
    s->waiters.last = NULL;
    if (error < 0) {
        remove_slice(q, s);
    } else {
        s->pins++; /* nobody who is woken drops it before the last one has seen it */
    }
    qcow2_wake(&waiters, error);
    if (error == 0) {
        qcow2_slice_unpin(q, s);
    } else {
        qcow2_wake(&q->cache_queue, 0);
    }
}

/* A slice without contents, in the hash. NULL: out of memory. */
static struct qcow2_slice *new_slice(struct qcow2 *q, enum qcow2_table table, uint64_t host)
{
    struct qcow2_slice *s = calloc(1, sizeof(*s));
    uint8_t *data = malloc(q->slice_bytes);

    if (s == NULL || data == NULL) {
        free(s);
        free(data);
        return NULL;
    }
    s->table = table;
    s->host = host;
    s->data = data;
    struct qcow2_slice **slot = hash_slot(q, table, host);
    s->hash_next = *slot;
    *slot = s;
    age_newest(q, s);
    q->nslices++;
    return s;
}

int qcow2_slice_get(struct qcow2 *q, enum qcow2_table table, uint64_t host, struct qcow2_wait *w,
                    struct qcow2_slice **out)
{
    struct qcow2_slice *s = find(q, table, host);

    if (s == NULL) {
        if (!make_room(q)) {
            /* Everything is dirty or in use: a write-back ends, or who uses it does. */
            qcow2_park(&q->cache_queue, w);
            qcow2_writeback_start(q);
            return 1;
        }
        struct qcow2_io *io = qcow2_io_get(q, NULL, loaded);
        s = io != NULL ? new_slice(q, table, host) : NULL;
        if (s == NULL) {
            qcow2_io_put(io);
            return -ENOMEM;
        }
        s->loading = true;
        qcow2_park(&s->waiters, w);
        io->owner = s;
        (void)qcow2_io_add(io, s->data, q->slice_bytes);
        qcow2_io_file(io, BLOCK_READ, host, 0);
        return 1;
    }
    if (s->loading) {
        qcow2_park(&s->waiters, w);
        return 1;
    }
    if (s != q->newest) {
        age_remove(q, s);
        age_newest(q, s);
    }
    *out = s;
    return 0;
}

void qcow2_slice_dirty(struct qcow2 *q, struct qcow2_slice *s, size_t at, size_t len)
{
    uint8_t lo = (uint8_t)(at / BLOCK_SECTOR);
    uint8_t hi = (uint8_t)((at + len + BLOCK_SECTOR - 1) / BLOCK_SECTOR);

    if (!is_dirty(s)) {
        s->dirty_lo = lo;
        s->dirty_hi = hi;
        q->ndirty++;
        return;
    }
    s->dirty_lo = lo < s->dirty_lo ? lo : s->dirty_lo;
    s->dirty_hi = hi > s->dirty_hi ? hi : s->dirty_hi;
}

void qcow2_slice_unpin(struct qcow2 *q, struct qcow2_slice *s)
{
    s->pins--;
    if (!in_use(s) && q->cache_queue.first != NULL) {
        qcow2_wake(&q->cache_queue, 0);
    }
}

void qcow2_root_dirty(struct qcow2_root *root, uint64_t i)
{
    uint32_t sector = (uint32_t)(i * 8 / BLOCK_SECTOR);

    for (unsigned k = 0; k < root->ndirty; k++) {
        if (root->dirty[k] == sector) {
            return;
        }
    }
    root->dirty[root->ndirty++] = sector;
}

/* Children. */

struct qcow2_io *qcow2_io_get(struct qcow2 *q, void *owner,
                              void (*done)(struct qcow2_io *io, int error))
{
    struct qcow2_io *io = q->io_pool;

    if (io != NULL) {
        q->io_pool = io->next;
        q->nio_pool--;
    } else if ((io = malloc(sizeof(*io))) == NULL) {
        return NULL;
    }
    memset(&io->req, 0, sizeof(io->req));
    io->q = q;
    io->owner = owner;
    io->done = done;
    io->bytes = 0;
    return io;
}

void qcow2_io_put(struct qcow2_io *io)
{
    if (io == NULL) {
        return;
    }
    struct qcow2 *q = io->q;
    if (q->nio_pool >= QCOW2_POOL_MAX) {
        free(io);
        return;
    }
    io->next = q->io_pool;
    q->io_pool = io;
    q->nio_pool++;
}

bool qcow2_io_add(struct qcow2_io *io, void *base, size_t len)
{
    int n = io->req.iovcnt;

    if (n == BLOCK_IOV_MAX) {
        return false;
    }
    if (len > 0) {
        io->iov[n] = (struct iovec){base, len};
        io->req.iovcnt = n + 1;
        io->bytes += len;
    }
    return true;
}

int qcow2_iov_slice(struct iovec *dst, const struct iovec *src, int cnt, uint64_t at, uint64_t len)
{
    int n = 0;

    for (int i = 0; i < cnt && len > 0; i++) {
        uint64_t have = src[i].iov_len;
        if (at >= have) {
            at -= have;
            continue;
        }
        uint64_t take = have - at < len ? have - at : len;
        dst[n++] = (struct iovec){(uint8_t *)src[i].iov_base + at, (size_t)take};
        at = 0;
        len -= take;
    }
    return n;
}

void qcow2_epoch_end(struct qcow2 *q, unsigned epoch)
{
    q->epoch_children[epoch]--;
    if (epoch != q->epoch && q->epoch_children[epoch] == 0) {
        qcow2_frees_check(q);
    }
}

static void end_child(struct qcow2_io *io, int error)
{
    io->done(io, error);
    qcow2_io_put(io);
}

static void file_done(struct block_request *req, int error)
{
    struct qcow2_io *io = req->opaque;
    struct qcow2 *q = io->q;
    unsigned epoch = io->epoch;

    qcow2_enter(q);
    end_child(io, error);
    qcow2_epoch_end(q, epoch);
    qcow2_leave(q);
}

static void backing_done(struct block_request *req, int error)
{
    struct qcow2_io *io = req->opaque;
    struct qcow2 *q = io->q;

    qcow2_enter(q);
    end_child(io, error);
    qcow2_leave(q);
}

/* Shortens a read to what lies before `end` of the bytes below; the rest is zeros. False: nothing
 * is left to be read. */
static bool clip_read(struct qcow2_io *io, uint64_t offset, uint64_t end)
{
    uint64_t keep = offset < end ? end - offset : 0;
    int n = 0;

    if (keep >= io->bytes) {
        return true;
    }
    uint64_t at = 0;
    for (int i = 0; i < io->req.iovcnt; i++) {
        uint64_t len = io->iov[i].iov_len;
        uint64_t good = at < keep ? keep - at : 0;
        if (good < len) {
            memset((uint8_t *)io->iov[i].iov_base + good, 0, (size_t)(len - good));
            io->iov[i].iov_len = (size_t)good;
        }
        n += io->iov[i].iov_len > 0;
        at += len;
    }
    io->req.iovcnt = n;
    io->bytes = keep;
    return n > 0;
}

void qcow2_io_file(struct qcow2_io *io, enum block_op op, uint64_t offset, uint64_t length)
{
    struct qcow2 *q = io->q;

    if (op == BLOCK_READ && !clip_read(io, offset, q->file->size_bytes)) {
        end_child(io, 0);
        return;
    }
    io->req.op = op;
    io->req.offset_bytes = offset;
    io->req.length_bytes = op == BLOCK_DISCARD || op == BLOCK_FLUSH ? length : io->bytes;
    io->req.iov = io->iov;
    io->req.done = file_done;
    io->req.opaque = io;
    io->epoch = q->epoch;
    q->epoch_children[io->epoch]++;
    if (op == BLOCK_WRITE && offset + io->bytes > q->high_water) {
        q->high_water = offset + io->bytes;
    }
    block_submit(q->file, &io->req);
}

void qcow2_io_backing(struct qcow2_io *io, uint64_t offset)
{
    struct qcow2 *q = io->q;

    if (q->backing == NULL || !clip_read(io, offset, block_size_bytes(q->backing))) {
        if (q->backing == NULL) {
            (void)clip_read(io, offset, 0);
        }
        end_child(io, 0);
        return;
    }
    io->req.op = BLOCK_READ;
    io->req.offset_bytes = offset;
    io->req.length_bytes = io->bytes;
    io->req.iov = io->iov;
    io->req.done = backing_done;
    io->req.opaque = io;
    block_submit(q->backing, &io->req);
}
