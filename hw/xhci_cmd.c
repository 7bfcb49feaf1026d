/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command ring (4.9.3), the commands (4.6) and the contexts (6.2). What a context says is copied
 * when a command hands it over; afterwards the controller only writes to it.
 */
#include <string.h>

#include "core/log.h"
#include "hw/xhci_int.h"

enum { /* 6.2.5.1: the Input Control Context, and what is in the contexts */
       INPUT_DROP = 0,
       INPUT_ADD = 4,
       ADD_SLOT = 1,
       ADD_EP0 = 2,
       ADD_ENDPOINTS = ~3,
       SLOT_ROUTE = 0xfffff,
       SLOT_ENTRIES_AT = 27,
       SLOT_STATE_AT = 27,
       SLOT_EXIT_LATENCY = 0xffff,
       SLOT_NO_INTERRUPTER = 0x3fffff,
       EP_STREAMS = 0x7c00,
       INTERVAL_MAX = 15,
       NEC_FIRMWARE = 0x3034,        /* version 30.34 */
       BANDWIDTH_PERCENT_HIGH = 80,  /* of a microframe, for periodic transfers (USB 2.0, 5.7.4) */
       BANDWIDTH_PERCENT_SUPER = 90, /* USB 3.0, 8.12.5 */
       SPEED_SUPER = 4,
};

struct context {
    uint32_t dw[XHCI_CONTEXT_BYTES / 4];
};

/* ---- contexts ---- */

static bool read_context(struct xhci *x, uint64_t addr, struct context *c)
{
    uint8_t b[XHCI_CONTEXT_BYTES];
    bool ok = xhci_read(x, addr, b, sizeof(b));

    for (unsigned i = 0; i < sizeof(c->dw) / 4; i++) {
        c->dw[i] = pci_get32(b, 4 * i);
    }
    return ok;
}

static void write_context(struct xhci *x, uint64_t addr, const struct context *c)
{
    uint8_t b[XHCI_CONTEXT_BYTES];

    for (unsigned i = 0; i < sizeof(c->dw) / 4; i++) {
        pci_set32(b, 4 * i, c->dw[i]);
    }
    xhci_write(x, addr, b, sizeof(b));
}

static uint64_t context_at(uint64_t base, unsigned n)
{
    return base + (uint64_t)n * XHCI_CONTEXT_BYTES;
}

/* The fields of an output endpoint context that are the controller's. */
static void put_endpoint(struct context *c, const struct xhci_ep *ep)
{
    c->dw[0] = (c->dw[0] & ~7u) | ep->state;
    c->dw[2] = (uint32_t)ep->dequeue | ep->cycle;
    c->dw[3] = (uint32_t)(ep->dequeue >> 32);
}

void xhci_endpoint_context(struct xhci *x, unsigned slot, unsigned dci)
{
    const struct xhci_slot *s = &x->r.slot[slot];
    uint64_t addr = context_at(s->context, dci);
    struct context c;

    if (s->state != SLOT_ENABLED && read_context(x, addr, &c)) {
        put_endpoint(&c, &s->ep[dci]);
        write_context(x, addr, &c);
    }
}

/* State, address and, if not 0, the number of contexts. */
static void slot_context(struct xhci *x, const struct xhci_slot *s, unsigned entries)
{
    struct context c;

    if (read_context(x, s->context, &c)) {
        if (entries != 0) {
            c.dw[0] = (c.dw[0] & ((1u << SLOT_ENTRIES_AT) - 1)) | entries << SLOT_ENTRIES_AT;
        }
        c.dw[3] = (uint32_t)s->state << SLOT_STATE_AT | s->address;
        write_context(x, s->context, &c);
    }
}

bool xhci_endpoint_type_valid(unsigned type, unsigned dci)
{
    if (dci == 1) {
        return type == EP_CONTROL;
    }
    return (dci & 1) != 0 ? type == EP_BULK_IN || type == EP_INTERRUPT_IN
                          : type == EP_BULK_OUT || type == EP_INTERRUPT_OUT;
}

