/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "core/loop.h"
#include "ui/input.h"

struct rec {
    unsigned n;
    struct {
        char kind; /* 'k', 'r', 'a' */
        int a, b, c, d;
    } e[4096];
};

static void put(struct rec *r, char kind, int a, int b, int c, int d)
{
    assert_true(r->n < 4096);
    r->e[r->n].kind = kind;
    r->e[r->n].a = a;
    r->e[r->n].b = b;
    r->e[r->n].c = c;
    r->e[r->n++].d = d;
}

static void rec_key(void *dev, uint8_t key, bool down)
{
    put(dev, 'k', key, down, 0, 0);
}

static void rec_rel(void *dev, int dx, int dy, int dz, unsigned buttons)
{
    put(dev, 'r', dx, dy, dz, (int)buttons);
}

static void rec_abs(void *dev, int x, int y, int dz, unsigned buttons)
{
    put(dev, 'a', x, y, dz, (int)buttons);
}

static const struct input_keyboard kbd = { .key = rec_key };
static const struct input_pointer mouse = { .relative = rec_rel };
static const struct input_pointer tablet = { .absolute = rec_abs };

static void expect(const struct rec *r, unsigned i, char kind, int a, int b, int c, int d)
{
    assert_true(i < r->n);
    assert_int_equal(r->e[i].kind, kind);
    assert_int_equal(r->e[i].a, a);
    assert_int_equal(r->e[i].b, b);
    assert_int_equal(r->e[i].c, c);
    assert_int_equal(r->e[i].d, d);
}

static struct input_event key(uint8_t code, bool down)
{
    return (struct input_event){ .type = INPUT_EVENT_KEY, .key = code, .down = down };
}

static struct input_event rel(int x, int y, int dz, unsigned buttons)
{
    return (struct input_event){ .type = INPUT_EVENT_RELATIVE, .x = x, .y = y, .dz = dz, .buttons = buttons };
}

static struct input_event pos(int x, int y, unsigned buttons)
{
    return (struct input_event){ .type = INPUT_EVENT_ABSOLUTE, .x = x, .y = y, .buttons = buttons };
}

static void post(struct input *in, struct input_event ev)
{
    input_post(in, &ev);
}

static void send(struct input *in, struct input_event ev)
{
    input_send(in, &ev);
}

static void routes_to_the_last_device(void **state)
{
    static struct rec a, b;
    struct loop *loop = loop_create(true);
    struct input *in = input_create(loop);

    (void)state;
    send(in, key(0x1e, true)); /* no device: nothing happens */
    assert_int_equal(input_add_keyboard(in, &kbd, &a), 0);
    assert_int_equal(input_add_keyboard(in, &kbd, &b), 0);
    send(in, key(0x1e, true));
    assert_int_equal(a.n, 0);
    expect(&b, 0, 'k', 0x1e, 1, 0, 0);
    input_remove(in, &b);
    send(in, key(0xc8, false));
    expect(&a, 0, 'k', 0xc8, 0, 0, 0);
    send(in, key(0x00, true)); /* no such key */
    send(in, key(0x80, true));
    assert_int_equal(a.n, 1);
    input_set_leds(in, INPUT_LED_CAPS);
    assert_int_equal(input_leds(in), INPUT_LED_CAPS);
    for (unsigned i = 1; i < 20; i++) {
        assert_int_equal(input_add_pointer(in, &mouse, &a), 0);
    }
    assert_true(input_add_pointer(in, &mouse, &a) < 0);
    input_destroy(in);
    loop_destroy(loop);
}

static void absolute_becomes_pixels(void **state)
{
    static struct rec m, t;
    struct loop *loop = loop_create(true);
    struct input *in = input_create(loop);

    (void)state;
    input_set_size(in, 800, 600);
    assert_int_equal(input_add_pointer(in, &mouse, &m), 0);
    assert_false(input_has_absolute(in));
    send(in, pos(0, 0, 0)); /* where the pointer is now: no movement */
    send(in, pos(32767, 32767, 1));
    send(in, pos(-5, 40000, 1)); /* clamped */
    expect(&m, 0, 'r', 0, 0, 0, 0);
    expect(&m, 1, 'r', 799, 599, 0, 1);
    expect(&m, 2, 'r', -799, 0, 0, 1);
    input_set_size(in, 1024, 768); /* new picture: no jump */
    send(in, pos(16000, 16000, 0));
    expect(&m, 3, 'r', 0, 0, 0, 0);

    assert_int_equal(input_add_pointer(in, &tablet, &t), 0);
    assert_true(input_has_absolute(in));
    send(in, pos(123, 456, 4));
    expect(&t, 0, 'a', 123, 456, 0, 4);
    send(in, rel(3, -4, 1, 2)); /* still goes to the device that can take it */
    expect(&m, 4, 'r', 3, -4, 1, 2);
    input_destroy(in);
    loop_destroy(loop);
}

