#!/bin/sh
# A world of its own for one containerd, in which the tests of a suite run one after the other.
#
#   world.sh DIR      DIR/settings sets: tag handler type path registry hosts busybox suite package binary claims
#                     seconds; DIR/tests names the tests;
#                     DIR/claims, which worlds share, holds a directory for each test that one of them has taken
#
# containerd's suites end containerd by its name, write below /etc, /opt and /run, and make networks: so they get PID,
# mount, network, IPC, UTS and cgroup namespaces. The control groups are the machine's, below a directory of this world.
# All of it ends with the process that started it.
set -eu
dir=$1
. "$dir/settings"
own=$(dirname "$0")

if [ "${2:-}" != inside ]; then
    : >"$dir/hierarchies"
    # On v2 the mount itself is the one hierarchy.
    for group in /sys/fs/cgroup /sys/fs/cgroup/*; do
        [ "$group" != /sys/fs/cgroup ] || [ -e "$group/cgroup.controllers" ] || continue
        [ -w "$group/cgroup.procs" ] && [ ! -L "$group" ] || continue
        mkdir -p "$group/$tag"
        # On v1 a new cpuset is empty, and takes no process.
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$group/$tag/$file" ] || cat "$group/$file" >"$group/$tag/$file"
        done
        echo $$ >"$group/$tag/cgroup.procs"
        [ "$group" != /sys/fs/cgroup ] || break
        awk -v at="$group" '$2 == at { print $2, $3, $4; exit }' /proc/mounts >>"$dir/hierarchies"
    done
    exec unshare --mount --pid --net --ipc --uts --cgroup --fork --kill-child --propagation private -- \
        sh "$0" "$dir" inside
fi

mount -t proc proc /proc
# Mounts that are covered are still in mountinfo, where runtimes look for control groups.
umount -R -l /sys
mount -t sysfs sysfs /sys
if [ -s "$dir/hierarchies" ]; then
    mount -t tmpfs -o mode=0755 cgroups /sys/fs/cgroup
else
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # A group that passes controllers on has no process of its own.
    mkdir /sys/fs/cgroup/init
    xargs -n1 </sys/fs/cgroup/cgroup.procs | while read -r pid; do echo "$pid" >/sys/fs/cgroup/init/cgroup.procs; done
fi
while read -r at kind options; do
    mkdir "$at"
    controllers=$(echo "$options" | sed 's/\<\(rw\|ro\|relatime\|nosuid\|nodev\|noexec\|nsdelegate\),\?//g; s/,$//')
    mount -t "$kind" ${controllers:+-o "$controllers"} cgroup "$at"
done <"$dir/hierarchies"

cd "$dir"
mkdir claims logs
mount --bind "$claims" claims
for place in etc opt; do
    mkdir -p "upper/$place" "work/$place"
    mount -t overlay -o "lowerdir=/$place,upperdir=$dir/upper/$place,workdir=$dir/work/$place" overlay "/$place"
done
# containerd's root is in here, and a suite removes it: no mount of its own. An overlay cannot lie on an overlay.
mount -t tmpfs -o mode=0755 lib /var/lib
mkdir -p "$dir" /var/lib/kubelet
mount --no-canonicalize --rbind . "$dir"
for place in run tmp; do
    # The source tree may lie in what is hidden.
    cd "$own/../.."
    tree=$(pwd)
    mount -t tmpfs -o mode=1777 $place /$place
    case $tree in /$place/*) mkdir -p "$tree" && mount --no-canonicalize --rbind . "$tree" ;; esac
    cd "$dir"
done
chmod 0755 /run
mkdir -p /run/containerd-test /run/netns /etc/cni/net.d
mount --make-rshared /
ip link set lo up
hostname conformance
cp "$own/network.conflist" /etc/cni/net.d/10-conformance.conflist
[ -e /proc/sys/net/ipv6 ] || sed -i 's/, *\[{ "subnet": "fd[^]]*\]//; s/, *{ "dst": "::.0" }//' /etc/cni/net.d/*
sed "s/@HANDLER@/$handler/" "$own/containerd.toml" >config.toml
sed "s/@BUSYBOX@/$busybox/" "$own/images.toml" >images.toml
export PATH="$path" BULKHEAD_ROOT="$dir/bulkhead" HOME="$dir" BULKHEAD_TEST_TAG="$tag" TEST_RUNTIME="$type"

# The names that the suites pull from lead to loopback, under a certificate of this world's.
export REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="$registry" SSL_CERT_FILE="$dir/registry.pem"
for host in $hosts; do
    echo "127.0.0.1 $host" >>/etc/hosts
    names=${names:+$names,}DNS:$host
done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=conformance \
    -addext "subjectAltName=$names" -keyout registry.key -out registry.pem 2>>registry.log
docker-registry serve "$own/registry.yml" >>registry.log 2>&1 &
REGISTRY_HTTP_ADDR=127.0.0.1:443 REGISTRY_HTTP_TLS_CERTIFICATE=$dir/registry.pem \
    REGISTRY_HTTP_TLS_KEY=$dir/registry.key docker-registry serve "$own/registry.yml" >>registry.log 2>&1 &

address=/run/containerd-test/containerd.sock
# A test that restarts containerd ends it, looks once a second until it is gone, and waits until it is there again.
keep() {
    while :; do
        containerd --config config.toml </dev/null >>containerd.log 2>&1 || echo "ended: $?" >>containerd.log
        sleep 2.5
    done
}
ready() {
    for _ in $(seq 600); do
        ! ctr -a "$address" version >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    echo "containerd does not answer" >&2
    exit 1
}
case $suite in
cri)
    keep &
    flags="-cri-endpoint unix://$address -runtime-handler $handler -containerd-bin containerd -image-list $dir/images.toml"
    ;;
client)
    # Starts and ends its own.
    flags="-test.root -address $address -no-criu"
    ;;
esac
cd "$package"
while read -r test; do
    mkdir "$dir/claims/$test" 2>/dev/null || continue
    [ "$suite" != cri ] || ready
    status=0
    # shellcheck disable=SC2086 # flags are words
    timeout -k 5 "$((seconds + 30))" "$binary" -test.v -test.timeout "${seconds}s" -test.run "^$test\$" $flags \
        >"$dir/logs/$test.part" 2>&1 </dev/null || status=$?
    echo "exit: $status" >>"$dir/logs/$test.part"
    mv "$dir/logs/$test.part" "$dir/logs/$test.log"
done <"$dir/tests"
