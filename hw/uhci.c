/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When frames are processed. The chip walks the schedule every millisecond, and almost always finds
 * interrupt endpoints that have nothing to say. Here a timer walks all frames that have passed
 * since the last walk at once, each frame list entry once, and the time between two walks grows from
 * 1 ms to WALK_MAX_MS while nothing moves. It is back at 1 ms when a device gets an event, a
 * transfer completes, or the guest writes to a register. A driver that queues a transfer in memory
 * without touching a register (Linux does, for control transfers out of the blue; a driver that got
 * an interrupt writes USBSTS) is noticed after WALK_MAX_MS at worst, and then goes on at full speed:
 * a key lamp that lights 32 ms late, against 1000 wake-ups a second for an idle tablet.
 */
#include "hw/uhci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/pci.h"
#include "hw/usb.h"

enum uhci_reg { /* UHCI 1.1, 2.1; what is between the last port and the end reads as UNUSED */
                UHCI_USBCMD = 0x00,
                UHCI_USBSTS = 0x02,
                UHCI_USBINTR = 0x04,
                UHCI_FRNUM = 0x06,
                UHCI_FLBASEADD = 0x08,
                UHCI_SOFMOD = 0x0c,
                UHCI_PORTSC1 = 0x10,
                UHCI_PORTSC2 = 0x12,
                UHCI_REGS = 0x20,
                UHCI_UNUSED = 0xff7f, /* bit 7 is 0: not a port */
};
enum { USBCMD_RS = 1, USBCMD_HCRESET = 2, USBCMD_GRESET = 4, USBCMD_EGSM = 8, USBCMD_FGR = 16 };
enum {
    USBSTS_INT = 1,
    USBSTS_ERROR = 2,
    USBSTS_RESUME = 4,
    USBSTS_HSE = 8,
    USBSTS_HCPE = 0x10,
    USBSTS_HALTED = 0x20,
    USBSTS_ALL = 0x3f,
};
enum { USBINTR_CRC = 1, USBINTR_RESUME = 2, USBINTR_IOC = 4, USBINTR_SHORT = 8, USBINTR_ALL = 15 };
enum {
    PORTSC_CCS = 1,
    PORTSC_CSC = 2,
    PORTSC_PE = 4,
    PORTSC_PEC = 8,
    PORTSC_D_PLUS = 0x10, /* line status: an idle full-speed device pulls D+ up */
    PORTSC_RD = 0x40,
    PORTSC_ONE = 0x80,
    PORTSC_PR = 0x200,
    PORTSC_SUSPEND = 0x1000,
    PORTSC_W1C = PORTSC_CSC | PORTSC_PEC,
    PORTSC_RW = PORTSC_PE | PORTSC_RD | PORTSC_PR | PORTSC_SUSPEND,
    PORTSC_SAVED = PORTSC_RW | PORTSC_W1C,
};
enum { SOFMOD_RESET = 0x40, SOFMOD_MASK = 0x7f, FRNUM_MASK = 0x7ff, FRAMES = 1024 };
enum { /* PIIX3 2.4: serial bus release number; legacy support */
       CONFIG_SBRN = 0x60,
       CONFIG_LEGSUP = 0xc0,
       LEGSUP_RESET = 0x2000,
       LEGSUP_RW = 0x20bf,
       LEGSUP_W1C = 0x8f00,
       LEGSUP_PIRQ_ENABLE = 0x2000,
       LEGSUP_IRQ_STATUS = 0x1000,
};

/* Schedule, UHCI 1.1 chapter 3. */
enum { LINK_T = 1, LINK_QH = 2, LINK_DEPTH = 4, LINK_FLAGS = 15 };
enum td_status {
    TD_ACTLEN = 0x7ff,
    TD_CRC_TIMEOUT = 1 << 18,
    TD_NAK = 1 << 19,
    TD_BABBLE = 1 << 20,
    TD_STALLED = 1 << 22,
    TD_ACTIVE = 1 << 23,
    TD_IOC = 1 << 24,
    TD_ISO = 1 << 25,
    TD_ERRORS_AT = 27,
    TD_ERRORS = 3 << TD_ERRORS_AT,
    TD_SPD = 1 << 29,
    TD_RESULT = TD_CRC_TIMEOUT | TD_NAK | TD_BABBLE | TD_STALLED | 1 << 21 | 1 << 17,
    TD_MAX_BYTES = 1280, /* a token that asks for more is a process error */
};

