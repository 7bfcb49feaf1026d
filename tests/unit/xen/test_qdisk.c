/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pv/ with a frontend and a toolstack that do at each step what the test wants. */
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
static void settle(struct rig *r)
{
    for (int i = 0; i < 60; i++) {
        loop_poll(r->loop, 0);
    }
}

static void make_image(char *name, off_t bytes)
{
    strcpy(name, "/tmp/test_qdisk-XXXXXX");
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
    close(fd);
}

static int setup(void **state)
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

static int teardown(void **state)
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

static struct qdisk *disk(struct rig *r, unsigned dev)
{
    struct qdisk *d = r->pv->disks;

    while (d != NULL && d->dev != dev) {
        d = d->next;
    }
    return d;
}

/* The disk DEV, connected, its image one whose completions the test controls. */
static void connect_front(struct rig *r, unsigned order, bool i386, bool persistent)
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
static int answer(struct rig *r, uint64_t id, uint8_t op)
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

static bool any_answer(struct rig *r)
{
    uint64_t id;
    uint8_t op;
    int status;

    return front_take(&r->f, &id, &op, &status);
}

/* One request with one segment of a whole page, to its end. */
static int ask_page(struct rig *r, uint8_t op, uint64_t sector, uint32_t ref)
{
    const struct blkseg seg = {ref, 0, 7};

    front_rw(&r->f, op, 77, sector, &seg, 1);
    front_push(&r->f);
    settle(r);
    return answer(r, 77, op);
}

static void fill(unsigned page, uint8_t seed)
{
    for (unsigned i = 0; i < XF_PAGE; i++) {
        front_data(page)[i] = (uint8_t)(seed + i * 7 + i / 256);
    }
}

/* ---- nodes and states ---- */

static void test_offer(void **state)
{
    struct rig *r = *state;

    front_toolstack(DEV, r->params, "w", "disk");
    settle(r);
    assert_int_equal(back_state(DEV), 2);
    assert_string_equal(back_read(DEV, "feature-flush-cache"), "1");
    assert_string_equal(back_read(DEV, "feature-persistent"), "1");
    assert_string_equal(back_read(DEV, "feature-max-indirect-segments"), "64");
    assert_string_equal(back_read(DEV, "max-ring-page-order"), "4");
    assert_string_equal(back_read(DEV, "feature-discard"), "1");
    assert_string_equal(back_read(DEV, "discard-granularity"), "4096");
    assert_string_equal(back_read(DEV, "discard-alignment"), "0");
    assert_string_equal(back_read(DEV, "info"), "0");
    assert_string_equal(back_read(DEV, "sector-size"), "512");
    assert_string_equal(back_read(DEV, "hotplug-status"), "connected");
    assert_null(back_read(DEV, "feature-barrier")); /* as the peer; sent all the same, it works */
    assert_null(disk(r, DEV)->block);               /* the emulated drive still has it */
    assert_int_equal(xf.handles, 1);                /* xenstore; no device until a frontend connects */
}

static void test_kinds(void **state)
{
    static const struct {
        const char *mode, *type, *discard, *removable;
        const char *info;
        bool discards;
    } cases[] = {
        {"w", "disk", "0", "0", "0", false}, {"r", "disk", "1", "0", "4", false},
        {"r", "cdrom", "1", "1", "5", false}, {"w", "cdrom", "1", "1", "5", false},
        {"w", "disk", "nonsense", "1", "2", true}, {"!", "disk", "1", "0", "4", false},
        {"w", "floppy", "1", "0", "0", true},
    };
    struct rig *r = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned dev = 51712 + 16 * (unsigned)i;

        back_write(dev, "discard-enable", cases[i].discard);
        front_toolstack(dev, r->params, cases[i].mode, cases[i].type);
        back_write(dev, "removable", cases[i].removable);
        settle(r);
        assert_int_equal(back_state(dev), 2);
        assert_int_equal(back_read(dev, "feature-discard") != NULL, cases[i].discards);
        assert_string_equal(back_read(dev, "info"), cases[i].info);
    }
}

/* Nodes that are not (yet) for us stay as they are. */
static void test_not_ours(void **state)
{
    struct rig *r = *state;

    front_toolstack(DEV, r->params, "w", "disk");
    back_write(DEV, "online", "0");
    front_toolstack(51728, r->params, "w", "disk");
    back_write(51728, "state", "5");
    front_toolstack(51744, r->params, "w", "disk");
    back_write(51744, "frontend", "/local/domain/1/device/vbd/51744");
    front_toolstack(51760, r->params, "w", "disk");
    back_write(51760, "state", "garbage");
    front_toolstack(51776, "aformatwithaverylongname:/x", "w", "disk");
    xf_store_write("backend/qdisk/7/notanumber/state", "1");
    xf_store_write("backend/qdisk/7/99999999999/state", "1");
    xf_store_write("backend/qdisk/7/1/state", "1");
    xf_store_write("backend/qdisk/7//state", "1");
    xf_store_write("backend/qdisk/77/51712/state", "1");
    settle(r);
    assert_null(r->pv->disks);
    assert_int_equal(back_state(DEV), 1);
    assert_int_equal(xf.watches, 1);
    back_write(DEV, "online", "1"); /* now it is */
    settle(r);
    assert_int_equal(back_state(DEV), 2);
}

/* The disks that were there before us. */
static void test_scan(void **state)
{
    struct rig *r = *state;
    char err[256];

    pv_destroy(r->pv);
    front_toolstack(DEV, r->params, "w", "disk");
    front_toolstack(CD, "aio:", "r", "cdrom");
    r->pv = pv_create(r->loop, XF_DOMID, err, sizeof(err));
    settle(r);
    assert_int_equal(back_state(DEV), 2);
    assert_int_equal(back_state(CD), 2);
}

