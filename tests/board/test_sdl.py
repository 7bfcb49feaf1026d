# SPDX-License-Identifier: GPL-2.0-or-later
"""The window of sdl=1 on a real X server: its picture pixel by pixel, keys and pointer, full screen, and what
may happen to it."""
import math
import os
import random
import struct
import time

import pcibus
import rfb
import test_screen
import test_uhci
import vga
from fakexen import StartError
from harness import Failure
from test_screen import VNC, read_bytes
from test_vbe import set_mode
from test_viewer import read_exactly
from xdisplay import HEIGHT, WIDTH, XDisplay, until

SDL = ["-display", "sdl"]


class Screen(XDisplay):
    """An X display and a guest with a window on it."""

    def __init__(self, t, manager=True, depth=24, sdl="sdl", **kw):
        self.t = t
        self.m = None
        super().__init__(manager, depth)
        try:
            env = {"DISPLAY": self.name, "XAUTHORITY": "/nonexistent", **kw.pop("env", {})}
            extra = ["-display", sdl] + kw.pop("extra", [])
            self.m = t.machine(env=env, extra=extra, **kw)
            self.id = self.window("board-test")
            if manager:
                until("the window has the focus", lambda: self.focused(self.id))
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.m:
            self.m.close()
        super().close()

    def press(self, *keys):
        """One after the other down, and up in the opposite order."""
        self.do(*[w for k in keys for w in ("keydown", k)], *[w for k in reversed(keys) for w in ("keyup", k)])

    def shows(self, want, area=None):
        """Waits until the window (or that part of it) shows exactly these pixels, (width, height, bytes)."""
        def look():
            at = self.place(self.id)
            if not at:
                return "no window"
            x, y, w, h = (at[0] + area[0], at[1] + area[1], *area[2:]) if area else at
            if (w, h) != want[:2]:
                return "%dx%d instead of %dx%d" % (w, h, *want[:2])
            got = self.rows(x, y, w, h)
            if got is None:
                return "not all of it is on the screen: %dx%d at %d,%d" % (w, h, x, y)
            if got == want[2]:
                return None
            n = len(got) // (w * h)
            bad = [i for i in range(0, len(got), n) if got[i:i + n] != want[2][i:i + n]]
            i = bad[0]
            return "%d pixels differ, first at %d,%d: %s, expected %s" % (
                len(bad), i // n % w, i // n // w, got[i:i + n].hex(), want[2][i:i + n].hex())
        until(lambda: look() or "in time", lambda: look() is None)

    def keyboard(self):
        """Set 1 at port 0x60, as a guest has it that reads without interrupts."""
        self.m.values(["outb 0x64 0x60", "outb 0x60 0x47", "outb 0x60 0xf4"])
        read_bytes(self.m)

    def mouse(self):
        self.m.values(["outb 0x64 0x60", "outb 0x60 0x47"])
        for value in (0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2, 0xf3, 200, 0xf3, 200, 0xf3, 80, 0xf4):  # five buttons
            self.m.outb(0x64, 0xd4)
            self.m.outb(0x60, value)
            read_bytes(self.m)

    def typed(self, n):
        """n bytes from the keyboard."""
        return " ".join(read_exactly(self.m, n, 5))

    def nothing_typed(self):
        self.t.equal(read_bytes(self.m, 0.2), [], "bytes from keyboard or mouse")

    def middle(self):
        x, y, w, h = self.place(self.id)
        return x + w // 2, y + h // 2

    def focus_elsewhere(self):
        """Another program's window gets the focus; returns its id."""
        self.spawn(["xev", "-name", "elsewhere", "-geometry", "100x50+0+0"], env=self.env)
        other = self.window("elsewhere")
        self.do("windowactivate", other)
        until("the other window has the focus", lambda: self.focused(other))
        return other

    def focus_back(self):
        self.do("windowactivate", self.id)
        until("the window has the focus", lambda: self.focused(self.id))


def linear(m, x, y, seed=1):
    """A 32-bit mode full of noise; returns the picture."""
    lfb = pcibus.find(pcibus.assign(m), 3, 0)[0]
    vga.set_mode(m, "text")
    set_mode(m, x, y, 32)
    data = bytearray(random.Random(seed).randbytes(4 * x * y))
    for at in range(0, len(data), 65536):
        m.write(lfb + at, data[at:at + 65536])
    data[3::4] = bytes(len(data) // 4)
    return x, y, bytes(data)


def enlarged(picture, factor):
    w, h, data = picture
    out = bytearray()
    for y in range(h):
        row = data[4 * w * y:4 * w * (y + 1)]
        wide = b"".join(row[i:i + 4] * factor for i in range(0, len(row), 4))
        out += wide * factor
    return w * factor, h * factor, bytes(out)


# ---- picture ----

def test_picture(t):
    """All of it, then single changes, which do not trap; then other modes."""
    with Screen(t, vga="stdvga", vnc="none") as s:
        picture = linear(s.m, 800, 600)
        s.shows(picture)
        lfb = pcibus.find(pcibus.assign(s.m), 3, 0)[0]
        data = bytearray(picture[2])
        for x, y in ((0, 0), (799, 599), (400, 300), (1, 599)):
            s.m.writel(lfb + 4 * (800 * y + x), 0x00123456 + x)
            data[4 * (800 * y + x):4 * (800 * y + x) + 4] = struct.pack("<I", 0x00123456 + x)
        s.shows((800, 600, bytes(data)))
        for mode in ((320, 200), (1024, 768), (1366, 768), (640, 480)):
            picture = linear(s.m, *mode, seed=mode[0])
            if mode[0] <= WIDTH:
                s.shows(picture)
            else:  # shrunk to the screen, in its shape
                until("the size", lambda: s.place(s.id)[2:] == (WIDTH, WIDTH * mode[1] // mode[0]))


def test_beside_vnc(t):
    """Window and viewer see the same, and both type."""
    with Screen(t, vnc=VNC) as s:
        test_screen.show_text(s.m)
        viewer = rfb.Rfb(rfb.port_of(s.m))
        seen = viewer.settled()
        want = bytearray(seen[2])
        want[3::4] = bytes(len(want) // 4)
        t.check(len(set(want)) > 3, "the picture shows nothing")
        s.shows((seen[0], seen[1], bytes(want)))
        s.keyboard()
        viewer.key(0x61, 1)
        viewer.key(0x61, 0)
        t.equal(s.typed(2), "1e 9e", "from the viewer")
        s.do("key", "b")
        t.equal(s.typed(2), "30 b0", "from the window")
        viewer.close()
        vga.set_mode(s.m, "mode13")
        until("the window follows the mode", lambda: s.place(s.id)[2:] in ((320, 200), (640, 400)))


def test_cursor(t):
    """Cirrus' hardware cursor is in the picture, as a VNC viewer has it."""
    with Screen(t, vnc=VNC) as s:
        test_screen.show_cirrus("16", 32)(s.m)
        viewer = rfb.Rfb(rfb.port_of(s.m))
        seen = viewer.settled()
        want = bytearray(seen[2])
        want[3::4] = bytes(len(want) // 4)
        s.shows((seen[0], seen[1], bytes(want)))
        s.m.values(["outw 0x3c4 %#x" % (0x10 | 80 << 8), "outw 0x3c4 %#x" % (0x11 | 60 << 8)])
        moved = bytearray(viewer.settled()[2])
        moved[3::4] = bytes(len(moved) // 4)
        t.check(moved != want, "the cursor does not move")
        s.shows((seen[0], seen[1], bytes(moved)))
        viewer.close()


def test_full_screen(t):
    with Screen(t, vga="stdvga", vnc="none") as s:
        s.keyboard()
        picture = linear(s.m, 640, 480)
        s.shows(picture)
        s.press("Control_L", "Alt_L", "f")
        until("full screen", lambda: s.place(s.id) == (0, 0, WIDTH, HEIGHT))
        s.shows(enlarged(picture, 2))
        t.check("leaves full screen" in s.title(s.id), "title: " + s.title(s.id))
        t.equal(s.typed(4), "1d 38 b8 9d", "without the F")
        other = linear(s.m, 512, 200, 5)  # in its shape, between black bars
        until("bars", lambda: not any(s.rows(0, 0, WIDTH, 230)) and not any(s.rows(0, 730, WIDTH, 230)) and
              any(s.rows(0, 230, WIDTH, 4)))
        t.check(any(s.rows(0, 726, WIDTH, 4)), "the picture is not in its shape")
        s.press("Control_L", "Alt_L", "f")
        s.shows(other)
        t.check("leaves" not in s.title(s.id), "title: " + s.title(s.id))


def test_starts_full_screen(t):
    with Screen(t, sdl="sdl,full-screen=on,gl=off,grab-mod=rctrl", vga="stdvga", vnc="none") as s:
        picture = linear(s.m, 640, 480)
        until("full screen", lambda: s.place(s.id) == (0, 0, WIDTH, HEIGHT))
        s.shows(enlarged(picture, 2))
        s.press("Control_R", "f")
        s.shows(picture)


def test_user_resizes(t):
    """The picture follows the window, until the guest has another size or Ctrl+Alt+U."""
    with Screen(t, vga="stdvga", vnc="none") as s:
        picture = linear(s.m, 320, 240)
        s.shows(picture)
        s.do("windowsize", s.id, 640, 480)
        s.shows(enlarged(picture, 2))
        s.press("Control_L", "Alt_L", "u")
        s.shows(picture)
        s.do("windowsize", s.id, 700, 500)
        until("the size", lambda: s.place(s.id)[2:] == (700, 500))
        s.shows(linear(s.m, 400, 300, 2))


def test_16_bits(t):
    """An X server with fewer colours."""
    with Screen(t, depth=16, vga="stdvga", vnc="none") as s:
        w, h, data = linear(s.m, 640, 480)
        want = b"".join(struct.pack("<H", r >> 3 << 11 | g >> 2 << 5 | b >> 3)
                        for b, g, r, _ in zip(*[iter(data)] * 4))
        s.shows((w, h, want))


# ---- keyboard ----

# X keycodes (those of Linux' evdev) and what the keyboard sends, set 1.
KEYCODES = {
    "escape": ("Escape", "01"), "1": (10, "02"), "minus": (20, "0c"), "q": (24, "10"), "return": (36, "1c"),
    "a": (38, "1e"), "grave": (49, "29"), "backslash": (51, "2b"), "slash": (61, "35"), "keypad *": (63, "37"), "space": (65, "39"),
    "f1": (67, "3b"), "f10": (76, "44"), "scroll lock": (78, "46"), "keypad 7": (79, "47"), "keypad .": (91, "53"),
    "102nd": (94, "56"), "f11": (95, "57"), "f12": (96, "58"), "jis ro, abnt2 /": (97, "73"), "henkan": (100, "79"),
    "hiragana": (101, "70"), "muhenkan": (102, "7b"), "keypad enter": (104, "e0 1c"), "right ctrl": (105, "e0 1d"),
    "keypad /": (106, "e0 35"), "right alt": (108, "e0 38"), "home": (110, "e0 47"), "up": (111, "e0 48"),
    "page up": (112, "e0 49"), "left": (113, "e0 4b"), "right": (114, "e0 4d"), "end": (115, "e0 4f"),
    "down": (116, "e0 50"), "page down": (117, "e0 51"), "insert": (118, "e0 52"), "delete": (119, "e0 53"),
    "yen": (132, "7d"), "left windows": (133, "e0 5b"), "right windows": (134, "e0 5c"), "menu": (135, "e0 5d"),
    "abnt2 keypad comma": (129, "7e"), "hangul": (130, "f2"), "hanja": (131, "f1"),
}


def released(code):
    words = code.split()
    words[-1] = "%02x" % (int(words[-1], 16) | 0x80)
    return " ".join(words)


def test_keys(t):
    with Screen(t, vnc="none") as s:
        s.keyboard()
        for name, (keycode, code) in KEYCODES.items():
            n = len(code.split())
            s.do("keydown", keycode)
            t.equal(s.typed(n), code, name)
            s.do("keyup", keycode)
            if name not in ("hangul", "hanja"):  # real ones have no release
                t.equal(s.typed(n), released(code), name + " up")
        for name, keycode, down, up in (
                ("pause", 127, "e1 1d 45 e1 9d c5", ""), ("print", 107, "e0 2a e0 37", "e0 b7 e0 aa"),
                ("caps lock", 66, "3a", "ba"), ("num lock", 77, "45", "c5"), ("shift", 50, "2a", "aa"),
                ("right shift", 62, "36", "b6"), ("ctrl", 37, "1d", "9d"), ("alt", 64, "38", "b8")):
            for _ in range(2):  # twice, for the locks
                s.do("keydown", keycode)
                t.equal(s.typed(len(down.split())), down, name)
                s.do("keyup", keycode)
                t.equal(s.typed(len(up.split())), up, name + " up")
        s.nothing_typed()


def test_foreign_layout(t):
    """The key counts, not what the host's layout makes of it; nor what its input method does with dead keys."""
    with Screen(t, vnc="none", env={"LC_ALL": "C.UTF-8"}) as s:
        s.keyboard()
        s.run("setxkbmap", "de")
        t.check("de" in s.run("setxkbmap", "-query"), "X does not take the layout")
        s.do("key", 29)
        t.equal(s.typed(2), "15 95", "the key right of T")
        for keycode, codes in ((21, "0d 8d"), (26, "12 92"), (49, "29 a9"), (65, "39 b9")):
            s.do("key", keycode)
            t.equal(s.typed(2), codes, "acute, e, circumflex, space")
        s.nothing_typed()


def test_focus_loss(t):
    """What is held is let go."""
    with Screen(t, vnc="none") as s:
        s.keyboard()
        s.do("keydown", "Control_L", "keydown", "Right")
        t.equal(s.typed(3), "1d e0 4d", "held")
        s.focus_elsewhere()
        t.equal(s.typed(3), "e0 cd 9d", "let go")
        s.do("keyup", "Right", "keyup", "Control_L")
        s.nothing_typed()
        s.focus_back()
        s.do("key", "c")
        t.equal(s.typed(2), "2e ae", "afterwards")


def test_locks(t):
    """Caps Lock pressed elsewhere: the guest's follows when the window has the keyboard again."""
    with Screen(t, vnc="none") as s:
        s.keyboard()
        for value in (0xed, 2):  # the guest has Num Lock on, X has not
            s.m.outb(0x60, value)
            read_bytes(s.m)
        s.focus_elsewhere()
        s.do("key", "Caps_Lock")
        s.focus_back()
        t.equal(s.typed(4), "3a ba 45 c5", "Caps Lock and Num Lock")
        for value in (0xed, 4):
            s.m.outb(0x60, value)
            read_bytes(s.m)
        s.do("windowactivate", s.window("elsewhere"))
        until("the other window has the focus", lambda: not s.focused(s.id))
        s.focus_back()
        s.nothing_typed()


# ---- pointer and grab ----

def packets(m, n):
    """n five-button packets: (dx, dy, dz, buttons), dy up."""
    got, end = [], time.monotonic() + 5
    while len(got) < 4 * n and time.monotonic() < end:
        if m.inb(0x64) & 0x21 == 0x21:
            got.append(m.inb(0x60))
        else:
            time.sleep(0.001)
    out = []
    for a, x, y, z in zip(*[iter(got)] * 4):
        dz = (z & 15) - 16 if z & 8 else z & 15
        out.append((x - 256 * (a >> 4 & 1), y - 256 * (a >> 5 & 1), dz, a & 7 | z >> 1 & 0x18))
    return out


def test_mouse(t):
    """A PS/2 mouse: a click takes it, Ctrl+Alt lets it go."""
    with Screen(t, vnc="none") as s:
        s.keyboard()
        s.mouse()
        t.check("Ctrl+Alt+G" in s.title(s.id) and "Ctrl+Alt+F" in s.title(s.id), "title: " + s.title(s.id))
        s.do("mousemove", *s.middle())
        s.do("mousemove_relative", 5, 5)
        s.do("click", 3)
        s.nothing_typed()
        s.do("click", 1)
        until("the title tells how to let go", lambda: "Ctrl+Alt releases mouse and keyboard" in s.title(s.id))
        s.nothing_typed()
        for dx, dy in ((7, 0), (0, 9), (-30, -12)):
            s.do("mousemove_relative", "--", dx, dy)
            t.equal(packets(s.m, 1), [(dx, -dy, 0, 0)], "movement")
        for number, bit in ((1, 1), (2, 4), (3, 2), (8, 8), (9, 16)):
            s.do("mousedown", number)
            t.equal(packets(s.m, 1), [(0, 0, 0, bit)], "button %d" % number)
            s.do("mouseup", number)
            t.equal(packets(s.m, 1), [(0, 0, 0, 0)], "button %d up" % number)
        s.do("click", 4)
        t.equal(packets(s.m, 1), [(0, 0, -1, 0)], "wheel up")
        s.do("click", 5)
        t.equal(packets(s.m, 1), [(0, 0, 1, 0)], "wheel down")
        # The window manager's Alt+F4 and Alt+Tab are the guest's now.
        s.press("Alt_L", "F4")
        t.equal(s.typed(4), "38 3e be b8", "Alt+F4")
        s.press("Control_L", "Alt_L")
        t.equal(s.typed(4), "1d 38 b8 9d", "Ctrl+Alt")
        until("the title", lambda: "Ctrl+Alt+G holds mouse and keyboard" in s.title(s.id))
        s.do("mousemove_relative", 20, 20)
        s.nothing_typed()
        # With the keys, and away with the focus.
        s.press("Control_L", "Alt_L", "g")
        until("the title", lambda: "releases" in s.title(s.id))
        t.equal(s.typed(4), "1d 38 b8 9d", "without the G")
        s.focus_elsewhere()
        until("the title", lambda: "holds" in s.title(s.id))


def test_tablet(t):
    """An absolute pointer needs no grab, and points at the very pixel."""
    with Screen(t, vnc="none", **test_uhci.usb("tablet", vga="stdvga")) as s:
        linear(s.m, 800, 600)
        until("the mode", lambda: s.place(s.id)[2:] == (800, 600))
        c = test_uhci.attach(s.m)
        until("the title", lambda: "holds the keyboard" in s.title(s.id))
        x0, y0 = s.place(s.id)[:2]

        def report():
            data = c.report()
            c.wr(test_uhci.USBSTS, 1)
            c.poll(1)
            return struct.unpack("<BHHb", data)

        def at(x, y):
            return math.ceil(x * 32767 / 799), math.ceil(y * 32767 / 599)
        s.do("mousemove", x0 + 100, y0 + 50)
        t.equal(report()[:3], (0, *at(100, 50)), "moved")
        s.do("mousemove", x0 + 799, y0 + 599)
        t.equal(report()[:3], (0, 32767, 32767), "corner")
        s.do("mousemove", x0, y0)
        t.equal(report()[:3], (0, 0, 0), "origin")
        for number, bit in ((1, 1), (3, 2), (2, 4)):
            s.do("mousedown", number)
            t.equal(report(), (bit, 0, 0, 0), "button %d" % number)
            s.do("mouseup", number)
            t.equal(report(), (0, 0, 0, 0), "button %d up" % number)
        t.check("holds" in s.title(s.id), "a click took the mouse")
        s.do("click", 4)
        t.equal(report()[3], 1, "wheel up")  # HID counts away from the user


# ---- what may happen to it ----

def test_close(t):
    """As a power button that is held: xl sees the domain end."""
    with Screen(t, vnc="none") as s:
        s.press("Alt_L", "F4")
        until("the domain is off", lambda: s.m.fields("xen shutdown")["reason"] == "0")
        t.equal(s.m.dm_status(), "running", "the process, which xl ends")
        t.check("window was closed" in s.m.log(), "log: " + s.m.log())


def test_close_refused(t):
    with Screen(t, sdl="sdl,window-close=off", vnc="none") as s:
        s.keyboard()
        s.press("Alt_L", "F4")
        until("a line in the log", lambda: "window-close=off" in s.m.log())
        t.equal(s.m.fields("xen shutdown")["reason"], "-1", "shutdown")
        read_bytes(s.m)
        s.do("key", "d")
        t.equal(s.typed(2), "20 a0", "the window is still there")


def test_minimised(t):
    """Nobody looks: no tracking, no timer, no wake-up; and back again."""
    with Screen(t, vga="stdvga", vnc="none") as s:
        picture = linear(s.m, 640, 480)
        s.shows(picture)
        s.do("windowminimize", s.id)
        until("minimised", lambda: "Iconic" in s.state(s.id))
        pid = s.m.dm_pid()

        def asleep():
            before = all_switches(pid)
            time.sleep(1)
            return all_switches(pid) == before
        until("a second without a wake-up", asleep, 20)
        tracked = s.m.fields("xen counts")["track_dirty"]
        s.m.inb(0x64)
        time.sleep(0.5)
        t.equal(s.m.fields("xen counts")["track_dirty"], tracked, "tracking calls")
        picture = linear(s.m, 640, 480, 2)
        s.focus_back()
        s.shows(picture)


def all_switches(pid):
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/status" % (pid, task)) as f:
            total += sum(int(x.split()[1]) for x in f if x.startswith("voluntary_ctxt"))
    return total


def cpu_ns(pid):
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, task)) as f:
            total += int(f.read().split()[0])
    return total


def test_static_screen(t):
    """A picture that does not change: under 0.5 % of a core."""
    with Screen(t, vga="stdvga", vnc="none") as s:
        s.shows(linear(s.m, 1024, 768))
        time.sleep(2)  # the display's interval grows
        pid = s.m.dm_pid()
        before, start = cpu_ns(pid), time.monotonic()
        time.sleep(4)
        share = (cpu_ns(pid) - before) / 1e9 / (time.monotonic() - start)
        t.check(share < 0.005, "%.2f %% of a core" % (share * 100))
        t.notes.append("%.2f %% of a core" % (share * 100))


def server_killed(t, stopped):
    """The guest and its VNC viewers go on."""
    with Screen(t, vga="stdvga", vnc=VNC) as s:
        picture = linear(s.m, 640, 480)
        s.shows(picture)
        s.do("mousemove", *s.middle())
        s.do("click", 1)
        if stopped:
            s.stop()
            linear(s.m, 640, 480, 2)
            until("the picture is asked for", lambda: in_x(s.m.dm_pid()))
        s.kill()
        until("a line in the log", lambda: "X server is lost" in s.m.log())
        t.equal(s.m.log().count("\n"), 1, "lines in the log")
        viewer = rfb.Rfb(rfb.port_of(s.m))
        t.equal(viewer.settled()[:2], (640, 480), "VNC")
        viewer.close()
        time.sleep(1)
        tracked = s.m.fields("xen counts")["track_dirty"]
        time.sleep(0.5)
        t.equal(s.m.fields("xen counts")["track_dirty"], tracked, "tracking for a window that is no more")
        ends_quickly(t, s.m)


def in_x(pid):
    """The window's thread waits for the X server in a request, not for events: in poll() for ever on one descriptor."""
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/comm" % (pid, task)) as f:
            if f.read().strip() != "sdl":
                continue
        with open("/proc/%d/task/%s/syscall" % (pid, task)) as f:
            words = f.read().split()
        return words[0] == "7" and words[2] == "0x1"
    return False


def test_server_killed(t):
    server_killed(t, False)


def test_server_killed_at_work(t):
    """In the middle of a request."""
    server_killed(t, True)


def ends_quickly(t, m):
    start = time.monotonic()
    os.kill(m.dm_pid(), 15)
    t.equal(m.wait_exit(10), "exited 0", "on SIGTERM")
    took = time.monotonic() - start
    t.check(took < 8, "it took %.1f s to end" % took)


def test_server_stopped(t):
    """An X server that does not answer delays neither the guest nor the end."""
    with Screen(t, vga="stdvga", vnc=VNC) as s:
        s.shows(linear(s.m, 640, 480))
        s.stop()
        slowest = 0
        for i in range(10):
            linear(s.m, 640, 480, i)  # frames that it does not take
            for _ in range(20):
                start = time.monotonic()
                s.m.inb(0x64)
                slowest = max(slowest, time.monotonic() - start)
        t.check(slowest < 5, "a port read took %.2f s" % slowest)
        viewer = rfb.Rfb(rfb.port_of(s.m))
        t.equal(viewer.settled()[:2], (640, 480), "VNC")
        viewer.close()
        ends_quickly(t, s.m)
        s.go_on()


def test_without_manager(t):
    """No window manager: the window is as large as it says, wherever it is."""
    with Screen(t, manager=False, vga="stdvga", vnc="none") as s:
        s.shows(linear(s.m, 1024, 768))
        s.shows(linear(s.m, 640, 480, 3))


def refused(t, text, env, extra=SDL):
    try:
        with t.machine(env=env, extra=extra, timeout_ms=30000):
            raise Failure("started")
    except StartError as e:
        t.equal(e.status, "exited 1", "end")
        t.check(text in e.text, "%r is not in the log: %s" % (text, e.text))
        t.equal(e.text.count("\n"), 1, "lines in " + e.text)


def test_no_display(t):
    empty = {"DISPLAY": "", "XAUTHORITY": "", "SDL_VIDEODRIVER": ""}
    refused(t, "-display sdl: no X display: put display= into the guest's config", empty)
    refused(t, "-display sdl: cannot open the X display ':4321'", dict(empty, DISPLAY=":4321"))
    refused(t, "-display: bad value gl=on", empty, ["-display", "sdl,gl=on"])


def test_server_silent(t):
    """It takes the connection and says nothing."""
    with XDisplay(manager=False) as x:
        x.stop()
        refused(t, "the X server of display '%s' does not answer" % x.name, {"DISPLAY": x.name})
        x.go_on()


def test_no_library(t):
    """libSDL2 is not there, or is none."""
    with XDisplay(manager=False) as x:
        with open(os.path.join(x.dir, "libSDL2-2.0.so.0"), "w"):
            pass
        refused(t, "install the package libsdl2-2.0-0", {"DISPLAY": x.name, "LD_LIBRARY_PATH": x.dir})


def test_not_loaded(t):
    """Who does not ask for a window does not get the library."""
    with t.machine(vnc=VNC) as m:
        with open("/proc/%d/maps" % m.dm_pid()) as f:
            maps = f.read()
        t.check("libvncserver" in maps, "maps cannot be read")
        t.check("libSDL" not in maps and "libX11" not in maps, "SDL or X is loaded")
