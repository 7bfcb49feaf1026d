/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The network on the command line: -netdev, -net, -nic, and the back ends of NICs. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/options_parse.h"

static struct parsed_netdev *new_netdev(struct parser *p)
{
    if (p->netdev_count == OPTIONS_MAX_NICS) {
        options_bad(p, "more than %d network back ends", OPTIONS_MAX_NICS);
        return NULL;
    }
    p->netdevs[p->netdev_count] = (struct parsed_netdev){.fd = -1};
    return &p->netdevs[p->netdev_count++];
}

#define KEY(name) offsetof(struct parsed_netdev, name)
/* For struct parsed_netdev, which is the first member of struct net_keys. */
static const struct optkey tap_keys[] = {
    {"ifname", OPTKEY_STRING, KEY(ifname), 0, 0, NULL},
    {"fd", OPTKEY_INT, KEY(fd), 0, INT32_MAX, NULL},
    {"br", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"script", OPTKEY_ONLY, 0, 0, 0, "no"},
    {"downscript", OPTKEY_ONLY, 0, 0, 0, "no"},
    {"vhost", OPTKEY_ONLY, 0, 0, 0, "off"},
    {"queues", OPTKEY_ONLY, 0, 0, 0, "1"},
    {0},
};

/* IFNAMSIZ is 16 with the NUL; the kernel refuses blanks, '/' and ':' ('%' would make it choose a
 * number). */
static int check_tap(struct parser *p, const struct parsed_netdev *n)
{
    if (n->ifname && n->fd >= 0) {
        return options_bad(p, "ifname= together with fd=; use one of them");
    }
    if (!n->ifname && n->fd < 0) {
        return options_bad(p, "a tap needs ifname=NAME (or fd=)");
    }
    for (const char *c = n->ifname; c && *c; c++) {
        if (*c == '/' || *c == ':' || *c == '%' || !isgraph((unsigned char)*c)) {
            return options_bad(p, "'%.40s' is not an interface name", n->ifname);
        }
    }
    if (n->ifname && strlen(n->ifname) > 15) {
        return options_bad(p, "interface name '%.40s' is longer than 15 characters", n->ifname);
    }
    return 0;
}

