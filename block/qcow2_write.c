/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2: writes that need new clusters. A request allocates for as many clusters in a row as it can,
 * reads what it does not overwrite of the first and the last one, writes all of it, and only then
 * changes the L2 entries in the cache. Others who write to these guest clusters wait.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2.h"

struct qcow2_req *qcow2_alloc_at(const struct qcow2 *q, uint64_t cluster)
{
    for (struct qcow2_req *r = q->allocs; r != NULL; r = r->next) {
        if (cluster - r->cluster < r->clusters) {
            return r;
        }
    }
    return NULL;
}

void qcow2_drop_entry(struct qcow2 *q, uint64_t entry)
{
    if ((entry & QCOW2_COMPRESSED) != 0) {
        uint64_t host, len;
        qcow2_compressed_range(q, entry, &host, &len);
        uint64_t first = host >> q->cluster_bits, last = (host + len - 1) >> q->cluster_bits;
        qcow2_drop(q, first, last - first + 1);
    } else if ((entry & QCOW2_OFFSET) != 0) {
        qcow2_drop(q, (entry & QCOW2_OFFSET) >> q->cluster_bits, 1);
    }
}

static struct qcow2_req *of_want(struct qcow2_want *want)
{
    return (struct qcow2_req *)((char *)want - offsetof(struct qcow2_req, want));
}

/* L2 tables: a new one, or a copy of one that a snapshot uses, too. */

static void table_end(struct qcow2_req *r, int error)
{
    struct qcow2 *q = r->q;
    uint64_t i = r->cluster >> q->l2_bits;

    free(r->cow);
    r->cow = NULL;
    if (error == 0) {
        uint64_t old = qcow2_get64(q->l1.data + 8 * i);
        qcow2_put64(q->l1.data + 8 * i, r->want.host | QCOW2_COPIED);
        qcow2_root_dirty(&q->l1, i);
        q->barrier = true;
        if (old != 0) {
            qcow2_drop(q, (old & QCOW2_OFFSET) >> q->cluster_bits, 1);
        }
    } else {
        r->error = error;
        if (r->want.got > 0) {
            qcow2_drop_unused(q, r->want.host >> q->cluster_bits, 1);
        }
    }
    q->table_owner = NULL;
    r->state = QCOW2_MAP;
    qcow2_wake(&q->table_queue, 0);
    qcow2_run(r);
}

static void table_written(struct qcow2_io *io, int error)
{
    table_end(io->owner, error);
}

static void table_write(struct qcow2_req *r)
{
    struct qcow2 *q = r->q;
    struct qcow2_io *io = qcow2_io_get(q, r, table_written);

    if (io == NULL) {
        table_end(r, -ENOMEM);
        return;
    }
    (void)qcow2_io_add(io, r->cow != NULL ? r->cow : q->zeros, (size_t)q->cluster_bytes);
    qcow2_io_file(io, BLOCK_WRITE, r->want.host, 0);
}

static void table_read(struct qcow2_io *io, int error)
{
    struct qcow2_req *r = io->owner;

    if (error < 0) {
        table_end(r, error);
        return;
    }
    /* Everything below a shared table is shared. */
    for (uint64_t at = 0; at < r->q->cluster_bytes; at += 8) {
        r->cow[at] &= 0x7f;
    }
    table_write(r);
}

static void table_allocated(struct qcow2_want *want, int error)
{
    struct qcow2_req *r = of_want(want);
    struct qcow2 *q = r->q;
    uint64_t old = qcow2_get64(q->l1.data + 8 * (r->cluster >> q->l2_bits));

    if (error == 0 && !qcow2_slices_forget(q, QCOW2_L2, want->host)) {
        error = qcow2_corrupt(q, "refcount of a table in use", want->host);
    }
    if (error < 0) {
        table_end(r, error);
        return;
    }
    if (old == 0) {
        table_write(r);
        return;
    }
    struct qcow2_io *io = qcow2_io_get(q, r, table_read);
    r->cow = malloc((size_t)q->cluster_bytes);
    if (io == NULL || r->cow == NULL) {
        qcow2_io_put(io);
        table_end(r, -ENOMEM);
        return;
    }
    (void)qcow2_io_add(io, r->cow, (size_t)q->cluster_bytes);
    qcow2_io_file(io, BLOCK_READ, old & QCOW2_OFFSET, 0);
}

int qcow2_need_table(struct qcow2_req *r, uint64_t cluster)
{
    struct qcow2 *q = r->q;

    if ((qcow2_get64(q->l1.data + 8 * (cluster >> q->l2_bits)) & QCOW2_COPIED) != 0) {
        return 0;
    }
    if (q->table_owner != NULL) {
        r->parked = true;
        qcow2_park(&q->table_queue, &r->wait);
        return 1;
    }
    if (!qcow2_root_room(&q->l1)) {
        r->parked = true;
        qcow2_flush(q, &r->wait);
        return 1;
    }
    q->table_owner = r;
    r->state = QCOW2_TABLE;
    r->cluster = cluster;
    r->want.want = 1;
    r->want.done = table_allocated;
    qcow2_allocate(q, &r->want);
    return 1;
}

