# SPDX-License-Identifier: GPL-2.0-or-later
"""Pattern programs on the VGA, as DOS and Windows programs draw, against the peer: memory and picture after each."""
import pcibus
import vga
import vgaprobe
from harness import compare
from test_screen import font
from test_vbe import BPP, ENABLE, XRES, YRES, wr

A = 0xa0000


def planar_box(x, y, w, h, colour, function=0):
    """A filled rectangle of mode 12h by set/reset, bit mask and latches; function: 0 copy, 1 and, 2 or, 3 xor."""
    lines = vga.gr(0, colour) + vga.gr(1, 0x0f) + vga.gr(3, function << 3) + vga.gr(5, 0)
    for byte in range(x >> 3, (x + w + 7) >> 3):
        mask = 0xff
        mask &= 0xff >> max(0, x - byte * 8)
        mask &= 0xff << max(0, byte * 8 + 8 - x - w) & 0xff
        lines += vga.gr(8, mask)
        for row in range(y, y + h):
            at = A + row * 80 + byte
            lines += ["readb %#x" % at, "writeb %#x 0" % at]
    return lines


def planar(m, out):
    """Boxes with all functions, dots by write mode 2, characters by write mode 3, scrolling by write mode 1."""
    probe = vgaprobe.Probe(m, out)
    vga.set_mode(m, "mode12")
    vga.default_palette(m)
    m.cmd("memset %#x 0x9600 0" % A)
    lines = []
    for i in range(12):
        lines += planar_box(11 + 37 * i, 5 + 5 * i, 71 - 3 * i, 16, 3 + i, i & 3)
    m.values(lines)
    probe.memory("boxes")
    probe.picture("boxes")
    lines = vga.gr(1, 0) + vga.gr(3, 0) + vga.gr(5, 2)
    for i in range(300):
        at = A + (150 + i * 7 % 90) * 80 + (i * 13 % 640 >> 3)
        lines += vga.gr(8, 0x80 >> (i * 13 & 7)) + ["readb %#x" % at, "writeb %#x %#x" % (at, i & 15)]
    for row, (rotate, function) in enumerate(((0, 0), (3, 0), (5, 3), (7, 1), (1, 2))):
        lines += vga.gr(5, 3) + vga.gr(8, 0xff) + vga.gr(0, 9 + row) + vga.gr(3, rotate | function << 3)
        for i in range(80 * 3):
            at = A + (260 + row * 20) * 80 + i
            lines += ["readb %#x" % at, "writeb %#x %#x" % (at, i * 29 & 0xff)]
    m.values(lines)
    probe.memory("dots and characters")
    lines = vga.gr(5, 1) + vga.gr(3, 0)
    for i in range(80 * 25):  # up by seven lines, as a REP MOVSB of a program does
        lines += ["readb %#x" % (A + 7 * 80 + i), "writeb %#x 0x5a" % (A + i)]
    m.values(lines)
    probe.memory("scrolled")
    probe.picture("scrolled")
    lines = vga.gr(5, 8)
    for colour in range(16):
        for care in (0x0f, 0x05, 0x08, 0x00):
            lines += vga.gr(2, colour) + vga.gr(7, care) + ["readb %#x" % (A + 80 * (9 + colour) + 5 + colour),
                                                            "readl %#x" % (A + 80 * 90 + colour * 4)]
    out("colour compare", m.values(lines))


def latches(m, out):
    """The latches keep what was read while modes and maps change, and are written where write mode 1 says."""
    probe = vgaprobe.Probe(m, out)
    vga.set_mode(m, "mode12")
    for plane in range(4):
        m.values(vga.seq(2, 1 << plane) + ["writeb %#x %#x" % (A + 100, 0x11 * (plane + 3))])
    for number, mode in enumerate(("mode13", "mode0d", "text", "mode12")):
        vga.set_mode(m, "mode12")
        m.readb(A + 100)
        vga.set_mode(m, mode)
        vga.set_mode(m, "mode12")
        m.values(vga.gr(5, 1) + ["writeb %#x 0" % (A + 200 + number)])
        probe.memory("latches through " + mode, 0x800)
        m.values(vga.gr(5, 0) + vga.gr(8, 0x0f) + ["writeb %#x 0xa5" % (A + 210 + number)])
        probe.memory("latches under the bit mask, " + mode, 0x800)


