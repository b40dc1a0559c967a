#include "gateway/ingress/doors/ollama/ollama_door.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/time/clock.h"
#include "gateway/ingress/doors/ollama/ollama_format.h"
#include "gateway/ingress/doors/ollama/ollama_reader.h"
#include "gateway/ingress/request/json_text.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/base/version.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

// Clients look at the version to learn what a server can do: this is the API that is spoken here,
// Tandem's own version stands beside it.
constexpr std::string_view kApiVersion = "0.9.0";

OrderedJson Details(const Serving& serving) {
  return {{"parent_model", ""},   {"format", "gguf"},
          {"family", "gemma3"},   {"families", OrderedJson::array({"gemma3"})},
          {"parameter_size", ""}, {"quantization_level", serving.model.weight_format}};
}

std::string TimeText(std::int64_t unix_seconds) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixSeconds(unix_seconds),
                          absl::UTCTimeZone());
}

OrderedJson ModelJson(const Serving& serving) {
  return {{"name", serving.model.id},
          {"model", serving.model.id},
          {"modified_at", TimeText(serving.model.created)},
          {"size", 0},
          {"digest", ""},
          {"details", Details(serving)}};
}

class OllamaDoor final : public Door {
 public:
  explicit OllamaDoor(const DoorServices& services) : services_(services) {}

  std::vector<Route> Routes() override {
    const auto version = [](const DoorCall&) {
      return JsonReply(DumpJson({{"version", kApiVersion}, {"tandem", kVersion}}));
    };
    return {
        {.method = "POST",
         .path = "/api/chat",
         .handle = [this](DoorCall call) { return Answer(std::move(call), /*chat=*/true); }},
        {.method = "POST",
         .path = "/api/generate",
         .handle = [this](DoorCall call) { return Answer(std::move(call), /*chat=*/false); }},
        {.method = "POST",
         .path = "/api/embed",
         .handle = [this](DoorCall call) { return Embed(std::move(call), /*older=*/false); }},
        {.method = "POST",
         .path = "/api/embeddings",
         .handle = [this](DoorCall call) { return Embed(std::move(call), /*older=*/true); }},
        {.method = "GET",
         .path = "/api/tags",
         .handle = [this](const DoorCall&) { return Tags(); }},
        {.method = "GET", .path = "/api/ps", .handle = [this](const DoorCall&) { return Ps(); }},
        {.method = "POST",
         .path = "/api/show",
         .handle = [this](const DoorCall& call) { return Show(call); }},
        {.method = "GET", .path = "/api/version", .handle = version}};
  }
  std::string_view prefix() const override { return "/api/"; }
  ErrorWriter errors() const override { return OllamaErrorJson; }

 private:
  HttpResult Answer(DoorCall call, bool chat) {
    const AnswerPlan plan{.endpoint = chat ? "/api/chat" : "/api/generate",
                          .errors = OllamaErrorJson,
                          .id_prefix = "ollama-",
                          .format = [chat](AnswerInfo info, const InferenceRequest&) {
                            return MakeOllamaFormat(std::move(info), chat);
                          }};
    auto request = chat ? ReadOllamaChat(call.request.body, services_.read)
                        : ReadOllamaGenerate(call.request.body, services_.read);
    if (request.ok() && request->prompts.empty()) return Load(plan.endpoint, *request, chat);
    return StartAnswer(services_, call, plan, std::move(request));
  }

  HttpResult Embed(DoorCall call, bool older) {
    const AnswerPlan plan{.endpoint = older ? "/api/embeddings" : "/api/embed",
                          .errors = OllamaErrorJson,
                          .id_prefix = "ollama-",
                          .format = [older](AnswerInfo info, const InferenceRequest& request) {
                            return MakeOllamaEmbeddingFormat(std::move(info), *request.embed,
                                                             older);
                          }};
    auto request = ReadOllamaEmbed(call.request.body, older, services_.read);
    if (!request.ok() || !request->prompts.empty()) {
      return StartAnswer(services_, call, plan, std::move(request));
    }
    const auto serving = Named(request->model);
    if (!serving.ok()) return Error(plan.endpoint, serving.status());
    if (older) return JsonReply(DumpJson({{"embedding", OrderedJson::array()}}));
    return JsonReply(
        DumpJson({{"model", (*serving)->model.id}, {"embeddings", OrderedJson::array()}}));
  }

  // The served model, when `name` is its, or "".
  absl::StatusOr<std::shared_ptr<const Serving>> Named(const std::string& name) const {
    TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<const Serving> serving, services_.serving.Get());
    if (!name.empty() && name != serving->model.id) return ModelNotFound(name);
    return serving;
  }

  // Nothing was asked but that the model be there.
  HttpResult Load(std::string_view endpoint, const InferenceRequest& request, bool chat) const {
    const auto serving = Named(request.model);
    if (!serving.ok()) return Error(endpoint, serving.status());
    OrderedJson body = {{"model", (*serving)->model.id}, {"created_at", OllamaTime()}};
    if (chat) {
      body["message"] = {{"role", "assistant"}, {"content", ""}};
    } else {
      body["response"] = "";
    }
    body["done"] = true;
    body["done_reason"] = "load";
    return JsonReply(DumpJson(body));
  }

  HttpResult Tags() const {
    const auto serving = services_.serving.Get();
    if (!serving.ok()) return Error("/api/tags", serving.status());
    return JsonReply(DumpJson({{"models", OrderedJson::array({ModelJson(**serving)})}}));
  }

  // The served model is loaded for as long as the server runs.
  HttpResult Ps() const {
    const auto serving = services_.serving.Get();
    if (!serving.ok()) return Error("/api/ps", serving.status());
    OrderedJson model = ModelJson(**serving);
    model.erase("modified_at");
    model["expires_at"] = "9999-12-31T23:59:59Z";
    model["size_vram"] = 0;
    model["context_length"] = (*serving)->engine->limits().context_tokens;
    return JsonReply(DumpJson({{"models", OrderedJson::array({std::move(model)})}}));
  }

  absl::StatusOr<std::string> ShowJson(const std::string& body) const {
    TANDEM_ASSIGN_OR_RETURN(const std::string name, ReadOllamaModel(body, services_.read));
    TANDEM_ASSIGN_OR_RETURN(const std::shared_ptr<const Serving> serving, Named(name));
    const EngineLimits limits = serving->engine->limits();
    const std::string architecture = limits.encoder ? "gemma-embedding" : "gemma3";
    return DumpJson(
        {{"modelfile", ""},
         {"parameters", ""},
         {"template", ""},
         {"details", Details(*serving)},
         {"model_info",
          {{"general.architecture", architecture},
           {"general.basename", serving->model.id},
           {architecture + ".context_length", limits.context_tokens},
           {architecture + ".embedding_length", limits.hidden_size},
           {architecture + ".vocab_size", limits.vocab_size}}},
         {"capabilities", OrderedJson::array({limits.encoder ? "embedding" : "completion"})},
         {"modified_at", TimeText(serving->model.created)}});
  }

  HttpResult Show(const DoorCall& call) const {
    absl::StatusOr<std::string> body = ShowJson(call.request.body);
    if (!body.ok()) return Error("/api/show", body.status());
    return JsonReply(*std::move(body));
  }

  HttpResult Error(std::string_view endpoint, const absl::Status& status) const {
    return ErrorResult(services_, endpoint, OllamaErrorJson, status);
  }

  const DoorServices services_;
};

}  // namespace

std::unique_ptr<Door> MakeOllamaDoor(const DoorServices& services) {
  return std::make_unique<OllamaDoor>(services);
}

}  // namespace tandem
