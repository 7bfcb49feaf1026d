# SPDX-License-Identifier: GPL-2.0-or-later
"""VGA registers and memory, on both adapters, against the peer. Bits 0 and 3 of 0x3da follow time
in ours and reads in the peer, so they are masked."""
import random

import pcibus
import vga
from harness import compare, only, ours

WINDOW = 0xa0000


def status1(m, port=0x3da):
    return m.inb(port) & ~0x09


def masks(m, out):
    """Every index of every register file after ones, zeros and a pattern."""
    for name, value in vga.registers(m).items():
        out(name + " at reset", value)
    m.values(vga.mode_lines("text") + vga.crtc(0x11, 0))
    for name, index, data, n in (("seq", 0x3c4, 0x3c5, 5), ("gr", 0x3ce, 0x3cf, 9),
                                 ("crtc", 0x3d4, 0x3d5, 0x19)):
        for i in range(n):
            if (name, i) == ("seq", 0):
                continue
            for v in (0xff, 0x00, 0xa5):
                lines = ["outb %#x %#x" % (index, i), "inb %#x" % data,
                         "outb %#x %#x" % (data, v if (name, i) != ("crtc", 0x11) else v & 0x7f),
                         "inb %#x" % data]
                old, new = m.values(lines)
                out("%s[%02x] after %02x" % (name, i, v), new)
                m.outb(data, old)
        for v in (0xff, 0x45, 0x00):
            m.outb(index, v)
            out("%s index after %02x" % (name, v), m.inb(index))
    for i in range(0x15):
        for v in (0xff, 0x00, 0x2a):
            values = m.values(vga.attr(i, v) + ["inb 0x3da", "outb 0x3c0 %#x" % i, "inb 0x3c1"])
            out("attr[%02x] after %02x" % (i, v), values[-1])
    for v in (0xff, 0x00, 0x67):
        m.outb(0x3c2, v)
        out("misc after %02x" % v, m.inb(0x3cc))
        out("colour ports %02x" % v, (m.inb(0x3d4), m.inb(0x3d5)))
        out("mono ports %02x" % v, (m.inb(0x3b4), m.inb(0x3b5), m.inb(0x3ba) & ~9))
    for v in (0xff, 0x00):
        m.outb(0x3da, v)
        out("feature control %02x" % v, m.inb(0x3ca))
    out("status", (m.inb(0x3c2), status1(m)))


# The peer's stdvga has no pixel mask, its cirrus has one that a masked write cannot set.
PEL_MASK = ("port 0x3c6 .*", only((0x00, 0xff)), "pixel mask: ones after reset")
BEHAVIOUR = [("pel mask", ours(0x0f), "the pixel mask holds what was written"),
             ("wide reads", None, "a dword is four bytes; the peer refuses it or has no pixel mask")]

test_registers_cirrus = compare()(masks)
test_registers_stdvga = compare([PEL_MASK], vga="stdvga")(masks)


def behaviour(m, out):
    m.values(vga.mode_lines("text"))
    for i in range(0x19):
        m.values(vga.crtc(i, 0xff if i == 7 else 0x11))
        out("protected crtc %02x" % i, m.inb(0x3d5))
    m.values(vga.crtc(0x11, 0x0e))
    m.values(vga.crtc(0, 0x77))
    out("unprotected", m.inb(0x3d5))
    m.inb(0x3da)
    m.outb(0x3c0, 0x05)
    out("flip-flop index", (m.inb(0x3c0), m.inb(0x3c1)))
    m.outb(0x3c0, 0x3c)
    out("flip-flop data", (m.inb(0x3c0), m.inb(0x3c1)))
    m.outb(0x3c0, 0x25)
    m.outb(0x3c0, 0x01)
    m.inb(0x3da)
    m.outb(0x3c0, 0x05)
    out("palette closed with bit 5", m.inb(0x3c1))
    for name, lines in (("write", ["outb 0x3c8 5"] + ["outb 0x3c9 %d" % v for v in range(7)]),
                        ("read", ["outb 0x3c7 5"])):
        m.values(lines)
        out("dac state after " + name, (m.inb(0x3c7), m.inb(0x3c8)))
        out("dac data after " + name, [m.inb(0x3c9) for _ in range(7)])
        out("dac state later " + name, (m.inb(0x3c7), m.inb(0x3c8)))
    m.values(["outb 0x3c8 255", "outb 0x3c9 0xff", "outb 0x3c9 0xfe", "outb 0x3c9 0x40",
              "outb 0x3c9 0x01"])
    out("dac wraps", (m.inb(0x3c8), m.inb(0x3c7)))
    m.outb(0x3c7, 255)
    out("dac 8 bit values", [m.inb(0x3c9) for _ in range(6)])
    m.outb(0x3c6, 0x0f)
    out("pel mask", m.inb(0x3c6))
    for port in (0x3c4, 0x3ce, 0x3d4):
        m.outw(port, 0x5502)
        out("word write %#x" % port, (m.inw(port), m.inb(port), m.inb(port + 1)))
    out("wide reads", (m.inw(0x3cc), m.inw(0x3c2), m.inl(0x3c4)))


