/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ui/deflate.h"

#include <stdbool.h>
#include <string.h>

/* RFC 1951: section 3.2.5 for lengths and distances, 3.2.7 for the code lengths' own code. */
enum {
    LITERALS = 286, /* and end of block, and match lengths */
    END_OF_BLOCK = 256,
    FIRST_LENGTH = 257,
    LONGEST_LENGTH = 285,
    DISTANCES = 30,
    CODE_LENGTHS = 19,
    CODE_BITS_MAX = 15,
    CODE_LENGTH_BITS_MAX = 7,
    MATCH_MIN = 3,
    MATCH_MAX = 258,
    WINDOW = 32768,

    STORED = 0,
    FIXED = 1,
    DYNAMIC = 2,
    STORED_OVERHEAD = 5, /* bytes */
    REPEAT = 16,         /* the last length 3..6 times, */
    ZEROS_SHORT = 17,    /* 0 3..10 times, */
    ZEROS_LONG = 18,     /* 0 11..138 times */

    GOOD_ENOUGH = 32, /* a match that ends the search */
    SKIP_SHIFT = 5,   /* so many misses in a row, and it looks at every other pixel only, ... */
    SKIP_MAX = 7,
    FEW_SYMBOLS = 48, /* not worth a code of their own */
};

struct code {
    uint16_t bits; /* the first bit is the lowest */
    uint8_t len;
};

struct writer {
    uint8_t *out;
    uint64_t bits;
    unsigned count; /* of bits, < 32 between calls */
};

/* Every processor that Xen has HVM guests on is little-endian. */
static inline uint64_t load64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* ---- output ---- */

/* At most 32 bits. */
static inline void put(struct writer *w, uint32_t bits, unsigned count)
{
    w->bits |= (uint64_t)bits << w->count;
    w->count += count;
    if (w->count >= 32) {
        uint32_t whole = (uint32_t)w->bits;

        memcpy(w->out, &whole, sizeof(whole));
        w->out += sizeof(whole);
        w->bits >>= 32;
        w->count -= 32;
    }
}

static void align(struct writer *w)
{
    for (; w->count > 0; w->count -= w->count < 8 ? w->count : 8) {
        *w->out++ = (uint8_t)w->bits;
        w->bits >>= 8;
    }
    w->bits = 0;
}

static void put_stored(struct writer *w, const uint8_t *in, size_t n)
{
    const uint8_t head[] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)~n, (uint8_t)(~n >> 8)};

    put(w, STORED << 1, 3);
    align(w);
    memcpy(w->out, head, sizeof(head));
    memcpy(w->out + sizeof(head), in, n);
    w->out += sizeof(head) + n;
}

/* ---- Huffman codes ---- */

/* Sorts ascending. */
static void sort(uint32_t *key, unsigned n)
{
    static const unsigned gaps[] = {57, 23, 10, 4, 1};

    for (unsigned g = 0; g < sizeof(gaps) / sizeof(gaps[0]); g++) {
        unsigned gap = gaps[g];

        for (unsigned i = gap; i < n; i++) {
            uint32_t k = key[i];
            unsigned at = i;

            for (; at >= gap && key[at - gap] > k; at -= gap) {
                key[at] = key[at - gap];
            }
            key[at] = k;
        }
    }
}

/* The depths of a Huffman tree's leaves, whose weights are key[] >> 9, ascending. Returns the
 * greatest. */
static unsigned depths(const uint32_t *key, unsigned n, uint8_t *depth)
{
    uint32_t weight[2 * LITERALS];
    uint16_t parent[2 * LITERALS];
    uint8_t d[2 * LITERALS];
    unsigned leaf = 0, node = n;

    for (unsigned i = 0; i < n; i++) {
        weight[i] = key[i] >> 9;
    }
    /* Nodes come out in the order of their weights, too: two queues, and the smaller head is next. */
    for (unsigned next = n; next < 2 * n - 1; next++) {
        weight[next] = 0;
        for (int k = 0; k < 2; k++) {
            unsigned take =
                leaf < n && (node == next || weight[leaf] <= weight[node]) ? leaf++ : node++;

            weight[next] += weight[take];
            parent[take] = (uint16_t)next;
        }
    }
    d[2 * n - 2] = 0;
    for (unsigned i = 2 * n - 2; i-- > 0;) {
        d[i] = (uint8_t)(d[parent[i]] + 1);
    }
    memcpy(depth, d, n);
    return d[0]; /* the lightest leaf is among the deepest */
}

