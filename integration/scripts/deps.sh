#!/usr/bin/env bash
# Installs what building and testing Bulkhead need, and unpacks newer containerds beside the system's.
#
#   deps.sh           everything
#   deps.sh --demo    only what `make demo` needs: the machine's own packages
#   deps.sh --bench   what `make bench` compares with and loads servers with: crun, runsc where it can be had, ab, redis-benchmark
#
# From the machine's own suite: containerd, runc, CNI plugins, a static busybox, a compiler, protoc.
# From newer suites of the same mirror, unpacked below target/deps and never installed: containerd 1.7 and 2.1, cosign 2
# and 3, gVisor's runsc.
# A small Debian userland for test images, packed by mmdebstrap.
# The mirror is the one that this machine's apt already uses; lists, cache and sources of the newer suites stay private.
# containerd's own test suites, built from its Go module (integration/conformance).
# Does nothing, quickly, when all is there. What cannot be had is an error that says what to do, never a skip.
set -euo pipefail
cd "$(dirname "$0")/../.."

deps=target/deps
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"

fail() {
    printf 'deps: %s\n  fix: %s\n' "$1" "$2" >&2
    exit 1
}

. integration/scripts/debian.sh

# program=package. A program that is there needs no package, wherever it came from.
system_packages() {
    local pair missing=()
    for pair in cc=gcc protoc=protobuf-compiler containerd=containerd ctr=containerd runc=runc \
        busybox=busybox-static mkfs.erofs=erofs-utils ip=iproute2 nsenter=util-linux dbus-daemon=dbus-daemon openssl=openssl \
        "$@"; do
        command -v "${pair%%=*}" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null ||
            missing+=("${pair#*=}")
    done
    [ -e /usr/lib/x86_64-linux-gnu/libc.a ] || missing+=(libc6-dev)
    [ -x /usr/lib/cni/ptp ] || [ -x /opt/cni/bin/ptp ] || missing+=(containernetworking-plugins)
    # The dynamic busybox would need its libraries in every image.
    ! busybox_is_dynamic || missing+=(busybox-static)
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || fail "missing: ${missing[*]}, and no apt-get" "install them by hand"
    echo "deps: installing ${missing[*]}"
    # A daemon that a package would start is none of this machine's business.
    local guard=/usr/sbin/policy-rc.d made=""
    if [ ! -e $guard ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee $guard >/dev/null && $sudo chmod 755 $guard
        made=1
    fi
    [ -z "$made" ] || trap '$sudo rm -f /usr/sbin/policy-rc.d' EXIT
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null ||
        { $sudo apt-get update -q && $sudo env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null; } ||
        fail "apt-get could not install ${missing[*]}" "run 'apt-get update' and read what it says"
    if [ -n "$made" ]; then
        $sudo rm -f $guard
        trap - EXIT
    fi
}

busybox_is_dynamic() {
    local busybox
    busybox=$(command -v busybox) || return 1
    # A dynamic executable names its interpreter in the first page.
    head -c 4096 "$busybox" | grep -qa 'ld-linux'
}

# unpack NAME SUITE PACKAGE [ARGUMENT]: SUITE's PACKAGE, which holds a program of that name that says its version when it
# gets the ARGUMENT (--version), in target/deps/NAME.
unpack() {
    local name=$1 suite=$2 package=$3 version=${4:---version}
    local to=$deps/$name private=$PWD/$deps/apt/$suite apt=()
    [ -e "$to/.complete" ] && return
    [ "$(. /etc/os-release && echo "$ID")" = debian ] || fail "$package of Debian $suite is only to be had on Debian" \
        "test on Debian, or put $package's usr/ below $to and 'touch $to/.complete'"
    echo "deps: unpacking $package of $suite into $to"
    rm -rf "$to" && mkdir -p "$to"
    private_apt "$private" "$suite"
    (cd "$private" && "${apt[@]}" download "$package" >>log 2>&1) ||
        fail "apt-get download $package of $suite failed: $(tail -n 3 "$private/log")" "see $private/log"
    dpkg -x "$private/$package"_*.deb "$to"
    rm -f "$private/$package"_*.deb
    rm -rf "$private/lists" "$private/cache"
    "$to/usr/bin/$package" "$version" >"$to/.version" ||
        fail "$to/usr/bin/$package does not run here" "this machine's libc may be older than Debian 12's"
    touch "$to/.complete"
}

# A small real userland with a shared libc, unpacked and never booted: what everyday images are made of.
userland() {
    local to=$deps/userland codename uri
    [ -e "$to/.complete" ] && return
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    uri=$(mirror) || exit
    echo "deps: unpacking a userland of $codename into $to"
    rm -rf "$to" && mkdir -p "$to"
    $sudo mmdebstrap --quiet --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include=nginx,bash,coreutils,findutils,sed,grep,tar,gzip,python3-minimal,perl-base,curl,libc-bin,base-files \
        "$codename" "$to/userland.tar" "$uri" >"$to/log" 2>&1 ||
        fail "mmdebstrap failed: $(tail -n 3 "$to/log")" "check the network, see $to/log"
    touch "$to/.complete"
}

case "${1:-}" in
--demo)
    system_packages
    ;;
--bench)
    system_packages
    mkdir -p $deps
    # A peer that cannot be had is named in the report, with the reason: the others are measured all the same.
    (system_packages crun=crun) || true
    # What asks the servers of its profiles.
    (system_packages ab=apache2-utils redis-benchmark=redis-tools) || true
    (unpack runsc trixie runsc) || true
    # Pods need a newer CRI than that of Debian 12's containerd.
    (unpack containerd-1.7 trixie containerd) || true
    ;;
"")
    # What the signature tests make their own certificates with; `true` is there, the other name nowhere.
    made_by=no-cryptography
    ! python3 -c 'import cryptography' 2>/dev/null || made_by=true
    system_packages $made_by=python3-cryptography mmdebstrap=mmdebstrap docker-registry=docker-registry strace=strace pgrep=procps jq=jq \
        mke2fs=e2fsprogs xz=xz-utils strip=binutils flock=util-linux pkill=procps
    mkdir -p $deps
    unpack containerd-1.7 trixie containerd
    unpack containerd-2.1 sid containerd
    # Who signs the images of the signature tests.
    unpack cosign-2 trixie cosign version
    unpack cosign-3 sid cosign version
    # Columns of the table of attacks.
    unpack runsc trixie runsc
    integration/attacks/runc/build.sh
    userland
    integration/registry/build.sh
    integration/conformance/build.sh 2.1
    ;;
*)
    fail "unknown argument $1" "see the head of $0"
    ;;
esac
