/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2: write-back. The order of writes is explained in qcow2.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2.h"

enum { WRITES_MAX = 16 }; /* at a time */

static void step(struct qcow2 *q);

/* A request of the write-back has ended. */
static void answered(struct qcow2 *q, int error)
{
    qcow2_enter(q);
    q->wb.pending--;
    if (error < 0 && q->wb.error == 0) {
        q->wb.error = error;
    }
    step(q);
    qcow2_leave(q);
}

static void item_done(struct block_request *req, int error)
{
    struct qcow2_item *item = req->opaque;

    answered(item->q, error);
}

/* A copy of bytes that are to be written to the file, first in *list. */
static int add_item(struct qcow2 *q, struct qcow2_item **list, const void *data, size_t len,
                    uint64_t host, struct qcow2_slice *slice, struct qcow2_root *root)
{
    struct qcow2_item *item = calloc(1, sizeof(*item) + len);

    if (item == NULL) {
        return -ENOMEM;
    }
    memcpy(item->data, data, len);
    item->q = q;
    item->slice = slice;
    item->root = root;
    item->iov = (struct iovec){item->data, len};
    item->req = (struct block_request){.op = BLOCK_WRITE,
                                       .offset_bytes = host,
                                       .length_bytes = len,
                                       .iov = &item->iov,
                                       .iovcnt = 1,
                                       .done = item_done,
                                       .opaque = item};
    item->next = *list;
    *list = item;
    return 0;
}

