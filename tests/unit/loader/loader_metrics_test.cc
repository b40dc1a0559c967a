#include "loader/serve/loader_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem {
namespace {

using ::testing::HasSubstr;

TEST(LoaderMetrics, SayHowFarTheLoadIs) {
  LoadSnapshot load;
  load.bytes_done = 300;
  load.bytes_total = 1000;
  load.tensors_done = 3;
  load.elapsed = absl::Milliseconds(1500);
  const std::string loading = LoaderMetricsText(load);
  for (const char* line :
       {"tandem_load_ready 0\n", "tandem_load_failed 0\n", "tandem_load_done_bytes 300\n",
        "tandem_load_expected_bytes 1000\n", "tandem_load_done_tensors 3\n",
        "tandem_load_seconds 1.5\n", "process_open_fds"}) {
    EXPECT_THAT(loading, HasSubstr(line));
  }
  load.state = LoadState::kReady;
  EXPECT_THAT(LoaderMetricsText(load), HasSubstr("tandem_load_ready 1\n"));
  load.state = LoadState::kFailed;
  EXPECT_THAT(LoaderMetricsText(load), HasSubstr("tandem_load_failed 1\n"));
}

}  // namespace
}  // namespace tandem
