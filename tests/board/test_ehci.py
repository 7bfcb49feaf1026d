# SPDX-License-Identifier: GPL-2.0-or-later
"""EHCI and its companions (usbversion=2), or alone (usb-ehci): registers, ports, enumeration at high speed and transfers
against the peer; input; idle cost beside the peer."""
import struct
import time

import fakexen
import pcibus
from harness import compare, ours
from test_uhci import Controller as Uhci, cpu_ticks, inside_pixel, point, switches

CMD, STS, INTR, FRINDEX, SEGMENT, PERIODIC, ASYNC, CONFIG, PORTSC = (0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38, 0x60,
                                                                     0x64)
FRAMES, HEAD, QH, INT_QH, QTDS, INT_QTD, BUF, INT_BUF = (0x100000, 0x101000, 0x101080, 0x101100, 0x102000, 0x103000,
                                                         0x104000, 0x105000)
T, IS_QH = 1, 2
USBERRINT = 2
ACTIVE, HALTED, IOC, ERRORS = 0x80, 0x40, 0x8000, 0xc00
OUT, IN, SETUP = 0, 0x100, 0x200
TOGGLE = 1 << 31
J_STATE = 0x800

VERSION_2 = ["-device", "ich9-usb-ehci1,id=usb,addr=0x1d.0x7,multifunction=on"]
for i, f, a in ((1, 0, "0"), (2, 2, "0x1"), (3, 4, "0x2")):
    VERSION_2 += ["-device", "ich9-usb-uhci%d,masterbus=usb.0,firstport=%d,addr=0x1d.%s,multifunction=on" % (i, f, a)]


def usb2(*devices, **kw):
    """As libxl has it, with devices in the guest's device_model_args_hvm."""
    extra = list(VERSION_2)
    for d in devices:
        extra += ["-device", d]
    return dict(vga=kw.pop("vga", None), extra=extra, **kw)


