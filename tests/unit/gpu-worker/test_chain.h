#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/unit/gpu-worker/kernel_runner.h"

namespace tandem {

// What kernels with CHAINED (kernels/common/chain.glsl) get beside their own: the second link of a
// chain, whose first one has counted all its workgroups or, where it has not `told`, all but one.
// Of other kernels it changes nothing.
class TestChain {
 public:
  explicit TestChain(const std::string& kernel, bool told = true);

  static bool IsChained(const std::string& kernel);
  // A kernel's name without what says that it is one of a chain.
  static std::string Base(const std::string& kernel);

  // `constants` with CUMULATIVE behind them, whose number is the next one in all kernels but
  // stream.comp.
  std::vector<std::uint32_t> Constants(std::vector<std::uint32_t> constants) const;
  // `params` with the link behind them.
  Bytes Push(std::span<const std::byte> params) const;
  // Adds the last two bindings.
  void Bind(std::vector<Bytes>* bindings) const;
  // So many workgroups have counted themselves; and whether the first link was waited for in vain.
  void ExpectDone(const std::vector<Bytes>& bindings, std::uint32_t signals) const;

 private:
  const std::string kernel_;
  const bool told_;
};

}  // namespace tandem
