# SPDX-License-Identifier: GPL-2.0-or-later
"""The PV drivers' disks: a blkif frontend in guest memory, put to the peer as well. Grant reference N of the fake is guest
page N (tests/fakexen/README.md)."""
import os
import shutil
import struct
import subprocess
import tempfile
import time

import ide
from fakexen import QtestError, make_image
from harness import compare, ours

RING, DATA = 0x1000000, 0x1100000     # apart from what ide.py uses
PAGE = 4096
READ, WRITE, BARRIER, FLUSH, DISCARD, INDIRECT = 0, 1, 2, 3, 5, 6
SECTORS = 8192


class Front:
    """A frontend of disk dev, its ring at RING and its data pages from DATA on."""

    def __init__(self, m, dev=51712, kind="disk", mode="w", params=None, order=0, i386=False, connect=True):
        self.m, self.dev, self.i386, self.order = m, dev, i386, order
        self.back = "/local/domain/0/backend/qdisk/1/%d" % dev
        self.front = "/local/domain/1/device/vbd/%d" % dev
        self.image = os.path.join(m.dir, "qdisk-%d.img" % dev)
        if params is None:
            make_image(self.image, SECTORS, 512)
        self.entry = 108 if i386 else 112
        self.entries = 1
        while self.entries * 2 <= ((PAGE << order) - 64) // self.entry:
            self.entries *= 2
        self.prod = self.cons = 0
        self.port = int(m.cmd("xen port_new"))
        self.events = 0
        for name, value in (("state", 1), ("virtual-device", dev), ("device-type", kind), ("backend-id", 0), ("backend", self.back)):
            self.write_front(name, value)
        for name, value in (("frontend", self.front), ("params", params or "aio:" + self.image), ("frontend-id", 1),
                            ("online", 1), ("removable", 0), ("bootable", 1), ("dev", "xvda"), ("type", "qdisk"), ("mode", mode),
                            ("device-type", kind), ("discard-enable", 1), ("direct-io-safe", 0), ("state", 1)):
            self.write_back(name, value)
        m.cmd("xen wait_xs %s/state 2 5000" % self.back)
        if connect:
            self.connect()

    def write_front(self, name, value):
        self.m.cmd("xen xs_write %s/%s %s" % (self.front, name, value))

    def write_back(self, name, value):
        self.m.cmd("xen xs_write %s/%s %s" % (self.back, name, value))

    def node(self, name):
        """A node of the backend, None if there is none."""
        answer = self.m.raw("xen xs_read %s/%s" % (self.back, name))
        return answer[3:] if answer.startswith("OK") else None

    def connect(self):
        self.m.cmd("memset %#x %d 0" % (RING, PAGE << self.order))
        self.m.write(RING, struct.pack("<IIII", 0, 1, 0, 1))
        if self.order:
            self.write_front("ring-page-order", self.order)
            for i in range(1 << self.order):
                self.write_front("ring-ref%d" % i, (RING >> 12) + i)
        else:
            self.write_front("ring-ref", RING >> 12)
        self.write_front("event-channel", self.port)
        self.write_front("protocol", "x86_32-abi" if self.i386 else "x86_64-abi")
        self.write_front("state", 3)
        self.m.cmd("xen wait_xs %s/state 4 5000" % self.back)
        self.write_front("state", 4)

    def put(self, request):
        self.m.write(RING + 64 + self.prod % self.entries * self.entry, request.ljust(self.entry, b"\0"))
        self.prod += 1

    def rw(self, op, ident, sector, segs):
        """segs: (page number from DATA on, first, last)."""
        head = struct.pack("<BBHQQ" if self.i386 else "<BBHxxxxQQ", op, len(segs), self.dev & 0xffff, ident, sector)
        self.put(head + b"".join(struct.pack("<IBBxx", (DATA >> 12) + p, a, b) for p, a, b in segs[:11]))

    def discard(self, ident, sector, count):
        self.put(struct.pack("<BBHQQQ" if self.i386 else "<BBHxxxxQQQ", DISCARD, 0, 0, ident, sector, count))

    def push(self):
        self.m.write(RING, struct.pack("<I", self.prod))
        self.m.cmd("xen port_raise %d" % self.port)

    def responses(self, n, ms=5000):
        """The next n responses: (id, operation, status)."""
        out = []
        while len(out) < n:
            prod = struct.unpack("<I", self.m.read(RING + 8, 4))[0]
            while self.cons != prod and len(out) < n:
                raw = self.m.read(RING + 64 + self.cons % self.entries * self.entry, 12)
                out.append(struct.unpack("<QBxh", raw))
                self.cons += 1
            if len(out) == n:
                break
            # An event for the next one, unless it has come meanwhile.
            self.m.write(RING + 12, struct.pack("<I", self.cons + 1))
            if struct.unpack("<I", self.m.read(RING + 8, 4))[0] == self.cons:
                self.events += 1
                try:
                    self.events = int(self.m.cmd("xen port_wait %d %d %d" % (self.port, self.events, ms)))
                except QtestError:
                    if struct.unpack("<I", self.m.read(RING + 8, 4))[0] == self.cons:
                        raise
        return out

    def ask(self, op, ident, sector, segs):
        self.rw(op, ident, sector, segs)
        self.push()
        return self.responses(1)[0]


