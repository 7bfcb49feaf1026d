# SPDX-License-Identifier: GPL-2.0-or-later
"""What test_desktop.py needs of pictures and viewers: GRUB's font, the pattern that box/desktop/desk.c draws, how two
pictures differ, and real VNC viewers on an X display of their own, with keys and pointer through XTEST.
"""

import functools
import http.server
import os
import struct
import subprocess
import sys
import threading
import time
import typing

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "board"))
import xdisplay  # noqa: E402
from harness import Failure  # noqa: E402, F401

COLUMNS, ROWS, CURSOR, NOISE = 16, 12, 16, (192, 128)
TOLERANCE = 8       # of a colour's 8 bits, where the guest's screen has 5 or 6


def grub_font(path):
    """ASCII out of one of GRUB's fonts, as vncshot.Rfb.text takes it: 16 bytes a character."""
    with open(path, "rb") as f:
        data = f.read()
    at, sections = 12, {}
    while at < len(data):
        name, size = struct.unpack(">4sI", data[at:at + 8])
        if name == b"DATA":
            break
        sections[name] = data[at + 8:at + 8 + size]
        at += 8 + size
    ascent = struct.unpack(">H", sections[b"ASCE"])[0]
    font = bytearray(256 * 16)
    for i in range(0, len(sections[b"CHIX"]), 9):
        code, flags, offset = struct.unpack(">IBI", sections[b"CHIX"][i:i + 9])
        if 32 < code < 127 and not flags:
            w, h, left, bottom = struct.unpack(">HHhh", data[offset:offset + 8])
            bits = int.from_bytes(data[offset + 10:offset + 10 + (w * h + 7) // 8], "big") >> -(w * h) % 8
            for row in range(h):
                line = bits >> (h - 1 - row) * w & (1 << w) - 1
                font[code * 16 + ascent - bottom - h + row] = line << (8 - w) >> left
    return bytes(font)


class Picture:
    """width, height and pixels: 4 bytes each, blue first, the last one unused."""

    def __init__(self, width, height, pixels=None):
        self.width, self.height = width, height
        self.pixels = pixels if pixels is not None else bytearray(width * height * 4)

    def row(self, x, y, w):
        """That part of a row."""
        at = (y * self.width + x) * 4
        return bytes(self.pixels[at:at + w * 4])

    def put(self, x, y, data):
        """Pixels into a row, from x on."""
        at = (y * self.width + x) * 4
        self.pixels[at:at + len(data)] = data

    def fill(self, x, y, w, h, colour):
        """A rectangle of one colour (R, G, B); what is outside is left out."""
        w, h = min(w, self.width - x), min(h, self.height - y)
        for row in range(y, y + h):
            self.put(x, row, bytes((*colour[::-1], 0)) * w)

    def copy(self, x, y, w, h, to_x, to_y):
        """A rectangle, to where it may overlap itself."""
        rows = [self.row(x, row, w) for row in range(y, y + h)]
        for i, data in enumerate(rows):
            self.put(to_x, to_y + i, data)


def of_rfb(rfb):
    """What a vncshot.Rfb has drawn."""
    pixels = bytearray(rfb.pixels)
    pixels[3::4] = bytes(len(pixels) // 4)
    return Picture(rfb.width, rfb.height, pixels)


@functools.lru_cache(maxsize=4)
def _pattern(width, height):
    p = Picture(width, height)
    for j in range(ROWS):
        for i in range(COLUMNS):
            x, y = i * width // COLUMNS, j * height // ROWS
            p.fill(x, y, (i + 1) * width // COLUMNS - x, (j + 1) * height // ROWS - y,
                   (i * 17, j * 23, (i * 5 + j * 11) * 3 & 255))
    for y in range(NOISE[1]):
        numbers = [x * 7 + y * 13 + x * y * 5 for x in range(NOISE[0])]
        p.put(width // 2 - NOISE[0] // 2, height // 2 - NOISE[1] // 2 + y,
              bytes(v & 255 for n in numbers for v in (n * 5, n * 3, n, 0)))
    p.copy(0, 0, width // 2, height // 2, 41, 27)
    p.copy(width // 2, height // 2, width // 2, height // 2, width // 2 - 37, height // 2 - 29)
    for x, y, w, h in ((0, 0, width, 1), (0, height - 1, width, 1), (0, 0, 1, height), (width - 1, 0, 1, height)):
        p.fill(x, y, w, h, (255, 255, 255))
    return bytes(p.pixels)


def pattern(width, height, pointer=None):
    """desk.c's picture; with its visible pointer at a place."""
    p = Picture(width, height, bytearray(_pattern(width, height)))
    if pointer:
        x, y = pointer
        p.fill(x, y, CURSOR, CURSOR, (0, 255, 0))
        p.fill(x, y, CURSOR // 2, CURSOR // 2, (255, 0, 255))
    return p


def differences(got, want, tolerance=TOLERANCE):
    """How two pictures differ, or ""."""
    if (got.width, got.height) != (want.width, want.height):
        return f"{got.width}x{got.height}, not {want.width}x{want.height}"
    count, first = 0, None
    for y in range(want.height):
        a, b = got.row(0, y, want.width), want.row(0, y, want.width)
        if a == b:
            continue
        for x in range(want.width):
            p, q = a[4 * x:4 * x + 3], b[4 * x:4 * x + 3]
            if p != q and any(abs(v - w) > tolerance for v, w in zip(p, q)):
                count += 1
                first = first or f"at {x},{y} {p[::-1].hex()}, not {q[::-1].hex()}"
    return f"{count} pixels differ, the first {first}" if count else ""


# -- keyboards ----------------------------------------------------------------------------------------

SHIFT, ALTGR, RETURN, SPACE = 50, 108, 36, 65       # X's key codes on Linux
# The keys with characters, row by row: digits, letters, what an ISO (94) and a Japanese keyboard (132, 97) have more.
KEYS = [49, *range(10, 22), 132, *range(24, 36), 51, *range(38, 49), 94, *range(52, 62), 97]
LEVELS = {"plain": (), "Shift": (SHIFT,), "AltGr": (ALTGR,), "Shift+AltGr": (SHIFT, ALTGR)}
MODELS = {"jp": "jp106"}        # else pc105
# What xl's keymap= calls them.
KEYMAPS = {"us": "en-us", "de": "de", "fr": "fr", "jp": "ja"}
THIRD_LEVEL = ("de", "fr")      # the right Alt key is AltGr


def setxkbmap(layout):
    """The command that gives an X server the layout."""
    return ["setxkbmap", "-rules", "evdev", "-model", MODELS.get(layout, "pc105"), "-layout", layout]


class Key(typing.NamedTuple):
    """A key of a layout: its code, what X says that it means, and the text of it (of a dead key: with Space after it)."""

    code: int
    sym: int
    text: str

    @property
    def dead(self):
        """Does nothing but to change the next character."""
        return 0xfe50 <= self.sym <= 0xfe8f


class Layout:
    """What each key gives in each level, as a program on an X server of this machine gets it. levels: name -> [Key]."""

    def __init__(self, display, name, program):
        display.run(*setxkbmap(name))
        names = list(LEVELS) if name in THIRD_LEVEL else ["plain", "Shift"]
        self.levels = {}
        with subprocess.Popen([program], env=display.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
            p.stdout.readline()
            for level in names:
                self.levels[level] = self.read(display, p, level)
            p.stdin.close()

    @staticmethod
    def read(display, reader, level):
        """The keys of a level. Each is followed by a Space, which a dead one needs."""
        def line():
            while True:
                words_ = reader.stdout.readline().split()
                if words_[1] in ("keys", "text"):
                    return words_[2:]

        done = chord(RETURN, "plain", 0)
        send(display, [w for code in KEYS for w in (*chord(code, level, 0), *done, *chord(SPACE, "plain", 0), *done)])
        keys = []
        for code in KEYS:
            (syms, text), (_, after) = ((line(), bytes.fromhex("".join(line())).decode()) for _ in range(2))
            key = Key(code, int(syms[0], 16) if syms else 0, text)
            key = key._replace(text=after) if key.dead else key
            if key.text.isprintable() and key.text.strip():
                keys.append(key)
        return keys

    def ascii(self):
        """True when every character of ASCII but Space is on it."""
        return set(map(chr, range(33, 127))) <= {c for keys in self.levels.values() for key in keys for c in key.text}


def chord(code, level, pause):
    """xdotool's words for a key with the level's modifiers held, this many seconds between two events."""
    held = LEVELS[level]
    words_ = [w for c in held for w in ("keydown", "--delay", 0, c, "sleep", pause)]
    words_ += ["keydown", "--delay", 0, code, "sleep", pause, "keyup", "--delay", 0, code, "sleep", pause]
    return words_ + [w for c in held[::-1] for w in ("keyup", "--delay", 0, c, "sleep", pause)]


def portions(keys, level):
    """How to type these keys of a level, a Space after each dead one: (xdotool's words, keys pressed so far), each portion
    for a keyboard's buffer of 16 bytes with room for what is still in it, so that nothing is lost on a slow machine."""
    size = 2 + sum(4 if code == ALTGR else 2 for code in LEVELS[level])      # bytes of a key with its modifiers
    out, used, count = [], 0, 0
    for key in keys:
        if out and used + size + 2 * key.dead > 12:
            yield out, count
            out, used = [], 0
        out += chord(key.code, level, 0.02) + (chord(SPACE, "plain", 0.02) if key.dead else [])
        used += size + 2 * key.dead
        count += 1 + key.dead
    yield out, count


def finish(level):
    """xdotool's words for the Return key after a level. Its modifiers are pressed and released before: Chromium on X says
    nothing of releases between a dead key and the next one, so that they may be down for a guest of noVNC."""
    return [w for code in LEVELS[level] for w in chord(code, "plain", 0.02)] + chord(RETURN, "plain", 0.02)


def engraved(level, key):
    """True for what keyboards of its country show; X has more on the third and fourth level than any other system."""
    return level in ("plain", "Shift") or not key.dead and (key.text.isascii() or key.text == "\u20ac")


def send(display, words_):
    """Runs xdotool."""
    subprocess.run(["xdotool", *map(str, words_)], env=display.env, stdin=subprocess.DEVNULL, check=True, timeout=180)


# -- viewers ------------------------------------------------------------------------------------------

class Viewer:
    """A viewer's process, the display it is on, and where on that display the guest's picture begins."""

    tolerance = 0

    def __init__(self, display, port, folder):
        self.display, self.port, self.folder = display, port, folder
        self.process = None
        self.left = self.top = 0
        self.log = open(os.path.join(display.dir, type(self).__name__ + ".log"), "wb")
        self.start()

    def start(self):
        """Starts it and waits for its window."""
        raise NotImplementedError

    def spawn(self, argv):
        """Starts its program."""
        self.process = subprocess.Popen(argv, env=self.display.env, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT, start_new_session=True)

    def place(self, screen, want):
        """Where the picture begins: by its middle row, of so many colours that it is found at most once."""
        y = want.height // 2
        at = screen.pixels.find(want.row(0, y, want.width))
        return (at // 4 % screen.width, at // 4 // screen.width - y) if at >= 0 else None

    def find(self, want, seconds=20):
        """Waits until the whole of that picture is on the display and keeps its place; how it is not, or ""."""
        end = time.monotonic() + seconds
        while True:
            size = xdisplay.WIDTH, xdisplay.HEIGHT
            screen = Picture(*size, self.display.rows(0, 0, *size))
            at = self.place(screen, want)
            said = "it is not there"
            if at:
                self.left, self.top = at
                shown = b"".join(screen.row(at[0], at[1] + y, want.width) for y in range(want.height))
                said = differences(Picture(want.width, want.height, shown), want, self.tolerance)
            if not said or time.monotonic() > end:
                return said
            time.sleep(0.5)

    def point(self, x, y):
        """The pointer to a pixel of the guest's picture."""
        self.display.do("mousemove", self.left + x, self.top + y)

    def click(self, button):
        """A mouse button."""
        self.display.do("click", button)

    def type(self, words_):
        """Keys, as words of xdotool."""
        send(self.display, words_)

    def close(self):
        """Ends its processes."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
        self.log.close()

    def said(self):
        """The end of what it wrote."""
        with open(self.log.name, encoding="utf-8", errors="replace") as f:
            return f.read()[-600:]


class TigerVNC(Viewer):
    """TigerVNC's viewer: sends which key it is where the server can take that."""

    def start(self):
        self.spawn(["xtigervncviewer", "-RemoteResize=0", "-AutoSelect=0", "-PreferredEncoding=ZRLE", "-FullColour=1",
                    "-AcceptClipboard=0", "-SendClipboard=0", "-SendPrimary=0", f"127.0.0.1::{self.port}"])
        self.display.window(".* - TigerVNC")


class TightVNC(Viewer):
    """TightVNC's old viewer: sends only what a key means."""

    def start(self):
        self.spawn(["xtightvncviewer", "-encodings", "hextile raw", "-nojpeg", f"127.0.0.1::{self.port}"])
        self.display.window("TightVNC: ")


class NoVNC(Viewer):
    """noVNC in Chromium, its files from a web server on this machine's own address. It always takes JPEG."""

    server = ws_port = None
    tolerance = TOLERANCE

    def place(self, screen, want):
        return (screen.width - want.width) // 2, (screen.height - want.height) // 2

    def start(self):
        class Quiet(http.server.SimpleHTTPRequestHandler):
            """Says nothing."""

            def log_message(self, *_):
                pass

        handler = functools.partial(Quiet, directory=os.path.join(self.folder, "novnc"))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        url = (f"http://127.0.0.1:{self.server.server_port}/vnc.html?host=127.0.0.1&port={self.ws_port or self.port}"
               "&path=&autoconnect=1&resize=off&quality=9&reconnect=0&show_dot=0")
        self.spawn(["chromium", "--no-sandbox", "--kiosk", "--disable-gpu", "--no-first-run", "--disable-sync",
                    "--disable-background-networking", "--disable-component-update", "--disable-extensions",
                    "--force-device-scale-factor=1", "--password-store=basic", "--user-data-dir=" +
                    os.path.join(self.display.dir, "chromium"), url])
        self.display.window(".* - noVNC")

    def close(self):
        super().close()
        if self.server:
            self.server.shutdown()
            self.server.server_close()
