/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VHD: requests. Each is a small state machine (struct vhd_op) with at most one child request at a
 * time, on the file or on the parent; a request that touches several blocks goes through them one
 * by one, and many requests are under way at once. Whoever wants to change what others rely on (a
 * cached bitmap sector, a bitmap, the BAT, the layout, part of a sector) becomes the owner first;
 * there is one owner at a time, the others queue.
 *
 * Order on the disk: the data, the new footer and a new block's bitmap are written at once; BAT and
 * bitmap changes of existing blocks stay in memory until a flush. The flush syncs the file, writes
 * them, and syncs again. So neither a kill nor a power failure at any moment leaves a BAT or bitmap
 * that names data which is not there, and everything flushed is found again. What was allocated
 * after the last flush is lost then, as it would be in a drive's cache; WRITE_BACK_NS bounds its age.
 */
#include "block/vhd.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BITS_PER_SLOT = VHD_SECTOR * 8,
    ENTRIES_PER_SECTOR = VHD_SECTOR / 4,
    ALIGN_BYTES = 4096, /* of new blocks' data in the file */
    FILL_BYTES = 8192,
};

static const uint64_t WRITE_BACK_NS = 1000000000, RETRY_NS = 10000000000;

static uint8_t fill_zeros[FILL_BYTES], fill_ones[FILL_BYTES] = {[0 ... FILL_BYTES - 1] = 0xff};

/* One request. step is what to do when it goes on: at once, as owner, or when its child is done. */
struct vhd_op {
    struct vhd *v;
    struct vhd_op *next;
    struct block_request *req;
    void (*step)(struct vhd_op *op);
    void (*after_write_back)(struct vhd_op *op);
    struct block_request child;
    struct iovec iov[BLOCK_IOV_MAX];
    int error;      /* of the child */
    bool on_parent; /* the child is */
    bool buffered;  /* the piece goes through sector[], not the request's buffers */
    bool merged;    /* sector[] holds what is to be written */
    bool allocating;
    bool need_sync;        /* FUA: more than this request's own data has changed */
    uint64_t pos;          /* bytes of the request that are done */
    uint64_t at;           /* the current piece: where in the disk, ... */
    uint64_t run;          /* ... and how long */
    uint64_t new_pos;      /* allocating: the block in the file */
    uint64_t fill_pos;     /* up to where it has been filled with zeros */
    struct vhd_slot *slot; /* being loaded, or to get the piece's bits */
    uint64_t slot_number, slot_file_pos;
    uint32_t table_first, table_count; /* sectors of the BAT being written */
    uint8_t sector[VHD_SECTOR];
};

static void plan(struct vhd_op *op);

/* ---- running ---- */

static void make_ready(struct vhd_op *op)
{
    struct vhd *v = op->v;

    op->next = NULL;
    *v->ready_tail = op;
    v->ready_tail = &op->next;
}

/* Lets everything that can go on do so. Completed requests may submit more. */
static void run_ready(struct vhd *v)
{
    bool was = v->running;

    v->running = true;
    while (v->ready != NULL) {
        struct vhd_op *op = v->ready;

        v->ready = op->next;
        if (v->ready == NULL) {
            v->ready_tail = &v->ready;
        }
        op->step(op);
    }
    v->running = was;
}

static void run(struct vhd *v)
{
    if (!v->running) { /* a child that was done at once: no deeper */
        run_ready(v);
    }
}

/* True: op is the owner. False: it will be, and goes on with plan() then. */
static bool become_owner(struct vhd_op *op)
{
    struct vhd *v = op->v;

    if (v->owner == NULL) {
        v->owner = op;
    }
    if (v->owner == op) {
        return true;
    }
    op->step = plan;
    op->next = NULL;
    *v->locked_tail = op;
    v->locked_tail = &op->next;
    return false;
}

static void release(struct vhd_op *op)
{
    struct vhd *v = op->v;

    if (v->owner != op) {
        return;
    }
    v->owner = v->locked;
    if (v->owner != NULL) {
        v->locked = v->owner->next;
        if (v->locked == NULL) {
            v->locked_tail = &v->locked;
        }
        make_ready(v->owner);
    }
}

static void finish(struct vhd_op *op, int error)
{
    struct vhd *v = op->v;
    struct block_request *req = op->req;

    release(op);
    op->next = v->spare;
    v->spare = op;
    v->completed++;
    block_complete(v->block, req, error);
}

