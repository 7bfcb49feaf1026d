/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * QEMU's option lists: "implied,key=value,flag,noflag", with ",," for a comma in a value; and
 * checked numbers. A list is read in two steps: optlist_split() cuts the text, optlist_read()
 * stores the values through a table of known keys. As in QEMU the last of several equal keys wins.
 * Everything not in the tables is an error that names it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OPTLIST_MAX = 32 };

/* Strings that live as long as the options. */
struct options_arena;
/* Copies len bytes and a NUL, or formats. NULL: no memory. *arena starts as NULL and is freed by
 * arena_free(). */
char *arena_copy(struct options_arena **arena, const char *text, size_t len);
char *arena_printf(struct options_arena **arena, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void arena_free(struct options_arena **arena);

struct optlist {
    const char *option; /* "-drive", for messages */
    const char *text;   /* the whole value, for messages */
    unsigned count;
    struct {
        const char *key;
        const char *value; /* NULL: a bare flag */
    } entries[OPTLIST_MAX];
};

enum optkey_type {
    OPTKEY_STRING, /* const char *; `allowed` lists the values ("a|b") or is NULL; empty strings are refused */
    OPTKEY_TEXT, /* const char *; may be empty */
    OPTKEY_BOOL, /* bool; on, yes, true, y, or a bare flag; off, no, false, n, or a bare flag with "no" before it */
    OPTKEY_UINT, /* uint64_t in min..max, decimal or 0x hexadecimal */
    OPTKEY_INT,  /* int64_t, likewise; for fields whose absence is -1 */
    OPTKEY_SIZE, /* uint64_t bytes in min..max; plain numbers are bytes, suffixes b k m g t (either case) */
    OPTKEY_ONLY, /* nothing is stored; the value must be one of `allowed`, because the others ask for what we do not do
                  */
    OPTKEY_IGNORE, /* nothing is stored, any value */
};

struct optkey {
    const char *key; /* NULL ends the table */
    enum optkey_type type;
    size_t offset; /* of the field in the struct that optlist_read() fills */
    uint64_t min, max;
    const char *allowed;
};

/* Cuts text. With implied, a first entry without '=' is that key's value. 0, or -EINVAL with err
 * filled. */
int optlist_split(struct optlist *l, struct options_arena **arena, const char *option,
                  const char *implied, const char *text, char *err, size_t errlen);
/* The value of the last entry of that name, or NULL (also for a bare flag). */
const char *optlist_get(const struct optlist *l, const char *key);
/* Stores all entries into *out by the tables (b may be NULL). 0, or -EINVAL with err filled. */
int optlist_read(const struct optlist *l, const struct optkey *a, const struct optkey *b, void *out,
                 char *err, size_t errlen);

/* Whole strings only, no sign, no blank. false: not a number or out of range. */
bool optnum_uint(const char *text, uint64_t min, uint64_t max, uint64_t *out);
bool optnum_size(const char *text, uint64_t unit, uint64_t min, uint64_t max, uint64_t *out);
bool optnum_bool(const char *text, bool *out);
/* Whether word (of len bytes) is one of the words of set, "a|b|c". */
bool optword_in(const char *set, const char *word, size_t len);
