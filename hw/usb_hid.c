/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/usb_hid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/board.h"
#include "hw/usb.h"
#include "ui/input.h"

enum hid_request { /* HID 1.11, 7.2 */
                   HID_GET_REPORT = 1,
                   HID_GET_IDLE = 2,
                   HID_GET_PROTOCOL = 3,
                   HID_SET_REPORT = 9,
                   HID_SET_IDLE = 10,
                   HID_SET_PROTOCOL = 11,
};
enum { HID_REPORT_INPUT = 1, HID_REPORT_OUTPUT = 2 };
enum { HID_PROTOCOL_BOOT = 0, HID_PROTOCOL_REPORT = 1 };
enum { HID_DESCRIPTOR = 0x21, HID_REPORT_DESCRIPTOR = 0x22, HID_DESCRIPTOR_AT = 18 };

enum {
    QUEUE_LEN = 16,
    BACKLOG = 1 << 16, /* movement not reported yet saturates here */
    ABS_MAX_POS = 32767,
    BUTTONS = 0x1f,
    STEP_MAX = 127,          /* movement in one report */
    IDLE_UNIT_NS = 4000000,  /* HID 1.11, 7.2.4 */
    IDLE_KEYBOARD = 500 / 4, /* recommended default */
    INTERVAL_MS = 8,         /* between polls of the interrupt endpoint */
    USAGE_ROLLOVER = 0x01,
    USAGE_MODIFIERS = 0xe0, /* .. 0xe7 */
    USAGES = 0x100,
    KEYS_MAX = 6,
};

/* A pointer's position (tablet) or movement, or a key going down or up. */
struct hid_event {
    int32_t x, y, dz;
    uint8_t buttons; /* keyboard: the usage */
    bool down;
};

struct usb_hid_regs {
    uint8_t protocol; /* HID_PROTOCOL_* */
    uint8_t idle;     /* in 4 ms, 0: reports only on change */
    uint8_t leds;     /* HID usage order: Num, Caps, Scroll, Compose, Kana */
    bool polled;      /* since the configuration was set: the guest drives it */
    struct hid_event queue[QUEUE_LEN];
    uint8_t head, count;      /* head < QUEUE_LEN, count <= QUEUE_LEN */
    struct hid_event now;     /* as last reported: position, buttons */
    uint8_t held[USAGES / 8]; /* keys as last reported */
    uint8_t want[USAGES / 8]; /* keys with all of the queue */
};

struct usb_hid {
    struct usb_device usb; /* first */
    struct {
        enum usb_hid_kind kind;
        uint8_t report_bytes;
    } cfg;
    struct usb_hid_regs r;
    struct {
        struct loop *loop;
        struct input *input;
        uint64_t reported_ns; /* when the last report was taken */
    } h;
};

/* ---- descriptors ---- */

/* Five buttons, X and Y of `bits` each, a wheel. HID 1.11, appendix E.10 with more of the same. */
#define POINTER_HEAD                                                                               \
    0x05, 0x01,     /* Usage Page (Generic Desktop) */                                             \
        0x09, 0x02, /* Usage (Mouse) */                                                            \
        0xa1, 0x01, /* Collection (Application) */                                                 \
        0x09, 0x01, /*   Usage (Pointer) */                                                        \
        0xa1, 0x00, /*   Collection (Physical) */                                                  \
        0x05, 0x09, /*     Usage Page (Button) */                                                  \
        0x19, 0x01, /*     Usage Minimum (1) */                                                    \
        0x29, 0x05, /*     Usage Maximum (5) */                                                    \
        0x15, 0x00, /*     Logical Minimum (0) */                                                  \
        0x25, 0x01, /*     Logical Maximum (1) */                                                  \
        0x95, 0x05, /*     Report Count (5) */                                                     \
        0x75, 0x01, /*     Report Size (1) */                                                      \
        0x81, 0x02, /*     Input (Data, Variable, Absolute) */                                     \
        0x95, 0x01, /*     Report Count (1) */                                                     \
        0x75, 0x03, /*     Report Size (3) */                                                      \
        0x81, 0x01, /*     Input (Constant) */                                                     \
        0x05, 0x01, /*     Usage Page (Generic Desktop) */                                         \
        0x09, 0x30, /*     Usage (X) */                                                            \
        0x09, 0x31  /*     Usage (Y) */
