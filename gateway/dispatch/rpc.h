#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace grpc {
class Channel;
class ClientContext;
class Status;
}  // namespace grpc

namespace tandem {

absl::Status FromGrpc(const grpc::Status& status);

// A channel to a process of the cluster: plain text, quick to reconnect, `max_message_bytes` to
// receive.
std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address, int max_message_bytes);

void SetDeadline(grpc::ClientContext& context, absl::Duration timeout);

// Calls under way, so that they can be cancelled together and waited for. A callback lets go of its
// context and then of its ticket: the set holds the last reference, so the context, which keeps the
// channel, is gone before Finish returns. (gRPC aborts when one of its callback threads destroys
// the last channel.) Thread-safe. Cancelling may run a call's callback in the calling thread: hold
// no lock that it takes.
class CallSet {
 public:
  CallSet() = default;
  ~CallSet() { Finish(); }
  CallSet(const CallSet&) = delete;
  CallSet& operator=(const CallSet&) = delete;

  // `context` is in the set until the ticket dies. After Finish has begun the context comes
  // cancelled.
  class Ticket {
   public:
    Ticket(CallSet* set, std::uint64_t id) : set_(set), id_(id) {}
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    ~Ticket() { set_->Remove(id_); }

   private:
    CallSet* set_;
    std::uint64_t id_;
  };
  std::unique_ptr<Ticket> Add(std::shared_ptr<grpc::ClientContext> context);

  void CancelAll();
  void Finish();  // cancels all, now and later, and waits until the set is empty

 private:
  void Remove(std::uint64_t id);

  std::mutex mutex_;
  std::condition_variable empty_;
  std::uint64_t next_id_ = 0;
  bool finishing_ = false;
  std::map<std::uint64_t, std::shared_ptr<grpc::ClientContext>> contexts_;
};

}  // namespace tandem
