/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vCPU's side of an ioreq: how Xen splits an access, picks a server, and waits for the answer.
 * Follows xen/common/ioreq.c, xen/arch/x86/hvm/{emulate,intercept,ioreq,stdvga}.c of Xen 4.17.7.
 */
#include "fakexen.h"
#include "rangeset.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern int fx_evtchn_write_fd[FX_HANDLES];

enum { WAIT_SLICE_MS = 20, VGA_START = 0xa0000, VGA_END = 0xbffff };

static _Atomic uint32_t cf8;
static pthread_mutex_t vcpu_lock[FX_MAX_VCPUS];
static pthread_once_t vcpu_lock_once = PTHREAD_ONCE_INIT;

static void init_vcpu_locks(void)
{
    for (int i = 0; i < FX_MAX_VCPUS; i++)
        pthread_mutex_init(&vcpu_lock[i], NULL);
}

static uint64_t mask(uint32_t size)
{
    return size >= 8 ? UINT64_MAX : (1ull << (8 * size)) - 1;
}

static uint32_t min32(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

/* Raises the device model's end of a Xen port. */
static void notify_port(uint32_t xen_port)
{
    uint32_t local = fx_sh->xen_port[xen_port].local;

    if (!local)
        return;
    struct fx_local_port *p = &fx_sh->local_port[local];
    if (fx_port_raise(p)) {
        ssize_t n = write(fx_evtchn_write_fd[p->handle], &local, sizeof(local));
        (void)n;
    }
}

uint32_t fx_port_new(void)
{
    uint32_t port = 0;

    fx_lock(fx_sh);
    for (uint32_t i = FX_FIRST_XEN_PORT; i < FX_PORTS && !port; i++)
        if (!fx_sh->xen_port[i].in_use) {
            fx_sh->xen_port[i] = (struct fx_xen_port){ .in_use = true, .vcpu = -1 };
            port = i;
        }
    fx_unlock(fx_sh);
    return port;
}

bool fx_port_notify(uint32_t port)
{
    if (port >= FX_PORTS || !fx_sh->xen_port[port].in_use)
        return false;
    notify_port(port);
    return true;
}

/* ---- RAM ---- */

static void ram_read(uint64_t gpa, void *to, size_t len)
{
    uint8_t *out = to;

    while (len) {
        size_t n = FX_PAGE - gpa % FX_PAGE;
        uint8_t *p = fx_ram(gpa);

        n = n < len ? n : len;
        if (p)
            memcpy(out, p, n);
        else
            memset(out, 0xff, n);
        out += n;
        gpa += n;
        len -= n;
    }
}

static void ram_write(uint64_t gpa, const void *from, size_t len)
{
    const uint8_t *in = from;

    while (len) {
        size_t n = FX_PAGE - gpa % FX_PAGE;
        uint8_t *p = fx_ram(gpa);

        n = n < len ? n : len;
        if (p && !fx_ram_readonly(gpa)) {
            memcpy(p, in, n);
            fx_ram_dirty(gpa);
        }
        in += n;
        gpa += n;
        len -= n;
    }
}

/* ---- one synchronous request ---- */

struct slot {
    struct ioreq *req;
    _Atomic uint8_t *state; /* the byte that holds state, data_is_ptr, dir, df */
};

static struct slot get_slot(uint32_t server, uint32_t vcpu)
{
    struct ioreq *req = (struct ioreq *)(void *)fx_sh->iopage[server][1] + vcpu;
    struct slot s = { req, (_Atomic uint8_t *)((uint8_t *)req + 30) };

    return s;
}

static uint8_t slot_state(struct slot s)
{
    return atomic_load_explicit(s.state, memory_order_acquire) & 0xf;
}

/* Sleeps until the device model notified this vCPU since wake counter `seen`. Returns false, with
 * a reason, when that will not happen. Xen wakes a vCPU only by the event, so a changed state alone
 * does not end the wait. */
static bool wait_event(struct fx_vcpu *v, uint32_t seen, uint64_t deadline, char *error, size_t len)
{
    static const struct timespec slice = { 0, WAIT_SLICE_MS * 1000000L };
    _Atomic uint32_t *wake = &fx_sh->vcpu_wake[v->id];
    uint32_t spins = 0;

    while (atomic_load_explicit(wake, memory_order_acquire) == seen) {
        int status;

        if (v->spin && ++spins % 4096) {
            __builtin_ia32_pause();
            continue;
        }
        if (!v->spin)
            syscall(SYS_futex, wake, FUTEX_WAIT, seen, &slice, NULL, 0);
        if (atomic_load(wake) != seen)
            break;
        if (fx_dm_dead(&status)) {
            char how[64];
            fx_dm_describe(how, sizeof(how));
            snprintf(error, len, "device model %s before answering", how);
            return false;
        }
        if (fx_now_ns() > deadline) {
            snprintf(error, len, "device model did not answer in %u ms", fx_cfg.timeout_ms);
            return false;
        }
    }
    return true;
}

/* Waits for RESP_READY as ioreq.c:wait_for_io does. */
static bool wait_answer(struct fx_vcpu *v, struct slot s, uint32_t seen, char *error, size_t len)
{
    uint64_t deadline = fx_now_ns() + fx_cfg.timeout_ms * 1000000ull;
    uint8_t prev = STATE_IOREQ_READY;

    for (;;) {
        uint32_t now_seen;

        if (!wait_event(v, seen, deadline, error, len)) {
            size_t used = strlen(error);
            snprintf(error + used, len - used, " (vcpu %u, state %u)", v->id, slot_state(s));
            return false;
        }
        now_seen = atomic_load_explicit(&fx_sh->vcpu_wake[v->id], memory_order_acquire);
        uint8_t state = slot_state(s);
        if (state == STATE_IORESP_READY)
            return true;
        if (state == STATE_IOREQ_NONE) {
            s.req->data = UINT64_MAX; /* Xen takes this for an aborted request */
            return true;
        }
        if (state < prev || state > STATE_IORESP_READY) {
            snprintf(error, len, "domain crash: weird state %u after %u on vcpu %u", state, prev,
                     v->id);
            return false;
        }
        prev = state;
        seen = now_seen;
    }
}

/* ioreq_send for one server. The vCPU's lock is held. */
static bool send_sync(struct fx_vcpu *v, uint32_t server, const struct ioreq *req, uint64_t *data,
                      char *error, size_t len)
{
    struct slot s = get_slot(server, v->id);
    uint32_t port = fx_sh->server[server].vcpu_port[v->id];

    if (slot_state(s) != STATE_IOREQ_NONE) {
        snprintf(error, len, "device model set bad IO state %u on vcpu %u", slot_state(s), v->id);
        return false;
    }
    if (s.req->vp_eport != port) {
        snprintf(error, len, "device model set bad event channel %u (is %u) on vcpu %u",
                 s.req->vp_eport, port, v->id);
        return false;
    }
    struct ioreq copy = *req;
    copy.state = STATE_IOREQ_NONE;
    copy.vp_eport = port;
    *s.req = copy;
    uint8_t flags = atomic_load(s.state) & 0xf0;
    uint32_t seen = atomic_load(&fx_sh->vcpu_wake[v->id]);
    uint64_t start = fx_now_ns();
    atomic_store(s.state, flags | STATE_IOREQ_READY);
    notify_port(port);
    if (!wait_answer(v, s, seen, error, len))
        return false;
    v->answer_ns = fx_now_ns() - start;
    v->shutdown_seen = atomic_load(&fx_sh->shutdown_calls);
    *data = s.req->data;
    atomic_store(s.state, flags | STATE_IOREQ_NONE);
    return true;
}

static bool send_invalidate(struct fx_vcpu *v, char *error, size_t len)
{
    struct ioreq req = { .type = IOREQ_TYPE_INVALIDATE, .size = 4, .dir = IOREQ_WRITE,
                         .data = UINT64_MAX };
    uint64_t data;

    for (uint32_t i = FX_MAX_SERVERS; i-- > 0;)
        if (fx_sh->server[i].in_use && fx_sh->server[i].enabled &&
            !send_sync(v, i, &req, &data, error, len))
            return false;
    return true;
}

/* vcpu_ioreq_handle_completion: the INVALIDATE that a change of the p2m left behind. */
static bool completion(struct fx_vcpu *v, char *error, size_t len)
{
    if (!atomic_exchange(&fx_sh->mapcache_invalidate[v->id], 0))
        return true;
    uint64_t ns = v->answer_ns;
    uint32_t shut = v->shutdown_seen;
    bool ok = send_invalidate(v, error, len);
    v->answer_ns = ns;
    v->shutdown_seen = shut;
    return ok;
}

static void take_vcpu(struct fx_vcpu *v)
{
    pthread_once(&vcpu_lock_once, init_vcpu_locks);
    pthread_mutex_lock(&vcpu_lock[v->id]);
}

static void release_vcpu(struct fx_vcpu *v)
{
    pthread_mutex_unlock(&vcpu_lock[v->id]);
}

bool fx_ioreq_raw(struct fx_vcpu *v, uint32_t server, struct ioreq *req, uint64_t *data,
                  char *error, size_t error_len)
{
    if (server >= FX_MAX_SERVERS || !fx_sh->server[server].in_use) {
        snprintf(error, error_len, "no ioreq server %u", server);
        return false;
    }
    take_vcpu(v);
    bool ok = send_sync(v, server, req, data, error, error_len) &&
              completion(v, error, error_len);
    release_vcpu(v);
    return ok;
}

bool fx_invalidate(struct fx_vcpu *v, char *error, size_t error_len)
{
    take_vcpu(v);
    bool ok = send_invalidate(v, error, error_len);
    release_vcpu(v);
    return ok;
}

/* ---- buffered ring ---- */

bool fx_ioreq_buffered(uint32_t server, uint8_t type, bool read, uint32_t addr, uint32_t size,
                       uint64_t data)
{
    struct fx_server *srv = &fx_sh->server[server];
    uint32_t *page = (uint32_t *)(void *)fx_sh->iopage[server][0];
    _Atomic uint32_t *rd = (_Atomic uint32_t *)&page[0], *wr = (_Atomic uint32_t *)&page[1];
    _Atomic uint64_t *both = (_Atomic uint64_t *)(void *)page;
    uint32_t size_log2 = size == 8 ? 3 : size == 4 ? 2 : size == 2 ? 1 : 0;
    uint32_t slots = size == 8 ? 2 : 1;
    uint32_t head = type | (uint32_t)read << 9 | size_log2 << 10 | addr << 12;

    if (srv->bufmode == 0 || !srv->page_alloc[0])
        return false;
    fx_lock(fx_sh);
    uint32_t w = atomic_load(wr);
    if (w - atomic_load(rd) > IOREQ_BUFFER_SLOT_NUM - slots) {
        fx_unlock(fx_sh);
        return false;
    }
    for (uint32_t i = 0; i < slots; i++) {
        uint32_t slot = (w + i) % IOREQ_BUFFER_SLOT_NUM;

        page[2 + 2 * slot] = head;
        page[3 + 2 * slot] = (uint32_t)(data >> (32 * i));
    }
    atomic_store_explicit(wr, w + slots, memory_order_release);
    /* Keep the free running indexes small, against the reader's atomic add. */
    while (srv->bufmode == HVM_IOREQSRV_BUFIOREQ_ATOMIC) {
        uint64_t old = atomic_load(both);
        uint32_t n = (uint32_t)old / IOREQ_BUFFER_SLOT_NUM;

        if (!n)
            break;
        uint64_t new_both = old - (uint64_t)n * IOREQ_BUFFER_SLOT_NUM -
                            ((uint64_t)n * IOREQ_BUFFER_SLOT_NUM << 32);
        if (atomic_compare_exchange_strong(both, &old, new_both))
            break;
    }
    fx_unlock(fx_sh);
    notify_port(srv->buf_port);
    return true;
}

uint32_t fx_timeoffset(int64_t seconds)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < FX_MAX_SERVERS; i++)
        if (fx_sh->server[i].in_use && fx_sh->server[i].enabled)
            n += fx_ioreq_buffered(i, IOREQ_TYPE_TIMEOFFSET, false, 0, 8, (uint64_t)seconds);
    return n;
}