static void test_connect(void **state)
{
    struct rig *r = *state;
    struct pv_disk info;

    connect_front(r, 0, false, false);
    assert_string_equal(back_read(DEV, "sectors"), "16384");
    assert_int_equal(xf.ports_bound, 1);
    assert_int_equal(xf.granted_maps, 1);
    assert_true(pv_disk(r->pv, 0, &info));
    assert_string_equal(info.name, "qdisk-51712");
    assert_string_equal(info.path, r->image);
    assert_string_equal(info.format, "raw");
    assert_ptr_equal(info.block, r->block);
    assert_false(pv_disk(r->pv, 1, &info));
    assert_false(xf.port[xf.queue_len].masked);
    /* The frontend closes, opens again. */
    front_write(DEV, "state", "5");
    settle(r);
    assert_int_equal(back_state(DEV), 5);
    assert_int_equal(xf.ports_bound, 1);
    front_write(DEV, "state", "6");
    settle(r);
    assert_int_equal(back_state(DEV), 6);
    assert_int_equal(xf.ports_bound + xf.granted_maps, 0);
    assert_null(disk(r, DEV)->block);
    front_write(DEV, "state", "1");
    settle(r);
    assert_int_equal(back_state(DEV), 2);
    front_write(DEV, "state", "3");
    settle(r);
    assert_int_equal(back_state(DEV), 4);
    /* It starts anew without a word. */
    front_write(DEV, "state", "1");
    settle(r);
    assert_int_equal(back_state(DEV), 2);
    assert_int_equal(xf.ports_bound + xf.granted_maps, 0);
    /* It closes before it has connected. */
    front_write(DEV, "state", "6");
    settle(r);
    assert_int_equal(back_state(DEV), 6);
}

/* The frontend is there before the backend. */
static void test_front_first(void **state)
{
    struct rig *r = *state;

    front_init(&r->f, DEV, 0, false, false);
    front_toolstack(DEV, r->params, "w", "disk");
    front_write(DEV, "state", "3");
    settle(r);
    assert_int_equal(back_state(DEV), 4);
}

/* What a frontend can write that cannot be served: its disk is closed, nothing stays, and it may try again. */
static void test_connect_fails(void **state)
{
    static const struct {
        const char *node, *value;
        enum xf_call fail;
        int error;
    } cases[] = {
        {"ring-ref", "garbage", 0, 0}, {"ring-ref", "-1", 0, 0}, {"ring-ref", "", 0, 0}, {"ring-ref", "4294967295", 0, 0},
        {"ring-ref", "4000", 0, 0}, {"ring-ref", "99999999999999999999999", 0, 0}, {"ring-page-order", "1", 0, 0},
        {"ring-page-order", "5", 0, 0}, {"ring-page-order", "31", 0, 0}, {"ring-page-order", "x", 0, 0},
        {"event-channel", "0", 0, 0}, {"event-channel", "x", 0, 0}, {"event-channel", "4294967295", 0, 0},
        {"protocol", "arm-abi", 0, 0}, {"protocol", "", 0, 0}, {NULL, NULL, XF_GRANT_MAP, ENOMEM},
        {NULL, NULL, XF_BIND, ENOSPC}, {NULL, NULL, XF_OPEN, ENOENT},
    };
    struct rig *r = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned dev = 51712 + 16 * (unsigned)i;
        struct blkfront f;

        front_toolstack(dev, r->params, "w", "disk");
        front_init(&f, dev, 0, false, false);
        if (cases[i].node != NULL) {
            front_write(dev, cases[i].node, cases[i].value);
        }
        if (cases[i].error == ENOENT) { /* the devices, too */
            xengnttab_close(r->pv->gnttab);
            r->pv->gnttab = NULL;
        }
        xf.fail[cases[i].fail] = cases[i].error;
        xf.fail_in[cases[i].fail] = 0;
        front_write(dev, "state", "3");
        settle(r);
        xf.fail[cases[i].fail] = 0;
        assert_int_equal(back_state(dev), 6);
        assert_int_equal(xf.ports_bound + xf.granted_maps, 0);
        assert_null(disk(r, dev)->block);
        /* Again, as it should be. */
        front_fini(&f);
        front_write(dev, "state", "1");
        xf_store_rm("/local/domain/7/device/vbd");
        front_write(dev, "state", "1");
        settle(r);
        assert_int_equal(back_state(dev), 2);
        front_init(&f, dev, 0, false, false);
        front_write(dev, "state", "3");
        settle(r);
        assert_int_equal(back_state(dev), 4);
        front_fini(&f);
        front_write(dev, "state", "6");
        settle(r);
    }
}

/* A frontend's numbered names with order 0, or the plain one: both are seen in the world. No protocol is ours. */
static void test_single_page_names(void **state)
{
    struct rig *r = *state;

    for (int i = 0; i < 3; i++) {
        unsigned dev = 51712 + 16 * (unsigned)i;
        struct blkfront f;
        char ref[16];

        front_toolstack(dev, r->params, "w", "disk");
        front_init(&f, dev, 0, false, false);
        snprintf(ref, sizeof(ref), "%u", f.ref);
        if (i > 0) {
            front_write(dev, "ring-page-order", "0");
        }
        if (i == 2) {
            front_write(dev, "ring-ref0", ref);
            front_write(dev, "ring-ref", "garbage");
        }
        char path[64];
        snprintf(path, sizeof(path), "/local/domain/7/device/vbd/%u/protocol", dev);
        xf_store_rm(path);
        front_write(dev, "state", "3");
        settle(r);
        assert_int_equal(back_state(dev), 4);
        front_fini(&f);
    }
}

static void test_image_missing(void **state)
{
    static const char *const params[] = {"aio:/nonexistent/image", "aio:", "", "nosuch:/x", "aio:/tmp"};
    struct rig *r = *state;

    for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
        unsigned dev = 51712 + 16 * (unsigned)i;
        struct blkfront f;

        front_toolstack(dev, params[i], "w", "disk");
        front_init(&f, dev, 0, false, false);
        front_write(dev, "state", "3");
        settle(r);
        assert_int_equal(back_state(dev), 6);
        assert_int_equal(xf.ports_bound + xf.granted_maps, 0);
        front_fini(&f);
    }
}

