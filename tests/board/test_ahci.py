# SPDX-License-Identifier: GPL-2.0-or-later
"""AHCI (hdtype='ahci'): the same scripts on the peer's ich9-ahci and on ours."""
import os
import struct
import time

import fakexen
from ahci import (AE, BUFFER, CAP, CI, CLB, CMD, FB, FRE, GHC, HR, IE, IS, PI, PIE, PIS,
                  POD, SACT, SCTL, SERR, SIG, SSTS, SUD, TFD, TFES, VS, Port, setup)
from harness import compare, only, ours

SECTORS = 4 << 11
CD_SECTORS = 600


def arguments(m):
    """A disk at port 0, a CD at port 1, as libxl would say it."""
    m.image = os.path.join(m.dir, "ahci.img")
    iso = os.path.join(m.dir, "ahci.iso")
    fakexen.make_image(m.image, SECTORS, 512)
    fakexen.make_image(iso, CD_SECTORS, 2048)
    return m.arguments() + [
        "-device", "ahci,id=ahci0",
        "-drive", "file=%s,if=none,id=ahcidisk-0,format=raw,cache=writeback" % m.image,
        "-device", "ide-hd,bus=ahci0.0,unit=0,drive=ahcidisk-0",
        "-drive", "if=none,readonly=on,id=cd1,file=%s,format=raw" % iso,
        "-device", "ide-cd,bus=ahci0.1,drive=cd1,id=cd1"]


def start(m, n=0):
    """A running port."""
    _, abar, _ = setup(m)
    m.writel(abar + GHC, AE | IE)
    p = Port(m, abar, n)
    p.start()
    return p


def disk_pattern(lba, count):
    return b"".join(fakexen.pattern(i, 512) for i in range(lba, lba + count))


# The end of a PIO read is in the PIO setup FIS (SATA 2.6, 10.3.10); the peer sends a D2H FIS after it, too.
PIO_END = only((3, 2))


@compare(argv=arguments)
def test_config(m, out):
    dev, _, _ = setup(m)
    out("slot", dev)
    for reg in range(0, 256, 4):
        if reg not in (0x04, 0x20, 0x24):
            out("config %#x" % reg, m.pci_read(dev, 0, reg))
    for reg in (0x04, 0x0c, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30, 0x34, 0x3c, 0x40, 0x80, 0x84,
                0x88, 0x8c, 0x90, 0xa8, 0xac):
        old = m.pci_read(dev, 0, reg)
        values = []
        for v in (0xffffffff, 0):
            m.pci_write(dev, 0, reg, v)
            values.append(m.pci_read(dev, 0, reg))
        m.pci_write(dev, 0, reg, old)
        out("mask %#x" % reg, values)


@compare([("port . CLB", only((0xffffffff, 0xfffffc00)), "aligned to 1 KiB, AHCI 3.3.1"),
          ("port . FB", only((0xffffffff, 0xffffff00)), "aligned to 256 bytes, 3.3.3"),
          ("port . SCTL", only((0xfffffff0, 0xff0)), "reserved bits, 3.3.11"),
          ("port . CMD", only((0x0f82000e, 0x0f000006)),
           "CLO, PMA and APSTE are for things that CAP does not offer, 3.3.7"),
          ("port . (SACT|CI)", only((0xffffffff, 0)), "set only while PxCMD.ST is, 3.3.13"),
          ("data register", only((0x12345678, 0x12345400)), "CLB is aligned")], argv=arguments)
