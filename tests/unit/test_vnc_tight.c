/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Tight encoder, by a client that unpacks it: every pixel is right, and cheap things are cheap. */
#include "tests/unit/vnc_help.h"

static const int32_t tight[] = {7, 0, -223, -224};
static const int32_t tight_jpeg[] = {7, 0, -223, -224, -26 /* quality 6 */};

static uint32_t number(uint32_t *seed)
{
    uint32_t x = *seed += 0x9e3779b9;

    x = (x ^ x >> 16) * 0x21f0aaad;
    x = (x ^ x >> 15) * 0x735a2d97;
    return x >> 8;
}

static void fill(struct fixture *f, struct rect r, unsigned colours, uint32_t seed)
{
    for (int y = r.y; y < r.y + r.h; y++) {
        for (int x = r.x; x < r.x + r.w; x++) {
            f->picture[y * f->width + x] = number(&seed) % colours * 0x050307 & 0xffffff;
        }
    }
}

/* Asks for what changed and reads until it has it. */
static void expect_picture(struct client *c)
{
    struct fixture *f = c->f;

    c->fills = c->bits = c->indexed = c->full = c->jpegs = 0;
    c->bytes = 0;
    assert_true(converge(c));
    assert_memory_equal(c->picture, f->picture, (size_t)f->width * (size_t)f->height * 4);
}

static void change(struct fixture *f, struct rect r, unsigned colours, uint32_t seed)
{
    fill(f, r, colours, seed);
    f->changed = r;
}

/* Each kind of content goes out as the rectangle that is made for it. */
static void test_kinds(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    const struct rect all = {0, 0, 640, 400};
    struct client c;

    fill(f, all, 1, 0);
    serve(f, &cfg);
    join_with(f, &c, tight, 4);
    request(&c, false);
    memset(c.picture, 0xaa, 640 * 400 * 4);
    expect_picture(&c);
    assert_int_equal(c.fills, 1); /* all of it */
    assert_int_equal(c.bits + c.indexed + c.full, 0);
    change(f, all, 2, 1);
    expect_picture(&c);
    assert_true(c.bits > 0 && c.fills + c.indexed + c.full == 0);
    assert_in_range(c.bytes, 32000, 33000); /* noise: a bit for each pixel */
    change(f, all, 256, 2);
    expect_picture(&c);
    assert_true(c.indexed > 0 && c.fills + c.bits + c.full == 0);
    assert_in_range(c.bytes, 256000, 262000);
    change(f, all, 0xffffff, 3);
    expect_picture(&c);
    assert_true(c.full > 0 && c.fills + c.bits + c.indexed == 0);
    assert_in_range(c.bytes, 768000, 770000);
    hang_up(&c);
}

/* Text, a picture, text: the text is sent as bits and not as the picture is. */
static void test_strips(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    fill(f, (struct rect){0, 0, 640, 120}, 2, 1);
    fill(f, (struct rect){0, 120, 640, 60}, 0xffffff, 2);
    fill(f, (struct rect){0, 180, 640, 60}, 2, 3);
    fill(f, (struct rect){0, 240, 640, 60}, 100, 4);
    fill(f, (struct rect){0, 300, 640, 100}, 1, 5);
    serve(f, &cfg);
    join_with(f, &c, tight, 4);
    request(&c, false);
    expect_picture(&c);
    assert_true(c.fills == 1 && c.bits == 2 && c.indexed == 1 && c.full >= 2);
    assert_in_range(c.bytes, 9600 + 115200 + 4800 + 31000, 9600 + 115200 + 4800 + 36000);
    hang_up(&c);
}

/* Rectangles of all sizes and places, of all kinds, on pictures of several sizes. */
static void test_rectangles(void **state)
{
    static const int sizes[][2] = {{640, 400}, {1, 1}, {1023, 7}, {5, 1000}, {1920, 1200}};
    static const unsigned colours[] = {1, 2, 3, 16, 17, 255, 256, 257, 300, 0xffffff};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;
    uint32_t seed = 7;

    serve(f, &cfg);
    join_with(f, &c, tight, 4);
    request(&c, false);
    for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        f->width = sizes[s][0];
        f->height = sizes[s][1];
        paint(f, s);
        expect_picture(&c);
        for (unsigned i = 0; i < 40; i++) {
            struct rect r;

            r.w = 1 + (int)number(&seed) % (i % 4 == 0 ? 20 : f->width);
            r.h = 1 + (int)number(&seed) % (i % 3 == 0 ? 20 : f->height);
            r.x = (int)number(&seed) % f->width;
            r.y = (int)number(&seed) % f->height;
            if (rect_clip(&r, f->width, f->height)) {
                change(f, r, colours[i % 10], i);
                expect_picture(&c);
            }
        }
    }
    hang_up(&c);
}

/* Wider than a Tight rectangle may be. */
static void test_wide(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    f->width = 4096;
    f->height = 300;
    paint(f, 1);
    serve(f, &cfg);
    join_with(f, &c, tight, 4);
    request(&c, false);
    expect_picture(&c);
    hang_up(&c);
}

/* Who asks for JPEG gets it where there are many colours, and still exact pixels elsewhere. */
static void test_jpeg(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    fill(f, (struct rect){0, 0, 640, 200}, 2, 1);
    for (int y = 200; y < 400; y++) {
        for (int x = 0; x < 640; x++) {
            f->picture[y * 640 + x] = (uint32_t)(x / 3 << 16 | y / 2 << 8 | ((x * y) >> 9 & 0xff));
        }
    }
    serve(f, &cfg);
    join_with(f, &c, tight_jpeg, 5);
    request(&c, false);
    assert_true(read_update(&c));
    assert_true(c.jpegs > 0 && c.bits > 0 && c.full == 0);
    assert_memory_equal(c.picture, f->picture, 640 * 198 * 4); /* rows are looked at in sixes */
    set_encodings(&c, tight, 4); /* on the same zlib streams */
    request(&c, false);
    expect_picture(&c);
    assert_true(c.full > 0 && c.jpegs == 0);
    hang_up(&c);
}

/* A client that does not read: the update waits in the queue, whole. */
static void test_slow_reader(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;
    int small = 65536;

    f->width = 1024;
    f->height = 1000;
    fill(f, (struct rect){0, 0, 1024, 1000}, 0xffffff, 1);
    serve(f, &cfg);
    join_with(f, &c, tight, 4);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    request(&c, false);
    for (uint64_t end = now_ms() + 300; now_ms() < end;) {
        turn(f);
    }
    expect_picture(&c);
    hang_up(&c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_kinds), T(test_strips), T(test_rectangles), T(test_wide), T(test_jpeg), T(test_slow_reader),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
