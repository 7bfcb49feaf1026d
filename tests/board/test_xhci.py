# SPDX-License-Identifier: GPL-2.0-or-later
"""xHCI (usbversion=3) with tablet and keyboard: registers, commands and transfers against the peer; input, idle cost."""
import struct
import time

import pcibus
from harness import compare, ours
from test_uhci import HID_PART, VERSIONS, cpu_ticks, inside_pixel, point, switches

DCBAA, COMMANDS, ERST, EVENTS, INPUT, CONTEXTS, BUF, RINGS = (0x100000, 0x101000, 0x102000, 0x103000, 0x104000,
                                                              0x108000, 0x120000, 0x140000)
TRBS, EVENT_TRBS = 64, 128
USBCMD, USBSTS, CRCR, DCBAAP, CONFIG = 0x40, 0x44, 0x58, 0x70, 0x78
MFINDEX, IMAN, IMOD, ERSTSZ, ERSTBA, ERDP, DOORBELL = 0x1000, 0x1020, 0x1024, 0x1028, 0x1030, 0x1038, 0x2000
NORMAL, SETUP, DATA, STATUS, LINK, EVENT_DATA, NOOP = 1, 2, 3, 4, 6, 7, 8
(ENABLE, DISABLE, ADDRESS, CONFIGURE, EVALUATE, RESET_EP, STOP_EP, SET_DEQUEUE, RESET_DEVICE, BANDWIDTH, HEADER,
 NOOP_COMMAND, NEC_FW) = 9, 10, 11, 12, 13, 14, 15, 16, 17, 21, 22, 23, 49
TRANSFER, COMPLETION, PORT_CHANGE = 32, 33, 34
ISP, CHAIN, IOC, IDT, DIR_IN = 4, 0x10, 0x20, 0x40, 0x10000
CHANGES = 0xfe0000


def usb(*devices, **kw):
    extra = ["-device", kw.pop("controller", "nec-usb-xhci,id=usb")]
    for d in devices:
        extra += ["-device", "usb-%s,bus=usb.0" % d]
    return dict(vga=kw.pop("vga", "stdvga"), extra=extra, **kw)


class Ring:
    def __init__(self, m, base, trbs=TRBS):
        self.m, self.base, self.trbs, self.next, self.cycle = m, base, trbs, 0, 1
        m.write(base, bytes(16 * trbs))

    def put(self, kind, param=0, status=0, control=0):
        at = self.base + 16 * self.next
        self.m.write(at, struct.pack("<QII", param, status, kind << 10 | control | self.cycle))
        self.next += 1
        if self.next == self.trbs - 1:
            self.m.write(self.base + 16 * self.next,
                         struct.pack("<QII", self.base, 0, LINK << 10 | 2 | self.cycle))
            self.next, self.cycle = 0, self.cycle ^ 1
        return at


