/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/harness.h"

/* A region that writes down what reaches it. Reads give the offset's low byte in each byte: 0x10, 0x11.. at offset 0x10. */
struct rec {
    char text[512];
    uint64_t last_value;
    unsigned rep_limit; /* what one block call takes at most */
    struct bus *bus;
    int remove; /* region to take out in the next access */
};

static void rec_add(struct rec *r, char what, uint64_t offset, unsigned size)
{
    size_t n = strlen(r->text);

    snprintf(r->text + n, sizeof(r->text) - n, "%c%llx.%u ", what, (unsigned long long)offset, size);
    if (r->remove) {
        bus_remove(r->bus, r->remove);
        r->remove = 0;
    }
}

static uint64_t rec_read(void *dev, uint64_t offset, unsigned size)
{
    uint64_t v = 0;

    rec_add(dev, 'r', offset, size);
    for (unsigned i = 0; i < 8; i++) { /* more than asked for: the bus must cut */
        v |= ((offset + i) & 0xff) << 8 * i;
    }
    return v;
}

static void rec_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct rec *r = dev;

    rec_add(r, 'w', offset, size);
    r->last_value = value;
}

static unsigned rec_read_rep(void *dev, uint64_t offset, unsigned size, void *buf, unsigned count)
{
    struct rec *r = dev;
    unsigned n = count < r->rep_limit ? count : r->rep_limit;
    char what = (char)('A' + (n < 25 ? n : 25));

    rec_add(r, what, offset, size);
    memset(buf, 0x5a, (size_t)n * size);
    return n;
}

static unsigned rec_write_rep(void *dev, uint64_t offset, unsigned size, const void *buf, unsigned count)
{
    struct rec *r = dev;
    unsigned n = count < r->rep_limit ? count : r->rep_limit;

    rec_add(r, (char)('a' + (n < 16 ? n : 16)), offset, size);
    r->last_value = n ? *(const uint8_t *)buf : 0;
    return n;
}

static const struct io_ops ops1 = {.read = rec_read, .write = rec_write, .max_size = 1};
static const struct io_ops ops2 = {.read = rec_read, .write = rec_write, .max_size = 2};
static const struct io_ops ops4 = {.read = rec_read, .write = rec_write, .max_size = 4};
static const struct io_ops ops8 = {.read = rec_read, .write = rec_write, .max_size = 8};
static const struct io_ops ops_rep = {.read = rec_read,
                                      .write = rec_write,
                                      .read_rep = rec_read_rep,
                                      .write_rep = rec_write_rep,
                                      .max_size = 4};

static struct rec a, b;
static struct bus *bus;

static int setup(void **state)
{
    (void)state;
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));
    bus = bus_create(NULL);
    a.bus = b.bus = bus;
    return bus ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    bus_destroy(bus);
    return 0;
}

static void expect(struct rec *r, const char *text)
{
    assert_string_equal(r->text, text);
    r->text[0] = '\0';
}

static void test_empty_bus(void **state)
{
    static const uint64_t addrs[] = {0, 0xffff, 0x10000, 0xfffffffe, UINT64_MAX - 2, UINT64_MAX};
    uint8_t buf[16];

    (void)state;
    for (unsigned i = 0; i < sizeof(addrs) / sizeof(addrs[0]); i++) {
        for (int space = BUS_PORT; space <= BUS_MMIO; space++) {
            assert_int_equal(bus_read(bus, (enum bus_space)space, addrs[i], 1), 0xff);
            assert_int_equal(bus_read(bus, (enum bus_space)space, addrs[i], 2), 0xffff);
            assert_int_equal(bus_read(bus, (enum bus_space)space, addrs[i], 4), 0xffffffff);
            assert_true(bus_read(bus, (enum bus_space)space, addrs[i], 8) == UINT64_MAX);
            bus_write(bus, (enum bus_space)space, addrs[i], 8, 0);
            memset(buf, 0, sizeof(buf));
            bus_read_rep(bus, (enum bus_space)space, addrs[i], 4, buf, 3);
            assert_int_equal(buf[0], 0xff);
            assert_int_equal(buf[11], 0xff);
            assert_int_equal(buf[12], 0);
            bus_write_rep(bus, (enum bus_space)space, addrs[i], 4, buf, 3);
        }
    }
}

