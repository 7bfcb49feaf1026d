# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programs on the VGA of both adapters, against the peer: registers, video memory and picture are compared after each
round of register writes and memory accesses. VGA_RANDOM_SEED and VGA_RANDOM_ROUNDS make other and longer programs:

    for s in $(seq 100 140); do VGA_RANDOM_SEED=$s VGA_RANDOM_ROUNDS=100 tests/board/run vga_random; done
"""
import random

import vga
import vgaprobe
from fakexen import QtestError
from harness import compare

BUFFER = 0x10000  # guest RAM for string instructions


def some(rng, *usual):
    """One of the usual values, or any byte."""
    return rng.choice(usual + (rng.randrange(256),))


def register_write(rng):
    """Port lines of one random register write."""
    group = rng.choice(("gr",) * 4 + ("seq",) * 2 + ("crtc",) * 2 + ("attr", "dac", "misc"))
    v = rng.randrange(256)
    if group == "gr":
        index = rng.randrange(9)
        return vga.gr(index, {4: v & 3, 5: some(rng, 0, 1, 2, 3, 8, 0x10, 0x20, 0x40),
                              6: some(rng, 0x05, 0x0e, 0x01, 0x0c), 8: some(rng, 0xff)}.get(index, v))
    if group == "seq":
        index = rng.choice((1, 2, 2, 2, 3, 4, 4))
        return vga.seq(index, {2: some(rng, 15, 1 << (v & 3)), 4: some(rng, 0x02, 0x06, 0x0e, 0x04)}.get(index, v))
    if group == "crtc":
        index = rng.choice((0x01, 0x07, 0x09, 0x0c, 0x0d, 0x12, 0x13, 0x17, 0x18, rng.randrange(0x19)))
        return vga.crtc(index, {0x09: some(rng, 0x40, 0x41, 0xc0, 0x4f), 0x0c: some(rng, 0, v & 0x3f), 0x13: some(rng, 40, 80, 20, 41),
                                0x11: v & 0x7f if rng.randrange(4) else v, 0x17: some(rng, 0xe3, 0xa3)}.get(index, v))
    if group == "attr":
        return vga.attr(rng.randrange(0x15), v)
    if group == "dac":
        lines = ["outb 0x3c8 %d" % v]
        return lines + ["outb 0x3c9 %d" % rng.randrange(256) for _ in range(rng.randrange(1, 20))]
    return ["outb 0x3c2 %#x" % (v | 3)]  # memory and colour ports stay on


def address(rng, size):
    """A place in the window: anywhere, near the edges of its maps, or in one part again and again."""
    at = rng.choice((rng.randrange(0x20000), rng.choice((0x10000, 0x18000)) + rng.randrange(-8, 8),
                     rng.randrange(0x400), rng.randrange(0x2000), 0x18000 + rng.randrange(0x1000)))
    return 0xa0000 + min(at, 0x20000 - size)


def memory_access(rng):
    kind = rng.randrange(12)
    size = 1 << rng.randrange(4)
    name = "bwlq"[size.bit_length() - 1]
    if kind < 4:
        return ["write%s %#x %#x" % (name, address(rng, size), rng.randrange(1 << 8 * size))]
    if kind < 7:
        return ["read%s %#x" % (name, address(rng, size))]
    if kind < 8:  # latches: copy by read and write
        return ["readb %#x" % address(rng, 1), "writeb %#x %d" % (address(rng, 1), rng.randrange(256))]
    size = min(size, 4)
    count = rng.choice((rng.randrange(1, 40), rng.randrange(1, 3000)))
    at = address(rng, size * count)
    end = BUFFER + rng.randrange(0x1000)
    df = ""
    if rng.randrange(4) == 0:
        at, end, df = at + size * (count - 1), end + size * (count - 1), " df"
    if kind < 10:
        return ["xen movs %d w %#x %#x %d%s" % (size, at, end, count, df)]
    if kind < 11:
        return ["xen movs %d r %#x %#x %d%s" % (size, at, end, count, df)]
    return ["xen stos %d %#x %#x %d%s" % (size, at, rng.randrange(1 << 8 * size), count, df)]


def answers(m, lines):
    """What the reads among the lines gave, but for 0x3da: some of its bits are of time."""
    values = []
    for line, answer in zip(lines, m.batch(lines)):
        if not answer.startswith("OK"):
            raise QtestError("%s: %s" % (line, answer))
        if line.startswith("read"):
            values.append(int(answer.split()[1], 0))
    return values


def program(number, rounds=20):
    def script(m, out):
        seed = "seed %d.%d" % (vgaprobe.SEED, number)
        rng = random.Random(seed)
        probe = vgaprobe.Probe(m, out)
        vga.default_palette(m)
        m.write(BUFFER, rng.randbytes(0x3000))
        for n in range(vgaprobe.ROUNDS or rounds):
            label = "%s round %d" % (seed, n)
            if n % 4 == 0:
                vga.set_mode(m, rng.choice(list(vga.MODES)))
            for _ in range(rng.randrange(4, 24)):
                lines = []
                for _ in range(rng.randrange(1, 5)):
                    lines += register_write(rng)
                for _ in range(rng.randrange(1, 8)):
                    lines += memory_access(rng)
                out(label + ": reads", answers(m, lines))
            m.cmd("xen movs 4 r 0xa0000 %#x 0x400" % BUFFER)
            out(label + ": string read", m.read(BUFFER, 0x1000))
            m.write(BUFFER, rng.randbytes(0x3000))
            registers = probe.registers(label)
            probe.memory(label)
            kind, lines = vgaprobe.limited(registers)
            m.values(lines)
            probe.picture("%s: %s" % (label, kind))
    return script


test_program_stdvga_1 = compare([vgaprobe.REGISTERS], vga="stdvga")(program(1))
test_program_stdvga_2 = compare([vgaprobe.REGISTERS], vga="stdvga")(program(2))
test_program_cirrus_1 = compare([vgaprobe.REGISTERS], vga="cirrus")(program(3))
test_program_cirrus_2 = compare([vgaprobe.REGISTERS], vga="cirrus")(program(4))
