/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The window's picture: a copy of the display's, drawn on the window's surface, which SDL keeps in
 * memory shared with the X server. Neither a renderer nor OpenGL: their libraries are many times
 * the size of this program, and a screen is copied once either way.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/log.h"
#include "ui/sdl_int.h"

void sdl_draw_free(struct sdl_ui *ui)
{
    if (ui->pixels != NULL) {
        munmap(ui->pixels, ui->pixel_bytes);
    }
    ui->pixels = NULL;
    ui->pixel_bytes = 0;
    ui->cursor_rect.w = 0;
}

/* A new copy of that size; the old one is freed. */
static bool picture_alloc(struct sdl_ui *ui, int width, int height)
{
    static struct log_limit limit;
    size_t bytes = (size_t)width * (size_t)height * sizeof(uint32_t);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        log_limited(&limit, "SDL: no memory for a picture of %dx%d", width, height);
        return false;
    }
    sdl_draw_free(ui);
    ui->pixels = p;
    ui->pixel_bytes = bytes;
    ui->width = width;
    ui->height = height;
    return true;
}

static const uint32_t *copy_row(const struct sdl_ui *ui, int y)
{
    return ui->pixels + (size_t)y * (size_t)ui->width;
}

/* Takes over the display's surface where it changed. Locked by sdl.life. true: another size. */
static bool picture_copy(struct sdl_ui *ui, struct rects *dirty)
{
    struct sdl *s = ui->s;
    const uint32_t *from;
    int width, height, stride;
    bool all;

    display_lock(s->display);
    from = display_pixels(s->display, &width, &height, &stride);
    pthread_mutex_lock(&s->lock);
    *dirty = s->dirty;
    s->dirty.count = 0;
    s->drawn = false;
    pthread_mutex_unlock(&s->lock);
    all = ui->pixels == NULL || width != ui->width || height != ui->height;
    if (from == NULL || (all && !picture_alloc(ui, width, height))) {
        display_unlock(s->display);
        dirty->count = 0;
        return false;
    }
    if (all) {
        dirty->count = 1;
        dirty->r[0] = (struct rect){0, 0, width, height};
    }
    for (int i = 0; i < dirty->count; i++) {
        struct rect *r = &dirty->r[i];

        if (!rect_clip(r, width, height)) {
            continue;
        }
        for (int y = r->y; y < r->y + r->h; y++) {
            memcpy(ui->pixels + (size_t)y * (size_t)width + r->x,
                   from + (size_t)y * ((size_t)stride / sizeof(uint32_t)) + r->x,
                   (size_t)r->w * sizeof(uint32_t));
        }
    }
    display_unlock(s->display);
    return all;
}

/* ---- on the window ---- */

/* The row as the viewer sees it, with the cursor on it. line: where to put it together. */
static const uint32_t *seen_row(const struct sdl_ui *ui, int y, uint32_t *line)
{
    const struct rect *c = &ui->cursor_rect;

    if (c->w == 0 || y < c->y || y >= c->y + c->h) {
        return copy_row(ui, y);
    }
    memcpy(line, copy_row(ui, y), (size_t)ui->width * sizeof(*line));
    display_cursor_blend(&ui->cursor, line, y, ui->width);
    return line;
}

/* Draws rectangle r (clipped, not empty) of the picture; *out becomes the place on the window. */
static void draw_rect(struct sdl_ui *ui, SDL_Surface *surface, struct rect r, SDL_Rect *out)
{
    const struct scale s = {ui->width, ui->height, ui->view.w, ui->view.h};
    struct rect to = scale_rect(&s, r);
    int pixel_bytes = surface->format->BytesPerPixel;

    *out = (SDL_Rect){ui->view.x + to.x, ui->view.y + to.y, to.w, to.h};
    for (int y = to.y; y < to.y + to.h; y++) {
        uint8_t *row = (uint8_t *)surface->pixels + (ptrdiff_t)(ui->view.y + y) * surface->pitch +
                       (ptrdiff_t)(ui->view.x + to.x) * pixel_bytes;
        const uint32_t *first, *second;
        int top, bottom;
        unsigned share;

        scale_rows(&s, y, &top, &bottom, &share);
        first = seen_row(ui, top, ui->line[0]);
        second = bottom == top ? first : seen_row(ui, bottom, ui->line[1]);
        scale_row(&s, first, second, share, to.x, to.w, ui->scaled);
        if (surface->format->format == SDL_PIXELFORMAT_RGB888) {
            memcpy(row, ui->scaled, (size_t)to.w * sizeof(uint32_t));
        } else {
            ui->lib->ConvertPixels(to.w, 1, SDL_PIXELFORMAT_RGB888, ui->scaled,
                                   to.w * (int)sizeof(uint32_t), surface->format->format, row,
                                   surface->pitch);
        }
    }
}

