# SPDX-License-Identifier: GPL-2.0-or-later
"""What hvmloader's pci_setup does on the bus, for tests that need devices at addresses."""


def functions(m):
    """(device, function) of everything that answers on bus 0."""
    found = []
    for dev in range(32):
        for fn in range(8):
            if m.pci_read(dev, fn, 0) != 0xffffffff:
                found.append((dev, fn))
    return found


def bar_size(m, dev, fn, reg):
    """(is_io, size) of the BAR at reg; size 0 if there is none. Leaves it as it was."""
    old = m.pci_read(dev, fn, reg)
    m.pci_write(dev, fn, reg, 0xfffff800 | 0x7fe if reg == 0x30 else 0xffffffff)
    value = m.pci_read(dev, fn, reg)
    m.pci_write(dev, fn, reg, old)
    if reg == 0x30:
        return False, (~(value & 0xfffff800) + 1) & 0xffffffff if value & 0xfffff800 else 0
    if value & 1:
        return True, (~(value & 0xfffc) + 1) & 0xffff if value & 0xfffc else 0
    return False, (~(value & ~0xf) + 1) & 0xffffffff if value & ~0xf else 0


def chipset(m):
    """The PIIX3 and PM writes that hvmloader makes before it looks at BARs."""
    for link, irq in enumerate((5, 10, 11, 5)):
        m.pci_write(1, 0, 0x60 + link, irq, 1)
    m.pci_write(1, 3, 0x40, 0xb001)
    m.pci_write(1, 3, 0x80, 1, 1)
    m.pci_write(1, 1, 0x40, 0x8000, 2)
    m.pci_write(1, 1, 0x42, 0x8000, 2)
    m.cmd("xen param 19 1")


def assign(m):
    """Sizes and places all BARs in descending size, memory from 0xf0000000 and I/O from 0xc000, and
    turns on decoding. Returns [(dev, fn, bar number (6: ROM), "io"|"mem", address, size)]."""
    chipset(m)
    bars = []
    for dev, fn in functions(m):
        command = m.pci_read(dev, fn, 4, 2)
        m.pci_write(dev, fn, 4, command & ~3, 2)
        high = None
        for number, reg in enumerate((0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30)):
            if reg == high:  # the upper half of a 64-bit BAR
                m.pci_write(dev, fn, reg, 0)
                continue
            high = reg + 4 if reg != 0x30 and m.pci_read(dev, fn, reg) & 7 == 4 else None
            is_io, size = bar_size(m, dev, fn, reg)
            if size:
                bars.append((size, dev, fn, number, reg, is_io))
    bars.sort(key=lambda b: (-b[0], b[1:]))
    next_mem, next_io = 0xf0000000, 0xc000
    placed, decode = [], {}
    for size, dev, fn, number, reg, is_io in bars:
        if is_io:
            address = next_io = (next_io + size - 1) & ~(size - 1)
            next_io += size
        else:
            address = next_mem = (next_mem + size - 1) & ~(size - 1)
            next_mem += size
        m.pci_write(dev, fn, reg, address | (1 if is_io else 0))
        decode[dev, fn] = decode.get((dev, fn), 0) | (1 if is_io else 2)
        placed.append((dev, fn, number, "io" if is_io else "mem", address, size))
    for (dev, fn), bits in decode.items():
        if m.pci_read(dev, fn, 0x0a, 2) == 0x0300:
            bits |= 1
        m.pci_write(dev, fn, 4, m.pci_read(dev, fn, 4, 2) | bits | 4, 2)
    return placed


def find(placed, dev, number):
    """Address and size of a BAR in assign's result; None if there is none."""
    for d, _, n, _, address, size in placed:
        if (d, n) == (dev, number):
            return address, size
    return None
