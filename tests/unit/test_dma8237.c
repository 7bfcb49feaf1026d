/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "hw/dma8237.h"
#include "tests/unit/harness.h"

static struct harness *h;

static int setup(void **state)
{
    (void)state;
    h = harness_create();
    return dma8237_create(&h->board);
}

static int teardown(void **state)
{
    (void)state;
    harness_destroy(h);
    return 0;
}

/* Port of register reg of a controller. */
static uint16_t port(unsigned ctl, unsigned reg)
{
    return (uint16_t)(ctl ? 0xc0 + 2 * reg : reg);
}

static uint8_t in(unsigned ctl, unsigned reg)
{
    return (uint8_t)harness_in(h, port(ctl, reg), 1);
}

static void out(unsigned ctl, unsigned reg, uint8_t v)
{
    harness_out(h, port(ctl, reg), 1, v);
}

static uint16_t in16(unsigned ctl, unsigned reg)
{
    uint8_t low = in(ctl, reg);

    return (uint16_t)(low | in(ctl, reg) << 8);
}

static void out16(unsigned ctl, unsigned reg, uint16_t v)
{
    out(ctl, reg, (uint8_t)v);
    out(ctl, reg, (uint8_t)(v >> 8));
}

static void test_reset_values(void **state)
{
    (void)state;
    for (unsigned ctl = 0; ctl < 2; ctl++) {
        for (unsigned reg = 0; reg < 8; reg++) {
            assert_int_equal(in16(ctl, reg), 0);
        }
        for (unsigned reg = 8; reg < 16; reg++) {
            assert_int_equal(in(ctl, reg), reg == 9 || reg == 15 ? 0x0f : 0);
        }
    }
}

static void test_address_and_count(void **state)
{
    (void)state;
    for (unsigned ctl = 0; ctl < 2; ctl++) {
        out(ctl, 12, 0);
        for (unsigned reg = 0; reg < 8; reg++) {
            out16(ctl, reg, (uint16_t)(0x1234 + 0x1111 * reg));
        }
        for (unsigned reg = 0; reg < 8; reg++) {
            assert_int_equal(in16(ctl, reg), 0x1234 + 0x1111 * reg);
        }
    }
}

/* One flip-flop for all registers of a controller, moved by reads too. */
static void test_flip_flop(void **state)
{
    (void)state;
    out16(0, 0, 0x1234);
    out16(0, 1, 0x5678);
    assert_int_equal(in(0, 0), 0x34);
    assert_int_equal(in(0, 1), 0x56);
    assert_int_equal(in(0, 0), 0x34);
    out(0, 12, 0);
    assert_int_equal(in(0, 0), 0x34);
    out(0, 13, 0);
    assert_int_equal(in(0, 0), 0x34);
    out(0, 0, 0xab); /* now the high byte */
    assert_int_equal(in16(0, 0), 0xab34);
    in(0, 0);
    assert_int_equal(in16(1, 0), 0); /* the other controller has its own */
    in(0, 8); /* other registers do not move it */
    in(0, 15);
    assert_int_equal(in(0, 0), 0xab);
}

static void test_mask(void **state)
{
    (void)state;
    for (unsigned ctl = 0; ctl < 2; ctl++) {
        out(ctl, 14, 0xff); /* clear all; the data does not matter */
        assert_int_equal(in(ctl, 15), 0);
        for (unsigned ch = 0; ch < 4; ch++) {
            out(ctl, 10, (uint8_t)(0xf8 | 4 | ch));
            assert_int_equal(in(ctl, 15), 1 << ch);
            out(ctl, 10, (uint8_t)ch);
            assert_int_equal(in(ctl, 15), 0);
        }
        out(ctl, 15, 0xfa);
        assert_int_equal(in(ctl, 15), 0x0a);
        assert_int_equal(in(ctl, 9), 0x0a);
        out(ctl, 13, 0);
        assert_int_equal(in(ctl, 15), 0x0f);
    }
}

static void test_request_and_status(void **state)
{
    (void)state;
    out(0, 9, 5);
    out(0, 9, 7);
    assert_int_equal(in(0, 8), 0xa0);
    assert_int_equal(in(0, 8), 0xa0); /* reading clears terminal counts only */
    assert_int_equal(in(1, 8), 0);
    out(0, 9, 1);
    assert_int_equal(in(0, 8), 0x80);
    out(0, 8, 0x10); /* command is not readable */
    assert_int_equal(in(0, 8), 0x80);
    out(0, 13, 0);
    assert_int_equal(in(0, 8), 0);
}

