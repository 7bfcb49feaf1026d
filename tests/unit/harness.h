/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A board for unit tests and fuzz targets: flat RAM, manual clock, recording interrupt lines, no Xen. Linked with
 * tests/unit/platform_fake.c, which implements core/platform.h and core/guestmem.h on it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/board.h"
#include "core/pci.h"

enum { HARNESS_RAM_SIZE = 16 << 20, HARNESS_MSI_LOG = 16 };

struct platform {
    uint8_t *ram; /* guest physical 0 .. HARNESS_RAM_SIZE, with a hole at 0xa0000..0xbffff */
    bool isa[16];
    unsigned isa_rises[16]; /* rising edges seen */
    bool intx[32][4];
    unsigned pci_link[4];
    unsigned msi_count;
    struct {
        uint64_t addr;
        uint32_t data;
    } msi[HARNESS_MSI_LOG];
    int shutdown_reason; /* enum platform_shutdown, -1: none */
    unsigned s_state;
    unsigned map_calls, unmap_calls; /* range registrations */
    struct {
        uint64_t gfn;
        unsigned n;
        bool readonly;
    } last_readonly;
    unsigned holds; /* guestmem_hold() depth */
    uint64_t vram_gpa; /* where the last vram_place() put it */
    bool fail_vram_place;
    bool vram_untouched; /* the guest itself wrote nothing: vram_dirty() has no page to tell */
};

struct harness {
    struct board board;
    struct platform plat;
    struct loop *loop; /* manual clock */
};

struct harness *harness_create(void); /* aborts when out of memory */
void harness_destroy(struct harness *h);

/* Zeroed pages that cost nothing until they are touched (a fuzz target makes a board per input), between pages that fault. */
uint8_t *harness_pages(size_t bytes);
void harness_pages_free(uint8_t *pages, size_t bytes);

/* Guest accesses. */
uint32_t harness_in(struct harness *h, uint16_t port, unsigned size);
void harness_out(struct harness *h, uint16_t port, unsigned size, uint32_t value);
uint64_t harness_read(struct harness *h, uint64_t gpa, unsigned size);  /* MMIO */
void harness_write(struct harness *h, uint64_t gpa, unsigned size, uint64_t value);
uint32_t harness_pci_read(struct harness *h, uint8_t devfn, unsigned reg, unsigned size);
void harness_pci_write(struct harness *h, uint8_t devfn, unsigned reg, unsigned size, uint32_t value);
/* Clock steps also run bottom halves and fd watches once. */
void harness_step(struct harness *h, uint64_t ns);

/* Saves, loads into the same board, saves again; true when the load was accepted and both streams are equal. */
bool harness_save_load_save(struct harness *h);
/* As above but between two boards made alike; for tests that compare behaviour after a load. */
bool harness_transfer(struct harness *from, struct harness *to);
/* Loads the board's state with one bit wrong, one load for each byte behind the first record's header and each bit_step'th bit of
 * it: refused, or a state to live with: then live(n) is called, n another one each time, and it has to save and load as it is.
 * False where it does not, or where nothing was accepted. */
bool harness_spoil_state(struct harness *h, unsigned bit_step, void (*live)(int n));