/* block-detach: online 0, state 5; with no frontend, with one that obeys, with one that never does. */
static void test_detach(void **state)
{
    struct rig *r = *state;

    front_toolstack(OTHER, r->params, "w", "disk");
    settle(r);
    back_write(OTHER, "online", "0");
    back_write(OTHER, "state", "5");
    settle(r);
    assert_int_equal(back_state(OTHER), 6);
    assert_null(r->pv->disks);
    assert_int_equal(xf.watches, 1);

    connect_front(r, 0, false, false);
    back_write(DEV, "online", "0");
    back_write(DEV, "state", "5");
    settle(r);
    assert_int_equal(back_state(DEV), 5); /* in use */
    assert_int_equal(ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF), BLKIF_RSP_OKAY);
    front_write(DEV, "state", "5");
    settle(r);
    assert_int_equal(back_state(DEV), 5);
    front_write(DEV, "state", "6");
    settle(r);
    assert_int_equal(back_state(DEV), 6);
    assert_null(r->pv->disks);
    xf_store_rm("backend/qdisk/7/51712");
    settle(r);
    assert_null(back_read(DEV, "state")); /* not made again */

    front_fini(&r->f);
    connect_front(r, 0, false, false);
    back_write(DEV, "online", "0");
    settle(r);
    xf_store_rm("backend/qdisk/7/51712"); /* forced */
    settle(r);
    assert_null(r->pv->disks);
    assert_null(back_read(DEV, "state"));
    assert_int_equal(xf.ports_bound + xf.granted_maps, 0);
}

/* The toolstack removes everything while requests are in flight. */
static void test_vanishes_in_flight(void **state)
{
    struct rig *r = *state;
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};

    connect_front(r, 0, false, true);
    block_fake_hold(r->block, true);
    front_rw(&r->f, BLKIF_OP_READ, 1, 0, &seg, 1);
    front_push(&r->f);
    settle(r);
    assert_int_equal(block_fake_waiting(r->block), 1);
    xf_store_rm("backend/qdisk/7");
    xf_store_rm("/local/domain/7");
    settle(r);
    assert_non_null(r->pv->disks);
    assert_int_equal(xf.ports_bound, 1);
    block_fake_run(r->block, 1);
    settle(r);
    assert_null(r->pv->disks);
    assert_int_equal(xf.ports_bound + xf.granted_maps, 0);
    assert_null(back_read(DEV, "state"));
}

/* The end of the process with requests in flight: they are finished. */
static void test_end_in_flight(void **state)
{
    struct rig *r = *state;
    struct blkseg seg = {FRONT_DATA_REF, 0, 7};
    char err[256];

    connect_front(r, 0, false, false);
    fill(0, 3);
    block_fake_hold(r->block, true);
    front_rw(&r->f, BLKIF_OP_WRITE, 1, 8, &seg, 1);
    front_rw(&r->f, BLKIF_OP_WRITE_BARRIER, 2, 16, &seg, 1);
    front_push(&r->f);
    settle(r);
    pv_destroy(r->pv);
    assert_int_equal(back_state(DEV), 6);
    assert_int_equal(answer(r, 1, BLKIF_OP_WRITE), BLKIF_RSP_OKAY);
    assert_int_equal(answer(r, 2, BLKIF_OP_WRITE_BARRIER), BLKIF_RSP_OKAY);
    r->pv = pv_create(r->loop, XF_DOMID, err, sizeof(err));
}

/* Transactions that never succeed, writes that fail: no hang, and the state goes on. */
static void test_store_fails(void **state)
{
    struct rig *r = *state;

    xf.fail[XF_XS_COMMIT] = EAGAIN;
    front_toolstack(DEV, r->params, "w", "disk");
    settle(r);
    xf.fail[XF_XS_COMMIT] = 0;
    xf.fail[XF_XS_WRITE] = EACCES;
    front_toolstack(OTHER, r->params, "w", "disk");
    settle(r);
    xf.fail[XF_XS_WRITE] = 0;
    xf.fail[XF_XS_WATCH] = ENOSPC;
    front_toolstack(51744, r->params, "w", "disk");
    settle(r);
    assert_int_equal(back_state(51744), 2);
}

static void test_create_fails(void **state)
{
    static const struct {
        enum xf_call call;
        const char *says;
    } cases[] = {{XF_OPEN, "xenstore"}, {XF_XS_WATCH, "backend/qdisk/7"}};
    struct rig *r = *state;

    for (size_t i = 0; i < 2; i++) {
        char err[256] = "";

        xf.fail[cases[i].call] = EACCES;
        assert_null(pv_create(r->loop, XF_DOMID, err, sizeof(err)));
        assert_non_null(strstr(err, cases[i].says));
        xf.fail[cases[i].call] = 0;
    }
    xf.watches = 0; /* the fake has one connection: the second one's end took the first one's watches along */
}

/* ---- transfers ---- */

static const struct {
    unsigned order;
    bool i386, persistent;
} forms[] = {{0, false, false}, {0, false, true}, {0, true, false}, {1, false, false},
             {2, true, true},   {4, false, true}, {3, true, false}};

/* Every form of connection: single and scattered segments, all through the ring more than once. */
static void test_transfers(void **state)
{
    struct rig *r = *state;

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        connect_front(r, forms[i].order, forms[i].i386, forms[i].persistent);
        for (unsigned n = 0; n < 3 * r->f.entries; n++) {
            unsigned sector = n * 40 % (SECTORS - 100);
            struct blkseg w[] = {{FRONT_DATA_REF + n % 60, 3, 5}, {FRONT_DATA_REF + n % 60 + 1, 0, 7},
                                 {FRONT_DATA_REF + n % 60 + 2, 7, 7}};
            struct blkseg rd[] = {{FRONT_DATA_REF + 100, 0, 7}, {FRONT_DATA_REF + 101, 4, 7}};

            for (unsigned p = 0; p < 3; p++) {
                fill(n % 60 + p, (uint8_t)(n + p));
            }
            front_rw(&r->f, BLKIF_OP_WRITE, n, sector, w, 3);
            front_push(&r->f);
            settle(r);
            assert_int_equal(answer(r, n, BLKIF_OP_WRITE), BLKIF_RSP_OKAY);
            const uint8_t *image = block_fake_data(r->block) + sector * 512;
            assert_memory_equal(image, front_data(n % 60) + 3 * 512, 3 * 512);
            assert_memory_equal(image + 3 * 512, front_data(n % 60 + 1), 4096);
            assert_memory_equal(image + 11 * 512, front_data(n % 60 + 2) + 7 * 512, 512);
            memset(front_data(101), 0x5a, XF_PAGE);
            front_rw(&r->f, BLKIF_OP_READ, UINT64_MAX - n, sector, rd, 2);
            front_push(&r->f);
            settle(r);
            assert_int_equal(answer(r, UINT64_MAX - n, BLKIF_OP_READ), BLKIF_RSP_OKAY);
            assert_memory_equal(front_data(100), image, 4096);
            assert_memory_equal(front_data(101) + 4 * 512, image + 4096, 4 * 512);
            assert_int_equal(front_data(101)[4 * 512 - 1], 0x5a);
        }
        front_write(DEV, "state", "6");
        settle(r);
        front_fini(&r->f);
        xf_store_rm("/local/domain/7");
        xf_store_rm("backend/qdisk/7");
        settle(r);
    }
    r->f.pages = NULL;
}

