#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace tandem {

// Finds the request that makes steps fail, by halves: suspects stand in groups, and only the first
// group is on trial, nobody else runs. A member leaves its group when it has passed the point where
// it failed, or has ended. A group whose step fails is split; a member that fails alone is the
// culprit (the scheduler decides that). Pure; not thread-safe.
class CulpritSearch {
 public:
  bool active() const { return !groups_.empty(); }
  bool OnTrial(std::uint64_t id) const;
  // The group on trial; empty without one, or when all of it have left.
  std::span<const std::uint64_t> group() const;

  // These took part in a step that failed: their two halves (or the only one) come first, in order.
  void Suspect(std::span<const std::uint64_t> ids);
  void Leave(std::uint64_t id);
  // Goes on to the next group that has members, when the first one has none left. To be called only
  // while no step runs, so that a group's steps never meet another's.
  void Advance();
  void Clear() { groups_.clear(); }

 private:
  std::deque<std::vector<std::uint64_t>> groups_;
};

}  // namespace tandem
