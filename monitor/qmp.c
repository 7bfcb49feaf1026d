/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "monitor/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/log.h"
#include "monitor/qmp_priv.h"

enum {
    READ_CHUNK = 4096,
    READ_PAUSE = 64 << 10, /* bytes of output waiting above which nothing is read */
    LISTEN_BACKLOG = 8,
    JSON_TEXT = JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
};
#define ACCEPT_RETRY_NS 1000000000ull

static void session_ready(void *arg, uint32_t events);

static const char *const class_names[] = {
    [QMP_GENERIC_ERROR] = "GenericError",
    [QMP_COMMAND_NOT_FOUND] = "CommandNotFound",
    [QMP_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
    [QMP_DEVICE_NOT_FOUND] = "DeviceNotFound",
};

int qmp_fail(struct qmp_error *e, enum qmp_class class, const char *fmt, ...)
{
    va_list ap;

    e->class = class;
    va_start(ap, fmt);
    vsnprintf(e->desc, sizeof(e->desc), fmt, ap);
    va_end(ap);
    return -1;
}

/* ---- text ---- */

static bool scan_utf8(struct qmp_scan *u, uint8_t c)
{
    if (u->utf8_need) {
        if (c < u->utf8_lo || c > u->utf8_hi) {
            return false;
        }
        u->utf8_need--;
        u->utf8_lo = 0x80;
        u->utf8_hi = 0xbf;
        return true;
    }
    if (c < 0x80) {
        return true;
    }
    if (c < 0xc2 || c > 0xf4) {
        return false;
    }
    /* RFC 3629: no overlong forms, no surrogates, nothing above 0x10ffff. */
    u->utf8_need = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    u->utf8_lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    u->utf8_hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    return true;
}

struct json_object *qmp_text(const char *text)
{
    struct json_object *string;
    char *copy = strdup(text ? text : "");

    for (size_t at = 0; copy && copy[at];) {
        struct qmp_scan u = {0};
        size_t n = 0;

        while (scan_utf8(&u, (uint8_t)copy[at + n])) {
            n++;
            if (!u.utf8_need) {
                break;
            }
        }
        if (u.utf8_need || n == 0) {
            copy[at] = '?';
            n = 1;
        }
        at += n;
    }
    string = json_object_new_string(copy ? copy : "");
    free(copy);
    return string;
}

/* ---- sessions: opening, closing, output ---- */

static struct qmp_socket *socket_of(struct qmp_session *s)
{
    return (struct qmp_socket *)((char *)s - offsetof(struct qmp_socket, session));
}

static void session_close(struct qmp_session *s)
{
    struct qmp_socket *sock = socket_of(s);
    struct qmp *q = sock->q;

    if (s->fd < 0) {
        return;
    }
    if (s->busy) {
        s->drop = true;
        return;
    }
    loop_unwatch(&s->watch);
    timer_cancel(&s->stall);
    close(s->fd);
    s->fd = -1;
    for (unsigned i = 0; i < s->pending_count; i++) {
        close(s->pending_fds[i]);
    }
    s->pending_count = 0;
    if (s->tokener) {
        json_tokener_free(s->tokener);
    }
    s->tokener = NULL;
    free(s->out);
    s->out = NULL;
    s->out_pos = s->out_len = s->out_size = 0;
    for (unsigned i = 0; i < q->socket_count; i++) {
        if (q->sockets[i].session.fd >= 0) {
            return;
        }
    }
    qmp_fdset_clear(q);
}

/* A session has ended: let the next client in. */
static void session_end(struct qmp_session *s)
{
    session_close(s);
    if (s->fd < 0) {
        watch_events(&socket_of(s)->watch, EPOLLIN);
    }
}

static size_t session_backlog(const struct qmp_session *s)
{
    return s->out_len - s->out_pos;
}

/* Awaits what makes sense now: input unless a lot of output waits, room for output if some waits.
 * */
static void session_update(struct qmp_session *s)
{
    size_t backlog = session_backlog(s);

    watch_events(&s->watch, (backlog < READ_PAUSE ? EPOLLIN : 0) | (backlog ? EPOLLOUT : 0));
}

/* Sends what waits. The session may be gone afterwards. */
static void session_flush(struct qmp_session *s)
{
    bool progress = false;

    while (session_backlog(s)) {
        ssize_t n =
            send(s->fd, s->out + s->out_pos, session_backlog(s), MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            s->out_pos += (size_t)n;
            progress = true;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            break;
        } else {
            session_end(s);
            return;
        }
    }
    if (!session_backlog(s)) {
        s->out_pos = s->out_len = 0;
        timer_cancel(&s->stall);
    } else if (progress || !s->stall.armed) {
        struct qmp *q = socket_of(s)->q;

        timer_set(&s->stall, loop_now(q->loop, LOOP_HOST) + QMP_STALL_NS);
    }
    session_update(s);
}

static void session_stalled(void *arg)
{
    struct qmp_session *s = arg;
    static struct log_limit limit;

    log_limited(&limit, "QMP client of %s does not read; dropped", socket_of(s)->id);
    session_end(s);
}

/* Queues len bytes; false when there is no room. */
static bool out_append(struct qmp_session *s, const char *text, size_t len)
{
    size_t backlog = session_backlog(s);

    if (len > QMP_MAX_OUTPUT || backlog + len > QMP_MAX_OUTPUT) {
        return false;
    }
    if (s->out_pos) {
        memmove(s->out, s->out + s->out_pos, backlog);
        s->out_pos = 0;
        s->out_len = backlog;
    }
    if (backlog + len > s->out_size) {
        size_t size = s->out_size ? s->out_size : 4096;
        char *grown;

        while (size < backlog + len) {
            size *= 2;
        }
        grown = realloc(s->out, size);
        if (!grown) {
            return false;
        }
        s->out = grown;
        s->out_size = size;
    }
    memcpy(s->out + s->out_len, text, len);
    s->out_len += len;
    return true;
}

/* Sends one message; takes over msg. The session may be gone afterwards (unless it is busy). */
static void session_send(struct qmp_session *s, struct json_object *msg)
{
    size_t len;
    const char *text = msg ? json_object_to_json_string_length(msg, JSON_TEXT, &len) : NULL;
    bool queued = !s->drop && text && out_append(s, text, len) && out_append(s, "\r\n", 2);

    json_object_put(msg);
    if (!queued) {
        session_end(s);
        return;
    }
    session_flush(s);
}

static void send_error(struct qmp_session *s, const struct qmp_error *e, bool has_id,
                       struct json_object *id)
{
    struct json_object *msg = json_object_new_object();
    struct json_object *error = json_object_new_object();

    json_object_object_add(error, "class", json_object_new_string(class_names[e->class]));
    json_object_object_add(error, "desc", qmp_text(e->desc));
    json_object_object_add(msg, "error", error);
    if (has_id) {
        json_object_object_add(msg, "id", json_object_get(id));
    }
    session_send(s, msg);
}

static void send_greeting(struct qmp_session *s)
{
    struct json_object *msg = json_object_new_object();
    struct json_object *body = json_object_new_object();

    json_object_object_add(body, "version", qmp_version());
    json_object_object_add(body, "capabilities", json_object_new_array());
    json_object_object_add(msg, "QMP", body);
    session_send(s, msg);
}

static void socket_accept(void *arg, uint32_t events)
{
    struct qmp_socket *sock = arg;
    struct qmp_session *s = &sock->session;
    struct qmp *q = sock->q;
    int fd;

    (void)events;
    if (s->fd >= 0) {
        return;
    }
    fd = accept4(sock->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            static struct log_limit limit;

            log_limited(&limit, "QMP socket %s: accept: %s", sock->id, strerror(errno));
            watch_events(&sock->watch, 0);
            timer_set(&sock->retry, loop_now(q->loop, LOOP_HOST) + ACCEPT_RETRY_NS);
        }
        return;
    }
    *s = (struct qmp_session){.fd = fd, .tokener = json_tokener_new_ex(QMP_MAX_DEPTH)};
    timer_init(&s->stall, q->loop, LOOP_HOST, session_stalled, s);
    if (!s->tokener || loop_watch(q->loop, &s->watch, fd, EPOLLIN, session_ready, s) < 0) {
        session_close(s);
        return;
    }
    json_tokener_set_flags(s->tokener, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
    watch_events(&sock->watch, 0);
    send_greeting(s);
}

static void socket_retry(void *arg)
{
    struct qmp_socket *sock = arg;

    if (sock->session.fd < 0) {
        watch_events(&sock->watch, EPOLLIN);
    }
}

/* ---- commands ---- */

const char *qmp_arg_string(struct json_object *args, const char *name, const char *absent)
{
    struct json_object *value;

    return json_object_object_get_ex(args, name, &value) ? json_object_get_string(value) : absent;
}

int64_t qmp_arg_int(struct json_object *args, const char *name, int64_t absent)
{
    struct json_object *value;

    return json_object_object_get_ex(args, name, &value) ? json_object_get_int64(value) : absent;
}

bool qmp_arg_bool(struct json_object *args, const char *name, bool absent)
{
    struct json_object *value;

    return json_object_object_get_ex(args, name, &value) ? json_object_get_boolean(value) : absent;
}

/* A string that strcmp() sees all of. */
static bool is_text(struct json_object *value)
{
    return json_object_is_type(value, json_type_string) &&
           strlen(json_object_get_string(value)) == (size_t)json_object_get_string_len(value);
}

static bool type_fits(char type, struct json_object *value)
{
    switch (type) {
    case 's':
        return is_text(value);
    case 'i':
        return json_object_is_type(value, json_type_int);
    case 'b':
        return json_object_is_type(value, json_type_boolean);
    default:
        return true;
    }
}

/* Finds "name:type" in a command's args text; NULL or the place of the type. */
static const char *find_arg(const char *args, const char *name)
{
    size_t n = strlen(name);

    while (args && *args) {
        if (strncmp(args, name, n) == 0 && args[n] == ':') {
            return args + n + 1;
        }
        args = strchr(args, ',');
        args = args ? args + 1 : NULL;
    }
    return NULL;
}

/* Checks args against the command's description (qmp.h). */
static int check_args(const struct qmp_command *c, struct json_object *args, struct qmp_error *e)
{
    size_t len = strlen(c->args);
    bool open_end = len && c->args[len - 1] == '*';

    json_object_object_foreach(args, name, value)
    {
        const char *type = find_arg(c->args, name);

        if (!type && !open_end) {
            return qmp_fail(e, QMP_GENERIC_ERROR, "Parameter '%.80s' is unexpected", name);
        }
        if (type && !type_fits(*type, value)) {
            return qmp_fail(e, QMP_GENERIC_ERROR,
                            "Invalid parameter type for '%.80s', expected: %s", name,
                            *type == 's'   ? "string"
                            : *type == 'i' ? "integer"
                                           : "boolean");
        }
    }
    for (const char *at = c->args; *at && *at != '*';) {
        const char *colon = strchr(at, ':');
        char wanted[64];

        snprintf(wanted, sizeof(wanted), "%.*s", (int)(colon - at), at);
        if (colon[2] != '?' && !json_object_object_get_ex(args, wanted, NULL)) {
            return qmp_fail(e, QMP_GENERIC_ERROR, "Parameter '%s' is missing", wanted);
        }
        at = strchr(colon, ',');
        if (!at) {
            break;
        }
        at++;
    }
    return 0;
}

static const struct qmp_command *find_command(struct qmp *q, const char *name, void **opaque)
{
    for (unsigned t = 0; t < q->table_count; t++) {
        for (const struct qmp_command *c = q->tables[t].commands; c->name; c++) {
            if (strcmp(c->name, name) == 0) {
                *opaque = q->tables[t].opaque;
                return c;
            }
        }
    }
    return NULL;
}

/* The parts of a request, borrowed from it. */
struct request {
    bool has_id;
    struct json_object *id; /* NULL is JSON's null */
    const char *execute;
    struct json_object *arguments; /* or NULL */
};

static int read_request(struct json_object *msg, struct request *r, struct qmp_error *e)
{
    struct json_object *execute = NULL;

    if (!json_object_is_type(msg, json_type_object)) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "QMP input must be a JSON object");
    }
    r->has_id = json_object_object_get_ex(msg, "id", &r->id);
    json_object_object_foreach(msg, key, value)
    {
        if (strcmp(key, "execute") == 0) {
            execute = value;
            if (!is_text(value)) {
                return qmp_fail(e, QMP_GENERIC_ERROR,
                                "QMP input member 'execute' must be a string");
            }
        } else if (strcmp(key, "arguments") == 0) {
            r->arguments = value;
            if (!json_object_is_type(value, json_type_object)) {
                return qmp_fail(e, QMP_GENERIC_ERROR,
                                "QMP input member 'arguments' must be an object");
            }
        } else if (strcmp(key, "id") != 0) {
            return qmp_fail(e, QMP_GENERIC_ERROR, "QMP input member '%.80s' is unexpected", key);
        }
    }
    if (!execute) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "QMP input lacks member 'execute'");
    }
    r->execute = json_object_get_string(execute);
    return 0;
}