/* ---- choice of server ---- */

/* ioreq_server_select: highest id first, the whole access in one server's set. */
static int select_server(struct ioreq *req)
{
    int type = req->type == IOREQ_TYPE_PIO ? XEN_DMOP_IO_RANGE_PORT : XEN_DMOP_IO_RANGE_MEMORY;
    uint64_t start = req->addr, end = req->addr + req->size - 1, addr = req->addr;
    uint32_t address = atomic_load(&cf8);

    if (type == XEN_DMOP_IO_RANGE_PORT && (req->addr & ~3ull) == 0xcfc && (address >> 31)) {
        type = XEN_DMOP_IO_RANGE_PCI;
        start = end = address >> 8 & 0xffff;
        addr = start << 32 | (address & 0xfc) | (req->addr & 3);
    } else if (type == XEN_DMOP_IO_RANGE_MEMORY) {
        uint64_t span = (uint64_t)req->size * (req->count - 1);

        start = req->df ? req->addr - span : req->addr;
        end = req->df ? req->addr + req->size - 1 : req->addr + span + req->size - 1;
    }
    int found = -1;
    fx_lock(fx_sh);
    for (int i = FX_MAX_SERVERS; i-- > 0 && found < 0;)
        if (fx_sh->server[i].in_use && fx_sh->server[i].enabled &&
            fx_rangeset_contains(&fx_sh->server[i].set[type], start, end))
            found = i;
    fx_unlock(fx_sh);
    if (found >= 0 && type == XEN_DMOP_IO_RANGE_PCI) {
        req->type = IOREQ_TYPE_PCI_CONFIG;
        req->addr = addr;
    }
    return found;
}

