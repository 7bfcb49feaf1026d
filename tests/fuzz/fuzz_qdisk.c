/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pv/ from the guest's and the toolstack's side, on tests/unit/xen/xen_fake.h: ring pages of any
 * content, indexes, grants that come and go, xenstore nodes, images that answer late or with
 * errors, stop and cont. After each input nothing may be left mapped, bound or watched, and a
 * request may be answered once only. Images are in memory (block_open() is wrapped by the linker).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pv/internal.h"
#include "tests/unit/block_fake.h"
#include "tests/unit/xen/xen_fake_blkfront.h"

enum { MAX_OPS = 400, DISKS = 3, IMAGE_BYTES = 64 << 10 };

static const unsigned devs[DISKS] = {51712, 51728, 5632};

struct rig {
    struct loop *loop;
    struct pv *pv;
    struct blkfront front[DISKS];
};

struct input {
    const uint8_t *p;
    size_t left;
};

static uint64_t take(struct input *in, size_t n)
{
    uint64_t v = 0;

    n = n < in->left ? n : in->left;
    memcpy(&v, in->p, n);
    in->p += n;
    in->left -= n;
    return v;
}

struct block *__wrap_block_open(struct loop *loop, const struct block_config *cfg, char *err,
                                size_t errlen);
struct block *__wrap_block_open(struct loop *loop, const struct block_config *cfg, char *err,
                                size_t errlen)
{
    if (strcmp(cfg->path, "/none") == 0 || strcmp(cfg->format, "raw") != 0) {
        snprintf(err, errlen, "no such image");
        return NULL;
    }
    return block_fake_create(loop, IMAGE_BYTES, cfg->readonly);
}

static void open_pv(struct rig *r)
{
    char err[256];

    r->pv = pv_create(r->loop, XF_DOMID, err, sizeof(err));
    if (r->pv == NULL) {
        abort();
    }
    pv_set_running(r->pv, true);
}

/* Disk i of the toolstack, and a frontend that is ready to connect. form: order, ABI, persistent. */
static void begin(struct rig *r, unsigned i, uint8_t form)
{
    if (r->front[i].pages != NULL) {
        front_fini(&r->front[i]);
    }
    front_toolstack(devs[i], form & 0x80 ? "aio:" : "aio:/image", form & 0x40 ? "r" : "w",
                    devs[i] == 5632 ? "cdrom" : "disk");
    front_init(&r->front[i], devs[i], (form & 7) % 5, form & 8, form & 0x10);
    front_write(devs[i], "state", form & 0x20 ? "1" : "3");
}

static void run(struct rig *r, unsigned turns)
{
    while (turns-- > 0) {
        loop_poll(r->loop, 0);
    }
}

/* ---- operations ---- */

static void number(struct input *in, char text[24])
{
    uint8_t kind = (uint8_t)take(in, 1);

    switch (kind >> 6) {
    case 0:
        snprintf(text, 24, "%u", kind & 0x0fu);
        break;
    case 1:
        snprintf(text, 24, "%u", 16u + (unsigned)take(in, 2) % 4096);
        break;
    case 2:
        snprintf(text, 24, "%llu", (unsigned long long)take(in, 8));
        break;
    default:
        for (unsigned i = 0; i < 7; i++) {
            text[i] = (char)take(in, 1);
        }
        text[7] = '\0';
        break;
    }
}

static void front_node(struct input *in)
{
    static const char *const names[] = {"state",           "state",     "ring-ref",
                                        "ring-ref0",       "ring-ref1", "event-channel",
                                        "ring-page-order", "protocol",  "feature-persistent"};
    uint8_t op = (uint8_t)take(in, 1);
    char text[24];

    number(in, text);
    front_write(devs[op % DISKS], names[(op >> 2) % 9], text);
}

static void back_node(struct input *in)
{
    static const char *const names[] = {"state",       "online",         "params",     "mode",
                                        "device-type", "discard-enable", "frontend-id"};
    static const char *const params[] = {"aio:/image",
                                         "aio:",
                                         "aio:/none",
                                         "qcow2:/image",
                                         "/image",
                                         "raw:/other",
                                         "averyveryverylongformat:/x",
                                         ""};
    uint8_t op = (uint8_t)take(in, 1);
    unsigned name = (op >> 2) % 7;
    char text[24];

    number(in, text);
    if (name == 2) {
        back_write(devs[op % DISKS], "params", params[(uint8_t)text[0] & 7]);
    } else {
        back_write(devs[op % DISKS], names[name], text);
    }
}

