# SPDX-License-Identifier: GPL-2.0-or-later
"""ATAPI CD drives: hundreds of sequences put to the peer and to hvm-dm; see idescript.py for the form of
results and of the tables. MMC-5 is T10/1675-D, SPC-3 is T10/1416-D, ATA-6 is T13/1410D."""
import random
import struct

from harness import compare
from ide import BUFFER
from idescript import digest, drives, four_drives, may, state
from test_atapi import cdb, read10, read12, settle

BLOCKS = 4 << 9


def sequences(*justified, **kw):
    kw.setdefault("argv", four_drives)
    kw.setdefault("iso", True)
    return compare(justified, disk=True, **kw)


def packet(d, c, limit=0xfffe, dma=None, ms=5000):
    """A packet command with its whole data phase; REQUEST SENSE after an error. dma: bytes of the list,
    ms: how long to wait for its end."""
    data, phases, status, error = d.packet(c, limit, dma=dma, ms=ms)
    s = {"data": data.hex() if len(data) <= 256 else digest(data), "size": len(data), "st": status,
         "err": error, "phases": " ".join(p if isinstance(p, str) else "/".join("%02x" % x for x in p) for p in phases)}
    s["sense"] = ""
    if status & 1 and error & 0xf0:
        x = d.packet(cdb(3, 0, 0, 0, 18))[0]
        s["sense"] = "%x/%02x/%02x" % (x[2], x[12], x[13])
    s["after"] = state(d)["irq"]
    return s


def drive(m):
    d = drives(m)[2]
    settle(d)
    return d


