/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/board_usb.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"
#include "core/pci.h"
#include "hw/acpi_gpe.h"
#include "hw/ehci.h"
#include "hw/uhci.h"
#include "hw/usb.h"
#include "hw/usb_hid.h"
#include "hw/usb_hub.h"
#include "hw/xhci.h"

enum {
    DEVFN_PIIX3_USB = PCI_DEVFN(1, 2), /* that of -usb */
    NODES_MAX = 64,
    DRIVER_LEN = 32,
    BUS_NAME_LEN = BOARD_USB_ID_LEN + 2,
};

/* ---- drivers ---- */

struct usb_kind {
    const char *driver;
    /* A controller. master: the bus of masterbus=, or NULL. *out: its own ports, whose host is what the board knows it by;
     * left NULL if its ports are its master's. */
    int (*controller)(struct board *b, const struct option_usb *o, struct usb_bus *master,
                      struct usb_bus **out);
    /* Or a function. */
    int (*function)(struct board *b, struct input *in, struct usb_device **out);
    bool at_start_only;
};

static int create_piix3(struct board *b, const struct option_usb *o, struct usb_bus *master,
                        struct usb_bus **out)
{
    (void)master;
    return uhci_create(b, o->devfn, UHCI_PIIX3, out);
}

/* ich9-usb-uhciN: a companion, or without masterbus= a controller like others. */
static int create_ich9_uhci(struct board *b, const struct option_usb *o, struct usb_bus *master,
                            struct usb_bus **out)
{
    enum uhci_kind kind = UHCI_ICH9_1 + (unsigned)(o->driver[strlen(o->driver) - 1] - '1');
    struct usb_bus *bus;
    int ret = uhci_create(b, o->devfn, kind, &bus);

    if (ret == 0 && master == NULL) {
        *out = bus;
    } else if (ret == 0) {
        ret = ehci_add_companion(master, o->firstport, bus);
        if (ret != 0) {
            board_remove_device(b, bus->host);
        }
    }
    return ret;
}

static int create_ehci(struct board *b, const struct option_usb *o, struct usb_bus *master,
                       struct usb_bus **out)
{
    (void)master;
    return ehci_create(b, o->devfn, strcmp(o->driver, "usb-ehci") == 0 ? EHCI_ICH4 : EHCI_ICH9,
                       out);
}

static int create_xhci(struct board *b, const struct option_usb *o, struct usb_bus *master,
                       struct usb_bus **out)
{
    const struct xhci_config cfg = {
        .devfn = o->devfn, .usb2_ports = o->usb2_ports, .usb3_ports = o->usb3_ports};

    (void)master;
    return xhci_create(b, &cfg, out);
}

static int create_tablet(struct board *b, struct input *in, struct usb_device **out)
{
    return usb_hid_create(b, USB_HID_TABLET, in, out);
}

static int create_mouse(struct board *b, struct input *in, struct usb_device **out)
{
    return usb_hid_create(b, USB_HID_MOUSE, in, out);
}

static int create_keyboard(struct board *b, struct input *in, struct usb_device **out)
{
    return usb_hid_create(b, USB_HID_KEYBOARD, in, out);
}

static int create_hub(struct board *b, struct input *in, struct usb_device **out)
{
    (void)in;
    return usb_hub_create(b, out);
}

/* The one list of USB drivers; core/options_check.c lets their names through. */
static const struct usb_kind kinds[] = {
    {"piix3-usb-uhci", .controller = create_piix3},
    {"ich9-usb-uhci1", .controller = create_ich9_uhci, .at_start_only = true},
    {"ich9-usb-uhci2", .controller = create_ich9_uhci, .at_start_only = true},
    {"ich9-usb-uhci3", .controller = create_ich9_uhci, .at_start_only = true},
    {"ich9-usb-ehci1", .controller = create_ehci, .at_start_only = true},
    {"usb-ehci", .controller = create_ehci},
    {"nec-usb-xhci", .controller = create_xhci},
    {"usb-tablet", .function = create_tablet},
    {"usb-mouse", .function = create_mouse},
    {"usb-kbd", .function = create_keyboard},
    {"usb-hub", .function = create_hub},
};

static const struct usb_kind *find_kind(const char *driver)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].driver, driver) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

bool board_usb_is_controller(const char *driver)
{
    const struct usb_kind *kind = find_kind(driver);

    return kind != NULL && kind->controller != NULL && !kind->at_start_only;
}

bool board_usb_is_function(const char *driver)
{
    const struct usb_kind *kind = find_kind(driver);

    return kind != NULL && kind->function != NULL;
}

