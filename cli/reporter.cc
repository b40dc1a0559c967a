#include "cli/reporter.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"

namespace tandem {
namespace {

std::string Bytes(double bytes) {
  return bytes >= 1e9 ? fmt::format("{:.1f} GB", bytes / 1e9)
                      : fmt::format("{:.1f} MB", bytes / 1e6);
}

std::string WithColon(const std::string& detail) {
  return detail.empty() ? std::string() : fmt::format(": {}", detail);
}

void WriteAll(int fd, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = ::write(fd, text.data() + done, text.size() - done);
    if (written <= 0) return;  // nobody reads any more: the cluster goes on
    done += static_cast<std::size_t>(written);
  }
}

class TerminalReporter final : public Reporter {
 public:
  explicit TerminalReporter(int fd) : fd_(fd) {}
  ~TerminalReporter() override {
    if (live_) WriteAll(fd_, "\n");
  }
  void Line(const std::string& text) override {
    WriteAll(fd_, (live_ ? "\r\x1b[K" : "") + text + "\n");
    live_ = false;
  }
  void Progress(const v1::LoadProgress& progress) override {
    Live("loading " + ProgressText(progress, 30));
  }
  void Status(const v1::ClusterStatus& status) override { Live(StatusLine(status)); }

 private:
  void Live(const std::string& text) {
    WriteAll(fd_, "\r\x1b[K" + text);
    live_ = true;
  }
  int fd_;
  bool live_ = false;
};

class PlainReporter final : public Reporter {
 public:
  explicit PlainReporter(int fd) : fd_(fd) {}
  void Line(const std::string& text) override { WriteAll(fd_, text + "\n"); }
  void Progress(const v1::LoadProgress& progress) override {
    const int tenth = progress.bytes_total() == 0
                          ? 0
                          : static_cast<int>(10 * progress.bytes_done() / progress.bytes_total());
    if (tenth == last_tenth_) return;
    last_tenth_ = tenth;
    Line("loading " + ProgressText(progress, 0));
  }
  void Status(const v1::ClusterStatus& status) override {
    const std::string text = status.state() + WithColon(status.detail());
    if (status.state() == last_state_) return;
    last_state_ = status.state();
    Line(text);
  }

 private:
  int fd_;
  int last_tenth_ = -1;
  std::string last_state_;
};

std::string JoinImports(const v1::WorkerStatus& worker) {
  // "layer.0.attention: zero-copy" many times over says no more than "27 regions zero-copy".
  std::map<std::string, int> kinds;
  for (const std::string& import : worker.weight_imports()) {
    const std::size_t colon = import.find(": ");
    ++kinds[colon == std::string::npos ? import : import.substr(colon + 2)];
  }
  std::string text;
  for (const auto& [kind, count] : kinds)
    text += fmt::format("{}{} regions {}", text.empty() ? "" : ", ", count, kind);
  return text;
}

// "ffn 0" after "ffn" and 0: the word and the number of a stage's name; number -1 when it has
// another form.
std::pair<std::string, int> SplitName(const std::string& name) {
  const std::size_t space = name.rfind(' ');
  int number = -1;
  if (space == std::string::npos || !absl::SimpleAtoi(name.substr(space + 1), &number))
    return {name, -1};
  return {name.substr(0, space), number};
}

// "embed, ffn 0-10, ffn 11+head": every stage, with consecutive layers drawn together (a split plan
// has two stages a layer).
std::string JoinStages(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size();) {
    const auto [word, first] = SplitName(names[i]);
    std::size_t end = i + 1;
    while (first >= 0 && end < names.size() &&
           SplitName(names[end]) == std::pair(word, first + static_cast<int>(end - i))) {
      ++end;
    }
    text += text.empty() ? "" : ", ";
    text += end - i > 1
                ? fmt::format("{} {}-{}", word, first, first + static_cast<int>(end - i) - 1)
                : names[i];
    i = end;
  }
  return text;
}

