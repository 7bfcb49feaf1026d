# SPDX-License-Identifier: GPL-2.0-or-later
"""Installs an operating system from a CD to an empty disk in the box and starts it from there.

    with Box(images={"installer.iso": make("mkinstaller")}) as box:
        disk = Disk(box, "a", fmt="qcow2", bus="ahci", pv=True)
        install(box, disk)
        start(box, disk)
        disk.verify(folder)

As a program (make demo-install) it shows its steps; parameters come from the environment:
    FORMAT=raw|qcow2|vhd   BUS=ide|ahci   PV=0|1   DISK=path (keeps the disk image)   VNC_PORT=5900   DM=hvm-dm|peer
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import box as xenbox  # noqa: E402

SIZE_MB = 400
PART = re.compile(r"^.*?2 : start= *(\d+), size= *(\d+)", re.M)


class Disk:
    """An empty disk image in dom0. fmt: as in xl's disk lines; bus: "ide" or "ahci"; pv: with PV drivers or without."""

    def __init__(self, box, name, fmt="raw", bus="ide", pv=False):
        self.box, self.fmt, self.bus, self.pv = box, fmt, bus, pv
        self.name = f"{name}.{fmt}"
        self.path = f"/images/{self.name}"
        if fmt == "raw":
            box.check_sh(f"truncate -s {SIZE_MB}M {self.path}")
            return
        with tempfile.TemporaryDirectory() as tmp:
            subprocess.run(["qemu-img", "create", "-q", "-f", {"vhd": "vpc"}.get(fmt, fmt), f"{tmp}/d", f"{SIZE_MB}M"],
                           check=True)
            box.put(f"{tmp}/d", self.path)

    def __str__(self):
        return f"{self.fmt} on {self.bus}, {'with' if self.pv else 'without'} PV drivers"

    def config(self, iso=None, **options):
        """xl.cfg text of a guest with this disk."""
        if self.bus == "ahci":
            options["hdtype"] = "ahci"
        return self.box.config(disk=f"format={self.fmt},vdev=hda,access=rw,target={self.path}", iso=iso, **options)

    def fetch(self, path):
        """Copies the image out of dom0."""
        if not self.box.get(self.path, path):
            raise xenbox.BoxError(f"{self.path} is gone")

    def verify(self, folder, manifest):
        """Looks at the installed disk with this machine's own tools: image format, file system, and each installed
        file's checksum. Returns a list of complaints."""
        image, raw, part = f"{folder}/{self.name}", f"{folder}/check.raw", f"{folder}/check.ext4"
        self.fetch(image)
        wrong = []
        try:
            if self.fmt == "qcow2":
                r = subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", image], capture_output=True, text=True,
                                   check=False)
                if r.returncode not in (0, 3):      # 3: leaked clusters, no harm
                    wrong.append(f"qemu-img check: {r.stdout}{r.stderr}")
            subprocess.run(["qemu-img", "convert", "-f", {"vhd": "vpc"}.get(self.fmt, self.fmt), "-O", "raw", image, raw],
                           check=True)
            found = PART.search(subprocess.run(["sfdisk", "-d", raw], capture_output=True, text=True, check=True).stdout)
            if not found:
                return wrong + ["no second partition"]
            start, size = map(int, found.groups())
            with open(raw, "rb") as src, open(part, "wb") as dst:
                src.seek(start * 512)
                left = size * 512
                while left > 0:
                    data = src.read(min(left, 1 << 20))
                    if not data:
                        return wrong + ["the image ends inside the partition"]
                    dst.write(data)
                    left -= len(data)
            r = subprocess.run(["e2fsck", "-fn", part], capture_output=True, text=True, check=False)
            if r.returncode != 0:
                wrong.append(f"e2fsck: {r.stdout[-400:]}")
            tree = f"{folder}/tree"
            os.makedirs(tree, exist_ok=True)
            subprocess.run(["debugfs", "-R", f"rdump / {tree}", part], capture_output=True, check=True)
            for where, sums in ((tree, manifest), (f"{tree}/var/lib", f"{tree}/var/lib/boots.sha256")):
                r = subprocess.run(["sha256sum", "-c", "--quiet", sums], cwd=where, capture_output=True, text=True,
                                   check=False)
                if r.returncode != 0:
                    wrong.append(f"{sums}: {(r.stdout + r.stderr)[-400:]}")
            shutil.rmtree(tree, ignore_errors=True)
        finally:
            for f in (image, raw, part):
                if os.path.exists(f):
                    os.unlink(f)
        return wrong

    def remove(self):
        """Frees dom0's memory."""
        self.box.sh(f"rm -f {self.path}")


