#!/usr/bin/env bash
# Builds Kubernetes from its Go modules: target/deps/kube/{etcd,kube-apiserver,…}, names of one program.
#
#   build.sh            builds it where it is not there: some 11 minutes of processor time, 3 GB of modules and objects
#   build.sh --there    whether it is there, for this source
set -euo pipefail
cd "$(dirname "$0")"
to=../../target/deps/kube
version=$(awk '$1 == "k8s.io/kubernetes" { print $2 } $2 == "k8s.io/kubernetes" { print $3 }' go.mod)
stamp=$(cat go.mod go.sum main.go build.sh | sha256sum)
[ ! -e $to/.complete ] || [ "$(cat $to/.complete)" != "$stamp" ] || exit 0
[ "${1:-}" != --there ] || exit 1
command -v go >/dev/null || {
    echo "kube: no go, to build Kubernetes with" >&2
    echo "  fix: install Go 1.24 or newer" >&2
    exit 1
}
echo "kube: building Kubernetes $version"
mkdir -p $to
# What its own build says of itself: without a version the API server does not know what it may serve.
package=k8s.io/component-base/version
IFS=. read -r major minor _ <<<"${version#v}"
flags="-s -w -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor"
flags="$flags -X $package.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=$version"
CGO_ENABLED=0 GOFLAGS="-buildvcs=false -mod=readonly -trimpath" nice -n 10 go build -p 2 -ldflags="$flags" -o $to/kube .
for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet; do
    ln -sf kube "$to/$name"
done
echo "$stamp" >$to/.complete
