# SPDX-License-Identifier: GPL-2.0-or-later
"""xen-platform: fixed ports 0x10-0x1f, its BARs, and the unplug protocol, against the peer."""
import pcibus
from harness import compare, only


def reads(m, base):
    return {"b": [m.inb(base + i) for i in range(16)], "w": [m.inw(base + i) for i in range(15)],
            "l": [m.inl(base + i) for i in range(13)]}


@compare()
def test_fixed_ports(m, out):
    out("reset", reads(m, 0x10))
    m.outw(0x12, 1)
    m.outl(0x10, 0x12345678)
    out("after product and build", reads(m, 0x10))
    out("memory type of c0", m.cmd("xen mem 0xc0"))
    m.outb(0x10, 0x01)
    out("flags 1", (m.inb(0x10), m.cmd("xen mem 0xc0").split()[1], m.cmd("xen mem 0xff").split()[1],
                    m.cmd("xen mem 0x100").split()[1]))
    m.outb(0x10, 0x00)
    out("flags 0", (m.inb(0x10), m.cmd("xen mem 0xc0").split()[1]))
    m.outb(0x10, 0xff)
    out("flags ff", m.inb(0x10))
    for c in b"a line for the log\n" + bytes(range(1, 32)) + b"\xff\n":
        m.outb(0x12, c)
    out("after the log", m.inb(0x12))
    for port in range(0x13, 0x20):
        m.outb(port, 0xff)
        m.outw(port, 0xffff)
        m.outl(port, 0xffffffff)
    out("after garbage", reads(m, 0x10))


@compare()
def test_bars(m, out):
    placed = pcibus.assign(m)
    io = pcibus.find(placed, 2, 0)[0]
    mem = pcibus.find(placed, 2, 1)[0]
    out("io", reads(m, io))
    m.outb(io, 0x01)
    out("flags by BAR", (m.inb(io), m.inb(0x10), m.cmd("xen mem 0xc0").split()[1]))
    m.outb(io, 0x00)
    for off in (0, 4, 0x1000, 0xfffffc):
        out("mem %#x" % off, m.readl(mem + off))
    m.writel(mem, 0xffffffff)
    out("mem after a write", m.readq(mem))


def unplug(mask):
    def script(m, out):
        pcibus.assign(m)
        out("functions before", pcibus.functions(m))
        m.outb(0x1f6, 0xa0)
        out("status before", m.inb(0x1f7))
        out("magic", m.inw(0x10))
        m.outw(0x10, mask)
        out("functions after", pcibus.functions(m))
        for dev in (0xa0, 0xb0):
            m.outb(0x1f6, dev)
            out("primary %#x" % dev, [m.inb(p) for p in range(0x1f1, 0x1f8)])
        for dev in (0xa0, 0xb0):
            m.outb(0x176, dev)
            out("secondary %#x" % dev, [m.inb(p) for p in range(0x171, 0x178)])
        m.outb(0x1f6, 0xa0)
        m.outb(0x1f7, 0xec)
        out("identify", m.inb(0x1f7))
        m.outb(0x176, 0xa0)
        m.outb(0x177, 0xa1)
        m.cmd("xen poll inb 0x376 0x80 0 2000")
        out("identify packet", (m.inb(0x177), m.inw(0x170)))
        m.outw(0x10, mask)
        out("twice", m.inw(0x10))
    return script


IDE = [("primary .*|secondary .*", only((0, 1), (0x50, 0)), "diagnostic code 1; no DRDY before a packet")]
test_unplug_disks = compare(IDE, disk=True, iso=True)(unplug(1))
test_unplug_nothing = compare(IDE, disk=True, iso=True)(unplug(0))
test_unplug_aux = compare(IDE, disk=True, iso=True)(unplug(4))
test_unplug_nvme = compare([
    ("primary .*|identify", None, "bit 3 is for NVMe disks alone (hvm-emulated-unplug); the peer takes "
     "the IDE disks as well")] + IDE, disk=True, iso=True)(unplug(8))
test_unplug_all = compare(IDE, disk=True, iso=True)(unplug(0xf))
