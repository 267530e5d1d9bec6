#!/usr/bin/env bash
# Unpacks programs of the machine's own Debian release as images, for the report of profiles: a base that all share, and
# a layer per program with what its packages need besides. Nothing is installed, and no maintainer script runs.
#
#   corpus.sh NAME…   those images, below target/deps/corpus; all of the list without a NAME
#   corpus.sh --list  the names
#
# Does nothing, quickly, when all is there. The mirror is the one that this machine's apt already uses.
set -euo pipefail
cd "$(dirname "$0")/../.."

corpus=target/deps/corpus

# Image and packages. The base is what Debian calls essential, less what only installs packages.
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
apache apache2-bin
node nodejs
java openjdk-17-jre-headless
musl musl musl-dev
"

fail() {
    printf 'corpus: %s\n  fix: %s\n' "$1" "$2" >&2
    exit 1
}

if [ "${1:-}" = --list ]; then
    awk 'NF { print $1 }' <<<"$images"
    exit
fi

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || mapfile -t wanted < <(awk 'NF { print $1 }' <<<"$images")
missing=()
for name in "${wanted[@]}"; do
    [ -e "$corpus/$name/.complete" ] || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0

release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# shellcheck disable=SC2016 # apt's own variables
uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v release="$release" '$2 == release && $3 == "main" { print $1; exit }')
[ -n "$uri" ] || fail "apt knows no source for this machine's own release" "check /etc/apt/sources.list*"

private=$(pwd)/$corpus/.apt
rm -rf "$private"
mkdir -p "$private"/{lists/partial,cache/archives/partial,none/partial}
trap 'rm -rf "$private"' EXIT
printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$uri" "$release" \
    >"$private/sources.list"
: >"$private/status"
apt=(apt-get -q -y --no-install-recommends -o "Dir::Etc::SourceList=$private/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::State::Lists=$private/lists"
    -o "Dir::State::Status=$private/status" -o "Dir::Cache=$private/cache" -o APT::Sandbox::User=root
    -o Acquire::Languages=none -o Acquire::Retries=3)
"${apt[@]}" update >"$private/log" 2>&1 ||
    fail "apt-get update failed: $(tail -n 3 "$private/log")" "check the network"

# archives PACKAGE…: the files of these packages and of all that they depend on, downloaded.
archives() {
    # Asked with an empty cache: what is downloaded already would not be named.
    "${apt[@]}" -o "Dir::Cache::archives=$private/none" --print-uris install "$@" 2>>"$private/log" | awk '/^\x27/ { print $2 }' | sort ||
        fail "apt-get does not know how to install $*: $(tail -n 3 "$private/log")" "see the list in $0"
    "${apt[@]}" --download-only install "$@" >>"$private/log" 2>&1 ||
        fail "apt-get could not download $*: $(tail -n 3 "$private/log")" "check the network"
}

# unpack DIRECTORY ARCHIVE…
unpack() {
    local to=$1 archive dir
    shift
    # As base-files makes it in every installed system: the layer's own directories must not hide the base's links.
    mkdir -p "$to"/usr/{bin,sbin,lib,lib64}
    for dir in bin sbin lib lib64; do
        [ -L "$to/$dir" ] || ln -s "usr/$dir" "$to/$dir"
    done
    for archive in "$@"; do
        dpkg --fsys-tarfile "$private/cache/archives/$archive" |
            tar -x --keep-directory-symlink -C "$to" --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
                --exclude='./usr/share/locale/*' --exclude='./usr/share/info/*'
    done
}

# shellcheck disable=SC2086 # a list of words
archives $base >"$private/base"
if [ ! -e $corpus/base/.complete ]; then
    rm -rf $corpus/base
    mapfile -t files <"$private/base"
    unpack $corpus/base "${files[@]}"
    mkdir -p $corpus/base/{dev,proc,sys,tmp,run,etc}
    chmod 1777 $corpus/base/tmp
    printf 'root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\nsshd:x:102:65534::/run/sshd:/bin/false\nnobody:x:65534:65534::/:/bin/sh\n' >$corpus/base/etc/passwd
    printf 'root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n' >$corpus/base/etc/group
    # What libc-bin's own scripts write.
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >$corpus/base/etc/nsswitch.conf
    touch $corpus/base/.complete
fi
for name in "${missing[@]}"; do
    [ "$name" != base ] || continue
    packages=$(awk -v name="$name" '$1 == name { $1 = ""; print }' <<<"$images")
    [ -n "$packages" ] || fail "no image is called $name" "see $0 --list"
    echo "corpus: unpacking$packages"
    # shellcheck disable=SC2086 # a list of words
    archives $packages >"$private/all"
    mapfile -t files < <(comm -23 "$private/all" "$private/base")
    rm -rf "${corpus:?}/$name"
    unpack "$corpus/$name" "${files[@]}"
    touch "$corpus/$name/.complete"
done