static void child_done(struct block_request *child, int error)
{
    struct vhd_op *op = child->opaque;
    struct vhd *v = op->v;

    *(op->on_parent ? &v->parent_pending : &v->file_pending) -= 1;
    op->error = error;
    make_ready(op);
    run(v);
}

struct child {
    struct block *target; /* the file or the parent */
    enum block_op what;
    uint64_t pos, len;
    int iovcnt; /* of op->iov */
    bool fua;
    void (*step)(struct vhd_op *op); /* goes on there, with op->error */
};

static void start_child(struct vhd_op *op, const struct child *c)
{
    op->step = c->step;
    op->on_parent = c->target == op->v->parent;
    *(op->on_parent ? &op->v->parent_pending : &op->v->file_pending) += 1;
    op->child = (struct block_request){.op = c->what,
                                       .fua = c->fua,
                                       .offset_bytes = c->pos,
                                       .length_bytes = c->len,
                                       .iov = op->iov,
                                       .iovcnt = c->iovcnt,
                                       .done = child_done,
                                       .opaque = op};
    block_submit(c->target, &op->child);
}

static void sync_file(struct vhd_op *op, void (*step)(struct vhd_op *op))
{
    start_child(op, &(struct child){op->v->block->file, BLOCK_FLUSH, 0, 0, 0, false, step});
}

/* Writes len bytes (at most BLOCK_IOV_MAX * FILL_BYTES) of one value. */
static void write_fill(struct vhd_op *op, uint8_t *fill, uint64_t pos, uint64_t len,
                       void (*step)(struct vhd_op *op))
{
    int n = 0;

    for (uint64_t left = len; left > 0; n++) {
        op->iov[n] = (struct iovec){fill, left < FILL_BYTES ? left : FILL_BYTES};
        left -= op->iov[n].iov_len;
    }
    start_child(op, &(struct child){op->v->block->file, BLOCK_WRITE, pos, len, n, false, step});
}

/* Where the current piece's data goes or comes from, into op->iov. Returns the entries. */
static int buffers(struct vhd_op *op)
{
    uint64_t skip = op->pos, left = op->run;
    int n = 0;

    if (op->buffered) {
        op->iov[0] = (struct iovec){op->sector, VHD_SECTOR};
        return 1;
    }
    for (int i = 0; i < op->req->iovcnt && left > 0; i++) {
        struct iovec part = op->req->iov[i];

        if (skip >= part.iov_len) {
            skip -= part.iov_len;
            continue;
        }
        part.iov_base = (uint8_t *)part.iov_base + skip;
        part.iov_len = part.iov_len - skip < left ? part.iov_len - skip : left;
        skip = 0;
        left -= part.iov_len;
        if (part.iov_len > 0) {
            op->iov[n++] = part;
        }
    }
    return n;
}

/* ---- the cache of bitmap sectors ---- */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The number of the bitmap sector for byte `at` of the disk, and where it is in the file. */
static uint64_t slot_number(const struct vhd *v, uint64_t at)
{
    return at / v->block_bytes * (v->bitmap_bytes / VHD_SECTOR) +
           at % v->block_bytes / VHD_SECTOR / BITS_PER_SLOT;
}

static uint64_t slot_offset(const struct vhd *v, uint64_t at)
{
    return at % v->block_bytes / VHD_SECTOR / BITS_PER_SLOT * VHD_SECTOR;
}

static struct vhd_slot *find_slot(struct vhd *v, uint64_t at)
{
    uint64_t number = slot_number(v, at);
    struct vhd_slot *set = &v->cache[number % VHD_CACHE_SETS * VHD_CACHE_WAYS];

    for (unsigned i = 0; i < VHD_CACHE_WAYS; i++) {
        if (set[i].file_pos != 0 && set[i].number == number) {
            set[i].used = ++v->clock;
            return &set[i];
        }
    }
    return NULL;
}

/* Owner: a free place for the bitmap sector of `at`. NULL: all that could be are dirty. */
static struct vhd_slot *free_slot(struct vhd *v, uint64_t at)
{
    struct vhd_slot *set = &v->cache[slot_number(v, at) % VHD_CACHE_SETS * VHD_CACHE_WAYS];
    struct vhd_slot *oldest = NULL;

