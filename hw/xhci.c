/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registers, ports, interrupt. Work is done when the guest rings a doorbell, when a device has
 * something to say and when the guest has made room for events: xhci_run() looks at what was rung,
 * and ends. A timer runs only for a device that has more to say before its interval is over or has
 * an idle rate, an interrupt that is held back by moderation, a ring that is longer than one run's
 * budget, and wraps of MFINDEX if the guest wants to be told of them. An idle device costs nothing.
 */
#include "hw/xhci.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "hw/xhci_int.h"

enum xhci_reg { /* chapter 5; the places of the register sets are NEC's choice */
                REG_CAPLENGTH = 0x00,
                REG_HCSPARAMS1 = 0x04,
                REG_HCSPARAMS2 = 0x08,
                REG_HCSPARAMS3 = 0x0c,
                REG_HCCPARAMS = 0x10,
                REG_DBOFF = 0x14,
                REG_RTSOFF = 0x18,
                REG_XECP = 0x20, /* supported protocols: USB 2, then USB 3 */
                REG_XECP_USB3 = 0x30,
                REG_OPERATIONAL = 0x40,
                REG_USBCMD = 0x40,
                REG_USBSTS = 0x44,
                REG_PAGESIZE = 0x48,
                REG_DNCTRL = 0x54,
                REG_CRCR = 0x58,
                REG_DCBAAP = 0x70,
                REG_CONFIG = 0x78,
                REG_PORTS = 0x440,
                REG_RUNTIME = 0x1000,
                REG_MFINDEX = 0x1000,
                REG_IMAN = 0x1020,
                REG_IMOD = 0x1024,
                REG_ERSTSZ = 0x1028,
                REG_ERSTBA = 0x1030,
                REG_ERDP = 0x1038,
                REG_DOORBELLS = 0x2000,
                REG_BYTES = 0x4000,
                PORT_BYTES = 0x10,
};
enum {
    HCIVERSION = 0x0100,
    HCSPARAMS2_IST = 15,        /* software may add a TD until 8 frames before its time */
    HCSPARAMS2_ERST_MAX_AT = 4, /* 2^n segments */
    ERST_MAX_LOG2 = 4,
    HCCPARAMS_AC64 = 1,
    HCCPARAMS_XECP_AT = 16,
    XECP_PROTOCOL = 2,
    PAGESIZE_4K = 1,
    DNCTRL_RW = 0xffff,
    CONFIG_RW = 0xff,
    CRCR_RCS = 1,
    CRCR_CS = 2,
    CRCR_CA = 4,
    CRCR_CRR = 8,
    IMAN_IP = 1,
    IMAN_IE = 2,
    IMOD_INTERVAL = 0xffff,
    IMOD_RESET = 4000, /* 1 ms */
    IMOD_UNIT_NS = 250,
    ERDP_EHB = 8,
    MFINDEX_MASK = 0x3fff,
    MICROFRAME_NS = 125000,
};
enum { /* PORTSC, 5.4.8 */
       PORTSC_CCS = 1,
       PORTSC_PED = 2,
       PORTSC_PR = 0x10,
       PORTSC_PLS_AT = 5,
       PORTSC_PP = 0x200,
       PORTSC_SPEED_AT = 10,
       PORTSC_SPEED_FULL = 1,
       PORTSC_SPEED_HIGH = 3,
       PORTSC_LWS = 0x10000,
       PORTSC_CHANGE_AT = 17,
       PORTSC_CHANGES = 0x7f,
       PORTSC_WAKE_AT = 25,
       PORTSC_WAKES = 7,
       CHANGE_CSC = 1,
       CHANGE_PRC = 0x10,
       CHANGE_PLC = 0x20,
};
enum {
    CONFIG_SBRN = 0x60, /* 5.2.3, serial bus release number */
    SBRN_USB3 = 0x30,
    CONFIG_MSI = 0x70,
    MSI_CONTROL = 2,
    MSI_ENABLE = 1,
};
enum { RUN_TRBS = 256 };

static unsigned port_count(const struct xhci *x)
{
    return x->cfg.usb3_ports + x->cfg.usb2_ports;
}

/* What is plugged into a port (counted from 0; those of USB 3 come first). */
static struct usb_device *port_device(const struct xhci *x, unsigned port)
{
    return port < x->cfg.usb3_ports ? NULL : x->h.bus.dev[port - x->cfg.usb3_ports];
}

uint64_t xhci_now(const struct xhci *x)
{
    return loop_now(x->pd.board->loop, LOOP_VIRTUAL);
}

void xhci_come_back(struct xhci *x, uint64_t at_ns)
{
    x->h.next_ns = at_ns < x->h.next_ns ? at_ns : x->h.next_ns;
}

struct usb_device *xhci_device(const struct xhci *x, const struct xhci_slot *s, bool *asleep)
{
    const struct xhci_port *p;
    struct usb_device *d;

