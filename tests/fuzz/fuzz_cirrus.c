/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Cirrus adapter: extended registers, apertures, BLTs. Its memory is exactly as large as the sanitizer knows, so
 * one byte outside is a finding. */
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
    struct vga_config cfg = {.devfn = PCI_DEVFN(3, 0), .vram_bytes = 8 << 20};

    loop = loop_create(true);
    display = display_create(loop);
    if (display == NULL || cirrus_create(&h->board, &cfg, display) != 0 ||
        display_add_viewer(display, &ops, &viewer) != 0) {
        abort();
    }
    display_viewer_active(display, &viewer, true);
    harness_pci_write(h, PCI_DEVFN(3, 0), 0x10, 4, 0xe0000000);
    harness_pci_write(h, PCI_DEVFN(3, 0), 0x14, 4, 0xe8000000);
    harness_pci_write(h, PCI_DEVFN(3, 0), PCI_COMMAND, 2, 3);
    harness_out(h, 0x3c2, 1, 1);
    harness_out(h, 0x3c4, 2, 0x0107);
    harness_in(h, 0x3da, 1);
    harness_out(h, 0x3c0, 1, 0x20);
}

static void gfx(struct harness *h, uint8_t index, uint8_t val)
{
    harness_out(h, 0x3ce, 2, (uint32_t)(index | val << 8));
}

static void event(struct harness *h, const uint8_t b[8])
{
    static const uint16_t ports[4] = {0x3c4, 0x3ce, 0x3d4, 0x3ce};
    static const uint8_t rops[4] = {0x0d, 0x59, 0x0e, 0xda};

    switch (b[0] & 3) {
    case 0:
        for (unsigned i = 2; i < 8; i++) {
            harness_out(h, ports[b[0] >> 2 & 3], 2, ((b[1] + i - 2) & 0x3fu) | (uint32_t)b[i] << 8);
        }
        break;
    case 1: /* a BLT near an edge of the memory or somewhere */
        gfx(h, 0x20, b[1]);
        gfx(h, 0x21, b[0] >> 6 == 3 ? b[2] : 0);
        gfx(h, 0x22, b[2]);
        gfx(h, 0x23, b[0] >> 6 == 2 ? b[1] : 0);
        gfx(h, 0x28, b[3]);
        gfx(h, 0x29, b[4]);
        gfx(h, 0x2a, b[0] & 4 ? 0x3f : b[0] & 8 ? 0 : b[3]);
        gfx(h, 0x2c, b[4]);
        gfx(h, 0x2d, b[5]);
        gfx(h, 0x2e, b[0] & 16 ? 0x3f : b[0] & 32 ? 0 : b[4]);
        gfx(h, 0x30, b[6]);
        gfx(h, 0x32, rops[b[7] & 3]);
        gfx(h, 0x33, b[7] >> 2 & 7);
        gfx(h, 0x2f, b[7] >> 3);
        gfx(h, 0x31, 0);
        gfx(h, 0x31, 2);
        break;
    case 2:
        gfx(h, 0x0b, b[1]);
        gfx(h, 0x05, b[2]);
        harness_out(h, 0x3c4, 2, 0x17u | (uint32_t)b[3] << 8);
        harness_out(h, 0x3c4, 2, 0x12u | (uint32_t)b[4] << 8);
        harness_out(h, 0x3c4, 2, 0x10u | (uint32_t)(b[5] & 7) << 5 | (uint32_t)b[6] << 8);
        display_viewer_active(display, &viewer, (b[7] & 7) != 0);
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

static const struct fuzz_range ports[] = {{0x3b4, 2}, {0x3ba, 1}, {0x3c0, 16}, {0x3d4, 2}, {0x3da, 1}, {0, 0}};
static const struct fuzz_range mmio[] = {{0xa0000, 0x20000}, {0xe8000000, 0x1000}, {0xe0000000, 0x2000000}, {0, 0}};
static const uint8_t devfns[] = {PCI_DEVFN(3, 0), 0xff};

FUZZ_DEVICE(.setup = setup, .ports = ports, .mmio = mmio, .devfns = devfns, .event = event, .teardown = teardown)
