/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ICH9 AHCI controller: PCI function, registers, interrupts, resets, saved state. Intel ICH9
 * datasheet chapter 15, AHCI 1.3.1 chapters 2, 3 and 10. */
#include "hw/ahci.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "hw/ahci_int.h"

enum { CONFIG_MAP = 0x90, MAP_AHCI = 0x40, CONFIG_MSI = 0x80, CONFIG_SATACR = 0xa8 };
enum { IDP_BYTES = 32, IDP_INDEX = 0x10, IDP_DATA = 0x14, IDP_MASK = 0xffc };
enum { VERSION_1_0 = 0x00010000, SSTS_UP = 0x113 /* Gen 1, active */, SIG_NONE = -1 };
enum { SERIAL_FIRST = 5 }; /* after the PIIX's four; two for each port */
/* 64-bit addresses, queued commands, AHCI only, 1.5 Gb/s, 32 slots; no staggered spin-up, command
 * list override, port multipliers, coalescing or power management. */
#define CAP_VALUE (0xc0141f00u | (AHCI_PORTS - 1))
#define PX_CMD_RW                                                                                  \
    (CMD_ST | CMD_SUD | CMD_POD | CMD_FRE | 0x0f000000u /* ATAPI, DLAE, ALPE, ASP: no effect */)
#define PX_IE_RW   0xfdc000ffu
#define PX_SERR_RW 0x07ff0f03u

/* ---- interrupts ---- */

static uint32_t port_is(const struct ahci_port *p)
{
    uint32_t serr = p->r.serr;
    return p->r.is | ((serr & SERR_F) != 0 ? IS_UFS : 0) | ((serr & SERR_X) != 0 ? IS_PCS : 0) |
           ((serr & SERR_N) != 0 ? IS_PRCS : 0);
}

static void update_irq(struct ahci *a, bool again)
{
    uint32_t old = a->r.is;
    bool was = a->pd.intx_level;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        if ((port_is(&a->port[i]) & a->port[i].r.ie) != 0) {
            a->r.is |= 1u << i;
        }
    }
    pci_set_intx(&a->pd, (a->r.ghc & GHC_IE) != 0 && a->r.is != 0);
    if (was && (again || (a->r.is & ~old) != 0)) {
        pci_msi_again(&a->pd); /* 10.6.2.2: new bits, or not all were cleared */
    }
}

void ahci_update_irq(struct ahci *a)
{
    update_irq(a, false);
}

/* ---- resets ---- */

static uint32_t ssts(const struct ahci_port *p)
{
    if (p->r.offline) {
        return (p->r.sctl & 0xf) == DET_OFF ? DET_OFF : DET_NONE;
    }
    return p->drive.cfg.present ? SSTS_UP : DET_NONE;
}

/* Values after power-on or GHC.HR, which leaves the addresses alone (10.4.3). */
static void reset_regs(struct ahci_port *p, bool addresses)
{
    uint64_t clb = addresses ? 0 : p->r.clb, fb = addresses ? 0 : p->r.fb;
    memset(&p->r, 0, sizeof(p->r));
    p->r.clb = clb;
    p->r.fb = fb;
    p->r.cmd = CMD_SUD | CMD_POD;
    p->r.tfd = 0x7f;
    p->r.sig = (uint32_t)SIG_NONE;
    p->r.plain = AHCI_NO_SLOT;
    p->r.sig_pending = p->drive.cfg.present;
}

void ahci_reset_settle(struct ahci *a)
{
    if ((a->r.ghc & GHC_HR) == 0) {
        return;
    }
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        if (ahci_port_stale(&a->port[i])) {
            return;
        }
    }
    a->r.ghc &= ~(uint32_t)GHC_HR;
}

static void hba_reset(struct ahci *a)
{
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        ahci_port_abandon(&a->port[i]);
        reset_regs(&a->port[i], false);
    }
    a->r.ghc = GHC_AE | GHC_HR;
    a->r.is = 0;
    ahci_reset_settle(a);
}

/* The link comes up, after a COMRESET or when the drive is plugged. */
static void link_up(struct ahci_port *p)
{
    p->r.offline = false;
    p->r.serr |= SERR_X | SERR_N;
    p->r.sig_pending = p->drive.cfg.present;
    p->r.tfd = p->drive.cfg.present ? ATA_BSY : 0x7f;
    ahci_port_settle(p);
}

