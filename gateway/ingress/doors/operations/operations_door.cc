#include "gateway/ingress/doors/operations/operations_door.h"

#include "gateway/ingress/answer/answer_job.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::string_view kPlain = "text/plain; charset=utf-8";

class OperationsDoor final : public Door {
 public:
  explicit OperationsDoor(const DoorServices& services) : services_(services) {}

  std::vector<Route> Routes() override {
    const auto alive = [](const DoorCall&) { return Text("ok\n", kPlain); };
    const auto ready = [this](const DoorCall&) { return Ready(Text("ok\n", kPlain)); };
    const auto health = [this](const DoorCall&) { return Ready(JsonReply(R"({"status":"ok"})")); };
    return {{.method = "GET", .path = "/healthz", .handle = alive, .open = true, .essential = true},
            {.method = "GET", .path = "/health", .handle = health, .open = true, .essential = true},
            {.method = "GET", .path = "/readyz", .handle = ready, .open = true, .essential = true}};
  }
  std::string_view prefix() const override { return "/"; }
  ErrorWriter errors() const override { return ErrorJson; }

 private:
  static HttpResult Text(std::string body, std::string_view content_type) {
    HttpReply reply;
    reply.content_type = std::string(content_type);
    reply.body = std::move(body);
    return {.reply = std::move(reply), .job = nullptr};
  }

  absl::Status Readiness() const {
    TANDEM_ASSIGN_OR_RETURN(const std::shared_ptr<const Serving> serving, services_.serving.Get());
    return serving->engine->Ready();
  }
  HttpResult Ready(HttpResult yes) const {
    const absl::Status status = Readiness();
    if (status.ok()) return yes;
    return {.reply = ErrorReplyFor(absl::UnavailableError(status.message()), ErrorJson),
            .job = nullptr};
  }

  const DoorServices services_;
};

}  // namespace

std::unique_ptr<Door> MakeOperationsDoor(const DoorServices& services) {
  return std::make_unique<OperationsDoor>(services);
}

}  // namespace tandem