/* Bits in reverse order. */
static uint16_t reversed(unsigned bits, unsigned count)
{
    unsigned r = 0;

    for (; count > 0; count--, bits >>= 1) {
        r = r << 1 | (bits & 1);
    }
    return (uint16_t)r;
}

/* Gives the codes that belong to the lengths (3.2.2). */
static void assign(struct code *code, unsigned n)
{
    unsigned count[CODE_BITS_MAX + 1] = {0};
    unsigned next[CODE_BITS_MAX + 1];
    unsigned first = 0;

    for (unsigned i = 0; i < n; i++) {
        count[code[i].len]++;
    }
    count[0] = 0;
    for (unsigned len = 1; len <= CODE_BITS_MAX; len++) {
        first = (first + count[len - 1]) << 1;
        next[len] = first;
    }
    for (unsigned i = 0; i < n; i++) {
        if (code[i].len != 0) {
            code[i].bits = reversed(next[code[i].len]++, code[i].len);
        }
    }
}

/* The lengths of a code for n symbols that occur freq[] times, max_bits at most; at least two
 * symbols get one, so that the code is complete. */
static void set_lengths(const uint32_t *freq, unsigned n, unsigned max_bits, struct code *code)
{
    uint32_t key[LITERALS];
    uint8_t depth[LITERALS];
    unsigned used = 0;

    memset(code, 0, n * sizeof(*code));
    for (unsigned i = 0; i < n; i++) {
        if (freq[i] != 0) {
            key[used++] = freq[i] << 9 | i;
        }
    }
    for (unsigned i = 0; used < 2; i++) {
        if (freq[i] == 0) {
            key[used++] = 1u << 9 | i;
        }
    }
    sort(key, used);
    while (depths(key, used, depth) > max_bits) {
        /* Flatter: in the end all weigh the same. The order stays. */
        for (unsigned i = 0; i < used; i++) {
            key[i] = ((key[i] >> 9) + 1) / 2 << 9 | (key[i] & 0x1ff);
        }
    }
    for (unsigned i = 0; i < used; i++) {
        code[key[i] & 0x1ff].len = depth[i];
    }
}

/* The lengths of a fixed block (3.2.6). */
static void set_fixed_lengths(struct code *literal, struct code *distance)
{
    for (unsigned i = 0; i < LITERALS + 2; i++) { /* the last two are never used */
        literal[i].len = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    }
    for (unsigned i = 0; i < DISTANCES; i++) {
        distance[i].len = 5;
    }
}

/* ---- symbols ---- */

struct symbol {
    uint16_t sym;
    uint8_t extra_bits;
    uint16_t extra;
};

static inline struct symbol length_symbol(unsigned len)
{
    unsigned l = len - MATCH_MIN;
    unsigned e = l < 8 ? 0 : 29 - (unsigned)__builtin_clz(l);

    if (len == MATCH_MAX) {
        return (struct symbol){LONGEST_LENGTH, 0, 0};
    }
    return (struct symbol){(uint16_t)(FIRST_LENGTH + 4 * e + (l >> e)), (uint8_t)e,
                           (uint16_t)(l & ((1u << e) - 1))};
}

static inline struct symbol distance_symbol(unsigned dist)
{
    unsigned d = dist - 1;
    unsigned e = d < 4 ? 0 : 30 - (unsigned)__builtin_clz(d);

    return (struct symbol){(uint16_t)(2 * e + (d >> e)), (uint8_t)e,
                           (uint16_t)(d & ((1u << e) - 1))};
}

