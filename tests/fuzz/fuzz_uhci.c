/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * UHCI with a tablet, and a keyboard and a mouse behind a hub; more comes and goes by device_add and device_del, and
 * controllers by PCI hot-plug. The schedule lies in the first 16 KiB, which the input overwrites: frame list at 0,
 * queues and descriptors behind it. Events write sensible descriptors and queues, whole control transfers, input, port
 * resets; everything can be spoilt afterwards.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"
#include "core/pci.h"
#include "hw/acpi_gpe.h"
#include "hw/board_usb.h"
#include "hw/usb.h"
#include "tests/fuzz/fuzz.h"
#include "ui/input.h"

enum {
    DEVFN = PCI_DEVFN(1, 2),
    IO = 0xc000,
    FRAME_LIST = 0,
    QHS = 0x1000,  /* 16 bytes apart */
    TDS = 0x2000,  /* also 16 */
    DATA = 0x3000, /* 64 bytes each */
    SLOTS = 64,
    T = 1,
    QH = 2,
    DEPTH = 4,
    ACTIVE = 0x800000,
};

static struct input *input;

static void poke(struct harness *h, uint32_t addr, uint32_t v)
{
    memcpy(h->plat.ram + addr, &v, sizeof(v));
}

static void start(struct harness *h)
{
    harness_pci_write(h, DEVFN, PCI_BAR0 + 16, 4, IO);
    harness_pci_write(h, DEVFN, PCI_COMMAND, 2, 7);
    for (unsigned i = 0; i < 1024; i++) {
        poke(h, FRAME_LIST + 4 * i, (QHS + 16 * (i & 7)) | QH);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        poke(h, QHS + 16 * i, i < SLOTS - 1 ? (QHS + 16 * (i | 7) + 16) | QH : T);
        poke(h, QHS + 16 * i + 4, T);
    }
    harness_out(h, IO + 8, 4, FRAME_LIST);
    harness_out(h, IO + 4, 2, 0xf);
    harness_out(h, IO + 0x10, 2, 4);
    harness_out(h, IO + 0x12, 2, 4);
    harness_out(h, IO, 2, 0xc1);
}

static struct board_usb *usb;

static void eject(void *opaque, unsigned slot)
{
    (void)opaque;
    board_usb_eject(usb, slot);
}

static void setup(struct harness *h)
{
    static const struct options o = {.usb = true,
                                     .usb_devices = {{.driver = "usb-tablet", .id = "d0"},
                                                     {.driver = "usb-kbd"},
                                                     {.driver = "usb-mouse", .id = "d1"}},
                                     .usb_device_count = 3};
    const struct acpi_gpe_config cfg = {.vcpus_online = 1, .removable_slots = ~3u, .eject = eject};
    struct acpi_gpe *gpe;
    char err[128];

    input = fuzz_input(h);
    if (acpi_gpe_create(&h->board, &cfg, &gpe) != 0 ||
        board_usb_create(&h->board, &o, input, gpe, &usb, err, sizeof(err)) != 0) {
        abort();
    }
    start(h);
}

/* device_add and device_del, of names from a few. */
static void plug(const uint8_t b[8])
{
    static const char *const drivers[] = {"usb-tablet", "usb-mouse", "usb-kbd", "usb-hub",
                                          "piix3-usb-uhci"};
    static const char *const ports[] = {NULL, "1", "2", "2.1", "2.3", "2.8", "1.1", "2.8.1"};
    static const char *const buses[] = {NULL, "usb-bus.0", "usb-bus.1", "d4.0"};
    struct option_usb o = {.driver = drivers[b[2] % 5],
                           .bus = buses[b[3] % 4],
                           .port = ports[b[4] % 8],
                           .devfn = BOARD_USB_ANY_SLOT};
    struct board_usb_info info;
    char id[8];
    char err[256] = "";

    snprintf(id, sizeof(id), "d%u", b[5] % 12u);
    if ((b[1] & 1) != 0) {
        (void)board_usb_remove(usb, id);
        return;
    }
    o.id = (b[1] & 2) != 0 ? id : NULL;
    if (board_usb_is_controller(o.driver)) {
        o.port = o.bus = NULL;
    }
    if (board_usb_add(usb, &o, err, sizeof(err)) != 0 && err[0] == '\0') {
        abort();
    }
    for (unsigned i = 0; board_usb_info(usb, i, &info); i++) {
        if (info.path[0] == '\0' || info.address > 127) {
            abort();
        }
    }
}

