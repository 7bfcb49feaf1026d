/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Shared by hw/xhci*.c: registers and ports (xhci.c), rings and transfers (xhci_ring.c), commands and
 * contexts (xhci_cmd.c). Section numbers are those of xHCI 1.0.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/pci.h"
#include "hw/usb.h"
#include "hw/xhci.h"

enum {
    XHCI_SLOTS = 64,
    XHCI_DCIS = 32,     /* device context index: 1 the default endpoint, 2n OUT n, 2n + 1 IN n */
    XHCI_ERST_MAX = 16, /* segments of the event ring */
    XHCI_TRB_BYTES = 16,
    XHCI_CONTEXT_BYTES = 32,
    XHCI_NO_PORT = 0xff,
    XHCI_LATER_NS = 1000000, /* where a run's budget has ended it goes on */
    XHCI_TRB_LEN = 0x1ffff,
    XHCI_EDTLA = 0xffffff,
};

enum { /* 5.4.1, 5.4.2 */
       USBCMD_RS = 1,
       USBCMD_HCRST = 2,
       USBCMD_INTE = 4,
       USBCMD_HSEE = 8,
       USBCMD_CSS = 0x100,
       USBCMD_CRS = 0x200,
       USBCMD_EWE = 0x400,
       USBCMD_EU3S = 0x800,
       USBCMD_RW = USBCMD_RS | USBCMD_INTE | USBCMD_HSEE | USBCMD_EWE | USBCMD_EU3S,
       USBSTS_HCH = 1,
       USBSTS_HSE = 4,
       USBSTS_EINT = 8,
       USBSTS_PCD = 0x10,
       USBSTS_SRE = 0x400,
       USBSTS_W1C = USBSTS_HSE | USBSTS_EINT | USBSTS_PCD | USBSTS_SRE,
};

enum xhci_trb_type { /* 6.4.6; the last two are NEC's */
                     TRB_NORMAL = 1,
                     TRB_SETUP = 2,
                     TRB_DATA = 3,
                     TRB_STATUS = 4,
                     TRB_ISOCH = 5,
                     TRB_LINK = 6,
                     TRB_EVENT_DATA = 7,
                     TRB_NOOP = 8,
                     TRB_ENABLE_SLOT = 9,
                     TRB_DISABLE_SLOT = 10,
                     TRB_ADDRESS_DEVICE = 11,
                     TRB_CONFIGURE_ENDPOINT = 12,
                     TRB_EVALUATE_CONTEXT = 13,
                     TRB_RESET_ENDPOINT = 14,
                     TRB_STOP_ENDPOINT = 15,
                     TRB_SET_TR_DEQUEUE = 16,
                     TRB_RESET_DEVICE = 17,
                     TRB_GET_PORT_BANDWIDTH = 21,
                     TRB_FORCE_HEADER = 22,
                     TRB_NOOP_COMMAND = 23,
                     TRB_TRANSFER_EVENT = 32,
                     TRB_COMMAND_COMPLETION = 33,
                     TRB_PORT_STATUS_CHANGE = 34,
                     TRB_HOST_CONTROLLER = 37,
                     TRB_MFINDEX_WRAP = 39,
                     TRB_NEC_COMPLETION = 48,
                     TRB_NEC_GET_FIRMWARE = 49,
                     TRB_TYPES = 64,
};
enum { /* 6.4.1, 6.4.4: control word */
       TRB_CYCLE = 1,
       TRB_TOGGLE = 2, /* of Link */
       TRB_ISP = 4,
       TRB_ED = 4, /* of a Transfer Event */
       TRB_CHAIN = 0x10,
       TRB_IOC = 0x20,
       TRB_IDT = 0x40,
       TRB_BEI = 0x200,
       TRB_BSR = 0x200, /* of Address Device */
       TRB_DC = 0x200,  /* of Configure Endpoint */
       TRB_TYPE_AT = 10,
       TRB_DIR_IN = 0x10000, /* of Data and Status */
};
enum xhci_code { /* 6.4.5 */
                 CODE_SUCCESS = 1,
                 CODE_BABBLE = 3,
                 CODE_TRANSACTION_ERROR = 4,
                 CODE_TRB_ERROR = 5,
                 CODE_STALL = 6,
                 CODE_RESOURCE_ERROR = 7,
                 CODE_NO_SLOTS = 9,
                 CODE_SLOT_NOT_ENABLED = 11,
                 CODE_ENDPOINT_NOT_ENABLED = 12,
                 CODE_SHORT_PACKET = 13,
                 CODE_PARAMETER_ERROR = 17,
                 CODE_CONTEXT_STATE = 19,
                 CODE_EVENT_RING_FULL = 21,
                 CODE_RING_STOPPED = 24,
                 CODE_STOPPED = 26,
                 CODE_STOPPED_LENGTH = 27,
};
enum xhci_slot_state { SLOT_ENABLED, SLOT_DEFAULT, SLOT_ADDRESSED, SLOT_CONFIGURED }; /* 6.2.2 */
enum xhci_ep_state { EP_DISABLED, EP_RUNNING, EP_HALTED, EP_STOPPED, EP_ERROR };      /* 6.2.3 */
enum xhci_ep_type {                                                                   /* 6.2.3 */
                    EP_ISOCH_OUT = 1,
                    EP_BULK_OUT = 2,
                    EP_INTERRUPT_OUT = 3,
                    EP_CONTROL = 4,
                    EP_ISOCH_IN = 5,
                    EP_BULK_IN = 6,
                    EP_INTERRUPT_IN = 7,
};
enum { /* port link state, 5.4.8 */
       PLS_U0 = 0,
       PLS_U3 = 3,
       PLS_DISABLED = 4,
       PLS_RX_DETECT = 5,
       PLS_POLLING = 7,
       PLS_RESUME = 15,
};