/* Guests turn positions of 32768 steps into pixels in ways of their own: to the nearest or down, with the last step on
 * the last pixel or (libinput) with as many steps for each. X adds a step of 65536 that is lost. */
static void positions_are_pixels(void **state)
{
    static const int sizes[] = {2,    320,  480,  600,  640,  720,  768,  800, 1024,
                                1050, 1280, 1366, 1600, 1920, 2560, 4096, 8192};

    (void)state;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int64_t n = sizes[i];

        for (int64_t pixel = 0; pixel < n; pixel++) {
            int64_t v = input_position(pixel, (int)n);

            assert_in_range(v, 0, 32767);
            assert_int_equal((v * (n - 1) * 2 + 32767) / (2 * 32767), pixel);
            assert_int_equal(v * (n - 1) / 32767, pixel);
            assert_int_equal(v * n / 32768, pixel);
            assert_int_equal(v * 65535 * n / (32768LL * 65536), pixel);
        }
        assert_int_equal(input_position(-1, (int)n), 0);
        assert_int_equal(input_position(n, (int)n), 32767);
    }
    assert_int_equal(input_position(0, 1), 0);
}

/* Inactive devices get nothing; a release reaches all keyboards, and the pointer that is left behind lets go. */
static void inactive_devices(void **state)
{
    static struct rec m, t, a, b;
    struct loop *loop = loop_create(true);
    struct input *in = input_create(loop);

    (void)state;
    assert_int_equal(input_add_pointer(in, &mouse, &m), 0);
    assert_int_equal(input_add_pointer(in, &tablet, &t), 0);
    assert_int_equal(input_add_keyboard(in, &kbd, &a), 0);
    assert_int_equal(input_add_keyboard(in, &kbd, &b), 0);
    input_set_active(in, &t, false);
    input_set_active(in, &b, false);
    assert_false(input_has_absolute(in));
    send(in, pos(0, 0, 1));
    expect(&m, 0, 'r', 0, 0, 0, 1);
    send(in, key(0x1e, true));
    expect(&a, 0, 'k', 0x1e, 1, 0, 0);
    input_set_active(in, &t, true);
    input_set_active(in, &b, true);
    expect(&m, 1, 'r', 0, 0, 0, 0);
    assert_true(input_has_absolute(in));
    send(in, pos(7, 8, 1));
    expect(&t, 0, 'a', 7, 8, 0, 1);
    send(in, key(0x1f, true));
    expect(&b, 0, 'k', 0x1f, 1, 0, 0);
    send(in, key(0x1e, false));
    expect(&a, 1, 'k', 0x1e, 0, 0, 0);
    expect(&b, 1, 'k', 0x1e, 0, 0, 0);
    assert_int_equal(m.n + t.n + a.n + b.n, 2 + 1 + 2 + 2);
    input_destroy(in);
    loop_destroy(loop);
}

static void queue_merges_moves(void **state)
{
    static struct rec r;
    struct loop *loop = loop_create(true);
    struct input *in = input_create(loop);

    (void)state;
    input_add_keyboard(in, &kbd, &r);
    input_add_pointer(in, &mouse, &r);
    post(in, rel(1, 1, 0, 0));
    post(in, rel(2, 2, 0, 0));
    post(in, rel(3, 3, 1, 0));
    post(in, rel(0, 0, 0, 1)); /* a click is never merged away */
    post(in, rel(5, 0, 0, 1));
    post(in, rel(5, 0, 0, 1));
    post(in, key(0x1e, true));
    post(in, rel(5, 0, 0, 1));
    post(in, rel(0, 0, 0, 0));
    assert_int_equal(r.n, 0);
    loop_poll(loop, 0);
    expect(&r, 0, 'r', 1, 1, 0, 0);
    expect(&r, 1, 'r', 5, 5, 1, 0);
    expect(&r, 2, 'r', 0, 0, 0, 1);
    expect(&r, 3, 'r', 10, 0, 0, 1);
    expect(&r, 4, 'k', 0x1e, 1, 0, 0);
    expect(&r, 5, 'r', 5, 0, 0, 1);
    expect(&r, 6, 'r', 0, 0, 0, 0);
    assert_int_equal(r.n, 7);
    loop_poll(loop, 0);
    assert_int_equal(r.n, 7);
    input_destroy(in);
    loop_destroy(loop);
}

