/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libfakexen.so: libxencall, the libxenctrl calls a device model makes. */
#include "lib.h"

#include <errno.h>
#include <stdlib.h>

#include <xen/memory.h>
#include <xencall.h>

/* xenctrl.h does not compile as strict C11 (anonymous structs, typeof), so the few calls are
 * declared here. */
typedef struct xc_interface_core xc_interface;
xc_interface *xc_interface_open(struct xentoollog_logger *logger,
                                struct xentoollog_logger *dombuild_logger, unsigned open_flags);
int xc_interface_close(xc_interface *xch);
int xc_domain_populate_physmap_exact(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                     unsigned int extent_order, unsigned int mem_flags,
                                     xen_pfn_t *extent_start);
int xc_domain_shutdown(xc_interface *xch, uint32_t domid, int reason);
int xc_hvm_param_get(xc_interface *handle, uint32_t dom, uint32_t param, uint64_t *value);
int xc_hvm_param_set(xc_interface *handle, uint32_t dom, uint32_t param, uint64_t value);
int xc_get_hvm_param(xc_interface *handle, uint32_t dom, int param, unsigned long *value);
int xc_set_hvm_param(xc_interface *handle, uint32_t dom, int param, unsigned long value);

struct xencall_handle {
    int unused;
};

struct xc_interface_core {
    int unused;
};

/* Plain hypercalls stop working after xentoolcore_restrict_all: the descriptor is /dev/null. */
static int check_plain(uint32_t domid)
{
    if (fx_lib.restricted) {
        errno = ENOTTY;
        return -1;
    }
    return fx_check_domid(domid);
}

static int populate(uint32_t domid, unsigned long nr, unsigned int order, const xen_pfn_t *start)
{
    struct fx_shared *sh = fx_lib.sh;
    unsigned long i;

    if (check_plain(domid) < 0)
        return -1;
    fx_hypercall(FX_OP_OTHER);
    fx_lock(sh);
    for (i = 0; i < nr; i++) {
        uint64_t j;

        for (j = 0; j < 1ull << order; j++)
            if (fx_populate(start[i] + j) < 0)
                break;
        if (j < 1ull << order)
            break;
    }
    fx_unlock(sh);
    return (int)i;
}

static int get_param(uint32_t domid, uint32_t param, uint64_t *value)
{
    if (check_plain(domid) < 0)
        return -1;
    fx_hypercall(FX_OP_OTHER);
    if (param >= 64 || param == HVM_PARAM_DM_DOMAIN || param == HVM_PARAM_BUFIOREQ_EVTCHN) {
        errno = EINVAL;
        return -1;
    }
    *value = fx_lib.sh->hvm_param[param];
    return 0;
}

static int set_param(uint32_t domid, uint32_t param, uint64_t value)
{
    if (check_plain(domid) < 0)
        return -1;
    fx_hypercall(FX_OP_OTHER);
    if (param >= 64 || param == HVM_PARAM_DM_DOMAIN || param == HVM_PARAM_BUFIOREQ_EVTCHN ||
        (param == HVM_PARAM_ACPI_S_STATE && value != 0 && value != 3)) {
        errno = EINVAL;
        return -1;
    }
    fx_lib.sh->hvm_param[param] = value;
    return 0;
}

/* ---- libxenctrl ---- */

xc_interface *xc_interface_open(struct xentoollog_logger *logger,
                                struct xentoollog_logger *dombuild_logger, unsigned open_flags)
{
    (void)logger;
    (void)dombuild_logger;
    (void)open_flags;
    if (fx_attach() < 0)
        return NULL;
    return calloc(1, sizeof(struct xc_interface_core));
}

int xc_interface_close(xc_interface *xch)
{
    free(xch);
    return 0;
}

