/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "hw/piix4_pm.h"
#include "tests/unit/harness.h"

enum { DEVFN = PCI_DEVFN(1, 3), BASE = 0xb000 };
static struct harness *h;
static unsigned slept, sleeps;

static void on_sleep(void *opaque, unsigned state)
{
    assert_ptr_equal(opaque, &slept);
    slept = state;
    sleeps++;
    assert_int_equal(h->plat.shutdown_reason, -1); /* told before Xen is */
    assert_int_equal(h->plat.s_state, 0);
}

static int setup(void **state)
{
    const struct piix4_pm_config cfg = {.com1 = true, .sleep = on_sleep, .opaque = &slept};

    (void)state;
    h = harness_create();
    slept = sleeps = 0;
    return piix4_pm_create(&h->board, &cfg);
}

static int teardown(void **state)
{
    (void)state;
    harness_destroy(h);
    return 0;
}

static void enable(void)
{
    harness_pci_write(h, DEVFN, 0x40, 4, BASE | 1);
    harness_pci_write(h, DEVFN, 0x80, 1, 1);
}

static void test_reset_values(void **state)
{
    static const struct {
        unsigned reg;
        uint32_t value;
    } table[] = {
        {0x00, 0x71138086}, {0x04, 0x02800000}, {0x08, 0x06800003}, {0x0c, 0},          {0x2c, 0x11001af4},
        {0x3c, 0x00000100}, {0x40, 1},          {0x58, 0x02000000}, {0x5c, 0x10000000}, {0x60, 0x60000000},
        {0x64, 0x08000000}, {0x80, 0},          {0x90, 0x0000b101}, {0xd0, 0x00090000},
    };

    (void)state;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
            assert_int_equal(harness_pci_read(h, DEVFN, table[i].reg, 4), table[i].value);
        }
        harness_pci_write(h, DEVFN, 0x3d, 1, 4);
        harness_pci_write(h, DEVFN, 0x3c, 2, 9);
        assert_int_equal(harness_pci_read(h, DEVFN, 0x3d, 1), 1);
        enable();
        harness_pci_write(h, DEVFN, 0xd2, 1, 0);
        board_reset(&h->board);
    }
    assert_int_equal(harness_in(h, BASE + 4, 2), 0xffff);
}

static void test_device_presence(void **state)
{
    struct harness *other = harness_create();
    const struct piix4_pm_config cfg = {.com2 = true, .lpt1 = true};

    (void)state;
    assert_int_equal(piix4_pm_create(&other->board, &cfg), 0);
    assert_int_equal(harness_pci_read(other, DEVFN, 0x5f, 1), 0x90);
    assert_int_equal(harness_pci_read(other, DEVFN, 0x67, 1), 0x90);
    harness_destroy(other);
}

static void test_block_follows_pmba(void **state)
{
    (void)state;
    assert_int_equal(harness_in(h, BASE + 4, 2), 0xffff);
    harness_pci_write(h, DEVFN, 0x40, 4, BASE | 1);
    assert_int_equal(harness_in(h, BASE + 4, 2), 0xffff);
    harness_pci_write(h, DEVFN, 0x80, 1, 1);
    assert_int_equal(harness_in(h, BASE + 4, 2), 0);
    harness_pci_write(h, DEVFN, 0x40, 4, 0xc041);
    assert_int_equal(harness_in(h, BASE + 4, 2), 0xffff);
    assert_int_equal(harness_in(h, 0xc044, 2), 0);
    harness_pci_write(h, DEVFN, 0x41, 1, 0xd0); /* one byte of it */
    assert_int_equal(harness_in(h, 0xd044, 2), 0);
    harness_pci_write(h, DEVFN, 0x04, 2, 0); /* COMMAND has no say */
    assert_int_equal(harness_in(h, 0xd044, 2), 0);
    harness_pci_write(h, DEVFN, 0x80, 1, 0xfe);
    assert_int_equal(harness_in(h, 0xd044, 2), 0xffff);
}