static void link_down(struct ahci_port *p)
{
    ahci_port_abandon(p);
    p->r.srst = false;
    p->r.halted = (p->r.cmd & CMD_ST) != 0;
    p->r.sig_pending = false;
    p->r.tfd = 0x7f;
}

static void write_sctl(struct ahci_port *p, uint32_t v)
{
    unsigned det = v & 0xf;
    p->r.sctl = v & 0xfff; /* SPD and IPM limit what never happens here */
    if (det == DET_RESET || det == DET_OFF) {
        if (!p->r.offline && p->drive.cfg.present) {
            p->r.serr |= SERR_N;
        }
        p->r.offline = true;
        link_down(p);
    } else if (p->r.offline && p->drive.cfg.present) {
        link_up(p);
    } else {
        p->r.offline = false;
    }
}

/* ---- port registers ---- */

static uint32_t port_read(const struct ahci_port *p, unsigned reg)
{
    switch (reg) {
    case PX_CLB:
        return (uint32_t)p->r.clb;
    case PX_CLBU:
        return (uint32_t)(p->r.clb >> 32);
    case PX_FB:
        return (uint32_t)p->r.fb;
    case PX_FBU:
        return (uint32_t)(p->r.fb >> 32);
    case PX_IS:
        return port_is(p);
    case PX_IE:
        return p->r.ie;
    case PX_CMD:
        return p->r.cmd;
    case PX_TFD:
        return p->r.tfd;
    case PX_SIG:
        return p->r.sig;
    case PX_SSTS:
        return ssts(p);
    case PX_SCTL:
        return p->r.sctl;
    case PX_SERR:
        return p->r.serr;
    case PX_SACT:
        return p->r.sact;
    case PX_CI:
        return p->r.ci;
    default:
        return 0;
    }
}

static void write_cmd(struct ahci_port *p, uint32_t v)
{
    struct ahci_port_regs *r = &p->r;
    uint32_t old = r->cmd;
    r->cmd = (old & ~PX_CMD_RW) | (v & PX_CMD_RW);
    if ((v & CMD_FRE) != 0) {
        r->cmd |= CMD_FR;
    } else {
        r->cmd &= ~(uint32_t)CMD_FR;
    }
    if ((v & CMD_ST) != 0) {
        r->cmd |= CMD_CR;
    } else if ((old & CMD_ST) != 0) {
        /* 10.3.2: slots are cleared, and CR when nothing runs any more. */
        ahci_ncq_abandon(p);
        r->plain = AHCI_NO_SLOT;
        r->overflow = r->halted = false;
        r->ci = r->sact = 0;
        r->cmd &= ~(0x1fu << CMD_CCS_SHIFT);
    }
    ahci_port_settle(p);
}

/* v: the bits to set or to clear in registers with such semantics, the whole value for others. */
static void port_write(struct ahci_port *p, unsigned reg, uint32_t v)
{
    struct ahci_port_regs *r = &p->r;
    switch (reg) {
    case PX_CLB:
        r->clb = (r->clb & ~UINT64_C(0xffffffff)) | (v & ~0x3ffu);
        break;
    case PX_CLBU:
        r->clb = (r->clb & 0xffffffff) | (uint64_t)v << 32;
        break;
    case PX_FB:
        r->fb = (r->fb & ~UINT64_C(0xffffffff)) | (v & ~0xffu);
        break;
    case PX_FBU:
        r->fb = (r->fb & 0xffffffff) | (uint64_t)v << 32;
        break;
    case PX_IS:
        r->is &= ~v;
        break;
    case PX_IE:
        r->ie = v & PX_IE_RW;
        break;
    case PX_CMD:
        write_cmd(p, v);
        break;
    case PX_SCTL:
        write_sctl(p, v);
        break;
    case PX_SERR:
        r->serr &= ~v;
        break;
    case PX_SACT:
        r->sact |= (r->cmd & CMD_ST) != 0 ? v : 0;
        break;
    case PX_CI:
        /* Only noted: the guest goes on while the bottom half works. */
        r->ci |= (r->cmd & CMD_ST) != 0 ? v : 0;
        ahci_port_wake(p);
        break;
    default:
        break;
    }
}

/* ---- ABAR ---- */