    for (unsigned i = 0; i < VHD_CACHE_WAYS; i++) {
        if (!set[i].dirty && (oldest == NULL || set[i].used < oldest->used)) {
            oldest = &set[i];
        }
    }
    if (oldest != NULL) {
        oldest->file_pos = 0;
        oldest->used = 0;
    }
    return oldest;
}

static bool bit(const struct vhd_slot *slot, unsigned i)
{
    return (slot->bits[i / 8] >> (7 - i % 8) & 1) != 0;
}

/* How many bits from `first` on, n at most, are `value`. */
static unsigned bits_run(const struct vhd_slot *slot, unsigned first, unsigned n, bool value)
{
    unsigned i = 0;

    while (i < n) {
        if ((first + i) % 8 == 0 && n - i >= 8 &&
            slot->bits[(first + i) / 8] == (value ? 0xff : 0)) {
            i += 8;
        } else if (bit(slot, first + i) == value) {
            i++;
        } else {
            break;
        }
    }
    return i;
}

static unsigned bit_of(const struct vhd *v, uint64_t at)
{
    return (unsigned)(at % v->block_bytes / VHD_SECTOR % BITS_PER_SLOT);
}

static void now_dirty(struct vhd *v, bool *flag)
{
    if (flag != NULL && !*flag) {
        *flag = true;
        v->dirty++;
    }
    if (!v->write_back.armed) {
        timer_set(&v->write_back, loop_now(v->block->loop, LOOP_HOST) + WRITE_BACK_NS);
    }
}

static uint64_t block_pos(const struct vhd *v, uint64_t at)
{
    return (uint64_t)be32toh(v->bat[at / v->block_bytes]) * VHD_SECTOR;
}

static bool allocated(const struct vhd *v, uint64_t at)
{
    return v->bat[at / v->block_bytes] != VHD_NO_BLOCK;
}

/* ---- writing back ---- */

static void write_back_end(struct vhd_op *op)
{
    if (op->error != 0) {
        finish(op, op->error);
        return;
    }
    op->v->unsynced = false;
    op->after_write_back(op);
}

static void write_back_next(struct vhd_op *op);

static void table_written(struct vhd_op *op)
{
    struct vhd *v = op->v;

    if (op->error != 0) {
        finish(op, op->error);
        return;
    }
    for (uint32_t i = op->table_first; i < op->table_first + op->table_count; i++) {
        v->bat_dirty[i / 8] &= (uint8_t) ~(1u << i % 8);
        v->dirty--;
    }
    write_back_next(op);
}

static void slot_written(struct vhd_op *op)
{
    if (op->error != 0) {
        finish(op, op->error);
        return;
    }
    op->slot->dirty = false;
    op->v->dirty--;
    write_back_next(op);
}

/* True: a run of dirty sectors of the BAT is on its way. */
static bool write_table(struct vhd_op *op)
{
    struct vhd *v = op->v;
    uint32_t sectors = (v->blocks + ENTRIES_PER_SECTOR - 1) / ENTRIES_PER_SECTOR;
    uint64_t pos, len;

    for (uint32_t i = op->table_first; i < sectors; i++) {
        if ((v->bat_dirty[i / 8] >> i % 8 & 1) == 0) {
            continue;
        }
        op->table_first = i;
        while (i < sectors && (v->bat_dirty[i / 8] >> i % 8 & 1) != 0) {
            i++;
        }
        op->table_count = i - op->table_first;
        pos = (uint64_t)op->table_first * VHD_SECTOR;
        len = min_u64((uint64_t)op->table_count * VHD_SECTOR, (uint64_t)v->blocks * 4 - pos);
        op->iov[0] = (struct iovec){(uint8_t *)v->bat + pos, len};
        start_child(op, &(struct child){v->block->file, BLOCK_WRITE, v->table_pos + pos, len, 1,
                                        false, table_written});
        return true;
    }
    op->table_first = sectors;
    return false;
}

static void write_back_next(struct vhd_op *op)
{
    struct vhd *v = op->v;

    if (op->error != 0) {
        finish(op, op->error);
        return;
    }
    v->unsynced = true;
    if (write_table(op)) {
        return;
    }
    for (unsigned i = 0; i < VHD_CACHE_SETS * VHD_CACHE_WAYS; i++) {
        if (v->cache[i].dirty) {
            op->slot = &v->cache[i];
            op->iov[0] = (struct iovec){op->slot->bits, VHD_SECTOR};
            start_child(op, &(struct child){v->block->file, BLOCK_WRITE, op->slot->file_pos,
                                            VHD_SECTOR, 1, false, slot_written});
            return;
        }
    }
    sync_file(op, write_back_end);
}