/* A guest may aim the block at ports that have an owner: the owner stays, and the block comes back when it is moved away. */
static void test_block_on_top_of_others(void **state)
{
    (void)state;
    enable();
    harness_out(h, 0xb2, 1, 0x12);
    harness_pci_write(h, DEVFN, 0x40, 4, 0x0081);
    assert_int_equal(harness_in(h, 0xb2, 1), 0x12);
    harness_pci_write(h, DEVFN, 0x40, 4, 0x0081);
    harness_pci_write(h, DEVFN, 0x40, 4, 0x0001); /* base 0 is nowhere */
    assert_int_equal(harness_in(h, 0x04, 2), 0xffff);
    harness_pci_write(h, DEVFN, 0x40, 4, 0xffffffff);
    assert_int_equal(harness_in(h, 0xffc4, 2), 0);
    enable();
    assert_int_equal(harness_in(h, BASE + 4, 2), 0);
}

static void test_sci_enable(void **state)
{
    (void)state;
    enable();
    harness_out(h, 0xb2, 1, 0xf1);
    assert_int_equal(harness_in(h, BASE + 4, 1), 1);
    harness_out(h, 0xb2, 1, 0x55);
    assert_int_equal(harness_in(h, BASE + 4, 1), 1);
    harness_out(h, 0xb2, 1, 0xf0);
    assert_int_equal(harness_in(h, BASE + 4, 1), 0);
    harness_out(h, BASE + 4, 2, 1); /* as Linux does when it resumes */
    assert_int_equal(harness_in(h, BASE + 4, 2), 1);
}

static void test_sci_fixed(void **state)
{
    struct harness *other = harness_create();
    const struct piix4_pm_config cfg = {.sci_fixed = true};

    (void)state;
    assert_int_equal(piix4_pm_create(&other->board, &cfg), 0);
    harness_pci_write(other, DEVFN, 0x40, 4, BASE | 1);
    harness_pci_write(other, DEVFN, 0x80, 1, 1);
    assert_int_equal(harness_in(other, BASE + 4, 2), 1);
    harness_out(other, 0xb2, 1, 0xf0);
    assert_int_equal(harness_in(other, BASE + 4, 2), 1);
    harness_destroy(other);
}

static void test_apm_ports(void **state)
{
    (void)state;
    harness_out(h, 0xb2, 2, 0x3412);
    assert_int_equal(harness_in(h, 0xb2, 1), 0x12);
    assert_int_equal(harness_in(h, 0xb3, 1), 0x34);
    assert_int_equal(harness_in(h, 0xb1, 1), 0xff);
    assert_int_equal(harness_in(h, 0xb4, 1), 0xff);
}

static void test_control_bytes(void **state)
{
    (void)state;
    enable();
    harness_out(h, BASE + 4, 2, 0xdfff);
    assert_int_equal(harness_in(h, BASE + 4, 2), 0xdfff);
    harness_out(h, BASE + 4, 1, 0x12);
    assert_int_equal(harness_in(h, BASE + 4, 2), 0xdf12);
    harness_out(h, BASE + 5, 1, 0x04);
    assert_int_equal(harness_in(h, BASE + 4, 2), 0x0412);
    assert_int_equal(harness_in(h, BASE + 4, 4), 0xffff0412);
    assert_int_equal(sleeps, 0);
    harness_out(h, BASE + 4, 4, 0x20000001); /* bit 29 is not bit 13 */
    assert_int_equal(sleeps, 0);
    harness_out(h, BASE + 2, 4, 0x00015678); /* PMEN and PMCNTRL at once */
    assert_int_equal(harness_in(h, BASE + 2, 2), 0x5678);
    assert_int_equal(harness_in(h, BASE + 4, 2), 0x0001);
}

