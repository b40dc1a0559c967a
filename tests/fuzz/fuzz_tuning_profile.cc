// A kept profile of kernels: any text sets fields to values that they may have, or nothing.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gpu-worker/stage/tuning_profile.h"
#include "lib/base/status_macros.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const tandem::Tuning before;
  tandem::Tuning tuning = before;
  const absl::Status read = tandem::ReadTuningProfile(
      std::string_view(reinterpret_cast<const char*>(data), size), &tuning);
  for (const tandem::TuningField& field : tandem::TuningFields()) {
    const std::uint32_t value = field.get(tuning);
    if (read.ok()) {
      TANDEM_CHECK(tandem::Allows(field, value));
    } else {
      TANDEM_CHECK(absl::IsDataLoss(read) && value == field.get(before));
    }
  }
  return 0;
}
