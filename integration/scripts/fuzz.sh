#!/bin/sh
# Fuzzes each parser of outside bytes with libFuzzer: `fuzz.sh [SECONDS [TARGET …]]`, a minute each by default.
# What it finds stays in target/fuzz/found/TARGET-…; what it learns, in target/fuzz/corpus.
# The table goes to target/reports/fuzz.json.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
dir=$PWD/target/fuzz
mkdir -p "$dir/found" target/reports
# Coverage as cargo-fuzz sets it; on the stable compiler, so without a sanitizer. There is no unsafe code in what is fuzzed.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_PANIC=unwind \
  CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true \
  CARGO_PROFILE_RELEASE_STRIP=none
# With --target, build scripts are not instrumented.
target=$(rustc -vV | sed -n 's/^host: //p')
cargo build --quiet --release --locked -p bulkhead-fuzz --features libfuzzer --target "$target" --target-dir "$dir"
fuzz=$dir/$target/release/fuzz

signatures=runtime/trust/tests/signatures
[ $# -gt 0 ] || set -- image bundle simple-signing key root layer policy import registry answers
failed=0
rows=
for name in "$@"; do
  seeds=$dir/seeds/$name
  rm -rf "$seeds"
  mkdir -p "$seeds" "$dir/corpus/$name"
  [ ! -d "integration/fuzz/corpus/$name" ] || cp "integration/fuzz/corpus/$name/"* "$seeds"
  case $name in
    bundle | import) cp $signatures/*.bundle.json "$seeds" ;;
    simple-signing) cp $signatures/*.simplesigning.json "$seeds" ;;
    key) cp $signatures/*.pub "$seeds" ;;
    root) cp $signatures/*_root.json "$seeds" ;;
  esac
  log=$dir/$name.log
  outcome=none
  # A signature file may have 1 MiB; what is longer says nothing new.
  BULKHEAD_FUZZ_TARGET=$name "$fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 \
    -print_final_stats=1 -artifact_prefix="$dir/found/$name-" "$dir/corpus/$name" "$seeds" >"$log" 2>&1 ||
    { outcome=found failed=1; tail -n 30 "$log"; }
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  cov=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  echo "$name: ${runs:-0} inputs in $seconds s, coverage ${cov:-0}, found: $outcome"
  rows="$rows${rows:+,}{\"target\":\"$name\",\"inputs\":${runs:-0},\"seconds\":$seconds,\"coverage\":${cov:-0},\"found\":\"$outcome\"}"
done
printf '{"machine":"%s","versions":{"rustc":"%s"},"rows":[%s]}\n' "$(uname -srm)" "$(rustc -V)" "$rows" >target/reports/fuzz.json
exit $failed
