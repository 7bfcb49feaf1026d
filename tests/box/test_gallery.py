#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every BIOS and VBE mode on both adapters: pictures by a real VNC client against what they have to be, and beside the peer's.

Leaves gallery.png, a sheet of all of them, in the output folder.
"""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import gallery  # noqa: E402
import suite  # noqa: E402
import vncshot  # noqa: E402

ROM = {"cirrus": "vgabios-cirrus.bin", "stdvga": "vgabios-stdvga.bin"}
BIOS_MODES = {*range(8), *range(0x0d, 0x14)}
# Modes that Debian's VGA BIOS offers with the memory that xl gives the adapter, as banked and linear ones.
VBE_PICTURES = {"cirrus": 30, "stdvga": 100}
MODE_S = 60


class Sheet:
    """Small pictures with two lines of text each, in rows."""

    width, height, columns, gap, letter = 160, 120, 16, 6, 8

    def __init__(self, font):
        self.font = font        # 8 rows a character
        self.cells = []         # (RGB bytes or None for a heading, lines, ink)

    def heading(self, text):
        """A new row that begins with this."""
        while len(self.cells) % self.columns:
            self.cells.append((None, [], b""))
        self.cells += [(None, text.split("\n"), b"\xff\xff\xff")]

    def add(self, path, lines, good):
        """A picture from a file."""
        rgb = subprocess.run(["convert", path, "-filter", "box", "-resize", f"{self.width}x{self.height}!", "-depth", "8",
                              "rgb:-"], stdout=subprocess.PIPE, check=True).stdout
        self.cells.append((rgb, lines, b"\xc0\xff\xc0" if good else b"\xff\x40\x40"))

    def write(self, path):
        """Draws the sheet."""
        step_x, step_y = self.width + self.gap, self.height + self.gap + 3 * self.letter
        rows = -(-len(self.cells) // self.columns)
        width, height = self.columns * step_x + self.gap, rows * step_y + self.gap
        canvas = bytearray(b"\x30" * (width * height * 3))

        def put(x, y, rgb):
            canvas[(y * width + x) * 3:(y * width + x) * 3 + len(rgb)] = rgb

        for i, (rgb, lines, ink) in enumerate(self.cells):
            x, y = self.gap + i % self.columns * step_x, self.gap + i // self.columns * step_y
            for row in range(self.height if rgb else 0):
                put(x, y + row, rgb[row * self.width * 3:(row + 1) * self.width * 3])
            for n, line in enumerate(lines):
                for k, char in enumerate(line.encode("ascii", "replace")[:self.width // self.letter]):
                    for row in range(self.letter):
                        bits = self.font[char * self.letter + row]
                        for dot in range(self.letter):
                            if bits & 0x80 >> dot:
                                put(x + k * self.letter + dot, y + self.height + 3 + n * (self.letter + 1) + row, ink)
        vncshot.write_png(path, width, height, canvas)


class Tests(suite.Suite):
    """A scenario for each adapter, and one for the same on the peer."""

    scenarios = ("cirrus", "stdvga", "cirrus_peer", "stdvga_peer")
    default_scenarios = ("cirrus", "stdvga")
    cd = ("gallery.iso", "mkgallery")

    def __init__(self, *args):
        super().__init__(*args)
        self.fonts = {}
        for vga, name in ROM.items():
            with open(os.path.join("/usr/share/seabios", name), "rb") as f:
                self.fonts[vga] = gallery.fonts(f.read())
        self.results = {}       # scenario -> [(mode, file, good)]

    def picture(self, path):
        """Taken by gtk-vnc, the library of virt-viewer and GNOME's viewers. Returns what went wrong, or ""."""
        try:
            took = subprocess.run(["gvnccapture", f"127.0.0.1:{self.port - 5900}", path], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=MODE_S, check=False)
            return "" if took.returncode == 0 else took.stdout.strip() or f"gvnccapture gave {took.returncode}"
        except subprocess.TimeoutExpired as e:
            text = f"gvnccapture had no picture in {MODE_S} s and said {e.output}"
        try:
            other = vncshot.Rfb(port=self.port).snapshot()
            return f"{text}; another client got {other.width}x{other.height}"
        except (OSError, ConnectionError) as e:
            return f"{text}; another client: {e}"

    def modes(self, guest):
        """Goes through the gallery: each mode while it is on the screen."""
        seed = 0
        while True:
            seed += 1
            found, _ = guest.wait_for(rf"^((?:mode|text) .*seed={seed}|gallery done)\r?$", MODE_S)
            if found[1] == "gallery done":
                return
            yield gallery.Mode(gallery.LINE.search(found[0]))

    def show(self, scenario, vga, dm, rules):
        """All modes of a guest with this adapter. The next mode is drawn while this one's picture is looked at."""
        folder = os.path.join(self.out, scenario)
        os.makedirs(folder, exist_ok=True)
        guest = self.box.create(self.box.config(name=scenario, iso="gallery.iso", vga=vga, dm=dm), serial="pty")
        results = self.results[scenario] = []
        for mode in self.modes(guest):
            path = os.path.join(folder, f"{mode.seed:03}-{mode.name}.png")
            wrong = self.picture(path)
            guest.type_serial("n")
            if not wrong and not rules.broken(mode):
                wrong = gallery.differences(gallery.load(path), gallery.expected(mode, rules, self.fonts[vga]))
            self.check(f"{scenario} {mode.name}", not wrong, wrong)
            results.append((mode, path, not wrong))
        failed = re.findall(r"^fail.*$", guest.log, re.M)
        self.check(f"{scenario}: every mode of the list can be set", not failed, " | ".join(failed))
        shown = {m.number for m, _, _ in results if m.how == "bios"}
        self.check(f"{scenario}: all BIOS modes were seen", shown == BIOS_MODES, sorted(BIOS_MODES - shown))
        count = sum(m.vbe for m, _, _ in results)
        self.check(f"{scenario}: VBE modes were seen", count >= VBE_PICTURES[vga], f"{count} pictures", always=True)
        guest.destroy()

    def beside(self, ours, peer):
        """Says which pictures of the peer are not ours, of this run or of one before it with the same output folder."""
        pairs = [(m.name, path, os.path.join(self.out, ours, os.path.basename(path))) for m, path, _ in self.results[peer]]
        pairs = [(name, a, b) for name, a, b in pairs if os.path.exists(a) and os.path.exists(b)]
        differ = [name for name, a, b in pairs if gallery.load(a) != gallery.load(b)]
        print(f"   {len(pairs)} pictures beside ours, {len(pairs) - len(differ)} the same; gallery.PEER says why these are "
              f"not: {', '.join(differ)}", flush=True)

    def run_cirrus(self):
        """Cirrus, each picture against VGA's rules."""
        self.show("cirrus", "cirrus", None, gallery.PEER if self.box.dm == "peer" else gallery.VGA)

    def run_stdvga(self):
        """The same with stdvga."""
        self.show("stdvga", "stdvga", None, gallery.PEER if self.box.dm == "peer" else gallery.VGA)

    def run_cirrus_peer(self):
        """Cirrus of the peer, each picture against VGA's rules with the peer's differences; then beside ours."""
        self.show("cirrus_peer", "cirrus", "peer", gallery.PEER)
        self.beside("cirrus", "cirrus_peer")

    def run_stdvga_peer(self):
        """The same with stdvga."""
        self.show("stdvga_peer", "stdvga", "peer", gallery.PEER)
        self.beside("stdvga", "stdvga_peer")

    def finish(self):
        """The sheet."""
        sheet = Sheet(self.fonts["cirrus"][8])
        for scenario, results in self.results.items():
            sheet.heading(f"{scenario}\n{len(results)} pictures")
            for mode, path, good in results:
                if os.path.exists(path):
                    size = (f"text {mode.cols}x{mode.rows}, {mode.cell} rows" if mode.kind == "text"
                            else f"{mode.w}x{mode.h}x{mode.bpp}")
                    sheet.add(path, [f"{mode.number:03X} {mode.how}", size], good)
        sheet.write(os.path.join(self.out, "gallery.png"))


if __name__ == "__main__":
    sys.exit(suite.main(Tests, __doc__))