#define POINTER_WHEEL                                                                              \
    0x09, 0x38,     /*     Usage (Wheel) */                                                        \
        0x15, 0x81, /*     Logical Minimum (-127) */                                               \
        0x25, 0x7f, /*     Logical Maximum (127) */                                                \
        0x35, 0x00, /*     Physical Minimum (as logical) */                                        \
        0x45, 0x00, /*     Physical Maximum (as logical) */                                        \
        0x75, 0x08, /*     Report Size (8) */                                                      \
        0x95, 0x01, /*     Report Count (1) */                                                     \
        0x81, 0x06, /*     Input (Data, Variable, Relative) */                                     \
        0xc0, 0xc0  /* both collections end */

static const uint8_t tablet_report[] = {
    POINTER_HEAD,  0x15, 0x00, /*     Logical Minimum (0) */
    0x26,          0xff, 0x7f, /*     Logical Maximum (32767) */
    0x35,          0x00,       /*     Physical Minimum (0) */
    0x46,          0xff, 0x7f, /*     Physical Maximum (32767) */
    0x75,          0x10,       /*     Report Size (16) */
    0x95,          0x02,       /*     Report Count (2) */
    0x81,          0x02,       /*     Input (Data, Variable, Absolute) */
    POINTER_WHEEL,
};

static const uint8_t mouse_report[] = {
    POINTER_HEAD,  0x15, 0x81, /*     Logical Minimum (-127) */
    0x25,          0x7f,       /*     Logical Maximum (127) */
    0x75,          0x08,       /*     Report Size (8) */
    0x95,          0x02,       /*     Report Count (2) */
    0x81,          0x06,       /*     Input (Data, Variable, Relative) */
    POINTER_WHEEL,
};

/* HID 1.11, appendix B.1, with all usages up to the last one of the table below. */
static const uint8_t keyboard_report[] = {
    0x05, 0x01,       /* Usage Page (Generic Desktop) */
    0x09, 0x06,       /* Usage (Keyboard) */
    0xa1, 0x01,       /* Collection (Application) */
    0x05, 0x07,       /*   Usage Page (Keyboard) */
    0x19, 0xe0,       /*   Usage Minimum (Left Control) */
    0x29, 0xe7,       /*   Usage Maximum (Right GUI) */
    0x15, 0x00,       /*   Logical Minimum (0) */
    0x25, 0x01,       /*   Logical Maximum (1) */
    0x75, 0x01,       /*   Report Size (1) */
    0x95, 0x08,       /*   Report Count (8) */
    0x81, 0x02,       /*   Input (Data, Variable, Absolute) */
    0x95, 0x01,       /*   Report Count (1) */
    0x75, 0x08,       /*   Report Size (8) */
    0x81, 0x01,       /*   Input (Constant) */
    0x95, 0x05,       /*   Report Count (5) */
    0x75, 0x01,       /*   Report Size (1) */
    0x05, 0x08,       /*   Usage Page (LEDs) */
    0x19, 0x01,       /*   Usage Minimum (Num Lock) */
    0x29, 0x05,       /*   Usage Maximum (Kana) */
    0x91, 0x02,       /*   Output (Data, Variable, Absolute) */
    0x95, 0x01,       /*   Report Count (1) */
    0x75, 0x03,       /*   Report Size (3) */
    0x91, 0x01,       /*   Output (Constant) */
    0x95, 0x06,       /*   Report Count (6) */
    0x75, 0x08,       /*   Report Size (8) */
    0x15, 0x00,       /*   Logical Minimum (0) */
    0x26, 0xdf, 0x00, /*   Logical Maximum (223) */
    0x05, 0x07,       /*   Usage Page (Keyboard) */
    0x19, 0x00,       /*   Usage Minimum (0) */
    0x2a, 0xdf, 0x00, /*   Usage Maximum (223) */
    0x81, 0x00,       /*   Input (Data, Array) */
    0xc0,             /* the collection ends */
};

static const struct hid_kind {
    struct device_ops ops;
    const char *strings[4];
    const uint8_t *report;
    uint8_t report_len;   /* of the report descriptor */
    uint8_t report_bytes; /* of an input report */
    uint8_t boot_bytes;   /* ... in boot protocol, 0: has none */
    uint8_t boot_code;    /* bInterfaceProtocol */
} kinds[USB_HID_KINDS];

