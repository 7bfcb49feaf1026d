# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything a program can see of a VGA at one moment: registers, video memory, picture. And the table of what random
programs leave alone in a picture, because the peer shows something else than the VGA does."""
import base64
import os

import pcibus
import vga
from test_screendump import ppm

# How 5 and 6 bits of colour become 8 is everybody's own choice.
SIX_BITS = bytes(b & 0xfc for b in range(256))
FIVE_BITS = bytes(b & 0xf8 for b in range(256))
SEED = int(os.environ.get("VGA_RANDOM_SEED", "1"), 0)
ROUNDS = int(os.environ.get("VGA_RANDOM_ROUNDS", "0"))  # for each program; 0: a usual number


class Probe:
    """Looks at a machine's screen by screendump: exact, and at this moment."""

    def __init__(self, m, out):
        self.m, self.out = m, out
        self.lfb = pcibus.find(pcibus.assign(m), 3, 0)[0]
        self.qmp = m.qmp()
        self.path = os.path.join(m.dir, "screen.ppm")

    def dump(self):
        answer = self.qmp.command("screendump", filename=self.path, format="ppm")
        if "error" in answer:
            raise ValueError("screendump: %r" % answer)
        with open(self.path, "rb") as f:
            width, height, pixels = ppm(f.read())
        if len(pixels) != 3 * width * height:  # the peer writes rows of a multiple of four bytes
            pitch = len(pixels) // height
            pixels = b"".join(pixels[y * pitch:y * pitch + 3 * width] for y in range(height))
        return width, height, pixels

    def picture(self, label, bits=SIX_BITS):
        """Notes size and pixels. A dark screen goes before: the peer draws all anew only then, and misses some
        register changes else."""
        self.m.values(["inb 0x3da", "outb 0x3c0 0"])
        self.dump()
        self.m.values(["inb 0x3da", "outb 0x3c0 0x20"])
        width, height, pixels = self.dump()
        self.out(label + ": size", (width, height))
        self.out(label + ": picture", pixels.translate(bits))
        return width, height, pixels

    def memory(self, label, size=1 << 18, at=0):
        self.m.inb(0x3cc)  # behind the writes that the hypervisor buffers
        self.out(label + ": memory", base64.b64decode(self.m.cmd("b64read %#x %d" % (self.lfb + at, size))))

    def registers(self, label):
        r = vga.registers(self.m)
        self.out(label + ": registers", tuple("%s=%02x" % x for x in r.items()))
        return r


# For tables of differences.
REGISTERS = (".*registers", lambda a, b: all(x == y or x.startswith(("port 0x3c6", "crtc[22]")) for x, y in zip(a, b)),
             "the peer's stdvga has no pixel mask; its Cirrus does not read latches back (CR22)")


# Kinds of picture: text, planar (4 planes), cga (2 bits interleaved), pal8 (a byte a pixel).
GRAPHICS = ("planar", "cga", "pal8")
ALL = ("text",) + GRAPHICS
# (register, bits, value of these bits, kinds, reason): what a random program's registers become before a picture.
LIMITS = (
    ("seq[01]", 0x20, 0x00, ALL, "screen off: the peer goes on showing the picture"),
    ("seq[01]", 0x08, 0x00, ("text", "pal8"), "half dot clock: the peer makes text cells 16 dots wide, never 18, and does "
     "not widen pixels of 256 colours"),
    ("crtc[08]", 0x7f, 0x00, ALL, "preset row scan and byte panning: the peer has neither"),
    ("attr[13]", 0x0f, 0x00, GRAPHICS, "pixel panning: the peer has none"),
    ("attr[13]", 0x0f, 0x08, ("text",), "the same; 8 is no panning of 9 dots, and 0 of 8 dots by the next line"),
    ("seq[01]", 0x01, 0x00, ("text",), "(9 dots, for which 8 in AR13 is right)"),
    ("crtc[0a]", 0x20, 0x20, ALL, "the cursor blinks by time"),
    ("attr[10]", 0x08, 0x00, ALL, "blinking: the peer has none, bit 7 is always background"),
    ("attr[10]", 0x06, 0x00, ("text",), "line graphics, which the peer gives to B0-BF too, and underline, which it has "
     "not"),
    ("attr[12]", 0x0f, 0x0f, ("text", "cga", "pal8"), "planes: the peer masks memory, not pixels, which is the same only "
     "with four planes"),
    ("crtc[17]", 0x84, 0x80, ALL, "CRTC reset and half vertical clock: not in the peer"),
    ("crtc[17]", 0x03, 0x03, ("text", "planar", "pal8"), "row scan bits as address bits: the peer ties them to 2-bit "
     "pixels"),
    ("crtc[17]", 0x43, 0x02, ("cga",), "the same; MA13 replaced, addresses by words, as in modes 4 to 6"),
    ("crtc[09]", 0x9f, 0x81, ("cga",), "rows of two lines, doubled: the peer does not look at their number"),
    ("crtc[09]", 0x80, 0x00, ("text",), "doubled lines: not in the peer's text"),
    ("crtc[18]", 0xff, 0xff, ("text",), "line compare: the peer splits no text"),
    ("crtc[07]", 0x10, 0x10, ("text",), "the same, bit 8"),
    ("crtc[09]", 0x40, 0x40, ("text",), "the same, bit 9"),
)
PORTS = {"seq": 0x3c4, "gr": 0x3ce, "crtc": 0x3d4}


