#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "lib/service/cluster_settings.h"
#include "lib/service/listen_address.h"

namespace tandem {

// Prometheus' content type for the text format.
inline constexpr std::string_view kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

// GET /metrics, for processes that speak no HTTP otherwise: one thread, one request a connection,
// a few connections at a time, each a few seconds long at most. It has no keys: loopback and Unix
// sockets only (InnerListenAddress), and what a web page makes a browser ask is refused.
class MetricsPort {
 public:
  // `text` is called on the port's thread for each answer, until the port is gone. Errors name the
  // address.
  static absl::StatusOr<std::unique_ptr<MetricsPort>> Start(const ListenAddress& address,
                                                            std::function<std::string()> text);
  ~MetricsPort();
  MetricsPort(const MetricsPort&) = delete;
  MetricsPort& operator=(const MetricsPort&) = delete;

  // With the port that the system chose: "127.0.0.1:41233" or "unix:/path".
  std::string address() const;

 private:
  struct Impl;
  explicit MetricsPort(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

inline constexpr char kMetricsFlagHelp[] =
    "where /metrics listens: a loopback host:port (port 0: any free one) or unix:/path; without it "
    "the gateway alone shows this process' metrics";
// The port that --metrics of a program asks for, else a free one where --process_metrics does; null
// where neither does. Errors name the flag.
absl::StatusOr<std::unique_ptr<MetricsPort>> StartMetricsPort(const std::string& flag_value,
                                                              const WatchSettings& settings,
                                                              std::function<std::string()> text);

}  // namespace tandem
