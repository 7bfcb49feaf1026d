/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images on the network: an NBD client on libnbd, driven by the loop. A request becomes commands of
 * at most CHUNK_BYTES, many of them under way at once; pieces that lie in one buffer go straight from
 * and to it, others through bounce buffers, of which there are a few.
 *
 * A server that goes away: requests under way fail with -EIO. Later ones wait while a thread tries to
 * connect again (at most once per second), up to HOLD_NS after the first of them; a server that is
 * restarted in time costs a guest an error that it retries. After that requests fail at once, and
 * each gives rise to another attempt, at most one per second; after FORGET_NS without an attempt they
 * wait again. Writes that the lost server had not flushed may be gone: the first flush on a new
 * connection says so with -EIO. A server that says nothing for SILENCE_NS while it owes answers is
 * given up, too.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "block/backend.h"
#include "block/nbd_connect.h"
#include "core/loop.h"

enum {
    COMMANDS = 64,
    BOUNCES = 16,
    BOUNCE_BYTES = 256 << 10,
    CHUNK_BYTES = 1 << 20,
    DIRECT_BYTES = 64 << 10, /* smaller pieces are worth gathering */
    TRIM_BYTES = 1 << 30,
    CONNECT_MS = 10000,
};

static const uint64_t SECOND_NS = 1000000000, HOLD_NS = 5000000000, FORGET_NS = 10000000000,
                      SILENCE_NS = 20000000000;

struct nbd_op;

/* A command at the server. */
struct command {
    struct nbd *n;
    struct nbd_op *op; /* NULL: free */
    struct command *next;
    uint8_t *bounce;
    uint64_t pos; /* in the request: what it moves, ... */
    uint32_t len;
    uint64_t at; /* ... and in the image, with what a minimum block size adds */
    uint32_t at_len;
    enum block_op what;
    bool alone; /* a read-modify-write, ... */
    bool merge; /* ... its read */
    bool finished;
    int error;          /* as libnbd says, an errno */
    uint64_t write_seq; /* FLUSH: the writes it covers */
};

struct nbd_op {
    struct nbd_op *next;
    struct block_request *req;
    uint64_t pos; /* sent up to here */
    unsigned commands;
    int error;
    bool sent;  /* everything has been */
    bool flush; /* a FUA write, for a server without FUA: a flush comes last */
};

struct nbd {
    struct block *block;
    const struct nbd_lib *lib;
    struct nbd_target target;
    struct nbd_handle *handle; /* NULL: not connected */
    struct nbd_offer offer;
    struct watch watch;
    uint32_t events;

    struct nbd_op *todo, **todo_tail; /* not sent, or not all of it */
    struct nbd_op *spare;
    struct command commands[COMMANDS];
    struct command *free, *finished;
    uint8_t *bounces[BOUNCES]; /* those not in use */
    unsigned bounce_count, bounces_made;
    unsigned busy, writing;    /* commands */
    bool merging;              /* a read-modify-write is under way: no other write */
    uint64_t written, flushed; /* numbers of writes */
    bool lost;                 /* some with the last connection, nobody knows yet */
    uint64_t completed;
    bool running;

    struct timer tick;
    uint64_t progress_ns; /* the server last answered */
    uint64_t give_up_ns;  /* not connected: requests wait until then; 0: there has been none */
    uint64_t attempt_ns;  /* not connected: the next attempt not before */
    struct nbd_attempt *attempt;
    struct watch attempt_watch;
    struct log_limit limit;
};

static void run(struct nbd *n);

/* ---- requests and commands come and go ---- */

static void complete(struct nbd *n, struct nbd_op *op, int error)
{
    struct block_request *req = op->req;

    op->next = n->spare;
    n->spare = op;
    n->completed++;
    block_complete(n->block, req, error);
}

/* Ends op if nothing of it is left, at the server or to be sent. op must not be in todo then. */
static void end_if_done(struct nbd *n, struct nbd_op *op)
{
    if (op->commands == 0 && op->sent) {
        complete(n, op, op->error);
    }
}

