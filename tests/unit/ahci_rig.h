/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the AHCI tests share: a board with the controller on fake images, command tables in RAM. */
#include "hw/ahci_int.h"
#include "tests/unit/block_fake.h"
#include "tests/unit/harness.h"

enum {
    A_DEVFN = PCI_DEVFN(4, 0),
    A_ABAR = 0xf0000000,
    A_IDP = 0xc000,
    A_DISK_SECTORS = 16384,
    A_CD_SECTORS = 500,
    A_PORT = 0x10000, /* guest memory of port n: command list, FISes, 32 tables of 4 KiB */
    A_PORT_BYTES = 0x40000,
    A_TABLE_BYTES = 0x1000,
    A_DATA = 0x400000,
};
enum { A_READ_DMA_EXT = 0x25, A_WRITE_DMA_EXT = 0x35, A_READ_Q = 0x60, A_WRITE_Q = 0x61 };

struct arig {
    struct harness *h;
    struct ahci *ahci;
    struct block *disk, *cd; /* ports 0 and 1 */
    uint64_t disk_sectors;
};

struct prd {
    uint64_t addr;
    uint32_t len;
};

/* Controller with BARs set, bus master and GHC.IE on; port 0 a disk, port 1 a CD drive, running. */
struct arig *arig_create(uint64_t disk_sectors);
void arig_destroy(struct arig *r);

uint32_t aget(struct arig *r, unsigned reg);
void aput(struct arig *r, unsigned reg, uint32_t v);
uint32_t pget(struct arig *r, unsigned port, unsigned reg);
void pput(struct arig *r, unsigned port, unsigned reg, uint32_t v);
/* CLB, FB, FRE, ST. */
void port_start(struct arig *r, unsigned port);
/* ST off and on, as after an error. */
void port_restart(struct arig *r, unsigned port);

uint8_t *table_of(struct arig *r, unsigned port, unsigned slot);
uint8_t *fis_of(struct arig *r, unsigned port, unsigned offset);
uint32_t prdbc_of(struct arig *r, unsigned port, unsigned slot);

/* Writes header, FIS and descriptors of a slot. */
void put_command(struct arig *r, unsigned port, unsigned slot, uint8_t command, uint64_t lba,
                 unsigned count, unsigned features, const struct prd *prd, unsigned n);
/* A queued command; data at A_DATA + 64 KiB * slot when prd is NULL. */
void put_queued(struct arig *r, unsigned slot, bool write, uint64_t lba, unsigned sectors,
                const struct prd *prd, unsigned n);
void put_cdb(struct arig *r, unsigned port, unsigned slot, const uint8_t cdb[12]);
/* Turns the loop until nothing more happens without the test's doing, at most `turns` times. */
void settle(struct arig *r);
/* Clears PxIS, sets PxCI (and PxSACT), settles; returns PxIS. */
uint32_t go(struct arig *r, unsigned port, uint32_t ci);
uint32_t go_queued(struct arig *r, uint32_t mask);
