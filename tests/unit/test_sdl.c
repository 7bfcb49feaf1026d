/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The SDL window on SDL's "dummy" video driver: what the user would see is read from the window's
 * surface, what he does comes as SDL's events. Most tests turn the UI thread's crank themselves.
 */
#include "vnc_help.h"

#include <dlfcn.h>

#include "ui/keymap.h"
#include "ui/sdl_int.h"

enum { SCREEN_W = 1024, SCREEN_H = 768 }; /* of the dummy driver */

struct window {
    struct fixture *f;
    struct sdl *s;
    struct sdl_ui *ui;
    unsigned closed;
};

static void on_closed(void *opaque)
{
    ((struct window *)opaque)->closed++;
}

/* setup() with a clock that the test moves. */
static int setup_manual(void **state)
{
    struct fixture *f;

    setup(state);
    f = *state;
    display_destroy(f->d);
    input_destroy(f->in);
    loop_destroy(f->loop);
    f->loop = loop_create(true);
    f->d = display_create(f->loop);
    f->in = input_create(f->loop);
    input_add_keyboard(f->in, &keyboard, f);
    input_add_pointer(f->in, &pointer, f);
    display_set_source(f->d, &source_ops, f);
    return 0;
}

/* Lets time go by until nothing more comes of it. */
static void settle(struct window *w)
{
    for (int i = 0; i < 6; i++) {
        display_kick(w->f->d);
        loop_advance(w->f->loop, DISPLAY_REFRESH_NS);
        loop_poll(w->f->loop, 0);
        assert_true(sdl_ui_turn(w->ui, 0));
    }
}

static void open_config(struct window *w, void **state, struct sdl_config cfg)
{
    char err[256] = "";

    memset(w, 0, sizeof(*w));
    w->f = *state;
    cfg.opaque = w;
    w->s = sdl_new(w->f->loop, w->f->d, w->f->in, &cfg);
    assert_non_null(w->s);
    w->s->lib = sdl_lib_load(err, sizeof(err));
    if (w->s->lib == NULL) {
        fail_msg("%s", err);
    }
    w->ui = w->s->ui = sdl_ui_create(w->s);
    if (!sdl_ui_open(w->ui, err, sizeof(err))) {
        fail_msg("%s", err);
    }
    settle(w);
}

static void open_window(struct window *w, void **state)
{
    open_config(w, state, (struct sdl_config){.name = "guest", .closed = on_closed});
}

static void close_window(struct window *w)
{
    sdl_ui_close(w->ui);
    sdl_destroy(w->s);
}

static SDL_Surface *surface(struct window *w)
{
    SDL_Surface *s = w->ui->lib->GetWindowSurface(w->ui->window);

    assert_non_null(s);
    return s;
}

static uint32_t *pixel(struct window *w, int x, int y)
{
    SDL_Surface *s = surface(w);

    assert_int_equal(s->format->BytesPerPixel, 4);
    return (uint32_t *)(void *)((uint8_t *)s->pixels + y * s->pitch) + x;
}

/* One to one. */
static void check_picture(struct window *w)
{
    struct fixture *f = w->f;

    assert_int_equal(surface(w)->w, f->width);
    assert_int_equal(surface(w)->h, f->height);
    for (int y = 0; y < f->height; y++) {
        for (int x = 0; x < f->width; x++) {
            if ((*pixel(w, x, y) & 0xffffff) != f->picture[y * f->width + x]) {
                fail_msg("pixel %d,%d is %06x, not %06x", x, y, *pixel(w, x, y),
                         f->picture[y * f->width + x]);
            }
        }
    }
}

/* Puts an event as SDL would and has it handled up to the guest's devices. */
static void put_event(struct window *w, SDL_Event e)
{
    assert_int_equal(w->ui->lib->PushEvent(&e), 1);
    assert_true(sdl_ui_turn(w->ui, 0));
    loop_poll(w->f->loop, 0);
    assert_true(sdl_ui_turn(w->ui, 0));
}

static void press(struct window *w, SDL_Scancode key, bool down)
{
    put_event(w, (SDL_Event){.key = {.type = down ? SDL_KEYDOWN : SDL_KEYUP,
                                     .state = down ? SDL_PRESSED : SDL_RELEASED,
                                     .keysym.scancode = key}});
}

static void window_event(struct window *w, Uint8 event)
{
    put_event(w, (SDL_Event){.window = {.type = SDL_WINDOWEVENT, .event = event}});
}

static void button(struct window *w, Uint8 number, bool down)
{
    put_event(w, (SDL_Event){.button = {.type = down ? SDL_MOUSEBUTTONDOWN : SDL_MOUSEBUTTONUP,
                                        .state = down ? SDL_PRESSED : SDL_RELEASED,
                                        .button = number}});
}