def kind_of(r):
    if not r["gr[06]"] & 1:
        return "text"
    return GRAPHICS[min(2, r["gr[05]"] >> 5 & 3)]


def height_of(r):
    return (r["crtc[12]"] | (r["crtc[07]"] & 2) << 7 | (r["crtc[07]"] & 0x40) << 3) + 1


def limited(r):
    """Port writes that bring the registers r inside LIMITS, and sizes to what both show."""
    kind, new = kind_of(r), dict(r)
    for name, bits, value, kinds, _ in LIMITS:
        if kind in kinds:
            new[name] = new[name] & ~bits | value

    def set_height(lines):
        new["crtc[12]"] = lines - 1 & 0xff
        new["crtc[07]"] = new["crtc[07]"] & ~0x42 | (lines - 1 >> 7 & 2) | (lines - 1 >> 3 & 0x40)

    new["crtc[00]"] = new["crtc[00]"] or 0x5f  # 0: no mode set yet
    new["crtc[01]"] = 15 + new["crtc[01]"] % 80
    new["crtc[06]"] = new["crtc[06]"] & 0xff if new["crtc[06]"] != 100 else 101  # the peer's 160x100 text
    set_height(200 + height_of(new) % 290)
    rows = (new["crtc[09]"] & 0x1f) + 1
    if kind == "text":  # the peer shows whole rows, and 16000 cells at most
        rows = max(rows, 4)
        new["crtc[09]"] = new["crtc[09]"] & ~0x1f | rows - 1
        set_height(height_of(new) // rows * rows)
    else:  # at the split the VGA begins a row; the peer goes on with the one it is in
        rows <<= new["crtc[09]"] >> 7 & 1
        split = new["crtc[18]"] | (new["crtc[07]"] & 0x10) << 4 | (new["crtc[09]"] & 0x40) << 3
        split = min(0x3ff, split // rows * rows + rows - 1)
        new["crtc[18]"] = split & 0xff
        new["crtc[07]"] = new["crtc[07]"] & ~0x10 | split >> 4 & 0x10
        new["crtc[09]"] = new["crtc[09]"] & ~0x40 | split >> 3 & 0x40
    # The peer does not wrap the address at 256 KiB, nor at the end of a CGA bank.
    room = (0x4000 if kind == "cga" else 1 << 18) - 0x400
    pitch = min(new["crtc[13]"], room // (-(-height_of(new) // rows) * 8))
    start = min(new["crtc[0c]"] << 8 | new["crtc[0d]"], (room - pitch * 8 * -(-height_of(new) // rows)) // 4)
    new.update({"crtc[13]": pitch, "crtc[0c]": start >> 8, "crtc[0d]": start & 0xff})
    lines = ["outb 0x3c2 %#x" % (r["port 0x3cc"] | 3)] + vga.crtc(0x11, r["crtc[11]"] & 0x7f)
    for name, value in new.items():
        if value != r[name]:
            group, index = name[:-4], int(name[-3:-1], 16)
            lines += vga.attr(index, value) if group == "attr" else \
                ["outb %#x %#x" % (PORTS[group], index), "outb %#x %#x" % (PORTS[group] + 1, value)]
    return kind, lines