/* The window's surface, all its preconditions met. NULL: nothing can be drawn now. */
static SDL_Surface *window_surface(struct sdl_ui *ui)
{
    static struct log_limit limit;
    SDL_Surface *surface = ui->lib->GetWindowSurface(ui->window);

    if (surface == NULL) {
        log_limited(&limit, "SDL: the window cannot be drawn on: %s", ui->lib->GetError());
        return NULL;
    }
    if (surface->w > ui->scaled_width) {
        uint32_t *scaled = realloc(ui->scaled, (size_t)surface->w * sizeof(uint32_t));

        if (scaled == NULL) {
            return NULL;
        }
        ui->scaled = scaled;
        ui->scaled_width = surface->w;
    }
    if (surface != ui->drawn_on) {
        ui->drawn_on = surface; /* a new one is black */
        ui->redraw = true;
    }
    return surface;
}

/* Draws the rectangles of the picture, or all when that is due. */
static void draw(struct sdl_ui *ui, const struct rects *dirty)
{
    SDL_Surface *surface = ui->visible ? window_surface(ui) : NULL;
    SDL_Rect changed[RECTS_MAX];
    int n = 0;

    if (surface == NULL) {
        return;
    }
    if (ui->pixels != NULL) {
        struct rect view = scale_fit(ui->width, ui->height, surface->w, surface->h);

        ui->redraw |= memcmp(&view, &ui->view, sizeof(view)) != 0;
        ui->view = view;
    }
    if (ui->redraw) {
        ui->redraw = false;
        ui->lib->FillRect(surface, NULL, 0); /* what is beside the picture is black */
        if (ui->pixels != NULL) {
            draw_rect(ui, surface, (struct rect){0, 0, ui->width, ui->height}, &changed[0]);
        }
        changed[n++] = (SDL_Rect){0, 0, surface->w, surface->h};
    } else {
        for (int i = 0; i < dirty->count && ui->pixels != NULL; i++) {
            struct rect r = dirty->r[i];

            if (rect_clip(&r, ui->width, ui->height)) {
                draw_rect(ui, surface, r, &changed[n++]);
            }
        }
    }
    if (n > 0) {
        ui->lib->UpdateWindowSurfaceRects(ui->window, changed, n);
    }
}

void sdl_draw_all(struct sdl_ui *ui)
{
    const struct rects none = {.count = 0};

    ui->redraw = true;
    draw(ui, &none);
}

bool sdl_draw_sync(struct sdl_ui *ui)
{
    struct sdl *s = ui->s;
    struct rects dirty = {.count = 0};
    bool drawn, moved, resized = false;

    pthread_mutex_lock(&s->lock);
    drawn = s->drawn;
    moved = s->cursor_changed;
    if (moved && ui->visible) {
        ui->cursor = s->cursor;
        s->cursor_changed = false;
    }
    pthread_mutex_unlock(&s->lock);
    if (!ui->visible || (!drawn && !moved)) {
        return false;
    }
    if (drawn) {
        pthread_mutex_lock(&s->life);
        resized = !s->quit && picture_copy(ui, &dirty);
        pthread_mutex_unlock(&s->life);
    }
    if (ui->pixels == NULL) {
        return false;
    }
    if (moved || resized) {
        struct rect r = {ui->cursor.x, ui->cursor.y, ui->cursor.width, ui->cursor.height};

        if (ui->cursor_rect.w > 0 && !resized) {
            rects_add(&dirty, ui->cursor_rect);
        }
        ui->cursor_rect.w = 0;
        if (ui->cursor.visible && rect_clip(&r, ui->width, ui->height)) {
            rects_add(&dirty, r);
            ui->cursor_rect = r;
        }
    }
    if (resized) {
        return true; /* the window comes first */
    }
    draw(ui, &dirty);
    return false;
}
