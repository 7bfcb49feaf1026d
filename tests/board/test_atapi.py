# SPDX-License-Identifier: GPL-2.0-or-later
"""ATAPI CD-ROM: packet commands against the peer."""
import struct

import fakexen
import pcibus
from harness import compare, only, prefix
from ide import BUFFER, SECONDARY, Drive

BLOCKS = 4 << 9

# MMC-5 answers where the peer's are partial: golden values are in the unit tests.
COMMANDS_BEYOND = [
    ("toc [123].*", None, "format field of byte 2 and of byte 9; the peer knows byte 9 only"),
    ("mode sense.*", None, "medium type, audio page, page 3f, changeable and default values, 6-byte form"),
    ("config .*", None, "all features of a DVD-ROM drive; a reserved RT value is refused"),
    ("event .*", None, "event data length does not count itself (MMC-5 6.7.2)"),
    ("track info.*|subchannel.*", None, "READ TRACK INFORMATION and READ SUB-CHANNEL exist"),
    ("dvd structure.*", None, "list of structures; sense 30/02 for a CD in the drive"),
    ("read 0 blocks.*", None, "the tray was just closed with a medium in it: unit attention 28h (MMC-5 6.39)"),
]
TRAY_CLOSED = only((bytes.fromhex("f00002000000000a000000003a0000000000"),
                    bytes.fromhex("f00002000000000a000000003a0100000000")))


def cdb(*values):
    return bytes(values).ljust(12, b"\0")


def read10(lba, n):
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, n, 0)


def read12(lba, n):
    return struct.pack(">BBIIBB", 0xa8, 0, lba, n, 0, 0)


def sense(d):
    return d.packet(cdb(0x03, 0, 0, 0, 18))[0]


def settle(d):
    """Takes the unit attention away."""
    for _ in range(3):
        d.packet(cdb(0))
        d.packet(cdb(0x03, 0, 0, 0, 18))


@compare([("signature|device reset", only(("00", "01"), ("50", "00")), "diagnostic code 1, no DRDY"),
          ("identify device", only(("e0", "a0")), "the signature includes the device register")], iso=True)
