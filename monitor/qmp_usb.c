/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "monitor/qmp_usb.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"
#include "hw/board_usb.h"
#include "monitor/qmp_priv.h"

/* What people and toolstacks ask for and cannot have, with the reason. */
static const struct {
    const char *driver, *why;
} refused[] = {
    {"usb-host", "passing through USB devices of the host is not supported"},
    {"xen-pci-passthrough", "passing through PCI devices of the host is not supported"},
    {"qemu32-i386-cpu", "CPUs cannot be added yet: start the guest with all of its vcpus="},
};

/* Which properties a controller (true) or function has, besides driver and id. */
static const struct {
    const char *name;
    bool controller;
} properties[] = {
    {"bus", false}, {"port", false}, {"addr", true}, {"p2", true}, {"p3", true},
};

static bool is_identifier(const char *id)
{
    bool ok = isalpha((unsigned char)id[0]) != 0;

    for (; *id != '\0' && ok; id++) {
        ok = isalnum((unsigned char)*id) || strchr("-._", *id) != NULL;
    }
    return ok;
}

/* Values come as strings or as integers. NULL: neither. */
static const char *value_text(struct json_object *value)
{
    return json_object_is_type(value, json_type_string) || json_object_is_type(value, json_type_int)
               ? json_object_get_string(value)
               : NULL;
}

static int check_properties(struct json_object *args, const char *driver, struct qmp_error *e)
{
    bool controller = board_usb_is_controller(driver);

    json_object_object_foreach(args, name, value)
    {
        bool known = strcmp(name, "driver") == 0 || strcmp(name, "id") == 0;

        for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++) {
            known |=
                properties[i].controller == controller && strcmp(properties[i].name, name) == 0;
        }
        if (!known) {
            return qmp_fail(e, QMP_GENERIC_ERROR, "Property '%.60s.%.60s' not found", driver, name);
        }
        if (value_text(value) == NULL) {
            return qmp_fail(e, QMP_GENERIC_ERROR,
                            "Invalid parameter type for '%.60s', expected: string", name);
        }
    }
    return 0;
}

static const char *property(struct json_object *args, const char *name)
{
    struct json_object *value;

    return json_object_object_get_ex(args, name, &value) ? value_text(value) : NULL;
}

/* A number of ports: 1 .. OPTIONS_XHCI_PORTS_MAX; not given: the usual number. */
static bool parse_ports(const char *text, uint8_t *ports)
{
    char *end;
    unsigned long n;

    if (text == NULL) {
        *ports = OPTIONS_XHCI_PORTS;
        return true;
    }
    n = isdigit((unsigned char)text[0]) ? strtoul(text, &end, 10) : 0;
    *ports = (uint8_t)n;
    return n >= 1 && n <= OPTIONS_XHCI_PORTS_MAX && *end == '\0';
}

static int cmd_device_add(struct qmp *q, void *opaque, struct json_object *args,
                          struct json_object **result, struct qmp_error *e)
{
    struct option_usb o = {.driver = qmp_arg_string(args, "driver", ""),
                           .id = qmp_arg_string(args, "id", NULL),
                           .bus = property(args, "bus"),
                           .port = property(args, "port"),
                           .devfn = BOARD_USB_ANY_SLOT};
    const char *addr = property(args, "addr");

    (void)q, (void)result;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (strcmp(refused[i].driver, o.driver) == 0) {
            return qmp_fail(e, QMP_GENERIC_ERROR, "%s: %s", o.driver, refused[i].why);
        }
    }
    if (!board_usb_is_controller(o.driver) && !board_usb_is_function(o.driver)) {
        return qmp_fail(e, QMP_GENERIC_ERROR,
                        "'%.60s' is not a valid device model name, or not one that can be added to "
                        "a running guest",
                        o.driver);
    }
    if (check_properties(args, o.driver, e) < 0) {
        return -1;
    }
    if (o.id != NULL && !is_identifier(o.id)) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "Parameter 'id' expects an identifier");
    }
    if (addr != NULL && !options_pci_addr(addr, &o.devfn)) {
        return qmp_fail(e, QMP_GENERIC_ERROR,
                        "Parameter 'addr' expects SLOT or SLOT.FUNCTION in hexadecimal");
    }
    if (!parse_ports(property(args, "p2"), &o.usb2_ports) ||
        !parse_ports(property(args, "p3"), &o.usb3_ports)) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "Parameters 'p2' and 'p3' expect 1 to %d ports",
                        OPTIONS_XHCI_PORTS_MAX);
    }
    e->class = QMP_GENERIC_ERROR;
    return board_usb_add(opaque, &o, e->desc, sizeof(e->desc)) == 0 ? 0 : -1;
}

static int cmd_device_del(struct qmp *q, void *opaque, struct json_object *args,
                          struct json_object **result, struct qmp_error *e)
{
    const char *id = qmp_arg_string(args, "id", "");

    (void)q, (void)result;
    switch (board_usb_remove(opaque, id)) {
    case 0:
        return 0;
    case -ENOENT:
        return qmp_fail(e, QMP_DEVICE_NOT_FOUND, "Device '%.100s' not found", id);
    default:
        return qmp_fail(e, QMP_GENERIC_ERROR, "Device '%.100s' cannot be removed at run time", id);
    }
}

static int cmd_query_usb(struct qmp *q, void *opaque, struct json_object *args,
                         struct json_object **result, struct qmp_error *e)
{
    struct board_usb_info info;
    char text[8192];
    size_t len = 0;

    (void)q, (void)args;
    if (!board_usb_present(opaque)) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "USB support not enabled");
    }
    text[0] = '\0';
    for (unsigned i = 0; len < sizeof(text) && board_usb_info(opaque, i, &info); i++) {
        int n = snprintf(text + len, sizeof(text) - len,
                         "  Device %u.%u, Port %s, Speed %s Mb/s, Product %s%s%s\n", info.bus,
                         info.address, info.path, info.speed, info.product,
                         info.id[0] != '\0' ? ", ID: " : "", info.id);

        len += n > 0 ? (size_t)n : 0;
    }
    *result = json_object_new_object();
    json_object_object_add(*result, "human-readable-text", qmp_text(text));
    return 0;
}

static const struct qmp_command commands[] = {
    {"device_add", "driver:s,id:s?,*", cmd_device_add},
    {"device_del", "id:s", cmd_device_del},
    {"x-query-usb", "", cmd_query_usb},
    {NULL, NULL, NULL},
};

static void removed(void *opaque, const char *id, unsigned serial)
{
    struct json_object *data = json_object_new_object();
    char path[128];

    if (id[0] != '\0') {
        json_object_object_add(data, "device", qmp_text(id));
        snprintf(path, sizeof(path), "/machine/peripheral/%s", id);
    } else {
        snprintf(path, sizeof(path), "/machine/peripheral-anon/device[%u]", serial);
    }
    json_object_object_add(data, "path", qmp_text(path));
    qmp_event(opaque, "DEVICE_DELETED", json_object_to_json_string(data));
    json_object_put(data);
}

int qmp_usb_init(struct qmp *q, struct board_usb *usb)
{
    int ret = qmp_add_commands(q, commands, usb);

    if (ret == 0) {
        board_usb_on_removed(usb, removed, q);
    }
    return ret;
}