/* Set 1 make code (ui/input.h) -> keyboard usage, 0: none; the second half are the keys with the E0
 * prefix. HID Usage Tables 1.12, chapter 10; Microsoft's Scan Code Specification, appendix A, has
 * both. */
static const uint8_t usages[256] = {
    0x00,          0x29,          0x1e,          0x1f,          0x20,          0x21,
    0x22,          0x23,          0x24,          0x25,          0x26,          0x27,
    0x2d,          0x2e,          0x2a,          0x2b,          0x14,          0x1a,
    0x08,          0x15,          0x17,          0x1c,          0x18,          0x0c,
    0x12,          0x13,          0x2f,          0x30,          0x28,          0xe0,
    0x04,          0x16,          0x07,          0x09,          0x0a,          0x0b,
    0x0d,          0x0e,          0x0f,          0x33,          0x34,          0x35,
    0xe1,          0x31,          0x1d,          0x1b,          0x06,          0x19,
    0x05,          0x11,          0x10,          0x36,          0x37,          0x38,
    0xe5,          0x55,          0xe2,          0x2c,          0x39,          0x3a,
    0x3b,          0x3c,          0x3d,          0x3e,          0x3f,          0x40,
    0x41,          0x42,          0x43,          0x53,          0x47,          0x5f,
    0x60,          0x61,          0x56,          0x5c,          0x5d,          0x5e,
    0x57,          0x59,          0x5a,          0x5b,          0x62,          0x63,
    0x46,          0x00,          0x64,          0x44,          0x45,          0x67,
    0x00,          0x00,          0x8c,          0x00,          0x00,          0x00,
    0x00,          0x00,          0x00,          0x00,          0x68,          0x69,
    0x6a,          0x6b,          0x6c,          0x6d,          0x6e,          0x6f,
    0x70,          0x71,          0x72,          0x00,          0x88,          0x91,
    0x90,          0x87,          0x00,          0x00,          0x73,          0x93,
    0x92,          0x8a,          0x00,          0x8b,          0x00,          0x89,
    0x85,          0x00,          [0x9c] = 0x58, [0x9d] = 0xe4, [0xa0] = 0x7f, [0xae] = 0x81,
    [0xb0] = 0x80, [0xb5] = 0x54, [0xb7] = 0x46, [0xb8] = 0xe6, [0xc6] = 0x48, [0xc7] = 0x4a,
    [0xc8] = 0x52, [0xc9] = 0x4b, [0xcb] = 0x50, [0xcd] = 0x4f, [0xcf] = 0x4d, [0xd0] = 0x51,
    [0xd1] = 0x4e, [0xd2] = 0x49, [0xd3] = 0x4c, [0xdb] = 0xe3, [0xdc] = 0xe7, [0xdd] = 0x65,
    [0xde] = 0x66,
};

static const struct hid_kind *kind_of(const struct usb_hid *hid)
{
    return &kinds[hid->cfg.kind];
}

static void make_descriptors(struct usb_hid *hid)
{
    const struct hid_kind *k = kind_of(hid);
    const uint8_t device[] = {
        18,   1,    0x10, 0x01,          /* bcdUSB 1.1 */
        0,    0,    0,    USB_EP0_BYTES, /* class: of the interface */
        0x27, 0x06, 0x01, 0x00,          /* idVendor, idProduct */
        0,    0,                         /* bcdDevice */
        1,    2,    3,    1, /* manufacturer, product, serial number; one configuration */
    };
    const uint8_t config[] = {/* Configuration: bus powered, can wake the host up, 100 mA */
                              9, 2, USB_CONFIG_BYTES, 0, 1, 1, 0, 0xa0, 50,
                              /* Interface: HID */
                              9, 4, 0, 0, 1, 3, k->boot_bytes != 0, k->boot_code, 0,
                              /* HID 1.11, no country, one report descriptor */
                              9, HID_DESCRIPTOR, 0x11, 0x01, 0, 1, HID_REPORT_DESCRIPTOR,
                              k->report_len, 0,
                              /* Endpoint: interrupt, IN 1 */
                              7, 5, 0x81, 3, k->report_bytes, 0, INTERVAL_MS};

    memcpy(hid->usb.cfg.device, device, sizeof(device));
    memcpy(hid->usb.cfg.config, config, sizeof(config));
    _Static_assert(sizeof(device) == sizeof(hid->usb.cfg.device), "device descriptor");
    _Static_assert(sizeof(config) == USB_CONFIG_BYTES, "configuration descriptor");
    hid->usb.cfg.strings = k->strings;
}