class Controller:
    """A driver: a ring of a head and the control queue; all frames lead to the interrupt queue."""

    def __init__(self, m, dev=0x1d, fn=7):
        self.m = m
        placed = pcibus.assign(m)
        self.base = next(p[4] for p in placed if p[:3] == (dev, fn, 0))

    def rd(self, reg):
        return self.m.readl(self.base + reg)

    def wr(self, reg, value):
        self.m.writel(self.base + reg, value)

    def qh(self, at, link, endpoint, masks, token=0):
        self.m.write(at, struct.pack("<12I", link, endpoint, masks, 0, T, T, token, 0, 0, 0, 0, 0))

    def start(self):
        self.m.write(FRAMES, struct.pack("<I", INT_QH | IS_QH) * 1024)
        self.qh(HEAD, QH | IS_QH, 0xa000, 1 << 30, HALTED)
        self.qh(QH, HEAD | IS_QH, 0x406000, 1 << 30)
        self.qh(INT_QH, T, 0x82101, 1 << 30 | 1)
        self.wr(PERIODIC, FRAMES)
        self.wr(ASYNC, HEAD)
        self.wr(INTR, 0x37)
        self.wr(CMD, 0x80031)
        self.wr(CONFIG, 1)

    def enable(self, port=0):
        self.wr(PORTSC + 4 * port, 0x1102)
        time.sleep(0.02)
        self.wr(PORTSC + 4 * port, 0x1000)
        time.sleep(0.01)

    def qtd(self, at, link, alternate, token, buf):
        self.m.write(at, struct.pack("<8I", link, alternate, token, buf, 0, 0, 0, 0))

    def token(self, at):
        return self.m.readl(at + 8)

    def control(self, device, kind, request, value=0, index=0, data=0):
        """(tokens of the descriptors that ran, bytes of the data stage)."""
        size = data if isinstance(data, int) else len(data)
        incoming = bool(kind & 0x80) and size > 0
        self.m.write(BUF, struct.pack("<BBHHH", kind, request, value, index, size))
        if not incoming and size:
            self.m.write(BUF + 8, data)
        n = 3 if size else 2
        last = QTDS + 32 * (n - 1)
        self.qtd(QTDS, QTDS + 32, T, ACTIVE | ERRORS | SETUP | 8 << 16, BUF)
        if size:
            self.qtd(QTDS + 32, last, last, ACTIVE | ERRORS | (IN if incoming else OUT) | size << 16 | TOGGLE, BUF + 8)
        self.qtd(last, T, T, ACTIVE | ERRORS | (OUT if incoming else IN) | IOC | TOGGLE, 0)
        self.qh(QH, HEAD | IS_QH, 0x406000 | device, 1 << 30)
        self.m.writel(QH + 16, QTDS)
        end = time.monotonic() + 2
        while time.monotonic() < end and self.token(last) & ACTIVE and not self.m.readl(QH + 24) & HALTED:
            time.sleep(0.001)
        tokens = tuple(t for t in (self.token(QTDS + 32 * i) for i in range(n)) if not t & ACTIVE)
        got = size - (self.token(QTDS + 32) >> 16 & 0x7fff) if incoming and len(tokens) == n else 0
        return tokens, self.m.read(BUF + 8, got) if got else b""

    def poll(self, device):
        """Queues an interrupt descriptor."""
        self.qtd(INT_QTD, T, T, ACTIVE | ERRORS | IOC | IN | 8 << 16, INT_BUF)
        if self.m.readl(INT_QH + 4) != 0x82100 | device:
            self.qh(INT_QH, T, 0x82100 | device, 1 << 30 | 1)
        self.m.writel(INT_QH + 16, INT_QTD)

    def report(self, seconds=5):
        """Its data when it is done; None: nothing came."""
        end = time.monotonic() + seconds
        while self.token(INT_QTD) & ACTIVE:
            if time.monotonic() > end:
                return None
            time.sleep(0.001)
        return self.m.read(INT_BUF, 8 - (self.token(INT_QTD) >> 16 & 0x7fff))


def j_state(peer, mine):
    return peer == mine & ~J_STATE


def plus_d(peer, mine):
    return peer == mine & ~0x10


LINE_STATUS = "line status: until its reset a high-speed device is an idle full-speed one (EHCI 1.0, 2.3.9, USB 2.0, 7.1.7.5)"


@compare([("ehci config 6c", ours(0), "USBLEGCTLSTS says that the BAR was written; there is no SMI it could be asked by"),
          ("ehci legacy ones", ours((0x3f20, 0x01010001, 0xe03f)), "bits that can be written: FLADJ six, two semaphores, "
           "SMI enables (EHCI 1.0, 2.1); the peer takes all"),
          ("uhci . config c0", ours(0x2000), "LEGSUP is 2000h at reset (UHCI 1.1, 5.2.1)"),
          ("reserved .*", ours(0), "reserved registers read 0; behind those of the peer nothing answers"),
          ("ones 2c", ours(0x3fff), "FRINDEX counts microframes (EHCI 1.0, 2.3.4)"),
          ("ones 30", ours(0), "HCCPARAMS says 32-bit addresses: CTRLDSSEGMENT reads 0 (EHCI 1.0, 2.3.5)"),
          ("ones 34", ours(0xfffff000), "PERIODICLISTBASE is 4 KiB aligned (EHCI 1.0, 2.3.6)"),
          ("ones 38", ours(0xffffffe0), "ASYNCLISTADDR is 32-byte aligned (EHCI 1.0, 2.3.7)")], **usb2())
