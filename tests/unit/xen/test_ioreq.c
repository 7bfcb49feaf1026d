/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ioreq/ on a Xen that does at each step what the test wants (xen_fake.c). */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/pci.h"
#include "ioreq/internal.h"
#include "tests/unit/xen/xen_fake.h"

enum {
    PORT = 0x300,    /* 16 ports: the rig's registers, read as their offset times 0x11 */
    DATA = 0x310,    /* a port that delivers a byte stream, each item the next number, with block forms */
    OFF = 0x311,     /* a write asks for power off, sleep */
    WINDOW = 0xa0000, /* 64 KiB of memory behind handlers */
    DEVFN = PCI_DEVFN(5, 0),
};

struct rig {
    struct loop *loop;
    struct platform *plat;
    struct board board;
    uint8_t ports[16];
    unsigned port_calls;
    uint8_t next;            /* of the stream */
    uint8_t taken[8192];     /* what the stream was given */
    size_t ntaken;
    uint8_t window[65536];
    uint32_t last_write;     /* to the window's last dword, which counts */
    unsigned order_errors;
    struct pci_device pd;
    int ended;
};

static uint64_t port_read(void *dev, uint64_t offset, unsigned size)
{
    struct rig *r = dev;

    (void)size;
    r->port_calls++;
    return UINT64_C(0xdeadbeefdeadbeef) ^ r->ports[offset & 15];
}

static void port_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct rig *r = dev;

    (void)size;
    r->port_calls++;
    r->ports[offset & 15] = (uint8_t)value;
}

static const struct io_ops port_ops = {.read = port_read, .write = port_write, .max_size = 4};

static uint64_t data_read(void *dev, uint64_t offset, unsigned size)
{
    struct rig *r = dev;
    uint64_t v = 0;

    (void)offset;
    for (unsigned i = 0; i < size; i++) {
        v |= (uint64_t)r->next++ << (8 * i);
    }
    return v;
}

static void data_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct rig *r = dev;

    (void)offset;
    for (unsigned i = 0; i < size; i++) {
        r->taken[r->ntaken++ % sizeof(r->taken)] = (uint8_t)(value >> (8 * i));
    }
}

static unsigned data_read_rep(void *dev, uint64_t offset, unsigned size, void *buf, unsigned count)
{
    count = count > 5 ? 5 : count; /* stops short: the bus has to go on */
    for (unsigned i = 0; i < count; i++) {
        uint64_t v = data_read(dev, offset, size);

        memcpy((uint8_t *)buf + i * size, &v, size);
    }
    return count;
}

static const struct io_ops data_ops = {
    .read = data_read, .write = data_write, .read_rep = data_read_rep, .max_size = 4};

static void off_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct rig *r = dev;

    (void)offset, (void)size;
    if (value == 3) {
        platform_acpi_s_state(r->plat, 3);
    } else {
        platform_shutdown(r->plat, value == 1 ? PLATFORM_POWEROFF : PLATFORM_REBOOT);
    }
}

static const struct io_ops off_ops = {.read = port_read, .write = off_write, .max_size = 1};

static uint64_t window_read(void *dev, uint64_t offset, unsigned size)
{
    struct rig *r = dev;
    uint64_t v = 0;

    memcpy(&v, r->window + (offset & 0xfff8), sizeof(v));
    v >>= 8 * (offset & 7);
    (void)size;
    return v;
}

static void window_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct rig *r = dev;

    if (offset == 0xfffc) {
        r->order_errors += (uint32_t)value != r->last_write + 1;
        r->last_write = (uint32_t)value;
    }
    for (unsigned i = 0; i < size && offset + i < sizeof(r->window); i++) {
        r->window[offset + i] = (uint8_t)(value >> (8 * i));
    }
}

static const struct io_ops window_ops = {.read = window_read, .write = window_write, .max_size = 8};

static void no_reset(void *dev)
{
    (void)dev;
}

static int no_state(void *dev, struct save_stream *s)
{
    (void)dev;
    return s->error;
}

static const struct pci_device_ops pci_ops = {
    .base = {.name = "rig", .version = 1, .reset = no_reset, .state = no_state, .destroy = no_reset}};

static void ended(void *opaque, enum platform_shutdown reason)
{
    struct rig *r = opaque;

    r->ended = (int)reason + 1;
}

static struct platform *open_platform(struct rig *r, char *err, size_t errlen)
{
    const struct platform_config cfg = {
        .domid = XF_DOMID, .ram_bytes = (uint64_t)XF_RAM_MIB << 20, .ended = ended, .opaque = r};

    return platform_open(r->loop, &cfg, err, errlen);
}

/* Serves until nothing moves any more. */
static void settle(struct rig *r)
{
    for (int i = 0; i < 200; i++) {
        loop_poll(r->loop, 0);
    }
}

static int setup(void **state)
{
    static const struct pci_config_id id = {.vendor = 0x1234, .device = 0x5678, .class_device = 0xff00};
    struct rig *r = calloc(1, sizeof(*r));
    char err[256] = "";

    assert_non_null(r);
    xf_create();
    r->loop = loop_create(true);
    r->plat = open_platform(r, err, sizeof(err));
    assert_string_equal(err, "");
    assert_int_equal(board_init(&r->board, r->loop, r->plat, platform_guestmem(r->plat)), 0);
    assert_true(bus_add(r->board.bus, BUS_PORT, PORT, 16, &port_ops, r, "ports") > 0);
    assert_true(bus_add(r->board.bus, BUS_PORT, DATA, 1, &data_ops, r, "data") > 0);
    assert_true(bus_add(r->board.bus, BUS_PORT, OFF, 1, &off_ops, r, "off") > 0);
    assert_true(bus_add(r->board.bus, BUS_MMIO, WINDOW, 65536, &window_ops, r, "window") > 0);
    pci_init(&r->pd, &r->board, &pci_ops, r, DEVFN, &id);
    assert_int_equal(pci_finish(&r->pd), 0);
    assert_int_equal(platform_start(r->plat, &r->board, err, sizeof(err)), 0);
    for (unsigned i = 0; i < 16; i++) {
        r->ports[i] = (uint8_t)(0x11 * i);
    }
    settle(r); /* the events that binding raises */
    xf.log[0] = '\0';
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;

    board_fini(&r->board);
    platform_close(r->plat);
    loop_destroy(r->loop);
    assert_int_equal(xf.bad_unmasks, 0);
    assert_int_equal(xf.blocked, 0);
    assert_int_equal(xf.handles, 0);
    assert_int_equal(xf.maps, 0);
    assert_int_equal(xf.resources, 0);
    assert_int_equal(xf.servers, 0);
    assert_int_equal(xf.ports_bound, 0);
    xf_destroy();
    free(r);
    return 0;
}

