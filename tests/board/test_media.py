# SPDX-License-Identifier: GPL-2.0-or-later
"""CD media at run time over QMP, as libxl does it, and what the guest sees; images of unusual size."""
import array
import os
import socket
import struct

import fakexen
import pcibus
from fakexen import pattern
from ide import BUFFER, PRIMARY, SECONDARY, Drive
from test_atapi import cdb, read10, read12, sense, settle

ATTENTION = (6, 0x28, 0)
NO_MEDIUM_CLOSED, NO_MEDIUM_OPEN = (2, 0x3a, 1), (2, 0x3a, 2)
NEW_MEDIUM, REMOVAL, EJECT_REQUEST, NO_EVENT = 2, 3, 1, 0


def tur(d):
    """TEST UNIT READY: None, or (sense key, ASC, ASCQ)."""
    error = d.packet(cdb(0))[3]
    if not error:
        return None
    s = sense(d)
    return s[2], s[12], s[13]


def event(d):
    """(event, tray open, medium present) of GET EVENT STATUS NOTIFICATION."""
    data = d.packet(cdb(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8))[0]
    return data[4], data[5] & 1, data[5] >> 1 & 1


def capacity(d):
    """Last sector + 1 by READ CAPACITY."""
    return struct.unpack(">II", d.packet(cdb(0x25))[0])[0] + 1


