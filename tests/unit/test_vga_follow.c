/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random programs: the picture that follows their changes is the picture that a look at everything gives. The clock
 * stands still between the two, and no guest store goes around us: a change that is not noticed stays unseen.
 */
#include "hw/cirrus.h"
#include "tests/unit/vga_help.h"

enum { LFB = 0xe0000000, ROUNDS = 160 };

struct rng {
    uint64_t s;
};

static uint32_t below(struct rng *r, uint32_t n)
{
    r->s = r->s * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((r->s >> 33) % n);
}

static void random_register(struct harness *h, struct rng *r)
{
    static const uint8_t crtc[] = {0x09, 0x0c, 0x0d, 0x13, 0x17, 0x18, 0x08};
    uint8_t v = (uint8_t)below(r, 256);

    switch (below(r, 12)) {
    case 0:
        crtc_w(h, crtc[below(r, sizeof(crtc))], v);
        crtc_w(h, CRTC_CURSOR_START, v | 0x20); /* the cursor and blinking would make time count */
        break;
    case 1:
        attr_w(h, (uint8_t)below(r, ATTR_COUNT), v & 0xf7);
        break;
    case 2:
        dac_w(h, v, (uint8_t)below(r, 64), (uint8_t)below(r, 64), (uint8_t)below(r, 64));
        break;
    case 3:
        harness_out(h, 0x3c6, 1, below(r, 4) == 0 ? v : 0xff);
        break;
    case 4:
        seq_w(h, (uint8_t)(1 + below(r, 4)), v);
        break;
    case 5:
        seq_w(h, 2, below(r, 2) ? 0x0f : v);
        break;
    default:
        gfx_w(h, (uint8_t)below(r, 9), v);
        break;
    }
}

static void random_access(struct harness *h, struct rng *r)
{
    uint32_t at = below(r, 3) == 0 ? below(r, 0x1fff0) : below(r, 4) * 0x8000 + below(r, 0x1000);
    unsigned size = 1u << below(r, 4);

    if (below(r, 3) == 0) {
        harness_read(h, 0xa0000 + at, size);
    }
    harness_write(h, 0xa0000 + at, size, (uint64_t)below(r, 0x10000) * 0x1001001001u);
}

static void random_mode(struct harness *h, struct rng *r)
{
    static const struct vga_mode_regs *const modes[] = {&mode_03, &mode_04, &mode_12, &mode_13};

    set_mode(h, modes[below(r, 4)]);
    crtc_w(h, 0x11, 0);
    crtc_w(h, CRTC_CURSOR_START, 0x20);
    attr_w(h, ATTR_MODE, 1);
}

/* A packed mode of the Cirrus, with the hardware cursor here and there. */
static void cirrus_round(struct harness *h, struct rng *r, uint32_t step)
{
    static const uint8_t sr7[] = {0x01, 0x07, 0x05, 0x09};

    if (step % 16 == 0) {
        set_mode(h, &mode_12);
        seq_w(h, 4, 0x0e);
        seq_w(h, 7, sr7[step / 16 % 4]);
        crtc_w(h, 0x13, (uint8_t)(80 << (step / 16 & 1)));
        crtc_w(h, 0x1b, 0x22);
        gfx_w(h, 5, 0x40);
        gfx_w(h, 0x0b, 0);
    }
    switch (below(r, 6)) {
    case 0:
        harness_out(h, 0x3c4, 2, 0x10 | below(r, 8) << 5 | below(r, 80) << 8);
        harness_out(h, 0x3c4, 2, 0x11 | below(r, 8) << 5 | below(r, 62) << 8);
        break;
    case 1:
        seq_w(h, 0x12, (uint8_t)(below(r, 2) | below(r, 2) << 2));
        seq_w(h, 0x13, (uint8_t)below(r, 64));
        break;
    case 2:
        gfx_w(h, 9, (uint8_t)below(r, 0x40));
        random_access(h, r);
        break;
    case 3: /* the cursor's own memory */
        gfx_w(h, 9, 0xff);
        gfx_w(h, 0x0b, 0x20);
        harness_write(h, 0xa0000 + below(r, 0x4000), 4, (uint64_t)below(r, 0x10000) * 0x10001);
        gfx_w(h, 0x0b, 0);
        break;
    case 4:
        crtc_w(h, 0x0d, (uint8_t)below(r, 256));
        crtc_w(h, 0x0c, (uint8_t)below(r, 256));
        break;
    default: {
        const uint8_t regs[][2] = {{0x20, (uint8_t)below(r, 255)},
                                   {0x21, 0},
                                   {0x22, (uint8_t)below(r, 30)},
                                   {0x23, 0},
                                   {0x24, 0x80},
                                   {0x25, 2},
                                   {0x26, 0x80},
                                   {0x27, 2},
                                   {0x28, (uint8_t)below(r, 256)},
                                   {0x29, (uint8_t)below(r, 256)},
                                   {0x2a, 0},
                                   {0x2c, (uint8_t)below(r, 256)},
                                   {0x2d, (uint8_t)below(r, 256)},
                                   {0x2e, 1},
                                   {0x2f, 0},
                                   {0x30, below(r, 2) ? 0xc0 : 0},
                                   {0x32, 0x59},
                                   {0x33, 4},
                                   {0x01, (uint8_t)below(r, 256)},
                                   {0x31, 2}};

        for (unsigned i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
            gfx_w(h, regs[i][0], regs[i][1]);
        }
        break;
    }
    }
}

