#include "gpu-worker/stage/chain.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "gpu-worker/kernels/probe/probe_params.h"
#include "gpu-worker/vulkan/timeline.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

// Of chain_probe.comp.
constexpr std::uint32_t kProbeGroup = 64;
constexpr std::uint32_t kLinks = 32;
constexpr std::uint32_t kSeed = 12345;
// No core known has room for so many workgroups, and threads, of the kernel's.
constexpr std::uint32_t kGroupsOfCore = 48;
constexpr absl::Duration kTrialPatience = absl::Seconds(10);

struct TryBuffers {
  std::array<vulkan::Buffer, 2> rows;  // take turns
  vulkan::Buffer words, report;
};

absl::StatusOr<TryBuffers> MakeBuffers(const vulkan::LogicalDevice& device, std::uint64_t count) {
  constexpr std::uint64_t kWord = sizeof(std::uint32_t);
  TryBuffers buffers;
  const auto make = [&](std::uint64_t words, vulkan::Placement placement, vulkan::Buffer* buffer) {
    absl::StatusOr<vulkan::Buffer> made =
        vulkan::Buffer::Create(device, words * kWord, placement, "trial of a chain");
    if (made.ok()) *buffer = *std::move(made);
    return made.status();
  };
  using vulkan::Placement;
  for (vulkan::Buffer& row : buffers.rows)
    TANDEM_RETURN_IF_ERROR(make(count, Placement::kReadback, &row));
  TANDEM_RETURN_IF_ERROR(make(ChainWords(kLinks), Placement::kDevice, &buffers.words));
  TANDEM_RETURN_IF_ERROR(make(1, Placement::kReadback, &buffers.report));
  std::memset(buffers.report.data(), 0, kWord);
  return buffers;
}

// What stands in the row that the last link writes.
std::vector<std::uint32_t> RowAtTheEnd(std::vector<std::uint32_t> row) {
  std::vector<std::uint32_t> next(row.size());
  for (std::uint32_t link = 0; link < kLinks; ++link) {
    for (std::size_t i = 0; i < row.size(); ++i)
      next[i] = row[i] * 5 + row[(i * 17 + 1856) % row.size()] + kSeed;
    row.swap(next);
  }
  return row;
}

}  // namespace

void Chain::Link(Op* op, ChainPlace place) {
  TANDEM_CHECK(ChainWords(links_ + 1) * sizeof(std::uint32_t) <= words_.bytes);
  ++links_;
  const std::uint32_t line = links_ * kernels::kChainLine;
  // The first line has room for a count that nobody waits for.
  op->link = ChainLink{line, links_ == tuning_.mute ? kernels::kChainLine / 2 : line, tuning_.polls,
                       place};
  op->bindings.push_back(words_);
  op->bindings.push_back(report_);
}

absl::Status TryChain(const DeviceContext& context) {
  DeviceContext untimed = context;
  untimed.timer = nullptr;
  const vulkan::LogicalDevice& device = context.device;
  const std::uint32_t groups = kGroupsOfCore * std::max(device.physical().cores, 1u);
  TANDEM_ASSIGN_OR_RETURN(const TryBuffers buffers, MakeBuffers(device, groups * kProbeGroup));
  std::vector<std::uint32_t> row(std::size_t{groups} * kProbeGroup);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<std::uint32_t>(i * i);
  std::memcpy(buffers.rows[0].data(), row.data(), row.size() * sizeof(row[0]));

  const std::uint32_t cumulative = context.tuning.chain.cumulative ? 1 : 0;
  Chain chain(untimed, buffers.words.slice(), buffers.report.slice());
  std::vector<Op> ops;
  for (std::uint32_t link = 0; link < kLinks; ++link) {
    Op op;
    op.name = Cat("link ", link + 1, " of the trial");
    op.bindings = {buffers.rows[link % 2].slice(), buffers.rows[(link + 1) % 2].slice()};
    op.plan = [untimed, groups, cumulative](std::uint32_t) -> absl::StatusOr<DispatchPlan> {
      DispatchPlan plan;
      TANDEM_ASSIGN_OR_RETURN(plan.pipeline, untimed.pipelines.Get("chain_probe", {cumulative}));
      plan.SetPush(kernels::ProbeParams{kSeed});
      plan.groups = {groups, 1, 1};
      plan.signals = groups;
      return plan;
    };
    chain.Link(&op);
    ops.push_back(std::move(op));
  }
  TANDEM_ASSIGN_OR_RETURN(const BucketCommands commands,
                          BucketCommands::Record(untimed, ops, {}, {}, buffers.words.slice()));
  TANDEM_ASSIGN_OR_RETURN(const auto timeline, vulkan::Timeline::Create(device));
  std::uint64_t sent = 0;
  for (const Segment& segment : commands.For(1))
    TANDEM_RETURN_IF_ERROR(
        context.device.Submit({&segment.commands, 1}, timeline.handle(), ++sent));
  TANDEM_RETURN_IF_ERROR(timeline.Wait(sent, Deadline::After(kTrialPatience)));

  std::uint32_t lost = 0;
  std::memcpy(&lost, buffers.report.data(), sizeof(lost));
  if (lost != 0) return absl::AbortedError(Cat("link ", lost, " was waited for in vain"));
  static_assert(kLinks % 2 == 0);
  const std::vector<std::uint32_t> expected = RowAtTheEnd(std::move(row));
  if (std::memcmp(buffers.rows[0].data(), expected.data(), expected.size() * sizeof(lost)) != 0)
    return absl::DataLossError("what a link left did not reach the next one");
  return absl::OkStatus();
}

}  // namespace tandem