enum {
    FRAME_NS = 1000000,
    WALK_MAX_MS = 32,
    WALK_BACKOFF = 16,     /* the time to the next walk is this fraction of the quiet time */
    CATCH_UP_FRAMES = 128, /* older ones are lost, as when the guest's CPU stood still */
    FRAME_BYTES = 1500,    /* 12 Mb/s */
    PACKET_OVERHEAD = 20,  /* bytes on the bus besides the data, about */
    WALK_LINKS = 2048,     /* queue heads and descriptors that one walk looks at */
    QUIET_HEADS = 16,
};

struct uhci_regs {
    uint16_t usbcmd, usbsts, usbintr;
    uint16_t frnum; /* of the frame that began at h.frame_ns */
    uint32_t flbaseadd;
    uint8_t sofmod;
    uint16_t portsc[UHCI_PORTS]; /* PORTSC_SAVED; the rest is what is plugged in */
    bool ioc, shrt;              /* reasons for USBSTS_INT */
};

struct uhci {
    struct pci_device pd;
    struct uhci_regs r;
    struct {
        struct timer walk;
        uint64_t frame_ns; /* virtual time */
        uint32_t quiet_ms; /* since something moved */
        struct usb_bus bus;
    } h;
};

/* What one walk has left and has found. */
struct walk {
    unsigned links;
    int frame_bytes;
    bool moved;    /* a transaction got through, or failed for good */
    bool progress; /* the same, in this frame and since `loop_mark` was set */
    bool fatal;
    bool ioc, shrt, error;
    uint32_t quiet[QUIET_HEADS]; /* frame list entries that lead to nothing */
    unsigned quiet_count;
};

static uint64_t now_ns(const struct uhci *u)
{
    return loop_now(u->pd.board->loop, LOOP_VIRTUAL);
}

static bool running(const struct uhci *u)
{
    return (u->r.usbcmd & USBCMD_RS) != 0;
}

/* ---- interrupt ---- */

static void update_irq(struct uhci *u)
{
    const struct uhci_regs *r = &u->r;
    uint8_t *legsup = &u->pd.config[CONFIG_LEGSUP];
    bool level = (r->ioc && (r->usbintr & USBINTR_IOC) != 0) ||
                 (r->shrt && (r->usbintr & USBINTR_SHORT) != 0) ||
                 ((r->usbsts & USBSTS_ERROR) != 0 && (r->usbintr & USBINTR_CRC) != 0) ||
                 ((r->usbsts & USBSTS_RESUME) != 0 && (r->usbintr & USBINTR_RESUME) != 0) ||
                 (r->usbsts & (USBSTS_HSE | USBSTS_HCPE)) != 0;
    uint16_t v = (uint16_t)(legsup[0] | legsup[1] << 8);

    v = (uint16_t)((v & ~LEGSUP_IRQ_STATUS) | (level ? LEGSUP_IRQ_STATUS : 0));
    pci_set16(u->pd.config, CONFIG_LEGSUP, v);
    pci_set_intx(&u->pd, level && (v & LEGSUP_PIRQ_ENABLE) != 0);
}

/* ---- schedule ---- */

struct td {
    uint32_t link, status, token, buffer;
};

static void write32(struct uhci *u, uint32_t addr, uint32_t v)
{
    uint8_t b[4];

    pci_set32(b, 0, v);
    guestmem_write(u->pd.board->mem, addr, b, sizeof(b));
}

/* Of struct usb_bus. */
static bool port_open(const void *host, unsigned port)
{
    const struct uhci *u = host;

    return (u->r.portsc[port] & (PORTSC_PE | PORTSC_PR | PORTSC_SUSPEND)) == PORTSC_PE;
}

/* Bytes that MaxLen or ActLen mean: n - 1 in 11 bits. */
static unsigned length_of(uint32_t field)
{
    return (field + 1) & TD_ACTLEN;
}

