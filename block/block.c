/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images by format: opening, request checks, counters, draining. The formats themselves are
 * backends (backend.h). */
#include "block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/backend.h"

static const struct block_backend *const backends[] = {
    &block_raw,
};

static const char *const op_names[] = {
    [BLOCK_READ] = "read",
    [BLOCK_WRITE] = "write",
    [BLOCK_FLUSH] = "flush",
    [BLOCK_DISCARD] = "discard",
};

static const struct block_backend *find_backend(const char *format)
{
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
        if (strcmp(backends[i]->format, format) == 0) {
            return backends[i];
        }
    }
    return NULL;
}

/* A descriptor for the image, checked to be a file or block device. -1 with the reason in err. */
static int open_image(const struct block_config *cfg, const char *name, char *err, size_t errlen)
{
    int fd = cfg->fd;
    if (fd < 0) {
        /* O_NONBLOCK: a FIFO by mistake must not hang the start. It means nothing to files and
         * disks. */
        fd = open(cfg->path, (cfg->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) {
            snprintf(err, errlen, "cannot open image %s%s: %s", name,
                     cfg->readonly || errno == ENOENT ? "" : " for writing", strerror(errno));
            return -1;
        }
    }
    struct stat st;
    if (fstat(fd, &st) < 0) {
        snprintf(err, errlen, "cannot examine image %s: %s", name, strerror(errno));
    } else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        snprintf(err, errlen, "image %s is neither a file nor a block device", name);
    } else {
        int flags = fcntl(fd, F_GETFL);
        if (flags >= 0 && !cfg->readonly && (flags & O_ACCMODE) != O_RDWR) {
            snprintf(err, errlen, "image %s is not open for writing", name);
        } else {
            if (flags >= 0 && (flags & O_NONBLOCK) != 0) {
                (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
            }
            return fd;
        }
    }
    if (fd != cfg->fd) {
        close(fd);
    }
    return -1;
}

struct block *block_open(struct loop *loop, const struct block_config *cfg, char *err,
                         size_t errlen)
{
    char fdname[32];
    const char *name = cfg->path;
    if (name == NULL) {
        snprintf(fdname, sizeof(fdname), "(descriptor %d)", cfg->fd);
        name = fdname;
    }
    if (cfg->path == NULL && cfg->fd < 0) {
        snprintf(err, errlen, "no image is named");
        return NULL;
    }
    const char *format = cfg->format != NULL ? cfg->format : "raw";
    const struct block_backend *backend = find_backend(format);
    if (backend == NULL) {
        snprintf(err, errlen, "image %s: format '%s' is not supported", name, format);
        return NULL;
    }
    struct block *b = calloc(1, sizeof(*b));
    char *copy = strdup(name);
    int fd = b != NULL && copy != NULL ? open_image(cfg, name, err, errlen) : -1;
    if (b == NULL || copy == NULL) {
        snprintf(err, errlen, "image %s: out of memory", name);
    }
    if (fd < 0) {
        free(copy);
        free(b);
        return NULL;
    }
    b->backend = backend;
    b->loop = loop;
    b->name = copy;
    b->readonly = cfg->readonly;
    if (backend->open(b, cfg, fd, err, errlen) < 0) {
        if (fd != cfg->fd) {
            close(fd);
        }
        free(copy);
        free(b);
        return NULL;
    }
    return b;
}

int block_drain(struct block *b)
{
    while (b->in_flight > 0) {
        b->backend->wait(b);
    }
    return b->readonly ? 0 : b->backend->sync(b);
}

void block_close(struct block *b)
{
    if (b == NULL) {
        return;
    }
    int rc = block_drain(b);
    if (rc < 0) {
        log_msg("image %s: flush at close failed: %s", b->name, strerror(-rc));
    }
    b->backend->close(b);
    free(b->name);
    free(b);
}

uint64_t block_size_bytes(const struct block *b)
{
    return b->size_bytes;
}

bool block_readonly(const struct block *b)
{
    return b->readonly;
}

const struct block_stats *block_get_stats(const struct block *b)
{
    return &b->stats;
}

static void count(struct block_stats *s, const struct block_request *req)
{
    switch (req->op) {
    case BLOCK_READ:
        s->rd_operations++;
        s->rd_bytes += req->length_bytes;
        break;
    case BLOCK_WRITE:
        s->wr_operations++;
        s->wr_bytes += req->length_bytes;
        break;
    case BLOCK_FLUSH:
        s->flush_operations++;
        break;
    case BLOCK_DISCARD:
        break;
    }
}

static void finish(struct block *b, struct block_request *req, int error)
{
    if (error == 0) {
        count(&b->stats, req);
        b->failing = false;
    } else if (!b->failing) {
        b->failing = true;
        log_limited(&b->limit, "image %s: %s of %llu bytes at %llu failed: %s", b->name,
                    op_names[req->op], (unsigned long long)req->length_bytes,
                    (unsigned long long)req->offset_bytes, strerror(-error));
    }
    req->done(req, error);
}

void block_complete(struct block *b, struct block_request *req, int error)
{
    b->in_flight--;
    finish(b, req, error);
}

/* 0, or the -errno that ends the request before a backend sees it. */
static int check(const struct block *b, const struct block_request *req)
{
    if (req->op == BLOCK_FLUSH) {
        return 0;
    }
    if (req->op != BLOCK_READ && b->readonly) {
        return -EROFS;
    }
    if (req->offset_bytes > b->size_bytes ||
        req->length_bytes > b->size_bytes - req->offset_bytes) {
        return -EIO;
    }
    if (req->op == BLOCK_DISCARD) {
        return 0;
    }
    if (req->iovcnt < 1 || req->iovcnt > BLOCK_IOV_MAX) {
        return -EINVAL;
    }
    uint64_t sum = 0;
    for (int i = 0; i < req->iovcnt; i++) {
        sum += req->iov[i].iov_len;
    }
    return sum == req->length_bytes ? 0 : -EINVAL;
}

void block_submit(struct block *b, struct block_request *req)
{
    int rc = check(b, req);
    bool nothing = (req->op == BLOCK_FLUSH && b->readonly) ||
                   (req->op != BLOCK_FLUSH && req->length_bytes == 0);
    if (rc < 0 || nothing) {
        finish(b, req, rc);
        return;
    }
    b->in_flight++;
    b->backend->submit(b, req);
}
