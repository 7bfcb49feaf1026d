/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The QMP server: QEMU's machine protocol as libxl, libxenstat and people with socat speak it. Any
 * number of listening sockets (up to QMP_MAX_SOCKETS), one client at a time on each, the others
 * wait in the backlog. Loop thread only.
 *
 * The server knows no devices. What it reports and does comes through struct qmp_env; commands of
 * other modules (media, save, hot-plug) are added as tables with qmp_add_commands(). A client is
 * not trusted with our memory: a request is at most QMP_MAX_REQUEST bytes, QMP_MAX_DEPTH levels and
 * QMP_MAX_VALUES values; one that is larger is answered by an error and the connection is closed. A
 * client that does not read is not read from, and is dropped after QMP_STALL_NS or when
 * QMP_MAX_OUTPUT bytes of events pile up.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct qmp;
struct json_object;
struct block_stats;

enum {
    QMP_MAX_SOCKETS = 4,
    QMP_MAX_REQUEST = 1 << 20, /* bytes */
    QMP_MAX_DEPTH = 64,
    QMP_MAX_VALUES = 16384,
    QMP_MAX_OUTPUT = 1 << 20, /* bytes not yet taken by the client */
    QMP_MAX_FDS = 64,         /* descriptors in all fd sets */
};
#define QMP_STALL_NS 30000000000ull

struct qmp_vnc {
    bool enabled;
    const char *host;    /* the address it listens on ("127.0.0.1"), or the path of a unix socket */
    const char *service; /* the actual port as text, "5900"; "" for a unix socket */
    const char *family;  /* "ipv4", "ipv6", "unix" */
    const char *auth;    /* "none", "vnc" */
    unsigned clients;    /* connected now */
};

struct qmp_chardev {
    const char *
        label; /* "serial0", "libxl-cmd"; the monitor adds its own sockets itself: do not list them */
    const char *filename; /* "pty:/dev/pts/3" */
    bool frontend_open;
};

struct qmp_block {
    const char *device; /* drive id, "ide-5632" */
    const char *qdev;   /* device id, may be the same */
    bool removable;     /* a CD drive: locked and tray_open are shown */
    bool locked;
    bool tray_open;
    bool inserted; /* the fields below are valid */
    const char *path;
    const char *format;
    bool readonly;
    uint64_t size_bytes;
    const struct block_stats *stats; /* NULL: all zero. Also without a medium */
};

/* What the server may ask and do. Callbacks run on the loop thread inside a command; err is filled
 * (without newline) when they fail. */
struct qmp_env {
    void *opaque;
    const char *name; /* of the guest, or NULL */
    unsigned vcpus_online, vcpus_max;
    /* "prelaunch", "running", "paused", ... */
    const char *(*status)(void *opaque);
    /* No-ops (0) when already in that state. 0 or -errno. */
    int (*cont)(void *opaque, char *err, size_t errlen);
    int (*stop)(void *opaque, char *err, size_t errlen);
    /* Ends the process soon; the reply has been sent. */
    void (*quit)(void *opaque);
    void (*vnc_info)(void *opaque, struct qmp_vnc *out);
    /* NULL or "" disables logins. 0 or -errno (no VNC, no password authentication asked for on the
     * command line). */
    int (*vnc_set_password)(void *opaque, const char *password, char *err, size_t errlen);
    /* Fills entry i; false when there is none. Strings need to live until the next call only. */
    bool (*chardev)(void *opaque, unsigned i, struct qmp_chardev *out);
    bool (*block)(void *opaque, unsigned i, struct qmp_block *out);
};

enum qmp_class {
    QMP_GENERIC_ERROR,
    QMP_COMMAND_NOT_FOUND,
    QMP_DEVICE_NOT_ACTIVE,
    QMP_DEVICE_NOT_FOUND
};

struct qmp_error {
    enum qmp_class class;
    char desc[256];
};

/* A command. args names what it takes, in the form "name:type,name:type?" with type s (string), i
 * (integer), b (boolean), v (any value), ? = optional; a trailing "*" lets any other argument
 * through. The server has checked args against that when fn is called. fn returns 0, with *result
 * the value to return (ownership passes; left NULL it is {}), or -1 with e filled. */
struct qmp_command {
    const char *name; /* NULL ends a table */
    const char *args; /* "" for none */
    int (*fn)(struct qmp *q, void *opaque, struct json_object *args, struct json_object **result,
              struct qmp_error *e);
};

/* Creates a server without sockets. env is copied; what it points to is borrowed. NULL: no memory.
 * */
struct qmp *qmp_create(struct loop *loop, const struct qmp_env *env);
/* Drops clients, closes and unlinks the sockets it made. NULL is fine. */
void qmp_destroy(struct qmp *q);

/* Adds a table (borrowed); its names must be new. opaque is given to fn. 0, or -ENOSPC after 8
 * tables. */
int qmp_add_commands(struct qmp *q, const struct qmp_command *table, void *opaque);

/* Listens on a unix socket at path (a stale socket there is replaced; other files are not),
 * reachable for our uid only, or on a bound and listening fd (taken over on success). id is the
 * name in query-chardev. 0, or -errno and a line in err naming the socket. */
int qmp_listen_path(struct qmp *q, const char *id, const char *path, char *err, size_t errlen);
int qmp_listen_fd(struct qmp *q, const char *id, int fd, char *err, size_t errlen);

/* Sends an event to every client that has negotiated. data_json: a JSON object as text, or NULL. */
void qmp_event(struct qmp *q, const char *name, const char *data_json);

/* Duplicates a descriptor of the fd set that path ("/dev/fdset/N") names, whose access mode suits
 * flags (O_RDONLY, O_WRONLY, O_RDWR). The caller owns the result. -errno: -EINVAL not such a path,
 * -ENOENT no such set, -EACCES no descriptor with that mode. */
int qmp_fdset_dup(struct qmp *q, const char *path, int flags);
/* The note (add-fd's "opaque") of the first descriptor of the set that path names, or NULL. */
const char *qmp_fdset_opaque(struct qmp *q, const char *path);

/* For command functions: fills e (class, printf text) and returns -1. */
int qmp_fail(struct qmp_error *e, enum qmp_class class, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A JSON string of text that may be anything (paths, names): NULL is "", bytes that are not UTF-8
 * become '?'. */
struct json_object *qmp_text(const char *text);
/* Arguments that have been checked: the value, or the given default when absent. */
const char *qmp_arg_string(struct json_object *args, const char *name, const char *absent);
int64_t qmp_arg_int(struct json_object *args, const char *name, int64_t absent);
bool qmp_arg_bool(struct json_object *args, const char *name, bool absent);
