/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/vhd_make.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/vhd.h"

enum { HEADER_POS = 512, TABLE_POS = 4096, LOCATOR_POS = 1536, LOCATOR_ROOM = 768 };

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)(v >> 16));
    put16(p + 2, (uint16_t)v);
}

static void put64(uint8_t *p, uint64_t v)
{
    put32(p, (uint32_t)(v >> 32));
    put32(p + 4, (uint32_t)v);
}

static void seal(uint8_t *p, size_t len, size_t at)
{
    uint32_t sum = 0;

    put32(p + at, 0);
    for (size_t i = 0; i < len; i++) {
        sum += p[i];
    }
    put32(p + at, ~sum);
}

void vhd_make_seal_footer(uint8_t *footer)
{
    seal(footer, VHD_SECTOR, VHD_FOOTER_CHECKSUM);
}

void vhd_make_seal_header(uint8_t *header)
{
    seal(header, VHD_HEADER_BYTES, VHD_HEADER_CHECKSUM);
}

static uint32_t block_bytes(const struct vhd_make *m)
{
    return m->block_bytes != 0 ? m->block_bytes : 2 << 20;
}

static size_t table_bytes(const struct vhd_make *m)
{
    uint64_t entries = (m->size_bytes + block_bytes(m) - 1) / block_bytes(m);

    return (size_t)vhd_round_up(entries * 4, VHD_SECTOR);
}

size_t vhd_make_bytes(const struct vhd_make *m)
{
    return (m->type == VHD_FIXED ? (size_t)m->size_bytes : TABLE_POS + table_bytes(m)) + VHD_SECTOR;
}

static void make_footer(const struct vhd_make *m, uint8_t *f)
{
    bool geometry = m->cylinders != 0;

    memset(f, 0, VHD_SECTOR);
    memcpy(f, "conectix", 8);
    put32(f + VHD_FOOTER_FEATURES, 2);
    put32(f + VHD_FOOTER_VERSION, 0x10000);
    put64(f + VHD_FOOTER_DATA_OFFSET, m->type == VHD_FIXED ? UINT64_MAX : HEADER_POS);
    memcpy(f + VHD_FOOTER_CREATOR, m->creator != NULL ? m->creator : "win ", 4);
    memcpy(f + VHD_FOOTER_CREATOR_OS, "Wi2k", 4);
    put64(f + VHD_FOOTER_ORIGINAL_SIZE, m->size_bytes);
    put64(f + VHD_FOOTER_CURRENT_SIZE, m->size_bytes);
    put16(f + VHD_FOOTER_CYLINDERS, geometry ? m->cylinders : 65535);
    f[VHD_FOOTER_HEADS] = geometry ? m->heads : 16;
    f[VHD_FOOTER_SECTORS] = geometry ? m->sectors : 255;
    put32(f + VHD_FOOTER_TYPE, m->type);
    memset(f + VHD_FOOTER_UUID, m->uuid, 16);
    vhd_make_seal_footer(f);
}

static void make_locator(uint8_t *out, unsigned i, const char *code, const char *text)
{
    uint8_t *l = out + HEADER_POS + VHD_HEADER_LOCATORS + (size_t)i * VHD_LOCATOR_BYTES;
    size_t pos = LOCATOR_POS + (size_t)i * LOCATOR_ROOM, n = 0;

    for (const char *p = text; *p != '\0' && n + 2 <= LOCATOR_ROOM; p++) {
        out[pos + n++] = (uint8_t)*p;
        if (code[0] == 'W') {
            out[pos + n++] = 0;
        }
    }
    memcpy(l + VHD_LOCATOR_CODE, code, 4);
    put32(l + VHD_LOCATOR_SPACE, LOCATOR_ROOM);
    put32(l + VHD_LOCATOR_LENGTH, (uint32_t)n);
    put64(l + VHD_LOCATOR_OFFSET, pos);
}

static void make_header(const struct vhd_make *m, uint8_t *out)
{
    uint8_t *h = out + HEADER_POS;

    memcpy(h, "cxsparse", 8);
    put64(h + VHD_HEADER_DATA_OFFSET, UINT64_MAX);
    put64(h + VHD_HEADER_TABLE_OFFSET, TABLE_POS);
    put32(h + VHD_HEADER_VERSION, 0x10000);
    put32(h + VHD_HEADER_TABLE_ENTRIES, (uint32_t)(table_bytes(m) / 4));
    put32(h + VHD_HEADER_BLOCK_SIZE, block_bytes(m));
    if (m->type == VHD_DIFFERENCING) {
        memset(h + VHD_HEADER_PARENT_UUID, m->parent_uuid, 16);
        for (size_t i = 0; m->parent_name != NULL && m->parent_name[i] != '\0'; i++) {
            h[VHD_HEADER_PARENT_NAME + 2 * i + 1] = (uint8_t)m->parent_name[i];
        }
        for (unsigned i = 0; i < 3 && m->locators[i].code != NULL; i++) {
            make_locator(out, i, m->locators[i].code, m->locators[i].text);
        }
    }
    vhd_make_seal_header(h);
}

void vhd_make(const struct vhd_make *m, uint8_t *out)
{
    size_t bytes = vhd_make_bytes(m);

    make_footer(m, out + bytes - VHD_SECTOR);
    if (m->type != VHD_FIXED) {
        memset(out, 0, TABLE_POS);
        memcpy(out, out + bytes - VHD_SECTOR, VHD_SECTOR);
        make_header(m, out);
        memset(out + TABLE_POS, 0xff, table_bytes(m));
    }
}

int vhd_make_file(const struct vhd_make *m, const char *path)
{
    size_t bytes = vhd_make_bytes(m);
    uint8_t *image = calloc(1, bytes);
    FILE *f = image != NULL ? fopen(path, "we") : NULL;
    int rc = 0;

    if (f == NULL) {
        rc = image != NULL ? -errno : -ENOMEM;
    } else {
        vhd_make(m, image);
        rc = fwrite(image, 1, bytes, f) == bytes ? 0 : -EIO;
        rc = fclose(f) == 0 ? rc : -errno;
    }
    free(image);
    return rc;
}
