#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "lib/base/cancellation.h"
#include "lib/base/deadline.h"
#include "lib/worker/edge.h"

namespace grpc {
class CallbackServerContext;
template <typename Request>
class ServerReadReactor;
}  // namespace grpc

namespace tandem::v1 {
class EdgeFrame;
}

namespace tandem {

// Inline edges: each end has a ring of its own and the rows travel in a gRPC stream (PushEdge). The
// stages and the step loop see an ordinary edge; behind it stands a carrier: at the producer it is
// the ring's consumer and writes frames, at the consumer it is the ring's producer.

class InlineReceiver;
class PushEdgeStream;

// Where PushEdge streams and the consumer's ends of edges find each other; streams may come first.
// Thread-safe.
class InlineInbox {
 public:
  using Key = std::pair<std::string, std::uint64_t>;  // edge id, generation
  static constexpr std::size_t kMaxWaiting = 64;

  // What answers a PushEdge call; it owns itself until gRPC is done with it.
  grpc::ServerReadReactor<v1::EdgeFrame>* NewStream(grpc::CallbackServerContext& context);
  // Ends all streams, so that a server can shut down at once.
  void EndStreams(const absl::Status& status);
  // Ends the streams that wait for an edge of a generation before this one.
  void DropBefore(std::uint64_t generation);

 private:
  friend class PushEdgeStream;
  friend absl::Status StartInlineConsumer(Device& device, Edge* edge, InlineInbox& inbox);
  struct Waiting {
    Key key;
    std::shared_ptr<PushEdgeStream> stream;
  };

  // A stream has said whose rows it carries: it is accepted now or when the key is registered.
  // Beyond kMaxWaiting the oldest one is ended.
  void Announce(const Key& key, std::shared_ptr<PushEdgeStream> stream);
  void Withdraw(const PushEdgeStream* stream);
  // The consumer's end is there. ALREADY_EXISTS when the key is taken.
  absl::Status Register(const Key& key, std::shared_ptr<InlineReceiver> receiver);
  void Unregister(const Key& key);

  std::mutex mutex_;
  std::list<Waiting> waiting_;
  std::list<std::pair<Key, std::shared_ptr<InlineReceiver>>> receivers_;
  std::vector<std::weak_ptr<PushEdgeStream>> streams_;
};

// Completes an edge whose kind is kInline: makes the ring and the carrier. The producer's returns
// when the consumer has accepted the stream; `cancellation` ends that wait.
absl::Status StartInlineProducer(Device& device, Edge* edge, Cancellation& cancellation,
                                 Deadline deadline);
absl::Status StartInlineConsumer(Device& device, Edge* edge, InlineInbox& inbox);

inline constexpr int kMaxFrameBytes = 64 << 20;  // 512 rows of 27B's residual are 11 MB

}  // namespace tandem
