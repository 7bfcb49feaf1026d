#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Installs a system from CD to disk and starts it from there, on real Xen.

usage: test_install.py [--only FORMAT-BUS-emulated|FORMAT-BUS-pv,...] [--all] [--out DIR] [--dm hvm-dm|peer|PATH]

Formats: raw, qcow2, vhd; buses: ide, ahci. Without --all a third of the twelve combinations, each value in at least one.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "box"))
import box as xenbox  # noqa: E402
import install as xeninstall  # noqa: E402

USUAL = ("raw-ide-emulated", "qcow2-ide-pv", "vhd-ahci-emulated", "qcow2-ahci-pv")
ALL = tuple("-".join(c) for c in itertools.product(("raw", "qcow2", "vhd"), ("ide", "ahci"), ("emulated", "pv")))


class Tests:
    """Counts; one disk after the other."""

    def __init__(self, box, out, manifest):
        self.box, self.out, self.manifest = box, out, manifest
        self.passed = self.failed = 0

    def check(self, what, ok, detail=""):
        """One expectation."""
        if ok:
            self.passed += 1
        else:
            self.failed += 1
        print(f"   {'ok  ' if ok else 'FAIL'} {what}" + (f": {detail}" if detail and not ok else ""), flush=True)

    def one(self, name):
        """Install, start from the disk twice, look at the disk from outside."""
        fmt, bus, drivers = name.split("-")
        disk = xeninstall.Disk(self.box, name, fmt, bus, drivers == "pv")
        dev = "/dev/xvd" if disk.pv else "/dev/sd"
        guest, seconds = xeninstall.install(self.box, disk)
        self.check(f"{name}: installed in {seconds:.0f} s", f"install: complete on {dev}" in guest.log, guest.log[-400:])
        self.check(f"{name}: CD ejected", "install: CD ejected" in guest.log, guest.log[-300:])
        bad = xeninstall.complaints(guest.log)
        for boot in (1, 2):
            guest, seconds = xeninstall.start(self.box, disk)
            self.check(f"{name}: boot {boot} from the disk, {seconds:.0f} s", f"up from {dev}" in guest.log, guest.log[-300:])
            self.check(f"{name}: installed files", "installed files ok" in guest.log, guest.log[-300:])
            self.check(f"{name}: own files", f"boots so far {boot}" in guest.log and "WRONG" not in guest.log, guest.log[-300:])
            bad += xeninstall.complaints(guest.log)
        self.check(f"{name}: no complaint of the kernel", not bad, bad)
        with tempfile.TemporaryDirectory(prefix="hvm-dm-install-") as tmp:
            wrong = disk.verify(tmp, self.manifest)
        self.check(f"{name}: the image seen from outside", not wrong, wrong)
        disk.remove()

    def run(self, names):
        """Each combination; one that breaks off counts as one failure."""
        for name in names:
            start = time.monotonic()
            try:
                self.one(name)
            except xenbox.BoxError as e:
                self.check(name, False, e)
                if self.box.qemu.poll() is not None:
                    raise
                self.box.sh("for d in $(xl list | awk 'NR > 2 { print $2 }'); do xl destroy $d; done; rm -f /images/raw-* "
                            "/images/qcow2-* /images/vhd-*", 60)
            print(f"   {name}: {time.monotonic() - start:.0f} s", flush=True)


def main():
    """Returns the exit code."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dm", default="hvm-dm")
    p.add_argument("--out")
    p.add_argument("--only", default="")
    p.add_argument("--all", action="store_true")
    a = p.parse_args()
    out = a.out or tempfile.mkdtemp(prefix="hvm-dm-test-")
    os.makedirs(out, exist_ok=True)
    names = a.only.split(",") if a.only else ALL if a.all else USUAL
    if set(names) - set(ALL):
        p.error(f"--only takes some of {', '.join(ALL)}")
    print(f"logs: {out}", flush=True)
    iso = xenbox.make("mkinstaller")
    tests = None
    for attempt in (1, 2):
        box = xenbox.Box(dm=a.dm, images={"installer.iso": iso}, out=out)
        tests = Tests(box, out, os.path.join(os.path.dirname(iso), "manifest"))
        try:
            with box:
                tests.run(names)
        except xenbox.BoxError as e:
            tests.check("box", False, e)
        why = box.failed_by_tcg()
        if not (tests.failed and why and attempt == 1):
            break
        print(f"the software CPU failed ({why}); all of it once more", flush=True)
    print(f"{tests.passed} passed, {tests.failed} failed")
    return 1 if tests.failed else 0


if __name__ == "__main__":
    sys.exit(main())