struct block {
    struct code literal[LITERALS + 2], distance[DISTANCES];
    uint32_t literal_freq[LITERALS], distance_freq[DISTANCES];
    uint64_t extra_bits;
    struct code lengths_code[CODE_LENGTHS];
    uint8_t lengths[LITERALS + DISTANCES][2]; /* run-length coded: symbol, extra */
    unsigned length_count;
    unsigned literal_used, distance_used;
};

static void count_symbols(struct block *b, const struct deflate *d, const uint8_t *in)
{
    for (size_t i = 0; i < d->steps; i++) {
        const struct deflate_step *s = &d->step[i];

        for (unsigned k = 0; k < s->literals; k++) {
            b->literal_freq[*in++]++;
        }
        if (s->len != 0) {
            struct symbol len = length_symbol(s->len);
            struct symbol dist = distance_symbol(s->dist);

            b->literal_freq[len.sym]++;
            b->distance_freq[dist.sym]++;
            b->extra_bits += len.extra_bits + dist.extra_bits;
            in += s->len;
        }
    }
    b->literal_freq[END_OF_BLOCK] = 1;
}

/* Bits that the block takes with these codes. */
static uint64_t cost(const struct block *b)
{
    uint64_t bits = 3 + b->extra_bits;

    for (unsigned i = 0; i < LITERALS; i++) {
        bits += (uint64_t)b->literal_freq[i] * b->literal[i].len;
    }
    for (unsigned i = 0; i < DISTANCES; i++) {
        bits += (uint64_t)b->distance_freq[i] * b->distance[i].len;
    }
    return bits;
}

static unsigned used_symbols(const struct code *code, unsigned n, unsigned least)
{
    while (n > least && code[n - 1].len == 0) {
        n--;
    }
    return n;
}

static const uint8_t length_extra_bits[CODE_LENGTHS] = {
    [REPEAT] = 2, [ZEROS_SHORT] = 3, [ZEROS_LONG] = 7};
/* The order in which the code lengths' own lengths are sent. */
static const uint8_t length_order[CODE_LENGTHS] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                   11, 4,  12, 3, 13, 2, 14, 1, 15};

static void add_length(struct block *b, uint32_t *freq, unsigned sym, unsigned extra)
{
    freq[sym]++;
    b->lengths[b->length_count][0] = (uint8_t)sym;
    b->lengths[b->length_count++][1] = (uint8_t)extra;
}

/* The two codes' lengths as a dynamic block sends them. Returns how many bits that is. */
static uint64_t pack_lengths(struct block *b)
{
    uint8_t len[LITERALS + DISTANCES];
    uint32_t freq[CODE_LENGTHS] = {0};
    unsigned n = 0;
    uint64_t bits = 5 + 5 + 4;

    b->literal_used = used_symbols(b->literal, LITERALS, FIRST_LENGTH);
    b->distance_used = used_symbols(b->distance, DISTANCES, 1);
    for (unsigned i = 0; i < b->literal_used; i++) {
        len[n++] = b->literal[i].len;
    }
    for (unsigned i = 0; i < b->distance_used; i++) {
        len[n++] = b->distance[i].len;
    }
    b->length_count = 0;
    for (unsigned i = 0, run; i < n; i += run) {
        for (run = 1; i + run < n && run < 138 && len[i + run] == len[i]; run++) {
        }
        if (len[i] == 0 && run >= 3) {
            add_length(b, freq, run < 11 ? ZEROS_SHORT : ZEROS_LONG, run - (run < 11 ? 3 : 11));
        } else if (i > 0 && len[i] == len[i - 1] && run >= 3) {
            run = run < 6 ? run : 6;
            add_length(b, freq, REPEAT, run - 3);
        } else {
            run = 1;
            add_length(b, freq, len[i], 0);
        }
    }
    set_lengths(freq, CODE_LENGTHS, CODE_LENGTH_BITS_MAX, b->lengths_code);
    for (unsigned i = 0; i < CODE_LENGTHS; i++) {
        bits += 3 + (uint64_t)freq[i] * (b->lengths_code[i].len + length_extra_bits[i]);
    }
    return bits;
}

