/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/optlist.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options_arena {
    struct options_arena *next;
    char text[];
};

static char *arena_alloc(struct options_arena **arena, size_t bytes)
{
    struct options_arena *a = malloc(sizeof(*a) + bytes);

    if (!a) {
        return NULL;
    }
    a->next = *arena;
    *arena = a;
    return a->text;
}

char *arena_copy(struct options_arena **arena, const char *text, size_t len)
{
    char *copy = arena_alloc(arena, len + 1);

    if (copy) {
        memcpy(copy, text, len);
        copy[len] = '\0';
    }
    return copy;
}

char *arena_printf(struct options_arena **arena, const char *fmt, ...)
{
    va_list ap;
    char *copy = NULL;
    int len;

    va_start(ap, fmt);
    len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (len >= 0) {
        copy = arena_alloc(arena, (size_t)len + 1);
    }
    if (copy) {
        va_start(ap, fmt);
        vsnprintf(copy, (size_t)len + 1, fmt, ap);
        va_end(ap);
    }
    return copy;
}

void arena_free(struct options_arena **arena)
{
    while (*arena) {
        struct options_arena *next = (*arena)->next;

        free(*arena);
        *arena = next;
    }
}

bool optnum_uint(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    const char *digits = hex ? text + 2 : text;
    const char *set = hex ? "0123456789abcdefABCDEF" : "0123456789";
    char *end;
    unsigned long long value;

    if (digits[0] == '\0' || strspn(digits, set) != strlen(digits)) {
        return false;
    }
    errno = 0;
    value = strtoull(digits, &end, hex ? 16 : 10);
    if (errno || value < min || value > max) {
        return false;
    }
    *out = value;
    return true;
}

bool optnum_size(const char *text, uint64_t unit, uint64_t min, uint64_t max, uint64_t *out)
{
    static const char suffixes[] = "bkmgt";
    size_t digits = strspn(text, "0123456789");
    char *end;
    unsigned long long value;

    if (digits == 0) {
        return false;
    }
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno) {
        return false;
    }
    if (*end != '\0') {
        const char *s = strchr(suffixes, *end | 0x20);

        if (!s || *s == '\0' || end[1] != '\0') {
            return false;
        }
        unit = 1ull << (10 * (unsigned)(s - suffixes));
    }
    if (__builtin_mul_overflow((uint64_t)value, unit, out)) {
        return false;
    }
    return *out >= min && *out <= max;
}

bool optnum_bool(const char *text, bool *out)
{
    if (optword_in("on|yes|true|y", text, strlen(text))) {
        *out = true;
        return true;
    }
    *out = false;
    return optword_in("off|no|false|n", text, strlen(text));
}

bool optword_in(const char *set, const char *word, size_t len)
{
    while (set) {
        const char *bar = strchr(set, '|');
        size_t n = bar ? (size_t)(bar - set) : strlen(set);

        if (n == len && memcmp(set, word, len) == 0) {
            return true;
        }
        set = bar ? bar + 1 : NULL;
    }
    return false;
}

/* Cuts one entry, up to a single comma, out of *text and undoubles its commas. */
static char *next_entry(struct options_arena **arena, const char **text)
{
    char *entry = arena_copy(arena, *text, strlen(*text));
    const char *in = *text;
    size_t n = 0;

    if (!entry) {
        return NULL;
    }
    while (*in && !(in[0] == ',' && in[1] != ',')) {
        in += *in == ',';
        entry[n++] = *in++;
    }
    entry[n] = '\0';
    *text = *in ? in + 1 : NULL;
    return entry;
}

int optlist_split(struct optlist *l, struct options_arena **arena, const char *option,
                  const char *implied, const char *text, char *err, size_t errlen)
{
    const char *rest = text;

    *l = (struct optlist){.option = option, .text = text};
    while (rest) {
        char *key = next_entry(arena, &rest);
        char *equals;

        if (!key) {
            snprintf(err, errlen, "%s: out of memory", option);
            return -EINVAL;
        }
        equals = strchr(key, '=');
        if (l->count == OPTLIST_MAX) {
            snprintf(err, errlen, "%s: more than %d keys in '%.60s'", option, OPTLIST_MAX, text);
            return -EINVAL;
        }
        if (key[0] == '\0' || equals == key) {
            /* A first empty value of an implied key ("-vnc ,to=99") is left to the key's own check.
             * */
            if (!(implied && l->count == 0 && key[0] == '\0')) {
                snprintf(err, errlen,
                         "%s: empty key in '%.60s'; a comma inside a value is written ,,", option,
                         text);
                return -EINVAL;
            }
        }
        if (equals) {
            *equals = '\0';
            l->entries[l->count].value = equals + 1;
            l->entries[l->count].key = key;
        } else if (implied && l->count == 0) {
            l->entries[l->count].value = key;
            l->entries[l->count].key = implied;
        } else {
            l->entries[l->count].key = key;
        }
        l->count++;
    }
    return 0;
}