static void test_indirect(void **state)
{
    struct rig *r = *state;

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        connect_front(r, forms[i].order, forms[i].i386, forms[i].persistent);
        for (unsigned n = 1; n <= QDISK_SEGMENTS; n += n < 4 ? 1 : 20) {
            for (unsigned s = 0; s < n; s++) {
                uint32_t ref = FRONT_DATA_REF + s;

                fill(s, (uint8_t)(s + n));
                memset(front_data(200) + 8 * s, 0, 8);
                memcpy(front_data(200) + 8 * s, &ref, 4);
                front_data(200)[8 * s + 5] = 7;
            }
            front_indirect(&r->f, BLKIF_OP_WRITE, n, 4000, FRONT_DATA_REF + 200, n);
            front_push(&r->f);
            settle(r);
            assert_int_equal(answer(r, n, BLKIF_OP_WRITE), BLKIF_RSP_OKAY);
            for (unsigned s = 0; s < n; s++) {
                assert_memory_equal(block_fake_data(r->block) + 4000 * 512 + s * 4096, front_data(s), 4096);
                memset(front_data(s), 0, XF_PAGE);
            }
            front_indirect(&r->f, BLKIF_OP_READ, n, 4000, FRONT_DATA_REF + 200, n);
            front_push(&r->f);
            settle(r);
            assert_int_equal(answer(r, n, BLKIF_OP_READ), BLKIF_RSP_OKAY);
            for (unsigned s = 0; s < n; s++) {
                assert_memory_equal(block_fake_data(r->block) + 4000 * 512 + s * 4096, front_data(s), 4096);
            }
        }
        /* What makes no sense. */
        static const struct {
            uint8_t op;
            unsigned n;
            uint32_t ref;
        } bad[] = {{BLKIF_OP_READ, 0, FRONT_DATA_REF + 200},         {BLKIF_OP_READ, 65, FRONT_DATA_REF + 200},
                   {BLKIF_OP_READ, 65535, FRONT_DATA_REF + 200},     {BLKIF_OP_WRITE_BARRIER, 4, FRONT_DATA_REF + 200},
                   {BLKIF_OP_DISCARD, 4, FRONT_DATA_REF + 200},      {BLKIF_OP_INDIRECT, 4, FRONT_DATA_REF + 200},
                   {BLKIF_OP_READ, 4, 4095},                         {BLKIF_OP_READ, 4, UINT32_MAX}};
        for (size_t b = 0; b < sizeof(bad) / sizeof(bad[0]); b++) {
            front_indirect(&r->f, bad[b].op, b, 0, bad[b].ref, bad[b].n);
            front_push(&r->f);
            settle(r);
            assert_int_equal(answer(r, b, bad[b].op), BLKIF_RSP_ERROR);
        }
        front_write(DEV, "state", "6");
        settle(r);
        front_fini(&r->f);
        xf_store_rm("/local/domain/7");
        xf_store_rm("backend/qdisk/7");
        settle(r);
    }
    r->f.pages = NULL;
}

static void test_bad_requests(void **state)
{
    const struct blkseg good = {FRONT_DATA_REF, 0, 7};
    static const struct blkseg bad[] = {{FRONT_DATA_REF, 5, 4}, {FRONT_DATA_REF, 0, 8}, {FRONT_DATA_REF, 255, 255},
                                        {FRONT_DATA_REF, 8, 8}, {4095, 0, 7},           {UINT32_MAX, 0, 7}};
    static const uint64_t bad_sectors[] = {SECTORS - 7, SECTORS, UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 55};
    struct blkseg many[11];
    struct rig *r = *state;

    for (int persistent = 0; persistent < 2; persistent++) {
        connect_front(r, 0, false, persistent);
        for (uint8_t op = BLKIF_OP_READ; op <= BLKIF_OP_FLUSH_DISKCACHE; op++) {
            for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                for (unsigned at = 0; at < 11; at++) {
                    for (unsigned s = 0; s < 11; s++) {
                        many[s] = s == at ? bad[i] : good;
                    }
                    front_rw(&r->f, op, i, 0, many, 11);
                }
                front_push(&r->f);
                settle(r);
                for (unsigned at = 0; at < 11; at++) {
                    assert_int_equal(answer(r, i, op), BLKIF_RSP_ERROR);
                }
            }
            for (size_t i = 0; i < sizeof(bad_sectors) / sizeof(bad_sectors[0]); i++) {
                assert_int_equal(ask_page(r, op, bad_sectors[i], FRONT_DATA_REF), BLKIF_RSP_ERROR);
            }
            for (unsigned n = 12; n < 256; n += 61) {
                front_rw(&r->f, op, 5, 0, many, n);
                front_push(&r->f);
                settle(r);
                assert_int_equal(answer(r, 5, op), BLKIF_RSP_ERROR);
            }
        }
        for (uint8_t op = BLKIF_OP_READ; op <= BLKIF_OP_WRITE; op++) { /* no data at all */
            front_rw(&r->f, op, 5, 0, NULL, 0);
            front_push(&r->f);
            settle(r);
            assert_int_equal(answer(r, 5, op), BLKIF_RSP_ERROR);
        }
        for (unsigned op = 4; op < 256; op++) {
            if (op != BLKIF_OP_INDIRECT && op != BLKIF_OP_DISCARD) {
                assert_int_equal(ask_page(r, (uint8_t)op, 0, FRONT_DATA_REF), BLKIF_RSP_EOPNOTSUPP);
            }
        }
        assert_int_equal(block_fake_log(r->block)->writes, 0);
        /* A page that may not be written to. */
        xf.grant[FRONT_DATA_REF + 9].readonly = true;
        assert_int_equal(ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF + 9), BLKIF_RSP_ERROR);
        assert_int_equal(ask_page(r, BLKIF_OP_WRITE, 0, FRONT_DATA_REF + 9), BLKIF_RSP_OKAY);
        xf.grant[FRONT_DATA_REF + 9].readonly = false;
        /* The hypervisor fails. */
        xf.fail[XF_GRANT_COPY] = xf.fail[XF_GRANT_MAP] = ENOMEM;
        assert_int_equal(ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF + 10), BLKIF_RSP_ERROR);
        assert_int_equal(ask_page(r, BLKIF_OP_WRITE, 0, FRONT_DATA_REF + 10), BLKIF_RSP_ERROR);
        xf.fail[XF_GRANT_COPY] = xf.fail[XF_GRANT_MAP] = 0;
        assert_int_equal(ask_page(r, BLKIF_OP_READ, SECTORS - 8, FRONT_DATA_REF), BLKIF_RSP_OKAY);
        front_write(DEV, "state", "6");
        settle(r);
        front_fini(&r->f);
        xf_store_rm("/local/domain/7");
        xf_store_rm("backend/qdisk/7");
        settle(r);
    }
    r->f.pages = NULL;
}

