/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests and reports, one packet at a time: what a controller does is in test_uhci.c. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hw/i8042.h"
#include "hw/usb.h"
#include "hw/usb_hid.h"
#include "tests/unit/harness.h"
#include "ui/input.h"

enum { MS = 1000000 };
static struct harness *h;
static struct input *input;
static struct usb_device *dev;

static int start(enum usb_hid_kind kind)
{
    h = harness_create();
    input = input_create(h->loop);
    return i8042_create(&h->board, input) != 0 || usb_hid_create(&h->board, kind, input, &dev) != 0;
}

static int tablet(void **state)
{
    (void)state;
    return start(USB_HID_TABLET);
}

static int mouse(void **state)
{
    (void)state;
    return start(USB_HID_MOUSE);
}

static int keyboard(void **state)
{
    (void)state;
    return start(USB_HID_KEYBOARD);
}

static int teardown(void **state)
{
    (void)state;
    board_fini(&h->board);
    input_destroy(input);
    harness_destroy(h);
    return 0;
}

/* A whole control transfer; bytes of the data stage, or USB_STALL wherever it came. */
static int control(uint8_t type, uint8_t request, uint16_t value, uint16_t index, uint16_t length,
                   uint8_t *data)
{
    uint8_t p[USB_PACKET_BYTES] = {type,
                                   request,
                                   (uint8_t)value,
                                   (uint8_t)(value >> 8),
                                   (uint8_t)index,
                                   (uint8_t)(index >> 8),
                                   (uint8_t)length,
                                   (uint8_t)(length >> 8)};
    int got = 0;

    assert_int_equal(usb_transaction(dev, USB_PID_SETUP, 0, p, 8), 8);
    if ((type & USB_DIR_IN) != 0 && length != 0) {
        for (int n = USB_EP0_BYTES; n == USB_EP0_BYTES && got < length; got += n) {
            n = usb_transaction(dev, USB_PID_IN, 0, p, USB_EP0_BYTES);
            if (n < 0) {
                return n;
            }
            memcpy(data + got, p, (size_t)n);
        }
        return usb_transaction(dev, USB_PID_OUT, 0, p, 0) == 0 ? got : USB_STALL;
    }
    for (; got < length; got += USB_EP0_BYTES) {
        unsigned n =
            length - got < USB_EP0_BYTES ? (unsigned)(length - got) : (unsigned)USB_EP0_BYTES;

        memcpy(p, data + got, n);
        if (usb_transaction(dev, USB_PID_OUT, 0, p, n) != (int)n) {
            return USB_STALL;
        }
    }
    return usb_transaction(dev, USB_PID_IN, 0, p, USB_EP0_BYTES);
}

static int poll_in(uint8_t out[USB_PACKET_BYTES])
{
    memset(out, 0xaa, USB_PACKET_BYTES);
    return usb_transaction(dev, USB_PID_IN, 1, out, USB_PACKET_BYTES);
}

static void configure(void)
{
    uint8_t p[USB_PACKET_BYTES];

    assert_int_equal(control(0, USB_SET_CONFIGURATION, 1, 0, 0, NULL), 0);
    assert_int_equal(control(0x21, 10, 0, 0, 0, NULL), 0); /* SET_IDLE 0 */
    assert_int_equal(poll_in(p), USB_NAK);
}

