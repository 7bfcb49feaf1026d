/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/ehci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "hw/ehci_int.h"

enum { /* EHCI 1.0, 2.1: serial bus release number, frame length, legacy support */
       CONFIG_SBRN = 0x60,
       CONFIG_FLADJ = 0x61,
       FLADJ_RESET = 0x20,
       FLADJ_MASK = 0x3f,
       CONFIG_LEGSUP = 0x68,
       LEGSUP_ID = 1,
       LEGSUP_OWNERS = 0x01010000,
       CONFIG_LEGCTLSTS = 0x6c,
       LEGCTLSTS_ENABLES = 0xe03f,
       LEGCTLSTS_STATUS_AT = 0x6e, /* USBSTS's low byte */
};
enum {
    CAPLENGTH_VERSION = 0x01000000 | EHCI_USBCMD,
    HCSPARAMS_COMPANIONS_AT = 12,
    HCSPARAMS_PORTS_PER_COMPANION_AT = 8,
    HCCPARAMS = CONFIG_LEGSUP << 8 | 0x80, /* 32 bits; software writes to no frame that has begun */
};

uint64_t ehci_now_ns(const struct ehci *e)
{
    return loop_now(e->pd.board->loop, LOOP_VIRTUAL);
}

uint32_t ehci_frindex(const struct ehci *e)
{
    uint64_t passed = ehci_running(e) ? (ehci_now_ns(e) - e->h.frame_ns) / EHCI_UFRAME_NS : 0;

    return (uint32_t)((e->r.frindex + passed) & EHCI_FRINDEX_MASK);
}

void ehci_update_irq(struct ehci *e)
{
    e->pd.config[LEGCTLSTS_STATUS_AT] = (uint8_t)(e->r.usbsts & USBSTS_W1C);
    pci_set_intx(&e->pd, (e->r.usbsts & e->r.usbintr & USBSTS_W1C) != 0);
}

void ehci_halt(struct ehci *e)
{
    e->r.frindex = ehci_frindex(e);
    e->r.usbcmd &= ~(uint32_t)USBCMD_RS;
    e->r.usbsts |= USBSTS_HALTED;
    timer_cancel(&e->h.walk);
}

/* ---- ports (EHCI 1.0, 2.3.9 and 4.2) ---- */

static bool owned(const struct ehci *e, unsigned port)
{
    return (e->r.portsc[port] & PORTSC_OWNER) == 0;
}

struct usb_device *ehci_device(const struct ehci *e, unsigned port)
{
    return owned(e, port) ? e->h.bus.dev[port] : NULL;
}

/* The port changes on our side: what is there is new, or gone. */
static void changed(struct ehci *e, unsigned port)
{
    uint32_t *p = &e->r.portsc[port];

    *p = (*p & (PORTSC_OWNER | PORTSC_PLAIN)) | PORTSC_CSC;
    e->r.usbsts |= USBSTS_PORT_CHANGE;
    ehci_update_irq(e);
}

/* The companion has what is plugged in on its side of the port from now on, or no longer. */
static void companion_gets(struct ehci *e, unsigned port, struct usb_device *d)
{
    struct usb_bus *bus = e->h.companion[port];

    if (d != NULL || bus->dev[e->h.companion_port[port]] != NULL) {
        usb_bus_lend(bus, e->h.companion_port[port], d);
    }
}

/* A port without a companion is always ours. */
static void set_owner(struct ehci *e, unsigned port, bool companion)
{
    struct usb_device *d = e->h.bus.dev[port];

    if (companion != owned(e, port) || e->h.companion[port] == NULL) {
        return;
    }
    e->r.portsc[port] ^= PORTSC_OWNER;
    companion_gets(e, port, companion ? d : NULL);
    if (d != NULL) {
        if (!companion) {
            usb_device_reset(d);
            d->h.speed = USB_SPEED_HIGH;
        }
        changed(e, port); /* for us it has gone, or come */
    }
}

static uint32_t port_value(const struct ehci *e, unsigned port)
{
    uint32_t v = e->r.portsc[port] | PORTSC_PP;

    if (ehci_device(e, port) != NULL) {
        v |= PORTSC_CCS | ((v & (PORTSC_PED | PORTSC_PR)) == 0 ? PORTSC_J_STATE : 0);
    }
    return v;
}

