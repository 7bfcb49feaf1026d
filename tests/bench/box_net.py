# SPDX-License-Identifier: GPL-2.0-or-later
"""Network between a guest and dom0 in the box: iperf3 and ping over both cards. Part of box_bench.py (--net)."""

import os
import re

MODELS = ("e1000", "rtl8139")
# Key, title; {} is the card.
FIGURES = (
    ("to_dom0_mbit", "TCP to dom0, Mbit/s"),
    ("to_dom0_cpu", "  device model CPU, ms/MB"),
    ("to_guest_mbit", "TCP to the guest, Mbit/s"),
    ("to_guest_cpu", "  device model CPU, ms/MB"),
    ("out_pps", "64-byte UDP to dom0, packets/s"),
    ("out_cpu", "  device model CPU, us/packet"),
    ("in_pps", "64-byte UDP to the guest, packets/s"),
    ("in_cpu", "  device model CPU, us/packet"),
    ("ping_us", "ping, us"),
)
ROWS = tuple((f"{model}_{key}", f"{model}: {title}") for model in MODELS for key, title in FIGURES)
UP = r"^GUEST: done\s"


def prepare(box):
    """Bridges 10.7.N.0/24, iperf3's server and the guest's tools in dom0."""
    tools = os.path.join(os.path.dirname(box.images["install.iso"]), "tools.tgz")
    box.check_sh("mkdir -p /tmp/www")
    box.put(tools, "/tmp/www/tools.tgz")
    box.check_sh("""set -e
        echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
        for n in 0 1; do
            [ -e /sys/class/net/xenbr$n ] || brctl addbr xenbr$n
            ip addr add 10.7.$n.1/24 dev xenbr$n
            ip link set xenbr$n up
        done
        busybox httpd -p 80 -h /tmp/www
        iperf3 -s -D""")
    box.iso_for("net.iso", job="idle", end="shell")


class Shell:
    """The guest's shell on its serial line."""

    def __init__(self, guest):
        self.guest, self.count = guest, 0

    def __call__(self, command, timeout=60):
        self.count += 1
        self.guest.type_serial(f"{command}; echo END-{self.count}=$?\n")
        found, _ = self.guest.wait_for(rf"^END-{self.count}=\d+\s", timeout)
        return self.guest.log[:found.start()].rpartition(f"END-{self.count}=$?")[2]


def tcp(sh, guest, address, seconds, back):
    """Mbit/s and the device model's CPU in ms/MB."""
    before = guest.dm_stat()["cpu_s"]
    out = sh(f"iperf3 -c {address} -t {seconds} -f k {'-R' if back else ''} | grep receiver", seconds + 60)
    used = guest.dm_stat()["cpu_s"] - before
    kbit = float(re.search(r"([\d.]+) Kbits/sec.*receiver", out).group(1))
    return kbit / 1000, 1000 * used / max(kbit * seconds / 8000, 0.001)


def udp(sh, guest, address, seconds, back):
    """Packets per second that arrive and the device model's CPU in us for each."""
    before = guest.dm_stat()["cpu_s"]
    out = sh(f"iperf3 -c {address} -u -b 0 -l 18 -t {seconds} {'-R' if back else ''} | grep receiver", seconds + 60)
    used = guest.dm_stat()["cpu_s"] - before
    lost, total = re.search(r"(\d+)/(\d+) \(", out).groups()
    arrived = max(int(total) - int(lost), 1)
    return arrived / seconds, 1e6 * used / arrived


def one(box, dm, number, seconds):
    """One guest with both cards; returns the figures."""
    vifs = [f"bridge=xenbr{n},model={model},mac=00:16:3e:08:00:0{n}" for n, model in enumerate(MODELS)]
    guest = box.create(box.config(dm=dm, iso="net.iso", name=f"net{number}", memory=384, vif=vifs), serial="pty")
    guest.wait_for(UP, 300)
    guest.wait_for(r"/ # ", 30)
    sh = Shell(guest)
    figures = {}
    for n in range(len(MODELS)):
        sh(f"for d in /sys/class/net/eth*; do [ $(cat $d/address) = 00:16:3e:08:00:0{n} ] && D=${{d##*/}}; done; "
           f"ip addr add 10.7.{n}.9/24 dev $D; ip link set $D up; ping -c 1 -w 20 10.7.{n}.1")
    sh("mkdir -p /t /lib /lib64; wget -q -O - http://10.7.0.1/tools.tgz | tar xz -C /t; cp /t/lib/* /lib/; "
       "cp /t/lib/ld-linux-x86-64.so.2 /lib64/; ip link set lo up; alias iperf3=/t/iperf3", 120)
    for n, model in enumerate(MODELS):
        address = f"10.7.{n}.1"
        values = [*tcp(sh, guest, address, seconds, False), *tcp(sh, guest, address, seconds, True),
                  *udp(sh, guest, address, seconds, False), *udp(sh, guest, address, seconds, True)]
        rtt = re.search(r"= [\d.]+/([\d.]+)/", sh(f"ping -q -A -c 200 {address}", 90))
        values.append(float(rtt.group(1)) * 1000)
        figures.update({f"{model}_{key}": value for (key, _), value in zip(FIGURES, values)})
    guest.destroy()
    guest.wait_gone(20)
    return figures


def measure(box, a, kinds, results):
    """All rounds."""
    prepare(box)
    for number in range(a.rounds):
        for kind in kinds if number % 2 == 0 else kinds[::-1]:
            figures = one(box, "peer" if kind == "peer" else None, f"{number}{kind[0]}", a.seconds)
            print(f"  round {number + 1}, {kind}: " + ", ".join(
                f"{m} {figures[m + '_to_dom0_mbit']:.0f} and {figures[m + '_to_guest_mbit']:.0f} Mbit/s" for m in MODELS),
                flush=True)
            for key, value in figures.items():
                results[kind].setdefault(key, []).append(value)
