# SPDX-License-Identifier: GPL-2.0-or-later
"""Every form of request, from polite to hostile, on hvm-dm alone."""
import random
import threading

import fakexen
import pcibus
import vga
from ide import BUFFER, SECONDARY, Drive

PIO, COPY, PCI, TIMEOFFSET, INVALIDATE = 0, 1, 2, 7, 8


def raw(m, kind, direction, addr, data=0, size=1, count=1, ptr=0, df=0, server=0):
    """A request with no checks; returns the data field after it."""
    return int(m.cmd("xen raw_ioreq %d %d %s %#x %#x %d %d %d %d" % (
        server, kind, direction, addr, data, size, count, ptr, df)), 16)


def alive(t, m):
    m.outb(0x70, 0x38)
    t.equal(m.dm_status(), "running")
    m.outb(0x92, 0x02)
    t.equal(m.inb(0x92) & 2, 2, "port 0x92")


def test_every_type(t):
    with t.machine(iso=True) as m:
        t.equal(raw(m, PIO, "r", 0x92) & 0xff, m.inb(0x92), "PIO")
        t.equal(raw(m, PCI, "r", 0x0008 << 32 | 0, size=4) & 0xffffffff, 0x70008086, "PCI config")
        raw(m, COPY, "w", 0xa0000, 0x41)
        raw(m, INVALIDATE, "w", 0, 0xffffffffffffffff, size=4, count=0)
        raw(m, TIMEOFFSET, "w", 0, 3600, size=8)
        for kind in (3, 4, 5, 6, 9, 10, 100, 255):
            for direction in ("r", "w"):
                raw(m, kind, direction, 0x60, 0x55, size=4)
        alive(t, m)


def test_unknown_addresses(t):
    """Selected ranges may be gone by the time a request is looked at: ones, and no effect."""
    with t.machine() as m:
        for size in (1, 2, 4):
            ones = (1 << 8 * size) - 1
            for addr in (0x1234, 0xfffe, 0xffff, 0x5b):
                t.equal(raw(m, PIO, "r", addr, size=size) & ones, ones, "port %#x size %d" % (addr, size))
                raw(m, PIO, "w", addr, 0, size=size)
        for size in (1, 2, 4, 8):
            ones = (1 << 8 * size) - 1
            for addr in (0xd0000000, 0xfffffffffffffff0, 1 << 40, 1 << 63):
                t.equal(raw(m, COPY, "r", addr, size=size) & ones, ones, "address %#x" % addr)
                raw(m, COPY, "w", addr, 0, size=size)
        for sbdf in (0x00f8, 0x0100, 0xffff, 0x12345):
            t.equal(raw(m, PCI, "r", sbdf << 32, size=4) & 0xffffffff, 0xffffffff, "function %#x" % sbdf)
            raw(m, PCI, "w", sbdf << 32 | 4, 0xffff, size=4)
        alive(t, m)


def test_hostile_values(t):
    """Sizes, counts, addresses and pointers that Xen never sends."""
    with t.machine(iso=True, disk=True, timeout_ms=20000) as m:
        for kind in (PIO, COPY, PCI):
            for addr in (0x1f0, 0xa0000, 0x0008 << 32, 0xffff, 0xbffff, 1 << 63, (1 << 64) - 1):
                for size in (0, 3, 5, 8, 16, 0x7fffffff, 0xffffffff):
                    for direction in ("r", "w"):
                        raw(m, kind, direction, addr, 0x12345678, size=size)
        for kind in (PIO, COPY, PCI):
            for addr in (0x1f0, 0x60, 0xa0000, 0xbfff8, 0x0018 << 32):
                for count in (0, 4097, 0x10000, 0xffffffff):
                    for ptr in (0, 1):
                        raw(m, kind, "r", addr, 0x10000, size=4, count=count, ptr=ptr)
                        raw(m, kind, "w", addr, 0x10000, size=4, count=count, ptr=ptr)
        for data in (0xffffffffffffffff, 1 << 63, 0xfffff000, 0xa0000, 0x3fffffe, 0x40000000, 1 << 45):
            for df in (0, 1):
                for kind, addr in ((PIO, 0x1f0), (PIO, 0x3d5), (COPY, 0xa0000)):
                    raw(m, kind, "r", addr, data, size=4, count=16, ptr=1, df=df)
                    raw(m, kind, "w", addr, data, size=4, count=16, ptr=1, df=df)
        alive(t, m)


