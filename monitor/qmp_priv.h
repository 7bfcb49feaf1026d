/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Shared by the files of this folder only: the server's state. */
#include <json-c/json.h>
#include <sys/types.h>

#include "core/loop.h"
#include "monitor/qmp.h"

enum {
    QMP_MAX_TABLES = 8,
    QMP_PENDING_FDS = 16, /* received, not yet taken by add-fd */
};

/* Counts what one request may cost, and checks UTF-8, byte by byte over any fragmentation. */
struct qmp_scan {
    size_t bytes;
    unsigned values;
    bool in_string, escaped;
    uint8_t utf8_need, utf8_lo, utf8_hi; /* continuation bytes still to come, range of the next */
};

/* The client of a socket; fd < 0: none. */
struct qmp_session {
    int fd;
    struct watch watch;
    struct timer stall;
    struct json_tokener *tokener;
    struct qmp_scan scan;
    bool started;    /* the tokener is inside a value */
    bool recovering; /* after a syntax error: the rest of the line is thrown away */
    bool negotiated;
    bool busy; /* inside the read handler: closing is put off */
    bool drop;
    int pending_fds[QMP_PENDING_FDS];
    unsigned pending_count;
    char *out; /* out_pos..out_len not sent yet */
    size_t out_pos, out_len, out_size;
};

struct qmp_socket {
    struct qmp *q;
    char *id;
    char *path; /* NULL: made by somebody else */
    dev_t dev;  /* of path, so that only our own file is removed */
    ino_t ino;
    int fd;
    struct watch watch;
    struct timer retry; /* after accept() failed for lack of resources */
    struct qmp_session session;
};

/* One descriptor of an fd set. */
struct qmp_fd {
    int64_t set;
    int fd;
    char *opaque; /* or NULL */
};

struct qmp {
    struct loop *loop;
    struct qmp_env env;
    struct qmp_socket sockets[QMP_MAX_SOCKETS];
    unsigned socket_count;
    struct {
        const struct qmp_command *commands;
        void *opaque;
    } tables[QMP_MAX_TABLES];
    unsigned table_count;
    struct qmp_session *current; /* whose command runs */
    bool quit_wanted;            /* by the command that runs; done after its reply */
    struct qmp_fd fds[QMP_MAX_FDS];
    unsigned fd_count;
};

/* {"qemu": {"major": ...}, "package": ...}, as the greeting and query-version have it. */
struct json_object *qmp_version(void);
/* The commands that every server has. */
extern const struct qmp_command qmp_standard_commands[];
extern const struct qmp_command qmp_fdset_commands[];
/* Closes the fd sets; called when the last client has left. */
void qmp_fdset_clear(struct qmp *q);
/* Runs another command of this server. *result (NULL: dropped) is the caller's. 0, or -1 with e. */
int qmp_call(struct qmp *q, const char *name, struct json_object *args,
             struct json_object **result, struct qmp_error *e);
/* Runs a human-monitor-command line; the result is the text. */
void qmp_hmp(struct qmp *q, const char *line, char *out, size_t outlen);
