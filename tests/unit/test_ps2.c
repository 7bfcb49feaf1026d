/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/loop.h"
#include "hw/ps2.h"

#define MS 1000000u

struct fixture {
    struct loop *loop;
    struct input *in;
    struct ps2_kbd k;
    struct ps2_mouse m;
    unsigned notified;
};

static void notify(void *opaque)
{
    ((struct fixture *)opaque)->notified++;
}

static int setup(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof(f));
    f.loop = loop_create(true);
    f.in = input_create(f.loop);
    assert_int_equal(ps2_kbd_init(&f.k, f.in, notify, &f), 0);
    assert_int_equal(ps2_mouse_init(&f.m, f.loop, f.in, notify, &f), 0);
    ps2_kbd_reset(&f.k);
    ps2_mouse_reset(&f.m);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    ps2_kbd_fini(&f->k);
    ps2_mouse_fini(&f->m, f->in);
    input_destroy(f->in);
    loop_destroy(f->loop);
    return 0;
}

static void key(struct fixture *f, uint8_t code, bool down)
{
    input_send(f->in, &(struct input_event){ .type = INPUT_EVENT_KEY, .key = code, .down = down });
}

static void move(struct fixture *f, int dx, int dy, int dz, unsigned buttons)
{
    input_send(f->in, &(struct input_event){ .type = INPUT_EVENT_RELATIVE, .x = dx, .y = dy, .dz = dz, .buttons = buttons });
}

/* Everything that waits, as hexadecimal text. */
static const char *kbd_bytes(struct fixture *f)
{
    static char text[200];
    size_t n = 0;

    text[0] = '\0';
    while (ps2_kbd_has_reply(&f->k) || ps2_kbd_has_scancode(&f->k)) {
        assert_true(n < sizeof(text) - 4);
        n += (size_t)sprintf(text + n, n ? " %02x" : "%02x", ps2_kbd_read(&f->k));
    }
    return text;
}

static const char *mouse_bytes(struct fixture *f)
{
    static char text[200];
    size_t n = 0;

    text[0] = '\0';
    while (ps2_mouse_has_data(&f->m)) {
        assert_true(n < sizeof(text) - 4);
        n += (size_t)sprintf(text + n, n ? " %02x" : "%02x", ps2_mouse_read(&f->m));
    }
    return text;
}

static const char *kbd_says(struct fixture *f, const uint8_t *cmd, size_t n)
{
    static char text[400];

    text[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        ps2_kbd_write(&f->k, cmd[i]);
        strcat(text, i ? " " : "");
        strcat(text, kbd_bytes(f));
    }
    return text;
}

static const char *mouse_says(struct fixture *f, const uint8_t *cmd, size_t n)
{
    static char text[400];

    text[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        ps2_mouse_write(&f->m, cmd[i]);
        strcat(text, i ? " " : "");
        strcat(text, mouse_bytes(f));
    }
    return text;
}

#define KBD(expected, ...)                                                                         \
    assert_string_equal(kbd_says(f, (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ })), expected)
#define MOUSE(expected, ...)                                                                       \
    assert_string_equal(mouse_says(f, (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ })), expected)

static void keyboard_commands(void **state)
{
    struct fixture *f = *state;

    KBD("ee", 0xee);
    KBD("fa ab 83", 0xf2);
    KBD("fa fa 02", 0xf0, 0);
    KBD("fa fa fa fa 01", 0xf0, 1, 0xf0, 0);
    KBD("fa fa fa fa 03", 0xf0, 3, 0xf0, 0);
    KBD("fa fe fa fa 03", 0xf0, 4, 0xf0, 0);
    KBD("fa fa", 0xed, 7);
    assert_int_equal(input_leds(f->in), INPUT_LED_SCROLL | INPUT_LED_NUM | INPUT_LED_CAPS);
    KBD("fa fa", 0xed, 0x02);
    assert_int_equal(input_leds(f->in), INPUT_LED_NUM);
    KBD("fa fa", 0xf3, 0x20);
    KBD("fa fa fa 03", 0xed, 0xf0, 0); /* a command in an argument's place */
    KBD("fa fa fa fa fa fa fa", 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa);
    KBD("fa fa fa fa fa fa", 0xfb, 0x1c, 0xfc, 0x1c, 0xfd, 0x1c);
    KBD("fa fa fa fa aa", 0xfd, 0x1c, 0x23, 0xff); /* a list of keys */
    assert_int_equal(input_leds(f->in), 0);
    KBD("fa fa 02", 0xf0, 0); /* reset went back to set 2 */
    KBD("fa", 0x00);
    for (unsigned c = 1; c < 0xed; c++) {
        KBD("fe", (uint8_t)c);
    }
    KBD("fe fe", 0xef, 0xf1);
    KBD("fa ab 83 83", 0xf2, 0xfe); /* resend repeats the last byte */
}