/* ---- what there is ---- */

/* A controller, hub or function. What hangs on it comes behind it in the list. */
struct usb_node {
    struct usb_node *next;
    const struct usb_kind *kind;
    char id[BOARD_USB_ID_LEN];      /* "": none */
    char bus_name[BUS_NAME_LEN];    /* of a controller */
    struct usb_bus *bus;            /* ports of a controller or hub; NULL: has none */
    uint8_t devfn;                  /* of a controller */
    uint8_t usb2_ports, usb3_ports; /* of an xHCI controller */
    struct usb_device *dev;         /* function or hub, and where it is plugged in */
    struct usb_node *parent;
    unsigned port;
    unsigned serial; /* of all that there ever were */
    bool fixed;      /* a part of the chipset */
};

struct board_usb {
    struct board *b;
    const struct options *o;
    struct input *input;
    struct acpi_gpe *gpe;
    struct usb_node *nodes; /* in the order of their creation, which is the board's */
    unsigned count, serials, unnamed_buses;
    void (*removed)(void *opaque, const char *id, unsigned serial);
    void *opaque;
};

static int __attribute__((format(printf, 4, 5)))
fail(char *err, size_t errlen, int ret, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err, errlen, fmt, ap);
    va_end(ap);
    return ret;
}

static struct usb_node *find_id(const struct board_usb *u, const char *id)
{
    for (struct usb_node *n = u->nodes; n != NULL; n = n->next) {
        if (n->id[0] != '\0' && strcmp(n->id, id) == 0) {
            return n;
        }
    }
    return NULL;
}

/* Whether some device of the machine has this id. */
static bool id_taken(const struct board_usb *u, const char *id)
{
    const struct options *o = u->o;
    bool taken = find_id(u, id) != NULL || (o->ahci.id != NULL && strcmp(o->ahci.id, id) == 0);

    for (unsigned i = 0; i < o->nic_count; i++) {
        taken = taken || (o->nics[i].id != NULL && strcmp(o->nics[i].id, id) == 0);
    }
    for (unsigned i = 0; i < o->drive_count; i++) {
        taken = taken || (o->drives[i].id != NULL && strcmp(o->drives[i].id, id) == 0);
    }
    return taken;
}

static struct usb_node *find_bus(const struct board_usb *u, const char *name)
{
    for (struct usb_node *n = u->nodes; n != NULL; n = n->next) {
        if (n->dev == NULL && n->bus != NULL && strcmp(n->bus_name, name) == 0) {
            return n;
        }
    }
    return NULL;
}

static struct usb_node *controller_of(struct usb_node *n)
{
    while (n->parent != NULL) {
        n = n->parent;
    }
    return n;
}

static unsigned tier(const struct usb_node *n)
{
    unsigned hubs = 0;

    for (; n->parent != NULL; n = n->parent) {
        hubs++;
    }
    return hubs;
}

/* "2.8.1": the port of the controller, of the hub there, ... */
static void port_path(const struct usb_node *parent, unsigned port, char path[BOARD_USB_PATH_LEN])
{
    char above[BOARD_USB_PATH_LEN] = "";

    if (parent->dev != NULL) {
        port_path(parent->parent, parent->port, above);
    }
    snprintf(path, BOARD_USB_PATH_LEN, "%.24s%s%u", above, above[0] != '\0' ? "." : "",
             (port + 1) & 0xff);
}

/* ---- nodes come and go ---- */

static struct usb_node *node_create(struct board_usb *u, const struct usb_kind *kind,
                                    const char *id)
{
    struct usb_node *n = u->count < NODES_MAX ? calloc(1, sizeof(*n)) : NULL;

    if (n != NULL) {
        n->kind = kind;
        n->serial = u->serials;
        snprintf(n->id, sizeof(n->id), "%s", id != NULL ? id : "");
    }
    return n;
}

static void node_append(struct board_usb *u, struct usb_node *n)
{
    struct usb_node **p = &u->nodes;

    while (*p != NULL) {
        p = &(*p)->next;
    }
    *p = n;
    u->count++;
    u->serials++;
}