def split_writes(m, out):
    """Accesses of 16, 32 and 64 bits over the end of each map of the window, and misaligned in it."""
    probe = vgaprobe.Probe(m, out)
    for mode in ("mode12", "mode13", "text"):
        vga.set_mode(m, mode)
        for where, ends in enumerate(((0xa0000, 0xb0000), (0xb0000,), (0xb0000, 0xb8000), (0xb8000,))):
            m.values(vga.gr(6, (0 if mode == "text" else 1) | where << 2) + vga.seq(2, 0x0f))
            for end in ends:
                for back in range(1, 8):
                    if end - back < 0xa0000:
                        continue
                    lines = ["writew %#x %#x" % (end - back, 0x0102 * back),
                             "writel %#x %#x" % (end - back, 0x01020304 * back),
                             "readw %#x" % (end - back), "readl %#x" % (end - back), "readq %#x" % (end - back),
                             "writeq %#x %#x" % (end - back, 0x0123456789abcdef + back), "readq %#x" % (end - back)]
                    out("%s map %d at %#x - %d" % (mode, where, end, back), m.values(lines))
        m.values(["writew 0xbfffe 0x7788", "writel 0xbfffc 0x12345678", "writeq 0xbfff8 0x55aa55aa12345678"])
        probe.memory("after " + mode)


