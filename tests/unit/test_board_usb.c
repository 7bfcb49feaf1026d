/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is plugged in where, at start and later; hot-plug of controllers; saved state of a machine that was changed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/options.h"
#include "hw/acpi_gpe.h"
#include "hw/board_usb.h"
#include "tests/unit/uhci_rig.h"

enum {
    MS = 1000000,
    UP = 0xae00,
    DOWN = 0xae04,
    EJECT = 0xae08,
    GPE_STS = 0xafe0,
    HOT_IO = 0xd000
};

/* A machine, with a UHCI rig on the controller of -usb. */
struct machine {
    struct uhci_rig rig;
    struct options o;
    struct board_usb *usb;
    int ret;
    char err[256];
    char gone[512]; /* what has been told */
};

static void removed(void *opaque, const char *id, unsigned serial)
{
    struct machine *m = opaque;
    size_t n = strlen(m->gone);

    (void)serial;
    snprintf(m->gone + n, sizeof(m->gone) - n, "%s ", id[0] != '\0' ? id : "-");
}

static void eject(void *opaque, unsigned slot)
{
    struct machine *m = opaque;

    board_usb_eject(m->usb, slot);
}

/* Devices are written "driver[,id[,bus[,port[,masterbus[,firstport]]]]]"; "-usb" first is -usb. An empty field is not
 * given. */
static struct option_usb parse(const char *text)
{
    static char fields[64][6][80];
    static unsigned next;
    struct option_usb o = {.devfn = BOARD_USB_ANY_SLOT, .usb2_ports = 2, .usb3_ports = 1};
    const char *firstport = NULL;
    const char **to[] = {&o.driver, &o.id, &o.bus, &o.port, &o.masterbus, &firstport};
    char(*f)[80] = fields[next++ % 64];

    for (unsigned i = 0; i < 6; i++) {
        size_t n = strcspn(text, ",");

        snprintf(f[i], sizeof(f[i]), "%.*s", (int)n, text);
        *to[i] = n != 0 ? f[i] : NULL;
        text += n + (text[n] == ',');
    }
    o.firstport = firstport != NULL ? (unsigned)atoi(firstport) : 0;
    return o;
}

static struct machine *machine(const char *const *devices)
{
    struct machine *m = calloc(1, sizeof(*m));
    const struct acpi_gpe_config cfg = {
        .vcpus_online = 1, .removable_slots = ~3u, .eject = eject, .opaque = m};
    struct acpi_gpe *gpe;

    m->rig.h = harness_create();
    m->rig.input = input_create(m->rig.h->loop);
    for (unsigned slot = 4; *devices != NULL; devices++) {
        struct option_usb d = parse(*devices);

        if (strcmp(d.driver, "-usb") == 0) {
            m->o.usb = true;
            continue;
        }
        d.devfn = (uint8_t)(slot << 3);
        slot += strstr(d.driver, "hci") != NULL;
        m->o.usb_devices[m->o.usb_device_count++] = d;
    }
    assert_int_equal(acpi_gpe_create(&m->rig.h->board, &cfg, &gpe), 0);
    m->ret = board_usb_create(&m->rig.h->board, &m->o, m->rig.input, gpe, &m->usb, m->err,
                              sizeof(m->err));
    if (m->ret == 0) {
        board_usb_on_removed(m->usb, removed, m);
    }
    if (m->o.usb) {
        harness_pci_write(m->rig.h, UHCI_DEVFN, PCI_BAR0 + 16, 4, UHCI_IO);
        harness_pci_write(m->rig.h, UHCI_DEVFN, PCI_COMMAND, 2, 5);
    }
    return m;
}

#define MACHINE(...) machine((const char *const[]){__VA_ARGS__, NULL})

static void finish(struct machine *m)
{
    uhci_rig_destroy(&m->rig);
    free(m);
}

static int add(struct machine *m, const char *text)
{
    const struct option_usb o = parse(text);

    m->err[0] = '\0';
    return board_usb_add(m->usb, &o, m->err, sizeof(m->err));
}