/* ---- events ---- */

static int32_t clamp(int64_t v, int32_t limit)
{
    return (int32_t)(v < -limit ? -limit : v > limit ? limit : v);
}

static bool bit_get(const uint8_t *map, unsigned n)
{
    return map[n >> 3] >> (n & 7) & 1;
}

static void bit_set(uint8_t *map, unsigned n, bool on)
{
    map[n >> 3] = (uint8_t)((map[n >> 3] & ~(1u << (n & 7))) | (on ? 1u << (n & 7) : 0));
}

static struct hid_event *queued(struct usb_hid_regs *r, unsigned i)
{
    return &r->queue[(r->head + i) % QUEUE_LEN];
}

static void queue_drop_first(struct usb_hid_regs *r)
{
    r->head = (uint8_t)((r->head + 1) % QUEUE_LEN);
    r->count--;
}

static void add(struct usb_hid *hid, const struct hid_event *e)
{
    *queued(&hid->r, hid->r.count++) = *e;
    usb_device_wake(&hid->usb);
}

/*
 * Moves with the same buttons become one report, but the place of a click stays. A guest that does
 * not fetch sees the latest position and buttons.
 */
static void pointer_event(struct usb_hid *hid, const struct hid_event *e)
{
    struct usb_hid_regs *r = &hid->r;
    struct hid_event *last = r->count != 0 ? queued(r, r->count - 1u) : NULL;
    uint8_t before = r->count > 1 ? queued(r, r->count - 2u)->buttons : r->now.buttons;
    bool is_move = last != NULL && last->buttons == e->buttons && last->buttons == before;

    if (!r->polled) {
        return;
    }
    if (!is_move && r->count < QUEUE_LEN) {
        add(hid, e);
        return;
    }
    if (hid->cfg.kind == USB_HID_TABLET) {
        last->x = e->x;
        last->y = e->y;
    } else {
        last->x = clamp((int64_t)last->x + e->x, BACKLOG);
        last->y = clamp((int64_t)last->y + e->y, BACKLOG);
    }
    last->dz = clamp((int64_t)last->dz + e->dz, BACKLOG);
    last->buttons = e->buttons;
    usb_device_wake(&hid->usb); /* the first one may have come just before the port went to sleep */
}

static void tablet_event(void *dev, int x, int y, int dz, unsigned buttons)
{
    const struct hid_event e = {.x = x < 0 ? 0 : clamp(x, ABS_MAX_POS),
                                .y = y < 0 ? 0 : clamp(y, ABS_MAX_POS),
                                .dz = clamp(dz, BACKLOG),
                                .buttons = buttons & BUTTONS};

    pointer_event(dev, &e);
}

static void mouse_event(void *dev, int dx, int dy, int dz, unsigned buttons)
{
    const struct hid_event e = {.x = clamp(dx, BACKLOG),
                                .y = clamp(dy, BACKLOG),
                                .dz = clamp(dz, BACKLOG),
                                .buttons = buttons & BUTTONS};

    pointer_event(dev, &e);
}

/* The host repeats keys: a viewer's repeats stop here. */
static void key_event(void *dev, uint8_t key, bool down)
{
    struct usb_hid *hid = dev;
    struct usb_hid_regs *r = &hid->r;
    uint8_t usage = usages[key];

    if (!r->polled || usage == 0 || bit_get(r->want, usage) == down) {
        return;
    }
    bit_set(r->want, usage, down);
    if (r->count == QUEUE_LEN) { /* then two changes share a report */
        const struct hid_event *first = queued(r, 0);

        bit_set(r->held, first->buttons, first->down);
        queue_drop_first(r);
    }
    add(hid, &(struct hid_event){.buttons = usage, .down = down});
}

static const struct input_pointer tablet_input = {.absolute = tablet_event};
static const struct input_pointer mouse_input = {.relative = mouse_event};
static const struct input_keyboard keyboard_input = {.key = key_event};

/* ---- reports ---- */

static unsigned report_bytes(const struct usb_hid *hid)
{
    const struct hid_kind *k = kind_of(hid);

    return hid->r.protocol == HID_PROTOCOL_BOOT ? k->boot_bytes : k->report_bytes;
}

