/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/uring.h"

#include <errno.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/log.h"
#include "core/loop.h"

/* From Linux 5.7 on: completions are never dropped, iovecs are copied when submitted, and every
 * operation we use exists. */
enum { FEATURES = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL };

/* Kernel threads for what cannot be done without blocking (flushes; buffered writes on some file
 * systems). Writes to one file are serialised by the kernel anyway. */
enum { KERNEL_WORKERS = 8 };

struct uring {
    struct io_uring ring;
    struct watch watch;
    struct bottom_half bh;
    void (*done)(void *arg, void *cookie, int result);
    void *arg;
    void *unsent[URING_DEPTH]; /* cookies of requests that the kernel has not taken yet */
    unsigned nunsent, in_flight;
    unsigned reaping; /* depth of calls that hand back requests: done() may wait, or destroy us */
    bool broken, dead;
};

static void discard_uring(struct uring *u)
{
    io_uring_queue_exit(&u->ring);
    free(u);
}

/* The end of handing back requests. */
static void reaped(struct uring *u)
{
    if (--u->reaping == 0 && u->dead) {
        discard_uring(u);
    }
}

void uring_reap(struct uring *u)
{
    struct io_uring_cqe *cqe;

    u->reaping++;
    while (!u->dead && io_uring_peek_cqe(&u->ring, &cqe) == 0 && cqe != NULL) {
        void *cookie = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        io_uring_cqe_seen(&u->ring, cqe);
        u->in_flight--;
        u->done(u->arg, cookie, result);
    }
    reaped(u);
}

static void on_ready(void *arg, uint32_t events)
{
    (void)events;
    uring_reap(arg);
}

/* Ends what the kernel has not taken. */
static void refuse_unsent(struct uring *u)
{
    u->reaping++;
    while (u->nunsent > 0) {
        u->in_flight--;
        u->done(u->arg, u->unsent[--u->nunsent], -ECANCELED);
    }
    reaped(u);
}

void uring_submit(struct uring *u)
{
    bottom_half_cancel(&u->bh);
    if (u->broken || u->nunsent == 0) {
        return;
    }
    int n = io_uring_submit(&u->ring);
    if (n >= 0) {
        unsigned sent = (unsigned)n < u->nunsent ? (unsigned)n : u->nunsent;

        /* The kernel takes them in order. */
        u->nunsent -= sent;
        for (unsigned i = 0; i < u->nunsent; i++) {
            u->unsent[i] = u->unsent[i + sent];
        }
    } else if (n != -EAGAIN && n != -EBUSY && n != -EINTR) {
        static struct log_limit limit;

        log_limited(&limit, "io_uring stopped working (%s): images are used through threads",
                    strerror(-n));
        u->broken = true;
        refuse_unsent(u);
        return;
    }
    if (u->nunsent > 0) {
        bottom_half_schedule(&u->bh); /* short of memory: again on the next turn */
    }
}

static void on_bh(void *arg)
{
    uring_submit(arg);
}

int uring_create(struct uring **out, struct loop *loop,
                 void (*done)(void *arg, void *cookie, int result), void *arg)
{
    static const unsigned flags[] = {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CLAMP, 0};
    unsigned workers[2] = {KERNEL_WORKERS, KERNEL_WORKERS};
    struct uring *u = calloc(1, sizeof(*u));
    int rc = -EINVAL;

    if (u == NULL) {
        return -ENOMEM;
    }
    u->done = done;
    u->arg = arg;
    for (size_t i = 0; rc == -EINVAL && i < sizeof(flags) / sizeof(flags[0]); i++) {
        struct io_uring_params p = {.flags = flags[i]};

        rc = io_uring_queue_init_params(URING_DEPTH, &u->ring, &p);
        if (rc == 0 && (p.features & FEATURES) != FEATURES) {
            io_uring_queue_exit(&u->ring);
            rc = -ENOSYS;
        }
    }
    if (rc < 0) {
        free(u);
        return rc;
    }
    (void)io_uring_register_iowq_max_workers(&u->ring, workers); /* Linux 5.15 */
    bottom_half_init(&u->bh, loop, on_bh, u);
    rc = loop_watch(loop, &u->watch, u->ring.ring_fd, EPOLLIN, on_ready, u);
    if (rc < 0) {
        io_uring_queue_exit(&u->ring);
        free(u);
        return rc;
    }
    *out = u;
    return 0;
}

void uring_destroy(struct uring *u)
{
    if (u == NULL) {
        return;
    }
    bottom_half_cancel(&u->bh);
    loop_unwatch(&u->watch);
    if (u->reaping > 0) {
        u->dead = true;
    } else {
        discard_uring(u);
    }
}

/* An entry for a request, or NULL. */
static struct io_uring_sqe *entry(struct uring *u, void *cookie)
{
    if (u->broken || u->in_flight == URING_DEPTH) {
        return NULL;
    }
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe != NULL) {
        u->in_flight++;
        u->unsent[u->nunsent++] = cookie;
        bottom_half_schedule(&u->bh);
    }
    return sqe;
}

bool uring_readv(struct uring *u, int fd, const struct iovec *iov, int cnt, uint64_t offset_bytes,
                 void *cookie)
{
    struct io_uring_sqe *sqe = entry(u, cookie);

    if (sqe == NULL) {
        return false;
    }
    if (cnt == 1) { /* saves the kernel an allocation */
        io_uring_prep_read(sqe, fd, iov->iov_base, (unsigned)iov->iov_len, offset_bytes);
    } else {
        io_uring_prep_readv(sqe, fd, iov, (unsigned)cnt, offset_bytes);
    }
    io_uring_sqe_set_data(sqe, cookie);
    return true;
}

bool uring_writev(struct uring *u, int fd, const struct iovec *iov, int cnt, uint64_t offset_bytes,
                  int rw_flags, void *cookie)
{
    struct io_uring_sqe *sqe = entry(u, cookie);

    if (sqe == NULL) {
        return false;
    }
    if (cnt == 1) {
        io_uring_prep_write(sqe, fd, iov->iov_base, (unsigned)iov->iov_len, offset_bytes);
    } else {
        io_uring_prep_writev(sqe, fd, iov, (unsigned)cnt, offset_bytes);
    }
    sqe->rw_flags = rw_flags;
    io_uring_sqe_set_data(sqe, cookie);
    return true;
}

bool uring_fdatasync(struct uring *u, int fd, void *cookie)
{
    struct io_uring_sqe *sqe = entry(u, cookie);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
    io_uring_sqe_set_data(sqe, cookie);
    return true;
}

bool uring_punch(struct uring *u, int fd, uint64_t offset_bytes, uint64_t length_bytes,
                 void *cookie)
{
    struct io_uring_sqe *sqe = entry(u, cookie);

    if (sqe == NULL) {
        return false;
    }
    io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            (off_t)offset_bytes, (off_t)length_bytes);
    io_uring_sqe_set_data(sqe, cookie);
    return true;
}

bool uring_broken(const struct uring *u)
{
    return u->broken;
}

unsigned uring_in_flight(const struct uring *u)
{
    return u->in_flight;
}

int uring_fd(const struct uring *u)
{
    return u->ring.ring_fd;
}
