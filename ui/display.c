/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ui/display.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/log.h"
#include "core/loop.h"
#include "ui/rects.h"

enum {
    MAX_VIEWERS = 4,
    IDLE_RUN = 10,       /* refreshes without a change before the interval grows */
    DEFAULT_WIDTH = 640, /* until the source says */
    DEFAULT_HEIGHT = 480,
};
/* A kick waits this long: the guest has to take the key press before there is anything new to see.
 * */
static const uint64_t kick_delay_ns = 5000000;

struct viewer {
    const struct display_viewer *ops;
    void *ui;
    bool active;
};

struct display {
    struct loop *loop;
    const struct display_source *source;
    void *dev;

    pthread_mutex_t lock; /* surface, its size, its stride */
    bool locked;          /* by the loop thread itself: inside a refresh */
    uint32_t *pixels;     /* NULL: nobody looks */
    size_t bytes;         /* of the mapping */
    int width, height;    /* kept without a surface */
    int stride;           /* pixels */

    struct rects dirty; /* of this refresh */
    bool resized;       /* in this refresh */
    bool full;          /* the next refresh draws everything */

    struct viewer viewers[MAX_VIEWERS];
    int viewer_count;
    int active;

    struct timer timer;
    uint64_t interval_ns;
    uint64_t last_ns; /* time of the last refresh */
    uint64_t kick_ns; /* after the last kick: there is nothing new to see before */
    int unchanged;    /* refreshes in a row */

    struct display_cursor_image cursor;
};

static void tick(void *arg);

struct display *display_create(struct loop *loop)
{
    struct display *d = calloc(1, sizeof(*d));

    if (d == NULL) {
        return NULL;
    }
    d->loop = loop;
    d->width = DEFAULT_WIDTH;
    d->height = DEFAULT_HEIGHT;
    d->interval_ns = DISPLAY_REFRESH_NS;
    d->full = true;
    pthread_mutex_init(&d->lock, NULL);
    timer_init(&d->timer, loop, LOOP_HOST, tick, d);
    return d;
}

static void surface_free(struct display *d)
{
    if (d->pixels != NULL) {
        munmap(d->pixels, d->bytes);
    }
    d->pixels = NULL;
    d->bytes = 0;
}

