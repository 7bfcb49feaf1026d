/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When frames are processed. As in hw/uhci.c, whose head gives the reasons: a timer walks all frames that have passed
 * since the last walk, the eight microframes of each at once, and the time between two walks grows from 1 ms to
 * WALK_MAX_MS while nothing moves. It is back at 1 ms when a device gets an event, a transfer completes, or the guest
 * writes to a register. The bound is twice that of UHCI: a driver that starts a transfer after a pause mostly has to
 * switch a schedule on, which is a register (Linux does). With both schedules off there is no timer at all.
 *
 * One visit of a queue head stands for all that the chip would make in that frame: an asynchronous queue is worked
 * through until it has to wait, a queue head that gets a NAK has its counter run down at once.
 */
#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "hw/ehci_int.h"

/* Links, EHCI 1.0, 3.1. */
enum { LINK_T = 1, LINK_ADDRESS = ~31, LINK_QH = 1, LINK_TYPES = 4 };

enum qh_dword { /* 3.6; from QH_NEXT on the overlay, which a qTD (3.5) is laid over */
                QH_LINK,
                QH_ENDPOINT,
                QH_MASKS,
                QH_CURRENT,
                QH_NEXT,
                QH_ALTERNATE,
                QH_TOKEN,
                QH_BUFFER,
                QH_DWORDS = QH_BUFFER + 5,
                QTD_DWORDS = QH_DWORDS - QH_NEXT,
                QTD_TOKEN = QH_TOKEN - QH_NEXT,
};
enum {                         /* QH_ENDPOINT, QH_ALTERNATE */
       ENDPOINT_DTC = 1 << 14, /* the data toggle is the qTD's */
       ENDPOINT_SPEED = 3 << 12,
       ENDPOINT_HIGH_SPEED = 2 << 12,
       ENDPOINT_MAX_PACKET_AT = 16,
       ENDPOINT_MAX_PACKET = 0x7ff,
       ENDPOINT_RELOAD_AT = 28,
       ALTERNATE_NAK_COUNT_AT = 1,
       ALTERNATE_NAK_COUNT = 15 << ALTERNATE_NAK_COUNT_AT,
};
enum token { /* 3.5.3 */
             TOKEN_PING = 1,
             TOKEN_XACT_ERROR = 8,
             TOKEN_BABBLE = 0x10,
             TOKEN_BUFFER_ERROR = 0x20,
             TOKEN_HALTED = 0x40,
             TOKEN_ACTIVE = 0x80,
             TOKEN_PID_AT = 8,
             TOKEN_ERRORS_AT = 10,
             TOKEN_ERRORS = 3 << TOKEN_ERRORS_AT,
             TOKEN_PAGE_AT = 12,
             TOKEN_PAGE = 7 << TOKEN_PAGE_AT,
             TOKEN_IOC = 1 << 15,
             TOKEN_BYTES_AT = 16,
             TOKEN_BYTES = 0x7fff,
             PAGES = 5,
             PAGE_BYTES = 4096,
};
#define TOKEN_TOGGLE (UINT32_C(1) << 31)
enum { PID_OUT, PID_IN, PID_SETUP };

enum { /* isochronous: iTD (3.3) and siTD (3.4) */
       ITD_TRANSACTIONS = 8,
       ITD_BUFFER_1 = 10,
       ITD_DWORDS,
       ITD_IN = 1 << 11,
       ITD_XACT_ERROR = 1 << 28,
       ITD_LENGTH = 0xfff << 16,
       ITD_IOC = 1 << 15,
       SITD_ENDPOINT = 1,
       SITD_MASKS,
       SITD_STATE,
       SITD_DWORDS,
       SITD_RESULT = 0x7e,
};
#define ITD_ACTIVE (UINT32_C(1) << 31)
#define ITD_RESULT (UINT32_C(15) << 28)
#define SITD_IN    (UINT32_C(1) << 31)
#define SITD_IOC   (UINT32_C(1) << 31)

