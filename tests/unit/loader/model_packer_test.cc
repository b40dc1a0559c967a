#include "loader/pack/model_packer.h"

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <mutex>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/weights/quantize.h"
#include "tests/unit/loader/gguf_writer.h"
#include "tests/unit/loader/test_files.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

std::string Golden(const std::string& name) { return absl::StrCat(kGoldenData, "/", name); }

std::unique_ptr<const ModelSource> Open(const std::string& path) {
  auto source = ModelSource::Open(path);
  EXPECT_TRUE(source.ok()) << source.status();
  return *std::move(source);
}

absl::StatusOr<std::vector<SealedRegion>> Pack(const ModelSource& source, QuantMode mode,
                                               PackOptions options = {}) {
  const auto packer = ModelPacker::Create(source, mode);
  if (!packer.ok()) return packer.status();
  ThreadPool pool(3);
  return packer->Pack(pool, options);
}

// Every value of every tensor against the file's, within what the format can hold.
void ExpectValues(const ModelSource& source, std::vector<SealedRegion> regions, QuantMode mode) {
  std::size_t tensors = 0;
  for (SealedRegion& sealed : regions) {
    const auto region = Region::Open(std::move(sealed.fd), sealed.manifest, source.config(),
                                     /*verify_checksums=*/true);
    ASSERT_TRUE(region.ok()) << region.status();
    for (const TensorEntry& entry : sealed.manifest.tensors) {
      ++tensors;
      const SourceTensor& tensor = source.Find(entry.id);
      const TensorView view = *(*region)->Find(entry.id);
      std::vector<std::byte> raw(RowBytesOf(tensor.type, tensor.shape.cols));
      std::vector<float> expected(static_cast<std::size_t>(tensor.shape.cols)),
          found(expected.size());
      for (std::int64_t row = 0; row < tensor.shape.rows; ++row) {
        ASSERT_TRUE(source.ReadRows(tensor, row, 1, raw).ok());
        DequantizeSource(tensor.type, raw, expected);
        if (!IsMatrix(entry.id.kind)) {
          for (float& v : expected) v += source.vector_offset();
        }
        if (entry.format == WeightFormat::kInt8 || entry.format == WeightFormat::kInt4) {
          // The plain quantiser is the twin of what the packer's threads wrote.
          const RowBytes bytes = RowBytesOf(entry.format, tensor.shape.cols);
          std::vector<std::byte> values(bytes.values), scales(bytes.scales);
          ASSERT_TRUE(QuantizeRow(expected, entry.format, values, scales));
          DequantizeRow({{1, tensor.shape.cols}, entry.format, values, scales}, 0, expected);
        }
        DequantizeRow(view, row, found);
        ASSERT_EQ(found, expected) << TensorName(entry.id) << " row " << row << " " << NameOf(mode);
      }
    }
  }
  EXPECT_EQ(tensors, AllTensors(source.config()).size());
}

TEST(ModelPacker, EveryModeHoldsTheFilesValues) {
  const auto source = Open(Golden("tiny"));
  for (const QuantMode mode :
       {QuantMode::kBf16, QuantMode::kInt8, QuantMode::kInt4, QuantMode::kAsIs}) {
    auto regions = Pack(*source, mode);
    ASSERT_TRUE(regions.ok()) << regions.status();
    EXPECT_EQ(regions->size(), 1u + 2u * 8u);
    ExpectValues(*source, *std::move(regions), mode);
  }
}

TEST(ModelPacker, ShardsAndGguf) {
  for (const std::string& path : {Golden("small27b"), Golden("small1b") + "/model-bf16.gguf"}) {
    const auto source = Open(path);
    auto regions = Pack(*source, QuantMode::kAsIs);
    ASSERT_TRUE(regions.ok()) << regions.status();
    ExpectValues(*source, *std::move(regions), QuantMode::kAsIs);
  }
}

TEST(ModelPacker, OneThreadAndManyGiveTheSameChecksums) {
  const auto source = Open(Golden("tiny"));
  const auto packer = ModelPacker::Create(*source, QuantMode::kInt4);
  ASSERT_TRUE(packer.ok());
  ThreadPool one(1), many(4);
  const auto a = packer->Pack(one, {}), b = packer->Pack(many, {});
  ASSERT_TRUE(a.ok() && b.ok());
  for (std::size_t r = 0; r < a->size(); ++r) {
    for (std::size_t t = 0; t < (*a)[r].manifest.tensors.size(); ++t) {
      EXPECT_EQ((*a)[r].manifest.tensors[t].checksum, (*b)[r].manifest.tensors[t].checksum);
    }
  }
}

TEST(ModelPacker, ProgressAddsUp) {
  const auto source = Open(Golden("tiny"));
  const auto packer = ModelPacker::Create(*source, QuantMode::kInt8);
  ASSERT_TRUE(packer.ok());
  EXPECT_EQ(packer->weight_format(), "int8");
  EXPECT_EQ(packer->total_tensors(), 2u + 8u * 13u);
  std::atomic<std::uint64_t> bytes = 0;
  std::mutex mutex;
  std::multiset<std::string> done;
  ThreadPool pool(3);
  PackOptions options;
  options.on_progress = [&](const PackProgress& p) {
    bytes += p.bytes;
    const std::lock_guard lock(mutex);
    if (p.tensor_is_done) done.insert(p.tensor->name);
  };
  const auto regions = packer->Pack(pool, options);
  ASSERT_TRUE(regions.ok());
  EXPECT_EQ(bytes, packer->total_bytes());
  EXPECT_EQ(done.size(), packer->total_tensors());
  EXPECT_EQ(done.count("model.norm.weight"), 1u);
}

