/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "firmware/rom.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ROM_MAX = 1 << 20, /* bytes; real VGA BIOSes are below 64 KiB, network ones below 512 KiB */
    ROM_UNIT = 512,    /* unit of the length byte */
    ROM_LENGTH = 2,    /* offset of the length byte */
    ROM_PCIR = 0x18,   /* offset of the pointer to the PCI data structure */
    PCIR_SIZE = 0x18,
};

static unsigned le16(const uint8_t *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

/* NULL if the image is an option ROM for vendor:device, else what is wrong with it. */
static const char *rom_check(const uint8_t *data, size_t len, uint16_t vendor, uint16_t device)
{
    size_t used = (size_t)data[ROM_LENGTH] * ROM_UNIT;
    size_t pcir = le16(data + ROM_PCIR);
    uint8_t sum = 0;

    if (data[0] != 0x55 || data[1] != 0xaa) {
        return "it does not start with 55 aa";
    }
    if (used == 0 || used > len) {
        return "it is shorter than its header says";
    }
    if (pcir + PCIR_SIZE > len || memcmp(data + pcir, "PCIR", 4) != 0) {
        return "it has no PCI data structure";
    }
    if (le16(data + pcir + 4) != vendor || le16(data + pcir + 6) != device) {
        return "it is for another PCI device";
    }
    for (size_t i = 0; i < used; i++) {
        sum = (uint8_t)(sum + data[i]);
    }
    return sum == 0 ? NULL : "its checksum is wrong";
}

static int rom_map(const char *path, int fd, uint16_t vendor, uint16_t device, struct rom *out,
                   char *err, size_t errlen)
{
    const char *wrong;
    struct stat st;
    void *p;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < ROM_UNIT ||
        st.st_size > ROM_MAX) {
        snprintf(err, errlen, "%s: not an option ROM image (a file of 512 bytes to 1 MiB)", path);
        return -EINVAL;
    }
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        int ret = -errno;

        snprintf(err, errlen, "%s: cannot be mapped: %s", path, strerror(-ret));
        return ret;
    }
    wrong = rom_check(p, (size_t)st.st_size, vendor, device);
    if (wrong != NULL) {
        snprintf(err, errlen,
                 "%s: not usable as the ROM of %04x:%04x: %s; reinstall the package seabios", path,
                 vendor, device, wrong);
        munmap(p, (size_t)st.st_size);
        return -EINVAL;
    }
    *out = (struct rom){p, (size_t)st.st_size};
    return 0;
}

int rom_load(const char *dir, const char *name, uint16_t vendor, uint16_t device, struct rom *out,
             char *err, size_t errlen)
{
    const char *const dirs[] = {dir,
                                getenv("HVM_DM_FIRMWARE_DIR"),
                                HVM_DM_DATADIR,
                                "/usr/share/seabios",
                                "/usr/share/qemu",
                                "/usr/lib/ipxe/qemu"};

    *out = (struct rom){0};
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        char path[PATH_MAX];
        int ret;
        int fd;

        if (dirs[i] == NULL ||
            snprintf(path, sizeof(path), "%s/%s", dirs[i], name) >= (int)sizeof(path)) {
            continue;
        }
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) {
            continue;
        }
        if (fd < 0) {
            ret = -errno;
            snprintf(err, errlen, "%s: %s", path, strerror(-ret));
            return ret;
        }
        ret = rom_map(path, fd, vendor, device, out, err, errlen);
        close(fd);
        return ret;
    }
    snprintf(
        err, errlen,
        "%s: not found; install the package seabios, or set HVM_DM_FIRMWARE_DIR to where it is",
        name);
    return -ENOENT;
}

void rom_free(struct rom *rom)
{
    if (rom->data != NULL) {
        munmap((void *)(uintptr_t)rom->data, rom->len);
    }
    *rom = (struct rom){0};
}
