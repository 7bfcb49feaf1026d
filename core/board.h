/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The wiring that devices are created on. hw/board.c makes it for the real machine,
 * tests/unit/harness.c for tests. A device's one public function is
 *
 *     int uart_create(struct board *b, const struct uart_config *cfg, ...);
 *
 * It allocates, registers its regions and calls board_add_device(); 0, or -errno with the board
 * unchanged.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/bus.h"
#include "core/guestmem.h"
#include "core/irq.h"
#include "core/loop.h"
#include "core/platform.h"
#include "core/save.h"

struct pci_bus;

struct device_ops {
    const char
        *name; /* record name in saved state: unique per kind; several of a kind are numbered */
    uint32_t version;         /* of the saved state */
    void (*reset)(void *dev); /* power-on values; also called once by board_add_device() */
    int (*state)(void *dev, struct save_stream *s); /* see save.h */
    void (*destroy)(void *dev); /* frees dev; regions are removed by it or by the bus going away */
};

struct device_entry {
    struct device_entry *next;
    const struct device_ops *ops;
    void *dev;
    bool pair; /* the next entry goes with this one */
};

struct board {
    struct loop *loop;
    struct bus *bus;
    struct pci_bus *pci;
    struct guestmem *mem;
    struct platform *plat;
    struct irq_line isa_irq[16]; /* each has one owner; 0 and 8 belong to Xen, nobody drives them */
    struct device_entry *devices; /* in creation order */
};

/* Prepares b: the ISA lines and an empty PCI bus and port bus on the given parts (borrowed). 0 or
 * -errno. */
int board_init(struct board *b, struct loop *loop, struct platform *plat, struct guestmem *mem);
/* Destroys all devices in reverse order, then the buses. */
void board_fini(struct board *b);

/* Adds a device (the board destroys it from now on) and resets it. 0 or -ENOMEM. */
int board_add_device(struct board *b, const struct device_ops *ops, void *dev);
/* Two entries that come and go together (a PCI device and its function): both or none. Destroyed in
 * reverse order. */
int board_add_pair(struct board *b, const struct device_ops *ops, void *dev,
                   const struct device_ops *ops2, void *dev2);
/*
 * Destroys a device (of a pair: the first one's dev, and both go) while the machine runs. Not from the device's own
 * handlers; anything of it that other devices hold, such as a USB port, is the caller's to take back before.
 */
void board_remove_device(struct board *b, const void *dev);
/* Resets all devices in creation order. */
void board_reset(struct board *b);

/* Moves the whole board to or from a stream: one record {name, number among its kind, version, length, payload} per
 * device. The load of one device may add and remove devices behind it. -EINVAL and a logged reason when a record is
 * unknown, missing, too new or refused; the board must then be thrown away. */
int board_save(struct board *b, struct save_stream *s);
int board_load(struct board *b, struct save_stream *s);