int qmp_call(struct qmp *q, const char *name, struct json_object *args, struct json_object **result,
             struct qmp_error *e)
{
    struct json_object *value = NULL;
    void *opaque = NULL;
    const struct qmp_command *c = find_command(q, name, &opaque);
    int rc;

    if (!c) {
        return qmp_fail(e, QMP_COMMAND_NOT_FOUND, "The command %.160s has not been found", name);
    }
    rc = check_args(c, args, e);
    if (rc == 0) {
        rc = c->fn(q, opaque, args, &value, e);
    }
    if (result && rc == 0) {
        *result = value;
    } else {
        json_object_put(value);
    }
    return rc;
}

/* Runs a request. 0 with *result, or -1 with e. */
static int run_request(struct qmp_session *s, const struct request *r, struct json_object **result,
                       struct qmp_error *e)
{
    struct qmp *q = socket_of(s)->q;
    const struct qmp_command *c;
    struct json_object *args;
    void *opaque = NULL;
    int rc;

    if (strcmp(r->execute, "qmp_capabilities") == 0) {
        if (s->negotiated) {
            return qmp_fail(e, QMP_COMMAND_NOT_FOUND,
                            "Capabilities negotiation is already complete, command ignored");
        }
        s->negotiated =
            true; /* no capability is offered, so "enable" can name none; QEMU's clients send [] */
        return 0;
    }
    if (!s->negotiated) {
        return qmp_fail(e, QMP_COMMAND_NOT_FOUND,
                        "Expecting capabilities negotiation with 'qmp_capabilities'");
    }
    c = find_command(q, r->execute, &opaque);
    if (!c) {
        return qmp_fail(e, QMP_COMMAND_NOT_FOUND, "The command %.160s has not been found",
                        r->execute);
    }
    args = r->arguments ? json_object_get(r->arguments) : json_object_new_object();
    rc = check_args(c, args, e);
    if (rc == 0) {
        q->current = s;
        rc = c->fn(q, opaque, args, result, e);
        q->current = NULL;
    }
    json_object_put(args);
    return rc;
}

