/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "hw/fdc.h"
#include "tests/unit/harness.h"

enum { SRB = 0x3f1, DOR = 0x3f2, TDR = 0x3f3, MSR = 0x3f4, DSR = 0x3f4, FIFO = 0x3f5, DIR = 0x3f7 };
static struct harness *h;

static int setup(void **state)
{
    (void)state;
    h = harness_create();
    return fdc_create(&h->board);
}

static int teardown(void **state)
{
    (void)state;
    harness_destroy(h);
    return 0;
}

/* Sends a command as a driver does, by MSR, and checks the bytes of its result. */
static void command(const uint8_t *bytes, unsigned n, const uint8_t *result, unsigned len)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(harness_in(h, MSR, 1), i ? 0x90 : 0x80);
        harness_out(h, FIFO, 1, bytes[i]);
    }
    for (unsigned i = 0; i < len; i++) {
        assert_int_equal(harness_in(h, MSR, 1), 0xd0);
        assert_int_equal(harness_in(h, FIFO, 1), result[i]);
    }
    assert_int_equal(harness_in(h, MSR, 1), 0x80);
}

#define COMMAND(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
#define RESULT(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
#define NO_RESULT NULL, 0

static void reset_chip(void)
{
    harness_out(h, DOR, 1, 0x08);
    harness_out(h, DOR, 1, 0x0c);
    for (uint8_t n = 0; n < 4; n++) {
        command(COMMAND(0x08), RESULT((uint8_t)(0xc0 | n), 0));
    }
}

static void test_reset_values(void **state)
{
    static const uint8_t values[] = {0xc0, 0x0c, 0, 0x80, 0, 0xff, 0x80}; /* 0x3f6 is not ours */

    (void)state;
    assert_int_equal(harness_in(h, 0x3f0, 1), 0xff);
    for (unsigned i = 0; i < sizeof(values); i++) {
        assert_int_equal(harness_in(h, (uint16_t)(SRB + i), 1), values[i]);
    }
    command(COMMAND(0x0e), RESULT(0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0));
    command(COMMAND(0x08), RESULT(0x80)); /* nothing happened yet */
    assert_false(h->plat.isa[6]);
}

static void test_reset_sequence(void **state)
{
    (void)state;
    harness_out(h, DOR, 1, 0x08);
    assert_int_equal(harness_in(h, MSR, 1), 0);
    harness_out(h, FIFO, 1, 0x10); /* held in reset: deaf */
    assert_false(h->plat.isa[6]);
    harness_out(h, DOR, 1, 0x0c);
    assert_true(h->plat.isa[6]);
    assert_int_equal(harness_in(h, MSR, 1), 0x80);
    command(COMMAND(0x08), RESULT(0xc0, 0));
    assert_false(h->plat.isa[6]);
    command(COMMAND(0x08), RESULT(0xc1, 0));
    command(COMMAND(0x08), RESULT(0xc2, 0));
    command(COMMAND(0x08), RESULT(0xc3, 0));
    command(COMMAND(0x08), RESULT(0x80));
    harness_out(h, DSR, 1, 0x80); /* the other way; clears itself */
    assert_true(h->plat.isa[6]);
    command(COMMAND(0x08), RESULT(0xc0, 0));
    harness_out(h, DOR, 1, 0x08);
    assert_false(h->plat.isa[6]);
    harness_out(h, DSR, 1, 0x80); /* while held in reset: nothing */
    assert_false(h->plat.isa[6]);
}

static void test_interrupt_gate(void **state)
{
    (void)state;
    harness_out(h, DOR, 1, 0);
    harness_out(h, DOR, 1, 0x04);
    assert_false(h->plat.isa[6]);
    harness_out(h, DOR, 1, 0x0c);
    assert_true(h->plat.isa[6]);
    harness_out(h, DOR, 1, 0x04);
    assert_false(h->plat.isa[6]);
    assert_int_equal(h->plat.isa_rises[6], 1);
}

/* How Linux tells the controller types apart. */
static void test_identification(void **state)
{
    (void)state;
    reset_chip();
    command(COMMAND(0x10), RESULT(0x90));
    command(COMMAND(0x13, 0, 0x1a, 5), NO_RESULT);
    command(COMMAND(0x12, 0x80), NO_RESULT);
    command(COMMAND(0x14), RESULT(0));
    command(COMMAND(0x18), RESULT(0x41));
    command(COMMAND(0x03, 0xaf, 0x1e), NO_RESULT);
    command(COMMAND(0x0e), RESULT(0, 0, 0, 0, 0xaf, 0x1e, 0, 0, 0x1a, 5));
}