def exercise(m, out, front):
    """Reads, writes, flushes, errors, each with its answer and what is in memory and in the image."""
    out("sectors", front.node("sectors"))
    out("sector-size", front.node("sector-size"))
    out("info", front.node("info"))
    out("flush is offered", front.node("feature-flush-cache"))
    out("order that is offered", front.node("max-ring-page-order"))
    out("read", front.ask(READ, 1, 100, [(0, 0, 7), (1, 3, 5)]))
    out("read: data", m.read(DATA, 2 * PAGE))
    m.cmd("memset %#x %d 0xa5" % (DATA, PAGE))
    out("write", front.ask(WRITE, 2, 200, [(0, 1, 6)]))
    out("flush", front.ask(FLUSH, 3, 0, []))
    with open(front.image, "rb") as f:
        f.seek(199 * 512)
        out("write: image", f.read(8 * 512))
    out("barrier", front.ask(BARRIER, 4, 300, [(0, 0, 0)]))
    out("last sector", front.ask(READ, 5, SECTORS - 1, [(2, 7, 7)]))
    out("last sector: data", m.read(DATA + 2 * PAGE + 7 * 512, 512))
    for i in range(2 * front.entries):
        out("many", front.ask(READ if i % 3 else WRITE, 2 ** 63 + i, i * 8, [(i % 8, 0, 7)]))
    for i in range(front.entries):
        front.rw(READ, 1000 + i, i, [(10 + i, 0, 0)])
    front.push()
    out("at once", sorted(front.responses(front.entries)))
    out("at once: data", b"".join(m.read(DATA + (10 + i) * PAGE, 512) for i in range(front.entries)))


BARRIER_RULE = ("barrier", ours((4, BARRIER, 0)), "the peer refuses it; neither offers it, old frontends send it all the same")


@compare([BARRIER_RULE])
def test_ring_64(m, out):
    exercise(m, out, Front(m))


@compare([BARRIER_RULE])
def test_ring_32(m, out):
    exercise(m, out, Front(m, i386=True))


@compare([BARRIER_RULE])
def test_ring_pages(m, out):
    exercise(m, out, Front(m, order=2))


@compare()
def test_bad_requests(m, out):
    """Segments and sectors that make no sense are refused, one by one, and the disk goes on."""
    f = Front(m)
    out("first > last", f.ask(READ, 1, 0, [(0, 5, 4)]))
    out("past the page", f.ask(READ, 2, 0, [(0, 0, 8)]))
    out("past the end", f.ask(READ, 3, SECTORS, [(0, 0, 0)]))
    out("over the end", f.ask(READ, 4, SECTORS - 1, [(0, 0, 1)]))
    out("sector wraps", f.ask(WRITE, 5, 2 ** 64 - 1, [(0, 0, 7)]))
    out("write past the end", f.ask(WRITE, 6, SECTORS, [(0, 0, 0)]))
    out("good", f.ask(READ, 7, 0, [(0, 0, 7)]))


def test_readonly(t):
    """Read-only means that nothing is written. (The peer does not take a disk of mode r here.)"""
    with t.machine() as m:
        f = Front(m, mode="r")
        t.equal(f.node("info"), "4")
        t.equal(f.node("feature-discard"), None)
        with open(f.image, "rb") as image:
            before = image.read()
        m.cmd("memset %#x %d 0xa5" % (DATA, PAGE))
        for op in (WRITE, BARRIER):
            t.equal(f.ask(op, 1, 0, [(0, 0, 7)]), (1, op, -1), "answer")
        t.equal(f.ask(READ, 2, 0, [(0, 0, 7)]), (2, READ, 0), "read")
        with open(f.image, "rb") as image:
            t.check(image.read() == before, "the image has changed")