static void push_todo(struct nbd *n, struct nbd_op *op)
{
    op->next = NULL;
    *n->todo_tail = op;
    n->todo_tail = &op->next;
}

static struct nbd_op *pop_todo(struct nbd *n)
{
    struct nbd_op *op = n->todo;

    n->todo = op->next;
    if (n->todo == NULL) {
        n->todo_tail = &n->todo;
    }
    return op;
}

static uint8_t *take_bounce(struct nbd *n)
{
    if (n->bounce_count > 0) {
        return n->bounces[--n->bounce_count];
    }
    uint8_t *p = n->bounces_made < BOUNCES ? malloc(BOUNCE_BYTES) : NULL;

    n->bounces_made += p != NULL;
    return p;
}

static void free_command(struct nbd *n, struct command *c)
{
    if (c->bounce != NULL) {
        n->bounces[n->bounce_count++] = c->bounce;
        c->bounce = NULL;
    }
    c->op = NULL;
    c->next = n->free;
    n->free = c;
}

/* Copies between a bounce buffer and the request's, `len` bytes from byte `pos` of the request on. */
static void copy(const struct block_request *req, uint64_t pos, uint8_t *bounce, size_t len,
                 bool to_request)
{
    for (int i = 0; i < req->iovcnt && len > 0; i++) {
        const struct iovec *v = &req->iov[i];

        if (pos >= v->iov_len) {
            pos -= v->iov_len;
            continue;
        }
        uint8_t *p = (uint8_t *)v->iov_base + pos;
        size_t n = v->iov_len - pos < len ? v->iov_len - pos : len;

        memcpy(to_request ? p : bounce, to_request ? bounce : p, n);
        bounce += n;
        len -= n;
        pos = 0;
    }
}

static void zero(const struct block_request *req, uint64_t pos)
{
    for (int i = 0; i < req->iovcnt; i++) {
        const struct iovec *v = &req->iov[i];

        if (pos < v->iov_len) {
            memset((uint8_t *)v->iov_base + pos, 0, v->iov_len - pos);
        }
        pos = pos > v->iov_len ? pos - v->iov_len : 0;
    }
}

/* The memory at byte `pos` of the request; *len becomes what lies in one piece. */
static uint8_t *piece(const struct block_request *req, uint64_t pos, uint64_t *len)
{
    for (int i = 0; i < req->iovcnt; i++) {
        const struct iovec *v = &req->iov[i];

        if (pos < v->iov_len) {
            *len = v->iov_len - pos;
            return (uint8_t *)v->iov_base + pos;
        }
        pos -= v->iov_len;
    }
    *len = 0;
    return NULL;
}

/* ---- sending ---- */

/* libnbd calls this from inside its functions, where none of them may be called. */
static int on_finished(void *arg, int *error)
{
    struct command *c = arg;

    if (!c->finished) {
        c->finished = true;
        c->error = *error;
        c->next = c->n->finished;
        c->n->finished = c;
    }
    return 1;
}

static bool is_write(const struct command *c)
{
    return c->what == BLOCK_WRITE || c->what == BLOCK_DISCARD;
}

/* Hands the command to libnbd. memory: the data's. */
static void send_command(struct nbd *n, struct command *c, void *memory)
{
    const nbd_completion_callback done = {.callback = on_finished, .user_data = c};
    bool fua = c->what == BLOCK_WRITE && c->op->req->fua && n->offer.can_fua;
    uint32_t flags = fua ? LIBNBD_CMD_FLAG_FUA : 0;
    int64_t cookie = -1;

    c->finished = false;
    switch (c->what) {
    case BLOCK_READ:
        cookie = n->lib->aio_pread(n->handle, memory, c->at_len, c->at, done, 0);
        break;
    case BLOCK_WRITE:
        cookie = n->lib->aio_pwrite(n->handle, memory, c->at_len, c->at, done, flags);
        break;
    case BLOCK_FLUSH:
        cookie = n->lib->aio_flush(n->handle, done, 0);
        break;
    case BLOCK_DISCARD:
        cookie = n->lib->aio_trim(n->handle, c->at_len, c->at, done, 0);
        break;
    }
    if (cookie < 0) {
        int error = EIO;

        on_finished(c, &error);
    }
}

