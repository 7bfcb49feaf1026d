# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks in the box: a Linux guest's requests, one at a time, past its page cache. Part of box_bench.py (--storage)."""

import os
import re
import subprocess
import tempfile

import box as xenbox
import box_net

MIB = 48
# Guest: options of xl.cfg, what it has to be told, its disks: key, title, device there, xl's words for it.
DISK = "format={0},vdev={1},access=rw,target=/images/{2}"
PV = "backendtype=qdisk," + DISK
GUESTS = (
    ({}, (("ide_raw", "IDE, raw", "sda", DISK.format("raw", "hda", "a.raw")),
          ("ide_qcow2", "IDE, qcow2", "sdb", DISK.format("qcow2", "hdb", "b.qcow2")),
          ("qdisk_raw", "qdisk, raw", "xvde", PV.format("raw", "xvde", "c.raw")),
          ("qdisk_qcow2", "qdisk, qcow2", "xvdf", PV.format("qcow2", "xvdf", "d.qcow2")))),
    ({"hdtype": "ahci"}, (("ahci_raw", "AHCI, raw", "sda", DISK.format("raw", "hda", "a.raw")),)),
)
# Pattern: key, title, words of box/guest/probe.c
PATTERNS = (
    ("read", "read in sequence, 1 MiB", "read seq 1048576"),
    ("write", "write in sequence, 1 MiB", "write seq 1048576"),
    ("rread", "read at random, 4 KiB", "read random 4096"),
    ("rwrite", "write at random, 4 KiB", "write random 4096"),
)
DISKS = tuple(d for _, disks in GUESTS for d in disks)
ROWS = tuple(row for key, title, _, _ in DISKS for p, what, words in PATTERNS for row in (
    (f"{key}_{p}", f"{title}: {what}, {'MB/s' if 'seq' in words else 'requests/s'}"),
    (f"{key}_{p}_cpu", "  device model CPU, ms/MiB" if "seq" in words else "  device model CPU, us/request")))


def images(folder):
    """Files with the same random data, as dom0 gets them: {name: path}."""
    raw = os.path.join(folder, "disk.raw")
    with open(raw, "wb") as f:
        f.write(os.urandom(MIB << 20))
    qcow2 = os.path.join(folder, "disk.qcow2")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2], check=True)
    return {"a.raw": raw, "b.qcow2": qcow2}


def run(sh, guest, device, words, seconds):
    """Requests per second and CPU seconds of the device model for each."""
    before = guest.dm_stat()["cpu_s"]
    out = sh(f"probe disk /dev/{device} {words} {seconds}", seconds + 60)
    used = guest.dm_stat()["cpu_s"] - before
    found = re.search(r"disk: (\d+) requests in (\d+) ns", out)
    if found is None:
        raise xenbox.BoxError(f"{device}, {words}: {out.strip()}")
    count = int(found.group(1))
    return count * 1e9 / int(found.group(2)), used / count


def one(box, dm, name, options, disks, seconds):
    """One guest; returns the figures of its disks."""
    figures = {}
    config = box.config(dm=dm, iso="storage.iso", name=name, **options)
    guest = box.create(config.replace("disk = [ ", "disk = [ " + "".join(f"'{d[3]}', " for d in disks)), serial="pty")
    guest.wait_for(r"^GUEST: done\s", 300)
    guest.wait_for(r"/ # ", 30)
    sh = box_net.Shell(guest)
    for key, _, device, _ in disks:
        sh(f"for i in 1 2 3 4 5 6 7 8 9; do [ -b /dev/{device} ] && break; sleep 1; done")
        for p, _, words in PATTERNS:
            rate, cpu = run(sh, guest, device, words, seconds)
            whole = "seq" in words
            figures[f"{key}_{p}"] = rate * 1048576 / 1e6 if whole else rate
            figures[f"{key}_{p}_cpu"] = cpu * (1e3 if whole else 1e6)
    guest.destroy()
    guest.wait_gone(20)
    return figures


def either(box, *args):
    """The same; once more when the software CPU went wrong in one of its known ways."""
    since = len(box.read_console())
    try:
        return one(box, *args)
    except xenbox.BoxError:
        why = box.failed_by_tcg(since)
        if why is None:
            raise
    print(f"  once more: {why}", flush=True)
    box.sh(f"xl destroy {args[1]}", 60)
    return one(box, args[0], args[1] + "b", *args[2:])


def measure(box, a, kinds, results):
    """All rounds."""
    box.check_sh("cp /images/a.raw /images/c.raw; cp /images/b.qcow2 /images/d.qcow2", 60)
    box.iso_for("storage.iso", entry="normal", job="idle xen_emul_unplug=unnecessary", end="shell")
    for number in range(a.rounds):
        for kind in kinds if number % 2 == 0 else kinds[::-1]:
            figures = {}
            for n, (options, disks) in enumerate(GUESTS):
                figures.update(either(box, "peer" if kind == "peer" else None, f"disk{number}{kind[0]}{n}", options, disks,
                                      a.seconds))
            print(f"  round {number + 1}, {kind}: " + ", ".join(f"{d[0]} {figures[d[0] + '_read']:.0f} MB/s" for d in DISKS),
                  flush=True)
            for key, value in figures.items():
                results[kind].setdefault(key, []).append(value)


def folder():
    """Where the images are made."""
    return tempfile.TemporaryDirectory(prefix="hvm-dm-bench-")
