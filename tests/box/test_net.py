#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Network cards on real Xen: guests boot over the network by iPXE, Linux' own drivers carry data over bridges in dom0,
taps are taken away under them, PV drivers take over, and xl's hotplug scripts.
"""

import hashlib
import os
import re
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import suite  # noqa: E402
from suite import Shell, xenbox  # noqa: E402

MEGABYTES = 100
# Where time is short: 8139too moves a quarter to half of a megabyte a second here, by fifteen exits for each packet.
FEW_MEGABYTES = {"8139cp": 20, "8139too": 3}
# The whole 100 MB take it so long that the software CPU breaks off every second try: in pieces, which are not done again.
PIECE_MEGABYTES = 10
SLOW_S = 1500     # for that many on a busy machine: an exit takes a fifth of a millisecond and more
FCS, PAD_MAX, ETHERNET = 4, 18, 14        # bytes that a card counts and Linux does not: checksum; padding of the shortest frames
# A guest's card: network N of dom0 is bridge xenbrN, 10.7.N.0/24, dom0 has .1 there. host: last byte of the address.
ALPHA = [("e1000", 0, 11), ("rtl8139", 1, 12), ("rtl8139", 2, 13)]
BETA = [("rtl8139", 0, 21), ("e1000", 1, 22)]
PV = [("rtl8139", 0, 31)]
DOM0 = "10.0.2.15"      # of dom0's eth0, which vif-route puts on its interfaces
ROUTED, ROUTED_EMU = "10.8.0.2", "10.8.0.3"
NATTED, NAT_ROUTER = "10.9.0.2", "10.9.0.129"       # vif-nat adds 127
TROUBLE = re.compile(r"e1000|8139|\beth\d|NETDEV|DMA|nobody cared|\bbug\b|oops|hung|Call Trace|netfront|vif-", re.I)

# What guests run; functions print their results on the serial line.
GUEST_SCRIPT = r"""
cd /
mkdir -p /t /lib /lib64
wget -q -O - http://10.7.$NET.1/tools.tgz | tar xz -C /t || echo no tools
cp /t/lib/* /lib/
cp /t/lib/ld-linux-x86-64.so.2 /lib64/
mount -t tmpfs -o size=90% tmpfs /tmp
ln -s /t/ethtool /bin/ethtool
# The interface with this MAC address.
dev() { for d in /sys/class/net/*; do [ $(cat $d/address) = $1 ] && echo ${d##*/}; done; }
addr() { ip -4 -o addr show dev $1 | awk '{ print $4 }'; }
dhcp() { udhcpc -n -q -t 8 -T 1 -i $1 > /dev/null 2>&1; addr $1; }
# Waits until the interface $1 has a carrier ($2 is 1) or none (0); what it has then.
carrier() { for i in 1 2 3 4 5 6 7 8 9 10 11 12; do [ $(cat /sys/class/net/$1/carrier) = $2 ] && break; sleep 1; done
    cat /sys/class/net/$1/carrier; }
# rx_packets rx_bytes tx_packets tx_bytes
counted() { cd /sys/class/net/$1/statistics; echo COUNT $(cat rx_packets rx_bytes tx_packets tx_bytes); cd /; }
card() { ethtool -S $1 | awk '$2 != 0 { printf "%s ", $1 $2 } END { print "" }'; }
# $2 MB from dom0; their checksum.
fetch() { wget -q -O /tmp/d http://$1/data$2 && md5sum < /tmp/d; }
# Sums up what comes on port 7000 and says the sum; sends such data to a peer without end.
listen() { nc -ll -p 7000 -e md5sum > /dev/null 2>&1 & }
talk() {
    head -c 1000000 /dev/urandom > /tmp/r
    : > /tmp/talk
    while :; do
        got=$(nc -w 30 $1 7000 < /tmp/r 2> /dev/null)
        case $got in "$(md5sum < /tmp/r)") echo ok ;; "") echo none; sleep 1 ;; *) echo WRONG ;; esac >> /tmp/talk
    done
}
talked() { echo $(grep -c ok /tmp/talk) ok $(grep -c WRONG /tmp/talk) wrong; }
"""


def mac(host):
    """A card's MAC address."""
    return f"00:16:3e:07:00:{host:02x}"


