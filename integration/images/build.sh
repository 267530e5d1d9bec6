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

release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# shellcheck disable=SC2016 # apt's own variables
uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v release="$release" '$2 == release && $3 == "main" { print $1; exit }')
[ -n "$uri" ] || fail "apt knows no source for this machine's own release" "check /etc/apt/sources.list*"

private=$(pwd)/$to/.apt
work=$(pwd)/$to/.work
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
mkdir -p "$private"/{lists/partial,cache/archives/partial,none/partial}
printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$uri" "$release" \
    >"$private/sources.list"
: >"$private/status"
apt=(apt-get -q -y --no-install-recommends -o "Dir::Etc::SourceList=$private/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::State::Lists=$private/lists"
    -o "Dir::State::Status=$private/status" -o "Dir::Cache=$private/cache" -o APT::Sandbox::User=root
    -o Acquire::Languages=none -o Acquire::Retries=3)

# Asked once a day: several runs of a session read the same lists.
update() {
    [ -z "$(find "$private/lists" -maxdepth 1 -name '*Packages*' -mmin -1440 2>/dev/null)" ] || return 0
    "${apt[@]}" update >"$private/log" 2>&1 ||
        fail "apt-get update failed: $(tail -n 3 "$private/log")" "check the network"
}

# archives PACKAGE…: the files of these packages and of all that they depend on, downloaded.
archives() {
    # Asked with an empty cache: what is downloaded already would not be named.
    "${apt[@]}" -o "Dir::Cache::archives=$private/none" --print-uris install "$@" 2>>"$private/log" | awk '/^\x27/ { print $2 }' | sort ||
        fail "apt-get does not know how to install $*: $(tail -n 3 "$private/log")" "see $here/*/packages"
    "${apt[@]}" --download-only install "$@" >>"$private/log" 2>&1 ||
        fail "apt-get could not download $*: $(tail -n 3 "$private/log")" "check the network"
}

# unpack DIRECTORY ARCHIVE…
unpack() {
    local into=$1 archive dir
    shift
    # As base-files makes it in every installed system: the layer's own directories must not hide the base's links.
    mkdir -p "$into"/usr/{bin,sbin,lib,lib64}
    for dir in bin sbin lib lib64; do
        [ -L "$into/$dir" ] || ln -s "usr/$dir" "$into/$dir"
    done
    for archive in "$@"; do
        dpkg --fsys-tarfile "$private/cache/archives/$archive" |
            tar -x --keep-directory-symlink -C "$into" --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
                --exclude='./usr/share/locale/*' --exclude='./usr/share/info/*' --exclude='./lib/systemd/*' \
                --exclude='./usr/share/icons/*' --exclude='./usr/share/fonts/*'
    done
}

# pack DIRECTORY NAME
pack() {
    tar -C "$1" --format=pax --xattrs --xattrs-include='security.capability' --sort=name --mtime=@1700000000 --numeric-owner \
        --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime -cf "$work/layer.tar" .
    mv "$work/layer.tar" "$to/$2.tar"
}

update
# shellcheck disable=SC2086 # a list of words
archives $base >"$private/base"
if ! is_built base; then
    dir=$work/base
    mapfile -t files <"$private/base"
    unpack "$dir" "${files[@]}"
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
        unpack "$dir" "${files[@]}"
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
