/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of libfakexen.so share. Nothing here is exported: see exports.map. */
#pragma once

#include "fx_shared.h"

/* The library's view of the fake hypervisor; filled by fx_attach. */
struct fx_lib {
    struct fx_shared *sh;
    int ctl;        /* control socket */
    int shared_fd;  /* fx_shared */
    int machine_fd; /* guest pages, by frame */
    bool restricted;
    int evtchn_write_fd[FX_HANDLES]; /* pipe ends, to queue a port again on unmask */
};

extern struct fx_lib fx_lib;

/* Connects to fakexen on first use. Returns 0, or -1 with errno ENOENT when $FAKEXEN is not set
 * (as if the machine had no /dev/xen) or the error of the socket. */
int fx_attach(void);

/* One control request. fds receives n descriptors. Returns 0 or -1 with errno. */
int fx_ctl(uint32_t op, uint32_t *value, int *fds, int n);

/* The cost of a hypercall: one system call that does nothing. Counts op. Preserves errno. */
void fx_hypercall(enum fx_op op);

/* Checks that domid is our domain: returns 0, or -1 with ESRCH (EPERM once restricted). */
int fx_check_domid(uint32_t domid);

/* Adds a zeroed page at gfn. Call with the lock. Returns 0 or -errno. */
int fx_populate(uint64_t gfn);

/* Makes every vCPU send INVALIDATE after its next request, as Xen does when another domain
 * changed the guest's memory layout. */
void fx_request_invalidate(void);