static void put_lengths(struct writer *w, struct block *b)
{
    unsigned n = CODE_LENGTHS;

    assign(b->lengths_code, CODE_LENGTHS);
    while (n > 4 && b->lengths_code[length_order[n - 1]].len == 0) {
        n--;
    }
    put(w, b->literal_used - FIRST_LENGTH, 5);
    put(w, b->distance_used - 1, 5);
    put(w, n - 4, 4);
    for (unsigned i = 0; i < n; i++) {
        put(w, b->lengths_code[length_order[i]].len, 3);
    }
    for (unsigned i = 0; i < b->length_count; i++) {
        unsigned sym = b->lengths[i][0];

        put(w, b->lengths_code[sym].bits, b->lengths_code[sym].len);
        put(w, b->lengths[i][1], length_extra_bits[sym]);
    }
}

static void put_symbols(struct writer *to, struct block *b, const struct deflate *d,
                        const uint8_t *in)
{
    struct writer w = *to; /* a copy stays in registers: what it writes could be anywhere */

    assign(b->literal, LITERALS + 2);
    assign(b->distance, DISTANCES);
    for (size_t i = 0; i < d->steps; i++) {
        const struct deflate_step *s = &d->step[i];

        for (unsigned k = 0; k < s->literals; k++) {
            const struct code *c = &b->literal[*in++];

            put(&w, c->bits, c->len);
        }
        if (s->len != 0) {
            struct symbol len = length_symbol(s->len);
            struct symbol dist = distance_symbol(s->dist);
            const struct code *lc = &b->literal[len.sym];
            const struct code *dc = &b->distance[dist.sym];

            put(&w, lc->bits | (uint32_t)len.extra << lc->len, lc->len + len.extra_bits);
            put(&w, dc->bits | (uint32_t)dist.extra << dc->len, dc->len + dist.extra_bits);
            in += s->len;
        }
    }
    put(&w, b->literal[END_OF_BLOCK].bits, b->literal[END_OF_BLOCK].len);
    *to = w;
}

/* ---- matches ---- */

/* Bytes that are equal at a and b, at most max. Reads at most 7 bytes beyond. */
static inline size_t same_bytes(const uint8_t *a, const uint8_t *b, size_t max)
{
    size_t n = 0;

    while (n < max) {
        uint64_t x = load64(a + n) ^ load64(b + n);

        if (x != 0) {
            n += (unsigned)__builtin_ctzll(x) / 8;
            break;
        }
        n += sizeof(x);
    }
    return n < max ? n : max;
}

struct match {
    size_t len, dist;
};

static inline void consider(struct match *best, const uint8_t *at, size_t dist, size_t max,
                            unsigned unit)
{
    size_t len = same_bytes(at, at - dist, max);

    len -= unit == 3 ? len % 3 : 0;
    if (len > best->len) {
        *best = (struct match){len, dist};
    }
}

/* The best of the three places to look at for in[i..end). */
static inline struct match look(struct deflate *d, const uint8_t *in, size_t i, size_t end,
                                unsigned unit, size_t row)
{
    size_t max = end - i < MATCH_MAX ? end - i : MATCH_MAX;
    size_t least = unit == 3 ? 6 : 4; /* a far match has to be worth its distance */
    uint64_t begin = load64(in + i) << (unit == 3 ? 16 : 32);
    uint32_t *seen = &d->seen[begin * UINT64_C(0x9e3779b97f4a7c15) >> (64 - DEFLATE_HASH_BITS)];
    size_t from = *seen - (size_t)d->base; /* huge: not of this input */
    struct match best = {.len = MATCH_MIN - 1};

    *seen = d->base + (uint32_t)i;
    if (i >= unit) {
        consider(&best, in + i, unit, max, unit);
    }
    if (best.len < GOOD_ENOUGH && i >= row) {
        consider(&best, in + i, row, max, unit);
    }
    if (best.len < GOOD_ENOUGH && from < i && i - from <= WINDOW) {
        struct match far = {.len = best.len > least ? best.len : least - 1};

        consider(&far, in + i, i - from, max, unit);
        best = far.dist != 0 ? far : best;
    }
    return best;
}

