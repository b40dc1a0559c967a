#!/usr/bin/env bash
# What ./check --deploy runs: builds the programs, tests the Debian package and then the containers. Needs root, and a Debian mirror.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/install_deps.sh
cmake --preset release >/dev/null
cmake --build --preset release --target tandem_share -- --quiet
deploy/test_package build/release
deploy/test
echo "== all green"
