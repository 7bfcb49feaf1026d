/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * qcow2 images, the parts shared by qcow2*.c. The format: "Qcow2 Image File Format" (public
 * specification, versions 2 and 3); section names in comments are of that text.
 *
 * Everything runs on the loop thread and never blocks. Metadata lives in slices: pieces of L2 tables
 * and refcount blocks of at most 4 KiB, cached, big endian as on disk. Who needs one that is not
 * there parks a struct qcow2_wait and starts again when it is woken.
 *
 *   qcow2.c        requests: mapping, reads, writes in place, discards; the backend's functions
 *   qcow2_write.c  writes that allocate: copy on write, new L2 tables
 *   qcow2_open.c   header, sanity, backing image
 *   qcow2_cache.c  slices, children of requests, queues
 *   qcow2_refs.c   allocating and freeing clusters; growing the refcount structures
 *   qcow2_flush.c  write-back in the order that survives a crash
 *   qcow2_inflate.c  compressed clusters
 *
 * The order. Data is written to clusters that nothing on disk refers to; the cached L2 entry changes
 * when the data is written. A write-back copies what is dirty, then
 *   1. writes refcounts; (if there are new refcount blocks) flush, writes the refcount table; flush
 *   2. writes L2 and L1 entries, as they were when it began; flush
 *   3. only now lowers the refcounts of what the old entries referred to, when no request that was
 *      mapped by them is under way any more.
 * At every moment, what is reachable on disk has a refcount; a crash leaks clusters at worst.
 */
#include "block/backend.h"
#include "core/loop.h"

enum {
    QCOW2_CACHE_BYTES = 2 << 20, /* L2 and refcount slices of one image */
    QCOW2_SLICE_BYTES = 4096,
    QCOW2_SLICES_MIN = 64,
    QCOW2_HASH = 256,
    QCOW2_CHILDREN_MAX = 16,      /* of one request at a time */
    QCOW2_ALLOCS_MAX = 16,        /* allocating writes at a time */
    QCOW2_COW_BYTES = 8 << 20,    /* and what they hold for copying, roughly */
    QCOW2_FREES_MAX = 4096,       /* extents that wait to be freed, before writers wait */
    QCOW2_DIRTY_SECTORS_MAX = 32, /* of the L1 and of the refcount table */
    QCOW2_REUSE_MAX = 256,        /* freed extents that are remembered */
    QCOW2_POOL_MAX = 32,
    QCOW2_L1_BYTES_MAX = 32 << 20, /* the limits of other implementations */
    QCOW2_REFTABLE_BYTES_MAX = 8 << 20,
    QCOW2_IDLE_NS = 2000000000, /* caches are dropped after this time without requests */
};

/* "Cluster mapping" */
#define QCOW2_COPIED      (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED  (UINT64_C(1) << 62)
#define QCOW2_OFFSET      UINT64_C(0x00fffffffffffe00)
#define QCOW2_L1_RESERVED UINT64_C(0x7f000000000001ff)
#define QCOW2_L2_RESERVED UINT64_C(0x3f000000000001fe) /* bit 0 is the zero flag (version 3) */
#define QCOW2_ZERO        UINT64_C(1)

/* "Header": offsets */
enum {
    QCOW2_H_REFTABLE = 48,
    QCOW2_H_INCOMPATIBLE = 72,
    QCOW2_H_AUTOCLEAR = 88,
};
enum { QCOW2_INCOMPATIBLE_CORRUPT = 1 << 1 };

struct qcow2;

/* Somebody who waits; woken once, with 0 or -errno. */
struct qcow2_wait {
    struct qcow2_wait *next;
    void (*wake)(struct qcow2_wait *w, int error);
};

struct qcow2_queue {
    struct qcow2_wait *first, *last;
};

enum qcow2_table { QCOW2_L2, QCOW2_REFS };

/* A piece of an L2 table or refcount block. */
struct qcow2_slice {
    enum qcow2_table table;
    uint64_t host; /* offset in the file; with table, the key */
    uint8_t *data;
    struct qcow2_slice *hash_next, *older, *newer;
    struct qcow2_queue waiters;
    unsigned pins;              /* cannot be dropped */
    uint8_t dirty_lo, dirty_hi; /* sectors; equal: clean */
    bool loading, writing;
};

