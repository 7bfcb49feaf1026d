/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2: compressed clusters (deflate without a header). The last one stays inflated. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "block/qcow2.h"

/* Inflates exactly one cluster. */
static int inflate_cluster(struct qcow2 *q, size_t len)
{
    z_stream z;

    memset(&z, 0, sizeof(z));
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) {
        return -ENOMEM;
    }
    z.next_in = q->inflate.in;
    z.avail_in = (uInt)len;
    z.next_out = q->inflate.out;
    z.avail_out = (uInt)q->cluster_bytes;
    int rc = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    /* The input may be longer than the data: Z_BUF_ERROR with a full output is well, too. */
    return z.avail_out == 0 && (rc == Z_STREAM_END || rc == Z_BUF_ERROR) ? 0 : -EIO;
}

static void loaded(struct qcow2_io *io, int error)
{
    struct qcow2 *q = io->q;
    uint64_t entry = q->inflate.loading, host, len;

    q->inflate.loading = 0;
    if (error == 0) {
        qcow2_compressed_range(q, entry, &host, &len);
        error = inflate_cluster(q, (size_t)len);
    }
    if (error < 0) {
        q->inflate.failed = entry;
        q->inflate.error = error;
    } else {
        q->inflate.entry = entry;
    }
    qcow2_wake(&q->inflate.queue, 0); /* others wait for other clusters: each looks again */
}

int qcow2_inflate(struct qcow2 *q, uint64_t entry, struct qcow2_wait *w, const uint8_t **out)
{
    uint64_t host, len;

    if (q->inflate.entry == entry) {
        *out = q->inflate.out;
        return 0;
    }
    if (q->inflate.failed == entry && q->inflate.loader == w) {
        q->inflate.failed = 0;
        return q->inflate.error;
    }
    if (q->inflate.loading != 0) {
        qcow2_park(&q->inflate.queue, w);
        return 1;
    }
    qcow2_compressed_range(q, entry, &host, &len);
    if (q->inflate.in == NULL) {
        q->inflate.in = malloc(2 * (size_t)q->cluster_bytes);
    }
    if (q->inflate.out == NULL) {
        q->inflate.out = malloc((size_t)q->cluster_bytes);
    }
    struct qcow2_io *io = qcow2_io_get(q, q, loaded);
    if (io == NULL || q->inflate.in == NULL || q->inflate.out == NULL) {
        qcow2_io_put(io);
        return -ENOMEM;
    }
    q->inflate.entry = 0;
    q->inflate.loading = entry;
    q->inflate.failed = 0;
    q->inflate.loader = w;
    qcow2_park(&q->inflate.queue, w);
    (void)qcow2_io_add(io, q->inflate.in, (size_t)len);
    qcow2_io_file(io, BLOCK_READ, host, 0);
    return 1;
}

void qcow2_inflate_drop(struct qcow2 *q)
{
    if (q->inflate.loading != 0) {
        return;
    }
    free(q->inflate.in);
    free(q->inflate.out);
    q->inflate.in = NULL;
    q->inflate.out = NULL;
    q->inflate.entry = 0;
}
