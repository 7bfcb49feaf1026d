/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * EHCI with its companions, a tablet and a keyboard. The schedule lies in the first 20 KiB, which the input
 * overwrites: frame list at 0, queue heads, descriptors and isochronous ones behind it. Events write sensible ones,
 * whole control transfers, input, port resets and owners; everything can be spoilt afterwards.
 */
#include <stdlib.h>
#include <string.h>

#include "core/pci.h"
#include "hw/ehci_int.h"
#include "hw/uhci.h"
#include "hw/usb.h"
#include "hw/usb_hid.h"
#include "tests/fuzz/fuzz.h"
#include "ui/input.h"

enum {
    DEVFN = PCI_DEVFN(0x1d, 7),
    COMPANIONS = 3,
    IO = 0xc000, /* the companions', 0x20 each */
    FRAME_LIST = 0,
    QHS = 0x1000,  /* 64 bytes apart */
    QTDS = 0x2000, /* 32 */
    ISO = 0x3000,  /* iTDs and siTDs, 64 */
    DATA = 0x4000, /* 64 bytes each */
    SLOTS = 64,
    T = 1,
    QH = 2,
    ACTIVE = 0x80,
    CMD = 0x20,
    PORT = 0x64,
};
#define MMIO UINT64_C(0xf0000000)

static struct input *input;
static struct usb_bus *bus, *companion[COMPANIONS];
static struct usb_device *d[2];

static void poke(struct harness *h, uint32_t addr, uint32_t v)
{
    memcpy(h->plat.ram + addr, &v, sizeof(v));
}

static void wr(struct harness *h, unsigned reg, uint32_t v)
{
    harness_write(h, MMIO + reg, 4, v);
}

static uint32_t qh_at(unsigned slot)
{
    return QHS + 64 * (slot % SLOTS);
}

static uint32_t qtd_at(unsigned slot)
{
    return QTDS + 32 * (slot % SLOTS);
}

static void qh(struct harness *h, unsigned slot, uint32_t link, uint32_t endpoint, uint32_t masks,
               uint32_t qtd)
{
    uint32_t at = qh_at(slot);

    memset(h->plat.ram + at, 0, 48);
    poke(h, at, link);
    poke(h, at + 4, endpoint);
    poke(h, at + 8, masks);
    poke(h, at + 16, qtd);
    poke(h, at + 20, T);
}

static void qtd(struct harness *h, unsigned slot, uint32_t next, uint32_t alternate, uint32_t token)
{
    uint32_t at = qtd_at(slot);

    poke(h, at, next);
    poke(h, at + 4, alternate);
    poke(h, at + 8, token);
    for (uint32_t i = 0; i < 5; i++) {
        poke(h, at + 12 + 4 * i, DATA + 64 * (slot % SLOTS) * (i == 0) + 0x1000 * i);
    }
}

/* Slots 0-7: the ring, of which 0 is the head; 8-15: interrupt queues, each frame with one. */
static void start(struct harness *h)
{
    harness_pci_write(h, DEVFN, PCI_BAR0, 4, (uint32_t)MMIO);
    harness_pci_write(h, DEVFN, PCI_COMMAND, 2, 7);
    for (unsigned i = 0; i < COMPANIONS; i++) {
        harness_pci_write(h, (uint8_t)(0xe8 + i), PCI_BAR0 + 16, 4, IO + 0x20 * i);
        harness_pci_write(h, (uint8_t)(0xe8 + i), PCI_COMMAND, 2, 7);
    }
    for (unsigned i = 0; i < 1024; i++) {
        poke(h, FRAME_LIST + 4 * i, qh_at(8 + (i & 7)) | QH);
    }
    for (unsigned i = 0; i < 8; i++) {
        qh(h, i, qh_at((i + 1) % 8) | QH, i == 0 ? 0x8000 : 0x40406000 + i % 3, 0x40000000, T);
        qh(h, 8 + i, T, 0x00082101 + i % 2, 0x40000001, T);
    }
    wr(h, 0x34, FRAME_LIST);
    wr(h, 0x38, qh_at(0));
    wr(h, 0x28, 0x3f);
    wr(h, CMD, 0x80031);
    wr(h, 0x60, 1);
}

