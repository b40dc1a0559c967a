#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/wire/model_wire.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

absl::Status CheckToken(const std::string& field, std::int32_t token, float logprob,
                        std::int32_t vocab_size) {
  if (token < 0 || token >= vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".token: expected 0 to ", vocab_size - 1, ", found ", token));
  }
  // -inf is a probability of 0; NaN and anything above 0 (rounding aside) are none.
  if (std::isnan(logprob) || logprob > 1e-3f) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".logprob: expected at most 0, found ", logprob));
  }
  return absl::OkStatus();
}

}  // namespace

v1::SamplingParams ToProto(const SamplingParams& params) {
  v1::SamplingParams message;
  message.set_temperature(params.temperature);
  message.set_top_p(params.top_p);
  message.set_top_k(params.top_k);
  message.set_min_p(params.min_p);
  message.set_frequency_penalty(params.frequency_penalty);
  message.set_presence_penalty(params.presence_penalty);
  for (const auto& [token, bias] : params.logit_bias) (*message.mutable_logit_bias())[token] = bias;
  message.set_seed(params.seed);
  message.set_num_logprobs(params.num_logprobs);
  if (params.constraint != nullptr) {
    message.mutable_constraint()->set_grammar(params.constraint->grammar);
    message.mutable_constraint()->mutable_stop_tokens()->Add(params.constraint->stop_tokens.begin(),
                                                             params.constraint->stop_tokens.end());
  }
  return message;
}

std::shared_ptr<const Constraint> ConstraintOf(const v1::SamplingParams& message) {
  if (!message.has_constraint()) return nullptr;
  auto constraint = std::make_shared<Constraint>();
  constraint->grammar = message.constraint().grammar();
  constraint->stop_tokens.assign(message.constraint().stop_tokens().begin(),
                                 message.constraint().stop_tokens().end());
  return constraint;
}

absl::StatusOr<SamplingParams> FromProto(const v1::SamplingParams& message,
                                         std::int32_t vocab_size) {
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
  TANDEM_RETURN_IF_ERROR(Annotate(ValidateSamplingParams(params, vocab_size), "SamplingParams"));
  return params;
}

v1::SampledToken ToProto(const SampledToken& token) {
  v1::SampledToken message;
  message.set_token(token.token);
  message.set_logprob(token.logprob);
  for (const TokenLogprob& best : token.top) {
    v1::TokenLogprob& out = *message.add_top();
    out.set_token(best.token);
    out.set_logprob(best.logprob);
  }
  return message;
}

absl::StatusOr<SampledToken> FromProto(const v1::SampledToken& message, std::int32_t vocab_size) {
  SampledToken token;
  token.token = message.token();
  token.logprob = message.logprob();
  TANDEM_RETURN_IF_ERROR(CheckToken("SampledToken", token.token, token.logprob, vocab_size));
  token.top.reserve(static_cast<std::size_t>(message.top_size()));
  for (int i = 0; i < message.top_size(); ++i) {
    const v1::TokenLogprob& in = message.top(i);
    TANDEM_RETURN_IF_ERROR(CheckToken(absl::StrCat("SampledToken.top[", i, "]"), in.token(),
                                      in.logprob(), vocab_size));
    token.top.push_back({in.token(), in.logprob()});
  }
  return token;
}

}  // namespace tandem
