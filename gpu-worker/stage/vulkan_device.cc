#include "gpu-worker/stage/vulkan_device.h"

#include <spdlog/spdlog.h>

#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpu-worker/stage/chain.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/matrix_map.h"
#include "gpu-worker/stage/probe.h"
#include "gpu-worker/stage/tuner.h"
#include "gpu-worker/stage/tuning_profile.h"
#include "gpu-worker/stage/upload.h"
#include "gpu-worker/stage/vulkan_kv_cache.h"
#include "gpu-worker/stage/vulkan_program.h"
#include "gpu-worker/stage/vulkan_residual.h"
#include "gpu-worker/stage/vulkan_weights.h"
#include "gpu-worker/vulkan/instance.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "gpu-worker/vulkan/physical_device.h"
#include "gpu-worker/vulkan/pipeline_cache.h"
#include "lib/base/kept_file.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/memory/edge_rule.h"

namespace tandem {
namespace {

std::string VersionName(std::uint32_t version) {
  return Cat(VK_API_VERSION_MAJOR(version), ".", VK_API_VERSION_MINOR(version), ".",
             VK_API_VERSION_PATCH(version));
}

// The kept profile; false where there is none that can be used.
bool ReadProfile(const KeptFile& file, const vulkan::PhysicalDevice& device, Tuning* tuning) {
  const absl::StatusOr<std::vector<std::byte>> bytes = file.Load();
  absl::Status status = bytes.status();
  if (status.ok() && bytes->empty()) return false;
  if (status.ok()) {
    const std::string_view text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    status = ReadTuningProfile(text, tuning);
  }
  if (!status.ok()) {
    spdlog::warn("kernels are tuned anew: {}: {}", file.path(), status.ToString());
    return false;
  }
  CutTuning(device, tuning);
  spdlog::info("kernels are tuned as {} says", file.path());
  return true;
}

class VulkanDevice final : public Device {
 public:
  VulkanDevice(std::unique_ptr<vulkan::Instance> instance,
               std::unique_ptr<vulkan::LogicalDevice> device, const VulkanDeviceOptions& options,
               std::size_t kept_bytes)
      : instance_(std::move(instance)),
        device_(std::move(device)),
        kept_(options.cache_folder, device_->physical()),
        kept_bytes_(kept_bytes),
        pipelines_(*device_),
        tuning_(TuningFor(device_->physical())),
        profile_(TuningProfileFile(options.cache_folder, device_->physical())),
        tunes_(options.tuning == TuningMode::kAgain),
        context_{*device_, pipelines_, tuning_, false, options.timer},
        upload_(options.weight_import == WeightImport::kUpload ||
                !device_->physical().unified_memory()),
        uploader_(*device_) {
    const vulkan::PhysicalDevice& physical = device_->physical();
    if (options.tuning == TuningMode::kAuto) {
      tunes_ = !ReadProfile(profile_, physical, &tuning_) && !tuning_.measured;
    }
    if (options.tune) options.tune(tuning_);
    info_.kind = "vulkan";
    info_.name = physical.name;
    info_.driver = physical.driver;
    info_.memory_bytes = physical.memory_bytes();
    info_.unified_memory = !upload_;
  }

  ~VulkanDevice() override { KeepPipelines(); }

  absl::Status Start(ChainingMode chaining) {
    memory_ = DeclareVulkanMemory(*device_);
    spdlog::info("device \"{}\": memory of other processes: {}", info_.name,
                 DeclarationText(memory_));
    TANDEM_ASSIGN_OR_RETURN(context_.fragments, FragmentsWork(context_));
    TANDEM_ASSIGN_OR_RETURN(probe_, Probe::Create(context_));
    TANDEM_RETURN_IF_ERROR(probe_->Run());
    return DecideChaining(chaining);
  }

  const DeviceInfo& info() const override { return info_; }
  const MemoryDeclaration& memory() const override { return memory_; }
  MemoryBudget memory_budget() const override {
    if (device_->physical().unified_memory()) return ShareOfMachineMemory();
    return {device_->physical().budget_bytes(), true};
  }

  DeviceCounters counters() const override {
    const vulkan::Counters& counters = device_->counters();
    DeviceCounters copy;
    copy.allocations = counters.allocations.load(std::memory_order_relaxed);
    copy.descriptor_writes = counters.descriptor_writes.load(std::memory_order_relaxed);
    copy.command_recordings = counters.command_recordings.load(std::memory_order_relaxed);
    copy.submissions = counters.submissions.load(std::memory_order_relaxed);
    return copy;
  }

