/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IDE channel: task file, drive selection, INTRQ, SRST, data port. Port 0x1f7 is handled here, the
 * commands in ata_disk.c. */
#include "hw/ide.h"

#include <errno.h>
#include <string.h>

#include "core/bus.h"

enum { CMD_DIAGNOSTIC = 0x90 };

void ide_intrq(struct ide_channel *c)
{
    const struct ata *d = ide_selected(c);
    bool level = d->cfg.present && d->r.irq && (c->r.control & IDE_NIEN) == 0;
    if (level == c->h.intrq) {
        return;
    }
    c->h.intrq = level;
    if (level) {
        c->h.interrupt(c->h.opaque);
    }
    irq_set(c->h.irq, level);
}

/* ---- data port ---- */

/* The data register is 16 bits wide: an access by byte moves a word and drops the upper half. */
static uint64_t data_read(void *dev, uint64_t offset, unsigned size)
{
    uint32_t v = 0;
    (void)offset;
    (void)ata_data_in(ide_selected(dev), &v, size == 1 ? 2 : size);
    return v;
}

static void data_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    uint32_t v = (uint32_t)value;
    (void)offset;
    (void)ata_data_out(ide_selected(dev), &v, size == 1 ? 2 : size);
}

/* The hot path of a PIO boot: a DRQ block is one memcpy. What the drive does not offer reads as
 * zeros. */
static unsigned data_read_rep(void *dev, uint64_t offset, unsigned size, void *buf, unsigned count)
{
    uint8_t *p = buf;
    size_t left = (size_t)size * count;
    (void)offset;
    if (size == 1) {
        return 0; /* word by word: see data_read() */
    }
    while (left > 0) {
        uint32_t n =
            ata_data_in(ide_selected(dev), p, left > UINT32_MAX ? UINT32_MAX : (uint32_t)left);
        if (n == 0) {
            memset(p, 0, left);
            break;
        }
        p += n;
        left -= n;
        if (n % size != 0) { /* the block ended inside an item */
            size_t pad = size - n % size;
            memset(p, 0, pad);
            p += pad;
            left -= pad;
        }
    }
    return count;
}

static unsigned data_write_rep(void *dev, uint64_t offset, unsigned size, const void *buf,
                               unsigned count)
{
    const uint8_t *p = buf;
    size_t left = (size_t)size * count;
    (void)offset;
    if (size == 1) {
        return 0;
    }
    while (left > 0) {
        uint32_t n =
            ata_data_out(ide_selected(dev), p, left > UINT32_MAX ? UINT32_MAX : (uint32_t)left);
        if (n == 0) {
            break;
        }
        n += n % size != 0 ? size - n % size : 0;
        p += n;
        left -= n;
    }
    return count;
}

static const struct io_ops data_ops = {
    .read = data_read,
    .write = data_write,
    .read_rep = data_read_rep,
    .write_rep = data_write_rep,
    .max_size = 4,
};

/* ---- task file: region offset 0 is port base + 1 ---- */

/* The status of the selected drive as the host sees it. */
static uint8_t status(struct ide_channel *c)
{
    const struct ata *d = ide_selected(c);
    if (d->cfg.present && (c->r.control & IDE_SRST) != 0) {
        return ATA_BSY;
    }
    return ata_reg_read(d, ATA_STATUS);
}

static uint64_t task_read(void *dev, uint64_t offset, unsigned size)
{
    struct ide_channel *c = dev;
    unsigned reg = (unsigned)offset + 1;
    (void)size;
    if (reg == ATA_STATUS) {
        uint8_t v = status(c);
        ata_irq_clear(ide_selected(c));
        return v;
    }
    if (!c->drive[0].cfg.present && !c->drive[1].cfg.present) {
        return 0; /* nobody drives the cable */
    }
    uint8_t v = ata_reg_read(ide_selected(c), reg);
    return reg == ATA_DEVICE ? (uint8_t)((v & ~ATA_DEV) | c->r.select << 4) : v;
}