class Controller:
    """A driver with one event ring segment; ports are counted from 0, of USB 2."""

    def __init__(self, m, dev=4):
        self.m, self.dev = m, dev
        placed = pcibus.assign(m)
        self.bar = pcibus.find(placed, dev, 0)[0]
        self.usb3 = self.rd(0x38) >> 8 & 0xff
        self.first = self.rd(0x28) & 0xff
        self.rings = {}

    def rd(self, reg):
        return self.m.readl(self.bar + reg)

    def wr(self, reg, value):
        self.m.writel(self.bar + reg, value)

    def portsc(self, port):
        return 0x440 + 16 * (self.first - 1 + port)

    def start(self):
        m = self.m
        self.wr(USBCMD, 2)
        while self.rd(USBCMD) & 2 or self.rd(USBSTS) & 0x800:
            time.sleep(0.001)
        m.write(DCBAA, b"".join(struct.pack("<Q", CONTEXTS + 0x400 * i if i else 0) for i in range(65)))
        m.write(CONTEXTS, bytes(0x400 * 8))
        self.commands = Ring(m, COMMANDS)
        m.write(EVENTS, bytes(16 * EVENT_TRBS))
        m.write(ERST, struct.pack("<QII", EVENTS, EVENT_TRBS, 0))
        self.event, self.cycle = 0, 1
        for reg, value in ((CONFIG, 8), (DCBAAP, DCBAA), (DCBAAP + 4, 0), (CRCR, COMMANDS | 1), (CRCR + 4, 0),
                           (ERSTSZ, 1), (ERDP, EVENTS), (ERDP + 4, 0), (ERSTBA, ERST), (ERSTBA + 4, 0),
                           (IMOD, 0), (IMAN, 2), (USBCMD, 5)):
            self.wr(reg, value)

    def next_event(self, seconds=0):
        """(type, parameter, status, control >> 16) or None."""
        end = time.monotonic() + seconds
        while True:
            param, status, control = struct.unpack("<QII", self.m.read(EVENTS + 16 * self.event, 16))
            if control & 1 == self.cycle:
                break
            if time.monotonic() > end:
                return None
            time.sleep(0.001)
        self.event += 1
        if self.event == EVENT_TRBS:
            self.event, self.cycle = 0, self.cycle ^ 1
        self.wr(IMAN, 3)
        self.wr(ERDP, EVENTS + 16 * self.event | 8)
        return control >> 10 & 63, param, status, control >> 16

    def events(self):
        """All that are there, in the form of next_event()."""
        found = []
        while True:
            e = self.next_event(0.02)
            if e is None:
                return found
            found.append(e)

    def command(self, kind, param=0, slot=0, dci=0, control=0, status=0):
        """(completion code, slot, the other events: (type, code, length)); None: no completion."""
        at = self.commands.put(kind, param, status, slot << 24 | dci << 16 | control)
        self.wr(DOORBELL, 0)
        others = []
        while True:
            e = self.next_event(1)
            if e is None:
                return None, others
            if e[1] == at and e[0] in (COMPLETION, 48):
                return e[2] >> 24, e[2] & 0xffffff, e[3] >> 8, others
            if e[0] == TRANSFER:
                others.append((e[0], e[2] >> 24, e[2] & 0xffffff))

    def ring(self, slot, dci, new=False):
        if new or (slot, dci) not in self.rings:
            self.rings[slot, dci] = Ring(self.m, RINGS + 0x8000 * slot + 0x400 * dci)
        return self.rings[slot, dci]

    def input(self, slot, port, drop, add, *endpoints):
        """Fills the input context; endpoints: (dci, type, max packet, interval)."""
        self.m.write(INPUT, struct.pack("<II", drop, add) + bytes(33 * 32 - 8))
        self.m.write(INPUT + 32, struct.pack("<II", 3 << 20 | 3 << 27, (self.first + port) << 16))
        for dci, kind, size, interval in endpoints:
            r = self.ring(slot, dci)
            self.m.write(INPUT + 32 * (dci + 1), struct.pack("<IIQI", interval << 16, 3 << 1 | kind << 3 | size << 16,
                                                             r.base + 16 * r.next | r.cycle, 8))

    def context(self, slot, n):
        """The output context: slot 0, endpoints from 1."""
        return struct.unpack("<4I", self.m.read(CONTEXTS + 0x400 * slot + 32 * n, 16))

    def enable(self, port=0):
        self.wr(self.portsc(port), 0x210)
        time.sleep(0.02)
        self.wr(self.portsc(port), 0x200 | CHANGES)

    def doorbell(self, slot, dci):
        self.wr(DOORBELL + 4 * slot, dci)

    def control(self, slot, kind, request, value=0, index=0, data=0):
        """(completion code of the last event, bytes of the data stage)."""
        size = data if isinstance(data, int) else len(data)
        incoming = bool(kind & 0x80) and size > 0
        r, left, code, stage = self.ring(slot, 1), 0, None, None
        r.put(SETUP, struct.unpack("<Q", struct.pack("<BBHHH", kind, request, value, index, size))[0], 8,
              IDT | ((3 if incoming else 2) << 16 if size else 0))
        if size:
            if not incoming:
                self.m.write(BUF, data)
            stage = r.put(DATA, BUF, size, ISP | (DIR_IN if incoming else 0))
        last = r.put(STATUS, 0, 0, IOC | (0 if incoming else DIR_IN))
        self.doorbell(slot, 1)
        while True:
            e = self.next_event(1)
            if e is None or e[0] != TRANSFER:
                break
            code = e[2] >> 24
            left = e[2] & 0xffffff if e[1] == stage else left
            if e[1] == last or code not in (1, 13):
                break
        return code, self.m.read(BUF, size - left) if incoming and code == 1 and size > left else b""

    def recover(self, slot, dci=1):
        """After a stall."""
        self.command(RESET_EP, 0, slot, dci)
        return self.command(SET_DEQUEUE, self.ring(slot, dci, new=True).base | 1, slot, dci)[0]

    def enumerate(self, port=0, slot=1, size=8):
        """Reset, enable, address, configure; endpoint IN 1."""
        self.enable(port)
        codes = [self.command(ENABLE)[0]]
        self.ring(slot, 1, new=True)
        self.ring(slot, 3, new=True)
        self.input(slot, port, 0, 3, (1, 4, 64, 0))
        codes.append(self.command(ADDRESS, INPUT, slot)[0])
        self.input(slot, port, 0, 9, (3, 7, size, 6))
        codes.append(self.command(CONFIGURE, INPUT, slot)[0])
        codes.append(self.control(slot, 0, 9, 1)[0])
        return codes

    def poll(self, slot=1, size=8):
        self.ring(slot, 3).put(NORMAL, BUF + 0x800, size, IOC | ISP)
        self.doorbell(slot, 3)

    def report(self, seconds=5):
        """The data of the next transfer event; None: nothing came."""
        while True:
            e = self.next_event(seconds)
            if e is None:
                return None
            if e[0] == TRANSFER:
                return self.m.read(BUF + 0x800, 8 - (e[2] & 0xffffff))


