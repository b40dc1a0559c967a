#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "lib/base/fd.h"
#include "tandem/v1/inference.pb.h"
#include "tandem/v1/loader.pb.h"

namespace grpc {
class ClientContext;
}

namespace tandem {

// Follows the loader's progress and the gateway's status in threads of its own, and makes
// `event_fd` readable whenever there is news.
class Watcher {
 public:
  // `gateway`: the address that it is asked at once it has written its ready file.
  Watcher(std::string loader_address, std::string gateway_ready_file, std::string gateway);
  ~Watcher();

  int event_fd() const { return event_.get(); }
  void ClearEvent() const;

  struct News {
    std::optional<v1::LoadProgress> progress;
    std::optional<v1::ClusterStatus> status;
    std::string http;  // the gateway's addresses, empty until it listens
    std::string grpc;
  };
  News Take();  // what came since the last call; the addresses stay

 private:
  void FollowLoader();
  void FollowGateway();
  bool ReadGatewayAddresses();
  void Notify() const;
  bool Pause(int milliseconds);  // false when stopping

  const std::string loader_address_;
  const std::string ready_file_;
  const std::string gateway_;
  UniqueFd event_;
  std::mutex mutex_;
  std::condition_variable stop_changed_;
  bool stop_ = false;
  grpc::ClientContext* running_ = nullptr;  // the open progress stream
  News news_;
  std::thread loader_thread_;
  std::thread gateway_thread_;
};

}  // namespace tandem
