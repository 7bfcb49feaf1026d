/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/bus.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/platform.h"

enum {
    BUS_REGIONS = 192, /* < 256: port_map entries are bytes; Xen's own limit is 256 ranges a type */
    PORTS = 65536,
};

struct region {
    uint64_t base, len;
    const struct io_ops *ops; /* NULL: free */
    void *dev;
    const char *name;
    enum bus_space space;
};

struct bus {
    struct platform *plat;
    struct region *last_mmio; /* the last region hit: VGA and NIC accesses come in runs */
    unsigned nmmio;
    uint8_t mmio[BUS_REGIONS];             /* ids of the MMIO regions */
    struct region region[BUS_REGIONS + 1]; /* index = id; 0 is unused */
    uint8_t port_map[PORTS]; /* region id per port, 0: none. Untouched pages cost nothing */
};

struct bus *bus_create(struct platform *plat)
{
    struct bus *bus = calloc(1, sizeof(*bus));

    if (bus != NULL) {
        bus->plat = plat;
    }
    return bus;
}

void bus_destroy(struct bus *bus)
{
    if (bus == NULL) {
        return;
    }
    for (int id = 1; id <= BUS_REGIONS; id++) {
        bus_remove(bus, id);
    }
    free(bus);
}

static inline uint64_t ones(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

static bool overlaps(const struct region *r, uint64_t base, uint64_t len)
{
    return base < r->base + r->len && r->base < base + len;
}

int bus_add(struct bus *bus, enum bus_space space, uint64_t base, uint64_t len,
            const struct io_ops *ops, void *dev, const char *name)
{
    uint64_t limit = space == BUS_PORT ? PORTS : UINT64_C(1) << 52;
    int id = 0;

    if (len == 0 || base >= limit || len > limit - base) {
        return -EINVAL;
    }
    for (int i = BUS_REGIONS; i >= 1; i--) {
        const struct region *r = &bus->region[i];

        if (r->ops == NULL) {
            id = i;
        } else if (r->space == space && overlaps(r, base, len)) {
            trace("bus", "overlap", "%s at %#llx+%#llx with %s", name, (unsigned long long)base,
                  (unsigned long long)len, r->name);
            return -EEXIST;
        }
    }
    if (id == 0) {
        return -ENOSPC;
    }
    if (bus->plat != NULL) {
        int ret = platform_map_range(bus->plat, space == BUS_MMIO, base, base + len - 1);

        if (ret != 0) {
            return ret;
        }
    }
    bus->region[id] = (struct region){base, len, ops, dev, name, space};
    if (space == BUS_PORT) {
        memset(bus->port_map + base, id, len);
    } else {
        bus->mmio[bus->nmmio++] = (uint8_t)id;
    }
    return id;
}

void bus_remove(struct bus *bus, int id)
{
    struct region *r;

    if (id < 1 || id > BUS_REGIONS || bus->region[id].ops == NULL) {
        return;
    }
    r = &bus->region[id];
    if (bus->plat != NULL) {
        platform_unmap_range(bus->plat, r->space == BUS_MMIO, r->base, r->base + r->len - 1);
    }
    if (r->space == BUS_PORT) {
        memset(bus->port_map + r->base, 0, r->len);
    } else {
        for (unsigned i = 0; i < bus->nmmio; i++) {
            if (bus->mmio[i] == id) {
                bus->mmio[i] = bus->mmio[--bus->nmmio];
                break;
            }
        }
        if (bus->last_mmio == r) {
            bus->last_mmio = NULL;
        }
    }
    r->ops = NULL;
}

/* The region that holds addr, or NULL. */
static inline struct region *bus_find(struct bus *bus, enum bus_space space, uint64_t addr)
{
    if (space == BUS_PORT) {
        unsigned id = addr < PORTS ? bus->port_map[addr] : 0;

        return id != 0 ? &bus->region[id] : NULL;
    }
    if (bus->last_mmio != NULL && addr - bus->last_mmio->base < bus->last_mmio->len) {
        return bus->last_mmio;
    }
    for (unsigned i = 0; i < bus->nmmio; i++) {
        struct region *r = &bus->region[bus->mmio[i]];

        if (addr - r->base < r->len) {
            bus->last_mmio = r;
            return r;
        }
    }
    return NULL;
}

/* The size of the next piece of an access that is too wide for the region of its first byte. */
static unsigned piece(const struct region *r, unsigned size)
{
    return r == NULL ? 1 : r->ops->max_size < size ? r->ops->max_size : size;
}

static uint64_t read_split(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size)
{
    uint64_t value = 0;

    for (unsigned done = 0; done < size;) {
        struct region *r = bus_find(bus, space, addr + done);
        unsigned n = piece(r, size - done);
        uint64_t v;

        while (n & (n - 1)) {
            n &= n - 1; /* what is left of a split may be 3: handlers only know powers of two */
        }
        v = r != NULL ? r->ops->read(r->dev, addr + done - r->base, n) & ones(n) : ones(n);
        value |= v << (done * 8);
        done += n;
    }
    return value;
}

static void write_split(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size,
                        uint64_t value)
{
    for (unsigned done = 0; done < size;) {
        struct region *r = bus_find(bus, space, addr + done);
        unsigned n = piece(r, size - done);

        while (n & (n - 1)) {
            n &= n - 1;
        }
        if (r != NULL) {
            r->ops->write(r->dev, addr + done - r->base, n, (value >> (done * 8)) & ones(n));
        }
        done += n;
    }
}

uint64_t bus_read(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size)
{
    struct region *r = bus_find(bus, space, addr);

    if (__builtin_expect(r != NULL && size <= r->ops->max_size, 1)) {
        return r->ops->read(r->dev, addr - r->base, size) & ones(size);
    }
    return read_split(bus, space, addr, size);
}

void bus_write(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size, uint64_t value)
{
    struct region *r = bus_find(bus, space, addr);

    if (__builtin_expect(r != NULL && size <= r->ops->max_size, 1)) {
        r->ops->write(r->dev, addr - r->base, size, value & ones(size));
        return;
    }
    write_split(bus, space, addr, size, value & ones(size));
}

/* How many of count items starting at addr lie wholly in r (ports do not advance). */
static unsigned rep_fit(const struct region *r, enum bus_space space, uint64_t addr, unsigned size,
                        unsigned count)
{
    uint64_t room;

    if (space == BUS_PORT) {
        return count;
    }
    room = (r->len - (addr - r->base)) / size;
    return room < count ? (unsigned)room : count;
}

void bus_read_rep(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size, void *buf,
                  unsigned count)
{
    uint8_t *p = buf;

    while (count > 0) {
        struct region *r = bus_find(bus, space, addr);
        unsigned n = 0;

        if (r != NULL && r->ops->read_rep != NULL && size <= r->ops->max_size) {
            unsigned fit = rep_fit(r, space, addr, size, count);

            n = fit > 0 ? r->ops->read_rep(r->dev, addr - r->base, size, p, fit) : 0;
        }
        if (n == 0) {
            uint64_t v = bus_read(bus, space, addr, size);

            memcpy(p, &v, size);
            n = 1;
        }
        p += (size_t)n * size;
        count -= n;
        addr += space == BUS_MMIO ? (uint64_t)n * size : 0;
    }
}

void bus_write_rep(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size,
                   const void *buf, unsigned count)
{
    const uint8_t *p = buf;

    while (count > 0) {
        struct region *r = bus_find(bus, space, addr);
        unsigned n = 0;

        if (r != NULL && r->ops->write_rep != NULL && size <= r->ops->max_size) {
            unsigned fit = rep_fit(r, space, addr, size, count);

            n = fit > 0 ? r->ops->write_rep(r->dev, addr - r->base, size, p, fit) : 0;
        }
        if (n == 0) {
            uint64_t v = 0;

            memcpy(&v, p, size);
            bus_write(bus, space, addr, size, v);
            n = 1;
        }
        p += (size_t)n * size;
        count -= n;
        addr += space == BUS_MMIO ? (uint64_t)n * size : 0;
    }
}