/* Answers one complete JSON value; takes it over. */
static void handle_message(struct qmp_session *s, struct json_object *msg)
{
    struct qmp *q = socket_of(s)->q;
    struct request r = {0};
    struct json_object *result = NULL;
    struct json_object *reply;
    struct qmp_error e = {.class = QMP_GENERIC_ERROR};

    if (read_request(msg, &r, &e) < 0 || run_request(s, &r, &result, &e) < 0) {
        json_object_put(result);
        send_error(s, &e, r.has_id, r.id);
    } else {
        reply = json_object_new_object();
        json_object_object_add(reply, "return", result ? result : json_object_new_object());
        if (r.has_id) {
            json_object_object_add(reply, "id", json_object_get(r.id));
        }
        session_send(s, reply);
    }
    json_object_put(msg);
    if (q->quit_wanted) {
        q->quit_wanted = false;
        q->env.quit(q->env.opaque);
    }
}

/* ---- input ---- */

/*
 * Accounts for *len bytes that the tokener took. NULL, or what is wrong; *fatal: too large, else a
 * syntax error and
 * *len is where, so that a line end behind it is still seen.
 */
static const char *scan_bytes(struct qmp_scan *scan, const char *data, size_t *len, bool *fatal)
{
    *fatal = true;
    scan->bytes += *len;
    if (scan->bytes > QMP_MAX_REQUEST) {
        return "the request is larger than 1 MiB";
    }
    for (size_t i = 0; i < *len; i++) {
        char c = data[i];

        if (!scan_utf8(scan, (uint8_t)c)) {
            *fatal = false;
            *len = i;
            return "JSON parse error, invalid UTF-8 sequence in string";
        }
        if (scan->in_string && (uint8_t)c < 0x20) {
            *fatal = false; /* json-c lets it pass */
            *len = i;
            return "JSON parse error, control character in string";
        }
        if (scan->in_string) {
            scan->in_string = scan->escaped || c != '"';
            scan->escaped = !scan->escaped && c == '\\';
        } else if (c == '"') {
            scan->in_string = true;
        } else if (c == '{' || c == '[' || c == ',' || c == ':') {
            scan->values++;
        }
    }
    return scan->values > QMP_MAX_VALUES ? "the request has too many values" : NULL;
}

