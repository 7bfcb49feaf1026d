# SPDX-License-Identifier: GPL-2.0-or-later
"""82540EM: registers, EEPROM, PHY, interrupts, rings and frames on the tap, against the peer."""
import struct
import time

import pcibus
from harness import compare, ours
import wire
from wire import Wire, frame, in_namespace, ip

NIC = dict(vga=None, extra=wire.nic("e1000"), mem=64)
TX, RX, BUF, TBUF, RING = 0x100000, 0x110000, 0x200000, 0x300000, 16
CTRL, STATUS, EECD, EERD, CTRL_EXT, MDIC, VET = 0, 8, 0x10, 0x14, 0x18, 0x20, 0x38
ICR, ITR, ICS, IMS, IMC, RCTL, TCTL, PBA = 0xc0, 0xc4, 0xc8, 0xd0, 0xd8, 0x100, 0x400, 0x1000
RDBAL, RDLEN, RDH, RDT, TDBAL, TDLEN, TDH, TDT = (0x2800, 0x2808, 0x2810, 0x2818, 0x3800, 0x3808,
                                                  0x3810, 0x3818)
RXCSUM, MTA, RAL, RAH, VFTA = 0x5000, 0x5200, 0x5400, 0x5404, 0x5600
EOP, IFCS, IC, TSE, RS, DEXT, VLE = 1, 2, 4, 4, 8, 0x20, 0x40


class Card:
    """The card's registers in memory."""

    def __init__(self, m, up=True):
        self.m = m
        placed = pcibus.assign(m)
        self.dev = next(d for d, fn in pcibus.functions(m) if m.pci_read(d, fn, 0) == 0x100e8086)
        self.mem = pcibus.find(placed, self.dev, 0)[0]
        self.io = pcibus.find(placed, self.dev, 1)[0]
        self.head = self.tail = 0
        if up:
            self.wait(lambda: self.rd(STATUS) & 2)

    def rd(self, reg):
        return self.m.readl(self.mem + reg)

    def wr(self, reg, value):
        self.m.writel(self.mem + reg, value)

    def wait(self, condition, seconds=5):
        """Polls: frames take a moment."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.0005)
        return True

    def phy(self, reg, value=None):
        if value is None:
            self.wr(MDIC, 2 << 26 | 1 << 21 | reg << 16)
            return self.rd(MDIC) & 0xffff
        self.wr(MDIC, 1 << 26 | 1 << 21 | reg << 16 | value)
        return self.rd(MDIC)

    def start(self, rctl=0x8000):
        """Both rings; RING - 1 receive buffers of 2 KiB."""
        self.wr(RCTL, 0)
        self.wr(TCTL, 0)
        for i in range(RING):
            self.m.write(RX + 16 * i, struct.pack("<QQ", BUF + 4096 * i, 0))
        for reg, value in ((TDBAL, TX), (TDLEN, 16 * RING), (TDH, 0), (TDT, 0), (RDBAL, RX),
                           (RDLEN, 16 * RING), (RDH, 0), (RDT, RING - 1), (TCTL, 0xa), (RCTL, 2 | rctl)):
            self.wr(reg, value)
        self.head = self.tail = 0
        self.rd(ICR)

    def put(self, low, high):
        self.m.write(TX + 16 * self.tail, struct.pack("<QQ", low, high))
        self.tail = (self.tail + 1) % RING

    def legacy(self, addr, size, cmd, cso=0, css=0, special=0):
        self.put(addr, size | cso << 16 | cmd << 24 | css << 40 | special << 48)

    def data(self, addr, size, cmd, popts=0, special=0):
        self.put(addr, size | 1 << 20 | (cmd | DEXT) << 24 | popts << 40 | special << 48)

    def context(self, tucmd=3, hdrlen=0, mss=0, size=0):
        """Of TCP over IPv4 without options or tag."""
        self.put(14 | 24 << 8 | 33 << 16 | 34 << 32 | 50 << 40,
                 size | (tucmd | DEXT) << 24 | hdrlen << 40 | mss << 48)

    def go(self):
        """Lets it send; the last descriptor's status."""
        self.wr(TDT, self.tail)
        self.wait(lambda: self.rd(TDH) == self.tail)
        return self.m.readb(TX + 16 * ((self.tail - 1) % RING) + 12)

    def received(self, seconds=5):
        """(length, checksum, status, errors, special) and data of the next descriptor; None: nothing."""
        at = RX + 16 * self.head
        if not self.wait(lambda: self.m.readb(at + 12) & 1, seconds):
            return None, None
        fields = struct.unpack("<HHBBH", self.m.read(at + 8, 8))
        data = self.m.read(BUF + 4096 * self.head, fields[0])
        self.head = (self.head + 1) % RING
        return fields, data


