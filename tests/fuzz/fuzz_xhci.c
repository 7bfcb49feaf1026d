/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xHCI with a tablet and a keyboard. Rings and contexts lie in the first 16 KiB, which the input overwrites: event ring and
 * segment table, DCBAA, input and output contexts, a command ring, and transfer rings of eight TRBs. Events put sensible TRBs and
 * contexts there, ring doorbells, move the pointer, plug and unplug; everything can be spoilt afterwards.
 */
#include <stdlib.h>
#include <string.h>

#include "core/pci.h"
#include "hw/usb.h"
#include "hw/usb_hid.h"
#include "hw/xhci.h"
#include "hw/xhci_int.h"
#include "tests/fuzz/fuzz.h"
#include "ui/input.h"

enum {
    DEVFN = PCI_DEVFN(4, 0),
    MMIO = 0xf0000000,
    DCBAA = 0,
    ERST = 0x240,
    COMMANDS = 0x280, /* 16 TRBs */
    EVENTS = 0x400,   /* 2 * 32 TRBs */
    INPUT = 0x800,
    CONTEXTS = 0x1000, /* 0x400 each, of slots 1 to 4 */
    RINGS = 0x2000,    /* 0x80 each: 8 TRBs; 8 for each slot */
    DATA_AT = 0x3000,
    SLOTS = 4,
    COMMAND_TRBS = 16,
    RING_TRBS = 8,
};

static struct input *input;
static struct usb_bus *bus;
static struct usb_device *d[2];
static unsigned command_at, ring_at[SLOTS][8];
static bool command_cycle, ring_cycle[SLOTS][8];

static void poke(struct harness *h, uint32_t addr, uint32_t v)
{
    memcpy(h->plat.ram + addr, &v, sizeof(v));
}

static void out(struct harness *h, unsigned reg, uint32_t v)
{
    harness_write(h, MMIO + reg, 4, v);
}

static void trb(struct harness *h, uint32_t at, uint64_t param, uint32_t status, uint32_t control)
{
    poke(h, at, (uint32_t)param);
    poke(h, at + 4, (uint32_t)(param >> 32));
    poke(h, at + 8, status);
    poke(h, at + 12, control);
}

static void command(struct harness *h, unsigned type, uint64_t param, uint32_t control)
{
    trb(h, COMMANDS + 16 * command_at, param, 0, type << 10 | control | command_cycle);
    if (++command_at == COMMAND_TRBS - 1) {
        trb(h, COMMANDS + 16 * command_at, COMMANDS, 0, TRB_LINK << 10 | 2u | command_cycle);
        command_at = 0;
        command_cycle = !command_cycle;
    }
    out(h, 0x2000, 0);
}

static uint32_t ring_base(unsigned slot, unsigned dci)
{
    return RINGS + 0x400 * (slot % SLOTS) + 0x80 * (dci % 8);
}

static void transfer(struct harness *h, unsigned slot, unsigned dci, unsigned type, uint64_t param,
                     uint32_t status, uint32_t control)
{
    unsigned *at = &ring_at[slot % SLOTS][dci % 8];
    bool *cycle = &ring_cycle[slot % SLOTS][dci % 8];

    trb(h, ring_base(slot, dci) + 16 * *at, param, status, type << 10 | control | *cycle);
    if (++*at == RING_TRBS - 1) {
        trb(h, ring_base(slot, dci) + 16 * *at, ring_base(slot, dci), 0,
            TRB_LINK << 10 | 2u | (control & TRB_CHAIN) | *cycle);
        *at = 0;
        *cycle = !*cycle;
    }
}

static void ring_init(struct harness *h, unsigned slot, unsigned dci)
{
    ring_at[slot % SLOTS][dci % 8] = 0;
    ring_cycle[slot % SLOTS][dci % 8] = true;
    memset(h->plat.ram + ring_base(slot, dci), 0, 16 * RING_TRBS);
}

static void start(struct harness *h)
{
    harness_pci_write(h, DEVFN, PCI_BAR0, 4, MMIO);
    harness_pci_write(h, DEVFN, PCI_BAR0 + 4, 4, 0);
    harness_pci_write(h, DEVFN, PCI_COMMAND, 2, 6);
    memset(h->plat.ram, 0, 0x4000);
    for (unsigned i = 1; i <= SLOTS; i++) {
        poke(h, DCBAA + 8 * i, CONTEXTS + 0x400 * (i - 1));
        for (unsigned dci = 0; dci < 8; dci++) {
            ring_init(h, i, dci);
        }
    }
    command_at = 0;
    command_cycle = true;
    for (unsigned i = 0; i < 2; i++) {
        poke(h, ERST + 16 * i, EVENTS + 0x200 * i);
        poke(h, ERST + 16 * i + 8, 32);
    }
    out(h, 0x78, 64);
    out(h, 0x70, DCBAA);
    out(h, 0x58, COMMANDS | 1);
    out(h, 0x1028, 2);
    out(h, 0x1038, EVENTS);
    out(h, 0x1030, ERST);
    out(h, 0x1020, 2);
    out(h, 0x40, 5);
}