static void test_errors(void **state)
{
    struct rig *r = *state;

    connect_front(r, 0, false, false);
    block_fake_fail(r->block, BLOCK_WRITE, 8 * 512, -ENOSPC);
    assert_int_equal(ask_page(r, BLKIF_OP_WRITE, 8, FRONT_DATA_REF), BLKIF_RSP_ERROR);
    assert_int_equal(ask_page(r, BLKIF_OP_WRITE, 16, FRONT_DATA_REF), BLKIF_RSP_OKAY);
    block_fake_fail(r->block, BLOCK_READ, 8 * 512, -EIO);
    memset(front_data(0), 0x77, XF_PAGE);
    assert_int_equal(ask_page(r, BLKIF_OP_READ, 8, FRONT_DATA_REF), BLKIF_RSP_ERROR);
    assert_int_equal(front_data(0)[0], 0x77); /* nothing of an old buffer */
    block_fake_fail(r->block, BLOCK_FLUSH, 0, -EIO);
    front_rw(&r->f, BLKIF_OP_FLUSH_DISKCACHE, 1, 0, NULL, 0);
    front_push(&r->f);
    settle(r);
    assert_int_equal(answer(r, 1, BLKIF_OP_FLUSH_DISKCACHE), BLKIF_RSP_ERROR);
    assert_int_equal(ask_page(r, BLKIF_OP_WRITE_BARRIER, 0, FRONT_DATA_REF), BLKIF_RSP_ERROR);
    block_fake_fail(r->block, BLOCK_DISCARD, 0, -EOPNOTSUPP);
    front_discard(&r->f, 2, 0, 8);
    front_push(&r->f);
    settle(r);
    assert_int_equal(answer(r, 2, BLKIF_OP_DISCARD), BLKIF_RSP_EOPNOTSUPP);
    block_fake_fail(r->block, BLOCK_READ, 0, 0);
    assert_int_equal(ask_page(r, BLKIF_OP_READ, 8, FRONT_DATA_REF), BLKIF_RSP_OKAY);
}

static void test_discard(void **state)
{
    struct rig *r = *state;
    static const struct {
        uint64_t sector, sectors;
        int status;
    } cases[] = {{16, 8, 0},      {0, SECTORS, 0},          {SECTORS, 0, 0},          {SECTORS, 1, -1},
                 {1, SECTORS, -1}, {1, UINT64_MAX, -1},      {UINT64_MAX, 2, -1},      {UINT64_C(1) << 60, UINT64_C(1) << 60, -1}};

    connect_front(r, 0, true, false);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        front_discard(&r->f, i, cases[i].sector, cases[i].sectors);
        front_push(&r->f);
        settle(r);
        assert_int_equal(answer(r, i, BLKIF_OP_DISCARD), cases[i].status);
    }
    assert_int_equal(block_fake_log(r->block)->discards, 2);
    disk(r, DEV)->discard = false;
    front_discard(&r->f, 9, 0, 8);
    front_push(&r->f);
    settle(r);
    assert_int_equal(answer(r, 9, BLKIF_OP_DISCARD), BLKIF_RSP_EOPNOTSUPP);
}

static void test_readonly(void **state)
{
    struct rig *r = *state;

    front_toolstack(DEV, r->params, "r", "disk");
    front_init(&r->f, DEV, 0, false, false);
    front_write(DEV, "state", "3");
    settle(r);
    for (uint8_t op = BLKIF_OP_WRITE; op <= BLKIF_OP_FLUSH_DISKCACHE; op++) {
        assert_int_equal(ask_page(r, op, 0, FRONT_DATA_REF), BLKIF_RSP_ERROR);
    }
    front_discard(&r->f, 1, 0, 8);
    front_rw(&r->f, BLKIF_OP_FLUSH_DISKCACHE, 2, 0, NULL, 0);
    front_push(&r->f);
    settle(r);
    assert_int_equal(answer(r, 1, BLKIF_OP_DISCARD), BLKIF_RSP_EOPNOTSUPP);
    assert_int_equal(answer(r, 2, BLKIF_OP_FLUSH_DISKCACHE), BLKIF_RSP_OKAY);
}

/* ---- order ---- */

/* A flush goes to the image as such, with data behind it if it has some. */
static void test_flush(void **state)
{
    struct rig *r = *state;
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};

    connect_front(r, 0, false, true);
    block_fake_hold(r->block, true);
    front_rw(&r->f, BLKIF_OP_FLUSH_DISKCACHE, 1, UINT64_MAX, NULL, 0);
    front_rw(&r->f, BLKIF_OP_FLUSH_DISKCACHE, 2, 8, &seg, 1);
    front_push(&r->f);
    settle(r);
    assert_false(any_answer(r));
    assert_int_equal(block_fake_waiting(r->block), 2);
    block_fake_run(r->block, 2);
    settle(r);
    assert_int_equal(answer(r, 1, BLKIF_OP_FLUSH_DISKCACHE), BLKIF_RSP_OKAY);
    assert_false(any_answer(r));
    assert_int_equal(block_fake_log(r->block)->flushes, 2);
    assert_int_equal(block_fake_run(r->block, 1), 1);
    settle(r);
    assert_int_equal(answer(r, 2, BLKIF_OP_FLUSH_DISKCACHE), BLKIF_RSP_OKAY);
    assert_int_equal(block_fake_log(r->block)->writes, 1);
}

