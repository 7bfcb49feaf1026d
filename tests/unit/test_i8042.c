/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "hw/i8042.h"
#include "tests/unit/harness.h"
#include "ui/input.h"

#define GAP_NS 500000u

struct fixture {
    struct harness *h;
    struct input *in;
};

static int setup(void **state)
{
    static struct fixture f;

    f.h = harness_create();
    f.in = input_create(f.h->loop);
    assert_int_equal(i8042_create(&f.h->board, f.in), 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct harness *h = f->h;

    board_fini(&h->board); /* its devices leave the input router first */
    input_destroy(f->in);
    assert_int_equal(board_init(&h->board, h->loop, &h->plat, (struct guestmem *)(void *)&h->plat), 0);
    harness_destroy(h);
    return 0;
}

static void cmd(struct fixture *f, uint8_t v)
{
    harness_out(f->h, 0x64, 1, v);
}

static void data(struct fixture *f, uint8_t v)
{
    harness_out(f->h, 0x60, 1, v);
}

static uint8_t status(struct fixture *f)
{
    return (uint8_t)harness_in(f->h, 0x64, 1);
}

static uint8_t get(struct fixture *f)
{
    return (uint8_t)harness_in(f->h, 0x60, 1);
}

static uint8_t ccb(struct fixture *f)
{
    cmd(f, 0x20);
    return get(f);
}

static void set_ccb(struct fixture *f, uint8_t v)
{
    cmd(f, 0x60);
    data(f, v);
}

static void key(struct fixture *f, uint8_t code, bool down)
{
    input_send(f->in, &(struct input_event){ .type = INPUT_EVENT_KEY, .key = code, .down = down });
}

static void click(struct fixture *f, unsigned buttons)
{
    input_send(f->in, &(struct input_event){ .type = INPUT_EVENT_RELATIVE, .buttons = buttons });
}

/* Fetches scan codes at the pace of the wire. */
static const char *typed(struct fixture *f)
{
    static char text[200];
    size_t n = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < 40; i++) {
        if (status(f) & 1) {
            n += (size_t)sprintf(text + n, n ? " %02x" : "%02x", get(f));
        }
        harness_step(f->h, GAP_NS);
    }
    return text;
}

static void reset_values(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(status(f), 0x18);
    assert_int_equal(get(f), 0x00);
    assert_int_equal(ccb(f), 0x03);
    cmd(f, 0xd0);
    assert_int_equal(get(f), 0xcf); /* taken before its own byte fills the buffer */
    assert_int_equal(f->h->plat.shutdown_reason, -1);
}

static void controller_commands(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint8_t cmd, answer;
    } rows[] = { { 0xaa, 0x55 }, { 0xab, 0x00 }, { 0xa9, 0x00 }, { 0xa4, 0xf1 }, { 0xc0, 0x80 }, { 0xe0, 0x03 }, { 0xd0, 0xcf } };
    static const struct {
        uint8_t cmd, ccb;
    } bits[] = { { 0xad, 0x13 }, { 0xa7, 0x33 }, { 0xae, 0x23 }, { 0xa8, 0x03 } };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cmd(f, rows[i].cmd);
        assert_int_equal(status(f) & 0x29, 0x09);
        assert_int_equal(get(f), rows[i].answer);
        assert_int_equal(status(f) & 0x21, 0x00);
        assert_int_equal(get(f), rows[i].answer); /* stays readable */
    }
    assert_int_equal(status(f), 0x1c); /* self test passed */
    for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        cmd(f, bits[i].cmd);
        assert_int_equal(status(f) & 1, 0);
        assert_int_equal(ccb(f), bits[i].ccb);
    }
    for (unsigned i = 0; i < 32; i++) { /* RAM, all of it */
        cmd(f, (uint8_t)(0x60 + i));
        data(f, (uint8_t)(0x40 + i));
    }
    for (unsigned i = 0; i < 32; i++) {
        cmd(f, (uint8_t)(0x20 + i));
        assert_int_equal(get(f), 0x40 + i);
    }
    cmd(f, 0xd1); /* A20 is kept */
    data(f, 0xdd);
    cmd(f, 0xd0);
    assert_int_equal(get(f) & 2, 0);
    cmd(f, 0xdf);
    cmd(f, 0xd0);
    assert_int_equal(get(f) & 2, 2);
    cmd(f, 0xdd);
    cmd(f, 0xd0);
    assert_int_equal(get(f) & 2, 0);
    cmd(f, 0xd1);
    data(f, 0x03);
    cmd(f, 0xd0);
    assert_int_equal(get(f), 0x03);
    assert_int_equal(f->h->plat.shutdown_reason, -1);
}

