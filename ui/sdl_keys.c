/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The window's keyboard. A key counts by its place, which SDL tells as the key's number in the USB
 * usage table; what it means is the business of the guest's layout alone, so the host may have any.
 * Keys that make the host repeat are repeated to the guest (see hw/ps2.c).
 */
#include <string.h>

#include "ui/input.h"
#include "ui/sdl_int.h"

/* HID Usage Tables 1.12, chapter 10 -> scan code set 1 (Microsoft, Scan Code Specification,
 * appendix A). */
static const uint8_t codes[SDL_NUM_SCANCODES] = {
    [SDL_SCANCODE_A] = 0x1e,
    [SDL_SCANCODE_B] = 0x30,
    [SDL_SCANCODE_C] = 0x2e,
    [SDL_SCANCODE_D] = 0x20,
    [SDL_SCANCODE_E] = 0x12,
    [SDL_SCANCODE_F] = 0x21,
    [SDL_SCANCODE_G] = 0x22,
    [SDL_SCANCODE_H] = 0x23,
    [SDL_SCANCODE_I] = 0x17,
    [SDL_SCANCODE_J] = 0x24,
    [SDL_SCANCODE_K] = 0x25,
    [SDL_SCANCODE_L] = 0x26,
    [SDL_SCANCODE_M] = 0x32,
    [SDL_SCANCODE_N] = 0x31,
    [SDL_SCANCODE_O] = 0x18,
    [SDL_SCANCODE_P] = 0x19,
    [SDL_SCANCODE_Q] = 0x10,
    [SDL_SCANCODE_R] = 0x13,
    [SDL_SCANCODE_S] = 0x1f,
    [SDL_SCANCODE_T] = 0x14,
    [SDL_SCANCODE_U] = 0x16,
    [SDL_SCANCODE_V] = 0x2f,
    [SDL_SCANCODE_W] = 0x11,
    [SDL_SCANCODE_X] = 0x2d,
    [SDL_SCANCODE_Y] = 0x15,
    [SDL_SCANCODE_Z] = 0x2c,
    [SDL_SCANCODE_1] = 0x02,
    [SDL_SCANCODE_2] = 0x03,
    [SDL_SCANCODE_3] = 0x04,
    [SDL_SCANCODE_4] = 0x05,
    [SDL_SCANCODE_5] = 0x06,
    [SDL_SCANCODE_6] = 0x07,
    [SDL_SCANCODE_7] = 0x08,
    [SDL_SCANCODE_8] = 0x09,
    [SDL_SCANCODE_9] = 0x0a,
    [SDL_SCANCODE_0] = 0x0b,
    [SDL_SCANCODE_RETURN] = 0x1c,
    [SDL_SCANCODE_ESCAPE] = 0x01,
    [SDL_SCANCODE_BACKSPACE] = 0x0e,
    [SDL_SCANCODE_TAB] = 0x0f,
    [SDL_SCANCODE_SPACE] = 0x39,
    [SDL_SCANCODE_MINUS] = 0x0c,
    [SDL_SCANCODE_EQUALS] = 0x0d,
    [SDL_SCANCODE_LEFTBRACKET] = 0x1a,
    [SDL_SCANCODE_RIGHTBRACKET] = 0x1b,
    [SDL_SCANCODE_BACKSLASH] = 0x2b,
    [SDL_SCANCODE_NONUSHASH] = 0x2b, /* ISO keyboards have the one or the other */
    [SDL_SCANCODE_SEMICOLON] = 0x27,
    [SDL_SCANCODE_APOSTROPHE] = 0x28,
    [SDL_SCANCODE_GRAVE] = 0x29,
    [SDL_SCANCODE_COMMA] = 0x33,
    [SDL_SCANCODE_PERIOD] = 0x34,
    [SDL_SCANCODE_SLASH] = 0x35,
    [SDL_SCANCODE_CAPSLOCK] = 0x3a,
    [SDL_SCANCODE_F1] = 0x3b,
    [SDL_SCANCODE_F2] = 0x3c,
    [SDL_SCANCODE_F3] = 0x3d,
    [SDL_SCANCODE_F4] = 0x3e,
    [SDL_SCANCODE_F5] = 0x3f,
    [SDL_SCANCODE_F6] = 0x40,
    [SDL_SCANCODE_F7] = 0x41,
    [SDL_SCANCODE_F8] = 0x42,
    [SDL_SCANCODE_F9] = 0x43,
    [SDL_SCANCODE_F10] = 0x44,
    [SDL_SCANCODE_F11] = 0x57,
    [SDL_SCANCODE_F12] = 0x58,
    [SDL_SCANCODE_PRINTSCREEN] = INPUT_KEY_PRINT,
    [SDL_SCANCODE_SYSREQ] = INPUT_KEY_PRINT, /* the keyboard decides by Alt what it means */
    [SDL_SCANCODE_SCROLLLOCK] = 0x46,
    [SDL_SCANCODE_PAUSE] = INPUT_KEY_PAUSE,
    [SDL_SCANCODE_INSERT] = 0xd2,
    [SDL_SCANCODE_HOME] = 0xc7,
    [SDL_SCANCODE_PAGEUP] = 0xc9,
    [SDL_SCANCODE_DELETE] = 0xd3,
    [SDL_SCANCODE_END] = 0xcf,
    [SDL_SCANCODE_PAGEDOWN] = 0xd1,
    [SDL_SCANCODE_RIGHT] = 0xcd,
    [SDL_SCANCODE_LEFT] = 0xcb,
    [SDL_SCANCODE_DOWN] = 0xd0,
    [SDL_SCANCODE_UP] = 0xc8,
    [SDL_SCANCODE_NUMLOCKCLEAR] = 0x45,
    [SDL_SCANCODE_KP_DIVIDE] = 0xb5,
    [SDL_SCANCODE_KP_MULTIPLY] = 0x37,
    [SDL_SCANCODE_KP_MINUS] = 0x4a,
    [SDL_SCANCODE_KP_PLUS] = 0x4e,
    [SDL_SCANCODE_KP_ENTER] = 0x9c,
    [SDL_SCANCODE_KP_1] = 0x4f,
    [SDL_SCANCODE_KP_2] = 0x50,
    [SDL_SCANCODE_KP_3] = 0x51,
    [SDL_SCANCODE_KP_4] = 0x4b,
    [SDL_SCANCODE_KP_5] = 0x4c,
    [SDL_SCANCODE_KP_6] = 0x4d,
    [SDL_SCANCODE_KP_7] = 0x47,
    [SDL_SCANCODE_KP_8] = 0x48,
    [SDL_SCANCODE_KP_9] = 0x49,
    [SDL_SCANCODE_KP_0] = 0x52,
    [SDL_SCANCODE_KP_PERIOD] = 0x53,
    [SDL_SCANCODE_KP_EQUALS] = 0x59,
    [SDL_SCANCODE_KP_COMMA] = 0x7e, /* ABNT2 */
    [SDL_SCANCODE_NONUSBACKSLASH] = 0x56,
    [SDL_SCANCODE_APPLICATION] = 0xdd,
    [SDL_SCANCODE_MENU] = 0xdd, /* X's name for the same key */
    [SDL_SCANCODE_F13] = 0x64,
    [SDL_SCANCODE_F14] = 0x65,
    [SDL_SCANCODE_F15] = 0x66,
    [SDL_SCANCODE_F16] = 0x67,
    [SDL_SCANCODE_F17] = 0x68,
    [SDL_SCANCODE_F18] = 0x69,
    [SDL_SCANCODE_F19] = 0x6a,
    [SDL_SCANCODE_F20] = 0x6b,
    [SDL_SCANCODE_F21] = 0x6c,
    [SDL_SCANCODE_F22] = 0x6d,
    [SDL_SCANCODE_F23] = 0x6e,
    [SDL_SCANCODE_F24] = 0x76,
    [SDL_SCANCODE_INTERNATIONAL1] = 0x73, /* JIS: Ro; ABNT2: slash */
    [SDL_SCANCODE_INTERNATIONAL2] = 0x70, /* JIS: Katakana, Hiragana */
    [SDL_SCANCODE_INTERNATIONAL3] = 0x7d, /* JIS: Yen */
    [SDL_SCANCODE_INTERNATIONAL4] = 0x79, /* JIS: Henkan */
    [SDL_SCANCODE_INTERNATIONAL5] = 0x7b, /* JIS: Muhenkan */
    [SDL_SCANCODE_INTERNATIONAL6] = 0x5c, /* PC-98: comma of the keypad */
    [SDL_SCANCODE_LANG1] = 0x72,          /* Hangul */
    [SDL_SCANCODE_LANG2] = 0x71,          /* Hanja */
    [SDL_SCANCODE_LANG3] = 0x78,          /* Katakana */
    [SDL_SCANCODE_LANG4] = 0x77,          /* Hiragana */
    [SDL_SCANCODE_LANG5] = 0x29,          /* Zenkaku, Hankaku: in the place of the backquote */
    [SDL_SCANCODE_LCTRL] = 0x1d,
    [SDL_SCANCODE_LSHIFT] = 0x2a,
    [SDL_SCANCODE_LALT] = 0x38,
    [SDL_SCANCODE_LGUI] = 0xdb,
    [SDL_SCANCODE_RCTRL] = 0x9d,
    [SDL_SCANCODE_RSHIFT] = 0x36,
    [SDL_SCANCODE_RALT] = 0xb8,
    [SDL_SCANCODE_RGUI] = 0xdc,
    [SDL_SCANCODE_POWER] = 0xde,
    [SDL_SCANCODE_SLEEP] = 0xdf,
    [SDL_SCANCODE_MUTE] = 0xa0,
    [SDL_SCANCODE_AUDIOMUTE] = 0xa0,
    [SDL_SCANCODE_VOLUMEUP] = 0xb0,
    [SDL_SCANCODE_VOLUMEDOWN] = 0xae,
    [SDL_SCANCODE_AUDIONEXT] = 0x99,
    [SDL_SCANCODE_AUDIOPREV] = 0x90,
    [SDL_SCANCODE_AUDIOSTOP] = 0xa4,
    [SDL_SCANCODE_AUDIOPLAY] = 0xa2,
    [SDL_SCANCODE_MAIL] = 0xec,
    [SDL_SCANCODE_CALCULATOR] = 0xa1,
    [SDL_SCANCODE_COMPUTER] = 0xeb,
    [SDL_SCANCODE_AC_SEARCH] = 0xe5,
    [SDL_SCANCODE_AC_HOME] = 0xb2,
    [SDL_SCANCODE_AC_BACK] = 0xea,
    [SDL_SCANCODE_AC_FORWARD] = 0xe9,
    [SDL_SCANCODE_AC_STOP] = 0xe8,
    [SDL_SCANCODE_AC_REFRESH] = 0xe7,
    [SDL_SCANCODE_AC_BOOKMARKS] = 0xe6,
    [SDL_SCANCODE_MEDIASELECT] = 0xed,
};

