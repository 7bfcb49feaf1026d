/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ui/vnc.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/log.h"
#include "ui/input.h"
#include "ui/vnc_int.h"

enum {
    LISTEN_BACKLOG = 128,
    UI_STACK_BYTES = 256 * 1024, /* libvncserver and its encoders keep their buffers on the heap */
};

/* ---- the display's callbacks: note it, wake the thread ---- */

/* Under v->lock. */
static void wake_ui(struct vnc *v)
{
    uint64_t one = 1;

    if (!v->woken) {
        v->woken = true;
        (void)!write(v->wake_fd, &one, sizeof(one));
    }
}

static void on_resized(void *ui, int width, int height)
{
    struct vnc *v = ui;

    input_set_size(v->input, width, height);
    pthread_mutex_lock(&v->lock);
    v->width = width;
    v->height = height;
    v->dirty.count = 0;
    v->drawn = true;
    pthread_mutex_unlock(&v->lock);
}

static void on_updated(void *ui, int x, int y, int width, int height)
{
    struct vnc *v = ui;

    pthread_mutex_lock(&v->lock);
    rects_add(&v->dirty, (struct rect){x, y, width, height});
    v->drawn = true;
    wake_ui(v);
    pthread_mutex_unlock(&v->lock);
}

static void on_cursor(void *ui)
{
    struct vnc *v = ui;
    const struct display_cursor_image *c = display_cursor_get(v->display);

    pthread_mutex_lock(&v->lock);
    if (c->serial != v->cursor.serial) {
        v->cursor = *c;
    } else {
        v->cursor.x = c->x;
        v->cursor.y = c->y;
        v->cursor.visible = c->visible;
    }
    v->cursor_changed = true;
    wake_ui(v);
    pthread_mutex_unlock(&v->lock);
}

/* Parked is set before the look at what the UI thread wants, which sets that before it looks at
 * parked: one of the two sees the other. */
static bool on_wants(void *ui)
{
    struct vnc *v = ui;

    atomic_store(&v->parked, true);
    if (!atomic_load(&v->want_update)) {
        return false;
    }
    atomic_store(&v->parked, false);
    return true;
}

static void on_refreshed(void *ui)
{
    struct vnc *v = ui;

    atomic_fetch_add(&v->refreshes, 1);
    if (atomic_exchange(&v->await, false)) {
        pthread_mutex_lock(&v->lock);
        wake_ui(v);
        pthread_mutex_unlock(&v->lock);
    }
}

/* The guest's LEDs or kinds of pointers are others. */
static void on_input_changed(void *ui)
{
    struct vnc *v = ui;

    pthread_mutex_lock(&v->lock);
    v->leds = input_leds(v->input);
    v->absolute = input_has_absolute(v->input);
    if (atomic_load(&v->want_picture)) {
        wake_ui(v);
    }
    pthread_mutex_unlock(&v->lock);
}

static const struct display_viewer viewer_ops = {
    .resized = on_resized,
    .updated = on_updated,
    .cursor = on_cursor,
    .wants = on_wants,
    .refreshed = on_refreshed,
};

/* ---- from the UI thread ---- */

void vnc_signal_loop(struct vnc *v)
{
    uint64_t one = 1;

    (void)!write(v->up_fd, &one, sizeof(one));
}

/* Loop thread: does what the UI thread asked for. */
static void on_up(void *arg, uint32_t events)
{
    struct vnc *v = arg;
    bool want, full;
    uint64_t n;

    (void)events;
    (void)!read(v->up_fd, &n, sizeof(n));
    want = atomic_load(&v->want_picture);
    full = atomic_exchange(&v->want_full, false);
    if (v->active && (!want || full)) {
        v->active = false;
        display_viewer_active(v->display, v, false);
    }
    if (want && !v->active) {
        v->active = true;
        display_viewer_active(v->display, v, true);
    }
    if (atomic_exchange(&v->want_kick, false) && v->active) {
        display_kick(v->display);
    }
    if (v->active && atomic_load(&v->want_update)) {
        display_wanted(v->display);
    }
}

/* ---- listening ---- */

static const char *family_name(int family)
{
    return family == AF_INET6 ? "ipv6" : family == AF_UNIX ? "unix" : "ipv4";
}

static void close_listeners(struct vnc *v)
{
    while (v->listen_count > 0) {
        close(v->listen_fd[--v->listen_count]);
    }
}

/* 0 or -errno. The socket is added to v. */
static int listen_on(struct vnc *v, const struct sockaddr *sa, socklen_t len)
{
    const int one = 1;
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int err;

    if (fd < 0) {
        return -errno;
    }
    if (sa->sa_family != AF_UNIX) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    }
    if (sa->sa_family == AF_INET6) {
        /* "all addresses" is one socket per family, as a host without IPv6 must work too. */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    }
    /* With SO_REUSEADDR a clash may be seen only by listen(). */
    if (bind(fd, sa, len) < 0 || listen(fd, LISTEN_BACKLOG) < 0) {
        err = -errno;
        close(fd);
        return err;
    }
    v->listen_fd[v->listen_count++] = fd;
    return 0;
}

