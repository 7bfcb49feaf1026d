/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hub as a driver sees it through UHCI: its requests, its ports' states, and devices behind one and several of them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hw/usb_hub.h"
#include "tests/unit/uhci_rig.h"

enum {
    MS = 1000000,
    HUB = 1, /* addresses */
    TABLET = 5,
    OTHER = 6,
    AT = 3, /* the tablet's port, as the hub counts */
    STALL = -0x400000,
    SILENCE = -0x440000,
    CLASS_DEVICE = 0x20,
    CLASS_PORT = 0x23,
    IN = 0x80,
    PORT1 = UHCI_IO + 0x10,
};
enum {
    ENABLE = 1,
    SUSPEND = 2,
    RESET = 4,
    POWER = 8,
    C_CONNECTION = 16,
    C_SUSPEND = 18,
    C_RESET = 20
};

static struct uhci_rig rig;
static struct harness *h;
static struct usb_device *hub, *tablet;

static struct usb_device *new_hub(void)
{
    struct usb_device *d = NULL;

    assert_int_equal(usb_hub_create(&h->board, &d), 0);
    return d;
}

static void build(struct uhci_rig *r)
{
    uhci_rig_create(r, USB_HID_KINDS, USB_HID_KINDS);
    h = r->h;
    hub = new_hub();
    assert_int_equal(usb_hid_create(&h->board, USB_HID_TABLET, r->input, &tablet), 0);
    assert_int_equal(usb_bus_plug(r->bus, 0, hub), 0);
    assert_int_equal(usb_bus_plug(hub->cfg.hub, AT - 1, tablet), 0);
}

