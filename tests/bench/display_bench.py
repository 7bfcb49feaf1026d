#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures the screen of hvm-dm beside the peer's, on the fake hypervisor, with a VNC client.

    tests/bench/display_bench.py [--dm PATH] [--peer PATH] [--rounds N] [--seconds S] [--only RE] [--json FILE]

A "guest" draws 60 times a second, a client (a process of its own) asks for the next update as soon as it has one, as
viewers do. CPU is the device model's; what the same drawing costs without a viewer is taken off where a row says "for the
viewer". Latency is from the client's key event to the update with the pixel that the guest drew when it had read the scan
code. Runs are interleaved; medians over the rounds.
"""
import argparse
import base64
import json
import multiprocessing
import os
import random
import re
import select
import statistics
import struct
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "board"))
import fakexen  # noqa: E402
import pcibus  # noqa: E402
import rfb  # noqa: E402
import test_uhci  # noqa: E402
import vga  # noqa: E402
from test_picture import load_font  # noqa: E402
from test_vbe import set_mode  # noqa: E402

VNC = "127.0.0.1:80,to=99"
RATE = 60
WIDTH, HEIGHT = 1024, 768
PITCH = 4 * WIDTH
PICTURES = 0x1000000  # in guest RAM: three whole pictures
WINDOW = (360, 240)
ZLIB_LEVEL = -254  # 2, as TigerVNC has it
# All of them take CopyRect, as viewers do.
ENCODINGS = {"Tight": (rfb.TIGHT, rfb.COPY_RECT, ZLIB_LEVEL, rfb.RAW), "Raw": (rfb.RAW, rfb.COPY_RECT)}


class Watcher(rfb.Rfb):
    """A client that counts what comes, but keeps no picture."""

    def __init__(self, port, encoding):
        super().__init__(port)
        kinds = ENCODINGS[encoding] + (rfb.DESKTOP_SIZE, rfb.LAST_RECT)
        self.sock.sendall(struct.pack(">BxH%di" % len(kinds), 2, len(kinds), *kinds))
        self.updates = self.pixels = self.bytes = 0

    def take(self, n):
        data = super().take(n)
        self.bytes = getattr(self, "bytes", 0) + n
        return data

    def tight(self, w, h):
        """Reads over one rectangle (RFB, Tight encoding, 24-bit pixels)."""
        control = self.take(1)[0] >> 4
        if control == 8:
            self.take(3)
            return
        kind = self.take(1)[0] if control & 4 else 0
        size = 3 * w * h
        if kind == 1:
            colours = self.take(1)[0] + 1
            self.take(3 * colours)
            size = (w + 7) // 8 * h if colours == 2 else w * h
        if control == 9 or size >= 12:
            size = shift = 0
            while True:
                b = self.take(1)[0]
                size |= (b & 0x7f if shift < 14 else b) << shift
                shift += 7
                if not b & 0x80 or shift > 14:
                    break
        self.take(size)

    def rectangles(self):
        for _ in range(struct.unpack(">xH", self.take(3))[0]):
            x, y, w, h, encoding = struct.unpack(">HHHHi", self.take(12))
            if encoding == rfb.LAST_RECT:
                break
            if encoding == rfb.DESKTOP_SIZE:
                self.width, self.height = w, h
                continue
            if encoding == rfb.TIGHT:
                self.tight(w, h)
            elif encoding == rfb.RAW:
                self.take(4 * w * h)
            elif encoding == rfb.COPY_RECT:
                self.take(4)
            else:
                raise ValueError("encoding %d" % encoding)
            self.pixels += w * h
        self.updates += 1


def watch(port, encoding, seconds, pipe):
    """The client's process: what came within that time of the word to begin."""
    c = Watcher(port, encoding)
    c.update()
    pipe.send("ready")
    pipe.recv()
    first = (c.updates, c.pixels, c.bytes)
    end = time.monotonic() + seconds
    request = struct.pack(">BBHHHH", 3, 1, 0, 0, c.width, c.height)
    c.sock.sendall(request)
    # While nothing changes the request stays open.
    while select.select([c.sock], [], [], max(0, end - time.monotonic()))[0]:
        c.message()
        c.sock.sendall(request)
    pipe.send((c.updates - first[0], c.pixels - first[1], c.bytes - first[2]))
    c.sock.close()


