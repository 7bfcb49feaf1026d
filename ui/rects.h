/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A bounded list of changed rectangles. Rectangles that overlap, or nearly do, are merged, so that
 * thousands of single changes (the cells of a text screen) end as a few rectangles; when the list
 * is full the pair that wastes least is merged.
 */
#include <stdbool.h>

struct rect {
    int x, y, w, h;
};

enum { RECTS_MAX = 24 };

struct rects {
    int count;
    struct rect r[RECTS_MAX];
};

/* Cuts r to 0,0..width,height. false: nothing is left. Any int values are safe. */
bool rect_clip(struct rect *r, int width, int height);
/* The smallest rectangle around both; both are within 0..32767. */
struct rect rect_union(struct rect a, struct rect b);
/* Adds r (not empty, clipped). */
void rects_add(struct rects *list, struct rect r);