static void expect_report(const uint8_t *want, int n)
{
    uint8_t p[USB_PACKET_BYTES];

    assert_int_equal(poll_in(p), n);
    assert_memory_equal(p, want, (size_t)n);
}
#define EXPECT(...)                                                                                \
    expect_report((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void absolute(int x, int y, int dz, unsigned buttons)
{
    input_send(input,
               &(struct input_event){
                   .type = INPUT_EVENT_ABSOLUTE, .x = x, .y = y, .dz = dz, .buttons = buttons});
}

static void relative(int x, int y, int dz, unsigned buttons)
{
    input_send(input,
               &(struct input_event){
                   .type = INPUT_EVENT_RELATIVE, .x = x, .y = y, .dz = dz, .buttons = buttons});
}

static void key(uint8_t k, bool down)
{
    input_send(input, &(struct input_event){.type = INPUT_EVENT_KEY, .key = k, .down = down});
}

/* ---- requests ---- */

static void test_descriptors(void **state)
{
    static const uint8_t device[] = {18, 1, 0x10, 0x01, 0, 0, 0, 8, 0x27,
                                     6,  1, 0,    0,    0, 1, 2, 3, 1};
    uint8_t d[USB_CONTROL_BYTES];

    (void)state;
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x100, 0, 64, d), 18);
    assert_memory_equal(d, device, 18);
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x100, 0, 8, d), 8);
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x200, 0, 9, d), 9);
    assert_int_equal(d[2], USB_CONFIG_BYTES);
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x200, 0, 255, d), USB_CONFIG_BYTES);
    for (unsigned at = 0; at < USB_CONFIG_BYTES; at += d[at]) { /* the parts add up */
        static const uint8_t types[] = {2, 4, 0x21, 5};
        static unsigned n;

        assert_int_equal(d[at + 1], types[n++ % 4]);
    }
    unsigned report_len = d[18 + 7];
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x201, 0, 255, d), USB_STALL);
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x300, 0, 255, d), 4);
    assert_int_equal(d[2] | d[3] << 8, 0x409);
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x301, 0x409, 255, d), 10);
    assert_int_equal(d[2], 'Q');
    assert_true(control(0x80, USB_GET_DESCRIPTOR, 0x302, 0x409, 255, d) > 14);
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x303, 0x409, 255, d), 6);
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x304, 0x409, 255, d), USB_STALL);
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x600, 0, 10, d),
                     USB_STALL); /* no high speed */
    assert_int_equal(control(0x81, USB_GET_DESCRIPTOR, 0x2200, 0, 255, d),
                     USB_STALL); /* not configured */
    configure();
    assert_int_equal(control(0x81, USB_GET_DESCRIPTOR, 0x2200, 0, 255, d), report_len);
    assert_int_equal(d[0], 5);
    assert_int_equal(d[report_len - 1], 0xc0);
    assert_int_equal(control(0x81, USB_GET_DESCRIPTOR, 0x2100, 0, 255, d), 9);
    assert_int_equal(d[7], report_len);
    assert_int_equal(control(0x81, USB_GET_DESCRIPTOR, 0x2300, 0, 255, d), USB_STALL);
    assert_int_equal(control(0x81, USB_GET_DESCRIPTOR, 0x2200, 1, 255, d), USB_STALL);
}

static void nobody(void *host, unsigned port)
{
    (void)host;
    (void)port;
}

/* Plugged into a high-speed bus: a USB 2.0 device, which says what it is at the other speed. */
static void test_high_speed(void **state)
{
    static const uint8_t qualifier[] = {10, 6, 0, 2, 0, 0, 0, 8, 1, 0};
    struct usb_bus bus = {.ports = 1, .speed = USB_SPEED_HIGH, .plugged = nobody, .wake = nobody};
    uint8_t p[USB_PACKET_BYTES] = {0x80, USB_GET_DESCRIPTOR, 0, 2, 0, 0, 255, 0};
    uint8_t d[USB_CONTROL_BYTES];

    (void)state;
    assert_int_equal(usb_bus_plug(&bus, USB_ANY_PORT, dev), 0);
    assert_int_equal(usb_bus_plug(&bus, USB_ANY_PORT, dev), -ENOSPC);
    assert_int_equal(usb_transaction(dev, USB_PID_SETUP, 0, p, 8), 8);
    assert_int_equal(usb_transaction(dev, USB_PID_IN, 0, p, 64), USB_CONFIG_BYTES); /* one packet */
    assert_int_equal(p[1], 2);
    assert_int_equal(p[USB_CONFIG_BYTES - 1], 7); /* 2^6 microframes are 8 ms */
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x100, 0, 8, d), 8);
    assert_int_equal(d[2] | d[3] << 8, 0x200);
    assert_int_equal(d[7], 64);
    assert_int_equal(usb_transaction(dev, USB_PID_SETUP, 0,
                                     (uint8_t[]){0x80, USB_GET_DESCRIPTOR, 0, 6, 0, 0, 10, 0}, 8),
                     8);
    assert_int_equal(usb_transaction(dev, USB_PID_IN, 0, p, 64), 10);
    assert_memory_equal(p, qualifier, 10);
    assert_int_equal(usb_transaction(dev, USB_PID_SETUP, 0,
                                     (uint8_t[]){0x80, USB_GET_DESCRIPTOR, 0, 7, 0, 0, 255, 0}, 8),
                     8);
    assert_int_equal(usb_transaction(dev, USB_PID_IN, 0, p, 64), USB_CONFIG_BYTES);
    assert_int_equal(p[1], 7);
    assert_int_equal(p[USB_CONFIG_BYTES - 1], 8);
    assert_int_equal(control(0x80, USB_GET_DESCRIPTOR, 0x701, 0, 255, d), USB_STALL);
    usb_bus_unplug(&bus, 0);
}

