/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Microsoft VHD ("vpc" on the command line), as described in "Virtual Hard Disk Image Format
 * Specification", version 1.0, October 11, 2006. All numbers in an image are big endian.
 *
 *     fixed:                       data, footer
 *     dynamic and differencing:    footer copy, header, block allocation table (BAT), blocks, footer
 *
 * A block in the file is its sector bitmap, padded to whole sectors, and its data. vhd_image.c reads
 * and checks the structures when an image is opened; vhd.c serves requests.
 */
#include "block/backend.h"
#include "core/loop.h"

enum { VHD_SECTOR = 512, VHD_HEADER_BYTES = 1024, VHD_LOCATORS = 8, VHD_NAME_BYTES = 512 };

enum vhd_type { VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFFERENCING = 4 };

#define VHD_NO_BLOCK UINT32_MAX /* in the BAT, in either byte order */

/* "Hard Disk Footer Format". Offsets in bytes; sizes are those to the next one. */
enum vhd_footer {
    VHD_FOOTER_COOKIE = 0, /* "conectix" */
    VHD_FOOTER_FEATURES = 8,
    VHD_FOOTER_VERSION = 12,
    VHD_FOOTER_DATA_OFFSET = 16, /* of the header; all ones in fixed images */
    VHD_FOOTER_TIME_STAMP = 24,
    VHD_FOOTER_CREATOR = 28,
    VHD_FOOTER_CREATOR_VERSION = 32,
    VHD_FOOTER_CREATOR_OS = 36,
    VHD_FOOTER_ORIGINAL_SIZE = 40,
    VHD_FOOTER_CURRENT_SIZE = 48,
    VHD_FOOTER_CYLINDERS = 56, /* 2 bytes, heads 1 byte, sectors per track 1 byte */
    VHD_FOOTER_HEADS = 58,
    VHD_FOOTER_SECTORS = 59,
    VHD_FOOTER_TYPE = 60,
    VHD_FOOTER_CHECKSUM = 64,
    VHD_FOOTER_UUID = 68,
    VHD_FOOTER_SAVED_STATE = 84,
    VHD_FOOTER_RESERVED = 85,
};

/* "Dynamic Disk Header Format". */
enum vhd_header {
    VHD_HEADER_COOKIE = 0, /* "cxsparse" */
    VHD_HEADER_DATA_OFFSET = 8,
    VHD_HEADER_TABLE_OFFSET = 16,
    VHD_HEADER_VERSION = 24,
    VHD_HEADER_TABLE_ENTRIES = 28,
    VHD_HEADER_BLOCK_SIZE = 32,
    VHD_HEADER_CHECKSUM = 36,
    VHD_HEADER_PARENT_UUID = 40,
    VHD_HEADER_PARENT_TIME = 56,
    VHD_HEADER_PARENT_NAME = 64,   /* UTF-16, big endian */
    VHD_HEADER_LOCATORS = 576,     /* VHD_LOCATORS of VHD_LOCATOR_BYTES */
    VHD_HEADER_RESERVED = 768,
};

enum vhd_locator {
    VHD_LOCATOR_CODE = 0,
    VHD_LOCATOR_SPACE = 4,
    VHD_LOCATOR_LENGTH = 8, /* bytes */
    VHD_LOCATOR_OFFSET = 16,
    VHD_LOCATOR_BYTES = 24,
};

static inline uint32_t vhd_get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t vhd_get64(const uint8_t *p)
{
    return (uint64_t)vhd_get32(p) << 32 | vhd_get32(p + 4);
}

/* A cache of sectors of sector bitmaps, VHD_CACHE_WAYS places for each number % VHD_CACHE_SETS. */
enum { VHD_CACHE_SETS = 64, VHD_CACHE_WAYS = 4 };

struct vhd_slot {
    uint64_t number;   /* block * bitmap sectors of a block + the one in it */
    uint64_t file_pos; /* 0: empty */
    uint64_t used;     /* time of last use */
    bool dirty;
    uint8_t bits[VHD_SECTOR]; /* the first sector is the highest bit of the first byte */
};

struct vhd_op;

struct vhd {
    struct block *block;
    struct block *parent; /* differencing images */

    /* The layout, fixed after open. */
    enum vhd_type type;
    uint8_t footer[VHD_SECTOR];
    uint32_t block_bytes; /* a power of two */
    uint32_t bitmap_bytes; /* of one block, whole sectors */
    uint32_t blocks;       /* that the size needs */
    uint64_t table_pos;

    uint32_t *bat; /* as in the file: big-endian sector numbers */
    uint8_t *bat_dirty; /* one bit for each sector of the BAT */
    uint32_t dirty;     /* BAT sectors and bitmap sectors that are not in the file yet */
    bool unsynced;      /* some are, but the sync after them has not succeeded */
    uint64_t next_pos;   /* new blocks go here or behind */
    uint64_t unclean_end; /* below, a new block may find something else than zeros */
    uint64_t footer_pos;  /* of the last footer; 0: none is kept */
    bool no_first;        /* when opened: the copy of the footer at the front was spoilt */
    struct vhd_slot *cache; /* VHD_CACHE_SETS * VHD_CACHE_WAYS */
    uint64_t clock;

    /* Requests. */
    struct vhd_op *ready, **ready_tail; /* go on at once */
    struct vhd_op *owner;               /* may change metadata, cache entries, the layout */
    struct vhd_op *locked, **locked_tail; /* want to be owner */
    struct vhd_op *spare;
    unsigned file_pending, parent_pending; /* children in flight */
    uint64_t completed;
    bool running;
    struct timer write_back;
    struct block_request own_flush;
    bool own_flush_busy;
};

/* Reads and checks the structures of v->block->file and opens the parents. Fills v and
 * v->block->size_bytes. 0, or -errno with a one-line reason in err; vhd_free() in both cases. */
int vhd_read_image(struct vhd *v, const struct block_config *cfg, char *err, size_t errlen);
void vhd_free(struct vhd *v);

static inline uint64_t vhd_round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}