static void remove_nodes(struct input *in)
{
    uint8_t op = (uint8_t)take(in, 1);
    char path[64];

    switch (op >> 4 & 3) {
    case 0:
        snprintf(path, sizeof(path), "backend/qdisk/%d/%u", XF_DOMID, devs[op % DISKS]);
        break;
    case 1:
        snprintf(path, sizeof(path), "/local/domain/%d/device/vbd/%u", XF_DOMID, devs[op % DISKS]);
        break;
    case 2:
        snprintf(path, sizeof(path), "backend/qdisk/%d", XF_DOMID);
        break;
    default:
        snprintf(path, sizeof(path), "/local/domain/%d", XF_DOMID);
        break;
    }
    xf_store_rm(path);
}

/* A segment that mostly makes sense. */
static struct blkseg segment(struct input *in)
{
    uint64_t v = take(in, 3);
    struct blkseg s = {FRONT_DATA_REF + (uint32_t)(v & 0x1ff), (uint8_t)(v >> 9 & 7),
                       (uint8_t)(v >> 12 & 7)};

    if (s.first > s.last && (v & 0xf8000) != 0) {
        s.first = 0;
    }
    if ((v >> 16) == 0xff) {
        s.ref = (uint32_t)take(in, 4);
        s.last = (uint8_t)take(in, 1);
    }
    return s;
}

/* Some requests; flags: not pushed (4), no turn of the loop for them (2). */
static void requests(struct rig *r, struct input *in, unsigned flags)
{
    uint8_t op = (uint8_t)take(in, 1);
    struct blkfront *f = &r->front[op % DISKS];
    uint64_t sector = op & 4 ? take(in, 2) % 140 : take(in, 8);
    uint8_t raw[FRONT_ENTRY_MAX] = {0};
    struct blkseg segs[11];
    uint8_t n = (uint8_t)take(in, 1);

    if (f->pages == NULL) {
        return;
    }
    switch (op >> 4) {
    case 1:
        for (unsigned i = 0; i < sizeof(raw); i += 8) {
            uint64_t v = take(in, 8);

            memcpy(raw + i, &v, 8);
        }
        front_put(f, raw);
        break;
    case 0:
        front_discard(f, n, sector, take(in, 2));
        break;
    case 3:
    case 4:
        for (unsigned i = 0; i < (n & 0x7fu); i++) {
            struct blkseg s = segment(in);

            memcpy(front_data(9) + 8 * i, &s.ref, 4);
            front_data(9)[8 * i + 4] = s.first;
            front_data(9)[8 * i + 5] = s.last;
        }
        front_indirect(f, n >> 7, n, sector, FRONT_DATA_REF + 9, n & 0x7f);
        break;
    default:
        for (unsigned i = 0; i < n % 12u; i++) {
            segs[i] = segment(in);
        }
        front_rw(f, (op >> 4) % 4, n, sector, segs, n % 12);
        break;
    }
    if (!(flags & 4)) {
        front_push(f);
    }
    if (!(flags & 2)) {
        run(r, 2);
    }
}

static void grants(struct input *in)
{
    uint64_t v = take(in, 3);
    uint32_t ref = v & 0x800 ? FRONT_DATA_REF + (v & 0x1ff) : v & 0x3ff;

    switch (v >> 16 & 3) {
    case 0:
        xf.grant[ref].valid = v >> 18 & 1;
        break;
    case 1:
        xf.grant[ref].readonly = v >> 18 & 1;
        break;
    case 2:
        xf_populate(xf.grant[ref].gfn); /* another page: what is mapped stays mapped */
        break;
    default:
        break;
    }
}

