/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Port and MMIO dispatch. A device registers a region with handlers for the sizes it has; the bus
 * looks the region up, splits accesses that are wider than the region's handlers, and registers the
 * range with the hypervisor, so that nothing that is not emulated ever reaches us.
 *
 * Rules: `offset` is relative to the region. An access is delivered whole to the region that holds
 * its first byte when its size is <= max_size of that region, even if it reaches past the region's
 * end (a 4-byte read of the IDE data port at 0x1f0 with neighbours at 0x1f1). Otherwise it is cut
 * into pieces of max_size bytes, lowest address first, each of which is looked up by itself. An
 * address without a region reads as ones and ignores writes. Regions of one space do not overlap:
 * the later registration gets -EEXIST, except where said so (pci.c moves BARs over others: then the
 * first wins).
 */
#include <stddef.h>
#include <stdint.h>

enum bus_space { BUS_PORT, BUS_MMIO };

struct io_ops {
    /* Read `size` (1, 2, 4, 8; <= max_size) bytes at offset; only the low size bytes of the result
     * count. */
    uint64_t (*read)(void *dev, uint64_t offset, unsigned size);
    void (*write)(void *dev, uint64_t offset, unsigned size, uint64_t value);
    /*
     * Optional block forms for REP INS/OUTS (ports: the offset stays) and REP MOVS (MMIO: the
     * offset advances): move up to `count` items of `size` bytes to/from buf (guest RAM, may change
     * under us, any alignment) and return how many were done (0 is fine); the bus moves the rest
     * one by one with read/write. Not called with the direction flag set.
     */
    unsigned (*read_rep)(void *dev, uint64_t offset, unsigned size, void *buf, unsigned count);
    unsigned (*write_rep)(void *dev, uint64_t offset, unsigned size, const void *buf,
                          unsigned count);
    uint8_t max_size; /* widest access the handlers take: 1, 2, 4 or 8 */
};

struct bus;
struct platform;

/* Creates the bus; ranges are registered with plat (NULL: with nobody). */
struct bus *bus_create(struct platform *plat);
void bus_destroy(struct bus *bus);

/* Adds `len` ports or bytes at base. ops, dev and name are borrowed and must outlive the region.
 * Returns a region id (>= 1), or
 * -EINVAL (range), -EEXIST (overlap), -ENOSPC (table full) or the hypervisor's -errno. */
int bus_add(struct bus *bus, enum bus_space space, uint64_t base, uint64_t len,
            const struct io_ops *ops, void *dev, const char *name);
/* Removes a region by the id that bus_add() gave. */
void bus_remove(struct bus *bus, int region);

/* One access; addr is anything a guest can make up. size: 1, 2, 4, 8. */
uint64_t bus_read(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size);
void bus_write(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size, uint64_t value);

/* A block of `count` items of `size` bytes between buf and the bus. Ports stay fixed; MMIO
 * addresses advance. (Requests with the direction flag set are broken into single accesses by the
 * caller.) */
void bus_read_rep(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size, void *buf,
                  unsigned count);
void bus_write_rep(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size,
                   const void *buf, unsigned count);
