/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One IDE channel: task file ports (0x1f0-0x1f7 and 0x3f6, or 0x170-0x177 and 0x376), two drives,
 * one interrupt line. ATA/ATAPI-6 chapters 7 and 9. The bus master part is hw/piix_ide.c. Loop
 * thread only.
 */
#include "core/board.h"
#include "hw/ata.h"

enum ide_control { IDE_NIEN = 0x02, IDE_SRST = 0x04, IDE_HOB = 0x80 };

struct ide_channel_config {
    uint16_t base, control; /* first port of the command block; device control port */
};

struct ide_channel_regs {
    uint8_t select; /* 0, 1 */
    uint8_t control;
};

struct ide_channel {
    struct ide_channel_config cfg;
    struct ide_channel_regs r;
    struct ata drive[2];
    struct {
        struct irq_line *irq;
        void (*interrupt)(void *opaque); /* INTRQ rises at the controller */
        void *opaque;
        struct bus *bus;
        int region[3];
        bool intrq;
    } h;
};

/* Registers the ports. The drives must be made (ata_init()) already, with ide_intrq() behind their
 * irq operation. 0 or -errno. */
int ide_channel_init(struct ide_channel *c, struct board *b, const struct ide_channel_config *cfg,
                     struct irq_line *irq, void (*interrupt)(void *opaque), void *opaque);
/* Takes the ports back. The drives stay the caller's. */
void ide_channel_fini(struct ide_channel *c);
/* Power-on state of the channel and its drives. */
void ide_channel_reset(struct ide_channel *c);
int ide_channel_state(struct ide_channel *c, struct save_stream *s);
/* Recomputes INTRQ: a drive's r.irq, the selection or nIEN has changed. */
void ide_intrq(struct ide_channel *c);

static inline struct ata *ide_selected(struct ide_channel *c)
{
    return &c->drive[c->r.select & 1];
}
