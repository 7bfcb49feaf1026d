/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/ide_rig.h"

#include <stdlib.h>
#include <string.h>

#include "core/pci.h"

static struct rig *finish(struct rig *r, const struct ide_drive_config drives[IDE_DRIVES])
{
    if (piix_ide_create(&r->h->board, RIG_DEVFN, drives, &r->ide) != 0) {
        abort();
    }
    harness_pci_write(r->h, RIG_DEVFN, PCI_BAR0 + 16, 4, BM_BASE);
    harness_pci_write(r->h, RIG_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    return r;
}

static struct rig *start(void)
{
    struct rig *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        abort();
    }
    r->h = harness_create();
    return r;
}

struct rig *rig_create_with(const struct ide_drive_config drives[IDE_DRIVES])
{
    return finish(start(), drives);
}

static struct rig *create(uint64_t disk_bytes, uint64_t cd_bytes)
{
    struct rig *r = start();
    r->disk = block_fake_create(r->h->loop, disk_bytes, false);
    r->cd = block_fake_create(r->h->loop, cd_bytes, true);
    const struct ide_drive_config drives[IDE_DRIVES] = {
        { .present = true, .medium = r->disk, .index = 0, .id = "disk0" },
        { .present = false },
        { .present = true,
          .cdrom = true,
          .readonly = true,
          .medium = r->cd,
          .index = 2,
          .id = "ide-5632" },
        { .present = false },
    };
    return finish(r, drives);
}

struct rig *rig_create(void)
{
    return create((uint64_t)RIG_DISK_SECTORS * 512, (uint64_t)RIG_CD_SECTORS * 2048);
}

struct rig *rig_create_small(void)
{
    return create(RIG_SMALL_SECTORS * 512, RIG_SMALL_SECTORS * 512);
}

void rig_destroy(struct rig *r)
{
    harness_destroy(r->h); /* devices before media; the fake images need no loop */
    block_close(r->disk);
    block_close(r->cd);
    free(r);
}

uint8_t in8(struct rig *r, unsigned port)
{
    return (uint8_t)harness_in(r->h, (uint16_t)port, 1);
}

void out8(struct rig *r, unsigned port, unsigned v)
{
    harness_out(r->h, (uint16_t)port, 1, v);
}

uint8_t rig_wait(struct rig *r, uint16_t base)
{
    uint16_t control = base == PRIMARY ? PRIMARY_CONTROL : SECONDARY_CONTROL;
    for (int i = 0; i < 2000 && (in8(r, control) & ATA_BSY) != 0; i++) {
        harness_step(r->h, 1000);
    }
    return in8(r, control);
}

void ata28(struct rig *r, uint16_t base, uint8_t cmd, uint32_t lba, unsigned count)
{
    out8(r, base + 6u, 0xe0 | (lba >> 24 & 0x0f));
    out8(r, base + 1u, 0);
    out8(r, base + 2u, count & 0xff);
    out8(r, base + 3u, lba & 0xff);
    out8(r, base + 4u, lba >> 8 & 0xff);
    out8(r, base + 5u, lba >> 16 & 0xff);
    out8(r, base + 7u, cmd);
}

void ata48(struct rig *r, uint16_t base, uint8_t cmd, uint64_t lba, unsigned count)
{
    out8(r, base + 6u, 0xe0);
    out8(r, base + 2u, count >> 8 & 0xff);
    out8(r, base + 2u, count & 0xff);
    for (unsigned i = 0; i < 3; i++) {
        out8(r, base + 3u + i, lba >> (24 + 8 * i) & 0xff);
        out8(r, base + 3u + i, lba >> 8 * i & 0xff);
    }
    out8(r, base + 7u, cmd);
}

void pio_in(struct rig *r, uint16_t base, void *buf, unsigned len)
{
    bus_read_rep(r->h->board.bus, BUS_PORT, base, 2, buf, len / 2);
}

void pio_out(struct rig *r, uint16_t base, const void *buf, unsigned len)
{
    bus_write_rep(r->h->board.bus, BUS_PORT, base, 2, buf, len / 2);
}

void packet(struct rig *r, uint16_t base, const uint8_t cdb[12], unsigned limit, uint8_t feature)
{
    out8(r, base + 1u, feature);
    out8(r, base + 4u, limit & 0xff);
    out8(r, base + 5u, limit >> 8);
    out8(r, base + 7u, 0xa0);
    pio_out(r, base, cdb, 12);
}

int packet_in(struct rig *r, const uint8_t cdb[12], unsigned limit, void *buf, unsigned len)
{
    uint8_t *p = buf;
    unsigned got = 0;
    packet(r, SECONDARY, cdb, limit, 0);
    for (;;) {
        uint8_t status = rig_wait(r, SECONDARY);
        if ((status & ATA_DRQ) == 0) {
            return (status & ATA_ERR) != 0 ? -1 : (int)got;
        }
        unsigned n = (unsigned)(in8(r, SECONDARY + 4) | in8(r, SECONDARY + 5) << 8);
        uint8_t block[65536];
        if (n == 0 || in8(r, SECONDARY + 2) != ATA_REASON_IO) {
            abort();
        }
        pio_in(r, SECONDARY, block, (n + 1) & ~1u);
        for (unsigned i = 0; i < n && got + i < len; i++) {
            p[got + i] = block[i];
        }
        got += n;
    }
}

unsigned sense(struct rig *r)
{
    static const uint8_t cdb[12] = { 0x03, 0, 0, 0, 18 };
    uint8_t b[18] = { 0 };
    if (packet_in(r, cdb, 0xfffe, b, sizeof(b)) != 18) {
        abort();
    }
    return (unsigned)(b[2] << 16 | b[12] << 8 | b[13]);
}

void prd(struct rig *r, uint32_t gpa, uint32_t addr, uint32_t len, bool last)
{
    uint8_t *p = r->h->plat.ram + gpa;
    pci_set32(p, 0, addr);
    pci_set16(p, 4, (uint16_t)len);
    pci_set16(p, 6, last ? 0x8000 : 0);
}

void bm_start(struct rig *r, unsigned channel, uint32_t list, bool to_memory)
{
    harness_out(r->h, (uint16_t)(BM_BASE + 8 * channel + 4), 4, list);
    out8(r, BM_BASE + 8 * channel + 2, 0x66);
    out8(r, BM_BASE + 8 * channel, (to_memory ? 8u : 0) | 1);
}

void bm_stop(struct rig *r, unsigned channel)
{
    out8(r, BM_BASE + 8 * channel, 0);
}

uint8_t bm_status(struct rig *r, unsigned channel)
{
    return in8(r, BM_BASE + 8 * channel + 2);
}
