/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Video memory: guest pages made by us above the guest's RAM ("parking"), mapped into our address
 * space once, and relocated to the BAR. Our mapping pins the frames, so it stays valid through
 * every move.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ioreq/internal.h"

enum {
    MEMORY_TYPE_WB = 6,       /* x86 MTRR type write-back */
    RELOCATE_BATCH = 1 << 14, /* pages per call; the hypercall itself is preemptible */
};
#define SPECIAL_PAGES_FROM                                                                         \
    UINT64_C(0xfc000000) /* hvmloader's tables, LAPIC, ioreq pages: up to 4 GiB */
#define DEFAULT_RAM_BELOW_4G UINT64_C(0xf0000000)
#define FOUR_GIB             (UINT64_C(1) << 32)
#define PARKING_ALIGN        (UINT64_C(16) << 20)

struct vram {
    struct platform *plat;
    uint8_t *map;
    size_t size;
    uint64_t parking;
    uint64_t gpa; /* where it is now */
    bool tracking;
    struct vram *next;
    uint8_t written
        []; /* a bit per page: written by us at its guest address since the last vram_dirty() */
};

/* XENMEM_populate_physmap for n pages from gpa: libxencall, because libxenctrl's ABI changes with
 * every Xen. */
static int populate(struct platform *p, uint64_t gpa, size_t n)
{
    struct xen_memory_reservation *res = xencall_alloc_buffer(p->call, sizeof(*res));
    xen_pfn_t *gfn = xencall_alloc_buffer(p->call, n * sizeof(*gfn));
    int ret = -ENOMEM;

    if (res != NULL && gfn != NULL) {
        int done;

        for (size_t i = 0; i < n; i++) {
            gfn[i] = (gpa >> XEN_PAGE_SHIFT) + i;
        }
        memset(res, 0, sizeof(*res));
        set_xen_guest_handle(res->extent_start, gfn);
        res->nr_extents = n;
        res->domid = (domid_t)p->cfg.domid;
        done = xencall2(p->call, __HYPERVISOR_memory_op, XENMEM_populate_physmap,
                        (uint64_t)(uintptr_t)res);
        ret = done < 0 ? -errno : (size_t)done == n ? 0 : -ENOMEM;
    }
    xencall_free_buffer(p->call, gfn);
    xencall_free_buffer(p->call, res);
    return ret;
}

struct vram *platform_vram_create(struct platform *p, size_t size_bytes)
{
    size_t pages = size_bytes >> XEN_PAGE_SHIFT;
    struct vram *v = calloc(1, sizeof(*v) + pages / 8 + 1);
    xen_pfn_t *gfn = calloc(pages, sizeof(*gfn));
    int ret = -ENOMEM;

    if (v == NULL || gfn == NULL) {
        goto fail;
    }
    if (p->next_parking == 0) {
        p->next_parking = (p->cfg.ram_bytes + FOUR_GIB + PARKING_ALIGN - 1) & ~(PARKING_ALIGN - 1);
    }
    v->plat = p;
    v->size = size_bytes;
    v->parking = v->gpa = p->next_parking;
    ret = populate(p, v->parking, pages);
    if (ret != 0) {
        goto fail;
    }
    p->next_parking += (size_bytes + PARKING_ALIGN - 1) & ~(PARKING_ALIGN - 1);
    for (size_t i = 0; i < pages; i++) {
        gfn[i] = (v->parking >> XEN_PAGE_SHIFT) + i;
    }
    v->map = xenforeignmemory_map(p->fmem, (uint32_t)p->cfg.domid, PROT_READ | PROT_WRITE, pages,
                                  gfn, NULL);
    if (v->map == NULL) {
        ret = -errno;
        goto fail;
    }
    free(gfn);
    v->next = p->vrams;
    p->vrams = v;
    return v;

fail:
    free(gfn);
    free(v);
    errno = -ret;
    return NULL;
}

uint8_t *vram_data(struct vram *v)
{
    return v->map;
}

size_t vram_size(const struct vram *v)
{
    return v->size;
}

/* Moving pages onto RAM would free that RAM (Xen p2m): only addresses that no RAM of the guest can
 * have. */
static bool place_allowed(const struct vram *v, uint64_t gpa)
{
    const struct platform_config *cfg = &v->plat->cfg;
    uint64_t limit = cfg->max_ram_below_4g != 0 ? cfg->max_ram_below_4g : DEFAULT_RAM_BELOW_4G;
    uint64_t low_end = cfg->ram_bytes < limit ? cfg->ram_bytes : limit;

    return gpa >= low_end && gpa >= UINT64_C(0x100000) && gpa < SPECIAL_PAGES_FROM &&
           v->size <= SPECIAL_PAGES_FROM - gpa;
}

