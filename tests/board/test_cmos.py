# SPDX-License-Identifier: GPL-2.0-or-later
"""CMOS bytes 14 to 127 (the others are Xen's), against the peer."""
from harness import compare


def bytes_of(m):
    lines = []
    for i in range(14, 128):
        lines += ["outb 0x70 %#x" % i, "inb 0x71"]
    return m.values(lines)


def dump(m, out):
    for i, value in zip(range(14, 128), bytes_of(m)):
        out("cmos[%02x]" % i, value)


def with_boot(order):
    return compare(disk=True, iso=True, boot=order)(dump)


test_boot_cda = with_boot("cda")
test_boot_c = with_boot("c")
test_boot_d = with_boot("d")
test_boot_n = with_boot("n")
test_boot_dc = with_boot("dc")
test_boot_dcn = with_boot("dcn")
test_boot_and = with_boot("and")


@compare(mem=20)
def test_small_memory(m, out):
    dump(m, out)


@compare(mem=1000)
def test_more_memory(m, out):
    dump(m, out)


@compare(mem=4096)
def test_memory_above_4g(m, out):
    dump(m, out)


@compare([(r"cmos\[(32|37)\]", lambda a, b: b in (0x32 ^ 0xa5, 0x37 ^ 0xa5),
           "the peer has a clock of its own behind the century; ours is Xen's, which leaves these bytes to us")])
def test_write_back(m, out):
    """Every byte of the second part holds what was written, NMI bit and wide accesses included."""
    lines = []
    for i in range(14, 128):
        lines += ["outb 0x70 %#x" % i, "outb 0x71 %#x" % (i ^ 0xa5)]
    m.values(lines)
    dump(m, out)
    m.outb(0x70, 0x80 | 0x40)
    out("with the NMI bit", m.inb(0x71))
    m.outw(0x70, 0x3341)
    m.outb(0x70, 0x41)
    out("after a word write", m.inb(0x71))
    out("read of the index", m.inb(0x70))
    out("word read", m.inw(0x70))
