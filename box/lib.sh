# SPDX-License-Identifier: GPL-2.0-or-later
# Shared by the box/mk* scripts: steps with their time, the cache, Debian packages without installing them.
# Sourced by bash; messages go to stderr, so that a script's stdout is only its result.

set -euo pipefail

box_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache_dir=${XDG_CACHE_HOME:-$HOME/.cache}/hvm-dm
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# step TEXT COMMAND...: runs the command, prints the text and the seconds it took.
step() {
    local text=$1 t0=$EPOCHREALTIME t1
    shift
    printf '  %-58s' "$text" >&2
    [ -t 2 ] || printf '\n' >&2
    "$@"
    t1=$EPOCHREALTIME
    [ -t 2 ] || printf '  %-58s' "... $text" >&2
    printf ' %6.1f s\n' "$(((${t1/[.,]/} - ${t0/[.,]/}) / 100000))e-1" >&2
}

# stage TEXT COMMAND...: like step, for a command that prints steps of its own.
stage() {
    local text=$1 t0=$EPOCHREALTIME t1
    shift
    "$@"
    t1=$EPOCHREALTIME
    printf '  %-58s %6.1f s\n' "$text" "$(((${t1/[.,]/} - ${t0/[.,]/}) / 100000))e-1" >&2
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# need PACKAGE...: installs those packages of the outer machine that are missing.
need() {
    local missing=() p
    for p in "$@"; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
    done
    [ ${#missing[@]} = 0 ] && return
    fresh_lists
    step "install ${missing[*]}" as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${missing[@]}" > /dev/null
}

# Package lists must exist; a machine fresh from an image often has none.
fresh_lists() {
    if [ -z "$(apt-cache policy linux-image-amd64 2>/dev/null | sed -n '/http\|file:\|cdrom/p')" ]; then
        step "apt-get update" as_root apt-get update -qq >&2
    fi
}

# apt against an empty package database: resolves a whole closure, with this machine's own mirrors and keys.
apt_empty() {
    local dir=$1
    shift
    mkdir -p "$dir/partial"
    : > "$dir/status"
    apt-get -o APT::Sandbox::User="" -o Dir::State::status="$dir/status" -o Dir::Cache::archives="$dir" -o Debug::NoLocking=1 \
        -o APT::Install-Recommends=0 -o APT::Install-Suggests=0 "$@"
}

# closure PACKAGE...: one line per package file needed, "name size hash". Names hold the versions.
closure() {
    local tmp
    tmp=$(mktemp -d)
    apt_empty "$tmp" -qq --print-uris install "$@" | awk '{ print $2, $3, $4 }' | sort
    rm -rf "$tmp"
}

# download DIR PACKAGE...: puts the .deb files of the closure in DIR.
download() {
    local dir=$1 quiet=-qq
    shift
    [ -t 2 ] && quiet=-q
    apt_empty "$dir" $quiet -y --download-only install "$@" >&2
}

# unpack DEB DIR [tar option...]
unpack() {
    local deb=$1 dir=$2
    shift 2
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir" --keep-directory-symlink "$@"
}

# cached NAME KEY BUILDER: prints the folder NAME-KEY of the cache; where it does not exist yet, BUILDER DIR
# fills a temporary one first. A half-made folder is never seen; two builders wait for each other. Entries of the
# same name that nobody used for three days are removed.
cached() {
    local name=$1 dir=$cache_dir/$1-$2 builder=$3 tmp
    mkdir -p "$cache_dir"
    if [ ! -d "$dir" ]; then
        exec 9> "$cache_dir/$name.lock"
        flock 9
        if [ ! -d "$dir" ]; then
            tmp=$(mktemp -d "$cache_dir/.tmp-$name-XXXXXX")
            chmod 755 "$tmp"
            # shellcheck disable=SC2064
            trap "rm -rf '$tmp'" EXIT
            "$builder" "$tmp"
            mv -T "$tmp" "$dir"
            trap - EXIT
        fi
        exec 9>&-
        find "$cache_dir" -maxdepth 1 -name "$name-*" ! -path "$dir" -mtime +3 -exec rm -rf {} +
    fi
    touch "$dir"
    printf '%s\n' "$dir"
}

# memo NAME KEY COMMAND...: the command's output, remembered as long as this machine's package lists and KEY are the
# same and the folder that it names exists. Resolving a closure takes apt a second or two each time.
memo() {
    local name=$1 file key
    key=$( (echo "$2"; ls -l --time-style=full-iso /var/lib/apt/lists /etc/apt /etc/apt/sources.list.d) | hash_of)
    file=$cache_dir/memo-$name-$key
    shift 2
    if [ ! -e "$file" ] || [ ! -e "$(cat "$file")" ]; then
        "$@" > "$cache_dir/.tmp-$name.$$" || { rm -f "$cache_dir/.tmp-$name.$$"; exit 1; }
        mv "$cache_dir/.tmp-$name.$$" "$file"
        find "$cache_dir" -maxdepth 1 -name "memo-$name-*" ! -path "$file" -delete
    fi
    touch "$(cat "$file")"
    cat "$file"
}

hash_of() { sha256sum | cut -c1-16; }

# copy_modules FROM_ROOT TO_ROOT MODULE...: the modules with what they depend on, and modules.dep for them.
copy_modules() {
    local from=$1 to=$2 version m
    shift 2
    version=$(ls "$from/lib/modules")
    mkdir -p "$to/lib/modules/$version"
    for m in "$@"; do
        modprobe -d "$from" -S "$version" --show-depends "$m" | sed -n 's/^insmod \(.*[^ ]\) *$/\1/p' ||
            die "no kernel module $m"
    done | sort -u | sed "s|^$from/||" | tar -C "$from" -cf - -T - | tar -C "$to" -xf - --keep-directory-symlink
    cp "$from/lib/modules/$version/"modules.{builtin,builtin.modinfo,order} "$to/lib/modules/$version/"
    depmod -b "$to" "$version"
}