static void scan_code_sets(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint8_t key;
        const char *set1, *set2, *set3;
    } rows[] = {
        { 0x01, "01 81", "76 f0 76", "08" },
        { 0x1e, "1e 9e", "1c f0 1c", "1c" },
        { 0x1c, "1c 9c", "5a f0 5a", "5a" },
        { 0x41, "41 c1", "83 f0 83", "37" },             /* F7 */
        { 0x43, "43 c3", "01 f0 01", "47" },             /* F9 */
        { 0x58, "58 d8", "07 f0 07", "5e" },             /* F12 */
        { 0x2a, "2a aa", "12 f0 12", "12 f0 12" },       /* shift makes and breaks in set 3 */
        { 0x9d, "e0 1d e0 9d", "e0 14 e0 f0 14", "58" }, /* right control */
        { 0xc8, "e0 48 e0 c8", "e0 75 e0 f0 75", "63" }, /* up */
        { 0xd3, "e0 53 e0 d3", "e0 71 e0 f0 71", "64" }, /* delete */
        { 0x9c, "e0 1c e0 9c", "e0 5a e0 f0 5a", "79" }, /* keypad enter */
        { 0xdb, "e0 5b e0 db", "e0 1f e0 f0 1f", "8b" }, /* left Windows */
        { 0xdd, "e0 5d e0 dd", "e0 2f e0 f0 2f", "8d" }, /* menu */
        { 0x56, "56 d6", "61 f0 61", "13" },             /* ISO */
        { 0x70, "70 f0", "13 f0 13", "87" },             /* JIS kana */
        { 0x73, "73 f3", "51 f0 51", "51" },             /* JIS ro, ABNT2 slash */
        { 0x79, "79 f9", "64 f0 64", "86" },             /* henkan */
        { 0x7b, "7b fb", "67 f0 67", "85" },             /* muhenkan */
        { 0x7d, "7d fd", "6a f0 6a", "5d" },             /* yen */
        { 0x7e, "7e fe", "6d f0 6d", "7b" },             /* ABNT2 keypad dot */
        { 0x71, "f1", "f1", "f1" },                      /* hanja */
        { 0x72, "f2", "f2", "f2" },                      /* hangeul */
        { INPUT_KEY_PAUSE, "e1 1d 45 e1 9d c5", "e1 14 77 e1 f0 14 f0 77", "62" },
        { INPUT_KEY_PRINT, "e0 2a e0 37 e0 b7 e0 aa", "e0 12 e0 7c e0 f0 7c e0 f0 12", "57" },
        { 0x54, "54 d4", "84 f0 84", "57" }, /* SysRq as a key of its own */
        { 0xb0, "e0 30 e0 b0", "e0 32 e0 f0 32", "" }, /* volume: no code in set 3 */
    };

    for (uint8_t set = 1; set <= 3; set++) {
        KBD("fa fa", 0xf0, set);
        for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            const char *expected = set == 1 ? rows[i].set1 : set == 2 ? rows[i].set2 : rows[i].set3;

            key(f, rows[i].key, true);
            key(f, rows[i].key, false);
            assert_string_equal(kbd_bytes(f), expected);
        }
    }
}

static void print_and_pause_with_modifiers(void **state)
{
    struct fixture *f = *state;

    key(f, 0x38, true);
    key(f, INPUT_KEY_PRINT, true);
    key(f, 0x38, false); /* the break still matches the make */
    key(f, INPUT_KEY_PRINT, false);
    assert_string_equal(kbd_bytes(f), "11 84 f0 11 f0 84");
    key(f, 0x36, true);
    key(f, INPUT_KEY_PRINT, true);
    key(f, INPUT_KEY_PRINT, false);
    key(f, 0x36, false);
    assert_string_equal(kbd_bytes(f), "59 e0 7c e0 f0 7c f0 59");
    key(f, 0x1d, true);
    key(f, INPUT_KEY_PAUSE, true);
    key(f, INPUT_KEY_PAUSE, false);
    key(f, 0x1d, false);
    assert_string_equal(kbd_bytes(f), "14 e0 7e e0 f0 7e f0 14");
}

