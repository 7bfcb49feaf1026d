/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A compressor for pictures, in the format of RFC 1951: several times as fast as zlib's fastest
 * level, as it looks only where pixels repeat - one pixel back, one row up, and at the last place
 * that began like this one. What it makes is plain deflate; anything can unpack it.
 */
#include <stddef.h>
#include <stdint.h>

enum {
    DEFLATE_BLOCK = 32768, /* bytes of input with Huffman codes of their own */
    DEFLATE_HASH_BITS = 12,
};

/* Literals, then a match: `literals` bytes as they are, `len` (0: none) from `dist` back. */
struct deflate_step {
    uint16_t literals, len, dist;
};

/* What it works with; no state in it survives a call. Zero it once. */
struct deflate {
    uint32_t base;                           /* position of the input's first byte in `seen` */
    uint32_t seen[1 << DEFLATE_HASH_BITS];   /* last position of these bytes */
    struct deflate_step step[DEFLATE_BLOCK]; /* of one block */
    size_t steps;
};

/* The most that n bytes can become. */
size_t deflate_bound(size_t n);
/* Compresses the n bytes at in, pixels of `unit` bytes (1 or 3) in rows of `row` bytes (< 32768),
 * to out, which has room for deflate_bound(n). Returns the bytes written: blocks that are not the
 * last of their stream, ended at a byte boundary so that all of the input can be unpacked, and that
 * refer to nothing before them. Without the zlib header. in may be read up to 8 bytes beyond n. */
size_t deflate_pixels(struct deflate *d, const uint8_t *in, size_t n, unsigned unit, size_t row,
                      uint8_t *out);
