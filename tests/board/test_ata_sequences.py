# SPDX-License-Identifier: GPL-2.0-or-later
"""ATA disks: hundreds of sequences, by hand and generated, put to the peer and to hvm-dm.

A step's result is a dict of registers (idescript.py). A row of a table of justified differences
names the fields that may differ, both values of each, and the place in the standard that decides:
ATA-6 is T13/1410D rev. 3b, ACS-2 is T13/2015-D, PIIX3 is Intel 290550.
"""
import random
import re

from harness import compare
from ide import BUFFER
from idescript import (DATA_OUT, DMA, DMA_IN, DMA_OUT, anyof, digest, drives, four_drives, image, may,
                       phases, run, run_dma, state)

SECTORS = 4 << 11
EXT = (0x24, 0x25, 0x26, 0x27, 0x29, 0x2a, 0x2b, 0x2f, 0x34, 0x35, 0x36, 0x37, 0x39, 0x3a, 0x3b, 0x3d, 0x3e, 0x3f,
       0x42, 0xea)
ANY = (lambda a, b: True)


def to(value):
    """Ours is this value, whatever the peer says."""
    return lambda a, b: b == value


# The signature of a packet device that answers for both: ATA-6 9.12, table 54; its status has no DRDY.
PACKET = dict(st=to(0), err=[(0, 1)], cnt=to(1), low=to(1), mid=to(0x14), high=to(0xeb), dev=to(0xa0), after=to(0))
ABSENT = may(err=[(0, 1)])
ABSENT_WHY = "ATA-6 9.16.1: device 0 answers for an absent device 1; its error register has diagnostic code 01h"
SRST_WHY = "ATA-6 9.2 and 9.12: SRST ends interrupt pending and selects device 0"
NOT_FOUND = may(st=[(0x50, 0x41)], after=[(0x50, 0x41)], err=[(4, 0x10), (0, 0x10)], bms=[(4, 5)], trace=to(""))
NOT_FOUND_WHY = ("ATA-6 8.34.6, 8.37.6, 8.44.6: an address beyond the last is IDNF, before any data is asked for; "
                 "PIIX3 2.3.2: a descriptor list that was not used up leaves Active set")
WRITES_WHY = "the diagnostic code of a reset"
DSC = may(st=[(0x40, 0x50)], after=[(0x40, 0x50)])
DSC_WHY = "ATA-4 7.15.6.4: DSC is set while the heads are settled, so after these commands as well"
POWER = may(st=[(0x41, 0x50)], err=[(4, 0)], cnt=[(1, 0xff), (0, 0xff)], after=[(0x41, 0x50)])
POWER_WHY = "ATA-6 6.13, table 14: CHECK POWER MODE, IDLE and STANDBY IMMEDIATE, SLEEP are for packet devices, too"
FREEZE = may(cnt=[(0, 1)])
FREEZE_WHY = "ATA-6 8.40.5: SECURITY FREEZE LOCK has no outputs"


def sequences(*justified, **kw):
    kw.setdefault("argv", four_drives)
    return compare(justified, disk=True, iso=True, **kw)


