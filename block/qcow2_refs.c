/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2, "Host cluster management": which clusters of the file are in use. One allocator, which
 * serves its requests in turn; one freer. A refcount goes up in the cache before anything refers to
 * the cluster, and down when nothing on disk does any more.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2.h"

enum { PUNCH_BYTES_MIN = 4096 };

uint64_t qcow2_refcount_get(const uint8_t *data, uint64_t i, unsigned order)
{
    switch (order) {
    case 3:
        return data[i];
    case 4:
        return (uint64_t)data[2 * i] << 8 | data[2 * i + 1];
    case 5:
        return qcow2_get32(data + 4 * i);
    case 6:
        return qcow2_get64(data + 8 * i);
    default: { /* parts of a byte, the lowest first */
        unsigned bits = 1u << order, per_byte = 8 >> order;
        return (unsigned)data[i / per_byte] >> (i % per_byte) * bits & ((1u << bits) - 1);
    }
    }
}

void qcow2_refcount_set(uint8_t *data, uint64_t i, unsigned order, uint64_t value)
{
    switch (order) {
    case 3:
        data[i] = (uint8_t)value;
        break;
    case 4:
        data[2 * i] = (uint8_t)(value >> 8);
        data[2 * i + 1] = (uint8_t)value;
        break;
    case 5:
        qcow2_put32(data + 4 * i, (uint32_t)value);
        break;
    case 6:
        qcow2_put64(data + 8 * i, value);
        break;
    default: {
        unsigned bits = 1u << order, per_byte = 8 >> order;
        unsigned shift = (unsigned)(i % per_byte) * bits, mask = ((1u << bits) - 1) << shift;
        uint8_t *p = &data[i / per_byte];
        *p = (uint8_t)((*p & ~mask) | ((unsigned)value << shift & mask));
        break;
    }
    }
}

/* Marks the change of n refcounts. */
static void refs_dirty(struct qcow2 *q, struct qcow2_slice *s, uint64_t i, uint64_t n)
{
    uint64_t first = i << q->refcount_order >> 3;
    uint64_t last = (i + n - 1) << q->refcount_order >> 3;

    qcow2_slice_dirty(q, s, first, last - first + 1);
}

/* The slice with the refcount of a cluster, and where it is in there. 0; 1: parked; 2: there is no
 * refcount block; -errno. */
static int refs_slice(struct qcow2 *q, uint64_t cluster, struct qcow2_wait *w,
                      struct qcow2_slice **s, uint64_t *i)
{
    uint64_t block = cluster >> q->block_bits;

    if (block >= q->reftable.entries) {
        return 2;
    }
    uint64_t host = qcow2_get64(q->reftable.data + 8 * block);
    if (host == 0) {
        return 2;
    }
    if ((host & (q->cluster_bytes - 1)) != 0 || !qcow2_host_ok(q, host, q->cluster_bytes)) {
        return qcow2_corrupt(q, "refcount table entry", host);
    }
    uint64_t in_block = cluster & ((UINT64_C(1) << q->block_bits) - 1);
    uint64_t part = in_block >> q->slice_refs_bits;
    *i = in_block & ((UINT64_C(1) << q->slice_refs_bits) - 1);
    return qcow2_slice_get(q, QCOW2_REFS, host + part * q->slice_bytes, w, s);
}

/* How many refcounts in a row, from i on and at most max, have this value. */
static uint64_t run_of(const struct qcow2 *q, const struct qcow2_slice *s, uint64_t i, uint64_t max,
                       uint64_t value)
{
    uint64_t end = UINT64_C(1) << q->slice_refs_bits;
    uint64_t n = 0;

    while (n < max && i + n < end &&
           qcow2_refcount_get(s->data, i + n, q->refcount_order) == value) {
        n++;
    }
    return n;
}

