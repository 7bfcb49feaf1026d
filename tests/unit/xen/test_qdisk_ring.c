/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PV disks: rings, requests, hostile frontends, pages that stay mapped. */
#include "tests/unit/xen/qdisk_rig.h"

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
            struct blkseg w[] = {{FRONT_DATA_REF + n % 60, 3, 5},
                                 {FRONT_DATA_REF + n % 60 + 1, 0, 7},
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
                assert_memory_equal(block_fake_data(r->block) + 4000 * 512 + s * 4096,
                                    front_data(s), 4096);
                memset(front_data(s), 0, XF_PAGE);
            }
            front_indirect(&r->f, BLKIF_OP_READ, n, 4000, FRONT_DATA_REF + 200, n);
            front_push(&r->f);
            settle(r);
            assert_int_equal(answer(r, n, BLKIF_OP_READ), BLKIF_RSP_OKAY);
            for (unsigned s = 0; s < n; s++) {
                assert_memory_equal(block_fake_data(r->block) + 4000 * 512 + s * 4096,
                                    front_data(s), 4096);
            }
        }
        /* What makes no sense. */
        static const struct {
            uint8_t op;
            unsigned n;
            uint32_t ref;
        } bad[] = {{BLKIF_OP_READ, 0, FRONT_DATA_REF + 200},
                   {BLKIF_OP_READ, 65, FRONT_DATA_REF + 200},
                   {BLKIF_OP_READ, 65535, FRONT_DATA_REF + 200},
                   {BLKIF_OP_WRITE_BARRIER, 4, FRONT_DATA_REF + 200},
                   {BLKIF_OP_DISCARD, 4, FRONT_DATA_REF + 200},
                   {BLKIF_OP_INDIRECT, 4, FRONT_DATA_REF + 200},
                   {BLKIF_OP_READ, 4, 4095},
                   {BLKIF_OP_READ, 4, UINT32_MAX}};
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
    static const struct blkseg bad[] = {
        {FRONT_DATA_REF, 5, 4}, {FRONT_DATA_REF, 0, 8}, {FRONT_DATA_REF, 255, 255},
        {FRONT_DATA_REF, 8, 8}, {4095, 0, 7},           {UINT32_MAX, 0, 7}};
    static const uint64_t bad_sectors[] = {SECTORS - 7, SECTORS, UINT64_MAX, UINT64_MAX - 7,
                                           UINT64_C(1) << 55};
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
    } cases[] = {{16, 8, 0},          {0, SECTORS, 0},
                 {SECTORS, 0, 0},     {SECTORS, 1, -1},
                 {1, SECTORS, -1},    {1, UINT64_MAX, -1},
                 {UINT64_MAX, 2, -1}, {UINT64_C(1) << 60, UINT64_C(1) << 60, -1}};

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
        assert_int_equal(ask_page(r, BLKIF_OP_WRITE_BARRIER, 0, FRONT_DATA_REF),
                         BLKIF_RSP_OKAY); /* alone */
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
    assert_int_equal(xf.notified - notified,
                     (512 + 6) / 7); /* one for those that complete together */
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

/* ---- requests that follow at once ---- */

bool __real_loop_work_waits(const struct loop *loop);
bool __wrap_loop_work_waits(const struct loop *loop);

/* A guest that asks for the next page when it has got one: when it is told, or, as if it ran on
 * another CPU, at our n-th look. */
static struct {
    struct rig *r;
    unsigned left;     /* requests to come */
    unsigned answered; /* ... all of them good */
    unsigned told;     /* times that the backend wanted an event */
    unsigned looks, at_look; /* 0: when it is told */
    bool got;
} next;

static void ask_next(void)
{
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};

    if (next.left > 0) {
        next.left--;
        front_rw(&next.r->f, BLKIF_OP_READ, 5, 0, &seg, 1);
        next.told += front_push(&next.r->f);
    }
}

static void on_port(uint32_t port)
{
    uint64_t id;
    uint8_t op;
    int status;

    if (next.r == NULL || port != next.r->f.port) {
        return;
    }
    while (front_take(&next.r->f, &id, &op, &status)) {
        next.answered += status == BLKIF_RSP_OKAY;
    }
    next.looks = 0;
    next.got = true;
    if (next.at_look == 0) {
        ask_next();
    }
}

bool __wrap_loop_work_waits(const struct loop *loop)
{
    if (next.r != NULL && next.got && ++next.looks == next.at_look) {
        next.got = false;
        ask_next();
    }
    return __real_loop_work_waits(loop);
}

