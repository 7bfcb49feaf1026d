/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Shared by core/chardev.c (moving bytes) and core/chardev_open.c (reading the spec, opening the
 * back end) only. */
#include <stdbool.h>
#include <termios.h>

#include "core/chardev.h"
#include "core/log.h"
#include "core/loop.h"

enum { CHARDEV_OUT_SIZE = 4096, CHARDEV_IN_SIZE = 512 };

enum chardev_kind { CHARDEV_NULL, CHARDEV_FILE, CHARDEV_PTY, CHARDEV_STDIO, CHARDEV_SOCKET };

struct chardev {
    struct loop *loop;
    char *label;
    char *filename;
    enum chardev_kind kind;

    int in_fd;             /* -1: none (now) */
    int out_fd;            /* may be in_fd */
    bool connected;        /* somebody takes our output; false: it is dropped */
    struct watch in_watch; /* also for output when out_fd == in_fd */
    struct watch out_watch;

    int listen_fd; /* sockets: -1 for clients */
    struct watch listen_watch;
    bool peer_done; /* the client has shut down its side, its last bytes still wait in the kernel */
    char *unlink_path; /* unix socket that we made */

    int open_fd; /* pty: inotify on the slave, -1: none, then polled */
    struct watch open_watch;
    struct timer poll; /* pty without inotify; a socket whose accept() failed */

    bool have_termios; /* stdio: to be put back */
    struct termios termios;

    struct timer flush; /* armed while output waits for company */
    bool stalled;       /* out_fd would block */
    bool short_write;   /* the client waits for writable() */
    bool delivering;
    uint8_t out[CHARDEV_OUT_SIZE];
    unsigned out_head, out_len;
    uint8_t in[CHARDEV_IN_SIZE];
    unsigned in_pos, in_len;
    struct log_limit errors;

    const struct chardev_client *client;
    void *opaque;
};

/* Standard input and output serve one chardev at a time. */
extern bool chardev_stdio_taken;

/* Sockets: takes fd over as the connection. */
void chardev_connect(struct chardev *c, int fd);
/* Starts watching what chardev_open.c has put into the struct. 0 or -errno. */
int chardev_start(struct chardev *c);
