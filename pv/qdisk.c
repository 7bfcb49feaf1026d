/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One disk of backend/qdisk: the xenbus states (xen/io/xenbus.h, blkif.h "STATE DIAGRAMS"), its image,
 * connecting and closing. What to do is decided anew from the nodes as they are now each time one of
 * them changes, so that no order of events can confuse it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pv/internal.h"

enum { FRONT_PATH_MAX = 256, PARAMS_MAX = 4096 };

static void end_connection(struct qdisk *d);

/* ---- the image ---- */

/* Splits "<format>:<path>" as libxl writes it. */
static bool set_params(struct qdisk *d, char *params)
{
    static const struct {
        const char *libxl, *ours;
    } names[] = {{"aio", "raw"}, {"vhd", "vpc"}, {"", "raw"}};
    char *colon = strchr(params, ':');
    size_t n = colon != NULL ? (size_t)(colon - params) : 0;

    if (n >= sizeof(d->format)) {
        return false;
    }
    free(d->params);
    d->params = params;
    d->path = colon != NULL ? colon + 1 : params;
    memcpy(d->format, params, n);
    d->format[n] = '\0';
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(d->format, names[i].libxl) == 0) {
            snprintf(d->format, sizeof(d->format), "%s", names[i].ours);
            break;
        }
    }
    return true;
}

/* Opens what params names. No path is no medium, which only a CD drive may have. False: it cannot be
 * opened, which has been logged. */
static bool open_image(struct qdisk *d)
{
    char err[512];
    struct block_config cfg = {
        .path = d->path, .format = d->format, .fd = -1, .readonly = d->readonly, .cdrom = d->cdrom};

    if (d->path[0] == '\0') {
        if (!d->cdrom) {
            log_limited(&d->limit, "%s: no image is named", d->name);
        }
        return d->cdrom;
    }
    d->block = block_open(d->pv->loop, &cfg, err, sizeof(err));
    if (d->block == NULL) {
        log_limited(&d->limit, "%s: %s", d->name, err);
    }
    return d->block != NULL;
}

static void close_image(struct qdisk *d)
{
    block_close(d->block);
    d->block = NULL;
}

static struct pv_node sectors_node(const struct qdisk *d)
{
    struct pv_node n = {.name = "sectors"};
    uint64_t bytes = d->block != NULL ? block_size_bytes(d->block) : 0;

    snprintf(n.value, sizeof(n.value), "%" PRIu64, bytes / BLOCK_SECTOR);
    return n;
}

/* The medium of a CD drive has been changed: the frontend reads the size anew when the state is
 * written again. */
static void change_image(struct qdisk *d)
{
    struct pv_node sectors;

    d->reopen = false;
    close_image(d);
    (void)open_image(d);
    sectors = sectors_node(d);
    trace("qdisk", "medium", "%s: %s, %s sectors", d->name, d->params, sectors.value);
    pv_publish(d, &sectors, 1, d->state);
    bottom_half_schedule(&d->work);
}

void qdisk_params(struct qdisk *d)
{
    char *params = pv_read(d->pv, d->back, "params");

    if (params == NULL || strlen(params) > PARAMS_MAX || strcmp(params, d->params) == 0 ||
        !set_params(d, params)) {
        free(params);
        return;
    }
    if (d->ring != NULL) {
        d->reopen = true;
        bottom_half_schedule(&d->work);
    }
}

/* ---- connecting ---- */

