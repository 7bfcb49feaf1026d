/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest RAM, mapped in chunks of 4 MiB on first use and kept until Xen sends INVALIDATE. A page
 * that Xen would not map (hole, ballooned out) has its bit in `bad`: touching it would fault. It is
 * tried again when it is next asked for, since the guest may have populated it since.
 *
 * A mapping is never unmapped while I/O is in flight (holds > 0): a worker could then write into
 * whatever else the process gets at that address. It waits among the graves for the last release.
 */
#include "core/guestmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ioreq/internal.h"

enum {
    CHUNK_SHIFT = 22,
    CHUNK = 1 << CHUNK_SHIFT,
    CHUNK_PAGES = CHUNK / XEN_PAGE,
    GRAVES_MORE = 1024, /* beyond one for each chunk */
};

struct chunk {
    uint8_t *map; /* NULL: not mapped */
    uint64_t bad[CHUNK_PAGES / 64];
};

struct guestmem {
    struct platform *plat;
    size_t nchunks;
    struct chunk *chunks; /* by guest address; never touched entries cost nothing */
    uint32_t *live;       /* indexes of the mapped chunks */
    size_t nlive;
    unsigned holds;
    bool late; /* an INVALIDATE had to leave chunks mapped, since the graves were full */
    size_t ngraves;
    uint8_t **graves; /* dropped, but I/O in flight may use them */
};

struct guestmem *guestmem_create(struct platform *p)
{
    struct guestmem *m = calloc(1, sizeof(*m));
    uint64_t end = p->cfg.ram_bytes + (UINT64_C(1) << 32);

    if (m == NULL) {
        return NULL;
    }
    m->plat = p;
    m->nchunks = (size_t)((end + CHUNK - 1) >> CHUNK_SHIFT);
    m->chunks = calloc(m->nchunks, sizeof(*m->chunks));
    m->live = calloc(m->nchunks, sizeof(*m->live));
    m->graves = calloc(m->nchunks + GRAVES_MORE, sizeof(*m->graves));
    if (m->chunks == NULL || m->live == NULL || m->graves == NULL) {
        guestmem_destroy(m);
        return NULL;
    }
    return m;
}

static void unmap(struct guestmem *m, uint8_t *map)
{
    xenforeignmemory_unmap(m->plat->fmem, map, CHUNK_PAGES);
}

static void bury(struct guestmem *m)
{
    for (; m->ngraves > 0; m->ngraves--) {
        unmap(m, m->graves[m->ngraves - 1]);
    }
}

/* Takes a mapping out of use. false: it has to stay, since there is no room to remember it. */
static bool drop(struct guestmem *m, uint8_t *map)
{
    if (m->holds == 0) {
        unmap(m, map);
        return true;
    }
    if (m->ngraves == m->nchunks + GRAVES_MORE) {
        return false;
    }
    m->graves[m->ngraves++] = map;
    return true;
}

void guestmem_invalidate(struct guestmem *m)
{
    size_t kept = 0;

    m->late = false;
    for (size_t i = 0; i < m->nlive; i++) {
        struct chunk *c = &m->chunks[m->live[i]];

        if (drop(m, c->map)) {
            c->map = NULL;
        } else {
            /* The guest changes its memory map a thousand times during one transfer: until the
             * transfer ends it gets at pages that it has given away. They are its own. */
            m->live[kept++] = m->live[i];
            m->late = true;
        }
    }
    m->nlive = kept;
}

void guestmem_destroy(struct guestmem *m)
{
    if (m == NULL) {
        return;
    }
    m->holds = 0; /* nothing is in flight any more */
    bury(m);
    guestmem_invalidate(m);
    free(m->graves);
    free(m->live);
    free(m->chunks);
    free(m);
}

/* Maps a chunk's pages, at `at` if not NULL (where the chunk is mapped now), and says in bad[]
 * which are not there. NULL: the call failed, and nothing is mapped at `at` any more. */