void display_destroy(struct display *d)
{
    if (d == NULL) {
        return;
    }
    timer_cancel(&d->timer);
    surface_free(d);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

/* The lock for the loop thread, which may already hold it (inside a refresh). Returns whether it
 * has to be given back. Viewers hold it for a copy only, so outside a refresh waiting is short; a
 * source that draws in refresh() never waits here. */
static bool loop_lock(struct display *d)
{
    if (d->locked) {
        return false;
    }
    pthread_mutex_lock(&d->lock);
    return true;
}

static void loop_unlock(struct display *d, bool taken)
{
    if (taken) {
        pthread_mutex_unlock(&d->lock);
    }
}

/* A black surface of that size. false: no memory, the old one is kept. */
static bool surface_alloc(struct display *d, int width, int height)
{
    int stride = (width + 15) & ~15;
    size_t bytes = (size_t)stride * (size_t)height * sizeof(uint32_t);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static struct log_limit limit;

    if (p == MAP_FAILED) {
        log_limited(&limit, "no memory for a picture of %dx%d", width, height);
        return false;
    }
    surface_free(d);
    d->pixels = p;
    d->bytes = bytes;
    d->stride = stride;
    d->width = width;
    d->height = height;
    d->dirty.count = 0;
    d->resized = true;
    d->full = true;
    return true;
}

/* Hands this refresh's changes to the active viewers. Locked. */
static bool report(struct display *d)
{
    bool any = d->resized || d->dirty.count > 0;

    if (d->resized) {
        d->dirty.count = 0;
        rects_add(&d->dirty, (struct rect){0, 0, d->width, d->height});
    }
    for (int v = 0; v < d->viewer_count && any; v++) {
        struct viewer *vw = &d->viewers[v];

        if (!vw->active) {
            continue;
        }
        if (d->resized && vw->ops->resized != NULL) {
            vw->ops->resized(vw->ui, d->width, d->height);
        }
        for (int i = 0; i < d->dirty.count && vw->ops->updated != NULL; i++) {
            const struct rect *r = &d->dirty.r[i];

            vw->ops->updated(vw->ui, r->x, r->y, r->w, r->h);
        }
    }
    d->dirty.count = 0;
    d->resized = false;
    return any;
}

/* Draws what changed. The lock is held. Returns true when something changed. */
static bool refresh_locked(struct display *d)
{
    bool changed = false;
    bool full;

    if (d->pixels == NULL && !surface_alloc(d, d->width, d->height)) {
        return false;
    }
    d->locked = true;
    full = d->full;
    d->full = false;
    if (d->source != NULL) {
        changed = d->source->refresh(d->dev, d, full);
        if (d->full && !full) {
            /* It resized: a source that only knows "what changed" has to draw the new, black
             * surface whole. */
            d->full = false;
            changed |= d->source->refresh(d->dev, d, true);
        }
        d->full = false;
    }
    changed |= report(d);
    for (int i = 0; i < d->viewer_count; i++) {
        const struct viewer *v = &d->viewers[i];

        if (v->active && v->ops->refreshed != NULL) {
            v->ops->refreshed(v->ui);
        }
    }
    d->locked = false;
    d->last_ns = loop_now(d->loop, LOOP_HOST);
    return changed;
}

static void arm(struct display *d, uint64_t deadline_ns)
{
    if (d->active > 0 && (!d->timer.armed || deadline_ns < d->timer.deadline_ns)) {
        timer_set(&d->timer, deadline_ns);
    }
}

/* Can any viewer use a picture now? */
static bool wanted(const struct display *d)
{
    for (int i = 0; i < d->viewer_count; i++) {
        const struct viewer *v = &d->viewers[i];

        if (v->active && (v->ops->wants == NULL || v->ops->wants(v->ui))) {
            return true;
        }
    }
    return false;
}

/* When the next picture is due: now or before, or later. */
static uint64_t due_ns(const struct display *d, uint64_t now)
{
    uint64_t ready = !d->full && d->source != NULL && d->source->ready_ns != NULL
                         ? d->source->ready_ns(d->dev)
                         : 0;
    uint64_t idle = d->last_ns + DISPLAY_IDLE_NS;

    return ready > now ? ready : idle > now && !wanted(d) ? idle : now;
}

static void tick(void *arg)
{
    struct display *d = arg;
    uint64_t now = loop_now(d->loop, LOOP_HOST);
    uint64_t due;

    if (d->active == 0) {
        return;
    }
    due = due_ns(d, now);
    if (due > now) {
        arm(d, due);
        return;
    }
    if (pthread_mutex_trylock(&d->lock) != 0) {
        /* A viewer is copying: this thread serves the guest and does not wait. */
        arm(d, loop_now(d->loop, LOOP_HOST) + DISPLAY_REFRESH_NS / 8);
        return;
    }
    if (refresh_locked(d)) {
        d->unchanged = 0;
        d->interval_ns = DISPLAY_REFRESH_NS;
    } else if (++d->unchanged >= IDLE_RUN) {
        d->interval_ns += d->interval_ns / 4;
        if (d->interval_ns > DISPLAY_IDLE_NS) {
            d->interval_ns = DISPLAY_IDLE_NS;
        }
    }
    pthread_mutex_unlock(&d->lock);
    arm(d, d->last_ns + d->interval_ns);
}

void display_wanted(struct display *d)
{
    uint64_t now = loop_now(d->loop, LOOP_HOST);
    uint64_t next = d->last_ns + DISPLAY_REFRESH_NS;

    next = d->kick_ns > next ? d->kick_ns : next;
    arm(d, next > now ? next : now);
}

void display_kick(struct display *d)
{
    uint64_t now = loop_now(d->loop, LOOP_HOST);
    uint64_t next = d->last_ns + DISPLAY_REFRESH_NS;

    d->unchanged = 0;
    d->interval_ns = DISPLAY_REFRESH_NS;
    d->kick_ns = now + kick_delay_ns;
    arm(d, next > d->kick_ns ? next : d->kick_ns);
}

void display_refresh_now(struct display *d)
{
    pthread_mutex_lock(&d->lock);
    d->full = true;
    refresh_locked(d);
    pthread_mutex_unlock(&d->lock);
    if (d->active == 0) {
        /* Whatever comes next must draw everything: from here on nobody tracks changes. */
        d->full = true;
        if (d->source != NULL && d->source->idle != NULL) {
            d->source->idle(d->dev);
        }
    }
}

void display_set_source(struct display *d, const struct display_source *source, void *dev)
{
    d->source = source;
    d->dev = dev;
    d->full = true;
    display_kick(d);
}

bool display_resize(struct display *d, int width, int height)
{
    bool taken, ok = true;

    width = width < 1 ? 1 : width > DISPLAY_MAX_WIDTH ? DISPLAY_MAX_WIDTH : width;
    height = height < 1 ? 1 : height > DISPLAY_MAX_HEIGHT ? DISPLAY_MAX_HEIGHT : height;
    if (width == d->width && height == d->height) {
        return true;
    }
    taken = loop_lock(d);
    if (d->pixels != NULL) {
        ok = surface_alloc(d, width, height);
    } else {
        d->width = width;
        d->height = height;
        d->full = true;
    }
    if (taken && ok && d->pixels != NULL) {
        report(d);
    }
    loop_unlock(d, taken);
    return ok;
}

int display_width(const struct display *d)
{
    return d->width;
}

int display_height(const struct display *d)
{
    return d->height;
}

uint32_t *display_row(struct display *d, int y)
{
    if (d->pixels == NULL || y < 0 || y >= d->height) {
        return NULL;
    }
    return d->pixels + (size_t)y * (size_t)d->stride;
}

void display_dirty(struct display *d, int x, int y, int width, int height)
{
    struct rect r = {x, y, width, height};

    if (d->pixels != NULL && rect_clip(&r, d->width, d->height)) {
        bool taken = loop_lock(d);

        rects_add(&d->dirty, r);
        if (taken) {
            report(d);
        }
        loop_unlock(d, taken);
    }
}

static void report_cursor(struct display *d)
{
    for (int i = 0; i < d->viewer_count; i++) {
        struct viewer *v = &d->viewers[i];

        if (v->active && v->ops->cursor != NULL) {
            v->ops->cursor(v->ui);
        }
    }
}

void display_cursor(struct display *d, const uint32_t *argb, int width, int height, int hot_x,
                    int hot_y)
{
    struct display_cursor_image *c = &d->cursor;

    c->serial++;
    c->width = c->height = 0;
    if (argb != NULL && width > 0 && height > 0) {
        int row = width;

        c->width = width < DISPLAY_MAX_CURSOR ? width : DISPLAY_MAX_CURSOR;
        c->height = height < DISPLAY_MAX_CURSOR ? height : DISPLAY_MAX_CURSOR;
        c->hot_x = hot_x;
        c->hot_y = hot_y;
        for (int y = 0; y < c->height; y++) {
            memcpy(&c->argb[y * c->width], &argb[(size_t)y * (size_t)row],
                   (size_t)c->width * sizeof(uint32_t));
        }
    }
    report_cursor(d);
}

void display_cursor_move(struct display *d, int x, int y, bool visible)
{
    struct display_cursor_image *c = &d->cursor;

    if (c->x == x && c->y == y && c->visible == visible) {
        return;
    }
    c->x = x;
    c->y = y;
    c->visible = visible;
    report_cursor(d);
}

const struct display_cursor_image *display_cursor_get(const struct display *d)
{
    return &d->cursor;
}

int display_add_viewer(struct display *d, const struct display_viewer *viewer, void *ui)
{
    if (d->viewer_count == MAX_VIEWERS) {
        return -ENOSPC;
    }
    d->viewers[d->viewer_count++] = (struct viewer){.ops = viewer, .ui = ui};
    return 0;
}

static struct viewer *find_viewer(struct display *d, const void *ui)
{
    for (int i = 0; i < d->viewer_count; i++) {
        if (d->viewers[i].ui == ui) {
            return &d->viewers[i];
        }
    }
    return NULL;
}

void display_remove_viewer(struct display *d, void *ui)
{
    struct viewer *v;

    display_viewer_active(d, ui, false);
    v = find_viewer(d, ui);
    if (v != NULL) {
        *v = d->viewers[--d->viewer_count];
    }
}

/* The last viewer went: no timer, no tracking, no memory. */
static void go_idle(struct display *d)
{
    timer_cancel(&d->timer);
    if (d->source != NULL && d->source->idle != NULL) {
        d->source->idle(d->dev);
    }
    pthread_mutex_lock(&d->lock);
    surface_free(d);
    d->full = true;
    pthread_mutex_unlock(&d->lock);
}

void display_viewer_active(struct display *d, void *ui, bool active)
{
    struct viewer *v = find_viewer(d, ui);

    if (v == NULL || v->active == active) {
        return;
    }
    v->active = active;
    d->active += active ? 1 : -1;
    if (d->active == 0) {
        go_idle(d);
        return;
    }
    if (!active) {
        return;
    }
    /* Everything is new for this viewer. Others only see their picture drawn once more. */
    d->full = true;
    d->unchanged = 0;
    d->interval_ns = DISPLAY_REFRESH_NS;
    pthread_mutex_lock(&d->lock);
    if (d->pixels != NULL || surface_alloc(d, d->width, d->height)) {
        d->resized = true;
        refresh_locked(d);
    }
    pthread_mutex_unlock(&d->lock);
    if (v->ops->cursor != NULL) {
        v->ops->cursor(v->ui);
    }
    arm(d, loop_now(d->loop, LOOP_HOST) + d->interval_ns);
}

void display_lock(struct display *d)
{
    pthread_mutex_lock(&d->lock);
}

void display_unlock(struct display *d)
{
    pthread_mutex_unlock(&d->lock);
}

const uint32_t *display_pixels(const struct display *d, int *width, int *height, int *stride_bytes)
{
    *width = d->width;
    *height = d->height;
    *stride_bytes = d->stride * (int)sizeof(uint32_t);
    return d->pixels;
}

/* Blends the cursor over one row of 0x00RRGGBB pixels. */
void display_cursor_blend(const struct display_cursor_image *c, uint32_t *row, int y, int width)
{
    int cy = y - c->y;

    if (!c->visible || cy < 0 || cy >= c->height) {
        return;
    }
    for (int cx = 0; cx < c->width; cx++) {
        int x = c->x + cx;
        uint32_t s = c->argb[cy * c->width + cx];
        uint32_t a = s >> 24;
        uint32_t d, rb, g;

        if (x < 0 || x >= width || a == 0) {
            continue;
        }
        a += a >> 7; /* 0..256, so that 255 is opaque */
        d = row[x];
        rb = ((s & 0xff00ff) * a + (d & 0xff00ff) * (256 - a)) >> 8;
        g = ((s & 0x00ff00) * a + (d & 0x00ff00) * (256 - a)) >> 8;
        row[x] = (rb & 0xff00ff) | (g & 0x00ff00);
    }
}

void display_release(struct display *d)
{
    if (d->active == 0) {
        go_idle(d);
    }
}
