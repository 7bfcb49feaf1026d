/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw images: regular files and block devices. What the page cache can answer at once is done
 * inside submit(); the rest goes to a few worker threads that are started when they are first
 * needed, and comes back through an eventfd that the loop watches.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "block/backend.h"
#include "core/loop.h"

enum { WORKERS_MAX = 4, WORKER_STACK_BYTES = 128 << 10 };

struct raw {
    struct block *block;
    int fd;
    bool is_device;
    bool no_nowait_read, no_nowait_write, no_discard; /* the file system refused once */
    uint64_t file_bytes; /* real size at open: the image may end in a part of a sector */

    /* Worker side; everything below is under lock. */
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    struct block_request *todo, **todo_tail; /* FIFO */
    struct block_request *done, **done_tail;
    pthread_t threads[WORKERS_MAX];
    unsigned nthreads, idle, queued;
    bool stop;

    int event_fd; /* -1 until the first worker starts */
    struct watch watch;
};

/* Drops n bytes from the front of an iovec array. */
static void iov_advance(struct iovec **iov, int *cnt, size_t n)
{
    while (*cnt > 0 && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        (*iov)++;
        (*cnt)--;
    }
    if (*cnt > 0) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
}

static void iov_zero(const struct iovec *iov, int cnt)
{
    for (int i = 0; i < cnt; i++) {
        memset(iov[i].iov_base, 0, iov[i].iov_len);
    }
}

/*
 * Reads or writes as much of req from its byte *pos on as goes with `flags` (RWF_*). 0: all done;
 * -EAGAIN: the rest would block (RWF_NOWAIT only), *pos says how far it came; or -errno.
 */
static int transfer(struct raw *raw, struct block_request *req, uint64_t *pos, int flags)
{
    struct iovec copy[BLOCK_IOV_MAX], *iov = copy;
    int cnt = req->iovcnt;
    memcpy(copy, req->iov, sizeof(copy[0]) * (size_t)cnt);
    iov_advance(&iov, &cnt, *pos);
    while (*pos < req->length_bytes) {
        off_t at = (off_t)(req->offset_bytes + *pos);
        ssize_t n = req->op == BLOCK_READ ? preadv2(raw->fd, iov, cnt, at, flags)
                                          : pwritev2(raw->fd, iov, cnt, at, flags);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        if (n == 0) {
            /* End of file. The missing part of the last sector of an oddly sized image is zeros,
             * as is everything behind the end of a file that a format lets grow; anything else
             * means that the file has been truncated under us. */
            if (req->op == BLOCK_READ &&
                ((uint64_t)at >= raw->file_bytes || raw->block->growable)) {
                iov_zero(iov, cnt);
                *pos = req->length_bytes;
                return 0;
            }
            return req->op == BLOCK_READ ? -EIO : -ENOSPC;
        }
        *pos += (uint64_t)n;
        iov_advance(&iov, &cnt, (size_t)n);
    }
    return 0;
}

static int discard(struct raw *raw, const struct block_request *req)
{
    int rc;
    if (raw->is_device) {
        uint64_t range[2] = {req->offset_bytes, req->length_bytes};
        rc = ioctl(raw->fd, BLKDISCARD, range);
    } else {
        rc = fallocate(raw->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       (off_t)req->offset_bytes, (off_t)req->length_bytes);
    }
    if (rc < 0 && errno != EOPNOTSUPP && errno != EINVAL && errno != ENOTTY) {
        return -errno;
    }
    return 0; /* advice: where it cannot be taken, nothing is lost */
}

/* Does a request to the end, blocking. req->result holds the bytes already moved. */
static int run_blocking(struct raw *raw, struct block_request *req)
{
    uint64_t pos = (uint64_t)(unsigned)req->result;
    switch (req->op) {
    case BLOCK_READ:
        return transfer(raw, req, &pos, 0);
    case BLOCK_WRITE:
        return transfer(raw, req, &pos, req->fua ? RWF_DSYNC : 0);
    case BLOCK_FLUSH:
        return fdatasync(raw->fd) < 0 ? -errno : 0;
    case BLOCK_DISCARD:
        return discard(raw, req);
    }
    return -EINVAL;
}