/* Sends one request, or completes it in Xen when no server wants it. */
static bool dispatch(struct fx_vcpu *v, struct fx_access *a, struct ioreq *req)
{
    static const uint64_t all_ones = UINT64_MAX;
    int server = select_server(req);

    if (server < 0) {
        a->by = FX_BY_NOBODY;
        if (req->dir == IOREQ_READ && !req->data_is_ptr)
            a->data = mask(req->size);
        for (uint32_t i = 0; i < req->count && req->dir == IOREQ_READ && req->data_is_ptr; i++)
            ram_write(req->df ? req->data - (uint64_t)i * req->size
                              : req->data + (uint64_t)i * req->size, &all_ones, req->size);
        return true;
    }
    if (req->type == IOREQ_TYPE_COPY && req->dir == IOREQ_WRITE && !req->data_is_ptr &&
        req->count == 1 && req->addr >= VGA_START && req->addr + req->size - 1 <= VGA_END &&
        fx_ioreq_buffered((uint32_t)server, IOREQ_TYPE_COPY, false, (uint32_t)req->addr, req->size,
                          req->data)) {
        a->by = FX_BY_RING;
        return true;
    }
    uint64_t data;
    a->by = FX_BY_DM;
    take_vcpu(v);
    bool ok = send_sync(v, (uint32_t)server, req, &data, a->error, sizeof(a->error)) &&
              completion(v, a->error, sizeof(a->error));
    release_vcpu(v);
    if (ok && req->dir == IOREQ_READ && !req->data_is_ptr)
        a->data = data & mask(req->size);
    return ok;
}

