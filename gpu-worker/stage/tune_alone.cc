#include "gpu-worker/stage/tune_alone.h"

#include <cstdio>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/time/clock.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/matrix_map.h"
#include "gpu-worker/stage/tuner.h"
#include "gpu-worker/stage/tuning_profile.h"
#include "gpu-worker/stage/upload.h"
#include "gpu-worker/vulkan/instance.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/gemma3_shapes.h"
#include "lib/weights/random_region.h"

namespace tandem {
namespace {

// A model of one layer, and a vocabulary that takes no room.
absl::StatusOr<ModelConfig> OneLayer(std::string_view name) {
  TANDEM_ASSIGN_OR_RETURN(ModelConfig config, Gemma3Shape(name));
  config.vocab_size = 1024;
  config.num_layers = 1;
  config.layer_is_global = {true};
  return config;
}

absl::StatusOr<std::vector<std::shared_ptr<const Weights>>> RandomWeights(
    Uploader& uploader, const ModelConfig& config, std::string_view weights) {
  TANDEM_ASSIGN_OR_RETURN(const WeightFormat format, ParseWeightFormat(weights));
  if (format != WeightFormat::kInt4 && format != WeightFormat::kInt8) {
    return absl::InvalidArgumentError(Cat("expected int4 or int8 weights, found '", weights, "'"));
  }
  std::vector<std::shared_ptr<const Weights>> all;
  for (const WeightPart part : {WeightPart::kAttention, WeightPart::kFfn}) {
    TANDEM_ASSIGN_OR_RETURN(const auto region, MakeRandomRegion(config, part, 0, format));
    // Copied: how a driver takes memory from outside is not what is measured.
    TANDEM_ASSIGN_OR_RETURN(auto bound, VulkanWeights::Create(uploader, region, /*upload=*/true));
    all.push_back(std::move(bound));
  }
  return all;
}

}  // namespace

absl::Status TuneAlone(const TuneAloneOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const ModelConfig config, OneLayer(options.shape));
  TANDEM_ASSIGN_OR_RETURN(const auto instance, vulkan::Instance::Create(false, nullptr));
  TANDEM_ASSIGN_OR_RETURN(const auto devices, vulkan::ListPhysicalDevices(instance->handle()));
  TANDEM_ASSIGN_OR_RETURN(const std::size_t chosen, vulkan::ChooseDevice(devices, options.device));
  const vulkan::PhysicalDevice& physical = devices[chosen];
  TANDEM_ASSIGN_OR_RETURN(const auto device, vulkan::LogicalDevice::Create(physical));
  PipelineLibrary pipelines(*device);
  const Tuning tuning = TuningFor(physical);
  DeviceContext context{*device, pipelines, tuning};
  TANDEM_ASSIGN_OR_RETURN(context.fragments, FragmentsWork(context));
  Uploader uploader(*device);
  TANDEM_ASSIGN_OR_RETURN(const auto weights, RandomWeights(uploader, config, options.weights));
  std::printf("%s, %s; a layer of %s in %s, row '%s' of the table\n", physical.name.c_str(),
              physical.driver.c_str(), options.shape.c_str(), options.weights.c_str(),
              std::string(tuning.name).c_str());
  TunerOptions measuring;
  measuring.on_measured = [](const std::string& field, std::uint32_t value, double seconds) {
    std::printf("  %-22s %5u  %9.1f us\n", field.c_str(), value, seconds * 1e6);
    std::fflush(stdout);
  };
  const absl::Time start = absl::Now();
  TANDEM_ASSIGN_OR_RETURN(const Tuning best, Tune(context, config, weights, measuring));
  std::printf("chosen in %.1f s:", absl::ToDoubleSeconds(absl::Now() - start));
  for (const TuningField& field : TuningFields()) {
    const std::uint32_t before = field.get(tuning);
    if (field.get(best) == before) continue;
    std::printf(" %s %u (was %u)", std::string(field.name).c_str(), field.get(best), before);
  }
  const KeptFile file = TuningProfileFile(options.cache_folder, physical);
  const std::string text = WriteTuningProfile(physical.name, physical.driver, best);
  TANDEM_RETURN_IF_ERROR(file.Store(std::as_bytes(std::span(text))));
  std::printf("\nkept in %s\n", file.path().c_str());
  return absl::OkStatus();
}

}  // namespace tandem
