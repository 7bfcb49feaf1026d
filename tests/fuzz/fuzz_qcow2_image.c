/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hostile qcow2 images: a count, so many operations of four bytes, and the image. It opens or is
 * refused with a line; then operations run, which may fail but must end, and the process goes on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2.h"
#include "tests/unit/block_fake.h"
#include "tests/unit/qcow2_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPS_MAX = 24, ROOM = 6 << 20, BYTES_MAX = 256 << 10, BACKING = 64 << 10 };

struct op {
    struct block_request req;
    struct iovec iov[2];
    uint8_t *buf;
    bool over;
};

static void done(struct block_request *req, int error)
{
    struct op *op = req->opaque;

    if (op->over || error > 0) {
        abort();
    }
    op->over = true;
}

static void submit(struct block *b, struct op *op, const uint8_t code[4])
{
    static const enum block_op what[] = {BLOCK_READ,    BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE,
                                         BLOCK_DISCARD, BLOCK_FLUSH, BLOCK_READ,  BLOCK_WRITE};
    uint64_t size = block_size_bytes(b), at = (uint64_t)code[1] * 317, len = code[2] * 131 + 1;

    if ((code[0] & 0x10) != 0) { /* anywhere */
        at = size / 256 * code[1] + code[3];
    }
    if ((code[0] & 0x20) != 0) {
        len = (uint64_t)code[2] << 10;
    }
    at = at < size ? at : size - 1;
    len = len < size - at ? len : size - at;
    op->req.op = what[code[0] & 7];
    if (op->req.op == BLOCK_DISCARD && (code[0] & 0x40) != 0) { /* much; in bounds, for speed */
        len = size - at < UINT64_C(1) << 32 ? size - at : UINT64_C(1) << 32;
    } else if (len > BYTES_MAX) {
        len = BYTES_MAX;
    }
    op->buf = malloc(BYTES_MAX);
    memset(op->buf, code[3], len < BYTES_MAX ? len : BYTES_MAX);
    op->req.offset_bytes = at;
    op->req.length_bytes = len;
    op->req.fua = (code[0] & 0x80) != 0;
    op->req.done = done;
    op->req.opaque = op;
    if (op->req.op == BLOCK_READ || op->req.op == BLOCK_WRITE) {
        op->iov[0] = (struct iovec){op->buf, len / 3};
        op->iov[1] = (struct iovec){op->buf + len / 3, len - len / 3};
        op->req.iov = op->iov;
        op->req.iovcnt = 2;
    }
    block_submit(b, &op->req);
}

static void run(struct loop *loop, struct rig_file *f, struct block *b, const uint8_t *codes,
                unsigned n)
{
    struct op *ops = calloc(n + 1, sizeof(*ops));

    for (unsigned i = 0; i < n; i++) {
        f->hold = (codes[4 * i + 3] & 1) != 0;
        submit(b, &ops[i], codes + 4 * i);
    }
    for (unsigned i = 0; i < n; i++) {
        for (unsigned spin = 0; !ops[i].over; spin++) {
            if (!rig_file_run(f)) {
                loop_poll(loop, 0);
            }
            if (spin > 1000000) {
                fprintf(stderr, "a request never ends\n");
                abort();
            }
        }
        free(ops[i].buf);
    }
    free(ops);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    unsigned n = data[0] % OPS_MAX;
    bool readonly = (data[0] & 0x80) != 0, backed = (data[0] & 0x40) != 0;
    const uint8_t *codes = data + 1;
    if (size < 1 + 4 * n + 16) {
        return 0;
    }
    const uint8_t *bytes = codes + 4 * n;
    size_t len = size - 1 - 4 * n;
    uint8_t *image = malloc(len);
    memcpy(image, bytes, len);
    memset(image + 8, 0, 8); /* no names of files of this machine; see test_qcow2.c */
    struct loop *loop = loop_create(true);
    struct rig_file *f = rig_file_create(image, len, len + ROOM);
    char err[1024] = "";
    struct block *b = rig_open(loop, f, readonly, err, sizeof(err));
    if (b == NULL) {
        if (err[0] == 0 || strchr(err, '\n') != NULL) {
            abort();
        }
    } else {
        struct qcow2 *q = b->state;
        if (backed) {
            q->backing = block_fake_create(loop, BACKING, true);
        }
        run(loop, f, b, codes, n);
        f->hold = (data[0] & 0x20) != 0;
        block_close(b);
    }
    rig_file_destroy(f);
    loop_destroy(loop);
    return 0;
}