static void *worker(void *arg)
{
    struct raw *raw = arg;
    pthread_mutex_lock(&raw->lock);
    for (;;) {
        while (raw->todo == NULL && !raw->stop) {
            raw->idle++;
            pthread_cond_wait(&raw->work, &raw->lock);
            raw->idle--;
        }
        struct block_request *req = raw->todo;
        if (req == NULL) {
            break;
        }
        raw->todo = req->next;
        raw->queued--;
        if (raw->todo == NULL) {
            raw->todo_tail = &raw->todo;
        }
        pthread_mutex_unlock(&raw->lock);

        int rc = run_blocking(raw, req);

        pthread_mutex_lock(&raw->lock);
        req->result = rc;
        req->next = NULL;
        bool first = raw->done == NULL;
        *raw->done_tail = req;
        raw->done_tail = &req->next;
        pthread_cond_signal(&raw->finished);
        if (first) {
            uint64_t one = 1;
            ssize_t n = write(raw->event_fd, &one, sizeof(one));
            (void)n; /* cannot fill up: the counter is read each time */
        }
    }
    pthread_mutex_unlock(&raw->lock);
    return NULL;
}

/* Hands finished requests back to their owners, who may submit more. */
static void reap(struct raw *raw)
{
    pthread_mutex_lock(&raw->lock);
    struct block_request *req = raw->done;
    raw->done = NULL;
    raw->done_tail = &raw->done;
    pthread_mutex_unlock(&raw->lock);
    while (req != NULL) {
        struct block_request *next = req->next;
        block_complete(raw->block, req, req->result);
        req = next;
    }
}

static void on_event(void *arg, uint32_t events)
{
    struct raw *raw = arg;
    uint64_t n;
    (void)events;
    ssize_t got = read(raw->event_fd, &n, sizeof(n));
    (void)got;
    reap(raw);
}

/* Makes sure that a worker will take the next request. 0 or -errno when there is none at all. */
static int ensure_worker(struct raw *raw)
{
    if (raw->idle > raw->queued || raw->nthreads == WORKERS_MAX) {
        return 0;
    }
    if (raw->event_fd < 0) {
        raw->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (raw->event_fd < 0) {
            return -errno;
        }
        int rc = loop_watch(raw->block->loop, &raw->watch, raw->event_fd, EPOLLIN, on_event, raw);
        if (rc < 0) {
            close(raw->event_fd);
            raw->event_fd = -1;
            return rc;
        }
    }
    pthread_attr_t attr;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WORKER_STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop thread's */
    int rc = pthread_create(&raw->threads[raw->nthreads], &attr, worker, raw);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc == 0) {
        raw->nthreads++;
    }
    return raw->nthreads > 0 ? 0 : -rc;
}

static void queue(struct raw *raw, struct block_request *req, uint64_t pos)
{
    req->result =
        (int)pos; /* requests that come here part done are shorter than 2 GiB: see try_now() */
    req->next = NULL;
    pthread_mutex_lock(&raw->lock);
    int rc = ensure_worker(raw);
    if (rc == 0) {
        *raw->todo_tail = req;
        raw->todo_tail = &req->next;
        raw->queued++;
        pthread_cond_signal(&raw->work);
    }
    pthread_mutex_unlock(&raw->lock);
    if (rc < 0) {
        block_complete(raw->block, req, rc);
    }
}

/* Tries to answer from (or into) the page cache without blocking. True when the request has been
 * completed. */
