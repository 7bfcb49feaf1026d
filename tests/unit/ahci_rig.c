/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/ahci_rig.h"

#include <stdlib.h>
#include <string.h>

struct arig *arig_create(uint64_t disk_sectors)
{
    struct arig *r = calloc(1, sizeof(*r));
    struct ide_drive_config drives[AHCI_PORTS] = {{.present = false}};
    if (r == NULL) {
        abort();
    }
    r->h = harness_create();
    r->disk_sectors = disk_sectors;
    r->disk = block_fake_create(r->h->loop, disk_sectors * 512, false);
    r->cd = block_fake_create(r->h->loop, (uint64_t)A_CD_SECTORS * 2048, true);
    drives[0] = (struct ide_drive_config){
        .present = true, .medium = r->disk, .index = 0, .id = "ahcidisk-0"};
    drives[1] = (struct ide_drive_config){
        .present = true, .cdrom = true, .readonly = true, .medium = r->cd, .index = 1, .id = "cd1"};
    if (ahci_create(&r->h->board, A_DEVFN, drives, &r->ahci) != 0) {
        abort();
    }
    harness_pci_write(r->h, A_DEVFN, PCI_BAR0 + 20, 4, A_ABAR);
    harness_pci_write(r->h, A_DEVFN, PCI_BAR0 + 16, 4, A_IDP);
    harness_pci_write(r->h, A_DEVFN, PCI_COMMAND, 2, 7);
    aput(r, AHCI_GHC, GHC_AE | GHC_IE);
    port_start(r, 0);
    port_start(r, 1);
    return r;
}

void arig_destroy(struct arig *r)
{
    harness_destroy(r->h); /* devices before media */
    block_close(r->disk);
    block_close(r->cd);
    free(r);
}

uint32_t aget(struct arig *r, unsigned reg)
{
    return (uint32_t)harness_read(r->h, A_ABAR + reg, 4);
}

void aput(struct arig *r, unsigned reg, uint32_t v)
{
    harness_write(r->h, A_ABAR + reg, 4, v);
}

uint32_t pget(struct arig *r, unsigned port, unsigned reg)
{
    return aget(r, AHCI_PORT_BASE + AHCI_PORT_BYTES * port + reg);
}

void pput(struct arig *r, unsigned port, unsigned reg, uint32_t v)
{
    aput(r, AHCI_PORT_BASE + AHCI_PORT_BYTES * port + reg, v);
}

static uint32_t memory_of(unsigned port)
{
    return A_PORT + A_PORT_BYTES * port;
}

void port_start(struct arig *r, unsigned port)
{
    pput(r, port, PX_CLB, memory_of(port));
    pput(r, port, PX_CLBU, 0);
    pput(r, port, PX_FB, memory_of(port) + 0x400);
    pput(r, port, PX_FBU, 0);
    pput(r, port, PX_CMD, CMD_SUD | CMD_POD | CMD_FRE);
    settle(r);
    pput(r, port, PX_SERR, ~0u);
    pput(r, port, PX_IS, ~0u);
    pput(r, port, PX_CMD, CMD_SUD | CMD_POD | CMD_FRE | CMD_ST);
}

void port_restart(struct arig *r, unsigned port)
{
    pput(r, port, PX_CMD, CMD_SUD | CMD_POD | CMD_FRE);
    settle(r);
    pput(r, port, PX_IS, ~0u);
    aput(r, AHCI_IS, ~0u);
    pput(r, port, PX_CMD, CMD_SUD | CMD_POD | CMD_FRE | CMD_ST);
}

static uint8_t *header_of(struct arig *r, unsigned port, unsigned slot)
{
    return r->h->plat.ram + memory_of(port) + 32 * slot;
}

uint8_t *table_of(struct arig *r, unsigned port, unsigned slot)
{
    return r->h->plat.ram + memory_of(port) + 0x1000 + A_TABLE_BYTES * slot;
}

uint8_t *fis_of(struct arig *r, unsigned port, unsigned offset)
{
    return r->h->plat.ram + memory_of(port) + 0x400 + offset;
}

uint32_t prdbc_of(struct arig *r, unsigned port, unsigned slot)
{
    return pci_get32(header_of(r, port, slot), 4);
}

void put_command(struct arig *r, unsigned port, unsigned slot, uint8_t command, uint64_t lba,
                 unsigned count, unsigned features, const struct prd *prd, unsigned n)
{
    uint8_t *h = header_of(r, port, slot), *t = table_of(r, port, slot);
    memset(h, 0, 32);
    memset(t, 0, 0x80);
    h[0] = 5;
    pci_set16(h, 2, (uint16_t)n);
    pci_set32(h, 8, (uint32_t)(t - r->h->plat.ram));
    t[0] = 0x27;
    t[1] = 0x80;
    t[2] = command;
    t[3] = (uint8_t)features;
    t[7] = ATA_LBA;
    t[11] = (uint8_t)(features >> 8);
    t[12] = (uint8_t)count;
    t[13] = (uint8_t)(count >> 8);
    for (unsigned i = 0; i < 3; i++) {
        t[4 + i] = (uint8_t)(lba >> 8 * i);
        t[8 + i] = (uint8_t)(lba >> (24 + 8 * i));
    }
    for (unsigned i = 0; i < n; i++) {
        uint8_t *e = t + 0x80 + 16 * i;
        pci_set32(e, 0, (uint32_t)prd[i].addr);
        pci_set32(e, 4, (uint32_t)(prd[i].addr >> 32));
        pci_set32(e, 8, 0);
        pci_set32(e, 12, prd[i].len - 1);
    }
}

void put_queued(struct arig *r, unsigned slot, bool write, uint64_t lba, unsigned sectors,
                const struct prd *prd, unsigned n)
{
    const struct prd own = {A_DATA + 65536 * slot, sectors * 512};
    put_command(r, 0, slot, write ? A_WRITE_Q : A_READ_Q, lba, slot << 3, sectors & 0xffff,
                prd != NULL ? prd : &own, prd != NULL ? n : 1);
}

void put_cdb(struct arig *r, unsigned port, unsigned slot, const uint8_t cdb[12])
{
    memcpy(table_of(r, port, slot) + 0x40, cdb, 12);
    header_of(r, port, slot)[0] |= 0x20;
}

void settle(struct arig *r)
{
    for (unsigned i = 0; i < 400; i++) {
        loop_poll(r->h->loop, 0);
        if (!loop_work_waits(r->h->loop)) {
            break;
        }
    }
}

uint32_t go(struct arig *r, unsigned port, uint32_t ci)
{
    pput(r, port, PX_IS, ~0u);
    pput(r, port, PX_CI, ci);
    settle(r);
    return pget(r, port, PX_IS);
}

uint32_t go_queued(struct arig *r, uint32_t mask)
{
    pput(r, 0, PX_SACT, mask);
    return go(r, 0, mask);
}
