/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

struct board;

/* Creates a floppy disk controller without drives at 0x3f1-0x3f5 and 0x3f7, IRQ 6: Xen's DSDT
 * always declares one, and a guest that finds nothing there waits for its reset interrupt (Linux
 * 6.1: loading the driver takes 6.6 s instead of 0.1) or reports a broken device. 0, or -errno with
 * the board unchanged. Source: Intel 82077AA datasheet; part id as the 82078. */
int fdc_create(struct board *b);