/* Removes a node and what hangs on it, the outermost first; all of it is behind *p. */
static void node_remove(struct board_usb *u, struct usb_node **p, bool tell)
{
    struct usb_node *n = *p;

    for (struct usb_node **child = &n->next; *child != NULL;) {
        if ((*child)->parent == n) {
            node_remove(u, child, tell);
        } else {
            child = &(*child)->next;
        }
    }
    if (n->dev != NULL) {
        usb_bus_unplug(n->parent->bus, n->port);
    }
    board_remove_device(u->b, n->dev != NULL ? n->dev->cfg.dev : n->bus->host);
    *p = n->next;
    u->count--;
    if (tell && u->removed != NULL) {
        u->removed(u->opaque, n->id, n->serial);
    }
    free(n);
}

static struct usb_node **place_of(struct board_usb *u, const struct usb_node *n)
{
    struct usb_node **p = &u->nodes;

    while (*p != n) {
        p = &(*p)->next;
    }
    return p;
}

static int add_controller(struct board_usb *u, const struct usb_kind *kind,
                          const struct option_usb *o, bool fixed, char *err, size_t errlen)
{
    struct usb_node *master = o->masterbus != NULL ? find_bus(u, o->masterbus) : NULL;
    struct usb_node *n;
    int ret;

    if (o->masterbus != NULL && (master == NULL || master->kind->controller != create_ehci ||
                                 kind->controller != create_ich9_uhci)) {
        return fail(err, errlen, -EINVAL, "%s: masterbus=%.60s is no USB 2 controller before it",
                    kind->driver, o->masterbus);
    }
    n = node_create(u, kind, o->id);
    if (n == NULL) {
        return fail(err, errlen, -ENOSPC, "more than %d USB devices", NODES_MAX);
    }
    ret = kind->controller(u->b, o, master != NULL ? master->bus : NULL, &n->bus);
    if (ret != 0) {
        free(n);
        return fail(err, errlen, ret, "cannot create the USB controller %s: %s", kind->driver,
                    master != NULL && ret == -EINVAL   ? "firstport= must be 0 to 4"
                    : master != NULL && ret == -EEXIST ? "firstport= is another companion's"
                                                       : strerror(-ret));
    }
    n->devfn = o->devfn;
    n->usb2_ports = o->usb2_ports;
    n->usb3_ports = o->usb3_ports;
    n->fixed = fixed || kind->at_start_only;
    if (n->bus == NULL) {
        /* its ports are another one's */
    } else if (n->id[0] != '\0') {
        snprintf(n->bus_name, sizeof(n->bus_name), "%s.0", n->id);
    } else {
        snprintf(n->bus_name, sizeof(n->bus_name), "usb-bus.%u", u->unnamed_buses++ & 0xffff);
    }
    node_append(u, n);
    return 0;
}

/* Creates a function and plugs it in there. */
static int add_at(struct board_usb *u, const struct usb_kind *kind, const char *id,
                  struct usb_node *parent, unsigned port, char *err, size_t errlen)
{
    bool hub = kind->function == create_hub;
    struct usb_node *n;
    int ret;

    if (hub && tier(parent) == USB_HUB_TIERS) {
        return fail(err, errlen, -ENOSPC, "usb hub chain too deep");
    }
    n = node_create(u, kind, id);
    if (n == NULL) {
        return fail(err, errlen, -ENOSPC, "more than %d USB devices", NODES_MAX);
    }
    ret = kind->function(u->b, u->input, &n->dev);
    if (ret != 0) {
        free(n);
        return fail(err, errlen, ret, "cannot create %s: %s", kind->driver,
                    ret == -ENOSPC ? "there are too many input devices" : strerror(-ret));
    }
    ret = usb_bus_plug(parent->bus, (int)port, n->dev);
    if (ret != 0) {
        board_remove_device(u->b, n->dev->cfg.dev);
        free(n);
        return fail(err, errlen, ret, "cannot plug %s into bus %s: %s", kind->driver,
                    controller_of(parent)->bus_name,
                    ret == -ENOTSUP ? "hubs are for full-speed buses" : strerror(-ret));
    }
    n->bus = n->dev->cfg.hub;
    n->parent = parent;
    n->port = port;
    node_append(u, n);
    return 0;
}

/* ---- ports ---- */

struct usb_place {
    struct usb_node *parent; /* NULL: nowhere */
    unsigned port;
};

/* The free ports of a controller, with those of its hubs: how many there are, and the first of them, or (path not NULL)
 * that of this name. */
static unsigned free_ports(const struct board_usb *u, struct usb_node *controller, const char *path,
                           struct usb_place *place)
{
    unsigned n = 0;