static void start_command(struct nbd *n, struct nbd_op *op, enum block_op what, void *memory)
{
    struct command *c = n->free;

    n->free = c->next;
    c->op = op;
    c->what = what;
    op->commands++;
    if (n->busy++ == 0) {
        n->progress_ns = nbd_now_ns();
    }
    n->writing += is_write(c);
    send_command(n, c, memory);
}

static void send_flush(struct nbd *n, struct nbd_op *op)
{
    n->free->write_seq = n->written;
    n->free->alone = n->free->merge = false;
    start_command(n, op, BLOCK_FLUSH, NULL);
    op->sent = true;
}

/* Sends the next piece of a read or write. False: it has to wait. */
static bool send_data(struct nbd *n, struct nbd_op *op)
{
    const struct block_request *req = op->req;
    uint64_t at = req->offset_bytes + op->pos, left = req->length_bytes - op->pos, lump;
    uint32_t min = n->offer.min_bytes, skip = (uint32_t)(at % min), max = CHUNK_BYTES;
    struct command *c = n->free;
    uint8_t *memory = piece(req, op->pos, &lump);
    bool write = req->op == BLOCK_WRITE;

    if (at + left > n->offer.size_bytes) { /* the rest of an odd image's last sector */
        if (write) {
            op->error = -ENOSPC;
            return true;
        }
        left = at < n->offer.size_bytes ? n->offer.size_bytes - at : 0;
        zero(req, op->pos + left);
    }
    if (left == 0) {
        op->sent = true;
        return true;
    }
    max = max < n->offer.max_bytes ? max : n->offer.max_bytes;
    lump = lump < left ? lump : left;
    lump = lump < max ? lump : max;
    lump = skip == 0 && (lump == left || lump >= DIRECT_BYTES) ? lump - lump % min : 0;
    c->pos = op->pos;
    c->alone = c->merge = false;
    if (lump > 0) {
        c->at = at;
        c->len = c->at_len = (uint32_t)lump;
    } else {
        max = max < BOUNCE_BYTES ? max : BOUNCE_BYTES;
        c->at = at - skip;
        c->len = left < max - skip ? (uint32_t)left : max - skip;
        if (write && (skip != 0 || c->len < min)) { /* a part of a block: read, change, write */
            if (n->writing > 0) {
                return false;
            }
            c->len = c->len < min - skip ? c->len : min - skip;
            c->alone = c->merge = true;
        } else if (write) {
            c->len -= c->len % min;
        }
        c->at_len = (skip + c->len + min - 1) / min * min;
        if (c->at_len > n->offer.size_bytes - c->at) {
            c->at_len = (uint32_t)(n->offer.size_bytes - c->at);
        }
        memory = c->bounce = take_bounce(n);
        if (memory == NULL) {
            op->error = n->busy == 0 ? -ENOMEM : op->error; /* else one will be free */
            return n->busy == 0;
        }
        if (write && !c->merge) {
            copy(req, c->pos, memory, c->len, false);
        }
    }
    op->pos += c->len;
    op->sent = op->pos == req->length_bytes;
    n->merging = n->merging || c->alone;
    start_command(n, op, write && !c->merge ? BLOCK_WRITE : BLOCK_READ, memory);
    return true;
}

static void send_discard(struct nbd *n, struct nbd_op *op)
{
    uint64_t min = n->offer.min_bytes;
    uint64_t first = (op->req->offset_bytes + op->pos + min - 1) / min * min;
    uint64_t end = op->req->offset_bytes + op->req->length_bytes;
    struct command *c = n->free;

    end = end < n->offer.size_bytes ? end : n->offer.size_bytes;
    end -= end % min;
    if (first >= end || !n->offer.can_trim) {
        op->sent = true; /* advice */
        return;
    }
    c->alone = c->merge = false;
    c->at = first;
    c->at_len = end - first < TRIM_BYTES ? (uint32_t)(end - first) : TRIM_BYTES;
    op->pos = first + c->at_len - op->req->offset_bytes;
    op->sent = first + c->at_len == end;
    start_command(n, op, BLOCK_DISCARD, NULL);
}

