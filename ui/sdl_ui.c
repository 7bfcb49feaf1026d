/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The window's thread: SDL, its events, the pointer. See sdl_int.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "ui/input.h"
#include "ui/sdl_int.h"

enum {
    EVENTS_PER_TURN = 256,
    /* Video drivers other than X (SDL_VIDEODRIVER) have no descriptor that we could wait for. */
    ASK_INTERVAL_MS = 10,
    RESTLESS_INTERVAL_MS = 50,
};
static const uint64_t kick_interval_ns = 5000000ull;
/* SDL tells a change of the keyboard focus 200 ms late, when it is asked for events by then. */
static const uint64_t restless_after_ns = 500000000ull;

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* ---- title, grab, full screen ---- */

static void set_title(struct sdl_ui *ui)
{
    const char *mod = sdl_keys_mod_name(ui->s->cfg.grab_mod);
    char title[200];

    if (ui->grabbed) {
        snprintf(title, sizeof(title), "%.80s - %s releases %s, %s+F %s", ui->s->cfg.name, mod,
                 ui->absolute ? "the keyboard" : "mouse and keyboard", mod,
                 ui->full_screen ? "leaves full screen" : "full screen");
    } else {
        snprintf(title, sizeof(title), "%.80s - %s+G holds %s, %s+F %s", ui->s->cfg.name, mod,
                 ui->absolute ? "the keyboard" : "mouse and keyboard (or click)", mod,
                 ui->full_screen ? "leaves full screen" : "full screen");
    }
    ui->lib->SetWindowTitle(ui->window, title);
}

/* Tells SDL what follows from grabbed and absolute. */
static void apply_grab(struct sdl_ui *ui)
{
    bool relative = ui->grabbed && !ui->absolute;
    /* A guest with an absolute pointer draws its own in the place of the host's. */
    bool cursor = !relative && (!ui->absolute || ui->s->cfg.show_cursor);

    ui->lib->SetRelativeMouseMode(relative ? SDL_TRUE : SDL_FALSE);
    ui->lib->SetWindowKeyboardGrab(ui->window, ui->grabbed ? SDL_TRUE : SDL_FALSE);
    ui->lib->ShowCursor(cursor ? SDL_ENABLE : SDL_DISABLE);
    set_title(ui);
}

void sdl_ui_grab(struct sdl_ui *ui, bool on)
{
    if (on != ui->grabbed) {
        ui->grabbed = on;
        apply_grab(ui);
    }
}

void sdl_ui_full_screen(struct sdl_ui *ui, bool on)
{
    static struct log_limit limit;

    if (ui->lib->SetWindowFullscreen(ui->window, on ? SDL_WINDOW_FULLSCREEN_DESKTOP : 0) != 0) {
        log_limited(&limit, "SDL: no full screen: %s", ui->lib->GetError());
        return;
    }
    if (on) {
        ui->grabbed_before = ui->grabbed;
    }
    ui->full_screen = on;
    ui->grabbed = on || ui->grabbed_before;
    apply_grab(ui);
    if (!on) {
        sdl_ui_natural_size(ui); /* the picture may have changed meanwhile */
    }
    ui->redraw = true;
}

/* One axis of a window with a frame around it: the place next to `at` where all of it, or at least
 * its beginning, is between first and first + room. */
static int inside(int at, int size, int before, int after, int first, int room)
{
    if (at + size + after > first + room) {
        at = first + room - size - after;
    }
    return at < first + before ? first + before : at;
}

/* What has grown out of the screen moves back. */
static void move_into(struct sdl_ui *ui, const SDL_Rect *room, int width, int height)
{
    int x, y, to_x, to_y, top, left, bottom, right;

    if (ui->lib->GetWindowBordersSize(ui->window, &top, &left, &bottom, &right) != 0) {
        top = left = bottom = right = 0;
    }
    ui->lib->GetWindowPosition(ui->window, &x, &y);
    to_x = inside(x, width, left, right, room->x, room->w);
    to_y = inside(y, height, top, bottom, room->y, room->h);
    if (to_x != x || to_y != y) {
        ui->lib->SetWindowPosition(ui->window, to_x, to_y);
    }
}

/* Makes the window as large as the picture, or as the screen if that is smaller. */
void sdl_ui_natural_size(struct sdl_ui *ui)
{
    struct rect size = {0, 0, ui->width, ui->height};
    SDL_Rect room;
    bool have_room;

    if (ui->pixels == NULL || ui->full_screen ||
        (ui->lib->GetWindowFlags(ui->window) & SDL_WINDOW_MAXIMIZED) != 0) {
        return;
    }
    have_room =
        ui->lib->GetDisplayUsableBounds(ui->lib->GetWindowDisplayIndex(ui->window), &room) == 0 &&
        room.w > 0 && room.h > 0;
    if (have_room && (size.w > room.w || size.h > room.h)) {
        size = scale_fit(size.w, size.h, room.w, room.h);
    }
    ui->lib->SetWindowSize(ui->window, size.w, size.h);
    if (have_room) {
        move_into(ui, &room, size.w, size.h);
    }
}