static void motion(struct window *w, int x, int y, int dx, int dy)
{
    put_event(w, (SDL_Event){
                     .motion = {.type = SDL_MOUSEMOTION, .x = x, .y = y, .xrel = dx, .yrel = dy}});
}

/* The guest got exactly these keys, "+1e -1e"; forgets them. */
static void got_keys(struct window *w, const char *want)
{
    char got[400] = "";

    for (unsigned i = 0; i < w->f->n_ev; i++) {
        assert_true(w->f->ev[i].key);
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%c%02x", i > 0 ? " " : "",
                 w->f->ev[i].down ? '+' : '-', w->f->ev[i].code);
    }
    w->f->n_ev = 0;
    assert_string_equal(got, want);
}

static void got_pointer(struct window *w, bool relative, int x, int y, int dz, unsigned buttons)
{
    assert_int_equal(w->f->n_ev, 1);
    assert_false(w->f->ev[0].key);
    assert_int_equal(w->f->ev[0].relative, relative);
    assert_int_equal(w->f->ev[0].x, x);
    assert_int_equal(w->f->ev[0].y, y);
    assert_int_equal(w->f->ev[0].dz, dz);
    assert_int_equal(w->f->ev[0].buttons, buttons);
    w->f->n_ev = 0;
}

/* ---- keys ---- */

static SDL_Scancode scancode_of(uint8_t key)
{
    for (int i = 0; i < SDL_NUM_SCANCODES; i++) {
        if (sdl_keys_code((SDL_Scancode)i) == key) {
            return (SDL_Scancode)i;
        }
    }
    return SDL_SCANCODE_UNKNOWN;
}

/* Whatever a VNC viewer can press with some keysym, the window can. */
static void test_scancodes_as_vnc(void **state)
{
    static const char *const layouts[] = {"en-us", "de", "fr", "ja", "pt-br"};
    static const struct {
        uint32_t first, last;
    } ranges[] = {{0x20, 0xff}, {0xff00, 0xffff}, {0xfe00, 0xfeff}, {0x1008ff11, 0x1008ff30}};
    unsigned found = 0;

    (void)state;
    for (size_t l = 0; l < sizeof(layouts) / sizeof(layouts[0]); l++) {
        const struct keymap *map = keymap_find(layouts[l]);

        assert_non_null(map);
        for (size_t r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++) {
            for (uint32_t keysym = ranges[r].first; keysym <= ranges[r].last; keysym++) {
                struct keymap_chord chord;

                if (keymap_lookup(map, keysym, &chord)) {
                    found++;
                    if (scancode_of(chord.key) == SDL_SCANCODE_UNKNOWN) {
                        fail_msg("keysym %x: no scancode makes key %02x", keysym, chord.key);
                    }
                }
            }
        }
    }
    assert_true(found > 900);
}

