#include "gateway/ingress/watch/process_page_job.h"

#include <mutex>
#include <optional>
#include <utility>

#include "lib/base/strings.h"
#include "lib/telemetry/metrics_port.h"

namespace tandem {

// Outlives the job where the answer comes late.
struct ProcessPageJob::Shared {
  std::mutex mutex;
  std::optional<absl::StatusOr<std::string>> answer;
  // Null once the job is gone.
  std::function<void()> wake;

  void Set(absl::StatusOr<std::string> given) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (answer.has_value()) return;
    answer.emplace(std::move(given));
    if (wake) wake();
  }
};

ProcessPageJob::ProcessPageJob(const ProcessPageSource& source, const std::string& process,
                               std::function<void()> wake)
    : shared_(std::make_shared<Shared>()) {
  shared_->wake = std::move(wake);
  source(process,
         [shared = shared_](absl::StatusOr<std::string> text) { shared->Set(std::move(text)); });
}

ProcessPageJob::~ProcessPageJob() {
  const std::lock_guard<std::mutex> lock(shared_->mutex);
  shared_->wake = nullptr;
}

HttpJob::Progress ProcessPageJob::Poll() {
  const std::lock_guard<std::mutex> lock(shared_->mutex);
  Progress progress;
  if (!shared_->answer.has_value()) return progress;
  progress.done = true;
  HttpReply& reply = progress.head.emplace();
  reply.content_type = std::string(kMetricsContentType);
  if (shared_->answer->ok()) {
    reply.body = **std::move(shared_->answer);
    return progress;
  }
  const absl::Status& status = shared_->answer->status();
  reply.status = absl::IsNotFound(status) ? 404 : 502;
  reply.content_type = "text/plain; charset=utf-8";
  reply.body = Cat(status.message(), "\n");
  return progress;
}

void ProcessPageJob::Abort(const absl::Status& status) { shared_->Set(status); }

}  // namespace tandem
