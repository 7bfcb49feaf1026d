/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Images in memory whose completions and errors a test controls. They are real struct blocks over a
 * backend of their own, so the checks of block.c stay in the path.
 */
#include "block/block.h"

struct block *block_fake_create(struct loop *loop, uint64_t size_bytes, bool readonly);
/* The content: a pattern until written. */
uint8_t *block_fake_data(struct block *b);
uint8_t block_fake_byte(uint64_t offset);
/* Requests wait from now on until block_fake_run(), or are answered inside block_submit() again. */
void block_fake_hold(struct block *b, bool hold);
/* Completes up to n waiting requests, oldest first. Returns how many. */
unsigned block_fake_run(struct block *b, unsigned n);
unsigned block_fake_waiting(const struct block *b);
/* Requests of this operation that touch the byte at offset (flushes: any) fail with -errno `error`;
 * 0: none do. */
void block_fake_fail(struct block *b, enum block_op op, uint64_t offset, int error);
/* Counters. */
struct block_fake_log {
    unsigned reads, writes, flushes, discards, fua, syncs;
    uint64_t last_offset, last_length;
    int last_iovcnt;
};
const struct block_fake_log *block_fake_log(const struct block *b);
