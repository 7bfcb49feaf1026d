# SPDX-License-Identifier: GPL-2.0-or-later
"""Bochs VBE registers, linear and banked memory and the MMIO BAR of stdvga, against the peer."""
import random

import pcibus
import vga
from harness import compare

ID, XRES, YRES, BPP, ENABLE, BANK, VIRT_W, VIRT_H, X_OFF, Y_OFF, MEMORY = range(11)


def wr(m, index, value):
    m.outw(0x1ce, index)
    m.outw(0x1cf, value)


def rd(m, index):
    m.outw(0x1ce, index)
    return m.inw(0x1cf)


def every(m):
    return [rd(m, i) for i in range(16)]


def set_mode(m, x, y, bpp, enable=0x41):
    wr(m, ENABLE, 0)
    wr(m, XRES, x)
    wr(m, YRES, y)
    wr(m, BPP, bpp)
    wr(m, ENABLE, enable)


@compare(vga="stdvga")
def test_registers(m, out):
    out("reset", every(m))
    for v in (0xb0c0, 0xb0c1, 0xb0c5, 0xb0c6, 0xb0bf, 0x1234):
        wr(m, ID, v)
        out("id %#x" % v, rd(m, ID))
    for index in range(1, 12):
        for v in (0xffff, 0x0000, 0x0155, 0x0021):
            wr(m, index, v)
            out("index %d value %#x" % (index, v), every(m))
        wr(m, ENABLE, 0)
    wr(m, ENABLE, 2)
    out("capabilities", every(m))
    wr(m, ENABLE, 0)
    out("index port", (m.inw(0x1ce), m.inb(0x1ce), m.inb(0x1cf), m.inw(0x1d0), m.inl(0x1ce)))


@compare(vga="stdvga")
def test_modes(m, out):
    for x, y, bpp in ((640, 480, 32), (800, 600, 16), (1024, 768, 24), (1280, 1024, 8), (320, 200, 15),
                      (640, 480, 4), (1600, 1200, 32), (2048, 2048, 32), (8192, 1000, 8),
                      (16000, 12000, 8), (641, 333, 32), (639, 333, 24), (1, 1, 8), (0, 0, 32),
                      (800, 600, 7), (2560, 1600, 32)):
        for enable in (0x41, 0x01, 0xc1, 0x61):
            set_mode(m, x, y, bpp, enable)
            out("%dx%dx%d enable %#x" % (x, y, bpp, enable), every(m))
        wr(m, VIRT_W, x * 2)
        out("%dx%dx%d virtual width" % (x, y, bpp), every(m))
        wr(m, X_OFF, 16)
        wr(m, Y_OFF, 10)
        out("%dx%dx%d offset" % (x, y, bpp), every(m))
        wr(m, Y_OFF, 0xffff)
        wr(m, X_OFF, 0xffff)
        out("%dx%dx%d far offset" % (x, y, bpp), every(m))
        wr(m, VIRT_H, 4000)
        wr(m, BANK, 3)
        out("%dx%dx%d bank" % (x, y, bpp), every(m))
        wr(m, XRES, 100)
        wr(m, BPP, 8)
        out("%dx%dx%d change while on" % (x, y, bpp), every(m))
    wr(m, ENABLE, 0)
    out("off", every(m))


@compare(vga="stdvga")
def test_vga_side(m, out):
    """What enabling VBE does to the VGA registers."""
    vga.set_mode(m, "text")
    set_mode(m, 800, 600, 32)
    for name, v in vga.registers(m).items():
        out("32 bpp " + name, v)
    set_mode(m, 640, 480, 4)
    for name, v in vga.registers(m).items():
        out("4 bpp " + name, v)
    wr(m, ENABLE, 0)
    for name, v in vga.registers(m).items():
        out("off " + name, v)