struct xhci_trb {
    uint64_t param;
    uint32_t status, control;
};

struct xhci_ep {
    uint8_t state;
    uint8_t type;        /* enum xhci_ep_type, 0: disabled */
    uint8_t interval;    /* 2^n * 125 us; <= 15 */
    uint16_t max_packet; /* >= 1 */
    bool cycle;          /* DCS */
    uint64_t dequeue;    /* the TRB at hand, aligned */
    uint32_t offset;     /* its bytes that have moved; <= XHCI_TRB_LEN */
    uint32_t edtla;      /* bytes of the TD, or since its last Event Data; <= XHCI_EDTLA */
    bool in_td;          /* the TRB before was chained */
    bool data_in;        /* direction of a control TD's data stage */
    bool shrt;           /* a short packet came: what is left of the TD is skipped */
    bool reported;       /* ... and has had its event */
    uint8_t pos, len;    /* of packet: what does not fit into the TRB at hand; pos <= len */
    uint8_t packet[USB_PACKET_BYTES];
};

struct xhci_slot {
    bool enabled;
    uint8_t state;    /* enum xhci_slot_state */
    uint8_t address;  /* of the device, 0: none yet */
    uint8_t port;     /* of the USB 2 bus, XHCI_NO_PORT: another one */
    uint64_t context; /* output device context; good from SLOT_DEFAULT on */
    struct xhci_ep ep[XHCI_DCIS];
};

struct xhci_port {
    bool enabled, power;
    uint8_t pls;
    uint8_t change; /* PORTSC bits 17-23 */
    uint8_t wake;   /* PORTSC bits 25-27 */
};

struct xhci_regs {
    uint32_t usbcmd, usbsts;
    uint32_t dnctrl, config;
    uint64_t dcbaap;
    uint64_t command; /* command ring dequeue pointer */
    bool command_cycle, command_running;
    uint16_t mfindex; /* at h.frame_ns */
    bool state_saved; /* by CSS */
    uint8_t iman;     /* IP, IE */
    uint32_t imod;    /* the interval; the counter is in h */
    uint32_t erstsz;  /* <= XHCI_ERST_MAX */
    uint64_t erstba;
    uint64_t erdp;    /* with EHB and DESI */
    bool erst_loaded; /* the rest is good: */
    uint64_t segment[XHCI_ERST_MAX];
    uint16_t segment_trbs[XHCI_ERST_MAX];
    uint8_t event_segment;
    uint16_t event_index;
    bool event_cycle;
    bool event_full;      /* Event Ring Full was said */
    bool event_pending;   /* an event that may interrupt waits: IPE of 4.17.5 */
    uint32_t port_events; /* Port Status Change Events to come */
    struct xhci_port port[2 * XHCI_PORTS_MAX];
    struct xhci_slot slot[XHCI_SLOTS];
};