enum { MOD_KEYS = 3 };

/* By enum sdl_grab_mod; SDL_SCANCODE_UNKNOWN ends a row. */
static const struct {
    const char *name;
    SDL_Scancode keys[MOD_KEYS];
} mods[] = {
    [SDL_GRAB_LCTRL_LALT] = {"Ctrl+Alt", {SDL_SCANCODE_LCTRL, SDL_SCANCODE_LALT}},
    [SDL_GRAB_LSHIFT_LCTRL_LALT] = {"Shift+Ctrl+Alt",
                                    {SDL_SCANCODE_LSHIFT, SDL_SCANCODE_LCTRL, SDL_SCANCODE_LALT}},
    [SDL_GRAB_RCTRL] = {"Right Ctrl", {SDL_SCANCODE_RCTRL}},
};

static bool get(const uint8_t *map, unsigned n)
{
    return (map[n >> 3] & 1u << (n & 7)) != 0;
}

static void set(uint8_t *map, unsigned n, bool on)
{
    map[n >> 3] = (uint8_t)((map[n >> 3] & ~(1u << (n & 7))) | (on ? 1u << (n & 7) : 0));
}

/* X servers on Linux: 8 + KEY_KPCOMMA (linux/input-event-codes.h). SDL makes one key of it and the
 * keypad's period; ABNT2 keyboards have both. */
