/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "hw/piix3.h"
#include "tests/unit/harness.h"

enum { DEVFN = PCI_DEVFN(1, 0) };
static struct harness *h;

static int setup(void **state)
{
    (void)state;
    h = harness_create();
    return piix3_create(&h->board);
}

static int teardown(void **state)
{
    (void)state;
    harness_destroy(h);
    return 0;
}

static void expect_links(unsigned a, unsigned b, unsigned c, unsigned d)
{
    assert_int_equal(h->plat.pci_link[0], a);
    assert_int_equal(h->plat.pci_link[1], b);
    assert_int_equal(h->plat.pci_link[2], c);
    assert_int_equal(h->plat.pci_link[3], d);
}

static void test_reset_values(void **state)
{
    static const struct {
        unsigned reg;
        uint32_t value;
    } table[] = {
        {0x00, 0x70008086}, {0x04, 0x02000000}, {0x08, 0x06010000}, {0x0c, 0x00800000}, {0x2c, 0x11001af4},
        {0x3c, 0},          {0x4c, 0x0003004d}, {0x60, 0x80808080}, {0x68, 0x00000200}, {0x70, 0x00000080},
        {0x74, 0x0c0c0000}, {0x78, 0x00000002}, {0xa0, 0x00000008}, {0xa8, 0x0000000f},
    };

    (void)state;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
            assert_int_equal(harness_pci_read(h, DEVFN, table[i].reg, 4), table[i].value);
            harness_pci_write(h, DEVFN, table[i].reg, 4, ~table[i].value);
        }
        board_reset(&h->board);
    }
    expect_links(0, 0, 0, 0);
}

static void test_routes(void **state)
{
    (void)state;
    /* As hvmloader writes them, byte by byte. */
    harness_pci_write(h, DEVFN, 0x60, 1, 5);
    harness_pci_write(h, DEVFN, 0x61, 1, 10);
    harness_pci_write(h, DEVFN, 0x62, 1, 11);
    harness_pci_write(h, DEVFN, 0x63, 1, 5);
    expect_links(5, 10, 11, 5);
    harness_pci_write(h, DEVFN, 0x61, 1, 0x8a); /* _DIS */
    expect_links(5, 0, 11, 5);
    harness_pci_write(h, DEVFN, 0x62, 2, 0x0907);
    expect_links(5, 0, 7, 9);
    harness_pci_write(h, DEVFN, 0x60, 4, 0x7b800c0d); /* bits 6:4 mean nothing */
    expect_links(13, 12, 0, 11);
    harness_pci_write(h, DEVFN, 0x5e, 4, 0x03040000); /* straddling the first two */
    expect_links(4, 3, 0, 11);
    harness_pci_write(h, DEVFN, 0x63, 4, 0x00000006);
    expect_links(4, 3, 0, 6);
    h->plat.pci_link[0] = 99;
    harness_pci_write(h, DEVFN, 0x64, 4, 0); /* a neighbour is no route */
    harness_pci_write(h, DEVFN, 0x5c, 4, 0);
    assert_int_equal(h->plat.pci_link[0], 99);
    harness_pci_write(h, DEVFN, 0x60, 1, 4); /* an unchanged one is passed on */
    expect_links(4, 3, 0, 6);
    board_reset(&h->board);
    expect_links(0, 0, 0, 0);
}

static void test_port92(void **state)
{
    (void)state;
    assert_int_equal(harness_in(h, 0x92, 1), 0);
    harness_out(h, 0x92, 1, 2);
    assert_int_equal(harness_in(h, 0x92, 1), 2);
    harness_out(h, 0x92, 1, 0xfe);
    assert_int_equal(harness_in(h, 0x92, 1), 0xfe);
    assert_int_equal(h->plat.shutdown_reason, -1);
    harness_out(h, 0x92, 1, 3);
    assert_int_equal(h->plat.shutdown_reason, PLATFORM_REBOOT);
    h->plat.shutdown_reason = -1;
    harness_out(h, 0x92, 1, 3); /* only the rising edge */
    assert_int_equal(h->plat.shutdown_reason, -1);
    harness_out(h, 0x92, 1, 2);
    harness_out(h, 0x92, 1, 3);
    assert_int_equal(h->plat.shutdown_reason, PLATFORM_REBOOT);
    board_reset(&h->board);
    assert_int_equal(harness_in(h, 0x92, 1), 0);
    assert_int_equal(harness_in(h, 0x91, 1), 0xff);
    assert_int_equal(harness_in(h, 0x93, 1), 0xff);
}

static void test_save(void **state)
{
    struct harness *other = harness_create();

    (void)state;
    assert_int_equal(piix3_create(&other->board), 0);
    harness_out(h, 0x92, 1, 2);
    harness_pci_write(h, DEVFN, 0x60, 4, 0x800b0a05);
    assert_true(harness_save_load_save(h));
    assert_true(harness_transfer(h, other));
    assert_int_equal(harness_in(other, 0x92, 1), 2);
    assert_int_equal(harness_pci_read(other, DEVFN, 0x60, 4), 0x800b0a05);
    assert_int_equal(other->plat.pci_link[1], 10);
    harness_destroy(other);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reset_values),
        TEST(test_routes),
        TEST(test_port92),
        TEST(test_save),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
