#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of PV drivers (qdisk) on real Xen: a Linux with its stock drivers unplugs the emulated disk, writes and reads the
image as xvda; disks come and go at run time; CDs change; the guest is destroyed under load.
"""

import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import suite  # noqa: E402
from suite import xenbox  # noqa: E402

MB = 1 << 20
DISK_MB = 96
FROM_MB, DATA_MB = 8, 16        # where the guest writes the CD's file to
TROUBLE = re.compile(r"blk|xvd|vbd|gnttab|xenbus|I/O error|hung|Call Trace|\bbug\b", re.I)
# What a Linux says of disks when all is well.
HARMLESS = re.compile(r"blkfront: xvd\w+: (flush|barrier)|xvd\w: (xvd|unknown)|\bxvd\w:$|xenbus_probe_frontend|"
                      r"xen_blk|detected capacity|[Bb]lock layer|blk-mq|io scheduler|Kernel/User|blktrace|"
                      r"vbd vbd-5632: 19 xenbus_dev_probe", re.I)


class Tests(suite.Suite):
    """The scenarios."""

    scenarios = ("qcow2", "raw", "destroy")

    def __init__(self, *args):
        super().__init__(*args)
        self.iso = None
        self.sums = {}

    # -- helpers --------------------------------------------------------------------------------------

    def image(self, name, fmt, size_mb=DISK_MB):
        """A new image in dom0's /images."""
        local = os.path.join(self.out, name)
        subprocess.run(["qemu-img", "create", "-q", "-f", fmt, local, f"{size_mb}M"], check=True)
        self.box.put(local, f"/images/{name}")
        os.unlink(local)

    def content(self, name, fmt, start, size):
        """The image's bytes as others read them, after a check of its structure: a checksum."""
        local = os.path.join(self.out, name)
        self.box.get(f"/images/{name}", local)
        if fmt == "qcow2":
            took = subprocess.run(["qemu-img", "check", "-f", fmt, local], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, check=False)
            self.check(f"{name}: qemu-img check", took.returncode == 0, took.stdout)
        subprocess.run(["qemu-img", "convert", "-f", fmt, "-O", "raw", local, local + ".raw"], check=True)
        sums = subprocess.run(f"dd if={local}.raw bs={MB} skip={start} count={size} status=none | sha256sum", shell=True,
                              stdout=subprocess.PIPE, text=True, check=True).stdout.split()[0]
        os.unlink(local)
        os.unlink(local + ".raw")
        return sums

    def create(self, name, disk, **options):
        """A guest with PV drivers and a shell."""
        if self.iso is None:
            self.iso = self.box.iso_for("qdisk.iso", entry="normal", job="interactive", end="shell")
        guest = self.box.create(self.box.config(iso=self.iso, disk=disk, name=name, **options), serial="pty")
        guest.wait_for(xenbox.UP, 300)
        guest.wait_for(r"^GUEST: done\s", 60)
        self.check(f"{name}: up", True)
        return guest, suite.Shell(guest)

    def store(self, guest, dev, name):
        """A node of the backend."""
        return self.box.sh(f"xenstore-read /local/domain/0/backend/qdisk/{guest.domid}/{dev}/{name}")[1].strip()

    def read_sum(self, sh, dev, start, size):
        """Checksum of a piece of a disk, from the disk."""
        sh("echo 3 > /proc/sys/vm/drop_caches")
        return sh(f"dd if=/dev/{dev} bs=1M skip={start} count={size} 2>/dev/null | sha256sum | cut -c1-64", 120)[1]

    def exercise(self, guest, sh, dev, name):
        """Writes the CD's file, reads it back, measures."""
        want = sh(f"dd if=/cd/data bs=1M count={DATA_MB} 2>/dev/null | sha256sum | cut -c1-64")[1]
        self.sums[name] = want
        status, out = sh(f"dd if=/cd/data of=/dev/{dev} bs=1M count={DATA_MB} seek={FROM_MB} conv=fsync 2>&1", 120)
        self.check(f"{name}: written and flushed", status == 0, out)
        got = self.read_sum(sh, dev, FROM_MB, DATA_MB)
        self.check(f"{name}: read back", got == want, f"{got} is not {want}")
        # Odd places and sizes, from many processes at once.
        status, out = sh(f"for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/tmp/r$i bs=1k count=100 2>/dev/null; "
                         f"dd if=/tmp/r$i of=/dev/{dev} bs=1k seek=$((40000 + i * 777)) conv=fsync 2>/dev/null & done; wait; "
                         f"echo 3 > /proc/sys/vm/drop_caches; for i in 1 2 3 4 5 6 7 8; do "
                         f"dd if=/dev/{dev} bs=1k skip=$((40000 + i * 777)) count=100 2>/dev/null | cmp - /tmp/r$i || echo bad $i; "
                         f"done", 120)
        self.check(f"{name}: small pieces from many processes", out == "", out)
        status, out = sh(f"dd if=/dev/{dev} of=/tmp/x bs=512 skip={DISK_MB * 2048} count=1 2>&1 | grep -c '^0+0 records in'")
        self.check(f"{name}: size", out == "1", out)
        before = guest.dm_stat()["cpu_s"]
        sh("echo 3 > /proc/sys/vm/drop_caches")
        read = sh(f"t=$(now); dd if=/dev/{dev} of=/dev/null bs=1M count={DISK_MB} 2>/dev/null; echo $(elapsed $t)", 300)[1]
        used = guest.dm_stat()["cpu_s"] - before
        write = sh(f"t=$(now); dd if=/dev/zero of=/dev/{dev} bs=1M count={DATA_MB} seek=60 conv=fsync 2>/dev/null; "
                   f"echo $(elapsed $t)", 300)[1]
        try:
            print(f"     read {DISK_MB / float(read):.1f} MB/s (device model {used:.2f} s of CPU), "
                  f"write {DATA_MB / float(write):.1f} MB/s", flush=True)
        except (ValueError, ZeroDivisionError):
            self.check(f"{name}: measured", False, f"{read!r} {write!r}")

    def helpers(self, sh):
        """What the checks need in the guest."""
        sh("now() { cut -d' ' -f1 /proc/uptime; }; elapsed() { awk \"BEGIN { printf \\\"%.2f\\\", $(now) - $1 }\"; }; "
           "stty -echo 2>/dev/null; mount | grep -q /cd || mount -t iso9660 -o ro /dev/sr0 /cd")

    def check_guest_log(self, sh, name):
        """No complaint of the guest's kernel about disks."""
        out = sh("dmesg -r | grep '^<[0-4]>'")[1]
        bad = [line for line in out.splitlines() if TROUBLE.search(line) and not HARMLESS.search(line)]
        self.check(f"{name}: the guest's kernel does not complain", not bad, " | ".join(bad[:6]))

    def wait_state(self, guest, dev, state, seconds=15):
        """Waits for the backend's state; '' is: the node is gone."""
        for _ in range(seconds * 5):
            now = self.store(guest, dev, "state")
            if now == state or (state == "" and "No such" in now or "couldn't" in now):
                return True
            time.sleep(0.2)
        return False

    # -- scenarios ------------------------------------------------------------------------------------

    def disk(self, fmt):
        """All that a disk has to do, in one format."""
        name = f"d.{fmt}"
        self.image(name, fmt)
        guest, sh = self.create(fmt, f"format={fmt},vdev=xvda,access=rw,backendtype=qdisk,target=/images/{name}")
        self.helpers(sh)
        found = sh("ls -d /sys/block/sd* /sys/block/xvd* 2>/dev/null | xargs")[1]
        self.check(f"{fmt}: xvda, and the emulated disk is unplugged", found == "/sys/block/xvda", found)
        self.check(f"{fmt}: the CD drive is the emulated one", sh("ls -d /sys/block/sr0")[0] == 0)
        self.check(f"{fmt}: connected", self.store(guest, 51712, "state") == "4", self.store(guest, 51712, "state"))
        self.exercise(guest, sh, "xvda", fmt)
        stats = self.box.sh(r"""printf '{"execute":"qmp_capabilities"}{"execute":"query-blockstats"}' |
            socat -t 2 - UNIX-CONNECT:/run/xen/qmp-libxenstat-%d""" % guest.domid)[1]
        counted = re.search(r'"rd_bytes":\s*(\d+)[^}]*', stats.partition("qdisk-51712")[2])
        self.check(f"{fmt}: counters for xentop", counted and int(counted[1]) > DISK_MB * MB, stats[-600:])
        self.attach(guest, sh, fmt)
        self.media(guest, sh, fmt)
        self.check_guest_log(sh, fmt)
        sh("sync")
        guest.type_serial("poweroff -f\n")
        self.check(f"{fmt}: off", guest.wait_gone(30), guest.state())
        self.check_gone(guest, fmt)
        self.check(f"{fmt}: others read the same from the image", self.content(name, fmt, FROM_MB, DATA_MB) == self.sums[fmt])
        print("     log: " + guest.dm_log().replace("\n", " | "), flush=True)

    def attach(self, guest, sh, fmt):
        """xl block-attach and block-detach."""
        self.image("second", fmt, 32)
        status, out = self.box.sh(f"xl block-attach {guest.name} "
                                  f"'format={fmt},vdev=xvdb,access=rw,backendtype=qdisk,target=/images/second'")
        self.check(f"{fmt}: xl block-attach", status == 0, out)
        status, out = sh("for i in $(seq 100); do [ -b /dev/xvdb ] && break; usleep 100000; done; cat /sys/block/xvdb/size")
        self.check(f"{fmt}: the second disk comes", out == "65536", out)
        status, out = sh("dd if=/cd/data of=/dev/xvdb bs=1M count=10 seek=3 conv=fsync 2>&1")
        self.check(f"{fmt}: it is written", status == 0, out)
        want = sh("dd if=/cd/data bs=1M count=10 2>/dev/null | sha256sum | cut -c1-64")[1]
        self.check(f"{fmt}: and read", self.read_sum(sh, "xvdb", 3, 10) == want)
        status, out = self.box.sh(f"xl block-detach {guest.name} xvdb")
        self.check(f"{fmt}: xl block-detach", status == 0, out)
        self.check(f"{fmt}: the second disk goes", sh("usleep 300000; ls /dev/xvdb 2>&1 | grep -c 'No such'")[1] == "1")
        fds = self.box.sh(f"ls -l /proc/{guest.dm_pid}/fd | grep -c second")[1].strip()
        self.check(f"{fmt}: its image is closed", fds == "0", fds)
        self.check(f"{fmt}: others read the same from the second image", self.content("second", fmt, 3, 10) == want)
        self.box.sh("rm -f /images/second")

    def media(self, guest, sh, fmt):
        """xl cd-eject and cd-insert while the disk is in use."""
        sh("umount /cd")
        guest.type_serial("dd if=/dev/xvda of=/dev/null bs=1M > /dev/null 2>&1 &\n")
        status, out = self.box.sh(f"xl cd-eject {guest.name} hdc")
        self.check(f"{fmt}: xl cd-eject", status == 0, out)
        status, out = self.box.sh(f"xl cd-insert {guest.name} hdc /images/{self.iso}")
        self.check(f"{fmt}: xl cd-insert", status == 0, out)
        status, out = sh("wait; for i in $(seq 50); do mount -t iso9660 -o ro /dev/sr0 /cd 2>/dev/null && break; "
                         "usleep 200000; done; ls /cd/data", 60)
        self.check(f"{fmt}: the CD is readable again", out == "/cd/data", out)
        state = self.store(guest, 51712, "state")
        self.check(f"{fmt}: the disk stays connected", state == "4", state)

    def run_raw(self):
        """A raw disk."""
        self.disk("raw")

    def run_qcow2(self):
        """A qcow2 disk, in the emulated drive first and in the PV drivers' afterwards."""
        self.disk("qcow2")

    def run_destroy(self):
        """xl destroy in the middle of writes."""
        self.image("d.raw", "raw")
        guest, sh = self.create("destroy", "format=raw,vdev=xvda,access=rw,backendtype=qdisk,target=/images/d.raw")
        self.helpers(sh)
        guest.type_serial("while :; do dd if=/cd/data of=/dev/xvda bs=1M conv=fsync > /dev/null 2>&1; done &\n")
        time.sleep(2)
        status, out = self.box.sh("xl destroy destroy")
        self.check("destroy: xl destroy", status == 0, out)
        self.check_gone(guest, "destroy")


if __name__ == "__main__":
    sys.exit(suite.main(Tests, __doc__))
