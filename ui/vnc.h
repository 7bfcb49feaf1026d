/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * VNC server: RFB through libvncserver, on one thread of its own with its own copy of the picture.
 * The loop thread only notes which rectangles changed and wakes that thread; copying, encoding and
 * sending never run on it. Without a client the thread sleeps in poll(), the copy does not exist
 * and the display does not draw. All functions here are for the loop thread.
 *
 * What a client sends is cut into whole messages by vnc_client.c before libvncserver sees any of
 * it; only what a screen, a keyboard and a mouse need is passed on. Each client has a bounded
 * output queue, so one that stops reading delays nobody and is dropped after a while.
 *
 * The same port takes WebSocket (noVNC): who says GET first gets RFB in binary messages, all others
 * our banner after a moment. Without a password, pages from elsewhere than the address they connect
 * to are refused, as a browser would let any page reach the port.
 */
#include <stdbool.h>
#include <stddef.h>

struct display;
struct input;
struct loop;
struct vnc;

enum { VNC_MAX_CLIENTS = 32, VNC_BASE_PORT = 5900, VNC_PASSWORD_MAX = 8 };

enum vnc_share {
    VNC_SHARE_ALLOW_EXCLUSIVE, /* a client that asks for exclusive access drops the others */
    VNC_SHARE_FORCE_SHARED,    /* a client that asks for exclusive access is refused */
    VNC_SHARE_IGNORE,          /* all are shared, whatever they ask for */
};

struct vnc_config {
    const char *
        host; /* address or name to listen on; NULL or "": all addresses; IPv6 without brackets. Unused with unix_path */
    const char *unix_path; /* listen on this socket instead, or NULL */
    int display;           /* TCP port 5900 + display, 0..59635 */
    int to;                /* last display to try, absolute; < display: only that one */
    bool ipv4, ipv6;       /* restrict names and the empty host to one family; neither: both */
    bool password;         /* every authentication fails until vnc_set_password() */
    enum vnc_share share;
    const char *keymap; /* layout of the guest's keyboard, for clients that do not send raw keys; a
                           name that keymap_find() knows, or NULL */
    const char *name;   /* what viewers show as title; NULL: "hvm-dm" */
};

/* Listens (nothing is left behind on failure) and starts the thread. Borrows loop, d and in, which
 * must outlive it; cfg only during the call. NULL with one line in err that names the address. */
struct vnc *vnc_create(struct loop *loop, struct display *d, struct input *in,
                       const struct vnc_config *cfg, char *err, size_t errlen);
/* Drops all clients, ends the thread, removes a unix socket. NULL is fine. */
void vnc_destroy(struct vnc *v);

/* Sets the password of later authentications; only its first 8 characters count (RFB 7.2.2). "" or
 * NULL: all fail again. 0, or -EINVAL when the server was not configured with a password. */
int vnc_set_password(struct vnc *v, const char *password);

struct vnc_client_info {
    char host[64];      /* numeric; "" for a unix socket */
    char service[8];    /* the peer's port */
    const char *family; /* "ipv4", "ipv6", "unix" */
};

/* What query-vnc answers. */
struct vnc_info {
    bool enabled;
    char host[64];     /* numeric address listened on, the first of several; "" for a unix socket */
    char service[108]; /* the port really taken, as text, or the unix path */
    const char *family; /* as above */
    const char *auth;   /* "none" or "vnc" */
    int client_count;
    struct vnc_client_info clients[VNC_MAX_CLIENTS];
};
/* v may be NULL: enabled is false and nothing else is set. */
void vnc_info(struct vnc *v, struct vnc_info *info);
