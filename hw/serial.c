/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 16550A UART. Source: National Semiconductor PC16550D data sheet (register table II, interrupt
 * table IV, sections 8.1-8.11).
 *
 * Transmission takes no guest time: a byte leaves as soon as the back end takes it, so the
 * transmitter is empty again before the write returns. Only when the back end stalls do shift
 * register and FIFO fill, with the status bits to match.
 */
#include "hw/serial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/board.h"
#include "core/chardev.h"
#include "core/log.h"

enum serial_reg {
    SERIAL_RBR_THR = 0, /* DLL with DLAB */
    SERIAL_IER = 1,     /* DLM with DLAB */
    SERIAL_IIR_FCR = 2,
    SERIAL_LCR = 3,
    SERIAL_MCR = 4,
    SERIAL_LSR = 5,
    SERIAL_MSR = 6,
    SERIAL_SCR = 7,
};

enum serial_ier { IER_ERBFI = 0x01, IER_ETBEI = 0x02, IER_ELSI = 0x04, IER_EDSSI = 0x08 };

enum serial_iir {
    IIR_NONE = 0x01,
    IIR_MSI = 0x00,
    IIR_THRE = 0x02,
    IIR_RDA = 0x04,
    IIR_RLS = 0x06,
    IIR_TIMEOUT = 0x0c,
    IIR_FIFO = 0xc0,
};

enum serial_fcr {
    FCR_ENABLE = 0x01,
    FCR_RX_RESET = 0x02,
    FCR_TX_RESET = 0x04,
    FCR_DMA = 0x08,
    FCR_TRIGGER = 0xc0
};
enum serial_lcr {
    LCR_WLS = 0x03,
    LCR_STB = 0x04,
    LCR_PEN = 0x08,
    LCR_BREAK = 0x40,
    LCR_DLAB = 0x80
};
enum serial_mcr {
    MCR_DTR = 0x01,
    MCR_RTS = 0x02,
    MCR_OUT1 = 0x04,
    MCR_OUT2 = 0x08,
    MCR_LOOP = 0x10
};

enum serial_lsr {
    LSR_DR = 0x01,
    LSR_OE = 0x02,
    LSR_PE = 0x04,
    LSR_FE = 0x08,
    LSR_BI = 0x10,
    LSR_THRE = 0x20,
    LSR_TEMT = 0x40,
    LSR_FIFO_ERROR = 0x80,
    LSR_CHAR_ERRORS = LSR_PE | LSR_FE | LSR_BI, /* travel through the FIFO with their character */
};

enum serial_msr {
    MSR_DCTS = 0x01,
    MSR_DDSR = 0x02,
    MSR_TERI = 0x04,
    MSR_DDCD = 0x08,
    MSR_CTS = 0x10,
    MSR_DSR = 0x20,
    MSR_RI = 0x40,
    MSR_DCD = 0x80,
    MSR_DELTAS = 0x0f,
    MSR_LINES = 0xf0,
};

enum { SERIAL_PORTS = 4, SERIAL_FIFO = 16, SERIAL_BASE_BAUD = 115200 };

/*
 * After a write to THR the interrupt line (not the registers) waits this long, per byte of
 * transmitter FIFO, before it shows "transmitter empty". A driver that fills the FIFO byte by byte,
 * or that polls IIR until it has no more to send, thus costs one line change per burst, not two per
 * byte. One character at 115200 baud takes 87 us, so drivers expect a longer wait than this.
 */
#define THRE_DELAY_NS 20000u

struct serial_fifo {
    uint8_t data[SERIAL_FIFO];
    uint8_t head, count; /* head < SERIAL_FIFO, count <= SERIAL_FIFO */
};