static void port_write(struct ehci *e, unsigned port, uint32_t v)
{
    struct usb_device *d = ehci_device(e, port);
    uint32_t old = e->r.portsc[port];
    uint32_t p = (old & ~(uint32_t)(PORTSC_PLAIN | PORTSC_PR)) | (v & (PORTSC_PLAIN | PORTSC_PR));

    p &= ~(v & PORTSC_CSC);
    p &= (v & PORTSC_PED) == 0 ? ~(uint32_t)PORTSC_PED : ~UINT32_C(0); /* software cannot enable */
    if (d == NULL) {
        p &= ~(uint32_t)PORTSC_PR;
    }
    if ((p & PORTSC_PR) != 0) {
        p &= ~(uint32_t)PORTSC_PED;
        if ((old & PORTSC_PR) == 0) {
            usb_device_reset(d);
        }
    } else if ((old & PORTSC_PR) != 0 && d != NULL) {
        p |= PORTSC_PED; /* the reset has found a high-speed device */
    }
    if ((p & PORTSC_PED) != 0) {
        p |= v & PORTSC_SUSPEND;
        if ((p & PORTSC_SUSPEND) != 0 && (v & PORTSC_FPR) != 0) {
            p |= PORTSC_FPR;
        } else if ((p & PORTSC_FPR) != 0) {
            p &= ~(uint32_t)(PORTSC_FPR | PORTSC_SUSPEND); /* the end of resume */
        }
    } else {
        p &= ~(uint32_t)(PORTSC_FPR | PORTSC_SUSPEND);
    }
    e->r.portsc[port] = p;
    if (e->r.configflag != 0) {
        set_owner(e, port, (v & PORTSC_OWNER) != 0);
    }
}

/* ---- registers ---- */

/* As after power on: the companions have their ports, what is plugged into the others is new. */
static void registers_reset(struct ehci *e)
{
    timer_cancel(&e->h.walk);
    e->r.usbintr = 0; /* nobody is told how the ports change */
    for (unsigned i = 0; i < EHCI_PORTS; i++) {
        set_owner(e, i, true);
    }
    e->r = (struct ehci_regs){.usbcmd = USBCMD_ITC_RESET, .usbsts = USBSTS_HALTED};
    for (unsigned i = 0; i < EHCI_PORTS; i++) {
        if (e->h.companion[i] != NULL) {
            e->r.portsc[i] = PORTSC_OWNER;
        } else if (e->h.bus.dev[i] != NULL) {
            usb_device_reset(e->h.bus.dev[i]);
            changed(e, i);
        }
    }
    ehci_update_irq(e);
}

static void usbcmd_write(struct ehci *e, uint32_t v)
{
    bool ran = ehci_running(e);

    if ((v & USBCMD_HCRESET) != 0) {
        registers_reset(e);
        return;
    }
    v = (v & USBCMD_ALL) | (e->r.usbcmd & USBCMD_IAAD);
    if (ran && (v & USBCMD_RS) == 0) {
        ehci_halt(e);
    } else if (!ran && (v & USBCMD_RS) != 0) {
        e->r.usbsts &= ~(uint32_t)USBSTS_HALTED;
        e->h.frame_ns = ehci_now_ns(e);
    }
    e->r.usbcmd = v;
}

static uint32_t hcsparams(const struct ehci *e)
{
    return EHCI_PORTS | (uint32_t)e->h.companions << HCSPARAMS_COMPANIONS_AT |
           (uint32_t)e->h.ports_per_companion << HCSPARAMS_PORTS_PER_COMPANION_AT;
}

/* The schedules start and stop at once. */
static uint32_t status(const struct ehci *e)
{
    uint32_t v = e->r.usbsts;

    if (ehci_running(e)) {
        v |= (e->r.usbcmd & USBCMD_PSE) != 0 ? USBSTS_PERIODIC : 0;
        v |= (e->r.usbcmd & USBCMD_ASE) != 0 ? USBSTS_ASYNC : 0;
    }
    return v;
}

