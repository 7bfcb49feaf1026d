# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP as libxl and libxenstat speak it."""
import array
import json
import os
import socket
import threading
import time

from fakexen import Qmp


def test_greeting(t):
    with t.machine() as m:
        q = Qmp(m.qmp_path)
        g = q.message()
        v = g["QMP"]["version"]["qemu"]
        t.check(all(isinstance(v[k], int) for k in ("major", "minor", "micro")), "version %r" % v)
        t.check((v["major"], v["minor"]) >= (2, 12), "version %r steers libxl to old commands" % v)
        t.check(isinstance(g["QMP"]["capabilities"], list), "capabilities")
        q.close()


def test_negotiation(t):
    with t.machine() as m:
        q = Qmp(m.qmp_path)
        q.message()
        q.sock.sendall(b'{"execute":"query-chardev","id":5}\r\n')
        r = q.reply()
        t.equal((r["error"]["class"], r["id"]), ("CommandNotFound", 5), "before qmp_capabilities")
        t.equal(q.command("qmp_capabilities")["return"], {})
        r = q.command("qmp_capabilities")
        t.check("error" in r, "second qmp_capabilities: %r" % r)
        q.close()


def test_libxl_create(t):
    """What libxl sends after a start, on one connection."""
    with t.machine(serial=["null", "null"], vnc="127.0.0.1:60,to=99,password=on") as m:
        q = m.qmp()
        r = q.command("query-chardev")["return"]
        labels = [c["label"] for c in r]
        t.check("serial0" in labels and "serial1" in labels, "labels %r" % labels)
        t.check(all(isinstance(c["filename"], str) for c in r), "filename strings")
        r = q.command("query-vnc")["return"]
        t.equal(r["enabled"], True)
        t.check(5960 <= int(r["service"]) <= 5999, "service %r" % r["service"])
        t.equal(q.command("change-vnc-password", password="secret")["return"], {})
        q.close()
        q = m.qmp()
        t.equal(q.command("cont")["return"], {})
        t.equal(q.command("query-status")["return"]["status"], "running")
        q.close()


def test_unknown_command(t):
    with t.machine() as m:
        q = m.qmp()
        r = q.command("frobnicate-everything")
        t.equal(r["error"]["class"], "CommandNotFound")
        t.check(isinstance(r["error"]["desc"], str) and r["error"]["desc"], "desc")
        r = q.command("query-status", nonsense=1)
        t.check("error" in r, "unexpected argument: %r" % r)
        q.close()


def test_ids(t):
    """The id comes back as it was, of whatever type; without one there is none."""
    with t.machine() as m:
        q = m.qmp()
        for i in (0, 1, 2019127552, -5, 9007199254740993, "text", "\u00e4\u4e2d", [1, "a"], {"k": None}, None,
                  True, 1.5):
            q.sock.sendall(json.dumps({"id": i, "execute": "query-status"}).encode())
            r = q.reply()
            t.check("id" in r and r["id"] == i and type(r["id"]) is type(i), "id %r came as %r" % (i, r))
        q.sock.sendall(b'{"execute":"query-status"}')
        t.check("id" not in q.reply(), "an id that was not asked for")
        q.close()


def test_no_terminator(t):
    """libxenstat sends bare objects; the answer comes at once, not after a newline."""
    with t.machine(iso=True) as m:
        q = Qmp(m.qmp2_path)
        q.message()
        for text in (b'{ "execute": "qmp_capabilities" }', b'{ "execute": "query-blockstats" }',
                     b'{ "execute": "query-block" }'):
            start = time.monotonic()
            q.sock.sendall(text)
            r = q.reply()
            took = time.monotonic() - start
            t.check("return" in r or "error" in r, "reply %r" % r)
            t.check(took < 0.05, "answer after %.0f ms" % (took * 1000))
        q.close()


def test_fragments(t):
    """One byte at a time, several commands in one piece, white space and line ends in between."""
    with t.machine() as m:
        q = m.qmp()
        for b in b'\r\n \t{"execute" : "query-status", "id":\n1}':
            q.sock.sendall(bytes([b]))
            time.sleep(0.0005)
        t.equal(q.reply()["id"], 1)
        q.sock.sendall(b'{"execute":"query-status","id":2}{"execute":"query-status","id":3}\r\n'
                       b'{"id":4,"execute":"query-status"}')
        t.equal([q.reply()["id"] for _ in range(3)], [2, 3, 4])
        q.sock.sendall(b'{"execute":"query-status","id":"}{\\"}"}')
        t.equal(q.reply()["id"], '}{"}', "braces in strings")
        q.close()


