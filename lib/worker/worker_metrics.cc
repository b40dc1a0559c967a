#include "lib/worker/worker_metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "lib/base/fd.h"
#include "lib/telemetry/metrics_page.h"
#include "lib/worker/worker_engine.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

std::string LossesFile(const std::string& fd_socket) { return fd_socket + ".losses"; }

double Number(std::uint64_t value) { return static_cast<double>(value); }

void AddDevice(const v1::WorkerDescription& worker, MetricsPage* page) {
  const v1::DeviceDescription& device = worker.device();
  const MetricsPage::Labels name = {{"worker", worker.name()}};
  page->Gauge("tandem_device_info", "1, with what the device is.", 1,
              {{"worker", worker.name()},
               {"kind", device.kind()},
               {"device", device.name()},
               {"driver", device.driver()}});
  page->Gauge("tandem_device_healthy", "1 while the device's last probe gave the right result.",
              worker.healthy() ? 1 : 0, name);
  page->Counter("tandem_device_losses_total",
                "Times that the device was lost and its worker ended.",
                Number(worker.device_losses()), name);
  page->Gauge("tandem_device_memory_bytes", "Memory of the device, as its driver says.",
              Number(device.memory_bytes()), name);
  page->Counter("tandem_device_submissions_total", "Pieces of work given to the device.",
                Number(device.submissions()), name);
  page->Counter("tandem_device_allocations_total",
                "Allocations of device memory; none in a steady step.",
                Number(device.allocations()), name);
  page->Counter("tandem_device_command_recordings_total",
                "Command buffers recorded; none in a steady step.",
                Number(device.command_recordings()), name);
}

void AddStages(const v1::WorkerDescription& worker, MetricsPage* page) {
  double run = 0;
  for (const v1::StageDescription& stage : worker.stages()) {
    const MetricsPage::Labels labels = {
        {"worker", worker.name()}, {"device", worker.device().name()}, {"stage", stage.name()}};
    page->Counter("tandem_stage_runs_total", "Runs of a stage, one each micro-batch.",
                  Number(stage.runs()), labels);
    page->Counter("tandem_stage_run_seconds_total", "Time of a stage on the device.",
                  stage.run_seconds(), labels);
    page->Counter("tandem_stage_wait_seconds_total",
                  "Time that a stage waited for a neighbour before or behind it.",
                  stage.wait_seconds(), labels);
    run += stage.run_seconds();
  }
  if (worker.stages().empty()) return;
  page->Counter("tandem_device_busy_seconds_total", "Time in which the device ran stages.", run,
                {{"worker", worker.name()}});
}

void AddEdges(const v1::WorkerDescription& worker, MetricsPage* page) {
  for (const v1::EdgeDescription& edge : worker.edges()) {
    page->Counter("tandem_edge_wait_seconds_total",
                  "Time that this end of an edge waited for the other one: for rows (data) or for "
                  "room (space).",
                  edge.wait_seconds(),
                  {{"worker", worker.name()},
                   {"edge", edge.id()},
                   {"kind", edge.kind()},
                   {"for", edge.to() == worker.name() ? "data" : "space"}});
    page->Counter("tandem_edge_handovers_total", "Hand-overs that this end has made or taken.",
                  Number(edge.sequence()),
                  {{"worker", worker.name()}, {"edge", edge.id()}, {"kind", edge.kind()}});
  }
}

void AddMemory(const v1::WorkerDescription& worker, MetricsPage* page) {
  std::map<std::string, std::uint64_t> bytes;
  for (const v1::WeightsDescription& weights : worker.weights()) {
    // "upload (why)" is one kind, whatever the reason.
    bytes[weights.import_kind().substr(0, weights.import_kind().find(' '))] += weights.bytes();
  }
  for (const auto& [kind, sum] : bytes) {
    page->Gauge("tandem_weights_imported_bytes",
                "Weights that the device uses, by how it got them.", Number(sum),
                {{"worker", worker.name()}, {"import", kind}});
  }
  page->Gauge("tandem_kv_cache_bytes", "Memory of the KV cache on this worker.",
              Number(worker.kv_cache_bytes()), {{"worker", worker.name()}});
}

}  // namespace

void AddWorkerMetrics(const v1::WorkerDescription& worker, MetricsPage* page) {
  const MetricsPage::Labels name = {{"worker", worker.name()}};
  AddDevice(worker, page);
  page->Gauge("tandem_generation",
              "Generation of the plan that this worker has a part in; 0: none.",
              Number(worker.generation()), name);
  page->Counter("tandem_worker_steps_total", "Steps that this worker has done in this generation.",
                Number(worker.steps_done()), name);
  page->Counter("tandem_worker_tokens_total",
                "Tokens that went through this worker's stages in this generation.",
                Number(worker.tokens_done()), name);
  AddStages(worker, page);
  AddEdges(worker, page);
  AddMemory(worker, page);
}

std::string WorkerMetricsText(WorkerEngine& engine) {
  v1::WorkerDescription description;
  engine.Describe(&description);
  MetricsPage page;
  AddWorkerMetrics(description, &page);
  page.AddProcess();
  return page.Text();
}

std::uint64_t ReadDeviceLosses(const std::string& fd_socket) {
  if (fd_socket.empty()) return 0;
  const UniqueFd file(
      ::open(LossesFile(fd_socket).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  char text[24];
  const ssize_t got = file.valid() ? ::read(file.get(), text, sizeof(text)) : -1;
  std::uint64_t losses = 0;
  const bool number =
      got > 0 && absl::SimpleAtoi(absl::string_view(text, static_cast<std::size_t>(got)), &losses);
  return number ? losses : 0;
}

void WriteDeviceLosses(const std::string& fd_socket, std::uint64_t losses) {
  if (fd_socket.empty()) return;
  const UniqueFd file(::open(LossesFile(fd_socket).c_str(),
                             O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  const std::string text = absl::StrCat(losses, "\n");
  // Nothing can be done where it fails: the process ends now.
  if (file.valid()) [[maybe_unused]]
    const ssize_t n = ::write(file.get(), text.data(), text.size());
}

}  // namespace tandem