def mode_x(m, out):
    """Unchained 256 colours: four planes by the map mask, copies by latches, two pages, panning by start address, a split
    screen, odd widths."""
    probe = vgaprobe.Probe(m, out)
    vga.set_mode(m, "mode13")
    vga.default_palette(m)
    m.values(vga.seq(4, 6) + vga.crtc(0x14, 0) + vga.crtc(0x17, 0xe3))
    m.write(0x10000, bytes((i * 7 + (i >> 6) * 5) & 0xff for i in range(0x4000)))
    for plane in range(4):
        m.values(vga.seq(2, 1 << plane))
        m.cmd("xen movs 4 w %#x %#x %d" % (A, 0x10000 + 111 * plane, 80 * 200 // 4 - 40))
    m.values(vga.seq(2, 0x0f))
    m.cmd("xen stos 1 %#x 0x23 %d" % (A + 80 * 90 + 3, 80 * 20))
    probe.picture("first page")
    lines = vga.gr(5, 0x41)
    for i in range(80 * 16):
        lines += ["readb %#x" % (A + 80 * 100 + i), "writeb %#x 0" % (A + 0x4000 + 80 * 60 + i)]
    m.values(lines + vga.gr(5, 0x40) + vga.crtc(0x0c, 0x40))
    probe.memory("second page")
    probe.picture("second page")
    for start in (0x4001, 0x3fff, 80 * 33 + 2):
        m.values(vga.crtc(0x0c, start >> 8) + vga.crtc(0x0d, start & 0xff))
        probe.picture("start %#x" % start)
    for split in (99, 201, 301, 399):  # ends of rows: elsewhere the peer does not begin a row at the split
        m.values(vga.crtc(0x18, split & 0xff) + vga.crtc(7, 0x0f | split >> 4 & 0x10) + vga.crtc(9, 1))
        probe.picture("split at %d" % split)
    for offset in (41, 45, 80, 1, 0):
        m.values(vga.crtc(0x13, offset))
        probe.picture("offset %d" % offset)
    m.values(vga.crtc(0x11, 0x0e) + vga.crtc(1, 0x59) + vga.crtc(0x13, 45) + vga.crtc(9, 0x40) + vga.crtc(0x12, 0xdf))
    probe.picture("360 by 480")


def text_maps(m, out):
    """Odd/even writes, both fonts by attribute bit 3, every place of a font, 16-bit and byte writes of cells."""
    probe = vgaprobe.Probe(m, out)
    vga.set_mode(m, "text")
    vga.default_palette(m)
    for place in (0, 0x4000, 0x8000, 0xc000, 0x2000, 0xe000):
        font(m, place)
        m.values(vga.seq(2, 4) + vga.seq(4, 7) + vga.gr(5, 0) + vga.gr(6, 4) +
                 ["writel %#x %#x" % (A + place + 32 * c, 0x01010101 * (place >> 13) + c) for c in range(0, 256, 3)] +
                 vga.seq(2, 3) + vga.seq(4, 3) + vga.gr(5, 0x10) + vga.gr(6, 0x0e))
    m.values(vga.crtc(0x0a, 0x20) + vga.attr(0x10, 0) + ["inb 0x3da", "outb 0x3c0 0x20"])
    m.write(0x10000, bytes((i * 11 + (i >> 8)) & 0xff for i in range(4000)))
    m.cmd("xen movs 2 w 0xb8000 0x10000 2000")
    m.values(["writeb %#x %#x" % (0xb8000 + i * 37, i & 0xff) for i in range(100)] +
             ["writel %#x %#x" % (0xb8000 + 160 * 5 + i * 4, 0x07410742 + i * 0x01000100) for i in range(40)])
    probe.memory("cells")
    for value in (0x00, 0x05, 0x0a, 0x0f, 0x10, 0x20, 0x04, 0x01, 0x3f, 0x2b):
        m.values(vga.seq(3, value))
        probe.picture("fonts %#x" % value)
    for lines in (vga.crtc(0x0c, 1), vga.crtc(0x0d, 7), vga.crtc(0x13, 41), vga.crtc(9, 0x47), vga.seq(1, 1)):
        m.values(lines)
        probe.picture("then " + lines[0] + ", " + lines[1])
    m.values(vga.seq(2, 1) + ["writew 0xb8000 0x1234", "writel 0xb8004 0x56789abc"] + vga.seq(2, 2) +
             ["writew 0xb8010 0x1234"] + vga.seq(2, 3) + vga.gr(4, 2) + ["writew 0xb8020 0x4321", "readl 0xb8000"])
    probe.memory("planes of odd and even", 0x1000)


def colours(m, out):
    """Attribute palette, colour select in both sizes, planes; DAC writes by halves; 8-bit DAC where there is one."""
    probe = vgaprobe.Probe(m, out)
    vga.set_mode(m, "mode12")
    vga.default_palette(m)
    lines = []
    for i in range(0x2580):
        lines += ["writeb %#x %#x" % (A + i * 4, i * 5 & 0xff)] if i % 7 else vga.seq(2, i // 7 & 15)
    m.values(lines)
    for mode in (0x01, 0x81):
        for select in (0x00, 0x05, 0x0c, 0x0f, 0x03):
            m.values(vga.attr(0x10, mode) + vga.attr(0x14, select))
            probe.picture("AR10 %#x AR14 %#x" % (mode, select))
    for planes in (0x01, 0x0a, 0x07, 0x00, 0x0f):
        m.values(vga.attr(0x12, planes))
        probe.picture("planes %#x" % planes)
    m.values([x for i in range(16) for x in vga.attr(i, 0x3f - 3 * i)])
    probe.picture("palette")
    m.values(["outb 0x3c8 0x30", "outb 0x3c9 1", "outb 0x3c9 2", "outb 0x3c8 0x31", "outb 0x3c9 63", "outb 0x3c9 31",
              "outb 0x3c9 7", "outb 0x3c9 9", "outb 0x3c7 0x31", "inb 0x3c9", "outb 0x3c9 5", "outb 0x3c9 6"])
    out("DAC", m.values(["outb 0x3c7 0x2f"] + ["inb 0x3c9"] * 12))
    probe.picture("DAC written by parts")


def dac_8bit(m, out):
    probe = vgaprobe.Probe(m, out)
    lfb = pcibus.find(pcibus.assign(m), 3, 0)[0]
    vga.set_mode(m, "mode13")
    for enable in (0x41, 0x61, 0x41):
        wr(m, ENABLE, 0)
        wr(m, XRES, 256)
        wr(m, YRES, 64)
        wr(m, BPP, 8)
        wr(m, ENABLE, enable)
        m.values(["outb 0x3c8 0"] + ["outb 0x3c9 %d" % (i * k & 0xff) for i in range(256) for k in (1, 3, 7)])
        m.write(lfb, bytes(range(256)) * 64)
        probe.picture("enable %#x" % enable)
        out("DAC %#x" % enable, m.values(["outb 0x3c7 100"] + ["inb 0x3c9"] * 9))


def cga(m, out):
    """Four colours in two banks: mode 4, written by bytes and words, other pitches and starts."""
    probe = vgaprobe.Probe(m, out)
    vga.set_mode(m, "mode04")
    vga.default_palette(m)
    m.write(0x10000, bytes((i * 3 + (i >> 7)) & 0xff for i in range(0x4000)))
    m.cmd("xen movs 2 w 0xb8000 0x10000 0x1000")
    m.cmd("xen movs 1 w 0xba000 0x11000 0x1f40")
    probe.memory("banks")
    probe.picture("mode 4")
    # No row over the end of its bank, where the peer goes on in the other one: test_vga_display.py has those.
    for lines in (vga.crtc(0x0d, 40), vga.crtc(0x13, 19), vga.crtc(0x13, 10) + vga.crtc(0x0c, 0x07), vga.attr(2, 0x3c)):
        m.values(lines)
        probe.picture("then " + lines[-2] + ", " + lines[-1])


for name in ("planar", "latches", "split_writes", "mode_x", "text_maps", "colours", "cga"):
    for adapter in ("cirrus", "stdvga"):
        globals()["test_%s_%s" % (name, adapter)] = compare(vga=adapter)(globals()[name])
test_dac_8bit = compare(vga="stdvga")(dac_8bit)
