#include "lib/device/device.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "lib/base/numeric.h"
#include "lib/base/shared_memory.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

std::string LayersName(absl::string_view what, std::int32_t first, std::int32_t last) {
  if (first + 1 == last) return absl::StrCat(what, " ", first);
  return absl::StrCat(what, "s ", first, "-", last - 1);
}

// The rest belongs to the weights, the page cache and other programs.
constexpr std::uint64_t kMachineShare = 4;
constexpr std::uint64_t kMostOfMachine = std::uint64_t{16} << 30;

}  // namespace

MemoryBudget ShareOfMachineMemory() {
  std::ifstream in("/proc/meminfo");
  std::string key;
  std::uint64_t kibibytes = 0;
  std::string rest;
  while (in >> key >> kibibytes && std::getline(in, rest)) {
    if (key == "MemAvailable:")
      return {std::min(kibibytes * 1024 / kMachineShare, kMostOfMachine), false};
  }
  return {};
}

ResidualLayout MakeResidualLayout(std::int32_t slots, std::int32_t max_tokens,
                                  std::int32_t hidden_size) {
  TANDEM_CHECK(slots >= 1 && max_tokens >= 1 && hidden_size >= 1);
  ResidualLayout layout;
  layout.slots = slots;
  layout.max_tokens = max_tokens;
  layout.hidden_size = hidden_size;
  const std::uint64_t bytes = static_cast<std::uint64_t>(max_tokens) *
                              static_cast<std::uint64_t>(hidden_size) * sizeof(float);
  layout.slot_bytes = RoundUp(bytes, PageSize());
  return layout;
}

std::string StageSpecName(const StageSpec& spec) {
  std::string name = spec.embed ? "embed" : "";
  const auto append = [&name](absl::string_view part) {
    absl::StrAppend(&name, name.empty() ? "" : "+", part);
  };
  std::int32_t half = spec.first_half;
  if (half < spec.last_half && half % 2 == 1)
    append(LayersName("ffn", half / 2, half / 2 + 1)), ++half;
  const std::int32_t whole_end = spec.last_half / 2;
  if (half / 2 < whole_end) {
    append(LayersName("layer", half / 2, whole_end));
    half = 2 * whole_end;
  }
  if (half < spec.last_half) append(LayersName("attention", half / 2, half / 2 + 1));
  if (spec.head) append("head");
  return name.empty() ? "nothing" : name;
}

}  // namespace tandem
