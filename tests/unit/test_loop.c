/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/loop.h"

static char order[64]; /* what ran, in order */

static void note(char c)
{
    size_t n = strlen(order);

    if (n < sizeof(order) - 1) {
        order[n] = c;
        order[n + 1] = '\0';
    }
}

static int setup(void **state)
{
    order[0] = '\0';
    *state = loop_create(true);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    loop_destroy(*state);
    return 0;
}

/* ---- timers ---- */

struct probe {
    struct timer t;
    struct loop *loop;
    char name;
    uint64_t ran_at_ns;
    uint64_t again_ns;
};

static void probe_fn(void *arg)
{
    struct probe *p = arg;

    note(p->name);
    p->ran_at_ns = loop_now(p->loop, p->t.clock);
    if (p->again_ns) {
        timer_set(&p->t, p->ran_at_ns + p->again_ns);
    }
}

static void probe_init(struct probe *p, struct loop *loop, enum loop_clock clock, char name)
{
    *p = (struct probe){.loop = loop, .name = name};
    timer_init(&p->t, loop, clock, probe_fn, p);
}

static void test_timers_in_order(void **state)
{
    struct loop *loop = *state;
    struct probe p[4];

    for (unsigned i = 0; i < 4; i++) {
        probe_init(&p[i], loop, i & 1 ? LOOP_HOST : LOOP_VIRTUAL, (char)('a' + i));
    }
    timer_set(&p[0].t, 300);
    timer_set(&p[1].t, 100);
    timer_set(&p[2].t, 200);
    timer_set(&p[3].t, 900);
    loop_advance(loop, 99);
    assert_string_equal(order, "");
    loop_advance(loop, 1);
    assert_string_equal(order, "b");
    loop_advance(loop, 500);
    assert_string_equal(order, "bca");
    assert_int_equal(p[1].ran_at_ns, 100);
    assert_int_equal(p[2].ran_at_ns, 200);
    assert_int_equal(p[0].ran_at_ns, 300);
    assert_int_equal(loop_now(loop, LOOP_VIRTUAL), 600);
    timer_cancel(&p[3].t);
    timer_cancel(&p[3].t);
    loop_advance(loop, 10000);
    assert_string_equal(order, "bca");
}

static void test_timer_rearm(void **state)
{
    struct loop *loop = *state;
    struct probe p;

    probe_init(&p, loop, LOOP_VIRTUAL, 't');
    timer_set(&p.t, 100);
    timer_set(&p.t, 50); /* moves it */
    loop_advance(loop, 60);
    assert_string_equal(order, "t");
    loop_advance(loop, 60);
    assert_string_equal(order, "t");
    p.again_ns = 10;
    timer_set(&p.t, 1); /* in the past */
    loop_advance(loop, 0);
    assert_string_equal(order, "tt");
    loop_advance(loop, 35);
    assert_string_equal(order, "ttttt");
}

/* A timer that is always due must not keep the loop. */
static void past_fn(void *arg)
{
    struct probe *p = arg;

    p->again_ns++;
    timer_set(&p->t, 0);
}

static void test_timer_always_due(void **state)
{
    struct loop *loop = *state;
    struct probe p = {.loop = loop};

    timer_init(&p.t, loop, LOOP_VIRTUAL, past_fn, &p);
    timer_set(&p.t, 0);
    loop_poll(loop, 0);
    assert_in_range(p.again_ns, 1, 1000);
    loop_advance(loop, 10);
    assert_int_equal(loop_now(loop, LOOP_VIRTUAL), 10);
    timer_cancel(&p.t);
}

