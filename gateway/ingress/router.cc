#include "gateway/ingress/router.h"

#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "gateway/ingress/answer/answer_format.h"
#include "gateway/ingress/answer/answer_job.h"
#include "gateway/ingress/answer_plan.h"
#include "gateway/ingress/openai/error.h"
#include "gateway/ingress/openai/request.h"
#include "gateway/ingress/page/page_files.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxShownBytes = 100;
constexpr std::string_view kModelPrefix = "/v1/models/";
constexpr std::string_view kChatPath = "/v1/chat/completions";
constexpr std::string_view kCompletionsPath = "/v1/completions";

enum class Route { kHealth, kReady, kPage, kWatch, kModels, kModel, kChat, kCompletions, kNone };

struct RouteRule {
  std::string_view path;
  std::string_view method;
  Route route;
  KeyScope scope = KeyScope::kInference;
};
constexpr std::array<RouteRule, 5> kRoutes = {{
    {"/healthz", "GET", Route::kHealth},
    {"/readyz", "GET", Route::kReady},
    {"/v1/models", "GET", Route::kModels},
    {kChatPath, "POST", Route::kChat},
    {kCompletionsPath, "POST", Route::kCompletions},
}};

std::string_view PathOf(std::string_view target) { return target.substr(0, target.find('?')); }

RouteRule FindRoute(std::string_view path) {
  for (const RouteRule& rule : kRoutes) {
    if (rule.path == path) return rule;
  }
  if (path.starts_with(kModelPrefix) && path.size() > kModelPrefix.size()) {
    return {kModelPrefix, "GET", Route::kModel};
  }
  if (IsPageFile(path)) return {path, "GET", Route::kPage};
  if (WatchPages::Knows(path)) return {path, "GET", Route::kWatch, KeyScope::kMetrics};
  return {path, "", Route::kNone};
}

// "%2F" and the like as the bytes they stand for; what is no escape stays as it is.
std::string PercentDecode(std::string_view text) {
  const auto digit = [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) ? c - '0'
                                                              : absl::ascii_tolower(c) - 'a' + 10;
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() &&
                        absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 1])) &&
                        absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 2]));
    if (!escape) {
      out.push_back(text[i]);
      continue;
    }
    out.push_back(static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2])));
    i += 2;
  }
  return out;
}

HttpReply JsonReply(const Json& json) {
  HttpReply reply;
  reply.body = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  return reply;
}

Json ModelJson(const Serving& serving) {
  return {{"id", serving.model.id},
          {"object", "model"},
          {"created", serving.model.created},
          {"owned_by", "tandem"},
          {"max_model_len", serving.engine->limits().context_tokens}};
}

bool IsJson(std::string_view content_type) {
  const absl::string_view type =
      absl::StripAsciiWhitespace(AbslView(content_type.substr(0, content_type.find(';'))));
  return absl::EqualsIgnoreCase(type, "application/json");
}

constexpr std::int32_t kDefaultCompletionTokens = 16;  // of OpenAI's legacy API

AnswerOptions OptionsOf(const CommonRequest& common) {
  return AnswerOptions{.sampling = common.sampling,
                       .max_tokens = common.max_tokens,
                       .default_max_tokens = std::nullopt,
                       .stops = common.stops,
                       .echo = false,
                       .ignore_eos = common.ignore_eos};
}

AnswerInfo InfoOf(const Serving& serving, const CommonRequest& common, std::string id) {
  return AnswerInfo{.id = std::move(id),
                    .created = absl::ToUnixSeconds(absl::Now()),
                    .model = serving.model.id,
                    .tokenizer = serving.model.tokenizer,
                    .num_logprobs = common.sampling.num_logprobs,
                    .tokens_as_ids = common.return_tokens_as_token_ids,
                    .include_usage = common.include_usage};
}

AnswerJobSpec JobOf(const CommonRequest& common, std::string id, std::string_view endpoint) {
  AnswerJobSpec job;
  job.id = std::move(id);
  job.n = common.n;
  job.num_logprobs = common.sampling.num_logprobs;
  job.stream = common.stream;
  job.include_usage = common.include_usage;
  job.endpoint = std::string(endpoint);
  return job;
}