struct serial_regs {
    struct serial_fifo rx, tx;
    uint8_t rx_errors[SERIAL_FIFO]; /* LSR_CHAR_ERRORS of the byte at the same place in rx.data */
    uint8_t ier, fcr, lcr, mcr, msr, scr, dll, dlm;
    uint8_t lsr_errors; /* OE and the errors of the character at the top, until LSR is read */
    uint8_t rbr;        /* last character read: an empty receiver without FIFO shows it again */
    uint8_t tsr;        /* transmitter shift register: waits for the back end */
    bool tsr_full;
    bool thre_pending;
    bool timeout_pending;
};

struct serial {
    struct {
        uint16_t base;
        uint8_t irq;
    } cfg;
    struct serial_regs r;
    struct {
        struct board *board;
        struct chardev *chardev; /* may be NULL */
        struct serial *sibling;  /* the other port on the same interrupt line, or NULL */
        struct timer timeout; /* receiver: four character times without a read or a new character */
        struct timer thre;    /* armed while the line hides thre_pending */
        bool level;           /* our part of the line */
        int region;
    } h;
};

static const struct {
    uint16_t base;
    uint8_t irq;
} serial_ports[SERIAL_PORTS] = {{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}};

static bool fifo_mode(const struct serial_regs *r)
{
    return r->fcr & FCR_ENABLE;
}

static unsigned fifo_size(const struct serial_regs *r)
{
    return fifo_mode(r) ? SERIAL_FIFO : 1;
}

static void fifo_clear(struct serial_fifo *f)
{
    f->head = 0;
    f->count = 0;
}

static unsigned fifo_put(struct serial_fifo *f, uint8_t v)
{
    unsigned at = ((unsigned)f->head + f->count) % SERIAL_FIFO;

    f->data[at] = v;
    f->count++;
    return at;
}

static uint8_t fifo_get(struct serial_fifo *f)
{
    uint8_t v = f->data[f->head];

    f->head = (uint8_t)((f->head + 1) % SERIAL_FIFO);
    f->count--;
    return v;
}

/* ---- interrupts ---- */

/* The interrupt with the highest priority (table IV). */
static uint8_t interrupt_id(const struct serial_regs *r)
{
    static const uint8_t trigger[4] = {1, 4, 8, 14};

    if ((r->ier & IER_ELSI) && r->lsr_errors) {
        return IIR_RLS;
    }
    if (r->ier & IER_ERBFI) {
        if (r->rx.count >= (fifo_mode(r) ? trigger[r->fcr >> 6] : 1)) {
            return IIR_RDA;
        }
        if (r->timeout_pending) {
            return IIR_TIMEOUT;
        }
    }
    if ((r->ier & IER_ETBEI) && r->thre_pending) {
        return IIR_THRE;
    }
    if ((r->ier & IER_EDSSI) && (r->msr & MSR_DELTAS)) {
        return IIR_MSI;
    }
    return IIR_NONE;
}

