#!/usr/bin/env bash
# Builds the libFuzzer targets with Clang and runs each for a while over its corpus, two at a time.
#   tools/run_fuzzers.sh SECONDS [TARGET ...]
#   tools/run_fuzzers.sh build
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?"usage: tools/run_fuzzers.sh SECONDS [TARGET ...], or: tools/run_fuzzers.sh build"}
shift

cmake --preset fuzz -DCMAKE_CXX_COMPILER="$(command -v clang++ || command -v clang++-14)" \
      -DCMAKE_C_COMPILER="$(command -v clang || command -v clang-14)" >/dev/null
# In this process's place, so that who kills it ends the build.
[ "$seconds" != build ] || exec ninja -C build/fuzz --quiet tandem_fuzzers
ninja -C build/fuzz --quiet tandem_fuzzers

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run_one() {
  local binary=$1 seconds=$2 work=$3
  local name
  name=$(basename "$binary")
  mkdir -p "$work/$name"
  # New inputs go to the temporary folder; the committed corpus is only read.
  if "$binary" -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=20 -print_final_stats=1 -artifact_prefix="$work/$name-" \
       "$work/$name" "tests/fuzz/corpus/$name" >"$work/$name.log" 2>&1; then
    printf '%s: passed, %s runs\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name.log")"
  else
    printf '%s: FAILED\n' "$name"
    tail -n 60 "$work/$name.log"
    for found in "$work/$name"-*; do [ -f "$found" ] && { echo "input (base64):"; base64 -w 200 "$found" | head -n 20; }; done
    return 1
  fi
}
export -f run_one

if [ $# -gt 0 ]; then targets=("$@"); else mapfile -t targets < <(cd build/fuzz/fuzz && ls fuzz_* | sort); fi
printf 'build/fuzz/fuzz/%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c 'run_one "$@"' _ {} "$seconds" "$work"
echo "${#targets[@]} fuzz targets passed"
