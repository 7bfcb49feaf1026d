/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A blkif ring (xen/io/blkif.h, xen/io/ring.h): requests from the frontend's shared pages to the
 * block layer, responses back. Everything in the pages is the guest's to change at any time: indexes
 * are read once and checked against ours, a request is copied before anything in it is looked at.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pv/internal.h"

enum {
    TURN_REQUESTS = 32,   /* taken before the loop gets a turn */
    TURN_BYTES = 1 << 20, /* ... and their data */
    TURN_LOOKS = 8,       /* waiting for more is tried so often before the loop gets a turn */
    LOOK_NS = 10000,
    LOOK_PAUSES = 4,  /* between two looks at the clock */
    LOOK_TURNS = 256, /* ... of which there are no more: it may stand still */
    ENTRY_MAX = 112,
    RING_HEADER = 64,
    /* Of struct blkif_response, in both ABIs. */
    RSP_OP = 8,
    RSP_STATUS = 10,
};

/* The fields of a request behind the first four bytes, which are the same everywhere: operation,
 * then nr_segments (8 bit) or indirect_op, then nr_segments (16 bit) of an indirect request. */
struct blkring_abi {
    const char *name;
    unsigned entry; /* bytes */
    unsigned id, sector, segments;
    unsigned discard_sectors;
    unsigned indirect_sector, indirect_grefs;
};

_Static_assert(sizeof(struct blkif_request) == ENTRY_MAX, "blkif.h is not in its 64-bit form");
_Static_assert(offsetof(struct blkif_sring, ring) == RING_HEADER, "");
_Static_assert(offsetof(struct blkif_response, status) == RSP_STATUS, "");

static const struct blkring_abi abis[] = {
    {
        .name = XEN_IO_PROTO_ABI_X86_64,
        .entry = sizeof(struct blkif_request),
        .id = offsetof(struct blkif_request, id),
        .sector = offsetof(struct blkif_request, sector_number),
        .segments = offsetof(struct blkif_request, seg),
        .discard_sectors = offsetof(struct blkif_request_discard, nr_sectors),
        .indirect_sector = offsetof(struct blkif_request_indirect, sector_number),
        .indirect_grefs = offsetof(struct blkif_request_indirect, indirect_grefs),
    },
    {
        /* 64-bit fields are aligned to 4 bytes there. */
        .name = XEN_IO_PROTO_ABI_X86_32,
        .entry = 108,
        .id = 4,
        .sector = 12,
        .segments = 20,
        .discard_sectors = 20,
        .indirect_sector = 12,
        .indirect_grefs = 24,
    },
};

/* A request in flight. */
struct blkreq {
    struct block_request io;
    struct blkring *ring;
    struct blkreq *next; /* free ones */
    uint64_t id;
    uint8_t op;    /* for the response */
    bool write;    /* data goes from the guest to the image */
    bool preflush; /* a flush comes first (again, when the data has none) */
    bool fua;
    bool direct;     /* on mapped pages; else through the buffer */
    unsigned n;      /* pieces */
    uint64_t sector; /* 512 bytes each */
    uint64_t bytes;
    struct grant_piece piece[QDISK_SEGMENTS];
    struct grant *page[QDISK_SEGMENTS];
    struct iovec iov[QDISK_SEGMENTS];
    uint8_t *buffer; /* QDISK_REQUEST_BYTES */
};

struct blkring {
    struct qdisk *d;
    const struct blkring_abi *abi;
    uint8_t *pages;
    unsigned npages, entries;
    evtchn_port_t port;
    uint32_t cons;         /* requests taken */
    uint32_t rsp;          /* responses made */
    uint32_t pushed;       /* ... that the frontend has been shown */
    struct grants *grants; /* NULL: everything is copied */
    bool working;          /* inside blkring_work() */
    struct qdisk_look look;
    bool look_on; /* the loop had its turn in between */
    unsigned in_flight;
    struct blkreq *barrier; /* waits until it is alone, or runs: nothing is taken */
    bool barrier_runs;
    struct blkreq *free;
    uint8_t *buffers;
    struct blkreq all[QDISK_DEPTH];
};

const struct blkring_abi *blkring_abi(const char *name)
{
    for (size_t i = 0; i < sizeof(abis) / sizeof(abis[0]); i++) {
        if (name == NULL || strcmp(name, abis[i].name) == 0) {
            return &abis[i];
        }
    }
    return NULL;
}

