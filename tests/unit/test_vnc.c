/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VNC server through real sockets: a small RFB client here, the server's own thread on the other side. */
#include "tests/unit/vnc_help.h"

/* ---- tests ---- */

static void test_picture(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    serve(f, &cfg);
    join(f, &c);
    assert_int_equal(c.width, 640); /* ServerInit waited for the first picture: the display started out as 640x480 */
    assert_int_equal(c.height, 400);
    assert_true(converge(&c));
    f->picture[100 * 640 + 33] = 0xabcdef;
    f->changed = (struct rect){33, 100, 1, 1};
    assert_true(converge(&c));
    paint(f, 2);
    assert_true(converge(&c));
    hang_up(&c);
}

/* A client that knows DesktopSize gets the picture for its first request, not the size that ServerInit has just told (gtk-vnc would
 * wait for ever). */
static void test_first_request_gets_the_picture(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    serve(f, &cfg);
    join(f, &c);
    memset(c.picture, 0xaa, (size_t)c.width * (size_t)c.height * 4);
    assert_true(read_update(&c));
    assert_memory_equal(c.picture, f->picture, (size_t)c.width * (size_t)c.height * 4);
    hang_up(&c);
}

/* What a client asks for outright it gets whole, although one update is bounded: gtk-vnc asks once and waits for all of it. */
static void test_one_request_gets_the_whole_picture(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;
    size_t bytes = 1920 * 1200 * 4;
    unsigned updates = 0;

    f->width = 1920;
    f->height = 1200;
    paint(f, 3);
    serve(f, &cfg);
    join(f, &c);
    assert_int_equal(c.width, 1920);
    memset(c.picture, 0xaa, bytes);
    while (memcmp(c.picture, f->picture, bytes) != 0) {
        assert_true(read_update(&c)); /* or it waited in vain */
        updates++;
    }
    assert_in_range(updates, bytes / VNC_UPDATE_MAX_BYTES + 1, 2 * bytes / VNC_UPDATE_MAX_BYTES);
    hang_up(&c);
}

static void test_resize(void **state)
{
    static const int sizes[][2] = {{720, 400}, {1366, 768}, {320, 200}, {1920, 1200}, {1, 1}, {1023, 7}, {640, 480}};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    serve(f, &cfg);
    join(f, &c);
    assert_true(converge(&c));
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        f->width = sizes[i][0];
        f->height = sizes[i][1];
        paint(f, 10 + i);
        assert_true(converge(&c));
    }
    hang_up(&c);
}

/* A client that does not know DesktopSize goes on with the size it was told. */
static void test_resize_unknown_to_client(void **state)
{
    static const int32_t raw[] = {0};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    serve(f, &cfg);
    join_with(f, &c, raw, 1);
    request(&c, false);
    assert_true(converge(&c));
    request(&c, true); /* waits with the old size while the picture shrinks */
    f->width = 320;
    f->height = 200;
    paint(f, 5);
    for (int i = 0; i < 3; i++) {
        assert_true(read_update(&c));
        request(&c, false);
    }
    assert_int_equal(c.width, 640);
    for (int y = 0; y < 200; y++) {
        assert_memory_equal(&c.picture[y * 640], &f->picture[y * 320], 320 * 4);
    }
    hang_up(&c);
}

static void test_cursor(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    uint32_t shape[16 * 16];
    struct client c;
    uint32_t *clean = malloc(640 * 400 * 4);

    for (int i = 0; i < 16 * 16; i++) {
        shape[i] = 0xff00ff00;
    }
    serve(f, &cfg);
    join(f, &c);
    assert_true(converge(&c));
    memcpy(clean, f->picture, 640 * 400 * 4);
    display_cursor(f->d, shape, 16, 16, 0, 0);
    for (int i = 0; i < 40; i++) {
        int x0 = i * 17 - 12, y0 = i * 11 - 9;

        display_cursor_move(f->d, x0, y0, i != 30);
        memcpy(f->picture, clean, 640 * 400 * 4);
        for (int y = y0; y < y0 + 16 && i != 30; y++) {
            for (int x = x0; x < x0 + 16; x++) {
                if (x >= 0 && x < 640 && y >= 0 && y < 400) {
                    f->picture[y * 640 + x] = 0x00ff00;
                }
            }
        }
        assert_true(converge(&c)); /* f->picture is not drawn again: only the server can have put the cursor there */
    }
    free(clean);
    hang_up(&c);
}

