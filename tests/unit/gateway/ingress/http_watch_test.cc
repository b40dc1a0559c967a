// The paths that watch the cluster: metrics of every process, targets, status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "tests/unit/gateway/ingress/ingress_fixture.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class HttpWatch : public IngressFixture {
 protected:
  HttpWatch() {
    WatchSources sources;
    sources.status = [] {
      ClusterStatus status;
      status.state = "ready";
      status.model = "m";
      status.running = 3;
      status.waiting = 5;
      status.kv = {{"global", 100, 20, 10}, {"window", 40, 30, 5}};
      WorkerStatus& worker = status.workers.emplace_back();
      worker.metrics = "127.0.0.1:7";
      worker.restarts = 2;
      return status;
    };
    sources.processes = {{"loader", "loader"}, {"gpu0", "gpu"}};
    sources.process_page = [this](const std::string& process, auto done) {
      if (process == "late") {
        late_ = std::move(done);
      } else if (process == "gpu0") {
        done(std::string("x 1\n"));
      } else if (process == "loader") {
        done(absl::UnavailableError("connection refused"));
      } else {
        done(absl::NotFoundError("no process '" + process + "'"));
      }
    };
    router_.SetWatchSources(std::move(sources));
  }

  std::function<void(absl::StatusOr<std::string>)> late_;
};

TEST_F(HttpWatch, PagesOfOtherProcesses) {
  Start();
  const TestReply page = Ask("GET", "/metrics/process/gpu0");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.body, "x 1\n");
  EXPECT_EQ(page.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const TestReply dead = Ask("GET", "/metrics/process/loader");
  EXPECT_EQ(dead.status, 502);
  EXPECT_EQ(dead.body, "connection refused\n");
  EXPECT_EQ(Ask("GET", "/metrics/process/gpu9").status, 404);
  EXPECT_EQ(Ask("GET", "/metrics/process/").status, 404);
  EXPECT_EQ(Ask("POST", "/metrics/process/gpu0", "{}").status, 405);
}

TEST_F(HttpWatch, AnAnswerAfterTheClientHasLeftIsDropped) {
  Start();
  {
    HttpTestClient client = Connect();
    client.SendRequest("GET", "/metrics/process/late");
    client.SendRequest("GET", "/healthz");
  }
  server_->Shutdown(absl::ZeroDuration());
  if (late_) late_(std::string("too late"));
}

TEST_F(HttpWatch, TargetsAreWhereTheyWereAskedFor) {
  Start();
  HttpTestClient client = Connect();
  client.SendRequest("GET", "/metrics/targets");
  const auto targets = client.Read().Json();
  ASSERT_EQ(targets.size(), 3u);
  EXPECT_EQ(targets[0]["labels"]["process"], "gateway");
  EXPECT_EQ(targets[2]["labels"]["__metrics_path__"], "/metrics/process/gpu0");
  EXPECT_EQ(targets[2]["labels"]["role"], "gpu");
  EXPECT_EQ(targets[2]["targets"].size(), 1u);
  EXPECT_EQ(targets[0]["targets"], targets[2]["targets"]);
}

TEST_F(HttpWatch, RoutersReadTheNamesTheyKnow) {
  Start();
  const std::string text = Ask("GET", "/metrics/vllm").body;
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_running{model_name=\"m\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_waiting{model_name=\"m\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("vllm:kv_cache_usage_perc{model_name=\"m\"} 0.75\n"));
}

TEST_F(HttpWatch, StatusIsThatOfTheCluster) {
  Start();
  const auto status = Ask("GET", "/status").Json();
  EXPECT_EQ(status["state"], "ready");
  EXPECT_EQ(status["kv"][1]["reserved"], 30);
  EXPECT_EQ(status["workers"][0]["restarts"], 2);
  EXPECT_EQ(status["workers"][0]["metrics"], "127.0.0.1:7");
}

TEST_F(HttpWatch, KeysAreNeeded) {
  keys_ = *ApiKeys::Create({"secret"});
  Start();
  for (const char* path :
       {"/metrics", "/metrics/process/gpu0", "/metrics/targets", "/metrics/vllm", "/status"}) {
    EXPECT_EQ(Ask("GET", path).status, 401) << path;
    EXPECT_EQ(Ask("GET", path, "", "Authorization: Bearer secret\r\n").status, 200) << path;
  }
}

