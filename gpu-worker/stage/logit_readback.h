#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/program_memory.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/timeline.h"
#include "lib/sample/candidates.h"

namespace tandem {

// What the host reads of a head's results: candidates at once, logits after a copy that is recorded
// once for each context and bucket of rows and runs when somebody asks. One thread; `memory`
// outlives it.
class LogitReadback {
 public:
  LogitReadback() = default;
  static absl::StatusOr<LogitReadback> Create(const DeviceContext& context,
                                              const ProgramMemory& memory, std::int32_t vocab);

  // The context's logits are others from now on.
  void Forget(std::int32_t context) { here_[static_cast<std::size_t>(context)] = false; }
  // Of the first `rows` rows; the head has run.
  absl::StatusOr<std::span<const float>> Logits(vulkan::LogicalDevice& device,
                                                const ProgramMemory& memory, std::int32_t context,
                                                std::uint32_t rows);
  static std::optional<LogitCandidates> Candidates(const ProgramMemory& memory,
                                                   std::int32_t context, std::int32_t row,
                                                   CandidateMemory* result);

 private:
  std::uint64_t vocab_ = 0;
  vulkan::CommandPool pool_;
  vulkan::Timeline timeline_;
  std::uint64_t copies_sent_ = 0;
  // Of each context, of 1, 2, 4, ... rows.
  std::vector<std::vector<VkCommandBuffer>> copies_;
  // Of each context: its logits have been copied.
  std::vector<bool> here_;
};

}  // namespace tandem
