/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The desktop CD's only X program, and what reads the same keys on the machine that tests. Covers the
 * screen with a window, takes lines on stdin, and says on stdout (lines that begin "DESK"):
 *
 *   up W H DEPTH           the window is there
 *   draw                   draws the pattern that tests/box/desktop.py knows; "drawn" when it is on the screen
 *   cursor 0|1             none, or a block of 16x16 pixels whose upper left is the hot spot
 *   where                  "at X Y": the pointer
 *   end                    ends
 *   moved X Y              the pointer moved, and where it is now
 *   button N X Y           a button was pressed
 *   pressed N              so many keys, modifiers left out, since the last Return key
 *   text HEX               at the Return key: what was typed since the last one, UTF-8
 *   keys SYM...            and the keysyms that made it, modifiers left out
 */
#include <locale.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <X11/Xlib.h>
#include <X11/Xutil.h>
#include <X11/keysym.h>

enum { COLUMNS = 16, ROWS = 12, CURSOR = 16, NOISE_W = 192, NOISE_H = 128, TEXT_MAX = 8192 };

struct desk {
    Display *d;
    Window w;
    GC gc;
    XIC ic;
    Visual *visual;
    int width, height, depth;
    Cursor none, block;
    char text[TEXT_MAX], keys[TEXT_MAX];
    size_t text_len, keys_len;
    unsigned pressed;
};

static void say(const char *line)
{
    printf("DESK %s\n", line);
    fflush(stdout);
}

/* A mask's share of an 8-bit value. */
static unsigned long part(unsigned value, unsigned long mask)
{
    int shift = 0, bits = 0;

    while (!(mask >> shift & 1)) {
        shift++;
    }
    while (mask >> (shift + bits) & 1) {
        bits++;
    }
    return (unsigned long)(value >> (8 - bits)) << shift;
}

static unsigned long pixel(const struct desk *k, unsigned r, unsigned g, unsigned b)
{
    return part(r, k->visual->red_mask) | part(g, k->visual->green_mask) |
           part(b, k->visual->blue_mask);
}

static void fill(struct desk *k, int x, int y, int w, int h, unsigned long colour)
{
    XSetForeground(k->d, k->gc, colour);
    XFillRectangle(k->d, k->w, k->gc, x, y, (unsigned)w, (unsigned)h);
}

/* Points, that no driver can make but one by one. */
static void noise(struct desk *k, int left, int top)
{
    XImage *image = XCreateImage(k->d, k->visual, (unsigned)k->depth, ZPixmap, 0, NULL, NOISE_W,
                                 NOISE_H, 32, 0);

    image->data = calloc((size_t)image->bytes_per_line, NOISE_H);
    for (int y = 0; y < NOISE_H; y++) {
        for (int x = 0; x < NOISE_W; x++) {
            unsigned n = (unsigned)(x * 7 + y * 13 + x * y * 5);

            XPutPixel(image, x, y, pixel(k, n & 255, n * 3 & 255, n * 5 & 255));
        }
    }
    XPutImage(k->d, k->w, k->gc, image, 0, 0, left, top, NOISE_W, NOISE_H);
    XDestroyImage(image);
}

/* Rectangles, points, copies over themselves in both directions, and a frame of one pixel. */
static void draw(struct desk *k)
{
    int w = k->width, h = k->height;

    for (int j = 0; j < ROWS; j++) {
        for (int i = 0; i < COLUMNS; i++) {
            int x = i * w / COLUMNS, y = j * h / ROWS;

            fill(k, x, y, (i + 1) * w / COLUMNS - x, (j + 1) * h / ROWS - y,
                 pixel(k, (unsigned)(i * 17), (unsigned)(j * 23),
                       (unsigned)((i * 5 + j * 11) * 3 & 255)));
        }
    }
    noise(k, w / 2 - NOISE_W / 2, h / 2 - NOISE_H / 2);
    XCopyArea(k->d, k->w, k->w, k->gc, 0, 0, (unsigned)(w / 2), (unsigned)(h / 2), 41, 27);
    XCopyArea(k->d, k->w, k->w, k->gc, w / 2, h / 2, (unsigned)(w / 2), (unsigned)(h / 2),
              w / 2 - 37, h / 2 - 29);
    fill(k, 0, 0, w, 1, pixel(k, 255, 255, 255));
    fill(k, 0, h - 1, w, 1, pixel(k, 255, 255, 255));
    fill(k, 0, 0, 1, h, pixel(k, 255, 255, 255));
    fill(k, w - 1, 0, 1, h, pixel(k, 255, 255, 255));
    XSync(k->d, False);
    say("drawn");
}

