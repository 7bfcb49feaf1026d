/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* pv/ with a frontend and a toolstack that do at each step what the test wants: the parts that its tests share. Each
 * test program has its own copy. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pv/internal.h"
#include "tests/unit/block_fake.h"
#include "tests/unit/xen/xen_fake_blkfront.h"

enum { DEV = 51712, OTHER = 51728, CD = 5632, IMAGE_BYTES = 8 << 20, SECTORS = IMAGE_BYTES / 512 };

struct rig {
    struct loop *loop;
    struct pv *pv;
    char image[64], params[80];
    struct blkfront f;
    struct block *block; /* the fake image of f */
};

/* Turns of the loop until nothing moves any more. */
static inline void settle(struct rig *r)
{
    for (int i = 0; i < 60; i++) {
        loop_poll(r->loop, 0);
    }
}

static inline void make_image(char *name, off_t bytes)
{
    strcpy(name, "/tmp/test_qdisk-XXXXXX");
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
    close(fd);
}

static inline int setup(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    char err[256] = "";

    xf_create();
    make_image(r->image, IMAGE_BYTES);
    snprintf(r->params, sizeof(r->params), "aio:%s", r->image);
    r->loop = loop_create(true);
    r->pv = pv_create(r->loop, XF_DOMID, err, sizeof(err));
    assert_string_equal(err, "");
    pv_set_running(r->pv, true);
    *state = r;
    return 0;
}

static inline int teardown(void **state)
{
    struct rig *r = *state;

    pv_destroy(r->pv);
    loop_poll(r->loop, 0);
    loop_destroy(r->loop);
    if (r->f.pages != NULL) {
        front_fini(&r->f);
    }
    assert_int_equal(xf.bad_unmasks, 0);
    assert_int_equal(xf.blocked, 0);
    assert_int_equal(xf.handles, 0);
    assert_int_equal(xf.granted_maps, 0);
    assert_int_equal(xf.ports_bound, 0);
    assert_int_equal(xf.watches, 0);
    unlink(r->image);
    xf_destroy();
    free(r);
    return 0;
}

static inline struct qdisk *disk(struct rig *r, unsigned dev)
{
    struct qdisk *d = r->pv->disks;

    while (d != NULL && d->dev != dev) {
        d = d->next;
    }
    return d;
}

/* The disk DEV, connected, its image one whose completions the test controls. */
static inline void connect_front(struct rig *r, unsigned order, bool i386, bool persistent)
{
    front_toolstack(DEV, r->params, "w", "disk");
    front_init(&r->f, DEV, order, i386, persistent);
    front_write(DEV, "state", "3");
    settle(r);
    assert_int_equal(back_state(DEV), 4);
    front_write(DEV, "state", "4");
    settle(r);
    block_close(disk(r, DEV)->block);
    r->block = disk(r, DEV)->block = block_fake_create(r->loop, IMAGE_BYTES, false);
}

/* The next response's status; it must be that of request id with that operation. */
static inline int answer(struct rig *r, uint64_t id, uint8_t op)
{
    uint64_t got_id = 0;
    uint8_t got_op = 0;
    int status = 99;

    if (!front_take(&r->f, &got_id, &got_op, &status)) {
        fail_msg("request %llu is not answered", (unsigned long long)id);
    }
    assert_int_equal(got_id, id);
    assert_int_equal(got_op, op);
    return status;
}

static inline bool any_answer(struct rig *r)
{
    uint64_t id;
    uint8_t op;
    int status;

    return front_take(&r->f, &id, &op, &status);
}

/* One request with one segment of a whole page, to its end. */
static inline int ask_page(struct rig *r, uint8_t op, uint64_t sector, uint32_t ref)
{
    const struct blkseg seg = {ref, 0, 7};

    front_rw(&r->f, op, 77, sector, &seg, 1);
    front_push(&r->f);
    settle(r);
    return answer(r, 77, op);
}

static inline void fill(unsigned page, uint8_t seed)
{
    for (unsigned i = 0; i < XF_PAGE; i++) {
        front_data(page)[i] = (uint8_t)(seed + i * 7 + i / 256);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
