/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/usb.h"

#include <errno.h>
#include <string.h>

enum stage { STAGE_IDLE, STAGE_DATA_IN, STAGE_DATA_OUT, STAGE_STALLED, STAGES };
enum { /* USB 1.1, table 9-5, and the features of table 9-6 */
       DESCRIPTOR_DEVICE = 1,
       DESCRIPTOR_CONFIGURATION = 2,
       DESCRIPTOR_STRING = 3,
       DESCRIPTOR_QUALIFIER = 6, /* USB 2.0, table 9-5: what the device is at the other speed */
       DESCRIPTOR_OTHER_SPEED = 7,
       QUALIFIER_BYTES = 10,
       DEVICE_VERSION_AT = 3, /* high byte of bcdUSB */
       DEVICE_EP0_AT = 7,
       CONFIG_LENGTH_AT = 2,
       CONFIG_ATTRIBUTES_AT = 7,
       CONFIG_SELF_POWERED = 0x40,
       FEATURE_ENDPOINT_HALT = 0,
       FEATURE_REMOTE_WAKEUP = 1,
       INTERRUPT_ENDPOINT = 0x81,
       LANGUAGE_ENGLISH_US = 0x0409,
};

static void configure(struct usb_device *d, uint8_t value)
{
    d->r.configuration = value;
    d->r.halted = false;
    d->cfg.ops->configured(d->cfg.dev, value != 0);
}

void usb_device_reset(struct usb_device *d)
{
    d->r = (struct usb_device_regs){0};
    d->cfg.ops->configured(d->cfg.dev, false);
}

void usb_device_wake(struct usb_device *d)
{
    if (d->h.bus != NULL) {
        d->h.bus->wake(d->h.bus->host, d->h.port);
    }
}

void usb_device_poll_at(struct usb_device *d, uint64_t at_ns)
{
    if (d->h.bus != NULL && d->h.bus->poll_at != NULL) {
        d->h.bus->poll_at(d->h.bus->host, d->h.port, at_ns);
    }
}

int usb_bus_plug(struct usb_bus *bus, int port, struct usb_device *d)
{
    if (port == USB_ANY_PORT) {
        for (port = 0; port < (int)bus->ports && bus->dev[port] != NULL; port++) {
        }
        if (port == (int)bus->ports) {
            return -ENOSPC;
        }
    }
    if (port < 0 || port >= (int)bus->ports) {
        return -ENODEV;
    }
    if (bus->dev[port] != NULL) {
        return -EBUSY;
    }
    if (d->cfg.hub != NULL && (bus->open == NULL || bus->speed != USB_SPEED_FULL)) {
        return -ENOTSUP;
    }
    usb_device_reset(d);
    bus->dev[port] = d;
    d->h.bus = bus;
    d->h.port = (unsigned)port;
    d->h.speed = bus->speed;
    bus->plugged(bus->host, (unsigned)port);
    return 0;
}

void usb_bus_lend(struct usb_bus *bus, unsigned port, struct usb_device *d)
{
    if (d != NULL) {
        usb_device_reset(d);
        d->h.speed = bus->speed;
    }
    bus->dev[port] = d;
    bus->plugged(bus->host, port);
}

void usb_bus_unplug(struct usb_bus *bus, unsigned port)
{
    struct usb_device *d = port < bus->ports ? bus->dev[port] : NULL;

    if (d == NULL) {
        return;
    }
    bus->dev[port] = NULL;
    d->h.bus = NULL;
    usb_device_reset(d);
    bus->plugged(bus->host, port);
}

struct usb_device *usb_bus_find(const struct usb_bus *bus, unsigned address)
{
    for (unsigned i = 0; i < bus->ports; i++) {
        struct usb_device *d = bus->dev[i];

        if (d == NULL || !bus->open(bus->host, i)) {
            continue;
        }
        if (d->r.address == address) {
            return d;
        }
        d = d->cfg.hub != NULL ? usb_bus_find(d->cfg.hub, address) : NULL;
        if (d != NULL) {
            return d;
        }
    }
    return NULL;
}

/* ---- standard requests (USB 1.1, 9.4) ---- */

