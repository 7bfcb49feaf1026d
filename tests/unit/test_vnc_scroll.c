/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pictures that scroll: found, told by CopyRect to those who know it, and every pixel right whatever else changes. */
#include "tests/unit/vnc_help.h"

enum { W = 640, H = 400 };

static const int32_t tight_copy[] = {7, 1, 0, -223, -224};
static const int32_t raw_copy[] = {0, 1, -223};
static const int32_t raw_only[] = {0, -223};

static uint32_t number(uint32_t *seed)
{
    uint32_t x = *seed += 0x9e3779b9;

    x = (x ^ x >> 16) * 0x21f0aaad;
    x = (x ^ x >> 15) * 0x735a2d97;
    return x >> 8;
}

static uint32_t noise_seed = 1;

static void noise(uint32_t *picture, struct rect r, int width)
{
    for (int y = r.y; y < r.y + r.h; y++) {
        for (int x = r.x; x < r.x + r.w; x++) {
            picture[y * width + x] = number(&noise_seed) % 3 == 0 ? number(&noise_seed) & 0xffffff : 0;
        }
    }
}

/* Moves the rows of r up (dy > 0) or down, with new ones at the end. */
static void scroll(struct fixture *f, struct rect r, int dy)
{
    int n = dy > 0 ? dy : -dy;
    size_t len = (size_t)r.w * 4;

    for (int i = 0; i < r.h - n; i++) {
        int to = dy > 0 ? r.y + i : r.y + r.h - 1 - i;

        memmove(&f->picture[to * f->width + r.x], &f->picture[(to + dy) * f->width + r.x], len);
    }
    noise(f->picture, (struct rect){r.x, dy > 0 ? r.y + r.h - n : r.y, r.w, n}, f->width);
    f->changed = f->changed.w != 0 ? rect_union(f->changed, r) : r; /* maybe nobody has looked since */
}

static void test_find(void **state)
{
    static const struct {
        struct rect area; /* in which it is looked */
        int dy;           /* by which all of it moves; 0: all is new */
        bool found;
    } cases[] = {
        {{0, 0, W, H}, 16, true},   {{0, 0, W, H}, -16, true}, {{0, 0, W, H}, 1, true},    {{0, 0, W, H}, 150, true},
        {{40, 30, 300, 200}, 7, true}, {{1, 5, 639, 390}, -90, true}, {{0, 0, W, H}, 0, false}, {{0, 0, 3, H}, 5, false},
        {{0, 0, W, 20}, 3, false},  {{0, 0, W, 34}, 3, false}, {{0, 0, W, 40}, 3, true},
    };
    struct fixture *f = *state;
    uint32_t *was = malloc((W + 13) * H * 4);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rect area = cases[i].area;
        struct vnc_scroll s;
        int dy = cases[i].dy;

        noise(f->picture, (struct rect){0, 0, W, H}, W);
        for (int y = 0; y < H; y++) {
            memcpy(was + y * (W + 13), f->picture + y * W, W * 4);
        }
        if (dy != 0) {
            scroll(f, area, dy);
        } else {
            noise(f->picture, area, W);
        }
        assert_int_equal(vnc_scroll_find(f->picture, W, was, W + 13, area, &s), cases[i].found);
        if (cases[i].found) {
            assert_int_equal(s.dy, dy);
            assert_int_equal(s.to.x, area.x);
            assert_int_equal(s.to.w, area.w);
            assert_int_equal(s.to.y, dy > 0 ? area.y : area.y - dy);
            assert_int_equal(s.to.h, area.h - (dy > 0 ? dy : -dy));
        }
    }
    /* One colour, and the same picture again, move nowhere. */
    for (int k = 0; k < 2; k++) {
        struct vnc_scroll s;

        memset(f->picture, k, W * H * 4);
        memset(was, k, (W + 13) * H * 4);
        assert_false(vnc_scroll_find(f->picture, W, was, W + 13, (struct rect){0, 0, W, H}, &s));
    }
    free(was);
}

/* A viewer that scrolls along gets few bytes. */
static void test_copied(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    const int32_t *const lists[] = {tight_copy, raw_copy};

    serve(f, &cfg);
    for (int k = 0; k < 2; k++) {
        struct client c;

        noise(f->picture, (struct rect){0, 0, W, H}, W);
        f->changed = (struct rect){0, 0, W, H};
        join_with(f, &c, lists[k], k == 0 ? 5 : 3);
        request(&c, false);
        assert_true(converge(&c));
        c.bytes = 0;
        for (unsigned i = 1; i <= 10; i++) {
            request(&c, true);
            for (uint64_t end = now_ms() + 40; now_ms() < end;) {
                turn(f); /* the request is there before the change */
            }
            scroll(f, (struct rect){0, 0, W, H}, i % 2 ? 16 : -16);
            assert_true(read_update(&c));
            assert_memory_equal(c.picture, f->picture, W * H * 4);
            assert_int_equal(c.copied, i * W * (H - 16));
        }
        assert_in_range(c.bytes, 10 * 1000, 10 * (16 * W * 4 + 100));
        hang_up(&c);
    }
}

