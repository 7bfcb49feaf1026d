/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A xenstore in memory: a flat list of nodes and a list of watches. */
#include "fakexen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct node {
    struct node *next;
    char *path, *value;
    uint32_t len;
};

struct watch {
    struct watch *next;
    int fd; /* of the connection */
    char *path, *token; /* path as the client wrote it: events use the same form */
};

struct connection {
    int request_fd, watch_fd;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node *nodes;
static struct watch *watches;
static char at_running[256];

/* Relative paths are below dom0's home. Returns buf. */
static const char *absolute(const char *path, char *buf, size_t len)
{
    if (path[0] == '/' || path[0] == '@')
        snprintf(buf, len, "%s", path);
    else
        snprintf(buf, len, "/local/domain/0/%s", path);
    return buf;
}

static bool is_at_or_below(const char *parent, const char *child)
{
    size_t n = strlen(parent);

    if (n && parent[n - 1] == '/')
        n--;
    return strncmp(parent, child, n) == 0 && (child[n] == '/' || child[n] == '\0');
}

static struct node *find(const char *path)
{
    for (struct node *n = nodes; n; n = n->next)
        if (!strcmp(n->path, path))
            return n;
    return NULL;
}

static void send_event(const struct watch *w, const char *path)
{
    char buf[4096];
    int n = snprintf(buf, sizeof(buf), "%s%c%s", path, '\0', w->token);

    if (n > 0 && (size_t)n < sizeof(buf))
        send(w->fd, buf, (size_t)n + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void fire(const char *path)
{
    char abs[2048];

    for (struct watch *w = watches; w; w = w->next) {
        absolute(w->path, abs, sizeof(abs));
        if (!is_at_or_below(abs, path))
            continue;
        /* A relative watch gets relative events. */
        size_t skip = strlen(abs) - strlen(w->path);
        send_event(w, w->path[0] == '/' || w->path[0] == '@' ? path : path + skip);
    }
}

/* Finds or adds path and its parents. */
static struct node *make(const char *path)
{
    struct node *n = find(path);
    const char *slash = strrchr(path, '/');

    if (n)
        return n;
    if (slash && slash != path) {
        char *parent = strndup(path, (size_t)(slash - path));
        make(parent);
        free(parent);
    }
    n = calloc(1, sizeof(*n));
    if (!n)
        abort();
    n->path = strdup(path);
    n->value = strdup("");
    n->next = nodes;
    nodes = n;
    return n;
}

const char *fx_at_running(void)
{
    return at_running;
}

/* libxl connects at once, without a retry: so the sockets have to be there by now. */
static void look_around(void)
{
    size_t used = 0;

    for (int i = 0; i < 4 && fx_cfg.at_running[i]; i++) {
        struct sockaddr_un sun = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", fx_cfg.at_running[i]);
        bool ok = connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0;
        used += (size_t)snprintf(at_running + used, sizeof(at_running) - used, "%s ",
                                 ok ? "ok" : strerrorname_np(errno));
        close(fd);
    }
    uint32_t enabled = 0;
    for (uint32_t i = 0; i < FX_MAX_SERVERS; i++)
        enabled += fx_sh->server[i].in_use && fx_sh->server[i].enabled;
    snprintf(at_running + used, sizeof(at_running) - used, "enabled=%u", enabled);
}

static void set_locked(const char *path, const char *value, size_t len)
{
    struct node *n = make(path);

    free(n->value);
    n->value = malloc(len + 1);
    if (!n->value)
        abort();
    memcpy(n->value, value, len);
    n->value[len] = '\0';
    n->len = (uint32_t)len;
    char running[128];
    snprintf(running, sizeof(running), "/local/domain/0/device-model/%u/state", fx_cfg.domid);
    if (!strcmp(path, running) && !strcmp(n->value, "running") &&
        !atomic_load(&fx_sh->running_ns)) {
        atomic_store(&fx_sh->running_ns, fx_now_ns());
        look_around();
    }
    fire(path);
}

static bool remove_locked(const char *path)
{
    bool found = false;

    for (struct node **pn = &nodes; *pn;) {
        struct node *n = *pn;

        if (!is_at_or_below(path, n->path)) {
            pn = &n->next;
            continue;
        }
        found = true;
        *pn = n->next;
        free(n->path);
        free(n->value);
        free(n);
    }
    if (found)
        fire(path);
    return found;
}

char *fx_xs_get(const char *path, uint32_t *len)
{
    char abs[2048], *value = NULL;

    pthread_mutex_lock(&lock);
    struct node *n = find(absolute(path, abs, sizeof(abs)));
    if (n) {
        value = malloc(n->len + 1);
        if (!value)
            abort();
        memcpy(value, n->value, n->len + 1);
        if (len)
            *len = n->len;
    }
    pthread_mutex_unlock(&lock);
    return value;
}

void fx_xs_set(const char *path, const char *value, size_t len)
{
    char abs[2048];

    pthread_mutex_lock(&lock);
    set_locked(absolute(path, abs, sizeof(abs)), value, len);
    pthread_mutex_unlock(&lock);
}

bool fx_xs_remove(const char *path)
{
    char abs[2048];

    pthread_mutex_lock(&lock);
    bool found = remove_locked(absolute(path, abs, sizeof(abs)));
    pthread_mutex_unlock(&lock);
    return found;
}

void fx_xs_dump(FILE *out)
{
    pthread_mutex_lock(&lock);
    for (struct node *n = nodes; n; n = n->next)
        fprintf(out, "%s=%s\n", n->path, n->value);
    pthread_mutex_unlock(&lock);
}

/* Names of the direct children of path, each with its NUL. Returns the length used. */
static size_t list(const char *path, char *out, size_t max)
{
    size_t n = strcmp(path, "/") ? strlen(path) : 0, used = 0;

    for (struct node *c = nodes; c; c = c->next) {
        if (strncmp(c->path, path, n) || c->path[n] != '/' || strchr(c->path + n + 1, '/'))
            continue;
        size_t len = strlen(c->path + n + 1) + 1;
        if (used + len > max)
            break;
        memcpy(out + used, c->path + n + 1, len);
        used += len;
    }
    return used;
}

static void add_watch(int fd, const char *path, const char *token)
{
    struct watch *w = calloc(1, sizeof(*w));

    if (!w)
        abort();
    w->fd = fd;
    w->path = strdup(path);
    w->token = strdup(token);
    w->next = watches;
    watches = w;
    send_event(w, path); /* every new watch fires once */
}

/* Removes the connection's watch, or all of them if path is NULL. */
static bool remove_watch(int fd, const char *path, const char *token)
{
    bool found = false;

    for (struct watch **pw = &watches; *pw;) {
        struct watch *w = *pw;

        if (w->fd != fd || (path && (strcmp(w->path, path) || strcmp(w->token, token)))) {
            pw = &w->next;
            continue;
        }
        found = true;
        *pw = w->next;
        free(w->path);
        free(w->token);
        free(w);
    }
    return found;
}

/* Carries out one request. out has room for FX_XS_MAX bytes. Returns errno; *out_len is set. */
static int handle(int watch_fd, uint32_t op, const char *path, const char *data, uint32_t len,
                  char *out, size_t *out_len)
{
    char abs[2048];
    struct node *n;

    absolute(path, abs, sizeof(abs));
    *out_len = 0;
    switch (op) {
    case FX_XS_READ:
        n = find(abs);
        if (!n)
            return ENOENT;
        memcpy(out, n->value, n->len);
        *out_len = n->len;
        return 0;
    case FX_XS_WRITE:
        set_locked(abs, data, len);
        return 0;
    case FX_XS_MKDIR:
        make(abs);
        fire(abs);
        return 0;
    case FX_XS_RM:
        return remove_locked(abs) ? 0 : ENOENT;
    case FX_XS_DIR:
        if (strcmp(abs, "/") && !find(abs))
            return ENOENT;
        *out_len = list(abs, out, FX_XS_MAX - sizeof(struct fx_xs_hdr));
        return 0;
    case FX_XS_WATCH:
        add_watch(watch_fd, path, data);
        return 0;
    case FX_XS_UNWATCH:
        return remove_watch(watch_fd, path, data) ? 0 : ENOENT;
    default:
        return ENOSYS;
    }
}

static void *serve(void *arg)
{
    struct connection *c = arg;
    char *buf = malloc(FX_XS_MAX + 1), *out = malloc(FX_XS_MAX + 1);
    struct fx_xs_hdr hdr;

    while (buf && out) {
        ssize_t n = recv(c->request_fd, buf, FX_XS_MAX, 0);
        size_t out_len;

        if (n < (ssize_t)sizeof(hdr))
            break;
        buf[n] = '\0';
        memcpy(&hdr, buf, sizeof(hdr));
        if (hdr.path_len + (uint64_t)hdr.data_len != (uint64_t)n - sizeof(hdr))
            break;
        const char *path = buf + sizeof(hdr);
        pthread_mutex_lock(&lock);
        int error = handle(c->watch_fd, hdr.op, path, path + hdr.path_len, hdr.data_len,
                           out + sizeof(hdr), &out_len);
        pthread_mutex_unlock(&lock);
        hdr = (struct fx_xs_hdr){ .error = error, .data_len = (uint32_t)out_len };
        memcpy(out, &hdr, sizeof(hdr));
        if (send(c->request_fd, out, sizeof(hdr) + out_len, MSG_NOSIGNAL) < 0)
            break;
    }
    pthread_mutex_lock(&lock);
    remove_watch(c->watch_fd, NULL, NULL);
    pthread_mutex_unlock(&lock);
    close(c->request_fd);
    close(c->watch_fd);
    free(buf);
    free(out);
    free(c);
    return NULL;
}

void fx_xs_serve(int request_fd, int watch_fd)
{
    struct connection *c = calloc(1, sizeof(*c));
    pthread_t t;

    if (!c)
        abort();
    *c = (struct connection){ request_fd, watch_fd };
    if (pthread_create(&t, NULL, serve, c) == 0)
        pthread_detach(t);
}