/* "bus:port product id, ..." of all; "fast": at high speed. */
static const char *list(const struct machine *m)
{
    static char text[4096];
    struct board_usb_info info;
    size_t n = 0;

    text[0] = '\0';
    for (unsigned i = 0; board_usb_info(m->usb, i, &info); i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%u:%s %s%s%s%s", i != 0 ? ", " : "",
                              info.bus, info.path, info.product + strlen("QEMU USB "),
                              info.id[0] != '\0' ? " " : "", info.id,
                              strcmp(info.speed, "480") == 0 ? " fast" : "");
        assert_true(info.speed[0] != '\0' && (strcmp(info.speed, "12") == 0 || n > 0));
    }
    return text;
}

static void test_start(void **state)
{
    static const struct {
        const char *devices[20];
        const char *list; /* or, after "! ", the error */
    } cases[] = {
        {{"-usb"}, ""},
        {{"-usb", "usb-tablet"}, "0:1 Tablet"},
        {{"-usb", "usb-tablet", "usb-kbd"}, "0:1 Tablet, 0:2 Hub, 0:2.1 Keyboard"},
        {{"-usb", "usb-tablet", "usb-kbd", "usb-mouse,m"},
         "0:1 Tablet, 0:2 Hub, 0:2.1 Keyboard, 0:2.2 Mouse m"},
        {{"-usb", "usb-tablet", "usb-tablet", "usb-tablet", "usb-tablet", "usb-tablet",
          "usb-tablet", "usb-tablet", "usb-tablet", "usb-tablet"},
         "0:1 Tablet, 0:2 Hub, 0:2.1 Tablet, 0:2.2 Tablet, 0:2.3 Tablet, 0:2.4 Tablet, "
         "0:2.5 Tablet, 0:2.6 Tablet, 0:2.7 Tablet, 0:2.8 Hub, 0:2.8.1 Tablet"},
        {{"-usb", "usb-tablet,a,,2", "usb-kbd,b,usb-bus.0,1"}, "0:2 Tablet a, 0:1 Keyboard b"},
        {{"-usb", "usb-hub,h,,1", "usb-mouse,m,,1.8"}, "0:1 Hub h, 0:1.8 Mouse m"},
        {{"-usb", "usb-hub,h", "usb-hub,i"}, "0:1 Hub h, 0:2 Hub i"},
        {{"-usb", "usb-tablet,,x.0", "piix3-usb-uhci,x", "usb-kbd"}, "0:1 Keyboard, 1:1 Tablet"},
        {{"piix3-usb-uhci", "piix3-usb-uhci", "usb-kbd,,usb-bus.1", "usb-tablet"},
         "0:1 Tablet, 1:1 Keyboard"},
        {{"usb-tablet"}, "! No 'usb-bus' bus found for device 'usb-tablet'"},
        {{"-usb", "usb-kbd,,usb.0"}, "! Bus 'usb.0' not found"},
        {{"-usb", "usb-kbd,,,3"}, "! usb port 3 (bus usb-bus.0) not found (in use?)"},
        {{"-usb", "usb-kbd,,,1", "usb-kbd,,,1"},
         "! usb port 1 (bus usb-bus.0) not found (in use?)"},
        {{"-usb", "usb-kbd,,,1.1"}, "! usb port 1.1 (bus usb-bus.0) not found (in use?)"},
        {{"-usb", "usb-frob"}, "! usb-frob is not supported"},
        /* Companions have no bus of their own; while nobody has set CONFIGFLAG the devices are theirs. */
        {{"ich9-usb-ehci1,usb", "ich9-usb-uhci1,,,,usb.0,0", "ich9-usb-uhci2,,,,usb.0,2",
          "ich9-usb-uhci3,,,,usb.0,4", "usb-tablet,,usb.0", "usb-kbd,,,6", "usb-mouse"},
         "0:1 Tablet, 0:6 Keyboard, 0:2 Mouse"},
        {{"usb-ehci,e", "usb-tablet", "nec-usb-xhci,x", "usb-kbd,k,x.0"},
         "0:1 Tablet fast, 1:1 Keyboard k fast"},
        {{"ich9-usb-uhci1,u", "usb-kbd"}, "0:1 Keyboard"},
        {{"ich9-usb-uhci1,,,,u.0", "usb-ehci,u"},
         "! ich9-usb-uhci1: masterbus=u.0 is no USB 2 controller before it"},
        {{"piix3-usb-uhci,u", "ich9-usb-uhci1,,,,u.0"},
         "! ich9-usb-uhci1: masterbus=u.0 is no USB 2 controller before it"},
        {{"usb-ehci,u", "usb-ehci,,,,u.0"},
         "! usb-ehci: masterbus=u.0 is no USB 2 controller before it"},
        {{"usb-ehci,u", "ich9-usb-uhci1,,,,u.0,2", "ich9-usb-uhci2,,,,u.0,3"},
         "! cannot create the USB controller ich9-usb-uhci2: firstport= is another companion's"},
        {{"usb-ehci,u", "ich9-usb-uhci1,,,,u.0,5"},
         "! cannot create the USB controller ich9-usb-uhci1: firstport= must be 0 to 4"},
        {{"usb-ehci,u", "ich9-usb-uhci1,c,,,u.0", "usb-kbd,,c.0"}, "! Bus 'c.0' not found"},
        {{"usb-ehci,u", "usb-kbd,,u.0,7"}, "! usb port 7 (bus u.0) not found (in use?)"},
        {{"nec-usb-xhci,u", "usb-kbd,,u.0,1", "usb-kbd,,u.0", "usb-kbd,,u.0"},
         "! usb-kbd: bus u.0 has no free ports"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct machine *m = machine(cases[i].devices);

        if (cases[i].list[0] == '!') {
            assert_true(m->ret < 0);
            assert_string_equal(m->err, cases[i].list + 2);
        } else {
            assert_int_equal(m->ret, 0);
            assert_string_equal(list(m), cases[i].list);
        }
        assert_int_equal(harness_in(m->rig.h, UP, 4), 0); /* nothing is news to the guest */
        finish(m);
    }
}

static void test_add_and_remove(void **state)
{
    static const struct {
        const char *device, *err;
    } bad[] = {
        {"usb-mouse,t1", "Duplicate device ID 't1'"},
        {"usb-mouse,net0", "Duplicate device ID 'net0'"},
        {"piix3-usb-uhci,disk", "Duplicate device ID 'disk'"},
        {"usb-mouse,ahci0", "Duplicate device ID 'ahci0'"},
        {"usb-mouse,m,no.0", "Bus 'no.0' not found"},
        {"usb-mouse,m,,1", "usb port 1 (bus usb-bus.0) not found (in use?)"},
        {"usb-mouse,m,usb-bus.0,2.9", "usb port 2.9 (bus usb-bus.0) not found (in use?)"},
        {"usb-mouse,m,,", NULL},
        {"usb-host,m", "'usb-host' cannot be added at run time"},
        {"usb-mouse,aaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbcccc",
         "id 'aaaaaaaaaabbbbbbbbbb...' is longer than 63 characters"},
    };
    struct machine *m = MACHINE("-usb", "usb-tablet,t1", "usb-kbd");

    (void)state;
    m->o.nics[0].id = "net0";
    m->o.nic_count = 2; /* one without id */
    m->o.drives[0].id = "disk";
    m->o.drive_count = 1;
    m->o.ahci.id = "ahci0";
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(add(m, bad[i].device) == 0, bad[i].err == NULL);
        assert_string_equal(m->err, bad[i].err != NULL ? bad[i].err : "");
    }
    assert_string_equal(list(m), "0:1 Tablet t1, 0:2 Hub, 0:2.1 Keyboard, 0:2.2 Mouse m");
    assert_int_equal(board_usb_remove(m->usb, "nope"), -ENOENT);
    assert_int_equal(board_usb_remove(m->usb, ""), -ENOENT);
    assert_int_equal(board_usb_remove(m->usb, "net0"), -ENOTSUP);
    assert_string_equal(m->gone, "");
    assert_int_equal(board_usb_remove(m->usb, "t1"), 0);
    assert_int_equal(board_usb_remove(m->usb, "m"), 0);
    assert_int_equal(board_usb_remove(m->usb, "m"), -ENOENT);
    assert_string_equal(m->gone, "t1 m ");
    assert_string_equal(list(m), "0:2 Hub, 0:2.1 Keyboard");
    assert_int_equal(add(m, "usb-mouse,m"), 0);
    assert_int_equal(add(m, "usb-hub,h,,2.4"), 0);
    assert_int_equal(add(m, "usb-hub,i,,2.4.2"), 0);
    assert_int_equal(add(m, "usb-tablet,a,,2.4.2.1"), 0);
    assert_int_equal(add(m, "usb-tablet,b,,2.4.1"), 0);
    assert_string_equal(list(m),
                        "0:2 Hub, 0:2.1 Keyboard, 0:1 Mouse m, 0:2.4 Hub h, 0:2.4.2 Hub i, "
                        "0:2.4.2.1 Tablet a, 0:2.4.1 Tablet b");
    m->gone[0] = '\0';
    assert_int_equal(board_usb_remove(m->usb, "h"),
                     0); /* with what is behind it, from the outside in */
    assert_string_equal(m->gone, "a i b h ");
    assert_string_equal(list(m), "0:2 Hub, 0:2.1 Keyboard, 0:1 Mouse m");
    finish(m);
}

