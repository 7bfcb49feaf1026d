# SPDX-License-Identifier: GPL-2.0-or-later
"""8042, PS/2 keyboard and wheel mouse: command dialogues against the peer. Status bit 3 (last write
was a command) is left out: the peer never clears it."""
import time

from harness import compare

STATUS_OBF = 0x01
STATUS_CMD = 0x08


class Dialogue:
    """Writes bytes, and records after each one the status, the interrupt lines and all answers."""

    def __init__(self, m, out):
        self.m, self.out, self.step = m, out, 0

    def state(self):
        return (self.m.inb(0x64) & ~STATUS_CMD, int(self.m.fields("xen irqs")["isa"], 16))

    def drain(self):
        got = []
        for _ in range(40):
            status, isa = self.state()
            if not status & STATUS_OBF:
                break
            got.append((status, isa, self.m.inb(0x60)))
        return got, self.state()

    def put(self, port, value, drain=True):
        self.m.outb(port, value)
        self.step += 1
        label = "%03d out %#x %#04x" % (self.step, port, value)
        if drain:
            got, end = self.drain()
            self.out(label, ["%02x/%04x:%02x" % g for g in got] + ["%02x/%04x" % end])
        else:
            self.out(label, "%02x/%04x" % self.state())

    def command(self, *values, drain=True):
        for v in values:
            self.put(0x64, v, drain)

    def key(self, *values, drain=True):
        for v in values:
            self.put(0x60, v, drain)

    def aux(self, *values, drain=True):
        for v in values:
            self.m.outb(0x64, 0xd4)
            self.put(0x60, v, drain)


def answers(*data):
    """Ours answers with these bytes; what the peer does is the reason's business."""
    return lambda peer, ours: [int(x.rsplit(":", 1)[1], 16) for x in ours if ":" in x] == list(data)


def irq_bits(peer, ours):
    """Output ports that differ in the interrupt bits 4 and 5 only."""
    peer, ours = peer[0].rsplit(":", 1), ours[0].rsplit(":", 1)
    return peer[0] == ours[0] and (int(peer[1], 16) ^ int(ours[1], 16)) & ~0x30 == 0


LIVE_IRQ = "output port bits 4 and 5 are the interrupt lines; the peer reads back what was written"
RAM = "commands 20-3f and 60-7f reach all 32 bytes of the chip's RAM; the peer has byte 0 only"
MORE_COMMANDS = "A4 (password) and E0 (test inputs) exist on the chip"
SET3 = "F7-FA, FB and FD set the key types of scan code set 3; the peer refuses them"
RESEND = "FE repeats the last byte; the peer answers FE"
REFUSED = "a mouse answers what it does not know with FE, then FC; the peer is silent and the guest waits for a timeout"
KEPT_BYTE = "what is in the output buffer stays there when a device gets a new command; the peer drops it"
ONE_ANSWER = "a new command ends the answer to the one before; the peer's mouse queues all of them"
LATE_IRQ = "writing to the keyboard enables it before it answers, so the answer interrupts"


@compare(justified=[(r"\d+ out 0x64 0xd0", irq_bits, LIVE_IRQ)])
def test_controller(m, out):
    d = Dialogue(m, out)
    out("status at reset", d.state())
    d.command(0x20, 0xaa, 0x20, 0xab, 0xa9, 0xc0, 0xd0)
    for byte in (0x00, 0x47, 0x65, 0x03, 0x77, 0x30, 0xff, 0x61):
        d.command(0x60)
        d.key(byte)
        d.command(0x20)
    d.command(0xa7, 0x20, 0xa8, 0x20, 0xad, 0x20, 0xae, 0x20)
    d.command(0xd0)
    for byte in (0xdf, 0xdd, 0xcf, 0x03):
        d.command(0xd1)
        d.key(byte)
        d.command(0xd0)
    d.command(0xd2)
    d.key(0x5a)
    d.command(0xd3)
    d.key(0xa5)
    d.command(0xdd, 0xd0, 0xdf, 0xd0)


@compare(justified=[
    (r"\d+ out 0x64 0x(2[1-9a-f]|3\w)", answers(0), RAM),
    (r"\d+ out 0x64 0xa4", answers(0xf1), MORE_COMMANDS),
    (r"\d+ out 0x64 0xe0", answers(0x03), MORE_COMMANDS),
])
def test_controller_unknown_commands(m, out):
    """All commands but the resets (f0-ff pulse) and those that take a byte."""
    d = Dialogue(m, out)
    for c in range(0, 0xf0):
        if c in (0x60, 0xd1, 0xd2, 0xd3, 0xd4):
            continue
        d.command(c)
    d.command(0xff)