/* One request of vCPU n, served; what its data field holds then. */
static uint64_t ask_of(struct rig *r, unsigned n, uint8_t type, uint8_t flags, uint64_t addr, uint64_t data,
                       uint32_t size, uint32_t count)
{
    uint64_t v = 0;

    xf_request(n, type, flags, addr, data, size, count);
    for (int i = 0; i < 10 && !xf_answered(n, &v); i++) {
        loop_poll(r->loop, 0);
        if (i == 9) {
            fail_msg("a request of type %u is not answered", type);
        }
    }
    return v;
}

static uint64_t ask(struct rig *r, uint8_t type, uint8_t flags, uint64_t addr, uint64_t data, uint32_t size,
                    uint32_t count)
{
    return ask_of(r, 0, type, flags, addr, data, size, count);
}

/* ---- start and end ---- */

static void test_bring_up(void **state)
{
    struct rig *r = *state;

    (void)r;
    assert_int_equal(xf.ports_bound, XF_VCPUS + 1);
    assert_int_equal(xf.resources, 1);
    assert_true(xf.enabled);
    for (unsigned i = 0; i <= XF_VCPUS; i++) {
        xf_raise(i); /* nothing to do: ignored, and unmasked again */
    }
    for (unsigned i = 0; i < 3; i++) { /* the buffered port's event of the binding, then this one */
        settle(r);
        loop_advance(r->loop, 1000000000);
    }
    for (unsigned i = 0; i < XF_PORTS; i++) {
        assert_false(xf.port[i].masked);
    }
    assert_int_equal(xf.notified, 0);
    assert_int_equal(r->port_calls, 0);
}

