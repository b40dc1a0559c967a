#!/usr/bin/env bash
# Builds what drives the NPU in the Debian 13 root and runs its tests there: unmodified XRT and its NPU plug-in over the stand-in for the kernel driver
# (tests/fake_amdxdna). Then whole clusters: the npu-worker in the root, everything else from the ordinary build, the gpu-worker on the root's
# Mesa. No NPU is needed, and none is used.
# What is kept under build/ (the root, both builds) and ccache's folder is used again. Where the machine can make no such root (tools/npu_root.sh says what
# is missing) the exit status is 77: nothing was tested.
set -euo pipefail
cd "$(dirname "$0")/.."

started=$SECONDS
say() { printf '\n== NPU: %s (%d s)\n' "$1" $((SECONDS - started)); }

mkdir -p build
tools/install_deps.sh
say "the Debian 13 root"
status=0
tools/npu_root.sh make || status=$?
if [ "$status" -eq 77 ]; then
  echo "== NPU: the tests of the NPU did NOT run: the line above says what this machine has not" >&2
  exit 77
fi
[ "$status" -eq 0 ] || exit "$status"
echo "The real libraries, unmodified, over a stand-in for the kernel driver:"
tools/npu_root.sh versions

say "build inside"
export CCACHE_DIR=${CCACHE_DIR:-${HOME:-/root}/.cache/ccache}
mkdir -p "$CCACHE_DIR"
tools/npu_root.sh run cmake -S . -B build/npu -G Ninja -DCMAKE_BUILD_TYPE=Release -DTANDEM_BUILD_BENCHMARKS=OFF >build/npu-configure.log 2>&1 ||
  { tail -20 build/npu-configure.log >&2; exit 1; }
tools/npu_root.sh run ninja -C build/npu --quiet npu_tests tandem-npu-worker

say "build outside, of which the ordinary build has all"
cmake --preset release >build/release-configure.log 2>&1 || { tail -20 build/release-configure.log >&2; exit 1; }
cmake --build --preset release --target tandem tandem-gateway tandem-loader tandem-gpu-worker -- --quiet
echo "Outside, for a GPU that imports no dma-buf:"
build/release/bin/tandem-gpu-worker --list_devices

say "tests inside"
tools/npu_root.sh run ctest --test-dir build/npu -L npu -j2 --output-on-failure --no-tests=error
say "clusters"
TANDEM_BIN=$PWD/build/release/bin TANDEM_NPU_BUILD=$PWD/build/npu PYTHONDONTWRITEBYTECODE=1 python3 tests/npu/test_npu_cluster.py
say "all green"
