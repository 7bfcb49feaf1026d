#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A small RFB client: screenshot as PNG, keys and pointer. Raw encoding and desktop size only.

usage: vncshot.py [--password P] [--type TEXT] [--key NAME]... [--pointer X,Y,BUTTONS] [--wait S] HOST:PORT [OUT.png]
"""

import argparse
import socket
import struct
import subprocess
import time
import zlib

KEYS = {"enter": 0xff0d, "esc": 0xff1b, "tab": 0xff09, "backspace": 0xff08, "up": 0xff52, "down": 0xff54,
        "left": 0xff51, "right": 0xff53, "shift": 0xffe1, "ctrl": 0xffe3, "alt": 0xffe9, "f1": 0xffbe, "f2": 0xffbf,
        "f3": 0xffc0, "f4": 0xffc1, "home": 0xff50, "end": 0xff57, "pageup": 0xff55, "pagedown": 0xff56,
        "insert": 0xff63, "delete": 0xffff}
PIXEL_FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)      # XRGB, little endian


def des_encrypt(key, data):
    """DES in ECB mode; OpenSSL still has it in its legacy provider."""
    return subprocess.run(["openssl", "enc", "-des-ecb", "-provider", "legacy", "-provider", "default", "-nopad",
                           "-K", key.hex()], input=data, stdout=subprocess.PIPE, check=True).stdout


def vga_font(rom):
    """The 8x16 font out of a VGA BIOS image's bytes: it is found by its first two characters."""
    first = bytes(16) + bytes.fromhex("00007e81a58181bd9981817e00000000")
    at = rom.find(first)
    if at < 0:
        raise ValueError("no 8x16 font in that ROM")
    return rom[at:at + 4096]


def write_png(path, width, height, rgb):
    """Writes 3 bytes for each pixel as PNG."""
    rows = b"".join(b"\0" + rgb[y * width * 3:(y + 1) * width * 3] for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
                + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b""))


