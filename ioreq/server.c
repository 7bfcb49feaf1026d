/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ioreq server: requests of the guest's vCPUs to the board and back (contract hypervisor.md 1).
 *
 * Most of a round trip is waking up, not working. So after an answer the loop looks at the shared
 * page for a while before it sleeps: the next request of a busy guest then costs one system call
 * (the notification). While it looks, the event channels stay masked; before it sleeps it unmasks
 * them, and an event that was raised meanwhile fires then, so none is lost. How long it looks
 * follows the gaps between the requests of the present run, up to SPIN_MAX_US. Looking pays only
 * when requests come in runs, so each time it was in vain the next chances are passed over, 1, 3, 7
 * ... 255 of them, until one pays again: an idle guest costs nothing. Time is counted in turns of
 * the loop, calibrated at start: reading a clock is slow where Xen has to emulate the TSC.
 * A request that came when somebody else ran on this CPU is a bad sign, too: that may have been the vCPU itself,
 * which our looking kept from running until then.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "core/pci.h"
#include "ioreq/internal.h"

enum {
    STATE_OFFSET = 30, /* struct ioreq: the byte of state, data_is_ptr, dir, df */
    STATE_MASK = 0x0f,
    FLAG_PTR = 0x10,
    FLAG_READ = 0x20,
    FLAG_DF = 0x40,
    REP_MAX = 4096,    /* Xen's own limit of items in a request */
    SPIN_MAX_US = 500, /* how long to look for the next request, at most */
    SPIN_MIN_US = 20,
    SPIN_GAPS = 6,        /* ... and in multiples of the mean gap */
    SPIN_WORK_TURNS = 64, /* how often to look for bottom halves and posts meanwhile */
    /* How often to look at descriptors and let others on this CPU run meanwhile: seldom, as it is a
     * system call in the waiting guest's way, but often for a while after it found something
     * (frames of a ping-pong would wait for the whole time). */
    SPIN_LOOK_MAX_US = 50,
    SPIN_LOOK_MIN_US = 10,
    SPIN_SKIP_MAX = 255,
    SPIN_TRY_TURNS = 500, /* of a measurement at start */
    SPIN_TURNS_MAX = 500, /* per microsecond: PAUSE and a look at a page take longer than 2 ns */
    SPIN_TURNS_GUESS = 10,
    SLICE_REQUESTS = 64, /* after so many requests in a row, the loop gets a turn */
    SLICE_US = 2000,     /* ... and after so much waiting: timers are not looked at meanwhile */
    BUFFERED_POLL_NS = 10000000,
};

/* One request, copied from the shared page once. */
struct request {
    uint64_t addr;
    uint64_t data;
    uint32_t count;
    uint32_t size;
    uint8_t flags;
    uint8_t type;
};

/* ---- creation and teardown ---- */

int server_create(struct platform *p, char *err, size_t errlen)
{
    domid_t dom = (domid_t)p->cfg.domid;
    void *pages = NULL;

    if (xendevicemodel_create_ioreq_server(p->dm, dom, HVM_IOREQSRV_BUFIOREQ_ATOMIC, &p->server) !=
        0) {
        snprintf(err, errlen, "-xen-domid %d: cannot create an ioreq server: %s", p->cfg.domid,
                 errno == ESRCH ? "there is no such domain" : strerror(errno));
        return -errno;
    }
    p->server_made = true;
    p->pages_resource =
        xenforeignmemory_map_resource(p->fmem, dom, XENMEM_resource_ioreq_server, p->server, 0, 2,
                                      &pages, PROT_READ | PROT_WRITE, 0);
    if (p->pages_resource == NULL) {
        snprintf(err, errlen, "cannot map the ioreq pages of domain %d: %s", p->cfg.domid,
                 strerror(errno));
        return -errno;
    }
    p->buffered = pages;
    p->shared = (shared_iopage_t *)(void *)((uint8_t *)pages + XEN_PAGE);
    if (xendevicemodel_nr_vcpus(p->dm, dom, &p->nvcpus) != 0 || p->nvcpus == 0 ||
        p->nvcpus > IOREQ_VCPUS_MAX) {
        snprintf(err, errlen, "cannot get the number of vcpus of domain %d: %s", p->cfg.domid,
                 strerror(errno));
        return -EIO;
    }
    return 0;
}

