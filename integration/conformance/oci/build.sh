#!/usr/bin/env bash
# Builds the validation of OCI runtimes from its Go module, runtime-tools: a program for each test, `runtimetest` that they
# run inside, and the root file system that they unpack, in target/conformance/oci.
#
# Does nothing, quickly, when they are there.
set -euo pipefail
cd "$(dirname "$0")"
module=github.com/opencontainers/runtime-tools
to=../../../target/conformance/oci
[ ! -e $to/.complete ] || [ "$(cat $to/.complete)" != "$(cat go.mod go.sum | sha256sum)" ] || exit 0
command -v go >/dev/null || {
    echo "conformance: no go, to build runtime-tools with" >&2
    echo "  fix: install Go 1.26 or newer" >&2
    exit 1
}
echo "conformance: building runtime-tools' validation"
rm -rf $to && mkdir -p $to/tests
export GOFLAGS="-buildvcs=false -mod=readonly -trimpath" CGO_ENABLED=0
# As integration/conformance/build.sh: the proxy may fail once.
tries=0
until go list -deps $module/validation/... $module/cmd/runtimetest >/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 3 ] || exit 1
done
source=$(go list -m -f '{{.Dir}}' $module)
for test in "$source"/validation/*/; do
    [ "$(basename "$test")" = util ] || packages+=("$module/validation/$(basename "$test")")
done
go build -ldflags="-s -w" -o $to/tests/ "${packages[@]}"
go build -ldflags="-s -w" -o $to/ $module/cmd/runtimetest
cp --no-preserve=mode "$source"/rootfs-amd64.tar.gz $to/
cat go.mod go.sum | sha256sum >$to/.complete
