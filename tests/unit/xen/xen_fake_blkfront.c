/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/xen/xen_fake_blkfront.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { RING_GFN = 0x200, RING_HEADER = 64, REQ_PROD = 0, REQ_EVENT = 4, RSP_PROD = 8, RSP_EVENT = 12 };

static const char *front_path(unsigned dev, const char *name, char buf[96])
{
    snprintf(buf, 96, "/local/domain/%d/device/vbd/%u/%s", XF_DOMID, dev, name);
    return buf;
}

static const char *back_path(unsigned dev, const char *name, char buf[96])
{
    snprintf(buf, 96, "backend/qdisk/%d/%u/%s", XF_DOMID, dev, name);
    return buf;
}

void front_write(unsigned dev, const char *name, const char *value)
{
    char path[96];

    xf_store_write(front_path(dev, name, path), value);
}

void back_write(unsigned dev, const char *name, const char *value)
{
    char path[96];

    xf_store_write(back_path(dev, name, path), value);
}

const char *back_read(unsigned dev, const char *name)
{
    char path[96];

    return xf_store_read(back_path(dev, name, path));
}

int back_state(unsigned dev)
{
    const char *state = back_read(dev, "state");

    return state != NULL ? atoi(state) : 0;
}

void front_toolstack(unsigned dev, const char *params, const char *mode, const char *type)
{
    char front[96];

    front_path(dev, "", front);
    front[strlen(front) - 1] = '\0';
    front_write(dev, "state", "1");
    back_write(dev, "frontend", front);
    back_write(dev, "params", params);
    back_write(dev, "mode", mode);
    back_write(dev, "device-type", type);
    back_write(dev, "removable", "0");
    back_write(dev, "online", "1");
    back_write(dev, "state", "1");
}

static void write_number(unsigned dev, const char *name, unsigned value)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", value);
    front_write(dev, name, text);
}

void front_init(struct blkfront *f, unsigned dev, unsigned order, bool i386, bool persistent)
{
    unsigned n = 1u << order, slot = (dev >> 4 ^ dev >> 8) & 15;
    uint64_t gfns[64];
    char name[24];

    *f = (struct blkfront){.dev = dev,
                           .order = order,
                           .i386 = i386,
                           .ref = 16 + slot * 32,
                           .port = 2000 + slot,
                           .entry = i386 ? 108 : 112,
                           .entries = 1};
    while (f->entries * 2 <= (n * XF_PAGE - RING_HEADER) / f->entry) {
        f->entries *= 2;
    }
    for (unsigned i = 0; i < n; i++) {
        gfns[i] = RING_GFN + slot * 32 + i;
        memset(xf_ram(gfns[i]), 0, XF_PAGE);
        xf.grant[f->ref + i].valid = true;
        xf.grant[f->ref + i].gfn = gfns[i];
        if (order > 0) {
            snprintf(name, sizeof(name), "ring-ref%u", i);
            write_number(dev, name, f->ref + i);
        }
    }
    for (unsigned i = 0; i < FRONT_DATA_PAGES; i++) {
        xf.grant[FRONT_DATA_REF + i].valid = true;
        xf.grant[FRONT_DATA_REF + i].gfn = FRONT_DATA_GFN + i;
    }
    f->pages = xf_map_frames(gfns, n, PROT_READ | PROT_WRITE);
    ((uint32_t *)(void *)f->pages)[REQ_EVENT / 4] = 1;
    ((uint32_t *)(void *)f->pages)[RSP_EVENT / 4] = 1;
    if (order > 0) {
        write_number(dev, "ring-page-order", order);
    } else {
        write_number(dev, "ring-ref", f->ref);
    }
    write_number(dev, "event-channel", f->port);
    front_write(dev, "protocol", i386 ? "x86_32-abi" : "x86_64-abi");
    write_number(dev, "feature-persistent", persistent);
}

void front_fini(struct blkfront *f)
{
    munmap(f->pages, (size_t)XF_PAGE << f->order);
}

uint8_t *front_data(unsigned i)
{
    return xf_ram(FRONT_DATA_GFN + i);
}

static uint32_t *shared(const struct blkfront *f, unsigned offset)
{
    return (uint32_t *)(void *)(f->pages + offset);
}

static uint8_t *slot(const struct blkfront *f, uint32_t i)
{
    return f->pages + RING_HEADER + (size_t)(i & (f->entries - 1)) * f->entry;
}

void front_put(struct blkfront *f, const uint8_t *request)
{
    memcpy(slot(f, f->req_prod++), request, f->entry);
}

static void put64(uint8_t *request, unsigned offset, uint64_t v)
{
    memcpy(request + offset, &v, sizeof(v));
}

static void put_segments(uint8_t *to, const struct blkseg *segs, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        memcpy(to + 8 * i, &segs[i].ref, 4);
        to[8 * i + 4] = segs[i].first;
        to[8 * i + 5] = segs[i].last;
    }
}

/* Offsets by hand from blkif.h: the backend's come from the compiler. */
void front_rw(struct blkfront *f, uint8_t op, uint64_t id, uint64_t sector, const struct blkseg *segs, unsigned n)
{
    uint8_t request[FRONT_ENTRY_MAX] = {op, (uint8_t)n};

    put64(request, f->i386 ? 4 : 8, id);
    put64(request, f->i386 ? 12 : 16, sector);
    put_segments(request + (f->i386 ? 20 : 24), segs, n < 11 ? n : 11);
    front_put(f, request);
}

void front_indirect(struct blkfront *f, uint8_t op, uint64_t id, uint64_t sector, uint32_t ref, unsigned n)
{
    uint8_t request[FRONT_ENTRY_MAX] = {6, op, (uint8_t)n, (uint8_t)(n >> 8)};

    put64(request, f->i386 ? 4 : 8, id);
    put64(request, f->i386 ? 12 : 16, sector);
    memcpy(request + (f->i386 ? 24 : 28), &ref, 4);
    front_put(f, request);
}

void front_discard(struct blkfront *f, uint64_t id, uint64_t sector, uint64_t sectors)
{
    uint8_t request[FRONT_ENTRY_MAX] = {5};

    put64(request, f->i386 ? 4 : 8, id);
    put64(request, f->i386 ? 12 : 16, sector);
    put64(request, f->i386 ? 20 : 24, sectors);
    front_put(f, request);
}

bool front_push(struct blkfront *f)
{
    uint32_t old = *shared(f, REQ_PROD);
    bool event;

    __atomic_store_n(shared(f, REQ_PROD), f->req_prod, __ATOMIC_SEQ_CST);
    event = f->req_prod - *shared(f, REQ_EVENT) < f->req_prod - old;
    if (event) {
        xf_raise_port(f->port);
    }
    return event;
}

bool front_take(struct blkfront *f, uint64_t *id, uint8_t *op, int *status)
{
    uint8_t *r = slot(f, f->rsp_cons);
    int16_t s;

    if (f->rsp_cons == *shared(f, RSP_PROD)) {
        *shared(f, RSP_EVENT) = f->rsp_cons + 1;
        return false;
    }
    memcpy(id, r, sizeof(*id));
    *op = r[8];
    memcpy(&s, r + 10, sizeof(s));
    *status = s;
    memset(r, 0xee, f->entry); /* nobody needs it any more */
    f->rsp_cons++;
    return true;
}
