/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What a disk image backend implements, seen from block.c. There are two kinds. Protocols reach
 * bytes: raw.c (files, block devices), nbd.c (network). Formats (qcow2.c, vhd.c) give meaning to
 * bytes that block.c opened for them through a protocol: b->file, used with block_submit() like any
 * other image. block.c has checked every request before
 * the backend sees it: the range lies in the image, writes reach only writable images, lengths add
 * up. A backend answers each request exactly once with block_complete(), on the loop thread,
 * possibly before its submit() returns.
 */
#include <stddef.h>

#include "block/block.h"
#include "core/log.h"

struct block_backend {
    const char *format; /* name in struct block_config and on the command line */
    /* Opens the image: cfg is the caller's. Files: fd is an open descriptor for it (taken over on
     * success), else -1. Formats: b->file is open, growable unless cfg->readonly; backing images
     * are opened with block_open(), read-only, cfg->depth + 1, and belong to the format.
     * Sets b->state and b->size_bytes (a multiple of 512). 0, or -errno with a one-line reason that
     * names the file in err. May block. */
    int (*open)(struct block *b, const struct block_config *cfg, int fd, char *err, size_t errlen);
    /* Frees b->state; nothing is in flight, sync() was called. b->file is closed by block.c. */
    void (*close)(struct block *b);
    void (*submit)(struct block *b, struct block_request *req);
    /* Blocks until at least one request in flight has been completed (block_complete() called).
     * Called only with some in flight. Formats: block_wait() on what they wait for themselves. */
    void (*wait)(struct block *b);
    /* Writes back everything, blocking. 0 or -errno. */
    int (*sync)(struct block *b);
};

struct block {
    const struct block_backend *backend;
    void *state; /* the backend's */
    struct loop *loop;
    char *name; /* for messages */
    struct block *file; /* formats: the bytes, owned by block.c */
    struct block *next; /* list of images that can be shared */
    unsigned refs;
    uint64_t dev, ino; /* of the file, to recognise it */
    uint64_t size_bytes;
    unsigned in_flight;
    bool readonly;
    bool growable; /* see struct block_config; size_bytes follows completed writes */
    bool quiet;    /* errors are reported by the format above */
    bool failing; /* a series of errors, logged once; it ends when what failed last works */
    enum block_op failed_op;
    uint64_t failed_offset, failed_length; /* bytes */
    uint64_t failed_said_ns;               /* LOOP_HOST */
    struct block_stats stats;
    struct log_limit limit;
};

/* Ends a request with 0 or -errno: counts, logs, calls req->done(). Loop thread only. */
void block_complete(struct block *b, struct block_request *req, int error);

extern const struct block_backend block_nbd;   /* protocol of network targets */
extern const struct block_backend block_raw;   /* protocol of files and block devices, format "raw" */
extern const struct block_backend block_vhd;   /* format "vpc" */
extern const struct block_backend block_qcow2; /* format "qcow2" */
