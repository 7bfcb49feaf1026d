#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures disks of hvm-dm beside the peer's, on the fake hypervisor.

    tests/bench/storage_bench.py [--dm PATH] [--peer PATH] [--rounds N] [--mib N] [--only RE] [--json FILE]

A row is a controller, a format and a pattern; a request is what Linux's libata does for one, from
the first register to the interrupt's acknowledgement, with one in flight. The vCPU looks for answers instead of sleeping
and has a CPU of its own, the device model has the other. The floor is a program that does the same reads and writes
with io_uring and nothing else, at the same places, with such memory and as much in flight (tests/bench/uring_floor.c);
it has no guest to talk to. Runs are interleaved; medians over the
rounds. "hot": the image is in the page cache. "cold": it was dropped from it. CPU is the device
model's own, of all its threads.
"""
import argparse
import json
import os
import random
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "board"))
import fakexen  # noqa: E402
import pcibus  # noqa: E402
import ahci  # noqa: E402
import test_pvdisk as pvdisk  # noqa: E402
from ide import BUFFER, PRD_TABLE  # noqa: E402

BATCH, COLD = 32, 256  # requests in a recorded script
FLOOR = os.path.join(TOP, "build", "tests", "bench", "uring_floor")


def ide_drive(path, fmt):
    return ["-drive", "file=%s,if=ide,index=0,media=disk,format=%s,cache=writeback" % (path, fmt)]


def whole(nbytes):
    """How the floor gives a request to the kernel: bytes of each part, and of each of its pieces of memory. Drives with
    DMA get pages of the guest that follow each other, so all is one."""
    return nbytes, nbytes


class IdeDma:
    """Bus-master DMA as ata_piix and libata drive it: LBA28 up to 256 sectors, else LBA48."""
    name = "IDE DMA"
    batch = BATCH
    drive = staticmethod(ide_drive)
    parts = staticmethod(whole)

    def __init__(self, m, path, fmt):
        self.m = m
        self.bm = pcibus.find(pcibus.assign(m), 1, 4)[0]

    def prepare(self, nbytes):
        """The descriptor table: pages of the guest's buffer, as the kernel gets them, 64 KiB at most."""
        table = b""
        for at in range(0, nbytes, 65536):
            size = min(65536, nbytes - at)
            last = at + size == nbytes
            table += struct.pack("<IHH", BUFFER + at, size & 0xffff, 0x8000 if last else 0)
        self.m.write(PRD_TABLE, table)

    def request(self, write, lba, nbytes):
        n, bm = nbytes // 512, self.bm
        lines = ["inb 0x3f6", "outb 0x1f6 %#x" % (0xe0 | (lba >> 24 & 15 if n <= 256 else 0))]
        if n > 256:
            lines += ["outb 0x1f1 0", "outb 0x1f2 %d" % (n >> 8), "outb 0x1f3 %d" % (lba >> 24),
                      "outb 0x1f4 0", "outb 0x1f5 0"]
        lines += ["outb 0x1f1 0", "outb 0x1f2 %d" % (n & 255), "outb 0x1f3 %d" % (lba & 255),
                  "outb 0x1f4 %d" % (lba >> 8 & 255), "outb 0x1f5 %d" % (lba >> 16 & 255),
                  "outl %#x %#x" % (bm + 4, PRD_TABLE), "outb %#x %d" % (bm, 0 if write else 8),
                  "outb 0x1f7 %#x" % ((0xca if write else 0xc8) if n <= 256 else 0x35 if write else 0x25),
                  "outb %#x %d" % (bm, 1 if write else 9), "xen wait_isa 14 1 20000",
                  "inb %#x" % (bm + 2), "outb %#x %d" % (bm, 0 if write else 8), "inb 0x3f6", "inb 0x1f7",
                  "outb %#x 4" % (bm + 2)]
        return lines

    def check(self):
        return self.m.inb(0x3f6) & 0xa9 == 0


