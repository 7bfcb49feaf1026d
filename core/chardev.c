/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/chardev_int.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#define FLUSH_NS        1000000u /* output waits this long for more of it: a console writes byte by byte */
#define PTY_POLL_NS     1000000000u
#define ACCEPT_RETRY_NS 1000000000u
enum { FLUSH_BYTES = 1024 };

static void disconnect(struct chardev *c);
static void on_input(void *arg, uint32_t events);

/* ---- what to wait for ---- */

static void update_watches(struct chardev *c)
{
    bool same = c->in_fd == c->out_fd;
    uint32_t in = 0;
    uint32_t out = c->stalled ? EPOLLOUT : 0;

    if (c->client && c->in_len == 0) {
        in = EPOLLIN;
    } else if (c->kind == CHARDEV_SOCKET && !c->peer_done) {
        in = EPOLLRDHUP; /* a peer that goes makes room for the next one */
    }
    if (c->in_watch.loop) {
        watch_events(&c->in_watch, in | (same ? out : 0));
    }
    if (c->out_watch.loop) {
        watch_events(&c->out_watch, out);
    }
    if (c->listen_watch.loop) {
        watch_events(&c->listen_watch, c->in_fd < 0 || c->peer_done ? EPOLLIN : 0);
    }
}

/* ---- output ---- */

