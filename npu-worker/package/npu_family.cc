#include "npu-worker/package/npu_family.h"

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tandem::npu {
namespace {

using Version = std::array<std::uint32_t, 4>;

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

std::optional<Version> ParseVersion(std::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(Absl(text), '.');
  Version version{};
  if (parts.size() != version.size()) return std::nullopt;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (!absl::SimpleAtoi(parts[i], &version[i])) return std::nullopt;
  }
  return version;
}

// The first in linux-firmware: amdnpu/1502_00, amdnpu/17f0_10.
constexpr Version kOldestAie2 = {1, 5, 2, 380};
constexpr Version kOldestAie2p = {1, 0, 0, 63};

}  // namespace

absl::StatusOr<ArrayShape> ArrayOfNpu(std::string_view name) {
  for (const char* aie2 : {"Phoenix", "Hawk", "RyzenAI-npu1"}) {
    if (absl::StrContains(Absl(name), aie2)) return kAie2Array;
  }
  for (const char* aie2p :
       {"Strix", "Krackan", "Gorgon", "RyzenAI-npu4", "RyzenAI-npu5", "RyzenAI-npu6"}) {
    if (absl::StrContains(Absl(name), aie2p)) return kAie2pArray;
  }
  return absl::UnimplementedError(absl::StrCat(
      "expected an NPU of the Phoenix, Hawk Point, Strix, Krackan or Gorgon Point family, found '",
      Absl(name), "'"));
}

std::string GenerationName(const ArrayShape& array) {
  return array == kAie2Array ? "AIE2" : "AIE2P";
}

absl::Status CheckFirmware(const ArrayShape& array, std::string_view name,
                           std::string_view version) {
  const std::optional<Version> found = ParseVersion(version);
  const Version& oldest = array == kAie2Array ? kOldestAie2 : kOldestAie2p;
  if (!found.has_value() || *found >= oldest) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(Absl(name), ": expected firmware ", oldest[0], ".", oldest[1], ".", oldest[2],
                   ".", oldest[3], " or newer, found ", Absl(version),
                   ": update linux-firmware (amdnpu) and load the driver amdxdna again"));
}

}  // namespace tandem::npu