enum {
    WALK_MAX_MS = 64,
    WALK_BACKOFF = 16,     /* the time to the next walk is this fraction of the quiet time */
    CATCH_UP_FRAMES = 128, /* older ones are lost, as when the guest's CPU stood still */
    FRAME_BYTES = 60000,   /* 480 Mb/s */
    PACKET_OVERHEAD = 55,  /* bytes on the bus besides the data, about */
    WALK_STEPS = 2048,     /* structures that one walk looks at, and transactions that it makes */
    ADVANCE_STEPS = 32,    /* queues behind which no reference to an unlinked one is left */
    QUIET_HEADS = 16,
};

/* What one walk has left and has found. */
struct walk {
    unsigned steps;
    int frame_bytes;
    bool moved; /* in this frame: a transaction got through, or failed for good */
    bool fatal;
    uint32_t status;             /* USBSTS_* to raise */
    uint32_t quiet[QUIET_HEADS]; /* frame list entries that lead to nothing */
    unsigned quiet_count;
};

/* ---- guest memory ---- */

static void write_dwords(struct ehci *e, uint32_t addr, const uint32_t *dw, unsigned n)
{
    uint8_t b[4 * QH_DWORDS];

    for (unsigned i = 0; i < n; i++) {
        pci_set32(b, 4 * i, dw[i]);
    }
    guestmem_write(e->pd.board->mem, addr, b, 4u * n);
}

/* n <= QH_DWORDS. False when the walk has seen enough, or there is no memory: a master abort (EHCI 1.0, 4.15.2.4). */
static bool fetch(struct ehci *e, struct walk *w, uint32_t addr, uint32_t *dw, unsigned n)
{
    uint8_t b[4 * QH_DWORDS];
    size_t got;

    if (w->steps == 0) {
        return false;
    }
    w->steps--;
    if (guestmem_span(e->pd.board->mem, addr, 1, &got) == NULL) {
        w->fatal = true;
        return false;
    }
    guestmem_read(e->pd.board->mem, addr, b, 4u * n);
    for (unsigned i = 0; i < n; i++) {
        dw[i] = pci_get32(b, 4 * i);
    }
    return true;
}

/* ---- transactions ---- */

/* The device that hears a token for addr: on an enabled port that is awake. */
static struct usb_device *find_device(const struct ehci *e, unsigned addr)
{
    for (unsigned i = 0; i < EHCI_PORTS; i++) {
        struct usb_device *d = ehci_device(e, i);

        if (d != NULL && d->r.address == addr &&
            (e->r.portsc[i] & (PORTSC_PED | PORTSC_PR | PORTSC_SUSPEND)) == PORTSC_PED) {
            return d;
        }
    }
    return NULL;
}

/* Moves len bytes (<= USB_PACKET_BYTES) between data and the place in the overlay's pages where the transfer is.
 * False: there are not so many pages. */
static bool buffer_move(struct ehci *e, const uint32_t *qh, uint8_t *data, unsigned len,
                        bool to_guest)
{
    unsigned page = (qh[QH_TOKEN] & TOKEN_PAGE) >> TOKEN_PAGE_AT;
    unsigned offset = qh[QH_BUFFER] % PAGE_BYTES;

    while (len > 0) {
        unsigned part = PAGE_BYTES - offset < len ? PAGE_BYTES - offset : len;
        uint64_t addr;

        if (page >= PAGES) {
            return false;
        }
        addr = (qh[QH_BUFFER + page] & ~(uint32_t)(PAGE_BYTES - 1)) + offset;
        if (to_guest) {
            guestmem_write(e->pd.board->mem, addr, data, part);
        } else {
            guestmem_read(e->pd.board->mem, addr, data, part);
        }
        data += part;
        len -= part;
        offset = 0;
        page++;
    }
    return true;
}

