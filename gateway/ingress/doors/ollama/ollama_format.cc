#include "gateway/ingress/doors/ollama/ollama_format.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/time/clock.h"
#include "gateway/ingress/answer/embeddings.h"
#include "gateway/ingress/doors/token_names.h"
#include "gateway/ingress/request/json_text.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

std::int64_t NanosBetween(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(end - begin).count();
}

class OllamaFormat final : public AnswerFormat {
 public:
  OllamaFormat(AnswerInfo info, bool chat) : info_(std::move(info)), chat_(chat) {}

  std::string_view stream_type() const override { return "application/x-ndjson"; }

  std::string Whole(const std::vector<AnswerEvent>& choices, const AnswerUsage& usage) override {
    const AnswerEvent& choice = choices.front();
    OrderedJson body = Head(choice);
    AddEnd(choice, usage, body);
    return DumpJson(body);
  }

  std::string Begin(const AnswerUsage&) override {
    first_token_ = Clock::now();
    return "";
  }

  std::string Next(const AnswerEvent& event) override {
    for (const ToolCallDelta& call : event.tool_calls) Gather(call);
    std::string lines;
    if (!event.text.empty() || !event.tokens.empty()) {
      OrderedJson line = Head(event);
      line["done"] = false;
      lines = DumpJson(line) + "\n";
    }
    if (event.end.has_value()) last_ = event;
    return lines;
  }

  // Calls come whole, in the last line but one: their arguments are objects.
  std::string End(const AnswerUsage& usage) override {
    std::string lines;
    AnswerEvent calls;
    calls.tool_calls = std::move(calls_);
    if (!calls.tool_calls.empty()) {
      OrderedJson line = Head(calls);
      line["done"] = false;
      lines = DumpJson(line) + "\n";
    }
    OrderedJson line = Head({});
    AddEnd(last_, usage, line);
    return lines + DumpJson(line) + "\n";
  }

  std::string Fail(const ApiError& error) override { return OllamaErrorJson(error) + "\n"; }

 private:
  void Gather(const ToolCallDelta& call) {
    if (!call.id.empty() || calls_.empty()) {
      calls_.push_back(call);
    } else {
      calls_.back().arguments.append(call.arguments);
    }
  }

  OrderedJson Head(const AnswerEvent& event) const {
    OrderedJson body = {{"model", info_.model}, {"created_at", OllamaTime()}};
    if (!chat_) {
      body["response"] = event.text;
    } else {
      body["message"] = {{"role", "assistant"}, {"content", event.text}};
      for (const ToolCallDelta& call : event.tool_calls) {
        OrderedJson arguments =
            OrderedJson::parse(call.arguments, nullptr, /*allow_exceptions=*/false);
        if (!arguments.is_object()) arguments = {{"raw", call.arguments}};
        body["message"]["tool_calls"].push_back(
            {{"function", {{"name", call.name}, {"arguments", std::move(arguments)}}}});
      }
    }
    if (info_.num_logprobs >= 0) body["logprobs"] = LogprobEntries(info_, event.tokens);
    return body;
  }

  void AddEnd(const AnswerEvent& event, const AnswerUsage& usage, OrderedJson& body) const {
    const Clock::time_point now = Clock::now();
    const Clock::time_point first = first_token_.value_or(now);
    body["done"] = true;
    body["done_reason"] = event.end == AnswerEnd::kLength ? "length" : "stop";
    body["total_duration"] = NanosBetween(begin_, now);
    body["load_duration"] = 0;
    body["prompt_eval_count"] = usage.prompt_tokens;
    body["prompt_eval_duration"] = NanosBetween(begin_, first);
    body["eval_count"] = usage.completion_tokens;
    body["eval_duration"] = NanosBetween(first, now);
  }

  const AnswerInfo info_;
  const bool chat_;
  const Clock::time_point begin_ = Clock::now();
  std::optional<Clock::time_point> first_token_;
  std::vector<ToolCallDelta> calls_;
  AnswerEvent last_;
};

class OllamaEmbeddingFormat final : public EmbeddingFormat {
 public:
  OllamaEmbeddingFormat(AnswerInfo info, const EmbeddingWish& wish, bool older)
      : info_(std::move(info)), wish_(wish), older_(older) {}

  std::string Whole(const std::vector<AnswerEvent>& choices, const AnswerUsage& usage) override {
    if (older_) {
      std::vector<float> values = choices.front().embedding;
      GrantWish(wish_, values);
      return Cat(R"({"embedding":)", FloatsJson(values), "}");
    }
    std::string body = Cat(R"({"model":)", DumpJson(info_.model), R"(,"embeddings":[)");
    for (const AnswerEvent& choice : choices) {
      std::vector<float> values = choice.embedding;
      GrantWish(wish_, values);
      body.append(Cat(choice.index == 0 ? "" : ",", FloatsJson(values)));
    }
    body.append(Cat(R"(],"total_duration":)", NanosBetween(begin_, Clock::now()),
                    R"(,"load_duration":0,"prompt_eval_count":)", usage.prompt_tokens, "}"));
    return body;
  }

 private:
  const AnswerInfo info_;
  const EmbeddingWish wish_;
  const bool older_;
  const Clock::time_point begin_ = Clock::now();
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeOllamaEmbeddingFormat(AnswerInfo info, const EmbeddingWish& wish,
                                                        bool older) {
  return std::make_unique<OllamaEmbeddingFormat>(std::move(info), wish, older);
}

std::unique_ptr<AnswerFormat> MakeOllamaFormat(AnswerInfo info, bool chat) {
  return std::make_unique<OllamaFormat>(std::move(info), chat);
}

std::string OllamaTime() {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E9SZ", absl::Now(), absl::UTCTimeZone());
}

std::string OllamaErrorJson(const ApiError& error) { return DumpJson({{"error", error.message}}); }

}  // namespace tandem
