/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VHD: against qemu-img and qemu-io, random operations against a shadow, chains, corrupt images, host
 * errors, kill -9. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/block.h"
#include "block/vhd.h"
#include "core/loop.h"
#include "tests/unit/qcow2_rig.h"
#include "tests/unit/vhd_make.h"

enum { MIB = 1 << 20 };

struct fixture {
    struct loop *loop;
    char dir[64];
    uint32_t seed;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->loop = loop_create(false);
    f->seed = 12345;
    snprintf(f->dir, sizeof(f->dir), "/tmp/hvm-dm-vhd.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    *state = f;
    return 0;
}

__attribute__((format(printf, 2, 3))) static void shell(struct fixture *f, const char *fmt, ...)
{
    char text[1024], line[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    snprintf(line, sizeof(line), "cd %s && { %s ; } >out 2>&1 || { cat out >&2; false; }", f->dir,
             text);
    if (system(line) != 0) {
        fail_msg("%s", text);
    }
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    shell(f, "rm -rf %s", f->dir);
    loop_destroy(f->loop);
    free(f);
    return 0;
}

static const char *in_dir(struct fixture *f, const char *name)
{
    static char paths[4][128];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", f->dir, name);
    return path;
}

static struct block *try_open(struct fixture *f, const char *name, bool readonly, char *err,
                              size_t errlen)
{
    const struct block_config cfg = {
        .path = in_dir(f, name), .format = "vpc", .fd = -1, .readonly = readonly};
    return block_open(f->loop, &cfg, err, errlen);
}

static struct block *open_vhd(struct fixture *f, const char *name, bool readonly)
{
    char err[512] = "";
    struct block *b = try_open(f, name, readonly, err, sizeof(err));
    if (b == NULL) {
        fail_msg("%s", err);
    }
    return b;
}

static void make_vhd(struct fixture *f, const struct vhd_make *m, const char *name)
{
    assert_int_equal(vhd_make_file(m, in_dir(f, name)), 0);
}

struct op {
    struct block_request req;
    struct iovec iov[BLOCK_IOV_MAX];
    int error;
    unsigned calls;
};

static void on_done(struct block_request *req, int error)
{
    struct op *op = req->opaque;
    op->error = error;
    op->calls++;
}

static void submit(struct block *b, struct op *op, enum block_op what, uint64_t offset, void *buf,
                   size_t len, bool fua)
{
    op->calls = 0;
    op->iov[0] = (struct iovec){buf, len};
    op->req = (struct block_request){.op = what,
                                     .fua = fua,
                                     .offset_bytes = offset,
                                     .length_bytes = len,
                                     .iov = op->iov,
                                     .iovcnt = buf != NULL ? 1 : 0,
                                     .done = on_done,
                                     .opaque = op};
    block_submit(b, &op->req);
}

static int do_op(struct fixture *f, struct block *b, enum block_op what, uint64_t offset, void *buf,
                 size_t len)
{
    struct op op;
    submit(b, &op, what, offset, buf, len, false);
    for (int i = 0; i < 1000 && op.calls == 0; i++) {
        loop_poll(f->loop, 10000000);
    }
    assert_int_equal(op.calls, 1);
    return op.error;
}

static uint32_t rnd(struct fixture *f)
{
    f->seed = f->seed * 1664525 + 1013904223;
    return f->seed >> 8;
}

static void fill(struct fixture *f, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)rnd(f);
    }
}

/* The whole image equals shadow. */
static void check_all(struct fixture *f, struct block *b, const uint8_t *shadow, size_t size)
{
    uint8_t *got = malloc(size);
    assert_non_null(got);
    assert_true(block_size_bytes(b) == size);
    for (size_t pos = 0; pos < size; pos += 3 * MIB) {
        size_t n = size - pos < 3 * MIB ? size - pos : 3 * MIB;
        assert_int_equal(do_op(f, b, BLOCK_READ, pos, got + pos, n), 0);
    }
    for (size_t i = 0; i < size; i++) {
        if (got[i] != shadow[i]) {
            fail_msg("byte %zu is %#x, not %#x", i, got[i], shadow[i]);
        }
    }
    free(got);
}

static uint8_t *load(struct fixture *f, const char *name, size_t *len)
{
    FILE *in = fopen(in_dir(f, name), "r");
    assert_non_null(in);
    assert_int_equal(fseek(in, 0, SEEK_END), 0);
    *len = (size_t)ftell(in);
    rewind(in);
    uint8_t *p = malloc(*len);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *len, in), *len);
    fclose(in);
    return p;
}

static void store(struct fixture *f, const char *name, const void *data, size_t len)
{
    FILE *out = fopen(in_dir(f, name), "w");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
}

