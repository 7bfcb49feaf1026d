/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ui/keymap.h"

#include <stddef.h>
#include <string.h>

/* ---- keys that are no characters: the same on all layouts. Keysym values: X11 protocol, appendix
 * A, and XF86keysym.h ---- */

struct keysym_range {
    uint32_t first, last; /* keysyms, inclusive */
    uint8_t key[16];      /* one per keysym; 0: none */
};

static const struct keysym_range ranges[] = {
    {0xff08, 0xff0d, {0x0e, 0x0f, 0x1c, 0, 0, 0x1c}}, /* BackSpace Tab Linefeed - - Return */
    {0xff13, 0xff15, {0xc6, 0x46, 0xb7}},             /* Pause Scroll_Lock Sys_Req */
    {0xff1b, 0xff1b, {0x01}},                         /* Escape */
    {0xff22, 0xff23, {0x7b, 0x79}},                   /* Muhenkan Henkan */
    {0xff27, 0xff27, {0x70}},                         /* Hiragana_Katakana */
    {0xff2a, 0xff2a, {0x29}},                         /* Zenkaku_Hankaku */
    {0xff50,
     0xff57,
     {0xc7, 0xcb, 0xc8, 0xcd, 0xd0, 0xc9, 0xd1, 0xcf}}, /* Home Left Up Right Down Prior Next End */
    {0xff61, 0xff61, {0xb7}},                           /* Print */
    {0xff63, 0xff63, {0xd2}},                           /* Insert */
    {0xff67, 0xff67, {0xdd}},                           /* Menu */
    {0xff6b, 0xff6b, {0xc6}},                           /* Break: on the Pause key */
    {0xff7e, 0xff7f, {0xb8, 0x45}},                     /* Mode_switch Num_Lock */
    {0xff8d, 0xff8d, {0x9c}},                           /* KP_Enter */
    {0xff95,
     0xff9f,
     {0x47, 0x4b, 0x48, 0x4d, 0x50, 0x49, 0x51, 0x4f, 0x4c, 0x52, 0x53}}, /* KP_Home .. KP_Delete */
    {0xffaa, 0xffaf, {0x37, 0x4e, 0x53, 0x4a, 0x53, 0xb5}}, /* KP * + separator - . / */
    {0xffb0,
     0xffb9,
     {0x52, 0x4f, 0x50, 0x51, 0x4b, 0x4c, 0x4d, 0x47, 0x48, 0x49}}, /* KP_0 .. KP_9 */
    {0xffbd, 0xffbd, {0x59}},                                       /* KP_Equal */
    {0xffbe,
     0xffc9,
     {0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41, 0x42, 0x43, 0x44, 0x57, 0x58}}, /* F1 .. F12 */
    {0xffe1,
     0xffe5,
     {0x2a, 0x36, 0x1d, 0x9d, 0x3a}}, /* Shift_L Shift_R Control_L Control_R Caps_Lock */
    {0xffe7,
     0xffee,
     {0x38, 0xb8, 0x38, 0xb8, 0xdb, 0xdc, 0xdb, 0xdc}}, /* Meta Alt Super Hyper, left and right */
    {0xffff, 0xffff, {0xd3}},                           /* Delete */
    {0xfe03, 0xfe03, {0xb8}},                           /* ISO_Level3_Shift: AltGr */
    {0xfe20, 0xfe20, {0x0f}},                           /* ISO_Left_Tab: Shift is sent as well */
    {0x1008ff11,
     0x1008ff1b,
     {0xae, 0xa0, 0xb0, 0xa2, 0xa4, 0x90, 0x99, 0xb2, 0xec, 0,
      0xe5}},                         /* volume, media, web, mail, search */
    {0x1008ff1d, 0x1008ff1d, {0xa1}}, /* Calculator */
    {0x1008ff26,
     0x1008ff2a,
     {0xea, 0xe9, 0xe8, 0xe7, 0xde}},       /* Back Forward Stop Refresh PowerOff */
    {0x1008ff2f, 0x1008ff30, {0xdf, 0xe6}}, /* Sleep Favorites */
};

/* ---- characters ----
 *
 * The engravings of each row of keys from left to right, plain, with Shift, with AltGr and with
 * both; a blank is none. Dead keys are written as the modifier letters that look like them: ˋ
 * (grave) ´ (acute) ˆ (circumflex) ˜ (tilde) ¨ (diaeresis); ` ^ ~ make these
 * characters at once. Layouts as on PC keyboards sold in the countries (ISO/IEC 9995 series, JIS X
 * 6002, ABNT NBR 10346). */