static bool beyond_device(const struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    uint64_t limit = q->file->growable ? UINT64_C(1) << 56 : q->file->size_bytes;

    return cluster + count > limit >> q->cluster_bits;
}

/* Growing the refcount table: a new one, in clusters behind everything that the old one covers,
 * with the blocks for these clusters. */

static void grow_end(struct qcow2 *q, int error)
{
    struct qcow2_refs *a = &q->refs;

    free(a->grow_blocks);
    a->grow_blocks = NULL;
    if (error < 0) {
        free(a->grow_table);
        if (a->grow_step >= 2) { /* which table the header names now is not known */
            q->broken = true;
            log_msg("image %s: the refcount table cannot be moved: no more writes", q->b->name);
        }
    } else {
        struct qcow2_root old = q->reftable;
        uint64_t old_clusters = (old.entries * 8) >> q->cluster_bits;

        free(old.data);
        q->reftable.data = a->grow_table;
        q->reftable.host = a->grow_host + (a->grow_nblocks << q->cluster_bits);
        q->reftable.entries = (a->grow_clusters << q->cluster_bits) / 8;
        q->reftable.ndirty = 0;
        a->cursor = (a->grow_host >> q->cluster_bits) + a->grow_nblocks + a->grow_clusters;
        q->barrier = true;
        qcow2_drop_unused(q, old.host >> q->cluster_bits, old_clusters);
    }
    a->grow_table = NULL;
    a->growing = false;
    a->busy = false;
    a->error = error;
    if (q->wb.next_waiters.first != NULL || q->cache_queue.first != NULL ||
        q->frees_queue.first != NULL) {
        qcow2_writeback_start(q);
    }
    qcow2_allocator_run(q);
}

static void grow_step(struct qcow2 *q);

static void grow_done(struct qcow2_io *io, int error)
{
    struct qcow2 *q = io->q;

    if (error == 0 && q->refs.grow_step < 3) {
        q->refs.grow_step++;
        grow_step(q);
    } else {
        grow_end(q, error);
    }
}

static void grow_step(struct qcow2 *q)
{
    struct qcow2_refs *a = &q->refs;
    struct qcow2_io *io = qcow2_io_get(q, q, grow_done);

    if (io == NULL) {
        grow_end(q, -ENOMEM);
        return;
    }
    switch (a->grow_step) {
    case 0: /* blocks and table */
        (void)qcow2_io_add(io, a->grow_blocks, (size_t)(a->grow_nblocks << q->cluster_bits));
        (void)qcow2_io_add(io, a->grow_table, (size_t)(a->grow_clusters << q->cluster_bits));
        qcow2_io_file(io, BLOCK_WRITE, a->grow_host, 0);
        break;
    case 2: /* the header names it */
        qcow2_put64(a->grow_header, a->grow_host + (a->grow_nblocks << q->cluster_bits));
        qcow2_put32(a->grow_header + 8, (uint32_t)a->grow_clusters);
        (void)qcow2_io_add(io, a->grow_header, sizeof(a->grow_header));
        qcow2_io_file(io, BLOCK_WRITE, QCOW2_H_REFTABLE, 0);
        break;
    default: /* 1, 3 */
        qcow2_io_file(io, BLOCK_FLUSH, 0, 0);
        break;
    }
}

/* Sizes of the new table: clusters, and blocks for these and for themselves. False: too large. */
static bool grow_plan(const struct qcow2 *q, uint64_t *clusters, uint64_t *nblocks)
{
    uint64_t old = q->reftable.entries, per_block = UINT64_C(1) << q->block_bits;
    uint64_t entries = old + old / 2 + 1, k = 1;

    for (int tries = 0; tries < 8; tries++) {
        uint64_t bytes = entries * 8;
        bytes = bytes < QCOW2_REFTABLE_BYTES_MAX ? bytes : QCOW2_REFTABLE_BYTES_MAX;
        uint64_t t = (bytes + q->cluster_bytes - 1) >> q->cluster_bits;
        k = 1;
        while ((k << q->block_bits) < t + k) {
            k = (t + k + per_block - 1) / per_block;
        }
        if (old + k < (t << q->cluster_bits) / 8) {
            *clusters = t;
            *nblocks = k;
            return true;
        }
        entries = old + k + 1;
    }
    return false;
}

