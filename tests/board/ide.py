# SPDX-License-Identifier: GPL-2.0-or-later
"""A small ATA/ATAPI driver for tests: registers by name, PIO, bus-master DMA, packets."""
import struct

PRIMARY = (0x1f0, 0x3f6, 14, 0x00)
SECONDARY = (0x170, 0x376, 15, 0x08)
BSY, DRDY, DF, DSC, DRQ, CORR, IDX, ERR = (1 << i for i in range(7, -1, -1))
BUFFER = 0x100000   # guest memory for data
PRD_TABLE = 0x80000


class Drive:
    """One drive of a channel. bm: base of the bus-master registers, for DMA."""

    def __init__(self, m, channel=PRIMARY, slave=0, bm=None):
        self.m = m
        self.base, self.ctl, self.irq, bm_off = channel
        self.bm = bm + bm_off if bm is not None else None
        self.select_bits = 0xa0 | slave << 4
        self.slave = slave

    def select(self, head=0, lba=False):
        self.m.outb(self.base + 6, self.select_bits | head | (0x40 if lba else 0))

    def alt(self):
        return self.m.inb(self.ctl)

    def regs(self):
        """Error, count, LBA low, mid, high, device, alternate status (reading clears nothing)."""
        return ["%02x" % self.m.inb(self.base + i) for i in range(1, 7)] + ["%02x" % self.alt()]

    def irq_level(self):
        return int(self.m.fields("xen irqs")["isa"], 16) >> self.irq & 1

    def wait(self, ms=5000):
        """Waits until not busy; returns the alternate status."""
        return int(self.m.cmd("xen poll inb %#x 0x80 0 %d" % (self.ctl, ms)).split()[0], 16)

    def reset(self):
        self.m.outb(self.ctl, 0x04)
        self.m.outb(self.ctl, 0x00)
        self.wait()
        self.select()

    def issue(self, command, features=0, count=0, lba=0, lba48=False, head_bits=None):
        """Writes the command block and the command."""
        m, b = self.m, self.base
        if head_bits is not None:
            self.select(head_bits)
        elif lba48:
            self.select(0, True)
        else:
            self.select(lba >> 24 & 0xf, True)
        if lba48:
            for off, v in ((1, features >> 8), (2, count >> 8), (3, lba >> 24), (4, lba >> 32),
                           (5, lba >> 40)):
                m.outb(b + off, v & 0xff)
        for off, v in ((1, features), (2, count), (3, lba), (4, lba >> 8), (5, lba >> 16)):
            m.outb(b + off, v & 0xff)
        m.outb(b + 7, command)

    def data_in(self, size):
        """size bytes of a data phase by REP INSW."""
        self.m.cmd("xen insw %#x %#x %d" % (self.base, BUFFER, size // 2))
        return self.m.read(BUFFER, size)

    def data_out(self, data):
        self.m.write(BUFFER, data)
        self.m.cmd("xen outsw %#x %#x %d" % (self.base, BUFFER, len(data) // 2))

    def pio_in(self, command, sectors, block=1, **kw):
        """A PIO read command to its end; returns (data, status after it)."""
        self.issue(command, count=sectors & 0xffff, **kw)
        data = b""
        while len(data) < sectors * 512:
            status = self.wait()
            if not status & DRQ:
                return data, status
            self.m.inb(self.base + 7)
            data += self.data_in(min(block, sectors - len(data) // 512) * 512)
        return data, self.wait()

    def pio_out(self, command, data, block=1, **kw):
        """A PIO write command to its end; returns the status after it."""
        self.issue(command, count=len(data) // 512 & 0xffff, **kw)
        while data:
            status = self.wait()
            if not status & DRQ:
                return status
            self.data_out(data[:512 * block])
            data = data[512 * block:]
        return self.wait()

    def prd(self, pieces, table=PRD_TABLE):
        """Writes a descriptor table: [(address, bytes)], the last one marked."""
        words = b""
        for i, (addr, size) in enumerate(pieces):
            words += struct.pack("<IHH", addr, size & 0xffff,
                                 0x8000 if i == len(pieces) - 1 else 0)
        self.m.write(table, words)
        self.m.outl(self.bm + 4, table)

    def dma(self, command, pieces, to_memory, ms=5000, start=True, **kw):
        """A DMA command; returns (bus-master status, drive status, error)."""
        m = self.m
        m.outb(self.bm, 0)
        m.outb(self.bm + 2, 0x06)
        self.prd(pieces)
        self.issue(command, **kw)
        return self.run_dma(to_memory, ms)

    def run_dma(self, to_memory, ms=5000):
        m = self.m
        m.outb(self.bm, (8 if to_memory else 0) | 1)
        try:
            m.cmd("xen poll inb %#x 4 4 %d" % (self.bm + 2, ms))
        except Exception:
            pass
        result = (m.inb(self.bm + 2), self.alt(), m.inb(self.base + 1))
        m.outb(self.bm, 0)
        m.outb(self.bm + 2, 0x06)
        m.inb(self.base + 7)
        return result

    def packet(self, cdb, limit=0xfffe, data=b"", dma=None, ms=5000):
        """A packet command. Returns (data in, [phases], status, error): a phase is
        (interrupt reason, byte count, status). dma: size of a DMA transfer to BUFFER, which may take ms."""
        m, b = self.m, self.base
        if dma is not None:
            m.outb(self.bm, 0)
            m.outb(self.bm + 2, 0x06)
            self.prd([(BUFFER, dma)])
        self.select()
        m.outb(b + 1, 1 if dma is not None else 0)
        m.outb(b + 4, limit & 0xff)
        m.outb(b + 5, limit >> 8)
        m.outb(b + 7, 0xa0)
        status = self.wait()
        phases = [self.phase(status)]
        got = b""
        if not status & DRQ:
            return got, phases, status, m.inb(b + 1)
        for word in struct.unpack("<6H", cdb.ljust(12, b"\0")):
            m.outw(b, word)
        if dma is not None:
            result = self.run_dma(True, ms)
            return m.read(BUFFER, dma), phases + [result], self.alt(), m.inb(b + 1)
        while True:
            status = self.wait()
            phases.append(self.phase(status))
            if not status & DRQ or len(phases) > 60 or (len(phases) > 6 and not any(got)):
                break
            size = m.inb(b + 4) | m.inb(b + 5) << 8
            if m.inb(b + 2) & 2:
                got += self.data_in((size + 1) & ~1)[:size]
            else:
                self.data_out(data[:size].ljust((size + 1) & ~1, b"\0"))
                data = data[size:]
        error = m.inb(b + 1)
        m.inb(b + 7)
        return got, phases, status, error

    def phase(self, status):
        m, b = self.m, self.base
        return "%02x/%04x/%02x/%d" % (m.inb(b + 2), m.inb(b + 4) | m.inb(b + 5) << 8, status,
                                      self.irq_level())
