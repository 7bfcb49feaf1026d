/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The compressor for pictures: whatever it makes, zlib unpacks to what went in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "ui/deflate.h"

enum { MAX = 200000, SLACK = 8, GUARD = 0xa5 };

struct fixture {
    struct deflate d;
    uint8_t in[MAX + SLACK], out[2 * MAX], back[MAX + 1];
    uint32_t seed;
};

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    return *state == NULL;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static uint32_t number(struct fixture *f, uint32_t below)
{
    f->seed = f->seed * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)f->seed * below >> 32);
}

/* Packs and unpacks in[0..n): the packed size. Nothing may depend on what was packed before, nor be missing without what would come
 * after. */
static size_t round_trip(struct fixture *f, size_t n, unsigned unit, size_t row)
{
    size_t bound = deflate_bound(n), len;
    z_stream z = {0};

    memset(f->out + bound, GUARD, 16);
    len = deflate_pixels(&f->d, f->in, n, unit, row, f->out);
    assert_in_range(len, 1, bound);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(f->out[bound + (size_t)i], GUARD);
    }
    assert_int_equal(inflateInit2(&z, -15), Z_OK);
    z.next_in = f->out;
    z.avail_in = (uInt)len;
    z.next_out = f->back;
    z.avail_out = (uInt)n + 1;
    assert_in_range(inflate(&z, Z_SYNC_FLUSH), Z_OK, Z_OK); /* not Z_STREAM_END */
    assert_int_equal(z.avail_in, 0);
    assert_int_equal(z.total_out, n);
    assert_memory_equal(f->back, f->in, n);
    /* At a byte boundary: another piece can follow. */
    z.next_in = f->out;
    z.avail_in = (uInt)len;
    z.next_out = f->back;
    z.avail_out = (uInt)n + 1;
    assert_int_equal(inflate(&z, Z_SYNC_FLUSH), Z_OK);
    assert_memory_equal(f->back, f->in, n);
    inflateEnd(&z);
    return len;
}

static void test_sizes(void **state)
{
    static const size_t sizes[] = {1, 2, 3, 4, 7, 8, 47, 48, 49, 50, 257, 258, 259, 32765, 32766, 32767, 32768, 32769, 65532, 65535, 65536, MAX};
    struct fixture *f = *state;

    for (unsigned k = 0; k < 4; k++) {
        for (size_t i = 0; i < MAX; i++) {
            f->in[i] = (uint8_t)(k == 0 ? 0 : k == 1 ? number(f, 256) : k == 2 ? i / 3 : number(f, 3));
        }
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            round_trip(f, sizes[i], 1, 90);
            round_trip(f, sizes[i] < 3 ? 3 : sizes[i] - sizes[i] % 3, 3, 300);
        }
    }
}

/* Areas of one colour cost next to nothing; noise costs no more than itself. */
static void test_extremes(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < MAX; i++) {
        f->in[i] = (uint8_t)(0x123456u >> (8 * (i % 3)));
    }
    assert_in_range(round_trip(f, 3 * 65536, 3, 3 * 1024), 1, 900);
    for (size_t i = 0; i < MAX; i++) {
        f->in[i] = (uint8_t)number(f, 256);
    }
    assert_in_range(round_trip(f, MAX, 1, 1000), MAX, MAX + 100);
}

/* Rows that repeat the one above, at the greatest distances, too. */
static void test_rows(void **state)
{
    struct fixture *f = *state;
    static const size_t rows[] = {3, 6, 30, 6144, 32766};

    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        for (size_t i = 0; i < MAX; i++) {
            f->in[i] = i < rows[r] ? (uint8_t)number(f, 256) : f->in[i - rows[r]];
        }
        assert_in_range(round_trip(f, 196608 - 196608 % rows[r], 3, rows[r]), 1, rows[r] + 4000);
    }
}

/* Noise in places, patterns in others, and as many symbols as there are, with Fibonacci's numbers as their frequencies: the code would
 * be longer than the format allows. */
static void test_long_codes(void **state)
{
    struct fixture *f = *state;
    size_t n = 0, a = 1, b = 1;

    for (unsigned sym = 0; n + a < 32000; sym++) {
        for (size_t i = 0; i < a; i++) {
            f->in[n++] = (uint8_t)(sym * 11);
        }
        b += a;
        a = b - a;
    }
    for (size_t i = n; i-- > 1;) { /* in an order without repetitions */
        size_t k = number(f, (uint32_t)i + 1);
        uint8_t t = f->in[i];

        f->in[i] = f->in[k];
        f->in[k] = t;
    }
    round_trip(f, n, 1, 32767);
}

static void test_random_programs(void **state)
{
    struct fixture *f = *state;

    for (unsigned round = 0; round < 3000; round++) {
        unsigned unit = number(f, 2) ? 3 : 1;
        size_t width = 1 + number(f, 600);
        size_t n = width * unit * (1 + number(f, 40));
        unsigned noise = number(f, 5), colours = 1 + number(f, 300);

        for (size_t i = 0; i < n; i += unit) {
            uint32_t px = number(f, colours) * 0x10305;
            size_t from = number(f, 3) ? unit : width * unit;

            for (unsigned k = 0; k < unit; k++) {
                f->in[i + k] = number(f, 6) > noise && i >= from ? f->in[i + k - from] : (uint8_t)(px >> (8 * k));
            }
        }
        round_trip(f, n, unit, width * unit);
    }
}

/* The hash table's positions run over after some gigabytes. */
static void test_positions_run_over(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < 3000; i++) {
        f->in[i] = (uint8_t)number(f, 7);
    }
    f->d.base = UINT32_MAX / 2 - 4000;
    for (int i = 0; i < 10; i++) {
        round_trip(f, 3000, 1, 100);
    }
    assert_in_range(f->d.base, 1, 30100);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_sizes), T(test_extremes), T(test_rows), T(test_long_codes), T(test_random_programs), T(test_positions_run_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
