#!/usr/bin/env bash
# cargo-deny, built once from the crate registry when the machine has none.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=target/tools
if ! PATH="$PWD/$tools/bin:$PATH" command -v cargo-deny >/dev/null; then
    echo "building cargo-deny once into $tools (about five minutes on two cores)" >&2
    cargo install --quiet --locked --root "$tools" cargo-deny
fi
PATH="$PWD/$tools/bin:$PATH" exec cargo deny --log-level error "$@"
