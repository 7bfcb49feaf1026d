# SPDX-License-Identifier: GPL-2.0-or-later
"""A small AHCI driver for tests: ports, command slots, FISes, queued and plain commands."""
import struct
import time

import pcibus

# AHCI 1.3.1, 3.1 and 3.3
CAP, GHC, IS, PI, VS = 0x00, 0x04, 0x08, 0x0c, 0x10
CLB, FB, PIS, PIE, CMD, TFD, SIG, SSTS, SCTL, SERR, SACT, CI = (
    0x00, 0x08, 0x10, 0x14, 0x18, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38)
AE, IE, HR = 0x80000000, 2, 1
ST, SUD, POD, CLO, FRE, FR, CR = 1, 2, 4, 8, 0x10, 0x4000, 0x8000
DHRS, PSS, DSS, SDBS, TFES = 1, 2, 4, 8, 1 << 30
BASE = 0x200000      # guest memory: 64 KiB per port
TABLE_BYTES = 0x400  # command header's table: FIS, CDB, up to 56 descriptors
BUFFER = 0x400000


def setup(m):
    """Places the BARs; returns (device number, ABAR, index/data ports)."""
    placed = pcibus.assign(m)
    dev = next(d for d, f in pcibus.functions(m) if m.pci_read(d, f, 0) == 0x29228086)
    return dev, pcibus.find(placed, dev, 5)[0], pcibus.find(placed, dev, 4)[0]


class Port:
    """Port n of the controller at abar."""

    def __init__(self, m, abar, n):
        self.m, self.abar, self.n = m, abar, n
        self.at = abar + 0x100 + 0x80 * n
        self.mem = BASE + 0x10000 * n
        self.list, self.fis, self.tables = self.mem, self.mem + 0x400, self.mem + 0x1000

    def get(self, reg):
        return self.m.readl(self.at + reg)

    def put(self, reg, value):
        self.m.writel(self.at + reg, value)

    def wait(self, reg, mask, value, seconds=5):
        """Reads until (register & mask) == value; returns the last value read."""
        end = time.monotonic() + seconds
        while True:
            v = self.get(reg)
            if v & mask == value or time.monotonic() > end:
                return v

    def start(self):
        """Memory, FIS reception, command list."""
        self.m.cmd("memset %#x 0x1000 0" % self.mem)
        self.put(CLB, self.list)
        self.put(CLB + 4, 0)
        self.put(FB, self.fis)
        self.put(FB + 4, 0)
        self.put(CMD, SUD | POD | FRE)
        self.wait(CMD, FR, FR)
        self.put(SERR, 0xffffffff)
        self.put(PIS, 0xffffffff)
        self.wait(TFD, 0x88, 0)
        self.put(CMD, SUD | POD | FRE | ST)
        self.wait(CMD, CR, CR)

    def stop(self):
        self.put(CMD, self.get(CMD) & ~ST)
        self.wait(CMD, CR, 0)

    def restart(self):
        """As a driver does after an error."""
        self.stop()
        self.put(SERR, 0xffffffff)
        self.put(PIS, 0xffffffff)
        self.put(CMD, self.get(CMD) | ST)
        self.wait(CMD, CR, CR)

    def comreset(self):
        self.stop()
        self.put(SCTL, 0x301)
        time.sleep(0.002)
        self.put(SCTL, 0x300)
        self.wait(SSTS, 0xf, 3)
        self.wait(TFD, 0x88, 0)

    def h2d(self, command, lba=0, count=0, features=0, device=0x40, control=0, c=True, pmp=0):
        return struct.pack("<BBBB 3sB 3sB HBB 4x", 0x27, (0x80 if c else 0) | pmp, command,
                           features & 0xff, (lba & 0xffffff).to_bytes(3, "little"), device,
                           (lba >> 24 & 0xffffff).to_bytes(3, "little"), features >> 8, count, 0,
                           control)

    def header(self, slot, fis, prdt=(), flags=0, acmd=b"", cfl=5):
        """Writes a command header and its table. prdt: (address, bytes) or (address, raw DBC
        field, True)."""
        table = self.tables + slot * TABLE_BYTES
        body = fis.ljust(0x40, b"\0") + acmd.ljust(0x40, b"\0")
        for entry in prdt:
            dbc = entry[1] if len(entry) > 2 else entry[1] - 1
            body += struct.pack("<QII", entry[0], 0, dbc)
        self.m.write(table, body)
        self.m.write(self.list + 32 * slot,
                     struct.pack("<HHIQ16x", cfl | flags, len(prdt), 0, table))

    def prdbc(self, slot=0):
        return self.m.readl(self.list + 32 * slot + 4)

    def run(self, slot=0, seconds=5):
        """Issues a slot and waits; returns (PxCI bit, PxIS, PxTFD)."""
        self.put(PIS, 0xffffffff)
        self.put(CI, 1 << slot)
        end = time.monotonic() + seconds
        while self.get(CI) >> slot & 1 and not self.get(PIS) & TFES and time.monotonic() < end:
            pass
        return self.get(CI) >> slot & 1, self.get(PIS), self.get(TFD)

    def command(self, command, size=0, write=False, slot=0, prdt=None, acmd=b"", flags=0, seconds=5,
                **kw):
        """A plain command with its data at BUFFER; returns run()'s answer."""
        if prdt is None:
            prdt = [(BUFFER, size)] if size else []
        self.header(slot, self.h2d(command, **kw), prdt, flags | (0x40 if write else 0), acmd)
        return self.run(slot, seconds)

    def queue(self, slot, lba, sectors, write=False, prdt=None, tag=None, fua=False, address=None):
        """Prepares a queued command; issue() starts it."""
        if prdt is None:
            prdt = [(BUFFER + 0x10000 * slot if address is None else address, sectors * 512)]
        self.header(slot, self.h2d(0x61 if write else 0x60, lba=lba, features=sectors & 0xffff,
                                   count=(slot if tag is None else tag) << 3,
                                   device=0xc0 if fua else 0x40), prdt, 0x40 if write else 0)

    def issue(self, mask, seconds=5):
        """Starts queued commands together; returns (PxSACT, PxCI, PxIS, PxTFD) at the end."""
        self.put(PIS, 0xffffffff)
        self.put(SACT, mask)
        self.put(CI, mask)
        end = time.monotonic() + seconds
        while (self.get(SACT) | self.get(CI)) & mask and not self.get(PIS) & TFES and \
                time.monotonic() < end:
            pass
        return self.get(SACT), self.get(CI), self.get(PIS), self.get(TFD)

    def received(self):
        """The received-FIS area: DMA setup, PIO setup, D2H register, set device bits."""
        data = self.m.read(self.fis, 0x60)
        return [data[a:a + n] for a, n in ((0, 28), (0x20, 20), (0x40, 20), (0x58, 8))]