MASKS = ([(CTRL_EXT, 1, 4), (0x28, 3, 4), (VET, 1, 4), (ITR, 1, 4), (0x170, 1, 4), (0x178, 1, 4),
          (RCTL, 1, 4), (0x410, 1, 4), (0xe00, 1, 4), (0x2160, 2, 8), (0x2410, 3, 8), (0x2800, 3, 4),
          (0x2810, 1, 4), (0x2818, 1, 4), (0x2820, 1, 4), (0x282c, 1, 4), (0x3800, 3, 4),
          (0x3810, 1, 4), (0x3818, 1, 4), (0x3820, 1, 4), (0x3828, 2, 4), (0x4000, 64, 4),
          (RXCSUM, 1, 4), (MTA, 128, 4), (RAL, 16, 8), (RAH, 16, 8), (VFTA, 128, 4), (0x5a00, 32, 4),
          (0x5f00, 4, 8), (0x9000, 128, 8), (0x9800, 128, 8)])
# SDM chapter 13, and what Linux' and Intel's self tests demand: reserved bits read as zeros.
RESERVED = ("reserved bits are 0 (SDM 13.4)")
STORED = "the register stores (SDM 13.4); the peer does not have it"


@in_namespace
@compare([
    ("reset 0*(8)", ours(0x783), "STATUS: bits 19 and 31 are reserved on this chip (SDM 13.4.2)"),
    ("reset 0*10", ours(0x118), "EECD: no grant without request; flash writes disabled (SDM 13.4.3)"),
    ("reset 0*4", ours(0x140240), "CTRL's shadow (SDM 13.4.1)"),
    ("reset 0*20", ours(0x10000000), "MDIC is ready (SDM 13.4.5)"),
    ("reset 5820", ours(0), "MANC: there is no management controller"),
    ("ones 0*18", ours(0x28fff), STORED), ("ones 0*28", ours(0xffffffff), STORED),
    ("ones 0*(2c|30|170)", ours(0xffff), STORED), ("ones 0*178", ours(0xc000ffff), STORED),
    ("ones 0*38", ours(0xffff), RESERVED), ("ones 0*100", ours(0x06dfb3fe), RESERVED),
    ("ones 0*410", ours(0x3fffffff), STORED), ("ones 0*e00", ours(0xcfcfcfcf), RESERVED),
    ("ones 21..", ours(0x8000fff8), STORED), ("ones (2800|3800)", ours(0xfffffff0), RESERVED),
    ("ones 3820", ours(0xffff), STORED), ("ones 3828", ours(0xff3f3f3f), RESERVED),
    ("ones 4058", ours(0), "counters are read-only (SDM 13.7)"), ("ones 5000", ours(0x7ff), STORED), ("ones 54[0-7][4c]", ours(0x8003ffff), RESERVED),
], **NIC)
def test_registers(m, out):
    with Wire():
        c = Card(m)
        out("config", [m.pci_read(c.dev, 0, r) for r in (0, 8, 0x2c, 0x34, 0x3c)])
        for reg in list(range(0, 0x200, 4)) + [0x400, 0x410, 0xe00, PBA] + list(range(0x2000, 0x6000, 4)):
            out("reset %04x" % reg, c.rd(reg))
        for first, count, stride in MASKS:
            for i in range(count):
                c.wr(first + i * stride, 0xffffffff)
                out("ones %04x" % (first + i * stride), c.rd(first + i * stride))
                c.wr(first + i * stride, 0)
                out("zeros %04x" % (first + i * stride), c.rd(first + i * stride))
        c.wr(CTRL, 0x40000241)
        out("CTRL", c.rd(CTRL))


@in_namespace
@compare(**NIC)
def test_interrupts(m, out):
    with Wire():
        c = Card(m)

        def pin():
            return m.fields("xen irqs")["intx"]
        c.wr(ITR, 0)
        for bit in (0, 1, 2, 4, 6, 7, 9, 15, 16):
            c.wr(IMC, 0xffffffff)
            c.wr(ICS, 1 << bit)
            out("masked", (pin(), c.rd(ICR), c.rd(ICR)))
            c.wr(IMS, 1 << bit)
            out("mask", c.rd(IMS))
            c.wr(ICS, 0x7f57 & ~(1 << bit))
            out("others", pin())
            c.wr(ICS, 1 << bit)
            out("asserted", pin())
            out("causes", (c.rd(ICR), pin(), c.rd(ICR)))
        c.wr(IMC, 0xffffffff)
        c.wr(ICS, 0x84)
        c.wr(IMS, 0x80)
        out("unmasked", pin())
        c.wr(ICR, 0x80)
        out("cleared by writing", (pin(), c.rd(ICR)))