static void repeats_pass_through(void **state)
{
    struct fixture *f = *state;

    key(f, 0x1e, true);
    key(f, 0x1e, true);
    key(f, INPUT_KEY_PAUSE, true);
    key(f, INPUT_KEY_PAUSE, true); /* has no repeat */
    key(f, 0x1e, false);
    key(f, 0x1e, false); /* not down: nothing */
    assert_string_equal(kbd_bytes(f), "1c 1c e1 14 77 e1 f0 14 f0 77 f0 1c");
    KBD("fa fa fa fa", 0xf0, 3, 0xf8, 0xf4); /* make and break, no repeat */
    key(f, 0x1e, true);
    key(f, 0x1e, true);
    key(f, 0x1e, false);
    assert_string_equal(kbd_bytes(f), "1c f0 1c");
    KBD("fa fa fa fa", 0xfa, 0xfd, 0x1c, 0xf4); /* all both, but A makes only */
    key(f, 0x1e, true);
    key(f, 0x1e, true);
    key(f, 0x1e, false);
    key(f, 0x30, true);
    key(f, 0x30, true);
    key(f, 0x30, false);
    assert_string_equal(kbd_bytes(f), "1c 32 32 f0 32");
}

static void disabled_keyboard_is_silent(void **state)
{
    struct fixture *f = *state;

    key(f, 0x30, true);
    assert_string_equal(kbd_bytes(f), "32");
    KBD("fa", 0xf5);
    key(f, 0x1e, true);
    key(f, 0x1e, false);
    assert_string_equal(kbd_bytes(f), "");
    KBD("fa", 0xf4);
    key(f, 0x1e, true);
    assert_string_equal(kbd_bytes(f), "1c");
    key(f, 0x30, false); /* held across the driver's reset: must not stick in the guest */
    assert_string_equal(kbd_bytes(f), "f0 32");
    assert_int_equal(f->notified, 3);
}

static void full_keyboard_queue_loses_no_release(void **state)
{
    struct fixture *f = *state;
    bool down[128] = { false };
    bool brk = false;

    for (uint8_t k = 0x10; k < 0x18; k++) {
        key(f, k, true);
    }
    for (uint8_t k = 0xc7; k < 0xcc; k++) { /* arrows do not fit whole: not at all */
        key(f, k, true);
    }
    for (uint8_t k = 0x10; k < 0x18; k++) {
        key(f, k, false);
    }
    for (uint8_t k = 0xc7; k < 0xcc; k++) {
        key(f, k, false);
    }
    while (ps2_kbd_has_scancode(&f->k)) {
        uint8_t v = ps2_kbd_read(&f->k);

        if (v == 0xf0) {
            brk = true;
        } else if (v != 0xe0) {
            assert_true(v < 128);
            down[v] = !brk;
            brk = false;
        }
    }
    assert_false(brk);
    for (unsigned i = 0; i < 128; i++) {
        assert_false(down[i]);
    }
}

static void mouse_commands(void **state)
{
    struct fixture *f = *state;

    MOUSE("fa aa 00", 0xff);
    MOUSE("fa 00", 0xf2);
    MOUSE("fa 00 02 64", 0xe9);
    MOUSE("fa fa fa fa fa", 0xe8, 3, 0xf3, 200, 0xe7);
    MOUSE("fa fa 30 03 c8", 0xf4, 0xe9);
    MOUSE("fa fa fa 50 03 c8", 0xf5, 0xf0, 0xe9);
    MOUSE("fa fa fa 00 02 64", 0xea, 0xf6, 0xe9);
    MOUSE("fa fe fc fe", 0xe8, 4, 0xe1, 0xe1); /* second refusal in a row: error */
    MOUSE("fa fe", 0xe6, 0x00);
    MOUSE("fa 55 f4 fe fa", 0xee, 0x55, 0xf4, 0xfe, 0xec); /* wrap mode */
    MOUSE("fa 00 02 64 00 02 64", 0xe9, 0xfe);             /* resend repeats the whole answer */
    MOUSE("fa aa 00 fa 00", 0xff, 0xf2);
}