class Rfb:
    """A connection. pixels: bytearray of width*height XRGB words, as last drawn."""

    def __init__(self, host="127.0.0.1", port=5900, password=None, timeout=10):
        self.sock = socket.create_connection((host, port), timeout)
        version = self._read(12)
        if not version.startswith(b"RFB "):
            raise ConnectionError(f"not an RFB server: {version!r}")
        self.sock.sendall(b"RFB 003.008\n")
        count = self._read(1)[0]
        if count == 0:
            raise ConnectionError(self._text())
        types = self._read(count)
        if password is None and 1 in types:
            self.sock.sendall(b"\1")
        elif password is not None and 2 in types:
            self.sock.sendall(b"\2")
            challenge = self._read(16)
            key = bytes(int(f"{b:08b}"[::-1], 2) for b in password.encode("latin-1")[:8].ljust(8, b"\0"))
            self.sock.sendall(des_encrypt(key, challenge))
        else:
            raise ConnectionError(f"no security type in common, the server has {list(types)}")
        if struct.unpack(">I", self._read(4))[0] != 0:
            raise ConnectionError("refused: " + self._text())
        self.sock.sendall(b"\1")
        self.width, self.height = struct.unpack(">HH16x", self._read(20))
        self.name = self._text()
        self.sock.sendall(b"\0\0\0\0" + PIXEL_FORMAT)
        encodings = (0, -223)
        self.sock.sendall(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))
        self.pixels = bytearray(self.width * self.height * 4)
        self.updates = 0

    def _read(self, n):
        data = bytearray()
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise ConnectionError("the server closed the connection")
            data += part
        return bytes(data)

    def _text(self):
        return self._read(struct.unpack(">I", self._read(4))[0]).decode("latin-1")

    def request(self, incremental):
        """Asks for an update of the whole screen."""
        self.sock.sendall(struct.pack(">BBHHHH", 3, int(incremental), 0, 0, self.width, self.height))

    def read_message(self):
        """Reads one server message; returns the rectangles of an update: list of (x, y, w, h)."""
        kind = self._read(1)[0]
        rects = []
        if kind == 0:
            for _ in range(struct.unpack(">xH", self._read(3))[0]):
                x, y, w, h, encoding = struct.unpack(">HHHHi", self._read(12))
                if encoding == -223:
                    self.width, self.height = w, h
                    self.pixels = bytearray(w * h * 4)
                    self.request(False)
                    continue
                if encoding != 0:
                    raise ConnectionError(f"encoding {encoding} was not asked for")
                data = self._read(w * h * 4)
                for row in range(h):
                    at = ((y + row) * self.width + x) * 4
                    self.pixels[at:at + w * 4] = data[row * w * 4:(row + 1) * w * 4]
                rects.append((x, y, w, h))
            self.updates += 1
        elif kind == 1:
            self._read(struct.unpack(">xHH", self._read(5))[1] * 6)
        elif kind == 3:
            self._read(3)
            self._text()
        elif kind != 2:
            raise ConnectionError(f"unknown message {kind}")
        return rects

    def snapshot(self):
        """Draws the whole screen once; the size may have changed in between. A big one comes as several updates."""
        self.request(False)
        missing = bytearray()
        while True:
            if len(missing) != self.width * self.height:
                missing = bytearray(b"\1" * (self.width * self.height))
            size = self.width, self.height
            rects = self.read_message()
            if size == (self.width, self.height):
                for x, y, w, h in rects:
                    for at in range(y * self.width + x, (y + h) * self.width + x, self.width):
                        missing[at:at + w] = bytes(w)
                if 1 not in missing:
                    return self

    def key(self, sym, down=None):
        """A key by name or character; pressed and released when down is None."""
        code = KEYS.get(sym, ord(sym) if len(sym) == 1 else None)
        if code is None:
            raise ValueError(f"unknown key {sym}")
        for state in ((1, 0) if down is None else (int(down),)):
            self.sock.sendall(struct.pack(">BBxxI", 4, state, code))

    def type(self, text, delay=0.12):
        """Types text; upper case needs shift held, which servers do not add. A slow guest loses faster typing."""
        for ch in text:
            upper = ch.isupper() or ch in '!"#$%&()*+:<>?@^_{|}~'
            if upper:
                self.key("shift", True)
            self.key("enter" if ch == "\n" else ch)
            if upper:
                self.key("shift", False)
            time.sleep(delay)

    def pointer(self, x, y, buttons=0):
        """Moves the pointer; buttons is a bit mask."""
        self.sock.sendall(struct.pack(">BBHH", 5, buttons, x, y))

    def colours(self):
        """Number of pixels by colour (0xRRGGBB)."""
        counts = {}
        words = memoryview(self.pixels).cast("I")
        for word in words:
            counts[word & 0xffffff] = counts.get(word & 0xffffff, 0) + 1
        return counts

    def text(self, font, cell=(9, 16), border=0, ink=None):
        """The screen's text, a list of lines: each cell becomes the character whose glyph is nearest to it.

        font: bytes, 16 per character (see vga_font). cell: (9, 16) in VGA text modes, (8, 16) on a Linux fbcon.
        border: pixels around the text; 8 in isolinux's graphical menu, beside and above it (2, 10) in GRUB's 1024x768.
        ink: grey level from which a pixel is part of a letter, where the ground is a picture; default: what is not
        as the cell's corner is.
        """
        glyphs = {font[c * 16:c * 16 + 16]: chr(c) for c in range(126, 31, -1)}
        known = {}
        lines = []
        words = memoryview(self.pixels).cast("I")
        across, above = border if isinstance(border, tuple) else (border, border)
        for top in range(above, self.height - above - cell[1] + 1, cell[1]):
            line = []
            for left in range(across, self.width - across - cell[0] + 1, cell[0]):
                rows = [words[(top + y) * self.width + left:(top + y) * self.width + left + 8].tolist() for y in range(16)]
                ground = rows[0][0]
                if ink is None:
                    rows = [[px != ground for px in row] for row in rows]
                else:
                    rows = [[min(px & 255, px >> 8 & 255, px >> 16 & 255) >= ink for px in row] for row in rows]
                bits = bytes(sum(px << (7 - i) for i, px in enumerate(row)) for row in rows)
                if bits not in known:
                    value = int.from_bytes(bits, "big")
                    best = min(glyphs, key=lambda g: (int.from_bytes(g, "big") ^ value).bit_count())
                    wrong = (int.from_bytes(best, "big") ^ value).bit_count()
                    known[bits] = glyphs[best] if wrong <= 20 else "?"
                line.append(known[bits])
            lines.append("".join(line).rstrip())
        return lines

    def png(self, path):
        """Writes what was drawn as PNG."""
        rgb = bytearray(self.width * self.height * 3)
        rgb[0::3], rgb[1::3], rgb[2::3] = self.pixels[2::4], self.pixels[1::4], self.pixels[0::4]
        write_png(path, self.width, self.height, rgb)

    def close(self):
        """Ends the connection."""
        self.sock.close()


def main():
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--password")
    p.add_argument("--type", default="", help="text to type first")
    p.add_argument("--key", action="append", default=[], help=f"key to press first: a character or {', '.join(KEYS)}")
    p.add_argument("--pointer", help="X,Y,BUTTONS")
    p.add_argument("--wait", type=float, default=0, help="seconds between input and picture")
    p.add_argument("server", help="HOST:PORT")
    p.add_argument("out", nargs="?", help="PNG file")
    a = p.parse_args()
    host, _, port = a.server.rpartition(":")
    rfb = Rfb(host or "127.0.0.1", int(port), a.password)
    for key in a.key:
        rfb.key(key)
    rfb.type(a.type)
    if a.pointer:
        rfb.pointer(*map(int, a.pointer.split(",")))
    time.sleep(a.wait)
    if a.out:
        rfb.snapshot().png(a.out)
        print(f"{rfb.width}x{rfb.height}, {len(rfb.colours())} colours")
    rfb.close()


if __name__ == "__main__":
    main()
