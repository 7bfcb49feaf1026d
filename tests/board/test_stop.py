# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of the process: signals, what they leave, and what must be on disk by then."""
import os
import signal
import time

import fakexen
from ide import Drive


def children(pid):
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return f.read().split()
    except OSError:
        return []


def ends(t, sig, prepare=None, **kw):
    with t.machine(iso=True, disk=True, **kw) as m:
        if prepare:
            prepare(m)
        kids = children(m.dm_pid())
        start = time.monotonic()
        m.cmd("xen kill %d" % sig)
        t.equal(m.wait_exit(5), "exited 0", "end after signal %d, log: %s" % (sig, m.log()))
        took = time.monotonic() - start
        t.check(took < 1, "took %.1f s" % took)
        m.cmd("xen ranges")
        t.equal([x for x in m.info if x.startswith("server")], [], "ioreq servers left")
        t.equal([n for n in os.listdir(m.dir) if n.startswith("qmp")], [], "sockets left")
        t.equal([k for k in kids if os.path.exists("/proc/" + k)], [], "children left")


def test_sighup(t):
    ends(t, signal.SIGHUP)


def test_sigterm(t):
    ends(t, signal.SIGTERM, vcpus=4, vga="stdvga")


def test_sigint(t):
    ends(t, signal.SIGINT)


def test_sighup_with_clients(t):
    """A QMP client is connected, another one waits, one has half a command."""
    keep = []

    def prepare(m):
        q = m.qmp()
        q.sock.sendall(b'{"execute": "query-st')
        keep.append(q)
        keep.append(fakexen.Qmp(m.qmp_path))
        keep.append(m.qmp(second=True))
    ends(t, signal.SIGHUP, prepare)
    for q in keep:
        q.close()


def test_sighup_early(t):
    """The signal comes at some moment of the start."""
    for delay in (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016):
        with t.machine(iso=True, wait=False) as m:
            time.sleep(delay)
            m.raw("xen kill %d" % signal.SIGHUP)
            status = m.wait_exit(5)
            t.check(status in ("exited 0", "exited 1", "killed by signal 1"),
                    "after %.1f ms: %s" % (delay * 1000, status))
            m.cmd("xen ranges")
            if not status.startswith("killed"):
                t.equal([x for x in m.info if x.startswith("server")], [], "ioreq servers left")


def test_two_signals(t):
    with t.machine() as m:
        pid = m.dm_pid()
        os.kill(pid, signal.SIGTERM)
        try:
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError:
            pass
        t.equal(m.wait_exit(5), "exited 0")


def test_sigpipe(t):
    """A client that goes away in the middle of an answer does not end the process."""
    with t.machine() as m:
        for _ in range(20):
            try:
                q = fakexen.Qmp(m.qmp_path)
            except BlockingIOError:  # backlog full: this client is faster than any toolstack
                time.sleep(0.005)
                continue
            q.sock.sendall(b'{"execute":"qmp_capabilities"}' + b'{"execute":"query-chardev"}' * 50)
            q.close()
        t.equal(m.dm_status(), "running")
        m.qmp().close()


def test_written_data_is_there(t):
    """What was written before the signal is in the image, flushed or not."""
    with t.machine(disk=True) as m:
        d = Drive(m)
        data = bytes(i * 9 & 0xff for i in range(512 * 8))
        status = d.pio_out(0x30, data, lba=77)
        t.equal(status & 0x89, 0, "status")
        m.cmd("xen kill %d" % signal.SIGHUP)
        t.equal(m.wait_exit(5), "exited 0")
        with open(m.disk, "rb") as f:
            f.seek(77 * 512)
            t.equal(f.read(512 * 8), data, "image")


def test_flushed_data_survives_sigkill(t):
    with t.machine(disk=True) as m:
        d = Drive(m)
        data = bytes(i * 5 & 0xff for i in range(512 * 4))
        d.pio_out(0x30, data, lba=99)
        d.issue(0xe7)
        t.equal(d.wait() & 0x89, 0, "flush")
        m.cmd("xen kill 9")
        m.wait_exit(5)
        with open(m.disk, "rb") as f:
            f.seek(99 * 512)
            t.equal(f.read(512 * 4), data, "image")