int options_add_netdev(struct parser *p, const char *text)
{
    static const struct optkey keys[] = {
        {"type", OPTKEY_STRING, KEY(type), 0, 0, "tap"},
        {"id", OPTKEY_STRING, KEY(id), 0, 0, NULL},
        {0},
    };
    struct parsed_netdev *n = new_netdev(p);
    struct optlist l;
    const char *type;

    if (!n || optlist_split(&l, &p->o->arena, "-netdev", "type", text, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    type = optlist_get(&l, "type");
    if (!type || strcmp(type, "tap") != 0) {
        return options_bad(p, "type '%.40s' is not supported; use tap", type ? type : "");
    }
    if (optlist_read(&l, keys, tap_keys, n, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (!n->id) {
        return options_bad(p, "id= is missing in '%.60s'", text);
    }
    for (struct parsed_netdev *other = p->netdevs; other < n; other++) {
        if (strcmp(other->id, n->id) == 0) {
            return options_bad(p, "id '%.60s' is used twice", n->id);
        }
    }
    return check_tap(p, n);
}

/* What -net and -nic say; tap comes first, see tap_keys. */
struct net_keys {
    struct parsed_netdev tap;
    const char *model, *mac;
};

static int add_legacy_nic(struct parser *p, const struct net_keys *k, const char *netdev)
{
    const char *model = !k->model || strcmp(k->model, "virtio") == 0
                            ? (k->model ? "virtio-net-pci" : "rtl8139")
                            : k->model;
    const struct device_kind *kind = options_find_kind(model);
    struct parsed_device *d;

    if (!kind || kind->class != CLASS_NIC) {
        return options_bad(p, "unknown NIC model '%.40s'", model);
    }
    d = options_implied_device(p, model);
    if (!d) {
        return -EINVAL;
    }
    d->mac = k->mac;
    d->netdev = netdev;
    d->legacy_nic = true;
    return 0;
}

#undef KEY
#define KEY(name)     offsetof(struct net_keys, tap.name)
#define NIC_KEY(name) offsetof(struct net_keys, name)

/* "-net none", "-net nic,model=,macaddr=", "-net tap,ifname=": the n-th tap belongs to the n-th
 * nic. */
int options_add_net(struct parser *p, const char *text)
{
    static const struct optkey nic[] = {
        {"type", OPTKEY_STRING, KEY(type), 0, 0, NULL},
        {"model", OPTKEY_STRING, NIC_KEY(model), 0, 0, NULL},
        {"macaddr", OPTKEY_STRING, NIC_KEY(mac), 0, 0, NULL},
        {"netdev", OPTKEY_STRING, KEY(id), 0, 0, NULL},
        {0},
    };
    static const struct optkey tap[] = {{"type", OPTKEY_STRING, KEY(type), 0, 0, NULL}, {0}};
    struct net_keys k = {.tap = {.fd = -1}};
    struct parsed_netdev *n;
    struct optlist l;
    const char *type;

    if (optlist_split(&l, &p->o->arena, "-net", "type", text, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    type = optlist_get(&l, "type");
    if (type && strcmp(type, "none") == 0 && l.count == 1) {
        p->o->net_none = true;
        return 0;
    }
    if (type && strcmp(type, "nic") == 0) {
        const char *hub = arena_printf(&p->o->arena, "hub0.%u", p->legacy_nics++);

        return optlist_read(&l, nic, NULL, &k, p->err, p->errlen) < 0
                   ? -EINVAL
                   : add_legacy_nic(p, &k, k.tap.id ? k.tap.id : hub);
    }
    if (!type || strcmp(type, "tap") != 0) {
        return options_bad(p, "'%.60s' is not supported; use none, nic or tap", text);
    }
    if (optlist_read(&l, tap, tap_keys, &k, p->err, p->errlen) < 0 || check_tap(p, &k.tap) < 0) {
        return -EINVAL;
    }
    n = new_netdev(p);
    if (!n) {
        return -EINVAL;
    }
    *n = k.tap;
    n->id = arena_printf(&p->o->arena, "hub0.%u", p->legacy_taps++);
    return n->id ? 0 : options_bad(p, "out of memory");
}

int options_add_nic(struct parser *p, const char *text)
{
    static const struct optkey keys[] = {
        {"type", OPTKEY_STRING, KEY(type), 0, 0, "tap"},
        {"id", OPTKEY_STRING, KEY(id), 0, 0, NULL},
        {"model", OPTKEY_STRING, NIC_KEY(model), 0, 0, NULL},
        {"mac", OPTKEY_STRING, NIC_KEY(mac), 0, 0, NULL},
        {0},
    };
    struct net_keys k = {.tap = {.fd = -1}};
    struct parsed_netdev *n;
    struct optlist l;

    if (strcmp(text, "none") == 0) {
        p->o->net_none = true;
        return 0;
    }
    if (optlist_split(&l, &p->o->arena, "-nic", "type", text, p->err, p->errlen) < 0 ||
        optlist_read(&l, keys, tap_keys, &k, p->err, p->errlen) < 0 || check_tap(p, &k.tap) < 0) {
        return -EINVAL;
    }
    n = new_netdev(p);
    if (!n) {
        return -EINVAL;
    }
    *n = k.tap;
    if (!n->id) {
        n->id = arena_printf(&p->o->arena, "nic%u", p->netdev_count - 1);
    }
    return n->id ? add_legacy_nic(p, &k, n->id) : options_bad(p, "out of memory");
}

int options_add_object(struct parser *p, const char *text)
{
    static const struct optkey keys[] = {
        {"qom-type", OPTKEY_ONLY, 0, 0, 0, "filter-dump"},
        {"id", OPTKEY_STRING, offsetof(struct parsed_dump, id), 0, 0, NULL},
        {"netdev", OPTKEY_STRING, offsetof(struct parsed_dump, netdev), 0, 0, NULL},
        {"file", OPTKEY_STRING, offsetof(struct parsed_dump, file), 0, 0, NULL},
        {"maxlen", OPTKEY_IGNORE, 0, 0, 0, NULL}, /* whole frames are written */
        {0},
    };
    struct parsed_dump d = {0};
    struct optlist l;

    if (p->dump_count == OPTIONS_MAX_NICS) {
        return options_bad(p, "more than %d captures", OPTIONS_MAX_NICS);
    }
    if (optlist_split(&l, &p->o->arena, "-object", "qom-type", text, p->err, p->errlen) < 0 ||
        optlist_read(&l, keys, NULL, &d, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (!optlist_get(&l, "qom-type") || !d.id || !d.netdev || !d.file) {
        return options_bad(p, "'%.60s' is not supported; use filter-dump,id=ID,netdev=ID,file=PATH",
                           text);
    }
    p->dumps[p->dump_count++] = d;
    return 0;
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
    if (strlen(text) != 17) {
        return false;
    }
    for (unsigned i = 0; i < 17; i++) {
        bool separator = i % 3 == 2;

        if (separator ? text[i] != ':' && text[i] != '-' : !isxdigit((unsigned char)text[i])) {
            return false;
        }
    }
    for (unsigned i = 0; i < 6; i++) {
        unsigned byte;

        if (sscanf(text + (size_t)3 * i, "%2x", &byte) != 1) {
            return false;
        }
        mac[i] = (uint8_t)byte;
    }
    return true;
}

int options_resolve_nic(struct parser *p, const struct parsed_device *d)
{
    struct options *o = p->o;
    struct option_nic *nic;

    if (o->nic_count == OPTIONS_MAX_NICS) {
        return options_bad(p, "more than %d NICs", OPTIONS_MAX_NICS);
    }
    nic = &o->nics[o->nic_count];
    *nic = (struct option_nic){
        .model = d->driver, .id = d->id, .tap_fd = -1, .romfile = d->romfile, .devfn = d->devfn};
    memcpy(nic->mac, "\x52\x54\x00\x12\x34", 5);
    nic->mac[5] = (uint8_t)(0x56 + o->nic_count);
    if (d->mac && !parse_mac(d->mac, nic->mac)) {
        return options_bad(p, "bad MAC address '%.40s'; it must be like 00:16:3e:12:34:56", d->mac);
    }
    for (unsigned i = 0; d->netdev && i < p->netdev_count; i++) {
        struct parsed_netdev *n = &p->netdevs[i];

        if (strcmp(n->id, d->netdev) != 0) {
            continue;
        }
        if (n->used) {
            return options_bad(p, "netdev '%.60s' is used by two NICs", n->id);
        }
        n->used = true;
        nic->netdev = n->id;
        nic->ifname = n->ifname;
        nic->tap_fd = (int)n->fd;
    }
    if (d->netdev && !nic->netdev && strncmp(d->netdev, "hub0.", 5) != 0) {
        return options_bad(p,
                           "%s: netdev '%.60s' does not exist; add -netdev tap,id=%.60s,ifname=...",
                           d->driver, d->netdev, d->netdev);
    }
    o->nic_count++;
    return 0;
}

int options_resolve_netdevs(struct parser *p)
{
    for (unsigned i = 0; i < p->netdev_count; i++) {
        p->option = "-netdev";
        if (!p->netdevs[i].used && p->o->other_count == 0) {
            return options_bad(p, "'%.60s' is not used by a NIC; add -device MODEL,netdev=%.60s",
                               p->netdevs[i].id, p->netdevs[i].id);
        }
    }
    for (unsigned i = 0; i < p->dump_count; i++) {
        struct option_nic *nic = p->o->nics;
        struct option_nic *end = nic + p->o->nic_count;

        while (nic < end && (!nic->netdev || strcmp(nic->netdev, p->dumps[i].netdev) != 0)) {
            nic++;
        }
        p->option = "-object";
        if (nic == end) {
            return options_bad(p, "netdev '%.60s' does not exist", p->dumps[i].netdev);
        }
        if (nic->dump_path) {
            return options_bad(p, "netdev '%.60s' has two captures", nic->netdev);
        }
        nic->dump_path = p->dumps[i].file;
    }
    return 0;
}