@compare()
def test_close_and_open(m, out):
    """The frontend closes and comes back."""
    f = Front(m)
    f.write_front("state", 5)
    m.cmd("xen wait_xs %s/state 5 5000" % f.back)
    f.write_front("state", 6)
    m.cmd("xen wait_xs %s/state 6 5000" % f.back)
    out("closed", f.node("state"))
    f.write_front("state", 1)
    m.cmd("xen wait_xs %s/state 2 5000" % f.back)
    f.prod = f.cons = f.events = 0
    f.port = int(m.cmd("xen port_new"))
    f.connect()
    out("read", f.ask(READ, 1, 0, [(0, 0, 7)]))


@compare()
def test_detach(m, out):
    """xl block-attach and block-detach while the machine runs."""
    f = Front(m)
    out("read", f.ask(READ, 1, 0, [(0, 0, 7)]))
    f.write_back("online", 0)
    f.write_back("state", 5)
    f.write_front("state", 5)
    f.write_front("state", 6)
    # The peer takes its nodes away as soon as it has closed; libxl does it after us.
    end = time.monotonic() + 10
    while f.node("state") not in ("6", None) and time.monotonic() < end:
        time.sleep(0.005)
    out("closed", f.node("state") in ("6", None))


def test_detach_unused(t):
    """No frontend has connected: the backend closes by itself, and leaves the image alone."""
    with t.machine() as m:
        f = Front(m, connect=False)
        # libxl writes both in one transaction. In the other order here, the answer to the first could be overwritten.
        f.write_back("state", 5)
        f.write_back("online", 0)
        m.cmd("xen wait_xs %s/state 6 5000" % f.back)
        t.equal(f.node("state"), "6")


def test_persistent_and_indirect(t):
    """What the peer has not: pages that stay mapped, requests with more segments than fit into the ring."""
    with t.machine() as m:
        f = Front(m, connect=False)
        t.equal(f.node("feature-persistent"), "1")
        t.equal(f.node("feature-max-indirect-segments"), "64")
        f.write_front("feature-persistent", 1)
        f.connect()
        list_page = 100
        segs = b"".join(struct.pack("<IBBxx", (DATA >> 12) + i, 0, 7) for i in range(64))
        for turn in range(2):
            m.write(DATA + list_page * PAGE, segs)
            f.put(struct.pack("<BBHxxxxQQHxxI", INDIRECT, READ, 64, 77 + turn, 8, 0, (DATA >> 12) + list_page))
            f.push()
            t.equal(f.responses(1)[0], (77 + turn, READ, 0), "answer")
            with open(f.image, "rb") as image:
                image.seek(8 * 512)
                t.equal(m.read(DATA, 64 * PAGE), image.read(64 * PAGE), "256 KiB in one request")
            m.cmd("memset %#x %d 0x11" % (DATA, 64 * PAGE))


def test_wild_index(t):
    """A ring index of nonsense closes this disk; the board goes on."""
    with t.machine() as m:
        f = Front(m)
        f.prod = 100000
        f.push()
        m.cmd("xen wait_xs %s/state 6 5000" % f.back)
        t.equal(m.inb(0x92) & 0xfd, 0, "port 0x92")


def test_media(t):
    """cd-insert and cd-eject rewrite params: the size follows, 0 without a medium."""
    with t.machine() as m:
        f = Front(m, dev=5632, kind="cdrom", mode="r", params="aio:")
        make_image(f.image, SECTORS, 512)
        t.equal((f.node("sectors"), f.node("info")), ("0", "5"), "empty drive")
        t.equal(f.ask(READ, 1, 0, [(0, 0, 7)]), (1, READ, -1), "read of no medium")
        f.write_back("params", "aio:" + f.image)
        m.cmd("xen wait_xs %s/sectors %d 5000" % (f.back, SECTORS))
        t.equal(f.ask(READ, 2, 0, [(0, 0, 7)]), (2, READ, 0), "read")
        f.write_back("params", "aio:")
        m.cmd("xen wait_xs %s/sectors 0 5000" % f.back)
        t.equal(f.node("state"), "4", "state")