static ssize_t write_some(struct chardev *c, const uint8_t *data, size_t len)
{
    if (c->kind == CHARDEV_SOCKET) {
        return send(c->out_fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    return write(c->out_fd, data, len);
}

static void drop_output(struct chardev *c)
{
    c->out_head = 0;
    c->out_len = 0;
    c->stalled = false;
    timer_cancel(&c->flush);
}

static void flush(struct chardev *c)
{
    timer_cancel(&c->flush);
    c->stalled = false;
    while (c->out_len && c->connected) {
        unsigned chunk = CHARDEV_OUT_SIZE - c->out_head;
        ssize_t n = write_some(c, c->out + c->out_head, chunk < c->out_len ? chunk : c->out_len);

        if (n > 0) {
            c->out_head = (c->out_head + (unsigned)n) % CHARDEV_OUT_SIZE;
            c->out_len -= (unsigned)n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n == 0 || errno == EAGAIN) {
            c->stalled = true;
            break;
        } else if (c->kind == CHARDEV_SOCKET) {
            disconnect(c);
            return;
        } else {
            log_limited(&c->errors, "%s: cannot write to %s: %s", c->label, c->filename,
                        strerror(errno));
            drop_output(c);
        }
    }
    update_watches(c);
}

/* flush() from an event: tells a client that had to wait. */
static void flush_and_tell(struct chardev *c)
{
    flush(c);
    if (c->short_write && c->out_len < CHARDEV_OUT_SIZE) {
        c->short_write = false;
        if (c->client && c->client->writable) {
            c->client->writable(c->opaque);
        }
    }
}

static void flush_timer(void *arg)
{
    flush_and_tell(arg);
}

static size_t put_output(struct chardev *c, const uint8_t *data, size_t len)
{
    size_t n = CHARDEV_OUT_SIZE - c->out_len;
    unsigned tail = (c->out_head + c->out_len) % CHARDEV_OUT_SIZE;

    n = n < len ? n : len;
    size_t first = CHARDEV_OUT_SIZE - tail < n ? CHARDEV_OUT_SIZE - tail : n;

    memcpy(c->out + tail, data, first);
    memcpy(c->out, data + first, n - first);
    c->out_len += (unsigned)n;
    return n;
}

size_t chardev_write(struct chardev *c, const uint8_t *data, size_t len)
{
    size_t done = 0;

    c->short_write = false;
    if (!c->connected) {
        return len;
    }
    for (;;) {
        done += put_output(c, data + done, len - done);
        if (c->stalled || c->out_len < FLUSH_BYTES) {
            break;
        }
        flush(c);
        if (!c->connected) {
            return len;
        }
        if (done == len || c->stalled) {
            break;
        }
    }
    if (c->out_len && !c->stalled && !c->flush.armed) {
        timer_set(&c->flush, loop_now(c->loop, LOOP_HOST) + FLUSH_NS);
    }
    c->short_write = done < len;
    return done;
}

/* ---- input ---- */

static void deliver(struct chardev *c)
{
    if (c->delivering) {
        return;
    }
    c->delivering = true;
    while (c->client && c->in_pos < c->in_len) {
        size_t n = c->client->receive(c->opaque, c->in + c->in_pos, c->in_len - c->in_pos);

        if (n == 0) {
            break;
        }
        c->in_pos += n < c->in_len - c->in_pos ? (unsigned)n : c->in_len - c->in_pos;
    }
    if (c->in_pos == c->in_len) {
        c->in_pos = 0;
        c->in_len = 0;
    }
    c->delivering = false;
}

void chardev_accept_input(struct chardev *c)
{
    if (c->in_len) {
        deliver(c);
        if (c->in_len == 0) {
            update_watches(c);
        }
    }
}

static void pty_check(struct chardev *c)
{
    struct pollfd p = {.fd = c->in_fd, .events = POLLIN};
    bool there = poll(&p, 1, 0) < 0 || !(p.revents & POLLHUP);

    if (there && !c->connected) {
        c->connected = true;
        if (loop_watch(c->loop, &c->in_watch, c->in_fd, EPOLLIN, on_input, c) < 0) {
            c->connected = false;
        }
        update_watches(c);
    } else if (!there && c->connected) {
        c->connected = false;
        loop_unwatch(&c->in_watch);
        drop_output(c);
        flush_and_tell(c);
    }
    if (c->open_fd < 0 && !c->connected) {
        timer_set(&c->poll, loop_now(c->loop, LOOP_HOST) + PTY_POLL_NS);
    }
}

static void poll_again(void *arg)
{
    struct chardev *c = arg;

    if (c->kind == CHARDEV_PTY) {
        pty_check(c);
    } else {
        update_watches(c);
    }
}

static void pty_opened(void *arg, uint32_t events)
{
    struct chardev *c = arg;
    char buf[1024] __attribute__((aligned(8)));

    (void)events;
    while (read(c->open_fd, buf, sizeof(buf)) > 0) {
    }
    pty_check(c);
}

/* Input has ended. */
static void input_gone(struct chardev *c)
{
    switch (c->kind) {
    case CHARDEV_PTY:
        pty_check(c);
        break;
    case CHARDEV_SOCKET:
        disconnect(c);
        break;
    default: /* end of file on stdin: output goes on */
        loop_unwatch(&c->in_watch);
        break;
    }
}

static void on_input(void *arg, uint32_t events)
{
    struct chardev *c = arg;
    bool want = c->client && c->in_len == 0;

    if (c->in_fd == c->out_fd && (events & EPOLLOUT)) {
        flush_and_tell(c);
        if (!c->in_watch.loop) {
            return;
        }
    }
    if (want && (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))) {
        ssize_t n = read(c->in_fd, c->in, sizeof(c->in));

        if (n > 0) {
            c->in_pos = 0;
            c->in_len = (unsigned)n;
            deliver(c);
            update_watches(c);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            input_gone(c);
        }
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        input_gone(c);
    } else if (events & EPOLLRDHUP) {
        c->peer_done = true;
        update_watches(c);
    }
}

static void on_output(void *arg, uint32_t events)
{
    struct chardev *c = arg;

    (void)events;
    flush_and_tell(c);
}

/* ---- connections ---- */

void chardev_connect(struct chardev *c, int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
               sizeof(one)); /* refused by unix sockets, which do not need it */
    c->in_fd = fd;
    c->out_fd = fd;
    c->connected = true;
    c->peer_done = false;
    c->in_pos = 0;
    c->in_len = 0;
}

static void disconnect(struct chardev *c)
{
    loop_unwatch(&c->in_watch);
    if (c->in_fd >= 0) {
        close(c->in_fd);
    }
    c->in_fd = -1;
    c->out_fd = -1;
    c->connected = false;
    c->peer_done = false;
    drop_output(c);
    update_watches(c);
    flush_and_tell(c);
}

