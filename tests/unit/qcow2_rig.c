/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/qcow2_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Big-endian fields. */

static uint64_t get(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static void put(uint8_t *p, unsigned bytes, uint64_t v)
{
    while (bytes-- > 0) {
        p[bytes] = (uint8_t)v;
        v >>= 8;
    }
}

static uint64_t get_refcount(const uint8_t *block, uint64_t i, unsigned order)
{
    if (order >= 3) {
        return get(block + (i << (order - 3)), 1u << (order - 3));
    }
    unsigned bits = 1u << order;
    return (unsigned)block[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
}

static void put_refcount(uint8_t *block, uint64_t i, unsigned order, uint64_t v)
{
    if (order >= 3) {
        put(block + (i << (order - 3)), 1u << (order - 3), v);
        return;
    }
    unsigned bits = 1u << order, shift = (unsigned)(i * bits % 8);
    uint8_t *p = &block[i * bits / 8];
    *p = (uint8_t)((*p & ~(((1u << bits) - 1) << shift)) | (unsigned)v << shift);
}

/* Makes images: header, refcount table, L1, [snapshot table, its L1, L2 tables, data], refcount
 * blocks at the end. */

struct maker {
    const struct qcow2_geometry *g;
    uint8_t *data;
    uint8_t *refs; /* per cluster */
    uint64_t cluster, used, room;
};

static uint64_t take(struct maker *m, uint64_t clusters, uint8_t refcount)
{
    uint64_t first = m->used;
    if (first + clusters > m->room) {
        abort();
    }
    for (uint64_t i = 0; i < clusters; i++) {
        m->refs[first + i] = refcount;
    }
    m->used += clusters;
    return first * m->cluster;
}

static void make_header(struct maker *m)
{
    const struct qcow2_geometry *g = m->g;
    uint8_t *h = m->data;
    uint64_t at = g->version == 2 ? 72 : 104;

    put(h, 4, 0x514649fb);
    put(h + 4, 4, g->version);
    put(h + 20, 4, g->cluster_bits);
    put(h + 24, 8, g->size_bytes);
    if (g->version == 3) {
        put(h + 96, 4, g->refcount_order);
        put(h + 100, 4, 104);
    }
    if (g->backing_format != NULL) {
        size_t n = strlen(g->backing_format);
        put(h + at, 4, 0xe2792aca);
        put(h + at + 4, 4, n);
        memcpy(h + at + 8, g->backing_format, n);
        at += 8 + ((n + 7) & ~(size_t)7);
    }
    at += 8; /* end of extensions */
    if (g->backing != NULL) {
        put(h + 8, 8, at);
        put(h + 16, 4, strlen(g->backing));
        memcpy(h + at, g->backing, strlen(g->backing));
    }
}

/* Every third cluster has data that the active image and a snapshot share. */
static void make_snapshot(struct maker *m, uint64_t l1, uint64_t l1_entries)
{
    const struct qcow2_geometry *g = m->g;
    uint64_t per_table = m->cluster / 8, guest = (g->size_bytes + m->cluster - 1) / m->cluster;
    uint8_t *h = m->data;

    for (uint64_t i = 0; i < guest && i < 12; i += 3) {
        uint8_t *entry = m->data + l1 + 8 * (i / per_table);
        uint64_t table = get(entry, 8);
        if (table == 0) {
            table = take(m, 1, 2);
            put(entry, 8, table);
        }
        uint64_t host = take(m, 1, 2);
        memset(m->data + host, g->snapshot_fill, m->cluster);
        put(m->data + table + 8 * (i % per_table), 8, host);
    }
    uint64_t copy = take(m, (l1_entries * 8 + m->cluster - 1) / m->cluster, 1);
    memcpy(m->data + copy, m->data + l1, l1_entries * 8);
    uint64_t dir = take(m, 1, 1);
    uint8_t *s = m->data + dir;
    put(s, 8, copy);
    put(s + 8, 4, l1_entries);
    put(s + 12, 2, 1);
    put(s + 14, 2, 1);
    put(s + 36, 4, 16);
    put(s + 48, 8, g->size_bytes);
    s[56] = '1';
    s[57] = 'a';
    put(h + 60, 4, 1);
    put(h + 64, 8, dir);
}

uint8_t *qcow2_make(const struct qcow2_geometry *g, size_t *len)
{
    struct maker m = {.g = g, .cluster = UINT64_C(1) << g->cluster_bits};
    uint64_t per_table = m.cluster / 8, per_block = m.cluster * 8 >> g->refcount_order;
    uint64_t l1_entries = (g->size_bytes + m.cluster * per_table - 1) / (m.cluster * per_table);
    uint64_t l1_clusters = (l1_entries * 8 + m.cluster - 1) / m.cluster;

    m.room = 64 + 2 * l1_clusters;
    m.data = calloc(m.room, m.cluster);
    m.refs = calloc(m.room, 1);
    make_header(&m);
    (void)take(&m, 1, 1); /* header */
    uint64_t reftable = take(&m, 1, 1);
    uint64_t l1 = take(&m, l1_clusters, 1);
    put(m.data + 36, 4, l1_entries);
    put(m.data + 40, 8, l1);
    put(m.data + 48, 8, reftable);
    put(m.data + 56, 4, 1);
    if (g->snapshot) {
        make_snapshot(&m, l1, l1_entries);
    }
    for (uint64_t b = 0; b * per_block < m.used; b++) {
        put(m.data + reftable + 8 * b, 8, take(&m, 1, 1));
    }
    for (uint64_t i = 0; i < m.used; i++) {
        uint64_t block = get(m.data + reftable + 8 * (i / per_block), 8);
        put_refcount(m.data + block, i % per_block, g->refcount_order, m.refs[i]);
    }
    *len = m.used * m.cluster;
    free(m.refs);
    return m.data;
}

/* The file in memory. */

static uint32_t rnd(struct rig_file *f)
{
    f->random = f->random * 1664525 + 1013904223;
    return f->random >> 8;
}

static void log_write(struct rig_file *f, const struct block_request *req)
{
    if (f->nlog == f->log_room) {
        f->log_room = f->log_room == 0 ? 64 : 2 * f->log_room;
        f->log = realloc(f->log, f->log_room * sizeof(f->log[0]));
        if (f->log == NULL) {
            abort();
        }
    }
    struct rig_write *w = &f->log[f->nlog++];
    *w = (struct rig_write){req->offset_bytes, req->length_bytes, calloc(1, req->length_bytes),
                            false, req};
    uint8_t *p = w->data;
    for (int i = 0; req->op == BLOCK_WRITE && i < req->iovcnt; i++) {
        memcpy(p, req->iov[i].iov_base, req->iov[i].iov_len);
        p += req->iov[i].iov_len;
    }
}

static void apply(const struct rig_write *w, uint8_t *to, size_t *length)
{
    memcpy(to + w->offset, w->data, w->length);
    if (w->offset + w->length > *length) {
        *length = w->offset + w->length;
    }
}

/* What older writes have in the disk's cache is replaced, too, by a write that goes through it. */
static void overlay(struct rig_file *f, const struct rig_write *w)
{
    for (unsigned i = 0; i < f->nlog; i++) {
        struct rig_write *o = &f->log[i];
        uint64_t lo = o->offset > w->offset ? o->offset : w->offset;
        uint64_t oend = o->offset + o->length, wend = w->offset + w->length;
        uint64_t hi = oend < wend ? oend : wend;
        if (o != w && o->completed && lo < hi) {
            memcpy(o->data + (lo - o->offset), w->data + (lo - w->offset), hi - lo);
        }
    }
}

/* Entries [0, n) of the log that are complete become durable. */
static void make_durable(struct rig_file *f, unsigned n, const struct block_request *only)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < f->nlog; i++) {
        struct rig_write *w = &f->log[i];
        if (i < n && w->completed && (only == NULL || w->req == only)) {
            apply(w, f->durable, &f->durable_length);
            free(w->data);
        } else {
            f->log[kept++] = *w;
        }
    }
    f->nlog = kept;
}

