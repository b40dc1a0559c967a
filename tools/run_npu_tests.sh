#!/usr/bin/env bash
# Builds what drives the NPU in the Debian 13 root and runs its tests there: unmodified XRT and its NPU plug-in over the stand-in for the kernel driver
# (tests/fake_amdxdna). No NPU is needed, and none is used. Needs root; about 4 minutes on 2 idle cores from nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/npu_root.sh make
tools/npu_root.sh versions
export CCACHE_DIR=${CCACHE_DIR:-$HOME/.cache/ccache}
mkdir -p "$CCACHE_DIR"
tools/npu_root.sh run cmake -S . -B build/npu -G Ninja -DCMAKE_BUILD_TYPE=Release -DTANDEM_BUILD_BENCHMARKS=OFF >build/npu-configure.log 2>&1 ||
  { tail -20 build/npu-configure.log >&2; exit 1; }
tools/npu_root.sh run ninja -C build/npu --quiet npu_tests
tools/npu_root.sh run ctest --test-dir build/npu -L npu --output-on-failure --no-tests=error
