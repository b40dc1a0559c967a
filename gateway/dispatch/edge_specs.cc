#include "gateway/dispatch/edge_specs.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lib/base/status_macros.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

constexpr char kInline[] = "inline";

bool Contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
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
                                                        const std::vector<std::string>& allowed,
                                                        std::int32_t slots) {
  std::vector<v1::EdgeSpec> specs;
  for (const PlanEdge& edge : EdgesOf(plan)) {
    const EdgeWorker& from = Find(workers, edge.from);
    const EdgeWorker& to = Find(workers, edge.to);
    const EdgeWorker& owner = from.role != "npu" && to.role == "npu" ? to : from;
    const bool same_host = from.host == to.host && !from.host.empty() && !owner.fd_socket.empty();
    v1::EdgeSpec spec;
    spec.set_id(absl::StrCat(edge.from, ">", edge.to));
    spec.set_from(edge.from);
    spec.set_to(edge.to);
    spec.set_owner(owner.name);
    spec.set_owner_fd_socket(owner.fd_socket);
    spec.set_consumer_address(to.address);
    spec.set_slots(slots);
    for (const std::string& kind : allowed) {
      const bool usable =
          kind == kInline || (same_host && Contains(from.kinds, kind) && Contains(to.kinds, kind));
      if (usable) spec.add_kinds(kind);
    }
    if (spec.kinds().empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("edge ", spec.id(), same_host ? "" : " (between two hosts)",
                       ": no kind is left of those allowed (", absl::StrJoin(allowed, ", "), "); ",
                       from.name, " can use ", absl::StrJoin(from.kinds, ", "), "; ", to.name,
                       " can use ", absl::StrJoin(to.kinds, ", ")));
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace tandem