/* Owner: brings data, then metadata to the disk, then goes on with `after`. */
static void write_back(struct vhd_op *op, void (*after)(struct vhd_op *op))
{
    op->after_write_back = after;
    op->table_first = 0;
    sync_file(op, write_back_next);
}

static bool metadata_waits(const struct vhd *v)
{
    return v->dirty > 0 || v->unsynced;
}

static void finish_step(struct vhd_op *op)
{
    finish(op, op->error);
}

static void flush(struct vhd_op *op)
{
    if (!metadata_waits(op->v)) {
        sync_file(op, finish_step);
    } else if (become_owner(op)) {
        write_back(op, finish_step);
    }
}

static void own_flush_done(struct block_request *req, int error)
{
    struct vhd *v = req->opaque;

    v->own_flush_busy = false;
    if (error == 0) {
        v->block->stats.flush_operations--; /* not the guest's */
    }
    if (metadata_waits(v) && !v->write_back.armed) {
        timer_set(&v->write_back,
                  loop_now(v->block->loop, LOOP_HOST) + (error == 0 ? WRITE_BACK_NS : RETRY_NS));
    }
}

static void on_write_back(void *arg)
{
    struct vhd *v = arg;

    if (!v->own_flush_busy && metadata_waits(v)) {
        v->own_flush_busy = true;
        v->own_flush =
            (struct block_request){.op = BLOCK_FLUSH, .done = own_flush_done, .opaque = v};
        block_submit(v->block, &v->own_flush);
    }
}

/* ---- bitmap sectors from the file ---- */

static void slot_loaded(struct vhd_op *op)
{
    if (op->error != 0) {
        finish(op, op->error);
        return;
    }
    op->slot->number = op->slot_number;
    op->slot->file_pos = op->slot_file_pos;
    op->slot->used = ++op->v->clock;
    plan(op);
}

/* Owner: gets the bitmap sector of `at` (an allocated block) into the cache and plans again. */
static void load_slot(struct vhd_op *op, uint64_t at)
{
    struct vhd *v = op->v;

    op->slot = free_slot(v, at);
    if (op->slot == NULL) {
        write_back(op, plan);
        return;
    }
    op->slot_number = slot_number(v, at);
    op->slot_file_pos = block_pos(v, at) + slot_offset(v, at);
    op->iov[0] = (struct iovec){op->slot->bits, VHD_SECTOR};
    start_child(op, &(struct child){v->block->file, BLOCK_READ, op->slot_file_pos, VHD_SECTOR, 1,
                                    false, slot_loaded});
}

/* ---- reading ---- */

enum outcome { STARTED, AT_ONCE };

/* Reads a piece from op->at on, at most `most` bytes; op->run says how many. STARTED: `step` or plan()
 * follows (or the op is over). AT_ONCE: these were zeros. */
static enum outcome start_read(struct vhd_op *op, uint64_t most, void (*step)(struct vhd_op *op))
{
    struct vhd *v = op->v;
    struct block *source = NULL;
    uint64_t pos = op->at, size;
    int n;

    if (v->type == VHD_FIXED) {
        op->run = most;
        source = v->block->file;
    } else {
        uint64_t in = op->at % v->block_bytes;

        op->run = min_u64(most, v->block_bytes - in);
        if (!allocated(v, op->at)) {
            source = v->parent;
        } else if (v->parent == NULL) {
            source = v->block->file;
        } else {
            const struct vhd_slot *slot = find_slot(v, op->at);
            unsigned first = bit_of(v, op->at), wanted;

            if (slot == NULL) {
                if (become_owner(op)) {
                    load_slot(op, op->at);
                }
                return STARTED;
            }
            wanted = (unsigned)min_u64((in % VHD_SECTOR + op->run + VHD_SECTOR - 1) / VHD_SECTOR,
                                       BITS_PER_SLOT - first);
            source = bit(slot, first) ? v->block->file : v->parent;
            wanted = bits_run(slot, first, wanted, bit(slot, first));
            op->run = min_u64(op->run, (uint64_t)wanted * VHD_SECTOR - in % VHD_SECTOR);
        }
        if (source == v->block->file) {
            pos = block_pos(v, op->at) + v->bitmap_bytes + in;
        }
    }
    if (source != NULL && source == v->parent) {
        size = block_size_bytes(v->parent); /* may be less than ours */
        source = op->at < size ? source : NULL;
        op->run = source != NULL ? min_u64(op->run, size - op->at) : op->run;
    }
    if (!op->buffered) {
        release(op); /* it may have loaded a bitmap sector */
    }
    n = buffers(op);
    if (source == NULL) {
        for (int i = 0; i < n; i++) {
            memset(op->iov[i].iov_base, 0, op->iov[i].iov_len);
        }
        return AT_ONCE;
    }
    start_child(op, &(struct child){source, BLOCK_READ, pos, op->run, n, false, step});
    return STARTED;
}

