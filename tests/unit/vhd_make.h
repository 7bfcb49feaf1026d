/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Makes VHD images for tests, of kinds that no Debian tool makes: any block size, differencing. */
#include <stddef.h>
#include <stdint.h>

struct vhd_make {
    uint32_t type; /* enum vhd_type */
    uint64_t size_bytes;
    uint32_t block_bytes; /* 0: 2 MiB */
    const char *creator;  /* 4 bytes; NULL: "win " */
    uint16_t cylinders;   /* 0: 65535, 16, 255 */
    uint8_t heads, sectors;
    uint8_t uuid, parent_uuid; /* every byte of it */
    const char *parent_name;   /* ASCII */
    struct {
        const char *code, *text; /* ASCII; becomes UTF-16 for W2ru and W2ku */
    } locators[3];
};

/* Bytes of an image with no block. */
size_t vhd_make_bytes(const struct vhd_make *m);
/* Writes it to out, all of it but the data of a fixed image, which stays as it is. */
void vhd_make(const struct vhd_make *m, uint8_t *out);
/* As a file. 0 or -errno. */
int vhd_make_file(const struct vhd_make *m, const char *path);

/* Recomputes a checksum after changes. */
void vhd_make_seal_footer(uint8_t *footer);
void vhd_make_seal_header(uint8_t *header);
