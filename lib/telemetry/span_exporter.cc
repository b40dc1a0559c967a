#include "lib/telemetry/span_exporter.h"

#include <prometheus/counter.h>
#include <prometheus/registry.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>

#include "absl/status/statusor.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/base/version.h"

namespace tandem {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using OrderedJson = nlohmann::ordered_json;

constexpr std::size_t kBatch = 512;
constexpr std::chrono::milliseconds kGather{500};
constexpr std::chrono::seconds kPostTime{3};
constexpr std::chrono::seconds kLastPostTime{1};
constexpr std::chrono::seconds kFarewell{2};
constexpr std::chrono::seconds kPauseAfterFailure{5};
constexpr std::size_t kMostReplyBytes = 1 << 20;

struct Endpoint {
  // As the Host header has it.
  std::string authority;
  std::string host;
  std::string port;
  std::string path;
};

absl::StatusOr<Endpoint> ParseEndpoint(const std::string& text) {
  constexpr std::string_view kScheme = "http://";
  const auto bad = [&] {
    return absl::InvalidArgumentError(
        Cat("expected http://host:port/path, such as http://127.0.0.1:4318/v1/traces, found '",
            text, "'"));
  };
  const bool printable =
      std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (!printable || !std::string_view(text).starts_with(kScheme)) return bad();
  const std::string_view rest = std::string_view(text).substr(kScheme.size());
  const std::size_t slash = rest.find('/');
  const std::string_view authority = rest.substr(0, slash);
  const std::size_t colon = authority.rfind(':');
  if (slash == std::string_view::npos || colon == std::string_view::npos) return bad();
  std::string_view host = authority.substr(0, colon);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  const std::string_view port = authority.substr(colon + 1);
  const bool digits = !port.empty() && port.size() <= 5 &&
                      port.find_first_not_of("0123456789") == std::string_view::npos;
  // Names and passwords have no place here, and an IPv6 address needs its brackets.
  const bool named = !host.empty() && host.find_first_of(bracketed ? "@[]" : "@[]:") == host.npos;
  if (!digits || !named) return bad();
  return Endpoint{std::string(authority), std::string(host), std::string(port),
                  std::string(rest.substr(slash))};
}

OrderedJson Attribute(const std::string& key, const Span::Value& value) {
  OrderedJson typed;
  if (const auto* text = std::get_if<std::string>(&value)) typed["stringValue"] = *text;
  // OTLP's JSON has 64-bit numbers as text.
  if (const auto* number = std::get_if<std::int64_t>(&value))
    typed["intValue"] = std::to_string(*number);
  if (const auto* real = std::get_if<double>(&value)) typed["doubleValue"] = *real;
  return {{"key", key}, {"value", typed}};
}

OrderedJson SpanJson(const Span& span) {
  OrderedJson json = {{"traceId", HexOf(span.context.trace_id)},
                      {"spanId", HexOf(span.context.span_id)}};
  if (span.parent != TraceContext::SpanId{}) json["parentSpanId"] = HexOf(span.parent);
  json["name"] = span.name;
  json["kind"] = static_cast<int>(span.kind);
  json["startTimeUnixNano"] = std::to_string(span.begin_ns);
  json["endTimeUnixNano"] = std::to_string(span.end_ns);
  json["attributes"] = OrderedJson::array();
  for (const auto& [key, value] : span.attributes)
    json["attributes"].push_back(Attribute(key, value));
  constexpr int kError = 2;
  json["status"] = OrderedJson::object();
  if (!span.error.empty()) json["status"] = {{"code", kError}, {"message", span.error}};
  return json;
}

// An ExportTraceServiceRequest of opentelemetry-proto, as JSON.
std::string BodyOf(const std::vector<Span>& spans) {
  std::map<SpanSource, OrderedJson> by_source;
  for (const Span& span : spans) {
    OrderedJson& list = by_source.try_emplace(span.source, OrderedJson::array()).first->second;
    list.push_back(SpanJson(span));
  }
  OrderedJson resources = OrderedJson::array();
  for (auto& [source, list] : by_source) {
    OrderedJson attributes =
        OrderedJson::array({Attribute("service.namespace", std::string("tandem")),
                            Attribute("service.name", source.service),
                            Attribute("service.instance.id", source.instance),
                            Attribute("service.version", std::string(kVersion))});
    OrderedJson scope = {{"scope", {{"name", "tandem"}}}, {"spans", std::move(list)}};
    resources.push_back({{"resource", {{"attributes", std::move(attributes)}}},
                         {"scopeSpans", OrderedJson::array({std::move(scope)})}});
  }
  const OrderedJson body = {{"resourceSpans", std::move(resources)}};
  return body.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

// OK, UNAVAILABLE for what may go well later, or INTERNAL.
absl::Status StatusOfReply(unsigned status) {
  if (status / 100 == 2) return absl::OkStatus();
  const std::string text = Cat("the answer was ", status);
  const bool later = status == 429 || status == 502 || status == 503 || status == 504;
  return later ? absl::UnavailableError(text) : absl::InternalError(text);
}

// One request on a connection of its own: there are two a second at most.
absl::Status Post(const Endpoint& endpoint, std::string body, std::chrono::seconds limit) {
  asio::io_context io;
  beast::tcp_stream stream(io);
  stream.expires_after(limit);
  tcp::resolver resolver(io);
  http::request<http::string_body> request(http::verb::post, endpoint.path, 11);
  request.set(http::field::host, endpoint.authority);
  request.set(http::field::user_agent, Cat("tandem/", kVersion));
  request.set(http::field::content_type, "application/json");
  request.set(http::field::connection, "close");
  request.body() = std::move(body);
  request.prepare_payload();
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMostReplyBytes);
  absl::Status status = absl::UnavailableError("no answer in time");
  const auto after = [&status](const char* what, std::function<void()> next) {
    return [&status, what, next = std::move(next)](boost::system::error_code error, auto&&...) {
      if (!error) return next();
      status = absl::UnavailableError(Cat(what, ": ", error.message()));
    };
  };
  const std::function<void()> done = [&] { status = StatusOfReply(parser.get().result_int()); };
  const std::function<void()> read = [&] {
    http::async_read(stream, buffer, parser, after("reading the answer", done));
  };
  const std::function<void()> write = [&] {
    http::async_write(stream, request, after("sending", read));
  };
  resolver.async_resolve(
      endpoint.host, endpoint.port,
      [&](boost::system::error_code error, tcp::resolver::results_type found) {
        after("resolving", [&] { stream.async_connect(found, after("connecting", write)); })(error);
      });
  io.run_for(limit + std::chrono::seconds(1));
  return status;
}

}  // namespace

