#include "gateway/ingress/watch/watch_pages.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/status_wire.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/telemetry/metrics_page.h"
#include "lib/telemetry/metrics_port.h"
#include "tandem/v1/inference.pb.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kMetrics = "/metrics";
constexpr std::string_view kProcess = "/metrics/process/";
constexpr std::string_view kTargets = "/metrics/targets";
constexpr std::string_view kVllm = "/metrics/vllm";
constexpr std::string_view kStatus = "/status";

HttpReply Page(std::string text) {
  HttpReply reply;
  reply.content_type = std::string(kMetricsContentType);
  reply.body = std::move(text);
  return reply;
}

HttpReply JsonPage(std::string text) {
  HttpReply reply;
  reply.headers.emplace_back("Cache-Control", "no-store");
  reply.body = std::move(text);
  return reply;
}

}  // namespace

std::span<const std::string_view> WatchPages::Paths() {
  static constexpr std::string_view kPaths[] = {kMetrics, kTargets, kVllm, kStatus,
                                                "/metrics/process/*"};
  return kPaths;
}

HttpResult WatchPages::Handle(std::string_view path, std::string_view host,
                              std::function<void()> wake) const {
  if (path == kMetrics) return {.reply = Page(metrics_.Text()), .job = nullptr};
  if (path == kTargets) return {.reply = Targets(host), .job = nullptr};
  if (path == kVllm) return {.reply = Vllm(), .job = nullptr};
  if (path == kStatus) return {.reply = Status(), .job = nullptr};
  return {.reply = std::nullopt,
          .job = std::make_unique<ProcessPageJob>(
              sources_.process_page, std::string(path.substr(kProcess.size())), std::move(wake))};
}

// https://prometheus.io/docs/prometheus/latest/http_sd/
HttpReply WatchPages::Targets(std::string_view host) const {
  const auto target = [&](const std::string& path, const std::string& name,
                          const std::string& role) {
    return OrderedJson{{"targets", OrderedJson::array({std::string(host)})},
                       {"labels", {{"__metrics_path__", path}, {"process", name}, {"role", role}}}};
  };
  OrderedJson groups = OrderedJson::array({target(std::string(kMetrics), "gateway", "gateway")});
  for (const WatchedProcess& process : sources_.processes)
    groups.push_back(target(Cat(kProcess, process.name), process.name, process.role));
  return JsonPage(groups.dump());
}

HttpReply WatchPages::Vllm() const {
  const ClusterStatus status = sources_.status();
  double use = 0;
  for (const KvStatus& kv : status.kv)
    use = std::max(use, static_cast<double>(kv.reserved) / std::max(1, kv.blocks));
  const MetricsPage::Labels labels = {{"model_name", status.model}};
  MetricsPage page;
  page.Gauge("vllm:num_requests_running", "Requests that hold a slot.", status.running, labels);
  page.Gauge("vllm:num_requests_waiting", "Requests in the queue.", status.waiting, labels);
  page.Gauge("vllm:kv_cache_usage_perc",
             "Share of the KV cache that running requests keep; 1 is all of it.", use, labels);
  return Page(page.Text());
}

HttpReply WatchPages::Status() const {
  std::string text;
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  const auto printed =
      google::protobuf::util::MessageToJsonString(ToWire(sources_.status()), &text, options);
  TANDEM_CHECK(printed.ok());
  return JsonPage(std::move(text));
}

}  // namespace tandem
