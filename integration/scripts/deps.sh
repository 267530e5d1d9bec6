#!/usr/bin/env bash
# Installs what building and testing need on Debian or Ubuntu. Idempotent; says what it installs.
set -euo pipefail
packages=(
    protobuf-compiler                  # generated gRPC and ttrpc bindings
    containerd runc                    # the real thing, and what we are compared with
    containernetworking-plugins        # CNI of the test pods
    busybox-static gcc libc6-dev       # test images
    iproute2 make ca-certificates
)
missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
echo "installing: ${missing[*]}"
sudo=(); [ "$(id -u)" = 0 ] || sudo=(sudo)
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