int xc_domain_populate_physmap_exact(xc_interface *xch, uint32_t domid, unsigned long nr_extents,
                                     unsigned int extent_order, unsigned int mem_flags,
                                     xen_pfn_t *extent_start)
{
    (void)xch;
    (void)mem_flags;
    int done = populate(domid, nr_extents, extent_order, extent_start);
    if (done < 0)
        return -1;
    if ((unsigned long)done != nr_extents) {
        errno = ENOMEM;
        return -1;
    }
    return 0;
}

int xc_domain_shutdown(xc_interface *xch, uint32_t domid, int reason)
{
    int32_t running = -1;

    (void)xch;
    if (check_plain(domid) < 0)
        return -1;
    fx_hypercall(FX_OP_SHUTDOWN);
    atomic_compare_exchange_strong(&fx_lib.sh->shutdown_reason, &running, reason);
    atomic_fetch_add(&fx_lib.sh->shutdown_calls, 1);
    return 0;
}

int xc_hvm_param_get(xc_interface *handle, uint32_t dom, uint32_t param, uint64_t *value)
{
    (void)handle;
    return get_param(dom, param, value);
}

int xc_hvm_param_set(xc_interface *handle, uint32_t dom, uint32_t param, uint64_t value)
{
    (void)handle;
    return set_param(dom, param, value);
}

int xc_get_hvm_param(xc_interface *handle, uint32_t dom, int param, unsigned long *value)
{
    uint64_t v;

    (void)handle;
    if (get_param(dom, (uint32_t)param, &v) < 0)
        return -1;
    *value = v;
    return 0;
}

int xc_set_hvm_param(xc_interface *handle, uint32_t dom, int param, unsigned long value)
{
    (void)handle;
    return set_param(dom, (uint32_t)param, value);
}

/* ---- libxencall ---- */

xencall_handle *xencall_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    (void)logger;
    (void)open_flags;
    if (fx_attach() < 0)
        return NULL;
    return calloc(1, sizeof(xencall_handle));
}

int xencall_close(xencall_handle *xcall)
{
    free(xcall);
    return 0;
}

int xencall_fd(xencall_handle *xcall)
{
    (void)xcall;
    return fx_lib.shared_fd;
}

static int memory_op(unsigned int cmd, void *arg)
{
    struct xen_memory_reservation *r = arg;

    if (cmd != XENMEM_populate_physmap) {
        errno = ENOSYS;
        return -1;
    }
    return populate(r->domid, r->nr_extents, r->extent_order, r->extent_start.p);
}

static int hvm_op(unsigned int cmd, void *arg)
{
    struct xen_hvm_param *p = arg;

    if (cmd == HVMOP_set_param)
        return set_param(p->domid, p->index, p->value);
    if (cmd == HVMOP_get_param)
        return get_param(p->domid, p->index, &p->value);
    errno = ENOSYS;
    return -1;
}

int xencall2(xencall_handle *xcall, unsigned int op, uint64_t arg1, uint64_t arg2)
{
    (void)xcall;
    if (op == __HYPERVISOR_memory_op)
        return memory_op((unsigned int)arg1, (void *)(uintptr_t)arg2);
    if (op == __HYPERVISOR_hvm_op)
        return hvm_op((unsigned int)arg1, (void *)(uintptr_t)arg2);
    errno = ENOSYS;
    return -1;
}

long xencall2L(xencall_handle *xcall, unsigned int op, uint64_t arg1, uint64_t arg2)
{
    return xencall2(xcall, op, arg1, arg2);
}

void *xencall_alloc_buffer_pages(xencall_handle *xcall, size_t nr_pages)
{
    (void)xcall;
    return aligned_alloc(FX_PAGE, nr_pages * FX_PAGE);
}

void xencall_free_buffer_pages(xencall_handle *xcall, void *p, size_t nr_pages)
{
    (void)xcall;
    (void)nr_pages;
    free(p);
}

void *xencall_alloc_buffer(xencall_handle *xcall, size_t size)
{
    (void)xcall;
    return malloc(size);
}

void xencall_free_buffer(xencall_handle *xcall, void *p)
{
    (void)xcall;
    free(p);
}
