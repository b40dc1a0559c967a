#include "lib/telemetry/metrics_page.h"

#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "lib/base/version.h"

namespace tandem {
namespace {

// Where proc(5) puts them, counted after the name of the program in brackets, which may hold
// anything.
constexpr std::size_t kStartTicks = 19;
constexpr std::size_t kVirtualBytes = 20;
constexpr std::size_t kResidentPages = 21;

struct ProcessNumbers {
  double start_seconds = 0;
  double virtual_bytes = 0;
  double resident_bytes = 0;
};

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

double BootSeconds() {
  timespec now{};
  timespec up{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  return static_cast<double>(now.tv_sec - up.tv_sec) +
         static_cast<double>(now.tv_nsec - up.tv_nsec) * 1e-9;
}

// Zeros where /proc cannot be read (no descriptor left).
ProcessNumbers ReadProcess() {
  std::ifstream file("/proc/self/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::size_t end = text.rfind(')');
  ProcessNumbers numbers;
  if (end == std::string::npos || end + 2 > text.size()) return numbers;
  const std::vector<std::string> fields = absl::StrSplit(text.substr(end + 2), ' ');
  const auto field = [&](std::size_t index) {
    double value = 0;
    return index < fields.size() && absl::SimpleAtod(fields[index], &value) ? value : 0.0;
  };
  // Rounded, so that it stays the same from one scrape to the next.
  numbers.start_seconds = static_cast<double>(static_cast<long long>(BootSeconds() + 0.5)) +
                          field(kStartTicks) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  numbers.virtual_bytes = field(kVirtualBytes);
  numbers.resident_bytes = field(kResidentPages) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  return numbers;
}

double CountDescriptors() {
  std::error_code error;
  double count = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    ++count;
  }
  return count;
}

}  // namespace

prometheus::ClientMetric& MetricsPage::Metric(std::string_view name, std::string_view help,
                                              prometheus::MetricType type, const Labels& labels) {
  const auto [it, added] = by_name_.try_emplace(std::string(name), families_.size());
  if (added) {
    prometheus::MetricFamily& family = families_.emplace_back();
    family.name = std::string(name);
    family.help = std::string(help);
    family.type = type;
  }
  prometheus::ClientMetric& metric = families_[it->second].metric.emplace_back();
  for (const auto& [key, value] : labels) metric.label.push_back({key, value});
  return metric;
}

void MetricsPage::Gauge(std::string_view name, std::string_view help, double value,
                        const Labels& labels) {
  Metric(name, help, prometheus::MetricType::Gauge, labels).gauge.value = value;
}

void MetricsPage::Counter(std::string_view name, std::string_view help, double value,
                          const Labels& labels) {
  Metric(name, help, prometheus::MetricType::Counter, labels).counter.value = value;
}

void MetricsPage::Add(std::vector<prometheus::MetricFamily> families) {
  for (prometheus::MetricFamily& family : families) {
    by_name_.emplace(family.name, families_.size());
    families_.push_back(std::move(family));
  }
}

void MetricsPage::AddProcess() {
  Gauge("tandem_build_info", "1, with the version that runs.", 1, {{"version", kVersion}});
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  Counter("process_cpu_seconds_total", "Processor time used, in user and system mode.",
          Seconds(usage.ru_utime) + Seconds(usage.ru_stime));
  const ProcessNumbers numbers = ReadProcess();
  Gauge("process_start_time_seconds", "When the process started, in Unix time.",
        numbers.start_seconds);
  Gauge("process_virtual_memory_bytes", "Virtual memory.", numbers.virtual_bytes);
  Gauge("process_resident_memory_bytes", "Memory in RAM, shared weights included.",
        numbers.resident_bytes);
  Gauge("process_open_fds", "Open descriptors.", CountDescriptors());
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  Gauge("process_max_fds", "Descriptors that may be open.", static_cast<double>(limit.rlim_cur));
}

std::string MetricsPage::Text() const { return prometheus::TextSerializer().Serialize(families_); }

}  // namespace tandem
