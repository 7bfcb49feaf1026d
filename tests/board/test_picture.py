# SPDX-License-Identifier: GPL-2.0-or-later
"""What a VNC client sees in each kind of mode, pixel for pixel against the peer."""
import os
import random
import socket
import sys
import time

import pcibus
import vga
from harness import compare
from test_vbe import BPP, ENABLE, VIRT_W, X_OFF, XRES, Y_OFF, YRES, wr

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "box"))
from vncshot import Rfb, vga_font  # noqa: E402

ROM = "/usr/share/seabios/vgabios-stdvga.bin"


def free_display():
    """A VNC display number whose port nobody has."""
    for n in range(40, 99):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", 5900 + n))
                return n
            except OSError:
                pass
    raise OSError("no free port for VNC")


DISPLAY = free_display()
VNC = "127.0.0.1:%d" % DISPLAY


HIGH_BITS = bytes(b & 0xf8 for b in range(256))


class Screen:
    def __init__(self, out):
        self.out = out
        for _ in range(100):  # the peer says "running" before it listens
            try:
                self.rfb = Rfb(port=5900 + DISPLAY)
                break
            except ConnectionRefusedError:
                time.sleep(0.05)

    def picture(self, label):
        """Notes size and pixels once the picture does not change any more."""
        last = None
        for _ in range(40):
            time.sleep(0.06)
            self.rfb.snapshot()
            now = (self.rfb.width, self.rfb.height, bytes(self.rfb.pixels))
            if now == last:
                break
            last = now
        self.out(label + " size", last[:2])
        # How 5 and 6 bits become 8 is everybody's own choice: ours repeats the high bits.
        pixels = bytearray(last[2].translate(HIGH_BITS))
        pixels[3::4] = bytes(len(pixels) // 4)
        self.out(label + " pixels", bytes(pixels))


def memory(m, base, size, seed, values=None):
    """Random bytes (or random ones of values) into the window."""
    rng = random.Random(seed)
    m.write(base, bytes(rng.randrange(256) if values is None else rng.choice(values) for _ in range(size)))


def load_font(m):
    with open(ROM, "rb") as f:
        font = vga_font(f.read())
    m.values(vga.seq(2, 4) + vga.seq(4, 7) + vga.gr(5, 0) + vga.gr(6, 4))
    m.write(0xa0000, b"".join(font[i:i + 16] + bytes(16) for i in range(0, 4096, 16)))
    m.write(0xa4000, b"".join(font[i:i + 16][::-1] + bytes(16) for i in range(0, 4096, 16)))
    m.values(vga.seq(2, 3) + vga.seq(4, 2) + vga.gr(5, 0x10) + vga.gr(6, 0x0e))


def text(m, out):
    s = Screen(out)
    vga.set_mode(m, "text")
    vga.default_palette(m)
    load_font(m)
    m.values(vga.crtc(0x0a, 0x20))
    # The peer repeats the eighth dot of 0xb0-0xbf too, which the VGA does not, and does not see that bit 2 of AR10 changed.
    cells = [b for c in range(256) for b in (c if c & 0xf0 != 0xb0 else 0x41, c * 7 & 0xff)]
    m.write(0xb8000, bytes(cells * 8)[:4000])
    m.values(vga.attr(0x10, 0x04) + ["inb 0x3da", "outb 0x3c0 0x20"])
    s.picture("80 columns, 16 backgrounds")
    m.values(vga.seq(1, 1))
    s.picture("8 dots")
    m.values(vga.seq(3, 0x04))
    s.picture("two fonts")
    m.values(vga.seq(3, 0) + vga.crtc(0x0c, 1) + vga.crtc(0x0d, 0x40))
    s.picture("scrolled")
    m.values(vga.crtc(9, 0x47))
    s.picture("8 lines a cell")


test_text_cirrus = compare(vnc=VNC)(text)
test_text_stdvga = compare(vga="stdvga", vnc=VNC)(text)


def graphics(m, out):
    s = Screen(out)
    for mode, base, size in (("mode12", 0xa0000, 38400), ("mode0d", 0xa0000, 8000), ("mode13", 0xa0000, 64000),
                             ("mode04", 0xb8000, 16384)):
        vga.set_mode(m, mode)
        vga.default_palette(m)
        if mode in ("mode12", "mode0d"):
            for plane in range(4):
                m.values(vga.seq(2, 1 << plane))
                memory(m, base, size, plane)
            m.values(vga.seq(2, 15))
        else:
            memory(m, base, size, 9)
        s.picture(mode)
        m.values(vga.crtc(0x0d, 0x50))
        s.picture(mode + " start address")
        # In CGA's banks not so much that a row runs over a bank's end: the peer goes on in the other bank there.
        m.values(vga.crtc(0x0d, 0) + vga.crtc(0x13, 0x12 if mode == "mode04" else 0x30))
        s.picture(mode + " offset")
        planes = 0x0f if mode == "mode04" else 0x05  # the peer masks memory planes there, not pixel bits
        m.values(vga.attr(0x12, planes) + vga.attr(0x14, 0x0d) + vga.attr(0x10, 0xc1 if mode == "mode13" else 0x81) +
                 ["inb 0x3da", "outb 0x3c0 0x20"])
        s.picture(mode + " planes and colour select")
        if mode == "mode12":
            m.values(vga.crtc(0x18, 100) + vga.crtc(7, 0x2e) + vga.crtc(9, 0))
            s.picture(mode + " split")


test_graphics_cirrus = compare(vnc=VNC)(graphics)
test_graphics_stdvga = compare(vga="stdvga", vnc=VNC)(graphics)


@compare(vga="stdvga", vnc=VNC)
def test_vbe(m, out):
    lfb = pcibus.find(pcibus.assign(m), 3, 0)[0]
    s = Screen(out)
    vga.set_mode(m, "mode13")
    vga.default_palette(m)
    for x, y, bpp in ((640, 480, 8), (800, 600, 16), (640, 480, 15), (320, 200, 24), (1024, 768, 32)):
        wr(m, ENABLE, 0)
        wr(m, XRES, x)
        wr(m, YRES, y)
        wr(m, BPP, bpp)
        wr(m, ENABLE, 0x41)
        block = random.Random(bpp).randbytes(65536)
        for at in range(0, x * y * (bpp + 1) // 8 + 65536, 65536):
            m.write(lfb + at, block)
        s.picture("%dx%dx%d" % (x, y, bpp))
        wr(m, VIRT_W, x + 64)
        wr(m, X_OFF, 24)
        wr(m, Y_OFF, 7)
        s.picture("%dx%dx%d panned" % (x, y, bpp))
    vga.set_mode(m, "mode12")
    wr(m, ENABLE, 0)
    wr(m, BPP, 4)
    wr(m, XRES, 800)
    wr(m, YRES, 600)
    wr(m, ENABLE, 0x41)
    block = random.Random(4).randbytes(65536)
    for at in range(0, 5 * 65536, 65536):
        m.write(lfb + at, block)
    s.picture("800x600x4")


@compare(vnc=VNC)
def test_cirrus(m, out):
    from test_cirrus import linear_mode
    lfb = pcibus.find(pcibus.assign(m), 3, 0)[0]
    s = Screen(out)
    for name in ("8", "16", "24", "32"):
        linear_mode(m, name)
        vga.default_palette(m)
        m.values(vga.gr(0x0b, 0))
        block = random.Random(name).randbytes(65536)
        for at in range(0, 640 * 480 * int(name) // 8 + 65536, 65536):
            m.write(lfb + at, block)
        s.picture(name + " bits")
        m.write(lfb + 0x3fc000, random.Random(1).randbytes(16384))
        m.values(vga.seq(0x12, 0x02) + ["outb 0x3c8 0"] + ["outb 0x3c9 %d" % v for v in (63, 20, 1)] +
                 ["outb 0x3c8 15"] + ["outb 0x3c9 %d" % v for v in (4, 50, 60)] +
                 vga.seq(0x13, 8) + vga.seq(0x12, 0x05) + vga.seq(0x50, 20) + vga.seq(0x71, 30))
        s.picture(name + " bits, cursor 64x64")
        m.values(vga.seq(0x12, 0x01) + vga.seq(0x10, 78) + vga.seq(0x11, 59))
        s.picture(name + " bits, cursor 32x32 in the corner")
        m.values(vga.seq(0x12, 0) + vga.crtc(0x0c, 0x12) + vga.crtc(0x1b, 0x23 | (0x10 if name == "32" else 0)))
        s.picture(name + " bits, start address")
        m.values(vga.crtc(0x0c, 0))