@compare([("04", ours(0x08000140), "one interrupter (HCSPARAMS1 bits 8-18), as there is no MSI-X"),
          ("08", ours(0x4f), "an event ring of 16 segments, not one"),
          ("config 34", ours(0x70), "MSI only"),
          ("config 70", ours(0x00800005), "the last capability; one message of MSI's, not 16"),
          ("config (90|94|98)", ours(0), "no MSI-X"),
          ("sts", ours(0x11), "PCD: a port has changed (5.4.2)"),
          ("imod", ours(4000), "5.5.2.2: 1 ms at reset"),
          ("empty port.*", lambda peer, mine: peer == mine | 0x20000, "nothing has changed at an empty port"),
          ("mfindex", None, "runs only while the controller does (5.5.1)")],
         **usb("tablet", "kbd"))
def test_registers(m, out):
    for reg in (0, 4, 8, 0xc, 0x10, 0x14, 0x2c, 0x34, 0x3c, 0x60, 0x70, 0x90, 0x94, 0x98):
        out("config %02x" % reg, m.pci_read(4, 0, reg))
    for value in (0xffffffff, 0):
        m.pci_write(4, 0, 0x10, value)
        m.pci_write(4, 0, 0x14, value)
        out("bar %x" % value, (m.pci_read(4, 0, 0x10), m.pci_read(4, 0, 0x14)))
    c = Controller(m)
    for reg in range(0, 0x40, 4):
        out("%02x" % reg, c.rd(reg))
    for name, reg in (("cmd", USBCMD), ("sts", USBSTS), ("pagesize", 0x48), ("dnctrl", 0x54), ("crcr", CRCR),
                      ("dcbaap", DCBAAP), ("config", CONFIG), ("mfindex", MFINDEX), ("iman", IMAN), ("imod", IMOD),
                      ("erstsz", ERSTSZ), ("erstba", ERSTBA), ("erdp", ERDP), ("doorbell", DOORBELL)):
        out(name, c.rd(reg))
    for i in range(8):
        out("empty port" if i in (0, 1, 2, 3, 6, 7) else "port", c.rd(0x440 + 16 * i))
    for name, reg in (("dnctrl", 0x54), ("dcbaap low", DCBAAP), ("dcbaap high", DCBAAP + 4), ("config", CONFIG),
                      ("iman", IMAN), ("erstba high", ERSTBA + 4), ("erdp high", ERDP + 4)):
        c.wr(reg, 0xffffffff)
        out(name + " after ones", c.rd(reg))
        c.wr(reg, 0)


@compare([("port events", ours([(PORT_CHANGE, n << 24, 1 << 24) for n in (5, 6)]),
           "what has changed while the controller stood still is told when it runs (4.19.2)"),
          ("the resume", ours(0xfe3), "the link is in Resume until software ends it (4.15.2.1)"),
          ("the disabled", ours(0xee1), "PED written 1 disables the port (5.4.8)")],
         **usb("tablet", "kbd"))
def test_port(m, out):
    c = Controller(m)
    c.start()
    out("port events", [e[:3] for e in c.events() if e[1] >> 24 in (5, 6)])
    p = c.portsc(0)
    for name, value in (("connect change cleared", 0x20200), ("reset", 0x210), ("reset change cleared", 0x200200),
                        ("suspended", 0x10260), ("no strobe", 0x200), ("resume", 0x103e0), ("resumed", 0x10200),
                        ("link change cleared", 0x400200), ("disabled", 0x202), ("reset again", 0x210),
                        ("all changes cleared", 0x200 | CHANGES)):
        c.wr(p, value)
        time.sleep(0.01)
        out("the " + name, c.rd(p))