/* Ends the value being read. */
static void input_reset(struct qmp_session *s)
{
    json_tokener_reset(s->tokener);
    s->scan = (struct qmp_scan){0};
    s->started = false;
}

/* Answers input that cannot be used: fatal ends the connection, else reading goes on behind the
 * next line end. */
static void input_refuse(struct qmp_session *s, const char *why, bool fatal)
{
    struct qmp_error e;

    qmp_fail(&e, QMP_GENERIC_ERROR, "%s", why);
    send_error(s, &e, false, NULL);
    input_reset(s);
    s->recovering = true;
    s->drop |= fatal;
}

/* Reads at most one value out of data. Returns the bytes used, at least 1. */
static size_t input_value(struct qmp_session *s, const char *data, size_t len)
{
    struct json_object *msg = json_tokener_parse_ex(s->tokener, data, (int)len);
    enum json_tokener_error error = json_tokener_get_error(s->tokener);
    size_t used = error == json_tokener_continue ? len : json_tokener_get_parse_end(s->tokener);
    bool fatal;
    const char *why;
    char text[160];

    used = used > len ? len : used;
    s->started = true;
    why = scan_bytes(&s->scan, data, &used, &fatal);
    if (!why && error == json_tokener_error_depth) {
        why = "the request is nested deeper than 64 levels";
        fatal = true;
    } else if (!why && (error != json_tokener_continue && error != json_tokener_success)) {
        snprintf(text, sizeof(text), "JSON parse error, %s", json_tokener_error_desc(error));
        why = text;
        fatal = false;
    } else if (!why && error == json_tokener_success && used == 0) {
        why = "JSON parse error, no value"; /* not known to happen; it would loop */
        fatal = false;
    }
    if (why) {
        json_object_put(msg);
        input_refuse(s, why, fatal);
        return used; /* 0 is fine: recovery goes on from here */
    }
    if (error == json_tokener_success) {
        input_reset(s);
        handle_message(s, msg);
    }
    return used;
}

