/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/chardev.h"
#include "hw/serial.h"
#include "tests/unit/harness.h"

enum { COM1 = 0x3f8, COM3 = 0x3e8, IRQ = 4 };

struct fixture {
    struct harness *h;
    struct chardev *c;
    int fd; /* the far end */
};

static int setup(void **state)
{
    static struct fixture f;
    int pair[2];
    char spec[32], err[200];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    f.h = harness_create();
    snprintf(spec, sizeof(spec), "socket,fd=%d", pair[0]);
    f.c = chardev_open(f.h->loop, "serial0", spec, err, sizeof(err));
    assert_non_null(f.c);
    assert_int_equal(serial_create(&f.h->board, 0, f.c), 0);
    f.fd = pair[1];
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    harness_destroy(f->h);
    close(f->fd);
    return 0;
}

/* The chardev borrows the loop, so it goes first. */
static int teardown_all(void **state)
{
    struct fixture *f = *state;
    struct harness *h = f->h;

    board_fini(&h->board);
    chardev_close(f->c);
    assert_int_equal(board_init(&h->board, h->loop, &h->plat, (struct guestmem *)(void *)&h->plat), 0);
    return teardown(state);
}

static uint8_t in(struct fixture *f, unsigned reg)
{
    return (uint8_t)harness_in(f->h, (uint16_t)(COM1 + reg), 1);
}

static void out(struct fixture *f, unsigned reg, uint8_t v)
{
    harness_out(f->h, (uint16_t)(COM1 + reg), 1, v);
}

static void feed(struct fixture *f, const char *text)
{
    assert_int_equal(write(f->fd, text, strlen(text)), (int)strlen(text));
    loop_poll(f->h->loop, 0);
}

static void reset_values(void **state)
{
    struct fixture *f = *state;
    static const uint8_t expect[8] = { 0x00, 0x00, 0x01, 0x00, 0x08, 0x60, 0xb0, 0x00 };

    for (unsigned reg = 0; reg < 8; reg++) {
        assert_int_equal(in(f, reg), expect[reg]);
    }
    assert_false(f->h->plat.isa[IRQ]);
}

static void register_masks(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint8_t reg, mask;
    } rows[] = { { 1, 0x0f }, { 3, 0xff }, { 4, 0x1f }, { 7, 0xff } };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            out(f, rows[i].reg, (uint8_t)(1u << bit));
            assert_int_equal(in(f, rows[i].reg), 1u << bit & rows[i].mask);
        }
        out(f, rows[i].reg, 0);
    }
    out(f, 5, 0xff); /* LSR, MSR: read-only */
    out(f, 6, 0xff);
    assert_int_equal(in(f, 5), 0x60);
    out(f, 3, 0x80); /* the divisor latch is a register of its own */
    out(f, 0, 0x34);
    out(f, 1, 0x12);
    assert_int_equal(in(f, 0), 0x34);
    assert_int_equal(in(f, 1), 0x12);
    out(f, 3, 0x03);
    assert_int_equal(in(f, 1), 0x00);
    out(f, 1, 0x00); /* hvmloader's probe */
    assert_int_equal(in(f, 1), 0x00);
    out(f, 1, 0x0f);
    assert_int_equal(in(f, 1), 0x0f);
    out(f, 1, 0x02); /* SeaBIOS's probe */
    assert_int_equal(in(f, 1), 0x02);
    assert_int_equal(in(f, 2) & 0x3f, 0x02);
}

static void fifo_identity(void **state)
{
    struct fixture *f = *state;

    out(f, 2, 0x01);
    assert_int_equal(in(f, 2), 0xc1); /* 16550A */
    out(f, 2, 0x21);
    assert_int_equal(in(f, 2), 0xc1); /* no 16750's 64-byte bit */
    out(f, 2, 0xc0);
    assert_int_equal(in(f, 2), 0x01);
}

static void transmits_at_once(void **state)
{
    struct fixture *f = *state;
    char buf[64];

    for (const char *p = "Hello, world"; *p; p++) {
        assert_int_equal(in(f, 5), 0x60);
        out(f, 0, (uint8_t)*p);
    }
    assert_int_equal(in(f, 5), 0x60);
    assert_int_equal(read(f->fd, buf, sizeof(buf)), -1); /* gathered for a millisecond */
    harness_step(f->h, 1000000);
    assert_int_equal(read(f->fd, buf, sizeof(buf)), 12);
    assert_memory_equal(buf, "Hello, world", 12);
}