    *asleep = false;
    if (s->port >= x->cfg.usb2_ports) {
        return NULL;
    }
    p = &x->r.port[x->cfg.usb3_ports + s->port];
    d = x->h.bus.dev[s->port];
    if (d == NULL || !p->enabled || d->r.address != s->address) {
        return NULL;
    }
    *asleep = p->pls != PLS_U0;
    return *asleep ? NULL : d;
}

/* ---- interrupt (4.17) ---- */

static bool msi_on(const struct xhci *x)
{
    return (x->pd.config[CONFIG_MSI + MSI_CONTROL] & MSI_ENABLE) != 0;
}

static void clear_ip(struct xhci *x)
{
    if ((x->r.iman & IMAN_IP) != 0) {
        x->r.iman &= (uint8_t)~IMAN_IP;
        x->h.moderate_ns = xhci_now(x) + (uint64_t)(x->r.imod & IMOD_INTERVAL) * IMOD_UNIT_NS;
    }
}

static void update_irq(struct xhci *x)
{
    struct xhci_regs *r = &x->r;
    bool level;

    if (r->event_pending && (r->erdp & ERDP_EHB) == 0) {
        if (xhci_now(x) >= x->h.moderate_ns) {
            r->iman |= IMAN_IP;
            r->erdp |= ERDP_EHB;
            r->usbsts |= USBSTS_EINT;
        } else {
            xhci_come_back(x, x->h.moderate_ns);
        }
    }
    level =
        (r->iman & (IMAN_IP | IMAN_IE)) == (IMAN_IP | IMAN_IE) && (r->usbcmd & USBCMD_INTE) != 0;
    /* DEVIATION: one message and one interrupter; the chip has MSI-X for eight. */
    if (level && msi_on(x)) {
        pci_set_intx(&x->pd, false);
    }
    pci_set_intx(&x->pd, level);
    if (level && msi_on(x) && pci_master(&x->pd)) {
        clear_ip(x); /* a message that was sent is done with (4.17.5) */
        pci_set_intx(&x->pd, false);
    }
}

/* ---- time (5.5.1) ---- */

/* Moves the base of MFINDEX to the last microframe that began. True: it has wrapped. */
static bool frames_pass(struct xhci *x)
{
    uint64_t passed = (xhci_now(x) - x->h.frame_ns) / MICROFRAME_NS;
    uint64_t index = x->r.mfindex + passed;

    if (!xhci_running(x)) {
        return false;
    }
    x->h.frame_ns += passed * MICROFRAME_NS;
    x->r.mfindex = (uint16_t)(index & MFINDEX_MASK);
    return index > MFINDEX_MASK;
}

static void wrap_event(struct xhci *x)
{
    static const struct xhci_trb wrap = {.status = (uint32_t)CODE_SUCCESS << 24,
                                         .control = TRB_MFINDEX_WRAP << TRB_TYPE_AT};

    if ((x->r.usbcmd & USBCMD_EWE) == 0) {
        return;
    }
    if (frames_pass(x) && xhci_event_room(x)) {
        xhci_event(x, &wrap, true);
    }
    xhci_come_back(x, x->h.frame_ns + (uint64_t)(MFINDEX_MASK + 1 - x->r.mfindex) * MICROFRAME_NS);
}

/* ---- work ---- */

static void port_events(struct xhci *x)
{
    for (unsigned i = 0; i < port_count(x) && x->r.port_events != 0; i++) {
        const struct xhci_trb t = {.param = (uint64_t)(i + 1) << 24,
                                   .status = (uint32_t)CODE_SUCCESS << 24,
                                   .control = TRB_PORT_STATUS_CHANGE << TRB_TYPE_AT};

        if ((x->r.port_events >> i & 1) != 0) {
            if (!xhci_event_room(x)) {
                return;
            }
            x->r.port_events &= ~(1u << i);
            xhci_event(x, &t, true);
        }
    }
}

/* All running endpoints of a port (XHCI_NO_PORT: of all) are looked at in the next run. */
static void ring_endpoints(struct xhci *x, unsigned port)
{
    for (unsigned i = 0; i < XHCI_SLOTS; i++) {
        const struct xhci_slot *s = &x->r.slot[i];

        for (unsigned dci = 1; dci < XHCI_DCIS && s->enabled; dci++) {
            if (s->ep[dci].state == EP_RUNNING && (port == XHCI_NO_PORT || s->port == port)) {
                x->h.rung[i] |= 1u << dci;
            }
        }
    }
}

/* Of struct usb_bus; a device's idle rate (HID 1.11, 7.2.4). */
static void poll_at(void *host, unsigned port, uint64_t at_ns)
{
    struct xhci *x = host;

    x->h.poll_ns[port] = at_ns;
}

