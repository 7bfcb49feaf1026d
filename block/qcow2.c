/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2: requests. Each looks at one piece after the other; the pieces' I/O runs side by side. */
#include "block/qcow2.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { DISCARD_STEPS = 256 }; /* slices before others get a turn */

/* Sanity. */

uint64_t qcow2_file_end(const struct qcow2 *q)
{
    return (q->file->size_bytes + q->cluster_bytes - 1) & ~(q->cluster_bytes - 1);
}

static bool overlaps(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
    return a < b + blen && b < a + alen;
}

bool qcow2_overlaps_roots(const struct qcow2 *q, uint64_t host, uint64_t len)
{
    return overlaps(host, len, 0, q->cluster_bytes) ||
           overlaps(host, len, q->l1.host, q->l1.entries * 8) ||
           overlaps(host, len, q->reftable.host, q->reftable.entries * 8);
}

bool qcow2_host_ok(const struct qcow2 *q, uint64_t host, uint64_t len)
{
    uint64_t end = qcow2_file_end(q);

    return host < end && len <= end - host && !qcow2_overlaps_roots(q, host, len);
}

static void marked(struct block_request *req, int error)
{
    (void)req;
    (void)error; /* it stays unusable for writing here, at least */
}

int qcow2_corrupt(struct qcow2 *q, const char *what, uint64_t offset)
{
    if (q->broken) {
        return -EIO;
    }
    q->broken = true;
    log_msg("image %s is corrupt (%s at %llu of the file)%s", q->b->name, what,
            (unsigned long long)offset,
            q->b->readonly ? "" : ": no more writes; try qemu-img check -r all");
    if (!q->b->readonly && q->version >= 3) {
        q->incompatible |= QCOW2_INCOMPATIBLE_CORRUPT;
        qcow2_put64(q->mark_bytes, q->incompatible);
        q->mark_iov = (struct iovec){q->mark_bytes, sizeof(q->mark_bytes)};
        q->mark = (struct block_request){.op = BLOCK_WRITE,
                                         .offset_bytes = QCOW2_H_INCOMPATIBLE,
                                         .length_bytes = sizeof(q->mark_bytes),
                                         .iov = &q->mark_iov,
                                         .iovcnt = 1,
                                         .done = marked};
        block_submit(q->file, &q->mark);
    }
    return -EIO;
}

/* Mapping. */

void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *host, uint64_t *len)
{
    unsigned offset_bits = 62 - (q->cluster_bits - 8);
    uint64_t sectors = (entry >> offset_bits & ((UINT64_C(1) << (q->cluster_bits - 8)) - 1)) + 1;

    *host = entry & ((UINT64_C(1) << offset_bits) - 1);
    *len = sectors * BLOCK_SECTOR - (*host & (BLOCK_SECTOR - 1));
}

int qcow2_decode(struct qcow2 *q, uint64_t entry, enum qcow2_kind *kind, uint64_t *host)
{
    if ((entry & QCOW2_COMPRESSED) != 0) {
        uint64_t len;
        qcow2_compressed_range(q, entry, host, &len);
        *kind = QCOW2_K_COMPRESSED;
        /* Its last sector may lie behind the end of the file. */
        if (!qcow2_host_ok(q, *host, 1) || qcow2_overlaps_roots(q, *host, len)) {
            return qcow2_corrupt(q, "compressed cluster", *host);
        }
        return 0;
    }
    *host = entry & QCOW2_OFFSET;
    *kind = (entry & QCOW2_ZERO) != 0 ? QCOW2_K_ZERO : *host != 0 ? QCOW2_K_DATA : QCOW2_K_NONE;
    if ((entry & QCOW2_L2_RESERVED) != 0 || (*host & (q->cluster_bytes - 1)) != 0 ||
        (*kind == QCOW2_K_ZERO && q->version < 3) || (*host == 0 && (entry & QCOW2_COPIED) != 0) ||
        (*host != 0 && !qcow2_host_ok(q, *host, q->cluster_bytes))) {
        return qcow2_corrupt(q, "cluster that an L2 table names", *host);
    }
    return 0;
}

bool qcow2_backed(const struct qcow2 *q, uint64_t offset)
{
    return q->backing != NULL && offset < block_size_bytes(q->backing);
}

int qcow2_map_slice(struct qcow2 *q, uint64_t cluster, struct qcow2_wait *w,
                    struct qcow2_slice **slice)
{
    uint64_t entry = qcow2_get64(q->l1.data + 8 * (cluster >> q->l2_bits));
    uint64_t host = entry & QCOW2_OFFSET;

