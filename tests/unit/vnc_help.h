/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* For tests of the VNC server: a guest with a picture, a keyboard and a pointer, and a small RFB client on a real socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "ui/input.h"
#include "ui/vnc_int.h"

enum { MAX_W = 1920, MAX_H = 1200, EVENTS = 600, TEST_DISPLAY = 41000, TIMEOUT_MS = 8000 };

struct fixture {
    struct loop *loop;
    struct display *d;
    struct input *in;
    struct vnc *v;
    int width, height; /* of the guest's picture */
    uint32_t *picture; /* MAX_W * MAX_H, packed by width */
    struct rect changed;
    unsigned refreshes;
    struct {
        bool key, down, relative;
        uint8_t code;
        int x, y, dz;
        unsigned buttons;
    } ev[EVENTS];
    unsigned n_ev;
};

/* ---- the guest's side ---- */

static inline bool source_refresh(void *dev, struct display *d, bool full)
{
    struct fixture *f = dev;
    struct rect r = full ? (struct rect){0, 0, f->width, f->height} : f->changed;

    f->refreshes++;
    assert_true(display_resize(d, f->width, f->height));
    f->changed.w = f->changed.h = 0;
    if (r.w == 0) {
        return false;
    }
    for (int y = r.y; y < r.y + r.h; y++) {
        memcpy(display_row(d, y) + r.x, &f->picture[y * f->width + r.x], (size_t)r.w * 4);
    }
    display_dirty(d, r.x, r.y, r.w, r.h);
    return true;
}

static inline void source_idle(void *dev)
{
    (void)dev;
}

static const struct display_source source_ops = {.refresh = source_refresh, .idle = source_idle};

static inline void on_key(void *dev, uint8_t key, bool down)
{
    struct fixture *f = dev;

    if (f->n_ev < EVENTS) {
        f->ev[f->n_ev].key = true;
        f->ev[f->n_ev].code = key;
        f->ev[f->n_ev++].down = down;
    }
}

static inline void on_absolute(void *dev, int x, int y, int dz, unsigned buttons)
{
    struct fixture *f = dev;

    if (f->n_ev < EVENTS) {
        f->ev[f->n_ev].key = f->ev[f->n_ev].relative = false;
        f->ev[f->n_ev].x = x;
        f->ev[f->n_ev].y = y;
        f->ev[f->n_ev].dz = dz;
        f->ev[f->n_ev++].buttons = buttons;
    }
}

static inline void on_relative(void *dev, int dx, int dy, int dz, unsigned buttons)
{
    struct fixture *f = dev;
    unsigned n = f->n_ev;

    on_absolute(dev, dx, dy, dz, buttons);
    if (f->n_ev > n) {
        f->ev[n].relative = true;
    }
}

static const struct input_keyboard keyboard = {on_key};
static const struct input_pointer pointer = {.absolute = on_absolute};

static inline void paint(struct fixture *f, unsigned seed)
{
    for (int i = 0; i < f->width * f->height; i++) {
        f->picture[i] = ((uint32_t)i * 2654435761u + seed * 40503u) >> 3 & 0xffffff;
    }
    f->changed = (struct rect){0, 0, f->width, f->height};
}

static inline void turn(struct fixture *f)
{
    loop_poll(f->loop, 1000000);
}

static inline struct vnc_config config(void)
{
    return (struct vnc_config){.host = "127.0.0.1", .display = TEST_DISPLAY, .to = TEST_DISPLAY + 99, .name = "test guest"};
}

static inline void serve(struct fixture *f, const struct vnc_config *cfg)
{
    char err[256] = "";

    f->v = vnc_create(f->loop, f->d, f->in, cfg, err, sizeof(err));
    if (f->v == NULL) {
        fail_msg("%s", err);
    }
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->picture = calloc(MAX_W * MAX_H, 4);
    f->width = 640;
    f->height = 400;
    f->loop = loop_create(false);
    f->d = display_create(f->loop);
    f->in = input_create(f->loop);
    input_add_keyboard(f->in, &keyboard, f);
    input_add_pointer(f->in, &pointer, f);
    display_set_source(f->d, &source_ops, f);
    paint(f, 1);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;

    vnc_destroy(f->v);
    display_destroy(f->d);
    input_destroy(f->in);
    loop_destroy(f->loop);
    free(f->picture);
    free(f);
    return 0;
}

