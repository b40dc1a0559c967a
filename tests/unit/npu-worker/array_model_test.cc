// The model of the array refuses what an array would refuse, hang on or silently do wrong.
#include "tests/fake_amdxdna/array_model.h"

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "npu-worker/product/product_sequence.h"

namespace tandem::npu {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kSize = 1 << 20;

class ArrayModelTest : public ::testing::Test {
 protected:
  std::string Run(const std::vector<std::uint32_t>& words) {
    const std::uint64_t addresses[] = {kSize, 3 * kSize, 5 * kSize};
    return model_.Run(words, addresses, [&](std::uint64_t address, std::uint64_t bytes) {
      const std::uint64_t i = address / kSize;
      const bool inside = i % 2 == 1 && i <= 5 && address % kSize + bytes <= kSize;
      return inside ? memory_.get() + i / 2 * kSize + address % kSize : nullptr;
    });
  }
  static std::vector<std::uint32_t> Product() {
    const auto layout = ProductLayout::Make(kAie2Array, {1, 32, 1});
    return *ProductInstructions(*layout, kModelParameterAddress);
  }
  static std::vector<std::uint32_t> With(const std::function<void(TransactionWriter*)>& write) {
    TransactionWriter writer(kAie2Array.columns);
    write(&writer);
    return std::move(writer).Finish();
  }

  std::unique_ptr<std::byte[], void (*)(void*)> memory_{
      static_cast<std::byte*>(std::aligned_alloc(64, 3 * kSize)), std::free};
  ArrayModel model_{kAie2Array, ProductDesign(kAie2Array, false)};
};

TEST_F(ArrayModelTest, RunsAProductTwice) {
  EXPECT_EQ(Run(Product()), "");
  EXPECT_EQ(Run(Product()), "");
}

TEST_F(ArrayModelTest, AWaitForWhatWasNeverStartedHangs) {
  EXPECT_THAT(Run(With([](auto* w) { w->Wait(0, Direction::kToMemory, 0); })),
              HasSubstr("a wait that never ends"));
  EXPECT_TRUE(model_.hung());
}

TEST_F(ArrayModelTest, AStreamThatIsTooShortHangs) {
  std::vector<std::uint32_t> words = Product();
  // The first block write's first value: the length of a transfer.
  for (std::size_t i = kHeaderWords; i < words.size(); ++i) {
    if (words[i] == kActivationChunkBytes / 4) {
      words[i] -= 1;
      break;
    }
  }
  EXPECT_THAT(Run(words), HasSubstr("a wait that never ends"));
  EXPECT_TRUE(model_.hung());
}

TEST_F(ArrayModelTest, ATransferOutsideTheBuffersFaults) {
  EXPECT_THAT(Run(With([](auto* w) { w->Start({.offset = kSize - 4, .bytes = 8}); })),
              HasSubstr("the IOMMU faults"));
}

TEST_F(ArrayModelTest, ADescriptorInUseIsNotOverwritten) {
  EXPECT_THAT(Run(With([](auto* w) {
                w->Start({.bytes = 64});
                w->Start({.bytes = 64});
              })),
              HasSubstr("a descriptor in use is overwritten"));
}

TEST_F(ArrayModelTest, AQueueHasAnEnd) {
  EXPECT_THAT(Run(With([](auto* w) {
                for (std::uint32_t i = 0; i < 6; ++i) w->Start({.descriptor = i, .bytes = 64});
              })),
              HasSubstr("a full queue"));
}

TEST_F(ArrayModelTest, LeftoversAreFound) {
  EXPECT_THAT(Run(With([](auto* w) { w->Start({.bytes = 64}); })),
              HasSubstr("transfers under way"));
}

TEST_F(ArrayModelTest, WritesElsewhereAreFound) {
  EXPECT_THAT(Run(With([](auto* w) { w->Write(TileAddress(0, 2, 0), 1); })),
              HasSubstr("beside its parameter"));
  EXPECT_THAT(Run(With([](auto* w) { w->Write(TileAddress(4, 2, 2048), 1); })),
              HasSubstr("outside the partition"));
  EXPECT_THAT(Run(With([](auto* w) { w->Write(TileAddress(0, 1, 0), 1); })),
              HasSubstr("a memory tile"));
  EXPECT_THAT(Run(With([](auto* w) { w->Write(TileAddress(0, 0, 4), 1); })),
              HasSubstr("unknown register"));
}

TEST_F(ArrayModelTest, BrokenInstructionsAreFound) {
  std::vector<std::uint32_t> words = Product();
  EXPECT_THAT(Run({}), HasSubstr("no transaction header"));
  for (std::size_t length = kHeaderWords; length + 1 < words.size(); length += 7) {
    EXPECT_NE(Run({words.begin(), words.begin() + static_cast<std::ptrdiff_t>(length)}), "");
  }
  words[2] += 1;
  EXPECT_THAT(Run(words), HasSubstr("fewer operations"));
  words = Product();
  words[1] = 1U << 8 | kAie2pArray.columns;
  EXPECT_THAT(Run(words), HasSubstr("another shape"));
}

}  // namespace
}  // namespace tandem::npu