    *slice = NULL;
    if (entry == 0) {
        return 0;
    }
    if ((entry & QCOW2_L1_RESERVED) != 0 || host == 0 || (host & (q->cluster_bytes - 1)) != 0 ||
        !qcow2_host_ok(q, host, q->cluster_bytes)) {
        return qcow2_corrupt(q, "L2 table", host);
    }
    uint64_t in_table = cluster & ((UINT64_C(1) << q->l2_bits) - 1);
    host += (in_table >> q->slice_entry_bits) * q->slice_bytes;
    return qcow2_slice_get(q, QCOW2_L2, host, w, slice);
}

/* Requests. */

static void woken(struct qcow2_wait *w, int error)
{
    struct qcow2_req *r = (struct qcow2_req *)((char *)w - offsetof(struct qcow2_req, wait));

    r->parked = false;
    r->state = QCOW2_MAP;
    if (error < 0 && r->error == 0) {
        r->error = error;
    }
    qcow2_run(r);
}

struct qcow2_req *qcow2_req_get(struct qcow2 *q)
{
    struct qcow2_req *r = q->req_pool;

    if (r != NULL) {
        q->req_pool = r->next;
        q->nreq_pool--;
    } else if ((r = malloc(sizeof(*r))) == NULL) {
        return NULL;
    }
    memset(r, 0, sizeof(*r));
    r->q = q;
    r->wait.wake = woken;
    return r;
}

void qcow2_req_put(struct qcow2_req *r)
{
    struct qcow2 *q = r->q;

    if (q->nreq_pool >= QCOW2_POOL_MAX) {
        free(r);
        return;
    }
    r->next = q->req_pool;
    q->req_pool = r;
    q->nreq_pool++;
}

static void child_over(struct qcow2_req *r, int error)
{
    r->outstanding--;
    if (error < 0 && r->error == 0) {
        r->error = error;
    }
    qcow2_run(r);
}

static void child_done(struct qcow2_io *io, int error)
{
    child_over(io->owner, error);
}

static void direct_done(struct block_request *req, int error)
{
    struct qcow2_req *r = req->opaque;
    struct qcow2 *q = r->q;
    unsigned epoch = r->direct_epoch;

    qcow2_enter(q);
    child_over(r, error);
    qcow2_epoch_end(q, epoch);
    qcow2_leave(q);
}

/* The whole request is one piece of the file. */
static void submit_direct(struct qcow2_req *r, uint64_t host)
{
    struct qcow2 *q = r->q;
    bool durable_map = !qcow2_maps_dirty(q);

    r->direct = (struct block_request){.op = r->op,
                                       .fua = r->fua && durable_map,
                                       .offset_bytes = host,
                                       .length_bytes = r->length,
                                       .iov = r->iov,
                                       .iovcnt = r->iovcnt,
                                       .done = direct_done,
                                       .opaque = r};
    r->must_flush = r->fua && !durable_map;
    if (r->op == BLOCK_WRITE && host + r->length > q->high_water) {
        q->high_water = host + r->length;
    }
    r->direct_epoch = q->epoch;
    q->epoch_children[q->epoch]++;
    r->outstanding++;
    r->pos = r->length;
    block_submit(q->file, &r->direct);
}

/* Sends a piece of the request to the file at host, or (kind NONE) reads it from the backing image. */
static void submit_piece(struct qcow2_req *r, enum qcow2_kind kind, uint64_t host, uint64_t len)
{
    struct qcow2 *q = r->q;
    bool clipped = r->op == BLOCK_READ && host + len > q->file->size_bytes;

    if (kind == QCOW2_K_DATA && r->pos == 0 && len == r->length && !clipped) {
        submit_direct(r, host);
        return;
    }
    struct qcow2_io *io = qcow2_io_get(q, r, child_done);
    if (io == NULL) {
        r->error = -ENOMEM;
        return;
    }
    uint64_t at = r->pos;
    io->req.iovcnt = qcow2_iov_slice(io->iov, r->iov, r->iovcnt, at, len);
    io->bytes = len;
    r->must_flush |= r->fua;
    r->outstanding++;
    r->pos += len;
    if (kind == QCOW2_K_DATA) {
        qcow2_io_file(io, r->op, host, 0);
    } else {
        qcow2_io_backing(io, r->offset + at);
    }
}