/* Bytes of the file that change: an edit of an image. */
static void poke(struct fixture *f, const char *name, long pos, const void *data, size_t len)
{
    FILE *out = fopen(in_dir(f, name), "r+");
    assert_non_null(out);
    assert_int_equal(fseek(out, pos, pos < 0 ? SEEK_END : SEEK_SET), 0);
    assert_int_equal(fwrite(data, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
}

/* ---- qemu-img as witness ---- */

static const char *const subformats[] = {
    "subformat=fixed",
    "subformat=dynamic",
    "subformat=fixed,force_size=on",
    "subformat=dynamic,force_size=on",
};

static uint64_t info_size(struct fixture *f, const char *name)
{
    size_t len;
    shell(f,
          "qemu-img info -f vpc --output=json %s | sed -n 's/.*\"virtual-size\": "
          "*\\([0-9]*\\).*/\\1/p'",
          name);
    char *text = (char *)load(f, "out", &len);
    uint64_t size = strtoull(text, NULL, 10);
    free(text);
    return size;
}

static void qemu_fills_we_read(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(subformats) / sizeof(subformats[0]); i++) {
        size_t len;
        shell(f, "qemu-img create -q -f vpc -o %s a.vhd 9M", subformats[i]);
        shell(f, "qemu-io -f vpc -c 'write -P 0x11 0 4096' -c 'write -P 0x22 2M 2M' "
                 "-c 'write -P 0x33 5000192 70144' -c 'write -P 0x44 8M 512' a.vhd");
        shell(f, "qemu-img convert -f vpc -O raw a.vhd a.raw");
        struct block *b = open_vhd(f, "a.vhd", (i & 1) != 0);
        assert_true(block_size_bytes(b) == info_size(f, "a.vhd"));
        uint8_t *raw = load(f, "a.raw", &len);
        check_all(f, b, raw, len);
        free(raw);
        block_close(b);
    }
}

static void we_fill_qemu_reads(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(subformats) / sizeof(subformats[0]); i++) {
        static uint8_t buf[5 * MIB];
        shell(f, "qemu-img create -q -f vpc -o %s a.vhd 21M", subformats[i]);
        struct block *b = open_vhd(f, "a.vhd", false);
        size_t size = (size_t)block_size_bytes(b);
        uint8_t *shadow = calloc(1, size);
        assert_non_null(shadow);
        for (unsigned k = 0; k < 12; k++) {
            size_t pos = rnd(f) % (size / 512 - 100) * 512, n = (1 + rnd(f) % 100) * 512;
            if (k == 5) {
                pos = 3 * MIB;
                n = 5 * MIB;
            }
            fill(f, buf, n);
            memcpy(shadow + pos, buf, n);
            assert_int_equal(do_op(f, b, BLOCK_WRITE, pos, buf, n), 0);
        }
        check_all(f, b, shadow, size);
        block_close(b);
        store(f, "a.raw", shadow, size);
        shell(f, "qemu-img compare -f vpc -F raw a.vhd a.raw");
        /* qemu goes on where we stopped, and we where it did. */
        shell(f, "qemu-io -f vpc -c 'write -P 0x55 16M 3M' a.vhd");
        memset(shadow + 16 * MIB, 0x55, 3 * MIB);
        b = open_vhd(f, "a.vhd", false);
        check_all(f, b, shadow, size);
        fill(f, buf, 4096);
        memcpy(shadow + 19 * MIB + 512, buf, 4096);
        assert_int_equal(do_op(f, b, BLOCK_WRITE, 19 * MIB + 512, buf, 4096), 0);
        block_close(b);
        store(f, "a.raw", shadow, size);
        shell(f, "qemu-img compare -f vpc -F raw a.vhd a.raw");
        free(shadow);
    }
}

/* Sizes: images of qemu-img, and of other creators, whose geometry says something else. */
static void sizes(void **state)
{
    struct fixture *f = *state;
    static const char *const sizes[] = {"512K", "33333333", "40G", "127G", "200G", "2000G"};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (unsigned force = 0; force < 2; force++) {
            shell(f, "qemu-img create -q -f vpc -o force_size=%s a.vhd %s", force ? "on" : "off",
                  sizes[i]);
            struct block *b = open_vhd(f, "a.vhd", true);
            uint8_t buf[512];
            assert_true(block_size_bytes(b) == info_size(f, "a.vhd"));
            assert_int_equal(do_op(f, b, BLOCK_READ, block_size_bytes(b) - 512, buf, 512), 0);
            assert_int_equal(do_op(f, b, BLOCK_READ, block_size_bytes(b), buf, 512), -EIO);
            block_close(b);
        }
    }
    static const struct {
        char creator[4];
        bool by_geometry;
    } rows[] = {
        {"vpc ", true},  {"vs  ", true},  {"qemu", true},   {"vbox", true},  {"win ", false},
        {"qem2", false}, {"d2v ", false}, {"tap\0", false}, {"CTXS", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned type = VHD_FIXED; type <= VHD_DYNAMIC; type++) {
            make_vhd(f,
                     &(struct vhd_make){.type = type,
                                        .size_bytes = 12 * MIB,
                                        .creator = rows[i].creator,
                                        .cylinders = 100,
                                        .heads = 8,
                                        .sectors = 17},
                     "a.vhd");
            struct block *b = open_vhd(f, "a.vhd", true);
            assert_int_equal(block_size_bytes(b),
                             rows[i].by_geometry ? 100 * 8 * 17 * 512 : 12 * MIB);
            assert_true(block_size_bytes(b) == info_size(f, "a.vhd"));
            block_close(b);
        }
    }
}

/* ---- random operations ---- */

/* Many requests in flight that do not overlap, of any alignment, some FUA, with flushes between; then
 * the image is read through another open. */
