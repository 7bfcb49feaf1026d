/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * floor_dm: a "device model" that only answers, through the same libraries. What it takes is the
 * floor under every device model on this machine. Usage: floor_dm [--spin US] -xen-domid N [...]
 * It answers all ports and 0xd0000000-0xdfffffff with zero, and other arguments are ignored.
 * --spin: after answering, look at the shared page for that long before sleeping.
 */
#include "fx_shared.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <xen/memory.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xenstore.h>

static xenevtchn_handle *evtchn;
static struct ioreq *page;
static unsigned int vcpus;
static evtchn_port_t local[FX_MAX_VCPUS];

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Answers what is READY. Returns how many. */
static unsigned int scan(void)
{
    unsigned int answered = 0;

    for (unsigned int i = 0; i < vcpus; i++) {
        struct ioreq *req = &page[i];
        _Atomic uint8_t *state = (_Atomic uint8_t *)((uint8_t *)req + 30);
        uint8_t byte = atomic_load_explicit(state, memory_order_acquire);

        if ((byte & 0xf) != STATE_IOREQ_READY)
            continue;
        if (req->dir == IOREQ_READ && !req->data_is_ptr)
            req->data = 0;
        atomic_store_explicit(state, (uint8_t)((byte & 0xf0) | STATE_IORESP_READY),
                              memory_order_release);
        xenevtchn_notify(evtchn, local[i]);
        answered++;
    }
    return answered;
}

static void serve(uint64_t spin_ns)
{
    struct pollfd pfd = { xenevtchn_fd(evtchn), POLLIN, 0 };

    for (;;) {
        if (poll(&pfd, 1, -1) < 0)
            return;
        int port = xenevtchn_pending(evtchn);
        if (port < 0)
            return;
        scan();
        for (uint64_t end = now_ns() + spin_ns; spin_ns && now_ns() < end;)
            if (scan())
                end = now_ns() + spin_ns;
        xenevtchn_unmask(evtchn, (evtchn_port_t)port);
    }
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

int main(int argc, char **argv)
{
    uint64_t spin_ns = 0;
    domid_t domid = 0;
    ioservid_t id = 0;
    evtchn_port_t buf_port;
    void *addr = NULL;
    char path[64];

    for (int i = 1; i + 1 < argc; i++) {
        if (!strcmp(argv[i], "--spin"))
            spin_ns = strtoull(argv[i + 1], NULL, 0) * 1000;
        if (!strcmp(argv[i], "-xen-domid"))
            domid = (domid_t)atoi(argv[i + 1]);
    }
    xendevicemodel_handle *dmod = xendevicemodel_open(NULL, 0);
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    evtchn = xenevtchn_open(NULL, 0);
    struct xs_handle *xs = xs_open(0);
    if (!dmod || !fmem || !evtchn || !xs)
        die("open");
    if (xendevicemodel_nr_vcpus(dmod, domid, &vcpus) < 0 ||
        xendevicemodel_create_ioreq_server(dmod, domid, HVM_IOREQSRV_BUFIOREQ_ATOMIC, &id) < 0)
        die("create");
    if (!xenforeignmemory_map_resource(fmem, domid, XENMEM_resource_ioreq_server, id, 0, 2, &addr,
                                       PROT_READ | PROT_WRITE, 0))
        die("map");
    page = (struct ioreq *)(void *)((char *)addr + FX_PAGE);
    if (xendevicemodel_get_ioreq_server_info(dmod, domid, id, NULL, NULL, &buf_port) < 0 ||
        xendevicemodel_set_ioreq_server_state(dmod, domid, id, 1) < 0)
        die("enable");
    for (unsigned int i = 0; i < vcpus; i++) {
        int port = xenevtchn_bind_interdomain(evtchn, domid, page[i].vp_eport);
        if (port < 0)
            die("bind");
        local[i] = (evtchn_port_t)port;
    }
    if (xendevicemodel_map_io_range_to_ioreq_server(dmod, domid, id, 0, 0, 0xffff) < 0 ||
        xendevicemodel_map_io_range_to_ioreq_server(dmod, domid, id, 1, 0xd0000000, 0xdfffffff) < 0)
        die("ranges");
    snprintf(path, sizeof(path), "device-model/%u/state", domid);
    if (!xs_write(xs, 0, path, "running", 7))
        die("xenstore");
    serve(spin_ns);
    return 0;
}
