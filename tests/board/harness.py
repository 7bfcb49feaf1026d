# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding, running and reporting board tests.

A test is a function test_*(t) in a file test_*.py; it fails by raising. t makes machines and
checks values. A compare test is made with @compare(...) from a script(m, out): the script is put to
the peer and to hvm-dm, each out(label, value) is recorded, and the two records have to be equal,
label by label (the second use of a label is "label #2"), but for the table of justified differences.
"""
import ctypes
import importlib
import multiprocessing
import os
import queue
import re
import sys
import time
import traceback

import fakexen
import wire


class Failure(Exception):
    pass


class Skip(Exception):
    pass


class Tester:
    """What a test gets: the device models' paths, and checks."""

    def __init__(self, dm, peer, peer_only):
        self.dm, self.peer, self.peer_only = dm, peer, peer_only
        self.notes = []

    def machine(self, **kw):
        """A machine on hvm-dm."""
        return fakexen.Machine(dm=self.dm, **kw)

    def equal(self, got, want, what=""):
        if got != want:
            raise Failure("%s: got %s, expected %s" % (what or "value", show(got), show(want)))

    def check(self, condition, what):
        if not condition:
            raise Failure(what)


def show(value):
    if isinstance(value, bool) or not isinstance(value, int):
        text = value.hex(" ") if isinstance(value, bytes) else repr(value)
        return text if len(text) < 200 else text[:200] + "..."
    return "%#x" % value


def describe(a, b):
    """One line on how b (ours) differs from a (the peer's): of long values only the first place."""
    if isinstance(a, (bytes, bytearray)) and isinstance(b, (bytes, bytearray)) and len(a) == len(b) > 8:
        at = [i for i in range(len(a)) if a[i] != b[i]]
        i = at[0]
        return "at +%#x: peer %s, ours %s (%d of %d bytes differ)" % (
            i, a[i:i + 8].hex(" "), b[i:i + 8].hex(" "), len(at), len(a))
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)) and len(a) == len(b):
        return "; ".join("[%d] %s" % (i, describe(x, y))
                         for i, (x, y) in enumerate(zip(a, b)) if x != y)
    return "peer %s, ours %s" % (show(a), show(b))


def record(script, dm, kw):
    """Runs script on dm; returns {label: value} in order."""
    rows = {}

    def out(label, value):
        name, n = label, 1
        while name in rows:
            n += 1
            name = "%s #%d" % (label, n)
        rows[name] = value

    with fakexen.Machine(dm=dm, **kw) as m:
        try:
            script(m, out)
        except fakexen.QtestError as e:
            out("the script's end", str(e) + "\n" + m.log()[-500:])
    return rows


def leaves(value):
    """A value's parts in order: elements of tuples and lists, pieces of "a/b/c:d" strings."""
    if isinstance(value, (tuple, list)):
        return [x for v in value for x in leaves(v)]
    if isinstance(value, str):
        return re.split("[/:]", value)
    return [value]


def only(*pairs):
    """For the table of differences: accepts two values that differ only in parts which are, in this
    order, (peer's, ours) pairs of the list."""
    def accept(a, b):
        x, y = leaves(a), leaves(b)
        return len(x) == len(y) and all(p == q or (p, q) in pairs for p, q in zip(x, y))
    return accept


def prefix(size):
    """Accepts two byte strings (perhaps inside tuples) that agree in their first size bytes."""
    def accept(a, b):
        x, y = leaves(a), leaves(b)
        return len(x) == len(y) and all(
            p == q or isinstance(p, bytes) and p[:size] == q[:size] for p, q in zip(x, y))
    return accept


def ours(value):
    """Accepts exactly this value of ours."""
    return lambda a, b: b == value


def differences(want, got, justified):
    """Compares two records. Returns (list of messages, set of used rules)."""
    found, used = [], set()
    for label in list(want) + [x for x in got if x not in want]:
        a, b = want.get(label, "(absent)"), got.get(label, "(absent)")
        if a == b:
            continue
        for rule in justified:
            pattern, accept = rule[0], rule[1]
            if re.fullmatch(pattern, label) and (accept is None or accept(a, b)):
                used.add(rule[0])
                break
        else:
            found.append("%-40s %s" % (label, describe(a, b)))
    return found, used


def compare(justified=(), **kw):
    """Makes a compare test of script(m, out). justified: [(regular expression for the label,
    function of (peer's value, ours) or None for anything, reason)]. kw is for Machine."""

    def wrap(script):
        def test(t):
            want = record(script, t.peer, kw)
            second = t.peer if t.peer_only else t.dm
            got = record(script, second, kw)
            found, used = differences(want, got, () if t.peer_only else justified)
            t.notes.append("%d values" % len(want))
            if found:
                raise Failure("%d of %d values differ\n    " % (len(found), len(want)) +
                              "\n    ".join(found[:60]) +
                              ("\n    ..." if len(found) > 60 else ""))
            if "the script's end" in want:
                raise Failure("script failed: " + want["the script's end"])

        test.compares = True
        test.__name__ = script.__name__
        return test

    return wrap


