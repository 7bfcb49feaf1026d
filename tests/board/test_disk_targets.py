# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that are not raw local files, as the guest sees them: VHD images, network targets."""
import os
import subprocess
import tempfile
import time

import pcibus
from ide import BUFFER, PRIMARY, Drive

READ, WRITE, READ_DMA, WRITE_DMA, FLUSH = 0x20, 0x30, 0xc8, 0xca, 0xe7
SIZE = 8 << 20


def block(seed, size):
    return bytes((i * 7 + seed + (i >> 9)) & 0xff for i in range(size))


class Server:
    """nbdkit on a Unix socket, whose path has a comma in it."""

    def __init__(self, folder, *args):
        self.socket = os.path.join(folder, "nbd,socket")
        self.proc = subprocess.Popen(["nbdkit", "-f", "-U", self.socket, *args],
                                     stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not os.path.exists(self.socket) and time.monotonic() < deadline:
            time.sleep(0.01)

    def close(self):
        self.proc.kill()
        self.proc.wait()


def use_disk(t, target, fmt):
    """PIO and DMA in both directions, flush, stop. Returns {sector: data} as it has to be."""
    drive = "file=%s,if=ide,index=0,media=disk,format=%s,cache=writeback" % (
        target.replace(",", ",,"), fmt)
    with t.machine(extra=["-drive", drive]) as m:
        placed = pcibus.assign(m)
        d = Drive(m, PRIMARY, 0, pcibus.find(placed, 1, 4)[0])
        data, _ = d.pio_in(READ, 2, lba=100)
        t.equal(data, block(1, 1024), "by PIO")
        size = 32768
        _, status, _ = d.dma(READ_DMA, [(BUFFER, size)], True, lba=100, count=size // 512)
        t.equal(status & 0x89, 0, "status of DMA read")
        t.equal(m.read(BUFFER, size), block(1, size), "by DMA")
        t.equal(d.pio_out(WRITE, block(2, 1024), lba=9000) & 0x89, 0, "status of PIO write")
        m.write(BUFFER, block(3, size))
        _, status, _ = d.dma(WRITE_DMA, [(BUFFER, 4096), (BUFFER + 4096, size - 4096)], False,
                             lba=5000, count=size // 512)
        t.equal(status & 0x89, 0, "status of DMA write")
        d.issue(FLUSH)
        t.equal(d.wait() & 0x89, 0, "status of flush")
        data, _ = d.pio_in(READ, 2, lba=9000)
        t.equal(data, block(2, 1024), "read back")
        m.cmd("xen kill 1")
        t.equal(m.wait_exit(10), "exited 0")
    return {100: block(1, size), 9000: block(2, 1024), 5000: block(3, size)}


def check_raw(t, path, want):
    with open(path, "rb") as f:
        for sector, data in want.items():
            f.seek(sector * 512)
            t.equal(f.read(len(data)), data, "sector %d" % sector)


def fill_raw(path):
    with open(path, "wb") as f:
        f.truncate(SIZE)
        f.seek(100 * 512)
        f.write(block(1, 32768))


def vhd(t, subformat):
    with tempfile.TemporaryDirectory() as folder:
        raw, image = os.path.join(folder, "raw"), os.path.join(folder, "disk.vhd")
        fill_raw(raw)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o",
                        "subformat=%s,force_size=on" % subformat, raw, image], check=True)
        want = use_disk(t, image, "vpc")
        subprocess.run(["qemu-img", "convert", "-f", "vpc", "-O", "raw", image, raw], check=True)
        check_raw(t, raw, want)


def test_vhd_dynamic(t):
    vhd(t, "dynamic")


def test_vhd_fixed(t):
    vhd(t, "fixed")


def test_nbd(t):
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "exports"))
        raw = os.path.join(folder, "exports", "disk 1")
        fill_raw(raw)
        server = Server(folder, "file", "dir=" + os.path.join(folder, "exports"))
        try:
            want = use_disk(t, "nbd:unix:%s:exportname=disk 1" % server.socket, "raw")
        finally:
            server.close()
        check_raw(t, raw, want)


def test_vhd_on_nbd(t):
    with tempfile.TemporaryDirectory() as folder:
        raw, image = os.path.join(folder, "raw"), os.path.join(folder, "disk.vhd")
        fill_raw(raw)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o",
                        "subformat=fixed,force_size=on", raw, image], check=True)
        server = Server(folder, "file", image)
        try:
            want = use_disk(t, "nbd+unix:///?socket=" + server.socket, "vpc")
        finally:
            server.close()
        check_raw(t, image, want)
