#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs the Debian packages that building, testing and the demo need and that are missing. Quiet when all are there.
#   ./setup.sh [build|all|desktop]    build: only what `make` needs; all (default): tests, benches and the box too;
#                                     desktop: and the viewers of tests/box/test_desktop.py (a browser, 400 MB)
set -eu
build="gcc make pkg-config libc6-dev libxen-dev libvncserver-dev libjson-c-dev seabios liburing-dev libnbd-dev zlib1g-dev
 libisal-dev libsdl2-dev"
test="clang llvm libclang-rt-14-dev libcmocka-dev git python3 qemu-system-xen
 qemu-system-x86 qemu-utils fdisk e2fsprogs xorriso isolinux syslinux-common busybox-static cpio zstd
 nbdkit dpkg-dev gvncviewer imagemagick openssl procps iproute2 libsdl2-2.0-0 xvfb xdotool x11-utils openbox
 edid-decode"
desktop="tigervnc-viewer xtightvncviewer chromium"
case ${1:-all} in
build) want=$build ;;
desktop) want="$build $test $desktop" ;;
*) want="$build $test" ;;
esac
missing=
for p in $want; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Without lists, or with lists too old, nothing is found.
# shellcheck disable=SC2086
if ! $sudo apt-get install -y --no-install-recommends $missing >"$log" 2>&1; then
    echo "setup: refreshing package lists"
    $sudo apt-get update >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
    # shellcheck disable=SC2086
    $sudo apt-get install -y --no-install-recommends $missing >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
fi
