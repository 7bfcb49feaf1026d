/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A blkif frontend and its toolstack for tests of pv/, on xen_fake.h. The test drives each step. */
#include "tests/unit/xen/xen_fake.h"

enum {
    FRONT_ENTRY_MAX = 112,
    FRONT_DATA_REF = 1024,      /* data page i of the guest: grant reference FRONT_DATA_REF + i */
    FRONT_DATA_PAGES = 2560,
    FRONT_DATA_GFN = 0x400,
};

struct blkfront {
    unsigned dev, order;
    bool i386;       /* 32-bit ABI */
    uint32_t ref;    /* of the first ring page */
    uint32_t port;
    unsigned entry, entries;
    uint8_t *pages;
    uint32_t req_prod, rsp_cons;
};

struct blkseg {
    uint32_t ref;
    uint8_t first, last;
};

/* The nodes that libxl writes for a disk. mode "r" or "w", type "disk" or "cdrom". */
void front_toolstack(unsigned dev, const char *params, const char *mode, const char *type);
void front_write(unsigned dev, const char *name, const char *value);
void back_write(unsigned dev, const char *name, const char *value);
const char *back_read(unsigned dev, const char *name);
/* The backend's state. 0: no such node. */
int back_state(unsigned dev);

/* A ring of 1 << order zeroed pages, granted; protocol, event channel and so on in xenstore, but not the state. */
void front_init(struct blkfront *f, unsigned dev, unsigned order, bool i386, bool persistent);
void front_fini(struct blkfront *f);
/* The guest's data page. */
uint8_t *front_data(unsigned i);

/* Puts a request into the ring, not yet published. */
void front_put(struct blkfront *f, const uint8_t *request);
void front_rw(struct blkfront *f, uint8_t op, uint64_t id, uint64_t sector, const struct blkseg *segs, unsigned n);
/* The segments are in the data page `ref`. */
void front_indirect(struct blkfront *f, uint8_t op, uint64_t id, uint64_t sector, uint32_t ref, unsigned n);
void front_discard(struct blkfront *f, uint64_t id, uint64_t sector, uint64_t sectors);
/* Publishes what was put and raises the event channel if the backend asked for that; returns whether. */
bool front_push(struct blkfront *f);
/* Takes a response; false: none. */
bool front_take(struct blkfront *f, uint64_t *id, uint8_t *op, int *status);