TEST_F(HttpWatch, ThePageLoadsNothingFromElsewhere) {
  keys_ = *ApiKeys::Create({"secret"});
  Start();
  const TestReply page = Ask("GET", "/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.headers.at("content-type"), "text/html; charset=utf-8");
  EXPECT_THAT(page.headers.at("content-security-policy"),
              testing::StartsWith("default-src 'none'; script-src 'self'; style-src 'self';"));
  EXPECT_EQ(page.headers.at("x-content-type-options"), "nosniff");
  EXPECT_THAT(page.body, testing::StartsWith("<!doctype html>"));
  for (const char* path : {"/page/app.js", "/page/style.css", "/page/icon.svg"}) {
    EXPECT_THAT(page.body,
                HasSubstr(path == std::string("/page/app.js") ? "src=\"/page/app.js\"" : path));
    const TestReply file = Ask("GET", path);
    EXPECT_EQ(file.status, 200) << path;
    EXPECT_THAT(file.body, Not(HasSubstr("http://127"))) << path;
  }
  EXPECT_EQ(Ask("GET", "/page/").status, 401);
  EXPECT_EQ(Ask("GET", "/page/../etc/passwd").status, 401);
  EXPECT_EQ(Ask("POST", "/", "{}").status, 405);
  EXPECT_EQ(Ask("GET", "/", "", "Origin: http://evil.example\r\n").status, 403);
}

TEST_F(HttpWatch, GenerationsAreCountedAsTheConventionsSay) {
  Start();
  HttpTestClient client = Connect();
  client.SendRequest("POST", "/v1/chat/completions", ChatBody(R"("max_tokens":3)"));
  engine_.Tokens(1, {Id("Hello"), Id("Hello")});
  engine_.Finish(1, FinishReason::kStop);
  EXPECT_EQ(client.Read().status, 200);
  EXPECT_EQ(Ask("POST", "/v1/completions", "{").status, 400);
  const std::string text = Ask("GET", "/metrics").body;
  const std::string labels =
      "{gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"tandem\",gen_ai_request_model=\"m\","
      "gen_ai_response_model=\"m\"} 1\n";
  EXPECT_THAT(text, HasSubstr("gen_ai_server_request_duration_seconds_count" + labels));
  EXPECT_THAT(text, HasSubstr("gen_ai_server_time_to_first_token_seconds_count" + labels));
  EXPECT_THAT(text, HasSubstr("gen_ai_server_time_per_output_token_seconds_count" + labels));
  EXPECT_THAT(text, HasSubstr("tandem_rejections_total{reason=\"invalid\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tandem_rejections_total{reason=\"queue_full\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("process_open_fds"));
  EXPECT_THAT(text, Not(HasSubstr("text_completion")));
}

// A full queue is for the operator to mend; what a key may not, and what a client does wrongly, are
// not.
TEST_F(HttpWatch, RefusalsAreCountedByTheirReason) {
  ApiKeyRule rule;
  rule.name = "few";
  rule.sha256 = HashApiKey("few");
  rule.scopes = static_cast<std::uint8_t>(KeyScope::kInference) |
                static_cast<std::uint8_t>(KeyScope::kMetrics);
  rule.requests_per_minute = 2;
  keys_ = ApiKeys::FromRules({rule});
  engine_.SetQueue(0);
  Start();
  const std::string key = "Authorization: Bearer few\r\n";
  EXPECT_EQ(Ask("POST", "/v1/completions", CompletionBody(), key).status, 429);
  EXPECT_EQ(Ask("POST", "/v1/completions", "{", key).status, 400);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Ask("POST", "/v1/completions", CompletionBody(), key).status, 429);
  }
  EXPECT_EQ(Ask("GET", "/v1/models").status, 401);
  EXPECT_EQ(Ask("POST", "/v1/models", "{}", key).status, 405);
  const std::string text = Ask("GET", "/metrics", "", key).body;
  EXPECT_THAT(text, HasSubstr("tandem_rejections_total{reason=\"queue_full\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tandem_rejections_total{reason=\"key_limit\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("tandem_rejections_total{reason=\"invalid\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("tandem_rejections_total{reason=\"denied\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tandem_rejections_total{reason=\"slow_reader\"} 0\n"));
}

}  // namespace
}  // namespace tandem