@compare(justified=[
    (r"\d+ out 0x60 0x11", answers(), RAM),
    (r"\d+ out 0x64 0x[23]\w", answers(0x11), RAM),
])
def test_controller_ram(m, out):
    d = Dialogue(m, out)
    for c in range(0x61, 0x80):
        d.command(c)
        d.key(0x11)
        d.command(c - 0x40)


@compare(justified=[
    (r"\d+ out 0x60 0xfe", answers(0xee), RESEND),
    (r"\d+ out 0x60 0x(f[789bd]|1c)", answers(0xfa), SET3),
])
def test_keyboard(m, out):
    d = Dialogue(m, out)
    d.command(0xae, 0x60)
    d.key(0x61)
    d.key(0xff)
    time.sleep(0.01)
    d.key(0xf2, 0xee, 0xfe, 0xf5, 0xf6, 0xf4)
    d.key(0xed, 0x07, 0xed, 0xed, 0x00, 0xf3, 0x20, 0xf3, 0x7f)
    d.key(0xf0, 0x00, 0xf0, 0x01, 0xf0, 0x00, 0xf0, 0x02, 0xf0, 0x00, 0xf0, 0x03, 0xf0, 0x00)
    d.key(0xf0, 0x04, 0xf0, 0x55, 0xf0, 0x02)
    d.key(0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0x1c, 0xfc, 0x1c, 0xfd, 0x1c, 0xf1, 0xef, 0xeb)
    d.key(0x00, 0x05, 0x7f, 0x80)
    d.key(0xf6, 0xff)


@compare()
def test_keyboard_untranslated(m, out):
    d = Dialogue(m, out)
    d.command(0x60)
    d.key(0x21, 0xff, 0xf2, 0xf0, 0x00, 0xee, 0xed, 0x02)


@compare(justified=[
    (r"\d+ out 0x60 0x(34|e1|e2|00|55|fe|fa)",
     lambda peer, ours: peer == ["10/0000"] and (answers(0xfe)(peer, ours) or answers(0xfc)(peer, ours)), REFUSED),
])
def test_mouse(m, out):
    d = Dialogue(m, out)
    d.command(0xa8, 0x60)
    d.key(0x47)
    d.aux(0xff)
    d.aux(0xf2, 0xe9, 0xeb, 0xe8, 0x03, 0xe9, 0xf3, 0x28, 0xe9, 0xe7, 0xe9, 0xe6, 0xe9)
    d.aux(0xea, 0xe9, 0xf0, 0xe9, 0xea, 0xf4, 0xe9, 0xf5, 0xe9, 0xeb)
    d.aux(0xee, 0x12, 0xf3, 0xee, 0xec, 0x34)
    d.aux(0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2, 0xe9, 0xeb)
    d.aux(0xf3, 200, 0xf3, 200, 0xf3, 80, 0xf2, 0xe9, 0xeb)
    d.aux(0xf3, 60, 0xe8, 0x02, 0xf6, 0xe9, 0xf2, 0xff, 0xf2)
    d.aux(0xe1, 0xe2, 0x00, 0x55, 0xfe, 0xfa)


@compare(justified=[
    ("drained", lambda peer, ours: ours == ["11/0002:fa"] + peer, KEPT_BYTE),
    ("many", lambda peer, ours: ours == ["11/0002:fa"] + peer, KEPT_BYTE),
    ("many aux", answers(0xfa, 0xfa, 0x00, 0x02, 0x64), ONE_ANSWER),
])
def test_queues(m, out):
    """Answers pile up without being read: order and interrupt lines."""
    d = Dialogue(m, out)
    d.command(0x60)
    d.key(0x47)
    d.command(0xa8)
    d.key(0xf2, drain=False)
    d.aux(0xf2, drain=False)
    d.key(0xee, drain=False)
    out("drained", [("%02x/%04x:%02x" % g) for g in d.drain()[0]])
    for _ in range(12):
        d.key(0xf2, drain=False)
    out("many", [("%02x/%04x:%02x" % g) for g in d.drain()[0]])
    for _ in range(12):
        d.aux(0xe9, drain=False)
    out("many aux", [("%02x/%04x:%02x" % g) for g in d.drain()[0]])


@compare(justified=[(r"004 out 0x60 0xee", answers(0xee), LATE_IRQ)])
def test_disabled_ports(m, out):
    """Answers while the interface is disabled."""
    d = Dialogue(m, out)
    d.command(0x60)
    d.key(0x47)
    d.command(0xad, drain=False)
    d.key(0xee)
    d.command(0xae)
    d.command(0xa7, drain=False)
    d.aux(0xf2)
    d.command(0xa8)
    out("end", d.drain())


@compare()
def test_wide_access(m, out):
    out("inw 60", m.inw(0x60))
    out("inw 64", m.inw(0x64))
    out("inl 60", m.inl(0x60))
    m.outw(0x64, 0x20aa)
    out("after outw", m.inb(0x64))
    out("data", m.inb(0x60))
