#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests on real Xen: boots, pictures, xl commands, what is left behind, hostile guests, error messages.
"""

import os
import re
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import suite  # noqa: E402
import vncshot  # noqa: E402
from suite import xenbox  # noqa: E402

# The devices of a qemu-xen guest in their slots: address, vendor, device, class, revision.
HOST = ["00:00.0 8086 1237 060000 02", "00:01.0 8086 7000 060100 00", "00:01.1 8086 7010 010180 00",
        "00:01.3 8086 7113 068000 03"]
CURSOR_PIXELS = 9 * 16
MENU_INK = 200      # letters of the menu are lighter than that, the ground inside its frame is darker
PLATFORM = "5853 0001 ff8000 01"
CIRRUS = "1013 00b8 030000 00"
STDVGA = "1234 1111 030000 02"

TROUBLE = re.compile(r"error|fail|timed? ?out|exception|frozen|nobody cared|unexpected|spurious|invalid|\bbug\b|lost|"
                     r"oops|warning|unable|cannot|conflict|limiting|failed to", re.I)
# What this kernel says on the peer too, and on hardware: nothing of it is about the device model.
HARMLESS = re.compile(r"Speculative Return|ACPI: Early table checksum|ERST|BERT|Warning: Processor Platform Limit|"
                      r"microcode|Spectre|MDS|TAA|MMIO Stale|Retbleed|RAS: |tsc: |TSC|platform_eisa|eisa|"
                      r"integrity|ima:|blacklist|PM: RTC|Fallback order|Built .* zonelists|clocksource|"
                      r"x86/mm|TPM|Loading compiled-in|pcspkr|LSM|hpet|KASLR|errors=|max_loop|Key type|"
                      r"print_fatal|kfence|Error recovery|AMD-Vi|debug|calibrate_delay|AMD Zen1|and report a bug|"
                      r"TLB invalidation policy|Limiting direct PCI/PCI|Invalid max_queues|"
                      r"ehci_hcd should always be loaded before", re.I)


def fuzzy(text, line):
    """True when most of the text's letters stand at the line's start: fbcon's font differs a little from VGA's."""
    return len(line) >= len(text) and sum(a == b for a, b in zip(text, line)) >= 0.8 * len(text)


class Tests(suite.Suite):
    """The scenarios."""

    default_scenarios = ("usual", "stdvga", "usb", "noplatform", "reboot", "garbage", "errors")
    scenarios = default_scenarios + ("usb2", "usb3", "hotplug", "garbage_cirrus")

    def __init__(self, *args):
        super().__init__(*args)
        self.iso_count = 0
        with open("/usr/share/seabios/vgabios-stdvga.bin", "rb") as f:
            self.font = vncshot.vga_font(f.read())

    # -- helpers --------------------------------------------------------------------------------------

    def iso(self, **options):
        """A variant of the test CD; the one before is removed (dom0's memory is small)."""
        self.box.sh(f"rm -f /images/t{self.iso_count}.iso")
        self.iso_count += 1
        return self.box.iso_for(f"t{self.iso_count}.iso", **options)

    def scratch(self):
        """An empty disk that the test CD's disk check may overwrite."""
        self.box.check_sh("rm -f /images/scratch.img; truncate -s 32M /images/scratch.img; "
                          "printf SCRATCH | dd of=/images/scratch.img conv=notrunc status=none")
        return "scratch.img"

    def kernel_log(self):
        """The guest's whole kernel log, which the disk check leaves on the scratch disk."""
        return self.box.sh("dd if=/images/scratch.img bs=4096 skip=1 count=255 status=none | tr -d '\\0'")[1]

    def screen(self, name=None):
        """A picture of the guest's screen by VNC."""
        rfb = vncshot.Rfb(port=self.port)
        rfb.snapshot()
        if name:
            rfb.png(os.path.join(self.out, name + ".png"))
        rfb.close()
        return rfb

    def wait_screen(self, good, seconds, name):
        """Takes pictures until good(rfb); the last one is kept. Returns it, or None."""
        end = time.monotonic() + seconds
        while True:
            try:
                rfb = self.screen(name)
                if good(rfb):
                    return rfb
            except (OSError, ConnectionError):
                pass
            if time.monotonic() > end:
                return None
            time.sleep(1)       # a whole picture costs the box as much as a good part of the boot does

    def type(self, text):
        """Types on the guest's keyboard by VNC."""
        rfb = vncshot.Rfb(port=self.port)
        rfb.type(text)
        rfb.snapshot()      # the answer comes after the server has read all keys
        rfb.close()

    def check_kernel_log(self, text):
        """No complaint in it."""
        bad = [line for line in text.splitlines() if TROUBLE.search(line) and not HARMLESS.search(line)]
        self.check("kernel log has no error", bool(text) and not bad, " | ".join(bad[:8]) or "empty log")

    def check_pci(self, log, expected):
        """Devices, addresses and revisions as the peer has them."""
        found = [f"{m[0]} {m[1]} {m[2]} {m[3]} {m[4]}" for m in re.findall(
            r"GUEST: pci 0000:(\S+) 0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+)", log)]
        self.check("PCI devices", found == expected, f"{found}, not {expected}")

    def create(self, name, serial="file", **options):
        """A guest, with the check that it came into being."""
        guest = self.box.create(self.box.config(name=name, **options), serial=serial)
        self.check(f"{name}: xl create", True)
        return guest

    def is_menu(self, rfb):
        """True when the picture is the CD's graphical boot menu, text included: a line that is not the bright bar."""
        return (rfb.width, rfb.height) == (640, 480) and any(
            "Normal boot, with PV drivers" in line for line in rfb.text(self.font, (8, 16), 8, MENU_INK))

    def up(self, guest):
        """Waits for user space, with its check."""
        seconds = guest.wait_for(xenbox.UP, 250)[1]
        stat = guest.dm_stat()
        self.check(f"{guest.name}: user space up", True)
        print(f"     after {seconds:.1f} s, device model {stat['cpu_s']:.1f} s of CPU, {stat['rss_kb'] / 1024:.1f} MiB",
              flush=True)

    # -- scenarios ------------------------------------------------------------------------------------

    def real_client(self, name):
        """A picture taken by gtk-vnc, the library of virt-viewer and GNOME's viewers, beside ours: they may differ by
        the blinking cursor."""
        ours, theirs = (os.path.join(self.out, name + end) for end in (".png", "-gtk-vnc.png"))
        try:
            took = subprocess.run(["gvnccapture", f"127.0.0.1:{self.port - 5900}", theirs], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
            differ = subprocess.run(["compare", "-metric", "AE", ours, theirs, "null:"], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE, text=True, timeout=60, check=False).stderr
            self.check("screenshot by a real VNC client", took.returncode == 0 and re.fullmatch(r"\d+", differ.strip())
                       and int(differ) <= CURSOR_PIXELS, f"{took.stdout} pixels that differ: {differ}")
        except subprocess.TimeoutExpired as e:
            self.check("screenshot by a real VNC client", False, e)

    def run_usual(self):
        """The configuration that people write: cirrus, a disk and a CD."""
        iso = self.iso(end="shell", menu_s=4)
        text = f"""
kernel = "/usr/lib/xen-4.17/boot/hvmloader"
builder = 'hvm'
memory  = '256'
vcpus = '1'
name = 'usual'
disk = [ 'file:/images/{self.scratch()},ioemu:hda,w', 'file:/images/{iso},hdc:cdrom,r' ]
boot = 'd'
vnc = 1
""" + "\n".join(self.box.dm_lines()) + "\n"
        guest = self.box.create(text)
        self.check("usual: xl create", True)
        menu = self.wait_screen(self.is_menu, 60, "menu-cirrus")
        self.check("boot menu is seen by VNC (640x480, cirrus)", menu is not None)
        self.up(guest)
        guest.wait_for(r"^GUEST: done\s", 90)
        log = guest.log
        self.check("CD is mounted", "cd mounted from /dev/sr0" in log)
        self.check("checksum of 20 MB from the CD", "GUEST: checksum ok" in log)
        self.check("disk written and read back", "GUEST: disk ok, /dev/sda" in log)
        self.check_pci(log, HOST + ["00:02.0 " + PLATFORM, "00:03.0 " + CIRRUS])
        self.check("keyboard and mouse found", "AT Translated Set 2 keyboard" in log and "PS/2" in log)
        self.check_kernel_log(self.kernel_log())
        # The shell's prompt is the last that comes by itself: from then on two pictures are the same.
        self.wait_screen(lambda r: any(line.startswith("/ #") for line in r.text(self.font)), 30, "shell")
        rfb = self.screen("text-cirrus")
        shown = rfb.text(self.font)
        self.check("text console on the screen", (rfb.width, rfb.height) == (720, 400)
                   and any("GUEST: checksum ok" in line for line in shown), f"{rfb.width}x{rfb.height} {shown}")
        self.real_client("text-cirrus")
        self.type("echo typed-$((6*7)) > /dev/ttyS0\n")
        guest.wait_for(r"typed-42", 20)
        self.check("keyboard by VNC", True)
        self.type("(dd if=/dev/input/mice bs=3 count=4 | hexdump -C) > /dev/ttyS0 2>&1\n")
        time.sleep(1)
        rfb = vncshot.Rfb(port=self.port)
        for i in range(8):
            rfb.pointer(100 + 10 * i, 100 + 5 * i, 1 if i == 5 else 0)
            time.sleep(0.1)
        rfb.close()
        dump = guest.wait_for(r"^00000000  ((?:[0-9a-f]{2} +)+)", 20)[0].group(1).split()
        moves = [int(x, 16) for x in dump]
        self.check("mouse by VNC", any(moves[i + 1] or moves[i + 2] for i in range(0, len(moves) - 2, 3)), dump)
        self.type("poweroff -f\n")
        self.check("power-off from the guest", guest.wait_gone(30), guest.state())
        self.check_gone(guest, "power-off")

    def run_stdvga(self):
        """stdvga, two CPUs, the serial line on a pty, graphics chosen with the keyboard; pause, shutdown."""
        guest = self.create("stdvga", serial="pty", iso=self.iso(end="shell", menu_s=20), disk=self.scratch(), vcpus=2,
                            vga="stdvga")
        menu = self.wait_screen(self.is_menu, 60, "menu-std")
        self.check("boot menu is seen by VNC (640x480, stdvga)", menu is not None)
        rfb = vncshot.Rfb(port=self.port)
        rfb.key("down")
        time.sleep(0.5)
        rfb.key("enter")
        rfb.close()
        self.up(guest)
        guest.wait_for(r"^GUEST: done\s", 90)
        log = guest.log
        self.check("two CPUs", "GUEST: cpus 2" in log)
        self.check("boot menu obeys the keyboard, bochs DRM driver runs", "bochs" in log.partition("GUEST: fb ")[2][:40],
                   re.findall("GUEST: fb.*", log))
        self.check("checksum of 20 MB from the CD", "GUEST: checksum ok" in log)
        self.check_pci(log, HOST + ["00:02.0 " + PLATFORM, "00:03.0 " + STDVGA])
        self.check_kernel_log(self.kernel_log())
        rfb = self.screen("graphics-std")
        shown = rfb.text(self.font, (8, 16))
        self.check("graphical console on the screen", rfb.width >= 800
                   and any(fuzzy("GUEST: checksum ok", line) for line in shown), f"{rfb.width}x{rfb.height} {shown}")
        guest.type_serial("echo answer-$((6*7))\n")
        guest.wait_for(r"answer-42", 20)
        self.check("typing on the serial line", True)
        self.box.check_sh("xl pause stdvga")
        used = guest.dm_stat()["cpu_s"]
        guest.type_serial("echo after-$((5*8))\n")
        time.sleep(2)
        self.check("xl pause: the guest stands still", "after-40" not in guest.log and "p" in guest.state())
        self.check("xl pause: VNC answers", self.screen().width == rfb.width)
        self.check("xl pause: the device model rests", guest.dm_stat()["cpu_s"] - used < 0.5)
        self.box.check_sh("xl unpause stdvga")
        guest.wait_for(r"after-40", 20)
        self.check("xl unpause", True)
        self.box.check_sh("xl shutdown stdvga")
        self.check("xl shutdown", guest.wait_gone(40), guest.state())
        self.check_gone(guest, "shutdown")

    def input_events(self, sh, device, act):
        """What an input device of the guest reports while act() runs: (type, code, value) each, Linux's numbers."""
        sh(f"cat /dev/input/{device} > /tmp/events & echo $! > /tmp/pid; sleep 1")
        act()
        status, out = sh("sleep 1; kill $(cat /tmp/pid); hexdump -v -e '24/1 \"%02x\" \"\\n\"' /tmp/events")
        rows = re.findall(r"^([0-9a-f]{48})$", out, re.M)
        self.check(f"events of {device}", status == 0 and rows, out)
        return [struct.unpack_from("<HHi", bytes.fromhex(row), 16) for row in rows]

    def check_usb_log(self, name, sh, some=True):
        log = sh("dmesg -c | grep -iE 'usb|[uex]hci|hid'")[1]
        bad = [line for line in log.splitlines() if TROUBLE.search(line) and not HARMLESS.search(line)]
        self.check(f"{name}: kernel log has no error", (log or not some) and not bad, " | ".join(bad))

    def usb_events(self, name, sh):
        """The event devices of the USB tablet and keyboard in the guest."""
        out = sh("cat /proc/bus/input/devices")[1]
        found = {kind: re.search(rf'Name="[^"]*USB {kind}"[^\0]*?Handlers=[^\n]*\b(event\d+)', out)
                 for kind in ("Tablet", "Keyboard")}
        self.check(f"{name}: tablet and keyboard found", all(found.values()), out)
        return found["Tablet"][1], found["Keyboard"][1]

    def check_usb_input(self, name, guest, sh, wakeups=60):
        """The pointer is where the viewer's is, keys arrive, idle costs little."""
        tablet, keyboard = self.usb_events(name, sh)
        screen = self.screen(name)
        places = [(10, 10), (11, 10), (screen.width - 1, screen.height - 1), (333, 222), (0, 0), (1, 399)]
        rfb = vncshot.Rfb(port=self.port)

        def move():
            for x, y in places:
                rfb.pointer(x, y)
                time.sleep(0.5)

        at, seen = [None, None], []
        for kind, code, value in self.input_events(sh, tablet, move):
            if kind == 3 and code < 2:
                at[code] = value
            elif kind == 0 and None not in at:
                seen.append(tuple(round(v * (size - 1) / 32767) for v, size in zip(at, (screen.width, screen.height))))
        self.check(f"{name}: the guest's pointer is where the viewer's is", seen == places, f"{seen}, not {places}")
        keys = [(code, value) for kind, code, value in
                self.input_events(sh, keyboard, lambda: rfb.type("abc")) if kind == 1 and value < 2]
        self.check(f"{name}: keys by VNC", keys == [(code, down) for code in (30, 48, 46) for down in (1, 0)], keys)
        rfb.close()

        switches = f"cat /proc/{guest.dm_pid}/task/*/status | awk '/_ctxt_switches/ {{ n += $2 }} END {{ print n }}'"
        time.sleep(3)
        before = int(self.box.check_sh(switches))
        time.sleep(10)
        rate = (int(self.box.check_sh(switches)) - before) / 10
        self.check(f"{name}: an idle tablet and keyboard ({rate:.0f} context switches a second)", rate < wakeups, rate)

    def run_usb(self):
        """usb=1 with a tablet and a keyboard: Linux drives them."""
        guest = self.create("usb", serial="pty", iso=self.iso(job="interactive"), vga="stdvga", usb=1,
                            usbdevice=["tablet", "keyboard"])
        guest.wait_for(r"^GUEST: done\s", 250)
        sh = suite.Shell(guest)
        sh("modprobe -a uhci-hcd usbhid hid-generic; sleep 4", 120)
        self.check_usb_log("usb", sh)
        self.check_usb_input("usb", guest, sh)
        guest.destroy()

    def run_usb2(self):
        """usbversion=2: SeaBIOS finds tablet and keyboard, Linux drives them at high speed, and by UHCI without EHCI's driver."""
        self.box.sh("xl set-parameters guest_loglvl=all")     # else most of the firmware's lines are left out
        guest = self.create("usb2", serial="pty", iso=self.iso(job="interactive"), vga="stdvga", usbversion=2,
                            device_model_args_hvm=["-device", "usb-tablet,bus=usb.0", "-device", "usb-kbd,bus=usb.0"])
        guest.wait_for(r"^GUEST: done\s", 250)
        bios = self.box.sh("xl dmesg | grep '^(d'")[1]
        self.check("usb2: SeaBIOS drives the keyboard", "USB keyboard initialized" in bios, bios)
        sh = suite.Shell(guest)
        speeds = "cat /sys/bus/usb/devices/[0-9]-[0-9]/speed | xargs"
        sh("modprobe -a ehci-pci uhci-hcd usbhid hid-generic; sleep 4", 120)
        self.check_usb_log("usb2", sh)
        self.check("usb2: at high speed", sh(speeds)[1] == "480 480", sh(speeds))
        self.check_usb_input("usb2", guest, sh)
        sh("modprobe -r ehci-pci; sleep 5", 120)
        self.check("usb2: at the companions", sh(speeds)[1] == "12 12", sh(speeds))
        self.check_usb_input("usb2 (companions)", guest, sh)
        sh("modprobe ehci-pci; sleep 5", 120)
        self.check("usb2: back at high speed", sh(speeds)[1] == "480 480", sh(speeds))
        self.usb_events("usb2 (again)", sh)
        self.check_usb_log("usb2 (again)", sh)
        guest.destroy()

    def run_usb3(self):
        """usbversion=3: SeaBIOS finds tablet and keyboard, Linux drives them by xHCI, suspends one and is woken up."""
        self.box.check_sh("xl set-parameters guest_loglvl=all")     # else most of the firmware's lines are left out
        guest = self.create("usb3", serial="pty", iso=self.iso(job="interactive", menu_s=20), vga="stdvga", usbversion=3,
                            device_model_args_hvm=["-device", "usb-tablet,bus=usb.0", "-device", "usb-kbd,bus=usb.0"])
        self.check("usb3: boot menu", self.wait_screen(self.is_menu, 60, "menu-usb3") is not None)
        rfb = vncshot.Rfb(port=self.port)
        rfb.key("down")
        time.sleep(0.5)
        rfb.key("enter")
        rfb.close()
        guest.wait_for(r"^GUEST: done\s", 250)
        bios = self.box.sh("xl dmesg | grep '^(d'")[1]
        self.check("usb3: SeaBIOS drives the keyboard", "USB keyboard initialized" in bios, bios)
        sh = suite.Shell(guest)
        self.check("usb3: the boot menu obeys it", "gfx=1" in sh("cat /proc/cmdline")[1])
        sh("modprobe -a xhci-pci usbhid hid-generic; sleep 4", 120)
        self.check_usb_log("usb3", sh)
        speeds = sh("cat /sys/bus/usb/devices/[0-9]-[0-9]/speed | xargs")[1]
        self.check("usb3: at high speed", speeds == "480 480", speeds)
        irq = sh("grep xhci /proc/interrupts")[1]
        self.check("usb3: by MSI", "msi" in irq.lower(), irq)
        self.check_usb_input("usb3", guest, sh, 1)

        tablet = self.usb_events("usb3", sh)[0]
        power = sh("cd /sys/bus/usb/devices; dirname $(grep -l Tablet */product)")[1] + "/power"
        sh(f"cat /dev/input/{tablet} > /tmp/awake & cd /sys/bus/usb/devices/{power}; echo 500 > autosuspend_delay_ms; "
           "echo auto > control; sleep 3")
        status = f"cat /sys/bus/usb/devices/{power}/runtime_status; wc -c < /tmp/awake"
        asleep = sh(status)[1].split()
        rfb = vncshot.Rfb(port=self.port)
        rfb.pointer(200, 100)
        time.sleep(0.3)
        rfb.pointer(210, 100)
        rfb.close()
        awake = sh("sleep 0.3; " + status)[1].split()
        self.check("usb3: a suspended tablet wakes up", asleep == ["suspended", "0"] and int(awake[1]) > 0,
                   f"{asleep} {awake}")
        self.check_usb_log("usb3 (after suspend)", sh, False)
        sh("modprobe -r xhci-pci; sleep 2; modprobe xhci-pci; sleep 5", 120)
        self.usb_events("usb3 (driver loaded again)", sh)
        guest.destroy()

    def xl(self, what):
        """An xl command that has to work; its output."""
        status, out = self.box.sh("xl " + what, 60)
        self.check(f"xl {what}", status == 0, out)
        return out

    def tablets(self, sh):
        """The event devices of the guest's tablets, oldest first."""
        return re.findall(r'Name="[^"]*USB Tablet"[^\0]*?Handlers=[^\n]*\b(event\d+)', sh("cat /proc/bus/input/devices")[1])

    def pointer_reaches(self, sh, device, what):
        """The check that the viewer's pointer arrives at this device of the guest."""
        rfb = vncshot.Rfb(port=self.port)

        def move():
            for x in (10, 300, 20):
                rfb.pointer(x, x)
                time.sleep(0.5)

        seen = {(code, value) for kind, code, value in self.input_events(sh, device, move) if kind == 3}
        self.check(f"hotplug: {what}", len(seen) >= 4, seen)
        rfb.close()

    def run_hotplug(self):
        """usb=1 with three devices (and so a hub), usbctrl=; then a tablet and a controller that come and go."""
        guest = self.create("hotplug", serial="pty", iso=self.iso(job="interactive"), vga="stdvga", usb=1,
                            usbdevice=["tablet", "keyboard", "mouse"], usbctrl=["type=devicemodel,version=1"])
        guest.wait_for(r"^GUEST: done\s", 250)
        sh = suite.Shell(guest)
        controllers = "grep -l 0x7020 /sys/bus/pci/devices/*/device | cut -d/ -f6 | tr '\\n' ' '"
        sh("modprobe -a uhci-hcd usbhid hid-generic; sleep 6", 120)
        first = sh(controllers)[1].split()
        self.check("hotplug: UHCI of usb=1 and of usbctrl=", first == ["0000:00:01.2", "0000:00:04.0"], first)
        names = sh("cat /sys/bus/usb/devices/*/product")[1]
        self.check("hotplug: three devices and their hub", all(names.count(f"QEMU USB {n}") == 1 for n in (
            "Tablet", "Keyboard", "Mouse", "Hub")), names)
        self.check("hotplug: they are where the peer has them", sh("cat /sys/bus/usb/devices/*-2.2/product")[1]
                   == "QEMU USB Mouse", names)
        info = self.xl('qemu-monitor-command hotplug "info usb"')
        self.check("hotplug: info usb", re.search(r"Device 0\.\d+, Port 2\.1, Speed 12 Mb/s, Product QEMU USB Keyboard", info),
                   info)
        before = self.tablets(sh)

        self.xl('qemu-monitor-command hotplug "device_add usb-tablet,id=t1"')
        sh("sleep 5")
        both = self.tablets(sh)
        self.check("hotplug: Linux sees the tablet", len(before) == 1 and len(both) == 2, (before, both))
        self.pointer_reaches(sh, both[-1], "the pointer drives it")
        self.xl("qemu-monitor-command hotplug 'device_del t1'")
        sh("sleep 3")
        self.check("hotplug: Linux sees it go", self.tablets(sh) == before, self.tablets(sh))
        self.pointer_reaches(sh, before[0], "the pointer drives the first one again")

        self.xl("usbctrl-attach hotplug type=devicemodel version=1")
        sh("sleep 4")
        added = [c for c in sh(controllers)[1].split() if c not in first]
        self.check("hotplug: Linux sees the controller", added == ["0000:00:05.0"], added)
        self.xl('qemu-monitor-command hotplug "device_add usb-tablet,id=t2,bus=xenusb-1.0"')
        sh("sleep 5")
        both = self.tablets(sh)
        self.check("hotplug: Linux sees a tablet in it", len(both) == 2, both)
        self.pointer_reaches(sh, both[-1], "the pointer drives that")
        listed = self.xl("usb-list hotplug")
        self.check("hotplug: xl usb-list", len(re.findall(r"devicemodel", listed)) == 2, listed)
        self.xl("usbctrl-detach hotplug 1")
        sh("sleep 4")
        self.check("hotplug: ejected", sh(controllers)[1].split() == first and self.tablets(sh) == before,
                   sh(controllers)[1])
        info = self.xl('qemu-monitor-command hotplug "info usb"')
        self.check("hotplug: and its tablet is gone", "t2" not in info, info)
        self.xl("usbctrl-attach hotplug type=devicemodel version=1")
        sh("sleep 4")
        self.check("hotplug: and comes again", len(sh(controllers)[1].split()) == 3, sh(controllers)[1])
        self.pointer_reaches(sh, before[0], "the pointer drives the first one still")
        log = sh("dmesg | grep -iE 'usb|uhci|hid|pci|acpi' | tail -n +1")[1]
        bad = [line for line in log.splitlines() if TROUBLE.search(line) and not HARMLESS.search(line)]
        self.check("hotplug: kernel log has no error", bool(log) and not bad, " | ".join(bad))
        guest.destroy()
        self.check_gone(guest, "hotplug")

    def run_noplatform(self):
        """No xen-platform device, cirrus DRM; ACPI power button."""
        iso = self.iso(entry="graphics", end="idle")
        guest = self.create("noplatform", iso=iso, disk=self.scratch(), xen_platform_pci=0)
        self.up(guest)
        guest.wait_for(r"^GUEST: done\s", 200)
        log = guest.log
        self.check_pci(log, HOST + ["00:02.0 " + CIRRUS])
        self.check("checksum of 20 MB from the CD", "GUEST: checksum ok" in log)
        self.check("disk written and read back", "GUEST: disk ok, /dev/sda" in log)
        self.check("cirrus DRM driver runs", "cirrus" in log.partition("GUEST: fb ")[2][:40], re.findall("GUEST: fb.*", log))
        self.check_kernel_log(self.kernel_log())
        rfb = self.screen("graphics-cirrus")
        shown = rfb.text(self.font, (8, 16))
        self.check("graphical console on the screen", rfb.width >= 640
                   and any(fuzzy("GUEST: checksum ok", line) for line in shown), f"{rfb.width}x{rfb.height} {shown}")
        status, out = self.box.sh("xl trigger noplatform power")
        self.check("xl trigger power", status == 0, out)
        self.check("power button: the guest is told", self._wait(guest, "GUEST: power button", 20))
        self.check("power button: it goes off", guest.wait_gone(40), guest.state())
        self.check_gone(guest, "power button")

    def run_reboot(self):
        """A guest with PV drivers: emulated devices are unplugged; xl reboot gives a new domain; then xl destroy."""
        iso = self.iso(entry="normal", end="idle")
        guest = self.create("reboot", iso=iso, disk=self.scratch())
        self.up(guest)
        guest.wait_for(r"^GUEST: done\s", 200)
        log = guest.log
        self.check("unplug: the disk is the PV one, the CD stays", "GUEST: disk ok, /dev/xvda" in log
                   and "/sys/block/sda" not in log and "cd mounted from /dev/sr0" in log, re.findall("GUEST: block.*", log))
        self.check_kernel_log(self.kernel_log())
        old = guest.domid, guest.dm_pid
        self.box.check_sh("xl reboot reboot")
        again = self._wait(guest, r"GUEST: done\s[^\0]*" + xenbox.UP, 200, whole=True) or guest.log.startswith("GUEST")
        status, out = self.box.sh("xl domid reboot")
        self.check("xl reboot: up again as a new domain", status == 0 and int(out) != old[0] and again, out)
        self.check_gone(guest, "reboot")
        if status == 0:
            guest.domid = int(out)
            guest.dm_pid = int(self.box.check_sh(f"xenstore-read /local/domain/{guest.domid}/image/device-model-pid"))
            since = time.monotonic()
            self.box.check_sh("xl destroy reboot")
            self.check("xl destroy is quick", time.monotonic() - since < 8, f"{time.monotonic() - since:.1f} s")
            self.check_gone(guest, "destroy")

    @staticmethod
    def _wait(guest, pattern, seconds, whole=False):
        try:
            if not whole:
                guest.wait_for(pattern, seconds)
                return True
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if re.search(pattern, guest.log):
                    return True
                time.sleep(0.2)
        except xenbox.BoxError:
            pass
        return False

    def garbage(self, seed, everything, vga, entry):
        """A guest that writes random values: the device model lives and does not grow."""
        name = f"garbage{seed}"
        guest = self.create(name, iso=self.iso(entry=entry, job="garbage", secs=20, seed=seed, all=everything),
                            disk=self.scratch(), vga=vga, on_reboot="preserve", on_poweroff="preserve")
        guest.wait_for(r"^GUEST: garbage starts\s", 150)
        time.sleep(3)
        first = guest.dm_stat()
        time.sleep(17)
        alive = self.box.sh(f"test -d /proc/{guest.dm_pid}")[0] == 0
        self.check(f"{name}: the device model lives", alive, guest.dm_log()[-500:])
        if alive:
            last = guest.dm_stat()
            self.check(f"{name}: its memory stays flat", last["private_kb"] - first["private_kb"] < 4096,
                       f"{first['private_kb']} -> {last['private_kb']} KiB private")
            self.check(f"{name}: VNC answers", self.screen(name).width > 0)
            size = len(guest.dm_log())
            self.check(f"{name}: its log is bounded", size < 1 << 20, f"{size} bytes")
        self.box.check_sh(f"xl destroy {name}")
        self.check_gone(guest, name)

    def run_garbage_cirrus(self):
        """Random values into the registers of the board, with cirrus and its driver."""
        self.garbage(1, 0, "cirrus", "graphics")

    def run_garbage(self):
        """Random values everywhere, with stdvga."""
        self.garbage(2, 1, "stdvga", "text")

    def run_errors(self):
        """What cannot be honoured: a clear line, nothing left behind."""
        iso = self.iso(job="idle")
        cases = [
            ("unknown option", {"device_model_args": ["-no-such-option"]}, "", r"no-such-option"),
            ("VNC port taken", {"vncunused": 0}, "socat TCP-LISTEN:5900,bind=127.0.0.1 STDOUT & p=$!; sleep 1", r"5900"),
        ]
        for name, options, before, pattern in cases:
            guest_name = name.replace(" ", "")
            ident = self.box.start_sh(f"{before}; sleep 12; [ -n \"$p\" ] && kill $p; true")
            time.sleep(1.5)
            try:
                guest = self.box.create(self.box.config(iso=iso, name=guest_name, **options))
                guest.destroy()
                self.check(f"{name}: refused", False, "xl create succeeded")
            except xenbox.BoxError as e:
                log = str(e).partition("device model's log:")[2]
                self.check(f"{name}: refused, and the log names it", re.search(pattern, log), str(e)[-600:])
            left = self.box.sh("ls /run/xen | grep qmp-; xl list | awk 'NR > 2'; pidof hvm-dm xen-qemu-system-i386")[1]
            self.check(f"{name}: nothing left behind", not left.strip(), left)
            self.box.wait_sh(ident, 20)


if __name__ == "__main__":
    sys.exit(suite.main(Tests, __doc__))
