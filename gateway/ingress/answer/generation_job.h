#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gateway/ingress/answer/answer_format.h"
#include "gateway/ingress/generation.h"
#include "gateway/ingress/http/http_types.h"
#include "gateway/ingress/serving.h"

namespace tandem {

class IngressMetrics;

struct GenerationJobSpec {
  std::shared_ptr<const Serving> serving;
  std::vector<GenerationSpec> choices;  // in the order of their index
  std::int64_t prompt_tokens = 0;       // each prompt counted once, whatever n
  bool stream = false;
  bool include_usage = false;
  std::unique_ptr<AnswerFormat> format;
  std::string endpoint;               // for the metrics
  IngressMetrics* metrics = nullptr;  // may be null; outlives the job
};

// Runs the choices of one HTTP request at the engine and writes the answer. At most kInFlight
// choices run at a time, so that one request with many prompts does not fill the engine's queue.
// An error before the first byte of the answer becomes a reply with its own status; later, in a
// stream, an event {"error": ...}, which ends it.
class GenerationJob final : public HttpJob {
 public:
  static constexpr std::size_t kInFlight = 8;

  // Submits the first choices. Errors are those of Engine::Submit for the very first one.
  static absl::StatusOr<std::unique_ptr<GenerationJob>> Start(GenerationJobSpec spec,
                                                              std::function<void()> wake);
  ~GenerationJob() override;

  Progress Poll() override;
  void Abort(const absl::Status& status) override;

 private:
  struct Choice {
    std::unique_ptr<Generation> generation;
    AnswerPart part;  // whole answers gather here
    bool opened = false;
    bool finished = false;
  };

  GenerationJob(GenerationJobSpec spec, std::function<void()> wake);
  absl::Status CreateChoices();
  absl::Status StartChoices();
  void TakeUpdate(Choice& choice, std::string& events);
  void AddEvent(const std::string& json, std::string& events);
  Progress Fail(Progress progress);
  void Record(int http_status);
  AnswerUsage Usage() const;

  GenerationJobSpec spec_;
  std::function<void()> wake_;
  std::vector<Choice> choices_;
  std::size_t next_to_start_ = 0;
  std::size_t running_ = 0;
  std::size_t finished_ = 0;
  bool head_sent_ = false;
  bool recorded_ = false;
  absl::Status error_;
  std::chrono::steady_clock::time_point begin_;
};

// The reply for a failed request, Retry-After included.
HttpReply ErrorReplyFor(const absl::Status& status);

}  // namespace tandem
