#include "gateway/schedule/step_bounds.h"

#include <algorithm>

namespace tandem {
namespace {

// A varint of a number in [0, 2^31) takes at most 5 bytes; a tag with a length at most 6.
constexpr std::int64_t kNumber = 5;
// Slot, the numbers and lengths of SamplingParams (a negative number takes 10 bytes), lengths.
constexpr std::int64_t kStart = 128;
// Tags and lengths of the message and of both its fields.
constexpr std::int64_t kConstraint = 32;
// An entry of the map: tag and length, key with its tag, four bytes of value with theirs.
constexpr std::int64_t kBiasEntry = 2 + 1 + kNumber + 1 + 4;
// Slot, position, flags, next token, and the lengths of three lists.
constexpr std::int64_t kShare = 64;
// Ids, timeout, lengths, micro-batches; the request around the step.
constexpr std::int64_t kStep = 256;

}  // namespace

std::int64_t StartBytesBound(const SamplingParams& sampling, std::int64_t generated) {
  std::int64_t constraint = 0;
  if (sampling.constraint != nullptr) {
    constraint = kConstraint + static_cast<std::int64_t>(sampling.constraint->grammar.size()) +
                 kNumber * static_cast<std::int64_t>(sampling.constraint->stop_tokens.size());
  }
  return kStart + kBiasEntry * static_cast<std::int64_t>(sampling.logit_bias.size()) +
         kNumber * generated + constraint;
}

std::int64_t SharesBytesBound(const StepLimits& limits) {
  const std::int64_t sequences = limits.max_sequences;
  const std::int64_t blocks = limits.max_tokens / kKvBlockTokens + sequences;
  return kStep + (kShare + kNumber) * sequences + kNumber * limits.max_tokens +
         2 * kNumber * blocks;
}

void CutMicroBatches(std::int32_t tokens, std::int32_t most, std::int32_t least_tokens,
                     std::vector<std::int32_t>* ends) {
  ends->clear();
  const std::int32_t count = std::min(most, tokens / std::max(1, least_tokens));
  if (count < 2) return;
  for (std::int32_t i = 1; i <= count; ++i) {
    ends->push_back(static_cast<std::int32_t>(static_cast<std::int64_t>(tokens) * i / count));
  }
}

void MoveToShareEnds(const std::vector<SequenceShare>& shares, std::vector<std::int32_t>* ends) {
  std::size_t next = 0;
  std::int32_t share_end = 0;
  for (std::int32_t& end : *ends) {
    while (share_end < end) share_end += static_cast<std::int32_t>(shares[next++].tokens.size());
    end = share_end;
  }
  ends->erase(std::unique(ends->begin(), ends->end()), ends->end());
}

}  // namespace tandem
