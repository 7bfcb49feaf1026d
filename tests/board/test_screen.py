# SPDX-License-Identifier: GPL-2.0-or-later
"""What a viewer sees, and what its keys and pointer become, against the peer. Pictures are compared
pixel by pixel; blinking things are off."""
import random
import socket
import time

import harness
import pcibus
import rfb
import vga
from harness import Failure
from test_cirrus import linear_mode
from test_vbe import ENABLE, VIRT_W, X_OFF, Y_OFF, set_mode, wr

VNC = "127.0.0.1:80,to=99"


def font(m, base=0):
    """A font in plane 2 whose every glyph differs."""
    m.values(vga.seq(2, 4) + vga.seq(4, 7) + vga.gr(4, 2) + vga.gr(5, 0) + vga.gr(6, 4))
    data = b"".join(bytes((c * 17 + r * 31 ^ c >> 3) & 0xff if r < 16 else 0 for r in range(32))
                    for c in range(256))
    for i in range(0, len(data), 4096):
        m.write(0x10000, data[i:i + 4096])
        m.cmd("xen movs 1 w %#x 0x10000 4096" % (0xa0000 + base + i))
    m.values(vga.seq(2, 3) + vga.seq(4, 3) + vga.gr(4, 0) + vga.gr(5, 0x10) + vga.gr(6, 0x0e))


