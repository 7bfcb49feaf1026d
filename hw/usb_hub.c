/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/usb_hub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/board.h"
#include "hw/usb.h"

enum { HUB_DESCRIPTOR = 0x29, HUB_DESCRIPTOR_BYTES = 11 }; /* USB 1.1, 11.15.2.1 */

enum hub_feature { /* USB 1.1, table 11-14 */
                   C_HUB_LOCAL_POWER = 0,
                   C_HUB_OVER_CURRENT = 1,
                   PORT_ENABLE = 1,
                   PORT_SUSPEND = 2,
                   PORT_RESET = 4,
                   PORT_POWER = 8,
                   C_PORT_CONNECTION = 16,
                   C_PORT_ENABLE = 17,
                   C_PORT_SUSPEND = 18,
                   C_PORT_OVER_CURRENT = 19,
                   C_PORT_RESET = 20,
};
enum { /* wPortStatus and wPortChange, USB 1.1, tables 11-15 and 11-16 */
       STATUS_CONNECTION = 0x01,
       STATUS_ENABLE = 0x02,
       STATUS_SUSPEND = 0x04,
       STATUS_POWER = 0x100,
       CHANGE_CONNECTION = 0x01,
       CHANGE_SUSPEND = 0x04,
       CHANGE_RESET = 0x10,
       CHANGES = 0x1f,
};

struct hub_port {
    uint8_t status; /* STATUS_ENABLE, STATUS_SUSPEND; the rest is what is plugged in */
    uint8_t change;
};

struct usb_hub_regs {
    struct hub_port port[USB_HUB_PORTS];
};

struct usb_hub {
    struct usb_device usb; /* first */
    struct usb_hub_regs r;
    struct {
        struct usb_bus bus;
    } h;
};

/* Numbers and names are those that installed guests know. */
static const uint8_t device_descriptor[] = {
    18,   1,    0x10, 0x01,          /* bcdUSB 1.1 */
    9,    0,    0,    USB_EP0_BYTES, /* hub */
    0x09, 0x04, 0xaa, 0x55,          /* idVendor, idProduct */
    0x01, 0x01,                      /* bcdDevice */
    1,    2,    3,    1,             /* manufacturer, product, serial number; one configuration */
};
static const uint8_t config_descriptor[] = {
    /* Configuration: has power of its own, can wake the host up */
    9, 2, 25, 0, 1, 1, 0, 0xe0, 0,
    /* Interface: hub */
    9, 4, 0, 0, 1, 9, 0, 0, 0,
    /* Endpoint: interrupt, IN 1, a bit for each port and one for the hub */
    7, 5, 0x81, 3, 2, 0, 255};
static const uint8_t hub_descriptor[HUB_DESCRIPTOR_BYTES] = {HUB_DESCRIPTOR_BYTES,
                                                             HUB_DESCRIPTOR,
                                                             USB_HUB_PORTS,
                                                             0x0a,
                                                             0, /* no power switches */
                                                             1, /* power is good after 2 ms */
                                                             0, /* mA of the hub itself */
                                                             0,
                                                             0, /* all devices can be removed */
                                                             0xff,
                                                             0xff};
static const char *const strings[] = {"QEMU", "QEMU USB Hub", "314159", NULL};

static struct usb_device *at(const struct usb_hub *hub, unsigned port)
{
    return hub->h.bus.dev[port];
}

/* ---- as struct usb_bus ---- */

static bool port_open(const void *host, unsigned port)
{
    const struct usb_hub *hub = host;

    return hub->usb.r.configuration != 0 &&
           (hub->r.port[port].status & (STATUS_ENABLE | STATUS_SUSPEND)) == STATUS_ENABLE;
}

static void plugged(void *host, unsigned port)
{
    struct usb_hub *hub = host;

    hub->r.port[port].status = 0;
    hub->r.port[port].change |= CHANGE_CONNECTION;
    usb_device_wake(&hub->usb);
}

/* A suspended port resumes if its device has been allowed to ask for that (USB 1.1, 11.4.4); towards the host the hub
 * speaks as any device. DEVIATION: if the hub was not allowed to wake the host up, what is behind it does not either. */
