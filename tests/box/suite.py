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
ODD_FAULTS = 1  # triple faults of no known kind for which a scenario is repeated: those of a device model come again

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
    attempts = {}           # scenario -> attempts, where it is not ATTEMPTS
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
        """These scenarios. One that fails while the software CPU shows one of its known errors is done again, and once where the
        guest's triple fault is of no known kind."""
        self.prepare()
        for name in names:
            odd = 0
            for left in range(self.attempts.get(name, ATTEMPTS) - 1, -1, -1):
                since, counted = time.monotonic(), (self.passed, self.failed)
                print(f"-- {name}: {self.document(name)}", flush=True)
                seen = len(self.box.read_console())
                self.one(name)
                if not self.shares_guests or self.failed > counted[1]:    # the next one gets new guests
                    self.clean()
                print(f"   {time.monotonic() - since:.0f} s", flush=True)
                if self.failed == counted[1] or left == 0:
                    break
                why = self.box.failed_by_tcg(seen)
                if not why:
                    why = self.box.triple_fault(seen)
                    odd += 1
                if not why or odd > ODD_FAULTS:
                    break
                print(f"   broken off ({why}): {name} again", flush=True)
                self.passed, self.failed = counted
        self.finish()


# Removes what a suite left in /images, where the next one finds the same files as in a new box. $1: those that stay.
TIDY = """
    cd /images || exit 1
    for f in *; do case " $1 " in *" $f "*) ;; *) rm -rf "$f" ;; esac; done"""


def chosen(tests_class, everything):
    """The scenarios that are run when none is named."""
    return tests_class.scenarios if everything else tests_class.default_scenarios or tests_class.scenarios


def run_suites(suites, out, dm="hvm-dm", port=5961):
    """Suites one after the other in one box, and in a new one after it was lost. suites: [(name, class, scenarios)]; logs go to
    `out`, pictures to out/NAME. Returns (passed, failed)."""
    sums, left, boxes = [0, 0], list(suites), 0

    def ended(tests, since):
        print(f"-- {left[0][0]}: {tests.passed} passed, {tests.failed} failed, {time.monotonic() - since:.0f} s", flush=True)
        sums[0] += tests.passed
        sums[1] += tests.failed
        left.pop(0)

    with tempfile.TemporaryDirectory(prefix="hvm-dm-images-") as folder:
        images = {}
        for _, tests_class, _ in suites:
            image, script = tests_class.cd
            images.update({image: xenbox.make(script), **tests_class.make_images(folder)})
        while left:
            boxes += 1
            box = xenbox.Box(dm=dm, images=images, out=os.path.join(out, f"box{boxes}"), vnc_port=port)
            tests, since = Suite(box, out, port), time.monotonic()
            try:
                with box:
                    print(f"   box ready after {box.timings['box ready']:.0f} s", flush=True)
                    while left:
                        name, tests_class, scenarios = left[0]
                        print(f"-- {name}", flush=True)
                        os.makedirs(os.path.join(out, name), exist_ok=True)
                        tests, since = tests_class(box, os.path.join(out, name), port), time.monotonic()
                        tests.run(scenarios)
                        tests.clean()
                        box.check_sh(f"set -- '{' '.join(images)}'\n{TIDY}", 60)
                        ended(tests, since)
            except xenbox.BoxError as e:
                tests.check(f"{left[0][0]}: the box", False, e)
                ended(tests, since)
    return sums


def main(tests_class, doc):
    """The command line of one suite; returns the exit code."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter,
                                epilog=f"scenarios: {', '.join(tests_class.scenarios)}")
    p.add_argument("--dm", default="hvm-dm", help="hvm-dm, peer or the path of a device model")
    p.add_argument("--out", help="folder for logs and pictures")
    p.add_argument("--only", default="", help="scenarios, separated by commas")
    p.add_argument("--all", action="store_true", help="all scenarios, also those that only run when they are named")
    p.add_argument("--vnc-port", type=int, default=5961)
    a = p.parse_args()
    names = [n for n in a.only.split(",") if n] or chosen(tests_class, a.all)
    if set(names) - set(tests_class.scenarios):
        p.error(f"--only takes some of {', '.join(tests_class.scenarios)}")
    out = a.out or tempfile.mkdtemp(prefix="hvm-dm-test-")
    print(f"logs and pictures: {out}", flush=True)
    passed, failed = run_suites([("all" if a.all else "tests", tests_class, names)], out, a.dm, a.vnc_port)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
