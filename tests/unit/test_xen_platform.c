/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "hw/xen_platform.h"
#include "tests/unit/harness.h"

enum { DEVFN = PCI_DEVFN(2, 0), BAR0 = 0xc000, BAR1 = 0xf2000000 };
static struct harness *h;
static unsigned unplugged, unplugs;

static void on_unplug(void *opaque, unsigned mask)
{
    assert_ptr_equal(opaque, &unplugged);
    unplugged = mask;
    unplugs++;
}

static const struct xen_platform_config cfg = {.devfn = DEVFN, .unplug = on_unplug, .opaque = &unplugged};

static int setup(void **state)
{
    (void)state;
    h = harness_create();
    unplugged = unplugs = 0;
    return xen_platform_create(&h->board, &cfg);
}

static int teardown(void **state)
{
    (void)state;
    harness_destroy(h);
    return 0;
}

static void place(void)
{
    harness_pci_write(h, DEVFN, PCI_BAR0, 4, BAR0);
    harness_pci_write(h, DEVFN, PCI_BAR0 + 4, 4, BAR1);
    harness_pci_write(h, DEVFN, PCI_COMMAND, 2, 7);
}

static void test_identity(void **state)
{
    (void)state;
    assert_int_equal(harness_pci_read(h, DEVFN, 0x00, 4), 0x00015853);
    assert_int_equal(harness_pci_read(h, DEVFN, 0x04, 4), 0);
    assert_int_equal(harness_pci_read(h, DEVFN, 0x08, 4), 0xff800001);
    assert_int_equal(harness_pci_read(h, DEVFN, 0x2c, 4), 0x00015853);
    assert_int_equal(harness_pci_read(h, DEVFN, 0x3c, 2), 0x0100);
    assert_int_equal(harness_pci_read(h, DEVFN, PCI_BAR0, 4), 1);
    assert_int_equal(harness_pci_read(h, DEVFN, PCI_BAR0 + 4, 4), 8);
    harness_pci_write(h, DEVFN, PCI_BAR0, 4, 0xffffffff);
    harness_pci_write(h, DEVFN, PCI_BAR0 + 4, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(h, DEVFN, PCI_BAR0, 4), 0xffffff01);
    assert_int_equal(harness_pci_read(h, DEVFN, PCI_BAR0 + 4, 4), 0xff000008);
}

static void test_fixed_reads(void **state)
{
    (void)state;
    for (unsigned size = 1; size <= 4; size *= 2) {
        for (uint16_t port = 0x10; port < 0x20; port++) {
            uint32_t want = size == 4 ? 0xffffffff : (1u << 8 * size) - 1;

            want = port == 0x10 && size == 2 ? 0x49d2 : port == 0x10 && size == 1 ? 0 : port == 0x12 && size == 1 ? 1 : want;
            assert_int_equal(harness_in(h, port, size), want);
        }
    }
    assert_int_equal(harness_in(h, 0x20, 1), 0xff);
}

static void test_unplug(void **state)
{
    static const struct {
        uint16_t written;
        unsigned mask;
    } table[] = {
        {1, 1}, {2, 2}, {3, 3}, {4, 4}, {8, 8}, {5, 1}, {7, 3}, {0xffff, 0x0b}, {0x0c, 0x0c},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        harness_out(h, 0x10, 2, table[i].written);
        assert_int_equal(unplugs, i + 1);
        assert_int_equal(unplugged, table[i].mask);
    }
    unplugs = 0;
    harness_out(h, 0x10, 2, 0);
    harness_out(h, 0x10, 2, 0x1230);
    harness_out(h, 0x10, 4, 3); /* a build number */
    harness_out(h, 0x12, 2, 3); /* a product number */
    harness_out(h, 0x11, 2, 3);
    harness_out(h, 0x11, 1, 3);
    harness_out(h, 0x14, 2, 3);
    assert_int_equal(unplugs, 0);
}

static void test_no_callback(void **state)
{
    struct harness *other = harness_create();

    (void)state;
    assert_int_equal(xen_platform_create(&other->board, &(struct xen_platform_config){.devfn = DEVFN}), 0);
    harness_out(other, 0x10, 2, 0xffff);
    assert_int_equal(harness_in(other, 0x10, 2), 0x49d2);
    harness_destroy(other);
}

static void test_rom_lock(void **state)
{
    (void)state;
    assert_int_equal(h->plat.last_readonly.n, 0);
    harness_out(h, 0x10, 1, 0xff);
    assert_int_equal(h->plat.last_readonly.gfn, 0xc0);
    assert_int_equal(h->plat.last_readonly.n, 64);
    assert_true(h->plat.last_readonly.readonly);
    assert_int_equal(harness_in(h, 0x10, 1), 1);
    harness_out(h, 0x10, 1, 0xfe);
    assert_false(h->plat.last_readonly.readonly);
    assert_int_equal(harness_in(h, 0x10, 1), 0);
    h->plat.last_readonly.n = 0;
    harness_out(h, 0x10, 1, 0); /* unchanged: no hypercall */
    assert_int_equal(h->plat.last_readonly.n, 0);
    harness_out(h, 0x10, 1, 1);
    board_reset(&h->board);
    assert_false(h->plat.last_readonly.readonly);
    assert_int_equal(harness_in(h, 0x10, 1), 0);
}