/* The keys whose name is the same in SDL and in X make the same code both ways. */
static void test_scancodes_by_name(void **state)
{
    static const struct {
        SDL_Scancode scancode;
        uint32_t keysym;
    } rows[] = {
        {SDL_SCANCODE_1, '1'},
        {SDL_SCANCODE_0, '0'},
        {SDL_SCANCODE_MINUS, '-'},
        {SDL_SCANCODE_EQUALS, '='},
        {SDL_SCANCODE_LEFTBRACKET, '['},
        {SDL_SCANCODE_RIGHTBRACKET, ']'},
        {SDL_SCANCODE_BACKSLASH, '\\'},
        {SDL_SCANCODE_SEMICOLON, ';'},
        {SDL_SCANCODE_APOSTROPHE, '\''},
        {SDL_SCANCODE_GRAVE, '`'},
        {SDL_SCANCODE_COMMA, ','},
        {SDL_SCANCODE_PERIOD, '.'},
        {SDL_SCANCODE_SLASH, '/'},
        {SDL_SCANCODE_SPACE, ' '},
        {SDL_SCANCODE_RETURN, 0xff0d},
        {SDL_SCANCODE_ESCAPE, 0xff1b},
        {SDL_SCANCODE_BACKSPACE, 0xff08},
        {SDL_SCANCODE_TAB, 0xff09},
        {SDL_SCANCODE_CAPSLOCK, 0xffe5},
        {SDL_SCANCODE_PRINTSCREEN, 0xff61},
        {SDL_SCANCODE_SYSREQ, 0xff15},
        {SDL_SCANCODE_SCROLLLOCK, 0xff14},
        {SDL_SCANCODE_PAUSE, 0xff13},
        {SDL_SCANCODE_INSERT, 0xff63},
        {SDL_SCANCODE_HOME, 0xff50},
        {SDL_SCANCODE_PAGEUP, 0xff55},
        {SDL_SCANCODE_DELETE, 0xffff},
        {SDL_SCANCODE_END, 0xff57},
        {SDL_SCANCODE_PAGEDOWN, 0xff56},
        {SDL_SCANCODE_RIGHT, 0xff53},
        {SDL_SCANCODE_LEFT, 0xff51},
        {SDL_SCANCODE_DOWN, 0xff54},
        {SDL_SCANCODE_UP, 0xff52},
        {SDL_SCANCODE_NUMLOCKCLEAR, 0xff7f},
        {SDL_SCANCODE_KP_DIVIDE, 0xffaf},
        {SDL_SCANCODE_KP_MULTIPLY, 0xffaa},
        {SDL_SCANCODE_KP_MINUS, 0xffad},
        {SDL_SCANCODE_KP_PLUS, 0xffab},
        {SDL_SCANCODE_KP_ENTER, 0xff8d},
        {SDL_SCANCODE_KP_0, 0xffb0},
        {SDL_SCANCODE_KP_PERIOD, 0xffae},
        {SDL_SCANCODE_KP_EQUALS, 0xffbd},
        {SDL_SCANCODE_APPLICATION, 0xff67},
        {SDL_SCANCODE_INTERNATIONAL2, 0xff27},
        {SDL_SCANCODE_INTERNATIONAL4, 0xff23},
        {SDL_SCANCODE_INTERNATIONAL5, 0xff22},
        {SDL_SCANCODE_LANG5, 0xff2a},
        {SDL_SCANCODE_LCTRL, 0xffe3},
        {SDL_SCANCODE_LSHIFT, 0xffe1},
        {SDL_SCANCODE_LALT, 0xffe9},
        {SDL_SCANCODE_LGUI, 0xffeb},
        {SDL_SCANCODE_RCTRL, 0xffe4},
        {SDL_SCANCODE_RSHIFT, 0xffe2},
        {SDL_SCANCODE_RALT, 0xffea},
        {SDL_SCANCODE_RGUI, 0xffec},
        {SDL_SCANCODE_MUTE, 0x1008ff12},
        {SDL_SCANCODE_VOLUMEUP, 0x1008ff13},
        {SDL_SCANCODE_VOLUMEDOWN, 0x1008ff11},
        {SDL_SCANCODE_AUDIONEXT, 0x1008ff17},
        {SDL_SCANCODE_AUDIOPREV, 0x1008ff16},
        {SDL_SCANCODE_AUDIOSTOP, 0x1008ff15},
        {SDL_SCANCODE_AUDIOPLAY, 0x1008ff14},
        {SDL_SCANCODE_AC_BACK, 0x1008ff26},
        {SDL_SCANCODE_SLEEP, 0x1008ff2f},
        {SDL_SCANCODE_POWER, 0x1008ff2a},
    };
    const struct keymap *us = keymap_find("en-us");
    struct keymap_chord chord;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_true(keymap_lookup(us, rows[i].keysym, &chord));
        assert_int_equal(sdl_keys_code(rows[i].scancode), chord.key);
    }
    for (int i = 0; i < 26; i++) {
        assert_true(keymap_lookup(us, (uint32_t)('a' + i), &chord));
        assert_int_equal(sdl_keys_code((SDL_Scancode)(SDL_SCANCODE_A + i)), chord.key);
    }
    for (int i = 0; i < 12; i++) {
        assert_true(keymap_lookup(us, 0xffbe + (uint32_t)i, &chord));
        assert_int_equal(sdl_keys_code((SDL_Scancode)(SDL_SCANCODE_F1 + i)), chord.key);
    }
    for (int i = 0; i < 9; i++) {
        assert_true(keymap_lookup(us, 0xffb1 + (uint32_t)i, &chord));
        assert_int_equal(sdl_keys_code((SDL_Scancode)(SDL_SCANCODE_KP_1 + i)), chord.key);
    }
}

/* All keys of PC keyboards are there: 105 keys, JIS, ABNT2, Korean ones, F13 to F24. */
static void test_scancodes_complete(void **state)
{
    static const uint8_t more[] = {0x59, 0x5c, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c,
                                   0x6d, 0x6e, 0x70, 0x71, 0x72, 0x73, 0x76, 0x77, 0x78, 0x79, 0x7b,
                                   0x7d, 0x7e, 0x9c, 0x9d, 0xb5, 0xb7, 0xb8, 0xc6, 0xc7, 0xc8, 0xc9,
                                   0xcb, 0xcd, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3, 0xdb, 0xdc, 0xdd};

    (void)state;
    for (unsigned key = 0x01; key <= 0x58; key++) {
        if (key != 0x54 &&
            key != 0x55) { /* Print with Alt, which the keyboard makes itself; none */
            assert_int_not_equal(scancode_of((uint8_t)key), SDL_SCANCODE_UNKNOWN);
        }
    }
    for (size_t i = 0; i < sizeof(more); i++) {
        assert_int_not_equal(scancode_of(more[i]), SDL_SCANCODE_UNKNOWN);
    }
    assert_int_equal(sdl_keys_code(SDL_SCANCODE_UNKNOWN), 0);
    assert_int_equal(sdl_keys_code((SDL_Scancode)SDL_NUM_SCANCODES), 0);
    assert_int_equal(sdl_keys_code((SDL_Scancode)0x7fffffff), 0);
}