/* The transaction itself: bytes moved, USB_NAK, ..., or -EPROTO for babble. */
static int transact(struct uhci *u, const struct td *td, unsigned max_len)
{
    uint8_t data[USB_PACKET_BYTES];
    uint8_t pid = (uint8_t)td->token;
    struct usb_device *d = usb_bus_find(&u->h.bus, td->token >> 8 & 127);
    unsigned len = max_len < sizeof(data) ? max_len : sizeof(data);
    int n;

    if (d == NULL) {
        return USB_SILENT;
    }
    if (pid != USB_PID_IN) {
        if (max_len > sizeof(data)) {
            return USB_SILENT; /* no endpoint takes such a packet */
        }
        guestmem_read(u->pd.board->mem, td->buffer, data, len);
    }
    n = usb_transaction(d, pid, td->token >> 15 & 15, data, len);
    if (pid == USB_PID_IN && n > 0) {
        if ((unsigned)n > max_len) {
            return -EPROTO;
        }
        guestmem_write(u->pd.board->mem, td->buffer, data, (size_t)n);
    }
    return n;
}

enum td_next { TD_DONE, TD_LEAVE };

static uint32_t failed(struct walk *w, uint32_t status, uint32_t why)
{
    w->error = true;
    return (status & ~(uint32_t)TD_ACTIVE) | why;
}

/* No answer: tried again in the next frame while the error counter lasts (0: for ever). */
static uint32_t no_answer(struct walk *w, uint32_t status)
{
    uint32_t errors = (status & TD_ERRORS) >> TD_ERRORS_AT;

    if ((status & TD_ISO) != 0) {
        return failed(w, status, TD_CRC_TIMEOUT);
    }
    status |= TD_CRC_TIMEOUT;
    if (errors != 0) {
        status = (status & ~(uint32_t)TD_ERRORS) | (errors - 1) << TD_ERRORS_AT;
        if (errors == 1) {
            status = failed(w, status, TD_STALLED);
        }
    }
    return status;
}

/* Executes a descriptor if it is active and writes its status back. TD_DONE: its queue moves on. */
static enum td_next run_td(struct uhci *u, struct walk *w, uint32_t addr, const struct td *td,
                           bool in_queue)
{
    unsigned max_len = length_of(td->token >> 21);
    uint8_t pid = (uint8_t)td->token;
    uint32_t status = td->status & ~(uint32_t)TD_RESULT;
    enum td_next next = TD_LEAVE;
    int n;

    if ((td->status & TD_ACTIVE) == 0) {
        /* UHCI 1.1, 3.2.2: interrupts all the same. Linux waits for the end of a frame with it. */
        w->ioc = w->ioc || (td->status & TD_IOC) != 0;
        return TD_LEAVE;
    }
    if (max_len > TD_MAX_BYTES ||
        (pid != USB_PID_IN && pid != USB_PID_OUT && pid != USB_PID_SETUP)) {
        w->fatal = true;
        return TD_LEAVE;
    }
    n = transact(u, td, max_len);
    w->frame_bytes -= PACKET_OVERHEAD + (n > 0 ? n : 0);
    switch (n) {
    case USB_NAK:
        status |= TD_NAK;
        break;
    case USB_STALL:
        status = failed(w, status, TD_STALLED);
        break;
    case USB_SILENT:
        status = no_answer(w, status);
        break;
    case -EPROTO:
        status = failed(w, status, TD_BABBLE | TD_STALLED);
        break;
    default:
        status = (status & ~(uint32_t)(TD_ACTIVE | TD_ACTLEN)) | ((uint32_t)(n - 1) & TD_ACTLEN);
        if (in_queue && pid == USB_PID_IN && (unsigned)n < max_len &&
            (status & (TD_SPD | TD_ISO)) == TD_SPD) {
            w->shrt = true;
        } else {
            next = TD_DONE;
        }
        break;
    }
    if ((status & TD_ISO) != 0) {
        status &= ~(uint32_t)TD_ACTIVE; /* has one try */
    }
    if ((status & TD_ACTIVE) == 0) {
        w->moved = w->progress = true;
        w->ioc = w->ioc || (status & TD_IOC) != 0;
        if ((status & TD_ISO) != 0) {
            next = TD_DONE;
        }
    } else if ((status & TD_ERRORS) != (td->status & TD_ERRORS)) {
        w->moved = true;
    }
    if (status != td->status) {
        write32(u, addr + 4, status);
    }
    return next;
}