static struct usb_setup parse_setup(const uint8_t b[8])
{
    return (struct usb_setup){
        .type = b[0],
        .request = b[1],
        .value = (uint16_t)(b[2] | b[3] << 8),
        .index = (uint16_t)(b[4] | b[5] << 8),
        .length = (uint16_t)(b[6] | b[7] << 8),
    };
}

static int string_descriptor(const struct usb_device *d, unsigned index, uint8_t *data)
{
    unsigned n = 2;

    if (index == 0) {
        data[n++] = (uint8_t)LANGUAGE_ENGLISH_US;
        data[n++] = LANGUAGE_ENGLISH_US >> 8;
    } else {
        const char *const *s = d->cfg.strings;

        while (*s != NULL && index > 1) {
            s++;
            index--;
        }
        if (*s == NULL) {
            return USB_STALL;
        }
        for (const char *c = *s; *c != '\0' && n < USB_CONTROL_BYTES - 2; c++) {
            data[n++] = (uint8_t)*c;
            data[n++] = 0;
        }
    }
    data[0] = (uint8_t)n;
    data[1] = DESCRIPTOR_STRING;
    return (int)n;
}

static unsigned ep0_bytes(const struct usb_device *d)
{
    return d->h.speed == USB_SPEED_HIGH ? USB_EP0_HIGH_BYTES : USB_EP0_BYTES;
}

static int device_descriptor(const struct usb_device *d, uint8_t *data)
{
    memcpy(data, d->cfg.device, sizeof(d->cfg.device));
    if (d->h.speed == USB_SPEED_HIGH) {
        data[DEVICE_VERSION_AT - 1] = 0;
        data[DEVICE_VERSION_AT] = 2;
        data[DEVICE_EP0_AT] = USB_EP0_HIGH_BYTES;
    }
    return sizeof(d->cfg.device);
}

/* USB 2.0, 9.6.2; there is none in a device of one speed. */
static int qualifier_descriptor(const struct usb_device *d, uint8_t *data)
{
    const uint8_t q[QUALIFIER_BYTES] = {
        QUALIFIER_BYTES, DESCRIPTOR_QUALIFIER, 0, 2, 0, 0, 0, USB_EP0_BYTES, 1, 0};

    if (d->h.speed != USB_SPEED_HIGH) {
        return USB_STALL;
    }
    memcpy(data, q, sizeof(q));
    return sizeof(q);
}

/* The configuration at either speed: bInterval is in ms at full speed and, at high speed, n for 2^(n - 1)
 * microframes of 1/8 ms (USB 2.0, 9.6.6). */
static int config_descriptor(const struct usb_device *d, uint8_t type, enum usb_speed speed,
                             uint8_t *data)
{
    unsigned len = d->cfg.config[CONFIG_LENGTH_AT];

    memcpy(data, d->cfg.config, len);
    data[1] = type;
    if (speed == USB_SPEED_HIGH) {
        uint8_t n = 4;

        for (unsigned ms = d->cfg.config[len - 1]; ms > 1; ms /= 2) {
            n++;
        }
        data[len - 1] = n;
    }
    return (int)len;
}

static int get_descriptor(const struct usb_device *d, const struct usb_setup *s, uint8_t *data)
{
    unsigned index = s->value & 0xff;
    unsigned type = s->value >> 8;

    switch (type) {
    case DESCRIPTOR_DEVICE:
        return device_descriptor(d, data);
    case DESCRIPTOR_QUALIFIER:
        return qualifier_descriptor(d, data);
    case DESCRIPTOR_CONFIGURATION:
        return index != 0 ? USB_STALL
                          : config_descriptor(d, DESCRIPTOR_CONFIGURATION, d->h.speed, data);
    case DESCRIPTOR_OTHER_SPEED:
        return index != 0 || d->h.speed != USB_SPEED_HIGH
                   ? USB_STALL
                   : config_descriptor(d, DESCRIPTOR_OTHER_SPEED, USB_SPEED_FULL, data);
    case DESCRIPTOR_STRING:
        return string_descriptor(d, index, data);
    default:
        return USB_STALL;
    }
}

