# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests on real Xen share: counted checks, scenarios, a guest's shell, the box and its further chances.

A test file has one class derived from Suite, whose methods run_NAME are its scenarios, and ends with

    if __name__ == "__main__":
        sys.exit(main(Tests, __doc__))
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "..", "box"), HERE]
import box as xenbox  # noqa: E402

ATTEMPTS = 4    # at a scenario that the software CPU spoils: on a busy machine it may do so twice in a row

# Removes every guest: the state each scenario starts from. First the xl that waits for a guest's end and may be about to
# start it again; then domains, until none comes any more.
CLEAN = """
    for i in $(seq 20); do
        for p in /proc/[0-9]*; do read -r name < $p/comm && [ "$name" = xl ] && kill -9 ${p#/proc/}; done 2> /dev/null
        left=$(xl list | awk 'NR > 2 { print $2 }')
        [ -z "$left" ] && [ $i -gt 1 ] && exit 0
        for d in $left; do xl destroy $d; done
        sleep 0.3
    done
    exit 1"""


class Shell:
    """A guest's shell on its serial line (job="interactive" or end="shell", serial="pty")."""

    def __init__(self, guest):
        self.guest, self.count = guest, 0

    def __call__(self, command, timeout=120):
        """(exit status, output) of a command."""
        self.count += 1
        mark = f"{self.guest.number}-{self.count}"
        self.guest.type_serial(f"echo BEGIN{mark}; {command}; echo END$?-{mark}\n")
        found, _ = self.guest.wait_for(rf"^(?:/ # )*BEGIN{mark}\r?\n(?P<out>[^\0]*?)END(?P<status>\d+)-{mark}\s", timeout)
        return int(found["status"]), found["out"].replace("\r", "").strip()


class Suite:
    """Counters, checks and scenarios. scenarios: names in their order; default_scenarios: those run when none is named."""

    scenarios = ()
    default_scenarios = None
    shares_guests = False   # a scenario goes on with the guests of the one before, if that did not fail
    cd = ("install.iso", "mkiso")

    def __init__(self, box, out, port):
        self.box, self.out, self.port = box, out, port
        self.passed = self.failed = 0

    def check(self, name, ok, detail="", always=False):
        """Counts and prints one check. always: the detail is of interest when it is good, too."""
        if ok:
            self.passed += 1
        else:
            self.failed += 1
        print(f"{'ok  ' if ok else 'FAIL'} {name}" + (f": {detail}" if detail and (always or not ok) else ""), flush=True)
        return ok

    def prepare(self):
        """Called once, before the scenarios, in a new box."""

    def finish(self):
        """Called once, after them."""

    def clean(self):
        """No guests: after each scenario, unless they share guests, and before one is repeated."""
        self.box.sh(CLEAN, 60)

    def check_gone(self, guest, name):
        """After the end of a domain: no process, socket, xenstore node or half-dead domain."""
        left = self.box.sh(f"""for i in $(seq 50); do
                left=
                [ -d /proc/{guest.dm_pid} ] && left="process {guest.dm_pid}: $(cat /proc/{guest.dm_pid}/comm)"
                for f in /run/xen/*-{guest.domid}; do [ -e $f ] && left="$left $f"; done
                for n in device-model/{guest.domid} backend/qdisk/{guest.domid}/51712; do
                    xenstore-exists /local/domain/0/$n && left="$left $n"
                done
                xl list | awk 'NR > 1 && ($1 == "(null)" || $2 == {guest.domid})' > /tmp/left
                [ -s /tmp/left ] && left="$left $(cat /tmp/left)"
                [ -z "$left" ] && exit 0
                sleep 0.1
            done; echo "$left"; exit 1""")
        self.check(f"{name}: nothing left behind", left[0] == 0, left[1].strip())

    @staticmethod
    def make_images(_folder):
        """Images for the box besides the CD: name in dom0 -> path; made in this folder."""
        return {}

    def one(self, name):
        """A scenario; what breaks it off counts as one failure."""
        try:
            getattr(self, "run_" + name)()
        except (xenbox.BoxError, OSError, subprocess.SubprocessError) as e:
            self.check(name, False, e)
            if self.box.qemu.poll() is not None:
                raise

    def document(self, name):
        """The line that says what a scenario does."""
        return (getattr(self, "run_" + name).__doc__ or "").strip()

    def run(self, names):
        """These scenarios. One that fails while the software CPU shows one of its known errors is done again."""
        self.prepare()
        for name in names:
            for attempt in range(ATTEMPTS):
                since, counted = time.monotonic(), (self.passed, self.failed)
                print(f"-- {name}: {self.document(name)}", flush=True)
                seen = len(self.box.read_console())
                self.one(name)
                if not self.shares_guests or self.failed > counted[1]:    # the next one gets new guests
                    self.clean()
                print(f"   {time.monotonic() - since:.0f} s", flush=True)
                why = self.failed > counted[1] and self.box.failed_by_tcg(seen)
                if not why or attempt == ATTEMPTS - 1:
                    break
                print(f"   the software CPU failed ({why}): {name} again", flush=True)
                self.passed, self.failed = counted
        self.finish()


def main(tests_class, doc):
    """The command line; returns the exit code."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter,
                                epilog=f"scenarios: {', '.join(tests_class.scenarios)}")
    p.add_argument("--dm", default="hvm-dm", help="hvm-dm, peer or the path of a device model")
    p.add_argument("--out", help="folder for logs and pictures")
    p.add_argument("--only", default="", help="scenarios, separated by commas")
    p.add_argument("--all", action="store_true", help="all scenarios, also those that only run when they are named")
    p.add_argument("--vnc-port", type=int, default=5961)
    a = p.parse_args()
    usual = tests_class.scenarios if a.all else tests_class.default_scenarios or tests_class.scenarios
    names = [n for n in a.only.split(",") if n] or usual
    if set(names) - set(tests_class.scenarios):
        p.error(f"--only takes some of {', '.join(tests_class.scenarios)}")
    out = a.out or tempfile.mkdtemp(prefix="hvm-dm-test-")
    os.makedirs(out, exist_ok=True)
    print(f"logs and pictures: {out}", flush=True)
    image, script = tests_class.cd
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="hvm-dm-images-") as folder:
        images = {image: xenbox.make(script), **tests_class.make_images(folder)}
        box = xenbox.Box(dm=a.dm, images=images, out=out, vnc_port=a.vnc_port)
        tests = tests_class(box, out, a.vnc_port)
        try:
            with box:
                print(f"   box ready after {box.timings['box ready']:.0f} s", flush=True)
                tests.run(names)
        except xenbox.BoxError as e:
            tests.check("box", False, e)
        passed, failed = tests.passed, tests.failed
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