// What there is to say of a device beyond its name, and what of its stages is computed where, the
// longest part first.
std::string DeviceDetails(const v1::WorkerStatus& worker) {
  std::string text;
  for (const v1::DeviceFact& fact : worker.device_facts())
    text += fmt::format("{}{} {}", text.empty() ? "           " : "; ", fact.name(), fact.value());
  if (!text.empty()) text += "\n";
  std::map<std::string, std::vector<v1::DevicePart>> places;
  for (const v1::DevicePart& part : worker.device_parts()) {
    if (part.seconds() >= 0.0005) places[part.where()].push_back(part);
  }
  for (auto& [where, parts] : places) {
    std::sort(parts.begin(), parts.end(), [](const v1::DevicePart& a, const v1::DevicePart& b) {
      return a.seconds() > b.seconds();
    });
    std::string line;
    for (const v1::DevicePart& part : parts)
      line += fmt::format("{}{} {:.3f} s", line.empty() ? "" : ", ", part.name(), part.seconds());
    text += fmt::format("           on the {}: {}\n", where, line);
  }
  return text;
}

std::string StageSummary(const v1::ClusterStatus& status) {
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> by_device;
  for (const v1::StageStatus& s : status.stages())
    by_device[{s.worker(), s.device()}].push_back(s.name());
  std::string text = "stages\n";
  for (const auto& [where, names] : by_device) {
    text += fmt::format("  on {:<8} {}: {}\n", where.first, where.second, JoinStages(names));
  }
  return text;
}

}  // namespace

std::string ProgressText(const v1::LoadProgress& p, int width) {
  const double share = p.bytes_total() == 0 ? 0.0
                                            : static_cast<double>(p.bytes_done()) /
                                                  static_cast<double>(p.bytes_total());
  std::string text;
  if (width > 0) {
    const int full = std::clamp(static_cast<int>(share * width), 0, width);
    text = fmt::format("[{:#<{}}{:-<{}}] ", "", full, "", width - full);
  }
  text +=
      fmt::format("{:3.0f} %  {} of {}, {} of {} tensors", share * 100,
                  Bytes(static_cast<double>(p.bytes_done())),
                  Bytes(static_cast<double>(p.bytes_total())), p.tensors_done(), p.tensors_total());
  if (p.seconds_left() >= 0 && p.state() == v1::LoadProgress::LOADING)
    text += fmt::format(", {:.0f} s left", std::ceil(p.seconds_left()));
  return text;
}

std::string StatusLine(const v1::ClusterStatus& s) {
  if (s.state() != "ready") return s.state() + WithColon(s.detail());
  return fmt::format("ready | plan {} | {:.1f} tok/s | {} running, {} waiting", s.plan(),
                     s.decode_tokens_per_second(), s.running(), s.waiting());
}

std::string StatusTable(const v1::ClusterStatus& s) {
  std::string text = fmt::format(
      "state    {}{}\nmodel    {} ({}{})\nplan     {}\n", s.state(), WithColon(s.detail()),
      s.model(), s.encoder() ? "embedding model, " : "", s.weight_format(), s.plan());
  text += fmt::format(
      "speed    {:.1f} tok/s generated, {:.1f} tok/s of prompts, over the last ten seconds\n",
      s.decode_tokens_per_second(), s.prefill_tokens_per_second());
  text +=
      fmt::format("requests {} running, {} waiting, {} since the start, {} tokens, {} recoveries\n",
                  s.running(), s.waiting(), s.requests_total(), s.tokens_total(), s.recoveries());
  text += "workers\n";
  for (const v1::WorkerStatus& w : s.workers()) {
    text += fmt::format("  {:<8} pid {:<8} {}: {} [{}]{}; {}\n", w.name(), w.pid(), w.device_kind(),
                        w.device_name(), w.driver(),
                        !w.in_plan()    ? ", no part in this plan"
                        : w.connected() ? ""
                                        : ", not connected",
                        JoinImports(w));
    text += DeviceDetails(w);
    if (!w.metrics().empty()) text += fmt::format("  {:<8} /metrics at {}\n", "", w.metrics());
  }
  if (!s.loader_metrics().empty())
    text += fmt::format("  {:<8} /metrics at {}\n", "loader", s.loader_metrics());
  for (const v1::KvStatus& kv : s.kv()) {
    text += fmt::format("kv cache {}: {} of {} blocks kept for running requests, {} filled\n",
                        kv.group(), kv.reserved(), kv.blocks(), kv.taken());
  }
  text += StageSummary(s);
  if (s.edges_size() > 0) text += "edges\n";
  for (const v1::EdgeStatus& e : s.edges()) text += fmt::format("  {:<16} {}\n", e.id(), e.kind());
  return text;
}

std::unique_ptr<Reporter> MakeReporter(int fd) {
  if (::isatty(fd) != 0) return std::make_unique<TerminalReporter>(fd);
  return std::make_unique<PlainReporter>(fd);
}

}  // namespace tandem