static Cursor make_cursor(struct desk *k, bool visible)
{
    /* The mask's bits; the source is its upper left quarter. */
    static char all[CURSOR * CURSOR / 8], quarter[CURSOR * CURSOR / 8];
    XColor front = {.red = 65535, .blue = 65535}, back = {.green = 65535};
    Pixmap source, mask;

    memset(all, visible ? 0xff : 0, sizeof(all));
    for (int y = 0; y < CURSOR / 2; y++) {
        quarter[2 * y] = visible ? '\xff' : 0;
    }
    source = XCreateBitmapFromData(k->d, k->w, quarter, CURSOR, CURSOR);
    mask = XCreateBitmapFromData(k->d, k->w, all, CURSOR, CURSOR);
    return XCreatePixmapCursor(k->d, source, mask, &front, &back, 0, 0);
}

static void command(struct desk *k, const char *line)
{
    char text[64];

    if (strcmp(line, "draw") == 0) {
        draw(k);
    } else if (strncmp(line, "cursor ", 7) == 0) {
        XDefineCursor(k->d, k->w, line[7] == '1' ? k->block : k->none);
        XSync(k->d, False);
        say("cursor set");
    } else if (strcmp(line, "where") == 0) {
        Window root, child;
        int x, y, inside_x, inside_y;
        unsigned mask;

        XQueryPointer(k->d, k->w, &root, &child, &x, &y, &inside_x, &inside_y, &mask);
        snprintf(text, sizeof(text), "at %d %d", x, y);
        say(text);
    } else if (strcmp(line, "end") == 0) {
        exit(0);
    }
}

static void flush_text(struct desk *k)
{
    printf("DESK keys%s\nDESK text ", k->keys);
    for (size_t i = 0; i < k->text_len; i++) {
        printf("%02x", (unsigned char)k->text[i]);
    }
    printf("\n");
    fflush(stdout);
    k->text_len = k->keys_len = k->pressed = 0;
    k->keys[0] = '\0';
}

static void key(struct desk *k, XKeyEvent *e)
{
    char out[64];
    KeySym sym = NoSymbol;
    Status status;
    int n;

    /* Which key this is, dead ones included. What the input method composed comes as a key press of no key. */
    if (e->keycode != 0) {
        XLookupString(e, out, sizeof(out), &sym, NULL);
        if (sym == XK_Return) {
            flush_text(k);
            return;
        }
        if (!IsModifierKey(sym)) {
            k->pressed++;
        }
        if (sym != NoSymbol && !IsModifierKey(sym) && k->keys_len < TEXT_MAX - 16) {
            k->keys_len += (size_t)snprintf(k->keys + k->keys_len, 16, " %lx", sym & 0xffffffff);
        }
    }
    if (XFilterEvent((XEvent *)e, None)) {
        return;
    }
    n = Xutf8LookupString(k->ic, e, out, sizeof(out), &sym, &status);
    if ((status == XLookupChars || status == XLookupBoth) && k->text_len + (size_t)n < TEXT_MAX) {
        memcpy(k->text + k->text_len, out, (size_t)n);
        k->text_len += (size_t)n;
    }
}