/* Data. */

static void alloc_end(struct qcow2_req *r, int error)
{
    struct qcow2 *q = r->q;
    struct qcow2_req **p = &q->allocs;

    while (*p != r) {
        p = &(*p)->next;
    }
    *p = r->next;
    q->nallocs--;
    free(r->cow);
    r->cow = NULL;
    r->state = QCOW2_MAP;
    if (error == 0) {
        r->pos += r->bytes;
        r->must_flush |= r->fua;
    } else if (r->error == 0) {
        r->error = error;
    }
    struct qcow2_queue conflicts = r->conflicts;
    r->conflicts = (struct qcow2_queue){NULL, NULL};
    qcow2_slice_unpin(q, r->slice);
    if (q->ndirty > q->slices_max / 4 * 3) { /* before there is no room at all */
        qcow2_writeback_start(q);
    }
    qcow2_wake(&conflicts, 0);
    qcow2_wake(&q->allocs_queue, 0);
    qcow2_run(r);
}

/* The data is written: the guest clusters are there from now on. */
static void link_clusters(struct qcow2_req *r)
{
    struct qcow2 *q = r->q;
    unsigned i = qcow2_slice_index(q, r->cluster);

    for (uint64_t k = 0; k < r->clusters; k++) {
        uint8_t *p = r->slice->data + 8 * (size_t)(i + k);
        uint64_t old = qcow2_get64(p);
        qcow2_put64(p, (r->want.host + (k << q->cluster_bits)) | QCOW2_COPIED);
        qcow2_slice_dirty(q, r->slice, 8 * (size_t)(i + k), 8);
        qcow2_drop_entry(q, old); /* after the change: see start() of qcow2_flush.c */
    }
    q->barrier = true;
    alloc_end(r, 0);
}

/* One child, or the one who started them, is through. */
static void alloc_part(struct qcow2_req *r, int error, void (*then)(struct qcow2_req *r))
{
    if (error < 0 && r->alloc_error == 0) {
        r->alloc_error = error;
    }
    if (--r->alloc_pending > 0) {
        return;
    }
    if (r->alloc_error < 0) {
        qcow2_drop_unused(r->q, r->want.host >> r->q->cluster_bits, r->clusters);
        alloc_end(r, r->alloc_error);
        return;
    }
    then(r);
}

static void written(struct qcow2_io *io, int error)
{
    alloc_part(io->owner, error, link_clusters);
}

/* The write of a row of clusters, in as many children as its pieces of memory need. */
struct writer {
    struct qcow2_req *r;
    struct qcow2_io *io;
    uint64_t host;
};

static void writer_send(struct writer *w)
{
    if (w->io != NULL) {
        uint64_t len = w->io->bytes;
        w->r->alloc_pending++;
        qcow2_io_file(w->io, BLOCK_WRITE, w->host, 0);
        w->host += len;
        w->io = NULL;
    }
}

static void writer_add(struct writer *w, void *base, uint64_t len)
{
    if (len == 0 || w->r->alloc_error < 0) {
        return;
    }
    if (w->io != NULL && w->io->req.iovcnt == BLOCK_IOV_MAX) {
        writer_send(w);
    }
    if (w->io == NULL && (w->io = qcow2_io_get(w->r->q, w->r, written)) == NULL) {
        w->r->alloc_error = -ENOMEM;
        return;
    }
    (void)qcow2_io_add(w->io, base, (size_t)len);
}

static void write_data(struct qcow2_req *r)
{
    struct qcow2 *q = r->q;
    struct iovec iov[BLOCK_IOV_MAX];
    struct writer w = {.r = r, .host = r->want.host};
    int n = qcow2_iov_slice(iov, r->iov, r->iovcnt, r->pos, r->bytes);
    /* Where the file has never been written, zeros are there already. */
    bool fresh = q->file->growable && w.host >= q->file->size_bytes && w.host >= q->high_water;

    r->alloc_pending = 1;
    if (r->head_read || !fresh) {
        writer_add(&w, r->head_read ? r->cow : q->zeros, r->head);
    } else {
        w.host += r->head;
    }
    for (int i = 0; i < n; i++) {
        writer_add(&w, iov[i].iov_base, iov[i].iov_len);
    }
    if (r->tail_read || !fresh) {
        writer_add(&w, r->tail_read ? r->cow + r->head : q->zeros, r->tail);
    }
    writer_send(&w);
    alloc_part(r, 0, link_clusters);
}

static void copied(struct qcow2_req *part, int error)
{
    struct qcow2_req *r = part->owner;

    qcow2_req_put(part);
    alloc_part(r, error, write_data);
}