enum { X_KEY_KP_COMMA = 129 };

uint8_t sdl_keys_code(SDL_Scancode scancode)
{
    return (unsigned)scancode < SDL_NUM_SCANCODES ? codes[scancode] : 0;
}

const char *sdl_keys_mod_name(enum sdl_grab_mod mod)
{
    return mods[mod].name;
}

static void send_key(struct sdl_ui *ui, uint8_t key, bool down)
{
    const struct input_event ev = {.type = INPUT_EVENT_KEY, .key = key, .down = down};

    if (key == 0 || (!down && !get(ui->held, key))) {
        return;
    }
    set(ui->held, key, down);
    sdl_ui_post(ui, &ev);
}

void sdl_keys_release_all(struct sdl_ui *ui)
{
    for (unsigned key = 1; key < 256; key++) {
        send_key(ui, (uint8_t)key, false);
    }
    memset(ui->down, 0, sizeof(ui->down));
    memset(ui->swallowed, 0, sizeof(ui->swallowed));
    ui->chord = false;
}

/* ---- our own keys ---- */

static bool is_mod_key(const struct sdl_ui *ui, SDL_Scancode key)
{
    const SDL_Scancode *k = mods[ui->s->cfg.grab_mod].keys;

    return key == k[0] || key == k[1] || key == k[2];
}