/* 1: at work, or -errno. */
static int grow_start(struct qcow2 *q)
{
    struct qcow2_refs *a = &q->refs;
    uint64_t old = q->reftable.entries, first = old << q->block_bits;

    if (q->wb.running) { /* it writes to the old table */
        a->busy = true;
        qcow2_park(&q->wb.waiters, &a->wait);
        return 1;
    }
    if (!grow_plan(q, &a->grow_clusters, &a->grow_nblocks)) {
        return -EFBIG;
    }
    uint64_t used = a->grow_nblocks + a->grow_clusters;
    if (beyond_device(q, first, used)) {
        return -ENOSPC;
    }
    a->grow_host = first << q->cluster_bits;
    if (qcow2_overlaps_roots(q, a->grow_host, used << q->cluster_bits)) {
        return qcow2_corrupt(q, "refcount of a table in use", a->grow_host);
    }
    a->grow_blocks = calloc((size_t)a->grow_nblocks, (size_t)q->cluster_bytes);
    a->grow_table = calloc((size_t)a->grow_clusters, (size_t)q->cluster_bytes);
    if (a->grow_blocks == NULL || a->grow_table == NULL) {
        free(a->grow_blocks);
        free(a->grow_table);
        a->grow_blocks = a->grow_table = NULL;
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < used; i++) { /* blocks follow one another: one long array */
        qcow2_refcount_set(a->grow_blocks, i, q->refcount_order, 1);
    }
    memcpy(a->grow_table, q->reftable.data, (size_t)(old * 8));
    for (uint64_t i = 0; i < a->grow_nblocks; i++) {
        uint64_t host = a->grow_host + (i << q->cluster_bits);
        qcow2_put64(a->grow_table + 8 * (old + i), host);
        (void)qcow2_slices_forget(q, QCOW2_REFS, host);
    }
    a->growing = true;
    a->busy = true;
    a->grow_step = 0;
    grow_step(q);
    return 1;
}

/* New refcount blocks: each is the first cluster of those that it describes. */

static void block_done(struct qcow2_io *io, int error)
{
    struct qcow2 *q = io->q;
    struct qcow2_refs *a = &q->refs;

    if (error == 0) {
        uint64_t block = a->cursor >> q->block_bits;
        qcow2_put64(q->reftable.data + 8 * block, block << q->block_bits << q->cluster_bits);
        qcow2_root_dirty(&q->reftable, block);
        q->barrier = true;
    }
    a->busy = false;
    a->error = error;
    qcow2_allocator_run(q);
}

/* For the block of the cursor. 1: at work, or -errno. */
static int new_block(struct qcow2 *q)
{
    struct qcow2_refs *a = &q->refs;
    uint64_t cluster = a->cursor >> q->block_bits << q->block_bits;
    uint64_t host = cluster << q->cluster_bits;

    if (!qcow2_root_room(&q->reftable)) {
        a->busy = true;
        qcow2_flush(q, &a->wait);
        return 1;
    }
    if (beyond_device(q, cluster, 1)) {
        return -ENOSPC;
    }
    if (qcow2_overlaps_roots(q, host, q->cluster_bytes) ||
        !qcow2_slices_forget(q, QCOW2_REFS, host)) {
        return qcow2_corrupt(q, "refcount of a table in use", host);
    }
    struct qcow2_io *io = qcow2_io_get(q, q, block_done);
    if (io == NULL) {
        return -ENOMEM;
    }
    memset(a->first_sector, 0, sizeof(a->first_sector));
    qcow2_refcount_set(a->first_sector, 0, q->refcount_order, 1);
    (void)qcow2_io_add(io, a->first_sector, BLOCK_SECTOR);
    (void)qcow2_io_add(io, q->zeros, (size_t)(q->cluster_bytes - BLOCK_SECTOR));
    a->busy = true;
    qcow2_io_file(io, BLOCK_WRITE, host, 0);
    return 1;
}

