/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* 16550A serial ports: COM1 0x3f8 IRQ 4, COM2 0x2f8 IRQ 3, COM3 0x3e8 IRQ 4, COM4 0x2e8 IRQ 3. */

struct board;
struct chardev;

/* Adds COM<index + 1> (index 0..3). c: its back end (borrowed, must outlive the board; NULL:
 * nothing is connected). 0, or -errno (-EINVAL: no such port) and the board unchanged. */
int serial_create(struct board *b, unsigned index, struct chardev *c);
