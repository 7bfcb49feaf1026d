# SPDX-License-Identifier: GPL-2.0-or-later
"""What each mode of box/gallery has to look like, worked out from the mode's line on the serial port.

The pattern is described in box/gallery/gallery.c; here it is computed once more, apart from that program. The pictures
are of VGA's rules: what a pixel value, a palette entry, a text cell is on the screen.
"""

import re
import subprocess

LINE = re.compile(r"^(mode|text) ([0-9a-f]+) (bios|vbe)( banked| linear)? (.*seed=\d+)\r?$", re.M)

# Of all text modes of SeaBIOS.
TEXT_LINES = 400

# The picture's size in BIOS modes is what a monitor shows: rows and columns that the CRTC doubles are doubled.
DOUBLED = {(320, 200): (2, 2), (640, 200): (1, 2)}


class Mode:
    """A line of the program: kind ("mode", "text"), number, how ("bios", "vbe banked", "vbe linear"), fields as attributes."""

    def __init__(self, match):
        self.kind, number, firmware, access, fields = match.groups()
        self.number = int(number, 16)
        self.how = firmware + (access or "")
        self.dac = 6
        self.rgb = ""
        self.w = self.h = self.bpp = self.cols = self.rows = self.cell = 0
        for key, value in (f.split("=") for f in fields.split()):
            setattr(self, key, value if key == "rgb" else int(value))
        self.vbe = firmware == "vbe"

    @property
    def name(self):
        """For file names and messages."""
        size = f"{self.cols}x{self.rows}-{self.cell}" if self.kind == "text" else f"{self.w}x{self.h}x{self.bpp}"
        return f"{self.number:03x}-{self.how.replace(' ', '-')}-{size}"


class Rules:
    """How an adapter makes its picture of a mode.

    dac6(v): a palette entry's 6 bits as 8. rgb15(v): 5 bits of a 15-bit pixel as 8. cell_40: dots of a character in 40
    column text. dup9: characters whose eighth dot is also the ninth. underline: scan line of monochrome text, or None.
    whole_rows: no part of a row of text shows. limit: width and height that a picture is cut to. broken: modes that cannot be drawn in (function of a Mode).
    """

    def __init__(self, dac6, rgb15, cell_40, dup9, underline, whole_rows, limit, broken):
        self.dac6, self.rgb15, self.cell_40, self.dup9, self.underline = dac6, rgb15, cell_40, dup9, underline
        self.whole_rows, self.limit, self.broken = whole_rows, limit, broken


def widen(v, bits):
    """Bits to 8, the top ones again below: 0 and the maximum become 0 and 255, and the steps between them are even."""
    return v << (8 - bits) | v >> (2 * bits - 8)


# VGA's rules: line graphics are C0h-DFh, and the underline of mode 7 is where SeaBIOS puts it.
VGA = Rules(lambda v: widen(v, 6), lambda v: widen(v, 5), 9, range(0xc0, 0xe0), 15, False, (4096, 4096), lambda mode: False)

# Where the peer (QEMU 7.2) draws something else:
# - a palette entry of 6 bits gets its lowest one twice below, so that a colour is off by up to 3 of 255;
# - the 5 bits of a 15-bit pixel get zeros below: white is f8f8f8 (with 16 bits it is ffffff);
# - in 40 column modes a character is 8 dots wide, each doubled: 640 columns, where a VGA's 9 dots make 720;
# - the ninth dot repeats the eighth from B0h on, not from C0h;
# - nothing is underlined in monochrome text;
# - rows of text are shown whole or not at all: with the font of 14 rows SeaBIOS leaves 400 lines, which are 28 rows and 8
#   lines of the next;
# - its VNC server shows the upper left 2560x2048 pixels of a picture;
# - the VBE modes of 16 colours do not work: while VBE is on, the memory is in chain 4 and the map mask is not looked at.
PEER = Rules(lambda v: v << 2 | (v & 1) * 3, lambda v: v << 3, 8, range(0xb0, 0xe0), None, True, (2560, 2048),
             lambda mode: mode.vbe and mode.bpp == 4 and mode.number >= 0x100)