@compare(vga="stdvga")
def test_memory(m, out):
    placed = pcibus.assign(m)
    lfb, size = pcibus.find(placed, 3, 0)
    out("size", size)
    vga.set_mode(m, "text")
    set_mode(m, 800, 600, 32)
    m.write(lfb, bytes(range(256)) * 16)
    m.writel(lfb + 0x12345, 0xdeadbeef)
    m.writeq(lfb + size - 8, 0x1122334455667788)
    out("linear", (m.read(lfb + 0x100, 64), m.readl(lfb + 0x12345), m.readq(lfb + size - 8)))
    for bank in (0, 1, 5, 0xff, 0x100):
        wr(m, BANK, bank)
        m.writel(0xa0010, 0x0badcafe + bank)
        out("bank %#x" % bank, (m.read(0xa0000, 64), m.readl(0xaffff), rd(m, BANK)))
    for bank in (0, 1, 5, 0xff):
        out("linear of bank %#x" % bank, m.readl(lfb + (bank << 16) + 0x10))
    set_mode(m, 800, 600, 32, 0x41)
    out("cleared", (m.read(lfb, 64), m.readl(lfb + 0x12345), m.readl(lfb + 800 * 600 * 4 - 4),
                    m.readq(lfb + size - 8)))
    m.write(lfb, b"keep this")
    set_mode(m, 1024, 768, 16, 0xc1)
    out("not cleared", m.read(lfb, 16))
    m.pci_write(3, 0, 4, 1, 2)
    out("decode off", m.readl(lfb))
    m.pci_write(3, 0, 4, 7, 2)
    out("decode on", m.read(lfb, 16))
    m.pci_write(3, 0, 0x10, 0xe8000000)
    out("moved", (m.read(0xe8000000, 16), m.readl(lfb)))
    out("where Xen has it", (m.cmd("xen mem 0xe8000").split()[0] != "frame=-1",
                             m.cmd("xen mem %#x" % (lfb >> 12))))
    wr(m, ENABLE, 0)
    out("from the VGA side", m.read(0xa0000, 32))


@compare(vga="stdvga")
def test_mmio_bar(m, out):
    placed = pcibus.assign(m)
    base, size = pcibus.find(placed, 3, 2)
    out("size", size)
    out("edid header", m.read(base, 8))
    edid = m.read(base, 128)
    out("edid checksum", sum(edid) & 0xff)
    out("edid version", edid[18:20])
    for off in range(0x400, 0x420):
        if off not in (0x41a,):
            out("vga port %#x" % off, m.readb(base + off))
    for off in range(0x500, 0x516, 2):
        out("dispi %#x" % off, m.readw(base + off))
    m.writew(base + 0x502, 1024)
    m.writew(base + 0x504, 768)
    m.writew(base + 0x506, 32)
    m.writew(base + 0x508, 0x41)
    out("mode by mmio", (every(m), [m.readw(base + o) for o in range(0x500, 0x516, 2)]))
    m.writeb(base + 0x400 + 0x3c4 - 0x3c0, 2)
    m.writeb(base + 0x400 + 0x3c5 - 0x3c0, 0x0a)
    m.outb(0x3c4, 2)
    out("sequencer by mmio", (m.inb(0x3c5), m.readb(base + 0x405), m.readw(base + 0x404)))
    for off in (0x600, 0x604):
        out("extension %#x" % off, m.readl(base + off))
    for v in (0xbebebebe, 0x1e1e1e1e, 0x12345678):
        m.writel(base + 0x604, v)
        out("byte order %#x" % v, m.readl(base + 0x604))
    for off in (0x180, 0x200, 0x3fc, 0x420, 0x480, 0x516, 0x520, 0x5fc, 0x608, 0x700, 0xffc):
        out("hole %#x" % off, (m.readb(base + off), m.readw(base + off), m.readl(base + off)))


def random_registers(seed):
    def script(m, out):
        rng = random.Random(seed)
        for step in range(300):
            index = rng.randrange(1, 10)
            value = rng.choice((0, 1, 8, 16, 32, 0x41, 320, 800, 1024, rng.randrange(1 << 16)))
            wr(m, index, value)
            out("step %d index %d value %#x" % (step, index, value), every(m))
    return script


test_random_1 = compare(vga="stdvga")(random_registers(1))
test_random_2 = compare(vga="stdvga")(random_registers(2))