def test_registers(m, out):
    for reg in (0, 4, 8, 0xc, 0x2c, 0x34, 0x3c, 0x60, 0x68, 0x6c):
        out("ehci config %02x" % reg, m.pci_read(0x1d, 7, reg))
    for reg in (0x60, 0x68, 0x6c):
        m.pci_write(0x1d, 7, reg, 0xffffffff)
    out("ehci legacy ones", tuple(m.pci_read(0x1d, 7, reg) for reg in (0x60, 0x68, 0x6c)))
    for fn in range(3):
        for reg in (0, 4, 8, 0xc, 0x2c, 0x34, 0x3c, 0x60, 0xc0):
            out("uhci %d config %02x" % (fn, reg), m.pci_read(0x1d, fn, reg))
    c = Controller(m)
    for reg in (0, 4, 8, 0xc, CMD, STS, INTR, FRINDEX, SEGMENT, PERIODIC, ASYNC, 0x3c, 0x5c, CONFIG) + tuple(
            range(PORTSC, PORTSC + 24, 4)):
        out("reset %02x" % reg, c.rd(reg))
    for reg in (0x10, PORTSC + 24, 0x100, 0xffc):
        out("reserved %02x" % reg, c.rd(reg))
    for reg in (0, 4, 8, INTR, FRINDEX, SEGMENT, PERIODIC, ASYNC):
        c.wr(reg, 0xffffffff)
        out("ones %02x" % reg, c.rd(reg))
    c.wr(CMD, 2)
    for reg in (CMD, STS, INTR, FRINDEX, CONFIG, PORTSC):
        out("after reset %02x" % reg, c.rd(reg))
    c.wr(CMD, 0x80001)
    out("running", (c.rd(CMD), c.rd(STS)))
    c.wr(CMD, 0x80000)
    time.sleep(0.05)
    out("stopped", (c.rd(CMD), c.rd(STS)))


@compare([("port 0 not woken", ours(0x1085), "a 0 does not end a suspend (EHCI 1.0, 2.3.9)"),
          (r"port \d not configured", lambda peer, mine: mine & 0x3001 == 0x3000, "without CONFIGFLAG the companions have "
           "the ports (EHCI 1.0, 2.3.8 and 2.3.9), which the peer knows at reset only"),
          ("companion 0 not configured", ours(0x93), "the same"),
          ("port .*", j_state, LINE_STATUS), ("companion .*", plus_d, "the same there (UHCI 1.1, 2.1.7)")],
         **usb2("usb-tablet,bus=usb.0", "usb-kbd,bus=usb.0,port=3"))
