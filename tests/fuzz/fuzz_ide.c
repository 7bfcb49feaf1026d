/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PIIX IDE with two disks and two CD drives: task files, bus master, descriptors in RAM. Images are
 * memory whose completions the input may hold back; the input also changes media, resets in the
 * middle, unplugs and moves whole command sequences.
 */
#include <stdlib.h>
#include <string.h>

#include "core/pci.h"
#include "hw/ide.h"
#include "hw/piix_ide.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/block_fake.h"

enum {
    DEVFN = PCI_DEVFN(1, 1),
    BM = 0xc000,
    DISK_BYTES = 16 << 10,
    CD_BYTES = 36 * 512,
    MEDIA = 5
};

static struct block *media[MEDIA]; /* disk, disk, CD, CD, CD to change to */
static struct piix_ide *ide;
static uint8_t before[16];

static void setup(struct harness *h)
{
    for (unsigned i = 0; i < MEDIA; i++) {
        media[i] = block_fake_create(h->loop,
                                     i < 2    ? DISK_BYTES
                                     : i == 4 ? 2048
                                              : CD_BYTES,
                                     i >= 2);
    }
    const struct ide_drive_config drives[IDE_DRIVES] = {
        { .present = true, .medium = media[0], .index = 0, .id = "d0" },
        { .present = true, .cdrom = true, .medium = media[2], .index = 1, .id = "c1" },
        { .present = true, .cdrom = true, .medium = media[3], .index = 2, .id = "c2" },
        { .present = true, .medium = media[1], .index = 3, .id = "d3" },
    };
    if (piix_ide_create(&h->board, DEVFN, drives, &ide) != 0) {
        abort();
    }
    harness_pci_write(h, DEVFN, 0x20, 4, BM);
    harness_pci_write(h, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    memcpy(before, block_fake_data(media[2]), sizeof(before));
    /* A list of descriptors that makes sense to begin with. */
    for (unsigned i = 0; i < 16; i++) {
        pci_set32(h->plat.ram + 0x1000 + 8 * i, 0, 0x10000 + 0x2000 * i);
        pci_set32(h->plat.ram + 0x1000 + 8 * i, 4, 0x1000u | (i == 15 ? 0x80000000u : 0));
    }
}

static void out(struct harness *h, unsigned port, unsigned v)
{
    harness_out(h, (uint16_t)port, 1, v);
}

/* A whole command: drive, registers, opcode; random bytes alone seldom get past the selection. */
static void command(struct harness *h, const uint8_t b[8])
{
    unsigned base = (b[1] & 2) != 0 ? 0x170 : 0x1f0;
    out(h, base + 6, 0xe0u | (b[1] & 1u) << 4);
    out(h, base + 1, b[3]);
    for (unsigned i = 2; i <= 5; i++) {
        out(h, base + i, b[2 + i]);
    }
    out(h, base + 7, b[2]);
}

static void packet(struct harness *h, const uint8_t b[8])
{
    static const uint8_t ops[] = {
        0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2b, 0x42, 0x43,
        0x46, 0x4a, 0x51, 0x52, 0x5a, 0xa8, 0xad, 0xb9, 0xbb, 0xbd, 0xbe
    };
    unsigned base = (b[1] & 1) != 0 ? 0x170 : 0x1f0;
    uint8_t cdb[12] = { ops[b[2] % sizeof(ops)], b[3], b[4], 0, 0, b[5], b[6], 0, b[7],
                        (uint8_t)(b[6] * 8),     0,    0 };
    out(h, base + 6, (b[1] & 1) != 0 ? 0xa0 : 0xb0);
    out(h, base + 1, b[1] >> 1 & 1);
    out(h, base + 4, b[7]);
    out(h, base + 5, b[1] >> 2);
    out(h, base + 7, 0xa0);
    bus_write_rep(h->board.bus, BUS_PORT, base, 2, cdb, 6);
}

static void event(struct harness *h, const uint8_t b[8])
{
    static uint8_t data[8192];
    unsigned base = (b[1] & 1) != 0 ? 0x170 : 0x1f0;
    struct ide_drive_info info;
    switch (b[0] % 12) {
    case 0:
    case 1:
        command(h, b);
        break;
    case 2:
    case 3:
        packet(h, b);
        break;
    case 4:
        bus_read_rep(h->board.bus, BUS_PORT, base, 1u << b[2] % 3, data, b[3] * 8u);
        break;
    case 5:
        bus_write_rep(h->board.bus, BUS_PORT, base, 1u << b[2] % 3, data, b[3] * 8u);
        break;
    case 6: /* bus master */
        harness_out(h, (uint16_t)(BM + 8 * (b[1] & 1) + 4), 4, 0x1000u + (b[2] & 15) * 8u);
        out(h, BM + 8u * (b[1] & 1), b[3] & 9);
        break;
    case 7:
        block_fake_hold(media[b[1] % MEDIA], b[2] & 1);
        break;
    case 8:
        (void)block_fake_run(media[b[1] % MEDIA], b[2] % 4);
        break;
    case 9:
        if ((b[2] & 1) != 0) {
            (void)piix_ide_eject(ide, b[1], (b[2] & 2) != 0);
        } else {
            struct block *m = (b[2] & 2) != 0 ? media[4] : (b[1] & 3) == 1 ? media[2] : media[3];
            (void)piix_ide_set_medium(ide, b[1], (b[2] & 4) != 0 ? NULL : m);
        }
        break;
    case 10: /* an I/O error somewhere */
        block_fake_fail(media[b[1] % MEDIA], (enum block_op)(b[2] % 4), b[3] * 512u,
                        (b[4] & 1) != 0 ? -5 : 0);
        break;
    case 11:
        if (b[1] == 0xa5) {
            piix_ide_unplug(ide, b[2] & 1);
        } else if (b[1] == 0x5a) {
            board_reset(&h->board);
            harness_pci_write(h, DEVFN, 0x20, 4, BM);
            harness_pci_write(h, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
        } else if (piix_ide_info(ide, b[1], &info)) {
            (void)info.tray_open;
        }
        break;
    }
}

/* Nothing is held without a request, and nothing but the controller may touch a CD. */
static void check(struct harness *h)
{
    unsigned waiting = 0;
    for (unsigned i = 0; i < MEDIA; i++) {
        waiting += block_fake_waiting(media[i]);
    }
    if (h->plat.holds > waiting || memcmp(before, block_fake_data(media[2]), sizeof(before)) != 0) {
        abort();
    }
}

static void teardown(void)
{
    for (unsigned i = 0; i < MEDIA; i++) {
        block_close(media[i]);
        media[i] = NULL;
    }
}

static const struct fuzz_range ports[] = { { 0x1f0, 8 }, { 0x3f6, 1 }, { 0x170, 8 },
                                           { 0x376, 1 }, { BM, 16 },   { 0, 0 } };
static const uint8_t devfns[] = { DEVFN, 0xff };

FUZZ_DEVICE(.setup = setup, .ports = ports, .devfns = devfns, .event = event, .check = check,
            .teardown = teardown)
