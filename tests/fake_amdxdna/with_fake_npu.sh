#!/usr/bin/env bash
# Runs a command on a machine that seems to have an AMD NPU: a /sys of its own in a private mount namespace, and the stand-in for the kernel
# driver in every process (LD_PRELOAD). XRT and its NPU plug-in stay as they are. Run it inside the Debian 13 root (tools/npu_root.sh), as root.
#   tests/fake_amdxdna/with_fake_npu.sh LIBRARY COMMAND...
# LIBRARY is libfake_amdxdna.so; FAKE_AMDXDNA_MODEL and others stand in preload.cc. FAKE_AMDXDNA_FIRMWARE is what /sys says of the firmware.
set -euo pipefail
[ $# -ge 2 ] || { echo "with_fake_npu: expected LIBRARY COMMAND..." >&2; exit 2; }
# In a chroot the root is no mount point whose propagation could be changed; tools/npu_root.sh has made it private already.
if [ "${FAKE_AMDXDNA_INSIDE:-}" != 1 ]; then
  FAKE_AMDXDNA_INSIDE=1 exec unshare --mount --propagation unchanged -- "$0" "$@"
fi
unset FAKE_AMDXDNA_INSIDE
library=$(realpath "$1"); shift

case "${FAKE_AMDXDNA_MODEL:-phoenix}" in
  phoenix) id=0x1502 revision=0x00 name="NPU Phoenix (stand-in for the kernel driver)" firmware=1.5.5.391 ;;
  strix) id=0x17f0 revision=0x11 name="NPU Strix Halo (stand-in for the kernel driver)" firmware=1.1.2.65 ;;
  *) echo "with_fake_npu: FAKE_AMDXDNA_MODEL: expected phoenix or strix, found '$FAKE_AMDXDNA_MODEL'" >&2; exit 2 ;;
esac

mount -t tmpfs tmpfs /sys
device=/sys/devices/pci0000:00/0000:c5:00.1
mkdir -p $device/accel/accel0 /sys/bus/pci/drivers/amdxdna /sys/bus/pci/devices
ln -s $device /sys/bus/pci/drivers/amdxdna/0000:c5:00.1
ln -s $device /sys/bus/pci/devices/0000:c5:00.1
echo 0 >$device/device_type
echo 0x1022 >$device/vendor
echo $id >$device/device
echo 0x1022 >$device/subsystem_vendor
echo $id >$device/subsystem_device
echo $revision >$device/revision
echo "$name" >$device/vbnv
echo "${FAKE_AMDXDNA_FIRMWARE:-$firmware}" >$device/fw_version
mkdir -p /sys/module/amdxdna
echo "stand-in (tests/fake_amdxdna)" >/sys/module/amdxdna/version
: >$device/resource
# XRT looks whether the node is there; the stand-in answers for it.
mkdir -p /dev/accel
: >/dev/accel/accel0
LD_PRELOAD=$library exec "$@"