/* The next len bytes of a read are known: from src, or zeros. */
static void fill(struct qcow2_req *r, const uint8_t *src, uint64_t len)
{
    struct iovec iov[BLOCK_IOV_MAX];
    int n = qcow2_iov_slice(iov, r->iov, r->iovcnt, r->pos, len);

    for (int i = 0; i < n; i++) {
        if (src != NULL) {
            memcpy(iov[i].iov_base, src, iov[i].iov_len);
            src += iov[i].iov_len;
        } else {
            memset(iov[i].iov_base, 0, iov[i].iov_len);
        }
    }
    r->pos += len;
}

/* How many bytes from the current one on are mapped the same way, in a row. */
static uint64_t same_kind(struct qcow2_req *r, const struct qcow2_slice *s, uint64_t cluster,
                          uint64_t entry, enum qcow2_kind kind, uint64_t host)
{
    struct qcow2 *q = r->q;
    unsigned i = qcow2_slice_index(q, cluster), end = 1u << q->slice_entry_bits;
    uint64_t guest = r->offset + r->pos, left = r->length - r->pos;
    uint64_t len = q->cluster_bytes - (guest & (q->cluster_bytes - 1));

    while (len < left && ++i < end) {
        enum qcow2_kind next_kind;
        uint64_t next_host, next = qcow2_get64(s->data + 8 * (size_t)i);
        if (((next ^ entry) & (QCOW2_COPIED | QCOW2_COMPRESSED)) != 0 ||
            qcow2_decode(q, next, &next_kind, &next_host) < 0 || next_kind != kind) {
            break;
        }
        host += q->cluster_bytes;
        if (kind == QCOW2_K_DATA && next_host != host) {
            break;
        }
        len += q->cluster_bytes;
    }
    return len < left ? len : left;
}

/* One piece of a read or write. True: go on. */
static bool step_data(struct qcow2_req *r)
{
    struct qcow2 *q = r->q;
    uint64_t guest = r->offset + r->pos, cluster = guest >> q->cluster_bits;
    uint64_t in = guest & (q->cluster_bytes - 1), host = 0, entry = 0;
    enum qcow2_kind kind = QCOW2_K_NONE;
    struct qcow2_slice *s;

    if (r->op == BLOCK_WRITE && q->broken) {
        r->error = -EIO;
        return false;
    }
    r->parked = true;
    int rc = qcow2_map_slice(q, cluster, &r->wait, &s);
    if (rc == 1) {
        return false;
    }
    r->parked = false;
    if (rc == 0 && s != NULL) {
        entry = qcow2_get64(s->data + 8 * (size_t)qcow2_slice_index(q, cluster));
        rc = qcow2_decode(q, entry, &kind, &host);
    }
    if (rc < 0) {
        r->error = rc;
        return false;
    }
    if (r->op == BLOCK_WRITE && (kind != QCOW2_K_DATA || (entry & QCOW2_COPIED) == 0)) {
        return qcow2_write_alloc(r, s);
    }
    if (kind == QCOW2_K_COMPRESSED) {
        const uint8_t *data;
        uint64_t left = r->length - r->pos, len = q->cluster_bytes - in;
        r->parked = true;
        rc = qcow2_inflate(q, entry, &r->wait, &data);
        if (rc == 1) {
            return false;
        }
        r->parked = false;
        if (rc < 0) {
            r->error = rc;
            return false;
        }
        fill(r, data + in, len < left ? len : left);
        return true;
    }
    uint64_t len;
    if (s != NULL) {
        len = same_kind(r, s, cluster, entry, kind, host);
    } else { /* as far as the L2 table would reach */
        uint64_t table = q->cluster_bytes << q->l2_bits, left = r->length - r->pos;
        len = table - (guest & (table - 1));
        len = len < left ? len : left;
    }
    if (kind == QCOW2_K_DATA || (kind == QCOW2_K_NONE && qcow2_backed(q, guest))) {
        submit_piece(r, kind, host + in, len);
    } else {
        fill(r, NULL, len);
    }
    return true;
}

/* What a discarded cluster becomes. */
static uint64_t discarded(const struct qcow2 *q, uint64_t cluster)
{
    return qcow2_backed(q, cluster << q->cluster_bits) ? QCOW2_ZERO : 0;
}

/* Changes the entries of clusters [cluster, cluster + n) of a slice. 0, 1: look again (a write is
 * busy there, parked), or -errno. */
