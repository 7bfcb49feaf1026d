/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VHD. The input makes an image (type, block size, size, sometimes a parent), changes bytes of it, mostly
 * sealing the checksums again, and runs operations on it if it opens, on a file in memory that completes
 * requests in any order. The model is a copy of what reads return: whatever the image was, a disk keeps
 * what is written, several requests at a time do not disturb each other, errors of the file end with
 * their requests, and after a kill or a power failure at any moment all that was flushed is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "block/vhd.h"
#include "core/loop.h"
#include "tests/unit/qcow2_rig.h"
#include "tests/unit/vhd_make.h"

enum {
    SIZE_MAX_BYTES = 96 << 10,
    FILE_MAX = 8 << 20,
    FLIGHT = 4,
    REQUEST_MAX = 9000,
    OPS_MAX = 60
};

struct input {
    const uint8_t *p;
    size_t left;
};

static uint8_t take8(struct input *in)
{
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->p++;
}

static uint32_t take(struct input *in, uint32_t limit)
{
    uint32_t v = take8(in);

    v |= (uint32_t)take8(in) << 8;
    return limit != 0 ? (v | (uint32_t)take8(in) << 16) % limit : 0;
}

struct request {
    struct block_request req;
    struct iovec iov[2];
    uint8_t buf[REQUEST_MAX];
    uint64_t offset;
    unsigned calls;
    int error;
};

struct run {
    struct input in;
    struct loop *loop;
    struct block *b;
    struct rig_file *file;
    int base_fd;
    size_t size;
    uint8_t shadow[SIZE_MAX_BYTES];
    uint8_t unflushed[SIZE_MAX_BYTES / BLOCK_SECTOR]; /* sectors */
    uint8_t unknown[SIZE_MAX_BYTES / BLOCK_SECTOR];   /* after a write that failed */
    struct request flight[FLIGHT];
    uint32_t next_value;
    char err[512]; /* why an image does not open */
};

static void on_done(struct block_request *req, int error)
{
    struct request *r = req->opaque;

    r->calls++;
    r->error = error;
}

static void submit(struct block *b, struct request *r, enum block_op op, uint64_t offset,
                   size_t len, size_t split, bool fua)
{
    r->calls = 0;
    r->offset = offset;
    r->iov[0] = (struct iovec){r->buf, split};
    r->iov[1] = (struct iovec){r->buf + split, len - split};
    r->req = (struct block_request){.op = op,
                                    .fua = fua,
                                    .offset_bytes = offset,
                                    .length_bytes = len,
                                    .iov = r->iov,
                                    .iovcnt = 2,
                                    .done = on_done,
                                    .opaque = r};
    block_submit(b, &r->req);
}

static void await(struct block *b, struct request *r)
{
    while (r->calls == 0) {
        block_wait(b);
    }
    if (r->calls != 1) {
        abort();
    }
}

/* The parent of all differencing images: a fixed one in a file without a name, on a file system where
 * reads that the page cache can answer need no other thread. */
static int make_base(void)
{
    static const struct vhd_make m = {
        .type = VHD_FIXED, .size_bytes = SIZE_MAX_BYTES / 2, .uuid = 1};
    static uint8_t image[SIZE_MAX_BYTES / 2 + VHD_SECTOR];
    char path[] = "/tmp/hvm-dm-fuzz.XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);

    memset(image, 0x5a, sizeof(image));
    vhd_make(&m, image);
    if (fd < 0 || unlink(path) != 0 || write(fd, image, sizeof(image)) != (ssize_t)sizeof(image)) {
        abort();
    }
    return fd;
}

