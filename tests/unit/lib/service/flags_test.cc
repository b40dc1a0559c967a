#include "lib/service/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "lib/base/status_macros.h"
#include "lib/model/kinds.h"
#include "lib/service/command_line.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Settings {
  std::string name = "x";
  std::int32_t count = 3;
  std::uint64_t bytes = 0;
  double heat = 0.5;
  absl::Duration grace = absl::Seconds(3);
  bool fast = false;
  KvType type = KvType::kFloat32;
  std::vector<HandleKind> kinds;
};

class FlagsTest : public ::testing::Test {
 protected:
  FlagsTest() { Add(&flags_, &settings_); }
  static void Add(FlagList* flags, Settings* s) {
    flags->Text("name", &s->name, "a name");
    flags->Number("count", &s->count, 1, 9, "how many");
    flags->Bytes("bytes", &s->bytes, 0, std::uint64_t{1} << 40, "how much");
    flags->Real("heat", &s->heat, 0, 2, "how hot");
    flags->Time("grace", &s->grace, "how long");
    flags->Switch("fast", &s->fast, "whether");
    flags->Choice("type", &s->type, "which");
    flags->Choices("kinds", &s->kinds, "which ones");
  }
  // Reads a command line as a program with these flags does.
  absl::Status Parse(const std::vector<std::string>& arguments) {
    Command command{.name = "tandem-x", .summary = "does x"};
    command.flags = flags_;
    command.run = [] { return 0; };
    TANDEM_ASSIGN_OR_RETURN(const Invocation invocation, ParseArguments(&command, arguments));
    return ApplySources(invocation);
  }
  std::string ErrorOf(const std::vector<std::string>& arguments) {
    return std::string(Parse(arguments).message());
  }
  Settings settings_;
  FlagList flags_;
};

TEST_F(FlagsTest, BothSpellings) {
  ASSERT_EQ(ErrorOf({"--name=a=b", "--count", "7", "--bytes=123456789012", "--fast", "--grace",
                     "1m30s", "--type=float16", "--kinds=inline,dma-buf", "--heat=1.5"}),
            "");
  EXPECT_EQ(settings_.name, "a=b");
  EXPECT_EQ(settings_.count, 7);
  EXPECT_EQ(settings_.bytes, 123456789012u);
  EXPECT_EQ(settings_.heat, 1.5);
  EXPECT_EQ(settings_.grace, absl::Seconds(90));
  EXPECT_TRUE(settings_.fast);
  EXPECT_EQ(settings_.type, KvType::kFloat16);
  EXPECT_THAT(settings_.kinds, ElementsAre(HandleKind::kInline, HandleKind::kDmaBuf));
  ASSERT_EQ(ErrorOf({"--fast=false"}), "");
  EXPECT_FALSE(settings_.fast);
}

TEST_F(FlagsTest, ErrorsSayFlagExpectedAndFound) {
  EXPECT_EQ(ErrorOf({"--colour=red"}), "--colour: unknown flag (tandem-x --help lists them)");
  EXPECT_EQ(ErrorOf({"--cuont=3"}),
            "--cuont: unknown flag; did you mean --count? (tandem-x --help lists them)");
  EXPECT_EQ(ErrorOf({"word"}), "unexpected argument 'word'");
  EXPECT_EQ(ErrorOf({"--name"}), "--name: expected a value, found none");
  EXPECT_EQ(ErrorOf({"--name="}), "--name: expected a value, found none");
  for (const char* bad : {"0", "10", "-1", "", "x", "3x", " 3", "+3", "99999999999", "1.5"}) {
    EXPECT_EQ(ErrorOf({"--count", bad}),
              Cat("--count: expected a whole number from 1 to 9, found '", bad, "'"));
  }
  for (const char* bad : {"-1", "2TiB", "1.5GiB", "GiB", "1 GiB", "99999999TiB", "1gib"})
    EXPECT_EQ(ErrorOf({"--bytes", bad}),
              Cat("--bytes: expected a number of bytes from 0 to 1099511627776, such as 4GiB, "
                  "found '",
                  bad, "'"));
  for (const char* bad : {"3", "nan", "x"})
    EXPECT_EQ(ErrorOf({"--heat", bad}),
              Cat("--heat: expected a number from 0 to 2, found '", bad, "'"));
  for (const char* bad : {"3", "0s", "-1s", "inf", "soon"})
    EXPECT_THAT(ErrorOf({"--grace", bad}), HasSubstr("--grace: expected a time such as 500ms"));
  EXPECT_EQ(ErrorOf({"--fast=maybe"}), "--fast: expected true or false, found 'maybe'");
  EXPECT_EQ(ErrorOf({"--type=int3"}),
            "--type: expected one of float32, float16, int8, found 'int3'");
  EXPECT_THAT(ErrorOf({"--kinds=inline,,"}), HasSubstr("--kinds: expected one of dma-buf"));
}