/* All of the addresses on one port: 0, or the first -errno if one is occupied or none works. */
static int listen_port(struct vnc *v, const struct addrinfo *list, int port)
{
    int first_err = -EADDRNOTAVAIL;

    for (const struct addrinfo *ai = list; ai != NULL && v->listen_count < VNC_MAX_LISTEN;
         ai = ai->ai_next) {
        union {
            struct sockaddr sa;
            struct sockaddr_in in;
            struct sockaddr_in6 in6;
        } addr;
        int err;

        if ((ai->ai_family != AF_INET && ai->ai_family != AF_INET6) ||
            ai->ai_addrlen > sizeof(addr)) {
            continue;
        }
        memcpy(&addr, ai->ai_addr, ai->ai_addrlen);
        if (ai->ai_family == AF_INET6) {
            addr.in6.sin6_port = htons((uint16_t)port);
        } else {
            addr.in.sin_port = htons((uint16_t)port);
        }
        err = listen_on(v, &addr.sa, ai->ai_addrlen);
        if (err == -EADDRINUSE) {
            close_listeners(v);
            return err;
        }
        if (err != 0 && first_err == -EADDRNOTAVAIL) {
            first_err = err;
        }
    }
    return v->listen_count > 0 ? 0 : first_err;
}

static int resolve(const struct vnc_config *cfg, struct addrinfo **list)
{
    const char *host = cfg->host != NULL && cfg->host[0] != '\0' ? cfg->host : NULL;
    struct addrinfo hints = {
        .ai_family = cfg->ipv4 == cfg->ipv6 ? AF_UNSPEC
                     : cfg->ipv6            ? AF_INET6
                                            : AF_INET,
        .ai_socktype = SOCK_STREAM,
        /* Numbers first: this does not load the name service libraries. */
        .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
    };
    int err = getaddrinfo(host, "0", &hints, list);

    if (err == EAI_NONAME && host != NULL) {
        hints.ai_flags &= ~AI_NUMERICHOST;
        err = getaddrinfo(host, "0", &hints, list);
    }
    return err;
}

static bool listen_tcp(struct vnc *v, char *errbuf, size_t errlen)
{
    const struct vnc_config *cfg = &v->cfg;
    const char *host = cfg->host != NULL ? cfg->host : "";
    const char *open = strchr(host, ':') != NULL ? "[" : "";
    const char *shut = *open != '\0' ? "]" : "";
    int last = cfg->to > cfg->display ? cfg->to : cfg->display;
    struct addrinfo *list;
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    int err = resolve(cfg, &list);

    if (err != 0) {
        snprintf(errbuf, errlen, "VNC: cannot resolve '%s': %s", host,
                 err == EAI_SYSTEM ? strerror(errno) : gai_strerror(err));
        return false;
    }
    if (last > 65535 - VNC_BASE_PORT) {
        last = 65535 - VNC_BASE_PORT;
    }
    err = -EADDRNOTAVAIL;
    for (int display = cfg->display; display <= last; display++) {
        err = listen_port(v, list, VNC_BASE_PORT + display);
        if (err != -EADDRINUSE && err != -EACCES) {
            break;
        }
    }
    freeaddrinfo(list);
    if (err != 0) {
        if (last > cfg->display) {
            snprintf(errbuf, errlen, "VNC: cannot listen on %s%s%s, ports %d to %d: %s", open, host,
                     shut, VNC_BASE_PORT + cfg->display, VNC_BASE_PORT + last, strerror(-err));
        } else {
            snprintf(errbuf, errlen, "VNC: cannot listen on %s%s%s:%d: %s", open, host, shut,
                     VNC_BASE_PORT + cfg->display, strerror(-err));
        }
        return false;
    }
    if (getsockname(v->listen_fd[0], (struct sockaddr *)&ss, &len) != 0 ||
        getnameinfo((struct sockaddr *)&ss, len, v->info.host, sizeof(v->info.host),
                    v->info.service, sizeof(v->info.service),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        snprintf(errbuf, errlen, "VNC: cannot tell the address listened on: %s", strerror(errno));
        return false;
    }
    v->info.family = family_name(ss.ss_family);
    return true;
}

static bool listen_unix(struct vnc *v, char *errbuf, size_t errlen)
{
    const char *path = v->cfg.unix_path;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct stat st;
    int err;

    if (strlen(path) >= sizeof(sa.sun_path)) {
        snprintf(errbuf, errlen, "VNC: socket path '%s' is too long", path);
        return false;
    }
    memcpy(sa.sun_path, path, strlen(path) + 1);
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        /* A socket that nobody serves is left over from a process that was killed. */
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 &&
            errno == ECONNREFUSED) {
            unlink(path);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    err = listen_on(v, (struct sockaddr *)&sa, sizeof(sa));
    if (err != 0) {
        snprintf(errbuf, errlen, "VNC: cannot listen on unix:%s: %s", path, strerror(-err));
        return false;
    }
    v->unix_bound = true;
    snprintf(v->info.service, sizeof(v->info.service), "%s", path);
    v->info.family = family_name(AF_UNIX);
    return true;
}

/* ---- life ---- */

static bool copy_string(const char **to, const char *from)
{
    *to = from != NULL ? strdup(from) : NULL;
    return from == NULL || *to != NULL;
}

static void vnc_free(struct vnc *v)
{
    vnc_ui_destroy(v->ui);
    loop_unwatch(&v->up_watch);
    display_remove_viewer(v->display, v);
    input_unwatch(v->input, v);
    close_listeners(v);
    if (v->unix_bound) {
        unlink(v->cfg.unix_path);
    }
    if (v->up_fd >= 0) {
        close(v->up_fd);
    }
    if (v->wake_fd >= 0) {
        close(v->wake_fd);
    }
    pthread_mutex_destroy(&v->lock);
    explicit_bzero(v->password, sizeof(v->password));
    free((void *)(uintptr_t)v->cfg.host);
    free((void *)(uintptr_t)v->cfg.unix_path);
    free((void *)(uintptr_t)v->cfg.name);
    free(v);
}

struct vnc *vnc_new(struct loop *loop, struct display *d, struct input *in,
                    const struct vnc_config *cfg)
{
    struct vnc *v = calloc(1, sizeof(*v));

    if (v == NULL) {
        return NULL;
    }
    v->cfg = *cfg;
    v->cfg.keymap = NULL; /* not copied: only the table is needed */
    v->keymap = keymap_find(cfg->keymap);
    if (v->keymap == NULL) {
        v->keymap = keymap_find(NULL);
    }
    v->loop = loop;
    v->display = d;
    v->input = in;
    v->info.enabled = true;
    v->info.auth = cfg->password ? "vnc" : "none";
    v->width = display_width(d);
    v->height = display_height(d);
    v->leds = input_leds(in);
    v->absolute = input_has_absolute(in);
    pthread_mutex_init(&v->lock, NULL);
    v->up_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    v->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!copy_string(&v->cfg.host, cfg->host) || !copy_string(&v->cfg.unix_path, cfg->unix_path) ||
        !copy_string(&v->cfg.name, cfg->name != NULL ? cfg->name : "hvm-dm") || v->up_fd < 0 ||
        v->wake_fd < 0 || (v->ui = vnc_ui_create(v)) == NULL ||
        loop_watch(loop, &v->up_watch, v->up_fd, EPOLLIN, on_up, v) != 0 ||
        display_add_viewer(d, &viewer_ops, v) != 0 || input_watch(in, on_input_changed, v) != 0) {
        vnc_free(v);
        return NULL;
    }
    return v;
}