static void test_lock(void **state)
{
    (void)state;
    command(COMMAND(0x13, 0, 0x57, 3), NO_RESULT);
    command(COMMAND(0x94), RESULT(0x10));
    reset_chip();
    command(COMMAND(0x0e), RESULT(0, 0, 0, 0, 0, 0, 0, 0x80, 0x07, 3));
    command(COMMAND(0x14), RESULT(0));
    reset_chip();
    command(COMMAND(0x0e), RESULT(0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0));
}

static void test_perpendicular(void **state)
{
    (void)state;
    command(COMMAND(0x12, 0x3f), NO_RESULT); /* without OW the drives' bits stay */
    command(COMMAND(0x0e), RESULT(0, 0, 0, 0, 0, 0, 0, 0x03, 0x20, 0));
    command(COMMAND(0x12, 0x95), NO_RESULT);
    command(COMMAND(0x0e), RESULT(0, 0, 0, 0, 0, 0, 0, 0x15, 0x20, 0));
    reset_chip();
    command(COMMAND(0x0e), RESULT(0, 0, 0, 0, 0, 0, 0, 0x14, 0x20, 0));
}

static void test_no_drive(void **state)
{
    (void)state;
    reset_chip();
    command(COMMAND(0x04, 0x05), RESULT(0x2d)); /* no track 0, no write protect */
    command(COMMAND(0x07, 0x01), NO_RESULT);
    assert_true(h->plat.isa[6]);
    command(COMMAND(0x08), RESULT(0x71, 0)); /* never reached track 0 */
    assert_false(h->plat.isa[6]);
    command(COMMAND(0x0f, 0x02, 40), NO_RESULT);
    assert_true(h->plat.isa[6]);
    command(COMMAND(0x08), RESULT(0x22, 40));
    command(COMMAND(0xcf, 0x02, 10), NO_RESULT);
    command(COMMAND(0x08), RESULT(0x22, 50));
    command(COMMAND(0x8f, 0x06, 60), NO_RESULT);
    command(COMMAND(0x08), RESULT(0x22, 246));
    command(COMMAND(0x08), RESULT(0x80));
    command(COMMAND(0x0e), RESULT(0, 0, 246, 0, 0, 0, 0, 0, 0x20, 0));
}

/* Every command that would move data ends with "no address mark" and an interrupt, and its result is as long as the datasheet says. */
static void test_data_commands(void **state)
{
    static const uint8_t opcodes[] = {0x06, 0xe6, 0x0c, 0xcc, 0x05, 0xc5, 0x09, 0x49, 0x02, 0x62, 0x16, 0xf6, 0x11, 0x19, 0x1d};

    (void)state;
    for (unsigned i = 0; i < sizeof(opcodes); i++) {
        const uint8_t bytes[] = {opcodes[i], 5, 7, 1, 3, 2, 18, 0x1b, 0xff};

        for (unsigned n = 0; n < sizeof(bytes); n++) {
            assert_false(h->plat.isa[6]);
            harness_out(h, FIFO, 1, bytes[n]);
        }
        assert_true(h->plat.isa[6]);
        command(NULL, 0, RESULT(0x45, 1, 0, 7, 1, 3, 2));
        assert_false(h->plat.isa[6]); /* the first result byte takes it back */
    }
    command(COMMAND(0x0e), RESULT(0, 0, 0, 0, 0, 0, 18, 0, 0x20, 0));
    command(COMMAND(0x4a, 1), RESULT(0x41, 1, 0, 0, 0, 0, 0));
    command(COMMAND(0x4d, 0, 2, 18, 0x54, 0xf6), RESULT(0x40, 1, 0, 0, 0, 0, 0));
}

static void test_invalid_commands(void **state)
{
    static const uint8_t opcodes[] = {0x00, 0x01, 0x0b, 0x15, 0x17, 0x1a, 0x1b, 0x1e, 0x1f, 0x33, 0x47, 0x88, 0x90, 0xff};

    (void)state;
    for (unsigned i = 0; i < sizeof(opcodes); i++) {
        command(&opcodes[i], 1, RESULT(0x80));
    }
    assert_false(h->plat.isa[6]);
}