def test_registers(m, out):
    _, abar, io = setup(m)
    for reg in range(0, 0x30, 4):
        out("global %#x at reset" % reg, m.readl(abar + reg))
    for n in range(7):
        for reg in range(0, 0x80, 4):
            out("port %d %#x at reset" % (n, reg), m.readl(abar + 0x100 + 0x80 * n + reg))
    for reg in (CAP, IS, PI, VS, 0x14, 0x1c, 0x20, 0x24, 0x28):
        values = []
        for v in (0xffffffff, 0):
            m.writel(abar + reg, v)
            values.append(m.readl(abar + reg))
        out("global %#x" % reg, values)
    names = {0: "CLB", 4: "CLBU", 8: "FB", 0xc: "FBU", PIS: "IS", PIE: "IE", CMD: "CMD", TFD: "TFD",
             SIG: "SIG", SSTS: "SSTS", SCTL: "SCTL", SERR: "SERR", SACT: "SACT", CI: "CI", 0x3c: "SNTF",
             0x40: "FBS"}
    for n in (2, 5):
        for reg, name in names.items():
            values = []
            for v in ({CMD: 0xffffffee, SCTL: 0xfffffff0}.get(reg, 0xffffffff), 0):
                m.writel(abar + 0x100 + 0x80 * n + reg, v)
                values.append(m.readl(abar + 0x100 + 0x80 * n + reg))
            out("port %d %s" % (n, name), values)
    m.outl(io + 0x10, 0x300)
    out("index register", m.inl(io + 0x10))
    m.outl(io + 0x14, 0x12345678)
    out("data register", m.readl(abar + 0x300))
    m.outl(io + 0x10, 0xc)
    out("ports implemented through the pair", m.inl(io + 0x14))
    out("narrow reads", (m.readb(abar + 3), m.readw(abar + 2), m.readq(abar)))


@compare([("cd word 7[56]", only((0x1f, 0), (0x100, 0)), "a packet device has no queued commands"),
          ("disk word 8[47]", only((0x4000, 0x4020)), "general purpose logging: page 10h, which queued drives have"),
          ("disk word 93", only((0x6001, 0)), "no parallel cable at a SATA port, ATA8-ACS 7.16.7.43"),
          (".* end", PIO_END, "no D2H FIS after PIO in")], argv=arguments)
def test_identify(m, out):
    for n, name, command in ((0, "disk", 0xec), (1, "cd", 0xa1)):
        p = start(m, n)
        out(name + " signature", p.get(SIG))
        out(name + " end", list(p.command(command, 512)))
        out(name + " count", p.prdbc())
        for i, w in enumerate(struct.unpack("<256H", m.read(BUFFER, 512))):
            out("%s word %d" % (name, i), w)


