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
#include "core/loop.h"

/* Formats by name; "raw" is what a protocol gives by itself. */
static const struct block_backend *const formats[] = {
    &block_raw,
    &block_vhd,
    &block_qcow2,
};

/* Targets that are not local files, by how they start. "./nbd:x" is a file. */
static const struct {
    const char *prefix;
    const struct block_backend *backend;
} protocols[] = {
    {"nbd:", &block_nbd},
    {"nbd+unix:", &block_nbd},
};

enum { DEPTH_MAX = 32 };
#define SERIES_NS 60000000000ull /* how often a series of errors is logged */

static struct block *shared; /* open images with a format, open network targets */

static const char *const op_names[] = {
    [BLOCK_READ] = "read",
    [BLOCK_WRITE] = "write",
    [BLOCK_FLUSH] = "flush",
    [BLOCK_DISCARD] = "discard",
};

static const struct block_backend *find_format(const char *format)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (strcmp(formats[i]->format, format) == 0) {
            return formats[i];
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

static struct block *make(struct loop *loop, const struct block_backend *backend, const char *name,
                          bool readonly)
{
    struct block *b = calloc(1, sizeof(*b));

    if (b != NULL && (b->name = strdup(name)) == NULL) {
        free(b);
        b = NULL;
    }
    if (b != NULL) {
        b->backend = backend;
        b->loop = loop;
        b->readonly = readonly;
        b->refs = 1;
    }
    return b;
}

static void discard_block(struct block *b)
{
    free(b->name);
    free(b);
}

static const struct block_backend *find_protocol(const struct block_config *cfg)
{
    for (size_t i = 0; cfg->fd < 0 && i < sizeof(protocols) / sizeof(protocols[0]); i++) {
        if (strncmp(cfg->path, protocols[i].prefix, strlen(protocols[i].prefix)) == 0) {
            return protocols[i].backend;
        }
    }
    return NULL;
}

/* A network target. Opened again, it is the same connection: nothing else makes two views agree. */
static struct block *open_network(struct loop *loop, const struct block_backend *protocol,
                                  const struct block_config *cfg, const char *name, char *err,
                                  size_t errlen)
{
    uint64_t dev = cfg->cdrom ? UINT64_MAX - 1 : UINT64_MAX; /* no file is there */

    for (struct block *b = shared; b != NULL; b = b->next) {
        if (b->backend == protocol && b->loop == loop && b->dev == dev &&
            b->readonly == cfg->readonly && strcmp(b->name, name) == 0) {
            b->refs++;
            return b;
        }
    }
    struct block *b = make(loop, protocol, name, cfg->readonly);
    if (b == NULL) {
        snprintf(err, errlen, "image %s: out of memory", name);
        return NULL;
    }
    b->dev = dev;
    b->ino = (uintptr_t)b;
    if (protocol->open(b, cfg, -1, err, errlen) < 0) {
        discard_block(b);
        return NULL;
    }
    b->next = shared;
    shared = b;
    return b;
}

/* The bytes themselves. */
static struct block *open_protocol(struct loop *loop, const struct block_config *cfg,
                                   const char *name, char *err, size_t errlen)
{
    struct stat st;
    const struct block_backend *network = find_protocol(cfg);
    if (network != NULL) {
        return open_network(loop, network, cfg, name, err, errlen);
    }
    struct block *b = make(loop, &block_raw, name, cfg->readonly);
    if (b == NULL) {
        snprintf(err, errlen, "image %s: out of memory", name);
        return NULL;
    }
    int fd = open_image(cfg, name, err, errlen);
    if (fd < 0) {
        discard_block(b);
        return NULL;
    }
    if (fstat(fd, &st) == 0) {
        b->dev = st.st_dev;
        b->ino = st.st_ino;
    }
    if (b->backend->open(b, cfg, fd, err, errlen) < 0) {
        if (fd != cfg->fd) {
            close(fd);
        }
        discard_block(b);
        return NULL;
    }
    return b;
}

/* The image that is open already, with one more user; NULL and *conflict when it cannot be shared. */
static struct block *find_shared(const struct block *file, const struct block_backend *format,
                                 bool *conflict)
{
    *conflict = false;
    for (struct block *b = shared; b != NULL; b = b->next) {
        if (b != file && file->ino != 0 && b->dev == file->dev && b->ino == file->ino) {
            *conflict = b->backend != format || b->readonly != file->readonly;
            if (!*conflict) {
                b->refs++;
                return b;
            }
            return NULL;
        }
    }
    return NULL;
}

static struct block *open_format_on(struct loop *loop, const struct block_backend *format,
                                    const struct block_config *cfg, struct block *file,
                                    const char *name, char *err, size_t errlen)
{
    bool conflict;

    struct block *b = find_shared(file, format, &conflict);
    if (b != NULL) {
        block_close(file);
        return b;
    }
    if (conflict) {
        snprintf(err, errlen, "image %s is open already, in another way (format, read-only)", name);
        block_close(file);
        return NULL;
    }
    b = make(loop, format, name, cfg->readonly);
    if (b == NULL) {
        snprintf(err, errlen, "image %s: out of memory", name);
        block_close(file);
        return NULL;
    }
    b->file = file;
    b->dev = file->dev;
    b->ino = file->ino;
    if (format->open(b, cfg, -1, err, errlen) < 0) {
        discard_block(b);
        block_close(file);
        return NULL;
    }
    if (cfg->cdrom) {
        b->size_bytes &= ~(uint64_t)2047;
    }
    b->next = shared;
    shared = b;
    return b;
}

/* As block_open(), of an image with a format. */
static struct block *open_format(struct loop *loop, const struct block_backend *format,
                                 const struct block_config *cfg, const char *name, char *err,
                                 size_t errlen)
{
    struct block_config bytes = *cfg;

    bytes.cdrom = false;
    bytes.growable = !cfg->readonly;
    if (cfg->fd >= 0) { /* stays the caller's until the format is open, too */
        bytes.fd = fcntl(cfg->fd, F_DUPFD_CLOEXEC, 0);
        if (bytes.fd < 0) {
            snprintf(err, errlen, "image %s: %s", name, strerror(errno));
            return NULL;
        }
    }
    struct block *file = open_protocol(loop, &bytes, name, err, errlen);
    if (file == NULL) {
        if (cfg->fd >= 0) {
            close(bytes.fd);
        }
        return NULL;
    }
    file->quiet = true;
    struct block *b = open_format_on(loop, format, cfg, file, name, err, errlen);
    if (b != NULL && cfg->fd >= 0) {
        close(cfg->fd);
    }
    return b;
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
    if (cfg->depth > DEPTH_MAX) {
        snprintf(err, errlen, "image %s: the chain of backing images is too long", name);
        return NULL;
    }
    const char *format = cfg->format != NULL ? cfg->format : "raw";
    const struct block_backend *backend = find_format(format);
    if (backend == NULL) {
        snprintf(err, errlen, "image %s: format '%s' is not supported", name, format);
        return NULL;
    }
    if (backend == &block_raw) {
        return open_protocol(loop, cfg, name, err, errlen);
    }
    return open_format(loop, backend, cfg, name, err, errlen);
}

void block_wait(struct block *b)
{
    b->backend->wait(b);
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
    if (rc < 0 && !b->quiet) {
        log_msg("image %s: flush at close failed: %s", b->name, strerror(-rc));
    }
    if (--b->refs > 0) {
        return;
    }
    for (struct block **p = &shared; *p != NULL; p = &(*p)->next) {
        if (*p == b) {
            *p = b->next;
            break;
        }
    }
    b->backend->close(b);
    block_close(b->file);
    discard_block(b);
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

/* Logs the first error of a series, and one a minute of a long one. Good requests in between are no
 * end of it: a drive tries sector by sector, and other places may be fine all along. */
static void report(struct block *b, const struct block_request *req, int error)
{
    uint64_t now = loop_now(b->loop, LOOP_HOST);

    if (!b->failing || now - b->failed_said_ns >= SERIES_NS) {
        b->failed_said_ns = now;
        log_limited(&b->limit, "image %s: %s of %llu bytes at %llu failed: %s", b->name,
                    op_names[req->op], (unsigned long long)req->length_bytes,
                    (unsigned long long)req->offset_bytes, strerror(-error));
    }
    b->failing = true;
    b->failed_op = req->op;
    b->failed_offset = req->offset_bytes;
    b->failed_length = req->length_bytes;
}

static void finish(struct block *b, struct block_request *req, int error)
{
    if (error == 0) {
        count(&b->stats, req);
        if (b->failing && req->op == b->failed_op && req->offset_bytes <= b->failed_offset &&
            b->failed_offset - req->offset_bytes + b->failed_length <= req->length_bytes) {
            b->failing = false;
        }
    } else if (!b->quiet) {
        report(b, req, error);
    }
    req->done(req, error);
}

void block_complete(struct block *b, struct block_request *req, int error)
{
    uint64_t end = req->offset_bytes + req->length_bytes;

    b->in_flight--;
    if (b->growable && req->op == BLOCK_WRITE && error == 0 && end > b->size_bytes) {
        b->size_bytes = end;
    }
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
    uint64_t end = b->growable && req->op != BLOCK_DISCARD ? INT64_MAX : b->size_bytes;
    if (req->offset_bytes > end || req->length_bytes > end - req->offset_bytes) {
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
