/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/uhci_rig.h"

#include <stdlib.h>
#include <string.h>

enum { MS = 1000000, TERMINATE = 1, QUEUE = 2, DEPTH = 4 };

void uhci_rig_create(struct uhci_rig *r, enum usb_hid_kind first, enum usb_hid_kind second)
{
    enum usb_hid_kind kinds[UHCI_PORTS] = {first, second};

    *r = (struct uhci_rig){.h = harness_create()};
    r->input = input_create(r->h->loop);
    if (r->input == NULL || uhci_create(&r->h->board, UHCI_DEVFN, UHCI_PIIX3, &r->bus) != 0) {
        abort();
    }
    for (unsigned i = 0; i < UHCI_PORTS; i++) {
        if (kinds[i] != USB_HID_KINDS &&
            (usb_hid_create(&r->h->board, kinds[i], r->input, &r->dev[i]) != 0 ||
             usb_bus_plug(r->bus, USB_ANY_PORT, r->dev[i]) != 0)) {
            abort();
        }
    }
    harness_pci_write(r->h, UHCI_DEVFN, PCI_BAR0 + 16, 4, UHCI_IO);
    harness_pci_write(r->h, UHCI_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
}

void uhci_rig_destroy(struct uhci_rig *r)
{
    struct input *input = r->input;
    board_fini(&r->h->board); /* devices take leave of the input first */
    input_destroy(input);
    harness_destroy(r->h);
}

uint32_t uhci_rig_peek(struct uhci_rig *r, uint32_t addr)
{
    uint32_t v;

    memcpy(&v, r->h->plat.ram + addr, sizeof(v));
    return v;
}

void uhci_rig_poke(struct uhci_rig *r, uint32_t addr, uint32_t value)
{
    memcpy(r->h->plat.ram + addr, &value, sizeof(value));
}

void uhci_rig_start(struct uhci_rig *r)
{
    for (uint32_t i = 0; i < 1024; i++) {
        uhci_rig_poke(r, UHCI_FRAME_LIST + 4 * i, UHCI_INT_QH | QUEUE);
    }
    uhci_rig_poke(r, UHCI_INT_QH, UHCI_CONTROL_QH | QUEUE);
    uhci_rig_poke(r, UHCI_INT_QH + 4, TERMINATE);
    uhci_rig_poke(r, UHCI_CONTROL_QH, TERMINATE);
    uhci_rig_poke(r, UHCI_CONTROL_QH + 4, TERMINATE);
    harness_out(r->h, UHCI_IO + 8, 4, UHCI_FRAME_LIST);
    harness_out(r->h, UHCI_IO + 4, 2, 0x0f);
    harness_out(r->h, UHCI_IO + 0, 2, 0xc1);
}

void uhci_rig_enable_port(struct uhci_rig *r, unsigned port)
{
    uint16_t reg = (uint16_t)(UHCI_IO + 0x10 + 2 * port);

    harness_out(r->h, reg, 2, 0x200);
    harness_step(r->h, 50 * MS);
    harness_out(r->h, reg, 2, 0);
    harness_out(r->h, reg, 2, 0x0e);
}

void uhci_rig_td(struct uhci_rig *r, uint32_t addr, uint32_t link, uint32_t status, unsigned pid,
                 unsigned device, unsigned endpoint, unsigned len, uint32_t buffer)
{
    uhci_rig_poke(r, addr, link);
    uhci_rig_poke(r, addr + 4, status);
    uhci_rig_poke(r, addr + 8, ((len - 1) & 0x7ffu) << 21 | endpoint << 15 | device << 8 | pid);
    uhci_rig_poke(r, addr + 12, buffer);
}

int uhci_rig_control(struct uhci_rig *r, unsigned device, uint8_t type, uint8_t request,
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
    uint32_t status = RIG_ACTIVE | RIG_3_ERRORS;
    bool in = (type & 0x80) != 0 && length != 0;
    uint32_t td = UHCI_TDS;
    unsigned n = 2;
    unsigned got = 0;

    memcpy(r->h->plat.ram + UHCI_BUFFER, setup, sizeof(setup));
    if (!in && length != 0) {
        memcpy(r->h->plat.ram + UHCI_BUFFER + 8, data, length);
    }
    uhci_rig_td(r, td, (td + 16) | DEPTH, status, USB_PID_SETUP, device, 0, 8, UHCI_BUFFER);
    for (unsigned at = 0; at < length; at += 8, n++) {
        unsigned part = length - at < 8 ? length - at : 8u;

        td += 16;
        uhci_rig_td(r, td, (td + 16) | DEPTH, status, in ? USB_PID_IN : USB_PID_OUT, device, 0,
                    part, UHCI_BUFFER + 8 + at);
    }
    td += 16;
    uhci_rig_td(r, td, TERMINATE, status | RIG_IOC, in ? USB_PID_OUT : USB_PID_IN, device, 0, 0, 0);
    uhci_rig_poke(r, UHCI_CONTROL_QH + 4, UHCI_TDS);
    for (unsigned i = 0; i < 200 && (uhci_rig_peek(r, UHCI_CONTROL_QH + 4) & TERMINATE) == 0; i++) {
        uint32_t at = uhci_rig_peek(r, UHCI_CONTROL_QH + 4) & ~15u;

        if ((uhci_rig_peek(r, at + 4) & RIG_ACTIVE) == 0) {
            break;
        }
        harness_step(r->h, MS);
    }
    for (unsigned i = 0; i < n; i++) {
        uint32_t s = uhci_rig_peek(r, UHCI_TDS + 16 * i + 4);

        if ((s & 0xff0000) != 0) {
            return -(int)(s & 0xff0000);
        }
        if (i != 0 && i != n - 1) {
            got += (s + 1) & 0x7ff;
        }
    }
    if (in && data != NULL) {
        memcpy(data, r->h->plat.ram + UHCI_BUFFER + 8, got);
    }
    return (int)got;
}

void uhci_rig_configure(struct uhci_rig *r, unsigned port)
{
    if (uhci_rig_control(r, 0, 0, USB_SET_ADDRESS, (uint16_t)(1 + port), 0, 0, NULL) != 0 ||
        uhci_rig_control(r, 1 + port, 0, USB_SET_CONFIGURATION, 1, 0, 0, NULL) != 0) {
        abort();
    }
}

void uhci_rig_poll(struct uhci_rig *r, unsigned device)
{
    uhci_rig_td(r, UHCI_INT_TD, TERMINATE, RIG_ACTIVE | RIG_IOC | RIG_3_ERRORS, USB_PID_IN, device,
                1, 8, UHCI_INT_BUFFER);
    uhci_rig_poke(r, UHCI_INT_QH + 4, UHCI_INT_TD);
}

uint32_t uhci_rig_polled(struct uhci_rig *r)
{
    return uhci_rig_peek(r, UHCI_INT_TD + 4);
}
