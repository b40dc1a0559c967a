#include "gateway/dispatch/step_wire.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/wire/model_wire.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

template <typename Message>
std::vector<std::int32_t> ToVector(const Message& field) {
  return {field.begin(), field.end()};
}

v1::SequenceShare ToProto(const SequenceShare& share) {
  v1::SequenceShare message;
  message.set_slot(share.slot);
  message.set_first_position(share.first_position);
  message.mutable_tokens()->Add(share.tokens.begin(), share.tokens.end());
  message.mutable_new_global_blocks()->Add(share.new_global_blocks.begin(),
                                           share.new_global_blocks.end());
  message.mutable_new_window_blocks()->Add(share.new_window_blocks.begin(),
                                           share.new_window_blocks.end());
  message.set_window_blocks_left(share.window_blocks_left);
  message.set_sample(share.sample);
  message.set_score(share.score);
  message.set_next_token(share.next_token);
  return message;
}

SequenceShare FromProto(const v1::SequenceShare& message) {
  SequenceShare share;
  share.slot = message.slot();
  share.first_position = message.first_position();
  share.tokens = ToVector(message.tokens());
  share.new_global_blocks = ToVector(message.new_global_blocks());
  share.new_window_blocks = ToVector(message.new_window_blocks());
  share.window_blocks_left = message.window_blocks_left();
  share.sample = message.sample();
  share.score = message.score();
  share.next_token = message.next_token();
  return share;
}

}  // namespace

v1::StepPlan ToProto(const StepPlan& plan, std::uint64_t generation, absl::Duration timeout) {
  v1::StepPlan message;
  message.set_step_id(plan.step_id);
  message.set_generation(generation);
  message.mutable_ends()->Add(plan.ends.begin(), plan.ends.end());
  for (const SequenceStart& start : plan.starts) {
    v1::SequenceStart& out = *message.add_starts();
    out.set_slot(start.slot);
    *out.mutable_sampling() = ToProto(start.sampling);
    out.mutable_generated()->Add(start.generated.begin(), start.generated.end());
  }
  for (const SequenceShare& share : plan.sequences) *message.add_sequences() = ToProto(share);
  message.set_timeout_seconds(absl::ToDoubleSeconds(timeout));
  return message;
}

StepPlan FromProto(const v1::StepPlan& message) {
  StepPlan plan;
  plan.step_id = message.step_id();
  plan.ends = ToVector(message.ends());
  for (const v1::SequenceStart& in : message.starts()) {
    SequenceStart start;
    start.slot = in.slot();
    absl::StatusOr<SamplingParams> sampling =
        FromProto(in.sampling(), std::numeric_limits<std::int32_t>::max());
    if (sampling.ok()) start.sampling = *std::move(sampling);
    start.generated = ToVector(in.generated());
    plan.starts.push_back(std::move(start));
  }
  for (const v1::SequenceShare& share : message.sequences())
    plan.sequences.push_back(FromProto(share));
  return plan;
}

absl::StatusOr<StepResult> FromProto(const v1::StepResult& message, std::int32_t vocab_size) {
  StepResult result;
  result.step_id = message.step_id();
  result.sequences.reserve(static_cast<std::size_t>(message.sequences_size()));
  for (int i = 0; i < message.sequences_size(); ++i) {
    const v1::SequenceResult& in = message.sequences(i);
    const auto annotate = [i](const absl::Status& status) {
      return Annotate(status, absl::StrCat("StepResult.sequences[", i, "]"));
    };
    SequenceResult out;
    out.slot = in.slot();
    if (in.has_sampled()) {
      absl::StatusOr<SampledToken> token = FromProto(in.sampled(), vocab_size);
      if (!token.ok()) return annotate(token.status());
      out.sampled = *std::move(token);
    }
    for (const v1::SampledToken& scored : in.scored()) {
      absl::StatusOr<SampledToken> token = FromProto(scored, vocab_size);
      if (!token.ok()) return annotate(token.status());
      out.scored.push_back(*std::move(token));
    }
    result.sequences.push_back(std::move(out));
  }
  return result;
}

v1::StepResult ToProto(const StepResult& result, std::uint64_t generation) {
  v1::StepResult message;
  message.set_step_id(result.step_id);
  message.set_generation(generation);
  for (const SequenceResult& in : result.sequences) {
    v1::SequenceResult& out = *message.add_sequences();
    out.set_slot(in.slot);
    if (in.sampled.has_value()) *out.mutable_sampled() = ToProto(*in.sampled);
    for (const SampledToken& scored : in.scored) *out.add_scored() = ToProto(scored);
  }
  return message;
}

absl::Status StatusOf(const v1::StepResult& message) {
  if (message.code() == 0) return absl::OkStatus();
  const bool known =
      message.code() > 0 && message.code() <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  return absl::Status(
      known ? static_cast<absl::StatusCode>(message.code()) : absl::StatusCode::kUnknown,
      message.error());
}

}  // namespace tandem