/* The allocator. */

static int take(struct qcow2 *q, struct qcow2_want *want, struct qcow2_slice *s, uint64_t i,
                uint64_t cluster, uint64_t n)
{
    uint64_t host = cluster << q->cluster_bits;

    if (qcow2_overlaps_roots(q, host, n << q->cluster_bits)) {
        return qcow2_corrupt(q, "refcount of a table in use", host);
    }
    for (uint64_t k = 0; k < n; k++) {
        qcow2_refcount_set(s->data, i + k, q->refcount_order, 1);
    }
    refs_dirty(q, s, i, n);
    want->host = host;
    want->got = n;
    return 0;
}

/* As refs_slice(), for the allocator. */
static int alloc_slice(struct qcow2 *q, uint64_t cluster, struct qcow2_slice **s, uint64_t *i)
{
    q->refs.busy = true;
    int rc = refs_slice(q, cluster, &q->refs.wait, s, i);
    if (rc != 1) {
        q->refs.busy = false;
    }
    return rc;
}

/* Clusters that have been freed before. 0: taken; 1: wait; 2: none are left; -errno. */
static int find_reused(struct qcow2 *q, struct qcow2_want *want)
{
    struct qcow2_refs *a = &q->refs;
    struct qcow2_slice *s;
    uint64_t i;

    while (a->nreuse > 0) {
        struct qcow2_extent *e = &a->reuse[a->nreuse - 1];
        if (e->count == 0) {
            a->nreuse--;
            continue;
        }
        int rc = alloc_slice(q, e->cluster, &s, &i);
        if (rc == 1 || rc < 0) {
            return rc;
        }
        uint64_t max = want->want < e->count ? want->want : e->count;
        uint64_t n = rc == 2 ? 0 : run_of(q, s, i, max, 0);
        uint64_t cluster = e->cluster;
        uint64_t step = n > 0 ? n : 1;
        e->cluster += step;
        e->count -= step;
        if (n > 0) {
            return take(q, want, s, i, cluster, n);
        }
    }
    return 2;
}

/* 0: want is filled; 1: busy, or try again; -errno. */
static int find(struct qcow2 *q, struct qcow2_want *want)
{
    struct qcow2_refs *a = &q->refs;
    struct qcow2_slice *s;
    uint64_t i;
    int rc = find_reused(q, want);

    while (rc == 2) {
        if (beyond_device(q, a->cursor, 1)) {
            if (a->wrapped) {
                return -ENOSPC;
            }
            a->wrapped = true;
            a->cursor = 0;
            continue;
        }
        if (a->cursor >> q->block_bits >= q->reftable.entries) {
            return grow_start(q);
        }
        rc = alloc_slice(q, a->cursor, &s, &i);
        if (rc == 2) {
            return new_block(q);
        }
        if (rc != 0) {
            return rc;
        }
        uint64_t end = UINT64_C(1) << q->slice_refs_bits;
        uint64_t free_at = i;
        while (free_at < end && qcow2_refcount_get(s->data, free_at, q->refcount_order) != 0) {
            free_at++;
        }
        a->cursor += free_at - i;
        if (free_at == end) {
            rc = 2;
            continue;
        }
        uint64_t max = want->want;
        while (max > 1 && beyond_device(q, a->cursor, max)) {
            max--;
        }
        uint64_t n = run_of(q, s, free_at, max, 0);
        rc = take(q, want, s, free_at, a->cursor, n);
        a->cursor += n;
    }
    return rc;
}