/* ---- the shared pages ---- */

static uint32_t *shared(const struct blkring *r, size_t offset)
{
    return (uint32_t *)(void *)(r->pages + offset);
}

static uint32_t load(const struct blkring *r, size_t offset)
{
    return __atomic_load_n(shared(r, offset), __ATOMIC_ACQUIRE);
}

static void store(struct blkring *r, size_t offset, uint32_t value)
{
    __atomic_store_n(shared(r, offset), value, __ATOMIC_RELEASE);
}

#define REQ_PROD  offsetof(struct blkif_sring, req_prod)
#define REQ_EVENT offsetof(struct blkif_sring, req_event)
#define RSP_PROD  offsetof(struct blkif_sring, rsp_prod)
#define RSP_EVENT offsetof(struct blkif_sring, rsp_event)

static uint8_t *entry(const struct blkring *r, uint32_t index)
{
    return r->pages + RING_HEADER + (size_t)(index & (r->entries - 1)) * r->abi->entry;
}

/* The one look at a request. */
static void copy_request(const struct blkring *r, uint32_t index, uint8_t out[ENTRY_MAX])
{
    const volatile uint32_t *from = (const volatile uint32_t *)(const void *)entry(r, index);

    for (unsigned i = 0; i < r->abi->entry / 4; i++) {
        uint32_t v = from[i];

        memcpy(out + 4 * i, &v, 4);
    }
}

static void respond(struct blkring *r, uint64_t id, uint8_t op, int error)
{
    uint8_t *to = entry(r, r->rsp++);
    int16_t status = error == 0             ? BLKIF_RSP_OKAY
                     : error == -EOPNOTSUPP ? BLKIF_RSP_EOPNOTSUPP
                                            : BLKIF_RSP_ERROR;

    memcpy(to, &id, sizeof(id));
    to[RSP_OP] = op;
    to[RSP_OP + 1] = 0;
    memcpy(to + RSP_STATUS, &status, sizeof(status));
}

void blkring_push(struct blkring *r)
{
    uint32_t old = r->pushed;

    if (old == r->rsp) {
        return;
    }
    r->pushed = r->rsp;
    store(r, RSP_PROD, r->rsp);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the frontend writes rsp_event, then looks again */
    if (r->rsp - load(r, RSP_EVENT) < r->rsp - old) {
        xenevtchn_notify(r->d->pv->evtchn, r->port);
    }
}

/* ---- life of a request ---- */

static void finish(struct blkreq *q, int error)
{
    struct blkring *r = q->ring;

    if (q->direct) {
        for (unsigned i = 0; i < q->n; i++) {
            grants_put(q->page[i]);
        }
    } else if (error == 0 && !q->write && q->n > 0 &&
               !grants_copy(r->d->pv->gnttab, (uint32_t)r->d->pv->domid, true, q->piece, q->n,
                            q->buffer)) {
        error = -EFAULT;
    }
    respond(r, q->id, q->op, error);
    if (q == r->barrier) {
        r->barrier = NULL;
    }
    q->next = r->free;
    r->free = q;
    r->in_flight--;
    if (!r->working) {
        bottom_half_schedule(&r->d->work); /* completions that come together are one notification */
    }
}

static void step(struct blkreq *q);

static void on_done(struct block_request *io, int error)
{
    struct blkreq *q = io->opaque;
    bool was_flush = io->op == BLOCK_FLUSH;

    if (error != 0 || (was_flush && q->n == 0) || !was_flush) {
        finish(q, error);
    } else {
        q->preflush = false;
        step(q);
    }
}

/* Submits what comes next of q: the flush, or the data. */
static void step(struct blkreq *q)
{
    struct block *b = q->ring->d->block;

    q->io.done = on_done;
    q->io.opaque = q;
    if (q->preflush) {
        q->io.op = BLOCK_FLUSH;
        q->io.offset_bytes = q->io.length_bytes = 0;
    } else if (q->n > 0) {
        q->io.op = q->write ? BLOCK_WRITE : BLOCK_READ;
        q->io.fua = q->fua;
        q->io.offset_bytes = q->sector * BLOCK_SECTOR;
        q->io.length_bytes = q->bytes;
        q->io.iov = q->iov;
        q->io.iovcnt = q->direct ? (int)q->n : 1;
    }
    block_submit(b, &q->io);
}