def toc(fmt, msf, track, old):
    """READ TOC/PMA/ATIP of a disc with one data track: MMC-5 6.26.3; formats in byte 9: SFF-8020i 10.8.20."""
    fmt = fmt or old >> 6

    def place(lba, msf=msf):
        return bytes((0, (lba + 150) // 4500, (lba + 150) // 75 % 60, (lba + 150) % 75)) if msf else struct.pack(">I", lba)
    if fmt == 0 and track in (0, 1, 0xaa):
        body = (b"" if track == 0xaa else b"\0\x14\x01\0" + place(0)) + b"\0\x16\xaa\0" + place(BLOCKS)
    elif fmt == 1:
        body = b"\0\x14\x01\0" + place(0)
    elif fmt == 2:
        body = b"".join(bytes((1, 0x14, 0, point, 0, 0, 0)) + at for point, at in (
            (0xa0, b"\0\1\0\0"), (0xa1, b"\0\1\0\0"), (0xa2, place(BLOCKS, True)), (1, place(0, True))))
    else:
        return None
    return struct.pack(">HBB", len(body) + 2, 1, 1) + body


PAGES = {0x01: "0106000500000000", 0x0e: "0e0e0000000000002000200020002000",
         0x2a: "2a143b007160290002c00002020002c0000000000000"}


def mode_sense(six, page):
    """SFF-8020i 10.8.6 and its tables 36 to 53; SPC-3 6.9 for page 3Fh and the page control field."""
    if page >> 6 == 3:
        return None
    pages = [bytes.fromhex(v) for k, v in PAGES.items() if page & 0x3f in (k, 0x3f)]
    if page >> 6 == 1:
        pages = [v[:2].ljust(len(v), b"\0") for v in pages]
    body = b"".join(pages)
    if not body:
        return None
    return (bytes((len(body) + 3, 1, 0, 0)) if six else struct.pack(">HB5x", len(body) + 6, 1)) + body


FEATURES = ["0000030800100000" "00080100", "00010b080000000201000000", "0002070402000000", "00030b0429000000",
            "001001080000080000100000", "001d0100", "001e090400000000", "001f0000"]


def configuration(rt, start):
    """GET CONFIGURATION of a DVD-ROM drive with a CD: MMC-5 6.5.2 and chapter 5."""
    chosen = [bytes.fromhex(f) for f in FEATURES]
    chosen = [f for f in chosen if (f[0] << 8 | f[1] == start if rt == 2 else f[0] << 8 | f[1] >= start) and
              (rt != 1 or f[2] & 1)]
    body = b"".join(chosen)
    return None if rt == 3 else struct.pack(">IHH", len(body) + 4, 0, 8) + body


MODELS = {"toc": toc, "mode sense": mode_sense, "configuration": configuration}


def model(a, b):
    """Ours is the answer of a model above, cut to the allocation length, or 5/24/00 (5/39/00: saved pages)."""
    name, *args = b["args"]
    answer = MODELS[name](*args)
    saved = name == "mode sense" and args[1] >> 6 == 3
    if answer is None:
        return (b["st"], b["err"], b["data"], b["sense"]) == (0x41, 0x50, "", "5/39/00" if saved else "5/24/00")
    return (b["st"], b["err"], b["data"]) == (0x50, 0, answer[:254].hex())


def refused(sense):
    """Ours ends with this sense and no data."""
    return lambda a, b: (b["st"], b["err"] >> 4, b["data"], b["sense"]) == (0x41, int(sense[0]), "", sense)


EVENT = may(data=lambda a, b: (a[:2], a[2:4], a[4:]) == (b[:2], "%02x" % (int(b[2:4], 16) - 2), b[4:]))
EVENT_WHY = "MMC-5 6.6.2: the event data length counts what follows it"
DVD_WHY = "MMC-5 6.23.2: a CD is 5/30/02, cannot read medium, incompatible format"


LONGER = lambda a, b: b.replace("05/50/00", "04/50/00") == a  # Active stays set
LIST_WHY = "PIIX3 2.3.2: a list that was not used up leaves Active set"


def cut(full, *old):
    """Ours is this answer (hex) cut to the peer's allocation or more; the peer's begins with one of old."""
    def accept(a, b):
        mine, theirs = b["data"].rstrip("0"), a["data"]
        return (b["st"], b["err"]) == (0x50, 0) and full.startswith(mine) and any(
            theirs.startswith(x) or x.startswith(theirs) for x in old)
    return accept


VPD_83 = (bytes((5, 0x83, 0, 96, 2, 0, 0, 20)) + b"QM00003".ljust(20) + bytes((2, 1, 0, 68)) + b"ATA".ljust(8) +
          b"QEMU DVD-ROM".ljust(40) + b"QM00003".ljust(20)).hex()
CONFIGURATION = configuration(0, 0).hex()
TOC_1 = toc(1, 0, 0, 0).hex()


COMMANDS = {
    "test unit ready": lambda n: cdb(0x00), "request sense": lambda n: cdb(0x03, 0, 0, 0, n & 255),
    "inquiry": lambda n: cdb(0x12, 0, 0, n >> 8, n & 255), "capacity": lambda n: cdb(0x25),
    "vpd 00": lambda n: cdb(0x12, 1, 0, n >> 8, n & 255), "vpd 83": lambda n: cdb(0x12, 1, 0x83, n >> 8, n & 255),
    "toc 0": lambda n: cdb(0x43, 0, 0, 0, 0, 0, 0, n >> 8, n & 255),
    "toc 0 msf": lambda n: cdb(0x43, 2, 0, 0, 0, 0, 0, n >> 8, n & 255),
    "toc 1 old": lambda n: cdb(0x43, 0, 0, 0, 0, 0, 0, n >> 8, n & 255, 0x40),
    "toc 2 old": lambda n: cdb(0x43, 2, 0, 0, 0, 0, 0, n >> 8, n & 255, 0x80),
    "sense page 1": lambda n: cdb(0x5a, 0, 1, 0, 0, 0, 0, n >> 8, n & 255),
    "sense page 2a": lambda n: cdb(0x5a, 0, 0x2a, 0, 0, 0, 0, n >> 8, n & 255),
    "configuration": lambda n: cdb(0x46, 0, 0, 0, 0, 0, 0, n >> 8, n & 255),
    "event": lambda n: cdb(0x4a, 1, 0, 0, 0x10, 0, 0, n >> 8, n & 255),
    "disc information": lambda n: cdb(0x51, 0, 0, 0, 0, 0, 0, n >> 8, n & 255),
    "mechanism": lambda n: cdb(0xbd, 0, 0, 0, 0, 0, 0, 0, n >> 8, n & 255),
    "dvd 0": lambda n: cdb(0xad, 0, 0, 0, 0, 0, 0, 0, n >> 8, n & 255),
    "dvd list": lambda n: cdb(0xad, 0, 0, 0, 0, 0, 0, 0xff, n >> 8, n & 255),
}


@sequences((".* dma .*", may(phases=LONGER), LIST_WHY),
           ("dvd 0 .*", may(sense=[("5/30/00", "5/30/02")]), DVD_WHY), ("event .*", EVENT, EVENT_WHY),
           ("event dma .*", lambda a, b: EVENT(dict(a, phases=b["phases"]), b) and LONGER(a["phases"], b["phases"]),
            EVENT_WHY + "; " + LIST_WHY),
           ("toc 1 old .*", cut(TOC_1, "000a0101"), "MMC-5 6.26.3.3: the first track of the last session is described"),
           ("sense page .*", cut(mode_sense(0, 1).hex(), "000e70"), "SFF-8020i table 36: medium type, 01h: a data CD"),
           ("sense page .*", cut(mode_sense(0, 0x2a).hex(), "001c70"), "SFF-8020i table 36: medium type, 01h: a data CD"),
           ("configuration .*", cut(CONFIGURATION, "00000010"), "MMC-5 5.3.3 to 5.3.22: features that a DVD-ROM drive has"),
           ("(inquiry|vpd 00) (256|2048)", lambda a, b: (a["size"], b["st"], b["err"], b["size"]) in (
               (0, 0x50, 0, 36), (0, 0x50, 0, 6)), "SPC-3 6.4.1: the allocation length has two bytes"),
           ("vpd 83 .*", lambda a, b: (b["st"], b["err"], VPD_83.startswith(b["data"])) == (0x50, 0, True),
            "SPC-3 4.3.4.6, 7.6.3: the page is cut to the allocation length, its own length stays"))
def test_lengths(m, out):
    """Every answer with allocation lengths from 0 to more than there is, by PIO in blocks of every
    size, and by DMA."""
    d = drive(m)
    for name, make in COMMANDS.items():
        for n in (0, 2, 4, 6, 8, 10, 12, 16, 18, 20, 30, 34, 36, 48, 96, 100, 254, 256, 2048, 65534):
            out("%s %d" % (name, n), packet(d, make(n)))
            d.reset()
        for limit in (2, 4, 8, 10, 16, 512, 0xffff):
            out("%s by %d" % (name, limit), packet(d, make(254), limit))
            d.reset()
        for size in (254, 256):
            m.cmd("memset %#x 0x1000 0" % BUFFER)
            out("%s dma %d" % (name, size), packet(d, make(254), dma=size))
            d.reset()


@sequences((".* three into (2|2046|2048|4096|6142)", may(st=[(0xd8, 0x50)], phases=lambda a, b: b == a.replace("d8", "50")),
            "PIIX3 2.3.2: a list that is too short ends with Active and Interrupt clear, and both do; no standard says "
            "what the drive shows whose data nobody takes"),
           (".* into 8192", may(phases=LONGER), LIST_WHY))
def test_reads(m, out):
    """READ(10), READ(12), READ CD at every boundary and in blocks of every size."""
    d = drive(m)

    def readcd(lba, n):
        return struct.pack(">BBIBHB", 0xbe, 0, lba, 0, n, 0x10)
    for name, make in (("read10", read10), ("read12", read12), ("readcd", readcd)):
        for lba, n in ((0, 1), (0, 0), (BLOCKS - 1, 1), (BLOCKS - 2, 2), (BLOCKS, 1), (BLOCKS, 0), (BLOCKS - 1, 2),
                       (0xffffffff, 1), (0x80000000, 1), (0x80000000, 0), (7, 3), (1, 32)):
            out("%s %#x %d" % (name, lba, n), packet(d, make(lba, n), 0x8000))
            d.reset()
            size = max(n, 1) * 2048
            m.cmd("memset %#x %d 0x11" % (BUFFER, size))
            out("%s %#x %d dma" % (name, lba, n), packet(d, make(lba, n), dma=size))
            d.reset()
        for limit in (2, 4, 100, 510, 512, 1022, 1024, 2046, 2048, 2050, 3000, 4094, 4096, 6144, 0x7ffe, 0x8000, 0xfffe,
                      0xffff):
            out("%s three by %d" % (name, limit), packet(d, make(11, 2 if limit < 100 else 3), limit))
            d.reset()
        for size in (2, 2046, 2048, 4096, 6142, 6144, 8192):
            m.cmd("memset %#x 0x2000 0x22" % BUFFER)
            out("%s three into %d" % (name, size), packet(d, make(11, 3), dma=size, ms=5000 if size >= 6144 else 300))
            d.reset()


@sequences(("mode sense .*|toc .*|configuration .*", model, "MMC-5 6.26.3, 6.5.2, SFF-8020i 10.8.6: see the models"),
           ("event .*", EVENT, EVENT_WHY), ("dvd .*", may(sense=[("5/30/00", "5/30/02")]), DVD_WHY),
           ("inquiry 0 page .*", refused("5/24/00"), "SPC-3 6.4.1: a page code without EVPD is invalid"),
           ("read cd .*", refused("5/24/00"), "MMC-5 6.20.2: an expected sector type that is not there, sub-channels that "
            "are not there and data parts that make no sector are invalid"),
           ("eject after prevent .", may(err=[(0x20, 0x50)], sense=[("2/53/00", "5/53/02")]),
            "MMC-5 6.45.3: 5/53/02, medium removal prevented"))
def test_fields(m, out):
    """Every value of the fields that choose something."""
    d = drive(m)
    for six in (0, 1):
        for page in range(256):
            c = cdb(0x1a, 0, page, 0, 254) if six else cdb(0x5a, 0, page, 0, 0, 0, 0, 0, 254)
            out("mode sense %d page %02x" % (6 if six else 10, page), dict(packet(d, c), args=("mode sense", six, page)))
    for fmt in (0, 1, 2, 3, 4, 5, 6, 7, 15):
        for msf in (0, 2):
            for track in (0, 1, 2, 0xaa):
                for old in (0, 0x40, 0x80):
                    out("toc %d msf %d track %02x old %02x" % (fmt, msf, track, old),
                        dict(packet(d, cdb(0x43, msf, fmt, 0, 0, 0, track, 0, 254, old)), args=("toc", fmt, msf, track, old)))
    for rt in range(4):
        for feature in (0, 1, 2, 3, 4, 0x0f, 0x10, 0x1d, 0x1e, 0x1f, 0x20, 0x100, 0x107, 0xffff):
            out("configuration %d %04x" % (rt, feature), dict(
                packet(d, cdb(0x46, rt, feature >> 8, feature & 255, 0, 0, 0, 0, 254)), args=("configuration", rt, feature)))
    for classes in (0, 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x0f, 0xef, 0xf0, 0xff):
        out("event classes %02x" % classes, packet(d, cdb(0x4a, 1, 0, 0, classes, 0, 0, 0, 254)))
    for kind in range(8):
        out("disc information %d" % kind, packet(d, cdb(0x51, kind, 0, 0, 0, 0, 0, 0, 254)))
    for fmt in (0, 1, 2, 3, 4, 5, 0x0c, 0x10, 0x30, 0x7f, 0x80, 0xc0, 0xfe, 0xff):
        for layer in (0, 1):
            out("dvd format %02x layer %d" % (fmt, layer), packet(d, cdb(0xad, 0, 0, 0, 0, 0, layer, fmt, 0, 254)))
    for page in (0, 1, 2, 0x40, 0x7f, 0x80, 0x82, 0x83, 0x84, 0xb0, 0xc0, 0xff):
        for evpd in (0, 1):
            out("inquiry %d page %02x" % (evpd, page), packet(d, cdb(0x12, evpd, page, 0, 254)))
    for kind in (0, 1, 2, 3, 4, 5, 7):
        for parts in (0, 0x08, 0x10, 0x18, 0x20, 0x40, 0xa0, 0xb8, 0xf0, 0xf8):
            for sub in (0, 1, 2) if kind in (0, 2) else (0,):
                out("read cd type %d parts %02x sub %d" % (kind, parts, sub),
                    packet(d, cdb(0xbe, kind << 2, 0, 0, 0, 9, 0, 0, 1, parts, sub)))
                d.reset()
    for what in list(range(16)) + [0x10, 0x13, 0x22, 0x32, 0x42, 0x52, 0x82, 0xf2, 0xf3]:
        out("start stop %02x" % what, packet(d, cdb(0x1b, 0, 0, 0, what)))
        packet(d, cdb(0x1b, 0, 0, 0, 3))
        settle(d)
    for what in range(4):
        out("prevent %d" % what, packet(d, cdb(0x1e, 0, 0, 0, what)))
        out("eject after prevent %d" % what, packet(d, cdb(0x1b, 0, 0, 0, 2)))
        out("load after prevent %d" % what, packet(d, cdb(0x1b, 0, 0, 0, 3)))
        settle(d)
    d.reset()


def opcode(op):
    """A packet with this opcode and harmless fields."""
    if op in (0x03, 0x12, 0x1a):
        return cdb(op, 0, 0, 0, 36)
    poll = op == 0x4a
    return cdb(op, poll, 0, 0, 0x10 * poll, 0, 0, 0, 1 if op in (0x28, 0xbe) else 36)


def sweep(out, d, what):
    """Every opcode, and TEST UNIT READY after it."""
    for op in range(256):
        if op in (0x55, 0x1b):
            continue
        out("%s %02x" % (what, op), packet(d, opcode(op)))
        out("%s %02x then ready" % (what, op), packet(d, cdb(0)))


def without(ascq):
    """The table for a drive without medium, with the additional sense code qualifier that says why."""
    sense = "2/3a/%02x" % ascq
    return ((".*", may(sense=[("2/3a/00", sense)]), "MMC-5 table F.1: 3A/01 with the tray closed, 3A/02 with it open"),
            (".* (42|52|b9|ad)", refused(sense), "READ SUB-CHANNEL, TRACK INFORMATION, DVD STRUCTURE and CD MSF exist (MMC-5)"),
            (".* 1a", refused("5/24/00"), "SFF-8020i: MODE SENSE(6) exists, and has no page 00h"),
            (".* 03", may(data=FRESH), "SPC-3 4.5.3: sense data go with the next command"),
            (".* 46", lambda a, b: b["data"] == NO_PROFILE, "MMC-5 5.3: features that a DVD-ROM drive has, none current"))


FRESH = (lambda a, b: b == "f00000000000000a" + "0" * 20)  # no sense data
NO_PROFILE = "000000480000000000000308001000000008000000010b08000000020100000000020704"


@sequences((".* 4a", lambda a, b: b["data"] in ("0006041003010000", "0006041000010000"), "MMC-5 6.6.2.3: media removal; " + EVENT_WHY),
           (".* bd", may(data=[("0000000000010000", "0010000000010000")]), "MMC-5 6.11.2: the door open bit"),
           (".* (25|28|43|51|a8|be)", refused("2/3a/02"), "MMC-5 table F.1: not ready with the tray open"), *without(2))
def test_tray_open(m, out):
    """Every opcode with the tray open."""
    d = drive(m)
    packet(d, cdb(0x1b, 0, 0, 0, 2))
    sweep(out, d, "open")


@sequences((".* 4a", EVENT, EVENT_WHY), *without(1), iso="")
def test_empty(m, out):
    sweep(out, drives(m)[2], "empty")


def test_attention(t):
    """Every opcode with a unit attention: who reports it, who leaves it, that it is reported once."""
    silent = {0x03, 0x12, 0x46, 0x4a}
    with t.machine(iso=True) as m:
        d = drive(m)
        qmp = m.qmp()
        for op in range(256):
            qmp.command("blockdev-change-medium", id="ide-5632", filename=m.iso, format="raw", force=True)
            s = packet(d, opcode(op))
            ready = packet(d, cdb(0))
            if op == 0x03:
                t.equal((s["data"][4:6], s["data"][24:26], ready["sense"]), ("06", "28", ""), "REQUEST SENSE gives it")
            elif op in silent:
                t.equal((s["sense"], ready["sense"]), ("", "6/28/00"), "%02x leaves it (SPC-3 4.5.1, MMC-5 6.6)" % op)
            elif s["sense"] == "5/20/00":
                t.equal(ready["sense"], "6/28/00", "%02x does not exist" % op)
            else:
                t.equal((s["sense"], ready["sense"]), ("6/28/00", ""), "%02x reports it once" % op)
        qmp.close()


@sequences(("srst .*", may(irq=[(1, 0)]), "ATA-6 9.2: SRST ends interrupt pending"),
           ("device reset .*", may(err=[(0, 1)]), "ATA-6 8.10.5: DEVICE RESET leaves diagnostic code 01h"),
           (".* before dma", may(st=[(0xd8, 0xd0)]), "ATA-6 7.15.6.1: with BSY set the other bits mean nothing"))
def test_interrupted(m, out):
    """Resets and other things between the words of a packet, in data blocks, before and during DMA."""
    d = drive(m)

    def srst():
        m.outb(d.ctl, 4)
        m.outb(d.ctl, 0)
        d.wait()

    def device_reset():
        m.outb(d.base + 7, 8)
        d.wait()

    def diagnostic():
        m.outb(d.base + 7, 0x90)

    def command():
        m.outb(d.base + 7, 0xa1)

    def registers():
        for i in (1, 2, 3, 4, 5):
            m.outb(d.base + i, 0x22 * i)
    for name, action in (("srst", srst), ("device reset", device_reset), ("diagnostic", diagnostic), ("command", command),
                         ("registers", registers), ("status", lambda: m.inb(d.base + 7)), ("nothing", lambda: None)):
        for words in range(0, 7):
            d.reset()
            settle(d)
            m.outb(d.base + 1, 0)
            m.outb(d.base + 4, 0)
            m.outb(d.base + 5, 8)
            m.outb(d.base + 7, 0xa0)
            d.wait()
            for word in struct.unpack("<6H", read10(5, 3).ljust(12, b"\0"))[:words]:
                m.outw(d.base, word)
            d.wait()
            label = "%s after %d words" % (name, words)
            out(label + ", before", state(d))
            action()
            out(label + ", after", state(d))
            if words == 6:
                data = d.data_in(600) + d.data_in(2048 - 600)
                d.wait()
                out(label + ", first block", dict(state(d), data=digest(data)))
                action()
                out(label + ", after the first block", state(d))
                d.data_in(100)
                action()
                out(label + ", in the second block", state(d))
            d.reset()
            out(label + ", alive", packet(d, read10(1, 1)))
        settle(d)
        m.outb(d.bm, 0)
        d.prd([(BUFFER, 4096)])
        m.outb(d.base + 1, 1)
        m.outb(d.base + 7, 0xa0)
        d.wait()
        for word in struct.unpack("<6H", read10(5, 2).ljust(12, b"\0")):
            m.outw(d.base, word)
        action()
        out(name + " before dma", state(d))
        d.reset()
        out(name + " alive after dma", packet(d, read10(1, 1), dma=2048))


def random_packets(seed, count):
    def script(m, out):
        rng = random.Random(seed)
        d = drive(m)
        for step in range(count):
            kind = rng.randrange(10)
            n = rng.choice((0, 2, 4, 8, 12, 18, 20, 36, 64, 254))
            limit = rng.choice((2, 8, 12, 512, 2048, 4096, 0x8000, 0xfffe))
            if kind < 4:
                name = rng.choice(("test unit ready", "capacity", "vpd 00", "inquiry", "toc 0", "toc 0 msf", "toc 2 old",
                                   "disc information", "mechanism"))
                c = COMMANDS[name](n)
            elif kind < 8:
                lba, sectors = rng.randrange(BLOCKS + 3), rng.randrange(6)
                name = "read %d %d" % (lba, sectors)
                c = rng.choice((read10, read12))(lba, sectors)
            elif kind == 8:
                name = "lock"
                c = cdb(0x1e, 0, 0, 0, rng.randrange(2))
            else:
                name = "opcode"
                c = cdb(rng.choice([x for x in range(256) if x not in (0x1a, 0x1b, 0x42, 0x46, 0x4a, 0x52, 0x55, 0xad, 0xb9)]))
            dma = rng.choice((None, None, None, 16384))
            if dma:
                m.cmd("memset %#x %d 0" % (BUFFER, dma))
            out("step %d: %s" % (step, name), packet(d, c, limit, dma, 200))
            if rng.randrange(4) == 0:
                d.reset()
    return script


test_random_1 = sequences((".*", may(phases=LONGER), LIST_WHY))(random_packets(1, 160))
test_random_2 = sequences((".*", may(phases=LONGER), LIST_WHY))(random_packets(2, 160))
