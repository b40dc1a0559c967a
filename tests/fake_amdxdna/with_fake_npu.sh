#!/usr/bin/env bash
# Runs a command on a machine that seems to have an AMD NPU: a /sys of its own in a private mount namespace, and the stand-in for the kernel
# driver in every process (LD_PRELOAD). XRT and its NPU plug-in stay as they are. Run it inside the Debian 13 root (tools/npu_root.sh), as root.
#   tests/fake_amdxdna/with_fake_npu.sh LIBRARY COMMAND...
# LIBRARY is libfake_amdxdna.so; FAKE_AMDXDNA_MODEL and others stand in preload.cc and make_sys.sh.
set -euo pipefail
[ $# -ge 2 ] || { echo "with_fake_npu: expected LIBRARY COMMAND..." >&2; exit 2; }
# In a chroot the root is no mount point whose propagation could be changed; tools/npu_root.sh has made it private already.
if [ "${FAKE_AMDXDNA_INSIDE:-}" != 1 ]; then
  FAKE_AMDXDNA_INSIDE=1 exec unshare --mount --propagation unchanged -- "$0" "$@"
fi
unset FAKE_AMDXDNA_INSIDE
library=$(realpath "$1"); shift

mount -t tmpfs tmpfs /sys
"$(dirname "$0")/make_sys.sh" /sys
# XRT looks whether the node is there; the stand-in answers for it.
mkdir -p /dev/accel
: >/dev/accel/accel0
LD_PRELOAD=$library exec "$@"