/* The transaction itself: bytes moved, USB_NAK, ..., -EPROTO for babble, -EFAULT for too few pages. */
static int transact(struct ehci *e, const uint32_t *qh, unsigned len)
{
    static const uint8_t pids[4] = {USB_PID_OUT, USB_PID_IN, USB_PID_SETUP, 0};
    uint8_t data[USB_PACKET_BYTES];
    unsigned pid = qh[QH_TOKEN] >> TOKEN_PID_AT & 3;
    struct usb_device *d = find_device(e, qh[QH_ENDPOINT] & 127);
    int n;

    /* Split transactions go to a hub, and there is none. */
    if (d == NULL || pids[pid] == 0 || (qh[QH_ENDPOINT] & ENDPOINT_SPEED) != ENDPOINT_HIGH_SPEED) {
        return USB_SILENT;
    }
    if (pid != PID_IN) {
        if (len > sizeof(data)) {
            return USB_SILENT; /* no endpoint takes such a packet */
        }
        if (!buffer_move(e, qh, data, len, false)) {
            return -EFAULT;
        }
    }
    n = usb_transaction(d, pids[pid], qh[QH_ENDPOINT] >> 8 & 15, data,
                        len < sizeof(data) ? len : (unsigned)sizeof(data));
    if (pid == PID_IN && n > 0) {
        if ((unsigned)n > len) {
            return -EPROTO;
        }
        if (!buffer_move(e, qh, data, (unsigned)n, true)) {
            return -EFAULT;
        }
    }
    return n;
}

/* ---- queues ---- */

static void halt_queue(struct walk *w, uint32_t *token, uint32_t why)
{
    *token = (*token & ~(uint32_t)TOKEN_ACTIVE) | TOKEN_HALTED | why;
    w->status |= USBSTS_ERROR;
}

/* No answer: tried again while the error counter lasts (0: for ever). */
static bool no_answer(struct walk *w, uint32_t *token)
{
    uint32_t errors = (*token & TOKEN_ERRORS) >> TOKEN_ERRORS_AT;

    *token |= TOKEN_XACT_ERROR;
    if (errors == 0) {
        return false;
    }
    *token = (*token & ~(uint32_t)TOKEN_ERRORS) | (errors - 1) << TOKEN_ERRORS_AT;
    if (errors == 1) {
        halt_queue(w, token, 0);
    }
    return true;
}

/* n bytes of at most len have gone through. */
static void packet_done(struct walk *w, uint32_t *qh, unsigned n, unsigned max)
{
    uint32_t *token = &qh[QH_TOKEN];
    unsigned pid = *token >> TOKEN_PID_AT & 3;
    unsigned bytes = (*token >> TOKEN_BYTES_AT & TOKEN_BYTES) - n;
    unsigned page = (*token & TOKEN_PAGE) >> TOKEN_PAGE_AT;
    unsigned offset = qh[QH_BUFFER] % PAGE_BYTES + n;

    page += offset / PAGE_BYTES;
    qh[QH_BUFFER] = (qh[QH_BUFFER] & ~(uint32_t)(PAGE_BYTES - 1)) | offset % PAGE_BYTES;
    *token = (*token & ~(uint32_t)(TOKEN_BYTES << TOKEN_BYTES_AT | TOKEN_PAGE)) |
             bytes << TOKEN_BYTES_AT | (page << TOKEN_PAGE_AT & TOKEN_PAGE);
    *token ^= TOKEN_TOGGLE;
    if (pid == PID_OUT) {
        *token &= ~(uint32_t)TOKEN_PING;
    }
    if (bytes == 0 || (pid == PID_IN && n < max)) {
        *token &= ~(uint32_t)TOKEN_ACTIVE;
        w->status |= bytes != 0 ? USBSTS_INT : 0; /* a short packet */
    }
}

