/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event ring, and transfer rings. A transfer ring is executed one TRB at a time, and what has
 * been done of the TD is in struct xhci_ep: it can wait anywhere, for the device or for the guest.
 * What a device sends is kept until the TRBs of the TD have taken it.
 */
#include <stdatomic.h>
#include <string.h>

#include "core/log.h"
#include "hw/xhci_int.h"

enum { /* 6.5 */
       SEGMENT_TRBS_MIN = 16,
       SEGMENT_TRBS_MAX = 4096,
       ERST_ENTRY_BYTES = 16,
       ERDP_FLAGS = 15,
       EVENTS_PER_TRB = 2,
       NO_ROOM_FOR_MORE = 1,
};
enum { MICROFRAME_NS = 125000, TURN_TRBS = 64 };

/* ---- memory ---- */

static bool is_ram(struct xhci *x, uint64_t addr, uint32_t len)
{
    while (len > 0) {
        size_t n;

        if (guestmem_span(x->pd.board->mem, addr, len, &n) == NULL) {
            return false;
        }
        addr += n;
        len -= (uint32_t)n;
    }
    return true;
}

bool xhci_read(struct xhci *x, uint64_t addr, void *buf, uint32_t len)
{
    if (!is_ram(x, addr, len)) {
        memset(buf, 0xff, len);
        xhci_fatal(x, "read", addr);
        return false;
    }
    guestmem_read(x->pd.board->mem, addr, buf, len);
    return true;
}

bool xhci_write(struct xhci *x, uint64_t addr, const void *buf, uint32_t len)
{
    if (!is_ram(x, addr, len)) {
        xhci_fatal(x, "write", addr);
        return false;
    }
    guestmem_write(x->pd.board->mem, addr, buf, len);
    return true;
}

bool xhci_fetch(struct xhci *x, uint64_t addr, bool cycle, struct xhci_trb *t)
{
    uint8_t b[XHCI_TRB_BYTES];

    /* The cycle bit is looked at first: a CPU that is writing the TRB right now writes it last. */
    if (!xhci_read(x, addr + 12, b, 4) || (b[0] & TRB_CYCLE) != cycle) {
        return false;
    }
    atomic_thread_fence(memory_order_acquire);
    if (!xhci_read(x, addr, b, sizeof(b))) {
        return false;
    }
    *t = (struct xhci_trb){.param = (uint64_t)pci_get32(b, 4) << 32 | pci_get32(b, 0),
                           .status = pci_get32(b, 8),
                           .control = pci_get32(b, 12)};
    return (t->control & TRB_CYCLE) == cycle;
}

/* ---- event ring (4.9.4) ---- */

/* Reads the segment table; false if there is none, or it is not valid. */
static bool load_segments(struct xhci *x)
{
    struct xhci_regs *r = &x->r;

    if (r->erst_loaded || r->erstsz == 0) {
        return r->erst_loaded;
    }
    for (unsigned i = 0; i < r->erstsz; i++) {
        uint8_t b[ERST_ENTRY_BYTES];

        if (!xhci_read(x, r->erstba + i * sizeof(b), b, sizeof(b))) {
            return false;
        }
        r->segment[i] = ((uint64_t)pci_get32(b, 4) << 32 | pci_get32(b, 0)) & ~UINT64_C(63);
        r->segment_trbs[i] = pci_get16(b, 8);
        if (r->segment_trbs[i] < SEGMENT_TRBS_MIN || r->segment_trbs[i] > SEGMENT_TRBS_MAX) {
            xhci_fatal(x, "event ring segment", r->erstba);
            return false;
        }
    }
    r->event_segment = 0;
    r->event_index = 0;
    r->event_cycle = true;
    r->erst_loaded = true;
    return true;
}

/* TRBs that can be written before the guest's dequeue pointer is reached; all but one if it is here,
 * none if it is nowhere. */