/* How many items of size bytes at gpa fit on its page; 1 if the first one straddles. */
static uint32_t items_on_page(uint64_t gpa, uint32_t size, bool df)
{
    uint64_t off = gpa % FX_PAGE;

    if (off + size > FX_PAGE)
        return 1;
    return (uint32_t)(df ? off / size + 1 : (FX_PAGE - off) / size);
}

/* Ports whose in-Xen handler may refuse an item; such a REP is forwarded item by item. */
static bool handler_may_refuse(uint64_t port, uint32_t size)
{
    return (port >= 0xcf8 && port + size <= 0xcfc) || (port >= 0x70 && port + size <= 0x72);
}

bool fx_pio(struct fx_vcpu *v, struct fx_access *a)
{
    uint64_t ram = a->data;

    for (uint32_t left = a->count; left;) {
        struct ioreq req = { .addr = a->addr, .size = a->size, .count = 1, .data = a->data,
                             .dir = a->read, .type = IOREQ_TYPE_PIO };
        uint64_t value = a->read ? 0 : a->data & mask(a->size);

        if (a->is_ptr) {
            req.count = min32(left, items_on_page(ram, a->size, a->df));
            req.data = ram;
            req.data_is_ptr = 1;
            req.df = a->df;
            if (!a->read)
                ram_read(ram, &value, a->size);
        } else {
            req.data = value;
        }
        if (fx_inxen_pio((uint32_t)a->addr, a->size, a->read, &value)) {
            a->by = FX_BY_XEN;
            req.count = 1;
            if (a->read && a->is_ptr)
                ram_write(ram, &value, a->size);
            else if (a->read)
                a->data = value & mask(a->size);
        } else {
            if (handler_may_refuse(a->addr, a->size))
                req.count = 1;
            if (a->addr == 0xcf8 && a->size == 4 && !a->read)
                atomic_store(&cf8, (uint32_t)value);
            if (!dispatch(v, a, &req))
                return false;
        }
        uint64_t bytes = (uint64_t)req.count * a->size;
        ram = a->df ? ram - bytes : ram + bytes;
        left -= req.count;
    }
    return true;
}