/* What a flush covers is marked when it is submitted; entries leave the log only from the front part
 * by flushes, so indexes are kept as marks in the entries themselves. */
static void complete(struct rig_file *f, struct block_request *req, unsigned covered)
{
    int rc = f->dead ? -EIO : 0;

    if (rc == 0 && f->fail_in > 0 && req->op == f->fail_op && --f->fail_in == 0) {
        rc = f->fail_with;
    }
    if (rc == 0 && req->op == BLOCK_WRITE && req->offset_bytes + req->length_bytes > f->room) {
        rc = -ENOSPC;
    }
    switch (req->op) {
    case BLOCK_READ: {
        uint64_t at = req->offset_bytes;
        f->reads++;
        f->read_bytes += req->length_bytes;
        for (int i = 0; rc == 0 && i < req->iovcnt; i++) {
            size_t n = req->iov[i].iov_len, have = at < f->length ? f->length - at : 0;
            have = have < n ? have : n;
            memcpy(req->iov[i].iov_base, f->now + (have > 0 ? at : 0), have);
            memset((uint8_t *)req->iov[i].iov_base + have, 0, n - have);
            at += n;
        }
        break;
    }
    case BLOCK_WRITE:
    case BLOCK_DISCARD:
        f->writes += req->op == BLOCK_WRITE;
        f->write_bytes += req->length_bytes;
        for (unsigned i = 0; i < f->nlog; i++) {
            if (f->log[i].req != req) {
                continue;
            }
            if (rc == 0) {
                apply(&f->log[i], f->now, &f->length);
                f->log[i].completed = true;
                if (req->fua) {
                    overlay(f, &f->log[i]);
                    make_durable(f, f->nlog, req);
                } else {
                    f->log[i].req = NULL;
                }
            } else {
                free(f->log[i].data);
                memmove(&f->log[i], &f->log[i + 1], (f->nlog - i - 1) * sizeof(f->log[0]));
                f->nlog--;
            }
            break;
        }
        break;
    case BLOCK_FLUSH:
        f->flushes++;
        if (rc == 0) {
            make_durable(f, covered, NULL);
            for (unsigned i = 0; i < f->nwaiting; i++) { /* the log has become shorter */
                unsigned *n = &f->nlogged_at_flush[i];
                *n = *n > covered ? *n - covered : 0;
            }
        }
        break;
    }
    block_complete(f->block, req, rc);
}