static bool try_now(struct raw *raw, struct block_request *req, uint64_t *pos)
{
    bool *refused = req->op == BLOCK_READ ? &raw->no_nowait_read : &raw->no_nowait_write;
    if (*refused || req->length_bytes > (1u << 30)) {
        return false;
    }
    int rc = transfer(raw, req, pos, RWF_NOWAIT);
    if (rc == -EOPNOTSUPP) {
        *refused = true;
        return false;
    }
    if (rc == -EAGAIN) {
        return false;
    }
    block_complete(raw->block, req, rc);
    return true;
}

static void raw_submit(struct block *b, struct block_request *req)
{
    struct raw *raw = b->state;
    uint64_t pos = 0;
    if ((req->op == BLOCK_READ || (req->op == BLOCK_WRITE && !req->fua)) &&
        try_now(raw, req, &pos)) {
        return;
    }
    queue(raw, req, pos);
}

static void raw_wait(struct block *b)
{
    struct raw *raw = b->state;
    pthread_mutex_lock(&raw->lock);
    while (raw->done == NULL) {
        pthread_cond_wait(&raw->finished, &raw->lock);
    }
    pthread_mutex_unlock(&raw->lock);
    reap(raw);
}

static int raw_sync(struct block *b)
{
    struct raw *raw = b->state;
    return fdatasync(raw->fd) < 0 ? -errno : 0;
}

static void raw_close(struct block *b)
{
    struct raw *raw = b->state;
    pthread_mutex_lock(&raw->lock);
    raw->stop = true;
    pthread_cond_broadcast(&raw->work);
    pthread_mutex_unlock(&raw->lock);
    for (unsigned i = 0; i < raw->nthreads; i++) {
        pthread_join(raw->threads[i], NULL);
    }
    loop_unwatch(&raw->watch);
    if (raw->event_fd >= 0) {
        close(raw->event_fd);
    }
    pthread_cond_destroy(&raw->work);
    pthread_cond_destroy(&raw->finished);
    pthread_mutex_destroy(&raw->lock);
    close(raw->fd);
    free(raw);
}

static int raw_open(struct block *b, const struct block_config *cfg, int fd, char *err,
                    size_t errlen)
{
    struct stat st;
    uint64_t size = 0;
    if (fstat(fd, &st) < 0) {
        snprintf(err, errlen, "cannot examine image %s: %s", b->name, strerror(errno));
        return -EINVAL;
    }
    if (S_ISBLK(st.st_mode)) {
        if (ioctl(fd, BLKGETSIZE64, &size) < 0) {
            snprintf(err, errlen, "cannot get the size of %s: %s", b->name, strerror(errno));
            return -EINVAL;
        }
    } else {
        size = (uint64_t)st.st_size;
    }
    /* A CD is whole 2048-byte sectors; a disk keeps a last partial sector, padded with zeros. */
    uint64_t usable = cfg->cdrom ? size & ~(uint64_t)2047
                                 : (size + BLOCK_SECTOR - 1) & ~(uint64_t)(BLOCK_SECTOR - 1);
    if (cfg->growable) {
        usable = size;
        b->growable = S_ISREG(st.st_mode);
    }
    if (usable == 0) {
        snprintf(err, errlen, "image %s is empty", b->name);
        return -EINVAL;
    }
    struct raw *raw = calloc(1, sizeof(*raw));
    if (raw == NULL) {
        snprintf(err, errlen, "image %s: out of memory", b->name);
        return -ENOMEM;
    }
    raw->block = b;
    raw->fd = fd;
    raw->is_device = S_ISBLK(st.st_mode);
    raw->file_bytes = size;
    raw->event_fd = -1;
    raw->todo_tail = &raw->todo;
    raw->done_tail = &raw->done;
    pthread_mutex_init(&raw->lock, NULL);
    pthread_cond_init(&raw->work, NULL);
    pthread_cond_init(&raw->finished, NULL);
    b->state = raw;
    b->size_bytes = usable;
    return 0;
}

const struct block_backend block_raw = {
    .format = "raw",
    .open = raw_open,
    .close = raw_close,
    .submit = raw_submit,
    .wait = raw_wait,
    .sync = raw_sync,
};
