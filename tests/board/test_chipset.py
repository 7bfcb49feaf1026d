# SPDX-License-Identifier: GPL-2.0-or-later
"""Ports of the PIIX3 board that belong to no bigger device, against the peer."""
import pcibus
from harness import compare

# Answered by Xen and changing with time; 0x70 as a word is the DM's own, idle clock.
XEN_PORTS = {0x70, 0x71} | set(range(0x20, 0x22)) | set(range(0x40, 0x44)) | {0x61, 0xa0, 0xa1, 0x4d0, 0x4d1} | \
    set(range(0x1f40, 0x1f4c))


# Where hvm-dm follows the data sheets and the peer does not, or the peer has what no guest of Xen can use.
DMA_MASK = "PIIX3: the mask register (0x0f, 0xde) can be read, and has four bits"
SCAN_JUSTIFIED = [
    (r"in[bwl] 00(09|0f|d2|d3|de|df|08|0c|0e|d0|dc)",
     lambda a, b: b in (0x0f, 0x0f00, 0x0f0f, 0x0f000000, 0x0f0f0000), DMA_MASK),
    (r"in[bw] 0cf[8ab]", lambda a, b: b in (0xff, 0xffff),
     "82441FX: the address latch takes dwords only; narrower accesses are nobody's (word 0xcf8 has 0xcf9 in it)"),
    (r"inb ae0[c-f]", lambda a, b: a == 0 and b != 0, "a byte of the dword register, as for every other register"),
    (r"inb ae1[0-7]", lambda a, b: a == 0 and b == 0xff, "bus select: Xen's DSDT has no use for it, so nothing is there"),
    (r"inb b1[0-3].", lambda a, b: b == 0xff, "no SMBus controller: hvmloader switches it off before any guest runs"),
    (r"inb (0171|01f1)", lambda a, b: b == 1, "ATA: diagnostic code 1, passed, after power-on"),
    (r"inb (0177|0376)", lambda a, b: b == 0, "ATAPI: the signature comes without DRDY"),
    (r"inb 03b.", lambda a, b: b == 0xff, "no register there in colour mode"),
    (r"in[wl] (0174|0176|01f4|03c0|03c4|03c6|03c8|03cc)", None,
     "a dword is four bytes, the peer refuses it; and the bytes above"),
    (r"in[wl] 03f[46]", lambda a, b: b in (0x8050, 0x80500080), "wide reads are split: MSR, alternate status, DIR"),
]


def scan(m, out, width, first, last, step):
    ports = [p for p in range(first, last, step) if not XEN_PORTS & set(range(p, p + step))]
    for port, value in zip(ports, m.values(["in%s %#x" % (width, p) for p in ports])):
        out("in%s %04x" % (width, port), value)


@compare(SCAN_JUSTIFIED, iso=True, disk=True)
def test_every_port_byte(m, out):
    """A fresh machine, every port read once as a byte."""
    scan(m, out, "b", 0, 0x10000, 1)


@compare(SCAN_JUSTIFIED, iso=True, disk=True, vga="stdvga", platform=False)
def test_low_ports_wide(m, out):
    """Wide accesses where byte devices live."""
    scan(m, out, "w", 0, 0x1000, 2)
    scan(m, out, "l", 0, 0x1000, 4)


@compare()
def test_port92(m, out):
    out("reset", m.inb(0x92))
    for step, value in enumerate((0x02, 0x00, 0x02, 0xfe, 0x00)):
        m.outb(0x92, value)
        out("step %d after %#x" % (step, value), m.inb(0x92))
    out("shutdown", m.fields("xen shutdown")["reason"])


@compare()
def test_apm(m, out):
    for port in (0xb2, 0xb3):
        out("reset %#x" % port, m.inb(port))
        for value in (0x00, 0x55, 0xaa, 0xf0, 0xf1):
            m.outb(port, value)
            out("%#x after %#x" % (port, value), m.inb(port))


@compare()
def test_cf9_store(m, out):
    """The reset control register without a reset."""
    out("reset", m.inb(0xcf9))
    for step, value in enumerate((0x02, 0x00, 0x01, 0x08, 0xf8, 0x02)):
        m.outb(0xcf9, value)
        out("step %d after %#x" % (step, value), m.inb(0xcf9))
    m.outl(0xcf8, 0x80000000)
    out("address latch beside it", m.inl(0xcf8))


def reset_by(port, value):
    def script(m, out):
        m.outb(port, value)
        s = m.fields("xen shutdown")
        out("reason", s["reason"])
        out("asked before the answer", s["calls_at_answer"] != "0")
    return script


test_reset_cf9 = compare()(reset_by(0xcf9, 0x06))
test_reset_cf9_soft = compare()(reset_by(0xcf9, 0x04))
test_reset_port92 = compare()(reset_by(0x92, 0x01))
test_reset_8042 = compare()(reset_by(0x64, 0xfe))


@compare([(r"0x(9|f|d2|de) read", lambda a, b: b == 0x0f, DMA_MASK),
          (r"0x(0|c0|f|de) (mask|single mask|clear mask|master clear).*", lambda a, b: a == 0 and b <= 0x0f, DMA_MASK)])