def test_ports(m, out):
    """Who has the ports, reset and enable, suspend and resume."""
    c = Controller(m)
    companions = [next(p[4] for p in pcibus.assign(m) if p[:3] == (0x1d, fn, 4)) for fn in range(3)]

    def all_ports(when):
        for i in range(6):
            out("port %d %s" % (i, when), c.rd(PORTSC + 4 * i))
            out("companion %d %s" % (i, when), m.inw(companions[i // 2] + 0x10 + 2 * (i % 2)))

    all_ports("at first")
    c.wr(CONFIG, 1)
    out("change", c.rd(STS))
    c.wr(STS, 4)
    all_ports("configured")
    for name, value in (("change cleared", 0x1002), ("enabled by hand", 0x1004), ("in reset", 0x1100),
                        ("after reset", 0x1000), ("suspended", 0x1084), ("not woken", 0x1004), ("resuming", 0x10c4),
                        ("resumed", 0x1004), ("disabled", 0x1000), ("wake-up bits", 0x701000), ("no such bits", 0x1000)):
        c.wr(PORTSC, value)
        time.sleep(0.03)
        out("port 0 " + name, c.rd(PORTSC))
    c.wr(PORTSC + 8, 0x3000)
    out("given away", c.rd(STS))
    all_ports("given away")
    c.wr(PORTSC + 8, 0x3002)
    all_ports("acknowledged")
    c.wr(CONFIG, 0)
    all_ports("not configured")


def no_answer(peer, mine):
    return not peer[0] and [t & 0xcff for t in mine[0]] == [0x48]


VERSIONS = "HID 1.11; five buttons; a packet is 6 bytes; polled every 8 ms"
HID_PART = bytes.fromhex("a032 0904000001030000 00 09211101000122 4800 07058103 0600 07")


@compare([("nobody|old address", no_answer, "the error counter has come to 0 after three tries (EHCI 1.0, 3.5.3); the "
           "peer tries for ever"),
          ("sts", ours(USBERRINT), "the same"),
          ("qualifier", lambda peer, mine: mine[:4] == b"\x0a\x06\0\2" and mine[4:] == peer[4:], "a device qualifier is "
           "of USB 2.0 (USB 2.0, 9.6.2)"),
          ("no such descriptor", lambda peer, mine: [t & 0xff for t in mine[0]] == [0, HALTED], "a SETUP is always "
           "acknowledged, what follows is stalled (USB 2.0, 8.4.6.4)"),
          ("configuration", lambda peer, mine: mine[1:3] == peer[1:3] and mine[3] == HID_PART, VERSIONS),
          ("other speed", None, "the peer's has no full speed")],
         **usb2("usb-tablet,bus=usb.0"))
def test_transfers(m, out):
    """Enumeration at high speed: descriptors' fields that drivers go by, addresses, stalls, tokens with their toggles."""
    c = Controller(m)
    c.start()
    out("nobody", c.control(0, 0x80, 6, 0x100, 0, 8))
    out("sts", c.rd(STS) & 0x3b)
    c.wr(STS, 0x3f)
    c.enable()
    c.wr(STS, 0x3f)
    tokens, d0 = c.control(0, 0x80, 6, 0x100, 0, 64)
    out("device", (tokens, len(d0), d0[2:12], d0[17]))
    out("done", c.rd(STS) & 0x37)
    c.wr(STS, 0x3f)
    out("address", c.control(0, 0, 5, 7))
    out("old address", c.control(0, 0x80, 6, 0x100, 0, 8))
    tokens, d = c.control(7, 0x80, 6, 0x200, 0, 34)
    out("configuration", (tokens, len(d), d[:5], d[7:]))
    out("qualifier", c.control(7, 0x80, 6, 0x600, 0, 10)[1])
    out("other speed", c.control(7, 0x80, 6, 0x700, 0, 9)[1])
    out("not configured", c.control(7, 0x80, 8, 0, 0, 1))
    out("configure", c.control(7, 0, 9, 1))
    out("configured", c.control(7, 0x80, 8, 0, 0, 1))
    out("status", c.control(7, 0x80, 0, 0, 0, 2))
    out("wake-up on", c.control(7, 0, 3, 1))
    out("status with it", c.control(7, 0x80, 0, 0, 0, 2))
    out("languages", c.control(7, 0x80, 6, 0x300, 0, 4))
    out("idle off", c.control(7, 0x21, 10))
    c.wr(STS, 0x3f)
    out("no such descriptor", c.control(7, 0x80, 6, 0x900, 0, 8))
    out("stall", c.rd(STS) & 0x37)
    c.wr(CMD, 0x80071)
    time.sleep(0.05)
    out("doorbell", (c.rd(CMD), c.rd(STS) & 0x34))
    c.poll(7)
    time.sleep(0.05)
    out("nothing to say", c.token(INT_QTD))


@compare([("port reset", j_state, LINE_STATUS)], vga=None, extra=["-device", "usb-ehci,id=x", "-device", "usb-kbd,bus=x.0"])
def test_lone_controller(m, out):
    """As libxl's usbctrl adds it: no companions."""
    for reg in (0, 4, 8, 0xc, 0x3c, 0x60):
        out("config %02x" % reg, m.pci_read(3, 0, reg))
    c = Controller(m, 3, 0)
    out("parameters", c.rd(4))
    out("port reset", c.rd(PORTSC))
    c.start()
    c.enable()
    out("port", c.rd(PORTSC))
    c.control(0, 0, 5, 3)
    out("configure", c.control(3, 0, 9, 1))
    out("idle", c.control(3, 0x21, 10, 0x1900))
    out("idle read", c.control(3, 0xa1, 2, 0, 0, 1))
    out("boot", c.control(3, 0x21, 11, 0))
    out("protocol now", c.control(3, 0xa1, 3, 0, 0, 1))
    out("leds", c.control(3, 0x21, 9, 0x200, 0, b"\x02"))
    out("report", c.control(3, 0xa1, 1, 0x100, 0, 8))


def test_companion(t):
    """A driver of UHCI alone finds the tablet, as a full-speed device; so it does in a port that EHCI gave away."""
    with t.machine(**usb2("usb-tablet,bus=usb.0,port=4")) as m:
        u = Uhci(m, 0x1d, 1)
        for given in (False, True):
            if given:
                e = Controller(m)
                e.start()
                t.equal(u.rd(0x12) & 0xf, 0x02, "gone from the companion")
                e.wr(PORTSC + 12, 0x3002)
            u.start()
            u.enable(1)
            state, d = u.control(0, 0x80, 6, 0x100, 0, 18)
            t.equal((state, d[2:4], d[7]), (0, b"\x10\x01", 8), "device descriptor at full speed")
            u.control(0, 0, 5, 1)
            u.control(1, 0, 9, 1)
            u.control(1, 0x21, 10)
            t.equal(u.control(1, 0x80, 8, 0, 0, 1), (0, b"\1"), "configuration")


def attach(m, address=1):
    c = Controller(m)
    c.start()
    c.enable()
    c.control(0, 0, 5, address)
    c.control(address, 0, 9, 1)
    c.control(address, 0x21, 10)
    c.poll(address)
    time.sleep(0.05)
    return c


@compare([("corner|drag|.*release|.*right|.*middle", inside_pixel,
           "the last pixel is 32767: guests scale and round down, and come to the pixel before it with "
           "the peer's x * 32767 / width")],
         **usb2("usb-tablet,bus=usb.0", vga="stdvga", vnc="127.0.0.1:57,to=99"))
def test_viewer_to_tablet(m, out):
    """What a VNC viewer's pointer does arrives as an absolute report."""
    c = attach(m)
    out("nothing yet", c.token(INT_QTD) & ACTIVE)
    def again():
        c.wr(STS, 1)
        c.poll(1)
    point(m, out, c, again)


def idle_cost(m):
    """(wake-ups per second, CPU ticks in two seconds) while a tablet is polled that does not move."""
    attach(m)
    pid = m.dm_pid()
    time.sleep(1.5)
    ticks, before = cpu_ticks(pid), switches(pid)
    time.sleep(2)
    return (switches(pid) - before) / 2, cpu_ticks(pid) - ticks


def test_idle_tablet(t):
    """Some sixteen wake-ups a second, no measurable CPU; none with the schedules off; no more than the peer's."""
    with fakexen.Machine(dm=t.peer, **usb2("usb-tablet,bus=usb.0")) as m:
        peer = idle_cost(m)
    with t.machine(**usb2("usb-tablet,bus=usb.0")) as m:
        mine = idle_cost(m)
        c = Controller(m)
        c.wr(CMD, 0x80001)
        time.sleep(0.1)
        before = switches(m.dm_pid())
        time.sleep(2)
        off = (switches(m.dm_pid()) - before) / 2
    t.notes.append("%d wake-ups/s, %d ticks in 2 s; peer: %d, %d; schedules off: %.1f" % (mine + peer + (off,)))
    t.check(mine[1] <= 4, "CPU while idle: %d ticks in 2 s" % mine[1])
    t.check(mine[0] < 30, "%d wake-ups per second" % mine[0])
    t.check(mine[0] < peer[0] + 10, "%d wake-ups per second, peer %d" % (mine[0], peer[0]))
    t.check(off < 2, "%.1f wake-ups per second with the schedules off" % off)