def usage(m):
    """The device model's CPU time in seconds, and its context switches."""
    cpu = switches = 0
    base = "/proc/%d/task" % m.dm_pid()
    for task in os.listdir(base):
        try:
            with open("%s/%s/schedstat" % (base, task), encoding="ascii") as f:
                cpu += int(f.read().split()[0]) / 1e9
            with open("%s/%s/status" % (base, task), encoding="ascii") as f:
                switches += sum(int(x.split()[1]) for x in f if "ctxt_switches" in x)
        except OSError:  # a thread that ended
            pass
    return cpu, switches


def private(m):
    """Private memory in MiB, without what is the guest's or the fake's."""
    total, ours = 0, True
    with open("/proc/%d/smaps" % m.dm_pid(), encoding="ascii", errors="replace") as f:
        for line in f:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                ours = "fakexen" not in line
            elif ours and line.startswith(("Private_Clean:", "Private_Dirty:")):
                total += int(line.split()[1])
    return total / 1024


# ---- what the guest draws ----

def text_screen(m):
    vga.set_mode(m, "text")
    vga.default_palette(m)
    load_font(m)
    m.values(vga.seq(3, 0) + vga.crtc(0x0a, 0x20) + ["inb 0x3da", "outb 0x3c0 0x20"])
    rng = random.Random(1)
    words = [b"the", b"kernel", b"0x1f7:", b"ok", b"device", b"[    1.234567]", b"usb", b"irq", b"memory", b"of"]
    lines = []
    for _ in range(100):
        line = b" ".join(rng.choice(words) for _ in range(rng.randrange(3, 14)))[:80].ljust(80)
        lines.append(b"".join(bytes((c, 7)) for c in line))
    m.write(PICTURES, b"".join(lines))
    return lambda n: ["xen movs 4 w 0xb8000 %#x 1000" % (PICTURES + 160 * (n % 75))]


def linear_screen(m):
    """Puts three pictures with text, areas and a gradient into guest memory; returns the frame buffer."""
    lfb = pcibus.find(pcibus.assign(m), 3, 0)[0]
    vga.set_mode(m, "text")
    set_mode(m, WIDTH, HEIGHT, 32)
    rng = random.Random(2)
    for k in range(3):
        rows = []
        for y in range(HEIGHT):
            if y % 64 < 32:  # something like text
                rows.append(b"".join(rng.choice((b"\xf0\xf0\xf0\0", b"\x20\x20\x20\0")) for _ in range(WIDTH)))
            elif y % 64 < 48:
                rows.append(struct.pack("<I", 0x204060 * (k + 1) + y) * WIDTH)
            else:
                rows.append(b"".join(struct.pack("<I", (x >> 2) << 16 | y & 0xff | k << 12) for x in range(WIDTH)))
        picture = b"".join(rows)
        for at in range(0, len(picture), 0x30000):
            m.cmd("b64write %#x %d %s" % (PICTURES + 0x400000 * k + at, len(picture[at:at + 0x30000]),
                                          base64.b64encode(picture[at:at + 0x30000]).decode()))
    m.cmd("xen copy %#x %#x %d" % (lfb, PICTURES, PITCH * HEIGHT))
    return lfb


def redraw(m):
    # Three pictures: of two in turn, drawn about twice as often as anybody looks, the same would be seen again and again.
    lfb = linear_screen(m)
    return lambda n: ["xen copy %#x %#x %d" % (lfb, PICTURES + 0x400000 * (n % 3), PITCH * HEIGHT)]


def console(m):
    """Lines of text 16 pixels high in a linear picture, as a guest's frame buffer console has them: it draws all anew."""
    lfb = linear_screen(m)
    rng = random.Random(5)
    glyphs = [[bytes(rng.choice((0, 0, 170)) for _ in range(8)) for _ in range(16)] for _ in range(64)]
    rows = []
    for _ in range(100):
        line = [rng.choice(glyphs) if k % 7 else None for k in range(rng.randrange(20, 128))]
        for y in range(16):
            grey = b"".join(g[y] if g and 2 < y < 14 else bytes(8) for g in line).ljust(WIDTH, b"\0")
            row = bytearray(PITCH)
            for k in range(3):
                row[k::4] = grey
            rows.append(bytes(row))
    text = b"".join(rows)
    for at in range(0, len(text), 0x30000):
        m.cmd("b64write %#x %d %s" % (PICTURES + at, len(text[at:at + 0x30000]), base64.b64encode(text[at:at + 0x30000]).decode()))
    return lambda n: ["xen copy %#x %#x %d" % (lfb, PICTURES + 16 * PITCH * (n % 50), PITCH * HEIGHT)]


