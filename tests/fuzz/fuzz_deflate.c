/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pictures into the compressor, and out again through zlib. The input: pixels of one byte or three, the row, how often it repeats
 * (so that blocks, windows and distances are long), and the bytes.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "ui/deflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct deflate d;
    unsigned unit;
    size_t n, len, row;
    uint8_t *in, *out, *back;
    z_stream z = {0};

    if (size < 8) {
        return 0;
    }
    unit = data[0] & 1 ? 3 : 1;
    row = unit * (1 + ((size_t)data[1] | (size_t)(data[2] & 0x1f) << 8));
    n = (size - 4) * (1 + data[3] % 64u);
    n -= n % unit;
    in = calloc(1, n + 8);
    out = malloc(deflate_bound(n));
    back = malloc(n + 1);
    for (size_t i = 0; i < n; i++) {
        in[i] = (uint8_t)(data[4 + i % (size - 4)] + (data[0] & 2 ? i / 5000 : 0));
    }
    len = deflate_pixels(&d, in, n, unit, row, out);
    if (len > deflate_bound(n) || inflateInit2(&z, -15) != Z_OK) {
        abort();
    }
    z.next_in = out;
    z.avail_in = (uInt)len;
    z.next_out = back;
    z.avail_out = (uInt)n + 1;
    if (inflate(&z, Z_SYNC_FLUSH) != Z_OK || z.avail_in != 0 || z.total_out != n || memcmp(in, back, n) != 0) {
        abort();
    }
    inflateEnd(&z);
    free(in);
    free(out);
    free(back);
    return 0;
}
