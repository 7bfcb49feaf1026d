# SPDX-License-Identifier: GPL-2.0-or-later
"""Cirrus CL-GD5446 extended registers, memory windows and the blitter, against the peer."""
import random
import struct

import pcibus
import vga
from harness import compare

MODES = {  # name: (SR7, hidden DAC, GR/CRTC for 640x480 with pitch)
    "8": (0x01, 0x00, 80), "16": (0x07, 0xc1, 160), "24": (0x05, 0xc5, 240), "32": (0x09, 0xc5, 320)}


def unlock():
    return vga.seq(6, 0x12)


def hidden_dac(m, value=None):
    lines = ["inb 0x3c8", "inb 0x3c6", "inb 0x3c6", "inb 0x3c6", "inb 0x3c6"]
    if value is not None:
        lines.append("outb 0x3c6 %#x" % value)
    return m.values(lines + ["inb 0x3c8"])


def linear_mode(m, name):
    """640x480 in 8, 16, 24 or 32 bits per pixel."""
    sr7, hdr, pitch = MODES[name]
    vga.set_mode(m, "mode13")
    m.values(unlock() + vga.mode_lines("mode12") + vga.seq(4, 0x0e) + vga.seq(7, sr7) +
             vga.gr(5, 0x40) + vga.gr(6, 0x05) + vga.crtc(0x11, 0x0c) + vga.crtc(0x13, pitch & 0xff) +
             vga.crtc(0x1b, 0x22 | (pitch >> 8 & 1) << 4) + vga.gr(0x0b, 0x28) + vga.gr(0x0e, 0))
    hidden_dac(m, hdr)


@compare()
def test_lock(m, out):
    for v in (0x00, 0x12, 0x13, 0xff, 0x92, 0x00):
        m.values(vga.seq(6, v))
        out("SR6 after %#x" % v, m.inb(0x3c5))
        out("others after %#x" % v, m.values(["outb 0x3c4 7", "inb 0x3c5", "outb 0x3c4 0xf", "inb 0x3c5",
                                              "outb 0x3d4 0x27", "inb 0x3d5"]))


@compare()
def test_extended_registers(m, out):
    m.values(unlock())
    for name, value in vga.registers(m).items():
        out(name + " unlocked", value)
    for name, index, data, indices in (("seq", 0x3c4, 0x3c5, range(5, 0x20)),
                                       ("gr", 0x3ce, 0x3cf, [i for i in range(9, 0x40) if i != 0x31]),
                                       ("crtc", 0x3d4, 0x3d5, range(0x19, 0x40))):
        for i in indices:
            if (name, i) == ("seq", 6):
                continue
            for v in (0xff, 0x00, 0x5a):
                old, new = m.values(["outb %#x %#x" % (index, i), "inb %#x" % data,
                                     "outb %#x %#x" % (data, v), "inb %#x" % data])
                out("%s[%02x] after %02x" % (name, i, v), new)
                m.outb(data, old)


@compare()
def test_hidden_dac(m, out):
    for v in (0x00, 0xc1, 0xc5, 0xff, 0x3f, 0x80):
        out("read before %#x" % v, hidden_dac(m))
        hidden_dac(m, v)
        out("read after %#x" % v, hidden_dac(m))
        out("pel mask %#x" % v, m.inb(0x3c6))
    m.inb(0x3c6)
    m.inb(0x3c6)
    m.inb(0x3c8)
    out("counter cleared by another port", [m.inb(0x3c6) for _ in range(6)])


@compare()
def test_cursor_palette(m, out):
    """SR12 bit 1 opens the DAC's extra colours."""
    m.values(unlock() + vga.seq(0x12, 0x02))
    m.values(["outb 0x3c8 0"] + ["outb 0x3c9 %d" % v for v in (1, 2, 3)] +
             ["outb 0x3c8 15"] + ["outb 0x3c9 %d" % v for v in (4, 5, 6)])
    m.values(["outb 0x3c7 0"])
    out("cursor colours", [m.inb(0x3c9) for _ in range(3)])
    m.values(["outb 0x3c7 15"])
    out("cursor colour 15", [m.inb(0x3c9) for _ in range(3)])
    m.values(vga.seq(0x12, 0) + ["outb 0x3c7 0"])
    out("ordinary colours", [m.inb(0x3c9) for _ in range(3)])
    for lines in (["outb 0x3c4 0x10", "outb 0x3c5 0x12"], ["outb 0x3c4 0x70", "outb 0x3c5 0x34"],
                  ["outb 0x3c4 0xf1", "outb 0x3c5 0x56"], ["outb 0x3c4 0x91", "outb 0x3c5 0x78"]):
        m.values(lines)
        out("cursor position by " + lines[0], m.values(["inb 0x3c4", "inb 0x3c5", "outb 0x3c4 0x10",
                                                       "inb 0x3c5", "outb 0x3c4 0x11", "inb 0x3c5"]))


