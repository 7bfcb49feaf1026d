/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/i440fx.h"

#include <errno.h>
#include <stdlib.h>

#include "core/board.h"
#include "core/pci.h"

enum i440fx_reg { /* 82441FX datasheet 3.2; from 0x40 on all bytes are kept as written */
                  I440FX_RAM_8MIB =
                      0x57, /* DEVIATION: DRAMC on the chip; on the boards guests know it says how much RAM there is */
                  I440FX_PAM0 =
                      0x59, /* .. 0x5f; store only: under Xen 0xc0000-0xfffff is plain RAM */
                  I440FX_SMRAM = 0x72, /* store only: there is no SMM */
};

enum rcr_bit {                 /* PIIX3, RC: reset control register, 0xcf9 */
               RC_SRST = 0x02, /* kind of reset, soft or hard: the same here */
               RC_RCPU = 0x04, /* starts it */
};

struct i440fx_regs {
    uint32_t confadd; /* CONFADD, 0xcf8 */
    uint8_t rc;       /* RC, 0xcf9 */
};

struct i440fx {
    struct pci_device pd;
    struct i440fx_regs r;
    struct {
        int region;
    } h;
};

/*
 * The hottest port of a boot: Xen looks at each dword write itself and decodes 0xcfc with it, and
 * still passes the write on, so that reads of 0xcf8 can be answered. Datasheet 3.1.1: only dword
 * accesses are the latch's; narrower ones are plain port accesses, and of those only byte 0xcf9 has
 * an owner. 0xcfc-0xcff are not registered: with CONFADD bit 31 set Xen turns accesses to them into
 * configuration requests, with it clear nothing is there.
 */
static uint64_t confadd_read(void *dev, uint64_t offset, unsigned size)
{
    const struct i440fx *f = dev;
    uint64_t value = UINT64_MAX;

    if (offset == 0 && size == 4) {
        return f->r.confadd;
    }
    if (offset <= 1 && offset + size > 1) {
        unsigned shift = 8 * (unsigned)(1 - offset);

        value &= ~((uint64_t)0xff << shift);
        value |= (uint64_t)f->r.rc << shift;
    }
    return value;
}

static void confadd_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct i440fx *f = dev;

    if (offset == 0 && size == 4) {
        f->r.confadd = (uint32_t)value;
        return;
    }
    if (offset <= 1 && offset + size > 1) {
        uint8_t rc = (uint8_t)(value >> 8 * (1 - offset));

        f->r.rc = rc & RC_SRST;
        if (rc & RC_RCPU) {
            platform_shutdown(f->pd.board->plat, PLATFORM_REBOOT);
        }
    }
}

static const struct io_ops confadd_ops = {
    .read = confadd_read, .write = confadd_write, .max_size = 4};

static void i440fx_reset(void *dev)
{
    struct i440fx *f = dev;

    f->r = (struct i440fx_regs){0};
}

static int i440fx_state(void *dev, struct save_stream *s)
{
    struct i440fx *f = dev;
    struct i440fx_regs r = f->r;

    save_u32(s, &r.confadd);
    save_u8(s, &r.rc);
    if (s->loading) {
        if (s->error || (r.rc & ~RC_SRST)) {
            return -EINVAL;
        }
        f->r = r;
    }
    return s->error;
}

static void i440fx_destroy(void *dev)
{
    struct i440fx *f = dev;

    bus_remove(f->pd.board->bus, f->h.region);
    free(f);
}

static const struct pci_device_ops i440fx_ops = {
    .base = {.name = "i440fx",
             .version = 1,
             .reset = i440fx_reset,
             .state = i440fx_state,
             .destroy = i440fx_destroy},
};

static const struct pci_config_id i440fx_id = {
    .vendor = 0x8086,
    .device = 0x1237,
    .class_device = 0x0600,
    .revision = 2,
    .subsystem_vendor =
        0x1af4, /* with it SeaBIOS and installed guests recognise the board they know */
    .subsystem = 0x1100,
};

int i440fx_create(struct board *b, uint64_t ram_bytes)
{
    struct i440fx *f = calloc(1, sizeof(*f));
    int rc;

    if (!f) {
        return -ENOMEM;
    }
    pci_init(&f->pd, b, &i440fx_ops, f, PCI_DEVFN(0, 0), &i440fx_id);
    f->pd.config[I440FX_RAM_8MIB] = (uint8_t)(ram_bytes >> 23 < 0xff ? ram_bytes >> 23 : 0xff);
    f->pd.config[I440FX_SMRAM] = 0x02;

    rc = bus_add(b->bus, BUS_PORT, 0xcf8, 4, &confadd_ops, f, "i440fx-confadd");
    if (rc < 0) {
        free(f);
        return rc;
    }
    f->h.region = rc;
    rc = pci_finish(&f->pd);
    if (rc < 0) {
        bus_remove(b->bus, f->h.region);
        free(f);
    }
    return rc;
}