static void td(struct harness *h, unsigned slot, uint32_t link, uint32_t status, unsigned pid,
               unsigned device, unsigned endpoint, unsigned len)
{
    uint32_t at = TDS + 16 * (slot % SLOTS);

    poke(h, at, link);
    poke(h, at + 4, status);
    poke(h, at + 8, ((len - 1) & 0x7ffu) << 21 | endpoint << 15 | device << 8 | pid);
    poke(h, at + 12, DATA + 64 * (slot % SLOTS));
}

static uint32_t td_link(unsigned slot, unsigned flags)
{
    return (TDS + 16 * (slot % SLOTS)) | (flags & DEPTH);
}

/* Three or more descriptors, one behind the other, at the head of a queue. */
static void control(struct harness *h, const uint8_t b[8])
{
    static const uint8_t requests[][4] = {
        {0x00, 5, 1, 0}, {0x00, 5, 2, 0},    {0x00, 9, 1, 0},  {0x80, 6, 0, 1}, {0x80, 6, 0, 2},
        {0x80, 6, 1, 3}, {0x81, 6, 0, 0x22}, {0x21, 10, 0, 1}, {0x21, 9, 0, 2}, {0x21, 11, 0, 0},
        {0xa1, 1, 0, 1}, {0x00, 3, 1, 0},    {0x02, 3, 0, 0},  {0x02, 1, 0, 0}, {0x00, 9, 0, 0},
        {0xa1, 2, 0, 0}, {0x00, 5, 3, 0},    {0x23, 3, 4, 0},  {0x23, 3, 2, 0}, {0x23, 1, 2, 0},
        {0x23, 1, 1, 0}, {0x23, 1, 16, 0},   {0x23, 1, 20, 0}, {0xa3, 0, 0, 0}, {0xa0, 6, 0, 0x29},
    };
    const uint8_t *r = requests[b[1] % (sizeof(requests) / sizeof(requests[0]))];
    unsigned slot = b[2] % SLOTS;
    unsigned device = b[3] % 6;
    unsigned len = b[4] % 100;
    bool in = (r[0] & 0x80) != 0 && len != 0;
    uint8_t index = r[0] == 2 ? 0x81 : (r[0] & 3) == 3 ? b[7] >> 4 : 0;
    uint8_t packet[8] = {r[0], r[1], r[2], r[3], index, 0, (uint8_t)len, 0};
    uint32_t status = ACTIVE | (uint32_t)(b[5] & 0x3f) << 24;

    memcpy(h->plat.ram + DATA + 64 * slot, packet, sizeof(packet));
    td(h, slot, td_link(slot + 1, b[6]), status, USB_PID_SETUP, device, 0, 8);
    slot++;
    for (unsigned at = 0; at < len; at += 8, slot++) {
        td(h, slot, td_link(slot + 1, b[6]), status, in ? USB_PID_IN : USB_PID_OUT, device, 0,
           len - at < 8 ? len - at : 8);
    }
    td(h, slot, T, status | 1u << 24, in ? USB_PID_OUT : USB_PID_IN, device, 0, 0);
    poke(h, QHS + 16 * (8 + b[7] % 8u) + 4, td_link(b[2], 0));
}

/* The keyboard behind the hub at address 2 gets address 3 and its configuration. */
static void configure_behind(struct harness *h)
{
    static const uint8_t steps[3][2] = {{17, 2}, {16, 0}, {2, 3}};

    for (unsigned i = 0; i < 3; i++) {
        const uint8_t c[8] = {0, steps[i][0], 0, steps[i][1], 0, 0x18, DEPTH, 0x10};

        control(h, c);
        harness_step(h, 40000000);
    }
}