static void file_submit(struct block *b, struct block_request *req)
{
    struct rig_file *f = b->state;

    if ((req->op == BLOCK_WRITE || req->op == BLOCK_DISCARD) && !f->dead &&
        req->offset_bytes + req->length_bytes <= f->room) {
        log_write(f, req);
    }
    if (!f->hold || f->nwaiting == 256) {
        complete(f, req, f->nlog);
        return;
    }
    /* A flush covers what is complete now. Later completions of earlier entries may become durable
     * with it, which a disk may do, too, but must not be relied upon: they are moved behind. */
    unsigned covered = 0;
    if (req->op == BLOCK_FLUSH) {
        for (unsigned i = 0; i < f->nlog; i++) {
            if (f->log[i].completed) {
                struct rig_write w = f->log[i];
                memmove(&f->log[covered + 1], &f->log[covered], (i - covered) * sizeof(w));
                f->log[covered++] = w;
            }
        }
    }
    f->nlogged_at_flush[f->nwaiting] = covered;
    f->waiting[f->nwaiting++] = req;
}

bool rig_file_run(struct rig_file *f)
{
    if (f->nwaiting == 0) {
        return false;
    }
    unsigned i = rnd(f) % f->nwaiting;
    struct block_request *req = f->waiting[i];
    unsigned covered = f->nlogged_at_flush[i];
    f->nwaiting--;
    f->waiting[i] = f->waiting[f->nwaiting];
    f->nlogged_at_flush[i] = f->nlogged_at_flush[f->nwaiting];
    complete(f, req, covered);
    return true;
}

static void file_wait(struct block *b)
{
    if (!rig_file_run(b->state)) {
        fprintf(stderr, "waits for nothing\n");
        abort();
    }
}

static int file_sync(struct block *b)
{
    struct rig_file *f = b->state;

    if (f->dead) {
        return -EIO;
    }
    make_durable(f, f->nlog, NULL);
    return 0;
}

static void file_close(struct block *b)
{
    struct rig_file *f = b->state;

    f->block = NULL;
}

static const struct block_backend rig_backend = {
    .format = "rig",
    .close = file_close,
    .submit = file_submit,
    .wait = file_wait,
    .sync = file_sync,
};

struct rig_file *rig_file_create(uint8_t *data, size_t length, size_t room)
{
    struct rig_file *f = calloc(1, sizeof(*f));

    f->now = calloc(1, room);
    f->durable = calloc(1, room);
    memcpy(f->now, data, length);
    memcpy(f->durable, data, length);
    free(data);
    f->length = length;
    f->durable_length = length;
    f->room = room;
    f->random = 1;
    f->fail_op = BLOCK_WRITE;
    return f;
}

static void drop_log(struct rig_file *f)
{
    for (unsigned i = 0; i < f->nlog; i++) {
        free(f->log[i].data);
    }
    f->nlog = 0;
}