static int discard_entries(struct qcow2_req *r, struct qcow2_slice *s, uint64_t cluster, uint64_t n)
{
    struct qcow2 *q = r->q;
    unsigned i = qcow2_slice_index(q, cluster);

    for (uint64_t k = 0; k < n; k++) {
        uint8_t *p = s->data + 8 * (size_t)(i + k);
        uint64_t entry = qcow2_get64(p), host, wanted = discarded(q, cluster + k);
        enum qcow2_kind kind;
        struct qcow2_req *busy = qcow2_alloc_at(q, cluster + k);
        if (busy != NULL) {
            r->parked = true;
            qcow2_park(&busy->conflicts, &r->wait);
            return 1;
        }
        int rc = qcow2_decode(q, entry, &kind, &host);
        if (rc < 0) {
            return rc;
        }
        if (entry == wanted) {
            continue;
        }
        qcow2_put64(p, wanted);
        qcow2_slice_dirty(q, s, 8 * (size_t)(i + k), 8);
        qcow2_drop_entry(q, entry);
    }
    return 0;
}

/* True when the entries of clusters are what they shall be. */
static bool is_discarded(const struct qcow2 *q, const struct qcow2_slice *s, uint64_t cluster,
                         uint64_t n)
{
    unsigned i = qcow2_slice_index(q, cluster);

    for (uint64_t k = 0; k < n; k++) {
        uint64_t entry = s != NULL ? qcow2_get64(s->data + 8 * (size_t)(i + k)) : 0;
        if (entry != discarded(q, cluster + k) || qcow2_alloc_at(q, cluster + k) != NULL) {
            return false;
        }
    }
    return true;
}

/* Clusters that follow in the same table (without one) or slice. */
static uint64_t discard_span(const struct qcow2_req *r, uint64_t cluster, bool table)
{
    const struct qcow2 *q = r->q;
    uint64_t span = UINT64_C(1) << (table ? q->slice_entry_bits : q->l2_bits);
    uint64_t n = span - (cluster & (span - 1));
    uint64_t left = (r->length - r->pos) >> q->cluster_bits;

    return n < left ? n : left;
}

/* The clusters of one slice. The range is whole clusters. */
static bool step_discard(struct qcow2_req *r)
{
    struct qcow2 *q = r->q;
    uint64_t cluster = (r->offset + r->pos) >> q->cluster_bits;
    struct qcow2_slice *s;
    int rc;

    if (q->broken) {
        r->error = -EIO;
        return false;
    }
    if (++r->steps > DISCARD_STEPS) {
        r->steps = 0;
        r->parked = true;
        qcow2_park(&q->resume_queue, &r->wait);
        bottom_half_schedule(&q->resume_bh);
        return false;
    }
    if (qcow2_too_many_frees(q)) {
        r->parked = true;
        qcow2_park(&q->frees_queue, &r->wait);
        qcow2_writeback_start(q);
        return false;
    }
    r->parked = true;
    rc = qcow2_map_slice(q, cluster, &r->wait, &s);
    if (rc == 1) {
        return false;
    }
    r->parked = false;
    uint64_t n = discard_span(r, cluster, s != NULL);
    if (rc == 0 && (s != NULL || qcow2_backed(q, cluster << q->cluster_bits))) {
        if (!is_discarded(q, s, cluster, n)) {
            rc = qcow2_need_table(r, cluster);
            if (rc == 0) {
                rc = discard_entries(r, s, cluster, n);
            }
            if (rc == 1) {
                return false;
            }
        }
    }
    if (rc < 0) {
        r->error = rc;
        return false;
    }
    r->pos += n << q->cluster_bits;
    return true;
}

static void finish(struct qcow2_req *r)
{
    if (r->error == 0 && r->must_flush) {
        r->must_flush = false;
        r->state = QCOW2_DURABLE;
        r->parked = true;
        qcow2_flush(r->q, &r->wait);
        return;
    }
    r->finish(r, r->error);
}

void qcow2_run(struct qcow2_req *r)
{
    bool more = true;

    if (r->running) {
        r->again = true;
        return;
    }
    r->running = true;
    while (more || r->again) {
        r->again = false;
        more = !r->parked && r->state == QCOW2_MAP && r->error == 0 && r->pos < r->length &&
               r->outstanding < QCOW2_CHILDREN_MAX &&
               (r->op == BLOCK_DISCARD ? step_discard(r) : step_data(r));
    }
    r->running = false;
    if (!r->parked && r->state == QCOW2_MAP && r->outstanding == 0 &&
        (r->error < 0 || r->pos == r->length)) {
        finish(r);
    }
}

