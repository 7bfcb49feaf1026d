/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The picture as a file. */
#include <stdio.h>

struct display;

enum screenshot_format { SCREENSHOT_PPM, SCREENSHOT_PNG };

/* Loop thread: writes a fresh picture with its hardware cursor to f (stays open, not flushed):
 * binary PPM (netpbm "P6") or PNG (RFC 2083, 8-bit RGB). Leaves no surface behind when nobody
 * looks. 0 or -errno. */
int screenshot_write(struct display *d, FILE *f, enum screenshot_format format);
/* The same into a file, made or overwritten; symbolic links are not followed. */
int screenshot_save(struct display *d, const char *path, enum screenshot_format format);