void server_destroy(struct platform *p)
{
    trace("ioreq", "served",
          "%llu requests, %llu buffered, %llu wake-ups, waiting paid %llu times of %llu",
          (unsigned long long)p->stats.requests, (unsigned long long)p->stats.buffered,
          (unsigned long long)p->stats.wakeups, (unsigned long long)p->stats.spin_hits,
          (unsigned long long)(p->stats.spin_hits + p->stats.spin_misses));
    if (p->loop != NULL) {
        loop_unwatch(&p->watch);
        bottom_half_cancel(&p->more);
        if (p->board != NULL) {
            timer_cancel(&p->buffered_timer);
        }
    }
    for (unsigned i = 0; i < p->nbound; i++) {
        xenevtchn_unbind(p->evtchn, p->vcpu_port[i]);
    }
    if (p->buffered_port != 0) {
        xenevtchn_unbind(p->evtchn, p->buffered_port);
    }
    if (p->pages_resource != NULL) {
        xenforeignmemory_unmap_resource(p->fmem, p->pages_resource);
    }
    if (p->server_made) {
        xendevicemodel_destroy_ioreq_server(p->dm, (domid_t)p->cfg.domid, p->server);
    }
}

/* ---- one request ---- */

static uint64_t ones(uint32_t size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

/* One item between guest RAM and the bus, through a buffer: items that straddle pages, downward
 * runs. */
static void move_item(struct platform *p, const struct request *r, enum bus_space space,
                      uint64_t addr, uint64_t gpa)
{
    uint64_t v = 0;

    if (r->flags & FLAG_READ) {
        v = bus_read(p->board->bus, space, addr, r->size);
        guestmem_write(p->mem, gpa, &v, r->size);
    } else {
        guestmem_read(p->mem, gpa, &v, r->size);
        bus_write(p->board->bus, space, addr, r->size, v);
    }
}

/* n items of a page that is not there (contract 1.6): reads as ones, takes nothing. The device's
 * side happens all the same. */
static void move_nowhere(struct platform *p, const struct request *r, enum bus_space space,
                         uint64_t addr, uint32_t n)
{
    for (; n > 0; n--) {
        if (r->flags & FLAG_READ) {
            bus_read(p->board->bus, space, addr, r->size);
        } else {
            bus_write(p->board->bus, space, addr, r->size, UINT64_MAX);
        }
        addr += space == BUS_MMIO ? r->size : 0;
    }
}

/* REP INS/OUTS and REP MOVS: count items between the bus and guest RAM at r->data. */
static void move_block(struct platform *p, const struct request *r, enum bus_space space)
{
    uint64_t addr = r->addr;
    uint64_t gpa = r->data;
    uint32_t left = r->count;

    if (r->flags & FLAG_DF) {
        for (; left > 0; left--) {
            move_item(p, r, space, addr, gpa);
            gpa -= r->size;
            addr -= space == BUS_MMIO ? r->size : 0;
        }
        return;
    }
    while (left > 0) {
        size_t got;
        void *ram = guestmem_span(p->mem, gpa, (size_t)left * r->size, &got);
        uint32_t n = (uint32_t)(got / r->size);

        if (n == 0) {
            move_item(p, r, space, addr, gpa); /* it straddles pages */
            n = 1;
        } else if (ram == NULL) {
            move_nowhere(p, r, space, addr, n);
        } else if (r->flags & FLAG_READ) {
            bus_read_rep(p->board->bus, space, addr, r->size, ram, n);
            guestmem_dirtied(p->mem, gpa, (size_t)n * r->size);
        } else {
            bus_write_rep(p->board->bus, space, addr, r->size, ram, n);
        }
        gpa += (uint64_t)n * r->size;
        addr += space == BUS_MMIO ? (uint64_t)n * r->size : 0;
        left -= n;
    }
}

static uint64_t do_bus(struct platform *p, const struct request *r, enum bus_space space)
{
    if (r->flags & FLAG_PTR) {
        move_block(p, r, space);
        return 0;
    }
    if (r->flags & FLAG_READ) {
        return bus_read(p->board->bus, space, r->addr, r->size);
    }
    /* More than one only for REP STOS to MMIO. */
    for (uint32_t i = 0; i < r->count; i++) {
        uint64_t step = space == BUS_MMIO ? (uint64_t)i * r->size : 0;

        bus_write(p->board->bus, space, r->flags & FLAG_DF ? r->addr - step : r->addr + step,
                  r->size, r->data);
    }
    return 0;
}

/* addr: segment, bus, device and function in the upper half, register in the lower (contract 1.5).
 * */
static uint64_t do_pci_config(struct platform *p, const struct request *r)
{
    struct pci_bus *pci = p->board->pci;
    uint64_t sbdf = r->addr >> 32;
    uint8_t devfn = (uint8_t)sbdf;
    uint32_t reg = (uint32_t)r->addr;
    uint64_t gpa = r->data;

    if (sbdf > 0xff || reg > 0xffff) {
        return UINT64_MAX;
    }
    if (!(r->flags & FLAG_PTR)) {
        if (r->flags & FLAG_READ) {
            return pci_config_read(pci, devfn, reg, r->size);
        }
        pci_config_write(pci, devfn, reg, r->size, (uint32_t)r->data);
        return 0;
    }
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t v = 0;

        if (r->flags & FLAG_READ) {
            v = pci_config_read(pci, devfn, reg, r->size);
            guestmem_write(p->mem, gpa, &v, r->size);
        } else {
            guestmem_read(p->mem, gpa, &v, r->size);
            pci_config_write(pci, devfn, reg, r->size, v);
        }
        gpa = r->flags & FLAG_DF ? gpa - r->size : gpa + r->size;
    }
    return 0;
}

