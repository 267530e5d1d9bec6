#!/usr/bin/env bash
# Builds the runc that go.mod pins from its Go module: target/deps/runc-old/runc. Without libseccomp: its column has no filter.
#
# Does nothing, quickly, when it is there.
set -euo pipefail
cd "$(dirname "$0")"
to=../../../target/deps/runc-old
key=$(cat go.mod go.sum | sha256sum)
[ "$(cat "$to/.complete" 2>/dev/null)" != "$key" ] || exit 0
command -v go >/dev/null || {
    echo "attacks: no go, to build an old runc with" >&2
    echo "  fix: install Go 1.21 or newer" >&2
    exit 1
}
echo "attacks: building an old runc"
mkdir -p "$to"
version=$(awk '$1 == "require" && $2 == "github.com/opencontainers/runc" { print substr($3, 2) }' go.mod)
GOFLAGS="-buildvcs=false -mod=readonly -trimpath" go build -ldflags="-s -w -X main.version=$version" \
    -o "$to/runc" github.com/opencontainers/runc
"$to/runc" --version >/dev/null
echo "$key" >"$to/.complete"
