#include <utility>

#include "gateway/ingress/answer/answer_format.h"
#include "gateway/ingress/answer/answer_json.h"

namespace tandem {
namespace {

class ChatFormat final : public AnswerFormat {
 public:
  explicit ChatFormat(AnswerInfo info) : info_(std::move(info)) {}

  std::string Whole(const std::vector<AnswerPart>& parts, const AnswerUsage& usage) override {
    OrderedJson choices = OrderedJson::array();
    for (const AnswerPart& part : parts) {
      choices.push_back(
          {{"index", part.index},
           {"message", {{"role", "assistant"}, {"content", part.text}, {"refusal", nullptr}}},
           {"logprobs", Logprobs(part)},
           {"finish_reason", FinishJson(part.finish)}});
    }
    OrderedJson body = AnswerHead(info_, "chat.completion");
    body["choices"] = std::move(choices);
    body["usage"] = UsageJson(usage);
    return DumpJson(body);
  }

  std::string Opening(int index) override {
    return OneChoice({{"index", index},
                      {"delta", {{"role", "assistant"}, {"content", ""}}},
                      {"logprobs", nullptr},
                      {"finish_reason", nullptr}});
  }

  std::string Chunk(const AnswerPart& part) override {
    OrderedJson delta = OrderedJson::object();
    if (!part.text.empty() || !part.finish.has_value()) delta["content"] = part.text;
    return OneChoice({{"index", part.index},
                      {"delta", std::move(delta)},
                      {"logprobs", part.tokens.empty() ? OrderedJson(nullptr) : Logprobs(part)},
                      {"finish_reason", FinishJson(part.finish)}});
  }

  std::string UsageChunk(const AnswerUsage& usage) override {
    OrderedJson body = AnswerHead(info_, "chat.completion.chunk");
    body["choices"] = OrderedJson::array();
    body["usage"] = UsageJson(usage);
    return DumpJson(body);
  }

 private:
  std::string OneChoice(OrderedJson choice) const {
    OrderedJson body = AnswerHead(info_, "chat.completion.chunk");
    body["choices"] = OrderedJson::array({std::move(choice)});
    if (info_.include_usage) body["usage"] = nullptr;
    return DumpJson(body);
  }

  OrderedJson Entry(std::int32_t token, float logprob) const {
    OrderedJson bytes = OrderedJson::array();
    for (const char c : TokenBytes(info_, token)) bytes.push_back(static_cast<unsigned char>(c));
    return {{"token", TokenName(info_, token)},
            {"logprob", JsonLogprob(logprob)},
            {"bytes", std::move(bytes)}};
  }

  OrderedJson Logprobs(const AnswerPart& part) const {
    if (info_.num_logprobs < 0) return nullptr;
    OrderedJson content = OrderedJson::array();
    for (const ScoredToken& token : part.tokens) {
      OrderedJson entry = Entry(token.token, token.logprob.value_or(0.0f));
      OrderedJson top = OrderedJson::array();
      for (const TokenLogprob& other : token.top) top.push_back(Entry(other.token, other.logprob));
      entry["top_logprobs"] = std::move(top);
      content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
  }

  const AnswerInfo info_;
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeChatFormat(AnswerInfo info) {
  return std::make_unique<ChatFormat>(std::move(info));
}

}  // namespace tandem