/* Takes what fits into one report from the queue. */
static void pointer_report(struct usb_hid *hid, uint8_t out[8])
{
    struct usb_hid_regs *r = &hid->r;
    struct hid_event step = {.x = r->now.x, .y = r->now.y, .buttons = r->now.buttons};

    if (hid->cfg.kind != USB_HID_TABLET) {
        step.x = step.y = 0;
    }
    if (r->count != 0) {
        struct hid_event *first = queued(r, 0);
        bool more;

        step = *first;
        step.dz = clamp(first->dz, STEP_MAX);
        first->dz -= step.dz;
        more = first->dz != 0;
        if (hid->cfg.kind != USB_HID_TABLET) {
            step.x = clamp(first->x, STEP_MAX);
            step.y = clamp(first->y, STEP_MAX);
            first->x -= step.x;
            first->y -= step.y;
            more = more || first->x != 0 || first->y != 0;
        }
        if (!more) {
            queue_drop_first(r);
        }
        r->now = (struct hid_event){.x = step.x, .y = step.y, .buttons = step.buttons};
    }
    out[0] = step.buttons;
    if (hid->cfg.kind == USB_HID_TABLET) {
        out[1] = (uint8_t)step.x;
        out[2] = (uint8_t)(step.x >> 8);
        out[3] = (uint8_t)step.y;
        out[4] = (uint8_t)(step.y >> 8);
        out[5] = (uint8_t)-step.dz; /* HID counts a turn away from the user as positive */
    } else {
        out[1] = (uint8_t)step.x;
        out[2] = (uint8_t)step.y;
        out[3] = (uint8_t)-step.dz;
    }
}

static void keyboard_state(struct usb_hid *hid, uint8_t out[8])
{
    unsigned n = 0;

    out[0] = hid->r.held[USAGE_MODIFIERS / 8];
    for (unsigned usage = 1; usage < USAGE_MODIFIERS; usage++) {
        if (bit_get(hid->r.held, usage)) {
            if (n == KEYS_MAX) {
                memset(out + 2, USAGE_ROLLOVER, KEYS_MAX);
                return;
            }
            out[2 + n++] = (uint8_t)usage;
        }
    }
}

static void make_report(struct usb_hid *hid, uint8_t out[8])
{
    memset(out, 0, 8);
    if (hid->cfg.kind != USB_HID_KEYBOARD) {
        pointer_report(hid, out);
        return;
    }
    if (hid->r.count != 0) {
        const struct hid_event *first = queued(&hid->r, 0);

        bit_set(hid->r.held, first->buttons, first->down);
        queue_drop_first(&hid->r);
    }
    keyboard_state(hid, out);
}

static void set_active(struct usb_hid *hid, bool active)
{
    if (hid->h.input != NULL) {
        input_set_active(hid->h.input, hid, active);
    }
}

static int hid_interrupt_in(void *dev, uint8_t *data)
{
    struct usb_hid *hid = dev;
    uint64_t now = loop_now(hid->h.loop, LOOP_VIRTUAL);
    uint64_t idle_ns = (uint64_t)hid->r.idle * IDLE_UNIT_NS;

    if (!hid->r.polled) {
        hid->r.polled = true;
        hid->h.reported_ns = now;
        set_active(hid, true);
    }
    if (hid->r.count == 0 && (idle_ns == 0 || now - hid->h.reported_ns < idle_ns)) {
        if (idle_ns != 0) {
            usb_device_poll_at(&hid->usb, hid->h.reported_ns + idle_ns);
        }
        return USB_NAK;
    }
    hid->h.reported_ns = now;
    make_report(hid, data);
    return (int)report_bytes(hid);
}

static void set_leds(struct usb_hid *hid, uint8_t leds)
{
    hid->r.leds = leds & 0x1f;
    if (hid->h.input != NULL && hid->cfg.kind == USB_HID_KEYBOARD) {
        input_set_leds(hid->h.input, (hid->r.leds & 1 ? INPUT_LED_NUM : 0u) |
                                         (hid->r.leds & 2 ? INPUT_LED_CAPS : 0u) |
                                         (hid->r.leds & 4 ? INPUT_LED_SCROLL : 0u));
    }
}

