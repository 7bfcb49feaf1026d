#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures the network cards of hvm-dm beside the peer's, on the fake hypervisor, with a tap in a
network namespace of its own (root only).

    tests/bench/net_bench.py [--dm PATH] [--peer PATH] [--rounds N] [--ms N] [--only RE] [--json FILE]

The driver loops are tests/fakexen/nic_drivers.c: what Linux's e1000, 8139cp (C+ mode) and 8139too
(C mode) do. The device model has CPU 0, driver and host side share CPU 1 and
look for answers instead of sleeping, since waking another CPU can take longer than all else. The floor is a program
that reads or writes the tap and does nothing else. Runs are interleaved; medians over the rounds.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "board"))
import fakexen  # noqa: E402
import pcibus  # noqa: E402
import wire  # noqa: E402

TSO = 66 + 44 * 1448  # as much as fits into 64 KiB
# Row, direction, size, offload, burst (frames for each doorbell, or for each look at the interrupt)
E1000 = (
    ("to the host, 1514 bytes", "tx", 1514, "plain", 8),
    ("to the host, 1514 bytes, checksum by the card", "tx", 1514, "csum", 8),
    ("to the host, 64 KiB cut by the card", "tx", TSO, "tso", 1),
    ("to the host, 64 bytes, a doorbell each", "tx", 64, "plain", 1),
    ("to the host, 64 bytes, 32 for a doorbell", "tx", 64, "plain", 32),
    ("to the guest, 1514 bytes", "rx", 1514, "plain", 16),
    ("to the guest, 1514 bytes, no checksum yet", "rx", 1514, "csum", 16),
    ("to the guest, TCP stream of 64 KiB writes", "rx", TSO, "tso", 1),
    ("to the guest, 64 bytes", "rx", 64, "plain", 16),
    ("ping", "ping", 98, "plain", 1),
)
C_MODE = tuple(row for row in E1000 if row[3] == "plain" and "32 for" not in row[0])
ROWS = {"e1000": E1000, "rtl8139": E1000, "rtl8139c": C_MODE}
IDS = {"e1000": 0x100e8086, "rtl8139": 0x813910ec, "rtl8139c": 0x813910ec}


def figures(row, f):
    """Figures of a measurement: {name: number}."""
    frames, seconds = int(f["frames"]), int(f["ns"]) / 1e9
    out = {"lost": int(f["lost"])}
    if row[1] == "ping":
        out.update({"us": int(f["med"]) / 1000, "cpu": int(f["cpu"]) / max(frames, 1) / 1000})
        return out
    if row[1] == "tx" and int(f["irqs"]) and row[3] != "tso" and int(f["outside"]) != frames:
        raise SystemExit("%s: %s frames of %d came out of the tap" % (row[0], f["outside"], frames))
    frames = max(frames, 1)
    out.update({"frames/s": frames / seconds, "MB/s": int(f["bytes"]) / seconds / 1e6,
                "cpu": int(f["cpu"]) / frames / 1000, "frames/irq": frames / max(int(f["irqs"]), 1)})
    return out


def machine(dm, model, argv=None):
    return fakexen.Machine(dm=dm, vga=None, mem=64, argv=argv,
                           extra=wire.nic("rtl8139" if model == "rtl8139c" else model))


def measure(dm, model, ms, only):
    """All rows of one card."""
    out = {}
    with machine(dm, model) as m:
        placed = pcibus.assign(m)
        slot = next(d for d, fn in pcibus.functions(m) if m.pci_read(d, fn, 0) == IDS[model])
        bar = pcibus.find(placed, slot, 0 if model == "e1000" else 1)[0]
        if model == "e1000":  # driver up: then the link follows
            m.writel(bar, 0x40)
            m.cmd("clock_step 600000000")
        m.cmd("bench pin other")
        m.cmd("xen spin 1")
        with wire.Wire():
            pass
        for row in ROWS[model]:
            if not only.search("%s, %s" % (model, row[0])):
                continue
            line = "bench nic %s %d %#x %s %s %d %s %d " % ((model, slot, bar, wire.TAP) + row[1:])
            m.fields(line + "50")
            out[row[0]] = figures(row, m.fields(line + "%d" % ms))
    return out


def floor(dm, ms, only):
    out = {}
    with machine(dm, "e1000", ["-xen-domid", "1"]) as m:
        for row in E1000:
            if row[1] != "ping" and only.search(row[0]):
                out[row[0]] = figures(row, m.fields("bench tap %s %s %d %s %d" % (
                    ("floor0",) + row[1:4] + (ms,))))
    return out


def table(rounds, values):
    """Prints one table for each card; values: {model: {kind: {row: [figures]}}}."""
    def mid(model, kind, row, what):
        v = [x[what] for x in values[model][kind].get(row, []) if what in x]
        return statistics.median(v) if v else None

    def show(v):
        return "" if v is None else "%.0f" % v if v >= 100 else "%.1f" % v if v >= 10 else "%.2f" % v

    for model, rows in ROWS.items():
        print("\n| %s, median of %d | | hvm-dm | peer | ratio | floor |\n|---|---|---|---|---|---|"
              % (model, rounds))
        for row in rows:
            name = row[0]
            big = row[2] > 1000
            for what, title in ((("us", "us there and back"),) if row[1] == "ping" else
                                (("MB/s", "MB/s") if big else ("frames/s", "frames/s"),)) + \
                               (("cpu", "CPU us/frame"),):
                ours, peer = mid(model, "hvm-dm", name, what), mid(model, "peer", name, what)
                if ours is None:
                    continue
                ratio = "%.2f" % (ours / peer) if peer else ""
                print("| %s | %s | %s | %s | %s | %s |" % (
                    name, title, show(ours), show(peer), ratio,
                    show(mid("floor", "floor", name, what))))
                name = row[0]
            lost = [mid(model, k, row[0], "lost") for k in ("hvm-dm", "peer")]
            if any(lost):
                print("| | lost | %s | %s | | |" % tuple(show(x) for x in lost))


@wire.in_namespace
def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dm", default=fakexen.HVM_DM)
    p.add_argument("--peer", default=fakexen.PEER)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--ms", type=int, default=400, help="for each measurement")
    p.add_argument("--only", default="", help="rows whose card and name match")
    p.add_argument("--models", default=",".join(ROWS))
    p.add_argument("--kinds", default="hvm-dm,peer")
    p.add_argument("--json", help="write all values there")
    args = p.parse_args()
    only = re.compile(args.only)
    subprocess.run(["make", "-s", "-C", TOP, "-f", "tests/fakexen/fakexen.mk"], check=True, stdout=sys.stderr)
    kinds = {"hvm-dm": args.dm, "peer": args.peer}
    kinds = {k: kinds[k] for k in args.kinds.split(",")}
    models = args.models.split(",")
    values = {m: {k: {} for k in ("hvm-dm", "peer", "floor")} for m in list(ROWS) + ["floor"]}
    for n in range(args.rounds):
        for model in models:
            for kind, dm in kinds.items():
                print("round %d of %d: %s, %s" % (n + 1, args.rounds, model, kind), file=sys.stderr)
                for row, f in measure(dm, model, args.ms, only).items():
                    values[model][kind].setdefault(row, []).append(f)
        for row, f in floor(os.path.join(fakexen.BUILD, "floor_dm"), args.ms, only).items():
            values["floor"]["floor"].setdefault(row, []).append(f)
    table(args.rounds, values)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"rounds": args.rounds, "values": values}, f, indent=1)


if __name__ == "__main__":
    main()