@compare()
def test_windows(m, out):
    """Banks through GR9/GRA with both granularities, the linear window, byte-packed write modes."""
    placed = pcibus.assign(m)
    lfb, size = pcibus.find(placed, 3, 0)
    out("linear window", size)
    for name in MODES:
        linear_mode(m, name)
        for grb in (0x00, 0x20, 0x01, 0x21):
            m.values(vga.gr(0x0b, grb))
            for bank in (0, 1, 4, 0x10, 0x7f, 0xff):
                m.values(vga.gr(9, bank) + vga.gr(0x0a, bank ^ 8) +
                         ["writel 0xa0100 %#x" % (0x11110000 + bank), "writeb 0xa8101 %#x" % bank])
                out("%s GRB %#x bank %#x" % (name, grb, bank),
                    (m.read(0xa00f8, 16), m.read(0xa80f8, 16)))
        m.values(vga.gr(0x0b, 0) + vga.gr(9, 0) + vga.gr(0x0a, 0))
        m.write(lfb + 0x1000, bytes(range(64)))
        out("%s linear" % name, (m.read(lfb + 0x0ff0, 64), m.readl(0xa1004)))
        out("%s linear end" % name, (m.readl(lfb + 0x3ffffc), m.readl(lfb + 0x400000),
                                     m.readl(lfb + 0x7ffffc), m.readl(lfb + 0x1000000)))


@compare()
def test_write_mode_4_5(m, out):
    """Extended write modes 4 and 5 with 8 and 16 bit colour expansion, through the window."""
    pcibus.assign(m)
    for name in ("8", "16"):
        linear_mode(m, name)
        for grb in (0x02, 0x04, 0x06, 0x14, 0x16):
            for mode in (4, 5):
                m.values(vga.gr(5, 0x40) + vga.gr(0x0b, 0))
                m.cmd("memset 0xa0000 0x200 0x33")
                m.values(vga.gr(0x0b, grb) + vga.gr(0, 0x12) + vga.gr(1, 0x34) + vga.gr(0x10, 0x56) +
                         vga.gr(0x11, 0x78) + vga.seq(2, 0xff) + vga.gr(5, 0x40 | mode) +
                         ["writeb 0xa0004 0xa5", "writew 0xa0008 0x0ff0"])
                m.values(vga.gr(5, 0x40) + vga.gr(0x0b, 0))
                out("%s GRB %#x mode %d" % (name, grb, mode), m.read(0xa0000, 0x180))


class Blit:
    """The blitter by graphics registers or by the memory-mapped ones."""

    def __init__(self, m, mmio=None):
        self.m, self.mmio = m, mmio

    def run(self, width, height, dst_pitch, src_pitch, dst, src, mode=0, rop=0x0d, mask=0, fg=0,
            bg=0, ext=0, key=0, wait=True):
        m = self.m
        if self.mmio is None:
            lines = []
            for index, value in ((0x00, bg), (0x10, bg >> 8), (0x12, bg >> 16), (0x14, bg >> 24),
                                 (0x01, fg), (0x11, fg >> 8), (0x13, fg >> 16), (0x15, fg >> 24),
                                 (0x20, width - 1), (0x21, width - 1 >> 8), (0x22, height - 1),
                                 (0x23, height - 1 >> 8), (0x24, dst_pitch), (0x25, dst_pitch >> 8),
                                 (0x26, src_pitch), (0x27, src_pitch >> 8), (0x28, dst),
                                 (0x29, dst >> 8), (0x2a, dst >> 16), (0x2c, src), (0x2d, src >> 8),
                                 (0x2e, src >> 16), (0x2f, mask), (0x30, mode), (0x32, rop),
                                 (0x33, ext), (0x34, key), (0x35, key >> 8), (0x31, 0x02)):
                lines += vga.gr(index, value & 0xff)
            m.values(lines)
        else:
            data = struct.pack("<IIHHHHIIBBBBII", bg, fg, width - 1, height - 1, dst_pitch, src_pitch,
                               dst, src, mask, 0, 0, 0, 0, 0)[:0x17]
            for i, b in enumerate(data):
                m.writeb(self.mmio + i, b)
            m.writeb(self.mmio + 0x17, mask)
            m.writeb(self.mmio + 0x18, mode)
            m.writeb(self.mmio + 0x1a, rop)
            m.writeb(self.mmio + 0x1b, ext)
            m.writeb(self.mmio + 0x1c, key & 0xff)
            m.writeb(self.mmio + 0x1d, key >> 8)
            m.writeb(self.mmio + 0x40, 0x02)
        if wait:
            m.outb(0x3ce, 0x31)
            return m.inb(0x3cf)
        return None

    def stop(self):
        self.m.values(vga.gr(0x31, 0x04) + vga.gr(0x31, 0x00))


