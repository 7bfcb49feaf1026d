# SPDX-License-Identifier: GPL-2.0-or-later
"""USB at run time: device_add, device_del, hubs, and controllers by PCI hot-plug, beside the peer."""
import json
import socket

import pcibus
from harness import compare, ours
from test_uhci import LINE_STATUS, TIMED_OUT, Controller, no_answer, plus_d, usb

UP, DOWN, EJECT, REMOVABLE, GPE_STS, GPE_EN = 0xae00, 0xae04, 0xae08, 0xae0c, 0xafe0, 0xafe2
NAME = "not a driver: the text says that there are such as cannot be added while a guest runs"


class Monitor:
    """QMP, with the events in order with the answers."""

    def __init__(self, m):
        self.q = m.qmp()

    def command(self, name, **arguments):
        """(what went wrong, or the answer, "" if that is empty; ids of DEVICE_DELETED before it, or right after it)."""
        self.q.sock.sendall(json.dumps({"execute": name, "arguments": arguments, "id": 1}).encode() + b"\r\n")
        self.q.sock.settimeout(5)
        gone = []
        while True:
            message = self.q.message()
            if "event" not in message:
                break
            gone += self.deleted(message)
        if "device_del" in name + arguments.get("command-line", ""):
            gone += self.events()
        if "error" in message:
            return "%s: %s" % (message["error"]["class"], message["error"]["desc"]), gone
        return message["return"] or "", gone

    @staticmethod
    def deleted(message):
        return [message["data"].get("device", "-")] if message["event"] == "DEVICE_DELETED" else []

    def events(self):
        """Those that come by themselves: the peer's come after the answer, ours before."""
        gone = []
        self.q.sock.settimeout(0.3)
        try:
            while True:
                gone += self.deleted(self.q.message())
        except socket.timeout:
            return gone

    def add(self, driver, **arguments):
        return self.command("device_add", driver=driver, **arguments)

    def remove(self, ident):
        return self.command("device_del", id=ident)

    def hmp(self, line):
        return self.command("human-monitor-command", **{"command-line": line})[0]


def no_name(peer, mine):
    """Two texts that begin alike."""
    return mine[0].startswith(peer[0]) if isinstance(peer, tuple) else peer[:-2] in mine


@compare([("unknown|hmp unknown", no_name, NAME),
          ("hmp no (driver|id)", None, "a line that says how it is written, as with other commands"),
          ("behind", lambda peer, mine: peer[0] == mine[0] and sorted(peer[1]) == sorted(mine[1]),
           "from the outside in")],
         **usb("tablet"))
def test_answers(m, out):
    q = Monitor(m)
    out("first", q.add("usb-tablet", id="t1"))
    out("again", q.add("usb-tablet", id="t1"))
    out("port taken", q.add("usb-mouse", id="m1", port="1"))
    out("port as a number", q.add("usb-mouse", id="m1", port=1))
    out("no such port", q.add("usb-mouse", id="m1", port="7"))
    out("no such bus", q.add("usb-mouse", id="m1", bus="nope.0"))
    out("no such property", q.add("usb-mouse", id="m1", foo=3))
    out("no identifier", q.add("usb-mouse", id="1m"))
    out("unknown", q.add("frob", id="m1"))
    out("no driver", q.command("device_add", id="m1"))
    out("mouse", q.add("usb-mouse", id="m1"))
    out("keyboard", q.add("usb-kbd", id="k1", bus="usb-bus.0"))
    out("what is there", q.hmp("info usb"))
    out("removed", q.remove("m1"))
    out("removed again", q.remove("m1"))
    out("never there", q.remove("nope"))
    out("no id", q.command("device_del"))
    out("hmp add", q.hmp("device_add usb-mouse,id=mm,port=2.5"))
    out("hmp again", q.hmp("device_add usb-mouse,id=mm"))
    out("hmp bus", q.hmp("device_add usb-mouse,id=nn,bus=x"))
    out("hmp port", q.hmp("device_add usb-mouse,id=oo,port=2.5"))
    out("hmp unknown", q.hmp("device_add usb-foo"))
    out("hmp no driver", q.hmp("device_add"))
    out("hmp no id", q.hmp("device_del"))
    out("hmp never there", q.hmp("device_del nono"))
    out("hmp remove", q.hmp("device_del mm"))
    out("hub", q.add("usb-hub", id="h1", port="2.8"))
    out("hub in hub", q.add("usb-hub", id="h2", port="2.8.8"))
    out("far away", q.add("usb-tablet", id="t2", port="2.8.8.1"))
    out("there", q.hmp("info usb"))
    out("behind", q.remove("h1"))
    out("without", q.hmp("info usb"))
    out("as QMP", q.command("x-query-usb"))