static void random_ops(struct fixture *f, const char *name, uint8_t *shadow, size_t size)
{
    enum { N = 12, LEN = 70000, ROUNDS = 25 };
    static uint8_t bufs[N][LEN];
    static struct op ops[N];
    struct block *b = open_vhd(f, name, false);
    assert_true(block_size_bytes(b) == size);
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t part = size / N, start[N], len[N];
        bool write[N];
        for (unsigned i = 0; i < N; i++) {
            bool whole = rnd(f) % 4 != 0;
            len[i] = 1 + rnd(f) % (rnd(f) % 3 == 0 ? LEN : 3000);
            len[i] = len[i] < part ? len[i] : part;
            start[i] = part * i + rnd(f) % (part - len[i] + 1);
            if (rnd(f) % 4 == 0) {
                start[i] = part * i; /* neighbours meet within a sector */
            }
            if (whole && len[i] >= 1024) {
                len[i] = len[i] / 512 * 512 - 512;
                start[i] = (start[i] + 511) / 512 * 512;
            }
            write[i] = rnd(f) % 3 != 0;
            memset(bufs[i], 0xee, len[i]);
            if (write[i]) {
                fill(f, bufs[i], len[i]);
            }
        }
        for (unsigned i = 0; i < N; i++) {
            size_t first = rnd(f) % len[i];
            ops[i].calls = 0;
            ops[i].iov[0] = (struct iovec){bufs[i], first};
            ops[i].iov[1] = (struct iovec){bufs[i] + first, len[i] - first};
            ops[i].req = (struct block_request){.op = write[i] ? BLOCK_WRITE : BLOCK_READ,
                                                .fua = rnd(f) % 8 == 0,
                                                .offset_bytes = start[i],
                                                .length_bytes = len[i],
                                                .iov = ops[i].iov,
                                                .iovcnt = 2,
                                                .done = on_done,
                                                .opaque = &ops[i]};
            block_submit(b, &ops[i].req);
        }
        if (round % 3 == 0) {
            assert_int_equal(block_drain(b), 0);
        }
        for (unsigned i = 0; i < N; i++) {
            while (ops[i].calls == 0) {
                loop_poll(f->loop, 10000000);
            }
            assert_int_equal(ops[i].calls, 1);
            assert_int_equal(ops[i].error, 0);
        }
        for (unsigned i = 0; i < N; i++) {
            if (write[i]) {
                memcpy(shadow + start[i], bufs[i], len[i]);
            } else {
                assert_memory_equal(bufs[i], shadow + start[i], len[i]);
            }
        }
        assert_int_equal(do_op(f, b, BLOCK_DISCARD, 0, NULL, size), 0);
        if (round % 5 == 0) {
            assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), 0);
        }
    }
    check_all(f, b, shadow, size);
    block_close(b);
    b = open_vhd(f, name, true);
    check_all(f, b, shadow, size);
    block_close(b);
}

static void any_block_size(void **state)
{
    struct fixture *f = *state;
    static const uint32_t sizes[] = {512, 4096, 65536, 2 * MIB, 8 * MIB, 1u << 31};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = i < 2 ? MIB + 512 : 5 * MIB + 1536;
        uint8_t *shadow = calloc(1, size);
        make_vhd(
            f, &(struct vhd_make){.type = VHD_DYNAMIC, .size_bytes = size, .block_bytes = sizes[i]},
            "a.vhd");
        random_ops(f, "a.vhd", shadow, size);
        /* qemu-img refuses the last one, and sees no bitmap where less than a byte of it is used. */
        if (sizes[i] >= 4096 && sizes[i] < 1u << 31) {
            store(f, "a.raw", shadow, size);
            shell(f, "qemu-img compare -f vpc -F raw a.vhd a.raw");
        }
        free(shadow);
    }
}

/* More bitmap sectors than the cache has places for: 512-byte blocks, each with its own. */
static void chain(void **state)
{
    struct fixture *f = *state;
    static const uint32_t sizes[] = {512, 4096, 2 * MIB, 4 * MIB};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = (i < 2 ? 1 : 5) * MIB + 512, less = size - size / 3 / 512 * 512;
        uint8_t *shadow = calloc(1, size);
        make_vhd(f,
                 &(struct vhd_make){
                     .type = i == 1 ? VHD_FIXED : VHD_DYNAMIC, .size_bytes = less, .uuid = 1},
                 "base.vhd");
        random_ops(f, "base.vhd", shadow, less);
        make_vhd(f,
                 &(struct vhd_make){.type = VHD_DIFFERENCING,
                                    .size_bytes = size, /* larger: the rest is zeros */
                                    .block_bytes = sizes[i],
                                    .uuid = 2,
                                    .parent_uuid = 1,
                                    .locators = {{"W2ru", ".\\base.vhd"}}},
                 "middle.vhd");
        random_ops(f, "middle.vhd", shadow, size);
        make_vhd(f,
                 &(struct vhd_make){.type = VHD_DIFFERENCING,
                                    .size_bytes = size,
                                    .block_bytes = sizes[(i + 1) % 4],
                                    .uuid = 3,
                                    .parent_uuid = 2,
                                    .parent_name = "middle.vhd"},
                 "top.vhd");
        size_t before, after;
        uint8_t *parent = load(f, "middle.vhd", &before);
        random_ops(f, "top.vhd", shadow, size);
        uint8_t *again = load(f, "middle.vhd", &after);
        assert_true(before == after && memcmp(parent, again, after) == 0);
        free(parent);
        free(again);
        free(shadow);
    }
}

/* ---- parents ---- */