/* One transaction of the overlay, which is active. False: the queue has to wait. */
static bool run_transaction(struct ehci *e, struct walk *w, uint32_t *qh)
{
    uint32_t *token = &qh[QH_TOKEN];
    unsigned bytes = *token >> TOKEN_BYTES_AT & TOKEN_BYTES;
    unsigned max = qh[QH_ENDPOINT] >> ENDPOINT_MAX_PACKET_AT & ENDPOINT_MAX_PACKET;
    unsigned len = bytes < max ? bytes : max;
    int n = max == 0 && bytes != 0 ? USB_SILENT : transact(e, qh, len);

    w->frame_bytes -= PACKET_OVERHEAD + (n > 0 ? n : 0);
    w->steps--;
    switch (n) {
    case USB_NAK:
        qh[QH_ALTERNATE] &= ~(uint32_t)ALTERNATE_NAK_COUNT;
        return false;
    case USB_SILENT:
        if (!no_answer(w, token)) {
            return false;
        }
        break;
    case USB_STALL:
        halt_queue(w, token, 0);
        break;
    case -EPROTO:
        halt_queue(w, token, TOKEN_BABBLE);
        break;
    case -EFAULT:
        halt_queue(w, token, TOKEN_BUFFER_ERROR);
        break;
    default:
        packet_done(w, qh, (unsigned)n, max);
        break;
    }
    w->moved = true;
    return true;
}

/* The chip does so whenever it begins to go round the ring (4.9). */
static void reload_nak_count(uint32_t *qh)
{
    uint32_t count = qh[QH_ENDPOINT] >> ENDPOINT_RELOAD_AT << ALTERNATE_NAK_COUNT_AT;

    qh[QH_ALTERNATE] = (qh[QH_ALTERNATE] & ~(uint32_t)ALTERNATE_NAK_COUNT) | count;
}

/* Lays the next qTD over the queue head (4.10.2). False: there is none that is active. */
static bool advance(struct ehci *e, struct walk *w, uint32_t *qh)
{
    bool short_packet = (qh[QH_TOKEN] >> TOKEN_BYTES_AT & TOKEN_BYTES) != 0;
    uint32_t link =
        short_packet && (qh[QH_ALTERNATE] & LINK_T) == 0 ? qh[QH_ALTERNATE] : qh[QH_NEXT];
    uint32_t kept = TOKEN_PING | ((qh[QH_ENDPOINT] & ENDPOINT_DTC) == 0 ? TOKEN_TOGGLE : 0);
    uint32_t qtd[QTD_DWORDS];

    link &= LINK_T | (uint32_t)LINK_ADDRESS;
    if ((link & LINK_T) != 0 || !fetch(e, w, link, qtd, QTD_DWORDS) ||
        (qtd[QTD_TOKEN] & TOKEN_ACTIVE) == 0) {
        return false;
    }
    kept &= (qtd[QTD_TOKEN] >> TOKEN_PID_AT & 3) == PID_OUT ? ~UINT32_C(0) : ~(uint32_t)TOKEN_PING;
    qtd[QTD_TOKEN] = (qtd[QTD_TOKEN] & ~kept) | (qh[QH_TOKEN] & kept);
    memcpy(&qh[QH_NEXT], qtd, sizeof(qtd));
    qh[QH_CURRENT] = link;
    reload_nak_count(qh);
    /* The progress of split transactions. */
    qh[QH_BUFFER + 1] &= ~(uint32_t)0xff;
    qh[QH_BUFFER + 2] &= ~(uint32_t)(PAGE_BYTES - 1);
    return true;
}

/* Writes what is different from before, which is made equal. */
static void write_back(struct ehci *e, uint32_t addr, uint32_t *before, const uint32_t *qh)
{
    unsigned first = QH_CURRENT;
    unsigned end = QH_DWORDS;

    while (first < end && before[first] == qh[first]) {
        first++;
    }
    while (end > first && before[end - 1] == qh[end - 1]) {
        end--;
    }
    if (first < end) {
        write_dwords(e, addr + 4 * first, qh + first, end - first);
        memcpy(before, qh, sizeof(*qh) * QH_DWORDS);
    }
}

