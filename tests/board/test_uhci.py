# SPDX-License-Identifier: GPL-2.0-or-later
"""UHCI with tablet, mouse or keyboard: registers, enumeration and control transfers against the peer; input, idle cost."""
import struct
import time

import pcibus
from harness import compare, ours
import rfb

USBCMD, USBSTS, USBINTR, FRNUM, FLBASE, SOFMOD, PORTSC = 0, 2, 4, 6, 8, 0xc, 0x10
OUT, IN, SETUP = 0xe1, 0x69, 0x2d
FRAMES, QH, INT_QH, TDS, BUF, INT_TD, INT_BUF = (0x100000, 0x101000, 0x101020, 0x102000, 0x104000,
                                                 0x103000, 0x105000)
ACTIVE, IOC, ERRORS = 1 << 23, 1 << 24, 3 << 27
D_PLUS = 0x10


def usb(*devices, **kw):
    extra = ["-usb"]
    for d in devices:
        extra += ["-usbdevice", d]
    return dict(vga=kw.pop("vga", None), extra=extra, **kw)


class Controller:
    """A driver: all frames lead to the interrupt queue, and from there to the control queue."""

    def __init__(self, m, dev=1, fn=2):
        self.m = m
        placed = pcibus.assign(m)
        self.io = next(p[4] for p in placed if p[:3] == (dev, fn, 4))

    def rd(self, reg):
        return self.m.inw(self.io + reg)

    def wr(self, reg, value):
        self.m.outw(self.io + reg, value)

    def start(self):
        self.m.write(FRAMES, struct.pack("<I", INT_QH | 2) * 1024)
        self.m.write(INT_QH, struct.pack("<II", QH | 2, 1))
        self.m.write(QH, struct.pack("<II", 1, 1))
        self.m.outl(self.io + FLBASE, FRAMES)
        self.wr(USBINTR, 0xf)
        self.wr(USBCMD, 0xc1)

    def enable(self, port=0):
        self.wr(PORTSC + 2 * port, 0x200)
        time.sleep(0.02)
        self.wr(PORTSC + 2 * port, 0)
        self.wr(PORTSC + 2 * port, 0xe)

    def td(self, at, link, status, pid, device, endpoint, size, buf):
        self.m.write(at, struct.pack("<IIII", link, status,
                                     (size - 1 & 0x7ff) << 21 | endpoint << 15 | device << 8 | pid, buf))

    def status(self, at):
        return self.m.readl(at + 4)

    def control(self, device, kind, request, value=0, index=0, data=0):
        """(status byte of the last descriptor that ran, bytes of the data stage)."""
        size = data if isinstance(data, int) else len(data)
        incoming = bool(kind & 0x80) and size > 0
        self.m.writel(QH + 4, 1)  # what stalled there is still linked
        self.m.write(BUF, struct.pack("<BBHHH", kind, request, value, index, size))
        if not incoming and size:
            self.m.write(BUF + 8, data)
        tds = [(SETUP, 8, BUF)]
        tds += [(IN if incoming else OUT, min(8, size - at), BUF + 8 + at) for at in range(0, size, 8)]
        tds.append((OUT if incoming else IN, 0, 0))
        for i, (pid, n, buf) in enumerate(tds):
            last = i == len(tds) - 1
            self.td(TDS + 16 * i, 1 if last else TDS + 16 * (i + 1) | 4, ACTIVE | ERRORS | (IOC if last else 0),
                    pid, device, 0, n, buf)
        self.m.writel(QH + 4, TDS)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            element = self.m.readl(QH + 4)
            if element & 1 or not self.status(element & ~15) & ACTIVE:
                break
            time.sleep(0.001)
        states = [self.status(TDS + 16 * i) for i in range(len(tds))]
        ran = [s for s in states if not s & ACTIVE]
        got = sum((s + 1) & 0x7ff for s in states[1:-1] if not s & (ACTIVE | 0x7e0000))
        return ran[-1] >> 16 & 0xff if ran else None, self.m.read(BUF + 8, got) if incoming and got else b""

    def poll(self, device):
        """Queues an interrupt descriptor."""
        self.td(INT_TD, 1, ACTIVE | IOC | ERRORS, IN, device, 1, 8, INT_BUF)
        self.m.writel(INT_QH + 4, INT_TD)

    def report(self, seconds=5):
        """Its data when it is done; None: nothing came."""
        end = time.monotonic() + seconds
        while self.status(INT_TD) & ACTIVE:
            if time.monotonic() > end:
                return None
            time.sleep(0.001)
        return self.m.read(INT_BUF, (self.status(INT_TD) + 1) & 0x7ff)