test_behaviour_cirrus = compare(BEHAVIOUR)(behaviour)
test_behaviour_stdvga = compare(BEHAVIOUR, vga="stdvga")(behaviour)


def planes(m, out, label, size=0x100, base=WINDOW):
    """What each plane holds, by read mode 0."""
    m.values(vga.gr(5, 0) + vga.gr(6, 0x05) + vga.seq(4, 0x06))
    for p in range(4):
        m.values(vga.gr(4, p))
        out("%s plane %d" % (label, p), m.read(base, size))


def write_modes(m, out):
    """All write modes, rotates, functions, set/reset, masks and the latches in mode 12h."""
    vga.set_mode(m, "mode12")
    m.cmd("memset %#x 0x400 0" % WINDOW)
    for i in range(0x40):
        m.values(vga.seq(2, 1 << (i & 3)) + ["writeb %#x %#x" % (WINDOW + i, i * 37 & 0xff)])
    m.values(vga.seq(2, 0x0f))
    rng = random.Random(1)
    for step in range(160):
        lines = []
        lines += vga.gr(5, step & 3 | (8 if step & 0x10 else 0))
        lines += vga.gr(3, rng.randrange(32)) + vga.gr(0, rng.randrange(16))
        lines += vga.gr(1, rng.choice((0, 0x0f, rng.randrange(16)))) + vga.gr(2, rng.randrange(16))
        lines += vga.gr(7, rng.randrange(16)) + vga.gr(8, rng.choice((0xff, rng.randrange(256))))
        lines += vga.gr(4, rng.randrange(4)) + vga.seq(2, rng.choice((15, rng.randrange(16))))
        lines += ["readb %#x" % (WINDOW + rng.randrange(0x80)),
                  "writeb %#x %#x" % (WINDOW + rng.randrange(0x80), rng.randrange(256)),
                  "writew %#x %#x" % (WINDOW + rng.randrange(0x80), rng.randrange(1 << 16)),
                  "readl %#x" % (WINDOW + rng.randrange(0x80)),
                  "writel %#x %#x" % (WINDOW + rng.randrange(0x80), rng.randrange(1 << 32)),
                  "readw %#x" % (WINDOW + rng.randrange(0x80))]
        out("step %d" % step, m.values(lines))
        if step % 20 == 19:
            planes(m, out, "after %d" % step)


test_write_modes_cirrus = compare()(write_modes)
test_write_modes_stdvga = compare(vga="stdvga")(write_modes)


def memory_maps(m, out):
    """Odd/even, chain 4 and the four places of the window, by every width."""
    for mode in ("text", "mode13", "mode12", "mode04", "mode0d"):
        vga.set_mode(m, mode)
        for where in range(4):
            m.values(vga.gr(6, (0x0e & ~0x0c if mode in ("text", "mode04") else 0x01) | where << 2))
            for base in (0xa0000, 0xa8000, 0xb0000, 0xb8000):
                seed = where * 64 + base // 0x8000
                m.values(["writel %#x %#x" % (base + 0x100, 0x01020304 * (seed & 0x3f) & 0xffffffff),
                          "writeb %#x %#x" % (base + 0x107, seed & 0xff),
                          "writew %#x %#x" % (base + 0x10b, seed * 3),
                          "writeq %#x %#x" % (base + 0x110, 0x1122334455667788 + seed)])
                out("%s map %d at %#x" % (mode, where, base), m.read(base + 0xf8, 0x28))
        planes(m, out, mode, 0x800)


test_memory_maps_cirrus = compare()(memory_maps)
test_memory_maps_stdvga = compare(vga="stdvga")(memory_maps)


