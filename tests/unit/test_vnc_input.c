/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the VNC server tells clients of the guest's keyboard and pointer, and what their keys become. */
#include "tests/unit/vnc_help.h"

/* Reads updates (pictures, too) until *value is `want`. */
static void await(struct client *c, const int *value, int want)
{
    while (*value != want) {
        if (!read_update(c)) {
            fail_msg("told %d, expected %d", *value, want);
        }
    }
}

static void test_leds(void **state)
{
    static const int32_t qemu[] = {0, -261}, vmware[] = {0, 0x574d5668}, both[] = {0x574d5668, -261, 0}, none[] = {0};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c, other;

    input_set_leds(f->in, INPUT_LED_NUM);
    serve(f, &cfg);
    join(f, &c);
    join(f, &other);
    assert_true(converge(&c));
    assert_true(converge(&other));
    assert_int_equal(c.leds, -1);
    set_encodings(&c, qemu, 2);
    await(&c, &c.leds, 2);
    set_encodings(&other, vmware, 2);
    await(&other, &other.leds, 2);
    /* No request is under way: they come all the same. */
    input_set_leds(f->in, INPUT_LED_CAPS | INPUT_LED_SCROLL);
    await(&c, &c.leds, 5);
    await(&other, &other.leds, 5);
    /* The first of both counts, and says the present state at once. */
    c.leds = -1;
    set_encodings(&c, both, 3);
    await(&c, &c.leds, 5);
    set_encodings(&c, none, 1);
    input_set_leds(f->in, 0);
    await(&other, &other.leds, 0);
    paint(f, 2);
    c.leds = -1;
    assert_true(converge(&c));
    assert_int_equal(c.leds, -1);
    hang_up(&c);
    hang_up(&other);
}

/* A guest that plays with its lights while the viewer does not read costs one state, not a queue of them. */
static void test_leds_flood(void **state)
{
    static const int32_t qemu[] = {0, -261};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    serve(f, &cfg);
    dial(f, &c);
    assert_int_equal(authenticate(&c, NULL), 0);
    init(&c, true);
    set_encodings(&c, qemu, 2);
    await(&c, &c.leds, 0);
    for (unsigned i = 0; i < 200000; i++) {
        input_set_leds(f->in, i & 7);
        if ((i & 0x3ff) == 0) {
            turn(f);
        }
    }
    input_set_leds(f->in, 6);
    await(&c, &c.leds, 6);
    paint(f, 4);
    request(&c, false);
    assert_true(converge(&c));
    assert_int_equal(c.leds, 6);
    hang_up(&c);
}

static void send_pointer(struct client *c, unsigned mask, unsigned x, unsigned y)
{
    const uint8_t m[6] = {5, (uint8_t)mask, (uint8_t)(x >> 8), (uint8_t)x, (uint8_t)(y >> 8), (uint8_t)y};

    put(c, m, 6);
}

static void expect_pointer(struct fixture *f, unsigned i, bool relative, int x, int y, unsigned buttons)
{
    wait_events(f, i + 1);
    assert_false(f->ev[i].key);
    assert_int_equal(f->ev[i].relative, relative);
    assert_int_equal(f->ev[i].x, x);
    assert_int_equal(f->ev[i].y, y);
    assert_int_equal(f->ev[i].buttons, buttons);
}

/* A tablet comes and goes beside a mouse; a client that cannot send movement goes on sending positions. */
static void test_motion_change(void **state)
{
    static const struct input_pointer mouse = {.relative = on_relative};
    static const int32_t motion[] = {0, -257}, none[] = {0};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c, plain;
    int tablet;

    input_remove(f->in, f);
    input_add_keyboard(f->in, &keyboard, f);
    input_add_pointer(f->in, &mouse, f);
    serve(f, &cfg);
    join(f, &c);
    join(f, &plain);
    assert_true(converge(&plain));
    set_encodings(&c, motion, 2);
    await(&c, &c.absolute, 0);
    send_pointer(&c, 0, 0x7fff + 5, 0x7fff - 3);
    expect_pointer(f, 0, true, 5, -3, 0);
    send_pointer(&c, 1, 0x7fff, 0x7fff);
    expect_pointer(f, 1, true, 0, 0, INPUT_BUTTON_LEFT);
    send_pointer(&c, 0, 0, 0xffff);
    expect_pointer(f, 2, true, -0x7fff, 0x8000, 0);
    send_pointer(&plain, 0, 100, 100); /* a position: the first one moves nothing */
    expect_pointer(f, 3, true, 0, 0, 0);
    send_pointer(&plain, 0, 110, 95);
    expect_pointer(f, 4, true, 10, -5, 0);

    input_add_pointer(f->in, &(const struct input_pointer){.absolute = on_absolute}, &tablet);
    input_remove(f->in, &tablet);
    input_add_pointer(f->in, &pointer, f); /* the fixture's, which is absolute */
    await(&c, &c.absolute, 1);
    send_pointer(&c, 4, 639, 399);
    expect_pointer(f, 5, false, 32767, 32767, INPUT_BUTTON_RIGHT);

    /* The mouse alone again, with a button held; the client goes. */
    input_remove(f->in, f);
    input_add_keyboard(f->in, &keyboard, f);
    input_add_pointer(f->in, &mouse, f);
    await(&c, &c.absolute, 0);
    hang_up(&c);
    expect_pointer(f, 6, true, 0, 0, 0);

    join(f, &c);
    set_encodings(&c, motion, 2);
    await(&c, &c.absolute, 0);
    set_encodings(&c, none, 1);
    send_pointer(&c, 0, 320, 200);
    wait_events(f, 8);
    send_pointer(&c, 0, 321, 200);
    expect_pointer(f, 8, true, 1, 0, 0);
    assert_int_equal(plain.absolute, -1);
    hang_up(&c);
    hang_up(&plain);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_leds),
        T(test_leds_flood),
        T(test_motion_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