@compare([(".* pio end", PIO_END, "no D2H FIS after PIO in")], argv=arguments)
def test_transfers(m, out):
    """DMA and PIO, both directions, whole and odd pieces."""
    p = start(m)
    lists = {"whole": [(BUFFER, 4096)], "two": [(BUFFER, 1024), (BUFFER + 0x2000, 3072)],
             "odd": [(BUFFER + 1, 513), (BUFFER + 0x1000, 1), (BUFFER + 0x1803, 3582)],
             "long": [(BUFFER, 8192)], "byte": [(BUFFER + 3 * i, 1) for i in range(20)] +
             [(BUFFER + 0x1000, 4076)],
             "zero field": [(BUFFER, 0, True), (BUFFER + 0x10, 4094, True)]}
    for command, name in ((0x25, "dma"), (0xc8, "dma"), (0x20, "pio"), (0x24, "pio"), (0xc4, "pio")):
        for what, prdt in lists.items():
            m.cmd("memset %#x 0x4000 0xee" % BUFFER)
            out("%#x %s %s end" % (command, what, name), list(p.command(command, prdt=prdt, lba=5, count=8)))
            out("%#x %s count" % (command, what), p.prdbc())
            out("%#x %s data" % (command, what), m.read(BUFFER, 0x4000))
    for command in (0x35, 0xca, 0x30, 0x34, 0xc5):
        for i, (what, prdt) in enumerate(lists.items()):
            lba = 100 + 10 * i + command
            m.write(BUFFER, bytes((command + k * 3 + k // 256) & 0xff for k in range(0x4000)))
            out("%#x %s end" % (command, what), list(p.command(command, write=True, prdt=prdt, lba=lba, count=8)))
            p.command(0xe7)
            with open(m.image, "rb") as f:
                f.seek((lba - 1) * 512)
                out("%#x %s image" % (command, what), f.read(10 * 512))


@compare([("reads|writes", only((0x150, 0x50)), "the error register is 0 after a command without one")],
         argv=arguments)
def test_queue(m, out):
    """32 reads at once, then 32 writes, then a mix."""
    p = start(m)
    for i in range(32):
        p.queue(i, 3 + 20 * i, 8)
    m.writel(p.abar + IS, 0xffffffff)
    sact, ci, status, tfd = p.issue(0xffffffff)
    out("reads", (sact, ci, status & ~4, tfd))
    out("data", [m.read(BUFFER + 0x10000 * i, 4096) == disk_pattern(3 + 20 * i, 8) for i in range(32)])
    for i in range(32):
        m.write(BUFFER + 0x10000 * i, bytes((i + k // 512) & 0xff for k in range(4096)))
        p.queue(i, 1000 + 20 * i, 8, write=True, fua=i == 7)
    sact, ci, status, tfd = p.issue(0xffffffff)
    out("writes", (sact, ci, status & ~4, tfd))
    p.command(0xe7)
    with open(m.image, "rb") as f:
        f.seek(990 * 512)
        out("image", f.read(700 * 512))
    p.queue(3, 0, 128, prdt=[(BUFFER, 30000), (BUFFER + 0x10000, 35536)])
    p.queue(30, 1000, 1, write=True, prdt=[(BUFFER + 0x30001, 511), (BUFFER + 0x30401, 1)])
    out("mix", p.issue(1 << 3 | 1 << 30)[:2])
    out("mix data", (m.read(BUFFER, 30000), m.read(BUFFER + 0x10000, 35536)))


@compare([("beyond the end", only((0x441, 0x1041)), "address out of range: IDNF (ATA-6), the peer says ABRT"),
          ("flush after the error", ours((0x10, 0, 0x1041)),
           "after an error nothing is fetched until PxCMD.ST was cleared, AHCI 6.2.2.1")],
         argv=arguments)
def test_errors(m, out):
    p = start(m)
    ci, status, tfd = p.command(0x25, 4096, lba=90000, count=8, slot=0)
    out("beyond the end", (ci, status, tfd))
    p.header(4, p.h2d(0xe7))
    p.put(PIS, 0xffffffff)
    p.put(CI, 0x10)
    time.sleep(0.02)
    out("flush after the error", (p.get(CI) & 0x10, p.get(PIS), p.get(TFD)))
    p.restart()
    out("after restart", (p.get(CI), p.get(SACT), p.get(PIS)))
    for command in (0x00, 0xa1, 0xa0, 0x9b, 0x01):
        out("command %#x" % command, p.command(command, 512))
        p.restart()
    out("flush", p.command(0xe7))
    p.queue(0, 5, 8)
    out("queued afterwards", p.issue(1)[:2])


@compare([("power-on", ours((0x4016, 0x150, 0x101, 0, 0x113)),
           "drive's status after a reset is 50h; the signature's FIS has no interrupt bit, SATA 2.6 11.2"),
          ("power-on fis", only((bytes.fromhex("34403001010000a0000000000100000000000000"),
                                 bytes.fromhex("3400500101000000000000000100000000000000"))), "the same"),
          ("cd power-on", ours((0x100, 0xeb140101)), "a packet drive's status is 00h"),
          ("COMRESET held", ours((0, 0x7f, 0x101)), "the link is down, 3.3.10"),
          ("COMRESET", ours((0x113, 0x150, 0x101, 0x04010000, 0x400040)), "COMINIT shows in SERR.DIAG.X and N, 3.3.12"),
          ("offline", ours((4, 0x7f)), "DET 4 turns the interface off"),
          ("software reset", ours((0, 0x150, 0x101)), "as power-on")],
         argv=arguments)
def test_resets(m, out):
    _, abar, _ = setup(m)
    m.writel(abar + GHC, AE | IE)
    p = Port(m, abar, 0)
    p.put(FB, p.fis)
    p.put(CMD, SUD | POD | FRE)
    p.wait(TFD, 0x88, 0)
    out("power-on", (p.get(CMD), p.get(TFD), p.get(SIG), p.get(PIS), p.get(SSTS)))
    out("power-on fis", p.received()[2])
    c = Port(m, abar, 1)
    c.start()
    out("cd power-on", (c.get(TFD), c.get(SIG)))
    p.start()
    out("running", p.get(CMD))
    out("read", p.command(0x25, 4096, lba=5, count=8)[0])
    p.header(0, p.h2d(0, control=4, c=False), flags=0x500)
    out("software reset on", p.run()[0])
    p.header(1, p.h2d(0, control=0, c=False))
    ci = p.run(1)[0]
    p.wait(TFD, 0x88, 0)
    out("software reset", (ci, p.get(TFD), p.get(SIG)))
    out("read after it", p.command(0x25, 4096, lba=5, count=8)[0])
    p.stop()
    out("stopped", (p.get(CMD), p.get(CI), p.get(SACT)))
    p.put(PIS, 0xffffffff)
    p.put(SCTL, 0x301)
    out("COMRESET held", (p.get(SSTS), p.get(TFD), p.get(SIG)))
    time.sleep(0.002)
    p.put(SCTL, 0x300)
    p.wait(TFD, 0x88, 0)
    out("COMRESET", (p.get(SSTS), p.get(TFD), p.get(SIG), p.get(SERR), p.get(PIS)))
    p.start()
    out("read after COMRESET", p.command(0x25, 4096, lba=5, count=8)[0])
    p.stop()
    p.put(SCTL, 0x304)
    out("offline", (p.get(SSTS), p.get(TFD)))
    p.put(SCTL, 0x301)
    time.sleep(0.002)
    p.put(SCTL, 0x300)
    p.start()
    out("read after offline", p.command(0x25, 4096, lba=5, count=8)[0])
    p.put(PIE, 0xffffffff)
    m.writel(abar + GHC, AE | IE | HR)
    time.sleep(0.01)
    out("controller reset", [m.readl(abar + r) for r in (GHC, IS)] +
        [p.get(r) for r in (CLB, FB, PIS, PIE, CMD, TFD, SIG, SSTS, SCTL, SERR, SACT, CI)])
    p.start()
    out("read after it #2", p.command(0x25, 4096, lba=5, count=8)[0])
    out("data", m.read(BUFFER, 4096))


def intx(m):
    return m.fields("xen irqs")["intx"]


@compare([("PxIS cleared", ours((1, "04.A")), "IS keeps its bit until it is cleared there, AHCI 10.7.2")], argv=arguments)
def test_interrupts(m, out):
    p = start(m)
    abar = p.abar
    p.command(0xe7)
    out("nothing enabled", (m.readl(abar + IS), intx(m)))
    p.put(PIS, 0xffffffff)
    p.put(PIE, 1)
    p.command(0xe7)
    out("enabled", (m.readl(abar + IS), intx(m)))
    m.writel(abar + GHC, AE)
    out("GHC.IE off", (m.readl(abar + IS), intx(m)))
    m.writel(abar + GHC, AE | IE)
    p.put(PIS, 0xffffffff)
    out("PxIS cleared", (m.readl(abar + IS), intx(m)))
    m.writel(abar + IS, 1)
    out("IS cleared", (m.readl(abar + IS), intx(m)))
    p.command(0xe7)
    m.writel(abar + IS, 1)
    out("cause still there", (m.readl(abar + IS), intx(m)))
    p.put(PIE, 0)
    m.writel(abar + IS, 1)
    out("disabled", (m.readl(abar + IS), intx(m)))


@compare(argv=arguments)
def test_messages(m, out):
    """MSI: how many messages, and no line."""
    dev, abar, _ = setup(m)
    m.pci_write(dev, 0, 0x84, 0xfee00000)
    m.pci_write(dev, 0, 0x8c, 0x4041, 2)
    m.pci_write(dev, 0, 0x82, 0x81, 2)
    m.writel(abar + GHC, AE | IE)
    p = Port(m, abar, 0)
    p.start()
    m.writel(abar + IS, 0xffffffff)
    first = int(m.fields("xen irqs")["msi"])
    p.put(PIE, 0xffffffff)
    for i in range(3):
        p.command(0xe7)
        out("after command %d" % i, (int(m.fields("xen irqs")["msi"]) - first, intx(m)))
        p.put(PIS, 0xffffffff)
        m.writel(abar + IS, 1)


@compare(argv=arguments)
def test_packets(m, out):
    c = start(m, 1)

    def packet(name, cdb, size, dma=False):
        m.cmd("memset %#x 0x4000 0xee" % BUFFER)
        r = c.command(0xa0, size, acmd=bytes(cdb), flags=0x20, features=1 if dma else 0,
                      lba=0 if dma else min(size, 0xfffe) << 8)
        out(name, r)
        out(name + " data", m.read(BUFFER, 0x4000))
        if r[1] & TFES:
            c.restart()
        else:
            out(name + " count", c.prdbc())

    for _ in range(3):
        packet("test unit ready", [0], 0)
        packet("sense", [3, 0, 0, 0, 18], 18)
    packet("inquiry", [0x12, 0, 0, 0, 36], 36)
    packet("inquiry dma", [0x12, 0, 0, 0, 36], 36, True)
    packet("capacity", [0x25], 8)
    packet("toc", [0x43, 0, 0, 0, 0, 0, 0, 0, 20], 20, True)
    packet("read10 pio", [0x28, 0, 0, 0, 0, 5, 0, 0, 2], 4096)
    packet("read10 dma", [0x28, 0, 0, 0, 0, 9, 0, 0, 4], 8192, True)
    packet("read12 dma", [0xa8, 0, 0, 0, 0, 9, 0, 0, 0, 1], 2048, True)
    packet("beyond", [0x28, 0, 0, 1, 0, 0, 0, 0, 1], 2048, True)
    packet("sense after it", [3, 0, 0, 0, 18], 18)


def machine(t, **kw):
    return t.machine(argv=arguments, **kw)


def test_queue_error(t):
    """An error in the queue: what SACT and the log say, and that the log clears it. (The peer has no log.)"""
    with machine(t) as m:
        p = start(m)
        p.queue(3, 90000, 8)
        sact, ci, status, tfd = p.issue(8)
        t.equal((sact, ci, status & TFES, tfd), (8, 0, TFES, 0x1041), "error")
        p.restart()
        t.equal(p.command(0xe7)[2], 0x441, "other commands before the log")
        p.restart()
        t.equal(p.command(0x2f, 512, lba=0x10, count=1), (0, 2, 0x50), "READ LOG EXT")
        log = m.read(BUFFER, 512)
        t.equal(log[:8], bytes((3, 0, 0x41, 0x10, 0x90, 0x5f, 0x01, 0x40)), "log")
        t.equal(sum(log) & 0xff, 0, "checksum")
        t.equal(p.command(0xe7)[0], 0, "after the log")


def test_short_lists(t):
    """Too few descriptors: an error, not a wrong success. (The peer reports success, or dies of an assertion.)"""
    with machine(t) as m:
        p = start(m)
        for command, write in ((0x25, False), (0x20, False), (0x35, True), (0x30, True)):
            for prdt in ([(BUFFER, 700)], []):
                ci, status, tfd = p.command(command, write=write, prdt=prdt, lba=9, count=8)
                t.equal((ci, status & TFES, tfd), (1, TFES, 0x441), "%#x" % command)
                p.restart()
        t.equal(p.command(0x25, 4096, lba=40, count=8)[0], 0, "afterwards")
        t.equal(m.read(BUFFER, 4096), disk_pattern(40, 8), "data")


def test_unplug(t):
    """PV unplug takes AHCI disks as well; the CD drive stays. query-block before and after."""
    with machine(t) as m:
        p = start(m)
        m.write(BUFFER, b"written before unplug".ljust(512))
        t.equal(p.command(0x35, 512, True, lba=77, count=1)[0], 0, "write")
        q = m.qmp()
        blocks = {b["device"]: b for b in q.command("query-block")["return"]}
        t.equal(blocks["ahcidisk-0"]["inserted"]["file"], m.image, "query-block")
        t.equal(m.inw(0x10), 0x49d2, "magic")
        m.outw(0x10, 1)
        t.equal((p.get(SSTS), p.get(TFD) & 0xff), (0, 0x7f), "port after unplug")
        t.equal(Port(m, p.abar, 1).get(SSTS), 0x113, "CD's port")
        blocks = {b["device"]: b for b in q.command("query-block")["return"]}
        t.check("inserted" not in blocks["ahcidisk-0"], "the image is closed")
        with open(m.image, "rb") as f:
            f.seek(77 * 512)
            t.equal(f.read(21), b"written before unplug", "image")
        q.close()


def test_concurrency(t):
    """Queued commands overlap: 32 reads of the page cache cost one interrupt or few."""
    with machine(t) as m:
        p = start(m)
        p.put(PIE, 8)
        m.cmd("irq_intercept_in ioapic")
        rises = 0
        for _ in range(10):
            for i in range(32):
                p.queue(i, 16 * i, 8)
            m.irqs.clear()
            sact, ci, _, tfd = p.issue(0xffffffff)
            t.equal((sact, ci, tfd), (0, 0, 0x50), "end")
            p.put(PIS, 0xffffffff)
            m.writel(p.abar + IS, 1)
            rises += sum("raise" in x for x in m.irqs)
        t.check(rises <= 40, "%d interrupts for 320 commands" % rises)
