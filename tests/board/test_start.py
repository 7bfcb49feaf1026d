# SPDX-License-Identifier: GPL-2.0-or-later
"""Start-up: the handshake with libxl, and a clear answer to what cannot be honoured."""
import os
import socket
import subprocess
import tempfile

import fakexen
from harness import Failure


def test_handshake(t):
    """Both QMP sockets take connections and the server is enabled before "running" is answered."""
    with t.machine(iso=True) as m:
        t.equal(m.cmd("xen at_running"), "ok ok enabled=1", "at the time of running")
        t.equal(m.cmd("xen xs_read /local/domain/0/device-model/1/state"), "running")
        q = m.qmp()
        t.check("return" in q.command("query-chardev"), "query-chardev")
        q.close()


def test_handshake_other_domid(t):
    with t.machine(domid=4711) as m:
        t.equal(m.cmd("xen xs_read device-model/4711/state"), "running")
        t.equal(m.inb(0x1234), 0xff)


def test_backend_declined(t):
    """The PV keyboard that libxl offers in our name is closed, or a Linux with PV drivers waits 30 s for it at boot."""
    with t.machine() as m:
        t.equal(m.cmd("xen xs_read /local/domain/0/backend/vkbd/1/0/state"), "6")


def test_bring_up_order(t):
    """Every vCPU answers: the page was mapped before the server was enabled, and all ports bound."""
    with t.machine(vcpus=8) as m:
        for v in range(8):
            m.cmd("xen vcpu %d" % v)
            t.equal(m.inb(0x92) & 0xfd, 0, "port 0x92 from vCPU %d" % v)


def test_allowance(t):
    """Video memory fits beside the guest's in videoram + 1 MiB; hvmloader's tables still do too."""
    for vga in ("cirrus", "stdvga"):
        with t.machine(vga=vga) as m:
            f = m.fields("xen mem")
            left = int(f["max_pages"]) - int(f["tot_pages"])
            t.check(left >= 64, "%s: %d pages left for hvmloader" % (vga, left))


def test_few_hypercalls_at_start(t):
    """Nothing is registered twice, and no line is driven that has not changed."""
    with t.machine() as m:
        c = {k: int(v) for k, v in m.fields("xen counts").items()}
        t.check(c["isa_irq"] + c["pci_intx"] <= 20, "%d line changes" % (c["isa_irq"] + c["pci_intx"]))
        t.notes.append("map_range %d, isa_irq %d" % (c["map_range"], c["isa_irq"]))


def refused(t, word, **kw):
    """The device model exits 1 with one line that has word in it, before "running"."""
    left = []
    try:
        with t.machine(wait=False, **kw) as m:
            status = m.wait_exit(10)
            left = [n for n in os.listdir(m.dir) if n.startswith("qmp")]
            state = m.raw("xen xs_read device-model/1/state")
            servers = list(m.info) if m.cmd("xen ranges") == "" else []
            log = m.log()
    except fakexen.StartError as e:
        raise Failure("fakexen did not start: %s" % e) from None
    t.equal(status, "exited 1", "end of the process, log: " + log.strip())
    t.check(not state.startswith("OK running"), "wrote running")
    lines = [x for x in log.split("\n") if x.strip()]
    t.equal(len(lines), 1, "lines in the log: %r" % lines)
    t.check(word in lines[0], "%r is not named in: %s" % (word, lines[0]))
    t.equal(left, [], "sockets left behind")
    t.equal([x for x in m.info if x.startswith("server")], [], "ioreq server left behind")
    del servers


def test_missing_disk(t):
    refused(t, "/no/such/disk.img", disk="/no/such/disk.img")


def test_missing_iso(t):
    refused(t, "/no/such/cd.iso", iso="/no/such/cd.iso")


def test_disk_is_a_directory(t):
    with tempfile.TemporaryDirectory() as d:
        refused(t, d, disk=d)


def test_unknown_option(t):
    refused(t, "-frobnicate", extra=["-frobnicate"])


def test_unknown_device(t):
    refused(t, "frobnicator", extra=["-device", "frobnicator,id=x"])


