/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VNC server's thread: poll loop and copy of the picture. See vnc_int.h. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "ui/vnc_int.h"

enum {
    ACCEPTS_PER_TURN = 8,
    MODIFIED_MAX_RECTS = 256, /* of a client that does not fetch them */
};
static const uint64_t accept_pause_ns = 1000000000ull;
static const uint64_t kick_interval_ns = 5000000ull;

uint64_t vnc_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

void vnc_ui_kick(struct vnc_ui *ui)
{
    uint64_t now = vnc_now_ns();

    if (now - ui->kick_ns >= kick_interval_ns) {
        ui->kick_ns = now;
        atomic_store(&ui->v->want_kick, true);
        vnc_signal_loop(ui->v);
    }
}

/* ---- libvncserver's screen ---- */

static void lib_quiet(const char *format, ...)
{
    (void)format;
}

static void lib_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void lib_error(const char *format, ...)
{
    static struct log_limit limit;
    char line[160];
    va_list ap;
    int n;

    if (strncmp(format, "WARNING:", 8) == 0) {
        return; /* that a width is not a multiple of 4 troubled viewers of the 1990s */
    }
    va_start(ap, format);
    n = vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    if (n > 0) {
        /* It may quote what a client sent. */
        log_guest(&limit, "VNC", line, strcspn(line, "\n"));
    }
}

/* passwordCheck hook. */
static rfbBool check_password(rfbClientPtr cl, const char *response, int len)
{
    struct vnc *v = cl->screen->screenData;
    uint8_t expect[CHALLENGESIZE];
    char password[VNC_PASSWORD_MAX + 1];
    unsigned diff = 0;
    bool set;

    pthread_mutex_lock(&v->lock);
    set = v->password_set;
    memcpy(password, v->password, sizeof(password));
    pthread_mutex_unlock(&v->lock);
    memcpy(expect, cl->authChallenge, sizeof(expect));
    rfbEncryptBytes(expect, password);
    explicit_bzero(password, sizeof(password));
    for (int i = 0; i < CHALLENGESIZE; i++) {
        diff |= i < len ? expect[i] ^ (unsigned)(uint8_t)response[i] : 1u;
    }
    return set && diff == 0;
}

/* Our pixel layout, 0x00RRGGBB; libvncserver assumes another one each time it is told a frame
 * buffer. */
static void set_format(rfbScreenInfoPtr s)
{
    s->depth = 24;
    s->serverFormat.depth = 24;
    s->serverFormat.redShift = 16;
    s->serverFormat.greenShift = 8;
    s->serverFormat.blueShift = 0;
}

static bool screen_create(struct vnc_ui *ui)
{
    rfbScreenInfoPtr s;
    int width, height;

    rfbLog = lib_quiet;
    rfbErr = lib_error;
    pthread_mutex_lock(&ui->v->lock);
    width = ui->v->width;
    height = ui->v->height;
    pthread_mutex_unlock(&ui->v->lock);
    s = rfbGetScreen(NULL, NULL, width, height, 8, 3, 4);
    if (s == NULL) {
        return false;
    }
    set_format(s);
    /* rfbInitServer() is never called: it would open ports, the HTTP server's too. */
    s->screenData = ui->v;
    s->desktopName = ui->v->cfg.name;
    s->cursor = NULL; /* we draw it */
    s->deferUpdateTime = 0;
    s->maxClientWait = 1; /* ms; nothing here makes it wait, but should it, then not for its 20 s */
    s->permitFileTransfer = FALSE;
    s->ignoreSIGPIPE = FALSE;
    if (ui->v->cfg.password) {
        s->authPasswdData = ui->v;
        s->passwordCheck = check_password;
    }
    ui->screen = s;
    return true;
}

/* ---- the picture ---- */

static void picture_free(struct vnc_ui *ui)
{
    if (ui->pixels != NULL) {
        munmap(ui->pixels, ui->pixel_bytes);
    }
    ui->pixels = NULL;
    ui->pixel_bytes = 0;
    ui->cursor_rect.w = 0;
    if (ui->screen != NULL) {
        ui->screen->frameBuffer = NULL;
    }
}