/* A barrier: all before it is finished and flushed, it is on stable storage, and only then comes what is behind it. */
static void test_barrier(void **state)
{
    struct rig *r = *state;
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};

    connect_front(r, 0, false, false);
    for (unsigned empty = 0; empty < 2; empty++) {
        unsigned fua = block_fake_log(r->block)->fua;

        block_fake_hold(r->block, true);
        front_rw(&r->f, BLKIF_OP_WRITE, 1, 0, &seg, 1);
        front_rw(&r->f, BLKIF_OP_WRITE, 2, 8, &seg, 1);
        front_rw(&r->f, BLKIF_OP_WRITE_BARRIER, 3, 16, &seg, 1 - empty);
        front_rw(&r->f, BLKIF_OP_READ, 4, 24, &seg, 1);
        front_push(&r->f);
        settle(r);
        assert_int_equal(block_fake_waiting(r->block), 2);
        block_fake_run(r->block, 1);
        settle(r);
        assert_int_equal(answer(r, 1, BLKIF_OP_WRITE), BLKIF_RSP_OKAY);
        assert_int_equal(block_fake_waiting(r->block), 1);
        block_fake_run(r->block, 1);
        settle(r);
        assert_int_equal(answer(r, 2, BLKIF_OP_WRITE), BLKIF_RSP_OKAY);
        assert_int_equal(block_fake_waiting(r->block), 1); /* the flush */
        block_fake_run(r->block, 1);
        settle(r);
        if (!empty) {
            assert_false(any_answer(r));
            assert_int_equal(block_fake_run(r->block, 1), 1);
            settle(r);
        }
        assert_int_equal(block_fake_log(r->block)->fua, fua + 1 - empty);
        assert_int_equal(answer(r, 3, BLKIF_OP_WRITE_BARRIER), BLKIF_RSP_OKAY);
        assert_int_equal(block_fake_run(r->block, 9), 1);
        settle(r);
        assert_int_equal(answer(r, 4, BLKIF_OP_READ), BLKIF_RSP_OKAY);
        block_fake_hold(r->block, false);
        assert_int_equal(ask_page(r, BLKIF_OP_WRITE_BARRIER, 0, FRONT_DATA_REF), BLKIF_RSP_OKAY); /* alone */
    }
}

/* The ring holds more than is taken at once; all of it is answered, and what is in flight has a bound. */
static void test_depth(void **state)
{
    struct rig *r = *state;
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};
    unsigned notified, answered = 0;

    connect_front(r, 4, false, false);
    assert_int_equal(r->f.entries, 512);
    block_fake_hold(r->block, true);
    for (unsigned i = 0; i < 512; i++) {
        front_rw(&r->f, BLKIF_OP_READ, i, 0, &seg, 1);
    }
    assert_true(front_push(&r->f));
    settle(r);
    assert_int_equal(block_fake_waiting(r->block), QDISK_DEPTH);
    notified = xf.notified;
    for (unsigned done = 0; done < 512;) {
        unsigned n = block_fake_run(r->block, 7);

        assert_true(n > 0);
        done += n;
        settle(r);
        for (; answered < done; answered++) {
            assert_int_equal(answer(r, answered, BLKIF_OP_READ), BLKIF_RSP_OKAY);
        }
        assert_false(any_answer(r));
    }
    assert_int_equal(xf.notified - notified, (512 + 6) / 7); /* one for those that complete together */
    front_rw(&r->f, BLKIF_OP_READ, 1, 0, &seg, 1);
    assert_true(front_push(&r->f)); /* it is awaited again */
}

/* Answers that come inside block_submit(): one look at the ring takes a bounded number, the rest follows by itself. */
static void test_turns(void **state)
{
    struct rig *r = *state;
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};
    unsigned notified;

    connect_front(r, 4, false, true);
    notified = xf.notified;
    for (unsigned i = 0; i < 512; i++) {
        front_rw(&r->f, BLKIF_OP_READ, i, 0, &seg, 1);
    }
    front_push(&r->f);
    qdisk_event(disk(r, DEV));
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(answer(r, i, BLKIF_OP_READ), BLKIF_RSP_OKAY);
    }
    assert_false(any_answer(r));
    settle(r);
    for (unsigned i = 32; i < 512; i++) {
        assert_int_equal(answer(r, i, BLKIF_OP_READ), BLKIF_RSP_OKAY);
    }
    assert_true(xf.notified - notified <= 16);
}

/* No event but those that the other side asked for. */
static void test_notifications(void **state)
{
    struct rig *r = *state;
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};
    unsigned notified;

    connect_front(r, 0, false, false);
    notified = xf.notified;
    for (unsigned i = 0; i < 10; i++) {
        front_rw(&r->f, BLKIF_OP_READ, i, 0, &seg, 1);
    }
    front_push(&r->f);
    settle(r);
    assert_int_equal(xf.notified, notified + 1);
    front_rw(&r->f, BLKIF_OP_READ, 10, 0, &seg, 1);
    front_push(&r->f);
    settle(r);
    assert_int_equal(xf.notified, notified + 1); /* rsp_event is behind: it has not looked yet */
    for (unsigned i = 0; i < 11; i++) {
        assert_int_equal(answer(r, i, BLKIF_OP_READ), BLKIF_RSP_OKAY);
    }
    assert_false(any_answer(r));
    xf_raise_port(r->f.port); /* for nothing */
    xf_raise_port(r->f.port);
    settle(r);
    assert_int_equal(xf.notified, notified + 1);
}

/* ---- hostile frontends ---- */

static void wild_index(struct rig *r, uint32_t prod)
{
    *(uint32_t *)(void *)r->f.pages = prod;
    xf_raise_port(r->f.port);
    settle(r);
}

