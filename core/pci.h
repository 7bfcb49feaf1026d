/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * PCI bus 0: configuration space, BARs, INTx. Configuration bytes are an array with a parallel
 * array of writable bits, so BAR sizing needs no special case. PCI Local Bus 2.1/3.0 chapter 6.
 *
 * Accesses arrive from Xen decoded (type PCI_CONFIG); the 0xcf8 latch itself is hw/i440fx.c's.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/board.h"

enum pci_reg {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION_ID = 0x08,
    PCI_PROG_IF = 0x09,
    PCI_CLASS_DEVICE = 0x0a,
    PCI_CACHE_LINE_SIZE = 0x0c,
    PCI_LATENCY_TIMER = 0x0d,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR_ID = 0x2c,
    PCI_SUBSYSTEM_ID = 0x2e,
    PCI_ROM_ADDRESS = 0x30,
    PCI_CAPABILITY_LIST = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
};
enum { PCI_STATUS_CAPABILITIES = 0x10, PCI_CAP_MSI = 0x05, PCI_CAP_SATA = 0x12 };
enum {
    PCI_COMMAND_IO = 1,
    PCI_COMMAND_MEMORY = 2,
    PCI_COMMAND_MASTER = 4,
    PCI_COMMAND_INTX_DISABLE = 0x400
};
enum { PCI_HEADER_MULTIFUNCTION = 0x80 };
enum { PCI_BARS = 6, PCI_ROM_BAR = 6, PCI_REGIONS = 7 };
#define PCI_DEVFN(slot, fn) ((uint8_t)(((slot) << 3) | (fn)))

/* PCI_BAR_MEM64 takes the next BAR's register, too. */
enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM, PCI_BAR_MEM_PREFETCH, PCI_BAR_MEM64 };

struct pci_device;

struct pci_device_ops {
    struct device_ops
        base; /* base.reset/state/destroy get `dev`; config space is reset and saved by pci.c itself */
    /* Optional. Called after a guest write to configuration bytes [reg, reg + size) under the write
     * masks, and with (0, 256) after a reset and a load, which come after the device's own reset
     * and state. */
    void (*config_written)(void *dev, unsigned reg, unsigned size);
    /* Optional. Called when BAR n starts (gpa/port address) or stops (UINT64_MAX) decoding. */
    void (*bar_moved)(void *dev, unsigned n, uint64_t addr);
};

struct pci_bar {
    enum pci_bar_kind kind;
    uint64_t size;            /* a power of two */
    const struct io_ops *ops; /* handlers, offsets relative to the BAR; NULL for RAM-backed */
    struct vram *vram; /* RAM-backed: placed at the BAR, never traps; may be smaller than size */
    bool trap;         /* vram is kept out of the BAR for now: accesses reach ops */
    uint64_t addr;     /* where it decodes now, UINT64_MAX: nowhere */
    uint64_t
        vram_addr; /* where the vram is; it stays behind when decoding stops, until something else needs the place */
    int region; /* bus region while ops decode, or 0 */
};

struct pci_config_id {
    uint16_t vendor, device, class_device; /* class_device: e.g. 0x0300 */
    uint16_t subsystem_vendor, subsystem;
    uint8_t prog_if, revision;
    uint8_t interrupt_pin;  /* 0 none, 1 = INTA.. */
    uint16_t command_reset; /* COMMAND after reset; 0 for most, 7 for bridges */
    bool multifunction;
};

/* Embedded in the device's struct. */
struct pci_device {
    struct board *board;
    const struct pci_device_ops *ops;
    void *dev;
    uint8_t config[256];
    uint8_t wmask[256];        /* bits a guest can write */
    uint8_t w1cmask[256];      /* bits cleared by writing 1 */
    uint8_t reset_config[256]; /* what reset puts back; pci_finish() records it */
    struct pci_bar bars[PCI_REGIONS];
    struct irq_line intx;
    bool intx_level;  /* what the device wants; the line also obeys COMMAND bit 10 */
    uint8_t msi;      /* offset of the MSI capability, 0: none */
    uint64_t caps[4]; /* bytes of capabilities, one bit each */
    uint8_t devfn;
    bool present;
    const uint8_t *rom;
    size_t rom_len;
};

