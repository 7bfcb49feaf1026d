/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { LOOP_EVENTS = 16 };

struct loop {
    int epoll_fd;
    bool quit;
    bool manual;
    bool running;
    uint64_t manual_ns;
    uint64_t virtual_offset_ns; /* virtual = host - offset while running */
    uint64_t virtual_stopped_ns;
    struct timer *timers[2]; /* sorted by deadline, one list per clock */
    struct bottom_half *bh_first, *bh_last;
    /* The events being delivered, so that loop_unwatch() can take its own out of them. */
    struct epoll_event events[LOOP_EVENTS];
    int nevents, event_next;
    pthread_mutex_t post_lock;
    struct post *post_first, *post_last;
    struct watch post_watch;
    int post_fd;
};

static uint64_t host_ns(const struct loop *loop)
{
    struct timespec ts;

    if (loop->manual) {
        return loop->manual_ns;
    }
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

uint64_t loop_now(const struct loop *loop, enum loop_clock clock)
{
    if (clock == LOOP_HOST) {
        return host_ns(loop);
    }
    return loop->running ? host_ns(loop) - loop->virtual_offset_ns : loop->virtual_stopped_ns;
}

void loop_set_running(struct loop *loop, bool running)
{
    if (running == loop->running) {
        return;
    }
    if (running) {
        loop->virtual_offset_ns = host_ns(loop) - loop->virtual_stopped_ns;
    } else {
        loop->virtual_stopped_ns = loop_now(loop, LOOP_VIRTUAL);
    }
    loop->running = running;
}

static void run_posts(void *arg, uint32_t events)
{
    struct loop *loop = arg;
    struct post *p;
    uint64_t n;

    (void)events;
    (void)!read(loop->post_fd, &n, sizeof(n));
    pthread_mutex_lock(&loop->post_lock);
    p = loop->post_first;
    __atomic_store_n(&loop->post_first, NULL, __ATOMIC_RELAXED);
    loop->post_last = NULL;
    pthread_mutex_unlock(&loop->post_lock);
    while (p != NULL) {
        struct post *next = p->next; /* fn may free or repost p */

        p->fn(p->arg);
        p = next;
    }
}

void loop_post(struct loop *loop, struct post *p)
{
    uint64_t one = 1;
    bool wake;

    pthread_mutex_lock(&loop->post_lock);
    wake = loop->post_first == NULL;
    p->next = NULL;
    if (wake) {
        __atomic_store_n(&loop->post_first, p,
                         __ATOMIC_RELAXED); /* loop_work_waits() looks without the lock */
    } else {
        loop->post_last->next = p;
    }
    loop->post_last = p;
    pthread_mutex_unlock(&loop->post_lock);
    if (wake) {
        (void)!write(loop->post_fd, &one, sizeof(one));
    }
}

struct loop *loop_create(bool manual_clock)
{
    struct loop *loop = calloc(1, sizeof(*loop));

    if (loop == NULL) {
        return NULL;
    }
    loop->manual = manual_clock;
    loop->running = true;
    pthread_mutex_init(&loop->post_lock, NULL);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->post_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll_fd < 0 || loop->post_fd < 0 ||
        loop_watch(loop, &loop->post_watch, loop->post_fd, EPOLLIN, run_posts, loop) != 0) {
        int saved = errno;

        loop_destroy(loop);
        errno = saved;
        return NULL;
    }
    return loop;
}

void loop_destroy(struct loop *loop)
{
    if (loop == NULL) {
        return;
    }
    loop_unwatch(&loop->post_watch);
    if (loop->post_fd >= 0) {
        close(loop->post_fd);
    }
    if (loop->epoll_fd >= 0) {
        close(loop->epoll_fd);
    }
    pthread_mutex_destroy(&loop->post_lock);
    free(loop);
}

void loop_quit(struct loop *loop)
{
    loop->quit = true;
}

/* ---- timers ---- */