/* Limits: hubs in a row, devices for the input, devices at all. */
static void test_limits(void **state)
{
    struct machine *m = MACHINE("-usb");
    char device[64] = "usb-hub,,,1";
    unsigned n = 0;

    (void)state;
    for (unsigned depth = 0; depth < 5; depth++) {
        assert_int_equal(add(m, device), 0);
        strcat(device, ".1");
    }
    assert_int_equal(add(m, device), -ENOSPC);
    assert_string_equal(m->err, "usb hub chain too deep");
    memcpy(device, "usb-kbd,", 8);
    assert_int_equal(add(m, device), 0); /* but a device is fine there */
    assert_string_equal(list(m), "0:1 Hub, 0:1.1 Hub, 0:1.1.1 Hub, 0:1.1.1.1 Hub, 0:1.1.1.1.1 Hub, "
                                 "0:1.1.1.1.1.1 Keyboard");
    while (add(m, "usb-tablet") == 0) {
        n++;
    }
    assert_in_range(n, 10, 20);
    assert_string_equal(m->err, "cannot create usb-tablet: there are too many input devices");
    for (n = 0; n < 28; n++) {
        assert_int_equal(add(m, "piix3-usb-uhci"), 0);
    }
    for (n = 0; n < 64; n++) {
        snprintf(device, sizeof(device), "usb-hub,,usb-bus.%u", 1 + n % 28);
        if (add(m, device) != 0) {
            break;
        }
    }
    assert_string_equal(m->err, "more than 64 USB devices");
    assert_int_equal(add(m, "piix3-usb-uhci"), -ENOSPC);
    finish(m);
}

