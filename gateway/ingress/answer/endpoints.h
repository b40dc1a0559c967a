#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "gateway/ingress/answer/generation_job.h"
#include "gateway/ingress/metrics.h"
#include "gateway/ingress/serving.h"

namespace tandem {

// From a request's body to its running job. Errors are for ErrorReplyFor. `metrics` may be null.
absl::StatusOr<std::unique_ptr<GenerationJob>> StartChat(std::shared_ptr<const Serving> serving,
                                                         std::string_view body,
                                                         IngressMetrics* metrics,
                                                         std::function<void()> wake);
absl::StatusOr<std::unique_ptr<GenerationJob>> StartCompletion(
    std::shared_ptr<const Serving> serving, std::string_view body, IngressMetrics* metrics,
    std::function<void()> wake);

}  // namespace tandem
