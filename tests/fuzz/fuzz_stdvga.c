/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VGA core, the Bochs extension and the picture. */
#include <stdlib.h>

#include "hw/vga.h"
#include "tests/fuzz/fuzz.h"

static struct loop *loop; /* the display outlives the board, whose loop goes with it */
static struct display *display;
static int viewer; /* only its address counts */

static void updated(void *ui, int x, int y, int w, int h)
{
    (void)ui;
    if (x < 0 || y < 0 || w <= 0 || h <= 0 || x + w > display_width(display) || y + h > display_height(display)) {
        abort();
    }
}

static void setup(struct harness *h)
{
    static const struct display_viewer ops = {.updated = updated};
    struct vga_config cfg = {.devfn = PCI_DEVFN(3, 0), .vram_bytes = 1 << 20};

    loop = loop_create(true);
    display = display_create(loop);
    if (display == NULL || stdvga_create(&h->board, &cfg, display) != 0 ||
        display_add_viewer(display, &ops, &viewer) != 0) {
        abort();
    }
    display_viewer_active(display, &viewer, true);
    /* From here on decoding can be changed by the input, but it starts with something to hit. */
    harness_pci_write(h, PCI_DEVFN(3, 0), 0x10, 4, 0xe0000000);
    harness_pci_write(h, PCI_DEVFN(3, 0), 0x18, 4, 0xe8000000);
    harness_pci_write(h, PCI_DEVFN(3, 0), PCI_COMMAND, 2, 3);
    harness_out(h, 0x3c2, 1, 1);
}

/* Several registers at once, so that modes are reached: index, then values; or a whole VBE mode; or a refused
 * placement. */
static void event(struct harness *h, const uint8_t b[8])
{
    static const uint16_t ports[4] = {0x3c4, 0x3ce, 0x3d4, 0x3c4};

    switch (b[0] & 3) {
    case 0:
        for (unsigned i = 2; i < 8; i++) {
            harness_out(h, ports[b[0] >> 2 & 3], 2, (uint32_t)((b[1] + i - 2) & 0x1f) | (uint32_t)b[i] << 8);
        }
        break;
    case 1:
        for (unsigned i = 0; i < 6; i++) {
            static const uint8_t order[6] = {1, 2, 3, 6, 8, 4};
            uint16_t v = (uint16_t)(b[1 + i] << (b[0] >> 4 & 7));

            if (order[i] == 3) {
                v = (uint16_t[]){4, 8, 15, 16, 24, 32, 0, 99}[b[3] & 7];
            }
            harness_out(h, 0x1ce, 2, order[i]);
            harness_out(h, 0x1cf, 2, order[i] == 4 ? v | 1 : v);
        }
        break;
    case 2:
        harness_in(h, 0x3da, 1);
        harness_out(h, 0x3c0, 1, b[1] & 0x1f);
        harness_out(h, 0x3c0, 1, b[2]);
        harness_out(h, 0x3c0, 1, 0x20);
        display_viewer_active(display, &viewer, (b[3] & 7) != 0);
        break;
    default:
        h->plat.fail_vram_place = b[1] & 1;
        harness_step(h, 30000000);
        loop_advance(loop, (uint64_t)b[2] * 1000000);
        if (b[3] & 1) {
            display_refresh_now(display);
        }
        break;
    }
}

static void teardown(void)
{
    display_destroy(display);
    loop_destroy(loop);
}

static const struct fuzz_range ports[] = {{0x3b4, 2}, {0x3ba, 1}, {0x3c0, 16}, {0x3d4, 2},
                                          {0x3da, 1}, {0x1ce, 4}, {0, 0}};
static const struct fuzz_range mmio[] = {{0xa0000, 0x20000}, {0xe8000000, 0x1000}, {0xe0000000, 0x100000}, {0, 0}};
static const uint8_t devfns[] = {PCI_DEVFN(3, 0), 0xff};

FUZZ_DEVICE(.setup = setup, .ports = ports, .mmio = mmio, .devfns = devfns, .event = event, .teardown = teardown)
