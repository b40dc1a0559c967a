#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gateway/ingress/answer/answer_format.h"
#include "gateway/ingress/answer/generation_trace.h"
#include "gateway/ingress/answer/running_answer.h"
#include "gateway/ingress/answer/serving.h"
#include "gateway/ingress/auth.h"
#include "gateway/ingress/http/http_types.h"

namespace tandem {

class IngressMetrics;

struct AnswerJobSpec {
  std::shared_ptr<const Serving> serving;
  // Of the whole answer.
  std::string id;
  // In order; their requests' ids are the job's to set.
  std::vector<AnswerSpec> prompts;
  // Choices of each, one seed apart.
  std::int32_t n = 1;
  std::int32_t num_logprobs = -1;
  bool stream = false;
  std::unique_ptr<AnswerFormat> format;
  // How the API writes an error that comes before anything else.
  ErrorWriter error_body = nullptr;
  // For the metrics.
  std::string endpoint;
  // May be null; outlives the job.
  IngressMetrics* metrics = nullptr;
  // Further headers of the reply, also where it is an error.
  std::vector<std::pair<std::string, std::string>> headers;
  // Pays for the tokens.
  KeyUse key;
  // Null: it is not traced.
  std::shared_ptr<GenerationTrace> trace;
};

// Runs the choices of one HTTP request at the engine and writes the answer. At most kInFlight
// choices run at a time, so that one request with many prompts does not fill the engine's queue. An
// answer that is not streamed and grows over kMaxAnswerBytes (answer_plan.h) ends with a 400. An
// error before the first byte of the answer becomes a reply with its own status; later, in a
// stream, what the format makes of it, which ends it.
class AnswerJob final : public HttpJob {
 public:
  static constexpr std::size_t kInFlight = 8;

  // Submits the first choices. Errors are those of CheckEchoBytes, and of
  // Engine::Submit for the very first one.
  static absl::StatusOr<std::unique_ptr<AnswerJob>> Start(AnswerJobSpec spec,
                                                          std::function<void()> wake);
  ~AnswerJob() override;

  Progress Poll() override;
  void Abort(const absl::Status& status) override;

 private:
  struct Choice {
    // From its start to its end.
    std::unique_ptr<RunningAnswer> answer;
    std::int32_t completion_tokens = 0;
    // Whole answers gather here.
    AnswerEvent event;
    // Of its first token.
    std::chrono::steady_clock::time_point begun;
    bool opened = false;
    bool finished = false;
  };

  AnswerJob(AnswerJobSpec spec, std::function<void()> wake);
  absl::Status CreateAnswer(std::size_t index);
  absl::Status StartChoices();
  void TakeUpdate(Choice& choice, std::string& bytes);
  void Gather(AnswerEvent& event, RunningAnswer::Update update);
  void AddToStream(const AnswerEvent& event, std::string& bytes);
  Progress Finish(Progress progress);
  Progress Fail(Progress progress);
  void Record(int http_status);
  void ObserveFirstToken(Choice& choice);
  void ObserveEnd(const Choice& choice) const;
  AnswerUsage Usage() const;

  AnswerJobSpec spec_;
  std::function<void()> wake_;
  std::vector<Choice> choices_;
  std::size_t next_to_start_ = 0;
  std::size_t running_ = 0;
  std::size_t finished_ = 0;
  // Each prompt counted once, whatever n.
  std::int64_t prompt_tokens_ = 0;
  std::int64_t gathered_bytes_ = 0;
  bool begun_ = false;
  bool head_sent_ = false;
  bool recorded_ = false;
  absl::Status error_;
  std::chrono::steady_clock::time_point begin_;
};

// The reply for a failed request, Retry-After included.
HttpReply ErrorReplyFor(const absl::Status& status, ErrorWriter error_body);

}  // namespace tandem
