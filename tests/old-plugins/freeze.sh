#!/bin/sh
# Freezes today's C and C++ fixtures as plugins of one ABI version, for ever:
#
#     tests/old-plugins/freeze.sh 1.0-rc
#
# Run it once for each released ABI, on the machine that builds the release, from a clean tree. It
# refuses to touch a folder that exists: what was released is evidence, not a build product. The
# test that runs them all is tests/tests/abi_old_plugins.rs.
set -eu

version=${1:?usage: freeze.sh ABI-VERSION}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target="$here/$version"
fixtures="$root/tests/fixtures/c"
# 64 KiB each: they stay in the repository for ever.
bytes_max=65536

[ "$(uname -m)" = x86_64 ] || { echo "frozen plugins are built on x86_64" >&2; exit 1; }
[ ! -e "$target" ] || { echo "$target exists: what was released stays as it is" >&2; exit 1; }
[ -z "$(git -C "$root" status --porcelain -- tests/fixtures/c plugin-sdk/include)" ] ||
    { echo "commit tests/fixtures/c and plugin-sdk/include first" >&2; exit 1; }
mkdir "$target"

warnings="-Wall -Wextra -Wpedantic -Werror"
shared="-O2 -fPIC -fvisibility=hidden -shared -Wl,-z,relro -Wl,-z,now -Wl,--no-undefined"
hide="-Wl,--version-script=$root/plugin-sdk/examples/c/exports.map"

freeze() { # id, compiler with its dialect, source
    # shellcheck disable=SC2086 # words are flags
    $2 $warnings $shared $hide -I"$root/plugin-sdk/include" -o "$target/$1.so" "$fixtures/$3"
    strip --strip-all "$target/$1.so"
    chmod 644 "$target/$1.so"
    bytes=$(stat -c %s "$target/$1.so")
    [ "$bytes" -le "$bytes_max" ] || { echo "$1.so has $bytes bytes" >&2; exit 1; }
    sum=$(sha256sum "$target/$1.so" | cut -d' ' -f1)
    sed "s|\"path\": \"$1.so\"|\"path\": \"$1.so\", \"arch\": \"x86_64\", \"sha256\": \"$sum\"|" \
        "$fixtures/$1.json" > "$target/$1.json"
    echo "- $1: \`$2 $warnings $shared\` with exports.map, then \`strip --strip-all\`"
}

{
    echo "# Plugins of ABI $version"
    echo
    echo "Made by \`tests/old-plugins/freeze.sh $version\` from commit"
    echo "$(git -C "$root" rev-parse HEAD), $(date -u +%F), x86_64."
    echo
    echo "- $(gcc --version | head -n 1); $(ldd --version | head -n 1)"
    freeze CMockOS "gcc -std=c99" mock_os.c
    freeze CMockCloud "gcc -std=c99" mock_cloud.c
    freeze CxxMockOS "g++ -std=c++11" cxx_os.cpp
} > "$target/MADE.md.new"
mv "$target/MADE.md.new" "$target/MADE.md"
