/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include <stdint.h>

struct board;
struct cmos;

struct cmos_disk {
    uint16_t
        cylinders; /* 0: no disk; logical geometry as the drive's IDENTIFY words 1, 3, 6 say it */
    uint8_t heads, sectors;
};

struct cmos_config {
    uint64_t ram_below_4g_bytes, ram_above_4g_bytes;
    const char *boot; /* up to three of "acdn", first choice first; used during create only */
    struct cmos_disk disks[4]; /* IDE 0..3, hard disks only */
};

enum { CMOS_SHUTDOWN = 0x0f, CMOS_SHUTDOWN_S3_RESUME = 0xfe };

/* Creates bytes 14..127 of the CMOS RAM at 0x70/0x71; Xen keeps bytes 0..13, its own clock. *out,
 * if not NULL, gets a handle that lives as long as the board. 0; -EINVAL: cfg->boot is not a boot
 * order; or -errno with the board unchanged. Source: the PC/AT CMOS map as SeaBIOS and hvmloader
 * use it. */
int cmos_create(struct board *b, const struct cmos_config *cfg, struct cmos **out);

/* Sets byte 14..127 as the machine itself does (CMOS_SHUTDOWN on entering S3); other indexes are
 * ignored. */
void cmos_set(struct cmos *c, unsigned index, uint8_t value);