/* What an input endpoint context asks for; CODE_SUCCESS, or why not. */
static enum xhci_code parse_endpoint(const struct context *c, unsigned dci, struct xhci_ep *ep)
{
    unsigned type = c->dw[1] >> 3 & 7;
    unsigned interval = c->dw[0] >> 16 & 0xff;

    if (type == EP_ISOCH_IN || type == EP_ISOCH_OUT) {
        /* DEVIATION: no device here has an isochronous endpoint. */
        return CODE_RESOURCE_ERROR;
    }
    *ep = (struct xhci_ep){
        .state = EP_RUNNING,
        .type = (uint8_t)type,
        .interval = (uint8_t)(interval < INTERVAL_MAX ? interval : INTERVAL_MAX),
        .max_packet = (uint16_t)(c->dw[1] >> 16),
        .cycle = (c->dw[2] & TRB_CYCLE) != 0,
        .dequeue = (uint64_t)c->dw[3] << 32 | (c->dw[2] & ~15u),
    };
    return xhci_endpoint_type_valid(type, dci) && ep->max_packet != 0 &&
                   (c->dw[0] & EP_STREAMS) == 0
               ? CODE_SUCCESS
               : CODE_PARAMETER_ERROR;
}

static void endpoint_off(struct xhci *x, unsigned slot, unsigned dci)
{
    x->r.slot[slot].ep[dci] = (struct xhci_ep){0};
    x->h.rung[slot] &= ~(1u << dci);
    x->h.due_ns[slot][dci] = 0;
}

void xhci_slot_clear(struct xhci *x, unsigned slot)
{
    for (unsigned dci = 1; dci < XHCI_DCIS; dci++) {
        if (x->r.slot[slot].ep[dci].state != EP_DISABLED) {
            endpoint_off(x, slot, dci);
        }
    }
    x->r.slot[slot].enabled = false;
    x->r.slot[slot].state = SLOT_ENABLED;
    x->r.slot[slot].address = 0;
    x->r.slot[slot].port = XHCI_NO_PORT;
    x->r.slot[slot].context = 0;
}

/* ---- commands ---- */

struct command {
    struct xhci *x;
    struct xhci_trb trb;
    unsigned slot;       /* from 0 */
    struct xhci_slot *s; /* NULL: a command without a slot */
    uint8_t reply_slot;  /* from 1 */
};

static enum xhci_code noop(struct command *c)
{
    (void)c;
    return CODE_SUCCESS;
}

static enum xhci_code enable_slot(struct command *c)
{
    unsigned slots = c->x->r.config & 0xff;

    for (unsigned i = 0; i < slots && i < XHCI_SLOTS; i++) {
        if (!c->x->r.slot[i].enabled) {
            xhci_slot_clear(c->x, i);
            c->x->r.slot[i].enabled = true;
            c->reply_slot = (uint8_t)(i + 1);
            return CODE_SUCCESS;
        }
    }
    return CODE_NO_SLOTS;
}

static enum xhci_code disable_slot(struct command *c)
{
    bool has_context = c->s->state != SLOT_ENABLED;
    uint64_t context = c->s->context;

    xhci_slot_clear(c->x, c->slot);
    if (has_context) {
        slot_context(c->x, &(struct xhci_slot){.context = context}, 0); /* disabled, no address */
    }
    return CODE_SUCCESS;
}

/* SET_ADDRESS on the bus, which the controller does itself (4.6.5). */
static enum xhci_code set_address(struct command *c)
{
    bool asleep;
    struct usb_device *d = xhci_device(c->x, c->s, &asleep);
    uint8_t packet[USB_PACKET_BYTES] = {0, USB_SET_ADDRESS, (uint8_t)(c->slot + 1)};
    int n;

    if (d == NULL) {
        return CODE_TRANSACTION_ERROR;
    }
    n = usb_transaction(d, USB_PID_SETUP, 0, packet, 8);
    if (n >= 0) {
        n = usb_transaction(d, USB_PID_IN, 0, packet, 0);
    }
    return n >= 0 ? CODE_SUCCESS : n == USB_STALL ? CODE_STALL : CODE_TRANSACTION_ERROR;
}