static void mouse_protocols(void **state)
{
    struct fixture *f = *state;

    MOUSE("fa", 0xf4);
    move(f, 5, 7, 1, 1); /* dy counts up, the wheel is lost */
    assert_string_equal(mouse_bytes(f), "29 05 f9");
    MOUSE("fa fa fa fa fa fa fa 03", 0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2);
    loop_advance(f->loop, 20 * MS);
    move(f, 0, 0, 1, 3);
    assert_string_equal(mouse_bytes(f), "0b 00 00 01");
    move(f, 0, 0, -1, 0x1b); /* buttons 4 and 5 are not known yet */
    loop_advance(f->loop, 20 * MS);
    assert_string_equal(mouse_bytes(f), "0b 00 00 ff");
    MOUSE("fa fa fa fa fa fa fa 04", 0xf3, 200, 0xf3, 200, 0xf3, 80, 0xf2);
    move(f, 0, 0, 0, 0);
    assert_string_equal(mouse_bytes(f), "08 00 00 00");
    move(f, 0, 0, 0, INPUT_BUTTON_SIDE);
    assert_string_equal(mouse_bytes(f), "08 00 00 10");
    move(f, 0, 0, -2, INPUT_BUTTON_EXTRA);
    assert_string_equal(mouse_bytes(f), "08 00 00 2e");
    MOUSE("fa aa 00 fa 00", 0xff, 0xf2); /* reset: a plain mouse again */
}

static void mouse_moves_add_up(void **state)
{
    struct fixture *f = *state;

    move(f, 9, 9, 0, 0); /* before it is enabled: forgotten */
    MOUSE("fa", 0xf4);
    move(f, 1, 0, 0, 0);
    for (unsigned i = 0; i < 10; i++) {
        move(f, 1, -1, 0, 0);
    }
    assert_string_equal(mouse_bytes(f), "08 01 00");
    assert_int_equal(f->notified, 1);
    loop_advance(f->loop, 9 * MS);
    assert_string_equal(mouse_bytes(f), ""); /* 100 samples a second */
    loop_advance(f->loop, 1 * MS);
    assert_string_equal(mouse_bytes(f), "08 0a 0a");
    loop_advance(f->loop, 50 * MS);
    assert_int_equal(f->notified, 2); /* nothing moved: nothing runs */
    assert_false(f->m.h.timer.armed);
    move(f, -300, 0, 0, 0); /* more than nine bits */
    assert_string_equal(mouse_bytes(f), "18 01 00");
    loop_advance(f->loop, 10 * MS);
    assert_string_equal(mouse_bytes(f), "18 d3 00");
    for (unsigned i = 0; i < 1000; i++) {
        move(f, 1 << 30, -(1 << 30), 1 << 30, 0);
    }
    assert_true(f->m.r.dx <= 10000 && f->m.r.dy >= -10000);
}

static void mouse_clicks_are_not_merged(void **state)
{
    struct fixture *f = *state;

    MOUSE("fa", 0xf4);
    move(f, 0, 0, 0, 1);
    move(f, 0, 0, 0, 0);
    move(f, 3, 0, 0, 4);
    move(f, 0, 0, 0, 0);
    assert_string_equal(mouse_bytes(f), "09 00 00 08 00 00 0c 03 00 08 00 00");
    for (unsigned i = 0; i < 21; i++) { /* too fast: but the last state arrives */
        move(f, 0, 0, 0, ~i & 1);
    }
    const char *all = mouse_bytes(f);
    assert_string_equal(all + strlen(all) - 8, "09 00 00");
}

static void mouse_remote_mode(void **state)
{
    struct fixture *f = *state;

    MOUSE("fa fa", 0xf4, 0xf0);
    move(f, 4, 4, 0, 2);
    assert_string_equal(mouse_bytes(f), "");
    MOUSE("fa 2a 04 fc", 0xeb);
    MOUSE("fa 0a 00 00", 0xeb);
    MOUSE("fa", 0xea);
    move(f, 1, 0, 0, 2);
    assert_string_equal(mouse_bytes(f), "0a 01 00");
}

static void mouse_scaling(void **state)
{
    struct fixture *f = *state;
    static const struct {
        int in;
        const char *packet;
    } rows[] = { { 1, "08 01 00" }, { 2, "08 01 00" }, { 3, "08 03 00" }, { 4, "08 06 00" },
                 { 5, "08 09 00" }, { 6, "08 0c 00" }, { -3, "18 fd 00" }, { 127, "08 fe 00" } };

    MOUSE("fa fa", 0xe7, 0xf4);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        loop_advance(f->loop, 20 * MS);
        move(f, rows[i].in, 0, 0, 0);
        assert_string_equal(mouse_bytes(f), rows[i].packet);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keyboard_commands),
        TEST(scan_code_sets),
        TEST(print_and_pause_with_modifiers),
        TEST(repeats_pass_through),
        TEST(disabled_keyboard_is_silent),
        TEST(full_keyboard_queue_loses_no_release),
        TEST(mouse_commands),
        TEST(mouse_protocols),
        TEST(mouse_moves_add_up),
        TEST(mouse_clicks_are_not_merged),
        TEST(mouse_remote_mode),
        TEST(mouse_scaling),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