static void test_power_off(void **state)
{
    (void)state;
    enable();
    harness_out(h, BASE + 4, 2, 0x2001);
    assert_int_equal(h->plat.shutdown_reason, PLATFORM_POWEROFF);
    assert_int_equal(slept, 5);
    assert_int_equal(harness_in(h, BASE + 4, 2), 0x0001); /* SUS_EN reads 0 */
}

static void test_power_off_by_byte(void **state)
{
    (void)state;
    enable();
    harness_out(h, BASE + 5, 1, 0x20);
    assert_int_equal(h->plat.shutdown_reason, PLATFORM_POWEROFF);
}

static void test_s3(void **state)
{
    (void)state;
    enable();
    harness_out(h, BASE + 4, 2, 0x0401); /* the type alone does nothing */
    assert_int_equal(sleeps, 0);
    harness_out(h, BASE + 4, 2, 0x2401);
    assert_int_equal(h->plat.s_state, 3);
    assert_int_equal(slept, 3);
    assert_int_equal(sleeps, 1);
    assert_int_equal(h->plat.shutdown_reason, -1);
    assert_int_equal(harness_in(h, BASE + 4, 2), 0x0401);
}

static void test_other_sleep_types(void **state)
{
    (void)state;
    enable();
    for (unsigned type = 2; type < 8; type++) {
        harness_out(h, BASE + 4, 2, 0x2000 | type << 10);
    }
    assert_int_equal(sleeps, 0);
    assert_int_equal(h->plat.shutdown_reason, -1);
    assert_int_equal(h->plat.s_state, 0);
}

/* Before Xen takes the event block and the timer over. */
static void test_event_and_timer(void **state)
{
    (void)state;
    enable();
    assert_int_equal(harness_in(h, BASE, 2), 0);
    harness_out(h, BASE, 4, 0x0321ffff);
    assert_int_equal(harness_in(h, BASE, 4), 0x03210000);
    assert_int_equal(harness_in(h, BASE + 8, 4), 0);
    harness_step(h, 1000000000);
    assert_int_equal(harness_in(h, BASE + 8, 4), 3579545);
    harness_out(h, BASE + 8, 4, 0);
    assert_int_equal(harness_in(h, BASE + 8, 2), 3579545 & 0xffff);
    assert_int_equal(harness_in(h, BASE + 10, 2), 3579545 >> 16);
    assert_int_equal(harness_in(h, BASE + 11, 4), 0xffffff00);
    harness_step(h, 10 * UINT64_C(1000000000));
    assert_int_equal(harness_in(h, BASE + 8, 4), 11 * 3579545 & 0xffffff); /* 24 bits */
    assert_int_equal(harness_in(h, BASE + 12, 1), 0xff);
}

static void test_save(void **state)
{
    struct harness *other = harness_create();
    const struct piix4_pm_config cfg = {.com1 = true};

    (void)state;
    assert_int_equal(piix4_pm_create(&other->board, &cfg), 0);
    enable();
    harness_out(h, BASE + 4, 2, 0x0401);
    harness_out(h, BASE + 2, 2, 0x0120);
    harness_out(h, 0xb2, 2, 0xaabb);
    assert_true(harness_save_load_save(h));
    assert_true(harness_transfer(h, other));
    assert_int_equal(harness_in(other, BASE + 4, 2), 0x0401); /* the block is mapped again */
    assert_int_equal(harness_in(other, BASE + 2, 2), 0x0120);
    assert_int_equal(harness_in(other, 0xb2, 2), 0xaabb);
    harness_destroy(other);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reset_values),       TEST(test_device_presence),
        TEST(test_block_follows_pmba), TEST(test_block_on_top_of_others),
        TEST(test_sci_enable),         TEST(test_sci_fixed),
        TEST(test_apm_ports),          TEST(test_control_bytes),
        TEST(test_power_off),          TEST(test_power_off_by_byte),
        TEST(test_s3),                 TEST(test_other_sleep_types),
        TEST(test_event_and_timer),    TEST(test_save),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
