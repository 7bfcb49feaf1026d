/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libfakexen.so: attaching to the fake hypervisor, libxentoolcore. */
#include "lib.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <xentoolcore.h>

struct fx_lib fx_lib = { .ctl = -1, .shared_fd = -1, .machine_fd = -1 };

static pthread_mutex_t attach_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t ctl_lock = PTHREAD_MUTEX_INITIALIZER;

int fx_ctl(uint32_t op, uint32_t *value, int *fds, int n)
{
    struct fx_ctl_msg msg = { .op = op, .value = value ? *value : 0 };
    struct iovec iov = { &msg, sizeof(msg) };
    union {
        struct cmsghdr hdr;
        char space[CMSG_SPACE(4 * sizeof(int))];
    } control = { 0 };
    struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
    int rc = -1;

    pthread_mutex_lock(&ctl_lock);
    if (send(fx_lib.ctl, &msg, sizeof(msg), MSG_NOSIGNAL) != sizeof(msg))
        goto out;
    hdr.msg_control = &control;
    hdr.msg_controllen = sizeof(control);
    ssize_t got = recvmsg(fx_lib.ctl, &hdr, MSG_CMSG_CLOEXEC);
    if (got != sizeof(msg)) {
        errno = got < 0 ? errno : ECONNRESET;
        goto out;
    }
    if (msg.error) {
        errno = msg.error;
        goto out;
    }
    if (value)
        *value = msg.value;
    if (n) {
        struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);
        if (!c || c->cmsg_len != CMSG_LEN((size_t)n * sizeof(int))) {
            errno = EPROTO;
            goto out;
        }
        memcpy(fds, CMSG_DATA(c), (size_t)n * sizeof(int));
    }
    rc = 0;
out:
    pthread_mutex_unlock(&ctl_lock);
    return rc;
}

int fx_attach(void)
{
    const char *path = getenv("FAKEXEN");
    struct sockaddr_un sun = { .sun_family = AF_UNIX };
    int fds[2], rc = -1;

    if (fx_lib.restricted) {
        errno = EACCES; /* no device nodes in an empty chroot, and no privilege */
        return -1;
    }
    pthread_mutex_lock(&attach_lock);
    if (fx_lib.sh) {
        rc = 0;
        goto out;
    }
    if (!path || strlen(path) >= sizeof(sun.sun_path)) {
        errno = ENOENT;
        goto out;
    }
    strcpy(sun.sun_path, path);
    fx_lib.ctl = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fx_lib.ctl < 0)
        goto out;
    if (connect(fx_lib.ctl, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
        fx_ctl(FX_CTL_ATTACH, NULL, fds, 2) < 0) {
        close(fx_lib.ctl);
        fx_lib.ctl = -1;
        goto out;
    }
    fx_lib.shared_fd = fds[0];
    fx_lib.machine_fd = fds[1];
    void *p = mmap(NULL, sizeof(struct fx_shared), PROT_READ | PROT_WRITE, MAP_SHARED,
                   fx_lib.shared_fd, 0);
    if (p == MAP_FAILED)
        goto out;
    fx_lib.sh = p;
    rc = 0;
out:
    pthread_mutex_unlock(&attach_lock);
    return rc;
}

void fx_hypercall(enum fx_op op)
{
    int saved = errno;

    ioctl(fx_lib.shared_fd, 0x305001, 0); /* not an ioctl of this file: ENOTTY, and that is all */
    atomic_fetch_add_explicit(&fx_lib.sh->count[op], 1, memory_order_relaxed);
    errno = saved;
}

int fx_check_domid(uint32_t domid)
{
    if (domid == fx_lib.sh->domid)
        return 0;
    errno = fx_lib.restricted ? EPERM : ESRCH;
    return -1;
}

int fx_populate(uint64_t gfn)
{
    struct fx_shared *sh = fx_lib.sh;

    if (gfn >= FX_P2M_GFNS)
        return -EINVAL;
    if (sh->tot_pages >= sh->max_pages || sh->next_frame >= FX_FRAMES)
        return -ENOMEM;
    if (!sh->p2m[gfn])
        sh->tot_pages++;
    sh->p2m[gfn] = ++sh->next_frame;
    sh->mem_type[gfn] = HVMMEM_ram_rw;
    if (gfn > sh->max_gfn)
        sh->max_gfn = gfn;
    return 0;
}

void fx_request_invalidate(void)
{
    for (uint32_t i = 0; i < fx_lib.sh->nr_vcpus; i++)
        atomic_store(&fx_lib.sh->mapcache_invalidate[i], 1);
}

int xentoolcore_restrict_all(domid_t domid)
{
    if (!fx_lib.sh)
        return 0; /* no handles: nothing to restrict */
    if (domid != fx_lib.sh->domid) {
        errno = ESRCH;
        return -1;
    }
    fx_hypercall(FX_OP_OTHER);
    fx_lib.restricted = true;
    return 0;
}