def moving_window(m):
    lfb = linear_screen(m)
    w, h = WINDOW

    def place(n):
        return 100 + n * 7 % 500, 50 + n * 5 % 400

    def part(x, y, source):
        at = y * PITCH + 4 * x
        return "xen copy %#x %#x %d %d %d %d" % (lfb + at, source + at, 4 * w, h, PITCH, PITCH)

    def draw(n):
        x, y = place(n)
        return [part(*place(n - 1), PICTURES),
                "xen copy %#x %#x %d %d %d %d" % (lfb + y * PITCH + 4 * x, PICTURES + 0x400000, 4 * w, h, PITCH, PITCH)]
    return draw


SCENES = {"text scroll, 80x25": text_screen, "console scroll, 1024x768x32": console, "redraw, 1024x768x32": redraw, "moving window, 360x240": moving_window}


def draw_for(m, draw, seconds):
    """Draws at RATE; returns how often."""
    start, n = time.monotonic(), 0
    while True:
        now = time.monotonic() - start
        if now >= seconds:
            return n
        if n > now * RATE:
            time.sleep(n / RATE - now)
        m.batch(draw(n))
        n += 1


def machine(dm, **kw):
    kw.setdefault("vga", "stdvga")
    return fakexen.Machine(dm=dm, vnc=VNC, mem=64, **kw)


def scene(dm, name, encodings, seconds, out):
    with machine(dm) as m:
        port = rfb.port_of(m)
        draw = SCENES[name](m)
        draw_for(m, draw, 0.2)
        before = usage(m)
        draw_for(m, draw, seconds)
        alone = (usage(m)[0] - before[0]) / seconds
        out["%s: CPU without a viewer, %%" % name] = 100 * alone
        for encoding in encodings:
            label = "%s, %s: " % (name, encoding)
            mine, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=watch, args=(port, encoding, seconds, theirs))
            process.start()
            theirs.close()
            if mine.recv() != "ready":
                raise SystemExit("the client failed")
            draw_for(m, draw, 0.3)
            before = usage(m)
            mine.send("begin")
            draw_for(m, draw, seconds)
            cpu = (usage(m)[0] - before[0]) / seconds
            updates, pixels, size = mine.recv()
            process.join()
            if not updates:
                raise SystemExit("%sno update came" % label)
            out[label + "pictures per second"] = updates / seconds
            out[label + "CPU, %"] = 100 * cpu
            out[label + "CPU for the viewer, ns per updated pixel"] = 1e9 * (cpu - alone) * seconds / max(pixels, 1)
            out[label + "CPU for the viewer, ms per picture"] = 1e3 * (cpu - alone) * seconds / updates
            out[label + "MB/s sent"] = size / seconds / 1e6


# ---- latency ----

def type_keys(m, port, lfb, count):
    """Milliseconds from key event to pixel, for each key."""
    guest = m.client()
    m.batch(["outb 0x64 0x60", "outb 0x60 0x41", "outb 0x60 0xf4", "clock_step 20000000", "inb 0x60"])
    stop = threading.Event()

    def answer():
        n = 0
        while not stop.is_set():
            if not guest.raw("xen wait_isa 1 1 200").startswith("OK"):
                continue
            if guest.inb(0x60) & 0x80 == 0:
                n += 1
                guest.cmd("xen copy %#x %#x 64 16 %d 0" % (lfb + 40 * PITCH + 400, PICTURES + 0x800000 + 64 * (n & 1), PITCH))

    m.write(PICTURES + 0x800000, struct.pack("<I", 0x00ff10) * 16 + struct.pack("<I", 0xff0020) * 16)
    client = rfb.Rfb(port)
    client.encodings(rfb.EXTENDED_KEY)
    client.update()
    thread = threading.Thread(target=answer)
    thread.start()
    rng, values = random.Random(3), []
    at = 4 * (40 * WIDTH + 100)
    try:
        for n in range(1, count + 1):
            want = (0x00ff10, 0xff0020)[n & 1]
            time.sleep(0.08 + 0.15 * rng.random())
            start = time.monotonic()
            client.raw_key(0x1e, 1, 0x61)
            while struct.unpack_from("<I", client.picture, at)[0] & 0xffffff != want:
                client.update(incremental=True)
                if time.monotonic() - start > 5:
                    raise SystemExit("no pixel came for key %d" % n)
            values.append(1000 * (time.monotonic() - start))
            client.raw_key(0x1e, 0, 0x61)
    finally:
        stop.set()
        thread.join()
        client.close()
        guest.close()
    return values