static void test_standard_requests(void **state)
{
    uint8_t d[USB_CONTROL_BYTES] = {0};

    (void)state;
    assert_int_equal(control(0, USB_SET_ADDRESS, 128, 0, 0, NULL), USB_STALL);
    assert_int_equal(control(0, USB_SET_ADDRESS, 45, 0, 0, NULL), 0);
    assert_int_equal(dev->r.address, 45);
    assert_int_equal(control(0x80, USB_GET_CONFIGURATION, 0, 0, 1, d), 1);
    assert_int_equal(d[0], 0);
    assert_int_equal(poll_in(d), USB_SILENT);
    assert_int_equal(control(0, USB_SET_CONFIGURATION, 2, 0, 0, NULL), USB_STALL);
    configure();
    assert_int_equal(control(0x80, USB_GET_CONFIGURATION, 0, 0, 1, d), 1);
    assert_int_equal(d[0], 1);
    assert_int_equal(control(0, USB_SET_FEATURE, 1, 0, 0, NULL), 0);
    assert_int_equal(control(0x80, USB_GET_STATUS, 0, 0, 2, d), 2);
    assert_int_equal(d[0], 2);
    assert_int_equal(control(0, USB_CLEAR_FEATURE, 1, 0, 0, NULL), 0);
    assert_int_equal(control(0, USB_SET_FEATURE, 2, 0, 0, NULL), USB_STALL);
    assert_int_equal(control(0x81, USB_GET_STATUS, 0, 0, 2, d), 2);
    assert_int_equal(control(0x81, USB_GET_INTERFACE, 0, 0, 1, d), 1);
    assert_int_equal(control(1, USB_SET_INTERFACE, 0, 0, 0, NULL), 0);
    assert_int_equal(control(1, USB_SET_INTERFACE, 1, 0, 0, NULL), USB_STALL);
    assert_int_equal(control(2, USB_SET_FEATURE, 0, 0x81, 0, NULL), 0);
    assert_int_equal(poll_in(d), USB_STALL);
    assert_int_equal(control(0x82, USB_GET_STATUS, 0, 0x81, 2, d), 2);
    assert_int_equal(d[0], 1);
    assert_int_equal(control(2, USB_CLEAR_FEATURE, 0, 0x81, 0, NULL), 0);
    assert_int_equal(poll_in(d), USB_NAK);
    assert_int_equal(control(0x82, USB_GET_STATUS, 0, 0x82, 2, d), USB_STALL);
    assert_int_equal(control(0x40, 1, 0, 0, 0, NULL), USB_STALL);           /* vendor */
    assert_int_equal(control(0, USB_GET_STATUS, 0, 0, 0, NULL), USB_STALL); /* direction */
    assert_int_equal(control(3, USB_SET_FEATURE, 0, 0, 0, NULL), USB_STALL);
    assert_int_equal(control(0, 99, 0, 0, 0, NULL), USB_STALL);
    assert_int_equal(control(0, USB_SET_CONFIGURATION, 0, 0, 0, NULL), 0);
    assert_int_equal(poll_in(d), USB_SILENT);
    usb_device_reset(dev);
    assert_int_equal(dev->r.address, 0);
}

