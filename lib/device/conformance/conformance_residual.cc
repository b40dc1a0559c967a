#include <fcntl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "lib/base/dma_buf.h"
#include "lib/device/conformance/conformance_cases.h"

namespace tandem {
namespace {

constexpr WeightFormat kFormats[] = {WeightFormat::kBf16, WeightFormat::kInt8, WeightFormat::kInt4};

// The best format that the device takes.
absl::StatusOr<ConformanceModel> AnyModel(const ConformanceTarget& target) {
  for (const WeightFormat format : kFormats) {
    if (std::count(target.formats.begin(), target.formats.end(), format) > 0) {
      return MakeConformanceModel(ConformanceConfig(), format);
    }
  }
  return absl::InvalidArgumentError("the conformance target names no weight format");
}

double Tolerance(const ConformanceTarget& target) {
  if (!target.float32_activations) return target.tolerances.int8_activations;
  return std::max({target.tolerances.bf16, target.tolerances.int8, target.tolerances.int4});
}

// How the residuals of a case are shared with another process.
struct Sharing {
  const char* suffix;
  std::optional<HandleKind> imports;
};

RunnerOptions OptionsOf(const ConformanceTarget& target, const Sharing& sharing) {
  RunnerOptions options;
  options.activations = ActivationsOf(target);
  options.import_residuals = sharing.imports;
  options.export_residuals = !sharing.imports.has_value();
  return options;
}

bool Imports(const ConformanceTarget& target, HandleKind kind) {
  return std::count(target.imports.begin(), target.imports.end(), kind) > 0;
}

// Memory that could be an edge, a memfd with or without a seal on its size, or a dma-buf. Not valid
// where this system makes no dma-bufs.
UniqueFd EdgeFd(HandleKind kind, std::size_t bytes, bool sealed) {
  if (kind == HandleKind::kDmaBuf) {
    auto memory = AllocateDmaBuf("conformance-edge", bytes);
    return memory.ok() ? std::move(memory->fd) : UniqueFd();
  }
  auto memory = SharedMemory::Create("conformance-edge", bytes);
  EXPECT_TRUE(memory.ok()) << memory.status();
  if (!memory.ok()) return UniqueFd();
  if (sealed) {
    EXPECT_TRUE(SealSize(memory->fd.get()).ok());
  }
  return std::move(memory->fd);
}

// What a stage writes is in the pages that another process maps, in the slot that was asked for,
// and nowhere else.
void OutputsAreInTheSharedPages(const ConformanceTarget& target, Device* device,
                                const Sharing& sharing) {
  const auto model = AnyModel(target);
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& config = model->config;
  const std::int32_t halves = 2 * config.num_layers;
  RunnerOptions options = OptionsOf(target, sharing);
  options.stages = {{.embed = true, .first_half = 0, .last_half = 1, .head = false},
                    {.embed = false, .first_half = 1, .last_half = halves, .head = true}};
  const auto created = ModelRunner::Make(device, config, model->regions, options);
  ASSERT_TRUE(created.ok()) << created.status();
  ModelRunner* runner = created->get();
  const auto tokens = RandomTokens(config, 21, 8);
  const RunnerShare share{0, tokens};
  const absl::Status begun = runner->program()->Begin(0, runner->Prepare({&share, 1}));
  ASSERT_TRUE(begun.ok()) << begun;
  const absl::Status done = runner->RunStage(0, 0, 0, 1);
  ASSERT_TRUE(done.ok()) << done;

  std::vector<float> expected = model->reference->Embed(tokens);
  model->reference->RunHalves(0, 1, &expected);
  const std::span<const float> memory = runner->residual_memory(0);
  const std::size_t slot = runner->residual(0)->layout().slot_bytes / sizeof(float);
  const auto rows = memory.subspan(slot, expected.size());
  EXPECT_LE(Compare(expected, rows).largest, Tolerance(target));
  const auto zeros =
      std::count(memory.begin(), memory.begin() + static_cast<std::ptrdiff_t>(slot), 0.0f);
  EXPECT_EQ(static_cast<std::size_t>(zeros), slot) << "the other slot was written to";
}

// What another process writes to the pages is what the next stage reads.
void InputsAreReadFromTheSharedPages(const ConformanceTarget& target, Device* device,
                                     const Sharing& sharing) {
  const auto model = AnyModel(target);
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& config = model->config;
  const std::int32_t halves = 2 * config.num_layers;
  RunnerOptions options = OptionsOf(target, sharing);
  options.stages = {{.embed = true, .first_half = 0, .last_half = halves, .head = false},
                    {.embed = false, .first_half = halves, .last_half = halves, .head = true}};
  const auto created = ModelRunner::Make(device, config, model->regions, options);
  ASSERT_TRUE(created.ok()) << created.status();
  ModelRunner* runner = created->get();
  const std::size_t slot = runner->residual(0)->layout().slot_bytes / sizeof(float);
  for (std::uint32_t round = 0; round < 3; ++round) {
    const auto tokens = RandomTokens(config, 9 + round, 9 + round);
    const RunnerShare share{0, tokens};
    const std::vector<float> residual =
        model->reference->Embed(RandomTokens(config, tokens.size(), 90 + round));
    const std::size_t at = (round % 2) * slot;
    // The mapping is ours and writable; the span is const for everybody else.
    std::copy(residual.begin(), residual.end(),
              const_cast<float*>(runner->residual_memory(0).data()) + at);
    const absl::Status begun = runner->program()->Begin(0, runner->Prepare({&share, 1}));
    ASSERT_TRUE(begun.ok()) << begun;
    const absl::Status done = runner->RunStage(1, 0, static_cast<std::int32_t>(round % 2), 0);
    ASSERT_TRUE(done.ok()) << done;
    EXPECT_LE(Compare(model->reference->Head(residual), runner->program()->logits(0)).largest,
              Tolerance(target));
  }
}

void SplitOverSharedBuffers(const ConformanceTarget& target, Device* device,
                            const Sharing& sharing) {
  const auto model = AnyModel(target);
  ASSERT_TRUE(model.ok()) << model.status();
  RunnerOptions options = OptionsOf(target, sharing);
  options.stages = OneStagePerHalf(model->config);
  const auto runner = ModelRunner::Make(device, model->config, model->regions, options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  const auto tokens = RandomTokens(model->config, 40, 10);
  const auto found = (*runner)->Prefill(0, tokens, 7);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_LE(Compare(model->reference->Logits(tokens), *found).largest, Tolerance(target));
}

void BadImportsAreRefused(const ConformanceTarget& target, Device* device) {
  const ResidualLayout layout = MakeResidualLayout(2, 8, ConformanceConfig().hidden_size);
  for (const HandleKind kind :
       {HandleKind::kDmaBuf, HandleKind::kHostPointer, HandleKind::kInline}) {
    const std::string name(NameOf(kind));
    const HandleKind other =
        kind == HandleKind::kDmaBuf ? HandleKind::kHostPointer : HandleKind::kDmaBuf;
    if (!Imports(target, kind)) {
      const auto refused = device->ImportResidual(
          kind, EdgeFd(HandleKind::kHostPointer, layout.total_bytes(), true), layout);
      EXPECT_FALSE(refused.ok()) << name;
      continue;
    }
    EXPECT_FALSE(device->ImportResidual(kind, UniqueFd(), layout).ok())
        << name << ": no descriptor";
    EXPECT_FALSE(
        device->ImportResidual(kind, EdgeFd(other, layout.total_bytes(), true), layout).ok())
        << name << ": memory of another kind";
    EXPECT_FALSE(device
                     ->ImportResidual(kind,
                                      EdgeFd(HandleKind::kHostPointer, layout.total_bytes(), false),
                                      layout)
                     .ok())
        << name << ": its size is not sealed";
    if (kind == HandleKind::kDmaBuf && LargestDmaBuf() == 0) continue;
    const auto good =
        device->ImportResidual(kind, EdgeFd(kind, layout.total_bytes(), true), layout);
    ASSERT_TRUE(good.ok()) << name << ": " << good.status();
    EXPECT_EQ((*good)->layout(), layout) << name;
    EXPECT_FALSE(
        device->ImportResidual(kind, EdgeFd(kind, layout.total_bytes() - PageSize(), true), layout)
            .ok())
        << name << ": shorter than its layout";
  }
}

// What it declares is what it does.
void Declaration(const ConformanceTarget& target, Device* device) {
  const MemoryDeclaration& declared = device->memory();
  EXPECT_EQ(declared.dma_buf.import_bytes != 0, Imports(target, HandleKind::kDmaBuf));
  EXPECT_EQ(declared.host_pointer.import_bytes != 0, Imports(target, HandleKind::kHostPointer));
  EXPECT_EQ(declared.host_pointer.import_bytes, declared.host_pointer.export_bytes);
}

// The device takes back what it exports; where it cannot export it says so.
void Export(const ConformanceTarget& target, Device* device) {
  const ResidualLayout layout = MakeResidualLayout(1, 4, ConformanceConfig().hidden_size);
  UniqueFd fd;
  const auto exported = device->ExportResidual(HandleKind::kDmaBuf, layout, &fd);
  if (!target.exports_dma_buf) {
    ASSERT_FALSE(exported.ok());
    EXPECT_EQ(exported.status().code(), absl::StatusCode::kUnimplemented) << exported.status();
    return;
  }
  ASSERT_TRUE(exported.ok()) << exported.status();
  ASSERT_TRUE(fd.valid());
  EXPECT_EQ((*exported)->layout(), layout);
  EXPECT_TRUE(IsDmaBuf(fd.get()));
  if (device->memory().host_view) {
    EXPECT_GE((*exported)->host_view().size(), layout.total_bytes());
  }
  if (!Imports(target, HandleKind::kDmaBuf)) return;
  const auto imported = device->ImportResidual(HandleKind::kDmaBuf, std::move(fd), layout);
  EXPECT_TRUE(imported.ok()) << imported.status();
}

}  // namespace

std::vector<ConformanceCase> ResidualCases(const ConformanceTarget& target) {
  std::vector<ConformanceCase> cases = {{"BadImportsAreRefused", BadImportsAreRefused},
                                        {"MemoryDeclaration", Declaration},
                                        {"ExportResidual", Export}};
  const std::pair<const char*, void (*)(const ConformanceTarget&, Device*, const Sharing&)>
      tests[] = {{"OutputsAreInTheSharedPages", OutputsAreInTheSharedPages},
                 {"InputsAreReadFromTheSharedPages", InputsAreReadFromTheSharedPages},
                 {"SplitOverSharedBuffers", SplitOverSharedBuffers}};
  std::vector<Sharing> sharings;
  for (const HandleKind kind : target.imports) {
    // Without a maker of dma-bufs there is none to import.
    if (kind == HandleKind::kDmaBuf && LargestDmaBuf() == 0) continue;
    sharings.push_back({kind == HandleKind::kDmaBuf ? "_dmabuf" : "_hostpointer", kind});
  }
  if (target.exports_dma_buf) sharings.push_back({"_exported", std::nullopt});
  for (const Sharing& sharing : sharings) {
    for (const auto& [name, run] : tests) {
      cases.push_back({std::string(name) + sharing.suffix,
                       [run = run, sharing](const ConformanceTarget& t, Device* device) {
                         run(t, device, sharing);
                       }});
    }
  }
  return cases;
}

}  // namespace tandem