/* Ports that share a line are ORed: the line is high while either wants it. */
static void update_irq(struct serial *s)
{
    uint8_t id = interrupt_id(&s->r);
    const struct serial *other = s->h.sibling;

    /* OUT2 enables the buffer between chip and bus; in loop mode the pin is forced inactive. */
    s->h.level = id != IIR_NONE && (s->r.mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2 &&
                 !(id == IIR_THRE && s->h.thre.armed);
    irq_set(&s->h.board->isa_irq[s->cfg.irq], s->h.level || (other && other->h.level));
}

static void thre_timer(void *arg)
{
    update_irq(arg); /* the timer is no longer armed: shows what was hidden */
}

/* ---- receiver ---- */

/* Start, data, parity and stop bits of four characters. */
static uint64_t four_chars_ns(const struct serial_regs *r)
{
    unsigned divisor = (unsigned)r->dlm << 8 | r->dll;
    unsigned bits =
        6u + (r->lcr & LCR_WLS) + (r->lcr & LCR_PEN ? 1u : 0) + (r->lcr & LCR_STB ? 2u : 1u);

    return 4ull * bits * (divisor ? divisor : 1) * 1000000000u / SERIAL_BASE_BAUD;
}

static void rx_restart_timeout(struct serial *s)
{
    s->r.timeout_pending = false;
    if (s->r.rx.count && fifo_mode(&s->r)) {
        timer_set(&s->h.timeout, loop_now(s->h.board->loop, LOOP_VIRTUAL) + four_chars_ns(&s->r));
    } else {
        timer_cancel(&s->h.timeout);
    }
}

static void rx_timer(void *arg)
{
    struct serial *s = arg;

    s->r.timeout_pending = s->r.rx.count != 0;
    update_irq(s);
}

/* The errors of a character show in LSR when it gets to the top of the FIFO. */
static void rx_show_top(struct serial_regs *r)
{
    if (r->rx.count) {
        r->lsr_errors |= r->rx_errors[r->rx.head];
        r->rx_errors[r->rx.head] = 0;
    }
}

static void rx_put(struct serial *s, uint8_t v, uint8_t errors)
{
    struct serial_regs *r = &s->r;

    if (r->rx.count >= fifo_size(r)) {
        r->lsr_errors |= LSR_OE;
        if (fifo_mode(r)) {
            return; /* the newest character is lost; without FIFO the oldest */
        }
        fifo_clear(&r->rx);
    }
    r->rx_errors[fifo_put(&r->rx, v)] = errors;
    if (r->rx.count == 1) {
        rx_show_top(r);
    }
    if (!r->timeout_pending) { /* once pending, only a read clears it (8.4.1) */
        rx_restart_timeout(s);
    }
}

static size_t serial_receive(void *opaque, const uint8_t *data, size_t len)
{
    struct serial *s = opaque;
    size_t n = 0;

    if (s->r.mcr & MCR_LOOP) {
        return 0; /* the receiver is cut off from its pin */
    }
    while (n < len && s->r.rx.count < fifo_size(&s->r)) {
        rx_put(s, data[n++], 0);
    }
    if (n) {
        update_irq(s);
    }
    return n;
}

static uint8_t rbr_read(struct serial *s)
{
    struct serial_regs *r = &s->r;

    if (!r->rx.count) {
        return fifo_mode(r) ? 0 : r->rbr; /* undefined with a FIFO */
    }
    r->rbr = fifo_get(&r->rx);
    rx_show_top(r);
    rx_restart_timeout(s);
    if (!r->rx.count && s->h.chardev && !(r->mcr & MCR_LOOP)) {
        chardev_accept_input(s->h.chardev);
    }
    update_irq(s);
    return r->rbr;
}

/* ---- transmitter ---- */

/* One character out. False: the back end stalls.
 * DEVIATION: the word length cuts characters in loop mode only: early boot code prints before it
 * has programmed LCR, whose reset value means five bits. */
static bool tx_send(struct serial *s, uint8_t v)
{
    if (s->r.mcr & MCR_LOOP) {
        if (!(s->r.lcr & LCR_BREAK)) {
            rx_put(s, v & (uint8_t)(0xff >> (3 - (s->r.lcr & LCR_WLS))), 0);
        }
        return true;
    }
    return !s->h.chardev || chardev_write(s->h.chardev, &v, 1) == 1;
}

/* Sends as much as goes. THRE becomes pending when the FIFO runs empty. */
static void tx_run(struct serial *s)
{
    struct serial_regs *r = &s->r;
    bool had_data = r->tx.count != 0;

    for (;;) {
        if (!r->tsr_full) {
            if (!r->tx.count) {
                break;
            }
            r->tsr = fifo_get(&r->tx);
            r->tsr_full = true;
        }
        if (!tx_send(s, r->tsr)) {
            break;
        }
        r->tsr_full = false;
    }
    if (had_data && !r->tx.count) {
        r->thre_pending = true;
    }
}

static void serial_writable(void *opaque)
{
    struct serial *s = opaque;

    tx_run(s);
    update_irq(s);
}

static void thr_write(struct serial *s, uint8_t v)
{
    struct serial_regs *r = &s->r;

    r->thre_pending = false;
    if (r->tx.count < fifo_size(r)) {
        fifo_put(&r->tx, v);
    } else if (!fifo_mode(r)) {
        r->tx.data[r->tx.head] = v; /* overwritten; a full FIFO loses the new character instead */
    }
    tx_run(s);
    if (r->ier & IER_ETBEI) {
        if (!s->h.thre.armed) {
            timer_set(&s->h.thre,
                      loop_now(s->h.board->loop, LOOP_VIRTUAL) + THRE_DELAY_NS * fifo_size(r));
        }
        update_irq(s);
    } else if (r->mcr & MCR_LOOP) {
        update_irq(s);
    }
}

/* ---- registers ---- */

static void reset_fifos(struct serial *s, bool rx, bool tx)
{
    struct serial_regs *r = &s->r;

    if (rx) {
        fifo_clear(&r->rx);
        memset(r->rx_errors, 0, sizeof(r->rx_errors));
        rx_restart_timeout(s);
    }
    if (tx) {
        if (r->tx.count) {
            r->thre_pending = true;
        }
        fifo_clear(&r->tx); /* the shift register keeps its character (8.3) */
    }
}

static void fcr_write(struct serial *s, uint8_t v)
{
    bool switched = (v ^ s->r.fcr) & FCR_ENABLE;

    if (!(v & FCR_ENABLE)) {
        v = 0; /* other bits are only programmed together with bit 0 */
    }
    s->r.fcr = v & (FCR_ENABLE | FCR_DMA | FCR_TRIGGER);
    reset_fifos(s, switched || (v & FCR_RX_RESET), switched || (v & FCR_TX_RESET));
    if (s->h.chardev && !s->r.rx.count && !(s->r.mcr & MCR_LOOP)) {
        chardev_accept_input(s->h.chardev);
    }
    update_irq(s);
}

static void ier_write(struct serial *s, uint8_t v)
{
    struct serial_regs *r = &s->r;
    uint8_t old = r->ier;

    r->ier = v & 0x0f;
    if (r->ier & ~old & IER_ETBEI) {
        /* enabling with an empty transmitter interrupts at once: drivers start sending that way */
        timer_cancel(&s->h.thre);
        if (!r->tx.count) {
            r->thre_pending = true;
        }
    }
    update_irq(s);
}

/* Modem inputs: in loop mode the four outputs; else a peer that is always there. Changes set the
 * delta bits. */
static void update_modem(struct serial_regs *r)
{
    uint8_t lines = MSR_CTS | MSR_DSR | MSR_DCD;

    if (r->mcr & MCR_LOOP) {
        lines = (uint8_t)((r->mcr & MCR_RTS ? MSR_CTS : 0) | (r->mcr & MCR_DTR ? MSR_DSR : 0) |
                          (r->mcr & MCR_OUT1 ? MSR_RI : 0) | (r->mcr & MCR_OUT2 ? MSR_DCD : 0));
    }

    uint8_t changed = (r->msr ^ lines) & MSR_LINES;

    if (lines & MSR_RI) {
        changed &= (uint8_t)~MSR_RI; /* TERI is for the trailing edge */
    }
    r->msr = (uint8_t)(lines | (r->msr & MSR_DELTAS) | changed >> 4);
}

static void mcr_write(struct serial *s, uint8_t v)
{
    bool was_loop = s->r.mcr & MCR_LOOP;

    s->r.mcr = v & 0x1f;
    update_modem(&s->r);
    if (was_loop && !(v & MCR_LOOP) && s->h.chardev) {
        chardev_accept_input(s->h.chardev);
    }
    update_irq(s);
}

static void lcr_write(struct serial *s, uint8_t v)
{
    uint8_t old = s->r.lcr;

    s->r.lcr = v;
    if ((v & ~old & LCR_BREAK) && (s->r.mcr & MCR_LOOP)) {
        rx_put(s, 0, LSR_BI | LSR_FE);
        update_irq(s);
    }
}

static uint8_t iir_read(struct serial *s)
{
    struct serial_regs *r = &s->r;
    uint8_t id = interrupt_id(r);

    if (id == IIR_THRE) {
        r->thre_pending = false;
        timer_cancel(&s->h.thre);
        update_irq(s);
    }
    return id | (fifo_mode(r) ? IIR_FIFO : 0);
}

static uint8_t lsr_read(struct serial *s)
{
    struct serial_regs *r = &s->r;
    uint8_t v = r->lsr_errors;

    if (r->rx.count) {
        v |= LSR_DR;
    }
    if (!r->tx.count) {
        v |= r->tsr_full ? LSR_THRE : LSR_THRE | LSR_TEMT;
    }
    if (r->lsr_errors) {
        if (fifo_mode(r) && (v & LSR_CHAR_ERRORS)) {
            v |= LSR_FIFO_ERROR;
        }
        r->lsr_errors = 0;
        update_irq(s);
    }
    if (fifo_mode(r) && r->rx.count) {
        for (unsigned i = 0; i < SERIAL_FIFO; i++) {
            v |= r->rx_errors[i] ? LSR_FIFO_ERROR : 0;
        }
    }
    return v;
}

static uint8_t msr_read(struct serial *s)
{
    uint8_t v = s->r.msr;

    if (v & MSR_DELTAS) {
        s->r.msr = v & MSR_LINES;
        update_irq(s);
    }
    return v;
}

static uint64_t serial_read(void *dev, uint64_t offset, unsigned size)
{
    struct serial *s = dev;

    (void)size;
    switch (offset) {
    case SERIAL_RBR_THR:
        return s->r.lcr & LCR_DLAB ? s->r.dll : rbr_read(s);
    case SERIAL_IER:
        return s->r.lcr & LCR_DLAB ? s->r.dlm : s->r.ier;
    case SERIAL_IIR_FCR:
        return iir_read(s);
    case SERIAL_LCR:
        return s->r.lcr;
    case SERIAL_MCR:
        return s->r.mcr;
    case SERIAL_LSR:
        return lsr_read(s);
    case SERIAL_MSR:
        return msr_read(s);
    case SERIAL_SCR:
        return s->r.scr;
    default:
        return 0xff;
    }
}

static void serial_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct serial *s = dev;
    uint8_t v = (uint8_t)value;

    (void)size;
    switch (offset) {
    case SERIAL_RBR_THR:
        if (s->r.lcr & LCR_DLAB) {
            s->r.dll = v;
        } else {
            thr_write(s, v);
        }
        break;
    case SERIAL_IER:
        if (s->r.lcr & LCR_DLAB) {
            s->r.dlm = v;
        } else {
            ier_write(s, v);
        }
        break;
    case SERIAL_IIR_FCR:
        fcr_write(s, v);
        break;
    case SERIAL_LCR:
        lcr_write(s, v);
        break;
    case SERIAL_MCR:
        mcr_write(s, v);
        break;
    case SERIAL_SCR:
        s->r.scr = v;
        break;
    default: /* LSR and MSR: factory test only */
        break;
    }
}

