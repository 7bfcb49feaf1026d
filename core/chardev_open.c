/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads the spec of a character back end and opens what it names. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/chardev_int.h"
#include "core/optlist.h"

/* What is being opened, for the openers and their messages. */
struct request {
    struct chardev *c;
    const char *spec;
    char *err;
    size_t errlen;
};

struct socket_keys {
    const char *path, *host, *addr, *backend;
    uint64_t port;
    int64_t fd;
    bool server, wait;
};

static int fail(const struct request *q, const char *what, const char *why)
{
    snprintf(q->err, q->errlen, "%s '%.200s': %s%s%s", q->c->label, q->spec, what, why ? ": " : "",
             why ? why : "");
    return -EINVAL;
}

static int set_filename(const struct request *q, const char *prefix, const char *name,
                        const char *suffix)
{
    free(q->c->filename);
    if (asprintf(&q->c->filename, "%s%s%s", prefix, name, suffix) < 0) {
        q->c->filename = NULL;
        return fail(q, "out of memory", NULL);
    }
    return 0;
}

static void set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0) {
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    }
}

/* ---- null, file, stdio ---- */

static int open_null(const struct request *q, const char *rest)
{
    (void)rest;
    q->c->kind = CHARDEV_NULL;
    return set_filename(q, "null", "", "");
}

static int open_path(const struct request *q, const char *path, bool append)
{
    struct chardev *c = q->c;
    struct stat st;

    if (!*path) {
        return fail(q, "the path is empty", NULL);
    }
    c->kind = CHARDEV_FILE;
    c->out_fd =
        open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | (append ? O_APPEND : O_TRUNC), 0666);
    if (c->out_fd < 0) {
        return fail(q, "cannot open it for writing", strerror(errno));
    }
    if (fstat(c->out_fd, &st) == 0 && !S_ISREG(st.st_mode)) {
        set_nonblock(c->out_fd);
    }
    c->connected = true;
    return set_filename(q, "file:", path, "");
}

/* "file:PATH": as in QEMU everything after the colon is the path, commas too. */
static int open_file(const struct request *q, const char *rest)
{
    return open_path(q, rest, false);
}

static int open_file_keys(const struct request *q, const char *rest)
{
    struct file_keys {
        const char *path, *backend;
        bool append;
    } k = {0};
    static const struct optkey keys[] = {
        {"backend", OPTKEY_STRING, offsetof(struct file_keys, backend), 0, 0, NULL},
        {"path", OPTKEY_STRING, offsetof(struct file_keys, path), 0, 0, NULL},
        {"append", OPTKEY_BOOL, offsetof(struct file_keys, append), 0, 0, NULL},
        {"id", OPTKEY_IGNORE, 0, 0, 0, NULL},
        {0},
    };
    struct options_arena *arena = NULL;
    struct optlist l;
    int r;

    (void)rest;
    r = optlist_split(&l, &arena, q->c->label, "backend", q->spec, q->err, q->errlen);
    if (r == 0) {
        r = optlist_read(&l, keys, NULL, &k, q->err, q->errlen);
    }
    if (r == 0) {
        r = k.path ? open_path(q, k.path, k.append) : fail(q, "path= is missing", NULL);
    }
    arena_free(&arena);
    return r;
}

bool chardev_stdio_taken;

/* A descriptor of our own for stdout, so that O_NONBLOCK does not reach the shell that shares it.
 * */