/* The register at offset reg as it reads; what is none reads 0. */
static uint32_t reg_value(const struct ehci *e, unsigned reg)
{
    switch (reg) {
    case EHCI_CAPLENGTH:
        return CAPLENGTH_VERSION;
    case EHCI_HCSPARAMS:
        return hcsparams(e);
    case EHCI_HCCPARAMS:
        return HCCPARAMS;
    case EHCI_USBCMD:
        return e->r.usbcmd;
    case EHCI_USBSTS:
        return status(e);
    case EHCI_USBINTR:
        return e->r.usbintr;
    case EHCI_FRINDEX:
        return ehci_frindex(e);
    case EHCI_PERIODICLISTBASE:
        return e->r.periodiclistbase;
    case EHCI_ASYNCLISTADDR:
        return e->r.asynclistaddr;
    case EHCI_CONFIGFLAG:
        return e->r.configflag;
    default:
        return reg >= EHCI_PORTSC && reg < EHCI_PORTSC + 4 * EHCI_PORTS
                   ? port_value(e, (reg - EHCI_PORTSC) / 4)
                   : 0;
    }
}

static uint64_t regs_read(void *dev, uint64_t offset, unsigned size)
{
    struct ehci *e = dev;
    unsigned reg = (unsigned)offset & ~3u;
    unsigned shift = 8 * (offset & 3);
    uint64_t v;

    if (reg == EHCI_USBSTS || reg + 4 == EHCI_USBSTS) {
        ehci_walk(e); /* as it is by now: somebody may poll it, without interrupts */
    }
    v = reg_value(e, reg);
    if (shift + 8 * size > 32) {
        v |= (uint64_t)reg_value(e, reg + 4) << 32;
    }
    return v >> shift;
}

static void reg_write(struct ehci *e, unsigned reg, uint32_t v)
{
    switch (reg) {
    case EHCI_USBCMD:
        usbcmd_write(e, v);
        break;
    case EHCI_USBSTS:
        e->r.usbsts &= ~(v & USBSTS_W1C);
        break;
    case EHCI_USBINTR:
        e->r.usbintr = v & USBSTS_W1C;
        break;
    case EHCI_FRINDEX:
        if (!ehci_running(e)) {
            e->r.frindex = v & EHCI_FRINDEX_MASK;
        }
        break;
    case EHCI_PERIODICLISTBASE:
        e->r.periodiclistbase = v & 0xfffff000;
        break;
    case EHCI_ASYNCLISTADDR:
        e->r.asynclistaddr = v & 0xffffffe0;
        break;
    case EHCI_CONFIGFLAG:
        e->r.configflag = v & 1;
        for (unsigned i = 0; i < EHCI_PORTS; i++) {
            set_owner(e, i, e->r.configflag == 0);
        }
        break;
    default:
        if (reg >= EHCI_PORTSC && reg < EHCI_PORTSC + 4 * EHCI_PORTS) {
            port_write(e, (reg - EHCI_PORTSC) / 4, v);
        }
        break;
    }
    ehci_update_irq(e);
}

/* Part of a register: the other bits stay, and are no 1 where that would clear or start something. */
static void part_write(struct ehci *e, unsigned reg, uint32_t mask, uint32_t v)
{
    uint32_t keep = reg == EHCI_USBSTS ? 0 : reg_value(e, reg);

    keep &= reg >= EHCI_PORTSC ? ~(uint32_t)PORTSC_CSC : ~UINT32_C(0);
    if (mask != 0) {
        reg_write(e, reg, (keep & ~mask) | (v & mask));
    }
}

static void regs_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct ehci *e = dev;
    unsigned reg = (unsigned)offset & ~3u;
    unsigned shift = 8 * (offset & 3);
    uint64_t mask = ((UINT64_C(1) << 8 * size) - 1) << shift;
    uint64_t v = (value << shift) & mask;

    trace("ehci", "write", "%#x size %u: %#x", (unsigned)offset, size, (unsigned)value);
    /* What came before the write is over before it. Not so for USBSTS: acknowledging must not take
     * what the guest has not seen. */
    if (reg != EHCI_USBSTS && reg != EHCI_USBINTR) {
        ehci_walk(e);
    }
    part_write(e, reg, (uint32_t)mask, (uint32_t)v);
    part_write(e, reg + 4, (uint32_t)(mask >> 32), (uint32_t)(v >> 32));
    ehci_hurry(e);
}

static const struct io_ops regs_ops = {.read = regs_read, .write = regs_write, .max_size = 4};

