/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libfakexen.so: libxendevicemodel. Behaviour and errno values follow xen/common/ioreq.c and
 * xen/arch/x86/hvm/dm.c of Xen 4.17. */
#include "lib.h"
#include "rangeset.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <xendevicemodel.h>

struct xendevicemodel_handle {
    int unused;
};

static int fail(int error)
{
    errno = error;
    return -1;
}

xendevicemodel_handle *xendevicemodel_open(struct xentoollog_logger *logger,
                                           unsigned int open_flags)
{
    (void)logger;
    (void)open_flags;
    if (fx_attach() < 0)
        return NULL;
    return calloc(1, sizeof(xendevicemodel_handle));
}

int xendevicemodel_close(xendevicemodel_handle *dmod)
{
    free(dmod);
    return 0;
}

int xendevicemodel_restrict(xendevicemodel_handle *dmod, domid_t domid)
{
    (void)dmod;
    return fx_check_domid(domid);
}

/* Starts a dm_op: checks the domain, pays for the hypercall, takes the lock. */
static int begin(domid_t domid, enum fx_op op)
{
    if (fx_check_domid(domid) < 0)
        return -1;
    fx_hypercall(op);
    fx_lock(fx_lib.sh);
    return 0;
}

/* Ends a dm_op with 0 or a positive errno. */
static int end(int error)
{
    fx_unlock(fx_lib.sh);
    return error ? fail(error) : 0;
}

static struct fx_server *find_server(ioservid_t id)
{
    return id < FX_MAX_SERVERS && fx_lib.sh->server[id].in_use ? &fx_lib.sh->server[id] : NULL;
}

static uint32_t alloc_xen_port(int32_t vcpu)
{
    struct fx_shared *sh = fx_lib.sh;

    for (uint32_t i = FX_FIRST_XEN_PORT; i < FX_PORTS; i++)
        if (!sh->xen_port[i].in_use) {
            sh->xen_port[i] = (struct fx_xen_port){ .in_use = true, .vcpu = vcpu };
            return i;
        }
    return 0;
}

int xendevicemodel_create_ioreq_server(xendevicemodel_handle *dmod, domid_t domid,
                                       int handle_bufioreq, ioservid_t *id)
{
    struct fx_shared *sh = fx_lib.sh;

    (void)dmod;
    if (begin(domid, FX_OP_OTHER) < 0)
        return -1;
    if (handle_bufioreq < 0 || handle_bufioreq > HVM_IOREQSRV_BUFIOREQ_ATOMIC)
        return end(EINVAL);
    for (ioservid_t i = 0; i < FX_MAX_SERVERS; i++) {
        struct fx_server *s = &sh->server[i];

        if (s->in_use)
            continue;
        memset(s, 0, sizeof(*s));
        memset(sh->iopage[i], 0, sizeof(sh->iopage[i]));
        s->in_use = true;
        s->bufmode = (uint8_t)handle_bufioreq;
        for (uint32_t v = 0; v < sh->nr_vcpus; v++)
            s->vcpu_port[v] = alloc_xen_port((int32_t)v);
        if (s->bufmode != HVM_IOREQSRV_BUFIOREQ_OFF)
            s->buf_port = alloc_xen_port(-1);
        *id = i;
        return end(0);
    }
    return end(ENOSPC);
}

static void free_xen_port(uint32_t port)
{
    struct fx_shared *sh = fx_lib.sh;

    if (!port)
        return;
    if (sh->xen_port[port].local)
        sh->local_port[sh->xen_port[port].local].remote = 0;
    sh->xen_port[port] = (struct fx_xen_port){ 0 };
}

int xendevicemodel_destroy_ioreq_server(xendevicemodel_handle *dmod, domid_t domid, ioservid_t id)
{
    (void)dmod;
    if (begin(domid, FX_OP_OTHER) < 0)
        return -1;
    struct fx_server *s = find_server(id);
    if (!s)
        return end(ENOENT);
    for (uint32_t v = 0; v < fx_lib.sh->nr_vcpus; v++)
        free_xen_port(s->vcpu_port[v]);
    free_xen_port(s->buf_port);
    memset(s, 0, sizeof(*s));
    return end(0);
}

