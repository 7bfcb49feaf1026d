/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The domain's memory: machine frames in a memfd, and the p2m in the shared state. */
#include "fakexen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct fx_shared *fx_sh;
uint8_t *fx_machine;
int fx_shared_fd = -1, fx_machine_fd = -1;

enum {
    VGA_HOLE_START = 0xa0,
    VGA_HOLE_END = 0xc0,
    LOWMEM_END = 0xf0000,     /* gfn: 0xf0000000 */
    SPECIAL_FIRST = 0xfeff8,  /* xenstore, console, ioreq, paging pages */
    SPECIAL_LAST = 0xfefff,
    FOUR_GIB = 1 << 20,       /* gfn */
    MAXMEM_CONSTANT = 256,    /* pages: 1 MiB on top of target and video memory */
};

static void die(const char *what)
{
    fprintf(stderr, "fakexen: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *make_memfd(const char *name, size_t size, int *fd)
{
    *fd = memfd_create(name, MFD_CLOEXEC);
    if (*fd < 0 || ftruncate(*fd, (off_t)size) < 0)
        die(name);
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, *fd, 0);
    if (p == MAP_FAILED)
        die(name);
    return p;
}

static void add_page(uint64_t gfn)
{
    if (!fx_sh->p2m[gfn])
        fx_sh->tot_pages++;
    fx_sh->p2m[gfn] = ++fx_sh->next_frame;
    fx_sh->mem_type[gfn] = HVMMEM_ram_rw;
    if (gfn > fx_sh->max_gfn)
        fx_sh->max_gfn = gfn;
}

void fx_domain_create(void)
{
    pthread_mutexattr_t attr;

    fx_sh = make_memfd("fakexen-state", sizeof(*fx_sh), &fx_shared_fd);
    fx_machine = make_memfd("fakexen-machine", (size_t)FX_FRAMES * FX_PAGE, &fx_machine_fd);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&fx_sh->lock, &attr);
    fx_sh->domid = fx_cfg.domid;
    fx_sh->nr_vcpus = fx_cfg.vcpus;
    atomic_store(&fx_sh->shutdown_reason, -1);

    uint64_t pages = (uint64_t)fx_cfg.mem_mib << 8;
    uint64_t gfn = 0;
    for (uint64_t i = 0; i < pages; gfn++) {
        if (gfn == VGA_HOLE_START)
            gfn = VGA_HOLE_END;
        if (gfn == LOWMEM_END)
            gfn = FOUR_GIB;
        add_page(gfn);
        i++;
    }
    fx_sh->tot_pages = 0; /* the builder's special pages come out of the extra MiB */
    for (gfn = SPECIAL_FIRST; gfn <= SPECIAL_LAST; gfn++)
        add_page(gfn);
    fx_sh->tot_pages += (uint32_t)pages;
    fx_sh->max_pages = (uint32_t)pages + (fx_cfg.video_mib << 8) + MAXMEM_CONSTANT;
    fx_sh->hvm_param[HVM_PARAM_STORE_PFN] = SPECIAL_LAST - 3;
    fx_sh->hvm_param[HVM_PARAM_CONSOLE_PFN] = SPECIAL_LAST;
    fx_sh->hvm_param[HVM_PARAM_STORE_EVTCHN] = 1;
    fx_sh->hvm_param[HVM_PARAM_CONSOLE_EVTCHN] = 2;
}

uint8_t *fx_ram(uint64_t gpa)
{
    uint64_t gfn = gpa / FX_PAGE;

    if (gfn >= FX_P2M_GFNS || !fx_sh->p2m[gfn])
        return NULL;
    return fx_machine + (uint64_t)(fx_sh->p2m[gfn] - 1) * FX_PAGE + gpa % FX_PAGE;
}

bool fx_ram_readonly(uint64_t gpa)
{
    return fx_sh->mem_type[gpa / FX_PAGE] == HVMMEM_ram_ro;
}

void fx_ram_dirty(uint64_t gpa)
{
    atomic_store_explicit(&fx_sh->dirty[gpa / FX_PAGE], 1, memory_order_relaxed);
}

uint32_t fx_balloon(uint64_t gfn, uint32_t n)
{
    uint32_t done = 0;

    fx_lock(fx_sh);
    for (uint64_t g = gfn; g < gfn + n && g < FX_P2M_GFNS; g++) {
        if (!fx_sh->p2m[g])
            continue;
        fx_sh->p2m[g] = 0; /* the frame is not given out again: an old mapping stays harmless */
        fx_sh->tot_pages--;
        done++;
    }
    fx_unlock(fx_sh);
    return done;
}

uint32_t fx_populate_range(uint64_t gfn, uint32_t n)
{
    uint32_t done = 0;

    fx_lock(fx_sh);
    for (uint64_t g = gfn; g < gfn + n && g < FX_P2M_GFNS; g++) {
        if (fx_sh->p2m[g] || fx_sh->tot_pages >= fx_sh->max_pages ||
            fx_sh->next_frame >= FX_FRAMES)
            break;
        add_page(g);
        done++;
    }
    fx_unlock(fx_sh);
    return done;
}
