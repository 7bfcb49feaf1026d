/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/ps2.h"

#include <errno.h>
#include <string.h>

enum {
    PS2_ACK = 0xfa,
    PS2_RESEND = 0xfe, /* in both directions */
    PS2_ERROR = 0xfc,  /* mouse: second refusal in a row */
    PS2_BAT_OK = 0xaa,
    PS2_RESET = 0xff,
};

/* ---- byte queues ---- */

static void fifo_clear(struct ps2_fifo *f)
{
    f->head = 0;
    f->count = 0;
}

static unsigned fifo_room(const struct ps2_fifo *f)
{
    return PS2_FIFO_SIZE - (unsigned)f->count;
}

/* All n bytes or, when they do not fit, none: a sequence cut short would be a different key. */
static bool fifo_put(struct ps2_fifo *f, const uint8_t *bytes, unsigned n)
{
    if (n > fifo_room(f)) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        f->data[(f->head + f->count) % PS2_FIFO_SIZE] = bytes[i];
        f->count++;
    }
    return true;
}

static uint8_t fifo_get(struct ps2_fifo *f)
{
    uint8_t v = f->data[f->head % PS2_FIFO_SIZE];

    f->head = (uint8_t)((f->head + 1) % PS2_FIFO_SIZE);
    f->count--;
    return v;
}

static bool fifo_state(struct ps2_fifo *f, struct save_stream *s)
{
    save_bytes(s, f->data, sizeof(f->data));
    save_u8(s, &f->head);
    save_u8(s, &f->count);
    return f->head < PS2_FIFO_SIZE && f->count <= PS2_FIFO_SIZE;
}

/* ---- keyboard: scan codes ---- */

enum { PRINT_PLAIN, PRINT_SHIFTED, PRINT_ALT };
enum {
    KEY_LCTRL = 0x1d,
    KEY_LSHIFT = 0x2a,
    KEY_RSHIFT = 0x36,
    KEY_LALT = 0x38,
    KEY_SYSRQ = 0x54,
    KEY_HANJA = 0x71,
    KEY_HANGEUL = 0x72,
    KEY_RCTRL = 0x9d,
    KEY_RALT = 0xb8,
    SEQUENCE_MAX = 8, /* Pause in set 2 */
    SET3_CODES = 0x90,
};

/* Set 1 make code -> set 2 make code; keys with the E0 prefix use the same pairs. (Scan Code
 * Specification, appendix A) */
static const uint8_t set2_codes[128] = {
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b,
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a,
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03,
    0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69,
    0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f,
    0x47, 0x4f, 0x56, 0x5e, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f,
    0x13, 0x19, 0x39, 0x51, 0x53, 0x5c, 0x5f, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e,
};

/* Key number -> set 3 code, 0: the key has none. First plain keys, then those with the E0 bit.
 * (IBM, scan code set 3) */
static const uint8_t set3_codes[256] = {
    0x00,          0x08,          0x16,          0x1e,          0x26,          0x25,
    0x2e,          0x36,          0x3d,          0x3e,          0x46,          0x45,
    0x4e,          0x55,          0x66,          0x0d,          0x15,          0x1d,
    0x24,          0x2d,          0x2c,          0x35,          0x3c,          0x43,
    0x44,          0x4d,          0x54,          0x5b,          0x5a,          0x11,
    0x1c,          0x1b,          0x23,          0x2b,          0x34,          0x33,
    0x3b,          0x42,          0x4b,          0x4c,          0x52,          0x0e,
    0x12,          0x5c,          0x1a,          0x22,          0x21,          0x2a,
    0x32,          0x31,          0x3a,          0x41,          0x49,          0x4a,
    0x59,          0x7e,          0x19,          0x29,          0x14,          0x07,
    0x0f,          0x17,          0x1f,          0x27,          0x2f,          0x37,
    0x3f,          0x47,          0x4f,          0x76,          0x5f,          0x6c,
    0x75,          0x7d,          0x84,          0x6b,          0x73,          0x74,
    0x7c,          0x69,          0x72,          0x7a,          0x70,          0x71,
    0x57,          0x00,          0x13,          0x56,          0x5e,          0x00,
    0x00,          0x00,          0x00,          0x00,          0x00,          0x00,
    0x00,          0x00,          0x00,          0x00,          0x7f,          0x80,
    0x81,          0x82,          0x83,          0x00,          0x00,          0x00,
    0x00,          0x00,          0x00,          0x00,          0x87,          0x00,
    0x00,          0x51,          0x00,          0x00,          0x00,          0x00,
    0x00,          0x86,          0x00,          0x85,          0x00,          0x5d,
    0x7b,          0x00,          [0x9c] = 0x79, [0x9d] = 0x58, [0xb5] = 0x77, [0xb7] = 0x57,
    [0xb8] = 0x39, [0xc6] = 0x62, [0xc7] = 0x6e, [0xc8] = 0x63, [0xc9] = 0x6f, [0xcb] = 0x61,
    [0xcd] = 0x6a, [0xcf] = 0x65, [0xd0] = 0x60, [0xd1] = 0x6d, [0xd2] = 0x67, [0xd3] = 0x64,
    [0xdb] = 0x8b, [0xdc] = 0x8c, [0xdd] = 0x8d,
};

