/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VNC clients' bytes into the server: two clients on socket pairs, turned by hand (no thread), with a guest that changes its picture
 * and mode meanwhile. The input is a program of operations; see run().
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/loop.h"
#include "ui/display.h"
#include "ui/input.h"
#include "ui/vnc_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CLIENTS = 2, MAX_OPS = 200 };

struct guest {
    struct loop *loop;
    struct display *d;
    struct input *in;
    struct vnc *v;
    int width, height;
    uint32_t seed, colours; /* mask */
    int scrolled;
    bool many; /* colours */
    bool changed;
    unsigned held; /* keys down, as the guest sees it */
    bool down[256];
    int fd[CLIENTS];
    bool ws[CLIENTS]; /* the opening handshake was sent */
};

static bool refresh(void *dev, struct display *d, bool full)
{
    struct guest *g = dev;

    if (!display_resize(d, g->width, g->height)) {
        return false;
    }
    if (!full && !g->changed) {
        return false;
    }
    for (int y = 0; y < g->height; y++) {
        uint32_t *row = display_row(d, y);

        for (int x = 0; x < g->width; x++) {
            row[x] = (g->seed * (uint32_t)(x / 5 + 3 * (y + g->scrolled))) & g->colours;
            row[x] = g->many ? row[x] * (uint32_t)x & 0xffffff : row[x];
        }
    }
    g->changed = false;
    display_dirty(d, 0, 0, g->width, g->height);
    return true;
}

static void idle(void *dev)
{
    (void)dev;
}

static void key(void *dev, uint8_t code, bool down)
{
    struct guest *g = dev;

    if (code == 0) {
        abort();
    }
    if (g->down[code] != down) {
        g->down[code] = down;
        g->held += down ? 1u : -1u;
    }
}

static void absolute(void *dev, int x, int y, int dz, unsigned buttons)
{
    (void)dev;
    (void)buttons;
    if (x < 0 || x > 32767 || y < 0 || y > 32767 || dz < -1000 || dz > 1000) {
        abort();
    }
}

static const struct display_source source_ops = {.refresh = refresh, .idle = idle};
static const struct input_keyboard keyboard = {key};
static const struct input_pointer pointer = {.absolute = absolute};

static void turn(struct guest *g)
{
    if (!vnc_ui_turn(g->v->ui, 0)) {
        abort();
    }
    loop_poll(g->loop, 0);
}

static void hang_up(struct guest *g, unsigned who)
{
    if (g->fd[who] >= 0) {
        close(g->fd[who]);
        g->fd[who] = -1;
        g->ws[who] = false;
    }
}

static void dial(struct guest *g, unsigned who)
{
    int pair[2];

    hang_up(g, who);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0) {
        vnc_ui_accept(g->v->ui, pair[0]);
        g->fd[who] = pair[1];
    }
}

