#include "lib/telemetry/span_exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/registry.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "tests/unit/lib/telemetry/otlp_collector.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

class SpanExporterTest : public testing::Test {
 protected:
  static Span MakeSpan(const std::string& name) {
    Span span;
    span.source = {"tandem-test", "gpu0"};
    span.context = TraceContext::NewTrace();
    span.name = name;
    span.begin_ns = 1'700'000'000'000'000'001;
    span.end_ns = span.begin_ns + 5;
    return span;
  }
  double Counted(const std::string& result) const {
    for (const auto& family : registry_->Collect()) {
      for (const auto& metric : family.metric) {
        if (metric.label.front().value == result) return metric.counter.value;
      }
    }
    return -1;
  }

  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  OtlpCollector collector_;
};

TEST_F(SpanExporterTest, SendsWhatTheProtocolSays) {
  SpanExporter exporter;
  ASSERT_TRUE(exporter.Start(collector_.endpoint(), registry_).ok());
  Span span = MakeSpan("a \"name\" with \xff bytes");
  span.parent = TraceContext::NewTrace().span_id;
  span.kind = Span::Kind::kServer;
  span.attributes = {{"text", std::string("t")}, {"number", std::int64_t{7}}, {"real", 0.5}};
  span.error = "503";
  exporter.Add(span);
  const std::string request = collector_.Take();
  EXPECT_TRUE(request.starts_with("POST /v1/traces HTTP/1.1\r\n")) << request;
  EXPECT_THAT(request, testing::HasSubstr("\r\nContent-Type: application/json\r\n"));
  const Json resource = OtlpCollector::Body(request)["resourceSpans"][0];
  Json source;
  for (const Json& attribute : resource["resource"]["attributes"])
    source[attribute["key"].get<std::string>()] = attribute["value"]["stringValue"];
  EXPECT_EQ(source["service.name"], "tandem-test");
  EXPECT_EQ(source["service.instance.id"], "gpu0");
  const Json sent = resource["scopeSpans"][0]["spans"][0];
  EXPECT_EQ(sent["traceId"], HexOf(span.context.trace_id));
  EXPECT_EQ(sent["spanId"], HexOf(span.context.span_id));
  EXPECT_EQ(sent["parentSpanId"], HexOf(span.parent));
  EXPECT_EQ(sent["kind"], 2);
  EXPECT_EQ(sent["startTimeUnixNano"], "1700000000000000001");
  EXPECT_EQ(sent["endTimeUnixNano"], "1700000000000000006");
  EXPECT_EQ(sent["attributes"][0]["value"]["stringValue"], "t");
  EXPECT_EQ(sent["attributes"][1]["value"]["intValue"], "7");
  EXPECT_EQ(sent["attributes"][2]["value"]["doubleValue"], 0.5);
  EXPECT_EQ(sent["status"]["code"], 2);
}

TEST_F(SpanExporterTest, SpansOfOneSourceStandTogether) {
  SpanExporter exporter;
  ASSERT_TRUE(exporter.Start(collector_.endpoint(), registry_).ok());
  Span other = MakeSpan("other");
  other.source.instance = "npu0";
  exporter.Add(MakeSpan("one"));
  exporter.Add(other);
  exporter.Add(MakeSpan("two"));
  const std::vector<Json> spans = collector_.TakeSpans();
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0]["name"], "one");
  EXPECT_EQ(spans[1]["name"], "two");
  EXPECT_EQ(spans[2]["name"], "other");
  EXPECT_EQ(spans[2]["instance"], "npu0");
}

// What is refused for now comes again at the end, once; what is refused for good does not.
TEST_F(SpanExporterTest, WhatMayGoWellLaterIsKept) {
  const Span span = MakeSpan("x");
  std::vector<Json> again;
  std::jthread end;
  {
    SpanExporter exporter;
    ASSERT_TRUE(exporter.Start(collector_.endpoint(), registry_).ok());
    exporter.Add(span);
    collector_.Take("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    end = std::jthread([&] { again = collector_.TakeSpans(); });
  }
  end.join();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0]["spanId"], HexOf(span.context.span_id));
  EXPECT_EQ(Counted("sent"), 1);
  EXPECT_EQ(Counted("dropped"), 0);
}

TEST_F(SpanExporterTest, WhatIsRefusedForGoodIsDropped) {
  {
    SpanExporter exporter;
    ASSERT_TRUE(exporter.Start(collector_.endpoint(), registry_).ok());
    exporter.Add(MakeSpan("x"));
    collector_.Take("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
  }
  EXPECT_EQ(Counted("sent"), 0);
  EXPECT_EQ(Counted("dropped"), 1);
}

// Nobody listens: what waits is bounded, adding never waits, and the end comes soon.
TEST_F(SpanExporterTest, ADeadCollectorCostsNothing) {
  collector_.Close();
  const auto begun = std::chrono::steady_clock::now();
  {
    SpanExporter exporter;
    ASSERT_TRUE(exporter.Start(collector_.endpoint(), registry_).ok());
    for (std::size_t i = 0; i < 3 * SpanExporter::kMaxWaiting; ++i) exporter.Add(MakeSpan("x"));
    EXPECT_EQ(Counted("dropped"), 2 * SpanExporter::kMaxWaiting);
  }
  EXPECT_EQ(Counted("sent"), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(20));
}

// One that takes connections and says nothing does not hold up the end either.
TEST_F(SpanExporterTest, ASilentCollectorIsGivenUp) {
  const auto begun = std::chrono::steady_clock::now();
  {
    SpanExporter exporter;
    ASSERT_TRUE(exporter.Start(collector_.endpoint(), registry_).ok());
    exporter.Add(MakeSpan("x"));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(20));
}

TEST_F(SpanExporterTest, IsOffUntilItIsStarted) {
  SpanExporter exporter;
  EXPECT_FALSE(exporter.on());
  exporter.Add(MakeSpan("x"));
}

TEST_F(SpanExporterTest, RefusesOtherEndpoints) {
  for (const char* endpoint :
       {"", "127.0.0.1:4318", "https://127.0.0.1:4318/v1/traces", "http://127.0.0.1/v1/traces",
        "http://:4318/x", "http://a:b/x", "http://a:1", "http://a:1/x y", "http://a:1/x\r\nHost: b",
        "http://::1:4318/x", "http://me:secret@a:1/x"}) {
    SpanExporter exporter;
    EXPECT_TRUE(absl::IsInvalidArgument(exporter.Start(endpoint, registry_))) << endpoint;
    EXPECT_FALSE(exporter.on());
  }
}

}  // namespace
}  // namespace tandem
