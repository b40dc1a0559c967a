#include "gateway/ingress/grpc/grpc_service.h"

#include <string>
#include <utility>

#include "absl/types/span.h"
#include "gateway/ingress/grpc/status_wire.h"
#include "lib/base/status_macros.h"

namespace tandem {

InferenceService::InferenceService(const GrpcBackend& backend, PostFunction post)
    : backend_(backend), post_(std::move(post)) {}

absl::Status InferenceService::Authorize(const grpc::CallbackServerContext& context) const {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("authorization");
  if (found == metadata.end()) return backend_.keys->Check("");
  return backend_.keys->Check(std::string_view(found->second.data(), found->second.size()));
}

absl::StatusOr<std::shared_ptr<const Serving>> InferenceService::Admit(
    const grpc::CallbackServerContext& context) const {
  TANDEM_RETURN_IF_ERROR(Authorize(context));
  return backend_.serving->Get();
}

grpc::ServerUnaryReactor* InferenceService::Reply(grpc::CallbackServerContext* context,
                                                  std::string_view endpoint,
                                                  const absl::Status& status) const {
  const grpc::Status result = ToGrpcStatus(status);
  backend_.metrics->CountRequest(endpoint, GrpcCodeName(result.error_code()));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(result);
  return reactor;
}

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return GenerateReactor::Start(Admit(*context), *request, post_, backend_.metrics);
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  const auto serving = Admit(*context);
  if (serving.ok()) {
    const std::vector<std::int32_t> ids = (*serving)->model.tokenizer->Encode(
        request->text(),
        {.add_bos = request->add_bos(), .parse_special = request->parse_special()});
    response->mutable_ids()->Add(ids.begin(), ids.end());
  }
  return Reply(context, "grpc.Tokenize", serving.status());
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  const auto serving = Admit(*context);
  if (!serving.ok()) return Reply(context, "grpc.Detokenize", serving.status());
  absl::StatusOr<std::string> text = (*serving)->model.tokenizer->Decode(
      absl::MakeConstSpan(request->ids().data(), static_cast<std::size_t>(request->ids_size())));
  if (text.ok()) response->set_text(*std::move(text));
  return Reply(context, "grpc.Detokenize", text.status());
}

grpc::ServerUnaryReactor* InferenceService::GetModel(grpc::CallbackServerContext* context,
                                                     const v1::GetServedModelRequest*,
                                                     v1::ServedModel* response) {
  const auto serving = Admit(*context);
  if (serving.ok()) {
    const ServedModelInfo& model = (*serving)->model;
    const EngineLimits limits = (*serving)->engine->limits();
    response->set_id(model.id);
    response->set_context_tokens(limits.context_tokens);
    response->set_vocab_size(limits.vocab_size);
    response->set_created(model.created);
    response->set_weight_format(model.weight_format);
    response->set_plan(model.plan);
  }
  return Reply(context, "grpc.GetModel", serving.status());
}

grpc::ServerUnaryReactor* InferenceService::GetStatus(grpc::CallbackServerContext* context,
                                                      const v1::GetStatusRequest*,
                                                      v1::ClusterStatus* response) {
  const absl::Status allowed = Authorize(*context);
  if (allowed.ok()) *response = ToWire(backend_.status());
  return Reply(context, "grpc.GetStatus", allowed);
}

}  // namespace tandem
