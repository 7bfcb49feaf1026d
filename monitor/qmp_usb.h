/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * USB controllers and devices at run time: the QMP commands device_add, device_del and x-query-usb, and the event
 * DEVICE_DELETED. Toolstack contract 3.2. Loop thread only.
 */
#include "monitor/qmp.h"

struct board_usb;

/* Adds the commands; usb is borrowed and must not lose devices any more once q is gone. 0 or -ENOSPC. */
int qmp_usb_init(struct qmp *q, struct board_usb *usb);
