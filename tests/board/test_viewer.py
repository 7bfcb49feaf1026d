# SPDX-License-Identifier: GPL-2.0-or-later
"""What a viewer learns of the guest's keyboard and pointer, and what its raw keys become, beside the peer."""
import rfb
from harness import compare
from test_screen import VNC, read_bytes


def led_command(m, leds):
    for value in (0xed, leds):
        m.outb(0x60, value)
        read_bytes(m)


def wake_devices(m):
    m.values(["outb 0x64 0x60", "outb 0x60 0x47", "outb 0x60 0xf4"])
    read_bytes(m)


@compare((), vnc=VNC)
def test_leds(m, out):
    wake_devices(m)
    led_command(m, 2)
    client = rfb.Rfb(rfb.port_of(m))
    client.update()
    client.encodings(rfb.LED_STATE)
    out("at first", client.await_told(rfb.LED_STATE))
    for leds in (6, 1, 4, 0, 7):
        led_command(m, leds)
        out("leds %d" % leds, client.await_told(rfb.LED_STATE, leds))
    m.outb(0x60, 0xff)
    read_bytes(m)
    out("reset", client.await_told(rfb.LED_STATE, 0))
    client.close()


def test_leds_vmware(t):
    with t.machine(vnc=VNC) as m:
        wake_devices(m)
        client = rfb.Rfb(rfb.port_of(m))
        client.encodings(rfb.VMWARE_LED_STATE)
        for leds in (4, 2, 0):
            led_command(m, leds)
            t.equal(client.await_told(rfb.VMWARE_LED_STATE, leds), leds, "LEDs")
        client.close()


# By the number the protocol gives them: one of each kind, and all with a number of their own.
RAW_KEYS = [0x01, 0x02, 0x10, 0x1c, 0x1d, 0x1e, 0x2a, 0x2b, 0x36, 0x38, 0x39, 0x3a, 0x3a, 0x45, 0x45, 0x46, 0x48, 0x56,
            0x57, 0x58, 0x70, 0x73, 0x79, 0x7b, 0x7d, 0x7e, 0x9c, 0x9d, 0xb5, 0xb7, 0xb8, 0xc6, 0xc8, 0xd2, 0xd3,
            0xdb, 0xdc, 0xdd]


@compare([(".. down.*", lambda a, b: a[:2] in (["3a", "ba"], ["45", "c5"]) and a[2:] == b,
           "the peer presses Caps or Num Lock first when the keysym and its idea of the lock disagree")], vnc=VNC)
def test_raw_keys(m, out):
    """The key counts, not what it means to the viewer's user: an unfitting keysym comes with each."""
    wake_devices(m)
    client = rfb.Rfb(rfb.port_of(m))
    client.update()
    client.encodings(rfb.EXTENDED_KEY)
    out("offered", client.await_told(rfb.EXTENDED_KEY))
    for code in RAW_KEYS:
        for down in (1, 0):
            client.raw_key(code, down, 0x71)
            out("%02x %s" % (code, "down" if down else "up"), read_bytes(m))
    client.close()


def enable_mouse(m):
    for value in (0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf4):
        m.outb(0x64, 0xd4)
        m.outb(0x60, value)
        read_bytes(m)


@compare((), vnc=VNC)
def test_pointer_motion(m, out):
    """A PS/2 mouse takes movement: the viewer is told so, and then its numbers are differences."""
    wake_devices(m)
    enable_mouse(m)
    client = rfb.Rfb(rfb.port_of(m))
    client.update()
    client.encodings(rfb.MOTION_CHANGE)
    out("mode", client.await_told(rfb.MOTION_CHANGE))
    zero = 0x7fff
    for dx, dy, buttons in ((5, 0, 0), (0, 7, 0), (-3, -4, 0), (0, 0, 1), (100, -100, 1), (0, 0, 0), (0, 0, 16),
                            (1, 1, 4), (0, 0, 0)):
        client.pointer(zero + dx, zero + dy, buttons)
        out("by %d,%d buttons %d" % (dx, dy, buttons), read_bytes(m))
    client.close()