static void test_keys(void **state)
{
    struct window w;

    open_window(&w, state);
    press(&w, SDL_SCANCODE_A, true);
    press(&w, SDL_SCANCODE_A, true); /* the host repeats */
    press(&w, SDL_SCANCODE_A, false);
    press(&w, SDL_SCANCODE_A, false);
    got_keys(&w, "+1e +1e -1e");
    press(&w, SDL_SCANCODE_PAUSE, true);
    press(&w, SDL_SCANCODE_PAUSE, false);
    press(&w, SDL_SCANCODE_UNKNOWN, true);
    press(&w, (SDL_Scancode)70000, true);
    press(&w, (SDL_Scancode)-1, true);
    got_keys(&w, "+c6 -c6");
    close_window(&w);
}

static void test_focus_loss_releases(void **state)
{
    struct window w;

    open_window(&w, state);
    button(&w, SDL_BUTTON_LEFT, true); /* the pointer is absolute: no grab needed */
    w.f->n_ev = 0;
    press(&w, SDL_SCANCODE_LSHIFT, true);
    press(&w, SDL_SCANCODE_LALT, true);
    press(&w, SDL_SCANCODE_RIGHT, true);
    got_keys(&w, "+2a +38 +cd");
    window_event(&w, SDL_WINDOWEVENT_FOCUS_LOST);
    assert_int_equal(w.f->n_ev, 4);
    assert_int_equal(w.f->ev[3].buttons, 0);
    w.f->n_ev = 3;
    got_keys(&w, "-2a -38 -cd");
    press(&w, SDL_SCANCODE_RIGHT, false);
    button(&w, SDL_BUTTON_LEFT, false);
    got_keys(&w, "");
    close_window(&w);
}

static void test_hot_keys(void **state)
{
    struct window w;

    open_window(&w, state);
    press(&w, SDL_SCANCODE_LCTRL, true);
    press(&w, SDL_SCANCODE_F, true);
    press(&w, SDL_SCANCODE_F, false);
    got_keys(&w, "+1d +21 -21");
    press(&w, SDL_SCANCODE_LALT, true);
    press(&w, SDL_SCANCODE_F, true);
    press(&w, SDL_SCANCODE_F, true); /* held: once is enough, and no repeats to the guest */
    assert_true(w.ui->full_screen);
    assert_true(w.ui->grabbed);
    press(&w, SDL_SCANCODE_F, false);
    press(&w, SDL_SCANCODE_F, true);
    press(&w, SDL_SCANCODE_F, false);
    assert_false(w.ui->full_screen);
    assert_false(w.ui->grabbed);
    press(&w, SDL_SCANCODE_G, true);
    press(&w, SDL_SCANCODE_G, false);
    assert_true(w.ui->grabbed);
    press(&w, SDL_SCANCODE_DELETE, true);
    press(&w, SDL_SCANCODE_DELETE, false);
    press(&w, SDL_SCANCODE_LALT, false);
    press(&w, SDL_SCANCODE_LCTRL, false);
    got_keys(&w, "+38 +d3 -d3 -38 -1d");
    assert_true(w.ui->grabbed); /* it was Ctrl+Alt+Del */
    press(&w, SDL_SCANCODE_LALT, true);
    press(&w, SDL_SCANCODE_LCTRL, true);
    press(&w, SDL_SCANCODE_LALT, false);
    assert_false(w.ui->grabbed);
    press(&w, SDL_SCANCODE_LCTRL, false);
    got_keys(&w, "+38 +1d -38 -1d");
    /* A click with Ctrl+Alt is the guest's, too. */
    sdl_ui_grab(w.ui, true);
    press(&w, SDL_SCANCODE_LALT, true);
    press(&w, SDL_SCANCODE_LCTRL, true);
    button(&w, SDL_BUTTON_LEFT, true);
    button(&w, SDL_BUTTON_LEFT, false);
    press(&w, SDL_SCANCODE_LALT, false);
    press(&w, SDL_SCANCODE_LCTRL, false);
    assert_true(w.ui->grabbed);
    /* Back to a full screen: the keyboard is the guest's again. */
    sdl_ui_full_screen(w.ui, true);
    window_event(&w, SDL_WINDOWEVENT_FOCUS_LOST);
    assert_false(w.ui->grabbed);
    window_event(&w, SDL_WINDOWEVENT_FOCUS_GAINED);
    assert_true(w.ui->grabbed);
    close_window(&w);
}