def address(kind, lba, count):
    """Keyword arguments of Drive.issue() for an address by CHS (16 heads, 63 sectors), LBA28, LBA48."""
    if kind == "chs":
        track = lba // 63
        return {"lba": (lba % 63 + 1) | track // 16 << 8, "head_bits": track % 16, "count": count}
    return {"lba": lba, "count": count, "lba48": kind == "lba48"}


def settings(d):
    """Undoes what commands leave behind across a reset."""
    d.reset()
    d.m.inb(d.base + 7)
    for command, kw in ((0x91, {"count": 63, "head_bits": 15}), (0xc6, {"count": 16}),
                        (0xef, {"features": 3, "count": 0x45}), (0xef, {"features": 2})):
        d.issue(command, **kw)
        d.wait()
        d.m.inb(d.base + 7)


@sequences(("opcode .. .* drive 1", anyof(ABSENT, may(st=to(0x50), err=[(0, 1)], low=to(1), dev=to(0xa0), irq=to(1),
                                                      after=to(0x50))),
            ABSENT_WHY + "; 8.11: device 0 answers EXECUTE DEVICE DIAGNOSTIC for both, with INTRQ"),
           ("opcode 08 lba28 drive 2", may(err=[(0, 1)]), "ATA-6 8.10.5: DEVICE RESET leaves diagnostic code 01h"),
           ("opcode (9[4-79]|e[0-36]) .* drive [03]", DSC, DSC_WHY),
           ("opcode (e0|e1|e5|e6) .* drive 2", POWER, POWER_WHY),
           ("opcode f5 .*", FREEZE, FREEZE_WHY),
           ("opcode (20|ec) .* drive 2", may(dev=[(0xe0, 0xa0)]), "ATA-6 9.12: the signature includes the device register"),
           ("opcode 90 .* drive 2", may(irq=[(0, 1)]), "ATA-6 9.10: device 0 asserts INTRQ at the end of diagnostics"),
           ("opcode 90 .* drive 3", may(**PACKET), "ATA-6 8.11: device 0, a packet device, answers for both"))
def test_every_opcode(m, out):
    """Each opcode with each form of address, on each of the four drives, data phases to their end."""
    for n, d in enumerate(drives(m)):
        for command in range(256):
            for kind in ("lba48",) if command in EXT else ("lba28", "chs") if n == 0 else ("lba28",):
                settings(d)
                if command in DMA:
                    s = run_dma(d, command, [(BUFFER, 0x200)], size=0x200, **address(kind, 5, 1))
                else:
                    s = run(d, command, hob=kind == "lba48", **address(kind, 5, 1))
                out("opcode %02x %s drive %d" % (command, kind, n), s)


@sequences((".. lba 0x1ff[ef] count .*", anyof(NOT_FOUND, may(
                st=[(0x50, 0x41)], after=[(0x50, 0x41)], err=[(4, 0x10), (0, 0x10)], bms=[(4, 5)], trace=to(""),
                data=to(""), cnt=ANY, low=[(0xfe, 0), (0xff, 0)], mid=[(0x1f, 0x20)])),
            NOT_FOUND_WHY + "; the address is that of the first sector beyond; the peer moves those before it"),
           (".. (lba|chs) .*", NOT_FOUND, NOT_FOUND_WHY),
           (".. chs 0/0/(64|255)", lambda a, b: (b["st"], b["err"], b["cnt"], b["low"] > 63) == (0x41, 0x10, 1, True),
            "ATA-5 6.2.1: sectors of a track are numbered 1 to 63, the others are not found"))
def test_addresses(m, out):
    """Ranges at every boundary."""
    d = drives(m)[0]
    for command in (0x20, 0xc4, 0x24, 0x29, 0x40, 0x42, 0x70, 0x30, 0x34, 0xc5, 0x39, 0x3c):
        for lba in (0, 1, SECTORS - 2, SECTORS - 1, SECTORS, 0xffffff, 0xfffffff, 0x10000000, 0xffffffff,
                    0x7fffffffffff, 0xffffffffffff):
            for count in (1, 2, 3, 0):
                wide = command in (0x24, 0x29, 0x42, 0x34, 0x39)
                if wide and count == 0 or not wide and lba > 0xfffffff:
                    continue
                d.reset()
                s = run(d, command, hob=True, lba=lba, count=count, lba48=wide)
                out("%02x lba %#x count %d" % (command, lba, count), s)
    for command in DMA_IN + DMA_OUT:
        for lba in (0, SECTORS - 2, SECTORS - 1, SECTORS, 0xfffffff):
            for count in (1, 2, 3):
                d.reset()
                s = run_dma(d, command, [(BUFFER, count * 512)], size=count * 512, lba=lba, count=count,
                            lba48=command in (0x25, 0x35))
                out("%02x lba %#x count %d" % (command, lba, count), s)
    for c, h, s in ((0, 0, 0), (0, 0, 1), (0, 0, 63), (0, 0, 64), (0, 0, 255), (0, 15, 63), (8, 1, 63), (8, 2, 1),
                    (8, 2, 2), (8, 2, 3), (8, 15, 63), (9, 0, 1), (16383, 0, 1), (65535, 15, 63)):
        for command in (0x20, 0x30, 0x40, 0x70, 0xc8):
            d.reset()
            kw = {"lba": s | c << 8, "head_bits": h, "count": 1}
            out("%02x chs %d/%d/%d" % (command, c, h, s),
                run_dma(d, command, [(BUFFER, 512)], size=512, **kw) if command == 0xc8 else run(d, command, **kw))
    touched = (63, 254, SECTORS - 2, SECTORS - 1)  # by writes that only the peer carries out, see JUSTIFIED
    data = image(m.disk)
    out("image", digest(b"".join(data[i * 512:(i + 1) * 512] for i in range(SECTORS) if i not in touched)))


def interruptions(d, ms=5000):
    """What may come in the middle of a transfer. ms: how long to wait while BSY, which it may be for
    as long as a DMA command's bus master does not start."""
    m = d.m

    def wait():
        m.raw("xen poll inb %#x 0x80 0 %d" % (d.ctl, ms))

    def srst():
        m.outb(d.ctl, 4)
        m.outb(d.ctl, 0)
        wait()

    def command(c):
        def put():
            m.outb(d.base + 7, c)
            wait()
        return put

    def elsewhere():
        m.outb(d.base + 6, 0xa0 | (0 if d.slave else 0x10))
        m.outb(d.base + 6, 0xe0 | d.slave << 4)

    def masked():
        m.outb(d.ctl, 2)
        m.outb(d.ctl, 0)

    def registers():
        for i in range(1, 7):
            m.outb(d.base + i, 0x11 * i if i != 6 else 0xe0 | d.slave << 4)
    return (("srst", srst), ("device reset", command(8)), ("diagnostic", command(0x90)), ("nop", command(0)),
            ("identify", command(0xec)), ("read", command(0x20)), ("flush", command(0xe7)),
            ("other drive", elsewhere), ("nien", masked), ("registers", registers),
            ("status", lambda: m.inb(d.base + 7)), ("nothing", lambda: None))


@sequences(("drive 0 .*srst, (after|rest)", may(irq=[(1, 0)]), SRST_WHY),
           ("drive 3 .*srst, (after|rest)", may(**PACKET, irq=[(1, 0)]), SRST_WHY + ", which is the CD drive"),
           ("drive . 20 after 300 words: .*, rest", may(data=ANY, trace=lambda a, b: a.replace("-i", "i", 1) == b or
                                                         a.replace("--", "-", 1) == b),
            "ATA-6 9.5: a DRQ block is taken only after the status was read; that more words than the block come "
            "from the next one, and that its interrupt is over then, is this drive's way"))
def test_interrupted_pio(m, out):
    """Something in the middle of a DRQ block, and between two; then what the drive does, and that it
    is alive."""
    for n, d in enumerate(drives(m)):
        if n in (1, 2):
            continue
        for command, words in ((0x20, 100), (0x20, 256), (0x20, 300), (0x24, 256), (0xc4, 400), (0x29, 256),
                               (0x30, 100), (0x30, 256), (0x34, 300), (0xc5, 256), (0xc5, 1024), (0xec, 17), (0xb0, 0)):
            for name, action in interruptions(d):
                label = "drive %d %02x after %d words: %s" % (n, command, words, name)
                d.reset()
                d.issue(0xc6, count=4)
                d.wait()
                m.inb(d.base + 7)
                if command == 0xb0:
                    d.issue(0xb0, features=0xd0, lba=0xc24f00, count=1)
                else:
                    d.issue(command, count=8, lba=77, lba48=command in (0x24, 0x29, 0x34))
                d.wait()
                m.inb(d.base + 7)
                if command in DATA_OUT:
                    d.data_out(bytes(i * 3 & 0xff for i in range(2 * words)))
                elif words:
                    d.data_in(2 * words)
                d.wait()
                out(label + ", before", state(d))
                action()
                out(label + ", after", state(d))
                data, trace = phases(d, command, 20, 512 - 2 * words % 512)
                out(label + ", rest", dict(state(d), data=digest(data), trace=trace))
                d.reset()
                out(label + ", alive", run(d, 0x20, lba=3, count=2))
    out("image", digest(image(m.disk)))
    out("image of the other", digest(image(m.second)))


@sequences()
def test_overlong_pio(m, out):
    """More words than a DRQ block has, in one REP: what the rest of the words are is the drive's
    business, but the command and the next one must survive."""
    d = drives(m)[0]
    for command, count, words in ((0x20, 1, 257), (0x20, 1, 300), (0x20, 1, 5000), (0x24, 1, 1000), (0xec, 1, 257),
                                  (0xec, 1, 4096), (0xc4, 4, 2000), (0x30, 1, 257), (0x30, 1, 2000), (0xc5, 4, 1100)):
        d.reset()
        d.issue(0xc6, count=4)
        d.wait()
        d.issue(command, count=count, lba=99, lba48=command == 0x24)
        d.wait()
        if command in DATA_OUT:
            d.data_out(bytes(i * 5 & 0xff for i in range(2 * words)))
        else:
            inside = count * 512
            data = d.data_in(2 * words)
            out("%02x by %d words data" % (command, words), digest(data[:inside]))
            out("%02x by %d words rest" % (command, words), digest(data[inside:]))
        d.wait()
        out("%02x by %d words" % (command, words), state(d))
        out("%02x by %d words, alive" % (command, words), run(d, 0x20, lba=98, count=8))
    out("image", digest(image(m.disk)))


WAITING = may(st=[(0x58, 0xd0)])
@sequences((".* before start", anyof(WAITING, may(irq=[(1, 0)]), may(**PACKET, irq=[(1, 0)])),
            "ATA-6 9.7: BSY or DRQ while a DMA command waits; " + SRST_WHY),
           (".* then start", may(cnt=[(0, 1)], low=[(2, 1)], irq=[(1, 0)], bms=[(5, 1)]),
            "ATA-6 9.2: SRST has ended the command; the peer moves a sector after it"),
           ("drive 3 .* diagnostic after the end", may(**PACKET), "ATA-6 8.11: device 0 answers for both"),
           (".* srst after the end", anyof(may(irq=[(1, 0)], bms=[(4, 0)]), may(**PACKET, irq=[(1, 0)], bms=[(4, 0)])),
            SRST_WHY))
def test_interrupted_dma(m, out):
    """Resets and register accesses before the bus master starts, while it is stopped in the middle of
    a list that is too short, and after the end."""
    for n, d in enumerate(drives(m)):
        if n in (1, 2):
            continue
        for (name, action), (_, action_at_end) in zip(interruptions(d, 2), interruptions(d)):
            for command in (0xc8, 0xca, 0x25):
                label = "drive %d dma %02x, %s" % (n, command, name)
                settings(d)
                m.cmd("memset %#x 0x2000 0x5a" % BUFFER)
                d.prd([(BUFFER, 0x1000)])
                d.issue(command, count=8, lba=10, lba48=command == 0x25)
                action()
                out(label + " before start", dict(state(d), bms=m.inb(d.bm + 2)))
                d.reset()
                m.outb(d.bm + 2, 6)
                m.outb(d.bm, 1 | (8 if command != 0xca else 0))
                m.raw("xen poll inb %#x 0xff 0 20" % (d.base + 2))  # the peer takes up the command again
                out(label + " then start", dict(state(d), bms=m.inb(d.bm + 2)))
                m.outb(d.bm, 0)
                d.reset()
                out(label + " alive", run_dma(d, 0xc8, [(BUFFER, 0x200)], size=0x200, lba=5, count=1))
                run_dma(d, command, [(BUFFER, 0x200)], lba=5, count=1, lba48=command == 0x25, stop=False)
                action_at_end()
                out(label + " after the end", dict(state(d), bms=m.inb(d.bm + 2)))
                m.outb(d.bm, 0)
    out("image", digest(image(m.disk)[512:]))  # the peer writes sector 0 after SRST


@sequences((".* word by word.*", None, "PIIX3 2.3.4: a table may have up to 64 KiB; the peer reads 4 KiB of it"),
           (".* (c8|25) (short by|one w|half).*", may(data=ANY), "PIIX3 2.3.2: what the list has room for is moved"),
           (".* (ca|35) (short by|one w|half).* image", None, "PIIX3 2.3.2: what the list has room for is moved"))
def test_bus_master(m, out):
    """Lists of every shape, both directions, both orders of command and start."""
    rng = random.Random(5)
    for n, d, path in ((0, drives(m)[0], m.disk), (3, drives(m)[3], m.second)):
        at = 100
        shapes = [("exact", [(BUFFER, 0x1000)]), ("64 KiB as 0", [(BUFFER, 0)]),
                  ("two", [(BUFFER, 0x600), (BUFFER + 0x600, 0xa00)]), ("long", [(BUFFER, 0x2000)]),
                  ("long by one entry", [(BUFFER, 0x1000), (BUFFER + 0x4000, 0x1000)]),
                  ("uneven", [(BUFFER, 0x602), (BUFFER + 0x602, 0x9fe)]),
                  ("overlapping", [(BUFFER, 0x800), (BUFFER + 0x100, 0x800)]),
                  ("word by word", [(BUFFER + 2 * i, 2) for i in range(2048)]),
                  ("short by a sector", [(BUFFER, 0xe00)]), ("short by two bytes", [(BUFFER, 0xffe)]),
                  ("one word", [(BUFFER, 2)]), ("half a sector", [(BUFFER, 0x100)])]
        for i in range(12):
            left, pieces = 0x1000, []
            while left > 0 and len(pieces) < 30:
                size = min(left, rng.randrange(1, 400) * 2)
                pieces.append((BUFFER + rng.randrange(0x1000) * 2, size))
                left -= size
            if left:
                pieces.append((BUFFER, left))
            shapes.append(("random %d" % i, pieces))
        for name, pieces in shapes:
            ends_early = re.match("word|short|one|half", name)  # each costs the time to see that nothing comes
            for command in (0xc8, 0xca) if ends_early else (0xc8, 0xca, 0x25, 0x35):
                if ends_early and n:
                    continue
                for early in (False,) if ends_early else (False, True):
                    settings(d)
                    m.write(BUFFER, bytes((i * 7 + i // 256) & 0xff for i in range(0x3000)))
                    label = "drive %d %02x %s%s" % (n, command, name, " early" if early else "")
                    writes = command in DMA_OUT
                    at += 8 * writes
                    out(label, run_dma(d, command, pieces, early, 0x3000, count=8, lba=at if writes else 3,
                                       lba48=command in (0x25, 0x35)))
                    if writes:
                        out(label + ", image", digest(image(path)[at * 512:(at + 8) * 512]))
        settings(d)
        for command, start in ((0xc8, 1), (0xca, 9)):
            d.prd([(BUFFER, 0x200)])
            d.issue(command, count=1, lba=3)
            m.outb(d.bm, start)
            m.raw("xen wait_isa %d 1 200" % d.irq)
            out("drive %d %02x wrong direction" % (n, command), dict(state(d), bms=m.inb(d.bm + 2)))
            m.outb(d.bm, 0)
            d.reset()
        out("drive %d start without a command" % n, [m.outb(d.bm, v) or (m.inb(d.bm), m.inb(d.bm + 2))
                                                     for v in (9, 8, 1, 0, 9, 9, 0)])
        m.outb(d.bm + 2, 0x66)
        out("drive %d capable bits" % n, [m.outb(d.bm + 2, v) or m.inb(d.bm + 2)
                                          for v in (0x60, 0x20, 0x40, 0x00, 0x67, 0x06)])


def intrq(drive, script):
    """INTRQ after each word of a script of test_interrupts, by ATA-6 5.2.10, 7.4.4, 9.2, 9.3, 9.10."""
    pending, masked, selected, trail, writing = [False, False], False, drive % 2, [], False
    present = [True, drive > 1]
    for word in script.split():
        own = drive % 2
        if word in ("mask", "unmask"):
            masked = word == "mask"
        elif word in ("slave", "master"):
            selected = int(word == "slave")
        elif word == "status":
            pending[selected] = False
        elif word in ("identify", "flush", "abort", "write"):
            selected = own
            writing = word == "write" and drive != 2 and present[own]
            pending[own] = present[own] and not writing
        elif word == "put" and writing:
            pending[own] = True
        elif word == "srst":
            pending, masked, selected = [False, False], False, own
        elif word == "diagnostic":
            pending, selected = [True, False], 0
        trail.append((word, int(present[selected] and pending[selected] and not masked)))
    return trail


def intrq_and(**fields):
    """INTRQ is what intrq() says, and these fields differ besides."""
    other = may(trail=ANY, irq=ANY, **fields)
    return lambda a, b: (b["trail"] == intrq(b["drive"], b["script"]) and b["irq"] == b["trail"][-1][1] and
                         other(a, b))


INTRQ_WHY = ("ATA-6 5.2.10: nIEN gates the line of the selected device and loses nothing; 9.2: SRST ends interrupt "
             "pending; 9.10: device 0 asserts INTRQ after diagnostics")


@sequences(("drive [02]: .*slave diagnostic.*", intrq_and(st=[(0, 0x50), (0x50, 0)], err=[(0, 1)], cnt=[(0, 1)],
                                                        low=[(0, 1)], dev=[(0xb0, 0xa0)], mid=[(0, 0x14)],
                                                        high=[(0, 0xeb)]),
            INTRQ_WHY + "; 8.11: device 0 is selected after diagnostics"),
           ("drive [0-3]: .*", intrq_and(), INTRQ_WHY),
           ("drive 1: .*", intrq_and(st=[(0, 0x50)], err=[(0, 1)], cnt=[(0, 1)], low=[(0, 1)],
                                     dev=[(0xb0, 0xa0), (0xf0, 0xa0)]), INTRQ_WHY + "; " + ABSENT_WHY),
           ("drive 3: .*(diagnostic|srst).*", intrq_and(**{k: v for k, v in PACKET.items() if k != "after"}),
            INTRQ_WHY + "; 9.12: device 0, a packet device, is selected"))
def test_interrupts(m, out):
    """INTRQ with nIEN, status reads, alternate status, the other drive, at each point of a command."""
    hda, hdb, hdc, hdd = drives(m)
    points = {
        "mask": lambda d: m.outb(d.ctl, 2), "unmask": lambda d: m.outb(d.ctl, 0), "status": lambda d: m.inb(d.base + 7),
        "alt": lambda d: m.inb(d.ctl), "slave": lambda d: m.outb(d.base + 6, 0xb0),
        "master": lambda d: m.outb(d.base + 6, 0xa0), "data": lambda d: d.data_in(512),
        "identify": lambda d: (d.issue(0xec if d is not hdc else 0xa1), d.wait()),
        "flush": lambda d: (d.issue(0xe7), d.wait()), "abort": lambda d: (d.issue(0xff), d.wait()),
        "write": lambda d: (d.issue(0x30, count=2, lba=9), d.wait()), "put": lambda d: (d.data_out(bytes(512)), d.wait()),
        "srst": lambda d: d.reset(), "diagnostic": lambda d: (m.outb(d.base + 7, 0x90), d.wait()),
    }
    scripts = ["identify alt status data status", "identify data status", "mask identify status unmask data",
               "mask identify unmask status data", "mask identify unmask mask unmask status data",
               "identify mask unmask status data", "identify slave alt status master status data",
               "identify slave master status data", "write put status put status", "write put put status",
               "mask write put unmask status put status", "flush slave status master status", "abort alt status status",
               "flush flush status", "flush identify status data", "abort srst status", "identify srst status",
               "mask flush srst unmask status", "diagnostic status", "mask diagnostic unmask status",
               "slave diagnostic status", "slave diagnostic alt master alt status", "flush mask status unmask",
               "flush slave mask unmask status master status", "mask flush status unmask status"]
    for n, d in enumerate((hda, hdb, hdc, hdd)):
        for script in scripts:
            settings(d)
            trail = []
            for word in script.split():
                points[word](d)
                trail.append((word, d.irq_level()))
            out("drive %d: %s" % (n, script), dict(state(d), trail=trail, script=script, drive=n))
            m.outb(d.ctl, 0)


LINE = [(0, 1), (1, 0)]


@sequences((".*", may(err=[(0, 1)], irq=LINE), ABSENT_WHY + "; INTRQ is the selected device's (5.2.10, see test_interrupts)"),
           ("channel 0 step .* reset .", may(st=[(0, 0x50)], err=[(0, 1)], mid=[(0xff, 0)], high=[(0xff, 0)], irq=LINE),
            SRST_WHY),
           ("channel 1 step .*", may(st=[(0x50, 0)], err=[(0, 1)], mid=[(0, 0x14)], high=[(0, 0xeb)], irq=LINE),
            SRST_WHY + ", a packet device without DRDY"))
def test_selection(m, out):
    """Both drives of a channel take register writes, one answers; the other's state stays."""
    rng = random.Random(11)
    for channel in (0, 1):
        pair = drives(m)[2 * channel:2 * channel + 2]
        for step in range(60):
            d = rng.choice(pair)
            what = rng.choice(("write", "select", "command", "data", "status", "reset"))
            label = "channel %d step %d %s %d" % (channel, step, what, d.slave)
            if what == "write":
                for reg in (1, 2, 3, 4, 5):
                    m.outb(d.base + reg, rng.randrange(256))
            elif what == "select":
                m.outb(d.base + 6, rng.choice((0xa0, 0xe0, 0x40, 0x00)) | d.slave << 4 | rng.randrange(16))
            elif what == "command":
                d.issue(rng.choice((0xec, 0xa1, 0x20, 0xe7, 0xff)), count=rng.randrange(1, 4), lba=rng.randrange(2000))
                d.wait()
            elif what == "data" and m.inb(d.ctl) & 0x88 == 8:
                out(label + " words", d.data_in(512))
            elif what == "status":
                m.inb(d.base + 7)
            elif what == "reset" and step % 4 == 0:
                m.outb(d.ctl, 4)
                m.outb(d.ctl, 0)
                d.wait()
            s = state(d)
            out(label, s)
            for x in pair:
                m.outb(x.base + 6, 0xa0 | x.slave << 4)
                out(label + " seen by %d" % x.slave, state(x))
        settings(pair[0])


IDENTIFY_WORDS = ["w%d" % i for i in range(256)]


def identify(d, command=0xec):
    d.issue(command)
    data, trace = phases(d, command, 2)
    d.m.inb(d.base + 7)
    return dict(zip(IDENTIFY_WORDS, (data[i] | data[i + 1] << 8 for i in range(0, len(data), 2))), trace=trace)


SUPPORTED = "ATA-6 8.46.6: a mode or subcommand that IDENTIFY does not offer is aborted"


@sequences(("drive . feature 03 (0[2-7d-f]|1[3-7]|2[3-7]|4[67])", may(st=[(0x50, 0x41)], err=[(0, 4)], after=[(0x50, 0x41)]),
            SUPPORTED),
           ("drive . feature 03 (0[2-7d-f]|1[3-7]|2[3-7]|4[67]) words", to("(absent)"), SUPPORTED),
           ("drive . feature 69 ..", may(st=[(0x50, 0x41)], err=[(0, 4)], after=[(0x50, 0x41)]), SUPPORTED),
           ("drive [023] feature .* words", may(w85=[(0x4021, 0), (0x4001, 0)], w88=[(0x3f, 0x203f)]),
            "ATA-6 8.16.43: words 85-87 mean something where 82-84 offer it, and a packet device's do not; 8.46.11: "
            "a PIO mode does not deselect the DMA mode"))
def test_set_features(m, out):
    """Every subcommand, every transfer mode, and what IDENTIFY says after it."""
    for n, d in enumerate(drives(m)):
        if n in (1, 3):
            continue
        ident, s = 0xa1 if n == 2 else 0xec, None
        for feature in range(256):
            for count in range(256) if feature == 3 else (0, 1, 0x80):
                if s is None or s["st"] & 1 == 0:
                    settings(d)
                s = run(d, 0xef, features=feature, count=count)
                out("drive %d feature %02x %02x" % (n, feature, count), s)
                if feature in (0x02, 0x82, 0x55, 0xaa, 0x05, 0x85, 0x42, 0xc2, 0x66, 0xcc) or feature == 3 and s["st"] & 1 == 0:
                    out("drive %d feature %02x %02x words" % (n, feature, count), identify(d, ident))


@sequences(("drive 2 power after .*", POWER, POWER_WHY),
           ("drive 0 power after (e[0-3]|9[4-7]).*", may(cnt=[(0xff, 0)]), "ATA-6 8.8.5: 00h is standby"),
           ("drive 0 power after (e6|99).*", may(cnt=[(0xff, 0)]), "ATA-6 8.8.5: asleep is no more than standby"),
           ("drive . power after e6 .* words in sleep", may(w59=[(0, 0x110)], w85=[(0x4021, 0)]),
            "word 59 follows SET MULTIPLE MODE (ATA-6 8.15.29), the peer keeps its first IDENTIFY data; word 85 as above"),
           ("multiple .* word 59", lambda a, b: a == 0 and b & 0xff00 == 0x100, "ATA-6 8.15.29: word 59 is the current setting"))
def test_settings(m, out):
    """SET MULTIPLE with every value and the transfers after it; power modes."""
    d = drives(m)[0]
    for count in range(256):
        settings(d)
        out("multiple %d" % count, run(d, 0xc6, count=count))
        if count in (0, 1, 2, 3, 4, 8, 16, 32, 128):
            out("multiple %d word 59" % count, identify(d)["w59"])
            out("multiple %d read" % count, run(d, 0xc4, lba=20, count=10))
            out("multiple %d read ext" % count, run(d, 0x29, lba=20, count=10, lba48=True))
            out("multiple %d write" % count, run(d, 0xc5, lba=20, count=10))
            d.reset()
            out("multiple %d after reset" % count, run(d, 0xc4, lba=20, count=3))
    settings(d)
    for n, x in ((0, d), (2, drives(m)[2])):
        for before in (0xe0, 0xe1, 0xe2, 0xe3, 0xe6, 0x94, 0x95, 0x96, 0x97, 0x99, 0x20, 0xe7, 0x70, 0x40):
            for count in (0, 1, 240, 255):
                settings(x)
                x.issue(before, count=count, lba=1)
                phases(x, before, 300)
                m.inb(x.base + 7)
                label = "drive %d power after %02x %d" % (n, before, count)
                out(label, run(x, 0xe5))
                out(label + " old", run(x, 0x98))
                if before == 0xe6:
                    out(label + " words in sleep", identify(x, 0xec if n == 0 else 0xa1))
                    x.reset()
                    out(label + " after reset", run(x, 0xe5))


@sequences(("smart d2 .* low 01 .*", may(st=[(0x41, 0x50)], err=[(4, 0)], after=[(0x41, 0x50)]),
            "ATA-6 8.54.2: the sector count says on or off; the peer looks into LBA low"),
           ("command f5 .*", FREEZE, FREEZE_WHY),
           ("identify after all", may(w59=[(0, 0x110)]), "ATA-6 8.15.29: word 59 is the current setting"),
           ("native 27 chs", may(st=[(0x50, 0x41)], err=[(0, 4)], low=ANY, mid=ANY, dev=[(0xa2, 0xa0)], after=[(0x50, 0x41)]),
            "ATA-6 8.33.4: the LBA bit shall be one"))
def test_smart_and_kin(m, out):
    """SMART, native size, SET MAX, security, configuration overlay, logs, buffers, microcode, media
    locks, CFA: with every subcommand."""
    d = drives(m)[0]
    for feature in range(256):
        for mid, high, low, count in ((0x4f, 0xc2, 0, 1), (0x4f, 0xc2, 1, 1), (0, 0, 0, 1)) + (
                tuple((0x4f, 0xc2, low, count) for low in (6, 9, 0x80, 0xe0, 0xff) for count in (0, 1, 2))
                if feature in (0xd4, 0xd5, 0xd6) else ()):
            settings(d)
            d.issue(0xb0, features=0xd8, lba=0xc24f00)
            d.wait()
            m.inb(d.base + 7)
            s = run(d, 0xb0, features=feature, lba=low | mid << 8 | high << 16, count=count)
            if (feature, low) == (0xd5, 6) and s["st"] & 1 == 0:
                d.issue(0xb0, features=0xd5, lba=0xc24f06)
                log = bytearray(phases(d, 0xb0)[0])
                for i in range(4, 506, 24):  # when a test was made, in hours of power
                    log[i:i + 2] = b"\0\0"
                s["data"] = digest(log[:511])
            out("smart %02x %02x%02x low %02x count %d" % (feature, high, mid, low, count), s)
    d.issue(0xb0, features=0xd9, lba=0xc24f00)
    d.wait()
    for feature in (0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd9, 0xda, 0xd8, 0xda):
        out("smart disabled %02x" % feature, run(d, 0xb0, features=feature, lba=0xc24f00, count=1))
    w = identify(d)
    out("smart words", {k: w[k] for k in ("w82", "w84", "w85", "w87")})
    for command in (0x27, 0x37, 0xf8, 0xf9, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xb1, 0x2f, 0x3f, 0xe4, 0xe8, 0x92, 0x93,
                    0xda, 0xdb, 0xde, 0xdf, 0xed, 0xd1, 0x03, 0x38, 0x87, 0xc0, 0xcd, 0xb6, 0x57, 0x45, 0x77, 0x78, 0xb4):
        for feature in (0, 1, 2, 3, 4, 0xc0, 0xc1, 0xc2, 0xc3):
            for wide in (False, True):
                settings(d)
                s = run(d, command, hob=wide, features=feature, count=1, lba=100, lba48=wide)
                out("command %02x feature %02x%s" % (command, feature, " ext" if wide else ""), s)
    settings(d)
    for command in (0x27, 0xf8):
        out("native %02x chs" % command, run(d, command, head_bits=0))
    out("identify after all", identify(d))


ZEROS = digest(bytes(512))


@sequences(("trim .* count 0 feature 1", may(bms=[(4, 5)], st=[(0x50, 0x41)], err=[(0, 4)], after=[(0x50, 0x41)]),
            "ACS-2 7.10.2: a count of zero is reserved"),
           ("trim (past|across|far|good).*", may(err=[(4, 0x10)]), "ACS-2 6.1.6: a range beyond the last sector is IDNF"),
           ("trim .*", may(cnt=lambda a, b: a == 0, low=lambda a, b: b == 0), "ACS-2 7.10.4: no outputs in these registers"),
           ("sector .*", may(data=to(ZEROS)), "ACS-2 7.10.3.2: what was trimmed reads as zeros or as before, always the same; "
            "the peer discards nothing (discard=ignore)"))
def test_trim(m, out):
    """DATA SET MANAGEMENT."""
    d = drives(m)[0]

    def entry(lba, count):
        return (lba | count << 48).to_bytes(8, "little")
    lists = {"nothing": b"", "one": entry(100, 8), "three": entry(200, 1) + entry(0, 0) + entry(300, 2),
             "last": entry(SECTORS - 1, 1), "past the end": entry(SECTORS, 1), "across the end": entry(SECTORS - 1, 2),
             "far": entry(0xffffffffffff, 0xffff), "good then bad": entry(400, 1) + entry(SECTORS, 1) + entry(500, 1),
             "all": b"".join(entry(600 + 2 * i, 1) for i in range(64))}
    for name, data in lists.items():
        for count in (0, 1, 2):
            for feature in (0, 1, 2):
                settings(d)
                m.write(BUFFER, data.ljust(1024, b"\0"))
                s = run_dma(d, 0x06, [(BUFFER, max(count, 1) * 512)], features=feature, count=count, lba48=True)
                out("trim %s count %d feature %d" % (name, count, feature), s)
    settings(d)
    for lba in (99, 100, 107, 108, 200, 300, 301, 400, 500, 600, 601, 726, SECTORS - 1):
        out("sector %d" % lba, run(d, 0x20, lba=lba, count=1))


def random_sequences(seed, sequences_count):
    """Steps drawn at random: commands of every kind with data phases that end early, resets, register
    accesses, on all four drives."""
    def script(m, out):
        rng = random.Random(seed)
        four = drives(m)
        for number in range(sequences_count):
            for d in four:
                settings(d)
            for step in range(rng.randrange(3, 9)):
                n = rng.choice((0, 0, 0, 1, 2, 3, 3))
                d = four[n]
                command = rng.choice((0x20, 0x24, 0xc4, 0x29, 0x30, 0x34, 0xc5, 0x39, 0xec, 0xa1, 0x40, 0x70, 0xe7, 0xea,
                                      0xc6, 0xef, 0xe0, 0xe1, 0xe5, 0x10, 0x91, 0xf8, 0x27, 0xb0, 0x00, 0x08, 0x90, 0xc8,
                                      0xca, 0x25, 0x35, rng.randrange(256)))
                if n == 2 and command in (0xa0, 0xa1, 0xc8, 0xca, 0x25, 0x35) or command == 0x06:
                    out("sequence %d step %d: identify %d" % (number, step, n), identify(d, 0xa1 if n == 2 else 0xec))
                    continue
                lba, count = rng.randrange(2000), rng.choice((1, 1, 2, 3, 4, 7, 16, 17))
                feature = rng.choice((0, 2, 0x55, 0x82, 0xaa, 0xd0, 0xd8, 0xda)) if command in (0xef, 0xb0) else 0
                if command == 0xb0:
                    lba = 0xc24f00
                label = "sequence %d step %d: %02x on %d" % (number, step, command, n)
                kw = {"lba": lba, "count": count, "features": feature,
                      "lba48": command in EXT}
                how = rng.choice(("whole", "whole", "short", "srst", "select"))
                if command in DMA:
                    m.write(BUFFER, bytes((i * step + number) & 0xff for i in range(0x2400)))
                    pieces = [(BUFFER, count * 256), (BUFFER + count * 256, count * 256)]
                    out(label, run_dma(d, command, pieces, size=count * 512, **kw))
                    continue
                if how == "whole":
                    out(label, run(d, command, **kw))
                    continue
                d.issue(command, **kw)
                d.wait()
                if d.m.inb(d.ctl) & 0x88 == 8:
                    m.inb(d.base + 7)
                    words = rng.choice((1, 13, 128, 255))
                    if command in DATA_OUT:
                        d.data_out(bytes(i & 0xff for i in range(2 * words)))
                    else:
                        out(label + " words", digest(d.data_in(2 * words)))
                if how == "srst":
                    d.reset()
                elif how == "select":
                    m.outb(d.base + 6, 0xa0 if d.slave else 0xb0)
                    m.outb(d.base + 6, 0xa0 | d.slave << 4)
                out(label + " " + how, state(d))
                if how != "srst":
                    d.reset()
        out("image", digest(image(m.disk)))
        out("image of the other", digest(image(m.second)))
    return script


RANDOM = (
    (".* on 1( .*)?", anyof(may(err=[(0, 1)], irq=[(1, 0)]),
                            may(st=[(0, 0x50)], err=[(0, 1)], cnt=ANY, low=to(1), mid=to(0), high=to(0), dev=to(0xa0),
                                irq=[(0, 1)], after=[(0, 0x50)])), ABSENT_WHY + "; 8.11: device 0 answers diagnostics"),
    (".* srst", may(irq=[(1, 0)]), SRST_WHY),
    (".*: (e[0-36]|9[4-79]) on [03].*", DSC, DSC_WHY),
    (".*: e[0156] on 2.*", POWER, POWER_WHY),
    (".*: (20|ec) on 2.*", may(dev=[(0xe0, 0xa0)]), "ATA-6 9.12: the signature includes the device register"),
    (".*: 90 on 3.*", anyof(may(**PACKET, irq=LINE), may(irq=LINE)), "ATA-6 8.11: device 0 answers for both"),
    (".*: 90 on 2.*", may(irq=[(0, 1)]), "ATA-6 9.10: device 0 asserts INTRQ at the end of diagnostics"),
    (".*: 08 on 2.*", may(err=[(0, 1)]), "ATA-6 8.10.5: DEVICE RESET leaves diagnostic code 01h"),
    (".*: f5 on [03].*", may(cnt=lambda a, b: a == 0), FREEZE_WHY),
    (".*: e5 on [03].*", may(cnt=[(0xff, 0)]), "ATA-6 8.8.5: 00h is standby"),
    (".*: identify .*", may(w59=[(0, 0x110), (0, 0)], w85=[(0x4021, 0), (0x4001, 0)]), "see test_settings, test_set_features"),
    (".*: 4[02] on [03].*|.*: (20|24|c4|29|30|34|c5|39|c8|ca|25|35|70) on 3.*", NOT_FOUND, NOT_FOUND_WHY),
)
test_random_1 = sequences(*RANDOM)(random_sequences(1, 60))
test_random_2 = sequences(*RANDOM)(random_sequences(2, 60))
test_random_3 = sequences(*RANDOM)(random_sequences(3, 60))
