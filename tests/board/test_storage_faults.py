# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of the host's storage under the real binary: a full file system, images cut short, a disk
whose cache cannot be written back. The guest gets the error of ATA or SCSI, other drives work all
along, and when the host's condition clears, so does the guest's."""
import contextlib
import os
import shutil
import struct
import subprocess
import tempfile

import fakexen
import pcibus
from harness import Skip
from ide import BUFFER, PRIMARY, SECONDARY, Drive

ERR, ABRT, UNC, IDNF = 0x01, 0x04, 0x40, 0x10
BM_INT = 0x04
MIB = 1 << 20


@contextlib.contextmanager
def small_fs(mib=1):
    """A file system of that size, for one test."""
    d = tempfile.mkdtemp(prefix="fakexen-fs-")
    try:
        if os.getuid() != 0 or subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=%dm" % mib, "hvm-dm-test", d],
                stderr=subprocess.DEVNULL).returncode != 0:
            raise Skip("no right to mount a file system")
        try:
            yield d
        finally:
            subprocess.run(["umount", "-l", d], check=True)
    finally:
        os.rmdir(d)


def take_space(folder, spare=0):
    """Fills the file system but for `spare` bytes."""
    with open(os.path.join(folder, "filler"), "wb", buffering=0) as f:
        try:
            while f.write(bytes(4096)) == 4096:
                pass
        except OSError:
            pass
        f.truncate(f.tell() // 4096 * 4096 - spare)


def give_space(folder):
    os.unlink(os.path.join(folder, "filler"))


def sparse(folder, name, mib):
    path = os.path.join(folder, name)
    with open(path, "wb") as f:
        f.truncate(mib * MIB)
    return path


def second_disk(path):
    return ["-drive", "file=%s,if=ide,index=1,media=disk,format=raw,cache=writeback" % path]


def drives(m, *which):
    bm = pcibus.find(pcibus.assign(m), 1, 4)[0]
    return [Drive(m, channel, slave, bm) for channel, slave in which]


def write_dma(d, lba, data):
    """WRITE DMA EXT; (bus-master status, status, error)."""
    d.m.write(BUFFER, data)
    n = len(data)
    pieces = [(BUFFER + i, min(65536, n - i)) for i in range(0, n, 65536)]
    return d.dma(0x35, pieces, False, count=n // 512, lba=lba, lba48=True)


def read_dma(d, lba, sectors):
    d.m.cmd("memset %#x %d 0xee" % (BUFFER, sectors * 512))
    result = d.dma(0x25, [(BUFFER, sectors * 512 & 0xffff)], True, count=sectors, lba=lba, lba48=True)
    return result, d.m.read(BUFFER, sectors * 512)


def error_lba(d):
    """The address that a failed command left in the registers, 48 bits."""
    m, low, high = d.m, 0, 0
    for i in range(3):
        low |= m.inb(d.base + 3 + i) << 8 * i
    m.outb(d.ctl, 0x80)
    for i in range(3):
        high |= m.inb(d.base + 3 + i) << 8 * i
    m.outb(d.ctl, 0x00)
    return low | high << 24


def well(t, result, what):
    t.equal((result[0] & BM_INT, result[1] & 0xa9, result[2]), (BM_INT, 0, 0), what)


def failed(t, result, error, what):
    t.equal((result[0] & BM_INT, result[1] & 0xa9, result[2]), (BM_INT, ERR, error), what)


def said(m, text):
    return m.log().count(text)


def data_for(n, seed):
    return bytes((i * seed ^ i >> 8) & 0xff for i in range(n))


def test_full_file_system(t):
    """DMA writes while the image's file system is full: an error with the address of the sector, once in the log.
    The other drive works, and with space the same write works."""
    data = data_for(32768, 7)
    with small_fs() as folder, tempfile.TemporaryDirectory() as other:
        with t.machine(disk=sparse(folder, "disk.img", 8),
                       extra=second_disk(sparse(other, "second.img", 4))) as m:
            bad, good = drives(m, (PRIMARY, 0), (PRIMARY, 1))
            well(t, write_dma(bad, 0, data), "write while there is space")
            take_space(folder, 8192)
            for turn in range(3):
                lba = 4096 + 64 * turn
                failed(t, write_dma(bad, lba, data), ABRT, "write %d without space" % turn)
                if turn == 0:  # two pages were left: 16 sectors
                    t.equal(error_lba(bad), lba + 16, "sector that failed")
                else:
                    t.equal(error_lba(bad), lba, "sector that failed")
                well(t, write_dma(good, 100 + turn, data), "the other drive's write")
                if turn == 2:
                    well(t, write_dma(bad, 0, data), "write over what is allocated")
            t.equal(said(m, "No space left on device"), 1, "lines in the log")
            t.equal(bad.pio_out(0x30, data[:512], lba=5000) & 0xa9, ERR, "PIO write without space")
            t.equal(m.inb(bad.base + 1), ABRT, "its error")
            give_space(folder)
            for turn in range(3):
                well(t, write_dma(bad, 4096 + 64 * turn, data), "the same write with space")
                result, back = read_dma(bad, 4096 + 64 * turn, 64)
                well(t, result, "reading back")
                t.equal(back, data, "data")
            bad.issue(0xe7)
            t.equal(bad.wait() & 0xa9, 0, "flush")
            t.equal(m.dm_status(), "running")


def test_full_file_system_qcow2(t):
    """A qcow2 image that cannot grow: writes to new clusters and flushes fail, the rest works, and the image is sound."""
    if not shutil.which("qemu-img"):
        raise Skip("no qemu-img")
    data = data_for(32768, 9)
    with small_fs(2) as folder:
        path = os.path.join(folder, "disk.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
        with t.machine(extra=["-drive", "file=%s,if=ide,index=0,media=disk,format=qcow2,cache=writeback" % path]) as m:
            d, = drives(m, (PRIMARY, 0))
            well(t, write_dma(d, 0, data), "write while there is space")
            d.issue(0xe7)
            t.equal(d.wait() & 0xa9, 0, "flush")
            take_space(folder)
            for turn in range(3):
                failed(t, write_dma(d, 2048 + 256 * turn, data), ABRT, "write %d without space" % turn)
            result, back = read_dma(d, 0, 64)
            well(t, result, "read without space")
            t.equal(back, data, "data")
            well(t, write_dma(d, 0, data[::-1]), "write over what is allocated")
            t.equal(m.log().count("No space left on device"), 1, "lines in the log")
            give_space(folder)
            for turn in range(3):
                well(t, write_dma(d, 2048 + 256 * turn, data), "the same write with space")
            d.issue(0xe7)
            t.equal(d.wait() & 0xa9, 0, "flush with space")
            m.cmd("xen kill 9")
            m.wait_exit(5)
        p = subprocess.run(["qemu-img", "check", "-f", "qcow2", path], stdout=subprocess.PIPE, text=True)
        t.check(p.returncode in (0, 3), "qemu-img check: " + p.stdout)
        with tempfile.TemporaryDirectory() as out:
            flat = os.path.join(out, "flat")
            subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, flat], check=True)
            with open(flat, "rb") as f:
                content = f.read()
        t.equal(content[:32768], data[::-1], "first write")
        for turn in range(3):
            at = (2048 + 256 * turn) * 512
            t.equal(content[at:at + 32768], data, "write %d" % turn)


def test_full_during_a_long_transfer(t):
    """A transfer of 1 MiB in the middle of which the space ends, and a reset while it fails."""
    data = data_for(MIB, 11)
    with small_fs() as folder, t.machine(disk=sparse(folder, "disk.img", 8)) as m:
        d, = drives(m, (PRIMARY, 0))
        failed(t, write_dma(d, 0, data + bytes(65536)), ABRT, "write")
        at = error_lba(d)
        t.check(0 < at < 2048 + 128 and at % 8 == 0, "the failed sector %d is the first of a page" % at)
        result, back = read_dma(d, 0, 64)
        well(t, result, "reading what was written")
        t.equal(back, data[:32768], "data before the failure")
        m.outb(d.bm, 0)
        d.prd([(BUFFER + i, 0) for i in range(0, MIB, 65536)])
        d.issue(0x35, count=2048, lba=4096, lba48=True)
        m.outb(d.bm, 1)
        d.reset()
        d.select()
        t.equal(d.wait() & 0xa9, 0, "status after a reset")
        result, back = read_dma(d, 0, 64)
        well(t, result, "read after a reset")
        t.equal(back, data[:32768], "data")


def test_image_cut_short(t):
    """Reads of what the image has lost: UNC with the address; the sectors before it arrive."""
    with t.machine(disk=True, iso=True) as m:
        d, = drives(m, (PRIMARY, 0))
        os.truncate(m.disk, 2 * MIB)
        for turn in range(2):
            result, back = read_dma(d, 4096 - 5, 64)
            failed(t, result, UNC, "read across the end")
            t.equal(error_lba(d), 4096, "sector that failed")
            t.equal(back[:5 * 512], b"".join(fakexen.pattern(i, 512) for i in range(4091, 4096)),
                    "the sectors before it")
        got, status = d.pio_in(0x20, 8, lba=4094)
        t.equal((got, status & 0xa9), (fakexen.pattern(4094, 512) + fakexen.pattern(4095, 512), ERR),
                "PIO read across the end")
        t.equal(m.inb(d.base + 1), UNC, "its error")
        t.equal(said(m, "Input/output error"), 1, "lines in the log")
        result, back = read_dma(d, 100, 8)
        well(t, result, "read before the end")
        os.truncate(m.disk, 4 * MIB)
        result, back = read_dma(d, 4096 - 5, 64)
        well(t, result, "read of the whole image")
        t.equal(back[5 * 512:], bytes(59 * 512), "the new part")


def test_cd_cut_short(t):
    """The same for a CD: MEDIUM ERROR, unrecovered read error; PIO and DMA."""
    with t.machine(disk=True, iso=True) as m:
        d, disk = drives(m, (SECONDARY, 0), (PRIMARY, 0))
        for _ in range(3):
            d.packet(bytes(12))
            d.packet(b"\x03\0\0\0\x12" + bytes(7))
        os.truncate(m.iso, 2 * MIB)
        for dma in (None, 4 * 2048):
            got, _, status, error = d.packet(struct.pack(">BBIBHB", 0x28, 0, 1022, 0, 4, 0), 2048, dma=dma)
            t.equal((status & 0x89, error >> 4), (ERR, 3), "read across the end, DMA %s" % dma)
            t.equal(got[:4096], fakexen.pattern(1022, 2048) + fakexen.pattern(1023, 2048), "blocks before it")
            sense, _, _, _ = d.packet(b"\x03\0\0\0\x12" + bytes(7))
            t.equal((sense[2] & 15, sense[12], sense[13]), (3, 0x11, 0), "sense")
        result, _ = read_dma(disk, 0, 8)
        well(t, result, "the disk meanwhile")
        os.truncate(m.iso, 4 * MIB)
        got, _, status, error = d.packet(struct.pack(">BBIBHB", 0x28, 0, 1022, 0, 4, 0), 2048)
        t.equal((status & 0x89, error >> 4, len(got)), (0, 0, 8192), "read of the whole image")
        t.equal(said(m, "Input/output error"), 1, "lines in the log")
        os.truncate(m.iso, 2 * MIB)
        d.packet(struct.pack(">BBIBHB", 0x28, 0, 1022, 0, 4, 0), 2048)
        t.equal(said(m, "Input/output error"), 2, "lines in the log after a second series")


def test_flush_error(t):
    """A block device whose writes are lost when the host writes its cache back: FLUSH CACHE fails, not the
    process; after the cause is gone, write and flush work."""
    if not shutil.which("losetup"):
        raise Skip("no losetup")
    data = data_for(65536, 13)
    with small_fs() as folder:
        image = sparse(folder, "disk.img", 8)
        p = subprocess.run(["losetup", "-f", "--show", image], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
        if p.returncode != 0:
            raise Skip("no loop device")
        device = p.stdout.strip()
        try:
            with t.machine(disk=device) as m:
                d, = drives(m, (PRIMARY, 0))
                well(t, write_dma(d, 0, data), "write")
                d.issue(0xe7)
                t.equal(d.wait() & 0xa9, 0, "flush")
                take_space(folder)
                well(t, write_dma(d, 4096, data), "write into the host's cache")
                d.issue(0xea)
                t.equal((d.wait() & 0xa9, m.inb(d.base + 1)), (ERR, ABRT), "flush without space")
                give_space(folder)
                well(t, write_dma(d, 4096, data), "the same write again")
                d.issue(0xea)
                t.equal(d.wait() & 0xa9, 0, "flush with space")
                m.cmd("xen kill 9")
                m.wait_exit(5)
            with open(image, "rb") as f:
                f.seek(4096 * 512)
                t.equal(f.read(65536), data, "image")
        finally:
            subprocess.run(["losetup", "-d", device], check=True)