static void last_write_bit(void **state)
{
    struct fixture *f = *state;

    set_ccb(f, 0x30);
    assert_int_equal(status(f) & 0x08, 0);
    cmd(f, 0xa8);
    assert_int_equal(status(f) & 0x08, 0x08);
}

static void resets_the_guest(void **state)
{
    struct fixture *f = *state;
    static const uint8_t harmless[] = { 0xff, 0xf1, 0xfd, 0xef, 0xd1 };

    for (unsigned i = 0; i < sizeof(harmless); i++) {
        cmd(f, harmless[i]);
        assert_int_equal(f->h->plat.shutdown_reason, -1);
    }
    cmd(f, 0xfe);
    assert_int_equal(f->h->plat.shutdown_reason, PLATFORM_REBOOT);
    f->h->plat.shutdown_reason = -1;
    cmd(f, 0xf0);
    assert_int_equal(f->h->plat.shutdown_reason, PLATFORM_REBOOT);
    f->h->plat.shutdown_reason = -1;
    cmd(f, 0xd1);
    data(f, 0xce);
    assert_int_equal(f->h->plat.shutdown_reason, PLATFORM_REBOOT);
}

/* What Linux's i8042 driver asks before it believes in a mouse port. */
static void linux_aux_probe(void **state)
{
    struct fixture *f = *state;
    static const uint8_t loop[] = { 0x5a, 0xa5, 0xf0, 0x56, 0xa4 };

    set_ccb(f, 0x34); /* both off, no interrupts */
    for (unsigned i = 0; i < sizeof(loop); i++) { /* comes back unchanged: no multiplexer */
        cmd(f, 0xd3);
        data(f, loop[i]);
        assert_int_equal(status(f) & 0x21, 0x21);
        assert_int_equal(get(f), loop[i]);
    }
    cmd(f, 0xa8);
    assert_int_equal(ccb(f) & 0x20, 0);
    cmd(f, 0xa7);
    assert_int_equal(ccb(f) & 0x20, 0x20);
    set_ccb(f, 0x16); /* interrupt test */
    cmd(f, 0xd3);
    data(f, 0xa5);
    assert_true(f->h->plat.isa[12]);
    assert_false(f->h->plat.isa[1]);
    assert_int_equal(get(f), 0xa5);
    assert_false(f->h->plat.isa[12]);
    cmd(f, 0xd2);
    data(f, 0x3c);
    assert_int_equal(status(f) & 0x21, 0x01);
    assert_false(f->h->plat.isa[1]);
    set_ccb(f, 0x07); /* enabling shows what waits */
    assert_true(f->h->plat.isa[1]);
    cmd(f, 0xad); /* a disabled keyboard does not interrupt */
    assert_false(f->h->plat.isa[1]);
    cmd(f, 0xae);
    assert_true(f->h->plat.isa[1]);
    assert_int_equal(get(f), 0x3c);
    assert_false(f->h->plat.isa[1]);
}

/* SeaBIOS: self test, interface test, reset, scan set, enable. */
static void firmware_keyboard_setup(void **state)
{
    struct fixture *f = *state;
    static const uint8_t setup_bytes[] = { 0xf5, 0xf0, 0x02, 0xf4 };

    cmd(f, 0xad);
    cmd(f, 0xa7);
    cmd(f, 0xaa);
    assert_int_equal(get(f), 0x55);
    cmd(f, 0xab);
    assert_int_equal(get(f), 0x00);
    set_ccb(f, 0x30); /* off, no translation */
    data(f, 0xff);
    assert_int_equal(get(f), 0xfa);
    assert_int_equal(get(f), 0xaa);
    assert_int_equal(ccb(f) & 0x10, 0); /* writing to the keyboard started its clock */
    for (unsigned i = 0; i < sizeof(setup_bytes); i++) {
        data(f, setup_bytes[i]);
        assert_int_equal(get(f), 0xfa);
    }
    set_ccb(f, 0x61);
    assert_int_equal(status(f) & 0x01, 0);
    assert_int_equal(status(f) & 0x04, 0x04);
}

