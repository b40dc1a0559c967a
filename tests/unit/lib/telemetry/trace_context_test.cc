#include "lib/telemetry/trace_context.h"

#include <gtest/gtest.h>

#include <string>

namespace tandem {
namespace {

constexpr char kParent[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(TraceContext, ReadsWhatItWrites) {
  const auto context = TraceContext::Parse(kParent);
  ASSERT_TRUE(context.has_value());
  EXPECT_EQ(HexOf(context->trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(HexOf(context->span_id), "00f067aa0ba902b7");
  EXPECT_TRUE(context->sampled);
  EXPECT_EQ(context->ToString(), kParent);
  std::string not_sampled = kParent;
  not_sampled.back() = '0';
  EXPECT_FALSE(TraceContext::Parse(not_sampled)->sampled);
  EXPECT_EQ(TraceContext::Parse(not_sampled)->ToString(), not_sampled);
}

TEST(TraceContext, RefusesWhatIsNone) {
  const std::string good = kParent;
  for (std::size_t length = 0; length < good.size(); ++length)
    EXPECT_FALSE(TraceContext::Parse(good.substr(0, length)).has_value()) << length;
  for (const char* text : {
           "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
           "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
           "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
           "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
           "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
           "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
       }) {
    EXPECT_FALSE(TraceContext::Parse(text).has_value()) << text;
  }
  EXPECT_TRUE(TraceContext::Parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later")
                  .has_value());
}

TEST(TraceContext, NewSpansStayInTheirTrace) {
  const TraceContext root = TraceContext::NewTrace();
  const TraceContext span = root.NewSpan();
  EXPECT_EQ(span.trace_id, root.trace_id);
  EXPECT_NE(span.span_id, root.span_id);
  EXPECT_NE(TraceContext::NewTrace().trace_id, root.trace_id);
  EXPECT_EQ(TraceContext::Parse(span.ToString()), span);
}

}  // namespace
}  // namespace tandem