static void run_next(struct rig *r, unsigned n, unsigned at_look)
{
    memset(&next, 0, sizeof(next));
    next.r = r;
    next.left = n;
    next.at_look = at_look;
    xf.on_port = on_port;
    ask_next();
    settle(r);
    xf.on_port = NULL;
    next.r = NULL;
}

/* After looking in vain the next chance is passed over: this one. */
static void pass_over(struct rig *r)
{
    assert_int_equal(ask_page(r, BLKIF_OP_READ, 0, FRONT_DATA_REF), BLKIF_RSP_OKAY);
    assert_false(any_answer(r)); /* asks for the next event */
}

/* While requests follow each other quickly, no event is asked for; before we sleep, one is. */
static void test_followers(void **state)
{
    struct rig *r = *state;

    connect_front(r, 0, false, true);
    run_next(r, 200, 0);
    assert_int_equal(next.answered, 200);
    assert_int_equal(next.told, 1);
    pass_over(r);
    run_next(r, 200, 3);
    assert_int_equal(next.answered, 200);
    assert_int_equal(next.told, 1);
    pass_over(r);
    run_next(r, 2, 10000); /* nobody waits so long */
    assert_int_equal(next.answered, 1);
    assert_int_equal(next.left, 1);
    pass_over(r);
}

/* With something under way, or other work in the loop, we do not look. */
static void test_no_look(void **state)
{
    struct rig *r = *state;
    const struct blkseg seg = {FRONT_DATA_REF, 0, 7};

    connect_front(r, 0, false, true);
    block_fake_hold(r->block, true);
    memset(&next, 0, sizeof(next));
    next.r = r;
    next.got = true;
    front_rw(&r->f, BLKIF_OP_READ, 1, 0, &seg, 1);
    front_push(&r->f);
    settle(r);
    assert_int_equal(next.looks, 0);
    block_fake_run(r->block, 1);
    block_fake_hold(r->block, false);
    settle(r);
    assert_int_equal(answer(r, 1, BLKIF_OP_READ), BLKIF_RSP_OKAY);
    bottom_half_schedule(&disk(r, DEV)->work);
    front_rw(&r->f, BLKIF_OP_READ, 2, 0, &seg, 1);
    front_push(&r->f);
    next.looks = 0;
    qdisk_event(disk(r, DEV));
    assert_int_equal(next.looks, 1);
    settle(r);
    assert_int_equal(answer(r, 2, BLKIF_OP_READ), BLKIF_RSP_OKAY);
    next.r = NULL;
}

static void test_look_learns(void **state)
{
    struct qdisk_look look = {0};

    (void)state;
    for (unsigned skip = 1; skip <= 3 * 256; skip = skip * 2 + 1) {
        assert_true(qdisk_look_pays(&look));
        qdisk_look_learn(&look, false);
        for (unsigned i = 0; i < (skip < 255 ? skip : 255); i++) {
            assert_false(qdisk_look_pays(&look));
        }
    }
    assert_true(qdisk_look_pays(&look));
    qdisk_look_learn(&look, true);
    assert_true(qdisk_look_pays(&look));
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

/* ---- pages that stay mapped ---- */

static void test_persistent(void **state)
{
    struct rig *r = *state;
    unsigned maps, copies;

    connect_front(r, 0, false, true);
    for (unsigned i = 0; i < 352; i++) {
        assert_int_equal(ask_page(r, i % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE, i, FRONT_DATA_REF + i),
                         BLKIF_RSP_OKAY);
    }
    assert_int_equal(xf.granted_maps, 1 + 352);
    maps = xf.grant_map_calls;
    copies = xf.grant_copy_calls;
    for (unsigned i = 0; i < 352; i++) {
        assert_int_equal(ask_page(r, i % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE, i, FRONT_DATA_REF + i),
                         BLKIF_RSP_OKAY);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_transfers),       TEST(test_indirect),
        TEST(test_bad_requests),    TEST(test_errors),
        TEST(test_discard),         TEST(test_readonly),
        TEST(test_flush),           TEST(test_barrier),
        TEST(test_depth),           TEST(test_turns),
        TEST(test_notifications),   TEST(test_followers),
        TEST(test_no_look),         TEST(test_look_learns),
        TEST(test_wild_indexes),
        TEST(test_index_goes_back), TEST(test_ring_in_use),
        TEST(test_persistent),      TEST(test_persistent_falls_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