static void test_keys(void **state)
{
    static const struct {
        uint32_t keysym;
        uint8_t key;
    } known[] = {
        {'a', 0x1e},    {'1', 0x02},    {'`', 0x29},    {' ', 0x39},    {0xff0d, 0x1c}, {0xff1b, 0x01},
        {0xff52, 0xc8}, {0xff54, 0xd0}, {0xffbe, 0x3b}, {0xffc9, 0x58}, {0xff13, 0xc6}, {0xff61, 0xb7}, {0xff8d, 0x9c},
        {0xffff, 0xd3}, {0xff63, 0xd2}, {0xff08, 0x0e}, {0xfe03, 0xb8}, {0xffea, 0xb8}, {0xffe4, 0x9d}, {0xffeb, 0xdb}, {0xff67, 0xdd},
    };
    static const int32_t with_ext[] = {0, -258};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;
    unsigned n = 0;

    serve(f, &cfg);
    join(f, &c);
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        for (int down = 1; down >= 0; down--, n++) {
            const uint8_t m[8] = {4, (uint8_t)down, 0, 0, 0, 0, (uint8_t)(known[i].keysym >> 8), (uint8_t)known[i].keysym};

            put(&c, m, 8);
            wait_events(f, n + 1);
            assert_true(f->ev[n].key);
            assert_int_equal(f->ev[n].code, known[i].key);
            assert_int_equal(f->ev[n].down, down);
        }
    }
    /* A release of what was not pressed, and unknown keysyms, reach nobody. */
    put(&c, "\4\0\0\0\0\0\0x" "\4\1\0\0\0\0\x12\x34", 16);
    set_encodings(&c, with_ext, 2);
    while (c.ext_key_acks == 0) {
        assert_true(read_update(&c));
    }
    put(&c, "\xff\0\0\1\0\0\xff\x52\0\0\0\xc8" "\xff\0\0\0\0\0\xff\x52\0\0\0\xc8", 24);
    put(&c, "\xff\0\0\1\0\0\0a\0\0\0\x10", 12); /* keysym a, but the key where Q is: the key counts */
    put(&c, "\xff\0\0\1\0\0\0a\0\0\0\0", 12);   /* no key number: the keysym counts */
    put(&c, "\xff\0\0\1\0\0\xff\x61\0\0\0\x54" "\xff\0\0\0\0\0\xff\x61\0\0\0\x54", 24); /* Print as TigerVNC numbers it */
    wait_events(f, n + 6);
    assert_int_equal(f->ev[n + 4].code, INPUT_KEY_PRINT);
    assert_int_equal(f->ev[n + 5].code, INPUT_KEY_PRINT);
    assert_int_equal(f->ev[n].code, 0xc8);
    assert_true(f->ev[n].down);
    assert_false(f->ev[n + 1].down);
    assert_int_equal(f->ev[n + 2].code, 0x10);
    assert_int_equal(f->ev[n + 3].code, 0x1e);
    /* What is held is released when the client goes. */
    hang_up(&c);
    wait_events(f, n + 8);
    assert_false(f->ev[n + 6].down);
    assert_false(f->ev[n + 7].down);
    assert_int_equal(f->ev[n + 6].code + f->ev[n + 7].code, 0x10 + 0x1e);
}