static unsigned events_free(const struct xhci *x)
{
    const struct xhci_regs *r = &x->r;
    uint64_t erdp = r->erdp & ~(uint64_t)ERDP_FLAGS;
    unsigned total = 0;
    unsigned here = 0;
    unsigned there = 0;
    bool found = false;

    for (unsigned i = 0; i < r->erstsz; i++) {
        if (i == r->event_segment) {
            here = total + r->event_index;
        }
        if (!found && erdp - r->segment[i] < (uint64_t)r->segment_trbs[i] * XHCI_TRB_BYTES) {
            there = total + (unsigned)((erdp - r->segment[i]) / XHCI_TRB_BYTES);
            found = true;
        }
        total += r->segment_trbs[i];
    }
    return found ? (there + total - here - 1) % total : 0;
}

static void write_event(struct xhci *x, const struct xhci_trb *t)
{
    struct xhci_regs *r = &x->r;
    uint64_t addr = r->segment[r->event_segment] + (uint64_t)r->event_index * XHCI_TRB_BYTES;
    uint8_t b[XHCI_TRB_BYTES];

    pci_set32(b, 0, (uint32_t)t->param);
    pci_set32(b, 4, (uint32_t)(t->param >> 32));
    pci_set32(b, 8, t->status);
    pci_set32(b, 12, (t->control & ~(uint32_t)TRB_CYCLE) | r->event_cycle);
    if (!xhci_write(x, addr, b, 12)) {
        return;
    }
    atomic_thread_fence(memory_order_release); /* another CPU may be waiting for the cycle bit */
    if (!xhci_write(x, addr + 12, b + 12, 4)) {
        return;
    }
    if (++r->event_index == r->segment_trbs[r->event_segment]) {
        r->event_index = 0;
        if (++r->event_segment == r->erstsz) {
            r->event_segment = 0;
            r->event_cycle = !r->event_cycle;
        }
    }
}

bool xhci_event_room(struct xhci *x)
{
    static const struct xhci_trb full = {.status = (uint32_t)CODE_EVENT_RING_FULL << 24,
                                         .control = TRB_HOST_CONTROLLER << TRB_TYPE_AT};
    unsigned room;

    if (!load_segments(x)) {
        return false;
    }
    room = events_free(x);
    if (room >= EVENTS_PER_TRB + NO_ROOM_FOR_MORE) {
        x->r.event_full = x->r.event_full && !xhci_events_seen(x); /* once until all are seen */
        return true;
    }
    if (room > 0 && !x->r.event_full) {
        x->r.event_full = true;
        write_event(x, &full);
        x->r.event_pending = true;
    }
    return false;
}

bool xhci_events_seen(struct xhci *x)
{
    const struct xhci_regs *r = &x->r;

    return !r->erst_loaded ||
           (r->erdp & ~(uint64_t)ERDP_FLAGS) ==
               r->segment[r->event_segment] + (uint64_t)r->event_index * XHCI_TRB_BYTES;
}

void xhci_event(struct xhci *x, const struct xhci_trb *t, bool interrupts)
{
    if (!x->r.erst_loaded) { /* DMA failed since there was room */
        return;
    }
    trace("xhci", "event", "type %u %#llx status %#x control %#x", trb_type(t),
          (unsigned long long)t->param, t->status, t->control);
    write_event(x, t);
    x->r.event_pending = x->r.event_pending || interrupts;
}

/* ---- transfers ---- */

/* What a TRB is executed with. */
struct transfer {
    struct xhci *x;
    struct xhci_slot *s;
    struct xhci_ep *ep;
    struct xhci_trb trb;
    unsigned slot, dci;
};

enum step {
    STEP_ON,   /* the ring has moved */
    STEP_IDLE, /* the device has nothing to say: when it wakes */
    STEP_LATER /* h.due_ns */
};

enum { WAIT_DUE = -16 }; /* beside USB_NAK and the others: not before h.due_ns */

static void transfer_event(const struct transfer *c, uint64_t param, uint32_t len,
                           enum xhci_code code, bool event_data)
{
    const struct xhci_trb t = {.param = param,
                               .status = (uint32_t)code << 24 | (len & XHCI_EDTLA),
                               .control = (c->slot + 1) << 24 | c->dci << 16 |
                                          (event_data ? TRB_ED : 0) |
                                          TRB_TRANSFER_EVENT << TRB_TYPE_AT};

    xhci_event(c->x, &t, (c->trb.control & TRB_BEI) == 0);
}

