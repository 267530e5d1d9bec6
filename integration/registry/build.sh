#!/usr/bin/env bash
# Builds a registry with the referrers API from go-containerregistry's module: target/deps/registry/registry
#
# Does nothing, quickly, when it is there.
set -euo pipefail
cd "$(dirname "$0")"
. ../scripts/go.sh
to=../../target/deps/registry
stamp=$(cat go.sum main.go | sha256sum)
[ ! -e $to/.complete ] || [ "$(cat $to/.complete)" != "$stamp" ] || exit 0
needs_go registry "a registry with the referrers API" 1.24
echo "registry: building a registry with the referrers API"
mkdir -p $to
GOFLAGS=-mod=readonly fetch_modules .
CGO_ENABLED=0 GOFLAGS="-buildvcs=false -mod=readonly -trimpath" go build -ldflags="-s -w" -o $to/registry .
echo "$stamp" >$to/.complete
