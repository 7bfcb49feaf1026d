/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Tight encoding of 24-bit colours, without libvncserver: its split into rectangles looks only
 * for areas of one colour, and zlib is most of what it costs. Here a rectangle is cut into strips
 * where the number of colours changes, so that text beside pictures is sent as bits, and ISA-L's
 * igzip packs it, four times as fast as zlib's fastest level. Lossless; for clients that asked for
 * JPEG (a quality level) the library still makes that of strips with many colours.
 *
 * Zlib stream 3 is ours, the library uses 0 to 2.
 */
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ui/vnc_int.h"

enum { /* community RFB specification, "Tight Encoding" */
       CONTROL_FILL = 0x80,
       CONTROL_BASIC = 3 << 4, /* stream 3 */
       CONTROL_FILTER = 0x40,
       FILTER_PALETTE = 1,
       MAX_WIDTH = 2048,
       MIN_PACKED = 12, /* bytes; fewer are sent as they are */
       STORED_MAX =
           65535, /* RFC 1951, 3.2.4: bytes of a stored block, and what comes on top of them */
       STORED_EXTRA = 5,
       FLUSH_EXTRA = 8,
};
enum {
    STRIP_BYTES = 98304, /* of one rectangle on the wire, before they are packed */
    CHUNK_PIXELS = 4096, /* whose colours are looked at together */
    COLOURS = 256,
    SLOTS = 1024,
    PIXELS_PER_COLOUR = 8, /* fewer, and a palette is no gain */
    HEAD_MAX = 12 + 3 + 3 * COLOURS + 3 + 2,
    OUT_BYTES = 256 * 1024,
};

enum kind { SOLID, MONO, INDEXED, FULL };

struct palette {
    unsigned count;
    uint32_t colour[COLOURS];
    uint16_t slot[SLOTS]; /* hash table: index + 1; 0: free */
};

struct vnc_tight {
    struct palette strip, chunk, both;
    struct isal_zstream packer;
    uint8_t packer_memory[ISAL_DEF_LVL1_DEFAULT];
    uint8_t bytes[STRIP_BYTES + 8];
    size_t used;
    uint8_t out[OUT_BYTES];
};

typedef uint32_t px4 __attribute__((vector_size(16)));
typedef uint64_t half2 __attribute__((vector_size(16)));

/* ---- colours ---- */

static void palette_reset(struct palette *p)
{
    p->count = 0;
    memset(p->slot, 0, sizeof(p->slot));
}

/* The colour's index; it is added if it is new. -1: no room. */
static inline int palette_index(struct palette *p, uint32_t colour)
{
    uint32_t at = colour * 0x9e3779b1u >> 22;

    for (; p->slot[at] != 0; at = (at + 1) % SLOTS) {
        if (p->colour[p->slot[at] - 1] == colour) {
            return p->slot[at] - 1;
        }
    }
    if (p->count == COLOURS) {
        return -1;
    }
    p->colour[p->count++] = colour;
    p->slot[at] = (uint16_t)p->count;
    return (int)p->count - 1;
}

/* The first of row[x..w) that is neither a nor b; w: none. */
static inline int find_other(const uint32_t *row, int x, int w, uint32_t a, uint32_t b)
{
    const px4 va = {a, a, a, a}, vb = {b, b, b, b};

    for (; x + 8 <= w; x += 8) {
        px4 p[2];
        half2 other;

        memcpy(p, row + x, sizeof(p));
        other = (half2)(((p[0] != va) & (p[0] != vb)) | ((p[1] != va) & (p[1] != vb)));
        if ((other[0] | other[1]) != 0) {
            break;
        }
    }
    while (x < w && (row[x] == a || row[x] == b)) {
        x++;
    }
    return x;
}

/* Collects the colours of r in the empty palette p. false: too many. */
static bool collect(const struct vnc_ui *ui, struct rect r, struct palette *p)
{
    const uint32_t *row = ui->pixels + (size_t)r.y * (size_t)ui->width + r.x;
    uint32_t a = row[0], b = row[0], last;
    int x = 0, y = 0;

    palette_index(p, a);
    while (y < r.h) {
        x = find_other(row, x, r.w, a, b);
        if (x == r.w) {
            x = 0;
            y++;
            row += ui->width;
        } else if (p->count == 1) {
            b = row[x];
            palette_index(p, b);
        } else {
            break;
        }
    }
    last = a;
    for (; y < r.h; y++, x = 0, row += ui->width) {
        for (; x < r.w; x++) {
            if (row[x] != last) {
                last = row[x];
                if (palette_index(p, last) < 0) {
                    return false;
                }
            }
        }
    }
    return true;
}

