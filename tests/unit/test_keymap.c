/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keyboard layouts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ui/keymap.h"

enum { S = KEYMAP_SHIFT, G = KEYMAP_ALTGR };

struct expected {
    uint32_t keysym;
    uint8_t key, mods, dead, dead_mods;
};

static void expect(const char *layout, const struct expected *e, size_t n)
{
    const struct keymap *map = keymap_find(layout);

    assert_non_null(map);
    for (size_t i = 0; i < n; i++) {
        struct keymap_chord c;

        if (!keymap_lookup(map, e[i].keysym, &c)) {
            fail_msg("%s: keysym %#x has no key", layout, e[i].keysym);
        }
        if (c.key != e[i].key || c.mods != e[i].mods || c.dead != e[i].dead ||
            c.dead_mods != e[i].dead_mods) {
            fail_msg("%s: keysym %#x: dead %02x+%u, key %02x+%u", layout, e[i].keysym, c.dead,
                     c.dead_mods, c.key, c.mods);
        }
    }
}

#define EXPECT(layout, ...)                                                                        \
    do {                                                                                           \
        static const struct expected list[] = {__VA_ARGS__};                                       \
        expect(layout, list, sizeof(list) / sizeof(list[0]));                                      \
    } while (0)

static void test_layouts(void **state)
{
    (void)state;
    EXPECT("en-us", {'a', 0x1e, 0, 0, 0}, {'A', 0x1e, S, 0, 0}, {'@', 0x03, S, 0, 0},
           {'~', 0x29, S, 0, 0}, {'\\', 0x2b, 0, 0, 0}, {'|', 0x2b, S, 0, 0}, {' ', 0x39, 0, 0, 0},
           {0xfe52, 0x07, S, 0, 0}, {0xfe50, 0x29, 0, 0, 0}, {0xff0d, 0x1c, 0, 0, 0},
           {0xff50, 0xc7, 0, 0, 0}, {0xffff, 0xd3, 0, 0, 0});
    EXPECT("en-gb", {'"', 0x03, S, 0, 0}, {'@', 0x28, S, 0, 0}, {0xa3, 0x04, S, 0, 0},
           {'#', 0x2b, 0, 0, 0}, {'~', 0x2b, S, 0, 0}, {'\\', 0x56, 0, 0, 0}, {'|', 0x56, S, 0, 0},
           {0x20ac, 0x05, G, 0, 0});
    EXPECT("de", {'y', 0x2c, 0, 0, 0}, {'Z', 0x15, S, 0, 0}, {0xe4, 0x28, 0, 0, 0},
           {0xd6, 0x27, S, 0, 0}, {0xdf, 0x0c, 0, 0, 0}, {'@', 0x10, G, 0, 0}, {'{', 0x08, G, 0, 0},
           {'\\', 0x0c, G, 0, 0}, {'|', 0x56, G, 0, 0}, {'<', 0x56, 0, 0, 0},
           {0x20ac, 0x12, G, 0, 0}, {0x10020ac, 0x12, G, 0, 0}, {0xfe52, 0x29, 0, 0, 0},
           {0xfe50, 0x0d, S, 0, 0}, {'^', 0x39, 0, 0x29, 0}, {'`', 0x39, 0, 0x0d, S},
           {0xb4, 0x39, 0, 0x0d, 0}, {0xe9, 0x12, 0, 0x0d, 0}, {0xc0, 0x1e, S, 0x0d, S},
           {'~', 0x1b, G, 0, 0}, {'#', 0x2b, 0, 0, 0}, {0xb2, 0x03, G, 0, 0},
           {0xb5, 0x32, G, 0, 0});
    EXPECT("fr", {'a', 0x10, 0, 0, 0}, {'q', 0x1e, 0, 0, 0}, {'M', 0x27, S, 0, 0},
           {'1', 0x02, S, 0, 0}, {'&', 0x02, 0, 0, 0}, {0xe9, 0x03, 0, 0, 0}, {'@', 0x0b, G, 0, 0},
           {'^', 0x0a, G, 0, 0}, {0xfe52, 0x1a, 0, 0, 0}, {0xfe57, 0x1a, S, 0, 0},
           {0xea, 0x12, 0, 0x1a, 0}, {0xcb, 0x12, S, 0x1a, S}, {'.', 0x33, S, 0, 0},
           {'/', 0x34, S, 0, 0}, {'!', 0x35, 0, 0, 0}, {0xa7, 0x35, S, 0, 0}, {'`', 0x08, G, 0, 0},
           {'~', 0x03, G, 0, 0}, {'|', 0x07, G, 0, 0}, {'*', 0x2b, 0, 0, 0});
    EXPECT("ja", {'"', 0x03, S, 0, 0}, {'@', 0x1a, 0, 0, 0}, {'`', 0x1a, S, 0, 0},
           {'[', 0x1b, 0, 0, 0}, {']', 0x2b, 0, 0, 0}, {':', 0x28, 0, 0, 0}, {'*', 0x28, S, 0, 0},
           {'_', 0x73, S, 0, 0}, {'\\', 0x73, 0, 0, 0}, {0xa5, 0x7d, 0, 0, 0}, {'|', 0x7d, S, 0, 0},
           {'^', 0x0d, 0, 0, 0}, {'~', 0x0d, S, 0, 0}, {'=', 0x0c, S, 0, 0},
           {0xff22, 0x7b, 0, 0, 0}, {0xff23, 0x79, 0, 0, 0}, {0xff27, 0x70, 0, 0, 0},
           {0xff2a, 0x29, 0, 0, 0});
    EXPECT("pt-br", {'/', 0x73, 0, 0, 0}, {'?', 0x73, S, 0, 0}, {0xe7, 0x27, 0, 0, 0},
           {';', 0x35, 0, 0, 0}, {'"', 0x29, S, 0, 0}, {'\\', 0x56, 0, 0, 0},
           {0xe3, 0x1e, 0, 0x28, 0}, {0xfc, 0x16, 0, 0x07, S}, {'~', 0x39, 0, 0x28, 0},
           {'}', 0x2b, S, 0, 0});
    EXPECT("es", {0xf1, 0x27, 0, 0, 0}, {'@', 0x03, G, 0, 0}, {'\\', 0x29, G, 0, 0},
           {0xbf, 0x0d, S, 0, 0}, {0xe1, 0x1e, 0, 0x28, 0}, {0xfc, 0x16, 0, 0x28, S});
    EXPECT("it", {'@', 0x27, G, 0, 0}, {'{', 0x1a, S | G, 0, 0}, {0xe9, 0x1a, S, 0, 0},
           {'^', 0x0d, S, 0, 0}, {'~', 0x0d, G, 0, 0}, {'`', 0x0c, G, 0, 0});
    EXPECT("sv", {0xe5, 0x1a, 0, 0, 0}, {'@', 0x03, G, 0, 0}, {'$', 0x05, G, 0, 0},
           {'\\', 0x0c, G, 0, 0}, {'~', 0x39, 0, 0x1b, G}, {0xa4, 0x05, S, 0, 0});
    EXPECT("da", {0xe6, 0x27, 0, 0, 0}, {0xf8, 0x28, 0, 0, 0}, {'\\', 0x56, G, 0, 0},
           {'|', 0x0d, G, 0, 0});
    EXPECT("no", {0xf8, 0x27, 0, 0, 0}, {0xe6, 0x28, 0, 0, 0}, {'\\', 0x0d, 0, 0, 0},
           {'|', 0x29, 0, 0, 0});
    EXPECT("pt", {0xab, 0x0d, 0, 0, 0}, {'@', 0x03, G, 0, 0}, {0xe7, 0x27, 0, 0, 0});
    EXPECT("de-ch", {0xfc, 0x1a, 0, 0, 0}, {0xe8, 0x1a, S, 0, 0}, {'{', 0x28, G, 0, 0});
    EXPECT("fr-ch", {0xe8, 0x1a, 0, 0, 0}, {0xfc, 0x1a, S, 0, 0}, {'#', 0x04, G, 0, 0});
    EXPECT("fr-be", {'@', 0x03, G, 0, 0}, {'=', 0x35, 0, 0, 0}, {'{', 0x0a, G, 0, 0});
}