enum { ROWS = 4, LEVELS = 4, KEY_SPACE = 0x39 };

static const uint8_t row_keys[ROWS][15] = {
    {0x29, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x7d},
    {0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b},
    {0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x2b},
    {0x56, 0x2c, 0x2d, 0x2e, 0x2f, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x73},
};

struct keymap {
    const char *name, *alias; /* alias: X's name for it, or NULL */
    const char *rows[LEVELS][ROWS];
};

/* clang-format off */
static const struct keymap keymaps[] = {
    {"en-us", "us", {
        {"`1234567890-=", "qwertyuiop[]", "asdfghjkl;'\\", " zxcvbnm,./"},
        {"~!@#$%^&*()_+", "QWERTYUIOP{}", "ASDFGHJKL:\"|", " ZXCVBNM<>?"},
    }},
    {"en-gb", "gb", {
        {"`1234567890-=", "qwertyuiop[]", "asdfghjkl;'#", "\\zxcvbnm,./"},
        {"¬!\"£$%^&*()_+", "QWERTYUIOP{}", "ASDFGHJKL:@~", "|ZXCVBNM<>?"},
        {"¦   €"},
    }},
    {"de", NULL, {
        {"ˆ1234567890ß´", "qwertzuiopü+", "asdfghjklöä#", "<yxcvbnm,.-"},
        {"°!\"§$%&/()=?ˋ", "QWERTZUIOPÜ*", "ASDFGHJKLÖÄ'", ">YXCVBNM;:_"},
        {"  ²³   {[]}\\", "@ €        ~", "", "|      µ"},
    }},
    {"de-ch", NULL, {
        {"§1234567890'ˆ", "qwertzuiopü¨", "asdfghjklöä$", "<yxcvbnm,.-"},
        {"°+\"*ç%&/()=?ˋ", "QWERTZUIOPè!", "ASDFGHJKLéà£", ">YXCVBNM;:_"},
        {" ¦@#  ¬|¢  ´˜", "  €       []", "          {}", "\\"},
    }},
    {"fr-ch", NULL, {
        {"§1234567890'ˆ", "qwertzuiopè¨", "asdfghjkléà$", "<yxcvbnm,.-"},
        {"°+\"*ç%&/()=?ˋ", "QWERTZUIOPü!", "ASDFGHJKLöä£", ">YXCVBNM;:_"},
        {" ¦@#  ¬|¢  ´˜", "  €       []", "          {}", "\\"},
    }},
    {"fr", NULL, {
        {"²&é\"'(-è_çà)=", "azertyuiopˆ$", "qsdfghjklmù*", "<wxcvbn,;:!"},
        {" 1234567890°+", "AZERTYUIOP¨£", "QSDFGHJKLM%µ", ">WXCVBN?./§"},
        {"  ~#{[|`\\^@]}", "  €        ¤"},
    }},
    {"fr-be", "be", {
        {"²&é\"'(§è!çà)-", "azertyuiopˆ$", "qsdfghjklmùµ", "<wxcvbn,;:="},
        {"³1234567890°_", "AZERTYUIOP¨*", "QSDFGHJKLM%£", ">WXCVBN?./+"},
        {" |@#  ^  {}", "  €       []", "          ´ˋ", "\\         ˜"},
    }},
    {"es", NULL, {
        {"º1234567890'¡", "qwertyuiopˋ+", "asdfghjklñ´ç", "<zxcvbnm,.-"},
        {"ª!\"·$%&/()=?¿", "QWERTYUIOPˆ*", "ASDFGHJKLÑ¨Ç", ">ZXCVBNM;:_"},
        {"\\|@#~ ¬", "  €       []", "          {}"},
    }},
    {"it", NULL, {
        {"\\1234567890'ì", "qwertyuiopè+", "asdfghjklòàù", "<zxcvbnm,.-"},
        {"|!\"£$%&/()=?^", "QWERTYUIOPé*", "ASDFGHJKLç°§", ">ZXCVBNM;:_"},
        {"           `~", "  €       []", "         @#"},
        {"", "          {}"},
    }},
    {"pt", NULL, {
        {"\\1234567890'«", "qwertyuiop+´", "asdfghjklçº˜", "<zxcvbnm,.-"},
        {"|!\"#$%&/()=?»", "QWERTYUIOP*ˋ", "ASDFGHJKLÇªˆ", ">ZXCVBNM;:_"},
        {"  @£§  {[]}", "  €       ¨"},
    }},
    {"pt-br", "br", {
        {"'1234567890-=", "qwertyuiop´[", "asdfghjklç˜]", "\\zxcvbnm,.;/"},
        {"\"!@#$%¨&*()_+", "QWERTYUIOPˋ{", "ASDFGHJKLÇˆ}", "|ZXCVBNM<>:?"},
        {" ¹²³£¢¬     §", "/?", "", "           °"},
    }},
    {"sv", "se", {
        {"§1234567890+´", "qwertyuiopå¨", "asdfghjklöä'", "<zxcvbnm,.-"},
        {"½!\"#¤%&/()=?ˋ", "QWERTYUIOPÅˆ", "ASDFGHJKLÖÄ*", ">ZXCVBNM;:_"},
        {"  @£$  {[]}\\", "  €        ˜", "", "|      µ"},
    }},
    {"fi", NULL, {
        {"§1234567890+´", "qwertyuiopå¨", "asdfghjklöä'", "<zxcvbnm,.-"},
        {"½!\"#¤%&/()=?ˋ", "QWERTYUIOPÅˆ", "ASDFGHJKLÖÄ*", ">ZXCVBNM;:_"},
        {"  @£$  {[]}\\", "  €        ˜", "", "|      µ"},
    }},
    {"da", "dk", {
        {"½1234567890+´", "qwertyuiopå¨", "asdfghjklæø'", "<zxcvbnm,.-"},
        {"§!\"#¤%&/()=?ˋ", "QWERTYUIOPÅˆ", "ASDFGHJKLÆØ*", ">ZXCVBNM;:_"},
        {"  @£$  {[]} |", "  €        ˜", "", "\\      µ"},
    }},
    {"no", NULL, {
        {"|1234567890+\\", "qwertyuiopå¨", "asdfghjkløæ'", "<zxcvbnm,.-"},
        {"§!\"#¤%&/()=?ˋ", "QWERTYUIOPÅˆ", "ASDFGHJKLØÆ*", ">ZXCVBNM;:_"},
        {"  @£$  {[]} ´", "  €        ˜", "", "       µ"},
    }},
    {"ja", "jp", {
        {" 1234567890-^¥", "qwertyuiop@[", "asdfghjkl;:]", " zxcvbnm,./\\"},
        {" !\"#$%&'() =~|", "QWERTYUIOP`{", "ASDFGHJKL+*}", " ZXCVBNM<>?_"},
    }},
};
/* clang-format on */

