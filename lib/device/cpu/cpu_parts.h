#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "lib/base/trace.h"

namespace tandem {

// What a stage on the CPU device consists of, and how long each part has taken since the start.
enum class CpuPart : std::uint8_t {
  kEmbedding,
  kNorms,
  kQuantizing,
  kProducts,
  // RoPE, norms of queries and keys, storing keys and values.
  kCache,
  kAttention,
  kGeGlu,
};
inline constexpr std::array<const char*, 7> kCpuPartNames = {
    "embedding",
    "norms",
    "quantising activations",
    "matrix products",
    "query and key norms, RoPE, KV cache",
    "attention",
    "GeGLU",
};

class CpuPartTimes {
 public:
  void Add(CpuPart part, std::int64_t ns) {
    ns_[static_cast<std::size_t>(part)].fetch_add(ns, std::memory_order_relaxed);
  }
  double Seconds(CpuPart part) const {
    return static_cast<double>(
               ns_[static_cast<std::size_t>(part)].load(std::memory_order_relaxed)) *
           1e-9;
  }

 private:
  std::array<std::atomic<std::int64_t>, kCpuPartNames.size()> ns_{};
};

// Counts the time of its life for a part.
class CpuPartTimer {
 public:
  CpuPartTimer(CpuPartTimes* times, CpuPart part)
      : times_(times), part_(part), begun_ns_(MonotonicNanoseconds()) {}
  ~CpuPartTimer() { times_->Add(part_, MonotonicNanoseconds() - begun_ns_); }
  CpuPartTimer(const CpuPartTimer&) = delete;
  CpuPartTimer& operator=(const CpuPartTimer&) = delete;

 private:
  CpuPartTimes* const times_;
  const CpuPart part_;
  const std::int64_t begun_ns_;
};

}  // namespace tandem
