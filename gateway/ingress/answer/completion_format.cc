#include <utility>

#include "gateway/ingress/answer/answer_format.h"
#include "gateway/ingress/answer/answer_json.h"

namespace tandem {
namespace {

class CompletionFormat final : public AnswerFormat {
 public:
  explicit CompletionFormat(AnswerInfo info) : info_(std::move(info)) {}

  std::string Whole(const std::vector<AnswerPart>& parts, const AnswerUsage& usage) override {
    OrderedJson choices = OrderedJson::array();
    for (const AnswerPart& part : parts) choices.push_back(Choice(part));
    OrderedJson body = AnswerHead(info_, "text_completion");
    body["choices"] = std::move(choices);
    body["usage"] = UsageJson(usage);
    return DumpJson(body);
  }

  std::string Opening(int) override { return ""; }

  std::string Chunk(const AnswerPart& part) override {
    OrderedJson body = AnswerHead(info_, "text_completion");
    body["choices"] = OrderedJson::array({Choice(part)});
    if (info_.include_usage) body["usage"] = nullptr;
    return DumpJson(body);
  }

  std::string UsageChunk(const AnswerUsage& usage) override {
    OrderedJson body = AnswerHead(info_, "text_completion");
    body["choices"] = OrderedJson::array();
    body["usage"] = UsageJson(usage);
    return DumpJson(body);
  }

 private:
  OrderedJson Choice(const AnswerPart& part) const {
    return {{"index", part.index},
            {"text", part.text},
            {"logprobs", Logprobs(part)},
            {"finish_reason", FinishJson(part.finish)}};
  }

  // The best tokens and the chosen one: up to num_logprobs + 1 members. Of two tokens with one name
  // the more likely stands there.
  OrderedJson Top(const ScoredToken& token) const {
    if (!token.logprob.has_value()) return nullptr;
    OrderedJson top = OrderedJson::object();
    const auto add = [&](std::int32_t id, float logprob) {
      std::string name = TokenName(info_, id);
      if (!top.contains(name)) top[std::move(name)] = JsonLogprob(logprob);
    };
    for (const TokenLogprob& other : token.top) add(other.token, other.logprob);
    add(token.token, *token.logprob);
    return top;
  }

  OrderedJson Logprobs(const AnswerPart& part) const {
    if (info_.num_logprobs < 0) return nullptr;
    OrderedJson tokens = OrderedJson::array();
    OrderedJson logprobs = OrderedJson::array();
    OrderedJson tops = OrderedJson::array();
    OrderedJson offsets = OrderedJson::array();
    for (const ScoredToken& token : part.tokens) {
      tokens.push_back(TokenName(info_, token.token));
      logprobs.push_back(token.logprob.has_value() ? OrderedJson(JsonLogprob(*token.logprob))
                                                   : OrderedJson(nullptr));
      tops.push_back(Top(token));
      offsets.push_back(token.text_offset);
    }
    return {{"tokens", std::move(tokens)},
            {"token_logprobs", std::move(logprobs)},
            {"top_logprobs", std::move(tops)},
            {"text_offset", std::move(offsets)}};
  }

  const AnswerInfo info_;
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeCompletionFormat(AnswerInfo info) {
  return std::make_unique<CompletionFormat>(std::move(info));
}

}  // namespace tandem