# DAC entry of a set pixel in modes of 1 bit a pixel, by the planes that SeaBIOS lets through.
ONE_BIT = {0x06: 1, 0x0f: 1, 0x11: 15}


def fold(v, bits):
    """All digits of that many bits, exclusively ored."""
    out = 0
    while v:
        out ^= v
        v >>= bits
    return out & ((1 << bits) - 1)


# -- pixel values ---------------------------------------------------------------------------------------

def column_value(mode, x):
    """The part of a pixel's value that its column decides."""
    x += mode.seed
    if mode.bpp <= 8:
        return fold(x, mode.bpp)
    return x & 0xffff if mode.bpp <= 16 else (x & 0xff) | (x >> 8 & 15) << 20


def row_value(mode, y):
    """The part of a pixel's value that its row decides."""
    if mode.bpp <= 8:
        return fold(y, mode.bpp)
    return y << 5 & 0xffff if mode.bpp <= 16 else (y & 0xff) << 8 | (y >> 8 & 15) << 16


def bar_value(mode, x, channels):
    """A pixel's value in the rows of bars."""
    if mode.bpp <= 4:
        return x >> 4 & ((1 << mode.bpp) - 1)
    if mode.bpp == 8:
        return x >> 2 & 0xff
    return sum(((1 << size) - 1) << shift for k, (size, shift) in enumerate(channels) if x >> 4 & 4 >> k)


# -- colours --------------------------------------------------------------------------------------------

def rgbi(i):
    """Palette entry of the modes of up to 16 colours: 6 bits for red, green, blue."""
    return [(42 if i & bit else 0) + (21 if i & 8 else 0) for bit in (4, 2, 1)]


def palette(mode, rules):
    """256 colours as 3 bytes each."""
    if mode.dac == 8:
        return [bytes(((i >> 5) * 36 + 3, (i >> 2 & 7) * 36 + 3, (i & 3) * 85)) for i in range(256)]
    if mode.bpp == 8:
        entries = [((i >> 5) * 9, (i >> 2 & 7) * 9, (i & 3) * 21) for i in range(256)]
    elif mode.bpp == 1:
        entries = [(i % 2 * 63,) * 3 for i in range(256)]
    else:
        entries = [rgbi(i) for i in range(256)]
    return [bytes(map(rules.dac6, e)) for e in entries]


def colours(mode, rules, channels):
    """A function from a pixel's value to its 3 bytes."""
    if mode.bpp <= 8:
        table = palette(mode, rules)
        return (lambda v: table[v and ONE_BIT[mode.number]]) if mode.bpp == 1 else table.__getitem__
    known = {}

    def channel(v, size, shift):
        c = v >> shift & ((1 << size) - 1)
        return rules.rgb15(c) if mode.bpp == 15 else widen(c, size)

    def direct(v):
        if v not in known:
            known[v] = bytes(channel(v, size, shift) for size, shift in channels)
        return known[v]
    return direct


# -- pictures -------------------------------------------------------------------------------------------

def graphics(mode, rules):
    """(width, height, RGB bytes) of a graphics mode."""
    channels = [tuple(map(int, c.split("@"))) for c in mode.rgb.split(",")]
    colour = colours(mode, rules, channels)
    ones = (1 << mode.bpp) - 1
    white = colour(ones)
    xs, ys = (1, 1) if mode.vbe and mode.number >= 0x20 else DOUBLED.get((mode.w, mode.h), (1, 1))
    columns = [column_value(mode, x) for x in range(mode.w)]
    bars = white * xs + b"".join(colour(bar_value(mode, x, channels)) * xs for x in range(1, mode.w - 1)) + white * xs
    rows, out = {}, []
    for y in range(mode.h):
        t = row_value(mode, y)
        if y in (0, mode.h - 1):
            row = white * (mode.w * xs)
        elif 8 <= y < 8 + mode.h // 8:
            row = bars
        elif mode.bpp >= 24:
            # Each channel is a function of the column or of the row alone, but for red's two halves.
            row = bytearray(mode.w * 3)
            row[0::3] = bytes((t >> 16 | c >> 16) & 0xff for c in columns)
            row[1::3] = bytes([t >> 8 & 0xff]) * mode.w
            row[2::3] = bytes(c & 0xff for c in columns)
            row[:3] = row[-3:] = white
            row = bytes(row)
        elif t in rows:
            row = rows[t]
        else:
            row = rows[t] = (white * xs + b"".join([colour(c ^ t) * xs for c in columns[1:-1]]) + white * xs)
        out.append(row * ys)
    return mode.w * xs, mode.h * ys, b"".join(out)