void qcow2_allocator_run(struct qcow2 *q)
{
    struct qcow2_refs *a = &q->refs;

    if (a->running) {
        a->again = true;
        return;
    }
    a->running = true;
    do {
        a->again = false;
        while (a->first != NULL && !a->busy) {
            struct qcow2_want *want = a->first;
            int rc = a->error != 0 ? a->error : q->broken ? -EIO : find(q, want);
            a->error = 0;
            if (rc == 1) {
                /* The error of what it waited for may be there already. */
                continue;
            }
            a->first = want->next;
            if (a->first == NULL) {
                a->last = NULL;
            }
            want->done(want, rc);
        }
    } while (a->again);
    a->running = false;
}

void qcow2_allocate(struct qcow2 *q, struct qcow2_want *want)
{
    struct qcow2_refs *a = &q->refs;

    want->next = NULL;
    want->got = 0;
    if (a->last != NULL) {
        a->last->next = want;
    } else {
        a->first = want;
    }
    a->last = want;
    qcow2_allocator_run(q);
}

/* Freeing. */

static void add_extent(struct qcow2_extents *e, uint64_t cluster, uint64_t count)
{
    if (e->n > 0 && e->v[e->n - 1].cluster + e->v[e->n - 1].count == cluster) {
        e->v[e->n - 1].count += count;
        return;
    }
    if (e->n == e->room) {
        unsigned room = e->room == 0 ? 16 : 2 * e->room;
        struct qcow2_extent *v = realloc(e->v, room * sizeof(*v));
        if (v == NULL) {
            return; /* the clusters are lost to the image until it is checked */
        }
        e->v = v;
        e->room = room;
    }
    e->v[e->n++] = (struct qcow2_extent){cluster, count};
}

void qcow2_extents_free(struct qcow2_extents *e)
{
    free(e->v);
    memset(e, 0, sizeof(*e));
}

void qcow2_drop(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    add_extent(&q->pending, cluster, count);
}

static void remember(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    struct qcow2_refs *a = &q->refs;
    struct qcow2_extent *last = a->nreuse > 0 ? &a->reuse[a->nreuse - 1] : NULL;

    a->wrapped = false;
    if (last != NULL && last->cluster + last->count == cluster) {
        last->count += count;
    } else if (a->nreuse < QCOW2_REUSE_MAX) {
        a->reuse[a->nreuse++] = (struct qcow2_extent){cluster, count};
    }
}

/* The first n clusters of the extent being freed have lost their only reference. */
static void freed(struct qcow2 *q, struct qcow2_slice *s, uint64_t i, uint64_t n)
{
    struct qcow2_extent *e = &q->ready.v[q->freer.at];

    for (uint64_t k = 0; k < n; k++) {
        qcow2_refcount_set(s->data, i + k, q->refcount_order, 0);
    }
    refs_dirty(q, s, i, n);
    remember(q, e->cluster, n);
    e->cluster += n;
    e->count -= n;
}

static void freer_run(struct qcow2 *q);

static void punched(struct qcow2_io *io, int error)
{
    struct qcow2 *q = io->q;
    struct qcow2_freer *f = &q->freer;
    uint64_t mask = (UINT64_C(1) << q->slice_refs_bits) - 1;

    (void)error; /* host space that stays in use is no damage */
    freed(q, f->slice, f->punch_cluster & mask, f->punch_count);
    qcow2_slice_unpin(q, f->slice);
    f->busy = false;
    freer_run(q);
}

/* Gives the clusters back to the host, then frees them. True: under way. */
static bool punch(struct qcow2 *q, struct qcow2_slice *s, uint64_t cluster, uint64_t n)
{
    struct qcow2_freer *f = &q->freer;
    uint64_t host = cluster << q->cluster_bits, bytes = n << q->cluster_bits;

    if (bytes < PUNCH_BYTES_MIN || host >= q->file->size_bytes) {
        return false;
    }
    struct qcow2_io *io = qcow2_io_get(q, q, punched);
    if (io == NULL) {
        return false;
    }
    uint64_t left = q->file->size_bytes - host;
    f->slice = s;
    f->punch_cluster = cluster;
    f->punch_count = n;
    f->busy = true;
    s->pins++;
    qcow2_io_file(io, BLOCK_DISCARD, host, bytes < left ? bytes : left);
    return true;
}

