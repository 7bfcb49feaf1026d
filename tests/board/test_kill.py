# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 at random moments under load: what the guest was told is on the disk is in the image.

The guest writes by DMA, flushes now and then, discards, turns its write cache off and on. The process dies at
some moment; every sector must then hold what it held at the last acknowledged flush, or something
written since. The next round goes on with the same image. KILL_MOMENTS (default 200, over all formats) says how often.
"""
import os
import random
import shutil
import struct
import subprocess
import tempfile
import threading

import fakexen
import pcibus
from harness import Skip
from ide import BUFFER, Drive

MIB = 1 << 20
SECTORS = 16 * MIB // 512
SOURCES = MIB // 512  # different sectors that the guest has to write
TRIM_LIST = 0x90000
ZERO = bytes(512)
MOMENTS = int(os.environ.get("KILL_MOMENTS", "200"))
SHARE = {"raw": 0.3, "qcow2": 0.7}


def source(i):
    return b"source %4d " % i + bytes((i * 7 + k * (1 + i % 5)) & 0xff for k in range(500))


class Model:
    """For each sector, what it may hold: [durable value or values] and what was written since."""

    def __init__(self):
        self.durable = [{ZERO}] * SECTORS
        self.since = {}

    def wrote(self, lba, values):
        """A write that was started."""
        for i, v in enumerate(values):
            self.since.setdefault(lba + i, []).append(v)

    def completed(self, lba, values):
        """A completed write through the cache: its values are durable."""
        for i, v in enumerate(values):
            self.durable[lba + i] = {v}
            self.since.pop(lba + i, None)

    def flushed(self):
        """Acknowledged, and no write was under way."""
        for lba, values in self.since.items():
            last = values[-1]
            # A discard is advice: what was there before may stay.
            self.durable[lba] = (self.durable[lba] | set(values)) if last is ZERO else {last}
        self.since = {}

    def check(self, content):
        """Errors of an image after a crash; from now on what it holds is what counts."""
        bad = []
        for lba in range(SECTORS):
            v = content[lba * 512:lba * 512 + 512]
            if v not in self.durable[lba] and v not in self.since.get(lba, ()):
                bad.append("sector %d holds %r, not %s" % (lba, v[:12], sorted(
                    x[:12] for x in self.durable[lba])[:3]))
            self.durable[lba] = {v}
        self.since = {}
        return bad


class Guest:
    def __init__(self, m, model, rng):
        self.m, self.model, self.rng = m, model, rng
        self.d = Drive(m, bm=pcibus.find(pcibus.assign(m), 1, 4)[0])
        self.cache = True
        self.acknowledged = 0
        for at in range(0, SOURCES, 128):
            m.write(BUFFER + at * 512, b"".join(SOURCE[at:at + 128]))

    def write(self):
        n = self.rng.choice((1, 8, 8, 8, 16, 64, 127, 256, 1024))
        lba = self.rng.randrange(SECTORS - n)
        src = self.rng.randrange(SOURCES - n)
        if self.rng.random() < 0.7:
            lba, src = lba & ~7, src & ~7
        values = SOURCE[src:src + n]
        addr, left, pieces = BUFFER + src * 512, n * 512, []
        while left > 0:  # a piece may not cross 64 KiB
            size = min(left, 65536 - addr % 65536)
            pieces.append((addr, size))
            addr, left = addr + size, left - size
        self.model.wrote(lba, values)
        _, status, _ = self.d.dma(0x35, pieces, False, count=n, lba=lba, lba48=True)
        if status & 0xa9:
            raise AssertionError("write failed, status %#x" % status)
        if not self.cache:
            self.model.completed(lba, values)
            self.acknowledged += 1

    def command(self, command, **kw):
        self.d.issue(command, **kw)
        if self.d.wait() & 0xa9:
            raise AssertionError("command %#x failed" % command)

    def flush(self):
        self.command(self.rng.choice((0xe7, 0xea)))
        self.model.flushed()
        self.acknowledged += 1

    def trim(self):
        n = self.rng.choice((8, 128, 2048))
        lba = self.rng.randrange(SECTORS - n) & ~7
        self.m.write(TRIM_LIST, struct.pack("<Q", lba | n << 48) + bytes(504))
        self.model.wrote(lba, [ZERO] * n)
        _, status, _ = self.d.dma(0x06, [(TRIM_LIST, 512)], False, features=1, count=1, lba48=True)
        if status & 0xa9:
            raise AssertionError("TRIM failed, status %#x" % status)

    def toggle_cache(self):
        self.command(0xef, features=0x82 if self.cache else 0x02)
        if self.cache:
            self.model.flushed()  # turning it off writes it out
        self.cache = not self.cache

    def run(self, commands, more_s):
        """Carries out so many commands and goes on; the process dies more_s seconds later."""
        timer = threading.Timer(more_s, os.kill, (self.m.dm_pid(), 9))
        try:
            while True:
                if commands == 0:
                    timer.start()
                commands -= 1
                x = self.rng.random()
                (self.write if x < 0.75 else self.flush if x < 0.92 else
                 self.trim if x < 0.97 else self.toggle_cache)()
        except fakexen.QtestError:
            if timer.ident is not None:
                timer.join()


SOURCE = [source(i) for i in range(SOURCES)]


def content(path, fmt, folder):
    if fmt == "raw":
        with open(path, "rb") as f:
            return f.read()
    flat = os.path.join(folder, "flat")
    subprocess.run(["qemu-img", "convert", "-f", fmt, "-O", "raw", path, flat], check=True)
    with open(flat, "rb") as f:
        return f.read()


def check_image(t, path, fmt, moment):
    """qemu-img check: leaked clusters are allowed after a crash, errors are not."""
    if fmt == "raw":
        return
    p = subprocess.run(["qemu-img", "check", "-f", fmt, path], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    t.check(p.returncode in (0, 3), "qemu-img check after moment %d: %s" % (moment, p.stdout[-500:]))


def make(path, fmt):
    if fmt == "raw":
        with open(path, "wb") as f:
            f.truncate(SECTORS * 512)
    else:
        subprocess.run(["qemu-img", "create", "-q", "-f", fmt, path, str(SECTORS * 512)], check=True)


def kill(t, fmt, seed):
    rng = random.Random(seed)
    model, moments, acknowledged = Model(), max(1, round(MOMENTS * SHARE[fmt])), 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "disk." + fmt)
        make(path, fmt)
        drive = ["-drive", "file=%s,if=ide,index=0,media=disk,format=%s,cache=writeback" % (path, fmt)]
        for moment in range(moments):
            try:
                m = t.machine(mem=32, vga=None, extra=drive)
            except fakexen.StartError as e:
                if moment == 0 and "is not supported" in e.text:
                    raise Skip("format %s is not there yet" % fmt) from None
                raise
            with m:
                guest = Guest(m, model, rng)
                guest.run(rng.randrange(1, 30), rng.uniform(0, 0.01))
                t.equal(m.wait_exit(5), "killed by signal 9", "moment %d, log: %s" % (moment, m.log()))
                acknowledged += guest.acknowledged
            check_image(t, path, fmt, moment)
            bad = model.check(content(path, fmt, folder))
            t.check(not bad, "moment %d: %d sectors are wrong: %s" % (moment, len(bad), "; ".join(bad[:4])))
    t.notes.append("%d moments, %d acknowledgements" % (moments, acknowledged))
    t.check(acknowledged > moments, "only %d acknowledgements in %d moments" % (acknowledged, moments))


def test_kill_raw(t):
    kill(t, "raw", 1)


def test_kill_qcow2(t):
    if not shutil.which("qemu-img"):
        raise Skip("no qemu-img")
    kill(t, "qcow2", 2)