static void draw_cursor(struct fixture *f, int i)
{
    uint32_t shape[16 * 16];

    for (int k = 0; k < 16 * 16; k++) {
        shape[k] = 0xff00ff00 + (uint32_t)k;
    }
    if (i == 0) {
        display_cursor(f->d, shape, 16, 16, 0, 0);
    }
    display_cursor_move(f->d, i * 37 % W - 8, i * 53 % H - 8, i % 7 != 6);
}

/* The guest's picture with the cursor, as the viewers are to see it. */
static void with_cursor(struct fixture *f, uint32_t *to)
{
    memcpy(to, f->picture, W * H * 4);
    for (int y = 0; y < H; y++) {
        display_cursor_blend(display_cursor_get(f->d), to + y * W, y, W);
    }
}

/* Updates until the client has that picture; swapped: with red and blue in each other's place. */
static bool reaches(struct client *c, const uint32_t *picture, bool swapped)
{
    static uint32_t other[W * H];

    for (int i = 0; i < W * H && swapped; i++) {
        other[i] = __builtin_bswap32(picture[i]) >> 8;
    }
    picture = swapped ? other : picture;
    for (uint64_t end = now_ms() + 4000; now_ms() < end;) {
        if (memcmp(c->picture, picture, W * H * 4) == 0) {
            return true;
        }
        request(c, true);
        if (!read_update(c)) {
            return false;
        }
    }
    return false;
}

/* Viewers of all kinds, some of which miss pictures, with a cursor that moves or stays, while parts of the picture scroll and others
 * change. */
static void test_viewers(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    static const struct {
        const int32_t *list;
        unsigned n;
        bool swapped; /* pixels that the library has to make */
    } kinds[] = {{tight_copy, 5, false}, {raw_copy, 3, false}, {raw_only, 2, false}, {raw_copy, 3, true}, {tight_copy, 5, false}};
    const uint8_t swap[20] = {0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16};
    enum { N = sizeof(kinds) / sizeof(kinds[0]) };
    struct client c[N];
    uint32_t *want = malloc(W * H * 4);
    uint32_t seed = 5;

    noise(f->picture, (struct rect){0, 0, W, H}, W);
    serve(f, &cfg);
    for (int i = 0; i < N; i++) {
        join_with(f, &c[i], kinds[i].list, kinds[i].n);
        if (kinds[i].swapped) {
            put(&c[i], swap, sizeof(swap));
        }
        request(&c[i], false);
        assert_true(reaches(&c[i], f->picture, kinds[i].swapped));
    }
    for (int round = 0; round < 40; round++) {
        unsigned missing = number(&seed) % 8; /* bit i: viewer i asks for nothing this time */
        int steps = 1 + (int)(number(&seed) % 3);

        for (int i = 0; i < N; i++) {
            if (!(missing >> i & 1)) {
                request(&c[i], true);
            }
        }
        for (int s = 0; s < steps; s++) {
            struct rect r = {(int)(number(&seed) % 100), (int)(number(&seed) % 100), 0, 0};
            int dy = 1 + (int)(number(&seed) % 40);

            for (uint64_t end = now_ms() + 35; now_ms() < end;) {
                turn(f);
            }
            r.w = W - r.x - (int)(number(&seed) % 100);
            r.h = H - r.y - (int)(number(&seed) % 100);
            scroll(f, r, number(&seed) % 2 ? dy : -dy);
            if (number(&seed) % 2) {
                draw_cursor(f, round);
            }
            if (number(&seed) % 3 == 0) { /* something within it changes, too */
                noise(f->picture, (struct rect){r.x + r.w / 3, r.y + r.h / 2, 20, 20}, W);
            }
        }
        with_cursor(f, want);
        for (int i = 0; i < N; i++) {
            if (!(missing >> i & 1)) {
                assert_true(read_update(&c[i]));
                assert_true(reaches(&c[i], want, kinds[i].swapped));
            }
        }
    }
    for (int i = 0; i < N; i++) {
        assert_true(reaches(&c[i], want, kinds[i].swapped));
        assert_true((c[i].copied > 0) == (i != 2 && i != 3));
        hang_up(&c[i]);
    }
    free(want);
}