/* Does what r asks for and returns what a register read gives. Everything in r may be nonsense. */
static uint64_t do_request(struct platform *p, const struct request *r)
{
    static struct log_limit limit;
    uint32_t max_size = r->type == IOREQ_TYPE_COPY || r->type == IOREQ_TYPE_TIMEOFFSET ? 8 : 4;

    if (r->type == IOREQ_TYPE_INVALIDATE) {
        guestmem_invalidate(p->mem);
        return UINT64_MAX;
    }
    if (r->size == 0 || r->size > max_size || (r->size & (r->size - 1)) != 0 ||
        r->count > REP_MAX) {
        log_limited(&limit, "ioreq of type %u with size %u, count %u ignored", r->type, r->size,
                    r->count);
        return UINT64_MAX;
    }
    switch (r->type) {
    case IOREQ_TYPE_PIO:
        return do_bus(p, r, BUS_PORT);
    case IOREQ_TYPE_COPY:
        return do_bus(p, r, BUS_MMIO);
    case IOREQ_TYPE_PCI_CONFIG:
        return do_pci_config(p, r);
    case IOREQ_TYPE_TIMEOFFSET:
        /* Xen keeps the RTC; the offset is the toolstack's business. */
        return 0;
    default:
        log_limited(&limit, "ioreq of unknown type %u ignored", r->type);
        return UINT64_MAX;
    }
}

/* ---- the pages ---- */

/* Requests without an answer. They come before any synchronous one that is ready. Returns whether
 * there were any. */
static bool serve_buffered(struct platform *p)
{
    buffered_iopage_t *b = p->buffered;
    bool any = false;

    /* All that can be in the ring now, and as much again for what is read twice or comes meanwhile.
     * */
    for (unsigned budget = 0; budget < 2 * IOREQ_BUFFER_SLOT_NUM; budget++) {
        uint32_t rd = __atomic_load_n(&b->read_pointer, __ATOMIC_ACQUIRE);
        uint32_t wr = __atomic_load_n(&b->write_pointer, __ATOMIC_ACQUIRE);
        struct request r;
        uint64_t slot;
        uint32_t used = 1;

        /* Xen moves both pointers down together now and then. A pair read across that is no pair:
         * it may even look empty. */
        if (__atomic_load_n(&b->read_pointer, __ATOMIC_ACQUIRE) != rd) {
            continue;
        }
        if (rd == wr) {
            break;
        }
        memcpy(&slot, &b->buf_ioreq[rd % IOREQ_BUFFER_SLOT_NUM], sizeof(slot));
        r = (struct request){
            .type = (uint8_t)slot,
            .size = 1u << (slot >> 10 & 3),
            .addr = slot >> 12 & 0xfffff,
            .data = slot >> 32,
            .count = 1,
        };
        if (r.size == 8) {
            if (wr - rd < 2) {
                break;
            }
            memcpy(&slot, &b->buf_ioreq[(rd + 1) % IOREQ_BUFFER_SLOT_NUM], sizeof(slot));
            r.data |= slot >> 32 << 32;
            used = 2;
        }
        p->stats.buffered++;
        do_request(p, &r);
        __atomic_fetch_add(&b->read_pointer, used, __ATOMIC_ACQ_REL);
        any = true;
    }
    return any;
}

