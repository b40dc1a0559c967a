#include "lib/service/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/model/kinds.h"

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
    flags->Number("bytes", &s->bytes, 0, std::uint64_t{1} << 40, "how much");
    flags->Real("heat", &s->heat, 0, 2, "how hot");
    flags->Time("grace", &s->grace, "how long");
    flags->Switch("fast", &s->fast, "whether");
    flags->Choice("type", &s->type, "which");
    flags->Choices("kinds", &s->kinds, "which ones");
  }
  std::string ErrorOf(const std::vector<std::string>& arguments) {
    return std::string(flags_.Parse(arguments).status().message());
  }
  Settings settings_;
  FlagList flags_;
};

TEST_F(FlagsTest, BothSpellingsAndWordsBetween) {
  const auto words =
      flags_.Parse({"up", "--name=a=b", "--count", "7", "--bytes=123456789012", "--fast", "now",
                    "--grace", "1m30s", "--type=float16", "--kinds=inline,dma-buf", "--heat=1.5"});
  ASSERT_TRUE(words.ok()) << words.status();
  EXPECT_THAT(*words, ElementsAre("up", "now"));
  EXPECT_EQ(settings_.name, "a=b");
  EXPECT_EQ(settings_.count, 7);
  EXPECT_EQ(settings_.bytes, 123456789012u);
  EXPECT_EQ(settings_.heat, 1.5);
  EXPECT_EQ(settings_.grace, absl::Seconds(90));
  EXPECT_TRUE(settings_.fast);
  EXPECT_EQ(settings_.type, KvType::kFloat16);
  EXPECT_THAT(settings_.kinds, ElementsAre(HandleKind::kInline, HandleKind::kDmaBuf));
  ASSERT_TRUE(flags_.Parse({"--fast=false"}).ok());
  EXPECT_FALSE(settings_.fast);
}

TEST_F(FlagsTest, ErrorsSayFlagExpectedAndFound) {
  EXPECT_EQ(ErrorOf({"--colour=red"}), "--colour: unknown flag (--help lists them)");
  EXPECT_EQ(ErrorOf({"--name"}), "--name: expected a value, found none");
  EXPECT_EQ(ErrorOf({"--name="}), "--name: expected a value, found none");
  for (const char* bad : {"0", "10", "-1", "", "x", "3x", " 3", "+3", "99999999999", "1.5"}) {
    EXPECT_EQ(ErrorOf({"--count", bad}),
              Cat("--count: expected a whole number from 1 to 9, found '", bad, "'"));
  }
  EXPECT_THAT(ErrorOf({"--bytes=-1"}), HasSubstr("--bytes: expected a whole number from 0"));
  for (const char* bad : {"3", "nan", "x"})
    EXPECT_EQ(ErrorOf({"--heat", bad}),
              Cat("--heat: expected a number from 0 to 2, found '", bad, "'"));
  for (const char* bad : {"3", "0s", "-1s", "inf", "soon"})
    EXPECT_THAT(ErrorOf({"--grace", bad}), HasSubstr("--grace: expected a time such as 500ms"));
  EXPECT_EQ(ErrorOf({"--fast=maybe"}), "--fast: expected true or false, found 'maybe'");
  EXPECT_EQ(ErrorOf({"--type=int3"}), "--type: expected one of float32, float16, found 'int3'");
  EXPECT_THAT(ErrorOf({"--kinds=inline,,"}), HasSubstr("--kinds: expected one of dma-buf"));
}

TEST_F(FlagsTest, WhatChangedCanBeHandedOn) {
  EXPECT_THAT(flags_.Changed(), IsEmpty());
  const std::vector<std::string> given = {"--name=a b",     "--count=9",
                                          "--grace=1m30s",  "--fast=true",
                                          "--type=float16", "--kinds=inline,dma-buf"};
  ASSERT_TRUE(flags_.Parse(given).ok());
  EXPECT_EQ(flags_.Changed(), given);
  Settings copy;
  FlagList other;
  Add(&other, &copy);
  ASSERT_TRUE(other.Parse(flags_.Changed()).ok());
  EXPECT_EQ(other.Changed(), given);
}

TEST_F(FlagsTest, ConfigureTakesTheSameTexts) {
  EXPECT_TRUE(flags_.Configure("count", "4").ok());
  EXPECT_EQ(settings_.count, 4);
  EXPECT_EQ(flags_.Configure("count", "x").message(),
            "'count': expected a whole number from 1 to 9, found 'x'");
  EXPECT_THAT(std::string(flags_.Configure("cuont", "4").message()),
              HasSubstr("unknown key 'cuont'; known are name, count, bytes"));
}

TEST_F(FlagsTest, HelpShowsEveryFlagItsChoicesAndItsDefault) {
  const std::string help = flags_.Help();
  for (const std::string& name : flags_.Names()) EXPECT_THAT(help, HasSubstr("--" + name));
  EXPECT_THAT(help, HasSubstr("which: float32, float16 (default: float32)"));
  EXPECT_THAT(help, HasSubstr("how long (default: 3s)"));
}

}  // namespace
}  // namespace tandem