def test_garbage(t):
    """Not JSON, not an object, not UTF-8, deep nesting: an error, and the connection or at least the
    next one works."""
    with t.machine() as m:
        for junk in (b"hello\r\n", b"]\r\n", b"{]\r\n", b'{"execute": }\r\n', b"[1,2,3]\r\n", b'"text"\r\n', b"42\r\n",
                     b"\xff\xfe\x80\r\n", b'{"execute":"\xff\xff"}\r\n', b"\0\0\0\0\r\n", b'{"execute": 5}\r\n',
                     b"{}\r\n", b'{"execute":"query-status","arguments":7}\r\n', b"[" * 100000,
                     b'{"a":' * 5000, b'{"execute":"' + b"x" * 300000 + b'"}\r\n', b'{"execute":"query-status"'):
            q = m.qmp()
            q.sock.settimeout(3)
            try:
                q.sock.sendall(junk)
                if junk.endswith(b"\n"):
                    try:
                        r = q.reply()
                    except socket.timeout:
                        t.check(False, "no answer to %r" % junk[:40])
                    t.check("error" in r, "answer %r to %r" % (r, junk[:40]))
                    t.check(isinstance(r["error"]["class"], str) and isinstance(r["error"]["desc"], str), "error")
            except (EOFError, ConnectionError):
                pass
            q.close()
            q = m.qmp()
            t.equal(q.command("query-status")["return"]["status"], "running", "after %r" % junk[:40])
            q.close()
        t.equal(m.dm_status(), "running")


def test_endless_command(t):
    """A command that never ends is bounded in memory."""
    def data_pages():
        with open("/proc/%d/statm" % m.dm_pid()) as f:
            return int(f.read().split()[5])

    with t.machine() as m:
        before = data_pages()
        q = m.qmp()
        q.sock.settimeout(5)
        try:
            q.sock.sendall(b'{"execute":"query-status","id":"')
            for _ in range(200):
                q.sock.sendall(b"x" * 1000000)
        except (OSError, socket.timeout):
            pass
        after = data_pages()
        q.close()
        t.check((after - before) * 4096 < 80 << 20, "%d MiB more" % ((after - before) >> 8))
        m.qmp().close()


def test_reconnect(t):
    """libxl opens a connection per operation; negotiation starts anew."""
    with t.machine() as m:
        for _ in range(100):
            q = Qmp(m.qmp_path)
            g = q.message()
            t.check("QMP" in g, "greeting %r" % g)
            t.equal(q.command("qmp_capabilities")["return"], {})
            q.close()
        q = Qmp(m.qmp_path)
        q.message()
        q.sock.sendall(b'{"execute":"qmp_ca')
        q.close()
        q = m.qmp()
        t.equal(q.command("query-status")["return"]["status"], "running")
        q.close()


def test_second_client_waits(t):
    """One client at a time per socket; the next is served when the first leaves."""
    with t.machine() as m:
        first = m.qmp()
        second = Qmp(m.qmp_path)
        second.sock.settimeout(0.3)
        try:
            second.message()
            t.check(False, "the second client was greeted while the first was there")
        except socket.timeout:
            pass
        t.equal(first.command("query-status")["return"]["status"], "running")
        other = m.qmp(second=True)
        t.equal(other.command("query-status")["return"]["status"], "running", "the other socket")
        other.close()
        second.sock.settimeout(5)
        first.close()
        t.check("QMP" in second.message(), "greeting after the first left")
        second.close()


def test_backlog(t):
    """libxl connects non-blocking and takes a full backlog for an error."""
    with t.machine() as m:
        first = m.qmp()
        waiting = []
        for _ in range(2):
            s = socket.socket(socket.AF_UNIX)
            s.setblocking(False)
            s.connect(m.qmp_path)
            waiting.append(s)
        first.close()
        for s in waiting:
            s.settimeout(5)
            t.check(s.recv(10).startswith(b'{"QMP"'), "greeting")
            s.close()


