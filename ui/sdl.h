/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A window on the host's X display, through SDL 2: picture, keyboard, pointer. libSDL2 is loaded
 * when a window is asked for (sdl_lib.h); a host that only uses VNC does not need it.
 *
 * SDL and Xlib run on one thread of their own with a copy of the picture, and on no other: the loop
 * thread only notes which rectangles changed and wakes that thread, so an X server that is slow,
 * stopped or gone delays nobody. When it is gone the window is, too, and the guest runs on. While
 * the window is minimised the copy does not exist and the display does not draw. All functions here
 * are for the loop thread.
 */
#include <stdbool.h>
#include <stddef.h>

struct display;
struct input;
struct loop;
struct sdl;

/* Keys that release the grab, and with F, G or U do what the title says. */
enum sdl_grab_mod { SDL_GRAB_LCTRL_LALT, SDL_GRAB_LSHIFT_LCTRL_LALT, SDL_GRAB_RCTRL };

struct sdl_config {
    const char *name; /* in the title; NULL: "hvm-dm" */
    enum sdl_grab_mod grab_mod;
    bool full_screen; /* from the start */
    bool show_cursor; /* the host's pointer stays visible over a guest that takes positions */
    /* Loop thread: the user closed the window, which stays. NULL: that is refused. */
    void (*closed)(void *opaque);
    void *opaque;
};

/* Opens the window (waits for the X server). To be called before threads that read the environment
 * exist. Borrows loop, d and in, which must outlive it; cfg only
 * during the call. NULL with one line in err that names what is missing. */
struct sdl *sdl_create(struct loop *loop, struct display *d, struct input *in,
                       const struct sdl_config *cfg, char *err, size_t errlen);
/* Closes it. Does not wait for an X server that does not answer. NULL is fine. */
void sdl_destroy(struct sdl *s);