/* Next character of UTF-8 text; U+0000 at the end. The tables above are all it reads. */
static uint32_t next_char(const char **text)
{
    const uint8_t *p = (const uint8_t *)*text;

    if (p[0] == 0) {
        return 0;
    }
    if (p[0] < 0x80) {
        *text += 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *text += 2;
        return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    }
    *text += 3;
    return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
}

/* What is engraved at a place. */
static uint32_t char_at(const struct keymap *map, int level, int row, int column)
{
    const char *p = map->rows[level][row];
    uint32_t c = p != NULL ? next_char(&p) : 0;

    while (c != 0 && column-- > 0) {
        c = next_char(&p);
    }
    return c;
}

/* The letter in the other case; 0: not a letter. ASCII and Latin-1. */
static uint32_t other_case(uint32_t c)
{
    bool lower = (c >= 'a' && c <= 'z') || (c >= 0xe0 && c <= 0xfe && c != 0xf7);
    bool upper = (c >= 'A' && c <= 'Z') || (c >= 0xc0 && c <= 0xde && c != 0xd7);

    return lower ? c - 0x20 : upper ? c + 0x20 : 0;
}

/* Puts the key that makes `c` into chord->key. */
static bool find_char(const struct keymap *map, uint32_t c, struct keymap_chord *chord)
{
    for (int level = 0; level < LEVELS; level++) {
        for (int row = 0; row < ROWS; row++) {
            const char *p = map->rows[level][row];
            uint32_t here;

            for (int column = 0; p != NULL && (here = next_char(&p)) != 0; column++) {
                if (here != c) {
                    continue;
                }
                chord->key = row_keys[row][column];
                chord->mods = (uint8_t)level; /* bit 0 Shift, bit 1 AltGr */
                chord->cased = other_case(c) != 0 &&
                               char_at(map, level ^ KEYMAP_SHIFT, row, column) == other_case(c);
                return true;
            }
        }
    }
    return false;
}