/* A request to the file or the backing image, on behalf of something here. */
struct qcow2_io {
    struct block_request req;
    struct qcow2 *q;
    struct qcow2_io *next;
    void (*done)(struct qcow2_io *io, int error); /* io goes back to the pool afterwards */
    void *owner;
    uint64_t bytes; /* sum of iov so far */
    unsigned epoch;
    struct iovec iov[BLOCK_IOV_MAX];
};

/* Clusters to be allocated: in a row, at least one. */
struct qcow2_want {
    struct qcow2_want *next;
    void (*done)(struct qcow2_want *want, int error);
    uint64_t want; /* clusters */
    uint64_t got, host;
};

enum qcow2_state {
    QCOW2_MAP,     /* look at the next byte */
    QCOW2_TABLE,   /* makes an L2 table */
    QCOW2_ALLOC,   /* allocates, copies, writes */
    QCOW2_DURABLE, /* waits for a write-back */
};

/* A request of a guest, or an internal read for copy on write. */
struct qcow2_req {
    struct qcow2_wait wait;
    struct qcow2 *q;
    struct qcow2_req *next; /* pool, or list of allocating ones */
    struct block_request *guest;
    void (*finish)(struct qcow2_req *r, int error);
    struct qcow2_req *owner;

    enum block_op op;
    bool fua, must_flush;
    unsigned steps; /* of a discard, since others had a turn */
    bool running, again, parked;
    enum qcow2_state state;
    uint64_t offset, length, pos;
    struct iovec *iov;
    int iovcnt;
    int error;
    unsigned outstanding; /* children */

    struct block_request direct; /* the only child, when it covers everything */
    unsigned direct_epoch;
    struct iovec own_iov;

    /* Allocation of clusters guest clusters from cluster on; the slice that maps them is pinned. */
    uint64_t cluster, clusters, bytes; /* bytes of the request that go there */
    struct qcow2_want want;
    struct qcow2_slice *slice;
    struct qcow2_queue conflicts;
    uint8_t *cow; /* head and tail, as far as they were read */
    uint64_t head, tail;
    bool head_read, tail_read;
    unsigned alloc_pending; /* children of this */
    int alloc_error;
};

struct qcow2_extent {
    uint64_t cluster, count;
};

struct qcow2_extents {
    struct qcow2_extent *v;
    unsigned n, room;
};

/* A table that is held in memory as a whole (L1, refcount table), with its changed sectors. */
struct qcow2_root {
    uint8_t *data; /* whole sectors */
    uint64_t host, entries;
    uint32_t dirty[2 * QCOW2_DIRTY_SECTORS_MAX]; /* a failed write-back gives its own back */
    unsigned ndirty;
};

/* One write of a write-back, with its copy of the bytes. */
struct qcow2_item {
    struct block_request req;
    struct iovec iov;
    struct qcow2 *q;
    struct qcow2_item *next;
    struct qcow2_slice *slice; /* or of: */
    struct qcow2_root *root;
    uint8_t data[];
};

enum qcow2_phase { /* of a write-back, in order */
                   QCOW2_PHASE_REFS,
                   QCOW2_PHASE_REFS_FLUSH,
                   QCOW2_PHASE_REFTABLE,
                   QCOW2_PHASE_BARRIER,
                   QCOW2_PHASE_MAPS,
                   QCOW2_PHASE_FLUSH,
                   QCOW2_PHASE_END,
};

struct qcow2_writeback {
    bool running, again, stepping;
    enum qcow2_phase phase;
    bool barrier;                              /* maps refer to new data or tables */
    bool entered;                              /* the flush of this phase is on its way */
    bool captured;                             /* struct qcow2's held is of this one */
    struct qcow2_item *refs, *reftable, *maps; /* to be written and written */
    struct qcow2_item *next;                   /* of the current phase */
    unsigned pending;
    int error;
    struct block_request flush;
    struct qcow2_queue waiters;      /* of this one */
    struct qcow2_queue next_waiters; /* of the one after it */
};

