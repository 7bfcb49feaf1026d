/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Keyboard layouts: which keys make an X keysym on the guest's keyboard. For viewers that send what
 * a key means and not which one it is; the layout is the guest's, the viewer's user may have any
 * other. Keys are numbered as in input.h.
 */
#include <stdbool.h>
#include <stdint.h>

struct keymap;

enum { KEYMAP_SHIFT = 1, KEYMAP_ALTGR = 2 };

struct keymap_chord {
    uint8_t dead, dead_mods; /* key to tap before, and what is held with it; 0: none */
    uint8_t key, mods;       /* mods: KEYMAP_*, exactly these */
    bool any_mods;           /* not a character: whatever is held stays held, mods is 0 */
    bool cased;              /* a letter: Caps Lock turns Shift around */
};

/* By the name `-k` has for it ("de", "en-gb"); NULL and "" are en-us. NULL: not known. */
const struct keymap *keymap_find(const char *name);
/* All names, separated by spaces. */
const char *keymap_names(void);
/* The third level is used: the right Alt key is AltGr. */
bool keymap_has_altgr(const struct keymap *map);
/* false: no key makes this on that keyboard. */
bool keymap_lookup(const struct keymap *map, uint32_t keysym, struct keymap_chord *chord);