def test_read_only_iso_untouched(t):
    """The CD's image is opened read-only."""
    with t.machine(iso=True) as m:
        for fd in os.listdir("/proc/%d/fd" % m.dm_pid()):
            path = "/proc/%d/fd/%s" % (m.dm_pid(), fd)
            if os.path.realpath(path) == os.path.realpath(m.iso):
                with open("/proc/%d/fdinfo/%s" % (m.dm_pid(), fd)) as f:
                    flags = [x for x in f if x.startswith("flags:")][0]
                t.equal(int(flags.split()[1], 8) & 3, 0, "open mode")
                return
        t.check(False, "the image is not open")


def test_descriptors_and_memory_are_flat(t):
    """Many connections and requests leave neither descriptors nor memory behind."""
    def usage(m):
        with open("/proc/%d/statm" % m.dm_pid()) as f:
            rss = int(f.read().split()[5])
        return len(os.listdir("/proc/%d/fd" % m.dm_pid())), rss

    def work(m, n):
        for _ in range(n):
            q = m.qmp()
            q.command("query-chardev")
            q.command("no-such-command", x=[1, {"y": None}])
            q.close()
        m.batch(["inb 0x1f7", "outb 0x3d4 1", "readb 0xa0000"] * 1000)

    with t.machine(iso=True) as m:
        work(m, 20)
        fds, data = usage(m)
        work(m, 200)
        time.sleep(0.1)
        fds2, data2 = usage(m)
        t.check(fds2 <= fds, "descriptors %d then %d" % (fds, fds2))
        t.check(data2 - data <= 64, "data pages %d then %d" % (data, data2))


def power_off(m):
    """What the ACPI code of the guest does: SLP_EN with type 0 into PM1a_CNT."""
    m.pci_write(1, 3, 0x40, 0xb001)
    m.pci_write(1, 3, 0x80, 1, size=1)
    m.outw(0xb004, 0x2000)


def test_power_off_ends_the_process(t):
    """Without -no-shutdown, as on the peer: the write is answered, the process ends well and leaves nothing."""
    with t.machine(disk=True, argv=lambda m: [x for x in m.arguments() if x != "-no-shutdown"]) as m:
        m.outb(0xcf9, 0)
        power_off(m)
        t.equal(m.wait_exit(5), "exited 0", "end, log: %s" % m.log())
        s = m.fields("xen shutdown")
        t.equal((s["reason"], s["calls_at_answer"] != "0"), ("0", True), "shutdown")
        m.cmd("xen ranges")
        t.equal([x for x in m.info if x.startswith("server")], [], "ioreq servers left")
        t.equal([n for n in os.listdir(m.dir) if n.startswith("qmp")], [], "sockets left")


def test_power_off_with_no_shutdown(t):
    """libxl's way: the toolstack ends the process. A reset ends it in neither way."""
    with t.machine() as m:
        power_off(m)
        m.inb(0x60)
        t.equal(m.dm_status(), "running")
        t.equal(m.fields("xen shutdown")["reason"], "0", "shutdown")
    with t.machine(argv=lambda m: [x for x in m.arguments() if x != "-no-shutdown"]) as m:
        m.outb(0xcf9, 6)
        m.inb(0x60)
        t.equal(m.dm_status(), "running")


def test_idle_is_quiet(t):
    """No viewer, idle guest: no wake-ups at all."""
    with t.machine(iso=True, disk=True, serial="null") as m:
        pid = m.dm_pid()

        def switches():
            total = 0
            for task in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/status" % (pid, task)) as f:
                    total += sum(int(x.split()[1]) for x in f if "ctxt_switches" in x)
            return total

        m.batch(["inb 0x64"] * 100)
        time.sleep(0.5)
        before = switches()
        time.sleep(3)
        n = switches() - before
        t.notes.append("%d in 3 s" % n)
        t.check(n <= 2, "%d context switches in 3 s" % n)