@compare([("crcr", ours(0), "the pointer reads as 0 (5.4.5)"),
          ("crcr running", ours(8), "the pointer reads as 0, and CRR is up while the ring runs (5.4.5)"),
          ("slots", lambda peer, mine: peer[:8] == mine[:8] and mine[8][0] == 9,
           "no more slots than CONFIG has enabled: No Slots Available (4.6.3)"),
          ("slot context #4", ours((0x08300000, 0x00050000, 0, 0x08000000)),
           "Reset Device takes the address away, and leaves one endpoint (4.6.11)"),
          ("ring stopped", ours([(COMPLETION, 0x220, 24)]), "a command ring that is stopped says where (4.6.1.2)")],
         **usb("tablet", "kbd"))
def test_commands(m, out):
    c = Controller(m)
    c.start()
    c.events()
    out("crcr", c.rd(CRCR))
    out("no-op", c.command(NOOP_COMMAND))
    out("crcr running", c.rd(CRCR))
    out("firmware", c.command(NEC_FW))
    out("disable nothing", c.command(DISABLE, 0, 3)[0])
    out("address nothing", c.command(ADDRESS, INPUT, 3)[0])
    out("slots", [c.command(ENABLE)[:3] for _ in range(9)])
    for slot in range(2, 9):
        out("disable", c.command(DISABLE, 0, slot)[:3])
    out("stop nothing", c.command(STOP_EP, 0, 1, 1)[0])
    out("no endpoint", c.command(STOP_EP, 0, 1, 0)[0])
    c.enable()
    c.events()
    c.input(1, 0, 0, 3, (1, 4, 64, 0))
    out("address, held back", c.command(ADDRESS, INPUT, 1, control=0x200)[:3])
    out("slot context", c.context(1, 0))
    out("endpoint context", c.context(1, 1))
    out("descriptor", (lambda r: (r[0], r[1][:2], r[1][4:]))(c.control(1, 0x80, 6, 0x100, 0, 8)))
    r = c.ring(1, 1)
    c.input(1, 0, 0, 3, (1, 4, 64, 0))
    out("address", c.command(ADDRESS, INPUT, 1)[:3])
    out("slot context", c.context(1, 0))
    out("endpoint context", c.context(1, 1))
    c.input(1, 0, 0, 9, (3, 7, 8, 6))
    out("configure", c.command(CONFIGURE, INPUT, 1)[:3])
    out("slot context", c.context(1, 0))
    out("endpoint context", c.context(1, 3))
    c.input(1, 0, 0, 2, (1, 4, 32, 0))
    out("evaluate", c.command(EVALUATE, INPUT, 1)[:3])
    out("endpoint context", c.context(1, 1))
    c.input(1, 0, 0, 2, (1, 4, 64, 0))
    out("evaluate again", c.command(EVALUATE, INPUT, 1)[:3])
    out("stop", c.command(STOP_EP, 0, 1, 3)[:3])
    out("endpoint context", c.context(1, 3))
    out("dequeue", c.command(SET_DEQUEUE, c.ring(1, 3).base + 0x11, 1, 3)[:3])
    out("endpoint context", c.context(1, 3))
    out("dequeue while running", c.command(SET_DEQUEUE, r.base | 1, 1, 1)[0])
    out("reset of one not halted", c.command(RESET_EP, 0, 1, 1)[0])
    out("reset device", c.command(RESET_DEVICE, 0, 1)[:3])
    out("slot context", c.context(1, 0))
    out("endpoint context", c.context(1, 3)[0])
    out("disable", c.command(DISABLE, 0, 1)[:3])
    out("unknown command", c.command(60)[0])
    c.wr(CRCR, 2)
    out("ring stopped", [(e[0], e[1] - c.commands.base, e[2] >> 24) for e in c.events()])


@compare([("configuration", lambda peer, mine: peer[:3] == mine[:3] and mine[3][:-1] == HID_PART[:-1], VERSIONS),
          ("pieces", lambda peer, mine: peer == mine[:1] + mine[2:] and mine[1] == (TRANSFER, 32, 13 << 24 | 17, 0x101),
           "ISP: a short packet is told of (4.10.1.1)"),
          ("dequeue pointer", ours(1), "a TD that was stopped is not over (4.6.9)")],
         **usb("tablet", "kbd"))