/* Takes the segments of q out of an array of struct blkif_request_segment that is ours. False: one
 * of them makes no sense. */
static bool take_segments(struct blkreq *q, const uint8_t *segments)
{
    q->bytes = 0;
    for (unsigned i = 0; i < q->n; i++) {
        struct blkif_request_segment s;

        memcpy(&s, segments + i * sizeof(s), sizeof(s));
        if (s.first_sect > s.last_sect || s.last_sect >= PV_PAGE / BLOCK_SECTOR) {
            return false;
        }
        q->piece[i] = (struct grant_piece){
            .ref = s.gref,
            .offset = (uint16_t)(s.first_sect * BLOCK_SECTOR),
            .len = (uint16_t)((s.last_sect - s.first_sect + 1) * BLOCK_SECTOR)};
        q->bytes += q->piece[i].len;
    }
    return true;
}

/* The segments of an indirect request are in a page of their own. */
static bool take_indirect_segments(struct blkreq *q, grant_ref_t ref)
{
    struct blkring *r = q->ring;
    uint8_t segments[QDISK_SEGMENTS * sizeof(struct blkif_request_segment)];
    struct grant_piece piece = {
        .ref = ref, .offset = 0, .len = (uint16_t)(q->n * sizeof(struct blkif_request_segment))};
    struct grant *page = r->grants != NULL ? grants_get(r->grants, ref) : NULL;

    _Static_assert(QDISK_SEGMENTS <= QDISK_SEGMENTS_PER_PAGE, "one page of segments is looked at");
    if (page != NULL) {
        memcpy(segments, page->page, piece.len);
        __asm__ volatile("" : : "r"(segments) : "memory"); /* the guest may change the page now */
        grants_put(page);
    } else if (!grants_copy(r->d->pv->gnttab, (uint32_t)r->d->pv->domid, false, &piece, 1,
                            segments)) {
        return false;
    }
    return take_segments(q, segments);
}

/* Maps the pages of q, all or none. */
static bool map_pages(struct blkreq *q)
{
    for (unsigned i = 0; i < q->n; i++) {
        q->page[i] = grants_get(q->ring->grants, q->piece[i].ref);
        if (q->page[i] == NULL) {
            while (i-- > 0) {
                grants_put(q->page[i]);
            }
            return false;
        }
        q->iov[i] = (struct iovec){q->page[i]->page + q->piece[i].offset, q->piece[i].len};
    }
    return true;
}

/* 0, or why the request ends here. */
static int check_range(const struct blkring *r, uint64_t sector, uint64_t sectors)
{
    const struct block *b = r->d->block;
    uint64_t size = b != NULL ? block_size_bytes(b) / BLOCK_SECTOR : 0;

    return sector <= size && sectors <= size - sector ? 0 : -EIO;
}

/* Reads, writes, barriers, flushes, once their segments are known. 0: it has been submitted (and may be
 * finished), or waits to be alone. */
static int start_data(struct blkreq *q)
{
    struct blkring *r = q->ring;
    int error = q->n > 0 ? check_range(r, q->sector, q->bytes / BLOCK_SECTOR) : 0;

    if (error == 0 && q->n > 0 && q->write && r->d->readonly) {
        error = -EROFS;
    }
    if (error == 0 && r->d->block == NULL) {
        error = -ENOMEDIUM;
    }
    if (error != 0) {
        return error;
    }
    q->direct = r->grants != NULL && q->n > 0 && map_pages(q);
    if (!q->direct) {
        q->iov[0] = (struct iovec){q->buffer, q->bytes};
        if (q->write && q->n > 0 &&
            !grants_copy(r->d->pv->gnttab, (uint32_t)r->d->pv->domid, false, q->piece, q->n,
                         q->buffer)) {
            return -EFAULT;
        }
    }
    if (q->op != BLKIF_OP_WRITE_BARRIER) {
        step(q);
        return 0;
    }
    r->barrier = q;
    r->barrier_runs = r->in_flight == 1;
    if (r->barrier_runs) {
        step(q);
    }
    return 0;
}

