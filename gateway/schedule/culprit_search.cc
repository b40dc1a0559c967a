#include "gateway/schedule/culprit_search.h"

#include <algorithm>

namespace tandem {

bool CulpritSearch::OnTrial(std::uint64_t id) const {
  const std::span<const std::uint64_t> members = group();
  return std::find(members.begin(), members.end(), id) != members.end();
}

std::span<const std::uint64_t> CulpritSearch::group() const {
  return groups_.empty() ? std::span<const std::uint64_t>() : groups_.front();
}

void CulpritSearch::Suspect(std::span<const std::uint64_t> ids) {
  for (const std::uint64_t id : ids) Leave(id);
  std::erase_if(groups_, [](const auto& members) { return members.empty(); });
  const std::size_t half = (ids.size() + 1) / 2;
  if (half < ids.size()) groups_.emplace_front(ids.begin() + static_cast<int>(half), ids.end());
  if (half > 0) groups_.emplace_front(ids.begin(), ids.begin() + static_cast<int>(half));
}

void CulpritSearch::Leave(std::uint64_t id) {
  for (std::vector<std::uint64_t>& members : groups_) std::erase(members, id);
}

void CulpritSearch::Advance() {
  while (!groups_.empty() && groups_.front().empty()) groups_.pop_front();
}

}  // namespace tandem