/* Until the display has taken the change. */
static void drawn(struct fixture *f)
{
    for (uint64_t end = now_ms() + 4000; f->changed.w != 0 && now_ms() < end;) {
        turn(f);
    }
    assert_int_equal(f->changed.w, 0);
}

/* Reads the next update; who answers is given turns until one is there. */
static bool answered(struct fixture *f, struct client *c)
{
    for (uint64_t end = now_ms() + TIMEOUT_MS; now_ms() < end;) {
        uint8_t first;

        if (recv(c->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
            return read_update(c);
        }
        (void)vnc_ui_turn(f->v->ui, 0);
        turn(f);
    }
    return false;
}

/* A movement found while another message goes out is sent after it, unless the picture changes once more. */
static void test_put_off(void **state)
{
    static const uint8_t hello[] = "RFB 003.008\n\1\1\2\0\0\4\0\0\0\0\0\0\0\1\xff\xff\xfe\xfb\xff\xff\xff\x21";
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c = {.f = f, .width = 128, .height = 150, .leds = -1};
    struct vnc_client *served;
    uint8_t skip[12 + 2 + 4 + 24 + 10];
    int pair[2];

    f->width = c.width;
    f->height = c.height;
    noise(f->picture, (struct rect){0, 0, 128, 150}, 128);
    c.picture = calloc(128 * 150, 4);
    f->v = vnc_new(f->loop, f->d, f->in, &cfg);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    vnc_ui_accept(f->v->ui, pair[0]);
    c.fd = pair[1];
    put(&c, hello, sizeof(hello) - 1);
    for (int i = 0; i < 6; i++) {
        assert_true(vnc_ui_turn(f->v->ui, 0));
        turn(f);
    }
    served = f->v->ui->clients[0];
    assert_true(get(&c, skip, sizeof(skip)));
    for (int again = 0; again < 2; again++) {
        request(&c, false);
        assert_true(vnc_ui_turn(f->v->ui, 0));
        do { /* the light, at first */
            assert_true(answered(f, &c));
        } while (memcmp(c.picture, f->picture, 128 * 150 * 4) != 0);
        request(&c, true);
        assert_true(vnc_ui_turn(f->v->ui, 0));
        scroll(f, (struct rect){0, 0, 128, 150}, 16);
        drawn(f);
        f->v->leds ^= 4;
        assert_true(vnc_ui_turn(f->v->ui, 0));
        assert_int_equal(served->copy.to.h, 134);
        assert_true(answered(f, &c)); /* the light */
        if (again) {
            f->v->ui->scroll_skip = 1;
            noise(f->picture, (struct rect){3, 3, 5, 5}, 128);
            f->changed = (struct rect){3, 3, 5, 5};
            drawn(f);
        }
        assert_true(vnc_ui_turn(f->v->ui, 0));
        assert_int_equal(served->copy.to.h, 0);
        c.copied = 0;
        assert_true(answered(f, &c));
        assert_int_equal(c.copied, again ? 0 : 128 * 134);
        assert_memory_equal(c.picture, f->picture, 128 * 150 * 4);
    }
    hang_up(&c);
}

/* Where nothing scrolls it is looked for less and less often. */
static void test_looks_are_rationed(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    unsigned looks = 0;
    struct vnc_ui ui = {.v = NULL};
    struct vnc_client c = {.ui = &ui, .stage = VNC_NORMAL};
    struct vnc *v;
    struct client peer;

    serve(f, &cfg);
    v = f->v;
    join_with(f, &peer, raw_copy, 3);
    request(&peer, false);
    assert_true(converge(&peer));
    request(&peer, true);
    for (uint64_t end = now_ms() + 50; now_ms() < end;) {
        turn(f);
    }
    /* With a client that is ready, of this server's library. */
    ui.pixels = f->picture;
    c.rfb = v->ui->clients[0]->rfb;
    ui.clients[0] = &c;
    for (int i = 0; i < 160; i++) {
        if (vnc_scroll_wanted(&ui)) {
            vnc_scroll_found(&ui, false);
            looks++;
        }
    }
    assert_in_range(looks, 10, 24);
    while (!vnc_scroll_wanted(&ui)) {
    }
    vnc_scroll_found(&ui, true);
    assert_true(vnc_scroll_wanted(&ui));
    hang_up(&peer);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_find), T(test_copied), T(test_viewers), T(test_put_off), T(test_looks_are_rationed)};

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