static int setup(void **state)
{
    (void)state;
    build(&rig);
    uhci_rig_start(&rig);
    uhci_rig_enable_port(&rig, 0);
    uhci_rig_configure(&rig, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    uhci_rig_destroy(&rig);
    return 0;
}

static int request(unsigned address, uint8_t type, uint8_t req, uint16_t value, uint16_t index)
{
    return uhci_rig_control(&rig, address, type, req, value, index, 0, NULL);
}

static int set(unsigned port, unsigned feature)
{
    return request(HUB, CLASS_PORT, USB_SET_FEATURE, (uint16_t)feature, (uint16_t)port);
}

static int clear(unsigned port, unsigned feature)
{
    return request(HUB, CLASS_PORT, USB_CLEAR_FEATURE, (uint16_t)feature, (uint16_t)port);
}

/* wPortStatus, with wPortChange above it. */
static uint32_t status_of(unsigned address, unsigned port)
{
    uint8_t d[4];

    assert_int_equal(
        uhci_rig_control(&rig, address, IN | CLASS_PORT, USB_GET_STATUS, 0, (uint16_t)port, 4, d),
        4);
    return (uint32_t)d[0] | (uint32_t)d[1] << 8 | (uint32_t)d[2] << 16 | (uint32_t)d[3] << 24;
}

static uint32_t status(unsigned port)
{
    return status_of(HUB, port);
}

/* What the status change endpoint says; -1: nothing. */
static int changes(unsigned address)
{
    uhci_rig_poll(&rig, address);
    harness_step(h, 40 * MS);
    if ((uhci_rig_polled(&rig) & RIG_ACTIVE) != 0) {
        return -1;
    }
    assert_int_equal(uhci_rig_polled(&rig) & 0xff07ff, 1); /* two bytes */
    return h->plat.ram[UHCI_INT_BUFFER] | h->plat.ram[UHCI_INT_BUFFER + 1] << 8;
}

static void start_tablet(void)
{
    assert_int_equal(set(AT, RESET), 0);
    assert_int_equal(clear(AT, C_RESET), 0);
    assert_int_equal(clear(AT, C_CONNECTION), 0);
    assert_int_equal(request(0, 0, USB_SET_ADDRESS, TABLET, 0), 0);
    assert_int_equal(request(TABLET, 0, USB_SET_CONFIGURATION, 1, 0), 0);
    uhci_rig_poll(&rig, TABLET);
    harness_step(h, 40 * MS);
}

static void move(int x)
{
    input_send(rig.input, &(struct input_event){.type = INPUT_EVENT_ABSOLUTE, .x = x});
}

static void test_descriptors(void **state)
{
    static const uint8_t hub_class[] = {11, 0x29, 8, 0x0a, 0, 1, 0, 0, 0, 0xff, 0xff};
    static const uint8_t config[] = {9, 2, 25, 0, 1, 1, 0, 0xe0, 0, 9, 4, 0,   0,
                                     1, 9, 0,  0, 0, 7, 5, 0x81, 3, 2, 0, 0xff};
    uint8_t d[64];

    (void)state;
    assert_int_equal(uhci_rig_control(&rig, HUB, IN, USB_GET_DESCRIPTOR, 0x100, 0, 18, d), 18);
    assert_int_equal(d[4], 9);
    assert_int_equal(d[8] | d[9] << 8, 0x0409);
    assert_int_equal(d[10] | d[11] << 8, 0x55aa);
    assert_int_equal(uhci_rig_control(&rig, HUB, IN, USB_GET_DESCRIPTOR, 0x200, 0, 64, d), 25);
    assert_memory_equal(d, config, sizeof(config));
    for (unsigned value = 0; value <= 0x2900; value += 0x2900) {
        assert_int_equal(uhci_rig_control(&rig, HUB, IN | CLASS_DEVICE, USB_GET_DESCRIPTOR,
                                          (uint16_t)value, 0, 64, d),
                         sizeof(hub_class));
        assert_memory_equal(d, hub_class, sizeof(hub_class));
    }
    assert_int_equal(uhci_rig_control(&rig, HUB, IN, USB_GET_STATUS, 0, 0, 2, d), 2);
    assert_int_equal(d[0], 1); /* power of its own */
    assert_int_equal(uhci_rig_control(&rig, HUB, IN | CLASS_DEVICE, USB_GET_STATUS, 0, 0, 4, d), 4);
    assert_int_equal(d[0] | d[1] | d[2] | d[3], 0);
}

static void test_refusals(void **state)
{
    static const struct {
        uint8_t type, request;
        uint16_t value, index;
    } bad[] = {
        {CLASS_PORT, USB_SET_FEATURE, RESET, 0},
        {CLASS_PORT, USB_SET_FEATURE, RESET, 9},
        {CLASS_PORT, USB_SET_FEATURE, RESET, 0x103},
        {CLASS_PORT, USB_SET_FEATURE, ENABLE, 1},
        {CLASS_PORT, USB_SET_FEATURE, C_CONNECTION, 1},
        {CLASS_PORT, USB_CLEAR_FEATURE, RESET, 1},
        {CLASS_PORT, USB_CLEAR_FEATURE, 21, 1},
        {CLASS_PORT, USB_SET_ADDRESS, 0, 1},
        {CLASS_DEVICE, USB_SET_FEATURE, 2, 0},
        {CLASS_DEVICE, USB_CLEAR_FEATURE, 9, 0},
        {CLASS_DEVICE, 7 /* SET_DESCRIPTOR */, 0x2900, 0},
        {0x21, USB_SET_FEATURE, 0, 0},
        {0x22, USB_SET_FEATURE, 0, 0x81},
        {0x40, USB_SET_FEATURE, 0, 0},
        {0x43, USB_SET_FEATURE, RESET, AT},
    };
    uint8_t d[8];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(request(HUB, bad[i].type, bad[i].request, bad[i].value, bad[i].index),
                         STALL);
    }
    assert_int_equal(status(AT), 0x10101);
    assert_int_equal(uhci_rig_control(&rig, HUB, IN | CLASS_PORT, 2 /* GET_STATE */, 0, AT, 1, d),
                     STALL);
    assert_int_equal(
        uhci_rig_control(&rig, HUB, IN | CLASS_DEVICE, USB_GET_DESCRIPTOR, 0x2800, 0, 8, d), STALL);
    /* Those that are there, and mean nothing. */
    assert_int_equal(request(HUB, CLASS_DEVICE, USB_CLEAR_FEATURE, 0, 0), 0);
    assert_int_equal(request(HUB, CLASS_DEVICE, USB_SET_FEATURE, 1, 0), 0);
    assert_int_equal(set(AT, POWER), 0);
    assert_int_equal(clear(AT, POWER), 0);
    assert_int_equal(status(AT), 0x10101);
    /* A tablet has no class requests to the device or to ports, and none works before the configuration is set. */
    start_tablet();
    assert_int_equal(request(TABLET, CLASS_DEVICE, USB_CLEAR_FEATURE, 0, 0), STALL);
    assert_int_equal(request(TABLET, CLASS_PORT, USB_SET_FEATURE, RESET, 1), STALL);
    assert_int_equal(request(HUB, 0, USB_SET_CONFIGURATION, 0, 0), 0);
    assert_int_equal(set(AT, RESET), STALL);
}