ROPS = (0x00, 0x05, 0x06, 0x09, 0x0b, 0x0d, 0x0e, 0x50, 0x59, 0x6d, 0x95, 0xad, 0xd0, 0xd6)


def fresh(m, name):
    placed = pcibus.assign(m)
    lfb = pcibus.find(placed, 3, 0)[0]
    linear_mode(m, name)
    m.values(vga.gr(0x0b, 0))
    return lfb


def fill(m, lfb, size=0x4000, seed=5):
    rng = random.Random(seed)
    m.write(lfb, bytes(rng.randrange(256) for _ in range(size)))


@compare([("rop (90|da)", None, "90 is NOR and DA is NAND, as the X.Org driver uses them; the peer has them the "
           "other way round")])
def test_blit_copy(m, out):
    """Screen to screen: every ROP, forwards and backwards, overlapping."""
    lfb = fresh(m, "8")
    b = Blit(m)
    for rop in ROPS + (0x90, 0xda, 0x12, 0xff):
        fill(m, lfb)
        out("rop %02x end" % rop, b.run(33, 7, 64, 48, 0x1000, 0x200, rop=rop))
        out("rop %02x" % rop, m.read(lfb + 0xfc0, 0x300))
        b.stop()
    for name, kw in (("backwards", dict(width=40, height=5, dst_pitch=64, src_pitch=64, dst=0x1200,
                                        src=0x11f0, mode=0x01)),
                     ("overlap", dict(width=40, height=5, dst_pitch=64, src_pitch=64, dst=0x1100,
                                      src=0x1108)),
                     ("one byte", dict(width=1, height=1, dst_pitch=8, src_pitch=8, dst=5, src=9)),
                     ("at the end", dict(width=16, height=4, dst_pitch=16, src_pitch=16, dst=0x3fffc0,
                                         src=0x100)),
                     ("backwards through zero", dict(width=64, height=8, dst_pitch=64, src_pitch=64,
                                                     dst=0x10, src=0x800, mode=0x01)),
                     ("far", dict(width=8192, height=2048, dst_pitch=8191, src_pitch=8191, dst=0x3f0000,
                                  src=0x3f8000))):
        fill(m, lfb)
        out(name + " end", b.run(**kw))
        out(name, m.read(lfb, 0x2000))
        out(name + " tail", m.read(lfb + 0x3fff00, 0x100))
        b.stop()


def transparent(m, out):
    lfb = fresh(m, "8")
    b = Blit(m)
    for mode, key in ((0x08, 0x3434), (0x18, 0x3434), (0x09, 0x1212)):
        fill(m, lfb)
        m.cmd("memset %#x 0x40 0x34" % (lfb + 0x210))
        back = mode & 1
        b.run(64, 4, 64, 64, 0x1000 + (255 if back else 0), 0x200 + (255 if back else 0), mode=mode, key=key)
        out("mode %#x" % mode, m.read(lfb + 0xf00, 0x300))
        b.stop()


test_blit_transparent = compare()(transparent)


def pattern_fill(m, out):
    """Pattern, solid and colour-expanded fills in every pixel size. Patterns start at multiples of
    256, because the peer rounds every pattern's address down to the size of a colour pattern."""
    for name, bits in (("8", 0x00), ("16", 0x10), ("24", 0x20), ("32", 0x30)):
        lfb = fresh(m, name)
        b = Blit(m)
        size = {0x00: 1, 0x10: 2, 0x20: 3, 0x30: 4}[bits]
        for rop in (0x0d, 0x59, 0x05, 0x6d):
            for label, kw in (("pattern", dict(mode=0x40 | bits, src=0x800)),
                              ("expand pattern", dict(mode=0xc0 | bits, src=0x900, fg=0x11223344,
                                                      bg=0x55667788)),
                              ("expand transparent", dict(mode=0xc8 | bits, src=0xa00, fg=0xaabbccdd)),
                              ("expand inverted", dict(mode=0xc8 | bits, src=0xa00, fg=0xaabbccdd, ext=2)),
                              ("solid", dict(mode=0xc0 | bits, src=0, fg=0x01020304, ext=4)),
                              ("expand", dict(mode=0x80 | bits, src=0x820, fg=0x13243546, bg=0x57687980)),
                              ("expand skip", dict(mode=0x88 | bits, src=0x820, fg=0x13243546, mask=3))):
                fill(m, lfb)
                b.run(13 * size, 9, 128, 64, 0x1000, rop=rop, **kw)
                out("%s bpp %s rop %02x" % (name, label, rop), m.read(lfb + 0xfc0, 0x540))
                b.stop()


