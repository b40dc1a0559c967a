#include "lib/wire/step_wire.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "lib/base/status_macros.h"
#include "lib/wire/model_wire.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

// No step waits longer, whatever a message says.
constexpr absl::Duration kMaxTimeout = absl::Hours(24);

template <typename Message>
void CopyTo(const Message& field, std::vector<std::int32_t>* values) {
  values->assign(field.begin(), field.end());
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
  message.set_pool(share.pool);
  return message;
}

void FromProto(const v1::SequenceShare& message, SequenceShare* share) {
  share->slot = message.slot();
  share->first_position = message.first_position();
  CopyTo(message.tokens(), &share->tokens);
  CopyTo(message.new_global_blocks(), &share->new_global_blocks);
  CopyTo(message.new_window_blocks(), &share->new_window_blocks);
  share->window_blocks_left = message.window_blocks_left();
  share->sample = message.sample();
  share->score = message.score();
  share->next_token = message.next_token();
  share->pool = message.pool();
}

SamplingParams FromProto(const v1::SamplingParams& message) {
  SamplingParams params;
  params.temperature = message.temperature();
  params.top_p = message.top_p();
  params.top_k = message.top_k();
  params.min_p = message.min_p();
  params.frequency_penalty = message.frequency_penalty();
  params.presence_penalty = message.presence_penalty();
  params.logit_bias.assign(message.logit_bias().begin(), message.logit_bias().end());
  std::sort(params.logit_bias.begin(), params.logit_bias.end());
  params.seed = message.seed();
  params.num_logprobs = message.num_logprobs();
  params.constraint = ConstraintOf(message);
  return params;
}

absl::Status StatusFrom(std::int32_t code, const std::string& text) {
  if (code == 0) return absl::OkStatus();
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  return absl::Status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
                      text);
}

}  // namespace

v1::StepPlan ToProto(const StepPlan& plan) {
  v1::StepPlan message;
  message.set_step_id(plan.step_id);
  message.set_generation(plan.generation);
  message.mutable_ends()->Add(plan.ends.begin(), plan.ends.end());
  for (const SequenceStart& start : plan.starts) {
    v1::SequenceStart& out = *message.add_starts();
    out.set_slot(start.slot);
    *out.mutable_sampling() = ToProto(start.sampling);
    out.mutable_generated()->Add(start.generated.begin(), start.generated.end());
  }
  for (const SequenceShare& share : plan.sequences) *message.add_sequences() = ToProto(share);
  message.mutable_micro_batch_ends()->Add(plan.micro_batch_ends.begin(),
                                          plan.micro_batch_ends.end());
  message.set_route(plan.route);
  message.set_timeout_seconds(absl::ToDoubleSeconds(plan.timeout));
  return message;
}

void FromProto(const v1::StepPlan& message, StepPlan* plan) {
  plan->step_id = message.step_id();
  plan->generation = message.generation();
  CopyTo(message.ends(), &plan->ends);
  plan->starts.resize(static_cast<std::size_t>(message.starts_size()));
  for (int i = 0; i < message.starts_size(); ++i) {
    const v1::SequenceStart& in = message.starts(i);
    SequenceStart& start = plan->starts[static_cast<std::size_t>(i)];
    start.slot = in.slot();
    start.sampling = FromProto(in.sampling());
    CopyTo(in.generated(), &start.generated);
  }
  plan->sequences.resize(static_cast<std::size_t>(message.sequences_size()));
  for (int i = 0; i < message.sequences_size(); ++i)
    FromProto(message.sequences(i), &plan->sequences[static_cast<std::size_t>(i)]);
  CopyTo(message.micro_batch_ends(), &plan->micro_batch_ends);
  plan->route = message.route();
  plan->timeout = std::min(absl::Seconds(message.timeout_seconds()), kMaxTimeout);
}

StepPlan FromProto(const v1::StepPlan& message) {
  StepPlan plan;
  FromProto(message, &plan);
  return plan;
}

absl::Status FromProto(const v1::StepResult& message, std::int32_t vocab_size, StepResult* result) {
  result->step_id = message.step_id();
  result->generation = message.generation();
  result->status = StatusFrom(message.code(), message.error());
  result->run = absl::Seconds(message.run_seconds());
  result->wait = absl::Seconds(message.wait_seconds());
  result->begin_unix_ns = static_cast<std::int64_t>(message.begin_unix_ns());
  result->end_unix_ns = static_cast<std::int64_t>(message.end_unix_ns());
  result->sequences.resize(static_cast<std::size_t>(message.sequences_size()));
  for (int i = 0; i < message.sequences_size(); ++i) {
    const v1::SequenceResult& in = message.sequences(i);
    const auto annotate = [i](const absl::Status& status) {
      return Annotate(status, absl::StrCat("StepResult.sequences[", i, "]"));
    };
    SequenceResult& out = result->sequences[static_cast<std::size_t>(i)];
    out.slot = in.slot();
    out.status = StatusFrom(in.code(), in.error());
    out.sampled.reset();
    if (in.has_sampled()) {
      absl::StatusOr<SampledToken> token = FromProto(in.sampled(), vocab_size);
      if (!token.ok()) return annotate(token.status());
      out.sampled = *std::move(token);
    }
    for (const std::int32_t token : in.forced()) {
      if (token < 0 || token >= vocab_size) {
        return annotate(absl::InvalidArgumentError(
            absl::StrCat("forced: expected 0 to ", vocab_size - 1, ", found ", token)));
      }
    }
    CopyTo(in.forced(), &out.forced);
    out.scored.clear();
    for (const v1::SampledToken& scored : in.scored()) {
      absl::StatusOr<SampledToken> token = FromProto(scored, vocab_size);
      if (!token.ok()) return annotate(token.status());
      out.scored.push_back(*std::move(token));
    }
    out.pooled.assign(in.pooled().begin(), in.pooled().end());
    for (const double sum : out.pooled) {
      if (!std::isfinite(sum))
        return annotate(absl::InvalidArgumentError("pooled: expected finite numbers"));
    }
  }
  return absl::OkStatus();
}

void ToProto(const StepResult& result, v1::StepResult* message) {
  message->Clear();
  message->set_step_id(result.step_id);
  message->set_generation(result.generation);
  message->set_code(static_cast<std::int32_t>(result.status.code()));
  message->set_error(std::string(result.status.message()));
  message->set_run_seconds(absl::ToDoubleSeconds(result.run));
  message->set_wait_seconds(absl::ToDoubleSeconds(result.wait));
  message->set_begin_unix_ns(static_cast<std::uint64_t>(result.begin_unix_ns));
  message->set_end_unix_ns(static_cast<std::uint64_t>(result.end_unix_ns));
  for (const SequenceResult& in : result.sequences) {
    v1::SequenceResult& out = *message->add_sequences();
    out.set_slot(in.slot);
    out.set_code(static_cast<std::int32_t>(in.status.code()));
    out.set_error(std::string(in.status.message()));
    if (in.sampled.has_value()) *out.mutable_sampled() = ToProto(*in.sampled);
    out.mutable_forced()->Add(in.forced.begin(), in.forced.end());
    for (const SampledToken& scored : in.scored) *out.add_scored() = ToProto(scored);
    out.mutable_pooled()->Add(in.pooled.begin(), in.pooled.end());
  }
}

v1::StepResult ToProto(const StepResult& result) {
  v1::StepResult message;
  ToProto(result, &message);
  return message;
}

}  // namespace tandem