/* Up to n transactions of the queue head at addr, which was read to qh. */
static void run_queue(struct ehci *e, struct walk *w, uint32_t addr, uint32_t *qh, unsigned n)
{
    uint32_t before[QH_DWORDS];
    uint32_t *token = &qh[QH_TOKEN];

    memcpy(before, qh, sizeof(before));
    reload_nak_count(qh);
    while (n > 0 && w->steps > 0 && w->frame_bytes > 0 && (*token & TOKEN_HALTED) == 0) {
        if ((*token & TOKEN_ACTIVE) == 0) {
            if (!advance(e, w, qh)) {
                break;
            }
            continue;
        }
        n--;
        if (!run_transaction(e, w, qh)) {
            break;
        }
        if ((*token & TOKEN_ACTIVE) == 0) {
            w->status |= (*token & TOKEN_IOC) != 0 ? USBSTS_INT : 0;
            write_back(e, addr, before, qh);
            write_dwords(e, (qh[QH_CURRENT] & (uint32_t)LINK_ADDRESS) + 4 * QTD_TOKEN, token, 1);
        }
    }
    write_back(e, addr, before, qh);
}

/* ---- the asynchronous schedule ---- */

/*
 * Goes round the ring from where the last walk stopped, until a round was without progress (found as Brent does; the
 * chip looks for the queue head with the H bit) or the frame is over. ASYNCLISTADDR is then in the ring as it is now:
 * a queue head that was unlinked before is not looked at again, and the doorbell can be answered (4.8.2).
 */
static void run_async(struct ehci *e, struct walk *w)
{
    uint32_t mark = LINK_T;
    unsigned count = 0;
    unsigned limit = 1;
    unsigned visits = 0;
    bool before = w->moved;
    bool quiet = false;

    w->moved = false; /* since `mark` was set */
    while (!quiet && w->steps > 0 && w->frame_bytes > 0) {
        uint32_t addr = e->r.asynclistaddr;
        uint32_t qh[QH_DWORDS];

        if (w->moved || ++count == limit) {
            limit = w->moved ? 1 : limit * 2;
            count = 0;
            mark = addr;
            before = before || w->moved;
            w->moved = false;
        }
        if (!fetch(e, w, addr, qh, QH_DWORDS)) {
            break;
        }
        run_queue(e, w, addr, qh, WALK_STEPS);
        visits++;
        if ((qh[QH_LINK] >> 1) % LINK_TYPES == LINK_QH) {
            e->r.asynclistaddr = qh[QH_LINK] & (uint32_t)LINK_ADDRESS;
        } /* else: nothing else belongs here, the ring ends */
        quiet = !w->moved && (e->r.asynclistaddr == mark || e->r.asynclistaddr == addr);
    }
    w->moved = w->moved || before;
    e->r.usbsts &= ~(uint32_t)USBSTS_RECLAMATION;
    e->r.usbsts |= quiet ? 0 : USBSTS_RECLAMATION;
    if ((quiet || visits > ADVANCE_STEPS) && (e->r.usbcmd & USBCMD_IAAD) != 0) {
        e->r.usbcmd &= ~(uint32_t)USBCMD_IAAD;
        w->status |= USBSTS_ASYNC_ADVANCE;
    }
}

/* ---- the periodic schedule ---- */

/* Each of the four does what is due in this frame, and returns the link to go on with. */