static void test_pointer(void **state)
{
    static const struct {
        uint8_t mask;
        int x, y; /* sent */
        int ax, ay, dz;
        unsigned buttons;
    } steps[] = {
        {0, 0, 0, 0, 0, 0, 0},
        {1, 639, 399, 32767, 32767, 0, INPUT_BUTTON_LEFT},
        {2, 5000, 5000, 32767, 32767, 0, INPUT_BUTTON_MIDDLE},
        {4, 320, 200, 16410, 16425, 0, INPUT_BUTTON_RIGHT},
        {0, 320, 200, 16410, 16425, 0, 0},
        {8, 320, 200, 16410, 16425, -1, 0},
        {0, 320, 200, 16410, 16425, 0, 0},
        {16, 320, 200, 16410, 16425, 1, 0},
        {17, 320, 200, 16410, 16425, 0, INPUT_BUTTON_LEFT},
    };
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    serve(f, &cfg);
    join(f, &c);
    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        const uint8_t m[6] = {5, steps[i].mask, (uint8_t)(steps[i].x >> 8), (uint8_t)steps[i].x, (uint8_t)(steps[i].y >> 8), (uint8_t)steps[i].y};

        put(&c, m, 6);
        wait_events(f, i + 1);
        assert_false(f->ev[i].key);
        assert_int_equal(f->ev[i].x, steps[i].ax);
        assert_int_equal(f->ev[i].y, steps[i].ay);
        assert_int_equal(f->ev[i].dz, steps[i].dz);
        assert_int_equal(f->ev[i].buttons, steps[i].buttons);
    }
    hang_up(&c);
    wait_events(f, sizeof(steps) / sizeof(steps[0]) + 1); /* the button comes up */
    assert_int_equal(f->ev[f->n_ev - 1].buttons, 0);
}

static void test_password(void **state)
{
    static const struct {
        const char *set, *tried;
        bool good;
    } cases[] = {
        {NULL, "", false},     {NULL, "secret", false}, {"secret", "secret", true}, {"secret", "Secret", false},
        {"secret", "", false}, {"", "", false},         {"12345678tail", "12345678", true},
    };
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct vnc_info info;
    struct client c;

    cfg.password = true;
    serve(f, &cfg);
    vnc_info(f->v, &info);
    assert_string_equal(info.auth, "vnc");
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (cases[i].set != NULL) {
            assert_int_equal(vnc_set_password(f->v, cases[i].set), 0);
        }
        dial(f, &c);
        assert_int_equal(authenticate(&c, cases[i].tried), cases[i].good ? 0 : 1);
        if (cases[i].good) {
            init(&c, true);
            set_encodings(&c, raw_resize, 2);
            request(&c, false);
            assert_true(converge(&c));
        } else {
            uint32_t len = get32(&c); /* RFB 3.8: a reason */
            char reason[128];

            assert_in_range(len, 1, sizeof(reason));
            assert_true(get(&c, reason, len));
            assert_true(closed_by_server(&c));
        }
        hang_up(&c);
    }
    /* The type None is not accepted instead. */
    dial(f, &c);
    {
        uint8_t b[12];

        assert_true(get(&c, b, 12));
        put(&c, "RFB 003.008\n\1\1", 14);
        assert_true(closed_by_server(&c));
    }
    hang_up(&c);
    vnc_destroy(f->v);
    cfg.password = false;
    serve(f, &cfg);
    assert_int_equal(vnc_set_password(f->v, "x"), -EINVAL);
}

/* libvncserver's own challenges come from random(); a listener could wait for one that he has an answer to. */
static void test_challenge_is_random(void **state)
{
    static const char versions[][15] = {"RFB 003.008\n\2", "RFB 003.003\n"};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;
    uint8_t seen[4][16], b[12];

    cfg.password = true;
    serve(f, &cfg);
    for (int i = 0; i < 4; i++) {
        srandom(42);
        dial(f, &c);
        assert_true(get(&c, b, 12));
        put(&c, versions[i / 2], strlen(versions[i / 2]));
        assert_true(get(&c, b, i / 2 == 0 ? 2 : 4));
        assert_true(get(&c, seen[i], 16));
        hang_up(&c);
        for (int k = 0; k < i; k++) {
            assert_memory_not_equal(seen[i], seen[k], 16);
        }
    }
}

static void test_old_protocols(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;
    uint8_t b[16];

    serve(f, &cfg);
    dial(f, &c); /* 3.3: the server decides, no result word */
    assert_true(get(&c, b, 12));
    put(&c, "RFB 003.003\n", 12);
    assert_int_equal(get32(&c), 1);
    init(&c, true);
    set_encodings(&c, raw_resize, 2);
    request(&c, false);
    assert_true(converge(&c));
    hang_up(&c);
    dial(f, &c); /* 3.7: no result word without authentication */
    assert_true(get(&c, b, 12));
    put(&c, "RFB 003.007\n", 12);
    assert_true(get(&c, b, 2));
    put(&c, "\1", 1);
    init(&c, true);
    set_encodings(&c, raw_resize, 2);
    request(&c, false);
    assert_true(converge(&c));
    hang_up(&c);
}