static enum kind kind_of(const struct palette *p, int pixels)
{
    return p->count == 1                                      ? SOLID
           : p->count == 2                                    ? MONO
           : p->count <= (unsigned)pixels / PIXELS_PER_COLOUR ? INDEXED
                                                              : FULL;
}

/* What r is before it is packed. */
static size_t plain_bytes(struct rect r, enum kind kind)
{
    size_t row = kind == SOLID     ? 0
                 : kind == MONO    ? ((size_t)r.w + 7) / 8
                 : kind == INDEXED ? (size_t)r.w
                                   : 3 * (size_t)r.w;

    return row * (size_t)r.h;
}

/* ---- output ---- */

static void spill(struct vnc_client *c)
{
    struct vnc_tight *t = c->ui->tight;

    if (t->used > 0 && pwrite(c->out_fd, t->out, t->used, c->out_len) != (ssize_t)t->used) {
        vnc_client_close(c);
    } else {
        c->out_len += (off_t)t->used;
    }
    t->used = 0;
}

/* Room for so much; before anything is written of a rectangle. */
static void reserve(struct vnc_client *c, size_t bytes)
{
    if (OUT_BYTES - c->ui->tight->used < bytes) {
        spill(c);
    }
}

static void put8(struct vnc_tight *t, unsigned v)
{
    t->out[t->used++] = (uint8_t)v;
}

static void put16(struct vnc_tight *t, int v)
{
    put8(t, (unsigned)v >> 8);
    put8(t, (unsigned)v);
}

static void put_colour(struct vnc_tight *t, uint32_t colour)
{
    put8(t, colour >> 16);
    put8(t, colour >> 8);
    put8(t, colour);
}

static void put_head(struct vnc_tight *t, struct rect r)
{
    put16(t, r.x);
    put16(t, r.y);
    put16(t, r.w);
    put16(t, r.h);
    put16(t, 0);
    put16(t, rfbEncodingTight);
}

/* The most that n bytes become when they are packed. */
static size_t packed_bound(size_t n)
{
    return n + STORED_EXTRA * (n / STORED_MAX + 1) + FLUSH_EXTRA;
}

/* Packs n bytes of t->bytes: blocks that refer to nothing before them and end at a byte boundary, so that they can
 * follow any others in the client's stream. */
static size_t pack(struct vnc_tight *t, size_t n, uint8_t *out)
{
    struct isal_zstream *z = &t->packer;

    isal_deflate_stateless_init(z);
    z->level = 1;
    z->level_buf = t->packer_memory;
    z->level_buf_size = sizeof(t->packer_memory);
    z->flush = FULL_FLUSH;
    z->next_in = t->bytes;
    z->avail_in = (uint32_t)n;
    z->next_out = out;
    z->avail_out = (uint32_t)packed_bound(n);
    return isal_deflate_stateless(z) == COMP_OK && z->avail_in == 0 ? z->total_out : 0;
}

/* The n bytes in t->bytes, packed unless they are few. */
static void put_data(struct vnc_client *c, size_t n)
{
    struct vnc_tight *t = c->ui->tight;
    uint8_t *at = t->out + t->used;
    uint8_t *packed = at + 3; /* after the longest length */
    size_t len = 0, head, body;

    if (n < MIN_PACKED) {
        memcpy(at, t->bytes, n);
        t->used += n;
        return;
    }
    if (!c->tight_begun) {
        c->tight_begun = true;
        packed[len++] = 0x78; /* RFC 1950: deflate, window of 32 KiB */
        packed[len++] = 0x01;
    }
    body = pack(t, n, packed + len);
    if (body == 0) { /* there is room for the worst case: not seen */
        vnc_client_close(c);
        return;
    }
    len += body;
    head = len < 1u << 7 ? 1 : len < 1u << 14 ? 2 : 3;
    for (size_t i = 0; i < head; i++) {
        at[i] =
            (uint8_t)(i == 2 ? len >> 14 : (len >> (7 * i) & 0x7f) | (i + 1 < head ? 0x80u : 0));
    }
    memmove(at + head, packed, len);
    t->used += head + len;
}

