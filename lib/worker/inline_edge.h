#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/worker/edge.h"

namespace tandem::v1 {
class EdgeFrame;
}

namespace tandem {

// Inline edges: each end has a ring of its own and the rows travel in a gRPC stream (PushEdge). The
// stages and the step loop see an ordinary edge; behind it stands a carrier: at the producer it is
// the ring's consumer and writes frames, at the consumer it is the ring's producer.

class FrameStream;

// The consumer's carrier. One thread moves frames into the ring.
class InlineReceiver {
 public:
  virtual ~InlineReceiver() = default;
  // `frame` stays valid until the stream's ReadNext or End is called.
  virtual void Deliver(std::shared_ptr<FrameStream> stream, const v1::EdgeFrame* frame) = 0;
  virtual void StreamEnded() = 0;  // the consumer's waits end with UNAVAILABLE
};

// A PushEdge stream as the consumer's side sees it; implemented by the service. Calls are safe from
// any thread, also after the stream's end.
class FrameStream {
 public:
  virtual ~FrameStream() = default;
  // Tells the producer that its frames are welcome, and reads the first for `receiver`.
  virtual void Accept(std::shared_ptr<InlineReceiver> receiver) = 0;
  virtual void ReadNext() = 0;                       // the frame delivered last is used up
  virtual void End(const absl::Status& status) = 0;  // ends the stream; later calls do nothing
};

// Where PushEdge streams and the consumer's ends of edges find each other; streams may come first.
// Thread-safe.
class InlineInbox {
 public:
  using Key = std::pair<std::string, std::uint64_t>;  // edge id, generation
  static constexpr std::size_t kMaxWaiting = 64;

  // A stream has announced itself: it is accepted now or when the key is registered. Beyond
  // kMaxWaiting the oldest one is ended.
  void Announce(const Key& key, std::shared_ptr<FrameStream> stream);
  // A stream has ended while it waited.
  void Withdraw(const FrameStream* stream);
  // The consumer's end is there. ALREADY_EXISTS when the key is taken.
  absl::Status Register(const Key& key, std::shared_ptr<InlineReceiver> receiver);
  void Unregister(const Key& key);

 private:
  struct Waiting {
    Key key;
    std::shared_ptr<FrameStream> stream;
  };
  std::mutex mutex_;
  std::list<Waiting> waiting_;
  std::list<std::pair<Key, std::shared_ptr<InlineReceiver>>> receivers_;
};

// Completes an edge whose kind is kInline: makes the ring and the carrier. The producer's returns
// when the consumer has accepted the stream.
absl::Status StartInlineProducer(Device& device, Edge* edge, absl::Time deadline);
absl::Status StartInlineConsumer(Device& device, Edge* edge, InlineInbox& inbox);

// Initial metadata that FrameStream::Accept sends.
inline constexpr char kInlineAcceptedKey[] = "tandem-edge-accepted";
inline constexpr int kMaxFrameBytes = 64 << 20;  // 512 rows of 27B's residual are 11 MB

}  // namespace tandem
