/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The event loop. One thread (the one that calls loop_run()) owns the board, all devices, all
 * timers and all watches; nothing here but loop_post() may be called from another thread. Callbacks
 * never block and never run the loop.
 *
 * Two clocks, both in nanoseconds: LOOP_VIRTUAL stands still while the guest is stopped (QMP stop)
 * and is what devices use; LOOP_HOST is CLOCK_MONOTONIC. Tests make a loop with a manual clock and
 * move it with loop_advance().
 */
#include <stdbool.h>
#include <stdint.h>

struct loop;

enum loop_clock { LOOP_VIRTUAL, LOOP_HOST };

/* A one-shot timer. Embed it; the fields are the loop's. */
struct timer {
    struct loop *loop;
    struct timer *next;
    uint64_t deadline_ns;
    void (*fn)(void *arg);
    void *arg;
    enum loop_clock clock;
    bool armed;
};

/* A watched file descriptor. Embed it; the fields are the loop's. */
struct watch {
    struct loop *loop;
    int fd;
    void (*fn)(void *arg, uint32_t events);
    void *arg;
};

/* Work put off until the current callback has returned. Embed it. */
struct bottom_half {
    struct loop *loop;
    struct bottom_half *next;
    void (*fn)(void *arg);
    void *arg;
    bool scheduled;
};

/* A message from another thread to the loop thread. The poster owns it again once fn has been
 * called. */
struct post {
    struct post *next;
    void (*fn)(void *arg);
    void *arg;
};

/* Creates a loop; with manual_clock both clocks start at 0 and move only by loop_advance(). NULL
 * with errno on failure. */
struct loop *loop_create(bool manual_clock);
void loop_destroy(struct loop *loop);

/* Runs until loop_quit(). */
void loop_run(struct loop *loop);
void loop_quit(struct loop *loop);
/* Polls once: due timers, ready watches, bottom halves, posts; waits at most max_wait_ns for the
 * first event. */
void loop_poll(struct loop *loop, uint64_t max_wait_ns);

uint64_t loop_now(const struct loop *loop, enum loop_clock clock);
/* Manual clock only: moves both clocks on by ns, running timers (in order, at their times) and
 * bottom halves. */
void loop_advance(struct loop *loop, uint64_t ns);
/* Freezes or releases LOOP_VIRTUAL. */
void loop_set_running(struct loop *loop, bool running);

void timer_init(struct timer *t, struct loop *loop, enum loop_clock clock, void (*fn)(void *arg),
                void *arg);
/* Arms (or re-arms) for the absolute time deadline_ns of the timer's clock; a past time fires on
 * the next turn. */
void timer_set(struct timer *t, uint64_t deadline_ns);
void timer_cancel(struct timer *t);

/* Calls fn(arg, events) when fd has any of the epoll events. 0 or -errno. The fd stays the
 * caller's. */
int loop_watch(struct loop *loop, struct watch *w, int fd, uint32_t events,
               void (*fn)(void *arg, uint32_t events), void *arg);
/* Changes the awaited events; 0 pauses the watch (errors and hang-ups too). */
void watch_events(struct watch *w, uint32_t events);
/* Stops watching; safe inside any callback and for a zeroed struct. Call it before closing the fd.
 * */
void loop_unwatch(struct watch *w);

void bottom_half_init(struct bottom_half *bh, struct loop *loop, void (*fn)(void *arg), void *arg);
void bottom_half_schedule(struct bottom_half *bh);
void bottom_half_cancel(struct bottom_half *bh);

/* True if a bottom half or a post waits, or the loop is to end: a callback that would otherwise
 * linger (spinning for the next ioreq) returns. */
bool loop_work_waits(const struct loop *loop);
/* For the same purpose: a descriptor that polls as readable while a watch has an event. Not to be
 * read. */
int loop_fd(const struct loop *loop);

/* Any thread: has p->fn(p->arg) called on the loop thread. p must stay valid until then. */
void loop_post(struct loop *loop, struct post *p);
