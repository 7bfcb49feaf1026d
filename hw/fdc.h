/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

struct board;

/* Creates a floppy disk controller without drives at 0x3f1-0x3f5 and 0x3f7, IRQ 6: Xen's DSDT always declares one, and a guest
 * that finds nothing there waits for its reset interrupt (Linux: 20 s while loading the driver) or reports a broken
 * device. 0, or -errno with the board unchanged. Source: Intel 82077AA datasheet; part id as the 82078. */
int fdc_create(struct board *b);