static void event(struct harness *h, const uint8_t b[8])
{
    static const uint32_t links[] = {T, 0xfffffff0, 0xa0000, HARNESS_RAM_SIZE - 4, 0xfffffff2, 0};

    switch (b[0] % 15) {
    case 0:
    case 1:
        control(h, b);
        break;
    case 2: /* interrupt descriptors, also in rings */
        td(h, b[1], (b[2] & 1) != 0 ? td_link(b[3], b[2]) : T, ACTIVE | (uint32_t)b[4] << 24,
           USB_PID_IN, b[5] % 6, 1 + (b[6] & 1u), b[7] % 16);
        poke(h, QHS + 16 * (b[6] % SLOTS) + 4, td_link(b[1], 0));
        break;
    case 3: /* any descriptor */
        td(h, b[1], (b[2] & 1) != 0 ? links[b[3] % 6] : td_link(b[3], b[2]), (uint32_t)b[4] << 23,
           (b[5] & 0x80) != 0 ? b[6] : USB_PID_IN, b[5] % 4, b[5] >> 4, b[7] * 9u);
        break;
    case 4: /* any queue, and a frame that goes to it */
        poke(h, QHS + 16 * (b[1] % SLOTS),
             (b[2] & 1) != 0 ? links[b[3] % 6] : (QHS + 16 * (b[3] % SLOTS)) | (b[2] & QH));
        poke(h, FRAME_LIST + 4 * b[4], (QHS + 16 * (b[5] % SLOTS)) | (b[2] >> 3 & QH));
        break;
    case 5:
        poke(h, QHS + 16 * (b[1] % SLOTS) + 4, links[b[2] % 6]);
        break;
    case 6:
        input_send(input,
                   &(struct input_event){.type = INPUT_EVENT_KEY, .key = b[1], .down = b[2] & 1});
        break;
    case 7:
        input_send(input, &(struct input_event){
                              .type = b[1] & 1 ? INPUT_EVENT_ABSOLUTE : INPUT_EVENT_RELATIVE,
                              .x = (b[2] | b[3] << 8) * (b[6] & 0x40 ? 10000 : 1) - 1000,
                              .y = b[4] * 128,
                              .dz = (int8_t)b[5],
                              .buttons = b[6]});
        break;
    case 8:
        harness_out(h, (uint16_t)(IO + 0x10 + (b[1] & 2)), 2, (uint32_t)b[2] | (b[3] & 0x12u) << 8);
        break;
    case 9: /* both configured, at addresses 1 and 2 */
        for (unsigned i = 0; i < 2; i++) {
            const uint8_t address[8] = {0, 0, 0, 0, (uint8_t)0, 0x18, DEPTH, 0};
            uint8_t c[8];

            harness_out(h, (uint16_t)(IO + 0x10 + 2 * i), 2, 0x200);
            harness_out(h, (uint16_t)(IO + 0x10 + 2 * i), 2, 0);
            harness_out(h, (uint16_t)(IO + 0x10 + 2 * i), 2, 4);
            memcpy(c, address, sizeof(c));
            c[1] = (uint8_t)i;
            control(h, c);
            harness_step(h, 40000000);
            c[1] = 2;
            c[3] = (uint8_t)(1 + i);
            control(h, c);
            harness_step(h, 40000000);
        }
        break;
    case 10:
        harness_step(h, (uint64_t)b[1] << 20 | (uint64_t)(b[2] & 3) << 30);
        break;
    case 11:
        plug(b);
        break;
    case 12: /* the guest gives a slot up */
        harness_out(h, 0xae08, 4, 1u << (b[1] & 31));
        break;
    case 13:
        configure_behind(h);
        break;
    default:
        if ((b[1] & 7) == 0) {
            harness_out(h, IO, 2, 2 + (b[2] & 0xfdu));
        }
        start(h);
        break;
    }
}

/* The pin is up exactly when an enabled reason is there and LEGSUP lets it through. */
static void check(struct harness *h)
{
    struct pci_device *pd = pci_find(h->board.pci, DEVFN);
    const uint8_t *legsup = pd->config + 0xc0;

    if (pd->intx_level != ((legsup[1] & 0x30) == 0x30)) {
        abort();
    }
}

static const struct fuzz_range ports[] = {
    {IO, 0x14}, {IO, 0x20}, {0xae00, 16}, {0xafe0, 4}, {0, 0}};
static const uint8_t devfns[] = {DEVFN, PCI_DEVFN(2, 0), PCI_DEVFN(3, 0), 0xff};

FUZZ_DEVICE(.setup = setup, .ports = ports, .devfns = devfns, .event = event, .check = check)
