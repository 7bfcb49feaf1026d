/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory that the fake hypervisor (fakexen) and the preloaded library (libfakexen.so) share.
 *
 * The library is "inside Xen" as far as the device model can tell: a dm_op is carried out by the
 * library itself under fx_shared.lock, plus one system call that fails at once, so that a hypercall
 * costs the device model about what an ioctl on privcmd costs. Only what needs descriptors or the
 * xenstore goes to the fakexen process, over the socket named in $FAKEXEN.
 *
 * Threads: everything but the atomics is protected by lock. Ports and vCPU wake counters are
 * atomics, because a request must cost no more than it does under Xen.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#ifndef __XEN_TOOLS__
#define __XEN_TOOLS__ 1 /* the tools-only part of the interface */
#endif
#include <xendevicemodel.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/ioreq.h>
#include <xen/hvm/params.h>

enum {
    FX_MAX_VCPUS = 128,       /* 4096 / sizeof(struct ioreq) */
    FX_MAX_SERVERS = 8,       /* MAX_NR_IOREQ_SERVERS */
    FX_MAX_RANGES = 256,      /* MAX_NR_IO_RANGES, per server and type */
    FX_PORTS = 4096,          /* event channels per domain */
    FX_FIRST_XEN_PORT = 5,    /* the guest's side: kept apart from local ports, so that */
    FX_FIRST_LOCAL_PORT = 60, /* a device model that confuses the two is noticed */
    FX_HANDLES = 16,          /* open event channel handles */
    FX_P2M_GFNS = 1 << 24,    /* 64 GiB of guest physical addresses */
    FX_FRAMES = 1 << 22,      /* 16 GiB of machine memory */
    FX_IRQ_LOG = 4096,
    FX_MSI_LOG = 256,
    FX_PINS = 64,             /* pinned cache attribute ranges per domain */
    FX_PAGE = 4096,
};

enum fx_op { /* counted in fx_shared.count */
    FX_OP_ISA_IRQ, FX_OP_PCI_INTX, FX_OP_LINK_ROUTE, FX_OP_MSI, FX_OP_MAP_RANGE, FX_OP_UNMAP_RANGE,
    FX_OP_MAP_PCI, FX_OP_UNMAP_PCI, FX_OP_RELOCATE, FX_OP_PIN, FX_OP_TRACK_DIRTY,
    FX_OP_MODIFIED, FX_OP_MEM_TYPE, FX_OP_SHUTDOWN, FX_OP_FOREIGN_MAP, FX_OP_NOTIFY, FX_OP_PENDING,
    FX_OP_UNMASK, FX_OP_OTHER, FX_OP_COUNT
};

struct fx_range {
    uint64_t start, end; /* inclusive */
};

/* Sorted, never touching: neighbours are merged as Xen's rangesets do. */
struct fx_rangeset {
    uint32_t n;
    struct fx_range r[FX_MAX_RANGES];
};

struct fx_server {
    bool in_use, enabled;
    uint8_t bufmode;    /* HVM_IOREQSRV_BUFIOREQ_* */
    bool page_alloc[2]; /* resource frames: 0 buffered ring, 1 synchronous page */
    uint32_t vcpu_port[FX_MAX_VCPUS];
    uint32_t buf_port;
    struct fx_rangeset set[3]; /* XEN_DMOP_IO_RANGE_* */
};

enum { FX_PORT_PENDING = 1, FX_PORT_MASKED = 2 };

struct fx_xen_port { /* the end that Xen holds for a vCPU or a buffered ring, or a guest's own port */
    bool in_use;
    int32_t vcpu; /* -1: buffered ring, or the guest's */
    uint32_t local; /* 0: not bound */
    _Atomic uint32_t notified; /* the guest's: events so far */
};

struct fx_local_port { /* the device model's end */
    _Atomic uint32_t state;
    bool in_use;
    uint32_t handle;
    uint32_t remote;
};

struct fx_irq_event {
    uint8_t kind; /* 'I' ISA line, 'P' PCI INTx */
    uint8_t line; /* ISA IRQ, or dev << 2 | intx */
    uint8_t level;
};

struct fx_msi {
    uint64_t addr;
    uint32_t data;
};

struct fx_pin {
    uint64_t start, end;
    uint32_t type;
};

struct fx_shared {
    pthread_mutex_t lock; /* robust, shared between processes */
    uint32_t domid;
    uint32_t nr_vcpus;
    uint32_t tot_pages, max_pages; /* the domain's allowance */
    uint32_t next_frame;
    uint64_t max_gfn;
    uint64_t hvm_param[64];