def test_three_devices(t):
    """usb=1 with three usbdevices, as the peer lays them out; refusals at the start."""
    with t.machine(**usb("tablet", "keyboard", "mouse")) as m:
        t.equal(Monitor(m).hmp("info usb"),
                "  Device 0.0, Port 1, Speed 12 Mb/s, Product QEMU USB Tablet\r\n"
                "  Device 0.0, Port 2, Speed 12 Mb/s, Product QEMU USB Hub\r\n"
                "  Device 0.0, Port 2.1, Speed 12 Mb/s, Product QEMU USB Keyboard\r\n"
                "  Device 0.0, Port 2.2, Speed 12 Mb/s, Product QEMU USB Mouse\r\n")
    for extra, text in ((["-device", "usb-tablet"], "No 'usb-bus' bus found"),
                        (["-usb", "-device", "usb-kbd,bus=x.0"], "Bus 'x.0' not found"),
                        (["-usb", "-device", "usb-kbd,port=3"], "usb port 3 (bus usb-bus.0) not found")):
        with t.machine(extra=extra, wait=False) as m:
            m.wait_exit()
            t.check("cannot create the USB devices: " + text in m.log(), m.log())


@compare(**usb(*["tablet"] * 11))
def test_many(m, out):
    """A hub at the end of the hub."""
    out("usb", Monitor(m).hmp("info usb"))


HUB_DIFFERENCES = [
    ("hub descriptor", lambda peer, mine: peer[1][1:9] == mine[1][1:9] and mine[1][0] == len(mine[1]) == 11,
     "its length counts all of its bytes (USB 1.1, 11.15.2.1), and PortPwrCtrlMask is two"),
    ("string 2", lambda peer, mine: mine[1] == peer[1][:1].replace(b"\x2c", b"\x0e") + peer[1][1:14],
     "the peer appends the place to the serial number"),
    ("interface status", ours((0, bytes(2))), "every configured interface answers GET_STATUS (USB 1.1, 9.4.5)"),
    (".*(reset|resumed|disabled)( ack)?|asleep", lambda peer, mine: mine == peer & ~(2 << 16),
     "C_PORT_ENABLE is for errors on the port only (USB 1.1, 11.16.2.6.2)"),
    (".*asleep: who is there", lambda peer, mine: mine[0] == 0x44,
     "what sleeps does not hear (USB 1.1, 11.16.2.6.1); and a stall beside the timeout"),
    ("tablet", lambda peer, mine: peer[0] == mine[0] and peer[1][:2] == mine[1][:2], "USB 1.1 at full speed"),
    (".*nobody", no_answer, TIMED_OUT),
]