/* ---- strips ---- */

static size_t mono_bytes(const struct vnc_ui *ui, struct rect r, uint32_t one, uint8_t *out)
{
    uint8_t *at = out;

    for (int y = 0; y < r.h; y++) {
        const uint32_t *row = ui->pixels + (size_t)(r.y + y) * (size_t)ui->width + r.x;
        int x = 0;

        for (; x + 8 <= r.w; x += 8) {
            unsigned bits = 0;

            for (int k = 0; k < 8; k++) {
                bits = bits << 1 | (row[x + k] == one);
            }
            *at++ = (uint8_t)bits;
        }
        if (x < r.w) {
            unsigned bits = 0;

            for (int k = x; k < r.w; k++) {
                bits |= (row[k] == one) ? 0x80u >> (k - x) : 0;
            }
            *at++ = (uint8_t)bits;
        }
    }
    return (size_t)(at - out);
}

static size_t index_bytes(const struct vnc_ui *ui, struct rect r, struct palette *p, uint8_t *out)
{
    uint8_t *at = out;
    uint32_t last = p->colour[0];
    uint8_t index = 0;

    for (int y = 0; y < r.h; y++) {
        const uint32_t *row = ui->pixels + (size_t)(r.y + y) * (size_t)ui->width + r.x;

        for (int x = 0; x < r.w; x++) {
            if (row[x] != last) {
                last = row[x];
                index = (uint8_t)palette_index(p, last);
            }
            *at++ = index;
        }
    }
    return (size_t)(at - out);
}

static size_t colour_bytes(const struct vnc_ui *ui, struct rect r, uint8_t *out)
{
    uint8_t *at = out;

    for (int y = 0; y < r.h; y++) {
        const uint32_t *row = ui->pixels + (size_t)(r.y + y) * (size_t)ui->width + r.x;

        for (int x = 0; x < r.w; x++, at += 3) {
            uint32_t rgb = __builtin_bswap32(row[x]) >> 8;

            memcpy(at, &rgb, sizeof(rgb)); /* the fourth is overwritten by the next */
        }
    }
    return (size_t)(at - out);
}

/* The library's JPEG. Returns how many rectangles that is. */
static unsigned library_rect(struct vnc_client *c, struct rect r)
{
    rfbClientPtr cl = c->rfb;
    rfbBool last_rect = cl->enableLastRectEncoding;
    int n;

    spill(c);
    if (c->closing || lseek(c->out_fd, c->out_len, SEEK_SET) != c->out_len) {
        vnc_client_close(c);
        return 0;
    }
    /* With LastRect nobody would know how many there are. */
    cl->enableLastRectEncoding = FALSE;
    n = rfbNumCodedRectsTight(cl, r.x, r.y, r.w, r.h);
    if (!rfbSendRectEncodingTight(cl, r.x, r.y, r.w, r.h) || !rfbSendUpdateBuf(cl)) {
        vnc_client_close(c);
    }
    cl->enableLastRectEncoding = last_rect;
    c->out_len = lseek(c->out_fd, 0, SEEK_CUR);
    return (unsigned)n;
}

/* One rectangle on the wire, whose colours are in t->strip. */
static unsigned put_strip(struct vnc_client *c, struct rect r, enum kind kind)
{
    struct vnc_tight *t = c->ui->tight;
    struct palette *p = &t->strip;

    if (kind == FULL && c->rfb->turboQualityLevel != -1) {
        return library_rect(c, r);
    }
    reserve(c, HEAD_MAX + packed_bound(plain_bytes(r, kind)));
    put_head(t, r);
    if (kind == SOLID) {
        put8(t, CONTROL_FILL);
        put_colour(t, p->colour[0]);
    } else if (kind == FULL) {
        put8(t, CONTROL_BASIC);
        put_data(c, colour_bytes(c->ui, r, t->bytes));
    } else {
        put8(t, CONTROL_BASIC | CONTROL_FILTER);
        put8(t, FILTER_PALETTE);
        put8(t, p->count - 1);
        for (unsigned i = 0; i < p->count; i++) {
            put_colour(t, p->colour[i]);
        }
        if (kind == MONO) {
            put_data(c, mono_bytes(c->ui, r, p->colour[1], t->bytes));
        } else {
            put_data(c, index_bytes(c->ui, r, p, t->bytes));
        }
    }
    return 1;
}

