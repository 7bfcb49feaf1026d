# SPDX-License-Identifier: GPL-2.0-or-later
"""ATA disk: identify, PIO, DMA and errors against the peer."""
import random

import fakexen
import pcibus
from harness import compare, only, ours, prefix
from ide import BUFFER, PRIMARY, SECONDARY, Drive

SECTORS = 4 << 11

# Differences that more than one test meets.
DIAGNOSTIC = only(("00", "01"), (0, 1))  # error register after power-on: diagnostic code 1, passed
PACKET_READY = only(("00", "01"), ("50", "00"), (0x50, 0x00), ("ff", "14"), ("ff", "eb"))
NOT_FOUND = only(("04", "10"), (4, 0x10))  # address out of range: IDNF (ATA-6), the peer says ABRT
SEEK_DONE = only(("40", "50"), (0x40, 0x50))  # DSC stays set after a command without a seek


def with_dma(m, channel=PRIMARY, slave=0):
    placed = pcibus.assign(m)
    return Drive(m, channel, slave, pcibus.find(placed, 1, 4)[0])


@compare([("primary .*", DIAGNOSTIC, "error register 1 after power-on diagnostics"),
          ("secondary .*", PACKET_READY, "a packet device shows its signature without DRDY; a reset of "
           "the channel selects device 0, the peer answers for device 1"),
          ("in reset", only(("50", "80")), "BSY while SRST is set"),
          ("inb 0x3f7", ours(0xff), "no floppy controller")], disk=True, iso=True)
def test_reset_state(m, out):
    for channel, name in ((PRIMARY, "primary"), (SECONDARY, "secondary")):
        for slave in (0, 1):
            d = Drive(m, channel, slave)
            d.select()
            out("%s %d at reset" % (name, slave), d.regs())
            out("%s %d status" % (name, slave), (m.inb(d.base + 7), d.irq_level()))
    d = Drive(m, PRIMARY)
    d.select()
    m.outb(d.ctl, 0x04)
    out("in reset", d.regs())
    m.outb(d.ctl, 0x00)
    d.wait()
    out("after reset", d.regs())
    d = Drive(m, SECONDARY)
    m.outb(d.ctl, 0x04)
    m.outb(d.ctl, 0x00)
    d.wait()
    out("secondary after reset", d.regs())
    for port in (0x3f6, 0x376, 0x3f7, 0x377):
        out("inb %#x" % port, m.inb(port))


@compare([("word read", only((0xaa00, 0xaa01), (0xffffffff, 0x50a09b79)),
           "a dword is four bytes; the peer refuses it"),
          (".*", DIAGNOSTIC, "error register 1 after power-on diagnostics")], disk=True, iso=True)
def test_task_file(m, out):
    """What written registers read back as, and the HOB bit."""
    d = Drive(m, PRIMARY)
    for step in range(2):
        for i, v in enumerate((0x12, 0x34, 0x56, 0x78, 0x9a)):
            m.outb(d.base + 1 + i, v + step)
        out("written %d" % step, d.regs())
    m.outb(d.ctl, 0x80)
    out("previous values", d.regs())
    m.outb(d.ctl, 0x00)
    for v in (0x00, 0x40, 0x4f, 0xef, 0xff, 0xb0, 0xa0):
        m.outb(d.base + 6, v)
        out("device %#x" % v, d.regs())
    m.outw(d.base + 2, 0xbbaa)
    out("word write", d.regs())
    out("word read", (m.inw(d.base + 2), m.inw(d.base + 1), m.inl(d.base + 4)))
    out("data without a command", (m.inw(d.base), m.inl(d.base), m.inb(d.base)))