def text_screen(m, columns=80):
    # Not b0-bf: the peer widens these to nine dots as line graphics, which begin at c0 (IBM VGA).
    codes = [c for c in range(256) if c & 0xf0 != 0xb0]
    cells = b"".join(bytes((codes[i * 7 % 240], (i >> 3) * 5 & 0xff)) for i in range(columns * 26 + 400))
    m.write(0x10000, cells)
    m.cmd("xen movs 2 w 0xb8000 0x10000 %d" % (len(cells) // 2))


def show_text(m, extra=()):
    vga.set_mode(m, "text")
    vga.default_palette(m)
    m.values(vga.attr(0x10, 0x04) + ["inb 0x3da", "outb 0x3c0 0x20"] + vga.crtc(0x0a, 0x20))
    font(m)
    text_screen(m)
    m.values(list(extra) + ["inb 0x3da", "outb 0x3c0 0x20"])


def noise(m, at, size, seed=1):
    rng = random.Random(seed)
    for i in range(0, size, 4096):
        n = min(4096, size - i)
        m.write(0x10000, bytes(rng.randrange(256) for _ in range(n)))
        m.cmd("xen movs 1 w %#x 0x10000 %d" % (at + i, n))


def show_planar(m, mode="mode12", extra=()):
    vga.set_mode(m, mode)
    vga.default_palette(m)
    for p in range(4):
        m.values(vga.seq(2, 1 << p))
        noise(m, 0xa0000, 0x9600 if mode == "mode12" else 0x2000, p)
    m.values(list(extra) + ["inb 0x3da", "outb 0x3c0 0x20"])


def show_mode13(m, extra=()):
    vga.set_mode(m, "mode13")
    vga.default_palette(m)
    noise(m, 0xa0000, 64000)
    m.values(list(extra))


def show_cga(m):
    vga.set_mode(m, "mode04")
    vga.default_palette(m)
    noise(m, 0xb8000, 0x4000)


def show_vbe(bpp, x=640, y=480, extra=()):
    def show(m):
        lfb = pcibus.find(pcibus.assign(m), 3, 0)[0]
        vga.set_mode(m, "text")
        vga.default_palette(m)
        set_mode(m, x, y, bpp)
        rng = random.Random(bpp)
        for row in range(0, 40):
            m.write(lfb + row * 16000, bytes(rng.randrange(256) for _ in range(4000)))
        for index, value in extra:
            wr(m, index, value)
    return show


def show_cirrus(name, cursor=False):
    def show(m):
        lfb = pcibus.find(pcibus.assign(m), 3, 0)[0]
        linear_mode(m, name)
        vga.default_palette(m)
        rng = random.Random(7)
        for row in range(0, 40):
            m.write(lfb + row * 16000, bytes(rng.randrange(256) for _ in range(4000)))
        if cursor:
            m.write(lfb + 0x3fc000, bytes((i * 3 ^ i >> 2) & 0xff for i in range(0x4000)))
            m.values(vga.seq(0x12, 0x02) + ["outb 0x3c8 0"] + ["outb 0x3c9 %d" % v for v in (0, 40, 60)] +
                     ["outb 0x3c8 15"] + ["outb 0x3c9 %d" % v for v in (60, 10, 5)])
            m.values(vga.seq(0x13, 0x30) + vga.seq(0x12, 0x05 if cursor == 64 else 0x01))
            m.values(["outw 0x3c4 %#x" % (0x10 | 37 << 8), "outw 0x3c4 %#x" % (0x11 | 25 << 8)])
    return show


def take(dm, adapter, show):
    with harness.fakexen.Machine(dm=dm, vga=adapter, vnc=VNC) as m:
        show(m)
        client = rfb.Rfb(rfb.port_of(m))
        try:
            return client.settled()
        finally:
            client.close()


def picture(adapter, show):
    def test(t):
        want = take(t.peer, adapter, show)
        got = take(t.peer if t.peer_only else t.dm, adapter, show)
        t.notes.append("%dx%d" % want[:2])
        difference = rfb.differs(want, got)
        if difference:
            raise Failure("peer's picture and ours: " + difference)
        colours = {want[2][i:i + 3] for i in range(0, len(want[2]), 4)}
        t.check(len(colours) > 1, "the picture has one colour only: the test shows nothing")
    test.compares = True
    return test


SPLIT = vga.crtc(7, 0x2e) + vga.crtc(9, 0x00) + vga.crtc(0x18, 0x80) + vga.crtc(0x0c, 0x02)

test_text_cirrus = picture("cirrus", show_text)
test_text_stdvga = picture("stdvga", show_text)
test_text_8_dots = picture("cirrus", lambda m: show_text(m, vga.seq(1, 1)))
test_text_start_address = picture("stdvga", lambda m: show_text(m, vga.crtc(0x0c, 0x01) + vga.crtc(0x0d, 0x23)))
test_text_line_graphics_off = picture("stdvga", lambda m: show_text(m, vga.attr(0x10, 0)))
test_text_palette = picture("cirrus", lambda m: show_text(m, vga.attr(1, 0x2a) + vga.attr(0x14, 3)))
test_mode12_cirrus = picture("cirrus", show_planar)
test_mode12_stdvga = picture("stdvga", show_planar)
test_mode12_planes_off = picture("stdvga", lambda m: show_planar(m, extra=vga.attr(0x12, 0x05)))
test_mode12_split = picture("stdvga", lambda m: show_planar(m, extra=SPLIT))
test_mode0d = picture("cirrus", lambda m: show_planar(m, "mode0d"))
test_mode04 = picture("stdvga", show_cga)
test_mode13_cirrus = picture("cirrus", show_mode13)
test_mode13_stdvga = picture("stdvga", show_mode13)
test_mode13_pixel_mask = picture("cirrus", lambda m: show_mode13(m, ["outb 0x3c8 1", "outb 0x3c9 63"]))
test_vbe_8 = picture("stdvga", show_vbe(8))
test_vbe_15 = picture("stdvga", show_vbe(15))
test_vbe_16 = picture("stdvga", show_vbe(16, 800, 600))
test_vbe_24 = picture("stdvga", show_vbe(24))
test_vbe_32 = picture("stdvga", show_vbe(32, 1024, 768))
test_vbe_offset = picture("stdvga", show_vbe(32, extra=((VIRT_W, 1024), (X_OFF, 33), (Y_OFF, 20))))
test_vbe_off = picture("stdvga", show_vbe(32, extra=((ENABLE, 0),)))
test_cirrus_8 = picture("cirrus", show_cirrus("8"))
test_cirrus_16 = picture("cirrus", show_cirrus("16"))
test_cirrus_24 = picture("cirrus", show_cirrus("24"))
test_cirrus_32 = picture("cirrus", show_cirrus("32"))
test_cirrus_cursor_32 = picture("cirrus", show_cirrus("16", 32))
test_cirrus_cursor_64 = picture("cirrus", show_cirrus("8", 64))


def live(t, dm, adapter):
    """With a viewer there: changes arrive, and nothing but what changed."""
    with harness.fakexen.Machine(dm=dm, vga=adapter, vnc=VNC) as m:
        show_text(m)
        client = rfb.Rfb(rfb.port_of(m))
        try:
            before = client.settled()
            m.writew(0xb8000 + 2 * (80 * 10 + 40), 0x1f58)
            after = client.settled()
            bad = [i // 4 for i in range(0, len(after[2]), 4) if before[2][i:i + 3] != after[2][i:i + 3]]
            t.check(bad, "a changed character is not seen")
            xs, ys = [i % after[0] for i in bad], [i // after[0] for i in bad]
            width = after[0] // 80
            t.check(min(xs) >= 40 * width and max(xs) < 41 * width and min(ys) >= 160 and max(ys) < 176,
                    "change at %d-%d,%d-%d" % (min(xs), max(xs), min(ys), max(ys)))
            show_mode13(m)
            t.check(client.settled()[:2] != before[:2], "the size does not follow the mode")
        finally:
            client.close()


def test_live_cirrus(t):
    live(t, t.dm, "cirrus")


def test_live_stdvga(t):
    live(t, t.dm, "stdvga")


def live_linear(t, adapter, show, enodata=False):
    """Guest writes to the linear frame buffer trap nowhere and are seen all the same."""
    with harness.fakexen.Machine(dm=t.dm, vga=adapter, vnc=VNC) as m:
        show(m)
        lfb = pcibus.find(pcibus.assign(m), 3, 0)[0]
        if enodata:
            m.cmd("xen dirty enodata 1")
        client = rfb.Rfb(rfb.port_of(m))
        try:
            before = client.settled()
            requests = int(m.fields("xen counts")["notify"])
            pixel = 640 * 4 * 100 + 4 * 50
            m.write(lfb + pixel, bytes(b ^ 0xff for b in m.read(lfb + pixel, 8)))
            t.equal(int(m.fields("xen counts")["notify"]), requests, "requests for linear memory")
            after = client.settled()
            bad = [i // 4 for i in range(0, len(after[2]), 4) if before[2][i:i + 3] != after[2][i:i + 3]]
            t.equal(bad, [640 * 100 + 50, 640 * 100 + 51], "changed pixels")
            if enodata:
                m.cmd("xen dirty enodata 0")
                m.write(lfb + pixel, bytes(b ^ 0xff for b in m.read(lfb + pixel, 8)))
                t.equal(client.settled() == before, True, "the picture after tracking works again")
        finally:
            client.close()


def test_live_linear_stdvga(t):
    live_linear(t, "stdvga", show_vbe(32))


def test_live_linear_cirrus(t):
    live_linear(t, "cirrus", show_cirrus("32"))


def test_live_linear_without_tracking(t):
    live_linear(t, "stdvga", show_vbe(32), enodata=True)


def test_nobody_looks(t):
    """Without a viewer the screen is not read and not tracked."""
    with t.machine(vga="stdvga", vnc=VNC) as m:
        show_vbe(32)(m)
        before = int(m.fields("xen counts")["track_dirty"])
        time.sleep(0.5)
        t.equal(int(m.fields("xen counts")["track_dirty"]), before, "tracking calls without a viewer")
        client = rfb.Rfb(rfb.port_of(m))
        client.settled()
        client.close()
        time.sleep(0.5)
        before = int(m.fields("xen counts")["track_dirty"])
        time.sleep(0.5)
        t.equal(int(m.fields("xen counts")["track_dirty"]), before, "after the viewer left")


def wrong_password(port):
    """Offers a response of zeros; True if the server let us in."""
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        f = s.makefile("rwb")
        f.read(12)
        f.write(b"RFB 003.008\n")
        f.flush()
        kinds = f.read(f.read(1)[0])
        if kinds != b"\x02":
            raise Failure("security types %r, expected VNC authentication alone" % kinds)
        f.write(b"\x02")
        f.flush()
        challenge = f.read(16)
        if len(challenge) != 16:
            raise Failure("no challenge")
        f.write(bytes(16))
        f.flush()
        return f.read(4) == bytes(4)


def test_password(t):
    """password=on: nobody gets in before a password is set, and not with a wrong one after it."""
    with t.machine(vnc="127.0.0.1:80,password=on,to=99") as m:
        port = rfb.port_of(m)
        t.equal(wrong_password(port), False, "let in without a password set")
        q = m.qmp()
        t.equal(q.command("change-vnc-password", password="secret")["return"], {})
        q.close()
        t.equal(wrong_password(port), False, "let in with a wrong password")


def test_hostile_viewers(t):
    """Clients that send garbage, stop in the middle, or never read: the guest is served meanwhile."""
    rng = random.Random(2)
    with t.machine(vga="stdvga", vnc=VNC) as m:
        show_vbe(32)(m)
        port = rfb.port_of(m)
        for n in range(40):
            with socket.create_connection(("127.0.0.1", port), 5) as s:
                try:
                    if n % 2:
                        s.sendall(b"RFB 003.008\n\x01\x01" + bytes(rng.randrange(256) for _ in range(400)))
                    else:
                        s.sendall(bytes(rng.randrange(256) for _ in range(rng.randrange(200))))
                    if n % 5 == 0:
                        s.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
        silent = [rfb.Rfb(port) for _ in range(3)]
        for c in silent:
            for _ in range(50):  # asks for pictures and never reads them
                c.sock.sendall(b"\x03\0" + bytes(4) + b"\x02\x80\x01\xe0")
        start = time.monotonic()
        for _ in range(200):
            m.inb(0x64)
        took = time.monotonic() - start
        t.check(took < 1, "200 port reads took %.2f s beside viewers that do not read" % took)
        for c in silent:
            c.close()
        good = rfb.Rfb(port)
        t.equal(good.settled()[:2], (640, 480), "a good viewer afterwards")
        good.close()
        t.equal(m.dm_status(), "running")


def read_bytes(m, first=0.5, quiet=0.04):
    """What the 8042 gives: waits for a first byte, then until it has been quiet for a while."""
    got, end = [], time.monotonic() + first
    while time.monotonic() < end:
        status = m.inb(0x64)
        if status & 1:
            got.append(("aux %02x" if status & 0x20 else "%02x") % m.inb(0x60))
            end = time.monotonic() + quiet
        else:
            time.sleep(0.001)
    return got


def with_viewer(body, justified=()):
    def script(m, out):
        m.values(["outb 0x64 0x60", "outb 0x60 0x47", "outb 0x60 0xf4"])
        read_bytes(m)
        client = rfb.Rfb(rfb.port_of(m))
        try:
            client.update()
            body(m, client, out)
        finally:
            client.close()
    return harness.compare(justified, vnc=VNC)(script)


KEYS = {"a": 0x61, "A": 0x41, "return": 0xff0d, "escape": 0xff1b, "F1": 0xffbe, "F10": 0xffc7, "F12": 0xffc9,
        "left": 0xff51, "up": 0xff52, "home": 0xff50, "delete": 0xffff, "page down": 0xff56, "insert": 0xff63,
        "keypad 5": 0xffb5, "keypad enter": 0xff8d, "keypad plus": 0xffab, "keypad slash": 0xffaf,
        "shift": 0xffe1, "right shift": 0xffe2, "control": 0xffe3, "right control": 0xffe4, "alt": 0xffe9,
        "alt gr": 0xffea, "super": 0xffeb, "menu": 0xff67, "caps": 0xffe5, "tab": 0xff09, "backspace": 0xff08,
        "space": 0x20, "1": 0x31, "slash": 0x2f, "backslash": 0x5c, "grave": 0x60, "print": 0xff61,
        "scroll": 0xff14, "pause": 0xff13}


def keys(m, client, out):
    for name, sym in KEYS.items():
        for down in (1, 0):
            client.key(sym, down)
            out("%s %s" % (name, "down" if down else "up"), read_bytes(m))


def pointer(m, client, out):
    for value in (0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf4):
        m.outb(0x64, 0xd4)
        m.outb(0x60, value)
        read_bytes(m)
    client.pointer(100, 100, 0)
    read_bytes(m)
    for x, y, buttons in ((110, 100, 0), (110, 90, 0), (100, 110, 0), (100, 110, 1), (100, 110, 0), (100, 110, 4),
                          (100, 110, 2), (100, 110, 0), (100, 110, 8), (100, 110, 0), (100, 110, 16),
                          (100, 110, 0)):
        client.pointer(x, y, buttons)
        out("to %d,%d buttons %d" % (x, y, buttons), read_bytes(m))


test_keys = with_viewer(keys, [
    ("keypad plus down", lambda a, b: a[2:] == b and len(b) == 1,
     "the peer presses Caps Lock or Num Lock first when a keysym and the guest's lights disagree"),
    ("A down", lambda a, b: a == ["3a", "ba", "1e"] and b == ["2a", "1e", "aa"],
     "where the peer presses Caps Lock and leaves it so, we hold Shift for the moment"),
    ("keypad 5 (down|up)", lambda a, b: b in (["06"], ["86"]) and a[-1] in ("4c", "cc"),
     "without Num Lock the digit is typed in the main row; the peer presses Num Lock and leaves it so")])
test_pointer = with_viewer(pointer, [
    ("to .* buttons 0.*", lambda a, b: b == [] and a == ["aux 08", "aux 00", "aux 00", "aux 00"],
     "the end of a wheel step is no event for a PS/2 mouse")])