static bool bits_are_set_or_cleared(uint32_t at)
{
    uint32_t reg = at < AHCI_PORT_BASE ? UINT32_MAX : at % AHCI_PORT_BYTES;
    return at == AHCI_IS || reg == PX_IS || reg == PX_SERR || reg == PX_SACT || reg == PX_CI;
}

static struct ahci_port *port_at(struct ahci *a, uint32_t at)
{
    uint32_t n = (at - AHCI_PORT_BASE) / AHCI_PORT_BYTES;
    return at >= AHCI_PORT_BASE && n < AHCI_PORTS ? &a->port[n] : NULL;
}

/* at: a multiple of 4. */
static uint32_t read32(struct ahci *a, uint32_t at)
{
    const struct ahci_port *p = port_at(a, at);
    if (p != NULL) {
        return port_read(p, at % AHCI_PORT_BYTES);
    }
    switch (at) {
    case AHCI_CAP:
        return CAP_VALUE;
    case AHCI_GHC:
        return a->r.ghc;
    case AHCI_IS:
        return a->r.is;
    case AHCI_PI:
        return (1u << AHCI_PORTS) - 1;
    case AHCI_VS:
        return VERSION_1_0;
    default:
        return 0;
    }
}

static void write32(struct ahci *a, uint32_t at, uint32_t v)
{
    struct ahci_port *p = port_at(a, at);
    bool again = false;
    trace("ahci", "write", "%03x = %08x", at, v);
    if (p != NULL) {
        port_write(p, at % AHCI_PORT_BYTES, v);
    } else if (at == AHCI_GHC) {
        a->r.ghc = (a->r.ghc & ~(uint32_t)GHC_IE) | (v & GHC_IE);
        if ((v & GHC_HR) != 0) {
            hba_reset(a);
        }
    } else if (at == AHCI_IS) {
        a->r.is &= ~v;
        again = true;
    }
    update_irq(a, again);
}

static uint64_t abar_read(void *dev, uint64_t offset, unsigned size)
{
    uint32_t v = read32(dev, (uint32_t)offset & ~3u) >> 8 * (offset & 3);
    return size < 4 ? v & ((1u << 8 * size) - 1) : v;
}

static void abar_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    uint32_t at = (uint32_t)offset & ~3u;
    unsigned shift = 8 * (offset & 3);
    uint32_t mask = (size < 4 ? (1u << 8 * size) - 1 : UINT32_MAX) << shift;
    uint32_t v = (uint32_t)value << shift & mask;
    if (!bits_are_set_or_cleared(at)) {
        v |= read32(dev, at) & ~mask;
    }
    write32(dev, at, v);
}

static const struct io_ops abar_ops = {.read = abar_read, .write = abar_write, .max_size = 4};

/* ---- BAR 4: index and data, ICH9 datasheet 15.2.2 ---- */

static uint64_t idp_read(void *dev, uint64_t offset, unsigned size)
{
    struct ahci *a = dev;
    uint32_t v = (offset & ~3u) == IDP_INDEX  ? a->r.index
                 : (offset & ~3u) == IDP_DATA ? read32(a, a->r.index)
                                              : 0;
    v >>= 8 * (offset & 3);
    return size < 4 ? v & ((1u << 8 * size) - 1) : v;
}

static void idp_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct ahci *a = dev;
    if (size != 4) {
        return; /* both are 32 bits wide */
    }
    if (offset == IDP_INDEX) {
        a->r.index = (uint32_t)value & IDP_MASK;
    } else if (offset == IDP_DATA) {
        write32(a, a->r.index, (uint32_t)value);
    }
}

static const struct io_ops idp_ops = {.read = idp_read, .write = idp_write, .max_size = 4};

/* ---- PCI function ---- */

static void ahci_reset(void *dev)
{
    struct ahci *a = dev;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        struct ahci_port *p = &a->port[i];
        ahci_port_abandon(p);
        ahci_ncq_drain(p);
        ata_power_on(&p->drive);
        bottom_half_cancel(&p->bh);
        reset_regs(p, true);
    }
    a->r = (struct ahci_global_regs){.ghc = GHC_AE};
}

static void ahci_config_written(void *dev, unsigned reg, unsigned size)
{
    struct ahci *a = dev;
    if (reg <= PCI_COMMAND && reg + size > PCI_COMMAND) {
        for (unsigned i = 0; i < AHCI_PORTS; i++) { /* bus mastering on: what waited goes on */
            ata_dma_kick(&a->port[i].drive);
            ahci_port_wake(&a->port[i]);
        }
    }
}