@compare(disk=True)
def test_identify(m, out):
    d = Drive(m, PRIMARY)
    data, status = d.pio_in(0xec, 1)
    out("status", status)
    for i in range(0, 512, 2):
        out("word %d" % (i // 2), data[i] | data[i + 1] << 8)
    out("registers", d.regs())
    d.issue(0xa1)
    d.wait()
    out("identify packet", d.regs())


@compare(disk=True, disk_mib=40)
def test_identify_40(m, out):
    data, status = Drive(m, PRIMARY).pio_in(0xec, 1)
    for i in range(0, 512, 2):
        out("word %d" % (i // 2), data[i] | data[i + 1] << 8)


@compare(disk=True)
def test_read_pio(m, out):
    d = Drive(m, PRIMARY)
    for command in (0x20, 0x21, 0xc4, 0x24, 0x29):
        for lba, n in ((0, 1), (5, 3), (1000, 16), (SECTORS - 2, 2)):
            block = 16 if command in (0xc4, 0x29) else 1
            if command in (0xc4, 0x29):
                d.issue(0xc6, count=16)
                d.wait()
            data, status = d.pio_in(command, n, block, lba=lba, lba48=command in (0x24, 0x29))
            out("%#x lba %d n %d data" % (command, lba, n), data)
            out("%#x lba %d n %d end" % (command, lba, n), (status, d.regs(), d.irq_level()))
            m.inb(d.base + 7)
            out("%#x lba %d n %d irq" % (command, lba, n), d.irq_level())
    data, status = d.pio_in(0x20, 256, lba=100)
    out("256 sectors", (len(data), status, data == b"".join(
        fakexen.pattern(i, 512) for i in range(100, 356))))


@compare([("insw 0x1f0 0x100000 300", prefix(0x200), "more words than the sector: the next one follows"),
          ("insb 0x1f0 0x100000 512", prefix(0x100), "a byte read takes a word: after a sector, the next one"),
          ("insb 0x1f0 0x100000 512 end", only((0x58, 0x50), ("58", "50")), "both sectors are read")],
         disk=True)
def test_read_widths(m, out):
    """The data port by word and by dword, alone and repeated, forwards and backwards."""
    d = Drive(m, PRIMARY)
    for name, cmds in (("inw", ["inw 0x1f0"] * 256), ("inl", ["inl 0x1f0"] * 128),
                       ("mixed", ["inw 0x1f0", "inl 0x1f0"] * 85 + ["inw 0x1f0"])):
        d.issue(0x20, count=1, lba=7)
        d.wait()
        out(name, m.values(cmds))
        out(name + " end", d.regs())
    for line in ("insw 0x1f0 0x100000 256", "insl 0x1f0 0x100000 128", "insw 0x1f0 0x100ffe 256 df",
                 "insl 0x1f0 0x100ffc 128 df", "insw 0x1f0 0x100fff 256", "insw 0x1f0 0x100f00 200",
                 "insw 0x1f0 0x100000 300", "insb 0x1f0 0x100000 512"):
        m.cmd("memset 0x100000 8192 0xee")
        d.issue(0x20, count=2, lba=9)
        d.wait()
        m.cmd("xen " + line)
        status = d.wait()
        out(line, m.read(0x100000, 0x2000))
        out(line + " end", (status, d.regs()))
        d.reset()


@compare(disk=True)
def test_write_pio(m, out):
    d = Drive(m, PRIMARY)
    for command, block in ((0x30, 1), (0xc5, 8), (0x34, 1), (0x39, 8), (0x31, 1), (0x3c, 1)):
        if block > 1:
            d.issue(0xc6, count=block)
            d.wait()
        lba = 50 + command
        data = bytes((i * 3 + command) & 0xff for i in range(512 * 12))
        status = d.pio_out(command, data, block, lba=lba, lba48=command in (0x34, 0x39))
        out("%#x end" % command, (status, d.regs(), d.irq_level()))
        d.issue(0xe7)
        d.wait()
        back, status = d.pio_in(0x20, 14, lba=lba - 1)
        out("%#x read back" % command, back)
    with open(m.disk, "rb") as f:
        f.seek((50 + 0x30) * 512)
        out("image", f.read(512))
    for line in ("outsw 0x1f0 0x100000 256", "outsl 0x1f0 0x100000 128",
                 "outsw 0x1f0 0x1001fe 256 df"):
        m.write(0x100000, bytes(i * 5 & 0xff for i in range(512)))
        d.issue(0x30, count=1, lba=400)
        d.wait()
        m.cmd("xen " + line)
        out(line, (d.wait(), d.regs()))
        out(line + " back", d.pio_in(0x20, 1, lba=400)[0])


@compare([("chs .*", NOT_FOUND, "IDNF")], disk=True)
def test_chs(m, out):
    d = Drive(m, PRIMARY)

    def read(c, h, s):
        d.select(h)
        for off, v in ((1, 0), (2, 1), (3, s), (4, c & 0xff), (5, c >> 8)):
            m.outb(d.base + off, v)
        m.outb(d.base + 7, 0x20)
        status = d.wait()
        data = d.data_in(512) if status & 8 else b""
        return status, data[:24], d.regs()

    for chs in ((0, 0, 1), (0, 0, 63), (0, 1, 1), (1, 0, 1), (0, 0, 0), (7, 15, 63), (8, 2, 9)):
        out("chs %s" % (chs,), read(*chs))
        d.reset()
    m.outb(d.base + 2, 17)
    d.select(3)
    m.outb(d.base + 7, 0x91)
    d.wait()
    out("init parameters", d.regs())
    out("chs with 4 heads of 17", read(1, 1, 1))


@compare([("idle.*|standby.*|sleep", SEEK_DONE, "DSC"),
          ("verify past end", ours((0x41, ["10", "01", "00", "20", "00", "e0", "41"], 1)),
           "READ VERIFY looks at the address; the peer does nothing"),
          ("set features .* modes", only((0x3f, 0x203f)), "a PIO mode leaves the UDMA mode selected")],
         disk=True)
def test_non_data(m, out):
    d = Drive(m, PRIMARY)
    for name, command, kw in (
            ("recalibrate", 0x10, {}), ("recalibrate 1f", 0x1f, {}), ("seek", 0x70, {"lba": 5}),
            ("verify", 0x40, {"lba": 5, "count": 3}), ("verify ext", 0x42, {"lba": 5, "count": 3,
                                                                           "lba48": True}),
            ("native max", 0xf8, {}), ("native max ext", 0x27, {"lba48": True}),
            ("flush", 0xe7, {}), ("flush ext", 0xea, {}), ("idle", 0xe3, {}), ("standby", 0xe2, {}),
            ("idle now", 0xe1, {}), ("standby now", 0xe0, {}), ("check power", 0xe5, {}),
            ("check power old", 0x98, {}), ("sleep", 0xe6, {}), ("nop", 0x00, {}),
            ("diagnostic", 0x90, {}), ("set multiple 16", 0xc6, {"count": 16}),
            ("set multiple 3", 0xc6, {"count": 3}), ("set multiple 0", 0xc6, {"count": 0}),
            ("set multiple 32", 0xc6, {"count": 32}), ("device reset", 0x08, {}),
            ("verify past end", 0x40, {"lba": SECTORS, "count": 1})):
        d.issue(command, **kw)
        status = d.wait()
        out(name, (status, d.regs(), d.irq_level()))
        m.inb(d.base + 7)
        out(name + " irq", d.irq_level())
        d.reset()
    for feature, count in ((0x02, 0), (0x82, 0), (0x03, 0x0c), (0x03, 0x22), (0x03, 0x45),
                           (0x03, 0x08), (0x03, 0x00), (0x03, 0x01), (0xaa, 0), (0x55, 0),
                           (0x05, 0x80), (0x85, 0), (0x42, 0), (0xc2, 0), (0x66, 0), (0xcc, 0),
                           (0x67, 0), (0x96, 0), (0x9a, 0), (0x00, 0), (0xff, 0)):
        d.issue(0xef, features=feature, count=count)
        status = d.wait()
        out("set features %#x %#x" % (feature, count), (status, d.regs()[:1], d.irq_level()))
        data = d.pio_in(0xec, 1)[0]
        out("set features %#x %#x modes" % (feature, count),
            [data[i * 2] | data[i * 2 + 1] << 8 for i in (62, 63, 82, 83, 84, 85, 86, 87, 88)])


@compare([("opcode (9[4-9]|e[0-6])", SEEK_DONE, "DSC"),
          ("opcode f5", only(("00", "01")), "SECURITY FREEZE LOCK leaves the count alone")], disk=True)
def test_every_opcode(m, out):
    """Status, error and interrupt of each opcode with count 1 and LBA 1, then a reset. A DMA command
    waits for the bus master: BSY in ours, DRQ in the peer, and both are allowed."""
    d = Drive(m, PRIMARY)
    for command in range(256):
        if command in (0x25, 0x35, 0xc8, 0xc9, 0xca, 0xcb):
            continue
        d.issue(command, count=1, lba=1, lba48=True)
        status = d.wait()
        out("opcode %02x" % command, (status, d.regs(), d.irq_level()))
        d.reset()


@compare([("absent slave", DIAGNOSTIC, "error register 1 after power-on diagnostics"),
          ("read across.*|write past end.*", None, "the whole range is checked before the first sector; "
           "the peer transfers up to the end, and takes a write's data before it looks"),
          (".*", NOT_FOUND, "IDNF")], disk=True)
def test_errors(m, out):
    d = Drive(m, PRIMARY)
    for name, command, kw in (("read past end", 0x20, {"lba": SECTORS, "count": 1}),
                              ("read far", 0x20, {"lba": 0xfffffff, "count": 1}),
                              ("read across", 0x20, {"lba": SECTORS - 1, "count": 2}),
                              ("read ext past", 0x24, {"lba": 1 << 40, "count": 1, "lba48": True}),
                              ("write past end", 0x30, {"lba": SECTORS, "count": 1}),
                              ("multiple past end", 0xc4, {"lba": SECTORS, "count": 4}),
                              ("unknown", 0xff, {})):
        d.issue(command, **kw)
        status = d.wait()
        out(name, (status, d.regs(), d.irq_level()))
        if status & 8:
            if command == 0x30:
                d.data_out(bytes(512))
            else:
                d.data_in(512)
            status = d.wait()
            out(name + " next", (status, d.regs(), d.irq_level()))
        d.reset()
    d.issue(0x20, count=1, lba=0)
    d.wait()
    m.outb(d.base + 2, 0x55)
    out("register write during data", d.regs())
    d.issue(0xec)
    out("command during data", (d.wait(), d.regs()))
    d.reset()
    slave = Drive(m, PRIMARY, 1)
    slave.select()
    m.outb(slave.base + 7, 0xec)
    out("absent slave", slave.regs())
    d.select()
    out("back to master", d.regs())


@compare([("unmasked later", ours(1), "nIEN gates the line, it does not lose the interrupt")], disk=True)
def test_interrupt_mask(m, out):
    d = Drive(m, PRIMARY)
    m.outb(d.ctl, 0x02)
    d.issue(0xec)
    d.wait()
    out("masked", d.irq_level())
    m.outb(d.ctl, 0x00)
    out("unmasked later", d.irq_level())
    m.inb(d.base + 7)
    d.data_in(512)
    d.issue(0x40, count=1)
    d.wait()
    out("level", d.irq_level())
    m.inb(d.ctl)
    out("after alternate status", d.irq_level())
    m.inb(d.base + 7)
    out("after status", d.irq_level())


@compare([(".*", only((0xff, 0), (0xffff, 0), (0xffffffff, 0)), "reserved bytes read as zero")], disk=True)
def test_busmaster_registers(m, out):
    d = with_dma(m)
    for base in (d.bm, d.bm + 8):
        out("reset %d" % (base & 8), [m.inb(base + i) for i in range(8)])
        out("wide %d" % (base & 8), (m.inw(base), m.inl(base), m.inl(base + 4), m.inw(base + 4)))
        for v in (0xff, 0x00, 0x08, 0x09, 0x00):
            m.outb(base, v)
            out("command %#x of %d" % (v, base & 8), [m.inb(base + i) for i in range(4)])
        for v in (0xff, 0x60, 0x00, 0x26, 0x06):
            m.outb(base + 2, v)
            out("status %#x of %d" % (v, base & 8), m.inb(base + 2))
        for v in (0xffffffff, 0x12345678):
            m.outl(base + 4, v)
            out("table %#x of %d" % (v, base & 8), m.inl(base + 4))
        m.outb(base + 5, 0xaa)
        m.outw(base + 6, 0xbbcc)
        out("table by bytes of %d" % (base & 8), m.inl(base + 4))


@compare([("odd address memory", None, "bit 0 of a table address is not wired"),
          ("table too short memory", None, "what the table has room for is transferred"),
          ("past the end.*", only((4, 5), (4, 0x10), ("04", "10"), ("fe", "00"), ("1f", "20")),
           "IDNF with the first address past the end (ATA-6 8.34.6); the table is not used up, so Active stays "
           "set (PIIX3 2.3.2.2)")], disk=True)
def test_dma(m, out):
    d = with_dma(m)
    m.cmd("memset %#x 0x40000 0" % BUFFER)
    for name, pieces, command, kw in (
            ("one piece", [(BUFFER, 0x1000)], 0xc8, {"count": 8, "lba": 3}),
            ("pieces", [(BUFFER + 2, 0x200), (BUFFER + 0x5000, 0x400), (BUFFER + 0x3000, 0xa00)],
             0xc8, {"count": 8, "lba": 30}),
            ("64 KiB", [(BUFFER, 0x10000)], 0xc8, {"count": 128, "lba": 64}),
            ("odd address", [(BUFFER + 1, 0x200)], 0xc8, {"count": 1, "lba": 4}),
            ("odd count", [(BUFFER, 0x101), (BUFFER + 0x1000, 0x100)], 0xc8, {"count": 1, "lba": 4}),
            ("ext", [(BUFFER, 0x1000)], 0x25, {"count": 8, "lba": 99, "lba48": True}),
            ("table too long", [(BUFFER, 0x1000)], 0xc8, {"count": 1, "lba": 9}),
            ("table too short", [(BUFFER, 0x200)], 0xc8, {"count": 8, "lba": 9}),
            ("past the end", [(BUFFER, 0x1000)], 0xc8, {"count": 8, "lba": SECTORS - 2})):
        m.cmd("memset %#x 0x12000 0xcc" % BUFFER)
        out(name, d.dma(command, pieces, True, ms=300, **kw))
        out(name + " memory", m.read(BUFFER, 0x11000))
        out(name + " registers", d.regs())
        d.reset()
    m.write(BUFFER, bytes(i * 11 >> 3 & 0xff for i in range(0x2000)))
    out("write", d.dma(0xca, [(BUFFER, 0x2000)], False, count=16, lba=2000))
    out("write back", d.pio_in(0x20, 18, lba=1999)[0])
    out("write ext", d.dma(0x35, [(BUFFER + 0x200, 0x800)], False, count=4, lba=2100, lba48=True))
    out("write ext back", d.pio_in(0x20, 6, lba=2099)[0])


@compare([("command only", only((0x58, 0xd0)), "BSY or DRQ while a DMA command waits: both allowed"),
          ("reset while waiting", only((4, 0)), "a reset is no interrupt")], disk=True)
def test_dma_wrong(m, out):
    """The start bit without a command, a command without the start bit, the wrong direction."""
    d = with_dma(m)
    d.prd([(BUFFER, 0x200)])
    m.outb(d.bm, 9)
    out("start only", (m.inb(d.bm), m.inb(d.bm + 2)))
    m.outb(d.bm, 8)
    out("stop", (m.inb(d.bm), m.inb(d.bm + 2)))
    d.issue(0xc8, count=1, lba=1)
    out("command only", (d.alt(), m.inb(d.bm + 2), d.irq_level()))
    out("started later", d.run_dma(True))
    out("data", m.read(BUFFER, 32))
    d.prd([(BUFFER, 0x200)])
    d.issue(0xc8, count=1, lba=1)
    m.outb(d.bm, 0)
    d.reset()
    out("reset while waiting", (d.regs(), m.inb(d.bm + 2)))
    m.outl(d.bm + 4, 0xe0000000)
    d.issue(0xc8, count=1, lba=1)
    m.outb(d.bm, 9)
    out("table in a hole", ((m.inb(d.bm + 2) & 0x60), d.alt() & 0x80))
    m.outb(d.bm, 0)
    d.reset()
    out("alive", d.pio_in(0x20, 1, lba=3)[0])


def random_commands(seed):
    """Reads, writes and settings in any order, by PIO and DMA, LBA and LBA48; then the whole image."""

    def script(m, out):
        rng = random.Random(seed)
        d = with_dma(m)
        block = 0
        for step in range(150):
            lba, n = rng.randrange(SECTORS - 64), rng.randrange(1, 17)
            wide = rng.randrange(2) == 1
            kind = rng.choice(("read", "write", "multiple", "dma read", "dma write", "identify", "set"))
            label = "step %d %s lba %d n %d%s" % (step, kind, lba, n, " ext" if wide else "")
            if kind == "read":
                data, status = d.pio_in(0x24 if wide else 0x20, n, lba=lba, lba48=wide)
                out(label, (data, status, d.regs()))
            elif kind == "write":
                data = bytes(rng.randrange(256) for _ in range(512)) * n
                out(label, (d.pio_out(0x34 if wide else 0x30, data, lba=lba, lba48=wide), d.regs()))
            elif kind == "multiple" and block:
                data, status = d.pio_in(0x29 if wide else 0xc4, n, block, lba=lba, lba48=wide)
                out(label, (data, status, d.regs()))
            elif kind == "dma read":
                cut = rng.randrange(1, n * 256) * 2
                pieces = [(BUFFER + 0x20000, cut), (BUFFER + rng.randrange(0x1000) * 2, n * 512 - cut)]
                out(label, (d.dma(0x25 if wide else 0xc8, pieces, True, count=n, lba=lba, lba48=wide),
                            [m.read(a, size) for a, size in pieces if size]))
            elif kind == "dma write":
                m.write(BUFFER, bytes(rng.randrange(256) for _ in range(512)) * n)
                out(label, d.dma(0x35 if wide else 0xca, [(BUFFER, n * 512)], False, count=n, lba=lba,
                                 lba48=wide))
            elif kind == "identify":
                out(label, d.pio_in(0xec, 1))
            elif kind == "set":
                block = rng.choice((1, 2, 4, 8, 16))
                d.issue(0xc6, count=block)
                out(label, (d.wait(), d.regs()))
            m.inb(d.base + 7)
            out(label + " irq", d.irq_level())
        d.issue(0xe7)
        out("flush", d.wait())
        with open(m.disk, "rb") as f:
            out("image", f.read())
    return script


BUT_WORD_59 = [(".* identify .*", lambda a, b: a[1] == b[1] and a[0][:118] == b[0][:118] and a[0][120:] == b[0][120:],
                "word 59 follows SET MULTIPLE MODE; the peer keeps its first IDENTIFY data")]
test_random_1 = compare(BUT_WORD_59, disk=True)(random_commands(1))
test_random_2 = compare(BUT_WORD_59, disk=True)(random_commands(2))