static void device_wakes(void *host, unsigned port)
{
    struct usb_hub *hub = host;
    struct hub_port *p = &hub->r.port[port];

    if ((p->status & STATUS_ENABLE) == 0) {
        return;
    }
    if ((p->status & STATUS_SUSPEND) != 0) {
        if (!at(hub, port)->r.wakeup) {
            return;
        }
        p->status = STATUS_ENABLE;
        p->change |= CHANGE_SUSPEND;
    }
    usb_device_wake(&hub->usb);
}

/* ---- as struct usb_device ---- */

static void port_reset(struct usb_hub *hub, unsigned port)
{
    struct hub_port *p = &hub->r.port[port];

    /* DEVIATION: over at once, not after 10 ms: nobody can wait for less than a transfer. */
    if (at(hub, port) != NULL) {
        usb_device_reset(at(hub, port));
        p->status = STATUS_ENABLE;
    }
    p->change |= CHANGE_RESET;
}

static int set_port_feature(struct usb_hub *hub, unsigned port, unsigned feature)
{
    struct hub_port *p = &hub->r.port[port];

    switch (feature) {
    case PORT_SUSPEND:
        if ((p->status & STATUS_ENABLE) != 0) {
            p->status |= STATUS_SUSPEND;
        }
        return 0;
    case PORT_RESET:
        port_reset(hub, port);
        return 0;
    case PORT_POWER: /* always on */
        return 0;
    default:
        return USB_STALL;
    }
}

static int clear_port_feature(struct usb_hub *hub, unsigned port, unsigned feature)
{
    struct hub_port *p = &hub->r.port[port];

    switch (feature) {
    case PORT_ENABLE:
        p->status = 0;
        return 0;
    case PORT_SUSPEND:
        if ((p->status & STATUS_SUSPEND) != 0) { /* DEVIATION: resumed at once */
            p->status = STATUS_ENABLE;
            p->change |= CHANGE_SUSPEND;
        }
        return 0;
    case PORT_POWER:
        return 0;
    case C_PORT_CONNECTION:
    case C_PORT_ENABLE:
    case C_PORT_SUSPEND:
    case C_PORT_OVER_CURRENT:
    case C_PORT_RESET:
        p->change &= (uint8_t) ~(1u << (feature - C_PORT_CONNECTION));
        return 0;
    default:
        return USB_STALL;
    }
}

static int port_request(struct usb_hub *hub, const struct usb_setup *s, uint8_t *data)
{
    unsigned port = s->index - 1u;
    uint16_t status;

    if (port >= USB_HUB_PORTS) {
        return USB_STALL;
    }
    switch ((s->type & USB_DIR_IN) << 8 | s->request) {
    case USB_DIR_IN << 8 | USB_GET_STATUS:
        status = (uint16_t)(hub->r.port[port].status | STATUS_POWER |
                            (at(hub, port) != NULL ? STATUS_CONNECTION : 0));
        data[0] = (uint8_t)status;
        data[1] = (uint8_t)(status >> 8);
        data[2] = hub->r.port[port].change;
        data[3] = 0;
        return 4;
    case USB_SET_FEATURE:
        return set_port_feature(hub, port, s->value);
    case USB_CLEAR_FEATURE:
        return clear_port_feature(hub, port, s->value);
    default:
        return USB_STALL;
    }
}

/* USB 1.1, 11.16.2. Bus states and the writing of descriptors are optional. */
static int hub_class_request(void *dev, const struct usb_setup *s, uint8_t *data)
{
    if ((s->type & USB_RECIPIENT) == USB_TO_OTHER) {
        return port_request(dev, s, data);
    }
    switch ((s->type & USB_DIR_IN) << 8 | s->request) {
    case USB_DIR_IN << 8 | USB_GET_STATUS: /* power is good, no change */
        memset(data, 0, 4);
        return 4;
    case USB_DIR_IN << 8 | USB_GET_DESCRIPTOR:
        if (s->value != HUB_DESCRIPTOR << 8 && s->value != 0) { /* 0: USB 1.0 */
            return USB_STALL;
        }
        memcpy(data, hub_descriptor, sizeof(hub_descriptor));
        return sizeof(hub_descriptor);
    case USB_SET_FEATURE:
    case USB_CLEAR_FEATURE:
        return s->value == C_HUB_LOCAL_POWER || s->value == C_HUB_OVER_CURRENT ? 0 : USB_STALL;
    default:
        return USB_STALL;
    }
}

