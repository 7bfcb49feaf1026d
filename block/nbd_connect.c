/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/nbd_connect.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    BLOCK_MAX = 64 << 10, /* the protocol's limit of a minimum block size */
    POLL_MS = 100,
    STACK_BYTES = 512 << 10, /* name resolution */
};

uint64_t nbd_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

int nbd_target_parse(struct nbd_target *t, const char *path, char *err, size_t errlen)
{
    static const char option[] = ":exportname=";
    char *p, *colon;

    memset(t, 0, sizeof(*t));
    t->text = p = strdup(path);
    if (p == NULL) {
        snprintf(err, errlen, "out of memory");
        return -ENOMEM;
    }
    if (strstr(p, "://") != NULL) {
        t->uri = p;
        return 0;
    }
    p += strlen("nbd:");
    t->export_name = p + strlen(p);
    colon = strstr(p, option);
    if (colon != NULL) {
        *colon = '\0';
        t->export_name = colon + strlen(option);
    }
    if (strncmp(p, "unix:", 5) == 0) {
        t->socket = p + 5;
        if (t->socket[0] != '\0') {
            return 0;
        }
    } else {
        colon = strrchr(p, ':');
        if (colon != NULL && colon != p && colon[1] != '\0') {
            *colon = '\0';
            t->host = p;
            t->port = colon + 1;
            if (p[0] == '[' && colon[-1] == ']') { /* an IPv6 address */
                t->host++;
                colon[-1] = '\0';
            }
            return 0;
        }
    }
    snprintf(err, errlen,
             "want nbd:HOST:PORT[:exportname=NAME], nbd:unix:SOCKET[:exportname=NAME], "
             "nbd://HOST[:PORT]/NAME or nbd+unix:///NAME?socket=SOCKET");
    nbd_target_free(t);
    return -EINVAL;
}

void nbd_target_free(struct nbd_target *t)
{
    free(t->text);
    t->text = NULL;
}

/* libnbd's words about the last failure in this thread, in one line. */
static void lib_error(const struct nbd_lib *lib, char *err, size_t errlen)
{
    const char *text = lib->get_error();

    snprintf(err, errlen, "%s", text != NULL ? text : "unknown error");
    for (char *p = err; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20) {
            *p = ' ';
        }
    }
}

static int start(const struct nbd_lib *lib, struct nbd_handle *h, const struct nbd_target *t)
{
    if (t->uri != NULL) {
        return lib->aio_connect_uri(h, t->uri);
    }
    if (lib->set_export_name(h, t->export_name) < 0) {
        return -1;
    }
    return t->socket != NULL ? lib->aio_connect_unix(h, t->socket)
                             : lib->aio_connect_tcp(h, t->host, t->port);
}

/* 0, or -1 with err set. */
static int handshake(const struct nbd_lib *lib, struct nbd_handle *h, unsigned timeout_ms,
                     char *err, size_t errlen)
{
    uint64_t end = nbd_now_ns() + timeout_ms * UINT64_C(1000000);

    while (!lib->aio_is_ready(h)) {
        int rc = 0;

        if (nbd_now_ns() >= end) {
            snprintf(err, errlen, "no answer from the server for %u s", timeout_ms / 1000);
            return -1;
        }
        if (!lib->aio_is_dead(h) && !lib->aio_is_closed(h)) {
            rc = lib->poll(h, POLL_MS);
        }
        if (rc < 0 || lib->aio_is_dead(h) || lib->aio_is_closed(h)) {
            lib_error(lib, err, errlen);
            return -1;
        }
    }
    return 0;
}

static int read_offer(const struct nbd_lib *lib, struct nbd_handle *h, struct nbd_offer *o,
                      char *err, size_t errlen)
{
    int64_t size = lib->get_size(h);
    int64_t min = lib->get_block_size(h, LIBNBD_SIZE_MINIMUM);
    int64_t max = lib->get_block_size(h, LIBNBD_SIZE_MAXIMUM);

    if (size < 0) {
        lib_error(lib, err, errlen);
        return -1;
    }
    min = min <= 0 ? 1 : min;
    max = max <= 0 || max > 32 << 20 ? 32 << 20 : max; /* what every server takes */
    if (min > BLOCK_MAX || (min & (min - 1)) != 0 || max < min) {
        snprintf(err, errlen, "the server wants impossible block sizes (%lld to %lld)",
                 (long long)min, (long long)max);
        return -1;
    }
    *o = (struct nbd_offer){.size_bytes = (uint64_t)size,
                            .min_bytes = (uint32_t)min,
                            .max_bytes = (uint32_t)(max - max % min),
                            .readonly = lib->is_read_only(h) != 0,
                            .can_flush = lib->can_flush(h) > 0,
                            .can_fua = lib->can_fua(h) > 0,
                            .can_trim = lib->can_trim(h) > 0};
    return 0;
}

