#!/usr/bin/env bash
# Runs in the machine as root: Rust from the distribution's rustup where there is none, then the tests.
set -euo pipefail
cd /vagrant
if ! command -v cargo >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends make gcc libc6-dev curl ca-certificates
    if apt-cache show rustup >/dev/null 2>&1; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustup
        rustup default stable
    else
        echo "no Rust in this machine: install it (1.88 or newer) and run vagrant provision again" >&2
        exit 1
    fi
fi
exec make "${BULKHEAD_MAKE:-test}"
