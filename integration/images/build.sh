#!/usr/bin/env bash
# Packs everyday images, each like a published one: a layer of this machine's own Debian release that all share, and one
# with what the image's packages need besides, its own files and what its setup.sh makes.
#
#   build.sh NAME…    target/deps/images/NAME.tar and base.tar
#   build.sh --list   the names
#
# An image is a directory: `packages` (words), `rootfs/` (files, copied as they are), `setup.sh` (makes users and
# directories below $1), image.toml (read by the tests). Nothing is installed, and no maintainer script runs.
# Does nothing, quickly, when all is there. The mirror is the one that this machine's apt already uses.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=integration/images
to=target/deps/images

# What Debian calls essential, less what only installs packages.
base="base-files bash dash coreutils libc-bin debianutils findutils grep sed tar gzip mawk hostname util-linux diffutils"

fail() {
    printf 'images: %s\n  fix: %s\n' "$1" "$2" >&2
    exit 1
}

if [ "${1:-}" = --list ]; then
    for file in $here/*/image.toml; do basename "$(dirname "$file")"; done
    exit
fi
[ $# -gt 0 ] || fail "no image is named" "$0 --list"

# One at a time: tests ask for several at once.
mkdir -p $to
exec 9>$to/.lock
flock 9

# What is built otherwise than before has another number here.
version=2

# An image is built again when what describes it has changed, but for image.toml.
stamp() {
    {
        echo "$version $base"
        [ "$1" = base ] || find "$here/$1" -type f ! -name image.toml -print0 | sort -z | xargs -0r sha256sum
    } | sha256sum
}

is_built() {
    [ -e "$to/$1.tar" ] && [ "$(cat "$to/$1.stamp" 2>/dev/null)" = "$(stamp "$1")" ]
}

missing=()
for name in "$@"; do
    [ -e "$here/$name/image.toml" ] || fail "no image is called $name" "$0 --list"
    is_built "$name" || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || ! is_built base || exit 0

work=$(pwd)/$to/.work
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
. integration/scripts/debian.sh
private_apt $to/.apt "$(. /etc/os-release && echo "$VERSION_CODENAME")"

# pack DIRECTORY NAME
pack() {
    tar -C "$1" --format=pax --xattrs --xattrs-include='security.capability' --sort=name --mtime=@1700000000 --numeric-owner \
        --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime -cf "$work/layer.tar" .
    mv "$work/layer.tar" "$to/$2.tar"
}

# shellcheck disable=SC2086 # a list of words
archives $base >"$private/base"
if ! is_built base; then
    dir=$work/base
    mapfile -t files <"$private/base"
    unpack_layer "$dir" "${files[@]}"
    mkdir -p "$dir"/{dev,proc,sys,tmp,run,etc,srv,root,var/tmp,var/log,var/lib}
    chmod 1777 "$dir/tmp" "$dir/var/tmp"
    # As maintainer scripts make them: links of base-files, alternatives of mawk and debianutils.
    rmdir "$dir/var/run" "$dir/var/lock" 2>/dev/null || true
    ln -s /run "$dir/var/run"
    ln -s mawk "$dir/usr/bin/awk"
    ln -s which.debianutils "$dir/usr/bin/which"
    printf 'root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n' >"$dir/etc/passwd"
    printf 'root:x:0:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n' >"$dir/etc/group"
    # What libc-bin's own scripts write.
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$dir/etc/nsswitch.conf"
    pack "$dir" base
    stamp base >$to/base.stamp
fi
for name in "${missing[@]}"; do
    dir=$work/$name
    mkdir -p "$dir"
    if [ -s "$here/$name/packages" ]; then
        # shellcheck disable=SC2046 # a list of words
        archives $(cat "$here/$name/packages") >"$private/all"
        mapfile -t files < <(comm -23 "$private/all" "$private/base")
        unpack_layer "$dir" "${files[@]}"
    fi
    [ ! -d "$here/$name/rootfs" ] || cp -a --no-preserve=ownership "$here/$name/rootfs/." "$dir/"
    # As git keeps it, whatever this machine's umask was.
    [ ! -d "$here/$name/rootfs" ] || (cd "$here/$name/rootfs" && find . -type f -perm -u+x -printf '%P\0') |
        (cd "$dir" && xargs -0r chmod 755)
    [ ! -e "$here/$name/setup.sh" ] || bash -eu -c '. '"$here"'/setup-functions.sh; . "$2"' setup "$dir" "$here/$name/setup.sh"
    pack "$dir" "$name"
    stamp "$name" >"$to/$name.stamp"
    rm -rf "$dir"
    echo "images: $name"
done
