/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ui/scale.h"

#include <stdbool.h>
#include <string.h>

enum { FRACTION = 16 }; /* bits */

struct rect scale_fit(int from_w, int from_h, int window_w, int window_h)
{
    struct rect r = {0, 0, window_w, window_h};

    if ((int64_t)window_w * from_h > (int64_t)window_h * from_w) {
        r.w = (int)((int64_t)window_h * from_w / from_h);
    } else {
        r.h = (int)((int64_t)window_w * from_h / from_w);
    }
    r.w = r.w < 1 ? 1 : r.w;
    r.h = r.h < 1 ? 1 : r.h;
    r.x = (window_w - r.w) / 2;
    r.y = (window_h - r.h) / 2;
    return r;
}

/* One axis of scale_rect(). */
static void part(int from, int to, int at, int len, int *to_at, int *to_len)
{
    /* One more on each side: neighbours have a share in what is mixed. */
    int64_t first = ((int64_t)at - 1) * to / from - 1;
    int64_t end = (((int64_t)at + len + 1) * to + from - 1) / from + 1;

    if (from == to) {
        first = at;
        end = at + len;
    }
    first = first < 0 ? 0 : first;
    end = end > to ? to : end;
    *to_at = (int)first;
    *to_len = (int)(end - first);
}

struct rect scale_rect(const struct scale *s, struct rect r)
{
    struct rect out;

    part(s->from_w, s->to_w, r.x, r.w, &out.x, &out.w);
    part(s->from_h, s->to_h, r.y, r.h, &out.y, &out.h);
    return out;
}

static bool whole(const struct scale *s)
{
    return s->to_w % s->from_w == 0 && s->to_h % s->from_h == 0;
}

/* Where the middle of pixel `at` of the result lies between the middles of the source's pixels, in
 * 1/65536 pixels. */
static int64_t source_place(int from, int to, int at)
{
    int64_t step = ((int64_t)from << FRACTION) / to;
    int64_t place = at * step + step / 2 - (1 << (FRACTION - 1));
    int64_t last = (int64_t)(from - 1) << FRACTION;

    return place < 0 ? 0 : place > last ? last : place;
}

void scale_rows(const struct scale *s, int y, int *top, int *bottom, unsigned *share)
{
    int64_t place = source_place(s->from_h, s->to_h, y);

    if (whole(s)) {
        *top = *bottom = y / (s->to_h / s->from_h);
        *share = 0;
        return;
    }
    *top = (int)(place >> FRACTION);
    *bottom = *top + 1 < s->from_h ? *top + 1 : *top;
    *share = (unsigned)(place >> (FRACTION - 8)) & 0xff;
}

/* share of b, 0..256. */
static uint32_t mix(uint32_t a, uint32_t b, unsigned share)
{
    uint32_t rb = ((a & 0xff00ff) * (256 - share) + (b & 0xff00ff) * share) >> 8;
    uint32_t g = ((a & 0x00ff00) * (256 - share) + (b & 0x00ff00) * share) >> 8;

    return (rb & 0xff00ff) | (g & 0x00ff00);
}

void scale_row(const struct scale *s, const uint32_t *top, const uint32_t *bottom, unsigned share,
               int x, int n, uint32_t *out)
{
    if (s->from_w == s->to_w && share == 0) {
        memcpy(out, top + x, (size_t)n * sizeof(*out));
        return;
    }
    if (whole(s)) {
        int factor = s->to_w / s->from_w;

        for (int i = 0; i < n; i++) {
            out[i] = top[(x + i) / factor];
        }
        return;
    }
    for (int i = 0; i < n; i++) {
        int64_t place = source_place(s->from_w, s->to_w, x + i);
        int a = (int)(place >> FRACTION);
        int b = a + 1 < s->from_w ? a + 1 : a;
        unsigned across = (unsigned)(place >> (FRACTION - 8)) & 0xff;

        out[i] = mix(mix(top[a], top[b], across), mix(bottom[a], bottom[b], across), share);
    }
}
