# SPDX-License-Identifier: GPL-2.0-or-later
"""What the display side of the VGA does and the peer does not (vgaprobe.LIMITS): each picture is compared with one that is made
by other means, from other pictures of ours. IBM VGA: CRT controller, attribute controller."""
import random

import vga
import vgaprobe
from test_screen import font

BLACK = b"\0\0\0"


class View:
    def __init__(self, m):
        self.m = m
        self.probe = vgaprobe.Probe(m, lambda label, value: None)

    def rows(self, *lines):
        """The picture's rows after these port writes."""
        if lines:
            self.m.values([x for part in lines for x in part])
        width, height, pixels = self.probe.picture("")
        return [pixels[3 * width * y:3 * width * (y + 1)] for y in range(height)]


def crop(rows, x, width, y=0, height=None):
    return [r[3 * x:3 * (x + width)] for r in rows[y:None if height is None else y + height]]


def differing(a, b):
    """How two lists of rows differ; "" if they do not."""
    if (len(a), len(a[0])) != (len(b), len(b[0])):
        return "%dx%d and %dx%d" % (len(a[0]) // 3, len(a), len(b[0]) // 3, len(b))
    bad = [y for y in range(len(a)) if a[y] != b[y]]
    return "rows %d..%d, %d of them" % (bad[0], bad[-1], len(bad)) if bad else ""


def planar_noise(m, size=0xa000):
    vga.set_mode(m, "mode12")
    vga.default_palette(m)
    for plane in range(4):
        m.write(0x10000, random.Random(plane).randbytes(size))
        m.values(vga.seq(2, 1 << plane))
        m.cmd("xen movs 4 w 0xa0000 0x10000 %d" % (size // 4))
    m.values(vga.seq(2, 15) + vga.crtc(0x11, 0x0c))


def chained_noise(m):
    vga.set_mode(m, "mode13")
    vga.default_palette(m)
    m.write(0x10000, random.Random(5).randbytes(0x10000))
    m.cmd("xen movs 4 w 0xa0000 0x10000 0x4000")
    m.values(vga.crtc(0x11, 0x0c))


def text_noise(m):
    vga.set_mode(m, "text")
    vga.default_palette(m)
    font(m)
    m.write(0x10000, random.Random(6).randbytes(0x8000))
    m.cmd("xen movs 4 w 0xb8000 0x10000 0x2000")
    m.values(vga.crtc(0x11, 0x0c) + vga.crtc(0x0a, 0x20) + vga.attr(0x10, 0) + vga.attr(0x13, 8))


ADAPTERS = ("stdvga", "cirrus")


def on_both(test):
    def run(t):
        for adapter in ADAPTERS:
            with t.machine(vga=adapter) as m:
                test(t, m, View(m), adapter)
    return run


@on_both
def test_panning(t, m, view, adapter):
    """Pixel and byte panning show another part of what a wider screen shows."""
    planar_noise(m)
    wide = view.rows(vga.crtc(1, 0x53))  # 672 pixels
    for pan in range(8):
        for byte in range(4):
            got = view.rows(vga.crtc(1, 0x4f), vga.attr(0x13, pan), vga.crtc(8, byte << 5))
            t.equal(differing(got, crop(wide, 8 * byte + pan, 640)), "", "%s, pan %d+%d" % (adapter, byte, pan))
    chained_noise(m)
    wide = view.rows(vga.crtc(1, 0x53))
    for pan in range(4):  # 256 colours: a pixel is two dots
        got = view.rows(vga.crtc(1, 0x4f), vga.attr(0x13, 2 * pan))
        t.equal(differing(got, crop(wide, 2 * pan, 640)), "", "%s, 256 colours, pan %d" % (adapter, pan))
    text_noise(m)
    wide = view.rows(vga.crtc(1, 0x50))
    for value, pan in ((8, 0), (0, 1), (3, 4), (7, 8)):
        got = view.rows(vga.crtc(1, 0x4f), vga.attr(0x13, value))
        t.equal(differing(got, crop(wide, pan, 720)), "", "%s, text, AR13 %d" % (adapter, value))
    wide = view.rows(vga.crtc(1, 0x50), vga.seq(1, 1), vga.attr(0x13, 0))
    for pan in (1, 5, 7):
        got = view.rows(vga.crtc(1, 0x4f), vga.attr(0x13, pan))
        t.equal(differing(got, crop(wide, pan, 640)), "", "%s, text of 8 dots, AR13 %d" % (adapter, pan))


@on_both
def test_preset_row(t, m, view, adapter):
    """The preset row scan takes lines from the first row of characters: smooth scrolling of text."""
    text_noise(m)
    high = view.rows()
    for first in (1, 7, 15):
        got = view.rows(vga.crtc(8, first))
        t.equal(differing(got[:384], high[first:first + 384]), "", "%s, first line %d" % (adapter, first))


@on_both
def test_text_split(t, m, view, adapter):
    """Line compare in text: below is what begins at address 0, panned only if AR10 bit 5 is clear."""
    text_noise(m)
    top = view.rows(vga.crtc(7, 0x0f), vga.crtc(9, 0x0f), vga.crtc(0x18, 0xff), vga.crtc(0x0c, 0), vga.crtc(9, 0x4f))
    below = view.rows(vga.crtc(0x0c, 4))
    for line in (15, 100, 200, 389):
        got = view.rows(vga.crtc(7, 0x0f | line >> 4 & 0x10), vga.crtc(9, 0x0f), vga.crtc(0x18, line & 0xff))
        t.equal(differing(got, below[:line + 1] + top[:399 - line]), "", "%s, line %d" % (adapter, line))
    panned = view.rows(vga.attr(0x13, 2))
    t.equal(differing(crop(panned, 0, 717)[390:], crop(got, 3, 717)[390:]), "", adapter + ", both panned")
    panned = view.rows(vga.attr(0x10, 0x20))
    t.equal(differing(crop(panned, 0, 717)[:390], crop(got, 3, 717)[:390]), "", adapter + ", upper part panned")
    t.equal(differing(panned[390:], got[390:]), "", adapter + ", lower part not panned")


@on_both
def test_split_begins_row(t, m, view, adapter):
    """The split clears the row's line counter: in the middle of a row of two lines, too."""
    chained_noise(m)
    top = view.rows()
    for line in (100, 101, 150):
        got = view.rows(vga.crtc(7, 0x0f), vga.crtc(9, 0x01), vga.crtc(0x18, line))
        t.equal(differing(got, top[:line + 1] + top[:399 - line]), "", "%s, line %d" % (adapter, line))


@on_both
def test_address_wraps(t, m, view, adapter):
    """The CRTC's counter has 16 bits: after the last byte of the planes comes the first."""
    planar_noise(m)
    top = view.rows()
    for lines in (1, 100, 300):
        start = 0x10000 - 80 * lines
        got = view.rows(vga.crtc(0x0c, start >> 8), vga.crtc(0x0d, start & 0xff))
        t.equal(differing(got[lines:], top[:480 - lines]), "", "%s, %d lines before the end" % (adapter, lines))


@on_both
def test_cga_banks_wrap(t, m, view, adapter):
    """The scan line takes the place of an address bit: a row that runs over the end of its bank goes on at its beginning."""
    vga.set_mode(m, "mode04")
    vga.default_palette(m)
    m.write(0x10000, random.Random(7).randbytes(0x4000))
    m.cmd("xen movs 4 w 0xb8000 0x10000 0x1000")
    m.inb(0x3cc)
    memory = m.read(view.probe.lfb, 0x8000)  # planes 0 and 1 of each address hold four pixels each

    def indices(start, y):
        out = []
        for i in range(40):
            at = (start * 4 + y // 4 * 160 + i * 4) & 0x3fff | (y >> 1 & 1) << 14
            out += [memory[at + k] >> shift & 3 for k in (0, 1) for shift in (6, 4, 2, 0)]
        return out

    colours = {}
    for start in (0, 0xfe0, 0x1000 - 81, 0x800):
        rows = view.rows(vga.crtc(0x0c, start >> 8), vga.crtc(0x0d, start & 0xff))
        for y in range(400):
            pixels = [rows[y][6 * x:6 * x + 3] for x in range(320)]
            for x, index in enumerate(indices(start, y)):
                want = colours.setdefault(index, pixels[x])
                t.equal(pixels[x], want, "%s, start %#x, %d,%d" % (adapter, start, x, y))
    t.equal(len(set(colours.values())), 4, "colours")


@on_both
def test_blanking(t, m, view, adapter):
    """Screen off in SR1, CRTC reset, palette closed: black of the same size, and back."""
    for show in (planar_noise, chained_noise, text_noise):
        show(m)
        before = view.rows()
        t.check(any(r.strip(b"\0") for r in before), "the picture is black from the start")
        clock = m.values(["outb 0x3c4 1", "inb 0x3c5"])[-1]
        for off, on in ((vga.seq(1, clock | 0x20), vga.seq(1, clock)), (vga.crtc(0x17, 0x23), None)):
            dark = view.rows(off)
            t.equal(differing(dark, [BLACK * (len(r) // 3) for r in before]), "", "%s, dark by %s" % (adapter, off))
            if on:
                t.equal(differing(view.rows(on), before), "", "%s, back after %s" % (adapter, off))


@on_both
def test_pixel_mask(t, m, view, adapter):
    """The pixel mask acts on what memory holds, at the DAC."""
    for mask in (0x0f, 0xaa, 0x00, 0x81):
        chained_noise(m)
        masked = view.rows(["outb 0x3c6 %#x" % mask])
        data = m.read(0xa0000, 64000)
        m.write(0x10000, bytes(b & mask for b in data))
        m.cmd("xen movs 4 w 0xa0000 0x10000 16000")
        t.equal(differing(masked, view.rows(["outb 0x3c6 0xff"])), "", "%s, mask %#x" % (adapter, mask))


@on_both
def test_line_graphics(t, m, view, adapter):
    """The ninth dot repeats the eighth for codes C0 to DF, and only with AR10 bit 2; else it is background."""
    text_noise(m)
    m.write(0x10000, bytes(x for c in range(256) for x in (c, 0x1f)) + b"x\x11")
    m.cmd("xen movs 2 w 0xb8000 0x10000 257")
    for mode in (0, 4):
        rows = view.rows(vga.attr(0x10, mode))
        background = rows[48][3 * 9 * 16:][:3]  # of a cell whose two colours are one
        for code in range(256):
            x, y = 9 * (code % 80), 16 * (code // 80)
            cell = [[rows[y + line][3 * (x + k):3 * (x + k) + 3] for k in range(9)] for line in range(16)]
            t.check(any(dot != background for line in cell for dot in line[:8]), "no glyph %#x" % code)
            for line in cell:
                want = line[7] if mode and 0xc0 <= code <= 0xdf else background
                t.equal(line[8], want, "%s, AR10 %d, code %#x" % (adapter, mode, code))


@on_both
def test_half_clock(t, m, view, adapter):
    """Half the dot clock makes each dot two wide, text cells of 18 too."""
    for show in (planar_noise, text_noise):
        show(m)
        clock = m.values(["outb 0x3c4 1", "inb 0x3c5"])[-1]
        plain = view.rows(vga.crtc(1, 0x27))
        wide = view.rows(vga.seq(1, clock | 8))
        double = [b"".join(r[i:i + 3] * 2 for i in range(0, len(r), 3)) for r in plain]
        t.equal(differing(wide, double), "", adapter)
