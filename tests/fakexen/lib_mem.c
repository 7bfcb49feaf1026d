/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libfakexen.so: libxenforeignmemory. */
#include "lib.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <xen/memory.h>
#include <xenforeignmemory.h>

struct xenforeignmemory_handle {
    int unused;
};

struct xenforeignmemory_resource_handle {
    void *addr;
    size_t len;
};

xenforeignmemory_handle *xenforeignmemory_open(struct xentoollog_logger *logger,
                                               unsigned open_flags)
{
    (void)logger;
    (void)open_flags;
    if (fx_attach() < 0)
        return NULL;
    return calloc(1, sizeof(xenforeignmemory_handle));
}

int xenforeignmemory_close(xenforeignmemory_handle *fmem)
{
    free(fmem);
    return 0;
}

int xenforeignmemory_restrict(xenforeignmemory_handle *fmem, domid_t domid)
{
    (void)fmem;
    return fx_check_domid(domid);
}

/* Length of the run of pages from i whose frames follow each other; 1 at least. */
static size_t frame_run(const struct fx_shared *sh, const xen_pfn_t *arr, size_t i, size_t pages)
{
    size_t n = 1;

    while (i + n < pages && arr[i + n] < FX_P2M_GFNS && sh->p2m[arr[i + n]] &&
           sh->p2m[arr[i + n]] == sh->p2m[arr[i]] + n)
        n++;
    return n;
}

void *xenforeignmemory_map2(xenforeignmemory_handle *fmem, uint32_t dom, void *addr, int prot,
                            int flags, size_t pages, const xen_pfn_t arr[], int err[])
{
    struct fx_shared *sh = fx_lib.sh;
    size_t n;

    (void)fmem;
    if (fx_check_domid(dom) < 0)
        return NULL;
    fx_hypercall(FX_OP_FOREIGN_MAP);
    /* Pages that cannot be mapped stay without access: touching them is fatal, as under Xen. */
    char *base = mmap(addr, pages * FX_PAGE, PROT_NONE,
                      (flags & MAP_FIXED) | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    fx_lock(sh);
    for (size_t i = 0; i < pages; i += n) {
        uint32_t frame = arr[i] < FX_P2M_GFNS ? sh->p2m[arr[i]] : 0;
        int error = 0;

        n = 1;
        if (!frame) {
            error = EINVAL;
        } else {
            n = frame_run(sh, arr, i, pages);
            if (mmap(base + i * FX_PAGE, n * FX_PAGE, prot, MAP_SHARED | MAP_FIXED,
                     fx_lib.machine_fd, (off_t)(frame - 1) * FX_PAGE) == MAP_FAILED)
                error = errno;
        }
        for (size_t j = 0; j < n && err; j++)
            err[i + j] = -error;
        if (error && !err) {
            fx_unlock(sh);
            munmap(base, pages * FX_PAGE);
            errno = error;
            return NULL;
        }
    }
    fx_unlock(sh);
    return base;
}

void *xenforeignmemory_map(xenforeignmemory_handle *fmem, uint32_t dom, int prot, size_t pages,
                           const xen_pfn_t arr[], int err[])
{
    return xenforeignmemory_map2(fmem, dom, NULL, prot, 0, pages, arr, err);
}

int xenforeignmemory_unmap(xenforeignmemory_handle *fmem, void *addr, size_t pages)
{
    (void)fmem;
    return munmap(addr, pages * FX_PAGE);
}

/* Checks a resource range and marks its pages allocated. Returns 0 or errno. */
static int take_resource(unsigned int type, unsigned int id, unsigned long frame,
                         unsigned long nr_frames)
{
    struct fx_server *s;

    if (type != XENMEM_resource_ioreq_server)
        return EOPNOTSUPP;
    if (id >= FX_MAX_SERVERS || !fx_lib.sh->server[id].in_use)
        return ENOENT;
    s = &fx_lib.sh->server[id];
    if (!nr_frames || frame > 1 || nr_frames > 2 - frame)
        return EINVAL;
    if (frame == 0 && s->bufmode == HVM_IOREQSRV_BUFIOREQ_OFF)
        return ENOENT;
    for (unsigned long i = 0; i < nr_frames; i++)
        s->page_alloc[frame + i] = true;
    return 0;
}

xenforeignmemory_resource_handle *xenforeignmemory_map_resource(
    xenforeignmemory_handle *fmem, domid_t domid, unsigned int type, unsigned int id,
    unsigned long frame, unsigned long nr_frames, void **paddr, int prot, int flags)
{
    struct fx_shared *sh = fx_lib.sh;

    (void)fmem;
    if (fx_check_domid(domid) < 0)
        return NULL;
    fx_hypercall(FX_OP_OTHER);
    fx_lock(sh);
    int error = take_resource(type, id, frame, nr_frames);
    fx_unlock(sh);
    if (error) {
        errno = error;
        return NULL;
    }
    xenforeignmemory_resource_handle *h = calloc(1, sizeof(*h));
    if (!h)
        return NULL;
    h->len = nr_frames * FX_PAGE;
    h->addr = mmap(*paddr, h->len, prot, flags | MAP_SHARED, fx_lib.shared_fd,
                   (off_t)((uint8_t *)sh->iopage[id][frame] - (uint8_t *)sh));
    if (h->addr == MAP_FAILED) {
        free(h);
        return NULL;
    }
    *paddr = h->addr;
    return h;
}

int xenforeignmemory_unmap_resource(xenforeignmemory_handle *fmem,
                                    xenforeignmemory_resource_handle *fres)
{
    (void)fmem;
    int rc = munmap(fres->addr, fres->len);
    free(fres);
    return rc;
}

int xenforeignmemory_resource_size(xenforeignmemory_handle *fmem, domid_t domid, unsigned int type,
                                   unsigned int id, size_t *size)
{
    (void)fmem;
    (void)id;
    if (fx_check_domid(domid) < 0)
        return -1;
    if (type != XENMEM_resource_ioreq_server) {
        errno = EOPNOTSUPP;
        return -1;
    }
    *size = 2 * FX_PAGE;
    return 0;
}
