#!/usr/bin/env bash
# Runs all tests of the workspace. A test program that fails is run once more, by itself: on a busy
# machine a deadline may pass that the code is not to blame for. Whatever fails twice fails;
# whatever needed the second run is named at the end, so that it can be looked into.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

cargo test --workspace --no-fail-fast --quiet 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
[ "$status" -eq 0 ] && exit 0

mapfile -t failed < <(sed -nE 's/^ {4}`(-p .*)`$/\1/p' "$log")
# Nothing to run again: it did not compile.
[ "${#failed[@]}" -eq 0 ] && exit "$status"

twice=0
for target in "${failed[@]}"; do
    echo "=== once more, by itself: cargo test $target"
    # shellcheck disable=SC2086 # words on purpose
    cargo test --quiet $target || { echo "=== FAILED TWICE: $target"; twice=1; }
done
[ "$twice" -eq 0 ] && printf '=== needed a second run: %s\n' "${failed[@]}"
exit "$twice"
