#include "lib/service/api_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

namespace tandem {
namespace {

using ::testing::HasSubstr;

const std::string kZeros(64, '0');

std::string ErrorOf(const std::string& text) {
  return std::string(ParseKeyRules(text).status().message());
}

TEST(ApiKeyRules, ReadsHashesAndPlainKeys) {
  const auto rules = ParseKeyRules("# keys\r\n\r\nalice sha256:" + kZeros +
                                   " scopes=inference,metrics requests=4  requests_per_minute=60 "
                                   "tokens_per_minute=1000\n  secret \r\nbob\tsha256:" +
                                   std::string(64, 'F') + "\n");
  ASSERT_TRUE(rules.ok()) << rules.status();
  ASSERT_EQ(rules->size(), 3U);
  const ApiKeyRule& alice = (*rules)[0];
  EXPECT_EQ(alice.name, "alice");
  EXPECT_TRUE(alice.allows(KeyScope::kInference));
  EXPECT_TRUE(alice.allows(KeyScope::kMetrics));
  EXPECT_FALSE(alice.allows(KeyScope::kAdmin));
  EXPECT_EQ(alice.requests, 4);
  EXPECT_EQ(alice.requests_per_minute, 60);
  EXPECT_EQ(alice.tokens_per_minute, 1000);
  EXPECT_EQ((*rules)[1].name, "line-4");
  EXPECT_EQ((*rules)[1].sha256, HashApiKey("secret"));
  EXPECT_TRUE((*rules)[1].allows(KeyScope::kAdmin));
  EXPECT_EQ((*rules)[2].name, "bob");
  EXPECT_TRUE((*rules)[2].allows(KeyScope::kInference));
  EXPECT_FALSE((*rules)[2].allows(KeyScope::kMetrics));
}

TEST(ApiKeyRules, AdminMayDoEverything) {
  const auto rules = ParseKeyRules("root sha256:" + kZeros + " scopes=admin");
  ASSERT_TRUE(rules.ok());
  for (const KeyScope scope : {KeyScope::kInference, KeyScope::kMetrics, KeyScope::kAdmin})
    EXPECT_TRUE(rules->front().allows(scope));
}

TEST(ApiKeyRules, SaysWhichLineIsWrongButNeverWhatStandsThere) {
  const std::string good = "a sha256:" + kZeros;
  for (const std::string& bad :
       {std::string("a secretword"), "a sha256:" + kZeros.substr(1), "a sha256:" + kZeros + "0",
        good + " scopes=", good + " scopes=secretword", good + " requests=0", good + " requests=-1",
        good + " secretword=1", good + " requests=99999999999", "b\x01 sha256:" + kZeros,
        std::string("sec\x01ret")}) {
    const std::string error = ErrorOf("\n" + bad);
    EXPECT_THAT(error, HasSubstr("line 2: ")) << bad;
    EXPECT_EQ(error.find("secret"), std::string::npos) << error;
  }
  EXPECT_THAT(ErrorOf(good + "\n" + good), HasSubstr("'a' twice"));
}

TEST(ApiKeyRules, WhatIsWrittenIsReadAgain) {
  ApiKeyRule rule;
  rule.name = "carol@example.org";
  rule.sha256 = HashApiKey("x");
  rule.scopes = static_cast<std::uint8_t>(KeyScope::kMetrics);
  rule.requests = 1;
  rule.tokens_per_minute = 7;
  const auto rules = ParseKeyRules(FormatKeyRule(rule));
  ASSERT_TRUE(rules.ok()) << rules.status();
  EXPECT_EQ(FormatKeyRule(rules->front()), FormatKeyRule(rule));
  EXPECT_EQ(rules->front().sha256, rule.sha256);
}

// FIPS 180-4's own example.
TEST(ApiKeyRules, HashesWithSha256) {
  ApiKeyRule rule;
  rule.name = "n";
  rule.sha256 = HashApiKey("abc");
  EXPECT_THAT(FormatKeyRule(rule),
              HasSubstr("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
}

TEST(ApiKeyRules, NewKeysAreLongAndDifferent) {
  const std::string one = MakeApiKey();
  EXPECT_EQ(one.size(), 4U + 43U);
  EXPECT_TRUE(one.starts_with("tdm_"));
  EXPECT_NE(one, MakeApiKey());
  EXPECT_TRUE(CheckApiKeys({one}).ok());
}

class KeyFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "tandem-keys-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/keys";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Text() const {
    std::ifstream in(path_);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  static ApiKeyRule Rule(const std::string& name) {
    ApiKeyRule rule;
    rule.name = name;
    return rule;
  }
  std::string folder_;
  std::string path_;
};

TEST_F(KeyFileTest, AddsAndRemovesAndKeepsTheRest) {
  ASSERT_TRUE(AddKeyRule(path_, Rule("a")).ok());
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  std::ofstream(path_, std::ios::app) << "# a comment\nplain";
  ASSERT_TRUE(AddKeyRule(path_, Rule("b")).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(AddKeyRule(path_, Rule("b"))));
  EXPECT_TRUE(absl::IsInvalidArgument(AddKeyRule(path_, Rule("two words"))));
  EXPECT_TRUE(absl::IsNotFound(RemoveKeyRule(path_, "c")));
  ASSERT_TRUE(RemoveKeyRule(path_, "a").ok());
  ASSERT_TRUE(RemoveKeyRule(path_, "line-2").ok());
  EXPECT_EQ(Text(), "# a comment\n" + FormatKeyRule(Rule("b")) + "\n");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(KeyFileTest, NothingIsLostWhereTwoChangeItAtOnce) {
  constexpr int kEach = 10;
  const auto add = [this](const std::string& prefix) {
    for (int i = 0; i < kEach; ++i)
      EXPECT_TRUE(AddKeyRule(path_, Rule(prefix + std::to_string(i))).ok());
  };
  std::thread other(add, "a");
  add("b");
  other.join();
  const auto rules = ReadKeyRules(path_);
  ASSERT_TRUE(rules.ok()) << rules.status();
  EXPECT_EQ(rules->size(), 2u * kEach);
}

// Root adds a key to a file that the gateway's user must be able to read.
TEST_F(KeyFileTest, TheFileKeepsItsOwner) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  constexpr uid_t kGateway = 61001;
  ASSERT_TRUE(AddKeyRule(path_, Rule("a")).ok());
  ASSERT_EQ(::chown(path_.c_str(), kGateway, kGateway), 0);
  ASSERT_TRUE(AddKeyRule(path_, Rule("b")).ok());
  ASSERT_TRUE(RemoveKeyRule(path_, "a").ok());
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, kGateway);
  EXPECT_EQ(info.st_gid, kGateway);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
}

TEST_F(KeyFileTest, LeavesAFileThatItDoesNotUnderstand) {
  std::ofstream(path_) << "what is this\n";
  EXPECT_TRUE(absl::IsInvalidArgument(AddKeyRule(path_, Rule("a"))));
  EXPECT_TRUE(absl::IsInvalidArgument(RemoveKeyRule(path_, "what")));
  EXPECT_EQ(Text(), "what is this\n");
}

TEST_F(KeyFileTest, AKeyCannotBeShownFromItsHash) {
  ASSERT_TRUE(AddKeyRule(path_, Rule("a")).ok());
  EXPECT_THAT(std::string(ReadApiKeyFile(path_).status().message()), HasSubstr("hashes only"));
  EXPECT_TRUE(NeedKeyRules(path_).ok());
  ASSERT_TRUE(RemoveKeyRule(path_, "a").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(NeedKeyRules(path_).status()));
  EXPECT_TRUE(ReadKeyRules(path_).ok());
}

}  // namespace
}  // namespace tandem