static void save_port_regs(struct ahci_port_regs *r, struct save_stream *s)
{
    uint32_t *const longs[] = {&r->is,   &r->ie,   &r->cmd,  &r->sig,
                               &r->sctl, &r->serr, &r->sact, &r->ci};
    bool *const flags[] = {&r->offline, &r->sig_pending, &r->halted,
                           &r->srst,    &r->overflow,    &r->first_block};
    save_u64(s, &r->clb);
    save_u64(s, &r->fb);
    for (size_t i = 0; i < sizeof(longs) / sizeof(longs[0]); i++) {
        save_u32(s, longs[i]);
    }
    save_u16(s, &r->tfd);
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        save_bool(s, flags[i]);
    }
    save_u8(s, &r->plain);
    save_bytes(s, r->acmd, sizeof(r->acmd));
    ahci_cursor_state(&r->cur, s);
}

static int port_state(struct ahci_port *p, struct save_stream *s)
{
    struct ahci_port_regs r;
    int rc;
    ahci_ncq_drain(p); /* requests are not saved: let them end */
    rc = ata_state(&p->drive, s);
    r = p->r;
    save_port_regs(&r, s);
    rc = rc != 0 ? rc : ahci_ncq_state(&r, p, s);
    if (rc != 0 || !s->loading) {
        return rc != 0 ? rc : s->error;
    }
    if (s->error != 0 || (r.plain >= AHCI_SLOTS && r.plain != AHCI_NO_SLOT) ||
        !ahci_cursor_valid(&r.cur) || (r.clb & 0x3ff) != 0 || (r.fb & 0xff) != 0) {
        return -EINVAL;
    }
    r.cmd &= PX_CMD_RW | CMD_CR | CMD_FR | 0x1fu << CMD_CCS_SHIFT;
    r.ie &= PX_IE_RW;
    r.serr &= PX_SERR_RW;
    r.sctl &= 0xfff;
    ahci_ncq_abandon(p);
    p->r = r;
    bottom_half_schedule(&p->bh);
    return 0;
}

static int ahci_state(void *dev, struct save_stream *s)
{
    struct ahci *a = dev;
    struct ahci_global_regs r;
    uint8_t present = 0, saved;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        present |= (uint8_t)(a->port[i].drive.cfg.present ? 1u << i : 0);
    }
    saved = present;
    save_u8(s, &saved);
    if (s->loading && (s->error != 0 || (saved & ~present) != 0)) {
        return -EINVAL; /* made with drives that we do not have */
    }
    for (unsigned i = 0; s->loading && i < AHCI_PORTS; i++) {
        if ((present & ~saved & 1u << i) != 0) {
            if (a->port[i].drive.cfg.cdrom) {
                return -EINVAL;
            }
            ahci_port_abandon(&a->port[i]);
            ahci_ncq_drain(&a->port[i]);
            (void)ata_detach(&a->port[i].drive); /* the guest had unplugged it */
        }
    }
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        int rc = port_state(&a->port[i], s);
        if (rc != 0) {
            return rc;
        }
    }
    r = a->r; /* after the ports: a drive that had to be waited for may have changed it */
    save_u32(s, &r.ghc);
    save_u32(s, &r.is);
    save_u32(s, &r.index);
    if (s->loading) {
        if (s->error != 0) {
            return -EINVAL;
        }
        a->r.ghc = GHC_AE | (r.ghc & (GHC_IE | GHC_HR));
        a->r.is = r.is & ((1u << AHCI_PORTS) - 1);
        a->r.index = r.index & IDP_MASK;
    }
    return s->error;
}

static void ahci_destroy(void *dev)
{
    struct ahci *a = dev;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        struct ahci_port *p = &a->port[i];
        ahci_ncq_abandon(p);
        ahci_ncq_drain(p);
        ata_fini(&p->drive);
        if (p->bh.loop != NULL) {
            bottom_half_cancel(&p->bh);
        }
        free(p->requests);
    }
    free(a);
}

static const struct pci_device_ops ops = {
    .base =
        {
            .name = "ahci",
            .version = 1,
            .reset = ahci_reset,
            .state = ahci_state,
            .destroy = ahci_destroy,
        },
    .config_written = ahci_config_written,
};