/* The port of the USB 2 bus that a slot context means. */
static uint8_t port_of(const struct xhci *x, const struct context *slot)
{
    unsigned number = slot->dw[1] >> 16 & 0xff;
    unsigned first = x->cfg.usb3_ports + 1u;

    /* No hub is plugged in: behind a port there is one device. */
    return (slot->dw[0] & SLOT_ROUTE) != 0 || number < first || number - first >= x->cfg.usb2_ports
               ? XHCI_NO_PORT
               : (uint8_t)(number - first);
}

static enum xhci_code address_device(struct command *c)
{
    struct xhci *x = c->x;
    uint64_t in = c->trb.param & ~UINT64_C(15);
    bool block = (c->trb.control & TRB_BSR) != 0;
    struct context input, slot, ep0;
    const uint8_t port = c->s->port;
    const uint8_t address = c->s->address;
    struct xhci_ep ep;
    uint8_t b[8];
    enum xhci_code code;

    if (c->s->state > SLOT_DEFAULT || (block && c->s->state != SLOT_ENABLED)) {
        return CODE_CONTEXT_STATE;
    }
    if (!read_context(x, in, &input) || !read_context(x, context_at(in, 1), &slot) ||
        !read_context(x, context_at(in, 2), &ep0) ||
        !xhci_read(x, x->r.dcbaap + 8 * (c->slot + 1), b, sizeof(b))) {
        return CODE_TRB_ERROR;
    }
    code = parse_endpoint(&ep0, 1, &ep);
    if ((input.dw[INPUT_ADD / 4] & (ADD_SLOT | ADD_EP0)) != (ADD_SLOT | ADD_EP0) ||
        code != CODE_SUCCESS || (slot.dw[1] >> 16 & 0xff) == 0 ||
        (slot.dw[1] >> 16 & 0xff) > x->cfg.usb2_ports + x->cfg.usb3_ports) {
        return CODE_PARAMETER_ERROR;
    }
    c->s->port = port_of(x, &slot);
    c->s->address = 0;
    if (!block) {
        code = set_address(c);
        if (code != CODE_SUCCESS) {
            c->s->port = port;
            c->s->address = address;
            return code;
        }
    }
    c->s->context = ((uint64_t)pci_get32(b, 4) << 32 | pci_get32(b, 0)) & ~UINT64_C(63);
    c->s->state = block ? SLOT_DEFAULT : SLOT_ADDRESSED;
    c->s->address = block ? 0 : (uint8_t)(c->slot + 1);
    c->s->ep[1] = ep;
    slot.dw[3] = (uint32_t)c->s->state << SLOT_STATE_AT | c->s->address;
    put_endpoint(&ep0, &c->s->ep[1]);
    write_context(x, c->s->context, &slot);
    write_context(x, context_at(c->s->context, 1), &ep0);
    return CODE_SUCCESS;
}

static void deconfigure(struct command *c)
{
    for (unsigned dci = 2; dci < XHCI_DCIS; dci++) {
        if (c->s->ep[dci].state != EP_DISABLED) {
            endpoint_off(c->x, c->slot, dci);
            xhci_endpoint_context(c->x, c->slot, dci);
        }
    }
}

/* Whether all that is to be added can be; nothing is changed. */
static enum xhci_code check_endpoints(struct command *c, uint64_t in, uint32_t add)
{
    for (unsigned dci = 2; dci < XHCI_DCIS; dci++) {
        struct context ctx;
        struct xhci_ep ep;
        enum xhci_code code;

        if ((add >> dci & 1) == 0) {
            continue;
        }
        if (!read_context(c->x, context_at(in, dci + 1), &ctx)) {
            return CODE_TRB_ERROR;
        }
        code = parse_endpoint(&ctx, dci, &ep);
        if (code != CODE_SUCCESS) {
            return code;
        }
    }
    return CODE_SUCCESS;
}