static int start_thread(struct vnc *v)
{
    pthread_attr_t attr;
    sigset_t all, old;
    int err;

    /* Signals are the loop thread's. SIGPIPE too: sendfile() has no way to ask for an error
     * instead. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, UI_STACK_BYTES);
    err = pthread_create(&v->thread, &attr, vnc_ui_main, v->ui);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (err == 0) {
        v->thread_running = true;
        pthread_setname_np(v->thread, "vnc");
    }
    return -err;
}

struct vnc *vnc_create(struct loop *loop, struct display *d, struct input *in,
                       const struct vnc_config *cfg, char *err, size_t errlen)
{
    struct vnc *v = vnc_new(loop, d, in, cfg);

    if (v == NULL) {
        snprintf(err, errlen, "VNC: %s", strerror(errno));
        return NULL;
    }
    if (!(cfg->unix_path != NULL ? listen_unix(v, err, errlen) : listen_tcp(v, err, errlen))) {
        vnc_free(v);
        return NULL;
    }
    if (start_thread(v) != 0) {
        snprintf(err, errlen, "VNC: cannot start a thread");
        vnc_free(v);
        return NULL;
    }
    return v;
}

void vnc_destroy(struct vnc *v)
{
    if (v == NULL) {
        return;
    }
    if (v->thread_running) {
        pthread_mutex_lock(&v->lock);
        v->quit = true;
        wake_ui(v);
        pthread_mutex_unlock(&v->lock);
        pthread_join(v->thread, NULL);
    }
    vnc_free(v);
}

int vnc_set_password(struct vnc *v, const char *password)
{
    if (v == NULL || !v->cfg.password) {
        return -EINVAL;
    }
    pthread_mutex_lock(&v->lock);
    explicit_bzero(v->password, sizeof(v->password));
    v->password_set = password != NULL && password[0] != '\0';
    if (v->password_set) {
        snprintf(v->password, sizeof(v->password), "%.*s", VNC_PASSWORD_MAX, password);
    }
    pthread_mutex_unlock(&v->lock);
    return 0;
}

void vnc_info(struct vnc *v, struct vnc_info *info)
{
    memset(info, 0, sizeof(*info));
    if (v == NULL) {
        return;
    }
    *info = v->info;
    pthread_mutex_lock(&v->lock);
    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        if (v->clients[i].family != NULL) {
            info->clients[info->client_count++] = v->clients[i];
        }
    }
    pthread_mutex_unlock(&v->lock);
}
