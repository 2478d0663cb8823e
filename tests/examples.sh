#!/bin/sh
# Builds and boots every template of docs/examples (or those named after the folder of the built
# programs), with BIOS and UEFI, by the command line. Part of `make test-long`. The mirror comes
# from this machine's apt; everything lies in one temporary folder, which goes away at the end.
set -eu

built=$(cd "${1:?the folder of the built programs}" && pwd)
shift
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- docs/examples/*.tdl
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    sed -nE 's/^(URIs:|deb) *(\[[^]]*\] *)?(https?:[^ ]*\/debian)\/?( .*)?$/\3/p' | head -n 1)
[ -n "$mirror" ] || { echo "this machine's apt sources name no Debian mirror" >&2; exit 1; }

home=$(mktemp -d /var/tmp/imagefactory-examples-XXXXXX)
chmod 755 "$home"
trap 'rm -rf "$home"' EXIT
cat > "$home/imagefactory.conf" <<CONF
{
  "image_manager_args": { "storage_path": "$home/storage" },
  "tmpdir": "$home/tmp", "cache_dir": "$home/cache",
  "plugins": "$built/plugins.d",
  "mirrors": {
    "http://debian.example/debian": "$mirror",
    "http://debian.example/debian-security": "$mirror-security"
  }
}
CONF

failed=
for template in "$@"; do
    echo "=== $template"
    "$built/imagefactory" base_image --config "$home/imagefactory.conf" \
        --parameter boot_test true --parameter boot_firmware both "$template" ||
        failed="$failed $template"
done
[ -z "$failed" ] || { echo "=== FAILED:$failed" >&2; exit 1; }