int xendevicemodel_get_ioreq_server_info(xendevicemodel_handle *dmod, domid_t domid, ioservid_t id,
                                         xen_pfn_t *ioreq_gfn, xen_pfn_t *bufioreq_gfn,
                                         evtchn_port_t *bufioreq_port)
{
    (void)dmod;
    if (begin(domid, FX_OP_OTHER) < 0)
        return -1;
    struct fx_server *s = find_server(id);
    if (!s)
        return end(ENOENT);
    /* Mixing the gfn path with mapped resources is refused; only resources are offered here. */
    if (ioreq_gfn || bufioreq_gfn)
        return end(EPERM);
    if (bufioreq_port)
        *bufioreq_port = s->buf_port;
    return end(0);
}

int xendevicemodel_set_ioreq_server_state(xendevicemodel_handle *dmod, domid_t domid,
                                          ioservid_t id, int enabled)
{
    (void)dmod;
    if (begin(domid, FX_OP_OTHER) < 0)
        return -1;
    struct fx_server *s = find_server(id);
    if (!s)
        return end(ENOENT);
    if (enabled && !s->enabled && s->page_alloc[1]) {
        struct ioreq *page = (struct ioreq *)(void *)fx_lib.sh->iopage[id][1];

        for (uint32_t v = 0; v < fx_lib.sh->nr_vcpus; v++)
            page[v].vp_eport = s->vcpu_port[v];
    }
    s->enabled = enabled != 0;
    return end(0);
}

static int map_range(domid_t domid, ioservid_t id, int type, uint64_t start, uint64_t last,
                     enum fx_op op)
{
    if (begin(domid, op) < 0)
        return -1;
    struct fx_server *s = find_server(id);
    if (!s)
        return end(ENOENT);
    if (start > last)
        return end(EINVAL);
    if (fx_rangeset_overlaps(&s->set[type], start, last))
        return end(EEXIST);
    return end(-fx_rangeset_add(&s->set[type], start, last));
}

static int unmap_range(domid_t domid, ioservid_t id, int type, uint64_t start, uint64_t last,
                       enum fx_op op)
{
    if (begin(domid, op) < 0)
        return -1;
    struct fx_server *s = find_server(id);
    if (!s)
        return end(ENOENT);
    if (start > last)
        return end(EINVAL);
    if (!fx_rangeset_contains(&s->set[type], start, last))
        return end(ENOENT);
    return end(-fx_rangeset_remove(&s->set[type], start, last));
}

int xendevicemodel_map_io_range_to_ioreq_server(xendevicemodel_handle *dmod, domid_t domid,
                                                ioservid_t id, int is_mmio, uint64_t start,
                                                uint64_t last)
{
    (void)dmod;
    return map_range(domid, id, is_mmio ? XEN_DMOP_IO_RANGE_MEMORY : XEN_DMOP_IO_RANGE_PORT,
                     start, last, FX_OP_MAP_RANGE);
}

int xendevicemodel_unmap_io_range_from_ioreq_server(xendevicemodel_handle *dmod, domid_t domid,
                                                    ioservid_t id, int is_mmio, uint64_t start,
                                                    uint64_t last)
{
    (void)dmod;
    return unmap_range(domid, id, is_mmio ? XEN_DMOP_IO_RANGE_MEMORY : XEN_DMOP_IO_RANGE_PORT,
                       start, last, FX_OP_UNMAP_RANGE);
}

int xendevicemodel_map_pcidev_to_ioreq_server(xendevicemodel_handle *dmod, domid_t domid,
                                              ioservid_t id, uint16_t segment, uint8_t bus,
                                              uint8_t device, uint8_t function)
{
    uint32_t sbdf = XEN_DMOP_PCI_SBDF((uint32_t)segment, (uint32_t)bus, device, function);

    (void)dmod;
    if (device > 0x1f || function > 0x7)
        return fail(EINVAL);
    return map_range(domid, id, XEN_DMOP_IO_RANGE_PCI, sbdf, sbdf, FX_OP_MAP_PCI);
}