/* Whether the chunk may go on in the strip above it. The strip's kind and colours are then those of
 * both. */
static bool extend(struct vnc_tight *t, struct rect *strip, enum kind *kind, int rows,
                   enum kind chunk)
{
    struct rect both = {strip->x, strip->y, strip->w, strip->h + rows};
    enum kind most = *kind > chunk ? *kind : chunk;

    /* As bits a pixel is an eighth of an index, and that a third of its colours. */
    if ((most >= INDEXED && *kind != chunk) || plain_bytes(both, most) > STRIP_BYTES) {
        return false;
    }
    if (most != FULL) {
        t->both = t->strip;
        for (unsigned i = 0; i < t->chunk.count; i++) {
            if (palette_index(&t->both, t->chunk.colour[i]) < 0) {
                return false;
            }
        }
        if (kind_of(&t->both, both.w * both.h) != most) {
            return false;
        }
        t->strip = t->both;
    }
    *strip = both;
    *kind = most;
    return true;
}

/* The strips of r, which is no wider than the encoding can tell. */
static unsigned put_column(struct vnc_client *c, struct rect r)
{
    struct vnc_tight *t = c->ui->tight;
    int rows = r.w < CHUNK_PIXELS ? CHUNK_PIXELS / r.w : 1;
    struct rect strip = {r.x, r.y, r.w, 0};
    enum kind strip_kind = SOLID;
    unsigned n = 0;

    for (int y = r.y; y < r.y + r.h && !c->closing; y += rows) {
        struct rect chunk = {r.x, y, r.w, r.y + r.h - y < rows ? r.y + r.h - y : rows};
        enum kind kind = FULL;

        palette_reset(&t->chunk);
        if (collect(c->ui, chunk, &t->chunk)) {
            kind = kind_of(&t->chunk, chunk.w * chunk.h);
        }
        if (strip.h > 0 && extend(t, &strip, &strip_kind, chunk.h, kind)) {
            continue;
        }
        n += strip.h > 0 ? put_strip(c, strip, strip_kind) : 0;
        strip = chunk;
        strip_kind = kind;
        t->strip = t->chunk;
    }
    return n + put_strip(c, strip, strip_kind);
}

bool vnc_tight_begin(struct vnc_client *c)
{
    struct vnc_ui *ui = c->ui;

    if (ui->tight == NULL) {
        ui->tight = calloc(1, sizeof(*ui->tight));
    }
    if (ui->tight == NULL) {
        return false;
    }
    ui->tight->used = 0;
    put16(ui->tight, 0); /* FramebufferUpdate; the number of rectangles comes later */
    put16(ui->tight, 0);
    return true;
}

void vnc_tight_bytes(struct vnc_client *c, const uint8_t *bytes, size_t n)
{
    reserve(c, n);
    memcpy(c->ui->tight->out + c->ui->tight->used, bytes, n);
    c->ui->tight->used += n;
}

unsigned vnc_tight_rect(struct vnc_client *c, struct rect r)
{
    unsigned n = 0;

    for (int x = 0; x < r.w && !c->closing; x += MAX_WIDTH) {
        n += put_column(
            c, (struct rect){r.x + x, r.y, r.w - x < MAX_WIDTH ? r.w - x : MAX_WIDTH, r.h});
    }
    return n;
}

void vnc_tight_end(struct vnc_client *c, unsigned count)
{
    const uint8_t number[2] = {(uint8_t)(count >> 8), (uint8_t)count};
    struct vnc_tight *t = c->ui->tight;

    if (c->out_len == 0) {
        struct iovec iov = {t->out, t->used};

        memcpy(t->out + 2, number, sizeof(number));
        vnc_client_send(c, &iov, 1, false);
        return;
    }
    spill(c);
    if (pwrite(c->out_fd, number, sizeof(number), 2) != (ssize_t)sizeof(number)) {
        vnc_client_close(c);
    }
}