static void ring_due_ports(struct xhci *x)
{
    for (unsigned i = 0; i < x->cfg.usb2_ports; i++) {
        if (x->h.poll_ns[i] != 0 && x->h.poll_ns[i] <= xhci_now(x)) {
            x->h.poll_ns[i] = 0;
            ring_endpoints(x, i);
        }
    }
}

static void run_endpoints(struct xhci *x)
{
    ring_due_ports(x);
    for (unsigned slot = 0; slot < XHCI_SLOTS; slot++) {
        for (unsigned dci = 1; dci < XHCI_DCIS && x->h.rung[slot] != 0; dci++) {
            if ((x->h.rung[slot] >> dci & 1) != 0) {
                xhci_run_endpoint(x, slot, dci);
            }
        }
    }
}

void xhci_run(struct xhci *x)
{
    if (x->h.busy) { /* a device woke up while it was asked */
        xhci_come_back(x, xhci_now(x));
        return;
    }
    x->h.busy = true;
    x->h.budget = RUN_TRBS;
    x->h.next_ns = UINT64_MAX;
    if (xhci_running(x) && pci_master(&x->pd)) {
        port_events(x);
        wrap_event(x);
        if (x->h.command_rung) {
            xhci_run_commands(x);
        }
        run_endpoints(x);
        for (unsigned i = 0; i < x->cfg.usb2_ports; i++) {
            xhci_come_back(x, x->h.poll_ns[i] != 0 ? x->h.poll_ns[i] : UINT64_MAX);
        }
    }
    update_irq(x);
    if (x->h.next_ns == UINT64_MAX) {
        timer_cancel(&x->h.timer);
    } else {
        timer_set(&x->h.timer, x->h.next_ns);
    }
    x->h.busy = false;
}

static void timer_fired(void *arg)
{
    xhci_run(arg);
}

static void halt(struct xhci *x)
{
    (void)frames_pass(x);
    x->r.usbcmd &= ~(uint32_t)USBCMD_RS;
    x->r.usbsts |= USBSTS_HCH;
    x->r.command_running = false;
}

void xhci_fatal(struct xhci *x, const char *what, uint64_t addr)
{
    static struct log_limit limit;

    log_limited(&limit, "xhci: bad %s at %#llx: the controller stops", what,
                (unsigned long long)addr);
    halt(x);
    x->r.usbsts |= USBSTS_HSE;
}

/* ---- ports (4.19) ---- */

static void port_changed(struct xhci *x, unsigned port, uint8_t change)
{
    struct xhci_port *p = &x->r.port[port];

    if (p->change == 0) { /* PSCEG of 4.19.2 */
        x->r.port_events |= 1u << port;
    }
    p->change |= change;
    x->r.usbsts |= USBSTS_PCD;
}

/* With power, but not enabled. */
static void port_settle(const struct xhci *x, unsigned port, struct xhci_port *p)
{
    p->enabled = false;
    p->pls = port_device(x, port) != NULL ? PLS_POLLING : PLS_RX_DETECT;
}

static uint32_t portsc_value(const struct xhci *x, unsigned port)
{
    const struct xhci_port *p = &x->r.port[port];
    const struct usb_device *d = port_device(x, port);
    uint32_t v = (uint32_t)p->pls << PORTSC_PLS_AT | (uint32_t)p->change << PORTSC_CHANGE_AT |
                 (uint32_t)p->wake << PORTSC_WAKE_AT | (p->enabled ? PORTSC_PED : 0) |
                 (p->power ? PORTSC_PP : 0);

    if (d != NULL && p->power) {
        unsigned speed = d->h.speed == USB_SPEED_HIGH ? PORTSC_SPEED_HIGH : PORTSC_SPEED_FULL;

        v |= PORTSC_CCS | speed << PORTSC_SPEED_AT;
    }
    return v;
}

/* Suspend, and the two steps of resume (4.15). */
static void link_state_write(struct xhci *x, unsigned port, uint8_t pls)
{
    struct xhci_port *p = &x->r.port[port];

    if (!p->enabled) {
        return;
    }
    if (pls == PLS_U3 && p->pls == PLS_U0) {
        p->pls = PLS_U3;
    } else if (pls == PLS_RESUME && p->pls == PLS_U3) {
        p->pls = PLS_RESUME;
    } else if (pls == PLS_U0 && p->pls != PLS_U0) {
        p->pls = PLS_U0;
        port_changed(x, port, CHANGE_PLC);
        ring_endpoints(x, port - x->cfg.usb3_ports);
    }
}