def no_answer(peer, mine):
    return (peer[0], mine[0]) == (0x04, 0x44) and peer[1:] == mine[1:]


TIMED_OUT = "the error counter at 0 is a stall, besides the timeout (UHCI 1.1, 3.2.2)"
LINE_STATUS = "line status: an idle full-speed device pulls D+ up (UHCI 1.1, 2.1.7); the peer leaves the bits 0"


def plus_d(peer, mine):
    return peer == mine & ~D_PLUS


VERSIONS = "HID 1.11; five buttons; a packet is 6 bytes; polled every 8 ms"
HID_PART = bytes.fromhex("a032 0904000001030000 00 09 211101000122 4800 07 058103 0600 08")


@compare([(r"port1 .*", plus_d, LINE_STATUS),
          ("ones 04", ours(0x0f), "USBINTR has four bits (UHCI 1.1, 2.1.3)"),
          ("status cleared", ours(0x20), "halted is a state on Intel's chips, whatever UHCI 1.1 says"),
          ("legacy", ours(0x2000), "LEGSUP is 2000h at reset (PIIX3 datasheet, 2.4.17)"),
          ("legacy ones", ours(0x20bf), "LEGSUP's writable bits (PIIX3 datasheet, 2.4.17)")], **usb("tablet"))
def test_registers(m, out):
    for reg in (0, 4, 8, 0xc, 0x2c, 0x34, 0x3c, 0x60):
        out("config %02x" % reg, m.pci_read(1, 2, reg))
    out("legacy", m.pci_read(1, 2, 0xc0, 2))
    m.pci_write(1, 2, 0xc0, 0xffff, 2)
    out("legacy ones", m.pci_read(1, 2, 0xc0, 2))
    m.pci_write(1, 2, 0xc0, 0x2000, 2)
    c = Controller(m)
    for reg in range(0, 0x20, 2):
        out("reset %02x" % reg if reg != PORTSC else "port1 reset", c.rd(reg))
    for reg, value in ((USBINTR, 0xffff), (FLBASE, 0xffff), (FLBASE + 2, 0xffff), (FRNUM, 0xffff)):
        c.wr(reg, value)
        out("ones %02x" % reg, c.rd(reg))
    c.wr(USBCMD, 1)
    out("running", (c.rd(USBCMD), c.rd(USBSTS)))
    c.wr(USBCMD, 0)
    out("stopped", (c.rd(USBCMD), c.rd(USBSTS)))
    c.wr(USBSTS, 0x3f)
    out("status cleared", c.rd(USBSTS))
    for name, value in (("connect change cleared", 2), ("enabled", 4), ("in reset", 0x200), ("after reset", 0),
                        ("enabled again", 4)):
        c.wr(PORTSC, value)
        out("port1 " + name, c.rd(PORTSC))
    c.wr(PORTSC + 2, 2)
    out("port2", c.rd(PORTSC + 2))


@compare([("nobody|old address", no_answer, TIMED_OUT),
          ("configuration", lambda peer, mine: peer[:3] == mine[:3] and mine[3] == HID_PART, VERSIONS)],
         **usb("tablet"))
def test_transfers(m, out):
    """Descriptors' fields that drivers go by, addresses, stalls, timeouts, status bits."""
    c = Controller(m)
    c.start()
    out("nobody", c.control(0, 0x80, 6, 0x100, 0, 8))
    out("sts", c.rd(USBSTS))
    c.wr(USBSTS, 0x3f)
    c.enable()
    state, d0 = c.control(0, 0x80, 6, 0x100, 0, 18)
    out("device", (state, len(d0), d0[4:12], d0[17]))
    out("done", c.rd(USBSTS))
    c.wr(USBSTS, 0x3f)
    out("address", c.control(0, 0, 5, 7))
    out("old address", c.control(0, 0x80, 6, 0x100, 0, 8))
    state, d = c.control(7, 0x80, 6, 0x200, 0, 34)
    out("configuration", (state, len(d), d[:5], d[7:]))
    out("not configured", c.control(7, 0x80, 8, 0, 0, 1))
    out("configure", c.control(7, 0, 9, 1))
    out("configured", c.control(7, 0x80, 8, 0, 0, 1))
    out("status", c.control(7, 0x80, 0, 0, 0, 2))
    out("wake-up on", c.control(7, 0, 3, 1))
    out("status with it", c.control(7, 0x80, 0, 0, 0, 2))
    out("wake-up off", c.control(7, 0, 1, 1))
    for i in range(3):
        out("string %d" % i, c.control(7, 0x80, 6, 0x300 | d0[14 + i], 0x409, 32))
    out("languages", c.control(7, 0x80, 6, 0x300, 0, 4))
    out("idle off", c.control(7, 0x21, 10))
    c.wr(USBSTS, 0x3f)
    out("no such descriptor", c.control(7, 0x80, 6, 0x900, 0, 8))
    out("stall", c.rd(USBSTS))