static void translation_gives_set_1(void **state)
{
    struct fixture *f = *state;
    static const char *const plain = "1c f0 1c e0 75 e0 f0 75 83 f0 83";
    static const char *const translated = "1e 9e e0 48 e0 c8 41 c1";

    for (unsigned on = 0; on < 2; on++) {
        set_ccb(f, on ? 0x43 : 0x03);
        static const uint8_t keys[] = { 0x1e, 0xc8, 0x41 };

        for (unsigned i = 0; i < sizeof(keys); i++) {
            key(f, keys[i], true);
            key(f, keys[i], false);
        }
        assert_string_equal(typed(f), on ? translated : plain);
    }
    data(f, 0xf2);
    assert_int_equal(get(f), 0xfa);
    assert_int_equal(get(f), 0xab);
    assert_int_equal(get(f), 0x41); /* answers are translated too */
    data(f, 0xf0);
    get(f);
    data(f, 0x00);
    assert_int_equal(get(f), 0xfa);
    assert_int_equal(get(f), 0x41);
    key(f, INPUT_KEY_PAUSE, true);
    assert_string_equal(typed(f), "e1 1d 45 e1 9d c5");
}

/* Every key number comes out of translation as itself. */
static void translation_is_the_inverse_of_set_2(void **state)
{
    struct fixture *f = *state;

    set_ccb(f, 0x43);
    for (unsigned k = 1; k < 0x80; k++) {
        char expected[8];

        if (k == 0x71 || k == 0x72) {
            continue; /* Korean keys: a code outside of the table */
        }
        key(f, (uint8_t)k, true);
        key(f, (uint8_t)k, false);
        snprintf(expected, sizeof(expected), "%02x %02x", k, k | 0x80);
        assert_string_equal(typed(f), expected);
    }
}

static void interrupt_edges(void **state)
{
    struct fixture *f = *state;

    set_ccb(f, 0x43);
    key(f, 0xc8, true);
    assert_int_equal(f->h->plat.isa_rises[1], 1);
    assert_int_equal(get(f), 0xe0);
    assert_false(f->h->plat.isa[1]);
    assert_int_equal(get(f), 0xe0); /* a program in front of the BIOS reads first, and the BIOS reads the same */
    harness_step(f->h, GAP_NS - 1);
    assert_int_equal(status(f) & 1, 0);
    harness_step(f->h, 1);
    assert_int_equal(f->h->plat.isa_rises[1], 2);
    assert_int_equal(get(f), 0x48);
    data(f, 0xf2); /* answers come without a gap, one edge each */
    assert_int_equal(f->h->plat.isa_rises[1], 3);
    get(f);
    get(f);
    get(f);
    assert_int_equal(f->h->plat.isa_rises[1], 5);
    assert_false(f->h->plat.isa[1]);
    assert_int_equal(f->h->plat.isa_rises[12], 0);
}

static void mouse_behind_the_aux_port(void **state)
{
    struct fixture *f = *state;
    static const uint8_t answer[] = { 0xfa, 0xaa, 0x00 };

    set_ccb(f, 0x23);
    cmd(f, 0xd4);
    data(f, 0xff);
    assert_int_equal(ccb(f), 0xfa); /* the mouse was first in line */
    assert_int_equal(get(f), 0x03); /* ... and is enabled by being written to */
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(status(f) & 0x21, 0x21);
        assert_true(f->h->plat.isa[12]);
        assert_int_equal(get(f), answer[i]);
    }
    cmd(f, 0xd4);
    data(f, 0xf4);
    assert_int_equal(get(f), 0xfa);
    click(f, 1);
    assert_int_equal(get(f), 0x09);
    cmd(f, 0xa7); /* clock low: the rest waits in the mouse */
    assert_int_equal(get(f), 0x00); /* this byte had been sent */
    assert_int_equal(status(f) & 1, 0);
    cmd(f, 0xa8);
    assert_int_equal(status(f) & 0x21, 0x21);
    assert_int_equal(get(f), 0x00);
    assert_int_equal(status(f) & 1, 0);
}

static void both_devices_share_the_buffer(void **state)
{
    struct fixture *f = *state;
    unsigned kbd = 0, aux = 0;

    set_ccb(f, 0x43);
    cmd(f, 0xd4);
    data(f, 0xf4);
    get(f);
    for (unsigned i = 0; i < 200; i++) { /* nobody reads: queues fill and stay bounded */
        key(f, (uint8_t)(2 + i % 10), true);
        click(f, i & 7);
    }
    for (unsigned i = 0; i < 100 && (status(f) & 1); i++) {
        if (status(f) & 0x20) {
            aux++;
        } else {
            kbd++;
        }
        get(f);
        harness_step(f->h, GAP_NS);
    }
    assert_true(kbd >= 16 && kbd <= 20);
    assert_true(aux >= 15 && aux <= 24);
    assert_int_equal(aux % 3, 0); /* whole packets */
    assert_int_equal(status(f) & 1, 0);
}