def string_access(m, out):
    """REP MOVS and STOS into and out of the window, forwards and backwards."""
    vga.set_mode(m, "mode13")
    m.write(0x10000, bytes(i * 7 & 0xff for i in range(0x2000)))
    for size in (1, 2, 4):
        for df, at in (("", 0xa0100), ("df", 0xa0100 + 63 * size)):
            gpa = 0x10000 if not df else 0x10000 + 63 * size
            m.cmd("xen movs %d w %#x %#x 64 %s" % (size, at, gpa, df))
            out("movs %d %s in" % (size, df), m.read(0xa00f0, 0x130))
            back = 0x20000 if not df else 0x20000 + 63 * size
            m.cmd("memset 0x20000 0x200 0")
            m.cmd("xen movs %d r %#x %#x 64 %s" % (size, at, back, df))
            out("movs %d %s out" % (size, df), m.read(0x20000, 0x110))
            m.cmd("xen stos %d %#x 0x5a6b7c8d 40 %s" % (size, at, df))
            out("stos %d %s" % (size, df), m.read(0xa00f0, 0x130))
    m.cmd("xen movs 1 w 0xa0f00 0x10f80 4096")
    out("across pages", m.read(0xa0e00, 0x1300))
    vga.set_mode(m, "mode12")
    m.values(vga.seq(2, 0x05))
    m.cmd("xen movs 2 w 0xa0000 0x10000 100")
    m.cmd("xen stos 1 0xa00d0 0x3c 100")
    planes(m, out, "planar")


test_string_access_cirrus = compare()(string_access)
test_string_access_stdvga = compare(vga="stdvga")(string_access)


def random_access(seed):
    """Random register writes of everything the standard has, and memory accesses between them."""

    def script(m, out):
        rng = random.Random(seed)
        vga.set_mode(m, rng.choice(list(vga.MODES)))
        for step in range(300):
            lines = []
            for _ in range(rng.randrange(1, 6)):
                kind = rng.randrange(8)
                v = rng.randrange(256)
                if kind < 3:
                    lines += vga.gr(rng.randrange(9), v)
                elif kind < 5:
                    lines += vga.seq(rng.choice((1, 2, 4)), v & (0xdf if kind == 3 else 0x0f))
                elif kind == 5:
                    lines += vga.attr(rng.randrange(0x15), v)
                elif kind == 6:
                    lines += vga.crtc(rng.randrange(0x19), v & 0x7f)
                else:
                    lines += ["outb 0x3c2 %#x" % (v | 3)]  # the peer ignores "memory off"
            for _ in range(rng.randrange(1, 6)):
                at = rng.choice((0xa0000, 0xb0000, 0xb8000, 0xaff00)) + rng.randrange(0x100)
                size = rng.randrange(4)
                if rng.randrange(2):
                    lines += ["read%s %#x" % ("bwlq"[size], at)]
                else:
                    lines += ["write%s %#x %#x" % ("bwlq"[size], at,
                                                   rng.randrange(1 << (8 << size)))]
            values = m.values(lines)
            out("step %d: %s" % (step, "; ".join(x for x in lines if x != "inb 0x3da")),
                [v for line, v in zip([x for x in lines if x[:2] == "in" or x[:4] == "read"],
                                      values) if line != "inb 0x3da"])
    return script


test_random_cirrus_1 = compare()(random_access(1))
test_random_cirrus_2 = compare()(random_access(2))
test_random_stdvga_1 = compare(vga="stdvga")(random_access(1))
test_random_stdvga_2 = compare(vga="stdvga")(random_access(3))


def rom(m, out):
    """The ROM BAR, as SeaBIOS finds and copies it."""
    placed = pcibus.assign(m)
    address, size = pcibus.find(placed, 3, 6)
    m.pci_write(3, 0, 0x30, address | 1)
    out("config", m.pci_read(3, 0, 0x30))
    data = b"".join(m.read(address + i, 0x1000) for i in range(0, size, 0x1000))
    out("signature", data[:2])
    length = data[2] * 512
    out("length", length)
    out("checksum", sum(data[:length]) & 0xff)
    for i in range(0, size, 0x1000):
        out("rom %#x" % i, data[i:i + 0x1000])
    m.cmd("xen movs 4 r %#x 0x40000 512" % address)
    out("copied by REP MOVSL", m.read(0x40000, 2048))
    m.writel(address, 0)
    out("read only", m.readl(address))
    m.pci_write(3, 0, 0x30, address)
    out("disabled", m.readl(address))


test_rom_cirrus = compare()(rom)
test_rom_stdvga = compare(vga="stdvga")(rom)
