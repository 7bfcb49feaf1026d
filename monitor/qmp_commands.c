/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands that need nothing but struct qmp_env, and the few human ones behind
 * human-monitor-command. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "core/optlist.h"
#include "monitor/qmp_priv.h"

#ifndef HVM_DM_VERSION
#define HVM_DM_VERSION "0.1.0"
#endif

/* The QEMU release whose protocol this is; libxl chooses commands by it. */
enum { QMP_MAJOR = 7, QMP_MINOR = 2, QMP_MICRO = 0 };

static void put(struct json_object *to, const char *key, struct json_object *value)
{
    json_object_object_add(to, key, value);
}

static void put_number(struct json_object *to, const char *key, uint64_t value)
{
    put(to, key, json_object_new_uint64(value));
}

struct json_object *qmp_version(void)
{
    struct json_object *version = json_object_new_object();
    struct json_object *qemu = json_object_new_object();

    put_number(qemu, "micro", QMP_MICRO);
    put_number(qemu, "minor", QMP_MINOR);
    put_number(qemu, "major", QMP_MAJOR);
    put(version, "qemu", qemu);
    put(version, "package", qmp_text("hvm-dm " HVM_DM_VERSION));
    return version;
}

static int query_version(struct qmp *q, void *opaque, struct json_object *args,
                         struct json_object **result, struct qmp_error *e)
{
    (void)q, (void)opaque, (void)args, (void)e;
    *result = qmp_version();
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int query_commands(struct qmp *q, void *opaque, struct json_object *args,
                          struct json_object **result, struct qmp_error *e)
{
    const char *names[256];
    size_t n = 0;

    (void)opaque, (void)args, (void)e;
    names[n++] = "qmp_capabilities";
    for (unsigned t = 0; t < q->table_count; t++) {
        for (const struct qmp_command *c = q->tables[t].commands;
             c->name && n < sizeof(names) / sizeof(names[0]); c++) {
            names[n++] = c->name;
        }
    }
    qsort(names, n, sizeof(names[0]), by_name);
    *result = json_object_new_array();
    for (size_t i = 0; i < n; i++) {
        struct json_object *item = json_object_new_object();

        put(item, "name", qmp_text(names[i]));
        json_object_array_add(*result, item);
    }
    return 0;
}

static int query_name(struct qmp *q, void *opaque, struct json_object *args,
                      struct json_object **result, struct qmp_error *e)
{
    (void)opaque, (void)args, (void)e;
    *result = json_object_new_object();
    if (q->env.name) {
        put(*result, "name", qmp_text(q->env.name));
    }
    return 0;
}

static const char *status(struct qmp *q)
{
    return q->env.status(q->env.opaque);
}

static bool is_running(struct qmp *q)
{
    return strcmp(status(q), "running") == 0;
}

static int query_status(struct qmp *q, void *opaque, struct json_object *args,
                        struct json_object **result, struct qmp_error *e)
{
    (void)opaque, (void)args, (void)e;
    *result = json_object_new_object();
    put(*result, "status", qmp_text(status(q)));
    put(*result, "singlestep", json_object_new_boolean(0));
    put(*result, "running", json_object_new_boolean(is_running(q)));
    return 0;
}

/* cont and stop; the event goes out before the reply, and only if something changed. */
static int change_state(struct qmp *q, int (*change)(void *, char *, size_t), const char *event,
                        struct qmp_error *e)
{
    bool before = is_running(q);

    e->desc[0] = '\0';
    if (change(q->env.opaque, e->desc, sizeof(e->desc)) < 0) {
        return -1;
    }
    if (before != is_running(q)) {
        qmp_event(q, event, NULL);
    }
    return 0;
}

static int cont(struct qmp *q, void *opaque, struct json_object *args, struct json_object **result,
                struct qmp_error *e)
{
    (void)opaque, (void)args, (void)result;
    return change_state(q, q->env.cont, "RESUME", e);
}

static int stop(struct qmp *q, void *opaque, struct json_object *args, struct json_object **result,
                struct qmp_error *e)
{
    (void)opaque, (void)args, (void)result;
    return change_state(q, q->env.stop, "STOP", e);
}

static int quit(struct qmp *q, void *opaque, struct json_object *args, struct json_object **result,
                struct qmp_error *e)
{
    (void)opaque, (void)args, (void)result, (void)e;
    q->quit_wanted = true;
    return 0;
}

/* Fills entry i of query-chardev: the server's own sockets first. */
static bool chardev_at(struct qmp *q, unsigned i, struct qmp_chardev *out, char *name,
                       size_t namelen)
{
    if (i < q->socket_count) {
        const struct qmp_socket *sock = &q->sockets[i];
        bool connected = sock->session.fd >= 0;

        snprintf(name, namelen, "%sunix:%s,server=on",
                 connected ? "" : "disconnected:", sock->path ? sock->path : "");
        *out = (struct qmp_chardev){.label = sock->id, .filename = name, .frontend_open = true};
        return true;
    }
    return q->env.chardev(q->env.opaque, i - q->socket_count, out);
}

static int query_chardev(struct qmp *q, void *opaque, struct json_object *args,
                         struct json_object **result, struct qmp_error *e)
{
    struct qmp_chardev c;
    char name[256];