static void guest_done(struct qcow2_req *r, int error)
{
    struct qcow2 *q = r->q;

    r->error = error;
    r->next = NULL;
    if (q->over != NULL) {
        q->over_last->next = r;
    } else {
        q->over = r;
    }
    q->over_last = r;
}

/* Tells the owners of what is over. */
static void answer(struct qcow2 *q)
{
    while (!q->dead && q->over != NULL) {
        struct qcow2_req *r = q->over;
        struct block_request *guest = r->guest;
        int error = r->error;
        q->over = r->next;
        q->completed++;
        qcow2_req_put(r);
        block_complete(q->b, guest, error);
    }
}

void qcow2_enter(struct qcow2 *q)
{
    q->depth++;
}

void qcow2_leave(struct qcow2 *q)
{
    if (q->depth == 1) {
        answer(q);
    }
    if (--q->depth == 0 && q->dead) {
        free(q);
    }
}

/* The backend. */

static void qcow2_submit(struct block *b, struct block_request *req)
{
    struct qcow2 *q = b->state;
    struct qcow2_req *r = qcow2_req_get(q);

    q->activity++;
    if (!q->idle_timer.armed) {
        q->idle_activity = q->activity;
        timer_set(&q->idle_timer, loop_now(b->loop, LOOP_HOST) + QCOW2_IDLE_NS);
    }
    if (r == NULL) {
        q->completed++;
        block_complete(b, req, -ENOMEM);
        return;
    }
    r->guest = req;
    r->finish = guest_done;
    r->op = req->op;
    r->fua = req->fua && req->op == BLOCK_WRITE;
    r->offset = req->offset_bytes;
    r->length = req->length_bytes;
    r->iov = req->iov;
    r->iovcnt = req->iovcnt;
    if (req->op == BLOCK_FLUSH) {
        r->length = 0;
        r->must_flush = true;
    } else if (req->op == BLOCK_DISCARD) {
        uint64_t mask = q->cluster_bytes - 1, end = r->offset + r->length;
        end = end == b->size_bytes ? (end + mask) & ~mask : end & ~mask;
        r->offset = (r->offset + mask) & ~mask;
        /* Version 2 has no clusters of zeros: what would show the backing image stays. */
        bool possible = end > r->offset && (q->version >= 3 || q->backing == NULL);
        r->length = possible ? end - r->offset : 0;
    }
    qcow2_enter(q);
    qcow2_run(r);
    qcow2_leave(q);
}

/* Lets something happen that requests here wait for. */
static void pump(struct qcow2 *q)
{
    if (q->resume_queue.first != NULL) {
        qcow2_wake(&q->resume_queue, 0);
    } else if (q->file->in_flight > 0) {
        block_wait(q->file);
    } else if (q->backing != NULL && q->backing->in_flight > 0) {
        block_wait(q->backing);
    }
}

static void qcow2_wait_one(struct block *b)
{
    struct qcow2 *q = b->state;
    uint64_t before = q->completed;

    /* Perhaps called by the owner of a request that has just been answered: nothing is half done. */
    qcow2_enter(q);
    answer(q);
    while (!q->dead && q->completed == before) {
        pump(q);
        answer(q);
    }
    qcow2_leave(q);
}

struct sync_wait {
    struct qcow2_wait wait;
    bool done;
    int error;
};

static void synced(struct qcow2_wait *w, int error)
{
    struct sync_wait *s = (struct sync_wait *)((char *)w - offsetof(struct sync_wait, wait));

    s->done = true;
    s->error = error;
}

static int qcow2_sync(struct block *b)
{
    struct qcow2 *q = b->state;
    struct sync_wait s;

    qcow2_enter(q);
    do {
        s = (struct sync_wait){.wait = {.wake = synced}};
        qcow2_flush(q, &s.wait);
        while (!s.done || q->freer.busy) {
            pump(q);
        }
    } while (s.error == 0 && qcow2_is_dirty(q));
    qcow2_leave(q);
    return s.error;
}

static void qcow2_close(struct block *b)
{
    struct qcow2 *q = b->state;

    while (q->file->in_flight > 0) { /* the mark of a corrupt image, a look-ahead */
        block_wait(q->file);
    }
    qcow2_free(q);
    b->state = NULL;
    q->dead = true;
    if (q->depth == 0) {
        free(q);
    }
}

const struct block_backend block_qcow2 = {
    .format = "qcow2",
    .open = qcow2_open,
    .close = qcow2_close,
    .submit = qcow2_submit,
    .wait = qcow2_wait_one,
    .sync = qcow2_sync,
};