def test_unknown_property(t):
    refused(t, "wobble", extra=["-device", "rtl8139,id=n0,wobble=3"])


def test_unknown_machine(t):
    refused(t, "q35x", extra=["-machine", "q35x"])


def test_dangling_drive(t):
    refused(t, "nowhere", extra=["-device", "ide-cd,id=x,drive=nowhere,bus=ide.1,unit=1"])


def test_bad_bus(t):
    refused(t, "ide.2", extra=["-drive", "if=none,id=d9", "-device",
                              "ide-cd,id=d9,drive=d9,bus=ide.2,unit=0"])


def test_two_drives_in_one_place(t):
    refused(t, "d9", iso="", extra=["-drive", "if=none,id=d9", "-device",
                                      "ide-cd,id=d9,drive=d9,bus=ide.1,unit=0"])


def test_format_without_driver(t):
    with tempfile.NamedTemporaryFile(suffix=".img") as f:
        f.truncate(1 << 20)
        refused(t, "frob", extra=["-drive", "file=%s,if=ide,index=1,media=disk,format=frob" % f.name])


def test_occupied_vnc_port(t):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        display = None
        for n in range(60, 99):
            try:
                s.bind(("127.0.0.1", 5900 + n))
                display = n
                break
            except OSError:
                continue
        t.check(display is not None, "no free port for the test")
        s.listen()
        refused(t, str(5900 + display), vnc="127.0.0.1:%d" % display)


def test_bad_vnc_address(t):
    refused(t, "300.1.2.3", vnc="300.1.2.3:0")


def test_socket_path_without_folder(t):
    refused(t, "/no/such/folder/qmp", extra=["-chardev",
                                            "socket,id=z,path=/no/such/folder/qmp,server=on,wait=off",
                                            "-mon", "chardev=z,mode=control"])


def test_socket_path_too_long(t):
    refused(t, "x" * 20, extra=["-chardev", "socket,id=z,path=/tmp/%s,server=on,wait=off" % ("x" * 120),
                                 "-mon", "chardev=z,mode=control"])


def test_serial_file_without_folder(t):
    refused(t, "/no/such/folder/log", serial="file:/no/such/folder/log")


def test_bad_memory_size(t):
    refused(t, "-m", extra=["-m", "lots"])


def test_bad_vcpus(t):
    refused(t, "-smp", extra=["-smp", "0"])


def test_no_room_for_video_memory(t):
    """The domain's allowance is used up: said before "running"."""
    refused(t, "video", allowance=2)


def test_wrong_domain(t):
    """Xen does not know the domain on the command line."""
    def argv(m):
        a = m.arguments()
        a[1] = "77"
        return a
    refused(t, "77", argv=argv)


def test_no_xen(t):
    """On a machine without Xen: one line, exit 1, no sockets."""
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "qmp")
        env = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "FAKEXEN")}
        p = subprocess.run([t.dm, "-xen-domid", "1", "-chardev",
                            "socket,id=c,path=%s,server=on,wait=off" % path, "-mon",
                            "chardev=c,mode=control", "-nodefaults", "-vnc", "none", "-display", "none",
                            "-machine", "xenfv", "-m", "64"], env=env, capture_output=True, text=True,
                           stdin=subprocess.DEVNULL, timeout=20)
        text = p.stderr + p.stdout
        t.equal(p.returncode, 1, "exit code, output: " + text)
        t.check("xen" in text.lower(), "Xen is not named in: " + text)
        t.equal(len([x for x in text.split("\n") if x.strip()]), 1, "lines: %r" % text)
        t.equal(os.listdir(d), [], "left behind")


def test_help_and_version(t):
    for option in ("-help", "--help", "-h", "-version", "--version"):
        p = subprocess.run([t.dm, option], capture_output=True, text=True, timeout=10,
                           stdin=subprocess.DEVNULL)
        t.equal(p.returncode, 0, option)
        t.check(p.stdout.strip(), option + " prints nothing")
        t.check("Options specific to the Xen version:" not in p.stdout, "libvirt's test phrase")