absl::StatusOr<AnswerJobSpec> PlanChat(const Serving& serving, std::string_view body) {
  TANDEM_ASSIGN_OR_RETURN(ChatRequest request, ParseChatRequest(body));
  CommonRequest& common = request.common;
  TANDEM_RETURN_IF_ERROR(CheckModelName(serving, common.model));
  if (!common.has_seed) common.sampling.seed = RandomSeed();
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::int32_t> ids, ChatPromptIds(serving, request.messages));
  TANDEM_ASSIGN_OR_RETURN(AnswerSpec spec,
                          PlanAnswer(serving, "messages", std::move(ids), OptionsOf(common)));
  spec.stop_token = EndOfTurnId(*serving.model.tokenizer);
  AnswerJobSpec job = JobOf(common, RandomId("chatcmpl-"), kChatPath);
  job.prompts.push_back(std::move(spec));
  job.format = MakeChatFormat(InfoOf(serving, common, job.id));
  return job;
}

absl::StatusOr<AnswerJobSpec> PlanCompletion(const Serving& serving, std::string_view body) {
  TANDEM_ASSIGN_OR_RETURN(CompletionRequest request, ParseCompletionRequest(body));
  CommonRequest& common = request.common;
  TANDEM_RETURN_IF_ERROR(CheckModelName(serving, common.model));
  if (!common.has_seed) common.sampling.seed = RandomSeed();
  AnswerOptions options = OptionsOf(common);
  options.default_max_tokens = kDefaultCompletionTokens;
  options.echo = request.echo;
  AnswerJobSpec job = JobOf(common, RandomId("cmpl-"), kCompletionsPath);
  for (Prompt& prompt : request.prompts) {
    std::vector<std::int32_t> ids;
    if (const std::string* text = std::get_if<std::string>(&prompt)) {
      TANDEM_ASSIGN_OR_RETURN(ids, TextPromptIds(serving, "prompt", *text));
    } else {
      ids = std::get<std::vector<std::int32_t>>(std::move(prompt));
    }
    TANDEM_ASSIGN_OR_RETURN(AnswerSpec spec,
                            PlanAnswer(serving, "prompt", std::move(ids), options));
    job.prompts.push_back(std::move(spec));
  }
  job.format = MakeCompletionFormat(InfoOf(serving, common, job.id));
  return job;
}

}  // namespace

Router::Router(const ServingSlot& serving, const ApiKeys& keys, IngressMetrics& metrics)
    : serving_(serving), keys_(keys), metrics_(metrics), watch_(metrics) {}

void Router::SetHosts(AllowedHosts hosts) { hosts_ = std::move(hosts); }

void Router::SetCors(CorsRules cors) { cors_ = std::move(cors); }

HttpReply Router::ErrorReply(int status, const std::string& message) {
  ApiError error{.http_status = status,
                 .message = message,
                 .type = status >= 500 ? "server_error" : "invalid_request_error",
                 .param = "",
                 .code = ""};
  if (status == 413) error.code = "request_too_large";
  if (status == 503) error.code = "unavailable";
  metrics_.CountRequest("other", status);
  return HttpReply{.status = status,
                   .content_type = "application/json",
                   .headers = {},
                   .body = ErrorJson(error)};
}

// Web pages of other places may make a browser send requests here. They cannot choose Host, and a
// name of theirs that resolves to this machine is not one of ours; nor can they choose Origin.
std::optional<HttpReply> Router::RefusePage(const HttpRequest& head) {
  if (head.host_count > 1 || (head.host_count == 0 && head.version >= 11)) {
    return ErrorReply(400, Cat("expected one Host header, found ", head.host_count));
  }
  if (head.host_count == 1 && !hosts_.Allows(head.host)) {
    return ErrorReply(403, Cat("Host '", head.host.substr(0, kMaxShownBytes),
                               "' is not a name of this server: use its address, or start it with "
                               "--allowed_hosts"));
  }
  if (!head.origin.empty() && !IsOriginOf(head.origin, head.host) && !cors_.Allows(head.origin)) {
    return ErrorReply(403, Cat("requests from web pages of '",
                               head.origin.substr(0, kMaxShownBytes), "' are not served"));
  }
  return std::nullopt;
}