static void test_offset_and_width(void **state)
{
    (void)state;
    assert_true(bus_add(bus, BUS_PORT, 0x100, 0x20, &ops4, &a, "a") > 0);
    assert_true(bus_add(bus, BUS_MMIO, 0xf0000000, 0x1000, &ops8, &b, "b") > 0);
    assert_int_equal(bus_read(bus, BUS_PORT, 0x110, 1), 0x10);
    assert_int_equal(bus_read(bus, BUS_PORT, 0x111, 2), 0x1211);
    assert_int_equal(bus_read(bus, BUS_PORT, 0x100, 4), 0x03020100);
    bus_write(bus, BUS_PORT, 0x11f, 1, 0x1234);
    assert_int_equal(a.last_value, 0x34);
    expect(&a, "r10.1 r11.2 r0.4 w1f.1 ");
    assert_true(bus_read(bus, BUS_MMIO, 0xf0000ff8, 8) == 0xfffefdfcfbfaf9f8);
    bus_write(bus, BUS_MMIO, 0xf0000001, 8, UINT64_MAX - 1);
    assert_true(b.last_value == UINT64_MAX - 1);
    expect(&b, "rff8.8 w1.8 ");
    /* The neighbours are nobody's. */
    bus_read(bus, BUS_PORT, 0xff, 1);
    bus_read(bus, BUS_PORT, 0x120, 1);
    bus_read(bus, BUS_MMIO, 0xefffffff, 1);
    bus_read(bus, BUS_MMIO, 0xf0001000, 1);
    bus_read(bus, BUS_PORT, 0x10100, 1); /* ports do not wrap */
    bus_read(bus, BUS_MMIO, 0x100, 1);
    expect(&a, "");
    expect(&b, "");
}

/* An access belongs whole to the region of its first byte, if that takes its size. */
static void test_past_the_end(void **state)
{
    (void)state;
    bus_add(bus, BUS_PORT, 0x1f0, 1, &ops4, &a, "data");
    bus_add(bus, BUS_PORT, 0x1f1, 7, &ops1, &b, "task");
    assert_int_equal(bus_read(bus, BUS_PORT, 0x1f0, 4), 0x03020100);
    bus_write(bus, BUS_PORT, 0x1f0, 4, 0xdeadbeef);
    assert_int_equal(a.last_value, 0xdeadbeef);
    expect(&a, "r0.4 w0.4 ");
    expect(&b, "");
}

static void test_split(void **state)
{
    (void)state;
    bus_add(bus, BUS_PORT, 0x60, 3, &ops1, &a, "a");
    bus_add(bus, BUS_PORT, 0x63, 8, &ops2, &b, "b");
    assert_int_equal(bus_read(bus, BUS_PORT, 0x60, 2), 0x0100);
    expect(&a, "r0.1 r1.1 ");
    assert_int_equal(bus_read(bus, BUS_PORT, 0x60, 4), 0x00020100);
    expect(&a, "r0.1 r1.1 r2.1 ");
    expect(&b, "r0.1 ");
    assert_int_equal(bus_read(bus, BUS_PORT, 0x62, 4), 0x02010002); /* 1 of a, then 2 and 1 of b */
    expect(&a, "r2.1 ");
    expect(&b, "r0.2 r2.1 ");
    bus_write(bus, BUS_PORT, 0x62, 4, 0x44332211);
    expect(&a, "w2.1 ");
    expect(&b, "w0.2 w2.1 ");
    assert_int_equal(a.last_value, 0x11);
    assert_int_equal(b.last_value, 0x44);
    /* From a hole into a region, and out of it. */
    assert_int_equal(bus_read(bus, BUS_PORT, 0x5e, 4), 0x0100ffff);
    expect(&a, "r0.1 r1.1 ");
    assert_int_equal(bus_read(bus, BUS_PORT, 0x69, 4), 0xffff0706);
    expect(&b, "r6.2 ");
    bus_write(bus, BUS_PORT, 0x5f, 2, 0xaabb);
    assert_int_equal(a.last_value, 0xaa);
    expect(&a, "w0.1 ");
}

