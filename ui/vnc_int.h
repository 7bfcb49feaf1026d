/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The parts of the VNC server: vnc.c is the loop thread's side, vnc_ui.c the UI thread (poll loop,
 * picture copy), vnc_client.c one client's protocol and queue, vnc_ws.c its way through WebSocket,
 * vnc_keys.c its keyboard, vnc_direct.c its updates where the library is not needed for them,
 * vnc_tight.c the Tight encoding, vnc_scroll.c what only moved. struct vnc is shared under its lock;
 * everything in struct vnc_ui belongs to the UI thread.
 *
 * How libvncserver 0.9.14 is used without its blocking: it reads and writes cl->sock itself and
 * waits with select() when that would block. Here cl->sock is never a socket. To have a message
 * handled, a scratch memory file that holds exactly this message is put behind that descriptor
 * number (dup2); a read beyond it is end-of-file, never a wait. For updates the client's output
 * file is behind it, where writes always succeed; we send from there to the socket as it takes
 * data, and ask for no further update until all is sent. An update is bounded by
 * VNC_UPDATE_MAX_BYTES through the library's progressive slices; a client that asks for more than
 * that outright gets it as several updates, because it may not ask again before it has all.
 *
 * Raw in our own pixels and Tight, which are what nearly all viewers ask for, go out by vnc_direct.c:
 * straight to the socket, and what it does not take into the same queue. The library keeps the rest
 * of the protocol, and the regions that are requested and modified.
 */
#include <pthread.h>
#include <rfb/rfb.h>
#include <rfb/rfbregion.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "core/loop.h"
#include "ui/display.h"
#include "ui/keymap.h"
#include "ui/rects.h"
#include "ui/vnc.h"
#include "ui/websocket.h"

enum {
    VNC_MAX_LISTEN = 4,
    VNC_IN_BYTES =
        2048, /* the longest message that is buffered whole: SetEncodings with 256 of them */
    VNC_MAX_ENCODINGS = 256,
    VNC_VERSION_LEN = 12,
    VNC_SEND_CHUNK = 1 << 20,
    VNC_HELD_SYMBOLS = 16, /* of one client; one more releases the oldest */
    VNC_UPDATE_MAX_BYTES =
        4 << 20, /* raw size of one update, and so about the longest output queue of one client */
};

struct vnc_ui;
struct vnc_tight;

struct vnc {
    struct vnc_config cfg; /* strings are copies */
    struct loop *loop;
    struct display *display;
    struct input *input;
    const struct keymap *keymap;
    int listen_fd[VNC_MAX_LISTEN];
    int listen_count;
    bool unix_bound;
    struct vnc_info info; /* without clients */

    pthread_t thread;
    bool thread_running;
    struct vnc_ui *ui;

    int up_fd; /* eventfd, UI thread to loop thread */
    struct watch up_watch;
    atomic_bool want_picture; /* a client is connected */
    atomic_bool want_full;    /* ... and has no picture yet */
    atomic_bool want_kick;
    atomic_bool want_update; /* a client waits for an update and can be sent one */
    atomic_bool parked;      /* the display was told that none does: tell it when one does again */
    atomic_uint refreshes;   /* counts them */
    atomic_bool await;       /* wake the UI thread after the next one */
    bool active;             /* loop thread: what the display was told */

    int wake_fd;          /* eventfd, loop thread to UI thread */
    pthread_mutex_t lock; /* everything below. Taken inside the display's lock, never around it */
    bool woken;
    bool quit;
    bool drawn; /* dirty and size are worth a look */
    int width, height;
    struct rects dirty;
    bool cursor_changed;
    struct display_cursor_image cursor;
    unsigned leds; /* the guest's keyboard, INPUT_LED_* */
    bool absolute; /* the guest has a pointer that takes positions */
    bool password_set;
    char password[VNC_PASSWORD_MAX + 1];
    struct vnc_client_info clients[VNC_MAX_CLIENTS]; /* family NULL: free */
};

/* vnc.c: everything but listening and the thread; for tests and fuzz targets that turn the crank
 * themselves. */
struct vnc *vnc_new(struct loop *loop, struct display *d, struct input *in,
                    const struct vnc_config *cfg);
/* Any thread: has the loop thread look at the want_ flags. */
void vnc_signal_loop(struct vnc *v);

enum vnc_stage {
    VNC_WAIT_FIRST,   /* a browser speaks first and must not get our banner: wait a moment for it */
    VNC_WAIT_UPGRADE, /* its request is coming in */
    VNC_WAIT_VERSION, /* our banner is sent, nothing is allocated for the library yet */
    VNC_HANDSHAKE,    /* libvncserver negotiates */
    VNC_WAIT_PICTURE, /* ClientInit is here and held until the size of the picture is known */
    VNC_NORMAL,
};

