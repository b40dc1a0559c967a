#!/usr/bin/env bash
# What programs need of the system they were built on, for the images that they run in.
#   runtime.sh packages PROGRAM...     the Debian packages that their libraries are from
#   runtime.sh root FOLDER PROGRAM...  a root folder with the programs (in /usr/bin), their libraries and nothing else
set -euo pipefail

libraries() { for program in "$@"; do ldd "$program"; done | grep -oE '/[^ ]+' | sort -u; }

case "$1" in
  packages)
    shift
    # A library may be known to dpkg below /usr alone.
    for library in $(libraries "$@"); do dpkg -S "$(realpath "$library")" "/usr$library" 2>/dev/null || true; done | cut -d: -f1 | sort -u
    ;;
  root)
    folder=$2
    shift 2
    mkdir -p "$folder"/{usr/bin,usr/lib,etc,tmp}
    # As in Debian.
    for name in bin lib lib64; do mkdir -p "$folder/usr/$name"; ln -sfn "usr/$name" "$folder/$name"; done
    cp "$@" "$folder/usr/bin/"
    for library in $(libraries "$@"); do
      mkdir -p "$folder$(dirname "$library")"
      cp -L "$library" "$folder$library"
    done
    grep -E '^(root|nobody|tandem):' /etc/passwd >"$folder/etc/passwd"
    grep -E '^(root|nogroup|tandem):' /etc/group >"$folder/etc/group"
    cp /etc/nsswitch.conf "$folder/etc/" 2>/dev/null || echo 'hosts: files dns' >"$folder/etc/nsswitch.conf"
    ;;
  *) echo "runtime.sh: expected packages or root, found '$1'" >&2; exit 2 ;;
esac