static void listen_to_tablet(struct machine *m)
{
    uhci_rig_start(&m->rig);
    uhci_rig_enable_port(&m->rig, 0);
    uhci_rig_configure(&m->rig, 0);
    uhci_rig_poll(&m->rig, 1);
    harness_step(m->rig.h, 20 * MS);
    assert_true(input_has_absolute(m->rig.input));
}

static unsigned relative_events, relative_buttons;

static void relative(void *dev, int dx, int dy, int dz, unsigned buttons)
{
    (void)dev, (void)dx, (void)dy, (void)dz;
    relative_events++;
    relative_buttons = buttons;
}

/* A tablet that goes while it is used: the guest sees the port empty, the pointer drives the mouse again. */
static void test_input_goes_back(void **state)
{
    static const struct input_pointer ps2 = {.relative = relative};
    struct machine *m = MACHINE("-usb", "usb-hub,h,,2");
    struct harness *h = m->rig.h;
    struct input_event ev = {.type = INPUT_EVENT_ABSOLUTE, .x = 100, .buttons = 1};

    (void)state;
    input_add_pointer(m->rig.input, &ps2, &relative_events);
    assert_int_equal(add(m, "usb-tablet,t,,1"), 0);
    assert_int_equal(harness_in(h, UHCI_IO + 0x10, 2) & 3, 3); /* it has come */
    listen_to_tablet(m);
    relative_events = 0;
    input_send(m->rig.input, &ev);
    assert_int_equal(relative_events, 0);
    for (unsigned i = 0; i < 40; i++) { /* its queue is full */
        ev.x = (int)i;
        ev.buttons = i & 1;
        input_send(m->rig.input, &ev);
    }
    assert_int_equal(board_usb_remove(m->usb, "t"), 0);
    assert_false(input_has_absolute(m->rig.input));
    assert_int_equal(harness_in(h, UHCI_IO + 0x10, 2), 0x82);
    ev.x = 5000;
    input_send(m->rig.input, &ev);
    ev.x = 6000;
    ev.buttons = 4;
    input_send(m->rig.input, &ev);
    assert_int_not_equal(relative_events, 0);
    assert_int_equal(relative_buttons, 4);
    harness_step(h, 100 * MS);
    assert_int_equal(uhci_rig_polled(&m->rig) & 0xff0000, 0x440000); /* nobody answers */
    assert_int_equal(add(m, "usb-tablet,t,,1"), 0);
    listen_to_tablet(m);
    finish(m);
}

