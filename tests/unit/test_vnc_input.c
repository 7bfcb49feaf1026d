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
    static const int32_t qemu[] = {0, -261}, vmware[] = {0, 0x574d5668},
                         both[] = {0x574d5668, -261, 0}, none[] = {0};
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
    join_with(f, &c, qemu, 2);
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
    const uint8_t m[6] = {5,          (uint8_t)mask,     (uint8_t)(x >> 8),
                          (uint8_t)x, (uint8_t)(y >> 8), (uint8_t)y};

    put(c, m, 6);
}

static void expect_pointer(struct fixture *f, unsigned i, bool relative, int x, int y,
                           unsigned buttons)
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

static void send_key(struct client *c, uint32_t keysym, bool down)
{
    const uint8_t m[8] = {4,
                          down,
                          0,
                          0,
                          (uint8_t)(keysym >> 24),
                          (uint8_t)(keysym >> 16),
                          (uint8_t)(keysym >> 8),
                          (uint8_t)keysym};

    put(c, m, 8);
}

/* Sends keysyms (negative: released) and compares what the guest's keyboard got: "2a+ 1e+ 2a-". */
static void expect_keys(struct client *c, const int32_t *keysyms, unsigned n, const char *want)
{
    struct fixture *f = c->f;
    char got[400] = "";
    size_t len = 0;

    for (unsigned i = 0; i < n; i++) {
        send_key(c, (uint32_t)(keysyms[i] < 0 ? -keysyms[i] : keysyms[i]), keysyms[i] > 0);
    }
    f->n_ev = 0;
    wait_events(f, (unsigned)(strlen(want) + 1) / 4);
    send_key(c, 0xffbe, true); /* F1 as a mark: nothing came after */
    send_key(c, 0xffbe, false);
    wait_events(f, (unsigned)(strlen(want) + 1) / 4 + 2);
    for (unsigned i = 0; i < f->n_ev - 2; i++) {
        len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%02x%c", i ? " " : "",
                                f->ev[i].code, f->ev[i].down ? '+' : '-');
    }
    assert_int_equal(f->ev[f->n_ev - 1].code, 0x3b);
    assert_string_equal(got, want);
}

#define KEYS(c, want, ...)                                                                         \
    do {                                                                                           \
        static const int32_t list[] = {__VA_ARGS__};                                               \
        expect_keys(c, list, sizeof(list) / sizeof(list[0]), want);                                \
    } while (0)

enum {
    SHIFT = 0xffe1,
    RSHIFT = 0xffe2,
    CTRL = 0xffe3,
    ALT = 0xffe9,
    ALT_R = 0xffea,
    LEVEL3 = 0xfe03
};

/* Waits until the server knows of these LEDs. */
static void set_leds(struct client *c, unsigned leds)
{
    input_set_leds(c->f->in, leds);
    await(c, &c->leds, (int)leds);
}

