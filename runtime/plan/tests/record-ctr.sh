#!/bin/sh
# Records config.json as the installed containerd's ctr writes it: the requests of the golden tests.
# Usage: tests/record-ctr.sh [containerd binary] [ctr binary]; needs root and busybox-static.
# A private containerd: own root, state and socket in a temporary directory; ended by its pid.
set -eu
containerd=${1:-containerd} ctr=${2:-ctr}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
version=$("$containerd" --version | grep -Eo '[0-9]+\.[0-9]+\.[0-9]+' | head -1)
short=$(echo "$version" | cut -d. -f1,2)
mkdir -p "$work/root" "$work/state" "$work/img/blobs/sha256" "$work/layer/bin"
"$containerd" --root "$work/root" --state "$work/state" --address "$work/c.sock" --config /dev/null >"$work/log" 2>&1 &
pid=$!
trap 'kill $pid; wait $pid 2>/dev/null; rm -rf "$work"' EXIT

cp "$(command -v busybox)" "$work/layer/bin/busybox"
ln -s busybox "$work/layer/bin/sh"
tar -C "$work/layer" --sort=name --mtime=@0 --owner=0 --group=0 -cf "$work/layer.tar" .
blob() { # file media-type -> descriptor
    sum=$(sha256sum "$1" | cut -d' ' -f1)
    cp "$1" "$work/img/blobs/sha256/$sum"
    printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$2" "$sum" "$(stat -c %s "$1")"
}
layer=$(blob "$work/layer.tar" application/vnd.oci.image.layer.v1.tar)
diff=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
printf '{"imageLayoutVersion":"1.0.0"}' >"$work/img/oci-layout"
image() { # name, USER -> its manifest's descriptor
    cat >"$work/config.json" <<JSON
{"architecture":"amd64","os":"linux","config":{"User":"$2","Cmd":["/bin/sh"],"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:$diff"]}}
JSON
    config=$(blob "$work/config.json" application/vnd.oci.image.config.v1+json)
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
        "$config" "$layer" >"$work/manifest.json"
    blob "$work/manifest.json" application/vnd.oci.image.manifest.v1+json |
        sed "s|}\$|,\"annotations\":{\"io.containerd.image.name\":\"example.test/$1:1\"}}|"
}
printf '{"schemaVersion":2,"manifests":[%s,%s]}' "$(image root '')" "$(image user 1000:1000)" >"$work/img/index.json"
tar -C "$work/img" -cf "$work/img.tar" .

c() { "$ctr" --address "$work/c.sock" "$@"; }
for _ in $(seq 100); do c version >/dev/null 2>&1 && break; sleep 0.1; done
case $short in 1.*) local= ;; *) local=--local ;; esac; c images import $local --snapshotter native "$work/img.tar" >/dev/null
record() { # name, image, options of `ctr containers create`
    name=$1 image=$2
    shift 2
    c containers create --snapshotter native "$@" "example.test/$image:1" c1
    mkdir -p "$here/golden/ctr-$short-$name"
    c containers info c1 | jq -S .Spec >"$here/golden/ctr-$short-$name/config.json"
    c containers rm c1
}
record root root
record user user
record privileged root --privileged
record host-network user --net-host
record bind user --mount type=bind,src=/srv/data,dst=/data,options=rbind:rw
record terminal user --memory-limit 67108864 --tty --seccomp
echo "recorded containerd $version"
