#include "lib/worker/constraints.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/step/step_plan.h"

namespace tandem {
namespace {

constexpr std::int32_t kStop = 0;
constexpr std::int32_t kA = 1;
constexpr std::int32_t kB = 2;
constexpr std::int32_t kWord = 3;

const Deadline kSoon = Deadline::After(absl::Seconds(60));

std::shared_ptr<MaskCache> Cache() {
  const std::vector<std::string> tokens = {"", "a", "b", "word"};
  return std::make_shared<MaskCache>(std::make_shared<TokenTrie>(tokens));
}

std::shared_ptr<const Constraint> Make(std::string grammar) {
  return std::make_shared<const Constraint>(
      Constraint{.grammar = std::move(grammar), .stop_tokens = {kStop}});
}

TEST(ConstraintTable, GivesMasksThatFollowTheTokens) {
  ConstraintTable table(Cache(), 2);
  table.Start(1, Make("root ::= [ab] \"b\"?"), {});
  auto choice = table.Next(1, kSoon);
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_TRUE(Allows(*choice->mask, kA));
  EXPECT_FALSE(Allows(*choice->mask, kWord));
  EXPECT_FALSE(Allows(*choice->mask, kStop));
  EXPECT_TRUE(table.Accept(1, kA)->empty());
  choice = table.Next(1, kSoon);
  EXPECT_FALSE(Allows(*choice->mask, kA));
  EXPECT_TRUE(Allows(*choice->mask, kB));
  EXPECT_TRUE(Allows(*choice->mask, kStop));
}

TEST(ConstraintTable, GivesForcedTokensOneByOneOrTakesThemFromSteps) {
  ConstraintTable table(Cache(), 1);
  const auto constraint = Make("root ::= [ab] \"wordword\" [ab]");
  for (const bool from_steps : {false, true}) {
    table.Start(0, constraint, {});
    ASSERT_TRUE(table.Next(0, kSoon).ok());
    const auto forced = table.Accept(0, kB);
    ASSERT_TRUE(forced.ok()) << forced.status();
    // The last one could go on as a longer token, and is left to choose.
    ASSERT_EQ(*forced, std::vector<std::int32_t>{kWord});
    if (from_steps) {
      EXPECT_FALSE(table.TakeForced(0, kA).ok());
      EXPECT_TRUE(table.TakeForced(0, kWord).ok());
    } else {
      EXPECT_EQ(table.Next(0, kSoon)->token, kWord);
      EXPECT_TRUE(table.Accept(0, kWord)->empty());
    }
    const auto choice = table.Next(0, kSoon);
    ASSERT_TRUE(choice.ok());
    EXPECT_TRUE(Allows(*choice->mask, kWord));
    EXPECT_FALSE(Allows(*choice->mask, kA));
    EXPECT_FALSE(table.TakeForced(0, kWord).ok());
  }
}

// Longer than what is forced at a time, and begun anywhere.
TEST(ConstraintTable, ALongTextHasTheSameTokensWhereverItIsBegun) {
  const std::vector<std::string> tokens = {"", "a", "b", "word", "wordw", "ord"};
  const auto cache = std::make_shared<MaskCache>(std::make_shared<TokenTrie>(tokens));
  std::string text;
  for (int i = 0; i < 300; ++i) text += i % 7 == 0 ? "a" : "word";
  const auto constraint = Make(absl::StrCat("root ::= [ab] \"", text, "\" [ab]"));
  std::vector<std::int32_t> whole = {kB};
  for (std::size_t begin = 0; begin < 250; ++begin) {
    ConstraintTable table(cache, 1);
    const std::vector<std::int32_t> before(whole.begin(),
                                           whole.begin() + static_cast<std::ptrdiff_t>(begin));
    table.Start(0, constraint, before);
    if (begin == 0) {
      ASSERT_TRUE(table.Next(0, kSoon).ok());
      ASSERT_TRUE(table.Accept(0, kB).ok());
    }
    std::vector<std::int32_t> read = begin == 0 ? std::vector<std::int32_t>{kB} : before;
    auto choice = table.Next(0, kSoon);
    for (; choice.ok() && choice->token >= 0; choice = table.Next(0, kSoon)) {
      read.push_back(choice->token);
      const bool sampled = read.size() % 3 == 0;
      ASSERT_TRUE(sampled ? table.Accept(0, read.back()).ok()
                          : table.TakeForced(0, read.back()).ok());
    }
    ASSERT_TRUE(choice.ok()) << choice.status();
    if (begin == 0) whole = read;
    ASSERT_GT(whole.size(), 250u);
    ASSERT_EQ(read, whole) << "begun after " << begin;
  }
}

// As after a failover: the tokens that were sent already come with the start.
TEST(ConstraintTable, GoesOnBehindWhatWasGenerated) {
  ConstraintTable table(Cache(), 1);
  table.Start(0, Make("root ::= \"ab\" [ab] \"word\" \"a\""), {kA, kB});
  const auto choice = table.Next(0, kSoon);
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_TRUE(Allows(*choice->mask, kA) && Allows(*choice->mask, kB));
  table.Start(0, Make("root ::= \"ab\""), {kB});
  EXPECT_EQ(table.Next(0, kSoon).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ConstraintTable, ASlotIsTakenAgainWhileItsMaskIsMade) {
  ConstraintTable table(Cache(), 1);
  for (int i = 0; i < 200; ++i) {
    table.Start(0, Make("root ::= \"a\" [ab]{0,500} # " + std::to_string(i)), {});
    if (i % 3 == 0) table.End(0);
  }
  table.Start(0, Make("root ::= \"b\" | \"word\""), {});
  const auto choice = table.Next(0, kSoon);
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_FALSE(Allows(*choice->mask, kA));
  EXPECT_TRUE(Allows(*choice->mask, kB));
}

TEST(ConstraintTable, AGrammarThatIsNoneFailsItsSlotAlone) {
  ConstraintTable table(Cache(), 2);
  table.Start(0, Make("root ::= root"), {});
  table.Start(1, Make("root ::= \"a\""), {});
  EXPECT_EQ(table.Next(0, kSoon).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(table.Next(1, kSoon).ok());
  EXPECT_FALSE(table.Accept(1, kB).ok());
}

// Its own fault: not that of a cluster that has no room.
TEST(ConstraintTable, AGrammarThatCostsTooMuchIsAWrongOne) {
  ConstraintTable table(Cache(), 1);
  std::string rules = "root ::= r0";
  for (int i = 1; i < 2000; ++i) absl::StrAppend(&rules, " | r", i);
  for (int i = 0; i < 2000; ++i) {
    absl::StrAppend(&rules, "\nr", i, " ::= [ab]{", i, ",} \"a\" [ab]{", i, "} \"word\"");
  }
  table.Start(0, Make(rules), {});
  const absl::Status status = table.Next(0, kSoon).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
  EXPECT_NE(status.message().find("too large or too ambiguous"), std::string::npos) << status;
}

}  // namespace
}  // namespace tandem