/* Set 3 at power-on, bit per code: most keys repeat; shift, control and alt keys make and break;
 * the rest only make. */
static const uint8_t set3_repeats[SET3_CODES / 8] = {
    0x7f, 0x7e, 0x69, 0x7d, 0x7f, 0x7f, 0x7f, 0x7d, 0x7f,
    0x7f, 0x3f, 0x3c, 0x5b, 0x05, 0x00, 0x99, 0xef, 0xc7,
};
static const uint8_t set3_breaks[SET3_CODES / 8] = {[2] = 0x16, [3] = 0x02, [11] = 0x02};

static bool bit_get(const uint8_t *map, unsigned n)
{
    return map[n >> 3] >> (n & 7) & 1;
}

static void bit_set(uint8_t *map, unsigned n, bool on)
{
    map[n >> 3] = (uint8_t)((map[n >> 3] & ~(1u << (n & 7))) | (on ? 1u << (n & 7) : 0));
}

struct sequence {
    uint8_t bytes[SEQUENCE_MAX];
    unsigned n;
};

static void put_byte(struct sequence *q, unsigned v)
{
    if (q->n < SEQUENCE_MAX) {
        q->bytes[q->n++] = (uint8_t)v;
    }
}

/* Appends one key of set 1 or 2. code: set 1 make code, bit 7 = E0 prefix. */
static void put_key(struct sequence *q, unsigned set, unsigned code, bool down)
{
    if (code & 0x80) {
        put_byte(q, 0xe0);
        code &= 0x7f;
    }
    if (set == 1) {
        put_byte(q, down ? code : code | 0x80);
        return;
    }
    if (!down) {
        put_byte(q, 0xf0);
    }
    put_byte(q, set2_codes[code]);
}

static bool ctrl_down(const struct ps2_kbd_regs *r)
{
    return bit_get(r->down, KEY_LCTRL) || bit_get(r->down, KEY_RCTRL);
}

/* Print Screen is SysRq with Alt, bare with Shift or Control, and wrapped in a made-up Shift
 * otherwise. */
static void put_print(struct ps2_kbd_regs *r, struct sequence *q, bool down)
{
    if (down) {
        r->print_mode =
            bit_get(r->down, KEY_LALT) || bit_get(r->down, KEY_RALT) ? PRINT_ALT
            : ctrl_down(r) || bit_get(r->down, KEY_LSHIFT) || bit_get(r->down, KEY_RSHIFT)
                ? PRINT_SHIFTED
                : PRINT_PLAIN;
    }
    if (r->print_mode == PRINT_ALT) {
        put_key(q, r->set, KEY_SYSRQ, down);
        return;
    }
    if (r->print_mode == PRINT_PLAIN && down) {
        put_key(q, r->set, 0x80 | KEY_LSHIFT, true);
    }
    put_key(q, r->set, INPUT_KEY_PRINT, down);
    if (r->print_mode == PRINT_PLAIN && !down) {
        put_key(q, r->set, 0x80 | KEY_LSHIFT, false);
    }
}

/* Pause sends make and break at once and nothing on release. */
static void put_pause(const struct ps2_kbd_regs *r, struct sequence *q, bool down)
{
    if (!down) {
        return;
    }
    if (ctrl_down(r)) { /* Break */
        put_key(q, r->set, INPUT_KEY_PAUSE, true);
        put_key(q, r->set, INPUT_KEY_PAUSE, false);
        return;
    }
    put_byte(q, 0xe1);
    put_key(q, r->set, KEY_LCTRL, true);
    put_key(q, r->set, 0x45, true);
    put_byte(q, 0xe1);
    put_key(q, r->set, KEY_LCTRL, false);
    put_key(q, r->set, 0x45, false);
}

