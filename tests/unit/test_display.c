/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/loop.h"
#include "ui/display.h"
#include "ui/rects.h"

enum { MS = 1000000 };

/* An adapter that draws one colour and notes how it was called. */
struct source {
    int width, height;
    uint32_t colour;
    int touch; /* refreshes that still change something */
    unsigned refreshes, fulls, idles;
    uint64_t ready_ns;
};

static bool source_refresh(void *dev, struct display *d, bool full)
{
    struct source *s = dev;

    s->refreshes++;
    s->fulls += full;
    assert_true(display_resize(d, s->width, s->height));
    if (full) {
        for (int y = 0; y < s->height; y++) {
            for (int x = 0; x < s->width; x++) {
                display_row(d, y)[x] = s->colour + (uint32_t)(y * s->width + x);
            }
        }
        display_dirty(d, 0, 0, s->width, s->height);
        return true;
    }
    if (s->touch > 0) {
        s->touch--;
        display_row(d, 1)[1] ^= 0xffffff;
        display_dirty(d, 1, 1, 1, 1);
        return true;
    }
    return false;
}

static void source_idle(void *dev)
{
    ((struct source *)dev)->idles++;
}

static uint64_t source_ready(void *dev)
{
    return ((struct source *)dev)->ready_ns;
}

static const struct display_source source_ops = {source_refresh, source_idle, source_ready};

struct watcher {
    int width, height;
    unsigned resizes, updates, cursors, refreshed;
    struct rect last;
    bool busy; /* can use no picture */
};

static void on_resized(void *ui, int width, int height)
{
    struct watcher *w = ui;

    w->resizes++;
    w->width = width;
    w->height = height;
}

static void on_updated(void *ui, int x, int y, int width, int height)
{
    struct watcher *w = ui;

    w->updates++;
    w->last = (struct rect){x, y, width, height};
}

static void on_cursor(void *ui)
{
    ((struct watcher *)ui)->cursors++;
}

static bool wants(void *ui)
{
    return !((struct watcher *)ui)->busy;
}

static void refreshed(void *ui)
{
    ((struct watcher *)ui)->refreshed++;
}

static const struct display_viewer viewer_ops = {on_resized, on_updated, on_cursor, wants, refreshed};