static int hub_request(void *dev, const struct usb_setup *s, uint8_t *data)
{
    (void)dev, (void)s, (void)data;
    return USB_STALL; /* the interface has none */
}

/* The ports that have changed (USB 1.1, 11.13.4). */
static int hub_interrupt_in(void *dev, uint8_t *data)
{
    const struct usb_hub *hub = dev;
    unsigned map = 0;

    for (unsigned i = 0; i < USB_HUB_PORTS; i++) {
        map |= hub->r.port[i].change != 0 ? 2u << i : 0;
    }
    if (map == 0) {
        return USB_NAK;
    }
    data[0] = (uint8_t)map;
    data[1] = (uint8_t)(map >> 8);
    return 2;
}

/* Whatever is plugged in is new, and unreachable until the driver has reset its port. */
static void hub_configured(void *dev, bool on)
{
    struct usb_hub *hub = dev;

    (void)on;
    for (unsigned i = 0; i < USB_HUB_PORTS; i++) {
        hub->r.port[i] = (struct hub_port){.change = at(hub, i) != NULL ? CHANGE_CONNECTION : 0};
        if (at(hub, i) != NULL) {
            usb_device_reset(at(hub, i));
        }
    }
}

static const struct usb_device_ops hub_usb_ops = {
    .request = hub_request,
    .class_request = hub_class_request,
    .interrupt_in = hub_interrupt_in,
    .configured = hub_configured,
};

/* ---- life ---- */

static void hub_reset(void *dev)
{
    struct usb_hub *hub = dev;

    usb_device_reset(&hub->usb);
}

static int hub_state(void *dev, struct save_stream *s)
{
    struct usb_hub *hub = dev;
    struct usb_device_regs before = hub->usb.r;
    struct usb_hub_regs r = hub->r;
    bool ok = true;

    if (usb_device_state(&hub->usb, s) != 0) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < USB_HUB_PORTS; i++) {
        uint8_t *status = &r.port[i].status;

        save_u8(s, status);
        save_u8(s, &r.port[i].change);
        ok = ok && (*status & ~(STATUS_ENABLE | STATUS_SUSPEND)) == 0 &&
             *status != STATUS_SUSPEND && (r.port[i].change & ~CHANGES) == 0 &&
             (*status == 0 || at(hub, i) != NULL);
    }
    if (!s->loading) {
        return s->error;
    }
    if (s->error != 0 || !ok) {
        hub->usb.r = before;
        return -EINVAL;
    }
    hub->r = r;
    return 0;
}

static void hub_destroy(void *dev)
{
    free(dev);
}

static const struct device_ops hub_ops = {.name = "usb-hub",
                                          .version = 1,
                                          .reset = hub_reset,
                                          .state = hub_state,
                                          .destroy = hub_destroy};

int usb_hub_create(struct board *b, struct usb_device **out)
{
    struct usb_hub *hub = calloc(1, sizeof(*hub));
    int ret;

    if (hub == NULL) {
        return -ENOMEM;
    }
    _Static_assert(sizeof(device_descriptor) == sizeof(hub->usb.cfg.device), "device descriptor");
    _Static_assert(sizeof(config_descriptor) <= USB_CONFIG_BYTES, "configuration descriptor");
    hub->usb.cfg.ops = &hub_usb_ops;
    hub->usb.cfg.dev = hub;
    hub->usb.cfg.strings = strings;
    hub->usb.cfg.hub = &hub->h.bus;
    memcpy(hub->usb.cfg.device, device_descriptor, sizeof(device_descriptor));
    memcpy(hub->usb.cfg.config, config_descriptor, sizeof(config_descriptor));
    hub->h.bus = (struct usb_bus){.host = hub,
                                  .ports = USB_HUB_PORTS,
                                  .speed = USB_SPEED_FULL,
                                  .plugged = plugged,
                                  .wake = device_wakes,
                                  .open = port_open};
    ret = board_add_device(b, &hub_ops, hub);
    if (ret != 0) {
        free(hub);
        return ret;
    }
    *out = &hub->usb;
    return 0;
}
