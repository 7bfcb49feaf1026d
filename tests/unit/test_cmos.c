/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "hw/cmos.h"
#include "tests/unit/harness.h"

static uint8_t rd(struct harness *h, uint8_t index)
{
    harness_out(h, 0x70, 1, index);
    return (uint8_t)harness_in(h, 0x71, 1);
}

static void wr(struct harness *h, uint8_t index, uint8_t value)
{
    harness_out(h, 0x70, 1, index);
    harness_out(h, 0x71, 1, value);
}

static struct harness *make(const struct cmos_config *cfg)
{
    struct harness *h = harness_create();

    assert_int_equal(cmos_create(&h->board, cfg, NULL), 0);
    return h;
}

struct expected {
    uint8_t index, value;
};

/* All bytes 14..127 that are not in the table (ended by index 0) are 0. */
static void expect_all(struct harness *h, const struct expected *table)
{
    for (unsigned i = 14; i < 128; i++) {
        uint8_t want = 0;

        for (const struct expected *e = table; e->index != 0; e++) {
            want = e->index == i ? e->value : want;
        }
        assert_int_equal(rd(h, (uint8_t)i), want);
    }
    harness_destroy(h);
}

#define GIB(n) (UINT64_C(n) << 30)
#define MIB(n) (UINT64_C(n) << 20)

/* As measured on xen-qemu-system-i386 7.2. */
static void test_plain_guest(void **state)
{
    static const struct expected table[] = {
        {0x14, 0x06}, {0x15, 0x80}, {0x16, 0x02}, {0x17, 0xff}, {0x18, 0xff}, {0x30, 0xff}, {0x31, 0xff},
        {0x32, 0x20}, {0x35, 0x0f}, {0x37, 0x20}, {0x38, 0x30}, {0x3d, 0x12}, {0, 0},
    };

    (void)state;
    expect_all(make(&(struct cmos_config){.ram_below_4g_bytes = MIB(256), .boot = "cad"}), table);
}

static void test_memory(void **state)
{
    static const struct {
        uint64_t below, above;
        uint16_t ext, ext16;
        uint32_t high;
    } table[] = {
        {MIB(1), 0, 0, 0, 0},
        {MIB(8), 0, 0x1c00, 0, 0},
        {MIB(16), 0, 0x3c00, 0, 0},
        {MIB(17), 0, 0x4000, 0x0010, 0},
        {MIB(64), 0, 0xfc00, 0x0300, 0},
        {MIB(65), 0, 0xffff, 0x0310, 0},
        {MIB(2048), 0, 0xffff, 0x7f00, 0},
        {MIB(3840), MIB(256), 0xffff, 0xef00, 0x1000},
        {MIB(3840), GIB(60), 0xffff, 0xef00, 0x0f0000},
        {MIB(3840), GIB(4096), 0xffff, 0xef00, 0xffffff},
        {0, 0, 0, 0, 0},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct harness *h =
            make(&(struct cmos_config){.ram_below_4g_bytes = table[i].below, .ram_above_4g_bytes = table[i].above});

        assert_int_equal(rd(h, 0x15) | rd(h, 0x16) << 8, 640);
        assert_int_equal(rd(h, 0x17) | rd(h, 0x18) << 8, table[i].ext);
        assert_int_equal(rd(h, 0x30) | rd(h, 0x31) << 8, table[i].ext);
        assert_int_equal(rd(h, 0x34) | rd(h, 0x35) << 8, table[i].ext16);
        assert_int_equal(rd(h, 0x5b) | rd(h, 0x5c) << 8 | rd(h, 0x5d) << 16, table[i].high);
        harness_destroy(h);
    }
}

static void test_boot_order(void **state)
{
    static const struct {
        const char *order;
        uint8_t byte38, byte3d;
    } good[] = {
        {"a", 0, 0x01},  {"c", 0, 0x02},      {"d", 0, 0x03},      {"n", 0, 0x04},      {"dc", 0, 0x23},
        {"ca", 0, 0x12}, {"acd", 0x30, 0x21}, {"cdn", 0x40, 0x32}, {"ndc", 0x20, 0x34}, {"", 0, 0},
    };
    static const char *const bad[] = {"x", "cx", "acdn", "C", " ", "c,d", "aaaaaaaaaaaaaaaaaaaaaa"};

    (void)state;
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct harness *h = make(&(struct cmos_config){.boot = good[i].order});

        assert_int_equal(rd(h, 0x38), good[i].byte38);
        assert_int_equal(rd(h, 0x3d), good[i].byte3d);
        harness_destroy(h);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct harness *h = harness_create();

        assert_int_equal(cmos_create(&h->board, &(struct cmos_config){.boot = bad[i]}, NULL), -EINVAL);
        assert_int_equal(harness_in(h, 0x71, 1), 0xff); /* nothing left behind */
        assert_int_equal(h->plat.map_calls, h->plat.unmap_calls);
        harness_destroy(h);
    }
}

