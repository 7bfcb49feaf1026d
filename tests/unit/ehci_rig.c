/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/ehci_rig.h"

#include <stdlib.h>
#include <string.h>

enum { MS = 1000000, TERMINATE = 1, QUEUE = 2 };

void ehci_rig_create(struct ehci_rig *r, bool companions, enum usb_hid_kind first,
                     enum usb_hid_kind second)
{
    enum usb_hid_kind kinds[2] = {first, second};

    *r = (struct ehci_rig){.h = harness_create()};
    r->input = input_create(r->h->loop);
    if (r->input == NULL ||
        ehci_create(&r->h->board, EHCI_DEVFN, companions ? EHCI_ICH9 : EHCI_ICH4, &r->bus) != 0) {
        abort();
    }
    for (unsigned i = 0; i < (companions ? EHCI_COMPANIONS : 0u); i++) {
        uint8_t devfn = (uint8_t)(PCI_DEVFN(0x1d, 0) + i);

        if (uhci_create(&r->h->board, devfn, UHCI_ICH9_1 + i, &r->companion[i]) != 0 ||
            ehci_add_companion(r->bus, 2 * i, r->companion[i]) != 0) {
            abort();
        }
        harness_pci_write(r->h, devfn, PCI_BAR0 + 16, 4, EHCI_COMPANION_IO + 0x20 * i);
        harness_pci_write(r->h, devfn, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (kinds[i] != USB_HID_KINDS &&
            (usb_hid_create(&r->h->board, kinds[i], r->input, &r->dev[i]) != 0 ||
             usb_bus_plug(r->bus, USB_ANY_PORT, r->dev[i]) != 0)) {
            abort();
        }
    }
    harness_pci_write(r->h, EHCI_DEVFN, PCI_BAR0, 4, (uint32_t)EHCI_MMIO);
    harness_pci_write(r->h, EHCI_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void ehci_rig_destroy(struct ehci_rig *r)
{
    struct input *input = r->input;

    board_fini(&r->h->board); /* devices take leave of the input first */
    input_destroy(input);
    harness_destroy(r->h);
}

uint32_t ehci_rig_peek(struct ehci_rig *r, uint32_t addr)
{
    uint32_t v;

    memcpy(&v, r->h->plat.ram + addr, sizeof(v));
    return v;
}

void ehci_rig_poke(struct ehci_rig *r, uint32_t addr, uint32_t value)
{
    memcpy(r->h->plat.ram + addr, &value, sizeof(value));
}

uint32_t ehci_rig_read(struct ehci_rig *r, unsigned reg)
{
    return (uint32_t)harness_read(r->h, EHCI_MMIO + reg, 4);
}

void ehci_rig_write(struct ehci_rig *r, unsigned reg, uint32_t value)
{
    harness_write(r->h, EHCI_MMIO + reg, 4, value);
}

void ehci_rig_start(struct ehci_rig *r)
{
    for (uint32_t i = 0; i < 1024; i++) {
        ehci_rig_poke(r, EHCI_FRAME_LIST + 4 * i, EHCI_INT_QH | QUEUE);
    }
    ehci_rig_qh(r, EHCI_HEAD_QH, EHCI_CONTROL_QH | QUEUE, 0x8000, 0x40000000, TERMINATE);
    ehci_rig_qh(r, EHCI_INT_QH, TERMINATE, 0x00082100, 0x40000001, TERMINATE);
    ehci_rig_queue(r, 0, TERMINATE);
    ehci_rig_write(r, 0x34, EHCI_FRAME_LIST);
    ehci_rig_write(r, 0x38, EHCI_HEAD_QH);
    ehci_rig_write(r, 0x28, 0x37);
    ehci_rig_write(r, 0x20, 0x80031);
    ehci_rig_write(r, 0x60, 1);
}

void ehci_rig_enable_port(struct ehci_rig *r, unsigned port)
{
    ehci_rig_write(r, 0x64 + 4 * port, 0x1102);
    harness_step(r->h, 50 * MS);
    ehci_rig_write(r, 0x64 + 4 * port, 0x1000);
}

void ehci_rig_qh(struct ehci_rig *r, uint32_t addr, uint32_t link, uint32_t endpoint,
                 uint32_t masks, uint32_t qtd)
{
    memset(r->h->plat.ram + addr, 0, 48);
    ehci_rig_poke(r, addr, link);
    ehci_rig_poke(r, addr + 4, endpoint);
    ehci_rig_poke(r, addr + 8, masks);
    ehci_rig_poke(r, addr + 16, qtd);
    ehci_rig_poke(r, addr + 20, TERMINATE);
}

void ehci_rig_qtd(struct ehci_rig *r, uint32_t addr, uint32_t next, uint32_t alternate,
                  uint32_t token, uint32_t buffer)
{
    ehci_rig_poke(r, addr, next);
    ehci_rig_poke(r, addr + 4, alternate);
    ehci_rig_poke(r, addr + 8, token);
    for (uint32_t i = 0; i < 5; i++) {
        ehci_rig_poke(r, addr + 12 + 4 * i, i == 0 ? buffer : (buffer & ~0xfffu) + 0x1000 * i);
    }
}

void ehci_rig_queue(struct ehci_rig *r, unsigned device, uint32_t qtd)
{
    /* 64 bytes, toggles from the descriptors, high speed, four NAKs */
    ehci_rig_qh(r, EHCI_CONTROL_QH, EHCI_HEAD_QH | QUEUE, 0x40406000 | device, 0x40000000, qtd);
}

int ehci_rig_control(struct ehci_rig *r, unsigned device, uint8_t type, uint8_t request,
                     uint16_t value, uint16_t index, uint16_t length, uint8_t *data)
{
    const uint8_t setup[8] = {type,
                              request,
                              (uint8_t)value,
                              (uint8_t)(value >> 8),
                              (uint8_t)index,
                              (uint8_t)(index >> 8),
                              (uint8_t)length,
                              (uint8_t)(length >> 8)};
    const uint32_t token = RIG_ACTIVE | RIG_3_ERRORS;
    bool in = (type & 0x80) != 0 && length != 0;
    unsigned n = length != 0 ? 3 : 2;
    uint32_t last = EHCI_QTDS + 32 * (n - 1);
    uint32_t status;

    memcpy(r->h->plat.ram + EHCI_BUFFER, setup, sizeof(setup));
    if (!in && length != 0) {
        memcpy(r->h->plat.ram + EHCI_BUFFER + 8, data, length);
    }
    ehci_rig_qtd(r, EHCI_QTDS, EHCI_QTDS + 32, TERMINATE, token | RIG_SETUP | 8 << 16, EHCI_BUFFER);
    ehci_rig_qtd(r, EHCI_QTDS + 32, last, last,
                 token | (in ? RIG_IN : RIG_OUT) | (uint32_t)length << 16 | 1u << 31,
                 EHCI_BUFFER + 8);
    ehci_rig_qtd(r, last, TERMINATE, TERMINATE,
                 token | (in ? RIG_OUT : RIG_IN) | RIG_IOC | 1u << 31, 0);
    ehci_rig_queue(r, device, EHCI_QTDS);
    for (unsigned i = 0; i < 100 && (ehci_rig_peek(r, last + 8) & RIG_ACTIVE) != 0 &&
                         (ehci_rig_peek(r, EHCI_CONTROL_QH + 24) & RIG_HALTED) == 0;
         i++) {
        harness_step(r->h, MS);
    }
    for (unsigned i = 0; i < n; i++) {
        status = ehci_rig_peek(r, EHCI_QTDS + 32 * i + 8) & 0xff;
        if ((status & ~(uint32_t)RIG_PING) != 0) {
            return -(int)status;
        }
    }
    length =
        n == 3 ? (uint16_t)(length - (ehci_rig_peek(r, EHCI_QTDS + 32 + 8) >> 16 & 0x7fff)) : 0;
    if (in && data != NULL) {
        memcpy(data, r->h->plat.ram + EHCI_BUFFER + 8, length);
    }
    return length;
}

void ehci_rig_configure(struct ehci_rig *r, unsigned port)
{
    if (ehci_rig_control(r, 0, 0, USB_SET_ADDRESS, (uint16_t)(1 + port), 0, 0, NULL) != 0 ||
        ehci_rig_control(r, 1 + port, 0, USB_SET_CONFIGURATION, 1, 0, 0, NULL) != 0) {
        abort();
    }
}

void ehci_rig_poll(struct ehci_rig *r, unsigned device)
{
    uint32_t endpoint = 0x00082100 | device; /* 8 bytes, high speed, endpoint 1 */

    ehci_rig_qtd(r, EHCI_INT_QTD, TERMINATE, TERMINATE,
                 RIG_ACTIVE | RIG_IOC | RIG_3_ERRORS | RIG_IN | 8 << 16, EHCI_INT_BUFFER);
    if (ehci_rig_peek(r, EHCI_INT_QH + 4) != endpoint ||
        (ehci_rig_peek(r, EHCI_INT_QH + 24) & (RIG_HALTED | RIG_ACTIVE)) != 0) {
        ehci_rig_qh(r, EHCI_INT_QH, TERMINATE, endpoint, 0x40000001, EHCI_INT_QTD);
    }
    ehci_rig_poke(r, EHCI_INT_QH + 16, EHCI_INT_QTD);
    ehci_rig_poke(r, EHCI_INT_QH + 20, TERMINATE);
}

uint32_t ehci_rig_polled(struct ehci_rig *r)
{
    return ehci_rig_peek(r, EHCI_INT_QTD + 8);
}
