# SPDX-License-Identifier: GPL-2.0-or-later
"""The far end of a NIC's tap interface, in a network namespace of the test's own."""
import ctypes
import fcntl
import functools
import os
import socket
import struct
import time
import zlib

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PACKET_OUTGOING = 4
TAP = "wire0"
MAC = bytes.fromhex("00163e000001")
HOST = bytes.fromhex("020000000009")


def nic(model):
    """Machine's extra arguments for one NIC with a tap."""
    return ("-device", "%s,id=nic0,netdev=net0,mac=%s" % (model, MAC.hex(":")), "-netdev",
            "type=tap,id=net0,ifname=%s,br=xenbr0,script=no,downscript=no" % TAP)


def in_namespace(test):
    """Runs a test in a new network namespace (root only), where nobody else sends anything."""
    @functools.wraps(test)
    def run(*args):
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot make a network namespace; run as root")
        try:
            with open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w", encoding="ascii") as f:
                f.write("1")
            return test(*args)
        finally:
            libc.setns(home, CLONE_NEWNET)
            os.close(home)
    return run


def set_flags(name, on, off):
    """Sets and clears flags (IFF_*) of an interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        ifr = fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16sH14x", name.encode(), 0))
        flags = struct.unpack_from("H", ifr, 16)[0] & ~off | on
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags))


class Wire:
    """A packet socket on the tap; brings the interface up."""

    def __init__(self, name=TAP):
        self.name = name
        self.set_up(True)
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.bind((name, 0))

    def set_up(self, up):
        set_flags(self.name, IFF_UP if up else 0, IFF_UP)

    def send(self, frame):
        self.sock.send(frame)

    def receive(self, seconds=5):
        """The next frame from the guest, None after so many seconds."""
        end = time.monotonic() + seconds
        while True:
            self.sock.settimeout(max(end - time.monotonic(), 0.001))
            try:
                frame, address = self.sock.recvfrom(70000)
            except OSError as e:
                if isinstance(e, TimeoutError):
                    return None
                continue  # the interface was down
            if address[2] != PACKET_OUTGOING:
                return frame

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def frame(size, dst=MAC, src=HOST, kind=b"\x88\xb5", seed=1):
    return (dst + src + kind + bytes((i * 7 + seed) & 255 for i in range(size)))[:size]


def fcs(data):
    return struct.pack("<I", zlib.crc32(data))


def checksum(data):
    data = data + b"\0" * (len(data) & 1)
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ip(size, proto=6, dst=MAC, src=HOST, sums=True, tag=None, flags=0x18):
    """An IPv4 frame with TCP (6) or UDP (17) of size bytes in all; sums: with its checksums."""
    eth = dst + src + (b"" if tag is None else b"\x81\x00" + tag) + b"\x08\x00"
    length = size - len(eth)
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, length, 7, 0, 64, proto, 0, b"\x0a\0\0\x01",
                       b"\x0a\0\0\x02")
    if proto == 6:
        l4 = struct.pack(">HHIIBBHHH", 1024, 80, 1000, 2000, 0x50, flags, 8192, 0, 0)
        field = 16
    else:
        l4 = struct.pack(">HHHH", 1024, 53, length - 20, 0)
        field = 6
    l4 += bytes((i * 11 + 3) & 255 for i in range(length - 20 - len(l4)))
    if sums:
        head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
        c = checksum(head[12:20] + struct.pack(">HH", proto, len(l4)) + l4) or 0xffff
        l4 = l4[:field] + struct.pack(">H", c) + l4[field + 2:]
    return eth + head + l4