static void portsc_write(struct xhci *x, unsigned port, uint32_t v)
{
    struct xhci_port *p = &x->r.port[port];
    struct usb_device *d = port_device(x, port);

    p->change &= (uint8_t) ~(v >> PORTSC_CHANGE_AT & PORTSC_CHANGES);
    p->wake = (uint8_t)(v >> PORTSC_WAKE_AT & PORTSC_WAKES);
    if ((v & PORTSC_PP) == 0) {
        if (p->power && d != NULL) {
            usb_device_reset(d);
        }
        p->power = p->enabled = false;
        p->pls = PLS_DISABLED;
        return;
    }
    if (!p->power) {
        p->power = true;
        port_settle(x, port, p);
        if (d != NULL) {
            port_changed(x, port, CHANGE_CSC);
        }
    }
    if ((v & PORTSC_PED) != 0 && p->enabled) { /* written 1 disables */
        port_settle(x, port, p);
    } else if ((v & PORTSC_PR) != 0 && d != NULL) {
        /* DEVIATION: the reset is over at once. */
        usb_device_reset(d);
        p->enabled = true;
        p->pls = PLS_U0;
        port_changed(x, port, CHANGE_PRC);
    } else if ((v & PORTSC_LWS) != 0) {
        link_state_write(x, port, (uint8_t)(v >> PORTSC_PLS_AT & 15));
    }
}

/* A device has something to say; to a suspended port by resume signalling, if the guest has asked
 * for it (4.15.2). */
static void device_wakes(void *host, unsigned port)
{
    struct xhci *x = host;
    unsigned n = x->cfg.usb3_ports + port;
    struct xhci_port *p = &x->r.port[n];

    if (!p->enabled) {
        return;
    }
    if (p->pls == PLS_U3 && x->h.bus.dev[port]->r.wakeup) {
        p->pls = PLS_RESUME;
        port_changed(x, n, CHANGE_PLC);
    }
    ring_endpoints(x, port);
    xhci_run(x);
}

/* The port has changed hands. TDs that wait for who was there fail. */
static void plugged(void *host, unsigned port)
{
    struct xhci *x = host;
    unsigned n = x->cfg.usb3_ports + port;

    if (x->r.port[n].power) {
        port_settle(x, n, &x->r.port[n]);
        port_changed(x, n, CHANGE_CSC);
    }
    ring_endpoints(x, port);
    xhci_run(x);
}

/* ---- registers ---- */

/* HCRST, and part of a reset of the function. */
static void controller_reset(struct xhci *x)
{
    struct xhci_regs *r = &x->r;

    timer_cancel(&x->h.timer);
    for (unsigned i = 0; i < XHCI_SLOTS; i++) {
        if (r->slot[i].enabled) {
            xhci_slot_clear(x, i);
        }
        x->h.rung[i] = 0;
    }
    memset(x->h.poll_ns, 0, sizeof(x->h.poll_ns));
    x->h.command_rung = false;
    x->h.moderate_ns = 0;
    /* All before the ports. */
    memset(r, 0, offsetof(struct xhci_regs, port));
    r->usbsts = USBSTS_HCH;
    r->imod = IMOD_RESET;
    for (unsigned i = 0; i < port_count(x); i++) {
        struct usb_device *d = port_device(x, i);

        r->port[i] = (struct xhci_port){.power = true};
        port_settle(x, i, &r->port[i]);
        if (d != NULL) {
            r->port[i].change = CHANGE_CSC;
            r->port_events |= 1u << i;
            /* DEVIATION: the devices are reset, too, as by hw/uhci.c. */
            usb_device_reset(d);
        }
    }
}

static void usbcmd_write(struct xhci *x, uint32_t v)
{
    uint32_t old = x->r.usbcmd;

    if ((v & USBCMD_HCRST) != 0) {
        controller_reset(x);
        return;
    }
    if ((old & USBCMD_RS) != 0 && (v & USBCMD_RS) == 0) {
        halt(x);
    }
    (void)frames_pass(x);
    if ((v & USBCMD_CSS) != 0) { /* 4.23.2; nothing is lost while a guest sleeps */
        x->r.state_saved = true;
    }
    if ((v & USBCMD_CRS) != 0 && !x->r.state_saved) {
        x->r.usbsts |= USBSTS_SRE;
    }
    x->r.usbcmd = v & USBCMD_RW;
    if ((old & USBCMD_RS) == 0 && (v & USBCMD_RS) != 0) {
        x->r.usbsts &= ~(uint32_t)USBSTS_HCH;
        x->h.frame_ns = xhci_now(x);
        ring_endpoints(x, XHCI_NO_PORT);
    }
}

/* Half of a 64-bit register: the other one stays. */
static uint64_t half_written(uint64_t old, bool high, uint32_t v)
{
    return high ? (old & UINT32_MAX) | (uint64_t)v << 32 : (old & ~(uint64_t)UINT32_MAX) | v;
}

