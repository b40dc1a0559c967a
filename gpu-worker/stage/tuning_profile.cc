#include "gpu-worker/stage/tuning_profile.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "gpu-worker/vulkan/pipeline_cache.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr int kVersion = 1;
// More than any profile takes; nesting is bounded by it, too.
constexpr std::size_t kMostBytes = 16 << 10;

constexpr TunedStep kOne{1, 1};
constexpr TunedStep kEight{8, 1};
constexpr TunedStep kPrompt{1, 128};

// A field that is a member of a member, as its getter and setter.
#define TANDEM_TUNED(member)                                                      \
  [](const Tuning& tuning) { return static_cast<std::uint32_t>(tuning.member); }, \
      [](Tuning& tuning, std::uint32_t value) {                                   \
        tuning.member = static_cast<decltype(tuning.member)>(value);              \
      }

const std::vector<TuningField>& Fields() {
  static const auto* const fields = new std::vector<TuningField>{
      {"dot.threads", {32, 64, 128, 256}, {}, kOne, TANDEM_TUNED(dot.threads)},
      {"dot.lanes", {1, 4, 8, 16, 32}, {}, kOne, TANDEM_TUNED(dot.lanes)},
      {"dot.loads", {1, 2, 3, 4, 6}, {}, kOne, TANDEM_TUNED(dot.loads)},
      {"dot.tokens", {1, 2, 4, 8}, {}, kEight, TANDEM_TUNED(dot.tokens)},
      {"dot_geglu.lanes", {4, 8, 16}, {}, kOne, TANDEM_TUNED(dot_geglu.lanes)},
      {"dot_geglu.loads", {1, 2, 3, 4}, {}, kOne, TANDEM_TUNED(dot_geglu.loads)},
      {"dot_post_norm.threads",
       {32, 64, 128, 256, 512},
       {},
       kOne,
       TANDEM_TUNED(dot_post_norm.threads)},
      {"dot_post_norm.lanes", {8, 16, 32}, {}, kOne, TANDEM_TUNED(dot_post_norm.lanes)},
      {"dot_post_norm.loads", {1, 2, 3, 4}, {}, kOne, TANDEM_TUNED(dot_post_norm.loads)},
      {"fuse_geglu", {0, 1}, {}, kOne, TANDEM_TUNED(fuse_geglu)},
      {"fuse_post_norm", {0, 1}, {}, kOne, TANDEM_TUNED(fuse_post_norm)},
      {"stream.per_core", {0, 1, 2, 4}, {3}, kOne, TANDEM_TUNED(stream.per_core)},
      {"stream.threads", {128, 256, 512, 1024}, {32}, kOne, TANDEM_TUNED(stream.threads)},
      {"stream.blocks", {2, 4, 6, 8}, {}, kOne, TANDEM_TUNED(stream.blocks)},
      {"norm_lanes", {128, 256, 512, 1024}, {32}, kOne, TANDEM_TUNED(norm_lanes)},
      {"decode.threads", {64, 128, 256}, {16}, kEight, TANDEM_TUNED(decode.threads)},
      {"decode.unroll", {1, 2, 4}, {}, kEight, TANDEM_TUNED(decode.unroll)},
      {"decode.groups", {8, 32, 64, 128, 256, 512}, {}, kEight, TANDEM_TUNED(decode.groups)},
      {"tiles_tokens", {16, 32, 64, 128}, {}, kPrompt, TANDEM_TUNED(tiles_tokens)}};
  return *fields;
}
#undef TANDEM_TUNED

absl::Status Bad(std::string_view what) {
  return absl::DataLossError(Cat("a tuning profile: ", what));
}

}  // namespace

std::span<const TuningField> TuningFields() { return Fields(); }

bool Allows(const TuningField& field, std::uint64_t value) {
  const auto is_in = [&](const std::vector<std::uint32_t>& values) {
    return std::find(values.begin(), values.end(), value) != values.end();
  };
  return is_in(field.values) || is_in(field.also);
}

const TuningField* FindTuningField(std::string_view name) {
  const auto found = std::find_if(Fields().begin(), Fields().end(),
                                  [&](const TuningField& field) { return field.name == name; });
  return found == Fields().end() ? nullptr : &*found;
}

std::string WriteTuningProfile(std::string_view device, std::string_view driver,
                               const Tuning& tuning) {
  nlohmann::ordered_json profile;
  profile["version"] = kVersion;
  profile["device"] = device;
  profile["driver"] = driver;
  for (const TuningField& field : Fields())
    profile["fields"][std::string(field.name)] = field.get(tuning);
  return profile.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

absl::Status ReadTuningProfile(std::string_view text, Tuning* tuning) {
  if (text.size() > kMostBytes) return Bad(Cat("it has ", text.size(), " bytes"));
  const auto profile = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!profile.is_object()) return Bad("expected a JSON object");
  const auto version = profile.find("version");
  if (version == profile.end() || *version != kVersion) return Bad("expected version 1");
  const auto fields = profile.find("fields");
  if (fields == profile.end() || !fields->is_object()) return Bad("expected \"fields\"");
  if (fields->size() != Fields().size()) {
    return Bad(Cat("expected ", Fields().size(), " fields, found ", fields->size()));
  }
  Tuning changed = *tuning;
  for (const TuningField& field : Fields()) {
    const auto value = fields->find(std::string(field.name));
    if (value == fields->end()) return Bad(Cat("expected the field ", field.name));
    if (!value->is_number_unsigned() || !Allows(field, value->get<std::uint64_t>()))
      return Bad(Cat(field.name, ": expected one of its values, found another"));
    field.set(changed, value->get<std::uint32_t>());
  }
  *tuning = changed;
  return absl::OkStatus();
}

KeptFile TuningProfileFile(const std::string& folder, const vulkan::PhysicalDevice& device) {
  return {folder, Cat("tuning-", vulkan::CacheName(device), ".json"), kMostBytes};
}

}  // namespace tandem