def bits(c, count, value):
    for i in range(count - 1, -1, -1):
        di = (value >> i & 1) << 2
        for sk in (0, 1, 0):
            c.wr(EECD, 0x42 | di | sk)


@in_namespace
@compare(**NIC)
def test_eeprom(m, out):
    c = Card(m, up=False)
    total = 0
    for i in range(64):
        c.wr(EERD, i << 8 | 1)
        value = c.rd(EERD)
        total += value >> 16
        out("done %d" % i, value & 0xffff)
        if i < 3 or i in (0xd, 0xe):
            out("word %d" % i, value >> 16)
    out("checksum", total & 0xffff)
    for word in (0, 2, 63):
        c.wr(EECD, 0x40)
        bits(c, 9, 6 << 6 | word)
        value = 0
        for _ in range(16):
            c.wr(EECD, 0x43)
            value = value << 1 | (c.rd(EECD) >> 3 & 1)
            c.wr(EECD, 0x42)
        c.wr(EERD, word << 8 | 1)
        out("serial %d" % word, value == c.rd(EERD) >> 16)


@in_namespace
@compare([
    ("phy 1", ours(0x796d), "BMSR: negotiation is complete while the link is up (802.3 28.3)"),
    ("phy 5", ours(0x41e1), "the partner's abilities hold the selector and acknowledge (802.3 28.2.1.2)"),
    ("phy 6", ours(1), "ANER: the partner negotiates (802.3 28.2.4.1.5)"),
    ("phy (7|15|18|2[0-9]|30)", None, "registers of the M88E1000 that the peer does not have (SDM 13.8)"),
    ("MDIC (5|6|7|8|1[0-9]|2[0-9]|3[01])", None, "the PHY answers for all 32 registers: no error (SDM 13.4.5)"),
    ("restart .*", None, "the time that negotiation takes"),
    ("10BASE.*|power down.*", None, "STATUS follows the PHY's speed and link (SDM 13.4.2); the peer is always at 1000"),
], **NIC)
def test_phy(m, out):
    with Wire():
        c = Card(m)
        for reg in range(32):
            out("phy %d" % reg, c.phy(reg))
            out("MDIC %d" % reg, c.rd(MDIC) >> 28)
        c.wr(MDIC, 2 << 26 | 2 << 21)
        out("nobody", c.rd(MDIC) >> 28)
        out("write", c.phy(4, 0x01e1))
        out("read back", c.phy(4))
        c.rd(ICR)
        c.phy(0, 0x1340)
        out("restart BMCR", c.phy(0))
        out("restart link", c.rd(STATUS) >> 1 & 1)
        out("up again", c.wait(lambda: c.rd(STATUS) & 2))
        out("BMCR", c.phy(0))
        c.phy(1)
        out("BMSR", c.phy(1))
        out("LSC", c.rd(ICR) & 4)
        c.phy(0, 0x0100)
        out("10BASE-T", c.rd(STATUS) & 0xc3)
        c.phy(0, 0x1940)
        out("power down", c.rd(STATUS) & 2)
        c.phy(0, 0x1140)
        out("power up", c.wait(lambda: c.rd(STATUS) & 2))


def essence(data):
    """A frame without what segmentation and checksums change; whoever finishes them, the receiver would."""
    return None if data is None else (data[:16], data[20:24], data[26:46], data[54:])


