#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"
#include "lib/service/listen_address.h"

namespace tandem {

// Accepts the connections of the gRPC port. gRPC's own listener ends for good when one accept fails
// for want of descriptors, and takes any number of connections. This one keeps their number within
// bounds: for one more, the connection that has been without a call for longest is closed, and
// where all have calls, the new one. Thread-safe.
class GrpcListener {
 public:
  struct Limits {
    std::size_t connections = 0;
    std::size_t connections_per_peer = 0;  // of another machine
  };

  // Binds and listens; nothing is accepted before Serve. Errors name the address and say why.
  static absl::StatusOr<std::unique_ptr<GrpcListener>> Listen(const ListenAddress& address,
                                                              Limits limits);
  // Stops; removes a Unix socket's file.
  ~GrpcListener();

  // With the port that the system chose.
  const ListenAddress& address() const { return address_; }
  // Hands every connection to `take`, which owns the descriptor then. Once.
  void Serve(std::function<void(int fd)> take);
  // Accepts nothing more; what is open stays.
  void Stop();

  // A request has come, or a call ended, from the peer that gRPC calls so ("ipv4:127.0.0.1:41233").
  void CallBegan(const std::string& peer);
  void CallEnded(const std::string& peer);

 private:
  using Clock = std::chrono::steady_clock;
  // By the descriptor of our own for the same socket: it tells when the connection has ended, and
  // can end it.
  struct Connection {
    UniqueFd fd;
    std::string peer;     // as gRPC calls it
    std::string machine;  // empty: this one
    int calls = 0;
    Clock::time_point idle_since = Clock::now();
  };
  using Connections = std::map<int, Connection>;

  GrpcListener(const ListenAddress& address, Limits limits) : address_(address), limits_(limits) {}
  absl::Status Watch(int fd, unsigned events);
  void Run();
  void AcceptAll();
  void Adopt(UniqueFd fd);
  bool MakeRoomLocked(const std::string& machine);
  bool CloseIdleLocked(const std::string* machine);
  void Pause();
  void CountCall(const std::string& peer, int change);

  ListenAddress address_;
  const Limits limits_;
  std::function<void(int fd)> take_;
  UniqueFd listener_;
  UniqueFd stop_;  // eventfd
  UniqueFd epoll_;
  std::mutex mutex_;
  Connections connections_;
  std::map<std::string, int> by_peer_;  // to the descriptor
  bool paused_ = false;                 // of the thread's
  std::thread thread_;
};

}  // namespace tandem