/* ---- to the guest ---- */

void sdl_ui_post(struct sdl_ui *ui, const struct input_event *ev)
{
    struct sdl *s = ui->s;
    uint64_t now = now_ns();

    pthread_mutex_lock(&s->life);
    if (!s->quit) {
        input_post(s->input, ev);
        if (now - ui->kick_ns >= kick_interval_ns) {
            ui->kick_ns = now;
            atomic_store(&s->want_kick, true);
            sdl_signal_loop(s);
        }
    }
    pthread_mutex_unlock(&s->life);
}

/* Movement and wheel steps, or a change of buttons alone. */
static void send_pointer(struct sdl_ui *ui, int dx, int dy, int dz)
{
    struct input_event ev = {.type = INPUT_EVENT_RELATIVE, .x = dx, .y = dy, .dz = dz};

    if (ui->absolute) {
        ev.type = INPUT_EVENT_ABSOLUTE;
        ev.x = ui->x;
        ev.y = ui->y;
    }
    ev.buttons = ui->buttons;
    sdl_ui_post(ui, &ev);
}

/* Window coordinate -> position in the picture. */
static int position(int at, int view_at, int view_size, int size)
{
    return input_position((int64_t)(at - view_at) * size / view_size, size);
}

static void on_motion(struct sdl_ui *ui, const SDL_MouseMotionEvent *e)
{
    if (ui->absolute && ui->pixels != NULL && ui->view.w > 0) {
        ui->x = position(e->x, ui->view.x, ui->view.w, ui->width);
        ui->y = position(e->y, ui->view.y, ui->view.h, ui->height);
        send_pointer(ui, 0, 0, 0);
    } else if (ui->grabbed && !ui->absolute) {
        send_pointer(ui, e->xrel, e->yrel, 0);
    }
}

static void on_button(struct sdl_ui *ui, const SDL_MouseButtonEvent *e)
{
    static const unsigned buttons[] = {
        [SDL_BUTTON_LEFT] = INPUT_BUTTON_LEFT,     [SDL_BUTTON_RIGHT] = INPUT_BUTTON_RIGHT,
        [SDL_BUTTON_MIDDLE] = INPUT_BUTTON_MIDDLE, [SDL_BUTTON_X1] = INPUT_BUTTON_SIDE,
        [SDL_BUTTON_X2] = INPUT_BUTTON_EXTRA,
    };
    unsigned bit = e->button < sizeof(buttons) / sizeof(buttons[0]) ? buttons[e->button] : 0;

    ui->chord = false;
    if (e->state == SDL_PRESSED && !ui->absolute && !ui->grabbed) {
        sdl_ui_grab(ui, e->button == SDL_BUTTON_LEFT); /* this click is for us */
        return;
    }
    if (e->state == SDL_PRESSED) {
        ui->buttons |= bit;
    } else if ((ui->buttons & bit) != 0) {
        ui->buttons &= ~bit;
    } else {
        return;
    }
    send_pointer(ui, 0, 0, 0);
}

static void release_all(struct sdl_ui *ui)
{
    sdl_keys_release_all(ui);
    if (ui->buttons != 0) {
        ui->buttons = 0;
        send_pointer(ui, 0, 0, 0);
    }
}

/* ---- events ---- */

/* Tells the loop thread whether the window can be seen. */
static void check_visible(struct sdl_ui *ui)
{
    const Uint32 hidden = SDL_WINDOW_HIDDEN | SDL_WINDOW_MINIMIZED;
    bool visible = (ui->lib->GetWindowFlags(ui->window) & hidden) == 0;

    if (visible == ui->visible) {
        return;
    }
    ui->visible = visible;
    if (!visible) {
        sdl_draw_free(ui);
    } else {
        ui->redraw = true;
        atomic_store(&ui->s->want_full, true);
    }
    atomic_store(&ui->s->want_picture, visible);
    sdl_signal_loop(ui->s);
}

static void on_window(struct sdl_ui *ui, const SDL_WindowEvent *e)
{
    switch (e->event) {
    case SDL_WINDOWEVENT_CLOSE:
        atomic_store(&ui->s->want_close, true);
        sdl_signal_loop(ui->s);
        break;
    case SDL_WINDOWEVENT_FOCUS_GAINED:
        sdl_keys_sync_locks(ui);
        sdl_ui_grab(ui, ui->grabbed || ui->full_screen);
        break;
    case SDL_WINDOWEVENT_FOCUS_LOST:
        /* What is released elsewhere is not told here. */
        release_all(ui);
        sdl_ui_grab(ui, false);
        break;
    case SDL_WINDOWEVENT_EXPOSED:
    case SDL_WINDOWEVENT_SIZE_CHANGED:
        ui->redraw = true;
        break;
    default:
        break;
    }
    check_visible(ui);
}