def test_transfers(m, out):
    c = Controller(m)
    c.start()
    c.events()
    out("enumerate", c.enumerate())
    out("enumerate the second", c.enumerate(1, 2))
    code, d0 = c.control(1, 0x80, 6, 0x100, 0, 18)
    out("device", (code, len(d0), d0[7:12], d0[17]))
    code, d = c.control(1, 0x80, 6, 0x200, 0, 255)
    out("configuration", (code, len(d), d[:5], d[7:]))
    out("configured", c.control(1, 0x80, 8, 0, 0, 1))
    out("status", c.control(1, 0x80, 0, 0, 0, 2))
    out("languages", c.control(1, 0x80, 6, 0x300, 0, 4))
    out("lamp", c.control(2, 0x21, 9, 0x200, 0, b"\x02"))
    out("idle off", c.control(2, 0x21, 10))
    out("protocol", c.control(2, 0xa1, 3, 0, 0, 1))
    out("no such descriptor", c.control(1, 0x80, 6, 0x900, 0, 8))
    out("halted", c.context(1, 1)[0])
    out("recovered", c.recover(1))
    out("status", c.control(1, 0x80, 0, 0, 0, 2))
    # a data stage in pieces, and what a short packet leaves
    r = c.ring(1, 1)
    m.write(BUF, bytes(0x400))
    r.put(SETUP, 0x0012000001000680, 8, IDT | 3 << 16)
    at = r.put(DATA, BUF, 5, DIR_IN | CHAIN)
    r.put(NORMAL, BUF + 0x100, 10, CHAIN | IOC)
    r.put(NORMAL, BUF + 0x200, 20, ISP)
    r.put(STATUS, 0, 0, IOC)
    c.doorbell(1, 1)
    out("pieces", [(e[0], e[1] - at, e[2], e[3]) for e in c.events()])
    out("pieces' data", (m.read(BUF, 5) == d0[:5], m.read(BUF + 0x100, 10) == d0[5:15], m.read(BUF + 0x200, 4) == d0[15:] + b"\0"))
    r.put(SETUP, 0x0012000001000680, 8, IDT | 3 << 16)
    r.put(DATA, BUF, 32, DIR_IN | CHAIN)
    r.put(EVENT_DATA, 0x123456789abc, 0, IOC)
    r.put(STATUS, 0, 0, IOC)
    c.doorbell(1, 1)
    out("event data", [(e[0], e[1] if e[3] & 4 else 0, e[2], e[3]) for e in c.events()])
    c.poll()
    out("nothing to say", c.events())
    out("stopped", c.command(STOP_EP, 0, 1, 3))
    out("dequeue pointer", c.context(1, 3)[2] - c.ring(1, 3).base)


def attach(m, size=8):
    c = Controller(m)
    c.start()
    c.events()
    c.enumerate(size=size)
    c.control(1, 0x21, 10)
    c.poll()
    time.sleep(0.05)
    return c


@compare([("corner|drag|.*release|.*right|.*middle", inside_pixel,
           "the last pixel is 32767: guests scale and round down, and come to the pixel before it with "
           "the peer's x * 32767 / width")],
         **usb("tablet", vnc="127.0.0.1:67,to=99"))
def test_viewer_to_tablet(m, out):
    """What a VNC viewer's pointer does arrives as an absolute report."""
    c = attach(m)
    out("nothing yet", c.next_event())
    point(m, out, c, c.poll)


@compare(**usb("tablet,port=3", "kbd", controller="nec-usb-xhci,id=usb,p2=6,p3=2"))
def test_ports_given(m, out):
    """p2=, p3=, port=."""
    c = Controller(m)
    out("counts", (c.rd(4) >> 24, c.rd(0x28), c.rd(0x38)))
    out("connected", [c.rd(c.portsc(i)) & 1 for i in range(6)])


def test_idle_tablet(t):
    """A polled tablet and keyboard that do nothing cost nothing."""
    with t.machine(**usb("tablet", "kbd")) as m:
        c = attach(m)
        c.enumerate(1, 2)
        c.control(2, 0x21, 10)
        c.poll(2)
        c.events()
        pid = m.dm_pid()
        time.sleep(0.5)
        ticks, before = cpu_ticks(pid), switches(pid)
        time.sleep(3)
        woke, ticks = switches(pid) - before, cpu_ticks(pid) - ticks
        t.check(woke <= 2 and ticks <= 1, "idle: %d wake-ups, %d ticks in 3 s" % (woke, ticks))
        t.notes.append("%d wake-ups, %d ticks in 3 s" % (woke, ticks))