/* Each step of the start fails in turn: one line that says so, and nothing stays. */
static void test_start_fails(void **state)
{
    static const struct {
        enum xf_call call;
        unsigned after;
        int error;
        const char *says;
    } cases[] = {
        {XF_OPEN, 0, EACCES, "privcmd"},        {XF_OPEN, 1, ENOENT, "devicemodel"},
        {XF_OPEN, 2, ENOENT, "foreignmemory"},  {XF_OPEN, 3, ENOENT, "evtchn"},
        {XF_OPEN, 4, ENOENT, "xenstore"},       {XF_CREATE_SERVER, 0, ESRCH, "no such domain"},
        {XF_CREATE_SERVER, 0, EPERM, "server"}, {XF_MAP_RESOURCE, 0, EPERM, "ioreq pages"},
        {XF_NR_VCPUS, 0, EPERM, "vcpus"},       {XF_SERVER_INFO, 0, EPERM, "enable"},
        {XF_SERVER_STATE, 0, EPERM, "enable"},  {XF_BIND, 0, ENOSPC, "vcpu 0"},
        {XF_BIND, 2, ENOSPC, "vcpu 2"},         {XF_BIND, XF_VCPUS, ENOSPC, "buffered"},
        {XF_XS_WRITE, 0, EACCES, "xenstore"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig r = {0};
        char err[256] = "";
        bool failed;

        xf_create();
        xf.fail[cases[i].call] = cases[i].error;
        xf.fail_in[cases[i].call] = cases[i].after;
        r.loop = loop_create(true);
        r.plat = open_platform(&r, err, sizeof(err));
        failed = r.plat == NULL;
        if (!failed) {
            assert_int_equal(board_init(&r.board, r.loop, r.plat, platform_guestmem(r.plat)), 0);
            failed = platform_start(r.plat, &r.board, err, sizeof(err)) != 0 ||
                     platform_set_state(r.plat, "running", err, sizeof(err)) != 0;
            board_fini(&r.board);
            platform_close(r.plat);
        }
        assert_true(failed);
        assert_non_null(strstr(err, cases[i].says));
        assert_null(strchr(err, '\n'));
        assert_int_equal(xf.handles + xf.maps + xf.resources + xf.servers + xf.ports_bound, 0);
        loop_poll(r.loop, 0); /* nothing of it is left in the loop */
        loop_destroy(r.loop);
        xf_destroy();
    }
}

static void test_range_refused(void **state)
{
    struct rig *r = *state;

    xf.fail[XF_MAP_RANGE] = ENOSPC;
    assert_int_equal(bus_add(r->board.bus, BUS_PORT, 0x400, 4, &port_ops, r, "more"), -ENOSPC);
    assert_int_equal(ask(r, IOREQ_TYPE_PIO, XF_READ, 0x400, 0, 1, 1), 0xff);
}

/* ---- single requests ---- */

static void test_ports(void **state)
{
    struct rig *r = *state;
    uint32_t eport = xf.shared->vcpu_ioreq[2].vp_eport;

    assert_int_equal(ask(r, IOREQ_TYPE_PIO, XF_READ, PORT + 2, 0xffffffffffffffff, 1, 1), 0xcd);
    assert_int_equal(ask(r, IOREQ_TYPE_PIO, XF_READ, PORT + 2, 0, 2, 1), 0xbecd);
    assert_int_equal(ask_of(r, 2, IOREQ_TYPE_PIO, XF_READ, PORT + 2, 0, 4, 1), 0xdeadbecd);
    assert_int_equal(ask_of(r, 2, IOREQ_TYPE_PIO, 0, PORT + 5, 0x1234, 2, 1), 0x1234); /* data is ours only on reads */
    assert_int_equal(r->ports[5], 0x34);
    assert_int_equal(xf.shared->vcpu_ioreq[2].vp_eport, eport);
    assert_int_equal(ask(r, IOREQ_TYPE_PIO, XF_READ, 0x2ff, 0, 1, 1), 0xff);
    assert_int_equal(ask(r, IOREQ_TYPE_PIO, XF_READ, UINT64_C(0x10000) + PORT, 0, 1, 1), 0xff); /* not wrapped */
    assert_int_equal(ask(r, IOREQ_TYPE_COPY, XF_READ, WINDOW, 0, 8, 1), 0);
    assert_int_equal(ask(r, IOREQ_TYPE_COPY, XF_READ, UINT64_MAX - 3, 0, 8, 1), UINT64_MAX);
}

/* All vCPUs at once with one event. */
static void test_all_vcpus_with_one_event(void **state)
{
    struct rig *r = *state;
    uint64_t v;

    for (unsigned n = 1; n < XF_VCPUS; n++) {
        xf.port[XF_VCPUS + 1 + n].masked = true; /* its event has been taken before */
        xf_request(n, IOREQ_TYPE_PIO, XF_READ, PORT + n, 0, 1, 1);
        xf.port[XF_VCPUS + 1 + n].masked = xf.port[XF_VCPUS + 1 + n].pending = false;
    }
    xf_request(0, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1);
    loop_poll(r->loop, 0);
    for (unsigned n = 0; n < XF_VCPUS; n++) {
        assert_true(xf_answered(n, &v));
        assert_int_equal(v, 0xef ^ 0x11 * n);
    }
}

static void test_pci_config(void **state)
{
    struct rig *r = *state;
    uint64_t at = (uint64_t)DEVFN << 32;

    assert_int_equal(ask(r, IOREQ_TYPE_PCI_CONFIG, XF_READ, at, 0, 4, 1), 0x56781234);
    assert_int_equal(ask(r, IOREQ_TYPE_PCI_CONFIG, XF_READ, at | 2, 0, 4, 1), 0x00005678);
    assert_int_equal(ask(r, IOREQ_TYPE_PCI_CONFIG, XF_READ, at | 0xfe, 0, 4, 1), 0xffff0000);
    assert_int_equal(ask(r, IOREQ_TYPE_PCI_CONFIG, XF_READ, at | 0x100, 0, 2, 1), 0xffff);
    assert_int_equal(ask(r, IOREQ_TYPE_PCI_CONFIG, XF_READ, at | 0xffffffff, 0, 4, 1), 0xffffffff);
    assert_int_equal(ask(r, IOREQ_TYPE_PCI_CONFIG, XF_READ, at | UINT64_C(1) << 40, 0, 4, 1), 0xffffffff);
    assert_int_equal(ask(r, IOREQ_TYPE_PCI_CONFIG, XF_READ, UINT64_C(6) << 35, 0, 4, 1), 0xffffffff);
    ask(r, IOREQ_TYPE_PCI_CONFIG, 0, at | 0xff, 0xa5a5a5a5, 4, 1);
    assert_int_equal(r->pd.config[0xff], 0xa5);
    /* REP: the register stays. */
    memcpy(xf_ram(16), "\x01\x02\x03", 3);
    ask(r, IOREQ_TYPE_PCI_CONFIG, XF_PTR, at | 0x50, 0x10000, 1, 3);
    assert_int_equal(pci_get32(r->pd.config, 0x50), 3);
    ask(r, IOREQ_TYPE_PCI_CONFIG, XF_PTR | XF_READ | XF_DF, at, 0x10006, 2, 3);
    assert_memory_equal(xf_ram(16) + 2, "\x34\x12\x34\x12\x34\x12", 6);
}

static void test_nonsense(void **state)
{
    struct rig *r = *state;
    static const uint32_t sizes[] = {0, 3, 5, 6, 7, 16, 0x80000001, UINT32_MAX};
    uint8_t before[4096];

    memcpy(before, xf_ram(16), sizeof(before));
    for (uint8_t flags = 0; flags < 0x80; flags = (uint8_t)(flags + 0x10)) {
        for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            ask(r, IOREQ_TYPE_PIO, flags, PORT, 0x10000, sizes[i], 1);
            ask(r, IOREQ_TYPE_COPY, flags, WINDOW, 0x10000, sizes[i], 1);
            ask(r, IOREQ_TYPE_PCI_CONFIG, flags, 0, 0x10000, sizes[i], 1);
        }
        ask(r, IOREQ_TYPE_PIO, flags, PORT, 0x10000, 8, 1);
        ask(r, IOREQ_TYPE_PIO, flags, PORT, 0x10000, 4, 4097);
        ask(r, IOREQ_TYPE_COPY, flags, WINDOW, 0x10000, 4, UINT32_MAX);
        for (unsigned type = 3; type < 256; type++) {
            if (type != IOREQ_TYPE_TIMEOFFSET && type != IOREQ_TYPE_INVALIDATE) {
                ask(r, (uint8_t)type, flags, PORT, 0x10000, 4, 1);
            }
        }
    }
    assert_int_equal(r->port_calls, 0);
    assert_int_equal(r->window[0], 0);
    assert_memory_equal(before, xf_ram(16), sizeof(before));
    assert_int_equal(ask(r, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 3, 1), 0xffffff); /* a read gives ones */
    assert_int_equal(ask(r, 9, XF_READ, PORT, 0, 4, 1), 0xffffffff);
    ask(r, IOREQ_TYPE_TIMEOFFSET, 0, 0, 3600, 8, 1);
}

/* ---- strings ---- */

static void test_string_in(void **state)
{
    struct rig *r = *state;
    uint8_t *a = xf_ram(16);
    uint8_t *b;

    xf_populate(17); /* not the machine's next page */
    b = xf_ram(17);
    ask(r, IOREQ_TYPE_PIO, XF_PTR | XF_READ, DATA, 0x10ffa, 4, 3); /* the second straddles the pages */
    assert_memory_equal(a + 0xffa, "\0\1\2\3\4\5", 6);
    assert_memory_equal(b, "\6\7\10\11\12\13\0\0", 8);
    r->next = 0;
    ask(r, IOREQ_TYPE_PIO, XF_PTR | XF_READ | XF_DF, DATA, 0x11002, 4, 3);
    assert_memory_equal(b, "\6\7\0\1\2\3", 6);
    assert_memory_equal(a + 0xffa, "\10\11\12\13\4\5", 6);
    r->next = 0;
    ask(r, IOREQ_TYPE_PIO, XF_PTR | XF_READ, DATA, 0x12000, 1, 4096);
    for (unsigned i = 0; i < 4096; i++) {
        assert_int_equal(xf_ram(18)[i], i & 0xff);
    }
}

