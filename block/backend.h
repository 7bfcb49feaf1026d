/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What a disk image backend implements, seen from block.c. block.c has checked every request before
 * the backend sees it: the range lies in the image, writes reach only writable images, lengths add
 * up. A backend answers each request exactly once with block_complete(), on the loop thread,
 * possibly before its submit() returns.
 */
#include <stddef.h>

#include "block/block.h"
#include "core/log.h"

struct block_backend {
    const char *format; /* name in struct block_config and on the command line */
    /* Opens the image: cfg is the caller's, fd an open descriptor for it (taken over on success).
     * Sets b->state and b->size_bytes. 0, or -errno with a one-line reason in err. */
    int (*open)(struct block *b, const struct block_config *cfg, int fd, char *err, size_t errlen);
    /* Frees b->state; nothing is in flight. */
    void (*close)(struct block *b);
    void (*submit)(struct block *b, struct block_request *req);
    /* Blocks until at least one request in flight has been completed (block_complete() called).
     * Called only with some in flight. */
    void (*wait)(struct block *b);
    /* Writes back everything, blocking. 0 or -errno. */
    int (*sync)(struct block *b);
};

struct block {
    const struct block_backend *backend;
    void *state; /* the backend's */
    struct loop *loop;
    char *name; /* for messages */
    uint64_t size_bytes;
    unsigned in_flight;
    bool readonly;
    bool failing; /* the last request failed: its successors are not logged */
    struct block_stats stats;
    struct log_limit limit;
};

/* Ends a request with 0 or -errno: counts, logs, calls req->done(). Loop thread only. */
void block_complete(struct block *b, struct block_request *req, int error);

extern const struct block_backend block_raw;