static void test_stopped_guest(void **state)
{
    struct loop *loop = *state;
    struct probe v, h;

    probe_init(&v, loop, LOOP_VIRTUAL, 'v');
    probe_init(&h, loop, LOOP_HOST, 'h');
    loop_advance(loop, 100);
    timer_set(&v.t, 200);
    timer_set(&h.t, 200);
    loop_set_running(loop, false);
    loop_set_running(loop, false);
    loop_advance(loop, 1000);
    assert_string_equal(order, "h");
    assert_int_equal(loop_now(loop, LOOP_VIRTUAL), 100);
    assert_int_equal(loop_now(loop, LOOP_HOST), 1100);
    loop_set_running(loop, true);
    assert_int_equal(loop_now(loop, LOOP_VIRTUAL), 100);
    loop_advance(loop, 99);
    assert_string_equal(order, "h");
    loop_advance(loop, 1);
    assert_string_equal(order, "hv");
}

/* ---- bottom halves ---- */

struct half {
    struct bottom_half bh;
    char name;
    struct half *schedule, *cancel;
};

static void half_fn(void *arg)
{
    struct half *h = arg;

    note(h->name);
    if (h->cancel) {
        bottom_half_cancel(&h->cancel->bh);
    }
    if (h->schedule) {
        bottom_half_schedule(&h->schedule->bh);
    }
}

static void half_init(struct half *h, struct loop *loop, char name)
{
    *h = (struct half){.name = name};
    bottom_half_init(&h->bh, loop, half_fn, h);
}

static void test_bottom_halves(void **state)
{
    struct loop *loop = *state;
    struct half a, b, c;

    half_init(&a, loop, 'a');
    half_init(&b, loop, 'b');
    half_init(&c, loop, 'c');
    bottom_half_schedule(&a.bh);
    bottom_half_schedule(&b.bh);
    bottom_half_schedule(&a.bh); /* once is enough */
    bottom_half_schedule(&c.bh);
    bottom_half_cancel(&b.bh);
    bottom_half_cancel(&b.bh);
    loop_poll(loop, 0);
    assert_string_equal(order, "ac");
    bottom_half_schedule(&b.bh); /* the list is sound after cancelling its last */
    bottom_half_schedule(&c.bh);
    bottom_half_cancel(&c.bh);
    bottom_half_schedule(&a.bh);
    loop_poll(loop, 0);
    assert_string_equal(order, "acba");
}

static void test_bottom_half_schedules_itself(void **state)
{
    struct loop *loop = *state;
    struct half a;

    half_init(&a, loop, 'a');
    a.schedule = &a;
    bottom_half_schedule(&a.bh);
    loop_poll(loop, 0);
    assert_string_equal(order, "a");
    loop_poll(loop, 0);
    assert_string_equal(order, "aa");
    bottom_half_cancel(&a.bh);
    loop_poll(loop, 0);
    assert_string_equal(order, "aa");
}

/* Once looped for ever: the end of the turn was recognised by the last bottom half, which can be cancelled. */
static void test_bottom_half_cancels_last(void **state)
{
    struct loop *loop = *state;
    struct half a, b;

    half_init(&a, loop, 'a');
    half_init(&b, loop, 'b');
    a.schedule = &a;
    a.cancel = &b;
    bottom_half_schedule(&a.bh);
    bottom_half_schedule(&b.bh);
    loop_poll(loop, 0);
    assert_in_range(strlen(order), 1, 2);
    assert_null(strchr(order, 'b'));
    bottom_half_cancel(&a.bh);
}

/* ---- watches ---- */

struct pipe_watch {
    struct watch w;
    int fd[2];
    char name;
    struct pipe_watch *unwatch;
    struct pipe_watch *pause;
    bool drain;
};

static void pipe_fn(void *arg, uint32_t events)
{
    struct pipe_watch *p = arg;
    char buf[16];

    note(events & EPOLLHUP ? 'H' : p->name);
    if (p->unwatch) {
        loop_unwatch(&p->unwatch->w);
    }
    if (p->pause) {
        watch_events(&p->pause->w, 0);
    }
    if (p->drain) {
        assert_true(read(p->fd[0], buf, sizeof(buf)) > 0);
    }
}

