/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/save.h"

struct sample {
    bool b;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    uint8_t bytes[5];
};

static void move(struct save_stream *s, struct sample *v)
{
    save_bool(s, &v->b);
    save_u8(s, &v->u8);
    save_u16(s, &v->u16);
    save_u32(s, &v->u32);
    save_u64(s, &v->u64);
    save_bytes(s, v->bytes, sizeof(v->bytes));
}

static const struct sample sample = {
    true, 0x81, 0x8283, 0x84858687, 0x88898a8b8c8d8e8f, {1, 2, 3, 4, 5}};
static const uint8_t wire[] = {1,    0x81, 0x83, 0x82, 0x87, 0x86, 0x85, 0x84, 0x8f, 0x8e, 0x8d,
                               0x8c, 0x8b, 0x8a, 0x89, 0x88, 1,    2,    3,    4,    5};

static void test_layout(void **state)
{
    struct save_stream s;
    struct sample v = sample;

    (void)state;
    save_init(&s);
    move(&s, &v);
    assert_int_equal(s.error, 0);
    assert_int_equal(s.len, sizeof(wire));
    assert_memory_equal(s.data, wire, sizeof(wire));
    save_free(&s);
}

static void test_load(void **state)
{
    struct save_stream s;
    struct sample v;

    (void)state;
    memset(&v, 0xee, sizeof(v));
    save_init_load(&s, wire, sizeof(wire));
    move(&s, &v);
    assert_int_equal(s.error, 0);
    assert_int_equal(s.pos, sizeof(wire));
    assert_true(v.b);
    assert_int_equal(v.u8, sample.u8);
    assert_int_equal(v.u16, sample.u16);
    assert_int_equal(v.u32, sample.u32);
    assert_true(v.u64 == sample.u64);
    assert_memory_equal(v.bytes, sample.bytes, sizeof(v.bytes));
    save_free(&s);
}

/* Every cut: an error, fields after it are 0, nothing is read past the end (ASan sees that). */
static void test_short_record(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof(wire); len++) {
        struct save_stream s;
        struct sample v;
        uint8_t after = 0xee;

        memset(&v, 0xee, sizeof(v));
        save_init_load(&s, wire, len);
        move(&s, &v);
        save_u8(&s, &after);
        assert_int_equal(s.error, -EINVAL);
        assert_int_equal(after, 0);
        assert_int_equal(v.bytes[4], 0);
        save_free(&s);
    }
}

static void test_bad_bool(void **state)
{
    static const uint8_t two[] = {2};
    struct save_stream s;
    bool b = true;

    (void)state;
    save_init_load(&s, two, sizeof(two));
    save_bool(&s, &b);
    assert_int_equal(s.error, -EINVAL);
    assert_false(b);
}

static void test_first_error_stays(void **state)
{
    struct save_stream s;
    uint32_t v = 7;

    (void)state;
    save_init(&s);
    save_u32(&s, &v);
    s.error = -EIO;
    save_u32(&s, &v);
    assert_int_equal(s.len, 4);
    assert_int_equal(s.error, -EIO);
    save_free(&s);
}

static void test_growth(void **state)
{
    struct save_stream s;
    static uint8_t block[777];

    (void)state;
    save_init(&s);
    for (unsigned i = 0; i < 100; i++) {
        memset(block, (int)i, sizeof(block));
        save_bytes(&s, block, sizeof(block));
    }
    assert_int_equal(s.error, 0);
    assert_int_equal(s.len, 77700);
    for (unsigned i = 0; i < 77700; i++) {
        assert_int_equal(s.data[i], i / 777);
    }
    save_free(&s);
}

/* A device without state of its own has an empty record and no buffer behind it. */
static void test_empty(void **state)
{
    struct save_stream s;

    (void)state;
    save_init(&s);
    save_bytes(&s, NULL, 0);
    assert_int_equal(s.error, 0);
    assert_int_equal(s.len, 0);
    save_free(&s);
    save_init_load(&s, NULL, 0);
    save_bytes(&s, NULL, 0);
    assert_int_equal(s.error, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),     cmocka_unit_test(test_load),
        cmocka_unit_test(test_short_record), cmocka_unit_test(test_bad_bool),
        cmocka_unit_test(test_first_error_stays), cmocka_unit_test(test_growth),
        cmocka_unit_test(test_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