@compare(**usb("keyboard"))
def test_keyboard_requests(m, out):
    c = Controller(m)
    c.start()
    c.enable()
    c.control(0, 0, 5, 3)
    state, d = c.control(3, 0x80, 6, 0x200, 0, 34)
    out("configuration", (state, d[9:18]))
    c.control(3, 0, 9, 1)
    out("idle", c.control(3, 0x21, 10, 0x1900))
    out("idle read", c.control(3, 0xa1, 2, 0, 0, 1))
    out("protocol", c.control(3, 0xa1, 3, 0, 0, 1))
    out("boot", c.control(3, 0x21, 11, 0))
    out("protocol now", c.control(3, 0xa1, 3, 0, 0, 1))
    out("leds", c.control(3, 0x21, 9, 0x200, 0, b"\x02"))
    out("report", c.control(3, 0xa1, 1, 0x100, 0, 8))


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


def test_places(t):
    """-usb is 01.2; usbversion=1 takes a slot in the order of -device; the second device comes with a hub."""
    with t.machine(**usb("tablet", "keyboard", vga="stdvga")) as m:
        t.equal(m.pci_read(1, 2, 0), 0x70208086, "01.2")
        c = Controller(m)
        t.equal([c.rd(PORTSC + 2 * i) & 1 for i in range(2)], [1, 1], "both ports")
    with t.machine(vga="stdvga", extra=["-device", "piix3-usb-uhci,id=usb"]) as m:
        t.equal(m.pci_read(1, 2, 0), 0xffffffff, "01.2")
        t.equal(m.pci_read(4, 0, 0), 0x70208086, "04.0")
        c = Controller(m, 4, 0)
        t.equal(c.rd(PORTSC), 0x80, "an empty port")


def inside_pixel(peer, mine):
    """The same buttons and wheel, and places less than a pixel (of at least 400) apart."""
    a, b = (struct.unpack("<BHHb", x) for x in (peer, mine))
    return a[0] == b[0] and a[3] == b[3] and all(0 <= y - x < 32768 // 400 for x, y in zip(a[1:3], b[1:3]))


def point(m, out, c, again):
    """A VNC viewer points and clicks; each comes as a report of the tablet that c polls. again(): polls for the next one."""
    viewer = rfb.Rfb(rfb.port_of(m))
    w, h = viewer.width - 1, viewer.height - 1
    for name, x, y, buttons in (("corner", w, h, 0), ("origin", 0, 0, 0), ("left", 0, 0, 1), ("drag", w, 0, 1),
                                ("release", w, 0, 0), ("right", w, 0, 4), ("no right", w, 0, 0),
                                ("middle", w, 0, 2), ("no middle", w, 0, 0)):
        viewer.pointer(x, y, buttons)
        out(name, c.report())
        again()
        time.sleep(0.02)
    viewer.close()


@compare([("corner|drag|.*release|.*right|.*middle", inside_pixel,
           "the last pixel is 32767: guests scale and round down, and come to the pixel before it with "
           "the peer's x * 32767 / width")],
         **usb("tablet", vga="stdvga", vnc="127.0.0.1:57,to=99"))
def test_viewer_to_tablet(m, out):
    """What a VNC viewer's pointer does arrives as an absolute report."""
    c = attach(m)
    out("nothing yet", c.status(INT_TD) & ACTIVE)
    def again():
        c.wr(USBSTS, 1)
        c.poll(1)
    point(m, out, c, again)


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def switches(pid):
    with open("/proc/%d/status" % pid) as f:
        return sum(int(x.split()[1]) for x in f if x.startswith("voluntary_ctxt"))


def test_idle_tablet(t):
    """A polled tablet that does not move: some thirty wake-ups a second (the peer: a thousand), no
    measurable CPU."""
    with t.machine(**usb("tablet")) as m:
        attach(m)
        pid = m.dm_pid()
        time.sleep(1.5)
        ticks, before = cpu_ticks(pid), switches(pid)
        time.sleep(2)
        per_second = (switches(pid) - before) / 2
        t.check(cpu_ticks(pid) - ticks <= 4, "CPU while idle: %d ticks in 2 s" % (cpu_ticks(pid) - ticks))
        t.check(per_second < 60, "%d wake-ups per second" % per_second)
        t.notes.append("%d wake-ups/s, %d ticks in 2 s" % (per_second, cpu_ticks(pid) - ticks))