/* Reads [offset, offset + len) of the guest's disk, as it was, to base. */
static void copy(struct qcow2_req *r, uint64_t offset, uint64_t len, uint8_t *base)
{
    struct qcow2 *q = r->q;
    uint64_t have = offset < q->size_bytes ? q->size_bytes - offset : 0;

    if (have < len) {
        memset(base + have, 0, (size_t)(len - have));
        len = have;
    }
    if (len == 0) {
        return;
    }
    struct qcow2_req *part = qcow2_req_get(q);
    if (part == NULL) {
        r->alloc_error = -ENOMEM;
        return;
    }
    part->op = BLOCK_READ;
    part->offset = offset;
    part->length = len;
    part->own_iov = (struct iovec){base, (size_t)len};
    part->iov = &part->own_iov;
    part->iovcnt = 1;
    part->owner = r;
    part->finish = copied;
    r->alloc_pending++;
    qcow2_run(part);
}

/* True when the old contents of a cluster may be other than zeros. */
static bool has_contents(const struct qcow2_req *r, uint64_t cluster)
{
    const struct qcow2 *q = r->q;
    uint64_t entry = qcow2_get64(r->slice->data + 8 * (size_t)qcow2_slice_index(q, cluster));

    if ((entry & QCOW2_COMPRESSED) != 0) {
        return true;
    }
    if ((entry & QCOW2_ZERO) != 0) {
        return false;
    }
    return entry != 0 || qcow2_backed(q, cluster << q->cluster_bits);
}

static void allocated(struct qcow2_want *want, int error)
{
    struct qcow2_req *r = of_want(want);
    struct qcow2 *q = r->q;

    if (error < 0) {
        alloc_end(r, error);
        return;
    }
    r->clusters = want->got;
    uint64_t guest = r->offset + r->pos, left = r->length - r->pos;
    uint64_t total = r->clusters << q->cluster_bits;
    r->head = guest & (q->cluster_bytes - 1);
    r->bytes = total - r->head < left ? total - r->head : left;
    r->tail = total - r->head - r->bytes;
    uint64_t last = r->cluster + r->clusters - 1;
    r->head_read = r->head > 0 && has_contents(r, r->cluster);
    r->tail_read = r->tail > 0 && has_contents(r, last);
    r->alloc_error = 0;
    r->alloc_pending = 1;
    if (r->head_read || r->tail_read) {
        r->cow = malloc((size_t)(r->head + r->tail));
        if (r->cow == NULL) {
            r->alloc_error = -ENOMEM;
        }
    }
    if (r->head_read && r->alloc_error == 0) {
        copy(r, r->cluster << q->cluster_bits, r->head, r->cow);
    }
    if (r->tail_read && r->alloc_error == 0) {
        copy(r, guest + r->bytes, r->tail, r->cow + r->head);
    }
    alloc_part(r, 0, write_data);
}

/* Guest clusters in a row, from the current one on, that need new ones. */
static uint64_t count_clusters(struct qcow2_req *r, const struct qcow2_slice *s, uint64_t cluster)
{
    struct qcow2 *q = r->q;
    uint64_t last = (r->offset + r->length - 1) >> q->cluster_bits;
    unsigned i = qcow2_slice_index(q, cluster), end = 1u << q->slice_entry_bits;
    uint64_t n = 1;

    while (i + n < end && cluster + n <= last) {
        uint64_t host, entry = qcow2_get64(s->data + 8 * (size_t)(i + n));
        enum qcow2_kind kind;
        if (qcow2_decode(q, entry, &kind, &host) < 0 ||
            (kind == QCOW2_K_DATA && (entry & QCOW2_COPIED) != 0) ||
            qcow2_alloc_at(q, cluster + n) != NULL) {
            break;
        }
        n++;
    }
    return n;
}

bool qcow2_write_alloc(struct qcow2_req *r, struct qcow2_slice *slice)
{
    struct qcow2 *q = r->q;
    uint64_t cluster = (r->offset + r->pos) >> q->cluster_bits;
    int rc = qcow2_need_table(r, cluster);

    if (rc != 0) {
        r->error = rc < 0 ? rc : r->error;
        return false;
    }
    struct qcow2_req *busy = qcow2_alloc_at(q, cluster);
    struct qcow2_queue *queue = busy != NULL                  ? &busy->conflicts
                                : q->nallocs >= q->allocs_max ? &q->allocs_queue
                                : qcow2_too_many_frees(q)     ? &q->frees_queue
                                                              : NULL;
    if (queue != NULL) {
        r->parked = true;
        qcow2_park(queue, &r->wait);
        if (queue == &q->frees_queue) {
            qcow2_writeback_start(q);
        }
        return false;
    }
    r->cluster = cluster;
    r->clusters = count_clusters(r, slice, cluster);
    r->slice = slice;
    slice->pins++;
    r->next = q->allocs;
    q->allocs = r;
    q->nallocs++;
    r->state = QCOW2_ALLOC;
    r->want.want = r->clusters;
    r->want.done = allocated;
    qcow2_allocate(q, &r->want);
    return false;
}