static bool read_td(struct uhci *u, struct walk *w, uint32_t link, struct td *td)
{
    uint8_t b[16];

    if (w->links == 0) {
        return false;
    }
    w->links--;
    guestmem_read(u->pd.board->mem, link & ~(uint32_t)LINK_FLAGS, b, sizeof(b));
    *td = (struct td){pci_get32(b, 0), pci_get32(b, 4), pci_get32(b, 8), pci_get32(b, 12)};
    return true;
}

/* The queue at head, until it has to wait; its descriptors one after the other while each says
 * "depth first". Returns the link to go on with. */
static uint32_t run_queue(struct uhci *u, struct walk *w, uint32_t head)
{
    uint8_t b[8];
    uint32_t link;
    uint32_t element;
    struct td td;

    guestmem_read(u->pd.board->mem, head, b, sizeof(b));
    link = pci_get32(b, 0);
    element = pci_get32(b, 4);
    while ((element & LINK_T) == 0 && !w->fatal && w->frame_bytes > 0) {
        uint32_t addr = element & ~(uint32_t)LINK_FLAGS;

        if ((element & LINK_QH) != 0) {
            return element;
        }
        if (!read_td(u, w, element, &td) || run_td(u, w, addr, &td, true) == TD_LEAVE) {
            break;
        }
        element = td.link;
        write32(u, head + 4, element);
        if ((element & LINK_DEPTH) == 0) {
            break;
        }
    }
    return link;
}

/*
 * One frame: follows the links to their end, to the end of the bandwidth, or until a loop of queues
 * (drivers close the schedule to a ring, to use the rest of the frame) was gone round once without
 * progress: then nothing can change in it. The loop is found as Brent does.
 */
