/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/xen/xen_fake.h"
#include "tests/unit/xen/xen_fake_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xen/hvm/hvm_op.h>
#include <xen/memory.h>
#include <xencall.h>
#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xentoollog.h>

enum { FIRST_PORT = XF_VCPUS + 1, REMOTE = 1000 };

struct xen_fake xf;
static int machine_fd = -1, pages_fd = -1, event_fd = -1;
static char handle; /* what the open calls return the address of */

/* ---- the domain ---- */

static void note(const char *word)
{
    size_t n = strlen(xf.log);

    snprintf(xf.log + n, sizeof(xf.log) - n, "%s ", word);
}

static int memory_fd(size_t len)
{
    int fd = memfd_create("xen_fake", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)len) != 0) {
        abort();
    }
    return fd;
}

static void *memory_map(int fd, size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED,
                   fd, 0);

    if (p == MAP_FAILED) {
        abort();
    }
    return p;
}

void xf_create(void)
{
    memset(&xf, 0, sizeof(xf));
    machine_fd = memory_fd((size_t)XF_FRAMES * XF_PAGE);
    pages_fd = memory_fd(2 * XF_PAGE);
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    xf_store_create();
    xf.p2m = memory_map(-1, XF_GFNS * sizeof(*xf.p2m));
    xf.machine = memory_map(machine_fd, (size_t)XF_FRAMES * XF_PAGE);
    xf.ring = memory_map(pages_fd, 2 * XF_PAGE);
    xf.shared = (void *)((uint8_t *)xf.ring + XF_PAGE);
    for (uint64_t gfn = 0; gfn < (XF_RAM_MIB << 20) / XF_PAGE; gfn++) {
        if (gfn < 0xa0 || gfn >= 0xc0) {
            xf.p2m[gfn] = ++xf.next_frame;
        }
    }
}

void xf_destroy(void)
{
    xf_store_destroy();
    munmap(xf.p2m, XF_GFNS * sizeof(*xf.p2m));
    munmap(xf.machine, (size_t)XF_FRAMES * XF_PAGE);
    munmap(xf.ring, 2 * XF_PAGE);
    close(machine_fd);
    close(pages_fd);
    close(event_fd);
}

uint8_t *xf_ram(uint64_t gfn)
{
    return gfn < XF_GFNS && xf.p2m[gfn] != 0 ? xf.machine + (size_t)(xf.p2m[gfn] - 1) * XF_PAGE : NULL;
}

void xf_populate(uint64_t gfn)
{
    if (gfn < XF_GFNS && xf.next_frame < XF_FRAMES) {
        xf.p2m[gfn] = ++xf.next_frame; /* the old frame stays as it was: who has it mapped still sees it */
    }
}

void xf_balloon(uint64_t gfn)
{
    if (gfn < XF_GFNS) {
        xf.p2m[gfn] = 0;
    }
}