test_blit_patterns = compare()(pattern_fill)


@compare()
def test_blit_from_system(m, out):
    """System to screen: bytes written to the window until the blit is satisfied."""
    for name, bits in (("8", 0x00), ("16", 0x10), ("32", 0x30)):
        lfb = fresh(m, name)
        b = Blit(m)
        for mode, expand in ((0x04, False), (0x84, True), (0x8c, True)):
            fill(m, lfb)
            size = max(1, (bits >> 4) + (bits == 0x00))
            width = 16 * size
            out("%s mode %#x start" % (name, mode),
                b.run(width, 4, 128, 0, 0x1000, 0, mode=mode | bits, fg=0x0badf00d, bg=0x12345678))
            n = (4 * 4 if expand else width * 4)
            m.write(0x10000, bytes((i * 29 + 7) & 0xff for i in range(n)))
            m.cmd("xen movs 4 w 0xa0000 0x10000 %d" % (n // 4))
            m.outb(0x3ce, 0x31)
            out("%s mode %#x state" % (name, mode), m.inb(0x3cf))
            out("%s mode %#x" % (name, mode), m.read(lfb + 0xfc0, 0x300))
            b.stop()


@compare()
def test_blit_mmio(m, out):
    """The same registers by the memory-mapped window at b8000 and by BAR1."""
    placed = pcibus.assign(m)
    lfb = pcibus.find(placed, 3, 0)[0]
    bar1 = pcibus.find(placed, 3, 1)[0]
    linear_mode(m, "8")
    m.values(vga.gr(0x0b, 0))
    for off in list(range(0x100, 0x120)) + [0x140]:
        out("BAR1 %#x at rest" % off, m.readb(bar1 + off))
    for off in range(0, 0x20):
        if off != 0x1a:
            out("BAR1 vga %#x" % off, m.readb(bar1 + off))
    b = Blit(m, bar1 + 0x100)
    fill(m, lfb)
    out("by BAR1", (b.run(32, 4, 64, 64, 0x1000, 0x200), m.read(lfb + 0xff0, 0x140)))
    for off in list(range(0x100, 0x120)) + [0x140]:
        out("BAR1 %#x after" % off, m.readb(bar1 + off))
    m.values(vga.seq(0x17, 0x04))
    b = Blit(m, 0xb8000)
    fill(m, lfb, seed=6)
    out("by b8000", (b.run(32, 4, 64, 64, 0x1000, 0x200), m.read(lfb + 0xff0, 0x140)))
    out("registers by b8000", m.read(0xb8000, 0x20))


def random_blits(seed):
    """Blits of whole pixels between places that do not overlap: there the order of reads and writes
    would show, and both orders are right."""

    def script(m, out):
        rng = random.Random(seed)
        name, bits = rng.choice((("8", 0), ("16", 0x10), ("32", 0x30)))
        pixel = max(1, (bits >> 4) + (bits == 0x10))
        lfb = fresh(m, name)
        b = Blit(m)
        for step in range(120):
            fill(m, lfb, 0x2000, step)
            mode = rng.choice((0, 0, 1, 0x40, 0xc0, 0x80, 0x88, 0xc8, 8)) | bits
            width, height = rng.randrange(1, 60 // pixel) * pixel, rng.randrange(1, 9)
            dst, src = rng.randrange(0x180) * 4, 0x1000 + rng.randrange(0x100) * 8
            if mode & 1:
                dst, src = dst + 0xa00 + 3, src + 0x7fb
            elif mode & 0x40:
                src &= ~0xff
            kw = dict(width=width, height=height, dst_pitch=rng.choice((64, 128, 60 + rng.randrange(40) * 4)),
                      src_pitch=rng.choice((64, 128, 60 + rng.randrange(40) * 4)), dst=dst, src=src,
                      mode=mode, rop=rng.choice(ROPS), mask=rng.choice((0, 0, rng.randrange(8))),
                      fg=rng.randrange(1 << 32), bg=rng.randrange(1 << 32),
                      ext=rng.choice((0, 0, 2, 4)) if mode & 0xc0 == 0xc0 else 0,
                      key=rng.randrange(1 << 16))
            b.run(**kw)
            out("step %d %s" % (step, kw), m.read(lfb, 0x2000))
            b.stop()
    return script


test_random_blits_1 = compare()(random_blits(1))
test_random_blits_2 = compare()(random_blits(2))
test_random_blits_3 = compare()(random_blits(7))
