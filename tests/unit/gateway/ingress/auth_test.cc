#include "gateway/ingress/auth.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "gateway/ingress/request/error.h"

namespace tandem {
namespace {

class KeyFile {
 public:
  explicit KeyFile(const std::string& text) {
    folder_ = ::testing::TempDir() + "tandem-auth-XXXXXX";
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    path_ = folder_ + "/keys";
    std::ofstream(path_) << text;
  }
  ~KeyFile() {
    unlink(path_.c_str());
    rmdir(folder_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  std::string folder_;
  std::string path_;
};

TEST(ApiKeys, WithoutKeysEverybodyMayCall) {
  EXPECT_FALSE(ApiKeys().required());
  EXPECT_TRUE(ApiKeys().Check("").ok());
}

TEST(ApiKeys, ChecksTheBearerToken) {
  const auto keys = ApiKeys::Create({"first", "second"});
  ASSERT_TRUE(keys.ok());
  EXPECT_TRUE(keys->Check("Bearer first").ok());
  EXPECT_TRUE(keys->Check("bearer  second ").ok());
  for (const char* bad : {"", "first", "Bearer", "Bearer ", "Bearer firs", "Bearer firstfirst",
                          "Bearer firsu", "Basic first", "Bearer first second"}) {
    EXPECT_TRUE(absl::IsUnauthenticated(keys->Check(bad))) << bad;
  }
}

TEST(ApiKeys, ReadsAFile) {
  const KeyFile file("# keys\n\n  alpha\nbeta\r\n");
  const auto keys = ApiKeys::ReadFile(file.path());
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_TRUE(keys->Check("Bearer alpha").ok());
  EXPECT_TRUE(keys->Check("Bearer beta").ok());
  EXPECT_FALSE(keys->Check("Bearer gamma").ok());
}

TEST(ApiKeys, RefusesFilesWithoutUsableKeys) {
  EXPECT_TRUE(absl::IsNotFound(ApiKeys::ReadFile("/nonexistent/keys").status()));
  for (const char* text : {"", "# only a comment\n", "two words\n", "tab\there\n"}) {
    const KeyFile file(text);
    const absl::Status status = ApiKeys::ReadFile(file.path()).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_NE(status.message().find("keys"), absl::string_view::npos);
  }
}

ApiKeyRule Rule(const std::string& name, std::uint8_t scopes = kAllScopes) {
  ApiKeyRule rule;
  rule.name = name;
  rule.sha256 = HashApiKey("secret of " + name);
  rule.scopes = scopes;
  return rule;
}
std::string Shown(const std::string& name) { return "Bearer secret of " + name; }

TEST(ApiKeys, ScopesAreKept) {
  const ApiKeys keys =
      ApiKeys::FromRules({Rule("asks", static_cast<std::uint8_t>(KeyScope::kInference)),
                          Rule("watches", static_cast<std::uint8_t>(KeyScope::kMetrics)),
                          Rule("rules", static_cast<std::uint8_t>(KeyScope::kAdmin))});
  EXPECT_TRUE(keys.Check(Shown("asks"), KeyScope::kInference).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(keys.Check(Shown("asks"), KeyScope::kMetrics)));
  EXPECT_TRUE(absl::IsPermissionDenied(keys.Check(Shown("asks"), KeyScope::kAdmin)));
  EXPECT_TRUE(absl::IsPermissionDenied(keys.Admit(Shown("watches")).status()));
  EXPECT_TRUE(keys.Check(Shown("watches"), KeyScope::kMetrics).ok());
  for (const KeyScope scope : {KeyScope::kInference, KeyScope::kMetrics, KeyScope::kAdmin})
    EXPECT_TRUE(keys.Check(Shown("rules"), scope).ok());
}

class KeyLimits : public ::testing::Test {
 protected:
  ApiKeys Keys(const ApiKeyRule& rule) { return ApiKeys::FromRules({rule, Rule("free")}, clock_); }
  ManualClock clock_;
};

TEST_F(KeyLimits, RequestsAtATime) {
  ApiKeyRule rule = Rule("a");
  rule.requests = 2;
  const ApiKeys keys = Keys(rule);
  auto first = keys.Admit(Shown("a"));
  auto second = keys.Admit(Shown("a"));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->name(), "a");
  const absl::Status refused = keys.Admit(Shown("a")).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_TRUE(keys.Admit(Shown("free")).ok());
  // Handed on it is still one request.
  KeyUse kept = *std::move(first);
  first = KeyUse();
  EXPECT_FALSE(keys.Admit(Shown("a")).ok());
  kept = KeyUse();
  EXPECT_TRUE(keys.Admit(Shown("a")).ok());
}

TEST_F(KeyLimits, RequestsAMinute) {
  ApiKeyRule rule = Rule("a");
  rule.requests_per_minute = 6;
  const ApiKeys keys = Keys(rule);
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(keys.Admit(Shown("a")).ok()) << i;
  const absl::Status refused = keys.Admit(Shown("a")).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_EQ(RetryAfterSeconds(refused), 10);
  clock_.Advance(absl::Seconds(10));
  EXPECT_TRUE(keys.Admit(Shown("a")).ok());
  EXPECT_FALSE(keys.Admit(Shown("a")).ok());
  // A long rest gives a minute's worth, not more.
  clock_.Advance(absl::Hours(5));
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(keys.Admit(Shown("a")).ok()) << i;
  EXPECT_FALSE(keys.Admit(Shown("a")).ok());
}

TEST_F(KeyLimits, TokensAMinuteAreADebtThatTimePays) {
  ApiKeyRule rule = Rule("a");
  rule.tokens_per_minute = 60;
  const ApiKeys keys = Keys(rule);
  {
    const auto use = keys.Admit(Shown("a"));
    ASSERT_TRUE(use.ok());
    use->Charge(120);
  }
  const absl::Status refused = keys.Admit(Shown("a")).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_EQ(RetryAfterSeconds(refused), 61);
  clock_.Advance(absl::Seconds(60));
  EXPECT_FALSE(keys.Admit(Shown("a")).ok());
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(keys.Admit(Shown("a")).ok());
}

TEST_F(KeyLimits, WhatAKeyHasUsedOutlivesANewFile) {
  ApiKeyRule rule = Rule("a");
  rule.requests = 1;
  ApiKeys keys = Keys(rule);
  const auto running = keys.Admit(Shown("a"));
  ASSERT_TRUE(running.ok());
  keys.Replace({rule, Rule("new")});
  EXPECT_FALSE(keys.Admit(Shown("a")).ok());
  EXPECT_TRUE(keys.Admit(Shown("new")).ok());
  EXPECT_TRUE(absl::IsUnauthenticated(keys.Check(Shown("free"))));
  rule.requests = 2;
  keys.Replace({rule});
  EXPECT_TRUE(keys.Admit(Shown("a")).ok());
  // The last key is gone: that opens nothing.
  keys.Replace({});
  EXPECT_TRUE(keys.required());
  EXPECT_TRUE(absl::IsUnauthenticated(keys.Check("")));
  EXPECT_TRUE(absl::IsUnauthenticated(keys.Check(Shown("a"))));
}

}  // namespace
}  // namespace tandem
