#!/usr/bin/env bash
# Runs in the machine as root: the same packages that vm/disk.sh unpacks, and with `backports` the kernel of the backports.
# The mirror is the one that the box's apt already uses.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
    dbus iproute2 kmod procps containerd runc busybox-static containernetworking-plugins apparmor >/dev/null
echo overlay >/etc/modules-load.d/containerd.conf
if [ "${1:-own}" = backports ]; then
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # apt's own variables
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v release="$codename" '$2 == release && $3 == "main" { print $1; exit }')
    echo "deb $mirror $codename-backports main" >/etc/apt/sources.list.d/backports.list
    apt-get update -qq
    # The whole kernel: the cloud kernel has none of VirtualBox's disks. The newest is booted.
    apt-get install -y -qq --no-install-recommends -t "$codename-backports" linux-image-amd64 >/dev/null
fi