static void pipe_init(struct pipe_watch *p, struct loop *loop, char name)
{
    *p = (struct pipe_watch){.name = name};
    assert_int_equal(pipe(p->fd), 0);
    assert_int_equal(loop_watch(loop, &p->w, p->fd[0], EPOLLIN, pipe_fn, p), 0);
}

static void pipe_fini(struct pipe_watch *p)
{
    loop_unwatch(&p->w);
    loop_unwatch(&p->w);
    close(p->fd[0]);
    if (p->fd[1] >= 0) {
        close(p->fd[1]);
    }
}

static void test_watch(void **state)
{
    struct loop *loop = *state;
    struct pipe_watch p;

    pipe_init(&p, loop, 'p');
    loop_poll(loop, 0);
    assert_string_equal(order, "");
    assert_int_equal(write(p.fd[1], "x", 1), 1);
    loop_poll(loop, 0);
    loop_poll(loop, 0);
    assert_string_equal(order, "pp"); /* level triggered */
    watch_events(&p.w, 0);
    loop_poll(loop, 0);
    watch_events(&p.w, 0);
    assert_string_equal(order, "pp");
    watch_events(&p.w, EPOLLIN);
    p.drain = true;
    loop_poll(loop, 0);
    loop_poll(loop, 0);
    assert_string_equal(order, "ppp");
    close(p.fd[1]);
    p.fd[1] = -1;
    p.drain = false;
    loop_poll(loop, 0);
    assert_string_equal(order, "pppH");
    watch_events(&p.w, 0); /* pauses hang-ups too, or a dead peer would spin the loop */
    loop_poll(loop, 0);
    assert_string_equal(order, "pppH");
    pipe_fini(&p);
}

/* Two events in one batch, each pausing the other's watch: only one may run. */
static void test_pause_of_pending(void **state)
{
    struct loop *loop = *state;
    struct pipe_watch a, b;

    pipe_init(&a, loop, 'w');
    pipe_init(&b, loop, 'w');
    a.pause = &b;
    b.pause = &a;
    assert_int_equal(write(a.fd[1], "x", 1), 1);
    assert_int_equal(write(b.fd[1], "x", 1), 1);
    loop_poll(loop, 0);
    assert_string_equal(order, "w");
    a.pause = b.pause = NULL;
    watch_events(&a.w, EPOLLIN);
    watch_events(&b.w, EPOLLIN);
    loop_poll(loop, 0);
    assert_string_equal(order, "www");
    pipe_fini(&a);
    pipe_fini(&b);
}

/* What a callback that lingers looks at. */
static void test_work_waits(void **state)
{
    struct loop *loop = *state;
    struct pipe_watch p;
    struct pollfd pfd = {.fd = loop_fd(loop), .events = POLLIN};
    struct half a;

    assert_false(loop_work_waits(loop));
    half_init(&a, loop, 'a');
    bottom_half_schedule(&a.bh);
    assert_true(loop_work_waits(loop));
    loop_poll(loop, 0);
    assert_false(loop_work_waits(loop));
    pipe_init(&p, loop, 'p');
    assert_int_equal(poll(&pfd, 1, 0), 0);
    assert_int_equal(write(p.fd[1], "x", 1), 1);
    assert_int_equal(poll(&pfd, 1, 0), 1);
    assert_string_equal(order, "a"); /* looking takes nothing */
    loop_poll(loop, 0);
    assert_string_equal(order, "ap");
    p.drain = true;
    loop_poll(loop, 0);
    assert_int_equal(poll(&pfd, 1, 0), 0);
    pipe_fini(&p);
    loop_quit(loop);
    assert_true(loop_work_waits(loop));
}

