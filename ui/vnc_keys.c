/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One VNC client's keyboard. Raw keys go to the guest as they are. A client that sends only keysyms
 * has done its user's layout already: what it means is looked up in the layout of the guest (-k),
 * and where that needs other modifiers than the client holds, they are changed for the moment of
 * the press. Modifiers are the guest's own business again right after it.
 */
#include <stddef.h>
#include <string.h>

#include "ui/input.h"
#include "ui/vnc_int.h"

enum {
    KEY_LCTRL = 0x1d,
    KEY_LSHIFT = 0x2a,
    KEY_RSHIFT = 0x36,
    KEY_LALT = 0x38,
    KEY_SYSRQ = 0x54,
    KEY_ALTGR = 0xb8,
    KEY_EXTENDED = 0x80,
};
enum { /* keysyms, X11 protocol, appendix A */
       KS_MODE_SWITCH = 0xff7e,
       KS_KP_HOME = 0xff95,
       KS_KP_BEGIN = 0xff9d,
       KS_KP_DELETE = 0xff9f,
       KS_KP_DECIMAL = 0xffae,
       KS_KP_0 = 0xffb0,
       KS_KP_9 = 0xffb9,
       KS_LEVEL3_SHIFT = 0xfe03,
};

static bool held(const struct vnc_client *c, uint8_t key)
{
    return (c->keys[key >> 3] & 1u << (key & 7)) != 0;
}

static void send_key(struct vnc_client *c, uint8_t key, bool down)
{
    const struct input_event ev = {.type = INPUT_EVENT_KEY, .key = key, .down = down};
    uint8_t bit = (uint8_t)(1u << (key & 7));

    if (key == 0 || (!down && !held(c, key))) {
        return;
    }
    if (down) {
        c->keys[key >> 3] |= bit;
    } else {
        c->keys[key >> 3] &= (uint8_t)~bit;
    }
    input_post(c->ui->v->input, &ev);
    vnc_ui_kick(c->ui);
}

static const uint8_t modifiers[] = {KEY_LSHIFT, KEY_RSHIFT, KEY_ALTGR, KEY_LCTRL};

void vnc_keys_raw(struct vnc_client *c, uint32_t code, uint32_t keysym, bool down)
{
    if (code == KEY_SYSRQ) {
        /* Viewers on X send this for the one key; the keyboard decides by Alt what it means. */
        code = INPUT_KEY_PRINT;
    }
    if (code >= 256) {
        return;
    }
    send_key(c, (uint8_t)code, down);
    if (down && keysym == 0 && memchr(modifiers, (int)code, sizeof(modifiers)) == NULL) {
        /* A dead key in a browser has no keysym, and Chromium on X never says that it was let go:
         * held, it would be dead for good. */
        send_key(c, (uint8_t)code, false);
    }
}

void vnc_keys_release_all(struct vnc_client *c)
{
    for (unsigned key = 1; key < 256; key++) {
        send_key(c, (uint8_t)key, false);
    }
    c->symbol_count = 0;
    c->level3 = false;
}

/* ---- characters ---- */

/* Makes exactly these (KEYMAP_*) of Shift and AltGr be held. Right Alt is left alone where it is
 * plain Alt to the guest and to the client. Left Control with AltGr is how Windows says AltGr. */
static void hold_modifiers(struct vnc_client *c, uint8_t mods)
{
    bool shift = held(c, KEY_LSHIFT) || held(c, KEY_RSHIFT);
    bool altgr = held(c, KEY_ALTGR);

    if ((mods & KEYMAP_SHIFT) == 0) {
        send_key(c, KEY_LSHIFT, false);
        send_key(c, KEY_RSHIFT, false);
    } else if (!shift) {
        send_key(c, KEY_LSHIFT, true);
    }
    if (!keymap_has_altgr(c->ui->v->keymap) && !c->level3) {
        return;
    }
    if (altgr) {
        send_key(c, KEY_LCTRL, false);
    }
    if ((mods & KEYMAP_ALTGR) == 0) {
        send_key(c, KEY_ALTGR, false);
    } else if (!altgr) {
        send_key(c, KEY_ALTGR, true);
    }
}