def test_random_raw(t):
    """Any bits at all, for a while."""
    rng = random.Random(11)
    with t.machine(iso=True, disk=True, vga="stdvga", timeout_ms=20000) as m:
        pcibus.assign(m)
        lines = []
        for _ in range(6000):
            kind = rng.choice((0, 0, 1, 1, 2, rng.randrange(256)))
            addr = rng.choice((rng.randrange(0x10000), rng.randrange(0xa0000, 0xc0000),
                               rng.randrange(0xf0000000, 0xf4000000), rng.randrange(0x20) << 35 | rng.randrange(256),
                               rng.getrandbits(64)))
            if kind == 0 and addr & 0xffff in (0xcf9, 0x92, 0x64, 0xb004, 0xb005):
                continue
            lines.append("xen raw_ioreq 0 %d %s %#x %#x %d %d %d %d" % (
                kind, rng.choice("rw"), addr, rng.choice((rng.getrandbits(64), rng.randrange(0x100000))),
                rng.choice((1, 2, 4, 8, rng.getrandbits(32))), rng.choice((1, 1, 7, 4096, rng.getrandbits(32))),
                rng.randrange(2), rng.randrange(2)))
        bad = [(line, a) for line, a in zip(lines, m.batch(lines)) if not a.startswith("OK")]
        t.equal(bad[:1], [], "answers")
        t.equal(m.dm_status(), "running")


def test_garbage(t):
    """A guest that writes garbage to everything: the process answers, lives, and does not grow."""
    def data_kib(m):
        with open("/proc/%d/status" % m.dm_pid()) as f:
            return int([x for x in f if x.startswith("RssAnon:")][0].split()[1])

    for vga_kind, seconds in (("cirrus", 3), ("stdvga", 3)):
        with t.machine(vga=vga_kind, vcpus=2, disk=True, iso=True, serial="null", timeout_ms=30000) as m:
            pcibus.assign(m)
            total = int(m.cmd("xen garbage 1000 1"))
            before = data_kib(m)
            total += int(m.cmd("xen garbage %d 2" % (1000 * seconds)))
            pcibus.assign(m)
            total += int(m.cmd("xen garbage 500 3"))
            grown = data_kib(m) - before
            t.equal(m.dm_status(), "running")
            t.check(grown < 512, "%d KiB more anonymous memory after garbage" % grown)
            t.check(len(m.log()) < 1 << 20, "log of %d bytes" % len(m.log()))
            t.notes.append("%s: %d accesses, %+d KiB" % (vga_kind, total, grown))


def test_every_port_garbage(t):
    """Writes of every width to every port, reset and power ports aside."""
    rng = random.Random(3)
    skip = set(range(0xcf8, 0xd00)) | {0x92, 0x64, 0xb2} | set(range(0xb000, 0xb040))
    with t.machine(iso=True, disk=True, timeout_ms=20000) as m:
        ports = [p for p in range(0x10000) if not skip & {p, p + 1, p + 2, p + 3}]
        for letter in "bwl":
            lines = ["out%s %#x %#x" % (letter, p, rng.getrandbits(32)) for p in ports
                     if p < 0x1000 or p >= 0xae00 and p < 0xc200]
            bad = [a for a in m.batch(lines) if not a.startswith("OK")]
            t.equal(bad[:1], [], "out" + letter)
        t.equal(m.dm_status(), "running")
        t.equal(m.fields("xen shutdown")["reason"], "-1", "shutdown")