struct qcow2_refs {
    struct qcow2_want *first, *last;
    struct qcow2_wait wait;
    bool running, again, busy; /* busy: waits for I/O or a slice */
    int error;                 /* of that */
    uint64_t cursor;           /* cluster: everything before is in use or in reuse */
    bool wrapped;
    struct qcow2_extent reuse[QCOW2_REUSE_MAX];
    unsigned nreuse;
    uint8_t first_sector[BLOCK_SECTOR]; /* of a new refcount block */
    /* growing the refcount table */
    bool growing;
    unsigned grow_step;
    uint8_t *grow_table, *grow_blocks;
    uint64_t grow_host, grow_nblocks, grow_clusters;
    uint8_t grow_header[12];
};

/* Lowers refcounts of what is in `ready`. */
struct qcow2_freer {
    struct qcow2_wait wait;
    bool running, again, busy;
    unsigned at; /* index into ready */
    struct qcow2_slice *slice;
    uint64_t punch_cluster, punch_count;
};

struct qcow2 {
    struct block *b, *file, *backing;
    unsigned version, cluster_bits, refcount_order;
    uint64_t cluster_bytes, size_bytes;
    unsigned slice_bytes, slice_entry_bits; /* of L2 slices */
    unsigned l2_bits;                       /* entries of an L2 table */
    unsigned block_bits;                    /* entries of a refcount block */
    unsigned slice_refs_bits;               /* entries of a slice of one */
    uint64_t incompatible;
    uint8_t *zeros;      /* a cluster of zeros, read-only, without memory behind it */
    uint64_t high_water; /* bytes: the file was written up to here at most */
    bool broken;         /* corrupt: no new writes */

    struct qcow2_root l1, reftable;

    struct qcow2_slice *hash[QCOW2_HASH], *oldest, *newest;
    unsigned nslices, slices_max, ndirty;
    struct qcow2_queue cache_queue; /* wait for room */
    struct qcow2_io *io_pool;
    unsigned nio_pool;
    struct qcow2_req *req_pool;
    unsigned nreq_pool;

    struct qcow2_req *allocs; /* active */
    unsigned nallocs, allocs_max;
    struct qcow2_queue allocs_queue;
    struct qcow2_req *table_owner; /* makes an L2 table */
    struct qcow2_queue table_queue;

    bool barrier; /* see struct qcow2_writeback */
    struct qcow2_writeback wb;
    struct qcow2_refs refs;

    /* Clusters without references: dropped in the cache; by entries that the running (or, durable,
     * the last) write-back writes; and free to be freed. */
    struct qcow2_extents pending, held, ready;
    bool held_durable;
    unsigned epoch;             /* of new children */
    unsigned epoch_children[2]; /* file children under way */
    struct qcow2_freer freer;
    struct qcow2_queue frees_queue;

    /* The last inflated cluster. */
    struct {
        uint64_t entry; /* L2 entry of what is in out; 0: nothing */
        uint8_t *in, *out;
        uint64_t loading; /* entry under way, 0: none */
        uint64_t failed;  /* entry whose load has failed, to be reported to who began it */
        struct qcow2_wait *loader;
        int error;
        struct qcow2_queue queue;
    } inflate;

    struct bottom_half resume_bh; /* long discards go on from here */
    struct qcow2_queue resume_queue;
    struct timer idle_timer;
    uint64_t activity, idle_activity;
    uint64_t completed; /* guest requests */
    /* Guest requests that are over: their owners are told when nothing here is half done. An owner
     * may wait for others in there, or close the image. */
    struct qcow2_req *over, *over_last;
    unsigned depth;        /* of calls into this image */
    bool dead;             /* closed; the last one to leave frees it */
    uint8_t mark_bytes[8]; /* being written, when the image turned out to be corrupt */
    struct block_request mark;
    struct iovec mark_iov;
};

static inline uint64_t qcow2_get64(const uint8_t *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, sizeof(v));
    return __builtin_bswap64(v);
}

static inline void qcow2_put64(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    __builtin_memcpy(p, &v, sizeof(v));
}

