#!/usr/bin/env bash
# Makes what the test machine boots from, out of Debian 12's packages, and prints the directory that holds it:
#
#   root.ext4      a root file system without kernel, partitions or boot loader: systemd, containerd, runc, CNI plugins,
#                  AppArmor's parser, a small policy of SELinux's, a static busybox, the modules of every kernel
#   vmlinuz-V      the cloud kernels of Debian 12 (6.1) and of its backports (6.12)
#   initrd-V       a busybox and the modules with which the kernel finds its disk
#   qemu           starts QEMU 10 of Debian 12's backports, which is unpacked and never installed
#
# The mirror is the one that this machine's apt already uses. Made once for each content of this directory.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
cd ../..

key=$(sha256sum "$here/disk.sh" "$here"/guest/* | sha256sum | cut -c1-16)
deps=$PWD/target/deps/vm
made=$deps/$key
if [ -e "$made/.complete" ]; then
    echo "$made"
    exit
fi

fail() {
    printf 'vm: %s\n  fix: %s\n' "$1" "$2" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "a root file system holds files of root" "run it as root"
[ "$(. /etc/os-release && echo "$ID $VERSION_CODENAME")" = "debian bookworm" ] ||
    fail "the machine is made of this system's own packages, and this is not Debian 12" "run the tests on Debian 12, or vagrant up in vagrant/"
for program in mmdebstrap mke2fs busybox xz; do
    command -v $program >/dev/null || fail "no $program" "integration/scripts/deps.sh"
done

# One at a time: a second caller finds what the first has made.
mkdir -p "$deps"
exec 9>"$deps/.lock"
flock 9
if [ -e "$made/.complete" ]; then
    echo "$made"
    exit
fi
echo "vm: making the test machine's disk in $made" >&2
rm -rf "$made" "$deps"/work
mkdir -p "$made" "$deps"/work/{lists/partial,cache/archives/partial,kernels}
work=$deps/work

# --- packages -------------------------------------------------------------------------------------------------------
# shellcheck disable=SC2016 # apt's own variables
apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk '$3 == "main" && $2 ~ /^bookworm(-updates|-security)?$/ { print $1, $2; if ($2 == "bookworm") print $1, "bookworm-backports" }' |
    sort -u | sed 's|.*|deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] & main|' >"$work/sources.list"
grep -q backports "$work/sources.list" || fail "apt knows no source for bookworm" "check /etc/apt/sources.list*"
options=(-q -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null
    -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache"
    -o APT::Get::List-Cleanup=0 -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3)
apt-get "${options[@]}" update >"$work/log" 2>&1 ||
    fail "apt-get update failed: $(tail -n 3 "$work/log")" "check the network, see $work/log"

# The root file system is unpacked while the kernels and QEMU are.
packages=base-files,base-passwd,bash,bsdutils,coreutils,dash,debianutils,diffutils,findutils,grep,gzip,hostname,libc-bin
packages+=,login,mount,sed,tar,util-linux,systemd-sysv,dbus,kmod,iproute2,procps
packages+=,containerd,runc,busybox-static,containernetworking-plugins,apparmor,checkpolicy
root=$work/root
without=()
for dir in doc man locale info perl bash-completion zsh lintian bug; do
    without+=(--dpkgopt="path-exclude=/usr/share/$dir/*")
done
# Unpacked and not configured: what the packages' scripts would do to a machine that nobody logs into is below.
mmdebstrap --quiet --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr "${without[@]}" \
    --include=$packages bookworm "$root" - <"$work/sources.list" >"$work/mmdebstrap.log" 2>&1 &
userland=$!

# metapackage VERSION-PREFIX: the package of the newest cloud kernel of that line.
kernel_package() {
    apt-cache "${options[@]}" show linux-image-cloud-amd64 |
        sed -n "s/^Depends: \(linux-image-$1[^ ]*\).*/\1/p" | sort -V | tail -n 1
}
for version in 6.1 6.12; do
    package=$(kernel_package "${version/./\\.}\\.")
    [ -n "$package" ] || fail "no cloud kernel $version at the mirror" "see apt-cache policy linux-image-cloud-amd64"
    (cd "$work/kernels" && apt-get "${options[@]}" download "$package" >>"$work/log" 2>&1) ||
        fail "apt-get download $package failed: $(tail -n 3 "$work/log")" "see $work/log"
    dpkg -x "$work/kernels/$package"_*.deb "$work/kernels/$version"
    cp "$work/kernels/$version"/boot/vmlinuz-* "$made/vmlinuz-$version"
done

# What this system lacks of QEMU and its libraries, beside the system.
apt-get "${options[@]}" install --no-install-recommends --download-only -y -t bookworm-backports \
    qemu-system-x86 qemu-utils >>"$work/log" 2>&1 ||
    fail "apt-get could not fetch QEMU: $(tail -n 3 "$work/log")" "see $work/log"