static void test_wild_indexes(void **state)
{
    static const int32_t wild[] = {33, 34, 1000, INT32_MAX, INT32_MIN, -1, -33};
    struct rig *r = *state;
    struct blkfront other;
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};

    front_toolstack(OTHER, r->params, "w", "disk");
    front_init(&other, OTHER, 0, false, false);
    front_write(OTHER, "state", "3");
    for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
        connect_front(r, 0, false, true);
        assert_int_equal(ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF), BLKIF_RSP_OKAY);
        if (i & 1) {
            block_fake_hold(r->block, true); /* with something in flight */
            front_rw(&r->f, BLKIF_OP_READ, 5, 0, &seg, 1);
            front_push(&r->f);
            settle(r);
        }
        wild_index(r, r->f.req_prod - (uint32_t)(i & 1) + (uint32_t)wild[i]);
        if (i & 1) {
            assert_int_equal(block_fake_run(r->block, 100), 1);
            settle(r);
        }
        assert_int_equal(back_state(DEV), 6);
        assert_int_equal(xf.ports_bound, 1); /* the other one's */
        assert_int_equal(xf.granted_maps, 1);
        front_fini(&r->f);
        front_write(DEV, "state", "6");
        settle(r);
        xf_store_rm("backend/qdisk/7/51712");
        settle(r);
    }
    r->f = other;
    assert_int_equal(ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF), BLKIF_RSP_OKAY);
}

/* The index goes back while requests are in flight. */
static void test_index_goes_back(void **state)
{
    struct rig *r = *state;
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};

    connect_front(r, 0, false, false);
    block_fake_hold(r->block, true);
    for (unsigned i = 0; i < 4; i++) {
        front_rw(&r->f, BLKIF_OP_READ, i, 0, &seg, 1);
    }
    front_push(&r->f);
    settle(r);
    wild_index(r, 2);
    assert_int_equal(block_fake_waiting(r->block), 4);
    block_fake_run(r->block, 4);
    settle(r);
    assert_int_equal(back_state(DEV), 6);
    assert_int_equal(xf.ports_bound + xf.granted_maps, 0);
}

/* A frontend that takes a ring over that has been in use. */
static void test_ring_in_use(void **state)
{
    struct rig *r = *state;

    front_toolstack(DEV, r->params, "w", "disk");
    front_init(&r->f, DEV, 0, false, false);
    r->f.req_prod = r->f.rsp_cons = 0xfffffff0;
    uint32_t start[4] = {0xfffffff0, 0xfffffff1, 0xfffffff0, 0xfffffff1};
    memcpy(r->f.pages, start, sizeof(start));
    front_write(DEV, "state", "3");
    settle(r);
    for (unsigned i = 0; i < 40; i++) { /* over the end of the numbers */
        assert_int_equal(ask_page(r, BLKIF_OP_READ, i, FRONT_DATA_REF), BLKIF_RSP_OKAY);
    }
}

/* The guest takes its ring page away under us: Xen keeps ours; the disk goes on for as long as it likes. */
static void test_states_of_nonsense(void **state)
{
    static const char *const states[] = {"7", "8", "9", "0", "-1", "", "x", "4294967300", "44", "3 "};
    struct rig *r = *state;

    connect_front(r, 0, false, false);
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        front_write(DEV, "state", states[i]);
        settle(r);
        front_write(DEV, "state", "1");
        settle(r);
        assert_int_equal(back_state(DEV), 2);
        front_write(DEV, "state", "4");
        settle(r);
        assert_int_equal(back_state(DEV), 4);
    }
    for (unsigned i = 0; i < 500; i++) { /* as fast as it can */
        front_write(DEV, "state", i % 2 ? "4" : "2");
    }
    settle(r);
    assert_int_equal(back_state(DEV), 4);
}

/* ---- pages that stay mapped ---- */

static void test_persistent(void **state)
{
    struct rig *r = *state;
    unsigned maps, copies;

    connect_front(r, 0, false, true);
    for (unsigned i = 0; i < 352; i++) {
        assert_int_equal(ask_page(r, i % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE, i, FRONT_DATA_REF + i), BLKIF_RSP_OKAY);
    }
    assert_int_equal(xf.granted_maps, 1 + 352);
    maps = xf.grant_map_calls;
    copies = xf.grant_copy_calls;
    for (unsigned i = 0; i < 352; i++) {
        assert_int_equal(ask_page(r, i % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE, i, FRONT_DATA_REF + i), BLKIF_RSP_OKAY);
    }
    assert_int_equal(xf.grant_map_calls, maps);
    assert_int_equal(xf.grant_copy_calls, copies);
    /* More than are kept: those used least recently go. */
    for (unsigned i = 352; i < 2000; i++) {
        assert_int_equal(ask_page(r, BLKIF_OP_READ, i, FRONT_DATA_REF + i), BLKIF_RSP_OKAY);
        assert_int_equal(ask_page(r, BLKIF_OP_READ, i, FRONT_DATA_REF + 5), BLKIF_RSP_OKAY);
        assert_true(xf.granted_maps <= 1 + QDISK_GRANTS);
    }
    assert_int_equal(xf.granted_maps, 1 + QDISK_GRANTS);
    maps = xf.grant_map_calls;
    ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF + 5);
    ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF + 1999);
    ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF + 1999 - 1000);
    assert_int_equal(xf.grant_map_calls, maps);
    ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF + 6);
    assert_int_equal(xf.grant_map_calls, maps + 1);
    assert_int_equal(xf.grant_copy_calls, copies);
}

/* When nothing more can be mapped, data is copied. */
static void test_persistent_falls_back(void **state)
{
    struct rig *r = *state;

    connect_front(r, 0, false, true);
    assert_int_equal(ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF), BLKIF_RSP_OKAY);
    xf.fail[XF_GRANT_MAP] = ENOMEM;
    fill(1, 9);
    assert_int_equal(ask_page(r, BLKIF_OP_WRITE, 8, FRONT_DATA_REF + 1), BLKIF_RSP_OKAY);
    assert_memory_equal(block_fake_data(r->block) + 4096, front_data(1), 4096);
    assert_int_equal(xf.grant_copy_calls, 1);
    assert_int_equal(ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF), BLKIF_RSP_OKAY);
    assert_int_equal(xf.grant_copy_calls, 1);
}

/* ---- media, stop ---- */