def test_identify(m, out):
    d = Drive(m, SECONDARY)
    d.select()
    out("signature", d.regs())
    d.issue(0xec)
    d.wait()
    out("identify device", d.regs())
    d.reset()
    data, status = d.pio_in(0xa1, 1)
    out("status", status)
    for i in range(0, 512, 2):
        out("word %d" % (i // 2), data[i] | data[i + 1] << 8)
    m.outb(d.base + 7, 0x08)
    d.wait()
    out("device reset", d.regs())
    m.outb(d.base + 7, 0x90)
    d.wait()
    out("diagnostic", d.regs())


@compare([("opcode 08", only(("00", "01")), "diagnostic code 1"),
          ("opcode (20|ec)", only(("e0", "a0")), "the signature includes the device register"),
          ("opcode 90", only((0, 1)), "EXECUTE DEVICE DIAGNOSTIC interrupts"),
          ("opcode (9[4-9]|e[0-6])", None, "power management, mandatory for packet devices")], iso=True)
def test_every_ata_opcode(m, out):
    d = Drive(m, SECONDARY)
    for command in range(256):
        d.issue(command, count=1, lba=1)
        status = d.wait()
        out("opcode %02x" % command, (status, d.regs(), d.irq_level()))
        d.reset()


@compare(iso=True)
def test_first_commands(m, out):
    """Unit attention after power on, and its end."""
    d = Drive(m, SECONDARY)
    for name, c in (("inquiry", cdb(0x12, 0, 0, 0, 36)), ("tur", cdb(0)), ("tur 2", cdb(0)),
                    ("sense", cdb(3, 0, 0, 0, 18)), ("tur 3", cdb(0)), ("sense 2", cdb(3, 0, 0, 0, 18)),
                    ("tur 4", cdb(0)), ("sense 3", cdb(3, 0, 0, 0, 18))):
        out(name, d.packet(c))


COMMANDS = (
    ("inquiry 36", cdb(0x12, 0, 0, 0, 36)), ("inquiry 255", cdb(0x12, 0, 0, 0, 255)),
    ("inquiry 6", cdb(0x12, 0, 0, 0, 6)), ("inquiry 0", cdb(0x12, 0, 0, 0, 0)),
    ("inquiry vpd 0", cdb(0x12, 1, 0, 0, 255)), ("inquiry vpd 83", cdb(0x12, 1, 0x83, 0, 255)),
    ("inquiry vpd 80", cdb(0x12, 1, 0x80, 0, 255)),
    ("sense", cdb(3, 0, 0, 0, 18)), ("sense 8", cdb(3, 0, 0, 0, 8)), ("sense 252", cdb(3, 0, 0, 0, 252)),
    ("capacity", cdb(0x25)), ("capacity again", cdb(0x25)),
    ("toc 0", cdb(0x43, 0, 0, 0, 0, 0, 0, 0, 255)), ("toc 0 msf", cdb(0x43, 2, 0, 0, 0, 0, 0, 0, 255)),
    ("toc 0 track 1", cdb(0x43, 0, 0, 0, 0, 0, 1, 0, 255)),
    ("toc 0 track aa", cdb(0x43, 0, 0, 0, 0, 0, 0xaa, 0, 255)),
    ("toc 0 track 5", cdb(0x43, 0, 0, 0, 0, 0, 5, 0, 255)),
    ("toc 1", cdb(0x43, 0, 1, 0, 0, 0, 0, 0, 255)), ("toc 1 old", cdb(0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0x40)),
    ("toc 2", cdb(0x43, 0, 2, 0, 0, 0, 0, 0, 255)), ("toc 2 msf", cdb(0x43, 2, 2, 0, 0, 0, 0, 0, 255)),
    ("toc 2 old", cdb(0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0x80)), ("toc 3", cdb(0x43, 0, 3, 0, 0, 0, 0, 0, 255)),
    ("toc short", cdb(0x43, 0, 0, 0, 0, 0, 0, 0, 4)), ("toc 12", cdb(0x43, 0, 0, 0, 0, 0, 0, 0, 12)),
    ("mode sense 1", cdb(0x5a, 0, 0x01, 0, 0, 0, 0, 0, 255)), ("mode sense 2a", cdb(0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 255)),
    ("mode sense 0e", cdb(0x5a, 0, 0x0e, 0, 0, 0, 0, 0, 255)), ("mode sense 3f", cdb(0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 255)),
    ("mode sense 2a short", cdb(0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 8)), ("mode sense changeable", cdb(0x5a, 0, 0x6a, 0, 0, 0, 0, 0, 255)),
    ("mode sense default", cdb(0x5a, 0, 0xaa, 0, 0, 0, 0, 0, 255)), ("mode sense saved", cdb(0x5a, 0, 0xea, 0, 0, 0, 0, 0, 255)),
    ("mode sense 6", cdb(0x1a, 0, 0x2a, 0, 255)),
    ("config 0", cdb(0x46, 0, 0, 0, 0, 0, 0, 0, 255)), ("config one", cdb(0x46, 2, 0, 0, 0, 0, 0, 0, 255)),
    ("config one 3", cdb(0x46, 2, 0, 3, 0, 0, 0, 0, 255)), ("config current", cdb(0x46, 1, 0, 0, 0, 0, 0, 0, 255)),
    ("config short", cdb(0x46, 0, 0, 0, 0, 0, 0, 0, 8)), ("config reserved", cdb(0x46, 3, 0, 0, 0, 0, 0, 0, 255)),
    ("event polled", cdb(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8)), ("event media", cdb(0x4a, 1, 0, 0, 0xff, 0, 0, 0, 255)),
    ("event none", cdb(0x4a, 1, 0, 0, 0, 0, 0, 0, 8)), ("event async", cdb(0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8)),
    ("event short", cdb(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 4)),
    ("disc info", cdb(0x51, 0, 0, 0, 0, 0, 0, 0, 255)), ("disc info type 1", cdb(0x51, 1, 0, 0, 0, 0, 0, 0, 255)),
    ("track info", cdb(0x52, 1, 0, 0, 0, 1, 0, 0, 255)),
    ("dvd structure 0", cdb(0xad, 0, 0, 0, 0, 0, 0, 0, 255, 255)), ("dvd structure 1", cdb(0xad, 0, 0, 0, 0, 0, 0, 1, 255, 255)),
    ("dvd structure 4", cdb(0xad, 0, 0, 0, 0, 0, 0, 4, 255, 255)), ("dvd structure ff", cdb(0xad, 0, 0, 0, 0, 0, 0, 0xff, 255, 255)),
    ("mechanism status", cdb(0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 255)), ("subchannel", cdb(0x42, 0, 0x40, 1, 0, 0, 0, 0, 255)),
    ("header", cdb(0x44, 0, 0, 0, 0, 0, 0, 0, 8)), ("set speed", cdb(0xbb, 0, 0xff, 0xff)),
    ("seek", cdb(0x2b, 0, 0, 0, 0, 5)), ("seek past end", cdb(0x2b, 0, 0, 0xff, 0xff, 0xff)),
    ("start", cdb(0x1b, 0, 0, 0, 1)), ("stop", cdb(0x1b, 0, 0, 0, 0)), ("prevent", cdb(0x1e, 0, 0, 0, 1)),
    ("eject locked", cdb(0x1b, 0, 0, 0, 2)), ("allow", cdb(0x1e, 0, 0, 0, 0)), ("load", cdb(0x1b, 0, 0, 0, 3)),
    ("read 0 blocks", read10(0, 0)), ("read past end", read10(BLOCKS, 1)), ("read across end", read10(BLOCKS - 1, 2)),
    ("read far", read10(0xffffffff, 1)), ("read cd none", cdb(0xbe, 0, 0, 0, 0, 0, 0, 0, 1, 0)),
    ("verify", cdb(0x2f, 0, 0, 0, 0, 0, 0, 0, 1)), ("write 10", cdb(0x2a, 0, 0, 0, 0, 0, 0, 0, 1)),
    ("read 6", cdb(0x08, 0, 0, 0, 1)), ("performance", cdb(0xac, 0, 0, 0, 0, 0, 0, 0, 0, 1)),
    ("report key", cdb(0xa4, 0, 0, 0, 0, 0, 0, 0, 0, 8, 8)), ("report luns", cdb(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16)),
    ("pause", cdb(0x4b)), ("play", cdb(0x47)), ("unknown ff", cdb(0xff)), ("unknown 01", cdb(0x01)),
)


@compare(COMMANDS_BEYOND, iso=True)
def test_commands(m, out):
    d = Drive(m, SECONDARY)
    settle(d)
    for name, c in COMMANDS:
        data, phases, status, error = d.packet(c)
        out(name + " data", data)
        out(name + " end", (phases, status, error))
        if error & 0xf0:
            out(name + " sense", sense(d))
        d.reset()


@compare(COMMANDS_BEYOND + [(".* sense", TRAY_CLOSED, "3a/01: medium not present, tray closed")], iso="")
def test_commands_without_medium(m, out):
    d = Drive(m, SECONDARY)
    for name, c in COMMANDS:
        data, phases, status, error = d.packet(c)
        out(name + " data", data)
        out(name + " end", (phases, status, error))
        if error & 0xf0:
            out(name + " sense", sense(d))
        d.reset()


@compare([("packet (1a|42|52|ad|b9).*", None, "MODE SENSE(6), READ SUB-CHANNEL, READ TRACK INFORMATION, "
           "READ DVD STRUCTURE and READ CD MSF exist")], iso=True)
def test_every_packet_opcode(m, out):
    d = Drive(m, SECONDARY)
    settle(d)
    for op in range(256):
        if op in (0x1b, 0x55):
            continue
        data, phases, status, error = d.packet(cdb(op))
        out("packet %02x" % op, (data, phases, status, error))
        out("packet %02x sense" % op, sense(d))
        d.reset()


@compare([(".* limit 0", only(("0", "1")), "the abort of a zero byte count interrupts")], iso=True)
def test_read(m, out):
    d = Drive(m, SECONDARY)
    settle(d)
    for name, c in (("one", read10(0, 1)), ("three", read10(17, 3)), ("last", read10(BLOCKS - 1, 1)),
                    ("twelve", read12(100, 5)), ("cd user data", cdb(0xbe, 0, 0, 0, 0, 9, 0, 0, 2, 0x10)),
                    ("cd raw", cdb(0xbe, 0, 0, 0, 0, 9, 0, 0, 1, 0xf8))):
        for limit in (0xfffe, 0x8000, 2048, 3000, 512, 0xffff, 0):
            out("%s limit %d" % (name, limit), d.packet(c, limit))
            d.reset()
            d.packet(cdb(3, 0, 0, 0, 18))
    data = d.packet(read10(200, 32), 0x8000)[0]
    out("64 KiB", data == b"".join(fakexen.pattern(i, 2048) for i in range(200, 232)))


@compare([("insw 0x170 0x100000 2000", prefix(0x800), "more words than the block: the next one follows")],
         iso=True)
def test_read_odd(m, out):
    """REP counts that have nothing to do with the sector, both directions, dwords."""
    d = Drive(m, SECONDARY)
    settle(d)
    for lines in (("insw 0x170 0x100000 1024",), ("insl 0x170 0x100000 512",),
                  ("insw 0x170 0x100000 7", "insw 0x170 0x10000e 1017"),
                  ("insw 0x170 0x1007fe 1024 df",), ("insw 0x170 0x100000 1000", "insl 0x170 0x1007d0 12"),
                  ("insw 0x170 0x100000 2000",)):
        m.cmd("memset 0x100000 0x2000 0xee")
        d.select()
        m.outb(d.base + 1, 0)
        m.outb(d.base + 4, 0x00)
        m.outb(d.base + 5, 0x08)
        m.outb(d.base + 7, 0xa0)
        d.wait()
        m.write(0x200000, read10(33, 2))
        m.cmd("xen outsw 0x170 0x200000 6")
        d.wait()
        for line in lines:
            m.cmd("xen " + line)
            d.wait()
        out(" + ".join(lines), (d.regs(), m.read(0x100000, 0x1000)))
        d.reset()


@compare([("too long", only((4, 5)), "the table is not used up, so Active stays set")], iso=True)
def test_dma(m, out):
    placed = pcibus.assign(m)
    d = Drive(m, SECONDARY, 0, pcibus.find(placed, 1, 4)[0])
    settle(d)
    for name, c, size in (("one", read10(0, 1), 2048), ("thirty-two", read10(50, 32), 65536),
                          ("inquiry", cdb(0x12, 0, 0, 0, 36), 36), ("too long", read10(1, 1), 4096),
                          ("past end", read10(BLOCKS, 1), 2048)):
        m.cmd("memset %#x 0x10000 0" % BUFFER)
        out(name, d.packet(c, dma=size))
        d.reset()


def test_odd_length(t):
    """An answer of odd length ends with a padded word. (Not compared: the peer never gives the last
    byte, and stays in the data phase.)"""
    with t.machine(iso=True) as m:
        d = Drive(m, SECONDARY)
        settle(d)
        data, phases, status, error = d.packet(cdb(0x12, 0, 0, 0, 5))
        t.equal(data, bytes((0x05, 0x80, 0x00, 0x21, 0x1f)), "first bytes of INQUIRY")
        t.equal((status & 0x89, error), (0, 0), "end")
        d.reset()
        t.equal(d.packet(read10(3, 1))[0], fakexen.pattern(3, 2048), "a sector after it")


@compare(iso=True)
def test_wrong_packets(m, out):
    """Odd limits, a packet in the middle of data, writes of the wrong width."""
    d = Drive(m, SECONDARY)
    settle(d)
    for limit in (2, 12, 36, 37):
        out("inquiry by %d" % limit, d.packet(cdb(0x12, 0, 0, 0, 36), limit))
        d.reset()
    m.outb(d.base + 7, 0xa0)
    d.wait()
    m.outb(d.base, 0x12)
    out("byte to the packet port", d.regs())
    m.outl(d.base, 0x12)
    out("dword to the packet port", d.regs())
    d.reset()
    m.outb(d.base + 7, 0xa0)
    d.wait()
    m.outb(d.base + 7, 0xa1)
    out("command instead of a packet", d.regs())
    d.reset()
    out("mode select", d.packet(cdb(0x55, 0x10, 0, 0, 0, 0, 0, 0, 16), data=bytes(16)))
    out("sense", sense(d))
    d.reset()
    out("alive", d.packet(read10(5, 1)))
