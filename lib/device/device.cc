#include "lib/device/device.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "lib/base/numeric.h"
#include "lib/base/shared_memory.h"
#include "lib/base/status_macros.h"
#include "lib/model/attention_rows.h"

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
                                  std::int32_t columns) {
  TANDEM_CHECK(slots >= 1 && max_tokens >= 1 && columns >= 1);
  ResidualLayout layout;
  layout.slots = slots;
  layout.max_tokens = max_tokens;
  layout.columns = columns;
  const std::uint64_t bytes =
      static_cast<std::uint64_t>(max_tokens) * static_cast<std::uint64_t>(columns) * sizeof(float);
  layout.slot_bytes = RoundUp(bytes, PageSize());
  return layout;
}

bool StageSpec::HasAttention() const {
  for (std::int32_t half = (first_half + 1) / 2 * 2; half < last_half; half += 2)
    if (Attends(half)) return true;
  return false;
}

namespace {

std::int32_t ColumnsAt(const ModelConfig& config, AttentionCut cut) {
  switch (cut) {
    case AttentionCut::kNone:
      return config.hidden_size;
    case AttentionCut::kProjected:
      return ProjectedColumns(config);
    case AttentionCut::kAttended:
      return AttendedColumns(config);
  }
  TANDEM_CHECK(false);
}

// "qkv 3", "attend 3", "output 3" of a half that is cut.
std::string CutName(const StageSpec& spec, std::int32_t half) {
  std::string name;
  const auto append = [&](bool does, absl::string_view part) {
    if (does) absl::StrAppend(&name, name.empty() ? "" : "+", part, " ", half / 2);
  };
  append(spec.Projects(half), "qkv");
  append(spec.Attends(half), "attend");
  append(spec.Outputs(half), "output");
  return name;
}

}  // namespace

std::int32_t InputColumns(const ModelConfig& config, const StageSpec& spec) {
  return ColumnsAt(config, spec.begin);
}
std::int32_t OutputColumns(const ModelConfig& config, const StageSpec& spec) {
  return ColumnsAt(config, spec.end);
}

std::string StageSpecName(const StageSpec& spec) {
  std::string name = spec.embed ? "embed" : "";
  const auto append = [&name](absl::string_view part) {
    absl::StrAppend(&name, name.empty() ? "" : "+", part);
  };
  std::int32_t half = spec.first_half;
  std::int32_t last = spec.last_half;
  // What a whole layer of products is, from one attention to the next.
  if (spec.begin == AttentionCut::kAttended && spec.end == AttentionCut::kProjected &&
      last == half + 3) {
    return absl::StrCat("output+ffn+next qkv ", half / 2);
  }
  if (spec.begin != AttentionCut::kNone && half < last) append(CutName(spec, half)), ++half;
  const bool cut_end = spec.end != AttentionCut::kNone && half < last;
  if (cut_end) --last;
  if (half < last && half % 2 == 1) append(LayersName("ffn", half / 2, half / 2 + 1)), ++half;
  const std::int32_t whole_end = last / 2;
  if (half / 2 < whole_end) {
    append(LayersName("layer", half / 2, whole_end));
    half = 2 * whole_end;
  }
  if (half < last) append(LayersName("attention", half / 2, half / 2 + 1));
  if (cut_end) append(CutName(spec, last));
  if (spec.head) append("head");
  return name.empty() ? "nothing" : name;
}

}  // namespace tandem
