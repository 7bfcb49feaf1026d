# SPDX-License-Identifier: GPL-2.0-or-later
"""16550A at 0x3f8: registers, loopback, FIFO and interrupts against the peer."""
import os
import socket
import tempfile
import time

from harness import compare

RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(0x3f8, 0x400)


def regs(m):
    return ["%02x" % m.inb(p) for p in (IER, IIR, LCR, MCR, LSR, MSR, SCR)]


def irq(m):
    return int(m.fields("xen irqs")["isa"], 16) >> 4 & 1


LOOP_DELTAS = ("changes of MCR in loop mode set the delta bits of MSR (PC16550D, 8.6: modem interrupts "
               "work in loop mode); the peer's stay 0")


def deltas_only(peer, ours):
    """The first read has the peer's lines and some deltas, later reads are equal."""
    return peer[0] == ours[0] & 0xf0 and peer[1:] == ours[1:]


@compare(serial="null", justified=[
    ("mcr 0xb", lambda peer, ours: peer[:5] == ours[:5] and int(ours[5], 16) & 0xf0 == int(peer[5], 16), LOOP_DELTAS),
])
def test_registers(m, out):
    out("reset", regs(m))
    for name, port, values in (("ier", IER, (0xff, 0x0f, 0x05, 0x00)),
                               ("lcr", LCR, (0x7f, 0x3f, 0x03)), ("mcr", MCR, (0xff, 0x1f, 0x0b, 0)),
                               ("scr", SCR, (0xff, 0x5a)), ("lsr", LSR, (0xff, 0)),
                               ("msr", MSR, (0xff, 0))):
        for v in values:
            m.outb(port, v)
            out("%s %#x" % (name, v), regs(m))
    for v in (0x01, 0xc1, 0x00, 0x07, 0xff, 0x81, 0x41, 0x00):
        m.outb(IIR, v)
        out("fcr %#x iir" % v, m.inb(IIR))
    m.outb(LCR, 0x83)
    out("dll, dlm at reset", (m.inb(RBR), m.inb(IER)))
    m.outb(RBR, 0x34)
    m.outb(IER, 0x12)
    out("dll, dlm", (m.inb(RBR), m.inb(IER)))
    m.outb(LCR, 0x03)
    out("ier kept", m.inb(IER))


@compare(serial="null")
def test_transmit_interrupt(m, out):
    m.outb(MCR, 0x08)
    m.outb(IER, 0x02)
    out("enabled", (irq(m), m.inb(IIR), irq(m), m.inb(IIR)))
    m.outb(RBR, 0x41)
    time.sleep(0.01)
    out("after a byte", (irq(m), m.inb(LSR), m.inb(IIR), irq(m), m.inb(IIR)))
    m.outb(IER, 0x00)
    m.outb(IER, 0x02)
    out("enabled again", (irq(m), m.inb(IIR), irq(m)))
    m.outb(RBR, 0x42)
    m.outb(IIR, 0x01)
    time.sleep(0.01)
    out("with fifo", (irq(m), m.inb(IIR), m.inb(IIR)))


@compare(serial="null", justified=[
    (r"mcr 0x\w+( #2)?", deltas_only, LOOP_DELTAS),
    ("modem interrupt", lambda peer, ours: peer[0] == 1 and ours == (0, 0x22, 1), LOOP_DELTAS),
])
def test_loopback_modem(m, out):
    for v in (0x10, 0x11, 0x12, 0x14, 0x18, 0x1f, 0x10):
        m.outb(MCR, v)
        out("mcr %#x" % v, (m.inb(MSR), m.inb(MSR)))
    m.outb(IER, 0x08)
    m.outb(MCR, 0x11)
    out("modem interrupt", (m.inb(IIR), m.inb(MSR), m.inb(IIR)))


