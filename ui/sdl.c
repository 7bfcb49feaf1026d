/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ui/sdl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "ui/input.h"
#include "ui/sdl_int.h"

/* For an X server that does not answer. libxl gives the whole start 60 s. */
enum { OPEN_SECONDS = 10, CLOSE_SECONDS = 2 };

/* ---- the display's callbacks: note it, wake the thread ---- */

/* Under s->lock. */
static void wake_ui(struct sdl *s)
{
    uint64_t one = 1;

    if (!s->woken) {
        s->woken = true;
        (void)!write(s->wake_fd, &one, sizeof(one));
    }
}

static void on_resized(void *ui, int width, int height)
{
    struct sdl *s = ui;

    input_set_size(s->input, width, height);
    pthread_mutex_lock(&s->lock);
    s->dirty.count = 0;
    s->drawn = true;
    pthread_mutex_unlock(&s->lock);
}

static void on_updated(void *ui, int x, int y, int width, int height)
{
    struct sdl *s = ui;

    pthread_mutex_lock(&s->lock);
    rects_add(&s->dirty, (struct rect){x, y, width, height});
    s->drawn = true;
    wake_ui(s);
    pthread_mutex_unlock(&s->lock);
}

static void on_cursor(void *ui)
{
    struct sdl *s = ui;
    const struct display_cursor_image *c = display_cursor_get(s->display);

    pthread_mutex_lock(&s->lock);
    if (c->serial != s->cursor.serial) {
        s->cursor = *c;
    } else {
        s->cursor.x = c->x;
        s->cursor.y = c->y;
        s->cursor.visible = c->visible;
    }
    s->cursor_changed = true;
    wake_ui(s);
    pthread_mutex_unlock(&s->lock);
}

/* The guest's LEDs or kinds of pointers are others. */
static void on_input_changed(void *ui)
{
    struct sdl *s = ui;
    unsigned leds = input_leds(s->input);

    pthread_mutex_lock(&s->lock);
    if (leds != s->leds) {
        s->leds = leds;
        s->leds_followed = true;
    }
    if (input_has_absolute(s->input) != s->absolute) {
        s->absolute = !s->absolute;
        wake_ui(s);
    }
    pthread_mutex_unlock(&s->lock);
}

static const struct display_viewer viewer_ops = {
    .resized = on_resized,
    .updated = on_updated,
    .cursor = on_cursor,
};

/* ---- from the UI thread ---- */

void sdl_signal_loop(struct sdl *s)
{
    uint64_t one = 1;

    (void)!write(s->up_fd, &one, sizeof(one));
}

/* Loop thread: does what the UI thread asked for. */
static void on_up(void *arg, uint32_t events)
{
    struct sdl *s = arg;
    bool want, full;
    uint64_t n;

    (void)events;
    (void)!read(s->up_fd, &n, sizeof(n));
    want = atomic_load(&s->want_picture);
    full = atomic_exchange(&s->want_full, false);
    if (s->active && (!want || full)) {
        s->active = false;
        display_viewer_active(s->display, s, false);
    }
    if (want && !s->active) {
        s->active = true;
        display_viewer_active(s->display, s, true);
    }
    if (atomic_exchange(&s->want_kick, false) && s->active) {
        display_kick(s->display);
    }
    if (atomic_exchange(&s->gone, false)) {
        log_msg("SDL: the connection to the X server is lost and the window with it; the guest "
                "goes on");
    }
    if (atomic_exchange(&s->want_close, false)) {
        if (s->cfg.closed != NULL) {
            s->cfg.closed(s->cfg.opaque);
        } else {
            static struct log_limit limit;

            log_limited(&limit, "SDL: the window stays: window-close=off");
        }
    }
}

/* ---- life ---- */

static void sdl_free(struct sdl *s)
{
    sdl_ui_destroy(s->ui);
    if (s->up_fd >= 0) {
        close(s->up_fd);
    }
    if (s->wake_fd >= 0) {
        close(s->wake_fd);
    }
    sem_destroy(&s->opened);
    pthread_mutex_destroy(&s->life);
    pthread_mutex_destroy(&s->lock);
    free((void *)(uintptr_t)s->cfg.name);
    free(s);
}

