#include "lib/worker/edge_messages.h"

#include <gtest/gtest.h>

#include <random>

namespace tandem {
namespace {

EdgeHello Hello() {
  return {"npu0>gpu0",
          77,
          MakeResidualLayout(4, 512, 5376),
          {HandleKind::kDmaBuf, HandleKind::kHostPointer, HandleKind::kInline}};
}

TEST(EdgeMessagesTest, GoThereAndBack) {
  const absl::StatusOr<EdgeHello> hello = ParseEdgeHello(Encode(Hello()));
  ASSERT_TRUE(hello.ok()) << hello.status();
  EXPECT_EQ(hello->id, "npu0>gpu0");
  EXPECT_EQ(hello->generation, 77u);
  EXPECT_EQ(hello->layout, Hello().layout);
  EXPECT_EQ(hello->kinds, Hello().kinds);
  const absl::StatusOr<EdgeOffer> offer =
      ParseEdgeOffer(Encode(EdgeOffer{HandleKind::kHostPointer, "why"}));
  ASSERT_TRUE(offer.ok());
  EXPECT_EQ(offer->kind, HandleKind::kHostPointer);
  EXPECT_EQ(offer->error, "why");
  const absl::StatusOr<EdgeAnswer> answer = ParseEdgeAnswer(Encode(EdgeAnswer{true, ""}));
  ASSERT_TRUE(answer.ok());
  EXPECT_TRUE(answer->accepted);
}

TEST(EdgeMessagesTest, EveryTruncationAndExtensionIsRefused) {
  const std::string hello = Encode(Hello());
  for (std::size_t size = 0; size < hello.size(); ++size)
    EXPECT_FALSE(ParseEdgeHello(hello.substr(0, size)).ok()) << size;
  EXPECT_FALSE(ParseEdgeHello(hello + "x").ok());
  const std::string offer = Encode(EdgeOffer{HandleKind::kInline, "abc"});
  for (std::size_t size = 0; size < offer.size(); ++size)
    EXPECT_FALSE(ParseEdgeOffer(offer.substr(0, size)).ok()) << size;
  const std::string answer = Encode(EdgeAnswer{false, "abc"});
  for (std::size_t size = 0; size < answer.size(); ++size)
    EXPECT_FALSE(ParseEdgeAnswer(answer.substr(0, size)).ok()) << size;
}

TEST(EdgeMessagesTest, OneKindIsNotAnother) {
  EXPECT_FALSE(ParseEdgeOffer(Encode(Hello())).ok());
  EXPECT_FALSE(ParseEdgeHello(Encode(EdgeAnswer{true, ""})).ok());
}

TEST(EdgeMessagesTest, BadValuesAreRefused) {
  std::string offer = Encode(EdgeOffer{HandleKind::kInline, ""});
  offer[5] = 3;
  EXPECT_FALSE(ParseEdgeOffer(offer).ok());
  std::string magic = Encode(Hello());
  magic[0] = 'x';
  EXPECT_FALSE(ParseEdgeHello(magic).ok());
  EdgeHello none = Hello();
  none.kinds.clear();
  EXPECT_FALSE(ParseEdgeHello(Encode(none)).ok());
  EdgeHello many = Hello();
  many.kinds.resize(4, HandleKind::kInline);
  EXPECT_FALSE(ParseEdgeHello(Encode(many)).ok());
}

TEST(EdgeMessagesTest, NoiseNeverCrashes) {
  std::mt19937 random(3);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = Encode(Hello());
    for (int j = 0; j < 3; ++j) bytes[random() % bytes.size()] = static_cast<char>(random());
    bytes.resize(random() % (bytes.size() + 1));
    ParseEdgeHello(bytes).IgnoreError();
    ParseEdgeOffer(bytes).IgnoreError();
    ParseEdgeAnswer(bytes).IgnoreError();
  }
}

TEST(EdgeMessagesTest, KindsByName) {
  EXPECT_EQ(*ParseHandleKind("dma-buf"), HandleKind::kDmaBuf);
  EXPECT_EQ(*ParseHandleKind("host-pointer"), HandleKind::kHostPointer);
  EXPECT_EQ(*ParseHandleKind("inline"), HandleKind::kInline);
  EXPECT_FALSE(ParseHandleKind("copy").ok());
}

}  // namespace
}  // namespace tandem
