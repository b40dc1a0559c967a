#include "loader/serve/loader_metrics.h"

#include "lib/telemetry/metrics_page.h"

namespace tandem {

std::string LoaderMetricsText(const LoadSnapshot& load) {
  MetricsPage page;
  page.Gauge("tandem_load_ready", "1 once all weights are published.",
             load.state == LoadState::kReady ? 1 : 0);
  page.Gauge("tandem_load_failed", "1 when the load has failed.",
             load.state == LoadState::kFailed ? 1 : 0);
  page.Gauge("tandem_load_done_bytes", "Packed weights so far, those taken back included.",
             static_cast<double>(load.bytes_done));
  page.Gauge("tandem_load_expected_bytes", "Packed weights at the end.",
             static_cast<double>(load.bytes_total));
  page.Gauge("tandem_load_done_tensors", "Tensors packed so far.",
             static_cast<double>(load.tensors_done));
  page.Gauge("tandem_load_seconds", "Time that the load has taken so far, or took.",
             absl::ToDoubleSeconds(load.elapsed));
  page.AddProcess();
  return page.Text();
}

}  // namespace tandem
