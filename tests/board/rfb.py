# SPDX-License-Identifier: GPL-2.0-or-later
"""A small VNC client (RFC 6143; Tight of the community specification, without JPEG): pictures as bytes, key and
pointer events; plain or through WebSocket (RFC 6455)."""
import base64
import hashlib
import os
import select
import socket
import struct
import time
import zlib

RAW, COPY_RECT, TIGHT, DESKTOP_SIZE, LAST_RECT = 0, 1, 7, -223, -224
MOTION_CHANGE, EXTENDED_KEY, LED_STATE, VMWARE_LED_STATE = -257, -258, -261, 0x574d5668


class WebSocket:
    """What Rfb needs of a socket and its file, in binary messages. `piece`: most bytes of a frame sent."""
    GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

    def __init__(self, port, host="127.0.0.1", piece=None, headers=(), protocol="binary"):
        self.sock = socket.create_connection((host, port), 10)
        self.sock.settimeout(10)
        self.file = self.sock.makefile("rb")
        self.piece = piece
        self.data = b""
        self.pongs = []
        self.closed = None  # code of the server's close frame
        key = base64.b64encode(os.urandom(16))
        lines = ["GET / HTTP/1.1", "Host: %s:%d" % (host, port), "Connection: keep-alive, Upgrade",
                 "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + key.decode(),
                 *headers]
        if protocol:
            lines.append("Sec-WebSocket-Protocol: " + protocol)
        self.sock.sendall("\r\n".join(lines + ["", ""]).encode())
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        for line in iter(self.file.readline, b""):
            if line == b"\r\n":
                break
            name, value = line.decode().split(":", 1)
            self.headers[name.lower()] = value.strip()
        if self.status == 101:
            accept = base64.b64encode(hashlib.sha1(key + self.GUID).digest()).decode()
            if self.headers.get("sec-websocket-accept") != accept:
                raise ValueError("accept header %r, expected %s" % (self.headers, accept))

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)

    def close(self):
        self.file.close()
        self.sock.close()

    def frame(self, opcode, data, final=True):
        mask = os.urandom(4)
        size = (struct.pack(">B", 128 | len(data)) if len(data) < 126 else
                struct.pack(">BH", 254, len(data)) if len(data) < 65536 else struct.pack(">BQ", 255, len(data)))
        body = bytes(b ^ mask[i & 3] for i, b in enumerate(data))
        self.sock.sendall(bytes([final << 7 | opcode]) + size + mask + body)

    def sendall(self, data):
        """One message, in frames of `piece` bytes with a ping between them."""
        step = self.piece or max(1, len(data))
        for at in range(0, len(data), step):
            self.frame(2 if at == 0 else 0, data[at:at + step], at + step >= len(data))
            if self.piece:
                self.frame(9, b"ping %d" % at)

    def read_frame(self):
        """The next frame's opcode, its payload kept where it belongs; None at the end."""
        head = self.file.read(2)
        if len(head) < 2:
            return None
        if head[0] & 0x70 or head[1] & 0x80:
            raise ValueError("frame begins %s" % head.hex())
        length = head[1]
        if length >= 126:
            length = int.from_bytes(self.file.read(2 if length == 126 else 8), "big")
        data = self.file.read(length)
        opcode = head[0] & 15
        if opcode == 8:
            self.closed = struct.unpack(">H", data[:2])[0]
        elif opcode == 10:
            self.pongs.append(data)
        elif opcode in (0, 2):
            self.data += data
        else:
            raise ValueError("frame of kind %d" % opcode)
        return opcode

    def read(self, n):
        while len(self.data) < n and self.read_frame() is not None:
            pass
        data, self.data = self.data[:n], self.data[n:]
        return data