static void put_set3(const struct ps2_kbd_regs *r, struct sequence *q, uint8_t key, bool down,
                     bool repeat)
{
    unsigned code = set3_codes[key];

    if (code == 0 || code >= SET3_CODES || (repeat && !bit_get(r->repeats, code))) {
        return;
    }
    if (!down) {
        if (!bit_get(r->breaks, code)) {
            return;
        }
        put_byte(q, 0xf0);
    }
    put_byte(q, code);
}

static struct sequence make_sequence(struct ps2_kbd_regs *r, uint8_t key, bool down, bool repeat)
{
    struct sequence q = {.n = 0};

    if (key == KEY_HANJA || key == KEY_HANGEUL) { /* Korean: one make-only code in every set */
        if (down && !repeat) {
            put_byte(&q, 0xf0u | (key & 3u));
        }
    } else if (r->set == 3) {
        put_set3(r, &q, key, down, repeat);
    } else if (key == INPUT_KEY_PAUSE) {
        put_pause(r, &q, down && !repeat);
    } else if (key == INPUT_KEY_PRINT) {
        put_print(r, &q, down);
    } else {
        /* DEVIATION: no made-up Shift codes around the cursor block (E0 2A with Num Lock): guests
         * skip them, and they would go wrong whenever the viewer's Num Lock differs from the
         * guest's. */
        put_key(&q, r->set, key, down);
    }
    return q;
}

static void send_late_releases(struct ps2_kbd_regs *r)
{
    for (unsigned key = 0; key < 256; key++) {
        if (r->late[key >> 3] == 0) {
            key |= 7;
        } else if (bit_get(r->late, key)) {
            struct sequence q = make_sequence(r, (uint8_t)key, false, false);

            if (!fifo_put(&r->out.stream, q.bytes, q.n)) {
                return;
            }
            bit_set(r->late, key, false);
        }
    }
}

/*
 * DEVIATION: the keyboard does not repeat a held key by its own clock; it passes on the repeats
 * that viewers send. A release that is late on the network must not become a run of characters, and
 * an idle guest must cost nothing.
 */
static void ps2_kbd_key(void *dev, uint8_t key, bool down)
{
    struct ps2_kbd *k = dev;
    struct ps2_kbd_regs *r = &k->r;
    bool known = bit_get(r->down, key);

    if ((key & 0x7f) == 0 || (!down && !known)) {
        return;
    }
    if (!r->scanning) {
        bit_set(r->down, key, down);
        return;
    }
    send_late_releases(r);
    if (down && bit_get(r->late, key)) {
        return; /* still full */
    }

    struct sequence q = make_sequence(r, key, down, down && known);
    bool fits = fifo_put(&r->out.stream, q.bytes, q.n);

    if (!down && !fits) {
        bit_set(r->late, key, true);
    }
    if (!down || fits) {
        bit_set(r->down, key, down);
    }
    if (fits && q.n) {
        k->h.notify(k->h.opaque);
    }
}

static const struct input_keyboard ps2_kbd_input = {.key = ps2_kbd_key};

/* ---- keyboard: commands ---- */

enum {
    KBD_SET_LEDS = 0xed,
    KBD_ECHO = 0xee,
    KBD_SCANCODE_SET = 0xf0,
    KBD_IDENTIFY = 0xf2,
    KBD_TYPEMATIC = 0xf3,
    KBD_ENABLE = 0xf4,
    KBD_DEFAULT_DISABLE = 0xf5,
    KBD_DEFAULT = 0xf6,
    KBD_ALL_TYPEMATIC = 0xf7,
    KBD_ALL_MAKE_BREAK = 0xf8,
    KBD_ALL_MAKE = 0xf9,
    KBD_ALL_BOTH = 0xfa,
    KBD_KEY_TYPEMATIC = 0xfb,
    KBD_KEY_MAKE_BREAK = 0xfc,
    KBD_KEY_MAKE = 0xfd,
    KBD_TYPEMATIC_DEFAULT = 0x2b, /* 10.9 characters per second after 500 ms */
};

static void kbd_reply(struct ps2_kbd *k, uint8_t v)
{
    fifo_put(&k->r.out.reply, &v, 1);
}

static void kbd_flush(struct ps2_kbd_regs *r)
{
    fifo_clear(&r->out.stream);
    memset(
        r->late, 0,
        sizeof(
            r->late)); /* keys stay down: their breaks come after the driver has enabled us again */
}

