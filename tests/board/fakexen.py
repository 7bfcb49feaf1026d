# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a device model on the fake hypervisor and talks to it.

    with Machine(dm="build/hvm-dm") as m:
        m.outb(0x70, 0x38)
        print(m.inb(0x71))

Machine starts tests/fakexen's hypervisor, which starts the device model with the command line that
libxl would give it (toolstack contract 1.3) and waits for the "running" in xenstore. Everything it
makes lives in one temporary directory that goes away with it.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("FAKEXEN_BUILD", os.path.join(TOP, "build", "tests", "fakexen"))
PEER = "/usr/libexec/xen-qemu-system-i386"
HVM_DM = os.path.join(TOP, "build", "hvm-dm")
SECTOR = 512
CD_SECTOR = 2048
BODY = bytes((i * 7 + (i >> 8)) & 0xff for i in range(CD_SECTOR))
SHIFTS = [bytes((i + n) & 0xff for i in range(256)) for n in range(256)]


class QtestError(Exception):
    """The fake hypervisor answered FAIL or ERR, or went away."""


class StartError(Exception):
    """The device model did not come up. text is its log, status its end ("exited 1")."""

    def __init__(self, status, text):
        super().__init__("device model %s\n%s" % (status, text))
        self.status = status
        self.text = text


def resolve_dm(name):
    """Turns "peer" and "hvm-dm" into paths; anything else is a path already."""
    return {"peer": PEER, "hvm-dm": HVM_DM}.get(name, name)


def is_peer(path):
    return "qemu" in os.path.basename(path)


def pattern(sector, size):
    """The content of a test image's sector: no two sectors and no two positions alike."""
    head = b"sector %d of %d bytes " % (sector, size)
    shift = SHIFTS[sector * 13 & 0xff]
    return head + BODY[:size - len(head)].translate(shift)


def make_image(path, sectors, size):
    with open(path, "wb") as f:
        for i in range(sectors):
            f.write(pattern(i, size))