class Qmp:
    """Commands with the events that come before their answers."""

    def __init__(self, m):
        self.q = m.qmp()
        self.events = []

    def __call__(self, name, **arguments):
        self.events = []
        message = {"execute": name, "id": 7, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
        self.q.sock.sendall(fakexen.json.dumps(message).encode())
        while True:
            answer = self.q.message()
            if "event" in answer:
                self.events.append((answer["event"], answer["data"].get("tray-open")))
            else:
                return answer

    def add_fd(self, path, note, flags=os.O_RDONLY):
        fd = os.open(path, flags)
        text = ('{"execute":"add-fd","id":8,"arguments":{"opaque":"%s"}}\r\n' % note).encode()
        self.q.sock.sendmsg([text[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        self.q.sock.sendall(text[1:])
        os.close(fd)
        return self.q.reply()["return"]["fdset-id"]


def disc(m, name, sectors, first=0, tail=b""):
    """A disc whose sectors are numbered from `first`."""
    path = os.path.join(m.dir, name)
    with open(path, "wb") as f:
        for i in range(sectors):
            f.write(pattern(first + i, 2048))
        f.write(tail)
    return path


def insert(t, qmp, path, fmt="raw"):
    """xl cd-insert: query-version, eject, add-fd, blockdev-change-medium."""
    t.check("qemu" in qmp("query-version")["return"], "query-version")
    t.equal(qmp("eject", id="ide-5632").get("return"), {}, "eject")
    fdset = qmp.add_fd(path, "%s:%s" % (fmt, path))
    answer = qmp("blockdev-change-medium", id="ide-5632", filename="/dev/fdset/%d" % fdset, format=fmt)
    t.equal(answer.get("return"), {}, "change")


def cd_entry(qmp):
    return [b for b in qmp("query-block")["return"] if b["device"] == "ide-5632"][0]


def test_libxl(t):
    """cd-insert into an empty drive, over a disc, cd-eject; smaller, larger; each on a connection of its own."""
    with t.machine(iso="", disk=True) as m:
        d = Drive(m, SECONDARY)
        t.equal(tur(d), NO_MEDIUM_CLOSED, "empty at boot")
        t.equal(event(d), (NO_EVENT, 0, 0), "event")
        for name, sectors, first in (("a", 500, 0), ("b", 20, 1000), ("c", 1, 2000), ("a", 500, 0)):
            qmp = Qmp(m)
            path = disc(m, name, sectors, first)
            insert(t, qmp, path)
            t.equal(qmp.events, [("DEVICE_TRAY_MOVED", False)], "events")
            entry = cd_entry(qmp)
            t.equal((entry["inserted"]["file"], entry["inserted"]["ro"], entry["tray_open"]), (path, True, False), "entry")
            t.equal(entry["inserted"]["image"]["virtual-size"], sectors * 2048, "size")
            qmp.q.close()
            os.unlink(path)  # what counts is the descriptor
            t.equal(event(d), (NEW_MEDIUM, 0, 1), "event of " + name)
            t.equal(event(d), (NO_EVENT, 0, 1), "event once")
            t.equal(tur(d), ATTENTION, "attention")
            t.equal(tur(d), None, "ready")
            t.equal(capacity(d), sectors, "capacity")
            t.equal(d.packet(read10(sectors - 1, 1))[0], pattern(first + sectors - 1, 2048), "last sector")
            t.check(d.packet(read10(sectors, 1))[3] & 0xf0, "a sector beyond")
            t.equal(sense(d)[2:13:10], b"\x05\x21", "sense")
        qmp = Qmp(m)
        t.equal(qmp("eject", id="ide-5632").get("return"), {}, "eject")
        t.equal(qmp.events, [("DEVICE_TRAY_MOVED", True)], "event")
        t.equal(qmp("eject", id="ide-5632").get("return"), {}, "eject again")
        t.check("inserted" not in cd_entry(qmp), "empty")
        t.equal(event(d), (REMOVAL, 1, 0), "event")
        t.equal(tur(d), NO_MEDIUM_OPEN, "ejected")
        stats = [s for s in qmp("query-blockstats")["return"] if s["device"] == "ide-5632"][0]["stats"]
        t.check(stats["rd_bytes"] >= 4 * 2048, "counts of all discs: %r" % stats)


def test_locked(t):
    """A locked tray: an error for the host, an eject request for the guest, who opens or does not; force."""
    with t.machine(iso=True) as m:
        d, qmp = Drive(m, SECONDARY), Qmp(m)
        other = disc(m, "other", 30, 500)
        settle(d)
        d.packet(cdb(0x1e, 0, 0, 0, 1))
        t.equal(cd_entry(qmp)["locked"], True, "locked")
        t.equal(qmp("eject", id="ide-5632")["error"]["class"], "GenericError", "eject")
        t.equal(qmp.events, [], "no event")
        t.equal(event(d), (EJECT_REQUEST, 0, 1), "request")
        t.equal(qmp("blockdev-change-medium", device="ide-5632", filename=other)["error"]["class"], "GenericError", "change")
        t.equal(tur(d), None, "the disc is there")
        d.packet(cdb(0x1e))
        d.packet(cdb(0x1b, 0, 0, 0, 2))
        t.equal(tur(d), NO_MEDIUM_OPEN, "open")
        t.equal(qmp("eject", id="ide-5632").get("return"), {}, "the host may take it now")
        t.equal(qmp.events, [("DEVICE_TRAY_MOVED", True)], "the guest's eject was told")
        t.equal(qmp("blockdev-change-medium", id="ide-5632", filename=other, read_only_mode="retain").get("return"), {}, "insert")
        t.equal(tur(d), ATTENTION, "attention")
        d.packet(cdb(0x1e, 0, 0, 0, 1))
        t.equal(qmp("eject", device="ide-5632", force=True).get("return"), {}, "force")
        t.equal(tur(d), NO_MEDIUM_OPEN, "taken by force")
        t.equal(qmp("blockdev-change-medium", id="ide-5632", filename=other, format="raw").get("return"), {}, "insert")
        t.equal((tur(d), tur(d), capacity(d)), (ATTENTION, None, 30), "ready")


def test_in_flight(t):
    """Another, smaller disc in the middle of a PIO and of a DMA read: no byte of it is read by the old command."""
    with t.machine(iso=True) as m:
        d = Drive(m, SECONDARY, 0, pcibus.find(pcibus.assign(m), 1, 4)[0])
        qmp = Qmp(m)
        big, small = disc(m, "big", 2000, 0), disc(m, "small", 10, 5000)
        insert(t, qmp, big)
        settle(d)
        m.outb(d.base + 4, 0x00)
        m.outb(d.base + 5, 0x08)
        m.outb(d.base + 1, 0)
        m.outb(d.base + 7, 0xa0)
        d.wait()
        for word in struct.unpack("<6H", read10(3, 1500).ljust(12, b"\0")):
            m.outw(d.base, word)
        d.wait()
        t.equal(d.data_in(2048), pattern(3, 2048), "first sector")
        insert(t, qmp, small)
        n = 4
        while d.wait() & 8:
            t.equal(d.data_in(2048), pattern(n, 2048), "sector %d" % n)
            n += 1
        t.check(n < 1000 and d.alt() & 1, "ended at %d with %#x" % (n, d.alt()))
        t.equal(sense(d)[2:13:10], b"\x06\x28", "sense")
        t.equal((tur(d), capacity(d)), (None, 10), "the small one")
        insert(t, qmp, big)
        settle(d)
        m.cmd("memset 0x200000 0x200000 0xee")
        d.prd([(0x200000 + i * 0x10000, 0) for i in range(32)])
        m.outb(d.base + 1, 1)
        m.outb(d.base + 7, 0xa0)
        d.wait()
        for word in struct.unpack("<6H", read10(0, 1000).ljust(12, b"\0")):
            m.outw(d.base, word)
        m.outb(d.bm, 9)
        insert(t, qmp, small)
        status = d.wait()
        m.outb(d.bm, 0)
        for i in range(1000):
            data = m.read(0x200000 + i * 2048, 2048)
            t.check(data == pattern(i, 2048) or (data == b"\xee" * 2048 and status & 1), "DMA sector %d: %r" % (i, data[:20]))
        m.inb(d.base + 7)
        t.check(tur(d) in (None, ATTENTION), "attention unless the read had it")
        t.equal((tur(d), capacity(d)), (None, 10), "the small one")


def test_refusals(t):
    """What is not there or not allowed is an error, and the disc stays."""
    with t.machine(iso=True, disk=True) as m:
        d, qmp = Drive(m, SECONDARY), Qmp(m)
        settle(d)
        empty = disc(m, "empty", 0, tail=b"x" * 100)
        for arguments, cls in (({}, "GenericError"), ({"id": "ide-5696", "filename": m.iso}, "DeviceNotFound"),
                               ({"id": "ide-5632", "device": "ide-5632", "filename": m.iso}, "GenericError"),
                               ({"id": "ide-5632"}, "GenericError"), ({"id": "ide-5632", "filename": 7}, "GenericError"),
                               ({"id": "ide-5632", "filename": "/nonexistent"}, "GenericError"),
                               ({"id": "ide-5632", "filename": "/dev/fdset/0"}, "GenericError"),
                               ({"id": "ide-5632", "filename": "/dev/null"}, "GenericError"),
                               ({"id": "ide-5632", "filename": empty}, "GenericError"),
                               ({"id": "ide-5632", "filename": m.iso, "format": "nonsense"}, "GenericError"),
                               ({"device": "ide0-hd0", "filename": m.iso}, "GenericError")):
            t.equal(qmp("blockdev-change-medium", **arguments)["error"]["class"], cls, "change %r" % arguments)
        t.equal(qmp("eject", device="ide0-hd0")["error"]["class"], "GenericError", "eject a disk")
        t.equal((tur(d), d.packet(read10(5, 1))[0]), (None, pattern(5, 2048)), "the disc")
        t.equal(qmp.events, [], "events")


def test_human(t):
    """eject and change at the human monitor."""
    with t.machine(iso=True) as m:
        d, qmp = Drive(m, SECONDARY), Qmp(m)
        settle(d)
        other = disc(m, "a disc.iso", 12, 700)

        def hmp(line):
            return qmp("human-monitor-command", command_line=line)["return"]
        t.equal(hmp("eject ide-5632"), "", "eject")
        t.equal(tur(d), NO_MEDIUM_OPEN, "ejected")
        t.equal(hmp('change ide-5632 "%s" raw' % other), "", "change")
        t.equal((tur(d), tur(d), capacity(d)), (ATTENTION, None, 12), "changed")
        t.check("a disc.iso" in hmp("info block"), "info block")
        t.check("Error" in hmp("eject nothing"), "unknown drive")


def test_odd_sizes(t):
    """Discs that end in a part of a sector; over 4 GiB; beyond what READ(10)'s MSF addresses can say."""
    with t.machine(iso="") as m:
        d, qmp = Drive(m, SECONDARY, 0, pcibus.find(pcibus.assign(m), 1, 4)[0]), Qmp(m)
        for tail in (1, 511, 512, 1024, 2047):
            insert(t, qmp, disc(m, "odd", 9, 40, b"z" * tail))
            settle(d)
            t.equal(capacity(d), 9, "with %d bytes more" % tail)
            t.equal(d.packet(read10(8, 1))[0], pattern(48, 2048), "last sector")
            t.check(d.packet(read10(9, 1))[3], "the part of a sector is not there")
            sense(d)
        path = os.path.join(m.dir, "huge")
        for gib in (5, 9, 4096):
            total = (gib << 30) // 2048
            with open(path, "wb") as f:
                f.truncate(gib << 30)
                for lba in (0, (4 << 30) // 2048 - 1, (4 << 30) // 2048, total - 1):
                    f.seek(lba * 2048)
                    f.write(pattern(lba, 2048))
            insert(t, qmp, path)
            settle(d)
            t.equal(capacity(d), total, "%d GiB" % gib)
            for lba in (0, (4 << 30) // 2048 - 1, (4 << 30) // 2048, total - 1):
                t.equal(d.packet(read10(lba, 1))[0], pattern(lba, 2048), "READ(10) of %d" % lba)
                t.equal(d.packet(read12(lba, 1))[0], pattern(lba, 2048), "READ(12) of %d" % lba)
                t.equal(d.packet(read12(lba, 1), dma=2048)[0], pattern(lba, 2048), "DMA of %d" % lba)
            t.check(d.packet(read12(total - 1, 2))[3], "across the end")
            t.equal(sense(d)[2:13:10], b"\x05\x21", "sense")
            t.equal(d.packet(cdb(0x46, 0, 0, 0, 0, 0, 0, 0, 8))[0][6:8], b"\0\x10", "a DVD")


def huge_disk(sectors, marks):
    """A sparse disk with numbered sectors at marks."""
    def argv(m):
        m.disk = os.path.join(m.dir, "huge.img")
        with open(m.disk, "wb") as f:
            f.truncate(sectors * 512)
            for lba in marks:
                f.seek(lba * 512)
                f.write(pattern(lba, 512))
        return m.arguments()
    return argv


def check_huge_disk(t, sectors):
    marks = sorted({lba for edge in (1 << 23, 1 << 28, 1 << 32, sectors) for lba in (edge - 1, edge) if lba < sectors})
    with t.machine(argv=huge_disk(sectors, marks)) as m:
        d = Drive(m, PRIMARY, 0, pcibus.find(pcibus.assign(m), 1, 4)[0])
        words = struct.unpack("<256H", d.pio_in(0xec, 1)[0])
        t.equal(words[60] | words[61] << 16, min(sectors, 0xfffffff), "28-bit size")
        t.equal(sum(words[100 + i] << 16 * i for i in range(4)), sectors, "48-bit size")
        d.issue(0x27, lba48=True)
        d.wait()
        low = m.values(["inb %#x" % (d.base + i) for i in (3, 4, 5)])
        m.outb(d.ctl, 0x80)
        high = m.values(["inb %#x" % (d.base + i) for i in (3, 4, 5)])
        m.outb(d.ctl, 0)
        t.equal(sum(v << 8 * i for i, v in enumerate(low + high)), sectors - 1, "native maximum")
        for lba in marks:
            t.equal(d.pio_in(0x24, 1, lba=lba, lba48=True)[0], pattern(lba, 512), "PIO read of %#x" % lba)
            d.dma(0x25, [(BUFFER, 512)], True, count=1, lba=lba, lba48=True)
            t.equal(m.read(BUFFER, 512), pattern(lba, 512), "DMA read of %#x" % lba)
            data = pattern(lba ^ 0x5555, 512)
            m.write(BUFFER, data)
            d.dma(0x35, [(BUFFER, 512)], False, count=1, lba=lba, lba48=True)
            t.equal(d.pio_in(0x29, 1, lba=lba, lba48=True)[0], data, "DMA write of %#x" % lba)
            t.equal(d.pio_out(0x34, data[::-1], lba=lba, lba48=True) & 0x89, 0, "PIO write of %#x" % lba)
        d.issue(0xea, lba48=True)
        d.wait()
        with open(m.disk, "rb") as f:
            for lba in marks:
                f.seek(lba * 512)
                t.equal(f.read(512), pattern(lba ^ 0x5555, 512)[::-1], "the image at %#x" % lba)
        for count, lba in ((1, sectors), (2, sectors - 1), (65536, sectors - 65535), (1, 0xffffffffffff)):
            d.issue(0x24, count=count & 0xffff, lba=lba, lba48=True)
            t.equal((d.wait() & 0x89, m.inb(d.base + 1)), (1, 0x10), "%d sectors from %#x" % (count, lba))
        d.prd([(0x200000 + i * 0x10000, 0) for i in range(512)])
        m.outb(d.bm + 2, 6)
        d.issue(0x25, count=0, lba=sectors - 65536, lba48=True)
        t.equal(d.run_dma(True, 20000)[1:], (0x50, 0), "65536 sectors up to the last")
        t.equal(m.read(0x200000 + 65535 * 512, 512), pattern((sectors - 1) ^ 0x5555, 512)[::-1], "the last of them")


def test_disk_6_gib(t):
    check_huge_disk(t, (6 << 30) // 512)


def test_disk_3_tib(t):
    """Beyond what 32 bits of sectors can say."""
    check_huge_disk(t, (3 << 40) // 512 + 7)