static void config_written(void *dev, unsigned reg, unsigned size)
{
    struct ehci *e = dev;

    if (size == sizeof(e->pd.config)) { /* after a load: what a guest could not have written */
        for (unsigned i = 0x40; i < size; i++) {
            e->pd.config[i] = (uint8_t)((e->pd.reset_config[i] & ~e->pd.wmask[i]) |
                                        (e->pd.config[i] & e->pd.wmask[i]));
        }
        ehci_update_irq(e);
    }
    if (reg <= PCI_COMMAND && reg + size > PCI_COMMAND) {
        ehci_hurry(e);
    }
}

/* ---- devices ---- */

/* A device has something to say. While its port sleeps that is resume signalling, if the guest has asked for it
 * (EHCI 1.0, 4.3.1). */
static void device_wakes(void *host, unsigned port)
{
    struct ehci *e = host;
    struct usb_bus *companion = e->h.companion[port];
    uint32_t *p = &e->r.portsc[port];

    if (!owned(e, port)) {
        companion->wake(companion->host, e->h.companion_port[port]);
        return;
    }
    if ((*p & (PORTSC_SUSPEND | PORTSC_FPR)) == PORTSC_SUSPEND && e->h.bus.dev[port]->r.wakeup) {
        *p |= PORTSC_FPR;
        e->r.usbsts |= USBSTS_PORT_CHANGE;
        ehci_update_irq(e);
    }
    if ((*p & PORTSC_PED) != 0) {
        ehci_hurry(e);
    }
}

/* Something came or has gone; the frames at hand are those before. A port that the companion had comes back when it
 * is empty (4.2.2). */
static void plugged(void *host, unsigned port)
{
    struct ehci *e = host;
    struct usb_device *d = e->h.bus.dev[port];

    ehci_walk(e);
    if (owned(e, port)) {
        changed(e, port);
    } else {
        companion_gets(e, port, d);
        if (d == NULL && e->r.configflag != 0) {
            e->r.portsc[port] &= ~(uint32_t)PORTSC_OWNER;
        }
    }
    ehci_hurry(e);
}

int ehci_add_companion(struct usb_bus *ehci, unsigned first, struct usb_bus *companion)
{
    struct ehci *e = ehci->host;

    if (first >= EHCI_PORTS || companion->ports > EHCI_PORTS - first) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < companion->ports; i++) {
        if (e->h.companion[first + i] != NULL) {
            return -EEXIST;
        }
    }
    for (unsigned i = 0; i < companion->ports; i++) {
        e->h.companion[first + i] = companion;
        e->h.companion_port[first + i] = (uint8_t)i;
        if (e->r.configflag == 0) {
            set_owner(e, first + i, true);
        }
    }
    e->h.companions++;
    e->h.ports_per_companion = (uint8_t)companion->ports;
    return 0;
}

/* ---- life ---- */

static void ehci_reset(void *dev)
{
    registers_reset(dev);
}

/* Who hears each device is in PORTSC; the companion has saved its own side. */
static void restore_owners(struct ehci *e)
{
    for (unsigned i = 0; i < EHCI_PORTS; i++) {
        struct usb_device *d = e->h.bus.dev[i];

        if (e->h.companion[i] != NULL) {
            e->h.companion[i]->dev[e->h.companion_port[i]] = owned(e, i) ? NULL : d;
        }
        if (d != NULL) {
            d->h.speed = owned(e, i) ? USB_SPEED_HIGH : USB_SPEED_FULL;
        }
    }
}

/* What port_write() and the rest can make. */
static bool port_valid(const struct ehci *e, const struct ehci_regs *r, unsigned port)
{
    uint32_t p = r->portsc[port];
    bool enabled = (p & PORTSC_PED) != 0;
    bool theirs = (p & PORTSC_OWNER) != 0;
    bool here = e->h.bus.dev[port] != NULL && !theirs;

    return (p & ~(uint32_t)PORTSC_SAVED) == 0 &&
           (e->h.companion[port] == NULL ? !theirs : theirs || r->configflag != 0) &&
           (!enabled || here) && ((p & PORTSC_PR) == 0 || (here && !enabled)) &&
           ((p & PORTSC_SUSPEND) == 0 || enabled) &&
           ((p & PORTSC_FPR) == 0 || (p & PORTSC_SUSPEND) != 0);
}

