/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * For the tests of qcow2: images made from nothing, a file in memory that completes requests out of
 * order and can lose power, and a checker that shares no code with the backend.
 */
#include "block/backend.h"
#include "core/loop.h"

struct qcow2_geometry {
    unsigned version, cluster_bits, refcount_order;
    uint64_t size_bytes;
    const char *backing, *backing_format; /* NULL: none */
    bool snapshot;                        /* some clusters, which an internal snapshot shares */
    uint8_t snapshot_fill;                /* their bytes; cluster i of the guest, i % 3 == 0 */
};

/* The bytes of an image, to be freed. */
uint8_t *qcow2_make(const struct qcow2_geometry *g, size_t *len);

/* A file in memory. What was written since the last flush is kept apart, too. */
struct rig_write {
    uint64_t offset, length;
    uint8_t *data; /* as it was written; discards: zeros */
    bool completed;
    const struct block_request *req;
};

struct rig_file {
    uint8_t *durable; /* what survives for certain */
    uint8_t *now;
    size_t length, durable_length, room;
    struct rig_write *log;
    unsigned nlog, log_room;
    struct block_request *waiting[256];
    unsigned nlogged_at_flush[256]; /* of waiting flushes: log entries that they cover */
    unsigned nwaiting;
    uint32_t random;
    bool hold;     /* requests wait for rig_file_run() */
    bool dead;     /* everything fails */
    int fail_in;   /* > 0: so many requests later one fails */
    int fail_with; /* -errno */
    enum block_op fail_op;
    unsigned writes, flushes, reads;
    uint64_t read_bytes, write_bytes;
    struct block *block;
};

/* Takes data over. room: the file cannot grow beyond. */
struct rig_file *rig_file_create(uint8_t *data, size_t length, size_t room);
void rig_file_destroy(struct rig_file *f);
/* Completes one waiting request, any. False: there is none. */
bool rig_file_run(struct rig_file *f);
/* After an open image has been abandoned: what the disk holds when the power comes back. Of every
 * sector, any state since the last flush. */
void rig_file_crash(struct rig_file *f);
/* As when the process is killed: what was completed is there, the rest perhaps. */
void rig_file_kill(struct rig_file *f);

/* Opens the qcow2 image in a file. NULL with a reason. */
struct block *rig_open(struct loop *loop, struct rig_file *f, bool readonly, char *err,
                       size_t errlen);
/* The same for another format. */
struct block *rig_open_as(struct loop *loop, const struct block_backend *format,
                          struct rig_file *f, bool readonly, char *err, size_t errlen);
/* Closes it without anything more reaching the file. */
void rig_abandon(struct rig_file *f, struct block *b);

/* Walks an image. Returns the number of errors (each: a line on stderr), *leaks gets the clusters
 * with too high a refcount. */
unsigned qcow2_check(const uint8_t *data, size_t len, unsigned *leaks);
