# SPDX-License-Identifier: GPL-2.0-or-later
"""VGA register access and standard modes for tests (parameters from the IBM VGA tables)."""

MODES = {
    # name: (misc, sequencer 0-4, CRTC 0-18, graphics 0-8, attribute 0-14), all hexadecimal
    "text": (0x67, "0300030002",
             "5f4f5082 5581bf1f 004f0d0e 00000000 9c8e8f28 1f96b9a3 ff", "0000000000100e00ff",
             "000102030405140738393a3b3c3d3e3f0c000f0800"),
    "mode12": (0xe3, "03010f0006",
               "5f4f5082 54800b3e 00400000 00000000 ea8cdf28 00e704e3 ff", "000000000000050fff",
               "000102030405140738393a3b3c3d3e3f01000f0000"),
    "mode13": (0x63, "03010f000e",
               "5f4f5082 5480bf1f 00410000 00000000 9c8e8f28 4096b9a3 ff", "000000000040050fff",
               "000102030405060708090a0b0c0d0e0f41000f0000"),
    "mode0d": (0x63, "03090f0006",
               "2d272890 2b80bf1f 00c00000 00000000 9c8e8f14 0096b9e3 ff", "000000000000050fff",
               "0001020304050607101112131415161701000f0000"),
    "mode04": (0x63, "0309030002",
               "2d272890 2b80bf1f 00c10000 00000000 9c8e8f14 0096b9a2 ff", "0000000000300f00ff",
               "001315170204060710111213141516170100030000"),
}


def seq(index, value):
    return ["outb 0x3c4 %#x" % index, "outb 0x3c5 %#x" % value]


def gr(index, value):
    return ["outb 0x3ce %#x" % index, "outb 0x3cf %#x" % value]


def crtc(index, value):
    return ["outb 0x3d4 %#x" % index, "outb 0x3d5 %#x" % value]


def attr(index, value):
    return ["inb 0x3da", "outb 0x3c0 %#x" % index, "outb 0x3c0 %#x" % value]


def mode_lines(name):
    """The port writes that set a standard mode."""
    misc, s, c, g, a = MODES[name]
    s, c, g, a = (bytes.fromhex(x.replace(" ", "")) for x in (s, c, g, a))
    lines = ["outb 0x3c2 %#x" % misc]
    lines += seq(0, 1)
    for i in range(1, 5):
        lines += seq(i, s[i])
    lines += seq(0, 3)
    lines += crtc(0x11, c[0x11] & 0x7f)
    for i in range(0x19):
        lines += crtc(i, c[i])
    for i in range(9):
        lines += gr(i, g[i])
    for i in range(0x15):
        lines += attr(i, a[i])
    return lines + ["inb 0x3da", "outb 0x3c0 0x20"]


def set_mode(m, name):
    m.values(mode_lines(name))


def default_palette(m):
    """64 colours of the EGA cube, then a ramp."""
    lines = ["outb 0x3c6 0xff", "outb 0x3c8 0"]
    for i in range(256):
        if i < 64:
            rgb = [0x2a * (i >> b & 1) + 0x15 * (i >> (b + 3) & 1) for b in (2, 1, 0)]
        else:
            rgb = [i & 0x3f, i >> 2, i >> 1 & 0x3f]
        lines += ["outb 0x3c9 %#x" % (v & 0x3f) for v in rgb]
    m.values(lines)


def registers(m):
    """All indexed registers as {name: value}."""
    out = {}
    groups = (("seq", 0x3c4, 0x3c5, 0x20), ("gr", 0x3ce, 0x3cf, 0x40), ("crtc", 0x3d4, 0x3d5, 0x40))
    for name, index, data, n in groups:
        old = m.inb(index)
        lines = []
        for i in range(n):
            lines += ["outb %#x %#x" % (index, i), "inb %#x" % data]
        for i, v in enumerate(m.values(lines)):
            out["%s[%02x]" % (name, i)] = v
        m.outb(index, old)
    for i in range(0x20):
        lines = ["inb 0x3da", "outb 0x3c0 %#x" % i, "inb 0x3c1"]
        out["attr[%02x]" % i] = m.values(lines)[-1]
    m.values(["inb 0x3da", "outb 0x3c0 0x20"])
    for port in (0x3c2, 0x3c3, 0x3c6, 0x3c7, 0x3c8, 0x3ca, 0x3cc):
        out["port %#x" % port] = m.inb(port)
    return out