static void poke(struct harness *h, uint32_t addr, uint32_t v)
{
    memcpy(h->plat.ram + addr, &v, sizeof(v));
}

/* A controller with a schedule that is an error: it has an interrupt that cannot be masked. */
static void make_it_interrupt(struct harness *h, unsigned slot)
{
    uint8_t devfn = PCI_DEVFN(slot, 0);

    harness_pci_write(h, devfn, PCI_BAR0 + 16, 4, HOT_IO);
    harness_pci_write(h, devfn, PCI_COMMAND, 2, 5);
    for (unsigned i = 0; i < 1024; i++) {
        poke(h, 0x20000 + 4 * i, 0x21000);
    }
    poke(h, 0x21000, 1);
    poke(h, 0x21004, RIG_ACTIVE);
    poke(h, 0x21008, 0);
    harness_out(h, HOT_IO + 8, 4, 0x20000);
    harness_out(h, HOT_IO, 2, 1);
    harness_step(h, 5 * MS);
    assert_int_equal(harness_in(h, HOT_IO + 2, 2), 0x30);
    assert_true(h->plat.intx[slot][3]);
}

static void test_controller(void **state)
{
    struct machine *m = MACHINE("-usb", "piix3-usb-uhci,cold");
    struct harness *h = m->rig.h;
    struct option_usb o = parse("piix3-usb-uhci,fixed");
    unsigned maps = h->plat.map_calls;
    unsigned unmaps = h->plat.unmap_calls;

    (void)state;
    harness_out(h, GPE_STS + 2, 1, 2); /* the guest's ACPI listens */
    assert_int_equal(add(m, "piix3-usb-uhci,xenusb-0"), 0);
    assert_int_equal(harness_in(h, UP, 4), 1 << 2);
    assert_int_equal(harness_in(h, GPE_STS, 1), 2);
    assert_true(h->plat.isa[9]);
    harness_out(h, GPE_STS, 1, 2);
    assert_false(h->plat.isa[9]);
    assert_int_equal(harness_pci_read(h, PCI_DEVFN(2, 0), 0, 4), 0x70208086);
    make_it_interrupt(h, 2);
    assert_int_equal(add(m, "usb-tablet,a,xenusb-0.0"), 0);
    assert_int_equal(add(m, "usb-kbd,b,xenusb-0.0"), 0);
    assert_int_equal(add(m, "usb-kbd,c"), 0);
    assert_string_equal(list(m), "0:1 Keyboard c, 2:1 Tablet a, 2:2 Hub, 2:2.1 Keyboard b");

    assert_int_equal(board_usb_remove(m->usb, "xenusb-0"), 0); /* the guest is asked */
    assert_int_equal(board_usb_remove(m->usb, "xenusb-0"), 0); /* and again */
    assert_int_equal(harness_in(h, DOWN, 4), 1 << 2);
    assert_true(h->plat.isa[9]);
    assert_string_equal(m->gone, "");
    assert_int_equal(harness_pci_read(h, PCI_DEVFN(2, 0), 0, 4), 0x70208086);
    for (unsigned slot = 0; slot < 32;
         slot++) { /* nothing but this can be ejected, but for the other one */
        if (slot != 2 && slot != 4) {
            harness_out(h, EJECT, 4, 1u << slot);
        }
    }
    assert_string_equal(m->gone, "");
    harness_out(h, EJECT, 4, 1 << 2);
    assert_string_equal(m->gone, "a b - xenusb-0 ");
    assert_string_equal(list(m), "0:1 Keyboard c");
    assert_int_equal(harness_in(h, DOWN, 4), 0);
    assert_int_equal(harness_in(h, UP, 4), 0);
    assert_int_equal(harness_pci_read(h, PCI_DEVFN(2, 0), 0, 4), 0xffffffff);
    assert_int_equal(harness_in(h, HOT_IO + 2, 2), 0xffff);
    assert_false(h->plat.intx[2][3]);
    assert_int_equal(h->plat.map_calls - maps, h->plat.unmap_calls - unmaps);
    harness_step(h, 100 * MS);

    /* In a slot of its choice; the same one is free again; what was there at start goes, too. */
    o.devfn = PCI_DEVFN(9, 0);
    assert_int_equal(board_usb_add(m->usb, &o, m->err, sizeof(m->err)), 0);
    o.id = "other";
    assert_int_equal(board_usb_add(m->usb, &o, m->err, sizeof(m->err)), -EBUSY);
    assert_string_equal(m->err, "PCI: slot 9 function 0 not available for piix3-usb-uhci");
    o.devfn = PCI_DEVFN(10, 1);
    assert_int_equal(board_usb_add(m->usb, &o, m->err, sizeof(m->err)), -EBUSY);
    assert_int_equal(add(m, "piix3-usb-uhci,xenusb-0"), 0);
    assert_int_equal(harness_in(h, UP, 4), 1 << 2 | 1 << 9);
    m->gone[0] = '\0';
    assert_int_equal(board_usb_remove(m->usb, "cold"), 0);
    harness_out(h, EJECT, 4, 1 << 4);
    harness_out(h, EJECT, 4, 1 << 4);
    assert_string_equal(m->gone, "cold ");
    assert_int_equal(add(m, "usb-kbd,,cold.0"), -ENODEV);
    finish(m);
}