static void test_fifo_out_of_turn(void **state)
{
    (void)state;
    assert_int_equal(harness_in(h, FIFO, 1), 0);
    harness_out(h, FIFO, 1, 0x0e);
    harness_out(h, FIFO, 1, 0xff); /* writing while a result waits */
    for (unsigned i = 0; i < 100; i++) {
        harness_in(h, FIFO, 1);
    }
    assert_int_equal(harness_in(h, MSR, 1), 0x80);
    harness_out(h, FIFO, 1, 0x0f); /* a reset in the middle of a command */
    harness_out(h, FIFO, 1, 0x00);
    reset_chip();
}

static void test_registers(void **state)
{
    (void)state;
    harness_out(h, DOR, 1, 0x1c);
    assert_int_equal(harness_in(h, SRB, 1), 0xc1);
    harness_out(h, DOR, 1, 0x2d);
    assert_int_equal(harness_in(h, SRB, 1), 0xe2);
    assert_int_equal(harness_in(h, DOR, 1), 0x2d);
    harness_out(h, TDR, 1, 0xff);
    assert_int_equal(harness_in(h, TDR, 1), 3);
    harness_out(h, SRB, 1, 0);
    assert_int_equal(harness_in(h, SRB, 1), 0xe2);
    harness_out(h, DIR, 1, 2);
    assert_int_equal(harness_in(h, DIR, 1), 0x80);
}

static void test_save(void **state)
{
    struct harness *other = harness_create();
    struct harness *mine = h;

    (void)state;
    assert_int_equal(fdc_create(&other->board), 0);
    harness_out(h, DOR, 1, 0);
    harness_out(h, DOR, 1, 0x0c);
    harness_out(h, FIFO, 1, 0x13);
    harness_out(h, FIFO, 1, 0);
    assert_true(harness_save_load_save(h));
    assert_true(harness_transfer(h, other));
    assert_true(other->plat.isa[6]);
    h = other;
    harness_out(h, FIFO, 1, 0x15);
    harness_out(h, FIFO, 1, 9);
    command(COMMAND(0x08), RESULT(0xc0, 0));
    command(COMMAND(0x0e), RESULT(0, 0, 0, 0, 0, 0, 0, 0, 0x15, 9));
    h = mine;
    harness_out(h, FIFO, 1, 0x15);
    harness_out(h, FIFO, 1, 9);
    harness_out(h, FIFO, 1, 0x0e); /* in the middle of a result */
    harness_in(h, FIFO, 1);
    assert_true(harness_transfer(h, other));
    for (unsigned i = 0; i < 9; i++) {
        assert_int_equal(harness_in(other, FIFO, 1), harness_in(h, FIFO, 1));
    }
    harness_destroy(other);
}

/* Saved state is hostile: no position outside the buffer is taken. */
static void test_bad_state(void **state)
{
    struct save_stream s, in;

    (void)state;
    save_init(&s);
    assert_int_equal(board_save(&h->board, &s), 0);
    for (unsigned field = 0; field < 3; field++) { /* phase, pos, len */
        uint8_t *at = &s.data[s.len - 19 + field];
        uint8_t old = *at;

        assert_int_equal(old, 0);
        for (unsigned v = 1; v < 256; v++) {
            *at = (uint8_t)v;
            save_init_load(&in, s.data, s.len);
            if (board_load(&h->board, &in) == 0) {
                assert_true(field == 2 && v <= 16);
            }
        }
        *at = old;
    }
    save_free(&s);
}

static void test_refused_leaves_nothing(void **state)
{
    unsigned live = h->plat.map_calls - h->plat.unmap_calls;

    (void)state;
    assert_int_equal(fdc_create(&h->board), -EEXIST);
    assert_int_equal(h->plat.map_calls - h->plat.unmap_calls, live);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reset_values), TEST(test_reset_sequence),   TEST(test_interrupt_gate),   TEST(test_identification),
        TEST(test_lock),         TEST(test_perpendicular),    TEST(test_no_drive),         TEST(test_data_commands),
        TEST(test_invalid_commands), TEST(test_fifo_out_of_turn), TEST(test_registers),    TEST(test_save),
        TEST(test_bad_state),    TEST(test_refused_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
