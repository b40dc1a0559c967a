#include <fcntl.h>

#include <utility>

#include "gtest/gtest.h"
#include "lib/device/conformance/conformance_cases.h"
#include "lib/device/kv_blocks.h"

namespace tandem {
namespace {

std::unique_ptr<ModelRunner> Runner(const ConformanceTarget& target, Device* device,
                                    const ConformanceModel& model, KvType type,
                                    std::uint32_t seed) {
  auto runner = ModelRunner::Make(
      device, model.config, model.regions,
      {.activations = ActivationsOf(target), .kv_type = type, .block_seed = seed});
  EXPECT_TRUE(runner.ok()) << runner.status();
  return runner.ok() ? *std::move(runner) : nullptr;
}

// A sequence that goes on in another cache, in other blocks, gives the very values it would have
// given.
void BlocksMoveToAnotherCache(const ConformanceTarget& target, Device* device) {
  const auto model = MakeConformanceModel(ConformanceConfig(), target.formats.back());
  ASSERT_TRUE(model.ok()) << model.status();
  for (const KvType type : target.kv_types) {
    const auto from = Runner(target, device, *model, type, 1);
    const auto to = Runner(target, device, *model, type, 40);
    ASSERT_TRUE(from != nullptr && to != nullptr);
    // Beyond the window: some blocks are left behind. Another sequence has the first ones of `to`.
    const auto tokens = RandomTokens(model->config, 77, 5);
    ASSERT_TRUE(from->Prefill(2, tokens, 24).ok());
    ASSERT_TRUE(to->Prefill(1, RandomTokens(model->config, 30, 6), 30).ok());
    const absl::Status moved = from->HandOver(2, to.get());
    ASSERT_TRUE(moved.ok()) << moved;
    const auto more = RandomTokens(model->config, 21, 7);
    const auto expected = from->Prefill(2, more, 7);
    const auto found = to->Prefill(2, more, 7);
    ASSERT_TRUE(expected.ok() && found.ok()) << expected.status() << found.status();
    EXPECT_EQ(*expected, *found);
  }
}

void BlocksOfAnotherFormAreRefused(const ConformanceTarget& target, Device* device) {
  const auto model = MakeConformanceModel(ConformanceConfig(), target.formats.back());
  ASSERT_TRUE(model.ok()) << model.status();
  const auto runner = Runner(target, device, *model, KvType::kFloat32, 1);
  ASSERT_NE(runner, nullptr);
  KvCache* cache = runner->cache();
  const std::int32_t two[] = {3, 1};
  const std::int32_t wrong[] = {0, cache->spec().global_blocks};
  const KvBlockForm form(model->config, cache->spec());
  const KvBlocks blocks = {two, {}};
  std::vector<std::byte> memory(form.Bytes(blocks));
  EXPECT_EQ(cache->Export(blocks, memory), absl::OkStatus());
  EXPECT_EQ(cache->Import(blocks, memory), absl::OkStatus());
  const auto refused = [](const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  };
  refused(cache->Export({wrong, {}}, memory));
  refused(cache->Import({wrong, {}}, memory));
  refused(cache->Export({{}, wrong}, memory));
  refused(cache->Export(blocks, std::span(memory).first(memory.size() - 1)));
  refused(cache->Import(blocks, std::span(memory).first(memory.size() - 1)));

  // Through shared memory: fewer blocks than are taken, others than are taken, no memory at all.
  const auto take = [&](KvCache* into, const KvBlocks& shared, const KvBlocks& taken) {
    auto memory = ShareKvBlocks(model->config, cache, shared);
    EXPECT_TRUE(memory.ok()) << memory.status();
    return TakeKvBlocks(model->config, into, taken, std::move(memory->fd));
  };
  EXPECT_EQ(take(cache, blocks, blocks), absl::OkStatus());
  refused(take(cache, {std::span(two).first(1), {}}, blocks));
  refused(take(cache, {{}, two}, blocks));
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  refused(TakeKvBlocks(model->config, cache, blocks, std::move(null)));
  for (const KvType type : target.kv_types) {
    if (type == KvType::kFloat32) continue;
    const auto other = Runner(target, device, *model, type, 1);
    ASSERT_NE(other, nullptr);
    refused(take(other->cache(), blocks, blocks));
  }
}

}  // namespace

std::vector<ConformanceCase> KvCases() {
  return {{"kv_blocks_move_to_another_cache", BlocksMoveToAnotherCache},
          {"kv_blocks_of_another_form_are_refused", BlocksOfAnotherFormAreRefused}};
}

}  // namespace tandem