void xhci_restart_ring(struct xhci_ep *ep)
{
    ep->offset = ep->edtla = 0;
    ep->in_td = ep->shrt = ep->reported = false;
    ep->pos = ep->len = 0;
}

/* To the next TRB. */
static enum step advance(const struct transfer *c)
{
    struct xhci_ep *ep = c->ep;

    ep->dequeue += XHCI_TRB_BYTES;
    ep->offset = 0;
    ep->in_td = (c->trb.control & TRB_CHAIN) != 0;
    if (!ep->in_td) {
        xhci_restart_ring(ep);
    }
    return STEP_ON;
}

static enum step complete(const struct transfer *c)
{
    if ((c->trb.control & TRB_IOC) != 0) {
        transfer_event(c, c->ep->dequeue, 0, CODE_SUCCESS, false);
    }
    return advance(c);
}

/* The TD failed: the endpoint halts, or is in error, at this TRB. */
static enum step fail(const struct transfer *c, enum xhci_code code)
{
    struct xhci_ep *ep = c->ep;
    uint32_t len = c->trb.status & XHCI_TRB_LEN;

    trace("xhci", "fail", "slot %u endpoint %u code %u", c->slot + 1, c->dci, code);
    ep->state = code == CODE_TRB_ERROR ? EP_ERROR : EP_HALTED;
    transfer_event(c, ep->dequeue, len > ep->offset ? len - ep->offset : 0, code, false);
    xhci_restart_ring(ep);
    xhci_endpoint_context(c->x, c->slot, c->dci);
    return STEP_ON;
}

/* What came of a transaction that did not move data. */
static enum step no_data(const struct transfer *c, int why)
{
    switch (why) {
    case USB_NAK:
        return STEP_IDLE;
    case WAIT_DUE:
        return STEP_LATER;
    case USB_STALL:
        return fail(c, CODE_STALL);
    default:
        return fail(c, CODE_TRANSACTION_ERROR);
    }
}

static int transact(const struct transfer *c, uint8_t pid, uint8_t *data, unsigned len)
{
    bool asleep;
    struct usb_device *d = xhci_device(c->x, c->s, &asleep);
    uint64_t *due = &c->x->h.due_ns[c->slot][c->dci];
    int n;

    if (d == NULL) {
        return asleep ? USB_NAK : USB_SILENT;
    }
    if (c->ep->type == EP_INTERRUPT_IN && xhci_now(c->x) < *due) {
        return WAIT_DUE;
    }
    n = usb_transaction(d, pid, c->dci / 2, data, len);
    if (n >= 0 && c->ep->type == EP_INTERRUPT_IN) {
        c->x->h.poll_ns[c->s->port] = 0;
        *due = xhci_now(c->x) + ((uint64_t)MICROFRAME_NS << c->ep->interval);
    }
    return n;
}

/* A packet was the last one of its TD, and did not fill it. */
static enum step short_packet(const struct transfer *c)
{
    struct xhci_ep *ep = c->ep;
    uint32_t left = (c->trb.status & XHCI_TRB_LEN) - ep->offset;

    if (left == 0 && (c->trb.control & TRB_CHAIN) == 0) {
        return complete(c);
    }
    ep->shrt = true;
    if ((c->trb.control & (TRB_IOC | TRB_ISP)) != 0) {
        ep->reported = true;
        transfer_event(c, ep->dequeue, left, CODE_SHORT_PACKET, false);
    }
    return advance(c);
}

static enum step data_in(const struct transfer *c)
{
    struct xhci_ep *ep = c->ep;
    uint32_t len = c->trb.status & XHCI_TRB_LEN;

    while (ep->offset < len) {
        uint32_t n;

        if (ep->pos == ep->len) {
            int got = transact(c, USB_PID_IN, ep->packet, 0);

            ep->pos = ep->len = 0;
            if (got < 0) {
                return no_data(c, got);
            }
            if (got > ep->max_packet) {
                return fail(c, CODE_BABBLE);
            }
            ep->len = (uint8_t)got;
            if (got == 0) {
                return short_packet(c);
            }
        }
        n = (uint32_t)(ep->len - ep->pos);
        n = n < len - ep->offset ? n : len - ep->offset;
        if (!xhci_write(c->x, c->trb.param + ep->offset, ep->packet + ep->pos, n)) {
            return STEP_IDLE;
        }
        ep->pos = (uint8_t)(ep->pos + n);
        ep->offset += n;
        ep->edtla = (ep->edtla + n) & XHCI_EDTLA;
        if (ep->pos == ep->len && ep->len < ep->max_packet) {
            return short_packet(c);
        }
    }
    if ((c->trb.control & TRB_CHAIN) == 0 && ep->pos < ep->len) {
        return fail(c, CODE_BABBLE); /* more than the TD has room for */
    }
    return complete(c);
}