static void test_ports(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct vnc_info info, second;
    char err[256] = "", expect[128];
    struct vnc *v;

    serve(f, &cfg);
    vnc_info(f->v, &info);
    assert_true(info.enabled);
    assert_string_equal(info.host, "127.0.0.1");
    assert_string_equal(info.family, "ipv4");
    assert_string_equal(info.auth, "none");
    /* The next one finds the next port. */
    v = vnc_create(f->loop, f->d, f->in, &cfg, err, sizeof(err));
    assert_non_null(v);
    vnc_info(v, &second);
    assert_int_equal(atoi(second.service) > atoi(info.service), 1);
    vnc_destroy(v);
    /* Occupied, no search: one line that names the address. */
    cfg.display = atoi(info.service) - VNC_BASE_PORT;
    cfg.to = 0;
    assert_null(vnc_create(f->loop, f->d, f->in, &cfg, err, sizeof(err)));
    snprintf(expect, sizeof(expect), "127.0.0.1:%s", info.service);
    assert_non_null(strstr(err, expect));
    assert_non_null(strstr(err, "in use"));
    assert_null(strchr(err, '\n'));
    cfg.to = cfg.display;
    assert_null(vnc_create(f->loop, f->d, f->in, &cfg, err, sizeof(err)));
    /* Hosts. */
    cfg = config();
    cfg.host = "no such host.invalid";
    assert_null(vnc_create(f->loop, f->d, f->in, &cfg, err, sizeof(err)));
    assert_non_null(strstr(err, "no such host.invalid"));
    cfg.host = "192.0.2.1"; /* TEST-NET: not ours */
    assert_null(vnc_create(f->loop, f->d, f->in, &cfg, err, sizeof(err)));
    assert_non_null(strstr(err, "192.0.2.1"));
    cfg.host = "";
    v = vnc_create(f->loop, f->d, f->in, &cfg, err, sizeof(err));
    assert_non_null(v);
    vnc_info(v, &second);
    close(connect_fd(second.service));
    vnc_destroy(v);
    vnc_info(NULL, &info);
    assert_false(info.enabled);
}

