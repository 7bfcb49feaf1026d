# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programs on the Cirrus in its own modes, against the peer: banks, extended write modes, linear window, cursor, and BLTs
of all kinds. What is seen of them is compared as in test_vga_random.py, which says how to make other and longer programs."""
import random

import pcibus
import vga
import vgaprobe
from harness import compare
from test_cirrus import MODES, ROPS, Blit, hidden_dac, linear_mode
from test_vga_random import BUFFER, answers, some

DEPTH = {"8": 1, "16": 2, "24": 3, "32": 4}
AREA = 0x40000  # bytes of video memory that is worked in and compared
CURSORS = 0x3fc000


def bank_write(rng):
    return rng.choice((
        lambda v: vga.gr(0x09, v & 0x3f), lambda v: vga.gr(0x0a, v & 0x3f), lambda v: vga.gr(0x0b, v & 0x37),
        lambda v: vga.gr(5, some(rng, 0x40, 0x44, 0x45) & 0x7f), lambda v: vga.gr(rng.choice((0, 1, 0x10, 0x11)), v),
        lambda v: vga.gr(rng.choice((2, 3, 4, 7, 8)), v), lambda v: vga.seq(2, v)))(rng.randrange(256))


def cursor_write(rng):
    v = rng.randrange(256)
    return rng.choice((
        lambda: vga.seq(0x10 | rng.randrange(8) << 5, v % 84), lambda: vga.seq(0x11 | rng.randrange(8) << 5, v % 64),
        lambda: vga.seq(0x12, v & 5), lambda: vga.seq(0x13, v & 0x3f),
        lambda: vga.seq(0x12, 2) + ["outb 0x3c8 %d" % rng.choice((0, 15))] +
        ["outb 0x3c9 %d" % rng.randrange(64) for _ in range(3)] + vga.seq(0x12, v & 5)))()


def window_access(rng, lfb):
    """An access to the banked or to the linear window. On the peer the linear one is memory even while extended writes are
    on, which the chip applies to both (TRM 5.5): off for it."""
    size = 1 << rng.randrange(4)
    name = "bwlq"[size.bit_length() - 1]
    at, lines = 0xa0000 + rng.choice((rng.randrange(0xfff8), 0x8000 - rng.randrange(8), rng.randrange(0x400))), []
    if rng.randrange(3) == 0:
        at = lfb + rng.choice((rng.randrange(AREA - 8), rng.randrange(0x2000)))
        lines = vga.gr(0x0b, rng.choice((0, 1, 0x20, 0x21)))
    kind = rng.randrange(6)
    if kind < 3:
        return lines + ["write%s %#x %#x" % (name, at, rng.randrange(1 << 8 * size))]
    if kind < 5:
        return lines + ["read%s %#x" % (name, at)]
    size = min(size, 4)
    count = rng.randrange(1, 400)
    at = 0xa0000 + rng.randrange(0x10000 - size * count)
    return ["xen movs %d %s %#x %#x %d" % (size, rng.choice("wwr"), at, BUFFER + rng.randrange(0x800), count)]


def random_blit(rng, bits, depth):
    """A legal BLT's parameters for Blit.run, and how many bytes the CPU has to send."""
    mode = rng.choice((0, 0, 0, 1, 1, 8, 9, 0x40, 0x40, 0x80, 0x88, 0xc0, 0xc8, 4, 0x84, 0x8c)) | bits
    if depth > 2 and mode & 0xc8 in (0x08, 0x48):
        mode &= ~8  # there is transparency by colour for 8 and 16 bits only
    width, height = rng.randrange(1, rng.choice((8, 60, 160))) * depth, rng.randrange(1, rng.choice((4, 40)))
    pitches = [rng.choice((width, width + rng.randrange(64) * 4, 640 * depth)) for _ in range(2)]
    aligned = ~(depth - 1) if depth != 3 else -1  # pixels of 2 and 4 bytes are where the chip can reach them
    dst, src = (rng.randrange(AREA - (height * pitch + width)) & aligned for pitch in pitches)
    if rng.randrange(3) == 0 and not mode & 0xc4:  # overlapping
        pitches[1], src = pitches[0], max(0, dst + rng.randrange(-40, 40) * depth)
        src = min(src, AREA - height * pitches[0] - width)
    if mode & 1:
        dst, src = (x + (height - 1) * pitch + width - 1 for x, pitch in ((dst, pitches[0]), (src, pitches[1])))
    elif mode & 0x40:
        src = src & ~0xff  # the peer rounds every pattern's address down to the size of a colour pattern
    ext = 0
    if mode & 0xc4 == 0xc0:
        ext = rng.choice((0, 0, 2, 4))
        src &= ~0xff
    pixels = width // depth
    sent = 0
    if mode & 4:
        # Not in whole doublewords a row (GR33 bit 0): the peer takes as many bytes as there should be doublewords.
        sent = height * ((pixels + 7) // 8 if mode & 0x80 else width + 3 & ~3)
    mask = 0
    if depth == 3 and mode & 0x88 == 0x88:
        mask = rng.randrange(8) * 3
    elif depth != 3 and mode & 0xc0:
        # Not for opaque 24-bit BLTs: GR2F counts bytes there, but pixels for the peer, which begins patterns at a wrong one.
        mask = rng.choice((0, rng.randrange(8)))
    if mode & 0xc0 and not mode & 4 and src - 256 < dst + height * pitches[0] and dst < src + 40 * 20 + 256:
        src = AREA + 0x1000  # what a BLT draws into its own pattern or bits depends on how early the chip reads them
    key = rng.choice((rng.randrange(1 << 16), rng.randrange(256) * 0x101))
    return dict(width=width, height=height, dst_pitch=pitches[0], src_pitch=pitches[1], dst=dst, src=src, mode=mode,
                rop=rng.choice(ROPS), mask=mask, fg=rng.randrange(1 << 32), bg=rng.randrange(1 << 32), ext=ext,
                key=key), sent


def send(m, rng, lfb, size):
    """The CPU's bytes of a BLT, in any width. By the window or the upper half of BAR 0: the lower one is still memory on
    the peer."""
    m.write(BUFFER + 0x4000, rng.randbytes(size + 4))
    unit = rng.choice((1, 2, 4)) if size % 4 == 0 else 1
    at = rng.choice((0xa0000, lfb + 0x1000000))
    for i in range(0, size, 0x1000):
        n = min(0x1000, size - i)
        m.cmd("xen movs %d w %#x %#x %d" % (unit, at, BUFFER + 0x4000 + i, n // unit))


def blits(m, out, rng, label, blitters, lfb, name):
    depth = DEPTH[name]
    for n in range(rng.randrange(1, 6)):
        kw, sent = random_blit(rng, (depth - 1) << 4, depth)
        by = rng.choice(list(blitters))
        out("%s: BLT %d by %s %s" % (label, n, by, kw), blitters[by].run(**kw))
        if sent:
            send(m, rng, lfb, sent)
            m.outb(0x3ce, 0x31)
            out("%s: BLT %d sent" % (label, n), m.inb(0x3cf))
        blitters["ports"].stop()


def plain(m):
    """Memory as memory, for looking at it."""
    m.values(vga.gr(0x0b, 0) + vga.gr(5, 0x40))


def program(number, rounds=12):
    def script(m, out):
        seed = "seed %d.%d" % (vgaprobe.SEED, number)
        rng = random.Random(seed)
        probe = vgaprobe.Probe(m, out)
        lfb = probe.lfb
        bar1 = pcibus.find(pcibus.assign(m), 3, 1)[0]
        blitters = {"ports": Blit(m), "BAR 1": Blit(m, bar1 + 0x100), "b8000": Blit(m, 0xb8000)}
        m.write(BUFFER, rng.randbytes(0x3000))
        for n in range(vgaprobe.ROUNDS or rounds):
            label = "%s round %d" % (seed, n)
            if n % 4 == 0:
                name = rng.choice(list(MODES))
                linear_mode(m, name)
                vga.default_palette(m)
                m.values(vga.seq(0x17, 0x04))
                plain(m)
                m.write(lfb + CURSORS, rng.randbytes(0x4000))
                for i in range(0, AREA + 0x10000, 0x10000):
                    m.write(lfb + i, rng.randbytes(0x10000))
            for _ in range(rng.randrange(2, 10)):
                lines = []
                for _ in range(rng.randrange(1, 4)):
                    lines += rng.choice((bank_write, bank_write, cursor_write))(rng)
                for _ in range(rng.randrange(1, 6)):
                    lines += window_access(rng, lfb)
                out(label + ": reads", answers(m, lines))
            plain(m)
            blits(m, out, rng, label, blitters, lfb, name)
            start = rng.choice((0, rng.randrange(1 << 18)))
            pitch = rng.choice((80 * DEPTH[name], rng.randrange(1, 0x180)))
            m.values(vga.crtc(0x0c, start >> 8 & 0xff) + vga.crtc(0x0d, start & 0xff) + vga.crtc(0x13, pitch & 0xff) +
                     vga.crtc(0x1b, 0x22 | start >> 16 & 1 | start >> 15 & 4 | pitch >> 4 & 0x10))
            if name == "16":
                hidden_dac(m, rng.choice((0xc0, 0xc1)))
            probe.registers(label)
            probe.memory(label, AREA)
            probe.picture("%s: %s bits" % (label, name), vgaprobe.FIVE_BITS)
    return script


test_program_1 = compare([vgaprobe.REGISTERS])(program(1))
test_program_2 = compare([vgaprobe.REGISTERS])(program(2))