static enum step data_out(const struct transfer *c)
{
    struct xhci_ep *ep = c->ep;
    uint32_t len = c->trb.status & XHCI_TRB_LEN;
    unsigned packet = ep->max_packet < USB_PACKET_BYTES ? ep->max_packet : USB_PACKET_BYTES;
    bool last = (c->trb.control & TRB_CHAIN) == 0;

    for (;;) {
        uint32_t n = ep->len < packet ? packet - ep->len : 0;
        uint8_t *to = ep->packet + ep->len;

        n = n < len - ep->offset ? n : len - ep->offset;
        if ((c->trb.control & TRB_IDT) != 0) {
            for (uint32_t i = 0; i < n; i++) {
                to[i] = (uint8_t)(c->trb.param >> 8 * (ep->offset + i));
            }
        } else if (!xhci_read(c->x, c->trb.param + ep->offset, to, n)) {
            return STEP_IDLE;
        }
        ep->len = (uint8_t)(ep->len + n);
        ep->offset += n;
        if (ep->len >= packet || (last && ep->offset == len && ep->len > 0)) {
            int sent = transact(c, USB_PID_OUT, ep->packet, ep->len);

            if (sent < 0) { /* NAK: again, with what is in the packet */
                return no_data(c, sent);
            }
            ep->edtla = (ep->edtla + ep->len) & XHCI_EDTLA;
            ep->len = 0;
        }
        if (ep->offset == len) {
            return complete(c);
        }
    }
}

/* Normal, and the data of Data. */
static enum step run_data(const struct transfer *c)
{
    bool control = c->ep->type == EP_CONTROL;
    bool in = control ? c->ep->data_in : (c->dci & 1) != 0;
    bool idt = (c->trb.control & TRB_IDT) != 0;

    if (control && trb_type(&c->trb) == TRB_NORMAL && !c->ep->in_td) {
        return fail(c, CODE_TRB_ERROR);
    }
    if (idt && (in || (c->trb.status & XHCI_TRB_LEN) > 8)) {
        return fail(c, CODE_TRB_ERROR);
    }
    /* Where a packet was NAKed its direction cannot change: another one starts anew. */
    return in ? data_in(c) : data_out(c);
}

static enum step run_data_stage(const struct transfer *c)
{
    bool in = (c->trb.control & TRB_DIR_IN) != 0;

    if (in != c->ep->data_in) {
        c->ep->data_in = in;
        c->ep->pos = c->ep->len = 0;
    }
    return run_data(c);
}

static enum step run_setup(const struct transfer *c)
{
    uint8_t b[8];
    int n;

    if ((c->trb.control & TRB_IDT) == 0 || (c->trb.status & XHCI_TRB_LEN) != sizeof(b)) {
        return fail(c, CODE_TRB_ERROR);
    }
    pci_set32(b, 0, (uint32_t)c->trb.param);
    pci_set32(b, 4, (uint32_t)(c->trb.param >> 32));
    c->ep->pos = c->ep->len = 0;
    n = transact(c, USB_PID_SETUP, b, sizeof(b));
    return n < 0 ? no_data(c, n) : complete(c);
}

static enum step run_status(const struct transfer *c)
{
    uint8_t b[USB_PACKET_BYTES];
    bool in = (c->trb.control & TRB_DIR_IN) != 0;
    int n = transact(c, in ? USB_PID_IN : USB_PID_OUT, b, 0);

    if (n > 0) {
        return fail(c, CODE_BABBLE);
    }
    return n < 0 ? no_data(c, n) : complete(c);
}

static enum step run_link(const struct transfer *c)
{
    struct xhci_ep *ep = c->ep;