    (void)opaque, (void)args, (void)e;
    *result = json_object_new_array();
    for (unsigned i = 0; chardev_at(q, i, &c, name, sizeof(name)); i++) {
        struct json_object *item = json_object_new_object();

        put(item, "label", qmp_text(c.label));
        put(item, "filename", qmp_text(c.filename));
        put(item, "frontend-open", json_object_new_boolean(c.frontend_open));
        json_object_array_add(*result, item);
    }
    return 0;
}

static int query_vnc(struct qmp *q, void *opaque, struct json_object *args,
                     struct json_object **result, struct qmp_error *e)
{
    struct qmp_vnc v = {0};

    (void)opaque, (void)args, (void)e;
    q->env.vnc_info(q->env.opaque, &v);
    *result = json_object_new_object();
    put(*result, "enabled", json_object_new_boolean(v.enabled));
    if (v.enabled) {
        put(*result, "host", qmp_text(v.host));
        put(*result, "service", qmp_text(v.service));
        put(*result, "family", qmp_text(v.family));
        put(*result, "auth", qmp_text(v.auth));
    }
    return 0;
}

static int set_password(struct qmp *q, const char *password, struct qmp_error *e)
{
    e->desc[0] = '\0';
    return q->env.vnc_set_password(q->env.opaque, password, e->desc, sizeof(e->desc)) < 0 ? -1 : 0;
}

static int change_vnc_password(struct qmp *q, void *opaque, struct json_object *args,
                               struct json_object **result, struct qmp_error *e)
{
    (void)opaque, (void)result;
    return set_password(q, qmp_arg_string(args, "password", ""), e);
}

static int set_protocol_password(struct qmp *q, void *opaque, struct json_object *args,
                                 struct json_object **result, struct qmp_error *e)
{
    const char *connected = qmp_arg_string(args, "connected", "keep");

    (void)opaque, (void)result;
    if (strcmp(qmp_arg_string(args, "protocol", ""), "vnc") != 0) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "Parameter 'protocol' must be 'vnc'");
    }
    if (strcmp(connected, "keep") != 0) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "Parameter 'connected' must be 'keep' for VNC");
    }
    return set_password(q, qmp_arg_string(args, "password", ""), e);
}

static int query_block(struct qmp *q, void *opaque, struct json_object *args,
                       struct json_object **result, struct qmp_error *e)
{
    struct qmp_block b = {0};

    (void)opaque, (void)args, (void)e;
    *result = json_object_new_array();
    for (unsigned i = 0; q->env.block(q->env.opaque, i, &b); i++) {
        struct json_object *item = json_object_new_object();

        put(item, "device", qmp_text(b.device));
        put(item, "qdev", qmp_text(b.qdev));
        put(item, "type", qmp_text("unknown"));
        put(item, "removable", json_object_new_boolean(b.removable));
        put(item, "locked", json_object_new_boolean(b.locked));
        if (b.removable) {
            put(item, "tray_open", json_object_new_boolean(b.tray_open));
        }
        if (b.inserted) {
            struct json_object *inserted = json_object_new_object();
            struct json_object *image = json_object_new_object();

            put(image, "filename", qmp_text(b.path));
            put(image, "format", qmp_text(b.format));
            put_number(image, "virtual-size", b.size_bytes);
            put(inserted, "file", qmp_text(b.path));
            put(inserted, "drv", qmp_text(b.format));
            put(inserted, "ro", json_object_new_boolean(b.readonly));
            put(inserted, "encrypted", json_object_new_boolean(0));
            put(inserted, "image", image);
            put(item, "inserted", inserted);
        }
        json_object_array_add(*result, item);
        b = (struct qmp_block){0};
    }
    return 0;
}