def test_stale_socket(t):
    """A socket file that a killed process left is replaced."""
    def argv(m):
        for path in (m.qmp_path, m.qmp2_path):
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(path)
        return m.arguments()
    with t.machine(argv=argv) as m:
        m.qmp().close()


def test_vnc_to(t):
    """to=99: the next free port is taken, and query-vnc says which."""
    with t.machine(vnc="127.0.0.1:70,to=99") as a, \
            t.machine(vnc="127.0.0.1:70,to=99", domid=2) as b:
        ports = []
        for m in (a, b):
            q = m.qmp()
            r = q.command("query-vnc")["return"]
            q.close()
            t.equal(r["enabled"], True)
            t.check(isinstance(r["service"], str) and isinstance(r["host"], str), "strings in %r" % r)
            ports.append(int(r["service"]))
            with socket.create_connection(("127.0.0.1", ports[-1]), 5) as s:
                t.equal(s.recv(4), b"RFB ", "greeting")
        t.check(ports[0] != ports[1] and min(ports) >= 5970 and max(ports) <= 5999, "ports %r" % ports)


def test_vnc_none(t):
    with t.machine() as m:
        q = m.qmp()
        t.equal(q.command("query-vnc")["return"]["enabled"], False)
        q.close()


def test_serial_pty(t):
    """query-chardev names the pty, and it works both ways."""
    with t.machine(serial=["pty", "null"]) as m:
        q = m.qmp()
        chardevs = {c["label"]: c["filename"] for c in q.command("query-chardev")["return"]}
        q.close()
        t.check(chardevs.get("serial0", "").startswith("pty:/dev/pts/"), "serial0 in %r" % chardevs)
        t.check("serial1" in chardevs, "serial1 in %r" % chardevs)
        fd = os.open(chardevs["serial0"][4:], os.O_RDWR | os.O_NOCTTY)
        try:
            for c in b"to console":
                m.outb(0x3f8, c)
            got = b""
            while len(got) < 10:
                got += os.read(fd, 100)
            t.equal(got, b"to console")
            os.write(fd, b"K")
            m.cmd("xen poll inb 0x3fd 1 1 3000")
            t.equal(m.inb(0x3f8), ord("K"))
        finally:
            os.close(fd)


def test_forward_reference(t):
    """-device before the -netdev or -drive that it names."""
    with tempfile.NamedTemporaryFile(suffix=".img") as f:
        fakexen.make_image(f.name, 64, 512)
        with t.machine(extra=["-device", "ide-hd,id=x,drive=late,bus=ide.0,unit=1", "-drive",
                              "if=none,id=late,format=raw,file=" + f.name]) as m:
            m.outb(0x1f6, 0xb0)
            t.equal(m.inb(0x1f7) & 0x50, 0x50, "status of the slave")


def test_other_spellings(t):
    """QEMU's other ways to name disks."""
    with tempfile.TemporaryDirectory() as d:
        hda, cd = os.path.join(d, "hda"), os.path.join(d, "cd,with comma")
        fakexen.make_image(hda, 64, 512)
        fakexen.make_image(cd, 16, 2048)
        for extra, where in ((["-hda", hda], (0x1f0, 0xa0)), (["-hdb", hda], (0x1f0, 0xb0)),
                             (["-drive", "file=%s,if=ide,index=3,format=raw" % hda], (0x170, 0xb0)),
                             (["-hdd", hda], (0x170, 0xb0))):
            with t.machine(extra=extra) as m:
                m.outb(where[0] + 6, where[1])
                t.equal(m.inb(where[0] + 7), 0x50, "status with %r" % extra)
        for extra in (["-cdrom", cd],
                      ["-drive", "if=ide,index=2,media=cdrom,file=" + cd.replace(",", ",,")]):
            with t.machine(extra=extra) as m:
                m.outb(0x176, 0xa0)
                t.equal((m.inb(0x174), m.inb(0x175)), (0x14, 0xeb), "signature with %r" % extra)