void *xf_map_frames(const uint64_t *gfns, size_t n, int prot)
{
    uint8_t *base = mmap(NULL, n * XF_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    for (size_t i = 0; i < n; i++) {
        uint32_t frame = gfns[i] < XF_GFNS ? xf.p2m[gfns[i]] : 0;

        if (frame == 0) {
            munmap(base, n * XF_PAGE);
            return NULL;
        }
        if (mmap(base + i * XF_PAGE, XF_PAGE, prot, MAP_SHARED | MAP_FIXED, machine_fd, (off_t)(frame - 1) * XF_PAGE) ==
            MAP_FAILED) {
            abort();
        }
    }
    return base;
}

/* 0, or -1 with errno when the test wants the call to fail. */
int xf_may(enum xf_call call)
{
    unsigned n = xf.calls[call]++;

    if (xf.fail[call] != 0 && n >= xf.fail_in[call]) {
        errno = xf.fail[call];
        return -1;
    }
    return 0;
}

/* ---- event channels ---- */

static void fire(unsigned port)
{
    uint64_t one = 1;

    if (!xf.port[port].bound) {
        return;
    }
    if (xf.port[port].masked) {
        xf.port[port].pending = true;
        return;
    }
    xf.port[port].masked = true;
    xf.queue[xf.queue_len++] = port;
    if (write(event_fd, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
        abort();
    }
}

void xf_raise(unsigned n)
{
    xf_raise_port(REMOTE + n);
}

void xf_raise_port(uint32_t remote)
{
    for (unsigned i = FIRST_PORT; i < XF_PORTS; i++) {
        if (xf.port[i].bound && xf.port[i].remote == remote) {
            fire(i);
        }
    }
}

void *xf_open_handle(void)
{
    if (xf_may(XF_OPEN) != 0) {
        return NULL;
    }
    xf.handles++;
    return &handle;
}

int xf_close_handle(void)
{
    xf.handles--;
    return 0;
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
    (void)logger, (void)flags;
    return xf_open_handle();
}

int xenevtchn_close(xenevtchn_handle *xce)
{
    (void)xce;
    return xf_close_handle();
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    (void)xce;
    return event_fd;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce;
    if (port >= XF_PORTS || !xf.port[port].bound) {
        abort();
    }
    xf.notified++;
    note("notify");
    if (xf.on_notify != NULL && xf.port[port].remote < REMOTE + XF_VCPUS) {
        xf.on_notify(xf.port[port].remote - REMOTE);
    }
    if (xf.on_port != NULL) {
        xf.on_port(xf.port[port].remote);
    }
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid, evtchn_port_t remote_port)
{
    (void)xce, (void)domid;
    if (xf_may(XF_BIND) != 0) {
        return -1;
    }
    if (remote_port == 0 || remote_port >= 4096) {
        errno = EINVAL;
        return -1;
    }
    for (unsigned i = FIRST_PORT; i < XF_PORTS; i++) {
        if (!xf.port[i].bound) {
            xf.port[i].bound = true;
            xf.port[i].masked = xf.port[i].pending = false;
            xf.port[i].remote = remote_port;
            xf.ports_bound++;
            fire(i); /* binding always raises one event */
            return (xenevtchn_port_or_error_t)i;
        }
    }
    abort();
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
    uint64_t one;

    (void)xce;
    xf.ports_bound -= xf.port[port].bound;
    xf.port[port].bound = false;
    for (unsigned i = 0; i < xf.queue_len; i++) {
        if (xf.queue[i] == port) { /* at most once: it is masked since */
            memmove(xf.queue + i, xf.queue + i + 1, (--xf.queue_len - i) * sizeof(xf.queue[0]));
            if (read(event_fd, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
                abort();
            }
            break;
        }
    }
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    uint64_t n;
    unsigned port;

    (void)xce;
    if (read(event_fd, &n, sizeof(n)) != (ssize_t)sizeof(n)) {
        xf.blocked++;
        return -1;
    }
    port = xf.queue[0];
    memmove(xf.queue, xf.queue + 1, --xf.queue_len * sizeof(xf.queue[0]));
    return (xenevtchn_port_or_error_t)port;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce;
    if (port >= XF_PORTS || !xf.port[port].masked) {
        xf.bad_unmasks++;
        return -1;
    }
    xf.port[port].masked = false;
    if (xf.port[port].pending) {
        xf.port[port].pending = false;
        fire(port);
    }
    return 0;
}

/* ---- memory ---- */

xenforeignmemory_handle *xenforeignmemory_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    (void)logger, (void)open_flags;
    return xf_open_handle();
}

int xenforeignmemory_close(xenforeignmemory_handle *fmem)
{
    (void)fmem;
    return xf_close_handle();
}

void *xenforeignmemory_map2(xenforeignmemory_handle *fmem, uint32_t dom, void *addr, int prot, int flags, size_t pages,
                            const xen_pfn_t arr[], int err[])
{
    uint8_t *base;

    (void)fmem, (void)dom;
    if (xf_may(XF_MAP) != 0) {
        if (flags & MAP_FIXED) { /* as the library: what was there is gone */
            munmap(addr, pages * XF_PAGE);
            xf.maps--;
        }
        return NULL;
    }
    base = mmap(addr, pages * XF_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (flags & MAP_FIXED), -1, 0);
    if (base == MAP_FAILED) {
        abort();
    }
    for (size_t i = 0, n; i < pages; i += n) {
        uint32_t frame = arr[i] < XF_GFNS ? xf.p2m[arr[i]] : 0;

        for (n = 1; frame != 0 && i + n < pages && arr[i + n] < XF_GFNS && xf.p2m[arr[i + n]] == frame + n; n++) {
        }
        if (frame != 0 && mmap(base + i * XF_PAGE, n * XF_PAGE, prot, MAP_SHARED | MAP_FIXED, machine_fd,
                               (off_t)(frame - 1) * XF_PAGE) == MAP_FAILED) {
            abort();
        }
        if (frame == 0 && err == NULL) {
            munmap(base, pages * XF_PAGE);
            errno = EINVAL;
            return NULL;
        }
        for (size_t j = i; err != NULL && j < i + n; j++) {
            err[j] = frame != 0 ? 0 : -EINVAL;
        }
    }
    xf.maps += !(flags & MAP_FIXED);
    xf.map_calls++;
    return base;
}

void *xenforeignmemory_map(xenforeignmemory_handle *fmem, uint32_t dom, int prot, size_t pages, const xen_pfn_t arr[],
                           int err[])
{
    return xenforeignmemory_map2(fmem, dom, NULL, prot, 0, pages, arr, err);
}

int xenforeignmemory_unmap(xenforeignmemory_handle *fmem, void *addr, size_t pages)
{
    (void)fmem;
    xf.maps--;
    return munmap(addr, pages * XF_PAGE);
}

xenforeignmemory_resource_handle *xenforeignmemory_map_resource(xenforeignmemory_handle *fmem, domid_t domid,
                                                                unsigned int type, unsigned int id, unsigned long frame,
                                                                unsigned long nr_frames, void **paddr, int prot,
                                                                int flags)
{
    (void)fmem, (void)domid, (void)type, (void)id, (void)prot, (void)flags;
    if (xf_may(XF_MAP_RESOURCE) != 0) {
        return NULL;
    }
    if (frame != 0 || nr_frames != 2) {
        abort();
    }
    *paddr = memory_map(pages_fd, 2 * XF_PAGE);
    xf.resources++;
    note("pages");
    return *paddr;
}

int xenforeignmemory_unmap_resource(xenforeignmemory_handle *fmem, xenforeignmemory_resource_handle *fres)
{
    (void)fmem;
    xf.resources--;
    return munmap(fres, 2 * XF_PAGE);
}

/* ---- hypercalls ---- */

xencall_handle *xencall_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    (void)logger, (void)open_flags;
    return xf_open_handle();
}

int xencall_close(xencall_handle *xcall)
{
    (void)xcall;
    return xf_close_handle();
}

void *xencall_alloc_buffer(xencall_handle *xcall, size_t size)
{
    (void)xcall;
    return malloc(size);
}

void xencall_free_buffer(xencall_handle *xcall, void *p)
{
    (void)xcall;
    free(p);
}

int xencall2(xencall_handle *xcall, unsigned int op, uint64_t arg1, uint64_t arg2)
{
    const struct xen_memory_reservation *res = (const void *)(uintptr_t)arg2;
    const xen_pfn_t *gfn;

    (void)xcall, (void)arg1;
    if (op == __HYPERVISOR_hvm_op) {
        note("param");
        return 0;
    }
    if (op != __HYPERVISOR_memory_op || xf_may(XF_POPULATE) != 0) {
        return -1;
    }
    gfn = res->extent_start.p;
    for (uint64_t i = 0; i < res->nr_extents; i++) {
        xf_populate(gfn[i]);
    }
    return (int)res->nr_extents;
}

xendevicemodel_handle *xendevicemodel_open(struct xentoollog_logger *logger, unsigned int open_flags)
{
    (void)logger, (void)open_flags;
    return xf_open_handle();
}

int xendevicemodel_close(xendevicemodel_handle *dmod)
{
    (void)dmod;
    return xf_close_handle();
}

int xendevicemodel_create_ioreq_server(xendevicemodel_handle *dmod, domid_t domid, int handle_bufioreq, ioservid_t *id)
{
    (void)dmod, (void)domid, (void)handle_bufioreq;
    if (xf_may(XF_CREATE_SERVER) != 0) {
        return -1;
    }
    xf.servers++;
    *id = 3;
    return 0;
}

int xendevicemodel_destroy_ioreq_server(xendevicemodel_handle *dmod, domid_t domid, ioservid_t id)
{
    (void)dmod, (void)domid, (void)id;
    xf.servers--;
    return 0;
}

int xendevicemodel_get_ioreq_server_info(xendevicemodel_handle *dmod, domid_t domid, ioservid_t id,
                                         xen_pfn_t *ioreq_gfn, xen_pfn_t *bufioreq_gfn, evtchn_port_t *bufioreq_port)
{
    (void)dmod, (void)domid, (void)id, (void)ioreq_gfn, (void)bufioreq_gfn;
    *bufioreq_port = REMOTE + XF_VCPUS;
    return xf_may(XF_SERVER_INFO);
}

int xendevicemodel_set_ioreq_server_state(xendevicemodel_handle *dmod, domid_t domid, ioservid_t id, int enabled)
{
    (void)dmod, (void)domid, (void)id;
    if (xf_may(XF_SERVER_STATE) != 0) {
        return -1;
    }
    xf.enabled = enabled;
    for (unsigned i = 0; enabled && i < XF_VCPUS && xf.resources > 0; i++) {
        xf.shared->vcpu_ioreq[i].vp_eport = REMOTE + i; /* only if the page is there by now */
    }
    note(enabled ? "enable" : "disable");
    return 0;
}

int xendevicemodel_nr_vcpus(xendevicemodel_handle *dmod, domid_t domid, unsigned int *vcpus)
{
    (void)dmod, (void)domid;
    *vcpus = XF_VCPUS;
    return xf_may(XF_NR_VCPUS);
}

int xendevicemodel_map_io_range_to_ioreq_server(xendevicemodel_handle *dmod, domid_t domid, ioservid_t id, int is_mmio,
                                                uint64_t start, uint64_t end)
{
    (void)dmod, (void)domid, (void)id, (void)is_mmio, (void)start, (void)end;
    return xf_may(XF_MAP_RANGE);
}

int xendevicemodel_unmap_io_range_from_ioreq_server(xendevicemodel_handle *dmod, domid_t domid, ioservid_t id,
                                                    int is_mmio, uint64_t start, uint64_t end)
{
    (void)dmod, (void)domid, (void)id, (void)is_mmio, (void)start, (void)end;
    return 0;
}

int xendevicemodel_map_pcidev_to_ioreq_server(xendevicemodel_handle *dmod, domid_t domid, ioservid_t id,
                                              uint16_t segment, uint8_t bus, uint8_t device, uint8_t function)
{
    (void)dmod, (void)domid, (void)id, (void)segment, (void)bus, (void)device, (void)function;
    return 0;
}

int xendevicemodel_unmap_pcidev_from_ioreq_server(xendevicemodel_handle *dmod, domid_t domid, ioservid_t id,
                                                  uint16_t segment, uint8_t bus, uint8_t device, uint8_t function)
{
    (void)dmod, (void)domid, (void)id, (void)segment, (void)bus, (void)device, (void)function;
    return 0;
}

int xendevicemodel_set_isa_irq_level(xendevicemodel_handle *dmod, domid_t domid, uint8_t irq, unsigned int level)
{
    (void)dmod, (void)domid, (void)irq, (void)level;
    return 0;
}

int xendevicemodel_set_pci_intx_level(xendevicemodel_handle *dmod, domid_t domid, uint16_t segment, uint8_t bus,
                                      uint8_t device, uint8_t intx, unsigned int level)
{
    (void)dmod, (void)domid, (void)segment, (void)bus, (void)device, (void)intx, (void)level;
    return 0;
}

int xendevicemodel_set_pci_link_route(xendevicemodel_handle *dmod, domid_t domid, uint8_t link, uint8_t irq)
{
    (void)dmod, (void)domid, (void)link, (void)irq;
    return 0;
}

int xendevicemodel_inject_msi(xendevicemodel_handle *dmod, domid_t domid, uint64_t msi_addr, uint32_t msi_data)
{
    (void)dmod, (void)domid, (void)msi_addr, (void)msi_data;
    return 0;
}

/* As hap.c: all ones when the range is new, then what the guest wrote; and as dm.c: one range a domain. */
int xendevicemodel_track_dirty_vram(xendevicemodel_handle *dmod, domid_t domid, uint64_t first_pfn, uint32_t nr,
                                    unsigned long *dirty_bitmap)
{
    uint8_t *bits = (uint8_t *)dirty_bitmap;

    (void)dmod, (void)domid;
    if (xf_may(XF_TRACK) != 0) {
        return -1;
    }
    if (nr == 0) {
        xf.dirty_tracking = false;
        return 0;
    }
    if (!xf.dirty_tracking || first_pfn != xf.dirty_first || nr != xf.dirty_n) {
        xf.dirty_tracking = true;
        xf.dirty_first = first_pfn;
        xf.dirty_n = nr;
        memset(bits, 0xff, (nr + 7) / 8);
        return 0;
    }
    memset(bits, 0, (nr + 7) / 8);
    if (xf.dirty_gfn >= first_pfn && xf.dirty_gfn - first_pfn < nr) {
        uint64_t page = xf.dirty_gfn - first_pfn;

        bits[page / 8] = (uint8_t)(1u << page % 8);
    }
    xf.dirty_gfn = 0;
    return 0;
}

int xendevicemodel_modified_memory(xendevicemodel_handle *dmod, domid_t domid, uint64_t first_pfn, uint32_t nr)
{
    (void)dmod, (void)domid, (void)first_pfn, (void)nr;
    return 0;
}

int xendevicemodel_set_mem_type(xendevicemodel_handle *dmod, domid_t domid, hvmmem_type_t mem_type, uint64_t first_pfn,
                                uint32_t nr)
{
    (void)dmod, (void)domid, (void)mem_type, (void)first_pfn, (void)nr;
    return 0;
}

/* As XENMAPSPACE_gmfn_range: page by page, stops at one that is not there, frees what it lands on. */
int xendevicemodel_relocate_memory(xendevicemodel_handle *dmod, domid_t domid, uint32_t size, uint64_t src_gfn,
                                   uint64_t dst_gfn)
{
    (void)dmod, (void)domid;
    if (xf_may(XF_RELOCATE) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < size; i++) {
        if (src_gfn + i >= XF_GFNS || dst_gfn + i >= XF_GFNS || xf.p2m[src_gfn + i] == 0) {
            errno = EINVAL;
            return -1;
        }
        xf.p2m[dst_gfn + i] = xf.p2m[src_gfn + i];
        xf.p2m[src_gfn + i] = 0;
    }
    return 0;
}

int xendevicemodel_pin_memory_cacheattr(xendevicemodel_handle *dmod, domid_t domid, uint64_t start, uint64_t end,
                                        uint32_t type)
{
    (void)dmod, (void)domid, (void)start, (void)end, (void)type;
    return 0;
}

int xendevicemodel_shutdown(xendevicemodel_handle *dmod, domid_t domid, unsigned int reason)
{
    static const char *const names[] = {"poweroff", "reboot", "suspend", "crash"};

    (void)dmod, (void)domid;
    note(reason < 4 ? names[reason] : "?");
    return 0;
}

/* ---- the guest's side ---- */

static uint8_t *state_byte(unsigned n)
{
    return (uint8_t *)&xf.shared->vcpu_ioreq[n] + 30;
}

void xf_request(unsigned n, uint8_t type, uint8_t flags, uint64_t addr, uint64_t data, uint32_t size, uint32_t count)
{
    struct ioreq *io = &xf.shared->vcpu_ioreq[n];

    io->addr = addr;
    io->data = data;
    io->size = size;
    io->count = count;
    io->type = type;
    __atomic_store_n(state_byte(n), (uint8_t)(flags | STATE_IOREQ_READY), __ATOMIC_RELEASE);
    xf_raise(n);
}

bool xf_answered(unsigned n, uint64_t *data)
{
    uint8_t state = __atomic_load_n(state_byte(n), __ATOMIC_ACQUIRE);

    if ((state & 0x0f) != STATE_IORESP_READY) {
        return false;
    }
    if (data != NULL) {
        *data = xf.shared->vcpu_ioreq[n].data;
    }
    *state_byte(n) = (uint8_t)((state & 0xf0) | STATE_IOREQ_NONE);
    return true;
}

/* xen/common/ioreq.c:ioreq_send_buffered(), with the pointers brought down in ATOMIC mode. */
bool xf_buffered(uint8_t type, uint32_t addr, unsigned size, uint64_t data)
{
    buffered_iopage_t *b = xf.ring;
    uint32_t log2 = size == 8 ? 3 : size == 4 ? 2 : size == 2 ? 1 : 0;
    uint32_t slots = size == 8 ? 2 : 1;
    uint32_t wr = __atomic_load_n(&b->write_pointer, __ATOMIC_ACQUIRE);
    uint64_t pair;

    if (wr - __atomic_load_n(&b->read_pointer, __ATOMIC_ACQUIRE) > IOREQ_BUFFER_SLOT_NUM - slots) {
        return false;
    }
    for (uint32_t i = 0; i < slots; i++) {
        uint64_t slot = type | (uint64_t)log2 << 10 | (uint64_t)addr << 12 | (uint64_t)(uint32_t)(data >> 32 * i) << 32;

        memcpy((void *)&b->buf_ioreq[(wr + i) % IOREQ_BUFFER_SLOT_NUM], &slot, sizeof(slot));
    }
    __atomic_store_n(&b->write_pointer, wr + slots, __ATOMIC_RELEASE);
    for (;;) {
        uint32_t rd, down;
        uint64_t lower;

        pair = __atomic_load_n((uint64_t *)(void *)b, __ATOMIC_ACQUIRE);
        rd = (uint32_t)pair;
        if (rd < IOREQ_BUFFER_SLOT_NUM) {
            return true;
        }
        down = rd / IOREQ_BUFFER_SLOT_NUM * IOREQ_BUFFER_SLOT_NUM;
        lower = (uint64_t)(rd - down) | (uint64_t)((uint32_t)(pair >> 32) - down) << 32;
        __atomic_compare_exchange_n((uint64_t *)(void *)b, &pair, lower, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
}