struct SpanExporter::Impl {
  explicit Impl(std::shared_ptr<prometheus::Registry> given)
      : registry(std::move(given)),
        counted(prometheus::BuildCounter()
                    .Name("tandem_trace_spans_total")
                    .Help("Spans of traces: sent to the collector, or dropped.")
                    .Register(*registry)),
        sent(counted.Add({{"result", "sent"}})),
        dropped(counted.Add({{"result", "dropped"}})) {}

  void Run();
  std::vector<Span> TakeBatch();
  void Settle(std::vector<Span> batch, const absl::Status& status);

  Endpoint endpoint;
  const std::shared_ptr<prometheus::Registry> registry;
  prometheus::Family<prometheus::Counter>& counted;
  prometheus::Counter& sent;
  prometheus::Counter& dropped;

  std::mutex mutex;
  std::condition_variable changed;
  // Guarded, as all below.
  bool stopping = false;
  bool ended = false;
  // Nobody waits for the end any more: the process may be on its way out.
  bool abandoned = false;
  std::vector<Span> waiting;
  // Of those that wait, the ones that are being sent.
  std::size_t under_way = 0;
};

std::vector<Span> SpanExporter::Impl::TakeBatch() {
  const auto end = waiting.begin() + static_cast<std::ptrdiff_t>(std::min(kBatch, waiting.size()));
  std::vector<Span> batch(std::make_move_iterator(waiting.begin()), std::make_move_iterator(end));
  waiting.erase(waiting.begin(), end);
  under_way = batch.size();
  return batch;
}

// What the collector may take later goes back to the head of the queue.
void SpanExporter::Impl::Settle(std::vector<Span> batch, const absl::Status& status) {
  under_way = 0;
  if (absl::IsUnavailable(status)) {
    waiting.insert(waiting.begin(), std::make_move_iterator(batch.begin()),
                   std::make_move_iterator(batch.end()));
    return;
  }
  (status.ok() ? sent : dropped).Increment(static_cast<double>(batch.size()));
}

void SpanExporter::Impl::Run() {
  bool failing = false;
  std::unique_lock<std::mutex> lock(mutex);
  while (true) {
    changed.wait(lock, [this] { return stopping || !waiting.empty(); });
    if (waiting.empty()) break;
    // More may belong to the same request.
    changed.wait_for(lock, kGather, [this] { return stopping || waiting.size() >= kBatch; });
    std::vector<Span> batch = TakeBatch();
    const bool last = stopping;
    lock.unlock();
    const absl::Status status = Post(endpoint, BodyOf(batch), last ? kLastPostTime : kPostTime);
    lock.lock();
    if (abandoned) return;
    if (status.ok() == failing) {
      failing = !failing;
      if (failing) spdlog::warn("traces are not taken: {}", std::string(status.message()));
      if (!failing) spdlog::info("traces are taken again");
    }
    Settle(std::move(batch), status);
    if (status.ok()) continue;
    if (last) break;
    changed.wait_for(lock, kPauseAfterFailure, [this] { return stopping; });
  }
  ended = true;
  changed.notify_all();
}

SpanExporter::SpanExporter() = default;

absl::Status SpanExporter::Start(const std::string& endpoint,
                                 std::shared_ptr<prometheus::Registry> registry) {
  TANDEM_CHECK(!on());
  TANDEM_ASSIGN_OR_RETURN(Endpoint parsed, ParseEndpoint(endpoint));
  impl_ = std::make_shared<Impl>(std::move(registry));
  impl_->endpoint = std::move(parsed);
  std::thread([impl = impl_] { impl->Run(); }).detach();
  return absl::OkStatus();
}

SpanExporter::~SpanExporter() {
  if (!on()) return;
  std::unique_lock<std::mutex> lock(impl_->mutex);
  impl_->stopping = true;
  impl_->changed.notify_all();
  impl_->abandoned = !impl_->changed.wait_for(lock, kFarewell, [this] { return impl_->ended; });
}

void SpanExporter::Add(Span span) {
  if (!on()) return;
  {
    const std::lock_guard<std::mutex> lock(impl_->mutex);
    if (impl_->waiting.size() + impl_->under_way >= kMaxWaiting) {
      return impl_->dropped.Increment();
    }
    impl_->waiting.push_back(std::move(span));
  }
  impl_->changed.notify_one();
}

}  // namespace tandem