static void thre_interrupt_order(void **state)
{
    struct fixture *f = *state;
    unsigned rises;

    out(f, 2, 0x01);
    out(f, 4, 0x03);
    out(f, 1, 0x02);
    assert_false(f->h->plat.isa[IRQ]); /* OUT2 is off: the board holds the line */
    out(f, 4, 0x0b);
    assert_true(f->h->plat.isa[IRQ]); /* enabled with an empty transmitter */
    assert_int_equal(in(f, 2), 0xc2);
    assert_false(f->h->plat.isa[IRQ]); /* reading IIR took it back */
    assert_int_equal(in(f, 2), 0xc1);
    rises = f->h->plat.isa_rises[IRQ];
    for (unsigned i = 0; i < 16; i++) {
        out(f, 0, 'x');
    }
    assert_int_equal(f->h->plat.isa_rises[IRQ], rises); /* a burst costs no line changes ... */
    assert_int_equal(in(f, 5), 0x60);
    harness_step(f->h, 320000);
    assert_true(f->h->plat.isa[IRQ]); /* ... and one interrupt at its end */
    assert_int_equal(f->h->plat.isa_rises[IRQ], rises + 1);
    out(f, 0, 'y'); /* without reading IIR: a new edge must come */
    assert_false(f->h->plat.isa[IRQ]);
    harness_step(f->h, 320000);
    assert_int_equal(f->h->plat.isa_rises[IRQ], rises + 2);
    out(f, 0, 'z'); /* IIR tells at once, before the line does */
    assert_int_equal(in(f, 2), 0xc2);
    harness_step(f->h, 1000000);
    assert_int_equal(f->h->plat.isa_rises[IRQ], rises + 2);
    out(f, 1, 0x00);
    out(f, 1, 0x02); /* the kick that drivers give */
    assert_true(f->h->plat.isa[IRQ]);
}

static void receive_trigger_and_timeout(void **state)
{
    struct fixture *f = *state;

    out(f, 3, 0x80);
    out(f, 0, 0x01); /* 115200, 8N1: ten bits, four characters in 347222 ns */
    out(f, 3, 0x03);
    out(f, 2, 0x41); /* trigger at four */
    out(f, 4, 0x08);
    out(f, 1, 0x01);
    feed(f, "abc");
    assert_int_equal(in(f, 5), 0x61);
    assert_int_equal(in(f, 2), 0xc1);
    harness_step(f->h, 347221);
    assert_false(f->h->plat.isa[IRQ]);
    harness_step(f->h, 1);
    assert_true(f->h->plat.isa[IRQ]);
    assert_int_equal(in(f, 2), 0xcc);
    assert_int_equal(in(f, 0), 'a'); /* takes the timeout back */
    assert_int_equal(in(f, 2), 0xc1);
    assert_false(f->h->plat.isa[IRQ]);
    feed(f, "de");
    assert_int_equal(in(f, 2), 0xc4);
    assert_true(f->h->plat.isa[IRQ]);
    assert_int_equal(in(f, 0), 'b');
    assert_int_equal(in(f, 2), 0xc1);
    for (const char *p = "cde"; *p; p++) {
        assert_int_equal(in(f, 0), *p);
    }
    assert_int_equal(in(f, 5), 0x60);
    assert_int_equal(in(f, 0), 0);
    out(f, 2, 0x00);
    feed(f, "z");
    assert_int_equal(in(f, 0), 'z');
    assert_int_equal(in(f, 0), 'z'); /* without FIFO an empty receiver repeats itself */
}

static void long_input_waits_its_turn(void **state)
{
    struct fixture *f = *state;
    char text[101];

    for (unsigned i = 0; i < 100; i++) {
        text[i] = (char)('0' + i % 10);
    }
    text[100] = '\0';
    out(f, 2, 0xc1);
    feed(f, text);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(in(f, 5) & 0x01);
        assert_false(in(f, 5) & 0x02); /* never overruns */
        assert_int_equal(in(f, 0), text[i]);
    }
    assert_int_equal(in(f, 5), 0x60);
}