static int reopen_stdout(void)
{
    struct stat st;
    int fd = -1;

    if (fstat(STDOUT_FILENO, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISSOCK(st.st_mode)) {
        fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    return fd >= 0 ? fd : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
}

static int open_stdio(const struct request *q, const char *rest)
{
    struct chardev *c = q->c;

    (void)rest;
    if (chardev_stdio_taken) {
        return fail(q, "standard input and output are in use already", NULL);
    }
    chardev_stdio_taken = true;
    c->kind = CHARDEV_STDIO;
    c->in_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    c->out_fd = reopen_stdout();
    if (c->out_fd < 0) {
        return fail(q, "cannot use standard output", strerror(errno));
    }
    if (c->in_fd >= 0 && tcgetattr(c->in_fd, &c->termios) == 0) {
        struct termios raw = c->termios;

        raw.c_iflag &=
            ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
        raw.c_oflag |= OPOST;
        raw.c_lflag &=
            ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN); /* ISIG stays: Ctrl-C ends us */
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        c->have_termios = tcsetattr(c->in_fd, TCSANOW, &raw) == 0;
    }
    c->connected = true;
    return set_filename(q, "stdio", "", "");
}

/* ---- pty ---- */

static int open_pty(const struct request *q, const char *rest)
{
    struct chardev *c = q->c;
    struct termios raw;
    char name[64];
    int slave;

    (void)rest;
    c->kind = CHARDEV_PTY;
    c->in_fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    c->out_fd = c->in_fd;
    if (c->in_fd < 0 || grantpt(c->in_fd) < 0 || unlockpt(c->in_fd) < 0 ||
        ptsname_r(c->in_fd, name, sizeof(name)) != 0) {
        return fail(q, "cannot make a pseudo terminal", strerror(errno));
    }
    /* Opened once: sets raw mode, and without it the master does not report "no reader" before the
     * first one. */
    slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) {
        return fail(q, "cannot open the pseudo terminal", strerror(errno));
    }
    if (tcgetattr(slave, &raw) == 0) {
        cfmakeraw(&raw);
        tcsetattr(slave, TCSANOW, &raw);
    }
    close(slave);
    c->open_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (c->open_fd >= 0 && inotify_add_watch(c->open_fd, name, IN_OPEN | IN_CLOSE) < 0) {
        close(c->open_fd);
        c->open_fd = -1;
    }
    return set_filename(q, "pty:", name, "");
}

/* ---- sockets ---- */

/* Waits (at start only) for the first client of a server with wait=on. */
static int wait_for_client(const struct request *q)
{
    int fd;

    log_msg("%s: waiting for a connection on %s", q->c->label, q->c->filename);
    do {
        fd = accept4(q->c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return fail(q, "cannot accept a connection", strerror(errno));
    }
    chardev_connect(q->c, fd);
    return 0;
}

static int finish_server(const struct request *q, const struct socket_keys *k)
{
    if (k->wait) {
        int r = wait_for_client(q);

        if (r < 0) {
            return r;
        }
    }
    set_nonblock(q->c->listen_fd);
    return 0;
}

static int open_unix(const struct request *q, const struct socket_keys *k)
{
    struct chardev *c = q->c;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct stat st;
    int fd;

    if (strlen(k->path) >= sizeof(sa.sun_path)) {
        return fail(q, "the path of the socket is too long", NULL);
    }
    memcpy(sa.sun_path, k->path, strlen(k->path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return fail(q, "cannot make a socket", strerror(errno));
    }
    if (set_filename(q, "unix:", k->path, k->server ? ",server=on" : "") < 0) {
        close(fd);
        return -ENOMEM;
    }
    if (!k->server) {
        if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
            close(fd);
            return fail(q, "cannot connect", strerror(errno));
        }
        set_nonblock(fd);
        chardev_connect(c, fd);
        return 0;
    }
    c->listen_fd = fd;
    if (lstat(k->path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        unlink(k->path); /* left by a process that was killed */
    }
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        return fail(q, "cannot bind the socket", strerror(errno));
    }
    c->unlink_path = strdup(k->path);
    if (listen(fd, 1) < 0) {
        return fail(q, "cannot listen", strerror(errno));
    }
    return finish_server(q, k);
}

/* Tries one address. Returns the socket or -1 with errno. */
static int try_address(const struct addrinfo *a, bool server)
{
    int one = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    int r;

    if (fd < 0) {
        return -1;
    }
    if (server) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        r = bind(fd, a->ai_addr, a->ai_addrlen);
        r = r == 0 ? listen(fd, 1) : r;
    } else {
        r = connect(fd, a->ai_addr, a->ai_addrlen);
    }
    if (r < 0) {
        int e = errno;

        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static int open_tcp(const struct request *q, const struct socket_keys *k, const char *host,
                    const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = k->server ? AI_PASSIVE : 0};
    struct addrinfo *list;
    union {
        struct sockaddr sa;
        struct sockaddr_storage storage;
    } bound;
    socklen_t len = sizeof(bound);
    char serv[NI_MAXSERV] = "", text[300];
    int fd = -1;
    int e = getaddrinfo(*host ? host : NULL, port, &hints, &list);

    if (e) {
        return fail(q, "no such address", gai_strerror(e));
    }
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = try_address(a, k->server);
    }
    e = errno;
    freeaddrinfo(list);
    if (fd < 0) {
        return fail(q, k->server ? "cannot listen" : "cannot connect", strerror(e));
    }
    /* the port that port 0 became */
    if (!k->server || getsockname(fd, &bound.sa, &len) < 0 ||
        getnameinfo(&bound.sa, len, NULL, 0, serv, sizeof(serv), NI_NUMERICSERV) != 0) {
        snprintf(serv, sizeof(serv), "%.31s", port);
    }
    snprintf(text, sizeof(text), strchr(host, ':') ? "[%.200s]:%s" : "%.200s:%s", host, serv);
    if (k->server) {
        q->c->listen_fd = fd;
    } else {
        set_nonblock(fd);
        chardev_connect(q->c, fd);
    }
    if (set_filename(q, "tcp:", text, k->server ? ",server=on" : "") < 0) {
        return -ENOMEM;
    }
    return k->server ? finish_server(q, k) : 0;
}

