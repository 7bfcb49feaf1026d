#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures hvm-dm beside the peer and beside a process that only answers, on the fake hypervisor.

    tests/bench/fakexen_bench.py [--dm PATH] [--peer PATH] [--rounds N] [--json FILE]

Runs are interleaved (one of each per round) and the table shows medians over the rounds. All times
are what the vCPU waits for, in microseconds unless a row says otherwise; "CPU" is what the device
model itself used for one request.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "board"))
import fakexen  # noqa: E402
import pcibus  # noqa: E402
from ide import BUFFER, PRIMARY, SECONDARY, Drive  # noqa: E402

READ10 = b"\x28\0\0\0\0%c\0\0%c\0\0\0"
PACKET = 0x200000


def result(m, line):
    """Runs a bench line; returns (median in us, device model CPU in us)."""
    f = m.fields(line)
    return int(f["med"]) / 1000, int(f["cpu"]) / 1000


def script(m, lines, turns):
    m.cmd("bench record")
    for line in lines:
        m.send(line)
    m.cmd("bench end")
    return result(m, "bench run %d" % turns)


def port_read(m, out):
    """Round trip of a port read: both on one CPU, on two, and on two with the vCPU looking."""
    for pin, spin, name in (("same", 0, "one CPU"), ("other", 0, "two CPUs, sleeping"),
                            ("other", 1, "two CPUs, vCPU spinning")):
        m.cmd("bench pin " + pin)
        m.cmd("xen spin %d" % spin)
        for _ in range(2):  # the first turn warms up
            us, cpu = result(m, "bench inb 0x64 10000")
        out["port read, " + name] = us
        out["port read, %s: CPU" % name] = cpu
    m.cmd("xen spin 0")
    m.cmd("bench pin none")


def other_requests(m, out):
    m.cmd("bench pin same")
    m.outl(0xcf8, 0x80000000)
    out["PCI config read"] = result(m, "bench inl 0xcfc 5000")[0]
    out["PCI address write"] = result(m, "bench outl 0xcf8 0x80000000 5000")[0]
    out["VGA memory read"] = result(m, "bench readb 0xa0000 5000")[0]
    m.cmd("bench pin none")


def string_reads(m, out):
    """REP INSW of one sector and of one CD block, in the middle of a long transfer."""
    m.cmd("bench pin same")
    d = Drive(m, PRIMARY)
    values = []
    for _ in range(8):
        d.issue(0x20, count=0, lba=0)
        d.wait()
        values.append(script(m, ["@xen insw 0x1f0 %#x 256" % BUFFER,
                                 "xen poll inb 0x3f6 0x88 0x08 1000"], 255)[0])
        d.data_in(512)
        d.wait()
    out["REP INSW, 256 words"] = statistics.median(values)
    d = Drive(m, SECONDARY)
    for _ in range(3):
        d.packet(bytes(12))
        d.packet(b"\x03\0\0\0\x12" + bytes(7))
    values = []
    for _ in range(8):
        start_packet(d, 0, 64, 2048)
        values.append(script(m, ["@xen insw 0x170 %#x 1024" % BUFFER,
                                 "xen poll inb 0x376 0x88 0x08 1000"], 63)[0])
        d.data_in(2048)
        d.wait()
    out["REP INSW, 1024 words"] = statistics.median(values)
    m.cmd("bench pin none")


def start_packet(d, lba, blocks, limit, features=0):
    m, b = d.m, d.base
    d.select()
    m.outb(b + 1, features)
    m.outb(b + 4, limit & 0xff)
    m.outb(b + 5, limit >> 8)
    m.outb(b + 7, 0xa0)
    d.wait()
    m.write(PACKET, READ10 % (lba, blocks))
    m.cmd("xen outsw %#x %#x 6" % (b, PACKET))
    d.wait()


def cd_reads(m, out, bm):
    """64 KiB from the CD, from the first register write to the last status: PIO as firmware does it,
    in DRQ blocks of 2048 bytes, and DMA as Linux does it."""
    m.cmd("bench pin same")
    m.write(PACKET, READ10 % (64, 32))
    lines = ["outb 0x176 0xa0", "outb 0x171 0", "outb 0x174 0", "outb 0x175 8", "outb 0x177 0xa0",
             "xen poll inb 0x376 0x88 8 1000", "xen outsw 0x170 %#x 6" % PACKET]
    for i in range(32):
        lines += ["xen poll inb 0x376 0x88 8 1000", "inb 0x177",
                  "xen insw 0x170 %#x 1024" % (BUFFER + 2048 * i)]
    lines += ["xen poll inb 0x376 0x88 0 1000", "inb 0x177"]
    out["64 KiB from CD by PIO"] = script(m, lines, 100)[0]
    d = Drive(m, SECONDARY, 0, bm)
    d.prd([(BUFFER, 0)])  # 0: 64 KiB
    base = d.bm
    lines = ["outb 0x176 0xa0", "outb 0x171 1", "outb 0x177 0xa0", "xen poll inb 0x376 0x88 8 1000",
             "xen outsw 0x170 %#x 6" % PACKET, "outb %#x 9" % base, "xen wait_isa 15 1 1000",
             "inb %#x" % (base + 2), "outb %#x 0" % base, "inb 0x177", "outb %#x 6" % (base + 2)]
    out["64 KiB from CD by DMA"] = script(m, lines, 200)[0]
    if m.read(BUFFER, 2048) != fakexen.pattern(64, 2048):
        raise SystemExit("the CD gave wrong data")
    d = Drive(m, PRIMARY, 0, bm)
    d.prd([(BUFFER, 0), (BUFFER + 0x10000, 0)])
    base = d.bm
    lines = ["outb 0x1f6 0xe0", "outb 0x1f2 0", "outb 0x1f3 16", "outb 0x1f4 0", "outb 0x1f5 0",
             "outb 0x1f7 0xc8", "@outb %#x 9" % base, "@xen wait_isa 14 1 1000", "inb %#x" % (base + 2),
             "outb %#x 0" % base, "inb 0x1f7", "outb %#x 6" % (base + 2)]
    out["128 KiB from disk by DMA, start to interrupt"] = script(m, lines, 200)[0]
    m.cmd("bench pin none")