static void test_string_out(void **state)
{
    struct rig *r = *state;

    for (unsigned i = 0; i < 8192; i++) {
        xf_ram(16 + i / 4096)[i % 4096] = (uint8_t)(i * 7);
    }
    ask(r, IOREQ_TYPE_PIO, XF_PTR, DATA, 0x10801, 2, 2048);
    assert_int_equal(r->ntaken, 4096);
    for (unsigned i = 0; i < 4096; i++) {
        assert_int_equal(r->taken[i], (uint8_t)((i + 0x801) * 7));
    }
    r->ntaken = 0;
    ask(r, IOREQ_TYPE_PIO, XF_PTR | XF_DF, DATA, 0x11004, 4, 3);
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(r->taken[i], (uint8_t)((0x1004 - i / 4 * 4 + i % 4) * 7));
    }
}

/* Pages that are not there read as ones and take nothing; the device sees every item all the same. */
static void test_string_over_holes(void **state)
{
    struct rig *r = *state;
    unsigned maps;

    memset(xf_ram(16), 0x55, 4096);
    memset(xf_ram(18), 0x66, 4096);
    xf_balloon(17);
    ask(r, IOREQ_TYPE_INVALIDATE, 0, 0, UINT64_MAX, 4, 0);
    ask(r, IOREQ_TYPE_PIO, XF_PTR, DATA, 0x10ffe, 4, 1026);
    assert_int_equal(r->ntaken, 4104);
    assert_memory_equal(r->taken, "\x55\x55\xff\xff\xff\xff", 6);
    assert_memory_equal(r->taken + 4096, "\xff\xff\x66\x66\x66\x66\x66\x66", 8);
    ask(r, IOREQ_TYPE_PIO, XF_PTR | XF_READ, DATA, 0x10ffe, 4, 1026);
    assert_memory_equal(xf_ram(16) + 0xffd, "\x55\0\1", 3);
    assert_memory_equal(xf_ram(18), "\2\3\4\5\6\7\x66", 7);
    assert_int_equal(r->next, 8); /* 4104 bytes were read */
    maps = xf.map_calls;
    ask(r, IOREQ_TYPE_PIO, XF_PTR | XF_READ, DATA, 0x11000, 1, 4096);
    assert_true(xf.map_calls - maps <= 2); /* a string does not ask Xen for each of its items */
    r->ntaken = 0;
    ask(r, IOREQ_TYPE_PIO, XF_PTR, DATA, UINT64_MAX - 1, 4, 3); /* wraps */
    ask(r, IOREQ_TYPE_PIO, XF_PTR, DATA, UINT64_C(1) << 63, 4, 3);
    ask(r, IOREQ_TYPE_PIO, XF_PTR, DATA, 0xa0000, 4, 3); /* device memory is not RAM */
    assert_int_equal(r->ntaken, 36);
    ask(r, IOREQ_TYPE_PIO, XF_PTR | XF_READ | XF_DF, DATA, 2, 4, 3); /* below 0 */
}

static void test_copy(void **state)
{
    struct rig *r = *state;

    for (unsigned i = 0; i < 4096; i++) {
        xf_ram(16)[i] = (uint8_t)(i * 3);
    }
    for (uint32_t size = 1; size <= 8; size *= 2) {
        memset(r->window, 0, sizeof(r->window));
        ask(r, IOREQ_TYPE_COPY, XF_PTR, WINDOW + 0x40, 0x10000, size, 4096 / size);
        assert_memory_equal(r->window + 0x40, xf_ram(16), 4096);
        memset(xf_ram(17), 0, 4096);
        ask(r, IOREQ_TYPE_COPY, XF_PTR | XF_READ | XF_DF, WINDOW + 0x440 - size, 0x11400 - size, size, 1024 / size);
        assert_memory_equal(xf_ram(17), xf_ram(16), 1024);
        assert_int_equal(xf_ram(17)[1024], 0);
        memset(r->window, 0, sizeof(r->window));
        ask(r, IOREQ_TYPE_COPY, 0, WINDOW + 0x100, UINT64_C(0x1122334455667788), size, 3); /* STOS */
        assert_int_equal(r->window[0x100 + 2 * size], 0x88);
        assert_int_equal(r->window[0x100 + 3 * size], 0);
        ask(r, IOREQ_TYPE_COPY, XF_DF, WINDOW + 0x200, 0x99, size, 3);
        assert_int_equal(r->window[0x200 - 2 * size], 0x99);
    }
    ask(r, IOREQ_TYPE_COPY, XF_PTR, WINDOW + 0xfff8, 0x10000, 8, 16); /* past the region's end */
    ask(r, IOREQ_TYPE_COPY, XF_PTR, UINT64_MAX - 7, 0x10000, 8, 16);
}

/* ---- the ring ---- */

static void test_ring_before_request(void **state)
{
    struct rig *r = *state;

    assert_true(xf_buffered(IOREQ_TYPE_COPY, WINDOW + 8, 4, 0x12345678));
    assert_true(xf_buffered(IOREQ_TYPE_COPY, WINDOW + 12, 2, 0xffff9abc));
    assert_true(xf_buffered(IOREQ_TYPE_COPY, WINDOW + 15, 1, 0xde));
    assert_true(xf_buffered(IOREQ_TYPE_COPY, WINDOW + 16, 8, UINT64_C(0x0102030405060708)));
    assert_int_equal(ask(r, IOREQ_TYPE_COPY, XF_READ, WINDOW + 8, 0, 8, 1), UINT64_C(0xde009abc12345678));
    assert_int_equal(ask(r, IOREQ_TYPE_COPY, XF_READ, WINDOW + 16, 0, 8, 1), UINT64_C(0x0102030405060708));
    for (unsigned type = 0; type < 256; type++) {
        if (type != IOREQ_TYPE_COPY && type != IOREQ_TYPE_PIO) {
            assert_true(xf_buffered((uint8_t)type, WINDOW + 8, 1u << type % 4, 0));
        }
    }
    assert_int_equal(ask(r, IOREQ_TYPE_COPY, XF_READ, WINDOW + 8, 0, 4, 1), 0x12345678);
}

/* A full ring before a request, at each position of the pointers. */
static void test_ring_full(void **state)
{
    struct rig *r = *state;
    uint32_t n = 0;

    for (unsigned turn = 0; turn < 600; turn++) {
        while (xf_buffered(IOREQ_TYPE_COPY, WINDOW + 0xfffc, 4, n + 1)) {
            n++;
        }
        ask(r, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1);
        assert_int_equal(r->last_write, n);
        for (unsigned i = 0; i < turn % 3; i++) { /* so that the pointers start elsewhere next time */
            assert_true(xf_buffered(IOREQ_TYPE_COPY, WINDOW, 4, 0));
        }
        ask(r, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1);
    }
    assert_int_equal(r->order_errors, 0);
    assert_int_equal(n, 600 * IOREQ_BUFFER_SLOT_NUM);
}

