#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/dispatch/model_info.h"
#include "gateway/ingress/answer/metrics.h"
#include "gateway/ingress/http/http_types.h"
#include "gateway/ingress/watch/process_page_job.h"

namespace tandem {

struct WatchedProcess {
  std::string name;
  // loader, gpu, npu
  std::string role;
};

// What the watching paths show. All are called from any thread and must not block.
struct WatchSources {
  std::function<ClusterStatus()> status;
  std::vector<WatchedProcess> processes;
  ProcessPageSource process_page;
};

// The paths that watch the cluster, all GET:
//   /metrics                 the gateway's metrics
//   /metrics/process/NAME    those of another process, which the gateway asks
//   /metrics/targets         all of these pages, for Prometheus' HTTP service discovery
//   /metrics/vllm            what routers of requests read, under the names of vLLM
//   /status                  the cluster as `tandem status --json` shows it
// Thread-safe once the sources are set.
class WatchPages {
 public:
  explicit WatchPages(const IngressMetrics& metrics) : metrics_(metrics) {}
  // Before the first request.
  void SetSources(WatchSources sources) { sources_ = std::move(sources); }

  // Those above, with "*" for a name. They want a key with the scope `metrics`.
  static std::span<const std::string_view> Paths();
  // `host`: as the request's header has it; where the pages are found again.
  HttpResult Handle(std::string_view path, std::string_view host, std::function<void()> wake) const;

 private:
  HttpReply Targets(std::string_view host) const;
  HttpReply Vllm() const;
  HttpReply Status() const;

  const IngressMetrics& metrics_;
  WatchSources sources_;
};

}  // namespace tandem