static void parents(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[512];
    char err[512], absolute[128], url[160];
    shell(f, "mkdir sub 'with space' && seq 1000 > text");
    static const char *const places[] = {"base.vhd", "sub/base.vhd", "with space/base.vhd"};
    for (unsigned i = 0; i < 3; i++) {
        make_vhd(
            f, &(struct vhd_make){.type = VHD_FIXED, .size_bytes = MIB, .uuid = (uint8_t)(10 + i)},
            places[i]);
        memset(buf, 0xa0 + (int)i, sizeof(buf));
        poke(f, places[i], 512, buf, 512);
    }
    make_vhd(f, &(struct vhd_make){.type = VHD_FIXED, .size_bytes = MIB, .uuid = 13}, "nbd:1:2");
    snprintf(absolute, sizeof(absolute), "%s/sub/base.vhd", f->dir);
    snprintf(url, sizeof(url), "file://localhost%s/with%%20space/base.vhd", f->dir);
    const struct {
        struct vhd_make m;
        int want; /* first byte of sector 1, or -1 and why */
        const char *why;
    } rows[] = {
        {{.parent_uuid = 10, .locators = {{"W2ru", ".\\base.vhd"}}}, 0xa0, NULL},
        {{.parent_uuid = 10, .locators = {{"W2ku", "C:\\images\\base.vhd"}}}, 0xa0, NULL},
        {{.parent_uuid = 10, .parent_name = "base.vhd"}, 0xa0, NULL},
        {{.parent_uuid = 10, .parent_name = "D:\\elsewhere\\base.vhd"}, 0xa0, NULL},
        {{.parent_uuid = 11, .locators = {{"W2ru", "sub\\base.vhd"}}}, 0xa1, NULL},
        {{.parent_uuid = 11, .locators = {{"MacX", "file://./sub/base.vhd"}}}, 0xa1, NULL},
        {{.parent_uuid = 11, .locators = {{"W2ku", absolute}}}, 0xa1, NULL},
        {{.parent_uuid = 11, .parent_name = absolute}, 0xa1, NULL},
        {{.parent_uuid = 12, .locators = {{"MacX", url}}}, 0xa2, NULL},
        /* The first that has the UUID counts. */
        {{.parent_uuid = 12, .locators = {{"W2ru", "base.vhd"}, {"MacX", url}}}, 0xa2, NULL},
        {{.parent_uuid = 11,
          .parent_name = "base.vhd",
          .locators = {{"Mac ", "blob"}, {"Wi2r", "x"}, {"W2ru", "./sub/base.vhd"}}},
         0xa1,
         NULL},
        /* A name is a file's, whatever it looks like. */
        {{.parent_uuid = 13, .parent_name = "nbd:1:2"}, 0, NULL},
        {{.parent_uuid = 9, .parent_name = "base.vhd"}, -1, "is another image (UUID)"},
        {{.parent_uuid = 9, .parent_name = "gone.vhd"}, -1, "'gone.vhd' is not there"},
        {{.parent_uuid = 9}, -1, "is not there"},
        {{.parent_uuid = 9, .parent_name = "text"}, -1, "not a VHD"},
        {{.parent_uuid = 9, .parent_name = "sub"}, -1, "neither a file nor a block device"},
        /* Itself, by every name. */
        {{.parent_uuid = 5,
          .parent_name = "child.vhd",
          .locators = {{"W2ru", ".\\child.vhd"}, {"W2ku", "C:\\child.vhd"}, {"MacX", "child.vhd"}}},
         -1,
         "too long"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct vhd_make m = rows[i].m;
        m.type = VHD_DIFFERENCING;
        m.size_bytes = MIB;
        m.uuid = 5;
        make_vhd(f, &m, "child.vhd");
        err[0] = '\0';
        struct block *b = try_open(f, "child.vhd", false, err, sizeof(err));
        if (rows[i].want < 0) {
            assert_null(b);
            if (strstr(err, rows[i].why) == NULL) {
                fail_msg("row %zu: '%s' does not say '%s'", i, err, rows[i].why);
            }
            assert_null(strchr(err, '\n'));
            continue;
        }
        if (b == NULL) {
            fail_msg("row %zu: %s", i, err);
        }
        assert_int_equal(do_op(f, b, BLOCK_READ, 512, buf, 512), 0);
        assert_int_equal(buf[511], rows[i].want);
        block_close(b);
    }
}

/* ---- footers ---- */

static void footers(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[512], copy[512];
    size_t len;
    /* 511 bytes, as before 2004. */
    make_vhd(f, &(struct vhd_make){.type = VHD_FIXED, .size_bytes = MIB}, "a.vhd");
    assert_int_equal(truncate(in_dir(f, "a.vhd"), MIB + 511), 0);
    for (unsigned readonly = 0; readonly < 2; readonly++) {
        struct block *b = open_vhd(f, "a.vhd", readonly != 0);
        assert_int_equal(block_size_bytes(b), MIB);
        block_close(b);
    }
    /* A guest writes a differencing image's footer into its first sector: still a fixed image. */
    const struct vhd_make diff = {.type = VHD_DIFFERENCING,
                                  .size_bytes = MIB,
                                  .uuid = 7,
                                  .parent_uuid = 1,
                                  .parent_name = "x.vhd"};
    make_vhd(f, &diff, "b.vhd");
    uint8_t *image = load(f, "b.vhd", &len);
    struct block *b = open_vhd(f, "a.vhd", false);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 0, image, 4096), 0);
    block_close(b);
    b = open_vhd(f, "a.vhd", false);
    assert_int_equal(do_op(f, b, BLOCK_READ, 0, buf, 512), 0);
    assert_memory_equal(buf, image, 512);
    block_close(b);
    free(image);
    /* Dynamic: either footer will do; the one at the end comes back when the file grows. */
    make_vhd(f, &(struct vhd_make){.type = VHD_DYNAMIC, .size_bytes = 8 * MIB}, "c.vhd");
    memset(buf, 0x77, sizeof(buf));
    poke(f, "c.vhd", -512, buf, 512);
    b = open_vhd(f, "c.vhd", false);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 4 * MIB, buf, 512), 0);
    block_close(b);
    image = load(f, "c.vhd", &len);
    assert_memory_equal(image, image + len - 512, 512);
    free(image);
    /* The copy at the front is mended by who may write, and only then: without it, one who is killed while
     * the file grows leaves an image that does not tell what it is. */
    poke(f, "c.vhd", 0, buf, 512);
    for (unsigned readonly = 2; readonly-- > 0;) {
        b = open_vhd(f, "c.vhd", readonly != 0);
        assert_int_equal(do_op(f, b, BLOCK_READ, 4 * MIB, copy, 512), 0);
        assert_memory_equal(copy, buf, 512);
        image = load(f, "c.vhd", &len);
        assert_memory_equal(image, readonly != 0 ? buf : image + len - 512, 512);
        free(image);
        block_close(b);
    }
}

