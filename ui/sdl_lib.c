/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ui/sdl_lib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <SDL_syswm.h>

#include "core/log.h"

static const char sdl_file[] = "libSDL2-2.0.so.0";
static const char xlib_file[] = "libX11.so.6"; /* the one that libSDL2 uses */

static const struct {
    const char *name;
    size_t offset;
} functions[] = {{"SDL_GetWindowWMInfo", offsetof(struct sdl_lib, GetWindowWMInfo)},
#define SDL_LIB_ROW(name) {"SDL_" #name, offsetof(struct sdl_lib, name)},
                 SDL_LIB_FUNCTIONS(SDL_LIB_ROW)
#undef SDL_LIB_ROW
};

const struct sdl_lib *sdl_lib_load(char *err, size_t errlen)
{
    static struct sdl_lib lib;
    static void *handle;

    if (handle != NULL) {
        return &lib;
    }
    handle = dlopen(sdl_file, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        snprintf(err, errlen,
                 "-display sdl: %s cannot be loaded: install the package libsdl2-2.0-0, or use "
                 "vnc=1 instead of sdl=1 in the guest's config",
                 sdl_file);
        return NULL;
    }
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *symbol = dlsym(handle, functions[i].name);

        if (symbol == NULL) {
            snprintf(err, errlen,
                     "-display sdl: %s has no %s: version 2.0.16 of libSDL2 or later is needed",
                     sdl_file, functions[i].name);
            dlclose(handle);
            handle = NULL;
            return NULL;
        }
        memcpy((char *)&lib + functions[i].offset, &symbol, sizeof(symbol));
    }
    return &lib;
}

/* ---- errors of X ---- */

/* Xlib's handlers get no argument of ours. There is one thread that uses X. */
static _Thread_local struct {
    void (*gone)(void *arg);
    void *arg;
} x_user;

static int on_x_error(Display *display, XErrorEvent *e)
{
    static struct log_limit limit;

    (void)display;
    log_limited(&limit, "SDL: the X server refused request %u.%u: error %u", e->request_code,
                e->minor_code, e->error_code);
    return 0;
}

/* Xlib ends the process when this returns (XSetIOErrorHandler(3)), and does not care if it never
 * does. What it and SDL hold is lost with the thread. XSetIOErrorExitHandler() would come back into
 * SDL, which goes on with a display that no longer exists. */
static int on_x_gone(Display *display)
{
    (void)display;
    if (x_user.gone != NULL) {
        x_user.gone(x_user.arg);
    }
    pthread_exit(NULL);
}

void sdl_lib_catch_x_errors(void (*gone)(void *arg), void *arg)
{
    __typeof__(XSetErrorHandler) *set_error_handler = NULL;
    __typeof__(XSetIOErrorHandler) *set_io_error_handler = NULL;
    void *xlib = dlopen(xlib_file, RTLD_NOW | RTLD_LOCAL);
    void *symbol;

    x_user.gone = gone;
    x_user.arg = arg;
    if (xlib == NULL) {
        return; /* then SDL has no use for it, either */
    }
    symbol = dlsym(xlib, "XSetErrorHandler");
    memcpy(&set_error_handler, &symbol, sizeof(symbol));
    symbol = dlsym(xlib, "XSetIOErrorHandler");
    memcpy(&set_io_error_handler, &symbol, sizeof(symbol));
    if (set_error_handler != NULL && set_io_error_handler != NULL) {
        set_error_handler(on_x_error);
        set_io_error_handler(on_x_gone);
    }
}

unsigned sdl_lib_x_key(const SDL_SysWMEvent *e)
{
    const SDL_SysWMmsg *m = e->msg;
    bool key = m->subsystem == SDL_SYSWM_X11 &&
               (m->msg.x11.event.type == KeyPress || m->msg.x11.event.type == KeyRelease);

    return key ? m->msg.x11.event.xkey.keycode : 0;
}

int sdl_lib_x_fd(const struct sdl_lib *lib, SDL_Window *window)
{
    SDL_SysWMinfo info;

    SDL_VERSION(&info.version);
    if (!lib->GetWindowWMInfo(window, &info) || info.subsystem != SDL_SYSWM_X11) {
        return -1;
    }
    return ConnectionNumber(info.info.x11.display);
}