/* All keys of grab_mod are down. */
static bool mod_down(const struct sdl_ui *ui)
{
    const SDL_Scancode *k = mods[ui->s->cfg.grab_mod].keys;

    for (int i = 0; i < MOD_KEYS && k[i] != SDL_SCANCODE_UNKNOWN; i++) {
        if (!get(ui->down, k[i])) {
            return false;
        }
    }
    return true;
}

static void toggle_grab(struct sdl_ui *ui)
{
    sdl_ui_grab(ui, !ui->grabbed);
}

static void toggle_full_screen(struct sdl_ui *ui)
{
    sdl_ui_full_screen(ui, !ui->full_screen);
}

static const struct {
    SDL_Scancode key;
    void (*act)(struct sdl_ui *ui);
} hot_keys[] = {
    {SDL_SCANCODE_F, toggle_full_screen},
    {SDL_SCANCODE_G, toggle_grab},
    {SDL_SCANCODE_U, sdl_ui_natural_size},
};

/* A key goes down. true: it was for us. */
static bool hot_key(struct sdl_ui *ui, SDL_Scancode key)
{
    if (!mod_down(ui)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(hot_keys) / sizeof(hot_keys[0]); i++) {
        if (hot_keys[i].key == key) {
            hot_keys[i].act(ui);
            return true;
        }
    }
    return false;
}

void sdl_keys_event(struct sdl_ui *ui, const SDL_KeyboardEvent *e)
{
    SDL_Scancode key = e->keysym.scancode;
    bool down = e->state == SDL_PRESSED;
    bool was_down;

    if (key == SDL_SCANCODE_KP_PERIOD && ui->x_key == X_KEY_KP_COMMA) {
        key = SDL_SCANCODE_KP_COMMA;
    }
    if ((unsigned)key >= SDL_NUM_SCANCODES) {
        return;
    }
    was_down = get(ui->down, key);
    set(ui->down, key, down);
    if (down && !was_down) {
        set(ui->swallowed, key, hot_key(ui, key));
        ui->chord = is_mod_key(ui, key) && mod_down(ui);
    }
    if (get(ui->swallowed, key)) {
        set(ui->swallowed, key, down);
        return;
    }
    send_key(ui, sdl_keys_code(key), down);
    if (!down && ui->chord) {
        ui->chord = false;
        sdl_ui_grab(ui, false);
    }
}

/* ---- lock keys ---- */

static const struct {
    unsigned led;
    SDL_Keymod mod;
    uint8_t key;
} locks[] = {
    {INPUT_LED_CAPS, KMOD_CAPS, 0x3a},
    {INPUT_LED_NUM, KMOD_NUM, 0x45},
    {INPUT_LED_SCROLL, KMOD_SCROLL, 0x46},
};

void sdl_keys_sync_locks(struct sdl_ui *ui)
{
    struct sdl *s = ui->s;
    SDL_Keymod on = ui->lib->GetModState();
    unsigned leds;

    /* The lights of the host's keyboard are the ones the user sees. A guest that does not say what
     * it has, or did not follow the last time, is left alone: it would be toggled for ever. */
    pthread_mutex_lock(&s->lock);
    leds = s->leds_followed ? s->leds : UINT32_MAX;
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < sizeof(locks) / sizeof(locks[0]) && leds != UINT32_MAX; i++) {
        if (((on & locks[i].mod) != 0) != ((leds & locks[i].led) != 0)) {
            pthread_mutex_lock(&s->lock);
            s->leds_followed = false;
            pthread_mutex_unlock(&s->lock);
            send_key(ui, locks[i].key, true);
            send_key(ui, locks[i].key, false);
        }
    }
}
