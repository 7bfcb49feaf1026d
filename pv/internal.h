/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What the files of pv/ share.
 *
 *   pv.c      xenstore: watches, nodes, the list of disks; event channels
 *   qdisk.c   one disk: xenbus states, image, connecting and closing
 *   blkring.c its ring: requests to the block layer and back
 *   grants.c  the guest's pages: copied, or kept mapped for frontends that reuse them
 */
#include <stdint.h>

/* Without this the public headers give the ABI of Xen 2. */
#define __XEN_TOOLS__ 1
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>
#include <xentoollog.h>
#include <xen/grant_table.h>
#include <xen/io/protocols.h>
#include <xen/io/xenbus.h>

/* blkif.h gets the 64-bit form of its structures; blkring.c has both ABIs in a table. */
#include <xen/io/blkif.h>

#include "block/block.h"
#include "core/log.h"
#include "core/loop.h"
#include "pv/pv.h"

enum {
    PV_PAGE = 4096,
    PV_DISKS_MAX = 128,
    PV_PATH_MAX = 128,    /* of our own nodes */
    QDISK_RING_ORDER = 4, /* 16 pages, what the peer offers */
    QDISK_SEGMENTS = 64,  /* in one request: BLOCK_IOV_MAX */
    QDISK_DEPTH = 64,     /* requests in flight per disk; more wait in the ring */
    QDISK_REQUEST_BYTES = QDISK_SEGMENTS * PV_PAGE,
    QDISK_SEGMENTS_PER_PAGE = PV_PAGE / sizeof(struct blkif_request_segment),
    QDISK_DISCARD_BYTES = 4096, /* granularity */
    QDISK_GRANTS = 1280, /* kept mapped per disk; Linux uses 32 * (32 + 1) with one ring page */
    QDISK_GRANT_BUCKETS = 1024,
    QDISK_LOOK_SKIP_MAX = 255,
};

/* ---- grants.c ---- */

/* A page of the guest that stays mapped. */
struct grant {
    grant_ref_t ref;
    uint8_t *page;
    unsigned users; /* requests in flight */
    struct grant *hash_next;
    struct grant *newer, *older; /* by last use */
};

/* The pages of one disk that are mapped: at most QDISK_GRANTS, the least recently used one goes. */
struct grants {
    xengnttab_handle *gnttab;
    uint32_t domid;
    unsigned count;
    struct grant *newest, *oldest, *free;
    struct grant *bucket[QDISK_GRANT_BUCKETS];
    struct grant all[QDISK_GRANTS];
};

/* NULL: no memory. */
struct grants *grants_create(xengnttab_handle *gnttab, uint32_t domid);
/* Unmaps everything; nothing may be in use. NULL is fine. */
void grants_destroy(struct grants *g);
/* The page behind ref, mapped for reading and writing, until grants_put(). NULL: it cannot be mapped
 * (now): copy instead. */
struct grant *grants_get(struct grants *g, grant_ref_t ref);
void grants_put(struct grant *grant);

/* A piece of a guest page. offset + len <= PV_PAGE. */
struct grant_piece {
    grant_ref_t ref;
    uint16_t offset, len;
};
/* Copies n pieces (1..QDISK_SEGMENTS) from (to_guest: to) the guest, to (from) buf, one after the
 * other. False if the guest did not grant one of them. */
bool grants_copy(xengnttab_handle *gnttab, uint32_t domid, bool to_guest,
                 const struct grant_piece *pieces, unsigned n, uint8_t *buf);

/* ---- blkring.c ---- */

struct blkring;
struct qdisk;

/* Where the fields of a request are in an ABI. */
struct blkring_abi;
/* By the name in xenstore; NULL name: ours. NULL: unknown. */
const struct blkring_abi *blkring_abi(const char *name);

/* Takes over the mapped ring pages and the port on success. NULL with errno. persistent: the frontend
 * reuses its pages. */
struct blkring *blkring_create(struct qdisk *d, const struct blkring_abi *abi, void *pages,
                               unsigned npages, evtchn_port_t port, bool persistent);