def latency(dm, count, out):
    with machine(dm) as m:
        lfb = linear_screen(m)
        values = sorted(type_keys(m, rfb.port_of(m), lfb, count))
        out["key to pixel, ms, median"] = statistics.median(values)
        out["key to pixel, ms, 9 of 10 within"] = values[len(values) * 9 // 10]


# ---- idle ----

def rest(m, out, name, seconds):
    time.sleep(2.5)
    before = usage(m)
    time.sleep(seconds)
    after = usage(m)
    out["%s: CPU, %%" % name] = 100 * (after[0] - before[0]) / seconds
    out["%s: wake-ups per second" % name] = (after[1] - before[1]) / seconds


def idle(dm, seconds, out):
    with machine(dm) as m:
        port = rfb.port_of(m)
        linear_screen(m)
        rest(m, out, "nobody looks", seconds)
        alone = private(m)
        out["private memory, MiB: nobody looks, 1024x768"] = alone
        client = rfb.Rfb(port)
        client.update()
        client.sock.sendall(struct.pack(">BBHHHH", 3, 1, 0, 0, client.width, client.height))
        rest(m, out, "viewer, nothing changes", seconds)
        out["private memory, MiB: more with a viewer"] = private(m) - alone
        client.close()
    with machine(dm) as m:
        text_screen(m)
        m.values(vga.crtc(0x0a, 0x0d) + vga.crtc(0x0f, 80))
        mine, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=watch, args=(rfb.port_of(m), "Tight", seconds + 3, theirs))
        process.start()
        theirs.close()
        mine.recv()
        mine.send("begin")
        rest(m, out, "viewer, text with a blinking cursor", seconds)
        mine.recv()
        process.join()
    with machine(dm, extra=("-usb", "-usbdevice", "tablet")) as m:
        c = test_uhci.Controller(m)
        c.start()
        c.enable()
        c.control(0, 0, 5, 7)
        c.control(7, 0, 9, 1)
        c.control(7, 0x21, 10)  # a report only when something moved, as Linux asks
        c.poll(7)
        rest(m, out, "tablet polled, nobody looks", seconds)


def measure(dm, args, only):
    out = {}
    for name in SCENES:
        if only.search(name):
            scene(dm, name, ENCODINGS, args.seconds, out)
    if only.search("latency"):
        latency(dm, args.keys, out)
    if only.search("idle"):
        idle(dm, args.seconds, out)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dm", default=fakexen.HVM_DM)
    p.add_argument("--peer", default=fakexen.PEER)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=2, help="for each measurement")
    p.add_argument("--keys", type=int, default=40)
    p.add_argument("--only", default="", help="scenes, 'latency', 'idle' that match")
    p.add_argument("--kinds", default="hvm-dm,peer")
    p.add_argument("--json", help="write all values there")
    args = p.parse_args()
    only = re.compile(args.only)
    subprocess.run(["make", "-s", "-C", TOP, "-f", "tests/fakexen/fakexen.mk"], check=True, stdout=sys.stderr)
    kinds = {k: {"hvm-dm": args.dm, "peer": args.peer}[k] for k in args.kinds.split(",")}
    values = {kind: {} for kind in kinds}
    for n in range(args.rounds):
        for kind, dm in kinds.items():
            print("round %d of %d: %s" % (n + 1, args.rounds, kind), file=sys.stderr)
            for row, value in measure(fakexen.resolve_dm(dm), args, only).items():
                values[kind].setdefault(row, []).append(value)
    median = {kind: {row: statistics.median(v) for row, v in of.items()} for kind, of in values.items()}
    print("| screen on fake Xen, median of %d rounds | %s | ratio |" % (args.rounds, " | ".join(kinds)))
    print("|---|" + "---|" * (len(kinds) + 1))
    for row in median[list(kinds)[0]]:
        cells = [median[k][row] for k in kinds]
        ratio = "%.2f" % (cells[0] / cells[1]) if len(cells) == 2 and cells[1] else ""
        print("| %s | %s | %s |" % (row, " | ".join("%.2f" % c if c < 10 else "%.1f" % c for c in cells), ratio))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"rounds": args.rounds, "median": median, "values": values}, f, indent=1)


if __name__ == "__main__":
    main()