static int device_request(struct usb_device *d, const struct usb_setup *s, uint8_t *data)
{
    switch (s->request) {
    case USB_GET_STATUS:
        data[0] = (uint8_t)((d->r.wakeup ? 2 : 0) |
                            ((d->cfg.config[CONFIG_ATTRIBUTES_AT] & CONFIG_SELF_POWERED) != 0));
        data[1] = 0;
        return 2;
    case USB_CLEAR_FEATURE:
    case USB_SET_FEATURE:
        if (s->value != FEATURE_REMOTE_WAKEUP) {
            return USB_STALL;
        }
        d->r.wakeup = s->request == USB_SET_FEATURE;
        return 0;
    case USB_SET_ADDRESS: /* runs in the status stage, which has found the device already */
        if (s->value > 127) {
            return USB_STALL;
        }
        d->r.address = (uint8_t)s->value;
        return 0;
    case USB_GET_DESCRIPTOR:
        return get_descriptor(d, s, data);
    case USB_GET_CONFIGURATION:
        data[0] = d->r.configuration;
        return 1;
    case USB_SET_CONFIGURATION:
        if ((s->value & 0xff) > 1) {
            return USB_STALL;
        }
        configure(d, (uint8_t)s->value);
        return 0;
    default:
        return USB_STALL;
    }
}

static int interface_request(struct usb_device *d, const struct usb_setup *s, uint8_t *data)
{
    if (s->index != 0 || d->r.configuration == 0) {
        return USB_STALL;
    }
    switch (s->request) {
    case USB_GET_STATUS:
        data[0] = data[1] = 0;
        return 2;
    case USB_GET_DESCRIPTOR:
        return d->cfg.ops->request(d->cfg.dev, s, data);
    case USB_GET_INTERFACE:
        data[0] = 0;
        return 1;
    case USB_SET_INTERFACE:
        return s->value == 0 ? 0 : USB_STALL;
    default:
        return USB_STALL;
    }
}

static int endpoint_request(struct usb_device *d, const struct usb_setup *s, uint8_t *data)
{
    bool interrupt = s->index == INTERRUPT_ENDPOINT && d->r.configuration != 0;

    if (!interrupt && (s->index & 0x7f) != 0) {
        return USB_STALL;
    }
    switch (s->request) {
    case USB_GET_STATUS:
        data[0] = interrupt && d->r.halted;
        data[1] = 0;
        return 2;
    case USB_CLEAR_FEATURE:
    case USB_SET_FEATURE:
        if (s->value != FEATURE_ENDPOINT_HALT) {
            return USB_STALL;
        }
        if (interrupt) {
            d->r.halted = s->request == USB_SET_FEATURE;
        }
        return 0;
    default:
        return USB_STALL;
    }
}

static int class_request(struct usb_device *d, const struct usb_setup *s)
{
    const struct usb_device_ops *ops = d->cfg.ops;

    if ((s->type & ~(USB_DIR_IN | USB_RECIPIENT)) != USB_TYPE_CLASS || d->r.configuration == 0) {
        return USB_STALL;
    }
    switch (s->type & USB_RECIPIENT) {
    case USB_TO_INTERFACE:
        return s->index == 0 ? ops->request(d->cfg.dev, s, d->r.data) : USB_STALL;
    case USB_TO_DEVICE:
    case USB_TO_OTHER:
        return ops->class_request != NULL ? ops->class_request(d->cfg.dev, s, d->r.data)
                                          : USB_STALL;
    default:
        return USB_STALL;
    }
}

/* Carries out the request of r.setup; the length of the answer in r.data, or USB_STALL. */
static int run_request(struct usb_device *d)
{
    static int (*const standard[])(struct usb_device * d, const struct usb_setup *s,
                                   uint8_t *data) = {
        [USB_TO_DEVICE] = device_request,
        [USB_TO_INTERFACE] = interface_request,
        [USB_TO_ENDPOINT] = endpoint_request,
    };
    const struct usb_setup s = parse_setup(d->r.setup);
    unsigned recipient = s.type & USB_RECIPIENT;
    bool answers = s.request == USB_GET_STATUS || s.request == USB_GET_DESCRIPTOR ||
                   s.request == USB_GET_CONFIGURATION || s.request == USB_GET_INTERFACE;

    if ((s.type & ~(USB_DIR_IN | USB_RECIPIENT)) != 0) {
        return class_request(d, &s);
    }
    if (recipient >= sizeof(standard) / sizeof(standard[0]) ||
        answers != ((s.type & USB_DIR_IN) != 0)) {
        return USB_STALL;
    }
    return standard[recipient](d, &s, d->r.data);
}

