#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/time/time.h"
#include "lib/base/shared_memory.h"
#include "lib/base/status_macros.h"
#include "lib/device/device.h"

namespace tandem {

// What a FakeDevice does; shared with the test. The functions are changed under the mutex.
struct FakeBehaviour {
  std::function<absl::Status(const Step&)> wait = [](const Step&) { return absl::OkStatus(); };
  // Of row `row` of a step.
  std::function<float(std::size_t row, std::int32_t token)> logit =
      [](std::size_t, std::int32_t token) { return static_cast<float>(token % 7); };
  std::atomic<bool> runs_until_cancelled{false};
  std::atomic<int> submits{0};
  std::atomic<int> cancels{0};

  void WaitUntilSubmitted() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return submits > 0; });
  }
  std::mutex mutex;
  std::condition_variable changed;
};

// Memory of an edge, visible to the test.
class FakeResidual final : public ResidualBuffer {
 public:
  FakeResidual(const ResidualLayout& layout, Mapping mapping)
      : layout_(layout), mapping_(std::move(mapping)) {}
  const ResidualLayout& layout() const override { return layout_; }
  float* slot(std::int32_t index) const {
    return reinterpret_cast<float*>(mapping_.data() +
                                    static_cast<std::uint64_t>(index) * layout_.slot_bytes);
  }

 private:
  ResidualLayout layout_;
  Mapping mapping_;
};

class FakeWeights final : public Weights {
 public:
  explicit FakeWeights(std::shared_ptr<const Region> region) : region_(std::move(region)) {}
  const RegionManifest& manifest() const override { return region_->manifest(); }
  std::string_view import_kind() const override { return "mapped"; }

 private:
  std::shared_ptr<const Region> region_;
};

class FakeKvCache final : public KvCache {
 public:
  explicit FakeKvCache(KvCacheSpec spec) : spec_(std::move(spec)) {}
  const KvCacheSpec& spec() const override { return spec_; }
  std::uint64_t bytes() const override { return 1; }
  absl::Status Export(const KvBlocks&, std::span<std::byte>) override {
    return absl::UnimplementedError("it holds nothing");
  }
  absl::Status Import(const KvBlocks&, std::span<const std::byte>) override {
    return absl::UnimplementedError("it holds nothing");
  }

 private:
  KvCacheSpec spec_;
};

class FakeProgram final : public Program {
 public:
  FakeProgram(std::shared_ptr<FakeBehaviour> behaviour, std::int32_t vocab, std::int32_t contexts)
      : behaviour_(std::move(behaviour)),
        vocab_(vocab),
        contexts_(static_cast<std::size_t>(contexts)) {}

  std::int32_t contexts() const override { return static_cast<std::int32_t>(contexts_.size()); }
  absl::Status Begin(std::int32_t context, const Step& step) override {
    std::lock_guard lock(behaviour_->mutex);
    At(context) = {step, {}};
    return absl::OkStatus();
  }
  absl::StatusOr<Ticket> Submit(std::int32_t, std::int32_t context, std::int32_t,
                                std::int32_t) override {
    std::lock_guard lock(behaviour_->mutex);
    Context& at = At(context);
    running_ = at.step;
    cancelled_ = false;
    at.logits.clear();
    for (std::size_t row = 0; row < at.step.logit_rows.size(); ++row) {
      for (std::int32_t token = 0; token < vocab_; ++token)
        at.logits.push_back(behaviour_->logit(row, token));
    }
    ++behaviour_->submits;
    behaviour_->changed.notify_all();
    return Ticket{++ticket_};
  }
  absl::Status Wait(Ticket, Deadline deadline) override {
    std::unique_lock lock(behaviour_->mutex);
    while (behaviour_->runs_until_cancelled && !cancelled_) {
      const absl::Duration left = deadline.left();
      if (left <= absl::ZeroDuration()) return absl::DeadlineExceededError("still running");
      behaviour_->changed.wait_for(lock,
                                   absl::ToChronoNanoseconds(std::min(left, absl::Seconds(1))));
    }
    return cancelled_ ? absl::CancelledError("cancelled") : behaviour_->wait(running_);
  }
  void Cancel() override {
    std::lock_guard lock(behaviour_->mutex);
    cancelled_ = true;
    ++behaviour_->cancels;
    behaviour_->changed.notify_all();
  }
  std::span<const float> logits(std::int32_t context) const override {
    return contexts_[static_cast<std::size_t>(context)].logits;
  }
  std::span<const float> hidden_states(std::int32_t) const override { return {}; }
  std::uint64_t scratch_bytes() const override { return 0; }

 private:
  struct Context {
    Step step;
    std::vector<float> logits;
  };
  Context& At(std::int32_t context) { return contexts_[static_cast<std::size_t>(context)]; }

  std::shared_ptr<FakeBehaviour> behaviour_;
  std::int32_t vocab_;
  std::vector<Context> contexts_;
  Step running_;
  bool cancelled_ = false;
  std::uint64_t ticket_ = 0;
};

class FakeDevice : public Device {
 public:
  explicit FakeDevice(std::shared_ptr<FakeBehaviour> behaviour)
      : behaviour_(std::move(behaviour)) {}

  const DeviceInfo& info() const override { return info_; }
  DeviceCounters counters() const override { return {}; }
  const MemoryDeclaration& memory() const override { return memory_; }
  absl::StatusOr<std::shared_ptr<const Weights>> Import(std::shared_ptr<const Region> region,
                                                        const ModelConfig&) override {
    return std::make_shared<const FakeWeights>(std::move(region));
  }
  absl::StatusOr<std::unique_ptr<KvCache>> CreateKvCache(const ModelConfig&,
                                                         const KvCacheSpec& spec) override {
    return std::make_unique<FakeKvCache>(spec);
  }
  absl::StatusOr<std::unique_ptr<ResidualBuffer>> CreateResidual(const ResidualLayout&) override {
    return absl::UnimplementedError("fake: no memory of its own");
  }
  absl::StatusOr<std::unique_ptr<ResidualBuffer>> ImportResidual(
      HandleKind kind, UniqueFd fd, const ResidualLayout& layout) override {
    if (kind != HandleKind::kHostPointer)
      return absl::UnimplementedError("fake: host pointers only");
    TANDEM_ASSIGN_OR_RETURN(Mapping mapping,
                            Mapping::Map(fd.get(), layout.total_bytes(), /*writable=*/true));
    return std::make_unique<FakeResidual>(layout, std::move(mapping));
  }
  absl::StatusOr<std::unique_ptr<ResidualBuffer>> ExportResidual(HandleKind, const ResidualLayout&,
                                                                 UniqueFd*) override {
    return absl::UnimplementedError("fake: exports nothing");
  }
  absl::StatusOr<std::unique_ptr<Program>> Compile(const ModelConfig& config,
                                                   const ProgramSpec& spec) override {
    return std::make_unique<FakeProgram>(behaviour_, config.vocab_size, spec.contexts);
  }
  absl::Status Probe() override { return absl::OkStatus(); }

 private:
  std::shared_ptr<FakeBehaviour> behaviour_;
  DeviceInfo info_{"fake", "fake", "none", 1, true};
  MemoryDeclaration memory_{.dma_buf = {},
                            .host_pointer = {MemoryAbility::kAny, MemoryAbility::kAny}};
};

}  // namespace tandem
