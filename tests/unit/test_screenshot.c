/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "core/loop.h"
#include "ui/display.h"
#include "ui/screenshot.h"

enum { WIDTH = 101, HEIGHT = 50 };

struct fixture {
    struct loop *loop;
    struct display *d;
    unsigned idles;
    char path[32];
};

/* Each pixel tells its place. */
static uint32_t pixel(int x, int y)
{
    return 0x100000u + (uint32_t)(y * WIDTH + x) * 0x1357u % 0xe00000u;
}

static bool refresh(void *dev, struct display *d, bool full)
{
    (void)dev;
    assert_true(display_resize(d, WIDTH, HEIGHT));
    for (int y = 0; full && y < HEIGHT; y++) {
        for (int x = 0; x < WIDTH; x++) {
            display_row(d, y)[x] = pixel(x, y);
        }
    }
    return full;
}

static void idle(void *dev)
{
    ((struct fixture *)dev)->idles++;
}

static const struct display_source source = {.refresh = refresh, .idle = idle};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int fd;

    f->loop = loop_create(true);
    f->d = display_create(f->loop);
    display_set_source(f->d, &source, f);
    strcpy(f->path, "/tmp/test_screenshot_XXXXXX");
    fd = mkstemp(f->path);
    assert_true(fd >= 0);
    close(fd);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    unlink(f->path);
    display_destroy(f->d);
    loop_destroy(f->loop);
    free(f);
    return 0;
}

static uint8_t *load(const char *path, size_t *len)
{
    struct stat st;
    FILE *file = fopen(path, "r");
    uint8_t *data;

    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &st), 0);
    data = malloc((size_t)st.st_size);
    *len = fread(data, 1, (size_t)st.st_size, file);
    assert_int_equal(*len, st.st_size);
    fclose(file);
    return data;
}

static void check_rgb(const uint8_t *rgb, int x, int y)
{
    assert_int_equal(rgb[0] << 16 | rgb[1] << 8 | rgb[2], pixel(x, y));
}

static void test_ppm(void **state)
{
    static const char head[] = "P6\n101 50\n255\n";
    struct fixture *f = *state;
    size_t len;
    uint8_t *data;

    assert_int_equal(screenshot_save(f->d, f->path, SCREENSHOT_PPM), 0);
    assert_true(f->idles > 0); /* nobody looks: nothing stays */
    data = load(f->path, &len);
    assert_int_equal(len, sizeof(head) - 1 + 3 * WIDTH * HEIGHT);
    assert_memory_equal(data, head, sizeof(head) - 1);
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        check_rgb(data + sizeof(head) - 1 + 3 * i, i % WIDTH, i / WIDTH);
    }
    free(data);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Reads a PNG as RFC 2083 says: signature, chunks with their sums, one zlib stream of rows. */
static void test_png(void **state)
{
    struct fixture *f = *state;
    size_t len, at = 8, packed = 0;
    uint8_t *data, *idat;
    uLongf got = HEIGHT * (1 + 3 * WIDTH);
    uint8_t *rows = malloc(got);
    bool ended = false;

    assert_int_equal(screenshot_save(f->d, f->path, SCREENSHOT_PNG), 0);
    data = load(f->path, &len);
    idat = malloc(len);
    assert_memory_equal(data, "\x89PNG\r\n\x1a\n", 8);
    while (at < len) {
        uint32_t n = get32(data + at);
        const uint8_t *type = data + at + 4;

        assert_true(!ended && n <= len - at - 12);
        assert_int_equal(get32(type + 4 + n), crc32(0, type, 4 + n));
        if (memcmp(type, "IHDR", 4) == 0) {
            assert_int_equal(at, 8);
            assert_int_equal(get32(type + 4), WIDTH);
            assert_int_equal(get32(type + 8), HEIGHT);
            assert_memory_equal(type + 12, "\x08\x02\0\0\0", 5);
        } else if (memcmp(type, "IDAT", 4) == 0) {
            memcpy(idat + packed, type + 4, n);
            packed += n;
        } else {
            assert_memory_equal(type, "IEND", 4);
            ended = true;
        }
        at += 12 + n;
    }
    assert_true(ended);
    assert_int_equal(uncompress(rows, &got, idat, packed), Z_OK);
    assert_int_equal(got, HEIGHT * (1 + 3 * WIDTH));
    for (int y = 0; y < HEIGHT; y++) {
        const uint8_t *row = rows + (size_t)y * (1 + 3 * WIDTH);

        assert_int_equal(row[0], 0);
        for (int x = 0; x < WIDTH; x++) {
            check_rgb(row + 1 + 3 * x, x, y);
        }
    }
    free(rows);
    free(idat);
    free(data);
}

/* The pointer that the guest shows is part of the picture. */
static void test_cursor(void **state)
{
    static const uint32_t shape[4] = {0xffabcdef, 0, 0, 0};
    struct fixture *f = *state;
    size_t len;
    uint8_t *data;

    display_cursor(f->d, shape, 2, 2, 0, 0);
    display_cursor_move(f->d, 7, 3, true);
    assert_int_equal(screenshot_save(f->d, f->path, SCREENSHOT_PPM), 0);
    data = load(f->path, &len);
    assert_memory_equal(data + 14 + 3 * (3 * WIDTH + 7), "\xab\xcd\xef", 3);
    check_rgb(data + 14 + 3 * (3 * WIDTH + 8), 8, 3);
    free(data);
}

static void test_errors(void **state)
{
    struct fixture *f = *state;
    char link[64];

    assert_int_equal(screenshot_save(f->d, "/nonexistent/x.png", SCREENSHOT_PNG), -ENOENT);
    assert_int_equal(screenshot_save(f->d, "/tmp", SCREENSHOT_PNG), -EISDIR);
    snprintf(link, sizeof(link), "%s.l", f->path);
    assert_int_equal(symlink(f->path, link), 0);
    assert_int_equal(screenshot_save(f->d, link, SCREENSHOT_PPM), -ELOOP);
    unlink(link);
    /* A full disk is an error, not half a picture that looks whole. */
    assert_true(screenshot_save(f->d, "/dev/full", SCREENSHOT_PPM) < 0);
    assert_true(screenshot_save(f->d, "/dev/full", SCREENSHOT_PNG) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ppm, setup, teardown),
        cmocka_unit_test_setup_teardown(test_png, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cursor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