/* Xen on another CPU fills the ring and brings the pointers down while it is read. */
static volatile bool producer_ends;

static void *producer(void *arg)
{
    uint32_t n = 0;

    (void)arg;
    while (n < 300000) {
        if (xf_buffered(n % 7 == 6 ? IOREQ_TYPE_TIMEOFFSET : IOREQ_TYPE_COPY, WINDOW + 0xfffc,
                        n % 7 == 6 ? 8 : 4, n - n / 7 + 1)) {
            n++;
        }
    }
    producer_ends = true;
    return NULL;
}

static void test_ring_under_load(void **state)
{
    struct rig *r = *state;
    pthread_t t;

    producer_ends = false;
    assert_int_equal(pthread_create(&t, NULL, producer, NULL), 0);
    while (!producer_ends) {
        ask(r, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1);
    }
    pthread_join(t, NULL);
    ask(r, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1);
    assert_int_equal(r->order_errors, 0);
    assert_int_equal(r->last_write, 300000 - 300000 / 7);
    assert_int_equal(xf.ring->read_pointer, xf.ring->write_pointer);
}

/* The buffered port stays masked and the ring is drained by a timer until it is empty; then an event is needed and comes. */
static void test_ring_without_requests(void **state)
{
    struct rig *r = *state;
    unsigned port = XF_VCPUS + 1 + XF_VCPUS;

    for (unsigned turn = 0; turn < 3; turn++) {
        assert_true(xf_buffered(IOREQ_TYPE_COPY, WINDOW + 0xfffc, 4, r->last_write + 1));
        xf_raise(XF_VCPUS);
        loop_poll(r->loop, 0);
        assert_true(xf.port[port].masked);
        for (unsigned i = 0; i < 5; i++) {
            loop_advance(r->loop, 10000000);
            assert_int_equal(r->last_write, turn * 6 + i + 1);
            assert_true(xf.port[port].masked);
            assert_true(xf_buffered(IOREQ_TYPE_COPY, WINDOW + 0xfffc, 4, r->last_write + 1));
            xf_raise(XF_VCPUS); /* as Xen does for each entry: no wake-up */
            assert_true(xf.port[port].pending);
            assert_int_equal(xf.queue_len, 0);
        }
        loop_advance(r->loop, 10000000);
        assert_int_equal(r->last_write, turn * 6 + 6);
        loop_advance(r->loop, 10000000); /* found empty: unmasked, what was raised since fires once */
        loop_poll(r->loop, 0);
        loop_advance(r->loop, 10000000);
        assert_false(xf.port[port].masked);
    }
    assert_int_equal(r->order_errors, 0);
}

/* ---- events, waiting, turns of the loop ---- */

static unsigned chain_left, chain_served;

static void chain(unsigned vcpu)
{
    assert_true(xf_answered(vcpu, NULL));
    chain_served++;
    if (chain_left > 0) {
        chain_left--;
        xf_request(vcpu, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1);
    }
}

static void on_pipe(void *arg, uint32_t events)
{
    (void)events;
    *(unsigned *)arg = chain_served;
}

/* A vCPU that never stops asking: all its requests are answered, and other descriptors and timers get their turns. */
static void test_busy_guest(void **state)
{
    struct rig *r = *state;
    struct watch w;
    unsigned seen_at = 0;
    int fd[2];

    chain_left = 5000;
    chain_served = 0;
    xf.on_notify = chain;
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(loop_watch(r->loop, &w, fd[0], EPOLLIN, on_pipe, &seen_at), 0);
    xf_request(0, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1);
    loop_poll(r->loop, 0);
    assert_in_range(chain_served, 1, 1000);
    assert_int_equal(write(fd[1], "x", 1), 1);
    loop_poll(r->loop, 0);
    assert_in_range(seen_at, 1, 2000);
    for (int i = 0; i < 1000 && chain_left > 0; i++) {
        loop_poll(r->loop, 0);
    }
    assert_int_equal(chain_served, 5001);
    xf.on_notify = NULL;
    loop_unwatch(&w);
    close(fd[0]);
    close(fd[1]);
    settle(r);
    for (unsigned i = 0; i < XF_VCPUS; i++) {
        assert_false(xf.port[XF_VCPUS + 1 + i].masked); /* the next one wakes us */
    }
    assert_int_equal(r->plat->nmasked, 0);
}

/* Four vCPUs in turn, each woken by the other's answer, with events while ports are masked. */
static void relay(unsigned vcpu)
{
    assert_true(xf_answered(vcpu, NULL));
    chain_served++;
    xf_raise(vcpu); /* an event without a request */
    if (chain_left > 0) {
        chain_left--;
        xf_request((vcpu + 1) % XF_VCPUS, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1);
    }
}

static void test_relay(void **state)
{
    struct rig *r = *state;

    chain_left = 3000;
    chain_served = 0;
    xf.on_notify = relay;
    xf_request(0, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1);
    for (int i = 0; i < 3000 && chain_left > 0; i++) {
        loop_poll(r->loop, 0);
    }
    settle(r);
    assert_int_equal(chain_served, 3001);
    xf.on_notify = NULL;
    assert_int_equal(r->plat->nmasked, 0);
    assert_int_equal(ask_of(r, 3, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1), 0xef);
}

/* A descriptor that becomes ready while the loop looks for the next request is served before the look ends in vain. */
static void *late_byte(void *arg)
{
    usleep(50000);
    return write(*(int *)arg, "x", 1) == 1 ? NULL : arg;
}

static void keep_asking(unsigned vcpu)
{
    assert_true(xf_answered(vcpu, NULL));
    chain_served++;
    if (chain_left > 0) {
        xf_request(vcpu, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1);
    }
}

static void stop_asking(void *arg, uint32_t events)
{
    char c;

    (void)events;
    assert_int_equal(read(*(int *)arg, &c, 1), 1);
    chain_left = 0;
}

