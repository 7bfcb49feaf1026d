/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libfakexen.so: libxengnttab. The guest of the fake grants all of its memory for reading and writing,
 * always: reference N is guest page N.
 */
#include "lib.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xengnttab.h>

struct xengntdev_handle {
    uint8_t *machine; /* all of it; NULL until something is copied */
};

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    (void)logger;
    (void)open_flags;
    if (fx_attach() < 0)
        return NULL;
    return calloc(1, sizeof(struct xengntdev_handle));
}

int xengnttab_close(xengnttab_handle *xgt)
{
    if (xgt && xgt->machine)
        munmap(xgt->machine, (size_t)FX_FRAMES * FX_PAGE);
    free(xgt);
    return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t nr_grants)
{
    (void)xgt;
    (void)nr_grants;
    return 0;
}

/* The frame behind a reference + 1, or 0. */
static uint32_t frame_of(uint32_t ref)
{
    uint32_t frame;

    if (ref >= FX_P2M_GFNS)
        return 0;
    fx_lock(fx_lib.sh);
    frame = fx_lib.sh->p2m[ref];
    fx_unlock(fx_lib.sh);
    return frame;
}

void *xengnttab_map_domain_grant_refs(xengnttab_handle *xgt, uint32_t count, uint32_t domid,
                                      uint32_t *refs, int prot)
{
    (void)xgt;
    if (fx_check_domid(domid) < 0)
        return NULL;
    fx_hypercall(FX_OP_OTHER);
    uint8_t *base = mmap(NULL, (size_t)count * FX_PAGE, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t frame = frame_of(refs[i]);

        if (!frame)
            errno = EINVAL;
        if (!frame || mmap(base + (size_t)i * FX_PAGE, FX_PAGE, prot, MAP_SHARED | MAP_FIXED,
                           fx_lib.machine_fd, (off_t)(frame - 1) * FX_PAGE) == MAP_FAILED) {
            int error = errno;

            munmap(base, (size_t)count * FX_PAGE);
            errno = error;
            return NULL;
        }
    }
    return base;
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
    return xengnttab_map_domain_grant_refs(xgt, 1, domid, &ref, prot);
}

int xengnttab_unmap(xengnttab_handle *xgt, void *start_address, uint32_t count)
{
    (void)xgt;
    fx_hypercall(FX_OP_OTHER);
    return munmap(start_address, (size_t)count * FX_PAGE);
}

int xengnttab_grant_copy(xengnttab_handle *xgt, uint32_t count,
                         xengnttab_grant_copy_segment_t *segs)
{
    fx_hypercall(FX_OP_OTHER);
    if (!xgt->machine) {
        void *p = mmap(NULL, (size_t)FX_FRAMES * FX_PAGE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_NORESERVE, fx_lib.machine_fd, 0);
        if (p == MAP_FAILED)
            return -1;
        xgt->machine = p;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool to = (segs[i].flags & GNTCOPY_dest_gref) != 0;
        const union xengnttab_copy_ptr *guest = to ? &segs[i].dest : &segs[i].source;
        const union xengnttab_copy_ptr *ours = to ? &segs[i].source : &segs[i].dest;
        uint32_t frame = frame_of(guest->foreign.ref);

        if (guest->foreign.offset + segs[i].len > FX_PAGE) {
            segs[i].status = GNTST_bad_copy_arg;
        } else if (!frame || guest->foreign.domid != fx_lib.sh->domid) {
            segs[i].status = GNTST_bad_gntref;
        } else {
            uint8_t *page =
                xgt->machine + (size_t)(frame - 1) * FX_PAGE + guest->foreign.offset;

            memcpy(to ? (void *)page : ours->virt, to ? ours->virt : (void *)page, segs[i].len);
            segs[i].status = GNTST_okay;
        }
    }
    return 0;
}