static int hid_descriptor(const struct usb_hid *hid, unsigned type, uint8_t *data)
{
    const struct hid_kind *k = kind_of(hid);

    switch (type) {
    case HID_DESCRIPTOR:
        memcpy(data, hid->usb.cfg.config + HID_DESCRIPTOR_AT, 9);
        return 9;
    case HID_REPORT_DESCRIPTOR:
        memcpy(data, k->report, k->report_len);
        return k->report_len;
    default:
        return USB_STALL;
    }
}

static int hid_request(void *dev, const struct usb_setup *s, uint8_t *data)
{
    struct usb_hid *hid = dev;
    bool boot = kind_of(hid)->boot_bytes != 0;
    bool keyboard = hid->cfg.kind == USB_HID_KEYBOARD;

    switch ((s->type & USB_DIR_IN) << 8 | s->request) {
    case USB_DIR_IN << 8 | USB_GET_DESCRIPTOR:
        return (s->type & USB_TYPE_CLASS) != 0 ? USB_STALL
                                               : hid_descriptor(hid, s->value >> 8, data);
    case USB_DIR_IN << 8 | HID_GET_REPORT:
        if (s->value == HID_REPORT_OUTPUT << 8 && keyboard) {
            data[0] = hid->r.leds;
            return 1;
        }
        if (s->value != HID_REPORT_INPUT << 8) {
            return USB_STALL;
        }
        make_report(hid, data);
        return (int)report_bytes(hid);
    case USB_DIR_IN << 8 | HID_GET_IDLE:
        data[0] = hid->r.idle;
        return 1;
    case USB_DIR_IN << 8 | HID_GET_PROTOCOL:
        data[0] = hid->r.protocol;
        return boot ? 1 : USB_STALL;
    case HID_SET_REPORT:
        if (!keyboard || s->value != HID_REPORT_OUTPUT << 8 || s->length != 1) {
            return USB_STALL;
        }
        set_leds(hid, data[0]);
        return 0;
    case HID_SET_IDLE:
        hid->r.idle = (uint8_t)(s->value >> 8);
        return 0;
    case HID_SET_PROTOCOL:
        if (!boot || s->value > HID_PROTOCOL_REPORT) {
            return USB_STALL;
        }
        hid->r.protocol = (uint8_t)s->value;
        return 0;
    default:
        return USB_STALL;
    }
}

/* The guest starts or stops driving it: events go elsewhere until the first poll. */
static void hid_configured(void *dev, bool on)
{
    struct usb_hid *hid = dev;

    (void)on;
    hid->r = (struct usb_hid_regs){.protocol = HID_PROTOCOL_REPORT,
                                   .idle = hid->cfg.kind == USB_HID_KEYBOARD ? IDLE_KEYBOARD : 0};
    set_active(hid, false);
}

static const struct usb_device_ops hid_usb_ops = {
    .request = hid_request,
    .interrupt_in = hid_interrupt_in,
    .configured = hid_configured,
};

/* ---- life ---- */

static void hid_reset(void *dev)
{
    struct usb_hid *hid = dev;

    usb_device_reset(&hid->usb);
}

static void event_state(struct hid_event *e, struct save_stream *s)
{
    uint32_t v[3] = {(uint32_t)e->x, (uint32_t)e->y, (uint32_t)e->dz};

    for (unsigned i = 0; i < 3; i++) {
        save_u32(s, &v[i]);
    }
    e->x = (int32_t)v[0];
    e->y = (int32_t)v[1];
    e->dz = (int32_t)v[2];
    save_u8(s, &e->buttons);
    save_bool(s, &e->down);
}

static bool event_valid(const struct usb_hid *hid, const struct hid_event *e)
{
    int32_t low = hid->cfg.kind == USB_HID_TABLET ? 0 : -BACKLOG;
    int32_t high = hid->cfg.kind == USB_HID_TABLET ? ABS_MAX_POS : BACKLOG;

    return e->x >= low && e->x <= high && e->y >= low && e->y <= high && e->dz >= -BACKLOG &&
           e->dz <= BACKLOG && (hid->cfg.kind == USB_HID_KEYBOARD || e->buttons <= BUTTONS);
}