@in_namespace
@compare([
    (r"causes.*", lambda a, b: b == a | 2, "TXQE: the ring is empty (SDM 13.4.17)"),
], **NIC)
def test_send(m, out):
    with Wire() as w:
        c = Card(m)
        c.wr(VET, 0x8100)
        c.start()
        plan = [
            (lambda n: c.legacy(TBUF, n, EOP | IFCS | RS), frame(60, dst=wire.HOST, src=wire.MAC), None),
            (lambda n: c.legacy(TBUF, n, EOP | IFCS), frame(1514, dst=wire.HOST, src=wire.MAC), None),
            (lambda n: c.data(TBUF, n, EOP | RS), frame(777, dst=wire.HOST, src=wire.MAC), None),
            (lambda n: c.legacy(TBUF, n, EOP | IC | RS, 50, 34), ip(700, dst=wire.HOST, src=wire.MAC), essence),
            (lambda n: (c.context(), c.data(TBUF, n, EOP | RS, 3)),
             ip(701, dst=wire.HOST, src=wire.MAC, sums=False), essence),
            (lambda n: (c.legacy(TBUF, 14, 0), c.legacy(TBUF + 14, 20, RS), c.legacy(TBUF + 34, n - 34, EOP | RS)),
             frame(300, dst=wire.HOST, src=wire.MAC), None),
        ]
        for put, data, part in plan:
            m.write(TBUF, data)
            put(len(data))
            status = c.go()
            got = w.receive()
            out("frame", part(got) if part else got)
            out("status", status)
            out("causes", c.rd(ICR))
        c.wr(CTRL, c.rd(CTRL) | 1 << 30)
        c.legacy(TBUF, 300, EOP | VLE | RS, special=0x2005)
        out("status", c.go())
        out("tagged", w.receive())
        out("indices", (c.rd(TDH), c.rd(TDT)))
        out("counters", [c.rd(r) for r in (0x4080, 0x40d4)])
        out("counters again", [c.rd(r) for r in (0x4080, 0x40d4)])


@in_namespace
@compare(**NIC)
def test_segmentation(m, out):
    """4000 bytes in segments of 1000: one large frame or four on the tap, the same to who puts them together."""
    with Wire() as w:
        c = Card(m)
        c.start()
        data = bytearray(ip(4054, dst=wire.HOST, src=wire.MAC, sums=False))
        data[16:18] = b"\0\0"
        pseudo = ~wire.checksum(bytes(data[26:34]) + b"\0\x06") & 0xffff
        data[50:52] = struct.pack(">H", pseudo)
        m.write(TBUF, bytes(data))
        c.context(3 | TSE, 54, 1000, 4000)
        c.data(TBUF, 54, TSE, 3)
        c.data(TBUF + 54, 4000, TSE | EOP | RS, 3)
        out("status", c.go())
        whole, first = b"", None
        while len(whole) < 4000:
            got = w.receive()
            if got is None:
                break
            first = first or got
            out("position", struct.unpack(">I", got[38:42])[0] - struct.unpack(">I", data[38:42])[0] == len(whole))
            whole += got[54:54 + struct.unpack(">H", got[16:18])[0] - 40]
            if len(got) == 1054:
                break_ = 0
                while len(whole) < 4000 and break_ < 4:
                    got = w.receive()
                    whole += got[54:] if got else b""
                    break_ += 1
        out("addresses", first[:14] if first else None)
        out("data", whole)


@in_namespace
@compare([
    (r"fields .*", lambda a, b: a is not None and (b[0], b[2] & ~0x64, b[3], b[4]) == (a[0], a[2] & ~0x64, a[3], a[4]),
     "the packet checksum, and whether TCP's and IP's are right (SDM 3.2.3, 3.2.9); the peer does not look"),
    (r"data .*", lambda a, b: a[:-4] == b[:-4], "the FCS, which drivers cut off"),
], **NIC)
def test_receive(m, out):
    with Wire() as w:
        c = Card(m)
        c.wr(VET, 0x8100)
        for rctl in (0x8000, 0x04008000, 0x8020, 0x38000):
            for vme in (0, 1 << 30):
                c.wr(CTRL, c.rd(CTRL) & ~(1 << 30) | vme)
                c.start(rctl)
                for data in (frame(60), frame(100, dst=b"\xff" * 6), ip(700), ip(1514, proto=17),
                             ip(100, tag=b"\x21\x23"), frame(250)):
                    w.send(data)
                    for _ in range(6):
                        fields, got = c.received()
                        out("fields %x" % rctl, fields)
                        out("data %x" % rctl, got if not rctl & 1 << 26 else got + b"1234")
                        if fields is None or fields[2] & 2:
                            break
                    out("head %x" % rctl, c.rd(RDH))
                    c.wait(lambda: c.rd(ICR) & 0x80, 0.2)
                    c.wr(RDT, (c.head - 1) % RING)


