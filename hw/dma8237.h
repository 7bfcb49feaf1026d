/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

struct board;

/* Creates the two 8237 DMA controllers (0x00-0x0f, 0xc0-0xdf) and their page registers (0x81-0x83,
 * 0x87, 0x89-0x8b, 0x8f). Registers only: no device on this board requests ISA DMA. 0, or -errno
 * with the board unchanged. Sources: Intel 8237A datasheet; PIIX3 datasheet, DMA registers. */
int dma8237_create(struct board *b);
