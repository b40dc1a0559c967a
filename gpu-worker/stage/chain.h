#pragma once

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "gpu-worker/stage/recorder.h"
#include "gpu-worker/vulkan/buffer.h"

namespace tandem {

// Whether a device's programs chain dispatches. Any thread.
class ChainHealth {
 public:
  // After a failure nothing is chained any more.
  bool usable() const { return failures() == 0; }
  std::uint64_t failures() const { return failures_.load(std::memory_order_relaxed); }
  void AddFailure() { failures_.fetch_add(1, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> failures_{0};
};

// Steps of more tokens are never chained: they take other kernels.
inline constexpr std::uint32_t kMostChainedTokens = 32;

// Words of a chain of so many dispatches.
constexpr std::uint64_t ChainWords(std::uint64_t links) {
  return (links + 1) * kernels::kChainLine;
}

// Dispatches that follow each other without barriers (kernels/common/chain.glsl says how), in the
// order in which they are linked.
class Chain {
 public:
  // `words` (ChainWords) are all 0 in front of the first dispatch, `report` is a word for the host.
  Chain(const DeviceContext& context, vulkan::BufferSlice words, vulkan::BufferSlice report)
      : tuning_(context.tuning.chain), words_(words), report_(report) {}

  // All kernels of `op` are with CHAINED.
  void Link(Op* op, ChainPlace place = ChainPlace::kOther);

 private:
  const ChainTuning tuning_;
  const vulkan::BufferSlice words_;
  const vulkan::BufferSlice report_;
  std::uint32_t links_ = 0;
};

// Runs a short chain whose answer is known, of grids of more workgroups than a device has running
// at once. DATA_LOSS where the answer is wrong, ABORTED where a dispatch waited in vain, else what
// befell the device.
absl::Status TryChain(const DeviceContext& context);

}  // namespace tandem
