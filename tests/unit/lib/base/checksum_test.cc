#include "lib/base/checksum.h"

#include <gtest/gtest.h>

#include <vector>

namespace tandem {
namespace {

TEST(ChecksumTest, KnownValueOfNothing) {
  // XXH3_64bits of the empty input, from the algorithm's specification.
  EXPECT_EQ(Checksum({}), 0x2d06800538d394c2u);
}

TEST(ChecksumTest, EveryByteCounts) {
  std::vector<std::byte> bytes(1000);
  const std::uint64_t zero = Checksum(bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = std::byte{1};
    EXPECT_NE(Checksum(bytes), zero) << i;
    bytes[i] = std::byte{0};
  }
  EXPECT_EQ(Checksum(bytes), zero);
}

}  // namespace
}  // namespace tandem
