/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text that scrolls: most of the new picture is the old one, some rows up or down. A client that
 * knows CopyRect is told that in a few bytes.
 *
 * Found by looking for a few of the new rows in the old picture; each find is then followed up and
 * down as far as it goes, so that what is reported is compared pixel by pixel.
 */
#include <string.h>

#include "ui/vnc_int.h"

enum {
    SAMPLES = 3,       /* rows that are looked for */
    SAMPLE_TRIES = 24, /* rows that are tried to find one that says something */
    MATCHES_MAX = 4,   /* places where one is found that are followed */
    LEAST_ROWS = 32,   /* of what is worth it */
    LEAST_PIXELS = 16384,
    WAIT_MAX = 16, /* pictures that are not looked at after several in vain */
};

struct pictures {
    const uint32_t *now, *was; /* the area's top left */
    size_t now_stride, was_stride;
    int width, height;
};

static const uint32_t *now_row(const struct pictures *p, int y)
{
    return p->now + (size_t)y * p->now_stride;
}

static const uint32_t *was_row(const struct pictures *p, int y)
{
    return p->was + (size_t)y * p->was_stride;
}

static bool same_row(const struct pictures *p, int now, int was)
{
    return memcmp(now_row(p, now), was_row(p, was), (size_t)p->width * sizeof(uint32_t)) == 0;
}

/* The last place where the colour changes in the row: x and x - 1 differ. 0: it is of one colour. */
static int edge(const uint32_t *row, int width)
{
    int x = width - 1;

    while (x > 0 && row[x] == row[x - 1]) {
        x--;
    }
    return x;
}

/* The next row from y on that has an edge and changed; -1: none nearby. */
static int sample(const struct pictures *p, int y, int *x)
{
    for (int end = y + SAMPLE_TRIES < p->height ? y + SAMPLE_TRIES : p->height; y < end; y++) {
        *x = edge(now_row(p, y), p->width);
        if (*x > 0 && !same_row(p, y, y)) {
            return y;
        }
    }
    return -1;
}

/* All the rows around y that came from dy rows below. */
static void follow(const struct pictures *p, int y, int dy, struct vnc_scroll *best)
{
    int first = y, end = y + 1;

    while (first > 0 && first + dy > 0 && same_row(p, first - 1, first - 1 + dy)) {
        first--;
    }
    while (end < p->height && end + dy < p->height && same_row(p, end, end + dy)) {
        end++;
    }
    if (end - first > best->to.h) {
        best->to = (struct rect){0, first, p->width, end - first};
        best->dy = dy;
    }
}

/* Looks for row y of the new picture in the old one, near places first. */
static void seek(const struct pictures *p, int y, int x, struct vnc_scroll *best)
{
    const uint32_t *row = now_row(p, y) + x - 1;
    int matches = 0;

    for (int n = 2; n < 2 * p->height && matches < MATCHES_MAX; n++) {
        int dy = n & 1 ? -(n / 2) : n / 2;

        if (y + dy >= 0 && y + dy < p->height &&
            memcmp(row, was_row(p, y + dy) + x - 1, 2 * sizeof(*row)) == 0 &&
            same_row(p, y, y + dy)) {
            matches++;
            follow(p, y, dy, best);
        }
    }
}

bool vnc_scroll_find(const uint32_t *now, size_t now_stride, const uint32_t *was, size_t was_stride,
                     struct rect area, struct vnc_scroll *s)
{
    const struct pictures p = {
        .now = now + (size_t)area.y * now_stride + (size_t)area.x,
        .was = was + (size_t)area.y * was_stride + (size_t)area.x,
        .now_stride = now_stride,
        .was_stride = was_stride,
        .width = area.w,
        .height = area.h,
    };

    s->to.h = 0;
    if (area.h < LEAST_ROWS || area.w * area.h < LEAST_PIXELS) {
        return false;
    }
    /* Most of it in one piece is good enough. */
    for (int i = 1; i <= SAMPLES && s->to.h < area.h / 2; i++) {
        int x, y = sample(&p, area.h * i / (SAMPLES + 1), &x);

        if (y >= 0) {
            seek(&p, y, x, s);
        }
    }
    s->to.x += area.x;
    s->to.y += area.y;
    return s->to.h >= LEAST_ROWS && s->to.w * s->to.h >= LEAST_PIXELS;
}

/* ---- clients ---- */

static sraRegionPtr region_of(struct rect r)
{
    return sraRgnCreateRect(r.x, r.y, r.x + r.w, r.y + r.h);
}

static void add(sraRegionPtr region, struct rect r)
{
    sraRegionPtr more = region_of(r);

    sraRgnOr(region, more);
    sraRgnDestroy(more);
}

static bool covers(sraRegionPtr region, struct rect r)
{
    sraRegionPtr rest = region_of(r);
    bool all;

    sraRgnSubtract(rest, region);
    all = sraRgnEmpty(rest);
    sraRgnDestroy(rest);
    return all;
}

/* Only clients that are sent an update at once: with others the movement would have to be kept
 * beside all that changes meanwhile. */
static bool ready(const struct vnc_client *c)
{
    return c->stage == VNC_NORMAL && !c->closing && c->rfb != NULL && c->rfb->useCopyRect &&
           c->wait_ns == 0 && !vnc_client_unsent(c) && vnc_direct_can(c) &&
           !sraRgnEmpty(c->rfb->requestedRegion);
}

bool vnc_scroll_wanted(struct vnc_ui *ui)
{
    bool any = false;

    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        any |= ui->clients[i] != NULL && ready(ui->clients[i]);
    }
    if (!any || ui->scroll_skip > 0) {
        ui->scroll_skip -= any;
        return false;
    }
    return true;
}

void vnc_scroll_found(struct vnc_ui *ui, bool found)
{
    ui->scroll_wait = found ? 0 : ui->scroll_wait == 0 ? 1 : 2 * ui->scroll_wait;
    ui->scroll_wait = ui->scroll_wait < WAIT_MAX ? ui->scroll_wait : WAIT_MAX;
    ui->scroll_skip = ui->scroll_wait / 2;
}

void vnc_scroll_cancel(struct vnc_client *c)
{
    if (c->copy.to.h > 0) {
        add(c->rfb->modifiedRegion, c->copy.to);
        c->copy.to.h = 0;
    }
}

void vnc_scroll_client(struct vnc_client *c, const sraRegionPtr changed, const struct vnc_scroll *s,
                       struct rect cursor_was, struct rect cursor_is)
{
    struct rect from = {s->to.x, s->to.y + s->dy, s->to.w, s->to.h};
    sraRegionPtr modified = c->rfb->modifiedRegion;
    sraRegionPtr target, stale, source;

    if (s->to.h == 0 || !ready(c) || !covers(c->rfb->requestedRegion, rect_union(s->to, from))) {
        sraRgnOr(modified, changed);
        return;
    }
    /* What the client has not, or has the cursor on, is wrong where it is moved to. */
    stale = sraRgnCreateRgn(modified);
    if (cursor_was.w > 0) {
        add(stale, cursor_was);
    }
    source = region_of(from);
    sraRgnAnd(stale, source);
    sraRgnOffset(stale, 0, -s->dy);
    target = region_of(s->to);
    sraRgnOr(modified, changed);
    sraRgnSubtract(modified, target);
    sraRgnOr(modified, stale);
    if (cursor_is.w > 0) {
        add(modified, cursor_is);
    }
    sraRgnDestroy(target);
    sraRgnDestroy(source);
    sraRgnDestroy(stale);
    c->copy = *s;
}