def memory(m, out):
    """Resident and private memory in MiB, without what is the guest's or the fake's."""
    resident = private = 0
    ours = True
    with open("/proc/%d/smaps" % m.dm_pid()) as f:
        for line in f:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                ours = "fakexen" not in line
            elif ours and line.startswith("Rss:"):
                resident += int(line.split()[1])
            elif ours and line.startswith(("Private_Clean:", "Private_Dirty:")):
                private += int(line.split()[1])
    out["resident memory, MiB"] = resident / 1024
    out["private memory, MiB"] = private / 1024


def idle(m, out, seconds=3):
    """Context switches per second of an idle guest without a viewer."""
    def switches():
        total = 0
        for task in os.listdir("/proc/%d/task" % m.dm_pid()):
            with open("/proc/%d/task/%s/status" % (m.dm_pid(), task)) as f:
                total += sum(int(x.split()[1]) for x in f if "ctxt_switches" in x)
        return total
    time.sleep(0.5)
    before = switches()
    time.sleep(seconds)
    out["context switches per second, idle"] = (switches() - before) / seconds


def start_time(dm, out, images):
    values = []
    for _ in range(6):
        with fakexen.Machine(dm=dm, vga="cirrus", **images) as m:
            values.append(int(m.cmd("xen start_time")) / 1e6)
    out["exec to running, ms"] = statistics.median(values[1:])


def pread_floor(out, path):
    """What the same data cost by preadv from the page cache."""
    buf = [bytearray(131072)]
    fd = os.open(path, os.O_RDONLY)
    values = []
    for _ in range(300):
        start = time.monotonic_ns()
        os.preadv(fd, buf, 16 * 512)
        values.append((time.monotonic_ns() - start) / 1000)
    os.close(fd)
    out["128 KiB from disk by DMA, start to interrupt"] = statistics.median(values)


def measure(name, dm, images):
    out = {}
    if name.startswith("floor"):
        argv = ["-xen-domid", "1"] if name == "floor" else ["--spin", "50", "-xen-domid", "1"]
        with fakexen.Machine(dm=dm, argv=argv) as m:
            port_read(m, out)
            m.cmd("bench pin same")
            for words in (256, 1024):
                out["REP INSW, %d words" % words] = \
                    result(m, "bench insw 0x1f0 %#x %d 2000" % (BUFFER, words))[0]
        if name == "floor":
            pread_floor(out, images["disk"])
        return out
    start_time(dm, out, images)
    with fakexen.Machine(dm=dm, vga="cirrus", **images) as m:
        bm = pcibus.find(pcibus.assign(m), 1, 4)[0]
        memory(m, out)
        idle(m, out)
        port_read(m, out)
        other_requests(m, out)
        string_reads(m, out)
        cd_reads(m, out, bm)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dm", default=fakexen.HVM_DM)
    p.add_argument("--peer", default=fakexen.PEER)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--json", help="write all values there")
    args = p.parse_args()
    if not os.path.exists(os.path.join(fakexen.BUILD, "floor_dm")):
        subprocess.run(["make", "-s", "-C", TOP, "-f", "tests/fakexen/fakexen.mk"], check=True,
                       stdout=sys.stderr)
    floor = os.path.join(fakexen.BUILD, "floor_dm")
    kinds = {"hvm-dm": args.dm, "peer": args.peer, "floor": floor, "floor, spinning 50 us": floor}
    values = {kind: {} for kind in kinds}
    with tempfile.TemporaryDirectory() as d:
        images = {"disk": os.path.join(d, "disk.img"), "iso": os.path.join(d, "cd.iso")}
        fakexen.make_image(images["disk"], 8192, 512)
        fakexen.make_image(images["iso"], 2048, 2048)
        for n in range(args.rounds):
            for kind, dm in kinds.items():
                print("round %d of %d: %s" % (n + 1, args.rounds, kind), file=sys.stderr)
                for row, value in measure(kind, dm, images).items():
                    values[kind].setdefault(row, []).append(value)
    rows = list(values["peer"])
    median = {kind: {row: statistics.median(v) for row, v in of.items()}
              for kind, of in values.items()}
    print("| fake Xen, median of %d rounds, us unless said | %s |" % (args.rounds, " | ".join(kinds)))
    print("|---|" + "---|" * len(kinds))
    for row in rows:
        cells = ["%.1f" % median[k][row] if row in median[k] else "" for k in kinds]
        print("| %s | %s |" % (row, " | ".join(cells)))
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"rounds": args.rounds, "median": median, "values": values}, f, indent=1)


if __name__ == "__main__":
    main()
