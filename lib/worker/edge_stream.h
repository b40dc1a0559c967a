#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <mutex>

#include "lib/worker/inline_edge.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {

// One PushEdge stream at the consumer. Owns itself until OnDone.
class EdgeStream final : public grpc::ServerReadReactor<v1::EdgeFrame>,
                         public FrameStream,
                         public std::enable_shared_from_this<EdgeStream> {
 public:
  static std::shared_ptr<EdgeStream> Create(InlineInbox& inbox,
                                            grpc::CallbackServerContext& context);

  void Accept(std::shared_ptr<InlineReceiver> receiver) override;
  void ReadNext() override;
  void End(const absl::Status& status) override;

  void OnReadDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  EdgeStream(InlineInbox& inbox, grpc::CallbackServerContext& context)
      : inbox_(inbox), context_(context) {}

  InlineInbox& inbox_;
  grpc::CallbackServerContext& context_;
  std::shared_ptr<EdgeStream> self_;
  v1::EdgeFrame frame_;
  std::mutex mutex_;
  bool announced_ = false;
  bool finished_ = false;
  std::shared_ptr<InlineReceiver> receiver_;
};

}  // namespace tandem
