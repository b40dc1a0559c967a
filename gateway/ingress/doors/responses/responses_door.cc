#include "gateway/ingress/doors/responses/responses_door.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/doors/responses/response_store.h"
#include "gateway/ingress/doors/responses/responses_format.h"
#include "gateway/ingress/doors/responses/responses_reader.h"
#include "gateway/ingress/request/json_text.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::string_view kPath = "/v1/responses";
constexpr std::string_view kItems = "/input_items";
// Of the answers that are kept.
constexpr std::size_t kStoreBytes = std::size_t{64} << 20;

absl::Status NotKept(std::string_view id) {
  return absl::NotFoundError(
      Cat("no response '", id.substr(0, 64), "' is kept: perhaps it was stored too long ago"));
}

class ResponsesDoor final : public Door {
 public:
  explicit ResponsesDoor(const DoorServices& services) : services_(services) {}

  std::vector<Route> Routes() override {
    return {{.method = "POST",
             .path = kPath,
             .handle = [this](DoorCall call) { return Create(std::move(call)); }},
            {.method = "GET",
             .path = "/v1/responses/*",
             .handle = [this](const DoorCall& call) { return Get(call); }},
            {.method = "DELETE", .path = "/v1/responses/*", .handle = [this](const DoorCall& call) {
               return Delete(call);
             }}};
  }
  std::string_view prefix() const override { return kPath; }
  ErrorWriter errors() const override { return ErrorJson; }

 private:
  using Store = std::shared_ptr<ResponseStore>;

  // Joins what is asked with the conversation before it.
  absl::StatusOr<ResponsesRequest> Read(const HttpRequest& http, std::vector<Message>& before) {
    TANDEM_ASSIGN_OR_RETURN(ResponsesRequest read, ReadResponsesRequest(http.body, services_.read));
    if (!read.previous_response_id.empty()) {
      const auto previous = store_->Get(read.previous_response_id, http.authorization);
      if (previous == nullptr) {
        return InvalidField("previous_response_id",
                            std::string(NotKept(read.previous_response_id).message()),
                            "previous_response_not_found");
      }
      before = previous->messages;
    }
    read.request.prompts.emplace_back(PromptOf(read, before));
    return read;
  }

  HttpResult Create(DoorCall call) {
    std::vector<Message> before;
    auto read = Read(call.request, before);
    if (!read.ok()) return ErrorResult(services_, kPath, ErrorJson, read.status());
    InferenceRequest request = std::exchange(read->request, {});
    // The answer repeats the parameters, not the prompt.
    read->request.sampling = request.sampling;
    read->request.max_tokens = request.max_tokens;
    read->request.parallel_tool_calls = request.parallel_tool_calls;
    const AnswerPlan plan{
        .endpoint = kPath,
        .errors = ErrorJson,
        .id_prefix = "resp_",
        .format = [this, &read, &before, &call](AnswerInfo info, const InferenceRequest&) {
          ResponseDone done =
              MakeDone(info.id, *read, std::move(before), call.request.authorization);
          return MakeResponsesFormat(std::move(info), *std::move(read), std::move(done));
        }};
    return StartAnswer(services_, call, plan, std::move(request));
  }

  ResponseDone MakeDone(const std::string& id, const ResponsesRequest& request,
                        std::vector<Message> before, std::string owner) const {
    if (!request.store) return nullptr;
    std::vector<Message> messages = std::move(before);
    messages.insert(messages.end(), request.input.begin(), request.input.end());
    StoredResponse stored{.id = id,
                          .owner = std::move(owner),
                          .messages = std::move(messages),
                          .json = "",
                          .input_items = request.input_items};
    return [stored = std::move(stored), store = store_](const std::string& json,
                                                        Message said) mutable {
      stored.messages.push_back(std::move(said));
      stored.json = json;
      store->Put(std::move(stored));
    };
  }

  HttpResult Get(const DoorCall& call) {
    std::string_view id = call.parameter;
    const bool items = id.ends_with(kItems);
    if (items) id.remove_suffix(kItems.size());
    const auto stored = store_->Get(id, call.request.authorization);
    if (stored == nullptr) return ErrorResult(services_, kPath, ErrorJson, NotKept(id));
    return JsonReply(items ? stored->input_items : stored->json);
  }

  HttpResult Delete(const DoorCall& call) {
    if (!store_->Delete(call.parameter, call.request.authorization)) {
      return ErrorResult(services_, kPath, ErrorJson, NotKept(call.parameter));
    }
    return JsonReply(DumpJson({{"id", call.parameter}, {"object", "response"}, {"deleted", true}}));
  }

  const DoorServices services_;
  const Store store_ = std::make_shared<ResponseStore>(kStoreBytes);
};

}  // namespace

std::unique_ptr<Door> MakeResponsesDoor(const DoorServices& services) {
  return std::make_unique<ResponsesDoor>(services);
}

}  // namespace tandem
