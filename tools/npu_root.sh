#!/usr/bin/env bash
# A Debian 13 root with AMD's XRT and its NPU plug-in, in which npu-worker and its tests are built and run against unmodified libraries.
# Debian 12's XRT is too old for hardware contexts. Needs root (debootstrap, chroot, mount namespaces) and a Debian mirror.
#   tools/npu_root.sh make             makes build/npu-root where it is missing or its package list has changed
#   tools/npu_root.sh run COMMAND...   runs a command in it, in this folder: the repository stands at the same path inside, in a mount namespace of its own
#   tools/npu_root.sh versions         the versions of what matters in it
# Where a machine can make no such root, the exit status is 77 and the last line says what is missing.
# The folder can be kept elsewhere with TANDEM_NPU_ROOT, to be shared by several checkouts. TANDEM_NPU_SHARE names a folder that stands at the same
# path inside, too: sockets that programs inside and outside meet at.
set -euo pipefail
cd "$(dirname "$0")/.."

repository=$PWD
root=${TANDEM_NPU_ROOT:-$repository/build/npu-root}
mirror=${TANDEM_DEBIAN_MIRROR:-http://deb.debian.org/debian}
suite=trixie

packages=(
  build-essential cmake ninja-build pkg-config ccache mold git
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev libboost-dev nlohmann-json3-dev prometheus-cpp-dev libspdlog-dev libfmt-dev
  libssl-dev libseccomp-dev libhwy-dev libxxhash-dev libcli11-dev libyaml-cpp-dev
  libsentencepiece-dev libgtest-dev libgmock-dev libbenchmark-dev libvulkan-dev glslc python3 uuid-dev
)
# The kernel's headers: the NPU driver's interface is younger than Debian 13's.
backports=(libxrt-dev libxrt-npu2 libxrt-utils mesa-vulkan-drivers linux-libc-dev)

fail() { echo "npu_root: $1" >&2; exit 1; }
cannot() { echo "npu_root: no Debian 13 root can be made here: $1" >&2; exit 77; }
cannot_with_log() { tail -20 "$1" >&2; cannot "$2: see $1"; }

# Does in a folder of its own what becoming a part of the root takes, the stand-in's /sys in a namespace within included.
check_rights() {
  [ "$(id -u)" -eq 0 ] || cannot "expected to run as root: debootstrap, chroot and mount namespaces need it"
  command -v unshare >/dev/null || cannot "no unshare on this system (package util-linux)"
  local trial said
  trial=$(mktemp -d)
  # shellcheck disable=SC2016
  said=$(unshare --mount --propagation private -- bash -c '
    set -euo pipefail
    mount -t tmpfs -o mode=755 tmpfs "$1"
    mkdir "$1/proc" "$1/sys" "$1/bound"
    mount -t proc proc "$1/proc"
    mount --bind / "$1/bound"
    : >"$1/null"
    mount --bind /dev/null "$1/null"
    unshare --mount --propagation unchanged -- mount -t tmpfs tmpfs "$1/sys"
    chroot "$1/bound" true' bash "$trial" 2>&1) ||
    { rmdir "$trial"; cannot "expected rights for mount namespaces, mounts of tmpfs and /proc, and chroot: ${said:-refused}"; }
  rmdir "$trial"
}

# The registry's lists of packages, before anything large is fetched.
check_mirror() {
  local part said
  for part in $suite $suite-updates $suite-backports; do
    said=$(curl -fsSL --retry 3 --max-time 60 -o /dev/null "$mirror/dists/$part/InRelease" 2>&1) || cannot "the Debian mirror does not give $part: $said"
  done
}

# Becomes a command inside the folder $1 with /proc, /dev, /tmp and the repository mounted, in a mount namespace that ends with it. One process all the
# way: signals reach the command.
become_inside() {
  local folder=$1; shift
  # shellcheck disable=SC2016
  exec unshare --mount --propagation private -- bash -c '
    set -euo pipefail
    folder=$1 repository=$2; shift 2
    mkdir -p "$folder$repository"
    mount --bind "$repository" "$folder$repository"
    mount -t proc proc "$folder/proc"
    # A /dev of its own, so that what stands in for devices is seen nowhere else.
    mount -t tmpfs -o mode=755 tmpfs "$folder/dev"
    for node in null zero full random urandom tty; do
      : >"$folder/dev/$node"
      mount --bind "/dev/$node" "$folder/dev/$node"
    done
    ln -s /proc/self/fd "$folder/dev/fd"
    mkdir "$folder/dev/shm"
    mount -t tmpfs tmpfs "$folder/dev/shm"
    mount -t tmpfs tmpfs "$folder/tmp"
    mount -t tmpfs tmpfs "$folder/run"
    if [ -n "${TANDEM_NPU_SHARE:-}" ]; then
      mkdir -p "$folder$TANDEM_NPU_SHARE"
      mount --bind "$TANDEM_NPU_SHARE" "$folder$TANDEM_NPU_SHARE"
    fi
    if [ -n "${CCACHE_DIR:-}" ] && [ -d "$CCACHE_DIR" ]; then
      mkdir -p "$folder$CCACHE_DIR"
      mount --bind "$CCACHE_DIR" "$folder$CCACHE_DIR"
    fi
    exec chroot "$folder" /usr/bin/env -C "$repository" "$@"' bash "$folder" "$repository" "$@"
}
inside() { (become_inside "$@"); }

wanted() { printf '%s\n' "$suite" "${packages[@]}" "${backports[@]}" | sha256sum | cut -d' ' -f1; }

make_root() {
  if [ -f "$root/.tandem" ] && [ "$(cat "$root/.tandem")" = "$(wanted)" ]; then return; fi
  check_mirror
  if ! command -v debootstrap >/dev/null; then
    command -v apt-get >/dev/null || cannot "no debootstrap on this system, and no apt-get to install it with"
    local get=(apt-get install -y -q --no-install-recommends debootstrap)
    "${get[@]}" >/dev/null || { apt-get update -qq && "${get[@]}" >/dev/null; } || cannot "debootstrap cannot be installed"
  fi
  local partial=$root.partial
  rm -rf "$partial"
  mkdir -p "$partial"
  debootstrap --variant=minbase "$suite" "$partial" "$mirror" >"$partial.log" 2>&1 || cannot_with_log "$partial.log" "debootstrap failed"
  local part
  for part in $suite $suite-updates $suite-backports; do echo "deb $mirror $part main"; done >"$partial/etc/apt/sources.list"
  cp /etc/resolv.conf "$partial/etc/resolv.conf"
  local install=(apt-get install -y -q --no-install-recommends -o Dpkg::Options::=--force-unsafe-io -o APT::Sandbox::User=root -o Acquire::Retries=3)
  {
    inside "$partial" apt-get update -qq -o APT::Sandbox::User=root &&
      inside "$partial" env DEBIAN_FRONTEND=noninteractive "${install[@]}" "${packages[@]}" &&
      inside "$partial" env DEBIAN_FRONTEND=noninteractive "${install[@]}" -t $suite-backports "${backports[@]}" &&
      inside "$partial" apt-get clean
  } >>"$partial.log" 2>&1 || cannot_with_log "$partial.log" "installing packages failed"
  wanted >"$partial/.tandem"
  rm -rf "$root"
  mv "$partial" "$root"
  mv "$partial.log" "$root/var/log/tandem-npu-root.log"
}

versions() {
  # shellcheck disable=SC2016
  chroot "$root" dpkg-query -W -f='${Package} ${Version}\n' libxrt-dev libxrt2 libxrt-npu2 mesa-vulkan-drivers g++ libabsl-dev libgrpc++-dev
}

case "${1:-}" in
  make) check_rights; make_root ;;
  run) shift; [ $# -gt 0 ] || fail "run: expected a command"; make_root; become_inside "$root" "$@" ;;
  versions) make_root; versions ;;
  *) fail "expected make, run or versions, found '${1:-}'" ;;
esac