/* The ring's grant references. Returns how many, 0: they make no sense. */
static unsigned ring_refs(struct qdisk *d, uint32_t *refs)
{
    unsigned order =
        pv_read_number(d->pv, d->front, "ring-page-order", QDISK_RING_ORDER, UINT32_MAX);
    unsigned n = order == UINT32_MAX ? 1 : 1u << order;
    char *given = pv_read(d->pv, d->front, "ring-page-order");
    bool many = given != NULL; /* then the names are numbered, whatever the number */

    free(given);
    if (many && order == UINT32_MAX) {
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        char name[24];

        snprintf(name, sizeof(name), "ring-ref%u", i);
        refs[i] =
            pv_read_number(d->pv, d->front, many ? name : "ring-ref", UINT32_MAX - 1, UINT32_MAX);
        if (refs[i] == UINT32_MAX && many && n == 1) {
            refs[i] = pv_read_number(d->pv, d->front, "ring-ref", UINT32_MAX - 1, UINT32_MAX);
        }
        if (refs[i] == UINT32_MAX) {
            return 0;
        }
    }
    return n;
}

/* Maps the ring and binds the event channel. NULL, or what went wrong. */
static const char *connect_ring(struct qdisk *d)
{
    struct pv *pv = d->pv;
    uint32_t refs[1u << QDISK_RING_ORDER];
    unsigned n = ring_refs(d, refs);
    unsigned remote = pv_read_number(pv, d->front, "event-channel", UINT32_MAX - 1, 0);
    bool persistent = pv_read_number(pv, d->front, "feature-persistent", 1, 0) == 1;
    char *protocol = pv_read(pv, d->front, "protocol");
    const struct blkring_abi *abi = blkring_abi(protocol);
    xenevtchn_port_or_error_t port;
    void *pages;

    free(protocol);
    if (n == 0) {
        return "its ring's references make no sense";
    }
    if (abi == NULL) {
        return "its protocol is unknown";
    }
    if (pv_open_devices(pv) != 0) {
        return "Xen's grant or event channel device cannot be opened";
    }
    pages = xengnttab_map_domain_grant_refs(pv->gnttab, n, (uint32_t)pv->domid, refs,
                                            PROT_READ | PROT_WRITE);
    if (pages == NULL) {
        return "its ring cannot be mapped";
    }
    port = xenevtchn_bind_interdomain(pv->evtchn, (uint32_t)pv->domid, remote);
    if (port < 0) {
        xengnttab_unmap(pv->gnttab, pages, n);
        return "its event channel cannot be bound";
    }
    d->ring = blkring_create(d, abi, pages, n, (evtchn_port_t)port, persistent);
    if (d->ring == NULL) {
        xenevtchn_unbind(pv->evtchn, (evtchn_port_t)port);
        xengnttab_unmap(pv->gnttab, pages, n);
        return "out of memory";
    }
    trace("qdisk", "connect", "%s: %u ring pages%s", d->name, n, persistent ? ", persistent" : "");
    return NULL;
}

static void connect_frontend(struct qdisk *d)
{
    struct pv_node sectors;
    const char *problem;

    d->reopen = false;
    if (!open_image(d)) {
        end_connection(d); /* the log says why */
        return;
    }
    problem = connect_ring(d);
    if (problem != NULL) {
        log_limited(&d->limit, "%s: the frontend cannot be served: %s", d->name, problem);
        end_connection(d);
        return;
    }
    sectors = sectors_node(d);
    pv_publish(d, &sectors, 1, XenbusStateConnected);
    bottom_half_schedule(&d->work); /* requests may be there already */
}

/* Releases what the connection holds, nothing being in flight, and says so. */
static void end_connection(struct qdisk *d)
{
    blkring_destroy(d->ring);
    d->ring = NULL;
    close_image(d);
    d->closing = d->reopen = false;
    pv_publish(d, NULL, 0, XenbusStateClosed);
}

/* ---- states ---- */

