/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AHCI with a disk and a CD drive: registers, command lists and descriptors in RAM, queued and plain
 * commands. Images are memory whose completions the input may hold back; the input also resets in
 * the middle, unplugs, and issues whole commands, since random bytes alone seldom make one.
 */
#include <stdlib.h>
#include <string.h>

#include "core/pci.h"
#include "hw/ahci.h"
#include "hw/ahci_int.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/block_fake.h"

enum {
    DEVFN = PCI_DEVFN(4, 0),
    ABAR = 0xf0000000,
    IDP = 0xc000,
    DISK_BYTES = 64 << 10,
    CD_BYTES = 36 * 512,
    MEDIA = 2,
    LIST = 0x1000, /* of port 0; port 1's is 64 KiB further */
    PORT_STEP = 0x10000,
    TABLE_STEP = 0x200,
};

static struct block *media[MEDIA];
static struct ahci *ahci;
static uint8_t before[16];

static void reg(struct harness *h, unsigned port, unsigned at, uint32_t v)
{
    harness_write(h, ABAR + AHCI_PORT_BASE + AHCI_PORT_BYTES * port + at, 4, v);
}

static void start(struct harness *h, unsigned port)
{
    reg(h, port, PX_CMD, 6);
    reg(h, port, PX_CLB, LIST + PORT_STEP * port);
    reg(h, port, PX_CLBU, 0);
    reg(h, port, PX_FB, LIST + 0x400 + PORT_STEP * port);
    reg(h, port, PX_FBU, 0);
    reg(h, port, PX_CMD, 6 | CMD_FRE);
    reg(h, port, PX_CMD, 6 | CMD_FRE | CMD_ST);
}

static void bring_up(struct harness *h)
{
    harness_pci_write(h, DEVFN, PCI_BAR0 + 20, 4, ABAR);
    harness_pci_write(h, DEVFN, PCI_BAR0 + 16, 4, IDP);
    harness_pci_write(h, DEVFN, PCI_COMMAND, 2, 7);
    harness_write(h, ABAR + AHCI_GHC, 4, GHC_AE | GHC_IE);
    start(h, 0);
    start(h, 1);
}

static void setup(struct harness *h)
{
    media[0] = block_fake_create(h->loop, DISK_BYTES, false);
    media[1] = block_fake_create(h->loop, CD_BYTES, true);
    const struct ide_drive_config drives[AHCI_PORTS] = {
        {.present = true, .medium = media[0], .index = 0, .id = "d0"},
        {.present = true, .cdrom = true, .medium = media[1], .index = 1, .id = "c1"},
    };
    if (ahci_create(&h->board, DEVFN, drives, &ahci) != 0) {
        abort();
    }
    memcpy(before, block_fake_data(media[1]), sizeof(before));
    bring_up(h);
    /* Descriptors that make sense to begin with. */
    for (unsigned t = 0; t < 64; t++) {
        uint8_t *prdt = h->plat.ram + LIST + 0x1000 + PORT_STEP * (t / 32) + TABLE_STEP * (t % 32);
        for (unsigned i = 8; i < 32; i++) {
            pci_set32(prdt + 16 * i, 0, 0x40000 + 0x1000 * i);
            pci_set32(prdt + 16 * i, 12, 0xfff);
        }
    }
}

/* Writes a header and a FIS; the descriptors stay what they are. */
static void command(struct harness *h, unsigned port, unsigned slot, const uint8_t fis[16],
                    unsigned descriptors)
{
    uint8_t *header = h->plat.ram + LIST + PORT_STEP * port + 32 * slot;
    uint32_t table = LIST + 0x1000 + PORT_STEP * port + TABLE_STEP * slot;
    memset(header, 0, 32);
    header[0] = 5;
    pci_set16(header, 2, (uint16_t)descriptors);
    pci_set32(header, 8, table);
    memcpy(h->plat.ram + table, fis, 16);
}

static void plain(struct harness *h, const uint8_t b[8])
{
    static const uint8_t ops[] = {0x00, 0x06, 0x08, 0x20, 0x24, 0x25, 0x29, 0x2f,
                                  0x30, 0x34, 0x35, 0x39, 0x90, 0xb0, 0xc4, 0xc5,
                                  0xc8, 0xca, 0xe0, 0xe7, 0xea, 0xec, 0xef, 0xa1};
    uint8_t op = (b[1] & 0x80) != 0 ? b[2] : ops[b[2] % sizeof(ops)];
    const uint8_t fis[16] = {0x27, 0x80, op, b[3], b[4], 0, 0, 0x40, 0, 0, 0, 0, b[5] & 63};
    unsigned port = b[1] & 1;
    command(h, port, b[6] % 32, fis, b[7] % 32);
    reg(h, port, PX_CI, 1u << b[6] % 32);
}

static void queued(struct harness *h, const uint8_t b[8])
{
    unsigned slot = b[2] % 32;
    const uint8_t fis[16] = {0x27,
                             0x80,
                             (uint8_t)(0x60 | (b[1] & 1)),
                             b[3] & 31,
                             b[4],
                             0,
                             0,
                             0x40,
                             0,
                             0,
                             0,
                             b[5] == 0xff,
                             (uint8_t)(((b[1] & 0x40) != 0 ? b[6] : slot) << 3)};
    command(h, 0, slot, fis, b[7] % 64);
    reg(h, 0, PX_SACT, 1u << slot);
    if ((b[1] & 0x20) == 0) {
        reg(h, 0, PX_CI, 1u << slot);
    }
}