static int query_blockstats(struct qmp *q, void *opaque, struct json_object *args,
                            struct json_object **result, struct qmp_error *e)
{
    static const struct block_stats none;
    struct qmp_block b = {0};

    (void)opaque, (void)args, (void)e;
    *result = json_object_new_array();
    for (unsigned i = 0; q->env.block(q->env.opaque, i, &b); i++) {
        struct json_object *item = json_object_new_object();
        struct json_object *stats = json_object_new_object();
        const struct block_stats *s = b.stats ? b.stats : &none;

        put_number(stats, "rd_bytes", s->rd_bytes);
        put_number(stats, "wr_bytes", s->wr_bytes);
        put_number(stats, "rd_operations", s->rd_operations);
        put_number(stats, "wr_operations", s->wr_operations);
        put_number(stats, "flush_operations", s->flush_operations);
        put(item, "device", qmp_text(b.device));
        put(item, "qdev", qmp_text(b.qdev));
        put(item, "stats", stats);
        json_object_array_add(*result, item);
        b = (struct qmp_block){0};
    }
    return 0;
}

/* Where CPU i sits: one core per socket, as libxl's device_add of a CPU names it. */
static struct json_object *cpu_props(unsigned i)
{
    struct json_object *props = json_object_new_object();

    put_number(props, "socket-id", i);
    put_number(props, "core-id", 0);
    put_number(props, "thread-id", 0);
    return props;
}

static struct json_object *cpu_path(unsigned i)
{
    char path[64];

    snprintf(path, sizeof(path), "/machine/cpu[%u]", i);
    return qmp_text(path);
}

static int query_cpus_fast(struct qmp *q, void *opaque, struct json_object *args,
                           struct json_object **result, struct qmp_error *e)
{
    (void)opaque, (void)args, (void)e;
    *result = json_object_new_array();
    for (unsigned i = 0; i < q->env.vcpus_online; i++) {
        struct json_object *item = json_object_new_object();

        put_number(item, "cpu-index", i);
        put(item, "qom-path", cpu_path(i));
        put_number(item, "thread-id", 0);
        put(item, "target", qmp_text("i386"));
        put(item, "props", cpu_props(i));
        json_object_array_add(*result, item);
    }
    return 0;
}

static int query_hotpluggable_cpus(struct qmp *q, void *opaque, struct json_object *args,
                                   struct json_object **result, struct qmp_error *e)
{
    (void)opaque, (void)args, (void)e;
    *result = json_object_new_array();
    for (unsigned i = 0; i < q->env.vcpus_max; i++) {
        struct json_object *item = json_object_new_object();

        put(item, "type", qmp_text("qemu32-i386-cpu"));
        put_number(item, "vcpus-count", 1);
        put(item, "props", cpu_props(i));
        if (i < q->env.vcpus_online) {
            put(item, "qom-path", cpu_path(i));
        }
        json_object_array_add(*result, item);
    }
    return 0;
}

/* ---- human-monitor-command ---- */

struct hmp_text {
    char *out;
    size_t len, size;
};

static void __attribute__((format(printf, 2, 3))) say(struct hmp_text *t, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(t->out + t->len, t->size - t->len, fmt, ap);
    va_end(ap);
    if (n > 0) {
        t->len = t->len + (size_t)n < t->size ? t->len + (size_t)n : t->size - 1;
    }
}

static void hmp_version(struct qmp *q, struct hmp_text *t)
{
    (void)q;
    say(t, "%d.%d.%d (hvm-dm " HVM_DM_VERSION ")\r\n", QMP_MAJOR, QMP_MINOR, QMP_MICRO);
}

static void hmp_status(struct qmp *q, struct hmp_text *t)
{
    const char *s = status(q);
    bool running = is_running(q);
    bool plain = running || strcmp(s, "paused") == 0;

    say(t, "VM status: %s%s%s%s\r\n", running ? "running" : "paused", plain ? "" : " (",
        plain ? "" : s, plain ? "" : ")");
}

static void hmp_name(struct qmp *q, struct hmp_text *t)
{
    if (q->env.name) {
        say(t, "%s\r\n", q->env.name);
    }
}

