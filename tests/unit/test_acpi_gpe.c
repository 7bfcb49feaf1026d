/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "hw/acpi_gpe.h"
#include "tests/unit/harness.h"

enum { GPE = 0xafe0, PCIHP = 0xae00, CPUS = 0xaf00, REMOVABLE = 0xfffffff4u };
static struct harness *h;
static struct acpi_gpe *g;
static unsigned ejected, ejects;

static void on_eject(void *opaque, unsigned slot)
{
    assert_ptr_equal(opaque, &ejected);
    ejected = slot;
    ejects++;
}

static int setup(void **state)
{
    const struct acpi_gpe_config cfg = {
        .vcpus_online = 3, .removable_slots = REMOVABLE, .eject = on_eject, .opaque = &ejected};

    (void)state;
    h = harness_create();
    ejected = ejects = 0;
    return acpi_gpe_create(&h->board, &cfg, &g);
}

static int teardown(void **state)
{
    (void)state;
    harness_destroy(h);
    return 0;
}

static void test_reset_values(void **state)
{
    (void)state;
    assert_int_equal(harness_in(h, GPE, 4), 0);
    assert_int_equal(harness_in(h, PCIHP, 4), 0);
    assert_int_equal(harness_in(h, PCIHP + 4, 4), 0);
    assert_int_equal(harness_in(h, PCIHP + 8, 4), 0);
    assert_int_equal(harness_in(h, PCIHP + 12, 4), REMOVABLE);
    assert_int_equal(harness_in(h, PCIHP + 16, 4), 0xffffffff);
    assert_int_equal(harness_in(h, PCIHP + 14, 4), 0xffffffff);
    assert_int_equal(harness_in(h, PCIHP + 13, 1), 0xff);
    assert_int_equal(harness_in(h, PCIHP + 12, 1), 0xf4);
    assert_int_equal(harness_in(h, CPUS, 4), 7);
    for (unsigned i = 4; i < 0x20; i++) {
        assert_int_equal(harness_in(h, (uint16_t)(CPUS + i), 1), 0);
    }
    assert_int_equal(harness_in(h, CPUS + 0x20, 1), 0xff);
    assert_false(h->plat.isa[9]);
}

static void test_status_and_enable(void **state)
{
    (void)state;
    harness_out(h, GPE, 2, 0xffff); /* status bits only the machine sets */
    assert_int_equal(harness_in(h, GPE, 2), 0);
    harness_out(h, GPE + 2, 2, 0xa55a);
    assert_int_equal(harness_in(h, GPE + 2, 2), 0xa55a);
    harness_out(h, GPE + 3, 1, 0x0f);
    harness_out(h, GPE + 2, 1, 0xf1); /* neither event enabled */
    assert_int_equal(harness_in(h, GPE, 4), 0x0ff10000);
    acpi_gpe_cpu_online(g, 3);
    acpi_gpe_pci_added(g, 4);
    assert_int_equal(harness_in(h, GPE, 2), 6);
    assert_false(h->plat.isa[9]);
    harness_out(h, GPE + 2, 2, 4);
    assert_true(h->plat.isa[9]);
    harness_out(h, GPE, 1, 2); /* the other event's bit */
    assert_int_equal(harness_in(h, GPE, 1), 4);
    assert_true(h->plat.isa[9]);
    harness_out(h, GPE + 1, 1, 0xff);
    assert_true(h->plat.isa[9]);
    harness_out(h, GPE, 1, 4);
    assert_false(h->plat.isa[9]);
    assert_int_equal(h->plat.isa_rises[9], 1);
}

/* Xen's PM1 logic drives the same bit and may have dropped it: each evaluation asserts anew. */
static void test_sci_is_reasserted(void **state)
{
    (void)state;
    harness_out(h, GPE + 2, 2, 6);
    acpi_gpe_cpu_online(g, 3);
    assert_true(h->plat.isa[9]);
    h->plat.isa[9] = false; /* Xen */
    harness_out(h, GPE, 1, 2);
    assert_true(h->plat.isa[9]);
    h->plat.isa[9] = false;
    acpi_gpe_cpu_online(g, 3);
    assert_true(h->plat.isa[9]);
}

static void test_cpu_hotplug(void **state)
{
    (void)state;
    harness_out(h, GPE + 2, 2, 4);
    acpi_gpe_cpu_online(g, 9);
    acpi_gpe_cpu_online(g, 127);
    acpi_gpe_cpu_online(g, 128);
    acpi_gpe_cpu_online(g, 0xffffffff);
    assert_int_equal(harness_in(h, CPUS, 2), 0x0207);
    assert_int_equal(harness_in(h, CPUS + 15, 1), 0x80);
    assert_int_equal(harness_in(h, CPUS + 16, 1), 0);
    for (unsigned i = 0; i < 0x20; i += 4) {
        harness_out(h, (uint16_t)(CPUS + i), 4, 0xffffffff); /* read only */
    }
    assert_int_equal(harness_in(h, CPUS, 4), 0x0207);
    board_reset(&h->board);
    assert_int_equal(harness_in(h, CPUS, 4), 0x0207); /* they stay plugged in */
    assert_int_equal(harness_in(h, GPE, 4), 0);
    assert_false(h->plat.isa[9]);
}