static void configure_endpoints(struct command *c, uint64_t in, uint32_t drop, uint32_t add)
{
    for (unsigned dci = 2; dci < XHCI_DCIS; dci++) {
        struct context ctx;
        struct xhci_ep ep;

        if ((drop >> dci & 1) != 0) {
            endpoint_off(c->x, c->slot, dci);
            xhci_endpoint_context(c->x, c->slot, dci);
        }
        /* Read again, and checked again: the guest may have changed it. */
        if ((add >> dci & 1) != 0 && read_context(c->x, context_at(in, dci + 1), &ctx) &&
            parse_endpoint(&ctx, dci, &ep) == CODE_SUCCESS) {
            endpoint_off(c->x, c->slot, dci);
            c->s->ep[dci] = ep;
            put_endpoint(&ctx, &ep);
            write_context(c->x, context_at(c->s->context, dci), &ctx);
        }
    }
}

static enum xhci_code configure_endpoint(struct command *c)
{
    uint64_t in = c->trb.param & ~UINT64_C(15);
    struct context input, slot;
    uint32_t drop, add;
    enum xhci_code code;
    bool any = false;

    if ((c->trb.control & TRB_DC) != 0) {
        if (c->s->state < SLOT_ADDRESSED) {
            return CODE_CONTEXT_STATE;
        }
        deconfigure(c);
        c->s->state = SLOT_ADDRESSED;
        slot_context(c->x, c->s, 1);
        return CODE_SUCCESS;
    }
    if (c->s->state < SLOT_ADDRESSED) {
        return CODE_CONTEXT_STATE;
    }
    if (!read_context(c->x, in, &input) || !read_context(c->x, context_at(in, 1), &slot)) {
        return CODE_TRB_ERROR;
    }
    drop = input.dw[INPUT_DROP / 4];
    add = input.dw[INPUT_ADD / 4];
    if ((drop & (ADD_SLOT | ADD_EP0)) != 0 || (add & (ADD_SLOT | ADD_EP0)) != ADD_SLOT) {
        return CODE_PARAMETER_ERROR;
    }
    code = check_endpoints(c, in, add);
    if (code != CODE_SUCCESS) {
        return code;
    }
    configure_endpoints(c, in, drop, add);
    for (unsigned dci = 2; dci < XHCI_DCIS; dci++) {
        any = any || c->s->ep[dci].state != EP_DISABLED;
    }
    c->s->state = any ? SLOT_CONFIGURED : SLOT_ADDRESSED;
    slot_context(c->x, c->s, slot.dw[0] >> SLOT_ENTRIES_AT);
    return CODE_SUCCESS;
}

static enum xhci_code evaluate_context(struct command *c)
{
    uint64_t in = c->trb.param & ~UINT64_C(15);
    struct context input, from, to;
    uint32_t add;

    if (c->s->state < SLOT_DEFAULT) {
        return CODE_CONTEXT_STATE;
    }
    if (!read_context(c->x, in, &input)) {
        return CODE_TRB_ERROR;
    }
    add = input.dw[INPUT_ADD / 4];
    if (input.dw[INPUT_DROP / 4] != 0) {
        return CODE_PARAMETER_ERROR;
    }
    if ((add & ADD_EP0) != 0) {
        if (!read_context(c->x, context_at(in, 2), &from) ||
            !read_context(c->x, context_at(c->s->context, 1), &to)) {
            return CODE_TRB_ERROR;
        }
        if (from.dw[1] >> 16 == 0) {
            return CODE_PARAMETER_ERROR;
        }
        c->s->ep[1].max_packet = (uint16_t)(from.dw[1] >> 16);
        to.dw[1] = (to.dw[1] & 0xffff) | (from.dw[1] & 0xffff0000);
        write_context(c->x, context_at(c->s->context, 1), &to);
    }
    if ((add & ADD_SLOT) != 0) {
        if (!read_context(c->x, context_at(in, 1), &from) ||
            !read_context(c->x, c->s->context, &to)) {
            return CODE_TRB_ERROR;
        }
        to.dw[1] = (to.dw[1] & ~(uint32_t)SLOT_EXIT_LATENCY) | (from.dw[1] & SLOT_EXIT_LATENCY);
        to.dw[2] = (to.dw[2] & SLOT_NO_INTERRUPTER) | (from.dw[2] & ~(uint32_t)SLOT_NO_INTERRUPTER);
        write_context(c->x, c->s->context, &to);
    }
    return CODE_SUCCESS;
}