static void piece_read(struct vhd_op *op)
{
    if (op->error != 0) {
        finish(op, op->error);
        return;
    }
    op->pos += op->run;
    plan(op);
}

static void plan_read(struct vhd_op *op)
{
    const struct block_request *req = op->req;

    while (op->pos < req->length_bytes) {
        op->at = req->offset_bytes + op->pos;
        if (start_read(op, req->length_bytes - op->pos, piece_read) == STARTED) {
            return;
        }
        op->pos += op->run;
    }
    finish(op, 0);
}

/* ---- writing ---- */

/* Bytes of the request that the sector in op->sector takes. */
static uint64_t sector_share(const struct vhd_op *op, uint64_t *skip)
{
    *skip = (op->req->offset_bytes + op->pos) % VHD_SECTOR;
    return min_u64(VHD_SECTOR - *skip, op->req->length_bytes - op->pos);
}

/* Puts the request's bytes into the sector that has been read. */
static void merge(struct vhd_op *op)
{
    uint64_t skip, left = sector_share(op, &skip);
    int n;

    op->buffered = false;
    op->run = left;
    n = buffers(op);
    for (int i = 0; i < n; i++) {
        memcpy(op->sector + skip, op->iov[i].iov_base, op->iov[i].iov_len);
        skip += op->iov[i].iov_len;
    }
    op->buffered = true;
    op->merged = true;
}

static void sector_read(struct vhd_op *op)
{
    if (op->error != 0) {
        finish(op, op->error);
        return;
    }
    merge(op);
    plan(op);
}

static void piece_written(struct vhd_op *op)
{
    struct vhd *v = op->v;
    uint32_t block = (uint32_t)(op->at / v->block_bytes);
    uint64_t skip;

    if (op->error != 0) {
        finish(op, op->error);
        return;
    }
    if (op->allocating) {
        uint8_t *dirty = &v->bat_dirty[block / ENTRIES_PER_SECTOR / 8];
        unsigned shift = block / ENTRIES_PER_SECTOR % 8;
        bool was = (*dirty >> shift & 1) != 0;

        v->bat[block] = htobe32((uint32_t)(op->new_pos / VHD_SECTOR));
        now_dirty(v, &was);
        *dirty |= (uint8_t)(1u << shift);
        v->next_pos = op->new_pos + v->bitmap_bytes + v->block_bytes;
        if (v->block->file->growable) {
            v->next_pos += VHD_SECTOR; /* the footer: stays as it is, see place_new_blocks() */
        }
        memset(op->slot->bits, v->parent != NULL ? 0 : 0xff, VHD_SECTOR);
        op->slot->number = slot_number(v, op->at);
        op->slot->file_pos = op->new_pos + slot_offset(v, op->at);
        op->slot->used = ++v->clock;
    }
    if (op->slot != NULL) {
        unsigned first = bit_of(v, op->at), n = (unsigned)(op->run / VHD_SECTOR);

        if (bits_run(op->slot, first, n, true) < n) {
            for (unsigned i = first; i < first + n; i++) {
                op->slot->bits[i / 8] |= (uint8_t)(0x80 >> i % 8);
            }
            now_dirty(v, &op->slot->dirty);
        }
    }
    op->pos += op->buffered ? sector_share(op, &skip) : op->run;
    op->buffered = op->merged = op->allocating = false;
    release(op);
    plan(op);
}

static void write_piece(struct vhd_op *op, uint64_t pos, bool fua)
{
    start_child(op, &(struct child){op->v->block->file, BLOCK_WRITE, pos, op->run, buffers(op), fua,
                                    piece_written});
}