/* Nobody has an isochronous endpoint. What is sent to one has no handshake that could be missing. */
static uint32_t run_itd(struct ehci *e, struct walk *w, uint32_t addr)
{
    uint32_t itd[ITD_DWORDS];

    if (!fetch(e, w, addr, itd, ITD_DWORDS)) {
        return LINK_T;
    }
    for (unsigned i = 1; i <= ITD_TRANSACTIONS; i++) {
        if ((itd[i] & ITD_ACTIVE) == 0) {
            continue;
        }
        itd[i] &= ~ITD_RESULT;
        if ((itd[ITD_BUFFER_1] & ITD_IN) != 0) {
            itd[i] = (itd[i] & ~(uint32_t)ITD_LENGTH) | ITD_XACT_ERROR;
            w->status |= USBSTS_ERROR;
        }
        w->status |= (itd[i] & ITD_IOC) != 0 ? USBSTS_INT : 0;
        w->moved = true;
        write_dwords(e, addr + 4 * i, &itd[i], 1);
    }
    return itd[0];
}

/* Nor is there a hub that would split transactions. */
static uint32_t run_sitd(struct ehci *e, struct walk *w, uint32_t addr)
{
    uint32_t sitd[SITD_DWORDS];
    uint32_t *state = &sitd[SITD_STATE];

    if (!fetch(e, w, addr, sitd, SITD_DWORDS)) {
        return LINK_T;
    }
    if ((*state & TOKEN_ACTIVE) != 0 && (sitd[SITD_MASKS] & 0xff) != 0) {
        *state &= ~(uint32_t)(TOKEN_ACTIVE | SITD_RESULT);
        if ((sitd[SITD_ENDPOINT] & SITD_IN) != 0) {
            *state |= TOKEN_XACT_ERROR;
            w->status |= USBSTS_ERROR;
        }
        w->status |= (*state & SITD_IOC) != 0 ? USBSTS_INT : 0;
        w->moved = true;
        write_dwords(e, addr + 4 * SITD_STATE, state, 1);
    }
    return sitd[0];
}

/* The way back (3.7) is for split transactions that are under way. */
static uint32_t run_fstn(struct ehci *e, struct walk *w, uint32_t addr)
{
    uint32_t link;

    return fetch(e, w, addr, &link, 1) ? link : LINK_T;
}

static uint32_t run_interrupt(struct ehci *e, struct walk *w, uint32_t addr)
{
    uint32_t qh[QH_DWORDS];
    unsigned n = 0;

    if (!fetch(e, w, addr, qh, QH_DWORDS)) {
        return LINK_T;
    }
    for (uint32_t s_mask = qh[QH_MASKS] & 0xff; s_mask != 0; s_mask &= s_mask - 1) {
        n += qh[QH_MASKS] >> 30 != 0 ? qh[QH_MASKS] >> 30 : 1;
    }
    run_queue(e, w, addr, qh, n);
    return qh[QH_LINK];
}

static bool known_quiet(const struct walk *w, uint32_t head)
{
    for (unsigned i = 0; i < w->quiet_count; i++) {
        if (w->quiet[i] == head) {
            return true;
        }
    }
    return false;
}

/* Follows a frame list entry to the end; a link that closes a loop (found as Brent does) is one. */
static void run_periodic(struct ehci *e, struct walk *w)
{
    static uint32_t (*const run[LINK_TYPES])(struct ehci * e, struct walk * w, uint32_t addr) = {
        run_itd, run_interrupt, run_sitd, run_fstn};
    uint32_t mark = LINK_T;
    unsigned count = 0;
    unsigned limit = 1;
    uint32_t head;

    if (!fetch(e, w, e->r.periodiclistbase + 4 * (e->r.frindex / 8 % EHCI_FRAMES), &head, 1) ||
        known_quiet(w, head)) {
        return;
    }
    for (uint32_t link = head;
         (link & LINK_T) == 0 && w->steps > 0 && w->frame_bytes > 0 && !w->fatal && link != mark;) {
        if (++count == limit) {
            limit *= 2;
            count = 0;
            mark = link;
        }
        link = run[link >> 1 & 3](e, w, link & (uint32_t)LINK_ADDRESS);
    }
    if (w->moved) {
        w->quiet_count = 0;
    } else if (w->quiet_count < QUIET_HEADS) {
        w->quiet[w->quiet_count++] = head;
    }
}