static void crcr_write(struct xhci *x, bool high, uint32_t v)
{
    struct xhci_regs *r = &x->r;

    if (r->command_running) { /* nothing is under way here that could be aborted */
        if (!high && (v & (CRCR_CS | CRCR_CA)) != 0) {
            const struct xhci_trb t = {.param = r->command,
                                       .status = (uint32_t)CODE_RING_STOPPED << 24,
                                       .control = TRB_COMMAND_COMPLETION << TRB_TYPE_AT};

            r->command_running = x->h.command_rung = false;
            if (pci_master(&x->pd) && xhci_event_room(x)) {
                xhci_event(x, &t, true);
            }
        }
        return;
    }
    r->command = half_written(r->command, high, high ? v : v & ~63u);
    if (!high) {
        r->command_cycle = (v & CRCR_RCS) != 0;
    }
}

static void doorbell(struct xhci *x, unsigned n, uint32_t v)
{
    unsigned dci = v & 0xff;
    struct xhci_slot *s;

    if (!xhci_running(x) || n > XHCI_SLOTS) {
        return;
    }
    if (n == 0) {
        if (dci == 0) {
            x->r.command_running = x->h.command_rung = true;
        }
        return;
    }
    s = &x->r.slot[n - 1];
    if (!s->enabled || dci == 0 || dci >= XHCI_DCIS) {
        return;
    }
    if (s->ep[dci].state == EP_STOPPED && pci_master(&x->pd)) {
        s->ep[dci].state = EP_RUNNING;
        xhci_endpoint_context(x, n - 1, dci);
    }
    x->h.rung[n - 1] |= 1u << dci;
}

static void runtime_write(struct xhci *x, unsigned reg, uint32_t v)
{
    struct xhci_regs *r = &x->r;
    bool high = (reg & 4) != 0;

    switch (reg) {
    case REG_IMAN:
        if ((v & IMAN_IP) != 0) {
            clear_ip(x);
        }
        r->iman = (uint8_t)((r->iman & IMAN_IP) | (v & IMAN_IE));
        break;
    case REG_IMOD:
        r->imod = v & IMOD_INTERVAL; /* a counter that is written counts no further */
        x->h.moderate_ns = 0;
        break;
    case REG_ERSTSZ:
        r->erstsz = v < XHCI_ERST_MAX ? v & 0xffff : XHCI_ERST_MAX;
        r->erst_loaded = false;
        break;
    case REG_ERSTBA:
    case REG_ERSTBA + 4:
        r->erstba = half_written(r->erstba, high, high ? v : v & ~63u);
        r->erst_loaded = false;
        break;
    case REG_ERDP:
        r->erdp = half_written(r->erdp, false,
                               (v & ~(uint32_t)ERDP_EHB) | ((uint32_t)r->erdp & ~v & ERDP_EHB));
        r->event_pending = r->event_pending && !xhci_events_seen(x);
        break;
    case REG_ERDP + 4:
        r->erdp = half_written(r->erdp, true, v);
        r->event_pending = r->event_pending && !xhci_events_seen(x);
        break;
    default:
        break;
    }
}

static void reg_write(struct xhci *x, unsigned reg, uint32_t v)
{
    struct xhci_regs *r = &x->r;
    bool high = (reg & 4) != 0;

    switch (reg) {
    case REG_USBCMD:
        usbcmd_write(x, v);
        break;
    case REG_USBSTS:
        r->usbsts &= ~(v & USBSTS_W1C);
        break;
    case REG_DNCTRL:
        r->dnctrl = v & DNCTRL_RW;
        break;
    case REG_CRCR:
        crcr_write(x, false, v);
        break;
    case REG_CRCR + 4:
        crcr_write(x, true, v);
        break;
    case REG_DCBAAP:
    case REG_DCBAAP + 4:
        r->dcbaap = half_written(r->dcbaap, high, high ? v : v & ~63u);
        break;
    case REG_CONFIG:
        r->config = v & CONFIG_RW;
        break;
    default:
        if (reg >= REG_DOORBELLS) {
            doorbell(x, (reg - REG_DOORBELLS) / 4, v);
        } else if (reg >= REG_RUNTIME) {
            runtime_write(x, reg, v);
        } else if (reg >= REG_PORTS && (reg - REG_PORTS) / PORT_BYTES < port_count(x) &&
                   (reg & (PORT_BYTES - 1)) == 0) {
            portsc_write(x, (reg - REG_PORTS) / PORT_BYTES, v);
        }
        break;
    }
}

/* 7.2: name "USB ", where the ports are. */
static uint32_t protocol_value(const struct xhci *x, unsigned reg)
{
    bool usb3 = reg >= REG_XECP_USB3;

    switch ((reg - REG_XECP) % (REG_XECP_USB3 - REG_XECP)) {
    case 0:
        return XECP_PROTOCOL |
               (usb3 ? 0x03000000u : 0x02000000u | (REG_XECP_USB3 - REG_XECP) / 4 << 8);
    case 4:
        return 0x20425355; /* "USB " */
    case 8:
        return usb3 ? 1u | (uint32_t)x->cfg.usb3_ports << 8
                    : (x->cfg.usb3_ports + 1u) | (uint32_t)x->cfg.usb2_ports << 8;
    default:
        return 0;
    }
}

