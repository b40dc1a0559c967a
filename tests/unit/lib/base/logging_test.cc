#include "lib/base/logging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

namespace tandem {
namespace {

// What one call logs.
template <typename Log>
std::string Logged(LogFormat format, Log log) {
  testing::internal::CaptureStderr();
  InitLogging("test", LogLevel::kInfo, format);
  log();
  return testing::internal::GetCapturedStderr();
}

void LogOne() {
  LogEvent("http", {{"path", "/a b\n\"c\""},
                    {"id", "req-1"},
                    {"none", ""},
                    {"status", std::int64_t{200}},
                    {"milliseconds", 1.5}});
}

TEST(Logging, LinesOfText) {
  const std::string line = Logged(LogFormat::kText, LogOne);
  EXPECT_TRUE(
      line.ends_with("Z test info  http path=\"/a b\\n\\\"c\\\"\" id=req-1 none=\"\" "
                     "status=200 milliseconds=1.5\n"))
      << line;
}

TEST(Logging, LinesOfJson) {
  const std::string line = Logged(LogFormat::kJson, LogOne);
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["process"], "test");
  EXPECT_EQ(json["level"], "info");
  EXPECT_EQ(json["message"], "http");
  EXPECT_EQ(json["path"], "/a b\n\"c\"");
  EXPECT_EQ(json["status"], 200);
  EXPECT_EQ(json["milliseconds"], 1.5);
  EXPECT_THAT(json["time"].get<std::string>(), testing::MatchesRegex("....-..-..T..:..:......Z"));
}

TEST(Logging, OrdinaryLinesHaveNoFieldsOfOthers) {
  const std::string text = Logged(LogFormat::kJson, [] {
    LogOne();
    spdlog::warn("a \xff line\nof two");
  });
  const auto json = nlohmann::json::parse(text.substr(text.find('\n') + 1));
  EXPECT_EQ(json.size(), 4u);
  EXPECT_EQ(json["level"], "warning");
  EXPECT_EQ(json["message"], "a \xEF\xBF\xBD line\nof two");
}

TEST(Logging, SilentBelowItsLevel) {
  EXPECT_EQ(Logged(LogFormat::kJson, [] { spdlog::debug("not seen"); }), "");
}

}  // namespace
}  // namespace tandem