@compare(HUB_DIFFERENCES, vga=None, extra=["-usb", "-device", "usb-hub,id=h,port=1", "-device", "usb-tablet,port=1.3"])
def test_hub(m, out):
    """A hub by the registers of its class, and a device behind it."""
    c = Controller(m)
    c.start()
    c.enable()

    def status(name, port=3):
        state, data = c.control(7, 0xa3, 0, 0, port, 4)
        out(name, int.from_bytes(data, "little") if state == 0 else state)

    device = c.control(0, 0x80, 6, 0x100, 0, 18)
    out("device", device)
    out("address", c.control(0, 0, 5, 7))
    out("configuration", c.control(7, 0x80, 6, 0x200, 0, 64))
    out("configured", c.control(7, 0, 9, 1))
    out("hub descriptor", c.control(7, 0xa0, 6, 0x2900, 0, 64))
    for i in range(3):
        out("string %d" % i, c.control(7, 0x80, 6, 0x300 | device[1][14 + i], 0x409, 64))
    out("hub status", c.control(7, 0xa0, 0, 0, 0, 4))
    out("device status", c.control(7, 0x80, 0, 0, 0, 2))
    out("interface status", c.control(7, 0x81, 0, 0, 0, 2))
    c.poll(7)
    out("changes", c.report())
    for port in range(1, 9):
        status("port %d" % port, port)
    out("no port 0", c.control(7, 0xa3, 0, 0, 0, 4)[0])
    out("no port 9", c.control(7, 0xa3, 0, 0, 9, 4)[0])
    out("reset port 9", c.control(7, 0x23, 3, 4, 9)[0])
    out("power", c.control(7, 0x23, 3, 8, 3))
    out("no power", c.control(7, 0x23, 1, 8, 3))
    status("still there")
    out("ack connection", c.control(7, 0x23, 1, 16, 3))
    status("connection ack")
    out("nobody", c.control(0, 0x80, 6, 0x100, 0, 8))
    out("do reset", c.control(7, 0x23, 3, 4, 3))
    status("reset")
    c.control(7, 0x23, 1, 20, 3)
    status("reset ack")
    out("tablet", c.control(0, 0x80, 6, 0x100, 0, 8)[:1] + (b"\x12\x01",))
    out("suspend", c.control(7, 0x23, 3, 2, 3))
    status("asleep")
    out("asleep: who is there", c.control(0, 0x80, 6, 0x100, 0, 8)[:1])
    out("resume", c.control(7, 0x23, 1, 2, 3))
    status("resumed")
    c.control(7, 0x23, 1, 18, 3)
    status("resumed ack")
    out("set address", c.control(0, 0, 5, 9))
    out("configure", c.control(9, 0, 9, 1))
    out("is configured", c.control(9, 0x80, 8, 0, 0, 1))
    out("disable", c.control(7, 0x23, 1, 1, 3))
    status("disabled")
    for kind, request, feature, index in ((0x23, 3, 1, 3), (0x23, 1, 99, 3), (0x23, 3, 99, 3), (0x23, 1, 17, 3),
                                          (0x23, 1, 19, 3), (0x20, 3, 0, 0), (0x20, 3, 1, 0), (0x20, 1, 0, 0),
                                          (0x20, 1, 5, 0), (0x20, 7, 0x2900, 0)):
        out("request %02x %d feature %d" % (kind, request, feature), c.control(7, kind, request, feature, index))
    out("bus state", c.control(7, 0xa3, 2, 0, 3, 1)[0])


@compare([("port1 .*", plus_d, LINE_STATUS)], **usb("tablet"))
def test_guest_sees(m, out):
    """The guest's port and its hub when devices come and go."""
    q = Monitor(m)
    c = Controller(m)
    c.start()
    c.enable()
    q.add("usb-mouse", id="m")
    out("port1 before", c.rd(0x10) & ~0x80)
    out("port2 has a hub", c.rd(0x12) & 3)
    c.enable(1)
    c.control(0, 0, 5, 7)       # the tablet at port 1 and the hub at port 2 both hear it
    out("hub", q.add("usb-hub", id="h", port="2.7"))
    out("gone", q.remove("h"))
    out("of start", q.hmp("info usb").count("Hub"))


def slots(m):
    return [d for d in range(2, 32) if m.pci_read(d, 0, 0) != 0xffffffff]