/* ---- control transfers (USB 1.1, 8.5.2): requests that send run at their SETUP, the others in the
 * status stage ---- */

static int control_setup(struct usb_device *d, const uint8_t *data, unsigned len)
{
    struct usb_setup s;
    int n;

    if (len != sizeof(d->r.setup)) {
        return USB_SILENT;
    }
    memcpy(d->r.setup, data, sizeof(d->r.setup));
    s = parse_setup(data);
    d->r.pos = d->r.len = 0;
    if ((s.type & USB_DIR_IN) != 0 && s.length != 0) {
        n = run_request(d);
        d->r.stage = n < 0 ? STAGE_STALLED : STAGE_DATA_IN;
        d->r.len = (uint16_t)(n < 0 ? 0 : n < s.length ? n : s.length);
    } else {
        d->r.stage = s.length > USB_CONTROL_BYTES ? STAGE_STALLED : STAGE_DATA_OUT;
        d->r.len = d->r.stage == STAGE_STALLED ? 0 : s.length;
    }
    return (int)len;
}

static int control_in(struct usb_device *d, uint8_t *data)
{
    unsigned n = d->r.len - d->r.pos;

    switch (d->r.stage) {
    case STAGE_DATA_IN:
        n = n < ep0_bytes(d) ? n : ep0_bytes(d);
        memcpy(data, d->r.data + d->r.pos, n);
        d->r.pos = (uint16_t)(d->r.pos + n);
        return (int)n;
    case STAGE_DATA_OUT: /* status, if all has come */
        d->r.stage = n == 0 && run_request(d) >= 0 ? STAGE_IDLE : STAGE_STALLED;
        return d->r.stage == STAGE_IDLE ? 0 : USB_STALL;
    default:
        return USB_STALL;
    }
}

static int control_out(struct usb_device *d, const uint8_t *data, unsigned len)
{
    switch (d->r.stage) {
    case STAGE_DATA_IN: /* status; also before all was fetched */
        d->r.stage = STAGE_IDLE;
        return (int)len;
    case STAGE_DATA_OUT:
        if (len > (unsigned)(d->r.len - d->r.pos)) {
            d->r.stage = STAGE_STALLED;
            return USB_STALL;
        }
        memcpy(d->r.data + d->r.pos, data, len);
        d->r.pos = (uint16_t)(d->r.pos + len);
        return (int)len;
    default:
        return USB_STALL;
    }
}

int usb_transaction(struct usb_device *d, uint8_t pid, unsigned endpoint, uint8_t *data,
                    unsigned len)
{
    if (endpoint == 0) {
        switch (pid) {
        case USB_PID_SETUP:
            return control_setup(d, data, len);
        case USB_PID_IN:
            return control_in(d, data);
        default:
            return control_out(d, data, len);
        }
    }
    if (endpoint != (INTERRUPT_ENDPOINT & 0x0f) || pid != USB_PID_IN || d->r.configuration == 0) {
        return USB_SILENT;
    }
    return d->r.halted ? USB_STALL : d->cfg.ops->interrupt_in(d->cfg.dev, data);
}

int usb_device_state(struct usb_device *d, struct save_stream *s)
{
    struct usb_device_regs r = d->r;

    save_u8(s, &r.address);
    save_u8(s, &r.configuration);
    save_bool(s, &r.wakeup);
    save_bool(s, &r.halted);
    save_u8(s, &r.stage);
    save_bytes(s, r.setup, sizeof(r.setup));
    save_u16(s, &r.pos);
    save_u16(s, &r.len);
    save_bytes(s, r.data, sizeof(r.data));
    if (s->loading) {
        if (s->error != 0 || r.address > 127 || r.configuration > 1 || r.stage >= STAGES ||
            r.len > USB_CONTROL_BYTES || r.pos > r.len) {
            return -EINVAL;
        }
        d->r = r;
    }
    return s->error;
}