static int start_discard(struct blkreq *q, uint64_t sectors)
{
    struct blkring *r = q->ring;
    int error = check_range(r, q->sector, sectors);

    if (!r->d->discard) {
        return -EOPNOTSUPP;
    }
    if (error != 0 || r->d->readonly || r->d->block == NULL) {
        return -EIO;
    }
    q->io.op = BLOCK_DISCARD;
    q->io.offset_bytes = q->sector * BLOCK_SECTOR;
    q->io.length_bytes = sectors * BLOCK_SECTOR;
    q->io.done = on_done;
    q->io.opaque = q;
    block_submit(r->d->block, &q->io);
    return 0;
}

static uint64_t field64(const uint8_t *request, unsigned offset)
{
    uint64_t v;

    memcpy(&v, request + offset, sizeof(v));
    return v;
}

/* Carries out a copied request. 0 or the -errno of its response. */
static int start(struct blkreq *q, const uint8_t *request)
{
    const struct blkring_abi *abi = q->ring->abi;

    q->n = request[1];
    q->sector = field64(request, abi->sector);
    q->write = q->op != BLKIF_OP_READ;
    q->preflush = q->op == BLKIF_OP_WRITE_BARRIER || q->op == BLKIF_OP_FLUSH_DISKCACHE;
    q->fua = q->op == BLKIF_OP_WRITE_BARRIER;
    q->io.fua = false;
    switch (q->op) {
    case BLKIF_OP_READ:
    case BLKIF_OP_WRITE:
        if (q->n == 0) {
            return -EINVAL;
        }
        break;
    case BLKIF_OP_WRITE_BARRIER:
    case BLKIF_OP_FLUSH_DISKCACHE: /* with data: what has been written before, then that */
        break;
    case BLKIF_OP_DISCARD:
        q->n = 0;
        return start_discard(q, field64(request, abi->discard_sectors));
    case BLKIF_OP_INDIRECT: {
        uint16_t n;
        grant_ref_t ref;

        memcpy(&n, request + 2, sizeof(n));
        memcpy(&ref, request + abi->indirect_grefs, sizeof(ref));
        q->op = request[1]; /* the response names it */
        q->write = q->op == BLKIF_OP_WRITE;
        q->n = n;
        q->sector = field64(request, abi->indirect_sector);
        if ((!q->write && q->op != BLKIF_OP_READ) || n == 0 || n > QDISK_SEGMENTS ||
            !take_indirect_segments(q, ref)) {
            return -EINVAL;
        }
        return start_data(q);
    }
    default:
        return -EOPNOTSUPP;
    }
    if (q->n > BLKIF_MAX_SEGMENTS_PER_REQUEST || !take_segments(q, request + abi->segments)) {
        return -EINVAL;
    }
    return start_data(q);
}

/* Takes one request. Returns the bytes of its data. */
static uint64_t take(struct blkring *r)
{
    uint8_t request[ENTRY_MAX] = {0};
    struct blkreq *q = r->free;
    uint64_t bytes;
    int error;

    copy_request(r, r->cons++, request);
    r->free = q->next;
    r->in_flight++;
    q->id = field64(request, r->abi->id);
    q->op = request[0];
    q->direct = false;
    q->bytes = 0;
    error = start(q, request);
    bytes = q->bytes;
    if (error != 0) {
        q->n = 0; /* nothing of it is mapped */
        finish(q, error);
    }
    return bytes;
}

bool qdisk_look_pays(struct qdisk_look *look)
{
    if (look->left == 0) {
        return true;
    }
    look->left--;
    return false;
}

void qdisk_look_learn(struct qdisk_look *look, bool found)
{
    look->skip = found ? 0 : look->skip < QDISK_LOOK_SKIP_MAX ? look->skip * 2 + 1 : look->skip;
    look->left = look->skip;
}

/*
 * Whether the frontend puts its next request into the ring in the next moments. With one request at
 * a time from the page cache, most of its price is our going to sleep and being woken; and as
 * req_event is not moved on meanwhile, the guest is spared the notification.
 */
static bool look(struct blkring *r)
{
    const struct loop *loop = r->d->pv->loop;
    uint64_t start;

    if (!qdisk_look_pays(&r->look)) {
        return false;
    }
    start = loop_now(loop, LOOP_HOST);
    for (unsigned turn = 0; turn < LOOK_TURNS; turn++) {
        for (unsigned i = 0; i < LOOK_PAUSES; i++) {
            if (load(r, REQ_PROD) != r->cons) {
                qdisk_look_learn(&r->look, true);
                return true;
            }
            __builtin_ia32_pause();
        }
        if (loop_work_waits(loop)) {
            return false; /* that tells nothing about the frontend */
        }
        if (loop_now(loop, LOOP_HOST) - start >= LOOK_NS) {
            break;
        }
    }
    qdisk_look_learn(&r->look, false);
    return false;
}