static void test_split_mmio(void **state)
{
    (void)state;
    bus_add(bus, BUS_MMIO, 0x1000, 0x1000, &ops4, &a, "a");
    assert_true(bus_read(bus, BUS_MMIO, 0x1010, 8) == 0x1716151413121110);
    expect(&a, "r10.4 r14.4 ");
    bus_write(bus, BUS_MMIO, 0x1ffc, 8, 0x1122334455667788);
    assert_int_equal(a.last_value, 0x55667788);
    expect(&a, "wffc.4 ");
}

/* The region may go away in the middle of a split or block access. */
static void test_removed_inside_access(void **state)
{
    uint8_t buf[8] = {0};

    (void)state;
    a.remove = bus_add(bus, BUS_PORT, 0x60, 4, &ops1, &a, "a");
    assert_int_equal(bus_read(bus, BUS_PORT, 0x60, 4), 0xffffff00);
    expect(&a, "r0.1 ");
    a.remove = bus_add(bus, BUS_MMIO, 0x6000, 16, &ops_rep, &a, "a");
    a.rep_limit = 1;
    bus_read_rep(bus, BUS_MMIO, 0x6000, 2, buf, 3);
    assert_memory_equal(buf, "\x5a\x5a\xff\xff\xff\xff\0\0", 8);
    expect(&a, "B0.2 ");
    assert_int_equal(bus_read(bus, BUS_MMIO, 0x6000, 1), 0xff);
}

static void test_overlap(void **state)
{
    int id;

    (void)state;
    id = bus_add(bus, BUS_PORT, 0x100, 0x10, &ops1, &a, "a");
    assert_true(id > 0);
    assert_int_equal(bus_add(bus, BUS_PORT, 0x100, 0x10, &ops1, &b, "b"), -EEXIST);
    assert_int_equal(bus_add(bus, BUS_PORT, 0xff, 2, &ops1, &b, "b"), -EEXIST);
    assert_int_equal(bus_add(bus, BUS_PORT, 0x10f, 1, &ops1, &b, "b"), -EEXIST);
    assert_int_equal(bus_add(bus, BUS_PORT, 0x80, 0x100, &ops1, &b, "b"), -EEXIST);
    assert_true(bus_add(bus, BUS_PORT, 0x110, 1, &ops1, &b, "b") > 0);
    assert_true(bus_add(bus, BUS_PORT, 0xff, 1, &ops1, &b, "b") > 0);
    assert_true(bus_add(bus, BUS_MMIO, 0x100, 0x10, &ops1, &b, "b") > 0); /* another space */
    bus_read(bus, BUS_PORT, 0x10f, 1);
    expect(&a, "rf.1 ");
    bus_remove(bus, id);
    bus_remove(bus, id);
    bus_remove(bus, 0);
    bus_remove(bus, -1);
    bus_remove(bus, 10000);
    assert_int_equal(bus_read(bus, BUS_PORT, 0x100, 1), 0xff);
    expect(&a, "");
    assert_true(bus_add(bus, BUS_PORT, 0x100, 0x10, &ops1, &b, "b") > 0);
}