/* Sends a part of op, or finds that all has been. False: it has to wait. */
static bool send_some(struct nbd *n, struct nbd_op *op)
{
    const struct block_request *req = op->req;
    bool write = req->op == BLOCK_WRITE || req->op == BLOCK_DISCARD;

    if (n->free == NULL || (write && n->merging)) {
        return false;
    }
    if (op->error != 0) { /* of a part: the others need not be sent */
        op->sent = true;
    } else if (req->op == BLOCK_FLUSH || op->flush) {
        if (n->lost) {
            n->lost = false;
            op->error = -EIO;
        } else if (n->offer.can_flush) {
            send_flush(n, op);
        }
        op->sent = true;
    } else if (req->op == BLOCK_DISCARD) {
        send_discard(n, op);
    } else {
        return send_data(n, op);
    }
    return true;
}

static void start_attempt(struct nbd *n);

/* Sends what can be sent. */
static void pump(struct nbd *n)
{
    uint64_t now = n->handle == NULL && n->todo != NULL ? nbd_now_ns() : 0;

    if (n->handle == NULL && n->todo != NULL && n->attempt == NULL && now >= n->attempt_ns) {
        start_attempt(n);
    }
    while (n->handle == NULL && n->todo != NULL && (now >= n->give_up_ns || n->todo->error != 0)) {
        struct nbd_op *op = pop_todo(n);

        op->error = -EIO;
        op->sent = true;
        end_if_done(n, op);
    }
    while (n->handle != NULL && n->todo != NULL && send_some(n, n->todo)) {
        if (n->todo->sent) {
            end_if_done(n, pop_todo(n));
        }
    }
}

/* ---- answers ---- */

static int to_errno(int error)
{
    return error == 0 ? 0 : error == ENOSPC ? -ENOSPC : error == EPERM ? -EROFS : -EIO;
}

/* The read of a read-modify-write is there. */
static void merge(struct nbd *n, struct command *c)
{
    copy(c->op->req, c->pos, c->bounce + (c->op->req->offset_bytes + c->pos - c->at), c->len,
         false);
    c->merge = false;
    c->what = BLOCK_WRITE;
    n->writing++;
    send_command(n, c, c->bounce);
}

static void answer(struct nbd *n, struct command *c)
{
    struct nbd_op *op = c->op;

    if (c->merge && n->handle == NULL) {
        c->error = EIO;
    }
    if (c->merge && c->error == 0) {
        merge(n, c);
        return;
    }
    if (c->alone) {
        n->merging = false;
    }
    n->busy--;
    n->writing -= is_write(c);
    op->commands--;
    if (c->error != 0 && op->error == 0) {
        op->error = to_errno(c->error);
    }
    if (c->error == 0 && c->what == BLOCK_READ && c->bounce != NULL) {
        copy(op->req, c->pos, c->bounce + (op->req->offset_bytes + c->pos - c->at), c->len, true);
    }
    if (c->error == 0 && c->what == BLOCK_WRITE && !(op->req->fua && n->offer.can_fua)) {
        n->written++;
    }
    if (c->error == 0 && c->what == BLOCK_FLUSH && c->write_seq > n->flushed) {
        n->flushed = c->write_seq;
    }
    free_command(n, c);
    if (op->commands > 0 || !op->sent) {
        return;
    }
    if (op->req->op == BLOCK_WRITE && op->req->fua && !n->offer.can_fua && !op->flush &&
        op->error == 0) {
        op->flush = true;
        op->sent = false;
        push_todo(n, op);
        return;
    }
    end_if_done(n, op);
}

static void reap(struct nbd *n)
{
    while (n->finished != NULL) {
        struct command *c = n->finished;

        n->finished = c->next;
        answer(n, c);
    }
}