static void take_all(struct blkring *r)
{
    uint64_t bytes = 0;
    unsigned taken = 0, looks = 0;
    bool busy = r->look_on;

    r->look_on = false;
    for (;;) {
        uint32_t prod = load(r, REQ_PROD);

        if (prod - r->rsp > r->entries || r->cons - r->rsp > prod - r->rsp) {
            qdisk_broken(r->d, "its ring's index makes no sense");
            return;
        }
        while (r->cons != prod) {
            /* In all these cases somebody comes back: a completion, cont, the end. */
            if (!qdisk_runs(r->d) || r->barrier != NULL || r->free == NULL) {
                return;
            }
            if (taken == TURN_REQUESTS || bytes >= TURN_BYTES) {
                bottom_half_schedule(&r->d->work);
                return;
            }
            taken++;
            bytes += take(r);
            busy = true;
        }
        /* What is under way ends in the loop. */
        if (busy && r->in_flight == 0 && qdisk_runs(r->d)) {
            blkring_push(r);
            if (looks++ == TURN_LOOKS) {
                r->look_on = true;
                bottom_half_schedule(&r->d->work);
                return;
            }
            if (look(r)) {
                continue;
            }
        }
        store(r, REQ_EVENT, r->cons + 1);
        __atomic_thread_fence(
            __ATOMIC_SEQ_CST); /* the frontend writes req_prod, then looks at it */
        if (load(r, REQ_PROD) == r->cons) {
            return;
        }
    }
}

void blkring_work(struct blkring *r)
{
    r->working = true;
    if (r->barrier != NULL && !r->barrier_runs && r->in_flight == 1) {
        r->barrier_runs = true;
        step(r->barrier);
    }
    if (qdisk_runs(r->d)) {
        take_all(r);
    }
    r->working = false;
    blkring_push(r);
}

/* ---- life of the ring ---- */

evtchn_port_t blkring_port(const struct blkring *r)
{
    return r->port;
}

unsigned blkring_in_flight(const struct blkring *r)
{
    return r->in_flight;
}

struct blkring *blkring_create(struct qdisk *d, const struct blkring_abi *abi, void *pages,
                               unsigned npages, evtchn_port_t port, bool persistent)
{
    struct blkring *r = calloc(1, sizeof(*r));
    size_t len = (size_t)QDISK_DEPTH * QDISK_REQUEST_BYTES;

    if (r == NULL) {
        return NULL;
    }
    /* Only what is used becomes memory: nothing for a frontend that reuses its pages. */
    r->buffers =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r->buffers == MAP_FAILED) {
        r->buffers = NULL;
        goto fail;
    }
    madvise(r->buffers, len, MADV_NOHUGEPAGE);
    if (persistent && (r->grants = grants_create(d->pv->gnttab, (uint32_t)d->pv->domid)) == NULL) {
        goto fail;
    }
    r->d = d;
    r->abi = abi;
    r->pages = pages;
    r->npages = npages;
    r->port = port;
    for (r->entries = 1; r->entries * 2 <= (npages * PV_PAGE - RING_HEADER) / abi->entry;
         r->entries *= 2) {
    }
    /* A ring that was in use goes on where it was. */
    r->cons = r->rsp = r->pushed = load(r, RSP_PROD);
    for (unsigned i = QDISK_DEPTH; i-- > 0;) {
        r->all[i].ring = r;
        r->all[i].buffer = r->buffers + (size_t)i * QDISK_REQUEST_BYTES;
        r->all[i].next = r->free;
        r->free = &r->all[i];
    }
    return r;

fail:
    if (r->buffers != NULL) {
        munmap(r->buffers, len);
    }
    free(r);
    errno = ENOMEM;
    return NULL;
}

void blkring_destroy(struct blkring *r)
{
    if (r == NULL) {
        return;
    }
    grants_destroy(r->grants);
    xenevtchn_unbind(r->d->pv->evtchn, r->port);
    xengnttab_unmap(r->d->pv->gnttab, r->pages, r->npages);
    munmap(r->buffers, (size_t)QDISK_DEPTH * QDISK_REQUEST_BYTES);
    free(r);
}