static void test_ipv6(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct vnc_info info;
    char err[256] = "";
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

    if (probe < 0 || bind(probe, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        if (probe >= 0) {
            close(probe);
        }
        skip();
    }
    close(probe);
    cfg.host = "::1";
    f->v = vnc_create(f->loop, f->d, f->in, &cfg, err, sizeof(err));
    assert_non_null(f->v);
    vnc_info(f->v, &info);
    assert_string_equal(info.host, "::1");
    assert_string_equal(info.family, "ipv6");
    cfg.display = atoi(info.service) - VNC_BASE_PORT;
    cfg.to = 0;
    assert_null(vnc_create(f->loop, f->d, f->in, &cfg, err, sizeof(err)));
    assert_non_null(strstr(err, "[::1]:"));
}

static void test_unix_socket(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/test_vnc_XXXXXX", err[256];
    struct vnc_info info;
    struct client c = {.f = f};

    assert_non_null(mkdtemp(dir));
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/vnc", dir);
    cfg.unix_path = sa.sun_path;
    for (int i = 0; i < 2; i++) {
        int left = socket(AF_UNIX, SOCK_STREAM, 0);

        /* The second time a dead socket is in the way. */
        if (i == 1) {
            assert_int_equal(bind(left, (struct sockaddr *)&sa, sizeof(sa)), 0);
        }
        close(left);
        serve(f, &cfg);
        vnc_info(f->v, &info);
        assert_string_equal(info.family, "unix");
        assert_string_equal(info.service, sa.sun_path);
        assert_null(vnc_create(f->loop, f->d, f->in, &cfg, err, sizeof(err))); /* in use */
        assert_non_null(strstr(err, sa.sun_path));
        c.fd = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(c.fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        assert_int_equal(authenticate(&c, NULL), 0);
        init(&c, true);
        set_encodings(&c, raw_resize, 2);
        request(&c, false);
        assert_true(converge(&c));
        vnc_info(f->v, &info);
        assert_int_equal(info.client_count, 1);
        assert_string_equal(info.clients[0].family, "unix");
        hang_up(&c);
        vnc_destroy(f->v);
        f->v = NULL;
        assert_int_equal(access(sa.sun_path, F_OK), -1);
    }
    rmdir(dir);
}

/* One viewer asks for everything and reads nothing; the others do not notice. */
static void test_stopped_viewer(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client stopped, c;
    uint64_t worst = 0;
    int small = 4096;

    f->width = 1920;
    f->height = 1200;
    paint(f, 3);
    serve(f, &cfg);
    join(f, &stopped);
    setsockopt(stopped.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    for (int i = 0; i < 100; i++) {
        request(&stopped, false);
    }
    put(&stopped, "\4\1\0", 3); /* and leaves a message half sent */
    join(f, &c);
    assert_true(converge(&c));
    for (unsigned i = 0; i < 10; i++) {
        uint64_t start = now_ms();

        f->picture[i] ^= 0xffffff;
        f->changed = (struct rect){(int)i, 0, 1, 1};
        assert_true(converge(&c));
        worst = now_ms() - start > worst ? now_ms() - start : worst;
    }
    assert_in_range(worst, 0, 1500);
    hang_up(&c);
    hang_up(&stopped);
}

/* A client that the test serves by hand: everything between the first byte and the picture in one turn. */
static int by_hand(struct fixture *f, struct vnc_config *cfg)
{
    int pair[2];

    f->v = vnc_new(f->loop, f->d, f->in, cfg);
    assert_non_null(f->v);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    vnc_ui_accept(f->v->ui, pair[0]);
    assert_int_equal(write(pair[1], "RFB 003.008\n\1\1\2\0\0\1\0\0\0\0", 22), 22);
    for (int i = 0; i < 6; i++) {
        assert_true(vnc_ui_turn(f->v->ui, 0));
        turn(f);
    }
    assert_int_equal(f->v->ui->viewers, 1);
    return pair[1];
}

/* The next bytes for a client served by hand; buf NULL: thrown away. false: they do not come. */
static bool take(struct fixture *f, int fd, uint8_t *buf, size_t len)
{
    static uint8_t waste[1 << 16];
    uint64_t end = now_ms() + TIMEOUT_MS;

    while (len > 0 && now_ms() < end) {
        ssize_t n = recv(fd, buf != NULL ? buf : waste, buf != NULL || len < sizeof(waste) ? len : sizeof(waste), MSG_DONTWAIT);

        if (n > 0) {
            buf = buf != NULL ? buf + n : NULL;
            len -= (size_t)n;
        } else {
            turn(f);
            assert_true(vnc_ui_turn(f->v->ui, 0));
        }
    }
    return len == 0;
}

/* How many bytes of raw pixels come after the news of that size, at most as many as the picture has. */
static size_t pixels_after_resize(struct fixture *f, int fd, int width, int height)
{
    size_t got = 0;
    bool told = false;
    uint8_t m[12];

    while (got < (size_t)width * (size_t)height * 4 && take(f, fd, m, 4)) {
        for (unsigned rects = (unsigned)m[2] << 8 | m[3]; rects > 0; rects--) {
            size_t bytes;

            assert_true(take(f, fd, m, 12));
            bytes = (size_t)(m[4] << 8 | m[5]) * (size_t)(m[6] << 8 | m[7]) * 4;
            if (m[8] != 0) { /* DesktopSize; raw is 0 */
                assert_int_equal(bytes, width * height * 4);
                told = true;
            } else {
                assert_true(take(f, fd, NULL, bytes));
                got += told ? bytes : 0;
            }
        }
    }
    return got;
}

/* The guest changes the size while such a picture is on its way: then it is the new one, whole, that the client has asked for. */
static void test_resize_within_the_whole_picture(void **state)
{
    static const uint8_t ask[] = {2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21, 3, 0, 0, 0, 0, 0, 0x07, 0x80, 0x04, 0xb0};
    static const int sizes[][2] = {{1280, 720}, {640, 480}, {1920, 1080}};
    struct fixture *f = *state;
    struct vnc_config cfg = config();

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int fd;

        f->width = 1920;
        f->height = 1200; /* three updates */
        paint(f, 3);
        fd = by_hand(f, &cfg);
        take(f, fd, NULL, 12 + 2 + 4 + 24 + 10); /* up to ServerInit and its name */
        assert_int_equal(write(fd, ask, sizeof(ask)), sizeof(ask));
        do { /* the first answer may wait for a refresh */
            assert_true(vnc_ui_turn(f->v->ui, 0));
            turn(f);
        } while (f->v->ui->clients[0]->out_len == 0);
        assert_in_range(f->v->ui->clients[0]->out_len, VNC_UPDATE_MAX_BYTES / 2, VNC_UPDATE_MAX_BYTES + 4096);
        f->width = sizes[i][0];
        f->height = sizes[i][1];
        paint(f, 4);
        while (f->v->ui->width != f->width || f->v->ui->height != f->height) {
            turn(f);
            assert_true(vnc_ui_turn(f->v->ui, 0));
        }
        assert_int_equal(pixels_after_resize(f, fd, f->width, f->height), f->width * f->height * 4);
        close(fd);
        vnc_destroy(f->v);
        f->v = NULL;
    }
}

/* What waits for a viewer that does not read is bounded, and so is the time it is kept. */
static void test_stalled_viewer_is_dropped(void **state)
{
    static const uint8_t ask[] = {3, 0, 0, 0, 0, 0, 0x07, 0x80, 0x04, 0xb0};
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    int fd;

    f->width = 1920;
    f->height = 1200; /* 9 MB */
    paint(f, 3);
    fd = by_hand(f, &cfg);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(write(fd, ask, sizeof(ask)), sizeof(ask));
        f->picture[i] ^= 0xffffff;
        f->changed = (struct rect){i, 0, 1, 1};
        do { /* the first answer may wait for a refresh */
            assert_true(vnc_ui_turn(f->v->ui, 0));
            turn(f);
        } while (f->v->ui->clients[0]->out_len == 0);
        assert_in_range(f->v->ui->clients[0]->out_len, VNC_UPDATE_MAX_BYTES / 2, VNC_UPDATE_MAX_BYTES + 4096);
    }
    assert_in_range(f->v->ui->clients[0]->stall_ns, vnc_now_ns(), vnc_now_ns() + 20000000000ull);
    f->v->ui->clients[0]->stall_ns = 1; /* long ago */
    assert_true(vnc_ui_turn(f->v->ui, 0));
    assert_null(f->v->ui->clients[0]);
    assert_null(f->v->ui->pixels);
    turn(f);
    assert_false(f->v->active);
    close(fd);
}

static void test_silent_client_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    int pair[2];

    close(by_hand(f, &cfg));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    vnc_ui_accept(f->v->ui, pair[0]);
    assert_true(vnc_ui_turn(f->v->ui, 0));
    assert_non_null(f->v->ui->clients[1]);
    assert_null(f->v->ui->clients[0]); /* the one that closed */
    assert_in_range(f->v->ui->clients[1]->deadline_ns, vnc_now_ns(), vnc_now_ns() + 10000000000ull);
    assert_int_equal(f->v->ui->clients[1]->stage, VNC_WAIT_FIRST);
    f->v->ui->clients[1]->deadline_ns = 1; /* a moment later: no browser */
    assert_true(vnc_ui_turn(f->v->ui, 0));
    assert_int_equal(f->v->ui->clients[1]->stage, VNC_WAIT_VERSION);
    assert_in_range(f->v->ui->clients[1]->deadline_ns, vnc_now_ns(), vnc_now_ns() + 10000000000ull);
    f->v->ui->clients[1]->deadline_ns = 1;
    assert_true(vnc_ui_turn(f->v->ui, 0));
    assert_null(f->v->ui->clients[1]);
    close(pair[1]);
}