/* One MMIO or RAM item that does not cross a page; size is a power of two. */
static bool mmio_piece(struct fx_vcpu *v, struct fx_access *a, uint64_t addr, uint32_t size,
                       uint64_t *value)
{
    struct ioreq req = { .addr = addr, .size = size, .count = 1, .dir = a->read,
                         .type = IOREQ_TYPE_COPY };

    if (fx_ram(addr)) {
        a->by = FX_BY_XEN;
        if (a->read) {
            *value = 0;
            ram_read(addr, value, size);
        } else {
            ram_write(addr, value, size);
        }
        return true;
    }
    if (fx_inxen_mmio(addr, size, a->read, value)) {
        a->by = FX_BY_XEN;
        return true;
    }
    struct fx_access piece = { .read = a->read };
    req.data = a->read ? 0 : *value & mask(size);
    bool ok = dispatch(v, &piece, &req);
    a->by = piece.by;
    if (!ok)
        memcpy(a->error, piece.error, sizeof(a->error));
    else if (a->read)
        *value = piece.data;
    return ok;
}

/* A plain access: cut at page edges, then into the biggest powers of two. */
static bool mmio_single(struct fx_vcpu *v, struct fx_access *a, uint64_t addr, uint64_t *value)
{
    uint64_t result = 0;

    for (uint32_t done = 0; done < a->size;) {
        uint32_t n = min32(a->size - done, FX_PAGE - (addr + done) % FX_PAGE);
        uint64_t part = *value >> (8 * done);

        while (n & (n - 1))
            n &= n - 1;
        if (!mmio_piece(v, a, addr + done, n, &part))
            return false;
        result |= (part & mask(n)) << (8 * done);
        done += n;
    }
    if (a->read)
        *value = result;
    return true;
}

bool fx_mmio(struct fx_vcpu *v, struct fx_access *a)
{
    uint64_t addr = a->addr, ram = a->data;

    if (a->count == 1 && !a->is_ptr)
        return mmio_single(v, a, addr, &a->data);
    for (uint32_t left = a->count; left;) {
        uint32_t n = min32(left, items_on_page(addr, a->size, a->df));
        bool straddles = addr % FX_PAGE + a->size > FX_PAGE;
        uint64_t value = a->data;

        if (a->is_ptr)
            n = min32(n, items_on_page(ram, a->size, a->df));
        if (fx_ram(addr) || straddles || (a->is_ptr && !fx_ram(ram))) {
            /* RAM, or an item that Xen's emulator carries through a register. */
            n = 1;
            if (a->is_ptr && !a->read)
                ram_read(ram, &value, a->size);
            if (!mmio_single(v, a, addr, &value))
                return false;
            if (a->is_ptr && a->read)
                ram_write(ram, &value, a->size);
        } else {
            struct ioreq req = { .addr = addr, .size = a->size, .count = n, .dir = a->read,
                                 .df = a->df, .data_is_ptr = a->is_ptr,
                                 .data = a->is_ptr ? ram : a->data & mask(a->size),
                                 .type = IOREQ_TYPE_COPY };
            uint64_t keep = a->data;

            if (!dispatch(v, a, &req))
                return false;
            a->data = keep;
        }
        uint64_t bytes = (uint64_t)n * a->size;
        addr = a->df ? addr - bytes : addr + bytes;
        ram = a->df ? ram - bytes : ram + bytes;
        left -= n;
    }
    return true;
}