static void full_queue_keeps_releases(void **state)
{
    static struct rec r;
    struct loop *loop = loop_create(true);
    struct input *in = input_create(loop);
    bool down[256] = { false };
    unsigned buttons = 99;

    (void)state;
    input_add_keyboard(in, &kbd, &r);
    input_add_pointer(in, &mouse, &r);
    for (unsigned i = 0; i < 100; i++) { /* moves go first */
        post(in, rel(1, 0, 0, 0));
        post(in, key(0x02, i & 1));
    }
    for (unsigned i = 0; i < 400; i++) {
        uint8_t k = (uint8_t)(1 + i % 0x7f);

        post(in, key(k, true));
        post(in, rel(0, 0, 0, i & 7));
        post(in, key(k, false));
    }
    post(in, rel(0, 0, 0, 5));
    loop_poll(loop, 0);
    for (unsigned i = 0; i < r.n; i++) {
        if (r.e[i].kind == 'k') {
            down[r.e[i].a] = r.e[i].b;
        } else {
            buttons = (unsigned)r.e[i].d;
        }
    }
    for (unsigned i = 0; i < 256; i++) {
        assert_false(down[i]);
    }
    assert_int_equal(buttons, 5);
    assert_true(r.n < 256 + 128 + 2);
    r.n = 0;
    post(in, key(0x1e, true)); /* and works again */
    loop_poll(loop, 0);
    expect(&r, 0, 'k', 0x1e, 1, 0, 0);
    input_destroy(in);
    loop_destroy(loop);
}

struct seen {
    struct input *in;
    unsigned n, leds;
    bool absolute;
};

static void changed(void *ui)
{
    struct seen *s = ui;

    s->n++;
    s->leds = input_leds(s->in);
    s->absolute = input_has_absolute(s->in);
}

/* Watchers hear of changes, and of nothing else. */
static void watchers_are_told(void **state)
{
    struct loop *loop = loop_create(true);
    struct input *in = input_create(loop);
    struct seen a = {.in = in}, b = {.in = in};
    int devs[3];

    (void)state;
    assert_int_equal(input_watch(in, changed, &a), 0);
    assert_int_equal(input_watch(in, changed, &b), 0);
    input_set_leds(in, 0);
    input_add_pointer(in, &mouse, &devs[0]);
    assert_int_equal(a.n, 0);
    input_set_leds(in, INPUT_LED_CAPS);
    input_set_leds(in, INPUT_LED_CAPS);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.leds, INPUT_LED_CAPS);
    input_add_pointer(in, &tablet, &devs[1]);
    input_add_pointer(in, &tablet, &devs[2]);
    assert_int_equal(a.n, 2);
    assert_true(a.absolute);
    input_remove(in, &devs[1]);
    assert_int_equal(a.n, 2);
    input_unwatch(in, &a);
    input_remove(in, &devs[2]);
    assert_int_equal(a.n, 2);
    assert_int_equal(b.n, 3);
    assert_false(b.absolute);
    assert_int_equal(input_watch(in, changed, &a), 0);
    assert_int_equal(input_watch(in, changed, &a), 0);
    assert_int_equal(input_watch(in, changed, &a), 0);
    assert_int_equal(input_watch(in, changed, &a), -ENOSPC);
    input_destroy(in);
    loop_destroy(loop);
}

static void *poster(void *arg)
{
    for (unsigned i = 0; i < 1000; i++) {
        post(arg, key(0x1e, !(i & 1)));
    }
    return NULL;
}

static void posts_from_threads(void **state)
{
    static struct rec r;
    struct loop *loop = loop_create(true);
    struct input *in = input_create(loop);
    pthread_t t[2];

    (void)state;
    input_add_keyboard(in, &kbd, &r);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&t[i], NULL, poster, in), 0);
    }
    for (unsigned i = 0; i < 200; i++) {
        loop_poll(loop, 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(t[i], NULL);
    }
    loop_poll(loop, 0);
    assert_true(r.n > 0);
    for (unsigned i = 0; i < r.n; i++) {
        assert_int_equal(r.e[i].a, 0x1e);
    }
    input_destroy(in);
    loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_to_the_last_device),
        cmocka_unit_test(absolute_becomes_pixels),
        cmocka_unit_test(positions_are_pixels),
        cmocka_unit_test(inactive_devices),
        cmocka_unit_test(queue_merges_moves),
        cmocka_unit_test(full_queue_keeps_releases),
        cmocka_unit_test(watchers_are_told),
        cmocka_unit_test(posts_from_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
