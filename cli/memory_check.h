#pragma once

#include <string>
#include <vector>

namespace tandem {

// What `doctor` says of memory that devices share: the node that makes dma-bufs, whether it is
// ours, how large one may be, and how much of the system's memory an AMD GPU can address. What is
// in the way comes with the command that mends it.

struct CheckRow {
  enum class Verdict { kGood, kNote, kMissing };
  Verdict verdict = Verdict::kNote;
  std::string text;
  bool operator==(const CheckRow&) const = default;
};

// `root` stands before every path: "" for this machine, a folder in tests.
std::vector<CheckRow> CheckSharedMemory(const std::string& root);

}  // namespace tandem