for package in "$work"/cache/archives/*.deb; do
    dpkg -x "$package" "$made/qemu.d"
done
rm -rf "$work/cache"
cat >"$made/qemu" <<'END'
#!/bin/sh
# qemu PROGRAM ARGUMENT…: a program of the unpacked QEMU, with its own libraries and firmware.
dir=$(dirname "$0")/qemu.d
program=$1
shift
export LD_LIBRARY_PATH="$dir/usr/lib/x86_64-linux-gnu:$dir/lib/x86_64-linux-gnu"
case $program in
qemu-system-*) exec "$dir/usr/bin/$program" -L "$dir/usr/share/qemu" -L "$dir/usr/share/seabios" "$@" ;;
*) exec "$dir/usr/bin/$program" "$@" ;;
esac
END
chmod 755 "$made/qemu"
"$made/qemu" qemu-system-x86_64 --version >"$made/version" ||
    fail "the unpacked QEMU does not run" "see $made/qemu.d and ldd"
wait $userland || fail "mmdebstrap failed: $(tail -n 3 "$work/mmdebstrap.log")" "see $work/mmdebstrap.log"

# --- the root file system -------------------------------------------------------------------------------------------
for version in 6.1 6.12; do
    mkdir -p "$root/usr/lib/modules"
    mv "$work/kernels/$version"/lib/modules/* "$root/usr/lib/modules/"
done
mkdir -p "$root"/{proc,sys,dev,run,tmp,mnt,srv,opt,var/tmp,var/lib/systemd,etc/systemd/system,usr/local/bin,usr/local/sbin,usr/local/lib}
[ -e "$root/var/run" ] || ln -s /run "$root/var/run"
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
chroot "$root" systemd-sysusers >>"$work/log" 2>&1 || fail "systemd-sysusers failed" "see $work/log"
chroot "$root" ldconfig
echo bulkhead-vm >"$root/etc/hostname"
echo 127.0.0.1 localhost bulkhead-vm >"$root/etc/hosts"
echo b01c4ead00000000000000000000b01c >"$root/etc/machine-id"
: >"$root/etc/fstab"
# As Debian's containerd.service does before it starts.
echo overlay >"$root/etc/modules-load.d/containerd.conf"
rm -f "$root/etc/resolv.conf"
cp "$here/guest/selinux.conf" "$root/etc/"
chroot "$root" checkpolicy -U allow -c 33 -o /etc/selinux.policy /etc/selinux.conf >>"$work/log" 2>&1 ||
    fail "checkpolicy failed: $(tail -n 3 "$work/log")" "see vagrant/vm/guest/selinux.conf"
install -D -m 0755 "$here/guest/agent" "$root/usr/local/lib/vm-agent"
install -m 0644 "$here/guest/vm-agent.service" "$root/etc/systemd/system/"
ln -s /etc/systemd/system/vm-agent.service "$root/usr/lib/systemd/system/multi-user.target.wants/"
ln -s /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
# Nothing that the tests need: each costs a process, and a process costs a second under TCG.
while read -r unit; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
done < <(sed '/^#/d; /^$/d' "$here/guest/masked-units")
for modules in "$root"/usr/lib/modules/*; do
    chroot "$root" depmod "${modules##*/}"
done

# --- initrds --------------------------------------------------------------------------------------------------------
for version in 6.1 6.12; do
    release=$(cd "$root/usr/lib/modules" && echo "$version".*)
    initrd=$work/initrd-$version
    mkdir -p "$initrd"/{bin,dev,proc,root,modules}
    cp "$(command -v busybox)" "$initrd/bin/busybox"
    install -m 0755 "$here/guest/initrd-init" "$initrd/init"
    number=10
    for module in virtio_pci virtio_blk virtio_console; do
        while read -r word file _; do
            [ "$word" = insmod ] || continue
            name=$(basename "$file" .xz)
            ls "$initrd/modules"/*-"$name" >/dev/null 2>&1 && continue
            case $file in
            *.xz) xz -dc "$root/$file" >"$initrd/modules/$number-$name" ;;
            *) cp "$root/$file" "$initrd/modules/$number-$name" ;;
            esac
            number=$((number + 1))
        done < <(chroot "$root" modprobe -S "$release" --show-depends $module)
    done
    (cd "$initrd" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$made/initrd-$version"
done

mke2fs -q -t ext4 -L root -O ^has_journal -m 0 -E lazy_itable_init=0,nodiscard -d "$root" "$made/root.ext4" 1G >>"$work/log" 2>&1 ||
    fail "mke2fs failed: $(tail -n 3 "$work/log")" "see $work/log"
rm -rf "$work"
touch "$made/.complete"
# Older machines, with their snapshots.
find "$deps" -mindepth 1 -maxdepth 1 -type d ! -name "$key" -exec rm -rf {} +
echo "$made"