static void command(struct ide_channel *c, uint8_t value)
{
    if ((c->r.control & IDE_SRST) != 0) {
        return;
    }
    if (value != CMD_DIAGNOSTIC) {
        ata_command(ide_selected(c), value);
        return;
    }
    const struct ata *d = ide_selected(c);
    if (d->cfg.present && (d->r.status & (ATA_BSY | ATA_DRQ)) != 0) {
        ata_command(ide_selected(c), value); /* as any command in the middle of another */
        return;
    }
    /* ATA-6 8.11: both drives do it, drive 0 answers for both. */
    c->r.select = 0;
    ata_command(&c->drive[0], value);
    ata_command(&c->drive[1], value);
    if (c->drive[0].cfg.present) {
        ata_irq_clear(&c->drive[1]);
    }
    ide_intrq(c);
}

static void task_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct ide_channel *c = dev;
    unsigned reg = (unsigned)offset + 1;
    uint8_t v = (uint8_t)value;
    (void)size;
    if (reg == ATA_STATUS) {
        command(c, v);
        return;
    }
    const struct ata *d = ide_selected(c);
    if (d->cfg.present && (d->r.status & (ATA_BSY | ATA_DRQ)) != 0) {
        return; /* ATA-6 7.7: not even the other drive can be selected now */
    }
    /* Both drives listen; the selected one answers. */
    ata_reg_write(&c->drive[0], reg, v);
    ata_reg_write(&c->drive[1], reg, v);
    if (reg == ATA_DEVICE) {
        c->r.select = (v & ATA_DEV) != 0;
        ide_intrq(c);
    }
}

static const struct io_ops task_ops = {.read = task_read, .write = task_write, .max_size = 1};

/* ---- device control, alternate status ---- */

static uint64_t control_read(void *dev, uint64_t offset, unsigned size)
{
    (void)offset;
    (void)size;
    return status(dev);
}

static void control_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct ide_channel *c = dev;
    uint8_t old = c->r.control, v = (uint8_t)value & (IDE_NIEN | IDE_SRST | IDE_HOB);
    (void)offset;
    (void)size;
    c->r.control = v;
    for (unsigned i = 0; i < 2; i++) {
        c->drive[i].r.hob = (v & IDE_HOB) != 0;
        if ((v & IDE_SRST) != 0 && (old & IDE_SRST) == 0) {
            ata_soft_reset(&c->drive[i]);
        }
    }
    if ((v & IDE_SRST) != 0) {
        c->r.select = 0;
    }
    ide_intrq(c);
}

static const struct io_ops control_ops = {
    .read = control_read, .write = control_write, .max_size = 1};

/* ---- life ---- */

void ide_channel_reset(struct ide_channel *c)
{
    memset(&c->r, 0, sizeof(c->r));
    ata_power_on(&c->drive[0]);
    ata_power_on(&c->drive[1]);
    ide_intrq(c);
}

int ide_channel_init(struct ide_channel *c, struct board *b, const struct ide_channel_config *cfg,
                     struct irq_line *irq, void (*interrupt)(void *opaque), void *opaque)
{
    c->cfg = *cfg;
    c->h.irq = irq;
    c->h.interrupt = interrupt;
    c->h.opaque = opaque;
    const struct {
        uint16_t port, len;
        const struct io_ops *ops;
        const char *name;
    } regions[] = {
        {cfg->base, 1, &data_ops, "ide-data"},
        {(uint16_t)(cfg->base + 1), 7, &task_ops, "ide"},
        {cfg->control, 1, &control_ops, "ide-control"},
    };
    c->h.bus = b->bus;
    for (unsigned i = 0; i < 3; i++) {
        int id = bus_add(b->bus, BUS_PORT, regions[i].port, regions[i].len, regions[i].ops, c,
                         regions[i].name);
        if (id < 0) {
            ide_channel_fini(c);
            return id;
        }
        c->h.region[i] = id;
    }
    return 0;
}

void ide_channel_fini(struct ide_channel *c)
{
    for (unsigned i = 0; i < 3; i++) {
        if (c->h.region[i] > 0) {
            bus_remove(c->h.bus, c->h.region[i]);
            c->h.region[i] = 0;
        }
    }
}

int ide_channel_state(struct ide_channel *c, struct save_stream *s)
{
    struct ide_channel_regs r = c->r;
    save_u8(s, &r.select);
    save_u8(s, &r.control);
    if (s->loading) {
        if (s->error != 0 || r.select > 1) {
            return -EINVAL;
        }
        c->r = r;
    }
    for (unsigned i = 0; i < 2; i++) {
        int rc = ata_state(&c->drive[i], s);
        if (rc != 0) {
            return rc;
        }
    }
    if (s->loading) {
        ide_intrq(c);
    }
    return s->error;
}