static void put(struct guest *g, unsigned who, const void *bytes, size_t len)
{
    if (g->fd[who] >= 0) {
        (void)!send(g->fd[who], bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

/* In a masked binary frame, after the handshake if it is the connection's first. */
static void put_framed(struct guest *g, unsigned who, const uint8_t *bytes, size_t len)
{
    static const char request[] =
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    uint8_t frame[8 + 255] = {0x82, 0xfe, 0, (uint8_t)len, 1, 2, 3, 4};

    if (!g->ws[who]) {
        g->ws[who] = true;
        put(g, who, request, sizeof(request) - 1);
        turn(g);
    }
    for (size_t i = 0; i < len; i++) {
        frame[8 + i] = bytes[i] ^ frame[4 + (i & 3)];
    }
    put(g, who, frame, 8 + len);
}

static void drain(struct guest *g, unsigned who)
{
    static uint8_t sink[1 << 16];

    for (int i = 0; i < 64 && g->fd[who] >= 0 && recv(g->fd[who], sink, sizeof(sink), MSG_DONTWAIT) > 0; i++) {
        turn(g);
    }
}

/* Each operation: a byte with the client in bit 0 and the kind above it, a length byte, and that many bytes. */
static void run(struct guest *g, const uint8_t *p, size_t size)
{
    static const uint8_t hello[] = "RFB 003.008\n\1\1";
    static const uint8_t hello_auth[] = "RFB 003.008\n\2";
    static const uint8_t ask[] = {3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};

    for (int ops = 0; size >= 2 && ops < MAX_OPS; ops++) {
        unsigned who = p[0] & 1, kind = p[0] >> 1 & 7;
        size_t len = p[1];
        const uint8_t *arg = p + 2;

        if (len > size - 2) {
            len = size - 2;
        }
        p += 2 + len;
        size -= 2 + len;
        switch (kind) {
        case 0:
            dial(g, who);
            if (len > 0) {
                put(g, who, g->v->cfg.password ? hello_auth : hello, g->v->cfg.password ? sizeof(hello_auth) - 1 : sizeof(hello) - 1);
            }
            break;
        case 1:
            if (len >= 4) {
                g->width = 1 + ((arg[0] << 8 | arg[1]) & 0x3ff);
                g->height = 1 + ((arg[2] << 8 | arg[3]) & 0xff);
            }
            break;
        case 2:
            g->seed = len > 0 ? arg[0] : 0;
            g->scrolled = len > 4 ? arg[4] & 63 : 0;
            g->many = len > 4 && arg[4] & 0x80;
            g->colours = len > 5 ? arg[5] * 0x10101u : 0xffffff;
            g->changed = true;
            input_set_leds(g->in, g->seed & 7);
            display_cursor_move(g->d, len > 1 ? arg[1] : 0, len > 2 ? arg[2] - 40 : 0, len > 3);
            if (g->v->active) {
                display_refresh_now(g->d);
            }
            break;
        case 3:
            drain(g, who);
            break;
        case 4:
            put(g, who, ask, sizeof(ask));
            break;
        case 5:
            hang_up(g, who);
            break;
        case 7:
            put_framed(g, who, arg, len);
            break;
        default:
            put(g, who, arg, len);
            break;
        }
        turn(g);
        turn(g);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const layouts[8] = {NULL, "de", "fr", "ja", "pt-br", "it", "en-gb", "sv"};
    static uint32_t shape[20 * 20];
    struct guest g = {.width = 64, .height = 48, .seed = 7, .colours = 0xffffff, .fd = {-1, -1}};
    struct vnc_config cfg = {.name = "fuzz"};
    int w, h, stride;

    signal(SIGPIPE, SIG_IGN);
    if (size < 1) {
        return 0;
    }
    cfg.password = (data[0] & 1) != 0;
    cfg.share = (enum vnc_share)((data[0] >> 1) % 3);
    cfg.keymap = layouts[data[0] >> 5];
    g.loop = loop_create(false);
    g.d = display_create(g.loop);
    g.in = input_create(g.loop);
    input_add_keyboard(g.in, &keyboard, &g);
    input_add_pointer(g.in, &pointer, &g);
    display_set_source(g.d, &source_ops, &g);
    for (size_t i = 0; i < 400; i++) {
        shape[i] = (uint32_t)i * 0x01030507u;
    }
    display_cursor(g.d, shape, 20, 20, 0, 0);
    g.v = vnc_new(g.loop, g.d, g.in, &cfg);
    if (g.v == NULL) {
        abort();
    }
    run(&g, data + 1, size - 1);
    for (unsigned i = 0; i < CLIENTS; i++) {
        drain(&g, i);
        hang_up(&g, i);
    }
    for (int i = 0; i < 4; i++) {
        turn(&g);
    }
    /* All clients are gone: nothing is held down, nothing is kept. */
    if (g.held != 0 || display_pixels(g.d, &w, &h, &stride) != NULL || g.v->ui->pixels != NULL) {
        abort();
    }
    vnc_destroy(g.v);
    display_destroy(g.d);
    input_destroy(g.in);
    loop_destroy(g.loop);
    return 0;
}