@compare([("no slot", lambda peer, mine: peer[0].startswith(mine[0]), "the peer says who is there")], vga="stdvga")
def test_controller(m, out):
    """xl usbctrl-attach and -detach: PCI hot-plug as Xen's DSDT sees it, and the guest's eject."""
    q = Monitor(m)
    before = slots(m)
    m.outw(GPE_EN, 2)
    out("before", (m.inl(UP), m.inl(DOWN), m.inw(GPE_STS)))
    out("added", q.add("piix3-usb-uhci", id="xenusb-0"))
    slot = [d for d in slots(m) if d not in before]
    out("slot", slot)
    slot = slot[0]
    out("told", (m.inl(UP), m.inl(DOWN), m.inw(GPE_STS)))
    m.outw(GPE_STS, 2)
    out("ack", (m.inl(UP), m.inl(DOWN), m.inw(GPE_STS)))
    out("config", [m.pci_read(slot, 0, reg) for reg in (0, 8, 0x2c, 0x3c)])
    out("in it", q.add("usb-tablet", id="t", bus="xenusb-0.0"))
    out("usb there", q.hmp("info usb"))
    c = Controller(m, slot, 0)
    out("registers", [c.rd(reg) for reg in (0, 2, 4, 6)])
    out("second", q.add("piix3-usb-uhci", id="xenusb-1", addr="0x10"))
    out("no slot", q.add("piix3-usb-uhci", id="xenusb-2", addr="0x10"))
    out("told of it", m.inl(UP))
    out("asked", q.remove("xenusb-0"))
    out("down", (m.inl(DOWN), m.inw(GPE_STS)))
    out("twice", q.remove("xenusb-0"))
    m.outw(GPE_STS, 2)
    m.outl(EJECT, 1 << slot)
    out("events", q.events())
    out("ejected", (m.inl(UP), m.inl(DOWN), m.pci_read(slot, 0, 0), c.rd(2)))
    out("usb gone", q.hmp("info usb"))
    out("unknown now", q.remove("xenusb-0"))
    out("free again", q.add("piix3-usb-uhci", id="xenusb-0"))
    out("same slot", slots(m))


def test_eject_event(t):
    """The guest's eject is told, devices before their controller; and nothing else can be ejected."""
    with t.machine(vga="stdvga", extra=["-device", "ahci,id=ahci0"]) as m:
        q = Monitor(m)
        before = slots(m)
        t.equal(q.add("piix3-usb-uhci", id="xenusb-0"), ("", []))
        for driver in ("usb-tablet", "usb-mouse"):
            t.equal(q.add(driver, id=driver[-3:], bus="xenusb-0.0"), ("", []))
        slot = [d for d in slots(m) if d not in before][0]
        for other in before + [0, 1, 31]:
            m.outl(EJECT, 1 << other)
        t.equal(slots(m), sorted(before + [slot]))
        t.equal(q.remove("xenusb-0"), ("", []))
        m.outl(EJECT, 1 << slot)
        t.equal(q.events(), ["let", "use", "-", "xenusb-0"])
        t.equal(slots(m), before)


def test_libxl_usbctrl(t):
    """What libxl sends for usbctrl= and usbdev=, in the types that it sends."""
    with t.machine() as m:
        q = Monitor(m)
        t.equal(q.command("device_add", id="xenusb-0", driver="piix3-usb-uhci"), ("", []))
        text = q.command("device_add", id="xenusb-1-2", driver="usb-host", bus="xenusb-0.0", port="1", hostbus="1",
                         hostaddr="2")[0]
        t.equal(text, "GenericError: usb-host: passing through USB devices of the host is not supported")
        t.equal(q.remove("xenusb-0"), ("", []))


def test_many_times(t):
    """A thousand times in and out: the same memory."""
    def private(m):
        with open("/proc/%d/smaps_rollup" % m.dm_pid()) as f:
            return sum(int(line.split()[1]) for line in f if line.startswith("Private_Dirty"))

    with t.machine(**usb("tablet", "keyboard")) as m:
        q = m.qmp()
        sizes = []
        for turn in range(1000):
            for driver, ident in (("piix3-usb-uhci", "c"), ("usb-hub", "h"), ("usb-mouse", "m")):
                r = q.command("device_add", driver=driver, id=ident, **({"bus": "c.0"} if driver == "usb-hub" else {}))
                t.check("return" in r, r)
            slot = [d for d in (2, 3, 4, 5) if m.pci_read(d, 0, 0) == 0x70208086][0]
            for ident in ("m", "c"):
                q.command("device_del", id=ident)
            m.outl(EJECT, 1 << slot)
            if turn in (100, 999):
                sizes.append(private(m))
        t.check(sizes[1] - sizes[0] < 200, "private memory %d -> %d KiB" % tuple(sizes))
        t.notes.append("%d -> %d KiB" % tuple(sizes))