static void offer(struct qdisk *d)
{
    struct pv_node nodes[12];
    unsigned n = 0;
    unsigned info = (d->cdrom ? VDISK_CDROM : 0u) | (d->readonly ? VDISK_READONLY : 0u) |
                    (d->removable && !d->cdrom ? VDISK_REMOVABLE : 0u);
    const struct {
        const char *name;
        unsigned value;
        bool offered;
    } offers[] = {
        {"feature-flush-cache", 1, true},
        {"feature-persistent", 1, true},
        {"feature-max-indirect-segments", QDISK_SEGMENTS, true},
        {"max-ring-page-order", QDISK_RING_ORDER, true},
        {"feature-discard", 1, d->discard},
        {"discard-granularity", QDISK_DISCARD_BYTES, d->discard},
        {"discard-alignment", 0, d->discard},
        {"info", info, true},
        {"sector-size", BLOCK_SECTOR, true},
    };

    for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
        if (offers[i].offered) {
            nodes[n].name = offers[i].name;
            snprintf(nodes[n++].value, sizeof(nodes[0].value), "%u", offers[i].value);
        }
    }
    nodes[n++] = (struct pv_node){"hotplug-status", "connected"};
    pv_publish(d, nodes, n, XenbusStateInitWait);
}

static void free_disk(struct qdisk *d)
{
    char path[FRONT_PATH_MAX + 16], token[16];

    for (struct qdisk **p = &d->pv->disks; *p != NULL; p = &(*p)->next) {
        if (*p == d) {
            *p = d->next;
            break;
        }
    }
    bottom_half_cancel(&d->work);
    if (d->watched) {
        snprintf(path, sizeof(path), "%s/state", d->front);
        snprintf(token, sizeof(token), "f%u", d->dev);
        xs_unwatch(d->pv->xs, path, token);
    }
    free(d->front);
    free(d->params);
    free(d);
}

/* Begins to close the connection. */
static void close_ring(struct qdisk *d)
{
    d->closing = true;
    bottom_half_schedule(&d->work);
}

/* The toolstack wants the disk to end: as soon as the frontend has let go of it. May free d. */
static void update_ending(struct qdisk *d, unsigned front, bool online)
{
    bool held = front == XenbusStateInitialised || front == XenbusStateConnected ||
                front == XenbusStateClosing;

    if (d->ring != NULL && held) {
        if (d->state != XenbusStateClosing) {
            pv_publish(d, NULL, 0, XenbusStateClosing);
        }
        return;
    }
    if (d->ring != NULL) {
        close_ring(d);
        return;
    }
    if (d->state != XenbusStateClosed) {
        pv_publish(d, NULL, 0, XenbusStateClosed);
    }
    if (!online) {
        free_disk(d);
    }
}

void qdisk_update(struct qdisk *d)
{
    struct pv *pv = d->pv;
    unsigned node = pv_read_number(pv, d->back, "state", XenbusStateReconfigured, 0);
    bool online = pv_read_number(pv, d->back, "online", 1, 0) == 1;
    unsigned front = pv_read_number(pv, d->front, "state", XenbusStateReconfigured, 0);

    trace("qdisk", "states", "%s: back %u (%u), front %u, online %d", d->name, node,
          (unsigned)d->state, front, online);
    if (d->closing) {
        d->gone |= node == 0;
        return; /* looked at again when it is closed */
    }
    if (node == 0) {
        d->gone = true;
        if (d->ring != NULL) {
            close_ring(d);
        } else {
            free_disk(d);
        }
        return;
    }
    if (!online || (node == XenbusStateClosing && d->state != XenbusStateClosed)) {
        update_ending(d, front, online);
        return;
    }
    if (d->state == XenbusStateInitialising) {
        offer(d);
    }
    switch (front) {
    case XenbusStateInitialising:
        if (d->ring != NULL) { /* it started anew without a word */
            close_ring(d);
        } else if (d->state == XenbusStateClosed) {
            offer(d);
        }
        break;
    case XenbusStateInitialised:
    case XenbusStateConnected:
        if (d->ring == NULL && d->state == XenbusStateInitWait) {
            connect_frontend(d);
        }
        break;
    case XenbusStateClosing:
        if (d->ring != NULL && d->state == XenbusStateConnected) {
            pv_publish(d, NULL, 0, XenbusStateClosing);
        }
        break;
    case XenbusStateUnknown:
    case XenbusStateClosed:
        if (d->ring != NULL) {
            close_ring(d);
        } else if (front == XenbusStateClosed && d->state == XenbusStateInitWait) {
            pv_publish(d, NULL, 0, XenbusStateClosed);
        }
        break;
    default: /* a frontend in between, or nonsense */
        break;
    }
}

