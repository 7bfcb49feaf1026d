# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps of ATA and ATAPI sequences, whose results are dicts of named values, and the acceptance of
named differences between two such dicts."""
import hashlib
import os

import fakexen
import pcibus
from ide import BUFFER, DRQ, PRIMARY, SECONDARY, Drive

DATA_OUT = (0x30, 0x31, 0x34, 0x39, 0x3c, 0xc5, 0xe8, 0xe9, 0x92, 0xf1, 0xf2, 0xf4, 0xf6, 0x3f, 0x38, 0xcd,
            0x32, 0x33, 0x3b, 0x3a, 0xf7)
DMA_IN, DMA_OUT = (0x25, 0xc8, 0xc9), (0x35, 0xca, 0xcb)
DMA = DMA_IN + DMA_OUT + (0x06,)


def may(**fields):
    """Accepts two dicts that differ in these fields only, each by one of the given (peer's, ours)
    pairs, or as a function of both says."""
    def accept(a, b):
        if not isinstance(a, dict) or not isinstance(b, dict) or a.keys() != b.keys():
            return False
        for key in a:
            if a[key] != b[key]:
                rule = fields.get(key)
                if rule is None or not (rule(a[key], b[key]) if callable(rule)
                                        else (a[key], b[key]) in rule):
                    return False
        return True
    return accept


def anyof(*rules):
    """Accepts what one of the rules accepts."""
    return lambda a, b: any(rule(a, b) for rule in rules)


def four_drives(m):
    """Command line for disks at primary master and secondary slave, a CD at secondary master, no
    drive at primary slave."""
    m.second = os.path.join(m.dir, "second.img")
    fakexen.make_image(m.second, 1 << 11, 512)
    return m.arguments() + ["-drive", "file=%s,if=ide,index=3,media=disk,format=raw,cache=writeback"
                            % m.second]


def drives(m):
    """The four places: hda, hdb (absent), hdc (CD), hdd."""
    bm = pcibus.find(pcibus.assign(m), 1, 4)[0]
    return [Drive(m, channel, slave, bm) for channel in (PRIMARY, SECONDARY) for slave in (0, 1)]


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16] if data else ""


def state(d, hob=False):
    """The selected drive's registers. Alternate status: nothing is cleared."""
    m, b = d.m, d.base
    values = m.values(["inb %#x" % d.ctl] + ["inb %#x" % (b + i) for i in range(1, 7)])
    s = dict(zip(("st", "err", "cnt", "low", "mid", "high", "dev"), values))
    s["irq"] = d.irq_level()
    if hob:
        m.outb(d.ctl, 0x80)
        s.update(zip(("cnt1", "low1", "mid1", "high1"),
                     m.values(["inb %#x" % (b + i) for i in range(2, 6)])))
        m.outb(d.ctl, 0x00)
    return s


def phases(d, command, limit=260, first=512, seed=1):
    """Goes through the data phases of a command that was issued: reads what is offered, or writes a
    pattern; first: bytes of the first piece, when a part of it has been moved before. Returns
    (the data read, one letter per piece: i where INTRQ is raised, - where not)."""
    got, trace = [], ""
    for n in range(limit):
        size = 512 if n else first
        status = d.wait()
        if not status & DRQ:
            break
        trace += "i" if d.irq_level() else "-"
        d.m.inb(d.base + 7)
        if command in DATA_OUT:
            d.data_out(bytes((i * seed + n * 7) & 0xff for i in range(size)))
        else:
            got.append(d.data_in(size))
    return b"".join(got), trace


def run(d, command, hob=False, **kw):
    """A whole non-DMA command: issue, data phases, state, then the status read that ends it."""
    d.issue(command, **kw)
    data, trace = phases(d, command)
    s = state(d, hob)
    s.update(trace=trace, data=digest(data), after=d.m.inb(d.base + 7), irq2=d.irq_level())
    return s


def run_dma(d, command, pieces, early=False, size=None, stop=True, **kw):
    """A DMA command with a descriptor table; early: the bus master starts before the command. Waits
    for the end of either side: INTRQ, or 200 ms without."""
    m = d.m
    inward = command in DMA_IN
    m.outb(d.bm, 0)
    m.outb(d.bm + 2, 0x06)
    d.prd(pieces)
    if early:
        m.outb(d.bm, (8 if inward else 0) | 1)
    d.issue(command, **kw)
    if not early:
        m.outb(d.bm, (8 if inward else 0) | 1)
    try:
        m.cmd("xen wait_isa %d 1 200" % d.irq)
    except fakexen.QtestError:
        pass
    s = {"bm": m.inb(d.bm), "bms": m.inb(d.bm + 2)}
    s.update(state(d, kw.get("lba48", False)))
    if inward and size:
        s["data"] = digest(m.read(BUFFER, size))
    if stop:
        m.outb(d.bm, 0)
    s.update(bm2=m.inb(d.bm), bms2=m.inb(d.bm + 2), after=m.inb(d.base + 7), irq2=d.irq_level())
    m.outb(d.bm + 2, 0x06)
    s["bms3"] = m.inb(d.bm + 2)
    return s


def image(path):
    with open(path, "rb") as f:
        return f.read()