std::optional<HttpReply> Router::Refuse(const HttpRequest& head) {
  if (std::optional<HttpReply> refusal = RefusePage(head)) return refusal;
  if (CorsRules::IsPreflight(head)) return CorsRules::PreflightReply(head);
  const std::string_view path = PathOf(head.target);
  const RouteRule rule = FindRoute(path);
  if (rule.route == Route::kHealth || rule.route == Route::kReady || rule.route == Route::kPage) {
    if (head.method == rule.method) return std::nullopt;
  } else if (const absl::Status allowed = keys_.Check(head.authorization, rule.scope);
             !allowed.ok()) {
    HttpReply reply = ErrorReplyFor(allowed);
    metrics_.CountRequest("other", reply.status);
    return reply;
  }
  if (rule.route == Route::kNone) {
    return ErrorReply(404, Cat("unknown path: ", head.method, " ", path));
  }
  if (head.method != rule.method) {
    HttpReply reply = ErrorReply(405, Cat(path, " takes ", rule.method, ", not ", head.method));
    reply.headers.emplace_back("Allow", rule.method == "GET" ? "GET, HEAD" : "POST");
    return reply;
  }
  if (rule.method != "POST") return std::nullopt;
  if (!IsJson(head.content_type)) {
    return ErrorReply(415, Cat("expected Content-Type: application/json, found ",
                               head.content_type.empty() ? "none" : head.content_type));
  }
  if (!head.content_encoding.empty() &&
      !absl::EqualsIgnoreCase(head.content_encoding, "identity")) {
    return ErrorReply(415, Cat("a body with Content-Encoding: ", head.content_encoding,
                               " is not read: send it as it is"));
  }
  return std::nullopt;
}

HttpHeaders Router::HeadersFor(const HttpRequest& head) const {
  return cors_.HeadersFor(head.origin);
}

bool Router::Essential(const HttpRequest& head) const {
  const Route route = FindRoute(PathOf(head.target)).route;
  return route == Route::kHealth || route == Route::kReady || route == Route::kWatch;
}

HttpResult Router::Handle(HttpRequest request, std::function<void()> wake) {
  const std::string_view path = PathOf(request.target);
  switch (FindRoute(path).route) {
    case Route::kHealth:
      return {.reply = Health(), .job = nullptr};
    case Route::kReady:
      return {.reply = Ready(), .job = nullptr};
    case Route::kPage:
      return {.reply = PageFile(path), .job = nullptr};
    case Route::kWatch:
      return watch_.Handle(path, request.host, std::move(wake));
    case Route::kModels:
      return {.reply = Models(), .job = nullptr};
    case Route::kModel:
      return {.reply = Model(PercentDecode(path.substr(kModelPrefix.size()))), .job = nullptr};
    case Route::kChat:
      return Answer(kChatPath, PlanChat, request, std::move(wake));
    case Route::kCompletions:
      return Answer(kCompletionsPath, PlanCompletion, request, std::move(wake));
    case Route::kNone:
      break;
  }
  return {.reply = ErrorReply(404, Cat("unknown path: ", path)), .job = nullptr};
}

HttpReply Router::Health() const {
  HttpReply reply;
  reply.content_type = "text/plain; charset=utf-8";
  reply.body = "ok\n";
  return reply;
}

HttpReply Router::Ready() const {
  const auto serving = serving_.Get();
  const absl::Status status = serving.ok() ? (*serving)->engine->Ready() : serving.status();
  if (!status.ok()) return ErrorReplyFor(absl::UnavailableError(status.message()));
  return Health();
}

HttpReply Router::Models() const {
  const auto serving = serving_.Get();
  if (!serving.ok()) return ErrorReplyFor(serving.status());
  return JsonReply({{"object", "list"}, {"data", Json::array({ModelJson(**serving)})}});
}

HttpReply Router::Model(const std::string& id) const {
  const auto serving = serving_.Get();
  if (!serving.ok()) return ErrorReplyFor(serving.status());
  if (id != (*serving)->model.id) return ErrorReplyFor(ModelNotFound(id));
  return JsonReply(ModelJson(**serving));
}

HttpResult Router::Answer(std::string_view path, PlanFunction plan, const HttpRequest& request,
                          std::function<void()> wake) {
  const auto start = [&]() -> absl::StatusOr<std::unique_ptr<AnswerJob>> {
    TANDEM_ASSIGN_OR_RETURN(KeyUse key, keys_.Admit(request.authorization));
    TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<const Serving> serving, serving_.Get());
    TANDEM_ASSIGN_OR_RETURN(AnswerJobSpec job, plan(*serving, request.body));
    job.serving = std::move(serving);
    job.metrics = &metrics_;
    job.key = std::move(key);
    return AnswerJob::Start(std::move(job), std::move(wake));
  };
  auto job = start();
  if (job.ok()) return {.reply = std::nullopt, .job = *std::move(job)};
  HttpReply reply = ErrorReplyFor(job.status());
  metrics_.CountRequest(path, reply.status);
  return {.reply = std::move(reply), .job = nullptr};
}

}  // namespace tandem