static void free_next(struct qcow2 *q)
{
    struct qcow2_freer *f = &q->freer;
    struct qcow2_extent *e = &q->ready.v[f->at];
    struct qcow2_slice *s;
    uint64_t i;

    if (q->broken) { /* who else uses it is not known any more */
        e->count = 0;
        return;
    }
    f->busy = true;
    int rc = refs_slice(q, e->cluster, &f->wait, &s, &i);
    if (rc == 1) {
        return;
    }
    f->busy = false;
    if (rc != 0) { /* unreadable, or nonsense: it is not freed */
        if (rc == 2) {
            (void)qcow2_corrupt(q, "missing refcount of cluster", e->cluster << q->cluster_bits);
        }
        e->count = 0;
        return;
    }
    uint64_t value = qcow2_refcount_get(s->data, i, q->refcount_order);
    if (value == 1) {
        uint64_t n = run_of(q, s, i, e->count, 1);
        if (!punch(q, s, e->cluster, n)) {
            freed(q, s, i, n);
        }
        return;
    }
    if (value == 0) {
        (void)qcow2_corrupt(q, "refcount 0 of a cluster in use", e->cluster << q->cluster_bits);
    } else {
        qcow2_refcount_set(s->data, i, q->refcount_order, value - 1);
        refs_dirty(q, s, i, 1);
    }
    e->cluster++;
    e->count--;
}

static void freer_run(struct qcow2 *q)
{
    struct qcow2_freer *f = &q->freer;

    if (f->running) {
        return;
    }
    f->running = true;
    while (!f->busy && f->at < q->ready.n) {
        if (q->ready.v[f->at].count == 0) {
            f->at++;
        } else {
            free_next(q);
        }
    }
    bool end = f->at == q->ready.n && f->at > 0;
    if (end) {
        f->at = 0;
        q->ready.n = 0;
    }
    f->running = false;
    if (end) {
        qcow2_wake(&q->frees_queue, 0);
    }
}

static void freer_wake(struct qcow2_wait *w, int error)
{
    struct qcow2 *q = (struct qcow2 *)((char *)w - offsetof(struct qcow2, freer.wait));

    q->freer.busy = false;
    if (error < 0) {
        q->ready.v[q->freer.at].count = 0;
    }
    freer_run(q);
}

void qcow2_drop_unused(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    add_extent(&q->ready, cluster, count);
    freer_run(q);
}

bool qcow2_too_many_frees(const struct qcow2 *q)
{
    return q->pending.n + q->held.n + q->ready.n >= QCOW2_FREES_MAX;
}

void qcow2_frees_check(struct qcow2 *q)
{
    if (q->held.n == 0 || !q->held_durable || q->epoch_children[q->epoch ^ 1] > 0) {
        return;
    }
    for (unsigned i = 0; i < q->held.n; i++) {
        add_extent(&q->ready, q->held.v[i].cluster, q->held.v[i].count);
    }
    q->held.n = 0;
    q->held_durable = false;
    freer_run(q);
}

static void alloc_wake(struct qcow2_wait *w, int error)
{
    struct qcow2 *q = (struct qcow2 *)((char *)w - offsetof(struct qcow2, refs.wait));

    q->refs.busy = false;
    q->refs.error = error;
    qcow2_allocator_run(q);
}

void qcow2_refs_init(struct qcow2 *q)
{
    q->refs.wait.wake = alloc_wake;
    q->freer.wait.wake = freer_wake;
}