static void test_descriptor_while_busy(void **state)
{
    struct rig *r = *state;
    struct watch w;
    pthread_t t;
    int fd[2];

    chain_left = 1;
    chain_served = 0;
    xf.on_notify = keep_asking;
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(loop_watch(r->loop, &w, fd[0], EPOLLIN, stop_asking, &fd[0]), 0);
    assert_int_equal(pthread_create(&t, NULL, late_byte, &fd[1]), 0);
    xf_request(0, IOREQ_TYPE_PIO, XF_READ, PORT, 0, 1, 1);
    while (chain_left > 0) {
        loop_poll(r->loop, 0); /* would not end if the descriptor were not looked at */
    }
    pthread_join(t, NULL);
    settle(r);
    xf.on_notify = NULL;
    loop_unwatch(&w);
    close(fd[0]);
    close(fd[1]);
}

static void test_clock_that_stands_still(void **state)
{
    static const struct {
        uint64_t took_ns[SPIN_TRIES];
        unsigned turns;
    } rows[] = {
        {{12500, 12400, 12500, 12600, 12500, 12500, 12500, 12500, 12500}, 40},
        {{90000, 12500, 70000, 12500, 12500, 12500, 80000, 90000, 12500}, 40},         /* others ran */
        {{0, 0, 30, 0, 12500, 12500, 12500, 12500, 12500}, 40},                        /* it stood still */
        {{0, 0, 30, 0, 0, 12500, 12500, 12500, 12500}, 10},                            /* for too long */
        {{0}, 10},                                                                     /* all the time */
        {{~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull}, 1},          /* it ran backwards */
        {{2000000, 2000000, 2000000, 2000000, 2000000, 900000, 900000, 900000, 1}, 1}, /* a slow CPU */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t took_ns[SPIN_TRIES];

        memcpy(took_ns, rows[i].took_ns, sizeof(took_ns));
        assert_int_equal(server_turns_per_us(took_ns), rows[i].turns);
    }
}

/* A request that came only once our looking had ended is no reason to look on: it may have been ours to wait for. */
static void test_looking_that_displaces_the_guest(void **state)
{
    struct rig *r = *state;
    struct platform *p = r->plat;

    p->spin_skip = p->spin_skip_left = 0;
    for (unsigned n = 1, skip = 1; n <= 10; n++, skip = skip < 255 ? skip * 2 + 1 : 255) {
        server_spin_learn(p, true, true, 8000);
        assert_int_equal(p->spin_skip, skip < 255 ? skip : 255);
        assert_int_equal(p->spin_skip_left, p->spin_skip);
    }
    server_spin_learn(p, false, false, 8000);
    assert_int_equal(p->spin_skip, 255);
    p->spin_gap = 800;
    server_spin_learn(p, true, false, 80);
    assert_int_equal(p->spin_skip, 0);
    assert_int_equal(p->spin_gap, (800 * 7 + 80) / 8);
    server_spin_learn(p, false, false, 80);
    assert_int_equal(p->spin_skip, 1);
    assert_int_equal(p->spin_gap, (800 * 7 + 80) / 8);
}

static void test_stop_and_cont(void **state)
{
    struct rig *r = *state;
    uint64_t v;

    assert_true(xf_buffered(IOREQ_TYPE_COPY, WINDOW + 0xfffc, 4, 1));
    xf_request(2, IOREQ_TYPE_PIO, XF_READ, PORT + 1, 0, 1, 1);
    platform_set_running(r->plat, false);
    assert_int_equal(r->last_write, 1); /* part of the state that is saved */
    assert_true(xf_answered(2, &v)); /* or the domain could not be suspended */
    assert_int_equal(v, 0xfe);
    assert_string_equal(xf.log, "disable notify "); /* in this order: none can be made in between */
    assert_false(xf.enabled);
    xf_request(1, IOREQ_TYPE_PIO, XF_READ, PORT + 1, 0, 1, 1);
    xf_raise(XF_VCPUS);
    settle(r);
    loop_advance(r->loop, 1000000000);
    assert_false(xf_answered(1, NULL));
    platform_set_running(r->plat, false);
    platform_set_running(r->plat, true);
    platform_set_running(r->plat, true);
    assert_true(xf.enabled);
    settle(r);
    assert_true(xf_answered(1, &v)); /* its event is long gone */
    assert_int_equal(v, 0xfe);
    settle(r);
    assert_int_equal(r->plat->nmasked, 0);
}

/* Xen knows of the shutdown before the vCPU runs on; only the first one counts. S3 is the other way round. */
static void test_shutdown(void **state)
{
    struct rig *r = *state;

    ask(r, IOREQ_TYPE_PIO, 0, OFF, 1, 1, 1);
    assert_string_equal(xf.log, "poweroff notify ");
    assert_int_equal(r->ended, PLATFORM_POWEROFF + 1);
    ask(r, IOREQ_TYPE_PIO, 0, OFF, 2, 1, 1);
    assert_string_equal(xf.log, "poweroff notify notify ");
    assert_int_equal(r->ended, PLATFORM_POWEROFF + 1);
    ask(r, IOREQ_TYPE_PIO, 0, OFF, 3, 1, 1);
    settle(r);
    assert_string_equal(xf.log, "poweroff notify notify notify param ");
}

/* ---- guest memory ---- */

static void test_memory_invalidate(void **state)
{
    struct rig *r = *state;
    struct guestmem *m = r->board.mem;
    uint32_t v = 0x11111111;

    guestmem_write(m, 0x10ffe, &v, 4);
    assert_int_equal(xf_ram(16)[0xfff], 0x11);
    assert_int_equal(xf_ram(17)[1], 0x11);
    assert_int_equal(xf.maps, 1);
    xf_balloon(17);
    xf_populate(17);
    ask(r, IOREQ_TYPE_INVALIDATE, 0, 0, UINT64_MAX, 4, 0);
    assert_int_equal(xf.maps, 0);
    guestmem_read(m, 0x10ffe, &v, 4);
    assert_int_equal(v, 0x1111); /* the new page */
}