/* Every layout makes all of ASCII, and no two characters by the same keys. */
static void test_complete(void **state)
{
    char names[200], *save = NULL;
    unsigned layouts = 0;

    (void)state;
    snprintf(names, sizeof(names), "%s", keymap_names());
    for (char *name = strtok_r(names, " ", &save); name != NULL;
         name = strtok_r(NULL, " ", &save)) {
        const struct keymap *map = keymap_find(name);
        struct keymap_chord c, seen[256];
        unsigned n = 0;

        assert_non_null(map);
        layouts++;
        for (uint32_t s = 0x20; s < 0x100; s++) {
            if (s >= 0x7f && s <= 0xa0) {
                continue;
            }
            if (!keymap_lookup(map, s, &c)) {
                if (s < 0x7f) {
                    fail_msg("%s has no %c", name, (int)s);
                }
                continue;
            }
            assert_int_not_equal(c.key, 0);
            assert_true(c.mods <= (S | G) && c.dead_mods <= (S | G));
            assert_true((c.mods & G) == 0 || keymap_has_altgr(map));
            for (unsigned i = 0; i < n; i++) {
                if (seen[i].key == c.key && seen[i].mods == c.mods && seen[i].dead == c.dead &&
                    seen[i].dead_mods == c.dead_mods) {
                    fail_msg("%s: %#x is made like another character", name, s);
                }
            }
            seen[n++] = c;
        }
    }
    assert_int_equal(layouts, 16);
}

static void test_case(void **state)
{
    struct keymap_chord c;

    (void)state;
    assert_true(keymap_lookup(keymap_find("de"), 0xe4, &c) && c.cased);
    assert_true(keymap_lookup(keymap_find("de"), 'Q', &c) && c.cased);
    assert_true(keymap_lookup(keymap_find("de"), '1', &c) && !c.cased);
    assert_true(keymap_lookup(keymap_find("de"), 0xdf, &c) &&
                !c.cased); /* sharp s: a question mark with Shift */
    assert_true(keymap_lookup(keymap_find("it"), 0xe9, &c) && !c.cased);
    assert_true(keymap_lookup(keymap_find("de"), 0xff0d, &c) && c.any_mods && !c.cased);
}

static void test_unknown(void **state)
{
    static const uint32_t none[] = {0,         0x1f,      0x7f,      0x9f,      0x100,
                                    0x1a1,     0x6c1,     0xfe60,    0xffffff,  0x1000000,
                                    0x10002cb, 0x10002c6, 0x1ffffff, 0xffffffff};
    struct keymap_chord c;

    (void)state;
    assert_null(keymap_find("xx"));
    assert_null(keymap_find("d"));
    assert_null(keymap_find("de de-ch"));
    assert_ptr_equal(keymap_find(""), keymap_find("en-us"));
    assert_ptr_equal(keymap_find("jp"), keymap_find("ja"));
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        assert_false(keymap_lookup(keymap_find("de"), none[i], &c));
    }
    assert_false(keymap_lookup(keymap_find(NULL), 0xe4, &c));
    assert_false(keymap_lookup(keymap_find(NULL), 0x20ac, &c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_complete),
        cmocka_unit_test(test_case),
        cmocka_unit_test(test_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