static void test_bar0(void **state)
{
    (void)state;
    place();
    harness_out(h, BAR0, 1, 1);
    assert_true(h->plat.last_readonly.readonly);
    assert_int_equal(harness_in(h, BAR0, 1), 1);
    assert_int_equal(harness_in(h, BAR0 + 1, 1), 0xff);
    harness_out(h, BAR0 + 4, 1, 0);
    assert_int_equal(unplugs, 0);
    harness_out(h, BAR0 + 4, 1, 1);
    assert_int_equal(unplugged, 3);
    harness_out(h, BAR0 + 8, 1, 1);
    assert_int_equal(unplugged, 1);
    harness_out(h, BAR0 + 8, 1, 2);
    assert_int_equal(unplugged, 2);
    harness_out(h, BAR0 + 8, 1, 'x');
    harness_out(h, BAR0 + 0xff, 4, 1);
    assert_int_equal(unplugs, 3);
}

static void test_bar1(void **state)
{
    uint8_t buf[64];

    (void)state;
    place();
    harness_write(h, BAR1 + 0x1000, 8, UINT64_MAX);
    assert_true(harness_read(h, BAR1 + 0x1000, 8) == 0);
    assert_true(harness_read(h, BAR1 + 0xfffffc, 4) == 0);
    assert_true(harness_read(h, BAR1 + 0x1000000, 4) == 0xffffffff);
    bus_read_rep(h->board.bus, BUS_MMIO, BAR1, 4, buf, 16);
    assert_int_equal(buf[63], 0);
}

/* Lines go to the log when they end or are too long, made printable. */
static void test_log_port(void **state)
{
    int fd = memfd_create("log", 0), saved = dup(STDERR_FILENO);
    static const char text[] = "driver\x1b up\nnext";
    static char out[4096];
    ssize_t n;

    (void)state;
    place();
    assert_true(fd >= 0 && saved >= 0);
    dup2(fd, STDERR_FILENO);
    for (unsigned i = 0; i < sizeof(text) - 1; i++) {
        harness_out(h, 0x12, 1, (uint8_t)text[i]);
    }
    harness_out(h, BAR0 + 8, 1, '!');
    for (unsigned i = 0; i < 10000; i++) {
        harness_out(h, 0x12, 1, 'y');
    }
    dup2(saved, STDERR_FILENO);
    n = pread(fd, out, sizeof(out) - 1, 0);
    assert_true(n > 0);
    out[n] = '\0';
    assert_ptr_equal(strstr(out, "hvm-dm: xen-platform: driver? up\nhvm-dm: xen-platform: next!yyy"), out);
    close(fd);
    close(saved);
}

static void test_save(void **state)
{
    struct harness *other = harness_create();

    (void)state;
    assert_int_equal(xen_platform_create(&other->board, &cfg), 0);
    place();
    harness_out(h, 0x10, 1, 1);
    harness_out(h, 0x12, 2, 3);
    harness_out(h, 0x10, 4, 0x1234);
    assert_true(harness_save_load_save(h));
    assert_true(harness_transfer(h, other));
    assert_int_equal(harness_in(other, 0x10, 1), 1);
    assert_int_equal(harness_in(other, BAR0, 1), 1);
    assert_true(other->plat.last_readonly.readonly); /* page types are not part of what Xen saves */
    assert_int_equal(unplugs, 0);
    harness_destroy(other);
}

static void test_pvdevice(void **state)
{
    (void)state;
    assert_int_equal(xen_pvdevice_create(&h->board, PCI_DEVFN(7, 0), 0xc000, 1), 0);
    assert_int_equal(harness_pci_read(h, PCI_DEVFN(7, 0), 0, 4), 0xc0005853);
    assert_int_equal(harness_pci_read(h, PCI_DEVFN(7, 0), 8, 4), 0xff800001);
    harness_pci_write(h, PCI_DEVFN(7, 0), PCI_BAR0 + 4, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(h, PCI_DEVFN(7, 0), PCI_BAR0 + 4, 4), 0xffc00008);
    harness_pci_write(h, PCI_DEVFN(7, 0), PCI_BAR0 + 4, 4, 0xf4000000);
    harness_pci_write(h, PCI_DEVFN(7, 0), PCI_COMMAND, 2, 2);
    assert_int_equal(harness_read(h, 0xf4000000, 4), 0);
    assert_true(harness_save_load_save(h));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_identity), TEST(test_fixed_reads), TEST(test_unplug), TEST(test_no_callback), TEST(test_rom_lock),
        TEST(test_bar0),     TEST(test_bar1),        TEST(test_log_port), TEST(test_save),      TEST(test_pvdevice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