static void setup(struct harness *h)
{
    input = fuzz_input(h);
    if (ehci_create(&h->board, DEVFN, EHCI_ICH9, &bus) != 0) {
        abort();
    }
    for (unsigned i = 0; i < COMPANIONS; i++) {
        if (uhci_create(&h->board, (uint8_t)(0xe8 + i), UHCI_ICH9_1 + i, &companion[i]) != 0 ||
            ehci_add_companion(bus, 2 * i, companion[i]) != 0) {
            abort();
        }
    }
    if (usb_hid_create(&h->board, USB_HID_TABLET, input, &d[0]) != 0 ||
        usb_hid_create(&h->board, USB_HID_KEYBOARD, input, &d[1]) != 0 ||
        usb_bus_plug(bus, USB_ANY_PORT, d[0]) != 0 || usb_bus_plug(bus, USB_ANY_PORT, d[1]) != 0) {
        abort();
    }
    start(h);
}

/* SETUP, data, status, in a queue of the ring. */
static void control(struct harness *h, const uint8_t b[8])
{
    static const uint8_t requests[][4] = {
        {0x00, 5, 1, 0}, {0x00, 5, 2, 0},  {0x00, 9, 1, 0},    {0x80, 6, 0, 1},
        {0x80, 6, 0, 2}, {0x80, 6, 1, 3},  {0x81, 6, 0, 0x22}, {0x21, 10, 0, 1},
        {0x21, 9, 0, 2}, {0x21, 11, 0, 0}, {0xa1, 1, 0, 1},    {0x00, 3, 1, 0},
        {0x02, 3, 0, 0}, {0x02, 1, 0, 0},  {0x00, 9, 0, 0},    {0x80, 6, 0, 6},
    };
    const uint8_t *r = requests[b[1] % (sizeof(requests) / sizeof(requests[0]))];
    unsigned slot = b[2] % SLOTS;
    unsigned len = b[4] % 100;
    bool in = (r[0] & 0x80) != 0 && len != 0;
    uint8_t packet[8] = {r[0], r[1], r[2], r[3], r[0] == 2 ? 0x81 : 0, 0, (uint8_t)len, 0};
    uint32_t token = ACTIVE | (uint32_t)(b[5] & 15) << 10;

    memcpy(h->plat.ram + DATA + 64 * slot, packet, sizeof(packet));
    qtd(h, slot, qtd_at(slot + 1), T, token | 2 << 8 | 8 << 16);
    qtd(h, slot + 1, qtd_at(slot + 2), (b[6] & 1) != 0 ? qtd_at(slot + 2) : (uint32_t)T,
        token | (in ? 0x100 : 0) | len << 16 | 1u << 31);
    qtd(h, slot + 2, T, T, token | (in ? 0 : 0x100) | 1 << 15 | 1u << 31);
    qh(h, 1 + b[7] % 7u, qh_at((2 + b[7] % 7u) % 8) | QH, 0x40406000 | b[3] % 3u, 0x40000000,
       qtd_at(slot));
}

/* Both configured, at addresses 1 and 2. */
static void configure(struct harness *h)
{
    for (unsigned i = 0; i < 2; i++) {
        uint8_t c[8] = {0, (uint8_t)i, 0, 0, 0, 3, 0, 0};

        wr(h, PORT + 4 * i, 0x1102);
        wr(h, PORT + 4 * i, 0x1000);
        control(h, c);
        harness_step(h, 40000000);
        c[1] = 2;
        c[3] = (uint8_t)(1 + i);
        control(h, c);
        harness_step(h, 40000000);
    }
}

static void replug(const uint8_t b[8])
{
    usb_bus_unplug(bus, b[1] & 7);
    for (unsigned i = 0; i < 2; i++) {
        if (d[i]->h.bus == NULL && (b[2] & 1u << i) != 0) {
            (void)usb_bus_plug(bus, (b[3] & 1) != 0 ? USB_ANY_PORT : (int)(b[3] >> 1 & 7), d[i]);
        }
    }
}