/* ---- the connection ---- */

static void set_tick(struct nbd *n);
static void on_socket(void *arg, uint32_t events);

static int adopt(struct nbd *n, struct nbd_handle *h, const struct nbd_offer *offer)
{
    n->events = EPOLLIN;
    int rc = loop_watch(n->block->loop, &n->watch, n->lib->aio_get_fd(h), n->events, on_socket, n);

    if (rc == 0) {
        n->handle = h;
        n->offer = *offer;
        n->progress_ns = nbd_now_ns();
    }
    return rc;
}

/* The connection is over: so are the commands. */
static void disconnect(struct nbd *n, const char *why)
{
    uint64_t now = nbd_now_ns();

    log_limited(&n->limit, "image %s: %s", n->block->name, why);
    loop_unwatch(&n->watch);
    n->lib->close(n->handle);
    n->handle = NULL;
    n->give_up_ns = n->todo != NULL ? now + HOLD_NS : 0;
    n->attempt_ns = now;
    for (unsigned i = 0; i < COMMANDS; i++) {
        if (n->commands[i].op != NULL) {
            int error = EIO;

            on_finished(&n->commands[i], &error);
        }
    }
    reap(n);
    n->lost = n->lost || (n->offer.can_flush && n->written != n->flushed);
    n->flushed = n->written;
}

static void on_attempt(void *arg, uint32_t events)
{
    struct nbd *n = arg;
    struct nbd_offer offer;
    char err[256] = "";
    struct nbd_handle *h = nbd_attempt_take(n->attempt, &offer, err, sizeof(err));

    (void)events;
    loop_unwatch(&n->attempt_watch);
    nbd_attempt_drop(n->attempt);
    n->attempt = NULL;
    if (h != NULL &&
        (offer.size_bytes != n->offer.size_bytes || (offer.readonly && !n->block->readonly))) {
        snprintf(err, sizeof(err), "the server has another image now (size or read-only)");
        n->lib->close(h);
        h = NULL;
    }
    if (h != NULL && adopt(n, h, &offer) < 0) {
        snprintf(err, sizeof(err), "cannot watch the connection");
        n->lib->close(h);
        h = NULL;
    }
    log_limited(&n->limit, "image %s: %s%s", n->block->name,
                h != NULL ? "connected again" : "no new connection: ", h != NULL ? "" : err);
    run(n);
}

static void start_attempt(struct nbd *n)
{
    n->attempt_ns = nbd_now_ns() + SECOND_NS;
    n->attempt = nbd_attempt_start(n->lib, n->block->name, CONNECT_MS);
    if (n->attempt != NULL && loop_watch(n->block->loop, &n->attempt_watch,
                                         nbd_attempt_fd(n->attempt), EPOLLIN, on_attempt, n) < 0) {
        nbd_attempt_drop(n->attempt);
        n->attempt = NULL;
    }
}

/* Looks at the clock. */
static void check_time(struct nbd *n)
{
    if (n->handle != NULL && n->busy > 0 && nbd_now_ns() - n->progress_ns >= SILENCE_NS) {
        disconnect(n, "no answer from the server for 20 s");
    }
}

/* Does all that can be done now. Completed requests may submit more. */
static void run_now(struct nbd *n)
{
    bool was = n->running;

    n->running = true;
    do {
        reap(n);
        if (n->handle != NULL &&
            (n->lib->aio_is_dead(n->handle) || n->lib->aio_is_closed(n->handle))) {
            disconnect(n, "the connection to the server is lost");
        }
        check_time(n);
        pump(n);
    } while (n->finished != NULL);
    n->running = was;
    if (n->handle != NULL) {
        unsigned dir = n->lib->aio_get_direction(n->handle);
        uint32_t events = ((dir & LIBNBD_AIO_DIRECTION_READ) != 0 ? (uint32_t)EPOLLIN : 0) |
                          ((dir & LIBNBD_AIO_DIRECTION_WRITE) != 0 ? (uint32_t)EPOLLOUT : 0);

        if (events != n->events) {
            n->events = events;
            watch_events(&n->watch, events);
        }
    }
    set_tick(n);
}

