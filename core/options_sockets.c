/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the command line that is about talking to the outside: -chardev, -mon, -qmp, -serial,
 * -vnc. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "core/options_parse.h"

struct chardev_keys {
    const char *backend, *id, *path, *host, *name;
    int64_t port, fd;
    bool server, wait, wait_unused, append;
};
#define KEY(name) offsetof(struct chardev_keys, name)

static const struct optkey chardev_common[] = {
    {"backend", OPTKEY_STRING, KEY(backend), 0, 0, NULL},
    {"id", OPTKEY_STRING, KEY(id), 0, 0, NULL},
    {0},
};

static const struct optkey socket_keys[] = {
    {"path", OPTKEY_STRING, KEY(path), 0, 0, NULL},
    {"host", OPTKEY_TEXT, KEY(host), 0, 0, NULL},
    {"port", OPTKEY_INT, KEY(port), 1, 65535, NULL},
    {"fd", OPTKEY_INT, KEY(fd), 0, INT32_MAX, NULL},
    {"server", OPTKEY_BOOL, KEY(server), 0, 0, NULL},
    {"wait", OPTKEY_BOOL, KEY(wait), 0, 0, NULL},
    {"telnet", OPTKEY_ONLY, 0, 0, 0, "off"},
    {"nodelay", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"delay", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {0},
};
static const struct optkey file_keys[] = {
    {"path", OPTKEY_STRING, KEY(path), 0, 0, NULL},
    {"append", OPTKEY_BOOL, KEY(append), 0, 0, NULL},
    {0},
};
static const struct optkey stdio_keys[] = {{"signal", OPTKEY_ONLY, 0, 0, 0, "on|off"}, {0}};
static const struct optkey spicevmc_keys[] = {{"name", OPTKEY_STRING, KEY(name), 0, 0, NULL}, {0}};

static const struct {
    const char *name;
    enum option_chardev_kind kind;
    const struct optkey *keys;
} chardev_kinds[] = {
    {"socket", OPTION_CHARDEV_SOCKET, socket_keys},
    {"pty", OPTION_CHARDEV_PTY, NULL},
    {"file", OPTION_CHARDEV_FILE, file_keys},
    {"null", OPTION_CHARDEV_NULL, NULL},
    {"stdio", OPTION_CHARDEV_STDIO, stdio_keys},
    {"spicevmc", OPTION_CHARDEV_SPICEVMC, spicevmc_keys},
};

struct option_chardev *options_find_chardev(struct parser *p, const char *id)
{
    for (unsigned i = 0; i < p->o->chardev_count; i++) {
        if (strcmp(p->o->chardevs[i].id, id) == 0) {
            return &p->o->chardevs[i];
        }
    }
    return NULL;
}

static int check_socket_path(struct parser *p, const char *path)
{
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return options_bad(p, "socket path '%.40s...' is %zu bytes long; the system's limit is %zu",
                           path, strlen(path), sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    }
    return 0;
}

static int check_socket(struct parser *p, const struct chardev_keys *k)
{
    if (!!k->path + (k->port >= 0) + (k->fd >= 0) != 1) {
        return options_bad(
            p, "socket '%s' needs exactly one of path=, host= with port=, and fd=", k->id);
    }
    if (k->host && k->port < 0) {
        return options_bad(p, "socket '%s' has host= without port=", k->id);
    }
    return k->path ? check_socket_path(p, k->path) : 0;
}

int options_add_chardev(struct parser *p, const char *text)
{
    struct options *o = p->o;
    struct optlist l;
    struct chardev_keys k = {.port = -1, .fd = -1, .wait = true};
    const struct optkey *keys = NULL;
    enum option_chardev_kind kind = OPTION_CHARDEV_NULL;
    const char *name;
    bool known = false;

    if (optlist_split(&l, &o->arena, "-chardev", "backend", text, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    name = optlist_get(&l, "backend");
    for (size_t i = 0; name && i < sizeof(chardev_kinds) / sizeof(chardev_kinds[0]); i++) {
        if (strcmp(chardev_kinds[i].name, name) == 0) {
            kind = chardev_kinds[i].kind;
            keys = chardev_kinds[i].keys;
            known = true;
        }
    }
    if (!known) {
        return options_bad(p, "unknown kind '%.40s'; use socket, pty, file, null or stdio",
                           name ? name : text);
    }
    if (optlist_read(&l, chardev_common, keys, &k, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (!k.id) {
        return options_bad(p, "id= is missing in '%.60s'", text);
    }
    if (options_find_chardev(p, k.id)) {
        return options_bad(p, "id '%.60s' is used twice", k.id);
    }
    if (kind == OPTION_CHARDEV_SOCKET && check_socket(p, &k) < 0) {
        return -EINVAL;
    }
    if (kind == OPTION_CHARDEV_FILE && !k.path) {
        return options_bad(p, "path= is missing in '%.60s'", text);
    }
    if (o->chardev_count == OPTIONS_MAX_CHARDEVS) {
        return options_bad(p, "more than %d character devices", OPTIONS_MAX_CHARDEVS);
    }
    o->chardevs[o->chardev_count++] = (struct option_chardev){
        .id = k.id,
        .kind = kind,
        .path = k.path,
        .host = k.port >= 0 ? (k.host ? k.host : "") : NULL,
        .port = k.port >= 0 ? (uint16_t)k.port : 0,
        .fd = (int)k.fd,
        .server = k.server,
        .wait = k.server && k.wait,
        .append = k.append,
    };
    return 0;
}

/* ---- monitors ---- */

static int add_monitor(struct parser *p, const char *chardev)
{
    if (p->monitor_count == OPTIONS_MAX_QMP) {
        return options_bad(p, "more than %d monitors", OPTIONS_MAX_QMP);
    }
    p->monitors[p->monitor_count++].chardev = chardev;
    return 0;
}

int options_add_mon(struct parser *p, const char *text)
{
    struct mon_keys {
        const char *chardev, *mode;
    } k = {0};
    static const struct optkey keys[] = {
        {"chardev", OPTKEY_STRING, offsetof(struct mon_keys, chardev), 0, 0, NULL},
        {"mode", OPTKEY_STRING, offsetof(struct mon_keys, mode), 0, 0, "control|readline"},
        {"pretty", OPTKEY_ONLY, 0, 0, 0, "off"},
        {0},
    };
    struct optlist l;

    if (optlist_split(&l, &p->o->arena, "-mon", "chardev", text, p->err, p->errlen) < 0 ||
        optlist_read(&l, keys, NULL, &k, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (!k.chardev) {
        return options_bad(p, "chardev= is missing in '%.60s'", text);
    }
    if (!k.mode || strcmp(k.mode, "control") != 0) {
        return options_bad(p, "there is no human monitor; add mode=control for QMP to '%.60s'",
                           text);
    }
    return add_monitor(p, k.chardev);
}

int options_add_qmp(struct parser *p, const char *text)
{
    struct options *o = p->o;
    struct qmp_keys {
        const char *path;
        bool server, wait;
    } k = {.wait = true};
    static const struct optkey keys[] = {
        {"path", OPTKEY_STRING, offsetof(struct qmp_keys, path), 0, 0, NULL},
        {"server", OPTKEY_BOOL, offsetof(struct qmp_keys, server), 0, 0, NULL},
        {"wait", OPTKEY_BOOL, offsetof(struct qmp_keys, wait), 0, 0, NULL},
        {0},
    };
    struct optlist l;
    char *id;

    if (strncmp(text, "unix:", 5) != 0) {
        return options_bad(p, "'%.60s' is not supported; use unix:PATH,server=on,wait=off", text);
    }
    if (optlist_split(&l, &o->arena, "-qmp", "path", text + 5, p->err, p->errlen) < 0 ||
        optlist_read(&l, keys, NULL, &k, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (!k.path) {
        return options_bad(p, "no path in '%.60s'", text);
    }
    if (check_socket_path(p, k.path) < 0) {
        return -EINVAL;
    }
    if (o->chardev_count == OPTIONS_MAX_CHARDEVS) {
        return options_bad(p, "more than %d character devices", OPTIONS_MAX_CHARDEVS);
    }
    id = arena_printf(&o->arena, "compat_monitor%u", p->monitor_count);
    if (!id) {
        return options_bad(p, "out of memory");
    }
    if (options_find_chardev(p, id)) {
        return options_bad(p, "id '%s' is used twice", id);
    }
    o->chardevs[o->chardev_count++] = (struct option_chardev){.id = id,
                                                              .kind = OPTION_CHARDEV_SOCKET,
                                                              .path = k.path,
                                                              .fd = -1,
                                                              .server = k.server,
                                                              .wait = k.server && k.wait};
    return add_monitor(p, id);
}

static int resolve_monitor(struct parser *p, const char *id)
{
    struct options *o = p->o;
    struct option_chardev *c = options_find_chardev(p, id);

    p->option = "-mon";
    if (!c) {
        return options_bad(
            p, "chardev '%.60s' does not exist; add -chardev socket,id=%.60s,path=...", id, id);
    }
    if (c->kind != OPTION_CHARDEV_SOCKET || c->host) {
        return options_bad(p, "chardev '%.60s' is not a unix socket; QMP needs one", id);
    }
    if (!c->server || c->wait) {
        return options_bad(p, "chardev '%.60s' needs server=on,wait=off", id);
    }
    if (c->used) {
        return options_bad(p, "chardev '%.60s' is used twice", id);
    }
    c->used = true;
    o->qmp[o->qmp_count++] = (struct option_qmp){.id = c->id, .path = c->path, .fd = c->fd};
    return 0;
}

/* ---- serial ports ---- */

/* The specs that core/chardev.h opens; it checks the rest of them. */
static const char *const serial_prefixes[] = {"pty",   "stdio", "null",  "none",
                                              "file:", "tcp:",  "unix:", "chardev:"};

int options_add_serial(struct parser *p, const char *text)
{
    bool known = false;

    for (size_t i = 0; i < sizeof(serial_prefixes) / sizeof(serial_prefixes[0]); i++) {
        const char *prefix = serial_prefixes[i];
        size_t n = strlen(prefix);

        known |= prefix[n - 1] == ':' ? strncmp(text, prefix, n) == 0 && text[n] != '\0'
                                      : strcmp(text, prefix) == 0;
    }
    if (!known) {
        return options_bad(
            p,
            "'%.60s' is not supported; use pty, file:PATH, tcp:HOST:PORT, unix:PATH, stdio or null",
            text);
    }
    if (p->serial_count == OPTIONS_MAX_SERIALS) {
        return options_bad(p, "a PC has %d serial ports", OPTIONS_MAX_SERIALS);
    }
    p->serial_specs[p->serial_count++] = text;
    return 0;
}

/* Writes a chardev as the spec that opens the same thing. */
static const char *chardev_spec(struct parser *p, const struct option_chardev *c)
{
    struct options_arena **arena = &p->o->arena;
    const char *server = c->server ? c->wait ? ",server=on" : ",server=on,wait=off" : "";

    switch (c->kind) {
    case OPTION_CHARDEV_PTY:
        return "pty";
    case OPTION_CHARDEV_NULL:
        return "null";
    case OPTION_CHARDEV_STDIO:
        return "stdio";
    case OPTION_CHARDEV_FILE:
        return c->append ? NULL : arena_printf(arena, "file:%s", c->path);
    case OPTION_CHARDEV_SOCKET:
        if (c->path) {
            return arena_printf(arena, "unix:%s%s", c->path, server);
        }
        return c->host ? arena_printf(arena, "tcp:%s:%u%s", c->host, c->port, server) : NULL;
    case OPTION_CHARDEV_SPICEVMC:
        return NULL;
    }
    return NULL;
}

static int resolve_serial(struct parser *p, unsigned port, const char *spec)
{
    struct option_chardev *c;

    if (strcmp(spec, "none") == 0) {
        return 0;
    }
    if (strncmp(spec, "chardev:", 8) != 0) {
        p->o->serials[port] = spec;
        return 0;
    }
    p->option = "-serial";
    c = options_find_chardev(p, spec + 8);
    if (!c) {
        return options_bad(p, "chardev '%.60s' does not exist; add -chardev ...,id=%.60s", spec + 8,
                           spec + 8);
    }
    if (c->used) {
        return options_bad(p, "chardev '%.60s' is used twice", c->id);
    }
    c->used = true;
    p->o->serials[port] = chardev_spec(p, c);
    if (!p->o->serials[port]) {
        return options_bad(p,
                           "chardev '%.60s' cannot be a serial port; use pty, file, socket with a "
                           "path or port, stdio or null",
                           c->id);
    }
    return 0;
}

int options_resolve_sockets(struct parser *p)
{
    for (unsigned i = 0; i < p->monitor_count; i++) {
        if (resolve_monitor(p, p->monitors[i].chardev) < 0) {
            return -EINVAL;
        }
    }
    for (unsigned i = 0; i < OPTIONS_MAX_SERIALS; i++) {
        if (p->serial_specs[i] && resolve_serial(p, i, p->serial_specs[i]) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- VNC ---- */

struct vnc_keys {
    const char *address, *share;
    int64_t to;
    bool password, ipv4, ipv6;
};
#undef KEY
#define KEY(name) offsetof(struct vnc_keys, name)

enum { VNC_BASE_PORT = 5900, VNC_MAX_DISPLAY = 65535 - VNC_BASE_PORT };

static const struct optkey vnc_keys[] = {
    {"vnc", OPTKEY_TEXT, KEY(address), 0, 0, NULL},
    {"to", OPTKEY_INT, KEY(to), 0, VNC_MAX_DISPLAY, NULL},
    {"password", OPTKEY_BOOL, KEY(password), 0, 0, NULL},
    {"share", OPTKEY_STRING, KEY(share), 0, 0, "allow-exclusive|force-shared|ignore"},
    {"ipv4", OPTKEY_BOOL, KEY(ipv4), 0, 0, NULL},
    {"ipv6", OPTKEY_BOOL, KEY(ipv6), 0, 0, NULL},
    {"lock-key-sync", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"key-delay-ms", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"lossy", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"non-adaptive", OPTKEY_IGNORE, 0, 0, 0, NULL},
    {"reverse", OPTKEY_ONLY, 0, 0, 0, "off"},
    {"sasl", OPTKEY_ONLY, 0, 0, 0, "off"},
    {"power-control", OPTKEY_ONLY, 0, 0, 0, "off"},
    {0},
};

/* "HOST:DISPLAY"; the last colon counts, so that "::1:0" and "[::1]:0" both work. */
static int parse_vnc_address(struct parser *p, struct option_vnc *vnc, const char *address)
{
    struct options *o = p->o;
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;
    uint64_t display;

    if (!colon) {
        return options_bad(
            p, "no display number in '%.60s'; write HOST:DISPLAY, for example 127.0.0.1:0",
            address);
    }
    if (!optnum_uint(colon + 1, 0, VNC_MAX_DISPLAY, &display)) {
        return options_bad(p, "bad display '%.40s' in '%.60s'; it must be a number from 0 to %d",
                           colon + 1, address, VNC_MAX_DISPLAY);
    }
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    vnc->host = arena_copy(&o->arena, address, len);
    vnc->display = (int)display;
    return vnc->host ? 0 : options_bad(p, "out of memory");
}

int options_add_vnc(struct parser *p, const char *text)
{
    struct option_vnc vnc = {.enabled = true, .text = text, .to = -1};
    struct vnc_keys k = {.to = -1};
    struct optlist l;

    if (optlist_split(&l, &p->o->arena, "-vnc", "vnc", text, p->err, p->errlen) < 0 ||
        optlist_read(&l, vnc_keys, NULL, &k, p->err, p->errlen) < 0) {
        return -EINVAL;
    }
    if (!k.address || k.address[0] == '\0') {
        return options_bad(p, "no address in '%.60s'; write HOST:DISPLAY, unix:PATH or none", text);
    }
    if (strcmp(k.address, "none") == 0) {
        p->o->vnc = (struct option_vnc){.to = -1, .text = text};
        return 0;
    }
    if (p->o->vnc.enabled) {
        return options_bad(p, "given twice ('%.40s' and '%.40s'); one server is supported",
                           p->o->vnc.text, text);
    }
    if (strncmp(k.address, "unix:", 5) == 0) {
        vnc.unix_path = k.address + 5;
        if (vnc.unix_path[0] == '\0') {
            return options_bad(p, "no path in '%.60s'", text);
        }
        if (k.to >= 0) {
            return options_bad(p, "to= has no meaning for a unix socket");
        }
        if (check_socket_path(p, vnc.unix_path) < 0) {
            return -EINVAL;
        }
    } else if (parse_vnc_address(p, &vnc, k.address) < 0) {
        return -EINVAL;
    }
    if (k.to >= 0 && k.to < vnc.display) {
        return options_bad(p, "to=%d is below display %d; it is the last display to try", (int)k.to,
                           vnc.display);
    }
    vnc.to = (int)k.to;
    vnc.password = k.password;
    vnc.ipv4 = k.ipv4;
    vnc.ipv6 = k.ipv6;
    vnc.exclusive_ok = !k.share || strcmp(k.share, "allow-exclusive") == 0;
    vnc.force_shared = k.share && strcmp(k.share, "force-shared") == 0;
    p->o->vnc = vnc;
    return 0;
}
