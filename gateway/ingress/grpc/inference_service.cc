#include "gateway/ingress/grpc/inference_service.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "gateway/ingress/grpc/embed_call.h"
#include "gateway/ingress/status_wire.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/text/detokenizer.h"
#include "tandem/v1/control.pb.h"
#include "tandem/v1/trace.pb.h"

namespace tandem {
namespace {

// What the tokenizer is asked at once: some tenths of a second of work.
constexpr std::size_t kMaxTextBytes = 1 << 20;
constexpr std::size_t kIdsAtOnce = 4096;

}  // namespace

InferenceService::InferenceService(CallHost& host) : host_(host) {
  using GenerateHandler =
      grpc::internal::CallbackBidiHandler<v1::GenerateRequest, v1::GenerateResponse>;
  AddMethod(new grpc::internal::RpcServiceMethod(
      GenerateCall::kMethod, grpc::internal::RpcMethod::BIDI_STREAMING, nullptr));
  MarkMethodCallback(methods_++, new GenerateHandler([&host](grpc::CallbackServerContext* context) {
                       return GenerateCall::Start(host, context);
                     }));
  using EmbedHandler = grpc::internal::CallbackBidiHandler<v1::EmbedRequest, v1::EmbedResponse>;
  AddMethod(new grpc::internal::RpcServiceMethod(
      EmbedCall::kMethod, grpc::internal::RpcMethod::BIDI_STREAMING, nullptr));
  MarkMethodCallback(methods_++, new EmbedHandler([&host](grpc::CallbackServerContext* context) {
                       return EmbedCall::Start(host, context);
                     }));
  AddUnary<v1::TokenizeRequest, v1::TokenizeResponse>(
      {.name = "/tandem.v1.Inference/Tokenize",
       .counted_as = "grpc.Tokenize",
       .slow = true,
       .scope = KeyScope::kInference,
       .answer = [this](const auto& q, auto& a) { return Tokenize(q, a); }});
  AddUnary<v1::DetokenizeRequest, v1::DetokenizeResponse>(
      {.name = "/tandem.v1.Inference/Detokenize",
       .counted_as = "grpc.Detokenize",
       .slow = true,
       .scope = KeyScope::kInference,
       .answer = [this](const auto& q, auto& a) { return Detokenize(q, a); }});
  // These two ask about the server, and Tandem's own commands ask them all the time: the metrics
  // count what is asked of the model.
  AddUnary<v1::GetServedModelRequest, v1::ServedModel>(
      {.name = "/tandem.v1.Inference/GetModel",
       .counted_as = "",
       .slow = false,
       .scope = KeyScope::kInference,
       .answer = [this](const auto&, auto& a) { return GetModel(a); }});
  AddUnary<v1::GetStatusRequest, v1::ClusterStatus>({.name = "/tandem.v1.Inference/GetStatus",
                                                     .counted_as = "",
                                                     .slow = false,
                                                     .scope = KeyScope::kMetrics,
                                                     .answer = [this](const auto&, auto& a) {
                                                       a = ToWire(host_.backend.status());
                                                       return absl::OkStatus();
                                                     }});
  AddUnary<v1::TraceRequest, v1::TraceResponse>(
      {.name = "/tandem.v1.Tracing/Trace",
       .counted_as = "",
       .slow = true,
       .scope = KeyScope::kAdmin,
       .answer = [this](const auto& q, auto& a) { return host_.backend.trace(q, &a); }});
  AddUnary<v1::ChangePlanRequest, v1::ChangePlanResponse>(
      {.name = "/tandem.v1.Control/ChangePlan",
       .counted_as = "",
       .slow = true,
       .scope = KeyScope::kAdmin,
       .answer = [this](const auto& q, auto& a) -> absl::Status {
         TANDEM_ASSIGN_OR_RETURN(const std::uint64_t number, host_.backend.change_plan(q.plan()));
         a.set_number(number);
         return absl::OkStatus();
       }});
  AddUnary<v1::GetPlanReportRequest, v1::PlanReport>({.name = "/tandem.v1.Control/GetPlanReport",
                                                      .counted_as = "",
                                                      .slow = false,
                                                      .scope = KeyScope::kMetrics,
                                                      .answer = [this](const auto&, auto& a) {
                                                        a = ToWire(host_.backend.plan_report());
                                                        a.set_plan(host_.backend.status().plan);
                                                        return absl::OkStatus();
                                                      }});
}

template <typename Request, typename Response>
void InferenceService::AddUnary(const typename UnaryCall<Request, Response>::Method& method) {
  using Handler = grpc::internal::CallbackBidiHandler<Request, Response>;
  AddMethod(new grpc::internal::RpcServiceMethod(
      method.name, grpc::internal::RpcMethod::BIDI_STREAMING, nullptr));
  MarkMethodCallback(methods_++, new Handler([this, method](grpc::CallbackServerContext* context) {
                       return UnaryCall<Request, Response>::Start(host_, context, method);
                     }));
}

absl::Status InferenceService::Tokenize(const v1::TokenizeRequest& request,
                                        v1::TokenizeResponse& response) const {
  TANDEM_ASSIGN_OR_RETURN(const std::shared_ptr<const Serving> model, serving());
  if (request.text().size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        Cat("'text': expected at most ", kMaxTextBytes, " bytes, found ", request.text().size()));
  }
  const std::vector<std::int32_t> ids = model->model.tokenizer->Encode(
      request.text(), {.add_bos = request.add_bos(), .parse_special = request.parse_special()});
  response.mutable_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

// As Tokenizer::Decode, but a text that grows too long is given up.
absl::Status InferenceService::Detokenize(const v1::DetokenizeRequest& request,
                                          v1::DetokenizeResponse& response) const {
  TANDEM_ASSIGN_OR_RETURN(const std::shared_ptr<const Serving> model, serving());
  const auto ids =
      absl::MakeConstSpan(request.ids().data(), static_cast<std::size_t>(request.ids_size()));
  TANDEM_RETURN_IF_ERROR(model->model.tokenizer->ValidateIds(ids));
  StreamingDetokenizer detokenizer(model->model.tokenizer);
  std::string text;
  for (std::size_t at = 0; at < ids.size(); at += kIdsAtOnce) {
    TANDEM_ASSIGN_OR_RETURN(const std::string more,
                            detokenizer.Append(ids.subspan(at, kIdsAtOnce)));
    text.append(more);
    if (text.size() > kMaxTextBytes) {
      return absl::InvalidArgumentError(
          Cat("'ids': expected ids of at most ", kMaxTextBytes, " bytes of text, found more"));
    }
  }
  response.set_text(text + detokenizer.Flush());
  return absl::OkStatus();
}

absl::Status InferenceService::GetModel(v1::ServedModel& response) const {
  TANDEM_ASSIGN_OR_RETURN(const std::shared_ptr<const Serving> served, serving());
  const ServedModelInfo& model = served->model;
  const EngineLimits limits = served->engine->limits();
  response.set_id(model.id);
  response.set_context_tokens(limits.context_tokens);
  response.set_vocab_size(limits.vocab_size);
  response.set_created(model.created);
  response.set_weight_format(model.weight_format);
  response.set_encoder(limits.encoder);
  response.set_plan(host_.backend.status().plan);
  return absl::OkStatus();
}

}  // namespace tandem