    if ((c->trb.control & TRB_IOC) != 0) {
        transfer_event(c, ep->dequeue, 0, CODE_SUCCESS, false);
    }
    ep->dequeue = c->trb.param & ~UINT64_C(15);
    ep->cycle = ep->cycle != ((c->trb.control & TRB_TOGGLE) != 0);
    return STEP_ON;
}

static enum step run_event_data(const struct transfer *c)
{
    if ((c->trb.control & TRB_IOC) != 0) {
        transfer_event(c, c->trb.param, c->ep->edtla,
                       c->ep->shrt ? CODE_SHORT_PACKET : CODE_SUCCESS, true);
    }
    c->ep->edtla = 0;
    return advance(c);
}

/* The rest of a TD after a short packet. */
static enum step skip(const struct transfer *c)
{
    switch (trb_type(&c->trb)) {
    case TRB_LINK:
        return run_link(c);
    case TRB_EVENT_DATA:
        return run_event_data(c);
    default:
        if ((c->trb.control & TRB_IOC) != 0 && !c->ep->reported) {
            c->ep->reported = true;
            transfer_event(c, c->ep->dequeue, c->trb.status & XHCI_TRB_LEN, CODE_SHORT_PACKET,
                           false);
        }
        return advance(c);
    }
}

static enum step run_trb(const struct transfer *c)
{
    static const struct {
        enum step (*run)(const struct transfer *c);
        bool control, other; /* endpoints that take it */
    } types[TRB_TYPES] = {
        [TRB_NORMAL] = {run_data, true, true},      [TRB_SETUP] = {run_setup, true, false},
        [TRB_DATA] = {run_data_stage, true, false}, [TRB_STATUS] = {run_status, true, false},
        [TRB_LINK] = {run_link, true, true},        [TRB_EVENT_DATA] = {run_event_data, true, true},
        [TRB_NOOP] = {complete, true, true},
    };
    unsigned type = trb_type(&c->trb);

    if (c->ep->shrt) {
        return skip(c);
    }
    if (types[type].run == NULL ||
        !(c->ep->type == EP_CONTROL ? types[type].control : types[type].other)) {
        return fail(c, CODE_TRB_ERROR);
    }
    return types[type].run(c);
}

void xhci_run_endpoint(struct xhci *x, unsigned slot, unsigned dci)
{
    struct transfer c = {
        .x = x, .s = &x->r.slot[slot], .ep = &x->r.slot[slot].ep[dci], .slot = slot, .dci = dci};
    uint32_t bit = 1u << dci;
    unsigned turn = TURN_TRBS; /* others want some of the budget, too */

    while (c.ep->state == EP_RUNNING && xhci_running(x)) {
        if (x->h.budget == 0 || turn == 0) {
            xhci_come_back(x, xhci_now(x) + XHCI_LATER_NS);
            return;
        }
        if (!xhci_event_room(x)) { /* until the guest has made some */
            return;
        }
        x->h.budget--;
        turn--;
        if (!xhci_fetch(x, c.ep->dequeue, c.ep->cycle, &c.trb)) {
            break;
        }
        switch (run_trb(&c)) {
        case STEP_LATER:
            xhci_come_back(x, x->h.due_ns[slot][dci]);
            return;
        case STEP_IDLE:
            x->h.rung[slot] &= ~bit;
            return;
        default:
            break;
        }
    }
    x->h.rung[slot] &= ~bit;
}

/* 4.6.9: an event for a TD that has begun, or would have. */
void xhci_stopped_event(struct xhci *x, unsigned slot, unsigned dci)
{
    struct transfer c = {
        .x = x, .s = &x->r.slot[slot], .ep = &x->r.slot[slot].ep[dci], .slot = slot, .dci = dci};
    uint32_t len;

    if (xhci_fetch(x, c.ep->dequeue, c.ep->cycle, &c.trb)) {
        len = c.trb.status & XHCI_TRB_LEN;
        transfer_event(&c, c.ep->dequeue, len > c.ep->offset ? len - c.ep->offset : 0, CODE_STOPPED,
                       false);
    } else if (c.ep->in_td) {
        transfer_event(&c, c.ep->dequeue, 0, CODE_STOPPED_LENGTH, false);
    }
}