/* ---- corrupt images ---- */

enum { HEADER = 512, TABLE = 4096 };

static void corrupt(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *why;
        unsigned what; /* 0: footers, 1: header, 2: anything, not sealed */
        int at;        /* in it */
        uint8_t bytes[8];
        unsigned n;
        unsigned type;
    } rows[] = {
        {"not a VHD", 0, VHD_FOOTER_COOKIE, {"conectiy"}, 8, VHD_DYNAMIC},
        {"not a VHD", 0, VHD_FOOTER_COOKIE, {"conectiy"}, 8, VHD_FIXED},
        {"footer is corrupt", 0, VHD_FOOTER_TYPE, {0, 0, 0, 5}, 4, VHD_DYNAMIC},
        {"footer is corrupt", 2, -512 + VHD_FOOTER_UUID, {1}, 1, VHD_FIXED},
        {"VHD version 0x20000", 0, VHD_FOOTER_VERSION, {0, 2, 0, 0}, 4, VHD_FIXED},
        {"is empty", 0, VHD_FOOTER_CURRENT_SIZE, {0}, 8, VHD_DYNAMIC},
        {"shorter than its footer says", 0, VHD_FOOTER_CURRENT_SIZE, {0, 0, 1}, 8, VHD_FIXED},
        {"shorter than its footer says", 0, VHD_FOOTER_CURRENT_SIZE, {0xff, 0xff}, 8, VHD_FIXED},
        {"header lies outside", 0, VHD_FOOTER_DATA_OFFSET, {0}, 8, VHD_DYNAMIC},
        {"header lies outside",
         0,
         VHD_FOOTER_DATA_OFFSET,
         {255, 255, 255, 255, 255, 255, 255, 255},
         8,
         VHD_DYNAMIC},
        {"header is corrupt", 1, VHD_HEADER_COOKIE, {"cxsparsf"}, 8, VHD_DYNAMIC},
        {"header is corrupt", 2, HEADER + VHD_HEADER_PARENT_NAME, {1}, 1, VHD_DYNAMIC},
        {"header version 0x20000", 1, VHD_HEADER_VERSION, {0, 2, 0, 0}, 4, VHD_DYNAMIC},
        {"block size 0 ", 1, VHD_HEADER_BLOCK_SIZE, {0}, 4, VHD_DYNAMIC},
        {"block size 256 ", 1, VHD_HEADER_BLOCK_SIZE, {0, 0, 1, 0}, 4, VHD_DYNAMIC},
        {"block size 3145728 ", 1, VHD_HEADER_BLOCK_SIZE, {0, 0x30, 0, 0}, 4, VHD_DYNAMIC},
        {"has 1 entries", 1, VHD_HEADER_TABLE_ENTRIES, {0, 0, 0, 1}, 4, VHD_DYNAMIC},
        {"needs 2147483648", 0, VHD_FOOTER_CURRENT_SIZE, {0, 16}, 8, VHD_DYNAMIC},
        {"table lies", 1, VHD_HEADER_TABLE_OFFSET, {0}, 8, VHD_DYNAMIC},
        {"table lies", 1, VHD_HEADER_TABLE_OFFSET, {0, 0, 0, 0, 0, 0, 4, 0}, 8, VHD_DYNAMIC},
        {"table lies",
         1,
         VHD_HEADER_TABLE_OFFSET,
         {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
         8,
         VHD_DYNAMIC},
        {"block 1 lies outside", 2, TABLE + 4, {0, 0, 0, 20}, 4, VHD_DYNAMIC},
        {"block 0 lies outside", 2, TABLE, {0xff, 0xff, 0xff, 0xfe}, 4, VHD_DYNAMIC},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct vhd_make m = {.type = rows[i].type, .size_bytes = 8 * MIB};
        size_t len = vhd_make_bytes(&m);
        uint8_t *image = calloc(1, len);
        char err[512] = "";
        vhd_make(&m, image);
        uint8_t *footers[] = {image + len - 512, image};
        for (unsigned k = 0; k < 2 && rows[i].what == 0; k++) {
            if (k == 0 || m.type != VHD_FIXED) {
                memcpy(footers[k] + rows[i].at, rows[i].bytes, rows[i].n);
                vhd_make_seal_footer(footers[k]);
            }
        }
        if (rows[i].what == 1) {
            memcpy(image + HEADER + rows[i].at, rows[i].bytes, rows[i].n);
            vhd_make_seal_header(image + HEADER);
        } else if (rows[i].what == 2) {
            memcpy(image + rows[i].at + (rows[i].at < 0 ? (ptrdiff_t)len : 0), rows[i].bytes,
                   rows[i].n);
        }
        store(f, "a.vhd", image, len);
        free(image);
        assert_null(try_open(f, "a.vhd", i % 2 != 0, err, sizeof(err)));
        if (strstr(err, rows[i].why) == NULL || strstr(err, "a.vhd") == NULL) {
            fail_msg("row %zu: '%s' does not say '%s'", i, err, rows[i].why);
        }
        assert_null(strchr(err, '\n'));
    }
}

