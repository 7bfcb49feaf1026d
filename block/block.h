/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Disk images, seen from a disk controller. One struct block per opened image; requests are
 * asynchronous, any number may be in flight; their completion callbacks run on the loop thread,
 * possibly before block_submit() returns (data in the page cache). Requests that overlap are not
 * ordered by the backend; a flush covers every write that was COMPLETED before it was submitted.
 *
 * Errors reach the callback as -errno (ENOSPC, EIO, EROFS, ...); the device turns them into its own
 * status. Backends log the first one of a series. A short image (truncated under us) reads as -EIO
 * past its end. Nothing here trusts the image.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct loop;
struct block;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD };
enum { BLOCK_IOV_MAX = 64, BLOCK_SECTOR = 512 };

/* Owned by the caller; must stay untouched until done() is called. Buffers may be guest RAM (hold
 * it with guestmem_hold()). */
struct block_request {
    enum block_op op;
    bool fua;              /* BLOCK_WRITE: on stable storage before done */
    uint64_t offset_bytes; /* any alignment */
    uint64_t length_bytes; /* sum of iov; BLOCK_DISCARD: the range */
    struct iovec *iov;     /* READ/WRITE: iovcnt entries, 1..BLOCK_IOV_MAX */
    int iovcnt;
    void (*done)(struct block_request *req, int error); /* error: 0 or -errno */
    void *opaque;                                       /* the caller's */
    struct block_request *next;                         /* the backend's */
    int result;                                         /* the backend's */
};

struct block_config {
    const char *path;   /* "/dev/fdset/N" is resolved by the caller into fd */
    const char *format; /* NULL: "raw"; unknown ones are refused by name. Never probed */
    int fd;             /* >= 0: use this descriptor instead of path (taken over on success) */
    bool readonly;
    bool cdrom;  /* medium of a CD drive: size is rounded down to 2048 */
    bool direct; /* O_DIRECT where the host can: past the page cache */
    /* Set by formats for what they open themselves, else 0. */
    bool growable;  /* the bytes under a format: writes past the end extend a file; size is exact */
    unsigned depth; /* of a chain of backing images */
};

/* Opens an image: path is a regular file, a block device or a network target ("nbd:..."), format
 * says what its bytes mean. There is no lock: a PV backend may have it open too. An image with
 * a format (not raw) that this process has open already is shared, so that two views never
 * disagree; opening it once for reading and once for writing is refused.
 * Returns NULL and a one-line reason that names the file in err (errlen bytes). */
struct block *block_open(struct loop *loop, const struct block_config *cfg, char *err,
                         size_t errlen);
/* Waits for what is in flight, flushes, closes (a shared image with its last user). NULL is fine. */
void block_close(struct block *b);

uint64_t block_size_bytes(const struct block *b);
bool block_readonly(const struct block *b);
void block_submit(struct block *b, struct block_request *req);
/* Blocks until every request in flight is done and flushed (unplug, stop). 0 or -errno of the
 * flush. */
int block_drain(struct block *b);

/* Blocks until at least one request in flight on b has completed. Only with some in flight. */
void block_wait(struct block *b);

/* Counters for query-blockstats. */
struct block_stats {
    uint64_t rd_bytes, wr_bytes, rd_operations, wr_operations, flush_operations;
};
const struct block_stats *block_get_stats(const struct block *b);
