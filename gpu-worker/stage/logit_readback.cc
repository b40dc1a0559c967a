#include "gpu-worker/stage/logit_readback.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "lib/base/deadline.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// Far more than copying takes; a device that does not answer is lost.
constexpr absl::Duration kPatience = absl::Seconds(30);

static_assert(kernels::kMaxCandidates == kMostCandidates);

}  // namespace

absl::StatusOr<LogitReadback> LogitReadback::Create(const DeviceContext& context,
                                                    const ProgramMemory& memory,
                                                    std::int32_t vocab) {
  LogitReadback readback;
  readback.vocab_ = static_cast<std::uint64_t>(vocab);
  readback.here_.assign(memory.logits.size(), false);
  TANDEM_ASSIGN_OR_RETURN(readback.pool_, vulkan::CommandPool::Create(context.device));
  TANDEM_ASSIGN_OR_RETURN(readback.timeline_, vulkan::Timeline::Create(context.device));
  for (std::size_t i = 0; i < memory.logits.size(); ++i) {
    readback.copies_.emplace_back();
    for (std::uint32_t rows = 1; rows <= memory.sizes.logit_rows; rows *= 2) {
      const std::uint64_t bytes = rows * readback.vocab_ * sizeof(float);
      TANDEM_ASSIGN_OR_RETURN(vulkan::CommandBuffer commands, readback.pool_.Begin());
      commands.Copy({memory.logits[i].handle(), 0, bytes},
                    {memory.logits_read[i].handle(), 0, bytes});
      readback.copies_.back().push_back(commands.handle());
      TANDEM_RETURN_IF_ERROR(commands.Finish());
    }
  }
  return readback;
}

absl::StatusOr<std::span<const float>> LogitReadback::Logits(vulkan::LogicalDevice& device,
                                                             const ProgramMemory& memory,
                                                             std::int32_t context,
                                                             std::uint32_t rows) {
  const auto index = static_cast<std::size_t>(context);
  if (!here_[index]) {
    const auto bucket = static_cast<std::size_t>(std::bit_width(std::bit_ceil(rows)) - 1);
    TANDEM_RETURN_IF_ERROR(
        device.Submit({&copies_[index][bucket], 1}, timeline_.handle(), ++copies_sent_));
    TANDEM_RETURN_IF_ERROR(timeline_.Wait(copies_sent_, Deadline::After(kPatience)));
    here_[index] = true;
  }
  return std::span(reinterpret_cast<const float*>(memory.logits_read[index].data()), rows * vocab_);
}

std::optional<LogitCandidates> LogitReadback::Candidates(const ProgramMemory& memory,
                                                         std::int32_t context, std::int32_t row,
                                                         CandidateMemory* result) {
  const std::byte* at = memory.found[static_cast<std::size_t>(context)].data() +
                        static_cast<std::size_t>(row) * kFoundFloats * sizeof(float);
  kernels::CandidatesHeader header;
  std::memcpy(&header, at, sizeof(header));
  if (header.count == 0 || header.count > result->size()) return std::nullopt;
  static_assert(sizeof(LogitCandidate) == 2 * sizeof(float));
  std::memcpy(result->data(), at + sizeof(header), header.count * sizeof(LogitCandidate));
  return LogitCandidates{std::span(*result).first(header.count), static_cast<double>(header.sum),
                         static_cast<double>(header.scaled_sum)};
}

}  // namespace tandem