/* The endpoint that a command names, or NULL and why not. */
static struct xhci_ep *endpoint_of(struct command *c, unsigned *dci, enum xhci_code *why)
{
    *dci = c->trb.control >> 16 & (XHCI_DCIS - 1);
    if (*dci == 0) {
        *why = CODE_TRB_ERROR;
        return NULL;
    }
    if (c->s->ep[*dci].state == EP_DISABLED) {
        *why = CODE_ENDPOINT_NOT_ENABLED;
        return NULL;
    }
    return &c->s->ep[*dci];
}

static enum xhci_code reset_endpoint(struct command *c)
{
    unsigned dci;
    enum xhci_code why;
    struct xhci_ep *ep = endpoint_of(c, &dci, &why);

    if (ep == NULL) {
        return why;
    }
    if (ep->state != EP_HALTED) {
        return CODE_CONTEXT_STATE;
    }
    ep->state = EP_STOPPED;
    xhci_endpoint_context(c->x, c->slot, dci);
    return CODE_SUCCESS;
}

static enum xhci_code stop_endpoint(struct command *c)
{
    unsigned dci;
    enum xhci_code why;
    struct xhci_ep *ep = endpoint_of(c, &dci, &why);

    if (ep == NULL) {
        return why;
    }
    if (ep->state != EP_RUNNING) {
        return CODE_CONTEXT_STATE;
    }
    xhci_stopped_event(c->x, c->slot, dci);
    ep->state = EP_STOPPED;
    c->x->h.rung[c->slot] &= ~(1u << dci);
    xhci_endpoint_context(c->x, c->slot, dci);
    return CODE_SUCCESS;
}

static enum xhci_code set_tr_dequeue(struct command *c)
{
    unsigned dci;
    enum xhci_code why;
    struct xhci_ep *ep = endpoint_of(c, &dci, &why);

    if (ep == NULL) {
        return why;
    }
    if (ep->state != EP_STOPPED && ep->state != EP_ERROR) {
        return CODE_CONTEXT_STATE;
    }
    if (c->trb.status >> 16 != 0) {
        return CODE_TRB_ERROR; /* no endpoint has streams */
    }
    ep->state = EP_STOPPED;
    ep->dequeue = c->trb.param & ~UINT64_C(15);
    ep->cycle = (c->trb.param & TRB_CYCLE) != 0;
    xhci_restart_ring(ep);
    xhci_endpoint_context(c->x, c->slot, dci);
    return CODE_SUCCESS;
}

static enum xhci_code reset_device(struct command *c)
{
    if (c->s->state < SLOT_ADDRESSED) {
        return CODE_CONTEXT_STATE;
    }
    deconfigure(c);
    xhci_restart_ring(&c->s->ep[1]);
    c->s->state = SLOT_DEFAULT;
    c->s->address = 0;
    slot_context(c->x, c->s, 1);
    return CODE_SUCCESS;
}

static enum xhci_code get_port_bandwidth(struct command *c)
{
    unsigned ports = c->x->cfg.usb3_ports + c->x->cfg.usb2_ports;
    bool super = (c->trb.control >> 16 & 15) == SPEED_SUPER;
    uint8_t b[1 + 2 * XHCI_PORTS_MAX] = {0};

    for (unsigned i = 0; i < ports; i++) {
        bool usb3 = i < c->x->cfg.usb3_ports;

        b[1 + i] = usb3 != super ? 0 : super ? BANDWIDTH_PERCENT_SUPER : BANDWIDTH_PERCENT_HIGH;
    }
    return xhci_write(c->x, c->trb.param & ~UINT64_C(15), b, 1 + ports) ? CODE_SUCCESS
                                                                        : CODE_TRB_ERROR;
}

