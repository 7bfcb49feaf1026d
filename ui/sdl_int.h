/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The parts of the SDL window: sdl.c is the loop thread's side, sdl_ui.c the UI thread (window,
 * events, pointer), sdl_draw.c its picture, sdl_keys.c its keyboard, sdl_lib.c how SDL is reached.
 * struct sdl is shared under its locks; everything in struct sdl_ui belongs to the UI thread.
 *
 * The UI thread sleeps in poll() on the X connection and an eventfd, not in SDL_WaitEvent(): to end
 * that, SDL_PushEvent() writes to the X server from the thread that calls it, and the loop thread
 * must never wait for an X server.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "core/loop.h"
#include "ui/display.h"
#include "ui/rects.h"
#include "ui/scale.h"
#include "ui/sdl.h"
#include "ui/sdl_lib.h"

struct sdl_ui;

struct sdl {
    struct sdl_config cfg; /* name is a copy */
    struct loop *loop;
    struct display *display;
    struct input *input;
    const struct sdl_lib *lib;

    pthread_t thread;
    bool thread_running;
    struct sdl_ui *ui;
    sem_t opened; /* the thread has a window, or open_error */
    char open_error[256];
    bool was_open; /* loop thread */

    int up_fd; /* eventfd, UI thread to loop thread */
    struct watch up_watch;
    atomic_bool want_picture; /* the window can be seen */
    atomic_bool want_full;    /* ... and has no picture yet */
    atomic_bool want_kick;
    atomic_bool want_close; /* the user closed it */
    atomic_bool gone;       /* the X server went away, and the thread with it */
    bool active;            /* loop thread: what the display was told */

    /* Held by the UI thread around every use of display and input, never while it calls SDL; with
     * quit set under it they are used no more. Taken outside all other locks. */
    pthread_mutex_t life;
    bool quit;

    int wake_fd;          /* eventfd, loop thread to UI thread */
    pthread_mutex_t lock; /* everything below. Taken inside the display's lock, never around it */
    bool woken;
    bool drawn; /* dirty is worth a look */
    struct rects dirty;
    bool cursor_changed;
    struct display_cursor_image cursor;
    unsigned leds;      /* the guest's keyboard, INPUT_LED_* */
    bool leds_followed; /* the guest has set them since we last pressed a lock key for it */
    bool absolute;      /* the guest has a pointer that takes positions */
};

/* sdl.c: everything but the library and the thread; for tests that turn the crank themselves. NULL
 * with errno. */
struct sdl *sdl_new(struct loop *loop, struct display *d, struct input *in,
                    const struct sdl_config *cfg);
/* UI thread: has the loop thread look at the want_ flags. */
void sdl_signal_loop(struct sdl *s);

enum { SDL_KEY_BYTES = 256 / 8, SDL_SCANCODE_BYTES = SDL_NUM_SCANCODES / 8 };

struct sdl_ui {
    struct sdl *s;
    const struct sdl_lib *lib;
    SDL_Window *window;
    int x_fd;             /* the X connection; -1: none, SDL is asked at intervals */
    uint64_t restless_ns; /* SDL still has something to do by then, with no event to say so */
    const SDL_Surface *drawn_on; /* what the last picture was drawn on */
    bool redraw;                 /* all of the window */
    bool visible;
    bool full_screen;
    bool grabbed;        /* the keyboard, and the pointer where it is relative */
    bool grabbed_before; /* ... when the full screen began */
    bool absolute;       /* as in struct sdl */
    uint64_t kick_ns;

    uint32_t *pixels; /* the copy, rows of width pixels; NULL: no picture */
    size_t pixel_bytes;
    int width, height;
    struct rect view; /* where in the window the picture is */
    struct display_cursor_image cursor;
    struct rect cursor_rect;             /* where it is drawn; w 0: nowhere */
    uint32_t line[2][DISPLAY_MAX_WIDTH]; /* source rows with the cursor */
    uint32_t *scaled;                    /* one row of the window */
    int scaled_width;

    uint8_t held[SDL_KEY_BYTES];           /* keys that the guest holds down for us */
    uint8_t down[SDL_SCANCODE_BYTES];      /* keys that the user holds down */
    uint8_t swallowed[SDL_SCANCODE_BYTES]; /* ... of which the guest does not hear */
    unsigned x_key;                        /* X's number of the key that the next event tells of */
    bool chord;                            /* the keys of grab_mod, and no other since, are down */
    unsigned buttons;                      /* INPUT_BUTTON_* that the guest holds down for us */
    int x, y;                              /* the last position, 0..32767 */
};

/* sdl_ui.c */
struct sdl_ui *sdl_ui_create(struct sdl *s);
void sdl_ui_destroy(struct sdl_ui *ui);
/* Opens the window. false with one line in err. */
bool sdl_ui_open(struct sdl_ui *ui, char *err, size_t errlen);
void sdl_ui_close(struct sdl_ui *ui);
/* One turn: waits at most max_wait_ms (-1: for ever) and handles what came. false: quit. */
bool sdl_ui_turn(struct sdl_ui *ui, int max_wait_ms);
/* The thread. */
void *sdl_ui_main(void *arg);
/* Passes an event on to the guest, and asks for a fresh picture soon. */
struct input_event;
void sdl_ui_post(struct sdl_ui *ui, const struct input_event *ev);
/* What the hot keys do. */
void sdl_ui_grab(struct sdl_ui *ui, bool on);
void sdl_ui_full_screen(struct sdl_ui *ui, bool on);
void sdl_ui_natural_size(struct sdl_ui *ui);

/* sdl_draw.c */
/* Takes over what changed and draws it on the window. true: the picture has another size. */
bool sdl_draw_sync(struct sdl_ui *ui);
/* Draws all of the window. */
void sdl_draw_all(struct sdl_ui *ui);
void sdl_draw_free(struct sdl_ui *ui);

/* sdl_keys.c */
/* The key (ui/input.h) at that place of the keyboard; 0: none. */
uint8_t sdl_keys_code(SDL_Scancode scancode);
void sdl_keys_event(struct sdl_ui *ui, const SDL_KeyboardEvent *e);
void sdl_keys_release_all(struct sdl_ui *ui);
/* The window has the keyboard: presses the guest's lock keys that differ from the host's. */
void sdl_keys_sync_locks(struct sdl_ui *ui);
/* "Ctrl+Alt", for messages. */
const char *sdl_keys_mod_name(enum sdl_grab_mod mod);