static void test_port_states(void **state)
{
    uint8_t d[18];

    (void)state;
    for (unsigned port = 1; port <= USB_HUB_PORTS; port++) {
        assert_int_equal(status(port), port == AT ? 0x10101 : 0x100);
    }
    assert_int_equal(changes(HUB), 1 << AT);
    assert_int_equal(uhci_rig_control(&rig, 0, IN, USB_GET_DESCRIPTOR, 0x100, 0, 18, d), SILENCE);
    assert_int_equal(clear(AT, C_CONNECTION), 0);
    assert_int_equal(status(AT), 0x101);
    assert_int_equal(changes(HUB), -1);
    assert_int_equal(set(AT, SUSPEND), 0); /* not enabled */
    assert_int_equal(status(AT), 0x101);
    assert_int_equal(set(AT, RESET), 0);
    assert_int_equal(status(AT), 0x100103);
    assert_int_equal(clear(AT, C_RESET), 0);
    assert_int_equal(status(AT), 0x103);
    assert_int_equal(uhci_rig_control(&rig, 0, IN, USB_GET_DESCRIPTOR, 0x100, 0, 18, d), 18);
    assert_int_equal(d[10] | d[11] << 8, 0x0001);
    assert_int_equal(set(AT, SUSPEND), 0);
    assert_int_equal(status(AT), 0x107);
    assert_int_equal(uhci_rig_control(&rig, 0, IN, USB_GET_DESCRIPTOR, 0x100, 0, 18, d), SILENCE);
    assert_int_equal(clear(AT, SUSPEND), 0);
    assert_int_equal(status(AT), 0x40103);
    assert_int_equal(clear(AT, C_SUSPEND), 0);
    assert_int_equal(clear(AT, SUSPEND), 0); /* was not */
    assert_int_equal(status(AT), 0x103);
    assert_int_equal(clear(AT, ENABLE), 0);
    assert_int_equal(status(AT), 0x101);
    assert_int_equal(set(4, RESET), 0); /* nobody there */
    assert_int_equal(status(4), 0x100100);
}

static void test_device_behind(void **state)
{
    (void)state;
    start_tablet();
    assert_true(input_has_absolute(rig.input));
    move(777);
    harness_step(h, 2 * MS); /* at once: the hub speaks to the controller */
    assert_int_equal(uhci_rig_polled(&rig) & (RIG_ACTIVE | 0x7ff), 5);
    assert_int_equal(h->plat.ram[UHCI_INT_BUFFER + 1] | h->plat.ram[UHCI_INT_BUFFER + 2] << 8, 777);
    /* The hub, by all its ways to lose its ports. */
    assert_int_equal(request(HUB, 0, USB_SET_CONFIGURATION, 1, 0), 0);
    assert_false(input_has_absolute(rig.input));
    assert_int_equal(request(TABLET, 0, USB_SET_CONFIGURATION, 1, 0), SILENCE);
    assert_int_equal(status(AT), 0x10101);
    start_tablet();
    assert_true(input_has_absolute(rig.input));
    harness_out(h, PORT1, 2, 0x200);
    assert_false(input_has_absolute(rig.input));
    uhci_rig_enable_port(&rig, 0);
    uhci_rig_configure(&rig, 0);
    start_tablet();
    assert_true(input_has_absolute(rig.input));
    usb_bus_unplug(rig.bus, 0);
    assert_false(input_has_absolute(rig.input));
    assert_int_equal(hub->cfg.hub->dev[AT - 1] == tablet, true); /* still in the hub */
    assert_int_equal(usb_bus_plug(rig.bus, 0, hub), 0);
    uhci_rig_enable_port(&rig, 0);
    uhci_rig_configure(&rig, 0);
    start_tablet();
    assert_true(input_has_absolute(rig.input));
}