/* Command DEFAULT: everything but LEDs and scanning. */
static void kbd_defaults(struct ps2_kbd_regs *r)
{
    kbd_flush(r);
    r->set = 2;
    r->typematic = KBD_TYPEMATIC_DEFAULT;
    memcpy(r->repeats, set3_repeats, sizeof(r->repeats));
    memcpy(r->breaks, set3_breaks, sizeof(r->breaks));
}

static void kbd_set_leds(struct ps2_kbd *k, uint8_t leds)
{
    k->r.leds = leds & 7;
    if (k->h.input) {
        input_set_leds(k->h.input, k->r.leds); /* same bit order: Scroll, Num, Caps */
    }
}

static void kbd_power_on(struct ps2_kbd *k)
{
    kbd_defaults(&k->r);
    k->r.expect = 0;
    k->r.scanning = true;
    kbd_set_leds(k, 0);
}

/* The argument of the command k->r.expect. */
static void kbd_argument(struct ps2_kbd *k, uint8_t v)
{
    struct ps2_kbd_regs *r = &k->r;
    uint8_t cmd = r->expect;

    r->expect = 0;
    switch (cmd) {
    case KBD_SET_LEDS:
        kbd_set_leds(k, v);
        break;
    case KBD_TYPEMATIC:
        r->typematic = v & 0x7f;
        break;
    case KBD_SCANCODE_SET:
        if (v > 3) {
            kbd_reply(k, PS2_RESEND);
            return;
        }
        kbd_reply(k, PS2_ACK);
        if (v == 0) {
            kbd_reply(k, r->set);
        } else {
            kbd_flush(r);
            r->set = v;
        }
        return;
    default: /* KBD_KEY_*: a list of set 3 codes that the next command ends */
        r->expect = cmd;
        if (v < SET3_CODES) {
            bit_set(r->repeats, v, cmd == KBD_KEY_TYPEMATIC);
            bit_set(r->breaks, v, cmd == KBD_KEY_MAKE_BREAK);
        }
        break;
    }
    kbd_reply(k, PS2_ACK);
}

static void kbd_all_keys(struct ps2_kbd_regs *r, bool repeats, bool breaks)
{
    memset(r->repeats, repeats ? 0xff : 0, sizeof(r->repeats));
    memset(r->breaks, breaks ? 0xff : 0, sizeof(r->breaks));
}

void ps2_kbd_write(struct ps2_kbd *k, uint8_t v)
{
    struct ps2_kbd_regs *r = &k->r;

    fifo_clear(&r->out.reply);
    /* A byte in the command range is a command even where an argument is awaited. */
    if (r->expect && v < KBD_SET_LEDS) {
        kbd_argument(k, v);
        return;
    }
    r->expect = 0;
    switch (v) {
    case KBD_ECHO:
        kbd_reply(k, KBD_ECHO);
        return;
    case PS2_RESEND:
        kbd_reply(k, r->last);
        return;
    case KBD_IDENTIFY:
        kbd_reply(k, PS2_ACK);
        kbd_reply(k, 0xab);
        kbd_reply(k, 0x83);
        return;
    case PS2_RESET:
        kbd_power_on(k);
        kbd_reply(k, PS2_ACK);
        kbd_reply(
            k,
            PS2_BAT_OK); /* DEVIATION: at once, not after 500 ms of self test, for the boot time's sake */
        return;
    case KBD_SET_LEDS:
    case KBD_SCANCODE_SET:
    case KBD_TYPEMATIC:
    case KBD_KEY_TYPEMATIC:
    case KBD_KEY_MAKE_BREAK:
    case KBD_KEY_MAKE:
        r->expect = v;
        break;
    case KBD_ENABLE:
        kbd_flush(r);
        r->scanning = true;
        break;
    case KBD_DEFAULT_DISABLE:
    case KBD_DEFAULT:
        kbd_defaults(r);
        r->scanning = v == KBD_DEFAULT;
        break;
    case KBD_ALL_TYPEMATIC:
    case KBD_ALL_MAKE_BREAK:
    case KBD_ALL_MAKE:
    case KBD_ALL_BOTH:
        kbd_all_keys(r, v == KBD_ALL_TYPEMATIC || v == KBD_ALL_BOTH,
                     v == KBD_ALL_MAKE_BREAK || v == KBD_ALL_BOTH);
        break;
    case 0x00: /* DEVIATION: accepted, as the peer that guests have been tested on does */
        break;
    default:
        kbd_reply(k, PS2_RESEND);
        return;
    }
    kbd_reply(k, PS2_ACK);
}

