#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""CD media at run time on real Xen: xl cd-insert and cd-eject while Linux uses the drive, an empty drive at boot, a
locked tray, eject from inside, a disc replaced in the middle of a read, smaller and oddly sized discs.
"""

import hashlib
import os
import random
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import suite  # noqa: E402

QUICK = 20      # seconds for one xl command in the box, where each costs some of them; libxl itself gives up after 40
SIZES = {"a.iso": 24 << 20, "b.iso": 3 << 20}
DRIVE = "/dev/sr1"
GUEST_SCRIPT = """
mkdir -p /m
sum() { mount -t iso9660 -o ro $1 /m && sha256sum < /m/data && umount /m; }
size() { blockdev --getsize64 $1; }
"""


def make_discs(folder):
    """Two file systems of different size, and one disc with a part of a sector at its end. {name: path}, {name: sum}"""
    paths, sums = {}, {}
    for name, size in SIZES.items():
        tree = os.path.join(folder, name + ".d")
        os.mkdir(tree)
        data = random.Random(name).randbytes(size)
        sums[name] = hashlib.sha256(data).hexdigest()
        with open(os.path.join(tree, "data"), "wb") as f:
            f.write(data)
        paths[name] = os.path.join(folder, name)
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", name[0].upper(), "-o", paths[name], tree],
                       check=True, stderr=subprocess.DEVNULL)
    paths["odd.img"] = os.path.join(folder, "odd.img")
    with open(paths["odd.img"], "wb") as f:
        f.write(random.Random("odd").randbytes(5 * 2048 + 777))
    return paths, sums


class Tests(suite.Suite):
    """The guest and what is done to it."""

    scenarios = ("media",)
    sums = {}

    def __init__(self, *args):
        super().__init__(*args)
        self.guest = self.sh = None

    @staticmethod
    def make_images(folder):
        paths, Tests.sums = make_discs(folder)
        return paths

    def xl(self, what, command, good=True):
        """An xl command that has to succeed (or fail), and quickly. Returns its output."""
        since = time.monotonic()
        status, out = self.box.sh(f"xl {command}", 60)
        took = time.monotonic() - since
        self.check(f"{what}: xl {command.split()[0]} {'succeeds' if good else 'fails'}, {took:.1f} s",
                   (status == 0) == good and took < QUICK, f"status {status}: {out[-400:]}")
        return out

    def insert(self, what, disc):
        """xl cd-insert of a disc into the second drive."""
        self.xl(what, f"cd-insert media hdd /images/{disc}")

    def ask(self, command, timeout=60):
        """(status, output) of a command in the guest."""
        return self.sh(command, timeout)

    def reads(self, what, disc):
        """The guest mounts the disc and finds its data."""
        status, out = self.ask(f"sum {DRIVE}", 90)
        self.check(f"{what}: {disc} is mounted and its checksum is right", status == 0 and self.sums[disc] in out, out)

    def start(self):
        """A guest whose second CD drive is empty."""
        iso = self.box.iso_for("boot.iso", job="interactive")
        disks = f"disk = [ 'file:/images/{iso},hdc:cdrom,r', ',hdd:cdrom,r' ]"
        config = re.sub(r"^disk = .*$", disks, self.box.config(iso=iso, name="media"), flags=re.M)
        self.guest = self.box.create(config, serial="pty")
        self.check("xl create with an empty drive", True)
        self.guest.wait_for(r"^GUEST: done\s", 250)
        self.sh = suite.Shell(self.guest)
        for line in GUEST_SCRIPT.strip().splitlines():
            self.ask(line)
        self.ask("dmesg -n 1; echo 0 > /proc/sys/dev/cdrom/autoclose")     # opening the device leaves an open tray open

    def empty(self):
        """What the guest sees of an empty drive; then the first disc."""
        status, out = self.ask(f"dd if={DRIVE} of=/dev/null bs=2048 count=1")
        self.check("empty drive: no medium", status != 0 and "No medium" in out, out)
        self.xl("empty drive", "cd-eject media hdd")
        self.insert("first disc", "a.iso")
        self.reads("first disc", "a.iso")

    def locked(self):
        """A mounted disc is locked in; after umount it comes out."""
        self.ask(f"mount -t iso9660 -o ro {DRIVE} /m")
        self.xl("mounted", "cd-eject media hdd", good=False)
        status, out = self.ask("sha256sum < /m/data", 90)
        self.check("mounted: its data stay", status == 0 and self.sums["a.iso"] in out, out)
        self.xl("boot CD, mounted", "cd-eject media hdc", good=False)
        self.ask("umount /m")
        self.xl("after umount", "cd-eject media hdd")
        status, out = self.ask(f"dd if={DRIVE} of=/dev/null bs=2048 count=1")
        self.check("ejected: no medium", status != 0 and "No medium" in out, out)

    def change(self):
        """Smaller, larger, smaller again, without eject in between; an image that ends in a part of a sector."""
        for disc in ("b.iso", "a.iso", "b.iso"):
            self.insert("next disc", disc)
            self.reads("next disc", disc)
            size = os.path.getsize(self.box.images[disc])
            out = self.ask(f"size {DRIVE}")[1]
            self.check(f"next disc: its size is {size}", str(size) in out.split(), out)
        self.insert("odd size", "odd.img")
        out = self.ask(f"cat {DRIVE} | wc -c")[1]
        self.check("odd size: five whole sectors are read", "10240" in out.split(), out)

    def inside(self):
        """The guest ejects and loads."""
        self.insert("inside", "b.iso")
        status, out = self.ask(f"probe eject {DRIVE}")
        self.check("eject inside", status == 0, out)
        out = self.xl("eject inside", "qemu-monitor-command media 'info block'")
        status, out = self.ask(f"dd if={DRIVE} of=/dev/null bs=2048 count=1")
        self.check("eject inside: no medium", status != 0 and "No medium" in out, out)
        status, out = self.ask(f"probe load {DRIVE}")
        self.reads("loaded inside", "b.iso")
        self.ask(f"probe eject {DRIVE}")
        self.insert("tray open", "a.iso")
        self.reads("tray open", "a.iso")

    def in_flight(self):
        """Discs change in the middle of reads by a guest that does not lock the tray: errors, never a mixture."""
        self.ask("echo 0 > /proc/sys/dev/cdrom/lock")
        for n in range(3):
            self.insert("in flight", "a.iso")
            self.ask(f"(cat {DRIVE} > /tmp/read 2> /tmp/error; echo $? > /tmp/status) & sleep 1")
            self.insert("in flight", "b.iso")
            out = self.ask("wait; cat /tmp/status; wc -c < /tmp/read; cat /tmp/error", 120)[1]
            numbers = re.findall(r"^\d+$", out.replace("\r", ""), re.M)
            read = int(numbers[1]) if len(numbers) > 1 else -1
            full = os.path.getsize(self.box.images["a.iso"])
            self.check(f"in flight {n}: the read ended with an error, or before the change", read == full or
                       (0 <= read < full and numbers[0] != "0"), out)
            if read > 0:
                with open(self.box.images["a.iso"], "rb") as f:
                    want = hashlib.sha256(f.read(read)).hexdigest()
                got = self.ask("sha256sum < /tmp/read", 60)[1]
                self.check(f"in flight {n}: what was read is the first disc's", want in got, f"{read} bytes: {got}")
            self.reads(f"in flight {n}, afterwards", "b.iso")
        self.ask("echo 1 > /proc/sys/dev/cdrom/lock")

    def monitor(self):
        """The same by a person at the monitor, with force."""
        self.ask(f"mount -t iso9660 -o ro {DRIVE} /m")
        out = self.xl("monitor", "qemu-monitor-command media 'eject ide-5696'")
        self.check("monitor: a locked tray is reported", "lock" in out, out)
        self.xl("monitor", "qemu-monitor-command media 'eject -f ide-5696'")
        out = self.xl("monitor", "qemu-monitor-command media 'info block'")
        self.check("monitor: the drive is empty", re.search(r"ide-5696.*not inserted", out), out)
        self.ask("umount /m")
        self.xl("monitor", "qemu-monitor-command media 'change ide-5696 /images/a.iso raw'")
        self.reads("monitor", "a.iso")

    def run_media(self):
        """One guest with two CD drives; discs come and go."""
        self.start()
        for name in ("empty", "locked", "change", "inside", "in_flight", "monitor"):
            since = time.monotonic()
            getattr(self, name)()
            print(f"   {name}: {time.monotonic() - since:.0f} s", flush=True)
        self.check("the device model lives", self.box.sh(f"test -d /proc/{self.guest.dm_pid}")[0] == 0)
        print(self.guest.dm_log(), flush=True)


if __name__ == "__main__":
    sys.exit(suite.main(Tests, __doc__))