void timer_init(struct timer *t, struct loop *loop, enum loop_clock clock, void (*fn)(void *arg),
                void *arg)
{
    *t = (struct timer){.loop = loop, .clock = clock, .fn = fn, .arg = arg};
}

void timer_cancel(struct timer *t)
{
    struct timer **p;

    if (!t->armed) {
        return;
    }
    for (p = &t->loop->timers[t->clock]; *p != t; p = &(*p)->next) {
    }
    *p = t->next;
    t->armed = false;
}

void timer_set(struct timer *t, uint64_t deadline_ns)
{
    struct timer **p;

    timer_cancel(t);
    for (p = &t->loop->timers[t->clock]; *p != NULL && (*p)->deadline_ns <= deadline_ns;
         p = &(*p)->next) {
    }
    t->deadline_ns = deadline_ns;
    t->next = *p;
    t->armed = true;
    *p = t;
}

/* Runs the timers that are due. The budget keeps one that arms itself for a past time from keeping
 * the loop here. */
static void run_timers(struct loop *loop)
{
    for (int c = LOOP_VIRTUAL; c <= LOOP_HOST; c++) {
        uint64_t now;

        if (loop->timers[c] == NULL || (c == LOOP_VIRTUAL && !loop->running)) {
            continue;
        }
        now = loop_now(loop, (enum loop_clock)c);
        for (int budget = 64; budget > 0; budget--) {
            struct timer *t = loop->timers[c];

            if (t == NULL || t->deadline_ns > now) {
                break;
            }
            loop->timers[c] = t->next;
            t->armed = false;
            t->fn(t->arg);
        }
    }
}

/* Nanoseconds until the next timer, at most max_ns. */
static uint64_t next_timer_ns(const struct loop *loop, uint64_t max_ns)
{
    for (int c = LOOP_VIRTUAL; c <= LOOP_HOST; c++) {
        const struct timer *t = loop->timers[c];
        uint64_t now;

        if (t == NULL || (c == LOOP_VIRTUAL && !loop->running)) {
            continue;
        }
        now = loop_now(loop, (enum loop_clock)c);
        if (t->deadline_ns <= now) {
            return 0;
        }
        if (t->deadline_ns - now < max_ns) {
            max_ns = t->deadline_ns - now;
        }
    }
    return max_ns;
}

/* ---- watches ---- */

int loop_watch(struct loop *loop, struct watch *w, int fd, uint32_t events,
               void (*fn)(void *arg, uint32_t events), void *arg)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};

    *w = (struct watch){.loop = loop, .fd = fd, .fn = fn, .arg = arg};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0) {
        w->loop = NULL;
        return -errno;
    }
    return 0;
}

/* Takes the watch's fd out of the set and its event out of those being delivered. */
static void stop_events(struct watch *w)
{
    struct loop *loop = w->loop;

    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    for (int i = loop->event_next; i < loop->nevents; i++) {
        if (loop->events[i].data.ptr == w) {
            loop->events[i].data.ptr = NULL;
        }
    }
}

void watch_events(struct watch *w, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};

    /* EPOLLHUP and EPOLLERR cannot be masked out: pausing takes the fd out of the set. */
    if (events == 0) {
        stop_events(w);
    } else if (epoll_ctl(w->loop->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev) != 0 && errno == ENOENT) {
        epoll_ctl(w->loop->epoll_fd, EPOLL_CTL_ADD, w->fd, &ev);
    }
}

void loop_unwatch(struct watch *w)
{
    if (w->loop != NULL) {
        stop_events(w);
        w->loop = NULL;
    }
}

