/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors that a client passed in (SCM_RIGHTS) and that commands open as "/dev/fdset/N". */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "monitor/qmp_priv.h"

static bool set_exists(const struct qmp *q, int64_t set)
{
    for (unsigned i = 0; i < q->fd_count; i++) {
        if (q->fds[i].set == set) {
            return true;
        }
    }
    return false;
}

static void drop_fd(struct qmp *q, unsigned i)
{
    close(q->fds[i].fd);
    free(q->fds[i].opaque);
    q->fd_count--;
    memmove(&q->fds[i], &q->fds[i + 1], (q->fd_count - i) * sizeof(q->fds[0]));
}

void qmp_fdset_clear(struct qmp *q)
{
    while (q->fd_count) {
        drop_fd(q, q->fd_count - 1);
    }
}

static int add_fd(struct qmp *q, void *opaque, struct json_object *args,
                  struct json_object **result, struct qmp_error *e)
{
    struct qmp_session *s = q->current;
    const char *note = qmp_arg_string(args, "opaque", NULL);
    int64_t set = qmp_arg_int(args, "fdset-id", -1);
    struct qmp_fd *entry = &q->fds[q->fd_count];

    (void)opaque;
    if (s->pending_count == 0) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "No file descriptor supplied via SCM_RIGHTS");
    }
    if (set < 0 && json_object_object_get_ex(args, "fdset-id", NULL)) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "Parameter 'fdset-id' expects a non-negative value");
    }
    if (q->fd_count == QMP_MAX_FDS) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "More than %d file descriptors; use remove-fd",
                        QMP_MAX_FDS);
    }
    for (set = set < 0 ? 0 : set;
         !json_object_object_get_ex(args, "fdset-id", NULL) && set_exists(q, set); set++) {
    }
    *entry = (struct qmp_fd){
        .set = set, .fd = s->pending_fds[0], .opaque = note ? strndup(note, 4096) : NULL};
    q->fd_count++;
    s->pending_count--;
    memmove(&s->pending_fds[0], &s->pending_fds[1], s->pending_count * sizeof(s->pending_fds[0]));
    *result = json_object_new_object();
    json_object_object_add(*result, "fdset-id", json_object_new_int64(set));
    json_object_object_add(*result, "fd", json_object_new_int(entry->fd));
    return 0;
}

static int remove_fd(struct qmp *q, void *opaque, struct json_object *args,
                     struct json_object **result, struct qmp_error *e)
{
    int64_t set = qmp_arg_int(args, "fdset-id", -1);
    int64_t fd = qmp_arg_int(args, "fd", -1);
    bool found = false;

    (void)opaque, (void)result;
    for (unsigned i = q->fd_count; i-- > 0;) {
        if (q->fds[i].set == set && (fd < 0 || q->fds[i].fd == fd)) {
            drop_fd(q, i);
            found = true;
        }
    }
    return found ? 0
                 : qmp_fail(e, QMP_GENERIC_ERROR, "File descriptor named 'fdset-id:%lld' not found",
                            (long long)set);
}

static int query_fdsets(struct qmp *q, void *opaque, struct json_object *args,
                        struct json_object **result, struct qmp_error *e)
{
    (void)opaque, (void)args, (void)e;
    *result = json_object_new_array();
    for (unsigned i = 0; i < q->fd_count; i++) {
        struct json_object *item, *fds;
        bool first = true;

        for (unsigned j = 0; j < i; j++) {
            first &= q->fds[j].set != q->fds[i].set;
        }
        if (!first) {
            continue;
        }
        item = json_object_new_object();
        fds = json_object_new_array();
        for (unsigned j = i; j < q->fd_count; j++) {
            struct json_object *fd;

            if (q->fds[j].set != q->fds[i].set) {
                continue;
            }
            fd = json_object_new_object();
            json_object_object_add(fd, "fd", json_object_new_int(q->fds[j].fd));
            if (q->fds[j].opaque) {
                json_object_object_add(fd, "opaque", qmp_text(q->fds[j].opaque));
            }
            json_object_array_add(fds, fd);
        }
        json_object_object_add(item, "fdset-id", json_object_new_int64(q->fds[i].set));
        json_object_object_add(item, "fds", fds);
        json_object_array_add(*result, item);
    }
    return 0;
}

/* The number in "/dev/fdset/N", or -1. */
static long long set_number(const char *path)
{
    static const char prefix[] = "/dev/fdset/";
    long long set;
    char *end;

    if (strncmp(path, prefix, sizeof(prefix) - 1) != 0 || path[sizeof(prefix) - 1] < '0' ||
        path[sizeof(prefix) - 1] > '9') {
        return -1;
    }
    errno = 0;
    set = strtoll(path + sizeof(prefix) - 1, &end, 10);
    return errno || *end ? -1 : set;
}

const char *qmp_fdset_opaque(struct qmp *q, const char *path)
{
    long long set = set_number(path);

    for (unsigned i = 0; set >= 0 && i < q->fd_count; i++) {
        if (q->fds[i].set == set) {
            return q->fds[i].opaque;
        }
    }
    return NULL;
}

int qmp_fdset_dup(struct qmp *q, const char *path, int flags)
{
    long long set = set_number(path);
    bool found = false;

    if (set < 0) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < q->fd_count; i++) {
        int mode = fcntl(q->fds[i].fd, F_GETFL);

        if (q->fds[i].set != set) {
            continue;
        }
        found = true;
        if (mode >= 0 && (mode & O_ACCMODE) == (flags & O_ACCMODE)) {
            int fd = fcntl(q->fds[i].fd, F_DUPFD_CLOEXEC, 0);

            return fd < 0 ? -errno : fd;
        }
    }
    return found ? -EACCES : -ENOENT;
}

const struct qmp_command qmp_fdset_commands[] = {
    {"add-fd", "fdset-id:i?,opaque:s?", add_fd},
    {"remove-fd", "fdset-id:i,fd:i?", remove_fd},
    {"query-fdsets", "", query_fdsets},
    {NULL, NULL, NULL},
};
