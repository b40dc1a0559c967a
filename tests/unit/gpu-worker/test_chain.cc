#include "tests/unit/gpu-worker/test_chain.h"

#include <gtest/gtest.h>

#include "gpu-worker/kernels/common/chain_params.h"

namespace tandem {
namespace {

constexpr char kEnd[] = "_chained";
constexpr std::uint32_t kBefore = 3;  // workgroups of the first link
constexpr std::uint32_t kLine = kernels::kChainLine;

}  // namespace

bool TestChain::IsChained(const std::string& kernel) {
  return kernel.ends_with(kEnd) || kernel == "chain_probe";
}

TestChain::TestChain(const std::string& kernel, bool told) : kernel_(kernel), told_(told) {}

std::string TestChain::Base(const std::string& kernel) {
  return kernel.substr(0, kernel.find(kEnd));
}

std::vector<std::uint32_t> TestChain::Constants(std::vector<std::uint32_t> constants) const {
  if (IsChained(kernel_)) constants.push_back(1);
  return constants;
}

Bytes TestChain::Push(std::span<const std::byte> params) const {
  Bytes push(params.begin(), params.end());
  if (!IsChained(kernel_)) return push;
  const kernels::ChainParams link = {kLine, kBefore, 2 * kLine, 1000};
  const Bytes tail = ToBytes(std::span(&link, 1));
  push.insert(push.end(), tail.begin(), tail.end());
  return push;
}

void TestChain::Bind(std::vector<Bytes>* bindings) const {
  if (!IsChained(kernel_)) return;
  std::vector<std::uint32_t> words(3 * kLine);
  words[kLine] = told_ ? kBefore : kBefore - 1;
  bindings->push_back(ToBytes(words));
  bindings->push_back(Bytes(sizeof(std::uint32_t)));
}

void TestChain::ExpectDone(const std::vector<Bytes>& bindings, std::uint32_t signals) const {
  if (!IsChained(kernel_)) return;
  std::vector<std::uint32_t> expected(3 * kLine);
  expected[kLine] = told_ ? kBefore : kBefore - 1;
  expected[2 * kLine] = signals;
  expected[kernels::kChainFailed] = told_ ? 0 : 1;
  EXPECT_EQ(FromBytes<std::uint32_t>(bindings[bindings.size() - 2]), expected) << kernel_;
  EXPECT_EQ(FromBytes<std::uint32_t>(bindings.back()), std::vector<std::uint32_t>{told_ ? 0u : 1u})
      << kernel_;
}

}  // namespace tandem
