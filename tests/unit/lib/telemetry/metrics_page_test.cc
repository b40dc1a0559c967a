#include "lib/telemetry/metrics_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_split.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

double ValueOf(const std::string& text, const std::string& name) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.substr(0, name.size() + 1) == name + " ")
      return std::atof(std::string(line.substr(name.size() + 1)).c_str());
  }
  ADD_FAILURE() << "no " << name << " in\n" << text;
  return 0;
}

TEST(MetricsPage, MetricsOfOneNameShareAFamily) {
  MetricsPage page;
  page.Counter("tandem_runs_total", "Runs.", 2, {{"stage", "a \"quoted\"\nname"}});
  page.Gauge("tandem_other", "Other.", 0.5);
  page.Counter("tandem_runs_total", "Runs.", 3, {{"stage", "b"}});
  EXPECT_EQ(page.Text(),
            "# HELP tandem_runs_total Runs.\n"
            "# TYPE tandem_runs_total counter\n"
            "tandem_runs_total{stage=\"a \\\"quoted\\\"\\nname\"} 2\n"
            "tandem_runs_total{stage=\"b\"} 3\n"
            "# HELP tandem_other Other.\n"
            "# TYPE tandem_other gauge\n"
            "tandem_other 0.5\n");
}

TEST(MetricsPage, TheProcessIsThisOne) {
  MetricsPage page;
  page.AddProcess();
  const std::string text = page.Text();
  EXPECT_THAT(text, HasSubstr("tandem_build_info{version=\""));
  EXPECT_GT(ValueOf(text, "process_open_fds"), 2);
  EXPECT_GT(ValueOf(text, "process_resident_memory_bytes"), 1e6);
  EXPECT_GE(ValueOf(text, "process_virtual_memory_bytes"),
            ValueOf(text, "process_resident_memory_bytes"));
  const double age =
      static_cast<double>(::time(nullptr)) - ValueOf(text, "process_start_time_seconds");
  EXPECT_GE(age, -2);
  EXPECT_LE(age, 600);
}

}  // namespace
}  // namespace tandem