TEST(ModelPacker, Cancels) {
  const auto source = Open(Golden("tiny"));
  const std::atomic<bool> cancel = true;
  PackOptions options;
  options.cancel = &cancel;
  EXPECT_EQ(Pack(*source, QuantMode::kBf16, options).status().code(), absl::StatusCode::kCancelled);
}

class BrokenModel : public ::testing::Test {
 protected:
  void SetUp() override {
    CopyFiles(Golden("tiny"), folder_.path(),
              {"config.json", "tokenizer.model", "model.safetensors"});
    path_ = folder_ / "model.safetensors";
  }
  TempFolder folder_;
  std::string path_;
};

TEST_F(BrokenModel, NanNamesFileTensorAndRows) {
  std::string file = ReadFile(path_);
  std::uint64_t offset = 0;
  {
    const auto source = Open(folder_.path());
    offset = source->Find({TensorKind::kFfnUp, 5}).offset;
  }
  file[offset + 2 * 128 * 7] = '\xc0';  // row 7, column 0: a NaN
  file[offset + 2 * 128 * 7 + 1] = '\x7f';
  WriteFile(path_, file);
  const auto source = Open(folder_.path());
  for (const QuantMode mode : {QuantMode::kBf16, QuantMode::kInt8, QuantMode::kInt4}) {
    const auto regions = Pack(*source, mode);
    EXPECT_EQ(regions.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string text(regions.status().message());
    EXPECT_THAT(
        text,
        HasSubstr(path_ + ": tensor 'model.layers.5.mlp.up_proj.weight': expected finite values"));
    EXPECT_EQ(text.find('\n'), std::string::npos);
  }
}

TEST_F(BrokenModel, ShrinkingFileIsAnErrorAndNoCrash) {
  const auto source = Open(folder_.path());
  ASSERT_EQ(::truncate(path_.c_str(), 1'000'000), 0);
  for (const QuantMode mode : {QuantMode::kBf16, QuantMode::kInt8}) {
    const auto regions = Pack(*source, mode);
    EXPECT_EQ(regions.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(regions.status().message()), HasSubstr("became shorter"));
  }
}

TEST(ModelPacker, RowsThatDoNotDivideInto32) {
  // The embedding of a model with hidden size 100.
  const TempFolder folder;
  const auto tiny = Open(Golden("tiny"));
  ModelConfig config = tiny->config();
  config.hidden_size = 100;
  config.num_layers = 1;
  GgufBuilder b = GgufOf(config, tiny->vocabulary());
  for (const TensorId id : AllTensors(config)) {
    const TensorShape shape = ShapeOf(config, id.kind);
    std::vector<std::uint64_t> dims = {static_cast<std::uint64_t>(shape.cols)};
    if (IsMatrix(id.kind)) dims.push_back(static_cast<std::uint64_t>(shape.rows));
    b.tensors.push_back({GgufName(id), dims, 0,
                         std::string(static_cast<std::size_t>(shape.rows * shape.cols * 4), '\0'),
                         -1});
  }
  WriteFile(folder / "odd.gguf", b.Bytes());
  const auto source = Open(folder / "odd.gguf");
  for (const QuantMode mode : {QuantMode::kInt8, QuantMode::kInt4}) {
    const auto packer = ModelPacker::Create(*source, mode);
    EXPECT_EQ(packer.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(
        std::string(packer.status().message()),
        HasSubstr(absl::StrCat(
            "odd.gguf: tensor 'token_embd.weight': ", NameOf(mode) == "int8" ? "int8" : "int4",
            ": expected a row length that is a multiple of 32, found 100")));
  }
  EXPECT_TRUE(Pack(*source, QuantMode::kAsIs).ok());
}

TEST(QuantMode, FormatsAndNames) {
  for (const QuantMode mode :
       {QuantMode::kBf16, QuantMode::kInt8, QuantMode::kInt4, QuantMode::kAsIs}) {
    EXPECT_EQ(*ParseEnum<QuantMode>("--quant", NameOf(mode)), mode);
    EXPECT_EQ(FormatFor(mode, TensorKind::kFfnNorm, SourceType::kF32), WeightFormat::kF32);
  }
  EXPECT_THAT(std::string(ParseEnum<QuantMode>("--quant", "int3").status().message()),
              HasSubstr("--quant: expected one of bf16, int8, int4, as-is, found 'int3'"));
  EXPECT_EQ(FormatFor(QuantMode::kAsIs, TensorKind::kQuery, SourceType::kQ4_0),
            WeightFormat::kInt4);
  EXPECT_EQ(FormatFor(QuantMode::kAsIs, TensorKind::kQuery, SourceType::kQ6K), WeightFormat::kInt8);
  EXPECT_EQ(FormatFor(QuantMode::kAsIs, TensorKind::kQuery, SourceType::kF16), WeightFormat::kBf16);
  EXPECT_EQ(FormatFor(QuantMode::kInt4, TensorKind::kQuery, SourceType::kQ8_0),
            WeightFormat::kInt4);
}

}  // namespace
}  // namespace tandem
