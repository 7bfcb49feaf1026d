/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Library handles, interrupts, ranges, power: the small calls of core/platform.h. */
#include "core/platform.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ioreq/internal.h"

bool domain_gone(int error)
{
    return error == ESRCH || error == EINVAL || error == ENOENT;
}

/* A hypercall that must not fail while the domain lives: says so (bounded) when it does. */
static void check(int ret, const char *what)
{
    static struct log_limit limit;

    if (ret != 0 && !domain_gone(errno)) {
        log_limited(&limit, "%s: %s", what, strerror(errno));
    }
}

static domid_t dom(const struct platform *p)
{
    return (domid_t)p->cfg.domid;
}

void platform_isa_irq(struct platform *p, unsigned irq, bool level)
{
    check(xendevicemodel_set_isa_irq_level(p->dm, dom(p), (uint8_t)irq, level),
          "set_isa_irq_level");
}

void platform_pci_intx(struct platform *p, unsigned slot, unsigned pin, bool level)
{
    check(
        xendevicemodel_set_pci_intx_level(p->dm, dom(p), 0, 0, (uint8_t)slot, (uint8_t)pin, level),
        "set_pci_intx_level");
}

void platform_pci_link(struct platform *p, unsigned link, unsigned irq)
{
    check(xendevicemodel_set_pci_link_route(p->dm, dom(p), (uint8_t)link, (uint8_t)irq),
          "set_pci_link_route");
}

void platform_msi(struct platform *p, uint64_t addr, uint32_t data)
{
    check(xendevicemodel_inject_msi(p->dm, dom(p), addr, data), "inject_msi");
}

int platform_map_range(struct platform *p, bool mmio, uint64_t first, uint64_t last)
{
    return xendevicemodel_map_io_range_to_ioreq_server(p->dm, dom(p), p->server, mmio, first,
                                                       last) == 0
               ? 0
               : -errno;
}

void platform_unmap_range(struct platform *p, bool mmio, uint64_t first, uint64_t last)
{
    check(xendevicemodel_unmap_io_range_from_ioreq_server(p->dm, dom(p), p->server, mmio, first,
                                                          last),
          "unmap_io_range");
}

int platform_map_pci(struct platform *p, unsigned devfn)
{
    return xendevicemodel_map_pcidev_to_ioreq_server(
               p->dm, dom(p), p->server, 0, 0, (uint8_t)(devfn >> 3), (uint8_t)(devfn & 7)) == 0
               ? 0
               : -errno;
}

void platform_unmap_pci(struct platform *p, unsigned devfn)
{
    check(xendevicemodel_unmap_pcidev_from_ioreq_server(
              p->dm, dom(p), p->server, 0, 0, (uint8_t)(devfn >> 3), (uint8_t)(devfn & 7)),
          "unmap_pcidev");
}

void platform_shutdown(struct platform *p, enum platform_shutdown reason)
{
    static const struct {
        unsigned reason;
        const char *text;
    } reasons[] = {
        [PLATFORM_POWEROFF] = {SHUTDOWN_poweroff, "power-off"},
        [PLATFORM_REBOOT] = {SHUTDOWN_reboot, "reset"},
        [PLATFORM_CRASH] = {SHUTDOWN_crash, "crash"},
    };

    if (p->shutdown_sent) {
        return;
    }
    p->shutdown_sent = true;
    log_msg("guest %s", reasons[reason].text);
    check(xendevicemodel_shutdown(p->dm, dom(p), reasons[reason].reason), "shutdown");
    if (p->cfg.ended != NULL) {
        p->cfg.ended(p->cfg.opaque, reason);
    }
}

static void send_s_state(void *arg)
{
    struct platform *p = arg;
    struct xen_hvm_param *param = xencall_alloc_buffer(p->call, sizeof(*param));

    if (param == NULL) {
        return;
    }
    *param = (struct xen_hvm_param){
        .domid = dom(p), .index = HVM_PARAM_ACPI_S_STATE, .value = p->s_state};
    check(xencall2(p->call, __HYPERVISOR_hvm_op, HVMOP_set_param, (uint64_t)(uintptr_t)param),
          "set ACPI_S_STATE");
    xencall_free_buffer(p->call, param);
}