static void events(struct desk *k)
{
    char text[64];
    XEvent e;
    int x = -1, y = -1;
    unsigned before = k->pressed;

    while (XPending(k->d)) {

        XNextEvent(k->d, &e);
        if (e.type == KeyPress) {
            key(k, &e.xkey);
        } else if (XFilterEvent(&e, None)) {
            continue;
        } else if (e.type == MappingNotify) {
            XRefreshKeyboardMapping(&e.xmapping);
        } else if (e.type == MotionNotify) {
            x = e.xmotion.x_root;
            y = e.xmotion.y_root;
        } else if (e.type == ButtonPress) {
            snprintf(text, sizeof(text), "button %u %d %d", e.xbutton.button, e.xbutton.x_root,
                     e.xbutton.y_root);
            say(text);
        }
    }
    if (k->pressed > before) {
        snprintf(text, sizeof(text), "pressed %u", k->pressed);
        say(text);
    }
    if (x >= 0) {
        snprintf(text, sizeof(text), "moved %d %d", x, y);
        say(text);
    }
}

static void open_window(struct desk *k)
{
    XSetWindowAttributes a = {.override_redirect = True,
                              .event_mask = KeyPressMask | ButtonPressMask | PointerMotionMask |
                                            ExposureMask};
    int screen;
    XIM im;
    XEvent e;

    k->d = XOpenDisplay(NULL);
    if (k->d == NULL) {
        fprintf(stderr, "desk: no display\n");
        exit(1);
    }
    screen = DefaultScreen(k->d);
    k->visual = DefaultVisual(k->d, screen);
    k->depth = DefaultDepth(k->d, screen);
    k->width = DisplayWidth(k->d, screen);
    k->height = DisplayHeight(k->d, screen);
    k->gc = DefaultGC(k->d, screen);
    k->w = XCreateWindow(k->d, DefaultRootWindow(k->d), 0, 0, (unsigned)k->width,
                         (unsigned)k->height, 0, CopyFromParent, InputOutput, CopyFromParent,
                         CWOverrideRedirect | CWEventMask, &a);
    XSetGraphicsExposures(k->d, k->gc, False);
    k->none = make_cursor(k, false);
    k->block = make_cursor(k, true);
    XDefineCursor(k->d, k->w, k->none);
    im = XOpenIM(k->d, NULL, NULL, NULL);
    k->ic = im == NULL ? NULL
                       : XCreateIC(im, XNInputStyle, XIMPreeditNothing | XIMStatusNothing,
                                   XNClientWindow, k->w, XNFocusWindow, k->w, NULL);
    if (k->ic == NULL) {
        fprintf(stderr, "desk: no input method\n");
        exit(1);
    }
    XAutoRepeatOff(k->d); /* a machine that stands still holds keys for long */
    XMapRaised(k->d, k->w);
    XWindowEvent(k->d, k->w, ExposureMask, &e);
    XSetInputFocus(k->d, k->w, RevertToPointerRoot, CurrentTime);
    XSetICFocus(k->ic);
    XSync(k->d, False);
    printf("DESK up %d %d %d\n", k->width, k->height, k->depth);
    fflush(stdout);
}

int main(void)
{
    static struct desk k;
    char line[256];
    size_t len = 0;

    setlocale(LC_ALL, "C.UTF-8");
    XSetLocaleModifiers("");
    open_window(&k);
    for (;;) {
        struct pollfd p[] = {{.fd = 0, .events = POLLIN},
                             {.fd = ConnectionNumber(k.d), .events = POLLIN}};
        ssize_t n;

        /* Sends what waits, too. XFlush() would take events in that poll() knows nothing of. */
        events(&k);
        if (poll(p, 2, -1) < 0 || !(p[0].revents & (POLLIN | POLLHUP))) {
            continue;
        }
        n = read(0, line + len, sizeof(line) - 1 - len);
        if (n <= 0) {
            return 0;
        }
        len += (size_t)n;
        for (char *end; (end = memchr(line, '\n', len)) != NULL;) {
            *end = '\0';
            command(&k, line);
            len -= (size_t)(end + 1 - line);
            memmove(line, end + 1, len);
        }
        len = len < sizeof(line) - 1 ? len : 0;
    }
}