/* A viewer with any layout, a guest with a German keyboard. */
static void test_characters(void **state)
{
    static const int32_t leds[] = {0, -261};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    cfg.keymap = "de";
    serve(f, &cfg);
    join(f, &c);
    assert_true(converge(&c));
    set_encodings(&c, leds, 2);
    await(&c, &c.leds, 0);
    /* The client holds what the guest needs: nothing is added. */
    KEYS(&c, "15+ 15-", 'z', -'z');
    KEYS(&c, "2a+ 02+ 02- 2a-", SHIFT, '!', -'!', -SHIFT);
    KEYS(&c, "b8+ 10+ 10- b8-", LEVEL3, '@', -'@', -LEVEL3);
    KEYS(&c, "b8+ 10+ 10- b8-", ALT_R, '@', -'@', -ALT_R);
    /* It does not. */
    KEYS(&c, "2a+ 02+ 2a- 02-", '!', -'!');
    KEYS(&c, "2a+ 2a- b8+ 10+ b8- 2a+ 10- 2a-", SHIFT, '@', -'@', -SHIFT); /* US: Shift 2 */
    KEYS(&c, "36+ 36- 56+ 36+ 56- 36-", RSHIFT, '<', -'<', -RSHIFT);
    KEYS(&c, "b8+ b8- 2b+ b8+ 2b- b8-", LEVEL3, '#', -'#', -LEVEL3); /* French: AltGr 3 */
    KEYS(&c, "1d+ b8+ 1d- 10+ 1d+ 10- b8- 1d-", CTRL, ALT_R, '@', -'@', -ALT_R,
         -CTRL); /* Windows */
    KEYS(&c, "1d+ 15+ 15- 1d-", CTRL, 'z', -'z', -CTRL);
    KEYS(&c, "2a+ 39+ 39- 2a-", SHIFT, ' ', -' ', -SHIFT);
    KEYS(&c, "2a+ c7+ c7- 2a-", SHIFT, 0xff50, -0xff50, -SHIFT);
    /* Dead keys: as such, as characters, as accents. */
    KEYS(&c, "29+ 29-", 0xfe52, -0xfe52);
    KEYS(&c, "29+ 29- 39+ 39-", '^', -'^');
    KEYS(&c, "2a+ 0d+ 0d- 2a- 1e+ 1e-", 0xe0, -0xe0);
    KEYS(&c, "0d+ 0d- 2a+ 12+ 2a- 12-", 0xc9, -0xc9);
    KEYS(&c, "28+ 28-", 0xe4, -0xe4);
    /* Not on this keyboard. */
    KEYS(&c, "1e+ 1e-", 0x6c1, -0x6c1, 'a', -'a');
    /* Shift went up before the key, which has another name now. */
    KEYS(&c, "2a+ 2a- b8+ 10+ b8- 2a+ 2a- 10-", SHIFT, '@', -SHIFT, -'2');
    /* Repeats, and two keys at once. */
    KEYS(&c, "1e+ 1e+ 30+ 1e- 30-", 'a', 'a', 'b', -'a', -'b');
    /* The guest's Caps Lock is on: Shift is turned around for letters alone. */
    set_leds(&c, INPUT_LED_CAPS);
    KEYS(&c, "1e+ 1e-", 'A', -'A');
    KEYS(&c, "2a+ 1e+ 2a- 1e-", 'a', -'a');
    KEYS(&c, "2a+ 1e+ 1e- 2a-", SHIFT, 'a', -'a', -SHIFT);
    KEYS(&c, "02+ 02-", '1', -'1');
    /* The keypad without Num Lock, with Alt, and with Num Lock. */
    set_leds(&c, 0);
    KEYS(&c, "08+ 08-", 0xffb7, -0xffb7);
    KEYS(&c, "47+ 47-", 0xff95, -0xff95);
    KEYS(&c, "38+ 47+ 47- 38-", ALT, 0xffb7, -0xffb7, -ALT);
    set_leds(&c, INPUT_LED_NUM);
    KEYS(&c, "47+ 47-", 0xffb7, -0xffb7);
    KEYS(&c, "c7+ c7-", 0xff95, -0xff95);
    KEYS(&c, "4c+ 4c-", 0xff9d, -0xff9d);
    /* More keys than are remembered: none stays down. */
    for (int32_t s = 'a'; s <= 'z'; s++) {
        send_key(&c, (uint32_t)s, true);
    }
    hang_up(&c);
    wait_clients(f, 0);
    for (unsigned i = 0, down[256] = {0}; i < f->n_ev; i++) {
        down[f->ev[i].code] = f->ev[i].down;
        assert_true(i + 1 < f->n_ev || memcmp(down, (unsigned[256]){0}, sizeof(down)) == 0);
    }
}

/* On a keyboard without AltGr the right Alt key is Alt, but not for a client whose AltGr it is. */
static void test_no_altgr(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    serve(f, &cfg);
    join(f, &c);
    assert_true(converge(&c));
    KEYS(&c, "b8+ 21+ 21- b8-", ALT_R, 'f', -'f', -ALT_R);
    KEYS(&c, "b8+ 2a+ b8- 03+ b8+ 2a- 03- b8-", LEVEL3, '@', -'@', -LEVEL3);
    KEYS(&c, "b8+ 2a+ 03+ 2a- 03- b8-", ALT_R, '@', -'@', -ALT_R);
    hang_up(&c);
}

static void send_raw(struct client *c, uint8_t code, uint32_t keysym, bool down)
{
    const uint8_t m[12] = {255,
                           0,
                           0,
                           down,
                           (uint8_t)(keysym >> 24),
                           (uint8_t)(keysym >> 16),
                           (uint8_t)(keysym >> 8),
                           (uint8_t)keysym,
                           0,
                           0,
                           0,
                           code};

    put(c, m, 12);
}

/* noVNC in Chromium says of a dead key that it was pressed, and no more. */
static void test_raw_dead_keys(void **state)
{
    static const int32_t ext[] = {0, -258};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    serve(f, &cfg);
    join(f, &c);
    set_encodings(&c, ext, 2);
    assert_true(converge(&c));
    send_raw(&c, 0x29, 0, true);
    send_raw(&c, 0x12, 'e', true);
    send_raw(&c, 0x12, 'e', false);
    send_raw(&c, 0x2a, 0, true); /* a modifier's keysym may be unknown: held it is all the same */
    send_raw(&c, 0x29, 0, true);
    send_raw(&c, 0x2a, 0, false);
    send_raw(&c, 0x29, 0, false); /* another browser says it */
    expect_keys(&c, NULL, 0, "29+ 29- 12+ 12- 2a+ 29+ 29- 2a-");
    hang_up(&c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_leds),       T(test_leds_flood), T(test_motion_change),
        T(test_characters), T(test_no_altgr),   T(test_raw_dead_keys),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
