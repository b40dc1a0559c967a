#pragma once

#include <cstddef>
#include <cstdint>

#include <vector>

#include "lib/base/enum_names.h"
#include "lib/model/kinds.h"

namespace tandem {

// What parts of a step cost on a worker, as it measures them itself (lib/worker/stage_timer.h) and
// as plans are predicted from them (gateway/dispatch/step_model.h).

enum class CostKind : std::uint8_t {
  // Each in a submission of its own, once: of a layer, where it is of one.
  kEmbed,
  kLocalAttention,
  kGlobalAttention,
  kFfn,
  // Of the attention of a layer what is left without its products.
  kLocalAttend,
  kGlobalAttend,
  // With sampling, of one row of logits.
  kHead,
  // What a submission costs beside its parts: two parts in one submission take so much less.
  kSubmission,
  // Taking a step (Program::Begin).
  kBegin
};
template <>
inline constexpr EnumName<CostKind> kEnumNames<CostKind>[] = {
    {CostKind::kEmbed, "embed"},
    {CostKind::kLocalAttention, "local attention"},
    {CostKind::kGlobalAttention, "global attention"},
    {CostKind::kFfn, "ffn"},
    {CostKind::kLocalAttend, "local attend"},
    {CostKind::kGlobalAttend, "global attend"},
    {CostKind::kHead, "head"},
    {CostKind::kSubmission, "submission"},
    {CostKind::kBegin, "begin"}};
inline constexpr std::size_t kNumCostKinds = 9;

// A step of one sequence's next `tokens` tokens, which has `context` tokens already.
struct CostPoint {
  std::int32_t tokens = 0;
  std::int32_t context = 0;
  bool operator==(const CostPoint&) const = default;
};

struct StageCost {
  CostKind kind = CostKind::kEmbed;
  CostPoint point;
  double seconds = 0;
  bool operator==(const StageCost&) const = default;
};

// What a worker runs between its edges while hand-overs are timed, and so which rows they are: the
// feed-forward half on both, on rows of the residual; or attention alone on the one and the
// products around it on the other, on rows as wide as where attention is cut out of its layer.
enum class HandoverStage : std::uint8_t { kFeedForward, kAttend, kProducts };
template <>
inline constexpr EnumName<HandoverStage> kEnumNames<HandoverStage>[] = {
    {HandoverStage::kFeedForward, "feed-forward"},
    {HandoverStage::kAttend, "attend"},
    {HandoverStage::kProducts, "products"}};

// Of rows that go round between two workers, each with a stage of its own: medians
// (lib/worker/edge_timer.h).
struct HandoverCost {
  std::int32_t rows = 0;
  // To and fro, with both stages.
  double round_seconds = 0;
  // The stage of the worker that says so.
  double stage_seconds = 0;
  bool operator==(const HandoverCost&) const = default;
};

struct EdgeCosts {
  HandleKind kind = HandleKind::kInline;
  std::vector<HandoverCost> costs;
  bool operator==(const EdgeCosts&) const = default;
};

// Shares of a step of measured stages, which are computed one after another.
inline constexpr std::size_t kMostMeasuredShares = 16;

// Bounds of what is believed.
inline constexpr std::size_t kMostCostPoints = 32;
inline constexpr double kLongestCostSeconds = 3600;

}  // namespace tandem