static uint8_t *map_chunk(struct guestmem *m, size_t index, uint8_t *at,
                          uint64_t bad[CHUNK_PAGES / 64])
{
    xen_pfn_t gfn[CHUNK_PAGES];
    int err[CHUNK_PAGES];
    uint8_t *map;

    for (unsigned i = 0; i < CHUNK_PAGES; i++) {
        gfn[i] = ((uint64_t)index << (CHUNK_SHIFT - XEN_PAGE_SHIFT)) + i;
    }
    map = xenforeignmemory_map2(m->plat->fmem, (uint32_t)m->plat->cfg.domid, at,
                                PROT_READ | PROT_WRITE, MAP_SHARED | (at != NULL ? MAP_FIXED : 0),
                                CHUNK_PAGES, gfn, err);
    if (map == NULL) {
        static struct log_limit limit;

        if (!domain_gone(errno)) {
            log_limited(&limit, "guest memory at %#llx cannot be mapped: %s",
                        (unsigned long long)index << CHUNK_SHIFT, strerror(errno));
        }
        return NULL;
    }
    memset(bad, 0, CHUNK_PAGES / 8);
    for (unsigned i = 0; i < CHUNK_PAGES; i++) {
        if (err[i] != 0) {
            bad[i / 64] |= UINT64_C(1) << (i % 64);
        }
    }
    return map;
}

static bool is_bad(const struct chunk *c, unsigned page)
{
    return (c->bad[page / 64] >> (page % 64) & 1) != 0;
}

/* Whether Xen would map that page now. */
static bool populated(struct guestmem *m, xen_pfn_t gfn)
{
    int err = 0;
    void *p =
        xenforeignmemory_map(m->plat->fmem, (uint32_t)m->plat->cfg.domid, PROT_READ, 1, &gfn, &err);

    if (p == NULL) {
        return false;
    }
    xenforeignmemory_unmap(m->plat->fmem, p, 1);
    return err == 0;
}

/*
 * Tries a page again that could not be mapped before. The whole chunk is mapped anew, so that a
 * chunk remains one mapping (the kernel allows 65530 in a process), and in place, so that spans of
 * this turn stay good; but not under I/O in flight, which would fail while it is done.
 */
static bool retry_page(struct guestmem *m, size_t index, unsigned page)
{
    struct chunk *c = &m->chunks[index];
    struct chunk fresh;

    if (!populated(m, ((uint64_t)index << (CHUNK_SHIFT - XEN_PAGE_SHIFT)) + page)) {
        return false;
    }
    if (m->holds > 0 && m->ngraves == m->nchunks + GRAVES_MORE) {
        return false;
    }
    fresh.map = map_chunk(m, index, m->holds > 0 ? NULL : c->map, fresh.bad);
    if (m->holds > 0) {
        if (fresh.map == NULL) {
            return false;
        }
        drop(m, c->map);
    } else if (fresh.map == NULL) {
        c->map = NULL;
        for (size_t i = 0; i < m->nlive; i++) {
            if (m->live[i] == index) {
                m->live[i] = m->live[--m->nlive];
            }
        }
        return false;
    }
    *c = fresh;
    return !is_bad(c, page);
}

void *guestmem_span(struct guestmem *m, uint64_t gpa, size_t len, size_t *got)
{
    size_t index = (size_t)(gpa >> CHUNK_SHIFT);
    size_t offset = (size_t)(gpa & (CHUNK - 1));
    unsigned page = (unsigned)(offset >> XEN_PAGE_SHIFT);
    size_t run = XEN_PAGE - (offset & (XEN_PAGE - 1));
    struct chunk *c;

    *got = run < len ? run : len;
    if (gpa >> CHUNK_SHIFT >= m->nchunks) {
        return NULL;
    }
    c = &m->chunks[index];
    if (c->map == NULL) {
        c->map = map_chunk(m, index, NULL, c->bad);
        if (c->map == NULL) {
            return NULL;
        }
        m->live[m->nlive++] = (uint32_t)index;
    }
    if (is_bad(c, page) && !retry_page(m, index, page)) {
        return NULL;
    }
    while (run < len && ++page < CHUNK_PAGES && !is_bad(c, page)) {
        run += XEN_PAGE;
    }
    *got = run < len ? run : len;
    return c->map + offset;
}

void guestmem_hold(struct guestmem *m)
{
    m->holds++;
}

void guestmem_release(struct guestmem *m)
{
    if (m->holds == 0 || --m->holds > 0) {
        return;
    }
    bury(m);
    if (m->late) {
        guestmem_invalidate(m);
    }
}

void guestmem_dirtied(struct guestmem *m, uint64_t gpa, size_t len)
{
    if (len == 0) {
        return;
    }
    vram_written(m->plat, gpa, len);
    if (m->plat->log_dirty) {
        uint64_t first = gpa >> XEN_PAGE_SHIFT;
        uint64_t last = (gpa + len - 1) >> XEN_PAGE_SHIFT;

        xendevicemodel_modified_memory(m->plat->dm, (domid_t)m->plat->cfg.domid, first,
                                       (uint32_t)(last - first + 1));
    }
}