static void image(struct rig *r, struct input *in)
{
    uint8_t op = (uint8_t)take(in, 1);
    const struct qdisk *d = r->pv->disks;

    for (unsigned i = op & 3; d != NULL && i > 0; i--) {
        d = d->next;
    }
    if (d == NULL || d->block == NULL) {
        return;
    }
    switch (op >> 2 & 3) {
    case 0:
        block_fake_hold(d->block, op & 0x10);
        break;
    case 1:
        block_fake_fail(d->block, (enum block_op)(op >> 4 & 3), take(in, 3),
                        op & 0x40   ? -EIO
                        : op & 0x80 ? -EOPNOTSUPP
                                    : 0);
        break;
    default:
        block_fake_run(d->block, op >> 4);
        break;
    }
}

static void ring_words(struct rig *r, struct input *in)
{
    uint8_t op = (uint8_t)take(in, 1);
    struct blkfront *f = &r->front[op % DISKS];
    uint32_t word[4];

    if (f->pages == NULL) {
        return;
    }
    memcpy(word, f->pages, sizeof(word));
    word[op >> 2 & 3] =
        op & 0x10 ? (uint32_t)take(in, 4) : word[op >> 2 & 3] + (uint32_t)take(in, 1);
    memcpy(f->pages, word, sizeof(word));
    xf_raise_port(f->port);
}

static void one_op(struct rig *r, struct input *in)
{
    static const enum xf_call fails[] = {XF_GRANT_MAP, XF_GRANT_COPY, XF_BIND,
                                         XF_XS_WRITE,  XF_XS_COMMIT,  XF_XS_WATCH};
    uint8_t op = (uint8_t)take(in, 1);
    uint64_t id;
    uint8_t what;
    int status;

    switch (op & 15) {
    case 0:
        begin(r, op >> 4 & 3 ? (op >> 4 & 3) - 1u : 0, (uint8_t)take(in, 1));
        break;
    case 1:
        front_node(in);
        break;
    case 2:
        back_node(in);
        break;
    case 3:
        if (op & 0x10) {
            remove_nodes(in);
        } else {
            grants(in);
        }
        break;
    case 4:
    case 5:
    case 6:
        requests(r, in, op >> 5);
        break;
    case 7:
    case 8:
        if (r->front[(op >> 4) % DISKS].pages != NULL) {
            front_push(&r->front[(op >> 4) % DISKS]);
        }
        break;
    case 9:
        if (r->front[(op >> 4) % DISKS].pages != NULL) {
            for (unsigned i = 0;
                 i < 600 && front_take(&r->front[(op >> 4) % DISKS], &id, &what, &status); i++) {
            }
        }
        break;
    case 10:
        ring_words(r, in);
        break;
    case 11:
        image(r, in);
        break;
    case 12:
        xf.fail[fails[(op >> 5) % 6]] = op & 0x10 ? (int[]){ENOMEM, EAGAIN}[in->left & 1] : 0;
        break;
    case 13:
        pv_set_running(r->pv, op & 0x10);
        break;
    case 14:
        if (op == 0xfe) { /* rarely: it starts all over */
            pv_destroy(r->pv);
            memset(xf.fail, 0, sizeof(xf.fail));
            open_pv(r);
            break;
        }
        __attribute__((fallthrough));
    default:
        run(r, 1 + (op >> 4));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct input in = {data, size};

    if (r == NULL) {
        abort();
    }
    xf_create();
    r->loop = loop_create(true);
    open_pv(r);
    for (unsigned i = 0; i < DISKS; i++) {
        begin(r, i, (uint8_t)take(&in, 1));
    }
    run(r, 8);
    for (unsigned i = 0; i < MAX_OPS && in.left > 0; i++) {
        one_op(r, &in);
    }
    memset(xf.fail, 0, sizeof(xf.fail));
    run(r, 64);
    pv_destroy(r->pv);
    run(r, 2);
    loop_destroy(r->loop);
    if (xf.bad_unmasks + xf.blocked != 0 || xf.handles != 0 || xf.granted_maps != 0 ||
        xf.ports_bound != 0 || xf.watches != 0) {
        abort();
    }
    for (unsigned i = 0; i < DISKS; i++) {
        front_fini(&r->front[i]);
    }
    xf_destroy();
    free(r);
    return 0;
}