bool ps2_kbd_has_reply(const struct ps2_kbd *k)
{
    return k->r.out.reply.count != 0;
}

bool ps2_kbd_has_scancode(const struct ps2_kbd *k)
{
    return k->r.out.stream.count != 0;
}

uint8_t ps2_kbd_read(struct ps2_kbd *k)
{
    struct ps2_kbd_regs *r = &k->r;

    if (r->out.reply.count) {
        r->last = fifo_get(&r->out.reply);
    } else if (r->out.stream.count) {
        r->last = fifo_get(&r->out.stream);
        send_late_releases(r);
    }
    return r->last;
}

int ps2_kbd_init(struct ps2_kbd *k, struct input *input, void (*notify)(void *opaque), void *opaque)
{
    k->h.input = input;
    k->h.notify = notify;
    k->h.opaque = opaque;
    return input ? input_add_keyboard(input, &ps2_kbd_input, k) : 0;
}

void ps2_kbd_fini(struct ps2_kbd *k)
{
    if (k->h.input) {
        input_remove(k->h.input, k);
    }
}

void ps2_kbd_reset(struct ps2_kbd *k)
{
    memset(&k->r, 0, sizeof(k->r));
    kbd_power_on(k);
}

bool ps2_kbd_state(struct ps2_kbd_regs *r, struct save_stream *s)
{
    bool ok = fifo_state(&r->out.reply, s);

    ok = fifo_state(&r->out.stream, s) && ok;
    save_u8(s, &r->last);
    save_u8(s, &r->expect);
    save_u8(s, &r->set);
    save_u8(s, &r->leds);
    save_u8(s, &r->typematic);
    save_u8(s, &r->print_mode);
    save_bool(s, &r->scanning);
    save_bytes(s, r->down, sizeof(r->down));
    save_bytes(s, r->late, sizeof(r->late));
    save_bytes(s, r->repeats, sizeof(r->repeats));
    save_bytes(s, r->breaks, sizeof(r->breaks));
    return ok && r->set >= 1 && r->set <= 3 && r->leds <= 7 && r->print_mode <= PRINT_ALT;
}

void ps2_kbd_loaded(struct ps2_kbd *k)
{
    kbd_set_leds(k, k->r.leds);
}

/* ---- mouse ---- */

enum {
    MOUSE_SCALE_1TO1 = 0xe6,
    MOUSE_SCALE_2TO1 = 0xe7,
    MOUSE_RESOLUTION = 0xe8,
    MOUSE_STATUS = 0xe9,
    MOUSE_STREAM = 0xea,
    MOUSE_READ = 0xeb,
    MOUSE_WRAP_OFF = 0xec,
    MOUSE_WRAP = 0xee,
    MOUSE_REMOTE = 0xf0,
    MOUSE_IDENTIFY = 0xf2,
    MOUSE_RATE = 0xf3,
    MOUSE_ENABLE = 0xf4,
    MOUSE_DISABLE = 0xf5,
    MOUSE_DEFAULT = 0xf6,
    MOUSE_ID_STANDARD = 0,
    MOUSE_ID_WHEEL = 3,
    MOUSE_ID_5BUTTON = 4,
    MOUSE_DEFAULT_RATE = 100,
    MOUSE_DEFAULT_RESOLUTION = 2,
    MOUSE_COUNT_MAX = 255, /* of the nine-bit counters; more goes into further packets */
    MOUSE_WHEEL_MAX = 7,
    MOUSE_BACKLOG = 10000, /* movement that nobody fetches saturates here */
};

static int32_t clamp32(int32_t v, int32_t limit)
{
    return v < -limit ? -limit : v > limit ? limit : v;
}

static uint8_t visible_buttons(const struct ps2_mouse_regs *r, uint8_t buttons)
{
    return buttons & (r->id == MOUSE_ID_5BUTTON ? 0x1f : 0x07);
}

static void mouse_clear_counters(struct ps2_mouse_regs *r)
{
    r->dx = 0;
    r->dy = 0;
    r->dz = 0;
}

/* Scaling 2:1 as the IBM manual tabulates it; stream mode only. */
static int32_t scale(int32_t n)
{
    static const uint8_t small[] = {0, 1, 1, 3, 6, 9};
    int32_t a = n < 0 ? -n : n;

    a = a < (int32_t)sizeof(small) ? small[a] : 2 * a;
    return n < 0 ? -a : a;
}

