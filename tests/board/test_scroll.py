# SPDX-License-Identifier: GPL-2.0-or-later
"""Viewers of several kinds follow a guest that scrolls and draws all the time; in the end all have its picture."""
import random
import struct
import threading
import time

import pcibus
import rfb
import vga
from harness import Failure
from test_screen import VNC, show_text
from test_vbe import set_mode

KINDS = {
    "Tight, CopyRect": (rfb.TIGHT, rfb.COPY_RECT),
    "Tight": (rfb.TIGHT,),
    "Raw, CopyRect": (rfb.RAW, rfb.COPY_RECT),
    "Raw": (),
}


CALM_STEPS, CALM_SECONDS = 16, 0.2


def follow_all(m, t, draw, calm, seconds=2.0, rate=60):
    """Viewers of all kinds while draw(n) draws, as fast as it can, and then calm(n) scrolls slowly enough for every viewer to be
    there; in the end each is compared with one that asks for the whole picture."""
    clients, errors = {}, []
    port = rfb.port_of(m)

    def watch(client):
        try:
            client.follow(seconds + CALM_STEPS * CALM_SECONDS)
        except Exception as e:  # to be told by the test
            errors.append(e)

    for name, first in KINDS.items():
        clients[name] = rfb.Rfb(port)
        clients[name].encodings(first=first)
        clients[name].update()
        clients[name].copied = 0
    threads = [threading.Thread(target=watch, args=(c,)) for c in clients.values()]
    for thread in threads:
        thread.start()
    start = time.monotonic()
    n = 0
    while time.monotonic() < start + seconds:
        m.batch(draw(n))
        n += 1
        time.sleep(max(0, start + n / rate - time.monotonic()))
    for n in range(CALM_STEPS):
        m.batch(calm(n))
        time.sleep(CALM_SECONDS)
    for thread in threads:
        thread.join()
    if errors:
        raise Failure("viewer: %r" % errors[0])
    fresh = rfb.Rfb(port)
    want = fresh.settled()
    fresh.close()
    for name, client in clients.items():
        got = (client.width, client.height, bytes(client.picture))
        client.close()
        t.check(rfb.differs(want, got) is None, "%s: %s" % (name, rfb.differs(want, got)))
        t.equal(client.copied > 0, "CopyRect" in name, "%s: pixels were copied" % name)


def test_text(t):
    """A console at the rate that a guest can; a status line stays."""
    with t.machine(vga="stdvga", vnc=VNC) as m:
        show_text(m, vga.attr(1, 0x3f))
        rng = random.Random(3)
        lines = [b"".join(bytes((rng.randrange(33, 127), 7)) for _ in range(rng.randrange(80))) for _ in range(120)]
        m.write(0x20000, b"".join(line.ljust(160, b" ") for line in lines))

        def scroll(line):
            return "xen movs 4 w 0xb80a0 %#x 920" % (0x20000 + 160 * line)
        follow_all(m, t, lambda n: [scroll(n // 3 % 90), "xen movs 2 w 0xb8000 %#x 80" % (0x20000 + 160 * (n // 40))],
                   lambda n: [scroll(n)])


def test_linear(t):
    """Part of a linear picture scrolls up and down, another part changes, and sometimes there is only that."""
    w, h, pitch = 800, 600, 3200
    with t.machine(vga="stdvga", vnc=VNC, mem=64) as m:
        lfb = pcibus.find(pcibus.assign(m), 3, 0)[0]
        vga.set_mode(m, "text")
        set_mode(m, w, h, 32)
        rng = random.Random(4)
        tall = 1200
        for y in range(0, tall, 20):
            rows = b"".join(b"".join(struct.pack("<I", rng.choice((0, 0, 0xc0c0c0, rng.randrange(1 << 24))))
                                     for _ in range(w // 4)) * 4 for _ in range(20))
            m.write(0x1000000 + pitch * y, rows)
        m.cmd("xen copy %#x 0x1000000 %d" % (lfb, pitch * h))

        def scroll(at):
            return ["xen copy %#x %#x %d 560 %d %d" % (lfb + pitch * 20 + 80, 0x1000000 + pitch * at, 4 * 700, pitch, pitch)]

        def draw(n):
            if n % 30 > 24:
                return ["xen copy %#x %#x 160 40 %d %d" % (lfb + pitch * 500 + 64, 0x1000000 + pitch * (n % 500), pitch, pitch)]
            return scroll(7 * (n if n // 40 % 2 else -n) % 600)
        follow_all(m, t, draw, lambda n: scroll(9 * n))