class IdePio:
    """READ/WRITE MULTIPLE EXT, 16 sectors per block."""
    name = "IDE PIO"
    batch = 4  # the peer takes 20 ms for one
    drive = staticmethod(ide_drive)
    parts = staticmethod(whole)

    def __init__(self, m, path, fmt):
        self.m = m

    def prepare(self, nbytes):
        for port, value in ((0x1f6, 0xe0), (0x1f2, 16), (0x1f7, 0xc6)):
            self.m.outb(port, value)
        self.m.cmd("xen poll inb 0x3f6 0x80 0 1000")

    def request(self, write, lba, nbytes):
        n = nbytes // 512
        lines = ["outb 0x1f6 0xe0"]
        for shift in (8, 0):
            lines += ["outb 0x1f2 %d" % (n >> shift & 255),
                      "outb 0x1f3 %d" % (lba >> (24 if shift else 0) & 255),
                      "outb 0x1f4 %d" % (0 if shift else lba >> 8 & 255),
                      "outb 0x1f5 %d" % (0 if shift else lba >> 16 & 255)]
        lines += ["outb 0x1f7 %#x" % (0x39 if write else 0x29)]
        for at in range(0, nbytes, 8192):
            words = min(8192, nbytes - at) // 2
            if write:
                lines += (["xen wait_isa 14 1 20000"] if at else ["xen poll inb 0x3f6 0x88 8 20000"])
                lines += ["inb 0x1f7"] if at else []
                lines += ["xen outsw 0x1f0 %#x %d" % (BUFFER + at, words)]
            else:
                lines += ["xen wait_isa 14 1 20000", "inb 0x1f7",
                          "xen insw 0x1f0 %#x %d" % (BUFFER + at, words)]
        return lines + (["xen wait_isa 14 1 20000", "inb 0x1f7"] if write else ["inb 0x3f6"])

    def check(self):
        return self.m.inb(0x3f6) & 0xa9 == 0