static void unknown_commands_are_ignored(void **state)
{
    struct fixture *f = *state;

    for (unsigned c = 0; c < 0xf0; c++) {
        bool known = (c >= 0x20 && c < 0x40) || (c >= 0x60 && c < 0x80) || c == 0xa4 || (c >= 0xa7 && c <= 0xab) ||
                     c == 0xad || c == 0xae || c == 0xc0 || (c >= 0xd0 && c <= 0xd4) || c == 0xdd || c == 0xdf || c == 0xe0;

        if (!known) {
            cmd(f, (uint8_t)c);
            assert_int_equal(status(f) & 1, 0);
        }
    }
    assert_int_equal(ccb(f), 0x03);
}

static void wide_access_is_split(void **state)
{
    struct fixture *f = *state;

    cmd(f, 0xaa);
    assert_int_equal(harness_in(f->h, 0x60, 2), 0xff55); /* 0x61 belongs to Xen */
    assert_int_equal(harness_in(f->h, 0x64, 2), 0xff1c);
}

static void save_load_save(void **state)
{
    struct fixture *f = *state;
    struct harness *other = harness_create();

    assert_int_equal(i8042_create(&other->board, NULL), 0);
    set_ccb(f, 0x47);
    cmd(f, 0xd4);
    data(f, 0xf4);
    get(f);
    key(f, 0xc8, true);
    key(f, 0xc8, false);
    click(f, 5);
    input_send(f->in, &(struct input_event){ .type = INPUT_EVENT_RELATIVE, .x = 3, .buttons = 5 });
    data(f, 0xed);
    cmd(f, 0xd1);
    assert_true(harness_save_load_save(f->h));
    assert_true(harness_transfer(f->h, other));
    assert_true(other->plat.isa[1]);
    static const uint8_t expected[] = { 0xe0, 0xfa, 0x0d, 0x00, 0x00, 0x0d, 0x03, 0x00, 0x48, 0xe0, 0xc8 };

    harness_out(other, 0x60, 1, 0xdf); /* the argument of D1 */
    for (unsigned i = 0; i < sizeof(expected); i++) {
        while (!(harness_in(other, 0x64, 1) & 1)) {
            harness_step(other, GAP_NS);
        }
        assert_int_equal(harness_in(other, 0x64, 1) & 0x20, i >= 2 && i < 8 ? 0x20 : 0);
        assert_int_equal(harness_in(other, 0x60, 1), expected[i]);
    }
    harness_destroy(other);
}

static void refuses_bad_state(void **state)
{
    struct fixture *f = *state;
    struct save_stream s, bad;
    unsigned refused = 0;

    save_init(&s);
    assert_int_equal(board_save(&f->h->board, &s), 0);
    for (size_t i = 30; i < s.len; i++) { /* behind the record's head */
        uint8_t old = s.data[i];

        s.data[i] = 0xff;
        save_init_load(&bad, s.data, s.len);
        refused += board_load(&f->h->board, &bad) != 0;
        for (unsigned n = 0; n < 40; n++) {
            key(f, (uint8_t)(0x80 | n), n & 1);
            click(f, n);
            cmd(f, 0xd4);
            data(f, 0xeb);
            data(f, 0xf2);
            get(f);
        }
        s.data[i] = old;
    }
    assert_true(refused >= 12);
    save_free(&s);
}

static void create_fails_cleanly(void **state)
{
    struct fixture *f = *state;

    assert_true(i8042_create(&f->h->board, f->in) < 0);
    key(f, 0x1e, true); /* the first one still has the keyboard */
    assert_int_equal(get(f), 0x1c);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reset_values),
        TEST(controller_commands),
        TEST(last_write_bit),
        TEST(resets_the_guest),
        TEST(linux_aux_probe),
        TEST(firmware_keyboard_setup),
        TEST(translation_gives_set_1),
        TEST(translation_is_the_inverse_of_set_2),
        TEST(interrupt_edges),
        TEST(mouse_behind_the_aux_port),
        TEST(both_devices_share_the_buffer),
        TEST(unknown_commands_are_ignored),
        TEST(wide_access_is_split),
        TEST(save_load_save),
        TEST(refuses_bad_state),
        TEST(create_fails_cleanly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