    *place = (struct usb_place){NULL, 0};
    for (struct usb_node *at = u->nodes; at != NULL; at = at->next) {
        if (at->bus == NULL || controller_of(at) != controller) {
            continue;
        }
        for (unsigned port = 0; port < at->bus->ports; port++) {
            char name[BOARD_USB_PATH_LEN];

            if (at->bus->dev[port] != NULL) {
                continue;
            }
            n++;
            port_path(at, port, name);
            if (place->parent == NULL && (path == NULL || strcmp(path, name) == 0)) {
                *place = (struct usb_place){at, port};
            }
        }
    }
    return n;
}

/* A free port of the controller for a function that does not ask for one. */
static struct usb_place any_port(struct board_usb *u, struct usb_node *controller,
                                 const struct usb_kind *kind)
{
    const struct usb_kind *hub = find_kind("usb-hub");
    struct usb_place place;
    char ignored[128];

    if (free_ports(u, controller, NULL, &place) == 1 && kind != hub &&
        add_at(u, hub, NULL, place.parent, place.port, ignored, sizeof(ignored)) == 0) {
        (void)free_ports(u, controller, NULL, &place);
    }
    return place; /* where no hub can be, the last port */
}

static int add_function(struct board_usb *u, const struct usb_kind *kind,
                        const struct option_usb *o, char *err, size_t errlen)
{
    struct usb_place place = {NULL, 0};
    struct usb_node *controller = o->bus != NULL ? find_bus(u, o->bus) : NULL;

    if (o->bus != NULL && controller == NULL) {
        return fail(err, errlen, -ENODEV, "Bus '%.80s' not found", o->bus);
    }
    if (controller == NULL) { /* the first one with a port */
        for (struct usb_node *n = u->nodes; n != NULL && place.parent == NULL; n = n->next) {
            if (n->dev == NULL && n->bus != NULL) {
                controller = n;
                (void)free_ports(u, n, o->port, &place);
            }
        }
    }
    if (controller == NULL) {
        return fail(err, errlen, -ENODEV, "No 'usb-bus' bus found for device '%s'", kind->driver);
    }
    if (o->port != NULL) {
        (void)free_ports(u, controller, o->port, &place);
        if (place.parent == NULL) {
            return fail(err, errlen, -EBUSY, "usb port %.32s (bus %s) not found (in use?)", o->port,
                        controller->bus_name);
        }
    } else {
        place = any_port(u, controller, kind);
        if (place.parent == NULL) {
            return fail(err, errlen, -ENOSPC, "%s: bus %s has no free ports", kind->driver,
                        controller->bus_name);
        }
    }
    return add_at(u, kind, o->id, place.parent, place.port, err, errlen);
}

/* ---- at run time ---- */

int board_usb_add(struct board_usb *u, const struct option_usb *o, char *err, size_t errlen)
{
    const struct usb_kind *kind = find_kind(o->driver);
    struct option_usb at = *o;
    int ret;

    if (kind == NULL || kind->at_start_only) {
        return fail(err, errlen, -ENOTSUP, "'%.60s' cannot be added at run time", o->driver);
    }
    if (o->id != NULL && strlen(o->id) >= BOARD_USB_ID_LEN) {
        return fail(err, errlen, -EINVAL, "id '%.20s...' is longer than %d characters", o->id,
                    BOARD_USB_ID_LEN - 1);
    }
    if (o->id != NULL && id_taken(u, o->id)) {
        return fail(err, errlen, -EEXIST, "Duplicate device ID '%s'", o->id);
    }
    if (kind->function != NULL) {
        return add_function(u, kind, o, err, errlen);
    }
    if (at.devfn == BOARD_USB_ANY_SLOT) {
        int slot = pci_free_slot(u->b->pci, 1);

        if (slot < 0) {
            return fail(err, errlen, slot, "no free PCI slot for %s", kind->driver);
        }
        at.devfn = PCI_DEVFN(slot, 0);
    } else if ((at.devfn & 7) != 0 || pci_slot_taken(u->b->pci, at.devfn >> 3)) {
        return fail(err, errlen, -EBUSY, "PCI: slot %d function %d not available for %s",
                    at.devfn >> 3, at.devfn & 7, kind->driver);
    }
    ret = add_controller(u, kind, &at, false, err, errlen);
    if (ret == 0) {
        acpi_gpe_pci_added(u->gpe, at.devfn >> 3);
    }
    return ret;
}

int board_usb_remove(struct board_usb *u, const char *id)
{
    struct usb_node *n = find_id(u, id);

    if (n == NULL) {
        return id_taken(u, id) ? -ENOTSUP : -ENOENT;
    }
    if (n->fixed) {
        return -ENOTSUP;
    }
    if (n->dev == NULL) {
        acpi_gpe_pci_remove(u->gpe, n->devfn >> 3);
    } else {
        node_remove(u, place_of(u, n), true);
    }
    return 0;
}