static int init_port(struct ahci *a, struct board *b, unsigned i, const struct ide_drive_config *dc)
{
    struct ahci_port *p = &a->port[i];
    struct ata_config cfg;
    int rc = ide_drive_identity(dc, SERIAL_FIRST + 2 * i, &cfg);
    p->parent = a;
    p->number = (uint8_t)i;
    p->r.plain = AHCI_NO_SLOT;
    bottom_half_init(&p->bh, b->loop, ahci_port_run, p);
    snprintf(p->id, sizeof(p->id), "%s", dc->id);
    if (rc == 0 && cfg.present && !cfg.cdrom) {
        cfg.queued = true;
        p->requests = calloc(AHCI_SLOTS, sizeof(*p->requests));
        rc = p->requests == NULL ? -ENOMEM : 0;
        for (unsigned n = 0; rc == 0 && n < AHCI_SLOTS; n++) {
            p->requests[n].port = p;
        }
    }
    if (rc == 0) {
        rc =
            ata_init(&p->drive, &cfg, dc->present ? dc->medium : NULL, &ahci_drive_ops, p, b->loop);
    }
    return rc;
}

int ahci_create(struct board *b, uint8_t devfn, const struct ide_drive_config drives[AHCI_PORTS],
                struct ahci **out)
{
    static const struct pci_config_id id = {
        .vendor = 0x8086,
        .device = 0x2922,
        .class_device = 0x0106,
        .prog_if = 0x01,
        .revision = 0x02,
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
        .interrupt_pin = 1,
    };
    struct ahci *a = calloc(1, sizeof(*a));
    int rc = 0;
    if (a == NULL) {
        return -ENOMEM;
    }
    a->mem = b->mem;
    pci_init(&a->pd, b, &ops, a, devfn, &id);
    for (unsigned i = 0; rc == 0 && i < AHCI_PORTS; i++) {
        rc = init_port(a, b, i, &drives[i]);
    }
    if (rc == 0) {
        a->pd.config[CONFIG_MAP] = MAP_AHCI;
        pci_add_capability(&a->pd, CONFIG_SATACR, PCI_CAP_SATA, 8);
        pci_set16(a->pd.config, CONFIG_SATACR + 2, 0x0010); /* revision 1.0 */
        /* Where the index/data pair is: BAR 4, dword 4. */
        pci_set32(a->pd.config, CONFIG_SATACR + 4, IDP_INDEX / 4 << 4 | (PCI_BAR0 + 16) / 4);
        pci_add_msi(&a->pd, CONFIG_MSI);
        pci_add_bar(&a->pd, 4, PCI_BAR_IO, IDP_BYTES, &idp_ops);
        pci_add_bar(&a->pd, 5, PCI_BAR_MEM, AHCI_ABAR_BYTES, &abar_ops);
        rc = pci_finish(&a->pd);
    }
    if (rc < 0) {
        ahci_destroy(a);
        return rc;
    }
    *out = a;
    return 0;
}

/* ---- for the monitor and xen-platform ---- */

bool ahci_info(const struct ahci *a, unsigned i, struct ide_drive_info *info)
{
    if (i >= AHCI_PORTS || !a->port[i].drive.cfg.present) {
        return false;
    }
    const struct ata *d = &a->port[i].drive;
    *info = (struct ide_drive_info){
        .present = true,
        .cdrom = d->cfg.cdrom,
        .tray_open = d->r.tray_open,
        .locked = d->r.locked,
        .medium = d->h.medium,
        .id = a->port[i].id,
        .cylinders = d->cfg.cylinders,
        .heads = d->cfg.heads,
        .sectors = d->cfg.spt,
    };
    return true;
}

void ahci_unplug(struct ahci *a, bool keep_first)
{
    for (unsigned i = keep_first ? 1 : 0; i < AHCI_PORTS; i++) {
        struct ahci_port *p = &a->port[i];
        if (!p->drive.cfg.present || p->drive.cfg.cdrom) {
            continue;
        }
        link_down(p);
        ahci_ncq_drain(p);
        int rc = ata_detach(&p->drive);
        if (rc < 0) {
            static struct log_limit limit;
            log_limited(&limit, "ahci port %u: flush at unplug failed: %s", i, strerror(-rc));
        }
        p->r.sig = (uint32_t)SIG_NONE;
        p->r.serr |= SERR_X | SERR_N;
        ahci_port_settle(p);
    }
    ahci_reset_settle(a);
    ahci_update_irq(a);
}
