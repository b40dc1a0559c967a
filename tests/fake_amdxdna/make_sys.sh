#!/usr/bin/env bash
# Fills a folder with what /sys says on a machine with an AMD NPU, of the stand-in for the kernel driver. It must then stand at /sys.
#   tests/fake_amdxdna/make_sys.sh FOLDER
# FAKE_AMDXDNA_MODEL is phoenix (default) or strix, FAKE_AMDXDNA_FIRMWARE what /sys says of the firmware.
set -euo pipefail
[ $# -eq 1 ] || { echo "make_sys: expected FOLDER" >&2; exit 2; }
folder=$1

case "${FAKE_AMDXDNA_MODEL:-phoenix}" in
  phoenix) id=0x1502 revision=0x00 name="NPU Phoenix (stand-in for the kernel driver)" firmware=1.5.5.391 ;;
  strix) id=0x17f0 revision=0x11 name="NPU Strix Halo (stand-in for the kernel driver)" firmware=1.1.2.65 ;;
  *) echo "make_sys: FAKE_AMDXDNA_MODEL: expected phoenix or strix, found '$FAKE_AMDXDNA_MODEL'" >&2; exit 2 ;;
esac

path=/devices/pci0000:00/0000:c5:00.1
device=$folder$path
mkdir -p "$device/accel/accel0" "$folder"/bus/pci/{drivers/amdxdna,devices} "$folder/module/amdxdna"
ln -s "/sys$path" "$folder/bus/pci/drivers/amdxdna/0000:c5:00.1"
ln -s "/sys$path" "$folder/bus/pci/devices/0000:c5:00.1"
echo 0 >"$device/device_type"
echo 0x1022 >"$device/vendor"
echo $id >"$device/device"
echo 0x1022 >"$device/subsystem_vendor"
echo $id >"$device/subsystem_device"
echo $revision >"$device/revision"
echo "$name" >"$device/vbnv"
echo "${FAKE_AMDXDNA_FIRMWARE:-$firmware}" >"$device/fw_version"
: >"$device/resource"
echo "stand-in (tests/fake_amdxdna)" >"$folder/module/amdxdna/version"
