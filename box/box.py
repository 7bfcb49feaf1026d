# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen in a box: a real Xen host under QEMU, driven from Python.

    with Box(dm="hvm-dm", images={"install.iso": "/path/guest.iso"}) as box:
        rc, out = box.sh("xl list")
        guest = box.create(box.config(iso=True, vga="stdvga"))
        guest.wait_for("GUEST: user space up", 120)

One box at a time per user and machine (flock). Everything it starts is its own child and dies with it.
"""

import ctypes
import fcntl
import mmap
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import tcg  # noqa: E402

TOP = os.path.dirname(HERE)
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "hvm-dm")
PEER = "/usr/libexec/xen-qemu-system-i386"
HVM_DM = "/usr/libexec/hvm-dm"
UP = "GUEST: user space up"

# SMAP/SMEP kill a PV dom0 under TCG; MONITOR faults in Xen's idle loop; RDTSCP has no instruction length without NRIP;
# with AVX/XSAVE about one run in three went wrong at random.
TCG_CPU = ("EPYC,+svm,+npt,-nrip-save,-smap,-smep,-monitor,-rdtscp,-avx,-avx2,-f16c,-fma,"
           "-xsave,-xsaveopt,-xsavec,-xgetbv1")


class BoxError(Exception):
    """The box or a command in it failed; the text says which."""


def say(text):
    print(text, flush=True)


def _die_with_parent():
    os.setsid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # PR_SET_PDEATHSIG


def have_kvm():
    """True where KVM can run Xen: the device alone is not enough, the CPU must offer SVM or VMX."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        flags = re.search(r"^flags\s*:(.*)$", f.read(), re.M)
    return bool(flags and {"svm", "vmx"} & set(flags.group(1).split())) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def make(script, *args):
    """Runs a box/mk* script; returns the cache folder it prints."""
    run = subprocess.run([os.path.join(HERE, script), *args], check=False, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise BoxError(f"box/{script} failed, exit status {run.returncode}; what it said is above")
    return run.stdout.strip().splitlines()[-1]


def run_program(name, prepare):
    """A program that does something in a box. prepare() makes what it needs and returns the Box, not yet started, and a function
    that starts it and does the work, and returns the exit code. Both are done once more when the software CPU failed. Returns
    the program's exit code."""
    repeated = False
    while True:
        box = None
        try:
            box, work = prepare()
            return work()
        except BoxError as e:
            why = box.failed_by_tcg() if box else None
            if repeated or not why:
                print(f"{name}: {e}", file=sys.stderr)
                return 1
            print(f"{name}: the software CPU failed ({why}); once more", file=sys.stderr)
            repeated = True
        except KeyboardInterrupt:
            print("  stopped", flush=True)
            return 130


class Box:
    """A running Xen host. dm: "hvm-dm" (build/hvm-dm), "peer" or the path of a binary.

    images: name in dom0's /images -> path here, or (path, "rw") for a disk whose changes are to be kept. Images
    come in as virtio disks; read-only ones up to 300 MB are copied into dom0's memory, so that no test measures QEMU.
    out: folder for console.log, guest-*.log, xl-*.log, dm-*.log (a temporary one without it).
    vnc_port: port on 127.0.0.1 here that leads to dom0's 127.0.0.1:5900, None for no way in.
    """

    def __init__(self, dm="hvm-dm", images=None, out=None, vnc_port=None, verbose=False, memory_mb=4608, cpus=2):
        self.images = dict(images or {})
        self.vnc_port = vnc_port
        self.verbose = verbose
        self.memory_mb, self.cpus = memory_mb, cpus
        self.dm = dm
        self.qemu = self.ctl = self.lock = None
        self.work = tempfile.mkdtemp(prefix="hvm-dm-box-")
        self.share = os.path.join(self.work, "share")
        os.makedirs(os.path.join(self.share, "cmd"))
        self.keep = out is not None
        self.out = os.path.abspath(out) if out else os.path.join(self.work, "out")
        os.makedirs(self.out, exist_ok=True)
        self.answers, self.pending, self.count = {}, b"", 0
        self.guests = 0
        self.timings = {}
        self.console = ""       # Xen's and dom0's console, kept when the box is closed

    # -- life -----------------------------------------------------------------------------------------

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def start(self, timeout=180):
        """Boots it; returns when dom0 takes commands and the images are in place."""
        dom0 = make("mkdom0")
        self._take_lock()
        t0 = time.monotonic()
        sock = os.path.join(self.work, "ctl")
        kvm = have_kvm()
        net = "user,id=n0,restrict=on"
        if self.vnc_port is not None:
            net += f",hostfwd=tcp:127.0.0.1:{self.vnc_port}-:5900"
        drives = [(f"{dom0}/root.img", "snapshot=on")]
        for spec in self.images.values():
            path, mode = spec if isinstance(spec, tuple) else (spec, "ro")
            if not os.path.exists(path):
                raise BoxError(f"{path}: no such file")
            drives.append((os.path.abspath(path), "readonly=on" if mode == "ro" else "readonly=off"))
        cmd = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
               "-machine", "pc,usb=off", "-smp", str(self.cpus), "-m", str(self.memory_mb),
               *(["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi", "-cpu", TCG_CPU]),
               "-kernel", f"{dom0}/xen", "-append",
               "dom0_mem=2048M,max:2048M com1=115200,8n1 console=com1 cpuidle=0 loglvl=warning guest_loglvl=info/debug",
               "-initrd", f"{dom0}/vmlinuz console=hvc0 quiet nokaslr mitigations=off,{dom0}/initrd",
               "-serial", f"file:{self.out}/console.log",
               "-netdev", net, "-device", "virtio-net-pci,netdev=n0,romfile=",
               "-device", "virtio-serial-pci", "-chardev", f"socket,id=ctl,path={sock},server=on,wait=off",
               "-device", "virtserialport,chardev=ctl,name=ctl", "-device", "virtio-rng-pci",
               "-virtfs", f"local,path={self.share},mount_tag=share,security_model=none,multidevs=remap"]
        for i, (path, mode) in enumerate(drives):
            cmd += ["-drive", f"if=none,id=d{i},format=raw,{mode},file={path.replace(',', ',,')}",
                    "-device", f"virtio-blk-pci,drive=d{i}"]
        open(f"{self.out}/console.log", "w", encoding="ascii").close()
        log = open(f"{self.out}/qemu.log", "wb")
        # pylint: disable=consider-using-with, subprocess-popen-preexec-fn
        self.qemu = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     preexec_fn=_die_with_parent)
        log.close()
        self.ctl = socket.socket(socket.AF_UNIX)
        for _ in range(200):
            try:
                self.ctl.connect(sock)
                break
            except OSError:
                if self.qemu.poll() is not None:
                    raise BoxError("the box did not start: " + self._read("qemu.log")[-500:].strip()) from None
                time.sleep(0.05)
        self._answer("up", timeout)
        self.timings["dom0 up"] = time.monotonic() - t0
        self._bring_images()
        self._bring_dm()
        self.timings["box ready"] = time.monotonic() - t0
        if self.verbose:
            say(f"  dom0 up after {self.timings['dom0 up']:.1f} s, ready after {self.timings['box ready']:.1f} s "
                f"({'KVM' if kvm else 'software CPU'})")
        return self

    def _take_lock(self):
        os.makedirs(CACHE, exist_ok=True)
        # pylint: disable=consider-using-with
        self.lock = open(os.path.join(CACHE, "box.lock"), "w", encoding="ascii")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("  waiting for another box to end")
            fcntl.flock(self.lock, fcntl.LOCK_EX)

    def close(self):
        """Powers off (or kills) the box and removes its folder."""
        if self.qemu and self.qemu.poll() is None:
            self.qemu.kill()        # the root disk is a snapshot; "rw" images are flushed by off()
        if self.qemu:
            self.qemu.wait()
            self.console = self._read("console.log") or self.console
        if self.ctl:
            self.ctl.close()
        if self.lock:
            self.lock.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def off(self, timeout=20):
        """Orderly power-off: what guests wrote to "rw" images is on disk afterwards."""
        self.sh("sync; for d in $(xl list | awk 'NR>2{print $2}'); do xl destroy $d; done; sync", timeout)
        self.ctl.sendall(b"off\n")
        try:
            self.qemu.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        self.close()

    def read_console(self):
        """Xen's and dom0's console so far."""
        return self._read("console.log") or self.console

    def failed_by_tcg(self, since=0):
        """A text when the console, from a place in it on, shows one of the known errors of the software CPU, else None."""
        return None if have_kvm() else tcg.explain(self.read_console()[since:], make("mkkernel"))

    def triple_fault(self, since=0):
        """A text when the console, from a place in it on, shows a guest's triple fault of whatever kind, else None."""
        found = None if have_kvm() else tcg.TRIPLE.search(self.read_console()[since:])
        return f"guest triple fault at {int(found[2], 16):x}, of no known kind" if found else None

    # -- commands -------------------------------------------------------------------------------------

    def _read(self, name):
        try:
            with open(os.path.join(self.out, name), encoding="utf-8", errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def _answer(self, ident, timeout):
        end = time.monotonic() + timeout
        while ident not in self.answers:
            left = end - time.monotonic()
            if left <= 0:
                return None if ident != "up" else self._lost("dom0 did not come up in time")
            self.ctl.settimeout(min(left, 1))
            try:
                data = self.ctl.recv(4096)
            except socket.timeout:
                data = None
            if data == b"" or self.qemu.poll() is not None:
                self._lost("the box went off")
            self.pending += data or b""
            *lines, self.pending = self.pending.split(b"\n")
            for line in lines:
                key, _, value = line.decode("ascii", "replace").partition(" ")
                self.answers[key] = value
        return self.answers.pop(ident)

    def _lost(self, text):
        tail = "\n".join(self._read("console.log").splitlines()[-15:])
        raise BoxError(f"{text}; end of its console:\n{tail}")

    def start_sh(self, command):
        """Starts a bash script in dom0; returns an id for wait_sh()."""
        self.count += 1
        ident = f"c{self.count}"
        with open(f"{self.share}/cmd/{ident}", "w", encoding="utf-8") as f:
            f.write(command + "\n")
        self.ctl.sendall(f"{ident}\n".encode())
        return ident

    def wait_sh(self, ident, timeout=60):
        """(exit status, output); status None when it has not ended in time (it goes on running)."""
        status = self._answer(ident, timeout)
        try:
            with open(f"{self.share}/cmd/{ident}.out", encoding="utf-8", errors="replace") as f:
                out = f.read()
        except OSError:
            out = ""
        return (None if status is None else int(status)), out

    def sh(self, command, timeout=60):
        """Runs a bash script in dom0: (exit status or None, stdout and stderr)."""
        return self.wait_sh(self.start_sh(command), timeout)

    def check_sh(self, command, timeout=60):
        """Like sh(), but returns the output alone and raises where the status is not 0."""
        status, out = self.sh(command, timeout)
        if status != 0:
            raise BoxError(f"in dom0: {command!r} gave {status}: {out.strip()}")
        return out

    def put(self, path, dom0_path):
        """Copies a file into dom0, with its mode."""
        shutil.copy(path, f"{self.share}/put")
        self.check_sh(f"rm -f {shlex.quote(dom0_path)}; cp /share/put {shlex.quote(dom0_path)}", 120)

    def get(self, dom0_path, path):
        """Copies a file out of dom0; False where it does not exist."""
        status, _ = self.sh(f"cp {shlex.quote(dom0_path)} /share/get && chmod 644 /share/get", 120)
        if status == 0:
            shutil.move(f"{self.share}/get", path)
        return status == 0

    # -- what is in it --------------------------------------------------------------------------------

    def _bring_images(self):
        script = []
        for i, (name, spec) in enumerate(self.images.items()):
            dev = f"/dev/vd{chr(ord('b') + i)}"
            path, mode = spec if isinstance(spec, tuple) else (spec, "ro")
            size = os.path.getsize(path)
            if mode == "ro" and os.path.isfile(path) and size <= 300 << 20:
                script.append(f"head -c {size} {dev} > /images/{name}")
            else:
                script.append(f"ln -sf {dev} /images/{name}")
        if script:
            self.check_sh("set -e\n" + "\n".join(script), 120)

    def iso_for(self, variant, source="install.iso", entry="text", menu_s=2, **options):
        """Makes /images/VARIANT from the test CD or the installer CD: the menu entry taken by default (text, graphics, normal) after
        menu_s seconds and options of box/guest/init (job="bench", end="poweroff", ...); returns the name."""
        path = self.images[source]
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as image:
            default = re.search(rb"timeout 20  \nontimeout text {10}\n", image)
            fields = list(re.finditer(rb"hvmdm\.job=[a-z]+#+\n", image))
            if not default or len(fields) != 3:
                raise BoxError(f"{path} is not the test CD")
            text = " ".join(f"hvmdm.{k}={v}" for k, v in {"job": "check", **options}.items())
            width = fields[0].end() - fields[0].start() - 1
            if len(text) > width:
                raise BoxError(f"options too long: {text}")
            edits = [(default.start() + 8, f"{menu_s * 10:<4}"), (default.start() + 23, f"{entry:14}")]
            edits += [(m.start(), text.ljust(width, "#")) for m in fields]
        target = f"/images/{variant}"
        self.check_sh(f"cp /images/{source} {target}\n" + "\n".join(
            f"printf %s '{t}' | dd of={target} bs=1 seek={at} conv=notrunc status=none" for at, t in edits), 60)
        return variant

    def _bring_dm(self):
        if self.dm == "peer":
            return
        path = os.path.join(TOP, "build", "hvm-dm") if self.dm == "hvm-dm" else self.dm
        if not os.access(path, os.X_OK):
            raise BoxError(f"{path}: no such program (run make first)")
        self.use_dm(path)

    def use_dm(self, path):
        """Puts a device model binary at HVM_DM in dom0, with those libraries that dom0's image lacks."""
        self.put(path, HVM_DM)
        lacking = re.findall(r"^\s*(\S+) => not found", self.sh(f"ldd {HVM_DM}")[1], re.M)
        if lacking:
            here = subprocess.run(["ldd", path], stdout=subprocess.PIPE, text=True, check=False).stdout
            for lib in re.findall(r"^\s*\S+ => (/\S+)", here, re.M):
                name = os.path.basename(lib)
                if self.sh(f"test -e /lib/x86_64-linux-gnu/{name}")[0] != 0:
                    self.put(lib, f"/usr/lib/x86_64-linux-gnu/{name}")
            self.check_sh("ldconfig")

    def dm_path(self, dm=None):
        """Where the device model is in dom0."""
        return PEER if (dm or self.dm) == "peer" else HVM_DM

    def config(self, dm=None, iso=None, disk=None, extra=(), **options):
        """xl.cfg text. iso, disk: names in /images. options: key=value of xl.cfg; extra: lines as they are."""
        disks = []
        if disk:
            disks.append(f"'file:/images/{disk},ioemu:hda,w'" if "," not in disk else f"'{disk}'")
        if iso:
            disks.append(f"'file:/images/{iso},hdc:cdrom,r'")
        keys = {"builder": "hvm", "memory": 256, "vcpus": 1, "name": f"guest{self.guests + 1}",
                "boot": "d" if iso else "c", "vnc": 1, "on_crash": "preserve"}
        keys.update(options)
        lines = [f"{k} = {v!r}" for k, v in keys.items() if v is not None]
        lines.append(f"disk = [ {', '.join(disks)} ]")
        lines += self.dm_lines(dm)
        return "\n".join([*lines, *extra]) + "\n"

    def dm_lines(self, dm=None):
        """The two configuration lines that select the device model."""
        return ["device_model_version = 'qemu-xen'", f"device_model_override = '{self.dm_path(dm)}'"]

    def create(self, config, timeout=120, serial="file"):
        """xl create; returns a Guest, raises BoxError with xl's and the device model's words.

        serial: "file" adds the line that makes the serial output readable here; "pty" adds serial='pty' and reads
        it through `xl console -t serial`, from before the first instruction; None adds nothing.
        """
        self.guests += 1
        return Guest(self, self.guests, config, timeout, serial)


class Guest:
    """One domain. log: its serial output so far, t0: when `xl create` was started (time.monotonic())."""

    def __init__(self, box, number, config, timeout, serial):
        self.box = box
        self.number = number
        found = re.search(r"^\s*name\s*=\s*['\"](.*?)['\"]", config, re.M)
        self.name = found.group(1) if found else f"guest{number}"
        self.serial = f"/tmp/serial-{number}"
        self.log_file = f"{box.out}/guest-{number}.log"
        if serial and not re.search(r"^\s*serial\s*=", config, re.M):
            config += f"serial = '{'pty' if serial == 'pty' else 'file:' + self.serial}'\n"
        with open(f"{box.share}/guest-{number}.cfg", "w", encoding="utf-8") as f:
            f.write(config)
        shutil.copy(f"{box.share}/guest-{number}.cfg", box.out)
        if serial == "file":
            # This copy of the output costs the guest nothing: only the tail process writes to the share.
            box.start_sh(f"touch {self.serial}; exec tail -c +1 -f {self.serial} > /share/serial-{number}")
        self.t0 = time.monotonic()
        pause = "-p" if serial == "pty" else ""
        status, out = box.sh(f"xl -v create {pause} /share/guest-{number}.cfg", timeout)
        self.created = time.monotonic() - self.t0
        self.xl_output = out
        with open(f"{box.out}/xl-{number}.log", "w", encoding="utf-8") as f:
            f.write(out)
        if status != 0:
            dm_log = self.dm_log()
            self.destroy()
            raise BoxError(f"xl create gave {status}:\n{out.strip()}\n--- device model's log:\n{dm_log.strip()}")
        self.domid = int(box.check_sh(f"xl domid {self.name}"))
        pid = box.check_sh(f"xenstore-read /local/domain/{self.domid}/image/device-model-pid").strip()
        self.dm_pid = int(pid)
        if serial == "pty":
            # xl console reads no input unless it has a terminal.
            box.start_sh(f"touch {self.serial}; tail -f {self.serial} | socat - "
                         f"'EXEC:xl console -t serial {self.name},pty,ctty,setsid,rawer' > /share/serial-{number}")
            box.check_sh(f"sleep 1; xl unpause {self.name}")
            self.t0 = time.monotonic()

    def type_serial(self, text):
        """Sends text to the guest's serial line (only with serial="pty")."""
        self.box.check_sh(f"printf %s {shlex.quote(text)} >> {self.serial}")


    @property
    def log(self):
        """Serial output so far."""
        try:
            with open(f"{self.box.share}/serial-{self.number}", encoding="utf-8", errors="replace") as f:
                text = f.read()
        except OSError:
            return ""
        with open(self.log_file, "w", encoding="utf-8") as f:
            f.write(text)
        return text

    def wait_for(self, pattern, timeout):
        """Waits until the serial output matches; returns (match, seconds since xl create) or raises BoxError."""
        regex = re.compile(pattern, re.M)
        end = time.monotonic() + timeout
        while True:
            found = regex.search(self.log)
            if found:
                return found, time.monotonic() - self.t0
            if self.box.qemu.poll() is not None:
                raise BoxError("the box went off")
            self.check_alive()
            if time.monotonic() > end:
                raise BoxError(f"guest {self.name}: nothing like {pattern!r} on its serial line in {timeout} s; "
                               f"state {self.state() or 'gone'}; it ends:\n{self.log[-600:]}\n--- device model's log:\n"
                               f"{self.dm_log()[-600:]}")
            time.sleep(0.2)

    def check_alive(self):
        """Raises BoxError when the guest ended in a triple fault."""
        rip = tcg.triple_fault(self.box.read_console(), self.domid)
        if rip is not None:
            raise BoxError(f"guest {self.name}: triple fault at {rip:x}; its serial output ends:\n{self.log[-600:]}")

    def beside(self, command, timeout):
        """Runs a bash script in dom0 that needs the guest: (exit status or None, output); BoxError once the guest is dead."""
        ident, end = self.box.start_sh(command), time.monotonic() + timeout
        while True:
            status, out = self.box.wait_sh(ident, 5)
            if status is not None or time.monotonic() > end:
                return status, out
            self.check_alive()

    def state(self):
        """xl's state letters ("r-----"), "" when the domain is gone."""
        return self.box.sh(f"xl list {self.name} 2>/dev/null | awk 'NR==2 {{ print $5 }}'")[1].strip()

    def wait_gone(self, timeout):
        """Waits until the domain is gone; True when it is."""
        return self.box.sh(f"for i in $(seq {int(timeout * 5)}); do xl domid {self.name} > /dev/null 2>&1 || exit 0; "
                           f"sleep 0.2; done; exit 1", timeout + 20)[0] == 0

    def dm_log(self):
        """The device model's log of the latest start."""
        out = self.box.sh(f"cat /var/log/xen/qemu-dm-{self.name}.log")[1]
        with open(f"{self.box.out}/dm-{self.number}.log", "w", encoding="utf-8") as f:
            f.write(out)
        return out

    def dm_stat(self):
        """What the device model has used: dict of cpu_s, switches (by thread), rss_kb, private_kb, threads."""
        out = self.box.check_sh(f"""cd /proc/{self.dm_pid} || exit 1
            cat stat && getconf CLK_TCK && grep -E '^(VmRSS|Threads)' status && cat smaps_rollup || exit 1
            grep -s ctxt_switches task/*/status; true""")
        fields = out.splitlines()[0].rpartition(") ")[2].split()
        tick = int(out.splitlines()[1])
        switches = {}
        for thread, number in re.findall(r"task/(\d+)/status:\w*ctxt_switches:\s*(\d+)", out):
            switches[thread] = switches.get(thread, 0) + int(number)
        return {"cpu_s": (int(fields[11]) + int(fields[12])) / tick,
                "switches": switches,
                "rss_kb": int(re.search(r"VmRSS:\s*(\d+)", out).group(1)),
                "private_kb": sum(map(int, re.findall(r"^Private_(?:Clean|Dirty):\s*(\d+)", out, re.M))),
                "threads": int(re.search(r"Threads:\s*(\d+)", out).group(1))}

    def destroy(self):
        """xl destroy, if it is still there."""
        self.box.sh(f"xl destroy {self.name} 2>&1", 60)
