#include "bench/tuning_settings.h"

#include <cstdio>

#include "absl/strings/numbers.h"
#include "gpu-worker/stage/tuning_profile.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

// False when there is no such field.
bool SetField(Tuning* tuning, const std::string& field, std::uint32_t value) {
  if (const TuningField* const known = FindTuningField(field); known != nullptr) {
    known->set(*tuning, value);
    return true;
  }
  for (const auto& [name, place] : {std::pair{"chain.hold", &tuning->chain.hold},
                                    std::pair{"chain.end_hold", &tuning->chain.end_hold},
                                    std::pair{"chain.spread", &tuning->chain.spread},
                                    std::pair{"chain.cumulative", &tuning->chain.cumulative}}) {
    if (field != name) continue;
    *place = value != 0;
    return true;
  }
  std::vector<std::pair<std::string, std::uint32_t*>> fields = {
      {"look_us", &tuning->look_us},
      {"decode.core_threads", &tuning->decode.core_threads},
      {"matmat_fill", &tuning->matmat_fill},
      {"chain.per_core", &tuning->chain.per_core},
      {"chain.threads", &tuning->chain.threads},
      {"chain.end_threads", &tuning->chain.end_threads},
      {"chain.blocks", &tuning->chain.blocks},
      {"chain.polls", &tuning->chain.polls},
      {"chain.most_tokens", &tuning->chain.most_tokens}};
  // Of all buckets.
  if (field == "chain.barriers") {
    tuning->chain.barriers.fill(value);
    return true;
  }
  for (const auto& [name, matvec] :
       {std::pair{"bf16", &tuning->matvec_bf16}, std::pair{"packed", &tuning->matvec_packed}}) {
    fields.emplace_back(Cat(name, ".group"), &matvec->group);
    fields.emplace_back(Cat(name, ".lanes"), &matvec->lanes);
    fields.emplace_back(Cat(name, ".rows"), &matvec->rows);
    fields.emplace_back(Cat(name, ".fill"), &matvec->fill);
    fields.emplace_back(Cat(name, ".shared"), &matvec->shared);
  }
  for (const auto& [name, place] : fields) {
    if (field != name) continue;
    *place = value;
    return true;
  }
  return false;
}

}  // namespace

bool TuningSettings::Add(const std::string& text) {
  const std::size_t equals = text.find('=');
  std::uint32_t value = 0;
  if (equals == std::string::npos || !absl::SimpleAtoi(text.substr(equals + 1), &value))
    return false;
  settings_.emplace_back(text.substr(0, equals), value);
  return true;
}

absl::Status TuningSettings::Apply(Tuning* tuning) const {
  for (const auto& [field, value] : settings_) {
    if (!SetField(tuning, field, value))
      return absl::InvalidArgumentError(Cat("--set: no field '", field, "'"));
    std::printf(" %s=%u", field.c_str(), value);
  }
  return absl::OkStatus();
}

}  // namespace tandem