static void packet(struct harness *h, const uint8_t b[8])
{
    static const uint8_t ops[] = {0x00, 0x03, 0x12, 0x1a, 0x1b, 0x25, 0x28, 0x42, 0x43,
                                  0x46, 0x4a, 0x51, 0x52, 0x5a, 0xa8, 0xad, 0xbe};
    const uint8_t cdb[12] = {ops[b[2] % sizeof(ops)], b[3], b[4], 0, 0, b[5], b[6], 0, b[7],
                             (uint8_t)(b[6] * 8),     0,    0};
    const uint8_t fis[16] = {0x27, 0x80, 0xa0, b[1] & 1, 0, b[7], b[1] >> 2, 0x40};
    unsigned slot = b[4] % 32;
    command(h, 1, slot, fis, b[6] % 32);
    memcpy(h->plat.ram + LIST + 0x1000 + PORT_STEP + TABLE_STEP * slot + 0x40, cdb, 12);
    reg(h, 1, PX_CI, 1u << slot);
}

/* What drivers do after an error in the queue. */
static void read_log(struct harness *h)
{
    static const uint8_t fis[16] = {0x27, 0x80, 0x2f, 0, 0x10, 0, 0, 0x40, [12] = 1};
    start(h, 0);
    loop_poll(h->loop, 0);
    command(h, 0, 0, fis, 8);
    reg(h, 0, PX_CI, 1);
}

static void event(struct harness *h, const uint8_t b[8])
{
    unsigned port = b[1] & 1;
    if ((b[0] & 0x40) != 0) {
        block_fake_hold(media[0], (b[0] & 0x20) != 0);
        block_fake_fail(media[0], (b[1] & 1) != 0 ? BLOCK_WRITE : BLOCK_READ, b[4] * 512u,
                        (b[1] & 0x10) != 0 ? -5 : 0);
    }
    switch (b[0] % 14) {
    case 0:
    case 1:
        plain(h, b);
        break;
    case 2:
    case 3:
    case 4:
        queued(h, b);
        break;
    case 5:
        packet(h, b);
        break;
    case 6: { /* a descriptor */
        uint8_t *e = h->plat.ram + LIST + 0x1000 + PORT_STEP * port + TABLE_STEP * (b[2] % 32u) +
                     0x80 + 16 * (b[3] % 24u);
        static const uint32_t places[] = {0x40000, 0x9fff0, 0xfffff0, ABAR, 0xfffffffe, LIST};
        pci_set32(e, 0, places[b[4] % 6] + b[7]);
        pci_set32(e, 4, b[5] == 0xff ? ~0u : 0);
        pci_set32(e, 12, (uint32_t)b[6] << (b[5] & 24) | b[5]);
        break;
    }
    case 7:
        block_fake_hold(media[port], b[2] & 1);
        break;
    case 8:
        (void)block_fake_run(media[port], b[2] % 8);
        break;
    case 9: /* an I/O error somewhere */
        block_fake_fail(media[port], (enum block_op)(b[2] % 4), b[3] * 512u,
                        (b[4] & 1) != 0 ? -5 : 0);
        break;
    case 10: /* as drivers recover */
        if ((b[2] & 3) == 0) {
            reg(h, port, PX_SCTL, 0x301);
            reg(h, port, PX_SCTL, 0x300);
        } else if (b[2] == 0x55) {
            harness_write(h, ABAR + AHCI_GHC, 4, GHC_AE | GHC_HR);
        }
        start(h, port);
        break;
    case 11: { /* software reset */
        const uint8_t fis[16] = {0x27, 0, 0, [15] = b[2] & 4};
        command(h, port, b[3] % 32u, fis, 0);
        reg(h, port, PX_CI, 1u << b[3] % 32);
        break;
    }
    case 12:
        if (b[1] == 0xa5) {
            ahci_unplug(ahci, b[2] & 1);
        } else if (b[1] == 0x5a) {
            board_reset(&h->board);
            bring_up(h);
        }
        break;
    case 13:
        read_log(h);
        break;
    }
    if ((b[0] & 0x80) != 0) {
        loop_poll(h->loop, 0);
    }
}

/* Nothing is held without a request, and the CD is never written. */
static void check(struct harness *h)
{
    unsigned waiting = block_fake_waiting(media[0]) + block_fake_waiting(media[1]);
    if (h->plat.holds > waiting || memcmp(before, block_fake_data(media[1]), sizeof(before)) != 0) {
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

static const struct fuzz_range mmio[] = {
    {ABAR, 0x10}, {ABAR + 0x100, 0x40}, {ABAR + 0x180, 0x40}, {ABAR, 0x1000}, {0, 0}};
static const struct fuzz_range ports[] = {{IDP + 0x10, 8}, {0, 0}};
static const uint8_t devfns[] = {DEVFN, 0xff};

FUZZ_DEVICE(.setup = setup, .ports = ports, .mmio = mmio, .devfns = devfns, .event = event,
            .check = check, .teardown = teardown)