struct fixture {
    struct loop *loop;
    struct display *d;
    struct source s;
    struct watcher w;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->loop = loop_create(true);
    f->d = display_create(f->loop);
    f->s = (struct source){.width = 100, .height = 50, .colour = 0x100000};
    display_set_source(f->d, &source_ops, &f->s);
    assert_int_equal(display_add_viewer(f->d, &viewer_ops, &f->w), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    display_destroy(f->d);
    loop_destroy(f->loop);
    free(f);
    return 0;
}

static const uint32_t *pixels(struct fixture *f)
{
    int w, h, stride;
    const uint32_t *p;

    display_lock(f->d);
    p = display_pixels(f->d, &w, &h, &stride);
    assert_true(p == NULL || (stride % 64 == 0 && stride >= w * 4));
    display_unlock(f->d);
    return p;
}

static void test_nobody_looks(void **state)
{
    struct fixture *f = *state;

    loop_advance(f->loop, 1000ull * MS);
    display_kick(f->d);
    display_dirty(f->d, 0, 0, 10, 10);
    loop_advance(f->loop, 1000ull * MS);
    assert_int_equal(f->s.refreshes, 0);
    assert_null(pixels(f));
    assert_null(display_row(f->d, 0));
    assert_true(display_resize(f->d, 320, 200));
    assert_int_equal(display_width(f->d), 320);
    assert_null(pixels(f));
}

static void test_first_and_last_viewer(void **state)
{
    struct fixture *f = *state;

    display_viewer_active(f->d, &f->w, true);
    assert_true(f->s.fulls >= 1);
    assert_int_equal(f->w.width, 100);
    assert_int_equal(f->w.height, 50);
    assert_true(f->w.updates >= 1);
    assert_int_equal(f->w.last.w, 100);
    assert_int_equal(f->w.last.h, 50);
    assert_non_null(pixels(f));
    assert_int_equal(display_row(f->d, 49)[99], 0x100000 + 4999);
    assert_null(display_row(f->d, 50));
    assert_null(display_row(f->d, -1));
    display_viewer_active(f->d, &f->w, false);
    assert_null(pixels(f));
    assert_int_equal(f->s.idles, 1);
    f->s.refreshes = 0;
    loop_advance(f->loop, 1000ull * MS);
    assert_int_equal(f->s.refreshes, 0);
    /* and again: everything is drawn anew */
    f->s.fulls = 0;
    display_viewer_active(f->d, &f->w, true);
    assert_int_equal(f->s.fulls, 1);
}

static void test_interval_adapts(void **state)
{
    struct fixture *f = *state;

    display_viewer_active(f->d, &f->w, true);
    f->s.touch = 1000;
    f->s.refreshes = 0;
    f->w.updates = 0;
    loop_advance(f->loop, 3000ull * MS);
    assert_in_range(f->s.refreshes, 98, 101); /* every 30 ms */
    assert_int_equal(f->w.updates, f->s.refreshes);
    assert_int_equal(f->w.last.x, 1);
    assert_int_equal(f->w.last.w, 1);
    f->s.touch = 0;
    loop_advance(f->loop, 5000ull * MS);
    f->s.refreshes = 0;
    loop_advance(f->loop, 10000ull * MS);
    assert_in_range(f->s.refreshes, 39, 41); /* every 250 ms */
    /* A kick: soon, but never sooner than one interval after the last. */
    f->s.refreshes = 0;
    display_kick(f->d);
    loop_advance(f->loop, 31ull * MS);
    assert_in_range(f->s.refreshes, 1, 2);
    f->s.refreshes = 0;
    for (int i = 0; i < 300; i++) {
        display_kick(f->d);
        loop_advance(f->loop, 1ull * MS);
    }
    assert_in_range(f->s.refreshes, 9, 11);
}

/* A viewer that is busy with the last picture costs little; when it is done there is a new one at once, or after the usual
 * interval. Another viewer is served meanwhile. */
static void test_nobody_wants(void **state)
{
    struct fixture *f = *state;
    struct watcher other = {.busy = true};

    display_viewer_active(f->d, &f->w, true);
    f->s.touch = 1000;
    loop_advance(f->loop, 100ull * MS);
    f->w.busy = true;
    f->s.refreshes = 0;
    loop_advance(f->loop, 1000ull * MS);
    display_kick(f->d);
    loop_advance(f->loop, 1100ull * MS);
    assert_in_range(f->s.refreshes, 8, 9); /* every 250 ms */
    f->s.refreshes = 0;
    f->w.busy = false;
    f->s.touch = 0;
    f->w.refreshed = 0;
    display_wanted(f->d);
    loop_advance(f->loop, 0);
    assert_int_equal(f->s.refreshes, 1);
    assert_int_equal(f->w.refreshed, 1); /* although nothing changed */
    f->w.busy = true;
    loop_advance(f->loop, 10ull * MS);
    f->w.busy = false;
    display_wanted(f->d);
    loop_advance(f->loop, 19ull * MS);
    assert_int_equal(f->s.refreshes, 1);
    loop_advance(f->loop, 1ull * MS);
    assert_int_equal(f->s.refreshes, 2);
    /* After input the guest has 5 ms to draw what comes of it, also where the viewer asks at once. */
    f->w.busy = true;
    loop_advance(f->loop, 100ull * MS);
    f->w.busy = false;
    display_kick(f->d);
    display_wanted(f->d);
    loop_advance(f->loop, 4ull * MS);
    assert_int_equal(f->s.refreshes, 2);
    loop_advance(f->loop, 1ull * MS);
    assert_int_equal(f->s.refreshes, 3);
    assert_int_equal(display_add_viewer(f->d, &viewer_ops, &other), 0);
    display_viewer_active(f->d, &other, true);
    f->s.refreshes = 0;
    loop_advance(f->loop, 300ull * MS);
    assert_in_range(f->s.refreshes, 9, 11);
    display_remove_viewer(f->d, &other);
}

/* A source that has to be left alone for a while is asked as soon as it may be, and nobody is told of a look before. */
static void test_source_not_ready(void **state)
{
    struct fixture *f = *state;

    display_viewer_active(f->d, &f->w, true);
    f->s.touch = 1000;
    loop_advance(f->loop, 100ull * MS);
    f->s.ready_ns = loop_now(f->loop, LOOP_HOST) + 77ull * MS;
    f->s.refreshes = f->w.refreshed = 0;
    loop_advance(f->loop, 60ull * MS);
    display_kick(f->d);
    display_wanted(f->d);
    loop_advance(f->loop, 16ull * MS);
    assert_int_equal(f->s.refreshes, 0);
    assert_int_equal(f->w.refreshed, 0);
    loop_advance(f->loop, 1ull * MS);
    assert_int_equal(f->s.refreshes, 1);
    assert_int_equal(f->w.refreshed, 1);
    f->s.ready_ns = UINT64_MAX;
    display_refresh_now(f->d); /* a screen shot waits for nothing */
    assert_int_equal(f->s.refreshes, 2);
}

static void test_resize_in_refresh(void **state)
{
    struct fixture *f = *state;

    display_viewer_active(f->d, &f->w, true);
    f->w.resizes = 0;
    f->s.width = 1366;
    f->s.height = 768;
    f->s.fulls = 0;
    loop_advance(f->loop, 40ull * MS);
    assert_int_equal(f->w.resizes, 1);
    assert_int_equal(f->w.width, 1366);
    assert_int_equal(f->w.last.w, 1366);
    assert_int_equal(f->w.last.h, 768);
    assert_int_equal(f->s.fulls, 1); /* a black surface is never left to a partial draw */
    assert_int_equal(display_row(f->d, 767)[1365], 0x100000 + 1366 * 768 - 1);
    /* Beyond the limits is clamped. */
    assert_true(display_resize(f->d, 100000, 0));
    assert_int_equal(display_width(f->d), DISPLAY_MAX_WIDTH);
    assert_int_equal(display_height(f->d), 1);
}

static void test_skips_when_locked(void **state)
{
    struct fixture *f = *state;

    display_viewer_active(f->d, &f->w, true);
    f->s.touch = 1000;
    display_lock(f->d); /* as a viewer's thread would: the same thread is enough for a trylock */
    f->s.refreshes = 0;
    loop_advance(f->loop, 100ull * MS);
    assert_int_equal(f->s.refreshes, 0);
    display_unlock(f->d);
    loop_advance(f->loop, 10ull * MS);
    assert_int_equal(f->s.refreshes, 1);
}

static void test_dirty_is_clipped(void **state)
{
    struct fixture *f = *state;

    display_viewer_active(f->d, &f->w, true);
    f->w.updates = 0;
    display_dirty(f->d, -5, -5, 5, 5);
    display_dirty(f->d, 100, 0, 1, 1);
    display_dirty(f->d, 0, 0, 0, 10);
    display_dirty(f->d, 0, 0, -10, 10);
    assert_int_equal(f->w.updates, 0);
    display_dirty(f->d, 90, 40, 0x7fffffff, 0x7fffffff);
    assert_int_equal(f->w.updates, 1);
    assert_int_equal(f->w.last.x, 90);
    assert_int_equal(f->w.last.w, 10);
    assert_int_equal(f->w.last.h, 10);
}

/* Every changed pixel stays covered, whatever is merged, and the list stays bounded. */
static void test_rects(void **state)
{
    static bool want[64][64], have[64][64];
    struct rects list = {.count = 0};
    struct rect r;
    unsigned seed = 1;

    (void)state;
    for (int i = 0; i < 2000; i++) {
        seed = seed * 1103515245 + 12345;
        r = (struct rect){(int)(seed >> 16 & 63), (int)(seed >> 22 & 63), (int)(seed >> 8 & 7) + 1, (int)(seed >> 11 & 7) + 1};
        if (!rect_clip(&r, 64, 64)) {
            continue;
        }
        if (i % 40 == 0) {
            list.count = 0;
            memset(want, 0, sizeof(want));
        }
        rects_add(&list, r);
        assert_in_range(list.count, 1, RECTS_MAX);
        for (int y = r.y; y < r.y + r.h; y++) {
            memset(&want[y][r.x], 1, (size_t)r.w);
        }
        memset(have, 0, sizeof(have));
        for (int k = 0; k < list.count; k++) {
            for (int y = list.r[k].y; y < list.r[k].y + list.r[k].h; y++) {
                memset(&have[y][list.r[k].x], 1, (size_t)list.r[k].w);
            }
        }
        for (int y = 0; y < 64; y++) {
            for (int x = 0; x < 64; x++) {
                assert_true(have[y][x] || !want[y][x]);
            }
        }
    }
    /* A row of text cells becomes one rectangle; far corners stay apart. */
    list.count = 0;
    for (int x = 0; x < 640; x += 8) {
        rects_add(&list, (struct rect){x, 16, 8, 16});
    }
    assert_int_equal(list.count, 1);
    assert_int_equal(list.r[0].w, 640);
    rects_add(&list, (struct rect){600, 400, 8, 16});
    assert_int_equal(list.count, 2);
}

static void test_cursor(void **state)
{
    struct fixture *f = *state;
    static uint32_t shape[100 * 80];
    uint32_t row[8] = {0x102030, 0x102030, 0x102030, 0x102030, 0x102030, 0x102030, 0x102030, 0x102030};
    struct display_cursor_image c = {.x = 6, .y = 3, .visible = true, .width = 4, .height = 1,
                                     .argb = {0xffffffff, 0x80fe0000, 0xffabcdef, 0xff000000}};
    const struct display_cursor_image *got = display_cursor_get(f->d);
    uint32_t serial = got->serial;

    for (size_t i = 0; i < 100 * 80; i++) {
        shape[i] = (uint32_t)i;
    }
    display_viewer_active(f->d, &f->w, true);
    f->w.cursors = 0;
    display_cursor(f->d, shape, 100, 80, 3, 4); /* cut to 64 x 64 */
    assert_int_equal(got->width, 64);
    assert_int_equal(got->height, 64);
    assert_int_equal(got->argb[63 * 64 + 63], 63 * 100 + 63);
    assert_int_not_equal(got->serial, serial);
    display_cursor_move(f->d, -5, 7, true);
    display_cursor_move(f->d, -5, 7, true);
    assert_int_equal(f->w.cursors, 2); /* no news the second time */
    display_cursor(f->d, NULL, 0, 0, 0, 0);
    assert_int_equal(got->width, 0);

    display_cursor_blend(&c, row, 3, 8);
    assert_int_equal(row[5], 0x102030);
    assert_int_equal(row[6], 0xffffff);
    assert_int_equal(row[7] >> 16, 0x87); /* half of 0x10 and half of 0xfe */
    c.x = -3;
    display_cursor_blend(&c, row, 3, 8);
    assert_int_equal(row[0], 0);
    display_cursor_blend(&c, row, 4, 8);
    assert_int_equal(row[1], 0x102030);
}

/* A source that goes away while somebody looks leaves the picture as it is. */
static void test_source_gone(void **state)
{
    struct fixture *f = *state;

    display_viewer_active(f->d, &f->w, true);
    display_set_source(f->d, NULL, NULL);
    f->s.refreshes = f->s.idles = 0;
    loop_advance(f->loop, 500ull * MS);
    assert_int_equal(f->s.refreshes, 0);
    display_remove_viewer(f->d, &f->w);
    assert_int_equal(f->s.idles, 0);
    assert_null(pixels(f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nobody_looks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_first_and_last_viewer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interval_adapts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_wants, setup, teardown),
        cmocka_unit_test_setup_teardown(test_source_not_ready, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resize_in_refresh, setup, teardown),
        cmocka_unit_test_setup_teardown(test_skips_when_locked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dirty_is_clipped, setup, teardown),
        cmocka_unit_test(test_rects),
        cmocka_unit_test_setup_teardown(test_cursor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_source_gone, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
