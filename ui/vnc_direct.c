/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Updates that go from the copy of the picture to the client without libvncserver's buffers: Raw
 * pixels for clients that take our layout (the kernel copies them, nobody else), and Tight. All other
 * encodings, layouts and new sizes are the library's.
 */
#include "ui/vnc_int.h"

enum {
    PIECES = 256, /* of one system call */
    LEAST_CPU = 9 /* a client that asks for this level wants the library's small output */
};

static bool raw_layout(const rfbPixelFormat *f)
{
    return f->trueColour && f->bitsPerPixel == 32 && !f->bigEndian && f->redMax == 255 &&
           f->greenMax == 255 && f->blueMax == 255 && f->redShift == 16 && f->greenShift == 8 &&
           f->blueShift == 0;
}

/* Tight sends such pixels as three bytes, whatever their layout. */
static bool tight_layout(const rfbPixelFormat *f)
{
    return f->trueColour && f->bitsPerPixel == 32 && f->depth == 24 && f->redMax == 255 &&
           f->greenMax == 255 && f->blueMax == 255;
}

static bool is_raw(const struct vnc_client *c)
{
    return c->rfb->preferredEncoding == rfbEncodingRaw || c->rfb->preferredEncoding == -1;
}

bool vnc_direct_can(const struct vnc_client *c)
{
    if (c->rfb->newFBSizePending || c->ui->pixels == NULL) {
        return false;
    }
    return is_raw(c) ? raw_layout(&c->rfb->format)
                     : c->rfb->preferredEncoding == rfbEncodingTight &&
                           tight_layout(&c->rfb->format) && c->rfb->tightCompressLevel < LEAST_CPU;
}

/* What the next update has: what is wanted and changed, or the next slice of it. */
static sraRegionPtr take(struct vnc_client *c)
{
    int height = c->ui->height, slice = c->ui->screen->progressiveSliceHeight;
    sraRegionPtr due = sraRgnCreateRgn(c->rfb->modifiedRegion);
    int *y = &c->rfb->progressiveSliceY;

    sraRgnAnd(due, c->rfb->requestedRegion);
    for (int tried = 0; slice > 0 && !sraRgnEmpty(due) && tried <= height / slice + 1; tried++) {
        sraRegionPtr part;

        *y = *y < height ? *y : 0;
        part = sraRgnCreateRect(0, *y, c->ui->width, *y + slice);
        *y += slice;
        sraRgnAnd(part, due);
        if (!sraRgnEmpty(part)) {
            sraRgnDestroy(due);
            return part;
        }
        sraRgnDestroy(part);
    }
    return due;
}

static bool next_rect(sraRectangleIterator *it, struct rect *r)
{
    sraRect s;

    if (!sraRgnIteratorNext(it, &s)) {
        return false;
    }
    *r = (struct rect){s.x1, s.y1, s.x2 - s.x1, s.y2 - s.y1};
    return true;
}

static void put16(uint8_t *at, int v)
{
    at[0] = (uint8_t)(v >> 8);
    at[1] = (uint8_t)v;
}

/* Room for one more piece. */
static void room(struct vnc_client *c, struct iovec *iov, int *n)
{
    if (*n == PIECES) {
        vnc_client_send(c, iov, *n, true);
        *n = 0;
    }
}

enum { HEAD = 12, COPY = HEAD + 4 }; /* bytes of a rectangle's head, and of a CopyRect */

static void put_head(uint8_t *at, struct rect r, int encoding)
{
    put16(at, r.x);
    put16(at + 2, r.y);
    put16(at + 4, r.w);
    put16(at + 6, r.h);
    put16(at + 8, 0);
    put16(at + 10, encoding);
}

/* The rectangle that comes before all others. Returns its bytes, 0: there is none. */
static size_t put_copy(struct vnc_client *c, uint8_t *at)
{
    struct rect r = c->copy.to;

    if (r.h == 0) {
        return 0;
    }
    put_head(at, r, rfbEncodingCopyRect);
    put16(at + HEAD, r.x);
    put16(at + HEAD + 2, r.y + c->copy.dy);
    c->copy.to.h = 0;
    return COPY;
}

static void send_raw(struct vnc_client *c, sraRegionPtr region)
{
    const struct vnc_ui *ui = c->ui;
    sraRectangleIterator *it = sraRgnGetIterator(region);
    uint8_t first[4 + COPY] = {0};
    size_t copy = put_copy(c, first + 4);
    uint8_t heads[PIECES][HEAD]; /* one for each piece at most */
    struct iovec iov[PIECES];
    struct rect r;
    int n = 1;

    put16(first + 2, (int)sraRgnCountRects(region) + (copy != 0));
    iov[0] = (struct iovec){first, 4 + copy};
    while (next_rect(it, &r) && !c->closing) {
        int rows = r.w == ui->width ? r.h : 1; /* that follow each other in memory */

        room(c, iov, &n);
        put_head(heads[n], r, rfbEncodingRaw);
        iov[n] = (struct iovec){heads[n], HEAD};
        n++;
        for (int y = r.y; y < r.y + r.h && !c->closing; y += rows) {
            room(c, iov, &n);
            iov[n++] = (struct iovec){ui->pixels + (size_t)y * (size_t)ui->width + r.x,
                                      (size_t)rows * (size_t)r.w * sizeof(uint32_t)};
        }
    }
    sraRgnReleaseIterator(it);
    vnc_client_send(c, iov, n, false);
}

static void send_tight(struct vnc_client *c, sraRegionPtr region)
{
    sraRectangleIterator *it;
    uint8_t head[COPY];
    size_t copy;
    unsigned count;
    struct rect r;

    if (!vnc_tight_begin(c)) {
        vnc_client_close(c);
        return;
    }
    copy = put_copy(c, head);
    vnc_tight_bytes(c, head, copy);
    count = copy != 0;
    it = sraRgnGetIterator(region);
    while (next_rect(it, &r) && !c->closing) {
        count += vnc_tight_rect(c, r);
    }
    sraRgnReleaseIterator(it);
    vnc_tight_end(c, count);
}

bool vnc_direct_update(struct vnc_client *c)
{
    sraRegionPtr region = take(c);
    bool any = !sraRgnEmpty(region) || c->copy.to.h > 0;

    if (any) {
        (is_raw(c) ? send_raw : send_tight)(c, region);
        sraRgnSubtract(c->rfb->modifiedRegion, region);
        sraRgnMakeEmpty(c->rfb->requestedRegion);
    }
    sraRgnDestroy(region);
    return any;
}