def complaints(log):
    """Lines of the guest's kernel that are about our devices."""
    ours = re.findall(r"^GUEST: dmesg (.*(?:ata\d|ahci|ata_piix|sd[a-z]|sr0|xvd|blk|I/O error|EXT4|isofs).*?)\r?$", log,
                      re.M | re.I)
    return [line for line in ours if not re.search(r"NX|acpi|Spectre|SLUB", line)]


def install(box, disk, say=lambda *_: None, timeout=400, **options):
    """Boots the installer CD with the disk, waits for the end. Returns the Guest (gone) and the seconds it took."""
    iso = box.iso_for("inst.iso", source="installer.iso", entry="normal" if disk.pv else "text", menu_s=1,
                      job="install", end="poweroff")
    guest = box.create(disk.config(iso=iso, boot="d", name="install", **options))
    say(f"xl create, boot='d', {disk}", guest.created)
    guest.wait_for(xenbox.UP, 200)
    at = 0
    while True:
        found, seconds = guest.wait_for(rf"(?s)\A.{{{at}}}.*?^GUEST: (install[^\r\n]*)", timeout)
        at = found.end()
        text = found.group(1)
        say("  " + text, seconds)
        if "FAILED" in text:
            raise xenbox.BoxError(f"{text}\n{guest.log[-800:]}")
        if "CD ejected" in text or "CD not ejected" in text:
            break
    _, seconds = guest.wait_for(r"^GUEST: done", 60)
    if not guest.wait_gone(60):
        raise xenbox.BoxError("the guest did not power off after the installation")
    return guest, seconds


def start(box, disk, say=lambda *_: None, end="poweroff", **options):
    """Starts the installed system from the disk. Returns the Guest (off unless end is another) and the seconds."""
    guest = box.create(disk.config(boot="c", name="installed", **options))
    say("xl create, boot='c'", guest.created)
    found, seconds = guest.wait_for(r"^GUEST: user space up from (\S+)", 200)
    say(f"  user space up from {found.group(1)}", seconds)
    found, seconds = guest.wait_for(r"^GUEST: (installed files [^\r\n]*)", 200)
    say("  " + found.group(1), seconds)
    guest.wait_for(r"^GUEST: done", 100)
    if end == "poweroff" and not guest.wait_gone(60):
        raise xenbox.BoxError("the installed system did not power off")
    return guest, seconds


def demo(box, iso, kind, port):
    """An installation on a disk of that kind (format, bus, whether with PV drivers). Returns the exit code."""
    def say(text, seconds):
        print(f"  {text:<66} {seconds:6.1f} s", flush=True)

    with box, tempfile.TemporaryDirectory(prefix="hvm-dm-install-") as tmp:
        say("boot the Xen host", box.timings["box ready"])
        print(f"\n      watch it: vncviewer 127.0.0.1:{port - 5900 if port >= 5900 else '::' + str(port)}\n", flush=True)
        disk = Disk(box, "disk", *kind)
        install(box, disk, say)
        guest, _ = start(box, disk, say)
        wrong = disk.verify(tmp, os.path.join(os.path.dirname(iso), "manifest"))
        for text in wrong + complaints(guest.log):
            print(f"  WRONG: {text}")
        if os.environ.get("DISK"):
            disk.fetch(os.environ["DISK"])
            print(f"  kept as {os.environ['DISK']}")
        if not wrong:
            print("  the disk seen from outside: file system clean, all checksums equal")
        return 1 if wrong else 0


def main():
    """make demo-install. Returns the exit code."""
    env = os.environ.get
    kind = env("FORMAT") or "raw", env("BUS") or "ide", env("PV") == "1"
    port = int(env("VNC_PORT") or 5900)

    def prepare():
        iso = xenbox.make("mkinstaller")
        box = xenbox.Box(dm=env("DM") or "hvm-dm", images={"installer.iso": iso}, vnc_port=port)
        return box, lambda: demo(box, iso, kind, port)

    return xenbox.run_program("demo-install", prepare)


if __name__ == "__main__":
    sys.exit(main())