@compare(serial="null")
def test_loopback_data(m, out):
    m.outb(LCR, 0x03)
    m.outb(MCR, 0x18)
    m.outb(IER, 0x05)
    m.outb(RBR, 0x55)
    out("one byte", (m.inb(LSR), m.inb(IIR), m.inb(RBR), m.inb(LSR), m.inb(IIR)))
    m.outb(RBR, 0x56)
    m.outb(RBR, 0x57)
    out("overrun", (m.inb(LSR), m.inb(LSR), m.inb(RBR), m.inb(LSR)))
    m.outb(IIR, 0x01)
    for i in range(16):
        m.outb(RBR, 0x60 + i)
    out("fifo of 16", (m.inb(LSR), m.inb(IIR)))
    m.outb(RBR, 0x70)
    out("one too many", (m.inb(LSR), m.inb(IIR)))
    out("contents", [m.inb(RBR) for _ in range(17)])
    out("empty", (m.inb(LSR), m.inb(IIR)))
    for fcr, level in ((0x01, 1), (0x41, 4), (0x81, 8), (0xc1, 14)):
        m.outb(IIR, fcr | 0x06)
        seen = []
        for i in range(level + 1):
            seen.append(m.inb(IIR) & 0x0f)
            m.outb(RBR, i)
        seen.append(m.inb(IIR) & 0x0f)
        out("trigger %d" % level, seen)
        m.outb(IIR, fcr | 0x02)
        out("cleared %d" % level, (m.inb(LSR), m.inb(IIR)))


@compare(serial="null")
def test_wide_access(m, out):
    m.outb(SCR, 0x77)
    out("inw 3fe", m.inw(0x3fe))
    out("inl 3fc", m.inl(0x3fc))
    m.outw(0x3fe, 0x3300)
    out("after outw", m.inb(SCR))


def receive_script(m, out):
    """Bytes from the other end of a unix socket."""
    path = m.serial.split(":", 1)[1].split(",")[0]
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    try:
        m.outb(MCR, 0x08)
        m.outb(IER, 0x01)
        s.sendall(b"A")
        m.cmd("xen poll inb %#x 1 1 2000" % LSR)
        out("one byte", (irq(m), m.inb(IIR), m.inb(RBR), irq(m), m.inb(IIR)))
        m.outb(IIR, 0xc7)
        s.sendall(b"0123456789")
        m.cmd("xen wait_isa 4 1 3000")
        out("timeout or trigger", m.inb(IIR))
        out("text", bytes(m.inb(RBR) for _ in range(10)))
        out("then", (m.inb(LSR), irq(m), m.inb(IIR)))
        s.sendall(bytes(range(64)))
        got = b""
        for _ in range(64):
            m.cmd("xen poll inb %#x 1 1 2000" % LSR)
            got += bytes([m.inb(RBR)])
        out("64 bytes through a fifo of 16", got)
        for c in b"hello":
            m.cmd("xen poll inb %#x 0x20 0x20 2000" % LSR)
            m.outb(RBR, c)
        s.settimeout(2)
        text = b""
        while len(text) < 5:
            text += s.recv(16)
        out("sent", text)
        s.close()
        time.sleep(0.05)
        m.outb(RBR, 0x21)
        time.sleep(0.05)
        out("after the viewer left", m.inb(LSR) & 0x60)
    finally:
        s.close()


def test_receive(t):
    with tempfile.TemporaryDirectory() as d:
        compare(serial="unix:%s/serial,server=on,wait=off" % d)(receive_script)(t)


test_receive.compares = True


def file_script(m, out):
    for c in b"to the file\r\n":
        m.cmd("xen poll inb %#x 0x20 0x20 2000" % LSR)
        m.outb(RBR, c)
    m.outb(IIR, 0x01)
    for _ in range(20):
        m.cmd("xen poll inb %#x 0x20 0x20 2000" % LSR)
        m.cmd("write 0x8000 8 0x%s" % b"12345678".hex())
        m.cmd("xen outsb %#x 0x8000 8" % RBR)
    m.cmd("xen poll inb %#x 0x40 0x40 2000" % LSR)
    path = m.serial.split(":", 1)[1]
    deadline = time.monotonic() + 2
    while os.path.getsize(path) < 13 + 160 and time.monotonic() < deadline:
        time.sleep(0.01)
    with open(path, "rb") as f:
        text = f.read()
    os.unlink(path)
    out("file", text)


def test_file(t):
    with tempfile.TemporaryDirectory() as d:
        compare(serial="file:%s/serial.log" % d)(file_script)(t)


test_file.compares = True