static void test_garbage(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        bool after_init;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18, false},
        {"RFB 004.000\n", 12, false},
        {"RFB 003.abc\n", 12, false},
        {"RFB 003.008\n\x63", 13, false},
        {"\x07", 1, true},                                                       /* UltraVNC file transfer */
        {"\x08\x01", 2, true},                                                   /* SetScale */
        {"\x0b\0\0\0\0\0\0\4abcd", 12, true},                                    /* text chat */
        {"\xff\0\0\1\0\0\0a\0\0\0\x10", 12, true},                               /* extended key, not agreed */
        {"\xff\1\0\0", 4, true},                                                 /* QEMU audio */
        {"\2\0\xff\xff", 4, true},                                               /* 65535 encodings */
        {"\6\0\0\0\xff\xff\xff\xfc", 8, true},                                   /* clipboard of 4 GiB */
        {"\0\0\0\0\x18\x18\0\1\0\xff\0\xff\0\xff\x10\x08\0\0\0\0", 20, true},    /* 24 bits per pixel */
        {"\0\0\0\0\x20\x18\0\1\0\xff\0\xff\0\xff\xff\x08\0\0\0\0", 20, true},    /* shift 255 */
        {"\0\0\0\0\x10\x10\0\1\xff\xff\x00\x3f\x00\x1f\x0b\x05\0\0\0\0", 20, true}, /* maximum wider than the pixel */
    };
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client other, c;

    serve(f, &cfg);
    join(f, &other);
    assert_true(converge(&other));
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (cases[i].after_init) {
            join(f, &c);
        } else {
            dial(f, &c);
        }
        put(&c, cases[i].bytes, cases[i].len);
        assert_true(closed_by_server(&c));
        hang_up(&c);
    }
    /* Clipboard text is skipped, whatever it contains, and the stream stays in step. */
    join(f, &c);
    put(&c, "\6\0\0\0\0\0\0\4\7\7\7\7" "\4\1\0\0\0\0\0a", 20);
    wait_events(f, 1);
    assert_int_equal(f->ev[0].code, 0x1e);
    hang_up(&c);
    paint(f, 9);
    assert_true(converge(&other));
    hang_up(&other);
}

