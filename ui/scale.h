/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Enlarging or shrinking a picture row by row. What a pixel of the result becomes depends on its
 * place alone, so that a part can be drawn anew without a seam. Whole factors repeat pixels, others
 * mix two by two neighbours. Pixels are 0x00RRGGBB.
 */
#include <stdint.h>

#include "ui/rects.h"

struct scale {
    int from_w, from_h, to_w, to_h; /* 1..32767 */
};

/* The largest area of the shape from_w:from_h inside a window, in its middle; never empty. All
 * sizes are 1..32767. */
struct rect scale_fit(int from_w, int from_h, int window_w, int window_h);
/* The part of the result that the part r (clipped, not empty) of the source has a share in. */
struct rect scale_rect(const struct scale *s, struct rect r);
/* For row y of the result: the two source rows to mix, and the share of the second, 0..256. */
void scale_rows(const struct scale *s, int y, int *top, int *bottom, unsigned *share);
/* Pixels x..x+n-1 of that row; the source rows are from_w pixels. */
void scale_row(const struct scale *s, const uint32_t *top, const uint32_t *bottom, unsigned share,
               int x, int n, uint32_t *out);
