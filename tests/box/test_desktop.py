#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Desktops on real Xen: GRUB's graphical terminal, X with its drivers modesetting, vesa and cirrus, the tablet's pointer, and
typing in four keyboard layouts through TigerVNC's viewer, noVNC in Chromium and a viewer that sends no raw keys.

Installs the packages of `./setup.sh desktop`. Leaves its pictures in the output folder.
"""

import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import desktop  # noqa: E402
import suite  # noqa: E402
import vncshot  # noqa: E402
from suite import Shell, xenbox  # noqa: E402

KMS, NO_KMS, KEEP = range(3)        # GRUB's menu, box/desktop/grub.cfg
MENU = ("Desktop, kernel drivers (KMS)", "Desktop, no kernel drivers (nomodeset)",
        "Desktop, console in the picture GRUB leaves (gfxpayload=keep)")
GRUB_INK = ((255, 255, 255), (0xaa, 0xaa, 0xaa), (0, 0, 0))     # white, light gray and black, of its menu
# In the X server's log: of what is not on the CD, of a VGA BIOS that knows no monitor, and of drivers that look for the card at
# the kernel before they look elsewhere.
HARMLESS = ("dbus-core|AIGLX|GLX|error, .NI|does not exist|Unknown EDID|kernel module claiming|until it has been unloaded|"
            "valid framebuffer device|no matching config section")
LAYOUTS = ("us", "de", "fr", "jp")
UP_S, X_S, MOVE_S, KEYS_S = 250, 180, 15, 20


class Tests(suite.Suite):
    """The scenarios: two or three boots for each adapter, one for the viewers, one for each layout of keymap=."""

    scenarios = ("cirrus", "cirrus_user", "stdvga", "stdvga_user", "stdvga_keep", "viewers", "keymap")
    cd = ("desktop.iso", "mkdesktop")

    def __init__(self, *args):
        super().__init__(*args)
        self.folder = os.path.dirname(self.box.images["desktop.iso"])
        self.font = desktop.grub_font(os.path.join(self.folder, "unicode.pf2"))
        self.background = self.load(os.path.join(self.folder, "background.png"))
        self.layouts = {}

    @staticmethod
    def load(path):
        """A picture from a file."""
        data = subprocess.run(["convert", path, "-depth", "8", "bgra:-"], stdout=subprocess.PIPE, check=True).stdout
        width, height = map(int, subprocess.run(["identify", "-format", "%w %h", path], stdout=subprocess.PIPE,
                                                check=True).stdout.split())
        pixels = bytearray(data)
        pixels[3::4] = bytes(width * height)
        return desktop.Picture(width, height, pixels)

    @staticmethod
    def make_images(_folder):
        """None. The viewers are installed here, before a box starts."""
        subprocess.run([os.path.join(xenbox.TOP, "setup.sh"), "desktop"], check=True)
        return {}

    def one(self, name):
        try:
            super().one(name)
        except desktop.Failure as e:        # of the display that viewers are on
            self.check(name, False, e)

    # -- helpers --------------------------------------------------------------------------------------

    def screen(self, name=None):
        """A picture of the guest's screen."""
        rfb = vncshot.Rfb(port=self.port, timeout=30)
        rfb.snapshot()
        rfb.close()
        if name:
            rfb.png(os.path.join(self.out, name + ".png"))
        return rfb

    def wait_screen(self, good, seconds, name):
        """Takes pictures until good(rfb); returns what good said of the last, which is kept."""
        end = time.monotonic() + seconds
        while True:
            try:
                said = good(self.screen(name))
            except (OSError, ConnectionError) as e:
                said = None
                print(f"     {e}", flush=True)
            if said or time.monotonic() > end:
                return said
            time.sleep(1)

    def wait_picture(self, want, name, seconds=15):
        """Waits for exactly that picture; how the last one differs, or ""."""
        said = [""]

        def good(rfb):
            said[0] = desktop.differences(desktop.of_rfb(rfb), want)
            return not said[0]

        return "" if self.wait_screen(good, seconds, name) else said[0] or "no picture"

    def grub(self, name):
        """The menu, letter by letter, on its background; its command line takes what is typed."""

        def lines(rfb):
            if (rfb.width, rfb.height) != (1024, 768):
                return None
            return [line.strip("*| ") for line in rfb.text(self.font, (8, 16), (2, 10), 150)]

        def menu(rfb):
            return rfb if set(MENU[1:]) <= set(lines(rfb) or ()) else None

        rfb = self.wait_screen(menu, 90, name + "-grub")
        if not self.check(f"{name}: GRUB's menu in 1024x768", rfb):
            return
        wrong = 0
        ground = self.background.pixels
        for i in range(0, len(ground), 4):
            p, q = rfb.pixels[i:i + 3], ground[i:i + 3]
            if p != q and not any(all(abs(v - w) <= desktop.TOLERANCE for v, w in zip(p[::-1], colour))
                                  for colour in ((*q[::-1],), *GRUB_INK)):
                wrong += 1
        self.check(f"{name}: GRUB's background, each pixel", wrong == 0, f"{wrong} are neither its nor letters")
        keys = vncshot.Rfb(port=self.port)
        keys.key("c")
        time.sleep(2)
        keys.type("echo typed-in-grub\n")
        keys.close()
        found = self.wait_screen(lambda r: "typed-in-grub" in (lines(r) or ()), 20, name + "-grub-typed")
        self.check(f"{name}: GRUB's command line in graphics", found)
        keys = vncshot.Rfb(port=self.port)
        keys.key("esc")
        keys.close()
        self.wait_screen(menu, 20, name + "-grub")

    def boot(self, name, entry, grub=False, **options):
        """A guest from xl create to user space by that entry of GRUB's menu; its shell."""
        options = {"usb": 1, "usbdevice": "tablet", **options}
        guest = self.box.create(self.box.config(name=name, iso="desktop.iso", **options), serial="pty")
        self.check(f"{name}: xl create", True)
        if grub:
            self.grub(name)
        else:
            self.wait_screen(lambda r: (r.width, r.height) == (1024, 768) and any(
                MENU[1] in line for line in r.text(self.font, (8, 16), (2, 10), 150)), 90, name + "-grub")
        keys = vncshot.Rfb(port=self.port)
        for key in ["down"] * entry + ["enter"]:
            keys.key(key)
            time.sleep(0.5)
        keys.close()
        seconds = guest.wait_for(xenbox.UP, UP_S)[1]
        self.check(f"{name}: user space up", True, f"{seconds:.0f} s", True)
        guest.wait_for(r"^GUEST: done\s", 150)
        guest.wait_for(r"/ # ", 30)
        return Desk(guest)

    def x(self, desk, name, driver, depth=24, mode="", server=""):
        """An X server: its driver, its picture, the pointer on every place and drawn there."""
        title = f"{name}: X, {driver} {depth} {mode}".strip()
        picture = "-".join([name, driver, str(depth), *([mode] if mode else [])])
        status, out = desk.sh(f"x {driver} {depth} {mode}", X_S)
        if not self.check(f"{title}: starts", status == 0, out):
            return None
        width, height, bits = map(int, desk.wait(r"DESK up (\d+) (\d+) (\d+)", X_S).groups())
        log = desk.sh(f"grep -c '{server or driver}(0): ' /tmp/Xorg.log; grep -F '(EE)' /tmp/Xorg.log | "
                      f"grep -vE '{HARMLESS}'")[1]
        self.check(f"{title}: the driver has the screen, in {width}x{height}, {bits} bits, without errors",
                   re.fullmatch(r"[1-9]\d*", log) and mode in ("", f"{width}x{height}") and bits in (16, 24), log)
        desk.tell("draw", "drawn")
        wrong = self.wait_picture(desktop.pattern(width, height), picture)
        self.check(f"{title}: picture, each pixel", not wrong, wrong)
        rfb = vncshot.Rfb(port=self.port)
        # Not a corner first: Linux takes the axes to be 0 before it has heard of them.
        places = [(50, 60), (0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1), (1, 1), (2, 3), (5, 8), (13, 16),
                  (width // 2, height // 2), (width - 2, height - 2), (333, 222), (width - 300, height - 17)]
        seen = [desk.moves(lambda at=at: rfb.pointer(*at)) for at in places]
        self.check(f"{title}: the guest's pointer is on the viewer's pixel", seen == places,
                   ", ".join(f"{b}, not {a}" for a, b in zip(places, seen) if a != b))
        desk.tell("cursor 1", "cursor set")
        for at in ((200, 150), (width - 5, height - 3)):
            desk.moves(lambda at=at: rfb.pointer(*at))
            wrong = self.wait_picture(desktop.pattern(width, height, at), f"{picture}-pointer")
            self.check(f"{title}: the pointer's picture at {at[0]},{at[1]}", not wrong, wrong)
        desk.tell("cursor 0", "cursor set")
        rfb.pointer(100, 120)
        for button, mask in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 16)):
            rfb.pointer(100, 120, mask)
            rfb.pointer(100, 120, 0)
            self.check(f"{title}: button {button}", desk.wait(rf"DESK button {button} 100 120\s", MOVE_S, True),
                       desk.guest.log[-200:])
        rfb.close()
        return width, height

    # -- screens --------------------------------------------------------------------------------------

    def run_cirrus(self):
        """Cirrus with its DRM driver: GRUB, X as it configures itself, X with modesetting."""
        desk = self.boot("cirrus", KMS, grub=True, vga="cirrus")
        self.x(desk, "cirrus", "any", 16, server="modeset")
        desk.sh("x end")
        self.x(desk, "cirrus", "modesetting", 24, "800x600", "modeset")
        desk.guest.destroy()

    def run_cirrus_user(self):
        """Cirrus without kernel driver: X with vesa, and with cirrus and its hardware pointer."""
        desk = self.boot("cirrus_user", NO_KMS, vga="cirrus")
        self.x(desk, "cirrus_user", "vesa", 16, "1024x768", "VESA")
        desk.sh("x end")
        self.x(desk, "cirrus_user", "cirrus", 16, "1024x768", "CIRRUS")
        desk.sh("x end")
        self.x(desk, "cirrus_user", "cirrus", 16, "800x600", "CIRRUS")
        desk.guest.destroy()

    def run_stdvga(self):
        """stdvga with the bochs DRM driver: GRUB, X as it configures itself, X with modesetting."""
        desk = self.boot("stdvga", KMS, grub=True, vga="stdvga")
        self.x(desk, "stdvga", "any", 24, server="modeset")
        desk.sh("x end")
        self.x(desk, "stdvga", "modesetting", 24, "1280x1024", "modeset")
        desk.guest.destroy()

    def run_stdvga_user(self):
        """stdvga without kernel driver: X with vesa."""
        desk = self.boot("stdvga_user", NO_KMS, vga="stdvga")
        size = self.x(desk, "stdvga_user", "vesa", 24, server="VESA")
        self.check("stdvga_user: X, vesa 24: the mode that the monitor prefers", size == (1024, 768), size)
        desk.sh("x end")
        self.x(desk, "stdvga_user", "vesa", 16, "1280x1024", "VESA")
        desk.guest.destroy()

    def run_stdvga_keep(self):
        """stdvga in the mode that GRUB left: the kernel's console on its vesafb, and X on that."""
        desk = self.boot("stdvga_keep", KEEP, vga="stdvga")
        with open("/usr/share/seabios/vgabios-stdvga.bin", "rb") as f:
            font = vncshot.vga_font(f.read())
        found = self.wait_screen(lambda r: (r.width, r.height) == (1024, 768) and any(
            line.startswith("/ #") for line in r.text(font, (8, 16))), 30, "stdvga_keep-console")
        self.check("stdvga_keep: console in the mode GRUB left", found)
        self.x(desk, "stdvga_keep", "fbdev", 24, server="FBDEV")
        desk.guest.destroy()

    # -- viewers --------------------------------------------------------------------------------------

    def layout(self, name):
        """What the keys of a layout give on this machine: desktop.Layout."""
        if name not in self.layouts:
            with desktop.xdisplay.XDisplay(manager=False) as display:
                self.layouts[name] = desktop.Layout(display, name, os.path.join(self.folder, "desk"))
            count = sum(len(keys) for keys in self.layouts[name].levels.values())
            self.check(f"layout {name}: all of ASCII can be typed here", self.layouts[name].ascii(), count)
        return self.layouts[name]

    def type_layout(self, title, desk, viewer, name, wanted=lambda level, key: True):
        """Every key in every level gives in the guest what it gives here."""
        layout = self.layout(name)
        viewer.display.run(*desktop.setxkbmap(name))
        status, out = desk.sh("DISPLAY=:0 " + " ".join(desktop.setxkbmap(name)), 60)
        self.check(f"{title}: layout {name} in the guest", status == 0, out)
        for level, keys in layout.levels.items():
            keys = [key for key in keys if wanted(level, key)]
            want = "".join(key.text for key in keys)
            desk.seen = len(desk.guest.log)
            for words, count in desktop.portions(keys, level):
                viewer.type(words)
                if not desk.wait(rf"DESK pressed {count}\s", KEYS_S, True):
                    break
            viewer.type(desktop.finish(level))
            found = desk.wait(r"DESK text ([0-9a-f]*)\s", KEYS_S, True)
            got = bytes.fromhex(found[1]).decode("utf-8", "replace") if found else None
            self.check(f"{title}: {name}, {level}: {want}", got == want, f"got {got}")

    def connect(self, title, make, desk, size):
        """A viewer of that kind, once it shows the guest's screen."""
        viewer = make()
        wrong = viewer.find(desktop.pattern(*size), 60)
        self.check(f"{title}: shows the guest's screen, each pixel", not wrong, f"{wrong} {viewer.said() if wrong else ''}")
        with open(os.path.join(self.out, f"{title}.png"), "wb") as f:
            f.write(subprocess.run(["convert", "-size", f"{desktop.xdisplay.WIDTH}x{desktop.xdisplay.HEIGHT}", "-depth", "8",
                                    "bgra:-", "-alpha", "off", "png:-"], input=viewer.display.rows(
                                        0, 0, desktop.xdisplay.WIDTH, desktop.xdisplay.HEIGHT),
                                   stdout=subprocess.PIPE, check=True).stdout)
        width, height = size
        places = [(50, 60), (0, 0), (width - 1, height - 1), (3, 5), (width // 2, height // 2), (width - 1, 0),
                  (0, height - 1), (411, 300)]
        viewer.point(70, 80)
        viewer.click(1)     # TigerVNC's viewer sends no movement before the first click
        self.check(f"{title}: the first click", desk.wait(r"DESK button 1 70 80\s", MOVE_S, True), desk.guest.log[-200:])
        seen = [desk.moves(lambda at=at: viewer.point(*at)) for at in places]
        self.check(f"{title}: the guest's pointer is on the viewer's pixel", seen == places,
                   ", ".join(f"{b}, not {a}" for a, b in zip(places, seen) if a != b))
        viewer.click(1)
        self.check(f"{title}: a click", desk.wait(r"DESK button 1 411 300\s", MOVE_S, True), desk.guest.log[-200:])
        return viewer

    def desk(self, name, **options):
        """A guest with X in 1024x768 and the pattern on it; its Desk."""
        desk = self.boot(name, KMS, vga="stdvga", **options)
        status, out = desk.sh("x modesetting 24 1024x768", X_S)
        self.check(f"{name}: X starts", status == 0, out)
        size = tuple(map(int, desk.wait(r"DESK up (\d+) (\d+) ", X_S).groups()))
        desk.tell("draw", "drawn")
        return desk, size

    def run_viewers(self):
        """TigerVNC and noVNC: picture, pointer, each character of four layouts, without keymap=."""
        desk, size = self.desk("viewers")
        for title, kind in (("tigervnc", desktop.TigerVNC), ("novnc", desktop.NoVNC)):
            with desktop.xdisplay.XDisplay() as display:
                viewer = None
                try:
                    viewer = self.connect(title, lambda: kind(display, self.port, self.folder), desk, size)
                    for layout in LAYOUTS:
                        self.type_layout(title, desk, viewer, layout)
                finally:
                    if viewer:
                        viewer.close()
        desk.guest.destroy()

    def run_keymap(self):
        """A viewer that says only what keys mean, on guests with keymap=: the characters of their layouts."""
        for layout in LAYOUTS:
            keymap = desktop.KEYMAPS[layout]
            name = f"keymap-{keymap}"
            desk, size = self.desk(name, keymap=keymap)
            with desktop.xdisplay.XDisplay() as display:
                viewer = None
                try:
                    viewer = self.connect(name, lambda: desktop.TightVNC(display, self.port, self.folder), desk, size)
                    self.type_layout(name, desk, viewer, layout, desktop.engraved)
                finally:
                    if viewer:
                        viewer.close()
            desk.guest.destroy()


class Desk:
    """A guest from the CD: its shell, and the program desk on its X server."""

    def __init__(self, guest):
        self.guest, self.sh = guest, Shell(guest)
        self.seen = 0

    def wait(self, pattern, seconds, may_fail=False):
        """The next match in what it says; None or BoxError if there is none in that time."""
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.guest.log[self.seen:])
            if found:
                self.seen += found.end()
                return found
            if time.monotonic() > end:
                if may_fail:
                    return None
                raise xenbox.BoxError(f"nothing like {pattern!r} in {seconds} s; it ends {self.guest.log[-300:]!r}")
            time.sleep(0.05)

    def tell(self, command, answer):
        """A command for desk, and its answer."""
        self.seen = len(self.guest.log)
        self.guest.type_serial(f"echo {command} 1<> /tmp/desk\n")
        return self.wait(f"DESK {answer}", 60)

    def moves(self, act):
        """Where the pointer comes to rest after act()."""
        self.seen = len(self.guest.log)
        act()
        found = self.wait(r"DESK moved (\d+) (\d+)\s", MOVE_S, True)
        at = found
        while found:
            at, found = found, self.wait(r"DESK moved (\d+) (\d+)\s", 0.5, True)
        return at and (int(at[1]), int(at[2]))


if __name__ == "__main__":
    sys.exit(suite.main(Tests, __doc__))
