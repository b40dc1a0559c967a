#include "gateway/dispatch/edge_specs.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "lib/base/numeric.h"
#include "lib/base/shared_memory.h"
#include "lib/base/status_macros.h"
#include "lib/memory/edge_rule.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

const EdgeWorker& Find(const std::vector<EdgeWorker>& workers, const std::string& name) {
  const auto it = std::find_if(workers.begin(), workers.end(),
                               [&](const EdgeWorker& w) { return w.name == name; });
  TANDEM_CHECK(it != workers.end());
  return *it;
}

std::uint64_t RingBytes(const EdgeRing& ring, std::int32_t columns) {
  const std::uint64_t slot = static_cast<std::uint64_t>(ring.max_tokens) *
                             static_cast<std::uint64_t>(columns) * sizeof(float);
  return RoundUp(slot, PageSize()) * static_cast<std::uint64_t>(ring.slots);
}

}  // namespace

bool MayShareMemory(const EdgeWorker& a, const EdgeWorker& b) {
  if (a.host.empty() || b.host.empty() || a.fd_socket.empty() || b.fd_socket.empty()) return false;
  const std::vector<std::string> of_a = absl::StrSplit(a.host, '/');
  const std::vector<std::string> of_b = absl::StrSplit(b.host, '/');
  if (of_a.size() != of_b.size() || of_a.front() != of_b.front() || of_a.front() == "unknown")
    return false;
  bool same = of_a.size() == 1;
  for (std::size_t i = 1; i < of_a.size(); ++i)
    same = same || (of_a[i] == of_b[i] && of_a[i] != "unknown");
  return same;
}

absl::StatusOr<std::vector<v1::EdgeSpec>> MakeEdgeSpecs(const Plan& plan,
                                                        const std::vector<EdgeWorker>& workers,
                                                        const std::vector<HandleKind>& allowed,
                                                        const EdgeRing& ring) {
  EdgeQuestion question;
  question.allowed = allowed;
  std::vector<v1::EdgeSpec> specs;
  for (const PlanEdge& edge : EdgesOf(plan)) {
    const EdgeWorker& from = Find(workers, edge.from);
    const EdgeWorker& to = Find(workers, edge.to);
    question.ring_bytes = RingBytes(ring, EdgeColumns(plan, edge, ring.config));
    question.producer = from.memory;
    question.consumer = to.memory;
    question.same_host = MayShareMemory(from, to);
    const std::string id = absl::StrCat(edge.from, ">", edge.to);
    const absl::StatusOr<EdgeAgreement> agreed = AgreeOnEdge(question);
    if (!agreed.ok()) {
      return Annotate(agreed.status(),
                      absl::StrCat("edge ", id, question.same_host ? "" : " (between two hosts)"));
    }
    const EdgeWorker& owner = agreed->producer_owns ? from : to;
    v1::EdgeSpec spec;
    spec.set_id(id);
    spec.set_from(edge.from);
    spec.set_to(edge.to);
    spec.set_owner(owner.name);
    spec.set_owner_fd_socket(owner.fd_socket);
    spec.set_consumer_address(to.address);
    spec.set_slots(ring.slots);
    for (const HandleKind kind : agreed->kinds) spec.add_kinds(std::string(NameOf(kind)));
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace tandem