/* Two events in one batch, each taking the other's watch out: only one may run. */
static void test_unwatch_of_pending(void **state)
{
    struct loop *loop = *state;
    struct pipe_watch a, b;

    pipe_init(&a, loop, 'w');
    pipe_init(&b, loop, 'w');
    a.unwatch = &b;
    b.unwatch = &a;
    assert_int_equal(write(a.fd[1], "x", 1), 1);
    assert_int_equal(write(b.fd[1], "x", 1), 1);
    loop_poll(loop, 0);
    assert_string_equal(order, "w");
    pipe_fini(&a);
    pipe_fini(&b);
}

static void test_watch_refuses(void **state)
{
    struct loop *loop = *state;
    struct watch w;
    struct watch zero = {0};

    assert_int_equal(loop_watch(loop, &w, -1, EPOLLIN, pipe_fn, NULL), -EBADF);
    loop_unwatch(&w);
    loop_unwatch(&zero);
}

/* ---- posts, running ---- */

struct poster {
    struct post p[50];
    struct loop *loop;
    unsigned ran;
    pthread_t loop_thread;
};

static void post_fn(void *arg)
{
    struct poster *p = arg;

    assert_true(pthread_equal(pthread_self(), p->loop_thread));
    if (++p->ran == 50) {
        loop_quit(p->loop);
    }
}

static void *post_thread(void *arg)
{
    struct poster *p = arg;

    for (unsigned i = 0; i < 50; i++) {
        p->p[i] = (struct post){.fn = post_fn, .arg = p};
        loop_post(p->loop, &p->p[i]);
        if (i % 7 == 0) {
            usleep(100);
        }
    }
    return NULL;
}

static void test_posts_wake_the_loop(void **state)
{
    struct poster p = {.loop = loop_create(false), .loop_thread = pthread_self()};
    pthread_t t;

    (void)state;
    assert_non_null(p.loop);
    assert_int_equal(pthread_create(&t, NULL, post_thread, &p), 0);
    loop_run(p.loop);
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_int_equal(p.ran, 50);
    loop_destroy(p.loop);
}

struct reposter {
    struct post p;
    struct loop *loop;
    unsigned ran;
};

static void repost_fn(void *arg)
{
    struct reposter *r = arg;

    if (++r->ran < 3) {
        loop_post(r->loop, &r->p);
    }
}

static void test_post_from_post(void **state)
{
    struct reposter r = {.loop = *state};

    r.p = (struct post){.fn = repost_fn, .arg = &r};
    loop_post(r.loop, &r.p);
    for (unsigned i = 0; i < 5; i++) {
        loop_poll(r.loop, 0);
    }
    assert_int_equal(r.ran, 3);
}

static void quit_fn(void *arg)
{
    loop_quit(arg);
}

static void test_real_clock(void **state)
{
    struct loop *loop = loop_create(false);
    uint64_t start;
    struct timer t;

    (void)state;
    assert_non_null(loop);
    start = loop_now(loop, LOOP_HOST);
    timer_init(&t, loop, LOOP_VIRTUAL, quit_fn, loop);
    timer_set(&t, loop_now(loop, LOOP_VIRTUAL) + 3000000);
    loop_run(loop);
    assert_in_range(loop_now(loop, LOOP_HOST) - start, 3000000, 2000000000);
    start = loop_now(loop, LOOP_HOST);
    loop_poll(loop, 2000000); /* nothing to do: waits that long, no longer than the machine is slow */
    assert_in_range(loop_now(loop, LOOP_HOST) - start, 1900000, 2000000000);
    loop_destroy(loop);
    loop_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_timers_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_rearm, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_always_due, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stopped_guest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bottom_halves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bottom_half_schedules_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bottom_half_cancels_last, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unwatch_of_pending, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pause_of_pending, setup, teardown),
        cmocka_unit_test_setup_teardown(test_work_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_refuses, setup, teardown),
        cmocka_unit_test(test_posts_wake_the_loop),
        cmocka_unit_test_setup_teardown(test_post_from_post, setup, teardown),
        cmocka_unit_test(test_real_clock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
