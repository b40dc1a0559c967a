#!/usr/bin/env bash
# Makes the image debian:trixie-slim from a Debian mirror, for where no registry is reachable. Needs root and debootstrap.
#   base_image.sh [IMAGE]
set -euo pipefail
image=${1:-debian:trixie-slim}
mirror=${TANDEM_DEBIAN_MIRROR:-http://deb.debian.org/debian}
folder=$(mktemp -d "${TMPDIR:-/tmp}/tandem-base.XXXXXX")
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase trixie "$folder/debian" "$mirror" >"$folder/log" 2>&1 || { tail -20 "$folder/log" >&2; exit 1; }
# What apt downloaded, and what nobody reads in a container.
rm -rf "$folder"/debian/var/cache/apt/* "$folder"/debian/var/lib/apt/lists/* "$folder"/debian/usr/share/{doc,man,locale,info}
tar -C "$folder/debian" -c . | docker import - "$image"
