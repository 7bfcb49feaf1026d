/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include <stdint.h>

struct board;

/* Creates the 82441FX host bridge: function 00:00.0, and ports 0xcf8-0xcfb with the configuration
 * address latch and, in the middle of it, the PIIX3's reset control register 0xcf9. ram_bytes: all
 * of the guest's RAM. 0, or -errno with the board unchanged. Sources: Intel 82441FX PMC datasheet
 * 3.1-3.2; PIIX3 datasheet, reset control register. */
int i440fx_create(struct board *b, uint64_t ram_bytes);