static void run_frame(struct uhci *u, struct walk *w, uint32_t link)
{
    uint32_t mark = LINK_T;
    unsigned steps = 0;
    unsigned limit = 1;

    w->frame_bytes = FRAME_BYTES;
    while ((link & LINK_T) == 0 && w->links > 0 && w->frame_bytes > 0 && !w->fatal) {
        uint32_t addr = link & ~(uint32_t)LINK_FLAGS;
        struct td td;

        if (link == mark && !w->progress) {
            return;
        }
        if (w->progress || ++steps == limit) {
            limit = w->progress ? 1 : limit * 2;
            steps = 0;
            mark = link;
            w->progress = false;
        }
        if ((link & LINK_QH) != 0) {
            w->links--;
            link = run_queue(u, w, addr);
        } else {
            if (!read_td(u, w, link, &td)) {
                return;
            }
            (void)run_td(u, w, addr, &td, false);
            link = td.link;
        }
    }
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

static void halt(struct uhci *u)
{
    u->r.usbcmd &= (uint16_t)~USBCMD_RS;
    u->r.usbsts |= USBSTS_HALTED;
    timer_cancel(&u->h.walk);
}

/* The results of a walk become visible at the end of its last frame. */
static void report(struct uhci *u, const struct walk *w)
{
    static struct log_limit limit;
    struct uhci_regs *r = &u->r;

    r->ioc = r->ioc || w->ioc;
    r->shrt = r->shrt || w->shrt;
    r->usbsts |= (uint16_t)((w->ioc || w->shrt ? USBSTS_INT : 0) | (w->error ? USBSTS_ERROR : 0));
    if (w->fatal) {
        log_limited(&limit, "uhci: the guest's schedule has a descriptor that is not valid");
        r->usbsts |= USBSTS_HCPE;
        halt(u);
    }
    update_irq(u);
}

/* Processes the frames that have passed. */
static void walk(struct uhci *u)
{
    struct walk w = {.links = WALK_LINKS};
    uint64_t frames;
    uint64_t skipped;

    if (!running(u)) {
        return;
    }
    frames = (now_ns(u) - u->h.frame_ns) / FRAME_NS;
    u->h.frame_ns += frames * FRAME_NS;
    skipped = frames > CATCH_UP_FRAMES ? frames - CATCH_UP_FRAMES : 0;
    u->r.frnum = (uint16_t)((u->r.frnum + skipped) & FRNUM_MASK);
    for (uint64_t i = skipped; i < frames; i++) {
        uint8_t b[4];
        uint32_t head;
        bool before = w.moved;

        if (pci_master(&u->pd) && w.links > 0 && !w.fatal) {
            guestmem_read(u->pd.board->mem, u->r.flbaseadd + 4u * (u->r.frnum % FRAMES), b,
                          sizeof(b));
            head = pci_get32(b, 0);
            if ((head & LINK_T) == 0 && !known_quiet(&w, head)) {
                w.moved = w.progress = false;
                run_frame(u, &w, head);
                if (w.moved) {
                    w.quiet_count = 0;
                } else if (w.quiet_count < QUIET_HEADS) {
                    w.quiet[w.quiet_count++] = head;
                }
                w.moved = w.moved || before;
            }
        }
        u->r.frnum = (uint16_t)((u->r.frnum + 1) & FRNUM_MASK);
    }
    u->h.quiet_ms =
        w.moved ? 0 : u->h.quiet_ms + (uint32_t)(frames < FRAMES ? frames : (uint64_t)FRAMES);
    if (u->h.quiet_ms > WALK_MAX_MS * WALK_BACKOFF) {
        u->h.quiet_ms = WALK_MAX_MS * WALK_BACKOFF;
    }
    report(u, &w);
}

static void plan_walk(struct uhci *u)
{
    uint32_t ms = u->h.quiet_ms / WALK_BACKOFF;

    if (running(u)) {
        timer_set(&u->h.walk, u->h.frame_ns + (uint64_t)(ms > 1 ? ms : 1) * FRAME_NS);
    }
}

static void walk_timer(void *arg)
{
    struct uhci *u = arg;

    walk(u);
    plan_walk(u);
}

/* Something may move: full speed for a while. The first walk is at the next millisecond, or at once
 * if one has passed. */
static void hurry(struct uhci *u)
{
    uint64_t passed = now_ns(u) - u->h.frame_ns;

    u->h.quiet_ms = 0;
    if (running(u)) {
        timer_set(&u->h.walk, u->h.frame_ns + passed / FRAME_NS * FRAME_NS +
                                  (passed < FRAME_NS ? FRAME_NS : 0));
    }
}

/* ---- registers ---- */

static uint16_t frame_number(const struct uhci *u)
{
    uint64_t passed = running(u) ? (now_ns(u) - u->h.frame_ns) / FRAME_NS : 0;

    return (uint16_t)((u->r.frnum + passed) & FRNUM_MASK);
}

static uint16_t port_value(const struct uhci *u, unsigned port)
{
    uint16_t v = (uint16_t)(u->r.portsc[port] | PORTSC_ONE);

    if (u->h.bus.dev[port] != NULL) {
        v = (uint16_t)(v | PORTSC_CCS | ((v & PORTSC_PR) == 0 ? PORTSC_D_PLUS : 0));
    }
    return v;
}

/* As after a reset of the chip (and its bus) or of the controller alone, which leaves suspend, reset
 * and resume as they are (UHCI 1.1, 2.1.1): whatever is plugged in is new. */
static void ports_reset(struct uhci *u, bool chip)
{
    for (unsigned i = 0; i < UHCI_PORTS; i++) {
        uint16_t old = chip ? 0 : u->r.portsc[i];

        u->r.portsc[i] = (uint16_t)((old & (PORTSC_RW & ~PORTSC_PE)) |
                                    ((old & PORTSC_PE) != 0 ? PORTSC_PEC : 0) |
                                    (u->h.bus.dev[i] != NULL ? PORTSC_CSC : 0));
        if (u->h.bus.dev[i] != NULL) {
            usb_device_reset(u->h.bus.dev[i]);
        }
    }
}

static void registers_reset(struct uhci *u, bool chip)
{
    timer_cancel(&u->h.walk);
    u->r.usbcmd = u->r.usbintr = u->r.frnum = 0;
    u->r.usbsts = USBSTS_HALTED;
    u->r.flbaseadd = 0;
    u->r.sofmod = SOFMOD_RESET;
    u->r.ioc = u->r.shrt = false;
    ports_reset(u, chip);
}

static void usbcmd_write(struct uhci *u, uint16_t v)
{
    uint16_t old = u->r.usbcmd;

    if ((v & USBCMD_HCRESET) != 0) {
        /* DEVIATION: the devices are reset, too, though the chip only disables their ports: until
         * the driver resets them they cannot be reached, and input goes to PS/2 again. */
        registers_reset(u, false);
        update_irq(u);
        return;
    }
    if ((v & USBCMD_GRESET) != 0 && (old & USBCMD_GRESET) == 0) {
        registers_reset(u, true);
    }
    if ((v & USBCMD_GRESET) != 0) {
        v &= (uint16_t)~USBCMD_RS;
    }
    /* DEVIATION: software debug mode (bit 5) is kept, but does not stop after each transaction:
     * that is for a logic analyser. */
    u->r.usbcmd = v & 0xff;
    if ((v & USBCMD_RS) == 0) {
        halt(u);
    } else if ((old & USBCMD_RS) == 0) {
        u->r.usbsts &= (uint16_t)~USBSTS_HALTED;
        u->h.frame_ns = now_ns(u);
    }
    update_irq(u);
}

static void usbsts_write(struct uhci *u, uint16_t v)
{
    /* DEVIATION: UHCI 1.1 lets software clear "halted"; Intel's chips and drivers that were written
     * for them know it as a state. */
    u->r.usbsts &= (uint16_t) ~(v & ~USBSTS_HALTED);
    if ((v & USBSTS_INT) != 0) {
        u->r.ioc = u->r.shrt = false;
    }
    update_irq(u);
}

static void port_write(struct uhci *u, unsigned port, uint16_t v)
{
    uint16_t old = u->r.portsc[port];
    uint16_t p = (uint16_t)((old & ~(v & PORTSC_W1C) & ~PORTSC_RW) | (v & PORTSC_RW));

    if ((p & PORTSC_PR) != 0) {
        p &= (uint16_t) ~(PORTSC_PE | PORTSC_SUSPEND | PORTSC_RD);
        if ((old & PORTSC_PR) == 0 && u->h.bus.dev[port] != NULL) {
            usb_device_reset(u->h.bus.dev[port]);
        }
    }
    if ((old & PORTSC_RD) != 0 && (p & PORTSC_RD) == 0) {
        p &= (uint16_t)~PORTSC_SUSPEND; /* the end of resume */
    }
    if (u->h.bus.dev[port] == NULL) {
        p &= (uint16_t)~PORTSC_PE;
    }
    if ((p & PORTSC_PE) == 0) {
        p &= (uint16_t)~PORTSC_RD; /* nobody to resume; Linux looks whether it could */
    }
    u->r.portsc[port] = p;
}

/* The register (two bytes) at offset as it reads. */
static uint16_t reg_value(const struct uhci *u, unsigned reg)
{
    switch (reg) {
    case UHCI_USBCMD:
        return u->r.usbcmd;
    case UHCI_USBSTS:
        return u->r.usbsts;
    case UHCI_USBINTR:
        return u->r.usbintr;
    case UHCI_FRNUM:
        return frame_number(u);
    case UHCI_FLBASEADD:
        return (uint16_t)u->r.flbaseadd;
    case UHCI_FLBASEADD + 2:
        return (uint16_t)(u->r.flbaseadd >> 16);
    case UHCI_SOFMOD:
        return u->r.sofmod;
    case UHCI_PORTSC1:
    case UHCI_PORTSC2:
        return port_value(u, (reg - UHCI_PORTSC1) / 2);
    default:
        return UHCI_UNUSED;
    }
}

static uint64_t regs_read(void *dev, uint64_t offset, unsigned size)
{
    unsigned v = reg_value(dev, (unsigned)offset & ~1u) >> 8 * (offset & 1);

    /* An access that runs over the edge of a word gets the rest of it from the next one. */
    if (size == 2 && (offset & 1) != 0) {
        v |= (unsigned)reg_value(dev, (unsigned)offset + 1) << 8;
    }
    return v;
}

static void reg_write(struct uhci *u, unsigned reg, uint16_t v)
{
    switch (reg) {
    case UHCI_USBCMD:
        usbcmd_write(u, v);
        break;
    case UHCI_USBSTS:
        usbsts_write(u, v);
        break;
    case UHCI_USBINTR:
        u->r.usbintr = v & USBINTR_ALL;
        update_irq(u);
        break;
    case UHCI_FRNUM:
        if (!running(u)) {
            u->r.frnum = v & FRNUM_MASK;
        }
        break;
    case UHCI_FLBASEADD:
        u->r.flbaseadd = (u->r.flbaseadd & 0xffff0000) | (v & 0xf000);
        break;
    case UHCI_FLBASEADD + 2:
        u->r.flbaseadd = (u->r.flbaseadd & 0xffff) | (uint32_t)v << 16;
        break;
    case UHCI_SOFMOD:
        u->r.sofmod = v & SOFMOD_MASK;
        break;
    case UHCI_PORTSC1:
    case UHCI_PORTSC2:
        port_write(u, (reg - UHCI_PORTSC1) / 2, v);
        break;
    default:
        break;
    }
}

static void regs_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct uhci *u = dev;
    unsigned reg = (unsigned)offset & ~1u;
    uint16_t v = (uint16_t)value;

    trace("uhci", "write", "%#x size %u: %#x", (unsigned)offset, size, v);
    /* What came before the write is over before it. Not so for USBSTS: acknowledging must not take
     * what the guest has not seen. */
    if (reg != UHCI_USBSTS && reg != UHCI_USBINTR) {
        walk(u);
    }
    if (size == 1) { /* the other byte stays as it is: no 1 where that would clear */
        unsigned keep = reg_value(u, reg);

        keep &= reg == UHCI_USBSTS ? 0 : ~0u;
        keep &= reg == UHCI_PORTSC1 || reg == UHCI_PORTSC2 ? ~(unsigned)PORTSC_W1C : ~0u;
        v = (uint16_t)((offset & 1) != 0 ? (keep & 0xff) | (unsigned)(v & 0xff) << 8
                                         : (keep & 0xff00) | (v & 0xff));
    }
    reg_write(u, reg, v);
    hurry(u);
}

