# SPDX-License-Identifier: GPL-2.0-or-later
"""Second half of box/demo: boots the box, creates the guest, waits. Parameters come from the environment."""

import os
import re
import shlex
import signal
import socket
import sys
import time

import box as xenbox

CONFIG = """\
kernel = "/usr/lib/xen-4.17/boot/hvmloader"
builder = 'hvm'
memory  = '256'
vcpus = '1'
name = 'full-virt'
disk = [ {disks} ]
boot = 'd'
vnc = 1
"""


def env(name, default=None):
    """An environment variable; empty counts as not given."""
    return os.environ.get(name) or default


def step(text, since):
    """The same line as lib.sh's step."""
    print(f"  {text:<58} {time.monotonic() - since:6.1f} s", flush=True)
    return time.monotonic()


def own_config(path):
    """(text, images) of the user's configuration: the image files that it names come along under their own paths."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    images = {}
    disks = "\n".join(re.findall(r"^\s*disk\s*=\s*\[(.*?)\]", text, re.M | re.S))
    for entry in re.findall(r"'([^']*)'|\"([^\"]*)\"", disks):
        entry = entry[0] or entry[1]
        target = re.search(r"(?:target=|file:|phy:|tap:aio:|raw:)?(/[^,]+)", entry)
        if not target or target.group(1).startswith("/images/"):
            continue
        if not os.path.exists(target.group(1)):
            raise xenbox.BoxError(f"{path}: {target.group(1)}: no such file")
        read_only = re.search(r"(?:^|,)\s*(?:access=)?(?:r|ro)\s*(?:,|$)|cdrom", entry)
        images[target.group(1)] = target.group(1) if read_only else (target.group(1), "rw")
    return text, images


def wait_vnc(port, seconds):
    """True when something that speaks RFB answers on 127.0.0.1:port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as s:
                s.settimeout(2)
                if s.recv(12).startswith(b"RFB "):
                    return True
        except OSError:
            pass
        time.sleep(0.1)
    return False


def prepare():
    """(images for the box, configuration text or None, own paths to be made in dom0)"""
    images, text, paths = {}, None, {}
    if env("CFG"):
        text, found = own_config(env("CFG"))
        for i, (path, spec) in enumerate(found.items()):
            images[f"own{i}"] = spec
            paths[path] = f"/images/own{i}"
    if env("ISO"):
        images["install.iso"] = env("ISO")
    elif not env("CFG"):
        images["cd.iso"] = xenbox.make("mkiso")
    if env("DISK"):
        images["disk.img"] = (env("DISK"), "rw")
    return images, text, paths


def configure(box, text, paths):
    """The configuration file's text; prints the images it gets."""
    for path, target in paths.items():
        box.check_sh(f"mkdir -p {shlex.quote(os.path.dirname(path))}; ln -sfn {target} {shlex.quote(path)}")
    if text is None:
        if not env("ISO"):
            graphics = "graphics" if env("VGA") else "text"
            box.iso_for("install.iso", source="cd.iso", entry=graphics, job="interactive", end="idle")
        if not env("DISK"):
            box.check_sh("truncate -s 64M /images/disk.img")
        text = CONFIG.format(disks="'file:/images/disk.img,ioemu:hda,w', 'file:/images/install.iso,hdc:cdrom,r'")
    if env("VGA"):
        text += f"vga = '{ {'std': 'stdvga'}.get(env('VGA'), env('VGA')) }'\n"
    return text + "\n".join(box.dm_lines()) + "\n"


def run(box, text, paths, port, own):
    """Creates the guest, says when it is up and stays. Returns the exit code."""
    stay = env("STAY", "1") != "0"
    text = configure(box, text, paths)
    print("  xl create guest.cfg, which is:\n" + re.sub("(?m)^", "      ", text.rstrip()), flush=True)
    since = time.monotonic()
    guest = box.create(text, serial=None if own else "file")
    since = step("xl create", since)
    for line in guest.xl_output.splitlines():
        if re.search("warn|deprecat|ignor|error", line, re.I):
            print("      xl: " + line)
    if not wait_vnc(port, 10):
        print(f"  no VNC server answers on 127.0.0.1:{port} (vnc=0?)", flush=True)
        vnc = False
    else:
        vnc = True
        print(f"\n      vncviewer 127.0.0.1:{port - 5900 if port >= 5900 else '::' + str(port)}\n", flush=True)
    if not own:
        guest.wait_for(xenbox.UP, 300)
        step("the guest's user space is up", guest.t0)
        guest.wait_for(r"^GUEST: done\s", 120)
        stat = guest.dm_stat()
        print(f"  device model ({box.dm}) so far: {stat['cpu_s']:.1f} s of CPU, {stat['rss_kb'] / 1024:.1f} MiB "
              "resident")
        print(f"  {time.time() - float(os.environ['T0']):.0f} s since the start", flush=True)
        if not stay:
            return 0 if vnc else 1
    print("  up until the guest powers off or Ctrl-C", flush=True)
    while not guest.wait_gone(5):
        pass
    print("  the guest is off", flush=True)
    return 0


def in_box(box, text, paths, port, own):
    """Starts the box, runs the guest and ends both in order, so that images of the user's are whole. Returns the exit code."""
    since = time.monotonic()
    with box:
        step("boot the Xen host (QEMU, " + ("KVM)" if xenbox.have_kvm() else "software CPU)"), since)
        try:
            return run(box, text, paths, port, own)
        finally:
            if box.qemu.poll() is None:
                print("  cleaning up", flush=True)
                box.off()


def main():
    """Returns the exit code."""
    port = int(env("VNC_PORT", "5900"))
    own = bool(env("ISO") or env("CFG"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError as e:
            print(f"demo: 127.0.0.1:{port}: {e.strerror} (VNC_PORT= takes another)", file=sys.stderr)
            return 1

    def program():
        images, text, paths = prepare()
        box = xenbox.Box(dm=env("DM", "hvm-dm"), images=images, vnc_port=port)
        return box, lambda: in_box(box, text, paths, port, own)

    return xenbox.run_program("demo", program)


if __name__ == "__main__":
    sys.exit(main())
