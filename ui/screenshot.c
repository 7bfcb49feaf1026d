/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ui/screenshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "ui/display.h"

/* PNG: fast rather than small; a picture is mostly flat. */
enum { PNG_LEVEL = 1, PNG_CHUNK_BYTES = 32 << 10 };

struct png {
    FILE *f;
    z_stream z;
    bool failed;
    uint8_t out[PNG_CHUNK_BYTES];
};

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (24 - 8 * i));
    }
}

/* RFC 2083, 3.2. */
static void png_chunk(struct png *p, const char type[4], const uint8_t *data, uint32_t len)
{
    uint8_t head[8], tail[4];
    uLong crc = crc32(0, (const uint8_t *)type, 4);

    put32(head, len);
    memcpy(head + 4, type, 4);
    put32(tail, (uint32_t)(len > 0 ? crc32(crc, data, len) : crc));
    p->failed |= fwrite(head, 1, 8, p->f) != 8 || fwrite(data, 1, len, p->f) != len ||
                 fwrite(tail, 1, 4, p->f) != 4;
}

static void png_deflate(struct png *p, uint8_t *data, uint32_t len, int flush)
{
    p->z.next_in = data;
    p->z.avail_in = len;
    do {
        p->z.next_out = p->out;
        p->z.avail_out = sizeof(p->out);
        (void)deflate(&p->z, flush);
        if (p->z.avail_out < sizeof(p->out)) {
            png_chunk(p, "IDAT", p->out, (uint32_t)sizeof(p->out) - p->z.avail_out);
        }
    } while (p->z.avail_out == 0);
}

/* Row y as bytes R, G, B with the cursor drawn in. */
static void rgb_row(struct display *d, int y, int width, uint8_t *rgb)
{
    uint32_t row[DISPLAY_MAX_WIDTH];

    memcpy(row, display_row(d, y), (size_t)width * sizeof(row[0]));
    display_cursor_blend(display_cursor_get(d), row, y, width);
    for (int x = 0; x < width; x++) {
        rgb[3 * x] = (uint8_t)(row[x] >> 16);
        rgb[3 * x + 1] = (uint8_t)(row[x] >> 8);
        rgb[3 * x + 2] = (uint8_t)row[x];
    }
}

static int write_ppm(struct display *d, FILE *f, int width, int height)
{
    uint8_t rgb[3 * DISPLAY_MAX_WIDTH];

    fprintf(f, "P6\n%d %d\n255\n", width, height);
    for (int y = 0; y < height; y++) {
        rgb_row(d, y, width, rgb);
        if (fwrite(rgb, 3, (size_t)width, f) != (size_t)width) {
            return -EIO;
        }
    }
    return 0;
}

static int write_png(struct display *d, FILE *f, int width, int height)
{
    static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    uint8_t row[1 + 3 * DISPLAY_MAX_WIDTH] = {0}; /* byte 0: no filter */
    uint8_t header[13] = {[8] = 8, [9] = 2};      /* 8 bits, RGB */
    struct png p = {.f = f};

    if (deflateInit(&p.z, PNG_LEVEL) != Z_OK) {
        return -ENOMEM;
    }
    p.failed = fwrite(signature, 1, sizeof(signature), f) != sizeof(signature);
    put32(header, (uint32_t)width);
    put32(header + 4, (uint32_t)height);
    png_chunk(&p, "IHDR", header, sizeof(header));
    for (int y = 0; y < height && !p.failed; y++) {
        rgb_row(d, y, width, row + 1);
        png_deflate(&p, row, 1 + 3 * (uint32_t)width, y + 1 < height ? Z_NO_FLUSH : Z_FINISH);
    }
    png_chunk(&p, "IEND", header, 0);
    deflateEnd(&p.z);
    return p.failed ? -EIO : 0;
}

int screenshot_write(struct display *d, FILE *f, enum screenshot_format format)
{
    int rc = -ENOMEM;

    display_refresh_now(d);
    int width = display_width(d), height = display_height(d);
    if (width > 0 && height > 0 && display_row(d, 0) != NULL) {
        rc = format == SCREENSHOT_PNG ? write_png(d, f, width, height)
                                      : write_ppm(d, f, width, height);
    }
    display_release(d);
    return rc;
}

int screenshot_save(struct display *d, const char *path, enum screenshot_format format)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");

    if (f == NULL) {
        int rc = -errno;

        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    int rc = screenshot_write(d, f, format);
    if (fclose(f) != 0 && rc == 0) {
        rc = -errno;
    }
    return rc;
}