struct accent {
    uint32_t dead;   /* as in the tables */
    uint32_t alone;  /* the accent as a character: dead key and space */
    uint32_t keysym; /* of the dead key */
    const char *letters, *base;
};

static const struct accent accents[] = {
    {0x2cb, '`', 0xfe50, "ÀÈÌÒÙàèìòù", "AEIOUaeiou"},
    {0xb4, 0xb4, 0xfe51, "ÁÉÍÓÚÝáéíóúý", "AEIOUYaeiouy"},
    {0x2c6, '^', 0xfe52, "ÂÊÎÔÛâêîôû", "AEIOUaeiou"},
    {0x2dc, '~', 0xfe53, "ÃÑÕãñõ", "ANOano"},
    {0xa8, 0xa8, 0xfe57, "ÄËÏÖÜäëïöüÿ", "AEIOUaeiouy"},
};

/* Dead key first, then the base. */
static bool find_accented(const struct keymap *map, const struct accent *a, uint32_t base,
                          struct keymap_chord *chord)
{
    struct keymap_chord dead = {0};

    if (!find_char(map, a->dead, &dead)) {
        return false;
    }
    if (base == ' ') {
        *chord = (struct keymap_chord){.key = KEY_SPACE};
    } else if (!find_char(map, base, chord)) {
        return false;
    }
    chord->dead = dead.key;
    chord->dead_mods = dead.mods;
    return true;
}

static bool lookup_char(const struct keymap *map, uint32_t c, struct keymap_chord *chord)
{
    if (c == ' ' || c == 0xa0) {
        *chord = (struct keymap_chord){.key = KEY_SPACE, .any_mods = true};
        return true;
    }
    for (size_t i = 0; i < sizeof(accents) / sizeof(accents[0]); i++) {
        const struct accent *a = &accents[i];
        const char *letter = a->letters, *base = a->base;
        uint32_t l;

        if (c == a->alone) {
            return (c < 0x80 && find_char(map, c, chord)) || find_accented(map, a, ' ', chord);
        }
        while ((l = next_char(&letter)) != 0) {
            uint32_t b = next_char(&base);

            if (l == c) {
                return find_char(map, c, chord) || find_accented(map, a, b, chord);
            }
        }
    }
    return find_char(map, c, chord);
}

bool keymap_lookup(const struct keymap *map, uint32_t keysym, struct keymap_chord *chord)
{
    *chord = (struct keymap_chord){0};
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        if (keysym >= ranges[i].first && keysym <= ranges[i].last) {
            chord->key = ranges[i].key[keysym - ranges[i].first];
            chord->any_mods = true;
            return chord->key != 0;
        }
    }
    for (size_t i = 0; i < sizeof(accents) / sizeof(accents[0]); i++) {
        if (keysym == accents[i].keysym) {
            return find_char(map, accents[i].dead, chord) ||
                   (accents[i].alone < 0x80 && find_char(map, accents[i].alone, chord));
        }
    }
    if (keysym >= 0x01000100 && keysym <= 0x0110ffff) {
        keysym -= 0x01000000; /* Unicode */
        if (keysym == 0x2cb || keysym == 0x2c6 || keysym == 0x2dc) {
            return false; /* what stands for dead keys in the tables */
        }
    } else if (keysym != 0x20ac && (keysym < 0x20 || keysym > 0xff)) {
        return false; /* of the older sets only Latin-1 and the Euro are on these keyboards */
    }
    return lookup_char(map, keysym, chord);
}

const struct keymap *keymap_find(const char *name)
{
    if (name == NULL || name[0] == '\0') {
        return &keymaps[0];
    }
    for (size_t i = 0; i < sizeof(keymaps) / sizeof(keymaps[0]); i++) {
        if (strcmp(name, keymaps[i].name) == 0 ||
            (keymaps[i].alias != NULL && strcmp(name, keymaps[i].alias) == 0)) {
            return &keymaps[i];
        }
    }
    return NULL;
}

const char *keymap_names(void)
{
    return "en-us en-gb de de-ch fr-ch fr fr-be es it pt pt-br sv fi da no ja";
}

bool keymap_has_altgr(const struct keymap *map)
{
    return map->rows[2][0] != NULL;
}