/* A new copy of that size; the old one is freed. */
static bool picture_alloc(struct vnc_ui *ui, int width, int height)
{
    static struct log_limit limit;
    size_t bytes = (size_t)width * (size_t)height * sizeof(uint32_t);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int slice = VNC_UPDATE_MAX_BYTES / (width * (int)sizeof(uint32_t));
    rfbScreenInfoPtr s = ui->screen;

    if (p == MAP_FAILED) {
        log_limited(&limit, "VNC: no memory for a picture of %dx%d", width, height);
        return false;
    }
    picture_free(ui);
    ui->pixels = p;
    ui->pixel_bytes = bytes;
    ui->width = width;
    ui->height = height;
    s->progressiveSliceHeight = slice < height ? slice : 0;
    if (s->width == width && s->height == height) {
        s->frameBuffer = p;
        return true;
    }
    rfbNewFramebuffer(s, p, width, height, 8, 3, 4);
    set_format(s);
    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        struct vnc_client *c = ui->clients[i];

        if (c != NULL && c->rfb != NULL && c->rfb->sock != RFB_INVALID_SOCKET) {
            s->setTranslateFunction(c->rfb);
        }
    }
    return true;
}

/* Adds r to the changes. */
static void mark(struct vnc_ui *ui, sraRegionPtr changed, struct rect r)
{
    if (rect_clip(&r, ui->width, ui->height)) {
        sraRegionPtr more = sraRgnCreateRect(r.x, r.y, r.x + r.w, r.y + r.h);

        sraRgnOr(changed, more);
        sraRgnDestroy(more);
    }
}

static uint32_t *pixel_row(struct vnc_ui *ui, int y)
{
    return ui->pixels + (size_t)y * (size_t)ui->width;
}

/* Takes the cursor off the copy. */
static void cursor_hide(struct vnc_ui *ui)
{
    struct rect r = ui->cursor_rect;

    for (int y = 0; y < r.h && r.w > 0; y++) {
        memcpy(pixel_row(ui, r.y + y) + r.x, &ui->under[y * r.w], (size_t)r.w * sizeof(uint32_t));
    }
    ui->cursor_rect.w = 0;
}

static void cursor_show(struct vnc_ui *ui)
{
    struct rect r = {ui->cursor.x, ui->cursor.y, ui->cursor.width, ui->cursor.height};

    if (!ui->cursor.visible || !rect_clip(&r, ui->width, ui->height)) {
        return;
    }
    for (int y = 0; y < r.h; y++) {
        memcpy(&ui->under[y * r.w], pixel_row(ui, r.y + y) + r.x, (size_t)r.w * sizeof(uint32_t));
        display_cursor_blend(&ui->cursor, pixel_row(ui, r.y + y), r.y + y, ui->width);
    }
    ui->cursor_rect = r;
}

/* Before they are copied: did some of these changes only move? */
static void find_scroll(struct vnc_ui *ui, const uint32_t *from, size_t stride,
                        const struct rects *dirty, struct vnc_scroll *scroll)
{
    struct rect area = dirty->count > 0 ? dirty->r[0] : (struct rect){0, 0, 0, 0};

    if (!vnc_scroll_wanted(ui)) {
        return;
    }
    for (int i = 1; i < dirty->count; i++) {
        area = rect_union(area, dirty->r[i]);
    }
    if (rect_clip(&area, ui->width, ui->height) && area.h >= ui->height / 4) {
        vnc_scroll_found(
            ui, vnc_scroll_find(from, stride, ui->pixels, (size_t)ui->width, area, scroll));
    }
}

/* Copies what changed from the display's surface, and says what of it only moved. */
static void picture_copy(struct vnc_ui *ui, struct rects *dirty, struct vnc_scroll *scroll)
{
    struct vnc *v = ui->v;
    const uint32_t *from;
    int width, height, stride;
    bool all;

    display_lock(v->display);
    from = display_pixels(v->display, &width, &height, &stride);
    pthread_mutex_lock(&v->lock);
    *dirty = v->dirty;
    v->dirty.count = 0;
    v->drawn = false;
    pthread_mutex_unlock(&v->lock);
    all = ui->pixels == NULL || width != ui->width || height != ui->height;
    if (from == NULL || (all && !picture_alloc(ui, width, height))) {
        display_unlock(v->display);
        return;
    }
    if (all) {
        dirty->count = 1;
        dirty->r[0] = (struct rect){0, 0, width, height};
    } else {
        find_scroll(ui, from, (size_t)stride / sizeof(uint32_t), dirty, scroll);
    }
    for (int i = 0; i < dirty->count; i++) {
        struct rect r = dirty->r[i];

        if (!rect_clip(&r, width, height)) {
            continue;
        }
        for (int y = r.y; y < r.y + r.h; y++) {
            memcpy(pixel_row(ui, y) + r.x,
                   from + (size_t)y * ((size_t)stride / sizeof(uint32_t)) + r.x,
                   (size_t)r.w * sizeof(uint32_t));
        }
    }
    display_unlock(v->display);
}

