/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libxenstore: a list of nodes, watches that fire at once. Transactions see the store itself; they may be made to fail. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <xenstore.h>

#include "tests/unit/xen/xen_fake_int.h"

enum { PATH_LEN = 512 };

struct node {
    struct node *next;
    uint32_t hash; /* of path: comparing texts is slow under a fuzzer */
    char *path, *value;
};

struct watch {
    struct watch *next;
    char *path, *token;
};

struct event {
    struct event *next;
    char *path, *token;
};

static struct node *nodes;
static struct watch *watches;
static struct event *first;
static int event_fd = -1;

static const char *absolute(const char *path, char *buf)
{
    snprintf(buf, PATH_LEN, "%s%s", path[0] == '/' ? "" : "/local/domain/0/", path);
    return buf;
}

static bool below(const char *parent, const char *child)
{
    size_t n = strlen(parent);

    return strncmp(parent, child, n) == 0 && (child[n] == '/' || child[n] == '\0');
}

static void queue(const struct watch *w, const char *path)
{
    struct event **p = &first, *e = calloc(1, sizeof(*e));
    uint64_t one = 1;

    while (*p != NULL) {
        p = &(*p)->next;
    }
    e->path = strdup(path);
    e->token = strdup(w->token);
    *p = e;
    if (write(event_fd, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
        abort();
    }
}

static void fire(const char *path)
{
    char abs[PATH_LEN];

    for (const struct watch *w = watches; w != NULL; w = w->next) {
        absolute(w->path, abs);
        if (below(abs, path)) {
            queue(w, path + (w->path[0] == '/' ? 0 : strlen(abs) - strlen(w->path)));
        }
    }
}

static uint32_t hash(const char *path)
{
    uint32_t h = 5381;

    while (*path != '\0') {
        h = h * 33 + (uint8_t)*path++;
    }
    return h;
}

static struct node *find(const char *path)
{
    struct node *n = nodes;
    uint32_t h = hash(path);

    while (n != NULL && (n->hash != h || strcmp(n->path, path) != 0)) {
        n = n->next;
    }
    return n;
}

void xf_store_write(const char *path, const char *value)
{
    char abs[PATH_LEN];
    struct node *n = find(absolute(path, abs));

    if (n == NULL) {
        n = calloc(1, sizeof(*n));
        n->path = strdup(abs);
        n->hash = hash(abs);
        n->next = nodes;
        nodes = n;
    }
    free(n->value);
    n->value = strdup(value);
    fire(abs);
}

void xf_store_rm(const char *path)
{
    char abs[PATH_LEN];

    absolute(path, abs);
    for (struct node **p = &nodes; *p != NULL;) {
        struct node *n = *p;

        if (below(abs, n->path)) {
            *p = n->next;
            free(n->path);
            free(n->value);
            free(n);
        } else {
            p = &n->next;
        }
    }
    fire(abs);
}

const char *xf_store_read(const char *path)
{
    char abs[PATH_LEN];
    const struct node *n = find(absolute(path, abs));

    return n != NULL ? n->value : NULL;
}

static void free_event(void)
{
    struct event *e = first;

    first = e->next;
    free(e->path);
    free(e->token);
    free(e);
}

void xf_store_create(void)
{
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
}

void xf_store_destroy(void)
{
    while (nodes != NULL) {
        xf_store_rm(nodes->path);
    }
    while (first != NULL) {
        free_event();
    }
    close(event_fd);
}

/* ---- the library ---- */

struct xs_handle *xs_open(unsigned long flags)
{
    (void)flags;
    return xf_open_handle();
}

void xs_close(struct xs_handle *xsh)
{
    (void)xsh;
    for (struct watch *w = watches; w != NULL; w = watches) {
        watches = w->next;
        xf.watches--;
        free(w->path);
        free(w->token);
        free(w);
    }
    xf_close_handle();
}

int xs_fileno(struct xs_handle *h)
{
    (void)h;
    return event_fd;
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned int len)
{
    char value[PATH_LEN];

    (void)h, (void)t;
    if (xf_may(XF_XS_WRITE) != 0) {
        return false;
    }
    snprintf(value, sizeof(value), "%.*s", (int)len, (const char *)data);
    xf_store_write(path, value);
    return true;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
    const char *value = xf_store_read(path);

    (void)h, (void)t;
    if (value == NULL) {
        errno = ENOENT;
        return NULL;
    }
    *len = (unsigned)strlen(value);
    return strdup(value);
}

char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *num)
{
    char abs[PATH_LEN];
    size_t skip = strlen(absolute(path, abs)) + 1;
    char **names = calloc(1, 256 * sizeof(char *) + 256 * 64);
    char *text = (char *)(names + 256);

    (void)h, (void)t;
    *num = 0;
    for (const struct node *n = nodes; n != NULL; n = n->next) {
        bool known = false;

        if (!below(abs, n->path) || n->path[skip - 1] == '\0') {
            continue;
        }
        snprintf(text, 64, "%.*s", (int)strcspn(n->path + skip, "/"), n->path + skip);
        for (unsigned i = 0; i < *num; i++) {
            known |= strcmp(names[i], text) == 0;
        }
        if (!known && *num < 256) {
            names[(*num)++] = text;
            text += 64;
        }
    }
    if (*num == 0) {
        free(names);
        return NULL;
    }
    return names;
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token)
{
    struct watch *w;

    (void)h;
    if (xf_may(XF_XS_WATCH) != 0) {
        return false;
    }
    w = calloc(1, sizeof(*w));
    w->path = strdup(path);
    w->token = strdup(token);
    w->next = watches;
    watches = w;
    xf.watches++;
    queue(w, path); /* every new watch fires once */
    return true;
}

bool xs_unwatch(struct xs_handle *h, const char *path, const char *token)
{
    (void)h;
    for (struct watch **p = &watches; *p != NULL; p = &(*p)->next) {
        struct watch *w = *p;

        if (strcmp(w->path, path) == 0 && strcmp(w->token, token) == 0) {
            *p = w->next;
            xf.watches--;
            free(w->path);
            free(w->token);
            free(w);
            return true;
        }
    }
    errno = ENOENT;
    return false;
}

char **xs_check_watch(struct xs_handle *h)
{
    char **v;
    size_t path;
    uint64_t n;

    (void)h;
    if (read(event_fd, &n, sizeof(n)) != (ssize_t)sizeof(n)) {
        return NULL;
    }
    path = strlen(first->path) + 1;
    v = malloc(2 * sizeof(char *) + path + strlen(first->token) + 1);
    v[XS_WATCH_PATH] = strcpy((char *)(v + 2), first->path);
    v[XS_WATCH_TOKEN] = strcpy((char *)(v + 2) + path, first->token);
    free_event();
    return v;
}

xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
    (void)h;
    return 1;
}

bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abort_it)
{
    (void)h, (void)t;
    return abort_it || xf_may(XF_XS_COMMIT) == 0;
}