/* A client that comes through WebSocket: what is between c->in and c->out_fd and the socket. */
struct vnc_ws {
    struct ws_handshake request;
    struct ws_decoder decoder;
    bool open;         /* the handshake is over, frames go both ways */
    uint8_t head[256]; /* to be sent before anything else: answer, head of a frame, control frame */
    size_t head_len, head_pos;
    off_t frame_left; /* bytes of the output that belong to the frame begun */
    bool pong;        /* the newest ping is to be answered */
    uint8_t pong_len;
    uint8_t pong_payload[WS_CONTROL_MAX];
    int close_code;  /* a close frame is to be sent; 0: none */
    bool close_sent; /* ... and was put into head */
};

/* Rows of the picture that were elsewhere before. */
struct vnc_scroll {
    struct rect to; /* h 0: nothing */
    int dy;         /* from so many rows below */
};

struct vnc_client {
    struct vnc_ui *ui;
    struct vnc_ws *ws; /* NULL: plain RFB */
    int slot;
    int fd;     /* the socket; -1: free slot */
    int out_fd; /* memory file with output not yet sent */
    off_t out_len, out_pos;
    size_t
        reply_bytes; /* of out that are answers, not updates: input is not read while there are too many */
    rfbClientPtr rfb; /* NULL before the version is known */
    enum vnc_stage stage;
    bool closing; /* send what is left, then drop */
    uint64_t
        deadline_ns; /* for the handshake, the picture to come, or the last output when closing; 0: none */
    uint64_t stall_ns; /* when it is given up for not reading; 0: no output waits */
    uint64_t since_ns; /* connected */
    size_t in_len;
    uint32_t skip;          /* bytes of cut text to throw away */
    sraRegionPtr owed;      /* asked for outright, and not sent yet */
    bool owes_all;          /* ... the whole picture, whatever size it has by now */
    bool more;              /* the rest of that can go out, after wait_ns */
    struct vnc_scroll copy; /* to be sent before what is modified */
    bool tight_begun;       /* zlib's header was sent in the stream that vnc_tight.c uses */
    uint64_t wait_ns;       /* no update before; 0: at once */
    bool ext_keys;
    int32_t led_encoding;         /* how it wants to hear of LEDs: ENCODING_*_LEDS; 0: not at all */
    bool motion_change;           /* it can send movement instead of positions */
    bool relative;                /* ... and was told to */
    int told_leds, told_absolute; /* -1: nothing yet */
    bool fresh; /* it asked while the picture was left to age: the answer waits for a refresh, */
    unsigned fresh_after; /* for this count of them */
    int told_width,
        told_height;  /* size of the picture as the client knows it; 0 before ServerInit */
    uint8_t keys[32]; /* held down */
    struct {
        uint32_t keysym;
        uint8_t key;
    } symbols
        [VNC_HELD_SYMBOLS]; /* keys of which the client said only what they mean, oldest first */
    unsigned symbol_count;
    bool level3;  /* the right Alt key is down as the client's AltGr */
    uint8_t mask; /* VNC button mask */
    int x, y;     /* last position, 0..32767 */
    uint8_t in[VNC_IN_BYTES];
};

struct vnc_ui {
    struct vnc *v;
    rfbScreenInfoPtr screen; /* made for the first client */
    uint32_t *pixels;        /* NULL: no picture */
    size_t pixel_bytes;
    int width, height;
    unsigned refreshes; /* as in struct vnc: the copy is no older */
    int viewers;        /* clients at VNC_WAIT_PICTURE or later */
    int scratch_fd;     /* memory file with the message that libvncserver handles just now */
    uint64_t kick_ns;
    unsigned leds; /* as in struct vnc */
    bool absolute;
    uint64_t accept_again_ns; /* no descriptors were left: do not try before; 0: go on */
    struct display_cursor_image cursor;
    struct rect cursor_rect; /* where it is drawn in pixels; w 0: nowhere */
    uint32_t under[DISPLAY_MAX_CURSOR * DISPLAY_MAX_CURSOR];
    struct vnc_tight *tight; /* made when first needed */
    unsigned scroll_wait,
        scroll_skip; /* looks for movement: grows with those in vain; left to skip */
    struct vnc_client *clients[VNC_MAX_CLIENTS];
};