static bool serve_vcpu(struct platform *p, unsigned i)
{
    struct ioreq *io = &p->shared->vcpu_ioreq[i];
    uint8_t *state = (uint8_t *)io + STATE_OFFSET;
    uint8_t flags = __atomic_load_n(state, __ATOMIC_ACQUIRE);
    struct request r;
    uint64_t value;

    if ((flags & STATE_MASK) != STATE_IOREQ_READY) {
        return false;
    }
    serve_buffered(p);
    r = (struct request){.addr = io->addr,
                         .data = io->data,
                         .count = io->count,
                         .size = io->size,
                         .flags = flags,
                         .type = io->type};
    p->stats.requests++;
    value = do_request(p, &r);
    if ((r.flags & (FLAG_READ | FLAG_PTR)) == FLAG_READ) {
        io->data = value & ones(r.size);
    }
    /* A shutdown that the request asked for has been sent by now, as it must be. */
    __atomic_store_n(state, (uint8_t)((flags & ~STATE_MASK) | STATE_IORESP_READY),
                     __ATOMIC_RELEASE);
    xenevtchn_notify(p->evtchn, p->vcpu_port[i]);
    return true;
}

static bool serve_all(struct platform *p)
{
    bool any = false;

    for (unsigned i = 0; i < p->nbound; i++) {
        any |= serve_vcpu(p, i);
    }
    return any;
}

/* ---- waiting ---- */

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void unmask_all(struct platform *p)
{
    for (unsigned i = 0; i < p->nmasked; i++) {
        xenevtchn_unmask(p->evtchn, p->masked[i]);
    }
    p->nmasked = 0;
}

