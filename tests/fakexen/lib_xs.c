/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libfakexen.so: libxenstore. Each handle has a request socket and a socket of watch events. */
#include "lib.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <xenstore.h>

struct xs_handle {
    int fd, watch_fd;
    pthread_mutex_t lock;
};

struct xs_handle *xs_open(unsigned long flags)
{
    int fds[2];

    (void)flags;
    if (fx_attach() < 0)
        return NULL;
    struct xs_handle *h = calloc(1, sizeof(*h));
    if (!h || fx_ctl(FX_CTL_XS, NULL, fds, 2) < 0) {
        free(h);
        return NULL;
    }
    h->fd = fds[0];
    h->watch_fd = fds[1];
    pthread_mutex_init(&h->lock, NULL);
    return h;
}

void xs_close(struct xs_handle *xsh)
{
    if (!xsh)
        return;
    close(xsh->fd);
    close(xsh->watch_fd);
    free(xsh);
}

struct xs_handle *xs_daemon_open(void)
{
    return xs_open(0);
}

struct xs_handle *xs_domain_open(void)
{
    return xs_open(0);
}

void xs_daemon_close(struct xs_handle *h)
{
    xs_close(h);
}

/* One request. *out receives the answer's data, NUL terminated, to be freed by the caller (out may
 * be NULL). Returns its length or -1 with errno. */
static int request(struct xs_handle *h, uint32_t op, const char *path, const void *data,
                   size_t data_len, char **out)
{
    size_t path_len = strlen(path) + 1, len = sizeof(struct fx_xs_hdr) + path_len + data_len;
    struct fx_xs_hdr hdr = { .op = op, .path_len = (uint32_t)path_len,
                             .data_len = (uint32_t)data_len };
    int rc = -1;

    if (fx_lib.restricted) {
        errno = EBADF; /* the descriptor is /dev/null now: end of file */
        return -1;
    }
    if (len > FX_XS_MAX) {
        errno = E2BIG;
        return -1;
    }
    char *buf = malloc(FX_XS_MAX + 1);
    if (!buf)
        return -1;
    memcpy(buf, &hdr, sizeof(hdr));
    memcpy(buf + sizeof(hdr), path, path_len);
    if (data_len)
        memcpy(buf + sizeof(hdr) + path_len, data, data_len);
    pthread_mutex_lock(&h->lock);
    ssize_t n = send(h->fd, buf, len, MSG_NOSIGNAL);
    if (n == (ssize_t)len)
        n = recv(h->fd, buf, FX_XS_MAX, 0);
    pthread_mutex_unlock(&h->lock);
    if (n < (ssize_t)sizeof(hdr)) {
        errno = n < 0 ? errno : EBADF;
        goto out;
    }
    memcpy(&hdr, buf, sizeof(hdr));
    if (hdr.error) {
        errno = hdr.error;
        goto out;
    }
    size_t answer = (size_t)n - sizeof(hdr);
    if (out) {
        memmove(buf, buf + sizeof(hdr), answer);
        buf[answer] = '\0';
        *out = buf;
        buf = NULL;
    }
    rc = (int)answer;
out:
    free(buf);
    return rc;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
    char *value;

    (void)t;
    int n = request(h, FX_XS_READ, path, NULL, 0, &value);
    if (n < 0)
        return NULL;
    if (len)
        *len = (unsigned int)n;
    return value;
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data,
              unsigned int len)
{
    (void)t;
    return request(h, FX_XS_WRITE, path, data, len, NULL) >= 0;
}

bool xs_mkdir(struct xs_handle *h, xs_transaction_t t, const char *path)
{
    (void)t;
    return request(h, FX_XS_MKDIR, path, NULL, 0, NULL) >= 0;
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
    (void)t;
    return request(h, FX_XS_RM, path, NULL, 0, NULL) >= 0;
}

/* Turns "a\0b\0" into one allocation holding the pointers and the strings. */
static char **split(const char *data, size_t len, unsigned int *num)
{
    unsigned int n = 0;

    for (size_t i = 0; i < len; i++)
        n += data[i] == '\0';
    char **v = malloc((n + 1) * sizeof(char *) + len + 1);
    if (!v)
        return NULL;
    char *s = (char *)(v + n + 1);
    memcpy(s, data, len);
    s[len] = '\0';
    for (unsigned int i = 0; i < n; i++, s += strlen(s) + 1)
        v[i] = s;
    v[n] = NULL;
    *num = n;
    return v;
}

char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *num)
{
    char *data;

    (void)t;
    int n = request(h, FX_XS_DIR, path, NULL, 0, &data);
    if (n < 0)
        return NULL;
    char **v = split(data, (size_t)n, num);
    free(data);
    return v;
}

bool xs_set_permissions(struct xs_handle *h, xs_transaction_t t, const char *path,
                        struct xs_permissions *perms, unsigned int num_perms)
{
    (void)t;
    (void)perms;
    (void)num_perms;
    return request(h, FX_XS_READ, path, NULL, 0, NULL) >= 0;
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token)
{
    return request(h, FX_XS_WATCH, path, token, strlen(token) + 1, NULL) >= 0;
}

bool xs_unwatch(struct xs_handle *h, const char *path, const char *token)
{
    return request(h, FX_XS_UNWATCH, path, token, strlen(token) + 1, NULL) >= 0;
}

int xs_fileno(struct xs_handle *h)
{
    return h->watch_fd;
}

static char **read_event(struct xs_handle *h, int flags, unsigned int *num)
{
    char buf[8192];
    ssize_t n = recv(h->watch_fd, buf, sizeof(buf), flags);

    if (n <= 0) {
        if (n == 0)
            errno = EBADF;
        return NULL;
    }
    return split(buf, (size_t)n, num);
}

char **xs_read_watch(struct xs_handle *h, unsigned int *num)
{
    return read_event(h, 0, num);
}

char **xs_check_watch(struct xs_handle *h)
{
    unsigned int num;

    return read_event(h, MSG_DONTWAIT, &num);
}

/* Transactions are granted and always succeed: the tests have no second writer. */
xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
    (void)h;
    if (fx_lib.restricted) {
        errno = EBADF;
        return XBT_NULL;
    }
    return 1;
}

bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abort)
{
    (void)h;
    (void)t;
    (void)abort;
    return true;
}

char *xs_get_domain_path(struct xs_handle *h, unsigned int domid)
{
    char *path;

    (void)h;
    if (fx_lib.restricted) {
        errno = EBADF;
        return NULL;
    }
    return asprintf(&path, "/local/domain/%u", domid) < 0 ? NULL : path;
}

bool xs_is_domain_introduced(struct xs_handle *h, unsigned int domid)
{
    (void)h;
    return fx_check_domid(domid) == 0;
}