static void run_events(struct loop *loop, uint64_t wait_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(wait_ns / 1000000000ull),
                          .tv_nsec = (long)(wait_ns % 1000000000ull)};
    int n;

    if (wait_ns == 0) {
        n = epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS, 0);
    } else {
        n = epoll_pwait2(loop->epoll_fd, loop->events, LOOP_EVENTS,
                         wait_ns == UINT64_MAX ? NULL : &ts, NULL);
        if (n < 0 && errno == ENOSYS) {
            /* Before Linux 5.11. */
            uint64_t ms = wait_ns == UINT64_MAX ? UINT64_MAX : (wait_ns + 999999) / 1000000;

            n = epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS,
                           ms > 3600000 ? 3600000 : (int)ms);
        }
    }
    loop->nevents = n < 0 ? 0 : n;
    for (loop->event_next = 0; loop->event_next < loop->nevents;) {
        const struct epoll_event *ev = &loop->events[loop->event_next++];
        struct watch *w = ev->data.ptr;

        if (w != NULL) {
            w->fn(w->arg, ev->events);
        }
    }
    loop->nevents = 0;
}

/* ---- bottom halves ---- */

void bottom_half_init(struct bottom_half *bh, struct loop *loop, void (*fn)(void *arg), void *arg)
{
    *bh = (struct bottom_half){.loop = loop, .fn = fn, .arg = arg};
}

void bottom_half_schedule(struct bottom_half *bh)
{
    struct loop *loop = bh->loop;

    if (bh->scheduled) {
        return;
    }
    bh->scheduled = true;
    bh->next = NULL;
    if (loop->bh_first == NULL) {
        loop->bh_first = bh;
    } else {
        loop->bh_last->next = bh;
    }
    loop->bh_last = bh;
}

void bottom_half_cancel(struct bottom_half *bh)
{
    struct loop *loop = bh->loop;
    struct bottom_half *prev = NULL;

    if (loop == NULL || !bh->scheduled) {
        return;
    }
    for (struct bottom_half *i = loop->bh_first; i != NULL; prev = i, i = i->next) {
        if (i == bh) {
            if (prev == NULL) {
                loop->bh_first = bh->next;
            } else {
                prev->next = bh->next;
            }
            if (loop->bh_last == bh) {
                loop->bh_last = prev;
            }
            break;
        }
    }
    bh->scheduled = false;
}

/* Runs as many as are scheduled now; what they schedule waits for the next turn. */
static void run_bottom_halves(struct loop *loop)
{
    unsigned budget = 0;

    for (const struct bottom_half *bh = loop->bh_first; bh != NULL; bh = bh->next) {
        budget++;
    }
    for (; budget > 0 && loop->bh_first != NULL; budget--) {
        struct bottom_half *bh = loop->bh_first;

        loop->bh_first = bh->next;
        if (loop->bh_first == NULL) {
            loop->bh_last = NULL;
        }
        bh->scheduled = false;
        bh->fn(bh->arg);
    }
}

bool loop_work_waits(const struct loop *loop)
{
    return loop->bh_first != NULL || loop->quit ||
           __atomic_load_n(&loop->post_first, __ATOMIC_RELAXED) != NULL;
}

int loop_fd(const struct loop *loop)
{
    return loop->epoll_fd;
}

/* ---- the loop ---- */

void loop_poll(struct loop *loop, uint64_t max_wait_ns)
{
    uint64_t wait = loop->bh_first != NULL ? 0 : next_timer_ns(loop, max_wait_ns);

    run_events(loop, loop->manual ? 0 : wait);
    run_timers(loop);
    run_bottom_halves(loop);
}

void loop_run(struct loop *loop)
{
    while (!loop->quit) {
        loop_poll(loop, UINT64_MAX);
    }
}

void loop_advance(struct loop *loop, uint64_t ns)
{
    uint64_t end = loop->manual_ns + ns;

    run_bottom_halves(loop);
    for (unsigned turns = 0; turns < 100000; turns++) {
        uint64_t step = next_timer_ns(loop, end - loop->manual_ns);

        loop->manual_ns += step;
        run_timers(loop);
        run_bottom_halves(loop);
        if (loop->manual_ns == end && next_timer_ns(loop, 1) != 0) {
            break;
        }
    }
    loop->manual_ns = end;
}
