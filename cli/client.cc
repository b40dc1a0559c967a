#include "cli/client.h"

#include <grpcpp/grpcpp.h>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "lib/base/fd.h"
#include "lib/base/status_macros.h"
#include "lib/service/api_keys.h"

namespace tandem {
namespace {

constexpr absl::Duration kQuick = absl::Seconds(10);
constexpr absl::Duration kGeneration = absl::Hours(1);
constexpr int kPollMilliseconds = 50;

// Cancels a call as soon as a descriptor is readable.
class CancelOn {
 public:
  CancelOn(int stop_fd, grpc::ClientContext* context) : done_(::eventfd(0, EFD_CLOEXEC)) {
    if (stop_fd < 0 || !done_.valid()) return;
    thread_ = std::thread([this, stop_fd, context] {
      pollfd entries[] = {{stop_fd, POLLIN, 0}, {done_.get(), POLLIN, 0}};
      while (::poll(entries, 2, -1) < 0 && errno == EINTR) {
      }
      if (entries[0].revents == 0) return;
      cancelled_ = true;
      context->TryCancel();
    });
  }
  // Whether it cancelled. No cancel comes afterwards.
  bool Finish() {
    if (!thread_.joinable()) return false;
    const std::uint64_t one = 1;
    TANDEM_CHECK(::write(done_.get(), &one, sizeof(one)) == sizeof(one));
    thread_.join();
    return cancelled_;
  }

 private:
  UniqueFd done_;
  bool cancelled_ = false;  // written by the thread, read after it has ended
  std::thread thread_;
};

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address,
                                         const std::string& tls_ca = "") {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = tls_ca;
  return grpc::CreateCustomChannel(
      address, tls_ca.empty() ? grpc::InsecureChannelCredentials() : grpc::SslCredentials(tls),
      arguments);
}

}  // namespace

absl::Status CheckHealth(const std::string& address, absl::Duration timeout) {
  namespace health = grpc::health::v1;
  const std::unique_ptr<health::Health::Stub> stub = health::Health::NewStub(ChannelTo(address));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  health::HealthCheckResponse response;
  TANDEM_RETURN_IF_ERROR(FromGrpc(stub->Check(&context, health::HealthCheckRequest(), &response)));
  if (response.status() == health::HealthCheckResponse::SERVING) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(
      "it answers ", health::HealthCheckResponse::ServingStatus_Name(response.status())));
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

absl::StatusOr<std::string> ReadApiKey(const std::string& file) {
  if (file.empty()) return std::string();
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> keys, ReadApiKeyFile(file));
  return std::move(keys.front());
}

GatewayClient::GatewayClient(const std::string& address, std::string api_key,
                             const std::string& tls_ca)
    : api_key_(std::move(api_key)) {
  const std::shared_ptr<grpc::Channel> channel = ChannelTo(address, tls_ca);
  stub_ = v1::Inference::NewStub(channel);
  tracing_ = v1::Tracing::NewStub(channel);
  control_ = v1::Control::NewStub(channel);
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

absl::Status GatewayClient::ChangePlan(const std::string& plan) {
  grpc::ClientContext context;
  Prepare(&context, kQuick);
  v1::ChangePlanRequest request;
  request.set_plan(plan);
  v1::ChangePlanResponse response;
  TANDEM_RETURN_IF_ERROR(FromGrpc(control_->ChangePlan(&context, request, &response)));
  while (true) {
    TANDEM_ASSIGN_OR_RETURN(const v1::ClusterStatus status, Status(kQuick));
    const v1::PlanChange& change = status.plan_change();
    if (change.number() < response.number()) {
      return absl::AbortedError(
          absl::StrCat("the gateway was started again, and serves plan ", status.plan()));
    }
    // Another one can only follow when this one is over.
    if (change.number() > response.number()) return absl::OkStatus();
    if (change.state() == "failed") {
      return absl::UnavailableError(
          absl::StrCat(change.error(), "; the plan stays ", change.from()));
    }
    if (change.state() != "running") return absl::OkStatus();
    // The port has no event for it.
    ::poll(nullptr, 0, kPollMilliseconds);
  }
}

absl::StatusOr<v1::PlanReport> GatewayClient::PlanReport(absl::Duration timeout) {
  grpc::ClientContext context;
  Prepare(&context, timeout);
  v1::PlanReport report;
  TANDEM_RETURN_IF_ERROR(
      FromGrpc(control_->GetPlanReport(&context, v1::GetPlanReportRequest(), &report)));
  return report;
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

absl::StatusOr<v1::TraceResponse> GatewayClient::Trace(const v1::TraceRequest& request) {
  grpc::ClientContext context;
  Prepare(&context, kQuick);
  v1::TraceResponse response;
  const grpc::Status status = tracing_->Trace(&context, request, &response);
  if (!status.ok()) return FromGrpc(status);
  return response;
}

absl::Status GatewayClient::Generate(
    const v1::GenerateRequest& request, int stop_fd,
    const std::function<void(const v1::GenerateResponse&)>& on_message) {
  grpc::ClientContext context;
  Prepare(&context, kGeneration);
  CancelOn cancel(stop_fd, &context);
  const auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse message;
  while (reader->Read(&message)) on_message(message);
  const absl::Status status = FromGrpc(reader->Finish());
  return cancel.Finish() && absl::IsCancelled(status) ? absl::OkStatus() : status;
}

}  // namespace tandem
