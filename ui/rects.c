/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ui/rects.h"

#include <limits.h>
#include <stdint.h>

/* Pixels that may be drawn in vain to save a rectangle: about what a rectangle costs in headers and
 * set-up. */
enum { MERGE_WASTE = 256 };

static int64_t area(struct rect r)
{
    return (int64_t)r.w * r.h;
}

bool rect_clip(struct rect *r, int width, int height)
{
    int64_t x1 = (int64_t)r->x + r->w;
    int64_t y1 = (int64_t)r->y + r->h;

    if (r->x < 0) {
        r->x = 0;
    }
    if (r->y < 0) {
        r->y = 0;
    }
    if (x1 > width) {
        x1 = width;
    }
    if (y1 > height) {
        y1 = height;
    }
    if (x1 <= r->x || y1 <= r->y) {
        r->w = r->h = 0;
        return false;
    }
    r->w = (int)(x1 - r->x);
    r->h = (int)(y1 - r->y);
    return true;
}

struct rect rect_union(struct rect a, struct rect b)
{
    int x1 = a.x + a.w > b.x + b.w ? a.x + a.w : b.x + b.w;
    int y1 = a.y + a.h > b.y + b.h ? a.y + a.h : b.y + b.h;

    a.x = a.x < b.x ? a.x : b.x;
    a.y = a.y < b.y ? a.y : b.y;
    a.w = x1 - a.x;
    a.h = y1 - a.y;
    return a;
}

void rects_add(struct rects *list, struct rect r)
{
    for (;;) {
        int best = -1;
        int64_t best_waste = INT64_MAX;

        for (int i = 0; i < list->count; i++) {
            int64_t waste = area(rect_union(list->r[i], r)) - area(list->r[i]) - area(r);

            if (waste < best_waste) {
                best_waste = waste;
                best = i;
            }
        }
        if (best < 0 || (best_waste > MERGE_WASTE && list->count < RECTS_MAX)) {
            list->r[list->count++] = r;
            return;
        }
        /* The union may now touch others: take it out and add it again. Each turn shortens the
         * list, so this ends. */
        r = rect_union(list->r[best], r);
        list->r[best] = list->r[--list->count];
    }
}
