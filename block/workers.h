/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Threads for image requests that the kernel can only do blocking: a few per image, started when
 * they are first needed. Loop thread only, but for run().
 */
#include "block/block.h"

struct workers;

/* run(arg, req) carries out a request in a thread: 0 or -errno. done(arg, req, result) gets it back
 * on the loop thread, and may queue more. NULL: no memory. */
struct workers *workers_create(struct loop *loop, int (*run)(void *arg, struct block_request *req),
                               void (*done)(void *arg, struct block_request *req, int result),
                               void *arg);
/* Ends the threads. Nothing may be in flight. NULL is fine. May be called in done(). */
void workers_destroy(struct workers *w);
/* Hands req to a thread (uses its next and result). 0, or -errno when there is no thread at all. */
int workers_queue(struct workers *w, struct block_request *req);
/* Readable when a request is done; -1 while no thread was ever started. Not to be read. */
int workers_fd(const struct workers *w);
/* Calls done() for each request that is done. For waiting outside the loop. */
void workers_reap(struct workers *w);