/* What SeaBIOS does at start-up. */
static void test_seabios(void **state)
{
    (void)state;
    out16(0, 4, 0x4321);
    harness_out(h, 0x0d, 1, 0);
    harness_out(h, 0xda, 1, 0);
    harness_out(h, 0xd6, 1, 0xc0);
    harness_out(h, 0xd4, 1, 0);
    assert_int_equal(in(1, 15), 0x0e); /* the cascade channel is open */
    assert_int_equal(in(0, 15), 0x0f);
    assert_int_equal(in16(0, 4), 0x4321); /* master clear leaves addresses */
}

static void test_second_controller_ignores_a0(void **state)
{
    (void)state;
    harness_out(h, 0xc1, 1, 0x34);
    harness_out(h, 0xc0, 1, 0x12);
    assert_int_equal(in16(1, 0), 0x1234);
    harness_out(h, 0xdf, 1, 3);
    assert_int_equal(harness_in(h, 0xde, 1), 3);
}

static void test_pages(void **state)
{
    static const bool exists[16] = {[1] = true, [2] = true, [3] = true, [7] = true,
                                    [9] = true, [10] = true, [11] = true, [15] = true};

    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(harness_in(h, (uint16_t)(0x80 + i), 1), exists[i] ? 0 : 0xff);
        harness_out(h, (uint16_t)(0x80 + i), 1, 0x40 + i);
    }
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(harness_in(h, (uint16_t)(0x80 + i), 1), exists[i] ? 0x40 + i : 0xff);
    }
    harness_out(h, 0x87, 4, 0xddccbbaa);
    assert_int_equal(harness_in(h, 0x87, 4), 0xddccffaa);
    board_reset(&h->board);
    assert_int_equal(harness_in(h, 0x87, 1), 0);
}

static void test_wide_access(void **state)
{
    (void)state;
    harness_out(h, 0x00, 2, 0x1234); /* low byte of address 0, then high byte of count 0 */
    assert_int_equal(harness_in(h, 0x00, 2), 0x1234);
    out(0, 12, 0);
    assert_int_equal(in16(0, 0), 0x0034);
    assert_int_equal(in16(0, 1), 0x1200);
}

static void test_save(void **state)
{
    struct harness *other = harness_create();

    (void)state;
    assert_int_equal(dma8237_create(&other->board), 0);
    out16(0, 3, 0xbeef);
    out16(1, 6, 0xcafe);
    out(1, 15, 5);
    out(0, 9, 6);
    harness_out(h, 0x8b, 1, 0x77);
    out(0, 0, 0x99); /* the flip-flop is in the middle */
    assert_true(harness_save_load_save(h));
    assert_true(harness_transfer(h, other));
    harness_out(other, 0, 1, 0x88);
    assert_int_equal(harness_in(other, 3, 1), 0xef);
    assert_int_equal(harness_in(other, 3, 1), 0xbe);
    assert_int_equal(harness_in(other, 0, 1), 0x99);
    assert_int_equal(harness_in(other, 0, 1), 0x88);
    assert_int_equal(harness_in(other, 0xcc, 1), 0xfe);
    assert_int_equal(harness_in(other, 0xde, 1), 5);
    assert_int_equal(harness_in(other, 8, 1), 0x40);
    assert_int_equal(harness_in(other, 0x8b, 1), 0x77);
    harness_destroy(other);
}

static void test_refused_leaves_nothing(void **state)
{
    unsigned live = h->plat.map_calls - h->plat.unmap_calls;

    (void)state;
    assert_int_equal(dma8237_create(&h->board), -EEXIST);
    assert_int_equal(h->plat.map_calls - h->plat.unmap_calls, live);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reset_values), TEST(test_address_and_count),
        TEST(test_flip_flop),    TEST(test_mask),
        TEST(test_request_and_status), TEST(test_seabios),
        TEST(test_second_controller_ignores_a0), TEST(test_pages),
        TEST(test_wide_access),  TEST(test_save),
        TEST(test_refused_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
