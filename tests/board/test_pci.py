# SPDX-License-Identifier: GPL-2.0-or-later
"""PCI configuration space against the peer."""
import pcibus
from harness import compare


def dump(m, out, dev, fn, when):
    for reg in range(0, 256, 4):
        out("%02x.%x[%02x] %s" % (dev, fn, reg, when), m.pci_read(dev, fn, reg))


def probe_masks(m, out, dev, fn):
    """Writes ones and zeros to every dword, with decoding off; the command register comes last."""
    command = m.pci_read(dev, fn, 4, 2)
    m.pci_write(dev, fn, 4, 0, 2)
    for reg in [r for r in range(0, 256, 4) if r != 4]:
        old = m.pci_read(dev, fn, reg)
        for name, value in (("ones", 0xffffffff), ("zeros", 0)):
            m.pci_write(dev, fn, reg, value)
            out("%02x.%x[%02x] after %s" % (dev, fn, reg, name), m.pci_read(dev, fn, reg))
        m.pci_write(dev, fn, reg, old)
        out("%02x.%x[%02x] restored" % (dev, fn, reg), m.pci_read(dev, fn, reg))
    for name, value in (("ones", 0xffffffff), ("zeros", 0), ("io", 1), ("mem", 2), ("master", 4)):
        m.pci_write(dev, fn, 4, value)
        out("%02x.%x[04] after %s" % (dev, fn, name), m.pci_read(dev, fn, 4))
    m.pci_write(dev, fn, 4, command, 2)


def config_space(m, out):
    found = pcibus.functions(m)
    out("functions", found)
    for dev, fn in found:
        dump(m, out, dev, fn, "at reset")
    for dev, fn in found:
        probe_masks(m, out, dev, fn)
    for dev, fn in found:
        for reg in range(0, 0x44):
            out("%02x.%x byte[%02x]" % (dev, fn, reg), m.pci_read(dev, fn, reg, 1))


@compare(iso=True)
def test_config_cirrus(m, out):
    config_space(m, out)


@compare(iso=True, vga="stdvga")
def test_config_stdvga(m, out):
    config_space(m, out)


@compare(vga="stdvga", platform=False)
def test_config_no_platform(m, out):
    config_space(m, out)


@compare([(r"..\..\[fc\+[123]\] in[wl]", lambda a, b: b & ~a in (0xff00, 0xff000000, 0xffff0000, 0xffffff00) and b & a == a,
           "past the end of the space nobody answers: ones")])
def test_widths(m, out):
    """Bytes, words and accesses that cross the dword or the end of the space."""
    for dev, fn in ((0, 0), (1, 0), (1, 1), (3, 0)):
        for reg in (0x00, 0x08, 0x10, 0x2c, 0x3c, 0xfc):
            m.outl(0xcf8, 0x80000000 | dev << 11 | fn << 8 | reg)
            for off in range(4):
                for size, name in ((1, "b"), (2, "w"), (4, "l")):
                    out("%02x.%x[%02x+%d] in%s" % (dev, fn, reg, off, name),
                        int(m.cmd("in%s %#x" % (name, 0xcfc + off)), 16))
    for off in range(4):
        m.outl(0xcf8, 0x8000083c)
        m.outb(0xcfc + off, 0xa0 + off)
        out("1.0[3c] after outb +%d" % off, m.pci_read(1, 0, 0x3c))
    for off in range(3):
        m.outl(0xcf8, 0x80000800 | 0x60)
        m.outw(0xcfc + off, 0x0a0b + off)
        out("1.0[60] after outw +%d" % off, m.pci_read(1, 0, 0x60))


@compare([(r"in[bw] cf8\+[023]|port cfb", lambda a, b: b in (0xff, 0xffff),
           "82441FX: the latch takes dwords only, narrower accesses are nobody's (word 0xcf8 has 0xcf9 in it)")])
def test_address_port(m, out):
    """The address latch: dword writes only, reads of every width."""
    for value in (0, 0x80000000, 0xffffffff, 0x8000f8fc, 0x12345678):
        m.outl(0xcf8, value)
        out("cf8 after %#x" % value, m.inl(0xcf8))
    m.outl(0xcf8, 0x80000000)
    for off in range(4):
        out("inb cf8+%d" % off, m.inb(0xcf8 + off))
    for off in (0, 2):
        out("inw cf8+%d" % off, m.inw(0xcf8 + off))
    m.outb(0xcf8, 0x55)
    m.outw(0xcfa, 0x5555)
    out("cf8 after narrow writes", m.inl(0xcf8))
    m.outl(0xcf8, 0)
    out("data port with the enable bit off", m.inl(0xcfc))
    m.outl(0xcf8, 0x80010000)
    out("another bus", m.inl(0xcfc))
    out("port cfb", m.inb(0xcfb))


@compare()
def test_command_bits_with_bars(m, out):
    """BARs as hvmloader sets them, decoding off and on again."""
    for bar in pcibus.assign(m):
        out("bar %02x.%x %d" % bar[:3], bar[3:])
    for dev, fn in pcibus.functions(m):
        dump(m, out, dev, fn, "after setup")
    for dev, fn in ((2, 0), (3, 0), (1, 1)):
        m.pci_write(dev, fn, 4, 0, 2)
        out("%02x.%x command off" % (dev, fn), m.pci_read(dev, fn, 4))
    out("busmaster with decode off", m.inb(0xc100 + 2))


@compare()
def test_link_routing(m, out):
    """PIIX3 0x60-0x63: what goes to Xen, by byte, word and dword."""
    out("links at reset", (m.pci_read(1, 0, 0x60), m.fields("xen irqs")["links"]))
    for value in (0x80, 0x05, 0x8b, 0x0f, 0x00, 0x7b, 0xff):
        m.pci_write(1, 0, 0x61, value, 1)
        out("byte %#x" % value, (m.pci_read(1, 0, 0x60), m.fields("xen irqs")["links"]))
    m.pci_write(1, 0, 0x60, 0x0b0a, 2)
    out("word", (m.pci_read(1, 0, 0x60), m.fields("xen irqs")["links"]))
    m.pci_write(1, 0, 0x60, 0x800c0b05)
    out("dword", (m.pci_read(1, 0, 0x60), m.fields("xen irqs")["links"]))
    m.pci_write(1, 0, 0x5e, 0x0707, 2)
    out("next to it", (m.pci_read(1, 0, 0x60), m.fields("xen irqs")["links"]))
