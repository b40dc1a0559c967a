#include "gateway/ingress/doors/tokenizer/tokenizer_door.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/types/span.h"
#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/doors/tokenizer/tokenizer_reader.h"
#include "gateway/ingress/request/json_text.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/text/detokenizer.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

// What the tokenizer is asked at once: some tenths of a second of work.
constexpr std::size_t kMaxTextBytes = 1 << 20;
constexpr std::size_t kIdsAtOnce = 4096;

absl::Status CheckModel(const Serving& serving, const std::string& model) {
  if (model.empty() || model == serving.model.id) return absl::OkStatus();
  return ModelNotFound(model);
}

// A chat as the model's template has it; a text however long it is, unlike in a prompt.
absl::StatusOr<std::vector<std::int32_t>> IdsOf(const Serving& serving, TokenizeRequest request) {
  const std::string* text = std::get_if<std::string>(&request.prompt);
  if (text == nullptr) return PromptIds(serving, "messages", std::move(request.prompt));
  if (text->size() > kMaxTextBytes) {
    return InvalidField("prompt", Cat("expected a text of at most ", kMaxTextBytes,
                                      " bytes, found ", text->size()));
  }
  const Tokenizer& tokenizer = *serving.model.tokenizer;
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  std::vector<std::int32_t> ids =
      tokenizer.Encode(*text, {.add_bos = request.add_special && vocabulary.add_bos,
                               .parse_special = request.parse_special});
  if (request.add_special && vocabulary.add_eos && vocabulary.eos_id != kNoPiece)
    ids.push_back(vocabulary.eos_id);
  return ids;
}

// Bytes of a text that is given up when it grows too long.
absl::StatusOr<std::string> TextOf(const Serving& serving, const std::vector<std::int32_t>& ids) {
  TANDEM_RETURN_IF_ERROR(serving.model.tokenizer->ValidateIds(ids));
  StreamingDetokenizer detokenizer(serving.model.tokenizer);
  std::string text;
  const auto all = absl::MakeConstSpan(ids);
  for (std::size_t at = 0; at < ids.size(); at += kIdsAtOnce) {
    TANDEM_ASSIGN_OR_RETURN(const std::string more,
                            detokenizer.Append(all.subspan(at, kIdsAtOnce)));
    text.append(more);
    if (text.size() > kMaxTextBytes) {
      return InvalidField("tokens",
                          Cat("expected tokens of at most ", kMaxTextBytes, " bytes of text"));
    }
  }
  return text + detokenizer.Flush();
}

class TokenizerDoor final : public Door {
 public:
  explicit TokenizerDoor(const DoorServices& services) : services_(services) {}

  std::vector<Route> Routes() override {
    const auto tokenize = [this](const DoorCall& call) {
      return Reply("/tokenize", Tokenize(call.request.body));
    };
    const auto detokenize = [this](const DoorCall& call) {
      return Reply("/detokenize", Detokenize(call.request.body));
    };
    return {{.method = "POST", .path = "/tokenize", .handle = tokenize},
            {.method = "POST", .path = "/detokenize", .handle = detokenize}};
  }
  std::string_view prefix() const override { return "/"; }
  ErrorWriter errors() const override { return ErrorJson; }

 private:
  HttpResult Reply(std::string_view endpoint, absl::StatusOr<std::string> body) const {
    if (!body.ok()) return ErrorResult(services_, endpoint, ErrorJson, body.status());
    services_.metrics.CountRequest(endpoint, 200);
    return JsonReply(*std::move(body));
  }

  absl::StatusOr<std::string> Tokenize(const std::string& body) const {
    TANDEM_ASSIGN_OR_RETURN(const std::shared_ptr<const Serving> serving, services_.serving.Get());
    TANDEM_ASSIGN_OR_RETURN(TokenizeRequest request, ReadTokenizeRequest(body, services_.read));
    TANDEM_RETURN_IF_ERROR(CheckModel(*serving, request.model));
    const bool pieces = request.pieces;
    TANDEM_ASSIGN_OR_RETURN(const std::vector<std::int32_t> ids,
                            IdsOf(*serving, std::move(request)));
    OrderedJson json = {{"count", ids.size()},
                        {"max_model_len", serving->engine->limits().context_tokens},
                        {"tokens", ids},
                        {"token_strs", nullptr}};
    if (pieces) {
      json["token_strs"] = OrderedJson::array();
      for (const std::int32_t id : ids) {
        json["token_strs"].push_back(std::string(serving->model.tokenizer->PieceOf(id)));
      }
    }
    return DumpJson(json);
  }

  absl::StatusOr<std::string> Detokenize(const std::string& body) const {
    TANDEM_ASSIGN_OR_RETURN(const std::shared_ptr<const Serving> serving, services_.serving.Get());
    TANDEM_ASSIGN_OR_RETURN(const DetokenizeRequest request,
                            ReadDetokenizeRequest(body, services_.read));
    TANDEM_RETURN_IF_ERROR(CheckModel(*serving, request.model));
    TANDEM_ASSIGN_OR_RETURN(const std::string text, TextOf(*serving, request.tokens));
    // Under both servers' names.
    return DumpJson({{"prompt", text}, {"content", text}});
  }

  const DoorServices services_;
};

}  // namespace

std::unique_ptr<Door> MakeTokenizerDoor(const DoorServices& services) {
  return std::make_unique<TokenizerDoor>(services);
}

}  // namespace tandem
