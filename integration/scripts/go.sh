# What builds from Go modules share: sourced.

# needs_go NAME WHAT VERSION: ends the script NAME, which builds WHAT, where there is no go.
needs_go() {
    command -v go >/dev/null && return
    echo "$1: no go, to build $2 with" >&2
    echo "  fix: install Go $3 or newer" >&2
    exit 1
}

# fetch_modules ARGUMENT…: what `go list -deps` of these needs. go does not ask a proxy again that failed once: what has come is
# kept, and only the rest is asked for again.
fetch_modules() {
    local tries=0
    until go list -deps "$@" >/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 3 ] || exit 1
    done
}