void rig_file_destroy(struct rig_file *f)
{
    drop_log(f);
    free(f->log);
    free(f->now);
    free(f->durable);
    free(f);
}

/* The sectors of a write reach the disk or not, each by itself. */
static void apply_some(struct rig_file *f, const struct rig_write *w)
{
    uint64_t at = w->offset, end = w->offset + w->length;

    while (at < end) {
        uint64_t next = (at | 511) + 1;
        next = next < end ? next : end;
        if ((rnd(f) & 1) != 0) {
            memcpy(f->durable + at, w->data + (at - w->offset), next - at);
            if (next > f->durable_length) {
                f->durable_length = next;
            }
        }
        at = next;
    }
}

static void revive(struct rig_file *f)
{
    drop_log(f);
    memset(f->now, 0, f->length);
    memcpy(f->now, f->durable, f->durable_length);
    f->length = f->durable_length;
    f->dead = false;
    f->fail_in = 0;
}

void rig_file_crash(struct rig_file *f)
{
    /* Any order: a random permutation. */
    for (unsigned i = f->nlog; i > 1; i--) {
        unsigned k = rnd(f) % i;
        struct rig_write w = f->log[i - 1];
        f->log[i - 1] = f->log[k];
        f->log[k] = w;
    }
    unsigned mode = rnd(f) % 3; /* all, some of each, some of them */
    for (unsigned i = 0; i < f->nlog; i++) {
        if (mode == 0) {
            apply(&f->log[i], f->durable, &f->durable_length);
        } else if (mode == 1 || (rnd(f) & 1) != 0) {
            apply_some(f, &f->log[i]);
        }
    }
    revive(f);
}

void rig_file_kill(struct rig_file *f)
{
    memcpy(f->durable, f->now, f->length);
    f->durable_length = f->length;
    for (unsigned i = 0; i < f->nlog; i++) {
        if (!f->log[i].completed) {
            apply_some(f, &f->log[i]);
        }
    }
    revive(f);
}

struct block *rig_open_as(struct loop *loop, const struct block_backend *format,
                          struct rig_file *f, bool readonly, char *err, size_t errlen)
{
    struct block *file = calloc(1, sizeof(*file)), *b = calloc(1, sizeof(*b));

    file->backend = &rig_backend;
    file->state = f;
    file->name = strdup("(rig file)");
    file->refs = 1;
    file->size_bytes = f->length;
    file->growable = !readonly;
    file->readonly = readonly;
    file->quiet = true;
    file->loop = loop;
    f->block = file;
    b->backend = format;
    b->loop = loop;
    b->name = strdup("(rig)");
    b->file = file;
    b->refs = 1;
    b->readonly = readonly;
    b->quiet = true;
    const struct block_config cfg = {.path = "/nowhere/image", .fd = -1, .readonly = readonly};
    if (format->open(b, &cfg, -1, err, errlen) < 0) {
        block_close(file);
        free(b->name);
        free(b);
        return NULL;
    }
    return b;
}

struct block *rig_open(struct loop *loop, struct rig_file *f, bool readonly, char *err,
                       size_t errlen)
{
    return rig_open_as(loop, &block_qcow2, f, readonly, err, errlen);
}

void rig_abandon(struct rig_file *f, struct block *b)
{
    f->dead = true;
    block_close(b);
}

/* The checker. */

struct checker {
    const uint8_t *data;
    size_t len;
    uint64_t cluster, clusters, *refs;
    unsigned order, errors, bits;
    const uint8_t *reftable;
    uint64_t reftable_entries;
};

static void bad(struct checker *c, const char *what, uint64_t at)
{
    c->errors++;
    fprintf(stderr, "check: %s at %#llx\n", what, (unsigned long long)at);
}

/* Counts references to [host, host + len). False: not in the file. */
static bool refer(struct checker *c, const char *what, uint64_t host, uint64_t len, bool whole)
{
    if (host == 0 && len <= c->cluster && strcmp(what, "header") != 0) {
        bad(c, what, host);
        return false;
    }
    if ((whole && host % c->cluster != 0) || host >= c->clusters * c->cluster ||
        len > c->clusters * c->cluster - host) {
        bad(c, what, host);
        return false;
    }
    for (uint64_t i = host / c->cluster; i <= (host + len - 1) / c->cluster; i++) {
        c->refs[i]++;
    }
    return true;
}

