#include "gateway/ingress/doors/openai/openai_door.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/time/time.h"
#include "gateway/ingress/doors/openai/openai_format.h"
#include "gateway/ingress/doors/openai/openai_reader.h"
#include "gateway/ingress/request/json_text.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kChatPath = "/v1/chat/completions";
constexpr std::string_view kCompletionsPath = "/v1/completions";
constexpr std::string_view kEmbeddingsPath = "/v1/embeddings";

OrderedJson ModelJson(const Serving& serving) {
  const EngineLimits limits = serving.engine->limits();
  const std::int32_t context = limits.context_tokens;
  return {{"id", serving.model.id},
          {"object", "model"},
          {"created", serving.model.created},
          {"owned_by", "tandem"},
          // As vLLM spells it, and as llama.cpp and others do.
          {"max_model_len", context},
          {"context_length", context},
          {"context_window", context},
          // As llama.cpp and Ollama spell it.
          {"capabilities", OrderedJson::array({limits.encoder ? "embedding" : "completion"})},
          // As Anthropic spells it: its clients ask here too.
          {"type", "model"},
          {"display_name", serving.model.id},
          {"created_at",
           absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixSeconds(serving.model.created),
                            absl::UTCTimeZone())}};
}

class OpenAiDoor final : public Door {
 public:
  explicit OpenAiDoor(const DoorServices& services) : services_(services) {}

  std::vector<Route> Routes() override {
    return {{.method = "POST",
             .path = kChatPath,
             .handle = [this](DoorCall call) { return Chat(std::move(call)); }},
            {.method = "POST",
             .path = kCompletionsPath,
             .handle = [this](DoorCall call) { return Complete(std::move(call)); }},
            {.method = "POST",
             .path = kEmbeddingsPath,
             .handle = [this](DoorCall call) { return Embed(std::move(call)); }},
            {.method = "GET",
             .path = "/v1/models",
             .handle = [this](const DoorCall&) { return Models(); }},
            {.method = "GET", .path = "/v1/models/*", .handle = [this](const DoorCall& call) {
               return Model(call.parameter);
             }}};
  }
  std::string_view prefix() const override { return "/v1/"; }
  ErrorWriter errors() const override { return ErrorJson; }

 private:
  HttpResult Chat(DoorCall call) {
    const AnswerPlan plan{.endpoint = kChatPath,
                          .errors = ErrorJson,
                          .id_prefix = "chatcmpl-",
                          .format = [](AnswerInfo info, const InferenceRequest&) {
                            return MakeChatFormat(std::move(info));
                          }};
    auto request = ReadChatRequest(call.request.body, services_.read);
    return StartAnswer(services_, call, plan, std::move(request));
  }

  HttpResult Complete(DoorCall call) {
    const AnswerPlan plan{.endpoint = kCompletionsPath,
                          .errors = ErrorJson,
                          .id_prefix = "cmpl-",
                          .format = [](AnswerInfo info, const InferenceRequest&) {
                            return MakeCompletionFormat(std::move(info));
                          }};
    auto request = ReadCompletionRequest(call.request.body, services_.read);
    return StartAnswer(services_, call, plan, std::move(request));
  }

  HttpResult Embed(DoorCall call) {
    const AnswerPlan plan{.endpoint = kEmbeddingsPath,
                          .errors = ErrorJson,
                          .id_prefix = "embd-",
                          .format = [](AnswerInfo info, const InferenceRequest& request) {
                            return MakeEmbeddingFormat(std::move(info), *request.embed);
                          }};
    auto request = ReadEmbeddingRequest(call.request.body, services_.read);
    return StartAnswer(services_, call, plan, std::move(request));
  }

  HttpResult Models() {
    const auto serving = services_.serving.Get();
    if (!serving.ok()) return ErrorResult(services_, "/v1/models", ErrorJson, serving.status());
    return JsonReply(
        DumpJson({{"object", "list"}, {"data", OrderedJson::array({ModelJson(**serving)})}}));
  }

  HttpResult Model(const std::string& id) {
    const auto serving = services_.serving.Get();
    absl::Status status = serving.status();
    if (status.ok() && id != (*serving)->model.id) status = ModelNotFound(id);
    if (!status.ok()) return ErrorResult(services_, "/v1/models", ErrorJson, status);
    return JsonReply(DumpJson(ModelJson(**serving)));
  }

  const DoorServices services_;
};

}  // namespace

std::unique_ptr<Door> MakeOpenAiDoor(const DoorServices& services) {
  return std::make_unique<OpenAiDoor>(services);
}

}  // namespace tandem
