/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw images: regular files and block devices. What the page cache can answer at once is done
 * inside submit(), for a few microseconds and no hand-over; the rest goes through io_uring
 * (uring.c), made when it is first needed, and what that cannot do, or everything where the kernel
 * has no io_uring for us, through threads (workers.c).
 *
 * An image is read and written through the page cache unless O_DIRECT was asked for: measured
 * against an NVMe-backed disk, cold reads in sequence are as fast or faster with the kernel's
 * read-ahead, random ones are equal, and everything that is read twice or was just written (an
 * installer's CD, an image made a minute ago) is faster by an order of magnitude.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "block/backend.h"
#include "block/uring.h"
#include "block/workers.h"
#include "core/loop.h"

enum {
    INLINE_MAX_BYTES = 1 << 30, /* beyond it req->result could not hold a position */
    WAIT_MS = 100,              /* of raw_wait() before it offers again what the kernel refused */
};

struct raw {
    struct block *block;
    int fd;
    int direct_fd; /* the same file with O_DIRECT, -1: not wanted or not possible */
    uint32_t direct_memory, direct_offset; /* alignment that O_DIRECT needs, bytes */
    bool is_device;
    bool no_nowait_read, no_nowait_write; /* the file system refused once */
    bool no_uring;
    uint64_t file_bytes; /* real size at open: the image may end in a part of a sector */
    uint64_t completed;  /* requests, ever */
    struct uring *uring;
    struct workers *workers;
    struct block_request *waiting, **waiting_tail; /* for room in the ring, FIFO */
};

/* ---- pieces ---- */

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

/* The rest of a request from byte pos on. copy holds BLOCK_IOV_MAX entries. */
static struct iovec *iov_rest(const struct block_request *req, uint64_t pos, struct iovec *copy,
                              int *cnt)
{
    struct iovec *iov = copy;

    *cnt = req->iovcnt;
    memcpy(copy, req->iov, sizeof(copy[0]) * (size_t)*cnt);
    iov_advance(&iov, cnt, pos);
    return iov;
}

/* What a transfer of 0 bytes at byte pos of req means: 0 and the rest zeroed, or -errno. */
static int end_of_file(const struct raw *raw, const struct block_request *req, uint64_t pos)
{
    struct iovec copy[BLOCK_IOV_MAX];
    int cnt;

    if (req->op != BLOCK_READ) {
        return -ENOSPC;
    }
    /* The missing part of the last sector of an oddly sized image is zeros, as is everything behind
     * the end of a file that a format lets grow; anything else means that the file has been
     * truncated under us. */
    if (req->offset_bytes + pos < raw->file_bytes && !raw->block->growable) {
        return -EIO;
    }
    const struct iovec *iov = iov_rest(req, pos, copy, &cnt);
    for (int i = 0; i < cnt; i++) {
        memset(iov[i].iov_base, 0, iov[i].iov_len);
    }
    return 0;
}

/* The descriptor for the rest of req from pos on: O_DIRECT where everything is aligned. */
static int fd_for(const struct raw *raw, const struct block_request *req, uint64_t pos)
{
    if (raw->direct_fd < 0 || pos != 0 ||
        ((req->offset_bytes | req->length_bytes) & (raw->direct_offset - 1)) != 0) {
        return raw->fd;
    }
    for (int i = 0; i < req->iovcnt; i++) {
        if ((((uintptr_t)req->iov[i].iov_base | req->iov[i].iov_len) & (raw->direct_memory - 1)) !=
            0) {
            return raw->fd;
        }
    }
    return raw->direct_fd;
}

static int rw_flags(const struct block_request *req)
{
    return req->op == BLOCK_WRITE && req->fua ? RWF_DSYNC : 0;
}

/* Freed space is advice: where it cannot be taken, nothing is lost. */
static int discard_result(int rc)
{
    return rc == -EOPNOTSUPP || rc == -EINVAL || rc == -ENOTTY || rc == -ENOSYS ? 0 : rc;
}

/* ---- the ways to do it ---- */

/*
 * Reads or writes as much of req from its byte *pos on as goes with `flags` (RWF_*). 0: all done;
 * -EAGAIN: the rest would block (RWF_NOWAIT only), *pos says how far it came; or -errno.
 */
static int transfer(const struct raw *raw, const struct block_request *req, uint64_t *pos,
                    int flags)
{
    struct iovec copy[BLOCK_IOV_MAX];
    int cnt;
    struct iovec *iov = iov_rest(req, *pos, copy, &cnt);

    while (*pos < req->length_bytes) {
        off_t at = (off_t)(req->offset_bytes + *pos);
        int fd = fd_for(raw, req, *pos);
        ssize_t n = req->op == BLOCK_READ ? preadv2(fd, iov, cnt, at, flags)
                                          : pwritev2(fd, iov, cnt, at, flags);
        if (n < 0 && errno == EINVAL && fd != raw->fd) { /* stricter than it said */
            n = req->op == BLOCK_READ ? preadv2(raw->fd, iov, cnt, at, flags)
                                      : pwritev2(raw->fd, iov, cnt, at, flags);
        }
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        if (n == 0) {
            int rc = end_of_file(raw, req, *pos);
            *pos = rc == 0 ? req->length_bytes : *pos;
            return rc;
        }
        *pos += (uint64_t)n;
        iov_advance(&iov, &cnt, (size_t)n);
    }
    return 0;
}

static int discard(const struct raw *raw, const struct block_request *req)
{
    int rc = fallocate(raw->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       (off_t)req->offset_bytes, (off_t)req->length_bytes);

    if (rc < 0 && errno == EOPNOTSUPP && raw->is_device) {
        /* A device that can free space but not promise zeros by itself, such as a thin volume. */
        uint64_t range[2] = {req->offset_bytes, req->length_bytes};
        rc = ioctl(raw->fd, BLKDISCARD, range);
    }
    return rc < 0 ? discard_result(-errno) : 0;
}

/* Does a request to the end, blocking, in a thread. req->result holds the bytes already moved. */
static int run_blocking(void *arg, struct block_request *req)
{
    const struct raw *raw = arg;
    uint64_t pos = (uint64_t)(unsigned)req->result;

    switch (req->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        return transfer(raw, req, &pos, rw_flags(req));
    case BLOCK_FLUSH:
        return fdatasync(raw->fd) < 0 ? -errno : 0;
    case BLOCK_DISCARD:
        return discard(raw, req);
    }
    return -EINVAL;
}

static void complete(struct raw *raw, struct block_request *req, int error)
{
    raw->completed++;
    block_complete(raw->block, req, error);
}

static void on_worker_done(void *arg, struct block_request *req, int result)
{
    complete(arg, req, result);
}

static void to_worker(struct raw *raw, struct block_request *req)
{
    int rc = -ENOMEM;

    if (raw->workers == NULL) {
        raw->workers = workers_create(raw->block->loop, run_blocking, on_worker_done, raw);
    }
    if (raw->workers != NULL) {
        rc = workers_queue(raw->workers, req);
    }
    if (rc < 0) {
        complete(raw, req, rc);
    }
}

/* ---- io_uring ---- */

static void on_uring_done(void *arg, void *cookie, int result);

/* Whether requests go through io_uring; makes the ring. */
static bool have_uring(struct raw *raw)
{
    static bool said;

    if (raw->uring == NULL && !raw->no_uring) {
        int rc = uring_create(&raw->uring, raw->block->loop, on_uring_done, raw);
        raw->no_uring = rc < 0;
        if (rc < 0 && !said) {
            said = true;
            log_msg("io_uring is not available here (%s): images are used through threads",
                    strerror(-rc));
        }
    }
    return raw->uring != NULL && !uring_broken(raw->uring);
}

/* Puts the rest of req, whose first req->result bytes are done, into the ring. False: no room. */
static bool to_ring(struct raw *raw, struct block_request *req)
{
    uint64_t pos = (uint64_t)(unsigned)req->result, at = req->offset_bytes + pos;
    const struct iovec *iov = req->iov;
    struct iovec part;
    int cnt = req->iovcnt;

    if (req->op == BLOCK_FLUSH) {
        return uring_fdatasync(raw->uring, raw->fd, req);
    }
    if (req->op == BLOCK_DISCARD) {
        return uring_punch(raw->uring, raw->fd, at, req->length_bytes, req);
    }
    int fd = fd_for(raw, req, pos);
    for (; cnt > 1 && pos >= iov->iov_len; iov++, cnt--) {
        pos -= iov->iov_len;
    }
    if (pos > 0) { /* first the rest of this entry alone: one entry is not looked at later */
        part.iov_base = (uint8_t *)iov->iov_base + pos;
        part.iov_len = iov->iov_len - pos;
        iov = &part;
        cnt = 1;
    }
    if (req->op == BLOCK_READ) {
        return uring_readv(raw->uring, fd, iov, cnt, at, req);
    }
    return uring_writev(raw->uring, fd, iov, cnt, at, rw_flags(req), req);
}

/* Carries out the rest of req, whose first req->result bytes are done, without blocking us. */
static void start(struct raw *raw, struct block_request *req)
{
    bool device_discard = req->op == BLOCK_DISCARD && raw->is_device;

    if (device_discard || req->length_bytes > INLINE_MAX_BYTES || !have_uring(raw)) {
        to_worker(raw, req);
        return;
    }
    if (raw->waiting != NULL || !to_ring(raw, req)) {
        req->next = NULL;
        *raw->waiting_tail = req;
        raw->waiting_tail = &req->next;
    }
}

/* A place in the ring has become free. */
static void start_waiting(struct raw *raw)
{
    while (raw->waiting != NULL) {
        struct block_request *req = raw->waiting;
        bool ring = have_uring(raw);

        if (ring && !to_ring(raw, req)) {
            return;
        }
        raw->waiting = req->next;
        if (raw->waiting == NULL) {
            raw->waiting_tail = &raw->waiting;
        }
        if (!ring) {
            to_worker(raw, req);
        }
    }
}

static void on_uring_done(void *arg, void *cookie, int result)
{
    struct raw *raw = arg;
    struct block_request *req = cookie;
    bool data = req->op == BLOCK_READ || req->op == BLOCK_WRITE;

    start_waiting(raw);
    if (result == -EAGAIN || result == -ECANCELED || result == -EINTR) {
        to_worker(raw, req);
        return;
    }
    if (data && result == -EINVAL && fd_for(raw, req, (unsigned)req->result) != raw->fd) {
        to_worker(raw, req); /* O_DIRECT is stricter than it said */
        return;
    }
    if (data && result >= 0) {
        uint64_t pos = (uint64_t)(unsigned)req->result;
        if (result == 0) {
            result = end_of_file(raw, req, pos);
        } else if (pos + (unsigned)result < req->length_bytes) {
            req->result += result; /* a part: the rest follows */
            start(raw, req);
            return;
        } else {
            result = 0;
        }
    }
    complete(raw, req, req->op == BLOCK_DISCARD ? discard_result(result) : result);
}

/* ---- the backend ---- */

/* Tries to answer from (or into) the page cache without blocking. True when the request has been
 * completed. */
static bool try_now(struct raw *raw, struct block_request *req, uint64_t *pos)
{
    bool *refused = req->op == BLOCK_READ ? &raw->no_nowait_read : &raw->no_nowait_write;

    if (*refused || req->length_bytes > INLINE_MAX_BYTES || fd_for(raw, req, 0) != raw->fd) {
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
    complete(raw, req, rc);
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
    req->result = (int)pos;
    start(raw, req);
}

static void raw_wait(struct block *b)
{
    struct raw *raw = b->state;
    uint64_t before = raw->completed;

    for (;;) {
        struct pollfd fds[2] = {{.fd = -1, .events = POLLIN}, {.fd = -1, .events = POLLIN}};

        if (raw->uring != NULL) {
            uring_submit(raw->uring);
            uring_reap(raw->uring);
            fds[0].fd = uring_fd(raw->uring);
        }
        if (raw->workers != NULL) {
            workers_reap(raw->workers);
            fds[1].fd = workers_fd(raw->workers);
        }
        if (raw->completed != before) {
            return;
        }
        (void)poll(fds, 2, WAIT_MS);
    }
}

static int raw_sync(struct block *b)
{
    struct raw *raw = b->state;

    return fdatasync(raw->fd) < 0 ? -errno : 0;
}

static void raw_close(struct block *b)
{
    struct raw *raw = b->state;

    uring_destroy(raw->uring);
    workers_destroy(raw->workers);
    if (raw->direct_fd >= 0) {
        close(raw->direct_fd);
    }
    close(raw->fd);
    free(raw);
}

/* Opens the file a second time, for O_DIRECT; requests that are not aligned keep using the first.
 * Not an error where it cannot be had. */
static void open_direct(struct raw *raw, bool readonly)
{
    struct statx stx;
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", raw->fd);
    raw->direct_fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
    if (raw->direct_fd < 0) {
        log_msg("image %s: no O_DIRECT (%s), the page cache is used", raw->block->name,
                strerror(errno));
        return;
    }
    raw->direct_memory = raw->direct_offset = 4096; /* enough for all known disks */
    if (statx(raw->direct_fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) != 0 && stx.stx_dio_mem_align > 0 &&
        stx.stx_dio_offset_align > 0) {
        raw->direct_memory = stx.stx_dio_mem_align;
        raw->direct_offset = stx.stx_dio_offset_align;
    }
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
    raw->direct_fd = -1;
    raw->is_device = S_ISBLK(st.st_mode);
    raw->file_bytes = size;
    raw->waiting_tail = &raw->waiting;
    if (cfg->direct) {
        open_direct(raw, cfg->readonly);
    }
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