static void test_other_grab_keys(void **state)
{
    struct window w;

    open_config(&w, state, (struct sdl_config){.grab_mod = SDL_GRAB_RCTRL, .full_screen = true});
    assert_true(w.ui->full_screen);
    assert_true(w.ui->grabbed);
    press(&w, SDL_SCANCODE_LCTRL, true);
    press(&w, SDL_SCANCODE_LALT, true);
    press(&w, SDL_SCANCODE_F, true);
    press(&w, SDL_SCANCODE_F, false);
    press(&w, SDL_SCANCODE_LALT, false);
    assert_true(w.ui->full_screen);
    assert_true(w.ui->grabbed);
    got_keys(&w, "+1d +38 +21 -21 -38");
    press(&w, SDL_SCANCODE_RCTRL, true);
    press(&w, SDL_SCANCODE_F, true);
    assert_false(w.ui->full_screen);
    press(&w, SDL_SCANCODE_F, false);
    press(&w, SDL_SCANCODE_RCTRL, false);
    got_keys(&w, "+9d -9d");
    close_window(&w);
}

/* The guest's lock keys follow the host's when the window gets the keyboard; a guest that does not
 * tell, or does not follow, is left alone. */
static void test_locks(void **state)
{
    struct window w;

    open_window(&w, state);
    w.ui->lib->SetModState(KMOD_CAPS | KMOD_NUM);
    window_event(&w, SDL_WINDOWEVENT_FOCUS_GAINED);
    got_keys(&w, "");
    input_set_leds(w.f->in, INPUT_LED_NUM | INPUT_LED_SCROLL);
    window_event(&w, SDL_WINDOWEVENT_FOCUS_GAINED);
    got_keys(&w, "+3a -3a +46 -46");
    window_event(&w, SDL_WINDOWEVENT_FOCUS_GAINED);
    got_keys(&w, "");
    input_set_leds(w.f->in, INPUT_LED_NUM | INPUT_LED_CAPS);
    window_event(&w, SDL_WINDOWEVENT_FOCUS_GAINED);
    got_keys(&w, "");
    w.ui->lib->SetModState(KMOD_CAPS);
    window_event(&w, SDL_WINDOWEVENT_FOCUS_GAINED);
    got_keys(&w, "+45 -45");
    w.ui->lib->SetModState(KMOD_NONE);
    close_window(&w);
}

/* ---- pointer ---- */

static void test_absolute(void **state)
{
    struct window w;

    open_window(&w, state);
    for (int x = 0; x < w.f->width; x += 13) {
        int y = x % w.f->height;
        int at_x, at_y;

        motion(&w, x, y, 1, 1);
        assert_int_equal(w.f->n_ev, 1);
        at_x = (w.f->ev[0].x * (w.f->width - 1) + 32767 / 2) / 32767;
        at_y = (w.f->ev[0].y * (w.f->height - 1) + 32767 / 2) / 32767;
        assert_int_equal(at_x, x);
        assert_int_equal(at_y, y);
        w.f->n_ev = 0;
    }
    motion(&w, -5, 10000, 0, 0); /* dragged out of the window */
    got_pointer(&w, false, 0, 32767, 0, 0);
    button(&w, SDL_BUTTON_LEFT, true);
    got_pointer(&w, false, 0, 32767, 0, INPUT_BUTTON_LEFT);
    assert_false(w.ui->grabbed);
    button(&w, SDL_BUTTON_X1, true);
    got_pointer(&w, false, 0, 32767, 0, INPUT_BUTTON_LEFT | INPUT_BUTTON_SIDE);
    button(&w, SDL_BUTTON_LEFT, false);
    got_pointer(&w, false, 0, 32767, 0, INPUT_BUTTON_SIDE);
    put_event(&w, (SDL_Event){.wheel = {.type = SDL_MOUSEWHEEL, .y = 2}});
    got_pointer(&w, false, 0, 32767, -2, INPUT_BUTTON_SIDE);
    close_window(&w);
}