TEST_F(FlagsTest, WhatChangedCanBeHandedOn) {
  EXPECT_THAT(flags_.Changed(), IsEmpty());
  const std::vector<std::string> given = {"--name=a b",     "--count=9",
                                          "--grace=1m30s",  "--fast=true",
                                          "--type=float16", "--kinds=inline,dma-buf"};
  ASSERT_EQ(ErrorOf(given), "");
  EXPECT_EQ(flags_.Changed(), given);
}

TEST_F(FlagsTest, TextsWithBracketsAndSwitchesWithWordsBehindThemStayWhole) {
  for (const char* text : {"[a,b]", "[]", "--count=3", "-x", "up"}) {
    ASSERT_EQ(ErrorOf({"--name", text}), "");
    EXPECT_EQ(settings_.name, text);
    ASSERT_EQ(ErrorOf({Cat("--name=", text)}), "");
    EXPECT_EQ(settings_.name, text);
  }
  EXPECT_EQ(ErrorOf({"--name=", "--fast"}), "--name: expected a value, found none");
}

TEST_F(FlagsTest, TheLastOneWinsAndListsGrow) {
  ASSERT_EQ(ErrorOf({"--count=3", "--kinds=inline", "--count=5", "--kinds", "dma-buf"}), "");
  EXPECT_EQ(settings_.count, 5);
  EXPECT_THAT(settings_.kinds, ElementsAre(HandleKind::kInline, HandleKind::kDmaBuf));
}

TEST_F(FlagsTest, AmountsOfBytesHaveUnits) {
  for (const auto& [text, bytes] :
       std::vector<std::pair<std::string, std::uint64_t>>{{"7", 7},
                                                          {"3KiB", 3 << 10},
                                                          {"5MiB", 5 << 20},
                                                          {"2GiB", 2ull << 30},
                                                          {"1TiB", 1ull << 40}}) {
    ASSERT_EQ(ErrorOf({"--bytes", text}), "");
    EXPECT_EQ(settings_.bytes, bytes);
  }
}

TEST_F(FlagsTest, SetNamesItsSourceAndTheNearestKey) {
  EXPECT_TRUE(flags_.Set("count", "4", "here").ok());
  EXPECT_EQ(settings_.count, 4);
  EXPECT_EQ(flags_.Find("count")->source, "here");
  EXPECT_EQ(flags_.Set("count", "x", "f:3").message(),
            "f:3: expected a whole number from 1 to 9, found 'x'");
  EXPECT_EQ(flags_.Find("count")->source, "here") << "what was refused changes nothing";
  EXPECT_EQ(flags_.Set("cuont", "4", "f:3").message(),
            "f:3: unknown key 'cuont'; did you mean 'count'?");
  EXPECT_EQ(flags_.Set("quantity", "4", "f:3").message(), "f:3: unknown key 'quantity'");
}

TEST(NearestNameTest, FindsWhatAPersonMeant) {
  const std::vector<std::string> names = {"context", "queue", "max_sequences",
                                          "max_tokens_per_step"};
  EXPECT_EQ(NearestName("contxt", names), "context");
  EXPECT_EQ(NearestName("ocntext", names), "context");
  EXPECT_EQ(NearestName("max_seq", names), "max_sequences");
  EXPECT_EQ(NearestName("max-sequences", names), "max_sequences");
  EXPECT_EQ(NearestName("q", names), "");
  EXPECT_EQ(NearestName("", names), "");
  EXPECT_EQ(NearestName("temperature", names), "");
  EXPECT_EQ(NearestName(std::string(1 << 20, 'c'), names), "");
}

}  // namespace
}  // namespace tandem