static void hmp_chardev(struct qmp *q, struct hmp_text *t)
{
    struct qmp_chardev c;
    char name[256];

    for (unsigned i = 0; chardev_at(q, i, &c, name, sizeof(name)); i++) {
        say(t, "%s: filename=%s\r\n", c.label, c.filename);
    }
}

static void hmp_vnc(struct qmp *q, struct hmp_text *t)
{
    struct qmp_vnc v = {0};

    q->env.vnc_info(q->env.opaque, &v);
    if (!v.enabled) {
        say(t, "None\r\n");
        return;
    }
    say(t, "Server: %s:%s (%s)\r\n  Auth: %s\r\n  Clients: %u\r\n", v.host, v.service, v.family,
        v.auth, v.clients);
}

static void hmp_block(struct qmp *q, struct hmp_text *t)
{
    struct qmp_block b = {0};

    for (unsigned i = 0; q->env.block(q->env.opaque, i, &b); i++) {
        if (b.inserted) {
            say(t, "%s: %s (%s%s)\r\n", b.device, b.path, b.format,
                b.readonly ? ", read-only" : "");
        } else {
            say(t, "%s: [not inserted]\r\n", b.device);
        }
        b = (struct qmp_block){0};
    }
}

/* The text that a QMP command x-query-... gives. */
static void hmp_query(struct qmp *q, const char *name, struct hmp_text *t)
{
    struct qmp_error e = {.class = QMP_GENERIC_ERROR};
    struct json_object *args = json_object_new_object();
    struct json_object *result = NULL;
    struct json_object *text = NULL;

    if (qmp_call(q, name, args, &result, &e) < 0) {
        say(t, "Error: %s\r\n", e.desc);
    } else if (json_object_object_get_ex(result, "human-readable-text", &text)) {
        for (const char *c = json_object_get_string(text); *c; c++) {
            say(t, "%s%c", *c == '\n' ? "\r" : "", *c);
        }
    }
    json_object_put(result);
    json_object_put(args);
}

static void hmp_usb(struct qmp *q, struct hmp_text *t)
{
    hmp_query(q, "x-query-usb", t);
}

/* The lines with arguments are other spellings of QMP commands. */
static void hmp_call(struct qmp *q, const char *name, struct json_object *args, struct hmp_text *t)
{
    struct qmp_error e = {.class = QMP_GENERIC_ERROR};

    if (qmp_call(q, name, args, NULL, &e) < 0) {
        say(t, "Error: %s\r\n", e.desc);
    }
    json_object_put(args);
}

static void hmp_eject(struct qmp *q, char **words, unsigned n, struct hmp_text *t)
{
    bool force = n > 0 && strcmp(words[0], "-f") == 0;
    struct json_object *args;

    if (n != (force ? 2u : 1u)) {
        say(t, "eject [-f] DEVICE\r\n");
        return;
    }
    args = json_object_new_object();
    put(args, "device", qmp_text(words[n - 1]));
    put(args, "force", json_object_new_boolean(force));
    hmp_call(q, "eject", args, t);
}

static void hmp_change(struct qmp *q, char **words, unsigned n, struct hmp_text *t)
{
    struct json_object *args = json_object_new_object();

    if (n == 3 && strcmp(words[0], "vnc") == 0 && strcmp(words[1], "password") == 0) {
        put(args, "password", qmp_text(words[2]));
        hmp_call(q, "change-vnc-password", args, t);
        return;
    }
    bool force = n > 0 && strcmp(words[0], "-f") == 0;
    static const char *const names[] = {"device", "filename", "format", "read-only-mode"};
    words += force, n -= force;
    if (n < 2 || n > 4) {
        json_object_put(args);
        say(t, "change [-f] DEVICE FILE [FORMAT [MODE]] | change vnc password PASSWORD\r\n");
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        put(args, names[i], qmp_text(words[i]));
    }
    put(args, "force", json_object_new_boolean(force));
    hmp_call(q, "blockdev-change-medium", args, t);
}

