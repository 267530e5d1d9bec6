#!/usr/bin/env bash
# Builds the runcs that go.mod and first/go.mod pin from their Go modules: target/deps/runc-old/runc and
# target/deps/runc-first/runc. Without libseccomp: their column has no filter.
#
# Does nothing, quickly, for one that is there.
set -euo pipefail
cd "$(dirname "$0")"
. ../../scripts/go.sh
deps=$PWD/../../../target/deps

# build DIRECTORY TO
build() (
    cd "$1"
    to=$deps/$2
    key=$(cat go.mod go.sum | sha256sum)
    [ "$(cat "$to/.complete" 2>/dev/null)" != "$key" ] || exit 0
    needs_go attacks "an old runc" 1.21
    version=$(awk '$1 == "require" && $2 == "github.com/opencontainers/runc" { print substr($3, 2) }' go.mod)
    echo "attacks: building runc $version"
    mkdir -p "$to"
    GOFLAGS="-buildvcs=false -mod=readonly -trimpath" go build -ldflags="-s -w -X main.version=$version" \
        -o "$to/runc" github.com/opencontainers/runc
    "$to/runc" --version >/dev/null
    echo "$key" >"$to/.complete"
)

build . runc-old
build first runc-first