/* Tells the clients what changed. */
static void picture_changed(struct vnc_ui *ui, sraRegionPtr changed, const struct vnc_scroll *s,
                            struct rect cursor_was)
{
    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        struct vnc_client *c = ui->clients[i];

        if (c != NULL && c->rfb != NULL) {
            vnc_scroll_client(c, changed, s, cursor_was, ui->cursor_rect);
            vnc_bound_region(&c->rfb->modifiedRegion, MODIFIED_MAX_RECTS);
        }
    }
}

/* Movements that were not sent are changes like others from now on. */
static void cancel_scrolls(struct vnc_ui *ui)
{
    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        if (ui->clients[i] != NULL && ui->clients[i]->rfb != NULL) {
            vnc_scroll_cancel(ui->clients[i]);
        }
    }
}

/* Brings the copy up to date. */
static void picture_sync(struct vnc_ui *ui)
{
    struct vnc *v = ui->v;
    struct rects dirty = {.count = 0};
    struct vnc_scroll scroll = {.dy = 0};
    struct rect cursor_was = ui->cursor_rect;
    sraRegionPtr changed;
    bool drawn, moved;

    pthread_mutex_lock(&v->lock);
    drawn = v->drawn;
    moved = v->cursor_changed;
    pthread_mutex_unlock(&v->lock);
    if (ui->viewers == 0 || (!drawn && !moved && ui->pixels != NULL)) {
        return;
    }
    cancel_scrolls(ui);
    if (ui->pixels != NULL) {
        cursor_hide(ui);
    }
    if (drawn || ui->pixels == NULL) {
        picture_copy(ui, &dirty, &scroll);
    }
    if (ui->pixels == NULL) {
        return;
    }
    if (moved) {
        pthread_mutex_lock(&v->lock);
        ui->cursor = v->cursor;
        v->cursor_changed = false;
        pthread_mutex_unlock(&v->lock);
    }
    cursor_show(ui);
    changed = sraRgnCreate();
    if (moved) {
        mark(ui, changed, cursor_was);
        mark(ui, changed, ui->cursor_rect);
    }
    for (int i = 0; i < dirty.count; i++) {
        mark(ui, changed, dirty.r[i]);
    }
    picture_changed(ui, changed, &scroll, cursor_was);
    sraRgnDestroy(changed);
}

/* ---- clients ---- */

/* Tells the loop thread when the first viewer comes or the last one goes. */
static void count_viewers(struct vnc_ui *ui)
{
    int n = 0;

    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        n += ui->clients[i] != NULL && ui->clients[i]->stage >= VNC_WAIT_PICTURE;
    }
    if ((n > 0) != (ui->viewers > 0)) {
        if (n == 0) {
            picture_free(ui);
            free(ui->tight);
            ui->tight = NULL;
            /* The encoders' buffers: some hundred KiB that the next viewer may need in a year. */
            malloc_trim(0);
        } else {
            atomic_store(&ui->v->want_full, true);
        }
        atomic_store(&ui->v->want_picture, n > 0);
        vnc_signal_loop(ui->v);
    }
    ui->viewers = n;
}

/* Tells the loop thread whether a new picture would go anywhere. */
static void tell_wanted(struct vnc_ui *ui)
{
    struct vnc *v = ui->v;
    bool wants = false;

    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        wants |= ui->clients[i] != NULL && vnc_client_wants_picture(ui->clients[i]);
    }
    atomic_store(&v->want_update, wants);
    if (wants && atomic_exchange(&v->parked, false)) {
        vnc_signal_loop(v);
    }
}

static void drop(struct vnc_ui *ui, int slot)
{
    vnc_client_destroy(ui->clients[slot]);
    ui->clients[slot] = NULL;
    pthread_mutex_lock(&ui->v->lock);
    ui->v->clients[slot].family = NULL;
    pthread_mutex_unlock(&ui->v->lock);
}