class Client:
    """One connection to the text protocol; drives one vCPU at a time."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb")
        self.info = []  # "# " lines of the last answer
        self.irqs = []  # IRQ lines since somebody emptied it

    def close(self):
        self.file.close()
        self.sock.close()

    def send(self, line):
        self.sock.sendall(line.encode() + b"\n")

    def receive(self):
        """The next OK/FAIL/ERR line; remembers what came before it."""
        self.info = []
        while True:
            line = self.file.readline()
            if not line:
                raise QtestError("the fake hypervisor closed the connection")
            text = line.decode(errors="replace").rstrip("\n")
            if text.startswith("# "):
                self.info.append(text[2:])
            elif text.startswith("IRQ "):
                self.irqs.append(text[4:])
            else:
                return text

    def raw(self, line):
        """Sends a line, returns the whole answer line."""
        self.send(line)
        return self.receive()

    def cmd(self, line):
        """Sends a line, returns what follows OK. Raises QtestError on FAIL and ERR."""
        answer = self.raw(line)
        if not answer.startswith("OK"):
            raise QtestError("%s: %s" % (line[:80], answer))
        return answer[3:]

    def batch(self, lines):
        """Puts many lines at once; returns the answer lines. None of them may change the others'
        text: the answers are read after they have been sent."""
        answers = []
        for i in range(0, len(lines), 100):
            part = lines[i:i + 100]
            self.sock.sendall("".join(line + "\n" for line in part).encode())
            answers += [self.receive() for _ in part]
        return answers

    def values(self, lines):
        """batch for reads and writes: the numbers that the reads gave, in order."""
        out = []
        for line, answer in zip(lines, self.batch(lines)):
            if not answer.startswith("OK"):
                raise QtestError("%s: %s" % (line[:80], answer))
            if len(answer) > 3:
                out.append(int(answer[3:].split()[0], 0))
        return out

    def fields(self, line):
        """Sends a line whose answer is "name=value ..."; returns a dict of strings."""
        words = (w.partition("=") for w in self.cmd(line).split())
        return {name: value for name, eq, value in words if eq}

    def inb(self, port):
        return int(self.cmd("inb %#x" % port), 16)

    def inw(self, port):
        return int(self.cmd("inw %#x" % port), 16)

    def inl(self, port):
        return int(self.cmd("inl %#x" % port), 16)

    def outb(self, port, value):
        self.cmd("outb %#x %#x" % (port, value))

    def outw(self, port, value):
        self.cmd("outw %#x %#x" % (port, value))

    def outl(self, port, value):
        self.cmd("outl %#x %#x" % (port, value))

    def readb(self, addr):
        return int(self.cmd("readb %#x" % addr), 16)

    def readw(self, addr):
        return int(self.cmd("readw %#x" % addr), 16)

    def readl(self, addr):
        return int(self.cmd("readl %#x" % addr), 16)

    def readq(self, addr):
        return int(self.cmd("readq %#x" % addr), 16)

    def writeb(self, addr, value):
        self.cmd("writeb %#x %#x" % (addr, value))

    def writew(self, addr, value):
        self.cmd("writew %#x %#x" % (addr, value))

    def writel(self, addr, value):
        self.cmd("writel %#x %#x" % (addr, value))

    def writeq(self, addr, value):
        self.cmd("writeq %#x %#x" % (addr, value))

    def read(self, addr, size):
        return bytes.fromhex(self.cmd("read %#x %d" % (addr, size))[2:])

    def write(self, addr, data):
        self.cmd("write %#x %d 0x%s" % (addr, len(data), data.hex()))

    def pci_read(self, dev, fn, reg, size=4):
        self.outl(0xcf8, 0x80000000 | dev << 11 | fn << 8 | reg & 0xfc)
        return {1: self.inb, 2: self.inw, 4: self.inl}[size](0xcfc + (reg & 3))

    def pci_write(self, dev, fn, reg, value, size=4):
        self.outl(0xcf8, 0x80000000 | dev << 11 | fn << 8 | reg & 0xfc)
        {1: self.outb, 2: self.outw, 4: self.outl}[size](0xcfc + (reg & 3), value)


class Qmp:
    """A QMP connection as libxl makes it: greeting, CR LF, integer ids."""

    def __init__(self, path, timeout=10):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.buf = b""
        self.next_id = 0x786c7100
        self.greeting = None

    def close(self):
        self.sock.close()

    def message(self):
        """The next message; checks that it is one line that ends in CR LF."""
        while b"\r\n" not in self.buf:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("QMP connection closed, rest %r" % self.buf)
            self.buf += data
        line, self.buf = self.buf.split(b"\r\n", 1)
        if b"\n" in line:
            raise ValueError("bare newline in a QMP message: %r" % line)
        return json.loads(line)

    def reply(self):
        """The next message that is not an event."""
        while True:
            m = self.message()
            if "event" not in m:
                return m

    def handshake(self):
        self.greeting = self.message()
        return self.command("qmp_capabilities")

    def command(self, name, **arguments):
        """Runs a command; returns the whole reply object."""
        m = {"execute": name, "id": self.next_id}
        if arguments:
            m["arguments"] = arguments
        self.next_id += 1
        self.sock.sendall(json.dumps(m).encode() + b"\r\n")
        reply = self.reply()
        if reply.get("id") != m["id"]:
            raise ValueError("reply %r to request %r" % (reply, m))
        return reply


class Machine(Client):
    """A fake hypervisor with a device model on it. Parameters:

    dm          path of the device model, or "peer" or "hvm-dm"
    vga         "cirrus", "stdvga" or None
    mem, video  MiB of guest RAM and of video memory
    disk, iso   image paths; None: none; True: an image with known content (see pattern)
    boot, platform, vcpus, serial, vnc, name    as in xl.cfg
    extra       more arguments, at the place of device_model_args_hvm
    allowance   MiB that the domain may have for video memory, if not video
    argv        replaces all arguments (a function of the machine, or a list)
    wait        wait for "running"; raises StartError if it does not come
    """

    def __init__(self, dm="hvm-dm", vga="cirrus", mem=64, video=None, disk=None, iso=None,
                 boot="cda", platform=True, vcpus=1, serial=(), vnc="none", name="board-test",
                 domid=1, extra=(), argv=None, wait=True, timeout_ms=10000, dir_root=None,
                 disk_mib=4, iso_mib=4, env=None, allowance=None):
        self.dm = resolve_dm(dm)
        self.dir = tempfile.mkdtemp(prefix="fakexen-", dir=dir_root)
        self.domid = domid
        self.vga, self.mem, self.boot, self.platform = vga, mem, boot, platform
        self.video = video if video is not None else 16 if vga == "stdvga" else 8
        self.vcpus, self.serial, self.vnc, self.name = vcpus, serial, vnc, name
        self.extra, self.env = extra, env
        self.allowance = self.video if allowance is None else allowance
        self.proc = None
        self.sock = self.file = None
        self.log_path = os.path.join(self.dir, "dm.log")
        self.qmp_path = os.path.join(self.dir, "qmp-libxl")
        self.qmp2_path = os.path.join(self.dir, "qmp-libxenstat")
        self.qtest_path = os.path.join(self.dir, "qtest")
        try:
            if disk is True:
                disk = os.path.join(self.dir, "disk.img")
                make_image(disk, disk_mib << 11, SECTOR)
            if iso is True:
                iso = os.path.join(self.dir, "cd.iso")
                make_image(iso, iso_mib << 9, CD_SECTOR)
            self.disk, self.iso = disk, iso
            args = argv(self) if callable(argv) else argv
            self._start(args if args is not None else self.arguments(), timeout_ms)
            if wait:
                self.wait_running()
        except BaseException:
            self.close()
            raise

    def arguments(self):
        """The arguments that libxl would give."""
        a = ["-xen-domid", str(self.domid), "-no-shutdown",
             "-chardev", "socket,id=libxl-cmd,path=%s,server=on,wait=off" % self.qmp_path,
             "-mon", "chardev=libxl-cmd,mode=control",
             "-chardev", "socket,id=libxenstat-cmd,path=%s,server=on,wait=off" % self.qmp2_path,
             "-mon", "chardev=libxenstat-cmd,mode=control",
             "-nodefaults", "-no-user-config", "-name", self.name, "-vnc", self.vnc,
             "-display", "none"]
        for s in [self.serial] if isinstance(self.serial, str) else self.serial:
            a += ["-serial", s]
        if self.vga:
            a += ["-device", "%s,vgamem_mb=%d" % ({"cirrus": "cirrus-vga", "stdvga": "VGA"}[self.vga],
                                                 self.video)]
        a += ["-boot", "order=" + self.boot]
        if self.vcpus > 1:
            a += ["-smp", "%d,maxcpus=%d" % (self.vcpus, self.vcpus)]
        if "-netdev" not in self.extra:
            a += ["-net", "none"]
        a += ["-machine",
              "xenfv,suppress-vmdesc=on" if self.platform else "pc,accel=xen,suppress-vmdesc=on"]
        a += list(self.extra) + ["-m", str(self.mem)]
        if self.disk:
            a += ["-drive", "file=%s,if=ide,index=0,media=disk,format=raw,cache=writeback" % self.disk]
        if self.iso is not None:
            a += ["-drive", "if=none,readonly=on,id=ide-5632" +
                  (",file=%s,format=raw" % self.iso if self.iso else ""),
                  "-device", "ide-cd,id=ide-5632,drive=ide-5632,bus=ide.1,unit=0"]
        return a

    def _start(self, args, timeout_ms):
        cmd = [os.path.join(BUILD, "fakexen"), "--qtest", self.qtest_path,
               "--control", os.path.join(self.dir, "control"),
               "--preload", os.path.join(BUILD, "libfakexen.so"), "--domid", str(self.domid),
               "--vcpus", str(self.vcpus), "--mem", str(self.mem), "--video", str(self.allowance),
               "--timeout", str(timeout_ms), "--log", self.log_path,
               "--at-running", self.qmp_path, "--at-running", self.qmp2_path, "--", self.dm] + list(args)
        env = dict(os.environ, **(self.env or {}))
        self.proc = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, env=env)
        deadline = time.monotonic() + 10
        while True:
            try:
                Client.__init__(self, self.qtest_path)
                return
            except OSError:
                if self.proc.poll() is not None or time.monotonic() > deadline:
                    raise StartError("not started: fakexen itself failed", "") from None
                time.sleep(0.002)

    def wait_running(self, seconds=20):
        try:
            self.cmd("xen wait_xs device-model/%d/state running %d" % (self.domid, seconds * 1000))
        except QtestError:
            raise StartError(self.dm_status(), self.log()) from None

    def dm_pid(self):
        return int(self.fields("xen dm")["pid"])

    def dm_status(self):
        """ "running", "exited N" or "killed by signal N"."""
        return self.cmd("xen dm").split(" ", 1)[1]

    def wait_exit(self, seconds=5):
        """Waits for the device model to end; returns its status, or "running"."""
        return self.raw("xen wait_exit %d" % (seconds * 1000)).split(" ", 1)[1]

    def log(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def client(self, vcpu=0):
        """Another connection, for another vCPU."""
        c = Client(self.qtest_path)
        if vcpu:
            c.cmd("xen vcpu %d" % vcpu)
        return c

    def qmp(self, second=False):
        q = Qmp(self.qmp2_path if second else self.qmp_path)
        q.handshake()
        return q

    def close(self):
        if self.file:
            Client.close(self)
            self.file = None
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(5)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
