#include "gateway/dispatch/loader_link.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/wire/model_wire.h"

namespace tandem {
namespace {

constexpr absl::Duration kQuickCall = absl::Seconds(20);

}  // namespace

std::string ProgressText(const v1::LoadProgress& progress) {
  if (progress.bytes_total() == 0) return "loading";
  const auto percent = static_cast<int>(100.0 * static_cast<double>(progress.bytes_done()) /
                                        static_cast<double>(progress.bytes_total()));
  std::string text = absl::StrCat("loading ", percent, " %");
  if (progress.seconds_left() >= 1)
    absl::StrAppend(&text, ", ", static_cast<int>(progress.seconds_left() + 0.5), " s left");
  return text;
}

LoaderLink::LoaderLink(const std::string& address)
    : stub_(v1::Loader::NewStub(OpenChannel(address, kMaxModelMessageBytes))) {}

absl::StatusOr<v1::Model> LoaderLink::GetModel(absl::Duration timeout) {
  grpc::ClientContext context;
  SetDeadline(context, timeout);
  context.set_wait_for_ready(true);
  v1::Model model;
  const grpc::Status status = stub_->GetModel(&context, v1::GetModelRequest(), &model);
  if (!status.ok()) return FromGrpc(status);
  return model;
}

void LoaderLink::Load(std::vector<std::string> regions, absl::Duration timeout, Handlers handlers) {
  Stop();
  calls_ = std::make_unique<CallSet>();
  thread_ =
      std::thread([this, regions = std::move(regions), timeout, handlers = std::move(handlers)] {
        handlers.on_done(Run(regions, timeout, handlers));
      });
}

void LoaderLink::Stop() {
  if (!thread_.joinable()) return;
  calls_->Finish();
  thread_.join();
}

absl::Status LoaderLink::WaitUntilReady(absl::Duration timeout, const Handlers& handlers) {
  const auto context = std::make_shared<grpc::ClientContext>();
  SetDeadline(*context, timeout);
  const std::unique_ptr<CallSet::Ticket> ticket = calls_->Add(context);
  const auto reader = stub_->Watch(context.get(), v1::WatchRequest());
  v1::LoadProgress progress;
  while (reader->Read(&progress)) {
    if (progress.state() == v1::LoadProgress::LOADING) handlers.on_progress(ProgressText(progress));
  }
  TANDEM_RETURN_IF_ERROR(FromGrpc(reader->Finish()));
  if (progress.state() == v1::LoadProgress::FAILED)
    return absl::FailedPreconditionError(progress.error());
  if (progress.state() != v1::LoadProgress::READY) {
    return absl::UnavailableError("the progress stream ended before the model was loaded");
  }
  return absl::OkStatus();
}

absl::StatusOr<LoaderLink::Loaded> LoaderLink::Run(const std::vector<std::string>& regions,
                                                   absl::Duration timeout,
                                                   const Handlers& handlers) {
  TANDEM_RETURN_IF_ERROR(WaitUntilReady(timeout, handlers));
  v1::Model model;
  {
    const auto context = std::make_shared<grpc::ClientContext>();
    SetDeadline(*context, kQuickCall);
    const std::unique_ptr<CallSet::Ticket> ticket = calls_->Add(context);
    TANDEM_RETURN_IF_ERROR(FromGrpc(stub_->GetModel(context.get(), v1::GetModelRequest(), &model)));
  }
  v1::GetRegionsRequest request;
  for (const std::string& region : regions) request.add_names(region);
  v1::GetRegionsResponse response;
  const auto context = std::make_shared<grpc::ClientContext>();
  SetDeadline(*context, kQuickCall);
  const std::unique_ptr<CallSet::Ticket> ticket = calls_->Add(context);
  TANDEM_RETURN_IF_ERROR(FromGrpc(stub_->GetRegions(context.get(), request, &response)));
  Loaded loaded;
  loaded.fingerprint = model.fingerprint();
  loaded.region_socket = model.region_socket();
  loaded.regions.assign(response.regions().begin(), response.regions().end());
  return loaded;
}

}  // namespace tandem