static uint32_t capability_value(const struct xhci *x, unsigned reg)
{
    switch (reg) {
    case REG_CAPLENGTH:
        return REG_OPERATIONAL | HCIVERSION << 16;
    case REG_HCSPARAMS1:
        return XHCI_SLOTS | 1u << 8 | port_count(x) << 24;
    case REG_HCSPARAMS2:
        return HCSPARAMS2_IST | ERST_MAX_LOG2 << HCSPARAMS2_ERST_MAX_AT;
    case REG_HCCPARAMS:
        return HCCPARAMS_AC64 | REG_XECP / 4 << HCCPARAMS_XECP_AT;
    case REG_DBOFF:
        return REG_DOORBELLS;
    case REG_RTSOFF:
        return REG_RUNTIME;
    default:
        return reg >= REG_XECP ? protocol_value(x, reg) : 0;
    }
}

static uint32_t runtime_value(struct xhci *x, unsigned reg)
{
    const struct xhci_regs *r = &x->r;

    switch (reg) {
    case REG_MFINDEX:
        if (xhci_running(x)) {
            uint64_t passed = (xhci_now(x) - x->h.frame_ns) / MICROFRAME_NS;

            return (uint32_t)(r->mfindex + passed) & MFINDEX_MASK;
        }
        return r->mfindex;
    case REG_IMAN:
        return r->iman;
    case REG_IMOD:
        return r->imod;
    case REG_ERSTSZ:
        return r->erstsz;
    case REG_ERSTBA:
    case REG_ERDP:
        return (uint32_t)(reg == REG_ERDP ? r->erdp : r->erstba);
    case REG_ERSTBA + 4:
    case REG_ERDP + 4:
        return (uint32_t)((reg == REG_ERDP + 4 ? r->erdp : r->erstba) >> 32);
    default:
        return 0;
    }
}

static uint32_t reg_value(struct xhci *x, unsigned reg)
{
    const struct xhci_regs *r = &x->r;

    switch (reg) {
    case REG_USBCMD:
        return r->usbcmd;
    case REG_USBSTS:
        return r->usbsts;
    case REG_PAGESIZE:
        return PAGESIZE_4K;
    case REG_DNCTRL:
        return r->dnctrl;
    case REG_CRCR: /* 5.4.5: the pointer cannot be read */
        return r->command_running ? CRCR_CRR : 0;
    case REG_DCBAAP:
        return (uint32_t)r->dcbaap;
    case REG_DCBAAP + 4:
        return (uint32_t)(r->dcbaap >> 32);
    case REG_CONFIG:
        return r->config;
    default:
        if (reg < REG_OPERATIONAL) {
            return capability_value(x, reg);
        }
        if (reg >= REG_RUNTIME) {
            return runtime_value(x, reg);
        }
        if (reg >= REG_PORTS && (reg - REG_PORTS) / PORT_BYTES < port_count(x) &&
            (reg & (PORT_BYTES - 1)) == 0) {
            return portsc_value(x, (reg - REG_PORTS) / PORT_BYTES);
        }
        return 0;
    }
}

static uint64_t regs_read(void *dev, uint64_t offset, unsigned size)
{
    unsigned reg = (unsigned)offset & ~3u;
    unsigned at = (unsigned)offset & 3;
    uint64_t v = reg_value(dev, reg);

    if (at + size > 4 && reg + 4 < REG_BYTES) {
        v |= (uint64_t)reg_value(dev, reg + 4) << 32;
    }
    return v >> 8 * at;
}

static void regs_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    trace("xhci", "write", "%#x size %u: %#x", (unsigned)offset, size, (unsigned)value);
    if (size == 4 && (offset & 3) == 0) { /* 5.1: there are no others */
        reg_write(dev, (unsigned)offset, (uint32_t)value);
        xhci_run(dev);
    }
}

static const struct io_ops regs_ops = {.read = regs_read, .write = regs_write, .max_size = 4};

static void config_written(void *dev, unsigned reg, unsigned size)
{
    struct xhci *x = dev;

    if (size == sizeof(x->pd.config)) { /* after a load: what a guest could not have written */
        for (unsigned i = 0x40; i < size; i++) {
            x->pd.config[i] = (uint8_t)((x->pd.reset_config[i] & ~x->pd.wmask[i]) |
                                        (x->pd.config[i] & x->pd.wmask[i]));
        }
    }
    if (size != sizeof(x->pd.config) &&
        ((reg <= PCI_COMMAND && reg + size > PCI_COMMAND) ||
         (reg <= CONFIG_MSI + MSI_CONTROL && reg + size > CONFIG_MSI + MSI_CONTROL))) {
        xhci_run(x);
    }
}