/* A free slot; when all are taken, that of the oldest client that has not got past authentication.
 * -1: none. */
static int find_slot(struct vnc_ui *ui)
{
    int oldest = -1;

    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        const struct vnc_client *c = ui->clients[i];

        if (c == NULL) {
            return i;
        }
        if (c->stage < VNC_WAIT_PICTURE &&
            (oldest < 0 || c->since_ns < ui->clients[oldest]->since_ns)) {
            oldest = i;
        }
    }
    if (oldest >= 0) {
        drop(ui, oldest);
    }
    return oldest;
}

void vnc_ui_accept(struct vnc_ui *ui, int fd)
{
    static struct log_limit limit;
    struct vnc_client_info info = {.family = "unix"};
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    const int one = 1;
    int slot;

    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        close(fd);
        return;
    }
    if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0 &&
        (ss.ss_family == AF_INET || ss.ss_family == AF_INET6)) {
        info.family = ss.ss_family == AF_INET6 ? "ipv6" : "ipv4";
        getnameinfo((struct sockaddr *)&ss, len, info.host, sizeof(info.host), info.service,
                    sizeof(info.service), NI_NUMERICHOST | NI_NUMERICSERV);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    }
    slot = find_slot(ui);
    if (slot < 0 || (ui->screen == NULL && !screen_create(ui))) {
        log_limited(&limit, "VNC: too many clients, %s refused", info.host);
        close(fd);
        return;
    }
    ui->clients[slot] = vnc_client_create(ui, slot, fd);
    if (ui->clients[slot] != NULL) {
        pthread_mutex_lock(&ui->v->lock);
        ui->v->clients[slot] = info;
        pthread_mutex_unlock(&ui->v->lock);
    }
}

/* Acts on deadlines that have passed. Returns how long poll() may wait: at most max_wait_ms (-1: no
 * end). */
static int deadlines(struct vnc_ui *ui, int max_wait_ms)
{
    uint64_t now = vnc_now_ns();

    if (ui->accept_again_ns != 0 && ui->accept_again_ns <= now) {
        ui->accept_again_ns = 0;
    } else if (ui->accept_again_ns != 0 && (max_wait_ms < 0 || max_wait_ms > 100)) {
        max_wait_ms = 100;
    }
    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        struct vnc_client *c = ui->clients[i];
        uint64_t when, ms;

        if (c != NULL && c->more && !vnc_client_unsent(c)) {
            ms = c->wait_ns > now ? (c->wait_ns - now) / 1000000 + 1 : 0;
            if (max_wait_ms < 0 || ms < (uint64_t)max_wait_ms) {
                max_wait_ms = (int)ms;
            }
        }
        if (c == NULL || (c->deadline_ns == 0 && c->stall_ns == 0)) {
            continue;
        }
        when = c->deadline_ns == 0 || (c->stall_ns != 0 && c->stall_ns < c->deadline_ns)
                   ? c->stall_ns
                   : c->deadline_ns;
        if (when > now) {
            ms = (when - now) / 1000000 + 1;
        } else if (c->stage == VNC_WAIT_PICTURE && !c->closing && when == c->deadline_ns) {
            c->deadline_ns = 0;
            vnc_client_process(c);
            ms = 0;
        } else if (c->stage == VNC_WAIT_FIRST && !c->closing) {
            vnc_client_readable(c); /* what came while we were kept from running is in time */
            if (c->stage == VNC_WAIT_FIRST && !c->closing && c->deadline_ns <= now) {
                vnc_client_greet(c);
            }
            ms = 0;
        } else {
            drop(ui, i);
            ms = 0;
        }
        if (max_wait_ms < 0 || ms < (uint64_t)max_wait_ms) {
            max_wait_ms = (int)ms;
        }
    }
    return max_wait_ms;
}

/* Encodes, sends, forgets clients that are done. */
static void push_all(struct vnc_ui *ui)
{
    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        struct vnc_client *c = ui->clients[i];

        if (c == NULL) {
            continue;
        }
        vnc_client_push(c);
        if (c->closing && !vnc_client_unsent(c)) {
            drop(ui, i);
        }
    }
}