static const struct io_ops regs_ops = {.read = regs_read, .write = regs_write, .max_size = 2};

static void config_written(void *dev, unsigned reg, unsigned size)
{
    struct uhci *u = dev;

    if (size == sizeof(u->pd.config)) { /* after a load: what a guest could not have written */
        for (unsigned i = 0x40; i < size; i++) {
            u->pd.config[i] = (uint8_t)((u->pd.reset_config[i] & ~u->pd.wmask[i]) |
                                        (u->pd.config[i] & (u->pd.wmask[i] | u->pd.w1cmask[i])));
        }
    }
    if (reg <= CONFIG_LEGSUP + 1 && reg + size > CONFIG_LEGSUP) {
        update_irq(u);
    }
    if (reg <= PCI_COMMAND && reg + size > PCI_COMMAND) {
        hurry(u);
    }
}

/* ---- devices ---- */

/* A device has something to say. While its port or the bus sleeps that is resume signalling, if
 * the guest has asked for it (UHCI 1.1, 2.1.7 and USB 1.1, 11.9). */
static void device_wakes(void *host, unsigned port)
{
    struct uhci *u = host;
    bool wakeup = u->h.bus.dev[port]->r.wakeup;

    if ((u->r.portsc[port] & PORTSC_PE) == 0) {
        return;
    }
    if ((u->r.portsc[port] & PORTSC_SUSPEND) != 0 && wakeup) {
        u->r.portsc[port] |= PORTSC_RD;
    }
    if ((u->r.usbcmd & USBCMD_EGSM) != 0 && !running(u) && wakeup) {
        u->r.usbcmd |= USBCMD_FGR;
        u->r.usbsts |= USBSTS_RESUME;
        update_irq(u);
    }
    hurry(u);
}