/* Makes the image. */
static void make_image(struct run *run)
{
    static uint8_t image[SIZE_MAX_BYTES * 2 + 65536];
    static const uint32_t sizes[] = {512, 1024, 4096, 8192, 16384, 65536};
    static const char *const creators[] = {"win ", "vpc "};
    struct input *in = &run->in;
    uint8_t kind = take8(in);
    char name[32], locator[40];
    struct vhd_make m = {.type = VHD_FIXED + kind % 3,
                         .size_bytes = 512 + take(in, SIZE_MAX_BYTES / 512 - 1) * 512,
                         .block_bytes = sizes[kind / 3 % 6],
                         .creator = creators[kind / 18 % 2],
                         .cylinders = 3,
                         .heads = 4,
                         .sectors = 5,
                         .uuid = 2,
                         .parent_uuid = 1};
    size_t len = vhd_make_bytes(&m);

    snprintf(name, sizeof(name), "%d", run->base_fd);
    snprintf(locator, sizeof(locator), "/proc/self/fd/%d", run->base_fd);
    m.parent_name = name;
    m.locators[0].code = "W2ku";
    m.locators[0].text = locator;
    memset(image, 0, len);
    vhd_make(&m, image);
    uint8_t changes = take8(in);
    for (unsigned i = 0; i < (changes & 7u); i++) {
        uint32_t at = take(in, (uint32_t)len);
        size_t n = 1 + take8(in) % 8u;

        if (i % 2 == 0) { /* near a structure */
            at = take8(in) % 4u * 512 + at % 512;
            at = (take8(in) & 1) != 0 ? (uint32_t)len - 512 + at % 512 : at;
        }
        for (size_t k = 0; k < n && at + k < len; k++) {
            image[at + k] = take8(in);
        }
    }
    if ((changes & 0x80) == 0) {
        vhd_make_seal_footer(image + len - 512);
        if (m.type != VHD_FIXED) {
            vhd_make_seal_footer(image);
            vhd_make_seal_header(image + 512);
        }
    }
    if ((changes & 0x60) == 0x60) {
        len -= take(in, 1024) % len;
    }
    uint8_t *copy = malloc(len);

    memcpy(copy, image, len);
    run->file = rig_file_create(copy, len, FILE_MAX);
    run->file->random = (uint32_t)len;
}

static struct block *open_image(struct run *run)
{
    run->err[0] = '\0';
    struct block *b =
        rig_open_as(run->loop, &block_vhd, run->file, false, run->err, sizeof(run->err));

    if (b == NULL && (run->err[0] == '\0' || strchr(run->err, '\n') != NULL)) {
        abort();
    }
    return b;
}

/* Compares a range that was read with the model. flushed_only: an old copy of the image. */
static void compare(const struct run *run, const struct request *r, size_t len, bool flushed_only)
{
    for (size_t i = 0; i < len; i++) {
        size_t at = r->offset + i;

        if (!run->unknown[at / BLOCK_SECTOR] &&
            !(flushed_only && run->unflushed[at / BLOCK_SECTOR]) && r->buf[i] != run->shadow[at]) {
            abort();
        }
    }
}

static void check_all(struct run *run, struct block *b, bool flushed_only)
{
    struct request *r = &run->flight[0];

    if (block_size_bytes(b) < run->size) {
        abort();
    }
    for (size_t pos = 0; pos < run->size; pos += 8192) {
        size_t len = run->size - pos < 8192 ? run->size - pos : 8192;

        memset(r->buf, 0xdb, len);
        submit(b, r, BLOCK_READ, pos, len, len / 3, false);
        await(b, r);
        if (r->error == 0) {
            compare(run, r, len, flushed_only);
        }
    }
}

/* The model becomes what the image holds, a part of it if it is large. */
static void read_model(struct run *run)
{
    struct request *r = &run->flight[0];
    uint64_t size = block_size_bytes(run->b);

    run->size = size < SIZE_MAX_BYTES ? (size_t)size : SIZE_MAX_BYTES;
    for (size_t pos = 0; pos < run->size; pos += 8192) {
        size_t len = run->size - pos < 8192 ? run->size - pos : 8192;

        submit(run->b, r, BLOCK_READ, pos, len, 0, false);
        await(run->b, r);
        memcpy(run->shadow + pos, r->buf, len);
        memset(run->unknown + pos / BLOCK_SECTOR, r->error != 0, len / BLOCK_SECTOR);
    }
    memset(run->unflushed, 0, sizeof(run->unflushed));
}