/* ---- the client's side; everything turns the guest's loop while it waits ---- */

struct client {
    struct fixture *f;
    int fd;
    int width, height;
    uint32_t *picture;
    unsigned ext_key_acks;
    int leds, absolute; /* as told by pseudo-encodings; -1: not yet */
    bool last_error;
    z_stream zlib[4]; /* of Tight */
    bool inflating[4];
    unsigned fills, bits, indexed, full, jpegs; /* Tight rectangles of each kind */
    unsigned copied;                            /* pixels that came by CopyRect */
    size_t bytes;                               /* of updates */
};

static inline uint64_t now_ms(void)
{
    return vnc_now_ns() / 1000000;
}

/* false: the server closed, or nothing came in time. */
static inline bool get(struct client *c, void *buf, size_t len)
{
    uint8_t *p = buf;
    uint64_t end = now_ms() + TIMEOUT_MS;

    while (len > 0 && now_ms() < end) {
        ssize_t n = recv(c->fd, p, len, MSG_DONTWAIT);

        if (n > 0) {
            p += n;
            len -= (size_t)n;
            c->bytes += (size_t)n;
        } else if (n == 0 || errno != EAGAIN) {
            return false;
        } else {
            turn(c->f);
        }
    }
    return len == 0;
}

static inline void put(struct client *c, const void *buf, size_t len)
{
    assert_int_equal(send(c->fd, buf, len, MSG_NOSIGNAL), (ssize_t)len);
}

static inline unsigned get16(struct client *c)
{
    uint8_t b[2];

    assert_true(get(c, b, 2));
    return (unsigned)b[0] << 8 | b[1];
}

static inline uint32_t get32(struct client *c)
{
    uint32_t hi = get16(c);

    return hi << 16 | get16(c);
}

static inline int connect_fd(const char *service)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(service)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    const int one = 1;

    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static inline void dial(struct fixture *f, struct client *c)
{
    struct vnc_info info;

    memset(c, 0, sizeof(*c));
    c->f = f;
    c->leds = c->absolute = -1;
    vnc_info(f->v, &info);
    c->fd = connect_fd(info.service);
}

static inline void hang_up(struct client *c)
{
    close(c->fd);
    free(c->picture);
    c->picture = NULL;
    for (int i = 0; i < 4; i++) {
        if (c->inflating[i]) {
            inflateEnd(&c->zlib[i]);
        }
    }
}

/* Up to and with the security result. Returns the result word; password NULL: type None. */
static inline uint32_t authenticate(struct client *c, const char *password)
{
    uint8_t b[16];
    uint8_t type = password != NULL ? 2 : 1;

    assert_true(get(c, b, 12));
    assert_memory_equal(b, "RFB 003.008\n", 12);
    put(c, b, 12);
    assert_true(get(c, b, 2));
    assert_int_equal(b[0], 1);
    assert_int_equal(b[1], type);
    put(c, &type, 1);
    if (password != NULL) {
        char key[9] = "";

        snprintf(key, sizeof(key), "%s", password);
        assert_true(get(c, b, 16));
        rfbEncryptBytes(b, key);
        put(c, b, 16);
    }
    return get32(c);
}

static inline void resize_picture(struct client *c, int width, int height)
{
    c->width = width;
    c->height = height;
    free(c->picture);
    c->picture = calloc((size_t)width * (size_t)height, 4);
}

static inline void init(struct client *c, bool shared)
{
    uint8_t b[64] = {shared};
    uint32_t name;
    int width;

    put(c, b, 1);
    width = (int)get16(c);
    resize_picture(c, width, (int)get16(c));
    assert_true(get(c, b, 16));
    assert_memory_equal(b, "\x20\x18\x00", 3); /* 32 bits per pixel, depth 24, little endian */
    assert_int_not_equal(b[3], 0);             /* true colour */
    assert_memory_equal(b + 4, "\x00\xff\x00\xff\x00\xff\x10\x08\x00", 9); /* 8 bits each at 16, 8, 0 */
    name = get32(c);
    assert_int_equal(name, 10);
    assert_true(get(c, b, name));
    assert_memory_equal(b, "test guest", 10);
}