static inline uint32_t qcow2_get32(const uint8_t *p)
{
    uint32_t v;
    __builtin_memcpy(&v, p, sizeof(v));
    return __builtin_bswap32(v);
}

static inline void qcow2_put32(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    __builtin_memcpy(p, &v, sizeof(v));
}

/* qcow2_cache.c */

/* Appends w; it is woken by the next qcow2_wake(). */
void qcow2_park(struct qcow2_queue *queue, struct qcow2_wait *w);
/* Wakes all who wait now (who parks again meanwhile waits for the next time). */
void qcow2_wake(struct qcow2_queue *queue, int error);

/* The slice of a table at file offset host. 0: *out is there, valid until control returns to the
 * loop unless it is pinned; 1: w has been parked, try again when it is woken; or -errno. */
int qcow2_slice_get(struct qcow2 *q, enum qcow2_table table, uint64_t host, struct qcow2_wait *w,
                    struct qcow2_slice **out);
/* The bytes [at, at + len) have been changed. */
void qcow2_slice_dirty(struct qcow2 *q, struct qcow2_slice *s, size_t at, size_t len);
/* After the end of a pin: somebody may wait for room. */
void qcow2_slice_unpin(struct qcow2 *q, struct qcow2_slice *s);
/* A new table comes to a cluster: what is cached of an older one there goes. False: it is in use,
 * which no sound image allows. */
bool qcow2_slices_forget(struct qcow2 *q, enum qcow2_table table, uint64_t host);
/* Forgets all slices that are not in use. With dirty: these too (close). */
void qcow2_slices_drop(struct qcow2 *q, bool dirty);
/* Entry i of the L1 or refcount table has been changed; qcow2_root_room() was true before. */
void qcow2_root_dirty(struct qcow2_root *root, uint64_t i);
static inline bool qcow2_root_room(const struct qcow2_root *root)
{
    return root->ndirty < QCOW2_DIRTY_SECTORS_MAX;
}

/* A child; NULL: out of memory. Not submitted, it goes back with qcow2_io_put(). */
struct qcow2_io *qcow2_io_get(struct qcow2 *q, void *owner,
                              void (*done)(struct qcow2_io *io, int error));
void qcow2_io_put(struct qcow2_io *io);
/* Adds bytes to a child. False: no room, submit it first. */
bool qcow2_io_add(struct qcow2_io *io, void *base, size_t len);
/* Sends a child to the file; its length is what was added (BLOCK_DISCARD: length). Reads behind the
 * end of the file give zeros. done() may be called before this returns. */
void qcow2_io_file(struct qcow2_io *io, enum block_op op, uint64_t offset, uint64_t length);
/* Sends a read to the backing image; behind its end are zeros. */
void qcow2_io_backing(struct qcow2_io *io, uint64_t offset);
/* The memory [at, at + len) of an iovec, into dst (room for BLOCK_IOV_MAX). Entries. */
int qcow2_iov_slice(struct iovec *dst, const struct iovec *src, int cnt, uint64_t at, uint64_t len);
/* Children count for the epoch they began in, see qcow2.h on the order of writes. */
void qcow2_epoch_end(struct qcow2 *q, unsigned epoch);

/* qcow2.c */
/* Around everything that is called from outside (requests, completions, timers). The outermost
 * leave() answers requests that are over; q may be gone afterwards. */
void qcow2_enter(struct qcow2 *q);
void qcow2_leave(struct qcow2 *q);
struct qcow2_req *qcow2_req_get(struct qcow2 *q);
void qcow2_req_put(struct qcow2_req *r);
/* Goes on with a request as far as it goes; ends it when that is all. */
void qcow2_run(struct qcow2_req *r);
/* Logs once, refuses writes from now on, and marks the image as corrupt. Returns -EIO. */
int qcow2_corrupt(struct qcow2 *q, const char *what, uint64_t offset);
/* True when [host, host + len) is in the file and not in the header, L1 or refcount table. */
bool qcow2_host_ok(const struct qcow2 *q, uint64_t host, uint64_t len);
bool qcow2_overlaps_roots(const struct qcow2 *q, uint64_t host, uint64_t len);
/* As far as the file reaches, in whole clusters. */
uint64_t qcow2_file_end(const struct qcow2 *q);

