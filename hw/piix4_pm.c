/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/piix4_pm.h"

#include <errno.h>
#include <stdlib.h>

#include "core/board.h"
#include "core/log.h"
#include "core/pci.h"

enum piix4_pm_reg { /* PIIX4 datasheet 7.1, configuration space; from 0x40 on all bytes are kept as written */
                    PIIX4_PMBA = 0x40,
                    PIIX4_DEVACTB = 0x5b, /* bit 1: APMC is enabled */
                    PIIX4_DEVRESB = 0x5f, /* bit 7: LPT decode, as firmware reports it */
                    PIIX4_DEVRESC = 0x63,
                    PIIX4_DEVRESD = 0x67, /* bit 3: COM1, bits 7 and 4: COM2 */
                    PIIX4_PMREGMISC = 0x80,
                    PIIX4_SMBBA =
                        0x90, /* DEVIATION: the SMBus controller does not exist (hvmloader turns it off); its registers only store */
                    PIIX4_SMBHSTCFG = 0xd2,
};
enum {
    PMBA_MASK = 0xffc0,
    PMREGMISC_PMIOSE = 0x01, /* PM I/O space enable */
};
enum pm_block { /* 7.2, offsets from PMBA */
                PMSTS = 0x00,
                PMEN = 0x02,
                PMCNTRL = 0x04,
                PMTMR = 0x08,
                PM_BLOCK_LEN =
                    0x0c, /* what follows (GPSTS..) is not decoded: Xen's ACPI tables do not name it */
};
enum pmcntrl_bit { PMCNTRL_SCI_EN = 0x0001, PMCNTRL_SUS_EN = 0x2000 };
enum { SUS_TYP_SHIFT = 10, SUS_TYP_MASK = 7, SUS_TYP_SOFT_OFF = 0, SUS_TYP_S3 = 1 };
enum { APMC_ACPI_ENABLE = 0xf1, APMC_ACPI_DISABLE = 0xf0 };
enum { PM_TIMER_HZ = 3579545, PM_TIMER_MASK = 0xffffff };

struct piix4_pm_regs {
    uint16_t pmen;
    uint16_t pmcntrl;
    uint8_t apmc, apms;
};

struct piix4_pm {
    struct pci_device pd;
    struct piix4_pm_config cfg;
    struct piix4_pm_regs r;
    struct {
        int apm_region, pm_region;
        uint64_t pm_base; /* where pm_region is, UINT64_MAX: nowhere */
    } h;
};

static uint32_t pm_timer(const struct piix4_pm *p)
{
    uint64_t ns = loop_now(p->pd.board->loop, LOOP_VIRTUAL);

    return (uint32_t)(ns / 1000000000 * PM_TIMER_HZ + ns % 1000000000 * PM_TIMER_HZ / 1000000000) &
           PM_TIMER_MASK;
}

/* PMSTS and PMTMR are asked for here only in the short time before Xen answers them itself. */
static uint64_t pm_read(void *dev, uint64_t offset, unsigned size)
{
    const struct piix4_pm *p = dev;
    uint32_t reg[3] = {(uint32_t)p->r.pmen << 16, 0xffff0000u | p->r.pmcntrl, 0};
    uint64_t value = 0;

    if (offset + size > PMTMR) {
        reg[2] = pm_timer(p);
    }
    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;
        uint64_t byte = at < PM_BLOCK_LEN ? reg[at / 4] >> 8 * (at % 4) & 0xff : 0xff;

        value |= byte << 8 * i;
    }
    return value;
}

static void pm_sleep(struct piix4_pm *p, unsigned type)
{
    struct platform *plat = p->pd.board->plat;
    unsigned state;

    if (type == SUS_TYP_SOFT_OFF) {
        state = 5;
    } else if (type == SUS_TYP_S3) {
        state = 3;
    } else {
        trace("piix4_pm", "sleep", "type %u ignored", type);
        return;
    }
    if (p->cfg.sleep) {
        p->cfg.sleep(p->cfg.opaque, state);
    }
    if (state == 5) {
        platform_shutdown(plat, PLATFORM_POWEROFF);
    } else {
        platform_acpi_s_state(plat, state);
    }
}

static void pm_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct piix4_pm *p = dev;
    uint16_t cnt = p->r.pmcntrl;
    bool cnt_written = false;

    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;
        unsigned shift = 8 * (at & 1);
        uint16_t byte = (uint16_t)((value >> 8 * i & 0xff) << shift);
        uint16_t keep = (uint16_t) ~(0xff << shift);

        if (at / 2 == PMEN / 2) {
            p->r.pmen = (uint16_t)((p->r.pmen & keep) | byte);
        } else if (at / 2 == PMCNTRL / 2) {
            cnt = (uint16_t)((cnt & keep) | byte);
            cnt_written = true;
        }
    }
    if (!cnt_written) {
        return;
    }
    p->r.pmcntrl = cnt & (uint16_t)~PMCNTRL_SUS_EN;
    if (cnt & PMCNTRL_SUS_EN) {
        pm_sleep(p, cnt >> SUS_TYP_SHIFT & SUS_TYP_MASK);
    }
}

static const struct io_ops pm_ops = {.read = pm_read, .write = pm_write, .max_size = 4};

static uint64_t apm_read(void *dev, uint64_t offset, unsigned size)
{
    const struct piix4_pm *p = dev;

    (void)size;
    return offset ? p->r.apms : p->r.apmc;
}