def test_counters(t):
    """query-block and query-blockstats as xentop asks for them."""
    with t.machine() as m:
        f = Front(m)
        f.ask(READ, 1, 0, [(0, 0, 7), (1, 0, 7)])
        f.ask(WRITE, 2, 0, [(0, 0, 3)])
        q = m.qmp()
        stats = [d for d in q.command("query-blockstats")["return"] if d["device"] == "qdisk-51712"][0]["stats"]
        t.equal((stats["rd_bytes"], stats["rd_operations"], stats["wr_bytes"], stats["wr_operations"]), (8192, 1, 2048, 1))
        entry = [d for d in q.command("query-block")["return"] if d["device"] == "qdisk-51712"][0]
        t.equal(entry["inserted"]["file"], f.image)
        q.close()


def test_end_of_the_process(t):
    """SIGHUP with a connected frontend: the backend is closed, and what was written is in the image."""
    with t.machine() as m:
        f = Front(m)
        m.cmd("memset %#x %d 0x3c" % (DATA, PAGE))
        f.ask(WRITE, 1, 0, [(0, 0, 7)])
        m.cmd("xen kill 1")
        t.equal(m.wait_exit(10), "exited 0")
        t.equal(f.node("state"), "6")
        with open(f.image, "rb") as image:
            t.equal(image.read(PAGE), b"\x3c" * PAGE)


def both_views(t, fmt, libxl):
    """One image in the emulated drive and in the PV drivers' disk at once: each sees what the other wrote, and the image
    is in order afterwards."""
    folder = tempfile.mkdtemp(prefix="pvdisk-")
    try:
        image = os.path.join(folder, "disk." + fmt)
        subprocess.run(["qemu-img", "create", "-q", "-f", fmt, image, "4M"], check=True)
        extra = ["-drive", "file=%s,if=ide,index=0,media=disk,format=%s,cache=writeback" % (image, fmt)]
        with t.machine(extra=extra) as m:
            d = ide.Drive(m)
            f = Front(m, params="%s:%s" % (libxl, image))
            size = int(f.node("sectors"))
            t.check(size >= SECTORS, "%d sectors" % size)
            data = [bytes((i * 3 + n) & 0xff for i in range(512)) for n in range(3)]
            d.pio_out(0x30, data[0], lba=100)
            t.equal(f.ask(READ, 1, 100, [(0, 0, 0)]), (1, READ, 0), "read of what the drive wrote")
            t.equal(m.read(DATA, 512), data[0], "what the drive wrote")
            m.write(DATA + PAGE, data[1])
            t.equal(f.ask(WRITE, 2, 7000, [(1, 0, 0)]), (2, WRITE, 0), "write")
            t.equal(d.pio_in(0x20, 1, lba=7000)[0], data[1], "what the frontend wrote")
            # The guest's driver unplugs the drive: the disk goes on.
            m.outw(0x10, 1)
            m.write(DATA + PAGE, data[2])
            t.equal(f.ask(WRITE, 3, 4000, [(1, 0, 0)]), (3, WRITE, 0), "write after unplug")
            t.equal(f.ask(FLUSH, 4, 0, []), (4, FLUSH, 0), "flush")
            for sector, want in ((100, data[0]), (7000, data[1]), (4000, data[2])):
                t.equal(f.ask(READ, 5, sector, [(2, 0, 0)]), (5, READ, 0), "read after unplug")
                t.equal(m.read(DATA + 2 * PAGE, 512), want, "sector %d" % sector)
            m.cmd("xen kill 1")
            t.equal(m.wait_exit(10), "exited 0")
        if fmt == "qcow2":
            subprocess.run(["qemu-img", "check", "-q", image], check=True)
        subprocess.run(["qemu-img", "convert", "-f", fmt, "-O", "raw", image, image + ".raw"], check=True)
        with open(image + ".raw", "rb") as raw:
            for sector, want in ((100, data[0]), (7000, data[1]), (4000, data[2])):
                raw.seek(sector * 512)
                t.equal(raw.read(512), want, "sector %d for qemu-img" % sector)
    finally:
        shutil.rmtree(folder)


def test_both_views_raw(t):
    both_views(t, "raw", "aio")


def test_both_views_qcow2(t):
    both_views(t, "qcow2", "qcow2")


def test_both_views_vhd(t):
    both_views(t, "vpc", "vhd")