class Ahci:
    """A queued command as Linux's ahci and libata issue it, one at a time, with INTx."""
    name = "AHCI"
    batch = BATCH
    parts = staticmethod(whole)

    @staticmethod
    def drive(path, fmt):
        return ["-device", "ahci,id=ahci0",
                "-drive", "file=%s,if=none,id=ahcidisk-0,format=%s,cache=writeback" % (path, fmt),
                "-device", "ide-hd,bus=ahci0.0,unit=0,drive=ahcidisk-0"]

    def __init__(self, m, path, fmt):
        self.m = m
        self.dev, self.abar, _ = ahci.setup(m)
        m.writel(self.abar + ahci.GHC, ahci.AE | ahci.IE)
        self.port = ahci.Port(m, self.abar, 0)
        self.port.start()
        m.writel(self.port.at + ahci.PIE, 0x7dc0007f)
        self.slot = 0

    def prepare(self, nbytes):
        pass

    def request(self, write, lba, nbytes):
        p, n, slot = self.port, nbytes // 512, self.slot
        self.slot = (slot + 1) % 32
        table = p.tables + slot * ahci.TABLE_BYTES
        fis = p.h2d(0x61 if write else 0x60, lba=lba, features=n & 0xffff, count=slot << 3)
        body = fis.ljust(0x80, b"\0")
        for at in range(0, nbytes, 65536):
            body += struct.pack("<QII", ahci.BUFFER + at, 0, min(65536, nbytes - at) - 1)
        head = struct.pack("<HHIQ16x", 5 | (0x40 if write else 0), (nbytes + 65535) // 65536, 0, table)
        return ["write %#x %d 0x%s" % (table, len(body), body.hex()),
                "write %#x %d 0x%s" % (p.list + 32 * slot, len(head), head.hex()),
                "writel %#x %#x" % (p.at + ahci.SACT, 1 << slot),
                "writel %#x %#x" % (p.at + ahci.CI, 1 << slot),
                "xen wait_intx %d 0 1 20000" % self.dev,
                "readl %#x" % (self.abar + ahci.IS), "readl %#x" % (p.at + ahci.PIS),
                "writel %#x 0xffffffff" % (p.at + ahci.PIS), "readl %#x" % (p.at + ahci.SACT),
                "writel %#x 1" % (self.abar + ahci.IS)]

    def check(self):
        return self.port.get(ahci.SACT) == 0 and self.port.get(ahci.TFD) & 0x89 == 0


class Qdisk:
    """blkif requests as Linux's xen-blkfront makes them with this backend: with indirect descriptors 32 pages each, else
    11, those of one request pushed together; pages stay granted where the backend keeps them mapped."""
    name = "qdisk"
    batch = BATCH
    TABLES = pvdisk.DATA + (2 << 20)  # pages of indirect descriptors

    @staticmethod
    def drive(path, fmt):
        return []

    @staticmethod
    def parts(nbytes):
        return min(nbytes, 32 * 4096), 4096

    def __init__(self, m, path, fmt):
        self.m = m
        self.front = f = pvdisk.Front(m, params="%s:%s" % ("aio" if fmt == "raw" else fmt, path), connect=False)
        self.indirect = int(f.node("feature-max-indirect-segments") or 0) >= 32
        if f.node("feature-persistent") == "1":
            f.write_front("feature-persistent", 1)
        f.connect()

    def prepare(self, nbytes):
        pass

    def descriptor(self, op, lba, page, n):
        """Lines for one entry of the ring: n pages from `page` on."""
        f = self.front
        segs = b"".join(struct.pack("<IBBxx", (pvdisk.DATA >> 12) + page + i, 0, 7) for i in range(n))
        at, lines = f.prod % f.entries, []
        if n > 11:
            table = self.TABLES + at * 4096
            lines = ["write %#x %d 0x%s" % (table, len(segs), segs.hex())]
            body = struct.pack("<BBHxxxxQQHxxI", pvdisk.INDIRECT, op, n, f.prod, lba + page * 8, f.dev & 0xffff,
                               table >> 12)
        else:
            body = struct.pack("<BBHxxxxQQ", op, n, f.dev & 0xffff, f.prod, lba + page * 8) + segs
        f.prod += 1
        return lines + ["write %#x %d 0x%s" % (pvdisk.RING + 64 + at * f.entry, len(body), body.hex())]

    def request(self, write, lba, nbytes):
        f, lines, page = self.front, [], 0
        while page * 4096 < nbytes:
            n = min(32 if self.indirect else 11, nbytes // 4096 - page)
            lines += self.descriptor(pvdisk.WRITE if write else pvdisk.READ, lba, page, n)
            page += n
        return lines + ["writel %#x %d" % (pvdisk.RING + 12, f.prod),
                        "xen ring_push %#x %d %d" % (pvdisk.RING, f.prod, f.port),
                        "xen wait_mem %#x %d 20000" % (pvdisk.RING + 8, f.prod)]

    def check(self):
        """Every answer in the ring is good."""
        f = self.front
        return all(struct.unpack("<h", self.m.read(pvdisk.RING + 64 + i * f.entry + 10, 2))[0] == 0
                   for i in range(min(f.prod, f.entries)))


# A further controller is a class with these functions. request() may count, so a script runs once.
CONTROLLERS = (IdeDma, IdePio, Ahci, Qdisk)
# Pattern: name, write, in sequence, bytes per request, cold
PATTERNS = (
    ("read in sequence, 128 KiB", False, True, 128 << 10, False),
    ("read in sequence, 1 MiB", False, True, 1 << 20, False),
    ("read at random, 4 KiB", False, False, 4096, False),
    ("write in sequence, 128 KiB", True, True, 128 << 10, False),
    ("write in sequence, 1 MiB", True, True, 1 << 20, False),
    ("write at random, 4 KiB", True, False, 4096, False),
    ("cold read in sequence, 1 MiB", False, True, 1 << 20, True),
    ("cold read at random, 4 KiB", False, False, 4096, True),
)
FORMATS = ("raw", "qcow2")


def wanted(controller, fmt, pattern):
    """Cold rows only where the image itself is the subject, PIO where firmware uses it."""
    if controller is IdePio:
        return pattern[3] == 128 << 10 and fmt == "raw"
    return not pattern[4] or (fmt == "raw" and controller is IdeDma)


def evict(path):
    """Drops the image from the page cache, having filled it first: on a virtual machine pages that were free for
    long have to be fetched from its host, which whoever comes first would pay for."""
    fd = os.open(path, os.O_RDONLY)
    while os.read(fd, 4 << 20):
        pass
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def positions(pattern, total, count, seed):
    """LBAs of `count` requests."""
    slots = total // pattern[3]
    if pattern[2]:
        return [i % slots * (pattern[3] // 512) for i in range(count)]
    r = random.Random(seed)
    return [r.randrange(slots) * (pattern[3] // 512) for _ in range(count)]


def repeats(pattern):
    """How often each place is visited."""
    return 1 if pattern[4] else max(8, min(60, (128 << 20) // (pattern[3] * BATCH)))


def measure(dm, controller, fmt, pattern, path, total, seed):
    """One measurement: {"us": per request, "transfer": us from what starts it to its interrupt, "cpu": us of CPU
    per request}."""
    def arguments(m):  # behind all others: a device may need the machine
        return m.arguments() + controller.drive(path, fmt)
    with fakexen.Machine(dm=dm, mem=64, argv=arguments) as m:
        c = controller(m, path, fmt)
        c.prepare(pattern[3])
        m.cmd("bench pin other")
        m.cmd("xen spin 1")
        # Hot: the same places again and again, median of all. Cold: each place once, so the mean counts.
        count = COLD if pattern[4] else controller.batch
        turns = repeats(pattern)
        cells = positions(pattern, total, count, seed)
        for turn in (1,) if pattern[4] else (2, turns):  # hot: the first one warms up
            m.cmd("bench record")
            for lba in cells * turn:
                lines = c.request(pattern[1], lba, pattern[3])
                wait = [i for i, line in enumerate(lines) if line.startswith("xen wait_")]
                for i, line in enumerate(lines):
                    # What starts a transfer and the wait for its end are timed apart, too.
                    m.send("@" + line if len(wait) == 1 and i in (wait[0] - 1, wait[0]) else line)
                m.send("lap")
            m.cmd("bench end")
            if pattern[4]:
                evict(path)
            f = m.fields("bench run 1")
        if not c.check():
            raise SystemExit("%s, %s: the drive reports an error" % (controller.name, pattern[0]))
        what = "mean" if pattern[4] else "med"
        return {"us": int(f.get("all_" + what, f[what])) / 1000, "transfer": int(f[what]) / 1000,
                "cpu": int(f["cpu"]) / 1000}


def floor(controller, pattern, path, total, seed, direct=False):
    """The same requests by io_uring alone: the same places, memory as scattered, as many in flight."""
    part, piece = controller.parts(pattern[3])
    cells = positions(pattern, total, COLD if pattern[4] else controller.batch, seed)
    argv = [FLOOR, path, "w" if pattern[1] else "r", str(pattern[3]), str(part), str(piece), str(repeats(pattern))]
    argv += ["cold"] if pattern[4] else []
    argv += ["direct"] if direct else []
    if pattern[4]:
        evict(path)
    out = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True,
                         input="\n".join(str(lba * 512) for lba in cells)).stdout
    f = dict(w.split("=") for w in out.split())
    return {"us": int(f["mean" if pattern[4] else "med"]) / 1000, "cpu": int(f["cpu"]) / 1000}


def build_floor():
    os.makedirs(os.path.dirname(FLOOR), exist_ok=True)
    subprocess.run(["gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Werror", "-o", FLOOR,
                    os.path.join(TOP, "tests", "bench", "uring_floor.c"), "-luring"], check=True)


def make_images(folder, mib):
    """{format: path} of images with the same random data, allocated to the end."""
    raw = os.path.join(folder, "disk.raw")
    with open(raw, "wb") as f:
        for _ in range(mib):
            f.write(os.urandom(1 << 20))
        f.flush()
        os.fsync(f.fileno())
    paths = {"raw": raw}
    if shutil.which("qemu-img"):
        paths["qcow2"] = os.path.join(folder, "disk.qcow2")
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, paths["qcow2"]], check=True)
    return paths


def takes(dm, fmt, path):
    """Whether the device model starts with this format."""
    try:
        with fakexen.Machine(dm=dm, extra=ide_drive(path, fmt)):
            return True
    except fakexen.StartError:
        return False


def table(rows, kinds, values):
    """"transfer": without the register accesses before and after; where that is what PIO does, all is."""
    def med(kind, row, what):
        v = [x[what] for x in values[kind].get(row, [])]
        return statistics.median(v) if v else None

    print("| disk, median | MB/s: hvm-dm | peer | ratio | transfer: hvm-dm | io_uring | ratio | O_DIRECT | IOPS: hvm-dm | peer | "
          "CPU, us per MiB: hvm-dm | peer | ratio | io_uring |")
    print("|---|" + "---|" * 13)
    for row in rows:
        nbytes = row[2][3]

        def show(v, fmt="%.0f"):
            return fmt % v if v is not None else ""

        def ratio(a, b):
            return show(a / b if a and b else None, "%.2f")

        def speed(kind, what="us"):
            us = med(kind, row, what)
            return nbytes / us if us else None
        per = {k: v * (1 << 20) / nbytes if v is not None else None for k, v in ((k, med(k, row, "cpu")) for k in kinds)}
        ours, peer, alone = speed("hvm-dm"), speed("peer"), speed("hvm-dm", "transfer")
        cells = [show(ours), show(peer), ratio(ours, peer), show(alone), show(speed("io_uring")),
                 ratio(alone, speed("io_uring")), show(speed("O_DIRECT"))]
        cells += [show(v * 1e6 / nbytes if v else None) for v in (ours, peer)]
        cells += [show(per["hvm-dm"]), show(per["peer"]), ratio(per["hvm-dm"], per["peer"]), show(per["io_uring"])]
        print("| %s, %s, %s | %s |" % (row[0].name, row[1], row[2][0], " | ".join(cells)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dm", default=fakexen.HVM_DM)
    p.add_argument("--peer", default=fakexen.PEER)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--mib", type=int, default=256, help="size of the images")
    p.add_argument("--only", default="", help="rows that match this regular expression")
    p.add_argument("--json", help="write all values there")
    args = p.parse_args()
    build_floor()
    kinds = ("hvm-dm", "peer", "io_uring", "O_DIRECT")
    values = {kind: {} for kind in kinds}
    with tempfile.TemporaryDirectory() as d:
        paths = make_images(d, args.mib)
        formats = [f for f in FORMATS if f in paths and takes(args.dm, f, paths[f])]
        rows = [(c, f, pattern) for c in CONTROLLERS for f in formats for pattern in PATTERNS
                if wanted(c, f, pattern) and re.search(args.only, "%s, %s, %s" % (c.name, f, pattern[0]))]
        for n in range(args.rounds):
            for row in rows:
                print("round %d of %d: %s, %s, %s" % (n + 1, args.rounds, row[0].name, row[1], row[2][0]),
                      file=sys.stderr)
                pair = [("hvm-dm", args.dm), ("peer", args.peer)]
                for kind, dm in pair if n % 2 == 0 else reversed(pair):
                    values[kind].setdefault(row, []).append(
                        measure(dm, *row, paths[row[1]], args.mib << 20, n))
                if row[1] == "raw":
                    values["io_uring"].setdefault(row, []).append(floor(row[0], row[2], paths["raw"], args.mib << 20, n))
                    if row[2][4]:
                        values["O_DIRECT"].setdefault(row, []).append(floor(row[0], row[2], paths["raw"], args.mib << 20, n, True))
    table(rows, kinds, values)
    if args.json:
        with open(args.json, "w") as f:
            json.dump([{"controller": r[0].name, "format": r[1], "pattern": r[2][0],
                        **{k: values[k].get(r, []) for k in kinds}} for r in rows], f, indent=1)


if __name__ == "__main__":
    main()