static void setup(struct harness *h)
{
    const struct xhci_config cfg = {.devfn = DEVFN, .usb2_ports = 3, .usb3_ports = 2};

    input = fuzz_input(h);
    if (xhci_create(&h->board, &cfg, &bus) != 0 ||
        usb_hid_create(&h->board, USB_HID_TABLET, input, &d[0]) != 0 ||
        usb_hid_create(&h->board, USB_HID_KEYBOARD, input, &d[1]) != 0 ||
        usb_bus_plug(bus, USB_ANY_PORT, d[0]) != 0 || usb_bus_plug(bus, USB_ANY_PORT, d[1]) != 0) {
        abort();
    }
    start(h);
}

static void input_context(struct harness *h, unsigned port, unsigned slot, uint32_t drop,
                          uint32_t add, unsigned dci, unsigned type, unsigned max_packet,
                          unsigned interval)
{
    memset(h->plat.ram + INPUT, 0, 0x400);
    poke(h, INPUT, drop);
    poke(h, INPUT + 4, add);
    poke(h, INPUT + 32, 3u << 20 | 3u << 27);
    poke(h, INPUT + 36, (3 + port) << 16);
    poke(h, INPUT + 32 * (dci + 1), interval << 16);
    poke(h, INPUT + 32 * (dci + 1) + 4, 6 | type << 3 | max_packet << 16);
    poke(h, INPUT + 32 * (dci + 1) + 8,
         (ring_base(slot, dci) + 16 * ring_at[slot % SLOTS][dci % 8]) |
             ring_cycle[slot % SLOTS][dci % 8]);
}

static void control(struct harness *h, const uint8_t b[8])
{
    static const uint8_t requests[][4] = {
        {0x00, 5, 1, 0}, {0x00, 5, 2, 0},  {0x00, 9, 1, 0},    {0x80, 6, 0, 1},
        {0x80, 6, 0, 2}, {0x80, 6, 1, 3},  {0x81, 6, 0, 0x22}, {0x21, 10, 0, 1},
        {0x21, 9, 0, 2}, {0x21, 11, 0, 0}, {0xa1, 1, 0, 1},    {0x00, 3, 1, 0},
        {0x02, 3, 0, 0}, {0x02, 1, 0, 0},  {0x00, 9, 0, 0},    {0xa1, 2, 0, 0},
    };
    const uint8_t *r = requests[b[1] % (sizeof(requests) / sizeof(requests[0]))];
    unsigned slot = 1 + b[2] % SLOTS;
    unsigned len = b[4] % 100;
    bool in = (r[0] & 0x80) != 0 && len != 0;
    uint64_t packet = (uint64_t)r[0] | (uint64_t)r[1] << 8 | (uint64_t)r[2] << 16 |
                      (uint64_t)r[3] << 24 | (uint64_t)(r[0] == 2 ? 0x81 : 0) << 32 |
                      (uint64_t)len << 48;
    unsigned pieces = b[5] % 3;

    transfer(h, slot, 1, TRB_SETUP, packet, 8, TRB_IDT);
    if (len != 0) {
        transfer(h, slot, 1, TRB_DATA, DATA_AT, pieces != 0 ? b[6] % (len + 1) : len,
                 (in ? TRB_DIR_IN : 0) | (pieces != 0 ? TRB_CHAIN : 0) |
                     (b[7] & (TRB_IOC | TRB_ISP)));
        for (unsigned i = 0; i < pieces; i++) {
            transfer(h, slot, 1, TRB_NORMAL, DATA_AT + 0x100 * i, len,
                     (i + 1 < pieces || (b[7] & 1) != 0 ? TRB_CHAIN : 0) |
                         (b[7] & (TRB_IOC | TRB_ISP)));
        }
        if (pieces != 0 && (b[7] & 1) != 0) {
            transfer(h, slot, 1, TRB_EVENT_DATA, 0x1234, 0, TRB_IOC);
        }
    }
    transfer(h, slot, 1, TRB_STATUS, 0, 0, (in ? 0 : TRB_DIR_IN) | TRB_IOC);
    out(h, 0x2000 + 4 * slot, 1);
}

/* Enables, addresses and configures a slot for a port. */
static void enumerate(struct harness *h, unsigned port)
{
    unsigned slot = port + 1;
    const uint8_t configure[8] = {0, 2, (uint8_t)port, 0, 0, 0, 0, 0};

    out(h, 0x460 + 0x10 * port, 0x210);
    command(h, TRB_ENABLE_SLOT, 0, 0);
    ring_init(h, slot, 1);
    ring_init(h, slot, 3);
    input_context(h, port, slot, 0, 3, 1, EP_CONTROL, 64, 0);
    command(h, TRB_ADDRESS_DEVICE, INPUT, slot << 24);
    input_context(h, port, slot, 0, 9, 3, EP_INTERRUPT_IN, 8, 6);
    command(h, TRB_CONFIGURE_ENDPOINT, INPUT, slot << 24);
    control(h, configure);
}

