#!/usr/bin/env bash
# Builds a registry with the referrers API from go-containerregistry's module: target/deps/registry/registry
#
# Does nothing, quickly, when it is there.
set -euo pipefail
cd "$(dirname "$0")"
to=../../target/deps/registry
stamp=$(cat go.sum main.go | sha256sum)
[ ! -e $to/.complete ] || [ "$(cat $to/.complete)" != "$stamp" ] || exit 0
command -v go >/dev/null || {
    echo "registry: no go, to build a registry with the referrers API with" >&2
    echo "  fix: install Go 1.24 or newer" >&2
    exit 1
}
echo "registry: building a registry with the referrers API"
mkdir -p $to
# The proxy may fail once: what has come is kept, and only the rest is asked for again.
tries=0
until GOFLAGS=-mod=readonly go list -deps . >/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 3 ] || exit 1
done
CGO_ENABLED=0 GOFLAGS="-buildvcs=false -mod=readonly -trimpath" go build -ldflags="-s -w" -o $to/registry .
echo "$stamp" >$to/.complete