static void test_replug_behind(void **state)
{
    (void)state;
    start_tablet();
    usb_bus_unplug(hub->cfg.hub, AT - 1);
    assert_int_equal(status(AT), 0x10100);
    assert_int_equal(changes(HUB), 1 << AT);
    assert_false(input_has_absolute(rig.input));
    assert_int_equal(request(TABLET, 0, USB_SET_CONFIGURATION, 1, 0), SILENCE);
    assert_int_equal(clear(AT, C_CONNECTION), 0);
    uhci_rig_poll(&rig, HUB);
    harness_step(h, 2000 * MS);
    assert_int_equal(usb_bus_plug(hub->cfg.hub, 7, tablet), 0);
    harness_step(h, 2 * MS); /* told at once */
    assert_int_equal(h->plat.ram[UHCI_INT_BUFFER] | h->plat.ram[UHCI_INT_BUFFER + 1] << 8, 1 << 8);
    assert_int_equal(status(8), 0x10101);
    assert_int_equal(usb_bus_plug(hub->cfg.hub, 8, hub), -ENODEV);
    assert_int_equal(usb_bus_plug(hub->cfg.hub, 7, hub), -EBUSY);
}

/* Hubs in a row: the last device is found, and by closed ports of any of them it is not. */
static void test_chain(void **state)
{
    struct usb_device *second = new_hub();
    struct usb_device *mouse;

    (void)state;
    assert_int_equal(usb_hid_create(&h->board, USB_HID_MOUSE, rig.input, &mouse), 0);
    assert_int_equal(usb_bus_plug(hub->cfg.hub, 7, second), 0);
    assert_int_equal(usb_bus_plug(second->cfg.hub, 0, mouse), 0);
    start_tablet();
    assert_int_equal(set(8, RESET), 0);
    assert_int_equal(request(0, 0, USB_SET_ADDRESS, OTHER, 0), 0);
    assert_int_equal(request(OTHER, 0, USB_SET_CONFIGURATION, 1, 0), 0);
    assert_int_equal(changes(OTHER), 1 << 1);
    assert_int_equal(uhci_rig_control(&rig, OTHER, CLASS_PORT, USB_SET_FEATURE, RESET, 1, 0, NULL),
                     0);
    assert_int_equal(status_of(OTHER, 1), 0x110103);
    assert_int_equal(request(0, 0, USB_SET_ADDRESS, 9, 0), 0);
    assert_int_equal(request(9, 0, USB_SET_CONFIGURATION, 1, 0), 0);
    assert_ptr_equal(usb_bus_find(rig.bus, 9), mouse);
    assert_ptr_equal(usb_bus_find(rig.bus, TABLET), tablet);
    assert_ptr_equal(usb_bus_find(rig.bus, OTHER), second);
    assert_null(usb_bus_find(rig.bus, 10));
    assert_int_equal(set(8, SUSPEND), 0);
    assert_null(usb_bus_find(rig.bus, 9));
    assert_null(usb_bus_find(rig.bus, OTHER));
    assert_int_equal(clear(8, SUSPEND), 0);
    assert_ptr_equal(usb_bus_find(rig.bus, 9), mouse);
    harness_out(h, PORT1, 2, 0x1004);
    assert_null(usb_bus_find(rig.bus, 9));
    assert_null(usb_bus_find(rig.bus, TABLET));
}