/* Blocks that share space with others or with the tables; images that were cut off. */
static void corrupt_blocks(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[512] = {1};
    char err[512];
    size_t len;
    make_vhd(f, &(struct vhd_make){.type = VHD_DYNAMIC, .size_bytes = 8 * MIB}, "a.vhd");
    struct block *b = open_vhd(f, "a.vhd", false);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(do_op(f, b, BLOCK_WRITE, i * 2u * MIB, buf, 512), 0);
    }
    block_close(b);
    uint8_t *image = load(f, "a.vhd", &len);
    uint32_t second = vhd_get32(image + TABLE + 4);
    const uint8_t near[4] = {0, 0, (uint8_t)((second + 8) >> 8), (uint8_t)(second + 8)};
    poke(f, "a.vhd", TABLE, near, 4);
    assert_null(try_open(f, "a.vhd", false, err, sizeof(err)));
    assert_non_null(strstr(err, "overlap"));
    poke(f, "a.vhd", TABLE, image + TABLE + 4, 4); /* the same one twice */
    assert_null(try_open(f, "a.vhd", false, err, sizeof(err)));
    assert_non_null(strstr(err, "overlap"));
    static const uint8_t sectors[] = {0, 1, 2, 3, 7, 8};
    for (size_t i = 0; i < sizeof(sectors); i++) {
        const uint8_t entry[4] = {0, 0, 0, sectors[i]};
        poke(f, "a.vhd", TABLE, entry, 4);
        assert_null(try_open(f, "a.vhd", false, err, sizeof(err)));
        assert_non_null(strstr(err, "lies on the header or block table"));
    }
    store(f, "a.vhd", image, len / 2 / 512 * 512);
    assert_null(try_open(f, "a.vhd", false, err, sizeof(err)));
    assert_non_null(strstr(err, "lies outside the file"));
    free(image);
    store(f, "a.vhd", "x", 1);
    assert_null(try_open(f, "a.vhd", false, err, sizeof(err)));
    assert_non_null(strstr(err, "too short"));
}

/* ---- errors of the host ---- */

/* A file size limit stands for the full file system. The block that could not be made is made later,
 * and what the failed request left in it is not seen. */
static void full_file_system(void **state)
{
    struct fixture *f = *state;
    for (unsigned type = VHD_DYNAMIC; type <= VHD_DIFFERENCING; type++) {
        struct rlimit old, low;
        static uint8_t buf[2 * MIB], shadow[8 * MIB];
        memset(shadow, 0, sizeof(shadow));
        make_vhd(f, &(struct vhd_make){.type = VHD_DYNAMIC, .size_bytes = 8 * MIB, .uuid = 1},
                 "base.vhd");
        make_vhd(
            f,
            &(struct vhd_make){
                .type = type, .size_bytes = 8 * MIB, .parent_uuid = 1, .parent_name = "base.vhd"},
            "a.vhd");
        struct block *b = open_vhd(f, "a.vhd", false);
        memset(shadow, 1, 512);
        assert_int_equal(do_op(f, b, BLOCK_WRITE, 0, shadow, 512), 0);
        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        low = old;
        low.rlim_cur = 3 * MIB;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
        memset(buf, 2, sizeof(buf));
        assert_int_equal(do_op(f, b, BLOCK_WRITE, 2 * MIB, buf, 2 * MIB), -EFBIG);
        assert_int_equal(do_op(f, b, BLOCK_WRITE, 512, buf, 512), 0); /* no new block */
        memset(shadow + 512, 2, 512);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(do_op(f, b, BLOCK_WRITE, 3 * MIB, buf, 4096), 0);
        memset(shadow + 3 * MIB, 2, 4096);
        check_all(f, b, shadow, sizeof(shadow));
        /* The footer can be written, the data cannot: only the middle of the file is refused. */
        struct vhd *v = b->state;
        v->footer_pos = 0;
        low.rlim_cur = (rlim_t)v->next_pos + 2 * MIB;
        v->footer_pos = vhd_round_up(v->next_pos + 512, 4096) - 512 + 512 + 2 * MIB;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
        assert_int_equal(do_op(f, b, BLOCK_WRITE, 6 * MIB, buf, 2 * MIB), -EFBIG);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        v->footer_pos = 0;
        assert_int_equal(do_op(f, b, BLOCK_WRITE, 7 * MIB, buf, 512), 0);
        memset(shadow + 7 * MIB, 2, 512);
        check_all(f, b, shadow, sizeof(shadow));
        block_close(b);
        b = open_vhd(f, "a.vhd", true);
        check_all(f, b, shadow, sizeof(shadow));
        block_close(b);
    }
}

/* Changes of the tables that a flush could not write are written by the next one. */
static void flush_fails(void **state)
{
    struct fixture *f = *state;
    struct rlimit old, low;
    uint8_t buf[512];
    memset(buf, 9, sizeof(buf));
    make_vhd(f, &(struct vhd_make){.type = VHD_DYNAMIC, .size_bytes = 8 * MIB}, "a.vhd");
    struct block *b = open_vhd(f, "a.vhd", false);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 0, buf, 512), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = TABLE;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), -EFBIG);
    assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), -EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(do_op(f, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    struct block *mine = b;
    shell(f, "qemu-io -r -U -f vpc -c 'read -P 9 0 512' a.vhd");
    block_close(mine);
}

/* A file that is cut off under us: reads fail one by one, the process lives. */
static void cut_off(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[512] = {3};
    make_vhd(f, &(struct vhd_make){.type = VHD_DYNAMIC, .size_bytes = 8 * MIB}, "a.vhd");
    struct block *b = open_vhd(f, "a.vhd", false);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 0, buf, 512), 0);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 4 * MIB, buf, 512), 0);
    block_close(b);
    b = open_vhd(f, "a.vhd", true);
    assert_int_equal(truncate(in_dir(f, "a.vhd"), MIB), 0);
    assert_int_equal(do_op(f, b, BLOCK_READ, 4 * MIB, buf, 512), -EIO);
    assert_int_equal(do_op(f, b, BLOCK_WRITE, 0, buf, 512), -EROFS);
    assert_int_equal(do_op(f, b, BLOCK_READ, 0, buf, 512), 0);
    assert_int_equal(buf[0], 3);
    block_close(b);
}