/* "HOST:PORT", "[V6]:PORT", ":PORT". */
static int open_tcp_addr(const struct request *q, const struct socket_keys *k)
{
    const char *colon = strrchr(k->addr, ':');
    char host[256];
    size_t n;

    if (!colon || !colon[1]) {
        return fail(q, "it must be tcp:HOST:PORT", NULL);
    }
    n = (size_t)(colon - k->addr);
    if (n >= sizeof(host)) {
        return fail(q, "the host name is too long", NULL);
    }
    memcpy(host, k->addr, n);
    host[n] = '\0';
    if (host[0] == '[' && n >= 2 && host[n - 1] == ']') {
        host[n - 1] = '\0';
        memmove(host, host + 1, n - 1);
    }
    return open_tcp(q, k, host, colon + 1);
}

/* An inherited descriptor: a listening socket or a connection. */
static int open_fd(const struct request *q, int fd)
{
    struct stat st;
    int listening = 0;
    socklen_t len = sizeof(listening);
    char name[16];

    if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        return fail(q, "the descriptor is not an open socket", NULL);
    }
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len);
    set_nonblock(fd);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (listening) {
        q->c->listen_fd = fd;
    } else {
        chardev_connect(q->c, fd);
    }
    snprintf(name, sizeof(name), "%d", fd);
    return set_filename(q, "fd:", name, listening ? ",server=on" : "");
}