/* Takes what fits into one packet off the counters. Returns the length, 3 or 4.
 * DEVIATION: the resolution is kept but does not scale: a viewer's counts are pixels. */
static unsigned mouse_packet(struct ps2_mouse_regs *r, uint8_t p[4], bool stream)
{
    bool twice = stream && r->scaling_2to1;
    int32_t limit = twice ? MOUSE_COUNT_MAX / 2 : MOUSE_COUNT_MAX;
    int32_t dx = clamp32(r->dx, limit);
    int32_t dy = clamp32(r->dy, limit);
    int32_t dz = clamp32(r->dz, MOUSE_WHEEL_MAX);

    r->dx -= dx;
    r->dy -= dy;
    r->dz = r->id == MOUSE_ID_STANDARD ? 0 : r->dz - dz;
    if (twice) {
        dx = scale(dx);
        dy = scale(dy);
    }
    dy = -dy; /* the mouse counts upwards */
    r->sent_buttons = r->buttons;
    p[0] = (uint8_t)(0x08 | (r->buttons & 7) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0));
    p[1] = (uint8_t)dx;
    p[2] = (uint8_t)dy;
    p[3] = (uint8_t)dz;
    if (r->id == MOUSE_ID_5BUTTON) {
        p[3] = (uint8_t)((dz & 0x0f) | (visible_buttons(r, r->buttons) & 0x18) << 1);
    }
    return r->id == MOUSE_ID_STANDARD ? 3 : 4;
}

static void remember(struct ps2_mouse_regs *r, const uint8_t *bytes, unsigned n)
{
    memcpy(r->last, bytes, n);
    r->last_len = (uint8_t)n;
}

/*
 * Queues packets for what has happened. Button changes go at once; movement waits until the guest
 * has fetched the packet before and the sample period is over, and adds up meanwhile. Returns true
 * when something was queued.
 */
static bool mouse_report(struct ps2_mouse *m)
{
    struct ps2_mouse_regs *r = &m->r;
    bool queued = false;

    while (r->enabled && !r->remote && !r->wrap) {
        bool click = visible_buttons(r, r->buttons) != visible_buttons(r, r->sent_buttons);
        bool motion = r->dx || r->dy || (r->dz && r->id != MOUSE_ID_STANDARD);

        if ((!click && !motion) || fifo_room(&r->out.stream) < 4) {
            break;
        }
        uint64_t now = loop_now(m->h.loop, LOOP_VIRTUAL);
        if (!click) {
            if (r->out.stream.count) {
                break;
            }
            if (now < m->h.next_ns) {
                timer_set(&m->h.timer, m->h.next_ns);
                break;
            }
        }
        uint8_t p[4];
        unsigned n = mouse_packet(r, p, true);

        fifo_put(&r->out.stream, p, n);
        remember(r, p, n);
        m->h.next_ns = now + 1000000000u / (r->rate ? r->rate : 1u);
        queued = true;
    }
    return queued;
}

static void mouse_timer(void *arg)
{
    struct ps2_mouse *m = arg;

    if (mouse_report(m)) {
        m->h.notify(m->h.opaque);
    }
}

static void ps2_mouse_event(void *dev, int dx, int dy, int dz, unsigned buttons)
{
    struct ps2_mouse *m = dev;
    struct ps2_mouse_regs *r = &m->r;

    r->dx = clamp32(r->dx + clamp32(dx, MOUSE_BACKLOG), MOUSE_BACKLOG);
    r->dy = clamp32(r->dy + clamp32(dy, MOUSE_BACKLOG), MOUSE_BACKLOG);
    r->dz = clamp32(r->dz + clamp32(dz, MOUSE_BACKLOG), MOUSE_BACKLOG);
    r->buttons = buttons & 0x1f;
    if (mouse_report(m)) {
        m->h.notify(m->h.opaque);
    }
}

static const struct input_pointer ps2_mouse_input = {.relative = ps2_mouse_event};

static void mouse_reply(struct ps2_mouse *m, const uint8_t *bytes, unsigned n)
{
    fifo_put(&m->r.out.reply, bytes, n);
    if (n <= sizeof(m->r.last)) {
        remember(&m->r, bytes, n);
    }
}