struct sdl *sdl_new(struct loop *loop, struct display *d, struct input *in,
                    const struct sdl_config *cfg)
{
    struct sdl *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        return NULL;
    }
    s->cfg = *cfg;
    s->cfg.name = strdup(cfg->name != NULL ? cfg->name : "hvm-dm");
    s->loop = loop;
    s->display = d;
    s->input = in;
    s->leds = input_leds(in);
    s->absolute = input_has_absolute(in);
    sem_init(&s->opened, 0, 0);
    pthread_mutex_init(&s->life, NULL);
    pthread_mutex_init(&s->lock, NULL);
    s->up_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->cfg.name == NULL || s->up_fd < 0 || s->wake_fd < 0 ||
        loop_watch(loop, &s->up_watch, s->up_fd, EPOLLIN, on_up, s) != 0 ||
        display_add_viewer(d, &viewer_ops, s) != 0 || input_watch(in, on_input_changed, s) != 0) {
        sdl_destroy(s);
        return NULL;
    }
    return s;
}

static int start_thread(struct sdl *s)
{
    sigset_t all, old;
    int err;

    sigfillset(&all); /* they are the loop thread's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(&s->thread, NULL, sdl_ui_main, s->ui);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (err == 0) {
        s->thread_running = true;
        pthread_setname_np(s->thread, "sdl");
    }
    return -err;
}

static struct timespec seconds_from_now(int seconds)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += seconds;
    return ts;
}

/* Waits for the thread to have its window. false with one line in err. */
static bool wait_opened(struct sdl *s, char *err, size_t errlen)
{
    const struct timespec until = seconds_from_now(OPEN_SECONDS);

    while (sem_clockwait(&s->opened, CLOCK_MONOTONIC, &until) != 0) {
        if (errno != EINTR) {
            const char *display = getenv("DISPLAY");

            snprintf(err, errlen,
                     "-display sdl: the X server of display '%.40s' does not answer; use vnc=1 "
                     "instead of sdl=1 in the guest's config",
                     display != NULL ? display : "");
            return false;
        }
    }
    snprintf(err, errlen, "%s", s->open_error);
    return s->open_error[0] == '\0';
}

struct sdl *sdl_create(struct loop *loop, struct display *d, struct input *in,
                       const struct sdl_config *cfg, char *err, size_t errlen)
{
    const struct sdl_lib *lib = sdl_lib_load(err, errlen);
    struct sdl *s;

    if (lib == NULL) {
        return NULL;
    }
    /* SDL asks for the user's D-Bus, of which we need nothing; libdbus would start one for root. */
    setenv("DBUS_SESSION_BUS_ADDRESS", "disabled:", 0);
    s = sdl_new(loop, d, in, cfg);
    if (s != NULL) {
        s->lib = lib;
        s->ui = sdl_ui_create(s);
    }
    if (s == NULL || s->ui == NULL || start_thread(s) != 0) {
        snprintf(err, errlen, "-display sdl: no memory or no thread for a window");
        sdl_destroy(s);
        return NULL;
    }
    if (!wait_opened(s, err, errlen)) {
        sdl_destroy(s);
        return NULL;
    }
    s->was_open = true;
    return s;
}

void sdl_destroy(struct sdl *s)
{
    if (s == NULL) {
        return;
    }
    loop_unwatch(&s->up_watch);
    display_remove_viewer(s->display, s);
    input_unwatch(s->input, s);
    pthread_mutex_lock(&s->life);
    s->quit = true;
    pthread_mutex_unlock(&s->life);
    pthread_mutex_lock(&s->lock);
    s->woken = false; /* whatever was said before */
    wake_ui(s);
    pthread_mutex_unlock(&s->lock);
    if (s->thread_running) {
        const struct timespec until = seconds_from_now(CLOSE_SECONDS);

        if (pthread_clockjoin_np(s->thread, NULL, CLOCK_MONOTONIC, &until) != 0) {
            /* It waits for X. With quit set it touches nothing but s, which is left to it. */
            if (s->was_open) {
                log_msg("SDL: the X server does not answer; leaving the window to its fate");
            }
            return;
        }
    }
    sdl_free(s);
}
