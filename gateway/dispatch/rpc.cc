#include "gateway/dispatch/rpc.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <vector>

namespace tandem {

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address, int max_message_bytes) {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(max_message_bytes);
  args.SetMaxSendMessageSize(max_message_bytes);
  // A process that comes back is seen at once, not after gRPC's minutes of backoff.
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 50);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  // Processes of a cluster are never reached through a proxy.
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Its own connection: a channel made anew must not inherit another one's backoff.
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), args);
}

void SetDeadline(grpc::ClientContext& context, absl::Duration timeout) {
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(timeout));
}

std::unique_ptr<CallSet::Ticket> CallSet::Add(std::shared_ptr<grpc::ClientContext> context) {
  std::uint64_t id = 0;
  bool finishing = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    id = next_id_++;
    finishing = finishing_;
    contexts_.emplace(id, context);
  }
  if (finishing) context->TryCancel();
  return std::make_unique<Ticket>(this, id);
}

void CallSet::Remove(std::uint64_t id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  contexts_.erase(id);
  if (contexts_.empty()) empty_.notify_all();
}

void CallSet::CancelAll() {
  std::vector<std::shared_ptr<grpc::ClientContext>> contexts;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [id, context] : contexts_) contexts.push_back(context);
  }
  for (const auto& context : contexts) context->TryCancel();
}

void CallSet::Finish() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finishing_ = true;
  }
  CancelAll();
  std::unique_lock<std::mutex> lock(mutex_);
  empty_.wait(lock, [this] { return contexts_.empty(); });
}

}  // namespace tandem