/*
 * Life of a PCI device:
 *   pci_init(pd, b, &ops, dev, devfn, &id);      fills config space and default masks (COMMAND,
 * CACHE_LINE, LATENCY, INTERRUPT_LINE)
 *   pci_add_bar()/pci_add_vram_bar()/pci_set_rom(); change pd->config and pd->wmask as the chip
 * needs
 *   pci_finish(pd);                               records reset values, registers the function with
 * Xen and the device with the board
 */
void pci_init(struct pci_device *pd, struct board *b, const struct pci_device_ops *ops, void *dev,
              uint8_t devfn, const struct pci_config_id *id);
void pci_add_bar(struct pci_device *pd, unsigned n, enum pci_bar_kind kind, uint64_t size,
                 const struct io_ops *ops);
/* As above but backed by vram from offset 0; accesses never trap there. ops (may be NULL) take the
 * rest of the BAR, and all of it while pci_vram_trap() or the hypervisor keeps the vram out. */
void pci_add_vram_bar(struct pci_device *pd, unsigned n, uint64_t bar_size, struct vram *vram,
                      const struct io_ops *ops);
void pci_vram_trap(struct pci_device *pd, unsigned n, bool trap);
/* Serves `len` bytes (borrowed) as the expansion ROM, in a BAR of the next power of two, >= 2 KiB.
 * The bytes live in our memory; reads trap. */
void pci_set_rom(struct pci_device *pd, const uint8_t *rom, size_t len);
/* 0, or -errno (slot taken: -EEXIST) with nothing registered. After success the board owns dev. */
int pci_finish(struct pci_device *pd);
/* Takes the function off the bus (hot unplug, PV unplug): BARs stop decoding, config reads as ones.
 * The device object stays. */
void pci_unplug(struct pci_device *pd);

/* Puts a capability of len bytes at `at` (0x40 up) in front of the list, all read-only; between
 * pci_init() and pci_finish(). The caller fills in what follows id and link. */
void pci_add_capability(struct pci_device *pd, uint8_t at, uint8_t id, unsigned len);
/* An MSI capability with a 64-bit address and one vector: while the guest has it on, a rising
 * pci_set_intx() sends a message. PCI 3.0, 6.8. */
void pci_add_msi(struct pci_device *pd, uint8_t at);

/* Drives the function's INTx (STATUS bit 3; the pin unless COMMAND bit 10 disables it), or sends a
 * message. */
void pci_set_intx(struct pci_device *pd, bool level);
/* Sends the message again, if messages are on and the level is up: for another cause beside one
 * that the guest has not cleared. */
void pci_msi_again(struct pci_device *pd);

/* True if bus mastering is enabled (DMA allowed). */
static inline bool pci_master(const struct pci_device *pd)
{
    return (pd->config[PCI_COMMAND] & PCI_COMMAND_MASTER) != 0;
}

static inline uint16_t pci_get16(const uint8_t *config, unsigned reg)
{
    return (uint16_t)(config[reg] | config[reg + 1] << 8);
}
static inline uint32_t pci_get32(const uint8_t *config, unsigned reg)
{
    return (uint32_t)pci_get16(config, reg) | (uint32_t)pci_get16(config, reg + 2) << 16;
}
static inline void pci_set16(uint8_t *config, unsigned reg, uint16_t v)
{
    config[reg] = (uint8_t)v;
    config[reg + 1] = (uint8_t)(v >> 8);
}
static inline void pci_set32(uint8_t *config, unsigned reg, uint32_t v)
{
    pci_set16(config, reg, (uint16_t)v);
    pci_set16(config, reg + 2, (uint16_t)(v >> 16));
}

/* Configuration access from the guest: reg 0..255 (more reads ones), size 1, 2, 4; bytes past the
 * end read as ones. */
uint32_t pci_config_read(struct pci_bus *bus, uint8_t devfn, unsigned reg, unsigned size);
void pci_config_write(struct pci_bus *bus, uint8_t devfn, unsigned reg, unsigned size,
                      uint32_t value);

struct pci_bus *pci_bus_create(void);
void pci_bus_destroy(struct pci_bus *bus);
/* The function at devfn, or NULL. */
struct pci_device *pci_find(struct pci_bus *bus, uint8_t devfn);
/* Whether a slot (0..31) has functions. */
bool pci_slot_taken(struct pci_bus *bus, unsigned slot);
/* The lowest slot >= first (1..31) without functions, or -ENOSPC. */
int pci_free_slot(struct pci_bus *bus, unsigned first);