static int open_socket(const struct request *q, const char *implied, const char *text)
{
    static const struct optkey keys[] = {
        {"addr", OPTKEY_STRING, offsetof(struct socket_keys, addr), 0, 0, NULL},
        {"backend", OPTKEY_STRING, offsetof(struct socket_keys, backend), 0, 0, NULL},
        {"path", OPTKEY_STRING, offsetof(struct socket_keys, path), 0, 0, NULL},
        {"host", OPTKEY_TEXT, offsetof(struct socket_keys, host), 0, 0, NULL},
        {"port", OPTKEY_UINT, offsetof(struct socket_keys, port), 0, 65535, NULL},
        {"fd", OPTKEY_INT, offsetof(struct socket_keys, fd), 0, 1 << 20, NULL},
        {"server", OPTKEY_BOOL, offsetof(struct socket_keys, server), 0, 0, NULL},
        {"wait", OPTKEY_BOOL, offsetof(struct socket_keys, wait), 0, 0, NULL},
        {"nodelay", OPTKEY_IGNORE, 0, 0, 0, NULL}, /* always without delay */
        {"delay", OPTKEY_IGNORE, 0, 0, 0, NULL},
        {"telnet", OPTKEY_ONLY, 0, 0, 0, "off"},
        {"reconnect", OPTKEY_ONLY, 0, 0, 0, "0"},
        {"mux", OPTKEY_ONLY, 0, 0, 0, "off"},
        {"id", OPTKEY_IGNORE, 0, 0, 0, NULL},
        {0},
    };
    struct socket_keys k = {.fd = -1, .wait = true};
    struct options_arena *arena = NULL;
    struct optlist l;
    char port[8];
    int r;

    q->c->kind = CHARDEV_SOCKET;
    r = optlist_split(&l, &arena, q->c->label, implied, text, q->err, q->errlen);
    if (r == 0) {
        r = optlist_read(&l, keys, NULL, &k, q->err, q->errlen);
    }
    if (r == 0) {
        if (k.fd >= 0) {
            r = open_fd(q, (int)k.fd);
        } else if (k.path) {
            r = open_unix(q, &k);
        } else if (k.addr) {
            r = open_tcp_addr(q, &k);
        } else if (k.port || k.host) {
            snprintf(port, sizeof(port), "%u", (unsigned)(k.port & 0xffff));
            r = open_tcp(q, &k, k.host ? k.host : "", port);
        } else {
            r = fail(q, "path=, host= and port=, or fd= is missing", NULL);
        }
    }
    arena_free(&arena);
    return r;
}

static int open_tcp_spec(const struct request *q, const char *rest)
{
    return open_socket(q, "addr", rest);
}

static int open_unix_spec(const struct request *q, const char *rest)
{
    return open_socket(q, "path", rest);
}

static int open_socket_keys(const struct request *q, const char *rest)
{
    (void)rest;
    return open_socket(q, "backend", q->spec);
}

/* ---- all of them ---- */

static const struct {
    const char *prefix; /* ending in ':' or ',': the rest is handed on; else the whole spec */
    int (*open)(const struct request *q, const char *rest);
} backends[] = {
    {"null", open_null},     {"none", open_null},       {"pty", open_pty},
    {"stdio", open_stdio},   {"file:", open_file},      {"file,", open_file_keys},
    {"tcp:", open_tcp_spec}, {"unix:", open_unix_spec}, {"socket,", open_socket_keys},
};

struct chardev *chardev_open(struct loop *loop, const char *label, const char *spec, char *err,
                             size_t errlen)
{
    struct chardev *c = calloc(1, sizeof(*c));
    struct request q = {.c = c, .spec = spec, .err = err, .errlen = errlen};
    int r = -EINVAL;

    if (!c || !(c->label = strdup(label))) {
        snprintf(err, errlen, "%s: out of memory", label);
        free(c);
        return NULL;
    }
    c->loop = loop;
    c->in_fd = c->out_fd = c->listen_fd = c->open_fd = -1;
    snprintf(err, errlen,
             "%s: '%.200s' is not supported; use pty, file:PATH, tcp:HOST:PORT, unix:PATH, stdio "
             "or null",
             label, spec);
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
        const char *prefix = backends[i].prefix;
        size_t n = strlen(prefix);
        bool open_ended = prefix[n - 1] == ':' || prefix[n - 1] == ',';

        if (strncmp(spec, prefix, n) == 0 && (open_ended || spec[n] == '\0')) {
            r = backends[i].open(&q, spec + n);
            break;
        }
    }
    if (r == 0) {
        r = chardev_start(c);
        if (r < 0) {
            fail(&q, "cannot watch it", strerror(-r));
        }
    }
    if (r < 0) {
        chardev_close(c);
        return NULL;
    }
    return c;
}