static void input_bytes(struct qmp_session *s, const char *data, size_t len)
{
    size_t at = 0;

    while (at < len && !s->drop) {
        uint8_t c = (uint8_t)data[at];

        if (s->recovering) {
            s->recovering = c != '\n' && c != 0xff;
            at++;
        } else if (!s->started && (strchr(" \t\r\n\xff", c) && c)) {
            at++; /* between values; 0xff is what clients send to get in step */
        } else {
            at += input_value(s, data + at, len - at);
        }
    }
}

/* Keeps descriptors that came with data until add-fd takes them. */
static void collect_fds(struct qmp_session *s, struct msghdr *mh)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (s->pending_count < QMP_PENDING_FDS) {
                s->pending_fds[s->pending_count++] = fd;
            } else {
                close(fd);
            }
        }
    }
}

static void session_ready(void *arg, uint32_t events)
{
    struct qmp_session *s = arg;
    char data[READ_CHUNK];
    char control[CMSG_SPACE(sizeof(int) * QMP_PENDING_FDS)] __attribute__((aligned(8)));
    struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control,
                        .msg_controllen = sizeof(control)};
    ssize_t n;

    if (events & EPOLLOUT) {
        session_flush(s);
    }
    if (s->fd < 0 || session_backlog(s) >= READ_PAUSE ||
        !(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        return;
    }
    n = recvmsg(s->fd, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        session_end(s);
        return;
    }
    collect_fds(s, &mh);
    s->busy = true;
    input_bytes(s, data, (size_t)n);
    s->busy = false;
    if (s->drop) {
        session_end(s);
    }
}

/* ---- the server ---- */

struct qmp *qmp_create(struct loop *loop, const struct qmp_env *env)
{
    struct qmp *q = calloc(1, sizeof(*q));

    if (!q) {
        return NULL;
    }
    q->loop = loop;
    q->env = *env;
    qmp_add_commands(q, qmp_standard_commands, NULL);
    qmp_add_commands(q, qmp_fdset_commands, NULL);
    return q;
}

static void socket_close(struct qmp_socket *sock)
{
    struct stat st;

    session_close(&sock->session);
    loop_unwatch(&sock->watch);
    timer_cancel(&sock->retry);
    close(sock->fd);
    /* libxl removes the file itself at destroy, and a new guest's socket may already be there. */
    if (sock->path && lstat(sock->path, &st) == 0 && st.st_dev == sock->dev &&
        st.st_ino == sock->ino) {
        unlink(sock->path);
    }
    free(sock->path);
    free(sock->id);
}