/* device_add DRIVER,KEY=VALUE,... */
static void hmp_device_add(struct qmp *q, char **words, unsigned n, struct hmp_text *t)
{
    struct options_arena *arena = NULL;
    struct optlist l;
    char err[256];

    if (n != 1) {
        say(t, "device_add DRIVER[,KEY=VALUE...]\r\n");
        return;
    }
    if (optlist_split(&l, &arena, "device_add", "driver", words[0], err, sizeof(err)) < 0) {
        say(t, "Error: %s\r\n", err);
    } else {
        struct json_object *args = json_object_new_object();

        for (unsigned i = 0; i < l.count; i++) {
            put(args, l.entries[i].key, qmp_text(l.entries[i].value ? l.entries[i].value : "on"));
        }
        hmp_call(q, "device_add", args, t);
    }
    arena_free(&arena);
}

static void hmp_device_del(struct qmp *q, char **words, unsigned n, struct hmp_text *t)
{
    struct json_object *args;

    if (n != 1) {
        say(t, "device_del ID\r\n");
        return;
    }
    args = json_object_new_object();
    put(args, "id", qmp_text(words[0]));
    hmp_call(q, "device_del", args, t);
}

static const struct {
    const char *name;
    void (*fn)(struct qmp *q, char **words, unsigned n, struct hmp_text *t);
} hmp_calls[] = {{"eject", hmp_eject},
                 {"change", hmp_change},
                 {"device_add", hmp_device_add},
                 {"device_del", hmp_device_del}};

/* Cuts a line into words, in place; a word in double quotes may hold blanks. */
static unsigned split(char *line, char **words, unsigned max)
{
    unsigned n = 0;

    for (char *p = line; n < max;) {
        p += strspn(p, " \t");
        if (*p == '\0') {
            break;
        }
        const char *ends = *p == '"' ? "\"" : " \t";
        words[n++] = *p == '"' ? ++p : p;
        p += strcspn(p, ends);
        if (*p != '\0') {
            *p++ = '\0';
        }
    }
    return n;
}

static const struct {
    const char *line;
    void (*fn)(struct qmp *q, struct hmp_text *t);
} hmp_commands[] = {
    {"info version", hmp_version}, {"info status", hmp_status}, {"info name", hmp_name},
    {"info chardev", hmp_chardev}, {"info vnc", hmp_vnc},       {"info block", hmp_block},
    {"info usb", hmp_usb},
};

void qmp_hmp(struct qmp *q, const char *line, char *out, size_t outlen)
{
    struct hmp_text t = {.out = out, .size = outlen};

    out[0] = '\0';
    for (size_t i = 0; i < sizeof(hmp_commands) / sizeof(hmp_commands[0]); i++) {
        if (strcmp(line, hmp_commands[i].line) == 0) {
            hmp_commands[i].fn(q, &t);
            return;
        }
    }
    char *words[8], copy[4096];
    snprintf(copy, sizeof(copy), "%s", line);
    unsigned n = split(copy, words, sizeof(words) / sizeof(words[0]));
    for (size_t i = 0; n > 0 && i < sizeof(hmp_calls) / sizeof(hmp_calls[0]); i++) {
        if (strcmp(words[0], hmp_calls[i].name) == 0) {
            hmp_calls[i].fn(q, words + 1, n - 1, &t);
            return;
        }
    }
    say(&t, "unknown command: '%.200s'\r\n", line);
}

static int human_monitor_command(struct qmp *q, void *opaque, struct json_object *args,
                                 struct json_object **result, struct qmp_error *e)
{
    char out[8192];

    (void)opaque, (void)e;
    qmp_hmp(q, qmp_arg_string(args, "command-line", ""), out, sizeof(out));
    *result = qmp_text(out);
    return 0;
}

const struct qmp_command qmp_standard_commands[] = {
    {"query-version", "", query_version},
    {"query-commands", "", query_commands},
    {"query-name", "", query_name},
    {"query-status", "", query_status},
    {"cont", "", cont},
    {"stop", "", stop},
    {"quit", "", quit},
    {"query-chardev", "", query_chardev},
    {"query-vnc", "", query_vnc},
    {"change-vnc-password", "password:s", change_vnc_password},
    {"set_password", "protocol:s,password:s,connected:s?", set_protocol_password},
    {"query-block", "", query_block},
    {"query-blockstats", "query-nodes:b?", query_blockstats},
    {"query-cpus-fast", "", query_cpus_fast},
    {"query-hotpluggable-cpus", "", query_hotpluggable_cpus},
    {"human-monitor-command", "command-line:s,cpu-index:i?", human_monitor_command},
    {NULL, NULL, NULL},
};
