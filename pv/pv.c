/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of disks and how the world reaches them: one xenstore connection with watches, one event
 * channel handle, one grant handle, all apart from those of the ioreq server. The two devices are
 * opened when the first frontend connects: a guest without PV drivers costs nothing but the watch.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "pv/internal.h"

enum {
    EVENTS_PER_TURN = 16, /* of xenstore: each may take some questions */
    EMPTY_WAKEUPS_MAX = 100,
    PUBLISH_TRIES = 10,
};

/* ---- nodes ---- */

char *pv_read(struct pv *pv, const char *dir, const char *name)
{
    char path[512];
    unsigned len;

    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path)) {
        return NULL;
    }
    return xs_read(pv->xs, XBT_NULL, path, &len);
}

/* True for what xs_write()s of numbers look like: digits only. */
static bool parse_number(const char *text, unsigned max, unsigned *out)
{
    uint64_t v = 0;

    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return false;
        }
        v = v * 10 + (uint64_t)(*text - '0');
        if (v > max) {
            return false;
        }
    }
    *out = (unsigned)v;
    return true;
}

unsigned pv_read_number(struct pv *pv, const char *dir, const char *name, unsigned max,
                        unsigned absent)
{
    char *text = pv_read(pv, dir, name);
    unsigned v = absent;

    if (text != NULL && !parse_number(text, max, &v)) {
        v = absent;
    }
    free(text);
    return v;
}

static bool write_node(struct pv *pv, xs_transaction_t t, const char *dir, const char *name,
                       const char *value)
{
    char path[PV_PATH_MAX + 64];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return xs_write(pv->xs, t, path, value, (unsigned)strlen(value));
}

/* One try at writing the nodes in a transaction. 1: done, 0: not to be done, -1 with errno. */
static int try_publish(struct qdisk *d, const struct pv_node *nodes, unsigned n,
                       enum xenbus_state state)
{
    struct pv *pv = d->pv;
    char path[PV_PATH_MAX + 8], digit[12];
    xs_transaction_t t = xs_transaction_start(pv->xs);
    unsigned now, len;
    char *text;
    bool ok;

    if (t == XBT_NULL) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/state", d->back);
    text = xs_read(pv->xs, t, path, &len);
    /* Writing would make the directory again that the toolstack has removed. */
    ok =
        text != NULL && parse_number(text, XenbusStateReconfigured, &now) &&
        (now != XenbusStateClosing || state >= XenbusStateClosing || d->state == XenbusStateClosed);
    free(text);
    if (!ok) {
        xs_transaction_end(pv->xs, t, true);
        return 0;
    }
    for (unsigned i = 0; ok && i < n; i++) {
        ok = write_node(pv, t, d->back, nodes[i].name, nodes[i].value);
    }
    snprintf(digit, sizeof(digit), "%u", (unsigned)state);
    ok = ok && write_node(pv, t, d->back, "state", digit);
    if (!xs_transaction_end(pv->xs, t, !ok)) {
        return -1;
    }
    return ok ? 1 : 0;
}

bool pv_publish(struct qdisk *d, const struct pv_node *nodes, unsigned n, enum xenbus_state state)
{
    int ret = -1;

    for (int i = 0; i < PUBLISH_TRIES && ret < 0; i++) {
        ret = try_publish(d, nodes, n, state);
        if (ret < 0 && errno != EAGAIN) {
            break;
        }
    }
    /* In any case this is what we are: a state that could not be written is not tried again and again. */
    d->state = state;
    return ret > 0;
}

/* ---- watches ---- */

static struct qdisk *find_disk(const struct pv *pv, unsigned dev)
{
    struct qdisk *d = pv->disks;

    while (d != NULL && d->dev != dev) {
        d = d->next;
    }
    return d;
}

static void look_at(struct pv *pv, unsigned dev)
{
    static struct log_limit limit;
    struct qdisk *d = find_disk(pv, dev);
    unsigned count = 0;

    if (d == NULL) {
        for (const struct qdisk *i = pv->disks; i != NULL; i = i->next) {
            count++;
        }
        if (count == PV_DISKS_MAX) {
            log_limited(&limit, "qdisk-%u: there are too many disks", dev);
            return;
        }
        d = qdisk_create(pv, dev);
    }
    if (d != NULL) {
        qdisk_update(d);
    }
}

static void look_at_all(struct pv *pv)
{
    unsigned devs[PV_DISKS_MAX], known = 0, n = 0, dev;
    char **names;

    for (const struct qdisk *d = pv->disks; d != NULL && known < PV_DISKS_MAX; d = d->next) {
        devs[known++] = d->dev;
    }
    for (unsigned i = 0; i < known; i++) {
        look_at(pv, devs[i]); /* may be gone */
    }
    names = xs_directory(pv->xs, XBT_NULL, pv->base, &n);
    for (unsigned i = 0; names != NULL && i < n; i++) {
        if (parse_number(names[i], INT32_MAX, &dev) && find_disk(pv, dev) == NULL) {
            look_at(pv, dev);
        }
    }
    free(names);
}

/* path: of a node at or below base. */
static void on_backend(struct pv *pv, const char *path)
{
    char name[16];
    size_t base = strlen(pv->base);
    const char *rest = path + base, *leaf;
    struct qdisk *d;
    unsigned dev;

    if (strncmp(path, pv->base, base) != 0 || (*rest != '/' && *rest != '\0')) {
        return;
    }
    if (*rest == '\0') {
        look_at_all(pv);
        return;
    }
    rest++;
    leaf = strchr(rest, '/');
    snprintf(name, sizeof(name), "%.*s", leaf != NULL && leaf - rest < 15 ? (int)(leaf - rest) : 15,
             rest);
    if (!parse_number(name, INT32_MAX, &dev)) {
        return;
    }
    /* The others do not change, or are ours. */
    if (leaf == NULL || strcmp(leaf, "/state") == 0 || strcmp(leaf, "/online") == 0) {
        look_at(pv, dev);
    } else if (strcmp(leaf, "/params") == 0 && (d = find_disk(pv, dev)) != NULL) {
        qdisk_params(d);
    }
}