static void run(struct nbd *n)
{
    if (!n->running) {
        run_now(n);
    }
}

static void on_socket(void *arg, uint32_t events)
{
    struct nbd *n = arg;
    unsigned dir = n->lib->aio_get_direction(n->handle);
    bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;

    if ((broken || (events & EPOLLIN) != 0) && (dir & LIBNBD_AIO_DIRECTION_READ) != 0) {
        n->progress_ns = nbd_now_ns();
        (void)n->lib->aio_notify_read(n->handle);
    } else if ((broken || (events & EPOLLOUT) != 0) && (dir & LIBNBD_AIO_DIRECTION_WRITE) != 0) {
        n->progress_ns = nbd_now_ns();
        (void)n->lib->aio_notify_write(n->handle);
    }
    run(n);
}

/* When something has to be done although nothing happens; UINT64_MAX: never. */
static uint64_t next_time(const struct nbd *n)
{
    if (n->handle != NULL) {
        return n->busy > 0 ? n->progress_ns + SILENCE_NS : UINT64_MAX;
    }
    if (n->todo == NULL) {
        return UINT64_MAX;
    }
    return n->attempt == NULL && n->attempt_ns < n->give_up_ns ? n->attempt_ns : n->give_up_ns;
}

static void set_tick(struct nbd *n)
{
    uint64_t at = next_time(n), now;

    if (at == UINT64_MAX) {
        timer_cancel(&n->tick);
    } else if (!n->tick.armed || n->handle == NULL) {
        now = nbd_now_ns();
        timer_set(&n->tick,
                  loop_now(n->block->loop, LOOP_HOST) + (at > now ? at - now : 0) + 1000000);
    }
}

static void on_tick(void *arg)
{
    run(arg);
}

/* ---- the backend ---- */

static void nbd_submit(struct block *b, struct block_request *req)
{
    struct nbd *n = b->state;
    struct nbd_op *op = n->spare;

    if (op != NULL) {
        n->spare = op->next;
    } else {
        op = malloc(sizeof(*op));
        if (op == NULL) {
            block_complete(b, req, -ENOMEM);
            return;
        }
    }
    *op = (struct nbd_op){.req = req};
    push_todo(n, op);
    if (n->handle == NULL) {
        uint64_t now = nbd_now_ns();

        if (n->give_up_ns == 0 || now > n->attempt_ns + FORGET_NS) {
            n->give_up_ns = now + HOLD_NS;
        }
    }
    run(n);
}

static void nbd_wait(struct block *b)
{
    struct nbd *n = b->state;
    uint64_t before = n->completed;

    for (;;) {
        run_now(n); /* also when called from a completion */
        if (n->completed != before) {
            return;
        }
        uint64_t at = next_time(n), now = nbd_now_ns();
        struct pollfd pfd = {.fd = -1};
        int ms = at <= now ? 0 : at - now > SECOND_NS ? 1000 : (int)((at - now) / 1000000 + 1);

        if (n->handle != NULL) {
            pfd.fd = n->lib->aio_get_fd(n->handle);
            pfd.events = (short)(((n->events & EPOLLIN) != 0 ? POLLIN : 0) |
                                 ((n->events & EPOLLOUT) != 0 ? POLLOUT : 0));
        } else if (n->attempt != NULL) {
            pfd.fd = nbd_attempt_fd(n->attempt);
            pfd.events = POLLIN;
        }
        if (poll(&pfd, 1, ms) <= 0) {
            continue;
        }
        if (n->handle != NULL) {
            on_socket(n, ((pfd.revents & POLLIN) != 0 ? (uint32_t)EPOLLIN : 0) |
                             ((pfd.revents & POLLOUT) != 0 ? (uint32_t)EPOLLOUT : 0) |
                             ((pfd.revents & (POLLERR | POLLHUP)) != 0 ? (uint32_t)EPOLLERR : 0));
        } else if (n->attempt != NULL) {
            on_attempt(n, EPOLLIN);
        }
    }
}

