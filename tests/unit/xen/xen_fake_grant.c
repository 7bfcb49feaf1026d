/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libxengnttab: what the test grants in xf.grant. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xengnttab.h>

#include "tests/unit/xen/xen_fake_int.h"

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    (void)logger, (void)open_flags;
    return xf_open_handle();
}

int xengnttab_close(xengnttab_handle *xgt)
{
    (void)xgt;
    return xf_close_handle();
}

static bool granted(uint32_t domid, uint32_t ref, bool writing)
{
    return domid == XF_DOMID && ref < XF_GRANTS && xf.grant[ref].valid && !(writing && xf.grant[ref].readonly) &&
           xf_ram(xf.grant[ref].gfn) != NULL;
}

void *xengnttab_map_domain_grant_refs(xengnttab_handle *xgt, uint32_t count, uint32_t domid, uint32_t *refs, int prot)
{
    uint64_t gfns[64];
    void *p;

    (void)xgt;
    xf.grant_map_calls++;
    if (count == 0 || count > 64) {
        abort();
    }
    if (xf_may(XF_GRANT_MAP) != 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!granted(domid, refs[i], (prot & PROT_WRITE) != 0)) {
            errno = EINVAL;
            return NULL;
        }
        gfns[i] = xf.grant[refs[i]].gfn;
    }
    p = xf_map_frames(gfns, count, prot);
    if (p != NULL) {
        xf.granted_maps += (int)count;
    }
    return p;
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
    return xengnttab_map_domain_grant_refs(xgt, 1, domid, &ref, prot);
}

int xengnttab_unmap(xengnttab_handle *xgt, void *start_address, uint32_t count)
{
    (void)xgt;
    xf.granted_maps -= (int)count;
    return munmap(start_address, (size_t)count * XF_PAGE);
}

int xengnttab_grant_copy(xengnttab_handle *xgt, uint32_t count, xengnttab_grant_copy_segment_t *segs)
{
    (void)xgt;
    xf.grant_copy_calls++;
    if (xf_may(XF_GRANT_COPY) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool to = (segs[i].flags & GNTCOPY_dest_gref) != 0;
        const union xengnttab_copy_ptr *g = to ? &segs[i].dest : &segs[i].source;
        const union xengnttab_copy_ptr *v = to ? &segs[i].source : &segs[i].dest;

        if (((segs[i].flags & GNTCOPY_source_gref) != 0) == to) {
            abort();
        }
        if (g->foreign.offset + segs[i].len > XF_PAGE) {
            segs[i].status = GNTST_bad_copy_arg;
        } else if (!granted(g->foreign.domid, g->foreign.ref, to)) {
            segs[i].status = GNTST_bad_gntref;
        } else {
            uint8_t *page = xf_ram(xf.grant[g->foreign.ref].gfn) + g->foreign.offset;

            memcpy(to ? (void *)page : v->virt, to ? v->virt : (void *)page, segs[i].len);
            segs[i].status = GNTST_okay;
        }
    }
    return 0;
}
