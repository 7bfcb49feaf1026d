/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Option ROM images that the guest finds in ROM BARs: the VGA BIOSes of Debian's seabios package.
 * They are mapped read-only from the file, so they cost no private memory and are shared by all
 * guests of the host.
 */
#include <stddef.h>
#include <stdint.h>

struct rom {
    const uint8_t *data;
    size_t len; /* bytes; 0: none */
};

/*
 * Loads `name` from the first of: dir (may be NULL), $HVM_DM_FIRMWARE_DIR, our own data directory,
 * and where Debian's packages put such files. The image must be a PCI option ROM (PCI Firmware
 * Specification 3.0, 5.1) for vendor:device with a right checksum. 0, or -errno and one line in err
 * that names the file and what to install.
 */
int rom_load(const char *dir, const char *name, uint16_t vendor, uint16_t device, struct rom *out,
             char *err, size_t errlen);
void rom_free(struct rom *rom);
