/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The QMP command screendump {filename, format: "ppm" (default) or "png"}. filename may be
 * "/dev/fdset/N" (add-fd). */
#include "monitor/qmp.h"

struct display;

/* Adds the command; display is borrowed. 0 or -ENOSPC. */
int qmp_screen_init(struct qmp *q, struct display *display);
