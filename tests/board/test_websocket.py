# SPDX-License-Identifier: GPL-2.0-or-later
"""VNC through WebSocket, on the same port, and what else a browser or anybody sends there."""
import os
import random
import socket
import time

import rfb
from test_screen import VNC, show_vbe
from test_viewer import read_exactly, wake_devices


def test_session(t):
    """The same picture, keys and sizes as a plain viewer has, whatever the frames' borders."""
    with t.machine(vga="stdvga", vnc=VNC) as m:
        show_vbe(32)(m)
        wake_devices(m)
        port = rfb.port_of(m)
        plain = rfb.Rfb(port)
        want = plain.settled()
        for piece in (None, 1, 7):
            ws = rfb.WebSocket(port, piece=piece)
            t.equal(ws.status, 101, "status")
            t.equal(ws.headers.get("sec-websocket-protocol"), "binary", "protocol")
            client = rfb.Rfb(port, ws=ws)
            t.check(rfb.differs(want, client.settled()) is None, "another picture than the plain viewer's")
            client.key(0x61, 1)
            client.key(0x61, 0)
            t.equal(read_exactly(m, 2), ["1e", "9e"], "keys")
            if piece:
                t.check(ws.pongs and all(p.startswith(b"ping ") for p in ws.pongs), "pongs: %r" % ws.pongs[:3])
            client.close()
        ws = rfb.WebSocket(port, protocol=None)
        t.equal(ws.headers.get("sec-websocket-protocol"), None, "protocol that was not asked for")
        client = rfb.Rfb(port, ws=ws)
        client.update()
        show_vbe(32, 800, 600)(m)
        t.check(client.settled()[:2] != want[:2], "the size does not follow the mode")
        ws.frame(8, b"\x03\xe8")
        while ws.read_frame() is not None:
            pass
        t.equal(ws.closed, 1000, "answer to the close frame")
        client.close()
        plain.close()


def http(port, request):
    """What the server answers to these bytes, up to its end."""
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(request)
        data = b""
        try:
            while chunk := s.recv(4096):
                data += chunk
        except ConnectionResetError:
            pass
        return data


def test_no_web_server(t):
    """Nothing but the handshake is served: no pages, no files, on no port."""
    with t.machine(vnc=VNC) as m:
        port = rfb.port_of(m)
        for path in (b"/", b"/index.vnc", b"/../../etc/passwd", b"/vnc.html"):
            got = http(port, b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            t.check(got.startswith(b"HTTP/1.1 400 ") and got.endswith(b"\r\n\r\n"), "%r got %r" % (path, got[:80]))
        for request in (b"POST / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"CONNECT x:1 HTTP/1.1\r\n\r\n"):
            got = http(port, request)
            t.check(b"HTTP" not in got, "%r got %r" % (request, got[:80]))
        with open("/proc/net/tcp", encoding="ascii") as f:
            inodes = {line.split()[9] for line in f if line.split()[3] == "0A"}
        pid = m.dm_pid()
        own = [os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)]
        t.equal(len([x for x in own if x.startswith("socket:[") and x[8:-1] in inodes]), 1, "TCP ports listened on")


def test_other_sites(t):
    """A page of any site could reach this port through its visitor's browser: only with a password."""
    with t.machine(vnc=VNC) as m:
        port = rfb.port_of(m)
        for origin, status in (("http://127.0.0.1:6080", 101), ("http://evil.example", 403), ("null", 403),
                               ("http://127.0.0.1.evil.example", 403)):
            ws = rfb.WebSocket(port, headers=["Origin: " + origin])
            t.equal(ws.status, status, origin)
            ws.close()
    with t.machine(vnc="127.0.0.1:80,password=on,to=99") as m:
        ws = rfb.WebSocket(rfb.port_of(m), headers=["Origin: http://evil.example"])
        t.equal(ws.status, 101, "with a password")
        t.equal(ws.read(12), b"RFB 003.008\n", "greeting")
        ws.close()


def memory_kib(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def test_hostile_browsers(t):
    """Half handshakes, endless headers, garbage frames, announced lengths of exabytes, floods of pings that
    nobody reads the answers of: the guest and a good viewer are served meanwhile, and memory stays."""
    rng = random.Random(5)
    with t.machine(vga="stdvga", vnc=VNC) as m:
        show_vbe(32)(m)
        port = rfb.port_of(m)
        good = rfb.Rfb(port)
        good.settled()
        before = memory_kib(m.dm_pid())
        held = []
        for n in range(60):
            s = socket.create_connection(("127.0.0.1", port), 5)
            s.settimeout(2)
            held.append(s)
            try:
                s.sendall((b"GET ", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET /" + b"a" * 40000,
                           b"GET / HTTP/1.1\r\n" + b"X-Y: " + b"b" * 30000)[n % 4])
            except OSError:
                pass
        for n in range(40):
            ws = rfb.WebSocket(port)
            held.append(ws)
            t.equal(ws.status, 101, "handshake %d beside half ones" % n)
            try:
                if n % 4 == 0:
                    ws.sock.sendall(bytes(rng.randrange(256) for _ in range(500)))
                elif n % 4 == 1:
                    ws.sock.sendall(b"\x82\xff\x7f" + b"\xff" * 7 + bytes(4) + b"RFB 003.008\n\1\1" + b"\7" * 100000)
                elif n % 4 == 2:
                    for _ in range(300):
                        ws.frame(9, b"x" * 125)
                else:
                    ws.frame(2, b"RFB 003.008\n\1\1" + (b"\3\0" + bytes(4) + b"\2\x80\1\xe0") * 500)
            except OSError:
                pass
        start = time.monotonic()
        for _ in range(200):
            m.inb(0x64)
        took = time.monotonic() - start
        t.check(took < 1, "200 port reads took %.2f s" % took)
        t.equal(good.settled()[:2], (640, 480), "the good viewer's picture")
        grown = memory_kib(m.dm_pid()) - before
        t.notes.append("%d KiB more" % grown)
        t.check(grown < 32 * 3 * 1024, "%d KiB more" % grown)
        for s in held:
            s.close()
        good.close()
        t.equal(m.dm_status(), "running")
