#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>

#include "tests/unit/gateway/ingress/ingress_fixture.h"
#include "tests/unit/lib/telemetry/otlp_collector.h"

namespace tandem {
namespace {

using Json = nlohmann::json;
constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kParent[] =
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

class HttpTraces : public IngressFixture {
 protected:
  void SetUp() override {
    ASSERT_TRUE(spans_.Start(collector_.endpoint(), std::make_shared<prometheus::Registry>()).ok());
    Start();
  }
  // What the cluster was told of the request's trace.
  std::string Complete(const std::string& headers) {
    ++requests_;
    HttpTestClient client = Connect();
    client.SendRequest("POST", "/v1/completions", CompletionBody(), headers);
    const std::string parent = engine_.WaitForRequest(requests_).trace_parent;
    engine_.Tokens(requests_, {Id("\u2581world")});
    engine_.Finish(requests_, FinishReason::kLength);
    EXPECT_EQ(client.Read().status, 200);
    return parent;
  }
  static Json Attributes(const Json& span) {
    Json all;
    for (const Json& attribute : span["attributes"])
      all[attribute["key"].get<std::string>()] = attribute["value"].front();
    return all;
  }

  OtlpCollector collector_;
  std::uint64_t requests_ = 0;
};

TEST_F(HttpTraces, GoOnWithTheClients) {
  const std::string parent = Complete(kParent);
  const std::vector<Json> spans = collector_.TakeSpans();
  ASSERT_EQ(spans.size(), 1u);
  const Json& span = spans[0];
  EXPECT_EQ(span["instance"], "gateway");
  EXPECT_EQ(span["name"], "text_completion m");
  EXPECT_EQ(span["traceId"], kTrace);
  EXPECT_EQ(span["parentSpanId"], "00f067aa0ba902b7");
  EXPECT_EQ(parent, "00-" + std::string(kTrace) + "-" + span["spanId"].get<std::string>() + "-01");
  EXPECT_EQ(span["status"], Json::object());
  const Json attributes = Attributes(span);
  EXPECT_EQ(attributes["gen_ai.usage.input_tokens"], "2");
  EXPECT_EQ(attributes["gen_ai.usage.output_tokens"], "1");
  EXPECT_EQ(attributes["tandem.endpoint"], "/v1/completions");
  EXPECT_GE(attributes["tandem.time_to_first_token_seconds"], 0.0);
}

// No context, one that is none, and two of them: each begins a trace.
TEST_F(HttpTraces, BeginWhereNobodyHasBegun) {
  const std::string upper =
      "traceparent: 00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01\r\n";
  for (const std::string& headers : {std::string(), upper, std::string(kParent) + kParent}) {
    Complete(headers);
    const std::vector<Json> spans = collector_.TakeSpans();
    ASSERT_EQ(spans.size(), 1u);
    EXPECT_NE(spans[0]["traceId"], kTrace);
    EXPECT_EQ(spans[0]["traceId"].get<std::string>().size(), 32u);
    EXPECT_FALSE(spans[0].contains("parentSpanId"));
  }
}

TEST_F(HttpTraces, AreLeftOutWhereTheClientDoesNotRecord) {
  EXPECT_EQ(Complete("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n"),
            "");
  Complete(kParent);
  EXPECT_EQ(collector_.TakeSpans().size(), 1u);
}

TEST_F(HttpTraces, SayWhyARequestFailed) {
  EXPECT_EQ(Ask("POST", "/v1/completions", CompletionBody(R"("max_tokens":-7)"), kParent).status,
            400);
  const std::vector<Json> refused = collector_.TakeSpans();
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0]["name"], "text_completion");
  EXPECT_EQ(refused[0]["status"]["message"], "400");
  EXPECT_EQ(Attributes(refused[0])["error.type"], "400");

  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/completions", CompletionBody(), kParent);
  engine_.WaitForRequest(1);
  engine_.Finish(1, FinishReason::kError, absl::UnavailableError("gone"));
  EXPECT_EQ(client.Read().status, 503);
  const std::vector<Json> failed = collector_.TakeSpans();
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_EQ(failed[0]["status"]["code"], 2);
  EXPECT_EQ(failed[0]["status"]["message"], "503");
}

}  // namespace
}  // namespace tandem
