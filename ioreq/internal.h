/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the files of ioreq/ share. */
#include <stdint.h>

/* The ioreq server definitions are the toolstack's; without this the public headers also give the
 * ABI of Xen 2. */
#define __XEN_TOOLS__ 1
#include <xencall.h>
#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xenstore.h>
#include <xentoollog.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/ioreq.h>
#include <xen/hvm/params.h>
#include <xen/memory.h>
#include <xen/sched.h>

#include "core/board.h"
#include "core/log.h"
#include "ioreq/ioreq.h"

enum {
    XEN_PAGE_SHIFT = 12,
    XEN_PAGE = 1 << XEN_PAGE_SHIFT,
    IOREQ_VCPUS_MAX = 128, /* one page of struct ioreq: HVM_MAX_VCPUS */
};

struct guestmem;

struct platform {
    struct loop *loop;
    struct platform_config cfg;
    xentoollog_logger *logger;
    xendevicemodel_handle *dm;
    xenforeignmemory_handle *fmem;
    xenevtchn_handle *evtchn;
    xencall_handle *call;
    struct xs_handle *xs;
    struct guestmem *mem;
    bool shutdown_sent;
    bool log_dirty; /* a migration wants to know what we write (xen-set-global-dirty-log) */
    struct bottom_half s_state_bh; /* sets HVM_PARAM_ACPI_S_STATE to s_state */
    unsigned s_state;
    uint64_t next_parking; /* guest address for the next platform_vram_create() */
    struct vram *vrams;

    /* The ioreq server. */
    bool server_made;
    ioservid_t server;
    xenforeignmemory_resource_handle *pages_resource;
    buffered_iopage_t *buffered;
    shared_iopage_t *shared;
    unsigned nvcpus;

    /* Serving (server.c). */
    struct board *board;
    bool running;
    struct watch watch;
    struct bottom_half more;
    struct timer buffered_timer; /* armed while the buffered port is left masked */
    bool buffered_masked;
    evtchn_port_t vcpu_port[IOREQ_VCPUS_MAX];
    evtchn_port_t buffered_port;
    unsigned nbound;
    evtchn_port_t masked[IOREQ_VCPUS_MAX + 1]; /* events taken and not unmasked yet */
    unsigned nmasked;
    /* Waiting for the next request, see server.c. */
    unsigned spin_skip, spin_skip_left;
    unsigned spin_turns_per_us;
    unsigned spin_look;     /* turns between two looks at descriptors */
    unsigned spin_gap;      /* mean gap between requests that waiting found, in turns */
    unsigned spin_unlooked; /* turns since descriptors were looked at */
    struct {
        uint64_t wakeups, requests, buffered, spin_hits, spin_misses;
    } stats; /* traced at the end */
};

/* server.c */
int server_create(struct platform *p, char *err, size_t errlen);
void server_destroy(struct platform *p);

enum { SPIN_TRIES = 9 };
/* How many turns of the loop that waits for the next request fit into a microsecond (at least 1), from how long
 * some tries of the same number of turns took; sorts them. The one in the middle counts: a try is too long when
 * others ran meanwhile, and too short when the clock stood still. Xen's paravirtual clock does, for milliseconds,
 * after this CPU was found behind another one; a guess serves when nearly all tries fall into that. */
unsigned server_turns_per_us(uint64_t took_ns[SPIN_TRIES]);

/* What a look for the next request teaches: whether it was found, after how many turns, and whether only once this
 * thread had lost its CPU to another one. */
void server_spin_learn(struct platform *p, bool found, bool displaced, unsigned turns);

/* guestmem.c */
struct guestmem *guestmem_create(struct platform *p);
void guestmem_destroy(struct guestmem *m);
/* Xen says that the guest's memory map changed: nothing mapped before may be used for new accesses.
 * */
void guestmem_invalidate(struct guestmem *m);

/* vram.c */
/* Guest memory [gpa, gpa + len) was written by us: what of it is video memory becomes dirty. */
void vram_written(struct platform *p, uint64_t gpa, size_t len);

/* True when errno says that the domain is dying or gone: nothing to report. */
bool domain_gone(int error);
