/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/pci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

enum {
    PCI_STATUS_INTX = 0x08, /* low byte of STATUS, bit 3 */
    PCI_BAR_IO_SPACE = 1,
    PCI_BAR_64BIT = 4,
    PCI_BAR_PREFETCH = 8,
    PCI_ROM_ENABLE = 1,
    PCI_ROM_MIN = 2048,
};
/* MSI capability with a 64-bit address, PCI 3.0, 6.8.1. */
enum {
    MSI_CONTROL = 2,
    MSI_ENABLE = 1,
    MSI_64BIT = 0x80,
    MSI_ADDRESS = 4,
    MSI_ADDRESS_HIGH = 8,
    MSI_DATA = 12,
    MSI_BYTES = 14,
};
#define NOWHERE UINT64_MAX
enum { BAR_HIGH_END = 1 << 16 }; /* addresses have 48 bits */

struct pci_bus {
    struct pci_device *fn[256];
};

struct pci_bus *pci_bus_create(void)
{
    return calloc(1, sizeof(struct pci_bus));
}

void pci_bus_destroy(struct pci_bus *bus)
{
    free(bus);
}

struct pci_device *pci_find(struct pci_bus *bus, uint8_t devfn)
{
    return bus->fn[devfn];
}

bool pci_slot_taken(struct pci_bus *bus, unsigned slot)
{
    bool taken = false;

    for (unsigned fn = 0; fn < 8; fn++) {
        taken |= bus->fn[PCI_DEVFN(slot, fn)] != NULL;
    }
    return taken;
}

int pci_free_slot(struct pci_bus *bus, unsigned first)
{
    for (unsigned slot = first; slot < 32; slot++) {
        if (!pci_slot_taken(bus, slot)) {
            return (int)slot;
        }
    }
    return -ENOSPC;
}

/* ---- expansion ROM ---- */

static uint64_t rom_read(void *dev, uint64_t offset, unsigned size)
{
    const struct pci_device *pd = dev;
    uint64_t v = 0;

    if (offset < pd->rom_len) {
        size_t n = pd->rom_len - offset;

        memcpy(&v, pd->rom + offset, n < size ? n : size);
    }
    return v;
}

static void rom_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    (void)dev, (void)offset, (void)size, (void)value;
}

/* SeaBIOS copies the ROM with REP MOVSL, 2 KiB a request: one memcpy each. */
static unsigned rom_read_rep(void *dev, uint64_t offset, unsigned size, void *buf, unsigned count)
{
    const struct pci_device *pd = dev;
    size_t len = (size_t)size * count;
    size_t have = offset < pd->rom_len ? pd->rom_len - offset : 0;

    have = have < len ? have : len;
    if (have > 0) {
        memcpy(buf, pd->rom + offset, have);
    }
    memset((uint8_t *)buf + have, 0, len - have);
    return count;
}

static const struct io_ops rom_ops = {
    .read = rom_read, .write = rom_write, .read_rep = rom_read_rep, .max_size = 8};

/* ---- BARs ---- */

static unsigned bar_reg(unsigned n)
{
    return n == PCI_ROM_BAR ? PCI_ROM_ADDRESS : PCI_BAR0 + n * 4;
}

/* Where BAR n decodes according to the config space; NOWHERE if it does not. */
static uint64_t bar_address(const struct pci_device *pd, unsigned n)
{
    const struct pci_bar *bar = &pd->bars[n];
    bool io = bar->kind == PCI_BAR_IO;
    uint32_t raw = pci_get32(pd->config, bar_reg(n));
    uint64_t high = bar->kind == PCI_BAR_MEM64 ? pci_get32(pd->config, bar_reg(n) + 4) : 0;
    uint64_t addr = high << 32 | (raw & ~(bar->size - 1));
    uint64_t last = addr + bar->size - 1;

    if (!(pd->config[PCI_COMMAND] & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) ||
        (n == PCI_ROM_BAR && !(raw & PCI_ROM_ENABLE))) {
        return NOWHERE;
    }
    /* 0 and the all-ones of a size probe are not addresses. */
    if (addr == 0 || (io ? last > 0xffff : high == 0 && last >= UINT32_MAX) ||
        high >= BAR_HIGH_END) {
        return NOWHERE;
    }
    return addr;
}