  DeviceReport Report() const override {
    if (context_.chain == nullptr) return {};
    const std::uint64_t failures = chain_.failures();
    return {
        {{"chained dispatches", failures == 0 ? "on" : Cat("off after ", failures, " failures")}},
        {}};
  }

  absl::StatusOr<std::shared_ptr<const Weights>> Import(std::shared_ptr<const Region> region,
                                                        const ModelConfig& config) override {
    TANDEM_RETURN_IF_ERROR(ValidateManifest(region->manifest(), config));
    return VulkanWeights::Create(uploader_, std::move(region), upload_);
  }

  absl::StatusOr<std::unique_ptr<KvCache>> CreateKvCache(const ModelConfig& config,
                                                         const KvCacheSpec& spec) override {
    return VulkanKvCache::Create(*device_, config, spec);
  }

  absl::StatusOr<std::unique_ptr<ResidualBuffer>> CreateResidual(
      const ResidualLayout& layout) override {
    return VulkanResidual::Create(*device_, layout);
  }

  absl::StatusOr<std::unique_ptr<ResidualBuffer>> ImportResidual(
      HandleKind kind, UniqueFd fd, const ResidualLayout& layout) override {
    return VulkanResidual::Import(*device_, kind, std::move(fd), layout);
  }

  absl::StatusOr<std::unique_ptr<ResidualBuffer>> ExportResidual(HandleKind kind,
                                                                 const ResidualLayout& layout,
                                                                 UniqueFd* fd) override {
    return VulkanResidual::Export(*device_, kind, layout, fd);
  }

  absl::StatusOr<std::unique_ptr<Program>> Compile(const ModelConfig& config,
                                                   const ProgramSpec& spec) override {
    // All weights are there.
    uploader_.Release();
    if (spec.activations == ActivationType::kAuto && std::exchange(tunes_, false)) {
      TuneKernels(config, spec);
    }
    auto program = VulkanProgram::Create(context_, config, spec);
    KeepPipelines();
    return program;
  }

  absl::Status Probe() override { return probe_->Run(); }

 private:
  absl::Status DecideChaining(ChainingMode mode) {
    const vulkan::PhysicalDevice& physical = device_->physical();
    const bool asked = mode == ChainingMode::kOn;
    const bool known = physical.driver_id == VK_DRIVER_ID_NVIDIA_PROPRIETARY;
    if (mode == ChainingMode::kOff || (!asked && !(known && physical.packed_dot)))
      return absl::OkStatus();
    if (!physical.packed_dot) {
      return absl::FailedPreconditionError(
          Cat("device \"", info_.name,
              "\" cannot chain dispatches (--gpu_chaining=on): it lacks packed dot products"));
    }
    const absl::Status tried = Annotate(TryChain(context_), "trying to chain dispatches");
    if (tried.ok()) {
      context_.chain = &chain_;
      spdlog::info("device \"{}\": dispatches of steps of few tokens are chained", info_.name);
      return absl::OkStatus();
    }
    const bool lost = !absl::IsAborted(tried) && !absl::IsDataLoss(tried);
    if (asked || lost) return tried;
    spdlog::warn("device \"{}\": dispatches are not chained: {}", info_.name, tried.ToString());
    return absl::OkStatus();
  }

  // What fails costs speed, nothing else.
  void TuneKernels(const ModelConfig& config, const ProgramSpec& spec) {
    spdlog::info("measuring how kernels are best shaped on \"{}\"; this is done once", info_.name);
    const absl::Time start = absl::Now();
    TunerOptions options;
    options.on_measured = [](const std::string& field, std::uint32_t value, double seconds) {
      spdlog::debug("{} = {}: {:.1f} us", field, value, seconds * 1e6);
    };
    // None of the fields is of chained lists.
    DeviceContext unchained = context_;
    unchained.chain = nullptr;
    const absl::StatusOr<Tuning> tuning = Tune(unchained, config, spec.weights, options);
    absl::Status status = tuning.status();
    if (status.ok()) {
      tuning_ = *tuning;
      const std::string text = WriteTuningProfile(info_.name, info_.driver, tuning_);
      status = profile_.Store(std::as_bytes(std::span(text)));
    }
    if (!tuning.ok()) {
      spdlog::warn("kernels are not tuned: {}", status.ToString());
    } else if (!status.ok()) {
      spdlog::warn("the profile of kernels is not kept: {}", status.ToString());
    } else {
      spdlog::info("kernels tuned in {:.1f} s: {}", absl::ToDoubleSeconds(absl::Now() - start),
                   profile_.path());
    }
  }

