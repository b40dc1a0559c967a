#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/pipeline.h"

namespace tandem {

// What a dispatch costs, roughly: bounds the length of a submission.
struct WorkEstimate {
  double flops = 0;
  double bytes = 0;
};

// One dispatch, ready to be recorded.
struct DispatchPlan {
  const vulkan::Pipeline* pipeline = nullptr;
  vulkan::Groups groups;
  std::array<std::byte, 32> push{};
  std::uint32_t push_bytes = 0;
  WorkEstimate work;

  template <typename Params>
  void SetPush(const Params& params) {
    static_assert(std::is_trivially_copyable_v<Params> && sizeof(Params) <= 32);
    std::memcpy(push.data(), &params, sizeof(params));
    push_bytes = sizeof(params);
  }
};

// One kernel of a stage with the buffers it works on. The buffers are the same for every bucket;
// what is dispatched depends on it.
struct Op {
  std::string name;  // for errors
  std::vector<vulkan::BufferSlice> bindings;
  // Whether it reads or overwrites what the ops since the last barrier wrote or read.
  bool barrier = true;
  // `rows`: the bucket, tokens or logit rows.
  std::function<absl::StatusOr<DispatchPlan>(std::uint32_t rows)> plan;
};

}  // namespace tandem