def collect(folder, pattern):
    """[(name, function)] of the tests whose "file.function" matches pattern."""
    tests = []
    for name in sorted(os.listdir(folder)):
        if not re.fullmatch(r"test_\w+\.py", name):
            continue
        module = importlib.import_module(name[:-3])
        for key, value in vars(module).items():
            full = name[5:-3] + "." + key.removeprefix("test_")
            if key.startswith("test_") and callable(value) and re.search(pattern, full):
                tests.append((full, value))
    return tests


def run_one(name, fn, t):
    """Runs one test; prints its line. Returns "passed", "failed" or "skipped"."""
    t.notes = []
    start = time.monotonic()
    result, text = "passed", ""
    try:
        fn(t)
    except Skip as e:
        result, text = "skipped", " " + str(e)
    except (Failure, fakexen.StartError, fakexen.QtestError) as e:
        result, text = "failed", "\n    " + str(e)
    except Exception:  # a broken test is a failed test
        result, text = "failed", "\n" + traceback.format_exc()
    notes = " (%s)" % ", ".join(t.notes) if t.notes else ""
    print("%-7s %-48s %5.1f s%s%s" % (result, name, time.monotonic() - start, notes, text),
          flush=True)
    return result


def own_network():
    """A network namespace for this process with its loopback up, so that no test meets another one's port. False: not root."""
    if ctypes.CDLL(None, use_errno=True).unshare(wire.CLONE_NEWNET) != 0:
        return False
    wire.set_flags("lo", wire.IFF_UP, 0)
    return True


def worker(waiting, results, make_tester, tests):
    """Runs tests, given as numbers, until none waits."""
    own_network()
    t = make_tester()
    for i in iter(waiting.get, None):
        results.put((i, run_one(*tests[i], t)))


def run_all(tests, make_tester, jobs):
    """The results of all tests, in no order. A worker that dies takes its test with it: that one is failed."""
    waiting, results = multiprocessing.Queue(), multiprocessing.Queue()
    for i in [*range(len(tests)), *[None] * jobs]:
        waiting.put(i)
    workers = [multiprocessing.Process(target=worker, args=(waiting, results, make_tester, tests)) for _ in range(jobs)]
    for w in workers:
        w.start()
    done = {}
    while len(done) < len(tests):
        try:
            i, result = results.get(timeout=1)
            done[i] = result
        except queue.Empty:
            if not any(w.is_alive() for w in workers) and results.empty():
                break
    for w in workers:
        w.join()
    for i, (name, _) in enumerate(tests):
        if i not in done:
            print("failed  %s: the worker ended" % name, flush=True)
            done[i] = "failed"
    return list(done.values())


def main(argv):
    import argparse
    p = argparse.ArgumentParser(description="Board tests: hvm-dm on the fake hypervisor.")
    p.add_argument("--dm", default=fakexen.HVM_DM)
    p.add_argument("--peer", default=fakexen.PEER)
    p.add_argument("--peer-only", action="store_true",
                   help="only compare tests, peer against peer: are the scripts deterministic?")
    p.add_argument("--list", action="store_true")
    p.add_argument("--jobs", type=int, default=os.cpu_count() if os.geteuid() == 0 else 1,
                   help="tests at once, each in a network namespace (root)")
    p.add_argument("pattern", nargs="?", default="")
    args = p.parse_args(argv)
    folder = os.path.dirname(os.path.abspath(__file__))
    tests = collect(folder, args.pattern)
    if args.list:
        print("\n".join(n for n, _ in tests))
        return 0
    dm, peer = fakexen.resolve_dm(args.dm), fakexen.resolve_dm(args.peer)
    for path in ([] if args.peer_only else [dm]) + [peer]:
        if not os.access(path, os.X_OK):
            print("board tests: no device model at %s" % path, file=sys.stderr)
            return 1
    if args.peer_only:
        tests = [(name, fn) for name, fn in tests if getattr(fn, "compares", False)]
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for result in run_all(tests, lambda: Tester(dm, peer, args.peer_only), max(1, args.jobs)):
        count[result] += 1
    if count["skipped"]:
        print("%d skipped" % count["skipped"])
    print("%d passed, %d failed" % (count["passed"], count["failed"]))
    return 1 if count["failed"] or not count["passed"] else 0