/* vnc_ui.c */
struct vnc_ui *vnc_ui_create(struct vnc *v);
void vnc_ui_destroy(struct vnc_ui *ui);
/* One turn: waits at most max_wait_ms (-1: for ever) and handles what came. false: quit. */
bool vnc_ui_turn(struct vnc_ui *ui, int max_wait_ms);
/* Takes ownership of a connected socket. */
void vnc_ui_accept(struct vnc_ui *ui, int fd);
/* The thread. */
void *vnc_ui_main(void *arg);
/* Asks the display for a fresh picture soon. */
void vnc_ui_kick(struct vnc_ui *ui);
uint64_t vnc_now_ns(void);

/* vnc_client.c */
struct vnc_client *vnc_client_create(struct vnc_ui *ui, int slot, int fd);
void vnc_client_destroy(struct vnc_client *c);
/* Reads once and handles all whole messages. */
void vnc_client_readable(struct vnc_client *c);
/* Handles what is buffered; call it again when the picture has come. */
void vnc_client_process(struct vnc_client *c);
/* Encodes an update when one is wanted and the last one is sent, and sends. */
void vnc_client_push(struct vnc_client *c);
bool vnc_client_wants_input(const struct vnc_client *c);
/* It waits for an update (or for its first picture), and nothing is still on its way to it. */
bool vnc_client_wants_picture(const struct vnc_client *c);
/* Something waits for the socket to take it. */
bool vnc_client_unsent(const struct vnc_client *c);
/* Nobody is there to read what waits. */
void vnc_client_discard(struct vnc_client *c);
/* It did not speak in VNC_WAIT_FIRST: plain RFB, where the server begins. */
void vnc_client_greet(struct vnc_client *c);
/* Turns a region of more than max rectangles into their bounding box. */
void vnc_bound_region(sraRegionPtr *region, unsigned long max);
/* No more input; what is queued is still sent for a moment. */
void vnc_client_close(struct vnc_client *c);
/* Sends these bytes, in order: what the socket does not take now is copied to the queue. more: there
 * is more to come. */
void vnc_client_send(struct vnc_client *c, struct iovec *iov, int n, bool more);

/* vnc_direct.c */
/* Whether updates can go out without the library: Raw in our pixel layout, Tight in 24-bit colours. */
bool vnc_direct_can(const struct vnc_client *c);
/* Sends what is wanted and changed, VNC_UPDATE_MAX_BYTES of it at most. false: there is nothing. */
bool vnc_direct_update(struct vnc_client *c);

/* vnc_scroll.c */
/* Whether to look for movement: there are clients that could use it now. */
bool vnc_scroll_wanted(struct vnc_ui *ui);
/* Looks for rows of the area that only moved, between two pictures of that many pixels a row. */
bool vnc_scroll_find(const uint32_t *now, size_t now_stride, const uint32_t *was, size_t was_stride,
                     struct rect area, struct vnc_scroll *s);
void vnc_scroll_found(struct vnc_ui *ui, bool found);
/* The picture changed there, and s of it moved; cursor: where it was and is drawn on it. */
void vnc_scroll_client(struct vnc_client *c, const sraRegionPtr changed, const struct vnc_scroll *s,
                       struct rect cursor_was, struct rect cursor_is);
/* A movement that was not sent in time is an ordinary change. */
void vnc_scroll_cancel(struct vnc_client *c);

/* vnc_tight.c: an update is begun, rectangles are added (which become some more: how many is
 * returned), and then it is sent with their number. false: no memory. */
bool vnc_tight_begin(struct vnc_client *c);
void vnc_tight_bytes(struct vnc_client *c, const uint8_t *bytes, size_t n);
unsigned vnc_tight_rect(struct vnc_client *c, struct rect r);
void vnc_tight_end(struct vnc_client *c, unsigned count);

/* vnc_ws.c */
/* Takes bytes of the opening handshake; returns how many, -1: drop the client. */
int vnc_ws_request(struct vnc_client *c, const uint8_t *m, size_t len);
/* Frames to c->in, which has room for len bytes. */
void vnc_ws_input(struct vnc_client *c, const uint8_t *raw, size_t len);
/* Sends a piece: bytes sent, 0: there is nothing; -1: errno. */
ssize_t vnc_ws_send(struct vnc_client *c);
bool vnc_ws_unsent(const struct vnc_client *c);
/* Has a close frame sent after what waits. */
void vnc_ws_close(struct vnc_client *c, int code);

/* vnc_keys.c: one client's keyboard. A key as the protocol numbers it (any value) with what it means
 * to the client's user (X keysym, 0: nothing), or only what it means. */
void vnc_keys_raw(struct vnc_client *c, uint32_t code, uint32_t keysym, bool down);
void vnc_keys_symbol(struct vnc_client *c, uint32_t keysym, bool down);
void vnc_keys_release_all(struct vnc_client *c);
