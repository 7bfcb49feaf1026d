/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The picture, between one graphics adapter (the source) and any number of viewers (VNC, SDL,
 * screen shots).
 *
 * Pixels are 32-bit XRGB in host order (0x00RRGGBB), top to bottom, stride = width * 4 bytes
 * rounded up to 64. The surface belongs to the display. The loop thread draws; viewers that run on
 * a thread of their own take the lock while they copy. Nothing is drawn, tracked or timed while
 * nobody looks: the display calls source->refresh() at most every DISPLAY_REFRESH_NS, and only with
 * a viewer; when a run of refreshes changed nothing the interval grows (to DISPLAY_IDLE_NS), input
 * or a change makes it short again.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct display;

enum { DISPLAY_MAX_WIDTH = 4096, DISPLAY_MAX_HEIGHT = 4096, DISPLAY_MAX_CURSOR = 64 };
#define DISPLAY_REFRESH_NS 30000000ull
#define DISPLAY_IDLE_NS    250000000ull

struct display *display_create(struct loop *loop);
void display_destroy(struct display *d);

/* ---- the source's side (a graphics adapter; loop thread) ---- */

struct display_source {
    /* Draws what changed since the last call: display_resize() if the size differs, then rows
     * through display_row(), then display_dirty() for what was touched. full: draw everything
     * (first viewer, or after a resize). Returns true if anything changed. */
    bool (*refresh)(void *dev, struct display *d, bool full);
    /* The last viewer went away: stop dirty tracking. */
    void (*idle)(void *dev);
    /* When it may be asked again for what changed (LOOP_HOST; 0: at any time). May be NULL. */
    uint64_t (*ready_ns)(void *dev);
};
void display_set_source(struct display *d, const struct display_source *source, void *dev);

/* New size in pixels, 1..MAX; larger is clamped. Contents become black and everything is dirty.
 * No-op if unchanged. false: no memory, old size kept. */
bool display_resize(struct display *d, int width, int height);
int display_width(const struct display *d);
int display_height(const struct display *d);
/* Row y of the surface, display_width() pixels. NULL outside refresh() with no viewer (there is no
 * surface), and for a y outside. */
uint32_t *display_row(struct display *d, int y);
/* Marks a rectangle (clipped) as changed for all viewers. */
void display_dirty(struct display *d, int x, int y, int width, int height);

/* Hardware cursor: 64x64 at most, ARGB premultiplied not; shape NULL hides it. Position in picture
 * pixels of the top left. Viewers show it themselves or blend it. The shape starts hidden at 0,0.
 * */
void display_cursor(struct display *d, const uint32_t *argb, int width, int height, int hot_x,
                    int hot_y);
void display_cursor_move(struct display *d, int x, int y, bool visible);

/* ---- the viewers' side ---- */

struct display_viewer {
    /* Loop thread, display locked: the size changed / rectangles were drawn. Keep it short; wake
     * your thread. Each may be NULL. */
    void (*resized)(void *ui, int width, int height);
    void (*updated)(void *ui, int x, int y, int width, int height);
    /* Loop thread, not locked: the cursor's shape or place changed; see display_cursor_get(). */
    void (*cursor)(void *ui);
    /* Loop thread, not locked: can the viewer use a new picture now? A picture that is replaced
     * before anybody has fetched it costs as much as one that is seen: while no viewer can use one,
     * one is drawn each DISPLAY_IDLE_NS only. Who has said no calls display_wanted() later. NULL:
     * always. */
    bool (*wants)(void *ui);
    /* Loop thread, display locked: the source was asked, whether anything changed or not. */
    void (*refreshed)(void *ui);
};
/* Adds a viewer front end (one per server or window, not per client). It starts inactive. */
int display_add_viewer(struct display *d, const struct display_viewer *viewer, void *ui);
void display_remove_viewer(struct display *d, void *ui);
/* Loop thread: tells whether anybody looks through this front end (a client is connected). */
void display_viewer_active(struct display *d, void *ui, bool active);
/* Loop thread: a fresh picture is wanted now (client asked, input happened). */
void display_kick(struct display *d);
/* Loop thread: a viewer can use a new picture again. */
void display_wanted(struct display *d);
/* Loop thread: one full synchronous refresh (screen shots). Without a viewer the surface stays
 * until the next one comes and goes, or display_release(). */
void display_refresh_now(struct display *d);
/* Loop thread: lets the surface go when nobody looks. */
void display_release(struct display *d);

/* The hardware cursor as the source last set it. */
struct display_cursor_image {
    uint32_t serial; /* changes with the shape */
    int x, y;        /* of the top left, picture pixels, any value */
    bool visible;
    int width, height; /* 0: no shape; rows are `width` pixels apart */
    int hot_x, hot_y;
    uint32_t argb[DISPLAY_MAX_CURSOR * DISPLAY_MAX_CURSOR];
};
/* Loop thread: never NULL. */
const struct display_cursor_image *display_cursor_get(const struct display *d);
/* Any thread, on a copy: draws the cursor's pixels of picture row y over `row` (width pixels). */
void display_cursor_blend(const struct display_cursor_image *c, uint32_t *row, int y, int width);

/* Any thread: exclusive access to the surface for copying. Held briefly; the loop thread skips a
 * refresh rather than wait. */
void display_lock(struct display *d);
void display_unlock(struct display *d);
/* Under the lock. */
const uint32_t *display_pixels(const struct display *d, int *width, int *height, int *stride_bytes);