/* ---- what is on the disk when ---- */

/* What a kill at this moment would leave: the image as it is in the file. */
static void on_disk(struct fixture *f, const char *want)
{
    shell(f, "cp a.vhd copy.vhd; qemu-io -r -f vpc -c 'read -P %s 4M 512' copy.vhd", want);
}

static void write_back(void **state)
{
    struct fixture *f = *state;
    struct loop *real = f->loop;
    uint8_t buf[512];
    struct op op;
    f->loop = loop_create(true);
    shell(f, "qemu-img create -q -f vpc -o force_size=on a.vhd 8M");
    struct block *b = open_vhd(f, "a.vhd", false);
    memset(buf, 0x61, sizeof(buf));
    submit(b, &op, BLOCK_WRITE, 4 * MIB, buf, 512, false);
    while (op.calls == 0) {
        block_wait(b);
    }
    on_disk(f, "0");
    loop_advance(f->loop, 999999999);
    on_disk(f, "0");
    loop_advance(f->loop, 1); /* by itself, after a second */
    block_wait(b);
    on_disk(f, "0x61");
    assert_int_equal(block_get_stats(b)->flush_operations, 0);
    loop_advance(f->loop, 100000000000);
    block_close(b);
    /* FUA. */
    shell(f, "qemu-img create -q -f vpc -o force_size=on a.vhd 8M");
    b = open_vhd(f, "a.vhd", false);
    submit(b, &op, BLOCK_WRITE, 4 * MIB, buf, 512, true);
    while (op.calls == 0) {
        block_wait(b);
    }
    assert_int_equal(op.error, 0);
    on_disk(f, "0x61");
    block_close(b);
    loop_destroy(f->loop);
    f->loop = real;
}

struct progress {
    unsigned flushed; /* rounds */
};

enum { SLOTS = 64, SLOT_BYTES = 131072 };

/* Writes round numbers into SLOTS places in turn, with a flush now and then, until killed. */
static void write_until_killed(struct fixture *f, volatile struct progress *p)
{
    static uint8_t buf[4096];
    struct loop *loop = loop_create(false);
    struct fixture mine = *f;
    mine.loop = loop;
    char err[512];
    struct block *b = try_open(&mine, "a.vhd", false, err, sizeof(err));
    if (b == NULL) {
        _exit(1);
    }
    for (unsigned round = 1;; round++) {
        for (unsigned i = 0; i < sizeof(buf); i += 4) {
            memcpy(buf + i, &round, 4);
        }
        if (do_op(&mine, b, BLOCK_WRITE, (uint64_t)(round * 29 % SLOTS) * SLOT_BYTES + 1024, buf,
                  sizeof(buf)) != 0) {
            _exit(1);
        }
        if (round % 7 == 0) {
            if (do_op(&mine, b, BLOCK_FLUSH, 0, NULL, 0) != 0) {
                _exit(1);
            }
            p->flushed = round;
        }
    }
}

static void kill_nine(void **state)
{
    struct fixture *f = *state;
    volatile struct progress *p =
        mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    for (unsigned turn = 0; turn < 10; turn++) {
        /* Odd turns: differencing, with small blocks. */
        make_vhd(
            f, &(struct vhd_make){.type = VHD_DYNAMIC, .size_bytes = SLOTS * SLOT_BYTES, .uuid = 1},
            "base.vhd");
        make_vhd(f,
                 &(struct vhd_make){.type = turn % 2 != 0 ? VHD_DIFFERENCING : VHD_DYNAMIC,
                                    .size_bytes = SLOTS * SLOT_BYTES,
                                    .block_bytes = turn % 2 != 0 ? 65536 : 0,
                                    .parent_uuid = 1,
                                    .parent_name = "base.vhd"},
                 "a.vhd");
        p->flushed = 0;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            write_until_killed(f, p);
        }
        while (p->flushed < 7 + turn * 21) {
            usleep(100 + rnd(f) % 400);
            assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
        }
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        unsigned flushed = p->flushed, lost = 0;
        struct block *b = open_vhd(f, "a.vhd", false);
        for (unsigned i = 0; i < SLOTS; i++) {
            uint32_t got[1024], least = 0;
            for (unsigned r = flushed; r > 0 && r + SLOTS > flushed && least == 0; r--) {
                least = r * 29 % SLOTS == i ? r : 0;
            }
            assert_int_equal(
                do_op(f, b, BLOCK_READ, (uint64_t)i * SLOT_BYTES + 1024, got, sizeof(got)), 0);
            for (unsigned k = 0; k < 1024; k++) {
                lost += got[k] < least;
            }
        }
        assert_int_equal(lost, 0);
        /* It can be written on, and qemu-img reads the same. */
        uint8_t buf[512];
        memset(buf, 0x5a, sizeof(buf));
        assert_int_equal(do_op(f, b, BLOCK_WRITE, 512, buf, 512), 0);
        block_close(b);
        if (turn % 2 == 0) {
            shell(f, "qemu-io -r -f vpc -c 'read -P 0x5a 512 512' a.vhd");
        }
    }
    munmap((void *)p, sizeof(*p));
}