def test_descriptors(t):
    """SCM_RIGHTS on the first byte of add-fd, and unasked descriptors, which must not pile up."""
    with t.machine() as m:
        def send_with_fd(q, text):
            fd = os.open("/dev/null", os.O_RDONLY)
            q.sock.sendmsg([text[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
            q.sock.sendall(text[1:])
            os.close(fd)

        def count():
            return len(os.listdir("/proc/%d/fd" % m.dm_pid()))

        q = m.qmp()
        send_with_fd(q, b'{"execute":"add-fd","id":7}\r\n')
        r = q.reply()
        t.equal(r["id"], 7)
        if "return" in r:
            t.check(isinstance(r["return"]["fdset-id"], int), "fdset-id in %r" % r)
        else:
            t.equal(r["error"]["class"], "CommandNotFound", "add-fd")
        q.close()
        time.sleep(0.05)
        before = count()
        for _ in range(50):
            q = m.qmp()
            for _ in range(5):
                send_with_fd(q, b'{"execute":"query-status","id":8}\r\n')
                q.reply()
            q.close()
        time.sleep(0.1)
        t.check(count() <= before + 1, "descriptors: %d, then %d" % (before, count()))
        q = m.qmp()
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
        try:
            q.sock.sendmsg([b" "], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        finally:
            for fd in fds:
                os.close(fd)
        t.equal(q.command("query-status")["return"]["status"], "running", "after 200 descriptors")
        q.close()
        time.sleep(0.1)
        t.check(count() <= before + 1, "descriptors after 200: %d, then %d" % (before, count()))


def test_served_beside_requests(t):
    """QMP and ioreqs at once."""
    stop = threading.Event()
    errors = []

    def requests(m):
        c = m.client()
        while not stop.is_set():
            for a in c.batch(["inb 0x64"] * 100):
                if not a.startswith("OK"):
                    errors.append(a)
        c.close()

    with t.machine() as m:
        x = threading.Thread(target=requests, args=(m,))
        x.start()
        try:
            start = time.monotonic()
            for _ in range(100):
                q = m.qmp()
                q.command("query-status")
                q.close()
            took = time.monotonic() - start
        finally:
            stop.set()
            x.join()
        t.equal(errors, [])
        t.check(took < 5, "100 operations took %.1f s" % took)


def test_slow_reader(t):
    """A client that does not read its answers delays nobody."""
    with t.machine() as m:
        q = m.qmp()
        q.sock.setblocking(False)
        try:
            for _ in range(20000):
                q.sock.send(b'{"execute":"query-chardev"}')
        except BlockingIOError:
            pass
        t.equal(m.inb(0x92) & 1, 0, "a port read meanwhile")
        other = m.qmp(second=True)
        t.equal(other.command("query-status")["return"]["status"], "running")
        other.close()
        q.close()
        m.qmp().close()


def test_stop_and_cont(t):
    """libxl's cont on a running machine is a no-op that succeeds; stop, if offered, stops."""
    with t.machine(timeout_ms=500) as m:
        q = m.qmp()
        t.equal(q.command("cont")["return"], {})
        t.equal(m.inb(0x92) & 1, 0)
        r = q.command("stop")
        if "return" in r:
            t.check(q.command("query-status")["return"]["status"] in ("paused", "stopped"), "status")
            t.equal(q.command("cont")["return"], {})
        else:
            t.equal(r["error"]["class"], "CommandNotFound", "stop")
        t.equal(m.inb(0x92) & 1, 0, "after cont")
        q.close()


def test_prelaunch(t):
    """-S: prelaunch, no "running" in xenstore, served after cont."""
    with t.machine(extra=["-S"], wait=False) as m:
        deadline = time.monotonic() + 10
        while True:
            try:
                q = m.qmp()
                break
            except OSError:
                t.check(time.monotonic() < deadline, "no QMP socket: " + m.log())
                time.sleep(0.01)
        t.equal(q.command("query-status")["return"]["status"], "prelaunch")
        t.check(not m.raw("xen xs_read device-model/1/state").endswith("running"), "wrote running")
        t.equal(q.command("cont")["return"], {})
        t.equal(q.command("query-status")["return"]["status"], "running")
        t.equal(m.inb(0x92) & 1, 0)
        q.close()