static int watch_connection(struct chardev *c)
{
    int r = loop_watch(c->loop, &c->in_watch, c->in_fd, EPOLLIN, on_input, c);

    if (r == 0) {
        update_watches(c);
    }
    return r;
}

static void on_connection(void *arg, uint32_t events)
{
    struct chardev *c = arg;
    int fd = accept4(c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)events;
    if (fd < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            /* Out of descriptors: the connection stays in the backlog, so the socket stays
             * readable. */
            log_limited(&c->errors, "%s: cannot accept on %s: %s", c->label, c->filename,
                        strerror(errno));
            watch_events(&c->listen_watch, 0);
            timer_set(&c->poll, loop_now(c->loop, LOOP_HOST) + ACCEPT_RETRY_NS);
        }
        return;
    }
    if (c->in_fd >= 0) { /* the old one is gone but for bytes that nobody asked for */
        disconnect(c);
    }
    chardev_connect(c, fd);
    if (watch_connection(c) < 0) {
        disconnect(c);
    }
}

int chardev_start(struct chardev *c)
{
    int r = 0;

    timer_init(&c->flush, c->loop, LOOP_HOST, flush_timer, c);
    timer_init(&c->poll, c->loop, LOOP_HOST, poll_again, c);
    if (c->listen_fd >= 0) {
        r = loop_watch(c->loop, &c->listen_watch, c->listen_fd, EPOLLIN, on_connection, c);
    }
    if (c->kind == CHARDEV_PTY) {
        if (c->open_fd >= 0) {
            r = loop_watch(c->loop, &c->open_watch, c->open_fd, EPOLLIN, pty_opened, c);
        }
        if (r == 0) {
            pty_check(c);
        }
        return r;
    }
    if (r == 0 && c->in_fd >= 0) {
        r = loop_watch(c->loop, &c->in_watch, c->in_fd, EPOLLIN, on_input, c);
        if (r == -EPERM && c->kind == CHARDEV_STDIO) {
            r = 0; /* stdin from a regular file or /dev/null: no input */
        }
    }
    if (r == 0 && c->out_fd >= 0 && c->out_fd != c->in_fd) {
        r = loop_watch(c->loop, &c->out_watch, c->out_fd, EPOLLOUT, on_output, c);
        if (r == -EPERM) {
            r = 0; /* a regular file: never blocks */
        }
    }
    update_watches(c);
    return r;
}

/* ---- the rest of the interface ---- */

void chardev_set_client(struct chardev *c, const struct chardev_client *client, void *opaque)
{
    c->client = client;
    c->opaque = opaque;
    c->short_write = false;
    if (client) {
        deliver(c);
    }
    update_watches(c);
}

void chardev_close(struct chardev *c)
{
    if (!c) {
        return;
    }
    c->client = NULL;
    if (c->loop && c->connected) {
        flush(c);
    }
    timer_cancel(&c->flush);
    timer_cancel(&c->poll);
    loop_unwatch(&c->in_watch);
    loop_unwatch(&c->out_watch);
    loop_unwatch(&c->listen_watch);
    loop_unwatch(&c->open_watch);
    if (c->have_termios) {
        tcsetattr(c->in_fd, TCSANOW, &c->termios);
    }
    if (c->kind == CHARDEV_STDIO) {
        chardev_stdio_taken = false;
    }
    if (c->in_fd > STDERR_FILENO) {
        close(c->in_fd);
    }
    if (c->out_fd > STDERR_FILENO && c->out_fd != c->in_fd) {
        close(c->out_fd);
    }
    if (c->listen_fd >= 0) {
        close(c->listen_fd);
    }
    if (c->open_fd >= 0) {
        close(c->open_fd);
    }
    if (c->unlink_path) {
        unlink(c->unlink_path);
    }
    free(c->unlink_path);
    free(c->label);
    free(c->filename);
    free(c);
}

const char *chardev_label(const struct chardev *c)
{
    return c->label;
}

const char *chardev_filename(const struct chardev *c)
{
    return c->filename;
}