static void accept_all(struct vnc_ui *ui, int listen_fd)
{
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                static struct log_limit limit;

                log_limited(&limit, "VNC: accept: %s", strerror(errno));
                ui->accept_again_ns = vnc_now_ns() + accept_pause_ns;
            }
            return;
        }
        vnc_ui_accept(ui, fd);
    }
}

/* What the loop thread said. false: quit. */
static bool woken(struct vnc_ui *ui)
{
    struct vnc *v = ui->v;
    uint64_t n;
    bool quit;

    (void)!read(v->wake_fd, &n, sizeof(n));
    pthread_mutex_lock(&v->lock);
    v->woken = false;
    quit = v->quit;
    pthread_mutex_unlock(&v->lock);
    if (quit) {
        return false;
    }
    ui->refreshes = atomic_load(&v->refreshes); /* before the copy */
    picture_sync(ui);
    for (int i = 0; i < VNC_MAX_CLIENTS && ui->pixels != NULL; i++) {
        if (ui->clients[i] != NULL && ui->clients[i]->stage == VNC_WAIT_PICTURE) {
            vnc_client_process(ui->clients[i]);
        }
    }
    return true;
}

bool vnc_ui_turn(struct vnc_ui *ui, int max_wait_ms)
{
    struct vnc *v = ui->v;
    struct pollfd fds[1 + VNC_MAX_LISTEN + VNC_MAX_CLIENTS];
    struct vnc_client *polled[VNC_MAX_CLIENTS];
    nfds_t n = 0, first_client;
    int clients = 0;

    max_wait_ms = deadlines(ui, max_wait_ms);
    fds[n++] = (struct pollfd){.fd = v->wake_fd, .events = POLLIN};
    for (int i = 0; i < v->listen_count; i++) {
        fds[n++] =
            (struct pollfd){.fd = v->listen_fd[i], .events = ui->accept_again_ns == 0 ? POLLIN : 0};
    }
    first_client = n;
    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        struct vnc_client *c = ui->clients[i];

        if (c != NULL) {
            short events = vnc_client_wants_input(c) ? POLLIN : 0;

            events |= vnc_client_unsent(c) ? POLLOUT : 0;
            polled[clients++] = c;
            fds[n++] = (struct pollfd){.fd = c->fd, .events = events};
        }
    }
    if (poll(fds, n, max_wait_ms) < 0 && errno != EINTR) {
        static struct log_limit limit;

        log_limited(&limit, "VNC: poll: %s", strerror(errno));
        return false;
    }
    pthread_mutex_lock(&v->lock);
    ui->leds = v->leds;
    ui->absolute = v->absolute;
    pthread_mutex_unlock(&v->lock);
    if (fds[0].revents != 0 && !woken(ui)) {
        return false;
    }
    for (int i = 0; i < clients; i++) {
        short got = fds[first_client + (nfds_t)i].revents;

        if ((got & (POLLERR | POLLHUP)) != 0 && (got & POLLIN) == 0) {
            vnc_client_close(polled[i]);
            vnc_client_discard(polled[i]);
        } else if ((got & POLLIN) != 0) {
            vnc_client_readable(polled[i]);
        }
    }
    count_viewers(ui);
    push_all(ui);
    for (int i = 0; i < v->listen_count; i++) {
        if (fds[1 + i].revents != 0) {
            accept_all(ui, v->listen_fd[i]);
        }
    }
    count_viewers(ui);
    tell_wanted(ui);
    return true;
}

/* ---- life ---- */

struct vnc_ui *vnc_ui_create(struct vnc *v)
{
    struct vnc_ui *ui = calloc(1, sizeof(*ui));

    if (ui != NULL) {
        ui->v = v;
        ui->scratch_fd = -1;
    }
    return ui;
}

void vnc_ui_destroy(struct vnc_ui *ui)
{
    if (ui == NULL) {
        return;
    }
    for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
        if (ui->clients[i] != NULL) {
            drop(ui, i);
        }
    }
    picture_free(ui);
    free(ui->tight);
    if (ui->screen != NULL) {
        rfbScreenCleanup(ui->screen);
    }
    if (ui->scratch_fd >= 0) {
        close(ui->scratch_fd);
    }
    free(ui);
}

void *vnc_ui_main(void *arg)
{
    struct vnc_ui *ui = arg;

    while (vnc_ui_turn(ui, -1)) {
    }
    return NULL;
}