/* ---- life cycle ---- */

static void serial_reset(void *dev)
{
    struct serial *s = dev;

    memset(&s->r, 0, sizeof(s->r));
    s->r.msr = MSR_CTS | MSR_DSR | MSR_DCD;
    s->r.mcr =
        MCR_OUT2; /* DEVIATION: 0 on the chip; on the peer a guest that never writes MCR has interrupts */
    s->r.dll = 12; /* undefined on the chip; 9600 baud keeps the timeout sane */
    timer_cancel(&s->h.timeout);
    timer_cancel(&s->h.thre);
    update_irq(s);
    if (s->h.chardev) {
        chardev_accept_input(s->h.chardev);
    }
}

static void fifo_state(struct serial_fifo *f, struct save_stream *st)
{
    save_bytes(st, f->data, sizeof(f->data));
    save_u8(st, &f->head);
    save_u8(st, &f->count);
}

static int serial_state(void *dev, struct save_stream *st)
{
    struct serial *s = dev;
    struct serial_regs r = s->r;
    uint8_t *bytes[] = {&r.ier, &r.fcr, &r.lcr,        &r.mcr, &r.msr, &r.scr,
                        &r.dll, &r.dlm, &r.lsr_errors, &r.rbr, &r.tsr};

    fifo_state(&r.rx, st);
    fifo_state(&r.tx, st);
    save_bytes(st, r.rx_errors, sizeof(r.rx_errors));
    for (unsigned i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        save_u8(st, bytes[i]);
    }
    save_bool(st, &r.tsr_full);
    save_bool(st, &r.thre_pending);
    save_bool(st, &r.timeout_pending);
    if (st->loading) {
        bool ok = !(r.ier & ~0x0f) && !(r.mcr & ~0x1f) &&
                  !(r.fcr & ~(FCR_ENABLE | FCR_DMA | FCR_TRIGGER)) && r.rx.head < SERIAL_FIFO &&
                  r.tx.head < SERIAL_FIFO && r.rx.count <= fifo_size(&r) &&
                  r.tx.count <= fifo_size(&r) && !(r.lsr_errors & ~(LSR_OE | LSR_CHAR_ERRORS));

        if (st->error || !ok) {
            return -EINVAL;
        }
        s->r = r;
        timer_cancel(&s->h.thre);
        if (r.timeout_pending) {
            timer_cancel(&s->h.timeout);
        } else {
            rx_restart_timeout(s);
        }
        update_irq(s);
    }
    return st->error;
}