static void work(void *arg)
{
    struct qdisk *d = arg;

    if (d->ring == NULL) {
        return;
    }
    blkring_work(d->ring);
    if (blkring_in_flight(d->ring) > 0) {
        return; /* whoever waits for it comes back here */
    }
    if (d->closing) {
        end_connection(d);
        if (d->gone) {
            free_disk(d);
        } else {
            qdisk_update(d);
        }
    } else if (d->reopen) {
        change_image(d);
    }
}

void qdisk_event(struct qdisk *d)
{
    work(d);
}

bool qdisk_runs(const struct qdisk *d)
{
    return d->pv->running && !d->closing && !d->reopen;
}

void qdisk_broken(struct qdisk *d, const char *why)
{
    log_limited(&d->limit, "%s: the frontend is no longer served: %s", d->name, why);
    close_ring(d);
}

void qdisk_drain(struct qdisk *d)
{
    if (d->ring != NULL && d->block != NULL) {
        block_drain(d->block);
        while (blkring_in_flight(d->ring) > 0) {
            blkring_work(d->ring); /* a barrier that waited, a second step */
            block_drain(d->block);
        }
        blkring_push(d->ring);
    }
}

/* ---- life ---- */

struct qdisk *qdisk_create(struct pv *pv, unsigned dev)
{
    struct qdisk *d;
    char path[FRONT_PATH_MAX + 16], prefix[32], token[16];
    char *params, *text;
    unsigned state;

    d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return NULL;
    }
    d->pv = pv;
    d->dev = dev;
    bottom_half_init(&d->work, pv->loop, work, d);
    snprintf(d->name, sizeof(d->name), "qdisk-%u", dev);
    snprintf(d->back, sizeof(d->back), "%s/%u", pv->base, dev);
    snprintf(prefix, sizeof(prefix), "/local/domain/%d/", pv->domid);
    state = pv_read_number(pv, d->back, "state", XenbusStateReconfigured, 0);
    d->front = pv_read(pv, d->back, "frontend");
    params = pv_read(pv, d->back, "params");
    /* Closed: by a device model before us. Anything else is not ours (yet). */
    if ((state != XenbusStateInitialising && state != XenbusStateClosed) ||
        pv_read_number(pv, d->back, "online", 1, 0) != 1 || d->front == NULL || params == NULL ||
        strlen(d->front) > FRONT_PATH_MAX || strlen(params) > PARAMS_MAX ||
        strncmp(d->front, prefix, strlen(prefix)) != 0 || !set_params(d, params)) {
        free(d->front);
        free(params);
        free(d);
        return NULL;
    }
    d->state = (enum xenbus_state)state;
    text = pv_read(pv, d->back, "mode");
    d->readonly = text == NULL || strcmp(text, "w") != 0;
    free(text);
    text = pv_read(pv, d->back, "device-type");
    d->cdrom = text != NULL && strcmp(text, "cdrom") == 0;
    free(text);
    d->readonly |= d->cdrom;
    d->removable = pv_read_number(pv, d->back, "removable", 1, 0) == 1;
    d->discard = !d->readonly && pv_read_number(pv, d->back, "discard-enable", 1, 1) == 1;
    d->next = pv->disks;
    pv->disks = d;
    snprintf(path, sizeof(path), "%s/state", d->front);
    snprintf(token, sizeof(token), "f%u", dev);
    d->watched = xs_watch(pv->xs, path, token);
    if (!d->watched) {
        log_limited(&d->limit, "%s: its frontend cannot be watched: %s", d->name, strerror(errno));
    }
    return d;
}

void qdisk_destroy(struct qdisk *d)
{
    d->closing = true;
    qdisk_drain(d);
    end_connection(d);
    free_disk(d);
}
