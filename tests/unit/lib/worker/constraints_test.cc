#include "lib/worker/constraints.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

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

}  // namespace
}  // namespace tandem
