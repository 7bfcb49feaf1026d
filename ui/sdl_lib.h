/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * libSDL2, loaded at run time: built with its headers, linked with nothing. Also the answer to
 * Xlib's habit of ending the process on errors. UI thread, but for sdl_lib_load().
 */
#include <stdbool.h>
#include <stddef.h>

#include <SDL.h>

/* All that is used of it. */
#define SDL_LIB_FUNCTIONS(F)                                                                       \
    F(Init)                                                                                        \
    F(Quit)                                                                                        \
    F(GetError)                                                                                    \
    F(SetHintWithPriority)                                                                         \
    F(StopTextInput)                                                                               \
    F(GetCurrentVideoDriver)                                                                       \
    F(EventState)                                                                                  \
    F(GetDisplayUsableBounds)                                                                      \
    F(GetWindowPosition)                                                                           \
    F(SetWindowPosition)                                                                           \
    F(GetWindowBordersSize)                                                                        \
    F(GetWindowDisplayIndex)                                                                       \
    F(CreateWindow)                                                                                \
    F(DestroyWindow)                                                                               \
    F(GetWindowFlags)                                                                              \
    F(GetWindowSurface)                                                                            \
    F(UpdateWindowSurfaceRects)                                                                    \
    F(SetWindowSize)                                                                               \
    F(SetWindowTitle)                                                                              \
    F(SetWindowFullscreen)                                                                         \
    F(SetWindowKeyboardGrab)                                                                       \
    F(SetRelativeMouseMode)                                                                        \
    F(ShowCursor)                                                                                  \
    F(FillRect)                                                                                    \
    F(ConvertPixels)                                                                               \
    F(PollEvent)                                                                                   \
    F(PushEvent)                                                                                   \
    F(GetModState)                                                                                 \
    F(SetModState)

struct SDL_SysWMinfo; /* its header has all of X's macros in it */

struct sdl_lib {
    SDL_bool (*GetWindowWMInfo)(SDL_Window *window, struct SDL_SysWMinfo *info);
#define SDL_LIB_FIELD(name) __typeof__(SDL_##name) *name;
    SDL_LIB_FUNCTIONS(SDL_LIB_FIELD)
#undef SDL_LIB_FIELD
};

/* Loads it once; it stays. NULL with one line in err that names the package. */
const struct sdl_lib *sdl_lib_load(char *err, size_t errlen);

/* From here on an error that the X server reports is a line in the log, and the end of the
 * connection calls gone(arg) and ends the calling thread; Xlib would end the process. Has to be
 * called on the thread that uses X, before SDL_Init(). */
void sdl_lib_catch_x_errors(void (*gone)(void *arg), void *arg);

/* X's number of the key that an SDL_SYSWMEVENT tells of; 0 if it tells of something else. */
unsigned sdl_lib_x_key(const SDL_SysWMEvent *e);

/* The descriptor on which the X server's events arrive, -1 if the window is not on X. */
int sdl_lib_x_fd(const struct sdl_lib *lib, SDL_Window *window);
