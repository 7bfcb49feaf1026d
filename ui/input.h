/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Input routing between viewers and input devices. Keys are numbered as PC scan code set 1 "make"
 * codes, 0x01..0x7f; keys with an E0 prefix have bit 7 set (0xc8 = cursor up); Pause is 0xc6 and
 * Print Screen 0xb7, as in the VNC "QEMU extended key event". Loop thread only: viewers on other
 * threads send events with input_post().
 */
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct input;

enum { INPUT_KEY_PAUSE = 0xc6, INPUT_KEY_PRINT = 0xb7 };
enum {
    INPUT_BUTTON_LEFT = 1,
    INPUT_BUTTON_RIGHT = 2,
    INPUT_BUTTON_MIDDLE = 4,
    INPUT_BUTTON_SIDE = 8,
    INPUT_BUTTON_EXTRA = 16
};
enum { INPUT_LED_SCROLL = 1, INPUT_LED_NUM = 2, INPUT_LED_CAPS = 4 };

struct input *input_create(struct loop *loop);
void input_destroy(struct input *in);

/* ---- devices ---- */
struct input_keyboard {
    void (*key)(void *dev, uint8_t key, bool down);
};
/* The active one added last gets the presses (a USB keyboard beats PS/2), all get the releases: what
 * is not held is to be ignored. */
int input_add_keyboard(struct input *in, const struct input_keyboard *kbd, void *dev);
struct input_pointer {
    /* dx right, dy down, dz wheel (+ towards the user), buttons: INPUT_BUTTON_*. NULL if absolute
     * only. */
    void (*relative)(void *dev, int dx, int dy, int dz, unsigned buttons);
    /* x, y: 0..32767 across the picture. NULL if relative only. */
    void (*absolute)(void *dev, int x, int y, int dz, unsigned buttons);
};
int input_add_pointer(struct input *in, const struct input_pointer *ptr, void *dev);
void input_remove(struct input *in, void *dev);
/* A device that the guest does not drive (yet) gets nothing; devices are active when added. */
void input_set_active(struct input *in, const void *dev, bool active);
/* The device tells the LEDs (INPUT_LED_*). */
void input_set_leds(struct input *in, unsigned leds);

/* ---- viewers ---- */
unsigned input_leds(const struct input *in);
/* True if an active pointer device takes absolute positions. */
bool input_has_absolute(const struct input *in);
/* Has changed(ui) called, on the loop thread, whenever what one of the two above tells is another
 * than before. It must not call back into input but for these two. 0, or -ENOSPC. */
int input_watch(struct input *in, void (*changed)(void *ui), void *ui);
void input_unwatch(struct input *in, void *ui);
struct input_event {
    enum { INPUT_EVENT_KEY, INPUT_EVENT_RELATIVE, INPUT_EVENT_ABSOLUTE } type;
    uint8_t key;
    bool down;
    int x, y, dz; /* relative: deltas; absolute: 0..32767 */
    unsigned buttons;
};
/* Loop thread. An absolute event goes to an absolute pointer if there is one; else, with
 * relative-only devices, it is turned into deltas in pixels of the picture size given with
 * input_set_size(). */
void input_send(struct input *in, const struct input_event *ev);
void input_set_size(struct input *in, int width, int height);
/* Any thread: the absolute position (INPUT_EVENT_ABSOLUTE) of a pixel in a picture so many pixels wide or high, such
 * that the guest gets that very pixel back; clamped to the picture. */
int input_position(int64_t pixel, int size);
/* Any thread: queues (bounded, merges pointer moves, drops the oldest moves when full; never drops
 * key releases). */
void input_post(struct input *in, const struct input_event *ev);