/* A new block: footer, zeros where needed, bitmap, data; the BAT follows in piece_written(). */
static void new_data(struct vhd_op *op)
{
    if (op->error != 0) {
        finish(op, op->error);
        return;
    }
    write_piece(op, op->new_pos + op->v->bitmap_bytes + op->at % op->v->block_bytes, false);
}

static void new_zeros(struct vhd_op *op)
{
    struct vhd *v = op->v;
    uint64_t end = op->new_pos + v->bitmap_bytes + v->block_bytes;
    uint64_t dirty_end = min_u64(end, v->unclean_end);

    if (op->error != 0) {
        finish(op, op->error);
        return;
    }
    if (op->fill_pos < dirty_end) {
        uint64_t pos = op->fill_pos, n = min_u64(dirty_end - pos, BLOCK_IOV_MAX * FILL_BYTES);

        op->fill_pos += n;
        write_fill(op, fill_zeros, pos, n, new_zeros);
        return;
    }
    if (v->unclean_end < end) {
        v->unclean_end = end; /* if this fails, the next one finds half of it */
    }
    if (v->parent == NULL) {
        write_fill(op, fill_ones, op->new_pos, v->bitmap_bytes, new_data);
    } else {
        new_data(op);
    }
}

static void new_footer(struct vhd_op *op)
{
    struct vhd *v = op->v;

    if (op->error == 0) {
        v->footer_pos = op->new_pos + v->bitmap_bytes + v->block_bytes;
    }
    new_zeros(op);
}

/* Owner: makes the block for the piece and writes the piece. */
static void allocate(struct vhd_op *op)
{
    struct vhd *v = op->v;
    struct block *file = v->block->file;
    uint64_t whole = (uint64_t)v->bitmap_bytes + v->block_bytes, room = INT64_MAX;
    uint32_t align = v->block_bytes < ALIGN_BYTES ? v->block_bytes : ALIGN_BYTES;

    op->slot = free_slot(v, op->at);
    if (op->slot == NULL) {
        write_back(op, plan);
        return;
    }
    op->new_pos = vhd_round_up(v->next_pos + v->bitmap_bytes, align) - v->bitmap_bytes;
    op->fill_pos = op->new_pos;
    op->allocating = true;
    op->need_sync = true;
    op->error = 0;
    if (!file->growable) {
        room = v->footer_pos != 0 ? v->footer_pos : file->size_bytes;
    }
    if (op->new_pos + whole > room || op->new_pos / VHD_SECTOR >= UINT32_MAX) {
        finish(op, -ENOSPC);
    } else if (file->growable && v->footer_pos != op->new_pos + whole) {
        op->iov[0] = (struct iovec){v->footer, VHD_SECTOR};
        start_child(op, &(struct child){file, BLOCK_WRITE, op->new_pos + whole, VHD_SECTOR, 1,
                                        false, new_footer});
    } else {
        new_zeros(op);
    }
}

/* Writes a piece of whole sectors from op->at on, at most `most` bytes. */
static void start_write(struct vhd_op *op, uint64_t most)
{
    struct vhd *v = op->v;
    uint64_t in = op->at % v->block_bytes;
    unsigned first = bit_of(v, op->at), n;

    op->slot = NULL;
    op->run = min_u64(most, v->block_bytes - in);
    op->run = min_u64(op->run, (uint64_t)(BITS_PER_SLOT - first) * VHD_SECTOR);
    n = (unsigned)(op->run / VHD_SECTOR);
    if (!allocated(v, op->at)) {
        if (become_owner(op)) {
            allocate(op);
        }
        return;
    }
    struct vhd_slot *slot = find_slot(v, op->at);
    bool all_set = slot != NULL && bits_run(slot, first, n, true) == n;

    if (!all_set) {
        if (!become_owner(op)) {
            return;
        }
        if (slot == NULL) {
            load_slot(op, op->at);
            return;
        }
        op->slot = slot;
        op->need_sync = true;
    }
    write_piece(op, block_pos(v, op->at) + v->bitmap_bytes + in, op->req->fua && all_set);
}