/* A message cut anywhere. */
static void test_single_bytes(void **state)
{
    static const uint8_t script[] = "RFB 003.008\n\1\1" "\2\0\0\2\0\0\0\0\xff\xff\xff\x21" "\6\0\0\0\0\0\0\2zz" "\4\1\0\0\0\0\0b" "\3\0\0\0\0\0\0\x10\0\x10";
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    serve(f, &cfg);
    dial(f, &c);
    for (size_t i = 0; i < sizeof(script) - 1; i++) {
        put(&c, script + i, 1);
        for (int k = 0; k < 3; k++) {
            turn(f);
        }
    }
    wait_events(f, 1);
    assert_int_equal(f->ev[0].code, 0x30);
    hang_up(&c);
}

static void test_exclusive(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client first, second;

    serve(f, &cfg);
    join(f, &first);
    assert_true(converge(&first));
    dial(f, &second);
    assert_int_equal(authenticate(&second, NULL), 0);
    init(&second, false);
    assert_true(closed_by_server(&first));
    set_encodings(&second, raw_resize, 2);
    request(&second, false);
    assert_true(converge(&second));
    hang_up(&first);
    hang_up(&second);
    vnc_destroy(f->v);
    cfg.share = VNC_SHARE_FORCE_SHARED;
    serve(f, &cfg);
    dial(f, &first);
    assert_int_equal(authenticate(&first, NULL), 0);
    put(&first, "\0", 1);
    assert_true(closed_by_server(&first));
    hang_up(&first);
    vnc_destroy(f->v);
    cfg.share = VNC_SHARE_IGNORE;
    serve(f, &cfg);
    join(f, &first);
    dial(f, &second);
    assert_int_equal(authenticate(&second, NULL), 0);
    init(&second, false);
    assert_true(converge(&first));
    hang_up(&first);
    hang_up(&second);
}

static unsigned open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(d) != NULL) {
        n++;
    }
    closedir(d);
    return n;
}