static void on_event(struct sdl_ui *ui, const SDL_Event *e)
{
    switch (e->type) {
    case SDL_WINDOWEVENT:
        on_window(ui, &e->window);
        break;
    case SDL_SYSWMEVENT: {
        unsigned key = sdl_lib_x_key(&e->syswm);

        ui->x_key = key != 0 ? key : ui->x_key;
        break;
    }
    case SDL_KEYDOWN:
    case SDL_KEYUP:
        sdl_keys_event(ui, &e->key);
        break;
    case SDL_MOUSEMOTION:
        on_motion(ui, &e->motion);
        break;
    case SDL_MOUSEBUTTONDOWN:
    case SDL_MOUSEBUTTONUP:
        on_button(ui, &e->button);
        break;
    case SDL_MOUSEWHEEL:
        if (ui->absolute || ui->grabbed) {
            send_pointer(ui, 0, 0, -e->wheel.y); /* ours counts towards the user */
        }
        break;
    default:
        break;
    }
}

/* Handles what SDL has. true: something, and there may be more. */
static bool handle_events(struct sdl_ui *ui)
{
    SDL_Event e;
    int n = 0;

    while (n < EVENTS_PER_TURN && ui->lib->PollEvent(&e) != 0) {
        on_event(ui, &e);
        n++;
    }
    if (n > 0) {
        ui->restless_ns = now_ns() + restless_after_ns;
    }
    return n > 0;
}

/* What the loop thread said. false: quit. */
static bool woken(struct sdl_ui *ui)
{
    struct sdl *s = ui->s;
    bool quit, absolute;
    uint64_t n;

    (void)!read(s->wake_fd, &n, sizeof(n));
    pthread_mutex_lock(&s->life);
    quit = s->quit;
    pthread_mutex_unlock(&s->life);
    pthread_mutex_lock(&s->lock);
    s->woken = false;
    absolute = s->absolute;
    pthread_mutex_unlock(&s->lock);
    if (!quit && absolute != ui->absolute) {
        ui->absolute = absolute;
        apply_grab(ui);
    }
    return !quit;
}

static int wait_ms(const struct sdl_ui *ui, int max_wait_ms)
{
    int ms = ui->x_fd < 0                 ? ASK_INTERVAL_MS
             : now_ns() < ui->restless_ns ? RESTLESS_INTERVAL_MS
                                          : -1;

    return max_wait_ms < 0 || (ms >= 0 && ms < max_wait_ms) ? ms : max_wait_ms;
}

bool sdl_ui_turn(struct sdl_ui *ui, int max_wait_ms)
{
    struct pollfd fds[] = {
        {.fd = ui->s->wake_fd, .events = POLLIN},
        {.fd = ui->x_fd, .events = POLLIN}, /* -1 is passed over */
    };

    /* Requests to X read events, too, where poll() does not see them: sleep only after SDL had
     * none. */
    bool again = handle_events(ui);

    if (ui->redraw) {
        sdl_draw_all(ui);
        again = true;
    }
    if (poll(fds, 2, again ? 0 : wait_ms(ui, max_wait_ms)) < 0 && errno != EINTR) {
        static struct log_limit limit;

        log_limited(&limit, "SDL: poll: %s", strerror(errno));
        return false;
    }
    if (fds[0].revents != 0) {
        if (!woken(ui)) {
            return false;
        }
        if (sdl_draw_sync(ui)) {
            sdl_ui_natural_size(ui);
            sdl_draw_all(ui);
        }
    }
    return true;
}

/* ---- life ---- */

/* What the operator wants instead of X, or NULL. */
static const char *chosen_driver(void)
{
    const char *name = getenv("SDL_VIDEODRIVER");

    return name != NULL && name[0] != '\0' ? name : NULL;
}

