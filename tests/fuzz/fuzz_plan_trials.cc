// Trials of plans kept in the user's cache: any bytes are trials of exactly the plans that are
// asked for, or refused; what is taken gives a choice, and reads back the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/dispatch/auto_plan.h"
#include "lib/base/status_macros.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::string> plans = {"split", "gpu", "npu"};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto trials = tandem::ReadTrials(text, "key", plans);
  if (!trials.ok()) return 0;
  TANDEM_CHECK(trials->size() == plans.size());
  const tandem::PlanReport report = tandem::ChoosePlan(*trials);
  TANDEM_CHECK(!report.reason.empty());
  const auto again = tandem::ReadTrials(tandem::WriteTrials("key", *trials), "key", plans);
  TANDEM_CHECK(again.ok());
  for (std::size_t i = 0; i < plans.size(); ++i) {
    TANDEM_CHECK((*trials)[i].plan == plans[i]);
    TANDEM_CHECK((*again)[i].decode_seconds == (*trials)[i].decode_seconds);
  }
  return 0;
}