def text(mode, rules, font):
    """(width, height, RGB bytes) of a text mode. font: cell height -> 256 glyphs of that many bytes."""
    glyphs = font[mode.cell]
    table = palette(mode, rules)
    dots, double = (rules.cell_40, 2) if mode.cols == 40 else (9, 1)
    height = mode.rows * mode.cell if rules.whole_rows else TEXT_LINES
    lines = []
    for row in range(-(-height // mode.cell)):
        cells = []
        for col in range(mode.cols):
            i = row * mode.cols + col
            cells.append(((i + mode.seed) & 0xff, (5 * i + 3 * (i >> 8)) & 0xff))
        for scan in range(mode.cell):
            line = []
            for char, attribute in cells:
                bits = glyphs[char * mode.cell + scan] << 1
                if char in rules.dup9:
                    bits |= bits >> 1 & 1
                if mode.number == 7 and attribute & 0x77 == 1 and scan == rules.underline:
                    bits = 0x1ff
                fg, bg = table[attribute & 15] * double, table[attribute >> 4] * double
                line += [fg if bits & 0x100 >> k else bg for k in range(dots)]
            lines.append(b"".join(line))
    return mode.cols * dots * double, height, b"".join(lines[:height])


def fonts(rom):
    """The fonts in a VGA BIOS image: cell height -> glyphs. Each begins with an empty character and a smiling face."""
    faces = {8: "7e81a581bd99817e", 14: "00007e81a58181bd99817e000000", 16: "00007e81a58181bd9981817e00000000"}
    found = {}
    for height, face in faces.items():
        at = rom.find(bytes(height) + bytes.fromhex(face))
        if at < 0:
            raise ValueError(f"no font of {height} rows in the VGA BIOS image")
        found[height] = rom[at:at + 256 * height]
    return found


def expected(mode, rules, font):
    """(width, height, RGB bytes) that the mode's picture has to be."""
    width, height, rgb = text(mode, rules, font) if mode.kind == "text" else graphics(mode, rules)
    w, h = min(width, rules.limit[0]), min(height, rules.limit[1])
    if (w, h) != (width, height):
        rgb = b"".join(rgb[y * width * 3:(y * width + w) * 3] for y in range(h))
    return w, h, rgb


def load(path):
    """(width, height, RGB bytes) of an image file."""
    size = subprocess.run(["identify", "-format", "%w %h", path], stdout=subprocess.PIPE, text=True, check=True).stdout
    raw = subprocess.run(["convert", path, "-depth", "8", "rgb:-"], stdout=subprocess.PIPE, check=True).stdout
    return (*map(int, size.split()), raw)


def differences(a, b):
    """One line about where two pictures differ, "" when they do not."""
    if a[:2] != b[:2]:
        return f"{a[0]}x{a[1]}, not {b[0]}x{b[1]}"
    if a[2] == b[2]:
        return ""
    width = a[0]
    count, first, last = 0, None, None
    for y in range(a[1]):
        at = slice(y * width * 3, (y + 1) * width * 3)
        one, two = a[2][at], b[2][at]
        if one != two:
            for x in range(width):
                if one[3 * x:3 * x + 3] != two[3 * x:3 * x + 3]:
                    count += 1
                    last = x, y
                    first = first or (x, y, one[3 * x:3 * x + 3].hex(), two[3 * x:3 * x + 3].hex())
    x, y, is_, wanted = first
    return f"{count} of {width * a[1]} pixels, from {x},{y} ({is_}, not {wanted}) to {last[0]},{last[1]}"