const char *optlist_get(const struct optlist *l, const char *key)
{
    for (unsigned i = l->count; i-- > 0;) {
        if (strcmp(l->entries[i].key, key) == 0) {
            return l->entries[i].value;
        }
    }
    return NULL;
}

/* Finds key in the tables; *negated: it is a bare "no" + the name of a BOOL or ONLY key. */
static const struct optkey *find_key(const struct optkey *a, const struct optkey *b,
                                     const char *key, bool bare, bool *negated)
{
    const struct optkey *tables[2] = {a, b};

    *negated = false;
    for (unsigned t = 0; t < 2; t++) {
        for (const struct optkey *k = tables[t]; k && k->key; k++) {
            if (strcmp(k->key, key) == 0) {
                return k;
            }
            if (bare && strncmp(key, "no", 2) == 0 && strcmp(k->key, key + 2) == 0 &&
                (k->type == OPTKEY_BOOL || k->type == OPTKEY_ONLY)) {
                *negated = true;
                return k;
            }
        }
    }
    return NULL;
}

/* A bare flag that is unknown often is the rest of a value with a comma in it. */
static int unknown_key(const struct optlist *l, const char *key, bool bare, const struct optkey *a,
                       const struct optkey *b, char *err, size_t errlen)
{
    const struct optkey *tables[2] = {a, b};
    int n = snprintf(err, errlen, "%s: unknown key '%.40s' in '%.60s'%s; known:", l->option, key,
                     l->text, bare ? " (a comma inside a value is written ,,)" : "");

    for (unsigned t = 0; t < 2; t++) {
        for (const struct optkey *k = tables[t]; k && k->key && n > 0 && (size_t)n < errlen; k++) {
            n += snprintf(err + n, errlen - (size_t)n, " %s", k->key);
        }
    }
    return -EINVAL;
}

/* Stores one value. false: it is not acceptable for the key. */
static bool store(const struct optkey *k, const char *value, void *field)
{
    uint64_t number = 0;

    switch (k->type) {
    case OPTKEY_STRING:
        if (value[0] == '\0' || (k->allowed && !optword_in(k->allowed, value, strlen(value)))) {
            return false;
        }
        *(const char **)field = value;
        return true;
    case OPTKEY_TEXT:
        *(const char **)field = value;
        return true;
    case OPTKEY_BOOL:
        return optnum_bool(value, field);
    case OPTKEY_UINT:
        return optnum_uint(value, k->min, k->max, field);
    case OPTKEY_INT:
        if (!optnum_uint(value, k->min, k->max, &number)) {
            return false;
        }
        *(int64_t *)field = (int64_t)number;
        return true;
    case OPTKEY_SIZE:
        return optnum_size(value, 1, k->min, k->max, field);
    case OPTKEY_ONLY:
        return optword_in(k->allowed, value, strlen(value));
    case OPTKEY_IGNORE:
        return true;
    }
    return false;
}

static int bad_value(const struct optlist *l, const struct optkey *k, const char *value, char *err,
                     size_t errlen)
{
    int n = snprintf(err, errlen, "%s: bad value %s=%.60s; it must be ", l->option, k->key, value);
    size_t room = n > 0 && (size_t)n < errlen ? errlen - (size_t)n : 0;
    char *at = err + (errlen - room);

    switch (k->type) {
    case OPTKEY_BOOL:
        snprintf(at, room, "on or off");
        break;
    case OPTKEY_UINT:
    case OPTKEY_INT:
        snprintf(at, room, "a number from %llu to %llu", (unsigned long long)k->min,
                 (unsigned long long)k->max);
        break;
    case OPTKEY_SIZE:
        snprintf(at, room, "a size from %llu to %llu bytes (suffix K, M, G)",
                 (unsigned long long)k->min, (unsigned long long)k->max);
        break;
    default:
        snprintf(at, room, "%s", k->allowed ? k->allowed : "a text that is not empty");
        break;
    }
    return -EINVAL;
}

int optlist_read(const struct optlist *l, const struct optkey *a, const struct optkey *b, void *out,
                 char *err, size_t errlen)
{
    for (unsigned i = 0; i < l->count; i++) {
        const char *key = l->entries[i].key;
        const char *value = l->entries[i].value;
        bool negated;
        const struct optkey *k = find_key(a, b, key, !value, &negated);

        if (!k) {
            return unknown_key(l, key, !value, a, b, err, errlen);
        }
        if (!value) {
            if (k->type != OPTKEY_BOOL && k->type != OPTKEY_ONLY && k->type != OPTKEY_IGNORE) {
                snprintf(err, errlen, "%s: key '%s' needs a value (%s=...)", l->option, key, key);
                return -EINVAL;
            }
            value = negated ? "off" : "on";
        }
        if (!store(k, value, out ? (char *)out + k->offset : NULL)) {
            return bad_value(l, k, value, err, errlen);
        }
    }
    return 0;
}
