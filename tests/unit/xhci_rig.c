/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/xhci_rig.h"

#include <stdlib.h>
#include <string.h>

enum { EP_INTERRUPT = 7, EP_CONTROL = 4, EVENTS = 2 * XHCI_SEGMENT_TRBS };

void xhci_rig_create(struct xhci_rig *r, enum usb_hid_kind first, enum usb_hid_kind second)
{
    const struct xhci_config cfg = {.devfn = XHCI_DEVFN, .usb2_ports = 4, .usb3_ports = 4};
    enum usb_hid_kind kinds[2] = {first, second};

    *r = (struct xhci_rig){.h = harness_create()};
    r->input = input_create(r->h->loop);
    if (r->input == NULL || xhci_create(&r->h->board, &cfg, &r->bus) != 0) {
        abort();
    }
    for (unsigned i = 0; i < 2; i++) {
        if (kinds[i] != USB_HID_KINDS &&
            (usb_hid_create(&r->h->board, kinds[i], r->input, &r->dev[i]) != 0 ||
             usb_bus_plug(r->bus, USB_ANY_PORT, r->dev[i]) != 0)) {
            abort();
        }
    }
    harness_pci_write(r->h, XHCI_DEVFN, PCI_BAR0, 4, XHCI_MMIO);
    harness_pci_write(r->h, XHCI_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void xhci_rig_destroy(struct xhci_rig *r)
{
    struct input *input = r->input;

    board_fini(&r->h->board); /* devices take leave of the input first */
    input_destroy(input);
    harness_destroy(r->h);
}

uint32_t xhci_rig_in(struct xhci_rig *r, unsigned reg)
{
    return (uint32_t)harness_read(r->h, XHCI_MMIO + reg, 4);
}

void xhci_rig_out(struct xhci_rig *r, unsigned reg, uint32_t v)
{
    harness_write(r->h, XHCI_MMIO + reg, 4, v);
}

uint32_t xhci_rig_peek(struct xhci_rig *r, uint32_t addr)
{
    uint32_t v;

    memcpy(&v, r->h->plat.ram + addr, sizeof(v));
    return v;
}

void xhci_rig_poke(struct xhci_rig *r, uint32_t addr, uint32_t value)
{
    memcpy(r->h->plat.ram + addr, &value, sizeof(value));
}

unsigned xhci_rig_portsc(unsigned n)
{
    return 0x440 + 0x10 * (4 + n);
}

static void put_trb(struct xhci_rig *r, uint32_t at, uint64_t param, uint32_t status,
                    uint32_t control)
{
    xhci_rig_poke(r, at, (uint32_t)param);
    xhci_rig_poke(r, at + 4, (uint32_t)(param >> 32));
    xhci_rig_poke(r, at + 8, status);
    xhci_rig_poke(r, at + 12, control);
}

uint32_t xhci_rig_put(struct xhci_rig *r, struct xhci_rig_ring *ring, unsigned type, uint64_t param,
                      uint32_t status, uint32_t control)
{
    uint32_t at = ring->base + 16 * ring->next;

    put_trb(r, at, param, status, type << 10 | control | ring->cycle);
    if (++ring->next == XHCI_RING_TRBS - 1) {
        put_trb(r, ring->base + 16 * ring->next, ring->base, 0,
                6 << 10 | X_TOGGLE | (control & X_CHAIN) | ring->cycle);
        ring->next = 0;
        ring->cycle = !ring->cycle;
    }
    return at;
}

void xhci_rig_ring_init(struct xhci_rig *r, unsigned slot, unsigned dci)
{
    uint32_t base = XHCI_RINGS + 0x8000 * slot + 0x400 * dci;

    r->ring[slot][dci] = (struct xhci_rig_ring){.base = base, .cycle = true};
    memset(r->h->plat.ram + base, 0, 16 * XHCI_RING_TRBS);
}

void xhci_rig_start(struct xhci_rig *r)
{
    xhci_rig_out(r, X_USBCMD, 2);
    memset(r->h->plat.ram + XHCI_DCBAA, 0, 0x10000);
    for (uint32_t slot = 1; slot <= 64; slot++) {
        xhci_rig_poke(r, XHCI_DCBAA + 8 * slot, XHCI_CONTEXTS + 0x400 * slot);
    }
    r->commands = (struct xhci_rig_ring){.base = XHCI_COMMANDS, .cycle = true};
    r->event = 0;
    r->event_cycle = true;
    xhci_rig_poke(r, XHCI_ERST, XHCI_EVENTS);
    xhci_rig_poke(r, XHCI_ERST + 8, XHCI_SEGMENT_TRBS);
    xhci_rig_poke(r, XHCI_ERST + 16, XHCI_EVENTS2);
    xhci_rig_poke(r, XHCI_ERST + 24, XHCI_SEGMENT_TRBS);
    xhci_rig_out(r, X_CONFIG, 64);
    xhci_rig_out(r, X_DCBAAP, XHCI_DCBAA);
    xhci_rig_out(r, X_CRCR, XHCI_COMMANDS | 1);
    xhci_rig_out(r, X_CRCR + 4, 0);
    xhci_rig_out(r, X_ERSTSZ, 2);
    xhci_rig_out(r, X_ERDP, XHCI_EVENTS);
    xhci_rig_out(r, X_ERDP + 4, 0);
    xhci_rig_out(r, X_ERSTBA, XHCI_ERST);
    xhci_rig_out(r, X_ERSTBA + 4, 0);
    xhci_rig_out(r, X_IMOD, 0);
    xhci_rig_out(r, X_IMAN, 2);
    xhci_rig_out(r, X_USBCMD, 5);
}

void xhci_rig_doorbell(struct xhci_rig *r, unsigned slot, unsigned dci)
{
    xhci_rig_out(r, X_DOORBELL + 4 * slot, dci);
}

static uint32_t event_at(unsigned n)
{
    return n < XHCI_SEGMENT_TRBS ? XHCI_EVENTS + 16 * n
                                 : XHCI_EVENTS2 + 16 * (n - XHCI_SEGMENT_TRBS);
}

bool xhci_rig_event(struct xhci_rig *r, struct xhci_rig_trb *t)
{
    uint32_t at = event_at(r->event);

    *t = (struct xhci_rig_trb){.param =
                                   (uint64_t)xhci_rig_peek(r, at + 4) << 32 | xhci_rig_peek(r, at),
                               .status = xhci_rig_peek(r, at + 8),
                               .control = xhci_rig_peek(r, at + 12)};
    if ((t->control & 1) != r->event_cycle) {
        return false;
    }
    if (++r->event == EVENTS) {
        r->event = 0;
        r->event_cycle = !r->event_cycle;
    }
    xhci_rig_out(r, X_IMAN, 3);
    xhci_rig_out(r, X_ERDP, event_at(r->event) | 8);
    return true;
}

unsigned xhci_rig_events(struct xhci_rig *r, unsigned type)
{
    struct xhci_rig_trb t;
    unsigned n = 0;

    while (xhci_rig_event(r, &t)) {
        if ((t.control >> 10 & 63) == type) {
            r->last = t;
            n++;
        }
    }
    return n;
}

unsigned xhci_rig_command(struct xhci_rig *r, unsigned type, uint64_t param, uint32_t control)
{
    uint32_t at = xhci_rig_put(r, &r->commands, type, param, 0, control);
    struct xhci_rig_trb t;
    unsigned code = 0;

    xhci_rig_doorbell(r, 0, 0);
    while (xhci_rig_event(r, &t)) {
        unsigned got = t.control >> 10 & 63;

        if ((got == 33 || got == 48) && t.param == at) {
            r->last = t;
            code = t.status >> 24;
        }
    }
    return code;
}

void xhci_rig_input(struct xhci_rig *r, unsigned port, unsigned slot, uint32_t drop, uint32_t add)
{
    memset(r->h->plat.ram + XHCI_INPUT, 0, 33 * 32);
    xhci_rig_poke(r, XHCI_INPUT, drop);
    xhci_rig_poke(r, XHCI_INPUT + 4, add);
    xhci_rig_poke(r, XHCI_INPUT + 32, 3u << 20 | 3u << 27);
    xhci_rig_poke(r, XHCI_INPUT + 36, (5 + port) << 16);
    xhci_rig_input_endpoint(r, slot, 1, EP_CONTROL, 64, 0);
}

void xhci_rig_input_endpoint(struct xhci_rig *r, unsigned slot, unsigned dci, unsigned type,
                             unsigned max_packet, unsigned interval)
{
    uint32_t at = XHCI_INPUT + 32 * (dci + 1);

    if (r->ring[slot][dci].base == 0) {
        xhci_rig_ring_init(r, slot, dci);
    }
    xhci_rig_poke(r, at, interval << 16);
    xhci_rig_poke(r, at + 4, 3u << 1 | type << 3 | max_packet << 16);
    xhci_rig_poke(r, at + 8,
                  (r->ring[slot][dci].base + 16 * r->ring[slot][dci].next) |
                      r->ring[slot][dci].cycle);
    xhci_rig_poke(r, at + 12, 0);
    xhci_rig_poke(r, at + 16, 8);
}

void xhci_rig_enumerate(struct xhci_rig *r, unsigned port)
{
    unsigned reg = xhci_rig_portsc(port);
    unsigned slot = port + 1;

    xhci_rig_out(r, reg, 0x200 | 0x10);
    xhci_rig_out(r, reg, 0x200 | 0xfe0000);
    if (xhci_rig_command(r, 9, 0, 0) != 1 || r->last.control >> 24 != slot) {
        abort();
    }
    xhci_rig_ring_init(r, slot, 1);
    xhci_rig_ring_init(r, slot, 3);
    xhci_rig_input(r, port, slot, 0, 3);
    if (xhci_rig_command(r, 11, XHCI_INPUT, slot << 24) != 1) {
        abort();
    }
    xhci_rig_input(r, port, slot, 0, 1 | 8);
    xhci_rig_input_endpoint(r, slot, 3, EP_INTERRUPT, 8, 6);
    if (xhci_rig_command(r, 12, XHCI_INPUT, slot << 24) != 1 ||
        xhci_rig_control(r, slot, 0, USB_SET_CONFIGURATION, 1, 0, 0, NULL, NULL) != 1) {
        abort();
    }
}

unsigned xhci_rig_control(struct xhci_rig *r, unsigned slot, uint8_t type, uint8_t request,
                          uint16_t value, uint16_t index, uint16_t length, uint8_t *data,
                          unsigned *got)
{
    uint64_t setup = (uint64_t)type | (uint64_t)request << 8 | (uint64_t)value << 16 |
                     (uint64_t)index << 32 | (uint64_t)length << 48;
    bool in = (type & 0x80) != 0 && length != 0;
    struct xhci_rig_ring *ring = &r->ring[slot][1];
    struct xhci_rig_trb t;
    unsigned residue = 0;
    unsigned code = 0;
    uint32_t stage = 0;

    xhci_rig_put(r, ring, 2, setup, 8, X_IDT);
    if (length != 0) {
        if (!in) {
            memcpy(r->h->plat.ram + XHCI_BUFFER, data, length);
        }
        stage = xhci_rig_put(r, ring, 3, XHCI_BUFFER, length, X_ISP | (in ? X_DIR_IN : 0));
    }
    xhci_rig_put(r, ring, 4, 0, 0, X_IOC | (in ? 0 : X_DIR_IN));
    xhci_rig_doorbell(r, slot, 1);
    while (xhci_rig_event(r, &t)) {
        if ((t.control >> 10 & 63) == 32 && t.control >> 24 == slot) {
            r->last = t;
            code = t.status >> 24;
            residue = t.param == stage ? t.status & 0xffffff : residue;
        }
    }
    if (got != NULL) {
        *got = length - residue;
    }
    if (in && data != NULL && code == 1) {
        memcpy(data, r->h->plat.ram + XHCI_BUFFER, length - residue);
    }
    return code;
}

uint32_t xhci_rig_poll(struct xhci_rig *r, unsigned slot, unsigned len)
{
    uint32_t at = xhci_rig_put(r, &r->ring[slot][3], 1, XHCI_BUFFER + 0x800, len, X_IOC | X_ISP);

    xhci_rig_doorbell(r, slot, 3);
    return at;
}
