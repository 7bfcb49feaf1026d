/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/workers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/loop.h"

enum { WORKERS_MAX = 4, WORKER_STACK_BYTES = 128 << 10 };

struct workers {
    struct loop *loop;
    int (*run)(void *arg, struct block_request *req);
    void (*finished)(void *arg, struct block_request *req, int result);
    void *arg;
    int event_fd; /* -1 until the first thread starts */
    struct watch watch;
    struct block_request *ready, **ready_tail; /* done, and not given back yet */
    unsigned reaping;                          /* depth: finished() may wait, or destroy us */
    bool dead;

    /* Everything below is under lock. */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct block_request *todo, **todo_tail; /* FIFO */
    struct block_request *done, **done_tail;
    pthread_t threads[WORKERS_MAX];
    unsigned nthreads, idle, queued;
    bool stop;
};

static void *worker(void *arg)
{
    struct workers *w = arg;

    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->todo == NULL && !w->stop) {
            w->idle++;
            pthread_cond_wait(&w->work, &w->lock);
            w->idle--;
        }
        struct block_request *req = w->todo;
        if (req == NULL) {
            break;
        }
        w->todo = req->next;
        w->queued--;
        if (w->todo == NULL) {
            w->todo_tail = &w->todo;
        }
        pthread_mutex_unlock(&w->lock);

        int rc = w->run(w->arg, req);

        pthread_mutex_lock(&w->lock);
        req->result = rc;
        req->next = NULL;
        bool first = w->done == NULL;
        *w->done_tail = req;
        w->done_tail = &req->next;
        if (first) {
            uint64_t one = 1;
            ssize_t n = write(w->event_fd, &one, sizeof(one));
            (void)n; /* cannot fill up: the counter is read each time */
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

void workers_reap(struct workers *w)
{
    uint64_t n;

    if (w->event_fd < 0) {
        return;
    }
    ssize_t got = read(w->event_fd, &n, sizeof(n)); /* before the list: nothing is missed */
    (void)got;
    pthread_mutex_lock(&w->lock);
    if (w->done != NULL) {
        *w->ready_tail = w->done;
        w->ready_tail = w->done_tail;
    }
    w->done = NULL;
    w->done_tail = &w->done;
    pthread_mutex_unlock(&w->lock);
    w->reaping++;
    while (!w->dead && w->ready != NULL) { /* one by one: finished() may wait for the others */
        struct block_request *req = w->ready;
        w->ready = req->next;
        if (w->ready == NULL) {
            w->ready_tail = &w->ready;
        }
        w->finished(w->arg, req, req->result);
    }
    if (--w->reaping == 0 && w->dead) {
        free(w);
    }
}

static void on_event(void *arg, uint32_t events)
{
    (void)events;
    workers_reap(arg);
}

/* Makes sure that a thread will take the next request. 0 or -errno when there is none at all. */
static int ensure_worker(struct workers *w)
{
    if (w->idle > w->queued || w->nthreads == WORKERS_MAX) {
        return 0;
    }
    if (w->event_fd < 0) {
        w->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (w->event_fd < 0) {
            return -errno;
        }
        int rc = loop_watch(w->loop, &w->watch, w->event_fd, EPOLLIN, on_event, w);
        if (rc < 0) {
            close(w->event_fd);
            w->event_fd = -1;
            return rc;
        }
    }
    pthread_attr_t attr;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WORKER_STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop thread's */
    int rc = pthread_create(&w->threads[w->nthreads], &attr, worker, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc == 0) {
        w->nthreads++;
    }
    return w->nthreads > 0 ? 0 : -rc;
}

int workers_queue(struct workers *w, struct block_request *req)
{
    req->next = NULL;
    pthread_mutex_lock(&w->lock);
    int rc = ensure_worker(w);
    if (rc == 0) {
        *w->todo_tail = req;
        w->todo_tail = &req->next;
        w->queued++;
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

int workers_fd(const struct workers *w)
{
    return w->event_fd;
}

struct workers *workers_create(struct loop *loop, int (*run)(void *arg, struct block_request *req),
                               void (*done)(void *arg, struct block_request *req, int result),
                               void *arg)
{
    struct workers *w = calloc(1, sizeof(*w));

    if (w == NULL) {
        return NULL;
    }
    w->loop = loop;
    w->run = run;
    w->finished = done;
    w->arg = arg;
    w->event_fd = -1;
    w->todo_tail = &w->todo;
    w->done_tail = &w->done;
    w->ready_tail = &w->ready;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    return w;
}

void workers_destroy(struct workers *w)
{
    if (w == NULL) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->nthreads; i++) {
        pthread_join(w->threads[i], NULL);
    }
    loop_unwatch(&w->watch);
    if (w->event_fd >= 0) {
        close(w->event_fd);
    }
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    if (w->reaping > 0) {
        w->dead = true;
    } else {
        free(w);
    }
}