static void press_chord(struct vnc_client *c, const struct keymap_chord *chord)
{
    bool was[sizeof(modifiers)];
    uint8_t mods = chord->mods;

    if (chord->any_mods) {
        send_key(c, chord->key, true);
        return;
    }
    if (chord->cased && (c->ui->leds & INPUT_LED_CAPS) != 0) {
        mods ^= KEYMAP_SHIFT;
    }
    for (size_t i = 0; i < sizeof(modifiers); i++) {
        was[i] = held(c, modifiers[i]);
    }
    if (chord->dead != 0) {
        hold_modifiers(c, chord->dead_mods);
        send_key(c, chord->dead, true);
        send_key(c, chord->dead, false);
    }
    hold_modifiers(c, mods);
    send_key(c, chord->key, true);
    for (size_t i = sizeof(modifiers); i-- > 0;) {
        if (held(c, modifiers[i]) != was[i]) {
            send_key(c, modifiers[i], was[i]);
        }
    }
}

/* The keypad: whether its keys are digits is for the guest's Num Lock to say, which may differ from
 * the client's. Where it does, the same thing is typed elsewhere. */
static uint32_t keypad(const struct vnc_client *c, uint32_t keysym)
{
    bool num = (c->ui->leds & INPUT_LED_NUM) != 0;

    if (num || held(c, KEY_LALT)) {
        return keysym; /* with Alt: characters by their number */
    }
    if (keysym >= KS_KP_0 && keysym <= KS_KP_9) {
        return '0' + (keysym - KS_KP_0);
    }
    return keysym == KS_KP_DECIMAL ? '.' : keysym;
}

static void forget_symbol(struct vnc_client *c, unsigned i)
{
    send_key(c, c->symbols[i].key, false);
    c->symbol_count--;
    memmove(&c->symbols[i], &c->symbols[i + 1], (c->symbol_count - i) * sizeof(c->symbols[0]));
}

static void release_symbol(struct vnc_client *c, uint32_t keysym)
{
    struct keymap_chord chord;

    for (unsigned i = 0; i < c->symbol_count; i++) {
        if (c->symbols[i].keysym == keysym) {
            forget_symbol(c, i);
            return;
        }
    }
    if (keymap_lookup(c->ui->v->keymap, keysym, &chord) && chord.any_mods) {
        send_key(c, chord.key, false);
        return;
    }
    /* The client names the key otherwise than when it was pressed, Shift having changed meanwhile:
     * it is one of these. None may stay down. */
    while (c->symbol_count > 0) {
        forget_symbol(c, 0);
    }
}

void vnc_keys_symbol(struct vnc_client *c, uint32_t keysym, bool down)
{
    struct keymap_chord chord;
    unsigned i = 0;

    if (keysym == KS_LEVEL3_SHIFT || keysym == KS_MODE_SWITCH) {
        c->level3 = down;
    }
    if (!down) {
        release_symbol(c, keysym);
        return;
    }
    if (!keymap_lookup(c->ui->v->keymap, keypad(c, keysym), &chord)) {
        return;
    }
    if (keysym >= KS_KP_HOME && keysym <= KS_KP_DELETE && keysym != KS_KP_BEGIN &&
        (c->ui->leds & INPUT_LED_NUM) != 0) {
        chord.key |= KEY_EXTENDED; /* the key of this name between the letters and the keypad */
    }
    while (i < c->symbol_count && c->symbols[i].keysym != keysym) {
        i++;
    }
    if (i < c->symbol_count && c->symbols[i].key != chord.key) {
        forget_symbol(c, i); /* Num Lock has changed meanwhile */
        i = c->symbol_count;
    }
    press_chord(c, &chord);
    if (chord.any_mods && !(keysym >= KS_KP_HOME && keysym <= KS_KP_9)) {
        return; /* always the same key: its release needs no memory */
    }
    if (i == VNC_HELD_SYMBOLS) {
        forget_symbol(c, 0);
        i--;
    }
    if (i == c->symbol_count) {
        c->symbols[i].keysym = keysym;
        c->symbols[i].key = chord.key;
        c->symbol_count++;
    }
}
