#include "gateway/dispatch/edge_specs.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lib/base/status_macros.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

bool Contains(const std::vector<HandleKind>& list, HandleKind item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

std::string Names(const std::vector<HandleKind>& kinds) {
  return absl::StrJoin(kinds, ", ",
                       [](std::string* out, HandleKind kind) { out->append(NameOf(kind)); });
}

const EdgeWorker& Find(const std::vector<EdgeWorker>& workers, const std::string& name) {
  const auto it = std::find_if(workers.begin(), workers.end(),
                               [&](const EdgeWorker& w) { return w.name == name; });
  TANDEM_CHECK(it != workers.end());
  return *it;
}

}  // namespace

absl::StatusOr<std::vector<v1::EdgeSpec>> MakeEdgeSpecs(const Plan& plan,
                                                        const std::vector<EdgeWorker>& workers,
                                                        const std::vector<HandleKind>& allowed,
                                                        std::int32_t slots) {
  std::vector<v1::EdgeSpec> specs;
  for (const PlanEdge& edge : EdgesOf(plan)) {
    const EdgeWorker& from = Find(workers, edge.from);
    const EdgeWorker& to = Find(workers, edge.to);
    const EdgeWorker& owner =
        from.role != WorkerRole::kNpu && to.role == WorkerRole::kNpu ? to : from;
    const bool same_host = from.host == to.host && !from.host.empty() && !owner.fd_socket.empty();
    v1::EdgeSpec spec;
    spec.set_id(absl::StrCat(edge.from, ">", edge.to));
    spec.set_from(edge.from);
    spec.set_to(edge.to);
    spec.set_owner(owner.name);
    spec.set_owner_fd_socket(owner.fd_socket);
    spec.set_consumer_address(to.address);
    spec.set_slots(slots);
    for (const HandleKind kind : allowed) {
      const bool usable = kind == HandleKind::kInline ||
                          (same_host && Contains(from.kinds, kind) && Contains(to.kinds, kind));
      if (usable) spec.add_kinds(std::string(NameOf(kind)));
    }
    if (spec.kinds().empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "edge ", spec.id(), same_host ? "" : " (between two hosts)",
          ": no kind is left of those allowed (", Names(allowed), "); ", from.name, " can use ",
          Names(from.kinds), "; ", to.name, " can use ", Names(to.kinds)));
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace tandem