static void test_relative(void **state)
{
    static const struct input_pointer mouse = {.relative = on_relative};
    static const struct {
        Uint8 sdl;
        unsigned guest;
    } rows[] = {{SDL_BUTTON_LEFT, INPUT_BUTTON_LEFT},
                {SDL_BUTTON_RIGHT, INPUT_BUTTON_RIGHT},
                {SDL_BUTTON_MIDDLE, INPUT_BUTTON_MIDDLE},
                {SDL_BUTTON_X1, INPUT_BUTTON_SIDE},
                {SDL_BUTTON_X2, INPUT_BUTTON_EXTRA}};
    struct fixture *f = *state;
    struct window w;

    input_remove(f->in, f);
    input_add_pointer(f->in, &mouse, f);
    input_add_keyboard(f->in, &keyboard, f);
    open_window(&w, state);
    motion(&w, 10, 10, 3, 4);
    button(&w, SDL_BUTTON_RIGHT, true);
    button(&w, SDL_BUTTON_RIGHT, false);
    put_event(&w, (SDL_Event){.wheel = {.type = SDL_MOUSEWHEEL, .y = 1}});
    assert_false(w.ui->grabbed);
    button(&w, SDL_BUTTON_LEFT, true); /* takes the mouse; not for the guest */
    button(&w, SDL_BUTTON_LEFT, false);
    assert_true(w.ui->grabbed);
    assert_int_equal(f->n_ev, 0);
    motion(&w, 10, 10, 3, -4);
    got_pointer(&w, true, 3, -4, 0, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        button(&w, rows[i].sdl, true);
        got_pointer(&w, true, 0, 0, 0, rows[i].guest);
        button(&w, rows[i].sdl, false);
        got_pointer(&w, true, 0, 0, 0, 0);
    }
    button(&w, 200, true);
    f->n_ev = 0;
    put_event(&w, (SDL_Event){.wheel = {.type = SDL_MOUSEWHEEL, .y = 1}});
    got_pointer(&w, true, 0, 0, -1, 0);
    /* The guest's tablet wakes up: no need for the grab of the mouse any more. */
    input_add_pointer(f->in, &pointer, f);
    assert_true(sdl_ui_turn(w.ui, 0));
    motion(&w, 0, 0, 3, 4);
    got_pointer(&w, false, 0, 0, 0, 0);
    window_event(&w, SDL_WINDOWEVENT_FOCUS_LOST);
    assert_false(w.ui->grabbed);
    close_window(&w);
}

/* ---- picture ---- */

static void test_picture(void **state)
{
    struct window w;
    uint32_t mark = 0x123456;

    open_window(&w, state);
    check_picture(&w);
    /* Only what changed is drawn: marks around it stay. */
    for (int y = 100; y < 120; y++) {
        for (int x = 200; x < 250; x++) {
            w.f->picture[y * w.f->width + x] ^= 0xffffff;
        }
    }
    w.f->changed = (struct rect){200, 100, 50, 20};
    *pixel(&w, 199, 100) = *pixel(&w, 250, 119) = *pixel(&w, 220, 99) = *pixel(&w, 220, 120) = mark;
    settle(&w);
    assert_int_equal(*pixel(&w, 199, 100), mark);
    assert_int_equal(*pixel(&w, 250, 119), mark);
    assert_int_equal(*pixel(&w, 220, 99), mark);
    assert_int_equal(*pixel(&w, 220, 120), mark);
    window_event(&w, SDL_WINDOWEVENT_EXPOSED); /* all of it */
    check_picture(&w);
    close_window(&w);
}

static void test_modes(void **state)
{
    static const struct {
        int w, h;
    } modes[] = {{320, 200}, {1024, 768}, {800, 600}, {1, 1}, {641, 479}};
    struct window w;

    open_window(&w, state);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        w.f->width = modes[i].w;
        w.f->height = modes[i].h;
        paint(w.f, (unsigned)i);
        settle(&w);
        check_picture(&w);
    }
    /* Larger than the screen: shrunk to it, in its shape. */
    w.f->width = 1920;
    w.f->height = 1200;
    paint(w.f, 9);
    settle(&w);
    assert_int_equal(surface(&w)->w, SCREEN_W);
    assert_int_equal(surface(&w)->h, 640);
    w.f->width = 640;
    w.f->height = 480;
    paint(w.f, 9);
    settle(&w);
    check_picture(&w);
    close_window(&w);
}

static void test_full_screen(void **state)
{
    struct window w;
    uint32_t first;

    open_window(&w, state);
    w.f->width = 512;
    w.f->height = 300;
    paint(w.f, 3);
    settle(&w);
    sdl_ui_full_screen(w.ui, true);
    settle(&w);
    assert_int_equal(surface(&w)->w, SCREEN_W);
    assert_int_equal(surface(&w)->h, SCREEN_H);
    /* Twice as large, bars of 84 above and below. */
    for (int y = 0; y < SCREEN_H; y++) {
        for (int x = 0; x < SCREEN_W; x++) {
            bool bar = y < 84 || y >= SCREEN_H - 84;
            uint32_t want = bar ? 0 : w.f->picture[(y - 84) / 2 * 512 + x / 2];

            assert_int_equal(*pixel(&w, x, y) & 0xffffff, want);
        }
    }
    motion(&w, 2 * 511 + 1, 84 + 2 * 150, 0, 0);
    got_pointer(&w, false, 32767, (150 * 32767 + 298) / 299, 0, 0);
    /* A part that changes is drawn where all of it would have been. */
    w.f->width = 700;
    w.f->height = 500;
    paint(w.f, 4);
    settle(&w);
    first = *pixel(&w, 512, 384);
    for (int y = 240; y < 260; y++) {
        for (int x = 340; x < 360; x++) {
            w.f->picture[y * 700 + x] ^= 0xffffff;
        }
    }
    w.f->changed = (struct rect){340, 240, 20, 20};
    settle(&w);
    assert_int_not_equal(*pixel(&w, 512, 384), first);
    {
        size_t bytes = (size_t)surface(&w)->pitch * SCREEN_H;
        void *parts = malloc(bytes);

        memcpy(parts, surface(&w)->pixels, bytes);
        sdl_draw_all(w.ui);
        assert_memory_equal(parts, surface(&w)->pixels, bytes);
        free(parts);
    }
    /* Bars where there was a picture. */
    w.f->width = SCREEN_W;
    w.f->height = SCREEN_H;
    paint(w.f, 5);
    settle(&w);
    check_picture(&w);
    w.f->width = 512;
    w.f->height = 300;
    paint(w.f, 6);
    settle(&w);
    for (int x = 0; x < SCREEN_W; x++) {
        assert_int_equal(*pixel(&w, x, 83) & 0xffffff, 0);
        assert_int_equal(*pixel(&w, x, SCREEN_H - 84) & 0xffffff, 0);
    }
    sdl_ui_full_screen(w.ui, false);
    settle(&w);
    check_picture(&w);
    assert_false(w.ui->grabbed);
    sdl_ui_grab(w.ui, true);
    sdl_ui_full_screen(w.ui, true);
    sdl_ui_full_screen(w.ui, false);
    assert_true(w.ui->grabbed); /* as it was */
    close_window(&w);
}