static void test_many_cpus_at_start(void **state)
{
    struct harness *other = harness_create();
    const struct acpi_gpe_config cfg = {.vcpus_online = 100000};

    (void)state;
    assert_int_equal(acpi_gpe_create(&other->board, &cfg, NULL), 0);
    assert_int_equal(harness_in(other, CPUS + 12, 4), 0xffffffff);
    assert_int_equal(harness_in(other, CPUS + 16, 4), 0);
    harness_destroy(other);
}

static void test_pci_hotplug(void **state)
{
    (void)state;
    harness_out(h, GPE + 2, 2, 2);
    acpi_gpe_pci_added(g, 4);
    assert_int_equal(harness_in(h, PCIHP, 4), 1 << 4);
    assert_int_equal(harness_in(h, PCIHP, 4), 1 << 4); /* reading does not clear */
    assert_true(h->plat.isa[9]);
    acpi_gpe_pci_remove(g, 31);
    assert_int_equal(harness_in(h, PCIHP + 4, 4), 0x80000000);
    assert_int_equal(harness_in(h, PCIHP + 7, 1), 0x80);
    acpi_gpe_pci_added(g, 32);
    acpi_gpe_pci_remove(g, 0xffffffff);
    harness_out(h, PCIHP, 4, 0xffffffff);
    harness_out(h, PCIHP + 4, 4, 0xffffffff);
    harness_out(h, PCIHP + 12, 4, 0);
    assert_int_equal(harness_in(h, PCIHP, 4), 1 << 4);
    assert_int_equal(harness_in(h, PCIHP + 12, 4), REMOVABLE);
    assert_int_equal(ejects, 0);
    harness_out(h, PCIHP + 8, 4, 0x80000000);
    assert_int_equal(ejects, 1);
    assert_int_equal(ejected, 31);
    assert_int_equal(harness_in(h, PCIHP + 4, 4), 0);
    harness_out(h, PCIHP + 8, 4, 0);
    harness_out(h, PCIHP + 8, 4, 2); /* slot 1, the chipset */
    assert_int_equal(ejects, 1);
    acpi_gpe_set_removable(g, 1, 1);
    acpi_gpe_set_removable(g, 31, 0);
    acpi_gpe_set_removable(g, 32, 1);
    assert_int_equal(harness_in(h, PCIHP + 12, 4), 0x7ffffff6);
    harness_out(h, PCIHP + 8, 4, 2);
    assert_int_equal(ejected, 1);
    harness_out(h, PCIHP + 11, 1, 0x80);
    assert_int_equal(ejects, 2);
    harness_out(h, PCIHP + 9, 1, 0x04);
    assert_int_equal(ejected, 10);
    assert_int_equal(harness_in(h, PCIHP + 8, 4), 0);
}

static void test_save(void **state)
{
    struct harness *other = harness_create();
    const struct acpi_gpe_config cfg = {.vcpus_online = 1};

    (void)state;
    assert_int_equal(acpi_gpe_create(&other->board, &cfg, NULL), 0);
    harness_out(h, GPE + 2, 2, 6);
    acpi_gpe_cpu_online(g, 5);
    acpi_gpe_pci_remove(g, 6);
    assert_true(harness_save_load_save(h));
    assert_true(harness_transfer(h, other));
    assert_int_equal(harness_in(other, GPE, 4), 0x00060006);
    assert_int_equal(harness_in(other, CPUS, 1), 0x27);
    assert_int_equal(harness_in(other, PCIHP + 4, 4), 1 << 6);
    assert_int_equal(harness_in(other, PCIHP + 12, 4), REMOVABLE);
    assert_true(other->plat.isa[9]);
    harness_destroy(other);
}

static void test_refused_leaves_nothing(void **state)
{
    const struct acpi_gpe_config cfg = {.vcpus_online = 1};
    unsigned live = h->plat.map_calls - h->plat.unmap_calls;

    (void)state;
    assert_int_equal(acpi_gpe_create(&h->board, &cfg, NULL), -EEXIST);
    assert_int_equal(h->plat.map_calls - h->plat.unmap_calls, live);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reset_values), TEST(test_status_and_enable), TEST(test_sci_is_reasserted),
        TEST(test_cpu_hotplug),  TEST(test_many_cpus_at_start), TEST(test_pci_hotplug),
        TEST(test_save),         TEST(test_refused_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