static void test_bad_ranges(void **state)
{
    (void)state;
    assert_int_equal(bus_add(bus, BUS_PORT, 0x100, 0, &ops1, &a, "a"), -EINVAL);
    assert_int_equal(bus_add(bus, BUS_PORT, 0x10000, 1, &ops1, &a, "a"), -EINVAL);
    assert_int_equal(bus_add(bus, BUS_PORT, 0xffff, 2, &ops1, &a, "a"), -EINVAL);
    assert_int_equal(bus_add(bus, BUS_PORT, 0, UINT64_MAX, &ops1, &a, "a"), -EINVAL);
    assert_int_equal(bus_add(bus, BUS_MMIO, UINT64_MAX, 1, &ops1, &a, "a"), -EINVAL);
    assert_int_equal(bus_add(bus, BUS_MMIO, UINT64_MAX, UINT64_MAX, &ops1, &a, "a"), -EINVAL);
    assert_true(bus_add(bus, BUS_PORT, 0xffff, 1, &ops1, &a, "a") > 0);
    assert_int_equal(bus_read(bus, BUS_PORT, 0xffff, 4), 0xffffff00);
}

/* A full table refuses and keeps working; a freed entry can be used again. */
static void test_full(void **state)
{
    int ids[512];
    int n;

    (void)state;
    for (n = 0; n < 512; n++) {
        ids[n] = bus_add(bus, n & 1 ? BUS_MMIO : BUS_PORT, (uint64_t)n * 16, 1, &ops1, n & 1 ? &a : &b, "x");
        if (ids[n] < 0) {
            break;
        }
    }
    assert_int_equal(ids[n], -ENOSPC);
    assert_in_range(n, 64, 255);
    for (int i = 0; i < n; i++) {
        assert_int_equal(bus_read(bus, i & 1 ? BUS_MMIO : BUS_PORT, (uint64_t)i * 16, 1), 0);
    }
    bus_remove(bus, ids[5]);
    assert_int_equal(bus_read(bus, BUS_MMIO, 5 * 16, 1), 0xff);
    assert_true(bus_add(bus, BUS_PORT, 0x8001, 1, &ops1, &b, "x") > 0);
    assert_int_equal(bus_add(bus, BUS_PORT, 0x8002, 1, &ops1, &b, "x"), -ENOSPC);
    assert_int_equal(bus_read(bus, BUS_PORT, 0x8001, 1), 0);
}

static void test_rep_ports_stay(void **state)
{
    uint8_t buf[64];

    (void)state;
    bus_add(bus, BUS_PORT, 0x1f0, 1, &ops_rep, &a, "a");
    bus_add(bus, BUS_PORT, 0x1f1, 1, &ops1, &b, "b");
    a.rep_limit = 5;
    memset(buf, 0, sizeof(buf));
    bus_read_rep(bus, BUS_PORT, 0x1f0, 2, buf, 12);
    expect(&a, "F0.2 F0.2 C0.2 "); /* 5, 5, 2 */
    for (unsigned i = 0; i < 24; i++) {
        assert_int_equal(buf[i], 0x5a);
    }
    assert_int_equal(buf[24], 0);
    a.rep_limit = 0; /* a device that takes nothing gets single items */
    bus_read_rep(bus, BUS_PORT, 0x1f0, 2, buf, 2);
    expect(&a, "A0.2 r0.2 A0.2 r0.2 ");
    assert_memory_equal(buf, "\0\1\0\1\x5a", 5);
    memcpy(buf, "\x11\x22\x33\x44\x55\x66", 6);
    bus_write_rep(bus, BUS_PORT, 0x1f0, 2, buf, 3);
    expect(&a, "a0.2 w0.2 a0.2 w0.2 a0.2 w0.2 ");
    assert_int_equal(a.last_value, 0x6655);
    a.rep_limit = 100;
    bus_write_rep(bus, BUS_PORT, 0x1f0, 1, buf, 6);
    expect(&a, "g0.1 ");
    assert_int_equal(a.last_value, 0x11);
    /* No block form: one by one, split where too wide. */
    bus_read_rep(bus, BUS_PORT, 0x1f1, 2, buf, 2);
    expect(&b, "r0.1 r0.1 ");
    assert_memory_equal(buf, "\0\xff\0\xff", 4);
    bus_read_rep(bus, BUS_PORT, 0x1f0, 1, buf, 0);
    expect(&a, "");
}

