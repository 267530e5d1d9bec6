#!/usr/bin/env bash
# Unpacks programs of the machine's own Debian release as images, for the report of profiles: a base that all share, and
# a layer per program with what its packages need besides. Nothing is installed, and no maintainer script runs.
#
#   corpus.sh NAME…   those images, below target/deps/corpus; all of the list without a NAME
#   corpus.sh --list  the names
#   corpus.sh --tests SOURCE…  Debian's own tests of these source packages, below target/deps/corpus/.tests
#
# Does nothing, quickly, when all is there. The mirror is the one that this machine's apt already uses.
set -euo pipefail
cd "$(dirname "$0")/../.."

corpus=target/deps/corpus

# Image and packages; with = before them those alone, as images without a shell are made. The base is what Debian calls
# essential, less what only installs packages.
base="base-files bash dash coreutils libc-bin debianutils findutils grep sed tar gzip mawk libpam-modules login"
images="
nginx nginx
redis redis-server redis-tools
memcached memcached
haproxy haproxy
sqlite sqlite3
git git
curl curl ca-certificates
openssh openssh-server openssh-client
busybox busybox-static
python python3 python3-venv
ruby ruby
php php8.2-cli php8.2-sqlite3
perl perl
gawk gawk
jq jq
rsync rsync
socat socat
wget wget
openssl openssl
lighttpd lighttpd
lua lua5.4
tcl tcl8.6
xz xz-utils
make make
node nodejs
java openjdk-17-jre-headless
musl musl musl-dev
postgres-nojit postgresql-15
diffutils diffutils
iproute2 iproute2
apache2 apache2
db-tools perl bzip2 db-util gdbmtool dpkg
sysvinit sysvinit-utils
distroless =base-files =ca-certificates =netbase =tzdata =libc6 =libgcc-s1 =libssl3
"

fail() {
    printf 'corpus: %s\n  fix: %s\n' "$1" "$2" >&2
    exit 1
}

if [ "${1:-}" = --list ]; then
    awk 'NF { print $1 }' <<<"$images"
    exit
fi

if [ "${1:-}" = --tests ]; then
    shift
    missing=()
    for source in "$@"; do
        [ -e "$corpus/.tests/$source/.complete" ] || missing+=("$source")
    done
    [ ${#missing[@]} -gt 0 ] || exit 0
    mkdir -p $corpus/.tests
    exec 9>$corpus/.lock
    flock 9
    . integration/scripts/debian.sh
    private_apt $corpus/.sources "$(. /etc/os-release && echo "$VERSION_CODENAME")"
    debian_tests "$(pwd)/$corpus/.tests" "${missing[@]}"
    exit
fi

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || mapfile -t wanted < <(awk 'NF { print $1 }' <<<"$images")
missing=()
for name in "${wanted[@]}"; do
    [ -e "$corpus/$name/.complete" ] || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0

# One at a time: tests ask for several at once.
mkdir -p $corpus
exec 9>$corpus/.lock
flock 9

. integration/scripts/debian.sh
private_apt $corpus/.apt "$(. /etc/os-release && echo "$VERSION_CODENAME")"
trap 'rm -rf "$private"' EXIT

# distroless DIRECTORY: what an image has that nothing else lies below.
distroless() {
    mkdir -p "$1"/{dev,proc,sys,tmp,run,etc/ssl/certs}
    chmod 1777 "$1/tmp"
    printf 'root:x:0:0::/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n' >"$1/etc/passwd"
    printf 'root:x:0:\nnonroot:x:65532:\n' >"$1/etc/group"
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$1/etc/nsswitch.conf"
    # What ca-certificates' own script writes.
    cat "$1"/usr/share/ca-certificates/mozilla/*.crt >"$1/etc/ssl/certs/ca-certificates.crt"
    touch "$1/.whole"
}

# shellcheck disable=SC2086 # a list of words
archives $base >"$private/base"
if [ ! -e $corpus/base/.complete ]; then
    rm -rf $corpus/base
    mapfile -t files <"$private/base"
    unpack_layer $corpus/base "${files[@]}"
    mkdir -p $corpus/base/{dev,proc,sys,tmp,run,etc}
    chmod 1777 $corpus/base/tmp
    printf 'root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\nsshd:x:102:65534::/run/sshd:/bin/false\nnobody:x:65534:65534::/:/bin/sh\n' >$corpus/base/etc/passwd
    printf 'root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n' >$corpus/base/etc/group
    # What libc-bin's own scripts write.
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >$corpus/base/etc/nsswitch.conf
    touch $corpus/base/.complete
fi
for name in "${missing[@]}"; do
    # Whoever had the lock before may have made it.
    [ "$name" != base ] && [ ! -e "$corpus/$name/.complete" ] || continue
    packages=$(awk -v name="$name" '$1 == name { $1 = ""; print }' <<<"$images")
    [ -n "$packages" ] || fail "no image is called $name" "see $0 --list"
    echo "corpus: unpacking$packages"
    # shellcheck disable=SC2086 # a list of words
    archives ${packages//=/} >"$private/all"
    case $packages in
    *=*) mapfile -t files < <(grep -E "^(${packages// =/|})_" "$private/all") ;;
    *) mapfile -t files < <(comm -23 "$private/all" "$private/base") ;;
    esac
    rm -rf "${corpus:?}/$name"
    unpack_layer "$corpus/$name" "${files[@]}"
    [ "$name" != postgres-nojit ] || rm -f "$corpus/$name"/usr/lib/postgresql/*/lib/llvmjit* "$corpus/$name"/usr/lib/*/libLLVM*
    [ "$name" != distroless ] || distroless "$corpus/$name"
    touch "$corpus/$name/.complete"
done