static void interrupt_priority(void **state)
{
    struct fixture *f = *state;

    out(f, 2, 0x01);
    out(f, 4, 0x10); /* loop: everything can be made to happen */
    for (unsigned i = 0; i < 17; i++) {
        out(f, 0, (uint8_t)i); /* the 17th overruns */
    }
    out(f, 4, 0x12); /* RTS: delta CTS */
    out(f, 1, 0x0f);
    assert_int_equal(in(f, 2), 0xc6);
    assert_int_equal(in(f, 5), 0x63);
    assert_int_equal(in(f, 2), 0xc4);
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(in(f, 0), i); /* the FIFO kept the oldest */
    }
    assert_int_equal(in(f, 2), 0xc2);
    assert_int_equal(in(f, 2), 0xc0);
    assert_int_equal(in(f, 6) & 0x0f, 0x0f & (0x01 | 0x02 | 0x08)); /* the real lines went when the loop closed */
    assert_int_equal(in(f, 2), 0xc1);
    assert_int_equal(f->h->plat.isa_rises[IRQ], 0); /* OUT2 is cut off in loop mode */
}

static void loopback_modem_lines(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint8_t mcr, lines, deltas;
    } rows[] = {
        { 0x10, 0x00, 0x0b }, /* from b0 */
        { 0x1a, 0x90, 0x09 }, /* Linux's probe: OUT2, RTS -> DCD, CTS */
        { 0x15, 0x60, 0x0b }, /* RI rises: no TERI */
        { 0x11, 0x20, 0x04 }, /* RI falls: TERI */
        { 0x1f, 0xf0, 0x09 },
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        out(f, 4, rows[i].mcr);
        assert_int_equal(in(f, 6), rows[i].lines | rows[i].deltas);
        assert_int_equal(in(f, 6), rows[i].lines); /* reading cleared the deltas */
    }
    out(f, 4, 0x00);
    assert_int_equal(in(f, 6) & 0xf0, 0xb0);
}

static void loopback_data_and_break(void **state)
{
    struct fixture *f = *state;
    char buf[8];

    out(f, 4, 0x10);
    out(f, 3, 0x03);
    out(f, 0, 0xa5);
    assert_int_equal(in(f, 5), 0x61);
    assert_int_equal(in(f, 0), 0xa5);
    out(f, 0, 1);
    out(f, 0, 2); /* without FIFO the newest stays */
    assert_int_equal(in(f, 5), 0x63);
    assert_int_equal(in(f, 5), 0x61);
    assert_int_equal(in(f, 0), 2);
    out(f, 3, 0x00);
    out(f, 0, 0xff);
    assert_int_equal(in(f, 0), 0x1f); /* five bits */
    out(f, 3, 0x03);
    out(f, 2, 0x01);
    out(f, 0, 'a');
    out(f, 3, 0x43); /* break travels behind 'a' */
    out(f, 3, 0x03);
    assert_int_equal(in(f, 5), 0xe1);
    assert_int_equal(in(f, 0), 'a');
    assert_int_equal(in(f, 5), 0xf9);
    assert_int_equal(in(f, 5), 0x61);
    assert_int_equal(in(f, 0), 0);
    harness_step(f->h, 2000000);
    assert_int_equal(read(f->fd, buf, sizeof(buf)), -1); /* nothing leaked out */
}

static void loop_holds_outside_input(void **state)
{
    struct fixture *f = *state;

    out(f, 4, 0x10);
    feed(f, "x");
    assert_int_equal(in(f, 5), 0x60);
    out(f, 4, 0x00);
    assert_int_equal(in(f, 5), 0x61);
    assert_int_equal(in(f, 0), 'x');
}

static void fcr_resets(void **state)
{
    struct fixture *f = *state;

    out(f, 4, 0x10);
    out(f, 2, 0x01);
    out(f, 0, 1);
    out(f, 2, 0x03);
    assert_int_equal(in(f, 5), 0x60);
    out(f, 0, 1);
    out(f, 2, 0x00); /* switching the mode empties too */
    assert_int_equal(in(f, 5), 0x60);
    out(f, 2, 0xc0); /* trigger bits count only with bit 0 */
    out(f, 1, 0x01);
    out(f, 0, 1);
    assert_int_equal(in(f, 2), 0x04);
}