static void test_cursor(void **state)
{
    uint32_t shape[16 * 16];
    struct window w;

    open_window(&w, state);
    for (int i = 0; i < 16 * 16; i++) {
        shape[i] = i % 3 == 0 ? 0 : 0xff000000u | (uint32_t)i * 0x10203u;
    }
    display_cursor(w.f->d, shape, 16, 16, 0, 0);
    display_cursor_move(w.f->d, 630, -4, true); /* partly outside */
    settle(&w);
    for (int y = 0; y < 20; y++) {
        for (int x = 600; x < 640; x++) {
            bool in = x >= 630 && y < 12 && (((y + 4) * 16 + x - 630) % 3) != 0;
            uint32_t want =
                in ? shape[(y + 4) * 16 + x - 630] & 0xffffff : w.f->picture[y * 640 + x];

            assert_int_equal(*pixel(&w, x, y) & 0xffffff, want);
        }
    }
    display_cursor_move(w.f->d, 100, 100, true);
    settle(&w);
    assert_int_equal(*pixel(&w, 101, 100) & 0xffffff, shape[1] & 0xffffff);
    assert_int_equal(*pixel(&w, 631, 0) & 0xffffff, w.f->picture[631]);
    display_cursor_move(w.f->d, 100, 100, false);
    settle(&w);
    check_picture(&w);
    close_window(&w);
}

/* Hidden: the display stops, the copy is gone; shown again: all is there again. */
static void test_hidden(void **state)
{
    void *library = dlopen("libSDL2-2.0.so.0", RTLD_NOW | RTLD_NOLOAD);
    void (*hide)(SDL_Window *), (*show)(SDL_Window *);
    struct window w;
    void *symbol;
    unsigned refreshes;

    open_window(&w, state);
    if (library == NULL) {
        library = dlopen("libSDL2-2.0.so.0", RTLD_NOW);
    }
    symbol = dlsym(library, "SDL_HideWindow");
    memcpy(&hide, &symbol, sizeof(symbol));
    symbol = dlsym(library, "SDL_ShowWindow");
    memcpy(&show, &symbol, sizeof(symbol));
    hide(w.ui->window);
    settle(&w);
    assert_null(w.ui->pixels);
    assert_false(w.s->active);
    refreshes = w.f->refreshes;
    paint(w.f, 8);
    settle(&w);
    assert_int_equal(w.f->refreshes, refreshes);
    show(w.ui->window);
    settle(&w);
    check_picture(&w);
    close_window(&w);
    dlclose(library);
}

static void test_close(void **state)
{
    struct window w;

    open_window(&w, state);
    window_event(&w, SDL_WINDOWEVENT_CLOSE);
    loop_poll(w.f->loop, 0);
    assert_int_equal(w.closed, 1);
    check_picture(&w);
    close_window(&w);
    open_config(&w, state, (struct sdl_config){.name = NULL});
    window_event(&w, SDL_WINDOWEVENT_CLOSE); /* refused */
    loop_poll(w.f->loop, 0);
    check_picture(&w);
    close_window(&w);
}

/* ---- the real thread ---- */