static void test_control_stages(void **state)
{
    uint8_t p[USB_PACKET_BYTES] = {0x80, USB_GET_DESCRIPTOR, 0, 1, 0, 0, 64, 0};

    (void)state;
    assert_int_equal(usb_transaction(dev, USB_PID_IN, 0, p, 8), USB_STALL); /* nothing asked for */
    p[0] = 0x80;
    assert_int_equal(usb_transaction(dev, USB_PID_SETUP, 0, p, 7), USB_SILENT);
    assert_int_equal(usb_transaction(dev, USB_PID_SETUP, 0, p, 8), 8);
    for (int want = 8; want >= 0; want = want == 8 && p[0] != 18 ? 2
                                         : want == 2             ? 0
                                         : want == 0             ? -1
                                                                 : 8) {
        assert_int_equal(usb_transaction(dev, USB_PID_IN, 0, p, 8), want); /* 8, 8, 2, 0 */
    }
    assert_int_equal(usb_transaction(dev, USB_PID_OUT, 0, p, 0), 0);
    assert_int_equal(usb_transaction(dev, USB_PID_OUT, 0, p, 0), USB_STALL);
    memcpy(p, (const uint8_t[]){0x21, 9, 0, 2, 0, 0, 0xff, 0xff},
           8); /* more than there is room for */
    assert_int_equal(usb_transaction(dev, USB_PID_SETUP, 0, p, 8), 8);
    assert_int_equal(usb_transaction(dev, USB_PID_OUT, 0, p, 8), USB_STALL);
    memcpy(p, (const uint8_t[]){0x21, 9, 0, 2, 0, 0, 1, 0},
           8); /* more than was announced; status too early */
    assert_int_equal(usb_transaction(dev, USB_PID_SETUP, 0, p, 8), 8);
    assert_int_equal(usb_transaction(dev, USB_PID_OUT, 0, p, 2), USB_STALL);
    assert_int_equal(usb_transaction(dev, USB_PID_SETUP, 0, p, 8), 8);
    assert_int_equal(usb_transaction(dev, USB_PID_IN, 0, p, 8), USB_STALL);
    assert_int_equal(usb_transaction(dev, USB_PID_OUT, 1, p, 8), USB_SILENT);
    assert_int_equal(usb_transaction(dev, USB_PID_IN, 2, p, 8), USB_SILENT);
}

/* ---- pointers ---- */