/* The port has changed hands; the frames at hand are those before. */
static void plugged(void *host, unsigned port)
{
    struct uhci *u = host;
    uint16_t *p = &u->r.portsc[port];

    walk(u);
    *p = (uint16_t)((*p & ~(PORTSC_PE | PORTSC_RD | PORTSC_SUSPEND)) | PORTSC_CSC);
    if ((u->r.usbcmd & USBCMD_EGSM) != 0 && !running(u)) { /* UHCI 1.1, 2.1.7 */
        u->r.usbcmd |= USBCMD_FGR;
        u->r.usbsts |= USBSTS_RESUME;
        update_irq(u);
    }
    hurry(u);
}

/* ---- life ---- */

static void uhci_reset(void *dev)
{
    struct uhci *u = dev;

    registers_reset(u, true); /* the line goes down with the function's reset, which follows */
}

static int uhci_state(void *dev, struct save_stream *s)
{
    struct uhci *u = dev;
    struct uhci_regs r = u->r;
    uint16_t enabled = 0;

    r.frnum = frame_number(u);
    save_u16(s, &r.usbcmd);
    save_u16(s, &r.usbsts);
    save_u16(s, &r.usbintr);
    save_u16(s, &r.frnum);
    save_u32(s, &r.flbaseadd);
    save_u8(s, &r.sofmod);
    for (unsigned i = 0; i < UHCI_PORTS; i++) {
        save_u16(s, &r.portsc[i]);
        enabled |= (uint16_t)(u->h.bus.dev[i] == NULL ? r.portsc[i] & PORTSC_PE : 0);
    }
    save_bool(s, &r.ioc);
    save_bool(s, &r.shrt);
    if (!s->loading) {
        return s->error;
    }
    if (s->error != 0 || (r.usbcmd & ~0xfd) != 0 || (r.usbsts & ~USBSTS_ALL) != 0 ||
        (r.usbintr & ~USBINTR_ALL) != 0 || r.frnum > FRNUM_MASK || (r.flbaseadd & 0xfff) != 0 ||
        r.sofmod > SOFMOD_MASK || enabled != 0 ||
        ((r.portsc[0] | r.portsc[1]) & ~PORTSC_SAVED) != 0) {
        return -EINVAL;
    }
    u->r = r;
    u->h.frame_ns = now_ns(u);
    timer_cancel(&u->h.walk);
    hurry(u);
    return 0;
}