static void mouse_ack(struct ps2_mouse *m)
{
    static const uint8_t ack = PS2_ACK;

    m->r.refused = false;
    mouse_reply(m, &ack, 1);
}

static void mouse_refuse(struct ps2_mouse *m)
{
    uint8_t v = m->r.refused ? PS2_ERROR : PS2_RESEND;

    m->r.refused = !m->r.refused;
    mouse_reply(m, &v, 1);
}

static void mouse_defaults(struct ps2_mouse_regs *r)
{
    fifo_clear(&r->out.stream);
    mouse_clear_counters(r);
    r->rate = MOUSE_DEFAULT_RATE;
    r->resolution = MOUSE_DEFAULT_RESOLUTION;
    r->remote = false;
    r->enabled = false;
    r->scaling_2to1 = false;
}

static void mouse_power_on(struct ps2_mouse_regs *r)
{
    mouse_defaults(r);
    r->id = MOUSE_ID_STANDARD;
    r->wrap = false;
    r->expect = 0;
    r->refused = false;
    r->sent_buttons = r->buttons;
    memset(r->knock, 0, sizeof(r->knock));
}

/* Three sample rates in a row unlock the wheel (200, 100, 80) and two more buttons (200, 200, 80).
 * */
static void mouse_set_rate(struct ps2_mouse_regs *r, uint8_t rate)
{
    if (r->knock[0] == 200 && rate == 80) {
        if (r->knock[1] == 100 && r->id == MOUSE_ID_STANDARD) {
            r->id = MOUSE_ID_WHEEL;
        } else if (r->knock[1] == 200) {
            r->id = MOUSE_ID_5BUTTON;
        }
    }
    r->knock[0] = r->knock[1];
    r->knock[1] = rate;
    r->rate = rate;
}

static void mouse_argument(struct ps2_mouse *m, uint8_t v)
{
    uint8_t cmd = m->r.expect;

    m->r.expect = 0;
    if (cmd == MOUSE_RATE) {
        mouse_set_rate(&m->r, v);
    } else if (v <= 3) {
        m->r.resolution = v;
    } else {
        mouse_refuse(m);
        return;
    }
    mouse_ack(m);
}

/* Commands that answer with more than ACK; false: not one of them. */
static bool mouse_query(struct ps2_mouse *m, uint8_t v)
{
    struct ps2_mouse_regs *r = &m->r;
    uint8_t b[4];
    unsigned n;

    switch (v) {
    case MOUSE_STATUS:
        /* bits 2..0 of the status are left, middle, right: not the packet's order */
        b[0] = (uint8_t)((r->remote ? 0x40 : 0) | (r->enabled ? 0x20 : 0) |
                         (r->scaling_2to1 ? 0x10 : 0) | (r->buttons & INPUT_BUTTON_LEFT ? 4 : 0) |
                         (r->buttons & INPUT_BUTTON_MIDDLE ? 2 : 0) |
                         (r->buttons & INPUT_BUTTON_RIGHT ? 1 : 0));
        b[1] = r->resolution;
        b[2] = r->rate;
        n = 3;
        break;
    case MOUSE_READ:
        n = mouse_packet(r, b, false);
        break;
    case MOUSE_IDENTIFY:
        b[0] = r->id;
        n = 1;
        break;
    default:
        return false;
    }
    mouse_ack(m);
    mouse_reply(m, b, n);
    return true;
}

static void mouse_command(struct ps2_mouse *m, uint8_t v)
{
    static const uint8_t bat[] = {PS2_ACK, PS2_BAT_OK, 0x00};
    struct ps2_mouse_regs *r = &m->r;

    switch (v) {
    case PS2_RESET:
        mouse_power_on(r);
        mouse_reply(m, bat, sizeof(bat));
        return;
    case MOUSE_SCALE_1TO1:
    case MOUSE_SCALE_2TO1:
        r->scaling_2to1 = v == MOUSE_SCALE_2TO1;
        break;
    case MOUSE_RESOLUTION:
    case MOUSE_RATE:
        r->expect = v;
        break;
    case MOUSE_STREAM:
    case MOUSE_REMOTE:
        r->remote = v == MOUSE_REMOTE;
        fifo_clear(&r->out.stream);
        break;
    case MOUSE_WRAP_OFF:
    case MOUSE_WRAP:
        r->wrap = v == MOUSE_WRAP;
        fifo_clear(&r->out.stream);
        break;
    case MOUSE_ENABLE:
        r->enabled = true;
        r->sent_buttons = r->buttons; /* no report before something happens */
        break;
    case MOUSE_DISABLE:
        r->enabled = false;
        fifo_clear(&r->out.stream);
        break;
    case MOUSE_DEFAULT:
        mouse_defaults(r);
        break;
    default:
        mouse_refuse(m);
        return;
    }
    mouse_clear_counters(r);
    mouse_ack(m);
}

