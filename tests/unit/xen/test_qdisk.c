/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PV disks: xenstore nodes and states, images, media, stop and end. */
#include "tests/unit/xen/qdisk_rig.h"

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
    assert_int_equal(xf.handles, 1); /* xenstore; no device until a frontend connects */
}

static void test_kinds(void **state)
{
    static const struct {
        const char *mode, *type, *discard, *removable;
        const char *info;
        bool discards;
    } cases[] = {
        {"w", "disk", "0", "0", "0", false},       {"r", "disk", "1", "0", "4", false},
        {"r", "cdrom", "1", "1", "5", false},      {"w", "cdrom", "1", "1", "5", false},
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
        {"ring-ref", "garbage", 0, 0},
        {"ring-ref", "-1", 0, 0},
        {"ring-ref", "", 0, 0},
        {"ring-ref", "4294967295", 0, 0},
        {"ring-ref", "4000", 0, 0},
        {"ring-ref", "99999999999999999999999", 0, 0},
        {"ring-page-order", "1", 0, 0},
        {"ring-page-order", "5", 0, 0},
        {"ring-page-order", "31", 0, 0},
        {"ring-page-order", "x", 0, 0},
        {"event-channel", "0", 0, 0},
        {"event-channel", "x", 0, 0},
        {"event-channel", "4294967295", 0, 0},
        {"protocol", "arm-abi", 0, 0},
        {"protocol", "", 0, 0},
        {NULL, NULL, XF_GRANT_MAP, ENOMEM},
        {NULL, NULL, XF_BIND, ENOSPC},
        {NULL, NULL, XF_OPEN, ENOENT},
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
    static const char *const params[] = {"aio:/nonexistent/image", "aio:", "", "nosuch:/x",
                                         "aio:/tmp"};
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
    xf.watches =
        0; /* the fake has one connection: the second one's end took the first one's watches along */
}

/* The guest takes its ring page away under us: Xen keeps ours; the disk goes on for as long as it likes. */
static void test_states_of_nonsense(void **state)
{
    static const char *const states[] = {"7", "8", "9",          "0",  "-1",
                                         "",  "x", "4294967300", "44", "3 "};
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_offer),
        TEST(test_kinds),
        TEST(test_not_ours),
        TEST(test_scan),
        TEST(test_connect),
        TEST(test_front_first),
        TEST(test_connect_fails),
        TEST(test_single_page_names),
        TEST(test_image_missing),
        TEST(test_detach),
        TEST(test_vanishes_in_flight),
        TEST(test_end_in_flight),
        TEST(test_store_fails),
        TEST(test_create_fails),
        TEST(test_states_of_nonsense),
        TEST(test_medium),
        TEST(test_medium_idle),
        TEST(test_stop),
        TEST(test_raw_image),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
