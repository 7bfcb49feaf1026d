/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Standard VGA with the Bochs VBE extension (PCI 1234:1111). stdvga_create() is declared in
 * hw/vga.h; this is for tests. */
#include "hw/vga.h"

enum dispi_reg { /* Bochs VBE DISPI interface; index at port 0x1ce, data at 0x1cf */
                 DISPI_ID,
                 DISPI_XRES,
                 DISPI_YRES,
                 DISPI_BPP,
                 DISPI_ENABLE,
                 DISPI_BANK,
                 DISPI_VIRT_WIDTH,
                 DISPI_VIRT_HEIGHT,
                 DISPI_X_OFFSET,
                 DISPI_Y_OFFSET,
                 DISPI_VIDEO_MEMORY_64K,
                 DISPI_COUNT,
};
enum {
    DISPI_ENABLED = 0x01,
    DISPI_GETCAPS = 0x02,
    DISPI_8BIT_DAC = 0x20,
    DISPI_LFB_ENABLED = 0x40,
    DISPI_NOCLEARMEM = 0x80,
    DISPI_MAX_XRES = 16000, /* as GETCAPS says */
    DISPI_MAX_YRES = 12000,
    DISPI_ID0 = 0xb0c0,
    DISPI_ID5 = 0xb0c5,
};
enum { /* BAR2 */
       STDVGA_MMIO_EDID = 0x000,
       STDVGA_MMIO_VGA = 0x400, /* ports 0x3c0..0x3df */
       STDVGA_MMIO_DISPI = 0x500,
       STDVGA_MMIO_EXT = 0x600, /* size of this block, byte order of the frame buffer */
       STDVGA_MMIO_SIZE = 0x1000,
       STDVGA_EDID_SIZE = 128,
};

/* Fills a VESA EDID 1.4 block of a monitor that prefers 1024x768. */
void stdvga_edid(uint8_t edid[STDVGA_EDID_SIZE]);