void qmp_destroy(struct qmp *q)
{
    if (!q) {
        return;
    }
    for (unsigned i = 0; i < q->socket_count; i++) {
        socket_close(&q->sockets[i]);
    }
    qmp_fdset_clear(q);
    free(q);
}

int qmp_add_commands(struct qmp *q, const struct qmp_command *table, void *opaque)
{
    if (q->table_count == QMP_MAX_TABLES) {
        return -ENOSPC;
    }
    q->tables[q->table_count].commands = table;
    q->tables[q->table_count++].opaque = opaque;
    return 0;
}

/* Puts a listening fd into the table. On failure the fd is still the caller's. */
static int add_socket(struct qmp *q, const char *id, const char *path, int fd, char *err,
                      size_t errlen)
{
    struct qmp_socket *sock = &q->sockets[q->socket_count];
    struct stat st = {0};
    int rc = -ENOMEM;

    if (q->socket_count == QMP_MAX_SOCKETS) {
        snprintf(err, errlen, "QMP socket %s: more than %d sockets", id, QMP_MAX_SOCKETS);
        return -ENOSPC;
    }
    *sock = (struct qmp_socket){
        .q = q, .fd = fd, .session.fd = -1, .id = strdup(id), .path = path ? strdup(path) : NULL};
    timer_init(&sock->retry, q->loop, LOOP_HOST, socket_retry, sock);
    if (path && stat(path, &st) == 0) {
        sock->dev = st.st_dev;
        sock->ino = st.st_ino;
    }
    if (sock->id && (sock->path || !path)) {
        rc = loop_watch(q->loop, &sock->watch, fd, EPOLLIN, socket_accept, sock);
    }
    if (rc < 0) {
        free(sock->id);
        free(sock->path);
        snprintf(err, errlen, "QMP socket %s: %s", id, strerror(-rc));
        return rc;
    }
    q->socket_count++;
    return 0;
}

int qmp_listen_path(struct qmp *q, const char *id, const char *path, char *err, size_t errlen)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct stat st;
    int fd = -1;
    int rc;

    if (strlen(path) >= sizeof(sa.sun_path)) {
        snprintf(err, errlen, "QMP socket %s: path '%.60s...' is too long", id, path);
        return -ENAMETOOLONG;
    }
    memcpy(sa.sun_path, path, strlen(path) + 1);
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode)) {
            snprintf(err, errlen, "QMP socket %s: %s exists and is not a socket", id, path);
            return -EEXIST;
        }
        unlink(path);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* The mode given before bind() is the mode of the file: whoever can connect controls the guest.
     * */
    if (fd < 0 || fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        rc = -errno;
        snprintf(err, errlen, "QMP socket %s: cannot bind %s: %s", id, path, strerror(-rc));
        goto out;
    }
    if (listen(fd, LISTEN_BACKLOG) < 0) {
        rc = -errno;
        snprintf(err, errlen, "QMP socket %s: cannot listen on %s: %s", id, path, strerror(-rc));
        goto out_unlink;
    }
    rc = add_socket(q, id, path, fd, err, errlen);
    if (rc == 0) {
        return 0;
    }
out_unlink:
    unlink(path);
out:
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

int qmp_listen_fd(struct qmp *q, const char *id, int fd, char *err, size_t errlen)
{
    int listening = 0;
    socklen_t len = sizeof(listening);
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 ||
        !listening) {
        snprintf(err, errlen, "QMP socket %s: fd=%d is not a listening socket", id, fd);
        return -EINVAL;
    }
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        snprintf(err, errlen, "QMP socket %s: fd=%d: %s", id, fd, strerror(errno));
        return -EINVAL;
    }
    return add_socket(q, id, NULL, fd, err, errlen);
}

void qmp_event(struct qmp *q, const char *name, const char *data_json)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    for (unsigned i = 0; i < q->socket_count; i++) {
        struct qmp_session *s = &q->sockets[i].session;
        struct json_object *msg, *stamp;

        if (s->fd < 0 || !s->negotiated) {
            continue;
        }
        msg = json_object_new_object();
        json_object_object_add(msg, "event", json_object_new_string(name));
        if (data_json) {
            json_object_object_add(msg, "data", json_tokener_parse(data_json));
        }
        stamp = json_object_new_object();
        json_object_object_add(stamp, "seconds", json_object_new_int64(now.tv_sec));
        json_object_object_add(stamp, "microseconds", json_object_new_int64(now.tv_usec));
        json_object_object_add(msg, "timestamp", stamp);
        session_send(s, msg);
    }
}