/* A header for a USB 3 link: nobody is there to take it. */
static enum xhci_code force_header(struct command *c)
{
    unsigned port = c->trb.control >> 24;

    return port == 0 || port > c->x->cfg.usb3_ports ? CODE_TRB_ERROR : CODE_TRANSACTION_ERROR;
}

/* DEVIATION: NEC's other command (50), by which its own driver asks whether the chip is NEC's, is
 * refused as any unknown one. */
static const struct {
    enum xhci_code (*run)(struct command *c);
    bool slot;          /* is about an enabled slot */
    uint8_t completion; /* type of the event, 0: Command Completion */
    uint32_t status;    /* more of it */
} commands[TRB_TYPES] = {
    [TRB_ENABLE_SLOT] = {enable_slot, false, 0, 0},
    [TRB_DISABLE_SLOT] = {disable_slot, true, 0, 0},
    [TRB_ADDRESS_DEVICE] = {address_device, true, 0, 0},
    [TRB_CONFIGURE_ENDPOINT] = {configure_endpoint, true, 0, 0},
    [TRB_EVALUATE_CONTEXT] = {evaluate_context, true, 0, 0},
    [TRB_RESET_ENDPOINT] = {reset_endpoint, true, 0, 0},
    [TRB_STOP_ENDPOINT] = {stop_endpoint, true, 0, 0},
    [TRB_SET_TR_DEQUEUE] = {set_tr_dequeue, true, 0, 0},
    [TRB_RESET_DEVICE] = {reset_device, true, 0, 0},
    [TRB_GET_PORT_BANDWIDTH] = {get_port_bandwidth, false, 0, 0},
    [TRB_FORCE_HEADER] = {force_header, false, 0, 0},
    [TRB_NOOP_COMMAND] = {noop, false, 0, 0},
    [TRB_NEC_GET_FIRMWARE] = {noop, false, TRB_NEC_COMPLETION, NEC_FIRMWARE},
};

static void run_command(struct xhci *x, const struct xhci_trb *trb)
{
    struct command c = {.x = x, .trb = *trb};
    unsigned type = trb_type(trb);
    unsigned number = trb->control >> 24;
    struct xhci_trb event = {.param = x->r.command};
    enum xhci_code code = CODE_TRB_ERROR;

    trace("xhci", "command", "type %u %#llx control %#x", type, (unsigned long long)trb->param,
          trb->control);
    if (commands[type].run != NULL && !commands[type].slot) {
        code = commands[type].run(&c);
    } else if (commands[type].run != NULL && number >= 1 && number <= XHCI_SLOTS) {
        c.slot = number - 1;
        c.s = &x->r.slot[c.slot];
        c.reply_slot = (uint8_t)number;
        code = c.s->enabled ? commands[type].run(&c) : CODE_SLOT_NOT_ENABLED;
    }
    event.status = (uint32_t)code << 24 | commands[type].status;
    event.control = (uint32_t)c.reply_slot << 24 |
                    (commands[type].completion != 0 ? commands[type].completion
                                                    : (uint32_t)TRB_COMMAND_COMPLETION)
                        << TRB_TYPE_AT;
    if (xhci_running(x)) { /* no DMA has failed */
        xhci_event(x, &event, true);
    }
}

void xhci_run_commands(struct xhci *x)
{
    struct xhci_regs *r = &x->r;
    struct xhci_trb t;

    while (xhci_running(x) && r->command_running) {
        if (x->h.budget == 0) {
            xhci_come_back(x, xhci_now(x) + XHCI_LATER_NS);
            return;
        }
        if (!xhci_event_room(x)) {
            return;
        }
        x->h.budget--;
        if (!xhci_fetch(x, r->command, r->command_cycle, &t)) {
            break;
        }
        if (trb_type(&t) == TRB_LINK) {
            r->command = t.param & ~UINT64_C(15);
            r->command_cycle = r->command_cycle != ((t.control & TRB_TOGGLE) != 0);
            continue;
        }
        run_command(x, &t);
        r->command += XHCI_TRB_BYTES;
    }
    x->h.command_rung = false;
}
