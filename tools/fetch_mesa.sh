#!/usr/bin/env bash
# Unpacks Mesa 25's Vulkan drivers (Debian 12: bookworm-backports) and the libraries they need into a folder of their own. The system's packages, its
# sources and its package lists stay as they are: apt runs with a private configuration. Prints the path of lavapipe's ICD file.
#   tools/fetch_mesa.sh build/mesa
# Exit status 3: this system is not Debian 12, or the backports cannot be reached.
set -euo pipefail

prefix=$(realpath -m "${1:?folder}")
icd="$prefix/root/lvp_icd.json"
[ -s "$icd" ] && { echo "$icd"; exit 0; }
unreachable() { echo "fetch_mesa: $1" >&2; exit 3; }
command -v apt-get >/dev/null || unreachable "no apt-get on this system"
[ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = bookworm ] || unreachable "expected Debian 12 (bookworm)"

mkdir -p "$prefix"/{etc,lists/partial,cache/archives/partial,debs}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$(grep -rhoE 'https?://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 | tr -d ' ' || true)
mirror=${mirror:-http://deb.debian.org/debian}
for suite in bookworm bookworm-updates bookworm-backports; do
  echo "deb [signed-by=$keys] $mirror $suite main"
done >"$prefix/etc/sources.list"
cat >"$prefix/etc/apt.conf" <<CONF
Dir::Etc::sourcelist "$prefix/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$prefix/lists";
Dir::Cache "$prefix/cache";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
CONF
export APT_CONFIG="$prefix/etc/apt.conf"
apt-get update -qq >"$prefix/update.log" 2>&1 || unreachable "the package lists of bookworm-backports cannot be fetched: $(tail -1 "$prefix/update.log")"
# What an installation would bring beyond what is installed: exactly what must lie beside the driver. Each line names package, version and architecture.
wanted=$(apt-get -s install -t bookworm-backports mesa-vulkan-drivers 2>/dev/null |
  sed -nE 's/^Inst ([^ ]+)( \[[^]]*\])? \(([^ ]+) .*/\1=\3/p')
[ -n "$wanted" ] || unreachable "bookworm-backports offers no mesa-vulkan-drivers"
(cd "$prefix/debs" && apt-get download -qq $wanted >"$prefix/download.log" 2>&1) ||
  unreachable "the packages cannot be fetched: $(tail -1 "$prefix/download.log")"
rm -rf "$prefix/tree"
for deb in "$prefix"/debs/*.deb; do dpkg-deb -x "$deb" "$prefix/tree"; done
mkdir -p "$prefix/root"
library=$(find "$prefix/tree" -name libvulkan_lvp.so | head -1)
[ -n "$library" ] || unreachable "no lavapipe among the packages"
# The driver's own libraries are found beside it, by LD_LIBRARY_PATH of whoever runs it.
printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.4.0"}}\n' "$library" >"$icd.new"
mv "$icd.new" "$icd"
echo "$icd"