/* Takes in[at..end) apart. */
static void find_steps(struct deflate *d, const uint8_t *in, size_t at, size_t end, unsigned unit,
                       size_t row)
{
    size_t literals = at; /* from here */
    size_t misses = 0;

    d->steps = 0;
    for (size_t i = at; i < end;) {
        struct match m = look(d, in, i, end, unit, row);
        size_t skip;

        if (m.len >= MATCH_MIN) {
            d->step[d->steps++] =
                (struct deflate_step){(uint16_t)(i - literals), (uint16_t)m.len, (uint16_t)m.dist};
            i += m.len;
            literals = i;
            misses = 0;
            continue;
        }
        skip = misses++ >> SKIP_SHIFT;
        i += unit * (1 + (skip < SKIP_MAX ? skip : SKIP_MAX));
    }
    if (literals < end) {
        d->step[d->steps++] = (struct deflate_step){.literals = (uint16_t)(end - literals)};
    }
}

/* ---- blocks ---- */

/* Returns true if it ended at a byte boundary. */
static bool put_block(struct deflate *d, struct writer *w, const uint8_t *in, size_t n)
{
    uint64_t stored = 8 * (n + STORED_OVERHEAD), fixed, dynamic = UINT64_MAX;
    struct block own, standard;

    memset(&own, 0, sizeof(own));
    memset(&standard, 0, sizeof(standard));
    count_symbols(&own, d, in);
    memcpy(standard.literal_freq, own.literal_freq, sizeof(own.literal_freq));
    memcpy(standard.distance_freq, own.distance_freq, sizeof(own.distance_freq));
    standard.extra_bits = own.extra_bits;
    set_fixed_lengths(standard.literal, standard.distance);
    fixed = cost(&standard);
    if (n > FEW_SYMBOLS) {
        set_lengths(own.literal_freq, LITERALS, CODE_BITS_MAX, own.literal);
        set_lengths(own.distance_freq, DISTANCES, CODE_BITS_MAX, own.distance);
        dynamic = pack_lengths(&own) + cost(&own);
    }
    if (stored <= fixed && stored <= dynamic) {
        put_stored(w, in, n);
        return true;
    }
    if (fixed <= dynamic) {
        put(w, FIXED << 1, 3);
        put_symbols(w, &standard, d, in);
    } else {
        put(w, DYNAMIC << 1, 3);
        put_lengths(w, &own);
        put_symbols(w, &own, d, in);
    }
    return false;
}

size_t deflate_bound(size_t n)
{
    return n + (n / (DEFLATE_BLOCK - 2) + 2) * (STORED_OVERHEAD + 1) + sizeof(uint64_t);
}

size_t deflate_pixels(struct deflate *d, const uint8_t *in, size_t n, unsigned unit, size_t row,
                      uint8_t *out)
{
    struct writer w = {.out = out};
    size_t block = DEFLATE_BLOCK - DEFLATE_BLOCK % unit;
    bool whole = false;

    if (d->base > UINT32_MAX / 2) {
        memset(d->seen, 0, sizeof(d->seen));
        d->base = 0;
    }
    d->base++; /* 0 is never a position of this input */
    for (size_t at = 0; at < n; at += block) {
        size_t end = n - at < block ? n : at + block;

        find_steps(d, in, at, end, unit, row);
        whole = put_block(d, &w, in + at, end - at);
    }
    d->base += (uint32_t)n;
    if (!whole) {
        put_stored(&w, in, 0);
    }
    return (size_t)(w.out - out);
}