struct sync {
    bool done;
    int error;
};

static void sync_done(struct block_request *req, int error)
{
    struct sync *s = req->opaque;

    s->done = true;
    s->error = error;
}

static int nbd_sync(struct block *b)
{
    struct nbd *n = b->state;
    struct sync s = {false, 0};
    struct block_request req = {.op = BLOCK_FLUSH, .done = sync_done, .opaque = &s};

    if (n->written == n->flushed && !n->lost) {
        return 0;
    }
    block_submit(b, &req);
    while (!s.done) {
        nbd_wait(b);
    }
    if (s.error == 0) {
        b->stats.flush_operations--; /* not the guest's */
    }
    return s.error;
}

static void nbd_close_image(struct block *b)
{
    struct nbd *n = b->state;

    timer_cancel(&n->tick);
    loop_unwatch(&n->attempt_watch);
    nbd_attempt_drop(n->attempt);
    loop_unwatch(&n->watch);
    if (n->handle != NULL) {
        (void)n->lib->aio_disconnect(n->handle, 0); /* as far as it goes without waiting */
        n->lib->close(n->handle);
    }
    while (n->bounce_count > 0) {
        free(n->bounces[--n->bounce_count]);
    }
    while (n->spare != NULL) {
        struct nbd_op *op = n->spare;

        n->spare = op->next;
        free(op);
    }
    nbd_target_free(&n->target);
    free(n);
}

/* Connects, and finds out what kind of image the server has. */
static int connect_first(struct nbd *n, const struct block_config *cfg, char *err, size_t errlen)
{
    struct nbd_offer offer;
    char why[384] = "";
    struct nbd_handle *h = NULL;

    n->lib = nbd_lib_load(why, sizeof(why));
    if (n->lib != NULL && nbd_target_parse(&n->target, cfg->path, why, sizeof(why)) == 0) {
        h = nbd_connect(n->lib, &n->target, CONNECT_MS, &offer, why, sizeof(why));
    }
    if (h != NULL && offer.readonly && !cfg->readonly) {
        snprintf(why, sizeof(why), "the server offers it read-only");
    } else if (h != NULL) {
        uint64_t size = offer.size_bytes;

        n->block->size_bytes = cfg->cdrom
                                   ? size & ~(uint64_t)2047
                                   : (size + BLOCK_SECTOR - 1) & ~(uint64_t)(BLOCK_SECTOR - 1);
        if (n->block->size_bytes == 0) {
            snprintf(why, sizeof(why), "it is empty");
        } else if (adopt(n, h, &offer) < 0) {
            snprintf(why, sizeof(why), "cannot watch the connection");
        } else {
            return 0;
        }
    }
    if (h != NULL) {
        n->lib->close(h);
    }
    snprintf(err, errlen, "image %s: %s", n->block->name, why);
    return -EIO;
}

static int nbd_open(struct block *b, const struct block_config *cfg, int fd, char *err,
                    size_t errlen)
{
    struct nbd *n = calloc(1, sizeof(*n));

    (void)fd;
    if (n == NULL) {
        snprintf(err, errlen, "image %s: out of memory", b->name);
        return -ENOMEM;
    }
    n->block = b;
    n->todo_tail = &n->todo;
    for (unsigned i = COMMANDS; i-- > 0;) {
        n->commands[i].n = n;
        n->commands[i].next = n->free;
        n->free = &n->commands[i];
    }
    timer_init(&n->tick, b->loop, LOOP_HOST, on_tick, n);
    int rc = connect_first(n, cfg, err, errlen);
    if (rc < 0) {
        nbd_target_free(&n->target);
        free(n);
        return rc;
    }
    b->state = n;
    return 0;
}

const struct block_backend block_nbd = {
    .format = "nbd",
    .open = nbd_open,
    .close = nbd_close_image,
    .submit = nbd_submit,
    .wait = nbd_wait,
    .sync = nbd_sync,
};