static bool any_ready(const struct platform *p)
{
    for (unsigned i = 0; i < p->nbound; i++) {
        const uint8_t *state = (const uint8_t *)&p->shared->vcpu_ioreq[i] + STATE_OFFSET;

        if ((__atomic_load_n(state, __ATOMIC_RELAXED) & STATE_MASK) == STATE_IOREQ_READY) {
            return true;
        }
    }
    return false;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

unsigned server_turns_per_us(uint64_t took_ns[SPIN_TRIES])
{
    uint64_t ns;

    qsort(took_ns, SPIN_TRIES, sizeof(took_ns[0]), by_size);
    ns = took_ns[SPIN_TRIES / 2];
    if (ns < SPIN_TRY_TURNS * 1000 / SPIN_TURNS_MAX) {
        return SPIN_TURNS_GUESS;
    }
    return ns < SPIN_TRY_TURNS * 1000 ? (unsigned)(SPIN_TRY_TURNS * 1000 / ns) : 1;
}

static unsigned calibrate_spin(const struct platform *p)
{
    uint64_t took[SPIN_TRIES];

    for (int i = 0; i < SPIN_TRIES; i++) {
        uint64_t start = now_ns();

        for (int n = 0; n < SPIN_TRY_TURNS; n++) {
            (void)any_ready(p); /* atomic loads: they are not optimised away */
            __builtin_ia32_pause();
        }
        took[i] = now_ns() - start;
    }
    return server_turns_per_us(took);
}

/* Takes one event. The port stays masked until unmask_all(), the buffered one until poll_buffered()
 * finds the ring empty. */
static void take_event(struct platform *p)
{
    xenevtchn_port_or_error_t port = xenevtchn_pending(p->evtchn);

    if (port < 0) {
        return;
    }
    if ((evtchn_port_t)port == p->buffered_port) {
        if (!p->buffered_masked) {
            p->buffered_masked = true;
            timer_set(&p->buffered_timer, loop_now(p->loop, LOOP_HOST) + BUFFERED_POLL_NS);
        }
        return;
    }
    /* A port cannot fire again while it is masked, so each is in the list once and there is room.
     * */
    if (p->nmasked < sizeof(p->masked) / sizeof(p->masked[0])) {
        p->masked[p->nmasked++] = (evtchn_port_t)port;
    }
}

/* Whether a descriptor of the loop is ready, our own aside: a disk's completion, a viewer, the
 * monitor. */
static bool others_wait(struct platform *p)
{
    struct pollfd fds[] = {{.fd = xenevtchn_fd(p->evtchn), .events = POLLIN},
                           {.fd = loop_fd(p->loop), .events = POLLIN}};

    if (poll(fds, 2, 0) <= 0) {
        return false;
    }
    if (fds[0].revents & POLLIN) {
        take_event(
            p); /* of another vCPU: it is looked at without it. The next turn tells whether there is more */
        return false;
    }
    return fds[1].revents != 0;
}

enum spin_end { SPIN_HIT, SPIN_MISS, SPIN_WORK };

void server_spin_learn(struct platform *p, bool found, bool displaced, unsigned turns)
{
    if (found) {
        p->spin_gap = (unsigned)(((uint64_t)p->spin_gap * 7 + turns) / 8);
        p->stats.spin_hits++;
    } else {
        p->stats.spin_misses++;
    }
    if (found && !displaced) {
        p->spin_skip = 0;
    } else {
        p->spin_skip = p->spin_skip * 2 + 1 < SPIN_SKIP_MAX ? p->spin_skip * 2 + 1 : SPIN_SKIP_MAX;
        p->spin_skip_left = p->spin_skip;
    }
}

/* How often this thread has lost its CPU to another one, ever. */
static long times_displaced(void)
{
    struct rusage u;

    return getrusage(RUSAGE_THREAD, &u) == 0 ? u.ru_nivcsw : 0;
}

/* Looks for the next request until it is there, or for as long as it pays, or until the loop has
 * other work. *waited: turns, added up. */
static enum spin_end spin(struct platform *p, unsigned *waited)
{
    unsigned per_us = p->spin_turns_per_us;
    unsigned min = SPIN_MIN_US * per_us;
    unsigned max = SPIN_MAX_US * per_us;
    unsigned limit = p->spin_gap * SPIN_GAPS;
    unsigned unlooked = p->spin_unlooked;
    enum spin_end end = SPIN_MISS;
    bool yielded = false; /* in the turn before */
    long displaced = 0;   /* ... what times_displaced() was then: only that one tells anything */
    unsigned i;

    /* After a miss the gaps are not what they were: only a long look can find the new ones. */
    limit = p->spin_skip > 0 || limit > max ? max : limit < min ? min : limit;
    for (i = 1; i <= limit; i++) {
        if (any_ready(p)) {
            end = SPIN_HIT;
            break;
        }
        yielded = false;
        __builtin_ia32_pause();
        if (i % SPIN_WORK_TURNS == 0 && loop_work_waits(p->loop)) {
            end = SPIN_WORK;
            break;
        }
        if (++unlooked >= p->spin_look) {
            unlooked = 0;
            if (others_wait(p)) {
                p->spin_look = SPIN_LOOK_MIN_US * per_us;
                end = SPIN_WORK;
                break;
            }
            p->spin_look += p->spin_look < SPIN_LOOK_MAX_US * per_us ? p->spin_look / 8 + 1 : 0;
            displaced = times_displaced();
            sched_yield();
            yielded = true;
        }
    }
    p->spin_unlooked = unlooked;
    *waited += i;
    if (end != SPIN_WORK) {
        server_spin_learn(p, end == SPIN_HIT,
                          end == SPIN_HIT && yielded && times_displaced() != displaced, i);
    }
    return end;
}

/* Serves until nothing is ready and looking for more does not pay, then lets the event channels
 * wake us again. */
static void serve(struct platform *p)
{
    unsigned waited = 0;

    for (unsigned turns = 1; p->running; turns++) {
        bool any = serve_all(p);
        enum spin_end end = SPIN_WORK;

        if (!loop_work_waits(p->loop) && turns < SLICE_REQUESTS &&
            waited < SLICE_US * p->spin_turns_per_us) {
            if (!any) {
                break;
            }
            if (p->spin_skip_left > 0) {
                p->spin_skip_left--;
                break;
            }
            end = spin(p, &waited);
        }
        if (end == SPIN_WORK) {
            bottom_half_schedule(&p->more); /* the ports stay masked until then */
            return;
        }
        if (end == SPIN_MISS) {
            break;
        }
    }
    unmask_all(p);
}

static void serve_more(void *arg)
{
    struct platform *p = arg;

    if (p->running) {
        serve_buffered(p);
    }
    serve(p);
}

/* Xen raises the buffered port for each entry: a screen of text would be two thousand wake-ups. So
 * the port stays masked after its first event; the ring is drained with each synchronous request
 * and by this timer, until it is found empty. */
static void poll_buffered(void *arg)
{
    struct platform *p = arg;

    if (p->running && serve_buffered(p)) {
        timer_set(&p->buffered_timer, loop_now(p->loop, LOOP_HOST) + BUFFERED_POLL_NS);
    } else {
        p->buffered_masked = false;
        xenevtchn_unmask(p->evtchn, p->buffered_port);
    }
}

static void on_event(void *arg, uint32_t events)
{
    struct platform *p = arg;

    (void)events;
    p->stats.wakeups++;
    take_event(p);
    serve(p);
}

void platform_set_running(struct platform *p, bool running)
{
    if (running == p->running) {
        return;
    }
    xendevicemodel_set_ioreq_server_state(p->dm, (domid_t)p->cfg.domid, p->server, running);
    if (running) {
        bottom_half_schedule(&p->more); /* what came while we stood still */
    } else {
        /* Nothing is sent any more. What has been is part of the state that is saved, and a vCPU
         * that waits for an answer keeps the domain from being suspended or shut down. */
        serve_buffered(p);
        serve_all(p);
    }
    p->running = running;
}

int platform_start(struct platform *p, struct board *board, char *err, size_t errlen)
{
    domid_t dom = (domid_t)p->cfg.domid;
    evtchn_port_t bufport = 0;
    int ret;

    p->board = board;
    bottom_half_init(&p->more, p->loop, serve_more, p);
    timer_init(&p->buffered_timer, p->loop, LOOP_HOST, poll_buffered, p);
    if (xendevicemodel_get_ioreq_server_info(p->dm, dom, p->server, NULL, NULL, &bufport) != 0 ||
        xendevicemodel_set_ioreq_server_state(p->dm, dom, p->server, 1) != 0) {
        snprintf(err, errlen, "cannot enable the ioreq server of domain %d: %s", p->cfg.domid,
                 strerror(errno));
        return -EIO;
    }
    p->running = true;
    for (; p->nbound < p->nvcpus; p->nbound++) {
        xenevtchn_port_or_error_t port =
            xenevtchn_bind_interdomain(p->evtchn, dom, p->shared->vcpu_ioreq[p->nbound].vp_eport);

        if (port < 0) {
            snprintf(err, errlen, "cannot bind the event channel of vcpu %u of domain %d: %s",
                     p->nbound, p->cfg.domid, strerror(errno));
            return -EIO;
        }
        p->vcpu_port[p->nbound] = (evtchn_port_t)port;
    }
    p->spin_turns_per_us = calibrate_spin(p);
    p->spin_gap = SPIN_MAX_US * p->spin_turns_per_us;
    p->spin_look = SPIN_LOOK_MAX_US * p->spin_turns_per_us;
    ret = xenevtchn_bind_interdomain(p->evtchn, dom, bufport);
    if (ret < 0) {
        snprintf(err, errlen, "cannot bind the buffered event channel of domain %d: %s",
                 p->cfg.domid, strerror(errno));
        return -EIO;
    }
    p->buffered_port = (evtchn_port_t)ret;
    ret = loop_watch(p->loop, &p->watch, xenevtchn_fd(p->evtchn), EPOLLIN, on_event, p);
    if (ret != 0) {
        snprintf(err, errlen, "cannot watch the event channels: %s", strerror(-ret));
    }
    return ret;
}