  // A start without them takes longer, nothing else.
  void KeepPipelines() {
    absl::StatusOr<std::vector<std::byte>> data = device_->PipelineData();
    const std::lock_guard lock(kept_mutex_);
    if (data.ok() && data->size() == kept_bytes_) return;
    absl::Status status = data.status();
    if (status.ok()) status = kept_.Store(*data);
    if (!status.ok()) spdlog::warn("compiled kernels are not kept: {}", status.ToString());
    if (data.ok()) kept_bytes_ = data->size();
  }

  const std::unique_ptr<vulkan::Instance> instance_;
  const std::unique_ptr<vulkan::LogicalDevice> device_;
  const vulkan::PipelineCacheFile kept_;
  std::mutex kept_mutex_;
  std::size_t kept_bytes_;  // guarded by kept_mutex_
  PipelineLibrary pipelines_;
  // Changes at most once, before the first program is compiled.
  Tuning tuning_;
  const KeptFile profile_;
  bool tunes_;
  ChainHealth chain_;
  DeviceContext context_;
  const bool upload_;
  Uploader uploader_;
  DeviceInfo info_;
  MemoryDeclaration memory_;
  std::unique_ptr<tandem::Probe> probe_;
};

VulkanDeviceSummary Summarise(const vulkan::PhysicalDevice& device) {
  VulkanDeviceSummary summary;
  summary.name = device.name;
  summary.driver = device.driver;
  summary.type = vulkan::DeviceTypeName(device.type);
  summary.api_version = VersionName(device.api_version);
  summary.memory_bytes = device.memory_bytes();
  summary.unified_memory = device.unified_memory();
  summary.zero_copy_weights = device.host_pointer_alignment != 0;
  summary.dma_buf = device.dma_buf_import;
  summary.dma_buf_export = device.dma_buf_export;
  summary.unusable = device.unusable;
  return summary;
}

}  // namespace

absl::StatusOr<std::vector<VulkanDeviceSummary>> ListVulkanDevices() {
  absl::StatusOr<std::unique_ptr<vulkan::Instance>> instance =
      vulkan::Instance::Create(/*validation=*/false, nullptr);
  std::vector<VulkanDeviceSummary> summaries;
  // The loader refuses to start where no driver is installed.
  if (absl::IsUnimplemented(instance.status())) return summaries;
  TANDEM_RETURN_IF_ERROR(instance.status());
  TANDEM_ASSIGN_OR_RETURN(const auto devices, vulkan::ListPhysicalDevices((*instance)->handle()));
  for (const vulkan::PhysicalDevice& device : devices) summaries.push_back(Summarise(device));
  return summaries;
}

absl::StatusOr<std::unique_ptr<Device>> CreateVulkanDevice(const VulkanDeviceOptions& options) {
  absl::StatusOr<std::unique_ptr<vulkan::Instance>> instance =
      vulkan::Instance::Create(options.validation, options.on_validation_message);
  if (absl::IsUnimplemented(instance.status())) {
    return absl::NotFoundError(Cat("no Vulkan device \"", options.device,
                                   "\": no Vulkan driver is installed (",
                                   instance.status().message(), ")"));
  }
  TANDEM_RETURN_IF_ERROR(instance.status());
  TANDEM_ASSIGN_OR_RETURN(const auto devices, vulkan::ListPhysicalDevices((*instance)->handle()));
  TANDEM_ASSIGN_OR_RETURN(const std::size_t chosen, vulkan::ChooseDevice(devices, options.device));
  absl::StatusOr<std::vector<std::byte>> kept =
      vulkan::PipelineCacheFile(options.cache_folder, devices[chosen]).Load();
  if (!kept.ok()) {
    spdlog::warn("kernels are compiled anew: {}", kept.status().ToString());
    kept.emplace();
  }
  TANDEM_ASSIGN_OR_RETURN(auto logical, vulkan::LogicalDevice::Create(devices[chosen], *kept));
  auto device = std::make_unique<VulkanDevice>(*std::move(instance), std::move(logical), options,
                                               kept->size());
  TANDEM_RETURN_IF_ERROR(device->Start(options.chaining));
  return device;
}

}  // namespace tandem
