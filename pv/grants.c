/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's pages. A frontend that reuses its pages (feature-persistent) has them mapped once and
 * kept: its requests then cost no hypercall, and data goes between the image and its page directly.
 * Any other frontend's data is copied by Xen, one hypercall for a request: a mapping for one
 * transfer would cost two, and a TLB flush.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pv/internal.h"

struct grants *grants_create(xengnttab_handle *gnttab, uint32_t domid)
{
    struct grants *g = calloc(1, sizeof(*g));

    if (g != NULL) {
        g->gnttab = gnttab;
        g->domid = domid;
        for (unsigned i = 0; i < QDISK_GRANTS; i++) {
            g->all[i].hash_next = g->free;
            g->free = &g->all[i];
        }
    }
    return g;
}

static struct grant **bucket(struct grants *g, grant_ref_t ref)
{
    return &g->bucket[ref % QDISK_GRANT_BUCKETS];
}

/* Out of the list by use. */
static void unlink_grant(struct grants *g, struct grant *grant)
{
    if (grant->newer != NULL) {
        grant->newer->older = grant->older;
    } else {
        g->newest = grant->older;
    }
    if (grant->older != NULL) {
        grant->older->newer = grant->newer;
    } else {
        g->oldest = grant->newer;
    }
}

static void link_newest(struct grants *g, struct grant *grant)
{
    grant->newer = NULL;
    grant->older = g->newest;
    if (g->newest != NULL) {
        g->newest->newer = grant;
    } else {
        g->oldest = grant;
    }
    g->newest = grant;
}

static void unmap(struct grants *g, struct grant *grant)
{
    struct grant **p = bucket(g, grant->ref);

    while (*p != grant) {
        p = &(*p)->hash_next;
    }
    *p = grant->hash_next;
    unlink_grant(g, grant);
    xengnttab_unmap(g->gnttab, grant->page, 1);
    grant->hash_next = g->free;
    g->free = grant;
    g->count--;
}

void grants_destroy(struct grants *g)
{
    if (g == NULL) {
        return;
    }
    while (g->oldest != NULL) {
        unmap(g, g->oldest);
    }
    free(g);
}

/* An unused entry; the one used least recently makes room. NULL: all are in use. */
static struct grant *take_free(struct grants *g)
{
    struct grant *grant = g->free;

    if (grant == NULL) {
        /* Pages in use are among the newest, so this is short. */
        for (grant = g->oldest; grant != NULL && grant->users > 0; grant = grant->newer) {
        }
        if (grant == NULL) {
            return NULL;
        }
        unmap(g, grant);
    }
    grant = g->free;
    g->free = grant->hash_next;
    return grant;
}

struct grant *grants_get(struct grants *g, grant_ref_t ref)
{
    struct grant **head = bucket(g, ref);
    struct grant *grant;
    void *page;

    for (grant = *head; grant != NULL && grant->ref != ref; grant = grant->hash_next) {
    }
    if (grant != NULL) {
        grant->users++;
        unlink_grant(g, grant);
        link_newest(g, grant);
        return grant;
    }
    page = xengnttab_map_grant_ref(g->gnttab, g->domid, ref, PROT_READ | PROT_WRITE);
    if (page == NULL) {
        return NULL;
    }
    grant = take_free(g);
    if (grant == NULL) {
        xengnttab_unmap(g->gnttab, page, 1);
        return NULL;
    }
    *grant = (struct grant){.ref = ref, .page = page, .users = 1, .hash_next = *head};
    *head = grant;
    link_newest(g, grant);
    g->count++;
    return grant;
}

void grants_put(struct grant *grant)
{
    grant->users--;
}

bool grants_copy(xengnttab_handle *gnttab, uint32_t domid, bool to_guest,
                 const struct grant_piece *pieces, unsigned n, uint8_t *buf)
{
    xengnttab_grant_copy_segment_t copy[QDISK_SEGMENTS];

    for (unsigned i = 0; i < n; i++) {
        xengnttab_grant_copy_segment_t *c = &copy[i];
        union xengnttab_copy_ptr *guest = to_guest ? &c->dest : &c->source;
        union xengnttab_copy_ptr *ours = to_guest ? &c->source : &c->dest;

        memset(c, 0, sizeof(*c));
        guest->foreign.ref = pieces[i].ref;
        guest->foreign.offset = pieces[i].offset;
        guest->foreign.domid = (uint16_t)domid;
        ours->virt = buf;
        c->len = pieces[i].len;
        c->flags = to_guest ? GNTCOPY_dest_gref : GNTCOPY_source_gref;
        c->status = GNTST_general_error;
        buf += pieces[i].len;
    }
    if (xengnttab_grant_copy(gnttab, n, copy) != 0) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        if (copy[i].status != GNTST_okay) {
            return false;
        }
    }
    return true;
}