    struct fx_server server[FX_MAX_SERVERS];
    struct fx_xen_port xen_port[FX_PORTS];
    struct fx_local_port local_port[FX_PORTS];

    _Atomic uint32_t vcpu_wake[FX_MAX_VCPUS];          /* futex: counts notifications */
    _Atomic uint8_t mapcache_invalidate[FX_MAX_VCPUS]; /* INVALIDATE is due */

    _Atomic uint32_t isa_level; /* bit per line */
    _Atomic uint32_t intx_level[32]; /* per slot, bit per pin */
    uint8_t link_route[4];
    uint32_t irq_head; /* free running */
    struct fx_irq_event irq_log[FX_IRQ_LOG];
    _Atomic uint32_t irq_seq; /* futex: bumped on each level change */
    _Atomic uint32_t irq_waiters;
    uint32_t msi_head;
    struct fx_msi msi_log[FX_MSI_LOG];

    _Atomic int32_t shutdown_reason; /* -1: running; the first one is latched */
    _Atomic uint32_t shutdown_calls;
    _Atomic uint32_t dirty_enodata; /* track_dirty_vram fails: log-dirty mode owns the p2m */
    uint64_t dirty_first;
    uint32_t dirty_nr;
    uint32_t n_pins;
    struct fx_pin pin[FX_PINS];
    _Atomic uint64_t exec_ns, running_ns; /* CLOCK_MONOTONIC */
    _Atomic uint64_t count[FX_OP_COUNT];

    /* Two pages per server, in resource frame order. */
    _Alignas(FX_PAGE) uint8_t iopage[FX_MAX_SERVERS][2][FX_PAGE];

    _Alignas(FX_PAGE) uint32_t p2m[FX_P2M_GFNS]; /* 0: hole, else frame + 1 */
    uint8_t mem_type[FX_P2M_GFNS];               /* hvmmem_type_t of populated gfns */
    _Atomic uint8_t dirty[FX_P2M_GFNS];          /* written by the guest since last asked */
    _Atomic uint8_t modified[FX_P2M_GFNS];       /* reported by the device model */
};

/* Control socket (SOCK_SEQPACKET at $FAKEXEN): one request, one answer with descriptors. */
enum fx_ctl_op {
    FX_CTL_ATTACH = 1, /* -> shared memory fd, machine memory fd */
    FX_CTL_EVTCHN,     /* -> pipe read end, pipe write end; value = handle number */
    FX_CTL_EVTCHN_CLOSE,
    FX_CTL_XS,         /* -> request socket, watch event socket */
};

struct fx_ctl_msg {
    uint32_t op;
    uint32_t value;
    int32_t error; /* errno */
};

enum fx_xs_op {
    FX_XS_READ = 1, FX_XS_WRITE, FX_XS_MKDIR, FX_XS_RM, FX_XS_DIR, FX_XS_WATCH, FX_XS_UNWATCH,
};

enum { FX_XS_MAX = 65536 };

struct fx_xs_hdr { /* path (with its NUL), then data; answers have no path */
    uint32_t op;
    int32_t error;
    uint32_t path_len, data_len;
};

/* Takes the lock; a holder that was killed leaves the state as it was. */
static inline void fx_lock(struct fx_shared *sh)
{
    if (pthread_mutex_lock(&sh->lock) != 0)
        pthread_mutex_consistent(&sh->lock);
}

static inline void fx_unlock(struct fx_shared *sh)
{
    pthread_mutex_unlock(&sh->lock);
}

/* Raises a local port: leaves it pending if masked; otherwise masks it, as the kernel's event
 * channel driver does when it queues the port, and tells the caller to queue it.
 * Returns true when port has to be written to its handle's pipe. */
static inline bool fx_port_raise(struct fx_local_port *p)
{
    uint32_t old = atomic_load(&p->state), new_state;

    do {
        new_state = (old & FX_PORT_MASKED) ? old | FX_PORT_PENDING : FX_PORT_MASKED;
    } while (!atomic_compare_exchange_weak(&p->state, &old, new_state));
    return !(old & FX_PORT_MASKED);
}

/* Unmasks; returns true when the port was pending and has to be queued again. */
static inline bool fx_port_unmask(struct fx_local_port *p)
{
    uint32_t old = atomic_load(&p->state), new_state;

    do {
        new_state = (old & FX_PORT_PENDING) ? FX_PORT_MASKED : 0;
    } while (!atomic_compare_exchange_weak(&p->state, &old, new_state));
    return (old & FX_PORT_PENDING) != 0;
}
