#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvm-dm beside the peer on real Xen in the box: the same guest by turns, in one run of the box; medians.

usage: box_bench.py [--rounds N] [--json FILE] [--dm hvm-dm|PATH] [--only hvm-dm|peer] [--idle SECONDS]
                    [--net | --storage] [--seconds N]
--net measures the network cards instead (box_net.py): iperf3 and ping between guest and dom0; --storage disks
(box_storage.py): requests of a guest, one at a time.
"""

import argparse
import json
import os
import re
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "box"))
import box as xenbox  # noqa: E402
import box_net  # noqa: E402
import box_storage  # noqa: E402

ROWS = (
    ("user_space_s", "xl create to user space, s"),
    ("dm_cpu_s", "device model CPU up to there, s"),
    ("xl_create_s", "xl create itself, s"),
    ("port_1f7_us", "guest's port read, 0x1f7 (IDE), us"),
    ("port_64_us", "guest's port read, 0x64 (8042), us"),
    ("port_3fd_us", "guest's port read, 0x3fd (UART), us"),
    ("port_xen_us", "  for comparison: a port that Xen answers, us"),
    ("cd_read_s", "20 MB from the CD by DMA, s"),
    ("rss_mib", "idle: resident, MiB"),
    ("private_mib", "idle: private, MiB"),
    ("idle_cpu_percent", "idle: device model CPU, %"),
    ("idle_switches", "idle: context switches per second"),
)
PORTS = {"0x1f7": "port_1f7_us", "0x64": "port_64_us", "0x3fd": "port_3fd_us", "0x5f0": "port_xen_us"}


def one(box, dm, number, idle_s):
    """One guest from xl create to idle; returns the figures."""
    guest = box.create(box.config(dm=dm, iso="bench.iso", name=f"bench{number}"))
    up = guest.wait_for(xenbox.UP, 300)[1]
    at_up = guest.dm_stat()
    guest.wait_for(r"^GUEST: done\s", 300)
    log = guest.log
    figures = {"xl_create_s": guest.created, "user_space_s": up, "dm_cpu_s": at_up["cpu_s"],
               "cd_read_s": float(re.search(r"GUEST: read 20 MB in ([\d.]+)", log).group(1))}
    for port, median_ns in re.findall(r"GUEST: port (0x\w+) (\d+)", log):
        if port in PORTS:
            figures[PORTS[port]] = int(median_ns) / 1000
    time.sleep(5)
    before, t0 = guest.dm_stat(), time.monotonic()
    time.sleep(idle_s)
    after, seconds = guest.dm_stat(), time.monotonic() - t0
    figures.update(rss_mib=after["rss_kb"] / 1024, private_mib=after["private_kb"] / 1024,
                   idle_cpu_percent=100 * (after["cpu_s"] - before["cpu_s"]) / seconds,
                   idle_switches=sum(n - before["switches"].get(thread, 0)
                                     for thread, n in after["switches"].items()) / seconds)
    guest.destroy()
    guest.wait_gone(20)
    return figures


def measure(a, kinds, results):
    """All rounds in one box."""
    # The peer's binary is part of dom0's image; only hvm-dm's has to be brought.
    dm = a.dm if "hvm-dm" in kinds else "peer"
    images = {"install.iso": xenbox.make("mkiso")}
    with box_storage.folder() as folder, xenbox.Box(
            dm=dm, images={**images, **(box_storage.images(folder) if a.storage else {})}, verbose=True) as box:
        if a.net or a.storage:
            (box_net if a.net else box_storage).measure(box, a, kinds, results)
            return box
        box.iso_for("bench.iso", job="bench", end="idle")
        for number in range(a.rounds):
            order = kinds if number % 2 == 0 else kinds[::-1]
            for kind in order:
                figures = one(box, "peer" if kind == "peer" else None, f"{number}{kind[0]}", a.idle)
                print(f"  round {number + 1}, {kind}: user space after {figures['user_space_s']:.1f} s, "
                      f"{figures['dm_cpu_s']:.1f} s of CPU", flush=True)
                for key, value in figures.items():
                    results[kind].setdefault(key, []).append(value)
        return box


def main():
    """Returns the exit code."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--json")
    p.add_argument("--dm", default="hvm-dm")
    p.add_argument("--only", choices=["hvm-dm", "peer"])
    p.add_argument("--idle", type=float, default=20)
    p.add_argument("--net", action="store_true")
    p.add_argument("--storage", action="store_true")
    p.add_argument("--seconds", type=int, default=5, help="for each of iperf3's runs, each pattern of requests")
    a = p.parse_args()
    kinds = [a.only] if a.only else ["hvm-dm", "peer"]
    results = {kind: {} for kind in kinds}
    try:
        measure(a, kinds, results)
    except xenbox.BoxError as e:
        print(f"box_bench: {e}", file=sys.stderr)
        return 1
    print(f"\n{'in the box (median of ' + str(a.rounds) + ')':<48}" + "".join(f"{k:>10}" for k in kinds))
    for key, title in box_net.ROWS if a.net else box_storage.ROWS if a.storage else ROWS:
        values = [statistics.median(results[k][key]) for k in kinds]
        ratio = f"{values[0] / values[1]:8.2f}x" if len(values) == 2 and values[1] else ""
        print(f"{title:<48}" + "".join(f"{v:>10.1f}" for v in values) + ratio)
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump({"accel": "kvm" if xenbox.have_kvm() else "tcg", "load": os.getloadavg()[2], "runs": results}, f,
                      indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