struct nbd_handle *nbd_connect(const struct nbd_lib *lib, const struct nbd_target *t,
                               unsigned timeout_ms, struct nbd_offer *offer, char *err,
                               size_t errlen)
{
    struct nbd_handle *h = lib->create();
    int rc = -1;

    if (h == NULL || (t->uri != NULL && !lib->supports_uri(h)) || start(lib, h, t) < 0) {
        lib_error(lib, err, errlen);
    } else if (handshake(lib, h, timeout_ms, err, errlen) == 0) {
        rc = read_offer(lib, h, offer, err, errlen);
    }
    if (rc < 0 && h != NULL) {
        lib->close(h);
        h = NULL;
    }
    return h;
}

/* ---- in a thread ---- */

struct nbd_attempt {
    const struct nbd_lib *lib;
    struct nbd_target target;
    unsigned timeout_ms;
    int event_fd;
    pthread_mutex_t lock; /* of the two flags: who comes last frees */
    bool over, dropped;
    struct nbd_handle *handle;
    struct nbd_offer offer;
    char err[256];
};

static void free_attempt(struct nbd_attempt *a)
{
    if (a->handle != NULL) {
        a->lib->close(a->handle);
    }
    pthread_mutex_destroy(&a->lock);
    if (a->event_fd >= 0) {
        close(a->event_fd);
    }
    nbd_target_free(&a->target);
    free(a);
}

static void *attempt_thread(void *arg)
{
    struct nbd_attempt *a = arg;
    uint64_t one = 1;
    bool dropped;

    a->handle = nbd_connect(a->lib, &a->target, a->timeout_ms, &a->offer, a->err, sizeof(a->err));
    pthread_mutex_lock(&a->lock);
    a->over = true;
    dropped = a->dropped;
    (void)!write(a->event_fd, &one, sizeof(one));
    pthread_mutex_unlock(&a->lock);
    if (dropped) {
        free_attempt(a);
    }
    return NULL;
}

struct nbd_attempt *nbd_attempt_start(const struct nbd_lib *lib, const char *path,
                                      unsigned timeout_ms)
{
    struct nbd_attempt *a = calloc(1, sizeof(*a));
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    int rc;

    if (a == NULL) {
        return NULL;
    }
    a->lib = lib;
    a->timeout_ms = timeout_ms;
    pthread_mutex_init(&a->lock, NULL);
    a->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a->event_fd < 0 || nbd_target_parse(&a->target, path, a->err, sizeof(a->err)) < 0) {
        free_attempt(a);
        return NULL;
    }
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop thread's */
    rc = pthread_create(&thread, &attr, attempt_thread, a);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc != 0) {
        free_attempt(a);
        return NULL;
    }
    return a;
}

int nbd_attempt_fd(const struct nbd_attempt *a)
{
    return a->event_fd;
}

struct nbd_handle *nbd_attempt_take(struct nbd_attempt *a, struct nbd_offer *offer, char *err,
                                    size_t errlen)
{
    struct nbd_handle *h = NULL;

    pthread_mutex_lock(&a->lock);
    if (a->over) {
        h = a->handle;
        a->handle = NULL;
        *offer = a->offer;
        snprintf(err, errlen, "%s", a->err);
    }
    pthread_mutex_unlock(&a->lock);
    return h;
}

void nbd_attempt_drop(struct nbd_attempt *a)
{
    bool over;

    if (a == NULL) {
        return;
    }
    pthread_mutex_lock(&a->lock);
    over = a->over;
    a->dropped = true;
    pthread_mutex_unlock(&a->lock);
    if (over) {
        free_attempt(a);
    }
}