/* Xen resets the vCPUs on entering S3, so the request that asked for it is answered first. */
void platform_acpi_s_state(struct platform *p, unsigned state)
{
    p->s_state = state;
    bottom_half_schedule(&p->s_state_bh);
}

int platform_set_readonly(struct platform *p, uint64_t gfn, unsigned n, bool readonly)
{
    return xendevicemodel_set_mem_type(p->dm, dom(p), readonly ? HVMMEM_ram_ro : HVMMEM_ram_rw, gfn,
                                       n) == 0
               ? 0
               : -errno;
}

/* ---- life ---- */

struct guestmem *platform_guestmem(struct platform *p)
{
    return p->mem;
}

struct platform *platform_open(struct loop *loop, const struct platform_config *cfg, char *err,
                               size_t errlen)
{
    struct platform *p = calloc(1, sizeof(*p));
    const char *missing = NULL;

    if (p == NULL) {
        snprintf(err, errlen, "out of memory");
        return NULL;
    }
    p->loop = loop;
    p->cfg = *cfg;
    bottom_half_init(&p->s_state_bh, loop, send_s_state, p);
    /* The libraries' own messages would be a second line about the same thing. */
    p->logger = (xentoollog_logger *)xtl_createlogger_stdiostream(stderr, XTL_CRITICAL, 0);
    errno = 0;
    if ((p->call = xencall_open(p->logger, 0)) == NULL) {
        missing = "privcmd";
    } else if ((p->dm = xendevicemodel_open(p->logger, 0)) == NULL) {
        missing = "devicemodel";
    } else if ((p->fmem = xenforeignmemory_open(p->logger, 0)) == NULL) {
        missing = "foreignmemory";
    } else if ((p->evtchn = xenevtchn_open(p->logger, 0)) == NULL) {
        missing = "evtchn";
    } else if ((p->xs = xs_open(0)) == NULL) {
        missing = "xenstore";
    }
    if (missing != NULL) {
        snprintf(
            err, errlen,
            "cannot open Xen's %s interface (%s): this must run as root in a Xen control domain",
            missing, strerror(errno));
        goto fail;
    }
    p->mem = guestmem_create(p);
    if (p->mem == NULL) {
        snprintf(err, errlen, "out of memory");
        goto fail;
    }
    if (server_create(p, err, errlen) != 0) {
        goto fail;
    }
    return p;

fail:
    platform_close(p);
    return NULL;
}

int platform_set_state(struct platform *p, const char *state, char *err, size_t errlen)
{
    char path[64];

    snprintf(path, sizeof(path), "device-model/%d/state", p->cfg.domid);
    if (!xs_write(p->xs, XBT_NULL, path, state, (unsigned)strlen(state))) {
        snprintf(err, errlen, "cannot write %s to xenstore: %s", path, strerror(errno));
        return -EIO;
    }
    return 0;
}

/* libxl makes a PV keyboard for every HVM guest and leaves it to the device model to serve it. We
 * do not (the guest has PS/2), and a Linux with PV drivers would wait half a minute for the backend
 * at boot. Closed (6) is xenbus' word for "not here": the frontend closes too, at once. */
void platform_decline_backends(struct platform *p)
{
    char path[64];
    unsigned n = 0;
    char **devices;

    snprintf(path, sizeof(path), "backend/vkbd/%d", p->cfg.domid);
    devices = xs_directory(p->xs, XBT_NULL, path, &n);
    for (unsigned i = 0; devices != NULL && i < n; i++) {
        char state[128];

        snprintf(state, sizeof(state), "%s/%.32s/state", path, devices[i]);
        (void)xs_write(p->xs, XBT_NULL, state, "6", 1);
    }
    free(devices);
}

void platform_close(struct platform *p)
{
    if (p == NULL) {
        return;
    }
    bottom_half_cancel(&p->s_state_bh);
    server_destroy(p);
    guestmem_destroy(p->mem);
    if (p->xs != NULL) {
        xs_close(p->xs);
    }
    if (p->evtchn != NULL) {
        xenevtchn_close(p->evtchn);
    }
    if (p->fmem != NULL) {
        xenforeignmemory_close(p->fmem);
    }
    if (p->dm != NULL) {
        xendevicemodel_close(p->dm);
    }
    if (p->call != NULL) {
        xencall_close(p->call);
    }
    if (p->logger != NULL) {
        xtl_logger_destroy(p->logger);
    }
    free(p);
}