static void test_rep_mmio_advances(void **state)
{
    uint8_t buf[64];

    (void)state;
    bus_add(bus, BUS_MMIO, 0x1000, 0x10, &ops_rep, &a, "a");
    bus_add(bus, BUS_MMIO, 0x1010, 0x10, &ops4, &b, "b");
    a.rep_limit = 3;
    bus_read_rep(bus, BUS_MMIO, 0x1000, 2, buf, 4);
    expect(&a, "D0.2 B6.2 ");
    /* Across the end: the block form gets only what lies wholly inside, the item on the edge is the first region's. */
    a.rep_limit = 100;
    memset(buf, 0, sizeof(buf));
    bus_read_rep(bus, BUS_MMIO, 0x1006, 4, buf, 4);
    expect(&a, "C6.4 re.4 ");
    expect(&b, "r2.4 ");
    assert_memory_equal(buf + 8, "\x0e\x0f\x10\x11\x02\x03\x04\x05", 8);
    bus_write_rep(bus, BUS_MMIO, 0x1008, 4, buf, 3);
    expect(&a, "c8.4 ");
    expect(&b, "w0.4 ");
    assert_int_equal(b.last_value, 0x11100f0e);
    /* Wider than the block form takes. */
    bus_read_rep(bus, BUS_MMIO, 0x1000, 8, buf, 1);
    expect(&a, "r0.4 r4.4 ");
    /* Out of everything. */
    bus_read_rep(bus, BUS_MMIO, 0x1018, 8, buf, 2);
    expect(&b, "r8.4 rc.4 ");
    assert_memory_equal(buf + 8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
}

/* Looking at one region must not hide that another took its place. */
static void test_last_hit_is_not_stale(void **state)
{
    int id;

    (void)state;
    id = bus_add(bus, BUS_MMIO, 0x1000, 0x1000, &ops1, &a, "a");
    bus_read(bus, BUS_MMIO, 0x1000, 1);
    bus_remove(bus, id);
    assert_int_equal(bus_read(bus, BUS_MMIO, 0x1000, 1), 0xff);
    id = bus_add(bus, BUS_MMIO, 0x1800, 0x1000, &ops1, &b, "b");
    bus_read(bus, BUS_MMIO, 0x1800, 1);
    assert_int_equal(bus_read(bus, BUS_MMIO, 0x17ff, 1), 0xff);
    assert_int_equal(bus_read(bus, BUS_MMIO, 0x2800, 1), 0xff);
    bus_remove(bus, id);
    expect(&a, "r0.1 ");
    expect(&b, "r0.1 ");
}

static void test_ranges_are_registered(void **state)
{
    struct harness *h = harness_create();
    unsigned maps = h->plat.map_calls, unmaps = h->plat.unmap_calls;
    int id = bus_add(h->board.bus, BUS_MMIO, 0x1000, 0x1000, &ops1, &a, "a");

    (void)state;
    assert_true(id > 0);
    assert_int_equal(h->plat.map_calls, maps + 1);
    assert_int_equal(bus_add(h->board.bus, BUS_MMIO, 0x1000, 1, &ops1, &a, "a"), -EEXIST);
    assert_int_equal(h->plat.map_calls, maps + 1);
    bus_remove(h->board.bus, id);
    assert_int_equal(h->plat.unmap_calls, unmaps + 1);
    bus_add(h->board.bus, BUS_PORT, 0x1000, 0x1000, &ops1, &a, "a");
    harness_destroy(h);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_empty_bus),
        TEST(test_offset_and_width),
        TEST(test_past_the_end),
        TEST(test_split),
        TEST(test_split_mmio),
        TEST(test_removed_inside_access),
        TEST(test_overlap),
        TEST(test_bad_ranges),
        TEST(test_full),
        TEST(test_rep_ports_stay),
        TEST(test_rep_mmio_advances),
        TEST(test_last_hit_is_not_stale),
        TEST(test_ranges_are_registered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