/* Power failures and kills at 200 random moments with up to four writes under way, on a file that
 * completes requests in any order and loses any sectors that were not synced. Every place holds what
 * was last flushed there, or something written later. */
static void power_failures(void **state)
{
    struct fixture *f = *state;
    enum { PLACES = 48, PLACE_BYTES = 24576, FLIGHT = 4, ROOM = 32 * MIB };
    char base[128], err[512];
    snprintf(base, sizeof(base), "%s", in_dir(f, "base.vhd"));
    for (unsigned type = VHD_DYNAMIC; type <= VHD_DIFFERENCING; type++) {
        const struct vhd_make m = {.type = type,
                                   .size_bytes = PLACES * PLACE_BYTES,
                                   .block_bytes = type == VHD_DYNAMIC ? 65536 : 8192,
                                   .parent_uuid = 1,
                                   .parent_name = base};
        make_vhd(
            f, &(struct vhd_make){.type = VHD_FIXED, .size_bytes = PLACES * PLACE_BYTES, .uuid = 1},
            "base.vhd");
        uint8_t *image = calloc(1, vhd_make_bytes(&m));
        vhd_make(&m, image);
        struct rig_file *file = rig_file_create(image, vhd_make_bytes(&m), ROOM);
        uint32_t flushed[PLACES] = {0}, latest[PLACES] = {0}, written[PLACES] = {0}, number = 0;
        for (unsigned crash = 0; crash < 100; crash++) {
            struct block *b = rig_open_as(f->loop, &block_vhd, file, false, err, sizeof(err));
            if (b == NULL) {
                fail_msg("%s", err);
            }
            for (unsigned i = 0; i < PLACES; i++) {
                uint32_t got[2][128];
                assert_int_equal(do_op(f, b, BLOCK_READ, i * PLACE_BYTES + 512u, got, sizeof(got)),
                                 0);
                for (unsigned k = 0; k < 2; k++) {
                    for (unsigned n = 1; n < 128; n++) { /* a sector is old or new */
                        assert_int_equal(got[k][n], got[k][0]);
                    }
                    assert_in_range(got[k][0], flushed[i], written[i]);
                }
                latest[i] = flushed[i] = got[0][0] < got[1][0] ? got[0][0] : got[1][0];
                /* Next to it nobody wrote. */
                assert_int_equal(do_op(f, b, BLOCK_READ, i * PLACE_BYTES + 1536u, got, 1024), 0);
                for (unsigned n = 0; n < 256; n++) {
                    assert_int_equal(got[n / 128][n % 128], 0);
                }
            }
            static uint32_t bufs[FLIGHT][256];
            static struct op ops[FLIGHT];
            file->hold = true;
            for (unsigned turn = rnd(f) % 12; turn > 0; turn--) {
                unsigned first = rnd(f) % (PLACES - FLIGHT);
                bool flush = rnd(f) % 3 == 0;
                for (unsigned i = 0; i < FLIGHT; i++) {
                    number++;
                    for (unsigned n = 0; n < 256; n++) {
                        bufs[i][n] = number;
                    }
                    latest[first + i] = written[first + i] = number;
                    submit(b, &ops[i], BLOCK_WRITE, (first + i) * PLACE_BYTES + 512u, bufs[i], 1024,
                           false);
                }
                if (turn == 1) { /* in the middle of it */
                    for (unsigned i = rnd(f) % 12; i > 0; i--) {
                        (void)rig_file_run(file);
                    }
                    break;
                }
                for (unsigned i = 0; i < FLIGHT; i++) {
                    while (ops[i].calls == 0) {
                        block_wait(b);
                    }
                }
                if (flush) {
                    struct op op;
                    submit(b, &op, BLOCK_FLUSH, 0, NULL, 0, false);
                    while (op.calls == 0) {
                        block_wait(b);
                    }
                    assert_int_equal(op.error, 0);
                    memcpy(flushed, latest, sizeof(flushed));
                }
            }
            rig_abandon(file, b);
            if (crash % 4 == 0) {
                rig_file_kill(file);
            } else {
                rig_file_crash(file);
            }
            file->hold = false;
        }
        rig_file_destroy(file);
    }
}

/* Two opens of one image are one. */
static void shared(void **state)
{
    struct fixture *f = *state;
    uint8_t buf[512] = {5}, got[512];
    char err[512];
    make_vhd(f, &(struct vhd_make){.type = VHD_DYNAMIC, .size_bytes = 8 * MIB}, "a.vhd");
    struct block *a = open_vhd(f, "a.vhd", false), *b = open_vhd(f, "a.vhd", false);
    assert_int_equal(do_op(f, a, BLOCK_WRITE, MIB, buf, 512), 0);
    assert_int_equal(do_op(f, b, BLOCK_READ, MIB, got, 512), 0);
    assert_memory_equal(buf, got, 512);
    assert_null(try_open(f, "a.vhd", true, err, sizeof(err)));
    block_close(a);
    assert_int_equal(do_op(f, b, BLOCK_READ, MIB, got, 512), 0);
    block_close(b);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(qemu_fills_we_read),
        T(we_fill_qemu_reads),
        T(sizes),
        T(any_block_size),
        T(chain),
        T(parents),
        T(footers),
        T(corrupt),
        T(corrupt_blocks),
        T(full_file_system),
        T(flush_fails),
        T(cut_off),
        T(write_back),
        T(kill_nine),
        T(power_failures),
        T(shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