static void on_xenstore(void *arg, uint32_t events)
{
    struct pv *pv = arg;

    (void)events;
    for (unsigned i = 0; i < EVENTS_PER_TURN; i++) {
        char **event = xs_check_watch(pv->xs);
        unsigned dev;

        if (event == NULL) {
            /* A connection that has died would wake us for ever. */
            pv->empty_wakeups = i == 0 ? pv->empty_wakeups + 1 : 0;
            if (pv->empty_wakeups == EMPTY_WAKEUPS_MAX) {
                log_msg("xenstore does not answer any more: no PV disk will come or go");
                loop_unwatch(&pv->xs_watch);
            }
            return;
        }
        pv->empty_wakeups = 0;
        if (event[XS_WATCH_TOKEN][0] == 'b') {
            on_backend(pv, event[XS_WATCH_PATH]);
        } else if (event[XS_WATCH_TOKEN][0] == 'f' &&
                   parse_number(event[XS_WATCH_TOKEN] + 1, INT32_MAX, &dev) &&
                   find_disk(pv, dev) != NULL) {
            look_at(pv, dev);
        }
        free(event);
    }
}

/* ---- event channels ---- */

static void on_event(void *arg, uint32_t events)
{
    struct pv *pv = arg;
    xenevtchn_port_or_error_t port = xenevtchn_pending(pv->evtchn);

    (void)events;
    if (port < 0) {
        return;
    }
    for (struct qdisk *d = pv->disks; d != NULL; d = d->next) {
        if (d->ring != NULL && blkring_port(d->ring) == (evtchn_port_t)port) {
            /* First, so that nothing that comes after our look at the ring is lost. */
            xenevtchn_unmask(pv->evtchn, (evtchn_port_t)port);
            qdisk_event(d);
            return;
        }
    }
}

int pv_open_devices(struct pv *pv)
{
    int ret;

    if (pv->gnttab == NULL && (pv->gnttab = xengnttab_open(pv->logger, 0)) == NULL) {
        return -errno;
    }
    if (pv->evtchn != NULL) {
        return 0;
    }
    pv->evtchn = xenevtchn_open(pv->logger, 0);
    if (pv->evtchn == NULL) {
        return -errno;
    }
    ret = loop_watch(pv->loop, &pv->evtchn_watch, xenevtchn_fd(pv->evtchn), EPOLLIN, on_event, pv);
    if (ret != 0) {
        xenevtchn_close(pv->evtchn);
        pv->evtchn = NULL;
    }
    return ret;
}

/* ---- life ---- */

struct pv *pv_create(struct loop *loop, int domid, char *err, size_t errlen)
{
    struct pv *pv = calloc(1, sizeof(*pv));
    int ret;

    if (pv == NULL) {
        snprintf(err, errlen, "out of memory");
        return NULL;
    }
    pv->loop = loop;
    pv->domid = domid;
    snprintf(pv->base, sizeof(pv->base), "backend/qdisk/%d", domid);
    /* What the libraries say, frontends can make them say: ours is bounded. */
    pv->logger = (xentoollog_logger *)xtl_createlogger_stdiostream(stderr, XTL_CRITICAL, 0);
    pv->xs = xs_open(0);
    if (pv->xs == NULL || !xs_watch(pv->xs, pv->base, "b")) {
        snprintf(err, errlen, "cannot watch %s in xenstore: %s", pv->base, strerror(errno));
        pv_destroy(pv);
        return NULL;
    }
    ret = loop_watch(loop, &pv->xs_watch, xs_fileno(pv->xs), EPOLLIN, on_xenstore, pv);
    if (ret != 0) {
        snprintf(err, errlen, "cannot watch xenstore: %s", strerror(-ret));
        pv_destroy(pv);
        return NULL;
    }
    return pv; /* a new watch fires once: that is the first look */
}

void pv_destroy(struct pv *pv)
{
    if (pv == NULL) {
        return;
    }
    while (pv->disks != NULL) {
        qdisk_destroy(pv->disks);
    }
    loop_unwatch(&pv->evtchn_watch);
    loop_unwatch(&pv->xs_watch);
    if (pv->evtchn != NULL) {
        xenevtchn_close(pv->evtchn);
    }
    if (pv->gnttab != NULL) {
        xengnttab_close(pv->gnttab);
    }
    if (pv->xs != NULL) {
        xs_close(pv->xs);
    }
    if (pv->logger != NULL) {
        xtl_logger_destroy(pv->logger);
    }
    free(pv);
}

void pv_set_running(struct pv *pv, bool running)
{
    if (running == pv->running) {
        return;
    }
    pv->running = running;
    for (struct qdisk *d = pv->disks; d != NULL; d = d->next) {
        if (running) {
            bottom_half_schedule(&d->work);
        } else {
            qdisk_drain(d);
        }
    }
}

bool pv_disk(const struct pv *pv, unsigned i, struct pv_disk *out)
{
    const struct qdisk *d = pv->disks;

    while (d != NULL && i > 0) {
        d = d->next;
        i--;
    }
    if (d == NULL) {
        return false;
    }
    *out = (struct pv_disk){
        .name = d->name,
        .cdrom = d->cdrom,
        .readonly = d->readonly,
        .path = d->path,
        .format = d->format,
        .block = d->block,
    };
    return true;
}
