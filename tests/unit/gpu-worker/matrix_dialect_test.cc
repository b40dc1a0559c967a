#include "gpu-worker/kernels/rewrite/matrix_dialect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace tandem::kernels {
namespace {

using Words = std::vector<std::uint32_t>;
using testing::HasSubstr;

constexpr std::uint32_t kBound = 60;

// One instruction: its opcode and operands.
void Add(Words* module, std::uint32_t opcode, const Words& operands) {
  module->push_back(static_cast<std::uint32_t>((operands.size() + 1) << 16) | opcode);
  module->insert(module->end(), operands.begin(), operands.end());
}

Words Text(std::string_view text) {
  Words words(text.size() / 4 + 1, 0);
  std::memcpy(words.data(), text.data(), text.size());
  return words;
}

// Ids: 1 uint, 2 half, 3 scope, 10 to 15 the tagged dimensions, 20 to 22 the matrix types of A, B
// and C, 30 true, 31 false.
Words Header() {
  Words module = {0x07230203, 0x00010300, 0, kBound, 0};
  Add(&module, 17, {5357});
  Add(&module, 10, Text("SPV_NV_cooperative_matrix"));
  for (std::uint32_t i = 0; i < 6; ++i) Add(&module, 71, {10 + i, 1, 100 + i});
  Add(&module, 21, {1, 32, 0});
  Add(&module, 22, {2, 16});
  Add(&module, 43, {1, 3, 3});
  Add(&module, 41, {5, 30});
  Add(&module, 42, {5, 31});
  return module;
}

TEST(MatrixDialect, RefusesALengthThatIsASpecialisationConstant) {
  Words module = Header();
  Add(&module, 5358, {20, 2, 3, 10, 11});
  Add(&module, 52, {1, 46, 5362, 20});
  const auto made = ToKhrMatrices(module);
  ASSERT_TRUE(absl::IsInvalidArgument(made.status()));
  EXPECT_THAT(std::string(made.status().message()), HasSubstr("length()"));
  // Others are kept.
  module = Header();
  Add(&module, 52, {1, 46, 134, 3, 3});
  EXPECT_TRUE(ToKhrMatrices(module).ok());
}

TEST(MatrixDialect, TurnsEveryInstruction) {
  Words module = Header();
  Add(&module, 5358, {20, 2, 3, 10, 11});
  Add(&module, 5358, {21, 2, 3, 12, 13});
  Add(&module, 5358, {22, 2, 3, 14, 15});
  Add(&module, 5359, {20, 40, 41, 42, 31});
  Add(&module, 5359, {21, 43, 41, 42, 30, 1});
  Add(&module, 5361, {22, 44, 40, 43, 45});
  Add(&module, 5362, {1, 46, 20});
  Add(&module, 5360, {47, 44, 42, 30, 2, 4});
  Add(&module, 253, {});

  Words expected = {0x07230203, 0x00010300, 0, kBound + 3, 0};
  Add(&expected, 17, {6022});
  Add(&expected, 10, Text("SPV_KHR_cooperative_matrix"));
  for (std::uint32_t i = 0; i < 6; ++i) Add(&expected, 71, {10 + i, 1, 100 + i});
  Add(&expected, 21, {1, 32, 0});
  // The uses A, B and accumulator; row and column major are the first two.
  for (std::uint32_t i = 0; i < 3; ++i) Add(&expected, 43, {1, kBound + i, i});
  Add(&expected, 22, {2, 16});
  Add(&expected, 43, {1, 3, 3});
  Add(&expected, 41, {5, 30});
  Add(&expected, 42, {5, 31});
  Add(&expected, 4456, {20, 2, 3, 10, 11, kBound});
  Add(&expected, 4456, {21, 2, 3, 12, 13, kBound + 1});
  Add(&expected, 4456, {22, 2, 3, 14, 15, kBound + 2});
  Add(&expected, 4457, {20, 40, 41, kBound, 42});
  Add(&expected, 4457, {21, 43, 41, kBound + 1, 42, 1});
  Add(&expected, 4459, {22, 44, 40, 43, 45});
  Add(&expected, 4460, {1, 46, 20});
  Add(&expected, 4458, {47, 44, kBound + 1, 42, 2, 4});
  Add(&expected, 253, {});

  const auto found = ToKhrMatrices(module);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, expected);
}

void ExpectRefused(const Words& module, const std::string& reason) {
  const auto found = ToKhrMatrices(module);
  ASSERT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument) << reason;
  EXPECT_THAT(std::string(found.status().message()), HasSubstr(reason));
}

TEST(MatrixDialect, RefusesWhatItCannotTurn) {
  ExpectRefused({}, "expected a SPIR-V module");
  ExpectRefused({1, 2, 3, 4, 5, 6}, "expected a SPIR-V module");
  Words untagged = Header();
  Add(&untagged, 5358, {20, 2, 3, 10, 3});
  ExpectRefused(untagged, "dimensions that are not specialisation constants");
  // Rows of A with columns of B.
  Words mixed = Header();
  Add(&mixed, 5358, {20, 2, 3, 10, 13});
  ExpectRefused(mixed, "dimensions that are not specialisation constants");
  Words varying = Header();
  Add(&varying, 5359, {20, 40, 41, 42, 50});
  ExpectRefused(varying, "an order that varies");
  Words no_uint = {0x07230203, 0x00010300, 0, kBound, 0};
  Add(&no_uint, 22, {2, 16});
  ExpectRefused(no_uint, "no 32-bit unsigned integers");
}

TEST(MatrixDialect, RefusesModulesThatEndTooEarly) {
  Words module = Header();
  Add(&module, 5358, {20, 2, 3, 10, 11});
  Add(&module, 5359, {20, 40, 41, 42, 31});
  for (std::size_t length = 0; length < module.size(); ++length) {
    // Whatever comes, nothing is read behind the end.
    const auto found = ToKhrMatrices(std::span(module).first(length));
    if (found.ok()) continue;
    EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument) << length;
  }
  module[5] = 0;
  ExpectRefused(module, "does not end within the module");
  for (const std::uint32_t opcode : {5358u, 5359u, 5360u}) {
    Words brief = Header();
    Add(&brief, opcode, {20});
    ExpectRefused(brief, "short matrix");
  }
}

}  // namespace
}  // namespace tandem::kernels
