/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest RAM, mapped in chunks of 4 MiB on first use and kept until Xen sends INVALIDATE. A page that Xen would not map (hole, ballooned out)
 * has its bit in `bad`: touching it would fault. It is tried again when it is next asked for, since the guest may have
 * populated it since.
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
    GRAVEYARD = 1024,
};

struct chunk {
    uint8_t *map; /* NULL: not mapped */
    uint64_t bad[CHUNK_PAGES / 64];
};

struct guestmem {
    struct platform *plat;
    size_t nchunks;
    struct chunk *chunks; /* by guest address; never touched entries cost nothing */
    unsigned holds;
    unsigned ngraves;
    uint8_t *graves[GRAVEYARD]; /* dropped by INVALIDATE, still used by I/O in flight */
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
    if (m->chunks == NULL) {
        free(m);
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
    for (unsigned i = 0; i < m->ngraves; i++) {
        unmap(m, m->graves[i]);
    }
    m->ngraves = 0;
}

void guestmem_invalidate(struct guestmem *m)
{
    for (size_t i = 0; i < m->nchunks; i++) {
        uint8_t *map = m->chunks[i].map;

        if (map == NULL) {
            continue;
        }
        m->chunks[i].map = NULL;
        if (m->holds > 0 && m->ngraves < GRAVEYARD) {
            m->graves[m->ngraves++] = map;
        } else {
            /* With a full graveyard an I/O in flight fails with EFAULT: the guest changes its memory map a thousand times during one
             * transfer. */
            unmap(m, map);
        }
    }
}

void guestmem_destroy(struct guestmem *m)
{
    if (m == NULL) {
        return;
    }
    guestmem_invalidate(m);
    bury(m);
    free(m->chunks);
    free(m);
}

static void map_chunk(struct guestmem *m, size_t index)
{
    struct chunk *c = &m->chunks[index];
    xen_pfn_t gfn[CHUNK_PAGES];
    int err[CHUNK_PAGES];

    for (unsigned i = 0; i < CHUNK_PAGES; i++) {
        gfn[i] = ((uint64_t)index << (CHUNK_SHIFT - XEN_PAGE_SHIFT)) + i;
    }
    c->map = xenforeignmemory_map(m->plat->fmem, (uint32_t)m->plat->cfg.domid, PROT_READ | PROT_WRITE, CHUNK_PAGES,
                                  gfn, err);
    if (c->map == NULL) {
        static struct log_limit limit;

        if (!domain_gone(errno)) {
            log_limited(&limit, "guest memory at %#llx cannot be mapped: %s",
                        (unsigned long long)index << CHUNK_SHIFT, strerror(errno));
        }
        return;
    }
    memset(c->bad, 0, sizeof(c->bad));
    for (unsigned i = 0; i < CHUNK_PAGES; i++) {
        if (err[i] != 0) {
            c->bad[i / 64] |= UINT64_C(1) << (i % 64);
        }
    }
}

/* Tries a page again that could not be mapped before. */
static bool retry_page(struct guestmem *m, struct chunk *c, size_t index, unsigned page)
{
    xen_pfn_t gfn = ((uint64_t)index << (CHUNK_SHIFT - XEN_PAGE_SHIFT)) + page;
    int err = 0;
    void *p = xenforeignmemory_map2(m->plat->fmem, (uint32_t)m->plat->cfg.domid,
                                    c->map + (size_t)page * XEN_PAGE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, 1,
                                    &gfn, &err);

    if (p == NULL || err != 0) {
        return false;
    }
    c->bad[page / 64] &= ~(UINT64_C(1) << (page % 64));
    return true;
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
        map_chunk(m, index);
        if (c->map == NULL) {
            return NULL;
        }
    }
    if ((c->bad[page / 64] >> (page % 64) & 1) != 0 && !retry_page(m, c, index, page)) {
        return NULL;
    }
    while (run < len && ++page < CHUNK_PAGES && (c->bad[page / 64] >> (page % 64) & 1) == 0) {
        run += XEN_PAGE;
    }
    *got = run < len ? run : len;
    return c->map + offset;
}

void guestmem_read(struct guestmem *m, uint64_t gpa, void *buf, size_t len)
{
    uint8_t *out = buf;

    while (len > 0) {
        size_t n;
        const uint8_t *p = guestmem_span(m, gpa, len, &n);

        if (p != NULL) {
            memcpy(out, p, n);
        } else {
            memset(out, 0xff, n);
        }
        out += n;
        gpa += n;
        len -= n;
    }
}

void guestmem_write(struct guestmem *m, uint64_t gpa, const void *buf, size_t len)
{
    const uint8_t *in = buf;

    guestmem_dirtied(m, gpa, len);
    while (len > 0) {
        size_t n;
        uint8_t *p = guestmem_span(m, gpa, len, &n);

        if (p != NULL) {
            memcpy(p, in, n);
        }
        in += n;
        gpa += n;
        len -= n;
    }
}

void guestmem_hold(struct guestmem *m)
{
    m->holds++;
}

void guestmem_release(struct guestmem *m)
{
    if (m->holds > 0 && --m->holds == 0) {
        bury(m);
    }
}

void guestmem_dirtied(struct guestmem *m, uint64_t gpa, size_t len)
{
    if (m->plat->log_dirty && len > 0) {
        uint64_t first = gpa >> XEN_PAGE_SHIFT;
        uint64_t last = (gpa + len - 1) >> XEN_PAGE_SHIFT;

        xendevicemodel_modified_memory(m->plat->dm, (domid_t)m->plat->cfg.domid, first, (uint32_t)(last - first + 1));
    }
}
