#!/usr/bin/env bash
# Runs every test: a line per suite, and at the end, alone on a line, what they add up to.
#
# A test that cannot run here prints `skipped: needs …`. That is green only if integration/skips.toml permits it.
# BULKHEAD_LONG=1 adds the long tier (tests marked #[ignore = "long"]).
set -uo pipefail
cd "$(dirname "$0")/../.."
reports=target/reports
logs=target/test-logs
mkdir -p "$reports" "$logs"

passed=0 failed=0 skipped=0
skips=()

# suite NAME COMMAND…: runs it, counts `test result:` lines, judges skips.
suite() {
    local name=$1 log="$logs/$1.log" began=$SECONDS status=0 p f s=0 test reason permitted
    shift
    "$@" >"$log" 2>&1 </dev/null || status=$?
    read -r p f < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log")
    # `---- NAME stdout ----` opens what a test printed.
    while IFS=$'\t' read -r test reason; do
        s=$((s + 1))
        permitted=$(sed -n "s/^\"$test\" = \"\(.*\)\"$/\1/p" integration/skips.toml)
        if [ -n "$permitted" ] && [[ $reason == "$permitted"* ]]; then
            skips+=("{\"test\": \"$name: $test\", \"needs\": \"${reason#needs }\"}")
        else
            echo "  skipped without permission: $test: $reason"
            f=$((f + 1))
        fi
    done < <(awk '/^---- .* stdout ----$/ { test = $2; next }
                  /^skipped: / && test != "" { sub(/^skipped: /, ""); gsub(/["\\]/, ""); print test "\t" $0; test = "" }' "$log")
    # The long tier alone is left out by #[ignore]; anything else that is ignored is a skip without a reason.
    while read -r test; do
        echo "  ignored, and not of the long tier: $test"
        f=$((f + 1))
    done < <(sed -n '/, long$/d; s/^test \(.*\) \.\.\. ignored.*/\1/p' "$log")
    p=$((p - s))
    # A suite that did not build, or died, has no failed test to show for it.
    [ "$status" = 0 ] || [ "$f" -gt 0 ] || f=1
    [ "$p" -gt 0 ] || [ "$f" -gt 0 ] || { echo "  $name ran no test"; f=1; }
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-14s %4d passed %3d failed %3d skipped %5d s\n' "$name" "$p" "$f" "$s" $((SECONDS - began))
    if [ "$f" -gt 0 ]; then
        grep -E '^test .* FAILED$|^error|panicked at|^failures:' "$log" | head -60
        sed -n '/^failures:$/,$p' "$log" | head -200
        [ "$p" -gt 0 ] || tail -40 "$log"
    fi
}

test_args=(--show-output)
[ -z "${BULKHEAD_LONG:-}" ] || test_args+=(--include-ignored)

cargo build --locked --workspace --bins --examples || exit 1
suite unit cargo test --locked --workspace --exclude bulkhead-integration --exclude bulkhead-attacks --exclude bulkhead-kube --no-fail-fast -- "${test_args[@]}"
suite harness-lib cargo test --locked -p bulkhead-integration --lib --bins -- "${test_args[@]}"
for file in integration/tests/*.rs; do
    name=$(basename "$file" .rs)
    # Two at a time: each test has a containerd of its own, and there are two cores.
    suite "$name" cargo test --locked -p bulkhead-integration --test "$name" -- --test-threads=2 "${test_args[@]}"
done
# Machines with cgroup v2, systemd and other kernels; each prints what libtest printed in it.
rm -f "$reports/vm.json"
for kernel in 6.1 6.12; do
    suite "vm-$kernel" target/debug/bulkhead-vm test "$kernel"
done
suite attacks cargo test --locked -p bulkhead-attacks --test attacks
# A node of Kubernetes, where its programs have been built: too long for CI.
suite kube cargo test --locked -p bulkhead-kube --test kube
# In a machine, too: a kernel whose functions may be traced.
suite reach cargo test --locked -p bulkhead-attacks --test reach

printf '{"machine": "%s", "versions": {}, "rows": [%s]}\n' "$(uname -r)" "$(IFS=,; echo "${skips[*]-}")" \
    >"$reports/skips.json"
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
