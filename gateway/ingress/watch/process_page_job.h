#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "gateway/ingress/http/http_types.h"

namespace tandem {

// Asks another process for its page of metrics and calls back once, on any thread.
using ProcessPageSource = std::function<void(
    const std::string& process, std::function<void(absl::StatusOr<std::string> text)> done)>;

// The page of another process, when it has come: 404 where there is no such process, 502 where it
// does not answer, so that Prometheus counts it as down.
class ProcessPageJob final : public HttpJob {
 public:
  ProcessPageJob(const ProcessPageSource& source, const std::string& process,
                 std::function<void()> wake);
  ~ProcessPageJob() override;

  Progress Poll() override;
  void Abort(const absl::Status& status) override;

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace tandem
