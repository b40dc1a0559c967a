#pragma once

#include <prometheus/metric_family.h>

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tandem {

// Metrics that are made of what a process knows when it is asked, in Prometheus' text format.
// Counting costs nothing along the way; what is counted elsewhere (a prometheus::Registry) can
// stand on the same page. Names end in _total for counters and carry their unit
// (docs/operations.md lists them). Not thread-safe.
class MetricsPage {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;

  void Gauge(std::string_view name, std::string_view help, double value, const Labels& labels = {});
  void Counter(std::string_view name, std::string_view help, double value,
               const Labels& labels = {});
  void Add(std::vector<prometheus::MetricFamily> families);
  // What every process shows: tandem_build_info, and CPU time, memory, descriptors and start of
  // the process under the names that Prometheus' own clients use.
  void AddProcess();

  std::string Text() const;

 private:
  prometheus::ClientMetric& Metric(std::string_view name, std::string_view help,
                                   prometheus::MetricType type, const Labels& labels);

  std::vector<prometheus::MetricFamily> families_;
  // Where each family stands.
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

}  // namespace tandem
