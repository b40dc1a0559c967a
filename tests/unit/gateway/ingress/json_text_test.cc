#include "gateway/ingress/request/json_text.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace tandem {
namespace {

TEST(JsonText, FindsMembersAsTheyAreWritten) {
  constexpr std::string_view kObject =
      R"({ "a" : {"x": [1, "}"]} , "b":"\"},", "a": [ 2 ] ,"c":3})";
  // The last one counts, as for the parser.
  EXPECT_EQ(MemberText(kObject, "a"), "[ 2 ]");
  EXPECT_EQ(MemberText(kObject, "b"), R"("\"},")");
  EXPECT_EQ(MemberText(kObject, "c"), "3");
  EXPECT_EQ(MemberText(kObject, "x"), "");
  EXPECT_EQ(MemberText("{}", "x"), "");
  EXPECT_EQ(MemberText("[1]", "x"), "");
  EXPECT_EQ(MemberText(R"({"\u0061":1})", "a"), "");
}

TEST(JsonText, FindsElements) {
  EXPECT_EQ(ElementTexts(R"([ {"a":1} , "x,]" , [1,[2]], null ])"),
            (std::vector<std::string_view>{R"({"a":1})", R"("x,]")", "[1,[2]]", "null"}));
  EXPECT_TRUE(ElementTexts("[]").empty());
  EXPECT_TRUE(ElementTexts("[ ]").empty());
  EXPECT_TRUE(ElementTexts("{}").empty());
}

// It is only ever given valid JSON; what is none must do no harm all the same.
TEST(JsonText, StaysWithinBrokenTexts) {
  for (const std::string_view text : {"", "{", "{\"", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":\"\\",
                                      "[", "[1", "[1,", "[\"", "[{", "}", "{]:1}"}) {
    MemberText(text, "a");
    ElementTexts(text);
  }
}

}  // namespace
}  // namespace tandem