static void test_tablet_reports(void **state)
{
    uint8_t d[USB_CONTROL_BYTES];

    (void)state;
    assert_false(input_has_absolute(input)); /* until the guest polls, PS/2 has the pointer */
    assert_int_equal(control(0, USB_SET_CONFIGURATION, 1, 0, 0, NULL), 0);
    assert_false(input_has_absolute(input));
    configure();
    assert_true(input_has_absolute(input));
    absolute(0x1234, 0x5678, 0, 0);
    EXPECT(0, 0x34, 0x12, 0x78, 0x56, 0);
    assert_int_equal(poll_in(d), USB_NAK);
    absolute(1, 2, 0, 0); /* moves become one, clicks keep their place */
    absolute(3, 4, 1, 0);
    absolute(3, 4, 0, INPUT_BUTTON_LEFT);
    absolute(3, 4, 0, 0);
    absolute(40000, -7, 0, INPUT_BUTTON_RIGHT | INPUT_BUTTON_EXTRA);
    EXPECT(0, 3, 0, 4, 0, 0xff); /* the wheel counts away from the user */
    EXPECT(1, 3, 0, 4, 0, 0);
    EXPECT(0, 3, 0, 4, 0, 0);
    EXPECT(0x12, 0xff, 0x7f, 0, 0, 0);
    absolute(5, 5, -300, 0); /* more than one report can say */
    EXPECT(0, 5, 0, 5, 0, 127);
    EXPECT(0, 5, 0, 5, 0, 127);
    EXPECT(0, 5, 0, 5, 0, 46);
    assert_int_equal(poll_in(d), USB_NAK);
    for (int i = 0; i < 100; i++) { /* a guest that does not fetch: bounded, the end is right */
        absolute(i, i, 0, (unsigned)i & 1);
    }
    absolute(7, 8, 0, 0);
    for (int i = 0; i < 15; i++) {
        assert_int_equal(poll_in(d), 6);
    }
    EXPECT(0, 7, 0, 8, 0, 0);
    assert_int_equal(poll_in(d), USB_NAK);
    assert_int_equal(control(0xa1, 1, 0x100, 0, 6, d), 6); /* GET_REPORT: where it is */
    assert_int_equal(d[1], 7);
    assert_int_equal(control(0xa1, 3, 0, 0, 1, d), USB_STALL); /* no boot protocol */
    assert_int_equal(control(0x21, 11, 0, 0, 0, NULL), USB_STALL);
    assert_int_equal(control(0xa1, 1, 0x300, 0, 6, d), USB_STALL);
    relative(4, 4, 0, 0); /* not for a tablet */
    assert_int_equal(poll_in(d), USB_NAK);
    usb_device_reset(dev);
    assert_false(input_has_absolute(input));
}

/* A button that was pressed on the PS/2 mouse is let go there when the tablet takes over. */
static void test_tablet_takes_over(void **state)
{
    (void)state;
    harness_out(h, 0x64, 1, 0xd4); /* mouse: enable data reporting */
    harness_out(h, 0x60, 1, 0xf4);
    assert_int_equal(harness_in(h, 0x60, 1), 0xfa);
    absolute(100, 100, 0, INPUT_BUTTON_LEFT);
    assert_int_equal(harness_in(h, 0x60, 1), 0x09);
    harness_in(h, 0x60, 1);
    harness_in(h, 0x60, 1);
    configure();
    assert_int_equal(harness_in(h, 0x60, 1), 0x08);
    absolute(200, 200, 0, INPUT_BUTTON_LEFT);
    EXPECT(1, 200, 0, 200, 0, 0);
}

static void test_mouse_reports(void **state)
{
    uint8_t d[USB_CONTROL_BYTES];

    (void)state;
    relative(1, 1, 0, 0); /* to PS/2 */
    configure();
    assert_false(input_has_absolute(input));
    relative(3, -4, 2, INPUT_BUTTON_MIDDLE);
    EXPECT(4, 3, 0xfc, 0xfe);
    relative(100, 0, 0, 4);
    relative(100, -300, 0, 4);
    EXPECT(4, 127, 0x81, 0);
    EXPECT(4, 73, 0x81, 0);
    EXPECT(4, 0, 0xd2, 0);
    assert_int_equal(poll_in(d), USB_NAK);
    for (int i = 0; i < 3000; i++) {
        relative(1 << 30, 1 << 30, 1 << 30, 0);
    }
    assert_int_equal(poll_in(d), 4);
    assert_true(harness_save_load_save(h));
    usb_device_reset(dev);
    configure();
    assert_int_equal(control(0x21, 11, 0, 0, 0, NULL), 0); /* boot protocol: no wheel */
    assert_int_equal(control(0xa1, 3, 0, 0, 1, d), 1);
    assert_int_equal(d[0], 0);
    relative(1, 2, 1, 1);
    EXPECT(1, 1, 2);
    assert_int_equal(control(0x21, 11, 2, 0, 0, NULL), USB_STALL);
    assert_int_equal(control(0x21, 11, 1, 0, 0, NULL), 0);
    absolute(16384, 0, 0, 0); /* pixels' distance from where it was last */
    absolute(16384 + 512, 0, 0, 0);
    assert_int_equal(poll_in(d), 4);
}

