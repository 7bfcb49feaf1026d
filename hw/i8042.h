/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Keyboard controller 8042 (ports 0x60, 0x64; IRQ 1 and 12) with the PS/2 keyboard and mouse behind
 * it. */

struct board;
struct input;

/* Adds the controller to the board and its keyboard and mouse to `in` (borrowed, must outlive the
 * board; NULL: nobody types). 0, or -errno and the board unchanged. */
int i8042_create(struct board *b, struct input *in);
