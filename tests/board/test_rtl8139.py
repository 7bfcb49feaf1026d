# SPDX-License-Identifier: GPL-2.0-or-later
"""RTL8139C+: registers, EEPROM, rings of both modes and frames on the tap, against the peer."""
import struct
import time

import pcibus
from harness import compare, ours
import wire
from wire import Wire, fcs, frame, in_namespace, ip

NIC = dict(vga=None, extra=wire.nic("rtl8139"), mem=64)
RING, BUF, TX, RX, TALLY = 0x100000, 0x200000, 0x300000, 0x301000, 0x302000
OWN, EOR, FS, LS = 1 << 31, 1 << 30, 1 << 29, 1 << 28
TSD, TSAD, RBSTART, CR, CAPR, CBR, IMR, ISR = 0x10, 0x20, 0x30, 0x37, 0x38, 0x3a, 0x3c, 0x3e
TCR, RCR, TCTR, MPC, EECR, TIMERINT, TPPOLL, CPCR = 0x40, 0x44, 0x48, 0x4c, 0x50, 0x54, 0xd9, 0xe0
RDSAR = 0xe4


class Card:
    """The card's registers at its I/O BAR."""

    def __init__(self, m):
        self.m = m
        placed = pcibus.assign(m)
        self.dev = next(d for d, fn in pcibus.functions(m) if m.pci_read(d, fn, 0) == 0x813910ec)
        self.io = pcibus.find(placed, self.dev, 0)[0]
        self.mem = pcibus.find(placed, self.dev, 1)[0]

    def rd(self, reg, size):
        return {1: self.m.inb, 2: self.m.inw, 4: self.m.inl}[size](self.io + reg)

    def wr(self, reg, size, value):
        {1: self.m.outb, 2: self.m.outw, 4: self.m.outl}[size](self.io + reg, value)

    def wait(self, condition, seconds=5):
        """Polls: frames take a moment."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.0005)
        return True

    def settle(self, reg, size):
        """Waits until a register has not changed for 50 ms."""
        value, since = self.rd(reg, size), time.monotonic()
        while time.monotonic() - since < 0.05:
            now = self.rd(reg, size)
            if now != value:
                value, since = now, time.monotonic()
            time.sleep(0.002)
        return value


WIDTHS = ([(r, 4) for r in (0, 8, 0xc, 0x10, 0x20, 0x2c, 0x30, TCR, RCR, MPC, TIMERINT, 0x78, 0x80, 0x84,
                            0xd4, RDSAR, RDSAR + 4)] +
          [(r, 2) for r in (CAPR, CBR, IMR, ISR, 0x5c, 0x60, 0x62, 0x64, 0x66, 0x68, 0x6a, 0x6c, 0x6e,
                            0x70, 0x72, 0x74, CPCR)] +
          [(r, 1) for r in (0x36, EECR, 0x51, 0x52, 0x53, 0x58, 0x59, 0x5a, 0x5b, 0x5e, 0xd8, TPPOLL,
                            0xda, 0xec)])


@in_namespace
@compare([
    (".*5b/1.*", ours(0), "HLTCLK is write-only and not emulated"),
    ("ones 64/2( unlocked)?", ours(0x782d), "BMSR is read-only (802.3 22.2.4.2)"),
    ("ones 62/2( unlocked)?", ours(0x1000), "BMCR: restarting auto-negotiation clears itself (802.3 22.2.4.1.7)"),
    ("zeros 62/2( unlocked)?", ours(0), "BMCR: auto-negotiation can be switched off"),
    ("(ones|zeros) 6a/2( unlocked)?", ours(1), "ANER is read-only (802.3 table 28-5)"),
    ("(reset|ones|zeros) 74/2( unlocked)?", ours(0x748), "CSCR shows the link (data sheet 6.27, Linux's 8139too); the peer's is fixed"),
], **NIC)
def test_registers(m, out):
    c = Card(m)
    out("config", [m.pci_read(c.dev, 0, r) for r in (0, 8, 0x2c, 0x3c)])
    for reg, size in WIDTHS:
        out("reset %02x/%d" % (reg, size), c.rd(reg, size))
    for unlocked in ("", " unlocked"):
        for reg, size in WIDTHS:
            if reg in (0x10, EECR, TPPOLL):
                continue
            c.wr(EECR, 1, 0xc0 if unlocked else 0)
            c.wr(reg, size, (1 << 8 * size) - 1)
            out("ones %02x/%d%s" % (reg, size, unlocked), c.rd(reg, size))
            c.wr(reg, size, 0)
            out("zeros %02x/%d%s" % (reg, size, unlocked), c.rd(reg, size))
    c.wr(CR, 1, 0x0c)
    out("TE, RE", c.rd(CR, 1) & 0xfe)
    c.wr(TCR, 4, 0xffffffff)
    out("TCR ones", c.rd(TCR, 4))


def eeprom_word(c, at, bits=6):
    def clock(di):
        c.wr(EECR, 1, 0x88 | di << 1)
        c.wr(EECR, 1, 0x8c | di << 1)
        return c.rd(EECR, 1) & 1
    c.wr(EECR, 1, 0x80)
    for i in range(bits + 4, -1, -1):
        clock((6 << bits | at) >> i & 1)
    value = 0
    for _ in range(16):
        value = value << 1 | clock(0)
    c.wr(EECR, 1, 0)
    return value


@in_namespace
@compare([("word [34]", None, "subsystem identities, as data sheet 7 has them; the peer leaves them 0")], **NIC)
def test_eeprom(m, out):
    c = Card(m)
    for at in range(10):
        out("word %d" % at, eeprom_word(c, at))
    out("8 address bits", eeprom_word(c, 0, 8) == 0x8129)


def c_mode(c, rcr=0x0e):
    c.wr(CR, 1, 0x10)
    c.wait(lambda: not c.rd(CR, 1) & 0x10)
    c.wr(CR, 1, 0x0c)
    c.wr(RBSTART, 4, RING)
    c.wr(RCR, 4, rcr)
    c.wr(TCR, 4, 0x700)
    c.wr(IMR, 2, 0xffff)


@in_namespace
@compare(**NIC)
def test_c_mode(m, out):
    c = Card(m)
    with Wire() as w:
        c_mode(c)
        for i, size in enumerate((60, 61, 200, 1000, 1514, 64)):
            m.write(BUF + 2048 * (i % 4), frame(size, dst=wire.HOST, src=wire.MAC, seed=i))
            c.wr(TSAD + 4 * (i % 4), 4, BUF + 2048 * (i % 4))
            c.wr(TSD + 4 * (i % 4), 4, size | 8 << 16)
            out("sent", w.receive())
            c.wait(lambda: c.rd(ISR, 2) & 4)
            out("status", (c.rd(TSD + 4 * (i % 4), 4), c.rd(0x60, 2), c.rd(ISR, 2)))
            c.wr(ISR, 2, 0xffff)
        pos = 0
        for size in (60, 61, 62, 63, 1514, 999, 1514, 1514, 700, 1514, 1000):
            data = frame(size, seed=size)
            w.send(data)
            out("arrives", c.wait(lambda: c.rd(ISR, 2) & 1))
            used = (size + 8 + 3) & ~3
            raw = m.read(RING + pos, min(used, 8192 - pos)) + m.read(RING, max(0, pos + used - 8192))
            out("in the ring", raw[:size + 8])
            out("is the frame", raw[4:size + 8] == data + fcs(data))
            pos = (pos + used) % 8192
            out("pointers", (c.rd(CBR, 2), c.rd(CR, 1), c.rd(ISR, 2)))
            c.wr(CAPR, 2, (pos - 16) & 0xffff)
            out("taken", c.rd(CR, 1))
            c.wr(ISR, 2, 0xffff)


PROMISCUOUS = "data sheet 6.1: MAR, PAM and BAR say what was matched, also when all frames are taken"


@in_namespace
@compare([("RCR [13579bdf] .*", lambda a, b: [(x & 0x1fff, n) for x, n in b] == a, PROMISCUOUS)], **NIC)
def test_filters(m, out):
    c = Card(m)
    targets = (wire.MAC, b"\xff" * 6, bytes.fromhex("01005e000001"), bytes.fromhex("00163e000002"))
    with Wire() as w:
        for rcr in range(0x10):
            for mar in (0, 1 << 31):
                c_mode(c, rcr)
                c.wr(8, 4, mar)
                c.wr(12, 4, 0)
                for dst in targets:
                    w.send(frame(100, dst=dst))
                end, pos, got = c.settle(CBR, 2), 0, []
                while pos < end:
                    status, size = struct.unpack("<HH", m.read(RING + pos, 4))
                    got.append((status, size))
                    pos += (size + 4 + 3) & ~3
                out("RCR %x MAR %x" % (rcr, mar), got)


def desc(m, ring, i, dw0, buf, dw1=0):
    m.write(ring + 16 * i, struct.pack("<IIQ", dw0, dw1, buf))


def word(m, addr):
    return struct.unpack("<I", m.read(addr, 4))[0]


def cplus(c, cpcr):
    c.wr(CR, 1, 0x10)
    c.wait(lambda: not c.rd(CR, 1) & 0x10)
    c.wr(CPCR, 2, cpcr | 3)
    for reg, value in ((TSAD, TX), (TSAD + 4, 0), (RDSAR, RX), (RDSAR + 4, 0)):
        c.wr(reg, 4, value)
    c.wr(CR, 1, 0x0c)
    c.wr(RCR, 4, 0x0e)
    c.wr(TCR, 4, 0x700)
    c.wr(IMR, 2, 0xffff)


@in_namespace
@compare([
    (r"descriptor.*", lambda a, b: a & 0xf000ffff == b, "status bits of the upper half are clear as the chip's are; the "
     "peer leaves what was asked for"),
    ("interrupts.*", lambda a, b: a | 0x80 == b, "TDU when the ring has no more (data sheet 6.9); the peer has it late"),
], **NIC)
def test_cplus_send(m, out):
    c = Card(m)
    with Wire() as w:
        cplus(c, 0)
        plan = [
            (0, 0, frame(300, dst=wire.HOST, src=wire.MAC)),
            (7 << 16, 0, ip(400, dst=wire.HOST, src=wire.MAC, sums=False)),
            (7 << 16, 0, ip(1514, proto=17, dst=wire.HOST, src=wire.MAC, sums=False)),
            (1 << 18, 0, ip(200, dst=wire.HOST, src=wire.MAC, sums=False)),
            (0, 1 << 17 | 0x3412, frame(300, dst=wire.HOST, src=wire.MAC)),
        ]
        for i, (bits, dw1, data) in enumerate(plan):
            m.write(BUF, data)
            desc(m, TX, i, OWN | FS | LS | bits | len(data), BUF, dw1)
            c.wr(TPPOLL, 1, 0x40)
            got = w.receive()
            if bits == 7 << 16:  # whoever finishes the sums, the receiver of the frame would
                out("headers", got[:34])
                out("payload", got[54:])
            else:
                out("frame", got)
            c.wait(lambda: not word(m, TX + 16 * i) & OWN)
            out("descriptor", word(m, TX + 16 * i))
            c.wait(lambda: c.rd(ISR, 2) & 4)
            out("interrupts", c.rd(ISR, 2))
            c.wr(ISR, 2, 0xffff)
        # two pieces, at the ring's end
        data = frame(500, dst=wire.HOST, src=wire.MAC, seed=77)
        m.write(BUF, data)
        desc(m, TX, 5, OWN | FS | 100, BUF)
        desc(m, TX, 6, OWN | LS | EOR | 400, BUF + 100)
        c.wr(TPPOLL, 1, 0x40)
        out("frame", w.receive())
        c.wait(lambda: not word(m, TX + 96) & OWN)
        out("descriptor", word(m, TX + 80))
        out("descriptor", word(m, TX + 96))
        desc(m, TX, 0, OWN | FS | LS | 500, BUF)
        c.wr(TPPOLL, 1, 0x40)
        out("frame", w.receive())


@in_namespace
@compare([
    ("CPCR [26]0 frame .*", lambda a, b: (b[0] & ~0x3e000, b[1]) == a, "RxChkSum: protocol and result, which the peer does "
     "not say"),
], **NIC)
def test_cplus_receive(m, out):
    c = Card(m)
    with Wire() as w:
        for cpcr in (0, 0x20, 0x60):
            cplus(c, cpcr)
            plan = [frame(60), frame(700), ip(800), ip(900, proto=17), ip(100, tag=b"\x01\x23"),
                    frame(1514, dst=b"\xff" * 6)]
            for i, data in enumerate(plan):
                desc(m, RX, i, OWN | (EOR if i == 5 else 0) | 1600, BUF + 2048 * i, 0)
            for i, data in enumerate(plan):
                w.send(data)
                out("arrives", c.wait(lambda: not word(m, RX + 16 * i) & OWN))
                dw0, dw1 = struct.unpack("<II", m.read(RX + 16 * i, 8))
                out("CPCR %x frame %d" % (cpcr, i), (dw0, dw1))
                out("data", m.read(BUF + 2048 * i, (dw0 & 0x1fff) - 4))
                out("interrupts", c.rd(ISR, 2))
                c.wr(ISR, 2, 0xffff)


@in_namespace
@compare(**NIC)
def test_tally(m, out):
    c = Card(m)
    with Wire() as w:
        cplus(c, 0)
        for i in range(4):
            desc(m, RX, i, OWN | 1600, BUF)
        for i, dst in enumerate((wire.MAC, b"\xff" * 6, wire.MAC)):
            w.send(frame(100, dst=dst))
            c.wait(lambda: not word(m, RX + 16 * i) & OWN)
        m.write(BUF, frame(100, dst=wire.HOST, src=wire.MAC))
        desc(m, TX, 0, OWN | FS | LS | 100, BUF)
        c.wr(TPPOLL, 1, 0x40)
        w.receive()
        c.wait(lambda: not word(m, TX) & OWN)
        c.wr(TSD + 4, 4, 0)
        c.wr(TSD, 4, TALLY | 8)
        out("done", c.wait(lambda: not c.rd(TSD, 4) & 8))
        out("counters", struct.unpack("<QQQIHHIIQQIHH", m.read(TALLY, 64)))


@in_namespace
@compare(**NIC)
def test_loopback(m, out):
    c = Card(m)
    c_mode(c)
    c.wr(TCR, 4, 0x60700)
    m.write(BUF, frame(500))
    c.wr(TSAD, 4, BUF)
    c.wr(TSD, 4, 500)
    out("arrives", c.wait(lambda: c.rd(ISR, 2) & 5 == 5))
    out("in the ring", m.read(RING, 508))
    out("pointers", (c.rd(CBR, 2), c.rd(ISR, 2), c.rd(TSD, 4)))


@in_namespace
@compare(**NIC)
def test_timer(m, out):
    c = Card(m)
    c.wr(IMR, 2, 0x4000)
    c.wr(TCTR, 4, 0)
    out("early", c.rd(ISR, 2))
    c.wr(TIMERINT, 4, 3300000)
    out("comes", c.wait(lambda: c.rd(ISR, 2) == 0x4000))
    out("after 0.1 s", c.rd(TCTR, 4) >= 3300000)
    c.wr(ISR, 2, 0x4000)
    out("once", c.rd(ISR, 2))


@in_namespace
def test_unplug(t):
    """The PV drivers take over: the card and its interface go, the rest stays."""
    with t.machine(extra=wire.nic("rtl8139")) as m:
        c = Card(m)
        with Wire() as w:
            cplus(c, 0)
            w.send(frame(100))  # waits for a descriptor
            m.outw(0x10, 2)
            t.equal(m.pci_read(c.dev, 0, 0), 0xffffffff, "configuration")
            t.equal(m.inb(c.io + CR), 0xff, "registers")
            try:
                w.set_up(True)
                t.check(False, "the interface is still there")
            except OSError:
                pass
            m.outw(0x10, 2)
            t.equal(m.inw(0x10), 0x49d2, "magic")


@in_namespace
def test_full_ring(t):
    """C+ mode: what finds no descriptor waits and is not lost, in order."""
    with t.machine(**NIC) as m:
        c = Card(m)
        with Wire() as w:
            cplus(c, 0)
            for i in range(200):
                w.send(frame(100, seed=i))
            for i in range(200):
                if i % 4 == 0:
                    for k in range(4):
                        desc(m, RX, (i + k) % 64, OWN | 1600, BUF + 2048 * k)
                    c.wr(ISR, 2, 0xffff)
                    last = RX + 16 * ((i + 3) % 64)
                    t.check(c.wait(lambda: not word(m, last) & OWN), "frame %d arrives" % i)
                t.equal(m.read(BUF + 2048 * (i % 4), 100), frame(100, seed=i), "frame %d" % i)
            t.equal(c.rd(MPC, 4), 0, "missed frames")