void board_usb_eject(struct board_usb *u, unsigned slot)
{
    struct usb_node **p = &u->nodes;

    while (*p != NULL && ((*p)->dev != NULL || (*p)->fixed || (*p)->devfn != PCI_DEVFN(slot, 0))) {
        p = &(*p)->next;
    }
    if (*p != NULL) {
        node_remove(u, p, true);
    }
}

void board_usb_on_removed(struct board_usb *u,
                          void (*fn)(void *opaque, const char *id, unsigned serial), void *opaque)
{
    u->removed = fn;
    u->opaque = opaque;
}

bool board_usb_present(const struct board_usb *u)
{
    return u->nodes != NULL;
}

bool board_usb_info(const struct board_usb *u, unsigned i, struct board_usb_info *out)
{
    unsigned bus = 0;

    for (struct usb_node *c = u->nodes; c != NULL; c = c->next) {
        if (c->dev != NULL || c->bus == NULL) {
            continue;
        }
        for (struct usb_node *n = c->next; n != NULL; n = n->next) {
            if (n->dev == NULL || controller_of(n) != c || i-- != 0) {
                continue;
            }
            *out = (struct board_usb_info){
                .bus = bus,
                .address = n->dev->r.address,
                .speed = n->dev->h.speed == USB_SPEED_FULL ? "12" : "480",
                .product = n->dev->cfg.strings[1],
                .id = n->id,
            };
            port_path(n->parent, n->port, out->path);
            return true;
        }
        bus++;
    }
    return false;
}

/* ---- life ---- */

static void usb_reset(void *dev)
{
    (void)dev; /* what is plugged in stays */
}

/* A node in saved state. */
struct usb_record {
    char driver[DRIVER_LEN], id[BOARD_USB_ID_LEN], bus[BUS_NAME_LEN], path[BOARD_USB_PATH_LEN];
    uint8_t devfn, usb2_ports, usb3_ports;
};

static void record_fill(struct usb_record *r, const struct usb_node *n)
{
    *r = (struct usb_record){
        .devfn = n->devfn, .usb2_ports = n->usb2_ports, .usb3_ports = n->usb3_ports};
    snprintf(r->driver, sizeof(r->driver), "%s", n->kind->driver);
    snprintf(r->id, sizeof(r->id), "%s", n->id);
    snprintf(r->bus, sizeof(r->bus), "%s",
             n->dev != NULL ? controller_of(n->parent)->bus_name : n->bus_name);
    if (n->dev != NULL) {
        port_path(n->parent, n->port, r->path);
    }
}

static void record_move(struct usb_record *r, struct save_stream *s)
{
    save_bytes(s, r->driver, sizeof(r->driver));
    save_bytes(s, r->id, sizeof(r->id));
    save_bytes(s, r->bus, sizeof(r->bus));
    save_bytes(s, r->path, sizeof(r->path));
    save_u8(s, &r->devfn);
    save_u8(s, &r->usb2_ports);
    save_u8(s, &r->usb3_ports);
    r->driver[DRIVER_LEN - 1] = r->id[BOARD_USB_ID_LEN - 1] = '\0';
    r->bus[BUS_NAME_LEN - 1] = r->path[BOARD_USB_PATH_LEN - 1] = '\0';
}

static bool record_is(const struct usb_record *r, const struct usb_node *n)
{
    struct usb_record other;

    record_fill(&other, n);
    return strcmp(r->driver, other.driver) == 0 && strcmp(r->id, other.id) == 0 &&
           strcmp(r->bus, other.bus) == 0 && strcmp(r->path, other.path) == 0 &&
           r->devfn == other.devfn && r->usb2_ports == other.usb2_ports &&
           r->usb3_ports == other.usb3_ports;
}

