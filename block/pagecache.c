/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/pagecache.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/loop.h"

enum { PAGE = 4096, PAUSE_FACTOR = 100 };

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* the same on all architectures */
#endif

/* linux/mman.h, from Linux 6.5 on: struct cachestat_range and struct cachestat. */
struct range {
    uint64_t offset, length;
};
struct pages {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/* How often this thread has waited for something. Being displaced by another one is not waiting. */
static long sleeps(void)
{
    struct rusage u;

    return getrusage(RUSAGE_THREAD, &u) == 0 ? u.ru_nvcsw : 0;
}

bool pagecache_takes(struct pagecache *c, const struct loop *loop, int fd, uint64_t offset_bytes,
                     uint64_t length_bytes)
{
    struct range range = {offset_bytes, length_bytes};
    struct pages pages = {0};

    /* A part of a page may have to be read first. */
    if (c->unknown || length_bytes == 0 || (offset_bytes | length_bytes) % PAGE != 0) {
        return false;
    }
    c->start_ns = loop_now(loop, LOOP_HOST);
    if (c->start_ns < c->again_ns) {
        return false;
    }
    if (syscall(SYS_cachestat, fd, &range, &pages, 0) != 0) {
        c->unknown = true;
        return false;
    }
    c->sleeps = sleeps();
    return pages.dirty >= length_bytes / PAGE && pages.writeback == 0;
}

void pagecache_written(struct pagecache *c, const struct loop *loop)
{
    if (sleeps() != c->sleeps) {
        uint64_t now = loop_now(loop, LOOP_HOST);

        c->again_ns = now + (now - c->start_ns) * PAUSE_FACTOR;
    }
}
