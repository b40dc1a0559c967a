#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gpu-worker/stage/tuning.h"

namespace tandem {

// Values for fields of the tuning table, as benchmarks take them: --set FIELD=VALUE, with the names
// of TuningFields() and some more.
class TuningSettings {
 public:
  // "packed.rows=2". False where it is not of that form.
  bool Add(const std::string& text);
  // Sets the fields and prints them. INVALID_ARGUMENT names one that is not there.
  absl::Status Apply(Tuning* tuning) const;

 private:
  std::vector<std::pair<std::string, std::uint32_t>> settings_;
};

}  // namespace tandem
