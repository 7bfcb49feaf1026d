/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

struct board;

/* Creates the 82371SB PCI-to-ISA bridge: function 00:01.0 (multifunction) with the PIRQ route
 * registers, and port 0x92. 0, or -errno with the board unchanged. Source: Intel 82371SB (PIIX3)
 * datasheet, function 0. */
int piix3_create(struct board *b);
