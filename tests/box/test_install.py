#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Installs a system from CD to disk and starts it from there, on real Xen.

Scenarios are the combinations of raw, qcow2, vhd; ide, ahci; emulated, pv. One of them is run when none is named; --all,
that is twelve, takes about an hour.
"""

import itertools
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import suite  # noqa: E402
from suite import xenbox  # noqa: E402
import install as xeninstall  # noqa: E402

USUAL = ("qcow2-ide-emulated",)
ALL = tuple("-".join(c) for c in itertools.product(("raw", "qcow2", "vhd"), ("ide", "ahci"), ("emulated", "pv")))


class Tests(suite.Suite):
    """One disk after the other."""

    scenarios = ALL
    default_scenarios = USUAL
    cd = ("installer.iso", "mkinstaller")

    def document(self, name):
        return "Install, start from the disk twice, look at the disk from outside."

    def clean(self):
        super().clean()
        self.box.sh("rm -f /images/raw-* /images/qcow2-* /images/vhd-*")

    def one(self, name):
        try:
            self.install(name)
        except xenbox.BoxError as e:
            self.check(name, False, e)
            if self.box.qemu.poll() is not None:
                raise

    def install(self, name):
        """The scenario."""
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
            wrong = disk.verify(tmp, os.path.join(os.path.dirname(self.box.images["installer.iso"]), "manifest"))
        self.check(f"{name}: the image seen from outside", not wrong, wrong)
        disk.remove()


if __name__ == "__main__":
    sys.exit(suite.main(Tests, __doc__))
