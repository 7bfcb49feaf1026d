# SPDX-License-Identifier: GPL-2.0-or-later
"""Bochs VBE registers, linear and banked memory and the MMIO BAR of stdvga, against the peer."""
import random
import subprocess

import pcibus
import vga
from harness import compare, only, ours

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


@compare([("capabilities", only((16000, 4096), (12000, 4096)), "largest mode: 4096x4096"),
          ("index port", None, "the second data port at 0x1d0 is the peer's, for other machines")],
         vga="stdvga")
def test_registers(m, out):
    out("reset", every(m))
    for v in (0xb0c0, 0xb0c1, 0xb0c5, 0xb0c6, 0xb0bf, 0x1234):
        wr(m, ID, v)
        out("id %#x" % v, rd(m, ID))
    for index, values in ((XRES, (640, 1024, 8)), (YRES, (480, 1, 768)), (BPP, (32, 8, 16, 24, 15, 4)),
                          (BANK, (1, 63, 0)), (VIRT_W, (1024, 640)), (X_OFF, (8, 0)), (Y_OFF, (5, 0)),
                          (MEMORY, (1, 0)), (11, (0xffff,))):
        for v in values:
            wr(m, index, v)
            out("index %d value %#x" % (index, v), every(m))
    wr(m, ENABLE, 2)
    out("capabilities", every(m))
    wr(m, ENABLE, 0)
    out("index port", (m.inw(0x1ce), m.inb(0x1ce), m.inb(0x1cf), m.inw(0x1d0), m.inl(0x1ce)))


@compare(vga="stdvga")
def test_modes(m, out):
    for x, y, bpp in ((640, 480, 32), (800, 600, 16), (1024, 768, 24), (1280, 1024, 8), (320, 200, 15),
                      (640, 480, 4), (1600, 1200, 32), (1920, 1080, 16)):
        for enable in (0x41, 0x01, 0xc1, 0x61):
            set_mode(m, x, y, bpp, enable)
            out("%dx%dx%d enable %#x" % (x, y, bpp, enable), every(m))
        wr(m, VIRT_W, x * 2)
        out("%dx%dx%d virtual width" % (x, y, bpp), every(m))
        wr(m, X_OFF, 16)
        wr(m, Y_OFF, 10)
        out("%dx%dx%d offset" % (x, y, bpp), every(m))
        wr(m, VIRT_H, 4000)
        wr(m, BANK, 3)
        out("%dx%dx%d bank" % (x, y, bpp), every(m))
        wr(m, XRES, 104)
        wr(m, BPP, 8)
        out("%dx%dx%d change while on" % (x, y, bpp), every(m))
        wr(m, X_OFF, 0)
        wr(m, Y_OFF, 0)
    wr(m, ENABLE, 0)
    out("off", every(m))


def test_wild_values(t):
    """Any 16-bit value in any register: the mode that results fits the memory. (Not compared: the peer
    allows 16000x12000 and moves the picture where nothing is.)"""
    rng = random.Random(4)
    with t.machine(vga="stdvga") as m:
        for step in range(1500):
            wr(m, rng.randrange(1, 10), rng.choice((0, 1, 7, 8, 15, 32, 0x41, 0xc1, 100, 641, 2048, 4096,
                                                    0x8000, 0xffff, rng.randrange(1 << 16))))
            v = every(m)
            if v[ENABLE] & 3 != 1:  # off, or the capabilities are read
                continue
            size = (v[Y_OFF] + v[YRES] - 1) * v[VIRT_W] + v[X_OFF] + v[XRES]
            t.check(v[XRES] and v[YRES] and v[VIRT_W] >= v[XRES], "step %d: %r" % (step, v))
            t.check(size * (v[BPP] + 1 & ~7) // 8 <= 16 << 20 or v[BPP] == 4, "step %d: %r" % (step, v))
        t.equal(m.dm_status(), "running")


@compare([(".* port 0x3c6", only((0x00, 0xff)), "pixel mask")], vga="stdvga")
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


@compare([("decode off", ours(0xffffffff), "the peer leaves the memory where it was"),
          ("moved", only((0x7065656b, 0xffffffff)), "the same: nothing stays at the old place"),
          ("where Xen has it", None, "the same, seen from Xen")], vga="stdvga")
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


@compare([("edid.*", None, "EDID is offered; the peer's xenfv machine turns it off"),
          ("vga port 0x406", ours(0xff), "pixel mask"),
          ("byte order 0xbebebebe", ours(0x1e1e1e1e), "little endian only")], vga="stdvga")
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


def test_edid(t):
    """The monitor's description conforms to VESA's standard, says edid-decode."""
    with t.machine(vga="stdvga") as m:
        edid = m.read(pcibus.find(pcibus.assign(m), 3, 2)[0], 128)
    said = subprocess.run(["edid-decode", "-c"], input=edid, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    t.equal((said.returncode, said.stdout.decode().splitlines()[-1:]), (0, ["EDID conformity: PASS"]), said.stdout.decode())


def random_registers(seed):
    def script(m, out):
        rng = random.Random(seed)
        for step in range(300):
            index = rng.randrange(1, 10)
            value = rng.choice({XRES: (320, 640, 800, 1024), YRES: (200, 480, 600, 768),
                                BPP: (8, 15, 16, 24, 32), ENABLE: (0, 0x41, 0xc1, 1, 0x61),
                                VIRT_W: (1024, 1280, 2048), VIRT_H: (768, 1024), BANK: (0, 1, 7, 63),
                                X_OFF: (0, 8, 16), Y_OFF: (0, 1, 20)}[index])
            wr(m, index, value)
            out("step %d index %d value %#x" % (step, index, value), every(m))
    return script


test_random_1 = compare(vga="stdvga")(random_registers(1))
test_random_2 = compare(vga="stdvga")(random_registers(2))
