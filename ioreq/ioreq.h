/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The Xen side of core/platform.h: one ioreq server for one HVM guest. This folder is the only one
 * that includes Xen headers. Loop thread only. Order (contract hypervisor.md 1.3): platform_open();
 * create the devices (their ranges are registered as they come); platform_start();
 * platform_set_state("running"); ... platform_close().
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/platform.h"

struct board;
struct guestmem;
struct loop;

struct platform_config {
    int domid;
    uint64_t ram_bytes;        /* guest RAM, without video memory */
    uint64_t max_ram_below_4g; /* bytes; 0: 0xf0000000 */
    /* The guest has switched off or reset: Xen knows, the request that did it is not answered yet.
     * May call loop_quit(). */
    void (*ended)(void *opaque, enum platform_shutdown reason);
    void *opaque;
};

/* Opens the libraries and creates the (still disabled) ioreq server with its shared pages mapped.
 * NULL and a line in err on failure. */
struct platform *platform_open(struct loop *loop, const struct platform_config *cfg, char *err,
                               size_t errlen);
struct guestmem *platform_guestmem(struct platform *p);

/* Binds the event channels and serves requests on board (borrowed). 0, or -errno and a line in err.
 * */
int platform_start(struct platform *p, struct board *board, char *err, size_t errlen);

/* QMP stop/cont: while stopped no request is answered. On stopping, those that have been made are.
 * */
void platform_set_running(struct platform *p, bool running);

/* Writes /local/domain/0/device-model/<domid>/state. 0, or -errno and a line in err. */
int platform_set_state(struct platform *p, const char *state, char *err, size_t errlen);

/* Tells the guest's PV frontends which of the backends that libxl expects here do not exist, so
 * that they do not wait. */
void platform_decline_backends(struct platform *p);

/* Destroys the server, unmaps everything and closes the libraries; the domain may be gone already.
 * NULL is fine. */
void platform_close(struct platform *p);
