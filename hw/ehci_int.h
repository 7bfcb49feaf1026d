/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Between ehci.c (registers, ports, life) and ehci_sched.c (schedules). EHCI 1.0, chapters 2 and 3. */
#include <stdbool.h>
#include <stdint.h>

#include "core/pci.h"
#include "hw/ehci.h"
#include "hw/usb.h"

enum ehci_reg { /* EHCI 1.0, 2.2 and 2.3 */
                EHCI_CAPLENGTH = 0x00,
                EHCI_HCSPARAMS = 0x04,
                EHCI_HCCPARAMS = 0x08,
                EHCI_USBCMD = 0x20,
                EHCI_USBSTS = 0x24,
                EHCI_USBINTR = 0x28,
                EHCI_FRINDEX = 0x2c,
                EHCI_PERIODICLISTBASE = 0x34,
                EHCI_ASYNCLISTADDR = 0x38,
                EHCI_CONFIGFLAG = 0x60,
                EHCI_PORTSC = 0x64,
                EHCI_BAR_BYTES = 0x1000,
};
enum {
    USBCMD_RS = 1,
    USBCMD_HCRESET = 2,
    USBCMD_PSE = 0x10,
    USBCMD_ASE = 0x20,
    USBCMD_IAAD = 0x40
};
enum {
    USBCMD_ITC_RESET = 0x080000, /* an interrupt per 8 microframes at most */
    USBCMD_RW = 0xff0000 | USBCMD_RS | USBCMD_PSE | USBCMD_ASE,
    USBCMD_ALL = USBCMD_RW | USBCMD_IAAD,
};
enum {
    USBSTS_INT = 1,
    USBSTS_ERROR = 2,
    USBSTS_PORT_CHANGE = 4,
    USBSTS_ROLLOVER = 8,
    USBSTS_HSE = 0x10,
    USBSTS_ASYNC_ADVANCE = 0x20,
    USBSTS_W1C = 0x3f, /* USBINTR has the same bits */
    USBSTS_HALTED = 0x1000,
    USBSTS_RECLAMATION = 0x2000,
    USBSTS_PERIODIC = 0x4000,
    USBSTS_ASYNC = 0x8000,
};
enum {
    PORTSC_CCS = 1,
    PORTSC_CSC = 2,
    PORTSC_PED = 4,
    PORTSC_PEDC = 8,
    PORTSC_FPR = 0x40,
    PORTSC_SUSPEND = 0x80,
    PORTSC_PR = 0x100,
    PORTSC_J_STATE =
        0x800, /* line status: an idle full-speed device; a high-speed one until its reset */
    PORTSC_PP = 0x1000,
    PORTSC_OWNER = 0x2000,
    PORTSC_PLAIN = 0x7f0000, /* test mode, wake-up enables: kept */
    PORTSC_SAVED = PORTSC_CSC | PORTSC_PED | PORTSC_FPR | PORTSC_SUSPEND | PORTSC_PR |
                   PORTSC_OWNER | PORTSC_PLAIN,
};
enum {
    EHCI_UFRAME_NS = 125000,
    EHCI_FRAME_NS = 8 * EHCI_UFRAME_NS,
    EHCI_FRAMES = 1024,         /* of the frame list; HCCPARAMS says that it has no other size */
    EHCI_FRINDEX_MASK = 0x3fff, /* microframes */
    EHCI_ROLLOVER = 8 * EHCI_FRAMES, /* FRINDEX's highest bit toggles */
};

struct ehci_regs {
    uint32_t usbcmd, usbsts, usbintr; /* usbsts without the schedules' status, which usbcmd says */
    uint32_t frindex;                 /* at h.frame_ns */
    uint32_t periodiclistbase, asynclistaddr;
    uint8_t configflag;
    uint32_t portsc[EHCI_PORTS]; /* PORTSC_SAVED; the rest is what is plugged in */
};

struct ehci {
    struct pci_device pd;
    struct ehci_regs r;
    struct {
        struct timer walk;
        uint64_t frame_ns;  /* virtual time; the frames before were walked */
        uint32_t quiet_ms;  /* since something moved */
        struct usb_bus bus; /* dev[]: what is plugged in, whoever owns the port */
        struct usb_bus *companion[EHCI_PORTS]; /* NULL: none */
        uint8_t companion_port[EHCI_PORTS];
        uint8_t companions, ports_per_companion;
    } h;
};

static inline bool ehci_running(const struct ehci *e)
{
    return (e->r.usbcmd & USBCMD_RS) != 0;
}

uint64_t ehci_now_ns(const struct ehci *e);
/* FRINDEX by now. */
uint32_t ehci_frindex(const struct ehci *e);
/* The device on port while EHCI owns it, or NULL. */
struct usb_device *ehci_device(const struct ehci *e, unsigned port);
void ehci_update_irq(struct ehci *e);
/* RS is cleared: the schedules stand still. */
void ehci_halt(struct ehci *e);

/* ehci_sched.c. Processes the frames that have passed. */
void ehci_walk(struct ehci *e);
/* h.walk's function: walks, and plans the next walk. */
void ehci_walk_timer(void *arg);
/* Something may move: full speed for a while. The first walk is at the next millisecond, or at once if one has
 * passed. */
void ehci_hurry(struct ehci *e);
