#include "gateway/dispatch/cluster_plan.h"

#include <set>
#include <utility>

#include "lib/base/status_macros.h"

namespace tandem {

absl::StatusOr<SharedPlan> MakeClusterPlan(std::string_view name, const ModelConfig& config,
                                           const std::vector<ClusterWorker>& workers,
                                           std::int32_t micro_batches) {
  std::vector<PlanWorker> known;
  for (const ClusterWorker& worker : workers) known.push_back({worker.name, worker.role});
  auto made = std::make_shared<ClusterPlan>();
  made->name = std::string(name);
  TANDEM_ASSIGN_OR_RETURN(made->plan, MakePlan(name, config, known));
  std::set<std::string> regions;
  for (std::size_t i = 0; i < workers.size(); ++i) {
    const std::vector<std::string> own = RegionsOf(made->plan, workers[i].name);
    made->members.push_back(own.empty() ? 0 : 1);
    if (workers[i].name == HeadWorkerOf(made->plan)) made->head = i;
    regions.insert(own.begin(), own.end());
  }
  made->regions.assign(regions.begin(), regions.end());
  const auto of_route = [micro_batches](const PlanRoute& route) {
    return micro_batches > 0 ? micro_batches : StagesAlternate(route) ? 2 : 1;
  };
  const std::vector<PlanRoute>& routes = made->plan.routes;
  made->micro_batches = of_route(routes.front());
  if (routes.size() > 1) made->prefill_micro_batches = of_route(routes.at(kPrefillRoute));
  return SharedPlan(std::move(made));
}

bool StagesAlternate(const PlanRoute& route) {
  std::set<std::string> workers;
  std::size_t changes = 0;
  for (std::size_t i = 0; i < route.stages.size(); ++i) {
    workers.insert(route.stages[i].worker);
    changes += i > 0 && route.stages[i].worker != route.stages[i - 1].worker ? 1 : 0;
  }
  // A pipeline passes each worker once and comes back to the first for the head.
  return changes > workers.size();
}

}  // namespace tandem