class Rfb:
    """Connects without authentication and asks for 32-bit pixels in memory order B, G, R, x. ws: through
    this WebSocket."""

    def __init__(self, port, host="127.0.0.1", ws=None):
        self.sock = ws or socket.create_connection((host, port), 10)
        self.sock.settimeout(10)
        self.file = ws or self.sock.makefile("rb")
        version = self.take(12)
        if not version.startswith(b"RFB 003."):
            raise ValueError("greeting %r" % version)
        self.sock.sendall(b"RFB 003.008\n")
        kinds = self.take(self.take(1)[0])
        if 1 not in kinds:
            raise ValueError("security types %r" % kinds)
        self.sock.sendall(b"\1")
        if self.take(4) != bytes(4):
            raise ValueError("refused")
        self.sock.sendall(b"\1")
        self.width, self.height = struct.unpack(">HH", self.take(4))
        self.take(16)
        self.name = self.take(struct.unpack(">I", self.take(4))[0])
        self.sock.sendall(struct.pack(">Bxxx BBBB HHH BBB xxx", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        self.encodings()
        self.told = {}  # what pseudo-encodings said: encoding -> value
        self.zlib = {}  # Tight's streams
        self.copied = 0  # pixels that came by CopyRect
        self.picture = bytearray(4 * self.width * self.height)

    def close(self):
        self.file.close()
        self.sock.close()

    def encodings(self, *more, first=()):
        """first: those that are liked better than Raw."""
        kinds = (*first, RAW, DESKTOP_SIZE, LAST_RECT) + more
        self.sock.sendall(struct.pack(">BxH%di" % len(kinds), 2, len(kinds), *kinds))

    def take(self, n):
        data = self.file.read(n)
        if len(data) != n:
            raise EOFError("VNC server closed the connection")
        return data

    def resize(self, w, h):
        self.width, self.height = w, h
        self.picture = bytearray(4 * w * h)

    def update(self, incremental=False):
        """Asks for the picture and handles messages up to its update; True if the size changed."""
        self.sock.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))
        return self.message()

    def message(self):
        """Handles messages up to the next update; True if the size changed."""
        while True:
            kind = self.take(1)[0]
            if kind == 0:
                return self.rectangles()
            if kind == 1:  # colour map: not used with true colour
                self.take(6 * struct.unpack(">xHH", self.take(5))[1])
            elif kind == 3:
                self.take(struct.unpack(">xxxI", self.take(7))[0])
            elif kind != 2:
                raise ValueError("message %d" % kind)

    def put_rows(self, x, y, w, rows):
        for row, data in enumerate(rows):
            at = 4 * ((y + row) * self.width + x)
            self.picture[at:at + 4 * w] = data

    def copy_rect(self, x, y, w, h):
        from_x, from_y = struct.unpack(">HH", self.take(4))
        rows = []
        for row in range(h):
            at = 4 * ((from_y + row) * self.width + from_x)
            rows.append(bytes(self.picture[at:at + 4 * w]))
        self.put_rows(x, y, w, rows)
        self.copied += w * h

    def tight_data(self, control, size):
        if size < 12:
            return self.take(size)
        length = shift = 0
        while True:
            b = self.take(1)[0]
            length |= (b & 0x7f if shift < 14 else b) << shift
            shift += 7
            if not b & 0x80 or shift > 14:
                break
        stream = self.zlib.setdefault(control >> 4 & 3, zlib.decompressobj())
        data = stream.decompress(self.take(length))
        if len(data) != size:
            raise ValueError("%d bytes unpacked, expected %d" % (len(data), size))
        return data

    def tight_rect(self, x, y, w, h):
        """24-bit colours: each is R, G, B."""
        def colour():
            r, g, b = self.take(3)
            return bytes((b, g, r, 0))

        control = self.take(1)[0]
        for n in range(4):
            if control >> n & 1:
                self.zlib.pop(n, None)
        if control >> 4 == 8:
            self.put_rows(x, y, w, [colour() * w] * h)
            return
        kind = self.take(1)[0] if control & 0x40 else 0
        if control & 0x80 or kind > 1:
            raise ValueError("Tight control %#x, filter %d" % (control, kind))
        if kind == 0:
            data = self.tight_data(control, 3 * w * h)
            pixels = bytearray(4 * w * h)
            for k in range(3):
                pixels[k::4] = data[2 - k::3]
        else:
            colours = [colour() for _ in range(self.take(1)[0] + 1)]
            if len(colours) == 2:
                eight = [b"".join(colours[b >> (7 - i) & 1] for i in range(8)) for b in range(256)]
                row = (w + 7) // 8
                data = self.tight_data(control, row * h)
                pixels = b"".join(b"".join(eight[b] for b in data[row * k:row * k + row])[:4 * w] for k in range(h))
            else:
                pixels = b"".join(colours[b] for b in self.tight_data(control, w * h))
        self.put_rows(x, y, w, [pixels[4 * w * row:4 * w * (row + 1)] for row in range(h)])

    def rectangles(self):
        resized = False
        for _ in range(struct.unpack(">xH", self.take(3))[0]):
            x, y, w, h, encoding = struct.unpack(">HHHHi", self.take(12))
            if encoding == DESKTOP_SIZE:
                self.resize(w, h)
                resized = True
            elif encoding == LAST_RECT:
                break
            elif encoding == MOTION_CHANGE:
                self.told[encoding] = "absolute" if x else "relative"
            elif encoding == EXTENDED_KEY:
                self.told[encoding] = True
            elif encoding == LED_STATE:
                self.told[encoding] = self.take(1)[0] & 7
            elif encoding == VMWARE_LED_STATE:
                self.told[encoding] = struct.unpack(">I", self.take(4))[0] & 7
            elif encoding == RAW:
                data = self.take(4 * w * h)
                self.put_rows(x, y, w, [data[4 * w * row:4 * w * (row + 1)] for row in range(h)])
            elif encoding == COPY_RECT:
                self.copy_rect(x, y, w, h)
            elif encoding == TIGHT:
                self.tight_rect(x, y, w, h)
            else:
                raise ValueError("encoding %d" % encoding)
        return resized

    def settled(self, seconds=5, still=0.25):
        """(width, height, pixels) once the picture has not changed for a while."""
        deadline = time.monotonic() + seconds
        last, since = None, 0
        while time.monotonic() < deadline:
            self.update()
            now = (self.width, self.height, bytes(self.picture))
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > still:
                break
            time.sleep(0.05)
        return last

    def follow(self, seconds, still=0.5):
        """Takes changes as they come, for that time at least and until none came for a while."""
        request = struct.pack(">BBHHHH", 3, 1, 0, 0, self.width, self.height)
        self.sock.sendall(request)
        end = last = time.monotonic()
        end += seconds
        while time.monotonic() < max(end, last + still):
            if select.select([self.sock], [], [], 0.05)[0]:
                self.message()
                self.sock.sendall(request)
                last = time.monotonic()

    def await_told(self, encoding, value=None, seconds=5):
        """What the server says by that pseudo-encoding: waits until it is the value, or something."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (
                encoding not in self.told or value not in (None, self.told[encoding])):
            self.sock.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                self.message()
            except OSError:
                break
        self.sock.settimeout(10)
        return self.told.get(encoding)

    def raw_key(self, code, down, keysym=0):
        """QEMU extended key event."""
        self.sock.sendall(struct.pack(">BBHII", 255, 0, down, keysym, code))

    def key(self, keysym, down):
        self.sock.sendall(struct.pack(">BBxxI", 4, down, keysym))

    def pointer(self, x, y, buttons):
        self.sock.sendall(struct.pack(">BBHH", 5, buttons, x, y))


def differs(a, b, tolerance=7):
    """Compares two pictures; text that says how they differ, or None. A colour may be off by the low
    bits that widening five or six bits to eight invents."""
    if a[:2] != b[:2]:
        return "size %dx%d and %dx%d" % (a[0], a[1], b[0], b[1])
    if a[2] == b[2]:
        return None
    bad = [i for i in range(0, len(a[2]), 4)
           if a[2][i:i + 3] != b[2][i:i + 3] and
           any(abs(p - q) > tolerance for p, q in zip(a[2][i:i + 3], b[2][i:i + 3]))]
    if not bad:
        return None
    x, y = bad[0] // 4 % a[0], bad[0] // 4 // a[0]
    return "%d of %d pixels, first at %d,%d: %s and %s" % (
        len(bad), a[0] * a[1], x, y, a[2][bad[0]:bad[0] + 3].hex(), b[2][bad[0]:bad[0] + 3].hex())


def port_of(m):
    """The port that the device model's VNC server took."""
    q = m.qmp()
    port = int(q.command("query-vnc")["return"]["service"])
    q.close()
    return port