/* The picture as it is now, copied. The caller frees it. */
static uint32_t *copy_picture(struct screen *s, int *w, int *h)
{
    int stride;
    const uint32_t *px = display_pixels(s->d, w, h, &stride);
    uint32_t *copy = malloc((size_t)*w * (size_t)*h * sizeof(*copy));

    assert_non_null(copy);
    for (int y = 0; y < *h; y++) {
        memcpy(copy + (size_t)y * (size_t)*w, px + (size_t)y * (size_t)stride / 4,
               (size_t)*w * sizeof(*copy));
    }
    return copy;
}

static void check_picture(struct screen *s, const char *what, uint32_t step)
{
    int w, h, full_w, full_h;
    uint32_t *followed;
    uint32_t *full;
    size_t bad = 0;
    size_t n;

    screen_look(s);
    followed = copy_picture(s, &w, &h);
    display_refresh_now(s->d);
    full = copy_picture(s, &full_w, &full_h);
    assert_int_equal(w, full_w);
    assert_int_equal(h, full_h);
    n = (size_t)w * (size_t)h;
    while (bad < n && followed[bad] == full[bad]) {
        bad++;
    }
    if (bad < n) {
        fail_msg("%s, step %u: pixel %zu,%zu is %06x, should be %06x", what, step, bad % (size_t)w,
                 bad / (size_t)w, followed[bad], full[bad]);
    }
    free(followed);
    free(full);
}

static void follow_legacy(create_fn *create, const char *what, uint64_t seed)
{
    struct screen *s = screen_create(create, 4 << 20);
    struct rng r = {seed};

    s->h->plat.vram_untouched = true;
    for (uint32_t step = 0; step < ROUNDS; step++) {
        if (step % 32 == 0) {
            random_mode(s->h, &r);
        }
        for (uint32_t n = below(&r, 4); n > 0; n--) {
            random_register(s->h, &r);
        }
        for (uint32_t n = below(&r, 6); n > 0; n--) {
            random_access(s->h, &r);
        }
        check_picture(s, what, step);
    }
    screen_destroy(s);
}

static void test_legacy_modes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        follow_legacy(stdvga_create, "stdvga", seed);
        follow_legacy(cirrus_create, "cirrus", seed);
    }
}

static void test_cirrus_modes(void **state)
{
    struct screen *s = screen_create(cirrus_create, 4 << 20);
    struct rng r = {4};

    (void)state;
    map_bar(s->h, 0, LFB);
    s->h->plat.vram_untouched = true;
    for (uint32_t step = 0; step < ROUNDS; step++) {
        cirrus_round(s->h, &r, step);
        check_picture(s, "cirrus", step);
    }
    screen_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_legacy_modes),
        cmocka_unit_test(test_cirrus_modes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