/* ---- life ---- */

static void xhci_reset(void *dev)
{
    controller_reset(dev); /* the line goes down with the function's reset, which follows */
}

static void endpoint_state(struct xhci_ep *ep, struct save_stream *s)
{
    save_u8(s, &ep->state);
    if (ep->state == EP_DISABLED) {
        return;
    }
    save_u8(s, &ep->type);
    save_u8(s, &ep->interval);
    save_u16(s, &ep->max_packet);
    save_bool(s, &ep->cycle);
    save_u64(s, &ep->dequeue);
    save_u32(s, &ep->offset);
    save_u32(s, &ep->edtla);
    save_bool(s, &ep->in_td);
    save_bool(s, &ep->data_in);
    save_bool(s, &ep->shrt);
    save_bool(s, &ep->reported);
    save_u8(s, &ep->pos);
    save_u8(s, &ep->len);
    save_bytes(s, ep->packet, sizeof(ep->packet));
}

static bool endpoint_valid(const struct xhci_ep *ep, unsigned dci)
{
    return ep->state == EP_DISABLED ||
           (ep->state <= EP_ERROR && xhci_endpoint_type_valid(ep->type, dci) &&
            ep->interval <= 15 && ep->max_packet != 0 && (ep->dequeue & 15) == 0 &&
            ep->offset <= XHCI_TRB_LEN && ep->edtla <= XHCI_EDTLA && ep->pos <= ep->len &&
            ep->len <= sizeof(ep->packet));
}

static void slot_state(struct xhci_slot *slot, struct save_stream *s)
{
    save_bool(s, &slot->enabled);
    if (!slot->enabled) {
        return;
    }
    save_u8(s, &slot->state);
    save_u8(s, &slot->address);
    save_u8(s, &slot->port);
    save_u64(s, &slot->context);
    for (unsigned dci = 1; dci < XHCI_DCIS; dci++) {
        endpoint_state(&slot->ep[dci], s);
    }
}

static bool slot_valid(const struct xhci *x, const struct xhci_slot *slot)
{
    bool ok = slot->state <= SLOT_CONFIGURED && slot->address <= XHCI_SLOTS &&
              (slot->port == XHCI_NO_PORT || slot->port < x->cfg.usb2_ports) &&
              (slot->context & 63) == 0;

    for (unsigned dci = 1; dci < XHCI_DCIS && slot->enabled; dci++) {
        ok = ok && endpoint_valid(&slot->ep[dci], dci) &&
             (slot->state != SLOT_ENABLED || slot->ep[dci].state == EP_DISABLED);
    }
    return ok || !slot->enabled;
}

static void ring_state(struct xhci_regs *r, struct save_stream *s)
{
    save_u32(s, &r->erstsz);
    save_u64(s, &r->erstba);
    save_u64(s, &r->erdp);
    save_bool(s, &r->erst_loaded);
    for (unsigned i = 0; i < XHCI_ERST_MAX; i++) {
        save_u64(s, &r->segment[i]);
        save_u16(s, &r->segment_trbs[i]);
    }
    save_u8(s, &r->event_segment);
    save_u16(s, &r->event_index);
    save_bool(s, &r->event_cycle);
    save_bool(s, &r->event_full);
    save_bool(s, &r->event_pending);
}

static bool ring_valid(const struct xhci_regs *r)
{
    bool ok = r->erstsz <= XHCI_ERST_MAX && (r->erstba & 63) == 0;

    for (unsigned i = 0; i < r->erstsz && ok && r->erst_loaded; i++) {
        ok = r->segment_trbs[i] >= 16 && r->segment_trbs[i] <= 4096 && (r->segment[i] & 63) == 0;
    }
    return ok && (!r->erst_loaded || (r->event_segment < r->erstsz &&
                                      r->event_index < r->segment_trbs[r->event_segment]));
}

static void port_state(struct xhci_port *p, struct save_stream *s)
{
    save_bool(s, &p->enabled);
    save_bool(s, &p->power);
    save_u8(s, &p->pls);
    save_u8(s, &p->change);
    save_u8(s, &p->wake);
}

static void regs_state(const struct xhci *x, struct xhci_regs *r, struct save_stream *s)
{
    save_u32(s, &r->usbcmd);
    save_u32(s, &r->usbsts);
    save_u32(s, &r->dnctrl);
    save_u32(s, &r->config);
    save_u64(s, &r->dcbaap);
    save_u64(s, &r->command);
    save_bool(s, &r->command_cycle);
    save_bool(s, &r->command_running);
    save_u16(s, &r->mfindex);
    save_bool(s, &r->state_saved);
    save_u8(s, &r->iman);
    save_u32(s, &r->imod);
    ring_state(r, s);
    save_u32(s, &r->port_events);
    for (unsigned i = 0; i < port_count(x); i++) {
        port_state(&r->port[i], s);
    }
    for (unsigned i = 0; i < XHCI_SLOTS; i++) {
        slot_state(&r->slot[i], s);
    }
}