/* Up to FLIGHT requests at once, each in its own part of the disk. */
static void requests(struct run *run, uint8_t how)
{
    unsigned n = 1 + how % FLIGHT;
    size_t part = run->size / n, lens[FLIGHT];
    bool write[FLIGHT];

    for (unsigned i = 0; i < n; i++) {
        struct request *r = &run->flight[i];
        uint8_t kind = take8(&run->in);
        size_t most = part < REQUEST_MAX ? part : REQUEST_MAX;
        size_t len = 1 + take(&run->in, (uint32_t)most), at;

        len = len < part ? len : part;
        at = i * part + take(&run->in, (uint32_t)(part - len + 1));
        if ((kind & 2) != 0) {
            at =
                at / BLOCK_SECTOR * BLOCK_SECTOR < i * part ? at : at / BLOCK_SECTOR * BLOCK_SECTOR;
            len = len > BLOCK_SECTOR ? len / BLOCK_SECTOR * BLOCK_SECTOR : len;
        }
        write[i] = (kind & 1) != 0;
        lens[i] = len;
        run->next_value++;
        for (size_t k = 0; k < len; k++) {
            r->buf[k] = write[i] ? (uint8_t)(run->next_value * 37 + k / 64) : 0xdb;
        }
        submit(run->b, r, write[i] ? BLOCK_WRITE : BLOCK_READ, at, len, len / 2, (kind & 12) == 12);
    }
    for (unsigned i = 0; i < n; i++) {
        await(run->b, &run->flight[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        struct request *r = &run->flight[i];
        size_t first = r->offset / BLOCK_SECTOR, last = (r->offset + lens[i] - 1) / BLOCK_SECTOR;

        for (size_t s = first; write[i] && s <= last; s++) {
            run->unknown[s] |= r->error != 0;
            run->unflushed[s] |= !r->req.fua;
        }
        if (write[i] && r->error == 0) {
            memcpy(run->shadow + r->offset, r->buf, lens[i]);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        if (!write[i] && run->flight[i].error == 0) {
            compare(run, &run->flight[i], lens[i], false);
        }
    }
}

static void flush(struct run *run)
{
    submit(run->b, &run->flight[0], BLOCK_FLUSH, 0, 0, 0, false);
    await(run->b, &run->flight[0]);
    if (run->flight[0].error == 0) {
        memset(run->unflushed, 0, sizeof(run->unflushed));
    }
}

static void open_again(struct run *run)
{
    run->file->hold = false;
    run->b = open_image(run);
    if (run->b == NULL) {
        fprintf(stderr, "an image that was open does not open again: %s\n", run->err);
        abort();
    }
}

/* Power failure or kill, with requests under way. */
static void crash(struct run *run, uint8_t how)
{
    struct request *r = &run->flight[1];
    size_t at = run->size / 2 / BLOCK_SECTOR * BLOCK_SECTOR;
    size_t len = run->size - at < 4096 ? run->size - at : 4096;

    memset(r->buf, how, len);
    run->file->hold = true;
    submit(run->b, r, BLOCK_WRITE, at, len, 0, false);
    for (unsigned i = how / 32; i > 0; i--) {
        (void)rig_file_run(run->file);
    }
    memset(run->unflushed + at / BLOCK_SECTOR, 1, (len + BLOCK_SECTOR - 1) / BLOCK_SECTOR);
    rig_abandon(run->file, run->b);
    if (r->calls != 1) {
        abort();
    }
    if ((how & 16) != 0) {
        rig_file_crash(run->file);
    } else {
        rig_file_kill(run->file);
    }
    open_again(run);
    check_all(run, run->b, true);
    read_model(run);
}

/* Closed in good order: all is there. */
static void reopen(struct run *run)
{
    run->file->fail_in = 0;
    block_close(run->b);
    open_again(run);
    check_all(run, run->b, false);
}

static void operations(struct run *run)
{
    for (unsigned i = 0; i < OPS_MAX && run->in.left > 0; i++) {
        uint8_t op = take8(&run->in);

        run->file->hold = (op & 16) != 0;
        switch (op % 16) {
        case 0:
        case 1:
            flush(run);
            break;
        case 2:
            crash(run, op);
            break;
        case 3:
            reopen(run);
            break;
        case 4:
            loop_advance(run->loop, 700000000);
            break;
        case 5:
            run->file->fail_op = (op & 32) != 0   ? BLOCK_WRITE
                                 : (op & 64) != 0 ? BLOCK_READ
                                                  : BLOCK_FLUSH;
            run->file->fail_with = (op & 128) != 0 ? -ENOSPC : -EIO;
            run->file->fail_in = 1 + take8(&run->in) % 16;
            break;
        default:
            requests(run, op / 16);
            break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run run;
    static int base_fd = -1;

    if (base_fd < 0) {
        base_fd = make_base();
    }
    memset(&run, 0, sizeof(run));
    run.in = (struct input){data, size};
    run.base_fd = base_fd;
    run.loop = loop_create(true);
    make_image(&run);
    run.b = open_image(&run);
    if (run.b != NULL) {
        read_model(&run);
        if (run.size >= FLIGHT) {
            operations(&run);
            reopen(&run);
        }
        run.file->hold = false;
        block_close(run.b);
    }
    rig_file_destroy(run.file);
    loop_destroy(run.loop);
    return 0;
}
