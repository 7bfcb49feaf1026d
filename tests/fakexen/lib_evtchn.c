/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libfakexen.so: libxenevtchn.
 *
 * A handle is a pipe of port numbers, so its descriptor can be polled, and can be read for several
 * ports at once as /dev/xen/evtchn can. Costs: pending is one read, notify one system call, unmask
 * one write (to the pipe when the port fires again, else to nowhere). Unmasking by writing to the
 * descriptor directly is not supported: use the library call.
 */
#include "lib.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <xenevtchn.h>

struct xenevtchn_handle {
    int fd;       /* pipe, read end */
    int write_fd; /* pipe, write end */
    int sink_fd;  /* /dev/null */
    uint32_t number;
};

static void queue_port(const struct fx_local_port *p, evtchn_port_t port)
{
    ssize_t n = write(fx_lib.evtchn_write_fd[p->handle], &port, sizeof(port));
    (void)n; /* the pipe holds more entries than there are ports */
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
    int fds[2];
    uint32_t number = 0;
    xenevtchn_handle *h;

    (void)logger;
    (void)flags;
    if (fx_attach() < 0)
        return NULL;
    h = calloc(1, sizeof(*h));
    if (!h)
        return NULL;
    if (fx_ctl(FX_CTL_EVTCHN, &number, fds, 2) < 0) {
        free(h);
        return NULL;
    }
    h->fd = fds[0];
    h->write_fd = fds[1];
    h->number = number;
    h->sink_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    fx_lib.evtchn_write_fd[number] = h->write_fd;
    return h;
}

static void unbind_locked(struct fx_local_port *p)
{
    struct fx_shared *sh = fx_lib.sh;

    if (p->remote)
        sh->xen_port[p->remote].local = 0;
    p->in_use = false;
    p->remote = 0;
    atomic_store(&p->state, 0);
}

int xenevtchn_close(xenevtchn_handle *xce)
{
    struct fx_shared *sh = fx_lib.sh;

    if (!xce)
        return 0;
    fx_lock(sh);
    for (int i = 0; i < FX_PORTS; i++)
        if (sh->local_port[i].in_use && sh->local_port[i].handle == xce->number)
            unbind_locked(&sh->local_port[i]);
    fx_unlock(sh);
    uint32_t number = xce->number;
    fx_ctl(FX_CTL_EVTCHN_CLOSE, &number, NULL, 0);
    close(xce->fd);
    close(xce->write_fd);
    close(xce->sink_fd);
    free(xce);
    return 0;
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    return xce->fd;
}

/* The caller's port, or NULL with errno: only ports bound through this handle can be used. */
static struct fx_local_port *own_port(xenevtchn_handle *xce, evtchn_port_t port)
{
    struct fx_local_port *p = port < FX_PORTS ? &fx_lib.sh->local_port[port] : NULL;

    if (p && p->in_use && p->handle == xce->number)
        return p;
    errno = ENOTCONN;
    return NULL;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    struct fx_shared *sh = fx_lib.sh;
    struct fx_local_port *p = own_port(xce, port);

    if (!p)
        return -1;
    atomic_fetch_add_explicit(&sh->count[FX_OP_NOTIFY], 1, memory_order_relaxed);
    int32_t vcpu = sh->xen_port[p->remote].vcpu;
    atomic_fetch_add_explicit(&sh->xen_port[p->remote].notified, 1, memory_order_relaxed);
    if (!p->remote || vcpu < 0) {
        fx_hypercall(FX_OP_OTHER); /* nobody waits there; the price is the same */
        return 0;
    }
    atomic_fetch_add(&sh->vcpu_wake[vcpu], 1);
    syscall(SYS_futex, &sh->vcpu_wake[vcpu], FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid,
                                                     evtchn_port_t remote_port)
{
    struct fx_shared *sh = fx_lib.sh;
    xenevtchn_port_or_error_t rc = -1;

    if (fx_check_domid(domid) < 0)
        return -1;
    fx_hypercall(FX_OP_OTHER);
    fx_lock(sh);
    if (!remote_port || remote_port >= FX_PORTS || !sh->xen_port[remote_port].in_use ||
        sh->xen_port[remote_port].local) {
        errno = EINVAL;
        goto out;
    }
    for (uint32_t i = FX_FIRST_LOCAL_PORT; i < FX_PORTS; i++) {
        struct fx_local_port *p = &sh->local_port[i];

        if (p->in_use)
            continue;
        p->in_use = true;
        p->handle = xce->number;
        p->remote = remote_port;
        sh->xen_port[remote_port].local = i;
        /* Xen marks a freshly bound port pending, in case the other end fired before. */
        atomic_store(&p->state, FX_PORT_MASKED);
        queue_port(p, i);
        rc = (xenevtchn_port_or_error_t)i;
        goto out;
    }
    errno = ENOSPC;
out:
    fx_unlock(sh);
    return rc;
}

xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle *xce, uint32_t domid)
{
    (void)xce;
    (void)domid;
    errno = ENOSYS;
    return -1;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned int virq)
{
    (void)xce;
    (void)virq;
    errno = ENOSYS;
    return -1;
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
    struct fx_shared *sh = fx_lib.sh;
    int rc = -1;

    fx_hypercall(FX_OP_OTHER);
    fx_lock(sh);
    struct fx_local_port *p = own_port(xce, port);
    if (p) {
        unbind_locked(p);
        rc = 0;
    }
    fx_unlock(sh);
    return rc;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    evtchn_port_t port;

    atomic_fetch_add_explicit(&fx_lib.sh->count[FX_OP_PENDING], 1, memory_order_relaxed);
    if (read(xce->fd, &port, sizeof(port)) != sizeof(port))
        return -1;
    return (xenevtchn_port_or_error_t)port;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    struct fx_local_port *p = own_port(xce, port);

    if (!p)
        return -1;
    atomic_fetch_add_explicit(&fx_lib.sh->count[FX_OP_UNMASK], 1, memory_order_relaxed);
    if (fx_port_unmask(p)) {
        queue_port(p, port);
    } else {
        ssize_t n = write(xce->sink_fd, &port, sizeof(port));
        (void)n;
    }
    return 0;
}

int xenevtchn_restrict(xenevtchn_handle *xce, domid_t domid)
{
    (void)xce;
    return fx_check_domid(domid);
}
