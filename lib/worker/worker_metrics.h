#pragma once

#include <cstdint>
#include <string>

namespace tandem::v1 {
class WorkerDescription;
}

namespace tandem {

class MetricsPage;
class WorkerEngine;

// What a worker's description says, as metrics. Labels are bounded by the plan: stages, edges and
// kinds of imports.
void AddWorkerMetrics(const v1::WorkerDescription& description, MetricsPage* page);
// The whole page of a worker. Any thread.
std::string WorkerMetricsText(WorkerEngine& engine);

// A worker whose device is lost ends at once: the count of losses outlives it in a small file
// beside its descriptor socket. Without a socket there is no file, and the count is 0. A file that
// holds no number counts as 0, too.
std::uint64_t ReadDeviceLosses(const std::string& fd_socket);
void WriteDeviceLosses(const std::string& fd_socket, std::uint64_t losses);

}  // namespace tandem
