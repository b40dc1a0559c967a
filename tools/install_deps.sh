#!/usr/bin/env bash
# Installs the Debian packages that building and testing need, where they are missing. Does nothing when all are there.
set -euo pipefail

packages=(
  build-essential cmake ninja-build git ca-certificates curl pkg-config mold
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev
  libboost1.81-dev nlohmann-json3-dev prometheus-cpp-dev libspdlog-dev libfmt-dev libhwy-dev libxxhash-dev libcli11-dev libyaml-cpp-dev
  libssl-dev libseccomp-dev openssl libvulkan-dev glslc mesa-vulkan-drivers vulkan-validationlayers
  libgtest-dev libgmock-dev libbenchmark-dev libsentencepiece-dev
  prometheus
  python3 python3-venv python3-yaml python3-jsonschema bash-completion clang libclang-rt-dev clang-format zstd patchelf
)
# Further ones may be asked for by name.
packages+=("$@")
installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

if ! command -v apt-get >/dev/null; then
  echo "install_deps: no apt-get on this system; install the like of: ${packages[*]}" >&2
  exit 0
fi
# The Node client is tested with whatever Node is there; Debian's comes in only where there is none.
command -v npm >/dev/null || packages+=(nodejs npm)
missing=()
for name in "${packages[@]}"; do installed "$name" || missing+=("$name"); done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install_deps: these packages are missing and need root: ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
"${sudo[@]}" apt-get update -qq || echo "install_deps: apt-get update failed; going on with the package lists that are there" >&2
# Debian 13 has a newer Boost under the plain name only.
for i in "${!missing[@]}"; do
  if [ "${missing[$i]}" = libboost1.81-dev ] && ! apt-cache show libboost1.81-dev >/dev/null 2>&1; then missing[i]=libboost-dev; fi
done
echo "installing ${missing[*]}"
# The tests start Prometheus themselves; as a service nobody asked for it.
case " ${missing[*]} " in
  *" prometheus "*) [ ! -d /run/systemd/system ] || "${sudo[@]}" systemctl mask --quiet prometheus.service ;;
esac
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends -o Dpkg::Options::=--force-unsafe-io "${missing[@]}" >/dev/null