static bool regs_valid(const struct xhci *x, const struct xhci_regs *r)
{
    bool ok = (r->usbcmd & ~(uint32_t)USBCMD_RW) == 0 &&
              (r->usbsts & ~(uint32_t)(USBSTS_W1C | USBSTS_HCH)) == 0 &&
              ((r->usbcmd & USBCMD_RS) == 0) == ((r->usbsts & USBSTS_HCH) != 0) &&
              (r->dnctrl & ~(uint32_t)DNCTRL_RW) == 0 && (r->config & ~(uint32_t)CONFIG_RW) == 0 &&
              (r->dcbaap & 63) == 0 && (r->command & 15) == 0 && r->mfindex <= MFINDEX_MASK &&
              r->iman <= (IMAN_IP | IMAN_IE) && r->imod <= IMOD_INTERVAL && ring_valid(r) &&
              (!r->command_running || (r->usbcmd & USBCMD_RS) != 0) &&
              r->port_events >> port_count(x) == 0;

    for (unsigned i = 0; i < port_count(x); i++) {
        const struct xhci_port *p = &r->port[i];

        ok = ok && p->pls <= PLS_RESUME && p->change <= PORTSC_CHANGES && p->wake <= PORTSC_WAKES &&
             (!p->enabled || (p->power && port_device(x, i) != NULL));
    }
    for (unsigned i = 0; i < XHCI_SLOTS; i++) {
        ok = ok && slot_valid(x, &r->slot[i]);
    }
    return ok;
}

static int xhci_state(void *dev, struct save_stream *s)
{
    struct xhci *x = dev;
    struct xhci_regs *r;

    if (!s->loading) {
        (void)frames_pass(x);
        regs_state(x, &x->r, s);
        return s->error;
    }
    r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return -ENOMEM;
    }
    regs_state(x, r, s);
    if (s->error != 0 || !regs_valid(x, r)) {
        free(r);
        return -EINVAL;
    }
    x->r = *r;
    free(r);
    memset(x->h.rung, 0, sizeof(x->h.rung));
    memset(x->h.due_ns, 0, sizeof(x->h.due_ns));
    memset(x->h.poll_ns, 0, sizeof(x->h.poll_ns));
    x->h.frame_ns = xhci_now(x);
    x->h.moderate_ns = 0;
    x->h.command_rung = x->r.command_running;
    ring_endpoints(x, XHCI_NO_PORT);
    timer_set(&x->h.timer, xhci_now(x)); /* not before all is loaded */
    return 0;
}

static void xhci_destroy(void *dev)
{
    struct xhci *x = dev;

    timer_cancel(&x->h.timer);
    free(x);
}

static const struct pci_device_ops xhci_ops = {
    .base = {.name = "xhci",
             .version = 1,
             .reset = xhci_reset,
             .state = xhci_state,
             .destroy = xhci_destroy},
    .config_written = config_written,
};

int xhci_create(struct board *b, const struct xhci_config *cfg, struct usb_bus **out)
{
    static const struct pci_config_id id = {
        .vendor = 0x1033,
        .device = 0x0194,
        .class_device = 0x0c03,
        .prog_if = 0x30,
        .revision = 3,
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
        .interrupt_pin = 1,
    };
    struct xhci *x;
    int ret;

    if (cfg->usb2_ports - 1u >= XHCI_PORTS_MAX || cfg->usb3_ports - 1u >= XHCI_PORTS_MAX) {
        return -EINVAL; /* out of saved state */
    }
    x = calloc(1, sizeof(*x));
    if (x == NULL) {
        return -ENOMEM;
    }
    x->cfg = *cfg;
    timer_init(&x->h.timer, b->loop, LOOP_VIRTUAL, timer_fired, x);
    pci_init(&x->pd, b, &xhci_ops, x, cfg->devfn, &id);
    memset(x->pd.wmask + 0x40, 0, sizeof(x->pd.wmask) - 0x40);
    x->pd.config[CONFIG_SBRN] = SBRN_USB3;
    pci_add_msi(&x->pd, CONFIG_MSI);
    pci_add_bar(&x->pd, 0, PCI_BAR_MEM64, REG_BYTES, &regs_ops);
    x->h.bus = (struct usb_bus){.host = x,
                                .ports = cfg->usb2_ports,
                                .speed = USB_SPEED_HIGH,
                                .plugged = plugged,
                                .wake = device_wakes,
                                .poll_at = poll_at};
    ret = pci_finish(&x->pd);
    if (ret != 0) {
        free(x);
        return ret;
    }
    *out = &x->h.bus;
    return 0;
}