/* All asleep, the tablet is moved: resume goes from port to port up to the controller. */
static void test_wake_through_hub(void **state)
{
    (void)state;
    start_tablet();
    assert_int_equal(set(AT, SUSPEND), 0);
    move(1); /* the tablet was not allowed to */
    assert_int_equal(status(AT), 0x107);
    assert_int_equal(clear(AT, SUSPEND), 0);
    assert_int_equal(clear(AT, C_SUSPEND), 0);
    assert_int_equal(request(TABLET, 0, USB_SET_FEATURE, 1, 0), 0);
    assert_int_equal(set(AT, SUSPEND), 0);
    assert_int_equal(changes(HUB), -1);
    move(2);
    assert_int_equal(status(AT), 0x40103);
    assert_int_equal(changes(HUB), 1 << AT);
    assert_int_equal(clear(AT, C_SUSPEND), 0);

    assert_int_equal(set(AT, SUSPEND), 0);
    assert_int_equal(request(HUB, 0, USB_SET_FEATURE, 1, 0), 0);
    harness_out(h, PORT1, 2, 0x1004);
    input_send(rig.input,
               &(struct input_event){.type = INPUT_EVENT_ABSOLUTE, .x = 3, .buttons = 1});
    assert_int_equal(harness_in(h, PORT1, 2), 0x10d5); /* resume detected */
    harness_out(h, PORT1, 2, 0x0004);
    assert_int_equal(status(AT), 0x40103);
}

/* Only where devices are found by address, at full speed. */
static void test_where_hubs_fit(void **state)
{
    struct usb_bus other = *rig.bus;
    struct usb_device *second = new_hub();

    (void)state;
    memset(other.dev, 0, sizeof(other.dev));
    other.speed = USB_SPEED_HIGH;
    assert_int_equal(usb_bus_plug(&other, 0, second), -ENOTSUP);
    other.speed = USB_SPEED_FULL;
    other.open = NULL;
    assert_int_equal(usb_bus_plug(&other, 0, second), -ENOTSUP);
    assert_null(other.dev[0]);
}

static void test_save_load(void **state)
{
    struct uhci_rig from = rig;
    struct harness *old = h;
    struct usb_device *old_hub = hub;
    struct usb_device *old_tablet = tablet;

    (void)state;
    start_tablet();
    usb_bus_unplug(hub->cfg.hub, AT - 1);
    assert_int_equal(usb_bus_plug(hub->cfg.hub, AT - 1, tablet), 0);
    start_tablet();
    assert_int_equal(set(5, RESET), 0); /* a change that waits */
    assert_true(harness_save_load_save(h));
    from = rig;
    build(&rig);
    assert_true(harness_transfer(old, h));
    memcpy(h->plat.ram, old->plat.ram, 0x20000);
    assert_true(input_has_absolute(rig.input));
    assert_int_equal(status(5), 0x100100);
    assert_int_equal(status(AT), 0x103);
    uhci_rig_poll(&rig, TABLET);
    move(99);
    harness_step(h, 40 * MS);
    assert_int_equal(uhci_rig_polled(&rig) & (RIG_ACTIVE | 0x7ff), 5);
    /* Into a machine where nothing is in that port: an enabled port without a device is refused. */
    usb_bus_unplug(hub->cfg.hub, AT - 1);
    assert_false(harness_transfer(old, h));
    uhci_rig_destroy(&rig);
    rig = from;
    h = old;
    hub = old_hub;
    tablet = old_tablet;
}

static void live(int n)
{
    move(n);
    harness_step(h, 2 * MS);
}

/* Each byte of each record made wrong: refused or taken, never harmful. */
static void test_bad_state(void **state)
{
    (void)state;
    start_tablet();
    assert_true(harness_spoil_state(h, 1, live));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_descriptors),      TEST(test_refusals),       TEST(test_port_states),
        TEST(test_device_behind),    TEST(test_replug_behind),  TEST(test_chain),
        TEST(test_wake_through_hub), TEST(test_where_hubs_fit), TEST(test_save_load),
        TEST(test_bad_state),
    };

    return cmocka_run_group_tests_name("usb_hub", tests, NULL, NULL);
}