/* Moving video memory costs a hypercall per page and drops all our mappings of the guest, and
 * firmware and systems switch decoding off and on around every probe of a BAR. So the memory stays
 * where it was until it is to appear elsewhere or another BAR comes there. */
static int vram_move(struct pci_bar *bar, uint64_t addr)
{
    int ret;

    if (bar->vram_addr == addr) {
        return 0;
    }
    ret = vram_place(bar->vram, addr);
    if (ret == 0) {
        bar->vram_addr = addr;
    }
    return ret;
}

/* Takes video memory that stayed behind out of [addr, addr + size). */
static void evict_vram(struct pci_bus *bus, uint64_t addr, uint64_t size)
{
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        struct pci_device *pd = bus->fn[devfn];

        for (unsigned n = 0; pd != NULL && n < PCI_REGIONS; n++) {
            struct pci_bar *bar = &pd->bars[n];

            if (bar->vram != NULL && bar->addr == NOWHERE && bar->vram_addr != NOWHERE &&
                addr < bar->vram_addr + vram_size(bar->vram) && bar->vram_addr < addr + size) {
                vram_move(bar, NOWHERE);
            }
        }
    }
}

static void bar_unmap(struct pci_device *pd, unsigned n)
{
    struct pci_bar *bar = &pd->bars[n];

    if (bar->addr == NOWHERE) {
        return;
    }
    bus_remove(pd->board->bus, bar->region);
    bar->region = 0;
    bar->addr = NOWHERE;
    if (pd->ops->bar_moved != NULL) {
        pd->ops->bar_moved(pd->dev, n, NOWHERE);
    }
}

static void bar_map(struct pci_device *pd, unsigned n, uint64_t addr)
{
    struct pci_bar *bar = &pd->bars[n];
    static struct log_limit limit;

    if (bar->ops != NULL) {
        int id = bus_add(pd->board->bus, bar->kind == PCI_BAR_IO ? BUS_PORT : BUS_MMIO, addr,
                         bar->size, bar->ops, n == PCI_ROM_BAR ? pd : pd->dev, pd->ops->base.name);

        if (id < 0) {
            /* Only a guest that programs overlapping BARs gets here; the first owner keeps the
             * addresses. */
            log_limited(&limit, "%s: BAR %u at %#llx is not usable (%s), left unmapped",
                        pd->ops->base.name, n, (unsigned long long)addr, strerror(-id));
            return;
        }
        bar->region = id;
    }
    bar->addr = addr;
    if (bar->kind != PCI_BAR_IO) {
        evict_vram(pd->board->pci, addr, bar->size);
    }
    if (bar->vram != NULL && !bar->trap) {
        int ret = vram_move(bar, addr);

        if (ret != 0) {
            log_limited(&limit, "%s: video memory cannot be placed at %#llx (%s)",
                        pd->ops->base.name, (unsigned long long)addr, strerror(-ret));
        }
    }
    if (pd->ops->bar_moved != NULL) {
        pd->ops->bar_moved(pd->dev, n, addr);
    }
}

/* Where BAR n is to decode. */
static uint64_t bar_wanted(const struct pci_device *pd, unsigned n)
{
    return pd->bars[n].kind == PCI_BAR_NONE || !pd->present ? NOWHERE : bar_address(pd, n);
}

static void map_bars(struct pci_device *pd)
{
    for (unsigned n = 0; n < PCI_REGIONS; n++) {
        uint64_t want = bar_wanted(pd, n);

        if (want != NOWHERE && pd->bars[n].addr == NOWHERE) {
            bar_map(pd, n, want);
        }
    }
}

static void update_bars(struct pci_device *pd)
{
    bool left = false;

    /* All moves out before all moves in: BARs may swap places. */
    for (unsigned n = 0; n < PCI_REGIONS; n++) {
        if (bar_wanted(pd, n) != pd->bars[n].addr) {
            left |= pd->bars[n].addr != NOWHERE;
            bar_unmap(pd, n);
        }
    }
    map_bars(pd);
    /* A BAR whose place was taken gets it now: a system that moves BARs about may do so in any
     * order. */
    for (unsigned devfn = 0; left && devfn < 256; devfn++) {
        struct pci_device *other = pd->board->pci->fn[devfn];

        if (other != NULL && other != pd) {
            map_bars(other);
        }
    }
}