static void test_no_slot(void **state)
{
    struct machine *m = MACHINE("-usb");
    unsigned n = 0;

    (void)state;
    assert_true(board_usb_present(m->usb));
    while (add(m, "piix3-usb-uhci") == 0) {
        n++;
    }
    assert_int_equal(n, 30);
    assert_string_equal(m->err, "no free PCI slot for piix3-usb-uhci");
    finish(m);
}

/* A machine that has been changed is loaded into one as it was started. */
static void test_save_load(void **state)
{
    struct machine *m = MACHINE("-usb", "usb-tablet,t", "usb-kbd,k", "piix3-usb-uhci,cold");
    struct machine *n = MACHINE("-usb", "usb-tablet,t", "usb-kbd,k", "piix3-usb-uhci,cold");
    char want[512];

    (void)state;
    assert_true(harness_save_load_save(m->rig.h));
    assert_int_equal(board_usb_remove(m->usb, "t"), 0);
    assert_int_equal(board_usb_remove(m->usb, "cold"), 0);
    harness_out(m->rig.h, EJECT, 4, 1 << 4);
    assert_int_equal(add(m, "piix3-usb-uhci"), 0);
    assert_int_equal(add(m, "piix3-usb-uhci,hot"), 0);
    harness_out(m->rig.h, EJECT, 4, 1 << 2);
    assert_int_equal(add(m, "piix3-usb-uhci"), 0);  /* usb-bus.2 */
    assert_int_equal(add(m, "usb-tablet,t,,1"), 0); /* the same again, but behind others */
    assert_int_equal(add(m, "usb-mouse,m,hot.0"), 0);
    assert_int_equal(add(m, "usb-hub,h,hot.0"), 0);
    assert_int_equal(add(m, "usb-tablet,u,hot.0,2.7"), 0);
    assert_int_equal(add(m, "usb-kbd,v,usb-bus.2,2"), 0);
    assert_int_equal(add(m, "nec-usb-xhci,three"), 0);
    assert_int_equal(add(m, "usb-mouse,m3,three.0,2"), 0);
    assert_int_equal(add(m, "usb-ehci,two"), 0);
    assert_int_equal(add(m, "usb-mouse,m2,two.0,6"), 0);
    listen_to_tablet(m);
    snprintf(want, sizeof(want), "%s", list(m));
    assert_true(harness_save_load_save(m->rig.h));
    assert_string_equal(list(m), want);
    assert_string_not_equal(list(n), want);
    n->gone[0] = '\0';
    assert_true(harness_transfer(m->rig.h, n->rig.h));
    assert_string_equal(list(n), want);
    assert_string_equal(n->gone, ""); /* nobody is told */
    assert_true(input_has_absolute(n->rig.input));
    assert_int_equal(harness_pci_read(n->rig.h, PCI_DEVFN(4, 0), 0, 4), 0x01941033);
    assert_int_equal(harness_pci_read(n->rig.h, PCI_DEVFN(3, 0), 0, 4), 0x70208086);
    /* It can be used: things go and come as there. */
    assert_int_equal(board_usb_remove(n->usb, "h"), 0);
    assert_string_equal(n->gone, "u h ");
    assert_int_equal(add(n, "usb-kbd,w,usb-bus.2"), 0);
    assert_true(harness_save_load_save(n->rig.h));
    finish(m);
    finish(n);
}