static void test_thread(void **state)
{
    struct fixture *f = *state;
    const struct sdl_config cfg = {.name = "guest", .closed = on_closed};
    char err[256] = "";
    struct sdl *s = sdl_create(f->loop, f->d, f->in, &cfg, err, sizeof(err));

    assert_string_equal(err, "");
    assert_non_null(s);
    for (int i = 0; i < 100 && f->refreshes == 0; i++) {
        loop_poll(f->loop, 50000000);
    }
    assert_true(f->refreshes > 0);
    for (unsigned i = 0; i < 30; i++) {
        f->width = 100 + (int)i * 37 % 900;
        f->height = 100 + (int)i * 53 % 600;
        paint(f, i);
        display_kick(f->d);
        loop_poll(f->loop, 40000000);
    }
    sdl_destroy(s);
    sdl_destroy(NULL);
}

static void test_no_display(void **state)
{
    struct fixture *f = *state;
    const struct sdl_config cfg = {.name = "guest"};
    char err[256] = "";

    assert_null(setenv("SDL_VIDEODRIVER", "none-such", 1) == 0
                    ? sdl_create(f->loop, f->d, f->in, &cfg, err, sizeof(err))
                    : NULL);
    assert_non_null(strstr(err, "SDL_VIDEODRIVER=none-such"));
    unsetenv("SDL_VIDEODRIVER");
    unsetenv("DISPLAY");
    assert_null(sdl_create(f->loop, f->d, f->in, &cfg, err, sizeof(err)));
    assert_non_null(strstr(err, "-display sdl: no X display: put display= into"));
    setenv("DISPLAY", "/nowhere/x:7", 1);
    assert_null(sdl_create(f->loop, f->d, f->in, &cfg, err, sizeof(err)));
    assert_non_null(strstr(err, "cannot open the X display '/nowhere/x:7'"));
    unsetenv("DISPLAY");
    setenv("SDL_VIDEODRIVER", "dummy", 1);
}

/* ---- scaling ---- */

static void test_scale(void **state)
{
    static const struct scale sizes[] = {{7, 5, 7, 5},  {7, 5, 21, 10},   {7, 5, 16, 9},
                                         {16, 9, 7, 5}, {1, 1, 9, 9},     {9, 9, 1, 1},
                                         {3, 2, 3, 7},  {640, 2, 641, 3}, {4096, 2, 5, 2}};
    static uint32_t from[2][4096], whole[4096], part[4096];

    (void)state;
    for (int i = 0; i < 4096; i++) {
        from[0][i] = (uint32_t)i * 2654435761u >> 8;
        from[1][i] = ~from[0][i] & 0xffffff;
    }
    for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
        const struct scale *s = &sizes[n];

        for (int y = 0; y < s->to_h; y++) {
            int top, bottom;
            unsigned share;

            scale_rows(s, y, &top, &bottom, &share);
            assert_in_range(top, 0, s->from_h - 1);
            assert_in_range(bottom, top, s->from_h - 1);
            assert_true(share < 256);
            scale_row(s, from[top & 1], from[bottom & 1], share, 0, s->to_w, whole);
            for (int x = 0; x < s->to_w; x++) {
                scale_row(s, from[top & 1], from[bottom & 1], share, x, 1, part);
                assert_int_equal(part[0], whole[x]);
            }
        }
        /* A pixel has a share in nothing outside of what scale_rect() says. */
        for (int x = 0; x < s->from_w; x += 1 + s->from_w / 40) {
            struct rect r = scale_rect(s, (struct rect){x, 0, 1, 1});

            assert_true(r.w > 0 && r.x >= 0 && r.x + r.w <= s->to_w);
            scale_row(s, from[0], from[0], 0, 0, s->to_w, whole);
            from[0][x] ^= 0xffffff;
            scale_row(s, from[0], from[0], 0, 0, s->to_w, part);
            from[0][x] ^= 0xffffff;
            for (int i = 0; i < s->to_w; i++) {
                assert_true(part[i] == whole[i] || (i >= r.x && i < r.x + r.w));
            }
        }
    }
}

static void test_scale_fit(void **state)
{
    struct rect r = scale_fit(640, 480, 1280, 1024);

    (void)state;
    assert_int_equal(r.x, 0);
    assert_int_equal(r.y, 32);
    assert_int_equal(r.w, 1280);
    assert_int_equal(r.h, 960);
    r = scale_fit(4096, 1, 10, 10);
    assert_int_equal(r.w, 10);
    assert_int_equal(r.h, 1);
    r = scale_fit(1, 4096, 1000, 10);
    assert_int_equal(r.w, 1);
    assert_int_equal(r.h, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scancodes_as_vnc),
        cmocka_unit_test(test_scancodes_by_name),
        cmocka_unit_test(test_scancodes_complete),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_scale_fit),
        cmocka_unit_test_setup_teardown(test_keys, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_focus_loss_releases, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_hot_keys, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_other_grab_keys, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_locks, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_absolute, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_relative, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_picture, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_modes, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_full_screen, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_cursor, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_hidden, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_close, setup_manual, teardown),
        cmocka_unit_test_setup_teardown(test_thread, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_display, setup_manual, teardown),
    };

    setenv("SDL_VIDEODRIVER", "dummy", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
