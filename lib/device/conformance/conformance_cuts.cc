// Attention cut out of its layer: alone, and with what stands around it on the same device.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lib/device/conformance/conformance_cases.h"
#include "lib/model/attention_rows.h"

namespace tandem {
namespace {

struct Variant {
  WeightFormat format = WeightFormat::kBf16;
  ActivationType activations = ActivationType::kFloat32;
  KvType kv_type = KvType::kFloat32;
};

std::span<float> Slot(ModelRunner* runner, std::size_t index, std::int32_t slot) {
  const ResidualLayout& layout = runner->residual(index)->layout();
  const std::span<const float> memory = runner->residual_memory(index);
  const std::size_t floats = layout.slot_bytes / sizeof(float);
  // The mapping is ours and writable; the span is const for everybody else.
  return {const_cast<float*>(memory.data()) + static_cast<std::size_t>(slot) * floats, floats};
}

// Rows of a sequence come in chunks, as a prompt does; the cache is the device's.
void AttentionAlone(const ConformanceTarget& target, Device* device, const Variant& variant) {
  const auto model = MakeConformanceModel(ConformanceConfig(), variant.format);
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& config = model->config;
  RunnerOptions options;
  options.activations = variant.activations;
  options.kv_type = variant.kv_type;
  if (std::count(target.imports.begin(), target.imports.end(), HandleKind::kHostPointer) == 0)
    GTEST_SKIP() << "the device imports no memory that this test can write on any system";
  options.import_residuals = HandleKind::kHostPointer;
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    // Two stages between which a residual lies, and attention between two more.
    const std::int32_t halves = 2 * config.num_layers;
    options.stages = {{.embed = true},
                      {.first_half = 2 * layer,
                       .last_half = 2 * layer + 1,
                       .begin = AttentionCut::kProjected,
                       .end = AttentionCut::kAttended},
                      {.first_half = halves, .last_half = halves, .head = true}};
    const auto runner = ModelRunner::Make(device, config, model->regions, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    const auto tokens = RandomTokens(config, 45, 31);
    std::vector<float> residual = model->reference->Embed(tokens);
    model->reference->RunHalves(0, 2 * layer, &residual);
    const std::vector<float> projected = model->reference->Project(layer, residual);
    const std::vector<float> expected = model->reference->Attend(layer, projected);
    const auto in = static_cast<std::size_t>(ProjectedColumns(config));
    const auto out = static_cast<std::size_t>(AttendedColumns(config));
    std::vector<float> found;
    std::size_t at = 0;
    for (const std::size_t count : {20u, 1u, 17u, 7u}) {
      const std::span<float> rows = Slot(runner->get(), 0, 1);
      std::copy_n(projected.data() + at * in, count * in, rows.data());
      const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(at);
      const RunnerShare share{0, {first, first + static_cast<std::ptrdiff_t>(count)}};
      const absl::Status begun = (*runner)->program()->Begin(0, (*runner)->Prepare({&share, 1}));
      ASSERT_TRUE(begun.ok()) << begun;
      const absl::Status done = (*runner)->RunStage(1, 0, 1, 0);
      ASSERT_TRUE(done.ok()) << done;
      (*runner)->Commit();
      const std::span<float> attended = Slot(runner->get(), 1, 0);
      found.insert(found.end(), attended.begin(),
                   attended.begin() + static_cast<std::ptrdiff_t>(count * out));
      EXPECT_TRUE(std::equal(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(count * in),
                             projected.begin() + static_cast<std::ptrdiff_t>(at * in)))
          << "the input was written to";
      at += count;
    }
    ASSERT_EQ(at, tokens.size());
    const ConformanceTolerances& t = target.tolerances;
    EXPECT_LE(Compare(expected, found).largest, variant.kv_type == KvType::kFloat16 ? t.float16_kv
                                                : variant.kv_type == KvType::kInt8  ? t.int8_kv
                                                                                    : t.bf16)
        << "layer " << layer;
  }
}

absl::StatusOr<std::unique_ptr<ModelRunner>> Apart(Device* device, const ConformanceModel& model,
                                                   const Variant& variant, std::int32_t contexts) {
  return ModelRunner::Make(device, model.config, model.regions,
                           {.stages = AttentionApart(model.config),
                            .activations = variant.activations,
                            .kv_type = variant.kv_type,
                            .contexts = contexts});
}

void ApartEqualsTheWhole(const ConformanceTarget& target, Device* device, const Variant& variant) {
  const auto model = MakeConformanceModel(ConformanceConfig(), variant.format);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto runner = Apart(device, *model, variant, 2);
  if (!target.products_apart) {
    EXPECT_TRUE(absl::IsUnimplemented(runner.status())) << runner.status();
    return;
  }
  ASSERT_TRUE(runner.ok()) << runner.status();
  const auto whole =
      ModelRunner::Make(device, model->config, model->regions,
                        {.activations = variant.activations, .kv_type = variant.kv_type});
  ASSERT_TRUE(whole.ok()) << whole.status();
  const auto tokens = RandomTokens(model->config, 45, 33);
  const auto expected = (*whole)->Prefill(0, tokens, 64);
  ASSERT_TRUE(expected.ok()) << expected.status();
  for (const std::int32_t chunk : {1, 9, 45}) {
    const auto found = (*runner)->Prefill(0, tokens, chunk);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_LE(Compare(*expected, *found).largest, target.tolerances.batch) << "chunks of " << chunk;
    (*runner)->End(0);
  }
}

// Two contexts take turns stage by stage: each has a residual of its own while attention runs.
void ContextsKeepTheirResiduals(const ConformanceTarget& target, Device* device,
                                const Variant& variant) {
  const auto model = MakeConformanceModel(ConformanceConfig(), variant.format);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto whole = ModelRunner::Make(device, model->config, model->regions,
                                       {.activations = variant.activations});
  ASSERT_TRUE(whole.ok()) << whole.status();
  const auto runner = Apart(device, *model, variant, 2);
  ASSERT_TRUE(runner.ok()) << runner.status();
  Program* const program = (*runner)->program();
  std::vector<std::vector<float>> expected;
  for (std::int32_t c = 0; c < 2; ++c) {
    const auto tokens =
        RandomTokens(model->config, c == 0 ? 21 : 30, 40 + static_cast<unsigned>(c));
    const auto logits = (*whole)->Prefill(c, tokens, 64);
    ASSERT_TRUE(logits.ok()) << logits.status();
    expected.push_back(*logits);
    const RunnerShare share{c, tokens};
    const absl::Status begun = program->Begin(c, (*runner)->Prepare({&share, 1}));
    ASSERT_TRUE(begun.ok()) << begun;
    (*runner)->Commit();
  }
  for (std::int32_t stage = 0; stage < (*runner)->stages(); ++stage) {
    for (std::int32_t c = 0; c < 2; ++c) {
      const absl::Status done = (*runner)->RunStage(stage, c, c, c);
      ASSERT_TRUE(done.ok()) << done;
    }
  }
  for (std::int32_t c = 0; c < 2; ++c) {
    EXPECT_LE(Compare(expected[static_cast<std::size_t>(c)], program->logits(c)).largest,
              target.tolerances.batch)
        << "context " << c;
  }
}

void BadCutsAreRefused(const ConformanceTarget& target, Device* device) {
  const auto model = MakeConformanceModel(ConformanceConfig(), target.formats.back());
  ASSERT_TRUE(model.ok()) << model.status();
  const auto refused = [&](const std::string& what, std::size_t index, const StageSpec& spec) {
    RunnerOptions options;
    options.activations = ActivationsOf(target);
    options.stages = AttentionApart(model->config);
    options.stages[index] = spec;
    const auto made = ModelRunner::Make(device, model->config, model->regions, options);
    EXPECT_TRUE(absl::IsInvalidArgument(made.status())) << what << ": " << made.status();
  };
  constexpr AttentionCut kProjected = AttentionCut::kProjected;
  constexpr AttentionCut kAttended = AttentionCut::kAttended;
  refused("a cut in a feed-forward half", 1, {.first_half = 0, .last_half = 2, .end = kProjected});
  refused("attention with its queries", 1, {.first_half = 0, .last_half = 1, .end = kAttended});
  refused("attention with its output", 2, {.first_half = 0, .last_half = 1, .begin = kProjected});
  refused("attention and more", 2,
          {.first_half = 0, .last_half = 3, .begin = kProjected, .end = kAttended});
  refused("nothing of a half", 2,
          {.first_half = 0, .last_half = 1, .begin = kAttended, .end = kProjected});
  refused("no half", 2, {.first_half = 0, .last_half = 0, .begin = kAttended});
  refused("a residual that nobody kept", 1, {.first_half = 0, .last_half = 1});
}

}  // namespace

std::vector<ConformanceCase> CutCases(const ConformanceTarget& target) {
  std::vector<ConformanceCase> cases;
  const auto add = [&](const std::string& name, const Variant& variant, auto run) {
    cases.push_back({name + "_" + VariantName(variant.format, variant.activations, variant.kv_type),
                     [=](const ConformanceTarget& t, Device* device) { run(t, device, variant); }});
  };
  for (const WeightFormat format : target.formats) {
    for (const ActivationType activations : {ActivationType::kFloat32, ActivationType::kInt8}) {
      const bool int8 = activations == ActivationType::kInt8;
      if (int8 && (!target.int8_activations || format == WeightFormat::kBf16)) continue;
      const Variant variant{format, activations};
      add("AttentionApart", variant, ApartEqualsTheWhole);
      if (target.products_apart) add("CutContexts", variant, ContextsKeepTheirResiduals);
    }
  }
  for (const KvType kv_type : target.kv_types) {
    add("AttentionAlone", {target.formats.back(), ActivationsOf(target), kv_type}, AttentionAlone);
  }
  cases.push_back({"BadCutsAreRefused", BadCutsAreRefused});
  return cases;
}

}  // namespace tandem
