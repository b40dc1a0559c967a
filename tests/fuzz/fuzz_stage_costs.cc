// Times of stages and of pairs of workers kept in the user's cache: any bytes are times within
// bounds, or refused; what is taken predicts steps, and reads back the same.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "gateway/dispatch/cost_file.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

ModelConfig TwoLayers() {
  ModelConfig config;
  config.num_layers = 2;
  config.sliding_window = 64;
  config.layer_is_global = {false, true};
  return config;
}

void Costs(std::string_view text) {
  const auto costs = ReadCosts(text, "key");
  if (!costs.ok()) return;
  TANDEM_CHECK(!costs->costs.empty());
  const auto again = ReadCosts(WriteCosts("key", *costs), "key");
  TANDEM_CHECK(again.ok() && again->costs == costs->costs && again->overhead == costs->overhead);
  const StepModel model(TwoLayers(), {{"npu0", "device", costs->costs, "", true, costs->overhead}},
                        {});
  const std::vector<StagePlacement> route = {{"npu0", StagePart::kEmbed, 0, 0},
                                             {"npu0", StagePart::kBoth, 0, 2},
                                             {"npu0", StagePart::kHead, 0, 0}};
  for (const CostPoint point : {CostPoint{1, 700}, {64, 0}, {4096, 1 << 20}}) {
    const auto predicted = model.Predict(route, {point});
    TANDEM_CHECK(!predicted.ok() || predicted->seconds >= 0);
  }
}

void Pair(std::string_view text) {
  const auto pair = ReadPair(text, "key");
  if (!pair.ok()) return;
  TANDEM_CHECK(pair->slowdown >= 1);
  const auto again = ReadPair(WritePair("key", *pair), "key");
  TANDEM_CHECK(again.ok() && again->hop == pair->hop && again->cut_hop == pair->cut_hop &&
               again->message_seconds == pair->message_seconds);
}

}  // namespace
}  // namespace tandem

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  tandem::Costs(text);
  tandem::Pair(text);
  return 0;
}
