/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Option ROM images: made here with one thing wrong each, and those of Debian's seabios package. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "firmware/rom.h"

enum { VENDOR = 0x1234, DEVICE = 0x1111, IMAGE_LEN = 1536, USED = 1024, PCIR = 0x40 };

static char dir[64];
static char err[256];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/test_rom.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    unsetenv("HVM_DM_FIRMWARE_DIR");
    return rmdir(dir);
}

static void fix_sum(uint8_t *image)
{
    uint8_t sum = 0;

    image[USED - 1] = 0;
    for (int i = 0; i < USED; i++) {
        sum = (uint8_t)(sum + image[i]);
    }
    image[USED - 1] = (uint8_t)(0x100 - sum);
}

/* PCI Firmware Specification 3.0, 5.1: header, pointer at 0x18, data structure, length in units of 512. */
static void make_image(uint8_t image[IMAGE_LEN])
{
    memset(image, 0x5a, IMAGE_LEN);
    image[0] = 0x55;
    image[1] = 0xaa;
    image[2] = USED / 512;
    image[0x18] = PCIR;
    image[0x19] = 0;
    memcpy(image + PCIR, "PCIR\x34\x12\x11\x11", 8);
    fix_sum(image);
}

static void store(const char *name, const uint8_t *data, size_t len)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

static void forget(const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(unlink(path), 0);
}

static void test_good(void **state)
{
    uint8_t image[IMAGE_LEN];
    struct rom rom;

    (void)state;
    make_image(image);
    store("a.bin", image, sizeof(image));
    assert_int_equal(rom_load(dir, "a.bin", VENDOR, DEVICE, &rom, err, sizeof(err)), 0);
    assert_int_equal(rom.len, IMAGE_LEN);
    assert_memory_equal(rom.data, image, IMAGE_LEN);
    rom_free(&rom);
    assert_null(rom.data);
    assert_int_equal(rom.len, 0);
    rom_free(&rom);
    /* bytes behind the used part do not count */
    image[USED] ^= 0xff;
    store("a.bin", image, sizeof(image));
    assert_int_equal(setenv("HVM_DM_FIRMWARE_DIR", dir, 1), 0);
    assert_int_equal(rom_load(NULL, "a.bin", VENDOR, DEVICE, &rom, err, sizeof(err)), 0);
    rom_free(&rom);
    /* -L comes before the environment */
    assert_int_equal(setenv("HVM_DM_FIRMWARE_DIR", "/nonexistent", 1), 0);
    assert_int_equal(rom_load(dir, "a.bin", VENDOR, DEVICE, &rom, err, sizeof(err)), 0);
    rom_free(&rom);
    forget("a.bin");
}

/* One byte wrong in a good image, with the checksum put right or not. */
static const struct {
    size_t at;
    uint8_t value;
    bool fix;
    const char *reason;
} wrongs[] = {
    {0, 0x54, true, "it does not start with 55 aa"},
    {1, 0, true, "it does not start with 55 aa"},
    {2, 0, false, "it is shorter than its header says"},
    {2, 4, false, "it is shorter than its header says"},
    {2, 255, false, "it is shorter than its header says"},
    {0x18, PCIR + 1, true, "it has no PCI data structure"},
    {0x19, 0x05, true,
     "it has no PCI data structure"}, /* 24 bytes from there would just fit, the signature is not there */
    {0x19, 0xff, true, "it has no PCI data structure"},
    {PCIR + 3, 'S', true, "it has no PCI data structure"},
    {PCIR + 4, 0x35, true, "it is for another PCI device"},
    {PCIR + 5, 0x13, true, "it is for another PCI device"},
    {PCIR + 6, 0x12, true, "it is for another PCI device"},
    {PCIR + 7, 0x10, true, "it is for another PCI device"},
    {0x100, 0, false, "its checksum is wrong"},
};

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
        uint8_t image[IMAGE_LEN];
        struct rom rom;
        char expected[256];

        make_image(image);
        image[wrongs[i].at] = wrongs[i].value;
        if (wrongs[i].fix) {
            fix_sum(image);
        }
        store("b.bin", image, sizeof(image));
        assert_int_equal(rom_load(dir, "b.bin", VENDOR, DEVICE, &rom, err, sizeof(err)), -EINVAL);
        snprintf(expected, sizeof(expected),
                 "%s/b.bin: not usable as the ROM of 1234:1111: %s; reinstall the package seabios", dir,
                 wrongs[i].reason);
        assert_string_equal(err, expected);
        assert_null(rom.data);
    }
    forget("b.bin");
}

static void test_files(void **state)
{
    uint8_t image[IMAGE_LEN];
    struct rom rom;
    char path[128];

    (void)state;
    make_image(image);
    assert_int_equal(rom_load(dir, "no-such-rom.bin", VENDOR, DEVICE, &rom, err, sizeof(err)), -ENOENT);
    assert_string_equal(
        err, "no-such-rom.bin: not found; install the package seabios, or set HVM_DM_FIRMWARE_DIR to where it is");
    store("c.bin", image, 511);
    assert_int_equal(rom_load(dir, "c.bin", VENDOR, DEVICE, &rom, err, sizeof(err)), -EINVAL);
    assert_non_null(strstr(err, "/c.bin: not an option ROM image"));
    store("c.bin", image, 512); /* the header says two units */
    assert_int_equal(rom_load(dir, "c.bin", VENDOR, DEVICE, &rom, err, sizeof(err)), -EINVAL);
    assert_non_null(strstr(err, "it is shorter than its header says"));
    snprintf(path, sizeof(path), "%s/c.bin", dir);
    assert_int_equal(truncate(path, (1 << 20) + 1), 0);
    assert_int_equal(rom_load(dir, "c.bin", VENDOR, DEVICE, &rom, err, sizeof(err)), -EINVAL);
    assert_non_null(strstr(err, "/c.bin: not an option ROM image"));
    forget("c.bin");
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(rom_load(dir, "c.bin", VENDOR, DEVICE, &rom, err, sizeof(err)), -EINVAL);
    assert_int_equal(rmdir(path), 0);
}

/* The images that the board uses; where the package is missing the message must say which one. */
static void test_debian_images(void **state)
{
    static const struct {
        const char *name;
        uint16_t vendor, device;
    } images[] = {{"vgabios-stdvga.bin", 0x1234, 0x1111}, {"vgabios-cirrus.bin", 0x1013, 0x00b8}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rom rom;
        int rc = rom_load(NULL, images[i].name, images[i].vendor, images[i].device, &rom, err, sizeof(err));

        if (rc == -ENOENT) {
            assert_non_null(strstr(err, "install the package seabios"));
            skip();
        }
        assert_int_equal(rc, 0);
        assert_in_range(rom.len, 16 << 10, 64 << 10);
        rom_free(&rom);
        assert_int_equal(rom_load(NULL, images[i].name, images[i].vendor, 0xbeef, &rom, err, sizeof(err)), -EINVAL);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_debian_images, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