/* I/O in flight keeps the pages it started with; new accesses see the new ones. */
static void test_memory_held(void **state)
{
    struct rig *r = *state;
    struct guestmem *m = r->board.mem;
    uint8_t *span;
    size_t got;
    uint8_t v;

    memset(xf_ram(16), 0x55, 4096);
    guestmem_hold(m);
    guestmem_hold(m);
    span = guestmem_span(m, 0x10000, 4096, &got);
    assert_non_null(span);
    xf_balloon(16);
    xf_populate(16);
    ask(r, IOREQ_TYPE_INVALIDATE, 0, 0, UINT64_MAX, 4, 0);
    assert_int_equal(span[5], 0x55);
    memset(span, 0x66, 4096); /* a worker's read goes on */
    guestmem_read(m, 0x10000, &v, 1);
    assert_int_equal(v, 0);
    guestmem_release(m);
    assert_int_equal(span[5], 0x66);
    assert_int_equal(xf.maps, 2);
    guestmem_release(m);
    assert_int_equal(xf.maps, 1);
    guestmem_release(m); /* one too many does not turn the count round */
    guestmem_hold(m);
    guestmem_release(m);
    assert_int_equal(xf_ram(16)[5], 0);
}

/* Once unmapped what was in use when more than 1024 mappings had been dropped during one transfer. */
static void test_memory_held_for_long(void **state)
{
    struct rig *r = *state;
    struct guestmem *m = r->board.mem;
    const uint8_t *old = xf_ram(16);
    uint8_t *first;
    size_t got;
    uint8_t v = 1;

    guestmem_hold(m);
    first = guestmem_span(m, 0x10000, 4096, &got);
    assert_non_null(first);
    xf_populate(16);
    for (unsigned i = 0; i < 3000; i++) {
        guestmem_invalidate(m);
        guestmem_read(m, 0x20000, &v, 1);
        guestmem_read(m, 0x400000, &v, 1);
    }
    first[0] = 0x77; /* a worker's write: a fault, or worse, if the mapping is gone */
    assert_int_equal(old[0], 0x77);
    assert_int_equal(xf_ram(16)[0], 0);
    assert_true(xf.maps < 2200); /* and that cannot grow for ever */
    xf_populate(32);
    xf_ram(32)[0] = 0x12;
    guestmem_invalidate(m);
    guestmem_read(m, 0x20000, &v, 1);
    assert_int_equal(v, 0); /* still the page that the guest has given away: its own problem */
    guestmem_release(m);
    assert_int_equal(xf.maps, 0);
    guestmem_read(m, 0x20000, &v, 1);
    assert_int_equal(v, 0x12);
}

/* Pages that come later are found without an INVALIDATE; the chunk stays one mapping, in place. */
static void test_memory_populated_later(void **state)
{
    struct rig *r = *state;
    struct guestmem *m = r->board.mem;
    uint8_t *before, *held;
    size_t got;
    uint8_t v;

    for (uint64_t gfn = 0x500; gfn < 0x600; gfn++) {
        xf_balloon(gfn);
    }
    before = guestmem_span(m, 0x4ff000, 0x3000, &got);
    assert_non_null(before);
    assert_int_equal(got, 0x1000);
    assert_null(guestmem_span(m, 0x500010, 0x3000, &got));
    assert_int_equal(got, 0xff0);
    guestmem_read(m, 0x500010, &v, 1);
    assert_int_equal(v, 0xff);
    v = 0x31;
    guestmem_write(m, 0x500010, &v, 1); /* nowhere */
    for (uint64_t gfn = 0x500; gfn < 0x5f0; gfn++) {
        xf_populate(gfn);
        xf_ram(gfn)[0] = (uint8_t)gfn;
        guestmem_read(m, gfn << 12, &v, 1);
        assert_int_equal(v, gfn & 0xff);
        assert_int_equal(xf.maps, 1);
    }
    assert_ptr_equal(guestmem_span(m, 0x4ff000, 0x3000, &got), before);
    assert_int_equal(got, 0x3000);
    guestmem_hold(m);
    held = guestmem_span(m, 0x500000, 0x1000, &got);
    xf_populate(0x5f0);
    xf_ram(0x5f0)[0] = 0x42;
    guestmem_read(m, 0x5f0000, &v, 1);
    assert_int_equal(v, 0x42);
    held[1] = 0x43; /* still mapped, and still the guest's */
    assert_int_equal(xf_ram(0x500)[1], 0x43);
    assert_int_equal(xf.maps, 2);
    guestmem_release(m);
    assert_int_equal(xf.maps, 1);
}

/* Mapping calls fail as a whole: ones, no crash, and it works again later. */
static void test_memory_map_fails(void **state)
{
    struct rig *r = *state;
    struct guestmem *m = r->board.mem;
    uint8_t v = 0;

    xf_ram(16)[0] = 0x21;
    xf.fail[XF_MAP] = ENOMEM;
    guestmem_read(m, 0x10000, &v, 1);
    assert_int_equal(v, 0xff);
    guestmem_write(m, 0x10000, &v, 1);
    xf.fail[XF_MAP] = 0;
    guestmem_read(m, 0x10000, &v, 1);
    assert_int_equal(v, 0x21);
    xf_balloon(17);
    guestmem_invalidate(m);
    guestmem_read(m, 0x11000, &v, 1);
    assert_int_equal(v, 0xff);
    xf_populate(17);
    for (unsigned after = 0; after < 2; after++) { /* the question fails, and the mapping after it */
        xf.fail[XF_MAP] = ENOMEM;
        xf.fail_in[XF_MAP] = xf.calls[XF_MAP] + after;
        guestmem_read(m, 0x11000, &v, 1);
        assert_int_equal(v, 0xff);
        xf.fail[XF_MAP] = 0;
    }
    assert_int_equal(xf.maps, 0);
    guestmem_read(m, 0x11000, &v, 1);
    assert_int_equal(v, 0);
    guestmem_invalidate(m);
    assert_int_equal(xf.maps, 0);
}

/* ---- video memory ---- */

static unsigned count_dirty(struct vram *v, unsigned first, unsigned n)
{
    uint8_t bits[256 / 8 + 1] = {0};
    unsigned count = 0;

    vram_dirty(v, first, n, bits);
    for (unsigned i = 0; i < n; i++) {
        count += bits[i / 8] >> i % 8 & 1;
    }
    return count;
}

