#!/usr/bin/env bash
# Builds the validation of OCI runtimes from its Go module, runtime-tools: a program for each test, `runtimetest` that they
# run inside, and the root file system that they unpack, in target/conformance/oci.
#
# Does nothing, quickly, when they are there.
set -euo pipefail
cd "$(dirname "$0")"
. ../../scripts/go.sh
module=github.com/opencontainers/runtime-tools
to=../../../target/conformance/oci
[ ! -e $to/.complete ] || [ "$(cat $to/.complete)" != "$(cat go.mod go.sum | sha256sum)" ] || exit 0
needs_go conformance "runtime-tools" 1.26
echo "conformance: building runtime-tools' validation"
rm -rf $to && mkdir -p $to/tests
export GOFLAGS="-buildvcs=false -mod=readonly -trimpath" CGO_ENABLED=0
fetch_modules $module/validation/... $module/cmd/runtimetest
source=$(go list -m -f '{{.Dir}}' $module)
for test in "$source"/validation/*/; do
    [ "$(basename "$test")" = util ] || packages+=("$module/validation/$(basename "$test")")
done
go build -ldflags="-s -w" -o $to/tests/ "${packages[@]}"
go build -ldflags="-s -w" -o $to/ $module/cmd/runtimetest
cp --no-preserve=mode "$source"/rootfs-amd64.tar.gz $to/
cat go.mod go.sum | sha256sum >$to/.complete