/* ---- keyboard ---- */

static void test_keyboard_reports(void **state)
{
    uint8_t d[USB_CONTROL_BYTES];

    (void)state;
    configure();
    key(0x2a, true);
    key(0x1e, true);
    key(0x1e, true); /* a viewer's repeat */
    key(0x1e, false);
    key(0x2a, false);
    EXPECT(2, 0, 0, 0, 0, 0, 0, 0);
    EXPECT(2, 0, 4, 0, 0, 0, 0, 0);
    EXPECT(2, 0, 0, 0, 0, 0, 0, 0);
    EXPECT(0, 0, 0, 0, 0, 0, 0, 0);
    assert_int_equal(poll_in(d), USB_NAK);
    for (uint8_t k = 0x10; k < 0x17; k++) { /* seven keys: roll over, and back */
        key(k, true);
    }
    for (int i = 0; i < 5; i++) {
        poll_in(d);
    }
    EXPECT(0, 0, 0x08, 0x14, 0x15, 0x17, 0x1a, 0x1c);
    EXPECT(0, 0, 1, 1, 1, 1, 1, 1);
    key(0x10, false);
    EXPECT(0, 0, 0x08, 0x15, 0x17, 0x18, 0x1a, 0x1c);
    for (unsigned i = 0; i < 200; i++) { /* a guest that does not fetch: nothing sticks */
        key(0x3b, i % 2 == 0);
    }
    for (uint8_t k = 0x11; k < 0x17; k++) {
        key(k, false);
    }
    for (int i = 0; i < 16; i++) {
        assert_int_equal(poll_in(d), 8);
    }
    assert_int_equal(poll_in(d), USB_NAK);
    assert_int_equal(control(0xa1, 1, 0x100, 0, 8, d), 8);
    assert_memory_equal(d, "\0\0\0\0\0\0\0\0", 8);
    assert_true(harness_save_load_save(h));
}

/* All keys that a PC keyboard has, and only those, with different usages. */
static void test_keyboard_map(void **state)
{
    static const struct {
        uint8_t key, usage;
    } some[] = {{0x01, 0x29}, {0x02, 0x1e}, {0x0b, 0x27}, {0x0f, 0x2b}, {0x1c, 0x28},
                {0x9c, 0x58}, {0x39, 0x2c}, {0x56, 0x64}, {0x57, 0x44}, {0x58, 0x45},
                {0x45, 0x53}, {0xc6, 0x48}, {0xb7, 0x46}, {0xc8, 0x52}, {0xd0, 0x51},
                {0xcb, 0x50}, {0xcd, 0x4f}, {0xdd, 0x65}, {0x73, 0x87}, {0x7d, 0x89},
                {0x7e, 0x85}, {0x52, 0x62}, {0xd2, 0x49}, {0x53, 0x63}, {0xd3, 0x4c}};
    uint8_t d[USB_CONTROL_BYTES];
    uint8_t seen[256] = {0};
    unsigned keys = 0;

    (void)state;
    configure();
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
        key(some[i].key, true);
        assert_int_equal(poll_in(d), 8);
        assert_int_equal(d[2], some[i].usage);
        key(some[i].key, false);
        assert_int_equal(poll_in(d), 8);
    }
    for (unsigned k = 0; k < 256; k++) {
        key((uint8_t)k, true);
        if (poll_in(d) != 8) {
            continue;
        }
        unsigned usage = d[2] != 0 ? d[2] : 0xe0u + (unsigned)__builtin_ctz(d[0]);

        assert_int_equal(seen[usage & 0xff], 0);
        seen[usage & 0xff] = k != 0x54; /* SysRq is Print Screen with Alt */
        keys++;
        key((uint8_t)k, false);
        assert_int_equal(poll_in(d), 8);
    }
    assert_in_range(keys, 105, 140);
}