/* Frames, queues and descriptors, of the right kind or not. */
static void structures(struct harness *h, const uint8_t b[8])
{
    static const uint32_t links[] = {T,          0xffffffe0, 0xa0000 | QH, HARNESS_RAM_SIZE - 32,
                                     0xfffff002, 0};
    uint32_t any = (b[2] & 1) != 0 ? links[b[3] % 6] : qtd_at(b[3]) | (b[2] & 6u);

    switch (b[0] % 6) {
    case 0: /* an interrupt transfer */
        qtd(h, b[1], T, any, ACTIVE | 0x100 | (uint32_t)b[4] << 10 | (b[5] & 15u) << 16);
        poke(h, qh_at(8 + b[6] % 8u) + 16, qtd_at(b[1]));
        break;
    case 1: /* any descriptor */
        qtd(h, b[1], any, qtd_at(b[4]), (uint32_t)(b[5] | b[6] << 8) | (uint32_t)b[7] << 20);
        break;
    case 2: /* any queue */
        qh(h, b[1], (qh_at(b[3]) & ~31u) | (b[2] & 7u),
           (uint32_t)(b[4] & 3) | (uint32_t)b[5] << 8 | (uint32_t)b[6] << 16,
           (uint32_t)(b[7] & 3) << 30 | b[7], any);
        break;
    case 3:
        poke(h, FRAME_LIST + 4 * b[1], any);
        poke(h, FRAME_LIST + 4 * b[4], qh_at(b[5]) | (b[6] & 7u));
        break;
    case 4: /* isochronous */
        for (uint32_t i = 0; i < 11; i++) {
            poke(h, ISO + 64 * (b[1] % SLOTS) + 4 * i,
                 i == 0 ? any : (uint32_t)b[4 + i % 4] << 24 | (uint32_t)b[4] << 4);
        }
        poke(h, FRAME_LIST + 4 * b[4], (ISO + 64 * (b[1] % SLOTS)) | (b[5] & 6u));
        break;
    default:
        poke(h, qh_at(b[1]) + 4 * (b[2] % 12u),
             (uint32_t)b[4] << 24 | (uint32_t)b[5] << 16 | (uint32_t)b[6] << 8 | b[7]);
        break;
    }
}

static void event(struct harness *h, const uint8_t b[8])
{
    const uint8_t c[8] = {b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[0]};

    switch (b[0] % 12) {
    case 0:
    case 1:
        control(h, b);
        break;
    case 2:
    case 3:
    case 4:
        structures(h, c);
        break;
    case 5:
        input_send(input,
                   &(struct input_event){.type = INPUT_EVENT_KEY, .key = b[1], .down = b[2] & 1});
        break;
    case 6:
        input_send(input, &(struct input_event){
                              .type = b[1] & 1 ? INPUT_EVENT_ABSOLUTE : INPUT_EVENT_RELATIVE,
                              .x = (b[2] | b[3] << 8) * (b[6] & 0x40 ? 10000 : 1) - 1000,
                              .y = b[4] * 128,
                              .dz = (int8_t)b[5],
                              .buttons = b[6]});
        break;
    case 7:
        wr(h, PORT + 4 * (b[1] % 3u), b[2] | (b[3] & 0x21u) << 8);
        break;
    case 8:
        configure(h);
        break;
    case 9:
        harness_step(h, (uint64_t)b[1] << 18 | (b[2] < 8 ? (uint64_t)b[2] << 28 : 0));
        break;
    case 10:
        replug(b);
        break;
    default:
        wr(h, CMD, (b[1] & 7) == 0 ? 2u : (b[2] & 0x71u));
        if ((b[3] & 1) != 0) {
            start(h);
        }
        break;
    }
}

/* The pin is up exactly when an enabled reason is there; each device is heard by the one controller that has its port,
 * at that one's speed. */
static void check(struct harness *h)
{
    struct pci_device *pd = pci_find(h->board.pci, DEVFN);
    const struct ehci *e = pd->dev;

    if (pd->intx_level != ((e->r.usbsts & e->r.usbintr) != 0) ||
        ((e->r.usbsts & USBSTS_HALTED) != 0) == ehci_running(e)) {
        abort();
    }
    for (unsigned i = 0; i < EHCI_PORTS; i++) {
        const struct usb_device *dev = bus->dev[i];
        bool theirs = (e->r.portsc[i] & PORTSC_OWNER) != 0;

        if (companion[i / 2]->dev[i % 2] != (theirs ? dev : NULL) ||
            (dev != NULL && dev->h.speed != (theirs ? USB_SPEED_FULL : USB_SPEED_HIGH)) ||
            (dev != NULL && (dev->h.bus != bus || dev->h.port != i)) ||
            ((dev == NULL || theirs) && (e->r.portsc[i] & (PORTSC_PED | PORTSC_PR)) != 0)) {
            abort();
        }
    }
}

static const struct fuzz_range mmio[] = {{MMIO, 0x80}, {MMIO, 0x1000}, {0, 0}};
static const struct fuzz_range ports[] = {{IO, 0x60}, {0, 0}};
static const uint8_t devfns[] = {DEVFN, 0xe8, 0xff};

FUZZ_DEVICE(.setup = setup, .ports = ports, .mmio = mmio, .devfns = devfns, .event = event,
            .check = check)