static void test_one_disk(void **state)
{
    static const struct expected table[] = {
        {0x12, 0xf0}, {0x14, 0x06}, {0x15, 0x80}, {0x16, 0x02}, {0x19, 0x2f}, {0x1b, 0x20}, {0x1c, 0x08},
        {0x1d, 0x10}, {0x1e, 0xff}, {0x1f, 0xff}, {0x20, 0xc8}, {0x21, 0x20}, {0x22, 0x08}, {0x23, 0x3f},
        {0x32, 0x20}, {0x37, 0x20}, {0x39, 0x01}, {0, 0},
    };

    (void)state;
    expect_all(make(&(struct cmos_config){.disks = {{2080, 16, 63}}}), table); /* 1 GiB */
}

static void test_two_disks(void **state)
{
    static const struct expected table[] = {
        {0x12, 0xff}, {0x14, 0x06}, {0x15, 0x80}, {0x16, 0x02}, {0x19, 0x2f}, {0x1a, 0x2f}, {0x1b, 0xff},
        {0x1c, 0x3f}, {0x1d, 0x10}, {0x1e, 0xff}, {0x1f, 0xff}, {0x20, 0xc8}, {0x21, 0xff}, {0x22, 0x3f},
        {0x23, 0x3f}, {0x24, 0x82}, {0x26, 0x08}, {0x27, 0xff}, {0x28, 0xff}, {0x29, 0xc0}, {0x2a, 0x82},
        {0x2c, 0x3f}, {0x32, 0x20}, {0x37, 0x20}, {0x39, 0x41}, {0, 0},
    };

    (void)state;
    expect_all(make(&(struct cmos_config){.disks = {{16383, 16, 63}, {130, 8, 63}, {1024, 16, 63}, {1025, 16, 63}}}),
               table);
}

static void test_access(void **state)
{
    struct harness *h = harness_create();
    struct cmos *c = NULL;

    (void)state;
    assert_int_equal(cmos_create(&h->board, &(struct cmos_config){.boot = "d"}, &c), 0);
    assert_non_null(c);
    assert_int_equal(harness_in(h, 0x70, 1), 0xff);
    for (unsigned i = 0; i < 128; i++) {
        wr(h, (uint8_t)i, (uint8_t)(i + 0x40));
    }
    for (unsigned i = 0; i < 128; i++) { /* Xen's own bytes do not exist here */
        assert_int_equal(rd(h, (uint8_t)i), i < 14 ? 0 : (i + 0x40) & 0xff);
        assert_int_equal(rd(h, (uint8_t)(i | 0x80)), i < 14 ? 0 : (i + 0x40) & 0xff); /* NMI mask */
    }
    harness_out(h, 0x70, 2, 0x5a20); /* index and data in one access */
    assert_int_equal(rd(h, 0x20), 0x5a);
    cmos_set(c, CMOS_SHUTDOWN, CMOS_SHUTDOWN_S3_RESUME);
    cmos_set(c, 13, 1);
    cmos_set(c, 128, 1);
    cmos_set(c, 0xffffffff, 1);
    assert_int_equal(rd(h, 13), 0);
    board_reset(&h->board); /* battery backed */
    assert_int_equal(rd(h, 0x0f), 0xfe);
    assert_int_equal(rd(h, 0x20), 0x5a);
    harness_destroy(h);
}

static void test_save(void **state)
{
    struct harness *a = make(&(struct cmos_config){.boot = "c", .ram_below_4g_bytes = MIB(64)});
    struct harness *b = make(&(struct cmos_config){.boot = "d"});

    (void)state;
    wr(a, 0x40, 0x99);
    harness_out(a, 0x70, 1, 0x34);
    assert_true(harness_save_load_save(a));
    assert_true(harness_transfer(a, b));
    assert_int_equal(harness_in(b, 0x71, 1), 0);
    assert_int_equal(rd(b, 0x40), 0x99);
    assert_int_equal(rd(b, 0x3d), 2);
    assert_int_equal(rd(b, 0x35), 3);
    harness_destroy(a);
    harness_destroy(b);
}

static void test_bad_state(void **state)
{
    struct harness *h = make(&(struct cmos_config){.boot = "c"});
    struct save_stream s, in;

    (void)state;
    save_init(&s);
    assert_int_equal(board_save(&h->board, &s), 0);
    s.data[s.len - 115] = 128; /* the index */
    save_init_load(&in, s.data, s.len);
    assert_int_not_equal(board_load(&h->board, &in), 0);
    s.data[s.len - 115] = 127;
    save_init_load(&in, s.data, s.len);
    assert_int_equal(board_load(&h->board, &in), 0);
    save_free(&s);
    harness_destroy(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_guest), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_boot_order),  cmocka_unit_test(test_one_disk),
        cmocka_unit_test(test_two_disks),   cmocka_unit_test(test_access),
        cmocka_unit_test(test_save),        cmocka_unit_test(test_bad_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