static void set_hints(const struct sdl_lib *lib)
{
    static const struct {
        const char *name, *value;
        SDL_HintPriority priority;
    } hints[] = {
        {SDL_HINT_NO_SIGNAL_HANDLERS, "1", SDL_HINT_OVERRIDE},     /* they are the loop thread's */
        {SDL_HINT_FRAMEBUFFER_ACCELERATION, "0", SDL_HINT_NORMAL}, /* no OpenGL, see sdl_draw.c */
        {SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "1", SDL_HINT_NORMAL},  /* a guest is no film */
        {SDL_HINT_VIDEO_X11_NET_WM_BYPASS_COMPOSITOR, "0", SDL_HINT_NORMAL}, /* nor a game */
        {SDL_HINT_VIDEO_MINIMIZE_ON_FOCUS_LOSS, "0", SDL_HINT_NORMAL},
        {SDL_HINT_QUIT_ON_LAST_WINDOW_CLOSE, "0", SDL_HINT_OVERRIDE},
    };

    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
        lib->SetHintWithPriority(hints[i].name, hints[i].value, hints[i].priority);
    }
    if (chosen_driver() == NULL) {
        /* Else SDL would take the host's console, or nothing at all, when there is no display. */
        lib->SetHintWithPriority(SDL_HINT_VIDEODRIVER, "x11", SDL_HINT_OVERRIDE);
    }
}

static void tell_no_display(char *err, size_t errlen, const char *why)
{
    const char *display = getenv("DISPLAY"), *authority = getenv("XAUTHORITY");

    if (chosen_driver() != NULL) {
        snprintf(err, errlen, "-display sdl: SDL_VIDEODRIVER=%.40s: %.100s", chosen_driver(), why);
    } else if (display == NULL || display[0] == '\0') {
        snprintf(err, errlen,
                 "-display sdl: no X display: put display= into the guest's config (or DISPLAY "
                 "into xl's environment), or use vnc=1 instead of sdl=1");
    } else {
        snprintf(err, errlen,
                 "-display sdl: cannot open the X display '%.40s' (XAUTHORITY: %.80s): check "
                 "display= and xauthority= in the guest's config, or use vnc=1 instead of sdl=1",
                 display, authority != NULL ? authority : "not set");
    }
}

bool sdl_ui_open(struct sdl_ui *ui, char *err, size_t errlen)
{
    struct sdl *s = ui->s;

    set_hints(ui->lib);
    if (ui->lib->Init(SDL_INIT_VIDEO) != 0) {
        tell_no_display(err, errlen, ui->lib->GetError());
        return false;
    }
    /* Else input methods see the keys first. */
    ui->lib->StopTextInput();
    ui->lib->EventState(SDL_SYSWMEVENT, SDL_ENABLE); /* see sdl_keys.c */
    ui->window = ui->lib->CreateWindow(s->cfg.name, SDL_WINDOWPOS_UNDEFINED,
                                       SDL_WINDOWPOS_UNDEFINED, display_width(s->display),
                                       display_height(s->display), SDL_WINDOW_RESIZABLE);
    if (ui->window == NULL) {
        snprintf(err, errlen, "-display sdl: no window: %.100s", ui->lib->GetError());
        return false;
    }
    ui->x_fd = sdl_lib_x_fd(ui->lib, ui->window);
    ui->absolute = s->absolute;
    ui->redraw = true;
    apply_grab(ui);
    if (s->cfg.full_screen) {
        sdl_ui_full_screen(ui, true);
    }
    check_visible(ui);
    return true;
}

void sdl_ui_close(struct sdl_ui *ui)
{
    if (ui->window != NULL) {
        ui->lib->DestroyWindow(ui->window);
        ui->window = NULL;
    }
    ui->lib->Quit();
}

/* X is gone, or was never there: this thread ends. */
static void on_x_gone(void *arg)
{
    struct sdl *s = ((struct sdl_ui *)arg)->s;

    atomic_store(&s->gone, true);
    atomic_store(&s->want_picture, false);
    pthread_mutex_lock(&s->life);
    if (!s->quit) {
        sdl_signal_loop(s);
    }
    pthread_mutex_unlock(&s->life);
    snprintf(s->open_error, sizeof(s->open_error),
             "-display sdl: the X server closed the connection");
    sem_post(&s->opened);
}

void *sdl_ui_main(void *arg)
{
    struct sdl_ui *ui = arg;
    struct sdl *s = ui->s;
    bool ok;

    sdl_lib_catch_x_errors(on_x_gone, ui);
    ok = sdl_ui_open(ui, s->open_error, sizeof(s->open_error));
    sem_post(&s->opened);
    while (ok && sdl_ui_turn(ui, -1)) {
    }
    sdl_ui_close(ui);
    return NULL;
}

struct sdl_ui *sdl_ui_create(struct sdl *s)
{
    struct sdl_ui *ui = calloc(1, sizeof(*ui));

    if (ui != NULL) {
        ui->s = s;
        ui->lib = s->lib;
        ui->x_fd = -1;
    }
    return ui;
}

void sdl_ui_destroy(struct sdl_ui *ui)
{
    if (ui == NULL) {
        return;
    }
    sdl_draw_free(ui);
    free(ui->scaled);
    free(ui);
}