/* Each byte of each record made wrong, loaded into a new machine each: refused or taken, never harmful. */
static void test_bad_state(void **state)
{
    struct machine *m = MACHINE("-usb", "usb-tablet,t");
    struct save_stream s;

    (void)state;
    assert_int_equal(add(m, "piix3-usb-uhci,hot"), 0);
    assert_int_equal(add(m, "usb-hub,h,hot.0"), 0);
    assert_int_equal(add(m, "usb-kbd,v,hot.0,1.1"), 0);
    save_init(&s);
    assert_int_equal(board_save(&m->rig.h->board, &s), 0);
    for (size_t i = 0; i < s.len; i++) {
        for (unsigned bit = 0; bit < 8; bit += 3) {
            struct machine *n = MACHINE("-usb", "usb-tablet,t");
            struct save_stream in;

            s.data[i] ^= (uint8_t)(1u << bit);
            save_init_load(&in, s.data, s.len);
            if (board_load(&n->rig.h->board, &in) == 0) {
                harness_step(n->rig.h, 2 * MS);
                assert_true(harness_save_load_save(n->rig.h));
                (void)board_usb_remove(n->usb, "h");
                (void)add(n, "usb-tablet,x");
            }
            s.data[i] ^= (uint8_t)(1u << bit);
            finish(n);
        }
    }
    save_free(&s);
    finish(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),      cmocka_unit_test(test_add_and_remove),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_input_goes_back),
        cmocka_unit_test(test_controller), cmocka_unit_test(test_no_slot),
        cmocka_unit_test(test_save_load),  cmocka_unit_test(test_bad_state),
    };

    return cmocka_run_group_tests_name("board_usb", tests, NULL, NULL);
}