static void plan_write(struct vhd_op *op)
{
    const struct block_request *req = op->req;
    uint64_t left = req->length_bytes - op->pos, skip;

    if (left == 0) {
        if (!req->fua || (!op->need_sync && !metadata_waits(op->v))) {
            finish(op, 0);
        } else if (become_owner(op)) {
            write_back(op, finish_step);
        }
        return;
    }
    op->at = req->offset_bytes + op->pos;
    skip = op->at % VHD_SECTOR;
    if (skip == 0 && left >= VHD_SECTOR) {
        start_write(op, left - left % VHD_SECTOR);
        return;
    }
    op->at -= skip;
    if (op->merged) {
        start_write(op, VHD_SECTOR);
    } else if (become_owner(op)) {
        op->buffered = true;
        if (start_read(op, VHD_SECTOR, sector_read) == AT_ONCE) {
            merge(op);
            start_write(op, VHD_SECTOR);
        }
    }
}

/* ---- all of them ---- */

/* A fixed image: the request, with other buffers' names. */
static void pass_on(struct vhd_op *op)
{
    const struct block_request *req = op->req;

    op->run = req->length_bytes;
    start_child(op, &(struct child){op->v->block->file, req->op, req->offset_bytes,
                                    req->length_bytes, buffers(op), req->fua, finish_step});
}

/* Decides from where things stand what comes next. */
static void plan(struct vhd_op *op)
{
    if (op->error != 0) {
        finish(op, op->error);
    } else if (op->req->op == BLOCK_DISCARD) {
        finish(op, 0); /* advice; the format has no way to give a block back */
    } else if (op->v->type == VHD_FIXED) {
        pass_on(op);
    } else if (op->req->op == BLOCK_FLUSH) {
        flush(op);
    } else if (op->req->op == BLOCK_READ) {
        plan_read(op);
    } else {
        plan_write(op);
    }
}

static void vhd_submit(struct block *b, struct block_request *req)
{
    struct vhd *v = b->state;
    struct vhd_op *op = v->spare;

    if (op != NULL) {
        v->spare = op->next;
    } else {
        op = malloc(sizeof(*op));
        if (op == NULL) {
            block_complete(b, req, -ENOMEM);
            return;
        }
    }
    op->v = v;
    op->req = req;
    op->step = plan;
    op->error = 0;
    op->buffered = op->merged = op->allocating = op->need_sync = false;
    op->pos = 0;
    op->slot = NULL;
    make_ready(op);
    run(v);
}

static void vhd_wait(struct block *b)
{
    struct vhd *v = b->state;
    uint64_t before = v->completed;

    for (;;) {
        run_ready(v); /* also when called from a completion */
        if (v->completed != before) {
            return;
        }
        block_wait(v->file_pending > 0 ? b->file : v->parent);
    }
}

struct sync {
    bool done;
    int error;
};

static void sync_done(struct block_request *req, int error)
{
    struct sync *s = req->opaque;

    s->done = true;
    s->error = error;
}

static int vhd_sync(struct block *b)
{
    struct vhd *v = b->state;
    struct sync s = {false, 0};
    struct block_request req = {.op = BLOCK_FLUSH, .done = sync_done, .opaque = &s};

    if (!metadata_waits(v)) {
        return block_drain(b->file);
    }
    block_submit(b, &req);
    while (!s.done) {
        vhd_wait(b);
    }
    if (s.error == 0) {
        b->stats.flush_operations--; /* not the guest's */
    }
    return s.error;
}

static void vhd_close(struct block *b)
{
    struct vhd *v = b->state;

    timer_cancel(&v->write_back);
    while (v->spare != NULL) {
        struct vhd_op *op = v->spare;

        v->spare = op->next;
        free(op);
    }
    vhd_free(v);
}

static int vhd_open(struct block *b, const struct block_config *cfg, int fd, char *err,
                    size_t errlen)
{
    struct vhd *v = calloc(1, sizeof(*v));
    int rc;

    (void)fd;
    if (v == NULL) {
        snprintf(err, errlen, "image %s: out of memory", b->name);
        return -ENOMEM;
    }
    v->block = b;
    v->ready_tail = &v->ready;
    v->locked_tail = &v->locked;
    timer_init(&v->write_back, b->loop, LOOP_HOST, on_write_back, v);
    rc = vhd_read_image(v, cfg, err, errlen);
    if (rc < 0) {
        vhd_free(v);
        return rc;
    }
    b->state = v;
    return 0;
}

const struct block_backend block_vhd = {
    .format = "vpc",
    .open = vhd_open,
    .close = vhd_close,
    .submit = vhd_submit,
    .wait = vhd_wait,
    .sync = vhd_sync,
};
