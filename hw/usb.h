/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A USB function as its host controller sees it: one packet in, one packet or handshake out. On a
 * full-speed bus it is a USB 1.1 device, on a high-speed one a USB 2.0 device. usb.c has the default pipe
 * (address, standard requests, descriptors); what is the device's own is behind struct usb_device_ops. Data toggles are not looked at: DEVIATION because
 * no packet is ever lost between us. USB 1.1 and 2.0, chapters 8 and 9.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/save.h"

enum usb_pid { USB_PID_OUT = 0xe1, USB_PID_IN = 0x69, USB_PID_SETUP = 0x2d }; /* USB 1.1, 8.3.1 */

/* Instead of a number of bytes: the handshake, or none (nobody at this endpoint). */
enum { USB_NAK = -1, USB_STALL = -2, USB_SILENT = -3 };

enum {
    USB_EP0_BYTES = 8,       /* bMaxPacketSize0 at full speed */
    USB_EP0_HIGH_BYTES = 64, /* and at high speed (USB 2.0, 5.5.3) */
    USB_PACKET_BYTES = 64,   /* longest packet of any endpoint */
    USB_CONTROL_BYTES = 256,
    USB_CONFIG_BYTES =
        34, /* one configuration, interface, HID descriptor and endpoint: the longest there is */
    USB_BUS_PORTS = 15, /* of one controller or hub, at most */
    USB_HUB_TIERS = 5,  /* hubs between a controller and a device (USB 1.1, 4.1.1) */
};

enum usb_speed { USB_SPEED_FULL, USB_SPEED_HIGH };

enum usb_request { /* USB 1.1, table 9-4 */
                   USB_GET_STATUS = 0,
                   USB_CLEAR_FEATURE = 1,
                   USB_SET_FEATURE = 3,
                   USB_SET_ADDRESS = 5,
                   USB_GET_DESCRIPTOR = 6,
                   USB_GET_CONFIGURATION = 8,
                   USB_SET_CONFIGURATION = 9,
                   USB_GET_INTERFACE = 10,
                   USB_SET_INTERFACE = 11,
};
enum { USB_DIR_IN = 0x80, USB_TYPE_CLASS = 0x20, USB_RECIPIENT = 0x1f };
enum { USB_TO_DEVICE = 0, USB_TO_INTERFACE = 1, USB_TO_ENDPOINT = 2, USB_TO_OTHER = 3 };

/* The eight bytes of a SETUP packet. */
struct usb_setup {
    uint8_t type, request;
    uint16_t value, index, length;
};

struct usb_device_ops {
    /* A request that is not standard, or a descriptor that usb.c does not know (request
     * GET_DESCRIPTOR to the interface). IN: fills data (USB_CONTROL_BYTES) and returns its length;
     * OUT: data holds s->length bytes, returns 0. USB_STALL refuses. */
    int (*request)(void *dev, const struct usb_setup *s, uint8_t *data);
    /* The same for a class request to the device or to "other" (a hub's port). NULL: it has none. */
    int (*class_request)(void *dev, const struct usb_setup *s, uint8_t *data);
    /* The interrupt endpoint, IN 1, of the configured device: fills data (USB_PACKET_BYTES) and
     * returns its length, or USB_NAK. */
    int (*interrupt_in)(void *dev, uint8_t *data);
    /* The configuration was set (on) or lost, by request or bus reset. */
    void (*configured)(void *dev, bool on);
};

struct usb_device_regs {
    uint8_t address;
    uint8_t configuration; /* 0 or 1 */
    bool wakeup;           /* DEVICE_REMOTE_WAKEUP */
    bool halted;           /* ENDPOINT_HALT of IN 1 */
    uint8_t stage;         /* of the control transfer: enum in usb.c */
    uint8_t setup[8];      /* its SETUP packet */
    uint16_t pos, len;     /* of the data stage: pos <= len <= USB_CONTROL_BYTES */
    uint8_t data[USB_CONTROL_BYTES];
};

struct usb_device {
    struct {
        const struct usb_device_ops *ops;
        void *dev;
        uint8_t device[18]; /* descriptors, as at full speed: usb.c turns them into the others */
        uint8_t config
            [USB_CONFIG_BYTES]; /* wTotalLength of it; ends in the endpoint's bInterval, in ms */
        const char *const *strings; /* of index 1 up, NULL ends; at most 126 characters */
        struct usb_bus *hub;        /* the ports of a hub, else NULL */
    } cfg;
    struct usb_device_regs r;
    struct {
        struct usb_bus *bus; /* NULL: not plugged in */
        unsigned port;
        enum usb_speed speed; /* of the controller that has it now */
    } h;
};

/*
 * The ports of one controller or hub (which owns this): hw/board_usb.c plugs in what the guest has at start, and
 * what the monitor adds later.
 */
struct usb_bus {
    void *host;           /* the controller or hub, for the calls; as the board knows it */
    unsigned ports;       /* 1 .. USB_BUS_PORTS */
    enum usb_speed speed; /* of the devices plugged in here */
    struct usb_device *dev[USB_BUS_PORTS];
    /* dev[port] has come, or (NULL) has gone. It was reset before. */
    void (*plugged)(void *host, unsigned port);
    /* The device there has something to say. */
    void (*wake)(void *host, unsigned port);
    /* Tokens get through to dev[port]: it is enabled, neither in reset nor suspended. NULL: usb_bus_find() is not
     * used here, and hubs cannot be plugged in. */
    bool (*open)(const void *host, unsigned port);
    /* Optional, for a controller that does not poll on and on: dev[port] had nothing to say, but will have at
     * at_ns (virtual time) though nothing happens. */
    void (*poll_at)(void *host, unsigned port, uint64_t at_ns);
};

enum { USB_ANY_PORT = -1 };

/* Plugs d (borrowed until it is unplugged or the controller is gone) into port, counted from 0, or into the first
 * free one. 0, or -ENOSPC (no port is free), -EBUSY (that one is not), -ENODEV (no such port), -ENOTSUP (a hub
 * where hubs cannot be). */
int usb_bus_plug(struct usb_bus *bus, int port, struct usb_device *d);
/* A port that is wired to two controllers was switched to that of `bus`: d (NULL: nobody) is there now, reset, at the
 * speed of this bus. It stays plugged in where it was, which passes wake() on. */
void usb_bus_lend(struct usb_bus *bus, unsigned port, struct usb_device *d);
/* The device at port is gone; its state is that after a reset. Nobody there: does nothing. */
void usb_bus_unplug(struct usb_bus *bus, unsigned port);
/* The device that hears a token for address, on these ports or behind hubs; NULL: nobody. */
struct usb_device *usb_bus_find(const struct usb_bus *bus, unsigned address);

/* Bus reset, or power on. */
void usb_device_reset(struct usb_device *d);

/* One transaction with the device. data: room for USB_PACKET_BYTES; OUT and SETUP: holds len bytes
 * (<= USB_PACKET_BYTES). Returns the bytes that were sent (IN) or taken, or USB_NAK, USB_STALL,
 * USB_SILENT. */
int usb_transaction(struct usb_device *d, uint8_t pid, unsigned endpoint, uint8_t *data,
                    unsigned len);

/* Tells the controller that a poll would succeed, or that a suspended host should wake up. */
void usb_device_wake(struct usb_device *d);

/* Within interrupt_in(): a poll at this virtual time would succeed. */
void usb_device_poll_at(struct usb_device *d, uint64_t at_ns);

/* Moves the registers; -EINVAL and d unchanged if what was loaded is refused. */
int usb_device_state(struct usb_device *d, struct save_stream *s);