void ps2_mouse_write(struct ps2_mouse *m, uint8_t v)
{
    struct ps2_mouse_regs *r = &m->r;

    fifo_clear(&r->out.reply);
    if (r->wrap && v != PS2_RESET && v != MOUSE_WRAP_OFF) {
        mouse_reply(m, &v, 1);
    } else if (v == PS2_RESEND) {
        fifo_put(&r->out.reply, r->last, r->last_len);
    } else if (r->expect && v < MOUSE_SCALE_1TO1) {
        mouse_argument(m, v);
    } else {
        r->expect = 0;
        if (!mouse_query(m, v)) {
            mouse_command(m, v);
        }
    }
}

bool ps2_mouse_has_data(const struct ps2_mouse *m)
{
    return m->r.out.reply.count || m->r.out.stream.count;
}

uint8_t ps2_mouse_read(struct ps2_mouse *m)
{
    struct ps2_out *o = &m->r.out;
    uint8_t v = 0;

    if (o->reply.count) {
        v = fifo_get(&o->reply);
    } else if (o->stream.count) {
        v = fifo_get(&o->stream);
        mouse_report(m); /* the controller looks again after each byte */
    }
    return v;
}

int ps2_mouse_init(struct ps2_mouse *m, struct loop *loop, struct input *input,
                   void (*notify)(void *opaque), void *opaque)
{
    m->h.loop = loop;
    m->h.notify = notify;
    m->h.opaque = opaque;
    timer_init(&m->h.timer, loop, LOOP_VIRTUAL, mouse_timer, m);
    return input ? input_add_pointer(input, &ps2_mouse_input, m) : 0;
}

void ps2_mouse_fini(struct ps2_mouse *m, struct input *input)
{
    timer_cancel(&m->h.timer);
    if (input) {
        input_remove(input, m);
    }
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
    uint8_t held = m->r.buttons; /* fingers do not move on a reset */

    memset(&m->r, 0, sizeof(m->r));
    m->r.buttons = held;
    mouse_power_on(&m->r);
    timer_cancel(&m->h.timer);
    m->h.next_ns = 0;
}

bool ps2_mouse_state(struct ps2_mouse_regs *r, struct save_stream *s)
{
    bool ok = fifo_state(&r->out.reply, s);

    ok = fifo_state(&r->out.stream, s) && ok;
    uint32_t counters[3] = {(uint32_t)r->dx, (uint32_t)r->dy, (uint32_t)r->dz};

    save_bytes(s, r->last, sizeof(r->last));
    save_u8(s, &r->last_len);
    save_u8(s, &r->expect);
    save_u8(s, &r->id);
    save_bytes(s, r->knock, sizeof(r->knock));
    save_u8(s, &r->resolution);
    save_u8(s, &r->rate);
    save_u8(s, &r->buttons);
    save_u8(s, &r->sent_buttons);
    save_bool(s, &r->remote);
    save_bool(s, &r->wrap);
    save_bool(s, &r->enabled);
    save_bool(s, &r->scaling_2to1);
    save_bool(s, &r->refused);
    for (unsigned i = 0; i < 3; i++) {
        save_u32(s, &counters[i]);
    }
    r->dx = (int32_t)counters[0];
    r->dy = (int32_t)counters[1];
    r->dz = (int32_t)counters[2];
    for (unsigned i = 0; i < 3; i++) {
        ok = ok && (int32_t)counters[i] >= -MOUSE_BACKLOG && (int32_t)counters[i] <= MOUSE_BACKLOG;
    }
    return ok && r->last_len <= sizeof(r->last) && r->resolution <= 3 && r->buttons <= 0x1f &&
           (r->id == MOUSE_ID_STANDARD || r->id == MOUSE_ID_WHEEL || r->id == MOUSE_ID_5BUTTON);
}

void ps2_mouse_loaded(struct ps2_mouse *m)
{
    timer_cancel(&m->h.timer);
    m->h.next_ns =
        loop_now(m->h.loop, LOOP_VIRTUAL) + 1; /* so that waiting movement arms the timer */
    mouse_report(m);
}
