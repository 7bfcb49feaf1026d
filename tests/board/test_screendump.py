# SPDX-License-Identifier: GPL-2.0-or-later
"""screendump by QMP: the peer's picture, in both formats."""
import os
import struct
import tempfile
import zlib

import fakexen
import harness
from test_screen import show_text, show_vbe


def ppm(data):
    """(width, height, RGB bytes) of a binary PPM."""
    kind, size, depth, pixels = data.split(b"\n", 3)
    if (kind, depth) != (b"P6", b"255"):
        raise harness.Failure("not a PPM: %r" % data[:20])
    width, height = map(int, size.split())
    return width, height, pixels


def png(data):
    """The same of a PNG of 8-bit RGB (RFC 2083), rows unfiltered."""
    at, idat, size = 8, b"", None
    while at < len(data):
        n, = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4:at + 8], data[at + 8:at + 8 + n]
        if kind == b"IHDR":
            size = struct.unpack(">IIBB", body[:10])
        elif kind == b"IDAT":
            idat += body
        at += 12 + n
    width, height, depth, colour = size
    if (depth, colour) != (8, 2):
        raise harness.Failure("PNG of depth %d, colour type %d" % (depth, colour))
    rows, out, before = zlib.decompress(idat), b"", bytes(3 * width)
    for y in range(height):
        row = bytearray(rows[y * (1 + 3 * width):(y + 1) * (1 + 3 * width)])
        kind, row = row[0], row[1:]
        for x in range(len(row)):
            left, up = row[x - 3] if x >= 3 else 0, before[x]
            corner = before[x - 3] if x >= 3 else 0
            if kind == 1:
                row[x] = row[x] + left & 255
            elif kind == 2:
                row[x] = row[x] + up & 255
            elif kind == 3:
                row[x] = row[x] + (left + up) // 2 & 255
            elif kind == 4:
                p = left + up - corner
                row[x] = row[x] + min((abs(p - left), 0, left), (abs(p - up), 1, up), (abs(p - corner), 2, corner))[2] & 255
        before = bytes(row)
        out += before
    return width, height, out


def shot(t, m, kind):
    """The picture as the format `kind` tells it."""
    q = m.qmp()
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "shot")
        t.equal(q.command("screendump", filename=path, format=kind).get("return"), {}, "answer")
        q.close()
        with open(path, "rb") as f:
            return {"ppm": ppm, "png": png}[kind](f.read())


def same_everywhere(t, vga, show):
    """Debian's peer is built without PNG."""
    with t.machine(vga=vga) as m:
        show(m)
        ours = shot(t, m, "ppm")
        t.equal(shot(t, m, "png") == ours, True, "PPM and PNG show the same")
    with fakexen.Machine(dm=t.peer, vga=vga) as m:
        show(m)
        theirs = shot(t, m, "ppm")
    t.equal(ours[:2], theirs[:2], "size")
    # Palette registers have 6 bits; how they become 8 differs (the peer repeats bit 0, we the upper two, so that white is 255
    # and steps are even).
    bad = [i // 3 for i in range(0, len(ours[2]), 3) if any((a ^ b) & 0xfc for a, b in zip(ours[2][i:i + 3], theirs[2][i:i + 3]))]
    t.equal(["%d,%d" % (i % ours[0], i // ours[0]) for i in bad[:8]], [], "%d pixels differ from the peer" % len(bad))


def test_text(t):
    same_everywhere(t, "cirrus", show_text)


def test_linear(t):
    same_everywhere(t, "stdvga", show_vbe(32))


def test_errors(t):
    with t.machine() as m:
        q = m.qmp()
        for args in ({"filename": "/nonexistent/x.ppm"}, {"filename": "/dev/full"}, {"filename": "x", "format": "gif"}):
            r = q.command("screendump", **args)
            t.equal(r.get("error", {}).get("class"), "GenericError", "screendump %r: %r" % (args, r))
        t.equal(q.command("query-status")["return"]["status"], "running")
        q.close()
