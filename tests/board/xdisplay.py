# SPDX-License-Identifier: GPL-2.0-or-later
"""An X display of a test's own: Xvfb with a window manager, its picture as bytes, keys and pointer through XTEST.

Everything runs as processes of its own (xdotool, xwininfo, xprop): Xlib would end this one with the server."""
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time

from harness import Failure

WIDTH, HEIGHT = 1280, 960
# The window manager takes no key for itself but this one, and places windows where they ask.
MANAGER = """<openbox_config xmlns="http://openbox.org/3.4/rc"><focus><focusNew>yes</focusNew></focus>
<theme><animateIconify>no</animateIconify></theme><desktops><number>1</number><popupTime>0</popupTime></desktops>
<keyboard><keybind key="A-F4"><action name="Close"/></keybind></keyboard><mouse/><menu/></openbox_config>"""


def until(what, condition, seconds=10):
    """Waits for condition() to be true and returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure("not within %d s: %s" % (seconds, what() if callable(what) else what))
        time.sleep(0.02)


class XDisplay:
    """A server without a pointer in its picture and without key repeats, which would depend on time."""

    def __init__(self, manager=True, depth=24):
        self.dir = tempfile.mkdtemp(prefix="xdisplay-")
        self.processes = []
        self.map = None
        try:
            r, w = os.pipe()
            size = "%dx%dx%d" % (WIDTH, HEIGHT, depth)
            self.server = self.spawn(["Xvfb", "-displayfd", str(w), "-screen", "0", size, "-fbdir", self.dir,
                                      "-nolisten", "tcp", "-noreset", "-nocursor", "-r"], pass_fds=[w])
            os.close(w)
            with os.fdopen(r) as f:
                number = f.readline().strip()  # it writes this when it accepts clients
            if not number:
                raise Failure("Xvfb does not start")
            self.name = ":" + number
            self.env = dict(os.environ, DISPLAY=self.name, HOME=self.dir, XDG_CONFIG_HOME=self.dir)
            self.env.pop("XAUTHORITY", None)
            if manager:
                ready, config = os.path.join(self.dir, "ready"), os.path.join(self.dir, "rc.xml")
                with open(config, "w") as f:
                    f.write(MANAGER)
                self.spawn(["openbox", "--sm-disable", "--config-file", config, "--startup", "touch " + ready],
                           env=self.env)
                until("the window manager", lambda: os.path.exists(ready))
            with open(os.path.join(self.dir, "Xvfb_screen0"), "rb") as f:
                self.map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        except BaseException:
            self.close()
            raise

    def spawn(self, argv, **kw):
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kw)
        self.processes.append(p)
        return p

    def run(self, *argv):
        """Output of a tool, or "" if it failed."""
        r = subprocess.run(argv, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        return r.stdout if r.returncode == 0 else ""

    def do(self, *words):
        """xdotool."""
        r = subprocess.run(["xdotool", *(str(w) for w in words)], env=self.env, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=20)
        if r.returncode:
            raise Failure("xdotool %s: %s" % (words, r.stderr))
        return r.stdout

    def window(self, name):
        """Id of the window whose title begins so, once it is there."""
        found = until("a window " + name, lambda: self.run("xdotool", "search", "--onlyvisible", "--name", "^" + name))
        return found.split()[0]

    def focused(self, window):
        return self.run("xdotool", "getwindowfocus").strip() == window

    def title(self, window):
        return self.run("xdotool", "getwindowname", window).strip()

    def place(self, window):
        """x, y, width, height on the screen, without the frame."""
        text = self.run("xwininfo", "-id", window)
        found = re.findall(r"(?:Absolute upper-left [XY]|Width|Height): +(-?\d+)", text)
        return tuple(int(v) for v in found) if len(found) == 4 else None

    def state(self, window):
        return self.run("xprop", "-id", window, "_NET_WM_STATE", "WM_STATE")

    def rows(self, x, y, w, h):
        """That part of the screen; None where it is not on the screen. A pixel is four bytes, the last of them 0,
        or two on a screen of 16 bits. The file is Xvfb's own frame buffer, an XWD image."""
        if x < 0 or y < 0 or x + w > WIDTH or y + h > HEIGHT:
            return None
        head = struct.unpack(">25I", self.map[:100])
        header_size, bits, stride, colours = head[0], head[11], head[12], head[19]
        if bits not in (16, 32) or head[7] != 0:
            raise Failure("frame buffer of %d bits per pixel, byte order %d" % (bits, head[7]))
        start, size = header_size + 12 * colours, bits // 8
        out = bytearray()
        for row in range(y, y + h):
            at = start + row * stride + size * x
            out += self.map[at:at + size * w]
        if size == 4:
            out[3::4] = bytes(w * h)
        return bytes(out)

    def stop(self):
        self.server.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.server.send_signal(signal.SIGCONT)

    def kill(self):
        self.server.kill()
        self.server.wait()

    def close(self):
        if self.map:
            self.map.close()
        for p in reversed(self.processes):
            if p.poll() is None:
                p.kill()
                p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