static inline void set_encodings(struct client *c, const int32_t *list, unsigned n)
{
    uint8_t b[4 + 4 * 300] = {2, 0, (uint8_t)(n >> 8), (uint8_t)n};

    for (unsigned i = 0; i < n; i++) {
        uint32_t e = htonl((uint32_t)list[i]);

        memcpy(b + 4 + 4 * i, &e, 4);
    }
    put(c, b, 4 + 4 * n);
}

static inline void request(struct client *c, bool incremental)
{
    const uint8_t b[10] = {3, incremental, 0, 0, 0, 0, (uint8_t)(c->width >> 8), (uint8_t)c->width, (uint8_t)(c->height >> 8), (uint8_t)c->height};

    put(c, b, sizeof(b));
}

/* ---- Tight, of 24-bit colours (community RFB specification) ---- */

static inline uint32_t get_colour(struct client *c)
{
    uint8_t b[3];

    assert_true(get(c, b, 3));
    return (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
}

static inline size_t get_length(struct client *c)
{
    size_t len = 0;
    uint8_t b = 0x80;

    for (unsigned shift = 0; shift < 21 && b >= 0x80; shift += 7) {
        assert_true(get(c, &b, 1));
        len |= (size_t)(shift == 14 ? b : b & 0x7f) << shift;
    }
    return len;
}

/* n bytes, through one of the zlib streams unless they are few. */
static inline void get_packed(struct client *c, unsigned stream, uint8_t *to, size_t n)
{
    z_stream *z = &c->zlib[stream];
    uint8_t *packed;
    size_t len;

    if (n < 12) {
        assert_true(get(c, to, n));
        return;
    }
    len = get_length(c);
    packed = malloc(len);
    assert_true(get(c, packed, len));
    if (!c->inflating[stream]) {
        c->inflating[stream] = true;
        assert_int_equal(inflateInit(z), Z_OK);
    }
    z->next_in = packed;
    z->avail_in = (uInt)len;
    z->next_out = to;
    z->avail_out = (uInt)n;
    while (z->avail_in > 0) { /* all pixels, and then at most what ends the block */
        assert_int_equal(inflate(z, Z_SYNC_FLUSH), Z_OK);
    }
    assert_int_equal(z->avail_out, 0);
    free(packed);
}

static inline void read_tight(struct client *c, int x, int y, int w, int h)
{
    uint32_t colour[256];
    uint8_t control, filter = 0, count = 0;
    uint8_t *data = malloc(3 * (size_t)w * (size_t)h);
    size_t row = 3 * (size_t)w;

    assert_true(w <= 2048 && x + w <= c->width && y + h <= c->height);
    assert_true(get(c, &control, 1));
    assert_int_equal(control & 15, 0); /* no stream begins again */
    if (control == 0x80) {
        c->fills++;
        colour[0] = get_colour(c);
        row = 0;
    } else if (control == 0x90) {
        size_t len = get_length(c);
        uint8_t *jpeg = malloc(len);

        c->jpegs++;
        assert_true(get(c, jpeg, len));
        assert_memory_equal(jpeg, "\xff\xd8", 2);
        free(jpeg);
        free(data);
        return;
    } else {
        assert_in_range(control, 0, 0x70);
        if (control & 0x40) {
            assert_true(get(c, &filter, 1));
            assert_in_range(filter, 0, 1);
        }
        if (filter == 1) {
            assert_true(get(c, &count, 1));
            for (unsigned i = 0; i <= count; i++) {
                colour[i] = get_colour(c);
            }
            row = count == 1 ? ((size_t)w + 7) / 8 : (size_t)w;
        }
        *(filter == 0 ? &c->full : count == 1 ? &c->bits : &c->indexed) += 1;
        get_packed(c, control >> 4 & 3, data, row * (size_t)h);
    }
    for (int j = 0; j < h; j++) {
        const uint8_t *from = data + row * (size_t)j;
        uint32_t *to = &c->picture[(y + j) * c->width + x];

        for (int i = 0; i < w; i++) {
            to[i] = control == 0x80 ? colour[0]
                    : filter == 0   ? (uint32_t)from[3 * i] << 16 | (uint32_t)from[3 * i + 1] << 8 | from[3 * i + 2]
                    : count == 1    ? colour[from[i / 8] >> (7 - i % 8) & 1]
                                    : colour[from[i]];
        }
    }
    free(data);
}

static inline void read_copy(struct client *c, int x, int y, int w, int h)
{
    int from_x = (int)get16(c), from_y = (int)get16(c);

    assert_true(from_x + w <= c->width && from_y + h <= c->height && x + w <= c->width && y + h <= c->height);
    for (int j = 0; j < h; j++) {
        int row = from_y < y ? h - 1 - j : j;

        memmove(&c->picture[(y + row) * c->width + x], &c->picture[(from_y + row) * c->width + from_x], (size_t)w * 4);
    }
    c->copied += (unsigned)(w * h);
}

/* Reads one FramebufferUpdate of Raw, CopyRect, Tight, DesktopSize and extended-key rectangles. */
static inline bool read_update(struct client *c)
{
    uint8_t head[4];
    unsigned rects;

    if (!get(c, head, 4) || head[0] != 0) {
        return false;
    }
    rects = (unsigned)head[2] << 8 | head[3];
    while (rects-- > 0) {
        int x = (int)get16(c), y = (int)get16(c), w = (int)get16(c), h = (int)get16(c);
        int32_t encoding = (int32_t)get32(c);

        if (encoding == -223) {
            resize_picture(c, w, h);
        } else if (encoding == -258) {
            c->ext_key_acks++;
        } else if (encoding == -257) {
            c->absolute = x;
        } else if (encoding == -261) {
            uint8_t leds;

            if (!get(c, &leds, 1)) {
                return false;
            }
            c->leds = leds;
        } else if (encoding == 0x574d5668) {
            c->leds = (int)get32(c);
        } else if (encoding == 1) {
            read_copy(c, x, y, w, h);
        } else if (encoding == 7) {
            read_tight(c, x, y, w, h);
        } else {
            assert_int_equal(encoding, 0);
            assert_true(x + w <= c->width && y + h <= c->height);
            for (int row = y; row < y + h; row++) {
                if (!get(c, &c->picture[row * c->width + x], (size_t)w * 4)) {
                    return false;
                }
            }
        }
    }
    return true;
}

/* Fetches updates until the client's picture is the guest's. */
static inline bool converge(struct client *c)
{
    uint64_t end = now_ms() + TIMEOUT_MS;

    while (now_ms() < end) {
        if (c->width == c->f->width && c->height == c->f->height &&
            memcmp(c->picture, c->f->picture, (size_t)c->width * (size_t)c->height * 4) == 0) {
            return true;
        }
        request(c, true);
        if (!read_update(c)) {
            return false;
        }
    }
    return false;
}

static const int32_t raw_resize[] = {0, -223};

/* A client that says these encodings, and has asked for nothing yet. */
static inline void join_with(struct fixture *f, struct client *c, const int32_t *list, unsigned n)
{
    dial(f, c);
    assert_int_equal(authenticate(c, NULL), 0);
    init(c, true);
    set_encodings(c, list, n);
}

static inline void join(struct fixture *f, struct client *c)
{
    join_with(f, c, raw_resize, 2);
    request(c, false);
}

static inline bool closed_by_server(struct client *c)
{
    uint8_t b[4096];
    uint64_t end = now_ms() + TIMEOUT_MS;

    while (now_ms() < end) {
        ssize_t n = recv(c->fd, b, sizeof(b), MSG_DONTWAIT);

        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            return true;
        }
        turn(c->f);
    }
    return false;
}

static inline void wait_events(struct fixture *f, unsigned n)
{
    uint64_t end = now_ms() + TIMEOUT_MS;

    while (f->n_ev < n && now_ms() < end) {
        turn(f);
    }
    assert_int_equal(f->n_ev, n);
}

static inline void wait_clients(struct fixture *f, int n)
{
    struct vnc_info info;
    uint64_t end = now_ms() + TIMEOUT_MS;

    do {
        turn(f);
        vnc_info(f->v, &info);
    } while (info.client_count != n && now_ms() < end);
    assert_int_equal(info.client_count, n);
}