static void test_vram_moves(void **state)
{
    struct rig *r = *state;
    struct vram *v = platform_vram_create(r->plat, 1 << 20);
    uint8_t b = 0;

    assert_non_null(v);
    memset(vram_data(v), 0x3c, vram_size(v));
    assert_null(xf_ram(0xf0000));
    assert_int_equal(vram_place(v, 0xf0000000), 0);
    assert_int_equal(xf_ram(0xf0080)[7], 0x3c);
    guestmem_read(r->board.mem, 0xf0080007, &b, 1);
    assert_int_equal(b, 0x3c);
    assert_int_equal(vram_place(v, 0x1000000), 0); /* above the RAM */
    assert_null(xf_ram(0xf0080));
    assert_int_equal(vram_place(v, 0xfff000), -EBUSY); /* over RAM, over the special pages: that would free them */
    assert_int_equal(vram_place(v, 0xfc000000), -EBUSY);
    assert_int_equal(vram_place(v, 0xfbf01000), -EBUSY);
    assert_int_equal(vram_place(v, 0), -EBUSY);
    assert_int_equal(vram_place(v, UINT64_C(1) << 40), -EBUSY);
    assert_int_equal(xf_ram(0x1000)[0], 0x3c);
    /* The guest gives some of it back: the rest still goes along, and comes home. */
    xf_balloon(0x1000);
    xf_balloon(0x1080);
    assert_int_equal(vram_place(v, 0xf0000000), 0);
    assert_null(xf_ram(0x1001));
    assert_null(xf_ram(0xf0000));
    assert_int_equal(xf_ram(0xf0001)[0], 0x3c);
    assert_int_equal(xf_ram(0xf00ff)[0], 0x3c);
    assert_int_equal(vram_place(v, VRAM_UNPLACED), 0);
    assert_null(xf_ram(0xf00ff));
    assert_int_equal(vram_data(v)[0x80000], 0x3c); /* ours stays whole */
    xf.fail[XF_RELOCATE] = EPERM;
    assert_int_equal(vram_place(v, 0xf0000000), -EPERM);
    xf.fail[XF_RELOCATE] = ESRCH; /* the domain is going: not an error */
    assert_int_equal(vram_place(v, 0xf0000000), 0);
    xf.fail[XF_RELOCATE] = 0;
    vram_destroy(v);
    guestmem_invalidate(r->board.mem);
}

static void test_vram_dirty(void **state)
{
    struct rig *r = *state;
    struct vram *v = platform_vram_create(r->plat, 1 << 20);
    uint8_t bits[32];
    uint8_t zero[4096 * 3] = {0};

    assert_int_equal(count_dirty(v, 0, 256), 0); /* nowhere yet: nobody can write */
    assert_int_equal(vram_place(v, 0xf0000000), 0);
    assert_int_equal(count_dirty(v, 0, 256), 256);
    assert_int_equal(count_dirty(v, 0, 256), 0);
    xf.dirty_gfn = 0xf0010;
    vram_dirty(v, 0, 256, bits);
    assert_int_equal(bits[2], 1);
    /* What we write on the guest's behalf: DMA, strings. */
    guestmem_write(r->board.mem, 0xf0000000 + 0x20800, zero, 4096);
    vram_dirty(v, 0, 256, bits);
    assert_int_equal(bits[0x20 / 8], 3);
    assert_int_equal(count_dirty(v, 0, 256), 0);
    ask(r, IOREQ_TYPE_PIO, XF_PTR | XF_READ, DATA, 0xf00ffffe, 1, 2);
    vram_dirty(v, 0, 256, bits);
    assert_int_equal(bits[31], 0x80);
    guestmem_write(r->board.mem, 0xf0000000 - 4096, zero, 4097); /* over its start */
    guestmem_write(r->board.mem, 0xf0100000 - 1, zero, sizeof(zero)); /* and past its end */
    guestmem_write(r->board.mem, 0xf0100000, zero, sizeof(zero));
    guestmem_write(r->board.mem, UINT64_MAX - 100, zero, 4096);
    assert_int_equal(count_dirty(v, 0, 256), 2);
    /* A part of it: bit 0 is the first page asked for. */
    assert_int_equal(count_dirty(v, 16, 8), 8);
    guestmem_write(r->board.mem, 0xf0000000 + 0x11000, zero, 1);
    guestmem_write(r->board.mem, 0xf0000000 + 0x18000, zero, 1);
    vram_dirty(v, 16, 8, bits);
    assert_int_equal(bits[0], 2);
    vram_dirty_stop(v);
    assert_false(xf.dirty_tracking);
    assert_int_equal(count_dirty(v, 16, 8), 8);
    assert_int_equal(vram_place(v, 0xf0200000), 0);
    assert_int_equal(count_dirty(v, 0, 256), 256);
    xf.fail[XF_TRACK] = ENODATA; /* shadow paging: "treat all as dirty" */
    assert_int_equal(count_dirty(v, 0, 256), 256);
    xf.fail[XF_TRACK] = 0;
    vram_destroy(v);
    guestmem_invalidate(r->board.mem);
}

static void test_vram_create_fails(void **state)
{
    struct rig *r = *state;
    struct vram *v;

    xf.fail[XF_POPULATE] = ENOMEM;
    assert_null(platform_vram_create(r->plat, 1 << 20));
    assert_int_equal(errno, ENOMEM);
    xf.fail[XF_POPULATE] = 0;
    xf.fail[XF_MAP] = EPERM;
    assert_null(platform_vram_create(r->plat, 1 << 20));
    assert_int_equal(errno, EPERM);
    xf.fail[XF_MAP] = 0;
    v = platform_vram_create(r->plat, 1 << 20);
    assert_non_null(v);
    vram_destroy(v);
    vram_destroy(NULL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_bring_up),
        cmocka_unit_test(test_start_fails),
        T(test_range_refused),
        T(test_ports),
        T(test_all_vcpus_with_one_event),
        T(test_pci_config),
        T(test_nonsense),
        T(test_string_in),
        T(test_string_out),
        T(test_string_over_holes),
        T(test_copy),
        T(test_ring_before_request),
        T(test_ring_full),
        T(test_ring_under_load),
        T(test_ring_without_requests),
        T(test_busy_guest),
        T(test_relay),
        T(test_descriptor_while_busy),
        cmocka_unit_test(test_clock_that_stands_still),
        T(test_looking_that_displaces_the_guest),
        T(test_stop_and_cont),
        T(test_shutdown),
        T(test_memory_invalidate),
        T(test_memory_held),
        T(test_memory_held_for_long),
        T(test_memory_populated_later),
        T(test_memory_map_fails),
        T(test_vram_moves),
        T(test_vram_dirty),
        T(test_vram_create_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
