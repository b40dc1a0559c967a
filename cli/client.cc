#include "cli/client.h"

#include <grpcpp/grpcpp.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr absl::Duration kQuick = absl::Seconds(10);
constexpr absl::Duration kGeneration = absl::Hours(1);

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

absl::StatusOr<std::string> ReadApiKey(const std::string& file) {
  if (file.empty()) return std::string();
  std::ifstream in(file);
  std::string key;
  if (!in || !std::getline(in, key) || key.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("API key file '", file, "': expected a key on the first line, found none"));
  }
  return key;
}

GatewayClient::GatewayClient(const std::string& address, std::string api_key)
    : api_key_(std::move(api_key)) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  stub_ = v1::Inference::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
}

void GatewayClient::Prepare(grpc::ClientContext* context, absl::Duration timeout) const {
  context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  if (!api_key_.empty()) context->AddMetadata("authorization", absl::StrCat("Bearer ", api_key_));
}

absl::StatusOr<v1::ClusterStatus> GatewayClient::Status(absl::Duration timeout) {
  grpc::ClientContext context;
  Prepare(&context, timeout);
  v1::ClusterStatus status;
  TANDEM_RETURN_IF_ERROR(FromGrpc(stub_->GetStatus(&context, v1::GetStatusRequest(), &status)));
  return status;
}

absl::StatusOr<v1::ServedModel> GatewayClient::Model(absl::Duration timeout) {
  grpc::ClientContext context;
  Prepare(&context, timeout);
  v1::ServedModel model;
  TANDEM_RETURN_IF_ERROR(FromGrpc(stub_->GetModel(&context, v1::GetServedModelRequest(), &model)));
  return model;
}

absl::StatusOr<std::vector<std::int32_t>> GatewayClient::Tokenize(const std::string& text,
                                                                  bool add_bos,
                                                                  bool parse_special) {
  grpc::ClientContext context;
  Prepare(&context, kQuick);
  v1::TokenizeRequest request;
  request.set_text(text);
  request.set_add_bos(add_bos);
  request.set_parse_special(parse_special);
  v1::TokenizeResponse response;
  TANDEM_RETURN_IF_ERROR(FromGrpc(stub_->Tokenize(&context, request, &response)));
  return std::vector<std::int32_t>(response.ids().begin(), response.ids().end());
}

absl::StatusOr<std::string> GatewayClient::Detokenize(const std::vector<std::int32_t>& ids) {
  grpc::ClientContext context;
  Prepare(&context, kQuick);
  v1::DetokenizeRequest request;
  request.mutable_ids()->Add(ids.begin(), ids.end());
  v1::DetokenizeResponse response;
  TANDEM_RETURN_IF_ERROR(FromGrpc(stub_->Detokenize(&context, request, &response)));
  return response.text();
}

absl::Status GatewayClient::Generate(
    const v1::GenerateRequest& request,
    const std::function<bool(const v1::GenerateResponse&)>& on_message) {
  grpc::ClientContext context;
  Prepare(&context, kGeneration);
  const auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse message;
  bool stopped = false;
  while (reader->Read(&message)) {
    if (!stopped && !on_message(message)) {
      stopped = true;
      context.TryCancel();
    }
  }
  const absl::Status status = FromGrpc(reader->Finish());
  return stopped ? absl::OkStatus() : status;
}

}  // namespace tandem
