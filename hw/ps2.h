/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * PS/2 keyboard (IBM enhanced, 102 keys and more, scan code sets 1-3) and mouse (standard,
 * IntelliMouse wheel, five buttons), as they stand behind the 8042's two ports. Parts of struct
 * i8042, not devices of the board. Sources: IBM PS/2 Hardware Interface Technical Reference
 * (keyboard and auxiliary device sections); Microsoft "Keyboard Scan Code Specification" 1.3a;
 * Microsoft IntelliMouse wheel protocol.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/loop.h"
#include "core/save.h"
#include "ui/input.h"

enum { PS2_FIFO_SIZE = 16 };

struct ps2_fifo {
    uint8_t data[PS2_FIFO_SIZE];
    uint8_t head, count; /* head < PS2_FIFO_SIZE, count <= PS2_FIFO_SIZE */
};

/* What waits for the controller: answers to commands overtake scan codes and packets. */
struct ps2_out {
    struct ps2_fifo reply;
    struct ps2_fifo stream;
};

struct ps2_kbd_regs {
    struct ps2_out out;
    uint8_t last;       /* last byte sent, for RESEND */
    uint8_t expect;     /* command that waits for its argument, 0: none */
    uint8_t set;        /* scan code set, 1..3 */
    uint8_t leds;       /* argument of the LED command */
    uint8_t typematic;  /* argument of the typematic command */
    uint8_t print_mode; /* how Print Screen was pressed: enum in ps2.c */
    bool scanning;
    uint8_t down
        [32]; /* bit per key number: held, and not kept from the guest because the queue was full */
    uint8_t late[32]; /* released, but the break code found the queue full and is still to come */
    uint8_t repeats[18]; /* set 3, bit per scan code below 0x90: sends makes again while held */
    uint8_t breaks[18];  /* set 3: sends a break code */
};

struct ps2_kbd {
    struct ps2_kbd_regs r;
    struct {
        struct input *input;
        void (*notify)(void *opaque); /* something was queued */
        void *opaque;
    } h;
};

struct ps2_mouse_regs {
    struct ps2_out out;
    uint8_t last[4], last_len; /* last answer or packet, for RESEND */
    uint8_t expect;            /* command that waits for its argument, 0: none */
    uint8_t id;                /* 0 standard, 3 wheel, 4 five buttons */
    uint8_t knock[2];          /* the two sample rates set before the current one */
    uint8_t resolution;        /* 0..3 */
    uint8_t rate;              /* samples per second */
    uint8_t buttons;           /* INPUT_BUTTON_* now */
    uint8_t sent_buttons;      /* ... and as last reported */
    bool remote, wrap, enabled, scaling_2to1;
    bool refused;       /* the last command was answered with RESEND */
    int32_t dx, dy, dz; /* movement not reported yet; dy down, dz towards the user */
};

struct ps2_mouse {
    struct ps2_mouse_regs r;
    struct {
        struct loop *loop;
        struct timer timer; /* armed only while movement waits for its turn */
        uint64_t next_ns;   /* earliest time of the next movement packet */
        void (*notify)(void *opaque);
        void *opaque;
    } h;
};

/* Both: notify(opaque) is called whenever bytes become available outside of ps2_*_write(). `input`
 * may be NULL (no viewers). ps2_*_init() registers with `input`: 0 or -errno. ps2_*_fini() undoes
 * it. */
int ps2_kbd_init(struct ps2_kbd *k, struct input *input, void (*notify)(void *opaque),
                 void *opaque);
void ps2_kbd_fini(struct ps2_kbd *k);
void ps2_kbd_reset(struct ps2_kbd *k); /* power-on state, nothing queued */
/* A byte from the host: command or argument. */
void ps2_kbd_write(struct ps2_kbd *k, uint8_t value);
bool ps2_kbd_has_reply(const struct ps2_kbd *k);
bool ps2_kbd_has_scancode(const struct ps2_kbd *k);
/* Takes the next byte (an answer first); only when there is one. */
uint8_t ps2_kbd_read(struct ps2_kbd *k);
/* Moves the registers; false if what was loaded is refused. Nothing is applied until
 * ps2_kbd_loaded(). */
bool ps2_kbd_state(struct ps2_kbd_regs *r, struct save_stream *s);
void ps2_kbd_loaded(struct ps2_kbd *k);

int ps2_mouse_init(struct ps2_mouse *m, struct loop *loop, struct input *input,
                   void (*notify)(void *opaque), void *opaque);
void ps2_mouse_fini(struct ps2_mouse *m, struct input *input);
void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_write(struct ps2_mouse *m, uint8_t value);
bool ps2_mouse_has_data(const struct ps2_mouse *m);
uint8_t ps2_mouse_read(struct ps2_mouse *m);
bool ps2_mouse_state(struct ps2_mouse_regs *r, struct save_stream *s);
void ps2_mouse_loaded(struct ps2_mouse *m);