@in_namespace
@compare([
    ("RCTL .*", lambda a, b: [x & ~0x80 for x in b] == a, "PIF: taken by an inexact filter (SDM 3.2.3.1)"),
], **NIC)
def test_filters(m, out):
    targets = (wire.MAC, b"\xff" * 6, bytes.fromhex("01005e000001"), bytes.fromhex("01005e003412"),
               bytes.fromhex("00163e000002"))
    with Wire() as w:
        c = Card(m)
        for mo in range(4):
            c.wr(MTA + 4 * (0x123 // 32), 1 << (0x123 % 32) if mo == 0 else 0)
            c.wr(MTA + 4 * (0x234 // 32), 1 << (0x234 % 32) if mo == 3 else 0)
            for mode in (0, 8, 0x10, 0x8000, 0x8018) if mo == 0 else (0,):
                c.start(mode | mo << 12)
                for dst in targets:
                    w.send(frame(100, dst=dst))
                w.send(frame(101))  # always for us: the end
                got = []
                while True:
                    fields, _ = c.received()
                    if fields is None or fields[0] == 105:
                        break
                    got.append(fields[2])
                out("RCTL %x" % (mode | mo << 12), got)


@in_namespace
@compare([
    ("MAC (length|frame)", lambda a, b: a is None, "RCTL.LBM (SDM 13.4.22); the peer has the PHY's loopback only"),
], **NIC)
def test_loopback(m, out):
    with Wire():
        c = Card(m)
        data = frame(500, dst=b"\xff" * 6)
        m.write(TBUF, data)
        for name, rctl, bmcr in (("PHY", 0x8000, 0x4140), ("MAC", 0x8040, 0x1140)):
            c.phy(0, bmcr)
            c.start(rctl)
            time.sleep(1.1)  # the peer takes nothing for a second after a write to RCTL
            c.legacy(TBUF, 500, EOP | IFCS | RS)
            out(name + " status", c.go())
            fields, got = c.received(1)
            out(name + " length", fields and fields[0])
            out(name + " frame", got and got[:500])


@in_namespace
def test_full_ring(t):
    """What finds no descriptor waits and is not lost, in order."""
    with t.machine(**NIC) as m, Wire() as w:
        c = Card(m)
        c.start()
        c.wr(RDT, 0)
        for i in range(200):
            w.send(frame(100, seed=i))
        for i in range(200):
            if i % 8 == 0:
                for k in range(8):
                    m.write(RX + 16 * ((i + k) % RING) + 8, bytes(8))
                c.wr(RDT, (i + 8) % RING)
            fields, got = c.received()
            t.check(fields is not None, "frame %d arrives" % i)
            t.equal(got[:100], frame(100, seed=i), "frame %d" % i)
        t.equal(c.rd(0x4010), 0, "missed packets")


@in_namespace
def test_link(t):
    """The interface goes down and comes back: LSC each time, frames flow again."""
    with t.machine(**NIC) as m, Wire() as w:
        c = Card(m)
        c.start()
        c.wr(0xd0, 4)
        w.set_up(False)
        m.write(TBUF, frame(100, dst=wire.HOST, src=wire.MAC))
        c.legacy(TBUF, 100, EOP | RS)
        t.equal(c.go(), 1, "a packet for nobody comes back")
        t.check(c.wait(lambda: not c.rd(STATUS) & 2), "link down")
        t.equal(c.rd(ICR) & 4, 4, "LSC")
        w.set_up(True)
        t.check(c.wait(lambda: c.rd(STATUS) & 2), "link up")
        t.equal(c.rd(ICR) & 4, 4, "LSC")
        w.receive(0.1)  # the socket tells of the interface first
        w.send(frame(100))
        fields, got = c.received()
        t.check(fields is not None and got[:100] == frame(100), "a frame arrives")


@in_namespace
def test_reset_in_flight(t):
    """CTRL.RST with a full transmit ring and frames on their way; through the I/O window as Linux does."""
    with t.machine(**NIC) as m, Wire() as w:
        c = Card(m)
        for i in range(50):
            c.start()
            m.write(TBUF, frame(1514, dst=wire.HOST, src=wire.MAC))
            for _ in range(RING - 1):
                c.legacy(TBUF, 1514, EOP | RS)
            w.send(frame(200, seed=i))
            c.wr(TDT, c.tail)
            m.outl(c.io, CTRL)
            m.outl(c.io + 4, 1 << 26)
            t.equal((c.rd(TDT), c.rd(RCTL), c.rd(IMS), c.rd(RAH)), (0, 0, 0, 0x80000100), "reset state")
        c.start()
        while w.receive(0.1) is not None:
            pass
        w.send(frame(300))
        fields, got = c.received()
        t.check(fields is not None, "a frame arrives")
        t.check(got[:200] != b"" and len(got) in (204, 304), "and is one of ours")
