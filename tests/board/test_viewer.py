# SPDX-License-Identifier: GPL-2.0-or-later
"""What a viewer learns of the guest's keyboard and pointer, and what its raw keys become, beside the peer."""
import time

import rfb
from fakexen import StartError
from harness import Failure, compare
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


SHIFT, ALTGR = 0xffe1, 0xfe03
# Characters as a user of the layout types them: plain, with Shift, with AltGr. The dead keys by their own keysyms.
TYPED = {
    "de": ([*"zyß#<-+"] + ["ö", 0xfe52, 0xfe51], [*"Y/=?'>_*"] + ["Ü", 0xfe50], [*"@{[]}\\|~€µ²"]),
    "fr": ([*"aqwm&é(-_à)=$ù*<,!"] + [0xfe52], [*"AM190°%./§>?"] + [0xfe57], [*"#{[|\\^@]}€"]),
    "ja": ([*"z-^@[;:],./"] + [0xff22, 0xff23, 0xff27], [*"!\"#&'()=`{+*}<>?_"], []),
    "pt-br": ([*"'ç[],.;/\\"] + [0xfe51, 0xfe53], [*"\"@#&_+{}<>:?|"] + [0xfe50, 0xfe52, 0xfe57], [*"²³£¢§"]),
    "en-gb": ([*"'#\\-=;"], [*"\"@~|£¬_:"], ["€"]),
    "es": ([*"º'¡+ñç<-"] + [0xfe50, 0xfe51], [*"ª\"·/=?¿*;:_"] + [0xfe57, 0xfe52], [*"\\|@#[]{}€"]),
    "it": ([*"\\'ìèòàù<-"], [*"|\"£/=?^é*ç°§;:_"], [*"@#[]€"]),
    "sv": ([*"§+åöä'<-"] + [0xfe51, 0xfe57], [*"½\"#¤/=?*;:_"] + [0xfe50, 0xfe52], [*"@£${[]}\\|€"]),
}


def keysym(c):
    return c if isinstance(c, int) else 0x20ac if c == "€" else ord(c)


def read_exactly(m, n, seconds=1):
    """n bytes from the keyboard, or what came in that time."""
    got, end = [], time.monotonic() + seconds
    while len(got) < n and time.monotonic() < end:
        if m.inb(0x64) & 1:
            got.append("%02x" % m.inb(0x60))
        else:
            time.sleep(0.001)
    return got


def typed(layout):
    def script(m, out):
        wake_devices(m)
        client = rfb.Rfb(rfb.port_of(m))
        client.update()
        for modifier, characters in zip((0, SHIFT, ALTGR), TYPED[layout]):
            if modifier and characters:
                client.key(modifier, 1)
                out("modifier %x" % modifier, read_bytes(m))
            for c in characters:
                client.key(keysym(c), 1)
                client.key(keysym(c), 0)
                out("%s with %x" % (c, modifier), read_exactly(m, 2))
            if modifier and characters:
                client.key(modifier, 0)
                read_bytes(m)
        client.close()
    return script


UNKNOWN = (r"65\d+ with .*", lambda a, b: a == [] and len(b) == 2, "the peer has no key for it")
STUCK = (r". with ffe1", lambda a, b: len(b) == 2 and a == b[:1], "the peer loses the key's release")
ENGRAVED = (r"[\\@\[\]{}] with fe03", lambda a, b: len(a) == len(b) == 2,
            "X's table has it on two keys: ours is the one that is so engraved, and that Windows knows, too")


def layout_test(layout, *justified):
    return compare([UNKNOWN, STUCK, *justified], vnc=VNC, extra=["-k", layout])(typed(layout))


test_layout_de = layout_test("de")
test_layout_fr = layout_test("fr")
test_layout_ja = layout_test("ja")
test_layout_pt_br = layout_test("pt-br")
test_layout_en_gb = layout_test("en-gb")
test_layout_es = layout_test("es", ENGRAVED)
test_layout_it = layout_test("it", ENGRAVED)
test_layout_sv = layout_test("sv")


def pressed(codes):
    """Scan codes (set 1) to what a guest makes of them: each key with the modifiers that are down."""
    names = {0x2a: "shift", 0x36: "shift", 0xb8: "altgr", 0x1d: "ctrl"}
    down, keys, extended = set(), [], 0
    for code in (int(c, 16) for c in codes):
        if code == 0xe0:
            extended = 0x80
            continue
        key, extended = code & 0x7f | extended, 0
        if key in names:
            (down.discard if code & 0x80 else down.add)(key)
        elif not code & 0x80:
            keys.append(" ".join(sorted({names[k] for k in down}) + ["%02x" % key]))
    if down:
        raise Failure("modifiers left down: %r" % down)
    return keys


def test_foreign_viewer(t):
    """The viewer's user has another layout than the guest, and so other modifiers held, or none."""
    with t.machine(vnc=VNC, extra=["-k", "fr"]) as m:
        wake_devices(m)
        client = rfb.Rfb(rfb.port_of(m))
        client.update()
        got = []
        for held, character in ((0, "a"), (0, "1"), (SHIFT, "&"), (SHIFT, "@"), (0, "{"), (ALTGR, "é"), (0, "A"),
                                (SHIFT, "Q"), (0, "ê"), (0, "^"), (0, 0xff0d)):
            if held:
                client.key(held, 1)
            client.key(keysym(character), 1)
            client.key(keysym(character), 0)
            if held:
                client.key(held, 0)
            got += pressed(read_bytes(m))
        t.equal(got, ["10", "shift 02", "02", "altgr 0b", "altgr 05", "03", "shift 10", "shift 1e", "1a", "12",
                      "altgr 0a", "1c"], "keys")
        client.close()


def test_unknown_layout(t):
    try:
        with t.machine(vnc=VNC, extra=["-k", "klingon"]):
            raise Failure("started")
    except StartError as e:
        t.check("klingon" in str(e) and "de-ch" in str(e), "no word of the layout, or of those known: %s" % e)
