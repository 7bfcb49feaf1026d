/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Writes that are a copy in memory. Some file systems (ext4) and block devices promise for no
 * buffered write that it will not wait (RWF_NOWAIT), so each would go to a thread and back: for 4
 * KiB that is ten times the price of the write. But where every page is in the page cache and
 * dirty already, and none is on its way to the disk, there is nothing to read, no page to be had,
 * nothing to wait for, and the kernel does not slow down the writer, as no page becomes dirty.
 * What is left is the file's time stamp, for which ext4 may wait for its journal. A write that did
 * wait ends this for a hundred times as long, so that the loop never loses more than a hundredth
 * of its time here.
 */
#include <stdbool.h>
#include <stdint.h>

struct loop;

struct pagecache {
    bool unknown;      /* the kernel does not tell (before Linux 6.5) */
    uint64_t again_ns; /* LOOP_HOST: not before */
    /* Of the write under way: */
    uint64_t start_ns; /* LOOP_HOST */
    long sleeps;       /* of this thread, ever */
};

/* Whether writing this range of the file is a copy only, if nothing else on it is under way. Then
 * the write follows, and pagecache_written(). */
bool pagecache_takes(struct pagecache *c, const struct loop *loop, int fd, uint64_t offset_bytes,
                     uint64_t length_bytes);
void pagecache_written(struct pagecache *c, const struct loop *loop);