void pci_vram_trap(struct pci_device *pd, unsigned n, bool trap)
{
    struct pci_bar *bar = &pd->bars[n];

    if (bar->trap == trap) {
        return;
    }
    bar->trap = trap;
    if (bar->addr != NOWHERE) {
        vram_move(bar, trap ? VRAM_UNPLACED : bar->addr);
    }
}

/* ---- interrupt ---- */

static void intx_set(void *opaque, unsigned n, bool level)
{
    struct pci_device *pd = opaque;

    platform_pci_intx(pd->board->plat, pd->devfn >> 3, n, level);
}

static bool msi_enabled(const struct pci_device *pd)
{
    return pd->msi != 0 && (pd->config[pd->msi + MSI_CONTROL] & MSI_ENABLE) != 0;
}

void pci_msi_again(struct pci_device *pd)
{
    const uint8_t *cap = pd->config + pd->msi;

    if (pd->intx_level && pd->present && msi_enabled(pd) && pci_master(pd)) {
        platform_msi(pd->board->plat,
                     (uint64_t)pci_get32(cap, MSI_ADDRESS_HIGH) << 32 | pci_get32(cap, MSI_ADDRESS),
                     pci_get16(cap, MSI_DATA));
    }
}

static void update_intx(struct pci_device *pd)
{
    bool disabled =
        (pci_get16(pd->config, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE) != 0 || msi_enabled(pd);

    if (pd->config[PCI_INTERRUPT_PIN] != 0) {
        irq_set(&pd->intx, pd->intx_level && !disabled && pd->present);
    }
}

void pci_set_intx(struct pci_device *pd, bool level)
{
    if (pd->intx_level == level) {
        return;
    }
    pd->intx_level = level;
    pd->config[PCI_STATUS] =
        (uint8_t)((pd->config[PCI_STATUS] & ~PCI_STATUS_INTX) | (level ? PCI_STATUS_INTX : 0));
    update_intx(pd);
    pci_msi_again(pd);
}

/* ---- life ---- */

void pci_init(struct pci_device *pd, struct board *b, const struct pci_device_ops *ops, void *dev,
              uint8_t devfn, const struct pci_config_id *id)
{
    memset(pd, 0, sizeof(*pd));
    pd->board = b;
    pd->ops = ops;
    pd->dev = dev;
    pd->devfn = devfn;
    for (unsigned n = 0; n < PCI_REGIONS; n++) {
        pd->bars[n].addr = pd->bars[n].vram_addr = NOWHERE;
    }
    pci_set16(pd->config, PCI_VENDOR_ID, id->vendor);
    pci_set16(pd->config, PCI_DEVICE_ID, id->device);
    pci_set16(pd->config, PCI_CLASS_DEVICE, id->class_device);
    pci_set16(pd->config, PCI_SUBSYSTEM_VENDOR_ID, id->subsystem_vendor);
    pci_set16(pd->config, PCI_SUBSYSTEM_ID, id->subsystem);
    pci_set16(pd->config, PCI_COMMAND, id->command_reset);
    pd->config[PCI_PROG_IF] = id->prog_if;
    pd->config[PCI_REVISION_ID] = id->revision;
    pd->config[PCI_INTERRUPT_PIN] = id->interrupt_pin;
    pd->config[PCI_HEADER_TYPE] = id->multifunction ? PCI_HEADER_MULTIFUNCTION : 0;
    pd->intx = (struct irq_line){.set = intx_set, .opaque = pd, .n = (id->interrupt_pin - 1) & 3};
    /* I/O, memory, master, SERR and INTx disable can be written, as on the peer's boards. */
    pci_set16(pd->wmask, PCI_COMMAND, 0x0507);
    pci_set16(pd->w1cmask, PCI_STATUS, 0xf900);
    pd->wmask[PCI_CACHE_LINE_SIZE] = 0xff;
    pd->wmask[PCI_INTERRUPT_LINE] = 0xff;
    memset(pd->wmask + 0x40, 0xff, sizeof(pd->wmask) - 0x40);
}

void pci_add_bar(struct pci_device *pd, unsigned n, enum pci_bar_kind kind, uint64_t size,
                 const struct io_ops *ops)
{
    struct pci_bar *bar = &pd->bars[n];
    unsigned reg = bar_reg(n);

    bar->kind = kind;
    bar->size = size;
    bar->ops = ops;
    pci_set32(pd->wmask, reg, (uint32_t) ~(size - 1) | (n == PCI_ROM_BAR ? PCI_ROM_ENABLE : 0));
    pd->config[reg] = (uint8_t)(kind == PCI_BAR_IO             ? PCI_BAR_IO_SPACE
                                : kind == PCI_BAR_MEM_PREFETCH ? PCI_BAR_PREFETCH
                                : kind == PCI_BAR_MEM64        ? PCI_BAR_64BIT
                                                               : 0);
    if (kind == PCI_BAR_MEM64) {
        pci_set32(pd->wmask, reg + 4, UINT32_MAX);
    }
}

void pci_add_vram_bar(struct pci_device *pd, unsigned n, uint64_t bar_size, struct vram *vram,
                      const struct io_ops *ops)
{
    pci_add_bar(pd, n, PCI_BAR_MEM_PREFETCH, bar_size, ops);
    pd->bars[n].vram = vram;
}

void pci_set_rom(struct pci_device *pd, const uint8_t *rom, size_t len)
{
    uint64_t size = PCI_ROM_MIN;

    while (size < len) {
        size *= 2;
    }
    pd->rom = rom;
    pd->rom_len = len;
    pci_add_bar(pd, PCI_ROM_BAR, PCI_BAR_MEM, size, &rom_ops);
}

void pci_add_capability(struct pci_device *pd, uint8_t at, uint8_t id, unsigned len)
{
    memset(pd->wmask + at, 0, len);
    memset(pd->config + at, 0, len);
    pd->config[at] = id;
    pd->config[at + 1] = pd->config[PCI_CAPABILITY_LIST];
    pd->config[PCI_CAPABILITY_LIST] = at;
    pd->config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    for (unsigned i = at; i < at + len; i++) {
        pd->caps[i / 64] |= UINT64_C(1) << i % 64;
    }
}

void pci_add_msi(struct pci_device *pd, uint8_t at)
{
    pci_add_capability(pd, at, PCI_CAP_MSI, MSI_BYTES);
    pci_set16(pd->config, at + MSI_CONTROL, MSI_64BIT);
    pci_set16(pd->wmask, at + MSI_CONTROL, MSI_ENABLE);
    pci_set32(pd->wmask, at + MSI_ADDRESS, ~3u);
    pci_set32(pd->wmask, at + MSI_ADDRESS_HIGH, ~0u);
    pci_set16(pd->wmask, at + MSI_DATA, 0xffff);
    pd->msi = at;
}

static void config_changed(struct pci_device *pd, unsigned reg, unsigned size)
{
    if (pd->ops->config_written != NULL) {
        pd->ops->config_written(pd->dev, reg, size);
    }
}

static void pci_function_reset(void *dev)
{
    struct pci_device *pd = dev;

    pd->intx_level = false;
    memcpy(pd->config, pd->reset_config, sizeof(pd->config));
    update_intx(pd);
    update_bars(pd);
    config_changed(pd, 0, sizeof(pd->config));
}

static int pci_function_state(void *dev, struct save_stream *s)
{
    struct pci_device *pd = dev;
    uint8_t config[256];
    bool level = pd->intx_level;
    bool present = pd->present;

    memcpy(config, pd->config, sizeof(config));
    save_bytes(s, config, sizeof(config));
    save_bool(s, &level);
    save_bool(s, &present);
    if (!s->loading) {
        return s->error;
    }
    if (s->error != 0 || memcmp(config, pd->config, 4) != 0 ||
        memcmp(config + PCI_CLASS_DEVICE, pd->config + PCI_CLASS_DEVICE, 2) != 0) {
        return -EINVAL;
    }
    /* The fixed bits of header and capabilities stay ours; device-specific registers (0x40 up) are
     * for the device's own load to check. */
    for (unsigned i = 0; i < sizeof(config); i++) {
        bool checked = i < 0x40 || (pd->caps[i / 64] >> i % 64 & 1) != 0;
        uint8_t take = checked ? (uint8_t)(pd->wmask[i] | pd->w1cmask[i]) : 0xff;

        pd->config[i] = (uint8_t)((pd->config[i] & ~take) | (config[i] & take));
    }
    if (!present && pd->present) {
        pci_unplug(pd);
    }
    /* A message that was due has been sent before the save. */
    pd->intx_level = level;
    pd->config[PCI_STATUS] =
        (uint8_t)((pd->config[PCI_STATUS] & ~PCI_STATUS_INTX) | (level ? PCI_STATUS_INTX : 0));
    update_intx(pd);
    update_bars(pd);
    config_changed(pd, 0, sizeof(pd->config));
    return 0;
}

/* Runs before the device's own destroy: entries go in reverse order and this one is added second.
 * */
static void pci_function_destroy(void *dev)
{
    pci_unplug(dev);
}

static const struct device_ops pci_function_ops = {
    .name = "pci-function",
    .version = 1,
    .reset = pci_function_reset,
    .state = pci_function_state,
    .destroy = pci_function_destroy,
};

int pci_finish(struct pci_device *pd)
{
    struct board *b = pd->board;
    int ret;

    if (b->pci->fn[pd->devfn] != NULL) {
        return -EEXIST;
    }
    ret = platform_map_pci(b->plat, pd->devfn);
    if (ret != 0) {
        return ret;
    }
    memcpy(pd->reset_config, pd->config, sizeof(pd->config));
    b->pci->fn[pd->devfn] = pd;
    pd->present = true;
    ret = board_add_pair(b, &pd->ops->base, pd->dev, &pci_function_ops, pd);
    if (ret != 0) {
        pci_unplug(pd);
    }
    return ret;
}

void pci_unplug(struct pci_device *pd)
{
    if (!pd->present) {
        return;
    }
    pd->present = false;
    update_intx(pd);
    update_bars(pd);
    pd->board->pci->fn[pd->devfn] = NULL;
    platform_unmap_pci(pd->board->plat, pd->devfn);
}

/* ---- configuration accesses ---- */

uint32_t pci_config_read(struct pci_bus *bus, uint8_t devfn, unsigned reg, unsigned size)
{
    const struct pci_device *pd = bus->fn[devfn];
    uint32_t v = 0;

    for (unsigned i = 0; i < size; i++) {
        uint32_t byte = pd != NULL && reg + i < 256 ? pd->config[reg + i] : 0xff;

        v |= byte << (8 * i);
    }
    return v;
}

void pci_config_write(struct pci_bus *bus, uint8_t devfn, unsigned reg, unsigned size,
                      uint32_t value)
{
    struct pci_device *pd = bus->fn[devfn];

    if (pd == NULL || reg > 255) {
        return;
    }
    if (size > 256 - reg) {
        size = 256 - reg;
    }
    for (unsigned i = 0; i < size; i++) {
        uint8_t v = (uint8_t)(value >> (8 * i));
        uint8_t *c = &pd->config[reg + i];
        uint8_t wmask = pd->wmask[reg + i];

        *c = (uint8_t)(((*c & ~wmask) | (v & wmask)) & ~(v & pd->w1cmask[reg + i]));
    }
    if (reg < PCI_CACHE_LINE_SIZE && reg + size > PCI_COMMAND) {
        update_intx(pd);
        update_bars(pd);
    } else if (pd->msi != 0 && reg < pd->msi + (unsigned)MSI_ADDRESS &&
               reg + size > pd->msi + (unsigned)MSI_CONTROL) {
        update_intx(pd);
    } else if (reg + size > PCI_BAR0 && reg < PCI_CAPABILITY_LIST) {
        update_bars(pd);
    }
    config_changed(pd, reg, size);
}
