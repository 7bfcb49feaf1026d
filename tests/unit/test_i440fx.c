/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "hw/i440fx.h"
#include "tests/unit/harness.h"

static struct harness *h;

static int setup(void **state)
{
    (void)state;
    h = harness_create();
    return i440fx_create(&h->board, UINT64_C(512) << 20);
}

static int teardown(void **state)
{
    (void)state;
    harness_destroy(h);
    return 0;
}

static void test_identity(void **state)
{
    (void)state;
    assert_int_equal(harness_pci_read(h, 0, 0x00, 4), 0x12378086);
    assert_int_equal(harness_pci_read(h, 0, 0x04, 4), 0);
    assert_int_equal(harness_pci_read(h, 0, 0x08, 4), 0x06000002);
    assert_int_equal(harness_pci_read(h, 0, 0x0c, 4), 0);
    assert_int_equal(harness_pci_read(h, 0, 0x2c, 4), 0x11001af4);
    assert_int_equal(harness_pci_read(h, 0, 0x3c, 4), 0);
    assert_int_equal(harness_pci_read(h, 0, 0x57, 1), 64);
    assert_int_equal(harness_pci_read(h, 0, 0x72, 1), 2);
    for (unsigned reg = 0x10; reg < 0x28; reg += 4) {
        harness_pci_write(h, 0, reg, 4, 0xffffffff);
        assert_int_equal(harness_pci_read(h, 0, reg, 4), 0); /* no BARs */
    }
}

static void test_pam_and_smram_store(void **state)
{
    (void)state;
    for (unsigned reg = 0x59; reg <= 0x5f; reg++) {
        harness_pci_write(h, 0, reg, 1, 0x30 + reg);
        assert_int_equal(harness_pci_read(h, 0, reg, 1), (0x30 + reg) & 0xff);
    }
    harness_pci_write(h, 0, 0x72, 1, 0x4a);
    assert_int_equal(harness_pci_read(h, 0, 0x72, 1), 0x4a);
    board_reset(&h->board);
    assert_int_equal(harness_pci_read(h, 0, 0x59, 1), 0);
    assert_int_equal(harness_pci_read(h, 0, 0x72, 1), 2);
}

static void test_ram_size_is_capped(void **state)
{
    struct harness *other = harness_create();

    (void)state;
    assert_int_equal(i440fx_create(&other->board, UINT64_C(64) << 30), 0);
    assert_int_equal(harness_pci_read(other, 0, 0x57, 1), 0xff);
    harness_destroy(other);
}

static void test_latch(void **state)
{
    (void)state;
    assert_int_equal(harness_in(h, 0xcf8, 4), 0);
    harness_out(h, 0xcf8, 4, 0x80001234);
    assert_int_equal(harness_in(h, 0xcf8, 4), 0x80001234);
    /* Narrow accesses are not the latch's. */
    harness_out(h, 0xcf8, 1, 0);
    harness_out(h, 0xcfb, 1, 1); /* Linux does this before it looks for mechanism 1 */
    harness_out(h, 0xcf8, 2, 0);
    harness_out(h, 0xcfa, 2, 0);
    assert_int_equal(harness_in(h, 0xcf8, 4), 0x80001234);
    assert_int_equal(harness_in(h, 0xcf8, 1), 0xff);
    assert_int_equal(harness_in(h, 0xcfa, 2), 0xffff);
    assert_int_equal(harness_in(h, 0xcfb, 1), 0xff);
    harness_out(h, 0xcf8, 4, 0xffffffff);
    assert_int_equal(harness_in(h, 0xcf8, 4), 0xffffffff);
    assert_int_equal(h->plat.shutdown_reason, -1);
    /* Past the latch nothing of ours answers. */
    assert_int_equal(harness_in(h, 0xcfc, 4), 0xffffffff);
    board_reset(&h->board);
    assert_int_equal(harness_in(h, 0xcf8, 4), 0);
}

static void test_reset_control(void **state)
{
    static const uint8_t quiet[] = {0, 1, 2, 3, 8, 0x10, 0xfb};

    (void)state;
    for (unsigned i = 0; i < sizeof(quiet); i++) {
        harness_out(h, 0xcf9, 1, quiet[i]);
        assert_int_equal(harness_in(h, 0xcf9, 1), quiet[i] & 2);
    }
    harness_out(h, 0xcf8, 4, 0xffffffff); /* the latch is not the reset register */
    assert_int_equal(harness_in(h, 0xcf9, 1), 2);
    assert_int_equal(harness_in(h, 0xcf9, 2), 0xff02);
    assert_int_equal(harness_in(h, 0xcf8, 2), 0x02ff);
    assert_int_equal(h->plat.shutdown_reason, -1);
    harness_out(h, 0xcf9, 1, 6);
    assert_int_equal(h->plat.shutdown_reason, PLATFORM_REBOOT);
}

static void test_reset_by_word(void **state)
{
    (void)state;
    harness_out(h, 0xcf8, 2, 0x0004);
    assert_int_equal(h->plat.shutdown_reason, -1);
    harness_out(h, 0xcf8, 2, 0x0400);
    assert_int_equal(h->plat.shutdown_reason, PLATFORM_REBOOT);
}

static void test_save(void **state)
{
    struct harness *other = harness_create();

    (void)state;
    assert_int_equal(i440fx_create(&other->board, UINT64_C(512) << 20), 0);
    harness_out(h, 0xcf8, 4, 0x8000f8f8);
    harness_out(h, 0xcf9, 1, 2);
    harness_pci_write(h, 0, 0x5a, 1, 0x33);
    assert_true(harness_save_load_save(h));
    assert_true(harness_transfer(h, other));
    assert_int_equal(harness_in(other, 0xcf8, 4), 0x8000f8f8);
    assert_int_equal(harness_in(other, 0xcf9, 1), 2);
    assert_int_equal(harness_pci_read(other, 0, 0x5a, 1), 0x33);
    harness_destroy(other);
}

static void test_second_is_refused(void **state)
{
    unsigned maps = h->plat.map_calls;

    (void)state;
    assert_true(i440fx_create(&h->board, 0) < 0);
    assert_int_equal(h->plat.map_calls, maps);
    harness_out(h, 0xcf8, 4, 0x80000000);
    assert_int_equal(harness_in(h, 0xcf8, 4), 0x80000000);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_identity),           TEST(test_pam_and_smram_store),
        TEST(test_ram_size_is_capped), TEST(test_latch),
        TEST(test_reset_control),      TEST(test_reset_by_word),
        TEST(test_save),               TEST(test_second_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