static void test_medium(void **state)
{
    struct rig *r = *state;
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};
    char second[64], params[80], err[8];
    struct pv_disk info;

    (void)err;
    make_image(second, 3 << 20);
    snprintf(params, sizeof(params), "aio:%s", second);
    front_toolstack(CD, "aio:", "r", "cdrom");
    front_init(&r->f, CD, 0, false, false);
    front_write(CD, "state", "3");
    settle(r);
    assert_int_equal(back_state(CD), 4);
    assert_string_equal(back_read(CD, "sectors"), "0");
    assert_int_equal(ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF), BLKIF_RSP_ERROR);
    back_write(CD, "params", params);
    settle(r);
    assert_string_equal(back_read(CD, "sectors"), "6144");
    assert_int_equal(back_state(CD), 4);
    /* While a request is in flight. */
    block_close(disk(r, CD)->block);
    r->block = disk(r, CD)->block = block_fake_create(r->loop, IMAGE_BYTES, true);
    block_fake_hold(r->block, true);
    front_rw(&r->f, BLKIF_OP_READ, 1, 0, &seg, 1);
    front_push(&r->f);
    settle(r);
    back_write(CD, "params", r->params);
    settle(r);
    front_rw(&r->f, BLKIF_OP_READ, 2, 6144, &seg, 1); /* of the new one */
    front_push(&r->f);
    settle(r);
    assert_string_equal(back_read(CD, "sectors"), "6144");
    assert_int_equal(block_fake_waiting(r->block), 1);
    block_fake_run(r->block, 1);
    settle(r);
    assert_string_equal(back_read(CD, "sectors"), "16384");
    assert_int_equal(answer(r, 1, BLKIF_OP_READ), BLKIF_RSP_OKAY);
    assert_int_equal(answer(r, 2, BLKIF_OP_READ), BLKIF_RSP_OKAY);
    assert_true(pv_disk(r->pv, 0, &info));
    assert_string_equal(info.path, r->image);
    /* Nothing that can be opened, then nothing, then the same again. */
    back_write(CD, "params", "aio:/nonexistent");
    settle(r);
    assert_string_equal(back_read(CD, "sectors"), "0");
    back_write(CD, "params", "aio:");
    settle(r);
    assert_string_equal(back_read(CD, "sectors"), "0");
    assert_int_equal(ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF), BLKIF_RSP_ERROR);
    back_write(CD, "params", r->params);
    settle(r);
    assert_int_equal(ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF), BLKIF_RSP_OKAY);
    unlink(second);
}

/* Media that change while no frontend is there cost nothing. */
static void test_medium_idle(void **state)
{
    struct rig *r = *state;

    front_toolstack(CD, "aio:/nonexistent", "r", "cdrom");
    settle(r);
    back_write(CD, "params", r->params);
    settle(r);
    assert_null(disk(r, CD)->block);
    front_init(&r->f, CD, 0, false, false);
    front_write(CD, "state", "3");
    settle(r);
    assert_string_equal(back_read(CD, "sectors"), "16384");
}

static void test_stop(void **state)
{
    struct rig *r = *state;
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};

    connect_front(r, 0, false, false);
    block_fake_hold(r->block, true);
    front_rw(&r->f, BLKIF_OP_WRITE, 1, 0, &seg, 1);
    front_rw(&r->f, BLKIF_OP_WRITE_BARRIER, 2, 0, &seg, 1);
    front_push(&r->f);
    settle(r);
    pv_set_running(r->pv, false); /* what has been taken is finished here */
    assert_int_equal(answer(r, 1, BLKIF_OP_WRITE), BLKIF_RSP_OKAY);
    assert_int_equal(answer(r, 2, BLKIF_OP_WRITE_BARRIER), BLKIF_RSP_OKAY);
    assert_true(block_fake_log(r->block)->syncs > 0);
    block_fake_hold(r->block, false);
    front_rw(&r->f, BLKIF_OP_READ, 3, 0, &seg, 1);
    front_push(&r->f);
    settle(r);
    assert_false(any_answer(r));
    pv_set_running(r->pv, true);
    settle(r);
    assert_int_equal(answer(r, 3, BLKIF_OP_READ), BLKIF_RSP_OKAY);
}

/* On a real image, with its threads. */
static void test_raw_image(void **state)
{
    struct rig *r = *state;

    front_toolstack(DEV, r->params, "w", "disk");
    front_init(&r->f, DEV, 0, false, true);
    front_write(DEV, "state", "3");
    settle(r);
    fill(0, 1);
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};
    uint64_t id;
    uint8_t op;
    int status;
    unsigned answers = 0;
    front_rw(&r->f, BLKIF_OP_WRITE, 1, 8, &seg, 1);
    front_rw(&r->f, BLKIF_OP_FLUSH_DISKCACHE, 2, 0, NULL, 0);
    front_rw(&r->f, BLKIF_OP_WRITE_BARRIER, 3, 16, &seg, 1);
    front_discard(&r->f, 4, 64, 8);
    front_push(&r->f);
    while (answers < 4) {
        loop_poll(r->loop, 1000000);
        while (front_take(&r->f, &id, &op, &status)) {
            assert_int_equal(status, BLKIF_RSP_OKAY);
            answers++;
        }
    }
    uint8_t page[XF_PAGE];
    FILE *f = fopen(r->image, "rb");
    for (long at = 4096; at <= 8192; at += 4096) {
        fseek(f, at, SEEK_SET);
        assert_int_equal(fread(page, 1, XF_PAGE, f), XF_PAGE);
        assert_memory_equal(page, front_data(0), XF_PAGE);
    }
    fclose(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_offer), TEST(test_kinds), TEST(test_not_ours), TEST(test_scan), TEST(test_connect), TEST(test_front_first),
        TEST(test_connect_fails), TEST(test_single_page_names), TEST(test_image_missing), TEST(test_detach),
        TEST(test_vanishes_in_flight), TEST(test_end_in_flight), TEST(test_store_fails), TEST(test_create_fails),
        TEST(test_transfers), TEST(test_indirect), TEST(test_bad_requests), TEST(test_errors), TEST(test_discard),
        TEST(test_readonly), TEST(test_flush), TEST(test_barrier), TEST(test_depth), TEST(test_turns),
        TEST(test_notifications), TEST(test_wild_indexes), TEST(test_index_goes_back), TEST(test_ring_in_use),
        TEST(test_states_of_nonsense), TEST(test_persistent), TEST(test_persistent_falls_back), TEST(test_medium),
        TEST(test_medium_idle), TEST(test_stop), TEST(test_raw_image),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