static void uhci_destroy(void *dev)
{
    struct uhci *u = dev;

    timer_cancel(&u->h.walk);
    free(u);
}

static const struct pci_device_ops uhci_ops = {
    .base = {.name = "uhci",
             .version = 1,
             .reset = uhci_reset,
             .state = uhci_state,
             .destroy = uhci_destroy},
    .config_written = config_written,
};

#define UHCI_ID(id, rev, pin, multi)                                                               \
    {                                                                                              \
        .vendor = 0x8086, .device = (id), .class_device = 0x0c03, .revision = (rev),               \
        .subsystem_vendor = 0x1af4, .subsystem = 0x1100, .interrupt_pin = (pin),                   \
        .multifunction = (multi)                                                                   \
    }
static const struct pci_config_id uhci_ids[UHCI_KINDS] = {
    [UHCI_PIIX3] = UHCI_ID(0x7020, 1, 4, false), /* INTD#, PIIX3 2.4.11 */
    [UHCI_ICH9_1] = UHCI_ID(0x2934, 3, 1, true), /* pins as in QEMU */
    [UHCI_ICH9_2] = UHCI_ID(0x2935, 3, 2, true),
    [UHCI_ICH9_3] = UHCI_ID(0x2936, 3, 3, true),
};

int uhci_create(struct board *b, uint8_t devfn, unsigned kind, struct usb_bus **out)
{
    struct uhci *u = calloc(1, sizeof(*u));
    int ret;

    if (u == NULL) {
        return -ENOMEM;
    }
    timer_init(&u->h.walk, b->loop, LOOP_VIRTUAL, walk_timer, u);
    pci_init(&u->pd, b, &uhci_ops, u, devfn, &uhci_ids[kind]);
    pci_add_bar(&u->pd, 4, PCI_BAR_IO, UHCI_REGS, &regs_ops);
    u->pd.config[CONFIG_SBRN] = 0x10;
    pci_set16(u->pd.config, CONFIG_LEGSUP, LEGSUP_RESET);
    memset(u->pd.wmask + 0x40, 0, sizeof(u->pd.wmask) - 0x40);
    pci_set16(u->pd.wmask, CONFIG_LEGSUP, LEGSUP_RW);
    pci_set16(u->pd.w1cmask, CONFIG_LEGSUP, LEGSUP_W1C);
    ret = pci_finish(&u->pd);
    if (ret != 0) {
        free(u);
        return ret;
    }
    u->h.bus = (struct usb_bus){.host = u,
                                .ports = UHCI_PORTS,
                                .speed = USB_SPEED_FULL,
                                .plugged = plugged,
                                .wake = device_wakes,
                                .open = port_open};
    *out = &u->h.bus;
    return 0;
}