static int capture_root(struct qcow2 *q, struct qcow2_item **list, struct qcow2_root *root)
{
    for (; root->ndirty > 0; root->ndirty--) {
        uint64_t at = (uint64_t)root->dirty[root->ndirty - 1] * BLOCK_SECTOR;
        int rc = add_item(q, list, root->data + at, BLOCK_SECTOR, root->host + at, NULL, root);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* Copies everything that is dirty. */
static int capture(struct qcow2 *q)
{
    struct qcow2_writeback *wb = &q->wb;

    for (struct qcow2_slice *s = q->oldest; s != NULL && q->ndirty > 0; s = s->newer) {
        if (s->dirty_lo == s->dirty_hi) {
            continue;
        }
        size_t at = (size_t)s->dirty_lo * BLOCK_SECTOR;
        size_t len = (size_t)(s->dirty_hi - s->dirty_lo) * BLOCK_SECTOR;
        int rc = add_item(q, s->table == QCOW2_L2 ? &wb->maps : &wb->refs, s->data + at, len,
                          s->host + at, s, NULL);
        if (rc < 0) {
            return rc;
        }
        s->writing = true;
        s->dirty_lo = s->dirty_hi = 0;
        q->ndirty--;
    }
    int rc = capture_root(q, &wb->reftable, &q->reftable);
    return rc < 0 ? rc : capture_root(q, &wb->maps, &q->l1);
}

/* Frees a list; restore: what it held is dirty again. */
static void drop_items(struct qcow2 *q, struct qcow2_item **list, bool restore)
{
    struct qcow2_item *item = *list;

    *list = NULL;
    while (item != NULL) {
        struct qcow2_item *next = item->next;
        uint64_t host = item->req.offset_bytes;
        if (item->slice != NULL) {
            item->slice->writing = false;
            if (restore) {
                qcow2_slice_dirty(q, item->slice, (size_t)(host - item->slice->host),
                                  item->iov.iov_len);
            }
        } else if (restore) {
            qcow2_root_dirty(item->root, (host - item->root->host) / 8);
        }
        free(item);
        item = next;
    }
}

static void start(struct qcow2 *q)
{
    struct qcow2_writeback *wb = &q->wb;

    wb->running = true;
    wb->error = 0;
    wb->phase = QCOW2_PHASE_REFS;
    wb->entered = false;
    wb->barrier = q->barrier;
    q->barrier = false;
    wb->waiters = wb->next_waiters;
    wb->next_waiters = (struct qcow2_queue){NULL, NULL};
    /* Children of the epoch before the last may still use what is dropped now: one epoch at a
     * time. */
    wb->captured = q->held.n == 0 && q->pending.n > 0 && q->epoch_children[q->epoch ^ 1] == 0;
    if (wb->captured) {
        struct qcow2_extents empty = q->held;
        q->held = q->pending;
        q->pending = empty;
        q->held_durable = false;
        q->epoch ^= 1;
    }
    wb->error = capture(q);
    wb->next = wb->refs;
    step(q);
}

static void end(struct qcow2 *q)
{
    struct qcow2_writeback *wb = &q->wb;
    struct qcow2_queue waiters = wb->waiters;
    bool failed = wb->error < 0;
    int error = wb->error;

    drop_items(q, &wb->refs, failed);
    drop_items(q, &wb->reftable, failed);
    drop_items(q, &wb->maps, failed);
    wb->waiters = (struct qcow2_queue){NULL, NULL};
    wb->running = false;
    if (failed) {
        q->barrier |= wb->barrier;
        for (unsigned i = 0; wb->captured && i < q->held.n; i++) {
            qcow2_drop(q, q->held.v[i].cluster, q->held.v[i].count);
        }
        if (wb->captured) {
            q->held.n = 0;
        }
    } else if (wb->captured) {
        q->held_durable = true;
    }
    qcow2_wake(&waiters, error);
    qcow2_wake(&q->cache_queue, error);
    if (failed) {
        qcow2_wake(&q->frees_queue, error);
    } else {
        qcow2_frees_check(q);
    }
    if (wb->next_waiters.first != NULL ||
        (q->frees_queue.first != NULL && q->held.n == 0 && q->ready.n == 0)) {
        qcow2_writeback_start(q);
    }
}

static void flush_done(struct block_request *req, int error)
{
    answered(req->opaque, error);
}

static void next_phase(struct qcow2 *q)
{
    struct qcow2_writeback *wb = &q->wb;

    wb->phase++;
    wb->entered = false;
    wb->next = wb->phase == QCOW2_PHASE_REFTABLE ? wb->reftable
               : wb->phase == QCOW2_PHASE_MAPS   ? wb->maps
                                                 : NULL;
}

/* Whether a flush is needed where the write-back is. */
static bool needs_flush(const struct qcow2 *q)
{
    const struct qcow2_writeback *wb = &q->wb;

    switch (wb->phase) {
    case QCOW2_PHASE_REFS_FLUSH: /* blocks before the table that names them */
        return wb->reftable != NULL;
    case QCOW2_PHASE_BARRIER: /* data and refcounts before the maps */
        return wb->maps != NULL && wb->barrier;
    default:
        return true;
    }
}

/* Does what can be done now in the current phase. True: it is over. */
static bool work(struct qcow2 *q)
{
    struct qcow2_writeback *wb = &q->wb;

    if (wb->error < 0) {
        wb->phase = QCOW2_PHASE_END;
        return false;
    }
    if (wb->phase == QCOW2_PHASE_REFS || wb->phase == QCOW2_PHASE_REFTABLE ||
        wb->phase == QCOW2_PHASE_MAPS) {
        while (wb->next != NULL && wb->pending < WRITES_MAX && wb->error == 0) {
            struct qcow2_item *item = wb->next;
            wb->next = item->next;
            wb->pending++;
            block_submit(q->file, &item->req);
        }
        return wb->next == NULL && wb->pending == 0;
    }
    if (!wb->entered && needs_flush(q)) {
        wb->entered = true;
        wb->pending++;
        wb->flush = (struct block_request){.op = BLOCK_FLUSH, .done = flush_done, .opaque = q};
        block_submit(q->file, &wb->flush);
    }
    return wb->pending == 0;
}

static void step(struct qcow2 *q)
{
    struct qcow2_writeback *wb = &q->wb;

    if (wb->stepping) {
        wb->again = true;
        return;
    }
    wb->stepping = true;
    do {
        wb->again = false;
        while (wb->phase != QCOW2_PHASE_END && work(q) && wb->error == 0) {
            next_phase(q);
        }
    } while (wb->again);
    if (wb->error < 0) {
        wb->phase = QCOW2_PHASE_END;
    }
    wb->stepping = false;
    if (wb->phase == QCOW2_PHASE_END && wb->pending == 0) {
        end(q);
    }
}

void qcow2_writeback_start(struct qcow2 *q)
{
    if (!q->wb.running && !q->refs.growing) {
        start(q);
    }
}

void qcow2_flush(struct qcow2 *q, struct qcow2_wait *w)
{
    qcow2_park(&q->wb.next_waiters, w);
    qcow2_writeback_start(q);
}

bool qcow2_maps_dirty(const struct qcow2 *q)
{
    return q->ndirty > 0 || q->l1.ndirty > 0 || q->reftable.ndirty > 0 || q->wb.running;
}

bool qcow2_is_dirty(const struct qcow2 *q)
{
    return qcow2_maps_dirty(q) || q->pending.n > 0 || q->held.n > 0 || q->ready.n > 0;
}