static void test_keyboard_leds_and_idle(void **state)
{
    uint8_t d[USB_CONTROL_BYTES] = {0x03};

    (void)state;
    assert_int_equal(control(0, USB_SET_CONFIGURATION, 1, 0, 0, NULL), 0);
    assert_int_equal(control(0xa1, 2, 0, 0, 1, d), 1); /* GET_IDLE: 500 ms unless it is told */
    assert_int_equal(d[0], 125);
    assert_int_equal(poll_in(d), USB_NAK);
    harness_step(h, 500 * MS);
    EXPECT(0, 0, 0, 0, 0, 0, 0, 0);
    assert_int_equal(poll_in(d), USB_NAK);
    assert_int_equal(control(0x21, 10, 0x0200, 0, 0, NULL), 0);
    key(0x1e, true);
    EXPECT(0, 0, 4, 0, 0, 0, 0, 0);
    harness_step(h, 7 * MS);
    assert_int_equal(poll_in(d), USB_NAK);
    harness_step(h, MS);
    EXPECT(0, 0, 4, 0, 0, 0, 0, 0); /* a BIOS makes its repeats of these */
    assert_int_equal(control(0x21, 10, 0, 0, 0, NULL), 0);
    harness_step(h, 10000 * (uint64_t)MS);
    assert_int_equal(poll_in(d), USB_NAK);

    d[0] = 0x03;
    assert_int_equal(control(0x21, 9, 0x200, 0, 1, d), 0); /* SET_REPORT: Num and Caps */
    assert_int_equal(input_leds(input), INPUT_LED_NUM | INPUT_LED_CAPS);
    d[0] = 0x04;
    assert_int_equal(control(0x21, 9, 0x200, 0, 1, d), 0);
    assert_int_equal(input_leds(input), INPUT_LED_SCROLL);
    assert_int_equal(control(0xa1, 1, 0x200, 0, 1, d), 1);
    assert_int_equal(d[0], 4);
    assert_int_equal(control(0x21, 9, 0x200, 0, 2, d), USB_STALL);
    assert_int_equal(control(0x21, 9, 0x100, 0, 1, d), USB_STALL);
    assert_int_equal(control(0x21, 77, 0, 0, 0, NULL), USB_STALL);
}

/* A key that went down on the PS/2 keyboard comes up there, and not here. */
static void test_keyboard_takes_over(void **state)
{
    uint8_t d[USB_CONTROL_BYTES];

    (void)state;
    harness_out(h, 0x64, 1, 0x60);
    harness_out(h, 0x60, 1, 0x40); /* translated, no interrupts */
    key(0x1e, true);
    assert_int_equal(harness_in(h, 0x60, 1), 0x1e);
    configure();
    key(0x1e, false);
    harness_step(h, 10 * MS); /* the 8042 keeps scan codes apart */
    assert_int_equal(harness_in(h, 0x60, 1), 0x9e);
    assert_int_equal(poll_in(d), USB_NAK);
    key(0x30, true);
    EXPECT(0, 0, 5, 0, 0, 0, 0, 0);
    assert_int_equal(harness_in(h, 0x64, 1) & 1, 0);
}

#define TEST(f, kind) cmocka_unit_test_setup_teardown(f, kind, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_descriptors, tablet),
        TEST(test_descriptors, mouse),
        TEST(test_descriptors, keyboard),
        TEST(test_high_speed, keyboard),
        TEST(test_standard_requests, tablet),
        TEST(test_control_stages, keyboard),
        TEST(test_tablet_reports, tablet),
        TEST(test_tablet_takes_over, tablet),
        TEST(test_mouse_reports, mouse),
        TEST(test_keyboard_reports, keyboard),
        TEST(test_keyboard_map, keyboard),
        TEST(test_keyboard_leds_and_idle, keyboard),
        TEST(test_keyboard_takes_over, keyboard),
    };

    return cmocka_run_group_tests_name("usb_hid", tests, NULL, NULL);
}