struct xhci {
    struct pci_device pd;
    struct xhci_config cfg;
    struct xhci_regs r;
    struct {
        struct usb_bus bus;
        struct timer timer;
        uint64_t frame_ns;                /* of r.mfindex, virtual time */
        uint64_t moderate_ns;             /* no interrupt before */
        uint64_t next_ns;                 /* of this run: when there is more to do */
        uint64_t poll_ns[XHCI_PORTS_MAX]; /* the device there has something to say then; 0: no */
        unsigned budget;                  /* of this run: TRBs */
        bool busy;                        /* in a run */
        bool command_rung;
        uint32_t rung[XHCI_SLOTS];              /* bit per DCI: look at the endpoint */
        uint64_t due_ns[XHCI_SLOTS][XHCI_DCIS]; /* interrupt endpoints: no packet before */
    } h;
};

static inline bool xhci_running(const struct xhci *x)
{
    return (x->r.usbcmd & USBCMD_RS) != 0;
}

static inline unsigned trb_type(const struct xhci_trb *t)
{
    return t->control >> TRB_TYPE_AT & (TRB_TYPES - 1);
}

/* ---- xhci.c ---- */

uint64_t xhci_now(const struct xhci *x);
/* Does what is to be done, as far as the budget goes; the rest later. */
void xhci_run(struct xhci *x);
/* Within a run: come back at this time. */
void xhci_come_back(struct xhci *x, uint64_t at_ns);
/* The device of a slot if it hears; otherwise NULL, and *asleep if its port is suspended. */
struct usb_device *xhci_device(const struct xhci *x, const struct xhci_slot *s, bool *asleep);
/* A DMA went where no memory is: the controller stops with a host system error. */
void xhci_fatal(struct xhci *x, const char *what, uint64_t addr);

/* ---- xhci_ring.c ---- */

/* DMA; false, and the controller is dead, where no RAM is. */
bool xhci_read(struct xhci *x, uint64_t addr, void *buf, uint32_t len);
bool xhci_write(struct xhci *x, uint64_t addr, const void *buf, uint32_t len);
/* The TRB at addr if the cycle bit says that it is ours. */
bool xhci_fetch(struct xhci *x, uint64_t addr, bool cycle, struct xhci_trb *t);
/* Room for the events of one TRB? Says so to the guest if not. */
bool xhci_event_room(struct xhci *x);
/* True if the guest has seen all events. */
bool xhci_events_seen(struct xhci *x);
void xhci_event(struct xhci *x, const struct xhci_trb *t, bool interrupts);
/* Executes what is on the transfer ring of a running endpoint. slot from 0. */
void xhci_run_endpoint(struct xhci *x, unsigned slot, unsigned dci);
/* Tells of the TD at which Stop Endpoint found the endpoint. */
void xhci_stopped_event(struct xhci *x, unsigned slot, unsigned dci);
/* The next doorbell starts at the TRB at ep->dequeue, with a new TD. */
void xhci_restart_ring(struct xhci_ep *ep);

/* ---- xhci_cmd.c ---- */

void xhci_run_commands(struct xhci *x);
/* Writes state and dequeue pointer of an endpoint to its context. */
void xhci_endpoint_context(struct xhci *x, unsigned slot, unsigned dci);
/* The slot is disabled, its endpoints gone. */
void xhci_slot_clear(struct xhci *x, unsigned slot);
/* False: a context with this type is not valid at dci. */
bool xhci_endpoint_type_valid(unsigned type, unsigned dci);