static void event(struct harness *h, const uint8_t b[8])
{
    static const uint64_t links[] = {
        RINGS, 0xfffffffffffffff0, 0xa0000, HARNESS_RAM_SIZE - 16, COMMANDS, EVENTS, MMIO, 0};
    unsigned slot = 1 + b[1] % SLOTS;
    unsigned dci = b[2] % 8;

    switch (b[0] % 16) {
    case 0:
    case 1:
        control(h, b);
        break;
    case 2: /* interrupt transfers */
    case 3:
        transfer(h, slot, 3, TRB_NORMAL, DATA_AT, b[3] % 16, b[4]);
        out(h, 0x2000 + 4 * slot, 3);
        break;
    case 4: /* any TRB */
        transfer(h, slot, dci, b[3] & 63, (b[4] & 1) != 0 ? links[b[5] & 7] : ring_base(slot, b[5]),
                 b[6] * 3u, (uint32_t)b[7] << 2);
        out(h, 0x2000 + 4 * slot, dci);
        break;
    case 5: /* any command */
        command(h, 8 + b[3] % 17u, (b[4] & 1) != 0 ? links[b[5] & 7] : INPUT,
                (slot << 24 | dci << 16) | (b[6] & 1u) << 9);
        break;
    case 6: /* a context, and the command that takes it */
        input_context(h, b[1] & 7, slot, (b[3] & 1) != 0 ? 1u << dci : 0, 1u << dci | (b[3] & 3u),
                      dci, b[4] & 7, b[5], b[6]);
        command(h, 11 + b[7] % 3u, INPUT, slot << 24);
        break;
    case 7: /* stop, reset, set dequeue pointer */
        ring_init(h, slot, dci);
        command(h, TRB_RESET_ENDPOINT + (b[3] & 1u), 0, slot << 24 | dci << 16);
        command(h, TRB_SET_TR_DEQUEUE, ring_base(slot, dci) | 1, slot << 24 | dci << 16);
        break;
    case 8:
        input_send(input,
                   &(struct input_event){.type = INPUT_EVENT_KEY, .key = b[1], .down = b[2] & 1});
        break;
    case 9:
        input_send(input, &(struct input_event){.type = INPUT_EVENT_ABSOLUTE,
                                                .x = b[2] | b[3] << 8,
                                                .y = b[4] * 128,
                                                .dz = (int8_t)b[5],
                                                .buttons = b[6]});
        break;
    case 10: /* the guest has seen events */
        out(h, 0x1020, 3);
        out(h, 0x1038, (EVENTS + 16u * (b[1] & 63)) | 8);
        break;
    case 11:
        out(h, 0x440 + 0x10 * (b[1] % 6u),
            (uint32_t)b[2] << 4 | (uint32_t)b[3] << 16 | (b[4] & 3u));
        break;
    case 12:
        enumerate(h, b[1] % 3);
        break;
    case 13: /* unplugged, plugged in again, in another port perhaps */
        usb_bus_unplug(bus, b[1] & 3);
        for (unsigned i = 0; i < 2; i++) {
            if (d[i]->h.bus == NULL && (b[2] & 1u << i) != 0) {
                (void)usb_bus_plug(bus, (b[3] & 1) != 0 ? USB_ANY_PORT : (int)(b[3] >> 1 & 3),
                                   d[i]);
            }
        }
        break;
    case 14:
        harness_step(h, (uint64_t)b[1] << 17 | (uint64_t)(b[2] & 3) << 30);
        break;
    default:
        if ((b[1] & 7) == 0) {
            out(h, 0x40, 2);
            start(h);
        } else {
            out(h, 0x40, b[2] | (uint32_t)b[3] << 8);
        }
        break;
    }
}

/* The line is up exactly when an enabled interrupt is pending. */
static void check(struct harness *h)
{
    struct pci_device *pd = pci_find(h->board.pci, DEVFN);
    const struct xhci *x = pd != NULL ? pd->dev : NULL;

    if (x != NULL && pd->intx_level != ((x->r.iman & 3) == 3 && (x->r.usbcmd & USBCMD_INTE) != 0)) {
        abort();
    }
}

static const struct fuzz_range mmio[] = {{MMIO, 0x60},          {MMIO + 0x40, 0x40},
                                         {MMIO + 0x440, 0x60},  {MMIO + 0x1020, 0x20},
                                         {MMIO + 0x2000, 0x14}, {0, 0}};
static const uint8_t devfns[] = {DEVFN, 0xff};

FUZZ_DEVICE(.setup = setup, .mmio = mmio, .devfns = devfns, .event = event, .check = check)