static uint64_t stored(const struct checker *c, uint64_t i)
{
    uint64_t per_block = c->cluster * 8 >> c->order, b = i / per_block;
    if (b >= c->reftable_entries) {
        return 0;
    }
    uint64_t host = get(c->reftable + 8 * b, 8);
    if (host == 0 || host % c->cluster != 0 || host + c->cluster > c->clusters * c->cluster) {
        return 0;
    }
    return get_refcount(c->data + host, i % per_block, c->order);
}

static void check_l2(struct checker *c, uint64_t table, bool active)
{
    for (uint64_t i = 0; i < c->cluster / 8; i++) {
        uint64_t e = get(c->data + table + 8 * i, 8);
        if ((e >> 62 & 1) != 0) {
            unsigned x = 62 - (c->bits - 8);
            uint64_t host = e & ((UINT64_C(1) << x) - 1);
            uint64_t sectors = (e >> x & ((UINT64_C(1) << (c->bits - 8)) - 1)) + 1;
            uint64_t end = (host | 511) + 1 + (sectors - 1) * 512;
            uint64_t limit = c->clusters * c->cluster;
            end = end < limit ? end : limit;
            (void)refer(c, "compressed cluster", host, end > host ? end - host : 1, false);
            continue;
        }
        uint64_t host = e & UINT64_C(0x00fffffffffffe00);
        if (host == 0) {
            if ((e & ~UINT64_C(1)) != 0) {
                bad(c, "L2 entry", e);
            }
            continue;
        }
        if (!refer(c, "cluster", host, c->cluster, true)) {
            continue;
        }
        if (active && (stored(c, host / c->cluster) == 1) != (e >> 63)) {
            bad(c, "COPIED flag of cluster", host);
        }
    }
}

static void check_l1(struct checker *c, uint64_t l1, uint64_t entries, bool active)
{
    if (entries == 0 || !refer(c, "L1 table", l1, entries * 8, true)) {
        return;
    }
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t e = get(c->data + l1 + 8 * i, 8), host = e & UINT64_C(0x00fffffffffffe00);
        if (host == 0) {
            continue;
        }
        if (!refer(c, "L2 table", host, c->cluster, true)) {
            continue;
        }
        if (active && (stored(c, host / c->cluster) == 1) != (e >> 63)) {
            bad(c, "COPIED flag of L2 table", host);
        }
        check_l2(c, host, active);
    }
}

unsigned qcow2_check(const uint8_t *data, size_t len, unsigned *leaks)
{
    struct checker c = {.bits = (unsigned)get(data + 20, 4)};
    c.cluster = UINT64_C(1) << c.bits;
    c.clusters = (len + c.cluster - 1) / c.cluster;
    uint8_t *copy = calloc(c.clusters, c.cluster); /* the last cluster as a whole */
    memcpy(copy, data, len);
    c.data = copy;
    c.len = len;
    c.refs = calloc(c.clusters, sizeof(*c.refs));
    c.order = get(data + 4, 4) == 2 ? 4 : (unsigned)get(data + 96, 4);
    uint64_t reftable = get(data + 48, 8), reftable_clusters = get(data + 56, 4);
    *leaks = 0;
    (void)refer(&c, "header", 0, c.cluster, true);
    if (refer(&c, "refcount table", reftable, reftable_clusters * c.cluster, true)) {
        c.reftable = c.data + reftable;
        c.reftable_entries = reftable_clusters * c.cluster / 8;
    }
    for (uint64_t i = 0; i < c.reftable_entries; i++) {
        uint64_t host = get(c.reftable + 8 * i, 8);
        if (host != 0) {
            (void)refer(&c, "refcount block", host, c.cluster, true);
        }
    }
    check_l1(&c, get(data + 40, 8), get(data + 36, 4), true);
    uint64_t at = get(data + 64, 8);
    for (uint64_t n = get(data + 60, 4), start = at; n > 0; n--) {
        const uint8_t *s = c.data + at;
        check_l1(&c, get(s, 8), get(s + 8, 4), false);
        at += 40 + get(s + 36, 4) + get(s + 12, 2) + get(s + 14, 2);
        at = (at + 7) & ~UINT64_C(7);
        if (n == 1) {
            (void)refer(&c, "snapshot table", start, at - start, true);
        }
    }
    for (uint64_t i = 0; i < c.clusters; i++) {
        uint64_t have = stored(&c, i);
        if (have < c.refs[i]) {
            bad(&c, "refcount is too low", i * c.cluster);
        }
        *leaks += have > c.refs[i];
    }
    free(copy);
    free(c.refs);
    return c.errors;
}