/* There is no SMI handler behind APMC; the two ACPI commands do what one would. */
static void apm_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct piix4_pm *p = dev;

    (void)size;
    if (offset) {
        p->r.apms = (uint8_t)value;
        return;
    }
    p->r.apmc = (uint8_t)value;
    if (p->cfg.sci_fixed) {
        return;
    }
    if (p->r.apmc == APMC_ACPI_ENABLE) {
        p->r.pmcntrl |= PMCNTRL_SCI_EN;
    } else if (p->r.apmc == APMC_ACPI_DISABLE) {
        p->r.pmcntrl &= (uint16_t)~PMCNTRL_SCI_EN;
    }
}

static const struct io_ops apm_ops = {.read = apm_read, .write = apm_write, .max_size = 1};

/* The block follows PMBA and PMIOSE, not COMMAND: hvmloader leaves COMMAND clear on functions
 * without BARs. */
static void piix4_pm_config_written(void *dev, unsigned reg, unsigned size)
{
    struct piix4_pm *p = dev;
    struct bus *bus = p->pd.board->bus;
    uint64_t base = pci_get32(p->pd.config, PIIX4_PMBA) & PMBA_MASK;

    (void)reg;
    (void)size;
    if (!(p->pd.config[PIIX4_PMREGMISC] & PMREGMISC_PMIOSE) || base == 0) {
        base = UINT64_MAX;
    }
    if (base == p->h.pm_base) {
        return;
    }
    bus_remove(bus, p->h.pm_region);
    p->h.pm_region = 0;
    p->h.pm_base = UINT64_MAX;
    if (base != UINT64_MAX) {
        int id = bus_add(bus, BUS_PORT, base, PM_BLOCK_LEN, &pm_ops, p, "piix4-pm");

        if (id < 0) { /* on top of something else: the first owner keeps the ports */
            trace("piix4_pm", "unmapped", "PMBA %#x: %d", (unsigned)base, id);
            return;
        }
        p->h.pm_region = id;
        p->h.pm_base = base;
    }
}

static void piix4_pm_reset(void *dev)
{
    struct piix4_pm *p = dev;

    p->r = (struct piix4_pm_regs){.pmcntrl = p->cfg.sci_fixed ? PMCNTRL_SCI_EN : 0};
}

static int piix4_pm_state(void *dev, struct save_stream *s)
{
    struct piix4_pm *p = dev;
    struct piix4_pm_regs r = p->r;

    save_u16(s, &r.pmen);
    save_u16(s, &r.pmcntrl);
    save_u8(s, &r.apmc);
    save_u8(s, &r.apms);
    if (s->loading) {
        if (s->error || (r.pmcntrl & PMCNTRL_SUS_EN)) {
            return -EINVAL;
        }
        p->r = r; /* the block's place follows with config_written */
    }
    return s->error;
}

static void piix4_pm_destroy(void *dev)
{
    struct piix4_pm *p = dev;

    bus_remove(p->pd.board->bus, p->h.pm_region);
    bus_remove(p->pd.board->bus, p->h.apm_region);
    free(p);
}

static const struct pci_device_ops piix4_pm_ops = {
    .base = {.name = "piix4-pm",
             .version = 1,
             .reset = piix4_pm_reset,
             .state = piix4_pm_state,
             .destroy = piix4_pm_destroy},
    .config_written = piix4_pm_config_written,
};

static const struct pci_config_id piix4_pm_id = {
    .vendor = 0x8086,
    .device = 0x7113,
    .class_device = 0x0680,
    .revision = 3,
    .subsystem_vendor = 0x1af4,
    .subsystem = 0x1100,
    .interrupt_pin = 1,
};

int piix4_pm_create(struct board *b, const struct piix4_pm_config *cfg)
{
    struct piix4_pm *p = calloc(1, sizeof(*p));
    int rc;

    if (!p) {
        return -ENOMEM;
    }
    p->cfg = *cfg;
    p->h.pm_base = UINT64_MAX;
    pci_init(&p->pd, b, &piix4_pm_ops, p, PCI_DEVFN(1, 3), &piix4_pm_id);
    pci_set16(p->pd.config, PCI_STATUS, 0x0280); /* fast back-to-back, DEVSEL# timing medium */
    pci_set32(p->pd.config, PIIX4_PMBA, 1);
    p->pd.config[PIIX4_DEVACTB] = 0x02;
    p->pd.config[PIIX4_DEVRESB] = cfg->lpt1 ? 0x90 : 0x10;
    p->pd.config[PIIX4_DEVRESC] = 0x60;
    p->pd.config[PIIX4_DEVRESD] = (uint8_t)((cfg->com1 ? 0x08 : 0) | (cfg->com2 ? 0x90 : 0));
    pci_set32(p->pd.config, PIIX4_SMBBA, 0xb101);
    p->pd.config[PIIX4_SMBHSTCFG] = 0x09;

    rc = bus_add(b->bus, BUS_PORT, 0xb2, 2, &apm_ops, p, "piix4-apm");
    if (rc < 0) {
        free(p);
        return rc;
    }
    p->h.apm_region = rc;
    rc = pci_finish(&p->pd);
    if (rc < 0) {
        bus_remove(b->bus, p->h.apm_region);
        free(p);
    }
    return rc;
}