static void stalled_peer_fills_the_fifo(void **state)
{
    struct fixture *f = *state;
    static char sink[1 << 16];
    unsigned sent = 0, got = 0, i;
    ssize_t n;

    out(f, 2, 0x01);
    out(f, 4, 0x08);
    for (i = 0; i < 4000000 && (in(f, 5) & 0x20); i++) {
        out(f, 0, (uint8_t)sent++);
    }
    assert_true(sent > 4096 && sent < 4000000);
    assert_int_equal(in(f, 5), 0x00); /* neither THRE nor TEMT */
    out(f, 1, 0x02);
    for (i = 0; i < 15; i++) { /* one is in there already */
        out(f, 0, (uint8_t)sent++);
    }
    out(f, 0, 0xee); /* the FIFO is full: lost */
    harness_step(f->h, 1000000);
    assert_false(f->h->plat.isa[IRQ]);
    assert_true(harness_save_load_save(f->h));
    for (unsigned turns = 0; turns < 100000 && got < sent; turns++) {
        n = read(f->fd, sink, sizeof(sink));
        for (i = 0; n > 0 && i < (unsigned)n; i++) {
            assert_int_equal((uint8_t)sink[i], (uint8_t)got++);
        }
        harness_step(f->h, 1000000);
    }
    assert_int_equal(got, sent);
    assert_int_equal(in(f, 5), 0x60);
    assert_true(f->h->plat.isa[IRQ]);
    assert_int_equal(in(f, 2), 0xc2);
}

static void com1_and_com3_share_a_line(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(serial_create(&f->h->board, 2, NULL), 0);
    assert_int_equal(serial_create(&f->h->board, 4, NULL), -EINVAL);
    assert_int_equal(serial_create(&f->h->board, 0, NULL), -EEXIST);
    out(f, 4, 0x08);
    out(f, 1, 0x02);
    harness_out(f->h, COM3 + 4, 1, 0x08);
    harness_out(f->h, COM3 + 1, 1, 0x02);
    assert_true(f->h->plat.isa[IRQ]);
    assert_int_equal(in(f, 2), 0x02);
    assert_true(f->h->plat.isa[IRQ]); /* COM3 still wants it */
    assert_int_equal(harness_in(f->h, COM3 + 2, 1), 0x02);
    assert_false(f->h->plat.isa[IRQ]);
    harness_out(f->h, COM3, 1, 'x'); /* nothing is connected: goes nowhere, at once */
    assert_int_equal(harness_in(f->h, COM3 + 5, 1), 0x60);
    assert_int_equal(f->h->plat.isa_rises[3], 0);
}

static void wide_access_is_split(void **state)
{
    struct fixture *f = *state;

    out(f, 7, 0x5a);
    assert_int_equal(harness_in(f->h, COM1 + 4, 4), 0x5ab06008);
}

static void save_load_save(void **state)
{
    struct fixture *f = *state;
    struct harness *other = harness_create();

    assert_int_equal(serial_create(&other->board, 0, NULL), 0);
    out(f, 3, 0x83);
    out(f, 0, 0x03);
    out(f, 3, 0x03);
    out(f, 2, 0x41);
    out(f, 4, 0x08);
    out(f, 7, 0x77);
    feed(f, "abcdef");
    out(f, 1, 0x0f);
    assert_true(harness_save_load_save(f->h));
    assert_true(harness_transfer(f->h, other));
    assert_true(other->plat.isa[IRQ]);
    assert_int_equal(harness_in(other, COM1 + 7, 1), 0x77);
    assert_int_equal(harness_in(other, COM1, 1), 'a');
    harness_destroy(other);
}

static void refuses_bad_state(void **state)
{
    struct fixture *f = *state;
    struct save_stream s, bad;
    unsigned refused = 0;

    save_init(&s);
    assert_int_equal(board_save(&f->h->board, &s), 0);
    for (size_t i = 0; i < s.len; i++) { /* no byte can be turned into something that breaks us */
        uint8_t old = s.data[i];

        s.data[i] = 0xff;
        save_init_load(&bad, s.data, s.len);
        refused += board_load(&f->h->board, &bad) != 0;
        for (unsigned reg = 0; reg < 8; reg++) {
            in(f, reg);
        }
        out(f, 0, 1);
        s.data[i] = old;
    }
    assert_true(refused >= 8);
    save_free(&s);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reset_values),
        TEST(register_masks),
        TEST(fifo_identity),
        TEST(transmits_at_once),
        TEST(thre_interrupt_order),
        TEST(receive_trigger_and_timeout),
        TEST(long_input_waits_its_turn),
        TEST(interrupt_priority),
        TEST(loopback_modem_lines),
        TEST(loopback_data_and_break),
        TEST(loop_holds_outside_input),
        TEST(fcr_resets),
        TEST(stalled_peer_fills_the_fifo),
        TEST(com1_and_com3_share_a_line),
        TEST(wide_access_is_split),
        TEST(save_load_save),
        TEST(refuses_bad_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
