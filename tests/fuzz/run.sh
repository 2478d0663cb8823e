#!/bin/sh
# Runs every fuzz target for SECONDS, from the committed seeds and words, and prints the executions
# of each. Fails on the first finding; the input that found it stays in target/fuzz/findings.
#
#   tests/fuzz/run.sh SECONDS [TARGET...]
#
# Needs a C++ compiler (libFuzzer's sources come with the crate libfuzzer-sys) and no nightly: the
# coverage flags below are stable, and the code is safe Rust, so AddressSanitizer, which is not
# stable, would find nothing that debug assertions do not.
set -eu

seconds=${1:?usage: tests/fuzz/run.sh SECONDS [TARGET...]}
shift
case $seconds in
*[!0-9]* | '') echo "run.sh: SECONDS is a whole number, not \"$seconds\"" >&2; exit 2 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# A folder of its own: other flags, so nothing could be shared with target/debug.
folder=${CARGO_TARGET_DIR:-$root/target}/fuzz
[ $# -gt 0 ] || set -- tdl target_content manifest frames

# --target keeps the flags away from build scripts and procedural macros.
host=$(rustc -vV | sed -n 's/^host: //p')
flags="-Cpasses=sancov-module"
flags="$flags -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table"
flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares"
flags="$flags --cfg fuzzing"
CARGO_ENCODED_RUSTFLAGS=$(printf '%s' "$flags" | tr ' ' '\037')
export CARGO_ENCODED_RUSTFLAGS
cargo build --release --manifest-path "$here/Cargo.toml" --target "$host" \
    --target-dir "$folder"

failed=0
for target; do
    corpus=$folder/corpus/$target
    findings=$folder/findings/$target
    log=$folder/$target.log
    mkdir -p "$corpus" "$findings"
    # The first folder takes what is new; the seeds are only read.
    if "$folder/$host/release/$target" -max_total_time="$seconds" -max_len=16384 -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$findings/" \
        -dict="$here/words/$target.dict" "$corpus" "$here/seeds/$target" >"$log" 2>&1; then
        executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "fuzz $target: ${executions:-?} executions in ${seconds} s, no finding"
    else
        failed=1
        echo "fuzz $target: FINDING, its input is in $findings; the end of $log:" >&2
        tail -n 40 "$log" >&2
    fi
done
exit $failed
