/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/block_fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/backend.h"

struct fake {
    uint8_t *data;
    struct block_request *first, **tail;
    unsigned waiting;
    bool hold;
    int fail_error;
    enum block_op fail_op;
    uint64_t fail_offset;
    struct block_fake_log log;
};

uint8_t block_fake_byte(uint64_t offset)
{
    return (uint8_t)(offset ^ offset >> 9 ^ offset >> 17);
}

static void run(struct block *b, struct block_request *req)
{
    struct fake *f = b->state;
    int rc = 0;
    bool hit = req->op == BLOCK_FLUSH || (f->fail_offset >= req->offset_bytes &&
                                          f->fail_offset - req->offset_bytes < req->length_bytes);
    if (f->fail_error != 0 && req->op == f->fail_op && hit) {
        rc = f->fail_error;
    }
    f->log.last_offset = req->offset_bytes;
    f->log.last_length = req->length_bytes;
    f->log.last_iovcnt = req->iovcnt;
    uint8_t *p = f->data + req->offset_bytes;
    switch (req->op) {
    case BLOCK_READ:
        f->log.reads++;
        for (int i = 0; rc == 0 && i < req->iovcnt; p += req->iov[i].iov_len, i++) {
            memcpy(req->iov[i].iov_base, p, req->iov[i].iov_len);
        }
        break;
    case BLOCK_WRITE:
        f->log.writes++;
        f->log.fua += req->fua;
        for (int i = 0; rc == 0 && i < req->iovcnt; p += req->iov[i].iov_len, i++) {
            memcpy(p, req->iov[i].iov_base, req->iov[i].iov_len);
        }
        break;
    case BLOCK_FLUSH:
        f->log.flushes++;
        break;
    case BLOCK_DISCARD:
        f->log.discards++;
        if (rc == 0) {
            memset(p, 0, req->length_bytes);
        }
        break;
    }
    block_complete(b, req, rc);
}

static void fake_submit(struct block *b, struct block_request *req)
{
    struct fake *f = b->state;
    if (!f->hold) {
        run(b, req);
        return;
    }
    req->next = NULL;
    *f->tail = req;
    f->tail = &req->next;
    f->waiting++;
}

unsigned block_fake_run(struct block *b, unsigned n)
{
    struct fake *f = b->state;
    unsigned did = 0;
    while (did < n && f->first != NULL) {
        struct block_request *req = f->first;
        f->first = req->next;
        if (f->first == NULL) {
            f->tail = &f->first;
        }
        f->waiting--;
        did++;
        run(b, req);
    }
    return did;
}

static void fake_wait(struct block *b)
{
    (void)block_fake_run(b, 1);
}

static int fake_sync(struct block *b)
{
    struct fake *f = b->state;
    f->log.syncs++;
    return f->fail_error != 0 && f->fail_op == BLOCK_FLUSH ? f->fail_error : 0;
}

static void fake_close(struct block *b)
{
    struct fake *f = b->state;
    free(f->data);
    free(f);
}

static const struct block_backend fake_backend = {
    .format = "fake",
    .close = fake_close,
    .submit = fake_submit,
    .wait = fake_wait,
    .sync = fake_sync,
};

struct block *block_fake_create(struct loop *loop, uint64_t size_bytes, bool readonly)
{
    struct block *b = calloc(1, sizeof(*b));
    struct fake *f = calloc(1, sizeof(*f));
    uint8_t *data = malloc(size_bytes);
    if (b == NULL || f == NULL || data == NULL) {
        abort();
    }
    for (uint64_t i = 0; i < size_bytes; i++) {
        data[i] = block_fake_byte(i);
    }
    f->data = data;
    f->tail = &f->first;
    b->backend = &fake_backend;
    b->state = f;
    b->loop = loop;
    b->name = strdup("(fake)");
    b->size_bytes = size_bytes;
    b->refs = 1;
    b->readonly = readonly;
    return b;
}

uint8_t *block_fake_data(struct block *b)
{
    struct fake *f = b->state;
    return f->data;
}

void block_fake_hold(struct block *b, bool hold)
{
    struct fake *f = b->state;
    f->hold = hold;
}

unsigned block_fake_waiting(const struct block *b)
{
    const struct fake *f = b->state;
    return f->waiting;
}

void block_fake_fail(struct block *b, enum block_op op, uint64_t offset, int error)
{
    struct fake *f = b->state;
    f->fail_op = op;
    f->fail_offset = offset;
    f->fail_error = error;
}

const struct block_fake_log *block_fake_log(const struct block *b)
{
    const struct fake *f = b->state;
    return &f->log;
}