enum qcow2_kind { QCOW2_K_NONE, QCOW2_K_ZERO, QCOW2_K_DATA, QCOW2_K_COMPRESSED };
/* What an L2 entry says, checked. host: offset in the file (DATA; ZERO with one). -EIO: nonsense. */
int qcow2_decode(struct qcow2 *q, uint64_t entry, enum qcow2_kind *kind, uint64_t *host);
/* Where the bytes of a compressed cluster are. */
void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *host, uint64_t *len);
/* The bytes of a guest cluster that an image without it reads from the backing image. */
bool qcow2_backed(const struct qcow2 *q, uint64_t offset);
/* The slice that maps a cluster. 0 with *slice NULL: no L2 table; 1: parked; -errno. */
int qcow2_map_slice(struct qcow2 *q, uint64_t cluster, struct qcow2_wait *w,
                    struct qcow2_slice **slice);

static inline unsigned qcow2_slice_index(const struct qcow2 *q, uint64_t cluster)
{
    return (unsigned)(cluster & ((UINT64_C(1) << q->slice_entry_bits) - 1));
}

/* qcow2_write.c */
/* The next byte of a write needs a new cluster: true when r can go on at once. */
bool qcow2_write_alloc(struct qcow2_req *r, struct qcow2_slice *slice);
/* The L2 table of cluster may be changed. 0: yes; 1: parked or at work on it; -errno. */
int qcow2_need_table(struct qcow2_req *r, uint64_t cluster);
/* The reference in an old L2 entry is gone from the cache. */
void qcow2_drop_entry(struct qcow2 *q, uint64_t entry);
/* The allocating write that works on a guest cluster; NULL. */
struct qcow2_req *qcow2_alloc_at(const struct qcow2 *q, uint64_t cluster);

/* qcow2_refs.c */
/* want->done() is called when there is a result, perhaps at once. */
void qcow2_allocate(struct qcow2 *q, struct qcow2_want *want);
/* Clusters that no table in the cache refers to any more, but perhaps one on disk. */
void qcow2_drop(struct qcow2 *q, uint64_t cluster, uint64_t count);
/* The same, for clusters that no table ever referred to. */
void qcow2_drop_unused(struct qcow2 *q, uint64_t cluster, uint64_t count);
/* Writers had better wait on frees_queue. */
bool qcow2_too_many_frees(const struct qcow2 *q);
/* A write-back ended well, or a child ended: perhaps something can be freed. */
void qcow2_frees_check(struct qcow2 *q);
void qcow2_allocator_run(struct qcow2 *q);
void qcow2_refs_init(struct qcow2 *q);
uint64_t qcow2_refcount_get(const uint8_t *data, uint64_t i, unsigned order);
void qcow2_refcount_set(uint8_t *data, uint64_t i, unsigned order, uint64_t value);
void qcow2_extents_free(struct qcow2_extents *e);

/* qcow2_flush.c */
/* Parks w until everything that is in the cache now is on stable storage. */
void qcow2_flush(struct qcow2 *q, struct qcow2_wait *w);
/* Makes room: begins a write-back if none is under way. */
void qcow2_writeback_start(struct qcow2 *q);
/* Something in the cache is not on stable storage. */
bool qcow2_is_dirty(const struct qcow2 *q);
/* A mapping in the cache may not be on stable storage. */
bool qcow2_maps_dirty(const struct qcow2 *q);

/* qcow2_inflate.c */
/* The contents of a compressed cluster. 0: *out, valid until control returns; 1: parked; -errno. */
int qcow2_inflate(struct qcow2 *q, uint64_t entry, struct qcow2_wait *w, const uint8_t **out);
void qcow2_inflate_drop(struct qcow2 *q);

/* qcow2_open.c */
/* The backend's, see struct block_backend. */
int qcow2_open(struct block *b, const struct block_config *cfg, int fd, char *err, size_t errlen);
/* Frees everything but q; nothing is in flight. */
void qcow2_free(struct qcow2 *q);