def test_dma_registers(m, out):
    """The 8237 pair: address and count flip-flop, mask, mode, status, page registers."""
    for base, shift, clear, mask_all, status in ((0x00, 0, 0x0c, 0x0f, 0x08),
                                                 (0xc0, 1, 0xd8, 0xde, 0xd0)):
        for ch in range(8):
            port = base + (ch << shift)
            m.outb(clear, 0)
            m.outb(port, 0x34 + ch)
            m.outb(port, 0x12 + ch)
            m.outb(clear, 0)
            out("%#x low" % port, m.inb(port))
            out("%#x high" % port, m.inb(port))
            out("%#x third" % port, m.inb(port))
        for i in range(8, 16):
            out("%#x read" % (base + (i << shift)), m.inb(base + (i << shift)))
        for value in (0x00, 0x05, 0x0f):
            m.outb(mask_all, value)
            out("%#x mask %#x" % (mask_all, value), m.inb(mask_all))
        for value in (0x04, 0x01, 0x00):
            m.outb(base + (0x0a << shift), value)
            out("%#x single mask %#x" % (base, value), m.inb(mask_all))
        m.outb(base + (0x0e << shift), 0)
        out("%#x clear mask" % base, m.inb(mask_all))
        m.outb(base + (0x0d << shift), 0)
        out("%#x master clear" % base, m.inb(mask_all))
        m.outb(base + (0x09 << shift), 0x04)
        out("%#x status after request" % base, m.inb(status))
        out("%#x status again" % base, m.inb(status))
    for port in [p for p in range(0x80, 0x90)]:
        m.outb(port, 0x5a ^ port)
        out("page %#x" % port, m.inb(port))


@compare([(r"b004 long", lambda a, b: b >> 16 == 0xffff, "a dword is the word and what is above it"),
          (r"b004 after byte (low|high)", lambda a, b: b in (0x1001, 0x0401), "a byte write leaves the other byte alone")])
def test_pm_block(m, out):
    """PM1 control, GPE0 and hotplug registers after hvmloader's setup."""
    for port in range(0xafe0, 0xafe4):
        out("reset %#x" % port, m.inb(port))
    out("b004 before PMBA", m.inw(0xb004))
    pcibus.chipset(m)
    out("b004", m.inw(0xb004))
    out("b004 byte", m.inb(0xb004))
    out("b005 byte", m.inb(0xb005))
    out("b004 long", m.inl(0xb004))
    for port in (0xb006, 0xb007, 0xb00c, 0xb010, 0xb020, 0xb03c):
        out("inb %#x" % port, m.inb(port))
    m.outb(0xb2, 0xf0)
    out("b004 after APM f0", m.inw(0xb004))
    m.outb(0xb2, 0xf1)
    out("b004 after APM f1", m.inw(0xb004))
    for value in (0x0000, 0x0001, 0x1c00, 0x1c01, 0xdfff, 0x2c01, 0x3001):
        m.outw(0xb004, value)
        out("b004 after %#x" % value, m.inw(0xb004))
    m.outb(0xb004, 0x01)
    out("b004 after byte low", m.inw(0xb004))
    m.outb(0xb005, 0x04)
    out("b004 after byte high", m.inw(0xb004))
    out("not off", m.fields("xen shutdown")["reason"])


@compare()
def test_pm_poweroff(m, out):
    pcibus.chipset(m)
    m.outw(0xb004, 0x2001)
    s = m.fields("xen shutdown")
    out("reason", s["reason"])
    out("asked before the answer", s["calls_at_answer"] != "0")


@compare([(r"smbus status", lambda a, b: b == 0xff, "no SMBus controller: hvmloader switches it off")])
def test_pm_move(m, out):
    """PMBA moves and disappears."""
    m.pci_write(1, 3, 0x40, 0xb001)
    out("disabled", m.inw(0xb004))
    m.pci_write(1, 3, 0x80, 1, 1)
    out("enabled", m.inw(0xb004))
    m.pci_write(1, 3, 0x40, 0xe041)
    out("left", m.inw(0xb004))
    out("arrived", m.inw(0xe044))
    m.pci_write(1, 3, 0x80, 0, 1)
    out("off", m.inw(0xe044))
    m.pci_write(1, 3, 0x90, 0xb101)
    m.pci_write(1, 3, 0xd2, 0x09, 1)
    out("smbus status", m.inb(0xb100))


@compare()
def test_gpe(m, out):
    pcibus.chipset(m)
    for value in (0x00, 0x02, 0x04, 0xff):
        m.outb(0xafe2, value)
        m.outb(0xafe3, value)
        out("enable %#x" % value, (m.inw(0xafe2), m.inb(0xafe2), m.inb(0xafe3)))
        out("sci %#x" % value, m.fields("xen irqs")["isa"])
    m.outw(0xafe2, 0x1234)
    out("enable as word", m.inw(0xafe2))
    m.outb(0xafe0, 0xff)
    m.outb(0xafe1, 0xff)
    out("status", m.inw(0xafe0))
    out("all as long", m.inl(0xafe0))


@compare([(r"inb 0xae0c", lambda a, b: a == 0 and b == 0xf4, "a byte of the dword register")], disk=True)
def test_hotplug(m, out):
    for port in range(0xae00, 0xae10, 4):
        out("inl %#x" % port, m.inl(port))
        out("inb %#x" % port, m.inb(port))
    m.outl(0xae00, 0xffffffff)
    m.outl(0xae04, 0xffffffff)
    out("up after write", m.inl(0xae00))
    out("down after write", m.inl(0xae04))
    m.outl(0xae08, 0)
    out("eject reads", m.inl(0xae08))


@compare(vcpus=4)
def test_cpu_hotplug(m, out):
    for port in range(0xaf00, 0xaf20):
        out("inb %#x" % port, m.inb(port))


@compare(vcpus=11)
def test_cpu_hotplug_11(m, out):
    for port in range(0xaf00, 0xaf04):
        out("inb %#x" % port, m.inb(port))