int xendevicemodel_unmap_pcidev_from_ioreq_server(xendevicemodel_handle *dmod, domid_t domid,
                                                  ioservid_t id, uint16_t segment, uint8_t bus,
                                                  uint8_t device, uint8_t function)
{
    uint32_t sbdf = XEN_DMOP_PCI_SBDF((uint32_t)segment, (uint32_t)bus, device, function);

    (void)dmod;
    if (device > 0x1f || function > 0x7)
        return fail(EINVAL);
    return unmap_range(domid, id, XEN_DMOP_IO_RANGE_PCI, sbdf, sbdf, FX_OP_UNMAP_PCI);
}

int xendevicemodel_map_mem_type_to_ioreq_server(xendevicemodel_handle *dmod, domid_t domid,
                                                ioservid_t id, uint16_t type, uint32_t flags)
{
    (void)dmod;
    (void)domid;
    (void)id;
    (void)type;
    (void)flags;
    return fail(EOPNOTSUPP); /* as on a host without HAP */
}

/* Logs a level change and wakes whoever waits for one. Call with the lock. */
static void log_irq(uint8_t kind, uint8_t line, unsigned int level)
{
    struct fx_shared *sh = fx_lib.sh;

    sh->irq_log[sh->irq_head % FX_IRQ_LOG] =
        (struct fx_irq_event){ .kind = kind, .line = line, .level = level != 0 };
    sh->irq_head++;
    atomic_fetch_add(&sh->irq_seq, 1);
    if (atomic_load(&sh->irq_waiters))
        syscall(SYS_futex, &sh->irq_seq, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void set_bit_level(_Atomic uint32_t *word, unsigned int bit, uint8_t kind, uint8_t line,
                          unsigned int level)
{
    uint32_t old = atomic_load(word), mask = 1u << bit;

    if (level)
        atomic_store(word, old | mask);
    else
        atomic_store(word, old & ~mask);
    if (((old & mask) != 0) != (level != 0))
        log_irq(kind, line, level);
}

int xendevicemodel_set_isa_irq_level(xendevicemodel_handle *dmod, domid_t domid, uint8_t irq,
                                     unsigned int level)
{
    (void)dmod;
    if (begin(domid, FX_OP_ISA_IRQ) < 0)
        return -1;
    if (irq > 15 || level > 1)
        return end(EINVAL);
    set_bit_level(&fx_lib.sh->isa_level, irq, 'I', irq, level);
    return end(0);
}

int xendevicemodel_set_pci_intx_level(xendevicemodel_handle *dmod, domid_t domid, uint16_t segment,
                                      uint8_t bus, uint8_t device, uint8_t intx,
                                      unsigned int level)
{
    (void)dmod;
    if (begin(domid, FX_OP_PCI_INTX) < 0)
        return -1;
    if (segment || bus || device > 31 || intx > 3 || level > 1)
        return end(EINVAL);
    set_bit_level(&fx_lib.sh->intx_level[device], intx, 'P', (uint8_t)(device << 2 | intx), level);
    return end(0);
}

int xendevicemodel_set_irq_level(xendevicemodel_handle *dmod, domid_t domid, unsigned int irq,
                                 unsigned int level)
{
    (void)dmod;
    (void)domid;
    (void)irq;
    (void)level;
    return fail(EOPNOTSUPP); /* Arm only */
}

int xendevicemodel_set_pci_link_route(xendevicemodel_handle *dmod, domid_t domid, uint8_t link,
                                      uint8_t irq)
{
    (void)dmod;
    if (begin(domid, FX_OP_LINK_ROUTE) < 0)
        return -1;
    if (link > 3 || irq > 15)
        return end(EINVAL);
    fx_lib.sh->link_route[link] = irq;
    return end(0);
}

int xendevicemodel_inject_msi(xendevicemodel_handle *dmod, domid_t domid, uint64_t msi_addr,
                              uint32_t msi_data)
{
    struct fx_shared *sh = fx_lib.sh;

    (void)dmod;
    if (begin(domid, FX_OP_MSI) < 0)
        return -1;
    sh->msi_log[sh->msi_head++ % FX_MSI_LOG] = (struct fx_msi){ msi_addr, msi_data };
    atomic_fetch_add(&sh->irq_seq, 1);
    return end(0);
}

int xendevicemodel_inject_event(xendevicemodel_handle *dmod, domid_t domid, int vcpu,
                                uint8_t vector, uint8_t type, uint32_t error_code,
                                uint8_t insn_len, uint64_t extra)
{
    (void)dmod;
    (void)vcpu;
    (void)vector;
    (void)type;
    (void)error_code;
    (void)insn_len;
    (void)extra;
    if (begin(domid, FX_OP_OTHER) < 0)
        return -1;
    return end(0);
}

int xendevicemodel_track_dirty_vram(xendevicemodel_handle *dmod, domid_t domid, uint64_t first_pfn,
                                    uint32_t nr, unsigned long *dirty_bitmap)
{
    struct fx_shared *sh = fx_lib.sh;
    uint8_t *bytes = (uint8_t *)dirty_bitmap;

    (void)dmod;
    if (begin(domid, FX_OP_TRACK_DIRTY) < 0)
        return -1;
    if (nr > (1u << 30) / FX_PAGE)
        return end(EINVAL);
    if (!nr) {
        sh->dirty_nr = 0;
        return end(0);
    }
    if (first_pfn >= FX_P2M_GFNS || nr > FX_P2M_GFNS - first_pfn)
        return end(EINVAL);
    if (atomic_load(&sh->dirty_enodata))
        return end(ENODATA);
    if (first_pfn != sh->dirty_first || nr != sh->dirty_nr) {
        sh->dirty_first = first_pfn;
        sh->dirty_nr = nr;
        for (uint64_t i = 0; i < nr; i++)
            atomic_store(&sh->dirty[first_pfn + i], 0);
        memset(bytes, 0xff, (nr + 7) / 8);
        return end(0);
    }
    memset(bytes, 0, (nr + 7) / 8);
    for (uint32_t i = 0; i < nr; i++)
        if (atomic_exchange(&sh->dirty[first_pfn + i], 0))
            bytes[i / 8] |= (uint8_t)(1u << (i % 8));
    return end(0);
}

int xendevicemodel_modified_memory_bulk(xendevicemodel_handle *dmod, domid_t domid,
                                        struct xen_dm_op_modified_memory_extent extents[],
                                        uint32_t nr)
{
    struct fx_shared *sh = fx_lib.sh;

    (void)dmod;
    if (begin(domid, FX_OP_MODIFIED) < 0)
        return -1;
    for (uint32_t i = 0; i < nr; i++) {
        uint64_t first = extents[i].first_pfn;

        if (!extents[i].nr || extents[i].nr > FX_P2M_GFNS ||
            first + extents[i].nr - 1 > sh->max_gfn)
            return end(EINVAL);
        for (uint32_t j = 0; j < extents[i].nr; j++)
            atomic_store(&sh->modified[first + j], 1);
    }
    return end(0);
}

int xendevicemodel_modified_memory(xendevicemodel_handle *dmod, domid_t domid, uint64_t first_pfn,
                                   uint32_t nr)
{
    struct xen_dm_op_modified_memory_extent extent = { .nr = nr, .first_pfn = first_pfn };

    return xendevicemodel_modified_memory_bulk(dmod, domid, &extent, 1);
}

int xendevicemodel_set_mem_type(xendevicemodel_handle *dmod, domid_t domid, hvmmem_type_t mem_type,
                                uint64_t first_pfn, uint32_t nr)
{
    struct fx_shared *sh = fx_lib.sh;

    (void)dmod;
    if (begin(domid, FX_OP_MEM_TYPE) < 0)
        return -1;
    if (!nr || first_pfn + nr - 1 < first_pfn || first_pfn + nr - 1 > sh->max_gfn)
        return end(EINVAL);
    if (mem_type != HVMMEM_ram_rw && mem_type != HVMMEM_ram_ro && mem_type != HVMMEM_mmio_dm)
        return end(EINVAL);
    for (uint64_t gfn = first_pfn; gfn < first_pfn + nr; gfn++) {
        bool hole = !sh->p2m[gfn];

        if (hole != (mem_type == HVMMEM_mmio_dm))
            return end(EINVAL);
        sh->mem_type[gfn] = (uint8_t)mem_type;
    }
    return end(0);
}

int xendevicemodel_shutdown(xendevicemodel_handle *dmod, domid_t domid, unsigned int reason)
{
    int32_t running = -1;

    (void)dmod;
    if (begin(domid, FX_OP_SHUTDOWN) < 0)
        return -1;
    atomic_compare_exchange_strong(&fx_lib.sh->shutdown_reason, &running, (int32_t)reason);
    atomic_fetch_add(&fx_lib.sh->shutdown_calls, 1);
    return end(0);
}

int xendevicemodel_relocate_memory(xendevicemodel_handle *dmod, domid_t domid, uint32_t size,
                                   uint64_t src_gfn, uint64_t dst_gfn)
{
    struct fx_shared *sh = fx_lib.sh;

    (void)dmod;
    if (begin(domid, FX_OP_RELOCATE) < 0)
        return -1;
    if (src_gfn + size < src_gfn || dst_gfn + size < dst_gfn || src_gfn + size > FX_P2M_GFNS ||
        dst_gfn + size > FX_P2M_GFNS)
        return end(EINVAL);
    int error = 0;
    for (uint32_t i = 0; i < size && !error; i++) {
        uint32_t frame = sh->p2m[src_gfn + i];

        if (!frame) {
            error = EINVAL;
            break;
        }
        if (sh->p2m[dst_gfn + i] && src_gfn != dst_gfn)
            sh->tot_pages--; /* RAM at the destination is freed */
        sh->p2m[src_gfn + i] = 0;
        sh->p2m[dst_gfn + i] = frame;
        sh->mem_type[dst_gfn + i] = HVMMEM_ram_rw;
        if (dst_gfn + i > sh->max_gfn)
            sh->max_gfn = dst_gfn + i;
    }
    fx_request_invalidate();
    return end(error);
}

int xendevicemodel_pin_memory_cacheattr(xendevicemodel_handle *dmod, domid_t domid, uint64_t start,
                                        uint64_t last, uint32_t type)
{
    struct fx_shared *sh = fx_lib.sh;

    (void)dmod;
    if (begin(domid, FX_OP_PIN) < 0)
        return -1;
    if (start > last)
        return end(EINVAL);
    for (uint32_t i = 0; i < sh->n_pins; i++) {
        struct fx_pin *p = &sh->pin[i];

        if (p->start == start && p->end == last) {
            if (type == XEN_DMOP_DELETE_MEM_CACHEATTR)
                *p = sh->pin[--sh->n_pins];
            else
                p->type = type;
            return end(0);
        }
        if (p->start <= last && start <= p->end)
            return end(EBUSY);
    }
    if (type == XEN_DMOP_DELETE_MEM_CACHEATTR)
        return end(ENOENT);
    if (sh->n_pins == FX_PINS)
        return end(ENOSPC);
    sh->pin[sh->n_pins++] = (struct fx_pin){ start, last, type };
    return end(0);
}

int xendevicemodel_nr_vcpus(xendevicemodel_handle *dmod, domid_t domid, unsigned int *vcpus)
{
    (void)dmod;
    if (begin(domid, FX_OP_OTHER) < 0)
        return -1;
    *vcpus = fx_lib.sh->nr_vcpus;
    return end(0);
}