/* Adds what came at run time before the save, in the place where it was. */
static int record_add(struct board_usb *u, const struct usb_record *r)
{
    const struct usb_kind *kind = find_kind(r->driver);
    const struct option_usb o = {.driver = r->driver,
                                 .id = r->id[0] != '\0' ? r->id : NULL,
                                 .devfn = r->devfn,
                                 .usb2_ports = r->usb2_ports,
                                 .usb3_ports = r->usb3_ports};
    struct usb_node *controller;
    struct usb_place place;
    struct usb_node *n;
    char ignored[256];

    if (kind == NULL || kind->at_start_only || (o.id != NULL && id_taken(u, o.id))) {
        return -EINVAL;
    }
    if (kind->controller != NULL) {
        if ((r->devfn & 7) != 0 || pci_slot_taken(u->b->pci, r->devfn >> 3) ||
            find_bus(u, r->bus) != NULL ||
            add_controller(u, kind, &o, false, ignored, sizeof(ignored)) != 0) {
            return -EINVAL;
        }
        for (n = u->nodes; n->next != NULL; n = n->next) {
        }
        snprintf(n->bus_name, sizeof(n->bus_name), "%s", r->bus);
        return 0;
    }
    controller = find_bus(u, r->bus);
    if (controller == NULL || free_ports(u, controller, r->path, &place) == 0 ||
        place.parent == NULL) {
        return -EINVAL;
    }
    return add_at(u, kind, o.id, place.parent, place.port, ignored, sizeof(ignored));
}

/*
 * Which devices there are. A load makes them the same: what is not in the saved state is removed, what is only there is
 * added, so that the records of the devices themselves, which follow, find them in their order.
 */
static int usb_state(void *dev, struct save_stream *s)
{
    struct board_usb *u = dev;
    struct usb_node **p = &u->nodes;
    uint8_t count = (uint8_t)u->count;
    uint32_t unnamed = u->unnamed_buses;

    save_u8(s, &count);
    save_u32(s, &unnamed);
    for (unsigned i = 0; i < count && s->error == 0; i++) {
        struct usb_record r = {.devfn = 0};

        if (!s->loading) {
            record_fill(&r, *p);
        }
        record_move(&r, s);
        while (s->loading && s->error == 0 && *p != NULL && !record_is(&r, *p)) {
            if ((*p)->fixed) {
                return -EINVAL;
            }
            node_remove(u, p, false);
        }
        if (*p == NULL && (s->error != 0 || record_add(u, &r) != 0)) {
            return -EINVAL;
        }
        p = &(*p)->next;
    }
    while (s->loading && s->error == 0 && *p != NULL) {
        if ((*p)->fixed) {
            return -EINVAL;
        }
        node_remove(u, p, false);
    }
    if (s->loading) {
        u->unnamed_buses = unnamed;
    }
    return s->error;
}

/* The devices are the board's, and gone already. */
static void usb_destroy(void *dev)
{
    struct board_usb *u = dev;

    while (u->nodes != NULL) {
        struct usb_node *n = u->nodes;

        u->nodes = n->next;
        free(n);
    }
    free(u);
}

static const struct device_ops usb_ops = {
    .name = "usb", .version = 1, .reset = usb_reset, .state = usb_state, .destroy = usb_destroy};

/* Controllers first: functions may be named before them. */
static int create_all(struct board_usb *u, char *err, size_t errlen)
{
    const struct options *o = u->o;
    const struct option_usb piix3 = {.devfn = DEVFN_PIIX3_USB};
    int ret =
        o->usb ? add_controller(u, find_kind("piix3-usb-uhci"), &piix3, true, err, errlen) : 0;

    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < o->usb_device_count && ret == 0; i++) {
            const struct option_usb *d = &o->usb_devices[i];
            const struct usb_kind *kind = find_kind(d->driver);

            if (kind == NULL) {
                ret = fail(err, errlen, -ENOTSUP, "%.60s is not supported", d->driver);
            } else if (d->id != NULL && strlen(d->id) >= BOARD_USB_ID_LEN) {
                ret = fail(err, errlen, -EINVAL, "%s: id '%.20s...' is too long", d->driver, d->id);
            } else if (pass == 0 && kind->controller != NULL) {
                ret = add_controller(u, kind, d, false, err, errlen);
            } else if (pass == 1 && kind->function != NULL) {
                ret = add_function(u, kind, d, err, errlen);
            }
        }
    }
    return ret;
}

int board_usb_create(struct board *b, const struct options *o, struct input *in,
                     struct acpi_gpe *gpe, struct board_usb **out, char *err, size_t errlen)
{
    struct board_usb *u = calloc(1, sizeof(*u));

    if (u == NULL) {
        return fail(err, errlen, -ENOMEM, "out of memory");
    }
    u->b = b;
    u->o = o;
    u->input = in;
    u->gpe = gpe;
    if (board_add_device(b, &usb_ops, u) != 0) {
        free(u);
        return fail(err, errlen, -ENOMEM, "out of memory");
    }
    *out = u;
    return create_all(u, err, errlen);
}