static void test_hundred_connects(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c, many[100];
    unsigned before;

    serve(f, &cfg);
    join(f, &c);
    assert_true(converge(&c));
    hang_up(&c);
    wait_clients(f, 0);
    before = open_files();
    for (int i = 0; i < 100; i++) {
        join(f, &c);
        if (i % 3 == 0) {
            assert_true(converge(&c));
        }
        hang_up(&c);
    }
    wait_clients(f, 0);
    assert_int_equal(open_files(), before);
    /* A hundred that say nothing do not keep a real viewer out, and there are never more than 32. */
    for (int i = 0; i < 100; i++) {
        dial(f, &many[i]);
    }
    join(f, &c);
    assert_true(converge(&c));
    wait_clients(f, VNC_MAX_CLIENTS);
    for (int i = 0; i < 100; i++) {
        hang_up(&many[i]);
    }
    wait_clients(f, 1);
    paint(f, 4);
    assert_true(converge(&c));
    hang_up(&c);
    wait_clients(f, 0);
    assert_int_equal(open_files(), before);
}

static unsigned long thread_switches(const char *name)
{
    DIR *d = opendir("/proc/self/task");
    struct dirent *e;
    unsigned long found = 0;

    while ((e = readdir(d)) != NULL) {
        char path[300], line[128], comm[32] = "";
        FILE *file;

        snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
        file = fopen(path, "r");
        while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
            sscanf(line, "Name: %31s", comm);
            if (strcmp(comm, name) == 0) {
                sscanf(line, "voluntary_ctxt_switches: %lu", &found);
            }
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    closedir(d);
    return found;
}

/* Without a viewer: no picture, no refresh, no wake-up. With one that went: the same again. */
static void test_idle(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    serve(f, &cfg);
    for (int round = 0; round < 2; round++) {
        unsigned long switches = 0;
        bool rests = false;
        int w, h, stride;

        /* The thread may still be busy with what was, longer on a busy machine. */
        for (int try = 0; try < 10 && !rests; try++) {
            switches = thread_switches("vnc");
            f->refreshes = 0;
            for (uint64_t end = now_ms() + 300; now_ms() < end;) {
                turn(f);
            }
            rests = f->refreshes == 0 && thread_switches("vnc") == switches;
        }
        assert_true(rests);
        assert_null(display_pixels(f->d, &w, &h, &stride));
        if (round == 0) {
            join(f, &c);
            assert_true(converge(&c));
            assert_true(f->refreshes > 0);
            hang_up(&c);
            wait_clients(f, 0);
            turn(f);
        }
    }
}

/* A viewer that asks for nothing has little drawn, and gets the newest picture when it asks again. */
static void test_no_request_no_picture(void **state)
{
    struct fixture *f = *state;
    struct vnc_config cfg = config();
    struct client c;

    serve(f, &cfg);
    join(f, &c);
    assert_true(read_update(&c)); /* not converge(): it may leave a request behind */
    for (unsigned round = 0; round < 3; round++) {
        f->refreshes = 0;
        for (uint64_t end = now_ms() + 300; now_ms() < end;) {
            paint(f, 9 + round);
            turn(f);
        }
        assert_in_range(f->refreshes, 0, 2); /* not 10 */
        for (uint64_t end = now_ms() + TIMEOUT_MS; !atomic_load(&f->v->parked) && now_ms() < end;) {
            turn(f); /* where this process hardly runs, the display has yet to notice */
        }
        paint(f, 90 + round);
        request(&c, round != 0);
        assert_true(read_update(&c)); /* the first answer is not older than the request */
        assert_memory_equal(c.picture, f->picture, (size_t)c.width * (size_t)c.height * 4);
    }
    hang_up(&c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_picture),   T(test_first_request_gets_the_picture),
        T(test_one_request_gets_the_whole_picture), T(test_resize_within_the_whole_picture), T(test_resize),     T(test_resize_unknown_to_client), T(test_cursor),  T(test_keys),
        T(test_pointer),   T(test_password),   T(test_challenge_is_random), T(test_old_protocols),            T(test_ports),   T(test_ipv6),
        T(test_unix_socket), T(test_stopped_viewer), T(test_stalled_viewer_is_dropped), T(test_silent_client_is_dropped),
        T(test_garbage),   T(test_single_bytes),
        T(test_exclusive), T(test_hundred_connects), T(test_idle), T(test_no_request_no_picture),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
