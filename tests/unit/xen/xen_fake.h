/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Xen's libraries as ioreq/ uses them, in the test's own process and thread: a domain with memory, one ioreq server, event channels.
 * The test plays the guest and Xen. tests/fakexen is the same with a process boundary and real time; here every step can be placed.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define __XEN_TOOLS__ 1
#include <xen/hvm/dm_op.h>
#include <xen/hvm/ioreq.h>

enum {
    XF_DOMID = 7,
    XF_VCPUS = 4,
    XF_RAM_MIB = 16,
    XF_PAGE = 4096,
    XF_GFNS = 1 << 21,   /* 8 GiB of guest addresses */
    XF_FRAMES = 1 << 15, /* 128 MiB of machine memory */
    XF_PORTS = 64,
    XF_LOG = 32,
};

/* Calls that can be made to fail. */
enum xf_call {
    XF_OPEN, XF_CREATE_SERVER, XF_MAP_RESOURCE, XF_NR_VCPUS, XF_SERVER_INFO, XF_SERVER_STATE, XF_BIND, XF_MAP_RANGE,
    XF_MAP, XF_POPULATE, XF_RELOCATE, XF_TRACK, XF_XS_WRITE, XF_XS_COMMIT, XF_XS_WATCH, XF_GRANT_MAP, XF_GRANT_COPY, XF_CALLS
};

enum { XF_GRANTS = 4096 };

struct xen_fake {
    uint32_t *p2m; /* by gfn: frame + 1, 0: nothing there */
    uint8_t *machine;
    uint32_t next_frame;

    int fail[XF_CALLS];       /* errno to fail with, 0: work */
    unsigned fail_in[XF_CALLS]; /* ... only after so many calls that work */
    unsigned calls[XF_CALLS];

    /* What is open now: all zero after platform_close(). */
    int handles, maps, resources, servers, ports_bound;
    unsigned map_calls; /* foreign mappings made */

    shared_iopage_t *shared; /* the guest's side of the pages */
    buffered_iopage_t *ring;
    bool enabled;

    struct {
        bool bound, masked, pending;
        uint32_t remote;
    } port[XF_PORTS]; /* local ports, from XF_VCPUS + 1 on */
    unsigned queue[XF_PORTS], queue_len;
    unsigned bad_unmasks; /* of ports that were not masked */
    unsigned blocked;     /* calls that would have waited for an event */
    void (*on_notify)(unsigned vcpu); /* the vCPU wakes up */
    unsigned notified;
    void (*on_port)(uint32_t remote); /* the guest's port has an event */

    struct {
        bool valid, readonly;
        uint64_t gfn;
    } grant[XF_GRANTS]; /* what the guest grants, by reference */
    int granted_maps;   /* pages of it that are mapped now */
    unsigned grant_map_calls, grant_copy_calls;
    int watches;

    bool dirty_tracking;
    uint64_t dirty_first, dirty_n;
    uint64_t dirty_gfn; /* the guest wrote this page; 0: none */

    char log[1024]; /* calls that matter by their order, a word each */
};
extern struct xen_fake xf;

/* A domain with XF_RAM_MIB of RAM and the VGA hole. */
void xf_create(void);
void xf_destroy(void);

/* The guest's page at gfn, NULL: nothing there. */
uint8_t *xf_ram(uint64_t gfn);
/* A new zeroed page at gfn (what was there is lost), or none. Xen would send INVALIDATE: the test has to. */
void xf_populate(uint64_t gfn);
void xf_balloon(uint64_t gfn);

/* Maps n pages of the guest in one piece. NULL: one of them is not there. */
void *xf_map_frames(const uint64_t *gfns, size_t n, int prot);

/* The guest raises one of its own ports. */
void xf_raise_port(uint32_t remote);

/* Xenstore as another process sees it; relative paths are dom0's. Watches fire. */
void xf_store_write(const char *path, const char *value);
void xf_store_rm(const char *path);
/* NULL: no such node. Valid until the node is written again. */
const char *xf_store_read(const char *path);

/* The port of vCPU n (XF_VCPUS: the buffered ring's) has an event. */
void xf_raise(unsigned n);
/* Posts a request for vCPU n and raises its port. flags: bits of the state byte but for the state. */
enum { XF_PTR = 0x10, XF_READ = 0x20, XF_DF = 0x40 };
void xf_request(unsigned n, uint8_t type, uint8_t flags, uint64_t addr, uint64_t data, uint32_t size, uint32_t count);
/* True if vCPU n's request has been answered; takes the answer and its data, as Xen does. */
bool xf_answered(unsigned n, uint64_t *data);
/* Puts a write into the buffered ring as Xen does, without an event. False: full. */
bool xf_buffered(uint8_t type, uint32_t addr, unsigned size, uint64_t data);
