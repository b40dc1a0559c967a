#include "lib/memory/edge_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

namespace tandem {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kAny = MemoryAbility::kAny;
constexpr std::uint64_t kUdmabuf = std::uint64_t{64} << 20;
constexpr std::uint64_t kRing = std::uint64_t{22} << 20;
const std::vector<HandleKind> kAll = {HandleKind::kDmaBuf, HandleKind::kHostPointer,
                                      HandleKind::kInline};

// What each device declares on a machine with or without /dev/udmabuf.
MemoryDeclaration Declared(const std::string& device, bool udmabuf) {
  MemoryDeclaration d;
  if (device == "cpu") {
    d.dma_buf = {kAny, udmabuf ? kUdmabuf : 0};
    d.host_pointer = {kAny, kAny};
    d.host_view = true;
  } else if (device == "amd") {
    // The kernel refuses user pointers to pages of a file; the driver exports buffers of its own.
    d.dma_buf = {kAny, kAny};
    d.host_view = true;
  } else if (device == "nvidia") {
    d.host_pointer = {kAny, kAny};
  } else if (device == "lavapipe22") {
    d.host_pointer = {kAny, kAny};
  } else if (device == "lavapipe25") {
    d.dma_buf = {kAny, udmabuf ? kAny : 0};
    d.host_pointer = {kAny, kAny};
    d.host_view = udmabuf;
  } else if (device == "xrt") {
    // Rows are the host's part's; the driver takes nobody else's memory.
    d.dma_buf = {0, kAny};
    d.host_pointer = {kAny, kAny};
    d.host_view = true;
  }
  return d;
}

// "dma-buf by the producer": the first kind and its owner.
std::string Agreed(const std::string& producer, const std::string& consumer, bool udmabuf) {
  const absl::StatusOr<EdgeAgreement> agreed =
      AgreeOnEdge({Declared(producer, udmabuf), Declared(consumer, udmabuf), true, kRing, kAll});
  if (!agreed.ok()) return "none";
  std::string text(NameOf(agreed->kinds[0]));
  if (agreed->kinds[0] == HandleKind::kInline) return text;
  return text + (agreed->producer_owns ? " <" : " >");
}

// One row for a pair: without udmabuf, with it; "<": the producer (first) owns, ">": the consumer.
struct Row {
  const char* producer;
  const char* consumer;
  const char* without;
  const char* with;
};
const Row kTable[] = {
    {"cpu", "cpu", "host-pointer <", "dma-buf <"},
    {"cpu", "amd", "dma-buf >", "dma-buf <"},
    {"cpu", "nvidia", "host-pointer <", "host-pointer <"},
    {"cpu", "lavapipe22", "host-pointer <", "host-pointer <"},
    {"cpu", "lavapipe25", "host-pointer <", "dma-buf <"},
    {"cpu", "xrt", "dma-buf >", "dma-buf >"},
    {"amd", "cpu", "dma-buf <", "dma-buf <"},
    {"amd", "amd", "dma-buf <", "dma-buf <"},
    {"amd", "nvidia", "inline", "inline"},
    {"amd", "lavapipe22", "inline", "inline"},
    {"amd", "lavapipe25", "dma-buf <", "dma-buf <"},
    {"amd", "xrt", "dma-buf >", "dma-buf >"},
    {"nvidia", "cpu", "host-pointer <", "host-pointer <"},
    {"nvidia", "amd", "inline", "inline"},
    {"nvidia", "nvidia", "host-pointer <", "host-pointer <"},
    {"nvidia", "lavapipe22", "host-pointer <", "host-pointer <"},
    {"nvidia", "lavapipe25", "host-pointer <", "host-pointer <"},
    {"nvidia", "xrt", "host-pointer <", "host-pointer <"},
    {"lavapipe22", "cpu", "host-pointer <", "host-pointer <"},
    {"lavapipe22", "amd", "inline", "inline"},
    {"lavapipe22", "nvidia", "host-pointer <", "host-pointer <"},
    {"lavapipe22", "lavapipe22", "host-pointer <", "host-pointer <"},
    {"lavapipe22", "lavapipe25", "host-pointer <", "host-pointer <"},
    {"lavapipe22", "xrt", "host-pointer <", "host-pointer <"},
    {"lavapipe25", "cpu", "host-pointer <", "dma-buf <"},
    {"lavapipe25", "amd", "dma-buf >", "dma-buf <"},
    {"lavapipe25", "nvidia", "host-pointer <", "host-pointer <"},
    {"lavapipe25", "lavapipe22", "host-pointer <", "host-pointer <"},
    {"lavapipe25", "lavapipe25", "host-pointer <", "dma-buf <"},
    {"lavapipe25", "xrt", "dma-buf >", "dma-buf >"},
    {"xrt", "cpu", "dma-buf <", "dma-buf <"},
    {"xrt", "amd", "dma-buf <", "dma-buf <"},
    {"xrt", "nvidia", "host-pointer <", "host-pointer <"},
    {"xrt", "lavapipe22", "host-pointer <", "host-pointer <"},
    {"xrt", "lavapipe25", "dma-buf <", "dma-buf <"},
    {"xrt", "xrt", "host-pointer <", "host-pointer <"},
};

TEST(EdgeRuleTest, TheTable) {
  std::map<std::pair<std::string, std::string>, int> seen;
  for (const Row& row : kTable) {
    const std::string pair = std::string(row.producer) + " to " + row.consumer;
    EXPECT_EQ(Agreed(row.producer, row.consumer, false), row.without) << pair;
    EXPECT_EQ(Agreed(row.producer, row.consumer, true), row.with) << pair << " with udmabuf";
    ++seen[{row.producer, row.consumer}];
  }
  EXPECT_EQ(seen.size(), 36u) << "every pair stands in the table";
}

TEST(EdgeRuleTest, WhoComputesOnlyInItsOwnMemoryOwnsItsEdgesWhateverIsAllowed) {
  MemoryDeclaration own = Declared("xrt", true);
  own.host_pointer = {};
  own.owns_edges = true;
  for (const HandleKind first : kAll) {
    const absl::StatusOr<EdgeAgreement> agreed =
        AgreeOnEdge({Declared("cpu", true), own, true, kRing, {first, HandleKind::kInline}});
    ASSERT_TRUE(agreed.ok()) << agreed.status();
    EXPECT_FALSE(agreed->producer_owns);
  }
}

TEST(EdgeRuleTest, TheAllowedOrderDecides) {
  const absl::StatusOr<EdgeAgreement> agreed =
      AgreeOnEdge({Declared("cpu", true),
                   Declared("lavapipe25", true),
                   true,
                   kRing,
                   {HandleKind::kHostPointer, HandleKind::kDmaBuf}});
  ASSERT_TRUE(agreed.ok());
  EXPECT_EQ(*agreed, (EdgeAgreement{true, {HandleKind::kHostPointer, HandleKind::kDmaBuf}}));
}

TEST(EdgeRuleTest, ARingOverTheLimitTakesTheNextWay) {
  EdgeQuestion question{Declared("cpu", true), Declared("amd", true), true, kUdmabuf, kAll};
  EXPECT_TRUE(AgreeOnEdge(question)->producer_owns);
  // Too large for udmabuf: the GPU's own memory does.
  question.ring_bytes = kUdmabuf + 1;
  EXPECT_FALSE(AgreeOnEdge(question)->producer_owns);
  question.consumer.dma_buf.export_bytes = kUdmabuf;
  EXPECT_TRUE(absl::IsFailedPrecondition(AgreeOnEdge(question).status()));
}

TEST(EdgeRuleTest, BetweenHostsOnlyInline) {
  EdgeQuestion question{Declared("cpu", true), Declared("amd", true), false, kRing, kAll};
  EXPECT_EQ(AgreeOnEdge(question)->kinds, std::vector<HandleKind>{HandleKind::kInline});
  question.allowed = {HandleKind::kDmaBuf, HandleKind::kHostPointer};
  EXPECT_TRUE(absl::IsFailedPrecondition(AgreeOnEdge(question).status()));
}

TEST(EdgeRuleTest, ADeviceThatOnlyExportsFeedsInlineThroughItsHostView) {
  EdgeQuestion question{Declared("amd", false), Declared("nvidia", false), true, kRing, kAll};
  EXPECT_TRUE(AgreeOnEdge(question).ok());
  question.producer.host_view = false;
  const absl::Status refused = AgreeOnEdge(question).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("the consumer has host-pointer"));
}

}  // namespace
}  // namespace tandem