static void serial_destroy(void *dev)
{
    struct serial *s = dev;

    if (s->h.chardev) {
        chardev_set_client(s->h.chardev, NULL, NULL);
    }
    if (s->h.sibling) {
        s->h.sibling->h.sibling = NULL;
    }
    timer_cancel(&s->h.timeout);
    timer_cancel(&s->h.thre);
    if (s->h.region > 0) {
        bus_remove(s->h.board->bus, s->h.region);
    }
    free(s);
}

static const struct io_ops serial_io = {.read = serial_read, .write = serial_write, .max_size = 1};
static const struct chardev_client serial_client = {.receive = serial_receive,
                                                    .writable = serial_writable};

static const struct device_ops serial_ops = {
    .name = "serial",
    .version = 1,
    .reset = serial_reset,
    .state = serial_state,
    .destroy = serial_destroy,
};

int serial_create(struct board *b, unsigned index, struct chardev *c)
{
    struct serial *s;
    int r;

    if (index >= SERIAL_PORTS) {
        return -EINVAL;
    }
    s = calloc(1, sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    s->cfg.base = serial_ports[index].base;
    s->cfg.irq = serial_ports[index].irq;
    s->h.board = b;
    timer_init(&s->h.timeout, b->loop, LOOP_VIRTUAL, rx_timer, s);
    timer_init(&s->h.thre, b->loop, LOOP_VIRTUAL, thre_timer, s);
    r = s->h.region = bus_add(b->bus, BUS_PORT, s->cfg.base, 8, &serial_io, s, "serial");
    if (r < 0) {
        free(s);
        return r;
    }
    for (struct device_entry *e = b->devices; e; e = e->next) {
        struct serial *other = e->ops == &serial_ops ? e->dev : NULL;

        if (other && other->cfg.irq == s->cfg.irq) {
            s->h.sibling = other;
            other->h.sibling = s;
        }
    }
    r = board_add_device(b, &serial_ops, s);
    if (r < 0) {
        serial_destroy(s);
        return r;
    }
    s->h.chardev = c;
    if (c) {
        chardev_set_client(c, &serial_client, s);
    }
    return 0;
}