def test_config_space_garbage(t):
    rng = random.Random(5)
    with t.machine(iso=True, disk=True) as m:
        functions = pcibus.functions(m)
        for _ in range(40):
            lines = []
            for dev, fn in functions:
                for reg in range(0, 256, 4):
                    lines += ["outl 0xcf8 %#x" % (0x80000000 | dev << 11 | fn << 8 | reg),
                              "outl 0xcfc %#x" % rng.getrandbits(32)]
            bad = [a for a in m.batch(lines) if not a.startswith("OK")]
            t.equal(bad[:1], [], "config writes")
        t.equal(m.dm_status(), "running")
        t.equal([f for f in pcibus.functions(m)], functions, "functions")


def test_string_io(t):
    """REP INS and OUTS on ordinary registers: the port stays, memory moves, in both directions."""
    with t.machine() as m:
        m.write(0x10000, bytes(range(1, 33)))
        m.outb(0x3c8, 0)
        m.cmd("xen outsb 0x3c9 0x10000 30")
        m.outb(0x3c7, 0)
        t.equal([m.inb(0x3c9) for _ in range(30)], list(range(1, 31)), "palette by OUTSB")
        m.outb(0x3c7, 0)
        m.cmd("xen insb 0x3c9 0x20000 30")
        t.equal(m.read(0x20000, 31), bytes(range(1, 31)) + b"\0", "palette by INSB")
        m.outb(0x3c7, 0)
        m.cmd("memset 0x20000 64 0")
        m.cmd("xen insb 0x3c9 0x2001d 30 df")
        t.equal(m.read(0x20000, 30), bytes(range(30, 0, -1)), "palette by INSB, backwards")
        m.outb(0x3c8, 0)
        m.cmd("xen outsb 0x3c9 0x1001d 30 df")
        m.outb(0x3c7, 0)
        t.equal([m.inb(0x3c9) for _ in range(30)], list(range(30, 0, -1)), "OUTSB backwards")
        m.outb(0x3c7, 0)
        m.cmd("xen insb 0x3c9 0x20ff0 32")
        t.equal(m.read(0x20ff0, 30), bytes(range(30, 0, -1)), "across a page")


def test_string_io_without_ram(t):
    """Memory that is not there reads as ones and takes no writes."""
    with t.machine() as m:
        m.outb(0x3c8, 0)
        for v in (0xff, 0xff, 0xff):
            m.outb(0x3c9, v)
        m.outb(0x3c8, 1)
        raw(m, PIO, "w", 0x3c9, 0x40000000, size=1, count=6, ptr=1)
        m.outb(0x3c7, 0)
        ones = [m.inb(0x3c9) for _ in range(3)]
        t.equal([m.inb(0x3c9) for _ in range(6)], ones * 2, "palette from nowhere")
        m.outb(0x3c7, 0)
        raw(m, PIO, "r", 0x3c9, 0x40000000, size=1, count=6, ptr=1)
        t.equal(m.inb(0x3c7) & 3, 3, "palette was read")
        m.outb(0x3c7, 0)
        m.inb(0x3c9)
        m.inb(0x3c9)
        alive(t, m)


