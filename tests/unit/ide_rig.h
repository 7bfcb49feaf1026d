/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the drive tests share: a board with PIIX IDE on fake images, task file helpers, packets, bus
 * master transfers. */
#include "hw/ide.h"
#include "hw/piix_ide.h"
#include "tests/unit/block_fake.h"
#include "tests/unit/harness.h"

enum {
    PRIMARY = 0x1f0,
    SECONDARY = 0x170,
    PRIMARY_CONTROL = 0x3f6,
    SECONDARY_CONTROL = 0x376,
    BM_BASE = 0xc000,
    RIG_DEVFN = PCI_DEVFN(1, 1),
    RIG_DISK_SECTORS = 16384,
    RIG_CD_SECTORS = 500,
    RIG_SMALL_SECTORS = 128,
};

struct rig {
    struct harness *h;
    struct piix_ide *ide;
    struct block *disk, *cd; /* primary master, secondary master */
};

/* A disk at drive 0 and a CD at drive 2; pattern data: see block_fake_byte(). Bus mastering is on,
 * BAR 4 at BM_BASE. */
struct rig *rig_create(void);
/* The same with tiny images, for tests that need thousands. */
struct rig *rig_create_small(void);
/* The same without media or drives where NULL. */
struct rig *rig_create_with(const struct ide_drive_config drives[IDE_DRIVES]);
void rig_destroy(struct rig *r);
/* Steps the loop until the drive at base is not BSY, or some turns have passed. Returns the
 * (alternate) status. */
uint8_t rig_wait(struct rig *r, uint16_t base);

uint8_t in8(struct rig *r, unsigned port);
void out8(struct rig *r, unsigned port, unsigned v);

/* Writes the task file and a 28-bit command. */
void ata28(struct rig *r, uint16_t base, uint8_t cmd, uint32_t lba, unsigned count);
void ata48(struct rig *r, uint16_t base, uint8_t cmd, uint64_t lba, unsigned count);
/* Moves len bytes through the data port with REP INSW / OUTSW. */
void pio_in(struct rig *r, uint16_t base, void *buf, unsigned len);
void pio_out(struct rig *r, uint16_t base, const void *buf, unsigned len);

/* Sends a packet; feature: 1 = DMA. */
void packet(struct rig *r, uint16_t base, const uint8_t cdb[12], unsigned limit, uint8_t feature);
/* Packet, then reads all DRQ blocks of the answer into buf. Returns the bytes, or -1 on a check
 * condition. */
int packet_in(struct rig *r, const uint8_t cdb[12], unsigned limit, void *buf, unsigned len);
/* Key << 16 | ASC << 8 | ASCQ by REQUEST SENSE. */
unsigned sense(struct rig *r);

/* Writes one descriptor at gpa. len 65536 is written as 0. */
void prd(struct rig *r, uint32_t gpa, uint32_t addr, uint32_t len, bool last);
/* Starts (or stops) the bus master of a channel 0, 1 with the list at gpa. */
void bm_start(struct rig *r, unsigned channel, uint32_t list, bool to_memory);
void bm_stop(struct rig *r, unsigned channel);
uint8_t bm_status(struct rig *r, unsigned channel);
