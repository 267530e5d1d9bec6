# Packages of the machine's own Debian release as files, for whoever puts images together: sourced, after `fail` is
# defined. Nothing is installed, and no maintainer script runs. The mirror is the one that this machine's apt already uses.

# Address of the Debian archive that apt uses for this machine's own release.
mirror() {
    local codename uri
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    # shellcheck disable=SC2016 # apt's own variables
    uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v release="$codename" '$2 == release && $3 == "main" { print $1; exit }')
    [ -n "$uri" ] || fail "apt knows no source for this machine's own release" "check /etc/apt/sources.list*"
    echo "$uri"
}

# private_apt DIRECTORY SUITE: an apt with lists, cache and sources of its own, for the functions below; its log is DIRECTORY/log.
private_apt() {
    local uri
    uri=$(mirror) || exit
    private=$(mkdir -p "$1" && cd "$1" && pwd)
    mkdir -p "$private"/{lists/partial,cache/archives/partial,none/partial}
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$uri" "$2" \
        >"$private/sources.list"
    : >"$private/status"
    apt=(apt-get -q -y --no-install-recommends -o "Dir::Etc::SourceList=$private/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::State::Lists=$private/lists"
        -o "Dir::State::Status=$private/status" -o "Dir::Cache=$private/cache" -o APT::Get::List-Cleanup=0
        -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3)
    # Asked once a day: several runs of a session read the same lists.
    [ -z "$(find "$private/lists" -maxdepth 1 -name '*Packages*' -mmin -1440)" ] || return 0
    "${apt[@]}" update >"$private/log" 2>&1 ||
        fail "apt-get update for $2 failed: $(tail -n 3 "$private/log")" "check the network, see $private/log"
}

# archives PACKAGE…: the files of these packages and of all that they depend on, downloaded.
archives() {
    # Asked with an empty cache: what is downloaded already would not be named.
    "${apt[@]}" -o "Dir::Cache::archives=$private/none" --print-uris install "$@" 2>>"$private/log" | awk '/^\x27/ { print $2 }' | sort ||
        fail "apt-get does not know how to install $*: $(tail -n 3 "$private/log")" "see the list of packages of $0"
    "${apt[@]}" --download-only install "$@" >>"$private/log" 2>&1 ||
        fail "apt-get could not download $*: $(tail -n 3 "$private/log")" "check the network, see $private/log"
}

# debian_tests DIRECTORY SOURCE…: debian/tests of these source packages, each in a directory of its own.
debian_tests() {
    local into=$1 source archive work=$private/sources
    shift
    sed -i 's/^deb /deb-src /' "$private/sources.list"
    [ -n "$(find "$private/lists" -maxdepth 1 -name '*Sources*' -mmin -1440)" ] || "${apt[@]}" update >>"$private/log" 2>&1 ||
        fail "apt-get update of sources failed: $(tail -n 3 "$private/log")" "check the network, see $private/log"
    for source in "$@"; do
        rm -rf "${work:?}" "${into:?}/$source"
        mkdir -p "$work" "$into/$source"
        # What Debian adds to the original, where that is an archive of its own.
        (cd "$work" && "${apt[@]}" source --download-only --diff-only "$source" >>"$private/log" 2>&1) ||
            fail "apt-get could not download the source of $source: $(tail -n 3 "$private/log")" "check the network"
        archive=$(find "$work" -name '*.debian.tar.*')
        tar -x -C "$into/$source" --strip-components=2 -f "$archive" debian/tests
        touch "$into/$source/.complete"
    done
}

# unpack_layer DIRECTORY ARCHIVE…: the files of these archives, without what no program of an image reads.
unpack_layer() {
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
