/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/cmos.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/board.h"

enum cmos_index {
    CMOS_FIRST = 14, /* those below are Xen's real-time clock */
    CMOS_DISK_TYPES = 0x12,
    CMOS_EQUIPMENT = 0x14,
    CMOS_BASE_KIB = 0x15,
    CMOS_EXT_KIB = 0x17, /* above 1 MiB */
    CMOS_DISK_EXT_TYPE = 0x19,
    CMOS_DISK_GEOMETRY = 0x1b, /* 9 bytes a disk */
    CMOS_EXT_KIB_2 = 0x30,
    CMOS_CENTURY = 0x32,
    CMOS_EXT16_64K = 0x34, /* above 16 MiB */
    CMOS_CENTURY_PS2 = 0x37,
    CMOS_BOOT_2 = 0x38,
    CMOS_DISK_TRANSLATION = 0x39, /* 2 bits a drive: 0 none, 1 LBA */
    CMOS_BOOT_1 = 0x3d,
    CMOS_HIGH_64K = 0x5b, /* above 4 GiB, 3 bytes */
    CMOS_SIZE = 128,
};
enum {
    EQUIPMENT_FPU = 0x02,
    EQUIPMENT_PS2_MOUSE = 0x04,
    DISK_TYPE_EXTENDED = 0x0f,
    DISK_TYPE_USER = 47,
    BOOT_CHOICES = 3,
};

struct cmos_regs {
    uint8_t index;
    uint8_t data[CMOS_SIZE];
};

struct cmos {
    struct cmos_regs r;
    struct {
        struct board *b;
        int region;
    } h;
};

/* Writes len bytes of v, lowest first; a value that does not fit becomes the largest that does. */
static void put(uint8_t *data, unsigned index, unsigned len, uint64_t v)
{
    uint64_t max = (UINT64_C(1) << 8 * len) - 1;

    v = v < max ? v : max;
    for (unsigned i = 0; i < len; i++) {
        data[index + i] = (uint8_t)(v >> 8 * i);
    }
}

static uint64_t above(uint64_t size, uint64_t from, unsigned shift)
{
    return size > from ? (size - from) >> shift : 0;
}

static void fill_memory(uint8_t *data, const struct cmos_config *cfg)
{
    uint64_t ram = cfg->ram_below_4g_bytes;

    put(data, CMOS_BASE_KIB, 2, 640);
    put(data, CMOS_EXT_KIB, 2, above(ram, 1 << 20, 10));
    put(data, CMOS_EXT_KIB_2, 2, above(ram, 1 << 20, 10));
    put(data, CMOS_EXT16_64K, 2, above(ram, 16 << 20, 16));
    put(data, CMOS_HIGH_64K, 3, cfg->ram_above_4g_bytes >> 16);
}

static void fill_disks(uint8_t *data, const struct cmos_config *cfg)
{
    for (unsigned i = 0; i < 4; i++) {
        const struct cmos_disk *d = &cfg->disks[i];

        if (d->cylinders == 0) {
            continue;
        }
        data[CMOS_DISK_TRANSLATION] |= (uint8_t)((d->cylinders > 1024 ? 1 : 0) << 2 * i);
        if (i < 2) {
            uint8_t *g = &data[CMOS_DISK_GEOMETRY + 9 * i];

            data[CMOS_DISK_TYPES] |= (uint8_t)(DISK_TYPE_EXTENDED << (i == 0 ? 4 : 0));
            data[CMOS_DISK_EXT_TYPE + i] = DISK_TYPE_USER;
            put(g, 0, 2, d->cylinders);
            g[2] = d->heads;
            put(g, 3, 2, 0xffff); /* no write precompensation */
            g[5] = d->heads > 8 ? 0xc8 : 0xc0;
            put(g, 6, 2, d->cylinders); /* landing zone */
            g[8] = d->sectors;
        }
    }
}

static int fill_boot(uint8_t *data, const char *boot)
{
    static const char letters[] = "acdn"; /* nibble 1 floppy, 2 disk, 3 CD-ROM, 4 network */
    uint8_t nibble[BOOT_CHOICES] = {0};
    size_t n = boot ? strlen(boot) : 0;

    if (n > BOOT_CHOICES) {
        return -EINVAL;
    }
    for (size_t i = 0; i < n; i++) {
        const char *at = strchr(letters, boot[i]);

        if (!at) {
            return -EINVAL;
        }
        nibble[i] = (uint8_t)(at - letters + 1);
    }
    data[CMOS_BOOT_1] = (uint8_t)(nibble[1] << 4 | nibble[0]);
    data[CMOS_BOOT_2] = (uint8_t)(nibble[2] << 4);
    return 0;
}

/*
 * Index writes below 14 and the data accesses that follow them stay in Xen, which answers reads of
 * 0x70 too. So data accesses come with the index of the last write that came here; a smaller index
 * is kept, but has no byte behind it.
 */
static uint64_t cmos_read(void *dev, uint64_t offset, unsigned size)
{
    const struct cmos *c = dev;

    (void)size;
    return offset ? c->r.data[c->r.index] : 0xff;
}

static void cmos_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct cmos *c = dev;

    (void)size;
    if (!offset) {
        c->r.index = value & (CMOS_SIZE - 1); /* bit 7 masks NMI, which nothing raises */
    } else {
        cmos_set(c, c->r.index, (uint8_t)value);
    }
}

static const struct io_ops cmos_ops = {.read = cmos_read, .write = cmos_write, .max_size = 1};

void cmos_set(struct cmos *c, unsigned index, uint8_t value)
{
    if (index >= CMOS_FIRST && index < CMOS_SIZE) {
        c->r.data[index] = value;
    }
}

static void cmos_reset(void *dev)
{
    struct cmos *c = dev;

    c->r.index = 0; /* the bytes are battery backed */
}

static int cmos_state(void *dev, struct save_stream *s)
{
    struct cmos *c = dev;
    struct cmos_regs r = c->r;

    save_u8(s, &r.index);
    save_bytes(s, r.data + CMOS_FIRST, CMOS_SIZE - CMOS_FIRST);
    if (s->loading) {
        if (s->error || r.index >= CMOS_SIZE) {
            return -EINVAL;
        }
        c->r = r;
    }
    return s->error;
}

static void cmos_destroy(void *dev)
{
    struct cmos *c = dev;

    bus_remove(c->h.b->bus, c->h.region);
    free(c);
}

static const struct device_ops cmos_device_ops = {.name = "cmos",
                                                  .version = 1,
                                                  .reset = cmos_reset,
                                                  .state = cmos_state,
                                                  .destroy = cmos_destroy};

int cmos_create(struct board *b, const struct cmos_config *cfg, struct cmos **out)
{
    struct cmos *c = calloc(1, sizeof(*c));
    int rc;

    if (!c) {
        return -ENOMEM;
    }
    c->h.b = b;
    c->r.data[CMOS_EQUIPMENT] = EQUIPMENT_FPU | EQUIPMENT_PS2_MOUSE;
    c->r.data[CMOS_CENTURY] = c->r.data[CMOS_CENTURY_PS2] = 0x20;
    fill_memory(c->r.data, cfg);
    fill_disks(c->r.data, cfg);
    rc = fill_boot(c->r.data, cfg->boot);
    if (rc == 0) {
        rc = c->h.region = bus_add(b->bus, BUS_PORT, 0x70, 2, &cmos_ops, c, "cmos");
    }
    if (rc > 0) {
        rc = board_add_device(b, &cmos_device_ops, c);
    }
    if (rc < 0) {
        cmos_destroy(c);
        return rc;
    }
    if (out) {
        *out = c;
    }
    return 0;
}