/*
 * Moves what is at `from`. A page that is not there (EINVAL) stops Xen half-way: the guest may have
 * given it back. It must not keep the others, so then each page goes by itself; those that have
 * moved already say EINVAL too. 0 or -errno.
 */
static int relocate(struct vram *v, uint64_t from, uint64_t to)
{
    struct platform *p = v->plat;
    size_t pages = v->size >> XEN_PAGE_SHIFT;
    size_t batch = RELOCATE_BATCH;

    for (size_t done = 0; done < pages;) {
        size_t n = pages - done < batch ? pages - done : batch;
        int ret = xendevicemodel_relocate_memory(p->dm, (domid_t)p->cfg.domid, (uint32_t)n,
                                                 (from >> XEN_PAGE_SHIFT) + done,
                                                 (to >> XEN_PAGE_SHIFT) + done);

        if (ret != 0 && errno != EINVAL) {
            return -errno;
        }
        if (ret != 0 && batch > 1) {
            batch = 1;
        } else {
            done += n;
        }
    }
    return 0;
}

int vram_place(struct vram *v, uint64_t gpa)
{
    struct platform *p = v->plat;
    uint64_t to = gpa == VRAM_UNPLACED ? v->parking : gpa;
    int ret;

    if (to == v->gpa) {
        return 0;
    }
    if (gpa != VRAM_UNPLACED && !place_allowed(v, gpa)) {
        return -EBUSY;
    }
    vram_dirty_stop(v);
    ret = relocate(v, v->gpa, to);
    if (ret != 0) {
        return ret == -ESRCH ? 0 : ret;
    }
    v->gpa = to;
    if (gpa != VRAM_UNPLACED) {
        xendevicemodel_pin_memory_cacheattr(p->dm, (domid_t)p->cfg.domid, to >> XEN_PAGE_SHIFT,
                                            ((to + v->size) >> XEN_PAGE_SHIFT) - 1, MEMORY_TYPE_WB);
    }
    return 0;
}

void vram_dirty(struct vram *v, unsigned first_page, unsigned n, uint8_t *bitmap)
{
    struct platform *p = v->plat;

    if (v->gpa == v->parking) {
        /* No guest access reaches it without us. */
        memset(bitmap, 0, (n + 7) / 8);
        return;
    }
    if (!v->tracking) {
        v->tracking = true;
        memset(v->written, 0, v->size / XEN_PAGE / 8 + 1);
    }
    if (xendevicemodel_track_dirty_vram(p->dm, (domid_t)p->cfg.domid,
                                        (v->gpa >> XEN_PAGE_SHIFT) + first_page, n,
                                        (unsigned long *)(void *)bitmap) != 0) {
        memset(bitmap, 0xff, (n + 7) / 8);
    }
    for (unsigned i = 0; i < n; i++) {
        unsigned page = first_page + i;

        bitmap[i / 8] = (uint8_t)(bitmap[i / 8] | (v->written[page / 8] >> page % 8 & 1) << i % 8);
        v->written[page / 8] = (uint8_t)(v->written[page / 8] & ~(1u << page % 8));
    }
}

/* Strings and DMA of the guest that end in the video memory are our writes, which Xen's tracking
 * does not see. */
void vram_written(struct platform *p, uint64_t gpa, size_t len)
{
    for (struct vram *v = p->vrams; v != NULL; v = v->next) {
        uint64_t start = gpa > v->gpa ? gpa - v->gpa : 0;
        uint64_t end = gpa + len > v->gpa ? gpa + len - v->gpa : 0;

        if (!v->tracking || start >= v->size || end == 0) {
            continue;
        }
        end = end < v->size ? end : v->size;
        for (uint64_t page = start / XEN_PAGE; page * XEN_PAGE < end; page++) {
            v->written[page / 8] = (uint8_t)(v->written[page / 8] | 1u << page % 8);
        }
    }
}

void vram_dirty_stop(struct vram *v)
{
    struct platform *p = v->plat;

    if (v->tracking) {
        v->tracking = false;
        xendevicemodel_track_dirty_vram(p->dm, (domid_t)p->cfg.domid, v->gpa >> XEN_PAGE_SHIFT, 0,
                                        NULL);
    }
}

void vram_destroy(struct vram *v)
{
    if (v == NULL) {
        return;
    }
    vram_dirty_stop(v);
    for (struct vram **l = &v->plat->vrams; *l != NULL; l = &(*l)->next) {
        if (*l == v) {
            *l = v->next;
            break;
        }
    }
    /* The pages stay with the domain, which ends with us or is served by a successor. */
    xenforeignmemory_unmap(v->plat->fmem, v->map, v->size >> XEN_PAGE_SHIFT);
    free(v);
}
