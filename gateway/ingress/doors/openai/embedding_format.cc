#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/answer/embeddings.h"
#include "gateway/ingress/doors/openai/openai_format.h"
#include "gateway/ingress/request/json_text.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

class OpenAiEmbeddingFormat final : public EmbeddingFormat {
 public:
  OpenAiEmbeddingFormat(AnswerInfo info, const EmbeddingWish& wish)
      : info_(std::move(info)), wish_(wish) {}

  // Text beside text: a JSON document of all the numbers would take several times their room.
  std::string Whole(const std::vector<AnswerEvent>& choices, const AnswerUsage& usage) override {
    std::string body = R"({"object":"list","data":[)";
    for (const AnswerEvent& choice : choices) {
      std::vector<float> values = choice.embedding;
      GrantWish(wish_, values);
      body.append(Cat(choice.index == 0 ? "" : ",", R"({"object":"embedding","index":)",
                      choice.index, R"(,"embedding":)"));
      body.append(wish_.base64 ? Cat("\"", FloatsBase64(values), "\"") : FloatsJson(values));
      body.push_back('}');
    }
    body.append(Cat(
        R"(],"model":)", DumpJson(info_.model), R"(,"usage":)",
        DumpJson({{"prompt_tokens", usage.prompt_tokens}, {"total_tokens", usage.prompt_tokens}}),
        "}"));
    return body;
  }

 private:
  const AnswerInfo info_;
  const EmbeddingWish wish_;
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeEmbeddingFormat(AnswerInfo info, const EmbeddingWish& wish) {
  return std::make_unique<OpenAiEmbeddingFormat>(std::move(info), wish);
}

}  // namespace tandem