static int ehci_state(void *dev, struct save_stream *s)
{
    struct ehci *e = dev;
    struct ehci_regs r = e->r;
    bool valid = true;

    r.frindex = ehci_frindex(e);
    save_u32(s, &r.usbcmd);
    save_u32(s, &r.usbsts);
    save_u32(s, &r.usbintr);
    save_u32(s, &r.frindex);
    save_u32(s, &r.periodiclistbase);
    save_u32(s, &r.asynclistaddr);
    save_u8(s, &r.configflag);
    for (unsigned i = 0; i < EHCI_PORTS; i++) {
        save_u32(s, &r.portsc[i]);
        valid = valid && port_valid(e, &r, i);
    }
    if (!s->loading) {
        return s->error;
    }
    if (s->error != 0 || !valid || (r.usbcmd & ~(uint32_t)USBCMD_ALL) != 0 ||
        (r.usbsts & ~(uint32_t)(USBSTS_W1C | USBSTS_HALTED | USBSTS_RECLAMATION)) != 0 ||
        ((r.usbsts & USBSTS_HALTED) == 0) != ((r.usbcmd & USBCMD_RS) != 0) ||
        (r.usbintr & ~(uint32_t)USBSTS_W1C) != 0 || r.frindex > EHCI_FRINDEX_MASK ||
        (r.periodiclistbase & 0xfff) != 0 || (r.asynclistaddr & 0x1f) != 0 || r.configflag > 1) {
        return -EINVAL;
    }
    e->r = r;
    restore_owners(e);
    e->h.frame_ns = ehci_now_ns(e);
    ehci_hurry(e);
    return 0;
}

static void ehci_destroy(void *dev)
{
    struct ehci *e = dev;

    timer_cancel(&e->h.walk);
    free(e);
}

static const struct pci_device_ops ehci_ops = {
    .base = {.name = "ehci",
             .version = 1,
             .reset = ehci_reset,
             .state = ehci_state,
             .destroy = ehci_destroy},
    .config_written = config_written,
};

/* As in QEMU: pin INTD#, no power management, no debug port. */
#define EHCI_ID(id, rev, multi)                                                                    \
    {                                                                                              \
        .vendor = 0x8086, .device = (id), .class_device = 0x0c03, .prog_if = 0x20,                 \
        .revision = (rev), .subsystem_vendor = 0x1af4, .subsystem = 0x1100, .interrupt_pin = 4,    \
        .multifunction = (multi)                                                                   \
    }
static const struct pci_config_id ehci_ids[EHCI_KINDS] = {
    [EHCI_ICH9] = EHCI_ID(0x293a, 3, true),
    [EHCI_ICH4] = EHCI_ID(0x24cd, 0x10, false),
};

int ehci_create(struct board *b, uint8_t devfn, unsigned kind, struct usb_bus **out)
{
    struct ehci *e = calloc(1, sizeof(*e));
    int ret;

    if (e == NULL) {
        return -ENOMEM;
    }
    e->h.bus = (struct usb_bus){.host = e,
                                .ports = EHCI_PORTS,
                                .speed = USB_SPEED_HIGH,
                                .plugged = plugged,
                                .wake = device_wakes};
    timer_init(&e->h.walk, b->loop, LOOP_VIRTUAL, ehci_walk_timer, e);
    pci_init(&e->pd, b, &ehci_ops, e, devfn, &ehci_ids[kind]);
    pci_add_bar(&e->pd, 0, PCI_BAR_MEM, EHCI_BAR_BYTES, &regs_ops);
    e->pd.config[CONFIG_SBRN] = 0x20;
    e->pd.config[CONFIG_FLADJ] = FLADJ_RESET;
    pci_set32(e->pd.config, CONFIG_LEGSUP, LEGSUP_ID);
    memset(e->pd.wmask + 0x40, 0, sizeof(e->pd.wmask) - 0x40);
    e->pd.wmask[CONFIG_FLADJ] = FLADJ_MASK;
    pci_set32(e->pd.wmask, CONFIG_LEGSUP, LEGSUP_OWNERS);
    /* DEVIATION: no SMI and no status bits of what would be one (29-31): there is no SMM. */
    pci_set32(e->pd.wmask, CONFIG_LEGCTLSTS, LEGCTLSTS_ENABLES);
    ret = pci_finish(&e->pd);
    if (ret != 0) {
        free(e);
        return ret;
    }
    *out = &e->h.bus;
    return 0;
}