/* Ends it; nothing may be in flight. NULL is fine. */
void blkring_destroy(struct blkring *r);
evtchn_port_t blkring_port(const struct blkring *r);
unsigned blkring_in_flight(const struct blkring *r);
/* Takes requests (if the disk may run) and answers what is finished, a bounded amount. More follows
 * by itself. */
void blkring_work(struct blkring *r);
/* Answers what is finished. */
void blkring_push(struct blkring *r);

/* Looking at the ring a little longer, before we sleep until the event, pays only when requests come
 * quickly one after the other. So each time it was in vain the next chances are passed over, 1, 3, 7
 * ... 255 of them, until one pays again. */
struct qdisk_look {
    unsigned skip; /* after the last one */
    unsigned left; /* ... of them */
};
/* Takes a chance; false: pass it over. */
bool qdisk_look_pays(struct qdisk_look *look);
void qdisk_look_learn(struct qdisk_look *look, bool found);

/* ---- qdisk.c ---- */

struct qdisk {
    struct pv *pv;
    struct qdisk *next;
    unsigned dev;           /* Xen's device number */
    char name[24];          /* "qdisk-51712" */
    char back[PV_PATH_MAX]; /* backend/qdisk/7/51712 */
    char *front;            /* the frontend's directory */
    char *params;           /* the node: "<format>:<path>" */
    const char *path;       /* in params; "" for an empty CD drive */
    char format[16];        /* as block_open() calls it */
    bool readonly, cdrom, removable, discard;
    bool watched;            /* the frontend's state */
    enum xenbus_state state; /* ours, as last written */
    struct block *block;     /* while connected, unless there is no medium */
    struct blkring *ring;    /* while connected */
    /* Nothing new is taken from the ring; when nothing is in flight any more, */
    bool closing; /* ... the connection ends */
    bool reopen;  /* ... the image is changed for what params says */
    bool gone;    /* the toolstack removed the disk: freed when closed */
    struct bottom_half work;
    struct log_limit limit;
};

/* Reads the disk's nodes and starts its life. NULL: not (yet) one to be served. */
struct qdisk *qdisk_create(struct pv *pv, unsigned dev);
/* Something in xenstore may have changed. May free d. */
void qdisk_update(struct qdisk *d);
/* The node `params` may have changed. */
void qdisk_params(struct qdisk *d);
/* An event of its port. */
void qdisk_event(struct qdisk *d);
/* Ends it now: waits for what is in flight. Leaves state `Closed` if the node is still there. Frees. */
void qdisk_destroy(struct qdisk *d);
/* Finishes what is in flight, waiting for it. */
void qdisk_drain(struct qdisk *d);
/* Something in the ring makes no sense: the connection ends. */
void qdisk_broken(struct qdisk *d, const char *why);
/* Whether requests may be taken from the ring. */
bool qdisk_runs(const struct qdisk *d);

/* ---- pv.c ---- */

struct pv {
    struct loop *loop;
    int domid;
    bool running;
    xentoollog_logger *logger;
    struct xs_handle *xs;
    struct watch xs_watch;
    unsigned empty_wakeups; /* of xs_watch, in a row */
    char base[48];          /* backend/qdisk/7 */
    struct qdisk *disks;
    /* Opened for the first connection. */
    xenevtchn_handle *evtchn;
    struct watch evtchn_watch;
    xengnttab_handle *gnttab;
};

/* Opens the event channels and the grant device. 0 or -errno. */
int pv_open_devices(struct pv *pv);

/* dir/name as text (malloc'ed, NUL-terminated) or NULL. */
char *pv_read(struct pv *pv, const char *dir, const char *name);
/* dir/name as a decimal number up to max; absent if it is something else or not there. */
unsigned pv_read_number(struct pv *pv, const char *dir, const char *name, unsigned max,
                        unsigned absent);

struct pv_node {
    const char *name;
    char value[24];
};
/* Writes n nodes and then `state` into d's directory, all at once, unless the toolstack has removed
 * it meanwhile, or asked for its end (then only Closing and Closed are written). Returns whether it
 * has been written. */
bool pv_publish(struct qdisk *d, const struct pv_node *nodes, unsigned n, enum xenbus_state state);