static int hid_state(void *dev, struct save_stream *s)
{
    struct usb_hid *hid = dev;
    struct usb_device_regs before = hid->usb.r;
    struct usb_hid_regs r = hid->r;
    bool ok;

    if (usb_device_state(&hid->usb, s) != 0) {
        return -EINVAL;
    }
    save_u8(s, &r.protocol);
    save_u8(s, &r.idle);
    save_u8(s, &r.leds);
    save_bool(s, &r.polled);
    save_u8(s, &r.head);
    save_u8(s, &r.count);
    event_state(&r.now, s);
    for (unsigned i = 0; i < QUEUE_LEN; i++) {
        event_state(&r.queue[i], s);
    }
    save_bytes(s, r.held, sizeof(r.held));
    save_bytes(s, r.want, sizeof(r.want));
    if (!s->loading) {
        return s->error;
    }
    ok = s->error == 0 && r.leds <= 0x1f && r.head < QUEUE_LEN && r.count <= QUEUE_LEN &&
         r.protocol <= HID_PROTOCOL_REPORT &&
         (r.protocol == HID_PROTOCOL_REPORT || kind_of(hid)->boot_bytes != 0) &&
         (!r.polled || hid->usb.r.configuration != 0) && event_valid(hid, &r.now);
    for (unsigned i = 0; i < QUEUE_LEN; i++) {
        ok = ok && event_valid(hid, &r.queue[i]);
    }
    if (!ok) {
        hid->usb.r = before;
        return -EINVAL;
    }
    hid->r = r;
    hid->h.reported_ns = loop_now(hid->h.loop, LOOP_VIRTUAL);
    set_active(hid, r.polled);
    if (r.polled) {
        set_leds(hid, r.leds);
    }
    return 0;
}

static void hid_destroy(void *dev)
{
    struct usb_hid *hid = dev;

    if (hid->h.input != NULL) {
        input_remove(hid->h.input, hid);
    }
    free(hid);
}

#define HID_OPS(record)                                                                            \
    {                                                                                              \
        .name = (record), .version = 1, .reset = hid_reset, .state = hid_state,                    \
        .destroy = hid_destroy                                                                     \
    }

/* Numbers and names are those that installed guests know; by them, Linux guests decide that the
 * device may be suspended while it is idle. */
static const struct hid_kind kinds[USB_HID_KINDS] = {
    [USB_HID_TABLET] = {.ops = HID_OPS("usb-tablet"),
                        .strings = {"QEMU", "QEMU USB Tablet", "42"},
                        .report = tablet_report,
                        .report_len = sizeof(tablet_report),
                        .report_bytes = 6},
    [USB_HID_MOUSE] = {.ops = HID_OPS("usb-mouse"),
                       .strings = {"QEMU", "QEMU USB Mouse", "42"},
                       .report = mouse_report,
                       .report_len = sizeof(mouse_report),
                       .report_bytes = 4,
                       .boot_bytes = 3,
                       .boot_code = 2},
    [USB_HID_KEYBOARD] = {.ops = HID_OPS("usb-kbd"),
                          .strings = {"QEMU", "QEMU USB Keyboard", "42"},
                          .report = keyboard_report,
                          .report_len = sizeof(keyboard_report),
                          .report_bytes = 8,
                          .boot_bytes = 8,
                          .boot_code = 1},
};

static int listen_to(struct usb_hid *hid)
{
    struct input *in = hid->h.input;

    if (in == NULL) {
        return 0;
    }
    switch (hid->cfg.kind) {
    case USB_HID_KEYBOARD:
        return input_add_keyboard(in, &keyboard_input, hid);
    case USB_HID_TABLET:
        return input_add_pointer(in, &tablet_input, hid);
    default:
        return input_add_pointer(in, &mouse_input, hid);
    }
}

int usb_hid_create(struct board *b, enum usb_hid_kind kind, struct input *in,
                   struct usb_device **out)
{
    struct usb_hid *hid = calloc(1, sizeof(*hid));
    int ret;

    if (hid == NULL) {
        return -ENOMEM;
    }
    hid->cfg.kind = kind;
    hid->h.loop = b->loop;
    hid->h.input = in;
    hid->usb.cfg.ops = &hid_usb_ops;
    hid->usb.cfg.dev = hid;
    make_descriptors(hid);
    ret = listen_to(hid);
    if (ret != 0) {
        free(hid);
        return ret;
    }
    ret = board_add_device(b, &kinds[kind].ops, hid);
    if (ret != 0) {
        hid_destroy(hid);
        return ret;
    }
    *out = &hid->usb;
    return 0;
}