/* ---- time ---- */

/* The results of a walk become visible at the end of its last frame. */
static void report(struct ehci *e, const struct walk *w)
{
    static struct log_limit limit;

    e->r.usbsts |= w->status;
    if (w->fatal) {
        log_limited(&limit, "ehci: the guest's schedule leads to where no memory is");
        e->r.usbsts |= USBSTS_HSE;
        ehci_halt(e);
    }
    ehci_update_irq(e);
}

static void run_frame(struct ehci *e, struct walk *w, bool async)
{
    w->frame_bytes = FRAME_BYTES;
    if ((e->r.usbcmd & USBCMD_PSE) != 0) {
        run_periodic(e, w);
    }
    if (async && (e->r.usbcmd & USBCMD_ASE) != 0) {
        run_async(e, w);
    }
}

void ehci_walk(struct ehci *e)
{
    struct walk w = {.steps = WALK_STEPS};
    bool moved = false;
    bool async = true; /* quiet until something has moved */
    uint64_t frames;
    uint64_t skipped;

    if (!ehci_running(e)) {
        return;
    }
    frames = (ehci_now_ns(e) - e->h.frame_ns) / EHCI_FRAME_NS;
    e->h.frame_ns += frames * EHCI_FRAME_NS;
    w.status |= e->r.frindex % EHCI_ROLLOVER + 8 * frames >= EHCI_ROLLOVER ? USBSTS_ROLLOVER : 0;
    skipped = frames > CATCH_UP_FRAMES ? frames - CATCH_UP_FRAMES : 0;
    e->r.frindex = (uint32_t)((e->r.frindex + 8 * skipped) & EHCI_FRINDEX_MASK);
    for (uint64_t i = skipped; i < frames; i++) {
        if (pci_master(&e->pd) && w.steps > 0 && !w.fatal) {
            w.moved = false;
            run_frame(e, &w, async);
            async = w.moved;
            moved = moved || w.moved;
        }
        e->r.frindex = (e->r.frindex + 8) & EHCI_FRINDEX_MASK;
    }
    e->h.quiet_ms =
        moved ? 0 : e->h.quiet_ms + (uint32_t)(frames < EHCI_FRAMES ? frames : EHCI_FRAMES);
    if (e->h.quiet_ms > WALK_MAX_MS * WALK_BACKOFF) {
        e->h.quiet_ms = WALK_MAX_MS * WALK_BACKOFF;
    }
    report(e, &w);
}

/* The next walk is `ms` after the last one if a schedule is on; no later than when the guest wants to know of the
 * frame list's rollover. */
static void plan_walk(struct ehci *e, uint64_t ms)
{
    uint64_t rollover = (EHCI_ROLLOVER - e->r.frindex % EHCI_ROLLOVER + 7) / 8;
    bool idle = (e->r.usbcmd & (USBCMD_PSE | USBCMD_ASE)) == 0;

    if ((e->r.usbintr & USBSTS_ROLLOVER) != 0 && (idle || ms > rollover)) {
        ms = rollover;
        idle = false;
    }
    if (!ehci_running(e) || idle) {
        timer_cancel(&e->h.walk);
        return;
    }
    timer_set(&e->h.walk, e->h.frame_ns + ms * EHCI_FRAME_NS);
}

void ehci_walk_timer(void *arg)
{
    struct ehci *e = arg;
    uint32_t ms;

    ehci_walk(e);
    ms = e->h.quiet_ms / WALK_BACKOFF;
    plan_walk(e, ms > 1 ? ms : 1);
}

void ehci_hurry(struct ehci *e)
{
    uint64_t passed = (ehci_now_ns(e) - e->h.frame_ns) / EHCI_FRAME_NS;

    e->h.quiet_ms = 0;
    plan_walk(e, passed > 0 ? passed : 1);
}