class Tests(suite.Suite):
    """The scenarios; all but pv share two guests."""

    default_scenarios = ("e1000", "8139cp_few", "8139too_few")
    scenarios = ("e1000", "8139cp", "8139too", "tftp", "chaos", "pv", "8139cp_few", "8139too_few")
    shares_guests = True
    attempts = {"8139too": 15}

    def __init__(self, *args):
        super().__init__(*args)
        self.carried = {}   # pieces that went through: (driver, way) -> megabytes
        self.sums = {}      # of what is to be had: megabytes -> MD5 sum
        self.guests = {}

    def clean(self):
        super().clean()
        self.guests = {}

    # -- dom0 -----------------------------------------------------------------------------------------

    def prepare(self):
        """Bridges with addresses; DHCP, TFTP and HTTP servers."""
        iso_dir = os.path.dirname(self.box.images["install.iso"])
        self.box.check_sh("mkdir -p /tmp/www")
        for name in ("vmlinuz", "initrd", "tools.tgz"):
            self.box.put(os.path.join(iso_dir, name), f"/tmp/www/{name}")
        data = os.urandom(MEGABYTES * 1000000)
        for megabytes in (MEGABYTES, PIECE_MEGABYTES, *FEW_MEGABYTES.values()):
            part = data[:megabytes * 1000000]
            self.sums[megabytes] = hashlib.md5(part).hexdigest()
            with open(f"{self.box.share}/data{megabytes}", "wb") as f:
                f.write(part)
        options = "console=ttyS0,115200 quiet nokaslr hvmdm.job=idle hvmdm.end=shell"
        for variant, source, extra in (("http", "http://10.7.0.1", "xen_emul_unplug=never"),
                                       ("tftp", "tftp://10.7.0.1", "xen_emul_unplug=never"),
                                       ("pv", "http://10.7.0.1", "")):
            with open(f"{self.box.share}/{variant}.ipxe", "w", encoding="ascii") as f:
                f.write(f"#!ipxe\nkernel {source}/vmlinuz initrd=initrd {options} {extra}\ninitrd {source}/initrd\nboot\n")
        with open(f"{self.box.share}/t.sh", "w", encoding="ascii") as f:
            f.write(GUEST_SCRIPT)
        hosts = "".join(f"dhcp-host={mac(host)},set:{tag},10.7.{net}.{host}\n" for tag, nics in (
            ("http", ALPHA), ("tftp", BETA), ("pv", PV)) for _, net, host in nics)
        with open(f"{self.box.share}/dnsmasq.conf", "w", encoding="ascii") as f:
            f.write("port=0\nenable-tftp\ntftp-root=/tmp/www\nleasefile-ro\nbind-interfaces\n"
                    "log-facility=/tmp/dnsmasq.log\nlog-dhcp\nno-ping\nuser=root\n" + hosts +
                    "".join(f"interface=xenbr{n}\ndhcp-range=10.7.{n}.100,10.7.{n}.199,255.255.255.0\n" for n in range(3)) +
                    "dhcp-boot=tag:http,http://10.7.0.1/http.ipxe\ndhcp-boot=tag:tftp,tftp.ipxe\n"
                    "dhcp-boot=tag:pv,http://10.7.0.1/pv.ipxe\n")
        self.box.check_sh(f"""set -e
            cp /share/*.ipxe /share/t.sh /tmp/www/
            for n in 0 1 2; do
                [ -e /sys/class/net/xenbr$n ] || brctl addbr xenbr$n
                echo 1 > /proc/sys/net/ipv6/conf/xenbr$n/disable_ipv6
                ip addr add 10.7.$n.1/24 dev xenbr$n
                ip link set xenbr$n up
            done
            echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
            dnsmasq -C /share/dnsmasq.conf
            mv /share/data* /tmp/www/
            busybox httpd -p 80 -h /tmp/www
            truncate -s 16M /images/empty.img""")

    def counters(self, interface):
        """rx_packets, rx_bytes, tx_packets, tx_bytes of an interface in dom0."""
        return [int(x) for x in self.box.check_sh(
            f"cd /sys/class/net/{interface}/statistics && cat rx_packets rx_bytes tx_packets tx_bytes").split()]

    def taps(self):
        """Names of the taps that there are."""
        return self.box.sh("cd /sys/class/net && ls -d *-emu 2> /dev/null")[1].split()

    # -- guests ---------------------------------------------------------------------------------------

    def start(self, name, nics, memory=256, extra=(), cd=False):
        """xl create of a guest that has an empty disk and boots from the network, or from the test CD."""
        boot = {"boot": "n", "vga": "none"}     # each line that iPXE scrolls on a screen costs the box 2 s
        if cd:
            boot = {"boot": "d", "iso": self.box.iso_for(f"{name}.iso", job="idle", end="shell", menu_s=1)}
        vifs = [f"bridge=xenbr{net},model={model},mac={mac(host)}" for model, net, host in nics] + list(extra)
        guest = self.box.create(self.box.config(disk="empty.img", name=name, memory=memory, vif=vifs, **boot), serial="pty")
        self.guests[name] = (guest, Shell(guest))

    def up(self, name, nics):
        """Waits for user space; fetches the tools over the first card. (guest, its shell)"""
        guest, sh = self.guests[name]
        seconds = guest.wait_for(xenbox.UP, 300)[1]
        self.check(f"{name}: user space up over the network by iPXE ({nics[0][0]})", True, f"{seconds:.1f} s", True)
        guest.wait_for(r"^GUEST: done\s", 150)
        guest.wait_for(r"/ # ", 20)
        sh("for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $f; done")
        _, net, host = nics[0]
        sh(f"NET={net}; for d in /sys/class/net/eth*; do [ $(cat $d/address) = {mac(host)} ] && udhcpc -n -q -t 8 -T 1 "
           f"-i ${{d##*/}}; done > /dev/null 2>&1; wget -q http://10.7.{net}.1/t.sh; . /t.sh", 90)
        return guest, sh

    def dhcp(self, name, sh, nic, driver):
        """An address by DHCP on the card with that MAC and driver; returns the interface's name."""
        _, net, host = nic
        dev = sh(f"dev {mac(host)}")[1]
        _, out = sh(f"basename $(readlink /sys/class/net/{dev}/device/driver); dhcp {dev}")
        self.check(f"{name}: an address by DHCP", out.split() == [driver, f"10.7.{net}.{host}/24"], out)
        return dev

    def ping(self, name, sh, host, count=3, size=56):
        """Each ping is answered."""
        status, out = sh(f"ping -q -A -c {count} -s {size} {host}")
        self.check(name, status == 0 and " 0% packet loss" in out, out[-80:].replace("\n", " "))

    def transfer(self, way, guest, sh, nic, megabytes):
        """So many MB "to" or "from" the guest: whether their checksum is right, and what it took."""
        _, net, host = nic
        used, start = guest.dm_stat()["cpu_s"], time.monotonic()
        if way == "to":
            out = sh(f"fetch 10.7.{net}.1 {megabytes}", SLOW_S)[1]
        else:
            # busybox's nc writes 1 KiB at a time, each of them an exit or more
            sh(f"pidof httpd || httpd -p 80 -h /tmp; [ -e /tmp/d ] || fetch 10.7.{net}.1 {megabytes}", SLOW_S)
            out = guest.beside(f"busybox wget -q -O - http://10.7.{net}.{host}/d | md5sum", SLOW_S)[1]
        right = self.sums[megabytes] in out
        return right, (f"{time.monotonic() - start:.1f} s, device model {guest.dm_stat()['cpu_s'] - used:.1f} s "
                       f"{'' if right else out}")

    def transfers(self, name, guest, sh, nic, megabytes=MEGABYTES):
        """So many MB there and back, with their checksums."""
        for way in ("to", "from"):
            right, took = self.transfer(way, guest, sh, nic, megabytes)
            self.check(f"{name}: {megabytes} MB {way} the guest", right, took, True)
        sh("rm /tmp/d")

    def pieces(self, name, guest, sh, nic):
        """The same with all of the data, in pieces."""
        for way in ("to", "from"):
            right, key = True, (name, way)
            while right and self.carried.get(key, 0) < MEGABYTES:
                right, took = self.transfer(way, guest, sh, nic, PIECE_MEGABYTES)
                if right:
                    self.carried[key] = self.carried.get(key, 0) + PIECE_MEGABYTES
                print(f"     {self.carried.get(key, 0)} MB {way} the guest: {took}", flush=True)
            self.check(f"{name}: {MEGABYTES} MB {way} the guest, {PIECE_MEGABYTES} at a time", right)
        sh("rm -f /tmp/d")

    @staticmethod
    def card(sh, dev):
        """ethtool -S, what is not zero: dict."""
        return {k: int(v) for k, v in re.findall(r"(\w+):(\d+)", sh(f"card {dev}")[1])}

    @staticmethod
    def linux(sh, dev):
        """What Linux counted in the guest: rx_packets, rx_bytes, tx_packets, tx_bytes."""
        return [int(x) for x in re.search(r"COUNT (\d+) (\d+) (\d+) (\d+)", sh(f"counted {dev}")[1]).groups()]

    def count(self, name, sh, dev, tap, dom0):
        """Over a number of pings tap and driver count the same; over all time driver and card do."""
        pings = 20
        self.ping(f"{name}: {pings} pings", sh, dom0, pings, 200)     # ARP is done, nothing is under way
        before = self.linux(sh, dev), self.counters(tap)
        sh(f"ping -q -A -c {pings} -s 200 {dom0}")
        after = self.linux(sh, dev), self.counters(tap)
        guest = [b - a for a, b in zip(before[0], after[0])]
        if name == "8139cp":
            guest[1] += ETHERNET * guest[0]     # this driver counts what it hands on
        host = [b - a for a, b in zip(before[1], after[1])]
        same = all(abs(guest[i] - host[j]) <= (i % 2) * PAD_MAX * max(0, guest[i - 1] - pings)
                   for i, j in ((0, 2), (1, 3), (2, 0), (3, 1)))
        self.check(f"{name}: tap and driver count the same frames and bytes",
                   same and guest[0] >= pings and guest[1] >= pings * 242, f"guest {guest}, tap {host}")
        for _ in range(5):      # until no frame came between the two counts
            card, (rxp, rxb, txp, txb) = self.card(sh, dev), self.linux(sh, dev)
            if self.card(sh, dev) == card:
                break
        if "rx_bytes" in card:
            good = card["rx_packets"] == rxp and card["tx_packets"] == txp and all(
                0 <= c - l - FCS * p <= PAD_MAX * 100 for c, l, p in ((card["rx_bytes"], rxb, rxp), (card["tx_bytes"], txb, txp)))
        else:
            good = card.get("rx_ok", rxp) == rxp and card.get("tx_ok", txp) == txp
        bad = {k: v for k, v in card.items() if re.search("err|drop|timeout|fifo|abort|missed|crc|restart", k)}
        self.check(f"{name}: ethtool -S adds up", good and not bad, f"{card}, Linux: {[rxp, rxb, txp, txb]}")

    def mtu(self, name, sh, dev, tap, net, mtu):
        """The largest frames the driver allows go through whole; small ones, too."""
        dom0 = f"10.7.{net}.1"
        size = mtu - 28     # IP and ICMP headers
        status, out = sh(f"ip link set {dev} mtu {mtu}; cat /sys/class/net/{dev}/mtu")
        self.box.check_sh(f"ip link set {tap} mtu {mtu}; ip link set xenbr{net} mtu {mtu}")
        sh(f"sleep 1; carrier {dev} 1")     # some drivers restart, and with them the link
        self.ping(f"{name}: MTU {mtu}: ping", sh, dom0, 2)
        before = self.counters(tap)
        self.ping(f"{name}: MTU {mtu}: pings that fill a frame", sh, dom0, 5, size)
        after = self.counters(tap)
        self.check(f"{name}: MTU {mtu}: they are not in pieces", status == 0 and out == str(mtu)
                   and all(5 <= after[i] - before[i] < 10 for i in (0, 2)), f"{out} {before} {after}")
        self.box.check_sh(f"ip link set xenbr{net} mtu 1500; ip link set {tap} mtu 1500")
        sh(f"ip link set {dev} mtu 600; sleep 1; carrier {dev} 1")
        self.ping(f"{name}: MTU 600: pings in pieces", sh, dom0, 5, 1400)
        sh(f"ip link set {dev} mtu 1500; sleep 1; carrier {dev} 1")
        self.ping(f"{name}: MTU 1500 again", sh, dom0, 5, 1472)

    def cable(self, name, sh, dev, tap, dom0):
        """Down and up, of the guest's interface and of the tap."""
        sh(f"ip link set {dev} down; sleep 1; ip link set {dev} up; sleep 1; carrier {dev} 1")
        self.ping(f"{name}: ping after ip link down and up", sh, dom0)
        self.box.check_sh(f"ip link set {tap} down")
        out = sh(f"ping -q -c 2 -w 3 {dom0} > /dev/null; carrier {dev} 0")[1]
        self.check(f"{name}: no carrier while the tap is down", out == "0", out)
        self.box.check_sh(f"ip link set {tap} name renamed; ip link set renamed up")
        out = sh(f"carrier {dev} 1")[1]
        self.check(f"{name}: carrier after the tap was renamed and set up", out == "1", out)
        self.ping(f"{name}: ping then", sh, dom0)
        self.box.check_sh(f"ip link set renamed down; ip link set renamed name {tap}; ip link set {tap} up")
        sh(f"sleep 2; carrier {dev} 1")

    def kernel_log(self, name, sh):
        """No warning or error of a network driver."""
        out = sh("dmesg -r | grep '^<[0-4]>'")[1]
        bad = [line for line in out.splitlines() if TROUBLE.search(line)]
        self.check(f"{name}: no complaint in the kernel log", not bad, " | ".join(bad[:6]))

    def network_list(self, name, hosts, state):
        """xl network-list shows the cards."""
        out = self.box.check_sh(f"xl network-list {name}")
        rows = [line.split() for line in out.splitlines()[1:]]
        self.check(f"{name}: xl network-list", [r[2] for r in rows] == [mac(h) for h in hosts]
                   and all(r[4] in state for r in rows), out)

    # -- scenarios ------------------------------------------------------------------------------------

    def alpha(self):
        """The guest with three cards, booted by HTTP over the first: (guest, its shell)."""
        if "alpha" in self.guests:
            return self.guests["alpha"]
        self.start("alpha", ALPHA, 512)
        guest, sh = self.up("alpha", ALPHA)
        self.network_list("alpha", [11, 12, 13], "1235")
        # 8139cp has both RTL8139; the second is given to the 8139too that drives any of them.
        sh("rmmod 8139too; insmod /t/8139too.ko")
        third = sh(f"dev {mac(13)}")[1]
        sh(f"p=$(basename $(readlink /sys/class/net/{third}/device)); echo $p > /sys/bus/pci/drivers/8139cp/unbind; "
           f"echo $p > /sys/bus/pci/drivers/8139too/bind")
        return guest, sh

    def driver(self, driver, nic, mtu, megabytes=MEGABYTES):
        """Everything that a card does for its driver; megabytes=None: in pieces. Returns the shell and the interface's name."""
        guest, sh = self.alpha()
        tap, dom0 = f"vif{guest.domid}.{nic[1]}-emu", f"10.7.{nic[1]}.1"
        dev = self.dhcp(driver, sh, nic, driver)
        self.ping(f"{driver}: ping", sh, dom0)
        if megabytes is None:
            self.pieces(driver, guest, sh, nic)
        else:
            self.transfers(driver, guest, sh, nic, megabytes)
        self.count(driver, sh, dev, tap, dom0)
        self.mtu(driver, sh, dev, tap, nic[1], mtu)
        self.cable(driver, sh, dev, tap, dom0)
        self.kernel_log(driver, sh)
        return sh, dev

    def run_e1000(self):
        """A guest with three cards boots by HTTP over its e1000; that card."""
        sh, dev = self.driver("e1000", ALPHA[0], 9000)
        status, out = sh(f"ethtool -t {dev} offline", 90)
        self.check("e1000: ethtool -t offline passes", status == 0 and "test result is PASS" in out, out)
        status, out = sh(f"sleep 1; carrier {dev} 1; ethtool -t {dev} online")
        self.check("e1000: ethtool -t online passes", status == 0 and "test result is PASS" in out, out)
        self.dhcp("e1000 after its self test", sh, ALPHA[0], "e1000")
        self.ping("e1000: ping after its self test", sh, "10.7.0.1")
        self.kernel_log("e1000 after its self test", sh)

    def run_8139cp(self):
        """The RTL8139 with its C+ driver."""
        self.driver("8139cp", ALPHA[1], 4000)

    def run_8139cp_few(self):
        """The same, with less data."""
        self.driver("8139cp", ALPHA[1], 4000, FEW_MEGABYTES["8139cp"])

    def run_8139too(self):
        """The RTL8139 with the driver of the old ones."""
        self.driver("8139too", ALPHA[2], 1700, None)

    def run_8139too_few(self):
        """The same, with less data."""
        self.driver("8139too", ALPHA[2], 1700, FEW_MEGABYTES["8139too"])

    def run_tftp(self):
        """A guest booted by TFTP over rtl8139; vif-route, vifname=, type=ioemu."""
        if "beta" not in self.guests:
            self.start_beta()
        guest, sh = self.up("beta", BETA)
        self.network_list("beta", [21, 22, 23], "1235")
        self.dhcp("beta: 8139cp", sh, BETA[0], "8139cp")
        self.dhcp("beta: e1000", sh, BETA[1], "e1000")
        taps = self.taps()
        self.check("vifname= renames the tap", "beta2-emu" in taps and f"vif{guest.domid}.1-emu" in taps, taps)
        dev = sh(f"dev {mac(23)}")[1]
        sh(f"ip link set {dev} up; ip addr add {ROUTED_EMU}/32 dev {dev}; ip route add {DOM0} dev {dev}; sleep 2")
        self.ping("vif-route: ping over the emulated card", sh, DOM0)
        out = self.box.sh(f"ip route get {ROUTED_EMU}; busybox ping -c 2 {ROUTED_EMU}")[1]
        self.check("vif-route: dom0's route to the guest is its tap, and ping", "dev beta2-emu" in out and ", 0% " in out, out)
        self.kernel_log("beta", sh)

    def start_beta(self):
        """The second guest."""
        self.start("beta", BETA, extra=[f"model=rtl8139,mac={mac(23)},script=vif-route,ip={ROUTED_EMU},type=ioemu,vifname=beta2"])

    def run_chaos(self):
        """Two guests exchange data while their taps are set down, renamed, taken off the bridge and deleted."""
        if "alpha" not in self.guests:
            self.dhcp("alpha", self.alpha()[1], ALPHA[1], "8139cp")
        if "beta" not in self.guests:
            self.run_tftp()
        (alpha, ash), (beta, bsh) = self.guests["alpha"], self.guests["beta"]
        t1, t2 = f"vif{alpha.domid}.0-emu", f"vif{beta.domid}.0-emu"
        ash("listen")
        bsh("listen")
        ash("talk 10.7.0.21 & sleep 3")
        bsh("talk 10.7.0.11 & sleep 3")
        before = [g.dm_stat()["private_kb"] for g in (alpha, beta)]
        self.box.check_sh(f"""for i in $(seq 8); do
            ip link set {t1} down; sleep 0.3; ip link set {t1} up
            ip link set {t2} down; ip link set {t2} name other; ip link set other up; sleep 0.4
            ip link set other down; ip link set other name {t2}; ip link set {t2} up
            brctl delif xenbr0 {t1}; ip link set {t2} mtu 600; sleep 0.3; ip link set {t2} mtu 1500; brctl addif xenbr0 {t1}
            sleep 0.5; done""", 120)
        first = [sh("talked")[1].split() for sh in (ash, bsh)]
        for _ in range(40):
            time.sleep(1)
            then = [sh("talked")[1].split() for sh in (ash, bsh)]
            if all(int(b[0]) >= int(a[0]) + 2 for a, b in zip(first, then)):
                break
        self.check("traffic goes on after the taps were set down, renamed, moved", all(
            int(b[0]) >= int(a[0]) + 2 and b[2] == "0" for a, b in zip(first, then)), f"{first} {then}", True)
        self.box.check_sh(f"ip link del {t2}; ip link add name xenbr9 type bridge; brctl delif xenbr0 {t1}; sleep 1; "
                          f"brctl addif xenbr9 {t1}")
        status, out = self.box.sh("xl network-detach alpha 0; xl network-list alpha")
        self.check("xl network-detach while there is traffic", status == 0 and mac(11) not in out, out)
        out = bsh(f"carrier $(dev {mac(21)}) 0")[1]
        self.check("a deleted tap: no carrier", out == "0", out)
        self.ping("a deleted tap: the guest's other card goes on", bsh, "10.7.1.1")
        self.ping("a detached card: the guest's other card goes on", ash, "10.7.1.1")
        status, out = bsh("dd if=/dev/sda of=/dev/null bs=1M count=8")
        self.check("a deleted tap: the guest's disk goes on", status == 0, out)
        start = [g.dm_stat() for g in (alpha, beta)]
        time.sleep(3)
        end = [g.dm_stat() for g in (alpha, beta)]
        self.check("the device models do not spin", all(e["cpu_s"] - s["cpu_s"] < 1 for s, e in zip(start, end)),
                   [e["cpu_s"] - s["cpu_s"] for s, e in zip(start, end)])
        self.check("memory is flat", all(e["private_kb"] - b <= 512 for b, e in zip(before, end)),
                   f"{before} {[e['private_kb'] for e in end]} KiB", True)
        for guest in (alpha, beta):
            log = guest.dm_log()
            self.check(f"{guest.name}: the device model's log is short", len(log) < 2000, log[-600:])
            guest.destroy()
        self.box.sh("ip link del xenbr9; sleep 1")
        self.check("no tap is left", self.taps() == [], self.taps())

    def run_pv(self):
        """PV drivers: boots over the emulated card, then netfront takes over; vif-bridge, vif-route, vif-nat; attach, detach."""
        others = self.taps()
        self.start("pv", PV, 384, extra=[f"mac={mac(32)},script=vif-route,ip={ROUTED}",
                                         f"mac={mac(33)},script=vif-nat,ip={NATTED}"])
        before = self.taps()
        guest, sh = self.up("pv", PV)
        after = self.taps()
        self.check("pv: three taps for the boot, none after the unplug", len(before) == len(others) + 3 and after == others,
                   f"{others} {before} {after}")
        self.network_list("pv", [31, 32, 33], "4")
        dev = self.dhcp("vif-bridge: netfront", sh, PV[0], "vif")
        self.ping("vif-bridge: ping", sh, "10.7.0.1")
        self.transfers("netfront", guest, sh, PV[0])
        for script, host, ip, router in (("vif-route", 32, ROUTED, DOM0), ("vif-nat", 33, NATTED, NAT_ROUTER)):
            dev = sh(f"dev {mac(host)}")[1]
            sh(f"ip link set {dev} up; ip addr add {ip}/32 dev {dev}; ip route add {router} dev {dev}; sleep 1")
            self.ping(f"{script}: ping", sh, router)
        status, out = self.box.sh("xl network-detach pv 1; xl network-list pv")
        self.check("pv: xl network-detach", status == 0 and mac(32) not in out and sh(f"dev {mac(32)}")[1] == "", out)
        status, out = self.box.sh(f"xl network-attach pv mac={mac(34)} bridge=xenbr1; xl network-list pv")
        sh("sleep 1")
        dev = sh(f"dev {mac(34)}")[1]
        out += sh(f"dhcp {dev}")[1]
        self.check("pv: xl network-attach, an address by DHCP", status == 0 and mac(34) in out and "10.7.1.1" in out, out)
        self.kernel_log("pv", sh)
        guest.destroy()


if __name__ == "__main__":
    sys.exit(suite.main(Tests, __doc__))