def test_movs_and_stos(t):
    """COPY with a pointer advances both sides; STOS repeats one value."""
    with t.machine() as m:
        vga.set_mode(m, "mode13")
        data = bytes(i * 3 & 0xff for i in range(4096))
        m.write(0x10000, data)
        for size in (1, 2, 4, 8):
            m.cmd("memset 0xa0000 4096 0")
            m.cmd("xen movs %d w 0xa0000 0x10000 %d" % (size, 4096 // size))
            t.equal(m.read(0xa0000, 4096), data, "MOVS in, size %d" % size)
            m.cmd("memset 0x20000 4096 0")
            m.cmd("xen movs %d r 0xa0000 0x20000 %d" % (size, 4096 // size))
            t.equal(m.read(0x20000, 4096), data, "MOVS out, size %d" % size)
            m.cmd("memset 0xa0000 4096 0")
            m.cmd("xen movs %d w %#x %#x %d df" % (size, 0xa0400 - size, 0x10400 - size, 1024 // size))
            t.equal(m.read(0xa0000, 1024), data[:1024], "MOVS in backwards, size %d" % size)
            m.cmd("memset 0xa0000 4096 0")
            m.cmd("xen stos %d 0xa0010 0x1122334455667788 10" % size)
            want = bytes.fromhex("8877665544332211")[:size] * 10
            t.equal(m.read(0xa0000, 0x70), b"\0" * 16 + want + b"\0" * (0x60 - len(want)),
                    "STOS, size %d" % size)
        m.cmd("xen movs 4 r 0xa0800 0x20ff2 20")
        t.equal(m.read(0x20ff2, 80), m.read(0xa0800, 80), "RAM straddles a page")


def test_ring_order(t):
    """Buffered writes are seen before a synchronous request that follows them."""
    with t.machine() as m:
        vga.set_mode(m, "mode13")
        for n in range(200):
            addr = 0xa0000 + n % 64
            t.equal(m.values(["writeb %#x %#x" % (addr, n & 0xff), "readb %#x" % addr]), [n & 0xff],
                    "write %d" % n)
        answers = m.batch(["writew %#x %#x" % (0xa0000 + 2 * i, i * 7 & 0xffff) for i in range(3000)])
        t.equal(set(answers), {"OK"}, "3000 writes: the ring fills and wraps")
        t.equal(m.values(["readw %#x" % (0xa0000 + 2 * i) for i in range(3000)]),
                [i * 7 & 0xffff for i in range(3000)], "what they left")
        m.batch(["writeq %#x %#x" % (0xa0000 + 8 * i, i * 0x0101010101010101) for i in range(200)])
        t.equal(m.values(["readq %#x" % (0xa0000 + 8 * i) for i in range(200)]),
                [i * 0x0101010101010101 for i in range(200)], "entries of two slots")
        notified = int(m.fields("xen counts")["notify"])
        t.notes.append("%d notifications" % notified)


def test_ring_is_drained_without_requests(t):
    """A lone buffered write takes effect although nobody sends a request after it."""
    with t.machine(vnc="none") as m:
        vga.set_mode(m, "mode13")
        before = int(m.fields("xen counts")["unmask"])
        for i in range(600):
            answer = m.raw("xen ring 0 1 %#x 1 0x5a" % (0xa0000 + i))
            if answer != "OK":
                break
        m.cmd("clock_step 300000000")
        t.equal(m.raw("xen ring 0 1 0xa0000 1 0x5b"), "OK", "room in the ring after 300 ms")
        del before


def test_hostile_ring(t):
    """Entries of any type and size, indexes that a guest cannot make but a bug could."""
    rng = random.Random(9)
    with t.machine() as m:
        for _ in range(3000):
            m.raw("xen ring 0 %d %#x %d %#x" % (rng.choice((0, 1, 1, 2, 7, 8, rng.randrange(256))),
                                               rng.randrange(1 << 20), rng.choice((1, 2, 4, 8)),
                                               rng.getrandbits(64)))
        m.cmd("clock_step 200000000")
        t.equal(m.dm_status(), "running")
        m.inb(0x60)


def test_eight_vcpus(t):
    """Requests of eight vCPUs at once; each gets its own answers."""
    errors = []

    def work(m, v):
        try:
            c = m.client(v)
            rng = random.Random(v)
            for _ in range(30):
                values = [rng.randrange(256) for _ in range(20)]
                lines = []
                for x in values:
                    lines += ["write %#x 1 0x%02x" % (0x30000 + 0x1000 * v, x),
                              "xen outsb %#x %#x 1" % (0x81 if v % 2 else 0xb3, 0x30000 + 0x1000 * v),
                              "inb 0x92", "readb %#x" % (0xa0000 + v)]
                for a in c.batch(lines):
                    if not a.startswith("OK"):
                        errors.append((v, a))
            c.close()
        except Exception as e:
            errors.append((v, repr(e)))

    with t.machine(vcpus=8) as m:
        threads = [threading.Thread(target=work, args=(m, v)) for v in range(8)]
        for x in threads:
            x.start()
        for x in threads:
            x.join(60)
        t.equal(errors, [], "errors")
        alive(t, m)


def test_vcpus_do_not_wait_for_each_other(t):
    """While vCPU 0 reads a disk, vCPU 1 is served."""
    with t.machine(vcpus=2, iso=True) as m:
        c = m.client(1)
        d = Drive(m, SECONDARY)
        d.select()
        for _ in range(20):
            d.packet(b"\x28\0\0\0\0\0\0\0\x20\0\0\0", 0x8000)
            t.equal(c.inb(0x92) & 1, 0)
        c.close()


def test_many_vcpus(t):
    with t.machine(vcpus=128) as m:
        for v in (0, 1, 63, 64, 127):
            m.cmd("xen vcpu %d" % v)
            m.outb(0x92, 0)
            t.equal(m.inb(0x92) & 2, 0, "vCPU %d" % v)


def test_config_requests(t):
    """Configuration space by REP, and accesses that cross the dword."""
    with t.machine() as m:
        m.outl(0xcf8, 0x80000800)
        m.cmd("xen insl 0xcfc 0x10000 5")
        t.equal(m.read(0x10000, 20), bytes.fromhex("86800070") * 5, "REP INSL")
        m.cmd("xen insw 0xcfe 0x10010 2 df")
        t.equal(m.read(0x1000e, 4), bytes.fromhex("00700070"), "REP INSW backwards")
        m.write(0x10000, bytes((0x09, 0x0a, 0x0b)))
        m.outl(0xcf8, 0x80000860)
        m.cmd("xen outsb 0xcfd 0x10000 3")
        t.equal(m.pci_read(1, 0, 0x60), 0x80800b80, "REP OUTSB")
        m.outl(0xcf8, 0x80000800)
        value = m.inl(0xcfe)
        t.equal(value & 0xffff, 0x7000, "dword at 0xcfe")
        m.outl(0xcf8, 0x800000fc)
        m.inl(0xcff)
        m.outl(0xcff, 0xffffffff)
        for size in (1, 2, 4):
            for reg in (0xfc, 0xfe, 0xff, 0x100, 0xffc, 0xfff, 0xffffffff):
                raw(m, PCI, "r", 0x0008 << 32 | reg, size=size)
                raw(m, PCI, "w", 0x0008 << 32 | reg, 0xffffffff, size=size)
        t.equal(m.pci_read(1, 0, 0), 0x70008086)
        alive(t, m)


def test_invalidate(t):
    """Pages that come and go: a stale mapping is not used after INVALIDATE."""
    with t.machine(disk=True) as m:
        d = Drive(m)
        gfn = BUFFER >> 12
        for turn in range(5):
            d.issue(0x20, count=1, lba=turn)
            d.wait()
            data = d.data_in(512)
            t.equal(data, fakexen.pattern(turn, 512), "sector %d" % turn)
            t.equal(m.cmd("xen balloon %#x 1" % gfn), "1")
            d.issue(0x20, count=1, lba=turn)
            d.wait()
            m.cmd("xen insw 0x1f0 %#x 256" % BUFFER)
            t.equal(m.cmd("xen populate %#x 1" % gfn), "1")
            t.equal(m.read(BUFFER, 8), bytes(8), "the new page is untouched")
        for _ in range(200):
            m.cmd("xen invalidate")
        alive(t, m)


def test_dma_without_ram(t):
    """Bus-master DMA into a hole, over a hole, into device memory: nothing but a status."""
    with t.machine(disk=True) as m:
        d = Drive(m, bm=pcibus.find(pcibus.assign(m), 1, 4)[0])
        for addr in (0xe0000000, 0xa0000, 0xf0000000, 0xfffff000, 0x3fff000):
            m.outb(d.bm, 0)
            d.dma(0xc8, [(addr, 0x2000)], True, ms=500, count=16, lba=1)
            d.reset()
        m.outl(d.bm + 4, 0xfffffffc)
        d.issue(0xc8, count=16, lba=1)
        m.outb(d.bm, 9)
        m.cmd("clock_step 50000000")
        m.outb(d.bm, 0)
        d.reset()
        data, status = d.pio_in(0x20, 1, lba=1)
        t.equal(data, fakexen.pattern(1, 512), "the drive works")
        alive(t, m)


def test_shutdown_before_answer(t):
    """Xen knows about the reset before the vCPU runs on; a second request does not hang."""
    for line in ("outb 0xcf9 6", "outb 0x92 1", "outb 0x64 0xfe"):
        with t.machine() as m:
            m.cmd(line)
            s = m.fields("xen shutdown")
            t.equal((s["reason"], s["calls_at_answer"] != "0"), ("1", True), line)
            m.inb(0x60)
            t.equal(m.dm_status(), "running", "after " + line)


def test_stale_event(t):
    """An event with nothing to do is ignored: binding raises one per vCPU anyway."""
    with t.machine(vcpus=4) as m:
        before = int(m.fields("xen counts")["notify"])
        m.cmd("clock_step 20000000")
        after = int(m.fields("xen counts")["notify"])
        t.equal(before, after, "notifications without a request")


def test_unclaimed_ports_stay_in_xen(t):
    """What is not emulated is not registered: no round trip for debug and delay ports."""
    with t.machine() as m:
        before = int(m.fields("xen counts")["notify"])
        for port in (0x80, 0xed, 0xf0, 0x402, 0x510, 0x5678, 0x2f8, 0x278, 0x20, 0x40, 0x61, 0x70):
            m.inb(port)
            if port not in (0x20, 0x40, 0x61, 0x70):
                m.outb(port, 0)
        for dev in range(8, 32):
            m.batch(["inl 0xcfc"])
        after = int(m.fields("xen counts")["notify"])
        t.equal(after - before, 0, "requests that reached the device model")


def test_lines_cost_nothing_when_unchanged(t):
    with t.machine(serial="null", disk=True) as m:
        before = int(m.fields("xen counts")["isa_irq"])
        m.batch(["inb 0x3f8", "inb 0x3fa", "inb 0x1f7", "outb 0x3f9 0", "inb 0x60"] * 100)
        after = int(m.fields("xen counts")["isa_irq"])
        t.check(after - before <= 2, "%d line calls" % (after - before))


def test_string_read_is_one_request(t):
    """REP INSW of a sector costs one round trip and touches memory once."""
    with t.machine(iso=True) as m:
        d = Drive(m, SECONDARY)
        for _ in range(3):
            d.packet(b"\0" * 12)
            d.packet(b"\x03\0\0\0\x12" + bytes(7))
        d.packet(b"\x28\0\0\0\0\x05\0\0\x01\0\0\0")
        d.issue(0xa0, lba=0x0800 << 8)
        d.wait()
        m.write(0x200000, b"\x28\0\0\0\0\x05\0\0\x01\0\0\0")
        m.cmd("xen outsw 0x170 0x200000 6")
        d.wait()
        before = int(m.fields("xen counts")["notify"])
        m.cmd("xen insw 0x170 %#x 1024" % BUFFER)
        t.equal(int(m.fields("xen counts")["notify"]) - before, 1, "requests")
        t.equal(m.read(BUFFER, 2048), fakexen.pattern(5, 2048), "data")


def test_restart_in_one_domain(t):
    """Sixteen device models in turn on fresh domains leave no state behind."""
    for n in range(16):
        with t.machine(domid=n + 1) as m:
            t.equal(m.pci_read(0, 0, 0), 0x12378086)
