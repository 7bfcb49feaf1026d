/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that has lost its mind: random accesses of every form to everything that the device model
 * registered, with random memory around. The seed decides all of it.
 */
#include "fakexen.h"

#include <string.h>

struct rng {
    uint64_t s;
};

static uint64_t next(struct rng *r)
{
    r->s ^= r->s << 13;
    r->s ^= r->s >> 7;
    r->s ^= r->s << 17;
    return r->s * 0x2545f4914f6cdd1dull;
}

static uint32_t below(struct rng *r, uint32_t n)
{
    return (uint32_t)((next(r) >> 32) % n);
}

/* An address in a registered range of the kind, or near its ends; anything if there is none. */
static uint64_t pick(struct rng *r, int kind)
{
    uint64_t addr = next(r);

    fx_lock(fx_sh);
    for (int i = 0; i < FX_MAX_SERVERS; i++) {
        const struct fx_rangeset *rs = &fx_sh->server[i].set[kind];

        if (!fx_sh->server[i].in_use || !rs->n)
            continue;
        const struct fx_range *range = &rs->r[below(r, rs->n)];
        uint64_t span = range->end - range->start + 1;
        addr = below(r, 8) ? range->start + next(r) % span : range->end - below(r, 8);
        break;
    }
    fx_unlock(fx_sh);
    return addr;
}

/* A value that means something more often than chance would have it. */
static uint64_t value(struct rng *r)
{
    switch (below(r, 6)) {
    case 0: return below(r, 256);
    case 1: return 1ull << below(r, 64);
    case 2: return below(r, 1 << 20) & ~3u; /* an address in RAM */
    case 3: return UINT64_MAX;
    case 4: return 0;
    default: return next(r);
    }
}

static bool config_access(struct fx_vcpu *v, struct rng *r, struct fx_access *a)
{
    uint64_t sbdf = pick(r, XEN_DMOP_IO_RANGE_PCI) & 0xffff;

    *a = (struct fx_access){ .addr = 0xcf8, .size = 4, .count = 1,
                             .data = 0x80000000u | sbdf << 8 | (below(r, 256) & 0xfc) };
    if (!fx_pio(v, a))
        return false;
    *a = (struct fx_access){ .addr = 0xcfc + below(r, 4), .size = 1u << below(r, 3), .count = 1,
                             .read = below(r, 4) == 0, .data = value(r) };
    return fx_pio(v, a);
}

static bool one(struct fx_vcpu *v, struct rng *r, struct fx_access *a)
{
    uint32_t what = below(r, 100);

    if (what < 3) {
        uint64_t words[8];
        uint8_t *ram = fx_ram(below(r, 1 << 20) & ~63u);

        for (int i = 0; i < 8; i++)
            words[i] = value(r);
        if (ram)
            memcpy(ram, words, sizeof(words));
        return true;
    }
    if (what < 8)
        return config_access(v, r, a);
    *a = (struct fx_access){ .size = 1u << below(r, 3), .count = 1, .read = below(r, 2) == 0,
                             .data = value(r) };
    if (what < 60) {
        a->addr = pick(r, XEN_DMOP_IO_RANGE_PORT) & 0xffff;
        return fx_pio(v, a);
    }
    if (what < 70) {
        a->addr = pick(r, XEN_DMOP_IO_RANGE_PORT) & 0xffff;
        a->is_ptr = true;
        a->count = below(r, 600) + 1;
        a->df = below(r, 4) == 0;
        a->data = below(r, 1 << 20) + (below(r, 50) ? 0 : 0x40000000u);
        return fx_pio(v, a);
    }
    a->addr = pick(r, XEN_DMOP_IO_RANGE_MEMORY);
    a->size = 1u << below(r, 4);
    if (what < 90)
        return fx_mmio(v, a);
    a->count = below(r, 1200) + 1;
    a->df = below(r, 4) == 0;
    a->is_ptr = what < 96 || a->read;
    if (a->is_ptr)
        a->data = below(r, 1 << 20);
    return fx_mmio(v, a);
}

uint64_t fx_garbage(struct fx_vcpu *v, uint64_t ms, uint64_t seed, char *error, size_t error_len)
{
    struct rng r = { seed * 0x9e3779b97f4a7c15ull + 1 };
    uint64_t end = fx_now_ns() + ms * 1000000, n = 0;

    error[0] = '\0';
    while (fx_now_ns() < end) {
        struct fx_access a = { 0 };

        n++;
        if (!one(v, &r, &a)) {
            snprintf(error, error_len, "access %lu (%s %#lx size %u count %u): %s", n,
                     a.read ? "read" : "write", a.addr, a.size, a.count, a.error);
            break;
        }
    }
    return n;
}
